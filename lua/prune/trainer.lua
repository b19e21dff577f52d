-- trainer.lua - training with everything that a long run needs: validation, progress, logs, checkpoints, resuming, stopping.
local core = require "prune.core"
local distill = require "prune.distill"
local options = require "prune.options"
local interrupt = require "prune.interrupt"
local progress = require "prune.progress"
local util = require "prune.util"

local Trainer = {}
Trainer.__index = Trainer

local none = options.none

-- Options that are objects: the method that each must have, and what it looks like.
local objects = {
  optimizer = { "step", "step(), such as prune.optim.SGD(net, { lr = 0.1 })" },
  regularizer = { "apply", "apply(net), such as prune.regularizer.bn_scale { strength = 1e-4 }" },
  sparsity = { "step", "step(net, optimizer), such as prune.sparse.rigl { ... }" },
}

local function check_objects(o)
  for name, wanted in util.sorted(objects) do
    local ok, method = pcall(function() return o[name][wanted[1]] end)
    if o[name] ~= nil and not (ok and util.is_callable(method)) then
      error(("prune.Trainer: %s must be an object with %s, got %s"):format(name, wanted[2], type(o[name])), 3)
    end
  end
  for _, name in ipairs { "regularizer", "sparsity", "distill" } do
    if o.step and o[name] ~= nil then
      error(("prune.Trainer: with option 'step' the whole step is one's own, so '%s' would do nothing; give one of them"):format(name), 3)
    end
  end
end

--- A trainer of a model.
-- @param net a module
-- @param options
--   optimizer: the optimiser (required unless `step` does all);
--   loss: function(output, labels) -> scalar tensor (default: cross entropy);
--   metrics: { name = function(output, labels) -> number summed over the batch } (default: accuracy);
--   step: function(trainer, x, y) -> loss tensor or number, output: a whole training step of one's own;
--   regularizer: object with apply(net, step), acts between backward and step (with state() and load_state(state), if it has any that
--   checkpoints must keep);
--   schedule: function(epoch from 0) -> factor of the rate, or a table such as { "cosine", epochs = 10 } (prune.schedule); schedule_by = "batch":
--   it is asked before each batch, for the number of batches of this stage before it;
--   distill: { teacher = module, temperature = 4, weight = 0.5 }: knowledge distillation, the loss becomes (1 - weight) loss + weight
--   T^2 KL(softmax(teacher / T) || softmax(model / T)) (Hinton et al. 2015); the teacher is put into evaluation mode, nothing
--   else of it changes;
--   sparsity: an object of prune.sparse (RigL and the like), or any with step(net, optimizer), which takes the optimiser's step, and if it
--   needs them start(net), after_epoch(net), state() and load_state(state);
--   snapshot: a number of batches: after so many of each stage the model is kept as trainer.ticket (prune.lottery), with out also as
--   NAME.snapshot.h5; 0: before the first;
--   accumulate: batches per optimiser step (1); clip: largest gradient norm;
--   patience: epochs without a better validation loss before stopping;
--   out: folder for NAME.checkpoint.h5 of every stage and metrics.csv (none: no files); quiet: no lines, no bar
-- @return trainer
-- @usage prune.Trainer(net, { optimizer = prune.optim.SGD(net, { lr = 0.1 }) }):fit(train, { epochs = 3, validate = test })
local function new(_, net, given)
  options.module("prune.Trainer", "the first argument", net)
  local o = options.check("prune.Trainer", given, {
    optimizer = none, loss = none, metrics = none, step = none, regularizer = none, distill = none, sparsity = none,
    snapshot = none, schedule = none, schedule_by = "epoch", accumulate = 1, clip = none, patience = none, out = none, quiet = false,
  })
  if o.patience ~= nil and (math.type(o.patience) ~= "integer" or o.patience < 1) then
    error("prune.Trainer: patience must be an integer of at least 1, got " .. tostring(o.patience), 2)
  end
  if o.snapshot ~= nil and (math.type(o.snapshot) ~= "integer" or o.snapshot < 0) then
    error("prune.Trainer: snapshot must be a number of batches, an integer of at least 0, got " .. tostring(o.snapshot), 2)
  end
  if not o.optimizer and not o.step then
    error("prune.Trainer: option 'optimizer' must be given (prune.optim.SGD(net, { lr = 0.1 }))", 2)
  end
  if math.type(o.accumulate) ~= "integer" or o.accumulate < 1 then
    error("prune.Trainer: accumulate must be an integer of at least 1", 2)
  end
  if o.metrics and type(o.metrics) ~= "table" then
    error("prune.Trainer: metrics are a table of functions by name, got " .. type(o.metrics), 2)
  end
  for name, metric in util.sorted(o.metrics or {}) do
    if type(name) ~= "string" or not util.is_callable(metric) then
      error(("prune.Trainer: metrics are functions by name; '%s' is a %s"):format(tostring(name), type(metric)), 2)
    end
    if name == "loss" or name == "" or name:find '[,"%c]' then -- they name columns of metrics.csv
      error(("prune.Trainer: a metric cannot have the name '%s'"):format(name), 2)
    end
  end
  for _, name in ipairs { "loss", "step" } do options.callable("prune.Trainer", name, o[name]) end
  check_objects(o)
  if o.clip and not (type(o.clip) == "number" and o.clip > 0) then
    error("prune.Trainer: clip must be the largest norm of the gradients, a number above 0, got " .. tostring(o.clip), 2)
  end
  if o.out and type(o.out) ~= "string" then error("prune.Trainer: out is the path of a folder, got " .. type(o.out), 2) end
  options.choice("prune.Trainer", "quiet", o.quiet, { true, false })
  if o.distill ~= nil then o.distill = distill.check(net, o.distill) end
  if o.schedule ~= nil then o.schedule = require("prune.schedule").read(o.schedule, "prune.Trainer") end
  if o.schedule_by ~= "epoch" and o.schedule_by ~= "batch" then
    error(('prune.Trainer: schedule_by is "epoch" or "batch", got %s'):format(tostring(o.schedule_by)), 2)
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
    for name, metric in util.sorted(self.metrics) do
      local value = metric(output, labels)
      if core.is_tensor(value) then value = value:item() end
      if type(value) ~= "number" then
        error(("training: metric '%s' must give a number, got %s"):format(name, type(value)), 0)
      end
      totals[name] = (totals[name] or 0) + value
    end
  end)
