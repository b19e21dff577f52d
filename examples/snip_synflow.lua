-- Pruning at initialisation: which weights can be left out before training has begun? SNIP (Lee et al. 2019), GraSP (Wang et al. 2020) and
-- SynFlow (Tanaka et al. 2020) against the smallest and random weights, at the same share of zeros over all layers together.
--
--   build/prunelua examples/snip_synflow.lua [--sparsities 0.8,0.9,0.95,0.98] [--epochs 8] [--seeds 3]
--
-- As a test: --epochs 1 --width 4 --seeds 1 --sparsities 0.9 --rounds 5
local prune = require "prune"
local opt = prune.cli { epochs = 8, width = 16, seeds = 3, rounds = 100, sparsities = "0.8,0.9,0.95,0.98" }
local train, test = prune.data.load("", { batch = 64 })
local calibration = prune.calibration

-- A score for each weight; the lowest go. What is gathered runs in evaluation mode and leaves the network as it was.
local function scores(weights, f)
  local list = {}
  for i, w in ipairs(weights) do list[i] = f(w) end
  return list
end

local function mask(weights, list, sparsity)
  local least = math.huge -- masks go by magnitude: no score may be negative
  for _, s in ipairs(list) do least = math.min(least, s:amin():item()) end
  for i, s in ipairs(list) do list[i] = (s - least):to "f32" end
  prune.mask.global_unstructured(weights, { sparsity = sparsity, scores = list })
end

local methods = {}

function methods.random(net, weights, sparsity)
  mask(weights, scores(weights, function(w) return prune.rand(w:size()) end), sparsity)
end

function methods.magnitude(net, weights, sparsity)
  mask(weights, scores(weights, function(w) return w:value():abs() end), sparsity)
end

function methods.snip(net, weights, sparsity)
  local g = calibration.gradients(net, train, 10)
  mask(weights, scores(weights, function(w) return (w:value() * g[w]):abs() end), sparsity)
end

function methods.grasp(net, weights, sparsity)
  local hg = calibration.hessian_gradient(net, train, 10)
  mask(weights, scores(weights, function(w) return w:value() * hg[w] end), sparsity)
end

-- In many small steps, each with new scores, so that no layer is cut through.
function methods.synflow(net, weights, sparsity)
  local graph = prune.graph(net, train.shape)
  for round = 1, opt.rounds do
    local flow = calibration.synaptic_flow(graph)
    mask(weights, scores(weights, function(w) return w:value():to("f64"):abs() * flow[w] end), 1 - (1 - sparsity) ^ (round / opt.rounds))
  end
end

local function fit(net)
  local trainer = prune.Trainer(net, { optimizer = prune.optim.SGD(net, { lr = 0.05, momentum = 0.9 }), quiet = true })
  trainer:fit(train, { epochs = opt.epochs })
  return 100 * trainer:evaluate(test).accuracy
end

local function network(seed)
  prune.seed(seed)
  return prune.models.cnn { classes = train.classes, channels = train.shape[1], width = opt.width }
end

local sparsities = {}
for s in opt.sparsities:gmatch "[%d.]+" do sparsities[#sparsities + 1] = tonumber(s) end

local dense = 0
for seed = 1, opt.seeds do dense = dense + fit(network(seed)) / opt.seeds end
print(("dense: %.2f %% after %d epochs, mean of %d seeds"):format(dense, opt.epochs, opt.seeds))

local names = { "random", "magnitude", "snip", "grasp", "synflow" }
print(("zeros  " .. ("%12s"):rep(#names)):format(table.unpack(names)))
for _, sparsity in ipairs(sparsities) do
  local row = {}
  for i, name in ipairs(names) do
    row[i] = 0
    for seed = 1, opt.seeds do
      local net = network(seed)
      methods[name](net, net:weights(), sparsity)
      row[i] = row[i] + fit(net) / opt.seeds
    end
  end
  print(("%4.1f %%" .. (" %9.2f %%"):rep(#names)):format(100 * sparsity, table.unpack(row)))
end
