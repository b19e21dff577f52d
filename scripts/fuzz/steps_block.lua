-- steps_block.lua - steps that put several operators together: gates, attention in its forms, weights that are computed, reuse.
local prune = require "prune"
local F = require "watched"
local nn = prune.nn

return function(steps)
  local add, divisors, widths = steps.add, steps.divisors, steps.widths

  -- --- gates ------------------------------------------------------------------------------------------------------------

  add("glu", 3, function(g, x)
    local axis = g.axis(x)
    if x.shape[axis] % 2 ~= 0 then return nil end
    return { text = ("glu along axis %d"):format(axis), from = { x }, f = function(_, a) return F.glu(a, { dim = axis }) end }
  end)

  add("chunk and gate", 3, function(g, x)
    local axis = g.axis(x)
    if x.shape[axis] % 2 ~= 0 then return nil end
    return { text = ("chunk of axis %d, silu of one half times the other"):format(axis), from = { x }, f = function(_, a)
      local left, right = F.chunk(a, { chunks = 2, dim = axis })
      return F.silu(left) * right
    end }
  end)

  add("gated mlp", 3, function(g, x)
    local n, hidden = x.shape[#x.shape], g.pick(widths)
    g.parameter { hidden, n }
    g.parameter { hidden, n }
    g.parameter { n, hidden }
    return { text = "gated MLP", from = { x },
      f = function(own, a) return F.linear(F.silu(F.linear(a, own[1])) * F.linear(a, own[2]), own[3]) end }
  end)

  add("squeeze and excite", 3, function(g, x)
    if #x.shape ~= 4 then return nil end
    local n, hidden, views = x.shape[2], g.pick { 2, 3, 4 }, g.chance(0.5)
    g.parameter(views and { hidden, n } or { hidden, n, 1, 1 })
    g.parameter { hidden }
    g.parameter(views and { n, hidden } or { n, hidden, 1, 1 })
    g.parameter { n }
    return { text = "squeeze and excite" .. (views and " by linear layers" or ""), from = { x }, f = function(own, a)
      local y = F.adaptive_avg_pool2d(a, { output_size = 1 })
      if not views then
        y = F.conv2d(F.relu(F.conv2d(y, own[1], own[2])), own[3], own[4])
      else
        y = F.linear(F.relu(F.linear(F.flatten(y, { start_dim = 2 }), own[1], own[2])), own[3], own[4])
        y = F.reshape(y, { shape = { a:size(1), -1, 1, 1 } })
      end
      return a * F.sigmoid(y)
    end }
  end)

  -- --- attention ----------------------------------------------------------------------------------------------------------

  local function to_heads(x, heads) return F.permute(F.unflatten(x, { dim = 3, sizes = { heads, -1 } }), { dims = { 1, 3, 2, 4 } }) end
  local function from_heads(x) return F.flatten(F.permute(x, { dims = { 1, 3, 2, 4 } }), { start_dim = 3 }) end

  -- Scores by products, with one projection for all three or one each; causal or not.
  add("attention by products", 3, function(g, x)
    if #x.shape ~= 3 then return nil end
    local n, heads, width, packed = x.shape[3], g.random(1, 3), g.random(1, 4), g.random(1, 3)
    local all = heads * width
    if packed < 3 then
      g.parameter { 3 * all, n }
    else
      for _ = 1, 3 do g.parameter { all, n } end
    end
    g.parameter { n, all }
    local way = packed == 1 and "chunk" or packed == 2 and "unbind" or "three projections"
    return { text = ("attention by products, %d heads of %d, %s"):format(heads, width, way), from = { x }, f = function(own, a)
      local q, k, v
      if packed == 1 then
        q, k, v = F.chunk(F.linear(a, own[1]), { chunks = 3, dim = 3 })
      elseif packed == 2 then
        local y = F.unflatten(F.linear(a, own[1]), { dim = 3, sizes = { 3, heads, -1 } })
        q, k, v = F.unbind(F.permute(y, { dims = { 3, 1, 4, 2, 5 } }), { dim = 1 })
      else
        q, k, v = F.linear(a, own[1]), F.linear(a, own[2]), F.linear(a, own[3])
      end
      if packed ~= 2 then q, k, v = to_heads(q, heads), to_heads(k, heads), to_heads(v, heads) end
      local scores = F.matmul(q * 0.5, F.transpose(k, { dim1 = 3, dim2 = 4 }))
      return F.linear(from_heads(F.matmul(F.softmax(scores, { dim = 4 }), v)), own[#own])
    end }
  end)

  add("merged heads", 1, function(g, x)
    if #x.shape ~= 3 then return nil end
    local n, heads, width = x.shape[3], 2, g.random(2, 3)
    for _ = 1, 2 do g.parameter { heads * width, n } end
    g.parameter { n, heads * width }
    return { text = "attention with batch and heads merged", from = { x }, f = function(own, a)
      local function merged(y)
        y = to_heads(y, heads)
        return F.reshape(y, { shape = { y:size(1) * y:size(2), y:size(3), y:size(4) } })
      end
      local q, v = merged(F.linear(a, own[1])), merged(F.linear(a, own[2]))
      local y = F.matmul(F.softmax(F.matmul(q, F.transpose(v)), { dim = 3 }), v)
      return F.linear(from_heads(F.reshape(y, { shape = { a:size(1), -1, y:size(2), y:size(3) } })), own[3])
    end }
  end)

  add("grouped queries", 3, function(g, x)
    if #x.shape ~= 3 then return nil end
    local n, kv, copies, width, value = x.shape[3], g.random(1, 2), g.random(2, 3), g.random(2, 3), g.random(2, 3)
    local way, causal = g.random(1, 3), g.chance(0.4)
    g.parameter { kv * copies * width, n }
    g.parameter { kv * width, n }
    g.parameter { kv * value, n }
    g.parameter { n, kv * copies * value }
    local names = { "by the operator", "by repeat_interleave", "by expand" }
    return { text = ("grouped queries %s, %d x %d heads"):format(names[way], kv, copies), from = { x }, f = function(own, a)
      local q, k, v = to_heads(F.linear(a, own[1]), kv * copies), to_heads(F.linear(a, own[2]), kv), to_heads(F.linear(a, own[3]), kv)
      local function widened(y)
        if way == 1 then return y end
        if way == 2 then return F.repeat_interleave(y, { repeats = copies, dim = 2 }) end
        return F.flatten(F.expand(F.unsqueeze(y, { dim = 3 }), { sizes = { -1, -1, copies, -1, -1 } }), { start_dim = 2, end_dim = 3 })
      end
      local y = F.scaled_dot_product_attention(q, widened(k), widened(v), nil, { is_causal = causal, scale = 0.6 })
      return F.linear(from_heads(y), own[4])
    end }
  end)

  add("masked attention", 1, function(g, x)
    if #x.shape ~= 3 then return nil end
    local n, heads, length = x.shape[3], 2, x.shape[2]
    g.parameter { 3 * heads * 2, n }
    g.parameter(g.pick { { heads, 1, length }, { length, length }, { heads, length, length } })
    local bool = g.chance(0.4)
    return { text = "attention with a learned " .. (bool and "mask" or "bias"), from = { x }, f = function(own, a)
      local q, k, v = F.chunk(F.linear(a, own[1]), { chunks = 3, dim = 3 })
      return from_heads(F.scaled_dot_product_attention(to_heads(q, heads), to_heads(k, heads), to_heads(v, heads),
        bool and F.gt(own[2], 0) or own[2], { scale = 0.5 }))
    end }
  end)

  add("cross attention", 2, function(g, x)
    local other = g.other(function(v) return #v.shape == 3 and not v.whole end)
    if #x.shape ~= 3 or not other then return nil end
    local width = g.pick(widths)
    g.parameter { width, x.shape[3] }
    g.parameter { width, other.shape[3] }
    g.parameter { g.pick(widths), other.shape[3] }
    return { text = "cross attention", from = { x, other }, f = function(own, a, b)
      return F.scaled_dot_product_attention(F.linear(a, own[1]), F.linear(b, own[2]), F.linear(b, own[3]), nil, { scale = 0.4 })
    end }
  end)

  add("linear attention", 2, function(g, x)
    if #x.shape ~= 3 then return nil end
    local width, positive = g.pick(widths), g.chance(0.5)
    for _ = 1, 3 do g.parameter { width, x.shape[3] } end
    return { text = "linear attention" .. (positive and " with elu + 1" or " with relu"), from = { x }, f = function(own, a)
      local function feature(y) return positive and F.elu(y) + 1 or F.relu(y) end
      local q, k, v = feature(F.linear(a, own[1])), feature(F.linear(a, own[2])), F.linear(a, own[3])
      return F.matmul(q, F.matmul(F.transpose(k), v)) * 0.2
    end }
  end)

  add("channel attention", 1, function(_, x)
    if #x.shape ~= 3 then return nil end
    return { text = "cross-covariance attention", from = { x }, f = function(_, a)
      return F.matmul(a, F.softmax(F.matmul(F.transpose(a), a), { dim = 3 }))
    end }
  end)

  add("gram matrix", 1, function(_, x)
    if #x.shape ~= 3 then return nil end
    return { text = "x x^T", from = { x }, f = function(_, a) return F.matmul(a, F.transpose(a)) * 0.3 end }
  end)

  -- Pairs (2 i, 2 i + 1), or the halves, are turned by fixed angles.
  add("rotary", 2, function(g, x)
    local n = x.shape[#x.shape]
    if #x.shape < 3 or n % 2 ~= 0 or n < 4 then return nil end
    local half, length, interleaved = n // 2, x.shape[#x.shape - 1], g.chance(0.5)
    local angle = prune.randn({ length, half }):to "f64"
    g.constant(angle:cos())
    g.constant(angle:sin())
    local last = #x.shape
    return { text = "rotary " .. (interleaved and "pairs" or "halves"), from = { x }, f = function(own, a)
      local cosine, sine = own[1], own[2]
      if interleaved then
        local even, odd = F.slice(a, { dim = last, start = 1, stop = -2, step = 2 }), F.slice(a, { dim = last, start = 2, step = 2 })
        local y = F.stack({ even * cosine - odd * sine, even * sine + odd * cosine }, { dim = last + 1 })
        return F.flatten(y, { start_dim = last, end_dim = last + 1 })
      end
      local left, right = F.chunk(a, { chunks = 2, dim = last })
      return F.cat({ left * cosine - right * sine, right * cosine + left * sine }, { dim = last })
    end }
  end)

  add("MultiheadAttention", 2, function(g, x)
    local n = #x.shape == 3 and x.shape[3]
    local heads = n and g.pick(divisors(n))
    if not heads or heads == n then return nil end
    g.module(nn.MultiheadAttention(n, heads, { is_causal = g.chance(0.3) }))
    return { text = ("MultiheadAttention, %d heads"):format(heads), from = { x }, f = function(own, a) return own[1](a) end }
  end)

  for _, name in ipairs { "LSTM", "GRU" } do
    add(name .. " module", 1, function(g, x)
      if #x.shape ~= 3 then return nil end
      g.module(nn[name](x.shape[3], g.random(2, 3), { layers = g.random(1, 2), bidirectional = g.chance(0.5) }))
      return { text = name .. " module", from = { x }, f = function(own, a) return own[1](a) end }
    end)
  end

  -- --- computed weights -----------------------------------------------------------------------------------------------

  add("weight norm", 2, function(g, x)
    local n, out, linear = x.shape[#x.shape], g.pick(widths), g.chance(0.5)
    if not linear and #x.shape ~= 4 then return nil end
    g.parameter(linear and { out, 1 } or { out, 1, 1, 1 })
    g.parameter(linear and { out, n } or { out, x.shape[2], 1, 1 })
    return { text = "weight norm of a " .. (linear and "linear layer" or "convolution"), from = { x }, f = function(own, a)
      local w = own[1] * own[2] / F.norm(own[2], { dim = linear and { 2 } or { 2, 3, 4 }, keepdim = true })
      return linear and F.linear(a, w) or F.conv2d(a, w)
    end }
  end)

  add("masked weight", 2, function(g, x)
    local o, shape, _, rank = steps.convolution(g, x, false)
    if not o then return nil end
    g.parameter(shape)
    local other = {}
    for d, n in ipairs(shape) do other[d] = g.chance(0.5) and 1 or n end
    g.parameter(other)
    return { text = ("conv%sd with a product of parameters as weight, groups %d"):format(rank, o.groups), from = { x },
      f = function(own, a) return F["conv" .. rank .. "d"](a, own[1] * own[2], nil, o) end }
  end)

  add("generated weight", 2, function(g, x)
    if #x.shape ~= 4 then return nil end
    local n, out, seed = x.shape[2], g.pick { 2, 3, 4 }, g.random(2, 3)
    g.parameter { 1, seed }
    g.parameter { out * n, seed }
    return { text = "conv2d with a weight made by a linear layer", from = { x }, f = function(own, a)
      local w = F.reshape(F.linear(own[1], own[2]), { shape = { out, n, 1, 1 } })
      return F.conv2d(a, w)
    end }
  end)

  add("low-rank weight", 2, function(g, x)
    local n, out, rank = x.shape[#x.shape], g.pick(widths), g.pick { 2, 3, 4 }
    g.parameter { out, rank }
    g.parameter { rank, n }
    return { text = "linear layer with a product of two matrices as weight", from = { x },
      f = function(own, a) return F.linear(a, F.matmul(own[1], own[2])) end }
  end)

  add("outer product", 2, function(g, x)
    if #x.shape ~= 2 or x.shape[2] > 6 then return nil end
    local other = g.other(function(v) return #v.shape == 2 and v.shape[2] <= 6 and not v.whole end)
    return other and { text = "outer product, flattened", from = { x, other }, f = function(_, a, b)
      return F.flatten(F.unsqueeze(a, { dim = 3 }) * F.unsqueeze(b, { dim = 2 }), { start_dim = 2 })
    end }
  end)

  add("tied output", 2, function(g, x)
    local w = g.owned(function(p) return p:dim() == 2 and p:size(2) == x.shape[#x.shape] end)
    if not w then return nil end
    g.own(w)
    return { text = "linear layer with a weight of another step", from = { x }, f = function(own, a) return F.linear(a, own[1]) end }
  end)

  add("reused step", 4, function(g, x)
    local step = g.step(x.shape)
    if not step then return nil end
    for _, thing in ipairs(step.own) do g.own(thing) end
    return { text = step.text .. " again", from = { x }, f = step.f }
  end)
end
