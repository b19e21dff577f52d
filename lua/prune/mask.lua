--- Masks: zero entries of parameters that keep their shapes, as torch.nn.utils.prune does.
--
-- A masked parameter reads as value * mask, its masked entries get no gradient, and its dense value stays beside the mask. Pruning again
-- acts on what is still alive. How much goes is said by one of two options: `amount`, a share (a float up to 1, rounded half to even) or
-- a count (an integer) of what is still alive; or `sparsity`, the share of all that is masked afterwards (nothing goes if more is masked
-- already). Of equal scores the lower index goes first. `scores` takes the place of the values: a tensor of the parameter's shape, of
-- which the magnitude counts. When a call fails, nothing has changed.
local core = require "prune.core"
local options = require "prune.options"
local Module = require "prune.nn.module"

local mask = {}
local none = options.none

-- --- arguments ------------------------------------------------------------------------------------------------------

local function describe(value)
  if Module.is_module(value) then return "the module " .. value._type end
  return core.is_tensor(value) and "a tensor that is not registered in a module" or type(value)
end

local function check_parameter(where, p)
  if core.is_tensor(p) and p.is_parameter then return end
  error(("prune.mask.%s: the first argument must be a parameter of a module (such as conv.weight), got %s"):format(where, describe(p)), 3)
end

-- The one of amount and sparsity that is given: its name and value.
local function read_amount(where, o)
  local name = o.amount ~= nil and "amount" or "sparsity"
  if o.amount ~= nil and o.sparsity ~= nil then error(("prune.mask.%s: give amount or sparsity, not both"):format(where), 3) end
  if o[name] == nil then
    error(("prune.mask.%s: say how much: amount (share or count of what is alive) or sparsity (share of all)"):format(where), 3)
  end
  if type(o[name]) ~= "number" then error(("prune.mask.%s: %s must be a number, got %s"):format(where, name, type(o[name])), 3) end
  return name, o[name]
end

local function check_scores(where, scores)
  if scores == nil or core.is_tensor(scores) then return end
  error(("prune.mask.%s: scores must be a tensor of the parameter's shape, got %s"):format(where, type(scores)), 3)
end

local function check_dim(where, dim)
  if math.type(dim) == "integer" then return end
  error(("prune.mask.%s: dim must be an integer, got %s"):format(where, tostring(dim)), 3)
end

local function unstructured(where, p, method, o)
  check_scores(where, o.scores)
  core.mask_unstructured({ p }, o.scores and { o.scores }, method, read_amount(where, o))
  return p
end

-- --- entries of one parameter ---------------------------------------------------------------------------------------

--- Give a parameter a mask of ones, if it has none.
-- @param parameter
-- @return the parameter
function mask.identity(parameter)
  check_parameter("identity", parameter)
  core.mask_identity(parameter)
  return parameter
end

--- Mask random entries (prune.seed repeats them).
-- @param parameter
-- @param options { amount = or sparsity = }
-- @return the parameter
-- @usage prune.mask.random_unstructured(conv.weight, { amount = 0.3 })
function mask.random_unstructured(parameter, given)
  check_parameter("random_unstructured", parameter)
  local o = options.check("prune.mask.random_unstructured", given, { amount = none, sparsity = none })
  return unstructured("random_unstructured", parameter, "random", o)
end

--- Mask the entries of lowest magnitude.
-- @param parameter
-- @param options { amount = or sparsity =, scores = tensor }
-- @return the parameter
-- @usage prune.mask.l1_unstructured(conv.weight, { sparsity = 0.9 })
function mask.l1_unstructured(parameter, given)
  check_parameter("l1_unstructured", parameter)
  local o = options.check("prune.mask.l1_unstructured", given, { amount = none, sparsity = none, scores = none })
  return unstructured("l1_unstructured", parameter, "lowest", o)
end

-- --- slices ---------------------------------------------------------------------------------------------------------

--- Mask random slices along a dimension. A slice is alive while one of its entries is.
-- @param parameter of two or more dimensions
-- @param options { amount = or sparsity = (of slices), dim = 1 }
-- @return the parameter
function mask.random_structured(parameter, given)
  check_parameter("random_structured", parameter)
  local o = options.check("prune.mask.random_structured", given, { amount = none, sparsity = none, dim = 1 })
  check_dim("random_structured", o.dim)
  local name, value = read_amount("random_structured", o)
  core.mask_structured(parameter, nil, "random", name, value, o.dim, 1)
  return parameter
