-- One-shot pruning on data: Wanda worked out by hand, SparseGPT by what the layers really compute, the optimal brain surgeon by its formula;
-- exact sparsities, patterns that hold, layers judged on pruned inputs, and failures that leave everything as it was.
local T = require "testing"
local prune = require "prune"
local nn, mask = prune.nn, prune.mask

local function zeros(p) return p:numel() - p.mask:sum():item() end

-- Inputs whose columns are mixtures of a few, of very different sizes.
local function correlated(n, d)
  prune.seed(2)
  return (prune.randn { n, d // 4 }:matmul(prune.randn { d // 4, d }) + 0.1 * prune.randn { n, d }) * prune.rand { d }
end

local function small(dtype)
  prune.seed(1)
  local net = nn.Sequential(nn.Conv2d(2, 8, 3, { padding = 1 }), nn.ReLU(), nn.Conv2d(8, 6, 3, { groups = 2, stride = 2 }), nn.ReLU(),
    nn.Flatten(), nn.Linear(54, 12), nn.ReLU(), nn.Linear(12, 5))
  return dtype and net:to(dtype) or net
end

local function images(n, dtype)
  prune.seed(3)
  return prune.randn { n, 2, 7, 7 }:to(dtype or "f32")
end

local function labelled(n)
  prune.seed(4)
  return { { images(n), prune.randint(1, 5, { n }) }, { images(n), prune.randint(1, 5, { n }) } }
end

local function state(net)
  local list = {}
  for name, p in net:named_parameters() do
    list[name] = { p:dense():clone(), p.mask and p.mask:clone() or false, p.grad or false, p.requires_grad }
  end
  return list
end

local function same(net, before)
  for name, p in net:named_parameters() do
    local was = before[name]
    T.equal(p:dense():equal(was[1]), true, name)
    T.equal(p.mask and p.mask:equal(was[2]) or p.mask ~= nil, was[2] and true or false, name .. " mask")
    T.equal(p.grad or false, was[3], name .. " grad")
    T.equal(p.requires_grad, was[4], name .. " requires_grad")
  end
end

-- --- Wanda ----------------------------------------------------------------------------------------------------------

T.test("Wanda by hand: |w| times the norm of the input, per output", function()
  local fc = nn.Linear(4, 2)
  fc.weight:copy(prune.tensor { { 1, -2, 3, 4 }, { 4, 3, 2, -1 } })
  -- norms of the inputs: 10, 2, 1, 0.5; scores: 10 4 3 2 and 40 6 2 0.5
  local x = prune.tensor { { 6, 2, 0.6, 0.5 }, { 8, 0, 0.8, 0 } }
  local net, report = mask.wanda(fc, x, { sparsity = 0.5 })
  T.equal(net, fc)
  T.equal(fc.weight.mask:totable(), { { 1, 1, 0, 0 }, { 1, 1, 0, 0 } })
  T.equal(fc.weight:dense():totable(), { { 1, -2, 3, 4 }, { 4, 3, 2, -1 } })
  T.equal(#report, 1)
  T.equal(report[1].sparsity, 0.5)
  -- one of every two
  fc.weight:set_mask(nil)
  mask.wanda(fc, x, { nm = { 1, 2 } })
  T.equal(fc.weight.mask:totable(), { { 1, 0, 1, 0 }, { 1, 0, 1, 0 } })
  -- lines may differ by one entry where the share of one is no whole number
  fc.weight:set_mask(nil)
  mask.wanda(fc, x, { sparsity = 5 / 8 })
  T.equal(zeros(fc.weight), 5.0)
end)

T.test("Wanda on a grouped convolution: the norm of what each weight is multiplied with", function()
  local conv = nn.Conv2d(4, 2, 2, { groups = 2, padding = 1, stride = 2 })
  local x = prune.randn { 3, 4, 5, 5 }
  local padded = prune.zeros { 3, 4, 7, 7 }
  padded[{ {}, {}, { 2, 6 }, { 2, 6 } }] = x
  local scores = {}
  for o = 1, 2 do
    for c = 1, 2 do
      for u = 1, 2 do
        for v = 1, 2 do
          local sum = 0
          for i = 0, 2 do
            for j = 0, 2 do
              local seen = padded[{ {}, (o - 1) * 2 + c, 2 * i + u, 2 * j + v }]
              sum = sum + (seen * seen):sum():item()
            end
          end
          scores[#scores + 1] = math.abs(conv.weight[{ o, c, u, v }]:item()) * math.sqrt(sum)
        end
      end
    end
  end
  mask.wanda(conv, x, { sparsity = 0.5 })
  local expected = nn.Parameter(prune.ones { 2, 8 })
  mask.nm(expected, { n = 4, m = 8, scores = prune.tensor(scores):reshape(2, 8) })
  T.equal(conv.weight.mask:reshape(2, 8):equal(expected.mask), true)
end)

T.test("layers are judged on what pruned layers give them", function()
  local net = nn.Sequential(nn.Linear(2, 2, { bias = false }), nn.Linear(2, 1, { bias = false }))
  net[1].weight:copy(prune.tensor { { 1, 1 }, { 0.1, 0.1 } })
  net[2].weight:copy(prune.tensor { { 1, 9 } }) -- the second input is small, times 9 it is as large as the first
  local x = prune.ones { 4, 2 }
  local copy = net:clone()
  mask.wanda(copy, x, { layers = "1", sparsity = 0.5 }) -- names count from 0: the second layer alone
  T.equal(copy[2].weight.mask:totable(), { { 1, 0 } })
  mask.custom_from_mask(net[1].weight, prune.tensor { { 0, 0 }, { 1, 1 } })
  mask.wanda(net, x, { sparsity = 0.5 })
  T.equal(net[2].weight.mask:totable(), { { 0, 1 } })
end)

-- --- SparseGPT ------------------------------------------------------------------------------------------------------

local function output_of(layer, x) return prune.no_grad(layer, x):to "f64" end

T.test("SparseGPT changes outputs less than Wanda, and Wanda less than magnitude, on correlated inputs", function()
  local x = correlated(400, 32)
  local fc = nn.Linear(32, 24)
  local wanted = output_of(fc, x)
  local function distance(prune_it)
    local copy = fc:clone()
    prune_it(copy)
    T.equal(zeros(copy.weight), 384.0)
    local d = output_of(copy, x) - wanted
    return (d * d):sum():item()
  end
  local magnitude = distance(function(net) mask.l1_unstructured(net.weight, { sparsity = 0.5 }) end)
  local wanda = distance(function(net) mask.wanda(net, x, { sparsity = 0.5 }) end)
  local sparsegpt = distance(function(net) mask.sparsegpt(net, x, { sparsity = 0.5 }) end)
  assert(sparsegpt < 0.5 * wanda and wanda < magnitude, ("%g %g %g"):format(sparsegpt, wanda, magnitude))
end)

T.test("the error that is told is what the layer's outputs really change, for convolutions with groups too", function()
  for _, case in ipairs {
    { nn.Conv2d(6, 4, 3, { groups = 2, padding = 1, stride = 2, bias = false }), { 5, 6, 8, 7 } },
    { nn.Conv2d(3, 4, { 1, 2 }, { dilation = 2, bias = false }), { 5, 3, 8, 7 } },
    { nn.Conv2d(4, 4, 3, { groups = 4, bias = false }), { 5, 4, 8, 8 } },
    { nn.Conv1d(4, 6, 3, { groups = 2, padding = 2, bias = false }), { 5, 4, 20 } },
    { nn.Linear(12, 7, { bias = false }), { 5, 6, 12 } },
  } do
    local net, x = case[1]:to "f64", prune.randn(case[2]):to "f64"
    local before = output_of(net, x)
    local _, report = mask.sparsegpt(net, x, { sparsity = 0.5, damp = 0 })
    local after = output_of(net, x)
    local change = after - before
    T.close(report[1].error, (change * change):sum():item() / (before * before):sum():item(), 1e-9, net._type)
    T.equal(zeros(net.weight), math.floor(net.weight:numel() / 2 + 0.5) + 0.0)
    assert(report[1].error < 0.5, net._type .. report[1].error)
  end
end)

T.test("batches are taken together, and a large input piece by piece", function()
  local x = prune.randn { 40, 3, 6, 6 }
  local a = nn.Conv2d(3, 8, 3)
  local b = a:clone()
  mask.sparsegpt(a, x, { sparsity = 0.6 })
  mask.sparsegpt(b, { x[{ { 1, 10 } }], x[{ { 11, 40 } }] }, { sparsity = 0.6 })
  T.equal(a.weight.mask:equal(b.weight.mask), true)
  T.close(a.weight:value(), b.weight:value(), 1e-5)
end)

T.test("N:M holds along the input channels, whatever their number", function()
  local net, x = nn.Sequential(nn.Conv2d(2, 6, 3), nn.Conv2d(6, 8, 3), nn.Flatten(), nn.Linear(72, 10)), images(4)
  for _, how in ipairs { "sparsegpt", "wanda", "obs" } do
    local copy = net:clone()
    local data = { { x, prune.tensor({ 1, 2, 3, 4 }, { dtype = "i64" }) } }
    mask[how](copy, data, { nm = { 2, 4 } })
    for _, p in ipairs(copy:weights()) do
      local again = p.mask:clone()
      mask.nm(p, { n = 2, m = 4 }) -- nothing more needs to go
      T.equal(p.mask:equal(again), true, how)
    end
    T.equal({ zeros(copy[1].weight), zeros(copy[2].weight), zeros(copy[4].weight) }, { 0.0, 8 * 9 * 2.0, 360.0 })
  end
end)

T.test("a layer that is pruned again keeps its zeros, and they count", function()
  local net, x = nn.Linear(16, 8), correlated(60, 16)
  mask.sparsegpt(net, x, { sparsity = 0.3 })
  local first = net.weight.mask:clone()
  mask.sparsegpt(net, x, { sparsity = 0.6 })
  T.equal(zeros(net.weight), 77.0)
  T.equal((net.weight.mask * first):equal(net.weight.mask), true)
end)

-- --- the optimal brain surgeon --------------------------------------------------------------------------------------

T.test("OBS by its formula: scores from the inverse of the sum of g g^T, and what stays makes up", function()
  local fc = nn.Linear(2, 1, { bias = false }):to "f64"
  fc.weight:copy(prune.tensor({ { 0.9, 1.0 } }, { dtype = "f64" }))
  local x = prune.tensor({ { 1, 0.5 }, { 0.2, 1 }, { 1, 1 } }, { dtype = "f64" })
  local y = prune.tensor({ { 1 }, { 2 }, { 0 } }, { dtype = "f64" })
  local function loss(output, target) return ((output - target) * (output - target)):sum() end
  local a, b, c = 0, 0, 0 -- sum of g g^T over single samples
  for i = 1, 3 do
    local u, v = x[{ i, 1 }]:item(), x[{ i, 2 }]:item()
    local g = 2 * (0.9 * u + 1.0 * v - y[{ i, 1 }]:item())
    a, b, c = a + g * u * g * u / 3, b + g * u * g * v / 3, c + g * v * g * v / 3
  end
  local determinant = a * c - b * b
  local first, second = 0.81 / 2 * determinant / c, 1 / 2 * determinant / a
  local _, report = mask.obs(fc, { { x, y } }, { sparsity = 0.5, damp = 0, loss = loss })
  if first < second then
    T.equal(fc.weight.mask:totable(), { { 0, 1 } })
    T.close(fc.weight:value():totable(), { { 0, 1 + 0.9 * b / c } }, 1e-9)
  else
    T.equal(fc.weight.mask:totable(), { { 1, 0 } })
    T.close(fc.weight:value():totable(), { { 0.9 + b / a, 0 } }, 1e-9)
  end
  T.close(report[1].error, math.min(first, second), 1e-9)
end)

T.test("OBS keeps the loss of a trained model lower than magnitude does", function()
  local train = prune.data.load("", { batch = 64 })
  prune.seed(0)
  local net = prune.models.cnn { classes = 10, channels = 1, width = 4 }
  prune.Trainer(net, { optimizer = prune.optim.Adam(net, { lr = 5e-3 }), quiet = true }):fit(train, { epochs = 1 })
  local batches = {}
  for x, y in train:batches() do
    batches[#batches + 1] = { x, y }
    if #batches == 2 then break end
  end
  net:eval()
  local function loss_of(model)
    local sum = 0
    for _, b in ipairs(batches) do sum = sum + prune.no_grad(function() return nn.functional.cross_entropy(model(b[1]), b[2]) end):item() end
    return sum
  end
  local a, b = net:clone(), net:clone()
  mask.l1_unstructured(a:weights(), { sparsity = 0.5 })
  mask.obs(b, batches, { sparsity = 0.5, samples = 8 })
  T.equal(prune.sparsity(a), prune.sparsity(b))
  assert(loss_of(b) < loss_of(a), ("%g %g"):format(loss_of(b), loss_of(a)))
end)

-- --- how much where -------------------------------------------------------------------------------------------------

T.test("every way meets the total under every allocation; names choose layers", function()
  local data = labelled(2)
  local total = 0
  for _, p in ipairs(small():weights()) do total = total + p:numel() end
  for _, how in ipairs { "wanda", "sparsegpt", "obs" } do
    for _, allocation in ipairs { "uniform", "erk", "owl", "global", function(layers, share)
      return prune.allocation.owl(layers, share, { spread = 0.2 })
    end } do
      local net = small()
      mask[how](net, data, { sparsity = 0.7, allocation = allocation, batches = 1 })
      local gone = 0
      for _, p in ipairs(net:weights()) do gone = gone + zeros(p) end
      T.equal(gone, math.floor(0.7 * total + 0.5) + 0.0, how)
    end
    local net = small()
    mask[how](net, data, { sparsity = 0.5, layers = { "^0", "^2" }, ignore = "^2", allocation = { ["^0"] = 0.25 } })
    T.equal(zeros(net[1].weight), 36.0)
    T.equal({ net[3].weight.mask, net[6].weight.mask, net[8].weight.mask }, {})
  end
end)

-- --- refusals -------------------------------------------------------------------------------------------------------

T.test("a model that was loaded as a graph gets the same zeros and the same values", function()
  prune.seed(6)
  local twice = nn.Linear(12, 12)
  local net = nn.Sequential(small(), nn.Linear(5, 12), twice, nn.ReLU(), twice, nn.Linear(12, 5))
  local path = T.scratch "layerwise.h5"
  prune.save(path, net, { shape = { 2, 7, 7 } })
  for name, given in pairs { wanda = { sparsity = 0.5 }, sparsegpt = { nm = { 2, 4 } }, obs = { sparsity = 0.4, samples = 8 } } do
    local here, there = net:clone(), prune.load(path)
    local _, report = mask[name](here, labelled(16), given)
    local _, other = mask[name](there, labelled(16), given)
    local expected = {}
    for key, p in here:named_parameters() do expected[key] = p end
    for key, p in there:named_parameters() do
      local own = expected[key]
      T.close(p:value():totable(), own:value():totable(), 1e-5, name .. " " .. key)
      assert((p.mask == nil) == (own.mask == nil) and (not p.mask or p.mask:equal(own.mask)), name .. " " .. key)
    end
    for i, layer in ipairs(report) do T.equal(other[i].name, layer.name) end
  end
end)

T.test("failures on the way leave model, gradients and modes as they were", function()
  local net, data = small(), labelled(4)
  mask.l1_unstructured(net[3].weight, { amount = 5 })
  net[1].weight.requires_grad = false
  net:train()
  local before = state(net)
  local bad = images(4)
  bad[{ 2, 1, 3, 3 }] = 0 / 0
  local calls = 0
  local cases = {
    { function() mask.obs(net, data, { sparsity = 0.5, loss = function(o, y)
      calls = calls + 1
      if calls > 20 then error "enough" end
      return nn.functional.cross_entropy(o, y)
    end }) end, "enough" },
    { function() mask.obs(net, data, { sparsity = 0.5, loss = function(o) return o.sum(o) * (0 / 0) end }) end, "NaN" },
    { function() mask.obs(net, data, { sparsity = 0.5, loss = function(o) return o end }) end, "one element" },
    { function() mask.sparsegpt(net, bad, { sparsity = 0.5 }) end, "inputs of layer '0' hold NaN" },
    { function() mask.wanda(net, bad, { sparsity = 0.5 }) end, "inputs of layer '0' hold NaN" },
    { function() mask.sparsegpt(net, prune.randn { 2, 3, 7, 7 }, { sparsity = 0.5 }) end, "" },
    { function() mask.sparsegpt(net, images(1), { sparsity = 0.5, damp = 0 }) end, "raise damp" }, -- the linear layers have one input
  }
  for _, case in ipairs(cases) do
    T.raises(case[1], case[2])
    same(net, before)
    T.equal(net.training, true)
  end
end)

T.test("wrong calls say what is wrong", function()
  local net, data = small(), labelled(2)
  for _, how in ipairs { "wanda", "sparsegpt", "obs" } do
    local function refuses(options, text, what) T.raises(function() mask[how](net, what or data, options) end, text) end
    T.raises(function() mask[how](net[1].weight, data, { sparsity = 0.5 }) end, "must be a module")
    T.raises(function() mask[how](net, nil, { sparsity = 0.5 }) end, "data")
    refuses({ sparsity = 0.5 }, "empty", {})
    refuses({ sparsity = 0.5, batches = 0 }, "batches")
    refuses({}, "how much")
    refuses({ sparsity = 0.5, nm = { 2, 4 } }, "not both")
    refuses({ sparsity = 1.5 }, "0%.%.1")
    refuses({ sparsity = 0 / 0 }, "0%.%.1")
    refuses({ sparsity = "half" }, "0%.%.1")
    refuses({ nm = { 5, 4 } }, "at most 4, got 5")
    refuses({ nm = 2 }, "n, m")
    refuses({ nm = { 2, 0 } }, "m of nm")
    refuses({ sparsty = 0.5 }, "did you mean 'sparsity'")
    refuses({ sparsity = 0.5, layers = "conv9" }, "fits no layer")
    refuses({ sparsity = 0.5, layers = "[" }, "not a name pattern")
    refuses({ sparsity = 0.5, ignore = "" }, "no layer to prune")
    refuses({ sparsity = 0.5, allocation = "erq" }, "did you mean 'erk'")
    refuses({ sparsity = 0.5, allocation = function() return { 0.5 } end }, "list of 4 shares")
  end
  T.raises(function() mask.sparsegpt(net, data, { sparsity = 0.5, damp = -1 }) end, "damp")
  T.raises(function() mask.obs(net, data, { sparsity = 0.5, block = 0 }) end, "block")
  T.raises(function() mask.obs(net, data, { sparsity = 0.5, samples = 0 }) end, "samples")
  T.raises(function() mask.wanda(nn.ReLU(), prune.ones { 1, 2 }, { sparsity = 0.5 }) end, "no linear layer")
  for _, p in ipairs(net:weights()) do T.equal(p.mask, nil) end
end)

T.done()
