/* prunelua.c - the program: what lua 5.4 does with its options, plus -m, the embedded modules and a prompt
 * with help.
 *
 * Every chunk given to the program is text: bytecode is refused, since a crafted one can take the interpreter
 * over.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>

#include "interrupt.h"
#include "modules.h"

static const char *program = "prunelua";

static const char usage_text[] =
    "usage: %s [options] [script [arguments]]\n"
    "  -e code      run the code\n"
    "  -i           go to the prompt after the script, also when it failed\n"
    "  -l name      require the module into the global of that name (-l global=name: into another)\n"
    "  -m module    run a Lua module as the script; what follows is its arguments\n"
    "  -v           show the version\n"
    "  -E           ignore LUA_INIT, LUA_PATH, LUA_CPATH and PRUNELUA_PATH\n"
    "  -W           show warnings\n"
    "  --           stop reading options\n"
    "  -            run standard input\n"
    "  --version    show the version and the backends built in\n"
    "  --help       show this text\n"
    "Without options or script: a prompt on a terminal, otherwise standard input is run.\n"
    "PRUNELUA_HISTORY names the history file of the prompt (empty: none), PRUNELUA_PATH a folder with the "
    "Lua\n"
    "modules to use instead of those inside the program.\n";

/* --- options
 * -------------------------------------------------------------------------------------------------------- */

typedef struct options {
  bool bad, interactive, version, long_version, help, execute, no_environment, module;
  int script; /* index of the script or module in argv, argc when there is none; options end before it */
} options;

/* Options with a value take it from the same word or the next one, which must not look like an option. */
static bool has_value(char **argv, int *i) {
  if (argv[*i][2]) return true;
  if (!argv[*i + 1] || argv[*i + 1][0] == '-') return false;
  ++*i;
  return true;
}

/* False when argv[*i] is not an option that prunelua has; moves *i to its value. */
static bool read_option(char **argv, int *i, options *o) {
  const char *word = argv[*i];
  if (strcmp(word, "--version") == 0) return o->long_version = true;
  if (strcmp(word, "--help") == 0) return o->help = true;
  switch (word[1]) {
  case 'e': o->execute = true; return has_value(argv, i);
  case 'l': return has_value(argv, i);
  case 'm': return o->module = has_value(argv, i);
  }
  if (word[2]) return false;
  switch (word[1]) {
  case 'E': return o->no_environment = true;
  case 'W': return true;
  case 'i': o->interactive = true; return o->version = true;
  case 'v': return o->version = true;
  }
  return false;
}

static options read_options(int argc, char **argv) {
  options o = { .script = argc };
  for (int i = 1; i < argc; i++) {
    if (argv[i][0] != '-' || !argv[i][1]) {
      o.script = i;
      break;
    }
    if (strcmp(argv[i], "--") == 0) {
      o.script = i + 1;
      break;
    }
    int option = i;
    if (!read_option(argv, &i, &o)) {
      o.bad = true;
      o.script = option;
      break;
    }
    if (o.module) {
      o.script = i;
      break;
    }
  }
  return o;
}

static void report_bad_option(const char *option) {
  if (strchr("elm", option[1]) && option[1])
    fprintf(stderr, "%s: '%s' needs argument\n", program, option);
  else
    fprintf(stderr, "%s: unrecognized option '%s'\n", program, option);
  fprintf(stderr, usage_text, program);
}

/* --- running
 * -------------------------------------------------------------------------------------------------------- */

static bool report(lua_State *L, int status) {
  if (status == LUA_OK) return true;
  const char *message = lua_tostring(L, -1);
  fflush(stdout);
  fprintf(stderr, "%s: %s\n", program, message ? message : "(error message is not a string)");
  fflush(stderr);
  lua_pop(L, 1);
  return false;
}

/* Run the function on top of the stack, or report why loading it failed. */
static bool run_loaded(lua_State *L, int status, int arguments) {
  return report(L, status == LUA_OK ? interrupt_call(L, arguments, 0) : status);
}

