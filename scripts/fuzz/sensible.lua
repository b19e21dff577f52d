-- sensible.lua - calls that make sense, for api.lua: by path, what makes the arguments. Options of pruning with values that belong there.
--
-- A key that starts with "scenario" is a function that makes several calls in a row on a small model, as a user would, with options drawn at
-- random.
return function(given)
  local prune, random, chance, pick, pool = given.prune, given.random, given.chance, given.pick, given.pool
  local sorted_keys, argument, functions = given.sorted_keys, given.argument, given.functions

  local image = { 1, 8, 8 }

  local function small_net()
    local nn = prune.nn
    return pick {
      function() return prune.models.cnn { channels = 1, width = 4 } end,
      function() return prune.models.resnet20 { classes = 10, channels = 1 } end,
      function()
        return nn.Sequential(nn.Conv2d(1, 4, 3, { padding = 1 }), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 8, 3, { groups = 2 }), nn.ReLU(),
          nn.Flatten(), nn.Linear(288, 6), nn.ReLU(), nn.Linear(6, 10))
      end,
    }()
  end

  local kept_net
  local function net()
    if not kept_net or chance(20) then kept_net = small_net() end
    return chance(90) and kept_net or pick(pool())
  end

  local function data() return prune.data.load("", { batch = 8, limit = 16 }) end
  local function share() return pick { 0, 0.1, 0.25, 0.5, 0.75, 0.9, 1 } end
  local function criterion() return prune.criterion[pick { "magnitude", "taylor", "fpgm", "lamp", "random", "activation", "apoz", "wanda",
    "hrank", "chip", "obd", "snip", "grasp", "synflow", "group_fisher", "eigendamage", "movement", "bn_scale" }]() end
  local function layer_names() return pick { "conv1", "^conv", "fc", "0", ".*", "no layer", "weight$" } end
  local function sometimes(f) return function() return chance(25) and f() or nil end end

  -- Values by option name, each there or not.
  local function some_of(makers_of)
    local list = {}
    for _, name in ipairs(sorted_keys(makers_of)) do
      if chance(40) then list[name] = makers_of[name]() end
    end
    return list
  end

  local structured_options = {
    criterion = criterion, data = data, batches = function() return random(2) end, ratio = sometimes(share), macs = sometimes(share),
    params = sometimes(share), bytes = sometimes(share), scope = function() return pick { "local", "global", "isomorphic" } end,
    allocation = function() return pick { "uniform", "erk", "owl", "global", { ["^conv"] = 0.5 } } end, max_ratio = share,
    min_units = function() return random(3) end, round_to = function() return random(4) end,
    rounding = function() return pick { "up", "down", "nearest" } end, ignore = function() return { layer_names() } end,
    heads = sometimes(share), kinds = function() return { "channel" } end, steps = sometimes(function() return random(3) end),
    schedule = sometimes(function() return pick { "linear", "cubic", "exponential", { 0.5, 1 } } end),
  }
  local zero_options = {
    sparsity = share, nm = sometimes(function() return { 1, 2 } end), allocation = function() return pick { "uniform", "erk", "owl" } end,
    layers = sometimes(layer_names), ignore = sometimes(layer_names), batches = function() return 1 end,
  }

  local function trained(options_of)
    return function()
      local model = net()
      return model, data(), options_of and some_of(options_of) or nil
    end
  end

  local function weight()
    local list = net():weights()
    return list[random(#list)]
  end

  local sensible = {
    ["prune.structured"] = function() return net(), image, some_of(structured_options) end,
    ["prune.depth"] = function()
      return net(), image, some_of { blocks = function() return random(0, 3) end, ratio = sometimes(share), data = data,
        criterion = function() return pick { "similarity", "loss", "taylor", "magnitude" } end, by = function() return "module" end }
    end,
    ["prune.sensitivity"] = function() return net(), image, { data = data(), batches = 1, ratios = { share(), share() } } end,
    ["prune.repair.batch_norm"] = trained { batches = function() return random(2) end },
    ["prune.mask.wanda"] = trained(zero_options), ["prune.mask.sparsegpt"] = trained(zero_options), ["prune.mask.obs"] = trained(zero_options),
    ["prune.mask.unstructured"] = function()
      return net(), some_of { criterion = function() return pick { "magnitude", "snip", "taylor", "synflow", "grasp", "movement", "random" } end,
        data = data, sparsity = share, shape = function() return image end, scope = function() return "local" end }
    end,
    ["prune.mask.nm"] = function() return weight(), { n = random(0, 4), m = random(4), dim = random(2) } end,
    ["prune.mask.block"] = function() return weight(), { size = { random(4), random(4) }, sparsity = share() } end,
    ["prune.mask.kernel"] = function() return weight(), { sparsity = share() } end,
    ["prune.mask.row"] = function() return net():weights(), { sparsity = share(), scope = "global" } end,
    ["prune.mask.column"] = function() return weight(), { sparsity = share(), pool = pick { "rms", "mean", "max" } } end,
    ["prune.mask.finalize"] = function() return net() end,
    ["prune.sparse.rigl"] = function() return { sparsity = share(), every = random(3), last = random(9), fraction = share() } end,
    ["prune.sparse.set"] = function() return { sparsity = share(), every = random(3), last = random(9) } end,
    ["prune.sparse.gradual_magnitude"] = function() return { schedule = { "cubic", to = share(), first = random(3), last = random(3, 9) } } end,
    ["prune.sparse.soft_filters"] = function() return { ratio = share() } end,
    ["prune.sparse.movement"] = function() return { schedule = { "linear", to = share(), last = random(9) } } end,
    ["prune.lottery.ticket"] = function() return net() end,
    ["prune.history"] = function() return net() end,
    ["prune.replay"] = function() return small_net(), image, prune.history(net()) end,
    ["prune.verify"] = function() return net(), prune.structured(kept_net, image, { ratio = share() }) end,
    ["prune.graph"] = function() return net(), image end,
    ["prune.profile"] = function() return net(), image end,
    ["prune.save"] = function() return "fuzz.h5", net(), { shape = image } end,
    ["prune.load"] = function() return "fuzz.h5" end,
    ["prune.recipe"] = function()
      local sgd = { "SGD", lr = 0.01 }
      return { data = { "", batch = 8, limit = 16 }, model = { "resnet20" }, stages = {
        { "train", epochs = random(0, 1), optimizer = sgd, snapshot = random(0, 2) }, { "prune", macs = share(), scope = "global" },
        { "depth", blocks = random(0, 3) }, { "batch_norm", batches = 1 }, { "mask", sparsity = share() },
        { "tune", epochs = 1, optimizer = sgd, sparsity = { "set", sparsity = share(), last = 2 }, distill = { teacher = "train" } },
        { "rewind", to = "train" },
      } }, { quiet = true }
    end,
    ["prune.nn.Function"] = function()
      return { name = "f" .. random(3), couple = chance(50) and "elementwise" or nil, forward = pick(functions), backward = pick(functions) }
    end,
    ["prune.Trainer"] = function()
      local model = net()
      return model, { optimizer = prune.optim.SGD(model, { lr = 0.01 }), quiet = true, distill = chance(30) and { teacher = small_net() } or nil,
        regularizer = chance(50) and prune.regularizer[pick { "bn_scale", "group_lasso", "group_norm", "growing_reg", "group_variance", "hoyer",
          "group_hoyer" }] { strength = 1e-3 } or nil,
        sparsity = chance(30) and prune.sparse.rigl { sparsity = 0.5, every = 1, last = 2 } or nil }
    end,
    ["Trainer:fit"] = function(object) return object, data(), { epochs = 1 } end,
  }

  -- --- several calls in a row ------------------------------------------------------------------------------------------

  local score_options = {
    reduction = function() return pick { "sum", "mean", "max", "prod", "first", "last" } end,
    normalizer = function() return pick { "none", "sum", "mean", "max", "standard", "minmax", "gaussian", "quantile", "lamp" } end,
  }

  local function any_criterion()
    local name = pick(sorted_keys(prune.criterion))
    if name == "prepare" or chance(30) then return prune.criterion.magnitude { p = pick { 0.5, 1, 2, 0, 0 / 0 } } end
    return prune.criterion[name](name ~= "random" and some_of(score_options) or nil)
  end

  local function planned()
    local o = some_of(structured_options)
    o.steps = nil
    if not (o.ratio or o.macs or o.params or o.bytes) then o.ratio = share() end
    if not o.data then o.data, o.batches = data(), 1 end
    return prune.structured(small_net(), image, o)
  end

  local scenarios = {}

  function scenarios.criterion() return prune.structured(small_net(), image, { ratio = share(), criterion = any_criterion(), data = data(), batches = 1 }) end

  function scenarios.plan()
    local plan = planned()
    for entry in plan:groups() do
      local way = random(8)
      if way == 1 then entry:veto() elseif way == 2 then entry:keep(chance(80) and random(0, 5) or argument()) end
      if way == 3 then return entry:units(), entry:layers(), entry:indices() end
    end
    tostring(plan)
    plan:reached()
    if chance(20) then plan:ask { read = function() return pick { "y", "n", "q", "", "a", "3", "x y" } end, write = function() end } end
    plan:apply { fold = pick { true, false, "interior" }, reconstruct = chance(30) and { data = data(), batches = 1, positions = random(9) } or nil,
      undo = chance(80) }
    if chance(50) then plan:undo() end
    if chance(30) then plan:release() end
    return plan
  end

  function scenarios.steps()
    local pruner = prune.structured(small_net(), image, { ratio = share(), steps = random(0, 3), schedule = structured_options.schedule() })
    for _ = 1, random(4) do pruner:step() end
    return pruner
  end

  function scenarios.depth()
    local plan = prune.depth(prune.models.resnet20 { channels = 1 }, image, { blocks = random(0, 10), data = chance(50) and data() or nil, batches = 1 })
    tostring(plan)
    plan:apply()
    if chance(50) then plan:undo() end
    return plan
  end

  function scenarios.sensitivity()
    local model = small_net()
    local table_of = prune.sensitivity(model, image, { data = data(), batches = 1, ratios = { 0.25, share() } })
    table_of:save "s.csv"
    table_of:plot("s.svg", { what = pick { "loss", "metric", "lost" } })
    return prune.structured(model, image, { ratio = share(), allocation = table_of:allocation() })
  end

  local function trained_with(options)
    local model = small_net()
    if chance(40) then prune.mask.global_unstructured(model:weights(), { amount = 0.5 }) end
    options.optimizer, options.quiet = prune.optim.SGD(model, { lr = 0.01 }), true
    for key, value in pairs(options) do options[key] = type(value) == "function" and value(model) or value end
    local trainer = prune.Trainer(model, options)
    trainer:fit(data(), { epochs = random(0, 2) })
    return trainer, model
  end

  function scenarios.sparse()
    local kind = pick { "gradual_magnitude", "movement", "rigl", "set", "soft_filters", "soft_threshold" }
    local o = kind == "soft_threshold" and { start = pick { -8, -2, 0 }, decay = share() } or kind == "soft_filters" and { ratio = share() }
      or (kind == "rigl" or kind == "set") and { sparsity = share(), every = random(3), last = random(6), fraction = share() }
      or { schedule = { pick { "cubic", "linear", "exponential" }, to = share(), first = random(2), last = random(2, 6) } }
    local sparse = prune.sparse[kind](o)
    local trainer, model = trained_with { sparsity = sparse }
    if #trainer.history > 0 then tostring(sparse:report()) end
    prune.sparse[kind](o):load_state(chance(80) and sparse:state() or argument())
    prune.save("sparse.h5", model, { shape = image })
    prune.load "sparse.h5"
    return trainer
  end

  function scenarios.regularizer()
    local kind = pick { "bn_scale", "group_lasso", "group_norm", "growing_reg", "group_variance", "hoyer", "group_hoyer" }
    local own = { group_norm = { alpha = share }, growing_reg = { delta = share, every = function() return random(0, 3) end },
      group_lasso = { size_factor = function() return chance(50) end } }
    local o = own[kind] or {}
    if kind ~= "growing_reg" then o.strength = function() return pick { 0, 1e-4, 1e-4, 1, 1 / 0 } end end
    if kind ~= "hoyer" then o.shape = function() return image end end
    local regularizer = prune.regularizer[kind](some_of(o))
    local trainer = trained_with { regularizer = regularizer }
    tostring(regularizer)
    return trainer
  end

  function scenarios.lottery()
    local trainer, model = trained_with {}
    local ticket = prune.lottery.ticket(model)
    ticket:save "ticket.h5"
    prune.mask.global_unstructured(model:weights(), { amount = share() })
    trainer:fit(data(), { epochs = 1 })
    ticket:rewind(chance(80) and model or small_net(), chance(50) and trainer.optimizer or nil)
    return prune.lottery.load "ticket.h5"
  end

  function scenarios.calibration()
    local calibration, model = require "prune.calibration", small_net()
    if chance(50) then
      prune.save("calibrated.h5", model, { shape = image })
      model = prune.load "calibrated.h5"
    end
    local kind = pick { "inputs", "gradients", "squared_gradients", "hessian_gradient", "masks" }
    if kind == "inputs" then
      local modules = {}
      for _, module in model:named_modules() do modules[#modules + 1] = (module.weight or chance(5)) and chance(40) and module or nil end
      return calibration.inputs(model, modules, data(), random(0, 2), pick(functions))
    elseif kind == "masks" then
      prune.mask[pick { "wanda", "sparsegpt", "obs" }](model, data(), some_of(zero_options))
      return prune.mask.finalize(model)
    end
    return calibration[kind](model, data(), random(2), chance(20) and pick(functions) or nil)
  end

  function scenarios.history()
    prune.seed(1)
    local make = function() return prune.models.cnn { channels = 1, width = 4 } end
    local model = make()
    for _ = 1, random(0, 3) do prune.structured(model, image, { ratio = share() }):apply { fold = chance(50) } end
    if chance(30) then prune.mask.global_unstructured(model:weights(), { amount = share() }) end
    local steps = prune.history(model)
    tostring(steps)
    prune.save("history.h5", model, { shape = image })
    prune.history(prune.load "history.h5")
    return prune.replay(make(), image, chance(80) and steps or argument(), chance(30) and { repairs = chance(50), data = data() } or nil)
  end

  function scenarios.operator()
    local nn = prune.nn
    local op = nn.Function {
      name = "fuzzed" .. random(3), options = { scale = 1.5 },
      couple = pick { "elementwise", function(ties) ties:pass("y1", "x1", pick { "zero", "unknown", "value", "vanish" }) end, false } or nil,
      forward = function(ctx, x)
        if chance(10) then return pick(functions)(x) end
        return x * ctx.scale
      end,
      backward = function(ctx, grad)
        if chance(10) then return pick(functions)(grad) end
        return grad * ctx.scale
      end,
    }
    local model = nn.Sequential(nn.Conv2d(1, 4, 3), op, nn.Flatten(), nn.Linear(144, 3))
    op:check(prune.randn { 2, 3 })
    prune.verify(model, prune.structured(model, image, { ratio = 0.5 }))
    prune.save("operator.h5", model, { shape = image })
    return prune.load "operator.h5"
  end

  function scenarios.masks()
    local model = small_net()
    local list = model:weights()
    local w, kind = list[random(#list)], pick { "nm", "block", "kernel", "row", "column", "l1_unstructured", "random_unstructured", "ln_structured" }
    local o = { sparsity = share() }
    if kind == "nm" then o = { n = random(0, 3), m = random(4), dim = random(4) } end
    if kind == "block" then o.size = { random(3), random(3) } end
    if kind == "row" or kind == "column" then o.pool = pick { "mean", "max", "rms" } end
    if kind == "ln_structured" then o = { amount = share(), n = pick { 1, 2, 1 / 0 }, dim = random(4) } end
    prune.mask[kind](w, o)
    tostring(prune.mask.summary(model))
    prune.mask.sparsity(model)
    prune.save("masks.h5", model, { shape = image })
    prune.load("masks.h5")
    if chance(50) then prune.mask.finalize(model) else prune.mask.remove(w) end
    return model
  end

  for name, f in pairs(scenarios) do sensible["scenario " .. name] = f end

  return sensible
end
