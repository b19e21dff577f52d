-- schedule.lua - numbers that change over a run: learning-rate factors by epoch, sparsities by step.
--
-- A learning-rate schedule is a function of the epoch (or step) counted from 0 that gives a factor of the optimiser's initial rate. A
-- sparsity schedule is a function of the step counted from 1 that gives a sparsity. Both are plain functions: any function will do in
-- their place.
local core = require "prune.core"
local options = require "prune.options"

local schedule = {}
local required = options.none

local function read(where, given, defaults, needed)
  local o = options.check("prune.schedule." .. where, given, defaults)
  for _, name in ipairs(needed) do
    if o[name] == nil then core.fail(("prune.schedule.%s: option '%s' must be given"):format(where, name)) end
  end
  return o
end

-- --- learning rates -----------------------------------------------------------------------------------------------

--- Times gamma every `size` epochs.
-- @param options { size =, gamma = 0.1 }
-- @return function(epoch from 0) -> factor
function schedule.step(given)
  local o = read("step", given, { size = required, gamma = 0.1 }, { "size" })
  return function(k) return o.gamma ^ (k // o.size) end
end

--- Times gamma at each milestone.
-- @param options { milestones = {...}, gamma = 0.1 }
-- @return function(epoch from 0) -> factor
function schedule.multistep(given)
  local o = read("multistep", given, { milestones = required, gamma = 0.1 }, { "milestones" })
  return function(k)
    local passed = 0
    for _, m in ipairs(o.milestones) do passed = passed + (k >= m and 1 or 0) end
    return o.gamma ^ passed
  end
end

--- Half a cosine from 1 to `last` over `epochs` (Loshchilov and Hutter 2016).
-- @param options { epochs =, last = 0 }
-- @return function(epoch from 0) -> factor
function schedule.cosine(given)
  local o = read("cosine", given, { epochs = required, last = 0 }, { "epochs" })
  return function(k) return o.last + (1 - o.last) * (1 + math.cos(math.pi * math.min(k, o.epochs) / o.epochs)) / 2 end
end

--- gamma to the power of the epoch.
-- @param options { gamma = }
-- @return function(epoch from 0) -> factor
function schedule.exponential(given)
  -- with a range it is the sparsity schedule of the same name
  if type(given) == "table" and given.to then return schedule.exponential_sparsity(given) end
  local o = read("exponential", given, { gamma = required }, { "gamma" })
  return function(k) return o.gamma ^ k end
end

--- One cycle (Smith and Topin 2017): from 1 / start up to 1, then down to 1 / (start * final), along cosines, over `steps`.
-- @param options { steps =, rise = 0.3, start = 25, final = 1e4 }
-- @return function(step from 0) -> factor of the largest rate
function schedule.onecycle(given)
  local o = read("onecycle", given, { steps = required, rise = 0.3, start = 25, final = 1e4 }, { "steps" })
  local first, last, top = 1 / o.start, 1 / o.start / o.final, o.rise * o.steps - 1
  local function along(from, to, share) return to + (from - to) / 2 * (1 + math.cos(math.pi * share)) end
  return function(k)
    if k <= top then return along(first, 1, k / top) end
    return along(1, last, math.min((k - top) / (o.steps - 1 - top), 1))
  end
end

--- A linear rise from `from` to 1 over the first `steps`, then another schedule.
-- @param options { steps =, from = 0.1, after = function(k) (default: 1 for ever) }
-- @return function(k from 0) -> factor
function schedule.warmup(given)
  local o = read("warmup", given, { steps = required, from = 0.1, after = required }, { "steps" })
  return function(k)
    if k < o.steps then return o.from + (1 - o.from) * k / o.steps end
    return o.after and o.after(k - o.steps) or 1
  end
end

-- --- sparsities -----------------------------------------------------------------------------------------------------

local function check_share(where, name, value)
  if type(value) == "number" and value >= 0 and value <= 1 then return end
  core.fail(("prune.schedule.%s: %s must be a share in 0..1, got %s"):format(where, name, tostring(value)))
end

-- Options of a range of steps; how far step k is in it, 0..1, in whole strides of `every`; the last step is always reached.
local function read_range(where, given)
  local o = read(where, given, { from = 0, to = required, first = 1, last = required, every = 1 }, { "to", "last" })
  for _, name in ipairs { "from", "to" } do check_share(where, name, o[name]) end
  for _, name in ipairs { "first", "last", "every" } do
    if type(o[name]) ~= "number" then
      core.fail(("prune.schedule.%s: %s must be a number of steps, got %s"):format(where, name, tostring(o[name])))
    end
  end
  if o.every < 1 or o.every ~= o.every then core.fail(("prune.schedule.%s: every must be at least 1, got %g"):format(where, o.every)) end
  if o.last <= o.first then core.fail(("prune.schedule.%s: last (%g) must come after first (%g)"):format(where, o.last, o.first)) end
  return o, function(k)
    if k >= o.last then return 1 end
    return math.max((k - o.first) // o.every * o.every / (o.last - o.first), 0)
  end
end

local function ramp(where, shape)
  return function(given)
    local o, share = read_range(where, given)
    return function(k) return o.from + (o.to - o.from) * shape(share(k)) end
  end
end

--- A straight line from `from` at step `first` to `to` at step `last`.
-- @param options { from = 0, to =, first = 1, last =, every = 1 }
-- @return function(step from 1) -> sparsity
schedule.linear = ramp("linear", function(t) return t end)

--- Quick at first, slow at the end: to + (from - to) (1 - t)^3 (Zhu and Gupta 2017).
-- @param options { from = 0, to =, first = 1, last =, every = 1 }
-- @return function(step from 1) -> sparsity
schedule.cubic = ramp("cubic", function(t) return 1 - (1 - t) ^ 3 end)

--- The share of what is left shrinks by the same factor each step.
-- @param options { from = 0, to =, first = 1, last =, every = 1 }
-- @return function(step from 1) -> sparsity
function schedule.exponential_sparsity(given)
  local o, share = read_range("exponential", given)
  return function(k) return 1 - (1 - o.from) ^ (1 - share(k)) * (1 - o.to) ^ share(k) end
end

--- `from` at first, then at each of the steps `at` the sparsity of the same place in `to`.
-- @param options { at = list of steps, to = list of sparsities, from = 0 }
-- @return function(step from 1) -> sparsity
-- @usage prune.schedule.multistep_sparsity { at = { 100, 200 }, to = { 0.5, 0.9 } }
function schedule.multistep_sparsity(given)
  local o = read("multistep_sparsity", given, { at = required, to = required, from = 0 }, { "at", "to" })
  check_share("multistep_sparsity", "from", o.from)
  if type(o.at) ~= "table" or type(o.to) ~= "table" or #o.at ~= #o.to or #o.at == 0 then
    error("prune.schedule.multistep_sparsity: at and to are lists of one length, such as { at = { 100, 200 }, to = { 0.5, 0.9 } }", 2)
  end
  for i, at in ipairs(o.at) do
    check_share("multistep_sparsity", "to", o.to[i])
    if type(at) ~= "number" or i > 1 and at <= o.at[i - 1] then
      core.fail(("prune.schedule.multistep_sparsity: the steps in at must rise, got %s"):format(tostring(at)))
    end
  end
  return function(k)
    local sparsity = o.from
    for i, at in ipairs(o.at) do sparsity = k >= at and o.to[i] or sparsity end
    return sparsity
  end
end

--- A schedule as options of other functions take it: a function, or a table with the name of one of these in front of its options.
-- @param value a function, or such as { "cubic", to = 0.9, last = 100 }
-- @param where the caller's name, for messages
-- @return function
function schedule.read(value, where)
  local meta = getmetatable(value)
  if type(value) == "function" or meta and meta.__call then return value end
  if type(value) ~= "table" or type(value[1]) ~= "string" then
    core.fail(('%s: a schedule is a function or a table such as { "cubic", to = 0.9, last = 100 }, got %s'):format(where, type(value)))
  end
  local name, own, known = value[1], {}, {}
  for key in pairs(schedule) do known[#known + 1] = key ~= "read" and key or nil end
  for key, v in pairs(value) do own[key] = key ~= 1 and v or nil end
  if name == "read" or not rawget(schedule, name) then
    table.sort(known)
    local near = core.nearest(name, known)
    core.fail(("%s: there is no schedule '%s'%s"):format(where, name, near and ("; did you mean '" .. near .. "'?") or
      " (there are: " .. table.concat(known, ", ") .. ")"))
  end
  return schedule[name](own)
end

return schedule
