-- trainer.lua - training with everything that a long run needs: validation, progress, logs, checkpoints, resuming, stopping.
local core = require "prune.core"
local options = require "prune.options"
local interrupt = require "prune.interrupt"
local progress = require "prune.progress"

local Trainer = {}
Trainer.__index = Trainer

local none = options.none

local function is_callable(f)
  local meta = getmetatable(f)
  return type(f) == "function" or meta and meta.__call ~= nil
end

--- A trainer of a model.
-- @param net a module
-- @param options
--   optimizer: the optimiser (required unless `step` does all);
--   loss: function(output, labels) -> scalar tensor (default: cross entropy);
--   metrics: { name = function(output, labels) -> number summed over the batch } (default: accuracy);
--   step: function(trainer, x, y) -> loss tensor or number, output: a whole training step of one's own;
--   regularizer: object with apply(net, step), acts between backward and step; schedule: function(epoch from 0) -> factor of the rate;
--   accumulate: batches per optimiser step (1); clip: largest gradient norm; patience: epochs without a better validation loss before stopping;
--   out: folder for checkpoints and metrics.csv (none: no files); quiet: no lines, no bar
-- @return trainer
-- @usage prune.Trainer(net, { optimizer = prune.optim.SGD(net, { lr = 0.1 }) }):fit(train, { epochs = 3, validate = test })
local function new(_, net, given)
  if not require("prune.nn.module").is_module(net) then error("prune.Trainer: the first argument must be a module, got " .. type(net), 2) end
  local o = options.check("prune.Trainer", given, {
    optimizer = none, loss = none, metrics = none, step = none, regularizer = none, schedule = none, accumulate = 1, clip = none,
    patience = none, out = none, quiet = false,
  })
  if not o.optimizer and not o.step then error("prune.Trainer: option 'optimizer' must be given (prune.optim.SGD(net, { lr = 0.1 }))", 2) end
  if math.type(o.accumulate) ~= "integer" or o.accumulate < 1 then error("prune.Trainer: accumulate must be an integer of at least 1", 2) end
  for _, name in ipairs { "loss", "step", "schedule" } do
    if o[name] ~= nil and not is_callable(o[name]) then error(("prune.Trainer: %s must be a function, got %s"):format(name, type(o[name])), 2) end
  end
  local self = setmetatable(o, Trainer)
  self.net = net
  self.history = {}
  local F = require "prune.nn.functional"
  self.loss = self.loss or F.cross_entropy
  self.metrics = self.metrics or { accuracy = function(output, labels) return output:argmax(2):eq(labels):sum():item() end }
  return self
end

-- --- one step -------------------------------------------------------------------------------------------------------

local function is_finite(x) return x == x and x ~= math.huge and x ~= -math.huge end

local function add_metrics(self, totals, output, labels)
  core.no_grad(function()
    for name, metric in pairs(self.metrics) do totals[name] = (totals[name] or 0) + metric(output, labels) end
  end)
end

-- Forward and backward of one batch; the optimiser moves every `accumulate` batches, and at the end of the epoch.
local function train_batch(self, x, y, last)
  if self.step then
    local loss, output = self.step(self, x, y)
    return core.is_tensor(loss) and loss:item() or loss, output
  end
  local optimizer = self.optimizer
  if self._pending == 0 then optimizer:zero_grad() end
  local output = self.net(x)
  local loss = self.loss(output, y)
  local value = loss:item()
  if not is_finite(value) then return value, output end
  if self.accumulate > 1 then loss = loss / self.accumulate end
  loss:backward()
  self._pending = self._pending + 1
  if self._pending == self.accumulate or last then
    if self.regularizer then self.regularizer:apply(self.net, self._step) end
    if self.clip then optimizer:clip_grad_norm(self.clip) end
    optimizer:step()
    self._pending = 0
  end
  return value, output
end

-- --- epochs ---------------------------------------------------------------------------------------------------------

local function averages(totals, samples, loss)
  local result = { loss = samples > 0 and loss / samples or 0 }
  for name, total in pairs(totals) do result[name] = total / math.max(samples, 1) end
  return result
end

