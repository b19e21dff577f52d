-- latency.lua - how long a model takes for one sample: what plans with a target of latency measure.
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

--- Median milliseconds of a forward pass, after three that warm up.
-- @param traced a graph
-- @param inputs list of tensors
-- @param[opt] repeats how often (default: 9)
-- @return milliseconds
function latency.measure(traced, inputs, repeats)
  local run, times = latency.runner(traced), {}
  core.no_grad(function()
    for i = -2, repeats or 9 do
      local start = core.clock()
      run(inputs)
      if i > 0 then times[i] = 1000 * (core.clock() - start) end
    end
  end)
  return median(times)
end

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
