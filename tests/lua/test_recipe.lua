-- Recipes: stages do what their options say, a run that is stopped anywhere and started again ends with the same bits, and everything is
-- checked before the first step.
local prune = require "prune"
local T = require "testing"

local program = os.getenv "PRUNELUA" or arg[-1]
local pid = assert(io.open "/proc/self/stat"):read "n"

local function press_ctrl_c() assert(io.popen("kill -INT " .. pid)):close() end

local function read(path)
  local file <close> = assert(io.open(path, "rb"))
  return file:read "a"
end

local function write(name, text)
  local path = T.scratch(name)
  local file <close> = assert(io.open(path, "w"))
  file:write(text)
  return path
end

local function exists(path)
  local file = io.open(path)
  if file then file:close() end
  return file ~= nil
end

-- 3 batches an epoch. Something happens in step `stop` of all training steps: what `happens` does.
local function steps(o)
  local count = 0
  local own = { apply = function()
    count = count + 1
    if o.stop == count then (o.happens or press_ctrl_c)() end
  end }
  local sgd = { "SGD", lr = 0.05, momentum = 0.9 }
  return {
    data = { "", batch = 32, limit = 96, threads = 1, augment = { crop_padding = 1 } }, model = { "cnn", width = 4 }, seed = 3, out = o.out,
    stages = {
      { "train", epochs = 2, optimizer = sgd, regularizer = own, snapshot = 2, schedule = { "cosine", epochs = 2 } },
      { "prune", macs = 0.6, criterion = "taylor", scope = "global" },
      { "batch_norm", batches = 2 },
      { "tune", epochs = 1, optimizer = { "Adam", lr = 0.01 }, regularizer = own, distill = { teacher = "train", weight = 0.7 } },
      { "mask", sparsity = 0.5, ignore = { "^fc" } },
      { "tune", name = "sparse", epochs = 1, optimizer = sgd, regularizer = own, sparsity = { "rigl", every = 2, last = 6 },
        loss = { "cross_entropy", label_smoothing = 0.1 } },
    },
  }
end

local function state_of(result)
  local state = { random = { require("prune.core").random_state() } }
  for name, p in result.net:named_parameters() do
    state[name], state[name .. " mask"] = p:dense():totable(), p.mask and p.mask:totable()
    for _, slot in ipairs(p:slots()) do state[name .. " " .. slot[1]] = slot[2]:totable() end
  end
  for name, b in result.net:named_buffers() do state[name] = b:totable() end
  state.rows = result.rows
  return state
end

local quiet = { quiet = true }
local count = 0
local function folder()
  count = count + 1
  return T.scratch("run" .. count)
end

-- What the mask stage ignores has no mask, so RigL is told by its options to leave it alone.
local function recipe(o)
  local given = steps(o)
  given.stages[6].sparsity.ignore = { "^fc" }
  return given
end

local straight = state_of(prune.recipe(recipe {}, quiet))

T.test("the stages did what they say", function()
  local names = {}
  for i, row in ipairs(straight.rows) do names[i] = row.name end
  T.equal(names, { "train", "prune", "batch_norm", "tune", "mask", "sparse" })
  local rows = straight.rows
  assert(rows[2].macs <= 0.6 * rows[1].macs, rows[2].macs / rows[1].macs)
  T.equal(rows[6].macs, rows[2].macs)
  assert(rows[4].sparsity < 0.01 and rows[5].sparsity > 0.3)
  T.close(rows[6].sparsity, rows[5].sparsity, 1e-9) -- RigL keeps it
end)

