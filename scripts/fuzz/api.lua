-- api.lua - random calls into the whole Lua API: wrong types and shapes, closed handles, huge and negative numbers, nan, cyclic
-- tables, functions that raise. Whatever happens, the program must not crash, hang or corrupt memory; errors are what is hoped for.
--
--   prunelua scripts/fuzz/api.lua [--calls 5000] [--seed 1] [--seconds 1] [--only NAME] [--trace] [--errors] [--strict]
--
-- Every public function reachable from `require "prune"` is called, and every method and metamethod of the tensors, modules, graphs,
-- optimisers and other objects that those calls give back: they join the pool that later arguments are drawn from. The same seed makes
-- the same calls. A quarter of the calls make sense (sensible.lua), of which one or two arguments may be spoilt, so that what lies behind
-- the checks is reached too. --trace prints each call before it is made, so the last line names the one that crashed; --errors prints what
-- each raised; --only keeps to functions whose path contains NAME. Errors that speak of Lua's own mishaps ("attempt to index a nil value")
-- instead of the caller's mistake are listed at the end; with --strict they fail the run.
--
-- scripts/fuzz/run runs this under the sanitizers in a scratch folder. Sizes are bounded by what the generator draws and by the
-- allocation limit of AddressSanitizer that run sets.
local option = { calls = 5000, seed = 1, only = "", trace = false, errors = false, strict = false, seconds = 1 }
do
  local i = 1
  while arg[i] do
    local name = arg[i]:match "^%-%-(.+)"
    if option[name] == nil then error("unknown option " .. arg[i], 0) end
    if option[name] == false then
      option[name] = true
    else
      i = i + 1
      option[name] = type(option[name]) == "number" and assert(tonumber(arg[i]), "a number belongs after --" .. name) or arg[i]
    end
    i = i + 1
  end
end

