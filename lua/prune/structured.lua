-- structured.lua - plans: which units of a model go, chosen by a criterion to meet a ratio or a target.
local core = require "prune.core"
local calibration = require "prune.calibration"
local graph = require "prune.graph"
local options = require "prune.options"
local plans = require "prune.plan"

local structured = {}
local none = options.none

local function number_between(value, low, high, name)
  if type(value) ~= "number" or not (value >= low and value <= high) then
    error(("prune.structured: %s must be a number in %g..%g, got %s"):format(name, low, high, tostring(value)), 4)
  end
  return value
end

-- ratio, macs or params: exactly one.
local function read_target(o, before)
  local given
  for _, name in ipairs { "ratio", "macs", "params" } do
    if o[name] ~= nil then
      if given then error(("prune.structured: give one of ratio, macs and params, not both %s and %s"):format(given, name), 3) end
      given = name
    end
  end
  if not given then error("prune.structured: say how much: ratio (share of units that go), macs or params (what is left)", 3) end
  if given == "ratio" then return "ratio", number_between(o.ratio, 0, 1, "ratio") end
  local amount = number_between(o[given], 0, math.huge, given)
  if amount <= 0 then error(("prune.structured: %s must be above 0"):format(given), 3) end
  return given, amount <= 1 and amount * before[given] or amount
end

local function check_score(score, group, name)
  if not core.is_tensor(score) then
    error(("prune.structured: the criterion must return a tensor of scores, got %s"):format(type(score)), 4)
  end
  if score:numel() ~= group:count() then
    error(("prune.structured: the criterion must give one score per unit: the group of %s has %d units, got %d scores"):format(name,
      group:count(), score:numel()), 4)
  end
  return score:reshape(group:count()):detach():to("f64")
end

-- A group's name: the first parameter that makes its units.
local function name_of(group)
  local first
  for part in group:parts() do
    if part.producer then return part.name, part.dim end
    first = first or part
  end
  return first.name, first.dim
end

local function is_ignored(group, ignore)
  if not ignore then return false end
  for part in group:parts() do
    for _, pattern in ipairs(ignore) do
      local hit = core.is_tensor(pattern) and pattern == part.parameter or type(pattern) == "string" and part.name:match(pattern)
      if hit and part.producer then return true end
    end
  end
  return false
end

--- Plan which units go. Nothing is changed before plan:apply().
-- @param net a module
-- @param shape input without the batch
-- @param options
--   criterion: from prune.criterion, or a function(group) -> tensor of one score per unit (default: magnitude);
--   ratio: share of units that go, always floor(ratio n + 1e-6) of n; or macs, params: what is left, a share up to 1 or absolute;
--   scope: "local" (every group loses its share) or "global" (all groups are ranked together); default: local for a ratio, global for a target;
--   round_to, rounding: kept counts become multiples ("down", "up", "nearest"); a group that would vanish stays;
--   ignore: list of name patterns or parameters whose output units stay;
--   data, batches, loss: for criteria that need gradients: they are accumulated over this many batches (4) first
-- @return plan: print it, plan:apply(), plan.macs, plan.params
-- @usage prune.structured(net, { 3, 32, 32 }, { criterion = prune.criterion.magnitude(), ratio = 0.5 }):apply()
function structured.structured(net, shape, given)
  local o = options.check("prune.structured", given, {
    criterion = none, ratio = none, macs = none, params = none, scope = none, round_to = none, rounding = "down", ignore = none,
    data = none, batches = 4, loss = none,
  })
  if o.scope ~= nil and o.scope ~= "local" and o.scope ~= "global" then
    error(('prune.structured: scope is "local" or "global", got %s'):format(tostring(o.scope)), 2)
  end
  local criterion = o.criterion or require("prune.criterion").magnitude()
  local traced = graph.graph(net, shape)
  local before = {}
  before.macs, before.macs_ptflops, before.params = traced:cost()
  local target, amount = read_target(o, before)
  local gathers = type(criterion) == "table" and criterion.needs_gradients and o.data
  local gradients <close> = gathers and calibration.holding(net, calibration.gradients(net, o.data, o.batches, o.loss)) or nil -- luacheck: ignore
  local groups, scores, names = {}, {}, {}
  for _, group in ipairs(traced:groups()) do
    if not is_ignored(group, o.ignore) then
      local name, dim = name_of(group)
      groups[#groups + 1] = group
      names[#names + 1] = { name, dim }
      scores[#scores + 1] = check_score(core.no_grad(criterion, group), group, name)
    end
  end
  if #groups == 0 then error("prune.structured: the model has no group whose units can go (graph:notes() tells what is pinned)", 2) end
  local is_global = o.scope == "global" or (o.scope == nil and target ~= "ratio")
  local units, outcome = core.select(traced, { target = target, amount = amount, global = is_global, round_to = o.round_to,
    rounding = o.rounding }, groups, scores)
  return plans.new { graph = traced, net = net, groups = groups, names = names, units = units, before = before, macs = outcome.macs,
    params = outcome.params, target = target, amount = amount }
end

--- Check the contract of pruning: the pruned model computes what the ablated model computes (the same model with all entries of the removed
-- units zero). Works on copies; nothing is changed.
-- @param net the module that the plan was made for
-- @param plan a plan that is not applied yet, or a group
-- @param options { dtype = "f32" or "f64", gradients = false, tolerance = 1e-4 for f32, 1e-10 for f64, batch = 2 }
-- @return the largest difference relative to the largest output; raises when it exceeds the tolerance
-- @usage prune.verify(net, prune.structured(net, shape, { ratio = 0.5 }))
function structured.verify(net, plan, given)
  local o = options.check("prune.verify", given, { dtype = "f32", gradients = false, tolerance = none, batch = 2 })
  if not require("prune.nn.module").is_module(net) then error("prune.verify: the first argument must be a module, got " .. type(net), 2) end
  local traced, units
  if plans.is_plan(plan) then
    if plan.applied then error("prune.verify: the plan was applied already; verify it before", 2) end
    if plan.net ~= net then error("prune.verify: the plan was made for another module", 2) end
    traced, units = plan.graph, plan.units
  elseif getmetatable(plan) == core.Group then
    traced, units = plan:graph(), plan:units()
  else
    error("prune.verify: the second argument must be a plan or a group, got " .. type(plan), 2)
  end
  local inputs = {}
  for i, input in ipairs(traced:inputs()) do
    local sizes = table.move(input.shape, 2, #input.shape, 1, {})
    inputs[i] = { shape = sizes, dtype = input.dtype, max = (traced:state().inputs or {})[i] and traced:state().inputs[i].max }
  end
  local output, gradient = core.verify(traced, units, graph.examples(inputs, o.batch), o.dtype, o.gradients)
  local worst, tolerance = math.max(output, gradient), o.tolerance or (o.dtype == "f64" and 1e-10 or 1e-4)
  if worst > tolerance or worst ~= worst then
    error(("prune.verify: the pruned and the ablated model differ by %.3g (tolerance %.3g)"):format(worst, tolerance), 2)
  end
  return worst
end

return structured
