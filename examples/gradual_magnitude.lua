-- Sparse networks in five ways, with the same number of epochs: all at once, gradually (Zhu and Gupta 2017), by movement (Sanh et al. 2020),
-- and sparse from the start with masks that move (RigL, Evci et al. 2020; SET, Mocanu et al. 2018).
--
--   build/prunelua examples/gradual_magnitude.lua [--sparsity 0.95] [--epochs 12] [--seeds 3]
--
-- As a test: --epochs 3 --width 4 --seeds 1
local prune = require "prune"
local opt = prune.cli { sparsity = 0.95, epochs = 12, width = 16, seeds = 3 }
local train, test = prune.data.load("", { batch = 64 })
local steps = opt.epochs * #train
local half, most = steps // 2, 3 * steps // 4

local ways = {
  { "dense", function() return nil end },
  { "at once, half way", function()
    return prune.sparse.gradual_magnitude { schedule = { "multistep_sparsity", at = { half }, to = { opt.sparsity } } }
  end },
  { "gradual, cubic", function()
    return prune.sparse.gradual_magnitude { schedule = { "cubic", to = opt.sparsity, first = steps // 6, last = most, every = 5 } }
  end },
  { "movement, cubic", function()
    return prune.sparse.movement { schedule = { "cubic", to = opt.sparsity, first = steps // 6, last = most }, every = 5 }
  end },
  { "RigL", function() return prune.sparse.rigl { sparsity = opt.sparsity, every = 10, last = most } end },
  { "SET", function() return prune.sparse.set { sparsity = opt.sparsity, every = 10, last = most } end },
}

print(("way                  zeros    accuracy (mean of %d seeds)"):format(opt.seeds))
for _, way in ipairs(ways) do
  local mean, zeros = 0, 0
  for seed = 1, opt.seeds do
    prune.seed(seed)
    local net = prune.models.cnn { classes = 10, channels = 1, width = opt.width }
    local trainer = prune.Trainer(net, { optimizer = prune.optim.SGD(net, { lr = 0.05, momentum = 0.9 }), sparsity = way[2](), quiet = true,
      schedule = prune.schedule.cosine { epochs = opt.epochs } })
    trainer:fit(train, { epochs = opt.epochs })
    mean, zeros = mean + 100 * trainer:evaluate(test).accuracy / opt.seeds, prune.mask.sparsity(net)
  end
  print(("%-18s  %5.1f %%   %.2f %%"):format(way[1], 100 * zeros, mean))
end
