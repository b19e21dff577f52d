-- Regularisers add the gradients that their formulas say, and nothing else.
local T = require "testing"
local prune = require "prune"
local F = prune.nn.functional

local function network()
  prune.seed(3)
  local net = prune.models.cnn { classes = 10, channels = 1, width = 4 }
  local x, y = prune.randn { 8, 1, 8, 8 }, prune.randint(1, 10, { 8 })
  F.cross_entropy(net(x), y):backward()
  local before = {}
  for name, p in net:named_parameters() do before[name] = p.grad:clone() end
  return net, before
end

T.test("bn_scale adds strength * sign(gamma) to batch-norm scales only", function()
  local net, before = network()
  net.bn2.weight[1] = -0.5
  net.bn2.weight[2] = 0
  local regularizer = prune.regularizer.bn_scale { strength = 0.01 }
  regularizer:apply(net)
  for name, p in net:named_parameters() do
    local want = before[name]
    if name:match "bn%d.weight" then want = want + p:value():sign() * 0.01 end
    assert(p.grad:allclose(want, { rtol = 1e-6, atol = 1e-7 }), name)
  end
  local report, total = regularizer:report()
  T.close(report["bn1.weight"], 0.01 * 4, 1e-6)
  T.close(report["bn2.weight"], 0.01 * 6.5, 1e-6)
  T.close(total, 0.01 * (4 + 6.5 + 16), 1e-6)
end)

T.test("group_lasso adds strength * w / ||w_u||, with ||w_u|| over both sides of the coupling", function()
  local net, before = network()
  net.bn1.bias:copy(prune.randn { 4 })
  prune.regularizer.group_lasso({ strength = 0.1, shape = { 1, 8, 8 } }):apply(net)
  local unit = 2 -- of the first group: conv1's filter, bn1's scale and shift, conv2's input slice
  local square = (net.conv1.weight[unit] ^ 2):sum() + net.bn1.weight[unit] ^ 2 + net.bn1.bias[unit] ^ 2
  square = square + (net.conv2.weight:select(2, unit) ^ 2):sum()
  local norm = math.sqrt(square:item())
  local want = before["conv1.weight"][unit] + net.conv1.weight[unit] * (0.1 / norm)
  assert(net.conv1.weight.grad[unit]:allclose(want, { rtol = 1e-4, atol = 1e-6 }))
  T.close(net.bn1.bias.grad[unit]:item(), (before["bn1.bias"][unit] + net.bn1.bias[unit] * (0.1 / norm)):item(), 1e-5)
  -- the classifier's bias is of pinned units only
  T.equal(net.fc.bias.grad:equal(before["fc.bias"]), true)
end)

T.test("a unit that is zero gets no gradient and no NaN", function()
  local net, before = network()
  prune.no_grad(function()
    net.conv3.weight[1] = 0
    net.bn3.weight[1] = 0
    net.bn3.bias[1] = 0
    net.fc.weight[{ {}, 1 }] = 0
  end)
  prune.regularizer.group_lasso({ strength = 1, shape = { 1, 8, 8 }, size_factor = true }):apply(net)
  T.equal(net.conv3.weight.grad[1]:equal(before["conv3.weight"][1]), true)
  for _, p in net:named_parameters() do assert(p.grad:isfinite():all():item() ~= false) end
end)

T.test("masked entries stay without gradient, parameters without gradient are left alone", function()
  local net = network()
  prune.mask.l1_unstructured(net.conv2.weight, { amount = 0.5 })
  net:zero_grad()
  F.cross_entropy(net(prune.randn { 4, 1, 8, 8 }), prune.randint(1, 10, { 4 })):backward()
  net.conv1.weight:zero_grad()
  prune.regularizer.group_lasso({ strength = 1, shape = { 1, 8, 8 } }):apply(net)
  local outside = (net.conv2.weight.grad:abs() * (net.conv2.weight.mask * -1 + 1)):sum():item()
  T.equal(outside, 0.0)
  T.equal(net.conv1.weight.grad, nil)
end)

