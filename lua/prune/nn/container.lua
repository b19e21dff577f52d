-- container.lua - modules that hold modules.
local Module = require "prune.nn.module"

local container = {}

local function append(self, where, ...)
  for i = 1, select("#", ...) do
    local child = select(i, ...)
    if not Module.is_module(child) then
      error(("%s: element %d must be a module, got %s"):format(where, i, type(child)), 3)
    end
    self[#self + 1] = child
  end
  return self
end

--- Children run one after the other. Elements are seq[1], seq[2], ...; their names count from 0, as in PyTorch's state dicts.
-- @param ... modules
container.Sequential = Module.class("Sequential", function(self, ...) append(self, "nn.Sequential", ...) end)

function container.Sequential:forward(x)
  for i = 1, #self do x = self[i](x) end
  return x
end

--- Add modules at the end.
-- @param ... modules
-- @return the container
function container.Sequential:append(...) return append(self, "Sequential:append", ...) end

--- A list of modules for a forward function of one's own.
-- @param list table of modules (or the modules themselves)
container.ModuleList = Module.class("ModuleList", function(self, ...)
  local first = ...
  if type(first) == "table" and not Module.is_module(first) then append(self, "nn.ModuleList", table.unpack(first))
  else append(self, "nn.ModuleList", ...) end
end)

container.ModuleList._silent = true -- it never runs itself: its name comes with its children's

--- Add modules at the end.
-- @param ... modules
-- @return the container
function container.ModuleList:append(...) return append(self, "ModuleList:append", ...) end

return container
