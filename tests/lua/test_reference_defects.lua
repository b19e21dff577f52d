-- What the reference tool was seen to do wrongly, each with what is right here: one test for each row of its list of cases.
local T = require "testing"
local prune = require "prune"
local nn, F = prune.nn, prune.nn.functional

local shape = { 1, 8, 8 }
local function small() return prune.models.cnn { classes = 2, channels = 1, width = 16 } end
local function widths(net) return { net.conv1.weight:size(1), net.conv2.weight:size(1), net.conv3.weight:size(1) } end
local function equal_scores(group) return prune.ones { group.size } end

-- --- which units go -------------------------------------------------------------------------------------------------

T.test("max_pruning_ratio 0.5, ratio 0.9, one step: the cap holds, in every scope", function()
  for _, scope in ipairs { "local", "global" } do
    local net = small() -- there, 1 of 16 is left (global: 3), since the cap is only looked at before a step
    T.raises(function() prune.structured(net, shape, { ratio = 0.9, max_ratio = 0.5, scope = scope }) end, "at most 56 can")
    prune.structured(net, shape, { ratio = 0.5, max_ratio = 0.5, scope = scope }):apply()
    T.equal(widths(net), { 8, 16, 32 })
    T.raises(function() prune.structured(small(), shape, { macs = 0.05, max_ratio = 0.5, scope = scope }) end, "cannot be met")
  end
end)

T.test("global, one layer wholly below the threshold: it keeps one unit, and the target is met", function()
  local net = small()
  local function low_conv1(group)
    local base = 100
    for part in group:parts() do base = part.name == "conv1.weight" and part.dim == 1 and 0 or base end
    return prune.arange(group.size) + base
  end
  prune.structured(net, shape, { ratio = 0.25, scope = "global", criterion = low_conv1 }):apply() -- 28 of 112
  T.equal(net.conv1.weight:size(1), 1)
  local left = widths(net)
  T.equal(left[1] + left[2] + left[3], 112 - 28)
end)

T.test("global, all scores equal: as many go as asked, those of lowest number", function()
  local net = small()
  prune.structured(net, shape, { ratio = 0.5, scope = "global", criterion = equal_scores }):apply()
  T.equal(widths(net), { 1, 1, 54 })
  local spread = small()
  prune.structured(spread, shape, { ratio = 0.5, scope = "global", criterion = equal_scores, max_ratio = 0.6 }):apply()
  T.equal(widths(spread), { 7, 13, 36 })
end)

