-- What single weights are worth: each criterion against its formula worked out here, and masks by criterion that meet their totals.
local T = require "testing"
local prune = require "prune"
local nn, mask = prune.nn, prune.mask

local shape = { 2, 6, 6 }

local function small(dtype)
  prune.seed(1)
  local net = nn.Sequential(nn.Conv2d(2, 6, 3), nn.Tanh(), nn.Flatten(), nn.Linear(96, 5))
  return net:to(dtype or "f64")
end

local function labelled(dtype)
  prune.seed(4)
  local list = {}
  for i = 1, 3 do list[i] = { prune.randn { 4, 2, 6, 6 }:to(dtype or "f64"), prune.randint(1, 5, { 4 }) } end
  return list
end

local function gradients(net, data)
  net:zero_grad()
  for _, batch in ipairs(data) do (nn.functional.cross_entropy(net(batch[1]), batch[2]) / #data):backward() end
  local list = {}
  for i, p in ipairs(net:weights()) do list[i] = p.grad end
  net:zero_grad()
  return list
end

local function flat(t) return t:reshape(-1):totable() end

-- --- formulas -------------------------------------------------------------------------------------------------------

T.test("magnitude, SNIP, Taylor and movement by their formulas", function()
  local net, data = small(), labelled()
  local g = gradients(net, data)
  local weights = net:weights()
  local function scores(criterion) return (mask.scores(net, { criterion = criterion, data = data })) end
  local magnitude, snip, taylor, movement = scores "magnitude", scores "snip", scores "taylor", scores "movement"
  local lowest = math.huge
  for i, p in ipairs(weights) do lowest = math.min(lowest, (-(p * g[i])):amin():item()) end
  for i, p in ipairs(weights) do
    T.close(magnitude[i], p:abs(), 1e-12)
    T.close(snip[i], (p * g[i]):abs(), 1e-12)
    local mean = prune.zeros(p:size()):to "f64"
    for _, batch in ipairs(data) do mean = mean + (p * gradients(net, { batch })[i]):square() / 3 end
    T.close(taylor[i], mean, 1e-12)
    T.close(movement[i], -(p * g[i]) - lowest, 1e-12)
  end
  T.equal({ weights[1].grad, weights[2].grad }, {})
end)

T.test("GraSP is weight times Hessian times gradient, in the paper's order", function()
  local net, data = small(), labelled()
  local weights = net:weights()
  local g = gradients(net, data)
  -- H g by differences of one's own, over all parameters
  local all = net:parameters()
  net:zero_grad()
  for _, batch in ipairs(data) do (nn.functional.cross_entropy(net(batch[1]), batch[2]) / #data):backward() end
  local direction = {}
  for i, p in ipairs(all) do direction[i] = p.grad:clone() end
  local function at(step)
    local moved = net:clone()
    for i, p in ipairs(moved:parameters()) do p:copy(p:dense() + direction[i] * step) end
    return gradients(moved, data)
  end
  local above, below = at(1e-4), at(-1e-4)
  local scores = mask.scores(net, { criterion = "grasp", data = data })
  local expected, lowest = {}, math.huge
  for i, p in ipairs(weights) do
    expected[i] = p * ((above[i] - below[i]) / 2e-4)
    lowest = math.min(lowest, expected[i]:amin():item())
  end
  for i in ipairs(weights) do T.close(scores[i], expected[i] - lowest, 1e-5) end
  T.equal(#g, 2)
end)

T.test("OBD is half the square of the weight times the mean squared gradient of single samples", function()
  local net, data = small(), labelled()
  local scores = mask.scores(net, { criterion = "obd", data = data, batches = 1 })
  local x, y = data[1][1], data[1][2]
  for i, p in ipairs(net:weights()) do
    local mean = prune.zeros(p:size()):to "f64"
    for k = 1, 4 do mean = mean + gradients(net, { { x[{ { k, k } }], y[{ { k, k } }] } })[i]:square() / 4 end
    T.close(scores[i], p:square() * mean / 2, 1e-12)
  end
end)

T.test("SynFlow is the weight's share of the flow: its sum is the same for every layer of a chain", function()
  local net = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3, { bias = false }), nn.ReLU(), nn.Linear(3, 2)):to "f64"
  local scores = mask.scores(net, { criterion = "synflow", shape = { 4 } })
  local a, b, c = net[1].weight:abs(), net[3].weight:abs(), net[5].weight:abs()
  local total = c:matmul(b):matmul(a):sum():item()
  for i = 1, 3 do T.close(scores[i]:sum():item(), total, 1e-9) end
  T.close(scores[1][{ 2, 3 }]:item(), a[{ 2, 3 }]:item() * c:matmul(b):sum { 1 }[2]:item(), 1e-12)
end)

T.test("Wanda's scores, and any function of a parameter", function()
  local fc = nn.Linear(3, 2)
  local x = prune.tensor { { 3, 1, 0 }, { 4, 0, 2 } }
  local scores = mask.scores(fc, { criterion = "wanda", data = x })
  T.close(scores[1], fc.weight:abs() * prune.tensor { 5, 1, 2 }, 1e-5)
  local names = {}
  local list, parameters = mask.scores(small(), { criterion = function(p, name)
    names[#names + 1] = name
    return p * p
  end, ignore = "^0" })
  T.equal(names, { "3.weight" })
  T.equal(#list, 1)
  T.close(list[1], parameters[1] * parameters[1], 1e-12)
end)

T.test("of a function's scores below 0 the lowest go too, not those of least magnitude", function()
  local net = small()
  local function signed(p) return p:value() end
  local scores, weights = mask.scores(net, { criterion = signed })
  local lowest = math.min(weights[1]:amin():item(), weights[2]:amin():item())
  for i, p in ipairs(weights) do T.close(scores[i], p:value() - lowest, 1e-12) end
  local before = prune.nn.functional.cat({ weights[1]:value():reshape(-1), weights[2]:value():reshape(-1) }, 1):clone()
  mask.unstructured(net, { criterion = signed, sparsity = 0.5 })
  local kept = prune.nn.functional.cat({ weights[1].mask:reshape(-1), weights[2].mask:reshape(-1) }, 1):to "f64"
  local least_kept, most_gone = math.huge, -math.huge
  for i, value in ipairs(before:totable()) do
    if kept[i]:item() == 1 then least_kept = math.min(least_kept, value) else most_gone = math.max(most_gone, value) end
  end
  assert(most_gone < least_kept, most_gone .. " went, " .. least_kept .. " stayed")
end)

-- --- masks ----------------------------------------------------------------------------------------------------------

T.test("masks by criterion are those of the ranking, and meet the total under every allocation", function()
  local data = labelled()
  for _, criterion in ipairs { "magnitude", "snip", "taylor", "movement", "grasp", "obd", "synflow", "wanda" } do
    local net, other = small(), small()
    mask.unstructured(net, { criterion = criterion, data = data, shape = shape, sparsity = 0.8, iterations = 1 })
    local scores, weights = mask.scores(other, { criterion = criterion, data = data, shape = shape })
    mask.global_unstructured(weights, { sparsity = 0.8, scores = scores })
    for i, p in ipairs(net:weights()) do T.equal(flat(p.mask), flat(weights[i].mask), criterion) end
    for _, allocation in ipairs { "uniform", "erk", "owl" } do
      local third = small()
      mask.unstructured(third, { criterion = criterion, data = data, shape = shape, sparsity = 0.8, allocation = allocation, iterations = 2 })
      T.close(prune.sparsity(third), 0.8, 1 / 588, criterion)
    end
  end
  local net = small()
  mask.unstructured(net, { sparsity = 0.8, max_sparsity = 0.82 })
  for _, p in ipairs(net:weights()) do assert(1 - p.mask:mean():item() <= 0.82 + 1e-6) end
  T.close(prune.sparsity(net), 0.8, 1 / 588)
end)

T.test("SynFlow in many rounds leaves no layer without weights where one round does", function()
  local function network()
    prune.seed(5)
    return nn.Sequential(nn.Linear(40, 40), nn.ReLU(), nn.Linear(40, 40), nn.ReLU(), nn.Linear(40, 2))
  end
  local many = network()
  mask.unstructured(many, { criterion = "synflow", shape = { 40 }, sparsity = 0.98 })
  for _, p in ipairs(many:weights()) do assert(p.mask:sum():item() > 0) end
  T.close(prune.sparsity(many), 0.98, 1 / 3000)
end)

-- --- refusals -------------------------------------------------------------------------------------------------------

T.test("failures leave masks and gradients as they were", function()
  local net, data = small(), labelled()
  mask.l1_unstructured(net[1].weight, { amount = 4 })
  local before, calls = net[1].weight.mask:clone(), 0
  local function refuses(options, text)
    T.raises(function() mask.unstructured(net, options) end, text)
    T.equal(net[1].weight.mask:equal(before), true)
    T.equal(net[4].weight.mask, nil)
  end
  refuses({ sparsity = 0.5, iterations = 3, criterion = function(p)
    calls = calls + 1
    if calls == 4 then error "enough" end
    return p
  end }, "enough")
  refuses({ sparsity = 0.5, criterion = function(p) return p * (0 / 0) end }, "NaN")
  refuses({ sparsity = 0.5, criterion = function() return prune.ones { 3 } end }, "%[3%]")
  refuses({ sparsity = 0.5, criterion = function() return 3 end }, "tensor of scores for '0.weight', got number")
  refuses({ sparsity = 0.5, criterion = "snap" }, "did you mean 'snip'")
  refuses({ sparsity = 0.5, criterion = "snip" }, "needs data")
  refuses({ sparsity = 0.5, criterion = "snip", data = {} }, "empty")
  refuses({ sparsity = 0.5, criterion = "snip", data = data, loss = function() return 3 end }, "loss")
  refuses({ sparsity = 0.5, criterion = "synflow" }, "give shape")
  refuses({ sparsity = 0.5, iterations = 0 }, "iterations")
  refuses({ sparsity = 0.9, max_sparsity = 0.5 }, "at most 0.5")
  refuses({ sparsity = 0 / 0 }, "0%.%.1")
  refuses({}, "how much")
  refuses({ sparsity = 0.5, allocation = "globl" }, "did you mean 'global'")
  refuses({ sparsity = 0.5, allocation = function() return { 2, 0 } end }, "shares are in")
  T.raises(function() mask.unstructured(net[1].weight, { sparsity = 0.5 }) end, "must be a module")
  T.raises(function() mask.scores(nn.ReLU(), {}) end, "no weights")
end)

T.done()
