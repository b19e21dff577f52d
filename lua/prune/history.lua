--- What was removed from a model, step by step, and how to do the same to a fresh one.
--
-- Every removal (plan:apply, group:remove) is noted on the module and saved with it: a list of steps, each with the criterion and the target
-- (where a plan chose) and the groups: parameter, axis, its size, kind and indices in terms of the model as it was before the step. What was
-- folded or fitted along stands in fold and reconstruct. A step of prune.depth has blocks (numbers of the branches, in the order in which they run) and
-- paths in place of groups; one of prune.mask.finalize has finalized: parameters, their sizes and bits (hexadecimal digits, core.mask_digits).
-- Masks that are still masks are the model's own and saved as such: a history reads them off the model.
local core = require "prune.core"
local options = require "prune.options"
local util = require "prune.util"

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

local function title_of(step, i)
  local words = {}
  if step.finalized then words[1] = "masks made final" end
  words[#words + 1], words[#words + 2] = step.criterion or step.asked, step.criterion and step.asked
  if step.fold then words[#words + 1] = "constants folded" end
  if step.reconstruct then words[#words + 1] = "layers fitted on data" end
  return ("step %d%s%s"):format(i, #words > 0 and ": " or "", table.concat(words, ", "))
end

local function add_lines(lines, step)
  for k, number in ipairs(step.blocks or {}) do lines[#lines + 1] = ("  branch %d, at %s"):format(number, tostring(step.paths[k])) end
  for _, place in ipairs(step.groups) do
    lines[#lines + 1] = ("  %s axis %d%s: %d go: %s"):format(place.parameter, place.dim, place.kind == "channel" and ""
      or " (" .. place.kind .. ")", #place.indices, short(place.indices))
  end
  for _, one in ipairs(step.finalized or {}) do
    lines[#lines + 1] = ("  %s: %d of %d entries"):format(one.parameter, one.zeros, one.entries)
  end
end

History.__tostring = function(self)
  local lines = {}
  for i, step in ipairs(self) do
    lines[#lines + 1] = title_of(step, i)
    add_lines(lines, step)
  end
  if self.masks and next(self.masks) then lines[#lines + 1] = "masks" end
  for name, mask in util.sorted(self.masks or {}) do
    lines[#lines + 1] = ("  %s: %d of %d entries"):format(name, core.count_zeros(mask))
  end
  return #lines > 0 and table.concat(lines, "\n") or "nothing was removed"
end

-- --- noting ---------------------------------------------------------------------------------------------------------

local remove_units = Graph.remove_units

-- Name of a tensor of a graph -> its shape.
local function shapes_of(traced)
  local shapes = {}
  for _, value in ipairs(traced:tensors()) do shapes[value.name] = value.shape end
  return shapes
end

--- Remove units by number, all or nothing, and note it on the model. group:remove() and plan:apply() come here.
-- @param units list of numbers, from group:units()
-- @param[opt] replay function that traces the model's code again, to see that it still fits (graph:state().replay); nil: the graph is the model
-- @param[opt] keep true: what was there before is kept, and the removal can be taken back
-- @param[opt] about table of fields for the history: criterion, asked, fold, reconstruct
-- @return with keep: removal, whose undo() puts everything back and whose bytes() tells what it keeps; nil without
-- @return the step that was noted, or nil
function Graph:remove_units(units, replay, keep, about)
  if getmetatable(self) ~= core.Graph or type(units) ~= "table" then
    error("graph:remove_units takes a list of unit numbers, got " .. type(units), 2)
  end
  local net, step = self:state().net, nil
  if net and #units > 0 then
    step = { groups = self:locate(units) }
    local shapes = shapes_of(self)
    for _, place in ipairs(step.groups) do place.size = shapes[place.parameter][place.dim] end
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

--- The steps of a model, for other modules: what is saved.
-- @param net a module
-- @return list of steps
function history.steps(net) return rawget(net, "_history") or setmetatable({}, History) end

--- For prune.mask.finalize: read a model's masks.
-- @param net a module
-- @return function() to call when they are final, which notes the step; nil where there is no mask
function history.finalizing(net)
  local list = {}
  for name, p in net:named_parameters() do
    if p.mask then
      local zeros, entries = core.count_zeros(p.mask)
      list[#list + 1] = { parameter = name, size = p:size(), bits = core.mask_digits(p.mask), zeros = zeros, entries = entries }
    end
  end
  return #list > 0 and function() history.note(net, { groups = {}, finalized = list }) end or nil
end

--- Forget the last step of a model, which was taken back.
-- @param net a module
-- @param step from graph:remove_units
function history.forget(net, step)
  local steps = rawget(net, "_history")
  if steps and step and steps[#steps] == step then steps[#steps] = nil end
end

-- --- in files -------------------------------------------------------------------------------------------------------

-- In place of bits, where they are those entries of the parameter that are not 0, which the file has anyway.
local AS_VALUES = "values"

local function bits_of_values(p) return core.mask_digits(p:value():ne(0)) end

local function tensors_of(net)
  local by_name = {}
  for name, p in net:named_parameters() do by_name[name] = p end
  return by_name
end

-- A copy of a step with other bits: change(entry, parameter or nil).
local function with_bits(step, by_name, change)
  if type(step) ~= "table" or type(step.finalized) ~= "table" then return step end
  local copy, list = {}, {}
  for name, value in pairs(step) do copy[name] = value end
  for i, one in ipairs(step.finalized) do
    list[i] = {}
    for name, value in pairs(one) do list[i][name] = value end
    list[i].bits = change(one, by_name[one.parameter])
  end
  copy.finalized = list
  return copy
end

--- The steps of a model as they go into its file.
-- @param net a module
-- @return list of steps, as plain values
function history.packed(net)
  local list, by_name = {}, tensors_of(net)
  for i, step in ipairs(history.steps(net)) do
    list[i] = with_bits(step, by_name, function(one, p)
      local same = p and one.bits and table.concat(p:size(), " ") == table.concat(one.size, " ") and bits_of_values(p) == one.bits
      return same and AS_VALUES or one.bits
    end)
  end
  return list
end

--- Take up a history from a file, when the model has the values of that file.
-- @param net a module
-- @param steps list, or nil
function history.set(net, steps)
  if type(steps) ~= "table" then return rawset(net, "_history", nil) end
  local list, by_name = setmetatable({}, History), tensors_of(net)
  for i, step in ipairs(steps) do
    list[i] = with_bits(step, by_name, function(one, p) return one.bits == AS_VALUES and p and bits_of_values(p) or one.bits end)
  end
  rawset(net, "_history", list)
end

--- What was removed from a model so far. Noted are, as steps in their order: units that plans and groups removed { criterion =, asked =, groups = list of
-- { parameter =, dim =, kind =, indices =, size = (of the axis) }, fold =, reconstruct = { batches =, ridge =, positions = } }, branches that
-- prune.depth took out, and masks of the model that prune.mask.finalize made final; and the masks that it has now, however they were made, as
-- field masks: name -> tensor. Not noted is what changes values alone: training, rewinding, prune.repair.batch_norm, weights that SparseGPT and OBS
-- moved. What is undone is forgotten. Print it, save it with the model, or do the same to a fresh model with prune.replay.
-- @param net a module
-- @return list of steps, with field masks
-- @usage print(prune.history(net))
function history.history(net)
  options.module("prune.history", "the first argument", net)
  local steps, masks = history.steps(net), {}
  for name, p in net:named_parameters() do masks[name] = p.mask end
  local list = table.move(steps, 1, #steps, 1, setmetatable({}, History))
  list.masks = masks
  return list
end

-- --- doing it again -------------------------------------------------------------------------------------------------

local function check_places(list, number)
  for _, one in ipairs(list) do
    if type(one) ~= "table" or type(one.parameter) ~= "string" then return false end
    if number and not (math.type(one[number]) == "integer" and type(one.indices) == "table") then return false end
    if not number and not (type(one.size) == "table" and (one.bits == nil or type(one.bits) == "string")) then return false end
  end
  return true
end

local function is_step(step)
  if type(step) ~= "table" or type(step.groups) ~= "table" or not check_places(step.groups, "dim") then return false end
  if step.reconstruct ~= nil and type(step.reconstruct) ~= "table" then return false end
  if step.finalized ~= nil and not (type(step.finalized) == "table" and check_places(step.finalized)) then return false end
  if step.blocks == nil then return true end
  local ok = type(step.blocks) == "table" and type(step.paths) == "table" and #step.blocks == #step.paths
  for _, number in ipairs(ok and step.blocks or {}) do ok = ok and math.type(number) == "integer" end
  return ok
end

-- What can be said before anything is done.
local function check_step(step, i, o)
  if not is_step(step) then error(("prune.replay: step %d is not one of a history"):format(i), 0) end
  if step.reconstruct and o.repairs and o.data == nil then
    error(("prune.replay: step %d fitted layers on data (reconstruct): give such data as option data, or repairs = false for the structure alone")
      :format(i), 0)
  end
  for _, one in ipairs(step.finalized or {}) do
    if not one.bits then
      error(("prune.replay: step %d made a mask of '%s' final that held other numbers than 0 and 1; these were not kept"):format(i, one.parameter), 0)
    end
  end
end

local function units_of(traced, step)
  local units, shapes = {}, shapes_of(traced)
  for _, place in ipairs(step.groups) do
    local size = (shapes[place.parameter] or {})[place.dim]
    if size and place.size and size ~= place.size then
      error(("'%s' is %d along axis %d, it was %d in the other model"):format(place.parameter, size, place.dim, place.size), 0)
    end
    for _, unit in ipairs(traced:units_within(place.parameter, place.dim, place.indices)) do units[#units + 1] = unit end
  end
  return units
end

-- The ways to do a step again: function(net, shape, step, o) -> object with undo() and release(), the step that was noted.
local function remove_again(net, shape, step, o)
  local traced = require("prune.graph").graph(net, shape)
  local units, repaired = units_of(traced, step), nil
  if o.repairs and (step.fold or step.reconstruct) then
    local fitted = step.reconstruct and { data = o.data }
    for name, value in pairs(step.reconstruct or {}) do fitted[name] = value end
    repaired = require("prune.repair.removal").prepare(traced, units, { fold = step.fold,
      reconstruct = fitted and require("prune.repair.reconstruct").read(fitted) })
  end
  local removal, noted = traced:remove_units(units, traced:state().replay, true, { criterion = step.criterion, asked = step.asked,
    fold = repaired and step.fold, reconstruct = repaired and step.reconstruct })
  util.or_back(function()
    if repaired then repaired(function(tensor, value) removal:write(tensor, value) end) end
  end, function()
    removal:undo()
    history.forget(net, noted)
  end)
  return removal, noted
end

-- Values and masks of parameters, to be put back.
local function keep(parameters)
  local kept = {}
  for _, p in ipairs(parameters) do kept[p] = { p:dense():clone(), p.mask } end
  local function undo()
    for p, before in pairs(kept) do p:set_mask(nil):copy(before[1]):set_mask(before[2]) end
  end
  return { undo = undo, release = function() kept = {} end }
end

local function parameter_of(net, name, size)
  local p = net:parameter(name)
  if table.concat(p:size(), " x ") ~= table.concat(size, " x ") then
    error(("'%s' is %s, its mask %s"):format(name, table.concat(p:size(), " x "), table.concat(size, " x ")), 0)
  end
  return p
end

local function finalize_again(net, _, step)
  local parameters, masks = {}, {}
  for i, one in ipairs(step.finalized) do
    parameters[i], masks[i] = parameter_of(net, one.parameter, one.size), core.mask_of_digits(one.bits, one.size)
  end
  local kept = keep(parameters)
  for i, p in ipairs(parameters) do p:set_mask(masks[i]):finalize_mask() end
  history.note(net, step)
  return kept, step
end

local function mask_again(net, masks)
  local parameters = {}
  for name, mask in util.sorted(masks) do
    if not core.is_tensor(mask) then error(("that of '%s' is a %s"):format(tostring(name), type(mask)), 0) end
    parameters[#parameters + 1] = { parameter_of(net, name, mask:size()), mask }
  end
  for _, one in ipairs(parameters) do one[1]:set_mask(one[2]) end
end

local function take_back(net, done)
  for k = #done, 1, -1 do
    done[k][1]:undo()
    history.forget(net, done[k][2])
  end
end

--- Do to a model what was done to another, step by step, all or nothing: it gets the same structure and the same masks, and with the same weights it
-- computes the same. Constants are folded and layers fitted again, from the weights that the model has. Masks are those that the other model had when its
-- history was read.
-- @param net a module of the same architecture, as it was before the first step
-- @param shape input without the batch
-- @param steps from prune.history
-- @param[opt] options
--   data: for steps that fitted layers (plan:apply with reconstruct), without which these are refused;
--   repairs: true; false takes the structure alone and leaves out what was folded and fitted
-- @return the module
-- @usage local again = prune.replay(prune.models.cnn { channels = 1 }, { 1, 8, 8 }, prune.history(net))
function history.replay(net, shape, steps, given)
  options.module("prune.replay", "the first argument", net)
  if type(steps) ~= "table" then error("prune.replay: the third argument must be a history, got " .. type(steps), 2) end
  local o = options.check("prune.replay", given, { data = options.none, repairs = true })
  options.choice("prune.replay", "repairs", o.repairs, { true, false })
  for i, step in ipairs(steps) do check_step(step, i, o) end
  if steps.masks ~= nil and type(steps.masks) ~= "table" then error("prune.replay: field masks of the history must be a table name -> mask", 2) end
  local done = {}
  local function try(what, f, ...)
    local ok, removal, noted = pcall(f, ...)
    if not ok then core.fail(("prune.replay: %s this model: %s"):format(what, tostring(removal))) end
    return { removal, noted }
  end
  util.or_back(function()
    for i, step in ipairs(steps) do
      local again = step.blocks and require("prune.depth").again or step.finalized and finalize_again or remove_again
      done[i] = try(("step %d does not fit"):format(i), again, net, shape, step, o)
    end
    try("the masks do not fit", mask_again, net, steps.masks or {})
  end, function() take_back(net, done) end)
  for _, one in ipairs(done) do one[1]:release() end
  return net
end

return history
