-- What mends a model after pruning: statistics measured anew.
local T = require "testing"
local prune = require "prune"
local nn, F = prune.nn, prune.nn.functional

local function batches(n, shape)
  local list = {}
  for i = 1, n do list[i] = prune.randn(shape) * i + i end
  return list
end

T.test("batch norm: running statistics become the exact mean and variance over all batches, of unequal size too", function()
  prune.seed(1)
  local net = nn.Sequential(nn.BatchNorm2d(3, { momentum = 0.25 })):to "f64"
  local data = { prune.randn({ 4, 3, 5, 5 }):to "f64", (prune.randn { 7, 3, 5, 5 } * 3 + 2):to "f64", (prune.randn { 2, 3, 5, 5 } - 1):to "f64" }
  prune.repair.batch_norm(net, data)
  local all = F.cat(data, 1):permute { 2, 1, 3, 4 }:reshape(3, -1)
  T.close(net[1].running_mean, all:mean { dim = { 2 } }, 1e-13)
  T.close(net[1].running_var, all:var { dim = { 2 } }, 1e-13)
end)

T.test("batch norm: later layers see what training would feed them, momentum plays no part, dropout drops nothing", function()
  prune.seed(2)
  local function build(momentum)
    prune.seed(3)
    local net = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4, { momentum = momentum }), nn.ReLU(), nn.Dropout(0.5), nn.Conv2d(4, 5, 3),
      nn.BatchNorm2d(5, { momentum = momentum }))
    return net:to "f64"
  end
  local x = prune.randn({ 6, 2, 8, 8 }):to "f64"
  local net, other = build(0.1), build(0)
  prune.repair.batch_norm(net, { x })
  prune.repair.batch_norm(other, { x })
  local a = net[1](x)
  local hidden = net[5](F.relu(F.batch_norm(a, net[2].weight, net[2].bias, nil, nil, { training = true })))
  hidden = hidden:permute { 2, 1, 3, 4 }:reshape(5, -1)
  T.close(net[6].running_mean, hidden:mean { dim = { 2 } }, 1e-12)
  T.close(net[6].running_var, hidden:var { dim = { 2 } }, 1e-12)
  T.close(other[6].running_var, net[6].running_var, 1e-14)
end)

T.test("batch norm: a layer that runs twice takes both uses together; instance norm averages its images", function()
  prune.seed(4)
  local Twice = nn.module("Twice", function(self) self.norm = nn.BatchNorm1d(3) end)
  function Twice:forward(x) return self.norm(x) + self.norm(x * 2 + 1) end
  local net = Twice():to "f64"
  local x = prune.randn({ 9, 3 }):to "f64"
  prune.repair.batch_norm(net, { x })
  local both = F.cat({ x, x * 2 + 1 }, 1)
  T.close(net.norm.running_mean, both:mean { dim = { 1 } }, 1e-13)
  T.close(net.norm.running_var, both:var { dim = { 1 } }, 1e-13)
  local instance = nn.Sequential(nn.InstanceNorm2d(2, { track_running_stats = true })):to "f64"
  local images = { prune.randn({ 3, 2, 4, 4 }):to "f64", (prune.randn { 5, 2, 4, 4 } * 2):to "f64" }
  prune.repair.batch_norm(instance, images)
  local flat = F.cat(images, 1):reshape(8, 2, 16)
  T.close(instance[1].running_var, flat:var({ dim = { 3 } }):mean { dim = { 1 } }, 1e-13)
end)

T.test("batch norm: mode, parameters and random numbers stay; a graph module and masked weights work alike", function()
  prune.seed(5)
  local net = prune.models.cnn { classes = 10, channels = 1, width = 4 }
  prune.mask.l1_unstructured(net.conv2.weight, { amount = 0.5 })
  local data = prune.data.load("", { batch = 32, limit = 96, threads = 0 })
  net:train()
  net.conv1:eval()
  local weight = net.conv1.weight:clone()
  local copy = prune.graph(net, { 1, 8, 8 }):module()
  prune.repair.batch_norm(net, data, { batches = 2 })
  T.equal(net.training and not net.conv1.training, true)
  T.equal(net.conv1.weight:equal(weight), true)
  T.equal(net.conv2.weight.mask:sum():item(), 4 * 8 * 9 / 2)
  local x = { prune.randn { 8, 1, 8, 8 }, prune.randn { 3, 1, 8, 8 } }
  prune.repair.batch_norm(net, x)
  local of_code = net.bn3.running_var:clone()
  net.bn3.running_var:copy(prune.ones(16))
  prune.repair.batch_norm(copy, x) -- over the same tensors
  T.equal(copy.training, true)
  T.equal(net.bn3.running_var:equal(of_code), true)
end)

T.test("batch norm: nothing changes when the data end in an error or the statistics are not finite", function()
  prune.seed(6)
  local net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
  local mean = net[2].running_mean:clone()
  local function unchanged() T.equal(net[2].running_mean:equal(mean) and net.training, true) end
  local failing = { batches = function()
    local i = 0
    return function()
      i = i + 1
      if i == 3 then error "the disk is gone" end
      return prune.randn { 5, 3 }
    end
  end }
  T.raises(function() prune.repair.batch_norm(net, failing) end, "the disk is gone")
  unchanged()
  T.raises(function() prune.repair.batch_norm(net, { prune.full({ 4, 3 }, 0 / 0) }) end, "statistics of '1' are not finite")
  unchanged()
  T.raises(function() prune.repair.batch_norm(net, {}) end, "data must have batches .* an empty table")
  T.raises(function() prune.repair.batch_norm(net, 3) end, "got number")
  T.raises(function() prune.repair.batch_norm(net, batches(2, { 4, 3 }), { batch = 3 }) end, "did you mean 'batches'")
  T.raises(function() prune.repair.batch_norm(net, batches(2, { 4, 3 }), { batches = 0 }) end, "batches must be an integer")
  T.raises(function() prune.repair.batch_norm(nn.Sequential(nn.Linear(3, 4)), batches(1, { 4, 3 })) end, "no batch norm")
  T.raises(function() prune.repair.batch_norm("net", batches(1, { 4, 3 })) end, "must be a module")
  unchanged()
end)

T.done()
