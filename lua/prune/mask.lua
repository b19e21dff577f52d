--- Masks: zero entries of parameters that keep their shapes, as torch.nn.utils.prune does.
--
-- A masked parameter reads as value * mask, its masked entries get no gradient, and its dense value stays beside the mask. Pruning again
-- acts on what is still alive. How much goes is said by one of two options: `amount`, a share (a float up to 1, rounded half to even) or
-- a count (an integer) of what is still alive; or `sparsity`, the share of all that is masked afterwards (nothing goes if more is masked
-- already). Of equal scores the lower index goes first. `scores` takes the place of the values: a tensor of the parameter's shape, of
-- which the magnitude counts (NaN is refused). Where a list of parameters is given, each is ranked by itself, unless the function or its
-- option `scope` says "global". When a call fails, nothing has changed.
local core = require "prune.core"
local common = require "prune.mask.common"
local options = require "prune.options"
local Module = require "prune.nn.module"

local mask = {}
local none = options.none

-- Ranked each by itself.
local function unstructured(where, what, method, o)
  local parameters = common.parameters(where, what)
  local scores = common.scores(where, parameters, what, o.scores)
  local name, value = common.amount(where, o)
  common.all_or_nothing(parameters, function()
    for i, p in ipairs(parameters) do core.mask_unstructured({ p }, scores and { scores[i] }, method, name, value) end
  end)
  return what
end

local function structured(where, what, method, o, n)
  local parameters = common.parameters(where, what)
  local scores = common.scores(where, parameters, what, o.scores)
  local name, value = common.amount(where, o)
  if math.type(o.dim) ~= "integer" then common.fail(where, "dim must be an integer, got %s", tostring(o.dim)) end
  common.all_or_nothing(parameters, function()
    for i, p in ipairs(parameters) do core.mask_structured(p, scores and scores[i], method, name, value, o.dim, n) end
  end)
  return what
end

-- --- entries --------------------------------------------------------------------------------------------------------

--- Give a parameter a mask of ones, if it has none.
-- @param what a parameter or a list of them
-- @return the argument
function mask.identity(what)
  local parameters = common.parameters("identity", what)
  common.all_or_nothing(parameters, function()
    for _, p in ipairs(parameters) do core.mask_identity(p) end
  end)
  return what
end

--- Mask random entries (prune.seed repeats them).
-- @param what a parameter, or a list of which each loses as much
-- @param options { amount = or sparsity = }
-- @return the argument
-- @usage prune.mask.random_unstructured(conv.weight, { amount = 0.3 })
function mask.random_unstructured(what, given)
  local o = options.check("prune.mask.random_unstructured", given, { amount = none, sparsity = none })
  return unstructured("random_unstructured", what, "random", o)
end

