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

-- --- what goes together -----------------------------------------------------------------------------------------------

-- The contract at this ratio (by random choice), in double precision with gradients; then the removal itself, by the module's own code
-- unless `by_graph`. What is left must run. Returns the network, and the units of all groups.
local function pruned(net, input, ratio, by_graph)
  net:to "f64"
  local spec = input.dtype and input or { shape = input, dtype = "f64" }
  local plan = prune.structured(net, spec, { ratio = ratio, criterion = prune.criterion.random() })
  assert(#plan.units > 0, "nothing goes")
  prune.verify(net, plan, { dtype = "f64", gradients = true })
  local units = 0
  for _, group in ipairs(plan.graph:groups()) do units = units + #group end
  local x = require("prune.graph").examples(require("prune.graph").inputs(spec, "test"), 3)[1]
  if by_graph then
    net = plan.graph:module()
    prune.structured(net, spec, { ratio = ratio, criterion = prune.criterion.random() }):apply()
  else
    plan:apply()
  end
  T.equal(net(x):size(1), 3)
  return net, units
end

-- A module of a constructor and a forward function.
local function model(construct, forward)
  local class = nn.module("Model", construct)
  function class:forward(x) return forward(self, x) end
  return class()
end

T.test("channel shuffle by view, transpose and reshape: the right channels go", function()
  local net = model(function(self)
    self.a, self.b = nn.Conv2d(3, 12, 1), nn.Conv2d(12, 4, 1)
  end, function(self, x)
    local y = F.unflatten(F.relu(self.a(x)), { dim = 2, sizes = { 3, -1 } })
    return self.b(F.flatten(F.transpose(y, { dim1 = 2, dim2 = 3 }), { start_dim = 2, end_dim = 3 }))
  end)
  local _, units = pruned(net, { 3, 4, 4 }, 0.5)
  T.equal(units, 4) -- the code needs equal counts: a position of all groups goes; groups are the twins
  T.equal(net.a.weight:size(1), 6)
end)

T.test("channel shuffle as an operator is a permutation: every channel is free", function()
  local net = model(function(self)
    self.a, self.b = nn.Conv2d(3, 12, 1), nn.Conv2d(12, 4, 1)
  end, function(self, x) return self.b(F.channel_shuffle(F.relu(self.a(x)), { groups = 3 })) end)
  local _, units = pruned(net, { 3, 4, 4 }, 0.5, true)
  T.equal(units, 12)
end)

T.test("grouped convolution: one position goes in all groups, so that what is left is even", function()
  local net = model(function(self)
    self.a, self.g, self.b = nn.Conv2d(2, 12, 1), nn.Conv2d(12, 18, 3, { groups = 3 }), nn.Conv2d(18, 2, 1)
  end, function(self, x) return self.b(F.relu(self.g(F.relu(self.a(x))))) end)
  local graph = prune.graph(net, { 2, 5, 5 })
  local parts = {}
  for part in graph:group(net.a.weight, 1, { 2 }):parts() do parts[part.name .. part.dim] = table.concat(part.indices, " ") end
  T.equal({ parts["a.weight1"], parts["g.weight2"] }, { "2 6 10", "2" })
  local units = {}
  for _, group in ipairs(graph:groups { all = true }) do units[#units + 1] = #group end
  table.sort(units)
  T.equal(units, { 3, 4, 6 }) -- groups, positions in, positions out
  pruned(net, { 2, 5, 5 }, 0.5)
end)

T.test("slices of the channels keep their borders", function()
  local function make()
    return model(function(self)
      self.a, self.b, self.c = nn.Conv2d(3, 16, 1), nn.Conv2d(8, 4, 1), nn.Conv2d(8, 4, 1)
    end, function(self, x)
      local y = self.a(x)
      local half = y:size(2) // 2
      return self.b(F.narrow(y, { dim = 2, start = 1, length = half })) + self.c(F.narrow(y, { dim = 2, start = half + 1, length = half }))
    end)
  end
  local _, units = pruned(make(), { 3, 4, 4 }, 0.5, true)
  T.equal(units, 16)
  -- in the module's own code the halves are equal, which a removal of unequal ones breaks: refused, and nothing is changed
  local net = make()
  local graph = prune.graph(net, { 3, 4, 4 })
  T.raises(function() graph:group("a.weight", 1, { 1, 2 }):remove() end, "cannot be run after the removal")
  T.equal(net.a.weight:size(1), 16)
  graph:group("a.weight", 1, { 1, 9 }):remove()
  T.equal({ net.b.weight:size(2), net.c.weight:size(2) }, { 7, 7 })
end)

T.test("glu: gate and value go together, as one unit", function()
  local net = model(function(self)
    self.a, self.b = nn.Linear(5, 20), nn.Linear(10, 3)
  end, function(self, x) return self.b(F.glu(self.a(x))) end)
  local _, units = pruned(net, { 5 }, 0.5)
  T.equal(units, 10)
  T.equal({ net.a.weight:size(1), net.b.weight:size(2) }, { 10, 5 })
end)

T.test("PixelShuffle: the channels that become one go together", function()
  local net = model(function(self)
    self.a, self.b = nn.Conv2d(3, 16, 1), nn.Conv2d(4, 2, 1)
  end, function(self, x) return self.b(F.pixel_shuffle(F.relu(self.a(x)), { upscale_factor = 2 })) end)
  local _, units = pruned(net, { 3, 4, 4 }, 0.5)
  T.equal(units, 4)
  T.equal({ net.a.weight:size(1), net.b.weight:size(2) }, { 8, 2 })
end)

T.test("chunk and gate at ratio 0.5: half of the pairs stay, in convolutions and linear layers", function()
  local convolution = model(function(self)
    self.a, self.b = nn.Conv2d(3, 32, 1), nn.Conv2d(16, 2, 1)
  end, function(self, x)
    local gate, value = F.chunk(self.a(x), { chunks = 2, dim = 2 })
    return self.b(F.silu(gate) * value)
  end)
  local linear = model(function(self)
    self.a, self.b = nn.Linear(4, 32), nn.Linear(16, 3)
  end, function(self, x)
    local gate, value = F.chunk(self.a(x), { chunks = 2, dim = -1 })
    return self.b(F.silu(gate) * value)
  end)
  for _, case in ipairs { { convolution, { 3, 4, 4 } }, { linear, { 4 } } } do
    local _, units = pruned(case[1], case[2], 0.5)
    T.equal(units, 16)
    T.equal({ case[1].a.weight:size(1), case[1].b.weight:size(2) }, { 16, 8 }) -- there: 6 and 2 of 16
  end
end)

T.test("mixer: what mixes tokens and what mixes channels are different axes", function()
  local net = model(function(self)
    self.embed, self.norm = nn.Linear(4, 6), nn.LayerNorm(6)
    self.t1, self.t2, self.c1, self.c2, self.head = nn.Linear(5, 8), nn.Linear(8, 5), nn.Linear(6, 10), nn.Linear(10, 6), nn.Linear(6, 3)
  end, function(self, x)
    local y = self.embed(x)
    y = y + F.transpose(self.t2(F.gelu(self.t1(F.transpose(self.norm(y))))))
    y = y + self.c2(F.gelu(self.c1(y)))
    return self.head(F.mean(y, { dim = 2 }))
  end)
  local _, units = pruned(net, { 5, 4 }, 0.5)
  T.equal(units, 6 + 8 + 10)
  T.equal({ net.t1.weight:size(2), net.t1.weight:size(1), net.embed.weight:size(1) }, { 5, 4, 3 })
end)

T.test("a product of 1 channel and C channels couples nothing", function()
  local net = model(function(self)
    self.a, self.gate, self.b = nn.Conv2d(3, 8, 1), nn.Conv2d(3, 1, 1), nn.Conv2d(8, 2, 1)
  end, function(self, x) return self.b(self.a(x) * F.sigmoid(self.gate(x))) end)
  local _, units = pruned(net, { 3, 4, 4 }, 0.5)
  T.equal(units, 8)
  T.equal({ net.a.weight:size(1), net.gate.weight:size(1) }, { 4, 1 })
end)

T.test("depthwise convolution with a multiplier of 2: a channel goes with both of its rows", function()
  local net = model(function(self)
    self.a, self.d, self.b = nn.Conv2d(3, 6, 1), nn.Conv2d(6, 12, 3, { groups = 6 }), nn.Conv2d(12, 2, 1)
  end, function(self, x) return self.b(F.relu(self.d(self.a(x)))) end)
  local parts = {}
  for part in prune.graph(net, { 3, 4, 4 }):group("a.weight", 1, 2):parts() do parts[part.name .. part.dim] = table.concat(part.indices, " ") end
  T.equal({ parts["d.weight1"], parts["b.weight2"] }, { "3 4", "3 4" })
  pruned(net, { 3, 4, 4 }, 0.5)
  T.equal({ net.a.weight:size(1), net.d.weight:size(1) }, { 3, 6 })
end)

T.test("MultiheadAttention of width 16 and 4 heads at ratio 0.3: the embedding, heads and their widths stay consistent", function()
  local net = model(function(self)
    self.embed, self.attention, self.head = nn.Linear(5, 16), nn.MultiheadAttention(16, 4), nn.Linear(16, 2)
  end, function(self, x) return self.head(F.mean(self.attention(self.embed(x)), { dim = 2 })) end)
  pruned(net, { 6, 5 }, 0.3)
  local inside = net.attention.in_proj_weight
  T.equal({ inside:size(2), net.attention.out_proj.weight:size(1) }, { 12, 12 }) -- 16 - floor(4.8)
  T.equal(net.attention.out_proj.weight:size(2) % net.attention._heads, 0)
end)

T.test("hidden units of an LSTM go with all their gates", function()
  local net = model(function(self)
    self.lstm, self.fc = nn.LSTM(5, 8, { layers = 2, bidirectional = true }), nn.Linear(16, 3)
  end, function(self, x) return self.fc(F.mean(self.lstm(x), { dim = 2 })) end)
  local _, units = pruned(net, { 6, 5 }, 0.5)
  T.equal(units, 4 * 8)
  T.equal(net.lstm.weight_hh_l0:size(), { 16, 4 })
  T.equal({ net.lstm.weight_ih_l1:size(2), net.fc.weight:size(2) }, { 8, 8 })
end)

T.test("InstanceNorm's running statistics shrink", function()
  local net = model(function(self)
    self.a, self.norm, self.b = nn.Conv2d(3, 8, 1), nn.InstanceNorm2d(8, { affine = true, track_running_stats = true }), nn.Conv2d(8, 2, 1)
    nn.init.uniform(self.norm.running_mean, -1, 1)
    nn.init.uniform(self.norm.running_var, 0.5, 1.5)
  end, function(self, x) return self.b(F.relu(self.norm(self.a(x)))) end)
  net:eval()
  pruned(net, { 3, 4, 4 }, 0.5)
  T.equal({ net.norm.running_mean:size(1), net.norm.running_var:size(1), net.norm.weight:size(1) }, { 4, 4, 4 })
end)

T.test("weight norm: direction, length and what reads them shrink together", function()
  local net = model(function(self)
    self.a, self.b = nn.Linear(4, 6), nn.Linear(8, 2)
    self.v, self.g = nn.Parameter(prune.randn { 8, 6 }), nn.Parameter(prune.rand { 8, 1 })
  end, function(self, x)
    local weight = self.g * self.v / F.norm(self.v, { dim = 2, keepdim = true })
    return self.b(F.relu(F.linear(F.relu(self.a(x)), weight)))
  end)
  local _, units = pruned(net, { 4 }, 0.5)
  T.equal(units, 6 + 8)
  T.equal({ net.v:size(1), net.v:size(2), net.g:size(1), net.b.weight:size(2) }, { 4, 3, 4, 4 })
end)

T.test("a weight that embedding and output share stays shared, and shrinks once", function()
  local net = model(function(self)
    self.embedding, self.fc = nn.Embedding(10, 8), nn.Linear(8, 8)
    self.output = nn.Linear(8, 10, { bias = false })
    self.output.weight = self.embedding.weight
  end, function(self, x) return self.output(self.embedding(x) + F.relu(self.fc(self.embedding(x)))) end)
  pruned(net, { shape = { 5 }, dtype = "i64", max = 10 }, 0.5)
  assert(net.output.weight == net.embedding.weight)
  T.equal(net.embedding.weight:size(), { 10, 4 })
  T.equal(net.fc.weight:size(), { 4, 4 })
end)

T.test("a frozen parameter that loses units stays frozen, and goes on training where it is not", function()
  local net = model(function(self)
    self.a, self.b = nn.Linear(4, 8), nn.Linear(8, 2)
  end, function(self, x) return self.b(F.relu(self.a(x))) end)
  net.a.weight.requires_grad = false
  pruned(net, { 4 }, 0.5)
  T.equal({ net.a.weight.requires_grad, net.a.bias.requires_grad, net.a.weight:size(1) }, { false, true, 4 })
end)

T.done()
