-- All criteria side by side: a small network loses half of its MACs by each, ranked within its layers and across them, and is tuned for an epoch.
--
--   prunelua examples/criteria.lua --data DIR --normalize cifar10 --augment
--
-- DIR holds train/CLASS/*.jpg and test/CLASS/*.jpg, or CIFAR-10's binary batches. Without --data the embedded digits stand in. The table that
-- this makes is in examples/README.md.
--
-- As a test: --epochs 1 --seeds 1 --width 4 --limit 256 --batches 1
local prune = require "prune"
local opt = prune.cli {
  data = "", normalize = "auto", augment = false, limit = 0, threads = 0,
  epochs = 6, width = 16, macs = 0.5, batches = 8, seeds = 3, scopes = "local,global",
}
if opt.threads > 0 then prune.threads(opt.threads) end

local names = {
  "random", "magnitude", "lamp", "fpgm", "bn_scale", "taylor", "snip", "grasp", "synflow", "movement", "obd", "eigendamage", "group_fisher",
  "activation", "apoz", "hrank", "chip", "wanda",
}

local function fit(net, train, epochs, lr, regularizer)
  local trainer = prune.Trainer(net, { regularizer = regularizer, schedule_by = "batch",
    optimizer = prune.optim.SGD(net, { lr = lr, momentum = 0.9, nesterov = true, weight_decay = 5e-4 }),
    schedule = prune.schedule.onecycle { steps = epochs * math.ceil(train.size / 128), rise = 0.25, start = 10, final = 100 } })
  trainer:fit(train, { epochs = epochs })
end

local function accuracy(net, test) return 100 * prune.Trainer(net, { optimizer = prune.optim.SGD(net) }):evaluate(test).accuracy end

local sums, dense = {}, 0
for seed = 1, opt.seeds do
  prune.seed(seed)
  local train, test = prune.data.load(opt.data, { batch = 128, test_batch = 500, limit = opt.limit, normalize = opt.normalize,
    augment = opt.augment and { crop_padding = 4, flip = true } or nil })
  local net = prune.models.cnn { classes = train.classes, channels = train.shape[1], width = opt.width }
  local movement = prune.criterion.movement()
  fit(net, train, opt.epochs, 0.1, movement)
  dense = dense + accuracy(net, test) / opt.seeds
  for scope in opt.scopes:gmatch "[^,]+" do
    for _, name in ipairs(names) do
      local small = net:clone()
      prune.seed(100 + seed) -- the same batches for all
      prune.structured(small, train.shape, {
        criterion = name == "movement" and movement or prune.criterion[name](), macs = opt.macs, scope = scope, data = train, batches = opt.batches,
      }):apply()
      local before = accuracy(small, test)
      fit(small, train, 1, 0.05)
      local after = accuracy(small, test)
      print(("seed %d  %-13s %-6s  %6.2f %% before, %6.2f %% after one epoch"):format(seed, name, scope, before, after))
      local key = name .. " " .. scope
      local sum = sums[key] or { 0, 0 }
      sums[key] = { sum[1] + before / opt.seeds, sum[2] + after / opt.seeds }
    end
  end
end

print(("\nwhole: %.2f %%; at %.0f %% of the MACs before and after an epoch of tuning, mean of %d seeds:"):format(dense,
  100 * opt.macs, opt.seeds))
for scope in opt.scopes:gmatch "[^,]+" do
  for _, name in ipairs(names) do print(("%-13s %-6s  %6.2f %%  %6.2f %%"):format(name, scope, table.unpack(sums[name .. " " .. scope]))) end
end
