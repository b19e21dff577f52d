-- score.lua - what single weights are worth, and masks by that: magnitude, gradients, curvature, flow, inputs, functions of one's own.
local allocation = require "prune.allocation"
local calibration = require "prune.calibration"
local common = require "prune.mask.common"
local core = require "prune.core"
local layerwise = require "prune.mask.layerwise"
local options = require "prune.options"
local progress = require "prune.progress"

local score = {}
local none = options.none

-- --- criteria -------------------------------------------------------------------------------------------------------

-- A criterion is a function(net, layers, c) -> table parameter -> scores, of which the lowest go first. c has data (a list of batches, where
-- `wants_data` says so), loss, shape and where.
local criteria, wants_data = {}, {}

local function each(layers, f)
  local scores = {}
  for _, layer in ipairs(layers) do scores[layer.weight] = f(layer.weight) end
  return scores
end

-- Masks rank by magnitude, so signed scores are moved up until the lowest of all is 0.
local function moved_up(scores)
  local lowest = math.huge
  for _, s in pairs(scores) do lowest = math.min(lowest, s:amin():item()) end
  for p, s in pairs(scores) do scores[p] = s - lowest end
  return scores
end

function criteria.magnitude(_, layers) return each(layers, function(p) return p:value():abs() end) end

wants_data.snip = true
function criteria.snip(net, layers, c)
  local gradients = calibration.gradients(net, c.data, nil, c.loss)
  return each(layers, function(p) return (p:value() * gradients[p]):abs() end)
end

