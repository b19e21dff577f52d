-- resnet_cifar.lua - residual networks for 32x32 images (He et al. 2015, section 4.2): 6n + 2 layers in three stages of 16, 32 and 64
-- channels, with a 1x1 convolution and batch norm where the shape changes (the paper's option B; its tables use zero padding, option A).
local nn = require "prune.nn"
local options = require "prune.options"
local F = nn.functional

local Block = nn.module("BasicBlock", function(self, inputs, planes, stride)
  self.conv1 = nn.Conv2d(inputs, planes, 3, { stride = stride, padding = 1, bias = false })
  self.bn1 = nn.BatchNorm2d(planes)
  self.conv2 = nn.Conv2d(planes, planes, 3, { padding = 1, bias = false })
  self.bn2 = nn.BatchNorm2d(planes)
  if stride ~= 1 or inputs ~= planes then
    self.downsample = nn.Sequential(nn.Conv2d(inputs, planes, 1, { stride = stride, bias = false }), nn.BatchNorm2d(planes))
  end
end)

function Block:forward(x)
  local y = F.relu(self.bn1(self.conv1(x)))
  y = self.bn2(self.conv2(y))
  return F.relu(y + (self.downsample and self.downsample(x) or x))
end

local ResNet = nn.module("CifarResNet", function(self, blocks, o)
  local inputs = o.width
  self.conv1 = nn.Conv2d(o.channels, inputs, 3, { padding = 1, bias = false })
  self.bn1 = nn.BatchNorm2d(inputs)
  for stage = 1, 3 do
    local planes, layer = o.width << (stage - 1), nn.Sequential()
    for i = 1, blocks do
      layer:append(Block(inputs, planes, i == 1 and stage > 1 and 2 or 1))
      inputs = planes
    end
    self["layer" .. stage] = layer
  end
  self.fc = nn.Linear(inputs, o.classes)
  for convolution in self:each "Conv2d" do nn.init.kaiming_normal(convolution.weight, { mode = "fan_out" }) end
end)

function ResNet:forward(x)
  x = F.relu(self.bn1(self.conv1(x)))
  x = self.layer3(self.layer2(self.layer1(x)))
  return self.fc(F.flatten(F.adaptive_avg_pool2d(x, { output_size = 1 }), 2))
end

local function builder(name, blocks)
  local where = "prune.models." .. name
  return function(given)
    local o = options.check(where, given, { classes = 10, channels = 3, width = 16 })
    for _, option in ipairs { "classes", "channels", "width" } do options.count(where, option, o[option]) end
    return ResNet(blocks, o)
  end
end

return {
  --- ResNet-20 for 32x32 images: 9 basic blocks in three stages of width, 2 width, 4 width channels (He et al. 2015, section 4.2;
  -- shortcuts of changing shape are 1x1 convolutions with batch norm).
  -- @param options { classes = 10, channels = 3, width = 16 }
  -- @return module
  -- @usage local net = prune.models.resnet20 { classes = 10 }
  resnet20 = builder("resnet20", 3),
  --- ResNet-56 for 32x32 images: 27 basic blocks in three stages of width, 2 width, 4 width channels (He et al. 2015, section 4.2;
  -- shortcuts of changing shape are 1x1 convolutions with batch norm).
  -- @param options { classes = 10, channels = 3, width = 16 }
  -- @return module
  -- @usage local net = prune.models.resnet56 { classes = 10 }
  resnet56 = builder("resnet56", 9),
}