end

--- Mask the slices of lowest n-norm along a dimension: filters for dim 1 of a convolution's weight, input channels for dim 2.
-- @param parameter of two or more dimensions
-- @param options { amount = or sparsity = (of slices), n = 2 (a number, math.huge, -math.huge), dim = 1, scores = tensor }
-- @return the parameter
-- @usage prune.mask.ln_structured(conv.weight, { amount = 0.3, n = 2, dim = 1 })
function mask.ln_structured(parameter, given)
  check_parameter("ln_structured", parameter)
  local o = options.check("prune.mask.ln_structured", given, { amount = none, sparsity = none, n = 2, dim = 1, scores = none })
  check_dim("ln_structured", o.dim)
  check_scores("ln_structured", o.scores)
  if type(o.n) ~= "number" then error(("prune.mask.ln_structured: n must be a number, got %s"):format(type(o.n)), 2) end
  local name, value = read_amount("ln_structured", o)
  core.mask_structured(parameter, o.scores, "lowest", name, value, o.dim, o.n)
  return parameter
end

-- --- several parameters ---------------------------------------------------------------------------------------------

local function check_list(where, list)
  if type(list) ~= "table" or Module.is_module(list) then
    error(("prune.mask.%s: the first argument must be a list of parameters (such as net:weights()), got %s"):format(where,
      describe(list)), 3)
  end
  if #list == 0 then error(("prune.mask.%s: the list of parameters is empty"):format(where), 3) end
  for i, p in ipairs(list) do
    if not (core.is_tensor(p) and p.is_parameter) then
      error(("prune.mask.%s: element %d of the list must be a parameter, got %s"):format(where, i, describe(p)), 3)
    end
  end
end

local methods = { l1 = "lowest", random = "random" }

--- Mask entries of several parameters, ranked together.
-- @param parameters list
-- @param options { method = "l1" or "random", amount = or sparsity = (of all entries together), scores = list of tensors parallel to the
-- parameters }
-- @return the list
-- @usage prune.mask.global_unstructured(net:weights(), { method = "l1", sparsity = 0.9 })
function mask.global_unstructured(parameters, given)
  check_list("global_unstructured", parameters)
  local o = options.check("prune.mask.global_unstructured", given, { method = "l1", amount = none, sparsity = none, scores = none })
  local method = methods[o.method]
  if not method then
    local near = core.nearest(tostring(o.method), { "l1", "random" })
    error(('prune.mask.global_unstructured: method is "l1" or "random", got %s%s'):format(tostring(o.method),
      near and ("; did you mean '" .. near .. "'?") or ""), 2)
  end
  if o.scores ~= nil and type(o.scores) ~= "table" then
    error(("prune.mask.global_unstructured: scores must be a list of tensors, one per parameter, got %s"):format(type(o.scores)), 2)
  end
  core.mask_unstructured(parameters, o.scores, method, read_amount("global_unstructured", o))
  return parameters
end

-- --- masks of one's own ---------------------------------------------------------------------------------------------

--- Mask where a tensor of zeros and ones is 0; what is masked already stays so.
-- @param parameter
-- @param tensor of the parameter's shape; bool or any numbers that are 0 or 1
-- @return the parameter
-- @usage prune.mask.custom_from_mask(fc.weight, fc.weight:abs():gt(0.01))
function mask.custom_from_mask(parameter, tensor)
  check_parameter("custom_from_mask", parameter)
  if not core.is_tensor(tensor) then error("prune.mask.custom_from_mask: the mask must be a tensor, got " .. type(tensor), 2) end
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

--- Make masks permanent: masked entries become plain zeros, which training may move again.
-- @param what a module, a parameter, or a list
-- @return the argument
-- @usage prune.mask.finalize(net)
function mask.finalize(what)
  for _, p in ipairs(each("finalize", what, 3)) do p:finalize_mask() end
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
  if not Module.is_module(net) then error("prune.mask.summary: a module is needed, got " .. type(net), 2) end
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

return mask
