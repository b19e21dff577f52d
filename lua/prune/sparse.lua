--- Dynamic sparse training: masks that change while a model is trained.
--
-- Each function here makes an object for option `sparsity` of prune.Trainer, which then has it take the optimiser's steps. In a loop of one's
-- own: loss:backward(); sparsity:step(net, optimizer). Its state is kept in the Trainer's checkpoints. All act on the model's weights (of
-- more than one dimension, not frozen), or on those that options say: `parameters`, a list of parameters; `ignore`, a list of patterns of
-- Lua, found in the names of those that stay dense. Steps are those of the optimiser, counted from 1 over all stages.
local core = require "prune.core"
local allocation = require "prune.allocation"
local common = require "prune.mask.common"
local mask = require "prune.mask"
local options = require "prune.options"
local schedule = require "prune.schedule"
local util = require "prune.util"

local sparse = {}
local Sparse = {}
Sparse.__index = Sparse

local none = options.none

-- --- options ----------------------------------------------------------------------------------------------------------

local function check_share(where, name, value)
  if type(value) == "number" and value >= 0 and value <= 1 then return end
  core.fail(("%s: %s must be a share in 0..1, got %s"):format(where, name, tostring(value)))
end

local function check_steps(where, name, value)
  if math.type(value) == "integer" and value >= 1 then return end
  core.fail(("%s: %s must be a number of steps, an integer of at least 1, got %s"):format(where, name, tostring(value)))
end

local function check_scope(where, scope)
  if scope == "global" or scope == "local" then return end
  core.fail(('%s: scope is "global" (all weights ranked together) or "local" (each loses its share), got %s'):format(where, tostring(scope)))
end

local function need(where, o, name)
  if o[name] == nil then core.fail(("%s: option '%s' must be given"):format(where, name)) end
end

local function is_ignored(name, patterns)
  for _, pattern in ipairs(patterns) do
    if name:find(pattern) then return true end
  end
  return false
end

