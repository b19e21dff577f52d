-- What mends a model after pruning: statistics measured anew, constants of removed channels
-- folded into the next layer, layers fitted anew to what they gave.
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
  T.raises(function() prune.repair.batch_norm(net, {}) end, "data must have batches.* got an empty table")
  T.raises(function() prune.repair.batch_norm(net, 3) end, "got number")
  T.raises(function() prune.repair.batch_norm(net, batches(2, { 4, 3 }), { batch = 3 }) end, "did you mean 'batches'")
  T.raises(function() prune.repair.batch_norm(net, batches(2, { 4, 3 }), { batches = 0 }) end, "batches must be an integer")
  T.raises(function() prune.repair.batch_norm(nn.Sequential(nn.Linear(3, 4)), batches(1, { 4, 3 })) end, "no batch norm")
  T.raises(function() prune.repair.batch_norm("net", batches(1, { 4, 3 })) end, "must be a module")
  unchanged()
end)

-- --- folding ----------------------------------------------------------------------------------------------------------

-- Scores that send the given units first: { ["0.weight"] = { 2, 5 } } by the axis that makes them.
local function first(chosen)
  return function(group)
    local score = prune.ones { group:count() }
    for part in group:parts() do
      for _, i in ipairs(part.producer and chosen[part.name] or {}) do score[i] = 0 end
    end
    return score
  end
end

local function fold(net, x, ratio, chosen, option)
  net:eval()
  local before = net(x)
  local plan = prune.structured(net, x, { criterion = first(chosen), ratio = ratio }):apply { fold = option == nil and true or option }
  return (net(x) - before):abs():amax():item() / before:abs():amax():item(), plan
end

local function zero(t, ...)
  prune.no_grad(function(...)
    for _, i in ipairs { ... } do t[i] = 0 end
  end, ...)
end

-- Values of batch norm as training leaves them: scales, shifts and statistics that are not 1 and 0.
local function stir(net)
  for name, t in net:named_parameters() do
    if t:dim() == 1 then t:copy(prune.randn(t:size()) * 0.5 + (name:match "weight" and 1 or 0)) end
  end
  for name, t in net:named_buffers() do t:copy(name:match "var" and prune.rand(t:size()) + 0.5 or prune.randn(t:size())) end
  return net:to "f64"
end

T.test("fold: scale 0 and shift above 0, or weights 0 and a bias: the output stays; into a bias, a running mean, through flatten", function()
  local function build()
    prune.seed(11)
    local net = stir(nn.Sequential(nn.Conv2d(2, 6, 3, { bias = false }), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 4, 3), nn.SiLU(),
      nn.Conv2d(4, 3, 3, { bias = false }), nn.BatchNorm2d(3), nn.Sigmoid(), nn.Flatten(), nn.Linear(12, 5)))
    zero(net[2].weight, 2, 5)
    zero(net[4].weight, 1)
    zero(net[7].weight, 2)
    prune.no_grad(function() net[2].bias[2] = 0.7 net[2].bias[5] = 1.2 net[4].bias[1] = -0.8 end)
    return net, prune.randn({ 3, 2, 8, 8 }):to "f64"
  end
  local gone = { ["0.weight"] = { 2, 5 }, ["3.weight"] = { 1 }, ["5.weight"] = { 2 } }
  local net, x = build()
  local difference, plan = fold(net, x, 0.34, gone)
  T.close(difference, 0, 1e-12)
  T.equal({ #plan.repairs, plan.repairs[1].into, plan.repairs[2].into, plan.repairs[3].channels }, { 3, "bias", "running mean", 4 })
  for _, line in ipairs(plan.repairs) do T.equal(line.exact, true) end
  assert(tostring(plan):find("folded: 2 channels of '3' into its bias, exactly", 1, true), tostring(plan))
  net, x = build()
  assert(fold(net, x, 0.34, gone, false) > 0.05, "without folding the output must move, or this test shows nothing")
end)

T.test("fold: residual streams, depthwise and grouped convolutions hand their constants on", function()
  prune.seed(12)
  local Block = nn.module("Block", function(self)
    self.a, self.b = nn.Conv2d(3, 8, 1, { bias = false }), nn.BatchNorm2d(8)
    self.c, self.d = nn.Conv2d(8, 8, 1, { bias = false }), nn.BatchNorm2d(8)
    self.e = nn.Conv2d(8, 8, 1, { groups = 8 })
    self.f = nn.Conv2d(8, 4, 1, { groups = 2 })
    self.g = nn.Conv2d(4, 2, 1)
  end)
  function Block:forward(x)
    x = F.relu(self.b(self.a(x)))
    x = F.relu(x + self.d(self.c(x)))
    return self.g(F.relu(self.f(F.relu(self.e(x)))))
  end
  local net, x = stir(Block()), prune.randn({ 2, 3, 4, 4 }):to "f64"
  for _, i in ipairs { 2, 6 } do -- position 2 of both groups
    zero(net.b.weight, i)
    zero(net.d.weight, i)
    prune.no_grad(function() net.b.bias[i] = 0.4 net.e.bias[i] = 1 end)
  end
  local difference, plan = fold(net, x, 0.25, { ["a.weight"] = { 2 } })
  T.equal(net.a.weight:size(1), 6)
  T.close(difference, 0, 1e-12)
  local into = {}
  for _, line in ipairs(plan.repairs) do into[line.path] = line.into or line.reason end
  T.equal({ into.c, into.f }, { "running mean", "bias" })
end)

T.test("fold: where a norm's statistics lose the channel, nothing is called exact", function()
  prune.seed(19)
  local net = stir(nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.ReLU(), nn.Linear(4, 2)))
  zero(net[1].weight, 2)
  zero(net[2].weight, 2)
  prune.no_grad(function() net[2].bias[2] = 1 end)
  local difference, plan = fold(net, prune.randn({ 4, 3 }):to "f64", 0.25, { ["0.weight"] = { 2 } })
  assert(difference > 1e-3)
  T.equal({ plan.repairs[1].into, plan.repairs[1].exact }, { "bias", false })
end)

