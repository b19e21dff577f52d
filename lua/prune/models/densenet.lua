-- densenet.lua - DenseNet-BC: every layer reads the outputs of all layers before it in its block (Huang et al. 2017).
local nn = require "prune.nn"
local block = require "prune.models.block"
local F = nn.functional

local GROWTH, BOTTLENECK = 32, 4 * 32 -- channels that a layer adds; of its 1x1 convolution

local DenseLayer = nn.module("DenseLayer", function(self, inputs)
  self.norm1 = nn.BatchNorm2d(inputs)
  self.conv1 = nn.Conv2d(inputs, BOTTLENECK, 1, { bias = false })
  self.norm2 = nn.BatchNorm2d(BOTTLENECK)
  self.conv2 = nn.Conv2d(BOTTLENECK, GROWTH, 3, { padding = 1, bias = false })
end)

function DenseLayer:forward(x) return self.conv2(F.relu(self.norm2(self.conv1(F.relu(self.norm1(x)))))) end

local DenseBlock = nn.module("DenseBlock", function(self, inputs, layers)
  for i = 1, layers do self["denselayer" .. i] = DenseLayer(inputs + (i - 1) * GROWTH) end
end)

function DenseBlock:forward(x)
  local features = { x }
  for _, layer in self:children() do features[#features + 1] = layer(F.cat(features, 2)) end
  return F.cat(features, 2)
end

local function transition(inputs)
  return block.Chain { { "norm", nn.BatchNorm2d(inputs) }, { "relu", nn.ReLU() },
    { "conv", nn.Conv2d(inputs, inputs // 2, 1, { bias = false }) }, { "pool", nn.AvgPool2d(2) } }
end

local DenseNet = nn.module("DenseNet", function(self, o, layers)
  local width = 64
  self.features = block.Chain { { "conv0", nn.Conv2d(o.channels, width, 7, { stride = 2, padding = 3, bias = false }) },
    { "norm0", nn.BatchNorm2d(width) }, { "relu0", nn.ReLU() }, { "pool0", nn.MaxPool2d(3, { stride = 2, padding = 1 }) } }
  for i, count in ipairs(layers) do
    self.features["denseblock" .. i] = DenseBlock(width, count)
    width = width + count * GROWTH
    if i < #layers then
      self.features["transition" .. i] = transition(width)
      width = width // 2
    end
  end
  self.features.norm5 = nn.BatchNorm2d(width)
  self.classifier = nn.Linear(width, o.classes)
end)

function DenseNet:forward(x) return self.classifier(block.global_average(F.relu(self.features(x)))) end

local rules = {
  Conv2d = block.fill(nn.init.kaiming_normal),
  Linear = block.fill(nn.init.default),
}

return {
  --- DenseNet-121: dense blocks of 6, 12, 24 and 16 layers that add 32 channels each (Huang et al. 2017), for images of 29x29 and more.
  -- @param options { classes = 1000, channels = 3 }
  -- @return module
  -- @usage local net = prune.models.densenet121 { classes = 10 }
  densenet121 = block.model("densenet121", DenseNet, rules, {}, { 6, 12, 24, 16 }),
}
