--- Criteria: what makes units important. A criterion is a function of a group that gives one score per unit (a tensor); the lowest go first.
-- Those made here wrap the C core's (core/prune/criterion, one file each with formula and source); any function of a group serves as well.
--
-- Which one when:
--   criterion       data  labels  cost                  good for
--   magnitude       -     -       a pass over weights   the default; after training
--   lamp            -     -       a pass                global ranking by weights
--   fpgm            -     -       a matrix product      layers with redundant filters
--   bn_scale        -     -       nothing               after training with regularizer.bn_scale
--   random          -     -       nothing               the baseline
--   synflow         -     -       forward, backward     at initialisation, high sparsity
--   taylor          yes   yes     4 batches             after training; the best value for its cost
--   snip            yes   yes     4 batches             at initialisation
--   grasp           yes   yes     12 batches            at initialisation, high sparsity
--   movement        yes   yes     none beside training  while fine-tuning: criterion:apply(net) before each step
--   obd             yes   yes     every sample alone    after training
--   eigendamage     yes   yes     every sample alone    the same, filters only
--   group_fisher    yes   yes     4 batches             global ranking per MAC or per entry of memory
--   activation      yes   no      4 batches, forward    ReLU nets; transformers
--   apoz            yes   no      4 batches, forward    ReLU nets
--   hrank           yes   no      many small SVDs       convolutions, one group at a time
--   chip            yes   no      an SVD per channel    convolutions, one group at a time; slow
--   wanda           yes   no      4 batches, forward    transformers
-- Data, and the loss for those with labels, are options of prune.structured: data, batches (4), loss. All but random, which has no options, share
-- reduction ("sum", "mean", "max", "prod", "first", "last": how coupled layers are put together; not group_fisher and wanda), normalizer
-- ("none", "sum", "mean", "max", "minmax", "gaussian", "quantile", "lamp": over the units of a group) and quantile (0.5, in 0..1: which one
-- divides).
local core = require "prune.core"
local calibration = require "prune.calibration"
local options = require "prune.options"
local util = require "prune.util"

local criterion = {}
local Criterion = {}
Criterion.__index = Criterion
Criterion.__call = function(self, group) return core.score(self.name, self.options, group) end
Criterion.__tostring = function(self) return "criterion " .. self.name end

local known = {}
for _, described in ipairs(core.criteria()) do known[described.name] = described end

