-- Optimisers and schedules give PyTorch's numbers; wrong options are refused.
local T = require "testing"
local prune = require "prune"
local nn, F = prune.nn, prune.nn.functional

local names = { "conv1.weight", "conv1.bias", "bn1.weight", "bn1.bias", "bn1.running_mean", "bn1.running_var", "conv2.weight", "conv2.bias",
  "bn2.weight", "bn2.bias", "bn2.running_mean", "bn2.running_var", "fc.weight", "fc.bias" }

local Net = nn.module("Net", function(self)
  self.conv1 = nn.Conv2d(1, 8, 3, { padding = 1 })
  self.bn1 = nn.BatchNorm2d(8)
  self.conv2 = nn.Conv2d(8, 12, 3, { padding = 1 })
  self.bn2 = nn.BatchNorm2d(12)
  self.fc = nn.Linear(192, 10)
end)

function Net:forward(x)
  x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), { kernel_size = 2 })
  return self.fc(F.flatten(F.relu(self.bn2(self.conv2(x))), 2))
end

local function read_state(path, group)
  local wanted = {}
  for i, name in ipairs(names) do wanted[i] = group .. "/" .. name end
  local tensors = { prune.data.read_hdf5(path, table.unpack(wanted)) }
  local state = {}
  for i, name in ipairs(names) do state[name] = tensors[i] end
  return state
end

local settings = {
  sgd = function(p) return prune.optim.SGD(p, { lr = 0.05 }) end,
  sgd_momentum_wd = function(p) return prune.optim.SGD(p, { lr = 0.05, momentum = 0.9, weight_decay = 5e-4 }) end,
  sgd_nesterov = function(p) return prune.optim.SGD(p, { lr = 0.05, momentum = 0.9, weight_decay = 1e-3, nesterov = true }) end,
  adam = function(p) return prune.optim.Adam(p, { lr = 1e-3 }) end,
  adamw = function(p) return prune.optim.AdamW(p, { lr = 2e-3, weight_decay = 0.1 }) end,
  adam_wd = function(p) return prune.optim.Adam(p, { lr = 1e-3, weight_decay = 1e-2 }) end,
  rmsprop = function(p) return prune.optim.RMSprop(p, { lr = 1e-3 }) end,
}

-- 40 steps; the largest relative difference of a loss.
local function train(path, initial, images, labels, name, dtype)
  local net = Net():to(dtype)
  net:load_state_dict(initial)
  net:train()
  local optimizer = settings[name](net)
  local losses = prune.data.read_hdf5(path, name .. "/loss"):totable()
  local worst = 0
  for step = 1, 40 do
    local rows = { 32 * step - 31, 32 * step }
    optimizer:zero_grad()
    local loss = F.cross_entropy(net(images[{ rows }]:to(dtype)), labels[{ rows }])
    loss:backward()
    optimizer:step()
    worst = math.max(worst, math.abs(loss:item() - losses[step]) / losses[step])
  end
  return worst, net
end

T.test("forty steps of every optimiser repeat PyTorch's losses in f64 and f32", function()
  local path, data = T.shared "golden/train_digits.h5", T.shared "data/digits.h5"
  local initial = read_state(path, "initial")
  local images, labels = prune.data.read_hdf5(data, "images", "labels")
  images = images:to("f64"):reshape(-1, 1, 8, 8) / 16
  labels = labels:to("i64") + prune.ones({ labels:size(1) }, { dtype = "i64" })
  for name in prune.sorted(settings) do
    local worst, net = train(path, initial, images, labels, name, "f64")
    assert(worst < 1e-6, ("%s in f64: losses differ by %g"):format(name, worst))
    for key, want in pairs(read_state(path, name .. "/final")) do
      local got = net:parameter(key):to("f32")
      assert(got:allclose(want:to("f32"), { rtol = 1e-4, atol = 1e-5 }), name .. ": another final " .. key)
    end
    worst = train(path, initial, images, labels, name, "f32")
    assert(worst < 1e-3, ("%s in f32: losses differ by %g"):format(name, worst))
  end
end)

