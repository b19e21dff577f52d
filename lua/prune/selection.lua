-- selection.lua - from groups and their scores to the units that go: counts for a ratio, and the search for a target of costs.
local allocation = require "prune.allocation"
local core = require "prune.core"
local grouping = require "prune.grouping"
local latency = require "prune.latency"
local target = require "prune.target"

local selection = {}

local function floor(x) return math.floor(x + 1e-6) end

-- --- scores ---------------------------------------------------------------------------------------------------------

--- Set entry.scores: one number per unit, as the criterion gives them.
-- @param entries from grouping.collect
-- @param measure from criterion.prepare
function selection.score(entries, measure)
  for _, entry in ipairs(entries) do entry.scores = measure(entry.group) end
end

-- --- limits ---------------------------------------------------------------------------------------------------------

--- Set what each group had at first, what it has lost, and how much of it may go now.
-- @param entries from grouping.collect
-- @param o options max_ratio, min_units
-- @param originals table key -> units at the first step; filled
function selection.set_limits(entries, o, originals)
  for _, entry in ipairs(entries) do
    local key = grouping.key(entry)
    originals[key] = originals[key] or entry.count
    entry.original = originals[key]
    entry.before = entry.original - entry.count
    local most = entry.count
    if o.max_ratio then most = math.min(most, floor(o.max_ratio * entry.original) - entry.before) end
    if o.min_units then most = math.min(most, entry.count - o.min_units) end
    entry.most = math.max(most, 0)
  end
end

-- --- counts ---------------------------------------------------------------------------------------------------------

