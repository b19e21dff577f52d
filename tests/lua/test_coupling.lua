-- Small networks, one for each rule of coupling that is easy to get wrong: how many units they have (too few would pass every test of
-- exactness), and that pruned equals ablated, in double precision with gradients, for random removals down to little.
local T = require "testing"
local prune = require "prune"
local nn, F = prune.nn, prune.nn.functional

local function counts(graph)
  local list = {}
  for _, group in ipairs(graph:groups { all = true }) do list[#list + 1] = #group end
  table.sort(list)
  return list
end

-- make(self), forward(self, ...): the network; `units`: sizes of all its groups, ascending.
local function network(name, inputs, units, make, forward)
  T.test(name, function()
    local class = nn.module("Model", make)
    function class:forward(...) return forward(self, ...) end
    local net = class():to "f64"
    local specs = {}
    for i, input in ipairs(type(inputs[1]) == "table" and inputs or { inputs }) do
      specs[i] = input.dtype and input or { shape = input, dtype = "f64" }
    end
    local graph = prune.graph(net, specs)
    T.equal(counts(graph), units)
    local groups = graph:groups { all = true }
    for seed = 1, 4 do
      prune.seed(seed)
      for _, group in ipairs(groups) do
        local picked = {}
        for i = 1, #group do
          if prune.rand({ 1 }):item() < 0.2 * seed and #picked < #group - 1 then picked[#picked + 1] = i end
        end
        local ok, message = true, nil
        if #picked > 0 then ok, message = pcall(prune.verify, net, group:pick(picked), { dtype = "f64", gradients = true }) end
        assert(ok or message:find "nothing would be left", message)
      end
    end
  end)
end

local function heads(x, n) return F.permute(F.unflatten(x, { dim = 3, sizes = { n, -1 } }), { dims = { 1, 3, 2, 4 } }) end
local function joined(x) return F.flatten(F.permute(x, { dims = { 1, 3, 2, 4 } }), { start_dim = 3 }) end
local function attend(q, k, v)
  return F.matmul(F.softmax(F.matmul(q * 0.5, F.transpose(k)), { dim = -1 }), v)
end

-- --- attention ------------------------------------------------------------------------------------------------------

network("packed queries, keys and values, taken apart by select: heads and dims", { 5, 6 }, { 4, 4 }, function(self)
  self.qkv, self.o = nn.Linear(6, 48), nn.Linear(16, 3)
end, function(self, x)
  local y = F.unflatten(self.qkv(x), { dim = 3, sizes = { 3, 4, -1 } })
  local q, k, v = F.unbind(F.permute(y, { dims = { 3, 1, 4, 2, 5 } }), { dim = 1 })
  return self.o(joined(attend(q, k, v)))
end)

network("chunked queries, keys and values: heads, dims of keys, dims of values", { 5, 6 }, { 4, 4, 4 }, function(self)
  self.qkv, self.o = nn.Linear(6, 48), nn.Linear(16, 3)
end, function(self, x)
  local q, k, v = F.chunk(self.qkv(x), { chunks = 3, dim = 3 })
  return self.o(joined(attend(heads(q, 4), heads(k, 4), heads(v, 4))))
end)

for _, way in ipairs { "the operator", "repeat_interleave", "expand" } do
  network("grouped queries by " .. way .. ": key heads, copies, two dims", { 5, 6 }, { 2, 3, 4, 4 }, function(self)
    self.q, self.k, self.v, self.o = nn.Linear(6, 24), nn.Linear(6, 8), nn.Linear(6, 8), nn.Linear(24, 3)
  end, function(self, x)
    local q, k, v = heads(self.q(x), 6), heads(self.k(x), 2), heads(self.v(x), 2)
    local function widened(y)
      if way == "repeat_interleave" then return F.repeat_interleave(y, { repeats = 3, dim = 2 }) end
      if way == "the operator" then return y end
      return F.flatten(F.expand(F.unsqueeze(y, { dim = 3 }), { sizes = { -1, -1, 3, -1, -1 } }), { start_dim = 2, end_dim = 3 })
    end
    return self.o(joined(F.scaled_dot_product_attention(q, widened(k), widened(v), nil, { scale = 0.5 })))
  end)
end

for _, interleaved in ipairs { false, true } do
  network("rotary, " .. (interleaved and "pairs" or "halves") .. ": pairs of queries and keys, values alone", { 5, 6 }, { 4, 8 }, function(self)
    self.q, self.k, self.v, self.o = nn.Linear(6, 8), nn.Linear(6, 8), nn.Linear(6, 8), nn.Linear(8, 3)
    local angle = prune.randn { 5, 4 }
    self:register_buffer("cosine", angle:cos())
    self:register_buffer("sine", angle:sin())
  end, function(self, x)
    local function turned(y)
      local a, b
      if interleaved then
        a, b = F.slice(y, { dim = 3, start = 1, stop = -2, step = 2 }), F.slice(y, { dim = 3, start = 2, step = 2 })
      else
        a, b = F.chunk(y, { chunks = 2, dim = 3 })
      end
      local c, d = a * self.cosine - b * self.sine, b * self.cosine + a * self.sine
      if interleaved then return F.flatten(F.stack({ c, d }, { dim = 4 }), { start_dim = 3 }) end
      return F.cat({ c, d }, { dim = 3 })
    end
    return self.o(attend(turned(self.q(x)), turned(self.k(x)), self.v(x)))
  end)
end

network("linear attention with elu + 1: the dims of queries and keys are not 0 where removed", { 5, 6 }, { 8 }, function(self)
  self.q, self.k, self.v, self.o = nn.Linear(6, 4), nn.Linear(6, 4), nn.Linear(6, 8), nn.Linear(8, 3)
end, function(self, x)
  local q, k = F.elu(self.q(x)) + 1, F.elu(self.k(x)) + 1
  return self.o(F.matmul(q, F.matmul(F.transpose(k), self.v(x))))
end)

network("linear attention with relu: they are", { 5, 6 }, { 4, 8 }, function(self)
  self.q, self.k, self.v, self.o = nn.Linear(6, 4), nn.Linear(6, 4), nn.Linear(6, 8), nn.Linear(8, 3)
end, function(self, x) return self.o(F.matmul(F.relu(self.q(x)), F.matmul(F.transpose(F.relu(self.k(x))), self.v(x)))) end)

network("cross-covariance attention: a softmax over channels pins them", { 5, 6 }, {}, function(self)
  self.q, self.o = nn.Linear(6, 8), nn.Linear(8, 3)
end, function(self, x)
  local y = self.q(x)
  return self.o(F.matmul(y, F.softmax(F.matmul(F.transpose(y), y), { dim = 3 })))
end)

-- --- values that are not 0 -----------------------------------------------------------------------------------------------

network("sigmoid, then a sum over channels", { 6 }, {}, function(self) self.a = nn.Linear(6, 8) end,
  function(self, x) return F.sum(F.sigmoid(self.a(x)), { dim = 2 }) end)

network("tanh, then a sum over channels", { 6 }, { 8 }, function(self) self.a = nn.Linear(6, 8) end,
  function(self, x) return F.sum(F.tanh(self.a(x)), { dim = 2 }) end)

network("a number takes part: cos - 1 is 0 where cos is 1", { 6 }, { 8 }, function(self) self.a = nn.Linear(6, 8) end,
  function(self, x) return F.sum(F.cos(self.a(x)) - 1, { dim = 2 }) end)

network("and so does a tensor of one number, on either side", { 6 }, { 8 }, function(self) self.a, self._one = nn.Linear(6, 8), prune.ones({ 1 }):to "f64" end,
  function(self, x) return F.sum(self._one - F.cos(self.a(x)), { dim = 2 }) end)

network("and one that the code makes", { 6 }, { 8 }, function(self) self.a = nn.Linear(6, 8) end, function(self, x)
  local y = self.a(x)
  return F.sum(F.where(F.gt(y, 0), y, prune.zeros({ 1 }, { dtype = "f64" })), { dim = 2 })
end)

network("a scale that is learned is no such number", { 6 }, {}, function(self) self.a, self.scale = nn.Linear(6, 8), nn.Parameter(prune.zeros { 1 }) end,
  function(self, x) return F.sum(self.a(x) - self.scale, { dim = 2 }) end)

for name, f in prune.sorted {
  ["the logarithm of |y| + 0"] = function(y) return F.log(F.abs(y) + 0) end,
  ["the logarithm of sigmoid y - 0.5, squared"] = function(y) return F.log(F.square(F.sigmoid(y) - 0.5)) end,
  ["1 / (cos y - 1)"] = function(y) return F.reciprocal(F.cos(y) - 1) end,
  ["(2 - 2 cos y) to the power of -0.5"] = function(y) return F.rsqrt(2 - F.cos(y) * 2) end,
} do
  network(name .. " would not be finite where removed", { 6 }, {}, function(self) self.a, self.b = nn.Linear(6, 8), nn.Linear(8, 2) end,
    function(self, x) return self.b(f(self.a(x))) end)
end

network("learned tokens: a bias wakes removed ones; their features are free", { 5, 6 }, { 6 }, function(self)
  self.tokens, self.a = nn.Parameter(prune.randn { 1, 4, 6 }), nn.Linear(6, 6)
end, function(self, x) return F.sum(self.a(F.expand(self.tokens, { sizes = { x:size(1), -1, -1 } })), { dim = 2 }) + F.sum(x, { dim = 2 }) end)

network("learned tokens without a bias", { 5, 6 }, { 4, 6 }, function(self)
  self.tokens, self.a = nn.Parameter(prune.randn { 1, 4, 6 }), nn.Linear(6, 6, { bias = false })
end, function(self, x) return F.sum(self.a(F.expand(self.tokens, { sizes = { x:size(1), -1, -1 } })), { dim = 2 }) + F.sum(x, { dim = 2 }) end)

network("padding tokens with 1, then a product over channels", { 5, 6 }, {}, function(self) self.a = nn.Linear(6, 8) end,
  function(self, x)
    local y = F.pad(self.a(x), { pad = { 0, 0, 1, 1 }, value = 1 })
    return F.matmul(y, F.transpose(y))
  end)

network("padding tokens with 0, then a product over channels", { 5, 6 }, { 8 }, function(self) self.a = nn.Linear(6, 8) end,
  function(self, x)
    local y = F.pad(self.a(x), { pad = { 0, 0, 1, 1 }, value = 0 })
    return F.matmul(y, F.transpose(y))
  end)

network("cat of y and sigmoid y along tokens, then a sum over channels", { 5, 6 }, {}, function(self) self.a = nn.Linear(6, 8) end,
  function(self, x)
    local y = self.a(x)
    return F.sum(F.cat({ y, F.sigmoid(y) }, { dim = 2 }), { dim = 3 })
  end)

network("maximum over channels", { 6 }, {}, function(self) self.a = nn.Linear(6, 8) end, function(self, x) return F.amax(self.a(x), { dim = 2 }) end)

-- --- norms -----------------------------------------------------------------------------------------------------------

network("layer norm over two axes, and one without parameters", { 3, 6, 6 }, { 4, 8 }, function(self)
  self.a, self.norm, self.b, self.c = nn.Linear(6, 4), nn.LayerNorm { 6, 4 }, nn.Linear(4, 8), nn.Linear(8, 2)
end, function(self, x) return self.c(F.layer_norm(self.b(self.norm(self.a(x))))) end)

network("group norms over uneven groups tie nothing", { 3, 4, 4 }, { 4, 8 }, function(self)
  self.a, self.n, self.b, self.m, self.c = nn.Conv2d(3, 8, 1), nn.GroupNorm(4, 8), nn.Conv2d(8, 4, 1), nn.GroupNorm(4, 12), nn.Conv2d(12, 2, 1)
end, function(self, x)
  local y = self.n(self.a(x))
  return self.c(self.m(F.cat({ y, self.b(y) }, { dim = 2 })))
end)

network("a hand-written RMS norm: the mean is over what is left", { 6 }, { 8 }, function(self)
  self.a, self.scale, self.b = nn.Linear(6, 8), nn.Parameter(prune.rand { 8 }), nn.Linear(8, 2)
end, function(self, x)
  local y = self.a(x)
  return self.b(y * F.rsqrt(F.mean(F.square(y), { dim = 2, keepdim = true }) + 1e-3) * self.scale)
end)

-- --- moves -----------------------------------------------------------------------------------------------------------

network("one axis seen as 2 x 12, 6 x 4 and 24 is cut into 2 x 3 x 4", { 6 }, { 2, 3, 4 }, function(self)
  self.a, self.o = nn.Linear(6, 24), nn.Linear(24, 3)
  self.p, self.q = nn.Linear(12, 3, { bias = false }), nn.Linear(4, 3, { bias = false })
end, function(self, x)
  local y = self.a(x)
  return self.p(F.unflatten(y, { dim = 2, sizes = { 2, 12 } })):sum(2) + self.q(F.unflatten(y, { dim = 2, sizes = { 6, 4 } })):sum(2) + self.o(y)
end)

network("cat(x, x): each unit twice", { 3, 4, 4 }, { 6 }, function(self) self.a, self.b = nn.Conv2d(3, 6, 1), nn.Conv2d(12, 2, 1) end,
  function(self, x)
    local y = self.a(x)
    return self.b(F.cat({ y, y }, { dim = 2 }))
  end)

network("tile, to a convolution", { 3, 4, 4 }, { 4 }, function(self) self.a, self.b = nn.Conv2d(3, 4, 1), nn.Conv2d(12, 2, 1) end,
  function(self, x) return self.b(F.tile(self.a(x), { repeats = { 1, 3, 1, 1 } })) end)

network("roll and flip", { 8 }, { 8 }, function(self) self.a, self.b = nn.Linear(8, 8), nn.Linear(8, 2) end,
  function(self, x) return self.b(F.flip(F.roll(self.a(x), { shifts = 3, dims = 2 }), { dims = 2 })) end)

network("overlapping strided slices", { 8 }, { 12 }, function(self) self.a, self.b, self.c = nn.Linear(8, 12), nn.Linear(6, 2), nn.Linear(4, 2) end,
  function(self, x)
    local y = self.a(x)
    return self.b(F.slice(y, { dim = 2, start = 1, stop = 11, step = 2 })) + self.c(F.slice(y, { dim = 2, start = 3, stop = 12, step = 3 }))
  end)

network("uneven parts of an axis", { 8 }, { 12 }, function(self) self.a, self.b, self.c = nn.Linear(8, 12), nn.Linear(5, 2), nn.Linear(7, 2) end,
  function(self, x)
    local p, q = F.split(self.a(x), { sizes = { 5, 7 }, dim = 2 })
    return self.b(p) + self.c(q)
  end)

network("squeeze of an axis that a removal may leave with one position", { 3, 4, 4 }, { 4 }, function(self)
  self.a, self.b = nn.Conv2d(3, 4, 4), nn.Linear(4, 2)
end, function(self, x) return self.b(F.squeeze(self.a(x), { dims = { 3, 4 } })) end)

network("squeeze and excite by views", { 3, 4, 4 }, { 3, 6 }, function(self)
  self.a, self.p, self.q, self.b = nn.Conv2d(3, 6, 1), nn.Linear(6, 3), nn.Linear(3, 6), nn.Conv2d(6, 2, 1)
end, function(self, x)
  local y = self.a(x)
  local s = F.sigmoid(self.q(F.relu(self.p(F.mean(y, { dim = { 3, 4 } })))))
  return self.b(y * F.reshape(s, { shape = { x:size(1), -1, 1, 1 } }))
end)

network("a shortcut with padded channels: eight in both, eight in the convolution only", { 3, 8, 8 }, { 8, 8 }, function(self)
  self.stem, self.a, self.o = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 16, 3, { stride = 2, padding = 1 }), nn.Conv2d(16, 2, 1)
end, function(self, x)
  local y = self.stem(x)
  local cut = F.slice(F.slice(y, { dim = 3, step = 2 }), { dim = 4, step = 2 })
  return self.o(self.a(y) + F.pad(cut, { pad = { 0, 0, 0, 0, 4, 4 }, value = 0 }))
end)