T.test("the groups are found anew after a removal", function()
  local net = network()
  local regularizer = prune.regularizer.group_lasso { strength = 0.1, shape = { 1, 8, 8 } }
  regularizer:apply(net)
  prune.structured(net, { 1, 8, 8 }, { ratio = 0.5 }):apply()
  regularizer:apply(net)
  local report = regularizer:report()
  assert(report["conv1.weight"] > 0 and report["conv3.weight"] > 0)
end)

T.test("a layer that was replaced by one of the same size is met", function()
  for _, name in ipairs { "group_lasso", "bn_scale" } do
    local net = network()
    local regularizer = prune.regularizer[name] { strength = 0.1, shape = { 1, 8, 8 } }
    regularizer:apply(net)
    net.conv2, net.bn2 = prune.nn.Conv2d(4, 8, 3, { padding = 1 }), prune.nn.BatchNorm2d(8)
    net:zero_grad()
    F.cross_entropy(net(prune.randn { 4, 1, 8, 8 }), prune.randint(1, 10, { 4 })):backward()
    local before = net.bn2.weight.grad:clone()
    regularizer:apply(net)
    assert(not net.bn2.weight.grad:equal(before), name)
  end
end)

T.test("bn_scale leaves pinned scales alone as soon as the shape of the input is known", function()
  local nn = prune.nn
  local net = nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 1))
  net(prune.randn { 2, 3, 4, 4 }):sum():backward()
  local regularizer = prune.regularizer.bn_scale { strength = 1 }
  regularizer:apply(net) -- what its channels are is not known yet
  prune.graph(net, { 3, 4, 4 })
  local pinned, free = net[1].weight.grad:clone(), net[3].weight.grad:clone()
  regularizer:apply(net)
  T.equal(net[1].weight.grad, pinned)
  T.close(net[3].weight.grad, free + 1, 1e-6)
end)

T.test("training with bn_scale shrinks the scales", function()
  local function train(regularizer)
    prune.seed(5)
    local data = prune.data.load("", { batch = 128, limit = 512 })
    local net = prune.models.cnn { classes = 10, channels = 1, width = 4 }
    local optimizer = prune.optim.SGD(net, { lr = 0.05 })
    prune.Trainer(net, { optimizer = optimizer, regularizer = regularizer, quiet = true }):fit(data, { epochs = 5 })
    return net.bn2.weight:abs():sum():item()
  end
  assert(train(prune.regularizer.bn_scale { strength = 0.5 }) < 0.7 * train(nil))
end)

T.test("wrong options are refused", function()
  T.raises(function() prune.regularizer.bn_scale { strenght = 1 } end, "did you mean 'strength'")
  T.raises(function() prune.regularizer.bn_scale { strength = -1 } end, "at least 0")
  T.raises(function() prune.regularizer.group_lasso {}:apply((network())) end, "option shape")
  T.raises(function() prune.regularizer.group_lasso { shape = 3 } end, "shape is the input without the batch")
  T.raises(function() prune.regularizer.group_lasso { size_factor = "yes" } end, "size_factor' must be true or false")
  T.raises(function() prune.regularizer.group_lasso { strength = "1" } end, "strength' must be a number")
  T.raises(function() prune.regularizer.group_norm { alpha = -1 } end, "alpha must be in 0..64")
  T.raises(function() prune.regularizer.group_norm { strength = 0 / 0 } end, "strength must be a number of at least 0")
  T.raises(function() prune.regularizer.growing_reg { every = 0 } end, "every must be at least 1")
  T.raises(function() prune.regularizer.growing_reg { every = 1.5 } end, "must be an integer")
  T.raises(function() prune.regularizer.growing_reg { delta = -1 } end, "delta must be at least 0")
  T.raises(function() prune.regularizer.growing_reg { strength = 2 } end, "ceiling must not lie below strength")
  T.raises(function() prune.regularizer.group_variance { eps = 0 } end, "eps must be above 0")
  T.raises(function() prune.regularizer.hoyer { shape = { 1, 8, 8 } } end, "no option 'shape'")
  T.raises(function() prune.regularizer.bn_scale():report() end, "not applied yet")
  T.raises(function() prune.regularizer.bn_scale().apply(prune.nn.ReLU()) end, "regularizer:apply%(net%), got table")
  T.raises(function() prune.regularizer.bn_scale():apply(prune.nn.ReLU()) end, "no batch norm")
end)

