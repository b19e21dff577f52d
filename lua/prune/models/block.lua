-- block.lua - what several networks of this folder are made of, and how they are built: layers first, then every value once.
local nn = require "prune.nn"
local options = require "prune.options"

local block = {}

-- --- building -------------------------------------------------------------------------------------------------------------------------

local function check_ranges(where, o)
  options.count(where, "classes", o.classes)
  options.count(where, "channels", o.channels)
  for _, name in ipairs { "dropout", "stochastic_depth" } do
    local p = o[name]
    if p ~= nil and (type(p) ~= "number" or not (p >= 0 and p <= 1)) then
      error(("%s: %s is a probability in 0..1, got %s"):format(where, name, tostring(p)), 3)
    end
  end
end

--- A constructor of models. Layers get their values only once they all stand: by the rule of their class, else by their own.
-- @param name the model's name
-- @param Class gets the options and what follows `extra`
-- @param rules class name -> function(layer, path) that fills it
-- @param extra options besides classes = 1000 and channels = 3
-- @return function(options) -> module
function block.model(name, Class, rules, extra, ...)
  local where, more, defaults = "prune.models." .. name, table.pack(...), { classes = 1000, channels = 3 }
  for option, default in pairs(extra or {}) do defaults[option] = default end
  return function(given)
    local o = options.check(where, given, defaults)
    check_ranges(where, o)
    local net = nn.init.skip(Class, o, table.unpack(more, 1, more.n))
    if nn.init.skipped() then return net end
    local layers = {}
    for path, layer in net:named_modules() do layers[#layers + 1] = { path, layer } end
    for i = #layers, 1, -1 do -- children first: a layer may have its own idea of theirs
      local path, layer = table.unpack(layers[i])
      local fill = rules[layer._type] or layer.reset
      if fill then fill(layer, path) end
    end
    return net
  end
end

--- A rule: the weight by a function, the bias zero.
-- @param fill function(weight)
-- @return function(layer)
function block.fill(fill)
  return function(layer)
    fill(layer.weight)
    if layer.bias then layer.bias:fill(0) end
  end
end

--- He et al. 2015 by the fan out, bias zero.
block.fan_out = block.fill(function(weight) nn.init.kaiming_normal(weight, { mode = "fan_out" }) end)

--- Normal numbers of standard deviation 0.01, bias zero.
block.normal = block.fill(function(weight) nn.init.normal(weight, 0, 0.01) end)

--- Rules: weights of convolutions (without bias) and of linear layers are normal numbers; a linear bias is that of its layer's own rule.
-- @param deviation standard deviation
-- @return rules for block.model
function block.normal_weights(deviation)
  local function fill(layer) nn.init.normal(layer.weight, 0, deviation) end
  local function fill_linear(layer)
    layer:reset() -- for the bias
    fill(layer)
  end
  return { Conv2d = fill, Linear = fill_linear }
end

-- --- parts ----------------------------------------------------------------------------------------------------------------------------

--- Children with names run one after the other, in the order in which they were assigned.
block.Chain = nn.module("Sequential", function(self, children)
  for _, child in ipairs(children or {}) do self[child[1]] = child[2] end
end)

function block.Chain:forward(x)
  for _, child in self:children() do x = child(x) end
  return x
end

--- Convolution without bias that keeps the size (but for its stride), batch norm, activation.
-- @param inputs, outputs channels
-- @param kernel odd size
-- @param given { stride = 1, groups = 1, norm = options of batch norm, activation = class or nil }
-- @return a Sequential
function block.convolution(inputs, outputs, kernel, given)
  local layers = nn.Sequential(
    nn.Conv2d(inputs, outputs, kernel, { stride = given.stride, padding = kernel // 2, groups = given.groups, bias = false }),
    nn.BatchNorm2d(outputs, given.norm))
  if given.activation then layers:append(given.activation()) end
  return layers
end

--- Squeeze and excitation (Hu et al. 2018): channels are scaled by a gate that two 1x1 convolutions make from their means.
-- @param channels, squeezed
-- @param activation, gate classes (default: ReLU and Sigmoid)
block.SqueezeExcitation = nn.module("SqueezeExcitation", function(self, channels, squeezed, activation, gate)
  self.avgpool = nn.AdaptiveAvgPool2d(1)
  self.fc1 = nn.Conv2d(channels, squeezed, 1)
  self.fc2 = nn.Conv2d(squeezed, channels, 1)
  self.activation = (activation or nn.ReLU)()
  self.scale_activation = (gate or nn.Sigmoid)()
end)

function block.SqueezeExcitation:forward(x)
  return self.scale_activation(self.fc2(self.activation(self.fc1(self.avgpool(x))))) * x
end

--- Convolution, batch norm (eps 0.001) and ReLU, as the Inception networks name them.
-- @param inputs, outputs channels
-- @param kernel a number or { height, width }
-- @param given { stride = 1, padding = 0 }
block.BasicConv2d = nn.module("BasicConv2d", function(self, inputs, outputs, kernel, given)
  given = given or {}
  self.conv = nn.Conv2d(inputs, outputs, kernel, { stride = given.stride, padding = given.padding, bias = false })
  self.bn = nn.BatchNorm2d(outputs, { eps = 0.001 })
end)

function block.BasicConv2d:forward(x) return nn.functional.relu(self.bn(self.conv(x))) end

--- The multiple of 8 nearest to a number of channels, at least 8 and at least 90 % of it.
-- @param channels
-- @return integer
function block.multiple_of_8(channels)
  local rounded = math.max(8, (channels + 4) // 8 * 8)
  return math.tointeger(rounded < 0.9 * channels and rounded + 8 or rounded)
end

--- Global average over space, as a vector per sample.
-- @param x [batch, channels, height, width]
-- @return [batch, channels]
function block.global_average(x)
  return nn.functional.flatten(nn.functional.adaptive_avg_pool2d(x, { output_size = 1 }), 2)
end

return block
