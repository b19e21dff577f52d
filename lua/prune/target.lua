-- target.lua - how much should go: reading the target of a plan, and what a schedule makes of it.
local core = require "prune.core"

local target = {}

--- What a target may be of: the share of units that go, or what is left of a cost.
target.names = { "ratio", "macs", "params", "bytes", "latency" }

-- Words for messages and plans.
local units = { macs = "MACs", params = "parameters", bytes = "bytes", latency = "ms" }

local function fail(where, ...) error(where .. ": " .. (...):format(select(2, ...)), 0) end

local function check_number(where, name, value)
  if type(value) ~= "number" or value ~= value or value < 0 or value == math.huge then
    fail(where, "%s must be a number of at least 0, got %s", name, tostring(value))
  end
end

--- The one target among the options, or nil where there is none.
-- @param where the caller's name, for messages
-- @param o options
-- @return { name =, amount = } as given
function target.read(where, o)
  local given
  for _, name in ipairs(target.names) do
    if o[name] ~= nil then
      if given then fail(where, "give one of %s, not both %s and %s", table.concat(target.names, ", "), given, name) end
      given = name
    end
  end
  if not given then return nil end
  local amount = o[given]
  check_number(where, given, amount)
  if given == "ratio" and amount > 1 then fail(where, "ratio must be a number in 0..1, got %g", amount) end
  if given ~= "ratio" and amount == 0 then fail(where, "%s must be above 0", given) end
  return { name = given, amount = amount }
end

--- A target part of the way to the whole one, in absolute numbers.
-- @param wanted from target.read
-- @param base costs at the start { macs =, params =, bytes =, latency = }
-- @param way share of the way, 1 at the end
-- @return ratio, or what may be left
function target.at(wanted, base, way)
  if wanted.name == "ratio" then return wanted.amount * way end
  local whole = base[wanted.name]
  local left = wanted.amount <= 1 and wanted.amount * whole or wanted.amount
  return whole - (whole - math.min(left, whole)) * way
end

--- A target or what was reached of it as text.
-- @param name of the target
-- @param amount absolute
-- @param whole of the cost at the start
-- @return string
function target.text(name, amount, whole)
  if name == "ratio" then return ("%.4g of the units"):format(amount) end
  if name == "latency" then return ("%.3f ms (%.1f%%)"):format(amount, 100 * amount / whole) end
  return ("%.0f %s (%.1f%%)"):format(amount, units[name], 100 * amount / whole)
end

-- --- several steps --------------------------------------------------------------------------------------------------

local named = {
  linear = function(t) return t end,
  -- Zhu and Gupta 2017
  cubic = function(t) return 1 - (1 - t) ^ 3 end,
  -- what is left shrinks by the same factor each step
  exponential = function(t, left) return left < 1 and (1 - math.max(left, 1e-6) ^ t) / (1 - math.max(left, 1e-6)) or t end,
}

local function listed(where, list, steps)
  if #list ~= steps then fail(where, "a schedule in a list has one share of the way per step: %d for %d steps", #list, steps) end
  return function(step) return list[step] end
end

--- Read a schedule of several steps.
-- @param where the caller's name, for messages
-- @param schedule "linear", "cubic", "exponential", a list of shares of the way, or a function(step from 1, steps) -> share; nil: linear
-- @param steps how many
-- @param left share that the whole target leaves
-- @return list of shares of the way, rising to 1
function target.ways(where, schedule, steps, left)
  local f
  if schedule == nil then schedule = "linear" end
  if type(schedule) == "table" then f = listed(where, schedule, steps)
  elseif type(schedule) == "function" then f = schedule
  elseif named[schedule] then f = function(step) return named[schedule](step / steps, left) end
  else
    local near = core.nearest(tostring(schedule), { "linear", "cubic", "exponential" })
    fail(where, 'schedule is "linear", "cubic", "exponential", a list of shares or a function, got %s%s', tostring(schedule),
      near and ("; did you mean '" .. near .. "'?") or "")
  end
  local ways, last = {}, 0
  for step = 1, steps do
    local way = f(step, steps)
    if type(way) ~= "number" or not (way >= last - 1e-9 and way <= 1 + 1e-9) then
      fail(where, "the schedule must give shares of the way that rise to 1; step %d of %d gives %s after %g", step, steps, tostring(way), last)
    end
    ways[step], last = math.min(way, 1), way
  end
  if last < 1 - 1e-9 then fail(where, "the schedule ends at %g of the way; its last share must be 1", last) end
  ways[steps] = 1
  return ways
end

return target
