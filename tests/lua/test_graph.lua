-- Graphs: what tracing sees, costs in both conventions, running at another batch size, pictures.
local T = require "testing"
local prune = require "prune"
local nn, F = prune.nn, prune.nn.functional

T.test("costs of ResNet-18 in both conventions", function()
  local profile = prune.profile(prune.models.resnet18 { classes = 10 }, { 3, 32, 32 })
  T.equal(profile.params, 11181642)
  T.equal(profile.macs, 37016586)
  T.equal(profile.macs_ptflops, 37245962)
end)

T.test("tracing computes nothing, takes no random numbers and writes nothing", function()
  local net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5))
  local core = require "prune.core"
  local seed, step = core.random_state()
  local mean = net[2].running_mean:totable()
  prune.graph(net, { 3, 8, 8 })
  T.equal({ core.random_state() }, { seed, step })
  T.equal(net[2].running_mean:totable(), mean)
end)

local Reshaper = nn.module("Reshaper", function(self) self.fc = nn.Linear(6, 6) end)
function Reshaper:forward(x)
  local n = x:size(1)
  local y = self.fc(x):reshape(n * 2, 3)
  return y:reshape(n, 6) + prune.zeros { n, 6 }
end

T.test("what depends on the batch is kept so: the graph runs at any batch size", function()
  local net = Reshaper()
  local graph = prune.graph(net, { 6 })
  for _, n in ipairs { 1, 2, 5 } do
    local x = prune.randn { n, 6 }
    T.equal(graph:run({ x }, false):equal(net(x)), true)
  end
  T.raises(function() graph:run({ prune.randn { 2, 7 } }, false) end, "traced with %[2, 6%]")
end)

T.test("a literal batch size is an error that names operator and layer", function()
  local Literal = nn.module("Literal", function(self) self.fc = nn.Linear(6, 6) end)
  function Literal:forward(x) return self.fc(x):reshape(4, 3) end
  T.raises(function() prune.graph(Literal(), { 6 }) end, "reshape")
end)

T.test("reading a value while tracing is an error that names the line", function()
  local Reader = nn.module("Reader", function(self) self.fc = nn.Linear(6, 6) end)
  function Reader:forward(x)
    local y = self.fc(x)
    return y:sum():item() > 0 and y or y * 2
  end
  T.raises(function() prune.graph(Reader(), { 6 }) end, "test_graph.lua:%d+: .*only shapes")
end)

local Two = nn.module("Two", function(self)
  self.embedding = nn.Embedding(20, 6)
  self.fc = nn.Linear(6, 4)
end)
function Two:forward(tokens, x)
  local e = self.embedding(tokens):mean { 2 }
  return self.fc(e + x), e
end

T.test("several inputs and outputs, integer inputs too", function()
  local net = Two()
  local graph = prune.graph(net, { { shape = { 5 }, dtype = "i64", max = 20 }, { 6 } })
  local tokens, x = prune.randint(1, 20, { 3, 5 }), prune.randn { 3, 6 }
  local a, b = graph:run({ tokens, x }, false)
  local c, d = net(tokens, x)
  T.equal(a:allclose(c), true)
  T.equal(b:allclose(d), true)
  T.equal(#graph:inputs(), 2)
  T.equal(#graph:outputs(), 2)
end)

T.test("a shape without a dtype is of the model's dtype", function()
  for _, dtype in ipairs { "f32", "f64", "bf16" } do
    local net = prune.models.cnn({ channels = 1, width = 4 }):to(dtype)
    T.equal(prune.graph(net, { 1, 8, 8 }):inputs()[1].dtype, dtype)
    T.equal(prune.graph(net, { { shape = { 1, 8, 8 } } }):inputs()[1].dtype, dtype)
    local plan = prune.structured(net, { 1, 8, 8 }, { macs = 0.5 }):apply()
    assert(plan.macs <= 0.5 * plan.before.macs)
    if dtype ~= "bf16" then T.equal(prune.report({ 1, 8, 8 }):add("small", net).params, plan.params) end
  end
end)

T.test("a summary has a row per layer and the totals", function()
  local text = prune.summary(prune.models.cnn { classes = 10, channels = 1, width = 8 }, { 1, 8, 8 })
  for _, part in ipairs { "conv2 +Conv2d +3 x 3 +16 x 4 x 4 +1,152 +18,432", "bn1 +BatchNorm2d", "6,274 parameters", "41,802 MACs" } do
    assert(text:find(part), text)
  end
end)

T.test("pictures: dot always, svg where Graphviz is; other endings are refused", function()
  local net = prune.models.lenet()
  local path = prune.draw(T.scratch "net.dot", net, { 1, 28, 28 })
  local text = assert(io.open(path)):read "a"
  assert(text:find "^digraph" and text:find "conv2d" and text:find "fc3", text)
  if os.execute "command -v dot >/dev/null 2>&1" then
    local svg = assert(io.open(prune.draw(T.scratch "net.svg", net, { 1, 28, 28 }))):read "a"
    assert(svg:find "<svg" and svg:find "conv2d")
  end
  T.raises(function() prune.draw(T.scratch "net.gif", net, { 1, 28, 28 }) end, "must end in")
end)

T.test("wrong shapes and models are refused at the call", function()
  T.raises(function() prune.graph(3, { 3 }) end, "must be a module")
  T.raises(function() prune.graph(nn.ReLU(), "x") end, "a shape")
  T.raises(function() prune.graph(nn.ReLU(), { 3, -1 }) end, "sizes of at least 1")
  T.raises(function() prune.graph(prune.models.resnet18(), { 4, 32, 32 }) end, "conv1: conv2d")
  T.raises(function() prune.graph(nn.module("N", function() end)(), { 3 }) end, "no forward function")
end)

T.test("numbers in tables have a comma every three digits, whatever their sign", function()
  local thousands = require("prune.graph").thousands
  T.equal({ thousands(0), thousands(999), thousands(-364), thousands(1234), thousands(-1234567) }, { "0", "999", "-364", "1,234", "-1,234,567" })
end)

T.test("outputs in tables, by number and by name, are all the model's outputs and stay", function()
  local net = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 6), nn.Linear(6, 2))
  local class = nn.module("Named", function(self) self.net = net end)
  local function traced(forward)
    class.forward = forward
    return prune.graph(class(), { 4 })
  end
  local graph = traced(function(_, x)
    local y = net[1](x)
    return { net[3](net[2](y)), features = y, last = { F.relu(x) } }
  end)
  T.equal({ #graph:outputs(), #graph:groups() }, { 3, 1 })
  assert(graph:why("net.0.weight", 1, 1):find "outputs stay as they are, and it is among")
  T.equal(graph:outputs()[2].shape, { 2, 8 })
  local result = graph:module()(prune.randn { 3, 4 })
  T.equal(result:size(), { 3, 2 })
  T.raises(function() traced(function(_, x) return { [3] = net(x) } end) end, "keys are neither 1..n nor names")
  T.raises(function() traced(function(_, x) return { net(x), loss = 1 } end) end, "the model returns a number")
  T.raises(function() traced(function() return {} end) end, "the model returns nothing")
  T.raises(function()
    traced(function(_, x)
      local round = { net(x) }
      round.again = round
      return round
    end)
  end, "more than 64 outputs")
end)

T.done()
