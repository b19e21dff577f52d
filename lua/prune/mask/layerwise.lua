-- layerwise.lua - weights pruned in one shot on a calibration set, layer by layer: Wanda, SparseGPT, the optimal brain surgeon. Each layer is
-- judged on what the layers before it, which are pruned already, give it.
local allocation = require "prune.allocation"
local calibration = require "prune.calibration"
local common = require "prune.mask.common"
local core = require "prune.core"
local options = require "prune.options"
local progress = require "prune.progress"

local layerwise = {}
local none = options.none

-- --- the layers -----------------------------------------------------------------------------------------------------

local kinds = { Linear = true, Conv1d = true, Conv2d = true }

-- Stride, padding, dilation and groups by path, of a model that was loaded as a graph.
local function options_in_graph(net)
  local by_path = {}
  for _, node in ipairs(net.inner_graph and net:inner_graph():nodes() or {}) do
    if node.op:match "^conv" or node.op == "linear" then by_path[node.path] = node.arguments end
  end
  return by_path
end

-- Layers with inputs as rows, as { name, weight, modules that have it, options of each, shape, count }.
local function layers_of(where, net, o)
  local list, known, in_graph = {}, {}, options_in_graph(net)
  for path, module in net:named_modules() do
    local weight = kinds[module._type] and module.weight
    if weight and not known[weight] then
      local name = path ~= "" and path or module._type
      known[weight] = { name = name, weight = weight, modules = {}, options = {}, shape = weight:size(), count = weight:numel() }
      list[#list + 1] = known[weight]
    end
    if weight then
      table.insert(known[weight].modules, module)
      known[weight].options[module] = in_graph[path] or module._options or {}
    end
  end
  if #list == 0 then common.fail(where, "the model has no linear layer or convolution") end
  return common.chosen(where, list, o)
end

-- Parameters of more than one dimension, in the same form.
function layerwise._weights_of(where, net, o)
  local list = {}
  for name, p in net:named_parameters() do
    if p:dim() > 1 then list[#list + 1] = { name = name, weight = p, shape = p:size(), count = p:numel() } end
  end
  if #list == 0 then common.fail(where, "the model has no weights") end
  return common.chosen(where, list, o)
end

-- The layers in the order in which they first run.
local function in_order(where, net, layers, batches)
  local of, modules, order = {}, {}, {}
  for _, layer in ipairs(layers) do
    for _, module in ipairs(layer.modules) do
      of[module] = layer
      modules[#modules + 1] = module
    end
  end
  calibration.inputs(net, modules, { batches[1] }, 1, function(module)
    local layer = of[module]
    if not layer.place then
      order[#order + 1] = layer
      layer.place = #order
    end
  end)
  for _, layer in ipairs(layers) do
    if not layer.place then common.fail(where, "layer '%s' does not run on the data; leave it out with ignore", layer.name) end
  end
  return order
end

-- The batches, kept, so that every layer sees the same.
function layerwise._collect(where, data, batches)
  local list = {}
  if data == nil then common.fail(where, "data to calibrate on must be given") end
  for x, y in calibration.batches(data, batches, "prune.mask." .. where) do list[#list + 1] = { x, y } end
  return list
end

-- --- inputs as rows -------------------------------------------------------------------------------------------------

local largest = 1 << 22 -- numbers of windows that are in memory at a time

local function two(value, before)
  if type(value) == "table" then return before and { before, value[1] } or value end
  return { before or value, value }
end

-- What a layer's weights are multiplied with: [samples, channels, places of the window, positions].
local function windows(module, o, x)
  if module._type == "Linear" then return x:reshape(-1, x:size(-1), 1, 1) end
  local w, one = module.weight, module._type == "Conv1d"
  local kernel = one and { 1, w:size(3) } or { w:size(3), w:size(4) }
  local image = one and x:unsqueeze(3) or x
  local columns = image:unfold { kernel_size = kernel, stride = two(o.stride, one and 1), padding = two(o.padding, one and 0),
    dilation = two(o.dilation, one and 1) }
  return columns:reshape(x:size(1), x:size(2), kernel[1] * kernel[2], -1)
end

-- Show `visit` the windows of a layer on all batches, some samples at a time.
local function each_windows(net, layer, batches, visit)
  calibration.inputs(net, layer.modules, batches, nil, function(module, x)
    if not core.is_tensor(x) then error(("the input of layer '%s' is not a tensor"):format(layer.name), 0) end
    local w = module.weight
    local places = module._type == "Linear" and 1 or x:numel() // (x:size(1) * x:size(2)) * (w:numel() // (w:size(1) * w:size(2)))
    local step = math.max(1, largest // math.max(1, places * (module._type == "Linear" and x:size(-1) or x:size(2))))
    local rows = module._type == "Linear" and x:reshape(-1, x:size(-1)) or x
    for first = 1, rows:size(1), step do
      visit(windows(module, layer.options[module], rows[{ { first, math.min(first + step - 1, rows:size(1)) } }]))
    end
  end)
end

-- Groups of a layer, and its weight's sizes as outputs and inputs of a group and places of the window.
local function sizes(layer)
  local groups = layer.options[layer.modules[1]].groups or 1
  local outputs, inputs = layer.shape[1] // groups, layer.shape[2]
  return groups, outputs, inputs, layer.count // (groups * outputs * inputs)
end

local function check_finite(where, layer, number)
  if number ~= number or number == math.huge then common.fail(where, "the inputs of layer '%s' hold NaN or infinity", layer.name) end
end

-- |w| times the norm of the input that it is multiplied with.
local function wanda_scores(where, net, layer, batches)
  local groups, outputs, inputs, places = sizes(layer)
  local squares = core.zeros({ groups * inputs, places }, { dtype = "f64" })
  each_windows(net, layer, batches, function(x)
    local wide = x:to "f64"
    squares = squares + (wide * wide):sum { 1, 4 }
  end)
  check_finite(where, layer, squares:sum():item())
  local magnitude = layer.weight:value():to("f64"):abs():reshape(groups, outputs, inputs, places)
  return (magnitude * squares:sqrt():reshape(groups, 1, inputs, places)):reshape(layer.shape)
end

-- The same for weights of layers, by weight; the model as it is, not layer by layer.
function layerwise._wanda_scores(where, net, weights, batches)
  local of, scores = {}, {}
  for _, layer in ipairs(layers_of(where, net, {})) do of[layer.weight] = layer end
  for _, one in ipairs(weights) do
    local layer = of[one.weight]
    if not layer then common.fail(where, "'%s' is no weight of a linear layer or convolution; leave it out with ignore", one.name) end
    scores[one.weight] = wanda_scores(where, net, layer, batches)
  end
  return scores
end

-- --- one after the other --------------------------------------------------------------------------------------------

-- How many entries of each layer are to be masked; nil where a pattern says it. An allocation that ranks finds scores in the layers.
local function counts_of(where, layers, o, scores_of)
  local choose = allocation.read("prune.mask." .. where, o.allocation)
  if o.nm then return nil end
  for _, layer in ipairs(layers) do
    layer.floor = common.masked(layer.weight) / layer.count
    setmetatable(layer, { __index = function(_, key)
      if key ~= "scores" then return nil end
      layer.scores = scores_of(layer)
      return layer.scores
    end })
  end
  local counts = allocation.counts(layers, choose(layers, o.sparsity))
  for _, layer in ipairs(layers) do
    setmetatable(layer, nil)
    layer.scores = nil
  end
  return counts
end

-- Run prune_layer(layer, count) over the layers; returns the model and what it returned, with what was reached.
local function run(where, net, layers, counts, prune_layer)
  local weights, report = {}, {}
  for i, layer in ipairs(layers) do weights[i] = layer.weight end
  local bar = progress.bar { total = #layers, label = where, leave = false }
  local finish <close> = setmetatable({}, { __close = function() bar:done() end }) -- luacheck: ignore
  common.all_or_nothing(weights, function()
    for i, layer in ipairs(layers) do
      local result = prune_layer(layer, counts and counts[i]) or {}
      local zeros, total = core.count_zeros(layer.weight.mask)
      result.name, result.sparsity = layer.name, zeros / total
      report[i] = result
      bar:step(1, layer.name)
    end
  end, true)
  return net, report
end

local function mask_of(p) return p.mask and p.mask:to "f32" or core.ones(p:size()) end

-- Give a parameter new values where a new mask is 1; below zeros the old dense value stays.
local function write(p, values, mask)
  local dense = p:dense()
  local new = core.ops.where(mask:ne(0), values:to(p.dtype), dense)
  p:set_mask(nil)
  p:copy(new)
  p:set_mask(mask)
end

-- --- Wanda ----------------------------------------------------------------------------------------------------------

local function more(given)
  local all = { sparsity = none, nm = none, allocation = none, layers = none, ignore = none, batches = 8 }
  for name, value in pairs(given) do all[name] = value end
  return all
end

--- Mask weights by Wanda: score |w| times the norm of its input over the data; the lowest of each output go (Sun et al., ICLR 2024). Nothing is
-- trained. Linear layers and convolutions (of images and sequences, with groups) are pruned in the order in which they run.
-- @param net a module
-- @param data inputs to calibrate on: has batches(), or a list of batches, or a tensor
-- @param options { sparsity = share of zeros in the end, or nm = { n, m } (n of every m inputs stay), allocation = "uniform" (how
-- the sparsity is spread over layers: see prune.allocation), layers = name pattern or list of them (default: all), ignore = the same,
-- for layers that stay as they are, batches = 8 }
-- @return the module; list of { name =, sparsity = } in the order of the layers
-- @usage prune.mask.wanda(net, train, { sparsity = 0.5, ignore = "^fc$" })
function layerwise.wanda(net, data, given)
  common.net("wanda", net)
  local o = options.check("prune.mask.wanda", given, more {})
  local nm = common.pattern_or_share("wanda", o)
  local batches = layerwise._collect("wanda", data, o.batches)
  local layers = in_order("wanda", net, layers_of("wanda", net, o), batches)
  local function scores_of(layer) return wanda_scores("wanda", net, layer, batches) end
  local counts = counts_of("wanda", layers, o, scores_of)
  return run("wanda", net, layers, counts, function(layer, count)
    local scores = scores_of(layer)
    if nm then
      core.mask_nm(layer.weight, scores, 2, nm[1], nm[2])
    else
      core.mask_lines(layer.weight, scores, "matrix", count / layer.count)
    end
  end)
end

-- --- SparseGPT ------------------------------------------------------------------------------------------------------

-- For each group the sum of x x^T over its inputs, ordered by place of the window, then channel: so patterns run over channels.
local function hessians(where, net, layer, batches)
  local groups, _, inputs, places = sizes(layer)
  local grams = {}
  for g = 1, groups do grams[g] = core.zeros({ places * inputs, places * inputs }, { dtype = "f64" }) end
  each_windows(net, layer, batches, function(x)
    for g = 1, groups do
      local own = groups == 1 and x or x[{ {}, { (g - 1) * inputs + 1, g * inputs } }]
      core.gram_add(grams[g], own:permute { 1, 4, 3, 2 }:reshape(-1, places * inputs))
    end
  end)
  for g = 1, groups do check_finite(where, layer, grams[g]:sum():item()) end
  return grams
end

-- A tensor of the weight's shape as a matrix per group, in that order, and back.
local function to_matrices(t, layer)
  local groups, outputs, inputs, places = sizes(layer)
  local ordered = t:reshape(groups, outputs, inputs, places):permute { 1, 2, 4, 3 }
  local list = {}
  for g = 1, groups do list[g] = ordered[g]:reshape(outputs, places * inputs):clone() end
  return list
end

local function from_matrices(list, layer)
  local groups, outputs, inputs, places = sizes(layer)
  return core.ops.cat(list, 1):reshape(groups, outputs, places, inputs):permute { 1, 2, 4, 3 }:reshape(layer.shape)
end

local function sparsegpt_layer(net, layer, batches, o, count)
  local groups, _, inputs = sizes(layer)
  local grams = hessians("sparsegpt", net, layer, batches)
  local weights = to_matrices(layer.weight:value():to "f64", layer)
  local masks = to_matrices(mask_of(layer.weight), layer)
  local error_sum, energy, given_out = 0, 0, 0
  for g = 1, groups do
    energy = energy + (weights[g]:matmul(grams[g]) * weights[g]):sum():item()
    local own = count and math.floor(count * g / groups + 0.5) - given_out or 0 -- groups together have the count exactly
    given_out = given_out + own
    local change = core.sparsegpt(weights[g], masks[g], grams[g], own * groups / layer.count, o.damp, o.nm and o.nm[1],
      o.nm and o.nm[2], o.nm and inputs)
    error_sum = error_sum + change
  end
  write(layer.weight, from_matrices(weights, layer), from_matrices(masks, layer))
  return { error = energy > 0 and error_sum / energy or 0 }
end

--- Mask weights by SparseGPT and change the others so that what each layer computes on the data changes least: with H the sum of x x^T over
-- the inputs, taking out w_j costs w_j^2 / [H^-1]_jj, and what stays makes up for it (Frantar and Alistarh, ICML 2023). Linear layers and
-- convolutions (of images and sequences, with groups) are pruned in the order in which they run. Memory: 24 bytes times the square of the inputs
-- of an output (in kh kw) of the largest layer.
-- @param net a module
-- @param data inputs to calibrate on: has batches(), or a list of batches, or a tensor
-- @param options { sparsity = share of zeros in the end, or nm = { n, m } (n of every m input channels stay), allocation = "uniform"
-- (how the sparsity is spread over layers: see prune.allocation), layers = name pattern or list of them (default: all), ignore = the same,
-- for layers that stay as they are, batches = 8, damp = 0.01 (times the mean of H's diagonal is added to it) }
-- @return the module; list of { name =, sparsity =, error = squared change of the outputs over their square } in the order of the layers
-- @usage prune.mask.sparsegpt(net, train, { nm = { 2, 4 }, batches = 8 })
function layerwise.sparsegpt(net, data, given)
  common.net("sparsegpt", net)
  local o = options.check("prune.mask.sparsegpt", given, more { damp = 0.01 })
  common.pattern_or_share("sparsegpt", o)
  common.number("sparsegpt", "damp", o.damp, 0, 1e6)
  local batches = layerwise._collect("sparsegpt", data, o.batches)
  local layers = in_order("sparsegpt", net, layers_of("sparsegpt", net, o), batches)
  local counts = counts_of("sparsegpt", layers, o, function(layer) return wanda_scores("sparsegpt", net, layer, batches) end)
  return run("sparsegpt", net, layers, counts, function(layer, count) return sparsegpt_layer(net, layer, batches, o, count) end)
end

-- --- the optimal brain surgeon --------------------------------------------------------------------------------------

-- Only `wanted` collects a gradient until the guard closes; then all parameters have theirs and their requires_grad back.
local function only(net, wanted)
  local guard = calibration.collecting(net)
  for _, p in net:named_parameters() do p.requires_grad = p == wanted end
  return guard
end

local function samples_of(x, first, last)
  if core.is_tensor(x) then return x[{ { first, last } }] end
  if type(x) ~= "table" then return x end
  local list = {}
  for i, one in ipairs(x) do list[i] = samples_of(one, first, last) end
  return list
end

-- Call f(x, y) with a few samples at a time.
local function each_samples(batches, few, f)
  for _, batch in ipairs(batches) do
    local x, y = batch[1], batch[2]
    local n = (core.is_tensor(x) and x or x[1]):size(1)
    for first = 1, n, few do
      local last = math.min(first + few - 1, n)
      f(samples_of(x, first, last), samples_of(y, first, last))
    end
  end
end

-- Sum of g g^T over gradients of the loss for a weight, in blocks; and how many gradients.
local function fisher_of(net, layer, batches, o)
  local p, seen = layer.weight, 0
  local size = math.min(o.block, layer.count)
  local fisher = core.zeros({ (layer.count + size - 1) // size, size, size }, { dtype = "f64" })
  local evaluating <close> = calibration.evaluating(net) -- luacheck: ignore
  local collecting <close> = only(net, p) -- luacheck: ignore
  local recording <close> = core.enable_grad() -- luacheck: ignore
  each_samples(batches, o.samples, function(x, y)
    p.grad = nil
    calibration.loss(o.loss, calibration.run(net, x), y, "prune.mask.obs"):backward()
    if not p.grad then common.fail("obs", "the loss does not depend on '%s'; leave it out with ignore", layer.name) end
    core.fisher_add(fisher, p.grad)
    seen = seen + 1
  end)
  local sum = fisher:sum():item()
  if sum ~= sum or math.abs(sum) == math.huge then common.fail("obs", "gradients of '%s' hold NaN or infinity", layer.name) end
  return fisher, seen
end

local function obs_scores(layer, fisher, seen, o)
  local p = layer.weight
  local weight, mask = p:value():to("f64"):reshape(-1):contiguous(), mask_of(p):reshape(-1):contiguous()
  return core.obs_scores(fisher, weight, mask, o.damp):reshape(layer.shape) / seen
end

local function obs_layer(net, layer, batches, o, count)
  local p = layer.weight
  local fisher, seen = fisher_of(net, layer, batches, o)
  local scores = obs_scores(layer, fisher, seen, o)
  local before = mask_of(p):reshape(-1):contiguous()
  local weight = p:value():to("f64"):reshape(-1):clone()
  if o.nm then
    core.mask_nm(p, scores, 2, o.nm[1], o.nm[2])
  else
    core.mask_unstructured({ p }, { scores }, "lowest", "amount", math.max(0, count - common.masked(p)))
  end
  local mask = p.mask:clone()
  local cost = core.obs_update(fisher, weight, before, mask:reshape(-1):contiguous(), o.damp)
  write(p, weight:reshape(layer.shape), mask)
  return { error = cost / seen }
end

--- Mask weights by the optimal brain surgeon and change the others so that the loss rises least: with F the mean of g g^T over gradients g of
-- the loss on a few samples each, in blocks of neighbouring weights, taking out w_i costs w_i^2 / (2 [F^-1]_ii), and what stays in its block
-- makes up for all that goes (WoodFisher, Singh and Alistarh 2020; oBERT, Kurtic et al. 2022). All parameters of more than one
-- dimension are pruned, one after the other. Memory: 8 bytes times block times the entries of the largest.
-- @param net a module
-- @param data inputs and labels to calibrate on: has batches(), or a list of { inputs, labels }
-- @param options { sparsity = share of zeros in the end, or nm = { n, m } (n of every m along dimension 2 stay), allocation = "uniform"
-- (how the sparsity is spread over layers: see prune.allocation), layers = name pattern or list of them (default: all), ignore = the same,
-- for those that stay as they are, batches = 8, samples = 1 (per gradient: more is faster and rougher), block = 50, damp = 0.01
-- (times the mean of a block's diagonal is added to it), loss = function(output, labels) -> scalar tensor (cross entropy) }
-- @return the module; list of { name =, sparsity =, error = estimated rise of the loss } in the order of the parameters
-- @usage prune.mask.obs(net, train, { sparsity = 0.8, batches = 4 })
function layerwise.obs(net, data, given)
  common.net("obs", net)
  local o = options.check("prune.mask.obs", given, more { samples = 1, block = 50, damp = 0.01, loss = none })
  common.pattern_or_share("obs", o)
  common.number("obs", "damp", o.damp, 0, 1e6)
  common.integer("obs", "samples", o.samples, 1)
  common.integer("obs", "block", o.block, 1, 1 << 16)
  local batches = layerwise._collect("obs", data, o.batches)
  local layers = layerwise._weights_of("obs", net, o)
  local counts = counts_of("obs", layers, o, function(layer)
    local fisher, seen = fisher_of(net, layer, batches, o)
    return obs_scores(layer, fisher, seen, o)
  end)
  return run("obs", net, layers, counts, function(layer, count) return obs_layer(net, layer, batches, o, count) end)
end

return layerwise