static bool run_text(lua_State *L, const char *text, const char *name) {
  return run_loaded(L, luaL_loadbufferx(L, text, strlen(text), name, "t"), 0);
}

/* NULL: standard input. */
static bool run_file(lua_State *L, const char *path) {
  return run_loaded(L, luaL_loadfilex(L, path, "t"), 0);
}

static bool run_environment(lua_State *L) {
  const char *name = "=LUA_INIT_5_4", *init = getenv(name + 1);
  if (!init) init = getenv((name = "=LUA_INIT") + 1);
  if (!init) return true;
  return init[0] == '@' ? run_file(L, init + 1) : run_text(L, init, name);
}

/* -l name, -l global=name */
static bool run_library(lua_State *L, const char *word) {
  const char *equals = strchr(word, '=');
  lua_getglobal(L, "require");
  lua_pushstring(L, equals ? equals + 1 : word);
  if (!report(L, interrupt_call(L, 1, 1))) return false;
  if (equals)
    lua_pushlstring(L, word, (size_t)(equals - word));
  else
    lua_pushstring(L, word);
  lua_pushglobaltable(L);
  lua_insert(L, -3);
  lua_insert(L, -2);
  lua_settable(L, -3);
  lua_pop(L, 1);
  return true;
}

/* The options that act in the order in which they were given. */
static bool run_options(lua_State *L, char **argv, int end) {
  for (int i = 1; i < end && argv[i]; i++) {
    const char letter = argv[i][1];
    if (argv[i][0] != '-') continue;
    if (letter == 'W') lua_warning(L, "@on", 0);
    if (letter != 'e' && letter != 'l') continue;
    const char *value = argv[i][2] ? argv[i] + 2 : argv[++i];
    if (!(letter == 'e' ? run_text(L, value, "=(command line)") : run_library(L, value))) return false;
  }
  return true;
}

/* --- script
 * ---------------------------------------------------------------------------------------------------------
 */

/* arg[0] is the script, what follows it counts from 1, what precedes it is negative: arg[-1] may be the
 * program. */
static void make_arg_table(lua_State *L, int argc, char **argv, int script) {
  if (script == argc) script = 0; /* no script: arg[0] is the program */
  lua_createtable(L, argc - script - 1, script + 1);
  for (int i = 0; i < argc; i++) {
    lua_pushstring(L, argv[i]);
    lua_rawseti(L, -2, i - script);
  }
  lua_setglobal(L, "arg");
}

static int push_arguments(lua_State *L) {
  if (lua_getglobal(L, "arg") != LUA_TTABLE) luaL_error(L, "'arg' is not a table");
  int count = (int)luaL_len(L, -1), table = lua_gettop(L);
  luaL_checkstack(L, count + 3, "too many arguments to script");
  for (int i = 1; i <= count; i++) lua_rawgeti(L, table, i);
  lua_remove(L, table);
  return count;
}

static int find_module(lua_State *L) {
  modules_find(L, lua_tostring(L, 1));
  return 2;
}

static bool run_module(lua_State *L, const char *name) {
  lua_pushcfunction(L, find_module);
  lua_pushstring(L, name);
  if (!report(L, interrupt_call(L, 1, 2))) return false;
  if (lua_getglobal(L, "arg") == LUA_TTABLE && lua_isstring(L, -2)) {
    lua_pushvalue(L, -2);
    lua_rawseti(L, -2, 0);
  }
  lua_pop(L, 2);
  return run_loaded(L, LUA_OK, push_arguments(L));
}

static bool run_script(lua_State *L, const options *o, char **argv) {
  const char *path = argv[o->script];
  if (o->module) return run_module(L, path[0] == '-' ? path + 2 : path); /* -mNAME or NAME after -m */
  if (strcmp(path, "-") == 0 && strcmp(argv[o->script - 1], "--") != 0) path = NULL;
  int status = luaL_loadfilex(L, path, "t");
  return run_loaded(L, status, status == LUA_OK ? push_arguments(L) : 0);
}

