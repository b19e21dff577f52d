-- convolution.lua - convolutions. Channel counts are read off the weights. Groups are written down, so that an image with another number of
-- channels is an error; a removal of whole groups tells the layer what is left.
local core = require "prune.core"
local options = require "prune.options"
local Module = require "prune.nn.module"
local initializer = require "prune.nn.initializer"
local F = require "prune.nn.functional"

local convolution = {}

local function list(value, rank, where, name)
  if type(value) == "number" then
    local all = {}
    for d = 1, rank do all[d] = value end
    return all
  end
  if type(value) ~= "table" or #value ~= rank then
    error(("%s: %s is a number or a table of %d numbers"):format(where, name, rank), 4)
  end
  return value
end

local function make(self, where, rank, transposed, inputs, outputs, kernel, given)
  local o = options.check(where, given, {
    stride = 1, padding = 0, dilation = 1, groups = 1, bias = true, output_padding = transposed and 0 or nil,
  })
  options.count(where, "input channels", inputs)
  options.count(where, "output channels", outputs)
  options.count(where, "groups", o.groups)
  if inputs % o.groups ~= 0 or outputs % o.groups ~= 0 then
    error(("%s: %d input and %d output channels are not multiples of %d groups"):format(where, inputs, outputs, o.groups), 3)
  end
  local shape = transposed and { inputs, outputs // o.groups } or { outputs, inputs // o.groups }
  for _, k in ipairs(list(kernel, rank, where, "kernel size")) do shape[#shape + 1] = k end
  self.weight = core.parameter(core.empty(shape))
  if o.bias then self.bias = core.parameter(core.empty { outputs }) end
  self._options = { stride = o.stride, padding = o.padding, dilation = o.dilation, groups = o.groups }
  if transposed then self._options.output_padding = o.output_padding end
  self._kernel = kernel
  initializer.begin(self)
end

local function reset(self)
  initializer.default(self.weight)
  if self.bias then initializer.default(self.bias, (initializer.fans(self.weight))) end
end

local function text(value) return type(value) == "table" and "{" .. table.concat(value, ", ") .. "}" or tostring(value) end

local function describe(self)
  local w = self.weight
  local o = self._options
  local inputs, outputs = w:size(2) * o.groups, w:size(1)
  if o.output_padding then inputs, outputs = w:size(1), w:size(2) * o.groups end
  local parts = { ("%d, %d, %s"):format(inputs, outputs, text(self._kernel)) }
  for _, name in ipairs { "stride", "padding", "dilation", "groups" } do
    local default = name == "padding" and 0 or 1
    if text(o[name]) ~= tostring(default) then parts[#parts + 1] = name .. " " .. text(o[name]) end
  end
  if not self.bias then parts[#parts + 1] = "no bias" end
  return table.concat(parts, ", ")
end

local function class(name, rank, operator, transposed)
  local Class = Module.class(name, function(self, inputs, outputs, kernel, given)
    make(self, "nn." .. name, rank, transposed, inputs, outputs, kernel, given)
  end)
  function Class:forward(x) return operator(x, self.weight, self.bias, self._options) end
  function Class:rewritten(_, arguments)
    local o = {}
    for key, value in pairs(self._options) do o[key] = value end
    o.groups = arguments.groups
    self._options = o
  end
  Class.reset, Class.describe = reset, describe
  return Class
end

--- Convolution over sequences: x [batch, in, length] -> [batch, out, length'].
-- @param in_channels, out_channels, kernel_size
-- @param options { stride = 1, padding = 0, dilation = 1, groups = 1, bias = true }
convolution.Conv1d = class("Conv1d", 1, F.conv1d, false)

--- Convolution over images: x [batch, in, height, width] -> [batch, out, height', width'].
-- @param in_channels, out_channels
-- @param kernel_size a number or { height, width }
-- @param options { stride = 1, padding = 0, dilation = 1, groups = 1, bias = true }
-- @usage nn.Conv2d(3, 64, 7, { stride = 2, padding = 3, bias = false })
convolution.Conv2d = class("Conv2d", 2, F.conv2d, false)

--- Transposed convolution over images (the adjoint of Conv2d), weight [in, out / groups, kernel, kernel].
-- @param in_channels, out_channels, kernel_size
-- @param options { stride = 1, padding = 0, output_padding = 0, dilation = 1, groups = 1, bias = true }
convolution.ConvTranspose2d = class("ConvTranspose2d", 2, F.conv_transpose2d, true)

return convolution