network("convolution, flatten, linear, view, convolution: blocks of places", { 2, 3, 3 }, { 4, 5 }, function(self)
  self.a, self.b, self.c = nn.Conv2d(2, 5, 1), nn.Linear(45, 64), nn.Conv2d(4, 2, 1)
end, function(self, x)
  return self.c(F.unflatten(self.b(F.flatten(self.a(x), { start_dim = 2 })), { dim = 2, sizes = { 4, 4, 4 } }))
end)

network("pixel shuffle, then back", { 3, 4, 4 }, { 3 }, function(self) self.a, self.b = nn.Conv2d(3, 12, 1), nn.Conv2d(12, 2, 1) end,
  function(self, x) return self.b(F.pixel_unshuffle(F.pixel_shuffle(self.a(x), { upscale_factor = 2 }), { downscale_factor = 2 })) end)

network("generated kernels: rows of the maker are products of both channels", { 3, 4, 4 }, { 2, 4, 6 }, function(self)
  self.a, self.make, self.seed, self.b = nn.Conv2d(3, 6, 1), nn.Linear(2, 24, { bias = false }), nn.Parameter(prune.randn { 1, 2 }), nn.Conv2d(4, 2, 1)
end, function(self, x)
  return self.b(F.conv2d(self.a(x), F.reshape(self.make(self.seed), { shape = { 4, 6, 1, 1 } })))
end)

