-- inception.lua - Inception v3 without auxiliary head (Szegedy et al. 2015, "Rethinking the Inception Architecture for Computer Vision").
-- Names are torchvision's.
local nn = require "prune.nn"
local block = require "prune.models.block"
local F, Conv = nn.functional, block.BasicConv2d

local same = { padding = 1 }                       -- for kernels of 3
local wide, tall = { padding = { 0, 3 } }, { padding = { 3, 0 } } -- for 1x7 and 7x1
local halve = { stride = 2 }

local function average(x) return F.avg_pool2d(x, { kernel_size = 3, stride = 1, padding = 1 }) end
local function halved(x) return F.max_pool2d(x, { kernel_size = 3, stride = 2 }) end

-- Children "stem1", "stem2", ... one after the other.
local function run(self, stem, count, x)
  for i = 1, count do x = self[stem .. i](x) end
  return x
end

local A = nn.module("InceptionA", function(self, inputs, pool)
  self.branch1x1 = Conv(inputs, 64, 1)
  self.branch5x5_1 = Conv(inputs, 48, 1)
  self.branch5x5_2 = Conv(48, 64, 5, { padding = 2 })
  self.branch3x3dbl_1 = Conv(inputs, 64, 1)
  self.branch3x3dbl_2 = Conv(64, 96, 3, same)
  self.branch3x3dbl_3 = Conv(96, 96, 3, same)
  self.branch_pool = Conv(inputs, pool, 1)
end)

function A:forward(x)
  return F.cat({ self.branch1x1(x), run(self, "branch5x5_", 2, x), run(self, "branch3x3dbl_", 3, x), self.branch_pool(average(x)) }, 2)
end

local B = nn.module("InceptionB", function(self, inputs)
  self.branch3x3 = Conv(inputs, 384, 3, halve)
  self.branch3x3dbl_1 = Conv(inputs, 64, 1)
  self.branch3x3dbl_2 = Conv(64, 96, 3, same)
  self.branch3x3dbl_3 = Conv(96, 96, 3, halve)
end)

function B:forward(x) return F.cat({ self.branch3x3(x), run(self, "branch3x3dbl_", 3, x), halved(x) }, 2) end

local C = nn.module("InceptionC", function(self, inputs, width)
  self.branch1x1 = Conv(inputs, 192, 1)
  self.branch7x7_1 = Conv(inputs, width, 1)
  self.branch7x7_2 = Conv(width, width, { 1, 7 }, wide)
  self.branch7x7_3 = Conv(width, 192, { 7, 1 }, tall)
  self.branch7x7dbl_1 = Conv(inputs, width, 1)
  self.branch7x7dbl_2 = Conv(width, width, { 7, 1 }, tall)
  self.branch7x7dbl_3 = Conv(width, width, { 1, 7 }, wide)
  self.branch7x7dbl_4 = Conv(width, width, { 7, 1 }, tall)
  self.branch7x7dbl_5 = Conv(width, 192, { 1, 7 }, wide)
  self.branch_pool = Conv(inputs, 192, 1)
end)

function C:forward(x)
  return F.cat({ self.branch1x1(x), run(self, "branch7x7_", 3, x), run(self, "branch7x7dbl_", 5, x), self.branch_pool(average(x)) }, 2)
end

local D = nn.module("InceptionD", function(self, inputs)
  self.branch3x3_1 = Conv(inputs, 192, 1)
  self.branch3x3_2 = Conv(192, 320, 3, halve)
  self.branch7x7x3_1 = Conv(inputs, 192, 1)
  self.branch7x7x3_2 = Conv(192, 192, { 1, 7 }, wide)
  self.branch7x7x3_3 = Conv(192, 192, { 7, 1 }, tall)
  self.branch7x7x3_4 = Conv(192, 192, 3, halve)
end)

function D:forward(x) return F.cat({ run(self, "branch3x3_", 2, x), run(self, "branch7x7x3_", 4, x), halved(x) }, 2) end

local E = nn.module("InceptionE", function(self, inputs)
  self.branch1x1 = Conv(inputs, 320, 1)
  self.branch3x3_1 = Conv(inputs, 384, 1)
  self.branch3x3_2a = Conv(384, 384, { 1, 3 }, { padding = { 0, 1 } })
  self.branch3x3_2b = Conv(384, 384, { 3, 1 }, { padding = { 1, 0 } })
  self.branch3x3dbl_1 = Conv(inputs, 448, 1)
  self.branch3x3dbl_2 = Conv(448, 384, 3, same)
  self.branch3x3dbl_3a = Conv(384, 384, { 1, 3 }, { padding = { 0, 1 } })
  self.branch3x3dbl_3b = Conv(384, 384, { 3, 1 }, { padding = { 1, 0 } })
  self.branch_pool = Conv(inputs, 192, 1)
end)

function E:forward(x)
  local once, twice = self.branch3x3_1(x), run(self, "branch3x3dbl_", 2, x)
  local ways = F.cat({ self.branch3x3_2a(once), self.branch3x3_2b(once) }, 2)
  local more = F.cat({ self.branch3x3dbl_3a(twice), self.branch3x3dbl_3b(twice) }, 2)
  return F.cat({ self.branch1x1(x), ways, more, self.branch_pool(average(x)) }, 2)
end

-- Children in the order in which they run.
local Inception3 = nn.module("Inception3", function(self, o)
  self.Conv2d_1a_3x3 = Conv(o.channels, 32, 3, halve)
  self.Conv2d_2a_3x3 = Conv(32, 32, 3)
  self.Conv2d_2b_3x3 = Conv(32, 64, 3, same)
  self.maxpool1 = nn.MaxPool2d(3, halve)
  self.Conv2d_3b_1x1 = Conv(64, 80, 1)
  self.Conv2d_4a_3x3 = Conv(80, 192, 3)
  self.maxpool2 = nn.MaxPool2d(3, halve)
  self.Mixed_5b = A(192, 32)
  self.Mixed_5c = A(256, 64)
  self.Mixed_5d = A(288, 64)
  self.Mixed_6a = B(288)
  self.Mixed_6b = C(768, 128)
  self.Mixed_6c = C(768, 160)
  self.Mixed_6d = C(768, 160)
  self.Mixed_6e = C(768, 192)
  self.Mixed_7a = D(768)
  self.Mixed_7b = E(1280)
  self.Mixed_7c = E(2048)
  self.avgpool = nn.AdaptiveAvgPool2d(1)
  self.dropout = nn.Dropout(o.dropout)
  self.flatten = nn.Flatten()
  self.fc = nn.Linear(2048, o.classes)
end)

Inception3.forward = block.Chain.forward

-- Torchvision truncates at two, which is 20 standard deviations away.
local rules = block.normal_weights(0.1)

return {
  --- Inception v3: 11 blocks of parallel branches with factorised convolutions (Szegedy et al. 2015), one classifier, for images of 75x75
  -- and more (trained on 299x299).
  -- @param options { classes = 1000, channels = 3, dropout = 0.5 }
  -- @return module
  -- @usage local net = prune.models.inception_v3 { classes = 10 }
  inception_v3 = block.model("inception_v3", Inception3, rules, { dropout = 0.5 }),
}
