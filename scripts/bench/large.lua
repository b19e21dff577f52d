-- large.lua - the networks on which scripts/bench/prune shows how cost grows; made by prune.meta, since their weights would not fit.
local prune = require "prune"
local nn, F = prune.nn, prune.nn.functional

local large = {}

local Residual = nn.module("Residual", function(self, layers, width)
  self.stem = nn.Conv2d(3, width, 3, { padding = 1, bias = false })
  self.blocks = nn.ModuleList()
  for _ = 1, layers do
    self.blocks:append(nn.Sequential(nn.Conv2d(width, width, 3, { padding = 1, bias = false }), nn.BatchNorm2d(width), nn.ReLU()))
  end
  self.fc = nn.Linear(width, 10)
end)

function Residual:forward(x)
  x = self.stem(x)
  for _, block in ipairs(self.blocks) do x = x + block(x) end
  return self.fc(F.flatten(F.adaptive_avg_pool2d(x, { output_size = 1 }), { start_dim = 2 }))
end

--- A residual network of so many layers of one width: everything is one group.
function large.residual(layers, width) return Residual(layers, width) end

local function rotated(x, cosine, sine)
  local left, right = F.chunk(x, { chunks = 2, dim = -1 })
  return F.cat({ left * cosine - right * sine, right * cosine + left * sine }, { dim = -1 })
end

local Block = nn.module("Block", function(self, o)
  local each = o.width // o.heads
  self.norm1, self.norm2 = nn.RMSNorm(o.width), nn.RMSNorm(o.width)
  self.q = nn.Linear(o.width, o.width, { bias = false })
  self.k = nn.Linear(o.width, o.kv_heads * each, { bias = false })
  self.v = nn.Linear(o.width, o.kv_heads * each, { bias = false })
  self.o = nn.Linear(o.width, o.width, { bias = false })
  self.gate, self.up = nn.Linear(o.width, o.hidden, { bias = false }), nn.Linear(o.width, o.hidden, { bias = false })
  self.down = nn.Linear(o.hidden, o.width, { bias = false })
  self._heads, self._kv_heads, self._scale = o.heads, o.kv_heads, each ^ -0.5
end)

local function to_heads(x, heads) return F.permute(F.unflatten(x, { dim = 3, sizes = { heads, -1 } }), { dims = { 1, 3, 2, 4 } }) end

function Block:forward(x, cosine, sine)
  local y = self.norm1(x)
  local q, k = rotated(to_heads(self.q(y), self._heads), cosine, sine), rotated(to_heads(self.k(y), self._kv_heads), cosine, sine)
  local a = F.scaled_dot_product_attention(q, k, to_heads(self.v(y), self._kv_heads), nil, { is_causal = true, scale = self._scale })
  x = x + self.o(F.flatten(F.permute(a, { dims = { 1, 3, 2, 4 } }), { start_dim = 3 }))
  y = self.norm2(x)
  return x + self.down(F.silu(self.gate(y)) * self.up(y))
end

local Decoder = nn.module("Decoder", function(self, o)
  self.embedding, self.blocks = nn.Embedding(o.tokens, o.width), nn.ModuleList()
  for _ = 1, o.blocks do self.blocks:append(Block(o)) end
  self.norm, self.output = nn.RMSNorm(o.width), nn.Linear(o.width, o.tokens, { bias = false })
  local half = o.width // o.heads // 2
  self:register_buffer("cosine", prune.rand { o.length, half })
  self:register_buffer("sine", prune.rand { o.length, half })
end)

function Decoder:forward(x)
  x = self.embedding(x)
  for _, block in ipairs(self.blocks) do x = block(x, self.cosine, self.sine) end
  return self.output(self.norm(x))
end

--- A decoder with rotary positions, grouped queries and gated layers.
-- @param options blocks, width, heads, kv_heads, hidden, tokens, length
function large.decoder(options) return Decoder(options) end

return large