end

-- The loss of a batch as a tensor of one element.
local function loss_of(self, output, y)
  local loss = self.loss(output, y)
  if not core.is_tensor(loss) or loss:numel() ~= 1 then
    error(("training: the loss must be a tensor with one element, got %s"):format(core.is_tensor(loss)
      and ("one of shape [%s]"):format(table.concat(loss:size(), ", ")) or type(loss)), 0)
  end
  return loss
end

local function step_optimizer(self)
  if self.regularizer then self.regularizer:apply(self.net, self._step) end
  if self.clip then self.optimizer:clip_grad_norm(self.clip) end
  if self.sparsity then self.sparsity:step(self.net, self.optimizer) else self.optimizer:step() end
  self._pending = 0
end

-- Forward and backward of one batch; the optimiser moves every `accumulate` batches, and at the end of the epoch.
local function train_batch(self, x, y)
  if self.step then
    local loss, output = self.step(self, x, y)
    if core.is_tensor(loss) then loss = loss:item() end
    if type(loss) ~= "number" then error(("training: step must give the loss, got %s"):format(type(loss)), 0) end
    return loss, output
  end
  if self._pending == 0 then self.optimizer:zero_grad() end
  local output = self.net(x)
  local loss = loss_of(self, output, y)
  if self.distill then loss = distill.loss(self.distill, x, output, loss) end
  local value = loss:item()
  if not is_finite(value) then return value, output end
  if self.accumulate > 1 then loss = loss / self.accumulate end
  loss:backward()
  self._pending = self._pending + 1
  if self._pending == self.accumulate then step_optimizer(self) end
  return value, output
end

-- --- epochs ---------------------------------------------------------------------------------------------------------

local function averages(totals, samples, loss)
  local result = { loss = samples > 0 and loss / samples or 0 }
  for name, total in pairs(totals) do result[name] = total / math.max(samples, 1) end
  return result
end

-- Trainer.fit(x) would leave its traces in any x that has the fields.
local function check_self(method, self)
  if getmetatable(self) ~= Trainer then error(("Trainer:%s is called on a trainer: trainer:%s(...), got %s"):format(method, method, type(self)), 3) end
end

local function check_data(method, data, what)
  local ok, batches = pcall(function() return data.batches end)
  if not ok or not util.is_callable(batches) then error(("Trainer:%s: %s must be a data set, got %s"):format(method, what, type(data)), 3) end
end

