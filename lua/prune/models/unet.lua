-- unet.lua - U-Net: an encoder, a decoder, and skips that are concatenated (Ronneberger et al. 2015).
local nn = require "prune.nn"
local options = require "prune.options"
local F = nn.functional

local function norm(kind, channels)
  if kind == "group" then return nn.GroupNorm(math.min(8, channels), channels) end
  return nn.BatchNorm2d(channels)
end

local function double(inputs, outputs, kind)
  return nn.Sequential(nn.Conv2d(inputs, outputs, 3, { padding = 1, bias = false }), norm(kind, outputs), nn.ReLU(),
    nn.Conv2d(outputs, outputs, 3, { padding = 1, bias = false }), norm(kind, outputs), nn.ReLU())
end

local UNet = nn.module("UNet", function(self, o)
  self._depth = o.depth
  self.inc = double(o.channels, o.width, o.norm)
  for i = 1, o.depth do self["down" .. i] = double(o.width << (i - 1), o.width << i, o.norm) end
  for i = o.depth, 1, -1 do
    local width = o.width << (i - 1)
    self["up" .. i] = nn.ConvTranspose2d(2 * width, width, 2, { stride = 2 })
    self["conv" .. i] = double(2 * width, width, o.norm)
  end
  self.outc = nn.Conv2d(o.width, o.classes, 1)
end)

function UNet:forward(x)
  local height, width, unit = x:size(3), x:size(4), 1 << self._depth
  if height % unit ~= 0 or width % unit ~= 0 then
    error(("prune.models.unet: with depth %d, height and width must be multiples of %d, got %d x %d"):format(self._depth, unit, height,
      width), 2)
  end
  local skips = {}
  x = self.inc(x)
  for i = 1, self._depth do
    skips[i] = x
    x = self["down" .. i](F.max_pool2d(x, { kernel_size = 2, stride = 2 }))
  end
  for i = self._depth, 1, -1 do x = self["conv" .. i](F.cat({ skips[i], self["up" .. i](x) }, 2)) end
  return self.outc(x)
end

return {
  --- U-Net with scores for every pixel: [batch, channels, height, width] -> [batch, classes, height, width] (Ronneberger et al. 2015; here
  -- convolutions are padded and normalised). Height and width are multiples of 2^depth.
  -- @param options { classes = 2, channels = 3, width = 64, depth = 4, norm = "batch" or "group" }: the first level has `width` channels,
  --   each of the `depth` levels below twice as many
  -- @return module
  -- @usage local net = prune.models.unet { classes = 2, channels = 1, width = 8, depth = 2 }
  unet = function(given)
    local where = "prune.models.unet"
    local o = options.check(where, given, { classes = 2, channels = 3, width = 64, depth = 4, norm = "batch" })
    for _, name in ipairs { "classes", "channels", "width", "depth" } do options.count(where, name, o[name]) end
    options.choice(where, "norm", o.norm, { "batch", "group" })
    if o.norm == "group" and o.width > 8 and o.width % 8 ~= 0 then
      error(("%s: with group norm the width must be a multiple of 8, got %d"):format(where, o.width), 2)
    end
    return UNet(o)
  end,
}
