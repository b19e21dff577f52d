-- module.lua - the class of everything that has parameters: registration, names, state, tree.
--
-- A module is a table. Assigning a parameter, a buffer or another module to a field registers it under that name, in order of first
-- assignment. Names are joined with dots from the root: "layer1.0.conv1.weight".
local core = require "prune.core"

local Module = {}
Module.__index = Module
Module._type = "Module"

local is_tensor = core.is_tensor

--- Is `x` a module?
-- @param x any value
-- @return boolean
local function is_module(x)
  return type(x) == "table" and rawget(x, "_keys") ~= nil and getmetatable(x) ~= nil and getmetatable(x)._type ~= nil
end
Module.is_module = is_module

local function is_class(x) return type(x) == "table" and rawget(x, "_type") ~= nil and rawget(x, "_keys") == nil end

-- A list of modules never runs itself, so its children enter its name together with their own.
local function lengthen(list, prefix)
  for _, key in ipairs(list._keys) do
    local child = rawget(list, key)
    if is_module(child) and child._name then
      rawset(child, "_name", prefix .. "." .. child._name)
      if child._silent then lengthen(child, prefix) end
    end
  end
end

-- First assignment of a field: remember its place; name a child after the field.
local function assign(self, key, value)
  rawset(self, key, value)
  if value == nil or type(key) == "string" and key:sub(1, 1) == "_" then return end
  if is_tensor(value) or is_module(value) then
    local keys = self._keys
    if not keys.known[key] then -- apart from the list: keys of children may be numbers
      keys[#keys + 1] = key
      keys.known[key] = true
    end
    if is_module(value) and not value._name then
      -- children of a list count from 0 in names, as in PyTorch's state dicts
      local name = type(key) == "number" and tostring(key - 1) or tostring(key)
      rawset(value, "_name", self._silent and self._name and self._name .. "." .. name or name)
      if value._silent then lengthen(value, value._name) end
    end
  end
end

-- Running a module enters its name, so that errors and traced operators know where they are.
local function call(self, ...)
  local scope <close> = core.scope_enter(self._name or "", self._type)
  return self:forward(...)
end

local function tostring_module(self) return Module.tree(self) end

--- Make a class of modules.
-- @param name the class's name, shown in summaries and errors and used by `net:each(name)`
-- @param constructor function(self, ...) that assigns parameters and children
-- @param base a class to inherit methods from (default: Module)
-- @return a class: call it to make an instance; define `forward` (and other methods) on it
-- @usage local Block = nn.module("Block", function(self, channels) self.conv = nn.Conv2d(channels, channels, 3) end)
-- function Block:forward(x) return self.conv(x) end
function Module.class(name, constructor, base)
  if type(name) ~= "string" then error("nn.module: the class needs a name (a string), got " .. type(name), 2) end
  if constructor ~= nil and type(constructor) ~= "function" then
    error(("nn.module: the constructor of %s must be a function, got %s"):format(name, type(constructor)), 2)
  end
  if base ~= nil and not is_class(base) then
    error(("nn.module: the base of %s must be a class, such as nn.Linear, got %s (forward is a method: function %s:forward(x) ... end)"):format(
      name, is_module(base) and "a module" or type(base), name), 2)
  end
  local class = setmetatable({}, {
    __index = base or Module,
    __call = function(class, ...)
      local self = setmetatable({ _keys = { known = {} }, training = true }, class)
      local construct = constructor or (base and base._constructor)
      if construct then construct(self, ...) end
      return self
    end,
    __tostring = function() return "class " .. name end,
  })
  class.__index = class
  class.__newindex = assign
  class.__call = call
  class.__tostring = tostring_module
  class._type = name
  class._constructor = constructor or (base and base._constructor)
  return class
end

--- Compute the module's outputs from its inputs; `net(x)` calls it. Each class defines its own.
function Module:forward()
  error(("module %s has no forward function; define function %s:forward(x) ... end"):format(self._type, self._type), 3)
end

--- module:reset()
-- Give the parameters their initial values anew. Layers that have parameters have this.

--- module:rewritten(operator, arguments)
-- Called after a removal for each operator of this module whose arguments changed (heads, group bounds), so that a module that keeps
-- such numbers takes the new ones.

--- Register a tensor that is not trained but saved and pruned along (running statistics, tables).
-- @param name field name
-- @param tensor the tensor
-- @return the module
function Module:register_buffer(name, tensor)
  self[name] = core.buffer(tensor)
  return self
end

-- --- walking ------------------------------------------------------------------------------------------------------

-- Fields that hold registered things, in order.
local function fields(self)
  local keys, i = self._keys, 0
  return function()
    while true do
      i = i + 1
      local key = keys[i]
      if key == nil then return nil end
      local value = rawget(self, key)
      if value ~= nil then return key, value end
    end
  end
end

local function join(prefix, key)
  local name = type(key) == "number" and tostring(key - 1) or key
  return prefix == "" and name or prefix .. "." .. name
end

local function collect_modules(self, prefix, list, seen)
  if seen[self] then return list end
  seen[self] = true
  list[#list + 1] = { prefix, self }
  for key, value in fields(self) do
    if is_module(value) then collect_modules(value, join(prefix, key), list, seen) end
  end
  return list
end

local function iterate(list)
  local i = 0
  return function()
    i = i + 1
    if list[i] then return list[i][1], list[i][2] end
  end
end

--- All modules of the tree, the module itself first (with the name ""), each once.
-- @return iterator of name, module
function Module:named_modules() return iterate(collect_modules(self, "", {}, {})) end

--- The module's own children.
-- @return iterator of name, module
function Module:children()
  local list = {}
  for key, value in fields(self) do
    if is_module(value) then list[#list + 1] = { join("", key), value } end
  end
  return iterate(list)
end

local function collect_tensors(self, wanted)
  local list, seen = {}, {}
  for prefix, module in self:named_modules() do
    for key, value in fields(module) do
      if is_tensor(value) and not seen[value] and wanted(value) then
        seen[value] = true
        list[#list + 1] = { join(prefix, key), value }
      end
    end
  end
  return list
end

--- Trainable parameters with their names; a shared one comes once.
-- @return iterator of name, parameter
function Module:named_parameters()
  return iterate(collect_tensors(self, function(t) return t.is_parameter end))
end

--- Buffers (running statistics and the like) with their names.
-- @return iterator of name, tensor
function Module:named_buffers()
  return iterate(collect_tensors(self, function(t) return t.is_buffer end))
end

--- Parameters as a list.
-- @return table
function Module:parameters()
  local list = {}
  for _, p in self:named_parameters() do list[#list + 1] = p end
  return list
end

--- Parameters of more than one dimension: what sparsity is about.
-- @return table
function Module:weights()
  local list = {}
  for _, p in self:named_parameters() do
    if p:dim() > 1 then list[#list + 1] = p end
  end
  return list
end

--- Modules of a class, in module order.
-- @param type the class's name ("Conv2d")
-- @return iterator of module, name
-- @usage for conv in net:each "Conv2d" do print(conv.weight) end
function Module:each(type)
  local list = {}
  for name, module in self:named_modules() do
    if module._type == type then list[#list + 1] = { module, name } end
  end
  return iterate(list)
end

local function names_of(iterator)
  local names = {}
  for name in iterator do names[#names + 1] = name end
  return names
end

--- A parameter or buffer by its full name.
-- @param name "layer1.0.conv1.weight"
-- @return tensor; raises with the nearest name when there is none
function Module:parameter(name)
  for _, list in ipairs { collect_tensors(self, function(t) return t.is_parameter or t.is_buffer end) } do
    for _, pair in ipairs(list) do
      if pair[1] == name then return pair[2] end
    end
  end
  local near = core.nearest(tostring(name), names_of(self:named_parameters()))
  error(("there is no parameter '%s'%s"):format(tostring(name), near and ("; did you mean '" .. near .. "'?") or ""), 2)
end

--- A module of the tree by its full name.
-- @param name "layer1.0.conv1"
-- @return module; raises with the nearest name when there is none
function Module:module(name)
  for path, module in self:named_modules() do
    if path == name then return module end
  end
  local near = core.nearest(tostring(name), names_of(self:named_modules()))
  error(("there is no module '%s'%s"):format(tostring(name), near and ("; did you mean '" .. near .. "'?") or ""), 2)
end

-- --- state --------------------------------------------------------------------------------------------------------

--- Values of all parameters and buffers by name, as the model computes with them (masks applied). The tensors share the model's memory
-- where there is no mask.
-- @return table name -> tensor
function Module:state_dict()
  local state = {}
  for _, pair in ipairs(collect_tensors(self, function(t) return t.is_parameter or t.is_buffer end)) do
    state[pair[1]] = pair[2]:value()
  end
  return state
end

local function shape_text(t) return "[" .. table.concat(t:size(), ", ") .. "]" end

-- What does not fit, as lines; and the copies to make.
local function compare_state(self, state)
  local wrong, copies, known = {}, {}, {}
  for _, pair in ipairs(collect_tensors(self, function(t) return t.is_parameter or t.is_buffer end)) do
    local name, own = pair[1], pair[2]
    local given = state[name]
    known[name] = true
    if given == nil then
      if not name:match "num_batches_tracked$" then wrong[#wrong + 1] = "missing: " .. name end
    elseif not is_tensor(given) then
      wrong[#wrong + 1] = ("not a tensor: %s (%s)"):format(name, type(given))
    elseif shape_text(given) ~= shape_text(own) then
      wrong[#wrong + 1] = ("another shape: %s is %s in the model, %s in the state"):format(name, shape_text(own), shape_text(given))
    else
      copies[#copies + 1] = { own, given }
    end
  end
  local unexpected = {}
  for name in pairs(state) do
    if not known[name] and not tostring(name):match "num_batches_tracked$" then unexpected[#unexpected + 1] = tostring(name) end
  end
  table.sort(unexpected)
  for _, name in ipairs(unexpected) do wrong[#wrong + 1] = "unexpected: " .. name end
  return wrong, copies
end

--- Copy values into parameters and buffers by name. Strict: every name must be there with its shape, else nothing is changed and the
-- error lists what is missing, unexpected or of another shape. (BatchNorm's num_batches_tracked, which PyTorch stores, is ignored.)
-- @param state table name -> tensor
-- @param options { strict = false } copies what fits and returns the list of what did not
-- @return the module, list of differences
function Module:load_state_dict(state, options)
  if type(state) ~= "table" then error("load_state_dict: a table of tensors by name is needed, got " .. type(state), 2) end
  local strict = require("prune.options").check("load_state_dict", options, { strict = true }).strict ~= false
  local wrong, copies = compare_state(self, state)
  if strict and #wrong > 0 then
    local shown = table.concat(wrong, "\n  ", 1, math.min(#wrong, 12))
    if #wrong > 12 then shown = shown .. ("\n  ... and %d more"):format(#wrong - 12) end
    error("load_state_dict: the state does not fit this model:\n  " .. shown, 2)
  end
  for _, pair in ipairs(copies) do pair[1]:copy(pair[2]) end
  return self, wrong
end

-- Copies share what was shared: tensors and modules are copied once.
local function copy_value(value, done)
  if done[value] ~= nil then return done[value] end
  if is_tensor(value) then
    local copy = value:clone_parameter()
    done[value] = copy
    return copy
  elseif type(value) ~= "table" then
    return value
  end
  local copy = {}
  done[value] = copy
  for k, v in next, value do copy[copy_value(k, done)] = copy_value(v, done) end
  setmetatable(copy, getmetatable(value))
  if is_module(copy) and copy._copied then copy:_copied(function(v) return copy_value(v, done) end) end
  return copy
end

--- An independent copy: parameters, buffers, masks and plain fields; no gradients, no optimiser state.
-- @return module
function Module:clone() return copy_value(self, {}) end

--- Training mode (dropout drops, batch norm uses the batch's statistics), or not.
-- @param mode boolean, default true
-- @return the module
function Module:train(mode)
  if mode == nil then mode = true end
  for _, module in self:named_modules() do rawset(module, "training", mode) end
  return self
end

--- Evaluation mode: the same as train(false).
-- @return the module
function Module:eval() return self:train(false) end

--- Convert all parameters and floating buffers.
-- @param target "f32", "f64", "bf16" or a device
-- @return the module
function Module:to(target)
  for _, pair in ipairs(collect_tensors(self, function(t) return t.is_parameter or t.is_buffer end)) do pair[2]:to_in_place(target) end
  return self
end

--- Forget all gradients.
-- @return the module
function Module:zero_grad()
  for _, p in self:named_parameters() do p:zero_grad() end
  return self
end

--- Train the parameters, or freeze them.
-- @param wanted boolean, default true
-- @return the module
function Module:requires_grad(wanted)
  for _, p in self:named_parameters() do p.requires_grad = wanted ~= false end
  return self
end

-- --- drawing ------------------------------------------------------------------------------------------------------

--- What a class shows of itself between the parentheses; classes override it.
-- @return string
function Module:describe() return "" end

--- The tree as text: what tostring(net) gives.
-- @return string
function Module:tree(indent)
  indent = indent or ""
  local lines = {}
  for name, child in self:children() do
    lines[#lines + 1] = ("%s  (%s): %s"):format(indent, name, Module.tree(child, indent .. "  "))
  end
  local head = ("%s(%s"):format(self._type, self:describe())
  if #lines == 0 then return head .. ")" end
  return head .. "\n" .. table.concat(lines, "\n") .. "\n" .. indent .. ")"
end

return Module