network("a weight in two factors: their inner axis makes units too", { 6 }, { 3, 8 }, function(self)
  self.a, self.p, self.q, self.b = nn.Parameter(prune.randn { 8, 6 }), nn.Parameter(prune.randn { 8, 3 }), nn.Parameter(prune.randn { 3, 6 }), nn.Linear(8, 2)
end, function(self, x) return self.b(F.relu(F.linear(x, self.a + F.matmul(self.p, self.q)))) end)

-- --- constants -------------------------------------------------------------------------------------------------------------

network("positions from a constant list, some of them twice", { 6 }, { 6 }, function(self)
  self.a, self.b, self._list = nn.Linear(6, 6), nn.Linear(5, 2), prune.tensor({ 4, 2, 2, 1, 4 }):to "i64"
end, function(self, x) return self.b(F.index_select(self.a(x), self._list, { dim = 2 })) + F.mean(self.a(x), { dim = 2, keepdim = true }) end)

T.test("a constant list in the model's own code keeps naming what it named, or the removal is refused; the graph is rewritten", function()
  local class = nn.module("Model", function(self)
    self.a, self.b, self._list = nn.Linear(6, 6), nn.Linear(2, 2), prune.tensor({ 5, 6 }):to "i64"
  end)
  function class:forward(x)
    local y = self.a(x)
    return self.b(F.index_select(y, self._list, { dim = 2 })) + F.mean(y, { dim = 2, keepdim = true })
  end
  local net = class()
  local graph, x = prune.graph(net, { 6 }), prune.randn { 3, 6 }
  T.raises(function() graph:group("a.weight", 1, 1):remove() end, "names? are others")
  T.equal(net.a.weight:size(1), 6)
  local module = graph:module()
  local inner = prune.graph(module, { 6 })
  local want = net:clone()
  prune.no_grad(function() want.a.weight[1] = 0 want.a.bias[1] = 0 end)
  inner:group("a.weight", 1, 1):remove()
  local y = want.a(x)
  local expected = want.b(F.narrow(y, { dim = 2, start = 5, length = 2 })) + F.sum(y, { dim = 2, keepdim = true }) / 5
  T.close(module(x):totable(), expected:totable(), 1e-5)
end)

