-- gpt.lua - a decoder of the GPT kind (Radford et al. 2019), with what came after it as options: rotary positions (Su et al. 2021), grouped
-- queries (Ainslie et al. 2023), gated MLPs (Shazeer 2020), RMS norm (Zhang and Sennrich 2019).
local core = require "prune.core"
local nn = require "prune.nn"
local options = require "prune.options"
local F = nn.functional

-- --- attention --------------------------------------------------------------------------------------------------------

-- A projection that knows into how many heads its rows are cut: [batch, n, width] -> [batch, heads, n, d].
local HeadProjection = nn.module("HeadProjection", function(self, width, heads, d, bias)
  nn.Linear._constructor(self, width, heads * d, { bias = bias })
  self._heads = heads
end, nn.Linear)

function HeadProjection:forward(x)
  local y = F.linear(x, self.weight, self.bias)
  return F.permute(F.unflatten(y, { dim = 3, sizes = { self._heads, -1 } }), { 1, 3, 2, 4 })
end

-- After a removal: how many heads are left.
function HeadProjection:rewritten(operator, arguments)
  if operator == "reshape" then self._heads = arguments.shape[3] end
end

function HeadProjection:describe()
  return ("%d, %d, heads %d"):format(self.weight:size(2), self.weight:size(1), self._heads)
end

-- Entries i and i + d / 2 of a head are turned by the pair's angle.
local function rotate(x, cos, sin)
  local a, b = F.chunk(x, { chunks = 2, dim = 4 })
  return F.cat({ a * cos - b * sin, b * cos + a * sin }, 4)
end

local Attention = nn.module("Attention", function(self, o)
  local d = o.width // o.heads
  self.q_proj = HeadProjection(o.width, o.heads, d, o.bias)
  self.k_proj = HeadProjection(o.width, o.kv_heads, d, o.bias)
  self.v_proj = HeadProjection(o.width, o.kv_heads, d, o.bias)
  self.o_proj = nn.Linear(o.width, o.width, { bias = o.bias })
  self._scale = 1 / math.sqrt(d)
  -- pair i turns by frequency[i] from one position to the next; a buffer, so that pairs that go take theirs along
  if o.positions == "rotary" then
    local pair = core.arange(0, d // 2 - 1, { dtype = "f64" })
    self:register_buffer("frequency", (pair * (-2 / d * math.log(10000))):exp():to "f32")
  end
end)

function Attention:forward(x)
  local q, k, v = self.q_proj(x), self.k_proj(x), self.v_proj(x)
  if self.frequency then
    local n = x:size(2)
    local angle = core.arange(0, n - 1, { dtype = self.frequency.dtype }):reshape { n, 1 } * self.frequency
    local cos, sin = F.cos(angle), F.sin(angle)
    q, k = rotate(q, cos, sin), rotate(k, cos, sin)
  end
  local y = F.scaled_dot_product_attention(q, k, v, nil, { is_causal = true, scale = self._scale })
  return self.o_proj(F.flatten(F.permute(y, { 1, 3, 2, 4 }), { start_dim = 3 }))
end

-- --- MLPs -------------------------------------------------------------------------------------------------------------

local GatedMLP = nn.module("GatedMLP", function(self, o)
  self.gate_proj = nn.Linear(o.width, o.hidden, { bias = o.bias })
  self.up_proj = nn.Linear(o.width, o.hidden, { bias = o.bias })
  self.down_proj = nn.Linear(o.hidden, o.width, { bias = o.bias })
end)

function GatedMLP:forward(x) return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x)) end

local MLP = nn.module("MLP", function(self, o)
  self.up_proj = nn.Linear(o.width, o.hidden, { bias = o.bias })
  self.down_proj = nn.Linear(o.hidden, o.width, { bias = o.bias })
end)

function MLP:forward(x) return self.down_proj(F.gelu(self.up_proj(x))) end

-- --- the decoder ------------------------------------------------------------------------------------------------------

local function norm(o) return o.norm == "rms" and nn.RMSNorm(o.width) or nn.LayerNorm(o.width, { bias = o.bias }) end

local Block = nn.module("Block", function(self, o)
  self.norm1 = norm(o)
  self.attention = Attention(o)
  self.norm2 = norm(o)
  self.mlp = (o.mlp == "gated" and GatedMLP or MLP)(o)
  self.dropout = nn.Dropout(o.dropout)
end)

