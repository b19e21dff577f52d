-- checkpoint.lua - saving and loading models. core/io/checkpoint.h has the format of the file.
--
-- Beside the tensors and the graph a checkpoint holds these texts, in the form of literal.lua: "model" (inputs, frozen parameters),
-- "environment" (what numbers depend on), "random" (seed and step of the generator), "history" (what was removed, step by
-- step), and where given "optimizer_settings" and "progress".
local core = require "prune.core"
local graph = require "prune.graph"
local history = require "prune.history"
local literal = require "prune.literal"
local options = require "prune.options"
local util = require "prune.util"

local checkpoint = {}
local none = options.none

local function tensors_of(net)
  local list = {}
  for name, p in net:named_parameters() do list[#list + 1] = { name, p } end
  for name, b in net:named_buffers() do list[#list + 1] = { name, b } end
  return list
end

local function by_name(list)
  local names = {}
  for _, pair in ipairs(list) do names[pair[1]] = pair[2] end
  return names
end

-- --- what numbers depend on ---------------------------------------------------------------------------------------------

local function processor()
  local file = io.open "/proc/cpuinfo"
  local text = file and file:read "a" or ""
  if file then file:close() end
  return text:match "model name%s*:%s*([^\n]+)" or text:match "CPU part%s*:%s*([^\n]+)" or "unknown"
end

local function environment()
  return { prunelua = core.version, threads = core.threads(), backend = core.backend(), backends = table.concat(core.backends(), " "),
    processor = processor() }
end

-- How the environment differs from the one in the file, as lines.
local function differences(stored)
  local list, now = {}, environment()
  for key, value in util.sorted(now) do
    if stored[key] ~= nil and stored[key] ~= value then
      list[#list + 1] = ("%s was %s and is %s"):format(key, tostring(stored[key]), tostring(value))
    end
  end
  return list
end

-- --- saving -------------------------------------------------------------------------------------------------------------

local function trace(net, shape)
  if net.inner_graph then return net:inner_graph(shape) end
  local inputs = shape or net._input
  if not inputs then
    error("prune.save: the shape of the model's input is needed to trace it; give options.shape: " ..
      "prune.save(path, net, { shape = { 3, 32, 32 } })", 0)
  end
  return graph.graph(net, inputs)
end

local function describe_optimizer(optimizer, tensors)
  local names = {}
  for _, pair in ipairs(tensors) do names[pair[2]] = pair[1] end
  local state = optimizer:state()
  for i, group in ipairs(optimizer.groups) do
    local list = {}
    for k, p in ipairs(group.params) do
      list[k] = names[p]
      if not list[k] then
        error(("parameter %d of the optimiser (group %d) is not one of the model, so its state cannot be saved"):format(k, i), 0)
      end
    end
    state.groups[i].names = list
  end
  return state
end

-- Second names of parameters and modules that the tree holds more than once: { { second name, first name }, ... }.
local function shared_names(net)
  local first, list = {}, {}
  for path, module in net:named_modules() do first[module] = path end
  for path, module in net:named_modules() do
    for _, key in ipairs(module._keys) do
      local value, word = rawget(module, key), type(key) == "number" and tostring(key - 1) or key
      local name = path == "" and word or path .. "." .. word
      if value ~= nil and first[value] == nil then first[value] = name
      elseif value ~= nil and first[value] ~= name then list[#list + 1] = { name, first[value] } end
    end
  end
  return list
end

local function describe_model(net, traced)
  local frozen = {}
  for name, p in net:named_parameters() do
    if not p.requires_grad then frozen[#frozen + 1] = name end
  end
  return { inputs = traced and traced:state().inputs or nil, frozen = frozen, shared = shared_names(net) }
end

-- The model's graph; where `partial`, a model that cannot be traced gives nil and the reason.
local function trace_or_reason(net, shape, partial)
  if not partial then return trace(net, shape) end
  local ok, result = pcall(trace, net, shape)
  if ok then return result end
  return nil, tostring(result)
end

--- What prune.save does, for modules that checked their arguments. `partial`: a model that cannot be traced is saved without its
-- architecture, for checkpoint.restore alone.
function checkpoint.write(path, net, o)
  local traced, reason = trace_or_reason(net, o.shape, o.partial)
  local tensors = tensors_of(net)
  local texts = {
    { "model", literal.write(describe_model(net, traced), "the model's inputs") },
    { "environment", literal.write(environment()) },
    { "random", literal.write { core.random_state() } },
  }
  if reason then texts[#texts + 1] = { "untraced", reason } end
  if o.optimizer then
    texts[#texts + 1] = { "optimizer_settings", literal.write(describe_optimizer(o.optimizer, tensors), "the optimiser's state") }
  end
  local steps = history.packed(net)
  if #steps > 0 then texts[#texts + 1] = { "history", literal.write(steps, "the model's history") } end
  if o.progress ~= nil then texts[#texts + 1] = { "progress", literal.write(o.progress, "progress") } end
  local state, dense = o.optimizer ~= nil or o.partial, o.dense
  if dense == nil then dense = state end
  core.checkpoint_write(path, traced or tensors, texts, state, dense)
end

--- Raise where the state of an optimiser could not be saved with a model.
function checkpoint.check_optimizer(net, optimizer) describe_optimizer(optimizer, tensors_of(net)) end

--- Save a model: architecture, parameters, buffers and masks in one HDF5 file, which prune.load opens without the model's source.
-- The file is written beside `path` and renamed, so that an older one stays whole until the new one is safe.
-- @tparam string path
-- @param net a module
-- @tparam[opt] table options
--   shape: the input without the batch, to trace the model with (default: that of the last prune.graph, prune.structured or training
--   of this model); optimizer: an optimiser whose state is saved along; progress: a table of numbers, strings and tables to save along;
--   dense: keep what lies under the zeros of masks, which nothing reads, but which training moves on (default: only where an optimiser
--   is saved along). Without, a masked parameter is stored as a bit mask and the values that are left; zeros without a mask are left out too
-- @usage prune.save("model.h5", net, { shape = { 3, 32, 32 } })
function checkpoint.save(path, net, given)
  if type(path) ~= "string" then error(("prune.save: the path comes first and is a string, got %s"):format(type(path)), 2) end
  options.module("prune.save", "the second argument", net)
  local o = options.check("prune.save", given, { shape = none, optimizer = none, progress = none, dense = none })
  if o.dense ~= nil and type(o.dense) ~= "boolean" then
    error(("prune.save: dense is true or false, got %s"):format(tostring(o.dense)), 2)
  end
  util.make_folder(path)
  checkpoint.write(path, net, o)
end

-- --- loading ------------------------------------------------------------------------------------------------------------

-- A text of the checkpoint as a value.
local function value_of(texts, name, path)
  if not texts[name] then return nil end
  local ok, value = pcall(literal.read, texts[name])
  if not ok then error(("%s: the text '%s' is %s"):format(path, name, value), 0) end
  return value
end

local function check_path(path, where)
  if type(path) ~= "string" then error(("%s: the path is a string, got %s"):format(where, type(path)), 3) end
end

--- Open a saved model, without the source that made it: a module with the same tree, names, parameters, buffers and masks, in
-- evaluation mode. It runs, trains and prunes like the one that was saved.
-- @tparam string path
-- @return module
-- @usage local net = prune.load "model.h5"; net:train()
function checkpoint.load(path)
  check_path(path, "prune.load")
  local tensors, texts = core.checkpoint_read(path)
  if not texts.graph then
    error(("prune.load: %s holds no architecture, since its model could not be traced: %s\n" ..
      "Make the model and use net:load_state_dict(prune.load_state(path))"):format(path, texts.untraced or "no reason given"), 2)
  end
  local model = value_of(texts, "model", path) or {}
  local names = by_name(tensors)
  local net = require("prune.graph_module").from_graph(core.read_graph(texts.graph, names), model.inputs, model.shared)
  for _, pair in ipairs(tensors) do
    if pair[2].is_parameter then pair[2]:clear_slots() end -- an optimiser to come makes its own
  end
  for _, name in ipairs(model.frozen or {}) do
    if names[name] then names[name].requires_grad = false end
  end
  history.set(net, value_of(texts, "history", path))
  return net:eval()
end

--- The values in a file of weights by name, as the model computes with them (masks applied): for net:load_state_dict.
-- @tparam string path a checkpoint (.h5)
-- @treturn table name -> tensor
function checkpoint.load_state(path)
  check_path(path, "prune.load_state")
  local readable, is_checkpoint = pcall(core.is_checkpoint, path)
  if not path:match "%.h5$" and not (readable and is_checkpoint) then
    error(("prune.load_state: %s: only prunelua's checkpoints (.h5) can be read"):format(path), 2)
  end
  local state = {}
  for _, pair in ipairs((core.checkpoint_read(path))) do
    if pair[2].is_parameter or pair[2].is_buffer then state[pair[1]] = pair[2]:value() end
  end
  return state
end

-- --- restoring into a model -----------------------------------------------------------------------------------------------

local function shape_text(t) return "[" .. table.concat(t:size(), ", ") .. "]" end

-- Pairs { name, own tensor, stored tensor }; raises with all differences but those of shape.
local function match(net, stored, path)
  local wrong, pairs_, known = {}, {}, {}
  for _, pair in ipairs(tensors_of(net)) do
    local name, own, other = pair[1], pair[2], stored[pair[1]]
    known[name] = true
    if not other then wrong[#wrong + 1] = "missing in the file: " .. name
    elseif other.is_parameter ~= own.is_parameter then wrong[#wrong + 1] = "a buffer here, a parameter there: " .. name
    elseif other.dtype ~= own.dtype then
      wrong[#wrong + 1] = ("another dtype: %s is %s in the model, %s in the file"):format(name, own.dtype, other.dtype)
    elseif other:dim() ~= own:dim() then
      wrong[#wrong + 1] = ("another shape: %s is %s in the model, %s in the file"):format(name, shape_text(own), shape_text(other))
    else pairs_[#pairs_ + 1] = { name, own, other } end
  end
  for name, t in util.sorted(stored) do
    if not known[name] and (t.is_parameter or t.is_buffer) then wrong[#wrong + 1] = "missing in the model: " .. name end
  end
  if #wrong > 0 then
    error(("%s does not fit the model:\n  %s%s"):format(path, table.concat(wrong, "\n  ", 1, math.min(#wrong, 12)),
      #wrong > 12 and ("\n  ... and %d more"):format(#wrong - 12) or ""), 0)
  end
  return pairs_
end

local function check_optimizer(optimizer, state, net, path)
  if not state then error(("%s holds no optimiser state"):format(path), 0) end
  if state.kind ~= optimizer.kind then
    error(("%s: the optimiser is %s in the file, here %s"):format(path, tostring(state.kind), optimizer.kind), 0)
  end
  if #state.groups ~= #optimizer.groups then
    error(("%s: the optimiser has %d groups in the file, here %d"):format(path, #state.groups, #optimizer.groups), 0)
  end
  local names = {}
  for _, pair in ipairs(tensors_of(net)) do names[pair[2]] = pair[1] end
  for i, group in ipairs(optimizer.groups) do
    local stored = state.groups[i] and state.groups[i].names or {}
    for k = 1, math.max(#group.params, #stored) do
      local name = group.params[k] and (names[group.params[k]] or "a parameter of another model")
      if name ~= stored[k] then
        error(("%s: parameter %d of group %d of the optimiser is %s in the file, here %s"):format(path, k, i, tostring(stored[k]),
          tostring(name)), 0)
      end
    end
  end
end

-- Tell modules that keep numbers of their own (heads, bounds of groups) what the nodes of a graph have.
local function tell_rewritten(net, nodes)
  local modules = {}
  for path, module in net:named_modules() do modules[path] = module end
  for _, node in ipairs(nodes) do
    local module = modules[node.path]
    if module and module.rewritten and module._type == node.type then module:rewritten(node.op, node.arguments) end
  end
end

local function shapes_differ(matched)
  for _, m in ipairs(matched) do
    if shape_text(m[2]) ~= shape_text(m[3]) then return true end
  end
  return false
end

-- What the outputs of two graphs have in common must be all.
local function check_same(own, stored)
  local a, b = own:nodes(), stored:nodes()
  if #a ~= #b then error(("the model runs %d operators, the saved one %d"):format(#a, #b), 0) end
  for i, node in ipairs(a) do
    if node.op ~= b[i].op then error(("at '%s' the model runs %s, the saved one %s"):format(node.path, node.op, b[i].op), 0) end
    for k, output in ipairs(node.outputs) do
      local x, y = table.concat(output.shape, ", "), table.concat(b[i].outputs[k].shape, ", ")
      if x ~= y then error(("at '%s' %s gives [%s], in the saved model [%s]"):format(node.path, node.op, x, y), 0) end
    end
  end
end

-- Change the model to the stored shapes; where it cannot run with them, put everything back.
local function take_shapes(net, matched, stored_graph, inputs)
  local before = graph.graph(net, inputs):nodes()
  local function exchange_all()
    for _, m in ipairs(matched) do core.exchange(m[2], m[3]) end
  end
  exchange_all()
  local ok, message = pcall(function()
    tell_rewritten(net, stored_graph:nodes())
    check_same(graph.graph(net, inputs), stored_graph)
  end)
  if ok then return end
  exchange_all()
  tell_rewritten(net, before)
  error(message, 0)
end

local function restore_tensors(net, tensors, texts, path, matched)
  local inputs = (value_of(texts, "model", path) or {}).inputs
  if net.inner_graph then
    if not texts.graph then error(("%s holds no graph, and the model is one"):format(path), 0) end
    core.read_graph(texts.graph, by_name(tensors)) -- raises before anything is changed
    for _, m in ipairs(matched) do core.exchange(m[2], m[3]) end
    local names = by_name(tensors)
    for _, m in ipairs(matched) do names[m[1]] = m[2] end
    net:_take_graph(core.read_graph(texts.graph, names))
  elseif shapes_differ(matched) then
    if not texts.graph then error(("%s has other shapes than the model, and no graph that explains them"):format(path), 0) end
    take_shapes(net, matched, core.read_graph(texts.graph, by_name(tensors)), inputs)
  else
    for _, m in ipairs(matched) do core.exchange(m[2], m[3]) end
  end
  if inputs and not net._input then net._input = inputs end
end

--- The history of the model in a checkpoint.
-- @tparam string path
-- @return list of steps as prune.history gives them
function checkpoint.history(path)
  local _, texts = core.checkpoint_read(path)
  return value_of(texts, "history", path) or {}
end

--- Take up a checkpoint in a model that exists: values, buffers and masks, the optimiser's state, the random numbers. Shapes may
-- differ where the saved model was pruned: the model's parameters, which stay the same objects, take the stored shapes.
-- All or nothing.
-- @tparam string path
-- @param net a module with the same names
-- @param[opt] optimizer an optimiser over the same parameters
-- @return what was saved as progress; list of differences between the environment then and now
function checkpoint.restore(path, net, optimizer)
  local tensors, texts = core.checkpoint_read(path)
  local matched = match(net, by_name(tensors), path)
  local progress, random = value_of(texts, "progress", path), value_of(texts, "random", path)
  local state = optimizer and value_of(texts, "optimizer_settings", path)
  local steps = value_of(texts, "history", path)
  if optimizer then check_optimizer(optimizer, state, net, path) end
  restore_tensors(net, tensors, texts, path, matched)
  history.set(net, steps)
  if optimizer then optimizer:load_state(state) end
  if random then core.restore_random_state(random[1], random[2]) end
  return progress, differences(value_of(texts, "environment", path) or {})
end

return checkpoint
