-- optim.lua - optimisers. The arithmetic is in C (core/optim); state hangs on the parameters, so it follows when they are pruned.
local core = require "prune.core"
local options = require "prune.options"
local Module = require "prune.nn.module"

local optim = {}
local Optimizer = {}
Optimizer.__index = Optimizer

local function parameters_of(source, where)
  if Module.is_module(source) then source = source:parameters() end
  if type(source) ~= "table" then error(("%s: a module or a list of parameters is needed, got %s"):format(where, type(source)), 4) end
  local list = {}
  for i, p in ipairs(source) do
    if not core.is_tensor(p) then error(("%s: element %d is a %s, not a parameter"):format(where, i, type(p)), 4) end
    list[i] = core.parameter(p)
  end
  if #list == 0 then error(where .. ": there are no parameters to train", 4) end
  return list
end

-- Several groups with options of their own: { { params = {...}, lr = 0.1 }, ... }.
local function read_groups(source, given, where, defaults)
  local groups = {}
  if type(source) == "table" and not Module.is_module(source) and type(source[1]) == "table" and source[1].params then
    for i, group in ipairs(source) do
      local own = {}
      for k, v in pairs(given or {}) do own[k] = v end
      for k, v in pairs(group) do if k ~= "params" then own[k] = v end end
      groups[i] = { params = parameters_of(group.params, where), options = options.check(where, own, defaults) }
    end
  else
    groups[1] = { params = parameters_of(source, where), options = options.check(where, given, defaults) }
  end
  return groups
end

local function class(name, kind, defaults)
  local where = "prune.optim." .. name
  return function(source, given)
    local groups = read_groups(source, given, where, defaults)
    for _, group in ipairs(groups) do
      local o = group.options
      if o.betas then
        if type(o.betas) ~= "table" or #o.betas ~= 2 then error(where .. ": betas are two numbers { beta1, beta2 }", 2) end
        o.beta1, o.beta2 = o.betas[1], o.betas[2]
      end
      core.optim_check(kind, o)
      for _, p in ipairs(group.params) do p:clear_slots() end -- a parameter belongs to one optimiser at a time
      group.base_lr = o.lr
    end
    return setmetatable({ name = name, kind = kind, groups = groups, steps = 0 }, Optimizer)
  end
end

--- Stochastic gradient descent. @param source a module, a list of parameters, or a list of groups { params =, lr = ... }
-- @param options { lr = 1e-3, momentum = 0, dampening = 0, nesterov = false, weight_decay = 0 }
-- @return optimiser: step(), zero_grad(), lr, set_lr_factor(f), clip_grad_norm(most), clip_grad_value(most)
-- @usage local optimizer = prune.optim.SGD(net, { lr = 0.1, momentum = 0.9 })
optim.SGD = class("SGD", "sgd", { lr = 1e-3, momentum = 0, dampening = 0, nesterov = false, weight_decay = 0 })

--- Adam (Kingma and Ba 2014), weight decay as L2 in the gradient. @param source as for SGD
-- @param options { lr = 1e-3, betas = { 0.9, 0.999 }, eps = 1e-8, weight_decay = 0 }
-- @return optimiser
optim.Adam = class("Adam", "adam", { lr = 1e-3, betas = { 0.9, 0.999 }, eps = 1e-8, weight_decay = 0 })

--- Adam with decoupled weight decay (Loshchilov and Hutter 2017). @param source as for SGD
-- @param options { lr = 1e-3, betas = { 0.9, 0.999 }, eps = 1e-8, weight_decay = 1e-2 }
-- @return optimiser
optim.AdamW = class("AdamW", "adamw", { lr = 1e-3, betas = { 0.9, 0.999 }, eps = 1e-8, weight_decay = 1e-2 })

--- RMSprop (Hinton 2012). @param source as for SGD
-- @param options { lr = 1e-2, alpha = 0.99, eps = 1e-8, weight_decay = 0, momentum = 0, centered = false }
-- @return optimiser
optim.RMSprop = class("RMSprop", "rmsprop", { lr = 1e-2, alpha = 0.99, eps = 1e-8, weight_decay = 0, momentum = 0, centered = false })

