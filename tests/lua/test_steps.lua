-- Pruning in several steps with training between them: one optimiser and one Trainer go on over all removals as if nothing but the removed
-- units had changed.
local prune = require "prune"
local checkpoint = require "prune.checkpoint"
local nn, F = prune.nn, prune.nn.functional
local T = require "testing"

local pid = assert(io.open "/proc/self/stat"):read "n"

local function load_data() return prune.data.load("", { batch = 32, limit = 128, threads = 1 }) end

local function values_of(net)
  local state = {}
  for name, p in net:named_parameters() do
    state[name] = p:dense():totable()
    for _, slot in ipairs(p:slots()) do state[name .. " " .. slot[1]] = slot[2]:totable() end
  end
  for name, b in net:named_buffers() do state[name] = b:totable() end
  return state
end

-- A residual network in f64, a batch to train on.
local Net = nn.module("Net", function(self)
  self.conv1 = nn.Conv2d(1, 6, 3, { padding = 1 })
  self.bn1 = nn.BatchNorm2d(6)
  self.conv2 = nn.Conv2d(6, 6, 3, { padding = 1 })
  self.bn2 = nn.BatchNorm2d(6)
  self.fc = nn.Linear(6, 3)
end)

function Net:forward(x)
  local y = self.bn1(self.conv1(x)):relu()
  y = y + self.bn2(self.conv2(y)):relu()
  return self.fc(F.flatten(F.adaptive_avg_pool2d(y, { output_size = 1 }), 2))
end

local SHAPE = { { shape = { 1, 6, 6 }, dtype = "f64" } }
local rules = {
  SGD = function(net) return prune.optim.SGD(net, { lr = 0.05, momentum = 0.9, weight_decay = 1e-3 }) end,
  Adam = function(net) return prune.optim.Adam(net, { lr = 0.01 }) end,
}

local function train(net, optimizer, x, y, steps)
  net:train()
  for _ = 1, steps do
    optimizer:zero_grad()
    F.cross_entropy(net(x), y):backward()
    optimizer:step()
  end
end

for rule in prune.sorted(rules) do
  T.test(rule .. ": behind a removal the training is that of the model with the same units masked, optimiser state included", function()
    prune.seed(5)
    local x, y = prune.randn({ 8, 1, 6, 6 }):to "f64", prune.randint(1, 3, { 8 })
    local net = Net():to "f64"
    local optimizer = rules[rule](net)
    train(net, optimizer, x, y, 3)
    prune.save(T.scratch "before.h5", net, { shape = SHAPE, optimizer = optimizer })
    local removed, masked = Net():to "f64", Net():to "f64"
    local optimizers = { rules[rule](removed), rules[rule](masked) }
    checkpoint.restore(T.scratch "before.h5", removed, optimizers[1])
    checkpoint.restore(T.scratch "before.h5", masked, optimizers[2])
    -- in `masked` all entries of units 2 and 5 of the one group have a mask
    local group = prune.graph(masked, SHAPE):groups()[1]:pick { 2, 5 }
    local masks, kept = {}, {}
    for part in group:parts() do
      if part.parameter.is_parameter then
        local mask = masks[part.name] or prune.ones(part.parameter:size())
        for _, at in ipairs(part.indices) do mask:select(part.dim, at):fill(0) end
        masks[part.name] = mask
        kept[part.name] = kept[part.name] or {}
        kept[part.name][part.dim] = { 1, 3, 4, 6 }
      end
    end
    for name, mask in pairs(masks) do masked:parameter(name):set_mask(mask) end
    prune.graph(removed, SHAPE):groups()[1]:pick({ 2, 5 }):remove()
    T.equal(removed.conv2.weight:size(), { 4, 4, 3, 3 })
    train(removed, optimizers[1], x, y, 5)
    train(masked, optimizers[2], x, y, 5)
    for name, p in removed:named_parameters() do
      local whole = masked:parameter(name):value()
      for dim, indices in pairs(kept[name] or {}) do whole = whole:index_select(prune.tensor(indices, { dtype = "i64" }), dim) end
      T.close(p:dense(), whole:totable(), 1e-9, name)
    end
    T.equal(optimizers[1].steps, 8)
  end)
end

-- The whole script: three steps of a pruner, an epoch behind each, one optimiser, a regulariser with state.
local function run(o)
  prune.seed(o.seed or 1)
  local train_data, test = load_data()
  local net = prune.models.cnn { channels = 1, width = 6 }
  local optimizer, count = prune.optim.SGD(net, { lr = 0.05, momentum = 0.9 }), 0
  local function metric()
    if net.training then
      count = count + 1
      if count == o.stop then assert(io.popen("kill -INT " .. pid)):close() end
    end
    return 0
  end
  local trainer = prune.Trainer(net, { optimizer = optimizer, out = o.out, quiet = true, metrics = { m = metric },
    regularizer = prune.regularizer.growing_reg { delta = 1e-2, every = 3 } })
  trainer:fit(train_data, { name = "train", epochs = 1, resume = o.resume })
  local macs = {}
  for step, plan in prune.structured(net, train_data.shape, { macs = 0.4, steps = 3, criterion = prune.criterion.taylor(), data = train_data })
    :steps() do
    macs[step] = plan.macs
    trainer:fit(train_data, { name = "step" .. step, epochs = 1, validate = test, resume = o.resume })
  end
  return values_of(net), macs, optimizer.steps
end

T.test("a loop over a pruner's steps with one Trainer meets the target, and stopped anywhere and started again ends with the same bits", function()
  local expected, macs, steps = run {}
  T.equal(steps, 16)
  assert(macs[1] > macs[2] and macs[2] >= macs[3] and #macs == 3, table.concat(macs, " "))
  for _, stop in ipairs { 2, 6, 11, 15 } do
    local out = T.scratch("stop" .. stop)
    T.raises(function() run { out = out, stop = stop } end, "interrupted")
    local state, again = run { out = out, resume = true, seed = 9 }
    T.equal(again, macs)
    T.equal(state, expected, "stopped in step " .. stop)
  end
end)

T.test("a pruner goes on from its state", function()
  local function make()
    prune.seed(2)
    local net = prune.models.cnn { channels = 1, width = 8 }
    return net, prune.structured(net, { 1, 8, 8 }, { params = 0.3, steps = 4, schedule = "cubic", max_ratio = 0.8 })
  end
  local net, pruner = make()
  while pruner:step() do end -- luacheck: ignore
  local other, first = make()
  first:step()
  first:step()
  local literal = require "prune.literal"
  local state = literal.read(literal.write(first:state()))
  local _, second = make()
  second.net = other
  second:load_state(state)
  T.equal(tostring(second), "pruner: 2 of 4 steps taken")
  for _, wrong in ipairs { {}, { number = 1 }, { number = 7, originals = {} }, 3 } do
    T.raises(function() second:load_state(wrong) end, "a state from pruner:state%(%) of 4 steps is needed")
  end
  while second:step() do end -- luacheck: ignore
  T.equal(values_of(other), values_of(net))
end)

T.done()