T.test("isomorphic alone is a scope of its own: it prunes", function()
  local net = small()
  local plan = prune.structured(net, shape, { ratio = 0.5, scope = "isomorphic" })
  T.equal(#plan.units, 56)
end)

T.test("a classifier that is not ignored keeps its classes", function()
  for _, options in ipairs { { ratio = 0.5 }, { ratio = 0.9, scope = "global" }, { macs = 0.1 } } do
    local net = small()
    prune.structured(net, shape, options):apply()
    T.equal(net.fc.weight:size(1), 2)
    T.equal(net(prune.randn { 3, 1, 8, 8 }):size(), { 3, 2 })
  end
end)

T.test("options that one plan was given do not reach the next", function()
  local first, second = small(), small()
  local ignored = prune.structured(first, shape, { ratio = 0.5, ignore = { first.conv1 }, max_ratio = 0.5, kinds = { channel = true } })
  T.equal(#ignored.entries, 2)
  T.equal(#prune.structured(second, shape, { ratio = 0.9 }).entries, 3)
  T.equal(#prune.structured(first, shape, { ratio = 0.9 }).entries, 3)
  local options = { ratio = 0.5 }
  prune.structured(first, shape, options)
  T.equal(options, { ratio = 0.5 })
end)

T.test("10 units at ratio 0.9: 9 go", function()
  local net = nn.Sequential(nn.Linear(4, 10), nn.ReLU(), nn.Linear(10, 2))
  prune.structured(net, { 4 }, { ratio = 0.9 }):apply()
  T.equal(net[1].weight:size(1), 1)
  for tenths = 1, 9 do -- no count is lost to binary fractions
    T.equal(#prune.structured(nn.Sequential(nn.Linear(4, 10), nn.Linear(10, 2)), { 4 }, { ratio = tenths / 10 }).units, tenths)
  end
end)

T.test("64 channels, ratio 0.3, multiples of 16: the nearest is 48; 8 channels stay", function()
  local net = nn.Sequential(nn.Conv2d(1, 64, 1), nn.Conv2d(64, 8, 1), nn.Conv2d(8, 2, 1))
  prune.structured(net, shape, { ratio = 0.3, round_to = 16, rounding = "nearest" }):apply()
  T.equal({ net[1].weight:size(1), net[2].weight:size(1) }, { 48, 8 })
end)

T.test("a sixth of five steps is no step, and says so", function()
  local net = small()
  local pruner = prune.structured(net, shape, { ratio = 0.5, steps = 5 })
  for _ = 1, 5 do assert(pruner:step()) end
  T.equal({ pruner:step() }, {})
  T.equal(widths(net), { 8, 16, 32 })
end)

-- --- what follows the weights ---------------------------------------------------------------------------------------

T.test("the optimiser trains the smaller model: all its parameters are the model's still", function()
  local net = small()
  local optimizer = prune.optim.SGD(net, { lr = 0.1, momentum = 0.9 })
  local function step()
    optimizer:zero_grad()
    F.cross_entropy(net(prune.randn { 4, 1, 8, 8 }), prune.randint(1, 2, { 4 })):backward()
    optimizer:step()
  end
  step()
  prune.structured(net, shape, { ratio = 0.5 }):apply()
  local before = {}
  for name, p in net:named_parameters() do before[name] = p:dense():clone() end
  step()
  for name, p in net:named_parameters() do assert(not p:dense():equal(before[name]), name .. " is not trained") end
end)

T.test("a frozen parameter stays frozen", function()
  local net = small()
  net.conv2.weight.requires_grad, net.bn1.bias.requires_grad = false, false
  prune.structured(net, shape, { ratio = 0.5 }):apply()
  for name, p in net:named_parameters() do
    T.equal(p.requires_grad, name ~= "conv2.weight" and name ~= "bn1.bias", name)
  end
end)

T.test("an index out of range is refused, one that is there twice goes once; sizes and tensors agree", function()
  local net = small()
  local graph = prune.graph(net, shape)
  for _, index in ipairs { 0, 17, -1 } do
    T.raises(function() graph:group(net.conv1.weight, 1, { 1, index }) end, "outside 1..16")
  end
  T.raises(function() graph:group(net.conv1.weight, 1, { 1.5 }) end, "whole number")
  T.equal(widths(net), { 16, 32, 64 })
  local group = graph:group(net.conv1.weight, 1, { 3, 5, 3, 3 })
  T.equal(group.size, 2)
  group:remove()
  T.equal({ net.conv1.weight:size(1), net.bn1.weight:size(1), net.bn1.running_var:size(1), net.conv2.weight:size(2) }, { 14, 14, 14, 14 })
  T.equal(net(prune.randn { 2, 1, 8, 8 }):size(), { 2, 2 })
end)

T.test("the model's mode is what it was", function()
  local net = small()
  net:train()
  net.bn2:eval()
  local data = { { prune.randn { 4, 1, 8, 8 }, prune.randint(1, 2, { 4 }) } }
  prune.structured(net, shape, { ratio = 0.5, criterion = prune.criterion.taylor(), data = data }):apply()
  T.equal({ net.training, net.bn1.training, net.bn2.training }, { true, true, false })
end)

T.test("a model whose parameters are all frozen is pruned like any other", function()
  local net = small():requires_grad(false)
  prune.structured(net, shape, { ratio = 0.5 }):apply()
  T.equal(widths(net), { 8, 16, 32 })
end)

T.test("history: what is picked from a group is noted once, and doing it again gives the same shapes", function()
  local net = small()
  local fresh = net:clone()
  local groups = prune.graph(net, shape):groups()
  groups[1]:pick({ 1, 2, 5, 7 }):remove() -- there, the whole group was noted as well: 15 and 12 channels
  prune.replay(fresh, shape, prune.history(net))
  T.equal({ widths(net), widths(fresh) }, { { 12, 32, 64 }, { 12, 32, 64 } })
  assert(fresh.conv1.weight:equal(net.conv1.weight))
end)

T.done()
