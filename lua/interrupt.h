/* interrupt.h - Ctrl-C, in Lua code and in the core.
 *
 * lua.c arms a debug hook on the main thread when SIGINT arrives. That misses code that runs in a coroutine
 * (hooks belong to a thread), and a pcall swallows the one error it raises. Here the handler raises the
 * core's flag (pr_interrupt), which long C loops poll, and arms a hook on the main and on the running thread;
 * the hook stays armed and raises "interrupted!" at every instruction until the outermost interrupt_call
 * ends, so that no pcall, and no coroutine, keeps the program going. Nothing is installed while no signal has
 * arrived: a permanent hook would cost Lua code a factor of about two.
 *
 * It follows that Lua code cannot clean up on the way out, but in the function of closing(f). What must be
 * restored whatever happens (gradient mode, a file, a model's mode) is restored there, or in C: after a
 * lua_pcall, or by a __close that is a C function; those run undisturbed.
 *
 * In a script the second Ctrl-C ends the process, as with lua. In a session (a prompt waits for the user) it
 * never does.
 *
 * To Lua this is the module prune.interrupt:
 *   hold(true) -> guard   From now on the first Ctrl-C raises nothing and pending() tells of it, so that a
 *                         training loop can stop where nothing is half done. A second one raises in a
 *                         session and ends a script. Keep the guard in a `local g <close>`: closing it is
 *                         hold(false).
 *   hold(false)           Back to normal. A Ctrl-C that pending() has not told of raises now.
 *   pending() -> boolean  Has a Ctrl-C arrived while held?
 *   closing(f) -> guard   When the guard of a `local g <close>` closes, f() runs, whatever was pressed; an
 *                         interrupt waits until it has ended.
 *   call(f, ...)          For the prompt: true and f's results, or false and the message with a traceback.
 */
#ifndef PRUNELUA_INTERRUPT_H
#define PRUNELUA_INTERRUPT_H

#include <stdbool.h>
#include <lua.h>

/* Once, on the main thread: remembers it, and replaces coroutine.resume and coroutine.wrap by forms that say
 * who runs. */
void interrupt_install(lua_State *L);

/* From now on a second Ctrl-C does not end the process, and SIGINT between calls is kept for interrupt_taken.
 */
void interrupt_session(void);

/* lua_pcall with a traceback as message handler, during which Ctrl-C raises. */
int interrupt_call(lua_State *L, int arguments, int results);

/* Has SIGINT arrived since the last call? For the line editor. */
bool interrupt_taken(void);

int luaopen_prune_interrupt(lua_State *L);

#endif
