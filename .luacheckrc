-- luacheck over the project's Lua: what is found is wrong, or this file says why it is not.
std = "lua54"
max_line_length = 140
self = false -- a method need not use self
unused_args = false -- arguments document the shape of a callback
max_comment_line_length = 160
ignore = { "211/.*scope" } -- to-be-closed variables are there for their end
