-- A criterion of one's own: which channels matter least? Here those that others can stand in for best.
--
-- The filters nearest to the geometric median of a layer are the most replaceable (FPGM; He et al., "Filter pruning via geometric median",
-- CVPR 2019): a filter's score is the sum of its distances to all others, and the lowest go first. It is compared with criteria that
-- are built in, at the same number of multiply-accumulates.
--
-- As a test: --epochs 2 --tune 1 --seeds 1
local prune = require "prune"
local opt = prune.cli { epochs = 6, tune = 1, macs = 0.3, seeds = 3 }
local train, test = prune.data.load("", { batch = 64 })

-- A criterion is a function of a group, the list of units that are ranked together. A unit's weights are spread over several parts:
-- the rows that make it (part.producer), its batch-norm entries, the columns of the next layer that read it. part:rows() shows each of
-- them as a matrix with one row per unit. The result is one score per unit.
local function geometric_median(group)
  local score = prune.zeros { group.size }
  for part in group:parts() do
    if part.producer then
      local w = part:rows()
      local squares = (w * w):sum { 2 }
      local apart = squares:unsqueeze(1) + squares:unsqueeze(2) - 2 * w:matmul(w:transpose(1, 2)) -- |a - b|^2 = |a|^2 + |b|^2 - 2 a.b
      score = score + apart:clamp { min = 0 }:sqrt():sum { 2 }
    end
  end
  return score / score:mean() -- layers are ranked together here, so each must be measured by its own scale
end

local criteria = {
  ["geometric median"] = geometric_median, magnitude = prune.criterion.magnitude(), taylor = prune.criterion.taylor(),
  random = prune.criterion.random(),
}

local function fit(net, epochs, lr)
  prune.Trainer(net, { optimizer = prune.optim.Adam(net, { lr = lr }), quiet = true }):fit(train, { epochs = epochs })
end

local totals = {}
for seed = 1, opt.seeds do
  prune.seed(seed)
  local net = prune.models.cnn { classes = train.classes, channels = train.shape[1], width = 16 }
  fit(net, opt.epochs, 2e-3)
  local report = prune.report(train.shape, test)
  for name, criterion in prune.sorted(criteria) do
    local candidate = net:clone()
    prune.structured(candidate, train.shape, { criterion = criterion, macs = opt.macs, data = train }):apply()
    fit(candidate, opt.tune, 1e-3)
    totals[name] = (totals[name] or 0) + report:add(name, candidate).accuracy
  end
  print(("\nseed %d"):format(seed))
  print(report)
end

print(("\nmean accuracy with %.0f %% of the multiply-accumulates, over %d seeds"):format(100 * opt.macs, opt.seeds))
for name, total in prune.sorted(totals) do print(("  %-18s %.2f %%"):format(name, 100 * total / opt.seeds)) end
print "Learnt: compare with random, after tuning, over several seeds. Without the division by the mean, one layer would lose nearly all."
