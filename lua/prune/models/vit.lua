-- vit.lua - vision transformer (Dosovitskiy et al. 2021).
local core = require "prune.core"
local nn = require "prune.nn"
local options = require "prune.options"
local F = nn.functional

-- Children 0 and 3, as torchvision's names have them; 1, 2 and 4 have no parameters.
local function mlp(width, hidden, dropout)
  local layers = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Dropout(dropout), nn.Linear(hidden, width), nn.Dropout(dropout))
  for _, i in ipairs { 1, 4 } do
    nn.init.xavier_uniform(layers[i].weight)
    nn.init.normal(layers[i].bias, 0, 1e-6)
  end
  return layers
end

local EncoderBlock = nn.module("EncoderBlock", function(self, o)
  self.ln_1 = nn.LayerNorm(o.width, { eps = 1e-6 })
  self.self_attention = nn.MultiheadAttention(o.width, o.heads)
  self.dropout = nn.Dropout(o.dropout)
  self.ln_2 = nn.LayerNorm(o.width, { eps = 1e-6 })
  self.mlp = mlp(o.width, o.hidden, o.dropout)
end)

function EncoderBlock:forward(x)
  x = x + self.dropout(self.self_attention(self.ln_1(x)))
  return x + self.mlp(self.ln_2(x))
end

local Layers = nn.module("Layers", function(self, o)
  self._count = o.layers
  for i = 0, o.layers - 1 do self["encoder_layer_" .. i] = EncoderBlock(o) end
end)

function Layers:forward(x)
  for i = 0, self._count - 1 do x = self["encoder_layer_" .. i](x) end
  return x
end

local Encoder = nn.module("Encoder", function(self, o)
  self.pos_embedding = nn.Parameter(nn.init.normal(core.empty { 1, o.tokens, o.width }, 0, 0.02))
  self.dropout = nn.Dropout(o.dropout)
  self.layers = Layers(o)
  self.ln = nn.LayerNorm(o.width, { eps = 1e-6 })
end)

function Encoder:forward(x) return self.ln(self.layers(self.dropout(x + self.pos_embedding))) end

local Heads = nn.module("Heads", function(self, width, classes)
  self.head = nn.Linear(width, classes)
  self.head.weight:fill(0)
  self.head.bias:fill(0)
end)

function Heads:forward(x) return self.head(x) end

local VisionTransformer = nn.module("VisionTransformer", function(self, o)
  self.class_token = nn.Parameter(core.zeros { 1, 1, o.width })
  self.conv_proj = nn.Conv2d(o.channels, o.width, o.patch, { stride = o.patch })
  nn.init.truncated_normal(self.conv_proj.weight, 0, math.sqrt(1 / (o.channels * o.patch * o.patch)))
  self.conv_proj.bias:fill(0)
  self.encoder = Encoder(o)
  self.heads = Heads(o.width, o.classes)
end)

function VisionTransformer:forward(x)
  x = F.flatten(self.conv_proj(x), { start_dim = 3 }):permute { 1, 3, 2 }
  local class = F.expand(self.class_token, { x:size(1), -1, -1 })
  x = self.encoder(F.cat({ class, x }, 2))
  return self.heads(F.select(x, { dim = 2, index = 1 }))
end

return {
  --- ViT-B/16: patches of 16x16 as tokens, 12 blocks of 12 heads with width 768 and MLPs of 3072, a class token, learned positions
  -- (Dosovitskiy et al. 2021).
  -- @param options { classes = 1000, channels = 3, image_size = 224, dropout = 0 }: images are image_size x image_size, a multiple of 16;
  --   the table of positions has (image_size / 16)^2 + 1 rows
  -- @return module
  -- @usage local net = prune.models.vit_b_16 { classes = 10, image_size = 32 }
  vit_b_16 = function(given)
    local where = "prune.models.vit_b_16"
    local o = options.check(where, given, { classes = 1000, channels = 3, image_size = 224, dropout = 0.0 })
    for _, name in ipairs { "classes", "channels", "image_size" } do options.count(where, name, o[name]) end
    options.number(where, "dropout", o.dropout, 0, 1)
    if o.image_size % 16 ~= 0 then
      error(("%s: image_size must be a multiple of 16, got %d"):format(where, o.image_size), 2)
    end
    o.patch, o.width, o.heads, o.layers, o.hidden = 16, 768, 12, 12, 3072
    local side = o.image_size // o.patch
    o.tokens = side * side + 1
    return VisionTransformer(o)
  end,
}
