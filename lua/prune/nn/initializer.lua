-- initializer.lua - how parameters begin. Each fills a tensor in place and returns it.
local core = require "prune.core"

local initializer = {}

local function check(t)
  if not core.is_tensor(t) then error("prune.nn.init: the first argument must be a tensor, got " .. type(t), 3) end
end

--- Inputs and outputs that one element of a weight sees: sizes times the receptive field.
-- @param t tensor of two or more dimensions
-- @return fan in, fan out
local function fans(t)
  check(t)
  if t:dim() < 2 then error("fan in and fan out need a tensor of at least two dimensions, got " .. t:dim(), 3) end
  local field = 1
  for d = 3, t:dim() do field = field * t:size(d) end
  return t:size(2) * field, t:size(1) * field
end

--- Uniform numbers in [low, high).
-- @param t tensor, filled in place
-- @param low default 0
-- @param high default 1
-- @return t
function initializer.uniform(t, low, high) return core.fill_uniform(t, low or 0, high or 1) end

--- Normal numbers.
-- @param t tensor, filled in place
-- @param mean default 0
-- @param std default 1
-- @return t
function initializer.normal(t, mean, std) return core.fill_normal(t, mean or 0, std or 1) end

--- Normal numbers within two standard deviations of the mean: those outside are drawn anew.
-- @param t tensor, filled in place
-- @param mean default 0
-- @param std default 1
-- @return t
function initializer.truncated_normal(t, mean, std)
  check(t)
  local values = core.randn(t:size())
  for _ = 1, 16 do
    local outside = values:abs():gt(2)
    if not outside:any():item() then break end
    values = outside:where(core.randn(t:size()), values)
  end
  return t:copy(values:clamp { min = -2, max = 2 } * (std or 1) + (mean or 0))
end

--- The same number everywhere.
-- @param t tensor, filled in place
-- @param value number
-- @return t
function initializer.constant(t, value)
  check(t)
  return t:fill(value)
end

--- He et al. 2015: normal with standard deviation gain / sqrt(fan), gain sqrt(2) for ReLU.
-- @param t tensor of two or more dimensions, filled in place
-- @param options { mode = "fan_in" or "fan_out" }
-- @return t
function initializer.kaiming_normal(t, options)
  local fan_in, fan_out = fans(t)
  local fan = options and options.mode == "fan_out" and fan_out or fan_in
  return initializer.normal(t, 0, math.sqrt(2 / fan))
end

--- PyTorch's default of convolutions and linear layers: uniform within 1 / sqrt(fan in).
-- @param t tensor, filled in place
-- @param fan the fan in; default: of t
-- @return t
function initializer.default(t, fan)
  local bound = 1 / math.sqrt(math.max(fan or fans(t), 1))
  return initializer.uniform(t, -bound, bound)
end

--- Glorot and Bengio 2010: uniform within sqrt(6 / (fan in + fan out)).
-- @param t tensor of two or more dimensions, filled in place
-- @return t
function initializer.xavier_uniform(t)
  local fan_in, fan_out = fans(t)
  local bound = math.sqrt(6 / (fan_in + fan_out))
  return initializer.uniform(t, -bound, bound)
end

initializer.fans = fans
return initializer
