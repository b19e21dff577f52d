--- How much goes where: a total share of zeros (or of units) spread over layers.
--
-- An allocation is a function(layers, total) -> list of shares, one per layer. `layers` is a list of tables with these fields: name; shape (a
-- list, of the weight); count (how many entries or units the share is of; default: the product of the shape); cap (the most of it that may
-- go, default 1); floor (the share that is gone already, default 0); and, for some allocations, scores (a tensor: the lowest magnitudes go
-- first) or outliers (a share). The shares add up to the total, weighted by the counts, and none is above its cap; a total that the caps do
-- not allow is refused with the most that can be had.
-- `allocation.counts` rounds the shares to whole numbers whose sum is the total's.
--
-- Options named `allocation` take "uniform", "erk", "global", "owl", such a function, or a table of shares by name:
-- { ["layer1%..*"] = 0.3, fc = 0.9 } or, the first that fits wins, { { "^layer1", 0.3 }, { ".", 0.5 } }.
local core = require "prune.core"
local options = require "prune.options"
local util = require "prune.util"

local allocation = {}

-- --- meeting the total ----------------------------------------------------------------------------------------------

local function count_of(layer)
  if layer.count then return layer.count end
  local product = 1
  for _, size in ipairs(layer.shape) do product = product * size end
  return product
end

local function cap_of(layer) return layer.cap or 1 end

local function is_share(x) return type(x) == "number" and x >= 0 and x <= 1 end

-- Sum of all counts; raises unless `total` of it can go.
local function check(where, layers, total)
  if not is_share(total) then core.fail(("%s: the total must be a share in 0..1, got %s"):format(where, tostring(total))) end
  local all, most = 0, 0
  for i, layer in ipairs(layers) do
    if not is_share(cap_of(layer)) then
      core.fail(("%s: the cap of %s must be a share in 0..1, got %s"):format(where, layer.name or i, tostring(layer.cap)))
    end
    all, most = all + count_of(layer), most + cap_of(layer) * count_of(layer)
  end
  if total * all > most + 0.5 then
    core.fail(("%s: a share of %.4g cannot go: the caps allow at most %.4g"):format(where, total, most / all))
  end
  return all
end

local function clamp(x, low, high) return x < low and low or x > high and high or x end

-- The shares share_at(layer, index, level), clamped to floor..cap, at the level between low and high where they meet the total. They must not
-- fall as the level rises.
local function meet(where, layers, total, low, high, share_at)
  local all = check(where, layers, total)
  local shares = {}
  local function sum_at(level)
    local sum = 0
    for i, layer in ipairs(layers) do
      shares[i] = clamp(share_at(layer, i, level), layer.floor or 0, cap_of(layer))
      sum = sum + shares[i] * count_of(layer)
    end
    return sum
  end
  for _ = 1, 200 do
    local middle = low + (high - low) / 2
    if middle <= low or middle >= high then break end
    if sum_at(middle) < total * all then low = middle else high = middle end
  end
  sum_at(high)
  return shares
end

--- Whole numbers for shares: rounded so that together they are the rounded total, largest remainders first, within the caps.
-- @param layers as above
-- @param shares list, what an allocation returned
-- @treturn {integer,...} how much of each layer goes
-- @usage local counts = allocation.counts(layers, allocation.erk(layers, 0.9))
function allocation.counts(layers, shares)
  local counts, order, left = {}, {}, 0
  for i, layer in ipairs(layers) do
    local exact = shares[i] * count_of(layer)
    counts[i] = math.floor(exact + 1e-6)
    order[i] = { i, exact - counts[i] }
    left = left + exact - counts[i]
  end
  table.sort(order, function(a, b) return a[2] > b[2] or a[2] == b[2] and a[1] < b[1] end)
  left = math.floor(left + 0.5)
  for _, entry in ipairs(order) do
    local i = entry[1]
    if left > 0 and counts[i] + 1 <= cap_of(layers[i]) * count_of(layers[i]) + 1e-6 then counts[i], left = counts[i] + 1, left - 1 end
  end
  return counts
end

-- --- by rule --------------------------------------------------------------------------------------------------------

--- The same share of every layer, less where a cap is below it and then more elsewhere.
-- @param layers list of { name, shape, count, cap }
-- @tparam number total share in 0..1 of all counts together
-- @return list of shares
function allocation.uniform(layers, total)
  return meet("allocation uniform", layers, total, 0, 1, function(_, _, level) return level end)