--- Loss and metrics on data, in evaluation mode, without recording.
-- @param data a data set with batches()
-- @return table { loss =, accuracy =, ... }
function Trainer:evaluate(data)
  local was_training = self.net.training
  self.net:eval()
  local totals, samples, sum = {}, 0, 0
  local ok, message = pcall(core.no_grad, function()
    for x, y in data:batches() do
      local output = self.net(x)
      local n = x:size(1)
      sum, samples = sum + self.loss(output, y):item() * n, samples + n
      add_metrics(self, totals, output, y)
    end
  end)
  self.net:train(was_training)
  if not ok then error(message, 0) end
  return averages(totals, samples, sum)
end

-- One epoch from batch `state.batch` on. Returns "done", or "stopped" after Ctrl-C at a batch boundary.
local function run_epoch(self, train, state, label)
  self.net:train()
  self._pending = 0
  local bar = not self.quiet and progress.bar { total = #train, label = label, start = state.batch } or nil
  for x, y in train:batches { epoch = state.epoch, from = state.batch } do
    self._step = state.step + 1
    local value, output = train_batch(self, x, y, state.batch + 1 == #train)
    if not is_finite(value) then
      if bar then bar:done() end
      error(("training: the loss is %s at step %d (epoch %d, batch %d); try a smaller learning rate or option clip, and check the data"):format(
        tostring(value), state.step + 1, state.epoch, state.batch + 1), 0)
    end
    local n = x:size(1)
    state.step, state.batch = state.step + 1, state.batch + 1
    state.samples, state.loss = state.samples + n, state.loss + value * n
    if output then add_metrics(self, state.totals, output, y) end
    if bar then bar:step(1, ("loss %.4f"):format(state.loss / state.samples)) end
    if interrupt.pending() and self._pending == 0 then
      if bar then bar:done() end
      return "stopped"
    end
  end
  if bar then bar:done() end
  return "done"
end

local function format_line(name, epoch, epochs, result, seconds)
  local parts = { ("%sepoch %d/%d"):format(name and name .. " " or "", epoch, epochs) }
  for _, set in ipairs { "train", "test" } do
    if result[set] then
      parts[#parts + 1] = ("%s loss %.4f"):format(set, result[set].loss)
      for key, value in require("prune.util").sorted(result[set]) do
        if key == "accuracy" then parts[#parts + 1] = ("accuracy %.2f%%"):format(100 * value)
        elseif key ~= "loss" then parts[#parts + 1] = ("%s %.4g"):format(key, value) end
      end
    end
  end
  parts[#parts + 1] = ("%.1f s"):format(seconds)
  return table.concat(parts, "  ")
end

-- --- logs and checkpoints -------------------------------------------------------------------------------------------

local function file_of(self, name, what) return ("%s/%s%s"):format(self.out, name, what) end

-- The header comes from the first epoch; a resumed run appends, and never repeats an epoch.
local function write_metrics(self, name, history)
  local path = file_of(self, name, ".metrics.csv")
  local columns = { "epoch", "seconds", "lr" }
  for _, set in ipairs { "train", "test" } do
    local first = history[1][set]
    if first then
      for key in require("prune.util").sorted(first) do columns[#columns + 1] = set .. "_" .. key end
    end
  end
  local lines = { table.concat(columns, ",") }
  for _, row in ipairs(history) do
    local cells = {}
    for i, column in ipairs(columns) do
      local set, key = column:match "^(%a+)_(.+)$"
      local value = set and row[set] and row[set][key]
      if not set then value = row[column] end
      cells[i] = value and ("%.10g"):format(value) or ""
    end
    lines[#lines + 1] = table.concat(cells, ",")
  end
  require("prune.util").write_file(path, table.concat(lines, "\n") .. "\n")
end

local function save(self, name, state)
  local checkpoint = require "prune.checkpoint"
  checkpoint.save(file_of(self, name, ".checkpoint.h5"), self.net, { optimizer = self.optimizer, progress = state })
end

local function load(self, name)
  local checkpoint = require "prune.checkpoint"
  local path = file_of(self, name, ".checkpoint.h5")
  local file = io.open(path, "rb")
  if not file then return nil end
  file:close()
  return checkpoint.restore(path, self.net, self.optimizer)
end

local function fresh_state() return { epoch = 1, batch = 0, step = 0, samples = 0, loss = 0, totals = {}, history = {}, finished = false, seconds = 0 } end

local function begin_epoch(state) state.batch, state.samples, state.loss, state.totals, state.seconds = 0, 0, 0, {}, 0 end

-- Has the validation (or training) loss not improved for `patience` epochs?
local function is_stuck(self, history)
  if not self.patience or #history <= self.patience then return false end
  local best, at = math.huge, 0
  for i, row in ipairs(history) do
    local loss = (row.test or row.train).loss
    if loss < best then best, at = loss, i end
  end
  return #history - at >= self.patience
end

local function finish_epoch(self, o, state, seconds)
  local row = { epoch = state.epoch, seconds = state.seconds + seconds, lr = self.optimizer and self.optimizer.lr or 0,
    train = averages(state.totals, state.samples, state.loss) }
  if o.validate then row.test = self:evaluate(o.validate) end
  state.history[#state.history + 1] = row
  if not self.quiet then io.stdout:write(format_line(o.name, state.epoch, o.epochs, row, row.seconds), "\n"):flush() end
  state.epoch = state.epoch + 1
  begin_epoch(state)
  state.finished = state.epoch > o.epochs or is_stuck(self, state.history)
end

-- Ctrl-C is held back until a batch boundary; a second one is not.
local function run(self, train, o, state)
  while not state.finished do
    if self.schedule and self.optimizer then self.optimizer:set_lr_factor(self.schedule(state.epoch - 1)) end
    local start = core.clock()
    local label = ("%sepoch %d/%d"):format(o.name and o.name .. " " or "", state.epoch, o.epochs)
    local outcome = run_epoch(self, train, state, label)
    if outcome == "stopped" then
      state.seconds = state.seconds + core.clock() - start
      if self.out then save(self, o.file, state) end
      return false
    end
    finish_epoch(self, o, state, core.clock() - start)
    if self.out then
      save(self, o.file, state)
      write_metrics(self, o.file, state.history)
    end
    if o.each_epoch then o.each_epoch(self, state.history[#state.history]) end
    if interrupt.pending() and not state.finished then return false end
  end
  return true
end

--- Train for some epochs.
-- @param train data with batches() and #train
-- @param options { epochs = 1, name = stage name (for files and lines), validate = data, resume = false, each_epoch = function(trainer, row) }.
-- With `resume` the stage goes on from its checkpoint, or returns at once with its final state when it was finished; without, it starts afresh.
-- @return history: list of { epoch =, train = { loss =, accuracy = }, test = {...}, lr =, seconds = }
function Trainer:fit(train, given)
  local o = options.check("Trainer:fit", given, { epochs = 1, name = none, validate = none, resume = false, each_epoch = none })
  if type(train) ~= "table" and type(train) ~= "userdata" then error("Trainer:fit: the first argument must be a data set, got " .. type(train), 2) end
  if math.type(o.epochs) ~= "integer" or o.epochs < 0 then error("Trainer:fit: epochs must be an integer of at least 0, got " .. tostring(o.epochs), 2) end
  if o.resume and not self.out then error("Trainer:fit: to resume, the trainer needs a folder: prune.Trainer(net, { out = ... })", 2) end
  o.file = o.name or "stage"
  local state = o.resume and load(self, o.file) or fresh_state()
  state.finished = state.epoch > o.epochs or (state.finished and is_stuck(self, state.history))
  if state.finished then
    self.history = state.history
    return state.history
  end
  if self.out then require("prune.util").make_folder(self.out .. "/x") end
  interrupt.hold(true)
  local ok, done = pcall(run, self, train, o, state)
  interrupt.hold(false)
  if not ok then error(done, 0) end
  self.history = state.history
  if not done then
    local where = self.out and ("; a checkpoint is in %s, resume = true goes on from it"):format(file_of(self, o.file, ".checkpoint.h5")) or ""
    error(("interrupted at a batch boundary in epoch %d%s"):format(state.epoch, where), 0)
  end
  return state.history
end

return setmetatable(Trainer, { __call = new })
