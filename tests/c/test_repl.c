/* test_repl.c - the prompt as a user meets it: prunelua on a pseudo-terminal. Keys go in, and what it writes
 * is waited for. */
#include "testing.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

enum { PATIENCE = 20 }; /* seconds that the program has for an answer, sanitizers included */

typedef struct session {
  pid_t child;
  int terminal;
  size_t length, seen; /* bytes read, bytes that expect has passed */
  char text[1 << 16];
} session;

static char home[] = "/tmp/prunelua-repl-XXXXXX";

static const char *in_home(const char *name) {
  static char paths[4][256];
  static unsigned next;
  char *path = paths[next++ % 4];
  snprintf(path, sizeof paths[0], "%s/%s", home, name);
  return path;
}

static void write_file(const char *path, const char *text) {
  FILE *file = fopen(path, "w");
  assert_non_null(file);
  fputs(text, file);
  fclose(file);
}

/* Start prunelua with up to three arguments. */
static session *start(const char *term, const char *a, const char *b, const char *c) {
  session *s = calloc(1, sizeof *s);
  struct winsize size = { .ws_row = 24, .ws_col = 80 };
  const char *program = getenv("PRUNELUA");
  if (!program) program = "build/prunelua";
  s->child = forkpty(&s->terminal, NULL, NULL, &size);
  assert_true(s->child >= 0);
  if (s->child == 0) {
    setenv("TERM", term, 1);
    setenv("HOME", home, 1);
    setenv("LC_ALL", "C.UTF-8", 1);
    unsetenv("XDG_STATE_HOME"), unsetenv("PRUNELUA_HISTORY"), unsetenv("LUA_INIT");
    execl(program, "prunelua", a, b, c, (char *)NULL);
    _exit(127);
  }
  return s;
}

