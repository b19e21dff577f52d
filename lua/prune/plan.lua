-- plan.lua - a plan: the units of a model that are to go, group by group, what that saves, and their removal.
local core = require "prune.core"
local graph = require "prune.graph"
local history = require "prune.history"
local options = require "prune.options"
local target = require "prune.target"
local util = require "prune.util"

local plan = {}
local Plan = {}
Plan.__index = Plan
local Entry = {}
Entry.__index = Entry

-- --- groups of a plan ------------------------------------------------------------------------------------------------

local function check_open(self, where)
  if self.applied then error(("%s: this plan was applied already; make a new one"):format(where), 3) end
end

--- Nothing of this group goes.
-- @return the entry
-- @usage for entry in plan:groups() do if entry.name:find "^stem" then entry:veto() end end
function Entry:veto()
  check_open(self._plan, "entry:veto")
  self.positions = {}
  self._plan:_update()
  return self
end

--- Some of the units that would go stay.
-- @param what how many stay: those of highest score; or a list of positions within the group, from 1
-- @return the entry
-- @usage entry:keep(4)
function Entry:keep(what)
  check_open(self._plan, "entry:keep")
  local stays = {}
  if math.type(what) == "integer" and what >= 0 then
    local scores, order = self.scores, table.move(self.positions, 1, #self.positions, 1, {})
    local list = scores:totable()
    table.sort(order, function(a, b) return list[a] > list[b] or list[a] == list[b] and a > b end)
    for i = 1, math.min(what, #order) do stays[order[i]] = true end
  elseif type(what) == "table" then
    for i, position in ipairs(what) do
      if math.type(position) ~= "integer" or position < 1 or position > self.count then
        error(("entry:keep: element %d of the list must be a position in 1..%d, got %s"):format(i, self.count, tostring(position)), 2)
      end
      stays[position] = true
    end
  else
    error(("entry:keep: a number of units or a list of positions is needed, got %s"):format(tostring(what)), 2)
  end
  local goes = {}
  for _, position in ipairs(self.positions) do
    if not stays[position] then goes[#goes + 1] = position end
  end
  self.positions = goes
  self._plan:_update()
  return self
end

--- The numbers of the units that go, in the plan's graph.
-- @return list of integers
function Entry:units()
  local all, list = self.group:units(), {}
  for i, position in ipairs(self.positions) do list[i] = all[position] end
  return list
end

--- The layers that the group's units touch.
-- @return list of module paths, in the order of the model
function Entry:layers()
  local list, seen = {}, {}
  for _, part in ipairs(self.parts) do
    local path = part.name:match "^(.*)%.[^.]+$" or part.name
    if not seen[path] then list[#list + 1], seen[path] = path, true end
  end
  return list
end

--- The indices that go, along the axis that names the group.
-- @return list of integers
function Entry:indices()
  if #self.positions == 0 then return {} end
  for part in self.group:pick(self.positions):parts() do
    if part.name == self.name and part.dim == self.dim then return part.indices end
  end
end

Entry.__tostring = function(self)
  return ("%s axis %d: %d of %d units go"):format(self.name, self.dim, #self.positions, self.count)
end

-- --- what a plan knows ----------------------------------------------------------------------------------------------

-- After a veto: which units go now, and what that costs.
function Plan:_update()
  self.changed, self.units = true, {}
  for _, entry in ipairs(self.entries) do table.move(entry:units(), 1, #entry.positions, #self.units + 1, self.units) end
  table.sort(self.units)
  local outcome = core.outcomes(self.graph, { self.units })[1]
  self.macs, self.params, self.bytes, self.latency = outcome.macs, outcome.params, outcome.bytes, nil
end

--- The groups of the plan one by one, to look at and to change: each has name, dim, kind, count (units), positions (of those that go) and the
-- methods veto, keep, layers, indices.
-- @return iterator of entries
-- @usage for entry in plan:groups() do print(entry, table.concat(entry:layers(), " ")) end
function Plan:groups()
  local i = 0
  return function()
    i = i + 1
    return self.entries[i]
  end
end

--- What was reached of the target.
-- @return share of the units that go for a ratio, else what is left, absolute; nil for a latency that a veto has changed
function Plan:reached()
  if self.target ~= "ratio" then return self[self.target] end
  local gone, all = 0, 0
  for _, entry in ipairs(self.entries) do gone, all = gone + entry.before + #entry.positions, all + entry.original end
  return all > 0 and gone / all or 0
end

-- --- asking ---------------------------------------------------------------------------------------------------------

local function ask_one(entry, number, total, read, write)
  while true do
    write(("%d/%d  %s (%s)? y yes, n no, a number: so many, a all from here, q none from here: "):format(number, total, tostring(entry),
      table.concat(entry:layers(), " ")))
    local answer = read()
    answer = answer and answer:match "^%s*(.-)%s*$":lower() or "q"
    local count = math.tointeger(tonumber(answer))
    if answer == "y" or answer == "n" or answer == "a" or answer == "q" then return answer end
    if count and count >= 0 and count <= #entry.positions then return count end
    write(("y, n, a, q or a number up to %d\n"):format(#entry.positions))
  end
end

--- Walk the plan group by group and ask which are to go: y as planned, n not at all, a number: so many, those of lowest score, a this and all that
-- follow, q this and all that follow stay. Nothing is removed before plan:apply().
-- @param[opt] options read = function() -> line (io.read), write = function(text) (io.write)
-- @return the plan
-- @usage plan:ask():apply()
function Plan:ask(given)
  check_open(self, "plan:ask")
  local o = options.check("plan:ask", given, { read = io.read, write = function(text) io.write(text) io.flush() end })
  local all
  for i, entry in ipairs(self.entries) do
    if #entry.positions > 0 and all ~= "a" then
      local answer = all or ask_one(entry, i, #self.entries, o.read, o.write)
      if answer == "a" or answer == "q" then all = answer end
      if answer == "n" or answer == "q" then entry:veto()
      elseif math.type(answer) == "integer" then entry:keep(#entry.positions - answer) end
    end
  end
  return self
end

-- --- printing -------------------------------------------------------------------------------------------------------

local function short_layers(entry)
  local layers = entry:layers()
  return table.concat(layers, " ", 1, math.min(#layers, 3)) .. (#layers > 3 and (" ... (%d)"):format(#layers) or "")
end

-- What each group saves when it alone goes.
local function savings(self)
  local lists = { {} }
  for i, entry in ipairs(self.entries) do lists[i + 1] = entry:units() end
  return core.outcomes(self.graph, lists, false)
end

-- Counts must be taken before the removal, after which the groups are those of another graph.
local function lines_of(self)
  local lines = { { "group", "axis", "kind", "units", "left", "layers", "params", "MACs" } }
  local costs, plain = savings(self), true
  for _, entry in ipairs(self.entries) do plain = plain and entry.kind == "channel" end
  for i, entry in ipairs(self.entries) do
    local alone, all = costs[i + 1], costs[1]
    lines[i + 1] = { entry.name, tostring(entry.dim), entry.kind, tostring(entry.count), tostring(entry.count - #entry.positions),
      short_layers(entry), graph.thousands(alone.params - all.params), graph.thousands(alone.macs - all.macs) }
  end
  local right = { false, true, false, true, true, false, true, true }
  for _, line in ipairs(plain and lines or {}) do table.remove(line, 3) end
  if plain then table.remove(right, 3) end
  return graph.aligned(lines, right)
end

-- Where kinds or layers have ratios of their own, there may be none for the rest.
local function asked_text(self)
  if self.own then return "ratios of kinds or layers" end
  return target.text(self.target, self.amount, self.base[self.target])
end

-- What limits held back, unless a veto has changed the plan since.
local function short_text(self)
  local list, words = not self.changed and self.short or {}, {}
  for i = 1, math.min(#list, 3) do
    words[i] = ("%s axis %d: %d of %d go"):format(list[i].name, list[i].dim, list[i].gone, list[i].want)
  end
  if #list == 0 then return "" end
  return ("; limits hold units back (%s%s)"):format(table.concat(words, ", "), #list > 3 and (" ... (%d)"):format(#list) or "")
end

local function asked_line(self)
  local reached = self:reached()
  local asked = "asked: " .. asked_text(self)
  if not reached then return asked end
  local text = ("%s; reached: %s"):format(asked, target.text(self.target, reached, self.base[self.target]))
  if self.target == "ratio" and #self.units == 0 and (self.amount > 0 or self.own) and not self.changed then
    text = text .. "; " .. (self.short and "no group has so many units that one goes" or "rounded to multiples every group stays whole")
  end
  return text .. short_text(self)
end

-- Parameters that no operator reads, like those of a branch for training where the model was traced in evaluation mode: they lose nothing.
local function unread(traced)
  local read, names = {}, {}
  for _, node in ipairs(traced:nodes()) do
    for _, value in pairs(node.inputs) do read[value.number] = true end
  end
  for _, value in ipairs(traced:tensors()) do
    if value.kind == "parameter" and not read[value.number] then names[#names + 1] = value.name end
  end
  return names
end

local function summary_of(self)
  local all, out = 0, {}
  for _, entry in ipairs(self.entries) do all = all + entry.count end
  local function change(name, from, to)
    return ("%s %s -> %s (%.1f%%)"):format(name, graph.thousands(from), graph.thousands(to), from > 0 and 100 * to / from or 100)
  end
  out[1] = ("%d of %d units go: %s, %s"):format(#self.units, all, change("params", self.before.params, self.params),
    change("MACs", self.before.macs, self.macs))
  if self.target then out[2] = asked_line(self) end
  for _, note in ipairs(self.graph:notes()) do out[#out + 1] = ("pinned: %s at '%s': %s"):format(note.op, note.path, note.text) end
  local names = unread(self.graph)
  if #names > 0 then
    out[#out + 1] = ("not read when the model was traced (%s mode), left as they are: %s"):format(self.net.training and "training" or
      "evaluation", table.concat(names, ", ", 1, math.min(#names, 6)) .. (#names > 6 and (" ... (%d)"):format(#names) or ""))
  end
  return out
end

-- The whole text; the columns of savings tell what a group saves when it alone goes.
local function text_of(self)
  local out, summary = lines_of(self), summary_of(self)
  table.insert(out, 2, ("-"):rep(#out[1]))
  return table.concat(table.move(summary, 1, #summary, #out + 1, out), "\n")
end

Plan.__tostring = function(self) return self.text or text_of(self) end

-- --- doing it -------------------------------------------------------------------------------------------------------

-- What the history tells of a plan; of the data that layers were fitted on, only how many.
local function about(self, o)
  local fitted = o.reconstruct
  return { criterion = self.criterion, asked = self.target and asked_text(self),
    fold = o.fold or nil, reconstruct = fitted and { batches = fitted.batches, ridge = fitted.ridge, positions = fitted.positions } }
end

--- Remove the units, all or nothing. The step is noted in prune.history(net).
-- @param[opt] options
--   fold: true puts the constant that a removed channel gives without its weights, act(bias) or behind a batch norm act(beta), into the
--   bias of the layers that read it, or into the running mean of the batch norm behind them: the output of the model does not change
--   where the channel was constant already. Where padding brings zeros that cannot be exact and is left out; fold = "interior" then takes the
--   constant of the middle;
--   reconstruct: { data =, batches = 4, ridge = 1e-4, positions = nil } fits the layers that lose inputs anew, one after the other, so that on these data
--   they give what they gave in the whole model (least squares, He et al. 2017); ridge: penalty on the change of the weights, relative to
--   the mean square of the inputs; positions: so many windows of each image, at random (all).
--   plan.repairs and the printed plan tell what was done and what could not be;
--   undo: true (default) keeps what is there now, so that plan:undo() can put it back (which tells what that costs); false keeps nothing
-- @return the plan
-- @usage prune.structured(net, { 3, 32, 32 }, { ratio = 0.5 }):apply { fold = true, reconstruct = { data = train, batches = 8 } }
function Plan:apply(given)
  local o = options.check("plan:apply", given, { fold = false, reconstruct = options.none, undo = true })
  if type(o.fold) ~= "boolean" and o.fold ~= "interior" then
    error(('plan:apply: fold is true, false or "interior", got %s'):format(tostring(o.fold)), 2)
  end
  if type(o.undo) ~= "boolean" then error(("plan:apply: undo is true or false, got %s"):format(tostring(o.undo)), 2) end
  check_open(self, "plan:apply")
  if o.reconstruct ~= nil then o.reconstruct = require("prune.repair.reconstruct").read(o.reconstruct) end
  local repaired = (o.fold or o.reconstruct) and require("prune.repair.removal").prepare(self.graph, self.units, o)
  local text = text_of(self)
  util.or_back(function()
    util.undisturbed(function()
      self.removal, self.step = self.graph:remove_units(self.units, self.graph:state().replay, o.undo or repaired, about(self, o))
      self.text, self.applied = text, true
    end)
    if repaired then self.repairs = repaired(function(tensor, value) self.removal:write(tensor, value) end) end
  end, function()
    if self.removal then self:undo() end
  end)
  for _, line in ipairs(self.repairs or {}) do self.text = self.text .. "\n" .. line.text end
  if not o.undo then self:release() end
  return self
end

--- Put back what plan:apply() removed, bit by bit: values, gradients, masks and optimiser state, in the same Parameters. The plan can be applied
-- again. Refused, with nothing changed, where the model was trained or pruned again since. It needs no memory and cannot fail half-way, because the
-- whole tensors are kept from plan:apply() on: every parameter and buffer that became smaller or was repaired, as it was, with gradient, mask and
-- optimiser state (plan.removal:bytes() of them). For as long as the plan lives a model that is trained with Adam thus takes up to four times its weights
-- more. plan:release(), or plan:apply { undo = false }, lets go of them.
-- @return the plan
-- @usage plan:apply(); local after = trainer:evaluate(test).accuracy; plan:undo()
function Plan:undo()
  if not self.applied then error("plan:undo: this plan was not applied", 2) end
  if not self.removal then error("plan:undo: nothing was kept (plan:release(), or plan:apply with undo = false)", 2) end
  self.removal:undo()
  history.forget(self.net, self.step)
  self.applied, self.removal, self.step, self.text, self.repairs = false, nil, nil, nil, nil
  return self
end

--- Let go of what plan:undo() would need.
-- @return the plan
-- @usage plan:apply(); trainer:fit(train, { epochs = 10 }); plan:release()
function Plan:release()
  if self.removal then self.removal:release() end
  self.removal = nil
  return self
end

--- Make a plan of its fields: graph, net, entries, units, before and base (costs now and at the first step), macs, params, bytes, latency, short (what
-- limits held back), own (only kinds or layers have ratios), target, amount (absolute), criterion (its name). prune.structured comes here.
-- @param fields
-- @return plan
function plan.new(fields)
  fields.applied = false
  for _, entry in ipairs(fields.entries) do
    entry._plan = fields
    setmetatable(entry, Entry)
  end
  return setmetatable(fields, Plan)
end

--- Is it a plan?
-- @param value anything
-- @return boolean
function plan.is_plan(value) return getmetatable(value) == Plan end

plan._Plan, plan._Entry = Plan, Entry -- for help

return plan
