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

-- Convolutions 3x3 with ReLU and pooling between; and their output channels.
local function features(inputs, plan, batch_norm)
  local list = nn.Sequential()
  for _, width in ipairs(plan) do
    if width == "M" then
      list:append(nn.MaxPool2d(2))
    else
      list:append(nn.Conv2d(inputs, width, 3, { padding = 1 }))
      if batch_norm then list:append(nn.BatchNorm2d(width)) end
      list:append(nn.ReLU())
      inputs = width
    end
  end
  return list, inputs
end

local VGG = nn.module("VGG", function(self, o, plan, batch_norm)
  local inputs
  self.features, inputs = features(o.channels, plan, batch_norm)
  self.avgpool = nn.AdaptiveAvgPool2d(7)
  self.classifier = nn.Sequential(nn.Linear(inputs * 49, 4096), nn.ReLU(), nn.Dropout(o.dropout), nn.Linear(4096, 4096), nn.ReLU(),
    nn.Dropout(o.dropout), nn.Linear(4096, o.classes))
end)

function VGG:forward(x) return self.classifier(F.flatten(self.avgpool(self.features(x)), 2)) end

-- For 32x32 images: batch norm everywhere, and one linear layer behind the 1x1 pixels that are left.
local CifarVGG = nn.module("CifarVGG", function(self, o, plan)
  local inputs
  self.features, inputs = features(o.channels, plan, true)
  self.classifier = nn.Linear(inputs, o.classes)
end)

function CifarVGG:forward(x) return self.classifier(block.global_average(self.features(x))) end

local function cifar(depth)
  return block.model("vgg" .. depth .. "_cifar", CifarVGG, { Conv2d = block.fan_out }, { classes = 10 }, layers[depth])
end

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
  --- VGG-16 for 32x32 images: 13 convolutions with batch norm, one linear layer (Simonyan and Zisserman 2014; the form for CIFAR is that of
  -- Li et al. 2017, "Pruning filters for efficient ConvNets", with a single linear layer).
  -- @param options { classes = 10, channels = 3 }
  -- @return module
  -- @usage local net = prune.models.vgg16_cifar { classes = 10 }
  vgg16_cifar = cifar(16),
  --- VGG-19 for 32x32 images: 16 convolutions with batch norm, one linear layer (Simonyan and Zisserman 2014; network slimming, Liu et al.
  -- 2017, prunes this form).
  -- @param options { classes = 10, channels = 3 }
  -- @return module
  -- @usage local net = prune.models.vgg19_cifar { classes = 10 }
  vgg19_cifar = cifar(19),
}