end

--- Erdos-Renyi-Kernel: what stays of a layer is in proportion to (sum of its sizes) / (product of its sizes), so that small layers stay
-- denser; layers for which that is more than all stay dense (Evci et al., "Rigging the Lottery", ICML 2020).
-- @param layers list of { name, shape, count, cap }
-- @tparam number total share in 0..1 of all counts together
-- @return list of shares
function allocation.erk(layers, total)
  local weight, least = {}, math.huge
  for i, layer in ipairs(layers) do
    local sum, product = 0, 1
    for _, size in ipairs(layer.shape) do sum, product = sum + size, product * size end
    weight[i] = product > 0 and sum / product or 1
    least = math.min(least, weight[i])
  end
  return meet("allocation erk", layers, total, -1 / least, 0, function(_, i, level) return 1 + level * weight[i] end)
end

-- --- by scores ------------------------------------------------------------------------------------------------------

local function need_scores(where, layers)
  for i, layer in ipairs(layers) do
    if not core.is_tensor(layer.scores) then core.fail(("%s: %s has no scores (a tensor)"):format(where, layer.name or "layer " .. i)) end
  end
end

-- How many of the k lowest scores of the layers in `which` stand in each, by index of layer.
local function lowest(layers, which, k)
  local list, found = {}, {}
  for j, i in ipairs(which) do list[j] = layers[i].scores end
  local counts = core.count_lowest(list, k)
  for j, i in ipairs(which) do found[i] = counts[j] end
  return found
end

