-- The work of scripts/bench/train. Every round runs in a process of its own, in turns with the peer's, so that neither side's caches, nor a slow
-- moment of the machine, count for one of them only.
local prune = require "prune"
package.path = arg[0]:gsub("[^/]*$", "") .. "?.lua;" .. package.path
local timing = require "timing"
local opt = prune.cli {
  python = os.getenv "PRUNELUA_PYTHON" or "", rounds = 5, steps = 20, batch = 128, threads = 2, child = false,
}

-- One round: a line per step, after two steps that fill caches.
local function measure()
  prune.threads(opt.threads)
  prune.seed(0)
  local net = prune.models.resnet18 { classes = 10 }
  local optimizer = prune.optim.SGD(net, { lr = 0.01, momentum = 0.9, weight_decay = 5e-4 })
  local images = prune.randn { opt.batch, 3, 32, 32 }
  local labels = {}
  for i = 1, opt.batch do labels[i] = i % 10 + 1 end
  labels = prune.tensor(labels, { dtype = "i64" })
  for step = -1, opt.steps do
    local start = prune.clock()
    optimizer:zero_grad()
    local loss = prune.nn.functional.cross_entropy(net(images), labels)
    loss:backward()
    optimizer:step()
    loss:item()
    if step > 0 then print(("%.3f"):format(1000 * (prune.clock() - start))) end
  end
end

local function report(name, times)
  print(("%-9s %7.1f ms per step (median of %d; fastest %.1f)"):format(name, timing.median(times), #times,
    math.min(table.unpack(times))))
end

if opt.child then return measure() end
local arguments = ("--steps %d --batch %d --threads %d"):format(opt.steps, opt.batch, opt.threads)
local environment = ("OMP_NUM_THREADS=%d "):format(opt.threads)
local ours, theirs = {}, {}
for _ = 1, opt.rounds do
  timing.run(environment .. timing.quoted(arg[-1] or "build/prunelua") .. " scripts/bench/train.lua --child " .. arguments, ours)
  if opt.python ~= "" then
    timing.run(environment .. timing.quoted(opt.python) .. " scripts/bench/peers/train_torch.py " .. arguments, theirs)
  end
end
print(("ResNet-18, 32x32, batch %d, f32, %d threads: forward, backward, SGD step"):format(opt.batch, opt.threads))
report("prunelua", ours)
if #theirs > 0 then
  report("PyTorch", theirs)
  print(("ratio     %7.3f"):format(timing.median(ours) / timing.median(theirs)))
end
