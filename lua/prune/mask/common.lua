-- common.lua - what the makers of masks share: reading their arguments, and changing all parameters or none.
local core = require "prune.core"
local Module = require "prune.nn.module"
local options = require "prune.options"
local util = require "prune.util"

local common = {}

local function fail(where, text, ...) core.fail(("prune.mask.%s: " .. text):format(where, ...)) end
common.fail = fail

-- The checks of prune.options, with the names of this module's functions.
for _, check in ipairs { "choice", "integer", "number" } do
  common[check] = function(where, ...) options[check]("prune.mask." .. where, ...) end
end

-- --- arguments ------------------------------------------------------------------------------------------------------

local function describe(value)
  if Module.is_module(value) then return "the module " .. value._type end
  return core.is_tensor(value) and "a tensor that is not registered in a module" or type(value)
end

local function is_parameter(value) return core.is_tensor(value) and value.is_parameter end

--- The parameters that a first argument means: itself, or the elements of a list.
function common.parameters(where, what)
  if is_parameter(what) then return { what } end
  if type(what) ~= "table" or Module.is_module(what) then
    fail(where, "the first argument must be a parameter of a module (such as conv.weight) or a list of them (such as net:weights()), got %s",
      describe(what))
  end
  if #what == 0 then fail(where, "the list of parameters is empty") end
  for i, p in ipairs(what) do
    if not is_parameter(p) then fail(where, "element %d of the list must be a parameter, got %s", i, describe(p)) end
  end
  return what
end

--- The one of amount and sparsity that is given: its name and value.
function common.amount(where, o)
  local name = o.amount ~= nil and "amount" or "sparsity"
  if o.amount ~= nil and o.sparsity ~= nil then fail(where, "give amount or sparsity, not both") end
  if o[name] == nil then fail(where, "say how much: amount (share or count of what is alive) or sparsity (share of all)") end
  if type(o[name]) ~= "number" then fail(where, "%s must be a number, got %s", name, type(o[name])) end
  return name, o[name]
end

--- The option `scores` as a list parallel to the parameters, or nil. One parameter may have a tensor of its own.
function common.scores(where, parameters, what, scores)
  if scores == nil then return nil end
  if core.is_tensor(scores) then
    if is_parameter(what) then return { scores } end
    fail(where, "scores for a list of %d parameters must be a list of tensors", #parameters)
  end
  if type(scores) ~= "table" then
    fail(where, "scores must be a tensor of the parameter's shape (for a list: a list of tensors), got %s", type(scores))
  end
  if #scores ~= #parameters then
    fail(where, "there are %d parameters, but scores for %d", #parameters, #scores)
  end
  for i, one in ipairs(scores) do
    if not core.is_tensor(one) then fail(where, "scores %d must be a tensor, got %s", i, type(one)) end
  end
  return scores
end

--- The option nm = { n, m } as two numbers, or the option sparsity as a share; exactly one is given.
function common.pattern_or_share(where, o)
  if o.nm ~= nil and o.sparsity ~= nil then fail(where, "give sparsity or nm, not both") end
  if o.nm == nil and o.sparsity == nil then fail(where, "say how much: sparsity (share of zeros afterwards) or nm = { n, m }") end
  if o.nm == nil then
    common.number(where, "sparsity", o.sparsity, 0, 1)
    return nil
  end
  if type(o.nm) ~= "table" or #o.nm ~= 2 then fail(where, "nm must be { n, m }: n of every m stay") end
  common.integer(where, "m of nm", o.nm[2], 1)
  common.integer(where, "n of nm", o.nm[1], 0, o.nm[2])
  return o.nm
end

-- --- names ----------------------------------------------------------------------------------------------------------

local function patterns_of(where, name, given)
  local list = type(given) == "string" and { given } or given
  if type(list) ~= "table" then fail(where, "%s must be a name pattern or a list of them, got %s", name, type(given)) end
  for _, pattern in ipairs(list) do
    local ok = type(pattern) == "string" and pcall(string.find, "some.name_1", pattern)
    if not ok then fail(where, "%s: %s is not a name pattern", name, tostring(pattern)) end
  end
  return list
end

--- Those of a list of { name = } that options layers (name patterns; nil: all) and ignore choose. A pattern that fits nothing is a slip.
function common.chosen(where, list, o)
  local names, used = {}, {}
  for i, one in ipairs(list) do names[i] = one.name end
  local function fits(patterns, name)
    local hit = false
    for _, pattern in ipairs(patterns) do
      if name == pattern or name:find(pattern) then hit, used[pattern] = true, true end
    end
    return hit
  end
  local wanted = o.layers ~= nil and patterns_of(where, "layers", o.layers) or { "" }
  local unwanted = o.ignore ~= nil and patterns_of(where, "ignore", o.ignore) or {}
  local chosen = {}
  for _, one in ipairs(list) do
    local dropped = fits(unwanted, one.name)
    if fits(wanted, one.name) and not dropped then chosen[#chosen + 1] = one end
  end
  for _, patterns in ipairs { wanted, unwanted } do
    for _, pattern in ipairs(patterns) do
      if not used[pattern] and pattern ~= "" then
        local near = core.nearest(pattern, names)
        fail(where, "'%s' fits no layer%s", pattern, near and ("; did you mean '" .. near .. "'?") or "")
      end
    end
  end
  if #chosen == 0 then fail(where, "there is no layer to prune") end
  return chosen
end

--- How many entries of a parameter are masked.
function common.masked(p) return p.mask and (core.count_zeros(p.mask)) or 0 end

--- Raise unless the first argument is a module.
function common.net(where, net)
  if not Module.is_module(net) then fail(where, "the first argument must be a module, got %s", describe(net)) end
end

-- --- all or nothing -------------------------------------------------------------------------------------------------

--- Run f; where it raises or Ctrl-C ends it, give the parameters back the masks (and, if f changes them, the values) that they had. That takes no memory, so it
-- serves where memory has run out.
-- @param parameters list
-- @param f function()
-- @param values true: values are put back too
-- @return what f returns
function common.all_or_nothing(parameters, f, values)
  local kept = {}
  for i, p in ipairs(parameters) do kept[i] = { p.mask, values and p:dense():clone() } end
  return util.or_back(f, function()
    for i, p in ipairs(parameters) do
      core.mask_back(p, nil)
      if kept[i][2] then p:copy(kept[i][2]) end
      core.mask_back(p, kept[i][1])
    end
  end)
end

return common