-- --- every regulariser ------------------------------------------------------------------------------------------------

local every = { bn_scale = {}, group_lasso = { size_factor = true }, group_norm = { alpha = 3 }, growing_reg = { strength = 0.2 },
  group_variance = {}, hoyer = {}, group_hoyer = {} }

T.test("every regulariser of the core is among those tested here", function()
  for _, described in ipairs(require("prune.core").regularizers()) do assert(every[described.name], described.name) end
end)

local function make(name, more)
  local o = { strength = 0.3 }
  for key, value in pairs(every[name]) do o[key] = value end
  for key, value in pairs(more or {}) do o[key] = value end
  return prune.regularizer[name](o)
end

-- A model in f64 with zero gradients, and a grouped convolution, a residual (one convolution with both axes in one group) and a classifier.
local function wide_network()
  prune.seed(4)
  local nn = prune.nn
  local Net = nn.module("Net", function(self)
    self.conv1 = nn.Conv2d(2, 8, 3, { padding = 1 })
    self.bn1 = nn.BatchNorm2d(8)
    self.grouped = nn.Conv2d(8, 8, 3, { padding = 1, groups = 4 })
    self.bn2 = nn.BatchNorm2d(8)
    self.conv2 = nn.Conv2d(8, 6, 1)
    self.mix = nn.Conv2d(6, 6, 1)
    self.fc = nn.Linear(6, 3)
  end)
  function Net:forward(x)
    x = self.bn1(self.conv1(x)):relu()
    x = self.conv2(self.bn2(self.grouped(x)):relu())
    x = x + self.mix(x)
    return self.fc(F.flatten(F.adaptive_avg_pool2d(x, { output_size = 1 }), 2))
  end
  local net = Net():to "f64"
  for _, p in net:named_parameters() do p:copy(prune.randn(p:size())) end
  prune.graph(net, { { shape = { 2, 4, 4 }, dtype = "f64" } })
  F.cross_entropy(net(prune.randn { 2, 2, 4, 4 }:to "f64"), prune.randint(1, 3, { 2 })):backward()
  for _, p in net:named_parameters() do p.grad = prune.zeros(p:size(), { dtype = "f64" }) end
  return net
end

-- What the term would be with other values, found with an object of its own.
local function penalty(name, net)
  local regularizer = make(name)
  regularizer:apply(net)
  return (select(2, regularizer:report()))
end

