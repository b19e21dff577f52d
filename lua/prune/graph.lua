-- graph.lua - from a model to its graph; groups and their parts; what is read off a graph: costs, summary, picture.
local core = require "prune.core"
local interrupt = require "prune.interrupt"
local options = require "prune.options"

local graph = {}
local Graph, Group = core.Graph.__index, core.Group.__index

-- --- shapes of inputs ---------------------------------------------------------------------------------------------

-- One input: { shape = {...}, dtype =, max = }, a table of sizes, or an example tensor (its first axis is the batch).
local function read_input(spec, where, dtype)
  if core.is_tensor(spec) then
    local sizes = spec:size()
    table.remove(sizes, 1)
    return { shape = sizes, dtype = spec.dtype }
  elseif type(spec) == "table" and spec.shape then
    return options.check(where, spec, { shape = options.none, dtype = dtype, max = options.none })
  elseif type(spec) == "table" then
    for i, size in ipairs(spec) do
      if math.type(size) ~= "integer" or size < 1 then
        error(("%s: a shape is a table of sizes of at least 1 (without the batch); element %d is %s"):format(where, i, tostring(size)), 4)
      end
    end
    return { shape = spec, dtype = dtype }
  end
  error(("%s: a shape (table of sizes without the batch), an example tensor or a list of inputs is needed, got %s"):format(where,
    type(spec)), 4)
end

--- Read what users give as `shape`: a list of inputs { shape =, dtype =, max = }.
-- @param spec sizes without the batch, an example tensor, or a list of these
-- @param where the caller's name, for messages
-- @param[opt] dtype of inputs that do not say (f32)
-- @return list of inputs
function graph.inputs(spec, where, dtype)
  dtype = dtype or "f32"
  if type(spec) == "table" and (type(spec[1]) == "table" or core.is_tensor(spec[1])) and not spec.shape then
    local list = {}
    for i, one in ipairs(spec) do list[i] = read_input(one, where, dtype) end
    return list
  end
  return { read_input(spec, where, dtype) }
end

--- Example tensors for inputs: normal numbers, or integers from 1 to max (default 2) for integer dtypes.
-- @param inputs list from graph.inputs
-- @param batch batch size
-- @return list of tensors
function graph.examples(inputs, batch)
  local list = {}
  for i, input in ipairs(inputs) do
    local sizes = { batch, table.unpack(input.shape) }
    if input.dtype == "f32" or input.dtype == "f64" or input.dtype == "bf16" then
      list[i] = core.randn(sizes):to(input.dtype)
    else
      list[i] = (core.rand(sizes) * (input.max or 2)):floor():to(input.dtype) + core.ones(sizes):to(input.dtype)
    end
  end
  return list
end

-- --- tracing ------------------------------------------------------------------------------------------------------

local function stand_ins(inputs, batch)
  local list = {}
  for i, input in ipairs(inputs) do list[i] = core.empty { batch, table.unpack(input.shape) }:to(input.dtype) end
  return list
end

