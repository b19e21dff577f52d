--- Recipes: a training with pruning as a table of stages, resumable between and within stages.
--
--     return {
--       data = { "", batch = 64 }, model = { "cnn", width = 16 }, seed = 1, out = "runs/recipe",
--       stages = {
--         { "train", epochs = 6, optimizer = { "SGD", lr = 0.05, momentum = 0.9 }, schedule = { "cosine", epochs = 6 } },
--         { "prune", macs = 0.5, criterion = { "magnitude", p = 2 }, scope = "global" },
--         { "batch_norm" },
--         { "tune", epochs = 3, optimizer = { "SGD", lr = 0.02, momentum = 0.9 }, distill = { teacher = "train" } },
--       },
--     }
--
-- `prunelua -m prune.recipe FILE` runs it; stopped with Ctrl-C or killed, the same command goes on where it was. Stages that were put in, taken out
-- or moved, and those behind them, are done anew; one that was run with other options is refused. Things with options are
-- tables with a name in front: optimizer (prune.optim), schedule (prune.schedule), loss (prune.nn.functional), regularizer
-- (prune.regularizer), sparsity (prune.sparse), criterion (prune.criterion).
--
-- Fields: data: path and options of prune.data.load; model: name and options of prune.models (classes and channels are the data's), or a
-- file (.h5); seed; out: folder for a checkpoint of each stage, metrics.csv and final.h5; stages.
--
-- Stages (all take name, by default their kind):
--   train, tune: epochs, optimizer, schedule, schedule_by, loss, regularizer, sparsity, distill (teacher: an earlier stage, meaning the model behind it,
--     or a file), snapshot (for rewind), accumulate, clip, patience: as in prune.Trainer;
--   prune: the options of prune.structured, fold and reconstruct (batches, ridge, positions) of plan:apply; what needs data gets the training
--     data; with steps also stages: those behind each step, with -1, -2, ... behind their names;
--   depth: the options of prune.depth but data, which is the training data;
--   mask: sparsity or amount, scope = "global" or "local", method = "l1" or "random", ignore = list of name patterns;
--   batch_norm: running statistics anew (prune.repair.batch_norm): batches;
--   rewind: to = stage with a snapshot (prune.lottery);
--   repeat: times, stages: the same stages several times, with -1, -2, ... behind their names.
local core = require "prune.core"
local literal = require "prune.literal"
local options = require "prune.options"
local stages = require "prune.recipe.stages"
local util = require "prune.util"

local recipe = {}
local none = options.none

local function is_there(path)
  local file = io.open(path, "rb")
  if file then file:close() end
  return file ~= nil
end

-- --- reading --------------------------------------------------------------------------------------------------------

--- Read a recipe from a file: a text that returns a table and can do nothing else, since it sees no global name.
-- @tparam string path
-- @treturn table
function recipe.read(path)
  local chunk, why = loadfile(path, "t", {})
  if not chunk then core.fail(("recipe: %s"):format(why)) end
  local ok, result = pcall(chunk)
  if not ok then core.fail(("recipe: %s (a recipe is a table; it sees no functions of Lua)"):format(result)) end
  if type(result) ~= "table" then core.fail(("recipe: %s must return a table, it returns %s"):format(path, type(result))) end
  return result
end

local function known_kinds()
  local known = util.keys(stages.kinds)
  known[#known + 1] = "repeat"
  return known
end

-- References to stages inside a repetition mean those of the same round.
local function in_round(given, names, round)
  local copy = {}
  for key, value in pairs(given) do copy[key] = value end
  if names[copy.to] then copy.to = ("%s-%d"):format(copy.to, round) end
  if type(copy.distill) == "table" and names[copy.distill.teacher] then
    copy.distill = stages.own_options(copy.distill)
    copy.distill.teacher = ("%s-%d"):format(copy.distill.teacher, round)
  end
  return copy
end

local flatten

-- The stages of each of several rounds; `first`, where given, makes the stage in front of them.
local function flatten_rounds(where, inner, times, list, suffix, first)
  local names = {}
  for _, stage in ipairs(inner) do
    local name = type(stage) == "table" and (stage.name or stage[1])
    if name then names[name] = true end
  end
  for round = 1, times do
    local own = {}
    for i, stage in ipairs(inner) do own[i] = type(stage) == "table" and in_round(stage, names, round) or stage end
    local numbered = ("%s-%d"):format(suffix, round)
    if first then list[#list + 1] = first(numbered) end
    flatten(own, where, list, numbered)
  end
end

local function flatten_repeat(given, at, list, suffix)
  local o = options.check(at .. " (repeat)", stages.own_options(given), { times = none, stages = none, name = none })
  options.count(at .. " (repeat)", "times", o.times)
  if type(o.stages) ~= "table" or #o.stages == 0 then core.fail(("%s (repeat): stages must be a list of stages"):format(at)) end
  flatten_rounds(at, o.stages, o.times, list, suffix)
end

-- A stage 'prune' with steps: each step, and the stages behind it.
local function flatten_steps(own, at, list, suffix)
  local name, inner = tostring(own.name or "prune"), own.stages or {}
  options.count(at .. " (prune)", "steps", own.steps)
  if type(inner) ~= "table" then core.fail(("%s (prune): stages must be a list of stages, those behind each step"):format(at)) end
  own.name, own.stages = nil, nil
  flatten_rounds(at, inner, own.steps, list, suffix, function(numbered)
    return { kind = "prune", name = name .. numbered, series = name .. suffix, options = own,
      where = ("%s (prune '%s')"):format(at, name .. numbered) }
  end)
end

-- The stages one after another as { kind =, name =, options = , where = }.
function flatten(given, where, list, suffix)
  for i, stage in ipairs(given) do
    local at = ("%s%d"):format(where == "" and "recipe: stage " or where .. ".", i)
    local kind = type(stage) == "table" and stage[1]
    if kind == "repeat" then
      flatten_repeat(stage, at, list, suffix)
    elseif kind == "prune" and stage.steps ~= nil then
      flatten_steps(stages.own_options(stage), at, list, suffix)
    elseif not stages.kinds[kind] then
      local near = type(kind) == "string" and core.nearest(kind, known_kinds())
      core.fail(('%s: a stage is a table with its kind in front, such as { "train", epochs = 3 }; the kinds are %s; got %s%s'):format(at,
        table.concat(known_kinds(), ", "), tostring(kind), near and ("; did you mean '" .. near .. "'?") or ""))
    else
      local own = stages.own_options(stage)
      local name = tostring(own.name or kind) .. suffix
      own.name = nil
      list[#list + 1] = { kind = kind, name = name, options = own, where = ("%s (%s '%s')"):format(at, kind, name) }
    end
  end
  return list
end

local function check_names(list)
  local seen = {}
  for _, stage in ipairs(list) do
    if not stage.name:match "^[%w_][%w_.-]*$" then
      core.fail(("%s: a stage's name becomes that of a file: letters, digits and _ . - only"):format(stage.where))
    end
    if seen[stage.name] then
      core.fail(("%s: %s has the same name; give one of them option name"):format(stage.where, seen[stage.name]))
    end
    seen[stage.name] = stage.where
  end
end

-- --- running a stage ------------------------------------------------------------------------------------------------

local function call(context, stage)
  local results = table.pack(pcall(stages.kinds[stage.kind], context, stage))
  if not results[1] then -- without the place in prunelua's own modules
    error(("%s: %s"):format(stage.where, (tostring(results[2]):gsub("^prune/[%w_/]+%.lua:%d+: ", ""))), 0)
  end
  return table.unpack(results, 2, results.n)
end

local function measure(context)
  local profile = require("prune.graph").profile(context.net, context.shape)
  local row = { params = profile.params, macs = profile.macs, sparsity = profile.sparsity }
  if not context.dry then
    row.test = require "prune.trainer"(context.net, { step = function() end, quiet = true }):evaluate(context.test)
  end
  return row
end

-- Models that stages name as teachers are kept.
local function keep_end(context, stage, list)
  context.done[#context.done + 1] = stage.name
  for _, other in ipairs(list) do
    local distill = other.options.distill
    if type(distill) == "table" and distill.teacher == stage.name then
      context.ends[stage.name] = context.ends[stage.name] or context.net:clone()
    end
  end
end

local function build(data, given)
  local models = require "prune.models"
  local name = type(given) == "table" and given[1] or given
  if require("prune.nn.module").is_module(given) then return given end
  if type(name) ~= "string" then
    core.fail(('recipe: model is a name with options, such as { "resnet20" }, or a file (.h5), got %s'):format(type(given)))
  end
  if name:match "%.h5$" then return require("prune.checkpoint").load(name):train() end
  local more = { classes = data.classes }
  if data.shape[1] ~= 3 then more.channels = data.shape[1] end
  local ok, made = pcall(function() return models[name] end)
  if not ok then core.fail("recipe: model: " .. tostring(made):gsub("^.-prune%.models has no", "there is no")) end
  return made(stages.own_options(given, more))
end

-- Everything that the stages ask for is made once on a copy of the model, before the first step.
local function dry_run(context, list)
  local seed, at = core.random_state()
  local scratch = { net = context.net:clone(), shape = context.shape, train = context.train, done = {}, ends = {}, tickets = {}, pruners = {},
    dry = true, quiet = true }
  local rows = {}
  for i, stage in ipairs(list) do
    call(scratch, stage)
    keep_end(scratch, stage, list)
    rows[i] = measure(scratch)
  end
  core.restore_random_state(seed, at)
  return rows
end

-- --- what was run before --------------------------------------------------------------------------------------------

-- What can be written down of a value: functions and objects by their kind.
local function plain(value)
  if type(value) == "table" and getmetatable(value) == nil then
    local copy = {}
    for key, v in pairs(value) do copy[key] = plain(v) end
    return copy
  end
  local kind = type(value)
  return (kind == "number" or kind == "string" or kind == "boolean") and value or kind
end

-- The first difference of two plain values, as text; nil where there is none.
local function difference(old, new, path)
  if type(old) == "table" and type(new) == "table" then
    local both = {}
    for key in pairs(old) do both[key] = true end
    for key in pairs(new) do both[key] = true end
    for key in util.sorted(both) do
      local found = difference(old[key], new[key], path == "" and tostring(key) or path .. "." .. tostring(key))
      if found then return found end
    end
  elseif old ~= new then
    return ("%s was %s, now %s"):format(path, type(old) == "table" and "{...}" or tostring(old), type(new) == "table" and "{...}" or
      tostring(new))
  end
end

local function files_of(out, stage)
  return { ("%s/%s.checkpoint.h5"):format(out, stage.name), ("%s/%s.snapshot.h5"):format(out, stage.name) }
end

local function forget(out, list, first)
  for i = first, #list do
    for _, path in ipairs(files_of(out, list[i])) do os.remove(path) end
  end
end

-- Which stage it is: one that has no checkpoint of its own ('rewind') with what it does.
local function place_of(stage)
  return ("%s %s%s"):format(stage.kind, stage.name, stage.kind == "rewind" and " to " .. tostring(stage.options.to) or "")
end

-- Number of the first stage that is not the one that was run in its place; it and those behind it must be done anew.
local function first_moved(list, order)
  for i, stage in ipairs(type(order) == "table" and list or {}) do
    if order[i] ~= nil and order[i] ~= place_of(stage) then return i end
  end
  return #list + 1
end

-- Stages that were run with other options must not be taken for these. More epochs are no other options.
local function compare_with_last(o, list)
  local path, now = o.out .. "/recipe.txt", { data = plain(o.data), model = plain(o.model), seed = o.seed, stages = {}, order = {} }
  for i, stage in ipairs(list) do
    now.stages[stage.name], now.order[i] = plain(stage.options), place_of(stage)
    now.stages[stage.name].epochs = nil
  end
  if is_there(path) then
    local file <close> = assert(io.open(path, "rb"))
    local ok, last = pcall(literal.read, file:read "a")
    local moved = first_moved(list, ok and last.order)
    for i, stage in ipairs(ok and list or {}) do
      if i < moved and is_there(files_of(o.out, stage)[1]) then
        local what = difference({ last.data, last.model, last.seed, last.stages[stage.name] },
          { now.data, now.model, now.seed, now.stages[stage.name] }, "")
        if what then
          what = what:gsub("^(%d)%.?", { ["1"] = "data.", ["2"] = "model.", ["3"] = "seed ", ["4"] = "" })
          core.fail(("%s was run with other options: %s. Give another out, or start again (option restart, --restart)"):format(stage.where,
            what))
        end
      end
    end
    forget(o.out, list, moved)
  end
  util.make_folder(path)
  util.write_file(path, literal.write(now))
end

-- --- the whole ------------------------------------------------------------------------------------------------------

local function say(o, ...)
  if not o.quiet then io.stdout:write(...):flush() end
end

local function table_of(rows)
  local thousands, aligned = require("prune.graph").thousands, require("prune.graph").aligned
  local lines = { { "stage", "params", "MACs", "sparsity", "accuracy" } }
  for _, row in ipairs(rows) do
    lines[#lines + 1] = { row.name, thousands(row.params), thousands(row.macs), ("%.1f%%"):format(100 * row.sparsity),
      row.test and ("%.2f%%"):format(100 * row.test.accuracy) or "" }
  end
  local out = aligned(lines, { false, true, true, true, true })
  table.insert(out, 2, ("-"):rep(#out[1]))
  return table.concat(out, "\n") .. "\n"
end

local function run(o, context, list)
  local rows = {}
  for i, stage in ipairs(list) do
    say(o, ("stage %d/%d: %s%s\n"):format(i, #list, stage.kind, stage.name ~= stage.kind and " " .. stage.name or ""))
    local worked = call(context, stage)
    if worked and o.out then forget(o.out, list, i + 1) end -- what follows must be done anew
    keep_end(context, stage, list)
    rows[i] = measure(context)
    rows[i].name, rows[i].kind = stage.name, stage.kind
    if worked == false and stage.kind ~= "train" and stage.kind ~= "tune" then say(o, ("%s: was done\n"):format(stage.name)) end
  end
  say(o, "\n", table_of(rows))
  if o.out then require("prune.checkpoint").save(o.out .. "/final.h5", context.net, { shape = context.shape }) end
  return rows
end

--- Run a recipe, or go on with it: what is finished is taken from the folder `out`. Before the first step all stages are checked on a copy of the
-- model: options, names, targets. It ends with a table of parameters, MACs, sparsity and accuracy behind each stage.
-- @param given a table (see prune.recipe) or the path of a file that returns one. In a table, things with options may also be objects and functions
-- @param options { restart = false: forget what is finished; check = false: check only; quiet = false; out = folder, in the place of the recipe's }
-- @return { net = the module at the end, rows = list of { name =, kind =, params =, macs =, sparsity =, test = { loss =, accuracy = } } }
-- @usage local result = prune.recipe.run "recipe.lua"; print(result.net)
function recipe.run(given, how)
  if type(given) == "string" then given = recipe.read(given) end
  if type(given) ~= "table" then core.fail("prune.recipe: a table or the path of a file is needed, got " .. type(given)) end
  local h = options.check("prune.recipe", how, { restart = false, check = false, quiet = false, out = none })
  for _, name in ipairs { "restart", "check", "quiet" } do options.choice("prune.recipe", name, h[name], { true, false }) end
  local o = options.check("recipe", given, { data = none, model = none, seed = 0, out = none, stages = none })
  o.out, o.quiet = h.out or o.out, h.quiet
  if o.out ~= nil and type(o.out) ~= "string" then core.fail("recipe: out is the path of a folder, got " .. type(o.out)) end
  if o.model == nil then core.fail "recipe: field 'model' must be given, such as { \"resnet20\" }" end
  if type(o.stages) ~= "table" or #o.stages == 0 then core.fail "recipe: field 'stages' must be a list of stages" end
  local list = flatten(o.stages, "", {}, "")
  check_names(list)
  core.seed(o.seed)
  local context = { out = o.out, quiet = o.quiet, done = {}, ends = {}, tickets = {}, pruners = {} }
  if type(o.data) == "table" and o.data.batches then
    core.fail "recipe: data is a path with options, such as { \"\", batch = 64 }, as for prune.data.load"
  end
  local path = type(o.data) == "table" and o.data[1] or o.data or ""
  context.train, context.test = require("prune.data").load(path, stages.own_options(o.data))
  context.shape = context.train.shape
  context.net = build(context.train, o.model)
  local planned = dry_run(context, list)
  if h.check then
    for i, stage in ipairs(list) do planned[i].name, planned[i].kind = stage.name, stage.kind end
    say(o, table_of(planned))
    return { net = context.net, rows = planned }
  end
  if o.out and h.restart then forget(o.out, list, 1) end
  if o.out then compare_with_last(o, list) end
  return { rows = run(o, context, list), net = context.net }
end

-- --- as a program ---------------------------------------------------------------------------------------------------

local function main(path, ...)
  local usage = "usage: prunelua -m prune.recipe FILE [--check] [--restart] [--out FOLDER]"
  if not path or path == "--help" or path:sub(1, 1) == "-" then
    io.stderr:write(usage, "\n")
    os.exit(path == "--help" and 0 or 2, true)
  end
  local given = require "prune.cli"({ check = false, restart = false, out = "" }, { ... })
  local ok, why = pcall(recipe.run, path, { check = given.check, restart = given.restart, out = given.out ~= "" and given.out or nil })
  if ok then return end
  io.stderr:write((tostring(why):gsub("^prune/[%w_/]+%.lua:%d+: ", "")), "\n") -- without the place in prunelua's own modules
  os.exit(1, true)
end

if (...) ~= "prune.recipe" then return main(...) end

return setmetatable(recipe, { __call = function(_, ...) return recipe.run(...) end })
