-- googlenet.lua - GoogLeNet with batch norm and without auxiliary heads (Szegedy et al. 2014). As in torchvision, whose weights this
-- serves, the paper's 5x5 convolutions are 3x3.
local nn = require "prune.nn"
local block = require "prune.models.block"
local Conv = block.BasicConv2d

local Inception = nn.module("Inception", function(self, inputs, one, reduce3, three, reduce5, five, pool)
  self.branch1 = Conv(inputs, one, 1)
  self.branch2 = nn.Sequential(Conv(inputs, reduce3, 1), Conv(reduce3, three, 3, { padding = 1 }))
  self.branch3 = nn.Sequential(Conv(inputs, reduce5, 1), Conv(reduce5, five, 3, { padding = 1 }))
  self.branch4 = nn.Sequential(nn.MaxPool2d(3, { stride = 1, padding = 1, ceil_mode = true }), Conv(inputs, pool, 1))
end)

function Inception:forward(x)
  return nn.functional.cat({ self.branch1(x), self.branch2(x), self.branch3(x), self.branch4(x) }, 2)
end

local function halve(kernel) return nn.MaxPool2d(kernel, { stride = 2, ceil_mode = true }) end

-- Children in the order in which they run.
local GoogLeNet = nn.module("GoogLeNet", function(self, o)
  self.conv1 = Conv(o.channels, 64, 7, { stride = 2, padding = 3 })
  self.maxpool1 = halve(3)
  self.conv2 = Conv(64, 64, 1)
  self.conv3 = Conv(64, 192, 3, { padding = 1 })
  self.maxpool2 = halve(3)
  self.inception3a = Inception(192, 64, 96, 128, 16, 32, 32)
  self.inception3b = Inception(256, 128, 128, 192, 32, 96, 64)
  self.maxpool3 = halve(3)
  self.inception4a = Inception(480, 192, 96, 208, 16, 48, 64)
  self.inception4b = Inception(512, 160, 112, 224, 24, 64, 64)
  self.inception4c = Inception(512, 128, 128, 256, 24, 64, 64)
  self.inception4d = Inception(512, 112, 144, 288, 32, 64, 64)
  self.inception4e = Inception(528, 256, 160, 320, 32, 128, 128)
  self.maxpool4 = halve(2)
  self.inception5a = Inception(832, 256, 160, 320, 32, 128, 128)
  self.inception5b = Inception(832, 384, 192, 384, 48, 128, 128)
  self.avgpool = nn.AdaptiveAvgPool2d(1)
  self.flatten = nn.Flatten()
  self.dropout = nn.Dropout(o.dropout)
  self.fc = nn.Linear(1024, o.classes)
end)

GoogLeNet.forward = block.Chain.forward

-- Torchvision truncates at two, which is 200 standard deviations away.
local rules = block.normal_weights(0.01)

return {
  --- GoogLeNet: 9 inception blocks of four branches (Szegedy et al. 2014), with batch norm and one classifier, for images of 15x15 and more.
  -- @param options { classes = 1000, channels = 3, dropout = 0.2 }
  -- @return module
  -- @usage local net = prune.models.googlenet { classes = 10 }
  googlenet = block.model("googlenet", GoogLeNet, rules, { dropout = 0.2 }),
}
