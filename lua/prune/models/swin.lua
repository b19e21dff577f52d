-- swin.lua - Swin transformer: attention inside windows that are shifted in every other block (Liu et al. 2021).
local core = require "prune.core"
local nn = require "prune.nn"
local options = require "prune.options"
local F = nn.functional

local WINDOW = 7

-- Rows of the table of relative positions, counted from 0 as torchvision stores them, for all pairs of positions in a window.
local function relative_positions()
  local rows, side = {}, 2 * WINDOW - 1
  for a = 0, WINDOW * WINDOW - 1 do
    for b = 0, WINDOW * WINDOW - 1 do
      local down, right = a // WINDOW - b // WINDOW, a % WINDOW - b % WINDOW
      rows[#rows + 1] = (down + WINDOW - 1) * side + right + WINDOW - 1
    end
  end
  return core.tensor(rows, { dtype = "i64" })
end

-- --- attention inside windows ---------------------------------------------------------------------------------------

local WindowAttention = nn.module("ShiftedWindowAttention", function(self, width, heads)
  self.relative_position_bias_table = nn.Parameter(core.empty { (2 * WINDOW - 1) * (2 * WINDOW - 1), heads })
  nn.init.truncated_normal(self.relative_position_bias_table, 0, 0.02)
  self:register_buffer("relative_position_index", relative_positions())
  self.qkv = nn.Linear(width, 3 * width)
  self.proj = nn.Linear(width, width)
  self._heads, self._scale = heads, 1 / math.sqrt(width // heads)
end)

-- x [batch, windows, tokens, width]; mask [windows, 1, tokens, tokens] or nil.
function WindowAttention:forward(x, mask)
  local tokens = WINDOW * WINDOW
  local index = self.relative_position_index:detach() + 1 -- apart from the buffer, so that a graph has it as a constant
  local bias = F.index_select(self.relative_position_bias_table, index, { dim = 1 })
  bias = F.reshape(bias, { tokens, tokens, -1 }):permute { 3, 1, 2 }
  local qkv = F.unflatten(self.qkv(x), { dim = 4, sizes = { 3, self._heads, -1 } }):permute { 4, 1, 2, 5, 3, 6 }
  local q, k, v = F.unbind(qkv, { dim = 1 })
  local y = F.scaled_dot_product_attention(q, k, v, mask and bias + mask or bias, { scale = self._scale })
  return self.proj(F.flatten(y:permute { 1, 2, 4, 3, 5 }, { start_dim = 4 }))
end

-- After a removal: how many heads are left. Splitting into heads is the only reshape to six axes.
function WindowAttention:rewritten(operator, arguments)
  if operator == "reshape" and #arguments.shape == 6 then self._heads = arguments.shape[5] end
end

function WindowAttention:describe() return ("heads %d"):format(self._heads) end

-- --- windows --------------------------------------------------------------------------------------------------------

-- [batch, height, width, c] -> [batch, windows, positions of a window, c]
local function to_windows(x)
  local size = x:size()
  x = F.reshape(x, { size[1], size[2] // WINDOW, WINDOW, size[3] // WINDOW, WINDOW, size[4] }):permute { 1, 2, 4, 3, 5, 6 }
  return F.flatten(F.flatten(x, { start_dim = 4, end_dim = 5 }), { start_dim = 2, end_dim = 3 })
end

local function from_windows(x, height, width)
  x = F.reshape(x, { x:size(1), height // WINDOW, width // WINDOW, WINDOW, WINDOW, x:size(4) }):permute { 1, 2, 4, 3, 5, 6 }
  return F.flatten(F.flatten(x, { start_dim = 4, end_dim = 5 }), { start_dim = 2, end_dim = 3 })
end

local masks = {}

-- After the shift a window may hold parts from both ends of the image: -100 between tokens of different parts.
local function shift_mask(height, width, down, right, dtype)
  local key = table.concat({ height, width, down, right, dtype }, " ")
  if masks[key] then return masks[key] end
  local function part(i, size, shift) return shift == 0 and 0 or i < size - WINDOW and 0 or i < size - shift and 1 or 2 end
  local regions = {}
  for i = 0, height - 1 do
    for j = 0, width - 1 do regions[#regions + 1] = 3 * part(i, height, down) + part(j, width, right) end
  end
  local region = to_windows(core.tensor(regions, { dtype = dtype }):reshape { 1, height, width, 1 })
  local rows, columns = region:reshape { -1, 1, WINDOW * WINDOW, 1 }, region:reshape { -1, 1, 1, WINDOW * WINDOW }
  masks[key] = F.ne(rows, columns):to(dtype) * -100
  return masks[key]
end

local Block = nn.module("SwinTransformerBlock", function(self, width, heads, shift, drop)
  self.norm1 = nn.LayerNorm(width)
  self.attn = WindowAttention(width, heads)
  self.stochastic_depth = nn.StochasticDepth(drop)
  self.norm2 = nn.LayerNorm(width)
  self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Dropout(0), nn.Linear(4 * width, width), nn.Dropout(0))
  self._shift = shift
end)

-- Windows of the image padded to whole windows, moved by the shift unless one window covers all.
function Block:attend(x)
  local height, width = x:size(2), x:size(3)
  local below, right = -height % WINDOW, -width % WINDOW
  x = F.pad(x, { pad = { 0, 0, 0, right, 0, below } })
  local full_height, full_width = height + below, width + right
  local shift = { full_height > WINDOW and self._shift or 0, full_width > WINDOW and self._shift or 0 }
  local shifted = shift[1] + shift[2] > 0
  if shifted then x = F.roll(x, { shifts = { -shift[1], -shift[2] }, dims = { 2, 3 } }) end
  local mask = shifted and shift_mask(full_height, full_width, shift[1], shift[2], x.dtype) or nil
  x = from_windows(self.attn(to_windows(x), mask), full_height, full_width)
  if shifted then x = F.roll(x, { shifts = shift, dims = { 2, 3 } }) end
  x = F.narrow(x, { dim = 2, start = 1, length = height })
  return F.narrow(x, { dim = 3, start = 1, length = width })
end

function Block:forward(x)
  x = x + self.stochastic_depth(self:attend(self.norm1(x)))
  return x + self.stochastic_depth(self.mlp(self.norm2(x)))
end

local PatchMerging = nn.module("PatchMerging", function(self, width)
  self.reduction = nn.Linear(4 * width, 2 * width, { bias = false })
  self.norm = nn.LayerNorm(4 * width)
end)

-- The four positions of each 2x2 patch behind each other: [batch, height, width, c] -> [batch, height / 2, width / 2, 2 c].
function PatchMerging:forward(x)
  x = F.pad(x, { pad = { 0, 0, 0, x:size(3) % 2, 0, x:size(2) % 2 } })
  local parts = {}
  for j = 1, 2 do
    for i = 1, 2 do
      local rows = F.slice(x, { dim = 2, start = i, step = 2 })
      parts[#parts + 1] = F.slice(rows, { dim = 3, start = j, step = 2 })
    end
  end
  return self.reduction(self.norm(F.cat(parts, 4)))
end

-- --- the network ----------------------------------------------------------------------------------------------------

local Swin = nn.module("SwinTransformer", function(self, width, depths, heads, o)
  local total, done = 0, 0
  for _, depth in ipairs(depths) do total = total + depth end
  self.features = nn.Sequential(nn.Sequential(nn.Conv2d(o.channels, width, 4, { stride = 4 }), nn.Permute { 1, 3, 4, 2 },
    nn.LayerNorm(width)))
  for i, depth in ipairs(depths) do
    local stage = nn.Sequential()
    for k = 1, depth do
      stage:append(Block(width, heads[i], k % 2 == 0 and WINDOW // 2 or 0, o.stochastic_depth * done / (total - 1)))
      done = done + 1
    end
    self.features:append(stage)
    if i < #depths then
      self.features:append(PatchMerging(width))
      width = 2 * width
    end
  end
  self.norm = nn.LayerNorm(width)
  self.permute = nn.Permute { 1, 4, 2, 3 }
  self.avgpool = nn.AdaptiveAvgPool2d(1)
  self.head = nn.Linear(width, o.classes)
  for linear in self:each "Linear" do
    nn.init.truncated_normal(linear.weight, 0, 0.02)
    if linear.bias then linear.bias:fill(0) end
  end
end)

function Swin:forward(x)
  return self.head(F.flatten(self.avgpool(self.permute(self.norm(self.features(x)))), 2))
end

return {
  --- Swin-T: four stages of 2, 2, 6, 2 blocks with widths 96, 192, 384, 768 and 3, 6, 12, 24 heads; attention inside windows of 7x7 tokens,
  -- which every other block shifts by 3 (Liu et al. 2021). Takes images of any size from 4x4 on.
  -- @param options { classes = 1000, channels = 3, stochastic_depth = 0.2 }: the last is the last block's probability to be left out in
  --   training; the blocks before have proportionally less
  -- @return module
  -- @usage local net = prune.models.swin_t { classes = 10 }
  swin_t = function(given)
    local where = "prune.models.swin_t"
    local o = options.check(where, given, { classes = 1000, channels = 3, stochastic_depth = 0.2 })
    options.count(where, "classes", o.classes)
    options.count(where, "channels", o.channels)
    options.number(where, "stochastic_depth", o.stochastic_depth, 0, 1)
    return Swin(96, { 2, 2, 6, 2 }, { 3, 6, 12, 24 }, o)
  end,
}
