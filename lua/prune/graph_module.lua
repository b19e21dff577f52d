-- graph_module.lua - a graph as a module: what a checkpoint opens as, without the code that made the model.
--
-- The tree of modules is rebuilt with paths, classes and parameters, so that everything that looks at a model works on it; but what
-- runs is the graph. So the parts of the tree cannot be called alone.
local core = require "prune.core"
local graph = require "prune.graph"
local Module = require "prune.nn.module"

local GraphModule = Module.class "GraphModule"
local Part = Module.class "Part"

function Part:forward()
  error(("this %s is part of a graph and cannot run alone; call the whole model"):format(self._type), 3)
end

function Part:describe()
  local weight = rawget(self, "weight")
  return core.is_tensor(weight) and table.concat(weight:size(), " x ") or ""
end

-- --- the tree ---------------------------------------------------------------------------------------------------------

local function new(class, type)
  local module = class()
  rawset(module, "_type", type)
  return module
end

-- The module that a full name belongs to, and the field in it. Numbers in names count from 0, fields from 1.
local function owner_of(modules, name)
  for at = #name, 1, -1 do
    if name:sub(at, at) == "." and modules[name:sub(1, at - 1)] then
      local key = name:sub(at + 1)
      return modules[name:sub(1, at - 1)], key:match "^%d+$" and tonumber(key) + 1 or key
    end
  end
  return modules[""], name:match "^%d+$" and tonumber(name) + 1 or name
end

local function build_tree(root, source, shared)
  local modules = { [""] = root }
  for _, pair in ipairs(source:modules()) do
    local path, type = pair[1], pair[2]
    if path == "" then
      rawset(root, "_type", type)
    elseif not modules[path] then
      local owner, key = owner_of(modules, path)
      owner[key] = new(Part, type)
      modules[path] = owner[key]
    end
  end
  for _, value in ipairs(source:tensors()) do
    if value.kind ~= "constant" then
      local owner, key = owner_of(modules, value.name)
      owner[key] = value.kind == "buffer" and core.buffer(value.tensor) or core.parameter(value.tensor)
    end
  end
  for _, pair in ipairs(shared or {}) do -- second names, which the graph does not have
    local first, field = owner_of(modules, pair[2])
    local owner, key = owner_of(modules, pair[1])
    owner[key] = modules[pair[2]] or rawget(first, field)
  end
end

-- --- graphs over other tensors ------------------------------------------------------------------------------------------

-- The same graph over the tensors that `map` gives for its own; `edit` may change its text.
local function rebuild(source, map, edit)
  local tensors = {}
  for _, value in ipairs(source:tensors()) do tensors[value.name] = map(value.tensor, value.name) end
  local text = source:text()
  return core.read_graph(edit and edit(text) or text, tensors)
end

