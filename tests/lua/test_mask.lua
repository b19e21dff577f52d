-- Masks: the numbers of torch.nn.utils.prune, its semantics while training, and refusals that change nothing.
local T = require "testing"
local prune = require "prune"
local nn, mask = prune.nn, prune.mask

-- --- golden cases ---------------------------------------------------------------------------------------------------

local crc = {}
for i = 0, 255 do
  local c = i
  for _ = 1, 8 do c = (c & 1 == 1) and (0xEDB88320 ~ (c >> 1)) or (c >> 1) end
  crc[i] = c
end

local function crc32(s)
  local c = 0xFFFFFFFF
  for i = 1, #s do c = crc[(c ~ s:byte(i)) & 255] ~ (c >> 8) end
  return c ~ 0xFFFFFFFF
end

local function weight(name, sizes)
  local n, seed, out = 1, crc32(name), {}
  for _, s in ipairs(sizes) do n = n * s end
  local scale = math.sqrt(3 / (n // sizes[1]))
  for i = 0, n - 1 do
    local h = (i * 2654435761 + seed) & 0xFFFFFFFF
    h = h ~ (h >> 15)
    h = (h * 2246822519) & 0xFFFFFFFF
    h = h ~ (h >> 13)
    h = (h * 3266489917) & 0xFFFFFFFF
    h = h ~ (h >> 16)
    out[i + 1] = (2 * ((h + 0.5) / 4294967296.0) - 1) * scale
  end
  return nn.Parameter(prune.tensor(out):reshape(sizes))
end

local function zeros(p)
  local list = {}
  for i, v in ipairs(p.mask:reshape(-1):totable()) do
    if v == 0 then list[#list + 1] = i end
  end
  return list
end

local runs = {
  ["l1_unstructured 0.3"] = function(w) mask.l1_unstructured(w, { amount = 0.3 }) end,
  ["l1_unstructured 17"] = function(w) mask.l1_unstructured(w, { amount = 17 }) end,
  ["ln_structured n=2 dim=1 0.3"] = function(w) mask.ln_structured(w, { amount = 0.3, n = 2, dim = 1 }) end,
  ["ln_structured n=1 dim=2 0.5"] = function(w) mask.ln_structured(w, { amount = 0.5, n = 1, dim = 2 }) end,
  ["ln_structured n=inf dim=1 2"] = function(w) mask.ln_structured(w, { amount = 2, n = math.huge, dim = 1 }) end,
  ["l1_unstructured 0.2 three times"] = function(w)
    for _ = 1, 3 do mask.l1_unstructured(w, { amount = 0.2 }) end
  end,
  ["ln_structured dim=1 0.34 then l1_unstructured 0.25"] = function(w)
    mask.ln_structured(w, { amount = 0.34, n = 2, dim = 1 })
    mask.l1_unstructured(w, { amount = 0.25 })
  end,
}

T.test("all golden cases", function()
  local seen = 0
  for _, case in ipairs(dofile(T.shared "golden/masks.lua")) do
    local w = weight("w.weight", { 6, 4, 3, 3 })
    if runs[case.case] then
      runs[case.case](w)
      T.equal(zeros(w), case.zeros)
      seen = seen + 1
    else
      local v, u = weight("v.weight", { 5, 7 }), weight("u.weight", { 10, 3 })
      mask.global_unstructured({ w, v, u }, { method = "l1", amount = 0.4 })
      T.equal({ zeros(w), zeros(v), zeros(u) }, { case.zeros_w, case.zeros_v, case.zeros_u })
      seen = seen + 1
    end
  end
  T.equal(seen, 8)
end)

-- --- how much -------------------------------------------------------------------------------------------------------

local function ones(...) return nn.Parameter(prune.ones { ... }) end

T.test("a share is rounded half to even, an integer is a count", function()
  for n, want in pairs { [3] = 2, [5] = 2, [7] = 4, [9] = 4 } do
    local p = ones(n)
    mask.l1_unstructured(p, { amount = 0.5 })
    T.equal(#zeros(p), want)
  end
  local one, all = ones(4), ones(4)
  mask.l1_unstructured(one, { amount = 1 })
  mask.l1_unstructured(all, { amount = 1.0 })
  T.equal({ #zeros(one), #zeros(all) }, { 1, 4 })
end)

T.test("amount counts what is alive, sparsity counts all", function()
  local p = nn.Parameter(prune.randn { 100 })
  local counts = {}
  for i = 1, 3 do
    mask.l1_unstructured(p, { amount = 0.2 })
    counts[i] = #zeros(p)
  end
  T.equal(counts, { 20, 36, 49 })
  mask.l1_unstructured(p, { sparsity = 0.4 })
  T.equal(#zeros(p), 49)
  mask.l1_unstructured(p, { sparsity = 0.9 })
  T.equal(#zeros(p), 90)
end)

T.test("of equal scores the lower index goes first", function()
  local p, q = ones(8), ones(6, 2)
  mask.l1_unstructured(p, { amount = 3 })
  T.equal(zeros(p), { 1, 2, 3 })
  mask.ln_structured(q, { amount = 2, n = 2, dim = 1 })
  T.equal(zeros(q), { 1, 2, 3, 4 })
end)

T.test("a channel with one live entry is alive", function()
  local p = ones(3, 2)
  mask.custom_from_mask(p, prune.tensor { { 0, 1 }, { 0, 0 }, { 1, 1 } })
  mask.ln_structured(p, { amount = 0.5, n = 2, dim = 1 })
  T.equal(p.mask:totable(), { { 0, 0 }, { 0, 0 }, { 1, 1 } })
end)

T.test("scores take the place of values; random forms repeat with the seed", function()
  local p = nn.Parameter(prune.tensor { 4, 3, 2, 1 })
  mask.l1_unstructured(p, { amount = 2, scores = prune.tensor { 1, 2, 3, 4 } })
  T.equal(zeros(p), { 1, 2 })
  local a, b = ones(50), ones(50)
  prune.seed(7)
  mask.random_unstructured(a, { amount = 0.3 })
  prune.seed(7)
  mask.random_unstructured(b, { amount = 0.3 })
  T.equal(zeros(a), zeros(b))
  T.equal(#zeros(a), 15)
  local c = ones(10, 3)
  mask.random_structured(c, { amount = 4, dim = 1 })
  T.equal(#zeros(c), 12)
end)

-- --- training with masks ----------------------------------------------------------------------------------------------

T.test("masked entries read zero and get no gradient, and the dense value still moves", function()
  local linear = nn.Linear(3, 2, { bias = false })
  linear.weight:copy(prune.tensor { { 1, 2, 3 }, { 4, 5, 6 } })
  mask.custom_from_mask(linear.weight, prune.tensor { { 1, 0, 1 }, { 1, 1, 0 } })
  T.equal(linear(prune.ones { 1, 3 }):totable(), { { 4, 9 } })
  local optimizer = prune.optim.SGD(linear, { lr = 0.1, weight_decay = 0.5 })
  linear(prune.ones { 1, 3 }):sum():backward()
  T.equal(linear.weight.grad:totable(), { { 1, 0, 1 }, { 1, 1, 0 } })
  optimizer:step()
  T.close(linear.weight:dense():totable(), { { 0.85, 1.9, 2.75 }, { 3.7, 4.65, 5.7 } }, 1e-6)
  T.close(linear.weight:value():totable(), { { 0.85, 0, 2.75 }, { 3.7, 4.65, 0 } }, 1e-6)
  mask.finalize(linear)
  T.equal(linear.weight.mask, nil)
  T.close(linear.weight:totable(), { { 0.85, 0, 2.75 }, { 3.7, 4.65, 0 } }, 1e-6)
end)

T.test("a tape from before a mask change is refused", function()
  local linear = nn.Linear(3, 2)
  local loss = linear(prune.ones { 1, 3 }):sum()
  mask.l1_unstructured(linear.weight, { amount = 1 })
  T.raises(function() loss:backward() end, "run forward again")
end)

T.test("a copy keeps its mask, a removal slices it, sparsity counts it", function()
  local net = prune.models.cnn { classes = 10, channels = 1, width = 4 }
  mask.global_unstructured(net:weights(), { method = "l1", sparsity = 0.5 })
  T.close(prune.sparsity(net), 0.5, 0.01)
  T.equal(mask.is_pruned(net), true)
  local copy = net:clone()
  T.equal(copy.conv2.weight.mask:equal(net.conv2.weight.mask), true)
  local before = copy.conv2.weight.mask:clone()
  prune.graph(copy, { 1, 8, 8 }):group(copy.conv2.weight, 1, { 1, 3 }):remove()
  T.equal(copy.conv2.weight.mask:size(1), 6)
  T.equal(copy.conv2.weight.mask[1]:equal(before[2]), true)
  T.equal(net.conv2.weight.mask:size(1), 8)
end)

-- --- refusals ---------------------------------------------------------------------------------------------------------

T.test("wrong calls are refused and change nothing", function()
  local p, flat = ones(4, 3), ones(4)
  local cases = {
    { function() mask.l1_unstructured(prune.ones { 3 }, { amount = 1 }) end, "must be a parameter" },
    { function() mask.l1_unstructured(p, { amount = -1 }) end, "" }, { function() mask.l1_unstructured(p, { amount = 13 }) end, "" },
    { function() mask.l1_unstructured(p, { amount = 1.5 }) end, "" }, { function() mask.l1_unstructured(p, { amount = 0 / 0 }) end, "" },
    { function() mask.l1_unstructured(p, { sparsity = 2.0 }) end, "" }, { function() mask.l1_unstructured(p, {}) end, "how much" },
    { function() mask.l1_unstructured(p, { amont = 1 }) end, "did you mean 'amount'" },
    { function() mask.ln_structured(flat, { amount = 1, n = 2, dim = 1 }) end, "" },
    { function() mask.ln_structured(p, { amount = 1, n = 2, dim = 3 }) end, "" },
    { function() mask.l1_unstructured(p, { amount = 1, scores = prune.ones { 4 } }) end, "" },
    { function() mask.custom_from_mask(p, prune.ones { 4, 3 } * 0.5) end, "" },
    { function() mask.custom_from_mask(p, prune.ones { 3, 4 }) end, "%[3, 4%]" },
    { function() mask.global_unstructured({ p, 3 }, { method = "l1", amount = 1 }) end, "" },
    { function() mask.global_unstructured({ p }, { method = "l2", amount = 1 }) end, "" },
  }
  for _, case in ipairs(cases) do T.raises(case[1], case[2]) end
  T.equal(p.mask, nil)
  T.equal(flat.mask, nil)
end)

T.test("a global mask over a million weights keeps exactly the share that was asked for", function()
  local list = {}
  for i = 1, 4 do list[i] = nn.Parameter(prune.randn { 500, 500 }) end
  mask.global_unstructured(list, { method = "l1", sparsity = 0.9 })
  local total = 0
  for _, p in ipairs(list) do total = total + p.mask:sum():item() end
  T.equal(total, 100000.0)
end)

T.done()