--- Loss and metrics on data, in evaluation mode, without recording.
-- @param data a data set with batches()
-- @return table { loss =, accuracy =, ... }
function Trainer:evaluate(data)
  check_self("evaluate", self)
  check_data("evaluate", data, "the argument")
  local was_training = self.net.training
  self.net:eval()
  local totals, samples, sum = {}, 0, 0
  local ok, message = pcall(core.no_grad, function()
    for x, y in data:batches() do
      local output = self.net(x)
      local n = x:size(1)
      sum, samples = sum + loss_of(self, output, y):item() * n, samples + n
      add_metrics(self, totals, output, y)
    end
  end)
  self.net:train(was_training)
  if not ok then error(message, 0) end
  return averages(totals, samples, sum)
end

-- The rest of an epoch, from batch `state.batch` on. Data of prune.data know where they are; others give the epoch once more, with the
-- random numbers with which it began, and what was done is passed over.
local function batches_left(train, state)
  if train.restore then return train:batches() end
  if state.batch == 0 then
    state.random = { core.random_state() }
    return train:batches()
  end
  local seed, at = core.random_state()
  core.restore_random_state(table.unpack(state.random))
  local step, object, control, closing = train:batches()
  for i = 1, state.batch do
    control = step(object, control)
    if control == nil then error(("training: the data end after %d batches, %d were done before"):format(i - 1, state.batch), 0) end
  end
  core.restore_random_state(seed, at)
  return step, object, control, closing
end

local function snapshot_of(self, name) return ("%s/%s.snapshot.h5"):format(self.out, name) end

-- Keep the model when it is time: at the first moment from step `snapshot` on at which the optimiser has taken all batches.
local function keep_snapshot(self, name, state)
  if not self.snapshot or state.has_snapshot or state.step < self.snapshot or self._pending > 0 then return end
  state.has_snapshot = true
  self.ticket = require("prune.lottery").ticket(self.net)
  if self.out then require("prune.checkpoint").write(snapshot_of(self, name), self.net, { partial = true }) end
end

local function set_rate(self, at)
  if self.schedule and self.optimizer then self.optimizer:set_lr_factor(self.schedule(at)) end
end

-- One epoch. Returns "done"; or, after Ctrl-C at a batch boundary, "stopped" and where the data stand.
local function run_epoch(self, train, o, state)
  self.net:train()
  self._pending = 0
  keep_snapshot(self, o.file, state)
  local label = ("%sepoch %d/%d"):format(o.name and o.name .. " " or "", state.epoch, o.epochs)
  local count = #train
  local bar <close> = setmetatable({ bar = not self.quiet and progress.bar { total = count, label = label, start = state.batch } or nil },
    { __close = function(this) if this.bar then this.bar:done() end end })
  for x, y in batches_left(train, state) do
    self._step = state.step + 1
    if core.is_tensor(x) and not self.net._input then -- so that checkpoints know what to trace with
      self.net._input = { { shape = table.move(x:size(), 2, x:dim(), 1, {}), dtype = x.dtype } }
    end
    if self.schedule_by == "batch" then set_rate(self, state.step) end
    local value, output = train_batch(self, x, y)
    if not is_finite(value) then
      error(("training: the loss is %s at step %d (epoch %d, batch %d); try a smaller rate or option clip, and check the data"):format(
        tostring(value), state.step + 1, state.epoch, state.batch + 1), 0)
    end
    local n = x:size(1)
    state.step, state.batch = state.step + 1, state.batch + 1
    state.samples, state.loss = state.samples + n, state.loss + value * n
    if output then add_metrics(self, state.totals, output, y) end
    keep_snapshot(self, o.file, state)
    if bar.bar then bar.bar:step(1, ("loss %.4f"):format(state.loss / state.samples)) end
    if state.batch < count and self._pending == 0 and interrupt.pending() then return "stopped", util.position_of(train) end
  end
  if state.batch == 0 then error("training: the data give no batch", 0) end
  if self._pending > 0 then step_optimizer(self) end
  keep_snapshot(self, o.file, state)
  return "done"
end

