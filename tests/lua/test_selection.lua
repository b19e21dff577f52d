-- Which units go: targets, scopes, allocations, limits, kinds of units. The plan foretells what the model becomes, and what cannot be met is refused.
local T = require "testing"
local prune = require "prune"
local networks = require "networks"
local nn, F = prune.nn, prune.nn.functional

local shape = { 1, 8, 8 }
local function small(width) return prune.models.cnn { classes = 3, channels = 1, width = width or 16 } end
local function plan(net, options) return prune.structured(net, shape, options) end

local function widths(net) return { net.conv1.weight:size(1), net.conv2.weight:size(1), net.conv3.weight:size(1) } end

local function gone(made)
  local list = {}
  for entry in made:groups() do list[#list + 1] = #entry.positions end
  return list
end

-- A criterion that gives each group the scores from `first` on, rising by 1: conv1's are the lowest, or as `firsts` says.
local function rising(firsts)
  return function(group)
    local first = 0
    for part in group:parts() do
      if part.producer then first = firsts[part.name:match "^%w+"] break end
    end
    return prune.arange(group.size) + first
  end
end

-- --- groups -----------------------------------------------------------------------------------------------------------

T.test("groups by members: units of one layer with different readers are ranked apart, in every step", function()
  local Split = nn.module("Split", function(self)
    self.a, self.b, self.c, self.d = nn.Linear(4, 12), nn.Linear(4, 2), nn.Linear(4, 3), nn.Linear(4, 5)
  end)
  function Split:forward(x)
    local p, q, r = F.chunk(self.a(x):relu(), 3, 2)
    return self.b(p), self.c(q), self.d(r)
  end
  local function sizes(groups)
    local list = {}
    for i, group in ipairs(groups) do list[i] = group.size end
    return list
  end
  local net = Split()
  local traced = prune.graph(net, { 4 })
  T.equal({ sizes(traced:groups()), sizes(traced:groups { group_by = "members" }) }, { { 12 }, { 4, 4, 4 } })
  local firsts = prune.arange(12) -- b's third has the lowest scores
  local function scored(group)
    local rows = {}
    for part in group:parts() do
      if part.name == "a.weight" then rows = part.indices end
    end
    local list = {}
    for u = 1, group.size do list[u] = firsts[type(rows[u]) == "table" and rows[u][1] or rows[u]]:item() end
    return prune.tensor(list)
  end
  local apart = prune.structured(net, { 4 }, { ratio = 0.5, criterion = scored, group_by = "members" })
  T.equal(gone(apart), { 2, 2, 2 })
  assert(prune.verify(net, apart) <= 1e-5)
  local together = prune.structured(net, { 4 }, { ratio = 0.25, criterion = scored })
  T.equal(gone(together), { 3 })
  local pruner = prune.structured(net, { 4 }, { ratio = 0.5, steps = 2, max_ratio = 0.5, criterion = scored, group_by = "members" })
  for _ = 1, 2 do pruner:step() end
  T.equal({ net.a.weight:size(1), net.b.weight:size(2), net.c.weight:size(2), net.d.weight:size(2) }, { 6, 2, 2, 2 })
  T.equal(#prune.history(net), 2)
  -- a shuffle as a permutation: 37 groups by what makes the units, 90 by what reads them too
  local shuffled = prune.graph(nn.init.skip(prune.models.shufflenet_v2_x1_0), { 3, 64, 64 })
  T.equal({ #shuffled:groups(), #shuffled:groups { group_by = "members" } }, { 37, 90 })
  T.raises(function() prune.structured(net, { 4 }, { ratio = 0.5, group_by = "member" }) end,
    "group_by is one of 'producers', 'members', got member; did you mean 'members'?")
  T.raises(function() prune.graph(net, { 4 }):groups { group_by = 1 } end, "group_by is one of")
end)

-- --- targets --------------------------------------------------------------------------------------------------------

T.test("every target is met within one unit, absolute or as a share, in every scope", function()
  local whole = plan(small(), { macs = 1 })
  for _, target in ipairs { "macs", "params", "bytes" } do
    for _, scope in ipairs { "local", "global", "isomorphic" } do
      for _, asked in ipairs { 0.35, math.floor(0.35 * whole[target]) } do
        prune.seed(2)
        local net = small()
        local made = plan(net, { [target] = asked, scope = scope, criterion = prune.criterion.random() })
        local limit = asked < 1 and asked * whole[target] or asked
        assert(made[target] <= limit, target .. " " .. scope)
        T.equal(made:reached(), made[target])
        -- One unit less would miss it: the last unit of each group is given back in turn.
        local saved = false
        for entry in made:groups() do
          local positions = entry.positions
          if #positions > 0 then
            entry:keep(1)
            saved = saved or made[target] > limit
            entry.positions = positions
            made:_update()
          end
        end
        assert(saved, "more goes than is needed: " .. target .. " " .. scope)
        local foretold = { made.macs, made.params }
        made:apply()
        local after = prune.profile(net, shape)
        T.equal({ after.macs, after.params }, foretold)
      end
    end
  end
end)

-- The size of the file that prune.save makes. The history of what was removed, which plans do not count, is left out.
local function saved_size(net, sizes)
  local path, steps = os.tmpname(), rawget(net, "_history")
  rawset(net, "_history", nil)
  prune.save(path, net, { shape = sizes })
  rawset(net, "_history", steps)
  local file <close> = assert(io.open(path, "rb"))
  os.remove(path)
  return file:seek "end"
end

local function randomize(net)
  for _, p in net:named_parameters() do p:copy(prune.randn(p:size())) end
  for _, b in net:named_buffers() do if b.dtype == "f32" then b:copy(prune.rand(b:size()) + 1) end end
end

-- Makers of masks for a network; what is beside a file of a few kilobytes is not foretold so well.
local stores = {
  { "new, with zeros in its norms", 0.02, function() end },
  { "trained", 0.01, randomize },
  { "half masked", 0.02, function(net) prune.mask.global_unstructured(net:weights(), { amount = 0.5 }) end },
  { "nine tenths masked", 0.04, function(net) prune.mask.global_unstructured(net:weights(), { amount = 0.9 }) end },
  { "2:4", 0.02, function(net) prune.mask.nm(net.conv3 and net.conv3.weight or net:weights()[10], { n = 2, m = 4 }) end },
  { "rows masked", 0.03, function(net)
    for _, w in ipairs(net:weights()) do if w:size(1) > 4 then prune.mask.ln_structured(w, { amount = 0.5, n = 2, dim = 1 }) end end
  end },
  { "masks made final", 0.04, function(net)
    prune.mask.global_unstructured(net:weights(), { amount = 0.8 })
    prune.mask.finalize(net)
  end },
  { "f64", 0.02, function(net) net:to "f64" end },
}

local stored_models = {
  { "cnn", function() return small(32) end, shape },
  { "resnet20", function() return prune.models.resnet20() end, { 3, 32, 32 } },
  { "mobilenet_v2", function() return prune.models.mobilenet_v2 { classes = 10 } end, { 3, 32, 32 } },
}

T.test("bytes are those of the file that is saved, whatever is masked or zero in it", function()
  for _, model in ipairs(stored_models) do
    for _, store in ipairs(stores) do
      if model[1] ~= "mobilenet_v2" or store[1] == "nine tenths masked" then
        prune.seed(3)
        local net = model[2]()
        store[3](net)
        local sizes = store[1] == "f64" and { { shape = model[3], dtype = "f64" } } or model[3]
        local foretold, size = prune.structured(net, sizes, { bytes = 1 }).bytes, saved_size(net, sizes)
        assert(math.abs(foretold / size - 1) < store[2], ("%s, %s: %d foretold, %d in the file"):format(model[1], store[1], foretold, size))
      end
    end
  end
end)

T.test("half of the bytes are half of the file, with masks and without", function()
  for _, model in ipairs(stored_models) do
    for _, share in ipairs { 0, 0.5, 0.9 } do
      prune.seed(3)
      local net = model[2]()
      if share > 0 then prune.mask.global_unstructured(net:weights(), { amount = share }) end
      local before = saved_size(net, model[3])
      local made = prune.structured(net, model[3], { bytes = 0.5 }):apply()
      local after = saved_size(net, model[3])
      T.close(after / before, 0.5, 0.02, ("%s, %g masked"):format(model[1], share))
      T.close(made.bytes / after, 1, 0.04, model[1])
    end
  end
end)

T.test("a unit whose weights are masked saves few bytes: masked entries are counted where they lie", function()
  local net = small()
  local whole = prune.ones { 32, 16, 3, 3 }
  whole[{ { 1, 8 } }] = 0
  prune.mask.custom_from_mask(net.conv2.weight, whole)
  local function bytes_without(first, last) -- of conv2's channels
    local made = plan(net, { ratio = 0.25, kinds = { "channel" }, ignore = { "conv1", "conv3" }, criterion = function(group)
      local scores = prune.ones { group.size }
      scores[{ { first, last } }] = 0
      return scores
    end })
    T.equal(#made.units, 8)
    return made.bytes
  end
  local alive = 8 * 16 * 9 * 4 -- f32 values of 8 live channels of conv2
  T.close(bytes_without(1, 8) - bytes_without(9, 16), alive, 0.05)
end)

T.test("a target that the model meets already takes nothing, and the plan says so", function()
  local made = plan(small(), { macs = 1 })
  T.equal(#made.units, 0)
  assert(tostring(made):find "0 of 112 units go" and tostring(made):find "asked: %d+ MACs %(100.0%%%); reached: %d+ MACs %(100.0%%%)")
  assert(tostring(plan(small(), { ratio = 0.001 })):find "no group has so many units that one goes")
end)

T.test("impossible targets are refused with the most that can be had", function()
  local net = small()
  T.raises(function() plan(net, { macs = 10 }) end, "cannot be met: %d+ %([%d.]+ %%%) are left when all units go that may go")
  T.raises(function() plan(net, { params = 0.5, max_ratio = 0.1 }) end, "limits on groups")
  T.raises(function() plan(net, { ratio = 0.9, max_ratio = 0.5 }) end, "99 of 112 units should go, but at most 56 can")
  T.raises(function() plan(net, { ratio = 1 }) end, "112 of 112 units should go, but at most 109 can")
  T.raises(function() plan(net, { macs = 0.5, ignore = { "conv" } }) end, "no group whose units can go")
  local least = tonumber(T.raises(function() plan(net, { macs = 10 }) end):match "met: (%d+)")
  T.equal(plan(net, { macs = least }).macs, least)
end)

T.test("latency is measured on pruned copies by the function that is given, and the model stays whole", function()
  local net, calls = small(), 0
  local function measure(graph) -- a clock that runs as fast as there are MACs
    calls = calls + 1
    return (graph:cost()) / 1e5
  end
  local made = plan(net, { latency = 0.5, measure = measure })
  local whole = prune.profile(net, shape).macs
  assert(made.latency <= 0.5 * whole / 1e5 and made.latency > 0.45 * whole / 1e5, made.latency)
  T.equal(made.latency, made.macs / 1e5)
  T.equal(widths(net), { 16, 32, 64 })
  assert(calls < 12, calls)
  T.equal(plan(net, { latency = whole / 2e5 + 2, measure = measure }):reached() <= whole / 2e5 + 2, true) -- milliseconds
  T.raises(function() plan(net, { latency = 1e-6, measure = measure }) end, "ms cannot be met: [%d.]+ ms are left")
  for _, wrong in ipairs { "3", 0 / 0, -1, math.huge, {} } do
    T.raises(function() plan(net, { latency = 0.5, measure = function() return wrong end }) end, "measure must return milliseconds")
  end
  T.raises(function() plan(net, { latency = 0.5, measure = function() end }) end, "measure must return milliseconds, .*got nil")
end)

-- How long something takes is not asserted: under load a smaller model may well take longer than a larger one did a moment before.
T.test("the clock of the machine serves where no measure is given", function()
  local net, times = small(), {}
  local made = plan(net, { latency = 1 })
  T.equal({ #made.units, made.latency }, { 0, made.before.latency }, "the model as it is meets its own latency")
  assert(made.latency > 0 and made.latency < math.huge)
  local default = require "prune.latency".measure
  plan(net, { latency = 0.5, measure = function(graph, inputs)
    times[#times + 1] = default(graph, inputs)
    return graph:cost()
  end })
  assert(#times > 2, "whole and pruned copies run")
  for _, milliseconds in ipairs(times) do assert(milliseconds > 0 and milliseconds < math.huge) end
end)

T.test("a target of latency that is met already is not measured again, whatever the clock says then", function()
  local calls = 0
  local function slower() -- each time
    calls = calls + 1
    return calls
  end
  local made = plan(small(), { latency = 1000, measure = slower })
  T.equal({ #made.units, made.latency, calls }, { 0, 1, 1 })
  T.raises(function() plan(small(), { latency = 0.5, measure = slower }) end, "cannot be met")
end)

-- --- scopes ---------------------------------------------------------------------------------------------------------

T.test("global: the lowest of all go; where they are a whole layer it keeps one, and the next in rank make the count up", function()
  local net = small()
  local made = plan(net, { ratio = 0.5, scope = "global", criterion = rising { conv1 = 0, conv2 = 100, conv3 = 200 } })
  T.equal(gone(made), { 15, 31, 10 }) -- 56 of 112
  T.equal(gone(plan(net, { ratio = 0.1, scope = "global", criterion = rising { conv1 = 0, conv2 = 100, conv3 = 200 } })), { 11, 0, 0 })
end)

T.test("isomorphic: groups of equal structure are ranked together, others apart", function()
  local net = prune.models.resnet18 { classes = 10 }
  local made = prune.structured(net, { 3, 32, 32 }, { ratio = 0.25, scope = "isomorphic", criterion = prune.criterion.random() })
  local pools = {}
  for entry in made:groups() do
    pools[entry.pool] = pools[entry.pool] or { 0, 0 }
    pools[entry.pool][1] = pools[entry.pool][1] + entry.count
    pools[entry.pool][2] = pools[entry.pool][2] + #entry.positions
  end
  assert(#pools > 1 and #pools < #made.entries, #pools)
  for _, pool in ipairs(pools) do T.equal(pool[2], pool[1] // 4) end
end)

T.test("scopes of one's own: by patterns, modules and parameters, or by a function; what is not named stands alone", function()
  local net = small()
  local criterion = rising { conv1 = 0, conv2 = 100, conv3 = 0 }
  local made = plan(net, { ratio = 0.25, scope = { early = { "^conv1", net.conv2 } }, criterion = criterion })
  T.equal(gone(made), { 12, 0, 16 }) -- 12 of 48 together, 16 of 64 alone
  T.equal(gone(plan(net, { ratio = 0.25, scope = { early = { net.conv1.weight, "conv2" } }, criterion = criterion })), { 12, 0, 16 })
  local function by_name(entry) return entry.name ~= "conv3.weight" and "early" or nil end
  T.equal(gone(plan(net, { ratio = 0.25, scope = by_name, criterion = criterion })), { 12, 0, 16 })
  T.raises(function() plan(net, { ratio = 0.5, scope = { a = { "conv1" }, b = { "conv" } } }) end, "conv1.weight is in scopes a and b")
  T.raises(function() plan(net, { ratio = 0.5, scope = { a = { "fc%.weight" } } }) end, "scope a has no group")
  T.raises(function() plan(net, { ratio = 0.5, scope = { a = { "conw1%." } } }) end, "did you mean 'conv1'")
  T.raises(function() plan(net, { ratio = 0.5, scope = { a = "conv1" } }) end, "scope a must be a list")
  T.raises(function() plan(net, { ratio = 0.5, scope = function() return 3 end }) end, "must give a name or nil")
end)

-- --- shares of layers -----------------------------------------------------------------------------------------------

T.test("allocations by name: patterns have their ratio, the others the general one or none", function()
  T.equal(gone(plan(small(), { allocation = { conv2 = 0.75 } })), { 0, 24, 0 })
  T.equal(gone(plan(small(), { ratio = 0.5, allocation = { ["^conv2"] = 0.75 } })), { 8, 24, 32 })
  local made = plan(small(), { macs = 0.5, allocation = { conv2 = 0.25 } })
  T.equal(gone(made)[2], 8)
  assert(made.macs <= 0.5 * made.before.macs and made.macs > 0.45 * made.before.macs)
  T.raises(function() plan(small(), { ratio = 0.5, allocation = { conv7 = 0.5 } }) end, "fits no layer")
end)

T.test("allocations by rule and by function: the counts are whole and meet the ratio, or the target", function()
  for _, rule in ipairs { "uniform", "erk", "owl", "global" } do
    local made = plan(small(), { ratio = 0.5, allocation = rule })
    T.equal(#made.units, 56, rule)
    local by_cost = plan(small(), { macs = 0.5, allocation = rule })
    assert(by_cost.macs <= 0.5 * by_cost.before.macs and by_cost.macs > 0.47 * by_cost.before.macs, rule)
  end
  local erk = gone(plan(small(), { ratio = 0.9, allocation = "erk" }))
  assert(erk[1] / 16 < erk[2] / 32 and erk[2] / 32 < erk[3] / 64, "small layers stay denser")
  local seen
  local function own(layers, ratio)
    seen = layers
    local shares = {}
    for i in ipairs(layers) do shares[i] = i == 3 and ratio or 0 end
    return shares
  end
  T.equal(gone(plan(small(), { ratio = 0.5, allocation = own })), { 0, 0, 32 })
  T.equal({ seen[1].name, seen[1].dim, seen[1].count, seen[1].shape }, { "conv1.weight", 1, 16, { 16, 1, 3, 3 } })
  T.equal(gone(plan(small(), { params = 0.9, allocation = own })), { 0, 0, 9 })
  T.raises(function() plan(small(), { ratio = 0.5, allocation = "erl" }) end, "did you mean 'erk'")
  T.raises(function() plan(small(), { ratio = 0.5, allocation = function() return { 0.5 } end }) end, "list of 3 shares")
  T.raises(function() plan(small(), { ratio = 0.5, allocation = "erk", scope = "global" }) end, "its own share")
end)

-- --- limits ---------------------------------------------------------------------------------------------------------

T.test("ignore: the output side, the input side, or both, of patterns, parameters and modules", function()
  for _, what in ipairs { "conv2%.weight", "parameter", "module" } do
    local function with(side)
      local net = small()
      local named = what == "parameter" and net.conv2.weight or what == "module" and net.conv2 or what
      plan(net, { ratio = 0.5, ignore = { side and { named, side = side } or named } }):apply()
      return widths(net)
    end
    T.equal(with(nil), { 8, 32, 32 })
    T.equal(with "out", { 8, 32, 32 })
    T.equal(with "in", { 16, 16, 32 })
    T.equal(with "both", { 16, 32, 32 })
  end
  local net = small()
  plan(net, { ratio = 0.5, ignore = { net.bn1 } }):apply()
  T.equal(widths(net), { 16, 16, 32 }, "a norm's channels stay")
  for ignore, message in pairs {
    [{ "conw1%." }] = "did you mean 'conv1'", [{ { "conv1", side = "inn" }}] = "did you mean 'in'", [{ { "conv1", sides = "in" } }] = "no field 'sides'",
    [{ small().conv1 }] = "not part of the model", [{ small().conv1.weight }] = "the model does not have", [{ 3 }] = "name pattern, a parameter or a module",
    [{ net.relu or nn.ReLU() }] = "not part of the model", [{ "conv[" }] = "not a pattern",
  } do
    T.raises(function() plan(net, { ratio = 0.5, ignore = ignore }) end, message)
  end
  T.raises(function() plan(net, { ratio = 0.5, ignore = "conv1" }) end, "ignore is a list")
end)

T.test("max_ratio and min_units hold in every scope, with targets of costs and over several steps", function()
  for _, scope in ipairs { "local", "global", "isomorphic" } do
    local made = plan(small(), { macs = 0.4, scope = scope, max_ratio = 0.5, criterion = rising { conv1 = 0, conv2 = 0, conv3 = 1000 } })
    for entry in made:groups() do assert(#entry.positions <= entry.count / 2, scope) end
  end
  T.equal(gone(plan(small(), { ratio = 0.5, min_units = 12 })), { 4, 16, 32 })
  local net = small()
  plan(net, { ratio = 0.5, min_units = 12 }):apply()
  plan(net, { ratio = 0.3, min_units = 12 }):apply()
  T.equal(widths(net), { 12, 12, 23 })
  local stepwise = small()
  for _, made in plan(stepwise, { macs = 0.45, max_ratio = 0.4, steps = 4 }):steps() do
    for entry in made:groups() do assert(entry.before + #entry.positions <= 0.4 * entry.original) end
  end
  for i, n in ipairs(widths(stepwise)) do assert(n >= ({ 10, 20, 39 })[i]) end
end)

T.test("what limits hold back is told, and refused where they hold all", function()
  local made = plan(small(), { ratio = 0.5, min_units = 10 })
  T.equal(made:reached(), (6 + 16 + 32) / 112)
  assert(tostring(made):find("limits hold units back (conv1.weight axis 1: 6 of 8 go)", 1, true), tostring(made))
  assert(not tostring(plan(small(), { ratio = 0.5 })):find "limits")
  assert(not tostring(plan(small(), { ratio = 0.5, min_units = 10, scope = "global" })):find "limits", "others make the count up")
  assert(tostring(plan(small(), { ratio = 0.5, round_to = 64 })):find "rounded to multiples every group stays whole")
  local attention = nn.Sequential(nn.Linear(8, 32), nn.MultiheadAttention(32, 8), nn.Linear(32, 10))
  local function heads(options) return prune.structured(attention, { 5, 8 }, options) end
  assert(tostring(heads { heads = 1.0 }):find("(1.in_proj_weight axis 1: 7 of 8 go)", 1, true))
  assert(tostring(heads { heads = 0.05 }):find "asked: ratios of kinds or layers; .*no group has so many units that one goes")
  local last
  for _, step in heads({ heads = 0.5, max_ratio = 0.4, steps = 4 }):steps() do last = step end
  T.equal(attention[2].out_proj.weight:size(2), 5 * 4)
  assert(tostring(last):find("(1.in_proj_weight axis 1: 0 of 1 go)", 1, true), tostring(last))
  T.raises(function() heads { heads = 0.5, max_ratio = 0.1 } end, "%d units should go, but at most 0 can")
end)

T.test("round_to: kept counts are multiples, rounded as said, within the limits; small groups stay whole", function()
  local function left(rounding, ratio, k, more)
    local net = small(20) -- 20, 40, 80
    local o = { ratio = ratio, round_to = k, rounding = rounding }
    for name, value in pairs(more or {}) do o[name] = value end
    plan(net, o):apply()
    return widths(net)
  end
  T.equal(left("down", 0.3, 8), { 8, 24, 56 }) -- 14, 28, 56 wanted
  T.equal(left("up", 0.3, 8), { 16, 32, 56 })
  T.equal(left("nearest", 0.3, 8), { 16, 32, 56 })
  T.equal(left("nearest", 0.5, 8), { 8, 24, 40 }) -- 10, 20, 40: halves up
  T.equal(left("down", 0.3, 32), { 20, 40, 32 }) -- 28 would become 0
  T.equal(left("nearest", 0.3, 32), { 20, 32, 64 })
  T.equal(left("down", 0.3, 8, { max_ratio = 0.35 }), { 16, 32, 56 })
  local made = plan(small(20), { macs = 0.5, round_to = 8, rounding = "nearest" })
  assert(made.macs <= 0.5 * made.before.macs)
  for entry in made:groups() do assert(#entry.positions == 0 or (entry.count - #entry.positions) % 8 == 0) end
end)

-- --- kinds ----------------------------------------------------------------------------------------------------------

local function Attention() return networks.Attention(24, 4) end

local Grouped = nn.module("Grouped", function(self) -- grouped queries: 4 query heads of width 3 on 2 key heads
  self.input, self.q, self.k, self.v, self.o = nn.Linear(5, 8), nn.Linear(8, 12), nn.Linear(8, 6), nn.Linear(8, 6), nn.Linear(12, 8)
  self.heads, self.kv_heads, self.scale, self.head = 4, 2, 3 ^ -0.5, nn.Linear(8, 2)
end)
function Grouped:forward(x)
  x = self.input(x)
  local function split(y, heads) return F.unflatten(y, { dim = 3, sizes = { heads, y:size(3) // heads } }):transpose(2, 3) end
  local y = F.scaled_dot_product_attention(split(self.q(x), self.heads), split(self.k(x), self.kv_heads), split(self.v(x), self.kv_heads), nil,
    { scale = self.scale })
  return self.head(self.o(F.flatten(y:transpose(2, 3), 3)):mean { 2 })
end

local function kinds_of(net, sizes)
  local found = {}
  for _, group in ipairs(prune.graph(net, sizes):groups { all = true }) do
    local kind = group:kind()
    found[kind] = (found[kind] and found[kind] .. "," or "") .. group.size
  end
  return found
end

T.test("units have kinds: heads, widths, key heads, copies, groups and positions", function()
  T.equal(kinds_of(Attention(), { 6, 5 }), { channel = "24,12", head = "4", head_dim = "6" })
  T.equal(kinds_of(Grouped(), { 6, 5 }), { channel = "8,8", kv_head = "2", copy = "2", head_dim = "3,3" })
  T.equal(kinds_of(nn.Sequential(nn.Conv2d(3, 12, 1), nn.Conv2d(12, 18, 1, { groups = 3 }), nn.Conv2d(18, 2, 1)), { 3, 4, 4 }),
    { group = "3", position = "4,6" })
  T.equal(kinds_of(nn.Sequential(nn.Conv2d(3, 12, 1), nn.Conv2d(12, 12, 1, { groups = 12 }), nn.Conv2d(12, 2, 1)), { 3, 4, 4 }),
    { channel = "12" })
  local graph = prune.graph(Attention(), { 6, 5 })
  T.equal(#graph:groups { kinds = { "head" } }, 1)
  T.raises(function() graph:groups { kinds = { "heads" } } end, "did you mean 'head'")
end)

-- Attention written out, with matrix products.
local Written = nn.module("Written", function(self)
  self.q, self.k, self.v, self.o = nn.Linear(5, 12), nn.Linear(5, 12), nn.Linear(5, 12), nn.Linear(12, 3)
  self.heads, self.scale = 4, 3 ^ -0.5
end)
function Written:forward(x)
  local function split(y) return F.unflatten(y, { dim = 3, sizes = { self.heads, y:size(3) // self.heads } }):transpose(2, 3) end
  local scores = (split(self.q(x)):matmul(split(self.k(x)):transpose(3, 4)) * self.scale):softmax { dim = 4 }
  return self.o(F.flatten(scores:matmul(split(self.v(x))):transpose(2, 3), 3)):mean { 2 }
end

T.test("attention that is written out has the same kinds", function()
  T.equal(kinds_of(Written(), { 6, 5 }), { head = "4", head_dim = "3,3" })
end)

T.test("heads, widths or both go, as asked; a plan of both is exact", function()
  local function sizes(options)
    prune.seed(1)
    local net = Attention()
    local made = prune.structured(net, { 6, 5 }, options)
    prune.verify(net, made, { dtype = "f32" })
    made:apply()
    T.equal(net(prune.randn { 2, 6, 5 }):size(), { 2, 3 })
    return { net.attention._heads, net.attention.out_proj.weight:size(2) } -- heads, and the width of them all
  end
  T.equal(sizes { ratio = 0.5 }, sizes { ratio = 0.5, head_dims = true })
  local both = sizes { ratio = 0, heads = 0.5, head_dims = 0.5 }
  local heads, dims = sizes { heads = 0.5 }, sizes { ratio = 0, head_dims = 0.5 }
  T.equal({ heads, dims, both }, { { 2, 12 }, { 4, 12 }, { 2, 6 } })
  T.equal(sizes { kinds = { head = 0.25, head_dim = false, channel = 0.5 } }[1], 3)
  local own = tostring(prune.structured(Attention(), { 6, 5 }, { kinds = { head = 0.25, head_dim = false, channel = 0.5 } }))
  assert(own:find("asked: ratios of kinds or layers; reached: ", 1, true), own)
  T.equal(sizes { ratio = 0.5, kinds = { "head" } }, heads)
  T.equal(sizes { ratio = 0.5, heads = false, head_dims = false }, sizes { ratio = 0 })
  T.raises(function() plan(small(), { ratio = 0.5, heads = 0.5 }) end, "no units of kind 'head'")
  T.raises(function() plan(small(), { ratio = 0.5, heads = "many" }) end, "heads is true, false or a ratio")
  T.raises(function() plan(small(), { ratio = 0.5, kinds = { "chanel" } }) end, "did you mean 'channel'")
end)

T.test("grouped queries: key heads with their queries, or one query head of each key head", function()
  local function sizes(options)
    prune.seed(1)
    local net = Grouped():to "f64"
    local inputs = { { shape = { 6, 5 }, dtype = "f64" } }
    prune.verify(net, prune.structured(net, inputs, options), { dtype = "f64", gradients = true })
    local graph = prune.graph(net, inputs):module() -- the code has the numbers of heads written down
    prune.structured(graph, inputs, options):apply()
    return { graph.q.weight:size(1), graph.k.weight:size(1), graph.v.weight:size(1), graph.o.weight:size(2) }
  end
  T.equal(sizes { kinds = { kv_head = 0.5, head_dim = false, channel = false } }, { 6, 3, 3, 6 })
  T.equal(sizes { kinds = { copy = 0.5, head_dim = false, channel = false } }, { 6, 6, 6, 6 })
  T.equal(sizes { kinds = { head_dim = 0.4, channel = false } }, { 8, 4, 4, 8 })
  T.equal(sizes { heads = 0.5, kinds = { copy = 0.5, channel = false, head_dim = false } }, { 3, 3, 3, 3 })
end)

-- --- bad options ----------------------------------------------------------------------------------------------------

T.test("every option is checked by name, type and range", function()
  local net = small()
  for options, message in pairs {
    [{ ratio = -0.1 }] = "at least 0", [{ ratio = 1.5 }] = "0..1", [{ ratio = "half" }] = "must be a number", [{ ratio = 0 / 0 }] = "must be a number",
    [{ ratio = true }] = "must be a number", [{ macs = 0 }] = "above 0", [{ macs = math.huge }] = "must be a number",
    [{ macs = 0.5, params = 0.5 }] = "not both",
    [{}] = "say how much", [{ ratio = 0.5, scope = "globl" }] = "did you mean 'global'", [{ ratio = 0.5, scope = 3 }] = "scope is",
    [{ ratio = 0.5, max_ratio = 2 }] = "max_ratio must be a number in 0..1", [{ ratio = 0.5, max_ratio = "1" }] = "max_ratio",
    [{ ratio = 0.5, min_units = 0 }] = "min_units must be an integer of at least 1", [{ ratio = 0.5, min_units = 1.5 }] = "min_units",
    [{ ratio = 0.5, round_to = 0 }] = "round_to", [{ ratio = 0.5, rounding = "nearst" }] = "did you mean 'nearest'",
    [{ ratio = 0.5, criterion = "magnitude" }] = "criterion must be one of prune.criterion", [{ ratio = 0.5, loss = 1 }] = "loss must be a function",
    [{ latency = 0.5, measure = 1 }] = "measure must be a function", [{ ratio = 0.5, steps = 0 }] = "steps must be an integer",
    [{ ratio = 0.5, schedule = "linear" }] = "needs steps", [{ ratio = 0.5, allocation = 3 }] = "allocation is",
    [{ ratoi = 0.5 }] = "did you mean 'ratio'",
    [{ ratio = 0.5, kinds = 3 }] = "kinds is a list", [{ ratio = 0.5, heads = true }] = "no units of kind 'head', only channel",
    [{ ratio = 0.5, ignore = { "conv1", side = "in" } }] = "ignore is a list, got field 'side'",
    [{ ratio = 0.5, ignore = { x = 1 } }] = "field 'x'", [{ ratio = 0.5, batches = 0 }] = "batches",
  } do
    T.raises(function() plan(net, options) end, message)
  end
end)

T.done()