--- Mask the entries of lowest magnitude.
-- @param what a parameter, or a list of which each loses as much
-- @param options { amount = or sparsity =, scores = tensor of the parameter's shape (for a list: a list of them) }
-- @return the argument
-- @usage prune.mask.l1_unstructured(conv.weight, { sparsity = 0.9 })
function mask.l1_unstructured(what, given)
  local o = options.check("prune.mask.l1_unstructured", given, { amount = none, sparsity = none, scores = none })
  return unstructured("l1_unstructured", what, "lowest", o)
end

-- --- slices ---------------------------------------------------------------------------------------------------------

--- Mask random slices along a dimension. A slice is alive while one of its entries is.
-- @param what a parameter of two or more dimensions, or a list of which each loses as much
-- @param options { amount = or sparsity = (of slices), dim = 1 }
-- @return the argument
function mask.random_structured(what, given)
  local o = options.check("prune.mask.random_structured", given, { amount = none, sparsity = none, dim = 1 })
  return structured("random_structured", what, "random", o, 1)
end

--- Mask the slices of lowest n-norm along a dimension: filters for dim 1 of a convolution's weight, input channels for dim 2.
-- @param what a parameter of two or more dimensions, or a list of which each loses as much
-- @param options { amount = or sparsity = (of slices), n = 2 (a number, math.huge, -math.huge), dim = 1, scores = tensor of the
-- parameter's shape (for a list: a list of them) }
-- @return the argument
-- @usage prune.mask.ln_structured(conv.weight, { amount = 0.3, n = 2, dim = 1 })
function mask.ln_structured(what, given)
  local o = options.check("prune.mask.ln_structured", given, { amount = none, sparsity = none, n = 2, dim = 1, scores = none })
  if type(o.n) ~= "number" then common.fail("ln_structured", "n must be a number, got %s", type(o.n)) end
  return structured("ln_structured", what, "lowest", o, o.n)
end

-- --- several parameters together ------------------------------------------------------------------------------------

local methods = { l1 = "lowest", random = "random" }

--- Mask entries of several parameters, ranked together.
-- @param parameters list
-- @param options { method = "l1" or "random", amount = or sparsity = (of all entries together), scores = list of tensors parallel to the
-- parameters }
-- @return the list
-- @usage prune.mask.global_unstructured(net:weights(), { method = "l1", sparsity = 0.9 })
function mask.global_unstructured(parameters, given)
  local list = common.parameters("global_unstructured", parameters)
  local o = options.check("prune.mask.global_unstructured", given, { method = "l1", amount = none, sparsity = none, scores = none })
  common.choice("global_unstructured", "method", o.method, { "l1", "random" })
  local scores = common.scores("global_unstructured", list, parameters, o.scores)
  core.mask_unstructured(list, scores, methods[o.method], common.amount("global_unstructured", o))
  return parameters
end

-- --- masks of one's own ---------------------------------------------------------------------------------------------

--- Mask where a tensor of zeros and ones is 0; what is masked already stays so.
-- @param parameter
-- @param tensor of the parameter's shape; bool or any numbers that are 0 or 1
-- @return the parameter
-- @usage prune.mask.custom_from_mask(fc.weight, fc.weight:abs():gt(0.01))
function mask.custom_from_mask(parameter, tensor)
  common.parameters("custom_from_mask", { parameter })
  if not core.is_tensor(tensor) then common.fail("custom_from_mask", "the mask must be a tensor, got %s", type(tensor)) end
  core.mask_custom(parameter, tensor)
  return parameter
end

-- --- all masks of a model -------------------------------------------------------------------------------------------

-- The parameters meant by a module, a parameter or a list of both.
local function each(where, what, level)
  if core.is_tensor(what) then return { what } end
  if Module.is_module(what) then
    local list = {}
    for _, p in what:named_parameters() do list[#list + 1] = p end
    return list
  end
  if type(what) ~= "table" then
    error(("prune.mask.%s: a module, a parameter or a list is needed, got %s"):format(where, type(what)), level)
  end
  local list = {}
  for _, one in ipairs(what) do
    for _, p in ipairs(each(where, one, level + 1)) do list[#list + 1] = p end
  end
  return list
end

--- Make masks permanent: masked entries become plain zeros, which training may move again. Of a module it is noted in its history
-- (prune.history), with one bit per entry of each mask, so that prune.replay can do the same; give the whole model for that.
-- @param what a module, a parameter, or a list
-- @return the argument
-- @usage prune.mask.finalize(net)
function mask.finalize(what)
  local parameters = each("finalize", what, 3)
  local note = Module.is_module(what) and require("prune.history").finalizing(what)
  local masked = {}
  for _, p in ipairs(parameters) do masked[#masked + 1] = p.mask and p or nil end
  common.all_or_nothing(masked, function()
    for _, p in ipairs(masked) do p:finalize_mask() end
  end, true)
  if note then note() end
  return what
end

--- prune.mask.finalize under the name that it has in torch.nn.utils.prune.
mask.remove = mask.finalize

--- Does a parameter have a mask, or any of a module or list?
-- @param what a module, a parameter, or a list
-- @return boolean
function mask.is_pruned(what)
  for _, p in ipairs(each("is_pruned", what, 3)) do
    if p.mask then return true end
  end
  return false
end

--- Share of entries that read as zero.
-- @param what a module (its weights of more than one dimension), a parameter, or a list
-- @return number in 0..1
function mask.sparsity(what)
  local zeros, total = 0, 0
  for _, p in ipairs(Module.is_module(what) and what:weights() or each("sparsity", what, 3)) do
    local z, n = core.count_zeros(p)
    zeros, total = zeros + z, total + n
  end
  return total > 0 and zeros / total or 0
end

--- A table of a model's weights: how many of their entries are zero.
-- @param net a module
-- @return string
function mask.summary(net)
  options.module("prune.mask.summary", "the first argument", net)
  local graph = require "prune.graph"
  local lines, zeros, total = { { "parameter", "shape", "entries", "zeros", "sparsity", "mask" } }, 0, 0
  local function add(name, shape, z, n, has)
    lines[#lines + 1] = { name, shape, graph.thousands(n), graph.thousands(z), ("%.1f%%"):format(n > 0 and 100 * z / n or 0), has }
  end
  for name, p in net:named_parameters() do
    if p:dim() > 1 or p.mask then
      local z, n = core.count_zeros(p)
      zeros, total = zeros + z, total + n
      add(name, table.concat(p:size(), " x "), z, n, p.mask and "yes" or "")
    end
  end
  add("all", "", zeros, total, "")
  local out = graph.aligned(lines, { false, false, true, true, true, false })
  table.insert(out, 2, ("-"):rep(#out[1]))
  return table.concat(out, "\n")
end

-- The other makers of masks have files of their own.
for _, file in ipairs { "pattern", "layerwise", "score" } do
  for name, maker in pairs(require("prune.mask." .. file)) do
    if name:sub(1, 1) ~= "_" then mask[name] = maker end
  end
end

return mask
