/* modules.h - where `require` finds what is inside the program.
 *
 * A searcher placed before Lua's own ones answers "prune" and "prune.*" from the embedded text. Where the
 * environment variable PRUNELUA_PATH names a folder, files below it (prune/init.lua, prune/NAME.lua) come
 * first, so that the Lua half can be worked on without building. "prune.core" is the C binding.
 */
#ifndef PRUNELUA_MODULES_H
#define PRUNELUA_MODULES_H

#include <stdbool.h>
#include <lua.h>

/* Put the searcher and the C modules in place; `environment` is false under -E, which ignores PRUNELUA_PATH.
 */
void modules_install(lua_State *L, bool environment);

/* Push what package.searchers find for `name`: the loader and its extra value (the file's name). Raises as
 * require does when there is none. Nothing is run and package.loaded stays as it is. */
void modules_find(lua_State *L, const char *name);

#endif
