-- Lottery tickets: what is kept, what going back restores, and that a training that is interrupted keeps the same ticket.
local prune = require "prune"
local T = require "testing"

local BATCHES = 4

local function load_data() return prune.data.load("", { batch = 32, limit = 32 * BATCHES, threads = 1 }) end

local function network(seed)
  prune.seed(seed or 1)
  return prune.models.cnn { channels = 1, width = 4 }
end

local function values_of(net)
  local values = {}
  for name, p in net:named_parameters() do values[name] = p:dense():totable() end
  for name, b in net:named_buffers() do values[name] = b:totable() end
  return values
end

local function plain(ticket)
  local values = {}
  for name, t in pairs(ticket.values) do values[name] = t:totable() end
  return values
end

local function sgd(net) return prune.optim.SGD(net, { lr = 0.05, momentum = 0.9 }) end

T.test("the snapshot is the model after that many batches: 0, in the middle of an epoch, at its end, in the next", function()
  for _, at in ipairs { 0, 3, BATCHES, BATCHES + 2 } do
    local data, net, seen = load_data(), network(), nil
    local count = 0
    local function metric() -- is called behind each step
      count = count + 1
      if net.training and count == at then seen = values_of(net) end
      return 0
    end
    if at == 0 then seen = values_of(net) end
    local trainer = prune.Trainer(net, { optimizer = sgd(net), snapshot = at, quiet = true, metrics = { m = metric } })
    trainer:fit(data, { epochs = 2 })
    T.equal(plain(trainer.ticket), seen, "snapshot " .. at)
    assert(tostring(trainer.ticket):find "^lottery ticket of %d+ values$")
  end
end)

T.test("going back restores the bits of all that is alive, keeps the masks, and the optimiser begins anew", function()
  local data, net = load_data(), network()
  local optimizer = sgd(net)
  local trainer = prune.Trainer(net, { optimizer = optimizer, snapshot = 2, quiet = true, schedule = function(e) return 0.5 ^ e end })
  trainer:fit(data, { epochs = 2 })
  prune.mask.global_unstructured(net:weights(), { amount = 0.5 })
  local masks = {}
  for i, p in ipairs(net:weights()) do masks[i] = p.mask:totable() end
  T.equal(trainer.ticket:rewind(net, optimizer), net)
  T.equal(values_of(net), plain(trainer.ticket))
  for i, p in ipairs(net:weights()) do
    T.equal(p.mask:totable(), masks[i])
    T.equal((p:value():abs() * (p.mask * -1 + 1)):sum():item(), 0.0)
    T.equal(p:slots(), {})
  end
  T.equal({ optimizer.steps, optimizer.lr }, { 0, 0.05 })
end)

T.test("without a mask, the training from the ticket of step 0 is the same training again, bit by bit", function()
  local data, net = load_data(), network()
  local optimizer = sgd(net)
  local trainer = prune.Trainer(net, { optimizer = optimizer, snapshot = 0, quiet = true })
  local position = data:state()
  trainer:fit(data, { epochs = 2 })
  local first = values_of(net)
  trainer.ticket:rewind(net, optimizer)
  data:restore(position)
  trainer:fit(data, { epochs = 2 })
  T.equal(values_of(net), first)
end)

T.test("a training that is stopped and resumed has the same ticket; saved and loaded it is the same", function()
  local pid = assert(io.open "/proc/self/stat"):read "n"
  local function run(folder, stop, resume, seed)
    local data, net, count = load_data(), network(seed), 0
    local function metric()
      count = count + 1
      if count == stop then assert(io.popen("kill -INT " .. pid)):close() end
      return 0
    end
    local trainer = prune.Trainer(net, { optimizer = sgd(net), snapshot = 3, out = folder, quiet = true, metrics = { m = metric } })
    trainer:fit(data, { epochs = 2, resume = resume })
    return trainer.ticket
  end
  local expected = plain(run(nil, nil, false, 1))
  for _, stop in ipairs { 2, 3, 6 } do
    local folder = T.scratch("run" .. stop)
    T.raises(function() run(folder, stop, false, 1) end, "interrupted")
    for _ = 1, 2 do T.equal(plain(run(folder, nil, true, 9)), expected) end -- the second time the stage is finished
  end
  local ticket = run(nil, nil, false, 1)
  ticket:save(T.scratch "tickets/one.h5")
  T.equal(plain(prune.lottery.load(T.scratch "tickets/one.h5")), expected)
end)

T.test("tickets of other models, and after a removal, are refused and nothing is changed", function()
  local net = network()
  local ticket = prune.lottery.ticket(net)
  prune.structured(net, { 1, 8, 8 }, { ratio = 0.5 }):apply()
  local before = values_of(net)
  T.raises(function() ticket:rewind(net) end, "in the ticket, %[2%] in the model; masks keep shapes")
  T.equal(values_of(net), before)
  local other = prune.nn.Sequential(prune.nn.Linear(2, 2))
  T.raises(function() ticket:rewind(other) end, "the ticket has no '0.bias'")
  T.raises(function() prune.lottery.ticket(other):rewind(prune.nn.ReLU()) end, "the model has no '0.bias'")
  T.raises(function() ticket:rewind(3) end, "must be a module, got number")
  local whole = network()
  local first = prune.lottery.ticket(whole)
  whole:weights()[1]:dense():fill(3)
  local now = values_of(whole)
  T.raises(function() first:rewind(whole, 3) end, "must be an optimiser, got number")
  T.equal(values_of(whole), now)
  T.raises(function() prune.lottery.ticket(3) end, "must be a module, got number")
  T.raises(function() prune.Trainer(net, { optimizer = sgd(net), snapshot = -1 }) end, "snapshot must be a number of batches")
end)

T.done()