T.test("writing files does not change the numbers; the last model is in final.h5; started again, nothing is done twice", function()
  local out = folder()
  T.equal(state_of(prune.recipe(recipe { out = out }, quiet)), straight)
  local final = prune.load(out .. "/final.h5")
  for name, p in final:named_parameters() do -- what lies under the zeros of masks is not in that file
    local expected = prune.tensor(straight[name])
    if p.mask then expected = expected * p.mask end
    T.equal(p:value():totable(), expected:totable(), name)
  end
  local before = read(out .. "/final.h5")
  local again = prune.recipe(recipe { out = out, stop = 1, happens = function() error "a step was taken" end }, quiet)
  T.equal(state_of(again), straight)
  T.equal(read(out .. "/final.h5"), before)
  local rows = {}
  for line in io.lines(out .. "/metrics.csv") do rows[#rows + 1] = line:match "^[^,]*,[^,]*" end
  T.equal(rows, { "stage,epoch", "train,1", "train,2", "tune,1", "sparse,1" })
end)

T.test("stopped by Ctrl-C in any step and started again, it ends with the same bits", function()
  for _, stop in ipairs { 1, 2, 3, 5, 7, 8, 10, 11 } do -- steps 6 and 9 are the last of their stages
    local out = folder()
    T.raises(function() prune.recipe(recipe { out = out, stop = stop }, quiet) end, "interrupted at a batch boundary")
    T.equal(state_of(prune.recipe(recipe { out = out }, quiet)), straight, "stopped in step " .. stop)
  end
end)

T.test("failing in any step and started again, it goes on from the latest checkpoint", function()
  for stop = 2, 12, 3 do
    local out = folder()
    T.raises(function() prune.recipe(recipe { out = out, stop = stop, happens = function() error "power is out" end }, quiet) end,
      "stage %d %(%a+ '%a+'%): .*power is out")
    T.equal(state_of(prune.recipe(recipe { out = out }, quiet)), straight, "failed in step " .. stop)
  end
end)

T.test("criteria that need data get the training data, not what gradients the last batch left", function()
  for _, name in ipairs { "taylor", "wanda", "grasp" } do
    local result = prune.recipe({ data = { "", batch = 32, limit = 96, threads = 1 }, model = { "cnn", width = 4 }, seed = 3,
      stages = { { "prune", ratio = 0.5, criterion = name, batches = 2 } } }, quiet)
    prune.seed(3)
    local train = prune.data.load("", { batch = 32, limit = 96, threads = 1 })
    local net = prune.models.cnn { classes = 10, channels = 1, width = 4 }
    prune.structured(net, { 1, 8, 8 }, { ratio = 0.5, criterion = prune.criterion[name](), data = train, batches = 2 }):apply()
    for path, p in net:named_parameters() do T.equal(result.net:parameter(path):totable(), p:totable(), name .. " " .. path) end
  end
end)

T.test("whole blocks go in a stage 'depth'; stopped in the tuning behind it, it ends with the same bits", function()
  local function shallow(o)
    local given = recipe(o)
    given.model = { "resnet20" }
    given.data.limit, given.stages = 32, {
      { "train", epochs = 1, optimizer = { "SGD", lr = 0.05 } },
      { "depth", blocks = 2, criterion = o.criterion, batches = 1 },
      { "tune", epochs = 2, optimizer = { "SGD", lr = 0.05, momentum = 0.9 }, regularizer = given.stages[1].regularizer },
    }
    return given
  end
  for _, criterion in ipairs { "taylor", "magnitude" } do
    local expected = prune.recipe(shallow { criterion = criterion }, quiet)
    assert(expected.rows[2].macs < 0.9 * expected.rows[1].macs)
    local out = folder()
    T.raises(function() prune.recipe(shallow { criterion = criterion, out = out, stop = 1 }, quiet) end, "interrupted")
    T.equal(state_of(prune.recipe(shallow { criterion = criterion, out = out }, quiet)), state_of(expected), criterion)
  end
  T.raises(function() prune.recipe(shallow { criterion = "tailor" }, quiet) end, "did you mean taylor")
end)

T.test("stages that are taken out, moved, or put in are done anew with what stands behind them; fewer epochs than were trained are refused", function()
  local sgd = { "SGD", lr = 0.05 }
  local train, mask, half = { "train", epochs = 2, optimizer = sgd, snapshot = 1 }, { "mask", sparsity = 0.5 }, { "prune", ratio = 0.5 }
  local back, tune = { "rewind", to = "train" }, { "tune", epochs = 1, optimizer = sgd }
  local function run(out, ...)
    return prune.recipe({ data = { "", batch = 32, limit = 64, threads = 1 }, model = { "cnn", width = 4 }, out = out, stages = { ... } }, quiet)
  end
  for name, pair in pairs {
    ["taken out"] = { { train, mask, half, tune }, { train, half, tune } }, moved = { { train, mask, half, tune }, { train, half, mask, tune } },
    ["put in"] = { { train, tune }, { train, half, tune } }, ["a rewind taken out"] = { { train, mask, back, tune }, { train, mask, tune } },
    ["a rewind put in"] = { { train, mask, tune }, { train, mask, back, tune } },
  } do
    local out = folder()
    run(out, table.unpack(pair[1]))
    T.equal(state_of(run(out, table.unpack(pair[2]))), state_of(run(nil, table.unpack(pair[2]))), name)
    T.equal(state_of(run(out, table.unpack(pair[1]))), state_of(run(nil, table.unpack(pair[1]))), name .. ", and back")
  end
  local out = folder()
  run(out, train)
  T.raises(function() run(out, { "train", epochs = 1, optimizer = sgd, snapshot = 1 }) end, "stage 1 .*2 epochs were trained already, epochs is 1")
end)

T.test("a snapshot behind the end of its stage is refused before anything is trained", function()
  local function given(snapshot)
    return { data = { "", batch = 32, limit = 96, threads = 1 }, model = { "cnn", width = 4 }, stages = {
      { "train", epochs = 2, optimizer = { "SGD", lr = 0.05 }, snapshot = snapshot }, { "rewind", to = "train" },
    } }
  end
  T.raises(function() prune.recipe(given(7), quiet) end, "stage 1 .*snapshot is behind batch 7, but 2 epochs of 3 batches end before")
  T.equal(#prune.recipe(given(6), quiet).rows, 2)
end)

T.test("a stage 'mask' refuses a pattern that fits nothing", function()
  T.raises(function()
    prune.recipe({ model = { "cnn", width = 4 }, stages = { { "mask", sparsity = 0.5, ignore = { "^cnov1" } } } }, quiet)
  end, "ignore: '^cnov1' fits no parameter of the model")
end)

T.test("every criterion that needs data gets the training data, also where nothing was trained before", function()
  local function half(criterion)
    return prune.recipe({ data = { "", batch = 16, limit = 32, threads = 1 }, model = { "cnn", width = 4 }, stages = {
      { "prune", ratio = 0.5, criterion = criterion, batches = 1 },
    } }, quiet).rows[1].params
  end
  local params = half "magnitude"
  for _, name in ipairs { "activation", "apoz", "bn_scale", "chip", "eigendamage", "fpgm", "grasp", "group_fisher", "hrank", "lamp", "movement",
    "obd", "random", "snip", "synflow", "taylor", "wanda" } do
    T.equal(half { name }, params, name)
  end
  T.equal(half(function(group) -- of one's own: parameters hold gradients
    local score = prune.zeros { group.size }
    for part in group:parts() do
      if part.parameter.is_parameter then score = score + part:rows "grad":square():sum(2) end
    end
    return score
  end), params)
end)

T.test("other options of a stage that was run are refused; more epochs are not, and what follows is done anew; restart begins again", function()
  local out = folder()
  prune.recipe(recipe { out = out }, quiet)
  local other = recipe { out = out }
  other.stages[2].macs = 0.5
  T.raises(function() prune.recipe(other, quiet) end, "stage 2 %(prune 'prune'%) was run with other options: macs was 0.6, now 0.5")
  other = recipe { out = out }
  other.stages[4].distill.weight = 0.2
  T.raises(function() prune.recipe(other, quiet) end, "stage 4 .*distill.weight was 0.7, now 0.2")
  other = recipe { out = out }
  other.data.batch = 16
  T.raises(function() prune.recipe(other, quiet) end, "data.batch was 32, now 16")
  other = recipe { out = out }
  other.stages[1].epochs = 3
  local longer = prune.recipe(other, quiet)
  other.out = folder()
  T.equal(state_of(longer), state_of(prune.recipe(other, quiet)))
  other = recipe { out = out }
  other.stages[2].macs = 0.5
  prune.recipe(other, { quiet = true, restart = true })
  T.equal(state_of(prune.recipe(recipe { out = out }, { quiet = true, restart = true })), straight)
end)

T.test("repeat runs stages several times, with names of their own; rewind goes back to the snapshot of the round or of before", function()
  local sgd = { "SGD", lr = 0.05 }
  local result = prune.recipe({ data = { "", limit = 128, threads = 1 }, model = { "cnn", width = 4 }, stages = {
    { "train", epochs = 1, optimizer = sgd, snapshot = 0 },
    { "repeat", times = 3, stages = { { "mask", amount = 0.5 }, { "rewind", to = "train" }, { "tune", epochs = 1, optimizer = sgd } } },
  } }, quiet)
  local names = {}
  for i, row in ipairs(result.rows) do names[i] = row.name end
  T.equal(names, { "train", "mask-1", "rewind-1", "tune-1", "mask-2", "rewind-2", "tune-2", "mask-3", "rewind-3", "tune-3" })
  T.close(prune.mask.sparsity(result.net), 0.875, 1e-3)
end)

T.test("a prune stage with steps: the stages behind each step, one target for all; stopped in any of them, the same bits", function()
  local function given(o)
    local r = steps(o)
    r.stages = { r.stages[1], { "prune", macs = 0.4, steps = 3, schedule = "cubic", criterion = "taylor", fold = true, reconstruct = { batches = 1 }, stages = {
      { "tune", epochs = 1, optimizer = { "SGD", lr = 0.05 }, regularizer = r.stages[1].regularizer, distill = { teacher = "train" } },
    } } }
    return r
  end
  local expected = state_of(prune.recipe(given {}, quiet))
  local names = {}
  for i, row in ipairs(expected.rows) do names[i] = row.name end
  T.equal(names, { "train", "prune-1", "tune-1", "prune-2", "tune-2", "prune-3", "tune-3" })
  local macs = {}
  for i = 1, 7, 2 do macs[#macs + 1] = expected.rows[i].macs end
  assert(macs[4] <= 0.4 * macs[1] and macs[3] >= macs[4] and macs[2] > macs[3] and macs[1] > macs[2], table.concat(macs, " "))
  for _, stop in ipairs { 8, 11, 14 } do
    local out = folder()
    T.raises(function() prune.recipe(given { out = out, stop = stop }, quiet) end, "interrupted at a batch boundary")
    T.equal(state_of(prune.recipe(given { out = out }, quiet)), expected, "stopped in step " .. stop)
  end
end)

-- --- files and program ------------------------------------------------------------------------------------------------------

local function run(command)
  local pipe = assert(io.popen(("'%s' -m prune.recipe %s 2>&1"):format(program, command)))
  local text = pipe:read "a"
  local _, _, code = pipe:close()
  return text, code
end

local text = [[
local tuning = { "SGD", lr = 0.05 }
return {
  data = { "", batch = 32, limit = 96, threads = 1 }, model = { "cnn", width = 4 }, out = "%s",
  stages = { { "train", epochs = 2, optimizer = tuning }, { "prune", ratio = 0.5 }, { "tune", epochs = 1, optimizer = tuning } },
}
]]

T.test("as a program: --check checks, a run says what it does, the next one takes what is finished, --restart does not", function()
  local out = folder()
  local file = write("recipe.lua", text:format(out))
  local said, code = run("'" .. file .. "' --check")
  T.equal(code, 0)
  assert(said:find "prune +%d+ +[%d,]+ " and not said:find "epoch" and not exists(out), said)
  said, code = run("'" .. file .. "'")
  T.equal(code, 0)
  assert(said:find "stage 2/3: prune\n" and said:find "tune epoch 1/1" and exists(out .. "/final.h5"), said)
  said = run("'" .. file .. "'")
  assert(said:find "prune: was done" and not said:find "tune epoch", said)
  T.equal({ run(T.scratch "absent.lua") }, { ("recipe: cannot open %s: No such file or directory\n"):format(T.scratch "absent.lua"), 1 })
  said = run("'" .. file .. "' --restart")
  assert(said:find "train epoch 2/2", said)
  local elsewhere = folder()
  run(("'%s' --out '%s'"):format(file, elsewhere))
  assert(exists(elsewhere .. "/final.h5"))
end)

T.test("a recipe's file can do nothing but return a table", function()
  for _, case in ipairs { { "os.execute 'true'", "attempt to index a nil value %(global 'os'%)" }, { "return 3", "must return a table" },
    { "return {", "recipe" }, { "require 'prune'", "sees no functions of Lua" }, { "return { model = 'cnn', stages = {} }", "'stages' must be" } } do
    local said, code = run("'" .. write("bad.lua", case[1]) .. "'")
    T.equal(code, 1)
    assert(said:find(case[2]) and not said:find "traceback", said)
  end
  local said, code = run ""
  T.equal(code, 2)
  assert(said:find "usage", said)
  T.equal(select(2, run "--help"), 0)
  T.equal(select(2, run "no_such_file.lua"), 1)
end)

-- --- what is refused ----------------------------------------------------------------------------------------------------

T.test("every slip is found before the first step, with its stage, its option and the nearest spelling", function()
  local function slip(change, pattern)
    local given = recipe { stop = 1, happens = function() error "a step was taken" end }
    change(given)
    T.raises(function() prune.recipe(given, quiet) end, pattern)
  end
  slip(function(r) r.stagse = {} end, "there is no option 'stagse'; did you mean 'stages'")
  slip(function(r) r.stages[4][1] = "tun" end, "stage 4: .*got tun; did you mean 'tune'")
  slip(function(r) r.stages[3] = 5 end, "stage 3: a stage is a table with its kind in front")
  slip(function(r) r.stages[6].name = nil end, "stage 6 %(tune 'tune'%): recipe: stage 4 %(tune 'tune'%) has the same name")
  slip(function(r) r.stages[1].epoch = 3 end, "stage 1 %(train 'train'%): .*no option 'epoch'; did you mean 'epochs'")
  slip(function(r) r.stages[1].epochs = "2" end, "stage 1 .*epochs must be an integer")
  slip(function(r) r.stages[1].optimizer = { "SDG" } end, "optimizer: there is no 'SDG'; did you mean 'SGD'")
  slip(function(r) r.stages[1].optimizer = nil end, "option 'optimizer' must be given")
  slip(function(r) r.stages[1].optimizer = { "SGD", momentun = 1 } end, "did you mean 'momentum'")
  slip(function(r) r.stages[1].schedule = { "cosin" } end, "did you mean 'cosine'")
  slip(function(r) r.stages[6].loss = { "cross_entrop" } end, "loss: there is no 'cross_entrop'; did you mean 'cross_entropy'")
  slip(function(r) r.stages[6].sparsity = { "rigel", last = 3 } end, "sparsity: there is no 'rigel'; did you mean 'rigl'")
  slip(function(r) r.stages[6].sparsity.every = 0 end, "every must be a number of steps")
  slip(function(r) r.stages[2].criterion = "tailor" end, "criterion: there is no 'tailor'; did you mean 'taylor'")
  slip(function(r) r.stages[2].mac, r.stages[2].macs = 0.5, nil end, "stage 2 .*did you mean 'macs'")
  slip(function(r) r.stages[2].steps = 0 end, "stage 2 .*steps must be an integer of at least 1")
  slip(function(r) r.stages[2].steps, r.stages[2].schedule = 2, "cubik" end, "did you mean 'cubic'")
  slip(function(r) r.stages[2].steps, r.stages[2].stages = 2, { { "tun" } } end, "stage 2.1: .*did you mean 'tune'")
  slip(function(r) r.stages[3].batch = 3 end, "stage 3 .*did you mean 'batches'")
  slip(function(r) r.stages[4].distill.teacher = "trian" end, "'trian' is neither an earlier stage nor a file %(.h5%); did you mean 'train'")
  slip(function(r) r.stages[4].distill.teacher = "sparse" end, "neither an earlier stage")
  slip(function(r) r.stages[5].sparsity = 1.5 end, "stage 5 .*1.5")
  slip(function(r) r.stages[5] = { "rewind", to = "trian" } end, "did you mean 'train'")
  slip(function(r) r.stages[5] = { "repeat", times = 0, stages = { { "mask", amount = 0.1 } } } end, "times must be an integer of at least 1")
  slip(function(r) r.model = { "cn" } end, "did you mean 'cnn'")
  slip(function(r) r.model = nil end, "field 'model' must be given")
  slip(function(r) r.data = { "", bach = 3 } end, "did you mean 'batch'")
  slip(function(r) r.out = 3 end, "out is the path of a folder")
  T.raises(function() prune.recipe(recipe {}, { quite = true }) end, "did you mean 'quiet'")
  T.raises(function() prune.recipe(3) end, "a table or the path of a file")
end)

T.done()
