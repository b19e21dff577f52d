-- Models of sequences and the other networks of prune.models that are not torchvision's: what they compute, which units they have, and that
-- pruned ones go through files, summaries and training like any other, token ids and features alike.
local T = require "testing"
local prune = require "prune"
local nn = prune.nn

local function tokens(n, vocabulary) return { shape = { n }, dtype = "i64", max = vocabulary } end
local small = { vocabulary = 30, width = 32, layers = 2, heads = 4, kv_heads = 2, context = 8 }
local function decoder(more)
  local o = {}
  for key, value in pairs(small) do o[key] = value end
  for key, value in pairs(more or {}) do o[key] = value end
  local net = prune.models.gpt(o)
  for _, p in net:named_parameters() do nn.init.normal(p, p:dim() == 1 and 1 or 0, p:dim() == 1 and 0.2 or 0.3) end
  return net
end

local function ids(...) return prune.tensor({ ... }, { dtype = "i64" }):reshape { 1, -1 } end

T.test("the decoder sees what came before, and where", function()
  for _, positions in ipairs { "rotary", "learned" } do
    local net = decoder { positions = positions }:eval()
    local a, b = net(ids(3, 1, 4, 1, 5)), net(ids(3, 1, 4, 1, 9))
    T.close(a[{ 1, { 1, 4 } }]:totable(), b[{ 1, { 1, 4 } }]:totable(), 1e-6, "a later token has an influence")
    assert((a[{ 1, 5 }] - b[{ 1, 5 }]):abs():amax():item() > 1e-3)
    local c = net(ids(1, 3, 4, 1, 5)) -- the same tokens in another order
    assert((a[{ 1, 5 }] - c[{ 1, 5 }]):abs():amax():item() > 1e-3, positions .. " positions make no difference")
  end
end)

T.test("rotary positions: products of queries and keys depend on distances alone", function()
  local net = decoder { layers = 1, context = 64 }:eval()
  -- The same token everywhere: whatever the position, values are equal, so the scores of all positions are.
  local y = net(ids(7, 7, 7, 7, 7, 7))
  T.close(y[{ 1, 1 }]:totable(), y[{ 1, 6 }]:totable(), 1e-5)
end)

T.test("grouped queries: with one key head per query head's copy the decoder is the one with all of them", function()
  local grouped, full = decoder { layers = 1 }:eval(), decoder { layers = 1, kv_heads = 4 }:eval()
  local state = grouped:state_dict()
  for _, name in ipairs { "k_proj", "v_proj" } do
    local key = "layers.0.attention." .. name .. ".weight"
    state[key] = state[key]:reshape { 2, 1, 8, 32 }:expand { 2, 2, 8, 32 }:reshape { 32, 32 }
  end
  full:load_state_dict(state)
  local x = ids(2, 3, 5, 7)
  T.close(grouped(x):flatten():totable(), full(x):flatten():totable(), 1e-5)
end)

