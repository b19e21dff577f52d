-- t[key] and t[key] = value: positions, ranges, masks, lists; what shares memory; what is refused.
local T = require "testing"
local prune = require "prune"

local function grid() return prune.arange(12):reshape(3, 4) end -- 1 2 3 4 / 5 6 7 8 / 9 10 11 12
local function whole(list) return prune.tensor(list, { dtype = "i64" }) end

T.test("a number selects along the first axis", function()
  T.equal(grid()[2]:totable(), { 5.0, 6.0, 7.0, 8.0 })
  T.equal(grid()[-1]:totable(), { 9.0, 10.0, 11.0, 12.0 })
  T.equal(grid()[2][3]:item(), 7.0)
  T.equal(grid()[2][3].shape, {})
end)

T.test("a table indexes axis by axis", function()
  T.equal(grid()[{ 2, 3 }]:item(), 7.0)
  T.equal(grid()[{ {}, 2 }]:totable(), { 2.0, 6.0, 10.0 })
  T.equal(grid()[{ { 2, 3 }, { 1, 2 } }]:totable(), { { 5.0, 6.0 }, { 9.0, 10.0 } })
  T.equal(grid()[{ { 1, 3, 2 }, -1 }]:totable(), { 4.0, 12.0 })
  T.equal(grid()[{ { -2, -1 } }].shape, { 2, 4 })
  T.equal(grid()[{}].shape, { 3, 4 })
end)

T.test("an empty range has no elements", function()
  T.equal(grid()[{ { 2, 1 } }].shape, { 0, 4 })
  T.equal(grid()[{ { 4, 3 } }].shape, { 0, 4 })
end)

T.test("numbers and ranges share memory, lists and masks copy", function()
  local t = grid()
  T.equal(t[2]:shares_storage(t), true)
  T.equal(t[{ { 1, 3, 2 }, { 2, 3 } }]:shares_storage(t), true)
  T.equal(t[whole { 1, 2 }]:shares_storage(t), false)
  T.equal(t[t:gt(3)]:shares_storage(t), false)
end)

T.test("a mask of the shape picks elements, one of an axis picks along it", function()
  local t = grid()
  T.equal(t[t:gt(9)]:totable(), { 10.0, 11.0, 12.0 })
  T.equal(t[prune.tensor { true, false, true }]:totable(), { { 1.0, 2.0, 3.0, 4.0 }, { 9.0, 10.0, 11.0, 12.0 } })
  T.equal(t[{ {}, prune.tensor { true, false, false, true } }]:totable(), { { 1.0, 4.0 }, { 5.0, 8.0 }, { 9.0, 12.0 } })
  T.equal(t[t:gt(99)].shape, { 0 })
  T.equal(t:transpose()[t:transpose():gt(9)]:totable(), { 10.0, 11.0, 12.0 })
end)

T.test("integer tensors pick positions, also repeatedly", function()
  T.equal(grid()[whole { 3, 1, 3 }]:totable(), { { 9.0, 10.0, 11.0, 12.0 }, { 1.0, 2.0, 3.0, 4.0 }, { 9.0, 10.0, 11.0, 12.0 } })
  T.equal(grid()[{ 1, whole { -1, 2 } }]:totable(), { 4.0, 2.0 })
  T.equal(prune.tensor({ 3, 1, 2 })[prune.tensor({ 3, 1, 2 }):lowest(2)]:totable(), { 1.0, 2.0 })
end)

T.test("assignment writes numbers and tensors", function()
  local t = grid()
  t[1] = 0
  t[{ {}, 2 }] = prune.tensor { 20, 21, 22 }
  t[{ { 2, 3 }, { 3, 4 } }] = prune.tensor { 7, 8 }
  t[{ 3, 1 }] = -1
  T.equal(t:totable(), { { 0.0, 20.0, 0.0, 0.0 }, { 5.0, 21.0, 7.0, 8.0 }, { -1.0, 22.0, 7.0, 8.0 } })
  local b = prune.tensor { true, true }
  b[1] = false
  T.equal(b:totable(), { false, true })
end)

