-- structured.lua - plans: which units of a model go, chosen by a criterion to meet a ratio or a target.
local allocation = require "prune.allocation"
local calibration = require "prune.calibration"
local core = require "prune.core"
local criteria = require "prune.criterion"
local graph = require "prune.graph"
local grouping = require "prune.grouping"
local latency = require "prune.latency"
local options = require "prune.options"
local plans = require "prune.plan"
local selection = require "prune.selection"
local target = require "prune.target"
local util = require "prune.util"

local structured = {}
local none = options.none
local WHERE = "prune.structured"

-- --- options --------------------------------------------------------------------------------------------------------

local known = {
  criterion = none, ratio = none, macs = none, params = none, bytes = none, latency = none, measure = none, scope = none, allocation = none,
  group_by = "producers", kinds = none, heads = none, head_dims = none, ignore = none, max_ratio = none, min_units = none, round_to = none,
  rounding = "down", data = none, batches = 4, loss = none, steps = none, schedule = none,
}

local function fail(...) error(WHERE .. ": " .. (...):format(select(2, ...)), 0) end

local function check_criterion(value)
  for name, make in pairs(criteria) do
    if rawequal(make, value) then fail("criterion must be made: prune.criterion.%s(), with brackets", name) end
  end
  if value == nil or util.is_callable(value) then return end
  local text = "criterion must be one of prune.criterion, such as prune.criterion.magnitude(), or a function(group); got %s"
  if type(value) ~= "string" then fail(text, type(value)) end
  local names = {}
  for _, described in ipairs(core.criteria()) do names[#names + 1] = described.name end
  local near = core.nearest(value, names)
  fail(text .. "%s", "'" .. value .. "'", near and ("; did you mean prune.criterion.%s()?"):format(near) or "")
end

-- A function of the user's that measures milliseconds, checked.
local function measured(measure)
  return function(...)
    local time = measure(...)
    if type(time) == "number" and time >= 0 and time < math.huge then return time end
    fail("measure must return milliseconds, a number of at least 0, got %s", tostring(time))
  end
end

-- A table by name and ratios of kinds say how much goes of some groups; the others lose nothing unless a target says so.
local function read_target(o)
  local wanted = target.read(WHERE, o)
  if wanted then return wanted end
  local own = type(o.allocation) == "table"
  for _, value in pairs((grouping.read_kinds(WHERE, o))) do own = own or type(value) == "number" end
  if own then return { name = "ratio", amount = 0, own = true } end
  fail("say how much: ratio (share of units that go), or macs, params, bytes or latency (what is left)")
end

local function read_allocation(o)
  if o.allocation == nil then return nil end
  if o.allocation == "global" and (o.scope == nil or o.scope == "global") then
    o.scope, o.allocation = "global", nil
    return nil
  end
  if o.scope ~= nil and o.scope ~= "local" then
    fail("an allocation gives every group its own share, so scope must be \"local\", got %s", type(o.scope) == "string" and o.scope or
      "a " .. type(o.scope))
  end
  o.scope = "local"
  return allocation.read(WHERE, o.allocation)
end

local function read(given)
  local o = options.check(WHERE, given, known)
  check_criterion(o.criterion)
  calibration.check(WHERE, o)
  options.callable(WHERE, "measure", o.measure)
  o.measure = o.measure and measured(o.measure) or latency.measure
  options.choice(WHERE, "group_by", o.group_by, { "producers", "members" })
  options.choice(WHERE, "rounding", o.rounding, { "down", "up", "nearest" })
  if o.min_units ~= nil then options.count(WHERE, "min_units", o.min_units) end
  if o.round_to ~= nil then options.integer(WHERE, "round_to", o.round_to, 1, 1 << 20) end
  if o.steps ~= nil then options.integer(WHERE, "steps", o.steps, 1, 1 << 20) end
  if o.max_ratio ~= nil then options.number(WHERE, "max_ratio", o.max_ratio, 0, 1) end
  if o.schedule ~= nil and o.steps == nil then fail "a schedule needs steps: how often the model is pruned" end
  if o.steps and type(o.schedule) ~= "function" then target.ways(WHERE, o.schedule, o.steps, 0.5) end -- a slip is told before the first step
  o.wanted = read_target(o)
  o.allocate = read_allocation(o)
  if o.scope == nil then o.scope = o.wanted.name == "ratio" and "local" or "global" end
  o.criterion = o.criterion or criteria.magnitude()
  return o
end

-- --- making a plan --------------------------------------------------------------------------------------------------

-- Example inputs for a graph, of the shapes that it was traced with.
local function examples_of(traced, batch)
  local inputs = {}
  for i, input in ipairs(traced:inputs()) do
    local sizes = table.move(input.shape, 2, #input.shape, 1, {})
    inputs[i] = { shape = sizes, dtype = input.dtype, max = (traced:state().inputs or {})[i] and traced:state().inputs[i].max }
  end
  return graph.examples(inputs, batch)
end

local function name_of(criterion)
  if type(criterion) == "table" and type(criterion.name) == "string" then return criterion.name end
  return "function"
end

local function costs_of(traced, o)
  local costs = core.outcomes(traced, { {} }, o.wanted.name == "bytes")[1]
  if o.wanted.name == "latency" then
    o.inputs = o.inputs or examples_of(traced, 1)
    costs.latency = o.measure(traced, o.inputs)
  end
  return costs
end

-- `progress` is what steps have in common: originals (units of each group at first), base (costs at first). way_of(base) is how far to go.
local function make(net, shape, o, progress, way_of)
  local traced = graph.graph(net, shape)
  local before = costs_of(traced, o)
  progress.base = progress.base or before
  local way = way_of(progress.base)
  local entries = grouping.collect(WHERE, net, traced, o)
  selection.score(entries, criteria.prepare(o.criterion, net, traced, { data = o.data, batches = o.batches, loss = o.loss, where = WHERE }))
  grouping.set_pools(WHERE, net, traced, entries, o.scope)
  selection.set_limits(entries, o, progress.originals)
  local how = { wanted = o.wanted, base = progress.base, way = 1, allocate = o.allocate, round_to = o.round_to, rounding = o.rounding,
    inputs = o.inputs, measure = o.measure, now = before.latency, most = true }
  if way < 1 and not progress.possible then selection.choose(WHERE, traced, entries, how) end -- the last step must not be the first to fail
  progress.possible, how.way, how.most = true, way, nil
  local units, outcome = selection.choose(WHERE, traced, entries, how)
  return plans.new { graph = traced, net = net, entries = entries, units = units, before = before, base = progress.base, macs = outcome.macs,
    params = outcome.params, bytes = outcome.bytes, latency = outcome.latency, short = outcome.short, own = o.wanted.own, target = o.wanted.name,
    amount = target.at(o.wanted, progress.base, way), criterion = name_of(o.criterion) }
end

--- Plan which units go. Nothing is changed before plan:apply(), and no weights are copied.
-- @param net a module
-- @param shape input without the batch
-- @param options how much, one of:
--   ratio: share of units that go, always floor(ratio n + 1e-6) of n;
--   macs, params, bytes (of the file that prune.save makes without an optimiser: what masks leave and one bit per masked weight, names and graph by
--   estimate; to within a few percent), latency (milliseconds for one sample, measured by running a copy): what is left, a share up to 1 or absolute;
--   one unit less would miss it (latency: to within 1/128 of the units);
--   what is ranked:
--   criterion: from prune.criterion, or a function(group) -> tensor of one score per unit (default: magnitude);
--   scope: "local" (every group loses its share), "global" (all groups are ranked together), "isomorphic" (groups of equal structure together;
--   Fang et al. 2024), a table { name = list of patterns, parameters or modules } or a function(entry) -> name: groups of one name together, others
--   alone; default: local for a ratio, global for a target of costs;
--   allocation: shares of the groups: "uniform", "erk", "owl", "global", a table { pattern = ratio } (the others lose the ratio, or nothing
--   where none is given), or a function(list of { name, dim, kind, count, shape, cap, scores }, ratio) -> list of ratios;
--   group_by: "producers" (units that the same layers make are one group) or "members" (only units that touch the same axes of the same parameters,
--   readers too: fairer where a layer is split among unequal readers);
--   kinds: list of kinds of units that may go, or a table { kind = true, false or ratio of its own } (group:kind() tells them); heads, head_dims: the
--   same for attention's heads and their widths; default: of two factors of an axis the one with more units;
--   data, batches, loss: for criteria that need data: at most so many batches (4) of it, and a function(output, labels) (cross entropy);
--   limits, also over several steps:
--   ignore: list of name patterns, parameters or modules whose output units stay, or { one of these, side = "in", "out" or "both" };
--   max_ratio: no group loses more than this share of what it had at first; min_units: every group keeps as many;
--   round_to, rounding: kept counts become multiples ("down", "up", "nearest"); a group of which that leaves none stays whole;
--   measure: function(graph, inputs) -> milliseconds, for a target of latency (default: median of forward passes);
--   steps, schedule: a pruner instead of a plan (help "pruner"): "linear", "cubic", "exponential", a list of shares of the way, or a
--   function(step, steps) -> share. More than can go is refused with the most that can.
-- @return plan: print it, plan:groups(), plan:ask(), plan:apply(), plan:undo(), plan:reached(), plan.macs, plan.params, plan.bytes; with steps: pruner
-- @usage prune.structured(net, { 3, 32, 32 }, { criterion = prune.criterion.magnitude(), ratio = 0.5 }):apply()
-- @usage print(prune.structured(net, { 1, 8, 8 }, { macs = 0.5, max_ratio = 0.8, round_to = 8, ignore = { net.conv1 } }))
function structured.structured(net, shape, given)
  local o = options.call(read, given)
  if o.steps then return require("prune.pruner").new(net, shape, o, make) end
  local plan = options.call(make, net, shape, o, { originals = {} }, function() return 1 end)
  return plan
end

-- The graph and the units of a list of groups.
local function units_of(groups)
  local first, list, seen = groups[1], {}, {}
  for i, group in ipairs(groups) do
    if getmetatable(group) ~= core.Group then error(("prune.verify: element %d of the list must be a group, got %s"):format(i, type(group)), 3) end
    if group:graph() ~= first:graph() then error("prune.verify: the groups of the list must be of one graph", 3) end
    for _, unit in ipairs(group:units()) do
      if not seen[unit] then list[#list + 1] = unit end
      seen[unit] = true
    end
  end
  return first:graph(), list
end

--- Check the contract of pruning: the pruned model computes what the ablated model computes (the same model with all entries of the removed
-- units zero). Works on copies; nothing is changed.
-- @param net the module that the plan was made for
-- @param plan a plan that is not applied yet, a group, or a list of groups of one graph
-- @param options { dtype = "f32" or "f64", gradients = false, tolerance = 1e-4 for f32, 1e-10 for f64, batch = 2 }
-- @return the largest difference relative to the largest output; raises when it exceeds the tolerance
-- @usage prune.verify(net, prune.structured(net, shape, { ratio = 0.5 }))
function structured.verify(net, plan, given)
  local o = options.check("prune.verify", given, { dtype = "f32", gradients = false, tolerance = none, batch = 2 })
  options.module("prune.verify", "the first argument", net)
  options.choice("prune.verify", "dtype", o.dtype, { "f32", "f64" })
  options.count("prune.verify", "batch", o.batch)
  if type(o.gradients) ~= "boolean" then error(("prune.verify: gradients is true or false, got %s"):format(tostring(o.gradients)), 2) end
  if o.tolerance ~= nil then options.number("prune.verify", "tolerance", o.tolerance, 0, math.huge) end
  local traced, units
  if plans.is_plan(plan) then
    if plan.applied then error("prune.verify: the plan was applied already; verify it before", 2) end
    if plan.net ~= net then error("prune.verify: the plan was made for another module", 2) end
    traced, units = plan.graph, plan.units
  elseif getmetatable(plan) == core.Group then
    traced, units = plan:graph(), plan:units()
  elseif type(plan) == "table" and #plan > 0 then
    traced, units = units_of(plan)
  else
    error("prune.verify: the second argument must be a plan, a group or a list of groups, got " .. type(plan), 2)
  end
  local owner = traced:state().net
  if owner and owner ~= net then error("prune.verify: the group is of another module's graph", 2) end
  local output, gradient = core.verify(traced, units, examples_of(traced, o.batch), o.dtype, o.gradients)
  local worst, tolerance = math.max(output, gradient), o.tolerance or (o.dtype == "f64" and 1e-10 or 1e-4)
  if worst > tolerance or worst ~= worst then
    error(("prune.verify: the pruned and the ablated model differ by %.3g (tolerance %.3g)"):format(worst, tolerance), 2)
  end
  return worst
end

return structured
