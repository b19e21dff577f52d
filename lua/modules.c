/* modules.c - the searcher for embedded modules, and prune.embedded, which shows their text to help and
 * completion. */
#include "modules.h"
#include "embedded.h"
#include "interrupt.h"
#include "terminal.h"
#include "bind.h"

#include <stdlib.h>
#include <string.h>

#include <lauxlib.h>
#include <lualib.h>

static const embedded_module *find_embedded(const char *name) {
  for (const embedded_module *m = embedded_modules; m->name; m++)
    if (strcmp(m->name, name) == 0) return m;
  return NULL;
}

/* Push the file of PRUNELUA_PATH that holds module `name`; the folder's search path is upvalue 1, false
 * without one. */
static bool push_development_file(lua_State *L, const char *name) {
  const char *path = lua_tostring(L, lua_upvalueindex(1));
  if (!path) return false;
  lua_getfield(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
  lua_getfield(L, -1, "package");
  lua_getfield(L, -1, "searchpath");
  lua_pushstring(L, name);
  lua_pushstring(L, path);
  lua_call(L, 2, 1);
  lua_replace(L, -3);
  lua_pop(L, 1);
  if (lua_isstring(L, -1)) return true;
  lua_pop(L, 1);
  return false;
}

static int search(lua_State *L) {
  const char *name = luaL_checkstring(L, 1);
  if (strcmp(name, "prune") != 0 && strncmp(name, "prune.", 6) != 0) return 0;
  if (push_development_file(L, name)) {
    if (luaL_loadfilex(L, lua_tostring(L, -1), "t") != LUA_OK)
      return luaL_error(L, "error loading module '%s':\n\t%s", name, lua_tostring(L, -1));
    lua_insert(L, -2);
    return 2;
  }
  const embedded_module *m = find_embedded(name);
  if (!m) {
    lua_pushfstring(L, "no module '%s' inside prunelua", name);
    return 1;
  }
  lua_pushfstring(L, "@%s", m->path);
  if (luaL_loadbufferx(L, (const char *)m->text, m->size, lua_tostring(L, -1), "t") != LUA_OK)
    return luaL_error(L, "error loading module '%s':\n\t%s", name, lua_tostring(L, -1));
  lua_pushstring(L, m->path);
  return 2;
}

/* prune.embedded.names() -> list of module names in alphabetical order */
static int embedded_names(lua_State *L) {
  lua_newtable(L);
  for (int i = 0; embedded_modules[i].name; i++) {
    lua_pushstring(L, embedded_modules[i].name);
    lua_rawseti(L, -2, i + 1);
  }
  return 1;
}

/* prune.embedded.source(name) -> text or nil, chunk name as debug.getinfo gives it ("@" and the file's name).
 * The text is nil where the module comes from a file, and both where there is no such module. */
static int embedded_source(lua_State *L) {
  const char *name = luaL_checkstring(L, 1);
  if (push_development_file(L, name)) {
    lua_pushnil(L);
    lua_pushfstring(L, "@%s", lua_tostring(L, -2));
    return 2;
  }
  const embedded_module *m = find_embedded(name);
  if (!m) return 0;
  lua_pushlstring(L, (const char *)m->text, m->size);
  lua_pushfstring(L, "@%s", m->path);
  return 2;
}

static int open_embedded(lua_State *L) {
  static const luaL_Reg functions[] = { { "names", embedded_names },
                                        { "source", embedded_source },
                                        { NULL, NULL } };
  luaL_newlibtable(L, functions);
  lua_pushvalue(L, lua_upvalueindex(1));
  luaL_setfuncs(L, functions, 1);
  return 1;
}

static void push_development_path(lua_State *L, bool environment) {
  const char *folder = environment ? getenv("PRUNELUA_PATH") : NULL;
  if (folder && *folder)
    lua_pushfstring(L, "%s/?.lua;%s/?/init.lua", folder, folder);
  else
    lua_pushboolean(L, false);
}

void modules_install(lua_State *L, bool environment) {
  lua_getglobal(L, "package");
  lua_getfield(L, -1, "preload");
  lua_pushcfunction(L, luaopen_prune_core), lua_setfield(L, -2, "prune.core");
  lua_pushcfunction(L, luaopen_prune_interrupt), lua_setfield(L, -2, "prune.interrupt");
  lua_pushcfunction(L, luaopen_prune_terminal), lua_setfield(L, -2, "prune.terminal");
  push_development_path(L, environment);
  lua_pushcclosure(L, open_embedded, 1), lua_setfield(L, -2, "prune.embedded");
  lua_pop(L, 1);
  lua_getfield(L, -1, "searchers");
  for (lua_Integer i = (lua_Integer)lua_rawlen(L, -1); i >= 2; i--) {
    lua_rawgeti(L, -1, i);
    lua_rawseti(L, -2, i + 1);
  }
  push_development_path(L, environment);
  lua_pushcclosure(L, search, 1);
  lua_rawseti(L, -2, 2);
  lua_pop(L, 2);
}

void modules_find(lua_State *L, const char *name) {
  lua_getglobal(L, "package");
  lua_getfield(L, -1, "searchers");
  lua_remove(L, -2);
  const int searchers = lua_gettop(L), tried = searchers + 1;
  luaL_checktype(L, searchers, LUA_TTABLE);
  lua_pushliteral(L, "");
  for (int i = 1; lua_rawgeti(L, searchers, i) != LUA_TNIL; i++) {
    lua_pushstring(L, name);
    lua_call(L, 1, 2);
    if (lua_isfunction(L, -2)) {
      lua_remove(L, tried);
      lua_remove(L, searchers);
      return;
    }
    lua_pop(L, 1);
    if (lua_isstring(L, -1)) {
      lua_pushliteral(L, "\n\t");
      lua_insert(L, -2);
      lua_concat(L, 3);
    } else
      lua_pop(L, 1);
  }
  luaL_error(L, "module '%s' not found:%s", name, lua_tostring(L, tried));
}
