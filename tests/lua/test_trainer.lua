-- prune.Trainer: a training that is stopped anywhere and resumed computes bit for bit what an uninterrupted one computes; what it
-- writes, when it stops, and whose functions it calls.
local prune = require "prune"
local nn = prune.nn
local T = require "testing"

local program = os.getenv "PRUNELUA" or arg[-1]
local pid = assert(io.open("/proc/self/stat")):read "n"

-- popen, since os.execute has Ctrl-C ignored while it runs.
local function press_ctrl_c() assert(io.popen("kill -INT " .. pid)):close() end

local Net = nn.module("Net", function(self)
  self.conv1 = nn.Conv2d(1, 4, 3, { padding = 1 })
  self.bn = nn.BatchNorm2d(4)
  self.conv2 = nn.Conv2d(4, 6, 3, { padding = 1 })
  self.dropout = nn.Dropout(0.2)
  self.fc = nn.Linear(6, 10)
end)

function Net:forward(x)
  x = nn.functional.max_pool2d(self.bn(self.conv1(x)):relu(), { kernel_size = 2, stride = 2 })
  x = self.dropout(self.conv2(x):relu())
  return self.fc(nn.functional.flatten(nn.functional.adaptive_avg_pool2d(x, { output_size = 1 }), 2))
end

local BATCHES = 4

local function load_data()
  return prune.data.load("", { batch = 32, limit = 32 * BATCHES, augment = { crop_padding = 1, flip = true }, threads = 1 })
end

local optimizers = {
  sgd = function(net) return prune.optim.SGD(net, { lr = 0.05, momentum = 0.9, weight_decay = 1e-3 }) end,
  adam = function(net) return prune.optim.Adam(net, { lr = 0.01 }) end,
}

-- Sum of right answers, as the trainer's own; Ctrl-C in the training batch number `stop` (counted over all stages).
local function accuracy(net, stop)
  local count = 0
  return function(output, labels)
    if net.training then
      count = count + 1
      if count == stop then press_ctrl_c() end
    end
    return output:argmax(2):eq(labels):sum():item()
  end
end

-- Everything that a later step depends on.
local function state_of(net, optimizer)
  local state = { steps = optimizer and optimizer.steps, lr = optimizer and optimizer.lr }
  for name, p in net:named_parameters() do
    state[name] = p:dense():totable()
    state[name .. " mask"] = p.mask and p.mask:totable()
    for _, slot in ipairs(p:slots()) do state[name .. " " .. slot[1]] = slot[2]:totable() end
  end
  for name, b in net:named_buffers() do state[name] = b:totable() end
  state.random = { require("prune.core").random_state() }
  return state
end

local function without_time(history)
  local rows = {}
  for i, row in ipairs(history) do rows[i] = { epoch = row.epoch, lr = row.lr, train = row.train, test = row.test } end
  return rows
end