--- All layers ranked together: the lowest scores of all go. A layer that would lose more than its cap loses its cap, and the others are
-- ranked anew. Scores of different layers must be comparable.
-- @param layers list of { name, shape, cap, scores = tensor with one entry per count }
-- @tparam number total share in 0..1 of all scores together
-- @return list of shares
function allocation.global(layers, total)
  need_scores("allocation global", layers)
  for i, layer in ipairs(layers) do
    if layer.scores:numel() ~= count_of(layer) then
      core.fail(("allocation global: %s has %d scores for a count of %d"):format(layer.name or "layer " .. i, layer.scores:numel(),
        count_of(layer)))
    end
  end
  local left = math.floor(total * check("allocation global", layers, total) + 0.5)
  local gone, open = {}, {}
  for i in ipairs(layers) do open[i] = i end
  repeat
    local found, still = lowest(layers, open, left), {}
    for _, i in ipairs(open) do
      local most = math.floor(cap_of(layers[i]) * count_of(layers[i]) + 1e-6)
      if found[i] > most then
        gone[i], left = most, left - most
      else
        still[#still + 1] = i
      end
    end
    local capped = #still < #open
    open = still
    if not capped then
      for _, i in ipairs(open) do gone[i] = found[i] end
    end
  until not capped
  local shares = {}
  for i, layer in ipairs(layers) do shares[i] = gone[i] / math.max(1, count_of(layer)) end
  return shares
end

--- Share of the scores that are above `threshold` times their mean: OWL's outliers.
-- @param scores a tensor, such as Wanda's
-- @tparam[opt] number threshold 5
-- @treturn number in 0..1
function allocation.outliers(scores, threshold)
  local magnitude = scores:abs():to "f64"
  return magnitude:gt(magnitude:mean():item() * (threshold or 5)):to("f64"):mean():item()
end

--- Outlier-weighed layer-wise sparsity: layers with more outliers among their scores stay denser. The shares lie within `spread` of the
-- total (as far as caps allow), in the order of the outlier shares (OWL; Yin et al., ICML 2024).
-- @param layers list of { name, shape, count, cap, and scores = tensor or outliers = share }
-- @tparam number total share in 0..1 of all counts together
-- @tparam[opt] table options { spread = 0.08, threshold = 5 (an outlier is this often the layer's mean score) }
-- @return list of shares
-- @usage function(layers, total) return allocation.owl(layers, total, { spread = 0.15 }) end
function allocation.owl(layers, total, given)
  local o = options.check("allocation owl", given, { spread = 0.08, threshold = 5 })
  if not is_share(o.spread) then core.fail(("allocation owl: spread must be in 0..1, got %s"):format(tostring(o.spread))) end
  if type(o.threshold) ~= "number" or o.threshold ~= o.threshold or o.threshold <= 0 then
    core.fail(("allocation owl: threshold must be above 0, got %s"):format(tostring(o.threshold)))
  end
  local outliers, low, high = {}, math.huge, -math.huge
  for i, layer in ipairs(layers) do
    if not layer.outliers then need_scores("allocation owl", { layer }) end
    outliers[i] = layer.outliers or allocation.outliers(layer.scores, o.threshold)
    low, high = math.min(low, outliers[i]), math.max(high, outliers[i])
  end
  local scale = high > low and 2 * o.spread / (high - low) or 0
  return meet("allocation owl", layers, total, -1, 2 + 2 * o.spread, function(_, i, level)
    return level - scale * (outliers[i] - low)
  end)
end

-- --- by measurement -------------------------------------------------------------------------------------------------

-- The largest ratio that costs at most `loss`, between the measured points; costs are made to rise with the ratio first.
local function ratio_at(curve, loss)
  if loss < curve[1][2] then return 0 end
  for k = 2, #curve do
    local a, b = curve[k - 1], curve[k]
    if loss < b[2] then return a[1] + (b[1] - a[1]) * (loss - a[2]) / (b[2] - a[2]) end
  end
  return curve[#curve][1]
end

-- A measured curve, sorted and rising strictly, from (0, 0) to (1, more than all).
local function rising(name, points, worst)
  local curve, highest = { { 0, 0 } }, 0
  local sorted = {}
  for k, point in ipairs(points) do
    local ratio, loss = point[1] or point.ratio, point[2] or point.loss
    if not is_share(ratio) or type(loss) ~= "number" or loss ~= loss then
      core.fail(("allocation sensitivity: point %d of %s must be { ratio in 0..1, loss }, got { %s, %s }"):format(k, name, tostring(ratio),
        tostring(loss)))
    end
    sorted[k] = { ratio, loss }
  end
  table.sort(sorted, function(a, b) return a[1] < b[1] end)
  for _, point in ipairs(sorted) do
    highest = math.max(highest, math.min(point[2], worst))
    if point[1] > curve[#curve][1] then curve[#curve + 1] = { point[1], highest + 1e-9 * worst * point[1] } end
  end
  if curve[#curve][1] < 1 then curve[#curve + 1] = { 1, 2 * worst } end
  return curve
end

--- By sensitivity: every layer loses as much as costs the same. Where the total is met, all layers have the same measured rise of the loss,
-- up to caps.
-- @param curves name -> list of { ratio, loss }: how much the loss rises when only this layer loses that share
-- @return an allocation: function(layers, total) -> list of shares
-- @usage allocation.sensitivity { conv1 = { { 0.5, 0.1 }, { 0.9, 2.0 } }, fc = { { 0.5, 0.0 }, { 0.9, 0.1 } } }
function allocation.sensitivity(curves)
  if type(curves) ~= "table" then core.fail("allocation sensitivity: a table of curves by name is needed, got " .. type(curves)) end
  local worst = 0
  for name, points in pairs(curves) do
    if type(points) ~= "table" then core.fail(("allocation sensitivity: the curve of %s must be a list of { ratio, loss }"):format(name)) end
    for _, point in ipairs(points) do
      local loss = type(point) == "table" and (point[2] or point.loss) or 0
      if type(loss) == "number" and loss < math.huge then worst = math.max(worst, loss) end
    end
  end
  worst = worst > 0 and worst or 1
  return function(layers, total)
    local own = {}
    for i, layer in ipairs(layers) do
      if not curves[layer.name] then
        local near = core.nearest(tostring(layer.name), util.keys(curves))
        core.fail(("allocation sensitivity: there is no curve of %s%s"):format(tostring(layer.name),
          near and ("; there is one of " .. near) or ""))
      end
      own[i] = rising(layer.name, curves[layer.name], worst)
    end
    return meet("allocation sensitivity", layers, total, 0, 3 * worst, function(_, i, level) return ratio_at(own[i], level) end)
  end
end

-- --- by name --------------------------------------------------------------------------------------------------------

-- The rules of a table as a list of { pattern, share }, those that are to be asked first in front.
local function rules_of(given)
  if given[1] ~= nil then return given end
  local rules = {}
  for name, share in util.sorted(given) do rules[#rules + 1] = { name, share } end
  table.sort(rules, function(a, b)
    local la, lb = #tostring(a[1]), #tostring(b[1])
    return la > lb or la == lb and tostring(a[1]) < tostring(b[1])
  end)
  return rules
end

local function check_rules(rules)
  for k, rule in ipairs(rules) do
    if type(rule) ~= "table" or type(rule[1]) ~= "string" then
      core.fail(("allocation by name: entry %d must be a name or pattern with its share"):format(k))
    end
    if not is_share(rule[2]) then
      core.fail(("allocation by name: '%s' must have a share in 0..1, got %s"):format(rule[1], tostring(rule[2])))
    end
  end
end

-- A rule that fits no layer is a slip.
local function check_used(rules, layers)
  local names = {}
  for i, layer in ipairs(layers) do names[i] = layer.name end
  for _, rule in ipairs(rules) do
    local fits = false
    for _, name in ipairs(names) do
      local ok, at = pcall(string.find, name, rule[1])
      if not ok and name ~= rule[1] then core.fail(("allocation by name: '%s' is not a pattern: %s"):format(rule[1], at)) end
      fits = fits or name == rule[1] or at ~= nil
    end
    if not fits then
      local near = core.nearest(rule[1], names)
      core.fail(("allocation by name: '%s' fits no layer%s"):format(rule[1], near and ("; did you mean '" .. near .. "'?") or ""))
    end
  end
end

local function share_of(rules, name, whole_first)
  for _, rule in ipairs(whole_first and rules or {}) do
    if rule[1] == name then return rule[2] end
  end
  for _, rule in ipairs(rules) do
    if rule[1] == name or name:find(rule[1]) then return rule[2] end
  end
end

--- Shares by layer name. A key is a whole name or a pattern of Lua found in it; a whole name comes first, then the longer pattern. As a list
-- of { pattern, share } the first that fits wins. Layers that none fits get the total (0 without one); so the shares meet the total
-- only for those.
-- @param by_name { [name or pattern] = share } or list of { pattern, share }
-- @return an allocation: function(layers, total) -> list of shares
-- @usage allocation.by_name { ["^layer4"] = 0.95, fc = 0.5 }
function allocation.by_name(by_name)
  if type(by_name) ~= "table" then core.fail("allocation by name: a table is needed, got " .. type(by_name)) end
  local rules = rules_of(by_name)
  check_rules(rules)
  return function(layers, total)
    check_used(rules, layers)
    local shares = {}
    for i, layer in ipairs(layers) do
      shares[i] = share_of(rules, layer.name, by_name[1] == nil) or total or 0
      if shares[i] > cap_of(layer) then
        core.fail(("allocation by name: %s would lose %.4g, its cap is %.4g"):format(layer.name, shares[i], cap_of(layer)))
      end
    end
    return shares
  end
end

-- --- the option -----------------------------------------------------------------------------------------------------

local named = { uniform = allocation.uniform, erk = allocation.erk, global = allocation.global, owl = allocation.owl }

--- Read an option named `allocation`.
-- @tparam string where the caller's name, for messages
-- @param given a name, a table of shares by name, a function, or nil for uniform
-- @treturn function (layers, total) -> list of shares, which checks what it returns
function allocation.read(where, given)
  local choose = given == nil and allocation.uniform or given
  if type(given) == "string" then
    choose = named[given]
    if not choose then
      local near = core.nearest(given, util.keys(named))
      core.fail(("%s: allocation is %s, a table of shares by name, or a function, got '%s'%s"):format(where,
        table.concat(util.keys(named), ", "), given, near and ("; did you mean '" .. near .. "'?") or ""))
    end
  elseif type(given) == "table" then
    choose = allocation.by_name(given)
  elseif given ~= nil and type(given) ~= "function" then
    core.fail(("%s: allocation is a name, a table of shares by name, or a function, got %s"):format(where, type(given)))
  end
  return function(layers, total)
    local shares = choose(layers, total)
    if type(shares) ~= "table" or #shares ~= #layers then
      core.fail(("%s: the allocation must return a list of %d shares, got %s"):format(where, #layers,
        type(shares) == "table" and #shares .. " of them" or type(shares)))
    end
    for i, share in ipairs(shares) do
      if not is_share(share) then
        core.fail(("%s: the allocation gave %s the share %s; shares are in 0..1"):format(where, layers[i].name or "layer " .. i,
          tostring(share)))
      end
    end
    return shares
  end
end

return allocation