-- Inputs as prune.graph takes them: what the graph was traced with, less the batch.
local function inputs_of(source)
  local list = {}
  for i, value in ipairs(source:inputs()) do
    list[i] = { shape = table.move(value.shape, 2, #value.shape, 1, {}), dtype = value.dtype }
  end
  return list
end

local function adopt(self, source, inputs)
  local state = source:state()
  state.net, state.inputs, state.replay = self, inputs, nil -- no replay: the graph is the model
  rawset(self, "_graph", source)
  rawset(self, "_input", inputs)
  rawset(self, "input_shape", #inputs == 1 and inputs[1].shape or inputs)
  return self
end

--- A module over a graph and its tensors.
-- @param source a graph; it belongs to the module from now on
-- @param[opt] inputs list of { shape =, dtype =, max = } with which it was traced
-- @param[opt] shared list of { second name, first name } of what the tree holds more than once
-- @return module
local function from_graph(source, inputs, shared)
  local root = new(GraphModule, "GraphModule")
  build_tree(root, source, shared)
  return adopt(root, source, inputs or inputs_of(source))
end

-- --- what modules do ------------------------------------------------------------------------------------------------------

function GraphModule:forward(...) return self._graph:run({ ... }, self.training) end

--- The model's own graph, for prune.graph, prune.summary and the rest: removing from it prunes this module.
-- @param[opt] shape must be what the graph was traced with
-- @return graph
function GraphModule:inner_graph(shape)
  if shape == nil then return self._graph end
  local given, own = graph.inputs(shape, "prune.graph"), self._input
  local function text(inputs)
    local parts = {}
    for i, input in ipairs(inputs) do parts[i] = "{ " .. table.concat(input.shape, ", ") .. " }" end
    return table.concat(parts, ", ")
  end
  if text(given) ~= text(own) then
    error(("the model is a graph for inputs of shape %s, not %s; shapes are without the batch"):format(text(own), text(given)), 3)
  end
  return self._graph
end

--- After a copy of the tree (Module:clone): a graph over the copied tensors.
function GraphModule:_copied(copy)
  adopt(self, rebuild(self._graph, copy), self._input)
end

--- Convert all parameters, floating buffers and constants.
-- @param target "f32", "f64", "bf16" or a device
-- @return the module
function GraphModule:to(target)
  Module.to(self, target)
  if target ~= "f32" and target ~= "f64" and target ~= "bf16" then return self end
  local function convert(t)
    local is_float = t.dtype == "f32" or t.dtype == "f64" or t.dtype == "bf16"
    return not is_float and t or t.is_parameter and t or t.is_buffer and t or t:to(target)
  end
  local inputs = {}
  for i, input in ipairs(self._input) do
    local is_float = input.dtype == "f32" or input.dtype == "f64" or input.dtype == "bf16"
    inputs[i] = { shape = input.shape, dtype = is_float and target or input.dtype, max = input.max }
  end
  local function edit(text)
    for _, dtype in ipairs { "f32", "f64", "bf16" } do text = text:gsub("\ninput " .. dtype .. " ", "\ninput " .. target .. " ") end
    return text
  end
  return adopt(self, rebuild(self._graph, convert, edit), inputs)
end

-- Run another graph over these tensors from now on: how a checkpoint is restored.
function GraphModule:_take_graph(source) return adopt(self, source, self._input) end

-- Let a module run a graph over its own parameters from now on, in place of its forward function. What the graph does not hold any more, of
-- what the one before held, leaves the tree. Returns a function that puts everything back.
local function convert(net, before, source)
  local kept, modules, gone = {}, {}, {}
  for _, value in ipairs(source:tensors()) do kept[value.name] = true end
  for _, pair in ipairs(source:modules()) do kept[pair[1]] = true end
  for path, module in net:named_modules() do modules[path] = module end
  for _, value in ipairs(before:tensors()) do
    if value.kind ~= "constant" and not kept[value.name] then gone[value.tensor] = true end
  end
  for _, pair in ipairs(before:modules()) do
    if not kept[pair[1]] and modules[pair[1]] then gone[modules[pair[1]]] = true end
  end
  local undo = {}
  local function set(owner, key, value)
    undo[#undo + 1] = { owner, key, rawget(owner, key) }
    rawset(owner, key, value)
  end
  local inputs = before:state().inputs
  for _, module in pairs(modules) do -- under all their names
    for _, key in ipairs(module._keys) do
      local value = rawget(module, key)
      if value ~= nil and gone[value] then set(module, key, nil) end
    end
  end
  for _, name in ipairs { "forward", "inner_graph", "to", "_copied", "_take_graph" } do set(net, name, GraphModule[name]) end
  for _, name in ipairs { "_graph", "_input", "input_shape" } do set(net, name, rawget(net, name)) end
  adopt(net, source, inputs)
  return function()
    for i = #undo, 1, -1 do rawset(undo[i][1], undo[i][2], undo[i][3]) end
  end
end

-- A copy of a graph as a module over the same tensors.
local function of_graph(source) return from_graph(rebuild(source, function(t) return t end), source:state().inputs) end

return { from_graph = from_graph, of_graph = of_graph, convert = convert }
