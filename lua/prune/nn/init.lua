-- nn - layers and the means to make one's own.
local Module = require "prune.nn.module"

local nn = { module = Module.class, Module = Module, is_module = Module.is_module }

--- Make a tensor a trainable parameter: assign it to a module's field to register it.
-- @param tensor a float tensor
-- @return the same tensor
nn.Parameter = require("prune.core").parameter

nn.functional = require "prune.nn.functional"
nn.init = require "prune.nn.initializer"

for _, file in ipairs { "container", "convolution", "linear", "normalization", "activation", "pooling", "recurrent", "attention" } do
  for name, class in pairs(require("prune.nn." .. file)) do nn[name] = class end
end

nn.Function = require("prune.nn.function").Function

return nn
