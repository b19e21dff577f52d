-- mobilenet_v2.lua - MobileNetV2: inverted residuals with linear bottlenecks (Sandler et al. 2018).
local nn = require "prune.nn"
local block = require "prune.models.block"

-- Table 2 of the paper: expansion, channels, blocks, stride of the first.
local stages = {
  { 1, 16, 1, 1 }, { 6, 24, 2, 2 }, { 6, 32, 3, 2 }, { 6, 64, 4, 2 }, { 6, 96, 3, 1 }, { 6, 160, 3, 2 }, { 6, 320, 1, 1 },
}

local InvertedResidual = nn.module("InvertedResidual", function(self, inputs, outputs, stride, expansion)
  local wide = inputs * expansion
  self.conv = nn.Sequential()
  if expansion ~= 1 then self.conv:append(block.convolution(inputs, wide, 1, { activation = nn.ReLU6 })) end
  self.conv:append(block.convolution(wide, wide, 3, { stride = stride, groups = wide, activation = nn.ReLU6 }),
    nn.Conv2d(wide, outputs, 1, { bias = false }), nn.BatchNorm2d(outputs))
  self._residual = stride == 1 and inputs == outputs
end)

function InvertedResidual:forward(x)
  local y = self.conv(x)
  return self._residual and x + y or y
end

local MobileNetV2 = nn.module("MobileNetV2", function(self, o)
  self.features = nn.Sequential(block.convolution(o.channels, 32, 3, { stride = 2, activation = nn.ReLU6 }))
  local inputs = 32
  for _, stage in ipairs(stages) do
    local expansion, outputs, blocks, stride = table.unpack(stage)
    for i = 1, blocks do
      self.features:append(InvertedResidual(inputs, outputs, i == 1 and stride or 1, expansion))
      inputs = outputs
    end
  end
  self.features:append(block.convolution(inputs, 1280, 1, { activation = nn.ReLU6 }))
  self.classifier = nn.Sequential(nn.Dropout(o.dropout), nn.Linear(1280, o.classes))
end)

function MobileNetV2:forward(x) return self.classifier(block.global_average(self.features(x))) end

return {
  --- MobileNetV2: 17 inverted residual blocks of 1x1, depthwise 3x3 and linear 1x1 convolutions (Sandler et al. 2018).
  -- @param options { classes = 1000, channels = 3, dropout = 0.2 }
  -- @return module
  -- @usage local net = prune.models.mobilenet_v2 { classes = 10 }
  mobilenet_v2 = block.model("mobilenet_v2", MobileNetV2, { Conv2d = block.fan_out, Linear = block.normal }, { dropout = 0.2 }),
}
