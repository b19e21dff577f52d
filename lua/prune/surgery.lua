-- surgery.lua - a graph taken apart into tables and put together again: how a variant of a model is made that shares its tensors.
--
--   local s = surgery.open(graph)           -- s.nodes, s.tensors, s.inputs, s.outputs: values are tables, compared by identity
--   s.nodes[3].inputs[1] = s.nodes[1].outputs[1]
--   local variant = s:close()               -- a new graph over the same tensors; the old one is untouched
--
-- A node has op, path, type, inputs (false where one is absent), outputs and arguments (text by name, as a checkpoint writes them). A value
-- has its number in the graph that was opened (as in graph:nodes()) and its shape. What no output needs is left out when it is closed.
local core = require "prune.core"

local surgery = {}
local Surgery = {}
Surgery.__index = Surgery

local function words(line)
  local list = {}
  for word in line:gmatch "%S+" do list[#list + 1] = word end
  return list
end

-- Words of the text: bytes that would break one are written %XX, an empty one is "-".
local function decode(word)
  if word == "-" then return "" end
  return (word:gsub("%%(%x%x)", function(code) return string.char(tonumber(code, 16)) end))
end

local function encode(word)
  if word == "" then return "-" end
  word = word:gsub("[%c %%\127]", function(c) return ("%%%02X"):format(c:byte()) end)
  return (word:gsub("%-$", "%%2D"))
end

local function read_node(self, list, values, outputs)
  local node = { op = list[2], path = decode(list[3]), type = decode(list[4]), inputs = {}, outputs = {}, arguments = {}, order = {} }
  if list[5] ~= "-" then
    for number in list[5]:gmatch "[^,]+" do
      local v = tonumber(number)
      node.inputs[#node.inputs + 1] = v >= 0 and values[v + 1]
    end
  end
  for i = 6, #list do
    local name, text = list[i]:match "^([^=]+)=(.*)$"
    node.arguments[name], node.order[#node.order + 1] = text, name
  end
  for k = 1, outputs do
    node.outputs[k] = { kind = "result", node = node }
    values[#values + 1] = node.outputs[k]
  end
  self.nodes[#self.nodes + 1] = node
end

--- Take a graph apart.
-- @param graph
-- @return surgery
function surgery.open(graph)
  local self = setmetatable({ modules = {}, inputs = {}, tensors = {}, nodes = {}, outputs = {} }, Surgery)
  local described, inputs, values, tensors = graph:nodes(), graph:inputs(), {}, {}
  for _, value in ipairs(graph:tensors()) do tensors[value.name] = value end
  for line in graph:text():gmatch "[^\n]+" do
    local list = words(line)
    if list[1] == "prunelua-graph" then self.head = line
    elseif list[1] == "module" then self.modules[#self.modules + 1] = { path = decode(list[2]), line = line }
    elseif list[1] == "input" then
      self.inputs[#self.inputs + 1] = { kind = "input", line = line, shape = inputs[#self.inputs + 1].shape,
        number = inputs[#self.inputs + 1].number }
      values[#values + 1] = self.inputs[#self.inputs]
    elseif list[1] == "tensor" then
      local name = decode(list[3])
      local known = tensors[name]
      self.tensors[#self.tensors + 1] = { kind = list[2], name = name, tensor = known.tensor, shape = known.shape,
        number = known.number }
      values[#values + 1] = self.tensors[#self.tensors]
    elseif list[1] == "node" then
      read_node(self, list, values, #described[#self.nodes + 1].outputs)
    else
      self.outputs[#self.outputs + 1] = values[tonumber(list[2]) + 1]
    end
  end
  for i, node in ipairs(self.nodes) do
    for k, value in ipairs(described[i].outputs) do node.outputs[k].shape, node.outputs[k].number = value.shape, value.number end
    node.given = described[i].arguments
  end
  return self
end

--- A tensor of one's own: a constant of the new graph.
-- @param tensor
-- @return value
function Surgery:constant(tensor)
  local value = { kind = "constant", name = ("own.%d"):format(#self.tensors), tensor = tensor, shape = tensor:size() }
  self.tensors[#self.tensors + 1] = value
  return value
end

--- The inputs of nodes that read a value.
-- @param value
-- @return list of { node, position of the input }
function Surgery:uses(value)
  local list = {}
  for _, node in ipairs(self.nodes) do
    for i, input in ipairs(node.inputs) do
      if input == value then list[#list + 1] = { node, i } end
    end
  end
  return list
end

--- Let everything that reads a value read another.
-- @param value, other
function Surgery:replace(value, other)
  for _, use in ipairs(self:uses(value)) do use[1].inputs[use[2]] = other end
  for k, output in ipairs(self.outputs) do
    if output == value then self.outputs[k] = other end
  end
end

-- The set of values that the outputs need.
local function needed(self)
  local set = {}
  for _, value in ipairs(self.outputs) do set[value] = true end
  for i = #self.nodes, 1, -1 do
    local node = self.nodes[i]
    for _, value in ipairs(node.outputs) do node.needed = node.needed or set[value] end
    for _, value in ipairs(node.needed and node.inputs or {}) do
      if value then set[value] = true end
    end
  end
  return set
end

local function write_node(node, numbers)
  local inputs, out = {}, { "node", node.op, encode(node.path), encode(node.type) }
  for i, value in ipairs(node.inputs) do inputs[i] = ("%d"):format(value and numbers[value] or -1) end
  out[5] = #inputs > 0 and table.concat(inputs, ",") or "-"
  for _, name in ipairs(node.order) do out[#out + 1] = name .. "=" .. node.arguments[name] end
  return table.concat(out, " ")
end

-- Modules that had something to run or to hold and have nothing any more are left out, with all that is in them.
local function write_modules(self, set, lines)
  local had, has = {}, {}
  local function mark(paths, path)
    paths[path] = true
    while path ~= "" do
      path = path:match "^(.*)%.[^.]*$" or ""
      paths[path] = true
    end
  end
  for _, node in ipairs(self.nodes) do
    mark(had, node.path)
    if node.needed then mark(has, node.path) end
  end
  for _, value in ipairs(self.tensors) do
    mark(had, value.name)
    if set[value] then mark(has, value.name) end
  end
  local gone = {}
  for _, module in ipairs(self.modules) do
    local parent = module.path:match "^(.*)%.[^.]*$"
    if had[module.path] and not has[module.path] or parent and gone[parent] then gone[module.path] = true
    else lines[#lines + 1] = module.line end
  end
end

--- Put it together: a new graph over the same tensors.
-- @return graph
function Surgery:close()
  local lines, numbers, next_number, tensors = { self.head }, {}, 0, {}
  local function number(value) numbers[value], next_number = next_number, next_number + 1 end
  local set = needed(self)
  write_modules(self, set, lines)
  for _, value in ipairs(self.inputs) do
    lines[#lines + 1] = value.line
    number(value)
  end
  for _, value in ipairs(self.tensors) do
    if set[value] then
      lines[#lines + 1] = ("tensor %s %s"):format(value.kind, encode(value.name))
      tensors[value.name] = value.tensor
      number(value)
    end
  end
  for _, node in ipairs(self.nodes) do
    if node.needed then
      lines[#lines + 1] = write_node(node, numbers)
      for _, value in ipairs(node.outputs) do number(value) end
    end
  end
  for _, value in ipairs(self.outputs) do lines[#lines + 1] = ("output %d"):format(numbers[value]) end
  for _, node in ipairs(self.nodes) do node.needed = nil end
  return core.read_graph(table.concat(lines, "\n") .. "\n", tensors)
end

--- Set an argument of a node.
-- @param node
-- @param name of the argument
-- @param text as a checkpoint writes it ("1", "0.5", "-1,16")
function Surgery.argument(_, node, name, text)
  if node.arguments[name] == nil then node.order[#node.order + 1] = name end
  node.arguments[name] = text
end

return surgery