T.test("fold: recurrent layers take constants into the bias of their inputs", function()
  for _, class in ipairs { nn.LSTM, nn.GRU } do
    prune.seed(18)
    local Net = nn.module("Net", function(self) self.a, self.rnn, self.c = nn.Linear(3, 5), class(5, 4), nn.Linear(4, 2) end)
    function Net:forward(x) return self.c((self.rnn(F.relu(self.a(x) + 1)))) end
    local net, x = stir(Net()), prune.randn({ 2, 6, 3 }):to "f64"
    zero(net.a.weight, 2)
    local layer, input
    for name, p in net:named_parameters() do
      if name:find "rnn.*bias_ih" then layer, input = p, p:clone() end
    end
    local difference, plan = fold(net, x, 0.2, { ["a.weight"] = { 2 } })
    T.close(difference, 0, 1e-12)
    T.equal({ plan.repairs[1].into, plan.repairs[1].exact, layer:equal(input) }, { "bias", true, false })
  end
end)

T.test("fold: a channel that was not constant is replaced by act(bias), or act(beta) behind a batch norm", function()
  prune.seed(13)
  local net = stir(nn.Sequential(nn.Linear(3, 6), nn.Tanh(), nn.Linear(6, 6, { bias = true }), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 2)))
  net:eval()
  local copy, x = net:clone(), prune.randn({ 5, 3 }):to "f64"
  local _, plan = fold(net, x, 0.34, { ["0.weight"] = { 1, 4 }, ["2.weight"] = { 2, 3 } })
  local hidden = F.tanh(copy[1](x)):detach():clone()
  for _, k in ipairs { 1, 4 } do hidden[{ {}, k }] = F.tanh(copy[1].bias[k]):item() end
  local second = F.relu(copy[4](copy[3](hidden))):detach():clone()
  for _, k in ipairs { 2, 3 } do second[{ {}, k }] = F.relu(copy[4].bias[k]):item() end
  T.close(net(x), copy[6](second), 1e-12)
  T.equal({ plan.repairs[1].exact, plan.repairs[2].exact }, { false, false })
end)

