-- Criteria: each score against its formula worked out by hand, by brute force or on constructed cases; what is gathered leaves no trace.
local T = require "testing"
local prune = require "prune"
local networks = require "networks"
local nn, F, criterion, calibration = prune.nn, prune.nn.functional, prune.criterion, prune.calibration

-- --- helpers --------------------------------------------------------------------------------------------------------

local shape = { { shape = { 1, 6, 6 }, dtype = "f64" } }

-- Two coupled convolutions over a residual path, a flatten before the last layer.
local Residual = nn.module("Residual", function(self)
  self.conv1, self.bn = nn.Conv2d(1, 4, 3, { padding = 1 }), nn.BatchNorm2d(4)
  self.conv2, self.fc = nn.Conv2d(4, 4, 3, { padding = 1 }), nn.Linear(4 * 36, 3)
end)
function Residual:forward(x)
  local h = F.relu(self.bn(self.conv1(x)))
  if self.masks then h = h * self.ones end -- the residual path is not masked
  local z = F.relu(h + self.conv2(self.masks and h * self.masks or h))
  if self.masks then z = z * self.masks end
  return self.fc(F.flatten(z, 2))
end

local function residual()
  prune.seed(3)
  local net = Residual()
  nn.init.uniform(net.bn.weight, 0.5, 1.5)
  nn.init.normal(net.bn.running_mean)
  return net:to "f64"
end

local function batches(n, size)
  prune.seed(8)
  local list = {}
  for i = 1, n do list[i] = { prune.randn({ size, 1, 6, 6 }):to "f64", prune.randint(1, 3, { size }) } end
  return list
end

local function whole(graph, name)
  local all = {}
  for i = 1, graph:state().net:parameter(name):size(1) do all[i] = i end
  return graph:group(name, 1, all)
end

local function scores(measure, net, inputs, name, data, more)
  local graph = prune.graph(net, inputs)
  local given = { data = data }
  for k, v in pairs(more or {}) do given[k] = v end
  return criterion.prepare(measure, net, graph, given)(whole(graph, name)):totable()
end

-- Mean over the weight parts of sums of f(w, with), row by row.
local function by_rows(net, inputs, name, with, f, wanted)
  local total, parts = nil, 0
  for part in whole(prune.graph(net, inputs), name):parts() do
    if part.parameter:dim() > 1 and (not wanted or wanted(part)) then
      local s = f(part:rows(), with and part:rows(with[part.parameter])):sum { 2 }
      total, parts = total and total + s or s, parts + 1
    end
  end
  return (total / parts):totable()
end

local plain = { normalizer = "none" }

-- Everything that must be as it was.
local function state_of(net)
  local state = {}
  for name, p in net:named_parameters() do
    state[name] = { p:dense():totable(), p.grad and p.grad:totable() or false, p.requires_grad, p.mask and p.mask:totable() or false }
    for _, slot in ipairs(p:slots()) do state[name .. "/" .. slot[1]] = slot[2]:totable() end
  end
  for name, b in net:named_buffers() do state[name] = b:totable() end
  for name, module in net:named_modules() do state["mode " .. name] = module.training end
  return state
end

-- --- weights --------------------------------------------------------------------------------------------------------

