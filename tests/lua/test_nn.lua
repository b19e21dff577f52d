-- Layers and modules: shapes, names, state, modes, copies, errors.
local T = require "testing"
local prune = require "prune"
local nn, F = prune.nn, prune.nn.functional

local function shape(t) return table.concat(t:size(), "x") end

T.test("every layer maps shapes as its help says", function()
  local image, sequence, flat = prune.randn { 2, 8, 6, 6 }, prune.randn { 2, 5, 8 }, prune.randn { 4, 8 }
  local cases = {
    { nn.Conv2d(8, 4, 3), image, "2x4x4x4" }, { nn.Conv2d(8, 4, 3, { stride = 2, padding = 1 }), image, "2x4x3x3" },
    { nn.Conv2d(8, 16, { 1, 3 }, { padding = { 0, 1 }, groups = 4 }), image, "2x16x6x6" }, { nn.Conv1d(5, 3, 3), sequence, "2x3x6" },
    { nn.ConvTranspose2d(8, 3, 2, { stride = 2 }), image, "2x3x12x12" }, { nn.Linear(8, 3), flat, "4x3" },
    { nn.Linear(8, 3, { bias = false }), sequence, "2x5x3" }, { nn.BatchNorm2d(8), image, "2x8x6x6" }, { nn.BatchNorm1d(8), flat, "4x8" },
    { nn.LayerNorm(8), sequence, "2x5x8" }, { nn.LayerNorm { 5, 8 }, sequence, "2x5x8" }, { nn.RMSNorm(8), sequence, "2x5x8" },
    { nn.GroupNorm(4, 8), image, "2x8x6x6" }, { nn.InstanceNorm2d(8, { affine = true }), image, "2x8x6x6" },
    { nn.ReLU(), flat, "4x8" }, { nn.GELU { approximate = "tanh" }, flat, "4x8" }, { nn.ELU { alpha = 0.5 }, flat, "4x8" },
    { nn.LeakyReLU(), flat, "4x8" }, { nn.Softmax(), flat, "4x8" }, { nn.PReLU(8), image, "2x8x6x6" }, { nn.Hardswish(), flat, "4x8" },
    { nn.Dropout(0.3), flat, "4x8" }, { nn.Identity(), flat, "4x8" }, { nn.Flatten(), image, "2x288" },
    { nn.MaxPool2d(2), image, "2x8x3x3" }, { nn.MaxPool2d(3, { stride = 2, padding = 1 }), image, "2x8x3x3" },
    { nn.AvgPool2d(2), image, "2x8x3x3" }, { nn.AdaptiveAvgPool2d(1), image, "2x8x1x1" },
    { nn.AdaptiveMaxPool2d { 2, 3 }, image, "2x8x2x3" },
    { nn.LSTM(8, 6), sequence, "2x5x6" }, { nn.LSTM(8, 6, { layers = 2, bidirectional = true }), sequence, "2x5x12" },
    { nn.GRU(8, 6, { bias = false }), sequence, "2x5x6" }, { nn.MultiheadAttention(8, 2), sequence, "2x5x8" },
    { nn.Embedding(10, 4), prune.tensor({ { 1, 10, 3 } }, { dtype = "i64" }), "1x3x4" },
  }
  for i, case in ipairs(cases) do
    local layer, x, want = table.unpack(case)
    T.equal(("%d %s %s"):format(i, layer._type, shape(layer(x))), ("%d %s %s"):format(i, layer._type, want))
  end
end)

T.test("layers begin as PyTorch's do", function()
  prune.seed(1)
  local conv = nn.Conv2d(16, 32, 3)
  local bound = 1 / math.sqrt(16 * 9)
  local w = conv.weight
  assert(w:amax():item() <= bound and w:amin():item() >= -bound, "outside the bound")
  assert(w:amax():item() > 0.95 * bound and math.abs(w:mean():item()) < 0.01 * bound * 5, "not uniform over the bound")
  T.close(w:std():item(), bound / math.sqrt(3), 0.03 * bound)
  assert(conv.bias:abs():amax():item() <= bound)
  local bn = nn.BatchNorm2d(4)
  T.equal(bn.weight:totable(), { 1, 1, 1, 1 })
  T.equal(bn.bias:totable(), { 0, 0, 0, 0 })
  T.equal(bn.running_var:totable(), { 1, 1, 1, 1 })
  T.close(nn.Embedding(500, 40).weight:std():item(), 1, 0.03)
  local resnet = prune.models.resnet18 { classes = 10 }
  T.close(resnet.layer4[1].conv2.weight:std():item(), math.sqrt(2 / (512 * 9)), 1e-3)
end)