local function describe(net)
  local tensors, modules = {}, {}
  for name, p in net:named_parameters() do tensors[#tensors + 1] = { name, p } end
  for name, b in net:named_buffers() do tensors[#tensors + 1] = { name, b } end
  for path, module in net:named_modules() do modules[#modules + 1] = { path, module._type } end
  return tensors, modules
end

-- What all floating tensors of a model have in common; f32 where they differ or there are none.
local function dtype_of(tensors)
  local found
  for _, described in ipairs(tensors) do
    local dtype = described[2].dtype
    if dtype ~= found and (dtype == "f32" or dtype == "f64" or dtype == "bf16") then
      if found then return "f32" end
      found = dtype
    end
  end
  return found or "f32"
end

-- A forward function that draws random numbers draws the same in every trace from the same step on (they become constants), and takes none of
-- the caller's. The second result: does it draw any?
local function trace(net, inputs, batch, tensors, modules, step)
  local seed, before = core.random_state()
  local _ <close> = interrupt.closing(function() core.restore_random_state(seed, before) end)
  core.restore_random_state(0, step or 0)
  local traced = core.trace(stand_ins(inputs, batch), batch, tensors, modules, function(...) return net(...) end)
  return traced, select(2, core.random_state()) ~= (step or 0)
end

-- Layers that are left out at random would be missing in the graph, or not, by chance.
local function check_path(traced, other)
  local nodes, others = traced:nodes(), other:nodes()
  local same = #nodes == #others
  for i = 1, same and #nodes or 0 do same = same and nodes[i].op == others[i].op end
  if not same then
    core.fail("prune.graph: which operators the model runs depends on random numbers; trace it in evaluation mode (net:eval()), or use " ..
      "nn.StochasticDepth")
  end
end

--- The graph of a model: it is run on shapes only, with two batch sizes.
-- @param net a module
-- @param shape sizes of the input without the batch, an example tensor, or a list of inputs { shape =, dtype = (that of the parameters) }
-- @return graph
-- @usage local g = prune.graph(net, { 3, 32, 32 }); g:group(net.conv1.weight, 1, { 3, 7 }):remove()
function graph.graph(net, shape)
  options.module("prune.graph", "the first argument", net)
  if net.inner_graph then return net:inner_graph(shape) end
  local tensors, modules = describe(net)
  local inputs = graph.inputs(shape, "prune.graph", dtype_of(tensors))
  local traced, random = trace(net, inputs, 2, tensors, modules)
  for other = 1, random and 4 or 0 do check_path(traced, (trace(net, inputs, 2, tensors, modules, other << 16))) end
  traced:fit_batch((trace(net, inputs, 3, tensors, modules)))
  local state = traced:state()
  state.net, state.inputs = net, inputs
  net._input = inputs -- so that prune.save knows what to trace with
  -- After a removal: tell modules that keep rewritten numbers as state, then run the model's code again on shapes.
  state.replay = function(changes, undo)
    for _, change in ipairs(changes) do
      local path, operator, arguments = table.unpack(change)
      local module = net:module(path)
      if module.rewritten then module:rewritten(operator, arguments) end
    end
    if undo then return nil end
    return (trace(net, inputs, 2, tensors, modules))
  end
  return traced
end

--- The graph as a module of its own over the same parameters: it runs, trains, prunes and clones like any other.
-- @return module
function Graph:module() return require("prune.graph_module").of_graph(self) end

-- What graphs have from the core:

--- graph:group(parameter, dim, indices)
--- The units of some positions along an axis of a parameter: what must be removed together with them. Pinned positions are refused with the
--- reason.
--- @param parameter of the model, or its name
--- @param dim the axis, from 1
--- @param indices a table, an integer tensor or a number, from 1
--- @return group
--- @usage graph:group("conv1.weight", 1, { 3, 7 }):remove()

--- graph:why(parameter, dim, index)
--- What goes with a position (for a product of factors: with each of them), or which operators pin it, followed back to the cause.
--- @param parameter of the model, or its name
--- @param dim the axis, from 1
--- @param index the position, from 1
--- @return string
--- @usage print(graph:why("fc.weight", 1, 1))

--- graph:notes()
--- Operators that pin axes.
--- @return list of { op =, path =, text = (the reason) }

--- graph:scopes(by_members)
--- All lists of units that the same producers make, also the twins of products (heads beside head widths); see graph:groups().
--- @param[opt] by_members true: of units that touch the same axes of the same parameters
--- @return list of groups
--- @return list of booleans: does graph:groups() offer it?

--- graph:units_within(parameter, dim, indices)
--- The units that lie within positions along an axis of a parameter and make them up: the reverse of graph:locate(). Unlike graph:group(), which gives
--- what must go so that the positions go, it fails for a part of a unit.
--- @param parameter of the model, or its name
--- @param dim the axis, from 1
--- @param indices a table, an integer tensor or a number, from 1
--- @return list of unit numbers

--- graph:locate(units)
--- Where units are: along the axis of the first parameter that makes them.
--- @param units list of numbers, from group:units()
--- @return list of { parameter = (name), dim =, kind =, indices = }, one for each group

--- graph:kept(units)
--- What would stay of every tensor, activations too, without some units. Nothing is changed.
--- @param units list of numbers, from group:units()
--- @return table: number of a value (as in graph:nodes()) -> axis -> list of positions that stay; only where some go

--- graph:nodes()
--- The operators in the order in which they ran.
--- @return list of { op =, path = (of the module), type = (its class), inputs =, outputs =, arguments =, macs =, macs_ptflops = }

--- graph:modules()
--- The module tree, parents first.
--- @return list of { path, type }

--- graph:tensors()
--- Parameters, buffers, and constants that the model's code brought along.
--- @return list of { name =, tensor =, kind = "parameter", "buffer" or "constant", shape = }

--- graph:inputs()
--- The model's inputs; shapes are those of the trace, with a batch.
--- @return list of { name =, shape =, dtype = }

--- graph:outputs()
--- The model's outputs.
--- @return list of { shape =, dtype = }

--- graph:batch()
--- The batch size of the trace; where the graph runs, it takes any.
--- @return integer

--- graph:cost()
--- Costs of one sample, and sizes.
--- @return MACs (convolutions, linear layers, matrix products)
--- @return MACs in ptflops' convention
--- @return parameters
--- @return entries of buffers

--- graph:run(inputs, training)
--- Run the operators, through the same door as the model's own code: what it computes trains.
--- @param inputs list of tensors, of any batch size
--- @param training boolean: the mode of batch norm and dropout
--- @return the outputs

--- graph:copy()
--- An independent graph over copies of the tensors.
--- @return graph

--- graph:dot()
--- The graph in Graphviz's language; prune.draw makes a picture of it.
--- @return string

--- graph:text()
--- The graph as a checkpoint stores it: a line for each module, value and operator.
--- @return string

--- graph:fit_batch(other)
--- Find out which arguments depend on the batch. prune.graph does this.
--- @param other the same model traced with another batch size
--- @return the graph

--- graph:state()
--- A table for what belongs to the graph on Lua's side: net, inputs, replay.
--- @return table

--- Dependency groups: lists of units that are ranked together.
-- @param options all = true also gives the twins of products (heads beside head widths), which are left out by default; kinds = list of kinds
-- (group:kind() tells them): only groups of these, twins too; group_by = "producers": units that the same layers make are one group, or "members":
-- only units that touch the same axes of the same parameters, readers too (the thirds of a layer that is split in three are three)
-- @return list of groups
-- @usage for _, heads in ipairs(graph:groups { kinds = { "head" } }) do print(heads) end
function Graph:groups(given)
  local o = options.check("graph:groups", given, { all = false, kinds = options.none, group_by = "producers" })
  options.choice("graph:groups", "group_by", o.group_by, { "producers", "members" })
  local kinds = require("prune.grouping").read_kinds("graph:groups", { kinds = o.kinds })
  local groups, primary = self:scopes(o.group_by == "members")
  local list = {}
  for i, group in ipairs(groups) do
    local wanted = o.all or primary[i]
    if o.kinds then wanted = kinds[group:kind()] end
    if wanted then list[#list + 1] = group end
  end
  return list
end

-- --- groups and parts -----------------------------------------------------------------------------------------------

local Part = {}
-- `indices` is a long list, so it is made when it is asked for.
local part_meta = {
  __index = function(self, key)
    if key ~= "indices" then return Part[key] end
    local indices = self._group:indices(self.number)
    rawset(self, "indices", indices)
    return indices
  end,
}

--- A part as a matrix: one row per unit of the group, everything else in the columns.
-- @param what nil: the parameter's value; "grad": its gradient; "mask"; or a tensor of the parameter's shape
-- @return tensor [units, columns]
function Part:rows(what)
  local source = what
  if what == nil then source = self.parameter
  elseif what == "grad" then
    source = self.parameter.grad
    if not source then error(("%s has no gradient; run backward first"):format(self.name), 2) end
  elseif what == "mask" then
    source = self.parameter.mask or core.ones(self.parameter:size())
  end
  return self._group:rows(self.number, source)
end

--- group:units()
--- The numbers of the group's units in its graph.
--- @return list of integers

--- group:count()
--- How many units there are; also group.size and #group.
--- @return integer

--- group:pick(positions)
--- The group of some of its units.
--- @param positions list, from 1, ascending
--- @return group

--- group:graph()
--- The graph that the group belongs to.
--- @return graph

--- group:describe_parts()
--- The parts as plain tables; group:parts() gives them with methods.
--- @return list of { number =, name =, dim =, count = (positions in all), parameter =, producer =, consumer = }

--- group:indices(number)
--- Positions along the axis of a part: part.indices.
--- @param number of the part
--- @return list of integers, ascending

--- group:kind()
--- What the units are: "channel" (also features of linear layers and hidden units), "head", "head_dim", "kv_head" (a key and value head with all
--- its query heads) and "copy" (one query head of every key and value head) of attention, "group" and "position" of grouped convolutions, "outer" and
--- "inner" of any other axis that is viewed as two.
--- @return string

--- group:rows(number, tensor)
--- A part of any tensor of its parameter's shape as a matrix; part:rows() is the comfortable form.
--- @param number of the part
--- @param tensor of the parameter's shape
--- @return tensor [units, columns]

--- The coupled parameter axes of a group.
-- @return iterator of parts; each has name, dim, indices (a table), parameter, producer (this axis makes the units), rows(what)
-- @usage for part in group:parts() do print(part.name, part.dim, #part.indices) end
function Group:parts()
  local list, i = self:describe_parts(), 0
  return function()
    i = i + 1
    local part = list[i]
    if not part then return nil end
    part._group = self
    return setmetatable(part, part_meta)
  end
end

--- What a group is called: the first parameter axis that makes its units.
-- @return the parameter's name
-- @return the axis, from 1
function Group:name()
  local first
  for _, part in ipairs(self:describe_parts()) do
    if part.producer then return part.name, part.dim end
    first = first or part
  end
  return first.name, first.dim
end

--- Remove the group's units from the model, all or nothing. Gradients, masks and optimiser state follow.
function Group:remove()
  local owner = self:graph()
  owner:remove_units(self:units(), owner:state().replay)
end

local function short_list(indices)
  local shown = table.concat(indices, " ", 1, math.min(#indices, 8))
  return #indices > 8 and shown .. (" ... (%d)"):format(#indices) or shown
end

core.Group.__index = function(self, key)
  if key == "size" then return self:count() end
  return Group[key]
end

core.Group.__methods = Group -- for help

core.Group.__tostring = function(self)
  local lines = { ("group of %d units"):format(self:count()) }
  for part in self:parts() do lines[#lines + 1] = ("  %s axis %d: %s"):format(part.name, part.dim, short_list(part.indices)) end
  return table.concat(lines, "\n")
end

core.Group.__len = function(self) return self:count() end

core.Graph.__tostring = function(self)
  local lines = {}
  for _, node in ipairs(self:nodes()) do
    local inputs = {}
    for i, value in ipairs(node.inputs) do inputs[i] = value.name or ("%" .. value.number) end
    local output = node.outputs[1]
    lines[#lines + 1] = ("%%%d [%s] = %s(%s)%s"):format(output.number, table.concat(output.shape, ", "), node.op,
      table.concat(inputs, ", "), node.path ~= "" and "  -- " .. node.path or "")
  end
  return table.concat(lines, "\n")
end

-- --- costs ----------------------------------------------------------------------------------------------------------

-- On the meta device there are none (prune.meta).
local function has_values(net)
  for _, p in net:named_parameters() do
    if p.device == "meta" then return false end
  end
  return true
end

--- Sizes and costs of a model.
-- @param net a module
-- @param shape input without the batch
-- @return table: params, buffers, macs (convolutions and linear layers with bias, matrix products; per sample), macs_ptflops (ptflops' convention:
-- also norms, activations, pooling), sparsity (share of zeros among weights of more than one dimension; nil on the meta device)
function graph.profile(net, shape)
  local macs, macs_ptflops, params, buffers = graph.graph(net, shape):cost()
  return { params = params, buffers = buffers, macs = macs, macs_ptflops = macs_ptflops, sparsity = has_values(net) and graph.sparsity(net) or nil }
end

--- Share of zero entries among a model's weights of more than one dimension (as the model reads them: masks count).
-- @param net a module, or a list of tensors
-- @return number in 0..1
function graph.sparsity(net)
  return require("prune.mask").sparsity(net)
end

-- --- summary --------------------------------------------------------------------------------------------------------

local function thousands(n)
  local text = ("%d"):format(n):reverse():gsub("(%d%d%d)", "%1,"):reverse()
  return (text:gsub("^(%-?),", "%1"))
end

-- The window of a convolution or pooling: the axes of the weight past the channels, or the option.
local function kernel_of(node)
  local size = node.arguments.kernel_size
  if size then return type(size) == "table" and table.concat(size, " x ") or ("%d x %d"):format(size, size) end
  local weight = node.op:match "^conv" and node.inputs[2]
  return weight and table.concat(weight.shape, " x ", 3) or nil
end

-- One row per module that runs operators itself, in order of first run; what the root runs itself is shown by operator.
local function collect_rows(traced)
  local rows, by_key = {}, {}
  local counted = {}
  for _, node in ipairs(traced:nodes()) do
    local key = node.path .. "\0" .. node.type
    local row = by_key[key]
    if not row then
      row = { path = node.path, type = node.type, ops = {}, params = 0, macs = 0 }
      by_key[key], rows[#rows + 1] = row, row
    end
    row.macs = row.macs + node.macs
    row.shape = node.outputs[1].shape
    row.ops[#row.ops + 1] = node.op
    row.kernel = row.kernel or node.path ~= "" and kernel_of(node) or nil
    for _, value in ipairs(node.inputs) do
      if value.kind == "parameter" and not counted[value.number] then
        counted[value.number] = true
        local n = 1
        for _, size in ipairs(value.shape) do n = n * size end
        row.params = row.params + n
      end
    end
  end
  return rows
end

local function aligned(lines, right)
  local widths = {}
  for _, line in ipairs(lines) do
    for i, cell in ipairs(line) do widths[i] = math.max(widths[i] or 0, utf8.len(cell) or #cell) end
  end
  local out = {}
  for k, line in ipairs(lines) do
    local cells = {}
    for i, cell in ipairs(line) do
      local fill = (" "):rep(widths[i] - (utf8.len(cell) or #cell))
      cells[i] = right[i] and fill .. cell or cell .. fill
    end
    out[k] = (table.concat(cells, "  "):gsub("%s+$", ""))
  end
  return out
end
graph.aligned = aligned
graph.thousands = thousands

--- A table of a model's layers: kernel, output shape, parameters, MACs, operators; totals below.
-- @param net a module
-- @param shape input without the batch
-- @return string
function graph.summary(net, shape)
  local traced = graph.graph(net, shape)
  local lines = { { "layer", "type", "kernel", "output", "params", "MACs", "operators" } }
  for _, row in ipairs(collect_rows(traced)) do
    local sizes = table.move(row.shape, 2, #row.shape, 1, {})
    local ops = table.concat(row.ops, " ", 1, math.min(#row.ops, 4)) .. (#row.ops > 4 and " ..." or "")
    lines[#lines + 1] = { row.path == "" and "(model)" or row.path, row.type, row.kernel or "", table.concat(sizes, " x "),
      thousands(row.params), thousands(row.macs), ops }
  end
  local macs, macs_ptflops, params, buffers = traced:cost()
  local out = aligned(lines, { false, false, false, false, true, true, false })
  table.insert(out, 2, ("-"):rep(#out[1] + 12))
  out[#out + 1] = out[2]
  out[#out + 1] = ("%s parameters (%.2f MB as f32), %s buffer entries; %s MACs per sample (ptflops' convention: %s)"):format(
    thousands(params), params * 4 / 1e6, thousands(buffers), thousands(macs), thousands(macs_ptflops))
  return table.concat(out, "\n")
end

--- Draw a model's graph.
-- @param path a file that ends in .dot, or in .svg, .png or .pdf (made by Graphviz's program dot)
-- @param net a module
-- @param shape input without the batch
-- @return path
function graph.draw(path, net, shape)
  local kind = tostring(path):match "%.(%a+)$"
  if not (kind == "dot" or kind == "svg" or kind == "png" or kind == "pdf") then
    error(("prune.draw: the file must end in .dot, .svg, .png or .pdf: %s"):format(tostring(path)), 2)
  end
  local text = graph.graph(net, shape):dot()
  local util = require "prune.util"
  util.make_folder(path)
  local dot_path = kind == "dot" and path or path .. ".dot"
  local file = assert(io.open(dot_path, "w"))
  file:write(text)
  assert(file:close())
  if kind == "dot" then return path end
  local quote = function(s) return "'" .. s:gsub("'", "'\\''") .. "'" end
  local ok = os.execute(("dot -T%s -o %s %s"):format(kind, quote(path), quote(dot_path)))
  if not ok then
    error(("prune.draw: Graphviz's program dot is needed for .%s (Debian package graphviz); the graph is in %s"):format(kind, dot_path), 2)
  end
  os.remove(dot_path)
  return path
end

require "prune.history" -- graph:remove_units notes what it removes

graph._Graph, graph._Group, graph._Part = Graph, Group, Part -- for help

return graph