for name in prune.sorted(every) do
  if name ~= "group_norm" then -- whose factors count as constants: a test of its own
    T.test(name .. ": the added gradient is the numerical derivative of the reported penalty", function()
      local net = wide_network()
      make(name):apply(net)
      local step, checked, grads = 1e-5, 0, {}
      for path, p in net:named_parameters() do grads[path] = p.grad:reshape(-1):clone() end
      for path, p in net:named_parameters() do
        local flat, grad = p:dense():reshape(-1), grads[path]
        for i = 1, p:numel(), math.max(1, p:numel() // 5) do
          local value = flat[i]:item()
          flat[i] = value + step
          local above = penalty(name, net)
          flat[i] = value - step
          local below = penalty(name, net)
          flat[i] = value
          T.close(grad[i]:item(), (above - below) / (2 * step), 2e-6, ("%s[%d]"):format(path, i))
          checked = checked + (grad[i]:item() ~= 0 and 1 or 0)
        end
      end
      assert(checked >= 8, "most gradients are not zero")
    end)
  end

  T.test(name .. ": units that cannot go are not touched", function()
    local net = wide_network()
    make(name):apply(net)
    T.equal(net.fc.bias.grad:abs():sum():item(), 0.0)
    -- a batch norm right behind the input, whose channels are the input's
    local nn = prune.nn
    local first = nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 1))
    prune.graph(first, { 3, 4, 4 })
    first(prune.randn { 2, 3, 4, 4 }):sum():backward()
    local before = { first[1].weight.grad:clone(), first[1].bias.grad:clone(), first[5].bias.grad:clone() }
    local moved = first[3].weight.grad:clone()
    make(name):apply(first)
    T.equal(first[1].weight.grad, before[1])
    T.equal(first[1].bias.grad, before[2])
    T.equal(first[5].bias.grad, before[3])
    if name ~= "hoyer" and name ~= "group_variance" and name ~= "group_hoyer" then assert(not first[3].weight.grad:equal(moved)) end
  end)

  T.test(name .. ": frozen parameters and those without gradient stay as they are, masked entries without gradient", function()
    local net = wide_network()
    prune.mask.l1_unstructured(net.conv2.weight, { amount = 0.5 })
    prune.mask.l1_unstructured(net.bn1.weight, { amount = 0.5 })
    net.conv1.weight.requires_grad = false
    net.grouped.weight:zero_grad()
    make(name):apply(net)
    T.equal(net.conv1.weight.grad:abs():sum():item(), 0.0)
    T.equal(net.grouped.weight.grad, nil)
    for _, p in ipairs { net.conv2.weight, net.bn1.weight } do
      T.equal((p.grad:abs() * (p.mask:to "f64" * -1 + 1)):sum():item(), 0.0)
      if name ~= "bn_scale" or p == net.bn1.weight then
        if name ~= "hoyer" or p == net.conv2.weight then assert(p.grad:abs():sum():item() > 0, "the others have one") end
      end
    end
  end)

  T.test(name .. ": equal scores, one unit, and all zeros give finite gradients", function()
    local nn = prune.nn
    for _, fill in ipairs { 1, 0 } do
      for _, width in ipairs { 1, 4 } do
        local net = nn.Sequential(nn.Conv2d(2, width, 3), nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, 2, 3))
        for _, p in net:named_parameters() do p:fill(fill) end
        net(prune.randn { 2, 2, 6, 6 }):sum():backward()
        local regularizer = make(name, name ~= "hoyer" and { shape = { 2, 6, 6 } } or {})
        for _ = 1, 12 do regularizer:apply(net) end -- growing_reg grows
        for path, p in net:named_parameters() do assert(p.grad:isfinite():all():item(), path) end
        local _, total = regularizer:report()
        assert(total == total and math.abs(total) < math.huge)
      end
    end
  end)

  T.test(name .. ": the same in f32", function()
    local net, grads = wide_network(), {}
    make(name):apply(net)
    for path, p in net:named_parameters() do grads[path] = p.grad end
    local narrow = wide_network():to "f32"
    for _, p in narrow:named_parameters() do p.grad = prune.zeros(p:size()) end
    narrow._input = { { shape = { 2, 4, 4 }, dtype = "f32" } }
    make(name):apply(narrow)
    for path, p in narrow:named_parameters() do assert(p.grad:to("f64"):allclose(grads[path], { rtol = 1e-4, atol = 1e-5 }), path) end
  end)
end

T.test("group_norm adds strength 2^(alpha x) w; its alpha counts, and its report tells the range", function()
  local net = wide_network()
  local regularizer = make("group_norm", { strength = 0.5, alpha = 2 })
  regularizer:apply(net)
  -- the second group: grouped's 8 channels go with conv1's, 4 groups of 2; conv2's channels with mix: 6 units
  local norms, least, most = {}, math.huge, 0
  for u = 1, 6 do
    local function square(t) return t:dense():square():sum():item() end
    local sum = 0
    for _, t in ipairs { net.conv2.weight, net.conv2.bias, net.mix.weight, net.mix.bias } do sum = sum + square(t[u]) end
    sum = sum + square(net.mix.weight:select(2, u)) + square(net.fc.weight:select(2, u))
    norms[u] = math.sqrt(sum)
    least, most = math.min(least, norms[u]), math.max(most, norms[u])
  end
  local total = 0
  for u = 1, 6 do
    local factor = 0.5 * 2 ^ (2 * (most - norms[u]) / (most - least))
    total = total + factor / 2 * norms[u] ^ 2
    T.close(net.conv2.bias.grad[u]:item(), (net.conv2.bias[u] * factor):item(), 1e-9)
    assert(net.fc.weight.grad:select(2, u):allclose(net.fc.weight:dense():select(2, u) * factor, { rtol = 1e-9 }))
  end
  for _, row in ipairs(regularizer:groups()) do
    if row.name == "conv2.weight" then
      T.equal(row.units, 6)
      T.close(row.penalty, total, 1e-9)
      T.close({ row.least, row.most }, { 0.5, 2 }, 1e-9)
    end
  end
  assert(tostring(regularizer):find "conv2.weight +6 +[%d.]+ +0.5 +2\n", tostring(regularizer))
end)

