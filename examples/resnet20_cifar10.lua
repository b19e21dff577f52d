-- CIFAR's ResNet-20 with a good recipe, then half of its MACs removed, and 90 % of its weights masked, each tuned with a teacher.
--
--   prunelua examples/resnet20_cifar10.lua --data DIR --normalize cifar10 --augment [--resume]
--
-- DIR holds train/CLASS/*.jpg and test/CLASS/*.jpg, or CIFAR-10's binary batches. Without --data the embedded digits stand in. The table that
-- this makes is in examples/README.md.
--
-- As a test: --epochs 1 --tune 1 --limit 150 --out runs/resnet20
local prune = require "prune"
local opt = prune.cli {
  data = "", normalize = "auto", augment = false, limit = 0, threads = 0,
  epochs = 30, tune = 12, seed = 0, out = "runs/resnet20_cifar10", resume = false, only = "",
}

prune.seed(opt.seed)
if opt.threads > 0 then prune.threads(opt.threads) end
local train, test = prune.data.load(opt.data, {
  batch = 128, test_batch = 100, limit = opt.limit, normalize = opt.normalize,
  augment = opt.augment and { crop_padding = 4, flip = true } or nil,
})
local shape, batches = train.shape, math.ceil(train.size / 128)

local function fit(net, name, epochs, lr, weight_decay, given)
  given.optimizer = prune.optim.SGD(net, { lr = lr, momentum = 0.9, nesterov = true, weight_decay = weight_decay })
  given.schedule = prune.schedule.onecycle { steps = epochs * batches, rise = 0.25, start = 10, final = 100 }
  given.schedule_by, given.out = "batch", opt.out
  prune.Trainer(net, given):fit(train, { name = name, epochs = epochs, validate = test, resume = opt.resume })
end

local report = prune.report(shape, test)
local base = prune.models.resnet20 { classes = train.classes, channels = shape[1] }
fit(base, "baseline", opt.epochs, 0.2, 5e-4, {})
report:add("baseline", base)

local function teacher(weight) return { teacher = base, temperature = 4, weight = weight } end

-- 1. Channels go until half of the MACs are left; the next layers and the running statistics are fitted to what remains.
local function removed()
  local net = base:clone()
  prune.structured(net, shape, { criterion = prune.criterion.group_fisher(), macs = 0.5, scope = "global", max_ratio = 0.7, data = train, batches = 32 })
    :apply { reconstruct = { data = train, batches = 4 } }
  prune.repair.batch_norm(net, train, { batches = 40 })
  report:add("removed, before tuning", net)
  fit(net, "removed", opt.tune, 0.1, 5e-4, { distill = teacher(0.7) })
  report:add("removed", net)
end

-- 2. Zeros grow along a cubic over the first two fifths of a tuning that is a quarter longer. A tenth of the weights has less to learn with: the
-- teacher counts more than the labels, and weights decay less.
local function sparse()
  local net, epochs = base:clone(), opt.tune * 5 // 4
  fit(net, "sparse", epochs, 0.1, 1e-4, { distill = teacher(0.9),
    sparsity = prune.sparse.gradual_magnitude { schedule = { "cubic", to = 0.9, first = 1, last = math.max(epochs * batches * 2 // 5, 2), every = 20 } } })
  report:add("sparse", net)
end

if opt.only ~= "sparse" then removed() end
if opt.only ~= "removed" then sparse() end
print(report)
report:save(opt.out .. "/report.csv")
