-- networks.lua - random networks under pruning; scripts/fuzz/networks says what it does and how it is called.
package.path = (arg and arg[0] or ""):gsub("[^/]*$", "") .. "?.lua;" .. package.path
local core = require "prune.core"
local prune = require "prune"
local network = require "network"
local steps = require "steps"
local watched = require "watched"
require "steps_shape"(steps)
require "steps_block"(steps)

local F = prune.nn.functional
local networks = {}

-- --- the generator -------------------------------------------------------------------------------------------------

local LARGEST, RANK = 4000, 5

local function generator(random)
  local g = { values = {}, steps = {}, everything = {} }
  function g.random(low, high) return high and random(low, high) or random(low) end
  function g.chance(share) return random() < share end
  function g.pick(list) return #list > 0 and list[random(#list)] or nil end
  function g.axis(x) return random(2, #x.shape) end
  function g.own(thing)
    g.current[#g.current + 1] = thing
    return thing
  end
  g.module = function(module) return g.own(module:to "f64") end
  function g.buffer(t) return g.own(core.buffer(t)) end
  g.constant = g.own

  -- A new parameter, at times one that is there.
  function g.parameter(shape)
    local key = table.concat(shape, ",")
    local known = g.everything[key]
    if known and g.chance(0.06) then return g.own(known[random(#known)]) end
    local fan = 1
    for d = 2, #shape do fan = fan * shape[d] end
    local p = core.parameter((core.randn(shape) / math.sqrt(math.max(fan, 1)) + (fan == 1 and 0.5 or 0)):to "f64")
    g.fresh[#g.fresh + 1] = { key, p }
    return g.own(p)
  end

  -- A value that fits; recent ones are likelier.
  function g.other(test)
    local fits = {}
    for _, v in ipairs(g.values) do
      if not v.tokens and test(v) then fits[#fits + 1] = v end
    end
    return #fits > 0 and fits[math.max(random(#fits), random(#fits))] or nil
  end
  function g.tokens()
    for _, v in ipairs(g.values) do
      if v.tokens then return v end
    end
  end
  function g.owned(test)
    local fits = {}
    for _, step in ipairs(g.steps) do
      for _, thing in ipairs(step.own) do
        if core.is_tensor(thing) and thing.is_parameter and test(thing) then fits[#fits + 1] = thing end
      end
    end
    return g.pick(fits)
  end
  function g.step(shape)
    local fits = {}
    for _, step in ipairs(g.steps) do
      if #step.own > 0 and #step.from == 1 and table.concat(step.shape, ",") == table.concat(shape, ",") then fits[#fits + 1] = step end
    end
    return g.pick(fits)
  end
  return g
end

local function usable(t)
  if not core.is_tensor(t) or t.dtype ~= "f64" or t:dim() < 2 or t:dim() > RANK or t:numel() > LARGEST or t:size(1) ~= 2 then return false end
  local largest = t:abs():amax():item()
  return largest < 1e4 and largest == largest
end

-- Build a step on x and run it on numbers; true when it became part of the program.
local function try(g, kind, x)
  g.current, g.fresh = {}, {}
  local step = kind.build(g, x)
  if not step then return false end
  local given = {}
  for i, v in ipairs(step.from) do given[i] = v.tensor end
  local results = table.pack(pcall(prune.no_grad, function() return step.f(g.current, table.unpack(given)) end))
  if not results[1] then
    if networks.verbose then print("not possible: " .. step.text .. ": " .. tostring(results[2])) end
    return false
  end
  table.remove(results, 1)
  local made = results.n - 1
  for i = 1, made do
    if not usable(results[i]) then return false end
  end
  local record = { name = kind.name, text = step.text, own = g.current, f = step.f, from = {}, gives = {}, shape = x.shape }
  for i, v in ipairs(step.from) do
    record.from[i] = v.number
    v.used = true
  end
  for i = 1, made do
    local v = { number = #g.values + 1, shape = results[i]:size(), numel = results[i]:numel(), tensor = results[i] }
    g.values[v.number], record.gives[i] = v, v.number
  end
  for _, pair in ipairs(g.fresh) do
    g.everything[pair[1]] = g.everything[pair[1]] or {}
    table.insert(g.everything[pair[1]], pair[2])
  end
  g.steps[#g.steps + 1] = record
  return true
end

local by_name, drawn = {}, {}
for _, kind in ipairs(steps) do
  by_name[kind.name] = kind
  for _ = 1, kind.weight do drawn[#drawn + 1] = kind end
end

local function add_inputs(g)
  local shapes = { { g.pick { 2, 3, 4 }, g.pick { 4, 5 }, 4 }, { g.random(3, 5), g.pick { 4, 6 } }, { g.pick { 4, 6, 8 } } }
  local specs = { { shape = g.pick { shapes[1], shapes[1], shapes[2], shapes[2], shapes[3] }, dtype = "f64" } }
  if g.chance(0.2) then specs[2] = { shape = g.pick(shapes), dtype = "f64" } end
  if g.chance(0.35) then specs[#specs + 1] = { shape = { g.random(3, 4) }, dtype = "i64", max = 7 } end
  for i, spec in ipairs(specs) do
    local v = { number = i, shape = { 2, table.unpack(spec.shape) }, tokens = spec.max ~= nil, whole = spec.max ~= nil, max = spec.max }
    v.tensor = require("prune.graph").examples({ spec }, 2)[1]
    v.numel = v.tensor:numel()
    g.values[i] = v
  end
  return specs
end

-- Axes of values that nothing used are contracted, so that they may lose something although outputs must stay.
local function contract(g, x)
  for axis = 2, #x.shape do
    if g.chance(0.8) then
      g.current, g.fresh = {}, {}
      local n, number = x.shape[axis], x.number
      local last = #x.shape
      local kind = { name = "contract", build = function()
        g.parameter { 2, n }
        return { text = ("linear over axis %d"):format(axis), from = { g.values[number] }, f = function(own, a)
          if axis == last then return F.linear(a, own[1]) end
          return F.movedim(F.linear(F.movedim(a, { source = axis, destination = -1 }), own[1]), { source = -1, destination = axis })
        end }
      end }
      if try(g, kind, x) then x = g.values[#g.values] end
    end
  end
  return x.number
end

--- The program of a seed and a number.
function networks.program(seed, number, length)
  local random = networks.random(seed, number)
  local g = generator(random)
  prune.seed((seed * 1000003 + number) % 2147483647)
  local inputs = add_inputs(g)
  for i = 1, #inputs do -- something to remove right away
    local x = g.values[i]
    local first = x.tokens and { "embedding" } or #x.shape > 2 and { "conv", "linear", "conv" } or { "linear" }
    for _ = 1, 3 do
      if try(g, by_name[g.pick(first)], x) then break end
    end
  end
  local tries = 0
  while #g.steps < length and tries < 20 * length do
    tries = tries + 1
    local n = #g.values
    local x = g.values[g.chance(0.6) and math.max(#inputs + 1, n - random(0, 2)) or random(n)]
    if x and not x.tokens then try(g, drawn[random(#drawn)], x) end
  end
  local outputs, last = {}, #g.values
  for i = #inputs + 1, last do
    if not g.values[i].used then outputs[#outputs + 1] = contract(g, g.values[i]) end
  end
  if #outputs == 0 then outputs[1] = last end
  local shapes = {}
  for i, v in ipairs(g.values) do shapes[i] = v.shape end
  return { steps = g.steps, inputs = inputs, outputs = outputs, shapes = shapes }, random
end

--- A generator of numbers of its own (xorshift64*, Vigna 2016): random() in [0, 1), random(n) in 1..n, random(a, b) in a..b.
function networks.random(seed, number)
  local state = (seed * 0x9E3779B97F4A7C15 + number * 0x2545F4914F6CDD1D) ~ 0x1234567887654321
  if state == 0 then state = 1 end
  local function next_number()
    state = state ~ (state >> 12)
    state = state ~ (state << 25)
    state = state ~ (state >> 27)
    return (state * 0x2545F4914F6CDD1D) >> 33
  end
  for _ = 1, 8 do next_number() end
  return function(low, high)
    if not low then return next_number() / 0x80000000 end
    if not high then low, high = 1, low end
    return low + next_number() % (high - low + 1)
  end
end

-- --- many of them ---------------------------------------------------------------------------------------------------

function networks.tally() return { networks = 0, groups = 0, units = 0, removals = 0, applied = 0, own = 0, ran = {}, shrank = {}, called = {} } end

--- Check one network; nil when it is right, else a text that says what is wrong and shows the smallest network found.
function networks.check(seed, number, length, tally)
  watched.calls = {} -- what is tried and thrown away does not count
  local program, random = networks.program(seed, number, length)
  watched.calls = tally.called
  local ok, message = pcall(network.check, program, random, tally)
  if ok then return nil end
  -- The same numbers again for every smaller network.
  local function again(smaller)
    for k = 1, 4 do network.check(smaller, networks.random(seed * 31 + k, number), networks.tally()) end
  end
  if not pcall(again, program) then program, message = network.minimise(program, message, again) end
  return ("network %d of seed %d: %s\n%s"):format(number, seed, message, network.text(program))
end

-- Operators with a coupling rule.
local function with_rules()
  local list = {}
  for name in next, core.ops do
    if core.describe(name).couples then list[#list + 1] = name end
  end
  table.sort(list)
  return list
end

--- What of the operators that there are was covered: those that can stand in a graph must have stood in one that was checked; those that
-- are put together from others, and those that make constants, must have been called.
-- @return number covered, number known, list of the missing, list of those left out with the reason
function networks.coverage(tally)
  local covered, known, missing, left_out = 0, 0, {}, {}
  for name in next, core.ops do
    local d = core.describe(name)
    local count = (d.composed or d.inputs == "") and tally.called[name] or tally.ran[name]
    known = known + 1
    if count then
      covered = covered + 1
    elseif d.reads_values then
      left_out[#left_out + 1] = name .. " (its shape depends on values: graphs refuse it)"
    else
      missing[#missing + 1] = name
    end
  end
  table.sort(missing)
  table.sort(left_out)
  return covered, known, missing, left_out
end

-- Returns whether every operator was covered that can be.
local function report(tally)
  print(("%d networks, %d groups, %d units; %d removals compared, %d applied (%d through the module's own code)"):format(tally.networks,
    tally.groups, tally.units, tally.removals, tally.applied, tally.own))
  local idle = {}
  print(("  %-30s %6s %6s"):format("operator", "ran", "shrank"))
  for _, name in ipairs(with_rules()) do
    local ran, shrank = tally.ran[name] or 0, tally.shrank[name] or 0
    print(("  %-30s %6d %6d"):format(name, ran, shrank))
    if ran > 0 and shrank == 0 then idle[#idle + 1] = name end
  end
  if #idle > 0 then print("never lost anything: " .. table.concat(idle, " ")) end
  local covered, known, missing, left_out = networks.coverage(tally)
  print(("coverage: %d of %d operators; left out: %s; missing: %s"):format(covered, known, table.concat(left_out, ", "),
    #missing > 0 and table.concat(missing, " ") or "none"))
  return #missing == 0
end

if arg and arg[0] and arg[0]:find "fuzz/networks%.lua$" then
  local opt = prune.cli { networks = 1000, seed = 1, steps = 14, first = 1, verbose = false, going = false }
  networks.verbose = opt.verbose
  prune.threads(1)
  local tally, failures, start = networks.tally(), 0, prune.clock()
  for number = opt.first, opt.first + opt.networks - 1 do
    local wrong = networks.check(opt.seed, number, opt.steps, tally)
    if wrong then
      failures = failures + 1
      print(wrong)
      if not opt.going then break end
    elseif opt.verbose then
      print(network.text((networks.program(opt.seed, number, opt.steps))) .. "\n")
    end
  end
  local complete = report(tally)
  print(("%d failures, %.1f s"):format(failures, prune.clock() - start))
  if failures > 0 or (opt.networks >= 1000 and not complete) then os.exit(1) end
end

return networks
