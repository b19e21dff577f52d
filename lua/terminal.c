/* terminal.c - see terminal.h. The history file has one entry per line, with \n for a newline and \\ for a
 * backslash. */
#define _GNU_SOURCE /* ppoll */
#include "terminal.h"
#include "interrupt.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>
#ifdef PRUNELUA_EDIT
#include <histedit.h>
#include <langinfo.h>
#include <wchar.h>
#endif

#include <lauxlib.h>

#include "base/thread.h"

enum { HISTORY_SIZE = 2000 };

static bool is_terminal(int fd) {
  const char *term = getenv("TERM");
  return isatty(fd) && !(term && strcmp(term, "dumb") == 0);
}

/* Wait until stdin can be read. False when SIGINT came first: signals are let in only while waiting, so that
 * none falls between the check and the wait; one that comes with input goes before it. `resized` is called
 * after other signals (SIGWINCH). */
static bool wait_for_input(void (*resized)(void)) {
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, &before);
  bool interrupted;
  while (!(interrupted = interrupt_taken())) {
    struct pollfd input = { .fd = STDIN_FILENO, .events = POLLIN };
    if (ppoll(&input, 1, NULL, &before) >= 0 || errno != EINTR) break;
    if (resized) resized();
  }
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  return !interrupted && !interrupt_taken();
}

/* --- the history file
 * ----------------------------------------------------------------------------------------------- */

static char history_path[4096]; /* empty: none */

/* Make the folders that lead to `path`. False with errno set where one cannot be had; then `path` is cut
 * behind its name. */
static bool make_folders(char *path, mode_t mode) {
  for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
    struct stat about;
    *slash = 0;
    if (mkdir(path, mode) != 0) {
      if (errno != EEXIST || stat(path, &about) != 0) return false;
      if (!S_ISDIR(about.st_mode)) return errno = ENOTDIR, false;
    }
    *slash = '/';
  }
  return true;
}

static void write_escaped(FILE *file, const char *entry) {
  for (const char *c = entry; *c; c++) {
    if (*c == '\n')
      fputs("\\n", file);
    else if (*c == '\\')
      fputs("\\\\", file);
    else
      fputc(*c, file);
  }
  fputc('\n', file);
}

static void unescape(char *line) {
  char *to = line;
  for (const char *c = line; *c && *c != '\n'; c++) {
    if (*c == '\\' && c[1]) {
      c++;
      *to++ = *c == 'n' ? '\n' : *c;
    } else
      *to++ = *c;
  }
  *to = 0;
}

