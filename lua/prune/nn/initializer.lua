-- initializer.lua - how parameters begin. Each fills a tensor in place and returns it.
local core = require "prune.core"
local options = require "prune.options"

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
function initializer.truncated_normal(t, mean, std) return core.fill_truncated_normal(t, mean or 0, std or 1) end

--- The same number everywhere.
-- @param t tensor, filled in place
-- @param value number
-- @return t
function initializer.constant(t, value)
  check(t)
  return t:fill(value)
end

-- Gain and fan of the rules of He et al.: for ReLU and the fan in unless told otherwise.
local function he(where, t, given)
  local o = options.check(where, given, { mode = "fan_in", gain = math.sqrt(2) })
  if o.mode ~= "fan_in" and o.mode ~= "fan_out" then
    error(('%s: mode is "fan_in" or "fan_out", got %s'):format(where, tostring(o.mode)), 3)
  end
  local fan_in, fan_out = fans(t)
  if type(o.gain) ~= "number" then error(("%s: gain is a number, got %s"):format(where, type(o.gain)), 3) end
  return o.gain, o.mode == "fan_out" and fan_out or fan_in
end

--- He et al. 2015: normal with standard deviation gain / sqrt(fan); the gain of ReLU is sqrt(2).
-- @param t tensor of two or more dimensions, filled in place
-- @param options { mode = "fan_in" or "fan_out", gain = sqrt(2) }
-- @return t
function initializer.kaiming_normal(t, given)
  local gain, fan = he("nn.init.kaiming_normal", t, given)
  return initializer.normal(t, 0, gain / math.sqrt(fan))
end

--- He et al. 2015: uniform within gain sqrt(3 / fan); the gain of ReLU is sqrt(2).
-- @param t tensor of two or more dimensions, filled in place
-- @param options { mode = "fan_in" or "fan_out", gain = sqrt(2) }
-- @return t
function initializer.kaiming_uniform(t, given)
  local gain, fan = he("nn.init.kaiming_uniform", t, given)
  local bound = gain * math.sqrt(3 / fan)
  return initializer.uniform(t, -bound, bound)
end

--- PyTorch's default of convolutions and linear layers: uniform within 1 / sqrt(fan in).
-- @param t tensor, filled in place
-- @param fan the fan in; default: of t
-- @return t
function initializer.default(t, fan)
  if fan ~= nil and type(fan) ~= "number" then error("prune.nn.init: the fan in must be a number, got " .. type(fan), 2) end
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

-- --- when ----------------------------------------------------------------------------------------------------------

local skipping = 0

--- Run f without giving the layers that it makes their initial values: for a model whose values are set right afterwards, which are
-- undefined until then. Layers' reset fills them.
-- @param f function
-- @param ... its arguments
-- @return the results of f
-- @usage local net = nn.init.skip(prune.models.vgg16, { classes = 10 })
function initializer.skip(f, ...)
  local meta = getmetatable(f)
  if type(f) ~= "function" and not (type(meta) == "table" and meta.__call) then
    error("nn.init.skip: the first argument must be a function, got " .. type(f), 2)
  end
  skipping = skipping + 1
  local results = table.pack(pcall(f, ...))
  skipping = skipping - 1
  if not results[1] then error(results[2], 0) end
  return table.unpack(results, 2, results.n)
end

--- Are new layers left without initial values now?
-- @return boolean
function initializer.skipped() return skipping > 0 end

--- Give a new layer its initial values, unless they are skipped: what constructors of layers call at their end.
-- @param layer has a method reset
function initializer.begin(layer)
  if type(layer) ~= "table" or not layer.reset then error("nn.init.begin: the layer has no method reset", 2) end
  if skipping == 0 then layer:reset() end
end

initializer.fans = fans
return initializer