wants_data.taylor = true
function criteria.taylor(net, layers, c)
  local sums = each(layers, function(p) return core.zeros(p:size(), { dtype = "f64" }) end)
  for _, batch in ipairs(c.data) do
    local gradients = calibration.gradients(net, { batch }, nil, c.loss)
    for p, sum in pairs(sums) do sum:copy(sum + (p:value() * gradients[p]):to("f64"):square() / #c.data) end
  end
  return sums
end

wants_data.movement = true
function criteria.movement(net, layers, c)
  local gradients = calibration.gradients(net, c.data, nil, c.loss)
  return moved_up(each(layers, function(p) return -(p:value() * gradients[p]):to "f64" end))
end

wants_data.grasp = true
function criteria.grasp(net, layers, c)
  local products = calibration.hessian_gradient(net, c.data, nil, c.loss)
  return moved_up(each(layers, function(p) return (p:value() * products[p]):to "f64" end))
end

wants_data.obd = true
function criteria.obd(net, layers, c)
  local fisher = calibration.squared_gradients(net, c.data, nil, c.loss)
  return each(layers, function(p) return p:value():square() * fisher[p] / 2 end)
end

function criteria.synflow(net, layers, c)
  local shape = c.shape or net._input
  if shape == nil then common.fail(c.where, "synflow traces the model: give shape, that of an input without the batch") end
  if type(shape) == "table" and math.type(shape[1]) == "integer" then shape = { { shape = shape, dtype = layers[1].weight.dtype } } end
  local flows = calibration.synaptic_flow(require("prune.graph").graph(net, shape))
  return each(layers, function(p) return p:value():to("f64"):abs() * flows[p] end)
end

wants_data.wanda = true
function criteria.wanda(net, layers, c) return layerwise._wanda_scores(c.where, net, layers, c.data) end

-- --- reading options ------------------------------------------------------------------------------------------------

local function defaults(more)
  local all = { criterion = "magnitude", data = none, batches = 8, loss = none, shape = none, layers = none, ignore = none }
  for name, value in pairs(more) do all[name] = value end
  return all
end

local function names_of(t)
  local list = {}
  for name in pairs(t) do list[#list + 1] = name end
  table.sort(list)
  return list
end

-- A function(layers) -> table parameter -> scores, that checks what it gives.
local function scorer(where, net, o)
  local criterion, c = o.criterion, { where = where, loss = o.loss, shape = o.shape }
  if type(criterion) == "function" then
    return function(layers)
      local scores, lowest = {}, 0
      for _, layer in ipairs(layers) do
        local s = core.no_grad(criterion, layer.weight, layer.name)
        if not core.is_tensor(s) then
          common.fail(where, "the criterion must return a tensor of scores for '%s', got %s", layer.name, type(s))
        end
        scores[layer.weight], lowest = s, math.min(lowest, s:numel() > 0 and s:amin():item() or 0)
      end
      return lowest < 0 and moved_up(scores) or scores
    end
  end
  common.choice(where, "criterion", criterion, names_of(criteria))
  if wants_data[criterion] then
    if o.data == nil then common.fail(where, "criterion %s needs data", criterion) end
    c.data = layerwise._collect(where, o.data, o.batches)
  end
  return function(layers) return core.no_grad(criteria[criterion], net, layers, c) end
end

-- --- scores ---------------------------------------------------------------------------------------------------------

--- What each weight of a model is worth: one tensor per parameter of more than one dimension, the lowest go first. They serve as option
-- `scores` of every maker of masks, for patterns by other criteria than magnitude. Signed scores are moved up so that the lowest is 0.
--
--   magnitude   |w|
--   snip        |w g|, g the mean gradient of the loss (Lee et al., ICLR 2019)
--   taylor      (w g)^2, the mean over batches (Molchanov et al., CVPR 2019)
--   movement    -w g: what training moves towards zero goes (Sanh et al. 2020); over a whole training: prune.sparse.movement
--   grasp       w (H g): what keeps the gradient's norm least goes (Wang et al., ICLR 2020)
--   obd         w^2 F / 2, F the mean squared gradient of single samples (LeCun et al. 1990)
--   synflow     |w| dR/d|w|, R the flow through a model of absolute weights; needs no data (Tanaka et al. 2020)
--   wanda       |w| times the norm of the input, of linear layers and convolutions (Sun et al., ICLR 2024)
-- @param net a module
-- @param options { criterion = "magnitude" (a name above, or function(parameter, name) -> tensor of its shape), data (has batches(), or a
-- list of { inputs, labels }), batches = 8, loss = function(output, labels) -> scalar tensor (cross entropy), shape = of an input without
-- the batch (synflow), layers = name pattern or list of them, of parameters (default: all), ignore = the same, for those left out }
-- @return list of tensors; list of the parameters that they belong to
-- @usage local scores, weights = prune.mask.scores(net, { criterion = "snip", data = train })
-- prune.mask.nm(weights, { n = 2, m = 4, scores = scores })
function score.scores(net, given)
  common.net("scores", net)
  local o = options.check("prune.mask.scores", given, defaults {})
  local layers = layerwise._weights_of("scores", net, o)
  local by_parameter = scorer("scores", net, o)(layers)
  local list, parameters = {}, {}
  for i, layer in ipairs(layers) do list[i], parameters[i] = by_parameter[layer.weight], layer.weight end
  return list, parameters
end

-- --- masks ----------------------------------------------------------------------------------------------------------

-- Mask so many that the share is met: all together, or as an allocation says.
local function mask_to(layers, scores, target, choose)
  if not choose then
    local parameters, list = {}, {}
    for i, layer in ipairs(layers) do parameters[i], list[i] = layer.weight, scores[layer.weight] end
    core.mask_unstructured(parameters, list, "lowest", "sparsity", target)
    return
  end
  for _, layer in ipairs(layers) do -- what is masked already is the lowest
    local p = layer.weight
    layer.scores = p.mask and scores[p]:abs() * p.mask:to(scores[p].dtype) or scores[p]
    layer.floor = common.masked(p) / layer.count
  end
  for i, count in ipairs(allocation.counts(layers, choose(layers, target))) do
    local p = layers[i].weight
    core.mask_unstructured({ p }, { scores[p] }, "lowest", "amount", math.max(0, count - common.masked(p)))
  end
end

--- Mask single weights of a model by a criterion: scored, ranked and masked in one call, once or again and again.
-- @param net a module
-- @param options { sparsity = share of zeros among the chosen weights in the end, criterion = "magnitude" and its options data, batches,
-- loss, shape, layers, ignore: as for prune.mask.scores, allocation = "global" (all ranked together; or "uniform", "erk", "owl", shares by
-- name, a function: see prune.allocation), max_sparsity = 1 (of one parameter), iterations = 1, for synflow 100 (scored anew each time, with
-- 1 - (1 - sparsity)^(k / iterations) after the k-th) }
-- @return the module
-- @usage prune.mask.unstructured(net, { criterion = "snip", data = train, sparsity = 0.9 })
-- @usage prune.mask.unstructured(net, { criterion = "synflow", shape = { 3, 32, 32 }, sparsity = 0.95, max_sparsity = 0.99 })
function score.unstructured(net, given)
  local where = "unstructured"
  common.net(where, net)
  local o = options.check("prune.mask.unstructured", given, defaults {
    sparsity = none, allocation = "global", max_sparsity = 1, iterations = none,
  })
  if o.sparsity == nil then common.fail(where, "say how much: sparsity (share of zeros afterwards)") end
  common.number(where, "sparsity", o.sparsity, 0, 1)
  common.number(where, "max_sparsity", o.max_sparsity, 0, 1)
  local iterations = o.iterations or (o.criterion == "synflow" and 100 or 1)
  common.integer(where, "iterations", iterations, 1)
  local layers, parameters = layerwise._weights_of(where, net, o), {}
  for i, layer in ipairs(layers) do
    layer.cap = o.max_sparsity
    parameters[i] = layer.weight
  end
  local choose = allocation.read("prune.mask." .. where, o.allocation)
  if o.allocation == "global" and o.max_sparsity == 1 then choose = nil end
  local scores_of = scorer(where, net, o)
  common.all_or_nothing(parameters, function()
    for k in progress(iterations, where, { leave = false }) do
      mask_to(layers, scores_of(layers), 1 - (1 - o.sparsity) ^ (k / iterations), choose)
    end
  end)
  return net
end

return score