/* One write per entry to a file opened for appending: sessions beside each other do not mix their lines. */
static void append_entry(const char *entry) {
  char *text = NULL;
  size_t size = 0;
  FILE *memory = history_path[0] ? open_memstream(&text, &size) : NULL;
  if (!memory) return;
  write_escaped(memory, entry);
  fclose(memory);
  int fd = open(history_path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
  if (fd >= 0) {
    if (write(fd, text, size) < 0) history_path[0] = 0; /* a full disk: no more history, no noise */
    close(fd);
  }
  free(text);
}

/* Keep the newest HISTORY_SIZE lines of a file that has grown to twice that: `skip` lines go. */
static void shorten_file(FILE *from, long skip) {
  char path[sizeof history_path + 8], *line = NULL;
  size_t capacity = 0;
  snprintf(path, sizeof path, "%s.new", history_path);
  int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  FILE *to = fd >= 0 ? fdopen(fd, "w") : NULL;
  if (!to) return;
  rewind(from);
  for (long i = 0; getline(&line, &capacity, from) > 0; i++)
    if (i >= skip) fputs(line, to);
  free(line);
  bool good = !ferror(to);
  if (fclose(to) == 0 && good)
    rename(path, history_path);
  else
    unlink(path);
}

static void editor_remember(const char *entry);

static void load_history(void) {
  char *line = NULL;
  size_t capacity = 0;
  long count = 0;
  FILE *file = fopen(history_path, "re");
  if (!file) return;
  while (getline(&line, &capacity, file) > 0) {
    count++;
    unescape(line);
    editor_remember(line);
  }
  free(line);
  if (count > 2 * HISTORY_SIZE) shorten_file(file, count - HISTORY_SIZE);
  fclose(file);
}

/* --- line editing
 * --------------------------------------------------------------------------------------------------- */

#ifdef PRUNELUA_EDIT
enum { HAS_EDITOR = true };

static struct {
  EditLine *line;
  History *history;
  lua_State *L; /* whoever calls readline */
  const char *prompt;
  bool interrupted;
} editor;
static const char completer_key = 0; /* its address names the completer in the registry */

static char *prompt_of(EditLine *line) {
  (void)line;
  return (char *)editor.prompt;
}

static void resized(void) { el_resize(editor.line); }
static void on_resize(int number) { (void)number; } /* only there to end the wait */

/* The next character. Returns 1, 0 at the end of input, -1 to give the line up. */
static int next_character(EditLine *line, wchar_t *out) {
  (void)line;
  mbstate_t partial = { 0 };
  for (;;) {
    char byte;
    if (!wait_for_input(resized)) {
      editor.interrupted = true;
      return -1;
    }
    ssize_t n = read(STDIN_FILENO, &byte, 1);
    if (n <= 0) return (int)n;
    size_t length = mbrtowc(out, &byte, 1, &partial);
    if (length == (size_t)-1) { /* not of this encoding: show a question mark, go on with the next byte */
      *out = L'?';
      return 1;
    }
    if (length != (size_t)-2) return 1;
  }
}

/* Tab: ask the Lua function in the registry. */
static unsigned char complete(EditLine *line, int key) {
  (void)key;
  lua_State *L = editor.L;
  const LineInfo *info = el_line(line);
  unsigned char result = CC_ERROR;
  int top = lua_gettop(L);
  lua_rawgetp(L, LUA_REGISTRYINDEX, &completer_key);
  lua_pushlstring(L, info->buffer, (size_t)(info->cursor - info->buffer));
  if (lua_pcall(L, 1, 2, 0) == LUA_OK) {
    const char *insertion = lua_tostring(L, -2), *listing = lua_tostring(L, -1);
    if (insertion && *insertion && el_insertstr(line, insertion) == 0) result = CC_REFRESH;
    if (listing) {
      fprintf(stdout, "\n%s\n", listing);
      result = CC_REDISPLAY;
    }
  }
  lua_settop(L, top);
  return result;
}

static bool start_editor(void) {
  static bool tried;
  if (tried) return editor.line;
  tried = true;
  if (!is_terminal(STDIN_FILENO) || !is_terminal(STDOUT_FILENO)) return false;
  if (!setlocale(LC_CTYPE, "") || strcmp(nl_langinfo(CODESET), "UTF-8") != 0) setlocale(LC_CTYPE, "C.UTF-8");
  editor.line = el_init("prunelua", stdin, stdout, stderr);
  editor.history = history_init();
  if (!editor.line || !editor.history) return false;
  HistEvent event;
  history(editor.history, &event, H_SETSIZE, HISTORY_SIZE);
  history(editor.history, &event, H_SETUNIQUE, 1);
  el_set(editor.line, EL_PROMPT, prompt_of);
  el_set(editor.line, EL_EDITOR, "emacs");
  el_set(editor.line, EL_SIGNAL, 0);
  el_set(editor.line, EL_HIST, history, editor.history);
  el_set(editor.line, EL_GETCFN, next_character);
  el_set(editor.line, EL_ADDFN, "prunelua-complete", "Complete a name", complete);
  el_set(editor.line, EL_BIND, "^I", "prunelua-complete", NULL);
  el_set(editor.line, EL_BIND, "^R", "em-inc-search-prev", NULL);
  el_source(editor.line, NULL); /* the user's ~/.editrc */
  return true;
}

static void editor_remember(const char *entry) {
  HistEvent event;
  if (start_editor() && *entry) history(editor.history, &event, H_ENTER, entry);
}

static int edit_line(lua_State *L, const char *prompt) {
  struct sigaction action = { .sa_handler = on_resize }, before;
  sigemptyset(&action.sa_mask);
  sigaction(SIGWINCH, &action, &before);
  editor.L = L;
  editor.prompt = prompt;
  editor.interrupted = false;
  int count = 0;
  el_set(editor.line, EL_PREP_TERM,
         1); /* before the prompt is seen: a Ctrl-D typed at once must not be the terminal's */
  const char *line = el_gets(editor.line, &count);
  sigaction(SIGWINCH, &before, NULL);
  if (editor.interrupted) {
    puts("^C");
    lua_pushnil(L);
    lua_pushliteral(L, "interrupt");
    return 2;
  }
  if (!line || count <= 0) {
    lua_pushnil(L);
    lua_pushliteral(L, "eof");
    return 2;
  }
  size_t length = strlen(line);
  lua_pushlstring(L, line, length - (length && line[length - 1] == '\n'));
  return 1;
}

static int set_completer(lua_State *L) {
  luaL_checktype(L, 1, LUA_TFUNCTION);
  lua_settop(L, 1);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &completer_key);
  return 0;
}

#else
enum { HAS_EDITOR = false };

