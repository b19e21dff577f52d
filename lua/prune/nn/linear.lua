-- linear.lua - fully connected layers and embeddings.
local core = require "prune.core"
local options = require "prune.options"
local Module = require "prune.nn.module"
local initializer = require "prune.nn.initializer"
local F = require "prune.nn.functional"

local linear = {}

--- y = x W^T + b over the last axis: x [..., in] -> [..., out]; weight [out, in].
-- @param in_features, out_features
-- @param options { bias = true }
linear.Linear = Module.class("Linear", function(self, inputs, outputs, given)
  local o = options.check("nn.Linear", given, { bias = true })
  self.weight = core.parameter(core.empty { outputs, inputs })
  if o.bias then self.bias = core.parameter(core.empty { outputs }) end
  initializer.begin(self)
end)

function linear.Linear:reset()
  initializer.default(self.weight)
  if self.bias then initializer.default(self.bias, self.weight:size(2)) end
end

function linear.Linear:forward(x) return F.linear(x, self.weight, self.bias) end

function linear.Linear:describe()
  return ("%d, %d%s"):format(self.weight:size(2), self.weight:size(1), self.bias and "" or ", no bias")
end

--- A table of vectors: indices [...] (from 1) -> [..., width]; weight [count, width].
-- @param count, width
linear.Embedding = Module.class("Embedding", function(self, count, width)
  self.weight = core.parameter(core.empty { count, width })
  initializer.begin(self)
end)

function linear.Embedding:reset() initializer.normal(self.weight) end
function linear.Embedding:forward(index) return F.embedding(index, self.weight) end
function linear.Embedding:describe() return ("%d, %d"):format(self.weight:size(1), self.weight:size(2)) end

return linear
