-- What can be done with a plan: look at it, change it, apply it, take it back, go in several steps, do it again on a fresh model. All or nothing.
local T = require "testing"
local core = require "prune.core"
local prune = require "prune"
local networks = require "networks"
local nn = prune.nn

local shape = { 1, 8, 8 }
local function small(width)
  prune.seed(1)
  return prune.models.cnn { classes = 3, channels = 1, width = width or 16 }
end
local function widths(net) return { net.conv1.weight:size(1), net.conv2.weight:size(1), net.conv3.weight:size(1) } end

-- Everything that hangs on a model's parameters, and which objects and modes there are.
local function snapshot(net)
  local all = { handles = {}, modes = {}, history = #prune.history(net) }
  local function add(name, p)
    local state = { p:size(), p.dense and p:dense():clone() or p:clone(), p.grad and p.grad:clone(), p.mask and p.mask:clone(), p.requires_grad }
    for _, slot in ipairs(p.slots and p:slots() or {}) do state[#state + 1] = { slot[1], slot[2]:clone() } end
    all[name], all.handles[name] = state, p
  end
  for name, p in net:named_parameters() do add(name, p) end
  for name, b in net:named_buffers() do all[name], all.handles[name] = { b:size(), b:clone() }, b end
  for path, module in net:named_modules() do all.modes[path] = module.training end
  return all
end

local function same(a, b, where)
  if core.is_tensor(a) then
    assert(core.is_tensor(b) and a:equal(b), where .. " has changed")
  elseif type(a) == "table" then
    for key, value in pairs(a) do same(value, b[key], where .. "/" .. tostring(key)) end
    for key in pairs(b) do assert(a[key] ~= nil, where .. "/" .. tostring(key) .. " is new") end
  else
    T.equal(b, a, where)
  end
end

local function unchanged(net, before)
  local now = snapshot(net)
  for name, handle in pairs(before.handles) do assert(rawequal(now.handles[name], handle), name .. " is another object") end
  same(before, now, "model")
end

-- A model with gradients, a mask, optimiser state, a frozen parameter and mixed modes.
local function lived_in()
  local net = small()
  prune.mask.l1_unstructured(net.conv2.weight, { amount = 0.5 })
  net.bn2.bias.requires_grad = false
  local optimizer = prune.optim.Adam(net, { lr = 1e-2 })
  for _ = 1, 2 do
    optimizer:zero_grad()
    net(prune.randn { 2, 1, 8, 8 }):sum():backward()
    optimizer:step()
  end
  net.bn1:eval()
  return net, optimizer
end

-- --- looking --------------------------------------------------------------------------------------------------------

T.test("a plan tells groups, units, layers, savings, what was asked and reached, and what is pinned", function()
  local Pinning = nn.module("Pinning", function(self)
    self.conv, self.fc = nn.Conv2d(1, 4, 3), nn.Linear(4, 2)
  end)
  function Pinning:forward(x) return self.fc(self.conv(x):softmax { dim = 2 }:mean { 3, 4 }) end
  local net = nn.Sequential(nn.Conv2d(1, 8, 3, { padding = 1 }), nn.BatchNorm2d(8), Pinning(), nn.Identity())
  net[3].conv = nn.Conv2d(8, 4, 3)
  local made = prune.structured(net, shape, { macs = 0.5 })
  local text = tostring(made)
  for _, part in ipairs { "group +axis +units +left +layers +params +MACs", "0%.weight +1 +8 +%d +0 1 2%.conv +%-240 +%-9,680",
    "%d of 8 units go: params %d+ %-> %d+", "asked: %d+ MACs %(50.0%%%); reached: %d+ MACs %(%d+%.%d%%%)", "pinned: softmax at '2': " } do
    assert(text:find(part), part .. " is not in\n" .. text)
  end
  made:apply()
  assert(tostring(made):find("8 +%d +0 1 2%.conv") and tostring(made):find "reached", "the text stays when the plan is applied")
end)

T.test("the savings of a group are those of a plan of this group alone", function()
  local net = small()
  local made = prune.structured(net, shape, { ratio = 0.5 })
  for entry in made:groups() do
    if entry.name ~= "conv2.weight" then entry:veto() end
  end
  local text = tostring(made):match "conv2.weight +1 +32 +16 +conv2 bn2 conv3 +(%S+ +%S+)"
  local params, macs = text:match "(%S+) +(%S+)"
  local function number(s) return tonumber((s:gsub(",", ""))) end
  T.equal({ number(params), number(macs) }, { made.params - made.before.params, made.macs - made.before.macs })
end)

T.test("walking a plan: entries can be vetoed or keep units, and the plan follows", function()
  local net = small()
  local made = prune.structured(net, shape, { ratio = 0.5, criterion = function(group) return prune.arange(group.size) end })
  local all = { made.macs, made.params }
  for entry in made:groups() do
    if entry.name == "conv1.weight" then entry:veto() end
    if entry.name == "conv2.weight" then entry:keep(4) end
    if entry.name == "conv3.weight" then entry:keep { 1, 5, 60 } end
  end
  local indices = {}
  for entry in made:groups() do indices[#indices + 1] = entry:indices() end
  T.equal({ #indices[1], #indices[2], indices[2][12], #indices[3], indices[3][1], indices[3][4] }, { 0, 12, 12, 30, 2, 6 })
  assert(made.macs > all[1] and made.params > all[2])
  local foretold = { made.macs, made.params }
  T.equal(made:reached(), 42 / 112)
  made:apply()
  T.equal(widths(net), { 16, 20, 34 })
  local after = prune.profile(net, shape)
  T.equal({ after.macs, after.params }, foretold)
  T.raises(function() made.entries[1]:veto() end, "applied already")
  local vetoed, few = prune.structured(net, shape, { ratio = 0.5 }), prune.structured(net, shape, { ratio = 0.01 })
  for entry in vetoed:groups() do entry:veto() end
  assert(not tostring(vetoed):find "so many units", "the plan was not too small, it was vetoed")
  assert(tostring(few):find "no group has so many units that one goes")
  T.raises(function() prune.structured(net, shape, { ratio = 0.5 }).entries[1]:keep { 17 } end, "position in 1..16")
  T.raises(function() prune.structured(net, shape, { ratio = 0.5 }).entries[1]:keep "all" end, "a number of units or a list")
end)

T.test("plan:ask walks the groups with a user", function()
  local function after(...)
    local net, answers, asked = small(), { ... }, {}
    local made = prune.structured(net, shape, { ratio = 0.5 })
    made:ask { read = function() return table.remove(answers, 1) end, write = function(text) asked[#asked + 1] = text end }
    made:apply()
    return widths(net), asked
  end
  local left, asked = after("y", "n", "10")
  T.equal(left, { 8, 32, 54 })
  assert(asked[1]:find "1/3  conv1.weight axis 1: 8 of 16 units go %(conv1 bn1 conv2%)%?")
  T.equal({ after(" Y ", "q") }, { { 8, 32, 64 }, { asked[1], asked[2] } })
  T.equal((after("n", "a")), { 16, 16, 32 })
  T.equal((after("what", "9", "n", "a")), { 16, 16, 32 }) -- asked again
  T.equal((after("y")), { 8, 32, 64 }) -- the input ends
end)

T.test("a dry run copies no weights", function()
  local net = nn.Sequential(nn.Linear(64, 1024), nn.ReLU(), nn.Linear(1024, 1024), nn.ReLU(), nn.Linear(1024, 8))
  local function dry() return prune.structured(net, { 64 }, { macs = 0.5, criterion = prune.criterion.random() }) end
  dry()
  collectgarbage()
  local before = prune.memory().live
  prune.reset_peak_memory()
  local made = dry()
  local _ = tostring(made)
  assert(prune.memory().peak - before < 4 * 1024 * 1024 / 4, prune.memory().peak - before) -- the weights: 4.5 MB
end)

-- --- undo -----------------------------------------------------------------------------------------------------------

T.test("undo puts everything back bit by bit: values, gradients, masks, optimiser state, modes, objects", function()
  local net, optimizer = lived_in()
  local before, x = snapshot(net), prune.randn { 2, 1, 8, 8 }
  local function output() return prune.no_grad(net, x) end
  net:eval()
  local expected = output()
  net:train()
  net.bn1:eval()
  local made = prune.structured(net, shape, { macs = 0.3 })
  for _ = 1, 2 do -- what was undone can be done again
    made:apply()
    T.equal(#prune.history(net), 1)
    assert(net.conv1.weight:size(1) < 16 or net.conv3.weight:size(1) < 64)
    made:undo()
    unchanged(net, before)
  end
  net:eval()
  assert(output():equal(expected))
  net:train()
  optimizer:zero_grad()
  net(x):sum():backward()
  optimizer:step() -- the optimiser goes on with its state
end)

T.test("undo goes back step by step, and only from where the removal led", function()
  local net = small()
  local before = snapshot(net)
  local first = prune.structured(net, shape, { ratio = 0.25 }):apply()
  local middle = snapshot(net)
  local second = prune.structured(net, shape, { ratio = 0.25 }):apply()
  T.raises(function() first:undo() end, "has changed")
  second:undo()
  unchanged(net, middle)
  first:undo()
  unchanged(net, before)
  T.raises(function() first:undo() end, "not applied")
  first:apply()
  net(prune.randn { 2, 1, 8, 8 }) -- batch norm counts in training mode
  local trained = snapshot(net)
  T.raises(function() first:undo() end, "has changed since the removal")
  unchanged(net, trained)
  T.raises(function() prune.structured(net, shape, { ratio = 0.25 }):apply { undo = false } :undo() end, "nothing was kept")
  T.raises(function() prune.structured(net, shape, { ratio = 0.25 }):apply { undu = false } end, "did you mean 'undo'")
end)

T.test("what undo needs is told, and let go of on request", function()
  local net = small()
  local whole = 0
  for _, t in pairs(net:state_dict()) do whole = whole + 4 * t:numel() end
  local made = prune.structured(net, shape, { ratio = 0.5 }):apply()
  collectgarbage() -- of the views that state_dict gave
  local kept, before = made.removal:bytes(), prune.memory().tensors
  assert(kept > 0.9 * whole and kept <= whole, ("%d of %d"):format(kept, whole))
  assert(rawequal(made:release(), made))
  T.equal(before - prune.memory().tensors, kept)
  T.raises(function() made:undo() end, "nothing was kept")
  made:release()
  T.equal(prune.structured(net, shape, { ratio = 0.5 }):apply({ undo = false, fold = true }).removal, nil)
end)

T.test("undo tells modules that keep numbers: groups of convolutions, heads of attention", function()
  local net = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 3, { groups = 8 }), nn.Conv2d(8, 4, 1)):eval()
  local x = prune.randn { 2, 3, 6, 6 }
  local y, text = net(x), tostring(net)
  local made = prune.structured(net, { 3, 6, 6 }, { ratio = 0.5 }):apply()
  T.equal(tostring(net[2]), "Conv2d(4, 4, 3, groups 4)")
  made:undo()
  T.equal(tostring(net), text)
  assert(net(x):equal(y))
end)

T.test("undo takes back what a repair wrote", function()
  local net = lived_in()
  for norm in net:each "BatchNorm2d" do nn.init.uniform(norm.bias, 0.5, 1) end
  net:eval()
  local before = snapshot(net)
  local made = prune.structured(net, shape, { ratio = 0.5 }):apply { fold = true }
  assert(#made.repairs > 0)
  made:undo()
  unchanged(net, before)
end)

T.test("a loaded model's plan is undone as well", function()
  local net = small():eval()
  prune.save(T.scratch "undo.h5", net, { shape = shape })
  local loaded = prune.load(T.scratch "undo.h5")
  local before, x = snapshot(loaded), prune.randn { 2, 1, 8, 8 }
  local made = prune.structured(loaded, shape, { ratio = 0.5 }):apply()
  T.equal(widths(loaded), { 8, 16, 32 })
  made:undo()
  unchanged(loaded, before)
  assert(loaded(x):equal(net(x)))
end)

-- --- several steps --------------------------------------------------------------------------------------------------

T.test("several steps reach what one step reaches, by every schedule, with training between them", function()
  for _, case in ipairs { { nil, { 15, 13, 12, 10, 8 } }, { "cubic", { 13, 10, 9, 9, 8 } }, { "exponential", { 14, 13, 11, 10, 8 } },
    { { 0.5, 0.5, 1 }, { 12, 12, 8 } }, { function(step, steps) return (step / steps) ^ 2 end, { 16, 15, 14, 11, 8 } },
    { prune.schedule.cubic { to = 1, first = 0, last = 5 }, { 13, 10, 9, 9, 8 } } } do
    local net, left, noted = small(), {}, 0
    local steps = #case[2]
    local pruner = prune.structured(net, shape, { ratio = 0.5, steps = steps, schedule = case[1] })
    local optimizer = prune.optim.SGD(net, { lr = 0.01 })
    for step, made in pruner:steps() do
      assert(made.applied)
      left[step] = net.conv1.weight:size(1)
      noted = noted + (#made.units > 0 and 1 or 0)
      optimizer:zero_grad()
      net(prune.randn { 2, 1, 8, 8 }):sum():backward()
      optimizer:step()
    end
    T.equal(left, case[2])
    T.equal(widths(net), { 8, 16, 32 })
    T.equal(pruner:step(), nil)
    T.equal(#prune.history(net), noted)
  end
end)

T.test("steps towards a target of costs: relative to the first model, the criterion asked anew each time", function()
  local net, asked = small(), 0
  local magnitude = prune.criterion.magnitude()
  local pruner = prune.structured(net, shape, { macs = 0.4, steps = 3, criterion = function(group)
    asked = asked + 1
    return magnitude(group)
  end })
  local whole = prune.profile(net, shape).macs
  local reached = {}
  while true do
    local planned = pruner:plan()
    if not planned then break end
    assert(rawequal(planned, pruner:plan()) and not planned.applied, "the next plan can be looked at first")
    local made = pruner:step()
    assert(rawequal(made, planned))
    reached[#reached + 1] = made.macs / whole
  end
  for i, limit in ipairs { 0.8, 0.6, 0.4 } do assert(reached[i] <= limit and reached[i] > limit - 0.05, reached[i]) end
  T.equal({ #reached, asked }, { 3, 9 })
  T.equal(prune.profile(net, shape).macs / whole, reached[3])
end)

T.test("steps with rounding, scopes and limits end where they should", function()
  local net = small()
  for _, made in prune.structured(net, shape, { ratio = 0.5, steps = 4, scope = "global", max_ratio = 0.6, round_to = 4 }):steps() do
    for entry in made:groups() do assert((entry.count - #entry.positions) % 4 == 0) end
  end
  local total = 0
  for i, n in ipairs(widths(net)) do
    total = total + n
    assert(n % 4 == 0 and n >= 0.4 * ({ 16, 32, 64 })[i], n)
  end
  assert(total <= 56 and total > 40, total)
end)

T.test("wrong schedules are refused before anything goes", function()
  local net = small()
  local function steps(schedule, n)
    return function() prune.structured(net, shape, { ratio = 0.5, steps = n or 3, schedule = schedule }):step() end
  end
  T.raises(steps "cubik", "did you mean 'cubic'")
  T.raises(steps { 0.5, 1 }, "one share of the way per step")
  T.raises(steps { 0.5, 0.4, 1 }, "rise to 1; step 2 of 3 gives 0.4")
  T.raises(steps { 0.5, 0.6, 0.9 }, "last share must be 1")
  T.raises(steps(function() return "a" end), "rise to 1")
  T.raises(steps(3), "schedule is")
  T.raises(function() prune.structured(net, shape, { ratio = 0.5, steps = 3, schedule = "cubik" }) end, "test_plan.lua:%d+: .*did you mean 'cubic'")
  T.equal(widths(net), { 16, 32, 64 })
end)

T.test("a target that the last of several steps could not meet is refused before the first", function()
  local function clock(graph) return graph:cost() / 1e5 end
  for _, options in ipairs { { macs = 0.2, max_ratio = 0.5 }, { params = 0.05, min_units = 8 }, { ratio = 0.9, min_units = 12 },
    { latency = 0.2, max_ratio = 0.5, measure = clock } } do
    local net = small()
    local before = snapshot(net)
    options.steps = 3
    local pruner = prune.structured(net, shape, options)
    T.raises(function() pruner:step() end, options.ratio and "at most %d+ can" or "cannot be met: [%d.]+ .*left")
    unchanged(net, before)
    T.equal(tostring(pruner), "pruner: 0 of 3 steps taken")
  end
end)

-- --- history --------------------------------------------------------------------------------------------------------

local function Attention() return networks.Attention(24, 4) end

-- The same removals on a fresh model with the same first weights give the same bits, also through a file.
local function replayed(build, sizes, prune_it, x)
  prune.seed(4)
  local net = build():eval()
  local fresh, copy = net:clone(), net:clone()
  prune_it(net)
  prune.replay(fresh, sizes, prune.history(net))
  T.equal(#prune.history(fresh), #prune.history(net))
  for name, p in net:named_parameters() do
    assert(fresh:state_dict()[name]:equal(p), name)
  end
  assert(fresh(x):equal(net(x)))
  prune.save(T.scratch "history.h5", net, { shape = sizes })
  local loaded = prune.load(T.scratch "history.h5")
  T.equal(tostring(prune.history(loaded)), tostring(prune.history(net)))
  prune.replay(copy, sizes, prune.history(loaded))
  assert(copy(x):equal(net(x)))
end

T.test("history: plans of several steps, single groups, and what is undone", function()
  replayed(small, shape, function(net)
    for _ in prune.structured(net, shape, { macs = 0.5, steps = 3 }):steps() do end
    local graph = prune.graph(net, shape)
    graph:group(net.conv1.weight, 1, { 2, 4 }):remove()
    prune.structured(net, shape, { ratio = 0.5 }):apply():undo()
    graph:group(net.conv3.weight, 1, { 1 }):remove()
    local steps = prune.history(net)
    T.equal(#steps, 5)
    T.equal({ steps[1].criterion, steps[4].criterion }, { "magnitude" })
    T.equal({ steps[4].groups[1].parameter, steps[4].groups[1].dim, steps[4].groups[1].indices }, { "conv1.weight", 1, { 2, 4 } })
    assert(tostring(steps):find "step 1: magnitude, %d+ MACs" and tostring(steps):find "conv1.weight axis 1: 2 go: 2 4")
  end, prune.randn { 2, 1, 8, 8 })
end)

T.test("history: heads and widths of attention in one step", function()
  replayed(Attention, { 6, 5 }, function(net)
    prune.structured(net, { 6, 5 }, { ratio = 0.3, heads = 0.25, head_dims = 0.5 }):apply()
    prune.structured(net, { 6, 5 }, { heads = 0.5 }):apply()
  end, prune.randn { 2, 6, 5 })
end)

T.test("history: what is picked from a group is noted once", function()
  local net = small()
  local fresh = net:clone()
  local group = prune.graph(net, shape):groups()[1]
  group:pick({ 1, 3, 4 }):remove()
  T.equal(#prune.history(net), 1)
  T.equal(#prune.history(net)[1].groups[1].indices, 3)
  prune.replay(fresh, shape, prune.history(net))
  T.equal({ widths(fresh), widths(net) }, { { 13, 32, 64 }, { 13, 32, 64 } })
end)

T.test("history: goes with clones and checkpoints of training", function()
  local net, optimizer = lived_in()
  prune.structured(net, shape, { ratio = 0.25 }):apply()
  T.equal(tostring(prune.history(net:clone())), tostring(prune.history(net)))
  prune.save(T.scratch "training.h5", net, { shape = shape, optimizer = optimizer })
  local other = small()
  require("prune.checkpoint").restore(T.scratch "training.h5", other)
  T.equal(tostring(prune.history(other)), tostring(prune.history(net)))
  T.equal(tostring(prune.history(small())), "nothing was removed")
end)

T.test("a history that does not fit leaves the model as it was", function()
  local net = small()
  for _ = 1, 2 do prune.structured(net, shape, { ratio = 0.25 }):apply() end
  local steps = prune.history(net)
  local fresh = small()
  local before = snapshot(fresh)
  steps[2].groups[1].indices[1] = 99
  T.raises(function() prune.replay(fresh, shape, steps) end, "step 2 does not fit this model: .*outside")
  unchanged(fresh, before)
  T.raises(function() prune.replay(prune.models.lenet { classes = 3 }, { 1, 28, 28 }, steps) end, "step 1 does not fit")
  steps[2].groups[1].indices[1] = 1
  local wide = small(32)
  local wide_before = snapshot(wide)
  T.raises(function() prune.replay(wide, shape, steps) end, "step 1 does not fit this model: .*'conv1.weight' is 32 along axis 1, it was 16")
  unchanged(wide, wide_before)
  T.raises(function() prune.replay(fresh, shape, { { groups = 3 } }) end, "step 1 is not one of a history")
  T.raises(function() prune.replay(fresh, shape, "history") end, "must be a history, got string")
  T.raises(function() prune.history {} end, "must be a module")
  unchanged(fresh, before)
end)

-- --- all or nothing -------------------------------------------------------------------------------------------------

T.test("a failing criterion leaves model, optimiser and masks as they were", function()
  local net = lived_in()
  local before = snapshot(net)
  local calls
  local function fails_at(nth, how)
    calls = 0
    return function(group)
      calls = calls + 1
      if calls == nth then return how(group) end
      return prune.zeros { group.size }
    end
  end
  for nth = 1, 3 do
    for message, how in pairs { ["no idea"] = function() error "no idea" end, ["group of conv%d.weight: the score of unit 1 is NaN"] = function(group)
      return prune.full({ group.size }, 0 / 0)
    end, ["one score per unit"] = function(group) return prune.zeros { group.size - 1 } end, ["tensor of scores"] = function() return {} end } do
      for _, options in ipairs { { ratio = 0.5 }, { macs = 0.5 }, { ratio = 0.5, steps = 2 } } do
        options.criterion = fails_at(nth, how)
        T.raises(function()
          local made = prune.structured(net, shape, options)
          if options.steps then made:step() else made:apply() end
        end, message)
        unchanged(net, before)
      end
    end
  end
end)

T.test("whichever allocation fails while a plan is made, applied and undone, the model is whole: as before, or as planned", function()
  local build = function()
    prune.seed(1)
    local net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3, { groups = 2 }), nn.Flatten(), nn.Linear(64, 2))
    prune.mask.l1_unstructured(net[1].weight, { amount = 0.5 })
    local optimizer = prune.optim.SGD(net, { lr = 0.1, momentum = 0.9 })
    net(prune.randn { 2, 1, 8, 8 }):sum():backward()
    optimizer:step()
    return net
  end
  local net = build()
  local before = snapshot(net)
  prune.structured(net, shape, { macs = 0.6 }):apply():undo()
  unchanged(net, before)
  local applied = prune.structured(net, shape, { macs = 0.6 }):apply()
  local after = snapshot(net)
  after.history = 1
  applied:undo()
  local calls = prune.memory().calls
  prune.structured(net, shape, { macs = 0.6 }):apply():undo()
  calls = prune.memory().calls - calls
  local failures = 0
  for case = 2, 2 * calls, calls // 300 + 1 do -- every second time all later ones fail too: one alone may be made good for
    local nth, sticky, made = case // 2, case % 2 == 1, nil
    collectgarbage "stop" -- so that releases of the collector come at the same place
    core.fail_allocation(nth, sticky)
    local ok, message = pcall(function()
      made = prune.structured(net, shape, { macs = 0.6 })
      made:apply()
    end)
    core.fail_allocation(0)
    collectgarbage "restart"
    if ok then
      same(after, snapshot(net), "allocation " .. nth)
      made:undo()
    else
      assert(tostring(message):find "memory", message)
      failures = failures + 1
    end
    unchanged(net, before)
  end
  assert(failures > 50, failures)
end)

T.test("a repair that fails takes the removal back, also where nothing is kept for undo", function()
  local net = lived_in():eval()
  for norm in net:each "BatchNorm2d" do nn.init.uniform(norm.bias, 0.5, 1) end
  local before = snapshot(net)
  local repair = require "prune.repair.removal"
  local prepare = repair.prepare
  for _, undo in ipairs { true, false } do
    repair.prepare = function(...)
      local repaired = prepare(...)
      return function(write)
        local writes = 0
        return repaired(function(tensor, value)
          writes = writes + 1
          if writes == 2 then core.fail_allocation(1, true) end
          local ok, message = pcall(write, tensor, value)
          core.fail_allocation(0)
          if not ok then error(message, 0) end
        end)
      end
    end
    T.raises(function() prune.structured(net, shape, { ratio = 0.5 }):apply { fold = true, undo = undo } end, "memory")
    unchanged(net, before)
  end
  repair.prepare = prepare
  prune.structured(net, shape, { ratio = 0.5 }):apply { fold = true }
end)

T.test("a plan says which parameters the traced model does not read: a branch for training that is traced in evaluation mode", function()
  local class = nn.module("Auxiliary", function(self) self.a, self.b, self.aux = nn.Linear(4, 8), nn.Linear(8, 2), nn.Linear(8, 2) end)
  function class:forward(x)
    local y = self.a(x)
    if self.training then return self.b(y), self.aux(y) end
    return self.b(y)
  end
  local net = class()
  local line = "not read when the model was traced %(evaluation mode%), left as they are: aux.weight, aux.bias"
  assert(not tostring(prune.structured(net, { 4 }, { ratio = 0.5 })):find "not read")
  local plan = prune.structured(net:eval(), { 4 }, { ratio = 0.5 })
  assert(tostring(plan):find(line))
  assert(tostring(plan:apply()):find(line))
  T.equal(net.aux.weight:size(2), 8)
end)

T.done()
