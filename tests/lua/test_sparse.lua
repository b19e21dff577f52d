-- Dynamic sparse training: masks move as the methods say, counts are exact, entries come back clean, and a run that is stopped and resumed
-- ends with the same bits.
local prune = require "prune"
local core = require "prune.core"
local nn, F, sparse, schedule = prune.nn, prune.nn.functional, prune.sparse, prune.schedule
local T = require "testing"

local BATCHES = 5

local function load_data() return prune.data.load("", { batch = 32, limit = 32 * BATCHES, threads = 1 }) end

local function network() return prune.models.cnn { channels = 1, width = 4 } end

local function sgd(net) return prune.optim.SGD(net, { lr = 0.05, momentum = 0.9, weight_decay = 1e-3 }) end

local function zeros_of(p) return p.mask and (core.count_zeros(p.mask)) or 0 end

-- A module with one weight, which a loss of its own gives any gradient.
local One = nn.module("One", function(self, values) self.weight = core.parameter(prune.tensor(values)) end)
function One:forward(x) return self.weight * x end

local function mask_of(...) return prune.tensor { ... } end

-- --- gradients behind masks -----------------------------------------------------------------------------------------------

T.test("dense_grad is the gradient of what is read, grad the same times the mask; both accumulate and are forgotten together", function()
  local net = One { 1, -2, 3, 4 }
  local p = net.weight
  p:set_mask(mask_of(1, 0, 1, 0))
  local x = prune.tensor { 2, 3, 5, 7 }
  net(x):sum():backward()
  T.equal(p.dense_grad, nil)
  p:zero_grad()
  p:keep_dense_grad(true)
  for round = 1, 2 do
    net(x):sum():backward()
    T.equal(p.grad:totable(), (x * p.mask * round):totable())
    T.equal(p.dense_grad:totable(), (x * round):totable())
  end
  p:zero_grad()
  T.equal(p.dense_grad, nil)
  net(x):square():sum():backward() -- of the masked values: masked ones read as 0
  T.equal(p.dense_grad:totable(), { 8, 0, 150, 0 })
  p:set_mask(nil)
  T.equal(p.dense_grad, p.grad) -- without a mask they are the same
  p:keep_dense_grad(false)
  T.equal(p.dense_grad, nil)
  T.raises(function() prune.ones(2):keep_dense_grad(true) end, "only parameters")
end)

T.test("dense_grad follows a removal", function()
  local net = network()
  prune.mask.l1_unstructured(net.conv2.weight, { amount = 0.5 })
  net.conv2.weight:keep_dense_grad(true)
  F.cross_entropy(net(prune.randn { 4, 1, 8, 8 }), prune.randint(1, 10, { 4 })):backward()
  prune.structured(net, { 1, 8, 8 }, { ratio = 0.5 }):apply()
  T.equal(net.conv2.weight.dense_grad:size(), net.conv2.weight:size())
  assert((net.conv2.weight.dense_grad * net.conv2.weight.mask):equal(net.conv2.weight.grad))
end)

-- --- moving masks ------------------------------------------------------------------------------------------------------

T.test("mask_exchange drops the least, takes back the largest scores, ties by index; what comes back is 0, with its state", function()
  local p = One({ 5, 1, -2, 7, 9, 3, 8, 6 }).weight
  p:set_mask(mask_of(1, 1, 1, 1, 0, 0, 0, 0))
  p:set_slot("momentum_buffer", prune.ones(8))
  core.mask_exchange(p, prune.tensor { 0, 0, 0, 0, 1, -4, 4, 4 }, 2)
  T.equal(p.mask, { 1, 0, 0, 1, 0, 1, 1, 0 }) -- 1 and -2 go; of the three with |score| 4 the first two come
  T.equal(p:dense(), { 5, 1, -2, 7, 9, 0, 0, 6 })
  T.equal(p:slots()[1][2], { 1, 1, 1, 1, 1, 0, 0, 1 })
end)

T.test("mask_exchange: what goes and comes back at once keeps its value", function()
  local p = One({ 5, 1, 2, 7 }).weight
  p:set_mask(mask_of(1, 1, 1, 0))
  core.mask_exchange(p, prune.tensor { 0, 9, 0, 1 }, 1)
  T.equal(p.mask, { 1, 1, 1, 0 })
  T.equal(p:value(), { 5, 1, 2, 0 })
end)

