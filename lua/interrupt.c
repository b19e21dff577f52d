/* interrupt.c - the SIGINT handler, the hook, and coroutine functions that know which thread runs. */
#include "interrupt.h"

#include <pthread.h>
#include <signal.h>
#include <string.h>

#include <lauxlib.h>

#include "base/thread.h"

static struct {
  lua_State *main;
  lua_State *volatile running; /* main, or the coroutine that was resumed last and has not yielded */
  pthread_t thread;            /* the one thread that runs Lua */
  volatile sig_atomic_t
      signals; /* since the outermost call or the latest hold began, or the latest interrupt_taken */
  volatile sig_atomic_t calls;   /* depth of interrupt_call */
  volatile sig_atomic_t held;    /* the first signal only counts */
  volatile sig_atomic_t raising; /* hooks are armed and raise */
  volatile sig_atomic_t closing; /* depth of functions that run undisturbed */
  volatile sig_atomic_t late;    /* a signal has arrived while they ran */
  bool session, reported;        /* reported: pending() has told of the signal */
} state;

static void hook(lua_State *L, lua_Debug *ar) {
  (void)ar;
  if (!state.raising) { /* left over on a coroutine that slept while the interrupt was dealt with */
    lua_sethook(L, NULL, 0, 0);
    return;
  }
  luaL_error(L, "interrupted!");
}

/* lua_sethook is the one function of Lua that a signal handler may call. Only instructions are counted, calls
 * are not hooked: a C function that restores something (a __close, the rest of a no_grad) still runs while
 * the error travels up. */
static void arm(lua_State *L) { lua_sethook(L, hook, LUA_MASKCOUNT, 1); }

static void raise_in_lua(void) {
  state.raising = 1;
  pr_interrupt();
  arm(state.main);
  if (state.running != state.main) arm(state.running);
}

static void on_signal(int number) {
  if (!pthread_equal(pthread_self(), state.thread)) { /* a thread of the loader or of OpenMP got it */
    pthread_kill(state.thread, number);
    return;
  }
  state.signals++;
  if (!state.calls) return;
  if (!state.session && state.signals > 1) {
    signal(number, SIG_DFL);
    raise(number); /* delivered when this handler returns */
  } else if (state.closing)
    state.late = 1;
  else if (!state.held || state.signals > 1)
    raise_in_lua();
}

static void catch_signal(void) {
  struct sigaction action = { .sa_handler = on_signal }; /* no SA_RESTART: a blocked read must end */
  sigemptyset(&action.sa_mask);
  sigaction(SIGINT, &action, NULL);
}

void interrupt_session(void) {
  state.session = true;
  catch_signal();
}

bool interrupt_taken(void) {
  bool taken = state.signals > 0;
  state.signals = 0;
  return taken;
}

/* --- running Lua code
 * ----------------------------------------------------------------------------------------------- */

static int add_traceback(lua_State *L) {
  const char *message = lua_tostring(L, 1);
  if (!message) {
    if (luaL_callmeta(L, 1, "__tostring") && lua_type(L, -1) == LUA_TSTRING) return 1;
    message = lua_pushfstring(L, "(error object is a %s value)", luaL_typename(L, 1));
  }
  /* pruner.step() for pruner:step(): Lua tells of a nil value (local 'self'), which says little to whoever
   * does not know. */
  if (strstr(message, "(local 'self')"))
    message = lua_pushfstring(L, "%s; is a method called with a dot? It takes a colon: object:method(...)",
                              message);
  luaL_traceback(L, L, message, 1);
  return 1;
}

static void outermost_begins(lua_State *L) {
  state.signals = state.held = state.raising = state.closing = state.late = 0;
  state.reported = false;
  state.running = L;
  if (!state.session) catch_signal();
}

static void outermost_ends(void) {
  if (!state.session) signal(SIGINT, SIG_DFL);
  state.raising = state.held = state.signals = 0;
  state.running = state.main;
  lua_sethook(state.main, NULL, 0, 0);
  pr_interrupt_clear();
}

int interrupt_call(lua_State *L, int arguments, int results) {
  int base = lua_gettop(L) - arguments;
  lua_pushcfunction(L, add_traceback);
  lua_insert(L, base);
  if (!state.calls) outermost_begins(L);
  state.calls++;
  int status = lua_pcall(L, arguments, results, base);
  state.calls--;
  if (!state.calls) outermost_ends();
  lua_remove(L, base);
  return status;
}

static int call(lua_State *L) {
  luaL_checkany(L, 1);
  lua_pushboolean(L, interrupt_call(L, lua_gettop(L) - 1, LUA_MULTRET) == LUA_OK);
  lua_insert(L, 1);
  return lua_gettop(L);
}

/* --- holding
 * -------------------------------------------------------------------------------------------------------- */

static void release(void) {
  if (!state.held) return;
  state.held = 0;
  bool unseen = state.signals && !state.reported;
  state.reported = false;
  if (unseen)
    raise_in_lua();
  else if (!state.raising)
    state.signals = 0;
}

