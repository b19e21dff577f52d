-- prune.data: what a part of a data set says of itself, its loops, its random numbers, going on after a stop, and what is refused.
local prune = require "prune"
local T = require "testing"

-- All of one pass: labels as a list, the batches' sizes, and the sum of all values.
local function pass(part)
  local labels, sizes, sum = {}, {}, 0
  for x, y in part:batches() do
    sizes[#sizes + 1] = x:size(1)
    for _, label in ipairs(y:totable()) do labels[#labels + 1] = label end
    sum = sum + x:sum():item()
  end
  return labels, sizes, sum
end

-- The first batch of a pass; the loop is left open.
local function first(part)
  local step = part:batches()
  return step()
end

local function write(path, bytes)
  local file = assert(io.open(path, "wb"))
  file:write(bytes)
  file:close()
end

-- A small CIFAR-10 folder: `train` and `test` records, labels in turn.
local function cifar(name, train, test)
  local folder = T.scratch(name)
  assert(os.execute("mkdir -p '" .. folder .. "'"))
  local function batch(n)
    local records = {}
    for i = 1, n do records[i] = string.char((i - 1) % 10) .. string.char(i * 7 % 256):rep(3072) end
    return table.concat(records)
  end
  write(folder .. "/data_batch_1.bin", batch(train))
  write(folder .. "/test_batch.bin", batch(test))
  return folder
end

T.test("the digits need no file", function()
  local train, test = prune.data.load("", { batch = 64, normalize = "none", shuffle = false })
  T.equal(train.shape, { 1, 8, 8 })
  T.equal({ train.classes, train.size, test.size, #train, #test }, { 10, 1437, 360, 23, 6 })
  T.equal(train.class_names[8], "7")
  local labels, sizes = pass(train)
  T.equal({ table.unpack(labels, 1, 10) }, { 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 })
  T.equal({ #sizes, sizes[1], sizes[23] }, { 23, 64, 29 })
  local x, y = first(train)
  T.equal(x.shape, { 64, 1, 8, 8 })
  T.equal({ x.dtype, y.dtype }, { "f32", "i64" })
  T.equal(x[1][1][1]:totable(), { 0, 0, 5 / 16, 13 / 16, 9 / 16, 1 / 16, 0, 0 })
end)

T.test("images are channels last in memory and read in logical order", function()
  local folder = T.scratch "planes"
  assert(os.execute("mkdir -p '" .. folder .. "'"))
  local planes = {}
  for c = 0, 2 do
    for i = 0, 1023 do planes[#planes + 1] = string.char((c * 50 + i % 7) % 256) end
  end
  local record = "\3" .. table.concat(planes)
  write(folder .. "/data_batch_1.bin", record .. record)
  write(folder .. "/test_batch.bin", record)
  local train = prune.data.load(folder, { normalize = "none" })
  T.equal(train.shape, { 3, 32, 32 })
  for x, y in train:batches() do
    T.equal(y:totable(), { 4, 4 })
    T.close(x[2][3][1][6]:item(), 105 / 255, 1e-7)
    T.close(x[1][1][32][32]:item(), (1023 % 7) / 255, 1e-7)
    T.equal(x:stride(), { 3072, 1, 96, 3 })
  end
  T.equal(train.class_names[4], "cat")
end)

T.test("normalize: measured, published, given", function()
  local train = prune.data.load("", { batch = 1437 })
  for x in train:batches() do
    T.close(x:mean():item(), 0, 1e-5)
    T.close((x * x):mean():item(), 1, 1e-5)
  end
  T.close(train.normalization.mean[1], 0.3053, 1e-3)
  T.equal(prune.data.load("", { normalize = "mnist" }).normalization.std[1], string.unpack("f", string.pack("f", 0.3081)))
  local given = prune.data.load("", { normalize = { mean = 0.5, std = { 0.25 } }, shuffle = false })
  T.close(first(given)[1][1][1][1]:item(), -2)
  T.raises(function() prune.data.load("", { normalize = "cifar10" }) end, "are for 3 channels, the images have 1")
  T.raises(function() prune.data.load("", { normalize = "mnits" }) end, "did you mean `mnist`")
  T.raises(function() prune.data.load("", { normalize = { mean = { 1, 2 }, std = 1 } }) end, "one number for each of the 1 channels")
  T.raises(function() prune.data.load("", { normalize = { mean = 0 } }) end, "normalize.std must be a number or a list")
  T.raises(function() prune.data.load("", { normalize = { mean = 0, std = 0 } }) end, "deviation of channel 1 must be positive")
  T.raises(function() prune.data.load("", { normalize = 3 }) end, "normalize is \"auto\"")
end)

T.test("the last batch holds the rest, and a single image joins the one before", function()
  local folder = cifar("rest", 9, 5)
  local train, test = prune.data.load(folder, { batch = 4, test_batch = 3 })
  local _, sizes = pass(train)
  T.equal(sizes, { 4, 5 })
  _, sizes = pass(test)
  T.equal(sizes, { 3, 2 })
  T.equal({ #train, #test }, { 2, 2 })
end)

T.test("limit cuts the test part by the same share", function()
  local train, test = prune.data.load("", { limit = 144 })
  T.equal({ train.size, test.size }, { 144, 36 })
  train, test = prune.data.load("", { limit = 99999 })
  T.equal({ train.size, test.size }, { 1437, 360 })
  T.raises(function() prune.data.load("", { limit = -1 }) end, "limit must be 0")
end)

T.test("the seed decides, not the threads", function()
  local function run(options)
    options.augment = { crop_padding = 1, flip = true }
    local labels, _, sum = pass(prune.data.load("", options))
    return { labels = labels, sum = sum }
  end
  prune.seed(5)
  local one = run { threads = 1 }
  T.equal(run { threads = 3 }, one)
  T.equal(run { threads = 0 }, one)
  T.equal(run { threads = 2, seed = 5 }, one)
  assert(run({ seed = 6 }).sum ~= one.sum)
  prune.seed(6)
  assert(run({}).sum ~= one.sum)
end)

T.test("every loop is another epoch; test data stay in order", function()
  local train, test = prune.data.load("", { seed = 1 })
  local one, two = pass(train), pass(train)
  assert(table.concat(one) ~= table.concat(two))
  table.sort(one)
  table.sort(two)
  T.equal(one, two)
  T.equal((pass(test)), (pass(test)))
end)

T.test("loops are left early and nested", function()
  local train = prune.data.load("", { seed = 3, batch = 500 })
  local outer, inner = 0, 0
  for _ = 1, 30 do
    for x in train:batches() do if x then break end end
  end
  for _ in train:batches() do
    outer = outer + 1
    for _ in train:batches() do inner = inner + 1 end
  end
  T.equal({ outer, inner }, { 3, 9 })
  local step = train:batches() -- never finished
  assert(step())
  T.equal(#pass(train), 1437)
end)

T.test("a state goes on in the middle of an epoch", function()
  local options = { seed = 4, batch = 100, augment = { crop_padding = 2 } }
  local train = prune.data.load("", options)
  pass(train)
  local whole, state = {}, nil
  for x, y in train:batches() do
    whole[#whole + 1] = { x, y }
    if #whole == 6 then state = train:state() end
  end
  T.equal({ state.epoch, state.batch }, { 2, 7 })
  options.seed = 99 -- the state knows the seed
  local again, at = prune.data.load("", options), 6
  again:restore(state)
  T.equal(again:state(), state)
  for x, y in again:batches() do
    at = at + 1
    T.equal(y:totable(), whole[at][2]:totable())
    T.equal((x - whole[at][1]):abs():sum():item(), 0.0)
  end
  T.equal(at, #whole)
  T.equal((pass(again)), (pass(train))) -- and the epoch after it
  T.equal(again:state(), train:state())
  T.raises(function() again:restore { epoch = 1, batch = 1, seed = 1, size = 7, batch_size = 100 } end, "of 7 images in batches of 100")
end)

T.test("a loop begins where it is told", function()
  local train = prune.data.load("", { seed = 4, batch = 100 })
  local second, all = {}, {}
  for _, y in train:batches { epoch = 2 } do all[#all + 1] = y:totable() end
  for _, y in train:batches { epoch = 2, from = 13 } do second[#second + 1] = y:totable() end
  T.equal(second, { all[14], all[15] })
  T.equal({ #all, train:state().epoch, train:state().batch }, { 15, 3, 1 })
  T.equal(#(pass(train)), 1437) -- epoch 3
  T.equal(train:state().epoch, 4)
  for _ in train:batches { epoch = 1, from = 15 } do error "nothing is left" end
  T.raises(function() train:batches { from = 16 } end, "from must be 0 to 15, the batches of an epoch, not 16")
  T.raises(function() train:batches { epoch = 0 } end, "epochs and batches count from 1")
  T.raises(function() train:batches { form = 1 } end, "did you mean 'from'?")
end)

T.test("a state of the epoch's end leaves nothing of it", function()
  local train = prune.data.load("", { batch = 1000 })
  local state
  for _ in train:batches() do state = train:state() end
  train:restore(state)
  T.equal(#pass(train), 0)
  T.equal(#pass(train), 1437)
end)

T.test("an epoch that was left early is over, also for a state taken behind it", function()
  local options = { seed = 4, batch = 100 }
  local train, again = prune.data.load("", options), prune.data.load("", options)
  for _ in train:batches() do break end -- luacheck: ignore 512
  local state = train:state()
  T.equal({ state.epoch, state.batch }, { 2, 1 })
  again:restore(state)
  T.equal(again:state(), state)
  local whole = pass(train)
  T.equal(#whole, 1437)
  T.equal((pass(again)), whole)
  T.equal(again:state(), train:state())
  pcall(function() for _ in train:batches() do error "stop" end end) -- luacheck: ignore 512
  T.equal({ train:state().epoch, train:state().batch }, { 4, 1 })
end)

T.test("a progress bar takes a part", function()
  local train = prune.data.load("", { batch = 400 })
  local n = 0
  for _, y in prune.progress(train, "epoch 1") do n = n + y:size(1) end
  T.equal(n, 1437)
end)

T.test("memory goes back", function()
  collectgarbage()
  local before = prune.memory().live - prune.memory().tensors
  do
    local train, test = prune.data.load("")
    first(train)
    pass(test)
  end
  collectgarbage()
  collectgarbage()
  prune.empty_cache()
  local after = prune.memory().live - prune.memory().tensors
  assert(after <= before + 4096, after - before .. " bytes are left")
end)

T.test("mistakes are named", function()
  local function raises(path, options, pattern) T.raises(function() prune.data.load(path, options) end, pattern) end
  raises("", { bacth = 3 }, "no option 'bacth'; did you mean 'batch'?")
  raises("", { augment = { flop = true } }, "augment: there is no option 'flop'; did you mean 'flip'?")
  raises("", { batch = 0 }, "batch must be 1 or more, got 0")
  raises("", { batch = 2.5 }, "option batch must be a whole number, not 2.5")
  raises("", { batch = "many" }, "option batch must be a whole number, not string")
  raises("", { limit = "all" }, "option limit must be a whole number")
  raises("", { threads = 1000 }, "threads must be 0 to 64")
  raises("", { augment = { flip = 1 } }, "option flip must be true or false")
  raises("", { augment = true }, "options are a table")
  raises("", { resize = 32 }, "resize is for folders of images")
  raises(T.scratch "nowhere", {}, "nowhere: cannot be opened: No such file")
  raises(3, {}, "the path is a string")
  local folder = cifar("label", 4, 4)
  write(folder .. "/data_batch_1.bin", "\10" .. ("x"):rep(3072))
  raises(folder, {}, "data_batch_1.bin: the label of image 1 is 10")
end)

T.test("an HDF5 file", function()
  local train, test = prune.data.load(os.getenv "PRUNELUA_SOURCE" .. "/examples/digits.h5")
  T.equal({ train.size, test.size, train.classes }, { 1437, 360, 10 })
  T.equal(tostring(test), "data: 360 images of 1 x 8 x 8, 10 classes, 6 batches of 64")
end)

T.done()