T.test("a constant in the size of the batch is refused when the model is traced; an expanded one follows the batch", function()
  local literal = nn.module("Literal", function(self) self.a = nn.Linear(4, 4) end)
  function literal:forward(x) return self.a(x) + prune.arange(x:size(1)):reshape(-1, 1) end
  T.raises(function() prune.graph(literal(), { 4 }) end, "has the size of the batch")
  local expanded = nn.module("Expanded", function(self) self.a, self._list = nn.Linear(4, 4), prune.tensor({ { 4, 1 } }):to "i64" end)
  function expanded:forward(x) return F.gather(self.a(x), F.expand(self._list, { sizes = { x:size(1), 2 } }), { dim = 2 }) end
  local net = expanded()
  local graph = prune.graph(net, { 4 })
  for _, batch in ipairs { 1, 2, 5 } do
    local x = prune.randn { batch, 4 }
    T.close(graph:run({ x }, false):totable(), net(x):totable(), 1e-6)
  end
end)

T.test("a number worked out of the batch's size is refused when the model is traced: the graph would keep it", function()
  local class = nn.module("Mean", function(self) self.a = nn.Linear(4, 4) end)
  function class:forward(x) return self.a(x) - F.sum(x, { dim = 1, keepdim = true }) / x:size(1) end
  T.raises(function() prune.graph(class(), { 4 }) end,
    "div at '' %(Mean%): a number that the model's code works out is 2 with a batch of 2 and 3 with a batch of 3")
end)

