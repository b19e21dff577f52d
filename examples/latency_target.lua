-- Half the time, not half the multiply-accumulates: a network is pruned until its measured latency meets the target, and for comparison to the
-- same share of its MACs; with any width, and with widths that are multiples of 16, which kernels may like better.
--
-- As a test: --epochs 1 --tune 1 --width 16 --left 0.7
local prune = require "prune"
local latency = require "prune.latency"
local opt = prune.cli { epochs = 8, tune = 3, width = 48, left = 0.5, multiple = 16, seed = 0 }
prune.seed(opt.seed)
prune.threads(1) -- one sample at a time does not fill more

local train, test = prune.data.load("", { batch = 64 })
local shape = train.shape
local function fit(net, epochs)
  local optimizer = prune.optim.SGD(net, { lr = 0.05, momentum = 0.9, weight_decay = 5e-4 })
  prune.Trainer(net, { optimizer = optimizer, schedule = prune.schedule.cosine { epochs = epochs }, quiet = true }):fit(train, { epochs = epochs })
end
local function accuracy(net) return 100 * prune.Trainer(net, { optimizer = prune.optim.SGD(net) }):evaluate(test).accuracy end

local image = { prune.randn { 1, table.unpack(shape) } }
local function milliseconds(net) return latency.measure(prune.graph(net, shape), image, 501) end

local dense = prune.models.cnn { classes = train.classes, channels = shape[1], width = opt.width }
fit(dense, opt.epochs)
local whole, macs = milliseconds(dense), prune.profile(dense, shape).macs
print(("%-34s %6.3f ms  100 %%   MACs 100 %%   accuracy %.1f %%"):format("whole", whole, accuracy(dense)))

for _, case in ipairs { { "target of MACs", "macs" }, { "target of latency", "latency" },
  { ("MACs, multiples of %d"):format(opt.multiple), "macs", opt.multiple },
  { ("latency, multiples of %d"):format(opt.multiple), "latency", opt.multiple } } do
  local name, target, multiple = table.unpack(case, 1, 3)
  local net = dense:clone()
  local options = { [target] = opt.left, scope = "local", round_to = multiple, rounding = "nearest" }
  local plan, why = prune.try(prune.structured, net, shape, options)
  if plan then
    plan:apply { undo = false }
    fit(net, opt.tune)
    local time = milliseconds(net)
    print(("%-34s %6.3f ms %4.0f %%   MACs %3.0f %%   accuracy %.1f %%   widths %d %d %d"):format(name, time, 100 * time / whole,
      100 * plan.macs / macs, accuracy(net), net.conv1.weight:size(1), net.conv2.weight:size(1), net.conv3.weight:size(1)))
  else
    print(("%-34s refused: %s"):format(name, why)) -- a small model's time is mostly that of calling operators, which no removal takes away
  end
end
