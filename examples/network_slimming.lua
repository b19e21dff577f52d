-- Network slimming (Liu et al. 2017): an L1 term on batch-norm scales while training makes channels that can go. How strong must it be?
--
--   build/prunelua examples/network_slimming.lua [--ratio 0.5] [--seeds 3]
--
-- As a test: --epochs 1 --tune 1 --width 4 --seeds 1
local prune = require "prune"
local opt = prune.cli { epochs = 12, tune = 4, ratio = 0.5, width = 16, seeds = 3 }
local train, test = prune.data.load("", { batch = 64 })

local function trainer(net, epochs, regularizer)
  return prune.Trainer(net, { optimizer = prune.optim.SGD(net, { lr = 0.05, momentum = 0.9, weight_decay = 5e-4 }), quiet = true,
    schedule = prune.schedule.cosine { epochs = epochs }, regularizer = regularizer })
end

-- Accuracy trained, behind the removal, and tuned; the term's report.
local function run(strength, seed)
  prune.seed(seed)
  local net = prune.models.cnn { classes = 10, channels = 1, width = opt.width }
  local regularizer = strength > 0 and prune.regularizer.bn_scale { strength = strength } or nil
  local training = trainer(net, opt.epochs, regularizer)
  training:fit(train, { epochs = opt.epochs })
  local trained = training:evaluate(test).accuracy
  prune.structured(net, train.shape, { criterion = prune.criterion.bn_scale(), ratio = opt.ratio, scope = "global" }):apply()
  local removed = training:evaluate(test).accuracy
  local tuning = trainer(net, opt.tune)
  tuning:fit(train, { epochs = opt.tune })
  return { trained, removed, tuning:evaluate(test).accuracy }, regularizer
end

print(("strength   trained   %.0f %% of the channels removed   tuned for %d epochs (mean of %d seeds)"):format(100 * opt.ratio, opt.tune,
  opt.seeds))
for _, strength in ipairs { 0, 0.01, 0.02, 0.03, 0.05 } do
  local mean, report = { 0, 0, 0 }, nil
  for seed = 1, opt.seeds do
    local accuracy, regularizer = run(strength, seed)
    for i = 1, 3 do mean[i] = mean[i] + 100 * accuracy[i] / opt.seeds end
    report = regularizer
  end
  print(("%8g   %6.2f %%   %24.2f %%   %.2f %%"):format(strength, table.unpack(mean)))
  if strength == 0.05 then print((tostring(report):gsub("^", "  "):gsub("\n", "\n  "))) end
end