local function format_line(name, epoch, epochs, result, seconds)
  local parts = { ("%sepoch %d/%d"):format(name and name .. " " or "", epoch, epochs) }
  for _, set in ipairs { "train", "test" } do
    if result[set] then
      parts[#parts + 1] = ("%s loss %.4f"):format(set, result[set].loss)
      for key, value in util.sorted(result[set]) do
        if key == "accuracy" then parts[#parts + 1] = ("accuracy %.2f%%"):format(100 * value)
        elseif key ~= "loss" then parts[#parts + 1] = ("%s %.4g"):format(key, value) end
      end
    end
  end
  parts[#parts + 1] = ("%.1f s"):format(seconds)
  return table.concat(parts, "  ")
end

-- --- logs and checkpoints -------------------------------------------------------------------------------------------

local function checkpoint_of(self, name) return ("%s/%s.checkpoint.h5"):format(self.out, name) end

-- Rows of a file that this module wrote: lists of cells by column. Nothing where there is none.
local function read_metrics(path)
  local file, rows = io.open(path), {}
  if not file then return rows end
  local columns
  for line in file:lines() do
    local cells = {}
    for cell in (line .. ","):gmatch "([^,]*)," do cells[#cells + 1] = cell end
    if columns then
      local row = {}
      for i, column in ipairs(columns) do row[column] = cells[i] end
      rows[#rows + 1] = row
    end
    columns = columns or cells
  end
  file:close()
  return rows
end

local function metrics_row(name, entry)
  local row = { stage = name, epoch = tostring(entry.epoch), seconds = ("%.10g"):format(entry.seconds), lr = ("%.10g"):format(entry.lr) }
  for _, set in ipairs { "train", "test" } do
    for key, value in pairs(entry[set] or {}) do row[set .. "_" .. key] = ("%.10g"):format(value) end
  end
  return row
end

-- One file for all stages: a stage's rows are those of its history, so that resuming never repeats one; other stages keep theirs.
local function write_metrics(self, name, history)
  local path, rows, seen = self.out .. "/metrics.csv", {}, {}
  local function add_stage()
    for _, entry in ipairs(history) do rows[#rows + 1] = metrics_row(name, entry) end
    history = {}
  end
  for _, row in ipairs(read_metrics(path)) do
    if row.stage == name then add_stage() else rows[#rows + 1] = row end
  end
  add_stage()
  for _, row in ipairs(rows) do
    for column in pairs(row) do seen[column] = true end
  end
  local columns = { "stage", "epoch", "seconds", "lr" }
  for _, column in ipairs(columns) do seen[column] = nil end
  for _, prefix in ipairs { "^train_", "^test_" } do
    for column in util.sorted(seen) do
      if column:find(prefix) then columns[#columns + 1] = column end
    end
  end
  local lines = { table.concat(columns, ",") }
  for i, row in ipairs(rows) do
    local cells = {}
    for k, column in ipairs(columns) do cells[k] = row[column] or "" end
    lines[i + 1] = table.concat(cells, ",")
  end
  util.write_file(path, table.concat(lines, "\n") .. "\n")
end

local function state_of(object) return object and object.state and object.load_state and object:state() or nil end

local function save(self, name, at, state)
  state.data = at
  state.regularizer, state.sparsity = state_of(self.regularizer), state_of(self.sparsity)
  require("prune.checkpoint").write(checkpoint_of(self, name), self.net, { optimizer = self.optimizer, progress = state, partial = true })
end

-- The state of a stage's checkpoint, or nil when there is none.
local function load(self, name, train)
  local path = checkpoint_of(self, name)
  local file = io.open(path, "rb")
  if not file then return nil end
  file:close()
  local state, differences = require("prune.checkpoint").restore(path, self.net, self.optimizer)
  if type(state) ~= "table" or not state.history then error(("%s is not a checkpoint of a training stage"):format(path), 0) end
  if state.data and train.restore then train:restore(state.data) end
  if self.snapshot and state.has_snapshot then self.ticket = require("prune.lottery").load(snapshot_of(self, name)) end
  for _, part in ipairs { "regularizer", "sparsity" } do
    if state[part] and self[part] then self[part]:load_state(state[part]) end
  end
  if not self.quiet then
    local where = state.batch > 0 and ("goes on in epoch %d after %d batches"):format(state.epoch, state.batch)
      or ("epoch %d is done"):format(state.epoch - 1)
    io.stdout:write(("%s: %s (%s)\n"):format(name, where, path)):flush()
    for _, line in ipairs(differences) do
      io.stderr:write(("note: %s; numbers may differ from those of an uninterrupted run\n"):format(line))
    end
  end
  return state
end

local function fresh_state()
  return { epoch = 1, batch = 0, step = 0, samples = 0, loss = 0, totals = {}, history = {}, finished = false, seconds = 0 }
end

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
  if self.sparsity and self.sparsity.after_epoch then self.sparsity:after_epoch(self.net) end
  if o.validate then row.test = self:evaluate(o.validate) end
  state.history[#state.history + 1] = row
  if not self.quiet then io.stdout:write(format_line(o.name, state.epoch, o.epochs, row, row.seconds), "\n"):flush() end
  state.epoch = state.epoch + 1
  begin_epoch(state)
  state.finished = state.epoch > o.epochs or is_stuck(self, state.history)
end

-- Ctrl-C is held back until a batch boundary; a second one is not. Returns whether the stage is finished.
local function run(self, train, o, state)
  while not state.finished do
    if self.schedule_by == "epoch" then set_rate(self, state.epoch - 1) end
    local start = core.clock()
    local outcome, at = run_epoch(self, train, o, state)
    if outcome == "stopped" then
      state.seconds = state.seconds + core.clock() - start
      if self.out then save(self, o.file, at, state) end
      return false
    end
    finish_epoch(self, o, state, core.clock() - start)
    if self.out then
      save(self, o.file, util.position_of(train), state)
      write_metrics(self, o.file, state.history)
    end
    if o.each_epoch then o.each_epoch(self, state.history[#state.history]) end
    if not state.finished and interrupt.pending() then return false end
  end
  return true
end

-- What would go wrong at the end of the first epoch goes wrong now. And where the program was killed between the checkpoint and
-- metrics.csv, the latter gets its rows.
local function prepare_files(self, o, state)
  if self.optimizer then require("prune.checkpoint").check_optimizer(self.net, self.optimizer) end
  util.make_folder(checkpoint_of(self, o.file))
  write_metrics(self, o.file, state.history)
end

--- Train for some epochs.
-- @param train data with batches() and #train
-- @param options { epochs = 1, name = stage name (for files and lines), validate = data, resume = false,
--   each_epoch = function(trainer, row) }
-- With `resume` the stage goes on from its checkpoint, or returns at once with its final state when it was finished; without, it
-- starts afresh.
-- After Ctrl-C the training stops at the next batch boundary, writes the checkpoint and raises; a second Ctrl-C stops at once.
-- @return history: list of { epoch =, train = { loss =, accuracy = }, test = {...}, lr =, seconds = }
function Trainer:fit(train, given)
  check_self("fit", self)
  local o = options.check("Trainer:fit", given, { epochs = 1, name = none, validate = none, resume = false, each_epoch = none })
  check_data("fit", train, "the first argument")
  if o.validate ~= nil then check_data("fit", o.validate, "validate") end
  if math.type(o.epochs) ~= "integer" or o.epochs < 0 then
    error("Trainer:fit: epochs must be an integer of at least 0, got " .. tostring(o.epochs), 2)
  end
  options.choice("Trainer:fit", "resume", o.resume, { true, false })
  options.callable("Trainer:fit", "each_epoch", o.each_epoch)
  if o.resume and not self.out then error("Trainer:fit: to resume, the trainer needs a folder: prune.Trainer(net, { out = ... })", 2) end
  if o.name and (type(o.name) == "boolean" or not tostring(o.name):match "^[%w_][%w_.-]*$") then
    error(("Trainer:fit: the name of a stage becomes that of a file: letters, digits and _ . - only, got '%s'"):format(tostring(o.name)), 2)
  end
  o.file = o.name or "stage"
  local state = o.resume and load(self, o.file, train) or fresh_state()
  if self.out then prepare_files(self, o, state) end
  state.finished = state.epoch > o.epochs or (state.finished and is_stuck(self, state.history))
  if state.finished then
    self.history = state.history
    return state.history
  end
  if self.out then util.make_folder(checkpoint_of(self, o.file)) end
  if self.sparsity and self.sparsity.start then self.sparsity:start(self.net) end
  local ok, done
  do
    local held <close> = interrupt.hold(true) -- luacheck: ignore
    ok, done = pcall(run, self, train, o, state)
  end
  self.history = state.history
  if not ok then error(done, 0) end
  if not done then
    local where = self.out and ("; a checkpoint is in %s, resume = true goes on from it"):format(checkpoint_of(self, o.file)) or ""
    error(("interrupted at a batch boundary in epoch %d%s"):format(state.epoch, where), 0)
  end
  return state.history
end

return setmetatable(Trainer, { __call = new })
