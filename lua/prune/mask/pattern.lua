-- pattern.lua - masks in patterns: N of every M, blocks, kernels, rows and columns.
local core = require "prune.core"
local common = require "prune.mask.common"
local options = require "prune.options"

local pattern = {}
local none = options.none

-- --- N:M ------------------------------------------------------------------------------------------------------------

--- N:M sparsity: keep n of every m consecutive entries along a dimension, those of largest magnitude (sparse tensor cores run 2:4). Where the
-- dimension is no multiple of m, its last group is shorter and keeps at most n as well, as if zeros followed. Entries that are masked
-- already count among the m - n that go.
-- @param what a parameter or a list of them
-- @param options { n = 2 (that stay, 0..m), m = 4, dim = 2 (the inputs of a linear layer or convolution; "matrix": along all dimensions but
-- the first, taken as one), scores = tensor of the parameter's shape (a list of them for a list) instead of the values }
-- @return the argument
-- @usage prune.mask.nm(conv.weight, { n = 2, m = 4, dim = 2 })
function pattern.nm(what, given)
  local o = options.check("prune.mask.nm", given, { n = 2, m = 4, dim = 2, scores = none })
  local parameters = common.parameters("nm", what)
  local scores = common.scores("nm", parameters, what, o.scores)
  common.integer("nm", "m", o.m, 1)
  common.integer("nm", "n", o.n, 0, o.m)
  if o.dim ~= "matrix" and math.type(o.dim) ~= "integer" then
    common.fail("nm", 'dim must be an integer or "matrix", got %s', tostring(o.dim))
  end
  common.all_or_nothing(parameters, function()
    for i, p in ipairs(parameters) do core.mask_nm(p, scores and scores[i], o.dim, o.n, o.m) end
  end)
  return what
end

-- --- blocks ---------------------------------------------------------------------------------------------------------

local defaults = { amount = none, sparsity = none, pool = "mean", scope = "local", method = "l1", scores = none }

local function with(more)
  local all = {}
  for name, value in pairs(defaults) do all[name] = value end
  for name, value in pairs(more) do all[name] = value end
  return all
end

local most_dimensions = 8
local methods = { l1 = "lowest", random = "random" }

-- Mask blocks of these extents: along the parameters' dimensions, or (two of them) those of the matrix.
local function mask_blocks(where, what, o, extents, matrix)
  local parameters = common.parameters(where, what)
  local scores = common.scores(where, parameters, what, o.scores)
  local name, value = common.amount(where, o)
  common.choice(where, "pool", o.pool, { "mean", "max", "rms" })
  common.choice(where, "method", o.method, { "l1", "random" })
  common.choice(where, "scope", o.scope, { "local", "global" })
  local function run(list, own) core.mask_blocks(list, own, methods[o.method], name, value, o.pool, matrix, extents) end
  if o.scope == "global" then
    run(parameters, scores)
  else
    common.all_or_nothing(parameters, function()
      for i, p in ipairs(parameters) do run({ p }, scores and { scores[i] }) end
    end)
  end
  return what
end

-- Extents along the dimensions `dims`, one entry along all others.
local function extents_along(dims, size)
  local extents = {}
  for d = 1, most_dimensions do extents[d] = 1 end
  for k, d in ipairs(dims) do
    common.integer("block", "each of dims", d, 1, most_dimensions)
    for j = 1, k - 1 do
      if dims[j] == d then common.fail("block", "dims names dimension %d twice", d) end
    end
    extents[d] = size[k]
  end
  return extents
end

-- The options `size` and `dims` as extents, and whether they are those of the matrix.
local function read_size(parameters, o)
  if type(o.size) ~= "table" or #o.size == 0 then
    common.fail("block", "say how large a block is: size = { rows, columns }, or one number per dimension")
  end
  for _, extent in ipairs(o.size) do common.integer("block", "each number of size", extent, 0) end
  if o.dims ~= nil and (type(o.dims) ~= "table" or #o.dims ~= #o.size) then
    common.fail("block", "dims must be a list of %d dimensions, one per number of size", #o.size)
  end
  for i, p in ipairs(parameters) do
    local rank, least = p:dim(), o.dims and math.max(table.unpack(o.dims)) or #o.size
    if o.dims and rank < least then common.fail("block", "parameter %d has %d dimensions, dims names %d", i, rank, least) end
    if not o.dims and #o.size ~= 2 and rank ~= #o.size then
      common.fail("block", "size has %d numbers, parameter %d has %d dimensions: give two (of its matrix) or %d", #o.size, i, rank, rank)
    end
  end
  if o.dims then return extents_along(o.dims, o.size), false end
  return o.size, #o.size == 2
end

--- Mask whole blocks, those of least pooled magnitude. A block is alive while one of its entries is; the amount counts blocks; blocks at
-- the edges may be smaller.
-- @param what a parameter or a list of them
-- @param options { size = { h, w } of the parameter as a matrix (out x all other dimensions: a convolution's is out x (in kh kw)), or
-- one number per dimension of the parameter; 0: the whole dimension, dims = { a, b }: the blocks lie along these dimensions instead,
-- pool = "mean" (or "max", "rms") of the magnitudes in a block, amount = or sparsity = (of blocks), scope = "local" (each parameter of
-- a list loses so much) or "global" (they are ranked together), method = "l1" or "random", scores = tensor (or a list) }
-- @return the argument
-- @usage prune.mask.block(fc.weight, { size = { 4, 4 }, sparsity = 0.75 })
function pattern.block(what, given)
  local o = options.check("prune.mask.block", given, with { size = none, dims = none })
  return mask_blocks("block", what, o, read_size(common.parameters("block", what), o))
end

--- Mask the kernels of convolutions: for each output and input channel the window as a whole.
-- @param what a parameter of three or more dimensions, or a list of them
-- @param options { amount = or sparsity = (of kernels), pool = "mean" (or "max", "rms"), scope = "local" or "global",
-- method = "l1" or "random", scores = tensor (or a list) }
-- @return the argument
-- @usage prune.mask.kernel(conv.weight, { sparsity = 0.5 })
function pattern.kernel(what, given)
  local o = options.check("prune.mask.kernel", given, with {})
  for i, p in ipairs(common.parameters("kernel", what)) do
    if p:dim() < 3 then
      common.fail("kernel", "parameter %d has %d dimensions; kernels are those of a convolution's weight: out, in and the window", i, p:dim())
    end
  end
  return mask_blocks("kernel", what, o, { 1, 1 }, false)
end

--- Mask rows of weights as matrices (out x all other dimensions): what makes one output, such as a filter.
-- @param what a parameter or a list of them
-- @param options { amount = or sparsity = (of rows), pool = "mean" (or "max", "rms"), scope = "local" or "global",
-- method = "l1" or "random", scores = tensor (or a list) }
-- @return the argument
-- @usage prune.mask.row(net:weights(), { sparsity = 0.3, scope = "global" })
function pattern.row(what, given)
  return mask_blocks("row", what, options.check("prune.mask.row", given, with {}), { 1, 0 }, true)
end

--- Mask columns of weights as matrices (out x all other dimensions): for a convolution one place of the window of one input channel, for
-- all outputs.
-- @param what a parameter or a list of them
-- @param options { amount = or sparsity = (of columns), pool = "mean" (or "max", "rms"), scope = "local" or "global",
-- method = "l1" or "random", scores = tensor (or a list) }
-- @return the argument
-- @usage prune.mask.column(conv.weight, { sparsity = 0.5, pool = "rms" })
function pattern.column(what, given)
  return mask_blocks("column", what, options.check("prune.mask.column", given, with {}), { 0, 1 }, true)
end

return pattern