-- Parameters that an object acts on: { { name =, parameter = }, ... } in the order of the model.
local function choose(where, net, o)
  local chosen, wanted, names, own = {}, nil, {}, {}
  for name, p in net:named_parameters() do names[#names + 1], own[p] = name, true end
  if o.parameters then
    wanted = {}
    for i, p in ipairs(o.parameters) do
      if not (core.is_tensor(p) and p.is_parameter) then core.fail(("%s: parameters[%d] is not a parameter"):format(where, i)) end
      if not own[p] then core.fail(("%s: parameters[%d] is not one of the model"):format(where, i)) end
      wanted[p] = true
    end
  end
  for _, pattern in ipairs(o.ignore or {}) do options.pattern(where .. ": ignore", pattern, names, "parameter") end
  for name, p in net:named_parameters() do
    local is_meant = not wanted and p:dim() > 1 and p.requires_grad or wanted and wanted[p]
    if is_meant and not is_ignored(name, o.ignore or {}) then chosen[#chosen + 1] = { name = name, parameter = p } end
  end
  if #chosen == 0 then core.fail(where .. ": the model has no weight to act on (options parameters, ignore; frozen weights are left alone)") end
  return chosen
end

-- --- what all have in common --------------------------------------------------------------------------------------------

-- kind.begin(self): once, before the first step; kind.listen(self): before the first step and after resuming; kind.step(self, optimizer):
-- the optimiser's step with what belongs before and behind it; kind.after_epoch(self).
local function class(name, kind, defaults, check)
  local where = "prune.sparse." .. name
  defaults.parameters, defaults.ignore = none, none
  return function(given)
    local o = options.check(where, given, defaults)
    for _, list in ipairs { "parameters", "ignore" } do
      if o[list] ~= nil and type(o[list]) ~= "table" then core.fail(("%s: %s must be a list, got %s"):format(where, list, type(o[list]))) end
    end
    check(where, o)
    return setmetatable({ name = name, options = o, kind = kind, steps = 0, memory = {} }, Sparse)
  end
end

--- Take a model: called by the Trainer before the first step, and after a checkpoint was loaded. The first time the initial masks are made.
-- @param net a module
function Sparse:start(net)
  options.module("sparse." .. self.name, "the model", net)
  if self.net == net then return end
  if self.net then core.fail(("sparse.%s: this object belongs to another model; make a new one"):format(self.name)) end
  self.list = choose("prune.sparse." .. self.name, net, self.options)
  if not self.begun and self.kind.begin then self.kind.begin(self) end
  self.net, self.begun = net, true
  if self.kind.listen then self.kind.listen(self) end
end

--- Take the optimiser's step, and move masks where it is time. Stands between backward (and regularisers) and the next forward pass, in the
-- place of optimizer:step().
-- @param net a module
-- @param optimizer an optimiser of its parameters
function Sparse:step(net, optimizer)
  if type(optimizer) ~= "table" or type(optimizer.step) ~= "function" then
    core.fail(("sparse.%s: the second argument of step must be an optimiser, got %s"):format(self.name, type(optimizer)))
  end
  self:start(net)
  self.steps = self.steps + 1
  self.kind.step(self, optimizer)
end

--- What belongs behind an epoch; called by the Trainer before it validates.
-- @param net a module
function Sparse:after_epoch(net)
  self:start(net)
  if self.kind.after_epoch then self.kind.after_epoch(self) end
end

--- What goes on from step to step beside masks and optimiser state, for checkpoints.
-- @return table
function Sparse:state() return { name = self.name, steps = self.steps, begun = self.begun or false, memory = self.memory } end

--- Take up a state from Sparse:state(), before the first step.
-- @param state table
function Sparse:load_state(state)
  if type(state) ~= "table" then core.fail(("sparse.%s: a state must be a table, got %s"):format(self.name, type(state))) end
  if state.name ~= self.name then core.fail(("the checkpoint's sparsity is %s, here %s"):format(tostring(state.name), self.name)) end
  self.steps, self.begun, self.memory = state.steps, state.begun, state.memory
  if self.net and self.kind.listen then self.kind.listen(self) end
end

--- How sparse the weights are that it acts on.
-- @return list of { name =, entries =, zeros =, threshold = (soft_threshold) }; share of zeros of all together
function Sparse:report()
  if not self.list then core.fail(("sparse.%s: it has no model yet; it gets one at the first step"):format(self.name)) end
  local rows, all, total = {}, 0, 0
  for i, item in ipairs(self.list) do
    local zeros, entries = core.count_zeros(item.parameter)
    rows[i] = { name = item.name, entries = entries, zeros = zeros, threshold = self.kind.threshold and self.kind.threshold(self, item) }
    all, total = all + zeros, total + entries
  end
  return rows, total > 0 and all / total or 0
end

Sparse.__tostring = function(self)
  local title = ("sparse.%s after %d steps"):format(self.name, self.steps)
  if not self.list then return title end
  local graph = require "prune.graph"
  local lines, rows, share = { { "weight", "entries", "zeros", "sparsity" } }, self:report()
  for _, row in ipairs(rows) do
    lines[#lines + 1] = { row.name, graph.thousands(row.entries), graph.thousands(row.zeros),
      ("%.1f%%"):format(100 * row.zeros / math.max(row.entries, 1)) }
  end
  lines[#lines + 1] = { "all", "", "", ("%.1f%%"):format(100 * share) }
  local out = graph.aligned(lines, { false, true, true, true })
  table.insert(out, 2, ("-"):rep(#out[1]))
  return title .. "\n" .. table.concat(out, "\n")
end

local function parameters_of(self)
  local list = {}
  for i, item in ipairs(self.list) do list[i] = item.parameter end
  return list
end

-- The schedule's sparsity at this step.
local function scheduled(self)
  local sparsity = self.options.schedule(self.steps)
  if type(sparsity) ~= "number" or not (sparsity >= 0 and sparsity <= 1) then
    core.fail(("prune.sparse.%s: the schedule must give a share in 0..1, at step %d it gave %s"):format(self.name, self.steps,
      tostring(sparsity)))
  end
  return sparsity
end

local function is_time(self)
  local o = self.options
  return self.steps % o.every == 0 and (not o.last or self.steps < o.last)
end

local function alive(p)
  local zeros, total = core.count_zeros(p.mask)
  return total - zeros
end

-- --- gradual magnitude ----------------------------------------------------------------------------------------------

local gradual = {}

function gradual.step(self, optimizer)
  optimizer:step()
  local sparsity = scheduled(self)
  if sparsity == self.memory.sparsity then return end
  if self.options.scope == "global" then
    mask.global_unstructured(parameters_of(self), { sparsity = sparsity })
  else
    for _, item in ipairs(self.list) do mask.l1_unstructured(item.parameter, { sparsity = sparsity }) end
  end
  self.memory.sparsity = sparsity
end

--- Gradual magnitude pruning (Zhu and Gupta 2017): whenever the schedule asks for more, the weights of least magnitude are masked. What is
-- masked stays so.
-- @param options { schedule = function(step from 1) -> sparsity, or a table such as { "cubic", to = 0.9, last = 500 } (prune.schedule:
-- linear, cubic, exponential, multistep_sparsity, with first step, last step and every); scope = "global": all weights are ranked together,
-- or "local": each loses its share; parameters =, ignore = }
-- @return object for option sparsity of prune.Trainer: step(net, optimizer), report(), state(), load_state(state); as text a table
-- @usage prune.sparse.gradual_magnitude { schedule = prune.schedule.cubic { to = 0.9, first = 100, last = 1000, every = 20 } }
sparse.gradual_magnitude = class("gradual_magnitude", gradual, { schedule = none, scope = "global" }, function(where, o)
  need(where, o, "schedule")
  o.schedule = schedule.read(o.schedule, where)
  check_scope(where, o.scope)
end)

-- --- drop and regrow ------------------------------------------------------------------------------------------------

-- Random masks with exact counts; where no sparsity is asked for, the masks that the weights have already.
local function begin_random(self)
  local o, layers = self.options, {}
  for i, item in ipairs(self.list) do
    local p = item.parameter
    if not o.sparsity and not p.mask then
      core.fail(("prune.sparse.%s: '%s' has no mask; give option sparsity, or masks of your own first"):format(self.name, item.name))
    end
    layers[i] = { name = item.name, shape = p:size(), count = p:numel() }
  end
  if not o.sparsity then return end
  local counts = allocation.counts(layers, allocation.read("prune.sparse." .. self.name, o.allocation)(layers, o.sparsity))
  common.all_or_nothing(parameters_of(self), function()
    for i, item in ipairs(self.list) do
      item.parameter:set_mask(nil)
      mask.random_unstructured(item.parameter, { amount = counts[i] })
    end
  end)
end

local function check_exchange(where, o)
  if o.sparsity ~= nil then check_share(where, "sparsity", o.sparsity) end
  allocation.read(where, o.allocation)
  check_share(where, "fraction", o.fraction)
  check_steps(where, "every", o.every)
  if o.last ~= nil then check_steps(where, "last", o.last) end
end

local rigl = { begin = begin_random }

-- The gradient behind the mask is needed at the steps at which masks move, which are known one step before.
function rigl.listen(self)
  self.steps = self.steps + 1
  local wanted = is_time(self)
  self.steps = self.steps - 1
  for _, item in ipairs(self.list) do item.parameter:keep_dense_grad(wanted) end
end

function rigl.step(self, optimizer)
  local o = self.options
  if is_time(self) then
    local fraction = o.fraction / 2 * (1 + math.cos(math.pi * self.steps / o.last))
    for _, item in ipairs(self.list) do
      local p = item.parameter
      if p.dense_grad then core.mask_exchange(p, p.dense_grad, math.floor(fraction * alive(p))) end
    end
  else
    optimizer:step()
  end
  rigl.listen(self)
end

--- RigL (Evci et al. 2020): training at constant sparsity. Every `every` steps, in the place of the optimiser's step, of each layer a share
-- of the weights that are alive, those of least magnitude, is masked, and as many come back where the gradient that the dense weight
-- would have is largest; they begin at 0, also in the optimiser's state. The share falls along half a cosine from `fraction` to 0 at
-- step `last`, from which on masks stay.
-- @param options { sparsity = share of zeros of all weights together, for random masks at the start (without it the weights must have masks);
-- allocation = "erk" (Erdos-Renyi-Kernel), "uniform", shares by name or a function (see prune.allocation); fraction = 0.3; every = 100;
-- last = steps, required (3/4 of the training, say); parameters =, ignore = }
-- @return object for option sparsity of prune.Trainer: step(net, optimizer), report(), state(), load_state(state); as text a table
-- @usage prune.sparse.rigl { sparsity = 0.9, every = 100, last = 3000 }
sparse.rigl = class("rigl", rigl, { sparsity = none, allocation = "erk", fraction = 0.3, every = 100, last = none }, function(where, o)
  need(where, o, "last")
  check_exchange(where, o)
end)

local set = { begin = begin_random }

function set.step(self, optimizer)
  optimizer:step()
  if not is_time(self) then return end
  for _, item in ipairs(self.list) do
    core.mask_exchange(item.parameter, nil, math.floor(self.options.fraction * alive(item.parameter)))
  end
end

--- SET, sparse evolutionary training (Mocanu et al. 2018): training at constant sparsity. Every `every` steps, behind the optimiser's, of each
-- layer a share of the weights that are alive, those of least magnitude, is masked, and as many come back at random; they begin at 0, also
-- in the optimiser's state.
-- @param options { sparsity = share of zeros of all weights together, for random masks at the start (without it the weights must have masks);
-- allocation = "erk" (Erdos-Renyi-Kernel), "uniform", shares by name or a function (see prune.allocation); fraction = 0.3; every = 100;
-- last = step from which on masks stay (none: never); parameters =, ignore = }
-- @return object for option sparsity of prune.Trainer: step(net, optimizer), report(), state(), load_state(state); as text a table
-- @usage prune.sparse.set { sparsity = 0.8, fraction = 0.3, every = 50 }
sparse.set = class("set", set, { sparsity = none, allocation = "erk", fraction = 0.3, every = 100, last = none }, check_exchange)

-- --- soft filter pruning --------------------------------------------------------------------------------------------

local soft_filters = {}

function soft_filters.step(_, optimizer) optimizer:step() end

function soft_filters.after_epoch(self)
  for _, item in ipairs(self.list) do
    local dense = item.parameter:dense()
    local axes = {}
    for d = 2, dense:dim() do axes[#axes + 1] = d end
    local norms = dense:square():sum(axes)
    for _, filter in ipairs(norms:lowest { count = math.floor(self.options.ratio * dense:size(1) + 1e-6) }:totable()) do dense[filter] = 0 end
  end
end

--- Soft filter pruning (He et al. 2018): behind each epoch the filters of lowest norm of each weight are set to zero, but not masked: training
-- may bring them back. After the last epoch they are zero.
-- @param options { ratio = share of filters (rows of a linear layer's weight) that are set to zero, of each weight; parameters =, ignore =
-- (the last layer's rows are the classes: ignore them) }
-- @return object for option sparsity of prune.Trainer: step(net, optimizer), after_epoch(net), report(); as text a table
-- @usage prune.sparse.soft_filters { ratio = 0.3, ignore = { "^fc" } }
sparse.soft_filters = class("soft_filters", soft_filters, { ratio = none }, function(where, o)
  need(where, o, "ratio")
  check_share(where, "ratio", o.ratio)
end)

-- --- learned thresholds ---------------------------------------------------------------------------------------------

-- The weight that is trained lies in a slot of the parameter, whose own value is the thresholded one; for the optimiser's step it is put in
-- its place.
local RAW = "unthresholded"

local function sigmoid(x) return 1 / (1 + math.exp(-x)) end

local function shrink(p, raw, threshold)
  local left = (raw:abs() - threshold):relu()
  p:dense():copy(raw:sign() * left)
  p:set_mask(left:gt(0))
end

local soft_threshold = {}

-- An optimiser that was made since has cleared the slots: then what reads as not zero gets back what was taken off.
function soft_threshold.listen(self)
  local fresh, parameters, before = {}, {}, {}
  for name, s in pairs(self.memory) do before[name] = s end
  for _, item in ipairs(self.list) do
    if not util.slot(item.parameter, RAW) then fresh[#fresh + 1], parameters[#parameters + 1] = item, item.parameter end
  end
  local function take(item)
    local p, s = item.parameter, self.memory[item.name]
    p:set_slot(RAW, s and p:value() + p:value():sign() * sigmoid(s) or p:dense():clone())
    self.memory[item.name] = s or self.options.start
    shrink(p, util.slot(p, RAW), sigmoid(self.memory[item.name]))
  end
  if #fresh == 0 then return end
  util.or_back(function()
    common.all_or_nothing(parameters, function()
      core.no_grad(function()
        for _, item in ipairs(fresh) do take(item) end
      end)
    end, true)
  end, function()
    for _, item in ipairs(fresh) do item.parameter:set_slot(RAW, nil) end
    self.memory = before
  end)
end

function soft_threshold.threshold(self, item) return sigmoid(self.memory[item.name] or self.options.start) end

function soft_threshold.step(self, optimizer)
  local rate, decay = optimizer.lr * self.options.rate, self.options.decay
  soft_threshold.listen(self)
  core.no_grad(function()
    for _, item in ipairs(self.list) do
      local p, s = item.parameter, self.memory[item.name]
      local raw = util.slot(p, RAW)
      if p.grad then -- masked entries have none
        local slope = -(p.grad * raw:sign()):sum():item() * sigmoid(s) * (1 - sigmoid(s))
        self.memory[item.name] = s - rate * (slope + decay * s)
      end
      p:dense():copy(raw)
    end
    optimizer:step()
    for _, item in ipairs(self.list) do
      local raw = util.slot(item.parameter, RAW)
      raw:copy(item.parameter:dense())
      shrink(item.parameter, raw, sigmoid(self.memory[item.name]))
    end
  end)
end

--- Soft threshold reparameterisation, STR (Kusupati et al. 2020): every weight reads as sign(w) max(|w| - g(s), 0) with g the sigmoid and a
-- threshold s of its own that is learned along: by the loss, and by its decay towards 0, which raises g(s) and so sparsity. What reads as
-- zero is masked.
-- @param options { start = -8, where every s begins (g(-8) = 3e-4); decay = 5e-4, weight decay of s: more gives more zeros; rate = 1, of s as
-- multiple of the optimiser's; parameters =, ignore = }
-- @return object for option sparsity of prune.Trainer: step(net, optimizer), report() with thresholds, state(), load_state(state); as text
-- a table
-- @usage prune.sparse.soft_threshold { start = -6, decay = 1e-2 }
sparse.soft_threshold = class("soft_threshold", soft_threshold, { start = -8, decay = 5e-4, rate = 1 }, function(where, o)
  for _, name in ipairs { "start", "decay", "rate" } do
    if type(o[name]) ~= "number" or o[name] ~= o[name] or math.abs(o[name]) == math.huge or name ~= "start" and o[name] < 0 then
      core.fail(("%s: %s must be a number%s, got %s"):format(where, name, name ~= "start" and " of at least 0" or "", tostring(o[name])))
    end
  end
end)

-- --- movement -------------------------------------------------------------------------------------------------------

local SCORE = "movement_score"
local movement = {}

function movement.listen(self)
  for _, item in ipairs(self.list) do
    local p = item.parameter
    p:keep_dense_grad(true)
    if not util.slot(p, SCORE) then p:set_slot(SCORE, core.zeros(p:size(), { dtype = p.dtype })) end
  end
end

function movement.step(self, optimizer)
  local o, list, scores = self.options, parameters_of(self), {}
  movement.listen(self) -- an optimiser that was made since has cleared the slots
  core.no_grad(function()
    for i, p in ipairs(list) do
      scores[i] = util.slot(p, SCORE)
      if p.dense_grad then scores[i]:copy(scores[i] - p:dense() * p.dense_grad) end
    end
  end)
  optimizer:step()
  local sparsity = is_time(self) and scheduled(self) or 0
  if sparsity == 0 then return end
  if o.scope == "global" then return core.mask_rank(list, scores, sparsity) end
  for i, p in ipairs(list) do core.mask_rank({ p }, { scores[i] }, sparsity) end
end

--- Movement pruning (Sanh et al. 2020): every weight has a score, from which at each step weight times gradient is subtracted, so that weights
-- which move away from zero gain. The scores of masked weights go on, with the gradient that the dense weight would have. Every `every`
-- steps the weights of lowest score are masked, as many as the schedule says; others come back.
-- @param options { schedule = function(step from 1) -> sparsity, or a table such as { "cubic", to = 0.9, first = 50, last = 500 } (scores need
-- some steps before they mean anything); every = 10; scope = "global": all weights are ranked together, or "local": each loses its share;
-- parameters =, ignore = }
-- @return object for option sparsity of prune.Trainer: step(net, optimizer), report(), state(), load_state(state); as text a table
-- @usage prune.sparse.movement { schedule = { "cubic", to = 0.9, first = 100, last = 1000 } }
sparse.movement = class("movement", movement, { schedule = none, every = 10, scope = "global" }, function(where, o)
  need(where, o, "schedule")
  o.schedule = schedule.read(o.schedule, where)
  check_steps(where, "every", o.every)
  check_scope(where, o.scope)
end)

sparse._Sparse = Sparse -- for help

return sparse