local function check_choice(where, option, value)
  local words = {}
  for word in option.choices:gmatch "%S+" do
    if word == value then return end
    words[#words + 1] = word
  end
  local near = type(value) == "string" and core.nearest(value, words)
  error(("%s: option '%s' is one of %s; got %s%s"):format(where, option.name, table.concat(words, ", "), tostring(value),
    near and ("; did you mean '" .. near .. "'?") or ""), 4)
end

local kinds = { boolean = "boolean", integer = "number", number = "number" }

local function check_values(where, described, o)
  for _, option in ipairs(described.options) do
    local value = o[option.name]
    if value ~= nil and option.kind == "choice" then check_choice(where, option, value) end
    if value ~= nil and option.kind ~= "choice" and type(value) ~= kinds[option.kind] then
      error(("%s: option '%s' must be a %s, got %s"):format(where, option.name, option.kind, type(value)), 3)
    end
  end
  if o.p ~= nil and not (o.p > 0 and o.p < math.huge) then error(("%s: p must be above 0 and finite, got %s"):format(where, o.p), 3) end
  if o.quantile ~= nil and not (o.quantile >= 0 and o.quantile <= 1) then
    error(("%s: quantile must be in 0..1, got %s"):format(where, o.quantile), 3)
  end
  if o.threshold ~= nil and not (o.threshold >= 0) then -- luacheck: ignore
    error(("%s: threshold must be at least 0, got %s"):format(where, o.threshold), 3)
  end
end

local function make(described)
  local where = "prune.criterion." .. described.name
  local defaults = {}
  for _, option in ipairs(described.options) do defaults[option.name] = options.none end
  return function(given)
    local o = options.check(where, given, defaults)
    check_values(where, described, o)
    return setmetatable({ name = described.name, options = o, needs = described.needs }, Criterion)
  end
end

-- --- criteria of weights ---------------------------------------------------------------------------------------------

--- Sum of |w|^p over a unit's weights, over all coupled layers (Li et al. 2017; Fang et al. 2023).
-- @param options { p = 2 (above 0), reduction = "mean", normalizer = "mean", quantile = 0.5 }
-- @return criterion
-- @usage prune.structured(net, { 3, 32, 32 }, { criterion = prune.criterion.magnitude { p = 1 }, ratio = 0.5 })
criterion.magnitude = make(known.magnitude)

--- Squared magnitude as a share of all magnitudes in the group that are not smaller (LAMP, Lee et al. 2021), for global ranking.
-- @param options { reduction = "mean", normalizer = "lamp" }
-- @return criterion
-- @usage prune.structured(net, shape, { criterion = prune.criterion.lamp(), ratio = 0.5, scope = "global" })
criterion.lamp = make(known.lamp)

--- Sum of the Euclidean distances between a unit's weights and those of the group's other units (geometric median, He et al. 2019): what
-- others can stand in for goes first.
-- @param options { norms = false (count normalisation scales too), reduction = "mean", normalizer = "mean", quantile = 0.5 }
-- @return criterion
criterion.fpgm = make(known.fpgm)

--- |gamma| of a unit's normalisation (network slimming, Liu et al. 2017). A group without a norm is an error: leave it out with ignore.
-- @param options { reduction = "mean", normalizer = "none", quantile = 0.5 }
-- @return criterion
criterion.bn_scale = make(known.bn_scale)

--- Uniform random numbers (prune.seed repeats them): the baseline that every criterion must beat.
-- @return criterion
criterion.random = make(known.random)

--- Synaptic flow (SynFlow, Tanaka et al. 2020): sum of |w| dR/d|w|, R the output of the net for an input of ones with every parameter
-- replaced by its absolute value and biases left out. Takes no data. The paper scores anew after each of many small steps: give option steps
-- of prune.structured.
-- @param options { reduction = "sum", normalizer = "none", quantile = 0.5 }
-- @return criterion
criterion.synflow = make(known.synflow)

-- --- criteria of gradients --------------------------------------------------------------------------------------------

--- Sum of |w g| over a unit's weights, g the gradient of the loss (Molchanov et al. 2017, 2019). Needs option data of prune.structured, or
-- gradients on the parameters.
-- @param options { multivariable = false (|sum w g|), norms = false (count normalisation scales too), reduction = "mean",
-- normalizer = "mean", quantile = 0.5 }
-- @return criterion
-- @usage prune.structured(net, shape, { criterion = prune.criterion.taylor(), ratio = 0.5, data = train, batches = 8 })
criterion.taylor = make(known.taylor)

--- Connection sensitivity (SNIP, Lee et al. 2019): sum of |w g| over a unit's weights, ranked globally at initialisation. Needs option
-- data, or gradients on the parameters.
-- @param options { reduction = "sum", normalizer = "none", quantile = 0.5 }
-- @return criterion
criterion.snip = make(known.snip)

--- Gradient signal preservation (GraSP, Wang et al. 2020): sum of w (H g) over a unit's weights, H g the Hessian times the gradient, by
-- central differences of gradients. The paper removes the highest -w (H g), which is the lowest here. Needs option data.
-- @param options { reduction = "sum", normalizer = "none", quantile = 0.5 }
-- @return criterion
criterion.grasp = make(known.grasp)

--- Sum of -w g over training steps (movement pruning, Sanh et al. 2020): units that training moves towards zero go first. Let it watch a
-- training: criterion:apply(net) between backward and step (it serves as option regularizer of prune.Trainer); or give option data, then
-- it is -w g of the model as it is.
-- @param options { reduction = "mean", normalizer = "none", quantile = 0.5 }
-- @return criterion
-- @usage local movement = prune.criterion.movement()
-- prune.Trainer(net, { optimizer = optimizer, regularizer = movement }):fit(train, { epochs = 3 })
-- prune.structured(net, shape, { criterion = movement, ratio = 0.5 })
criterion.movement = make(known.movement)

--- Optimal brain damage (LeCun et al. 1990): sum of w^2 F / 2, F the diagonal of the empirical Fisher matrix: the mean over samples of the
-- squared gradient of one sample's loss. Needs option data; runs every sample alone.
-- @param options { norms = false (count normalisation scales too), reduction = "mean", normalizer = "mean", quantile = 0.5 }
-- @return criterion
criterion.obd = make(known.obd)

--- prune.criterion.obd under its other name.
criterion.hessian = criterion.obd

--- Optimal brain damage of filters (OBD-C in EigenDamage, Wang et al. 2019): sum of w^2 F over the weights that make a unit, F as for obd.
-- Needs option data; runs every sample alone.
-- @param options { reduction = "mean", normalizer = "mean", quantile = 0.5 }
-- @return criterion
criterion.eigendamage = make(known.eigendamage)

--- Fisher information of a mask on the unit, in all layers that read it at once (Liu et al. 2021): mean over samples of (sum of x dL/dx)^2
-- / 2, divided by what the unit's removal saves. For global ranking. Needs option data, and a loss that is a mean over the batch.
-- @param options { cost = "macs", "memory" (feature-map entries of the layers that make it) or "none"; normalizer = "none", quantile = 0.5 }
-- @return criterion
criterion.group_fisher = make(known.group_fisher)

-- --- criteria of activations --------------------------------------------------------------------------------------------

--- Mean absolute activation of a unit, as the next layers read it. Needs option data, no labels.
-- @param options { reduction = "mean", normalizer = "mean", quantile = 0.5 }
-- @return criterion
criterion.activation = make(known.activation)

--- Share of a unit's activations that are not zero, as the next layers read it: 1 - APoZ (Hu et al. 2016). Needs option data, no labels.
-- @param options { threshold = 0 (|x| up to this is zero), reduction = "mean", normalizer = "none", quantile = 0.5 }
-- @return criterion
criterion.apoz = make(known.apoz)

--- Average rank of a unit's feature maps (HRank, Lin et al. 2020), before pooling and flattening. Needs option data, no labels.
-- @param options { reduction = "mean", normalizer = "none", quantile = 0.5 }
-- @return criterion
criterion.hrank = make(known.hrank)

--- Channel independence (CHIP, Sui et al. 2021): how much the nuclear norm of a sample's feature maps falls without the unit, averaged over
-- samples. Needs option data, no labels; the cost grows with the cube of the channels and more.
-- @param options { reduction = "mean", normalizer = "none", quantile = 0.5 }
-- @return criterion
criterion.chip = make(known.chip)

--- Sum of |w| |x| over the weights of the next layers that read a unit, |x| the norm of what they read (Wanda, Sun et al. 2023); of units
-- that no weight reads (widths of queries and keys) the sum of |x|. Needs option data, no labels.
-- @param options { normalizer = "mean", quantile = 0.5 }
-- @return criterion
criterion.wanda = make(known.wanda)

-- Criteria of the core that this file does not name.
for name, described in pairs(known) do
  if not criterion[name] then criterion[name] = make(described) end
end

-- --- gathering what criteria need ------------------------------------------------------------------------------------------

local function set_all(statistics, tensors)
  for p, t in pairs(tensors) do statistics:set(p, t) end
end

local gather = {}

function gather.gradients(statistics, c)
  set_all(statistics, calibration.gradients(c.net, c.data, c.batches, c.loss))
end

function gather.squares(statistics, c)
  set_all(statistics, calibration.squared_gradients(c.net, c.data, c.batches, c.loss))
end

function gather.hessian(statistics, c)
  set_all(statistics, calibration.hessian_gradient(c.net, c.data, c.batches, c.loss))
end

function gather.movement(statistics, c)
  for p, g in pairs(calibration.gradients(c.net, c.data, c.batches, c.loss)) do statistics:set(p, -(p:value() * g)) end
end

function gather.flow(statistics, c)
  set_all(statistics, calibration.synaptic_flow(c.graph))
end

function gather.inputs(statistics, c)
  local still <close> = core.no_grad() -- luacheck: ignore
  for x in calibration.batches(c.data, c.batches, c.where) do c.graph:run(core.is_tensor(x) and { x } or x, false, statistics) end
end

gather.maps = gather.inputs

function gather.mask_gradients(statistics, c)
  local collecting <close> = calibration.collecting(c.net) -- luacheck: ignore
  local recording <close> = core.enable_grad() -- luacheck: ignore
  for x, y in calibration.batches(c.data, c.batches, c.where) do
    local output = c.graph:run(core.is_tensor(x) and { x } or x, false, statistics)
    calibration.loss(c.loss, output, y, c.where):backward()
    statistics:finish()
  end
end

-- One score per unit as f64, checked; what goes wrong is told with the group's name.
local function score(measure, group, where)
  local function refuse(text, ...)
    error(("%s: the group of %s: " .. text):format(where, (group:name()), ...), 0)
  end
  local ok, result = pcall(core.no_grad, measure, group)
  if not ok and type(result) ~= "string" then error(result, 0) end
  if not ok then
    local place, text = result:match "^([^\n]-:%d+: )(.*)$" -- the place stays in front
    where = (place or "") .. where
    refuse("%s", text or result)
  end
  if not core.is_tensor(result) then refuse("the criterion must return a tensor of scores, got %s", type(result)) end
  if result:numel() ~= group:count() then
    refuse("the criterion must give one score per unit: there are %d units, got %d scores", group:count(), result:numel())
  end
  result = result:reshape(group:count()):detach():to("f64")
  if result:isnan():any():item() then
    for unit, value in ipairs(result:totable()) do
      if value ~= value then refuse("the score of unit %d is NaN", unit) end
    end
  end
  return result
end

-- What a criterion can do without data.
local without_data = { nothing = true, flow = true, gradients = true, movement = true }

--- Make a criterion ready for the groups of a graph: gather what it needs, from data where it takes them. The model stays as it was. For
-- a function of one's own, data mean that parameters hold the gradients of the loss while it runs.
-- @param measure a criterion or a function(group) -> tensor
-- @param net the module
-- @param graph of the module
-- @param given { data =, batches =, loss =, where = the caller's name for messages }
-- @return function(group) -> f64 tensor of one score per unit; it raises, naming the group, where the criterion does not give that
function criterion.prepare(measure, net, graph, given)
  local c = { net = net, graph = graph, data = given.data, batches = given.batches, loss = given.loss, where = given.where or "criterion" }
  local function checked(f)
    return function(group) return score(f, group, c.where) end
  end
  if getmetatable(measure) ~= Criterion then
    if c.data == nil then return checked(measure) end
    local gradients = calibration.gradients(net, c.data, c.batches, c.loss)
    return checked(function(group)
      local holding <close> = calibration.holding(net, gradients) -- luacheck: ignore
      return measure(group)
    end)
  end
  local needs = measure.needs
  if needs == "nothing" or (c.data == nil and (needs == "gradients" or needs == "movement")) then return checked(measure) end
  if c.data == nil and not without_data[needs] then
    error(("%s: criterion %s needs data: give option data (a loader such as prune.data.load gives, or a list of { inputs, labels }), and "
      .. "batches and loss if the defaults do not fit"):format(c.where, measure.name), 0)
  end
  local statistics = core.statistics(graph, measure.name, measure.options)
  gather[needs](statistics, c)
  return checked(function(group) return core.score(measure.name, measure.options, group, statistics) end)
end

--- criterion:apply(net)
--- Only of prune.criterion.movement: add -w g to what is known of every parameter, between backward and step. What is known follows when
--- the model is pruned; making an optimiser for the parameters forgets it.
-- @param net a module whose parameters hold gradients
function Criterion:apply(net)
  if getmetatable(self) ~= Criterion then error(("Criterion:apply is called on a criterion: criterion:apply(net), got %s"):format(type(self)), 2) end
  if self.needs ~= "movement" then error(("criterion %s does not watch a training; only movement does"):format(self.name), 2) end
  options.module("criterion movement", "the model", net)
  local watched = false
  for _, p in net:named_parameters() do watched = watched or p.grad ~= nil end
  core.no_grad(function()
    for _, p in net:named_parameters() do
      local before = util.slot(p, "movement")
      if p.grad then
        local step = -(p:value() * p.grad)
        p:set_slot("movement", before and before + step or step)
      elseif watched and not before then
        p:set_slot("movement", core.zeros(p:size()):to(p.dtype)) -- a frozen parameter does not move
      end
    end
  end)
end

return criterion
