-- The networks of prune.models are torchvision's: counts, names, shapes, and what they compute.
local T = require "testing"
local prune = require "prune"
local formula = require "formula"
local nn = prune.nn

local golden = dofile(os.getenv "PRUNELUA_SOURCE" .. "/tests/golden/models.lua")

local known = {}
for _, name in ipairs(prune.models.names()) do known[name] = true end

-- CRC-32 of the sorted lines "name AxBxC".
local function names_of(tensors)
  local lines = {}
  for name, t in tensors do lines[#lines + 1] = name .. " " .. table.concat(t:size(), "x") .. "\n" end
  table.sort(lines)
  return formula.crc32(table.concat(lines))
end

-- MACs of the attention in vit_b_16, which the golden file leaves out: 12 layers, two products of 197 x 197 x 768.
local attention = { vit_b_16 = 12 * 2 * 197 ^ 2 * 768 // 1 | 0 }

T.test("parameters, MACs, and names and shapes of parameters and buffers equal torchvision's", function()
  local checked = 0
  for _, model in ipairs(golden) do
    if known[model.arch] then
      checked = checked + 1
      local net = nn.init.skip(prune.models[model.arch])
      local profile = prune.profile(net, { 3, model.size, model.size })
      T.equal({ params = profile.params, macs = profile.macs, parameters = names_of(net:named_parameters()),
        buffers = names_of(net:named_buffers()) },
        { params = model.params, macs = model.macs + (attention[model.arch] or 0), parameters = model.parameters,
          buffers = model.buffers }, model.arch)
    end
  end
  assert(checked >= 24, "networks are missing from prune.models")
end)

T.test("logits at known weights equal torchvision's", function()
  for _, model in ipairs(golden) do
    if model.small then
      local net = formula.fill(nn.init.skip(prune.models[model.arch], { classes = 10 })):eval():to "f64"
      local logits = prune.no_grad(net, formula.images({ 2, 3, model.small, model.small }):to "f64")
      local largest = logits:abs():amax():item()
      T.close((logits / largest):totable(), (prune.tensor(model.logits, { dtype = "f64" }) / largest):totable(), 1e-9, model.arch)
    end
  end
end)

T.test("models begin with torchvision's distributions", function()
  prune.seed(1)
  local function std(weight, expected) T.close(weight:std():item() / expected, 1, 0.05) end
  local squeezenet = prune.models.squeezenet1_1()
  std(squeezenet.features[4].expand3x3.weight, math.sqrt(2 / (16 * 9)))
  std(squeezenet.classifier[2].weight, 0.01)
  T.equal(squeezenet.classifier[2].bias:abs():amax():item(), 0)
  local mnasnet = prune.models.mnasnet1_0()
  std(mnasnet.classifier[2].weight, math.sqrt(1 / 1000))
  T.close(mnasnet.classifier[2].weight:amax():item(), math.sqrt(3 / 1000), 1e-3)
  local efficientnet = prune.models.efficientnet_b0()
  std(efficientnet.features[2][1].block[1][1].weight, math.sqrt(2 / (32 * 9)))
  T.close(efficientnet.classifier[2].weight:amax():item(), 1 / math.sqrt(1000), 1e-3)
  local densenet = prune.models.densenet121()
  std(densenet.features.conv0.weight, math.sqrt(2 / (3 * 49)))
  assert(densenet.classifier.weight:amax():item() <= 1 / 32)
  std(prune.models.googlenet().inception3a.branch1.conv.weight, 0.01)
  std(prune.models.regnet_x_400mf().fc.weight, 0.01)
  std(prune.models.shufflenet_v2_x1_0().conv5[1].weight, 1 / math.sqrt(3 * 464))
end)

T.test("batch norms have torchvision's momentum", function()
  local function momentum(name) return nn.init.skip(prune.models[name]):each "BatchNorm2d"()._momentum end
  T.close({ momentum "mnasnet1_0", momentum "mobilenet_v3_small", momentum "mobilenet_v2", momentum "googlenet" },
    { 1 - 0.9997, 0.01, 0.1, 0.1 }, 1e-12)
end)

T.test("the same seed gives the same model", function()
  local function make()
    prune.seed(7)
    return prune.models.shufflenet_v2_x1_0 { classes = 3 }.fc.weight
  end
  T.equal(make():equal(make()), true)
end)

T.test("dropout and stochastic depth are options, and act in training only", function()
  prune.seed(1)
  local net = prune.models.efficientnet_b0 { classes = 4, dropout = 0, stochastic_depth = 0.9 }
  T.equal(net.features[8][1].stochastic_depth:describe(), tostring(0.9 * 15 / 16))
  local x = prune.randn { 2, 3, 32, 32 }
  net:eval()
  T.equal(net(x):equal(net(x)), true)
  net:train()
  T.equal(net(x):equal(net(x)), false)
end)

T.test("images of other channels, and wrong options, are checked at the call", function()
  T.equal(prune.no_grad(prune.models.mobilenet_v3_small { classes = 3, channels = 1 }, prune.randn { 2, 1, 32, 32 }):size(), { 2, 3 })
  T.raises(function() prune.models.alexnet { class = 3 } end, "prune.models.alexnet: there is no option 'class'; did you mean 'classes'?")
  T.raises(function() prune.models.googlenet { classes = 0 } end,
    "test_models.lua:%d+: prune.models.googlenet: classes must be an integer of at least 1, got 0")
  T.raises(function() prune.models.vgg11 { dropout = 1.5 } end, "prune.models.vgg11: dropout is a probability in 0..1, got 1.5")
  T.raises(function() prune.models.resnet18 { channels = 2.5 } end, "channels must be an integer")
end)

-- As views and a transpose the shuffle would tie positions of both groups: 3542 units.
T.test("the channel shuffle ties nothing", function()
  local units, groups = 0, prune.graph(nn.init.skip(prune.models.shufflenet_v2_x1_0), { 3, 224, 224 }):groups { all = true }
  for _, group in ipairs(groups) do units = units + group.size end
  T.equal({ units, #groups }, { 5630, 37 })
end)

T.test("a pruned ShuffleNet runs its own code: the channels of both halves and of the shuffle are its state", function()
  local net = nn.init.skip(prune.models.shufflenet_v2_x1_0, { classes = 3 })
  formula.fill(net):eval()
  local shape = { 3, 32, 32 }
  local function prunings()
    return prune.structured(net, shape, { criterion = prune.criterion.random(), ratio = 0.3 })
  end
  prune.seed(2)
  local plan = prunings()
  assert(prune.verify(net, plan, { dtype = "f64" }) < 1e-12)
  plan:apply()
  local uneven = 0
  for _, block in ipairs { net.stage2, net.stage3, net.stage4 } do
    for i = 2, #block do
      local sizes = block[i]._split.sizes
      uneven = uneven + (sizes[1] ~= sizes[2] and 1 or 0)
    end
  end
  assert(uneven > 0, "the case does not occur")
  local x = prune.randn { 2, 3, 32, 32 }
  T.close(prune.no_grad(net, x):totable(), prune.no_grad(prune.graph(net, shape):module():eval(), x):totable(), 1e-6)
  prunings():apply() -- and once more
  T.equal(prune.no_grad(net, x):size(), { 2, 3 })
end)

T.done()
