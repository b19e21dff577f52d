-- Growing regularisation (Wang et al. 2021) and DepGraph's sparse learning (Fang et al. 2023): press units that matter least, softly first, then
-- remove them. What is left behind the removal, in comparison with removing at once?
--
--   build/prunelua examples/growing_reg.lua [--macs 0.3] [--seeds 3]
--
-- As a test: --epochs 1 --press 1 --tune 1 --width 4 --seeds 1
local prune = require "prune"
local opt = prune.cli { epochs = 8, press = 8, tune = 3, macs = 0.3, width = 16, seeds = 3 }
local train, test = prune.data.load("", { batch = 64 })
local steps = opt.press * #train

local function fit(net, epochs, lr, regularizer)
  local trainer = prune.Trainer(net, { optimizer = prune.optim.SGD(net, { lr = lr, momentum = 0.9 }), regularizer = regularizer, quiet = true })
  trainer:fit(train, { epochs = epochs })
  return function() return 100 * trainer:evaluate(test).accuracy end
end

local terms = {
  { "nothing", function() return nil end },
  { "group_lasso", function() return prune.regularizer.group_lasso { strength = 5e-3 } end },
  { "group_norm", function() return prune.regularizer.group_norm { strength = 5e-3, alpha = 4 } end },
  { "growing_reg", function() return prune.regularizer.growing_reg { strength = 1e-4, delta = 1 / steps, every = 10 } end },
}

print(("term           trained   pressed   removed to %.0f %% MACs   tuned (mean of %d seeds)"):format(100 * opt.macs, opt.seeds))
for _, term in ipairs(terms) do
  local mean, text = { 0, 0, 0, 0 }, ""
  for seed = 1, opt.seeds do
    prune.seed(seed)
    local net = prune.models.cnn { classes = 10, channels = 1, width = opt.width }
    local regularizer = term[2]()
    local row = { fit(net, opt.epochs, 0.05)() }
    local accuracy = fit(net, opt.press, 0.02, regularizer)
    row[2] = accuracy()
    prune.structured(net, train.shape, { criterion = prune.criterion.magnitude(), macs = opt.macs, scope = "local" }):apply()
    row[3] = accuracy()
    row[4] = fit(net, opt.tune, 0.02)()
    for i = 1, 4 do mean[i] = mean[i] + row[i] / opt.seeds end
    text = regularizer and tostring(regularizer) or ""
  end
  print(("%-12s  %6.2f %%  %6.2f %%  %19.2f %%  %6.2f %%"):format(term[1], table.unpack(mean)))
  if term[1] == "growing_reg" then print(text) end
end