local function chain(weights)
  local net = nn.Sequential(nn.Linear(2, #weights, { bias = false }), nn.ReLU(), nn.Linear(#weights, 2, { bias = false }))
  net[1].weight:copy(prune.tensor(weights))
  net[3].weight:fill(1)
  return net
end

T.test("normalisers give the known values on 1, 2, 3, 4", function()
  local net = chain { { 1, 0 }, { -2, 0 }, { 1, 2 }, { 0, 4 } }
  local expected = {
    none = { 1, 2, 3, 4 }, sum = { .1, .2, .3, .4 }, mean = { .4, .8, 1.2, 1.6 }, max = { .25, .5, .75, 1 },
    minmax = { 0, 1 / 3, 2 / 3, 1 }, gaussian = { -1.161895, -.387298, .387298, 1.161895 }, quantile = { 1 / 3, 2 / 3, 1, 4 / 3 },
    lamp = { .1, 2 / 9, 3 / 7, 1 },
  }
  for normalizer, wanted in pairs(expected) do
    T.close(scores(criterion.magnitude { p = 1, reduction = "first", normalizer = normalizer }, net, { 2 }, "0.weight"), wanted, 1e-6,
      normalizer)
  end
  local quarter = criterion.magnitude { p = 1, reduction = "first", normalizer = "quantile", quantile = 0.25 }
  T.close(scores(quarter, net, { 2 }, "0.weight"), { .5, 1, 1.5, 2 }, 1e-6)
end)

T.test("equal scores normalise to numbers, not to NaN", function()
  local net = chain { { 1, 0 }, { 0, 1 } }
  for _, normalizer in ipairs { "sum", "mean", "max", "minmax", "gaussian", "quantile", "lamp" } do
    for _, s in ipairs(scores(criterion.magnitude { normalizer = normalizer }, net, { 2 }, "0.weight")) do assert(s == s, normalizer) end
  end
end)

T.test("no normaliser turns the order of scores below 0 round; lamp refuses them", function()
  local net = chain { { 1, 0 }, { 1, 0 }, { 1, 0 }, { 1, 0 } }
  net[1].weight:set_slot("movement", prune.tensor { { -1, 0 }, { -2, 0 }, { 0.5, 0 }, { -0.25, 0 } })
  net[3].weight:set_slot("movement", prune.zeros { 2, 4 })
  local expected = {
    sum = { -1 / 2.75, -2 / 2.75, .5 / 2.75, -.25 / 2.75 }, mean = { -4 / 2.75, -8 / 2.75, 2 / 2.75, -1 / 2.75 }, max = { -2, -4, 1, -.5 },
    quantile = { -4, -8, 2, -1 }, minmax = { .4, 0, 1, .7 }, gaussian = { -.292603, -1.228931, 1.111890, .409644 },
  }
  for normalizer, wanted in pairs(expected) do
    local movement = criterion.movement { normalizer = normalizer, reduction = "first" }
    T.close(scores(movement, net, { 2 }, "0.weight"), wanted, 1e-5, normalizer)
  end
  net[1].weight:set_slot("movement", prune.tensor { { -1, 0 }, { 0, 0 }, { 0, 0 }, { 1, 0 } }) -- mean and median are 0
  for _, normalizer in ipairs { "sum", "mean", "quantile" } do
    local movement = criterion.movement { normalizer = normalizer, reduction = "first" }
    T.close(scores(movement, net, { 2 }, "0.weight"), { -1, 0, 0, 1 }, 1e-6, normalizer)
  end
  T.raises(function() scores(criterion.movement { normalizer = "lamp" }, net, { 2 }, "0.weight") end, "lamp needs scores of at least 0")
end)

T.test("lamp is squared magnitude over what is not smaller", function()
  local net = chain { { 1, 0 }, { 0, 1.5 }, { 2, 0 } } -- with the next layer's ones: (1 + 2) / 2, (2.25 + 2) / 2, (4 + 2) / 2
  T.close(scores(criterion.lamp(), net, { 2 }, "0.weight"), { 1.5 / 6.625, 2.125 / 5.125, 1 }, 1e-6)
end)

T.test("fpgm: true distances, in which the sign of a filter counts", function()
  local net = chain { { 1, 0 }, { -1, 0 }, { 0, 0 } }
  local filters = criterion.fpgm { reduction = "first", normalizer = "none" }
  T.close(scores(filters, net, { 2 }, "0.weight"), { 3, 3, 2 }, 1e-6)
  local r = residual()
  T.close(scores(criterion.fpgm(plain), r, shape, "conv1.weight"), (function()
    local total, parts = nil, 0
    for part in whole(prune.graph(r, shape), "conv1.weight"):parts() do
      if part.parameter:dim() > 1 then
        local rows = part:rows()
        local d = (rows:unsqueeze { dim = 1 } - rows:unsqueeze { dim = 2 }):square():sum { 3 }:sqrt():sum { 2 }
        total, parts = total and total + d or d, parts + 1
      end
    end
    return (total / parts):totable()
  end)(), 1e-6)
end)

T.test("magnitude with any p, of channels-last and masked weights", function()
  local net = residual()
  prune.mask.l1_unstructured(net.conv2.weight, { amount = 0.4 })
  for _, p in ipairs { 1, 2, 3.5 } do
    local wanted, parts = nil, 0
    for part in whole(prune.graph(net, shape), "conv1.weight"):parts() do
      if part.name:match "weight$" then
        local s = (part:rows():abs() ^ p):sum { 2 }
        wanted, parts = wanted and wanted + s or s, parts + 1
      end
    end
    T.close(scores(criterion.magnitude { p = p, normalizer = "none" }, net, shape, "conv1.weight"), (wanted / parts):totable(), 1e-9)
  end
end)

-- --- gradients ------------------------------------------------------------------------------------------------------

T.test("taylor, snip: from data as from gradients on the parameters; norms count by option", function()
  local net, data = residual(), batches(2, 4)
  local g = calibration.gradients(net, data)
  local function product(w, d) return (w * d):abs() end
  local wanted = by_rows(net, shape, "conv1.weight", g, product)
  T.close(scores(criterion.taylor(plain), net, shape, "conv1.weight", data), wanted, 1e-9)
  local sums = by_rows(net, shape, "conv1.weight", g, function(w, d) return (w * d):abs() * 4 end) -- four parts
  T.close(scores(criterion.snip(), net, shape, "conv1.weight", data), sums, 1e-9)
  local with = scores(criterion.taylor { norms = true, normalizer = "none", reduction = "sum" }, net, shape, "conv1.weight", data)
  local without = scores(criterion.taylor { normalizer = "none", reduction = "sum" }, net, shape, "conv1.weight", data)
  T.close(prune.tensor(with):to "f64" - prune.tensor(without):to "f64", (net.bn.weight:value() * g[net.bn.weight]):abs(), 1e-6)
  for p, t in pairs(g) do p.grad = t end
  T.close(criterion.taylor(plain)(whole(prune.graph(net, shape), "conv1.weight")):totable(), wanted, 1e-9)
end)

T.test("squared gradients are the mean over samples of each sample's own, checked by finite differences", function()
  local net, data = residual(), batches(2, 3)
  local squares = calibration.squared_gradients(net, data)
  net:eval()
  local w, h = net.conv1.weight, 1e-5
  for _, at in ipairs { { 1, 1, 1, 1 }, { 2, 1, 3, 2 }, { 4, 1, 2, 2 } } do
    local function shifted(by)
      local d = prune.zeros(w:size()):to "f64"
      d[at] = by
      return d
    end
    local sum, n = 0, 0
    for _, batch in ipairs(data) do
      for i = 1, 3 do
        local x, y = batch[1]:narrow { dim = 1, start = i, length = 1 }, batch[2]:narrow { dim = 1, start = i, length = 1 }
        local function loss(by)
          local kept = w:dense():clone()
          w:copy(kept + shifted(by))
          local value = prune.no_grad(function() return F.cross_entropy(net(x), y):item() end)
          w:copy(kept)
          return value
        end
        sum, n = sum + ((loss(h) - loss(-h)) / (2 * h)) ^ 2, n + 1
      end
    end
    T.close(squares[w][at]:item(), sum / n, 1e-7)
  end
end)

T.test("obd is w^2 F / 2 over all coupled weights, eigendamage w^2 (F + 1e-10) over those that make the unit", function()
  local net, data = residual(), batches(2, 3)
  local squares = calibration.squared_gradients(net, data)
  T.close(scores(criterion.obd(plain), net, shape, "conv1.weight", data),
    by_rows(net, shape, "conv1.weight", squares, function(w, f) return w * w * f * 0.5 end), 1e-12)
  T.close(scores(criterion.eigendamage(plain), net, shape, "conv1.weight", data),
    by_rows(net, shape, "conv1.weight", squares, function(w, f) return w * w * (f + 1e-10) end,
      function(part) return part.producer end), 1e-12)
  assert(criterion.hessian == criterion.obd)
  local linear = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 3)):to "f64"
  local x = { { prune.randn({ 6, 3 }):to "f64", prune.randint(1, 3, { 6 }) } }
  local s = scores(criterion.eigendamage(plain), linear, { { shape = { 3 }, dtype = "f64" } }, "0.weight", x)
  T.close(s, by_rows(linear, { { shape = { 3 }, dtype = "f64" } }, "0.weight", calibration.squared_gradients(linear, x),
    function(w, f) return w * w * (f + 1e-10) end, function(part) return part.producer end), 1e-12)
end)

