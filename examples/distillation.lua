-- Knowledge distillation (Hinton et al. 2015): a network that lost most of its channels learns from the scores of the one that it was.
--
--   build/prunelua examples/distillation.lua [--macs 0.1] [--tune 6] [--seeds 5]
--
-- As a test: --epochs 1 --tune 1 --width 4 --seeds 1
local prune = require "prune"
local opt = prune.cli { epochs = 12, tune = 6, macs = 0.1, width = 16, limit = 0, seeds = 5 }
local train, test = prune.data.load("", { batch = 64, limit = opt.limit })

local function fit(net, epochs, distill)
  local trainer = prune.Trainer(net, { optimizer = prune.optim.SGD(net, { lr = 0.05, momentum = 0.9 }), distill = distill, quiet = true,
    schedule = prune.schedule.cosine { epochs = epochs } })
  trainer:fit(train, { epochs = epochs })
  return 100 * trainer:evaluate(test).accuracy
end

local ways = { { 0, 1 }, { 0.5, 2 }, { 0.5, 4 }, { 0.9, 4 } } -- weight, temperature
local teacher, mean = 0, {}
for seed = 1, opt.seeds do
  prune.seed(seed)
  local dense = prune.models.cnn { classes = 10, channels = 1, width = opt.width }
  teacher = teacher + fit(dense, opt.epochs) / opt.seeds
  local small = dense:clone()
  prune.structured(small, train.shape, { macs = opt.macs }):apply()
  for i, way in ipairs(ways) do
    local net = small:clone()
    prune.seed(100 + seed)
    local distill = way[1] > 0 and { teacher = dense, weight = way[1], temperature = way[2] } or nil
    mean[i] = (mean[i] or 0) + fit(net, opt.tune, distill) / opt.seeds
  end
end

print(("teacher: %.2f %%; removed to %.0f %% of its MACs and tuned for %d epochs (mean of %d seeds):"):format(teacher, 100 * opt.macs, opt.tune,
  opt.seeds))
for i, way in ipairs(ways) do
  local what = way[1] == 0 and "labels alone" or ("weight %.1f, temperature %d"):format(table.unpack(way))
  print(("%-26s  %.2f %%"):format(what, mean[i]))
end