static int close_guard(lua_State *L) {
  (void)L;
  release();
  return 0;
}

static int hold(lua_State *L) {
  luaL_checktype(L, 1, LUA_TBOOLEAN);
  if (!lua_toboolean(L, 1)) {
    release();
    return 0;
  }
  if (!state.held) {
    state.reported = false;
    state.held = 1;
  }
  lua_newuserdatauv(L, 0, 0);
  if (luaL_newmetatable(L, "prune.interrupt.guard")) {
    lua_pushcfunction(L, close_guard);
    lua_setfield(L, -2, "__close");
  }
  lua_setmetatable(L, -2);
  return 1;
}

/* The function of a guard runs as if nobody had pressed anything; then the interrupt goes on. */
static int close_undisturbed(lua_State *L) {
  state.closing++; /* from here on a signal is late */
  bool was = state.raising;
  if (was) { /* a hook of somebody else's stays */
    state.raising = 0;
    lua_sethook(L, NULL, 0, 0);
    pr_interrupt_clear();
  }
  lua_getiuservalue(L, 1, 1);
  int status = lua_pcall(L, 0, 0, 0);
  state.closing--;
  if (!state.closing && state.late) {
    state.late = 0;
    was = was || !state.held || state.signals > 1;
  }
  if (was) {
    raise_in_lua();
    arm(L);
  }
  return status == LUA_OK ? 0 : lua_error(L);
}

static int closing(lua_State *L) {
  luaL_checktype(L, 1, LUA_TFUNCTION);
  lua_newuserdatauv(L, 0, 1);
  lua_pushvalue(L, 1);
  lua_setiuservalue(L, -2, 1);
  if (luaL_newmetatable(L, "prune.interrupt.closing")) {
    lua_pushcfunction(L, close_undisturbed);
    lua_setfield(L, -2, "__close");
  }
  lua_setmetatable(L, -2);
  return 1;
}

static int pending(lua_State *L) {
  bool arrived = state.held && state.signals > 0;
  state.reported |= arrived;
  lua_pushboolean(L, arrived);
  return 1;
}

/* --- coroutines
 * ----------------------------------------------------------------------------------------------------- */

/* Resume `co` with the topmost `arguments` values of L. Moves the results, or the error, to L; returns their
 * number, or -1. */
static int resume(lua_State *L, lua_State *co, int arguments) {
  if (!lua_checkstack(co, arguments)) {
    lua_pushliteral(L, "too many arguments to resume");
    return -1;
  }
  lua_xmove(L, co, arguments);
  state.running = co;
  int results;
  int status = lua_resume(co, L, arguments, &results);
  state.running = L;
  if (state.raising) arm(L);
  if (status != LUA_OK && status != LUA_YIELD) {
    lua_xmove(co, L, 1);
    return -1;
  }
  if (!lua_checkstack(L, results + 1)) {
    lua_pop(co, results);
    lua_pushliteral(L, "too many results to resume");
    return -1;
  }
  lua_xmove(co, L, results);
  return results;
}

static int coroutine_resume(lua_State *L) {
  lua_State *co = lua_tothread(L, 1);
  luaL_argexpected(L, co, 1, "coroutine");
  int results = resume(L, co, lua_gettop(L) - 1);
  lua_pushboolean(L, results >= 0);
  lua_insert(L, results >= 0 ? -results - 1 : -2);
  return results >= 0 ? results + 1 : 2;
}

static int call_wrapped(lua_State *L) {
  lua_State *co = lua_tothread(L, lua_upvalueindex(1));
  int results = resume(L, co, lua_gettop(L));
  if (results >= 0) return results;
  int status = lua_status(co);
  if (status != LUA_OK &&
      status != LUA_YIELD) { /* it died: close its pending variables, which may change the error */
    status = lua_resetthread(co);
    lua_xmove(co, L, 1);
  }
  if (status != LUA_ERRMEM && lua_type(L, -1) == LUA_TSTRING) {
    luaL_where(L, 1);
    lua_insert(L, -2);
    lua_concat(L, 2);
  }
  return lua_error(L);
}

static int coroutine_wrap(lua_State *L) {
  luaL_checktype(L, 1, LUA_TFUNCTION);
  lua_State *co = lua_newthread(L);
  lua_pushvalue(L, 1);
  lua_xmove(L, co, 1);
  lua_pushcclosure(L, call_wrapped, 1);
  return 1;
}

void interrupt_install(lua_State *L) {
  state.main = state.running = L;
  state.thread = pthread_self();
  lua_getglobal(L, "coroutine");
  lua_pushcfunction(L, coroutine_resume), lua_setfield(L, -2, "resume");
  lua_pushcfunction(L, coroutine_wrap), lua_setfield(L, -2, "wrap");
  lua_pop(L, 1);
}

int luaopen_prune_interrupt(lua_State *L) {
  static const luaL_Reg functions[] = {
    { "hold", hold }, { "pending", pending }, { "closing", closing }, { "call", call }, { NULL, NULL }
  };
  luaL_newlib(L, functions);
  return 1;
}
