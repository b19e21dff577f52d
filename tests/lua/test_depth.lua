-- Depth pruning: what may go is found on the graph, and the smaller model computes what the whole one does with the branches at zero.
local T = require "testing"
local prune = require "prune"
local nn, F = prune.nn, prune.nn.functional

local function goes(plan)
  local list = {}
  for _, block in ipairs(plan.blocks) do
    if block.goes then list[#list + 1] = block.path end
  end
  return table.concat(list, " ")
end

-- Scores that send blocks of these paths first.
local function first(...)
  local wanted = {}
  for _, path in ipairs { ... } do wanted[path] = true end
  return function(block) return wanted[block.path] and 0 or 1 end
end

-- A model whose norms and statistics are not 1 and 0, in f64.
local function stir(net)
  for _, t in net:named_parameters() do
    if t:dim() == 1 then t:copy(prune.randn(t:size()) * 0.3 + 0.8) end
  end
  for name, t in net:named_buffers() do t:copy(name:match "var" and prune.rand(t:size()) + 0.5 or prune.randn(t:size()) * 0.3) end
  return net:to("f64"):eval()
end

local Attend = nn.module("Attend", function(self, width)
  self.norm1, self.attn = nn.LayerNorm(width), nn.MultiheadAttention(width, 2)
  self.norm2, self.up, self.down = nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
end)
function Attend:forward(x)
  x = x + self.attn(self.norm1(x))
  return x + self.down(F.gelu(self.up(self.norm2(x))))
end

local function transformer()
  prune.seed(4)
  return stir(nn.Sequential(nn.Linear(6, 8), Attend(8), Attend(8), nn.LayerNorm(8), nn.Linear(8, 3)))
end

T.test("resnet18 and resnet20: the pruned model equals the ablated one, keeps its own code, its Parameters and optimiser state", function()
  for name, shape in pairs { resnet18 = { 3, 33, 33 }, resnet20 = { 3, 16, 16 } } do
    prune.seed(1)
    local net = stir(prune.models[name] { classes = 10 })
    local x = prune.randn({ 2, table.unpack(shape) }):to "f64"
    local ablated = net:clone()
    for _, path in ipairs { "layer1.1", "layer3.1" } do
      prune.no_grad(function()
        ablated:module(path).bn2.weight:fill(0)
        ablated:module(path).bn2.bias:fill(0)
      end)
    end
    local optimizer = prune.optim.SGD(net, { lr = 0.1, momentum = 0.9 })
    local conv, count = net.layer2[1].conv1.weight, #optimizer:parameters()
    local plan = prune.depth(net, x, { blocks = 2, criterion = first("layer1.1", "layer3.1") })
    T.equal(goes(plan), "layer1.1 layer3.1")
    T.equal(plan:apply({ optimizer = optimizer }).form, "code")
    T.equal(net(x):equal(ablated(x)), true)
    T.equal(rawequal(net.layer2[1].conv1.weight, conv), true)
    T.equal(#optimizer:parameters(), count - 12)
    local profile = prune.profile(net, x)
    T.equal({ profile.params, profile.macs }, { plan.params, plan.macs })
    net:train()
    net(x):sum():backward()
    optimizer:step()
    prune.save(T.scratch "net.h5", net, { optimizer = optimizer })
    T.equal(prune.load(T.scratch "net.h5")(x):equal(net:eval()(x)), true)
  end
end)

T.test("a transformer loses one branch of a block: it runs as a graph, in place, and trains, clones, converts, saves and prunes on", function()
  local net = transformer()
  local x = prune.randn({ 3, 5, 6 }):to "f64"
  local ablated, weight = net:clone(), net[2].up.weight
  prune.no_grad(function()
    ablated[2].attn.out_proj.weight:fill(0)
    ablated[2].attn.out_proj.bias:fill(0)
  end)
  local plan = prune.depth(net, x, { blocks = 1, criterion = function(block) return block.index end })
  T.equal(plan.blocks[1].parts, "norm1 attn")
  assert(tostring(plan):find("1 of 4 blocks go", 1, true), tostring(plan))
  T.equal(plan:apply().form, "graph")
  T.equal(net(x):equal(ablated(x)), true)
  T.equal({ net[2].attn, net[2].norm1 }, {})
  T.equal(rawequal(net:parameter "1.up.weight", weight), true)
  T.equal(net._type, "Sequential")
  T.equal(net:clone()(x):equal(net(x)), true)
  T.equal(net:clone():to("f32")(x:to "f32"):allclose(net(x):to "f32", { rtol = 1e-4, atol = 1e-5 }), true)
  prune.save(T.scratch "t.h5", net)
  T.equal(prune.load(T.scratch "t.h5")(x):equal(net(x)), true)
  net:train()
  local optimizer = prune.optim.Adam(net, { lr = 0.01 })
  local before = net(x):square():mean()
  before:backward()
  optimizer:step()
  assert(net(x):square():mean():item() < before:item())
  prune.structured(net, x, { ratio = 0.5 }):apply()
  T.equal(weight:size(1), 8)
  local again = prune.depth(net, x, { blocks = 1, criterion = first "2" })
  T.equal(#again.blocks, 3)
  again:apply()
  T.equal(#prune.depth(net, x, { blocks = 0 }).blocks, 2)
end)

T.test("a whole pre-norm block becomes the identity in the model's own code", function()
  local net = transformer()
  local x = prune.randn({ 3, 5, 6 }):to "f64"
  local without = nn.Sequential(net[1], net[3], net[4], net[5]):eval()
  local y = without(x)
  local plan = prune.depth(net, x, { blocks = 1, by = "module", criterion = first "1" })
  T.equal({ #plan.blocks, plan.blocks[1].parts }, { 2, "norm1 attn norm2 up down" })
  assert(tostring(plan):find("1 of 2 blocks go", 1, true))
  plan:apply()
  T.equal({ plan.form, net[2]._type, net[2]._name, #prune.history(net)[1].blocks }, { "code", "Identity", "1", 2 })
  T.equal(net(x):equal(y), true)
end)

local Block = nn.module("Block", function(self, how) self.a, self.b, self.how = nn.Linear(4, 4), nn.Linear(4, 4), how end)
function Block:forward(x) return self.how(self, x) end

local function with(how)
  prune.seed(5)
  return stir(nn.Sequential(nn.Linear(3, 4), Block(how), nn.Linear(4, 2)))
end

T.test("a ReLU behind the sum stays where the input may be negative", function()
  local net = with(function(self, x) return F.relu(x + self.a(x)) end)
  local x = prune.randn({ 9, 3 }):to "f64"
  local want = net[3](F.relu(net[1](x)))
  local plan = prune.depth(net, x, { blocks = 1 }):apply()
  T.equal({ plan.form, net(x):equal(want) }, { "graph", true })
end)

T.test("only y = x + f(x) and x - f(x) with an f that nothing else reads can go", function()
  local function found(how)
    local ok, plan = pcall(prune.depth, with(how), prune.randn({ 1, 3 }):to "f64", { blocks = 0 })
    if ok then return #plan.blocks end
    assert(plan:find "no residual branch", plan)
    return 0
  end
  T.equal(found(function(self, x) return x + self.a(x) end), 1)
  T.equal(found(function(self, x) return self.b(self.a(x)) + x end), 1)
  T.equal(found(function(self, x) return x - self.a(x) end), 1)
  T.equal(found(function(self, x) return self.a(x) - x end), 0)
  T.equal(found(function(self, x) return x + self.a(x) * F.sigmoid(self.b(x)) end), 1)
  T.equal(found(function(_, x) return x + x end), 0)
  T.equal(found(function(self, x) return self.a(x) + self.b(x) end), 0) -- neither side is x
  T.equal(found(function(self, x) return x * self.a(x) end), 0)
  T.equal(found(function(self, x) -- f is read twice
    local f = self.a(x)
    return F.relu(x + f) * f
  end), 0)
  T.equal(found(function(self, x) -- so is something inside it
    local f = self.a(x)
    return (x + self.b(f)) * f
  end), 0)
  T.equal(found(function(self, x) -- f also reads what comes before x
    local z = self.a(x)
    return z + self.b(z) * x
  end), 0)
  T.equal(found(function(self, x) -- one inside the other
    local y = self.a(x)
    y = y + F.relu(y)
    return x + self.b(y)
  end), 2)
end)

T.test("nested branches may go together; a model loaded from a file loses branches too", function()
  local net = with(function(self, x)
    local y = self.a(x)
    y = y + F.relu(y)
    return x + self.b(y)
  end)
  local x = prune.randn({ 2, 3 }):to "f64"
  prune.save(T.scratch "n.h5", net, { shape = x })
  local loaded = prune.load(T.scratch "n.h5")
  local want = net[3](net[1](x))
  local plan = prune.depth(loaded, x, { ratio = 1 }):apply()
  T.equal({ plan.form, loaded(x):equal(want), #loaded:parameters() }, { "graph", true, 4 })
  prune.depth(net, x, { ratio = 1 }):apply()
  T.equal(net(x):equal(want), true)
end)

T.test("targets: blocks, ratio, MACs, parameters; what cannot be had is refused with the most that can", function()
  local net = prune.models.resnet18 { classes = 10 }
  local shape = { 3, 32, 32 }
  local function plan(o)
    o.criterion = o.criterion or function(block) return block.index end
    return prune.depth(net, shape, o)
  end
  T.equal(goes(plan { ratio = 0.5 }), "layer1.0 layer1.1")
  local half = plan { params = 0.5 }
  assert(half.params <= 0.5 * half.before.params and #half.numbers == 5)
  local macs = plan { macs = 30e6 }
  T.equal(goes(macs), "layer1.0 layer1.1")
  assert(macs.macs <= 30e6)
  T.equal(goes(plan { blocks = 2, ignore = { "^layer1" } }), "layer2.1 layer3.1")
  T.raises(function() plan { blocks = 2, ignore = "^layer1" } end, "ignore is a list of name patterns, got string")
  T.raises(function() plan { blocks = 2, ignore = { "^lyaer1" } } end, "ignore: '^lyaer1' fits no module of the model; did you mean 'layer1'")
  T.raises(function() plan { blocks = 6 } end, "test_depth.lua:%d+: prune.depth: 6 blocks")
  T.raises(function() plan { macs = 0.1 } end, "out of reach: with all 5 blocks gone [%d,]+ are left")
  T.raises(function() plan { blocks = 6 } end, "6 blocks cannot go: there are 5 that can")
  T.raises(function() plan { blocks = 1.5 } end, "integer")
  T.raises(function() plan { ratio = 2 } end, "ratio must be in 0..1")
  T.raises(function() plan {} end, "say how much")
  T.raises(function() plan { blocks = 1, macs = 0.5 } end, "not both blocks and macs")
  T.raises(function() plan { block = 1 } end, "did you mean 'blocks'")
  T.raises(function() prune.depth(prune.models.lenet {}, { 1, 28, 28 }, { blocks = 1 }) end, "no residual branch")
end)

T.test("criteria: a branch that gives nothing scores 0 by similarity and loss; bad criteria are refused and change nothing", function()
  prune.seed(6)
  local net = prune.models.resnet20 { classes = 10 }:eval()
  prune.no_grad(function()
    net.layer2[2].bn2.weight:fill(0)
    net.layer2[2].bn2.bias:fill(0)
  end)
  local data = { { prune.randn { 6, 3, 16, 16 }, prune.randint(1, 10, { 6 }) } }
  for _, criterion in ipairs { "similarity", "loss", "taylor" } do
    local plan = prune.depth(net, { 3, 16, 16 }, { blocks = 1, criterion = criterion, data = data })
    if criterion ~= "taylor" then T.close(plan.blocks[4].score, 0, 1e-6) end
    for i, block in ipairs(plan.blocks) do assert(i == 4 or block.score ~= 0, criterion) end
  end
  T.equal(prune.depth(net, { 3, 16, 16 }, { blocks = 1, data = data }).blocks[4].goes, true) -- the default with data
  local function refuses(o, pattern) T.raises(function() prune.depth(net, { 3, 16, 16 }, o) end, pattern) end
  refuses({ blocks = 1, criterion = "loss" }, 'criterion "loss" needs option data')
  refuses({ blocks = 1, criterion = "similar" }, "did you mean similarity")
  refuses({ blocks = 1, criterion = prune.criterion.magnitude() }, "criterion is similarity")
  refuses({ blocks = 1, criterion = function() return 0 / 0 end }, "must return a number for each block")
  refuses({ blocks = 1, criterion = function() error "no idea" end }, "no idea")
  refuses({ blocks = 1, by = "layer" }, 'by is "branch" or "module", got layer')
end)

T.test("undo puts modules, Parameters and optimiser back, in code and graph form, unless the model was pruned since", function()
  for _, form in ipairs { "code", "graph" } do
    prune.seed(7)
    local net = form == "code" and prune.models.resnet20 { classes = 10 }:eval() or transformer()
    local x = form == "code" and prune.randn { 2, 3, 16, 16 } or prune.randn({ 3, 5, 6 }):to "f64"
    local optimizer, y, tree = prune.optim.SGD(net, { lr = 0.1 }), net(x), tostring(net)
    local plan = prune.depth(net, x, { blocks = 1 }):apply { optimizer = optimizer }
    T.equal(plan.form, form)
    assert(not net(x):equal(y) and tostring(net) ~= tree)
    plan:undo()
    T.equal({ net(x):equal(y), tostring(net), #optimizer:parameters(), #prune.history(net) }, { true, tree, #net:parameters(), 0 })
    plan:apply()
    prune.structured(net, x, { ratio = 0.25 }):apply()
    local now = tostring(net)
    T.raises(function() plan:undo() end, "pruned again since")
    T.equal(tostring(net), now)
  end
end)

T.test("the history tells of blocks, is saved, and does the same to a fresh model, all or nothing", function()
  prune.seed(8)
  local shape = { 3, 16, 16 }
  local function fresh()
    prune.seed(9)
    return prune.models.resnet20 { classes = 10 }:eval()
  end
  local net = fresh()
  prune.structured(net, shape, { ratio = 0.25 }):apply()
  prune.depth(net, shape, { blocks = 2, criterion = first("layer1.1", "layer3.2") }):apply()
  prune.structured(net, shape, { ratio = 0.25 }):apply()
  assert(tostring(prune.history(net)):find("step 2: function, 2 of 7 blocks\n  branch 2, at layer1.1\n  branch 7, at layer3.2", 1, true),
    tostring(prune.history(net)))
  prune.save(T.scratch "h.h5", net)
  local steps = prune.history(prune.load(T.scratch "h.h5"))
  local x, again = prune.randn { 2, 3, 16, 16 }, fresh()
  T.close(prune.replay(again, shape, steps)(x), net(x), 1e-5)
  T.equal(#prune.history(again), 3)
  local other = fresh()
  local y = other(x)
  steps[2].paths[1] = "layer9"
  T.raises(function() prune.replay(other, shape, steps) end, "step 2 does not fit this model: .*no residual branch 2 at 'layer9'")
  T.equal({ other(x):equal(y), #prune.history(other) }, { true, 0 })
  steps[2].paths[1] = "layer1.1"
  steps[3].groups[1].parameter = "nothing"
  T.raises(function() prune.replay(other, shape, steps) end, "step 3 does not fit")
  T.equal({ other(x):equal(y), #prune.history(other), other.layer1[2]._type }, { true, 0, "BasicBlock" })
end)

T.test("a plan is applied once, and not to a model that changed in between", function()
  local net = prune.models.resnet20 { classes = 10 }
  local plan = prune.depth(net, { 3, 16, 16 }, { blocks = 1 })
  local other = prune.depth(net, { 3, 16, 16 }, { blocks = 2 })
  plan:apply()
  T.raises(function() plan:apply() end, "applied already")
  prune.structured(net, { 3, 16, 16 }, { ratio = 0.25 }):apply()
  T.raises(function() other:apply() end, "has another shape than when the plan was made")
end)

T.done()
