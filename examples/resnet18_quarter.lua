-- ResNet-18 on CIFAR-10 at a quarter of its MACs with little loss: channels ranked by what they matter per MAC that they cost, next layers fitted
-- by least squares, batch norm measured anew, a teacher and one cycle of the rate; against the unpruned network after the same 10 + 10 epochs.
--
--   prunelua examples/resnet18_quarter.lua --data DIR --normalize cifar10 --augment [--resume]
--
-- DIR holds train/CLASS/*.jpg and test/CLASS/*.jpg, or CIFAR-10's binary batches. Without --data the embedded digits stand in. The table that
-- this makes is in examples/README.md.
--
-- As a test: --epochs 1 --tune 1 --limit 150 --out runs/resnet18_quarter
local prune = require "prune"
local opt = prune.cli {
  data = "", normalize = "auto", augment = false, limit = 0, threads = 0,
  epochs = 10, tune = 10, macs = 0.2544, max_ratio = 0.8, lr = 0.05, seed = 0, out = "runs/resnet18_quarter", resume = false,
}

prune.seed(opt.seed)
if opt.threads > 0 then prune.threads(opt.threads) end
local train, test = prune.data.load(opt.data, {
  batch = 128, test_batch = 100, limit = opt.limit, normalize = opt.normalize,
  augment = opt.augment and { crop_padding = 4, flip = true } or nil,
})
local shape = train.shape

-- At a constant rate, as in resnet18_cifar10.lua.
local function fit(net, name, epochs)
  local optimizer = prune.optim.SGD(net, { lr = 0.01, momentum = 0.9, weight_decay = 5e-4 })
  local trainer = prune.Trainer(net, { optimizer = optimizer, out = opt.out })
  trainer:fit(train, { name = name, epochs = epochs, validate = test, resume = opt.resume })
  return trainer
end

-- With one cycle of the rate.
local function tune(net, name, distill)
  local steps = opt.tune * math.ceil(train.size / 128)
  prune.Trainer(net, {
    optimizer = prune.optim.SGD(net, { lr = opt.lr, momentum = 0.9, nesterov = true, weight_decay = 5e-4 }), distill = distill, out = opt.out,
    schedule = prune.schedule.onecycle { steps = steps, rise = 0.2, start = 5, final = 100 }, schedule_by = "batch",
  }):fit(train, { name = name, epochs = opt.tune, validate = test, resume = opt.resume })
end

local report = prune.report(shape, test)
local base = prune.models.resnet18 { classes = train.classes, channels = shape[1] }
local trainer = fit(base, "baseline", opt.epochs)
report:add("baseline", base)
local start = base:clone()

-- The unpruned network goes on: at the same rate with the same optimiser, and along one cycle.
trainer:fit(train, { name = "continue", epochs = opt.tune, validate = test, resume = opt.resume })
report:add("unpruned, constant rate", base)
local unpruned = start:clone()
tune(unpruned, "cycle")
report:add("unpruned, one cycle", unpruned)

local net = start
local plan = prune.structured(net, shape, {
  criterion = prune.criterion.group_fisher(), macs = opt.macs, scope = "global", max_ratio = opt.max_ratio, data = train, batches = 32,
})
plan:apply { reconstruct = { data = train, batches = 4 } }
print(plan)
prune.repair.batch_norm(net, train, { batches = 40 })
report:add("removed, before tuning", net)
tune(net, "removed", { teacher = unpruned, temperature = 4, weight = 0.7 })
report:add("removed", net)
print(report)
report:save(opt.out .. "/report.csv")
