-- Lottery tickets (Frankle and Carbin 2019): train, mask the smallest weights, rewind the others to where they were after a few steps, again.
-- Is the ticket better than the same masks on other initial weights?
--
--   build/prunelua examples/lottery_ticket.lua [--rounds 5] [--amount 0.5] [--rewind 20] [--seeds 3]
--
-- As a test: --epochs 1 --rounds 1 --width 4 --seeds 1 --rewind 3
local prune = require "prune"
local opt = prune.cli { epochs = 8, rounds = 5, amount = 0.5, rewind = 20, width = 16, seeds = 3 }
local train, test = prune.data.load("", { batch = 64 })

local function trainer(net, snapshot)
  return prune.Trainer(net, { optimizer = prune.optim.SGD(net, { lr = 0.05, momentum = 0.9 }), snapshot = snapshot, quiet = true })
end

local function network() return prune.models.cnn { classes = 10, channels = 1, width = opt.width } end

-- The same masks on fresh weights.
local function reinitialised(net)
  local other = network()
  for name, p in net:named_parameters() do other:parameter(name):set_mask(p.mask) end
  return other
end

local function fit(net, snapshot)
  local training = trainer(net, snapshot)
  training:fit(train, { epochs = opt.epochs })
  return 100 * training:evaluate(test).accuracy, training
end

local rows = {}
local function add(i, sparsity, ticket, other)
  local row = rows[i] or { 0, 0, 0 }
  rows[i] = { sparsity, row[2] + ticket / opt.seeds, row[3] + other / opt.seeds }
end

for seed = 1, opt.seeds do
  prune.seed(seed)
  local net = network()
  local dense, first = fit(net, opt.rewind) -- first.ticket: the weights after opt.rewind batches
  add(0, 0, dense, dense)
  for round = 1, opt.rounds do
    prune.mask.global_unstructured(net:weights(), { amount = opt.amount }) -- of what is alive
    first.ticket:rewind(net)
    local other = fit(reinitialised(net))
    add(round, 100 * prune.mask.sparsity(net), (fit(net)), other)
  end
end

print(("zeros     ticket, rewound to batch %d   same masks, other weights (mean of %d seeds)"):format(opt.rewind, opt.seeds))
for i = 0, opt.rounds do print(("%5.1f %%   %25.2f %%   %.2f %%"):format(table.unpack(rows[i]))) end
