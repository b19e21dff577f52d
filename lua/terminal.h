/* terminal.h - reading lines from the user, with editing, history and completion where the program was
 * built with libedit.
 *
 * Editing is used where stdin and stdout are terminals and TERM is not "dumb"; otherwise lines are read
 * plainly after the prompt. libedit (BSD licence) is driven through its own interface, not its imitation of
 * readline, since only that lets Ctrl-C end a line at once.
 *
 * To Lua this is the module prune.terminal:
 *   readline(prompt) -> line    without its newline; or nil, "eof"; or nil, "interrupt" on Ctrl-C
 *   completer(f)                f(text before the cursor) -> text to insert, text to show; either may be nil
 *   history(path)               use this file (mode 0600, its folders 0700) and load what it holds
 *   remember(entry)             add an entry (of one or more lines) and append it to the file at once
 *   is_terminal(stream)         is "stdin", "stdout" or "stderr" a terminal? Not where TERM is dumb
 *   columns() -> integer        width of the terminal that stderr or stdout is, 80 if none
 *   entries(folder) -> list     names in a folder, sub-folders with a slash; nil when it cannot be read
 *   make_folders(path)          make the folders that lead to a file; raises with the reason
 *   has_editor                  was the program built with libedit?
 *   clock() -> number           seconds of a monotonic clock
 */
#ifndef PRUNELUA_TERMINAL_H
#define PRUNELUA_TERMINAL_H

#include <lua.h>

int luaopen_prune_terminal(lua_State *L);

#endif
