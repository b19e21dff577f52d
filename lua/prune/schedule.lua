-- schedule.lua - numbers that change over a run: learning-rate factors by epoch, sparsities by step.
--
-- A learning-rate schedule is a function of the epoch (or step) counted from 0 that gives a factor of the optimiser's initial rate. A
-- sparsity schedule is a function of the step counted from 1 that gives a sparsity. Both are plain functions: any function will do in
-- their place.
local options = require "prune.options"

local schedule = {}
local required = options.none

local function read(where, given, defaults, needed)
  local o = options.check("prune.schedule." .. where, given, defaults)
  for _, name in ipairs(needed) do
    if o[name] == nil then error(("prune.schedule.%s: option '%s' must be given"):format(where, name), 3) end
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

local function ramp(where, shape)
  return function(given)
    local o = read(where, given, { from = 0, to = required, first = 1, last = required, every = 1 }, { "to", "last" })
    if o.last <= o.first then error(("prune.schedule.%s: last (%g) must come after first (%g)"):format(where, o.last, o.first), 2) end
    return function(k)
      k = o.first + (k - o.first) // o.every * o.every
      local share = math.min(math.max((k - o.first) / (o.last - o.first), 0), 1)
      return o.from + (o.to - o.from) * shape(share)
    end
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
  local o = read("exponential", given, { from = 0, to = required, first = 1, last = required, every = 1 }, { "to", "last" })
  return function(k)
    k = o.first + (k - o.first) // o.every * o.every
    local share = math.min(math.max((k - o.first) / (o.last - o.first), 0), 1)
    return 1 - (1 - o.from) ^ (1 - share) * (1 - o.to) ^ share
  end
end

return schedule
