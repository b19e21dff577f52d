-- luacheck over the project's Lua: what is found is wrong, or this file says why it is not.
std = "lua54"
max_line_length = 160
self = false -- a method need not use self
unused_args = false -- arguments document the shape of a callback
ignore = { "211/.*scope", "211/guard" } -- to-be-closed variables are there for their end
exclude_files = { "tests/golden/**/*.lua", "tests/golden/*.lua" } -- data
