-- activation.lua - layers without parameters, made from operators; and PReLU and Dropout.
local core = require "prune.core"
local options = require "prune.options"
local Module = require "prune.nn.module"
local F = require "prune.nn.functional"

local activation = {}

-- A layer around an operator: options are passed on, in the operator's own words.
local function wrap(name, operator, defaults)
  local Class = Module.class(name, function(self, given)
    self._options = options.check("nn." .. name, given, defaults or {})
    if next(self._options) == nil then self._options = nil end
  end)
  function Class:forward(x) return operator(x, self._options) end
  return Class
end

--- max(x, 0)
activation.ReLU = wrap("ReLU", F.relu)
--- min(max(x, 0), 6)
activation.ReLU6 = wrap("ReLU6", F.relu6)
--- 1 / (1 + exp(-x))
activation.Sigmoid = wrap("Sigmoid", F.sigmoid)
--- Hyperbolic tangent
activation.Tanh = wrap("Tanh", F.tanh)
--- x sigmoid(x) (Hendrycks and Gimpel 2016)
activation.SiLU = wrap("SiLU", F.silu)
--- x relu6(x + 3) / 6 (Howard et al. 2019)
activation.Hardswish = wrap("Hardswish", F.hardswish)
--- relu6(x + 3) / 6
activation.Hardsigmoid = wrap("Hardsigmoid", F.hardsigmoid)
--- x Phi(x) (Hendrycks and Gimpel 2016)
-- @param options { approximate = "none" or "tanh" }
activation.GELU = wrap("GELU", F.gelu, { approximate = "none" })
--- x above 0, alpha (exp(x) - 1) below (Clevert et al. 2015)
-- @param options { alpha = 1 }
activation.ELU = wrap("ELU", F.elu, { alpha = 1.0 })
--- x above 0, negative_slope x below
-- @param options { negative_slope = 0.01 }
activation.LeakyReLU = wrap("LeakyReLU", F.leaky_relu, { negative_slope = 0.01 })
--- log(1 + exp(beta x)) / beta
-- @param options { beta = 1 }
activation.Softplus = wrap("Softplus", F.softplus, { beta = 1.0 })
--- Softmax along an axis
-- @param options { dim = -1 }
activation.Softmax = wrap("Softmax", F.softmax, { dim = -1 })

--- x above 0, weight x below, with one weight or one per channel (He et al. 2015)
-- @param channels default 1
-- @param options { init = 0.25 }
activation.PReLU = Module.class("PReLU", function(self, channels, given)
  local o = options.check("nn.PReLU", given, { init = 0.25 })
  self.weight = core.parameter(core.full({ channels or 1 }, o.init))
end)
function activation.PReLU:forward(x) return F.prelu(x, self.weight) end

--- While training, zero each element with probability p and scale the others by 1 / (1 - p) (Srivastava et al. 2014).
-- @param p default 0.5
activation.Dropout = Module.class("Dropout", function(self, p)
  p = p or 0.5
  if type(p) ~= "number" or p < 0 or p > 1 then error("nn.Dropout: the probability must be in 0..1, got " .. tostring(p), 3) end
  self._p = p
end)
function activation.Dropout:forward(x) return F.dropout(x, { p = self._p, training = self.training }) end
function activation.Dropout:describe() return tostring(self._p) end

--- While training, zero whole samples (positions of the first axis) with probability p and scale the others by 1 / (1 - p): put it on the
-- branch of a residual block (Huang et al. 2016, "Deep Networks with Stochastic Depth").
-- @param p in 0..1
activation.StochasticDepth = Module.class("StochasticDepth", function(self, p)
  if type(p) ~= "number" or p < 0 or p > 1 then error("nn.StochasticDepth: the probability must be in 0..1, got " .. tostring(p), 3) end
  self._p = p
end)
function activation.StochasticDepth:forward(x) return F.dropout(x, { p = self._p, training = self.training, samples = true }) end
function activation.StochasticDepth:describe() return tostring(self._p) end

--- Passes its input on.
activation.Identity = Module.class("Identity")
function activation.Identity:forward(x) return x end

--- Axes from start_dim to end_dim become one.
-- @param start_dim default 2
-- @param end_dim default -1
activation.Flatten = Module.class("Flatten", function(self, start_dim, end_dim)
  self._options = { start_dim = start_dim or 2, end_dim = end_dim or -1 }
end)
function activation.Flatten:forward(x) return F.flatten(x, self._options) end

--- The axes in another order.
-- @param dims list of axes, from 1: { 1, 3, 4, 2 } takes [batch, channels, height, width] to [batch, height, width, channels]
activation.Permute = Module.class("Permute", function(self, dims)
  if type(dims) ~= "table" then error("nn.Permute: the axes must be a list, got " .. tostring(dims), 3) end
  self._dims = table.move(dims, 1, #dims, 1, {})
end)
function activation.Permute:forward(x) return F.permute(x, self._dims) end
function activation.Permute:describe() return table.concat(self._dims, ", ") end

return activation