T.test("mask_exchange and mask_rank leave everything as it was when they fail", function()
  local p = One({ 5, 1, 2, 7 }).weight
  p:set_mask(mask_of(1, 1, 0, 0))
  local nan = prune.tensor { 0, 0, 0 / 0, 0 }
  T.raises(function() core.mask_exchange(p, nan, 1) end, "score of entry 3 is not a number")
  T.raises(function() core.mask_exchange(p, prune.ones(4), 3) end, "3")
  T.raises(function() core.mask_exchange(p, prune.ones(5), 1) end, "shape %[5%]")
  T.raises(function() core.mask_rank({ p }, { nan }, 0.5) end, "not a number")
  T.raises(function() core.mask_rank({ p }, { prune.ones(4) }, 1.5) end, "1.5")
  T.equal(p.mask, { 1, 1, 0, 0 })
  T.equal(p:dense(), { 5, 1, 2, 7 })
end)

T.test("mask_rank ranks scores with their sign over all parameters, and brings entries back", function()
  local a, b = One({ 1, 2, 3 }).weight, One({ 4, 5, 6 }).weight
  a:set_mask(mask_of(0, 0, 1))
  core.mask_rank({ a, b }, { prune.tensor { 2, -3, 0 }, prune.tensor { -0.0, -1, 5 } }, 0.5)
  T.equal(a.mask, { 1, 0, 0 }) -- of the scores 0 and -0 the first goes
  T.equal(b.mask, { 1, 0, 1 })
  T.equal(a:value(), { 1, 0, 0 })
  prune.seed(3)
  local scores = prune.randn { 1000 }
  local p = One(prune.randn({ 1000 }):totable()).weight
  core.mask_rank({ p }, { scores }, 0.3)
  local kept, gone = math.huge, -math.huge
  for i = 1, 1000 do
    local s = scores[i]:item()
    if p.mask[i]:item() == 1 then kept = math.min(kept, s) else gone = math.max(gone, s) end
  end
  T.equal(zeros_of(p), 300)
  assert(gone < kept)
end)

-- --- gradual magnitude --------------------------------------------------------------------------------------------------

-- Train; each_step(net, sparsity object) after every step.
local function train(make, o)
  o = o or {}
  prune.seed(1)
  local data, test = load_data()
  local net = network()
  local object = make(net)
  local optimizer = o.optimizer and o.optimizer(net) or sgd(net)
  local function metric()
    if net.training and o.each_step then o.each_step(net, object) end
    return 0
  end
  local trainer = prune.Trainer(net, { optimizer = optimizer, sparsity = object, quiet = true, metrics = { m = metric } })
  trainer:fit(data, { epochs = o.epochs or 3, validate = o.validate and test })
  return net, object, optimizer, trainer
end

T.test("gradual magnitude: the counts are those of the schedule at every step, and masks only grow", function()
  for _, scope in ipairs { "global", "local" } do
    local wanted = schedule.cubic { to = 0.8, first = 2, last = 11, every = 3 }
    local before
    train(function() return sparse.gradual_magnitude { schedule = wanted, scope = scope } end, { each_step = function(net, object)
      local rows, share = object:report()
      local zeros, entries = 0, 0
      for i, p in ipairs(net:weights()) do
        zeros, entries = zeros + zeros_of(p), entries + p:numel()
        if scope == "local" then T.equal(rows[i].zeros, math.floor(wanted(object.steps) * p:numel() + 0.5)) end
        if before and p.mask then T.equal((p.mask * (before[i] * -1 + 1)):sum():item(), 0.0, "what is masked stays so") end
      end
      if scope == "global" then T.equal(zeros, math.floor(wanted(object.steps) * entries + 0.5)) end
      T.close(share, wanted(object.steps), 0.02)
      before = {}
      for i, p in ipairs(net:weights()) do before[i] = p.mask and p.mask:clone() or prune.ones(p:size()) end
    end })
  end
end)

T.test("parameters and ignore choose the weights", function()
  local net = train(function() return sparse.gradual_magnitude { schedule = { "linear", to = 0.5, last = 5 }, ignore = { "^fc", "conv1" } } end)
  T.equal(net.fc.weight.mask, nil)
  T.equal(net.conv1.weight.mask, nil)
  assert(net.conv2.weight.mask and net.conv3.weight.mask)
  net = train(function(it)
    return sparse.gradual_magnitude { schedule = { "linear", to = 0.5, last = 5 }, parameters = { it.fc.weight, it.fc.bias } }
  end)
  assert(net.fc.weight.mask and net.fc.bias.mask and not net.conv2.weight.mask)
end)