function Block:forward(x)
  x = x + self.dropout(self.attention(self.norm1(x)))
  return x + self.dropout(self.mlp(self.norm2(x)))
end

local GPT = nn.module("GPT", function(self, o)
  self._context = o.context
  self.embedding = nn.Embedding(o.vocabulary, o.width)
  if o.positions == "learned" then self.positions = nn.Parameter(nn.init.normal(core.empty { o.context, o.width }, 0, 0.02)) end
  self.layers = nn.ModuleList()
  for _ = 1, o.layers do self.layers:append(Block(o)) end
  self.norm = norm(o)
  self.head = nn.Linear(o.width, o.vocabulary, { bias = false })
  for _, class in ipairs { "Embedding", "Linear", "HeadProjection" } do
    for layer in self:each(class) do
      nn.init.normal(layer.weight, 0, 0.02)
      if layer.bias then layer.bias:fill(0) end
    end
  end
  if o.tied then self.head.weight = self.embedding.weight end
end)

function GPT:forward(ids)
  local n = ids:size(2)
  if n > self._context then
    error(("prune.models.gpt: %d tokens are more than the context of %d"):format(n, self._context), 2)
  end
  local x = self.embedding(ids)
  if self.positions then x = x + F.embedding(core.arange(1, n, { dtype = "i64" }), self.positions) end
  for _, layer in ipairs(self.layers) do x = layer(x) end
  return self.head(self.norm(x))
end

local function check(where, o)
  for _, name in ipairs { "vocabulary", "width", "layers", "heads", "kv_heads", "context", "hidden" } do
    if o[name] ~= nil then options.count(where, name, o[name]) end
  end
  options.choice(where, "positions", o.positions, { "rotary", "learned" })
  options.choice(where, "mlp", o.mlp, { "gated", "plain" })
  options.choice(where, "norm", o.norm, { "rms", "layer" })
  options.number(where, "dropout", o.dropout, 0, 1)
  o.kv_heads = o.kv_heads or o.heads
  if o.width % o.heads ~= 0 then error(("%s: width %d is not a multiple of %d heads"):format(where, o.width, o.heads), 3) end
  if o.heads % o.kv_heads ~= 0 then
    error(("%s: %d heads are not a multiple of kv_heads = %d"):format(where, o.heads, o.kv_heads), 3)
  end
  if o.positions == "rotary" and o.width // o.heads % 2 ~= 0 then
    error(("%s: rotary positions turn pairs, so the width of a head must be even, got %d"):format(where, o.width // o.heads), 3)
  end
  -- gated MLPs have three matrices instead of two: two thirds of 4 width, as a multiple of 8
  o.hidden = o.hidden or o.mlp == "gated" and (8 * o.width // 3 + 7) // 8 * 8 or 4 * o.width
end

return {
  --- A decoder of the GPT kind: token ids [batch, n] from 1 -> scores [batch, n, vocabulary] of what comes next. Give its input as
  -- { shape = { n }, dtype = "i64", max = vocabulary }. Removable: the width of all layers together, and for each layer key heads with their
  -- query heads, copies of queries, pairs of rotary dimensions (single ones with learned positions), dimensions of values, hidden units.
  -- @param options { vocabulary = 256, width = 128, layers = 4, heads = 4, kv_heads = heads (fewer: grouped queries), context = 128 (longest
  --   input), positions = "rotary" or "learned", mlp = "gated" (SwiGLU) or "plain" (GELU), hidden = 8/3 or 4 times the width, norm = "rms" or
  --   "layer", bias = false, tied = true (the output's weight is the embedding's), dropout = 0 }
  -- @return module
  -- @usage local net = prune.models.gpt { vocabulary = 64, width = 32, layers = 2, heads = 4, kv_heads = 2, context = 16 }
  gpt = function(given)
    local where = "prune.models.gpt"
    local o = options.check(where, given, { vocabulary = 256, width = 128, layers = 4, heads = 4, kv_heads = options.none, context = 128,
      positions = "rotary", mlp = "gated", hidden = options.none, norm = "rms", bias = false, tied = true, dropout = 0.0 })
    check(where, o)
    return GPT(o)
  end,
}
