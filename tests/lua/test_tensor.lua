-- Tensors from Lua: making, asking, reading and writing values, arithmetic, conversions, order, gradients, memory.
local T = require "testing"
local prune = require "prune"
local F = prune.nn.functional

-- --- making -----------------------------------------------------------------------------------------------------------

T.test("tensors come from nested tables, numbers and booleans", function()
  local t = prune.tensor { { 1, 2, 3 }, { 4, 5, 6 } }
  T.equal(t.shape, { 2, 3 })
  T.equal(t.dtype, "f32")
  T.equal(t.device, "cpu")
  T.equal(t:totable(), { { 1.0, 2.0, 3.0 }, { 4.0, 5.0, 6.0 } })
  T.equal(prune.tensor({ 1, 2 }, { dtype = "i64" }):totable(), { 1, 2 })
  T.equal(prune.tensor({ true, false }):totable(), { true, false })
  T.equal(prune.tensor(3.5):item(), 3.5)
  T.equal(prune.tensor(3.5).shape, {})
  T.equal(prune.tensor({}).shape, { 0 })
end)

T.test("ragged tables are refused with the place", function()
  T.raises(function() prune.tensor { { 1, 2 }, { 3 } } end, "element %[2%] has 1 elements, others have 2")
  T.raises(function() prune.tensor { { { 1 }, { 2 } }, { { 3 }, 4 } } end, "element %[2%]%[2%] is a number")
  T.raises(function() prune.tensor { { 1, "x" } } end, "element %[1%]%[2%] is a string")
end)

T.test("shapes are numbers or tables, options stand in either table", function()
  T.equal(prune.zeros(2, 3).shape, { 2, 3 })
  T.equal(prune.zeros({ 2, 3 }).shape, { 2, 3 })
  T.equal(prune.zeros({ 2, 3, dtype = "i32" }).dtype, "i32")
  T.equal(prune.zeros({ 2 }, { dtype = "f64" }).dtype, "f64")
  T.equal(prune.ones(2, { dtype = "u8" }):totable(), { 1, 1 })
  T.equal(prune.full({ 2 }, 7):totable(), { 7.0, 7.0 })
  T.equal(prune.full({ 2, value = 7, dtype = "i64" }):totable(), { 7, 7 })
  T.equal(prune.zeros().shape, {})
  T.equal(prune.eye(2, 3):totable(), { { 1.0, 0.0, 0.0 }, { 0.0, 1.0, 0.0 } })
  T.raises(function() prune.zeros { 2, dtyp = "f32" } end, "no option 'dtyp'; did you mean 'dtype'")
  T.raises(function() prune.zeros { 2, dtype = "f23" } end, "unknown dtype 'f23'.*'f32'")
  T.raises(function() prune.zeros { 2, -1 } end, "size 2 of the shape is negative")
  T.raises(function() prune.zeros { 2.5 } end, "size 1 of the shape must be a whole number, not 2.5")
end)

T.test("progressions include their end, as Lua's for loops", function()
  T.equal(prune.arange(4):totable(), { 1.0, 2.0, 3.0, 4.0 })
  T.equal(prune.arange(2, 9, 3):totable(), { 2.0, 5.0, 8.0 })
  T.close(prune.arange(0, 1, 0.1), { 0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1 }, 1e-7)
  T.equal(prune.arange(3, 1, -1, { dtype = "i64" }):totable(), { 3, 2, 1 })
  T.equal(prune.arange(3, 1):totable(), {})
  T.equal(prune.linspace(0, 1, 5):totable(), { 0.0, 0.25, 0.5, 0.75, 1.0 })
end)

T.test("random numbers follow the seed and not the number of threads", function()
  local threads = prune.threads()
  prune.seed(7)
  local a, b = prune.randn(10000), prune.rand(10000)
  prune.seed(7)
  prune.threads(1)
  T.equal(prune.randn(10000):equal(a), true)
  T.equal(prune.rand(10000):equal(b), true)
  T.equal(prune.rand(10000):equal(b), false)
  prune.threads(threads)
  T.close(a:mean():item(), 0, 0.05)
  T.close(a:std():item(), 1, 0.05)
  T.close(b:mean():item(), 0.5, 0.02)
end)