--- Move all parameters against their gradients.
function Optimizer:step()
  for _, group in ipairs(self.groups) do core.optim_step(self.kind, group.options, group.params) end
  self.steps = self.steps + 1
end

--- Forget the gradients of all parameters.
function Optimizer:zero_grad()
  for _, group in ipairs(self.groups) do
    for _, p in ipairs(group.params) do p:zero_grad() end
  end
end

--- Begin anew: forget the state of all parameters (momentum and the like) and take the initial rates again.
function Optimizer:reset()
  for _, group in ipairs(self.groups) do
    group.options.lr = group.base_lr
    for _, p in ipairs(group.params) do p:clear_slots() end
  end
  self.steps = 0
end

--- All parameters, group after group.
-- @return table
function Optimizer:parameters()
  local list = {}
  for _, group in ipairs(self.groups) do table.move(group.params, 1, #group.params, #list + 1, list) end
  return list
end

--- Let go of parameters, which are trained no more.
-- @param list of parameters; those of no group are passed over
-- @return function that puts them back where they were
function Optimizer:forget(list)
  local gone, before = {}, {}
  for _, p in ipairs(list) do gone[p] = true end
  for _, group in ipairs(self.groups) do
    local kept = {}
    for _, p in ipairs(group.params) do
      if not gone[p] then kept[#kept + 1] = p end
    end
    before[group], group.params = group.params, kept
  end
  return function()
    for group, params in pairs(before) do group.params = params end
  end
end

--- Set every group's rate to its initial rate times a factor: what learning-rate schedules do.
-- @param factor number
function Optimizer:set_lr_factor(factor)
  if type(factor) ~= "number" then error("set_lr_factor: the factor must be a number, got " .. type(factor), 2) end
  for _, group in ipairs(self.groups) do group.options.lr = group.base_lr * factor end
end

--- Scale the gradients down so that their Euclidean norm over all parameters is at most `most`.
-- @param most number
-- @return the norm before
function Optimizer:clip_grad_norm(most) return core.clip_grad_norm(self:parameters(), most) end

--- Clamp every gradient entry to [-most, most].
-- @param most number
function Optimizer:clip_grad_value(most) return core.clip_grad_value(self:parameters(), most) end

--- What a checkpoint stores beside the parameters' slots.
-- @return table
function Optimizer:state()
  local state = { kind = self.kind, steps = self.steps, groups = {} }
  for i, group in ipairs(self.groups) do state.groups[i] = { base_lr = group.base_lr, lr = group.options.lr, count = #group.params } end
  return state
end

--- Take up a state from Optimizer:state().
-- @param state table
function Optimizer:load_state(state)
  if state.kind ~= self.kind then error(("optimiser: the state is of %s, this is %s"):format(tostring(state.kind), self.kind), 2) end
  if #state.groups ~= #self.groups then error("optimiser: the state has another number of parameter groups", 2) end
  self.steps = state.steps
  for i, group in ipairs(state.groups) do self.groups[i].base_lr, self.groups[i].options.lr = group.base_lr, group.lr end
end

Optimizer.__index = function(self, key)
  if key == "lr" then return self.groups[1].options.lr end
  return Optimizer[key]
end

Optimizer.__newindex = function(self, key, value)
  if key ~= "lr" then return rawset(self, key, value) end
  if type(value) ~= "number" or value < 0 then error("optimiser: lr must be a number of at least 0, got " .. tostring(value), 2) end
  for _, group in ipairs(self.groups) do group.options.lr, group.base_lr = value, value end
end

Optimizer.__tostring = function(self)
  local count = 0
  for _, p in ipairs(self:parameters()) do count = count + p:numel() end
  return ("%s(lr %g, %d parameters in %d tensors)"):format(self.name, self.lr, count, #self:parameters())
end

optim._Optimizer = Optimizer -- for help

return optim
