-- The history of a model: what is noted beside plain removals - repairs, masks, masks made final - and what a replay does with it.
local T = require "testing"
local prune = require "prune"

local shape = { 1, 8, 8 }

-- A network whose norms have lived, so that removed channels leave constants behind.
local function small()
  prune.seed(5)
  local net = prune.models.cnn { classes = 3, channels = 1 }:eval()
  for _, b in net:named_buffers() do if b.dtype == "f32" then b:copy(prune.rand(b:size()) + 0.5) end end
  for name, p in net:named_parameters() do if name:find "bn" then p:copy(prune.randn(p:size())) end end
  return net
end

local function inputs(n)
  prune.seed(9)
  return prune.randn { n or 2, 1, 8, 8 }
end

local function halve(net, o) return prune.structured(net, shape, { ratio = 0.5 }):apply(o) end

-- Everything of a model that a replay may change.
local function state_of(net)
  local state = {}
  for name, p in net:named_parameters() do state[name] = { p:dense():clone(), p.mask and p.mask:clone() or false } end
  return state
end

local function assert_same(net, state)
  for name, p in net:named_parameters() do
    assert(p:dense():equal(state[name][1]), name)
    assert(p.mask and state[name][2] and p.mask:equal(state[name][2]) or not (p.mask or state[name][2]), "mask of " .. name)
  end
end

-- Do it to one network and replay it on others with the same first weights: the same tensors, masks and outputs, also through a file.
local function replayed(change, options)
  local net, x = small(), inputs()
  change(net)
  local path = T.scratch "history.h5"
  prune.save(path, net, { shape = shape })
  for _, steps in ipairs { prune.history(net), prune.history(prune.load(path)) } do
    local again = prune.replay(small(), shape, steps, options)
    for name, p in net:named_parameters() do
      local other = again:parameter(name)
      assert(other:value():equal(p:value()), name)
      assert(p.mask and other.mask and p.mask:equal(other.mask) or not (p.mask or other.mask), "mask of " .. name)
    end
    assert(again(x):equal(net(x)))
    T.equal(tostring(prune.history(again)), tostring(prune.history(net)))
  end
  return net
end

-- --- masks ----------------------------------------------------------------------------------------------------------

