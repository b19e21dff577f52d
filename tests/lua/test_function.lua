-- nn.Function: operators written in Lua take part in everything that built-in ones do, and what goes wrong in them breaks nothing.
local T = require "testing"
local prune = require "prune"
local core = require "prune.core"
local nn, F = prune.nn, prune.nn.functional

local swish = nn.Function {
  name = "test_swish", couple = "elementwise", options = { beta = 1 },
  forward = function(ctx, x)
    ctx.sigmoid = (x * ctx.beta):sigmoid()
    return x * ctx.sigmoid
  end,
  backward = function(ctx, grad)
    local s = ctx.sigmoid
    return grad * (s + ctx.inputs[1] * ctx.beta * s * (s * -1 + 1))
  end,
}

local function network(op)
  prune.seed(1)
  return nn.Sequential(nn.Conv2d(1, 6, 3), op, nn.Conv2d(6, 4, 3), nn.Flatten(), nn.Linear(64, 3))
end
local shape = { 1, 8, 8 }

T.test("values and gradients: as the built-in operator, and as central differences; options in a table at the end", function()
  local x = prune.randn { 3, 4, requires_grad = true }
  local y = prune.tensor(x:totable(), { requires_grad = true })
  T.close(swish(x), F.silu(y), 1e-6)
  swish(x):sum():backward()
  F.silu(y):sum():backward()
  T.close(x.grad, y.grad, 1e-6)
  T.close(swish(x, { beta = 2 }), x:detach() * (x:detach() * 2):sigmoid(), 1e-6)
  assert(swish:check(prune.randn { 2, 5 }) < 1e-6)
  assert(swish:check(prune.randn { 2, 5 }, { beta = 3 }) < 1e-6)
  local wrong = nn.Function { name = "test_wrong", forward = function(_, a) return a:square() end, backward = function(_, g) return g end }
  assert(wrong:check(prune.randn { 2, 5 }) > 0.1)
end)

T.test("several inputs and outputs, shapes by a function, gradients that are nil, outputs that nobody uses", function()
  local split = nn.Function {
    name = "test_split",
    forward = function(ctx, a, b, c)
      ctx.width = a:size(2)
      return F.cat({ a, b }, 2) + c:mean():item() * 0, a * 2
    end,
    backward = function(ctx, g, h)
      return g[{ {}, { 1, ctx.width } }] + h * 2, g[{ {}, { ctx.width + 1, -1 } }], nil
    end,
    shape = function(a, b) return { a[1], a[2] + b[2] }, a end,
  }
  local a, b, c = prune.randn { 2, 3 }, prune.randn { 2, 4 }, prune.randn { 5 }
  local y, z = split(a, b, c)
  T.equal({ y:size(2), z:size(2) }, { 7, 3 })
  assert(split:check(a, b, c) < 1e-6)
  a.requires_grad, c.requires_grad = true, true
  split(a, b, c):sum():backward() -- the second output is not used
  T.close(a.grad, prune.ones { 2, 3 })
  T.close(c.grad, prune.zeros { 5 })
end)

T.test("it is traced, runs as a graph, is cloned, trains, and is saved; a file opens only where its name is defined", function()
  local net = network(swish)
  local x = prune.randn { 2, 1, 8, 8 }
  local traced = prune.graph(net, shape)
  assert(traced:text():find "node test_swish 1 Function %d+ beta=1\n")
  T.close(traced:module()(x), net(x), 1e-6)
  T.close(net:clone()(x), net(x), 1e-6)
  prune.save(T.scratch "f.h5", net)
  local loaded = prune.load(T.scratch "f.h5")
  T.close(loaded(x), net:eval()(x), 1e-6)
  local optimizer = prune.optim.SGD(loaded, { lr = 0.05 })
  local before = loaded:train()(x):square():mean()
  before:backward()
  optimizer:step()
  assert(loaded(x):square():mean():item() < before:item())
  local tensors = {}
  for _, value in ipairs(traced:tensors()) do tensors[value.name] = value.tensor end
  local text = traced:text():gsub("test_swish", "test_swash")
  T.raises(function() core.read_graph(text, tensors) end, "no operator 'test_swash'; one that was written in Lua %(nn.Function%) must be defined")
end)

