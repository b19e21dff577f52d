-- plan.lua - a plan: the units of a model that are to go, what that saves, and their removal.
local graph = require "prune.graph"
local options = require "prune.options"

local plan = {}
local Plan = {}
Plan.__index = Plan

-- Units of a group that go.
local function gone_of(self, group)
  local chosen = {}
  for _, u in ipairs(self.units) do chosen[u] = true end
  local count = 0
  for _, u in ipairs(group:units()) do count = count + (chosen[u] and 1 or 0) end
  return count
end

-- Counts must be taken before the removal, after which the groups are those of another graph.
local function lines_of(self)
  local lines = { { "group", "axis", "units", "left" } }
  for i, group in ipairs(self.groups) do
    local gone = gone_of(self, group)
    lines[#lines + 1] = { self.names[i][1], tostring(self.names[i][2]), tostring(group:count()), tostring(group:count() - gone) }
  end
  return lines
end

--- Remove the units, all or nothing.
-- @param[opt] options
--   fold: true puts the constant that a removed channel gives without its weights, act(bias) or behind a batch norm act(beta), into the
--   bias of the layers that read it, or into the running mean of the batch norm behind them: the output of the model does not change
--   where the channel was constant already. Where padding brings zeros that cannot be exact and is left out; fold = "interior" then takes the
--   constant of the middle. plan.repairs and the printed plan tell what was done and what could not be
-- @return the plan
-- @usage prune.structured(net, { 3, 32, 32 }, { ratio = 0.5 }):apply { fold = true }
function Plan:apply(given)
  local o = options.check("plan:apply", given, { fold = false })
  if type(o.fold) ~= "boolean" and o.fold ~= "interior" then
    error(('plan:apply: fold is true, false or "interior", got %s'):format(tostring(o.fold)), 2)
  end
  if self.applied then error("plan:apply: this plan was applied already; make a new one", 2) end
  local repaired = o.fold and require("prune.repair.removal").prepare(self.graph, self.units, o)
  local lines = lines_of(self)
  self.graph:remove_units(self.units, self.graph:state().replay)
  self.lines, self.applied = lines, true
  if repaired then self.repairs = repaired() end
  return self
end

Plan.__tostring = function(self)
  local out = graph.aligned(self.lines or lines_of(self), { false, true, true, true })
  table.insert(out, 2, ("-"):rep(#out[1]))
  local function change(name, from, to)
    return ("%s %s -> %s (%.1f%%)"):format(name, graph.thousands(from), graph.thousands(to), 100 * to / from)
  end
  out[#out + 1] = ("%d units go: %s, %s"):format(#self.units, change("params", self.before.params, self.params),
    change("MACs", self.before.macs, self.macs))
  for _, line in ipairs(self.repairs or {}) do out[#out + 1] = line.text end
  for _, note in ipairs(self.applied and {} or self.graph:notes()) do
    out[#out + 1] = ("pinned: %s at '%s': %s"):format(note.op, note.path, note.text)
  end
  return table.concat(out, "\n")
end

--- Make a plan of its fields: graph, net, groups, names, units, before, macs, params, target, amount. prune.structured comes here.
-- @param fields
-- @return plan
function plan.new(fields)
  fields.applied = false
  return setmetatable(fields, Plan)
end

--- Is it a plan?
-- @param value anything
-- @return boolean
function plan.is_plan(value) return getmetatable(value) == Plan end

plan._Plan = Plan -- for help

return plan
