-- N:M sparsity: n of every m weights along the input channels stay, the pattern that sparse matrix units run. Which n: those of largest
-- magnitude, those that matter most for the data (Wanda), or those whose loss the others make up for best (SparseGPT)? And what is left to
-- gain by an epoch of tuning?
--
-- As a test: --epochs 2 --tune 1 --seeds 1
local prune = require "prune"
local opt = prune.cli { epochs = 8, tune = 1, seeds = 3, width = 16, batches = 8 }
local train, test = prune.data.load("", { batch = 64 })

local patterns = { { 2, 4 }, { 1, 4 }, { 4, 8 }, { 2, 8 } }
local ways = {
  magnitude = function(net, nm) prune.mask.nm(net:weights(), { n = nm[1], m = nm[2], dim = 2 }) end,
  wanda = function(net, nm) prune.mask.wanda(net, train, { nm = nm, batches = opt.batches }) end,
  sparsegpt = function(net, nm) prune.mask.sparsegpt(net, train, { nm = nm, batches = opt.batches }) end,
  ["sparsegpt, norms anew"] = function(net, nm)
    prune.mask.sparsegpt(net, train, { nm = nm, batches = opt.batches })
    prune.repair.batch_norm(net, train)
  end,
}

local function fit(net, epochs, lr)
  prune.Trainer(net, { optimizer = prune.optim.Adam(net, { lr = lr }), quiet = true }):fit(train, { epochs = epochs })
end

local function accuracy(net) return 100 * prune.report(train.shape, test):add("", net).accuracy end

-- Sums over seeds, by way and pattern, before and after tuning.
local sums, dense = {}, 0
for seed = 1, opt.seeds do
  prune.seed(seed)
  local net = prune.models.cnn { classes = train.classes, channels = train.shape[1], width = opt.width }
  fit(net, opt.epochs, 2e-3)
  dense = dense + accuracy(net)
  for name, mask in prune.sorted(ways) do
    for k, nm in ipairs(patterns) do
      local candidate = net:clone()
      mask(candidate, nm) -- what is masked stays so while it is tuned
      local before = accuracy(candidate)
      fit(candidate, opt.tune, 5e-4)
      local sum = sums[name .. k] or { 0, 0 }
      sums[name .. k] = { sum[1] + before, sum[2] + accuracy(candidate) }
    end
  end
end

print(("dense: %.1f %%; accuracy before and after %d epochs of tuning, means of %d seeds\n"):format(dense / opt.seeds, opt.tune, opt.seeds))
local line = ("%-24s"):format "pattern"
for _, nm in ipairs(patterns) do line = line .. ("%16s"):format(nm[1] .. ":" .. nm[2]) end
print(line)
for name in prune.sorted(ways) do
  line = ("%-24s"):format(name)
  for k in ipairs(patterns) do
    local sum = sums[name .. k]
    line = line .. ("%8.1f %6.1f %%"):format(sum[1] / opt.seeds, sum[2] / opt.seeds)
  end
  print(line)
end
print "\nLearnt: making up for what goes (SparseGPT) is what counts, most where most goes; batch norm measured anew adds to it before tuning. Wanda is no"
print "better than magnitude here: inputs are few and correlated, and outputs that drop the same weak inputs lose them for good."
