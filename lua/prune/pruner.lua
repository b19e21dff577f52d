-- pruner.lua - pruning in several steps, with training between them: what prune.structured with option steps makes.
local options = require "prune.options"
local target = require "prune.target"

local pruner = {}
local Pruner = {}
Pruner.__index = Pruner
local WHERE = "prune.structured"

-- Share that the whole target leaves.
local function left_of(wanted, base)
  if wanted.name == "ratio" then return 1 - wanted.amount end
  return wanted.amount <= 1 and wanted.amount or math.min(1, wanted.amount / base[wanted.name])
end

local function next_plan(self)
  local number = self.number + 1
  return self.make(self.net, self.shape, self.options, self.progress, function(base)
    self.ways = self.ways or target.ways(WHERE, self.options.schedule, self.options.steps, left_of(self.options.wanted, base))
    return self.ways[number]
  end)
end

--- The plan of the next step, not applied yet: to look at and to change. It is made once; pruner:step() applies it.
-- @return plan, or nil after the last step
function Pruner:plan()
  if not self.pending and self.number < self.options.steps then
    self.pending = options.call(next_plan, self)
  end
  return self.pending
end

--- Take the next step: the criterion scores the model as it is now, and the units that go so that the schedule is kept are removed. Shares, counts and
-- limits are of the model before the first step, so that the last step meets the target.
-- @return the plan, applied; nil after the last step
-- @return number of the step
function Pruner:step()
  local plan = self:plan()
  if not plan then return nil end
  plan:apply(self.applying)
  self.pending, self.number = nil, self.number + 1
  return plan, self.number
end

--- All steps that are left, one for each turn of the loop.
-- @return iterator of number of the step, plan (applied)
-- @usage for step, plan in pruner:steps() do print(step, plan.macs) trainer:fit(train, { epochs = 1 }) end
function Pruner:steps()
  return function()
    local plan, number = self:step()
    if plan then return number, plan end
  end
end

--- What goes on from step to step beside the model, for checkpoints: which step is next, and what the model was before the first.
-- @return table of numbers and tables
function Pruner:state() return { number = self.number, originals = self.progress.originals, base = self.progress.base } end

--- Take up a state from Pruner:state(): the model is the one behind that step.
-- @param state table
function Pruner:load_state(state)
  local is_state = type(state) == "table" and math.type(state.number) == "integer" and type(state.originals) == "table"
  if not is_state or state.number < 0 or state.number > self.options.steps then
    error(("pruner:load_state: a state from pruner:state() of %d steps is needed, got %s"):format(self.options.steps,
      is_state and ("one behind step %d"):format(state.number) or type(state) == "table" and "another table" or type(state)), 2)
  end
  self.number, self.pending = state.number, nil
  self.progress.originals, self.progress.base = state.originals, state.base
end

Pruner.__tostring = function(self)
  return ("pruner: %d of %d steps taken"):format(self.number, self.options.steps)
end

--- Make a pruner. prune.structured with option steps comes here.
-- @param net a module
-- @param shape input without the batch
-- @param o checked options
-- @param make function(net, shape, o, progress, way) -> plan
-- @return pruner
function pruner.new(net, shape, o, make)
  return setmetatable({ net = net, shape = shape, options = o, make = make, number = 0, progress = { originals = {} },
    applying = { undo = false } }, Pruner)
end

pruner._Pruner = Pruner -- for help

return pruner