T.test("H g is exact where the loss is quadratic; grasp is the sum of w (H g)", function()
  local net = nn.Sequential(nn.Linear(3, 2, { bias = false })):to "f64"
  prune.seed(5)
  local x, y = prune.randn({ 7, 3 }):to "f64", prune.randn({ 7, 2 }):to "f64"
  local function loss(output, target) return (output - target):square():sum() / 7 end
  local w = net[1].weight
  local xt, yt = x:transpose(), y:transpose()
  local g = (w:value():matmul(xt) - yt):matmul(x) * (2 / 7)
  local hg = g:matmul(xt:matmul(x)) * (2 / 7)
  T.close(calibration.hessian_gradient(net, { { x, y } }, nil, loss)[w], hg, 1e-8)
  local r, data = residual(), batches(1, 4)
  T.close(scores(criterion.grasp(), r, shape, "conv1.weight", data), by_rows(r, shape, "conv1.weight",
    calibration.hessian_gradient(r, data), function(v, d) return v * d * 4 end), 1e-9)
end)

T.test("H g by differences is that of the point where the loss is smooth", function()
  prune.seed(6)
  local net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(64, 3)):to "f64"
  local data = batches(2, 4)
  local wanted, wide = calibration.hessian_gradient(net, data, nil, nil, 1e-6), calibration.hessian_gradient(net, data)
  local off, all = 0, 0
  for p, t in pairs(wanted) do off, all = off + (wide[p] - t):square():sum():item(), all + t:square():sum():item() end
  assert(math.sqrt(off / all) < 1e-3, math.sqrt(off / all))
  for i, batch in ipairs(data) do data[i] = { batch[1]:to "f32", batch[2] } end
  local narrow, sum = calibration.hessian_gradient(net:to "f32", data), 0
  for p, t in pairs(wanted) do sum = sum + (narrow[p]:to "f64" - t):square():sum():item() end
  assert(math.sqrt(sum / all) < 1e-3, "in f32 rounding does not show")