/* --- version and prompt
 * --------------------------------------------------------------------------------------------- */

/* Push "backends: reference, cpu"; what the binding says. */
static int push_backends(lua_State *L) {
  lua_getglobal(L, "require");
  lua_pushliteral(L, "prune.core");
  lua_call(L, 1, 1);
  lua_getfield(L, -1, "backends");
  lua_call(L, 0, 1);
  lua_pushliteral(L, "backends: ");
  int count = (int)luaL_len(L, -2);
  for (int i = 1; i <= count; i++) {
    lua_geti(L, -2, i);
    if (i < count) lua_pushliteral(L, ", ");
    lua_concat(L, i < count ? 3 : 2);
  }
  return 1;
}

static void print_version(lua_State *L, bool backends) {
  printf("prunelua %s, %s\n", PRUNELUA_VERSION, LUA_RELEASE);
  if (backends) {
    lua_pushcfunction(L, push_backends);
    if (report(L, lua_pcall(L, 0, 1, 0))) printf("%s\n", lua_tostring(L, -1));
  }
  fflush(stdout);
}

static bool run_prompt(lua_State *L) {
  lua_getglobal(L, "require");
  lua_pushliteral(L, "prune.repl");
  if (!report(L, lua_pcall(L, 1, 1, 0))) return false;
  lua_getfield(L, -1, "run");
  return report(L, lua_pcall(L, 0, 0, 0));
}

/* --- main
 * -----------------------------------------------------------------------------------------------------------
 */

/* Arguments: argc and argv. Returns whether all went well; whatever raises here is reported by main. */
static int protected_main(lua_State *L) {
  int argc = (int)lua_tointeger(L, 1);
  char **argv = lua_touserdata(L, 2);
  options o = read_options(argc, argv);
  if (o.bad) {
    report_bad_option(argv[o.script]);
    return 0;
  }
  if (o.help) {
    printf(usage_text, program);
    lua_pushboolean(L, true);
    return 1;
  }
  if (o.no_environment) {
    lua_pushboolean(L, true);
    lua_setfield(L, LUA_REGISTRYINDEX, "LUA_NOENV"); /* asked by the package library */
  }
  luaL_checkversion(L);
  luaL_openlibs(L);
  modules_install(L, !o.no_environment);
  interrupt_install(L);
  if (o.interactive) interrupt_session();
  if (o.version || o.long_version) print_version(L, o.long_version);
  make_arg_table(L, argc, argv, o.script);
  if (!o.no_environment && !run_environment(L)) return 0;
  if (!run_options(L, argv, o.script)) return 0;
  const bool script = o.script < argc;
  if (script && !run_script(L, &o, argv) && !o.interactive) return 0;
  const bool idle = !script && !o.execute && !o.version && !o.long_version;
  if (o.interactive || (idle && isatty(STDIN_FILENO))) {
    if (idle) print_version(L, false);
    interrupt_session();
    lua_pushboolean(L, run_prompt(L));
    return 1;
  }
  lua_pushboolean(L, !idle || run_file(L, NULL));
  return 1;
}

int main(int argc, char **argv) {
  if (argc > 0 && argv[0] && argv[0][0]) program = argv[0];
  lua_State *L = luaL_newstate();
  if (!L) {
    fprintf(stderr, "%s: cannot create state: not enough memory\n", program);
    return EXIT_FAILURE;
  }
  lua_pushcfunction(L, protected_main);
  lua_pushinteger(L, argc);
  lua_pushlightuserdata(L, argv);
  bool good = report(L, lua_pcall(L, 2, 1, 0)) && lua_toboolean(L, -1);
  lua_close(L);
  return good ? EXIT_SUCCESS : EXIT_FAILURE;
}
