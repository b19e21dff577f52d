-- Gradual magnitude pruning inside a training loop written by hand (Zhu and Gupta, "To prune, or not to prune", 2017).
--
-- The sparsity grows along a cubic curve while the network trains: much goes early, when it is easily made up for, little at the end.
-- All weights are ranked together, so each layer keeps what it needs.
--
-- As a test: --epochs 3
local prune = require "prune"
local nn, F = prune.nn, prune.nn.functional
local opt = prune.cli { epochs = 12, sparsity = 0.95, every = 8, seed = 1 }

prune.seed(opt.seed)
local train, test = prune.data.load("", { batch = 64 })

-- A class of modules: a function that makes the parts, and one that says how they are used.
local Block = nn.module("Block", function(self, inputs, outputs)
  self.conv = nn.Conv2d(inputs, outputs, 3, { padding = 1, bias = false })
  self.norm = nn.BatchNorm2d(outputs)
end)
function Block:forward(x) return F.relu(self.norm(self.conv(x))) end

local net = nn.Sequential(Block(1, 16), Block(16, 32), nn.MaxPool2d(2), Block(32, 64), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
  nn.Linear(64, train.classes))
local optimizer = prune.optim.Adam(net, { lr = 2e-3 })
local steps = opt.epochs * #train
-- `every`: a new mask only every so many steps; the network recovers in between. The last quarter of the run is left for tuning.
local sparsity_at = prune.schedule.cubic { from = 0, to = opt.sparsity, first = 1, last = steps * 3 // 4, every = opt.every }

local function accuracy()
  net:eval()
  local right, seen = 0, 0
  prune.no_grad(function()
    for x, y in test:batches() do
      right, seen = right + net(x):argmax(2):eq(y):sum():item(), seen + y:size(1)
    end
  end)
  return 100 * right / seen
end

local step = 0
for epoch = 1, opt.epochs do
  net:train()
  for x, y in prune.progress(train, "epoch " .. epoch) do
    step = step + 1
    -- What is masked stays so; the optimiser goes on moving the values beneath, so that a weight is not lost for good.
    if step % opt.every == 1 then prune.mask.global_unstructured(net:weights(), { method = "l1", sparsity = sparsity_at(step) }) end
    optimizer:zero_grad()
    local loss = F.cross_entropy(net(x), y)
    loss:backward()
    optimizer:step()
  end
  print(("epoch %2d  sparsity %5.1f %%  accuracy %5.1f %%"):format(epoch, 100 * prune.sparsity(net), accuracy()))
end

prune.mask.finalize(net) -- masks become plain zeros
print(prune.mask.summary(net))
print "Learnt: ranked together, the layers end at different sparsities; the small first one keeps most of its weights."
