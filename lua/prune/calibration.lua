-- calibration.lua - running a model over a few batches to learn something about it: gradients of its loss, inputs of its layers. The model
-- runs in evaluation mode and is left as it was, also after an error: modes, gradients, frozen parameters, running statistics.
local core = require "prune.core"
local interrupt = require "prune.interrupt"
local options = require "prune.options"
local Module = require "prune.nn.module"

local calibration = {}

-- --- data -----------------------------------------------------------------------------------------------------------

local function one_batch(pair)
  if core.is_tensor(pair) then return pair end
  if type(pair) == "table" and pair[1] ~= nil then return pair[1], pair[2] end
  error(("each batch of a list must be a tensor or { inputs, labels }, got %s"):format(type(pair)), 0)
end

local function has_batches(data) return type(data) == "table" and type(data.batches) == "function" end

local function fail_data(where, data)
  error(("%s: data must have batches(), or be a list of { inputs, labels }, or one tensor of inputs; got %s"):format(where,
    type(data) == "table" and "an empty table" or type(data)), 0)
end

--- Raise unless the options data, batches and loss are what they may be. Each may be nil.
-- @param where the caller's name, for messages
-- @param o options
function calibration.check(where, o)
  local data = o.data
  if data ~= nil and not (core.is_tensor(data) or has_batches(data) or type(data) == "table" and #data > 0) then fail_data(where, data) end
  if o.batches ~= nil then options.count(where, "batches", o.batches) end
  options.callable(where, "loss", o.loss)
end

local function read_data(data, where)
  if core.is_tensor(data) then data = { data } end
  if has_batches(data) then return data:batches() end
  if type(data) == "table" and #data > 0 then
    local i = 0
    return function()
      i = i + 1
      if data[i] ~= nil then return one_batch(data[i]) end
    end
  end
  fail_data(where, data)
end

--- Iterate over the first batches of what users give as `data`.
-- @param data has batches(); or a list of { inputs, labels } or of tensors; or one tensor of inputs
-- @param batches at most so many (nil: all)
-- @param where the caller's name, for messages
-- @return iterator of inputs, labels (nil where there are none); it raises when there is not one batch
function calibration.batches(data, batches, where)
  if batches ~= nil and (math.type(batches) ~= "integer" or batches < 1) then
    error(("%s: batches must be an integer of at least 1, got %s"):format(where, tostring(batches)), 0)
  end
  local next_batch, object, control, closing = read_data(data, where)
  local seen = 0
  return function()
    if seen == batches then return nil end
    local x, y = next_batch(object, control)
    control = x
    if x == nil then
      if seen == 0 then error(where .. ": the data give no batch", 0) end
      return nil
    end
    seen = seen + 1
    return x, y
  end, nil, nil, closing
end

--- Run a model on a batch's inputs: a tensor, or a list of tensors for a model with several inputs.
-- @param net a module
-- @param x the inputs
-- @return the outputs
function calibration.run(net, x)
  if type(x) == "table" then return net(table.unpack(x)) end
  return net(x)
end

-- --- leaving the model as it was --------------------------------------------------------------------------------------

--- Put a model into evaluation mode until the guard closes; then every module has its own mode back.
-- @param net a module
-- @return a guard for `local guard <close>`
function calibration.evaluating(net)
  local modes = {}
  for _, module in net:named_modules() do modes[module] = module.training end
  net:eval()
  return interrupt.closing(function()
    for module, mode in pairs(modes) do rawset(module, "training", mode) end
  end)
end

--- Let every parameter, also a frozen one, collect a gradient of its own until the guard closes; then each has its gradient and its
-- requires_grad back.
-- @param net a module
-- @return a guard for `local guard <close>`
function calibration.collecting(net)
  local kept = {}
  for _, p in net:named_parameters() do
    kept[#kept + 1] = { p, p.grad, p.requires_grad }
  end
  local guard = interrupt.closing(function()
    for _, one in ipairs(kept) do
      local p, grad, wanted = table.unpack(one, 1, 3)
      p.requires_grad = wanted
      p.grad = grad
    end
  end)
  for _, one in ipairs(kept) do
    one[1].grad = nil
    one[1].requires_grad = true
  end
  return guard
end

--- Let every parameter have a given gradient until the guard closes; then each has its own back.
-- @param net a module
-- @param gradients table parameter -> gradient
-- @return a guard for `local guard <close>`
function calibration.holding(net, gradients)
  local guard = calibration.collecting(net)
  for _, p in net:named_parameters() do p.grad = gradients[p] end
  return guard
end

--- Loss of a batch as a tensor of one element.
-- @param loss function(output, labels) or nil for the cross entropy
-- @param output of the model
-- @param y labels
-- @param where the caller's name, for messages
-- @return tensor
function calibration.loss(loss, output, y, where)
  options.callable(where, "loss", loss)
  if loss == nil and y == nil then
    error(where .. ": the data give no labels; give batches of { inputs, labels }, or a loss of your own (option loss)", 0)
  end
  local value = (loss or require("prune.nn.functional").cross_entropy)(output, y)
  if core.is_tensor(value) and value:numel() == 1 then return value end
  error(("%s: the loss must be a tensor with one element, got %s"):format(where, core.is_tensor(value)
    and ("one of shape [%s]"):format(table.concat(value:size(), ", ")) or type(value)), 0)
end

-- --- what can be learnt -------------------------------------------------------------------------------------------------

--- Gradients of a model's loss on data, in evaluation mode: the mean over the batches, for frozen parameters too. The model's own
-- gradients, modes and statistics stay as they were.
-- @param net a module
-- @param data has batches(); or a list of { inputs, labels }
-- @param[opt] batches at most so many (default: all)
-- @param[opt] loss function(output, labels) -> scalar tensor (default: cross entropy)
-- @return table parameter -> gradient (zeros where the loss does not reach)
-- @usage local gradients = require("prune.calibration").gradients(net, train, 4)
function calibration.gradients(net, data, batches, loss)
  local where = "calibration.gradients"
  options.module(where, "the first argument", net)
  local evaluating <close> = calibration.evaluating(net) -- luacheck: ignore
  local collecting <close> = calibration.collecting(net) -- luacheck: ignore
  local recording <close> = core.enable_grad() -- luacheck: ignore
  local seen = 0
  for x, y in calibration.batches(data, batches, where) do
    calibration.loss(loss, calibration.run(net, x), y, where):backward()
    seen = seen + 1
  end
  local gradients = {}
  core.no_grad(function()
    for _, p in net:named_parameters() do
      gradients[p] = p.grad and (seen == 1 and p.grad or p.grad / seen) or core.zeros(p:size()):to(p.dtype)
    end
  end)
  return gradients
end

-- The samples of a batch one by one.
local function each_sample(x, y)
  local function rows(t, i)
    if core.is_tensor(t) then return t:narrow { dim = 1, start = i, length = 1 } end
    local list = {}
    for k, one in ipairs(t) do list[k] = rows(one, i) end
    return list
  end
  local i, n = 0, core.is_tensor(x) and x:size(1) or x[1]:size(1)
  return function()
    i = i + 1
    if i <= n then return rows(x, i), y ~= nil and rows(y, i) or nil end
  end
end

--- Squared gradients of one sample's loss, averaged over samples: the diagonal of the empirical Fisher matrix. Every sample runs alone, so
-- this costs as many passes as there are samples. The model stays as it was.
-- @param net a module
-- @param data has batches(); or a list of { inputs, labels }
-- @param[opt] batches at most so many (default: all)
-- @param[opt] loss function(output, labels) -> scalar tensor (default: cross entropy)
-- @return table parameter -> tensor
function calibration.squared_gradients(net, data, batches, loss)
  local where = "calibration.squared_gradients"
  options.module(where, "the first argument", net)
  local evaluating <close> = calibration.evaluating(net) -- luacheck: ignore
  local collecting <close> = calibration.collecting(net) -- luacheck: ignore
  local recording <close> = core.enable_grad() -- luacheck: ignore
  local squares, seen = {}, 0
  for _, p in net:named_parameters() do squares[p] = core.zeros(p:size()):to(p.dtype) end
  for x, y in calibration.batches(data, batches, where) do
    for sample, label in each_sample(x, y) do
      calibration.loss(loss, calibration.run(net, sample), label, where):backward()
      seen = seen + 1
      core.no_grad(function()
        for p, sum in pairs(squares) do
          if p.grad then sum:copy(sum + p.grad * p.grad) end
          p.grad = nil
        end
      end)
    end
  end
  core.no_grad(function()
    for _, sum in pairs(squares) do sum:copy(sum / seen) end
  end)
  return squares
end

-- Parameters have their values back when the guard closes.
local function restoring(net)
  local kept = {}
  for _, p in net:named_parameters() do kept[p] = p:dense():clone() end
  return kept, interrupt.closing(function()
    core.no_grad(function()
      for p, value in pairs(kept) do p:copy(value) end
    end)
  end)
end

local function squared_norm(tensors)
  local sum = 0
  for _, t in pairs(tensors) do sum = sum + t:to("f64"):square():sum():item() end
  return sum
end

--- The Hessian of a model's loss times its gradient, by central differences of gradients along the gradient: (g(w + h g) - g(w - h g)) /
-- 2 h with |h g| = step |w|. The model stays as it was. Where activations have kinks (ReLU) the difference takes in those that are crossed: it
-- is the curvature over the step, not that of one point, and a shorter step makes it noisier, not better.
-- @param net a module
-- @param data has batches(); or a list of { inputs, labels }
-- @param[opt] batches at most so many (default: all)
-- @param[opt] loss function(output, labels) -> scalar tensor (default: cross entropy)
-- @param[opt] step size of the difference relative to the weights (1e-2)
-- @return table parameter -> tensor
function calibration.hessian_gradient(net, data, batches, loss, step)
  local list = {} -- the same batches each time
  for x, y in calibration.batches(data, batches, "calibration.hessian_gradient") do list[#list + 1] = { x, y } end
  local gradients = calibration.gradients(net, list, nil, loss)
  return core.no_grad(function()
    local kept, guard <close> = restoring(net) -- luacheck: ignore
    local length = math.sqrt(squared_norm(gradients))
    if length == 0 then return gradients end -- H 0 = 0
    local h = (step or 1e-2) * math.sqrt(squared_norm(kept)) / length
    local function gradients_at(shift)
      for p, value in pairs(kept) do p:copy(value + gradients[p] * shift) end
      return calibration.gradients(net, list, nil, loss)
    end
    local above, below, products = gradients_at(h), gradients_at(-h), {}
    for p in pairs(kept) do products[p] = (above[p] - below[p]) / (2 * h) end
    return products
  end)
end

--- Gradients of the synaptic flow R (Tanaka et al. 2020): the sum of the outputs for inputs of ones, in f64, of a copy of the model in
-- which weights and scales have their absolute values and biases and running means are 0. Takes no data.
-- @param graph of the model
-- @return table parameter -> dR/d|parameter|
function calibration.synaptic_flow(graph)
  local copy = graph:module():clone():to("f64"):eval()
  local roles = core.parameter_roles(graph)
  core.no_grad(function()
    for name, p in copy:named_parameters() do p:copy(roles[name] == "bias" and p:dense() * 0 or p:dense():abs()) end
    for name, b in copy:named_buffers() do
      if name:match "running_mean$" then b:copy(b * 0) end
    end
  end)
  local inputs = {}
  for i, input in ipairs(graph:inputs()) do
    inputs[i] = core.ones { 1, table.unpack(input.shape, 2) }
    local is_float = input.dtype == "f32" or input.dtype == "f64" or input.dtype == "bf16"
    inputs[i] = inputs[i]:to(is_float and "f64" or input.dtype)
  end
  local flows = {}
  core.enable_grad(function()
    local total = 0
    for _, p in ipairs(copy:parameters()) do p.requires_grad = true end
    for _, output in ipairs { copy(table.unpack(inputs)) } do total = total + output:sum() end
    local value = total:item()
    if value ~= value or value == math.huge then
      error("synaptic flow: the flow through this model is " .. value .. ", too large for f64; it is too deep for this criterion", 0)
    end
    total:backward()
  end)
  local own = {}
  for _, t in ipairs(graph:tensors()) do own[t.name] = t.tensor end
  for name, p in copy:named_parameters() do flows[own[name]] = p.grad or core.zeros(p:size()):to "f64" end
  return flows
end

-- Each layer's own forward, which calls `visit` first, until the guard closes.
local function observe(modules, visit)
  local kept = {}
  local guard = interrupt.closing(function()
    for module, own in pairs(kept) do rawset(module, "forward", own.forward) end
  end)
  for _, module in ipairs(modules) do
    kept[module] = { forward = rawget(module, "forward") }
    local forward = module.forward
    rawset(module, "forward", function(self, x, ...)
      visit(self, x, ...)
      return forward(self, x, ...)
    end)
  end
  return guard
end

local function check_layers(net, modules, where)
  if type(modules) ~= "table" or Module.is_module(modules) or #modules == 0 then
    error(where .. ": the second argument must be a list of modules of the model, not empty", 3)
  end
  local own, seen = {}, {}
  for _, module in net:named_modules() do own[module] = true end
  for i, module in ipairs(modules) do
    if not own[module] then error(("%s: element %d of the list is not a module of this model"):format(where, i), 3) end
    if seen[module] then error(("%s: element %d of the list is there twice"):format(where, i), 3) end
    seen[module] = true
  end
end

-- Of a model that is a graph: a function(inputs) that runs as much of it as the listed layers need and calls `visit` for each of them in
-- the order in which they run.
local function observe_graph(net, modules, visit, where)
  local surgery = require "prune.surgery"
  local s, listed, entered, met = surgery.open(net:inner_graph()), {}, {}, {}
  for _, module in ipairs(modules) do listed[module] = true end
  local of = {}
  for path, module in net:named_modules() do of[path] = listed[module] and module or nil end
  s.outputs = {}
  for _, node in ipairs(s.nodes) do
    local module = of[node.path]
    local weight = module and rawget(module, "weight")
    for _, value in ipairs(weight and node.inputs or {}) do
      if value and rawequal(value.tensor, weight) then
        s.outputs[#s.outputs + 1], entered[#entered + 1], met[module] = node.inputs[1], module, true
      end
    end
  end
  for i, module in ipairs(modules) do
    if not met[module] then
      error(("%s: element %d of the list, a %s, has no weight that an operator of the graph reads"):format(where, i, module._type), 3)
    end
  end
  local part = s:close()
  return function(...)
    local values = { part:run({ ... }, false) }
    for i, module in ipairs(entered) do visit(module, values[i]) end
  end
end

--- Run a model over data without recording, in evaluation mode, and show each forward of the listed layers.
-- @param net a module
-- @param modules list of modules of its tree (such as the convolutions and linear layers), each once; of a model that was loaded as a graph
-- only such that have a weight
-- @param data has batches(); or a list of { inputs, labels } or of tensors; or one tensor of inputs
-- @param batches at most so many (nil: all)
-- @param visit function(module, input, ...): called once for each time a layer runs, in that order; it must not change the model
-- @usage calibration.inputs(net, { net.fc }, train, 4, function(layer, x) print(layer, x:size(1)) end)
function calibration.inputs(net, modules, data, batches, visit)
  local where = "calibration.inputs"
  options.module(where, "the first argument", net)
  check_layers(net, modules, where)
  local is_graph = net.inner_graph ~= nil
  local evaluating <close> = calibration.evaluating(net) -- luacheck: ignore
  local observing <close> = not is_graph and observe(modules, visit) or nil -- luacheck: ignore
  local still <close> = core.no_grad() -- luacheck: ignore
  local run = is_graph and observe_graph(net, modules, visit, where) or net
  for x in calibration.batches(data, batches, where) do calibration.run(run, x) end
end

return calibration
