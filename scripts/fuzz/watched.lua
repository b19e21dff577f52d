-- watched.lua - the operators as functions that count their calls in watched.calls, by name: what the steps of random networks call.
local core = require "prune.core"

local watched = { calls = {} }

for name, f in next, core.ops do
  watched[name] = function(...)
    watched.calls[name] = (watched.calls[name] or 0) + 1
    return f(...)
  end
end

return watched
