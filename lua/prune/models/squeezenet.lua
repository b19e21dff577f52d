-- squeezenet.lua - SqueezeNet: fire modules, which squeeze by 1x1 and expand by 1x1 and 3x3 convolutions (Iandola et al. 2016).
local nn = require "prune.nn"
local block = require "prune.models.block"
local F = nn.functional

local Fire = nn.module("Fire", function(self, inputs, squeezed, expanded)
  self.squeeze = nn.Conv2d(inputs, squeezed, 1)
  self.expand1x1 = nn.Conv2d(squeezed, expanded, 1)
  self.expand3x3 = nn.Conv2d(squeezed, expanded, 3, { padding = 1 })
end)

function Fire:forward(x)
  x = F.relu(self.squeeze(x))
  return F.cat({ F.relu(self.expand1x1(x)), F.relu(self.expand3x3(x)) }, 2)
end

local function halve() return nn.MaxPool2d(3, { stride = 2, ceil_mode = true }) end

local SqueezeNet = nn.module("SqueezeNet", function(self, o)
  self.features = nn.Sequential(nn.Conv2d(o.channels, 64, 3, { stride = 2 }), nn.ReLU(), halve(),
    Fire(64, 16, 64), Fire(128, 16, 64), halve(),
    Fire(128, 32, 128), Fire(256, 32, 128), halve(),
    Fire(256, 48, 192), Fire(384, 48, 192), Fire(384, 64, 256), Fire(512, 64, 256))
  self.classifier = nn.Sequential(nn.Dropout(o.dropout), nn.Conv2d(512, o.classes, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
end)

function SqueezeNet:forward(x) return F.flatten(self.classifier(self.features(x)), 2) end

local fill = block.fill(nn.init.kaiming_uniform)

local function fill_by_place(layer, path) return (path == "classifier.1" and block.normal or fill)(layer) end

return {
  --- SqueezeNet 1.1: 8 fire modules (Iandola et al. 2016; the variant with 2.4 times less computation), for images of 17x17 and more.
  -- @param options { classes = 1000, channels = 3, dropout = 0.5 }
  -- @return module
  -- @usage local net = prune.models.squeezenet1_1 { classes = 10 }
  squeezenet1_1 = block.model("squeezenet1_1", SqueezeNet, { Conv2d = fill_by_place }, { dropout = 0.5 }),
}
