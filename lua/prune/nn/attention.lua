-- attention.lua - multi-head attention with PyTorch's parameter names.
local core = require "prune.core"
local options = require "prune.options"
local Module = require "prune.nn.module"
local initializer = require "prune.nn.initializer"
local linear = require "prune.nn.linear"
local F = require "prune.nn.functional"

local attention = {}

--- Multi-head attention (Vaswani et al. 2017), batch first: q [batch, n, width], k and v [batch, m, width] (default: q) -> [batch, n, width].
-- Parameters as in PyTorch: in_proj_weight [3 width, width], in_proj_bias, out_proj. Heads and their widths can be pruned; the scale
-- stays that of the original width.
-- @param width, heads
-- @param options { bias = true, dropout = 0, is_causal = false }
attention.MultiheadAttention = Module.class("MultiheadAttention", function(self, width, heads, given)
  local o = options.check("nn.MultiheadAttention", given, { bias = true, dropout = 0, is_causal = false })
  options.count("nn.MultiheadAttention", "the width", width)
  options.count("nn.MultiheadAttention", "heads", heads)
  if width % heads ~= 0 then error(("nn.MultiheadAttention: width %d is not a multiple of %d heads"):format(width, heads), 3) end
  self.in_proj_weight = core.parameter(core.empty { 3 * width, width })
  if o.bias then self.in_proj_bias = core.parameter(core.empty { 3 * width }) end
  self.out_proj = initializer.skip(linear.Linear, width, width, { bias = o.bias })
  self._heads, self._scale, self._causal, self._dropout = heads, 1 / math.sqrt(width // heads), o.is_causal, o.dropout
  initializer.begin(self)
end)

function attention.MultiheadAttention:reset()
  self.out_proj:reset()
  initializer.xavier_uniform(self.in_proj_weight)
  if self.in_proj_bias then
    self.in_proj_bias:fill(0)
    self.out_proj.bias:fill(0)
  end
end

-- [batch, n, heads * d] -> [batch, heads, n, d]
local function to_heads(x, heads) return F.permute(F.unflatten(x, { dim = 3, sizes = { heads, -1 } }), { 1, 3, 2, 4 }) end

function attention.MultiheadAttention:forward(q, k, v, mask)
  local heads = self._heads
  local queries, keys, values
  if k == nil then
    queries, keys, values = F.chunk(F.linear(q, self.in_proj_weight, self.in_proj_bias), { chunks = 3, dim = 3 })
  else
    local wq, wk, wv = F.chunk(self.in_proj_weight, { chunks = 3, dim = 1 })
    local bq, bk, bv
    if self.in_proj_bias then bq, bk, bv = F.chunk(self.in_proj_bias, { chunks = 3, dim = 1 }) end
    queries, keys, values = F.linear(q, wq, bq), F.linear(k, wk, bk), F.linear(v or k, wv, bv)
  end
  local y = F.scaled_dot_product_attention(to_heads(queries, heads), to_heads(keys, heads), to_heads(values, heads), mask,
    { is_causal = self._causal, scale = self._scale })
  return self.out_proj(F.flatten(F.permute(y, { 1, 3, 2, 4 }), { start_dim = 3 }))
end

-- After a removal: how many heads are left.
function attention.MultiheadAttention:rewritten(operator, arguments)
  -- to_heads is the only reshape to four axes: batch, n, heads, width of a head
  if operator == "reshape" and #arguments.shape == 4 then self._heads = arguments.shape[3] end
end

function attention.MultiheadAttention:describe() return ("%d, heads %d"):format(self.in_proj_weight:size(2), self._heads) end

return attention
