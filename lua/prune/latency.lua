-- latency.lua - how long a model takes for one sample: what reports show and plans with a target of latency measure.
local core = require "prune.core"

local latency = {}

--- What is timed: a function of a list of inputs that runs a graph. The one place to change where a faster way to run it exists.
-- @param traced a graph
-- @return function(inputs)
function latency.runner(traced)
  return function(inputs) return traced:run(inputs, false) end
end

local function median(times)
  table.sort(times)
  return times[(#times + 1) // 2]
end

local FEWEST, MOST, ENOUGH = 9, 501, 30 -- runs, runs, milliseconds in all

--- Median milliseconds of a function of a list of inputs, after three runs that warm up.
-- @param run function(inputs)
-- @param inputs list of tensors
-- @param[opt] options { repeats = how often (default: 9 times, more often until enough milliseconds are used up), enough = 30 }
-- @return milliseconds
function latency.time(run, inputs, given)
  local repeats, enough = given and given.repeats, given and given.enough or ENOUGH
  local times, total = {}, 0
  core.no_grad(function()
    for _ = 1, 3 do run(inputs) end
    repeat
      local start = core.clock()
      run(inputs)
      times[#times + 1] = 1000 * (core.clock() - start)
      total = total + times[#times]
    until #times >= (repeats or FEWEST) and (repeats or total >= enough or #times >= MOST)
  end)
  return median(times)
end

--- Median milliseconds of a forward pass of a graph.
-- @param traced a graph
-- @param inputs list of tensors
-- @param[opt] repeats how often, as for latency.time
-- @return milliseconds
function latency.measure(traced, inputs, repeats) return latency.time(latency.runner(traced), inputs, { repeats = repeats }) end

--- Milliseconds of a graph with some units gone, on a copy.
-- @param traced a graph
-- @param units list of numbers
-- @param inputs list of tensors
-- @param measure function(graph, inputs) -> milliseconds
-- @return milliseconds
function latency.without(traced, units, inputs, measure)
  if #units == 0 then return measure(traced, inputs) end
  local copy = traced:copy()
  copy:remove_units(units)
  return measure(copy, inputs)
end

return latency