T.test("a forward function may draw random numbers: tracing takes none of them, and a removal is not taken for a change", function()
  local class = nn.module("Noise", function(self) self.a, self.b = nn.Linear(4, 6), nn.Linear(6, 2) end)
  function class:forward(x) return self.b(self.a(x)) + prune.randn { 2 } end
  local net = class()
  prune.seed(5)
  local want = prune.rand({ 1 }):item()
  prune.seed(5)
  local graph = prune.graph(net, { 4 })
  graph:group("a.weight", 1, { 2 }):remove()
  T.equal(net.a.weight:size(1), 5)
  T.equal(prune.rand({ 1 }):item(), want)
end)

T.test("a layer that is left out at random is refused in training mode, and traced in evaluation mode", function()
  local class = nn.module("Skipped", function(self) self.a, self.b, self.c = nn.Linear(4, 6), nn.Linear(6, 6), nn.Linear(6, 2) end)
  function class:forward(x)
    local y = self.a(x)
    if not self.training or prune.rand({ 1 }):item() < 0.5 then y = y + self.b(y) end
    return self.c(y)
  end
  local net = class()
  T.raises(function() prune.graph(net, { 4 }) end, "test_coupling.lua:%d+: prune.graph: which operators the model runs depends on random numbers")
  T.equal(#prune.graph(net:eval(), { 4 }):groups()[1], 6)
end)

T.done()