T.test("growing_reg: lambdas grow by delta (I_max - I) / (I_max - I_min) every few steps up to the ceiling, batch norms included", function()
  local net = wide_network()
  local regularizer = prune.regularizer.growing_reg { strength = 0.01, delta = 0.1, every = 2, ceiling = 0.15 }
  local function row()
    for _, r in ipairs(regularizer:groups()) do
      if r.name == "conv2.weight" then return r end
    end
  end
  local expected = { 0.01, 0.01, 0.11, 0.11, 0.15, 0.15 } -- of the least important unit
  for step, most in ipairs(expected) do
    regularizer:apply(net)
    T.close(row().most, most, 1e-7, "lambda at step " .. step)
    T.close(row().least, 0.01, 1e-9) -- that of the most important one stays
  end
  local before = net.bn1.weight.grad:clone()
  regularizer:apply(net)
  local added = (net.bn1.weight.grad - before) / net.bn1.weight:dense()
  assert(added:amin():item() >= 0.01 - 1e-9 and added:amax():item() > 0.1, "batch-norm scales get lambda times themselves")
end)

T.test("growing_reg goes on from its state, and begins anew after a removal", function()
  local straight, net = make "growing_reg", wide_network()
  for _ = 1, 25 do straight:apply(net) end
  local first, second, again = make "growing_reg", make "growing_reg", wide_network()
  for _ = 1, 13 do first:apply(again) end
  local literal = require "prune.literal"
  second:load_state(literal.read(literal.write(first:state())))
  for _ = 1, 12 do second:apply(again) end
  T.equal(second:state(), straight:state())
  for name, p in net:named_parameters() do assert(p.grad:equal(again:parameter(name).grad), name) end
  T.equal(straight:state().steps, 25)
  prune.structured(net, net._input, { ratio = 0.5 }):apply()
  for _, p in net:named_parameters() do p.grad = prune.zeros(p:size(), { dtype = "f64" }) end
  straight:apply(net)
  T.equal(straight:state().steps, 1)
  for _, row in ipairs(straight:groups()) do T.equal({ row.least, row.most }, { 0.2, 0.2 }) end
end)

T.test("hand values: variance and Hoyer of two units of norms 3 and 4", function()
  local nn = prune.nn
  local net = nn.Sequential(nn.Linear(1, 2, { bias = false }), nn.Linear(2, 1, { bias = false }))
  net[1].weight:copy(prune.tensor { { 3 }, { 4 } })
  net[2].weight:fill(0)
  local function added(regularizer)
    net(prune.zeros { 1, 1 }):sum():backward()
    net:zero_grad()
    net[1].weight.grad = prune.zeros { 2, 1 }
    regularizer:apply(net)
    return net[1].weight.grad:reshape(2):totable(), (select(2, regularizer:report()))
  end
  local shape = { 1 }
  local grad, total = added(prune.regularizer.group_hoyer { strength = 1, shape = shape })
  T.close(total, 49 / 25, 1e-6)
  T.close(grad, { 2 * 7 / 25 * (1 - 3 * 7 / 25), 2 * 7 / 25 * (1 - 4 * 7 / 25) }, 1e-6)
  grad, total = added(prune.regularizer.group_variance { strength = 1, eps = 0.75, shape = shape })
  T.close(total, 1, 1e-6) -- the variance is 1/4
  T.close(grad, { 0.5, -0.5 }, 1e-6) -- -1 / 1^2 * 2 / 2 * (-+ 1/2)
  grad, total = added(prune.regularizer.hoyer { strength = 0.5 })
  T.close(total, 0.5 * 49 / 25, 1e-6) -- the weight that is all zero has none
  T.close(grad, { 7 / 25 * (1 - 3 * 7 / 25), 7 / 25 * (1 - 4 * 7 / 25) }, 1e-6)
  grad, total = added(prune.regularizer.group_lasso { strength = 2, size_factor = true, shape = shape })
  T.close(total, 14, 1e-6) -- net[2].weight has no gradient, so a unit has one trained weight
  T.close(grad, { 2, 2 }, 1e-6)
end)

T.done()
