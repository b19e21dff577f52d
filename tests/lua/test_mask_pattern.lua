-- Masks in patterns, against plain definitions worked out here: N of M, blocks, kernels, rows, columns.
local T = require "testing"
local prune = require "prune"
local nn, mask = prune.nn, prune.mask

local function parameter(sizes, seed)
  prune.seed(seed or 1)
  return nn.Parameter(prune.randn(sizes))
end

local function flat(t) return t:reshape(-1):totable() end

-- The mask in which of each group (a list of positions) at most `keep` of largest magnitude stay.
local function keep_largest(values, groups, keep)
  local kept = {}
  for i = 1, #values do kept[i] = 1.0 end
  for _, group in ipairs(groups) do
    table.sort(group, function(a, b)
      local x, y = math.abs(values[a]), math.abs(values[b])
      return x > y or x == y and a > b
    end)
    for k = keep + 1, #group do kept[group[k]] = 0.0 end
  end
  return kept
end

-- Positions of a row-major tensor in groups of m along dimension d.
local function groups_along(sizes, d, m)
  local inner, groups = 1, {}
  for k = d + 1, #sizes do inner = inner * sizes[k] end
  local total = inner
  for k = 1, d do total = total * sizes[k] end
  for i = 0, total - 1 do
    local line = i // (inner * sizes[d]) * inner + i % inner
    local group = i // inner % sizes[d] // m
    local key = line * sizes[d] + group
    groups[key] = groups[key] or {}
    table.insert(groups[key], i + 1)
  end
  local list = {}
  for _, group in prune.sorted(groups) do list[#list + 1] = group end
  return list
end

-- --- N:M ------------------------------------------------------------------------------------------------------------

T.test("n of every m along any dimension, also where m does not divide the size", function()
  for _, case in ipairs {
    { { 6, 8 }, 2, 2, 4 }, { { 8, 6 }, 1, 2, 4 }, { { 5, 7 }, 2, 1, 3 }, { { 4, 6, 3, 3 }, 2, 2, 4 }, { { 4, 5, 3, 3 }, 4, 1, 2 },
    { { 3, 40 }, 2, 7, 20 }, { { 9 }, 1, 3, 5 }, { { 4, 6 }, 2, 0, 3 }, { { 4, 6 }, 2, 3, 3 }, { { 2, 5 }, 2, 2, 100 },
  } do
    local sizes, dim, n, m = table.unpack(case)
    local p = parameter(sizes)
    mask.nm(p, { n = n, m = m, dim = dim })
    T.equal(flat(p.mask), keep_largest(flat(p), groups_along(sizes, dim, m), n), ("%d:%d along %d"):format(n, m, dim))
  end
end)

T.test("the last, shorter group keeps at most n too", function()
  local p = nn.Parameter(prune.tensor { { 1, 2, 3, 4, 5, 6, 7 } })
  mask.nm(p, { n = 2, m = 4 })
  T.equal(flat(p.mask), { 0, 0, 1, 1, 0, 1, 1 })
  p = nn.Parameter(prune.tensor { { 1, 2, 3, 4, 5 } })
  mask.nm(p, { n = 2, m = 4 })
  T.equal(flat(p.mask), { 0, 0, 1, 1, 1 })
end)

T.test("along the matrix's columns a convolution's windows run on", function()
  local p, q = parameter { 4, 3, 3, 3 }, parameter { 4, 3, 3, 3 }
  mask.nm(p, { n = 1, m = 9, dim = "matrix" })
  T.equal(flat(p.mask), keep_largest(flat(q), groups_along({ 4, 27 }, 2, 9), 1))
end)

T.test("masked entries count among those that go; ties go by index; scores decide", function()
  local p = nn.Parameter(prune.tensor { { 4, 3, 2, 1, 1, 1, 1, 1 } })
  mask.custom_from_mask(p, prune.tensor { { 0, 1, 1, 1, 1, 1, 1, 1 } })
  mask.nm(p, { n = 2, m = 4 })
  T.equal(flat(p.mask), { 0, 1, 1, 0, 0, 0, 1, 1 })
  local q = nn.Parameter(prune.tensor { { 4, 3, 2, 1 } })
  mask.nm(q, { scores = prune.tensor { { 0, 1, -2, 3 } } })
  T.equal(flat(q.mask), { 0, 0, 1, 1 })
  local a, b = nn.Parameter(prune.tensor { { 4, 3, 2, 1 } }), nn.Parameter(prune.tensor { { 1, 2, 3, 4 } })
  mask.nm({ a, b }, { n = 1, m = 2 })
  T.equal({ flat(a.mask), flat(b.mask) }, { { 1, 0, 1, 0 }, { 0, 1, 0, 1 } })
end)

-- --- blocks ---------------------------------------------------------------------------------------------------------

local pools = {
  mean = function(list)
    local sum = 0
    for _, x in ipairs(list) do sum = sum + math.abs(x) end
    return sum / #list
  end,
  max = function(list)
    local most = 0
    for _, x in ipairs(list) do most = math.max(most, math.abs(x)) end
    return most
  end,
  rms = function(list)
    local sum = 0
    for _, x in ipairs(list) do sum = sum + x * x end
    return math.sqrt(sum / #list)
  end,
}

-- The mask without the `count` blocks of lowest pool; block_of(position from 0) names the block.
local function without_lowest(values, block_of, pool, count)
  local blocks, order, kept = {}, {}, {}
  for i, x in ipairs(values) do
    local b = block_of(i - 1)
    if not blocks[b] then
      blocks[b] = {}
      order[#order + 1] = b
    end
    table.insert(blocks[b], x)
    kept[i] = 1.0
  end
  table.sort(order)
  local index = {}
  for k, b in ipairs(order) do index[b] = k end
  table.sort(order, function(a, b)
    local x, y = pools[pool](blocks[a]), pools[pool](blocks[b])
    return x < y or x == y and index[a] < index[b]
  end)
  local gone = {}
  for k = 1, count do gone[order[k]] = true end
  for i in ipairs(values) do
    if gone[block_of(i - 1)] then kept[i] = 0.0 end
  end
  return kept
end

T.test("blocks of a matrix by mean, max and rms, with smaller ones at the edges", function()
  for pool in pairs(pools) do
    for _, case in ipairs { { { 8, 12 }, 4, 4 }, { { 7, 10 }, 2, 3 }, { { 4, 3, 3, 3 }, 2, 9 }, { { 5, 6 }, 1, 4 } } do
      local sizes, h, w = table.unpack(case)
      local p = parameter(sizes)
      local columns = p:numel() // sizes[1]
      local across = (columns + w - 1) // w
      local count = ((sizes[1] + h - 1) // h * across) // 2
      mask.block(p, { size = { h, w }, pool = pool, amount = count })
      T.equal(flat(p.mask), without_lowest(flat(p:dense()), function(i)
        return i // columns // h * across + i % columns // w
      end, pool, count), pool)
    end
  end
end)

T.test("kernels, rows and columns are blocks", function()
  local p = parameter { 4, 5, 3, 2 }
  mask.kernel(p, { sparsity = 0.5 })
  T.equal(flat(p.mask), without_lowest(flat(p:dense()), function(i) return i // 6 end, "mean", 10))
  local q = parameter { 4, 5, 3, 2 }
  mask.row(q, { amount = 2, pool = "rms" })
  local same = parameter { 4, 5, 3, 2 }
  mask.ln_structured(same, { amount = 2, n = 2, dim = 1 })
  T.equal(q.mask:equal(same.mask), true)
  local r = parameter { 4, 5, 3, 2 }
  mask.column(r, { amount = 0.5 })
  T.equal(flat(r.mask), without_lowest(flat(r:dense()), function(i) return i % 30 end, "mean", 15))
end)

T.test("blocks along chosen dimensions, and with an extent for each", function()
  local p, q = parameter { 4, 6, 3, 3 }, parameter { 4, 6, 3, 3 }
  mask.block(p, { size = { 2, 3 }, dims = { 1, 2 }, sparsity = 0.5 })
  local function block_of(i) return (i // 54 // 2 * 2 + i // 9 % 6 // 3) * 9 + i % 9 end
  T.equal(flat(p.mask), without_lowest(flat(p:dense()), block_of, "mean", 18))
  mask.block(q, { size = { 2, 3, 1, 1 }, sparsity = 0.5 })
  T.equal(q.mask:equal(p.mask), true)
  local r = parameter { 4, 6, 3, 3 }
  mask.block(r, { size = { 1, 0, 0, 0 }, amount = 1 })
  T.equal(r.mask:sum():item(), 3 * 54.0)
end)

T.test("local: each of a list loses its share; global: they are ranked together", function()
  local a, b = parameter({ 4, 4 }, 1), nn.Parameter(parameter({ 4, 4 }, 2):dense() * 100)
  mask.block({ a, b }, { size = { 2, 2 }, sparsity = 0.5 })
  T.equal({ a.mask:sum():item(), b.mask:sum():item() }, { 8.0, 8.0 })
  a:set_mask(nil)
  b:set_mask(nil)
  mask.block({ a, b }, { size = { 2, 2 }, sparsity = 0.5, scope = "global" })
  T.equal({ a.mask:sum():item(), b.mask:sum():item() }, { 0.0, 16.0 })
  local c, d = parameter { 4, 4, 3, 3 }, parameter { 6, 4, 1, 1 } -- kernels of different sizes together
  mask.kernel({ c, d }, { amount = 20, scope = "global" })
  T.equal((144 - c.mask:sum():item()) / 9 + 24 - d.mask:sum():item(), 20.0)
end)

T.test("again: what is alive counts, and one live entry keeps a block alive", function()
  local p = parameter { 8, 8 }
  for _ = 1, 3 do mask.block(p, { size = { 2, 2 }, amount = 0.25 }) end
  T.equal(p.mask:sum():item(), 4.0 * 7) -- 16, 12, 9, 7
  local q = nn.Parameter(prune.ones { 2, 4 })
  mask.custom_from_mask(q, prune.tensor { { 0, 0, 0, 1 }, { 0, 0, 1, 1 } })
  mask.block(q, { size = { 2, 2 }, amount = 1 })
  T.equal(q.mask:sum():item(), 0.0)
end)

T.test("random blocks repeat with the seed; lists of the local makers too lose each their share", function()
  local a, b = parameter { 8, 8 }, parameter { 8, 8 }
  prune.seed(5)
  mask.block(a, { size = { 2, 2 }, amount = 7, method = "random" })
  prune.seed(5)
  mask.block(b, { size = { 2, 2 }, amount = 7, method = "random" })
  T.equal(a.mask:equal(b.mask), true)
  T.equal(a.mask:sum():item(), 64.0 - 28)
  local c, d = parameter({ 10 }, 1), parameter({ 20 }, 2)
  mask.l1_unstructured({ c, d }, { sparsity = 0.5 })
  T.equal({ c.mask:sum():item(), d.mask:sum():item() }, { 5.0, 10.0 })
end)

-- --- refusals -------------------------------------------------------------------------------------------------------

T.test("wrong calls are refused and change nothing", function()
  local p, flat_one, q = parameter { 4, 6, 3, 3 }, parameter { 4 }, parameter { 4, 6 }
  local bad = prune.ones { 4, 6 }
  bad[2][3] = 0 / 0
  local cases = {
    { function() mask.nm(q, { n = 5, m = 4 }) end, "n must be an integer of at least 0 and at most 4, got 5" },
    { function() mask.nm(q, { n = -1 }) end, "n must be" }, { function() mask.nm(q, { n = 0.5 }) end, "n must be" },
    { function() mask.nm(q, { m = 0 }) end, "m must be" }, { function() mask.nm(q, { k = 3 }) end, "no option 'k'" },
    { function() mask.nm(q, { dim = 3 }) end, "dim" }, { function() mask.nm(flat_one, {}) end, "dim" },
    { function() mask.nm(q, { dim = "matrx" }) end, "matrix" }, { function() mask.nm(q, { scores = bad }) end, "NaN, at entry 9" },
    { function() mask.nm(q, { scores = prune.ones { 6, 4 } }) end, "%[6, 4%]" }, { function() mask.nm({}, {}) end, "empty" },
    { function() mask.nm({ q, 3 }, {}) end, "element 2" }, { function() mask.nm(prune.ones { 4, 4 }, {}) end, "must be a parameter" },
    { function() mask.nm({ q, flat_one }, {}) end, "dim" }, -- the first of the list has been done by then
    { function() mask.nm({ q, p }, { scores = { prune.ones { 4, 6 } } }) end, "scores for 1" },
    { function() mask.nm({ q, p }, { scores = bad }) end, "list of tensors" },
    { function() mask.block(q, { sparsity = 0.5 }) end, "how large" }, { function() mask.block(q, { size = { 2, 2 } }) end, "how much" },
    { function() mask.block(q, { size = { 2, -2 }, amount = 1 }) end, "size" },
    { function() mask.block(p, { size = { 2, 2, 2 }, amount = 1 }) end, "give two" },
    { function() mask.block(q, { size = { 2, 2 }, dims = { 1, 3 }, amount = 1 }) end, "2 dimensions" },
    { function() mask.block(q, { size = { 2, 2 }, dims = { 1, 1 }, amount = 1 }) end, "twice" },
    { function() mask.block(q, { size = { 2, 2 }, amount = 1, pool = "men" }) end, "did you mean 'mean'" },
    { function() mask.block(q, { size = { 2, 2 }, amount = 1, scope = "globl" }) end, "did you mean 'global'" },
    { function() mask.block(q, { size = { 2, 2 }, amount = 7 }) end, "more than the 6 blocks" },
    { function() mask.block(q, { size = { 2, 2 }, sparsity = 1.5 }) end, "0%.%.1" },
    { function() mask.block(q, { size = { 2, 2 }, sparsity = 0 / 0 }) end, "0%.%.1" },
    { function() mask.block({ q, q }, { size = { 2, 2 }, sparsity = 0.5, scope = "global" }) end, "the same" },
    { function() mask.block(q, { size = { 2, 2 }, sparsity = 0.5, scores = bad }) end, "NaN" },
    { function() mask.kernel(q, { sparsity = 0.5 }) end, "window" },
    { function() mask.l1_unstructured(q, { amount = 1, scores = bad }) end, "NaN" },
    { function() mask.ln_structured(q, { amount = 1, scores = bad }) end, "NaN" },
    { function() mask.l1_unstructured({ q, flat_one }, { amount = 5 }) end, "more than the 4 entries" },
  }
  for _, case in ipairs(cases) do T.raises(case[1], case[2]) end
  T.equal({ p.mask, q.mask, flat_one.mask }, {})
end)

T.test("a mask that was there comes back as it was when a later parameter of the list fails", function()
  local q, short = parameter { 4, 6 }, parameter { 4 }
  mask.l1_unstructured(q, { amount = 3 })
  local before = q.mask:clone()
  T.raises(function() mask.nm({ q, short }, {}) end, "dim")
  T.equal(q.mask:equal(before), true)
end)

T.done()
