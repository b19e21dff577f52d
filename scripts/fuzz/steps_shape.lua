-- steps_shape.lua - steps that move, cut, join and copy positions.
local core = require "prune.core"
local F = require "watched"

return function(steps)
  local add, divisors = steps.add, steps.divisors

  local function same_but(shape, axis)
    return function(v)
      if #v.shape ~= #shape or v.whole then return false end
      for d = 1, #shape do
        if d ~= axis and v.shape[d] ~= shape[d] then return false end
      end
      return true
    end
  end

  -- --- order of axes, other shapes ---------------------------------------------------------------------------------

  add("permute", 4, function(g, x)
    if #x.shape < 3 then return nil end
    local order = { 1 }
    for d = 2, #x.shape do table.insert(order, g.random(2, #order + 1), d) end
    return { text = "permute {" .. table.concat(order, ", ") .. "}", from = { x },
      f = function(_, a) return F.permute(a, { dims = order }) end }
  end)

  add("transpose", 2, function(g, x)
    if #x.shape < 3 then return nil end
    local a, b, move = g.axis(x), g.axis(x), g.chance(0.3)
    return { text = ("%s %d %d"):format(move and "movedim" or "transpose", a, b), from = { x }, f = function(_, t)
      if move then return F.movedim(t, { source = a, destination = b }) end
      return F.transpose(t, { dim1 = a, dim2 = b })
    end }
  end)

  add("flatten", 3, function(g, x)
    if #x.shape < 3 then return nil end
    local from = g.random(2, #x.shape - 1)
    local to = g.random(from + 1, #x.shape)
    return { text = ("flatten %d to %d"):format(from, to), from = { x },
      f = function(_, a) return F.flatten(a, { start_dim = from, end_dim = to }) end }
  end)

  add("unflatten", 4, function(g, x)
    local axis = g.axis(x)
    local n = x.shape[axis]
    local outer = g.pick(divisors(n))
    if #x.shape > 4 or not outer or outer == n then return nil end
    local sizes = g.chance(0.5) and { outer, -1 } or { -1, n // outer }
    return { text = ("unflatten axis %d to %d x %d"):format(axis, outer, n // outer), from = { x },
      f = function(_, a) return F.unflatten(a, { dim = axis, sizes = sizes }) end }
  end)

  -- Two axes cut anew; and one that is cut and joined again in another way.
  add("reshape", 3, function(g, x)
    if #x.shape < 3 then return nil end
    local axis = g.random(2, #x.shape - 1)
    local all = x.shape[axis] * x.shape[axis + 1]
    local first = g.pick(divisors(all))
    if not first then return nil end
    local front, back = axis - 2, #x.shape - axis - 1
    return { text = ("reshape axes %d and %d to %d x %d"):format(axis, axis + 1, first, all // first), from = { x }, f = function(_, a)
      local sizes, shape = a:size(), { -1 }
      for d = 2, front + 1 do shape[#shape + 1] = sizes[d] end
      shape[#shape + 1], shape[#shape + 2] = first, all // first
      for d = #sizes - back + 1, #sizes do shape[#shape + 1] = sizes[d] end
      return F.reshape(a, { shape = shape })
    end }
  end)

  add("squeeze", 1, function(g, x)
    if #x.shape > 4 then return nil end
    local axis, way = g.random(2, #x.shape + 1), g.random(1, 3)
    return { text = ("unsqueeze %d%s"):format(axis, way == 1 and "" or way == 2 and ", squeeze_dims" or ", squeeze"), from = { x },
      f = function(_, a)
        local y = F.unsqueeze(a, { dim = axis })
        if way == 1 then return y end
        return way == 2 and F.squeeze_dims(y + 1, { dims = { axis } }) or F.squeeze(F.relu(y), { dims = { axis } })
      end }
  end)

  add("batch behind", 1, function(g, x)
    if #x.shape ~= 3 then return nil end
    g.parameter { g.pick(steps.widths), x.shape[3] }
    return { text = "permute {2, 1, 3}, linear, back", from = { x }, f = function(own, a)
      return F.permute(F.linear(F.permute(a, { dims = { 2, 1, 3 } }), own[1]), { dims = { 2, 1, 3 } })
    end }
  end)

  add("batch merged", 2, function(g, x)
    if #x.shape < 3 then return nil end
    return { text = "first two axes merged, relu, and cut again", from = { x }, f = function(_, a)
      local sizes = a:size()
      local y = F.relu(F.reshape(a, { shape = { a:size(1) * sizes[2], table.unpack(sizes, 3) } }))
      return F.reshape(y, { shape = { a:size(1), sizes[2], table.unpack(sizes, 3) } })
    end }
  end)

  -- --- parts ---------------------------------------------------------------------------------------------------------

  add("chunk", 4, function(g, x)
    local axis, pieces = g.axis(x), g.random(2, 3)
    if x.shape[axis] < pieces then return nil end
    return { text = ("chunk %d of axis %d"):format(pieces, axis), from = { x },
      f = function(_, a) return F.chunk(a, { chunks = pieces, dim = axis }) end }
  end)

  add("split", 3, function(g, x)
    local axis = g.axis(x)
    local n = x.shape[axis]
    if n < 3 then return nil end
    local first = g.random(1, n - 2)
    local sizes = { first, 1, n - 1 - first }
    if g.chance(0.6) then sizes = { first, n - first } end
    return { text = ("split axis %d in %s"):format(axis, table.concat(sizes, " ")), from = { x },
      f = function(_, a) return F.split(a, { sizes = sizes, dim = axis }) end }
  end)

  add("slice", 4, function(g, x)
    local axis = g.axis(x)
    local n = x.shape[axis]
    if n < 2 then return nil end
    local step = g.random(1, 3)
    local start = g.random(1, n)
    local stop = g.random(start, n)
    local from_end = g.chance(0.3)
    return { text = ("slice axis %d from %d to %d by %d"):format(axis, start, stop, step), from = { x }, f = function(_, a)
      return F.slice(a, { dim = axis, start = from_end and start - 1 - n or start, stop = stop, step = step })
    end }
  end)

  add("overlapping slices", 2, function(g, x)
    local axis = g.axis(x)
    local n = x.shape[axis]
    if n < 4 then return nil end
    local length = n // 2 + 1
    return { text = ("sum of two overlapping slices of axis %d"):format(axis), from = { x }, f = function(_, a)
      return F.narrow(a, { dim = axis, start = 1, length = length }) + F.narrow(a, { dim = axis, start = n - length + 1, length = length })
    end }
  end)

  add("select", 1, function(g, x)
    if #x.shape < 3 then return nil end
    local axis = g.axis(x)
    local index = g.random(x.shape[axis])
    if g.chance(0.3) then index = index - 1 - x.shape[axis] end
    return { text = ("select %d of axis %d"):format(index, axis), from = { x },
      f = function(_, a) return F.select(a, { dim = axis, index = index }) end }
  end)

  add("unbind", 1, function(g, x)
    local axis = g.axis(x)
    if #x.shape < 3 or x.shape[axis] > 4 then return nil end
    local stacked = g.chance(0.5)
    return { text = ("unbind axis %d and %s"):format(axis, stacked and "stack" or "add"), from = { x }, f = function(_, a)
      local parts = { F.unbind(a, { dim = axis }) }
      if stacked then return F.stack(parts, { dim = 2 }) end
      local sum = parts[1]
      for i = 2, #parts do sum = sum + i * parts[i] end
      return sum
    end }
  end)

  add("index_select", 3, function(g, x)
    local axis = g.axis(x)
    local list = {}
    for i = 1, g.random(1, x.shape[axis] + 1) do list[i] = g.random(x.shape[axis]) end
    g.constant(core.tensor(list):to "i64")
    return { text = ("index_select axis %d at %s"):format(axis, table.concat(list, " ")), from = { x },
      f = function(own, a) return F.index_select(a, own[1], { dim = axis }) end }
  end)

  add("permuted channels", 1, function(g, x)
    local axis = g.axis(x)
    local order = {}
    for i = 1, x.shape[axis] do table.insert(order, g.random(1, #order + 1), i) end
    g.constant(core.tensor(order):to "i64")
    return { text = ("axis %d in order %s"):format(axis, table.concat(order, " ")), from = { x },
      f = function(own, a) return F.index_select(a, own[1], { dim = axis }) end }
  end)

  -- --- joins and copies ------------------------------------------------------------------------------------------------

  add("cat", 5, function(g, x)
    local axis = g.axis(x)
    local other = g.other(same_but(x.shape, axis))
    return other and { text = ("cat along axis %d"):format(axis), from = { x, other },
      f = function(_, a, b) return F.cat({ a, b }, { dim = axis }) end }
  end)

  add("cat with itself", 2, function(g, x)
    local axis, way = g.axis(x), g.random(1, 3)
    return { text = ("cat of x and %s along axis %d"):format(way == 1 and "x" or way == 2 and "sigmoid x" or "neg x", axis), from = { x },
      f = function(_, a) return F.cat({ a, way == 1 and a or way == 2 and F.sigmoid(a) or F.neg(a) }, { dim = axis }) end }
  end)

  add("stack", 2, function(g, x)
    if #x.shape > 4 then return nil end
    local other, axis = g.other(same_but(x.shape, 0)), g.random(2, #x.shape + 1)
    return { text = ("stack at axis %d"):format(axis), from = { x, other or x },
      f = function(_, a, b) return F.stack({ a, b }, { dim = axis }) end }
  end)

  add("tile", 2, function(g, x)
    local axis, times = g.axis(x), g.random(2, 3)
    local repeats = {}
    for d = 1, #x.shape do repeats[d] = d == axis and times or 1 end
    return { text = ("tile axis %d %d times"):format(axis, times), from = { x }, f = function(_, a) return F.tile(a, { repeats = repeats }) end }
  end)

  add("repeat_interleave", 2, function(g, x)
    local axis, times = g.axis(x), g.random(2, 3)
    return { text = ("repeat_interleave axis %d %d times"):format(axis, times), from = { x },
      f = function(_, a) return F.repeat_interleave(a, { repeats = times, dim = axis }) end }
  end)

  add("expand", 2, function(g, x)
    if #x.shape > 4 then return nil end
    local axis, times, joined = g.random(2, #x.shape + 1), g.random(2, 3), g.chance(0.5)
    return { text = ("unsqueeze and expand at axis %d to %d%s"):format(axis, times, joined and ", flatten" or ""), from = { x },
      f = function(_, a)
        local y = F.unsqueeze(a, { dim = axis })
        local sizes = {}
        for d = 1, y:dim() do sizes[d] = d == axis and times or -1 end
        y = F.expand(y, { sizes = sizes })
        if joined then return F.flatten(y, axis == 2 and { start_dim = 2, end_dim = 3 } or { start_dim = axis - 1, end_dim = axis }) end
        return y
      end }
  end)

  add("pad", 3, function(g, x)
    local axis, mode = g.axis(x), g.pick { "constant", "constant", "constant", "reflect", "replicate" }
    local before, after = g.random(-1, 2), g.random(0, 2)
    if mode ~= "constant" then before, after = 1, 1 end
    if x.shape[axis] < 3 or (mode ~= "constant" and axis < 3) then return nil end
    local pads = {}
    for d = #x.shape, axis, -1 do
      pads[#pads + 1] = d == axis and before or 0
      pads[#pads + 1] = d == axis and after or 0
    end
    local value = g.pick { 0, 0, 1, 0.5 }
    return { text = ("pad axis %d by %d and %d, %s %g"):format(axis, before, after, mode, value), from = { x },
      f = function(_, a) return F.pad(a, { pad = pads, mode = mode, value = mode == "constant" and value or nil }) end }
  end)

  add("roll", 2, function(g, x)
    local axis = g.axis(x)
    local shift = g.random(-x.shape[axis], x.shape[axis])
    return { text = ("roll axis %d by %d"):format(axis, shift), from = { x },
      f = function(_, a) return F.roll(a, { shifts = shift, dims = axis }) end }
  end)

  add("flip", 2, function(g, x)
    local axis = g.axis(x)
    return { text = ("flip axis %d"):format(axis), from = { x }, f = function(_, a) return F.flip(a, { dims = axis }) end }
  end)

  add("gather", 1, function(g, x)
    local axis = g.axis(x)
    local shape = { 1 }
    for d = 2, #x.shape do shape[d] = d == axis and g.random(x.shape[d]) or x.shape[d] end
    local count, list = 1, {}
    for _, n in ipairs(shape) do count = count * n end
    for i = 1, count do list[i] = g.random(x.shape[axis]) end
    g.constant(core.tensor(list):to("i64"):reshape(shape))
    return { text = ("gather along axis %d at %s of shape [%s]"):format(axis, table.concat(list, " "), table.concat(shape, ", ")), from = { x },
      f = function(own, a) return F.gather(a, F.expand(own[1], { sizes = { a:size(1), table.unpack(own[1]:size(), 2) } }), { dim = axis }) end }
  end)

  add("scatter_add", 1, function(g, x)
    local other, axis = g.other(same_but(x.shape, 0)), g.axis(x)
    if not other then return nil end
    local shape, list = table.move(x.shape, 2, #x.shape, 2, { 1 }), {}
    for i = 1, x.numel // 2 do list[i] = g.random(x.shape[axis]) end
    g.constant(core.tensor(list):to("i64"):reshape(shape))
    return { text = ("scatter_add along axis %d"):format(axis), from = { x, other }, f = function(own, a, b)
      return F.scatter_add(a, F.expand(own[1], { sizes = { a:size(1), table.unpack(own[1]:size(), 2) } }), b, { dim = axis })
    end }
  end)

  add("triangle", 2, function(g, x)
    if #x.shape < 3 then return nil end
    local name = g.pick { "tril", "triu" }
    return { text = name, from = { x }, f = function(_, a) return F[name](a, { diagonal = 0 }) end }
  end)

  -- --- channels and space ------------------------------------------------------------------------------------------------

  add("channel_shuffle", 3, function(g, x)
    local n = x.shape[2]
    local groups = g.pick(divisors(n))
    if #x.shape < 3 or #x.shape > 4 or not groups then return nil end
    local by_views = g.chance(0.5)
    return { text = ("channel_shuffle in %d groups%s"):format(groups, by_views and " by views" or ""), from = { x }, f = function(_, a)
      if not by_views then return F.channel_shuffle(a, { groups = groups }) end
      local y = F.transpose(F.unflatten(a, { dim = 2, sizes = { groups, -1 } }), { dim1 = 2, dim2 = 3 })
      return F.flatten(y, { start_dim = 2, end_dim = 3 })
    end }
  end)

  add("pixel_shuffle", 3, function(_, x)
    if #x.shape ~= 4 or x.shape[2] % 4 ~= 0 then return nil end
    return { text = "pixel_shuffle 2", from = { x }, f = function(_, a) return F.pixel_shuffle(a, { upscale_factor = 2 }) end }
  end)

  add("pixel_unshuffle", 3, function(_, x)
    if #x.shape ~= 4 or x.shape[3] % 2 ~= 0 or x.shape[4] % 2 ~= 0 then return nil end
    return { text = "pixel_unshuffle 2", from = { x }, f = function(_, a) return F.pixel_unshuffle(a, { downscale_factor = 2 }) end }
  end)

  add("interpolate", 2, function(g, x)
    if #x.shape ~= 4 then return nil end
    local o = { size = { g.random(2, 5), g.random(2, 5) }, mode = g.pick { "nearest", "bilinear" } }
    return { text = "interpolate " .. o.mode, from = { x }, f = function(_, a) return F.interpolate(a, o) end }
  end)

  add("pool", 3, function(g, x)
    if #x.shape ~= 3 and #x.shape ~= 4 then return nil end
    local rank = #x.shape - 2
    local name = g.pick { "max_pool", "avg_pool", "adaptive_avg_pool", "adaptive_max_pool" }
    if name == "adaptive_max_pool" and rank == 1 then return nil end
    local f = F[name .. rank .. "d"]
    local o = name:find "adaptive" and { output_size = g.random(1, 2) } or { kernel_size = 2, padding = g.random(0, 1), stride = g.random(1, 2) }
    return { text = name .. rank .. "d", from = { x }, f = function(_, a) return f(a, o) end }
  end)

  add("unfold", 1, function(g, x)
    if #x.shape ~= 4 or x.shape[3] < 2 or x.shape[4] < 2 then return nil end
    local o = { kernel_size = 2, stride = g.random(1, 2), padding = g.random(0, 1) }
    return { text = "unfold", from = { x }, f = function(_, a) return F.unfold(a, o) end }
  end)

  add("fold", 2, function(_, x)
    if #x.shape ~= 4 or x.shape[3] < 2 or x.shape[4] < 2 then return nil end
    return { text = "unfold, relu, fold", from = { x }, f = function(_, a)
      return F.fold(F.relu(F.unfold(a, { kernel_size = 2, padding = 1 })), { kernel_size = 2, padding = 1, output_size = { a:size(3), a:size(4) } })
    end }
  end)
end
