--- Lottery tickets (Frankle and Carbin 2019): train, mask, go back to the weights of an early step, and train what is left again.
--
-- `prune.Trainer(net, { snapshot = step, ... })` keeps the model as it was after that step, as `trainer.ticket`; or `prune.lottery.ticket(net)`
-- does it now. `ticket:rewind(net, optimizer)` puts the values back and leaves the masks as they are. Going back to a step shortly after
-- the first works for larger networks than going back to the first (Frankle et al. 2020).
local core = require "prune.core"
local options = require "prune.options"
local util = require "prune.util"

local lottery = {}
local Ticket = {}
Ticket.__index = Ticket

-- Parameters and buffers by name.
local function tensors_of(net)
  local list = {}
  for name, p in net:named_parameters() do list[name] = p end
  for name, b in net:named_buffers() do list[name] = b end
  return list
end

local function make(tensors)
  local values = {}
  for name, t in pairs(tensors) do values[name] = t:dense():clone() end
  return setmetatable({ values = values }, Ticket)
end

--- Keep a model's values as they are now: those beside masks, and buffers.
-- @param net a module
-- @return ticket: rewind(net, optimizer), save(path)
-- @usage local ticket = prune.lottery.ticket(net)
function lottery.ticket(net)
  options.module("prune.lottery.ticket", "the first argument", net)
  return make(tensors_of(net))
end

--- A ticket from a checkpoint: one that Ticket:save, prune.save (of a masked model with dense = true) or a Trainer with
-- option snapshot wrote.
-- @tparam string path
-- @return ticket: rewind(net, optimizer), save(path)
-- @usage local ticket = prune.lottery.load "runs/train.snapshot.h5"
function lottery.load(path)
  if type(path) ~= "string" then error("prune.lottery.load: a path is needed, got " .. type(path), 2) end
  local values = {}
  for _, pair in ipairs((core.checkpoint_read(path))) do
    if pair[2].is_parameter or pair[2].is_buffer then values[pair[1]] = pair[2] end
  end
  return make(values)
end

local function shape_text(t) return "[" .. table.concat(t:size(), ", ") .. "]" end

local function check(self, tensors)
  for name, t in util.sorted(tensors) do
    local value = self.values[name]
    if not value then
      local near = core.nearest(name, util.keys(self.values))
      core.fail(("ticket:rewind: the ticket has no '%s'%s; it is of another model"):format(name, near and (" (but '" .. near .. "')") or ""))
    end
    if shape_text(value) ~= shape_text(t) then
      core.fail(("ticket:rewind: '%s' is %s in the ticket, %s in the model; masks keep shapes, removal does not"):format(name,
        shape_text(value), shape_text(t)))
    end
  end
  for name in util.sorted(self.values) do
    if not tensors[name] then core.fail(("ticket:rewind: the model has no '%s'; the ticket is of another model"):format(name)) end
  end
end

--- Put the values back, all or nothing; masks stay as they are. The optimiser forgets its state and has its initial rate again.
-- @param net the module that the ticket is of, or one with the same names and shapes
-- @param[opt] optimizer an optimiser of its parameters
-- @return the module
-- @usage prune.mask.global_unstructured(net:weights(), { amount = 0.2 }); ticket:rewind(net, optimizer)
function Ticket:rewind(net, optimizer)
  options.module("ticket:rewind", "the first argument", net)
  if optimizer ~= nil and not (type(optimizer) == "table" and util.is_callable(optimizer.reset)) then
    core.fail("ticket:rewind: the second argument must be an optimiser, got " .. type(optimizer))
  end
  local tensors = tensors_of(net)
  check(self, tensors)
  for name, t in pairs(tensors) do t:dense():copy(self.values[name]) end
  net:zero_grad()
  if optimizer then optimizer:reset() end
  return net
end

--- Write a ticket to a file, for prune.lottery.load.
-- @tparam string path
function Ticket:save(path)
  local list = {}
  for name, value in util.sorted(self.values) do list[#list + 1] = { name, core.parameter(value:clone()) } end
  util.make_folder(path)
  core.checkpoint_write(path, list, {}, true, true)
end

Ticket.__tostring = function(self)
  local count = 0
  for _, value in pairs(self.values) do count = count + value:numel() end
  return ("lottery ticket of %d values"):format(count)
end

lottery._Ticket = Ticket -- for help

return lottery