T.test("assignment through masks and lists", function()
  local t = grid()
  t[t:gt(10)] = 0
  t[t:lt(3)] = prune.tensor { -1, -2, -3, -4 }
  T.equal(t:totable(), { { -1.0, -2.0, 3.0, 4.0 }, { 5.0, 6.0, 7.0, 8.0 }, { 9.0, 10.0, -3.0, -4.0 } })
  t = grid()
  t[whole { 3, 1 }] = prune.tensor { { 1, 1, 1, 1 }, { 2, 2, 2, 2 } }
  T.equal(t:totable(), { { 2.0, 2.0, 2.0, 2.0 }, { 5.0, 6.0, 7.0, 8.0 }, { 1.0, 1.0, 1.0, 1.0 } })
  t[{ {}, whole { 2, 4 } }] = 0
  T.equal(t[2]:totable(), { 5.0, 0.0, 7.0, 0.0 })
  t[{ {}, whole { 1, 2 } }] = prune.tensor { { 1 }, { 2 }, { 3 } }
  T.equal(t[{ {}, { 1, 2 } }]:totable(), { { 1.0, 1.0 }, { 2.0, 2.0 }, { 3.0, 3.0 } })
  t[{ {}, whole { 1, 2 } }] = prune.tensor { 8, 9 }
  T.equal(t[{ {}, { 1, 2 } }]:totable(), { { 8.0, 9.0 }, { 8.0, 9.0 }, { 8.0, 9.0 } })
end)

T.test("a row may be assigned from an overlapping part of the same tensor", function()
  local t = prune.arange(5)
  t[{ { 2, 5 } }] = t[{ { 1, 4 } }]
  T.equal(t:totable(), { 1.0, 1.0, 2.0, 3.0, 4.0 })
end)

T.test("positions outside are refused in 1-based words", function()
  local t = grid()
  T.raises(function() return t[4] end, "index of axis 1 4 is out of range: it must be 1 to 3")
  T.raises(function() return t[0] end, "index of axis 1 0 is out of range")
  T.raises(function() return t[{ 1, -5 }] end, "index of axis 2 %-5 is out of range")
  T.raises(function() return t[1.5] end, "must be a whole number, not 1.5")
  T.raises(function() return t[{ 1, 2, 3 }] end, "3 indices for a tensor with 2 axes, shape %[3, 4%]")
  T.raises(function() return t[{ { 2, 4 } }] end, "range 2 to 4 does not lie within 1 to 3")
  T.raises(function() return t[{ { 1, 3, 0 } }] end, "step must be at least 1")
  T.raises(function() return t[{ { 1 } }] end, "a range is")
  T.raises(function() return t[whole { 1, 4 }] end, "position 4 is out of range")
  T.raises(function() return t[prune.tensor { 1, 2 }] end, "bool or whole numbers, not f32")
  T.raises(function() return t[{ {}, "x" }] end, "index of axis 2 must be")
  T.raises(function() return t[prune.zeros(2, 4):gt(0)] end, "%[2, 4%] does not fit a tensor of shape %[3, 4%]")
end)

T.test("values that do not fit are refused with both shapes", function()
  local t = grid()
  T.raises(function() t[1] = prune.zeros(3) end, "%[3%] does not broadcast to shape %[4%]")
  T.raises(function() t[whole { 1, 2 }] = prune.zeros(3, 4) end, "shape %[3, 4%] for 2 positions along axis 1")
  T.raises(function() t[t:gt(10)] = prune.zeros(3) end, "true in 2 places, the value has shape %[3%]")
  T.raises(function() t[1] = "x" end, "the assigned value must be a number or a tensor, not string")
end)

T.test("gradients of picked elements go where they came from", function()
  local w = prune.tensor({ 1, 2, 3, 4 }, { requires_grad = true });
  (w[whole { 4, 4, 1 }]:sum() + (w[w:gt(2)] * 10):sum() + w[{ { 2, 3 } }]:sum() * 100):backward()
  T.equal(w.grad:totable(), { 1.0, 100.0, 110.0, 12.0 })
end)

T.test("a graph takes and gives positions as the model does", function()
  local nn = prune.nn
  local Tagger = nn.module("Tagger", function(self) self.embedding = nn.Embedding(7, 4) end)
  function Tagger:forward(ids) return self.embedding(ids:reshape(-1, 5)):argmax(3), ids end
  local net = Tagger()
  local graph = prune.graph(net, { { shape = { 5 }, dtype = "i64", max = 7 } })
  local ids = prune.randint(1, 7, 3, 5)
  local tags = net(ids)
  local found = graph:run { ids }
  T.equal(found:equal(tags), true)
end)

T.done()
