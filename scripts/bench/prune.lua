-- The work of scripts/bench/prune. Every round runs in a process of its own, in turns with the peer's.
local prune = require "prune"
package.path = arg[0]:gsub("[^/]*$", "") .. "?.lua;" .. package.path
local timing = require "timing"
local opt = prune.cli { python = os.getenv "PRUNELUA_PYTHON" or "", rounds = 5, threads = 1, child = "" }
local shape = { 3, 32, 32 }

-- Milliseconds of f, after one call that fills caches.
local function measure(f, repeats, prepare)
  for i = 0, repeats do
    local input = prepare and prepare()
    local start = prune.clock()
    f(input)
    if i > 0 then print(("%.3f"):format(1000 * (prune.clock() - start))) end
  end
end

local function network() return prune.models.resnet18 { classes = 10 } end

local function rounds(net)
  local graph = prune.graph(net, shape)
  for conv in net:each "Conv2d" do
    local norms = conv.weight:abs():sum { 2, 3, 4 }
    graph:group(conv.weight, 1, norms:lowest { ratio = 0.3 }):remove()
  end
end

if opt.child ~= "" then
  prune.threads(opt.threads)
  if opt.child == "groups" then
    local net = network()
    return measure(function() return prune.graph(net, shape):groups() end, 10)
  end
  return measure(rounds, 3, network)
end

local labels = { groups = "trace and all groups", rounds = "twenty rounds of scoring, grouping, removing" }
local environment = ("OMP_NUM_THREADS=%d "):format(opt.threads)
print(("ResNet-18, 32x32, %d thread(s), milliseconds"):format(opt.threads))
for _, what in ipairs { "groups", "rounds" } do
  local ours, theirs = {}, {}
  for _ = 1, opt.rounds do
    local arguments = (" --child %s --threads %d"):format(what, opt.threads)
    timing.run(environment .. timing.quoted(arg[-1] or "build/prunelua") .. " scripts/bench/prune.lua" .. arguments, ours)
    if opt.python ~= "" then
      timing.run(environment .. timing.quoted(opt.python) .. " scripts/bench/peers/prune_torch_pruning.py" .. arguments, theirs)
    end
  end
  local line = ("%-46s prunelua %8.2f"):format(labels[what], timing.median(ours))
  if #theirs > 0 then
    line = line .. ("   Torch-Pruning %8.2f   ratio %.4f"):format(timing.median(theirs), timing.median(ours) / timing.median(theirs))
  end
  print(line)
end
