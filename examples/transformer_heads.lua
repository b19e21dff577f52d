-- Heads or head widths? A small transformer reads the digits row by row, eight tokens of eight pixels. Its attention loses half of its heads,
-- half of the dimensions inside all heads, or 30 % of both, each by a first-order (Taylor) score of what the loss would be without them.
--
-- As a test: --epochs 2 --tune 1 --seeds 1
local prune = require "prune"
local nn, F = prune.nn, prune.nn.functional
local opt = prune.cli { epochs = 20, tune = 2, seeds = 3, width = 64, heads = 8, layers = 2 }
local train, test = prune.data.load("", { batch = 64 })
local tokens, pixels = train.shape[2], train.shape[3]

local Block = nn.module("Block", function(self, width, heads)
  self.norm1, self.attention = nn.LayerNorm(width), nn.MultiheadAttention(width, heads)
  self.norm2, self.mlp = nn.LayerNorm(width), nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
end)
function Block:forward(x)
  x = x + self.attention(self.norm1(x))
  return x + self.mlp(self.norm2(x))
end

local Transformer = nn.module("Transformer", function(self)
  self.input = nn.Linear(pixels, opt.width)
  self.positions = nn.Parameter(nn.init.normal(prune.empty { tokens, opt.width }, 0, 0.1))
  self.blocks = nn.Sequential()
  for _ = 1, opt.layers do self.blocks:append(Block(opt.width, opt.heads)) end
  self.norm, self.head = nn.LayerNorm(opt.width), nn.Linear(opt.width, train.classes)
end)
function Transformer:forward(x) -- [batch, 1, rows, pixels]
  x = self.input(F.squeeze(x, { dims = { 2 } })) + self.positions
  return self.head(self.norm(self.blocks(x)):mean(2))
end

local function fit(net, epochs, lr)
  local o = { optimizer = prune.optim.AdamW(net, { lr = lr }), schedule = { "cosine", epochs = epochs }, quiet = true }
  prune.Trainer(net, o):fit(train, { epochs = epochs })
end
local function accuracy(net) return 100 * prune.report(train.shape, test):add("", net).accuracy end

local ways = {
  ["half of the heads"] = { kinds = { "head" }, ratio = 0.5 },
  ["half of the head dims"] = { kinds = { "head_dim" }, ratio = 0.5 },
  ["30 % of both"] = { kinds = { "head", "head_dim" }, ratio = 0.3 },
}
local sums, whole, costs = {}, 0, {}
for seed = 1, opt.seeds do
  prune.seed(seed)
  local net = Transformer()
  fit(net, opt.epochs, 3e-3)
  whole = whole + accuracy(net)
  costs.whole = prune.profile(net, train.shape)
  for name, how in prune.sorted(ways) do
    local copy = net:clone()
    local plan = prune.structured(copy, train.shape, { kinds = how.kinds, ratio = how.ratio, criterion = prune.criterion.taylor(), data = train,
      batches = 20 })
    if seed == 1 then print(("%s:\n%s\n"):format(name, plan)) end
    plan:apply()
    local before = accuracy(copy)
    fit(copy, opt.tune, 1e-3)
    local sum = sums[name] or { 0, 0 }
    sums[name] = { sum[1] + before, sum[2] + accuracy(copy) }
    costs[name] = prune.profile(copy, train.shape)
  end
end

local n = opt.seeds
print(("%-22s %8s %10s %10s %14s"):format("", "params", "MACs", "accuracy", ("+ %d epochs"):format(opt.tune)))
print(("%-22s %8d %10d %8.1f %%"):format("whole", costs.whole.params, costs.whole.macs, whole / n))
for name, sum in prune.sorted(sums) do
  print(("%-22s %8d %10d %8.1f %% %12.1f %%"):format(name, costs[name].params, costs[name].macs, sum[1] / n, sum[2] / n))
end
print "Learnt: heads and the dimensions inside them can be spared alike; what differs before tuning is within a point of each other behind it."