T.test("masks of every kind are part of the history, before and after removals", function()
  local net = replayed(function(net)
    prune.mask.global_unstructured(net:weights(), { amount = 0.5 })
    halve(net)
    prune.mask.nm(net.conv3.weight, { n = 2, m = 4 })
    prune.mask.random_structured(net.fc.weight, { amount = 0.25, dim = 2 })
  end)
  local history = prune.history(net)
  T.equal(#history, 1)
  assert(tostring(history):find "masks\n" and tostring(history):find "conv3.weight: %d+ of %d+ entries", tostring(history))
end)

T.test("a history with masks alone is one; one without says so", function()
  local net = replayed(function(net) prune.mask.l1_unstructured(net.conv2.weight, { amount = 0.9 }) end)
  T.equal(tostring(prune.history(net)):match "^%w+", "masks")
  T.equal(tostring(prune.history(small())), "nothing was removed")
end)

T.test("masks that training moved are those of now", function()
  local net = small()
  prune.mask.random_unstructured(net.conv1.weight, { amount = 0.5 })
  local steps = prune.history(net)
  local before = net.conv1.weight.mask:clone()
  net.conv1.weight:set_mask(before * -1 + 1)
  assert(prune.replay(small(), shape, steps).conv1.weight.mask:equal(before), "those of when it was read")
  assert(prune.replay(small(), shape, prune.history(net)).conv1.weight.mask:equal(net.conv1.weight.mask))
end)

-- --- masks made final -----------------------------------------------------------------------------------------------

T.test("masks made final are a step: the same entries become zero, in the shapes that they had then", function()
  local net = replayed(function(net)
    prune.mask.global_unstructured(net:weights(), { amount = 0.6 })
    prune.mask.finalize(net)
    halve(net)
    prune.mask.l1_unstructured(net.conv2.weight, { amount = 0.5 })
    prune.mask.remove(net)
    prune.mask.finalize(net) -- there is none any more
  end)
  local history = prune.history(net)
  T.equal(#history, 3)
  assert(tostring(history):find "step 1: masks made final\n  conv1.weight: %d+ of 144 entries\n", tostring(history))
end)

T.test("masks that hold other numbers than zeros and ones are refused when they were made final, with the reason", function()
  local net, fresh = small(), small()
  net.conv1.weight:set_mask(net.conv1.weight:detach() * 0 + 0.5)
  prune.mask.finalize(net)
  T.raises(function() prune.replay(fresh, shape, prune.history(net)) end, "step 1 made a mask of 'conv1.weight' final that held other numbers")
end)

T.test("masks made final cost the file little, as long as the zeros are there", function()
  local function size_of(net)
    prune.save(T.scratch "history.h5", net, { shape = shape })
    local file <close> = assert(io.open(T.scratch "history.h5", "rb"))
    return file:seek "end"
  end
  local net = small()
  prune.mask.global_unstructured(net:weights(), { amount = 0.9 })
  local masked = size_of(net)
  prune.mask.finalize(net)
  assert(size_of(net) < masked + 2500, size_of(net) - masked)
  local steps = prune.history(prune.load(T.scratch "history.h5"))
  T.equal(steps[1].finalized, prune.history(net)[1].finalized)
  net.conv3.weight:copy(net.conv3.weight + 1) -- training goes on: the bits are kept by themselves
  size_of(net)
  T.equal(prune.history(prune.load(T.scratch "history.h5"))[1].finalized, steps[1].finalized)
end)

-- --- repairs --------------------------------------------------------------------------------------------------------

T.test("folding is done again", function()
  local net = replayed(function(net)
    halve(net, { fold = "interior" })
    halve(net, { fold = true })
  end)
  assert(tostring(prune.history(net)):find "step 2: magnitude, 0.5 of the units, constants folded\n")
  local plain = prune.replay(small(), shape, prune.history(net), { repairs = false })
  T.equal(prune.history(plain)[1].fold, nil)
  assert(not plain(inputs()):allclose(net(inputs()), { rtol = 1e-4 }), "folding changed something")
end)

T.test("layers are fitted again on data that are given; without, that is refused before anything is done", function()
  local data = { inputs(8) }
  local net = replayed(function(net) halve(net, { reconstruct = { data = data, batches = 1, ridge = 1e-3 } }) end, { data = data })
  local steps = prune.history(net)
  T.equal(steps[1].reconstruct, { batches = 1, ridge = 1e-3 })
  assert(tostring(steps):find "layers fitted on data\n")
  local fresh = small()
  local before = state_of(fresh)
  T.raises(function() prune.replay(fresh, shape, steps) end, "step 1 fitted layers on data.*give such data as option data, or repairs = false")
  assert_same(fresh, before)
  prune.replay(fresh, shape, steps, { repairs = false })
  T.equal(fresh.conv2.weight:size(), net.conv2.weight:size())
end)

T.test("blocks, masks and removals follow each other", function()
  local function build()
    prune.seed(2)
    return prune.models.resnet20():eval()
  end
  local net, sizes, x = build(), { 3, 32, 32 }, prune.randn { 1, 3, 32, 32 }
  prune.mask.global_unstructured(net:weights(), { amount = 0.3 })
  prune.depth(net, sizes, { blocks = 2, criterion = function(block) return block.index end }):apply()
  prune.mask.finalize(net)
  prune.structured(net, sizes, { ratio = 0.25 }):apply { fold = true }
  prune.mask.global_unstructured(net:weights(), { sparsity = 0.5 })
  local again = prune.replay(build(), sizes, prune.history(net))
  assert(again(x):equal(net(x)))
  T.equal(tostring(prune.history(again)), tostring(prune.history(net)))
end)

-- --- all or nothing -------------------------------------------------------------------------------------------------

T.test("a step or a mask that does not fit leaves values, masks, shapes and history", function()
  local net = small()
  prune.mask.global_unstructured(net:weights(), { amount = 0.5 })
  prune.mask.finalize(net)
  halve(net, { fold = true })
  prune.mask.l1_unstructured(net.conv3.weight, { amount = 0.5 })
  local fresh = small()
  prune.mask.random_unstructured(fresh.conv1.weight, { amount = 0.1 })
  local before = state_of(fresh)
  local function refused(spoil, message)
    local steps = prune.history(net)
    spoil(steps)
    T.raises(function() prune.replay(fresh, shape, steps) end, message)
    assert_same(fresh, before)
    T.equal(#prune.history(fresh), 0)
  end
  refused(function(steps) steps.masks = { ["conv3.weight"] = prune.ones { 2, 2 } } end, "the masks do not fit this model: 'conv3.weight' is %d+ x")
  refused(function(steps) steps.masks = { ["conv4.weight"] = prune.ones { 2, 2 } } end, "the masks do not fit this model: .*did you mean 'conv")
  refused(function(steps) steps.masks = { ["conv3.weight"] = 3 } end, "that of 'conv3.weight' is a number")
  refused(function(steps) steps.masks = 3 end, "must be a table")
  refused(function(steps) steps[2] = { groups = { { parameter = "conv2.weight", dim = 1, kind = "channel", indices = { 999 } } } } end, "step 2 does not fit")
  for field, value in pairs { bits = ("0"):rep(3), size = { 3, 3 }, parameter = "nothing" } do
    refused(function(steps)
      local changed = {}
      for k, v in pairs(steps[1].finalized[1]) do changed[k] = v end
      changed[field] = value
      steps[1] = { groups = {}, finalized = { changed } }
    end, "step 1 does not fit this model")
  end
  refused(function(steps) steps[1] = { groups = {}, finalized = { { parameter = 3 } } } end, "step 1 is not one of a history")
  T.raises(function() prune.replay(fresh, shape, prune.history(net), { dat = 3 }) end, "did you mean 'data'")
  T.raises(function() prune.replay(fresh, shape, prune.history(net), { repairs = 3 }) end, "repairs is one of")
end)

T.done()
