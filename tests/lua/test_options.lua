-- Options that make no sense: each option of each function of pruning is given values of the wrong type or range. What is refused is refused
-- in words of prunelua, not by a mishap of Lua's deep inside, and leaves parameters, masks, gradients, buffers, modes and the optimiser bit by bit
-- as they were.
local T = require "testing"
local prune = require "prune"

local mask, sparse, nn = prune.mask, prune.sparse, prune.nn
local shape = { 1, 6, 6 }
prune.seed(1)
local data = { { prune.randn { 4, 1, 6, 6 }, prune.tensor({ 1, 2, 3, 1 }, { dtype = "i64" }) } }
local train = prune.data.load("", { batch = 8, limit = 8, threads = 0 })

local net, optimizer

local function fresh(images)
  prune.seed(2)
  net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * (images and 36 or 16), images and 10 or 3))
  optimizer = prune.optim.SGD(net, { lr = 0.1, momentum = 0.9 })
  net(prune.randn { 4, 1, images and 8 or 6, images and 8 or 6 }):square():mean():backward()
  optimizer:step()
  mask.l1_unstructured(net:weights()[1], { amount = 0.25 })
end

local function bits(t) return table.concat(t:reshape(-1):to("f64"):totable(), " ") end

local function state()
  local list = {}
  for name, p in net:named_parameters() do
    local slots = p:slots()
    list[#list + 1] = { name, bits(p:dense()), p.mask and bits(p.mask) or "", p.grad and bits(p.grad) or "", #slots }
    for _, slot in ipairs(slots) do table.insert(list[#list], slot[1] .. ": " .. bits(slot[2])) end
  end
  for name, b in net:named_buffers() do list[#list + 1] = { name, bits(b) } end
  for name, m in net:named_modules() do list[#list + 1] = { name, tostring(m.training) } end
  return list
end

local junk = {
  0 / 0, -1, 2.5, 1e300, "xyzzy", "[", true, {}, { 0 / 0 }, { "[" }, { print }, { foo = 1 }, function() error "raised" end, function() return 0 / 0 end,
  function() end, nn.ReLU(), prune.zeros { 2 }, coroutine.create(print),
}

local mishaps = { "attempt to %a+", "bad argument", "stack overflow" }

-- f(options) with each of the options spoilt in turn; `trains`: an error may come when training has begun.
local function spoil(where, f, base, names, trains)
  for name in names:gmatch "%S+" do
    for i, value in ipairs(junk) do
      fresh(trains)
      local before = not trains and state()
      local o = {}
      for k, v in pairs(base) do o[k] = v end
      o[name] = value
      local ok, reason = pcall(f, o)
      local at = ("%s, %s = %s (%d)"):format(where, name, type(value), i)
      if not ok then
        for _, mishap in ipairs(mishaps) do
          if tostring(reason):find(mishap) then error(at .. ": " .. tostring(reason), 0) end
        end
        if before then T.equal(state(), before, at) end
      end
    end
  end
end

T.test("plans", function()
  local function planned(o) return prune.structured(net, shape, o) end
  spoil("structured", planned, { ratio = 0.5 }, [[criterion ratio scope allocation group_by kinds heads head_dims ignore max_ratio min_units round_to
    rounding data batches loss schedule steps]])
  spoil("structured", planned, { macs = 0.7 }, "macs scope allocation kinds max_ratio")
  spoil("structured", planned, { latency = 0.5, measure = function() return 1 end }, "latency measure")
  spoil("structured", planned, { ratio = 0.5, data = data, criterion = prune.criterion.taylor() }, "data batches loss criterion")
  spoil("apply", function(o) return planned({ ratio = 0.5 }):apply(o) end, {}, "fold reconstruct undo")
  spoil("apply", function(o) return planned({ ratio = 0.5 }):apply { reconstruct = o } end, { data = data }, "data batches ridge positions")
  spoil("verify", function(o) return prune.verify(net, planned { ratio = 0.5 }, o) end, {}, "dtype gradients tolerance batch")
  spoil("sensitivity", function(o) return tostring(prune.sensitivity(net, shape, o)) end, { data = data, ratios = { 0.5 } },
    "data batches criterion loss metric ignore ratios")
  spoil("depth", function(o)
    local chain = nn.Sequential(nn.Flatten(), nn.Linear(36, 3))
    return prune.depth(chain, shape, o)
  end, { blocks = 0 }, "blocks criterion data batches loss ignore by")
end)

T.test("masks", function()
  local function first() return net:weights()[1] end
  for _, name in ipairs { "l1_unstructured", "random_unstructured", "ln_structured", "random_structured" } do
    spoil(name, function(o) return mask[name](first(), o) end, { amount = 0.5 }, "amount scores dim n")
  end
  spoil("global_unstructured", function(o) return mask.global_unstructured(net:weights(), o) end, { sparsity = 0.5 }, "method sparsity scores")
  spoil("nm", function(o) return mask.nm(first(), o) end, { n = 1, m = 3 }, "n m dim scores")
  for _, name in ipairs { "block", "kernel", "row", "column" } do
    spoil(name, function(o) return mask[name](first(), o) end, { sparsity = 0.5, size = name == "block" and { 2, 1 } or nil },
      "size dims sparsity pool scope scores")
  end
  spoil("unstructured", function(o) return mask.unstructured(net, o) end, { sparsity = 0.5, criterion = "snip", data = data },
    "criterion data batches sparsity loss ignore layers allocation max_sparsity")
  spoil("scores", function(o) return mask.scores(net, o) end, { criterion = "taylor", data = data }, "criterion data loss ignore layers")
  for _, name in ipairs { "wanda", "sparsegpt", "obs" } do
    spoil(name, function(o) return mask[name](net, data, o) end, { sparsity = 0.5 }, "sparsity allocation layers ignore batches damp samples loss")
    spoil(name, function(o) return mask[name](net, data, o) end, { nm = { 1, 3 } }, "nm")
  end
end)

T.test("criteria and regularisers", function()
  for _, described in ipairs(require("prune.core").criteria()) do
    local names = {}
    for i, option in ipairs(described.options) do names[i] = option.name end
    spoil(described.name, prune.criterion[described.name], {}, table.concat(names, " "))
  end
  for _, described in ipairs(require("prune.core").regularizers()) do
    local names = { "shape" }
    for i, option in ipairs(described.options) do names[i + 1] = option.name end
    spoil(described.name, prune.regularizer[described.name], {}, table.concat(names, " "))
  end
end)

T.test("repair, tickets, operators", function()
  spoil("batch_norm", function(o) return prune.repair.batch_norm(net, o.data, { batches = o.batches }) end, { data = data }, "data batches")
  spoil("rewind", function(o) return prune.lottery.ticket(net):rewind(net, o.optimizer) end, {}, "optimizer")
  spoil("rewind", function(o) return prune.lottery.ticket(o.net) end, {}, "net")
  spoil("Function", function(o)
    local f, x = nn.Function(o), prune.randn { 2, 3 }
    x.requires_grad = true
    f(x):sum():backward()
  end, { name = "doubled", forward = function(_, x) return x * 2 end, backward = function(_, g) return g * 2 end },
    "name forward backward shape couple options")
end)

T.test("training", function()
  local function fit(o)
    o.optimizer = o.optimizer or optimizer
    return prune.Trainer(net, o):fit(train)
  end
  spoil("Trainer", fit, { quiet = true }, [[optimizer loss metrics step regularizer distill sparsity snapshot schedule schedule_by accumulate clip
    patience quiet]], true)
  spoil("fit", function(o) return prune.Trainer(net, { optimizer = optimizer, quiet = true }):fit(train, o) end, {},
    "epochs name validate resume each_epoch", true)
  local exchange = "sparsity every last fraction allocation parameters ignore"
  local kinds = {
    rigl = { { sparsity = 0.5, every = 1, last = 3 }, exchange }, set = { { sparsity = 0.5, every = 1, last = 3 }, exchange },
    gradual_magnitude = { { schedule = { "cubic", to = 0.5, last = 2 } }, "schedule scope parameters ignore" },
    movement = { { schedule = { "cubic", to = 0.5, last = 2 } }, "schedule scope parameters ignore" },
    soft_filters = { { ratio = 0.5 }, "ratio parameters ignore" }, soft_threshold = { {}, "start decay rate parameters ignore" },
  }
  for kind, case in pairs(kinds) do
    spoil(kind, function(o) return fit { quiet = true, sparsity = sparse[kind](o) } end, case[1], case[2], true)
  end
end)

T.test("recipes", function()
  local function run(stage, how)
    how = how or {}
    how.quiet = how.quiet == nil and true or how.quiet
    return prune.recipe({ data = { "", batch = 8, limit = 8, threads = 0 }, model = { "cnn", width = 4 },
      stages = { { "train", epochs = 0, snapshot = 0, optimizer = { "SGD", lr = 0.1 } }, stage } }, how)
  end
  local function stage_of(kind)
    return function(o)
      o[1] = kind
      return run(o)
    end
  end
  spoil("tune", stage_of "tune", { epochs = 0, optimizer = { "SGD", lr = 0.1 } },
    "epochs optimizer schedule distill regularizer sparsity snapshot clip accumulate patience loss name")
  spoil("mask", stage_of "mask", { sparsity = 0.5 }, "sparsity scope method ignore")
  spoil("batch_norm", stage_of "batch_norm", {}, "batches")
  spoil("rewind", stage_of "rewind", { to = "train" }, "to")
  T.raises(function() run({ "batch_norm" }, { check = 1 }) end, "check is one of 'true', 'false', got 1")
end)

-- --- what was taken, or refused in other words ------------------------------------------------------------------------------

T.test("a criterion by name, data of no use, a measure that gives no time", function()
  fresh()
  local function slip(options, reason) T.raises(function() prune.structured(net, shape, options) end, reason) end
  slip({ ratio = 0.5, criterion = "tailor" }, "did you mean prune%.criterion%.taylor%(%)%?")
  slip({ ratio = 0.5, criterion = "lamp" }, "did you mean prune%.criterion%.lamp%(%)%?")
  slip({ ratio = 0.5, data = 3 }, "data must have batches")
  slip({ latency = 0.5, measure = function() return 0 / 0 end }, "measure must return milliseconds")
  slip({ latency = 0.5, measure = function() end }, "measure must return milliseconds, a number of at least 0, got nil")
  slip({ ratio = 0.5, round_to = math.maxinteger }, "round_to must be an integer of at least 1 and at most 1048576")
  slip({ ratio = 0.5, steps = math.maxinteger }, "steps must be an integer of at least 1 and at most 1048576")
end)

T.test("a check of no samples, or with another tolerance than a number, checks nothing", function()
  fresh()
  local plan = prune.structured(net, shape, { ratio = 0.5 })
  local function slip(options, reason) T.raises(function() prune.verify(net, plan, options) end, reason) end
  slip({ batch = 0 }, "batch must be an integer of at least 1, got 0")
  slip({ tolerance = 0 / 0 }, "tolerance must be a number in 0")
  slip({ dtype = "f46" }, "dtype is one of 'f32', 'f64', got f46; did you mean 'f64'%?")
  slip({ gradients = "no" }, "gradients is true or false, got no")
end)

T.test("clipping to nan or to 0, or 'quiet' that is a text, would train otherwise than meant", function()
  fresh()
  local function slip(options, reason)
    options.optimizer = optimizer
    T.raises(function() prune.Trainer(net, options) end, reason)
  end
  slip({ clip = 0 / 0 }, "clip must be the largest norm of the gradients, a number above 0")
  slip({ clip = 0 }, "a number above 0, got 0")
  slip({ quiet = "no" }, "quiet is one of 'true', 'false', got no")
  slip({ out = 3 }, "out is the path of a folder, got number")
  slip({ regularizer = nn.ReLU() }, "regularizer must be an object with apply")
  T.raises(function() sparse.soft_threshold { start = 1 / 0 } end, "start must be a number, got inf")
end)

T.test("gradient modes take a function", function()
  T.raises(function() prune.no_grad(5) end, "no_grad: the first argument must be a function, got number")
  T.raises(function() prune.enable_grad {} end, "enable_grad: the first argument must be a function, got table")
  fresh()
  T.equal(prune.no_grad(net, prune.zeros { 1, 1, 6, 6 }):size(2), 3)
end)

-- --- memory that runs out -----------------------------------------------------------------------------------------------------

T.test("masks of several parameters are set all or none, also where memory stays short", function()
  local core = require "prune.core"
  local function weights() return net:weights() end
  local calls = {
    list = function() mask.l1_unstructured(weights(), { amount = 0.5 }) end,
    slices = function() mask.ln_structured(weights(), { amount = 0.5 }) end,
    nm = function() mask.nm(weights(), { n = 1, m = 3 }) end,
    rows = function() mask.row(weights(), { sparsity = 0.5 }) end,
    finalize = function() mask.finalize(net) end,
    rigl = function() sparse.rigl({ sparsity = 0.5, last = 3 }):start(net) end,
    wanda = function() mask.wanda(net, data, { sparsity = 0.5 }) end,
    identity = function() mask.identity(weights()) end,
    soft_threshold = function() sparse.soft_threshold({ start = -2 }):start(net) end,
    synflow = function() mask.unstructured(net, { criterion = "synflow", shape = shape, sparsity = 0.5, iterations = 2 }) end,
    rewind = function(ticket) ticket:rewind(net, optimizer) end,
  }
  -- Does the call go through when the nth allocation fails (stays: and all behind it)? If not, nothing has changed.
  local function survives(name, nth, stays)
    fresh()
    local ticket, before = prune.lottery.ticket(net), state()
    core.fail_allocation(nth, stays)
    local ok, reason = pcall(calls[name], ticket)
    core.fail_allocation(0)
    if ok then return true end
    assert(tostring(reason):find "memory", reason)
    T.equal(state(), before, ("%s, allocation %d"):format(name, nth))
  end
  for name in pairs(calls) do
    local nth = 1
    while not survives(name, nth, true) do
      survives(name, nth, false)
      nth = nth + (nth < 40 and 1 or 9)
    end
    assert(nth > 3, name)
  end
end)

T.done()
