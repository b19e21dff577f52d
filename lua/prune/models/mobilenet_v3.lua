-- mobilenet_v3.lua - MobileNetV3: inverted residuals with squeeze and excitation and hard swish (Howard et al. 2019).
local nn = require "prune.nn"
local block = require "prune.models.block"

local norm = { eps = 0.001, momentum = 0.01 }

-- Tables 1 and 2 of the paper: kernel, expanded channels, channels, squeeze and excitation, hard swish, stride.
local large = {
  { 3, 16, 16, false, false, 1 }, { 3, 64, 24, false, false, 2 }, { 3, 72, 24, false, false, 1 }, { 5, 72, 40, true, false, 2 },
  { 5, 120, 40, true, false, 1 }, { 5, 120, 40, true, false, 1 }, { 3, 240, 80, false, true, 2 }, { 3, 200, 80, false, true, 1 },
  { 3, 184, 80, false, true, 1 }, { 3, 184, 80, false, true, 1 }, { 3, 480, 112, true, true, 1 }, { 3, 672, 112, true, true, 1 },
  { 5, 672, 160, true, true, 2 }, { 5, 960, 160, true, true, 1 }, { 5, 960, 160, true, true, 1 }, last = 1280,
}
local small = {
  { 3, 16, 16, true, false, 2 }, { 3, 72, 24, false, false, 2 }, { 3, 88, 24, false, false, 1 }, { 5, 96, 40, true, true, 2 },
  { 5, 240, 40, true, true, 1 }, { 5, 240, 40, true, true, 1 }, { 5, 120, 48, true, true, 1 }, { 5, 144, 48, true, true, 1 },
  { 5, 288, 96, true, true, 2 }, { 5, 576, 96, true, true, 1 }, { 5, 576, 96, true, true, 1 }, last = 1024,
}

local InvertedResidual = nn.module("InvertedResidual", function(self, inputs, row)
  local kernel, wide, outputs, squeeze, hard_swish, stride = table.unpack(row)
  local activation = hard_swish and nn.Hardswish or nn.ReLU
  self.block = nn.Sequential()
  if wide ~= inputs then self.block:append(block.convolution(inputs, wide, 1, { norm = norm, activation = activation })) end
  self.block:append(block.convolution(wide, wide, kernel, { stride = stride, groups = wide, norm = norm, activation = activation }))
  if squeeze then
    self.block:append(block.SqueezeExcitation(wide, block.multiple_of_8(wide // 4), nn.ReLU, nn.Hardsigmoid))
  end
  self.block:append(block.convolution(wide, outputs, 1, { norm = norm }))
  self._residual = stride == 1 and inputs == outputs
end)

function InvertedResidual:forward(x)
  local y = self.block(x)
  return self._residual and y + x or y
end

local MobileNetV3 = nn.module("MobileNetV3", function(self, o, rows)
  local inputs = 16
  self.features = nn.Sequential(block.convolution(o.channels, inputs, 3, { stride = 2, norm = norm, activation = nn.Hardswish }))
  for _, row in ipairs(rows) do
    self.features:append(InvertedResidual(inputs, row))
    inputs = row[3]
  end
  self.features:append(block.convolution(inputs, 6 * inputs, 1, { norm = norm, activation = nn.Hardswish }))
  self.classifier = nn.Sequential(nn.Linear(6 * inputs, rows.last), nn.Hardswish(), nn.Dropout(o.dropout),
    nn.Linear(rows.last, o.classes))
end)

function MobileNetV3:forward(x) return self.classifier(block.global_average(self.features(x))) end

local function builder(name, rows)
  return block.model(name, MobileNetV3, { Conv2d = block.fan_out, Linear = block.normal }, { dropout = 0.2 }, rows)
end

return {
  --- MobileNetV3 small: 11 inverted residual blocks, 9 with squeeze and excitation (Howard et al. 2019).
  -- @param options { classes = 1000, channels = 3, dropout = 0.2 }
  -- @return module
  -- @usage local net = prune.models.mobilenet_v3_small { classes = 10 }
  mobilenet_v3_small = builder("mobilenet_v3_small", small),
  --- MobileNetV3 large: 15 inverted residual blocks, 8 with squeeze and excitation (Howard et al. 2019).
  -- @param options { classes = 1000, channels = 3, dropout = 0.2 }
  -- @return module
  -- @usage local net = prune.models.mobilenet_v3_large { classes = 10 }
  mobilenet_v3_large = builder("mobilenet_v3_large", large),
}
