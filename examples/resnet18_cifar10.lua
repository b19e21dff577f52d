-- ResNet-18 on CIFAR-10, pruned in three ways: masks, removal, and sparsity-regularised training followed by removal.
--
--   prunelua examples/resnet18_cifar10.lua --data DIR --normalize cifar10 --augment
--
-- DIR holds train/CLASS/*.jpg and test/CLASS/*.jpg, or CIFAR-10's binary batches. Without --data the embedded digits stand in. Every stage
-- can be stopped with Ctrl-C and goes on where it was when the program is started again with --resume. The table that this makes
-- is in examples/README.md.
--
-- As a test: --epochs 1 --tune 1 --limit 150 --out runs/resnet18
local prune = require "prune"
local opt = prune.cli {
  data = "", normalize = "auto", augment = false, limit = 0,
  epochs = 10, tune = 10, ratio = 0.3, seed = 0, out = "runs/resnet18_cifar10", resume = false,
}

prune.seed(opt.seed)
local train, test = prune.data.load(opt.data, {
  batch = 128, test_batch = 100, limit = opt.limit, normalize = opt.normalize,
  augment = opt.augment and { crop_padding = 4, flip = true } or nil,
})
local shape = train.shape

local function fit(net, name, epochs, regularizer)
  local optimizer = prune.optim.SGD(net, { lr = 0.01, momentum = 0.9, weight_decay = 5e-4 })
  local trainer = prune.Trainer(net, { optimizer = optimizer, regularizer = regularizer, out = opt.out })
  return trainer:fit(train, { name = name, epochs = epochs, validate = test, resume = opt.resume })
end

-- Of every convolution, in module order, the filters of lowest L1 norm go, with everything that is coupled to them.
local function remove_lowest(net)
  local graph = prune.graph(net, shape)
  for conv in net:each "Conv2d" do
    local norms = conv.weight:abs():sum { 2, 3, 4 }
    graph:group(conv.weight, 1, norms:lowest { ratio = opt.ratio }):remove()
  end
end

local function resnet18() return prune.models.resnet18 { classes = train.classes, channels = shape[1] } end

local report = prune.report(shape, test)
local base = resnet18()
print(prune.summary(base, shape))
fit(base, "baseline", opt.epochs)
report:add("baseline", base)

-- 1. Masks: shapes and MACs stay, a share of the filters of every convolution is zero.
local masked = base:clone()
for conv in masked:each "Conv2d" do prune.mask.ln_structured(conv.weight, { amount = opt.ratio, n = 2, dim = 1 }) end
fit(masked, "masked", opt.tune)
report:add("masked", masked)

-- 2. Removal: the network really is smaller.
local removed = base:clone()
remove_lowest(removed)
report:add("removed, before tuning", removed)
fit(removed, "removed", opt.tune)
report:add("removed", removed)

-- 3. An L1 term on batch-norm scales while training, then removal.
local slim = resnet18()
fit(slim, "slim", opt.epochs, prune.regularizer.bn_scale { strength = 1e-4 })
report:add("slim, before removal", slim)
remove_lowest(slim)
report:add("slim, removed, before tuning", slim)
fit(slim, "slim-removed", opt.tune)
report:add("slim, removed", slim)

print(report)
report:save(opt.out .. "/report.csv")
report:plot(opt.out .. "/report.svg")