static void type(session *s, const char *keys) {
  assert_int_equal(write(s->terminal, keys, strlen(keys)), strlen(keys));
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Read what there is; false at the end of the program's output or when `seconds` pass without any. */
static bool read_more(session *s, double seconds) {
  struct pollfd wait = { .fd = s->terminal, .events = POLLIN };
  if (poll(&wait, 1, (int)(1000 * seconds)) <= 0) return false;
  ssize_t n = read(s->terminal, s->text + s->length, sizeof s->text - 1 - s->length);
  if (n <= 0) return false;
  s->length += (size_t)n;
  s->text[s->length] = 0;
  return true;
}

/* Wait until the program has written `text`, behind what earlier calls have found. */
static void expect(session *s, const char *text) {
  for (double end = now() + PATIENCE;;) {
    const char *found = strstr(s->text + s->seen, text);
    if (found) {
      s->seen = (size_t)(found - s->text) + strlen(text);
      return;
    }
    if (now() > end || !read_more(s, end - now())) break;
  }
  kill(s->child, SIGKILL);
  fail_msg("'%s' did not come; after what was found: [[%s]]", text, s->text + s->seen);
}

/* Type Ctrl-D and give the exit code, or minus the signal that ended the program. */
static int status_of(session *s) {
  int status = 0;
  double end = now() + PATIENCE;
  while (read_more(s, end - now())) continue;
  if (waitpid(s->child, &status, WNOHANG) == 0) {
    usleep(200000);
    if (waitpid(s->child, &status, WNOHANG) == 0) {
      kill(s->child, SIGKILL);
      waitpid(s->child, &status, 0);
    }
  }
  close(s->terminal);
  free(s);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

static void leave(session *s) {
  type(s, "\004");
  assert_int_equal(status_of(s), 0);
}

/* Builds without libedit have a plain prompt: no recalled lines, no completion. */
static void need_editor(void) {
  session *s = start("xterm", "-e", "os.exit(require'prune.terminal'.has_editor)", NULL);
  if (status_of(s) != 0) skip();
}

/* The session lives and has kept its state: `kept` was set when it began. */
static session *session_with_state(void) {
  session *s = start("xterm", NULL, NULL, NULL);
  expect(s, "> ");
  type(s, "kept = 6\n");
  expect(s, "> ");
  return s;
}

static void assert_alive(session *s) {
  type(s, "print('alive:' .. kept * 7)\n");
  expect(s, "alive:42");
  expect(s, "> ");
}

/* Run code that prints "go1" and then never ends; press Ctrl-C; the prompt is back at once. */
static void interrupts(session *s, const char *code) {
  type(s, code);
  type(s, "\n");
  expect(s, "go1");
  double pressed = now();
  type(s, "\003");
  expect(s, "interrupted"); /* the hook's "interrupted!" or the core's */
  expect(s, "> ");
  assert_true(now() - pressed < 5);
  assert_alive(s);
}

static void ctrl_c_at_the_prompt(void **state) {
  (void)state;
  session *s = session_with_state();
  type(s, "\003");
  expect(s, "^C");
  expect(s, "> ");
  assert_alive(s);
  type(s, "kept = 'half a li");
  expect(s, "half a li");
  type(s, "\003");
  expect(s, "^C");
  expect(s, "> ");
  assert_alive(s);
  type(s, "for i = 1, 2 do\n");
  expect(s, ">> ");
  type(s, "print('no' .. 'pe')\n");
  expect(s, ">> ");
  type(s, "\003");
  expect(s, "> ");
  assert_alive(s);
  assert_null(strstr(s->text, "nope"));
  leave(s);
}

static void ctrl_c_in_lua_loops(void **state) {
  (void)state;
  session *s = session_with_state();
  interrupts(s, "print('go' .. 1) while true do end");
  interrupts(s, "print('go' .. 1) while true do pcall(function() while true do end end) end");
  interrupts(s, "print('go' .. 1) while true do xpcall(function() while true do end end, function(m) return "
                "m end) end");
  interrupts(s, "print('go' .. 1) while true do ('x'):rep(200):find('.-.-y') end");
  leave(s);
}

static void ctrl_c_in_coroutines(void **state) {
  (void)state;
  session *s = session_with_state();
  interrupts(s, "coroutine.wrap(function() print('go' .. 1) while true do end end)()");
  interrupts(
      s,
      "coroutine.wrap(function() coroutine.wrap(function() print('go' .. 1) while true do end end)() end)()");
  interrupts(s, "while true do coroutine.resume(coroutine.create(function() print('go' .. 1) "
                "while true do pcall(function() while true do end end) end end)) end");
  /* A coroutine made before the signal and resumed after it works. */
  type(s, "co = coroutine.wrap(function() while true do coroutine.yield('yiel' .. 'ded') end end) co();\n");
  expect(s, "> ");
  interrupts(s, "print('go' .. 1) while true do co() end");
  interrupts(s, "co = coroutine.wrap(function() coroutine.yield() print('fre' .. 'sh') end) co() print('go' "
                ".. 1) while true do end");
  type(s, "co()\n");
  expect(s, "fresh");
  expect(s, "> ");
  leave(s);
}

static void ctrl_c_in_blocking_calls(void **state) {
  (void)state;
  session *s = session_with_state();
  interrupts(s, "print('go' .. 1) while true do io.read() end");
  leave(s);
}

/* Operators stop between two calls, and gradient mode is what it was before. */
static void ctrl_c_in_the_core(void **state) {
  (void)state;
  session *s = session_with_state();
  type(s, "a = prune.randn(64, 64)\n");
  expect(s, "> ");
  interrupts(s, "print('go' .. 1) while true do a:matmul(a) end");
  interrupts(s, "print('go' .. 1) while true do pcall(function() while true do a:matmul(a) end end) end");
  interrupts(s, "prune.no_grad(function() print('go' .. 1) while true do a:matmul(a) end end)");
  type(s, "'recording: ' .. tostring(prune.grad_enabled())\n");
  expect(s, "recording: true");
  expect(s, "> ");
  type(s, "a:matmul(a):size(1) + 1000\n");
  expect(s, "1064");
  expect(s, "> ");
  leave(s);
}

/* hold(true): one Ctrl-C is a flag, a second one raises; a flag that nobody asked for raises at the end of
 * the hold. */
static void ctrl_c_held(void **state) {
  (void)state;
  session *s = session_with_state();
  type(s, "hold, pending = require'prune.interrupt'.hold, require'prune.interrupt'.pending\n");
  expect(s, "> ");
  type(s, "do local g <close> = hold(true) print('go' .. 1) repeat until pending() print('boun' .. 'dary') "
          "end print('do' .. 'ne')\n");
  expect(s, "go1");
  type(s, "\003");
  expect(s, "boundary");
  expect(s, "done");
  expect(s, "> ");
  assert_alive(s);
  type(s, "do local g <close> = hold(true) print('go' .. 1) while true do if pending() then print('fl' .. "
          "'ag') break end end "
          "while true do end end\n");
  expect(s, "go1");
  type(s, "\003");
  expect(s, "flag");
  type(s, "\003");
  expect(s, "interrupted!");
  expect(s, "> ");
  assert_alive(s);
  type(s, "do local g <close> = hold(true) print('go' .. 1) local t = os.clock() repeat until os.clock() - t "
          "> 0.5 end "
          "print('not rea' .. 'ched')\n");
  expect(s, "go1");
  type(s, "\003");
  expect(s, "interrupted!");
  expect(s, "> ");
  assert_alive(s);
  assert_null(strstr(s->text, "not reached"));
  leave(s);
}

/* In a script the first Ctrl-C is an error that no pcall stops, and the second ends the process. */
static void ctrl_c_in_scripts(void **state) {
  (void)state;
  session *s = start("xterm", "-e",
                     "print('go' .. 1) while true do pcall(function() while true do end end) end", NULL);
  expect(s, "go1");
  type(s, "\003");
  expect(s, "interrupted!");
  assert_int_equal(status_of(s), 1);

  s = start("xterm", "-e",
            "local g <close> = require'prune.interrupt'.hold(true) print('go' .. 1) while true do end", NULL);
  expect(s, "go1");
  type(s, "\003");
  usleep(200000);
  type(s, "\003");
  assert_int_equal(status_of(s), -SIGINT);

  s = start("xterm", "-i", "-e", "print('go' .. 1) while true do end");
  expect(s, "go1");
  type(s, "\003");
  expect(s, "interrupted!");
  assert_int_equal(status_of(s), 1);
}

static void a_failed_script_leaves_a_prompt_under_i(void **state) {
  (void)state;
  write_file(in_home("fails.lua"), "kept = 6 error 'on purpose'");
  session *s = start("xterm", "-i", in_home("fails.lua"), NULL);
  expect(s, "on purpose");
  expect(s, "> ");
  assert_alive(s);
  leave(s);
}

static void results_are_printed(void **state) {
  (void)state;
  session *s = session_with_state();
  type(s, "6 * 7000\n");
  expect(s, "\n42000");
  expect(s, "> "); /* what is typed before a plain prompt stands is echoed before it */
  type(s, "= 6 * 8000\n");
  expect(s, "\n48000");
  expect(s, "> ");
  type(s, "_ + 1\n");
  expect(s, "\n48001");
  type(s, "6 * 9000;\n");
  type(s, "print('la' .. 'st', _)\n");
  expect(s, "last\t54000");
  assert_null(strstr(s->text, "\n54000"));
  type(s, "error 'bad' .. 'ly'\n");
  expect(s, "bad");
  expect(s, "stack traceback");
  assert_alive(s);
  assert_null(strstr(s->text, "prune/repl.lua"));
  leave(s);
}

static void blocks_are_one_history_entry(void **state) {
  (void)state;
  need_editor();
  unlink(in_home(".local/state/prunelua/history"));
  session *s = session_with_state();
  type(s, "for i = 1, 2 do\n");
  expect(s, ">> ");
  type(s, "print('it' .. i)\n");
  expect(s, ">> ");
  type(s, "end\n");
  expect(s, "it1");
  expect(s, "it2");
  expect(s, "> ");
  type(s, "\020\n"); /* Ctrl-P */
  expect(s, "it1");
  expect(s, "it2");
  expect(s, "> ");
  kill(s->child, SIGKILL); /* each entry is in the file already */
  status_of(s);

  struct stat about;
  assert_int_equal(stat(in_home(".local/state/prunelua/history"), &about), 0);
  assert_int_equal(about.st_mode & 0777, 0600);
  char text[512] = "";
  FILE *file = fopen(in_home(".local/state/prunelua/history"), "r");
  size_t n = fread(text, 1, sizeof text - 1, file);
  fclose(file);
  text[n] = 0;
  const char *block = "for i = 1, 2 do\\nprint('it' .. i)\\nend\n";
  assert_int_equal(strncmp(text, "kept = 6\n", 9), 0);
  assert_int_equal(strncmp(text + 9, block, strlen(block)), 0);

  s = start("xterm", NULL, NULL, NULL); /* the next session has them */
  expect(s, "> ");
  type(s, "\020\n");
  expect(s, "it1");
  expect(s, "it2");
  expect(s, "> ");
  leave(s);
}

static void tab_completes(void **state) {
  (void)state;
  need_editor();
  session *s = session_with_state();
  type(s, "secret_value = 41;\n");
  expect(s, "> ");
  type(s, "print('got' .. secr\t + 1)\n");
  expect(s, "got42");
  expect(s, "> ");
  type(s, "text = 'abc'\n");
  expect(s, "> ");
  type(s, "text:upp\t()\n");
  expect(s, "ABC");
  expect(s, "> ");
  type(s, "string.re\t"); /* rep and reverse: a common part, then a list */
  type(s, "\t");
  expect(s, "rep");
  expect(s, "reverse");
  type(s, "\003");
  expect(s, "^C");
  expect(s, "> ");
  type(s, "require 'prune.termi\t.columns()\n");
  expect(s, "\n80");
  expect(s, "> ");
  type(s, "t = prune.zeros(2, 4300)\n");
  expect(s, "> ");
  type(s, "t:si\t");
  type(s, "\t"); /* sigmoid, sign, silu, sin, size, ... */
  expect(s, "sigmoid");
  type(s, "ze\t(2)\n");
  expect(s, "4300");
  expect(s, "> ");
  write_file(in_home("unlikely-name.txt"), "in the fi"
                                           "le");
  char line[300];
  snprintf(line, sizeof line, "io.open('%s/unlik\t):read 'a'\n", home);
  type(s, line);
  expect(s, "in the file");
  expect(s, "> ");
  leave(s);
}

static void a_progress_bar_on_a_terminal(void **state) {
  (void)state;
  session *s = start("xterm", "-e", "for i in require'prune.progress'(4, 'counting') do end", NULL);
  expect(s, "counting 100%");
  expect(s, "4/4");
  assert_int_equal(status_of(s), 0);
}

static void a_dumb_terminal_gets_plain_text(void **state) {
  (void)state;
  session *s = start("dumb", NULL, NULL, NULL);
  expect(s, "> ");
  type(s, "kept = 6\n");
  expect(s, "> ");
  assert_alive(s);
  interrupts(s, "print('go' .. 1) while true do end");
  type(s, "for i in require'prune.progress'(4, 'coun' .. 'ting') do end\n");
  assert_alive(s);
  type(s, "x = '\003");
  assert_alive(s);
  assert_null(strchr(s->text, '\033'));
  assert_null(strstr(s->text, "counting"));
  leave(s);
}

int main(void) {
  const struct CMUnitTest tests[] = {
    cmocka_unit_test(ctrl_c_at_the_prompt),
    cmocka_unit_test(ctrl_c_in_lua_loops),
    cmocka_unit_test(ctrl_c_in_coroutines),
    cmocka_unit_test(ctrl_c_in_blocking_calls),
    cmocka_unit_test(ctrl_c_in_the_core),
    cmocka_unit_test(ctrl_c_held),
    cmocka_unit_test(ctrl_c_in_scripts),
    cmocka_unit_test(a_failed_script_leaves_a_prompt_under_i),
    cmocka_unit_test(results_are_printed),
    cmocka_unit_test(blocks_are_one_history_entry),
    cmocka_unit_test(tab_completes),
    cmocka_unit_test(a_progress_bar_on_a_terminal),
    cmocka_unit_test(a_dumb_terminal_gets_plain_text),
  };
  int master, slave;
  if (openpty(&master, &slave, NULL, NULL, NULL)) { /* a container without /dev/pts */
    fprintf(stderr, "skipped: no terminal can be had here (%s)\n", strerror(errno));
    return 77;
  }
  close(master), close(slave);
  if (!mkdtemp(home)) return 1;
  int failed = cmocka_run_group_tests(tests, NULL, NULL);
  char command[64];
  snprintf(command, sizeof command, "rm -rf '%s'", home);
  return system(command) != 0 || failed != 0;
}
