-- efficientnet.lua - EfficientNet: inverted residuals with squeeze and excitation, found by a search (Tan and Le 2019).
local nn = require "prune.nn"
local block = require "prune.models.block"

-- Table 1 of the paper: expansion, kernel, stride of the first block, channels, blocks.
local stages = {
  { 1, 3, 1, 16, 1 }, { 6, 3, 2, 24, 2 }, { 6, 5, 2, 40, 2 }, { 6, 3, 2, 80, 3 }, { 6, 5, 1, 112, 3 }, { 6, 5, 2, 192, 4 },
  { 6, 3, 1, 320, 1 },
}
local BLOCKS = 16

local MBConv = nn.module("MBConv", function(self, inputs, outputs, expansion, kernel, stride, drop)
  local wide = inputs * expansion
  self.block = nn.Sequential()
  if expansion ~= 1 then self.block:append(block.convolution(inputs, wide, 1, { activation = nn.SiLU })) end
  self.block:append(block.convolution(wide, wide, kernel, { stride = stride, groups = wide, activation = nn.SiLU }),
    block.SqueezeExcitation(wide, math.max(1, inputs // 4), nn.SiLU), block.convolution(wide, outputs, 1, {}))
  self.stochastic_depth = nn.StochasticDepth(drop)
  self._residual = stride == 1 and inputs == outputs
end)

function MBConv:forward(x)
  local y = self.block(x)
  return self._residual and self.stochastic_depth(y) + x or y
end

local EfficientNet = nn.module("EfficientNet", function(self, o)
  local inputs, done = 32, 0
  self.features = nn.Sequential(block.convolution(o.channels, inputs, 3, { stride = 2, activation = nn.SiLU }))
  for _, stage in ipairs(stages) do
    local expansion, kernel, stride, outputs, blocks = table.unpack(stage)
    local row = nn.Sequential()
    for i = 1, blocks do
      row:append(MBConv(inputs, outputs, expansion, kernel, i == 1 and stride or 1, o.stochastic_depth * done / BLOCKS))
      inputs, done = outputs, done + 1
    end
    self.features:append(row)
  end
  self.features:append(block.convolution(inputs, 4 * inputs, 1, { activation = nn.SiLU }))
  self.classifier = nn.Sequential(nn.Dropout(o.dropout), nn.Linear(4 * inputs, o.classes))
end)

function EfficientNet:forward(x) return self.classifier(block.global_average(self.features(x))) end

local function by_outputs(weight)
  local bound = 1 / math.sqrt(weight:size(1))
  nn.init.uniform(weight, -bound, bound)
end

return {
  --- EfficientNet-B0: 16 inverted residual blocks with squeeze and excitation (Tan and Le 2019). stochastic_depth is the share of samples
  -- for which the last block is left out while training; earlier ones less.
  -- @param options { classes = 1000, channels = 3, dropout = 0.2, stochastic_depth = 0.2 }
  -- @return module
  -- @usage local net = prune.models.efficientnet_b0 { classes = 10 }
  efficientnet_b0 = block.model("efficientnet_b0", EfficientNet, { Conv2d = block.fan_out, Linear = block.fill(by_outputs) },
    { dropout = 0.2, stochastic_depth = 0.2 }),
}
