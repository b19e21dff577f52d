-- Allocations: they meet the total, keep to the caps, and follow their formulas.
local T = require "testing"
local prune = require "prune"
local allocation = require "prune.allocation"

local layers = {
  { name = "conv1", shape = { 16, 3, 3, 3 } }, { name = "conv2", shape = { 32, 16, 3, 3 } }, { name = "fc", shape = { 10, 32 } },
}
local counts = { 432, 4608, 320 }

local function with(field, values)
  local list = {}
  for i, layer in ipairs(layers) do list[i] = { name = layer.name, shape = layer.shape, [field] = values[i] } end
  return list
end

local function scored()
  prune.seed(3)
  local scores = {}
  for i, layer in ipairs(layers) do scores[i] = prune.randn(layer.shape) * i end
  return with("scores", scores)
end

local curves = {
  conv1 = { { 0.25, 0.5 }, { 0.5, 1.0 }, { 0.75, 4.0 } }, conv2 = { { 0.5, 0.1 }, { 0.9, 0.4 } }, fc = { { 0.5, 0.3 }, { 0.9, 0.2 } },
}

local function sum(shares)
  local total = 0
  for i, share in ipairs(shares) do total = total + share * counts[i] end
  return total
end

-- --- the total ------------------------------------------------------------------------------------------------------

T.test("every allocation meets every total, within 0..1 and the caps", function()
  local all = {
    uniform = allocation.uniform, erk = allocation.erk, global = allocation.global, owl = allocation.owl,
    sensitivity = allocation.sensitivity(curves),
  }
  for name, choose in prune.sorted(all) do
    for _, caps in ipairs { { 1, 1, 1 }, { 0.3, 0.95, 0.5 } } do
      local list = scored()
      for i, layer in ipairs(list) do layer.cap = caps[i] end
      for _, total in ipairs { 0, 0.1, 0.5, 0.8, 0.85 } do
        local shares = choose(list, total)
        T.close(sum(shares), total * 5360, name == "global" and 1e-3 or 1e-6, name .. " " .. total)
        for i, share in ipairs(shares) do assert(share >= 0 and share <= caps[i] + 1e-12, name .. " share " .. share) end
        local whole = 0
        for i, n in ipairs(allocation.counts(list, shares)) do
          whole = whole + n
          assert(n <= caps[i] * counts[i] + 1e-6, name)
        end
        T.equal(whole, math.floor(total * 5360 + 0.5))
      end
      if caps[1] == 1 then T.close(choose(list, 1.0), { 1, 1, 1 }, 1e-9, name) end
    end
  end
end)

T.test("what is gone already counts, and others lose less for it", function()
  for _, choose in ipairs { allocation.uniform, allocation.erk, allocation.owl } do
    local list = scored()
    list[1].floor = 0.9
    local shares = choose(list, 0.5)
    T.close(sum(shares), 0.5 * 5360, 1e-6)
    assert(shares[1] >= 0.9)
  end
end)

T.test("a total that the caps forbid is refused with the most that can be had", function()
  local list = with("cap", { 0.3, 0.5, 0.5 })
  T.raises(function() allocation.erk(list, 0.6) end, "at most 0%.4839")
  T.raises(function() allocation.uniform(list, 1.5) end, "0%.%.1")
  T.raises(function() allocation.uniform(list, 0 / 0) end, "0%.%.1")
  T.raises(function() allocation.uniform(with("cap", { 2, 1, 1 }), 0.5) end, "cap of conv1")
end)

-- --- formulas -------------------------------------------------------------------------------------------------------

T.test("uniform gives one share, and more elsewhere where a cap holds", function()
  T.close(allocation.uniform(layers, 0.7), { 0.7, 0.7, 0.7 }, 1e-12)
  local shares = allocation.uniform(with("cap", { 0, 1, 1 }), 0.7)
  T.close(shares, { 0, 0.7 * 5360 / 4928, 0.7 * 5360 / 4928 }, 1e-9)
end)

T.test("erk keeps in proportion to the sum over the product of the sizes, and small layers dense", function()
  local f = { 25 / 432, 54 / 4608, 42 / 320 }
  local shares = allocation.erk(layers, 0.9)
  local factor = 536 / (25 + 54 + 42)
  for i = 1, 3 do T.close(1 - shares[i], factor * f[i], 1e-9) end
  shares = allocation.erk(layers, 0.5) -- both small layers are full, the large one has the rest
  T.close(shares, { 0, 2680 / 4608, 0 }, 1e-9)
end)

