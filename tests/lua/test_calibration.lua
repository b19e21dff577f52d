-- Calibration: what runs a model over data for criteria, masks and repair leaves the model as it was.
local T = require "testing"
local prune = require "prune"
local nn, F = prune.nn, prune.nn.functional
local calibration = prune.calibration

local function build()
  prune.seed(4)
  local net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 3))
  net[2]:eval() -- a frozen norm in a model that trains
  net[5].bias.requires_grad = false
  net[1].weight.grad = prune.ones(net[1].weight:size())
  return net
end

local function batches(n)
  prune.seed(9)
  local list = {}
  for i = 1, n do list[i] = { prune.randn { 5, 1, 8, 8 }, prune.randint(1, 3, { 5 }) } end
  return list
end

local function state_of(net)
  local state = {}
  for name, p in net:named_parameters() do
    state[name] = { p:value():totable(), p.grad and p.grad:totable() or false, p.requires_grad }
  end
  for name, b in net:named_buffers() do state[name] = b:totable() end
  for name, module in net:named_modules() do state["mode " .. name] = { module.training, rawget(module, "forward") == nil } end
  return state
end

T.test("gradients are the mean over the batches, in evaluation mode, for frozen parameters too; the model is as it was", function()
  local net, data = build(), batches(3)
  local before = state_of(net)
  local got = calibration.gradients(net, data)
  T.equal(state_of(net), before)
  local direct = build():eval()
  direct[5].bias.requires_grad = true
  direct:zero_grad()
  local sum = 0
  for _, batch in ipairs(data) do sum = sum + F.cross_entropy(direct(batch[1]), batch[2]) end
  (sum / 3):backward()
  for name, p in net:named_parameters() do T.close(got[p], direct:parameter(name).grad, 1e-6, name) end
  assert(calibration.gradients(net, data, 1)[net[5].bias]:sub(got[net[5].bias]):abs():sum():item() > 1e-6, "batches counts")
end)

T.test("gradients are zeros where the loss does not reach", function()
  local net = build()
  net.unused = nn.Linear(2, 2)
  T.equal(calibration.gradients(net, batches(1))[net.unused.weight], { { 0, 0 }, { 0, 0 } })
end)

T.test("inputs shows each forward of the listed layers", function()
  local net, data = build(), batches(2)
  local before = state_of(net)
  local seen = {}
  calibration.inputs(net, { net[1], net[5] }, data, nil, function(module, x)
    assert(not prune.no_grad(function() return x.requires_grad end), "nothing is recorded")
    seen[#seen + 1] = { module == net[1] and 1 or 5, x:size() }
  end)
  T.equal(seen, { { 1, { 5, 1, 8, 8 } }, { 5, { 5, 144 } }, { 1, { 5, 1, 8, 8 } }, { 5, { 5, 144 } } })
  T.equal(state_of(net), before)
  local count = 0
  calibration.inputs(net, { net[5] }, data[1][1], 1, function() count = count + 1 end)
  calibration.inputs(net, { net[5] }, { data[1][1], data[2][1] }, nil, function() count = count + 1 end)
  T.equal(count, 3)
end)

T.test("an error on the way leaves the model as it was", function()
  local net, data = build(), batches(2)
  local before = state_of(net)
  T.raises(function() calibration.gradients(net, data, 2, function() error "no loss today" end) end, "no loss today")
  T.raises(function() calibration.gradients(net, data, 2, function(output) return output end) end, "one element")
  T.raises(function() calibration.inputs(net, { net[5] }, data, 1, function() error "seen enough" end) end, "seen enough")
  T.raises(function() calibration.gradients(net, { { prune.zeros { 1, 2 }, prune.ones { 1 } } }) end)
  T.equal(state_of(net), before)
end)

T.test("wrong arguments are named", function()
  local net, data = build(), batches(1)
  T.raises(function() calibration.gradients({}, data) end, "must be a module")
  T.raises(function() calibration.gradients(net, nil) end, "data must have batches")
  T.raises(function() calibration.gradients(net, {}) end, "empty table")
  T.raises(function() calibration.gradients(net, { 3 }) end, "each batch of a list")
  T.raises(function() calibration.gradients(net, data, 0) end, "batches must be an integer")
  T.raises(function() calibration.gradients(net, { batches = function() return function() end end }) end, "no batch")
  T.raises(function() calibration.inputs(net, {}, data, 1, print) end, "list of modules")
  T.raises(function() calibration.inputs(net, { nn.Linear(1, 1) }, data, 1, print) end, "not a module of this model")
  T.raises(function() calibration.inputs(net, { net[5], net[5] }, data, 1, print) end, "twice")
end)

T.done()
