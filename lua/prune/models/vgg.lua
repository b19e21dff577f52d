-- vgg.lua - VGG networks with and without batch norm (Simonyan and Zisserman 2014).
local nn = require "prune.nn"
local block = require "prune.models.block"
local F = nn.functional

local layers = {
  [11] = { 64, "M", 128, "M", 256, 256, "M", 512, 512, "M", 512, 512, "M" },
  [13] = { 64, 64, "M", 128, 128, "M", 256, 256, "M", 512, 512, "M", 512, 512, "M" },
  [16] = { 64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 512, "M" },
  [19] = { 64, 64, "M", 128, 128, "M", 256, 256, 256, 256, "M", 512, 512, 512, 512, "M", 512, 512, 512, 512, "M" },
}

local VGG = nn.module("VGG", function(self, o, plan, batch_norm)
  self.features = nn.Sequential()
  local inputs = o.channels
  for _, width in ipairs(plan) do
    if width == "M" then
      self.features:append(nn.MaxPool2d(2))
    else
      self.features:append(nn.Conv2d(inputs, width, 3, { padding = 1 }))
      if batch_norm then self.features:append(nn.BatchNorm2d(width)) end
      self.features:append(nn.ReLU())
      inputs = width
    end
  end
  self.avgpool = nn.AdaptiveAvgPool2d(7)
  self.classifier = nn.Sequential(nn.Linear(inputs * 49, 4096), nn.ReLU(), nn.Dropout(o.dropout), nn.Linear(4096, 4096), nn.ReLU(),
    nn.Dropout(o.dropout), nn.Linear(4096, o.classes))
end)

function VGG:forward(x) return self.classifier(F.flatten(self.avgpool(self.features(x)), 2)) end

local function builder(depth, suffix)
  return block.model("vgg" .. depth .. suffix, VGG, { Conv2d = block.fan_out, Linear = block.normal }, { dropout = 0.5 }, layers[depth],
    suffix == "_bn")
end

return {
  --- VGG-11: 8 convolutions, 3 linear layers (Simonyan and Zisserman 2014).
  -- @param options { classes = 1000, channels = 3, dropout = 0.5 }
  -- @return module
  -- @usage local net = prune.models.vgg11 { classes = 10 }
  vgg11 = builder(11, ""),
  --- VGG-11 with batch norm: 8 convolutions, 3 linear layers (Simonyan and Zisserman 2014).
  -- @param options { classes = 1000, channels = 3, dropout = 0.5 }
  -- @return module
  -- @usage local net = prune.models.vgg11_bn { classes = 10 }
  vgg11_bn = builder(11, "_bn"),
  --- VGG-13: 10 convolutions, 3 linear layers (Simonyan and Zisserman 2014).
  -- @param options { classes = 1000, channels = 3, dropout = 0.5 }
  -- @return module
  -- @usage local net = prune.models.vgg13 { classes = 10 }
  vgg13 = builder(13, ""),
  --- VGG-13 with batch norm: 10 convolutions, 3 linear layers (Simonyan and Zisserman 2014).
  -- @param options { classes = 1000, channels = 3, dropout = 0.5 }
  -- @return module
  -- @usage local net = prune.models.vgg13_bn { classes = 10 }
  vgg13_bn = builder(13, "_bn"),
  --- VGG-16: 13 convolutions, 3 linear layers (Simonyan and Zisserman 2014).
  -- @param options { classes = 1000, channels = 3, dropout = 0.5 }
  -- @return module
  -- @usage local net = prune.models.vgg16 { classes = 10 }
  vgg16 = builder(16, ""),
  --- VGG-16 with batch norm: 13 convolutions, 3 linear layers (Simonyan and Zisserman 2014).
  -- @param options { classes = 1000, channels = 3, dropout = 0.5 }
  -- @return module
  -- @usage local net = prune.models.vgg16_bn { classes = 10 }
  vgg16_bn = builder(16, "_bn"),
  --- VGG-19: 16 convolutions, 3 linear layers (Simonyan and Zisserman 2014).
  -- @param options { classes = 1000, channels = 3, dropout = 0.5 }
  -- @return module
  -- @usage local net = prune.models.vgg19 { classes = 10 }
  vgg19 = builder(19, ""),
  --- VGG-19 with batch norm: 16 convolutions, 3 linear layers (Simonyan and Zisserman 2014).
  -- @param options { classes = 1000, channels = 3, dropout = 0.5 }
  -- @return module
  -- @usage local net = prune.models.vgg19_bn { classes = 10 }
  vgg19_bn = builder(19, "_bn"),
}
