-- Where does it hurt? Each group of a network loses 10 %, 20 %, ... of its units, alone; how the loss rises says how much it can spare. Then the
-- network is cut to a share of its MACs: the same ratio in every group, or ratios that cost every group the same; without any training, and after
-- each of two repairs.
--
-- As a test: --epochs 2 --width 8 --ratios 0.25,0.5,0.75
local prune = require "prune"
local nn, F = prune.nn, prune.nn.functional
local opt = prune.cli { epochs = 8, width = 16, macs = 0.4, seed = 0, ratios = "0.1,0.2,0.3,0.4,0.5,0.6,0.7,0.8,0.9", out = "" }
prune.seed(opt.seed)
local train, test = prune.data.load("", { batch = 64 })

-- A residual network: the stream between the blocks is one group, the inside of each block another.
local Block = nn.module("Block", function(self, width, inner)
  self.conv1, self.bn1 = nn.Conv2d(width, inner, 3, { padding = 1, bias = false }), nn.BatchNorm2d(inner)
  self.conv2, self.bn2 = nn.Conv2d(inner, width, 3, { padding = 1, bias = false }), nn.BatchNorm2d(width)
end)
function Block:forward(x) return F.relu(x + self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))) end

local w = opt.width
local net = nn.Sequential(nn.Conv2d(1, w, 3, { padding = 1, bias = false }), nn.BatchNorm2d(w), nn.ReLU(), Block(w, w), nn.MaxPool2d(2),
  Block(w, 4 * w), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(w, 4 * w), nn.ReLU(), nn.Linear(4 * w, train.classes))
prune.Trainer(net, { optimizer = prune.optim.Adam(net, { lr = 2e-3 }), quiet = true }):fit(train, { epochs = opt.epochs })

local ratios = {}
for number in opt.ratios:gmatch "[^,]+" do ratios[#ratios + 1] = tonumber(number) end
local sensitivity = prune.sensitivity(net, train.shape, { data = train, batches = 10, ratios = ratios })
print(sensitivity)
if opt.out ~= "" then
  sensitivity:save(opt.out .. "/sensitivity.csv")
  sensitivity:plot(opt.out .. "/sensitivity.svg")
end

local report = prune.report(train.shape, test)
report:add("whole", net)
local function variant(name, options, repairs, recalibrate)
  local copy = net:clone()
  prune.structured(copy, train.shape, options):apply(repairs)
  if recalibrate then prune.repair.batch_norm(copy, train) end
  report:add(name, copy)
end
local uniform = { macs = opt.macs, allocation = "uniform" }
local by_loss = { macs = opt.macs, allocation = sensitivity:allocation() }
variant("same ratio", uniform)
variant("by sensitivity", by_loss)
variant("same ratio, batch norm measured anew", uniform, {}, true)
variant("by sensitivity, batch norm measured anew", by_loss, {}, true)
local fit = { reconstruct = { data = train, batches = 20 } }
variant("same ratio, reconstructed", uniform, fit)
variant("by sensitivity, reconstructed", by_loss, fit)
print()
print(report)
print "Learnt: alone, groups differ widely in what they can spare; together, at the same MACs, shares by sensitivity are here no better than"
print "equal ones. What counts is the repair: fitting the next layers on a few batches, without training, brings nearly everything back."