T.test("fold: what padding spoils is left and told, or taken from the middle when asked; a constant of 0 needs nothing", function()
  local function build(shift)
    prune.seed(14)
    local net = stir(nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 3, 3, { padding = 1 })))
    zero(net[2].weight, 3)
    prune.no_grad(function() net[2].bias[3] = shift end)
    return net, prune.randn({ 2, 2, 9, 9 }):to "f64"
  end
  local net, x = build(0.6)
  local _, plan = fold(net, x, 0.25, { ["0.weight"] = { 3 } })
  assert(plan.repairs[1].reason:find "padding", tostring(plan))
  net, x = build(0.6)
  net:eval()
  local before = net(x)
  _, plan = fold(net, x, 0.25, { ["0.weight"] = { 3 } }, "interior")
  T.equal({ plan.repairs[1].into, plan.repairs[1].exact }, { "bias", false }) -- the borders are not what they were
  local middle = (net(x) - before)[{ {}, {}, { 2, 6 }, { 2, 6 } }]
  T.close(middle:abs():amax():item(), 0, 1e-12)
  net, x = build(-0.6)
  local difference
  difference, plan = fold(net, x, 0.25, { ["0.weight"] = { 3 } })
  T.close(difference, 0, 1e-12)
  T.equal(#plan.repairs, 0)
end)

T.test("fold: no place to put it, a layer that runs twice, a gate from the input: told, and nothing is made up", function()
  prune.seed(15)
  local bare = stir(nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2, { bias = false })))
  prune.no_grad(function() bare[1].bias[2] = 1 end)
  local _, plan = fold(bare, prune.randn({ 4, 3 }):to "f64", 0.25, { ["0.weight"] = { 2 } })
  assert(plan.repairs[1].reason:find "give it a bias", tostring(plan))
  local Gate = nn.module("Gate", function(self) self.a, self.b, self.c = nn.Linear(3, 4), nn.Linear(3, 1), nn.Linear(4, 2) end)
  function Gate:forward(x) return self.c(F.relu(self.a(x) + 2) * self.b(x)) end
  _, plan = fold(stir(Gate()), prune.randn({ 4, 3 }):to "f64", 0.25, { ["a.weight"] = { 2 } })
  assert(plan.repairs[1].reason:find "depends on the input", tostring(plan))
  local Product = nn.module("Product", function(self) self.a, self.w = nn.Linear(3, 4), nn.Parameter(prune.randn { 4, 2 }) end)
  function Product:forward(x) return F.matmul(F.relu(self.a(x) + 2), self.w) end
  _, plan = fold(stir(Product()), prune.randn({ 4, 3 }):to "f64", 0.25, { ["a.weight"] = { 2 } })
  T.equal({ #plan.repairs, plan.repairs[1].reason }, { 1, "matmul has no bias to take it" })
  local Twice = nn.module("Twice", function(self) self.a, self.b, self.c = nn.Linear(3, 4), nn.Linear(3, 4), nn.Linear(4, 2) end)
  function Twice:forward(x) return self.c(F.relu(self.a(x) + 2)) + self.c(F.relu(self.b(x) + 3)) end
  local net = stir(Twice())
  local bias = net.c.bias:clone()
  _, plan = fold(net, prune.randn({ 4, 3 }):to "f64", 0.25, { ["a.weight"] = { 2 } })
  assert(plan.repairs[1].reason:find "more than once", tostring(plan))
  T.equal(net.c.bias:equal(bias), true)
end)

T.test("fold: random numbers, and everything when the removal fails, stay as they were; the option is checked", function()
  prune.seed(16)
  local net = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3))
  local plan = prune.structured(net, { 4 }, { ratio = 0.5 })
  T.raises(function() plan:apply { fold = "inside" } end, 'fold is true, false or "interior", got inside')
  T.raises(function() plan:apply { folds = true } end, "did you mean 'fold'")
  prune.seed(17)
  plan:apply { fold = true }
  local after = prune.rand { 3 }
  prune.seed(17)
  T.equal(after:equal(prune.rand { 3 }), true)
  local Fixed = nn.module("Fixed", function(self) self.a, self.b = nn.Linear(4, 6), nn.Linear(6, 3) end)
  function Fixed:forward(x)
    local y = F.tanh(self.a(x))
    if y:size(2) ~= 6 then error "six or nothing" end
    return self.b(y)
  end
  local fixed = Fixed()
  local bias, weight = fixed.b.bias:clone(), fixed.a.weight:clone()
  T.raises(function() prune.structured(fixed, { 4 }, { ratio = 0.5 }):apply { fold = true } end, "six or nothing")
  T.equal(fixed.b.bias:equal(bias) and fixed.a.weight:equal(weight), true)