-- Two epochs; then, where asked for, half of the units go and a third epoch follows. Returns state, history.
local function training(o)
  prune.seed(o.seed or 1)
  local train, test = load_data()
  local net = Net()
  local optimizer = optimizers[o.optimizer or "sgd"](net)
  local trainer = prune.Trainer(net, { optimizer = optimizer, out = o.out, quiet = true, schedule = function(epoch) return 0.5 ^ epoch end,
    metrics = { accuracy = accuracy(net, o.stop) }, accumulate = o.accumulate, regularizer = o.regularizer and o.regularizer() })
  local history = trainer:fit(train, { name = "train", epochs = 2, validate = test, resume = o.resume })
  if o.remove then
    prune.structured(net, train.shape, { ratio = 0.5 }):apply()
    local more = trainer:fit(train, { name = "tune", epochs = 1, validate = test, resume = o.resume })
    history = table.move(more, 1, #more, #history + 1, table.move(history, 1, #history, 1, {}))
  end
  return state_of(net, optimizer), without_time(history)
end

local function rows_of(folder)
  local rows = {}
  for line in io.lines(folder .. "/metrics.csv") do rows[#rows + 1] = line:match "^[^,]*,[^,]*" end
  return rows
end

local folders = 0
local function new_folder()
  folders = folders + 1
  return T.scratch("run" .. folders)
end

-- --- stopping and going on ------------------------------------------------------------------------------------------------

for name in prune.sorted(optimizers) do
  T.test("stopped by Ctrl-C after any step and resumed, " .. name .. " ends with the same bits", function()
    local expected, history = training { optimizer = name }
    for stop = 1, 2 * BATCHES - 1 do
      local folder = new_folder()
      local message = T.raises(function() training { optimizer = name, out = folder, stop = stop } end, "interrupted at a batch boundary")
      assert(message:find(folder .. "/train.checkpoint.h5", 1, true), message)
      local state, rows = training { optimizer = name, out = folder, resume = true, seed = 7 }
      T.equal(state, expected, "state after stopping at step " .. stop)
      T.equal(rows, history, "history after stopping at step " .. stop)
      T.equal(rows_of(folder), { "stage,epoch", "train,1", "train,2" })
    end
  end)
end

T.test("writing checkpoints does not change the numbers", function()
  T.equal(training { out = new_folder() }, (training {}))
end)

T.test("stopped before and behind a pruning step and resumed, it ends with the same bits", function()
  for _, name in ipairs { "sgd", "adam" } do
    local expected, history = training { optimizer = name, remove = true }
    T.equal(#expected["conv1.weight"], 2)
    for _, stop in ipairs { 3, 2 * BATCHES + 1, 3 * BATCHES - 1 } do
      local folder = new_folder()
      T.raises(function() training { optimizer = name, remove = true, out = folder, stop = stop } end, "interrupted")
      for _ = 1, 2 do -- the second time both stages are finished
        local state, rows = training { optimizer = name, remove = true, out = folder, resume = true, seed = 7 }
        T.equal(state, expected, ("state (%s, stopped at step %d)"):format(name, stop))
        T.equal(rows, history)
      end
      T.equal(rows_of(folder), { "stage,epoch", "train,1", "train,2", "tune,1" })
    end
  end
end)

T.test("what a regulariser keeps from step to step goes on where it was", function()
  local function growing() return prune.regularizer.growing_reg { strength = 1e-3, delta = 0.2, every = 3 } end
  local expected, history = training { regularizer = growing }
  for _, stop in ipairs { 1, 5 } do
    local folder = new_folder()
    T.raises(function() training { regularizer = growing, out = folder, stop = stop } end, "interrupted")
    local state, rows = training { regularizer = growing, out = folder, resume = true, seed = 7 }
    T.equal(state, expected)
    T.equal(rows, history)
  end
end)

T.test("a schedule by batch is asked for the batches of the stage before; stopped and resumed it goes on", function()
  local function run(folder, stop, resume, seed)
    prune.seed(seed)
    local train = load_data()
    local net, rates = Net(), {}
    local optimizer = optimizers.sgd(net)
    local count = accuracy(net, stop)
    local function metric(...)
      rates[#rates + 1] = optimizer.lr
      return count(...)
    end
    local trainer = prune.Trainer(net, { optimizer = optimizer, out = folder, quiet = true, metrics = { m = metric }, schedule_by = "batch",
      schedule = { "onecycle", steps = 2 * BATCHES } })
    trainer:fit(train, { epochs = 2, resume = resume })
    return state_of(net, optimizer), rates
  end
  local expected, rates = run(nil, nil, false, 1)
  local cycle = prune.schedule.onecycle { steps = 2 * BATCHES }
  for i = 1, 2 * BATCHES do T.close(rates[i], 0.05 * cycle(i - 1), 1e-12) end
  for _, stop in ipairs { 1, 6 } do
    local folder = new_folder()
    T.raises(function() run(folder, stop, false, 1) end, "interrupted")
    T.equal(run(folder, nil, true, 8), expected)
  end
end)

T.test("stopped twice in one epoch", function()
  local folder, expected = new_folder(), training {}
  T.raises(function() training { out = folder, stop = 1 } end, "interrupted")
  T.raises(function() training { out = folder, stop = 2, resume = true } end, "interrupted")
  T.equal(training { out = folder, resume = true, seed = 3 }, expected)
end)

T.test("with accumulation it stops only where the optimiser moved", function()
  local folder, expected = new_folder(), training { accumulate = 3 }
  T.equal(expected.steps, 4) -- 4 batches an epoch: after 3, and after the last
  T.raises(function() training { accumulate = 3, out = folder, stop = 1 } end, "interrupted")
  local _, texts = require("prune.core").checkpoint_read(folder .. "/train.checkpoint.h5")
  T.equal(require("prune.literal").read(texts.progress).batch, 3)
  T.equal(training { accumulate = 3, out = folder, resume = true, seed = 7 }, expected)
end)

-- Data of the user's own: a table that shuffles with the random numbers of prune.
local function own_data(train)
  local step = train:batches()
  local xs, ys = step()
  return setmetatable({ batches = function()
    local _, indices = prune.rand { 4 }:sort(1)
    local order, i = indices:totable(), 0
    return function()
      i = i + 1
      if i > 4 then return nil end
      local at = (order[i] - 1) * 8
      return xs[{ { at + 1, at + 8 } }]:clone(), ys[{ { at + 1, at + 8 } }]:clone()
    end
  end }, { __len = function() return 4 end })
end

T.test("data of one's own are resumed in the middle of an epoch", function()
  local function run(folder, stop, resume, seed)
    prune.seed(1)
    local data = own_data(load_data())
    prune.seed(seed)
    local net = Net()
    local optimizer = optimizers.sgd(net)
    prune.Trainer(net, { optimizer = optimizer, out = folder, quiet = true, metrics = { accuracy = accuracy(net, stop) } })
      :fit(data, { epochs = 2, resume = resume })
    return state_of(net, optimizer)
  end
  local folder, expected = new_folder(), run(nil, nil, false, 5)
  T.raises(function() run(folder, 6, false, 5) end, "interrupted")
  T.equal(run(folder, nil, true, 9), expected)
end)

T.test("killed in the middle of either stage, the same script goes on to the same model", function()
  local script = T.scratch "killed.lua"
  local file = assert(io.open(script, "w"))
  file:write([[
local prune = require "prune"
local folder, stop = arg[1], tonumber(arg[2])
local pid = assert(io.open "/proc/self/stat"):read "n"
prune.seed(1)
local train = prune.data.load("", { batch = 64, limit = 256, augment = { crop_padding = 1 } })
local net = prune.models.cnn { channels = 1, width = 4 }
local steps = 0
local function metric(output, labels)
  steps = steps + 1
  if steps == stop then os.execute("kill -KILL " .. pid) end
  return output:argmax(2):eq(labels):sum():item()
end
local trainer = prune.Trainer(net, { optimizer = prune.optim.Adam(net, { lr = 0.01 }), out = folder, quiet = true,
  metrics = { accuracy = metric } })
trainer:fit(train, { name = "train", epochs = 2, resume = true })
prune.structured(net, train.shape, { ratio = 0.5 }):apply()
trainer:fit(train, { name = "tune", epochs = 2, resume = true })
prune.save(folder .. "/final.h5", net)
]])
  file:close()
  local function bytes(folder)
    local final <close> = assert(io.open(folder .. "/final.h5", "rb"))
    return final:read "a"
  end
  local function run(folder, stop) return os.execute(("'%s' '%s' '%s' %d 2>/dev/null"):format(program, script, folder, stop)) end
  local straight = new_folder()
  assert(run(straight, 0))
  for _, stop in ipairs { 2, 6, 14 } do
    local folder = new_folder()
    assert(not run(folder, stop), "it was to be killed")
    assert(run(folder, 0))
    assert(bytes(folder) == bytes(straight), "another model after a kill at step " .. stop)
    T.equal(rows_of(folder), { "stage,epoch", "train,1", "train,2", "tune,1", "tune,2" })
  end
end)

T.test("a finished stage can be prolonged, and is not repeated", function()
  local folder = new_folder()
  prune.seed(1)
  local train = load_data()
  local net = Net()
  local trainer = prune.Trainer(net, { optimizer = optimizers.sgd(net), out = folder, quiet = true })
  T.equal(#trainer:fit(train, { epochs = 1, resume = true }), 1)
  local before = state_of(net)
  T.equal(#trainer:fit(train, { epochs = 1, resume = true }), 1)
  T.equal(state_of(net), before)
  T.equal(#trainer:fit(train, { epochs = 3, resume = true }), 3)
  T.equal(rows_of(folder), { "stage,epoch", "stage,1", "stage,2", "stage,3" })
  trainer:fit(train, { epochs = 1 }) -- afresh: its rows replace the old ones
  T.equal(rows_of(folder), { "stage,epoch", "stage,1" })
end)

T.test("metrics.csv gets the rows that a kill behind the checkpoint left out", function()
  local folder = new_folder()
  training { out = folder }
  os.remove(folder .. "/metrics.csv")
  training { out = folder, resume = true }
  T.equal(rows_of(folder), { "stage,epoch", "train,1", "train,2" })
end)

-- --- when it stops --------------------------------------------------------------------------------------------------------

T.test("a loss that is not a number is an error with the step, and the last checkpoint stays", function()
  local folder = new_folder()
  prune.seed(1)
  local train = load_data()
  local net = Net()
  local count = 0
  local trainer = prune.Trainer(net, { optimizer = optimizers.sgd(net), out = folder, quiet = true, loss = function(output, labels)
    count = count + 1
    return nn.functional.cross_entropy(output, labels) * (count == 6 and 0 / 0 or 1)
  end })
  T.raises(function() trainer:fit(train, { epochs = 3 }) end, "nan at step 6 %(epoch 2, batch 2%)")
  for _, p in net:named_parameters() do assert(p:dense():eq(p:dense()):all():item(), "a parameter became nan") end
  T.equal(rows_of(folder), { "stage,epoch", "stage,1" })
  T.equal(#trainer:fit(train, { epochs = 1, resume = true }), 1)
end)

T.test("patience stops when the validation loss no longer falls", function()
  prune.seed(1)
  local train, test = load_data()
  local net = Net()
  local folder, rate = new_folder(), 0 -- with rate 0 only the running statistics move
  local trainer = prune.Trainer(net, { optimizer = optimizers.sgd(net), out = folder, quiet = true, patience = 2,
    loss = function(output, labels)
      return nn.functional.cross_entropy(output, labels) * 0 + (net.training and 1 or rate)
    end })
  local history = trainer:fit(train, { epochs = 9, validate = test, each_epoch = function(_, row) rate = row.epoch end })
  T.equal(#history, 3)
  T.equal(#trainer:fit(train, { epochs = 9, validate = test, resume = true }), 3)
end)

T.test("Ctrl-C without a folder stops at the batch boundary too", function()
  T.raises(function() training { stop = 2 } end, "interrupted at a batch boundary in epoch 1$")
end)

-- --- whose functions ------------------------------------------------------------------------------------------------------

T.test("accumulating two halves of a batch is a step on the whole batch", function()
  local function run(batch, accumulate)
    prune.seed(1)
    local train = prune.data.load("", { batch = batch, limit = 64, shuffle = false })
    local net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    prune.Trainer(net, { optimizer = prune.optim.SGD(net, { lr = 0.1 }), accumulate = accumulate, quiet = true }):fit(train, { epochs = 2 })
    return net:state_dict()
  end
  local whole, halves = run(32, 1), run(16, 2)
  for name, value in prune.sorted(whole) do T.close(halves[name], value, 1e-6, name) end
end)

T.test("loss, metric and regularizer of one's own", function()
  prune.seed(1)
  local train, test = load_data()
  local net = Net()
  local applied, seen = {}, 0
  local trainer = prune.Trainer(net, { optimizer = optimizers.sgd(net), quiet = true,
    loss = function(output, labels) return nn.functional.cross_entropy(output, labels) * 2 end,
    metrics = { images = function(output) return output:size(1) end, top = function(output) return output:amax() end },
    regularizer = { apply = function(_, model, step)
      assert(model == net and net.fc.weight.grad)
      applied[#applied + 1] = step
    end } })
  local history = trainer:fit(train, { epochs = 1, validate = test, each_epoch = function(_, row) seen = row.epoch end })
  T.equal(applied, { 1, 2, 3, 4 })
  T.equal(seen, 1)
  T.equal({ history[1].train.images, history[1].test.images }, { 1.0, 1.0 })
  assert(history[1].train.top and not history[1].train.accuracy)
  trainer.loss = nn.functional.cross_entropy
  T.close(trainer:evaluate(test).loss * 2, history[1].test.loss, 1e-6)
end)

T.test("a regularizer must be able to act, and to be asked to", function()
  local net = Net()
  local function with(regularizer, step)
    return function() prune.Trainer(net, { optimizer = optimizers.sgd(net), regularizer = regularizer, step = step }) end
  end
  for _, wrong in ipairs { 3, "bn_scale", {}, prune.regularizer.bn_scale } do
    T.raises(with(wrong), "regularizer must be an object with apply%(net%), such as .*, got " .. type(wrong))
  end
  T.raises(with(prune.regularizer.bn_scale(), function() return 0 end), "'regularizer' would do nothing")
end)

T.test("a whole step of one's own, whose optimiser is resumed too", function()
  local function run(folder, stop, resume, seed)
    prune.seed(seed)
    local train = load_data()
    local net = Net()
    local own = optimizers.sgd(net)
    local trainer = prune.Trainer(net, { out = folder, quiet = true, metrics = { accuracy = accuracy(net, stop) },
      step = function(trainer, x, y)
        own:zero_grad()
        local output = trainer.net(x)
        local loss = nn.functional.cross_entropy(output, y)
        loss:backward()
        own:step()
        return loss, output
      end })
    trainer:fit(train, { epochs = 2, resume = resume })
    return state_of(net)
  end
  local folder, expected = new_folder(), run(nil, nil, false, 1)
  T.raises(function() run(folder, 3, false, 1) end, "interrupted")
  T.equal(run(folder, nil, true, 8), expected)
end)

T.test("a model that cannot be traced trains and resumes", function()
  local Odd = nn.module("Odd", function(self) self.fc = nn.Linear(64, 10) end)
  function Odd:forward(x) return self.fc(x:reshape { x:size(1), 64 }) * (x:sum():item() > 0 and 1 or 2) end
  local function run(folder, stop, resume, seed)
    prune.seed(seed)
    local train = load_data()
    local net = Odd()
    local optimizer = optimizers.adam(net)
    prune.Trainer(net, { optimizer = optimizer, out = folder, quiet = true, metrics = { accuracy = accuracy(net, stop) } })
      :fit(train, { epochs = 2, resume = resume })
    return state_of(net, optimizer)
  end
  local folder, expected = new_folder(), run(nil, nil, false, 1)
  T.raises(function() run(folder, 6, false, 1) end, "interrupted")
  T.equal(run(folder, nil, true, 8), expected)
  T.raises(function() prune.load(folder .. "/stage.checkpoint.h5") end, "holds no architecture")
end)

-- --- what is refused -------------------------------------------------------------------------------------------------------

T.test("wrong arguments are refused at the call", function()
  local train = load_data()
  local net = Net()
  local optimizer = optimizers.sgd(net)
  T.raises(function() prune.Trainer({}, { optimizer = optimizer }) end, "must be a module")
  T.raises(function() prune.Trainer(net, {}) end, "option 'optimizer' must be given")
  T.raises(function() prune.Trainer(net, { optimiser = optimizer }) end, "optimizer")
  T.raises(function() prune.Trainer(net, { optimizer = optimizer, loss = 3 }) end, "loss must be a function")
  T.raises(function() prune.Trainer(net, { optimizer = optimizer, accumulate = 0 }) end, "accumulate")
  T.raises(function() prune.Trainer(net, { optimizer = optimizer, schedule = 3 }) end, "a schedule is a function or a table")
  T.raises(function() prune.Trainer(net, { optimizer = optimizer, schedule = { "cosin" } }) end, "did you mean 'cosine'")
  T.raises(function() prune.Trainer(net, { optimizer = optimizer, schedule_by = "step" }) end, 'schedule_by is "epoch" or "batch"')
  T.raises(function() prune.Trainer(net, { optimizer = optimizer, patience = 0 }) end, "patience")
  T.raises(function() prune.Trainer(net, { optimizer = optimizer, metrics = { ["a,b"] = print } }) end, "name 'a,b'")
  local trainer = prune.Trainer(net, { optimizer = optimizer, quiet = true })
  T.raises(function() trainer:fit(3) end, "must be a data set, got number")
  local other = { net = trainer.net, optimizer = trainer.optimizer }
  T.raises(function() prune.Trainer.fit(other, train, { epochs = 0 }) end, "Trainer:fit is called on a trainer: trainer:fit%(%.%.%.%), got table")
  T.raises(function() trainer.evaluate(train) end, "Trainer:evaluate is called on a trainer")
  T.equal(other.history, nil)
  T.raises(function() trainer:fit(train, { validate = {} }) end, "validate must be a data set")
  T.raises(function() trainer:fit(train, { epochs = 1.5 }) end, "epochs")
  T.raises(function() trainer:fit(train, { resume = true }) end, "needs a folder")
  T.raises(function() trainer:fit(train, { name = "../x" }) end, "name of a stage")
end)

T.test("a folder that cannot be, and an optimiser of other parameters, are refused before the first step", function()
  local train = load_data()
  local net, steps = Net(), 0
  local function trainer(optimizer, out)
    local function count()
      steps = steps + 1
      return 0
    end
    return prune.Trainer(net, { optimizer = optimizer, out = out, quiet = true, metrics = { steps = count } })
  end
  local blocked = T.scratch "blocked"
  assert(io.open(blocked, "w")):close()
  T.raises(function() trainer(optimizers.sgd(net), blocked .. "/out"):fit(train) end, "blocked")
  T.raises(function() trainer(optimizers.sgd(Net()), new_folder()):fit(train) end, "not one of the model")
  T.equal(steps, 0)
end)

T.test("a checkpoint of another model or optimiser is refused and nothing is changed", function()
  local folder = new_folder()
  training { out = folder }
  prune.seed(2)
  local train = load_data()
  local other = prune.models.cnn { channels = 1, width = 4 }
  local before = state_of(other)
  T.raises(function()
    prune.Trainer(other, { optimizer = optimizers.sgd(other), out = folder, quiet = true }):fit(train, { name = "train", resume = true })
  end, "does not fit the model")
  T.equal(state_of(other), before)
  local net = Net()
  local optimizer = optimizers.adam(net)
  before = state_of(net, optimizer)
  T.raises(function()
    prune.Trainer(net, { optimizer = optimizer, out = folder, quiet = true }):fit(train, { name = "train", resume = true })
  end, "the optimiser is sgd in the file, here adam")
  T.equal(state_of(net, optimizer), before)
end)

T.test("a report refuses what is no model", function()
  T.raises(function() prune.report({ 1, 8, 8 }):add("dense", { 1, 2 }) end, "must be a module, got table")
end)

T.done()
