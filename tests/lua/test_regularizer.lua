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
  T.raises(function() prune.regularizer.group_lasso {} end, "option 'shape'")
  T.raises(function() prune.regularizer.bn_scale():apply(prune.nn.ReLU()) end, "no batch norm")
end)

T.done()
