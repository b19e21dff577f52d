-- shufflenet.lua - ShuffleNet V2: half of the channels pass, the other half is worked on, then the channels are shuffled (Ma et al. 2018).
local nn = require "prune.nn"
local block = require "prune.models.block"
local F = nn.functional

local function pointwise(inputs, outputs) return nn.Conv2d(inputs, outputs, 1, { bias = false }) end
local function depthwise(channels, stride)
  return nn.Conv2d(channels, channels, 3, { stride = stride, padding = 1, groups = channels, bias = false })
end

-- Which channels go which way is kept as state: pruning takes channels from both halves, and from the groups of the shuffle, as it likes.
local InvertedResidual = nn.module("InvertedResidual", function(self, inputs, outputs, stride)
  local half = outputs // 2
  self.branch1 = nn.Sequential()
  if stride > 1 then
    self.branch1:append(depthwise(inputs, stride), nn.BatchNorm2d(inputs), pointwise(inputs, half), nn.BatchNorm2d(half), nn.ReLU())
  end
  self.branch2 = nn.Sequential(pointwise(stride > 1 and inputs or half, half), nn.BatchNorm2d(half), nn.ReLU(),
    depthwise(half, stride), nn.BatchNorm2d(half), pointwise(half, half), nn.BatchNorm2d(half), nn.ReLU())
  self._split = stride == 1 and { sizes = { half, half }, dim = 2 } or nil
  self._shuffle = { groups = 2 }
end)

function InvertedResidual:forward(x)
  local left, right = x, x
  if self._split then left, right = F.split(x, self._split) end
  return F.channel_shuffle(F.cat({ self.branch1(left), self.branch2(right) }, 2), self._shuffle)
end

function InvertedResidual:rewritten(operator, arguments)
  if operator == "split" then self._split = arguments end
  if operator == "channel_shuffle" then self._shuffle = arguments end
end

local ShuffleNetV2 = nn.module("ShuffleNetV2", function(self, o, widths)
  local inputs = widths[1]
  self.conv1 = block.convolution(o.channels, inputs, 3, { stride = 2, activation = nn.ReLU })
  self.maxpool = nn.MaxPool2d(3, { stride = 2, padding = 1 })
  for stage, blocks in ipairs { 4, 8, 4 } do
    local outputs, row = widths[stage + 1], nn.Sequential()
    for i = 1, blocks do
      row:append(InvertedResidual(inputs, outputs, i == 1 and 2 or 1))
      inputs = outputs
    end
    self["stage" .. stage + 1] = row
  end
  self.conv5 = block.convolution(inputs, widths[5], 1, { activation = nn.ReLU })
  self.fc = nn.Linear(widths[5], o.classes)
end)

function ShuffleNetV2:forward(x)
  x = self.stage4(self.stage3(self.stage2(self.maxpool(self.conv1(x)))))
  return self.fc(F.mean(self.conv5(x), { 3, 4 }))
end

return {
  --- ShuffleNet V2 1.0x: 16 blocks with channel shuffle in three stages of 116, 232 and 464 channels (Ma et al. 2018).
  -- @param options { classes = 1000, channels = 3 }
  -- @return module
  -- @usage local net = prune.models.shufflenet_v2_x1_0 { classes = 10 }
  shufflenet_v2_x1_0 = block.model("shufflenet_v2_x1_0", ShuffleNetV2, {}, {}, { 24, 116, 232, 464, 1024 }),
}