T.test("models have torchvision's names and sizes", function()
  local net = prune.models.resnet18 { classes = 10 }
  local names = {}
  for name, p in net:named_parameters() do names[name] = shape(p) end
  T.equal(names["conv1.weight"], "64x3x7x7")
  T.equal(names["layer1.0.conv1.weight"], "64x64x3x3")
  T.equal(names["layer2.0.downsample.0.weight"], "128x64x1x1")
  T.equal(names["layer2.0.downsample.1.bias"], "128")
  T.equal(names["fc.weight"], "10x512")
  local buffers = {}
  for name in net:named_buffers() do buffers[name] = true end
  assert(buffers["layer4.1.bn2.running_var"])
  local count = 0
  for _ in net:each "Conv2d" do count = count + 1 end
  T.equal(count, 20)
  T.equal(prune.profile(net, { 3, 32, 32 }).params, 11181642)
end)

local Pair = nn.module("Pair", function(self, width)
  self.first = nn.Linear(width, width)
  self.second = nn.Linear(width, width)
  self.scale = nn.Parameter(prune.ones { width })
  self:register_buffer("offset", prune.zeros { width })
end)
function Pair:forward(x) return self.second(F.relu(self.first(x))) * self.scale + self.offset end

T.test("parameters, buffers and children register in order of assignment", function()
  local net = Pair(3)
  local names = {}
  for name in net:named_parameters() do names[#names + 1] = name end
  T.equal(names, { "scale", "first.weight", "first.bias", "second.weight", "second.bias" })
  T.equal(#net:weights(), 2)
  T.equal(net:parameter "second.bias" == net.second.bias, true)
  T.raises(function() net:parameter "second.bais" end, "did you mean 'second.bias'")
  T.raises(function() net:module "secnd" end, "did you mean 'second'")
  T.raises(function() nn.module "Empty"()(1) end, "no forward function")
  T.raises(function() nn.module("A", 3) end, "constructor of A must be a function, got number")
  T.raises(function() nn.module("A", function() end, function() end) end, "base of A must be a class, such as nn.Linear, got function")
  T.raises(function() nn.module("A", nil, nn.Linear(1, 1)) end, "base of A must be a class.*got a module")
  T.equal(nn.module("A", nil, nn.Linear)(2, 3).weight:size(), { 3, 2 })
end)

T.test("a shared parameter counts once and stays shared in a copy", function()
  local net = Pair(3)
  net.second.weight = net.first.weight
  local count = 0
  for _ in net:named_parameters() do count = count + 1 end
  T.equal(count, 4)
  local copy = net:clone()
  T.equal(copy.first.weight == copy.second.weight, true)
  T.equal(copy.first.weight == net.first.weight, false)
  copy.first.weight:fill(0)
  assert(net.first.weight:abs():sum():item() > 0, "the copy shares memory with the original")
end)

T.test("load_state_dict is strict, says everything that is wrong, and changes nothing then", function()
  local net, other = Pair(3), Pair(3)
  net:load_state_dict(other:state_dict())
  T.equal(net.first.weight:totable(), other.first.weight:totable())
  local state = Pair(3):state_dict()
  state["first.bias"] = nil
  state["second.weight"] = prune.zeros { 3, 4 }
  state.extra = prune.zeros { 1 }
  local before = net.scale:totable()
  state.scale = prune.zeros { 3 }
  local ok, message = pcall(net.load_state_dict, net, state)
  T.equal(ok, false)
  for _, part in ipairs { "missing: first.bias", "another shape: second.weight is %[3, 3%] in the model, %[3, 4%] in the state",
    "unexpected: extra" } do
    assert(message:find(part), message)
  end
  T.equal(net.scale:totable(), before)
  local _, wrong = net:load_state_dict(state, { strict = false })
  T.equal(#wrong, 3)
  T.equal(net.scale:totable(), { 0, 0, 0 })
end)

T.test("train and eval reach every module; dropout and batch norm follow", function()
  local net = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5), nn.Sequential(nn.BatchNorm1d(4)))
  prune.seed(1)
  net:eval()
  T.equal(net[3][1].training, false)
  local x = prune.randn { 8, 4 }
  T.equal(net(x):equal(net(x)), true)
  net:train()
  local mean = net[3][1].running_mean:totable()
  net(x)
  assert(net[3][1].running_mean:totable()[1] ~= mean[1], "running statistics do not move in training")
end)

T.test("operators of modules in lists carry the full names of their modules", function()
  local Lists = nn.module("Lists", function(self)
    local inner = nn.ModuleList(nn.Linear(2, 2))
    self.blocks = nn.ModuleList()
    self.blocks:append(nn.Linear(2, 2))
    self.nested = nn.ModuleList(inner)
    inner:append(nn.Sequential(nn.Linear(2, 2)))
  end)
  function Lists:forward(x) return self.nested[1][2](self.nested[1][1](self.blocks[1](x))) end
  local net, paths = Lists(), {}
  for _, node in ipairs(prune.graph(net, { 2 }):nodes()) do
    paths[#paths + 1] = node.path
    T.equal(net:module(node.path)._type, "Linear")
  end
  T.equal(paths, { "blocks.0", "nested.0.0", "nested.0.1.0" })
end)

T.test("stochastic depth drops whole samples while training, and passes all otherwise", function()
  prune.seed(3)
  local layer, x = nn.StochasticDepth(0.25), prune.ones { 400, 2, 3 }
  local y = layer(x):reshape { 400, 6 }
  T.equal(y:amax(2):equal(y:amin(2)), true)
  T.close(y:amax():item(), 1 / 0.75, 1e-6)
  T.close(y:mean():item(), 1, 0.1)
  assert(y:amin():item() == 0, "nothing is dropped")
  T.equal(layer:eval()(x):equal(x), true)
  T.raises(function() nn.StochasticDepth(2) end, "nn.StochasticDepth: the probability must be in 0..1, got 2")
end)

T.test("the tree shows classes, names and sizes", function()
  local text = tostring(nn.Sequential(nn.Conv2d(3, 8, 3, { padding = 1 }), nn.Sequential(nn.ReLU(), nn.Linear(8, 2))))
  for _, part in ipairs { "^Sequential%(", "%(0%): Conv2d%(3, 8, 3, padding 1%)", "%(1%): Sequential%(", "    %(1%): Linear%(8, 2%)" } do
    assert(text:find(part), text)
  end
end)

T.test("an error inside names the layer's path, the operator and both shapes", function()
  local net = prune.models.resnet18 { classes = 10 }
  net.layer1[1].conv1.weight = nn.Parameter(prune.zeros { 64, 48, 3, 3 })
  T.raises(function() net(prune.randn { 1, 3, 32, 32 }) end, "layer1.0.conv1: conv2d: .*%[1, 64, 8, 8%].*%[64, 48, 3, 3%]")
  -- the path is left again after the error
  T.raises(function() F.linear(prune.zeros { 2, 3 }, prune.zeros { 4, 5 }) end, "^[^ ]*test_nn.lua:%d+: linear:")
end)

-- The operator reads groups off the shapes unless they are said, so a layer must say them.
T.test("an image with the wrong number of channels is refused, also where it could pass for groups", function()
  local x = prune.randn { 2, 3, 8, 8 }
  T.raises(function() nn.Conv2d(1, 18, 3)(x) end, "x has 3 channels, but weight takes 1 ")
  T.raises(function() nn.Conv2d(4, 6, 3, { groups = 2 })(prune.randn { 2, 6, 8, 8 }) end, "x has 6 channels, but weight takes 2 per group")
  T.equal(tostring(nn.Conv2d(8, 4, 3, { groups = 2 })), "Conv2d(8, 4, 3, groups 2)")
  T.equal(tostring(nn.ConvTranspose2d(8, 4, 3, { groups = 2 })), "ConvTranspose2d(8, 4, 3, groups 2)")
end)

T.test("wrong options of layers are refused where they are given", function()
  T.raises(function() nn.Conv2d(3, 8, 3, { paddin = 1 }) end, "did you mean 'padding'")
  T.raises(function() nn.Conv2d(3, 8, 3, { groups = 2 }) end, "not multiples of 2 groups")
  T.raises(function() nn.Conv2d(0, 8, 3) end, "at least 1")
  T.raises(function() nn.MaxPool2d() end, "kernel size is missing")
  T.raises(function() nn.Dropout(1.5) end, "0..1")
  T.raises(function() nn.MultiheadAttention(10, 3) end, "not a multiple")
  T.raises(function() nn.Sequential(3) end, "must be a module")
  T.raises(function() nn.LSTM("a", 3) end, "nn.LSTM: the input size must be an integer of at least 1, got a")
  T.raises(function() nn.GRU(4, 3)(prune.zeros { 1, 2, 4 }, prune.zeros { 1, 3 }) end, "nn.GRU begins with a state of zeros; nn.functional.gru takes another")
  T.raises(function() nn.GRU(3) end, "the hidden size must be an integer")
  T.raises(function() nn.GroupNorm(2, {}) end, "channels must be an integer")
  T.raises(function() nn.MultiheadAttention(8, 0) end, "heads must be an integer of at least 1")
  T.raises(function() nn.init.constant(3, 1) end, "must be a tensor, got number")
  T.raises(function() nn.init.kaiming_normal "x" end, "must be a tensor, got string")
  T.raises(function() F.accuracy(1, 2) end, "must be tensors")
  T.raises(function() return prune.models.resnet19 end, "did you mean 'resnet1?18'")
end)

T.test("modules convert in place and keep their handles", function()
  local net = Pair(3)
  local handle = net.first.weight
  net:to "f64"
  T.equal(net.first.weight == handle, true)
  T.equal(handle.dtype, "f64")
  T.equal(net(prune.ones({ 2, 3 }, { dtype = "f64" })).dtype, "f64")
end)

T.done()