end)

T.test("synflow: what flows through every layer is the whole flow; data, biases and signs do not matter", function()
  local net = residual()
  local graph = prune.graph(net, shape)
  local flows = calibration.synaptic_flow(graph)
  local function through(p) return (p:value():abs() * flows[p]):sum():item() end
  local whole_flow = through(net.fc.weight)
  assert(whole_flow > 0)
  T.close(through(net.conv1.weight), whole_flow, 1e-9 * whole_flow) -- every path begins in conv1 and passes bn
  T.close(through(net.bn.weight), whole_flow, 1e-9 * whole_flow)
  T.close(scores(criterion.synflow(), net, shape, "conv1.weight"), by_rows(net, shape, "conv1.weight", flows,
    function(w, f) return w:abs() * f * 4 end), 1e-9 * whole_flow)
  local before = scores(criterion.synflow(), net, shape, "conv1.weight")
  net.fc.weight:copy(-net.fc.weight:dense())
  net.conv1.bias:copy(net.conv1.bias:dense() + 3)
  T.close(scores(criterion.synflow(), net, shape, "conv1.weight"), before, 1e-9 * whole_flow)
end)

T.test("movement adds -w g over steps, follows a removal, and serves the Trainer", function()
  local net, data = residual(), batches(2, 4)
  local movement, sum = criterion.movement(plain), nil
  local optimizer = prune.optim.SGD(net, { lr = 0.1, momentum = 0.9 })
  net:train()
  for _, batch in ipairs(data) do
    optimizer:zero_grad()
    F.cross_entropy(net(batch[1]), batch[2]):backward()
    movement:apply(net)
    local step = -(net.conv1.weight:value() * net.conv1.weight.grad)
    sum = sum and sum + step or step
    optimizer:step()
  end
  local group = whole(prune.graph(net, shape), "conv1.weight")
  local s = movement(group):totable()
  for part in group:parts() do
    if part.name == "conv1.weight" then
      local first = criterion.movement { reduction = "first", normalizer = "none" }(group):totable()
      T.close(first, part:rows(sum):sum { 2 }:totable(), 1e-9)
    end
  end
  group:pick { 2 }:remove()
  local left = movement(whole(prune.graph(net, shape), "conv1.weight")):totable()
  T.close(left, { s[1], s[3], s[4] }, 1e-1) -- the other sums lose the removed unit's share
  local first = criterion.movement { reduction = "first", normalizer = "none" }(whole(prune.graph(net, shape), "conv1.weight")):totable()
  T.close(first, (function()
    local rows = sum:reshape { 4, 9 }:sum { 2 }:totable()
    return { rows[1], rows[3], rows[4] }
  end)(), 1e-9)
  local fresh = residual()
  local watch = criterion.movement()
  prune.Trainer(fresh, { optimizer = prune.optim.SGD(fresh, { lr = 0.01 }), regularizer = watch, quiet = true }):fit(
    { batches = function() local i = 0 return function() i = i + 1 if data[i] then return data[i][1], data[i][2] end end end,
      __len = function() return #data end }, { epochs = 1 })
  assert(#watch(whole(prune.graph(fresh, shape), "conv1.weight")):totable() == 4)
  local frozen = residual()
  frozen.conv2.weight.requires_grad = false
  watch = criterion.movement { normalizer = "none", reduction = "sum" }
  watch:apply(frozen) -- nothing was learnt yet
  T.raises(function() watch(whole(prune.graph(frozen, shape), "conv1.weight")) end, "has no movement")
  F.cross_entropy(frozen(data[1][1]), data[1][2]):backward()
  watch:apply(frozen)
  local fc = -(frozen.fc.weight:value() * frozen.fc.weight.grad):reshape { 3, 4, 36 }:sum { 1, 3 }
  local conv = -(frozen.conv1.weight:value() * frozen.conv1.weight.grad):sum { 2, 3, 4 }
  T.close(watch(whole(prune.graph(frozen, shape), "conv1.weight")), fc + conv, 1e-12) -- what is frozen does not move
  T.raises(function() criterion.taylor():apply(net) end, "only movement")
  T.raises(function() criterion.movement().apply(net) end, "criterion:apply%(net%), got table")
  T.close(scores(criterion.movement(plain), net, shape, "conv1.weight", data), by_rows(net, shape, "conv1.weight",
    calibration.gradients(net, data), function(w, g) return -(w * g) end), 1e-9)
end)

-- --- activations ----------------------------------------------------------------------------------------------------

T.test("group_fisher is the squared gradient of a mask that all layers read through, summed over samples", function()
  local net, data = residual(), batches(2, 3)
  local got = scores(criterion.group_fisher { cost = "none" }, net, shape, "conv1.weight", data)
  local masked = residual():eval()
  rawset(masked, "masks", prune.ones { 1, 4, 1, 1 }:to "f64")
  rawset(masked, "ones", prune.ones { 1 }:to "f64")
  masked.masks.requires_grad = true
  local sum, n = prune.zeros { 4 }:to "f64", 0
  for _, batch in ipairs(data) do
    for i = 1, 3 do
      masked.masks.grad = nil
      F.cross_entropy(masked(batch[1]:narrow { dim = 1, start = i, length = 1 }), batch[2]:narrow { dim = 1, start = i, length = 1 })
        :backward()
      sum, n = sum + masked.masks.grad:reshape { 4 }:square(), n + 1
    end
  end
  T.close(got, (sum / (2 * n)):totable(), 1e-9)
  local all = prune.profile(net, shape).macs
  local smaller = residual()
  prune.graph(smaller, shape):group("conv1.weight", 1, { 1 }):remove()
  local saved = all - prune.profile(smaller, shape).macs
  local by_macs = scores(criterion.group_fisher(), net, shape, "conv1.weight", data)
  for u = 1, 4 do T.close(by_macs[u] * saved, got[u], 1e-9) end
  local by_memory = scores(criterion.group_fisher { cost = "memory" }, net, shape, "conv1.weight", data)
  for u = 1, 4 do T.close(by_memory[u] * 2 * 2 * 36, got[u], 1e-9) end -- two layers make 36 entries each, traced with a batch of two
end)

-- What the first convolution makes is read by the second: its input, for inputs without negative numbers.
local function reader(channels)
  local net = nn.Sequential(nn.Conv2d(channels, channels, 1, { bias = false }), nn.ReLU(), nn.Conv2d(channels, 2, 1), nn.Flatten(),
    nn.Linear(2 * 16, 2))
  for u = 1, channels do
    for v = 1, channels do net[1].weight[{ u, v, 1, 1 }] = u == v and 1 or 0 end
  end
  return net
end

T.test("hrank: the mean rank of feature maps of known rank", function()
  prune.seed(2)
  local function of_rank(r) return prune.rand { 4, r }:matmul(prune.rand { r, 4 }) end
  local samples = {}
  for i = 1, 2 do samples[i] = F.stack({ of_rank(1), of_rank(2), of_rank(4), prune.zeros { 4, 4 }, of_rank(2 + i) }, 1) end
  local x = F.stack(samples, 1)
  T.close(scores(criterion.hrank(), reader(5), { 5, 4, 4 }, "0.weight", x), { 1, 2, 4, 0, 3.5 }, 1e-9)
end)

T.test("hrank looks at maps before they are flattened or pooled", function()
  local net = nn.Sequential(nn.Conv2d(1, 2, 1, { bias = false }), nn.ReLU(), nn.Flatten(), nn.Linear(2 * 16, 2))
  net[1].weight:fill(1)
  prune.seed(2)
  local x = (prune.rand { 4, 3 }:matmul(prune.rand { 3, 4 })):reshape { 1, 1, 4, 4 }
  T.close(scores(criterion.hrank(), net, { 1, 4, 4 }, "0.weight", x), { 3, 3 }, 1e-9)
end)

T.test("chip: how much the nuclear norm falls without a channel", function()
  local x = prune.zeros { 1, 3, 4, 4 }
  for i = 1, 4 do
    x[{ 1, 1, 1, i }], x[{ 1, 2, 1, i }] = i, i -- two equal channels
    x[{ 1, 3, 2, i }] = 2                       -- one on places of its own
  end
  local a = math.sqrt(1 + 4 + 9 + 16)
  local wanted = { (math.sqrt(2) - 1) * a, (math.sqrt(2) - 1) * a, 4 }
  T.close(scores(criterion.chip(), reader(3), { 3, 4, 4 }, "0.weight", x), wanted, 1e-5)
  -- more channels than places: the inner products of places serve
  local tall = nn.Sequential(nn.Linear(3, 3, { bias = false }), nn.ReLU(), nn.Linear(3, 2))
  for u = 1, 3 do
    for v = 1, 3 do tall[1].weight[{ u, v }] = u == v and 1 or 0 end
  end
  T.close(scores(criterion.chip(), tall, { 3 }, "0.weight", prune.tensor { { 3, 4, 12 } }),
    { 13 - math.sqrt(160), 13 - math.sqrt(153), 8 }, 1e-5)
end)

T.test("activation, apoz and wanda see what the next layers read", function()
  local net, data = residual(), batches(2, 3)
  net:eval()
  local h, z = {}, {}
  for i, batch in ipairs(data) do
    prune.no_grad(function()
      h[i] = F.relu(net.bn(net.conv1(batch[1])))
      z[i] = F.relu(h[i] + net.conv2(h[i]))
    end)
  end
  h, z = F.cat(h, 1), F.cat(z, 1)
  local places = { 1, 3, 4 }
  T.close(scores(criterion.activation(plain), net, shape, "conv1.weight", data), ((h:mean(places) + z:mean(places)) / 2):totable(), 1e-9)
  local function alive(t) return t:gt(0):to("f64"):mean(places) end
  T.close(scores(criterion.apoz(), net, shape, "conv1.weight", data), ((alive(h) + alive(z)) / 2):totable(), 1e-9)
  local none = scores(criterion.apoz { threshold = 1e9 }, net, shape, "conv1.weight", data)
  T.equal(none, { 0, 0, 0, 0 })
  local norms = h:square():sum(places):sqrt()
  local by_conv = norms * net.conv2.weight:value():abs():sum { 1, 3, 4 }
  local places_of_fc = z:square():sum { 1 }:sqrt():reshape { 144 }
  local by_fc = (places_of_fc * net.fc.weight:value():abs():sum { 1 }):reshape { 4, 36 }:sum { 2 }
  T.close(scores(criterion.wanda { normalizer = "none" }, net, shape, "conv1.weight", data), (by_conv + by_fc):totable(), 1e-8)
end)

T.test("wanda: convolution in groups meets the mean norm", function()
  local net = nn.Sequential(nn.Conv2d(1, 4, 1), nn.ReLU(), nn.Conv2d(4, 4, 1, { groups = 2 }), nn.ReLU(), nn.Flatten(), nn.Linear(64, 2))
  local graph = prune.graph(net, { 1, 4, 4 })
  for _, group in ipairs(graph:groups()) do
    local s = criterion.prepare(criterion.wanda(), net, graph, { data = prune.rand { 3, 1, 4, 4 } })(group)
    for _, value in ipairs(s:totable()) do assert(value == value and value >= 0) end
  end
end)

local function Attention() return networks.Attention(8, 2, true) end

T.test("wanda: of widths of queries and keys, which no weight reads, the norms", function()
  local Product = nn.module("Product", function(self)
    self.q, self.k, self.v, self.fc = nn.Linear(5, 4), nn.Linear(5, 4), nn.Linear(5, 6), nn.Linear(6, 2)
  end)
  function Product:forward(x) return self.fc(F.softmax(self.q(x):matmul(self.k(x):transpose(2, 3)), { dim = 3 }):matmul(self.v(x))) end
  prune.seed(9)
  local net, x = Product():to "f64", prune.randn({ 3, 7, 5 }):to "f64"
  local got = scores(criterion.wanda { normalizer = "none" }, net, { { shape = { 7, 5 }, dtype = "f64" } }, "q.weight", x)
  local function norms(layer) return layer(x):square():sum({ 1, 2 }):sqrt() end
  T.close(got, (norms(net.q) + norms(net.k)):totable(), 1e-9)
  local decoder = prune.models.gpt { vocabulary = 20, width = 16, layers = 1, heads = 4, kv_heads = 2, context = 8, hidden = 24 }
  local plan = prune.structured(decoder, { { shape = { 8 }, dtype = "i64", max = 20 } }, { ratio = 0.5, criterion = criterion.wanda(),
    data = prune.randint(1, 20, { 4, 8 }) })
  assert(#plan.units > 0)
end)

local everything = { "magnitude", "lamp", "fpgm", "random", "taylor", "snip", "grasp", "movement", "obd", "eigendamage", "group_fisher",
  "activation", "apoz", "hrank", "chip", "wanda", "synflow" }

T.test("every criterion scores every group of a residual net and makes a plan; nothing else changes", function()
  local net, data = residual(), batches(2, 4)
  prune.mask.l1_unstructured(net.conv2.weight, { amount = 0.3 })
  local optimizer = prune.optim.Adam(net)
  F.cross_entropy(net(data[1][1]), data[1][2]):backward()
  optimizer:step()
  net.bn:eval()
  net.fc.bias.requires_grad = false
  for _, name in ipairs(everything) do
    local before = state_of(net)
    local plan = prune.structured(net, shape, { criterion = criterion[name](), ratio = 0.5, data = data })
    assert(#plan.units == 2, name)
    T.equal(state_of(net), before, name)
  end
end)

T.test("criteria score transformers: heads, head widths and features", function()
  prune.seed(1)
  local net = Attention()
  local data = { { prune.randn { 4, 6, 5 }, prune.randint(1, 3, { 4 }) } }
  for _, name in ipairs(everything) do
    local plan = prune.structured(net, { 6, 5 }, { criterion = criterion[name](), ratio = 0.5, data = data })
    assert(#plan.units > 0, name)
  end
end)

T.test("a criterion on a model that was loaded as a graph", function()
  local net, data = residual(), batches(1, 4)
  local module = prune.graph(net, shape):module()
  local before = scores(criterion.group_fisher(), net, shape, "conv1.weight", data)
  T.close(scores(criterion.group_fisher(), module, shape, "conv1.weight", data), before, 1e-12)
  local want = scores(criterion.obd(), net, shape, "conv1.weight", data)
  T.close(scores(criterion.obd(), module, shape, "conv1.weight", data), want, 1e-12)
end)

T.test("data for a function of one's own: parameters hold gradients while it runs", function()
  local net, data = residual(), batches(1, 4)
  local seen
  prune.structured(net, shape, { ratio = 0.5, data = data, criterion = function(group)
    seen = net.conv1.weight.grad:clone()
    return prune.zeros { group.size }
  end })
  T.close(seen, calibration.gradients(net, data)[net.conv1.weight], 1e-12)
  assert(net.conv1.weight.grad == nil)
end)

-- --- bad input ------------------------------------------------------------------------------------------------------

T.test("options are checked by name, type and range", function()
  T.raises(function() criterion.magnitude { power = 1 } end, "no option 'power'")
  T.raises(function() criterion.magnitude { p = 0 } end, "p must be above 0")
  T.raises(function() criterion.magnitude { p = "2" } end, "'p' must be a number")
  T.raises(function() criterion.magnitude { p = 0 / 0 } end, "p must be above 0")
  T.raises(function() criterion.magnitude { reduction = "meen" } end, "did you mean 'mean'")
  T.raises(function() criterion.taylor { normalizer = 3 } end, "'normalizer' is one of")
  T.raises(function() criterion.taylor { multivariable = 1 } end, "'multivariable' must be a boolean")
  T.raises(function() criterion.taylor { quantile = 2 } end, "quantile must be in 0..1")
  T.raises(function() criterion.apoz { threshold = -1 } end, "threshold must be at least 0")
  T.raises(function() criterion.group_fisher { cost = "flops" } end, "'cost' is one of")
  T.raises(function() criterion.magnitude(3) end, "options are a table")
  T.raises(function() prune.structured(residual(), shape, { ratio = 0.5, criterion = "taylr" }) end, "did you mean prune.criterion.taylor%(%)?")
  T.raises(function() prune.structured(residual(), shape, { ratio = 0.5, criterion = criterion.fpgm }) end, "made: prune.criterion.fpgm%(%)")
  T.raises(function() prune.structured(residual(), shape, { ratio = 0.5, criterion = 3 }) end, "or a function%(group%); got number")
end)

T.test("what is missing is named, and nothing has changed", function()
  local net = residual()
  local before = state_of(net)
  local function plan(name, data, loss)
    return function() prune.structured(net, shape, { criterion = criterion[name](), ratio = 0.5, data = data, loss = loss }) end
  end
  for _, name in ipairs { "obd", "grasp", "group_fisher", "activation", "wanda", "hrank" } do
    T.raises(plan(name), name .. " needs data")
  end
  T.raises(plan "taylor", "has no gradient")
  T.raises(plan "movement", "has no movement")
  T.raises(plan("taylor", { prune.randn({ 2, 1, 6, 6 }):to "f64" }), "no labels")
  T.raises(plan("group_fisher", batches(1, 2), function() error "no loss" end), "no loss")
  T.raises(plan("obd", batches(1, 2), function(output) return output end), "one element")
  T.raises(plan("activation", { { prune.randn { 2, 3 } } }), "shape")
  T.raises(plan("grasp", batches(1, 2), function(output, y) return F.cross_entropy(output, y) * (0 / 0) end), "NaN")
  T.equal(state_of(net), before)
  local bare = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 2))
  T.raises(function() prune.structured(bare, { 2 }, { criterion = criterion.bn_scale(), ratio = 0.5 }) end, "option ignore")
end)

T.test("a score that is not a number is named by group and unit", function()
  local net = residual()
  net.conv1.weight[{ 3, 1, 1, 1 }] = 0 / 0
  T.raises(function() prune.structured(net, shape, { ratio = 0.5 }) end, "group of conv1.weight: the score of unit 3 is NaN")
  net.conv1.weight[{ 3, 1, 1, 1 }] = math.huge
  T.raises(function() prune.structured(net, shape, { ratio = 0.5 }) end, "group of conv1.weight: the score of unit 3 is infinite")
  T.raises(function()
    prune.structured(residual(), shape, { ratio = 0.5, criterion = function() return prune.tensor { 1, 2, 0 / 0, 4 } end })
  end, "group of conv1.weight: the score of unit 3 is NaN")
end)

T.done()