end)

-- --- reconstruction ---------------------------------------------------------------------------------------------------

local function rebuild(net, x, ratio, chosen, o)
  net:eval()
  return prune.structured(net, x, { criterion = first(chosen), ratio = ratio }):apply { reconstruct = o }
end

T.test("reconstruct: exact where the removed channel is a combination of those that stay: convolution in 1-D and 2-D, groups, tokens", function()
  prune.seed(21)
  local Grouped = nn.module("Grouped", function(self)
    self.a, self.b = nn.Conv2d(2, 8, 3), nn.Conv2d(8, 6, 3, { groups = 2, stride = 2, padding = 1 })
  end)
  function Grouped:forward(x) return self.b(F.relu(self.a(x))) end
  local cases = {
    { nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Conv2d(4, 3, 3, { padding = 1, dilation = 2 })), { 6, 2, 7, 6 }, "0.weight", { 3 } },
    { nn.Sequential(nn.Conv1d(2, 4, 3), nn.ReLU(), nn.Conv1d(4, 3, 3, { padding = 1, stride = 2, bias = false })), { 9, 2, 12 }, "0.weight", { 3 } },
    { nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3)), { 4, 6, 5 }, "0.weight", { 3 } },
    { Grouped(), { 6, 2, 9, 9 }, "a.weight", { 3, 7 } }, -- position 3 of both groups
  }
  for _, case in ipairs(cases) do
    local net, x, name, gone = case[1]:to "f64", prune.randn(case[2]):to "f64", case[3], case[4]
    local weight = net:parameter(name)
    local bias = net:parameter((name:gsub("weight", "bias")))
    prune.no_grad(function()
      for _, k in ipairs(gone) do weight[k], bias[k] = weight[k - 1] * 2.5, bias[k - 1]:item() * 2.5 end -- the ReLU passes a factor on
    end)
    local want = net(x)
    local plan = rebuild(net, x, 0.25, { [name] = { 3 } }, { data = { x }, ridge = 1e-13 })
    T.equal(weight:size(1), net._type == "Grouped" and 6 or 3)
    T.close(net(x), want, 1e-8, name)
    T.close(plan.repairs[1].after, 0, 1e-15)
    assert(plan.repairs[1].before > 1e-3)
  end
end)

T.test("reconstruct: what comes out solves the least squares; on the calibration data no layer is worse than without, for any ridge", function()
  prune.seed(22)
  local net = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 2)):to "f64"
  local x = prune.randn({ 40, 4 }):to "f64"
  local whole, plain = net:clone():eval(), net:clone()
  local gone = { ["0.weight"] = { 2, 5 }, ["2.weight"] = { 4 } }
  rebuild(net, x, 0.34, gone, { data = { x:narrow(1, 1, 25), x:narrow(1, 26, 15) }, ridge = 1e-12 })
  -- no gradient is left in the last layer: its error stands at right angles to its inputs
  local hidden = F.tanh(net[3](F.tanh(net[1](x))))
  local missing = whole(x) - net(x)
  T.close(hidden:transpose(1, 2):matmul(missing):abs():amax():item(), 0, 1e-8)
  T.close(missing:sum { 1 }:abs():amax():item(), 0, 1e-8)
  prune.structured(plain, x, { criterion = first(gone), ratio = 0.34 }):apply()
  local function error_of(model) return (model:eval()(x) - whole(x)):square():sum():item() end
  assert(error_of(net) < 0.5 * error_of(plain), ("%g, without %g"):format(error_of(net), error_of(plain)))
  for _, ridge in ipairs { 1e-6, 1e-2, 1, 100 } do
    local other = whole:clone()
    local plan = rebuild(other, x, 0.34, gone, { data = { x }, ridge = ridge })
    for _, line in ipairs(plan.repairs) do assert(line.after <= line.before, line.text) end
  end
end)