-- Sizes of the groups whose first producer's name has the text.
local function sizes(net, input, text)
  local list = {}
  for _, group in ipairs(prune.graph(net, input):groups { all = true }) do
    for part in group:parts() do
      if part.producer then
        if part.name:find(text, 1, true) then list[#list + 1] = group.size end
        break
      end
    end
  end
  table.sort(list)
  return list
end

T.test("units of the decoder: key heads, copies of queries, pairs of rotary dimensions, value dimensions, hidden units, the stream", function()
  local input = tokens(6, 30)
  -- 2 key heads, 2 copies, 8 / 2 pairs; values: 8 dimensions
  T.equal(sizes(decoder(), input, "layers.0.attention"), { 2, 2, 4, 8 })
  T.equal(sizes(decoder { positions = "learned" }, input, "layers.0.attention"), { 2, 2, 8, 8 })
  T.equal(sizes(decoder { kv_heads = 4 }, input, "layers.0.attention"), { 4, 4, 8 })
  T.equal(sizes(decoder(), input, "layers.1.mlp"), { 88 })
  T.equal(sizes(decoder { mlp = "plain" }, input, "layers.1.mlp"), { 128 })
  -- The stream of all layers is one group, for the tied and for the other output weight.
  T.equal(sizes(decoder(), input, "embedding"), { 32 })
  T.equal(sizes(decoder { tied = false }, input, "embedding"), { 32 })
  for _, group in ipairs(prune.graph(decoder { positions = "learned" }, input):groups()) do
    for part in group:parts() do assert(part.name ~= "positions" or part.dim == 2, "positions can be removed") end
  end
end)

T.test("units of attention layers: heads, and dimensions that queries, keys and values share", function()
  local Net = nn.module("Net", function(self)
    self.attention, self.head = nn.MultiheadAttention(12, 3), nn.Linear(12, 2)
  end)
  function Net:forward(x) return self.head(self.attention(x)) end
  T.equal(sizes(Net(), { 5, 12 }, "in_proj"), { 3, 4 })
  -- Keys and values from elsewhere: the same weights, the same units.
  local Cross = nn.module("Cross", function(self) self.attention, self.head = nn.MultiheadAttention(12, 3), nn.Linear(12, 2) end)
  function Cross:forward(x, y) return self.head(self.attention(x, y)) end
  local cross, input = Cross(), { { 5, 12 }, { 7, 12 } }
  local groups, found = {}, {}
  for _, group in ipairs(prune.graph(cross, input):groups { all = true }) do
    groups[#groups + 1] = group:pick { 1 }
    for part in group:parts() do
      if part.name == "attention.in_proj_weight" then found[#found + 1] = group.size end
    end
  end
  T.equal(found, { 3, 4 })
  prune.verify(cross, groups, { dtype = "f64", gradients = true })
  -- What packed weights compute does not depend on how they are taken apart.
  local net, x = nn.MultiheadAttention(12, 3), prune.randn { 2, 5, 12 }
  T.close(net(x):flatten():totable(), net(x, x, x):flatten():totable(), 1e-5)
end)

local cases = {
  { "resnet20", {}, { 3, 16, 16 } },
  { "vgg16_cifar", {}, { 3, 32, 32 } },
  { "unet", { width = 8, depth = 2, norm = "group" }, { 3, 8, 8 } },
  { "unet", { width = 8, depth = 1 }, { 3, 8, 8 } },
  { "lstm", { inputs = 6, hidden = 12, layers = 2, bidirectional = true }, { 5, 6 } },
  { "lstm", { inputs = 6, hidden = 12, vocabulary = 20 }, tokens(5, 20) },
  { "gpt", small, tokens(6, 30) },
  { "gpt", { vocabulary = 30, width = 32, layers = 1, positions = "learned", mlp = "plain", norm = "layer", tied = false, context = 8 },
    tokens(6, 30) },
  { "convnext_tiny", { classes = 3 }, { 3, 32, 32 } },
  { "vit_b_16", { classes = 3, image_size = 32 }, { 3, 32, 32 } },
  { "swin_t", { classes = 3 }, { 3, 32, 32 } },
}

local function example(input)
  if input.dtype then return prune.randint(1, input.max, { 3, table.unpack(input.shape) }) end
  return prune.randn { 3, table.unpack(input) }
end

for i, case in ipairs(cases) do
  local name, options, input = table.unpack(case)
  T.test(("%s, case %d: pruned, saved, opened without its script, it runs, trains and is pruned again"):format(name, i), function()
    prune.seed(i)
    local net = prune.models[name](options)
    local before = prune.profile(net, input)
    local plan = prune.structured(net, input, { criterion = prune.criterion.random(), ratio = 0.4 })
    prune.verify(net, plan)
    plan:apply()
    local after = prune.profile(net, input)
    assert(after.params < 0.9 * before.params and after.macs < 0.9 * before.macs)
    assert(prune.summary(net, input):find(("%d"):format(after.params):reverse():gsub("(%d%d%d)", "%1,"):reverse():gsub("^,", ""), 1, true))
    local path, x = T.scratch("pruned" .. i .. ".h5"), example(input)
    prune.save(path, net)
    local opened = prune.load(path)
    local wanted = prune.no_grad(function() return net:eval()(x) end)
    T.close(prune.no_grad(function() return opened:eval()(x) end):flatten():totable(), wanted:flatten():totable(), 1e-6)
    T.equal(prune.profile(opened, input).params, after.params)
    opened:train()
    opened(x):square():mean():backward()
    for parameter_name, p in opened:named_parameters() do assert(p.grad, parameter_name .. " has no gradient") end
    prune.structured(opened, input, { ratio = 0.2 }):apply()
    assert(prune.profile(opened, input).params < after.params)
    T.equal(prune.no_grad(opened, x):size(), wanted:size())
    os.remove(path)
  end)
end

T.test("options are checked, inputs too", function()
  T.raises(function() prune.models.gpt { hads = 4 } end, "did you mean 'heads'")
  T.raises(function() prune.models.gpt { positions = "rotery" } end, "positions is one of 'rotary', 'learned', got rotery; did you mean 'rotary'")
  T.raises(function() prune.models.gpt { width = 30, heads = 4 } end, "width 30 is not a multiple of 4 heads")
  T.raises(function() prune.models.gpt { heads = 4, kv_heads = 3 } end, "4 heads are not a multiple of kv_heads = 3")
  T.raises(function() prune.models.gpt { width = 12, heads = 4 } end, "the width of a head must be even, got 3")
  T.raises(function() decoder()(ids(1, 2, 3, 4, 5, 6, 7, 8, 9)) end, "9 tokens are more than the context of 8")
  T.raises(function() prune.models.lstm { layers = 0 } end, "layers must be an integer of at least 1, got 0")
  T.raises(function() prune.models.lstm { bidirectional = 1 } end, "bidirectional is one of 'true', 'false', got 1")
  T.raises(function() prune.models.unet { norm = "layer" } end, "norm is one of 'batch', 'group', got layer")
  T.raises(function() prune.models.unet { depth = 2 }(prune.randn { 1, 3, 6, 6 }) end, "must be multiples of 4, got 6 x 6")
  T.raises(function() prune.models.resnet20 { width = 0 } end, "width must be an integer of at least 1, got 0")
  T.raises(function() prune.models.vgg19_cifar { classes = 1.5 } end, "classes must be an integer of at least 1, got 1.5")
end)

T.done()