local function layers_of(entries)
  local layers, own = {}, {}
  for _, entry in ipairs(entries) do
    if not entry.ratio then
      layers[#layers + 1] = { name = entry.name, dim = entry.dim, kind = entry.kind, count = entry.original, shape = entry.shape,
        scores = entry.scores, cap = (entry.before + entry.most) / entry.original }
      own[#own + 1] = entry
    end
  end
  return layers, own
end

-- Kinds with a ratio of their own, by themselves.
local function want_kinds(entries, way)
  for _, entry in ipairs(entries) do
    if entry.ratio then entry.pool, entry.want = 0, math.max(floor(entry.ratio * way * entry.original) - entry.before, 0) end
  end
end

local function want_shares(entries, allocate, ratio)
  local layers, own = layers_of(entries)
  if #layers == 0 then return end
  local counts = allocation.counts(layers, allocate(layers, ratio))
  for i, entry in ipairs(own) do entry.want = math.max(counts[i] - entry.before, 0) end
end

-- Every pool loses floor(ratio n) of the n units that it had at first.
local function want_ratio(entries, ratio)
  local pools = {}
  for _, entry in ipairs(entries) do
    if not entry.ratio then
      local pool = pools[entry.pool] or { first = entry, original = 0, before = 0 }
      pools[entry.pool] = pool
      pool.original, pool.before = pool.original + entry.original, pool.before + entry.before
    end
  end
  for _, pool in pairs(pools) do pool.first.want = math.max(floor(ratio * pool.original) - pool.before, 0) end
end

local POINTS = 64

-- The most that caps allow of all layers together.
local function most_of(layers)
  local all, most = 0, 0
  for _, layer in ipairs(layers) do all, most = all + layer.count, most + layer.cap * layer.count end
  return all > 0 and most / all or 0
end

-- What an allocation gives each layer as the whole goes from 0 to all: shares at even distances, made to rise.
local function set_curves(entries, allocate)
  local layers, own = layers_of(entries)
  if #layers == 0 then return end
  local most = most_of(layers)
  for _, entry in ipairs(own) do entry.curve = {} end
  for point = 0, POINTS do
    local shares = allocate(layers, math.min(point / POINTS, most))
    for i, entry in ipairs(own) do entry.curve[point + 1] = math.max(shares[i], entry.curve[point] or 0) end
  end
end

-- --- choosing -------------------------------------------------------------------------------------------------------

-- The units that go; sets entry.positions.
local function select(traced, entries, how)
  local units, outcome, positions = core.select(traced, how, entries)
  for i, entry in ipairs(entries) do entry.positions = positions[i] end
  return units, outcome
end

-- Where pools lost less than they wanted, though nothing is rounded: limits held units back, or the last one of an axis. Raises where they
-- held all, now and in earlier steps. A list of { name =, dim =, kind =, want =, gone = } by pool, named by its first group.
local function held_back(where, entries)
  local pools, order, wanted, gone = {}, {}, 0, 0
  for _, entry in ipairs(entries) do
    local key = entry.pool > 0 and entry.pool or entry
    if not pools[key] then
      pools[key] = { name = entry.name, dim = entry.dim, kind = entry.kind, want = 0, gone = 0 }
      order[#order + 1] = pools[key]
    end
    pools[key].want, pools[key].gone = pools[key].want + entry.want, pools[key].gone + #entry.positions
    gone = gone + entry.before + #entry.positions
  end
  local short = {}
  for _, pool in ipairs(order) do
    wanted = wanted + pool.want
    if pool.gone < pool.want then short[#short + 1] = pool end
  end
  if wanted > 0 and gone == 0 then
    error(("%s: %d units should go, but at most 0 can: limits on groups hold them, and every axis keeps one"):format(where, wanted), 0)
  end
  return short
end

local RESOLUTION = 128

-- The fewest units (to within 1 / RESOLUTION of all) without which the measured latency meets the target. Measurements jitter: what is
-- chosen has been measured to meet it, once.
local function select_latency(where, traced, entries, how, o)
  local inputs, measure = o.inputs, o.measure
  if o.now <= o.amount then
    how.target, how.amount = "units", 0
    local units, outcome = select(traced, entries, how)
    outcome.latency = #units > 0 and latency.without(traced, units, inputs, measure) or o.now
    return units, outcome
  end
  local function try(count)
    how.target, how.amount = "units", count
    local units, outcome = select(traced, entries, how)
    return latency.without(traced, units, inputs, measure), units, outcome
  end
  local total = 0
  for _, entry in ipairs(entries) do total = total + entry.most end
  local low, high = -1, total
  local least = try(high)
  if least > o.amount then
    error(("%s: the target of %.3f ms cannot be met: %.3f ms are left when all units go that may go"):format(where, o.amount, least), 0)
  end
  if o.most then return end
  local step, best = math.max(1, total // RESOLUTION), least
  while high - low > step do
    local middle = (low + high) // 2
    local time = try(middle)
    if time <= o.amount then high, best = middle, time else low = middle end
  end
  how.target, how.amount = "units", high
  local units, outcome = select(traced, entries, how)
  outcome.latency = best
  return units, outcome
end

--- Choose the units that go; sets entry.positions, those of each group.
-- @param where the caller's name, for messages
-- @param traced a graph
-- @param entries from grouping.collect, scored, with pools and limits
-- @param o wanted (from target.read), base (costs at the start), way (share of the way), allocate (or nil), round_to, rounding; for latency
-- inputs, measure and now (what was measured of the graph as it is), and most: only whether the target can be met, nothing is returned
-- @return list of unit numbers
-- @return outcome: macs, params, bytes, latency where it is the target, and for a ratio without rounding short: what limits held back
function selection.choose(where, traced, entries, o)
  local how = { target = "counts", round_to = o.round_to, rounding = o.rounding }
  for _, entry in ipairs(entries) do entry.want, entry.curve = 0, nil end
  want_kinds(entries, o.way)
  local amount = target.at(o.wanted, o.base, o.way)
  if o.wanted.name == "ratio" then
    if o.allocate then want_shares(entries, o.allocate, amount) else want_ratio(entries, amount) end
    local units, outcome = select(traced, entries, how)
    if (o.round_to or 1) == 1 then outcome.short = held_back(where, entries) end
    return units, outcome
  end
  if o.allocate then set_curves(entries, o.allocate) end
  if o.wanted.name == "latency" then
    return select_latency(where, traced, entries, how, { amount = amount, inputs = o.inputs, measure = o.measure, now = o.now,
      most = o.most })
  end
  how.target, how.amount = o.wanted.name, amount
  return select(traced, entries, how)
end

return selection