-- --- RigL and SET -------------------------------------------------------------------------------------------------------

local function counts(net)
  local list = {}
  for i, p in ipairs(net:weights()) do list[i] = zeros_of(p) end
  return list
end

local function masks(net)
  local list = {}
  for i, p in ipairs(net:weights()) do list[i] = p.mask:clone() end
  return list
end

local function moved(a, b)
  local sum = 0
  for i = 1, #a do sum = sum + (a[i] - b[i]):abs():sum():item() end
  return sum
end

T.test("RigL and SET keep the number of zeros of every layer, move masks every few steps, and stop at the last", function()
  for _, name in ipairs { "rigl", "set" } do
    local first, before, changes = nil, nil, {}
    train(function() return sparse[name] { sparsity = 0.75, every = 3, last = 10 } end, { each_step = function(net, object)
      first = first or counts(net)
      T.equal(counts(net), first)
      local now = masks(net)
      if before and moved(now, before) > 0 then changes[#changes + 1] = object.steps end
      before = now
    end })
    T.equal(changes, { 3, 6, 9 }, name)
    local zeros, entries = 0, 0
    local net = network()
    for i, p in ipairs(net:weights()) do zeros, entries = zeros + first[i], entries + p:numel() end
    T.equal(zeros, math.floor(0.75 * entries + 0.5))
    local layers = {}
    for i, p in ipairs(net:weights()) do layers[i] = { name = tostring(i), shape = p:size(), count = p:numel() } end
    local allocation = require "prune.allocation"
    T.equal(first, allocation.counts(layers, allocation.erk(layers, 0.75)), "the counts are ERK's")
  end
end)

T.test("RigL takes back where the dense gradient is largest, in the place of a step, by a share that falls along a cosine", function()
  local net = One { 4, 3, 2, 1, 5, 5, 5, 5 }
  local p = net.weight
  p:set_mask(mask_of(1, 1, 1, 1, 0, 0, 0, 0))
  local optimizer = prune.optim.SGD(net, { lr = 0.5, momentum = 0.9 })
  local object = sparse.rigl { fraction = 0.5, every = 2, last = 5, parameters = { p } }
  local x = prune.tensor { 0.1, 0.1, 0.1, 0.1, 1, 3, -2, 0 }
  local function step()
    optimizer:zero_grad()
    net(x):sum():backward()
    object:step(net, optimizer)
  end
  object:start(net)
  step()
  T.close(p:dense(), { 3.95, 2.95, 1.95, 0.95, 5, 5, 5, 5 }, 1e-6)
  step() -- 0.5 / 2 (1 + cos(2 pi / 5)) of 4 is 1.3: one
  T.equal(p.mask, { 1, 1, 1, 0, 0, 1, 0, 0 })
  T.close(p:value(), { 3.95, 2.95, 1.95, 0, 0, 0, 0, 0 }, 1e-6)
  T.equal(optimizer.steps, 1)
  step()
  T.close(p:value()[6]:item(), -1.5, 1e-6) -- momentum began at 0
  step() -- 0.5 / 2 (1 + cos(4 pi / 5)) of 4 is 0.19: none
  T.equal(p.mask, { 1, 1, 1, 0, 0, 1, 0, 0 })
end)

T.test("RigL takes masks that are there; without any, and without a sparsity, it says what is missing", function()
  local net = train(function(it)
    for _, p in ipairs(it:weights()) do prune.mask.l1_unstructured(p, { amount = 0.5 }) end
    return sparse.rigl { every = 4, last = 12 }
  end)
  for _, p in ipairs(net:weights()) do T.equal(zeros_of(p), p:numel() // 2) end
  T.raises(function() train(function() return sparse.rigl { last = 12 } end) end, "'conv1.weight' has no mask; give option sparsity")
end)

-- --- soft filters -------------------------------------------------------------------------------------------------------

T.test("soft filters: the filters of lowest norm are zero after each epoch, and come back within it", function()
  local back, data_rows = 0, {}
  local function zero_filters(net)
    local list = {}
    for i = 1, 2 do
      local conv = i == 1 and net.conv1 or net.conv2
      list[i] = 0
      for f = 1, conv.weight:size(1) do list[i] = list[i] + (conv.weight:dense()[f]:abs():sum():item() == 0 and 1 or 0) end
    end
    return list
  end
  local net = train(function() return sparse.soft_filters { ratio = 0.5, ignore = { "fc" } } end, { each_step = function(net, object)
    if object.steps % BATCHES == 1 and object.steps > 1 then -- the first step of an epoch has moved them again
      data_rows[#data_rows + 1] = zero_filters(net)
      back = back + 1
    end
  end })
  T.equal(back, 2)
  T.equal(data_rows, { { 0, 0 }, { 0, 0 } })
  T.equal(zero_filters(net), { 2, net.conv2.weight:size(1) // 2 })
  T.equal(net.conv1.weight.mask, nil)
  assert(net.fc.weight:abs():amin():item() > 0)
end)

-- --- learned thresholds -------------------------------------------------------------------------------------------------

T.test("soft threshold: reads sign(w) max(|w| - g(s), 0); the threshold's gradient is the numerical derivative of the loss", function()
  local w, x = { 0.5, -0.3, 0.05, -0.02 }, { 1, -2, 3, 0.5 }
  local net = One(w)
  local s, lr, decay = -2.5, 0.01, 0.3
  local object = sparse.soft_threshold { start = s, decay = decay, parameters = { net.weight } }
  local function g(t) return 1 / (1 + math.exp(-t)) end
  local function read(t)
    local out = {}
    for i, v in ipairs(w) do out[i] = math.max(math.abs(v) - g(t), 0) * (v < 0 and -1 or 1) end
    return out
  end
  local function loss(t)
    local sum = 0
    for i, v in ipairs(read(t)) do sum = sum + (v * x[i]) ^ 2 end
    return sum
  end
  object:start(net)
  T.close(net.weight:value(), read(s), 1e-6)
  T.equal(net.weight.mask, { 1, 1, 0, 0 })
  net(prune.tensor(x)):square():sum():backward()
  local slope = (loss(s + 1e-5) - loss(s - 1e-5)) / 2e-5
  object:step(net, prune.optim.SGD({ net.weight }, { lr = lr }))
  local after = s - lr * (slope + decay * s)
  T.close(object:report()[1].threshold, g(after), 1e-6)
  -- the weights are moved before the threshold: by the gradient where they read as not zero
  for i, v in ipairs(read(s)) do
    local moved_to = w[i] - lr * 2 * v * x[i] ^ 2
    T.close(net.weight:value()[i]:item(), math.max(math.abs(moved_to) - g(after), 0) * (moved_to < 0 and -1 or 1), 1e-6)
  end
end)

T.test("soft threshold: its decay makes a model sparse that still learns", function()
  local start
  local net, object, _, trainer = train(function() return sparse.soft_threshold { start = -5, decay = 0.3 } end, { epochs = 12,
    each_step = function(_, it) start = start or select(2, it:report()) end })
  local share = select(2, object:report())
  assert(share > 0.2 and share > start, ("%g, then %g"):format(start, share))
  T.close(share, prune.mask.sparsity(net), 1e-9)
  assert(trainer.history[12].train.loss < 0.8 * trainer.history[1].train.loss)
end)

-- --- movement -----------------------------------------------------------------------------------------------------------

T.test("movement: scores sum -weight * gradient, also of masked weights, with the gradient of the dense weight", function()
  local net = One { 1, -1, 2, 0.5 }
  local p = net.weight
  local optimizer = prune.optim.SGD(net, { lr = 0.1 })
  local object = sparse.movement { schedule = function() return 0.5 end, every = 2, parameters = { p } }
  local x = prune.tensor { 1, 1, -1, -2 }
  object:start(net) -- before the first backward pass, so that the gradient behind the mask is kept
  local expected, value = { 0, 0, 0, 0 }, { 1, -1, 2, 0.5 }
  for step = 1, 4 do
    optimizer:zero_grad()
    net(x):sum():backward()
    local alive = p.mask and p.mask:totable() or { 1, 1, 1, 1 }
    object:step(net, optimizer)
    for i = 1, 4 do
      expected[i] = expected[i] - value[i] * x[i]:item()
      value[i] = value[i] - 0.1 * x[i]:item() * alive[i]
    end
    for _, slot in ipairs(p:slots()) do
      if slot[1] == "movement_score" then T.close(slot[2], expected, 1e-5, "scores at step " .. step) end
    end
    T.close(p:dense(), value, 1e-5)
    if step == 2 then T.equal(p.mask, { 0, 0, 1, 1 }) end -- scores -1.9, 2.1, 4.1, 2.4
  end
end)

T.test("movement: exact counts by the schedule, and entries come back", function()
  local before, back = nil, 0
  train(function() return sparse.movement { schedule = { "linear", to = 0.6, first = 2, last = 8 }, every = 2 } end, { epochs = 4,
    each_step = function(net, object)
      if object.steps < 8 or object.steps % 2 == 1 then return end
      local zeros, entries, now = 0, 0, {}
      for i, p in ipairs(net:weights()) do
        zeros, entries, now[i] = zeros + zeros_of(p), entries + p:numel(), p.mask:clone()
        if before then back = back + (now[i] * (before[i] * -1 + 1)):sum():item() end
      end
      T.equal(zeros, math.floor(0.6 * entries + 0.5))
      before = now
    end })
  assert(back > 0)
end)

-- --- stopping and going on ------------------------------------------------------------------------------------------------

local pid = assert(io.open "/proc/self/stat"):read "n"

local function state_of(net, object)
  local state = { object = object:state(), random = { core.random_state() } }
  for name, p in net:named_parameters() do
    state[name], state[name .. " mask"] = p:dense():totable(), p.mask and p.mask:totable()
    for _, slot in ipairs(p:slots()) do state[name .. " " .. slot[1]] = slot[2]:totable() end
  end
  for name, b in net:named_buffers() do state[name] = b:totable() end
  return state
end

local objects = {
  gradual_magnitude = function() return sparse.gradual_magnitude { schedule = { "cubic", to = 0.8, first = 2, last = 9 } } end,
  rigl = function() return sparse.rigl { sparsity = 0.7, every = 2, last = 9 } end,
  set = function() return sparse.set { sparsity = 0.7, allocation = "uniform", every = 2 } end,
  soft_filters = function() return sparse.soft_filters { ratio = 0.5 } end,
  soft_threshold = function() return sparse.soft_threshold { start = -4, decay = 0.1 } end,
  movement = function() return sparse.movement { schedule = { "linear", to = 0.7, last = 9 }, every = 2 } end,
}

for name in prune.sorted(objects) do
  T.test(name .. ": stopped by Ctrl-C and resumed, also across a removal, it ends with the same bits", function()
    local function run(folder, stop, resume, seed)
      prune.seed(seed)
      local data = load_data()
      local net, object, count = network(), objects[name](), 0
      local function metric()
        count = count + 1
        if count == stop then assert(io.popen("kill -INT " .. pid)):close() end
        return 0
      end
      local trainer = prune.Trainer(net, { optimizer = sgd(net), sparsity = object, out = folder, quiet = true, metrics = { m = metric } })
      trainer:fit(data, { name = "first", epochs = 2, resume = resume })
      prune.structured(net, data.shape, { ratio = 0.25 }):apply()
      trainer:fit(data, { name = "second", epochs = 1, resume = resume })
      return state_of(net, object)
    end
    local expected = run(nil, nil, false, 1)
    T.equal(expected.object.steps, 3 * BATCHES)
    for _, stop in ipairs { 3, 6, 12 } do
      local folder = T.scratch(name .. stop)
      T.raises(function() run(folder, stop, false, 1) end, "interrupted")
      T.equal(run(folder, nil, true, 9), expected, "stopped at step " .. stop)
    end
  end)
end

T.test("an object of one's own with step alone will do", function()
  local calls = 0
  train(function() return { step = function(_, _, optimizer) calls = calls + 1 optimizer:step() end } end, { epochs = 1 })
  T.equal(calls, BATCHES)
end)

-- --- schedules ----------------------------------------------------------------------------------------------------------

T.test("multistep_sparsity; the last step of a range is reached whatever the stride; schedules by name", function()
  local steps = schedule.multistep_sparsity { at = { 3, 5 }, to = { 0.5, 0.9 }, from = 0.1 }
  T.equal({ steps(1), steps(3), steps(4), steps(5), steps(99) }, { 0.1, 0.5, 0.5, 0.9, 0.9 })
  local linear = schedule.linear { to = 0.9, first = 1, last = 10, every = 4 }
  T.close({ linear(1), linear(4), linear(5), linear(9), linear(10), linear(11) }, { 0, 0, 0.4, 0.8, 0.9, 0.9 }, 1e-12)
  T.equal(schedule.read({ "cubic", to = 0.8, last = 7 }, "x")(4), schedule.cubic { to = 0.8, last = 7 }(4))
  T.equal(schedule.read(steps, "x"), steps)
  T.raises(function() schedule.read({ "cubik", to = 1 }, "x") end, "x: there is no schedule 'cubik'; did you mean 'cubic'")
  T.raises(function() schedule.read(3, "x") end, "x: a schedule is a function or a table")
  T.raises(function() schedule.cubic { to = 1.2, last = 3 } end, "to must be a share in 0..1, got 1.2")
  T.raises(function() schedule.linear { to = 1, last = 3, every = 0 } end, "every must be at least 1")
  T.raises(function() schedule.multistep_sparsity { at = { 3, 2 }, to = { 0, 1 } } end, "must rise")
  T.raises(function() schedule.multistep_sparsity { at = { 3 }, to = { 0, 1 } } end, "of one length")
end)

-- --- what is refused ----------------------------------------------------------------------------------------------------

T.test("wrong options are refused with the nearest name", function()
  T.raises(function() sparse.rigl { sparsty = 0.5, last = 3 } end, "there is no option 'sparsty'; did you mean 'sparsity'")
  T.raises(function() sparse.rigl { sparsity = 0.5 } end, "option 'last' must be given")
  T.raises(function() sparse.rigl { sparsity = 1.5, last = 3 } end, "sparsity must be a share in 0..1, got 1.5")
  T.raises(function() sparse.rigl { sparsity = 0.5, last = 3, allocation = "erc" } end, "did you mean 'erk'")
  T.raises(function() sparse.set { sparsity = 0.5, every = 0 } end, "every must be a number of steps")
  T.raises(function() sparse.set { sparsity = 0.5, fraction = "much" } end, "fraction must be a share")
  T.raises(function() sparse.gradual_magnitude {} end, "option 'schedule' must be given")
  T.raises(function() sparse.gradual_magnitude { schedule = { "cubik" } } end, "did you mean 'cubic'")
  T.raises(function() sparse.movement { schedule = print, scope = "everything" } end, "scope is")
  T.raises(function() sparse.soft_filters {} end, "option 'ratio' must be given")
  T.raises(function() sparse.soft_threshold { decay = -1 } end, "decay must be a number of at least 0")
  T.raises(function() sparse.rigl { sparsity = 0.5, last = 3, ignore = "fc" } end, "ignore must be a list")
  T.raises(function() sparse.rigl({ sparsity = 0.5, last = 3 }):report() end, "no model yet")
  local net = network()
  local object = sparse.gradual_magnitude { schedule = function(step) return step == 2 and 3 or 0.1 end }
  T.raises(function() train(function() return object end) end, "at step 2 it gave 3")
  T.raises(function() object:start(net) end, "belongs to another model")
  T.raises(function() sparse.set({ sparsity = 0.5, ignore = { "." } }):start(net) end, "no weight to act on")
  local name = net:named_parameters()()
  T.raises(function() sparse.set({ sparsity = 0.5, ignore = { "^" .. name .. "x" } }):start(net) end,
    "ignore: '^" .. name .. "x' fits no parameter of the model; did you mean '" .. name)
  T.raises(function() sparse.set({ sparsity = 0.5, ignore = { "[a" } }):start(net) end, "ignore: '%[a' is not a pattern")
  T.raises(function() sparse.set({ sparsity = 0.5, parameters = { network():weights()[1] } }):start(net) end, "parameters%[1%] is not one of the model")
  T.raises(function() sparse.gradual_magnitude { schedule = { "cubic", to = 2, last = 3 } } end, "test_sparse.lua:%d+: .*to must be a share")
  T.raises(function() prune.Trainer(net, { optimizer = sgd(net), sparsity = 3 }) end, "sparsity must be an object with step")
  T.raises(function() prune.Trainer(net, { step = print, sparsity = object }) end, "'sparsity' would do nothing")
end)

T.test("as text an object is a table", function()
  local _, object = train(function() return sparse.set { sparsity = 0.5, allocation = "uniform" } end, { epochs = 1 })
  assert(tostring(object):find "sparse.set after 5 steps\n.*conv2.weight +%d+ +%d+ +50.0%%.*all +50.0%%", tostring(object))
end)

T.done()