T.test("learning-rate schedules repeat PyTorch's rates", function()
  local golden = dofile(T.shared "golden/lr_schedules.lua")
  local made = {
    step = prune.schedule.step { size = 3, gamma = 0.5 },
    multistep = prune.schedule.multistep { milestones = { 4, 9 }, gamma = 0.1 },
    cosine = prune.schedule.cosine { epochs = 12 },
    exponential = prune.schedule.exponential { gamma = 0.9 },
    onecycle = prune.schedule.onecycle { steps = 12 },
  }
  for _, case in ipairs(golden) do
    for epoch, want in ipairs(case.lr) do
      local got = 0.1 * made[case.name](epoch - 1)
      assert(math.abs(got - want) <= 1e-12, ("%s, epoch %d: %.17g, expected %.17g"):format(case.name, epoch, got, want))
    end
  end
end)

T.test("a warm-up rises to 1 and hands over", function()
  local f = prune.schedule.warmup { steps = 4, from = 0.2, after = prune.schedule.step { size = 2, gamma = 0.5 } }
  T.close(f(0), 0.2, 1e-12)
  T.close(f(2), 0.6, 1e-12)
  T.close(f(4), 1, 1e-12)
  T.close(f(6), 0.5, 1e-12)
end)

T.test("sparsity schedules begin and end where they should, and never fall", function()
  for _, name in ipairs { "linear", "cubic", "exponential" } do
    local f = prune.schedule[name] { from = 0.1, to = 0.9, first = 3, last = 20 }
    T.close(f(1), 0.1, 1e-12)
    T.close(f(3), 0.1, 1e-12)
    T.close(f(20), 0.9, 1e-12)
    T.close(f(99), 0.9, 1e-12)
    for k = 2, 30 do assert(f(k) >= f(k - 1), name) end
  end
end)

T.test("parameter groups have rates of their own, and lr sets them all", function()
  local a, b = nn.Parameter(prune.ones { 2 }), nn.Parameter(prune.ones { 2 })
  local optimizer = prune.optim.SGD({ { params = { a }, lr = 0.5 }, { params = { b } } }, { lr = 0.1 })
  local sum = a:sum() + b:sum()
  sum:backward()
  optimizer:step()
  T.close(a:totable(), { 0.5, 0.5 }, 1e-6)
  T.close(b:totable(), { 0.9, 0.9 }, 1e-6)
  optimizer.lr = 0.25
  T.close(optimizer.groups[1].options.lr, 0.25, 0)
  T.close(optimizer.groups[2].options.lr, 0.25, 0)
end)

T.test("clipping scales all gradients to the norm that is asked for", function()
  local a, b = nn.Parameter(prune.zeros { 2 }), nn.Parameter(prune.zeros { 1 })
  local optimizer = prune.optim.SGD({ a, b }, { lr = 1 })
  local three, four = (a * 3):sum(), (b * 4):sum()
  three:backward()
  four:backward()
  T.close(optimizer:clip_grad_norm(1), math.sqrt(34), 1e-5)
  T.close(a.grad:totable(), { 3 / math.sqrt(34), 3 / math.sqrt(34) }, 1e-5)
  optimizer:clip_grad_value(0.1)
  T.close(b.grad:totable(), { 0.1 }, 1e-6)
end)

T.test("options out of range and unknown names are refused", function()
  local p = { nn.Parameter(prune.ones { 2 }) }
  T.raises(function() prune.optim.SGD(p, { lr = -1 }) end, "lr must be in")
  T.raises(function() prune.optim.SGD(p, { lr = 1 }):set_lr_factor {} end, "factor must be a number, got table")
  T.raises(function() prune.optim.SGD(p, { momentom = 0.9 }) end, "did you mean 'momentum'")
  T.raises(function() prune.optim.SGD(p, { lr = true }) end, "option 'lr' must be a number, got boolean")
  T.raises(function() prune.optim.SGD(p, { nesterov = "yes" }) end, "option 'nesterov' must be true or false, got string")
  T.raises(function() prune.optim.SGD(p, { nesterov = true }) end, "nesterov needs momentum")
  T.raises(function() prune.optim.Adam(p, { betas = { 1, 0.9 } }) end, "betas must be in")
  T.raises(function() prune.optim.Adam({}, {}) end, "no parameters")
  T.raises(function() prune.optim.Adam({ 3 }, {}) end, "not a parameter")
  T.raises(function() prune.schedule.cubic { to = 0.9 } end, "'last' must be given")
end)

T.done()
