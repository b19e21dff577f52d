-- resnet.lua - residual networks (He et al. 2015), ResNeXt (Xie et al. 2017), wide ResNet (Zagoruyko and Komodakis 2016).
local nn = require "prune.nn"
local block = require "prune.models.block"
local F = nn.functional

local function conv(inputs, outputs, kernel, given)
  given = given or {}
  given.bias = false
  given.padding = given.padding or kernel // 2
  return nn.Conv2d(inputs, outputs, kernel, given)
end

local function shortcut(inputs, outputs, stride)
  if stride == 1 and inputs == outputs then return nil end
  return nn.Sequential(conv(inputs, outputs, 1, { stride = stride }), nn.BatchNorm2d(outputs))
end

local BasicBlock = nn.module("BasicBlock", function(self, inputs, planes, stride)
  self.conv1 = conv(inputs, planes, 3, { stride = stride })
  self.bn1 = nn.BatchNorm2d(planes)
  self.relu = nn.ReLU()
  self.conv2 = conv(planes, planes, 3)
  self.bn2 = nn.BatchNorm2d(planes)
  self.downsample = shortcut(inputs, planes, stride)
end)
BasicBlock.expansion = 1

function BasicBlock:forward(x)
  local y = self.relu(self.bn1(self.conv1(x)))
  y = self.bn2(self.conv2(y))
  local identity = self.downsample and self.downsample(x) or x
  return self.relu(y + identity)
end

local Bottleneck = nn.module("Bottleneck", function(self, inputs, planes, stride, how)
  local width = planes * how.width_per_group // 64 * how.groups
  self.conv1 = conv(inputs, width, 1)
  self.bn1 = nn.BatchNorm2d(width)
  self.conv2 = conv(width, width, 3, { stride = stride, groups = how.groups })
  self.bn2 = nn.BatchNorm2d(width)
  self.conv3 = conv(width, planes * 4, 1)
  self.bn3 = nn.BatchNorm2d(planes * 4)
  self.relu = nn.ReLU()
  self.downsample = shortcut(inputs, planes * 4, stride)
end)
Bottleneck.expansion = 4

function Bottleneck:forward(x)
  local y = self.relu(self.bn1(self.conv1(x)))
  y = self.relu(self.bn2(self.conv2(y)))
  y = self.bn3(self.conv3(y))
  local identity = self.downsample and self.downsample(x) or x
  return self.relu(y + identity)
end

local ResNet = nn.module("ResNet", function(self, o, Block, layers, groups, width)
  local how = { groups = groups or 1, width_per_group = width or 64 }
  self.conv1 = conv(o.channels, 64, 7, { stride = 2 })
  self.bn1 = nn.BatchNorm2d(64)
  self.relu = nn.ReLU()
  self.maxpool = nn.MaxPool2d(3, { stride = 2, padding = 1 })
  local inputs = 64
  for stage, count in ipairs(layers) do
    local planes, blocks = 64 << (stage - 1), nn.Sequential()
    for i = 1, count do
      blocks:append(Block(inputs, planes, i == 1 and stage > 1 and 2 or 1, how))
      inputs = planes * Block.expansion
    end
    self["layer" .. stage] = blocks
  end
  self.avgpool = nn.AdaptiveAvgPool2d(1)
  self.fc = nn.Linear(inputs, o.classes)
end)

function ResNet:forward(x)
  x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
  x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
  return self.fc(F.flatten(self.avgpool(x), 2))
end

local function builder(name, ...) return block.model(name, ResNet, { Conv2d = block.fan_out }, {}, ...) end

return {
  --- ResNet-18: 8 basic blocks of two 3x3 convolutions in 4 stages (He et al. 2015); 7x7 stride 2 and max-pooling before them.
  -- @param options { classes = 1000, channels = 3 }
  -- @return module
  -- @usage local net = prune.models.resnet18 { classes = 10 }
  resnet18 = builder("resnet18", BasicBlock, { 2, 2, 2, 2 }),
  --- ResNet-34: 16 basic blocks of two 3x3 convolutions in 4 stages (He et al. 2015).
  -- @param options { classes = 1000, channels = 3 }
  -- @return module
  -- @usage local net = prune.models.resnet34 { classes = 10 }
  resnet34 = builder("resnet34", BasicBlock, { 3, 4, 6, 3 }),
  --- ResNet-50: 16 bottleneck blocks (1x1, 3x3, 1x1) in 4 stages (He et al. 2015), the stride in the 3x3 convolution.
  -- @param options { classes = 1000, channels = 3 }
  -- @return module
  -- @usage local net = prune.models.resnet50 { classes = 10 }
  resnet50 = builder("resnet50", Bottleneck, { 3, 4, 6, 3 }),
  --- ResNet-101: 33 bottleneck blocks (1x1, 3x3, 1x1) in 4 stages (He et al. 2015).
  -- @param options { classes = 1000, channels = 3 }
  -- @return module
  -- @usage local net = prune.models.resnet101 { classes = 10 }
  resnet101 = builder("resnet101", Bottleneck, { 3, 4, 23, 3 }),
  --- ResNeXt-50 32x4d: bottleneck blocks whose 3x3 convolutions have 32 groups of 4 channels (Xie et al. 2017).
  -- @param options { classes = 1000, channels = 3 }
  -- @return module
  -- @usage local net = prune.models.resnext50_32x4d { classes = 10 }
  resnext50_32x4d = builder("resnext50_32x4d", Bottleneck, { 3, 4, 6, 3 }, 32, 4),
  --- Wide ResNet-50-2: ResNet-50 with 3x3 convolutions twice as wide (Zagoruyko and Komodakis 2016).
  -- @param options { classes = 1000, channels = 3 }
  -- @return module
  -- @usage local net = prune.models.wide_resnet50_2 { classes = 10 }
  wide_resnet50_2 = builder("wide_resnet50_2", Bottleneck, { 3, 4, 6, 3 }, 1, 128),
}
