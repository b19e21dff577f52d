-- convnext.lua - ConvNeXt (Liu et al. 2022, "A ConvNet for the 2020s").
local core = require "prune.core"
local nn = require "prune.nn"
local options = require "prune.options"

local to_last, to_second = { 1, 3, 4, 2 }, { 1, 4, 2, 3 } -- channels

local LayerNorm2d = nn.module("LayerNorm2d", function(self, channels)
  nn.LayerNorm._constructor(self, channels, { eps = 1e-6 })
end, nn.LayerNorm)

function LayerNorm2d:forward(x) return nn.LayerNorm.forward(self, x:permute(to_last)):permute(to_second) end

local Block = nn.module("CNBlock", function(self, width, drop)
  self.layer_scale = nn.Parameter(core.full({ width, 1, 1 }, 1e-6))
  self.block = nn.Sequential(nn.Conv2d(width, width, 7, { padding = 3, groups = width }), nn.Permute(to_last),
    nn.LayerNorm(width, { eps = 1e-6 }), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width), nn.Permute(to_second))
  self.stochastic_depth = nn.StochasticDepth(drop)
end)

function Block:forward(x) return self.stochastic_depth(self.block(x) * self.layer_scale) + x end

local ConvNeXt = nn.module("ConvNeXt", function(self, widths, depths, o)
  local total, done = 0, 0
  for _, depth in ipairs(depths) do total = total + depth end
  self.features = nn.Sequential(nn.Sequential(nn.Conv2d(o.channels, widths[1], 4, { stride = 4 }), LayerNorm2d(widths[1])))
  for i, width in ipairs(widths) do
    local stage = nn.Sequential()
    for _ = 1, depths[i] do
      stage:append(Block(width, o.stochastic_depth * done / (total - 1)))
      done = done + 1
    end
    self.features:append(stage)
    if widths[i + 1] then
      self.features:append(nn.Sequential(LayerNorm2d(width), nn.Conv2d(width, widths[i + 1], 2, { stride = 2 })))
    end
  end
  self.avgpool = nn.AdaptiveAvgPool2d(1)
  self.classifier = nn.Sequential(LayerNorm2d(widths[#widths]), nn.Flatten(), nn.Linear(widths[#widths], o.classes))
  for _, class in ipairs { "Conv2d", "Linear" } do
    for layer in self:each(class) do
      nn.init.truncated_normal(layer.weight, 0, 0.02)
      layer.bias:fill(0)
    end
  end
end)

function ConvNeXt:forward(x) return self.classifier(self.avgpool(self.features(x))) end

return {
  --- ConvNeXt-T: four stages of 3, 3, 9, 3 blocks with 96, 192, 384, 768 channels; a block is a depthwise 7x7 convolution, layer norm and
  -- two linear layers, scaled per channel (Liu et al. 2022). Takes images of at least 32x32.
  -- @param options { classes = 1000, channels = 3, stochastic_depth = 0.1 }: the last is the last block's probability to be left out in
  --   training; the blocks before have proportionally less
  -- @return module
  -- @usage local net = prune.models.convnext_tiny { classes = 10 }
  convnext_tiny = function(given)
    local where = "prune.models.convnext_tiny"
    local o = options.check(where, given, { classes = 1000, channels = 3, stochastic_depth = 0.1 })
    options.count(where, "classes", o.classes)
    options.count(where, "channels", o.channels)
    options.number(where, "stochastic_depth", o.stochastic_depth, 0, 1)
    return ConvNeXt({ 96, 192, 384, 768 }, { 3, 3, 9, 3 }, o)
  end,
}