T.test("elementwise: the pruned model equals the ablated one, also where zero does not stay zero", function()
  local shifted = nn.Function {
    name = "test_shifted", couple = "elementwise", forward = function(_, x) return x:exp() + 1 end,
    backward = function(ctx, g) return g * ctx.inputs[1]:exp() end,
  }
  for _, op in ipairs { swish, shifted } do
    local net = network(op)
    local plan = prune.structured(net, shape, { ratio = 0.5 })
    T.equal(#plan.units, 5)
    assert(prune.verify(net, plan, { dtype = "f64", gradients = true }) < 1e-10)
    local x = prune.randn { 2, 1, 8, 8 }
    plan:apply()
    T.equal(net(x):size(), { 2, 3 })
  end
  -- a sum over channels of what is 2 where nothing was is not exact: the axis is pinned
  local Sum = nn.module("Sum", function(self) self.a, self.b = nn.Linear(3, 4), nn.Linear(1, 2) end)
  function Sum:forward(x) return self.b(self.op(self.a(x)):sum { 2, keepdim = true }) end
  local net = Sum()
  net.op = shifted
  T.raises(function() prune.structured(net, { 3 }, { ratio = 0.5 }) end, "no group whose units can go")
  net = Sum()
  net.op = swish
  T.equal(#prune.structured(net, { 3 }, { ratio = 0.5 }).units, 2)
end)

T.test("elementwise with two inputs ties them; sizes 1 broadcast", function()
  local gate = nn.Function {
    name = "test_gate", couple = "elementwise", forward = function(_, x, y) return x * y:tanh() end,
    backward = function(ctx, g)
      local x, t = ctx.inputs[1], ctx.inputs[2]:tanh()
      local gy = g * x * (t * t * -1 + 1)
      if ctx.inputs[2]:size(2) == 1 then gy = gy:sum { 2, keepdim = true } end
      return g * t, gy
    end,
  }
  for _, width in ipairs { 4, 1 } do
    local Net = nn.module("Net", function(self)
      self.a, self.b, self.c = nn.Linear(3, 4), nn.Linear(3, width), nn.Linear(4, 2)
    end)
    function Net:forward(x) return self.c(gate(self.a(x), self.b(x))) end
    local net = Net()
    assert(gate:check(prune.randn { 2, 4 }, prune.randn { 2, width }) < 1e-6)
    local plan = prune.structured(net, { 3 }, { ratio = 0.5 })
    T.equal(#plan.units, 2)
    assert(prune.verify(net, plan, { dtype = "f64", gradients = true }) < 1e-10)
    plan:apply()
    T.equal({ net.a.weight:size(1), net.b.weight:size(1) }, { 2, width == 4 and 2 or 1 })
  end
end)

T.test("a rule of one's own: matrix product by a weight, contraction and output channels", function()
  local project = nn.Function {
    name = "test_project",
    forward = function(_, x, w) return x:matmul(w) end,
    backward = function(ctx, g)
      local x, w = ctx.inputs[1], ctx.inputs[2]
      return g:matmul(w:transpose(1, 2)), x:transpose(1, 2):matmul(g)
    end,
    shape = function(x, w) return { x[1], w[2] } end,
    couple = function(ties)
      assert(ties:dim "x2" == 2 and ties:size("x1", 2) == ties:size("x2", 1))
      ties:tie("x2", 1, "x1", 2) -- what x gives is what w takes
      ties:pass_axis("y1", 1, "x1", 1)
      ties:pass_axis("y1", 2, "x2", 2)
      ties:dead("y1", 2, 0) -- a column of zeros gives zeros
      assert(ties:dead("y1", 2) == 0)
    end,
  }
  local Net = nn.module("Net", function(self)
    self.a, self.w, self.c = nn.Linear(3, 6), nn.Parameter(prune.randn { 6, 8 }), nn.Linear(8, 2)
  end)
  function Net:forward(x) return self.c(project(F.relu(self.a(x)), self.w)) end
  local net = Net()
  local plan = prune.structured(net, { 3 }, { ratio = 0.5 })
  T.equal(#plan.units, 7)
  assert(prune.verify(net, plan, { dtype = "f64", gradients = true }) < 1e-10)
  plan:apply()
  T.equal(net.w:size(), { 3, 4 })
end)

T.test("without a rule all axes are pinned, and the plan says so", function()
  local op = nn.Function { name = "test_unruled", forward = function(_, x) return x * 2 end, backward = function(_, g) return g * 2 end }
  local net = network(op)
  local plan = prune.structured(net, shape, { ratio = 0.5 })
  T.equal(#plan.units, 2)
  assert(tostring(plan):find("pinned: test_unruled at '1': test_unruled has no coupling rule", 1, true), tostring(plan))
  assert(prune.graph(net, shape):why("0.weight", 1, 1):find "pinned")
end)

T.test("a function without backward gives no gradient; one without a float input is no trouble", function()
  local round = nn.Function { name = "test_round", forward = function(_, x) return x:round() end }
  local x = prune.randn { 4, requires_grad = true }
  T.equal(round(x).requires_grad, false)
  T.equal(round(prune.tensor({ 1, 2 }, { dtype = "i64" }):to "f32"):totable(), { 1, 2 })
end)

T.test("errors in forward, backward, shape and rule come out as errors; memory is given back and the model goes on working", function()
  local mode
  local op = nn.Function {
    name = "test_fails", couple = function() if mode == "couple" then error "no rule today" end end,
    forward = function(ctx, x)
      ctx.kept = x
      if mode == "forward" then error "no values today" end
      if mode == "count" then return x:clone(), x:clone() end
      if mode == "size" then return x:sum { 2 } end
      if mode == "type" then return 3 end
      if mode == "object" then error { code = 7 } end
      return x * 2
    end,
    backward = function(_, g)
      if mode == "backward" then error "no gradient today" end
      if mode == "gradient" then return g:sum() end
      return g * 2
    end,
    shape = function(s)
      if mode == "shape" then error "no shape today" end
      return s
    end,
  }
  local net = nn.Sequential(nn.Linear(3, 4), op, nn.Linear(4, 2))
  local x = prune.randn { 5, 3 }
  local function step() net(x):sum():backward() end
  local function live()
    collectgarbage()
    collectgarbage()
    return prune.memory().tensors
  end
  step()
  net:zero_grad()
  local before = live()
  for case, pattern in pairs { forward = "1: test_fails, forward: .*no values today", backward = "test_fails, backward: .*no gradient today",
    shape = "test_fails, shape: .*no shape today", count = "it returns 2 values, 1 expected %(definition.shape",
    size = "result 1 is f32 %[5%], it must be f32 %[5, 4%]",
    type = "result 1 .*a tensor", object = "test_fails, forward: .*table", gradient = "the gradient of input 1 is f32 %[%]" } do
    mode = case
    T.raises(step, pattern)
    net:zero_grad()
    T.equal(live(), before, case)
  end
  mode = "couple"
  T.raises(function() prune.structured(net, { 3 }, { ratio = 0.5 }) end, "test_fails, coupling rule: .*no rule today")
  mode = nil
  step()
  T.equal(net[1].weight.grad:size(), { 4, 3 })
end)

T.test("a forward that is never followed by backward keeps nothing alive", function()
  local op = nn.Function {
    name = "test_keeps", forward = function(ctx, x)
      local y = x * 2
      ctx.x, ctx.y, ctx.self = x, y, ctx
      return y
    end,
    backward = function(_, g) return g * 2 end,
  }
  local w = prune.randn { 100, requires_grad = true }
  local function live()
    for _ = 1, 4 do collectgarbage() end -- each lets go of the context of one more operator of a chain
    return prune.memory().tensors
  end
  op(w)
  local before = live()
  for _ = 1, 20 do op(op(w)) end
  T.equal(live(), before)
end)

T.test("inputs returned as they are, views of them, coroutines, inputs changed before backward", function()
  local same = nn.Function { name = "test_same", forward = function(_, x) return x end, backward = function(_, g) return g end }
  local x = prune.randn { 3, requires_grad = true }
  local y = same(x)
  y:sum():backward()
  T.close(x.grad, prune.ones { 3 })
  T.equal(x.is_leaf, true)
  local result = coroutine.wrap(function() return swish(prune.ones { 2 }) end)()
  T.close(result, F.silu(prune.ones { 2 }), 1e-6)
  local z = same(x)
  prune.no_grad(function() x[1] = 7 end)
  T.raises(function() z:sum():backward() end, "overwritten after the forward pass")
end)

T.test("definitions and calls are checked; a later definition takes the name", function()
  local f = function(_, x) return x end
  local function refuses(definition, pattern) T.raises(function() nn.Function(definition) end, pattern) end
  refuses({ forward = f }, "name must be")
  refuses({ name = "a b", forward = f }, "letters, digits and _, got a b")
  refuses({ name = "relu", forward = f }, "built%-in operator 'relu'")
  refuses({ name = "test_x" }, "forward must be a function, got nil")
  refuses({ name = "test_x", forward = f, backward = 3 }, "backward must be a function, got number")
  refuses({ name = "test_x", forward = f, couple = "pointwise" }, 'couple is "elementwise" or a function, got pointwise')
  refuses({ name = "test_x", forward = f, option = {} }, "did you mean 'options'")
  refuses({ name = "test_x", forward = f, options = { mode = "fast" } }, "option 'mode' must default to a number or a boolean")
  T.raises(function() swish(prune.ones { 2 }, { beto = 1 }) end, "test_swish: there is no option 'beto'; did you mean 'beta'")
  T.raises(function() swish(prune.ones { 2 }, { beta = true }) end, "option 'beta' must be a number, got boolean")
  T.raises(function() swish(3) end, "takes tensors")
  T.raises(function() swish() end, "takes 1 to 32 tensors, got 0")
  local first = nn.Function { name = "test_twice", forward = function(_, x) return x * 2 end }
  local second = nn.Function { name = "test_twice", forward = function(_, x) return x * 3 end }
  T.equal({ first(prune.ones { 1 }):item(), second(prune.ones { 1 }):item() }, { 2, 3 })
  local kept
  local ties_kept = nn.Function { name = "test_ties", forward = f, couple = function(ties)
    kept = ties
    ties:pass("y1", "x1", "value")
    T.raises(function() ties:pass("y2", "x1") end, "'y2' is not a tensor of this operator: x1 to x1 are its inputs, y1 to y1")
    T.raises(function() ties:tie("x1", 1, "x1", 2) end, "cannot be tied")
    T.raises(function() ties:pin("x1", 9) end, "axis")
  end }
  prune.structured(nn.Sequential(nn.Linear(3, 4), ties_kept, nn.Linear(4, 2)), { 3 }, { ratio = 0.5 })
  T.raises(function() kept:dim "x1" end, "rule that has ended")
end)

T.done()
