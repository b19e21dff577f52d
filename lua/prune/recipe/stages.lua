-- stages.lua - what the stages of a recipe do. A stage is given the recipe's context - { net =, shape =, train =, test =, out =, quiet =,
-- done = names of earlier stages, ends = models as they were behind those that are teachers, tickets = of those with a snapshot,
-- pruners = of those that prune in several steps } - and its options. With context.dry it makes everything that its options ask for and does
-- to the model what changes shapes and masks, but trains nothing and uses no data.
local core = require "prune.core"
local options = require "prune.options"
local util = require "prune.util"

local stages = {}
local none = options.none

-- --- options with a name in front -----------------------------------------------------------------------------------

local function own_options(value, extra)
  local own = {}
  for key, v in pairs(type(value) == "table" and value or {}) do own[key] = key ~= 1 and v or nil end
  for key, v in pairs(extra or {}) do own[key] = own[key] == nil and v or own[key] end
  return own
end

-- { "SGD", lr = 0.1 }, or "SGD", as prune.optim.SGD(..., { lr = 0.1 }): the function and its options. Anything else is what was meant already.
local function named(what, value, module)
  local name = type(value) == "table" and getmetatable(value) == nil and value[1] or value
  if type(name) ~= "string" then return nil, value end
  local known = {}
  for key, f in pairs(module) do
    if type(key) == "string" and key:find "^%a" and type(f) == "function" then known[#known + 1] = key end
  end
  table.sort(known)
  if type(rawget(module, name)) ~= "function" then
    local near = core.nearest(name, known)
    error(("%s: there is no '%s'%s"):format(what, name, near and ("; did you mean '" .. near .. "'?") or
      " (there are: " .. table.concat(known, ", ") .. ")"), 0)
  end
  return module[name], own_options(value)
end
stages.named, stages.own_options = named, own_options

local function object(what, value, module)
  if value == nil then return nil end
  local make, own = named(what, value, module)
  if make then return make(own) end
  return own
end

-- The model that an option names: that behind an earlier stage, or a file.
local function model_of(context, what, value)
  if type(value) ~= "string" then return value end
  if context.ends[value] then return context.ends[value] end
  if value:match "%.h5$" then return require("prune.checkpoint").load(value) end
  local near = core.nearest(value, context.done)
  error(("%s: '%s' is neither an earlier stage nor a file (.h5)%s"):format(what, value, near and ("; did you mean '" .. near .. "'?") or ""), 0)
end

-- --- training -------------------------------------------------------------------------------------------------------

local training = {
  epochs = none, optimizer = none, schedule = none, loss = none, regularizer = none, sparsity = none, distill = none, snapshot = none,
  accumulate = none, clip = none, patience = none, schedule_by = none,
}

local function loss_of(value)
  local f, own = named("loss", value, require "prune.nn.functional")
  if not f then return own end
  return function(output, labels) return f(output, labels, own) end
end

local function trainer_of(context, o)
  if o.optimizer == nil then error("option 'optimizer' must be given, such as { \"SGD\", lr = 0.1, momentum = 0.9 }", 0) end
  local make, own = named("optimizer", o.optimizer, require "prune.optim")
  if not make then error("optimizer is a name with options, such as { \"SGD\", lr = 0.1 }", 0) end
  local distill
  if o.distill ~= nil then
    distill = own_options(o.distill)
    distill.teacher = model_of(context, "distill.teacher", distill.teacher)
  end
  return require "prune.trainer"(context.net, {
    optimizer = make(context.net, own), out = context.out, quiet = context.quiet, distill = distill, snapshot = o.snapshot,
    schedule = o.schedule, loss = o.loss ~= nil and loss_of(o.loss) or nil,
    regularizer = object("regularizer", o.regularizer, require "prune.regularizer"),
    sparsity = object("sparsity", o.sparsity, require "prune.sparse"), accumulate = o.accumulate, clip = o.clip, patience = o.patience,
    schedule_by = o.schedule_by,
  })
end

local function train(context, stage)
  local o = options.check(stage.kind, stage.options, training)
  if math.type(o.epochs) ~= "integer" or o.epochs < 0 then
    error(("epochs must be an integer of at least 0, got %s"):format(tostring(o.epochs)), 0)
  end
  local trainer = trainer_of(context, o)
  if context.dry then
    if o.sparsity ~= nil and trainer.sparsity.start then trainer.sparsity:start(context.net) end
    if o.snapshot and o.snapshot > o.epochs * #context.train then
      error(("snapshot is behind batch %d, but %d epochs of %d batches end before"):format(o.snapshot, o.epochs, #context.train), 0)
    end
    if o.snapshot then context.tickets[stage.name] = require("prune.lottery").ticket(context.net) end
    return
  end
  local worked = false
  local history = trainer:fit(context.train, { name = stage.name, epochs = o.epochs, validate = context.test, resume = context.out ~= nil,
    each_epoch = function() worked = true end })
  if #history > o.epochs then
    error(("%d epochs were trained already, epochs is %d; give another out, or start again (option restart, --restart)"):format(#history,
      o.epochs), 0)
  end
  context.tickets[stage.name] = trainer.ticket
  return worked, history[#history]
end

-- --- pruning --------------------------------------------------------------------------------------------------------

-- What is done once and for all is kept in a checkpoint of the stage, with the state of the random numbers and of the data. `rebuild(path)` does
-- first what the stage did to the modules, where values alone do not say it.
local function once(context, stage, work, keeper, rebuild)
  if context.dry then return work() end
  local checkpoint = require "prune.checkpoint"
  local path = context.out and ("%s/%s.checkpoint.h5"):format(context.out, stage.name)
  local file = path and io.open(path, "rb")
  if file then
    file:close()
    if rebuild then rebuild(path) end
    local state = checkpoint.restore(path, context.net)
    if type(state) ~= "table" or state.recipe ~= stage.kind then error(("%s is not a checkpoint of a stage '%s'"):format(path, stage.kind), 0) end
    if state.data then context.train:restore(state.data) end
    if keeper then keeper:load_state(state.kept) end
    return false
  end
  work()
  if path then
    util.make_folder(path)
    checkpoint.write(path, context.net, { partial = true, shape = context.shape,
      progress = { recipe = stage.kind, kept = keeper and keeper:state() or nil, data = util.position_of(context.train) } })
  end
  return true
end

-- Does a criterion take data? Functions of one's own may want gradients. Movement that a training left on the parameters serves as it is.
local function takes_data(net, criterion)
  local needs = type(criterion) == "table" and criterion.needs or criterion and "gradients" or "nothing"
  if needs == "nothing" or needs == "flow" then return false end
  for _, p in net:named_parameters() do
    if needs == "movement" and util.slot(p, "movement") then return false end
  end
  return true
end

-- A dry run ranks by magnitude: criteria may need data.
local function options_of(context, stage)
  local own = own_options(stage.options)
  own.fold, own.reconstruct = nil, nil
  local criterion = object("criterion", own.criterion, require "prune.criterion")
  own.criterion = not context.dry and criterion or nil
  if not context.dry and own.data == nil and takes_data(context.net, criterion) then own.data = context.train end
  return own
end

-- What plan:apply mends; layers are fitted anew on the training data, but not in a dry run.
local function repairs_of(context, stage)
  local repairs = { fold = stage.options.fold }
  if stage.options.reconstruct == nil then return repairs end
  if type(stage.options.reconstruct) ~= "table" then
    error(("reconstruct is a table such as { batches = 8 }, got %s"):format(type(stage.options.reconstruct)), 0)
  end
  local own = own_options(stage.options.reconstruct)
  own.data = context.train
  repairs.reconstruct = require("prune.repair.reconstruct").read(own)
  if context.dry then repairs.reconstruct = nil end
  return repairs
end

-- A step of several has a pruner in common with the others.
local function structured(context, stage)
  local make = require("prune.structured").structured
  local repairs, pruner = repairs_of(context, stage), nil
  if stage.options.steps ~= nil then
    pruner = context.pruners[stage.series] or make(context.net, context.shape, options_of(context, stage))
    context.pruners[stage.series] = pruner
  end
  return once(context, stage, function()
    local plan
    if pruner then
      pruner.applying.fold, pruner.applying.reconstruct = repairs.fold, repairs.reconstruct
      plan = pruner:step()
    else
      plan = make(context.net, context.shape, options_of(context, stage)):apply(repairs)
    end
    if not context.quiet and not context.dry then print(plan) end
  end, pruner)
end

-- Whole blocks, ranked on the training data where the criterion takes them.
local function depth(context, stage)
  local module = require "prune.depth"
  return once(context, stage, function()
    local own = own_options(stage.options)
    if own.criterion == nil or module.needs_data[own.criterion] then
      if context.dry then own.criterion = nil else own.data = context.train end
    end
    local plan = module.depth(context.net, context.shape, own):apply()
    if not context.quiet and not context.dry then print(plan) end
  end, nil, function(path)
    local steps = require("prune.checkpoint").history(path)
    if #steps > #require("prune.history").history(context.net) then module.again(context.net, context.shape, steps[#steps]) end
  end)
end

local function mask(context, stage)
  local o = options.check("mask", stage.options, { sparsity = none, amount = none, scope = "global", method = "l1", ignore = {} })
  if o.scope ~= "global" and o.scope ~= "local" then error(('scope is "global" or "local", got %s'):format(tostring(o.scope)), 0) end
  if type(o.ignore) ~= "table" then error(("ignore must be a list of patterns, got %s"):format(type(o.ignore)), 0) end
  local weights, names = {}, {}
  for name in context.net:named_parameters() do names[#names + 1] = name end
  for _, pattern in ipairs(o.ignore) do options.pattern("ignore", pattern, names, "parameter") end
  for name, p in context.net:named_parameters() do
    local stays = p:dim() < 2
    for _, pattern in ipairs(o.ignore) do stays = stays or name:find(pattern) end
    if not stays then weights[#weights + 1] = p end
  end
  return once(context, stage, function()
    local masks, own = require "prune.mask", { method = o.method, sparsity = o.sparsity, amount = o.amount }
    if o.scope == "global" then return masks.global_unstructured(weights, own) end
    for _, p in ipairs(weights) do masks.global_unstructured({ p }, own) end
  end)
end

-- --- the others -----------------------------------------------------------------------------------------------------

local function batch_norm(context, stage)
  local o = options.check("batch_norm", stage.options, { batches = none })
  if o.batches ~= nil then options.count("batch_norm", "batches", o.batches) end
  return once(context, stage, function()
    if not context.dry then require("prune.repair").batch_norm(context.net, context.train, stage.options) end
  end)
end

local function rewind(context, stage)
  local o = options.check("rewind", stage.options, { to = none })
  local ticket = context.tickets[o.to]
  if not ticket then
    local near = core.nearest(tostring(o.to), util.keys(context.tickets))
    error(("to names an earlier stage with option snapshot, got %s%s"):format(tostring(o.to), near and ("; did you mean '" .. near .. "'?") or
      ""), 0)
  end
  ticket:rewind(context.net)
end

--- Stages by kind: function(context, stage = { kind =, name =, options = }) -> did it do work (false: it was taken from its checkpoint; nil: it
-- has none), a row of training history.
stages.kinds = { train = train, tune = train, prune = structured, depth = depth, mask = mask, batch_norm = batch_norm, rewind = rewind }

return stages