T.test("global is the ranking of all scores together, ties by index", function()
  local list = { { name = "a", shape = { 4 }, scores = prune.tensor { 1, -5, 2, 0 } }, { name = "b", shape = { 3 },
    scores = prune.tensor { 2, 3, 0.5 } } }
  T.close(allocation.global(list, 4 / 7), { 3 / 4, 1 / 3 }, 1e-12)
  list[1].cap = 0.5
  T.close(allocation.global(list, 4 / 7), { 2 / 4, 2 / 3 }, 1e-12)
  T.raises(function() allocation.global(layers, 0.5) end, "conv1 has no scores")
  list[2].count = 4
  T.raises(function() allocation.global(list, 0.5) end, "3 scores for a count of 4")
end)

T.test("owl keeps more where more scores stand out, within the spread", function()
  local list = with("outliers", { 0.10, 0.02, 0.06 })
  local shares = allocation.owl(list, 0.7, { spread = 0.1 })
  T.close(shares[2] - shares[1], 0.2, 1e-9)
  T.close(shares[2] - shares[3], 0.1, 1e-9)
  T.close(allocation.outliers(prune.tensor { 1, 1, 1, 1, -16 }, 3), 0.2, 1e-12)
  T.close(allocation.owl(with("outliers", { 0.1, 0.1, 0.1 }), 0.7), { 0.7, 0.7, 0.7 }, 1e-9)
  T.raises(function() allocation.owl(list, 0.7, { spred = 0.1 }) end, "did you mean 'spread'")
  T.raises(function() allocation.owl(layers, 0.7) end, "conv1 has no scores")
end)

T.test("sensitivity: all layers pay the same price", function()
  local two = { { name = "a", shape = { 100 } }, { name = "b", shape = { 100 } } }
  local choose = allocation.sensitivity { a = { { 0.5, 1 }, { 1, 2 } }, b = { { 0.5, 0.25 }, { 1, 0.5 } } }
  T.close(choose(two, 0.5), { 0.2, 0.8 }, 1e-6)
  T.raises(function() choose({ { name = "c", shape = { 5 } } }, 0.5) end, "no curve of c")
  T.raises(function() allocation.sensitivity({ a = { { 2, 1 } } })({ { name = "a", shape = { 5 } } }, 0.5) end, "ratio in 0%.%.1")
end)

-- --- by name --------------------------------------------------------------------------------------------------------

T.test("by name: whole names, then longer patterns; the rest has the total", function()
  T.equal(allocation.by_name { conv = 0.5, conv2 = 0.25 }(layers, 0.9), { 0.5, 0.25, 0.9 })
  T.equal(allocation.by_name { { "conv", 0.5 }, { "conv2", 0.25 } }(layers, nil), { 0.5, 0.5, 0 })
  T.raises(function() allocation.by_name { covn1 = 0.5 }(layers, 0.5) end, "did you mean 'conv1'")
  T.raises(function() allocation.by_name { conv1 = 1.5 } end, "0%.%.1")
  T.raises(function() allocation.by_name { ["conv["] = 0.5 }(layers, 0.5) end, "not a pattern")
  T.raises(function() allocation.by_name { conv1 = 0.5 }(with("cap", { 0.3, 1, 1 }), 0.5) end, "its cap is 0%.3")
end)

T.test("the option: names, tables and functions are read, and what they return is checked", function()
  local read = function(given) return allocation.read("prune.x", given)(layers, 0.5) end
  T.close(read(nil), { 0.5, 0.5, 0.5 }, 1e-9)
  T.close(read "erk", allocation.erk(layers, 0.5), 1e-12)
  T.equal(read { fc = 0.1 }, { 0.5, 0.5, 0.1 })
  T.equal(read(function(list, total) return { total, 0.1, #list / 10 } end), { 0.5, 0.1, 0.3 })
  T.raises(function() read "erq" end, "did you mean 'erk'")
  T.raises(function() read(3) end, "got number")
  T.raises(function() read(function() return { 1 } end) end, "list of 3 shares")
  T.raises(function() read(function() return { 0.5, 0 / 0, 0 } end) end, "conv2 the share")
  T.raises(function() read(function() end) end, "got nil")
end)

T.done()
