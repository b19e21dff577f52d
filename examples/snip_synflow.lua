-- Pruning at initialisation: which weights can be left out before training has begun? SNIP (Lee et al. 2019), GraSP (Wang et al. 2020) and
-- SynFlow (Tanaka et al. 2020) against the smallest and random weights, at the same share of zeros over all layers together.
--
--   build/prunelua examples/snip_synflow.lua [--sparsities 0.8,0.9,0.95,0.98] [--epochs 8] [--seeds 3]
--
-- As a test: --epochs 1 --width 4 --seeds 1 --sparsities 0.9
local prune = require "prune"
local opt = prune.cli { epochs = 8, width = 16, seeds = 3, sparsities = "0.8,0.9,0.95,0.98" }
local train, test = prune.data.load("", { batch = 64 })

-- What is told by data is gathered in evaluation mode and leaves the network as it was. SynFlow needs none: it scores anew after each of
-- 100 small steps. A function of a parameter is a criterion too.
local methods = {
  { "random", criterion = function(parameter) return prune.rand(parameter:size()) end },
  { "magnitude", criterion = "magnitude" },
  { "snip", criterion = "snip", data = train, batches = 10 },
  { "grasp", criterion = "grasp", data = train, batches = 10 },
  { "synflow", criterion = "synflow", shape = train.shape },
}

local function network(seed)
  prune.seed(seed)
  return prune.models.cnn { classes = train.classes, channels = train.shape[1], width = opt.width }
end

local function fit(net)
  local trainer = prune.Trainer(net, { optimizer = prune.optim.SGD(net, { lr = 0.05, momentum = 0.9 }), quiet = true })
  trainer:fit(train, { epochs = opt.epochs })
  return 100 * trainer:evaluate(test).accuracy
end

-- Mean over the seeds; `masked` gets the fresh network.
local function mean(masked)
  local sum = 0
  for seed = 1, opt.seeds do
    local net = network(seed)
    masked(net)
    sum = sum + fit(net)
  end
  return sum / opt.seeds
end

print(("dense: %.2f %% after %d epochs, mean of %d seeds"):format(mean(function() end), opt.epochs, opt.seeds))
for sparsity in opt.sparsities:gmatch "[%d.]+" do
  local row = {}
  for i, method in ipairs(methods) do
    local accuracy = mean(function(net)
      prune.mask.unstructured(net, { sparsity = tonumber(sparsity), criterion = method.criterion, data = method.data,
        batches = method.batches, shape = method.shape })
    end)
    row[i] = ("%s %.2f %%"):format(method[1], accuracy)
  end
  print(("%4.1f %% zeros: %s"):format(100 * tonumber(sparsity), table.concat(row, ", ")))
end