static bool start_editor(void) { return false; }
static void editor_remember(const char *entry) { (void)entry; }
static int edit_line(lua_State *L, const char *prompt) {
  return luaL_error(L, "no editor for prompt '%s'", prompt);
}
static int set_completer(lua_State *L) {
  luaL_checktype(L, 1, LUA_TFUNCTION);
  return 0;
}

#endif

/* --- for Lua
 * -------------------------------------------------------------------------------------------------------- */

static int plain_line(lua_State *L, const char *prompt) {
  fputs(prompt, stdout);
  fflush(stdout);
  if (!isatty(STDIN_FILENO) || wait_for_input(NULL)) {
    char *line = NULL;
    size_t capacity = 0;
    clearerr(stdin); /* of an io.read that Ctrl-C ended */
    ssize_t length = getline(&line, &capacity, stdin);
    if (length >= 0) {
      lua_pushlstring(L, line, (size_t)length - (length && line[length - 1] == '\n'));
      free(line);
      return 1;
    }
    free(line);
    bool signal = errno == EINTR && !feof(stdin);
    clearerr(stdin);
    lua_pushnil(L);
    lua_pushstring(L, signal && interrupt_taken() ? "interrupt" : "eof");
    return 2;
  }
  puts("");
  lua_pushnil(L);
  lua_pushliteral(L, "interrupt");
  return 2;
}

static int readline(lua_State *L) {
  const char *prompt = luaL_checkstring(L, 1);
  return start_editor() ? edit_line(L, prompt) : plain_line(L, prompt);
}

static int use_history(lua_State *L) {
  const char *path = luaL_checkstring(L, 1);
  if (snprintf(history_path, sizeof history_path, "%s", path) >= (int)sizeof history_path)
    history_path[0] = 0;
  if (!history_path[0]) return 0;
  char folders[sizeof history_path];
  memcpy(folders, history_path, sizeof folders);
  if (!make_folders(folders, 0700)) return history_path[0] = 0; /* no history is no reason to complain */
  load_history();
  return 0;
}

static int remember(lua_State *L) {
  const char *entry = luaL_checkstring(L, 1);
  if (!*entry) return 0;
  editor_remember(entry);
  append_entry(entry);
  return 0;
}

static int stream_is_terminal(lua_State *L) {
  static const char *const names[] = { "stdin", "stdout", "stderr", NULL };
  lua_pushboolean(L, is_terminal(luaL_checkoption(L, 1, NULL, names)));
  return 1;
}

static int columns(lua_State *L) {
  struct winsize size = { 0 };
  if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0)
    ioctl(STDOUT_FILENO, TIOCGWINSZ, &size);
  lua_pushinteger(L, size.ws_col ? size.ws_col : 80);
  return 1;
}

static bool is_folder(DIR *folder, const struct dirent *entry) {
  struct stat about;
  if (entry->d_type == DT_DIR) return true;
  if (entry->d_type != DT_LNK && entry->d_type != DT_UNKNOWN) return false;
  return fstatat(dirfd(folder), entry->d_name, &about, 0) == 0 && S_ISDIR(about.st_mode);
}

static int entries(lua_State *L) {
  DIR *folder = opendir(luaL_checkstring(L, 1));
  if (!folder) return 0;
  lua_newtable(L);
  lua_Integer count = 0;
  for (const struct dirent *entry; (entry = readdir(folder));) {
    if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
    lua_pushfstring(L, is_folder(folder, entry) ? "%s/" : "%s", entry->d_name);
    lua_rawseti(L, -2, ++count);
  }
  closedir(folder);
  return 1;
}

static int make_folders_for(lua_State *L) {
  size_t length;
  const char *path = luaL_checklstring(L, 1, &length);
  char *copy = lua_newuserdatauv(L, length + 1, 0);
  memcpy(copy, path, length + 1);
  if (length && !make_folders(copy, 0777))
    return luaL_error(L, "cannot make folder %s: %s", copy, strerror(errno));
  return 0;
}

static int seconds(lua_State *L) {
  lua_pushnumber(L, pr_clock());
  return 1;
}

int luaopen_prune_terminal(lua_State *L) {
  static const luaL_Reg functions[] = { { "readline", readline },
                                        { "completer", set_completer },
                                        { "history", use_history },
                                        { "remember", remember },
                                        { "is_terminal", stream_is_terminal },
                                        { "columns", columns },
                                        { "entries", entries },
                                        { "make_folders", make_folders_for },
                                        { "clock", seconds },
                                        { NULL, NULL } };
  luaL_newlib(L, functions);
  lua_pushboolean(L, HAS_EDITOR);
  lua_setfield(L, -2, "has_editor");
  return 1;
}
