-- Models without values: prune.meta makes parameters that are shapes only; what needs shapes works on them, what needs values says so.
local T = require "testing"
local prune = require "prune"
local nn, F = prune.nn, prune.nn.functional

local Residual = nn.module("Residual", function(self, layers, width)
  self.stem = nn.Conv2d(3, width, 3, { padding = 1 })
  for i = 1, layers do self["block" .. i] = nn.Sequential(nn.Conv2d(width, width, 3, { padding = 1 }), nn.BatchNorm2d(width), nn.ReLU()) end
  self._layers, self.fc = layers, nn.Linear(width, 10)
end)
function Residual:forward(x)
  x = self.stem(x)
  for i = 1, self._layers do x = x + self["block" .. i](x) end
  return self.fc(F.flatten(F.adaptive_avg_pool2d(x, { output_size = 1 }), { start_dim = 2 }))
end
local shape = { 3, 8, 8 }

T.test("a model of 1.9 GB of parameters takes no memory to make, trace, group, plan and prune", function()
  collectgarbage()
  prune.empty_cache()
  prune.reset_peak_memory()
  local before = prune.memory()
  local net = prune.meta(function() return Residual(200, 512) end)
  assert(net.block7[1].weight.device == "meta")
  local graph = prune.graph(net, shape)
  local _, _, params = graph:cost()
  assert(params * 4 > 1.8e9, "not a large model")
  local plan = prune.structured(net, shape, { ratio = 0.5, criterion = prune.criterion.random() })
  T.equal(#plan.units, 256)
  assert(prune.summary(net, shape):find "block200")
  plan:apply()
  T.equal(net.block200[1].weight:size(), { 256, 256, 3, 3 })
  T.equal(net.fc.weight:size(), { 10, 256 })
  assert(prune.memory().peak - before.live < 2e8, ("%d bytes"):format(prune.memory().peak - before.live))
end)

T.test("shapes agree with those of the real model", function()
  local real, meta = Residual(3, 8), prune.meta(function() return Residual(3, 8) end)
  local a, b = prune.profile(real, shape), prune.profile(meta, shape)
  T.equal({ b.macs, b.params, b.buffers, b.sparsity }, { a.macs, a.params, a.buffers })
  local x, y = prune.graph(real, shape):groups(), prune.graph(meta, shape):groups()
  T.equal(#x, #y)
  for i = 1, #x do T.equal(tostring(x[i]), tostring(y[i])) end
  T.equal(meta(prune.randn { 5, 3, 8, 8 }):size(), { 5, 10 })
  -- a criterion that looks at shapes
  local plan = prune.structured(meta, shape, { ratio = 0.25, criterion = function(group) return prune.arange(group.size) end })
  plan:apply()
  T.equal(meta.stem.weight:size(1), 6)
  T.equal(meta:clone().stem.weight:size(1), 6)
  T.equal(meta:to("f64").stem.weight.dtype, "f64")
end)

T.test("one tensor, or all in a function; what is listed has values", function()
  for _, make in ipairs { prune.zeros, prune.ones, prune.empty, prune.rand, prune.randn } do
    T.equal(make({ 2, 3 }, { device = "meta" }).device, "meta")
    T.equal(make({ 2, 3 }).device, "cpu")
  end
  local listed, filled, n = prune.meta(function(k) return prune.tensor { 1, 2 }, prune.full({ 2 }, 7), k end, 5)
  T.equal({ listed:totable(), filled.device, n }, { { 1, 2 }, "meta", 5 })
  T.raises(function() prune.zeros({ 2 }, { device = "cuda9" }) end, "no device 'cuda9' in this build")
  -- an error inside leaves nothing behind
  T.raises(function() prune.meta(function() error "on purpose" end) end, "on purpose")
  T.equal(prune.zeros({ 1 }).device, "cpu")
end)

T.test("reading a value is an error that says why; writing one does nothing", function()
  local net = prune.meta(function() return Residual(1, 4) end)
  local w = net.stem.weight
  nn.init.kaiming_normal(w)
  nn.init.truncated_normal(w)
  w:fill(3):copy(prune.zeros { 4, 3, 3, 3 })
  local reason = "meta device"
  T.raises(function() return w:totable() end, reason)
  T.raises(function() return w:sum():item() end, reason)
  T.raises(function() return w:equal(w) end, reason)
  T.raises(function() prune.zeros({ 4, 3, 3, 3 }):copy(w) end, reason)
  T.raises(function() prune.structured(net, shape, { ratio = 0.5 }) end, reason)
  local plan = prune.structured(net, shape, { ratio = 0.5, criterion = prune.criterion.random() })
  T.raises(function() prune.verify(net, plan) end, reason)
  T.raises(function() prune.save(T.scratch "net.h5", net) end, "is on meta")
end)

T.test("constants without values may stand in a model", function()
  local Net = nn.module("Net", function(self) self.fc, self._table = nn.Linear(4, 6), prune.randn { 6 } end)
  function Net:forward(x) return F.linear(self.fc(x) * self._table, self.fc.weight:transpose()) end
  local net = prune.meta(function() return Net() end)
  for _ = 1, 2 do T.equal(#prune.graph(net, { 4 }):tensors(), 3) end
end)

T.done()