math.randomseed(option.seed)
local random = math.random
local function chance(percent) return random(100) <= percent end
local function pick(list) return list[random(#list)] end

package.path = (arg[0] or ""):gsub("[^/]*$", "") .. "?.lua;" .. package.path
local real_exit, real_print, clock = os.exit, print, os.clock
local prune = require "prune"

-- A program that ends itself or talks would end or drown the run; everything else is called as it is.
os.exit = function() error("os.exit was called", 0) end -- luacheck: ignore 122
print = function() end -- luacheck: ignore 121

-- --- what there is to call ---------------------------------------------------------------------------------------------

-- Paths that the walk leaves out: they wait for a person, or hold methods that are met on objects.
local left_out = { ["prune.repl"] = true, ["prune.nn.Module"] = true }

local functions, named = {}, {} -- list of { path, function or callable }, and by path
local function add_function(path, f)
  if named[path] or left_out[path] or not path:find(option.only, 1, true) then return end
  named[path] = true
  functions[#functions + 1] = { path = path, f = f }
end

local function callable(value)
  local meta = type(value) ~= "function" and getmetatable(value)
  return type(value) == "function" or (type(meta) == "table" and meta.__call ~= nil)
end

local function sorted_keys(t)
  local keys = {}
  for key in next, t do
    if type(key) == "string" then keys[#keys + 1] = key end
  end
  table.sort(keys)
  return keys
end

local walked = {}
local function walk(path, t, depth)
  if walked[t] or depth > 4 then return end
  walked[t] = true
  for _, key in ipairs(sorted_keys(t)) do
    local value, inner = rawget(t, key), path .. "." .. key
    if key:find "^_" then goto continue end
    if callable(value) then
      add_function(inner, value) -- a class; its methods are met on its objects
    elseif type(value) == "table" and not left_out[inner] then
      walk(inner, value, depth + 1)
    end
    ::continue::
  end
end

-- Modules may be loaded on first use: reading each name that help or completion knows is enough, and so is asking the loader.
for _, name in ipairs { "nn", "optim", "data", "models", "mask", "schedule", "regularizer", "criterion", "io", "onnx" } do
  pcall(function() return prune[name] end)
end
walk("prune", prune, 1)

-- The methods of an object: everything its metatable holds or its __index finds, once per kind of object.
local kinds = {} -- metatable -> list of { path, name } of methods and metamethods
local function kind_name(object, meta)
  local name = rawget(meta, "__name")
  if type(name) ~= "string" then
    local ok, type_name = pcall(function() return object.type or object.class end)
    name = ok and type(type_name) == "string" and type_name or type(object)
  end
  return name
end

local function learn(object)
  local meta = debug.getmetatable(object)
  if type(meta) ~= "table" or kinds[meta] then return meta and kinds[meta] end
  local list, seen, name = {}, {}, kind_name(object, meta)
  local function add(key, value)
    local path = name .. ":" .. key
    if seen[key] or not callable(value) or not path:find(option.only, 1, true) then return end
    seen[key] = true
    list[#list + 1] = { path = path, key = key }
  end
  for _, key in ipairs(sorted_keys(meta)) do
    if key:find "^__" and key ~= "__name" and key ~= "__index" then add(key, rawget(meta, key)) end
  end
  local index, guard = meta, 0
  while type(index) == "table" and guard < 8 do
    guard = guard + 1
    for _, key in ipairs(sorted_keys(index)) do
      if not key:find "^_" then add(key, rawget(index, key)) end
    end
    local above = rawget(index, "__index")
    if above == nil or above == index then
      local upper = debug.getmetatable(index)
      above = upper and upper ~= index and rawget(upper, "__index")
    end
    index = above
  end
  kinds[meta] = list
  return list
end

-- --- the pool of live and dead objects --------------------------------------------------------------------------------

local pool, pool_size = {}, 48
local largest = 20000 -- elements of a tensor that stays in the pool

local function worth_keeping(value)
  local kind = type(value)
  if kind == "userdata" then
    local ok, count = pcall(function() return value:numel() end)
    return not ok or type(count) ~= "number" or count <= largest
  end
  return kind == "table" and debug.getmetatable(value) ~= nil
end

local function keep(value)
  if not worth_keeping(value) then return end
  learn(value)
  if #pool < pool_size then
    pool[#pool + 1] = value
  else
    pool[random(#pool)] = value
  end
end

-- Objects to begin with, so that methods are reached from the first call on; what a build lacks is passed over.
local function seed_pool()
  local function try(f)
    local ok, value = pcall(f)
    if ok then keep(value) end
  end
  local nn = prune.nn
  try(function() return prune.tensor { 1, 2, 3 } end)
  try(function() return prune.tensor { { 1.5, -2 }, { 0, 4 } } end)
  try(function() return prune.zeros { 2, 3, 4, 4 } end)
  try(function() return prune.randn { 2, 1, 8, 8 } end)
  try(function() return prune.ones({ 3 }, { dtype = "i64" }) end)
  try(function() return nn.Linear(4, 3) end)
  try(function() return nn.Conv2d(1, 4, 3, { padding = 1 }) end)
  local net
  try(function()
    net = nn.Sequential(nn.Conv2d(1, 4, 3, { padding = 1 }), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 6, 3), nn.ReLU(),
                        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3))
    return net
  end)
  try(function() return net[1].weight end)
  try(function() return prune.graph(net, { 1, 8, 8 }) end)
  try(function() return prune.graph(net, { 1, 8, 8 }):group(net[1].weight, 1, { 2 }) end)
  try(function() return prune.optim.SGD(net, { lr = 0.1, momentum = 0.9 }) end)
  try(function() return prune.optim.Adam(net, { lr = 0.1 }) end)
  try(function() return prune.schedule.cubic { from = 0, to = 0.5, first = 1, last = 10 } end)
  try(function() return prune.report({ 1, 8, 8 }) end)
  try(function() return (prune.data.load("", { batch = 16, limit = 64 })) end)
end

-- --- arguments --------------------------------------------------------------------------------------------------------

local words = {
  "", "f32", "f64", "i64", "i32", "u8", "bool", "bf16", "cpu", "cuda", "meta", "l1", "random", "taylor", "bn_scale", "local", "global",
  "weight", "bias", "0.weight", "1", "mean", "sum", "none", "same", "zeros", "nearest", "bilinear", "Conv2d", "Linear", "auto", "cifar10",
  "no such thing", "%s%n%d", "a\0b", ("x"):rep(5000), "\xff\xfe", "model.h5", "train", "a=b", "--epochs", "nan", "-1",
}
local option_names = {
  "dtype", "device", "requires_grad", "padding", "stride", "dilation", "groups", "bias", "dim", "keepdim", "amount", "sparsity", "ratio",
  "macs", "params", "n", "p", "lr", "momentum", "weight_decay", "nesterov", "betas", "eps", "method", "scope", "round_to", "criterion",
  "batch", "test_batch", "limit", "normalize", "augment", "shuffle", "seed", "workers", "epochs", "validate", "resume", "out", "optimizer",
  "regularizer", "strength", "classes", "channels", "width", "from", "to", "first", "last", "mode", "size", "scale", "training",
  "label_smoothing", "reduction", "heads", "dropout", "hidden", "layers", "bidirectional", "iterative", "steps", "ignore", "max", "shape",
  "gamma", "warmup", "total", "milestones", "loss", "metrics", "step", "accumulate", "clip", "patience", "verbose", "convention",
}
local integers = {
  -1, 0, 1, 1, 2, 2, 3, 3, 4, 5, 7, 8, 9, 16, -2, -7, 64, 100, 255, 256, 1 << 40, 1 << 62, math.maxinteger, math.mininteger, -(1 << 31),
}
local floats = { 0.5, 0.1, 1.0, 2.0, -0.0, 1e-30, 1e308, -1e308, 1 / 0, -1 / 0, 0 / 0, 3.7, 2.0 ^ 53, 1e18 }

local argument

-- Shapes stay small: at most one of their numbers is drawn from the wild ones.
local function shape()
  local list = {}
  for i = 1, random(0, 5) do list[i] = random(0, 4) end
  if #list > 0 and chance(25) then list[random(#list)] = pick(integers) end
  if #list > 0 and chance(5) then list[random(#list)] = argument(3) end
  return list
end

local function nested_numbers(depth)
  local list = {}
  for i = 1, random(0, 4) do
    list[i] = depth > 1 and chance(60) and nested_numbers(depth - 1) or (chance(80) and random(-3, 9) or argument(3))
  end
  return list
end

local function options(depth)
  local list = {}
  for _ = 1, random(0, 4) do list[pick(option_names)] = argument(depth + 1) end
  return list
end

local function cyclic()
  local t = { 1, 2 }
  t[3], t.self = t, t
  return setmetatable(t, chance(30) and t or nil)
end

local function hostile()
  return setmetatable({}, { __index = function() error "an index that raises" end, __len = function() return -1 end })
end

local functions_to_pass = {
  function() end,
  function(...) return ... end,
  function() return 1.5 end,
  function() error "an error of the caller's function" end,
  function() error({}) end,
  function() return pick(pool) end,
  function() collectgarbage() return 0 end,
  function() coroutine.yield(1) end,
  function(x) return x:sum() end,
}

local makers = {
  { 30, function() return pick(pool) end },
  { 14, function() return pick(integers) end },
  { 6, function() return pick(floats) end },
  { 10, function() return pick(words) end },
  { 12, shape },
  { 6, function() return nested_numbers(3) end },
  { 10, options },
  { 3, function() return chance(50) end },
  { 3, function() return nil end },
  { 3, function() return pick(functions_to_pass) end },
  { 2, cyclic },
  { 2, function(depth) local list = {} for i = 1, random(0, 3) do list[i] = argument(depth + 1) end return list end },
  { 1, function() return coroutine.create(function() end) end },
  { 1, hostile },
  { 1, io.tmpfile },
}
local total_weight = 0
for _, maker in ipairs(makers) do total_weight = total_weight + maker[1] end

function argument(depth)
  depth = depth or 1
  if depth > 4 then return random(0, 4) end
  local at = random(total_weight)
  for _, maker in ipairs(makers) do
    at = at - maker[1]
    if at <= 0 then return maker[2](depth) end
  end
end

-- --- calls that make sense --------------------------------------------------------------------------------------------

local sensible = require "sensible" { prune = prune, random = random, chance = chance, pick = pick, pool = function() return pool end,
  sorted_keys = sorted_keys, argument = function() return argument() end, functions = functions_to_pass }

local sensible_paths = {}
for _, path in ipairs(sorted_keys(sensible)) do
  if path:find(option.only, 1, true) then sensible_paths[#sensible_paths + 1] = path end
end

-- One value of the arguments, or of the tables among them, becomes something else.
local function spoil(arguments)
  local at = arguments.n > 0 and random(arguments.n) or nil
  local inner = at and arguments[at]
  if type(inner) == "table" and debug.getmetatable(inner) == nil and next(inner) ~= nil and chance(75) then
    local keys = {}
    for key in next, inner do keys[#keys + 1] = key end
    table.sort(keys, function(a, b) return tostring(a) < tostring(b) end)
    local copy = {}
    for key, value in next, inner do copy[key] = value end
    copy[pick(keys)] = argument(2)
    arguments[at] = copy
  elseif at then
    arguments[at] = argument()
  end
end

-- A trainer of the pool, to be trained with.
local function some_trainer()
  for _, object in ipairs(pool) do
    if debug.getmetatable(object) == prune.Trainer then return object end
  end
end

local function sensible_call()
  local path = pick(sensible_paths)
  local f, object
  if path == "Trainer:fit" then
    object = some_trainer()
    if not object then path = "prune.Trainer" end
    f = object and prune.Trainer.fit
  end
  if path:find "^scenario" then return path, sensible[path], table.pack() end
  if not f then
    f = prune
    for word in path:sub(#"prune." + 1):gmatch "[^.]+" do f = f[word] end
  end
  local ok, arguments = pcall(function() return table.pack(sensible[path](object)) end)
  if not ok then arguments = table.pack(argument()) end -- what makes them may meet a spoilt model
  while chance(30) do spoil(arguments) end
  return path, f, arguments
end

-- --- calls ------------------------------------------------------------------------------------------------------------

local function show(value, depth)
  if type(value) == "string" then return ("%q"):format(#value > 40 and value:sub(1, 40) .. "..." or value) end
  if type(value) == "number" or value == nil or type(value) == "boolean" then return tostring(value) end
  if type(value) ~= "table" or debug.getmetatable(value) or depth > 2 then return type(value) end
  local parts = {}
  for key, inner in next, value do parts[#parts + 1] = (math.type(key) and "" or tostring(key) .. " = ") .. show(inner, depth + 1) end
  return "{ " .. table.concat(parts, ", ") .. " }"
end

local function describe(path, arguments)
  local parts = {}
  for i = 1, arguments.n do parts[i] = show(arguments[i], 1) end
  return path .. "(" .. table.concat(parts, ", ") .. ")"
end

-- What to call next, and the object to call it on.
local function next_call()
  if #pool > 0 and (chance(60) or #functions == 0) then
    local object = pick(pool)
    local list = learn(object)
    if list and #list > 0 then
      local method = pick(list)
      return method.path, method.key, object
    end
  end
  local chosen = pick(functions)
  if chosen then return chosen.path, chosen.f, nil end
end

local function method_of(object, key)
  if key:find "^__" then return debug.getmetatable(object)[key] end
  return object[key]
end

local mishaps, counts = {}, { ok = 0, errors = 0 }
local function note_error(path, reason)
  counts.errors = counts.errors + 1
  local text
  if type(reason) == "string" then
    text = reason
  else
    local ok, shown = pcall(tostring, reason)
    text = ok and shown or "an error that cannot be shown"
  end
  if option.errors then io.stderr:write(path, ": ", text:match "[^\n]*", "\n") end
  local mishap = text:match "attempt to [^\n]*" or text:match "bad argument #%d+ to '[^\n]*for [^\n]*" or text:match "stack overflow"
  if mishap and not text:find("api.lua", 1, true) then
    mishaps[#mishaps + 1] = path .. ": " .. text:match "[^\n]*"
  end
end

-- Loops in Lua are stopped after --seconds, inside coroutines too where the call makes none of its own. The clock stops inside of the
-- protected call: the hook may run between its end and that of this function too, where nothing would catch its error.
local function limited(f, ...)
  local stop = clock() + option.seconds
  local function over(...)
    stop = math.huge
    return ...
  end
  debug.sethook(function()
    if clock() > stop then
      debug.sethook()
      error("stopped: it takes too long", 0)
    end
  end, "", 500)
  local results = table.pack(xpcall(function(...) return over(f(...)) end, over, ...))
  debug.sethook()
  return results
end

seed_pool()
if #functions == 0 and #pool == 0 then error("nothing to call: --only " .. option.only .. " names nothing", 0) end

local called = {}
for _ = 1, option.calls do
  local path, f, object, arguments
  if #sensible_paths > 0 and chance(25) then
    path, f, arguments = sensible_call()
  else
    path, f, object = next_call()
    arguments = table.pack()
    for i = 1, path and random(0, chance(80) and 3 or 6) or 0 do arguments[i], arguments.n = argument(), i end
  end
  if path then
    if option.trace then io.stderr:write(describe(path, arguments), "\n") end
    called[path] = true
    local results
    if object ~= nil then
      local first = chance(97) and object or argument() -- a method with somebody else's self
      results = limited(function(...) return method_of(object, f)(first, ...) end, table.unpack(arguments, 1, arguments.n))
    else
      results = limited(f, table.unpack(arguments, 1, arguments.n))
    end
    if results[1] then
      counts.ok = counts.ok + 1
      for i = 2, math.min(results.n, 4) do keep(results[i]) end
    else
      note_error(path, results[2])
    end
    if chance(2) then collectgarbage() end
    if chance(2) and #pool > 8 then table.remove(pool, random(#pool)) end
    if #pool < 12 then seed_pool() end
  end
end

pool = {}
collectgarbage()
collectgarbage()
os.exit, print = real_exit, real_print -- luacheck: ignore 121 122

local reached = 0
for _ in pairs(called) do reached = reached + 1 end
table.sort(mishaps)
local shown = 0
for i, text in ipairs(mishaps) do
  if text ~= mishaps[i - 1] then
    shown = shown + 1
    if shown <= 40 then io.stderr:write("unclear: ", text:sub(1, 300), "\n") end
  end
end
print(("seed %d: %d calls of %d functions and methods, %d succeeded, %d raised, %d of them unclear"):format(
  option.seed, option.calls, reached, counts.ok, counts.errors, #mishaps))
os.exit(reached > 0 and not (option.strict and #mishaps > 0), true)
