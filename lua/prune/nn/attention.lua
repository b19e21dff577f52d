-- attention.lua - multi-head attention with PyTorch's parameter names.
local core = require "prune.core"
local options = require "prune.options"
local Module = require "prune.nn.module"
local initializer = require "prune.nn.initializer"
local linear = require "prune.nn.linear"
local F = require "prune.nn.functional"

local attention = {}

--- Multi-head attention (Vaswani et al. 2017), batch first: q [batch, n, width], k and v [batch, m, width] (default: q) -> [batch, n, width].
-- Parameters as in PyTorch: in_proj_weight [3 width, width], in_proj_bias, out_proj. Heads and their widths can be pruned; queries, keys
-- and values lose the same, and the scale stays that of the original width.
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

-- x [batch, n, wide] through rows of in_proj: [batch, n, 3 heads d] -> three (or one) of [batch, heads, n, d]
local function project(x, weight, bias, parts, heads)
  local y = F.unflatten(F.linear(x, weight, bias), { dim = 3, sizes = { parts, heads, -1 } })
  return F.unbind(F.permute(y, { 3, 1, 4, 2, 5 }), { dim = 1 })
end

function attention.MultiheadAttention:forward(q, k, v, mask)
  local heads, weight, bias = self._heads, self.in_proj_weight, self.in_proj_bias
  local queries, keys, values
  if k == nil then
    queries, keys, values = project(q, weight, bias, 3, heads)
  else
    local rows = { F.unbind(F.unflatten(weight, { dim = 1, sizes = { 3, -1 } }), { dim = 1 }) }
    local offsets = bias and { F.unbind(F.unflatten(bias, { dim = 1, sizes = { 3, -1 } }), { dim = 1 }) } or {}
    queries = project(q, rows[1], offsets[1], 1, heads)
    keys = project(k, rows[2], offsets[2], 1, heads)
    values = project(v or k, rows[3], offsets[3], 1, heads)
  end
  local y = F.scaled_dot_product_attention(queries, keys, values, mask, { is_causal = self._causal, scale = self._scale })
  return self.out_proj(F.flatten(F.permute(y, { 1, 3, 2, 4 }), { start_dim = 3 }))
end

-- After a removal: how many heads are left. Splitting into heads is the only reshape to five axes.
function attention.MultiheadAttention:rewritten(operator, arguments)
  if operator == "reshape" and #arguments.shape == 5 then self._heads = arguments.shape[4] end
end

function attention.MultiheadAttention:describe() return ("%d, heads %d"):format(self.in_proj_weight:size(2), self._heads) end

return attention
