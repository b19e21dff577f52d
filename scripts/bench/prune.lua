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

-- Magnitudes are read beforehand.
local function planned(name)
  local net, input, scores = prune.models[name](), { 3, 224, 224 }, {}
  local function key(group)
    for part in group:parts() do
      if part.producer then return part.name .. part.dim end
    end
  end
  local magnitude = prune.criterion.magnitude()
  for _, group in ipairs(prune.graph(net, input):groups()) do scores[key(group)] = magnitude(group) end
  return function() prune.structured(net, input, { ratio = 0.5, criterion = function(group) return scores[key(group)] end }) end
end

local function grown(kind, size)
  local large = require "large"
  local net = prune.meta(function()
    if kind == "residual" then return large.residual(size, 256) end
    return large.decoder { blocks = size, width = 4096, heads = 32, kv_heads = 8, hidden = 11008, tokens = 32000, length = 32 }
  end)
  local input = kind == "residual" and { 3, 32, 32 } or { { shape = { 32 }, dtype = "i64", max = 32000 } }
  return function() return prune.graph(net, input):groups() end
end

if opt.child ~= "" then
  prune.threads(opt.threads)
  if opt.child == "groups" then
    local net = network()
    return measure(function() return prune.graph(net, shape):groups() end, 10)
  elseif opt.child == "rounds" then
    return measure(rounds, 3, network)
  elseif opt.child == "memory" then
    for _, case in ipairs { { "residual", 1000 }, { "decoder", 32 } } do
      collectgarbage()
      prune.reset_peak_memory()
      grown(table.unpack(case))()
      print(("%-8s %5d: %.0f MB"):format(case[1], case[2], prune.memory().peak / 1e6))
    end
    return
  end
  local kind, size = opt.child:match "^(%a+):(%d+)$"
  return measure(size and grown(kind, tonumber(size)) or planned(opt.child), 5)
end

local environment = ("OMP_NUM_THREADS=%d "):format(opt.threads)
local program = timing.quoted(arg[-1] or "build/prunelua") .. " scripts/bench/prune.lua"
print(("%d thread(s), milliseconds"):format(opt.threads))
for _, row in ipairs {
  { "groups", "ResNet-18: trace and all groups", true },
  { "rounds", "ResNet-18: twenty rounds of scoring and removing", true },
  { "resnet50", "ResNet-50: trace, all groups, plan", true },
  { "densenet121", "DenseNet-121: trace, all groups, plan", true },
  { "residual:250", "250 residual layers: trace, all groups" },
  { "residual:1000", "1,000 residual layers: trace, all groups" },
  { "decoder:8", "decoder of 8 blocks: trace, all groups" },
  { "decoder:32", "decoder of 32 blocks: trace, all groups" },
} do
  local child, label, has_peer = table.unpack(row)
  local ours, theirs = {}, {}
  for _ = 1, opt.rounds do
    local arguments = (" --child %s --threads %d"):format(child, opt.threads)
    timing.run(environment .. program .. arguments, ours)
    if opt.python ~= "" and has_peer then
      timing.run(environment .. timing.quoted(opt.python) .. " scripts/bench/peers/prune_torch_pruning.py" .. arguments, theirs)
    end
  end
  local line = ("%-50s prunelua %8.2f"):format(label, timing.median(ours))
  if #theirs > 0 then
    line = line .. ("   Torch-Pruning %8.2f   ratio %.4f"):format(timing.median(theirs), timing.median(ours) / timing.median(theirs))
  end
  print(line)
end
print "memory of these models' graphs, groups and members at most:"
io.stdout:flush()
os.execute(environment .. program .. " --child memory")
