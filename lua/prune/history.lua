--- What was removed from a model, step by step, and how to do the same to a fresh one.
--
-- Every removal (plan:apply, group:remove) is noted on the module and saved with it: a list of steps, each with the criterion and the target
-- (where a plan chose) and the groups: parameter, axis, kind and indices in terms of the model as it was before the step. A step of prune.depth has
-- blocks (numbers of the branches, in the order in which they run) and paths in place of groups.
local core = require "prune.core"
local Module = require "prune.nn.module"

local history = {}
local Graph = core.Graph.__index
local History = {}

local function short(indices)
  local runs, i = {}, 1
  while i <= #indices and #runs < 6 do
    local last = i
    while indices[last + 1] == indices[last] + 1 do last = last + 1 end
    runs[#runs + 1] = last == i and tostring(indices[i]) or indices[i] .. "-" .. indices[last]
    i = last + 1
  end
  return table.concat(runs, " ") .. (i <= #indices and " ..." or "")
end

History.__tostring = function(self)
  if #self == 0 then return "nothing was removed" end
  local lines = {}
  for i, step in ipairs(self) do
    lines[#lines + 1] = ("step %d%s%s"):format(i, step.criterion and ": " .. step.criterion or "", step.asked and ", " .. step.asked or "")
    for k, number in ipairs(step.blocks or {}) do lines[#lines + 1] = ("  branch %d, at %s"):format(number, tostring(step.paths[k])) end
    for _, place in ipairs(step.groups) do
      lines[#lines + 1] = ("  %s axis %d%s: %d go: %s"):format(place.parameter, place.dim, place.kind == "channel" and ""
        or " (" .. place.kind .. ")", #place.indices, short(place.indices))
    end
  end
  return table.concat(lines, "\n")
end

-- --- noting ---------------------------------------------------------------------------------------------------------

local remove_units = Graph.remove_units

--- Remove units by number, all or nothing, and note it on the model. group:remove() and plan:apply() come here.
-- @param units list of numbers, from group:units()
-- @param[opt] replay function that traces the model's code again, to see that it still fits (graph:state().replay); nil: the graph is the model
-- @param[opt] keep true: what was there before is kept, and the removal can be taken back
-- @param[opt] about table of fields for the history: criterion, asked
-- @return with keep: removal, whose undo() puts everything back and whose bytes() tells what it keeps; nil without
-- @return the step that was noted, or nil
function Graph:remove_units(units, replay, keep, about)
  local net, step = self:state().net, nil
  if net and #units > 0 then
    step = { groups = self:locate(units) }
    for name, value in pairs(about or {}) do step[name] = value end
  end
  local removal = remove_units(self, units, replay, keep)
  if step then history.note(net, step) end
  return removal, step
end

--- Note a step on a model.
-- @param net a module
-- @param step table
function history.note(net, step)
  local steps = rawget(net, "_history") or setmetatable({}, History)
  steps[#steps + 1] = step
  rawset(net, "_history", steps)
end

--- Forget the last step of a model, which was taken back.
-- @param net a module
-- @param step from graph:remove_units
function history.forget(net, step)
  local steps = rawget(net, "_history")
  if steps and step and steps[#steps] == step then steps[#steps] = nil end
end

--- Take up a history from a file.
-- @param net a module
-- @param steps list, or nil
function history.set(net, steps)
  rawset(net, "_history", type(steps) == "table" and setmetatable(steps, History) or nil)
end

local function check_net(net, where)
  if not Module.is_module(net) then error(("%s: the first argument must be a module, got %s"):format(where, type(net)), 3) end
end

--- What was removed from a model so far: a list of steps { criterion =, asked =, groups = list of { parameter =, dim =, kind =, indices = } }. Print
-- it, save it with the model, or do the same to a fresh model with prune.replay.
-- @param net a module
-- @return list of steps
-- @usage print(prune.history(net))
function history.history(net)
  check_net(net, "prune.history")
  return rawget(net, "_history") or setmetatable({}, History)
end

-- --- doing it again -------------------------------------------------------------------------------------------------

local function check_step(step, i)
  local ok = type(step) == "table" and type(step.groups) == "table"
  for _, place in ipairs(ok and step.groups or {}) do
    ok = ok and type(place) == "table" and type(place.parameter) == "string" and math.type(place.dim) == "integer"
      and type(place.indices) == "table"
  end
  if ok and step.blocks ~= nil then
    ok = type(step.blocks) == "table" and type(step.paths) == "table" and #step.blocks == #step.paths
    for _, number in ipairs(ok and step.blocks or {}) do ok = ok and math.type(number) == "integer" end
  end
  if not ok then error(("prune.replay: step %d is not one of a history"):format(i), 0) end
end

local function units_of(traced, step)
  local units = {}
  for _, place in ipairs(step.groups) do
    for _, unit in ipairs(traced:units_within(place.parameter, place.dim, place.indices)) do units[#units + 1] = unit end
  end
  return units
end

--- Remove from a model what was removed from another, step by step, all or nothing: it gets the same shapes, and with the same weights it computes
-- the same.
-- @param net a module of the same architecture, as it was before the first step
-- @param shape input without the batch
-- @param steps from prune.history
-- @return the module
-- @usage local again = prune.replay(prune.models.cnn { channels = 1 }, { 1, 8, 8 }, prune.history(net))
function history.replay(net, shape, steps)
  check_net(net, "prune.replay")
  if type(steps) ~= "table" then error("prune.replay: the third argument must be a history, got " .. type(steps), 2) end
  for i, step in ipairs(steps) do check_step(step, i) end
  local traced, done = require("prune.graph").graph(net, shape), {}
  for i, step in ipairs(steps) do
    local ok, removal, noted = pcall(function()
      if step.blocks then return require("prune.depth").again(net, shape, step) end
      return traced:remove_units(units_of(traced, step), traced:state().replay, true, { criterion = step.criterion, asked = step.asked })
    end)
    if not ok then
      for k = #done, 1, -1 do
        done[k][1]:undo()
        history.forget(net, done[k][2])
      end
      error(("prune.replay: step %d does not fit this model: %s"):format(i, tostring(removal)), 2)
    end
    done[i] = { removal, noted }
    if step.blocks then traced = require("prune.graph").graph(net, shape) end
  end
  for _, one in ipairs(done) do one[1]:release() end
  return net
end

return history
