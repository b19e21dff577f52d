-- steps.lua - the kinds of steps that random networks are made of: a function each, from a generator and a value to a step, or nil where
-- the value does not suit. Arithmetic and layers; steps_shape.lua has what moves positions, steps_block.lua what is put together.
--
-- g: the generator. g.random(n), g.chance(share), g.pick(list); g.own(thing) keeps a parameter, buffer, constant or module for the
-- step, whose function gets them in that order; g.parameter(shape) and g.buffer(tensor) make one (or take what another step has);
-- g.other(test) is another value. A value: { number =, shape = (with the batch, 2), tensor = (example), whole = (whole numbers) }.
local core = require "prune.core"
local F = require "watched"

local steps = {}

local function add(name, weight, build) steps[#steps + 1] = { name = name, weight = weight, build = build } end
steps.add = add

local widths = { 2, 3, 4, 4, 6, 6, 8, 12 }
steps.widths = widths

local function divisors(n)
  local list = {}
  for d = 2, n do
    if n % d == 0 then list[#list + 1] = d end
  end
  return list
end
steps.divisors = divisors

local function same(a, b) return table.concat(a, ",") == table.concat(b, ",") end

-- --- entry by entry -------------------------------------------------------------------------------------------------

local unary = {
  relu = F.relu, gelu = F.gelu, sigmoid = F.sigmoid, tanh = F.tanh, silu = F.silu, elu = F.elu, cos = F.cos, sin = F.sin,
  hardswish = F.hardswish, hardsigmoid = F.hardsigmoid, mish = F.mish, leaky_relu = F.leaky_relu, softplus = F.softplus, abs = F.abs,
  neg = F.neg, square = F.square, selu = F.selu, relu6 = F.relu6, erf = F.erf, hardtanh = F.hardtanh, contiguous = F.contiguous,
  clamp = function(x) return F.clamp(x, { min = -0.5, max = 1.5 }) end,
  exp = function(x) return F.exp(F.tanh(x)) end,
  log1p = function(x) return F.log1p(F.abs(x)) end,
  log = function(x) return F.log(F.square(x) + 0.1) end,
  log_bare = function(x) return F.log(F.abs(x)) end,
  sqrt = function(x) return F.sqrt(F.square(x) + 1) end,
  rsqrt = function(x) return F.rsqrt(F.square(x) + 0.5) end,
  reciprocal = function(x) return F.reciprocal(F.square(x) + 1) end,
  pow = function(x) return F.pow(x, { exponent = 3 }) end,
  round = function(x) return x + F.round(x) end,
  floor = function(x) return x * F.floor(x + 0.25) end,
  ceil = function(x) return x - F.ceil(x + 0.25) end,
  sign = function(x) return x * F.sign(x) end,
  gelu_tanh = function(x) return F.gelu(x, { approximate = "tanh" }) end,
  dropout = function(x) return F.dropout(x, { p = 0.5, training = false }) end,
  isfinite = function(x) return F.where(F.isfinite(x), x, F.neg(x)) end,
  isnan = function(x) return F.where(F.logical_not(F.isnan(x)), x, F.neg(x)) end,
  cast = function(x) return F.cast(F.cast(F.gt(x, x * 0.5 + 0.1), { dtype = "f64" }), { dtype = "f64" }) * x end,
  bernoulli = function(x) return x * F.bernoulli(F.cast(F.gt(x, 0), { dtype = "f64" })) end,
  scaled = function(x) return x * 0.7 end,
  shifted = function(x) return x + 0.3 end,
  reversed = function(x) return 1 - x end,
  quotient = function(x) return 2 / (F.square(x) + 1) end,
  elu_plus_1 = function(x) return F.elu(x) + 1 end,
  cos_minus_1 = function(x) return F.cos(x) - 1 end,
  exp_minus_1 = function(x) return (F.exp(F.tanh(x)) - 1) / 0.5 end,
  log_of_sum = function(x) return F.log(F.abs(x) + 0) end,
  at_least = function(x) return F.maximum(x, core.full({ 1 }, 0.25, { dtype = "f64" })) end,
}
local unary_names = {}
for name in pairs(unary) do unary_names[#unary_names + 1] = name end
table.sort(unary_names)

add("unary", 5, function(g, x)
  local name = g.pick(unary_names)
  return { text = name, from = { x }, f = function(_, a) return unary[name](a) end }
end)

local binary = {
  add = F.add, sub = F.sub, mul = F.mul, maximum = F.maximum, minimum = F.minimum,
  div = function(x, y) return x / (F.square(y) + 1) end,
  atan2 = function(x, y) return F.atan2(x, F.square(y) + 2) end,
  pow2 = function(x, y) return F.pow2(F.square(x) + 1, F.tanh(y)) end,
  where = function(x, y) return F.where(F.gt(x, y), x, y) end,
  lerp = function(x, y) return F.lerp(x, y, F.sigmoid(x)) end,
  fmod = function(x, y) return F.fmod(x, F.abs(y) + 1) end,
  remainder = function(x, y) return F.remainder(x, F.abs(y) + 1) end,
  masked_fill = function(x, y) return F.masked_fill(x, F.ge(y, 0.1), { value = 0.5 }) end,
  masked_fill_zero = function(x, y) return F.masked_fill(x, F.le(y, 0), { value = 0 }) end,
  logical = function(x, y) return F.where(F.logical_and(F.lt(x, 0.5), F.logical_or(F.ne(y, 1), F.eq(x, 2))), x, y) end,
  logical_xor = function(x, y) return F.where(F.logical_xor(F.lt(x, 0), F.lt(y, 0)), x, F.mul(x, y)) end,
}
local binary_names = {}
for name in pairs(binary) do binary_names[#binary_names + 1] = name end
table.sort(binary_names)

-- Another value that broadcasts against x.
local function broadcasts(shape)
  return function(other)
    if other.whole then return false end
    for i = 0, math.min(#shape, #other.shape) - 1 do
      local a, b = shape[#shape - i], other.shape[#other.shape - i]
      if a ~= b and a ~= 1 and b ~= 1 then return false end
    end
    return #shape == #other.shape
  end
end

add("binary", 7, function(g, x)
  local other, name = g.other(broadcasts(x.shape)), g.pick(binary_names)
  return other and { text = name, from = { x, other }, f = function(_, a, b) return binary[name](a, b) end }
end)

add("residual", 4, function(g, x)
  local other = g.other(function(v) return same(v.shape, x.shape) end)
  return other and { text = "add", from = { x, other }, f = function(_, a, b) return a + b end }
end)

add("gate by one channel", 2, function(g, x)
  local axis = g.axis(x)
  return { text = ("x * sigmoid(x narrowed to 1 of axis %d)"):format(axis), from = { x },
    f = function(_, a) return a * F.sigmoid(F.narrow(a, { dim = axis, start = 1, length = 1 })) end }
end)

-- A bare parameter over the last axes, some of them of size 1.
add("bare parameter", 3, function(g, x)
  local shape = {}
  for d = g.random(2, #x.shape), #x.shape do shape[#shape + 1] = g.chance(0.25) and 1 or x.shape[d] end
  g.parameter(shape)
  local name = g.pick { "add", "mul", "where" }
  return { text = name .. " a parameter", from = { x }, f = function(own, a) return binary[name](a, own[1]) end }
end)

-- Learned queries or tokens: a parameter as a value of its own.
add("expanded parameter", 1, function(g, x)
  if #x.shape > 4 then return nil end
  local shape = table.move(x.shape, 2, #x.shape, 2, { 1 })
  g.parameter(shape)
  return { text = "a parameter for each of the batch", from = { x },
    f = function(own, a) return F.expand(own[1], { sizes = { a:size(1), table.unpack(own[1]:size(), 2) } }) end }
end)

-- --- layers ------------------------------------------------------------------------------------------------------------

add("linear", 8, function(g, x)
  local n, out = x.shape[#x.shape], g.pick(widths)
  g.parameter { out, n }
  if g.chance(0.6) then g.parameter { out } end
  return { text = "linear", from = { x }, f = function(own, a) return F.linear(a, own[1], own[2]) end }
end)

-- Options of a convolution that suit the space behind the channels, or nil.
local function window(g, x, transposed)
  local kernel = g.pick { 1, 3, 3, 2 }
  local o = { stride = g.pick { 1, 1, 2 }, padding = kernel == 3 and g.random(0, 1) or 0, dilation = 1 }
  for d = 3, #x.shape do
    if not transposed and x.shape[d] + 2 * o.padding < kernel then return nil end
    if transposed and (x.shape[d] - 1) * o.stride + kernel - 2 * o.padding < 1 then return nil end
  end
  if transposed then o.output_padding = o.stride == 2 and g.random(0, 1) or 0 end
  return o, kernel
end

local function convolution(g, x, transposed)
  if #x.shape ~= 3 and #x.shape ~= 4 then return nil end
  local o, kernel = window(g, x, transposed)
  if not o then return nil end
  local channels, rank = x.shape[2], #x.shape - 2
  o.groups = 1
  if channels > 1 and g.chance(0.5) then o.groups = g.chance(0.4) and channels or g.pick(divisors(channels)) end
  local out = o.groups * g.pick { 1, 1, 2, 3 }
  if o.groups == 1 then out = g.pick(widths) end
  local shape = transposed and { channels, out // o.groups } or { out, channels // o.groups }
  for _ = 1, rank do shape[#shape + 1] = kernel end
  return o, shape, out, ("%d"):format(rank)
end

local function options_text(o)
  local list = {}
  for _, key in ipairs { "stride", "padding", "output_padding", "groups" } do
    if o[key] then list[#list + 1] = ("%s %d"):format(key, o[key]) end
  end
  return table.concat(list, ", ")
end
steps.convolution = convolution

for _, transposed in ipairs { false, true } do
  local name = transposed and "conv_transpose" or "conv"
  add(name, transposed and 4 or 9, function(g, x)
    local o, shape, out, rank = convolution(g, x, transposed)
    if not o then return nil end
    local f = F[name .. rank .. "d"]
    g.parameter(shape)
    if g.chance(0.5) then g.parameter { out } end
    return { text = ("%s%sd {%s}"):format(name, rank, options_text(o)), from = { x },
      f = function(own, a) return f(a, own[1], own[2], o) end }
  end)
end

local function statistics(g, n)
  g.buffer(core.randn({ n }):to "f64")
  g.buffer((core.rand { n } + 0.5):to "f64")
end

add("batch norm", 5, function(g, x)
  if #x.shape > 4 then return nil end
  local n, affine = x.shape[2], g.chance(0.8)
  statistics(g, n)
  if affine then g.parameter { n } g.parameter { n } end
  return { text = "batch_norm", from = { x },
    f = function(own, a) return F.batch_norm(a, own[3], own[4], own[1], own[2], { training = false }) end }
end)

add("instance norm", 2, function(g, x)
  if #x.shape < 3 or #x.shape > 4 then return nil end
  local n, running, affine = x.shape[2], g.chance(0.6), g.chance(0.6)
  local places = 1
  for d = 3, #x.shape do places = places * x.shape[d] end
  if not running and places < 2 then return nil end
  if running then statistics(g, n) end
  if affine then g.parameter { n } g.parameter { n } end
  return { text = "instance_norm" .. (running and " with running statistics" or ""), from = { x }, f = function(own, a)
    local at = running and 3 or 1
    return F.instance_norm(a, own[at], own[at + 1], running and own[1] or nil, running and own[2] or nil, { training = not running })
  end }
end)

add("layer norm", 4, function(g, x)
  local dims = g.random(1, math.min(2, #x.shape - 1))
  local shape = table.move(x.shape, #x.shape - dims + 1, #x.shape, 1, {})
  local kind = g.random(0, 2)
  for _ = 1, kind do g.parameter(shape) end
  return { text = "layer_norm", from = { x }, f = function(own, a) return F.layer_norm(a, own[1], own[2], { dims = dims }) end }
end)

add("rms norm", 2, function(g, x)
  if g.chance(0.7) then g.parameter { x.shape[#x.shape] } end
  return { text = "rms_norm", from = { x }, f = function(own, a) return F.rms_norm(a, own[1], { eps = 1e-3 }) end }
end)

add("group norm", 3, function(g, x)
  if #x.shape < 3 then return nil end
  local n = x.shape[2]
  local groups = n > 1 and g.chance(0.8) and g.pick(divisors(n)) or 1
  if g.chance(0.7) then g.parameter { n } g.parameter { n } end
  return { text = ("group_norm {groups %d}"):format(groups), from = { x },
    f = function(own, a) return F.group_norm(a, own[1], own[2], { groups = groups, eps = 1e-3 }) end }
end)

add("prelu", 2, function(g, x)
  g.parameter { g.chance(0.7) and x.shape[2] or 1 }
  return { text = "prelu", from = { x }, f = function(own, a) return F.prelu(a, own[1]) end }
end)

add("embedding", 6, function(g)
  local tokens = g.tokens()
  if not tokens then return nil end
  g.parameter { tokens.max, g.pick(widths) }
  return { text = "embedding", from = { tokens }, f = function(own, a) return F.embedding(a, own[1]) end }
end)

add("one hot", 1, function(g)
  local tokens = g.tokens()
  if not tokens then return nil end
  g.parameter { g.pick(widths), tokens.max }
  return { text = "one_hot, linear", from = { tokens },
    f = function(own, a) return F.linear(F.cast(F.one_hot(a, { num_classes = own[1]:size(2) }), { dtype = "f64" }), own[1]) end }
end)

for _, kind in ipairs { "lstm", "gru" } do
  add(kind, 2, function(g, x)
    if #x.shape ~= 3 then return nil end
    local gates, hidden, n = kind == "lstm" and 4 or 3, g.pick { 2, 3, 4 }, x.shape[3]
    local bias, reverse, start = g.chance(0.7), g.chance(0.3), g.chance(0.3)
    g.parameter { gates * hidden, n }
    g.parameter { gates * hidden, hidden }
    if bias then g.parameter { gates * hidden } g.parameter { gates * hidden } end
    if start then g.parameter { hidden } end
    return { text = kind .. (start and " from a learned state" or ""), from = { x }, f = function(own, a)
      local h = start and F.expand(own[#own], { sizes = { a:size(1), own[#own]:size(1) } }) or nil
      local b_ih, b_hh = bias and own[3] or nil, bias and own[4] or nil
      if kind == "gru" then return F.gru(a, own[1], own[2], b_ih, b_hh, h, { reverse = reverse }) end
      return F.lstm(a, own[1], own[2], b_ih, b_hh, h, h and F.cos(h), { reverse = reverse })
    end }
  end)
end

-- --- reductions --------------------------------------------------------------------------------------------------------

local reductions = {
  sum = F.sum, mean = F.mean, amax = F.amax, amin = F.amin, prod = F.prod, logsumexp = F.logsumexp,
  var = function(x, o) return F.var(x, { dim = o.dim, keepdim = o.keepdim, unbiased = false }) end,
  std = function(x, o) return F.std(x, { dim = o.dim, keepdim = o.keepdim, unbiased = false }) end,
  norm = function(x, o) return F.norm(x, o) end,
  norm1 = function(x, o) return F.norm(x, { dim = o.dim, keepdim = o.keepdim, ord = 1 }) end,
}
local reduction_names = { "sum", "mean", "mean", "amax", "amin", "prod", "logsumexp", "var", "std", "norm", "norm1" }

add("reduction", 4, function(g, x)
  local axis, name, keep, back = g.axis(x), g.pick(reduction_names), g.chance(0.5), g.chance(0.5)
  if x.shape[axis] < 2 then return nil end
  local o = { dim = axis, keepdim = keep or back }
  return { text = ("%s of axis %d%s"):format(name, axis, back and ", subtracted" or keep and ", kept" or ""), from = { x }, f = function(_, a)
    local y = reductions[name](a, o)
    return back and a - y or y
  end }
end)

add("along an axis", 2, function(g, x)
  local axis, name = g.axis(x), g.pick { "softmax", "log_softmax", "cumsum", "sort" }
  return { text = ("%s along axis %d"):format(name, axis), from = { x }, f = function(_, a) return (F[name](a, { dim = axis })) end }
end)

add("largest", 2, function(g, x)
  local axis, name = g.axis(x), g.pick { "argmax", "argmin", "topk", "any", "all" }
  local n = x.shape[axis]
  return { text = ("%s along axis %d"):format(name, axis), from = { x }, f = function(_, a)
    if name == "topk" then return (F.topk(a, { k = (n + 1) // 2, dim = axis })) end
    if name == "any" or name == "all" then
      return a * F.cast(F[name](F.gt(a, -0.5), { dim = axis, keepdim = true }), { dtype = "f64" })
    end
    return a - F.gather(a, F[name](a, { dim = axis, keepdim = true }), { dim = axis })
  end }
end)

add("one hot of the largest", 1, function(g, x)
  local axis = g.axis(x)
  local n = x.shape[axis]
  return #x.shape > 2 and { text = ("one_hot of argmax along axis %d"):format(axis), from = { x },
    f = function(_, a) return F.cast(F.one_hot(F.argmax(a, { dim = axis }), { num_classes = n }), { dtype = "f64" }) end }
end)

add("normalise", 1, function(g, x)
  local axis = g.axis(x)
  return { text = ("x / norm of axis %d"):format(axis), from = { x },
    f = function(_, a) return a / (F.norm(a, { dim = axis, keepdim = true }) + 0.1) end }
end)

add("cosine similarity", 1, function(g, x)
  local other, axis = g.other(function(v) return same(v.shape, x.shape) end), g.axis(x)
  return other and #x.shape > 2 and { text = ("cosine_similarity along axis %d"):format(axis), from = { x, other },
    f = function(_, a, b) return F.cosine_similarity(a + 0.01, b, { dim = axis }) end }
end)

-- --- losses -------------------------------------------------------------------------------------------------------------

-- What a loss gives for each entry; losses have no coupling rule, so they pin.
local entry_losses = {
  mse_loss = F.mse_loss, l1_loss = F.l1_loss, smooth_l1_loss = F.smooth_l1_loss,
  binary_cross_entropy_with_logits = function(x, y, o) return F.binary_cross_entropy_with_logits(x, F.sigmoid(y), o) end,
  kl_div = function(x, y, o) return F.kl_div(x, F.sigmoid(y), o) end,
}
local entry_loss_names = { "mse_loss", "l1_loss", "smooth_l1_loss", "binary_cross_entropy_with_logits", "kl_div" }

add("loss of each entry", 1, function(g, x)
  local other, name = g.other(function(v) return same(v.shape, x.shape) end), g.pick(entry_loss_names)
  return other and { text = name .. " of each entry", from = { x, other },
    f = function(_, a, b) return entry_losses[name](a, b, { reduction = "none" }) end }
end)

add("loss of each sample", 1, function(g, x)
  local other, name = g.other(function(v) return same(v.shape, x.shape) end), g.pick { "cross_entropy", "nll_loss" }
  return other and { text = name .. " of each sample, subtracted", from = { x, other }, f = function(_, a, b)
    return a - F.unsqueeze(F[name](a, F.argmax(b, { dim = 2 }), { reduction = "none" }), { dim = 2 })
  end }
end)

-- --- constants that the code makes ----------------------------------------------------------------------------------------

-- Numbers of the last axis; the random ones count for nothing, since each run of the code would draw others.
local made = {
  arange = function(n) return F.arange { start = 0, stop = n } * 0.25 end,
  linspace = function(n) return F.linspace { start = -1, stop = 1, steps = n } end,
  ones = function(n) return F.ones { shape = { n } } end,
  zeros = function(n) return F.zeros { shape = { n } } + 0.5 end,
  full = function(n) return F.full { shape = { n }, value = 0.7 } end,
  rand = function(n) return 0 * F.rand { shape = { n } } end,
  randn = function(n) return 0 * F.randn { shape = { n } } end,
  randint = function(n) return 0 * F.cast(F.randint { low = 0, high = 5, shape = { n } }, { dtype = "f32" }) end,
  randperm = function(n) return 0 * F.cast(F.randperm { n = n }, { dtype = "f32" }) end,
}
local made_names = { "arange", "linspace", "ones", "zeros", "full", "rand", "randn", "randint", "randperm" }

add("made constant", 2, function(g, x)
  local n, name, product, of_input = x.shape[#x.shape], g.pick(made_names), g.chance(0.5), g.chance(0.5)
  return { text = ("x %s %s of the last axis%s"):format(product and "*" or "+", name, of_input and ", as large as it is" or ""), from = { x },
    f = function(_, a)
      local y = F.cast(made[name](of_input and a:size(-1) or n), { dtype = "f64" })
      if product then return a * (y + 1) end
      return a + y
    end }
end)

add("identity matrix", 1, function(g, x)
  local n, of_input = x.shape[#x.shape], g.chance(0.5)
  return { text = "x times the identity matrix", from = { x },
    f = function(_, a) return F.matmul(a, F.cast(F.eye { rows = of_input and a:size(-1) or n }, { dtype = "f64" })) end }
end)

return steps