T.test("reconstruct: digits without training; folding and reconstruction together; windows at random", function()
  prune.seed(23)
  local train, test = prune.data.load("", { batch = 64, threads = 0 })
  local net = prune.models.cnn { classes = 10, channels = 1, width = 8 }
  prune.Trainer(net, { optimizer = prune.optim.Adam(net, { lr = 3e-3 }), quiet = true }):fit(train, { epochs = 3 })
  local function accuracy(options)
    local copy, right, seen = net:clone():eval(), 0, 0
    local plan = prune.structured(copy, train.shape, { ratio = 0.5 }):apply(options)
    prune.no_grad(function()
      for x, y in test:batches() do right, seen = right + F.accuracy(copy(x), y) * y:size(1), seen + y:size(1) end
    end)
    return right / seen, plan
  end
  local plain = accuracy()
  local repaired, plan = accuracy { fold = true, reconstruct = { data = train, batches = 6 } }
  assert(repaired > plain + 0.2, ("%g, without %g"):format(repaired, plain))
  assert(tostring(plan):find "reconstructed: 'conv3': error of its output [%d.]+%% %-> [%d.]+%%", tostring(plan))
  assert(accuracy { reconstruct = { data = train, batches = 6, positions = 4 } } > plain + 0.2)
end)

T.test("reconstruct: a layer of very many inputs is fitted by its rows, and refused where these are too many too", function()
  prune.seed(26)
  local net, x = nn.Sequential(nn.Linear(3, 5600), nn.Tanh(), nn.Linear(5600, 2)), prune.randn { 12, 3 }
  local copy, want = net:clone(), net(x)
  local plan = rebuild(net, { 3 }, 0.25, {}, { data = { x }, ridge = 1e-9 })
  assert(plan.repairs[1].before > 1e-3 and plan.repairs[1].after < 1e-9)
  T.close(net(x), want, 1e-4)
  plan = rebuild(copy, { 3 }, 0.25, {}, { data = { prune.randn { 4097, 3 } } })
  assert(plan.repairs[1].reason:find "4200 inputs, and more than 4096 rows", plan.repairs[1].text)
end)

T.test("reconstruct: what cannot be fitted is told; bad options and failing data change nothing", function()
  prune.seed(24)
  local net = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 2))
  prune.mask.l1_unstructured(net[3].weight, { amount = 0.5 })
  local x = prune.randn { 8, 4 }
  local weight = net[5].weight:clone()
  local function refuses(o, pattern)
    T.raises(function() prune.structured(net, { 4 }, { ratio = 0.5 }):apply { reconstruct = o } end, pattern)
    T.equal(net[5].weight:equal(weight), true)
    T.equal(net[1].weight:size(1), 6)
  end
  refuses(true, "must be a table { data = ... }, got boolean")
  refuses({}, "data is needed")
  refuses({ data = { x }, ridge = 0 }, "ridge must be a number above 0")
  refuses({ data = { x }, rigde = 1 }, "did you mean 'ridge'")
  refuses({ data = { x }, positions = 0 }, "positions must be an integer")
  refuses({ data = {} }, "an empty table")
  refuses({ data = { batches = function() return function() error "the disk is gone" end end } }, "the disk is gone")
  refuses({ data = { prune.randn { 3, 5 } } }, "input 1 has shape %[3, 5%]")
  refuses({ data = { prune.full({ 3, 4 }, 0 / 0) } }, "what '4' reads or gives on the data is NaN or infinite")
  local plan = prune.structured(net, { 4 }, { ratio = 0.5 }):apply { reconstruct = { data = { x } } }
  assert(tostring(plan):find("not reconstructed: '2': its weight is masked", 1, true), tostring(plan))
end)

T.test("plan:undo takes the repairs back with the removal", function()
  prune.seed(25)
  local net = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 2)):eval()
  local before = {}
  for name, t in pairs(net:state_dict()) do before[name] = t:clone() end
  local plan = prune.structured(net, { 4 }, { ratio = 0.5 }):apply { fold = true, reconstruct = { data = { prune.randn { 8, 4 } } } }
  assert(#plan.repairs >= 3 and not net[6].bias:equal(before["5.bias"]))
  net(prune.randn { 3, 4 }) -- looking at it changes nothing
  plan:undo()
  for name, t in pairs(net:state_dict()) do T.equal(t:equal(before[name]), true, name) end
end)

T.done()