T.test("randint includes both ends, randperm holds every number once", function()
  local t = prune.randint(3, 5, 1000)
  T.equal(t.dtype, "i64")
  T.equal(t:amin():item(), 3)
  T.equal(t:amax():item(), 5)
  local p = prune.randperm(100)
  T.equal(p:equal(prune.arange(100, { dtype = "i64" })), false)
  T.equal((p:sort()):equal(prune.arange(100, { dtype = "i64" })), true)
end)

-- --- asking -----------------------------------------------------------------------------------------------------------

T.test("a tensor tells its sizes", function()
  local t = prune.zeros(2, 3, 4)
  T.equal(t:size(), { 2, 3, 4 })
  T.equal(t:size(2), 3)
  T.equal(t:size(-1), 4)
  T.equal(t:stride(), { 12, 4, 1 })
  T.equal(t:stride(1), 12)
  T.equal(t:dim(), 3)
  T.equal(t:numel(), 24)
  T.equal(#t, 2)
  T.equal(t:is_contiguous(), true)
  T.equal(t:transpose():is_contiguous(), false)
  T.raises(function() t:size(4) end, "axis 4 is out of range: it must be 1 to 3")
  T.raises(function() t:size(0) end, "axis 0 is out of range")
  T.raises(function() return #prune.tensor(1) end, "no length")
end)

T.test("printing shows aligned values and a footer", function()
  T.equal(tostring(prune.tensor { { 1, 2.5 }, { -3, 4 } }), "  1.0000   2.5000\n -3.0000   4.0000\nf32 [2, 2] cpu")
  T.equal(tostring(prune.zeros(64, 3, 3, 3)):find("f32 [64, 3, 3, 3] cpu", 1, true) ~= nil, true)
  T.equal("a " .. prune.tensor(1), "a  1\nf32 [] cpu")
end)

-- --- values -----------------------------------------------------------------------------------------------------------

T.test("item gives floats, integers and booleans", function()
  T.equal(math.type(prune.tensor({ 3 }):item()), "float")
  T.equal(math.type(prune.tensor({ 3 }, { dtype = "i64" }):item()), "integer")
  T.equal(prune.tensor({ true }):item(), true)
  T.raises(function() prune.zeros(2, 3):item() end, "one element.*%[2, 3%]")
end)

T.test("fill and copy write in place and give the tensor back", function()
  local t = prune.zeros(2, 2)
  T.equal(rawequal(t:fill(3), t), true)
  t:copy(prune.tensor { 1, 2 })
  T.equal(t:totable(), { { 1.0, 2.0 }, { 1.0, 2.0 } })
  T.raises(function() t:copy(prune.zeros(3)) end, "%[3%] does not broadcast to shape %[2, 2%]")
end)

T.test("views share memory, clones do not", function()
  local t = prune.zeros(2, 3)
  local view, clone = t:reshape(3, 2), t:clone()
  T.equal(view:shares_storage(t), true)
  T.equal(clone:shares_storage(t), false)
  view:fill(1)
  T.equal(t:sum():item(), 6.0)
  T.equal(clone:sum():item(), 0.0)
end)

T.test("to converts", function()
  local t = prune.tensor { 1.7, -2.2 }
  T.equal(t:to("i64"):totable(), { 1, -2 })
  T.equal(t:to("f64").dtype, "f64")
  T.equal(rawequal(t:to "f32", t), true)
  T.equal(rawequal(t:to "cpu", t), true)
  T.equal(t:to({ dtype = "bf16" }).dtype, "bf16")
  T.raises(function() t:to "cuda" end, "no device 'cuda'")
  T.raises(function() t:to "float" end, "unknown dtype 'float'")
end)

T.test("equal and allclose compare values", function()
  local t = prune.tensor { 1, 2 }
  T.equal(t:equal(prune.tensor { 1, 2 }), true)
  T.equal(t:equal(prune.tensor { 1, 3 }), false)
  T.equal(t:equal(prune.tensor({ 1, 2 }, { dtype = "f64" })), false)
  T.equal(t:equal(prune.tensor { { 1, 2 } }), false)
  T.equal(t:allclose(t + 1e-6), true)
  T.equal(t:allclose(t + 1e-2), false)
  T.equal(t:allclose(t + 1e-2, { atol = 0.1 }), true)
  T.equal(t:allclose(t * 1.05, { rtol = 0.1 }), true)
  local inf, nan = prune.tensor { math.huge }, prune.tensor { 0 / 0 }
  T.equal(inf:allclose(inf), true)
  T.equal(inf:allclose(-inf), false)
  T.equal(nan:allclose(nan), false)
  T.raises(function() t:allclose(prune.zeros(3)) end, "%[2%] and %[3%]")
end)

-- --- arithmetic -------------------------------------------------------------------------------------------------------

T.test("arithmetic takes numbers on either side", function()
  local t = prune.tensor { 1, 2, 4 }
  T.equal((t + 1):totable(), { 2.0, 3.0, 5.0 })
  T.equal((1 - t):totable(), { 0.0, -1.0, -3.0 })
  T.equal((2 * t):totable(), { 2.0, 4.0, 8.0 })
  T.equal((8 / t):totable(), { 8.0, 4.0, 2.0 })
  T.equal((t ^ 2):totable(), { 1.0, 4.0, 16.0 })
  T.equal((2 ^ t):totable(), { 2.0, 4.0, 16.0 })
  T.equal((-t // 3):totable(), { -1.0, -1.0, -2.0 })
  T.equal((-t % 3):totable(), { 2.0, 1.0, 2.0 })
  T.equal((t * t - t / t):totable(), { 0.0, 3.0, 15.0 })
end)

T.test("numbers take the dtype of the tensor unless that would change them", function()
  local i = prune.tensor({ 1, 2 }, { dtype = "i64" })
  T.equal((i + 1).dtype, "i64")
  T.equal((i + 0.5):totable(), { 1.5, 2.5 })
  T.equal((i / 2):totable(), { 0.5, 1.0 })
  T.equal(i:gt(1.5):totable(), { false, true })
  T.equal((prune.tensor({ 1, 2 }, { dtype = "f64" }) + 0.1):totable(), { 1.1, 2.1 })
  T.equal((prune.tensor { true, false } * 3):totable(), { 3, 0 })
end)

T.test("== is identity, eq compares elements", function()
  local t = prune.tensor { 1, 2 }
  T.equal(t == prune.tensor { 1, 2 }, false)
  T.equal(t == t, true)
  T.equal(t:eq(prune.tensor { 1, 3 }):totable(), { true, false })
  T.equal(t:lt(2):totable(), { true, false })
end)

-- --- calling operators ------------------------------------------------------------------------------------------------

T.test("arguments are positional, named or both", function()
  local t = prune.arange(24):reshape(2, 3, 4)
  T.equal(t:sum { 2, 3 }:totable(), t:sum(2, 3):totable())
  T.equal(t:sum { 2, 3 }:totable(), t:sum { dim = { 2, 3 } }:totable())
  T.equal(t:sum({ 2, 3 }, true).shape, { 2, 1, 1 })
  T.equal(t:sum({ 2, 3, keepdim = true }).shape, { 2, 1, 1 })
  T.equal(t:sum({ 2 }, { keepdim = true }).shape, { 2, 1, 4 })
  T.equal(t:amax(-1).shape, { 2, 3 })
  T.equal(t:sum().shape, {})
  T.equal(t:permute(3, 1, 2).shape, { 4, 2, 3 })
  T.equal(t:permute({ 3, 1, 2 }).shape, { 4, 2, 3 })
  T.equal(t:reshape(4, -1).shape, { 4, 6 })
  T.equal(t:reshape({ 4, -1 }).shape, { 4, 6 })
  T.equal(t:transpose(1, 3).shape, { 4, 3, 2 })
end)

T.test("optional inputs may be nil, left out or named", function()
  prune.seed(1)
  local x, w, b = prune.randn(1, 2, 5, 5), prune.randn(3, 2, 3, 3), prune.randn(3)
  local plain = F.conv2d(x, w, nil, { padding = 1 })
  T.equal(plain.shape, { 1, 3, 5, 5 })
  T.equal(F.conv2d(x, w, { padding = 1 }):allclose(plain), true)
  T.equal(F.conv2d(x, w, { padding = { 1, 1 } }):allclose(plain), true)
  local biased = F.conv2d(x, w, b, { padding = 1 })
  T.equal(biased:allclose(plain + b:reshape(1, 3, 1, 1), { atol = 1e-5 }), true)
  T.equal(F.conv2d(x, w, { bias = b, padding = 1 }):equal(biased), true)
  T.equal(F.conv2d(x, w, b, 2).shape, { 1, 3, 2, 2 })
end)

T.test("lists of tensors go in and come out", function()
  local a, b = prune.arange(6):reshape(2, 3), prune.zeros(2, 3)
  T.equal(F.cat({ a, b }, 2).shape, { 2, 6 })
  T.equal(F.cat({ a, b }).shape, { 4, 3 })
  local many = {}
  for i = 1, 40 do many[i] = prune.full({ 1 }, i) end
  T.equal(F.cat(many):equal(prune.arange(40)), true)
  local left, middle, right = a:split({ 1 }, 2)
  T.equal(middle:totable(), { { 2.0 }, { 5.0 } })
  T.equal(right.shape, { 2, 1 })
  T.equal(left:shares_storage(a), true)
end)

T.test("positions and labels count from 1", function()
  local t = prune.tensor { { 3, 9, 1 }, { 7, 2, 5 } }
  T.equal(t:argmax(2):totable(), { 2, 1 })
  T.equal(t:argmax():item(), 2)
  local values, places = t:topk(2, 2)
  T.equal(values:totable(), { { 9.0, 3.0 }, { 7.0, 5.0 } })
  T.equal(places:totable(), { { 2, 1 }, { 1, 3 } })
  local labels = prune.tensor({ 3, 1 }, { dtype = "i64" })
  local loss = F.cross_entropy(t, labels):item()
  local expected = 0
  for i, label in ipairs { 3, 1 } do
    local row = t:totable()[i]
    local sum = 0
    for _, v in ipairs(row) do sum = sum + math.exp(v) end
    expected = expected + math.log(sum) - row[label]
  end
  T.close(loss, expected / 2, 1e-6)
  T.equal(F.embedding(prune.tensor({ 2 }, { dtype = "i64" }), t):totable(), { { 7.0, 2.0, 5.0 } })
  T.equal(labels:totable(), { 3, 1 })
end)

T.test("lowest and highest give positions, ties by the lower one", function()
  local t = prune.tensor { 5, 1, 3, 1, 0 / 0 }
  T.equal(t:lowest(3):totable(), { 2, 4, 3 })
  T.equal(t:lowest({ ratio = 0.4 }):totable(), { 2, 4 })
  T.equal(t:lowest({ count = 1 }):totable(), { 2 })
  T.equal(t:highest(2):totable(), { 1, 3 })
  T.equal(t:lowest({ ratio = 0.59 }):size(1), 2)
  T.equal(prune.arange(10):lowest({ ratio = 0.3 }):size(1), 3)
  T.equal(t:lowest(0).shape, { 0 })
  T.raises(function() t:lowest(6) end, "6 of 5 elements")
  T.raises(function() t:lowest { ratio = 1.5 } end, "share of 0 to 1")
  T.raises(function() prune.zeros(2, 2):lowest(1) end, "%[2, 2%]")
end)

-- --- gradients --------------------------------------------------------------------------------------------------------

T.test("backward fills the gradients of leaves", function()
  local w = prune.tensor({ 1, 2, 3 }, { requires_grad = true })
  T.equal(w.requires_grad, true)
  T.equal(w.is_leaf, true)
  T.equal(w.grad, nil)
  local y = w * w
  T.equal(y.is_leaf, false)
  y:sum():backward()
  T.equal(w.grad:totable(), { 2.0, 4.0, 6.0 })
  T.equal(rawequal(w.grad, w.grad), true);
  (w * 2):backward(prune.tensor { 1, 10, 100 })
  T.equal(w.grad:totable(), { 4.0, 24.0, 206.0 })
  w:zero_grad()
  T.equal(w.grad, nil)
  w.grad = prune.ones(3)
  T.equal(w.grad:totable(), { 1.0, 1.0, 1.0 })
  T.raises(function() w.grad = prune.ones(2) end, "%[3%].*%[2%]")
  T.raises(function() w.gard = 1 end, "no field 'gard'")
  T.raises(function() prune.zeros({ 2, dtype = "i64" }).requires_grad = true end, "only float tensors")
end)

T.test("gradients flow through indexing, casting and clones", function()
  local w = prune.tensor({ { 1, 2 }, { 3, 4 } }, { requires_grad = true });
  (w[1] * 2 + w[{ {}, 2 }] + w:clone()[2]:to("f64"):sum():to "f32"):sum():backward()
  T.equal(w.grad:totable(), { { 2.0, 3.0 }, { 2.0, 3.0 } })
end)

T.test("no_grad switches recording off and on again, also after an error", function()
  local w = prune.tensor({ 1 }, { requires_grad = true })
  T.equal(prune.no_grad(function(x) return (x * 2).requires_grad, prune.grad_enabled() end, w), false)
  T.equal(prune.grad_enabled(), true)
  T.raises(function() prune.no_grad(error, "oops") end, "oops")
  T.equal(prune.grad_enabled(), true)
  do
    local scope <close> = prune.no_grad()
    T.equal((w * 2).requires_grad, false)
    T.equal(prune.enable_grad(function() return (w * 2).requires_grad end), true)
  end
  T.equal((w * 2).requires_grad, true)
end)

T.test("hooks see, replace and refuse gradients until they are removed", function()
  local w = prune.tensor({ 1, 2 }, { requires_grad = true })
  local seen
  local remove = w:register_hook(function(g)
    seen = g:totable()
    return g * 10
  end);
  (w * 3):sum():backward()
  T.equal(seen, { 3.0, 3.0 })
  T.equal(w.grad:totable(), { 30.0, 30.0 })
  remove()
  remove()
  w:zero_grad();
  (w * 3):sum():backward()
  T.equal(w.grad:totable(), { 3.0, 3.0 })
  w:register_hook(function() error "from the hook" end)
  T.raises(function() (w * 3):sum():backward() end, "from the hook")
end)

T.test("writing in place into recorded results is refused", function()
  local w = prune.tensor({ 1, 2 }, { requires_grad = true })
  local y = w * 2
  T.raises(function() y:fill(0) end, "recorded for backward")
  T.raises(function() y[1] = 0 end, "recorded for backward")
  prune.no_grad(function() y:fill(0) end)
  w:fill(3)
  T.equal(w:totable(), { 3.0, 3.0 })
end)

-- --- parameters -------------------------------------------------------------------------------------------------------

T.test("a masked parameter reads as masked and keeps its dense value", function()
  local p = prune.nn.Parameter(prune.tensor { 1, 2, 3 })
  T.equal(p.is_parameter, true)
  T.equal(p.requires_grad, true)
  p:set_mask(prune.tensor { 1, 0, 1 })
  T.equal(p:totable(), { 1.0, 0.0, 3.0 })
  T.equal((p + 0):totable(), { 1.0, 0.0, 3.0 })
  T.equal(p[2]:item(), 0.0)
  T.equal(tostring(p), " 1  0  3\nf32 [3] cpu")
  T.equal(p:dense():totable(), { 1.0, 2.0, 3.0 })
  local copy = p:clone_parameter()
  T.equal(copy.mask:totable(), { 1.0, 0.0, 1.0 })
  p:set_mask(nil)
  T.equal(p:totable(), { 1.0, 2.0, 3.0 })
  copy:finalize_mask()
  T.equal(copy.mask, nil)
  T.equal(copy:dense():totable(), { 1.0, 0.0, 3.0 })
end)

-- --- memory -----------------------------------------------------------------------------------------------------------

T.test("closing a tensor releases its memory at once", function()
  prune.empty_cache()
  local before = prune.memory().tensors
  do
    local scope <close> = prune.empty(1000)
    T.equal(prune.memory().tensors - before, 4000)
  end
  T.equal(prune.memory().tensors, before)
  local t = prune.empty(1)
  getmetatable(t).__close(t)
  getmetatable(t).__close(t)
  T.raises(function() t:size() end, "released")
  T.raises(function() return t + 1 end, "released")
  T.equal(tostring(t), "a released tensor")
end)

T.test("a loop of temporaries stays small without being told", function()
  prune.empty_cache()
  prune.reset_peak_memory()
  local before = prune.memory().live
  for _ = 1, 2000 do local _ = prune.empty(1 << 18) end -- 1 MB each
  T.equal(prune.memory().peak - before < 200 * 2 ^ 20, true)
end)

T.test("one tensor is one value, whichever way it comes out", function()
  local w = prune.tensor({ 1, 2 }, { requires_grad = true });
  (w * 2):sum():backward()
  local set = { [w.grad] = true }
  T.equal(set[w.grad], true)
  collectgarbage()
  T.equal(set[w.grad], true)
end)

T.done()
