-- prune.save, prune.load, prune.load_state: what comes back, without the model's source; files that are damaged or cannot be written.
local prune = require "prune"
local literal = require "prune.literal"
local nn = prune.nn
local T = require "testing"

local program = os.getenv "PRUNELUA" or arg[-1]

-- A residual sum, a batch norm, a parameter under a mask, and an argument that a removal rewrites (groups).
local Net = nn.module("Net", function(self)
  self.conv1 = nn.Conv2d(1, 4, 3, { padding = 1, bias = false })
  self.bn1 = nn.BatchNorm2d(4)
  self.block = nn.Sequential(nn.Conv2d(4, 4, 3, { padding = 1, groups = 4 }), nn.BatchNorm2d(4), nn.ReLU())
  self.dropout = nn.Dropout(0.25)
  self.fc = nn.Linear(4, 10)
end)

function Net:forward(x)
  x = self.bn1(self.conv1(x)):relu()
  x = x + self.block(x)
  return self.fc(self.dropout(nn.functional.flatten(nn.functional.adaptive_avg_pool2d(x, { output_size = 1 }), 2)))
end

local shape = { 1, 8, 8 }

local function read(path)
  local file <close> = assert(io.open(path, "rb"))
  return file:read "a"
end

local function write(path, bytes)
  local file = assert(io.open(path, "wb"))
  file:write(bytes)
  file:close()
end

local function batch()
  prune.seed(11)
  return prune.randn { 8, 1, 8, 8 }, prune.tensor({ 1, 2, 3, 4, 5, 6, 7, 8 }, { dtype = "i64" })
end

local function train(net, optimizer, steps)
  local x, y = batch()
  net:train()
  for _ = 1, steps do
    optimizer:zero_grad()
    nn.functional.cross_entropy(net(x), y):backward()
    optimizer:step()
  end
end

local function trained()
  prune.seed(3)
  local net = Net()
  train(net, prune.optim.SGD(net, { lr = 0.1, momentum = 0.9 }), 3)
  return net
end

local function names(iterator)
  local list = {}
  for name in iterator do list[#list + 1] = name end
  return list
end

local function same_state(a, b)
  local other = b:state_dict()
  for name, value in prune.sorted(a:state_dict()) do
    assert(other[name] and other[name].dtype == value.dtype and other[name]:equal(value), name .. " differs")
    other[name] = nil
  end
  assert(not next(other), "one state has more")
end

local function same_output(a, b)
  local x = batch()
  a:eval()
  b:eval()
  assert(a(x):equal(b(x)), "the outputs differ")
end

local function round_trip(net, name, options)
  local path = T.scratch(name or "model.h5")
  prune.save(path, net, options or { shape = shape })
  return prune.load(path), path
end

-- --- models ----------------------------------------------------------------------------------------------------------------

T.test("a model comes back without its source: tree, names, values, outputs", function()
  local net = trained()
  local again = round_trip(net)
  T.equal(names(again:named_parameters()), names(net:named_parameters()))
  T.equal(names(again:named_buffers()), names(net:named_buffers()))
  T.equal(names(again:named_modules()), names(net:named_modules()))
  same_state(net, again)
  T.equal(again.training, false)
  same_output(net, again)
  local convs = {}
  for conv, name in again:each "Conv2d" do convs[#convs + 1] = name .. " " .. table.concat(conv.weight:size(), "x") end
  T.equal(convs, { "conv1 4x1x3x3", "block.0 4x1x3x3" })
  assert(tostring(again):find "BatchNorm2d" and tostring(prune.summary(again, shape)):find "conv1")
  T.equal({ prune.profile(again, shape).params, prune.profile(again, shape).macs },
    { prune.profile(net, shape).params, prune.profile(net, shape).macs })
  T.raises(function() again.conv1(batch()) end, "cannot run alone")
  T.raises(function() again:inner_graph { 3, 8, 8 } end, "inputs of shape { 1, 8, 8 }")
end)

T.test("another process, which never saw the class, computes the same", function()
  local net = trained()
  local _, path = round_trip(net)
  local script = T.scratch "other.lua"
  write(script, [[
local prune = require "prune"
prune.seed(11)
local y = prune.load(arg[1])(prune.randn { 8, 1, 8, 8 })
for _, row in ipairs(y:totable()) do for _, v in ipairs(row) do print(("%a"):format(v)) end end]])
  local pipe = assert(io.popen(("'%s' '%s' '%s'"):format(program, script, path)))
  local printed, expected = pipe:read "a", {}
  pipe:close()
  net:eval()
  for _, row in ipairs(net((batch())):totable()) do
    for _, v in ipairs(row) do expected[#expected + 1] = ("%a\n"):format(v) end
  end
  T.equal(printed, table.concat(expected))
end)

T.test("a loaded model trains as the original does, and in training mode drops and normalises", function()
  local net = trained()
  local again = round_trip(net)
  for _, model in ipairs { net, again } do
    prune.seed(5)
    train(model, prune.optim.Adam(model, { lr = 0.01 }), 3)
  end
  same_state(net, again)
end)

T.test("a clone of a loaded model is independent", function()
  local again = round_trip(trained())
  local before = again:state_dict()
  for name, value in pairs(before) do before[name] = value:clone() end
  local copy = again:clone()
  same_output(again, copy)
  train(copy, prune.optim.SGD(copy, { lr = 0.1 }), 2)
  for name, value in prune.sorted(again:state_dict()) do assert(value:equal(before[name]), name) end
  assert(not copy.fc.weight:equal(again.fc.weight))
end)

T.test("a loaded model prunes as the original does, and is saved again", function()
  local net = trained()
  local again = round_trip(net)
  for _, model in ipairs { net, again } do prune.structured(model, shape, { ratio = 0.5 }):apply() end
  T.equal(again.conv1.weight:size(), { 2, 1, 3, 3 })
  same_state(net, again)
  same_output(net, again)
  local third = round_trip(again, "third.h5", {})
  same_output(net, third)
  train(third, prune.optim.SGD(third, { lr = 0.1 }), 1)
  prune.graph(third, shape):group("conv1.weight", 1, { 1 }):remove()
  T.equal(third.fc.weight:size(), { 10, 1 })
  same_output(third, (round_trip(third, "fourth.h5", {})))
end)

T.test("a pruned model comes back, and equal models give equal bytes", function()
  local net = trained()
  prune.structured(net, shape, { ratio = 0.25 }):apply()
  local again, path = round_trip(net)
  same_output(net, again)
  prune.seed(1) -- the random state is part of the file
  prune.save(path, net)
  local first = read(path)
  prune.save(path, net)
  assert(read(path) == first)
end)

T.test("masks come back, and the dense values below them where they are asked for", function()
  local net = trained()
  prune.mask.l1_unstructured(net.conv1.weight, { amount = 0.4 })
  prune.mask.ln_structured(net.fc.weight, { amount = 0.3, n = 2, dim = 1 })
  for _, dense in ipairs { true, false } do
    local again, path = round_trip(net, "masked.h5", { shape = shape, dense = dense })
    for _, name in ipairs { "conv1", "fc" } do
      local a, b = again[name].weight, net[name].weight
      assert(a.mask:equal(b.mask))
      assert(a:dense():equal(dense and b:dense() or b:value()))
      assert(a:value():equal(b:value()))
    end
    T.equal(again.block:parameter "0.weight".mask, nil)
    same_output(net, again)
    local zeros = prune.load_state(path)["conv1.weight"]:eq(0):sum():item()
    T.equal(zeros, net.conv1.weight.mask:eq(0):sum():item())
  end
  T.raises(function() prune.save(T.scratch "no.h5", net, { dense = 1 }) end, "dense is true or false")
end)

T.test("a model with 90 % zeros takes about a tenth and a bit per weight, masked or finalised; with an optimiser all is kept", function()
  prune.seed(3)
  local net = nn.Sequential(nn.Linear(400, 300), nn.ReLU(), nn.Linear(300, 200))
  local input = { shape = { 400 } }
  local function size_of(options)
    options = options or {}
    options.shape = input.shape
    prune.save(T.scratch "small.h5", net, options)
    return #read(T.scratch "small.h5")
  end
  local full, entries = size_of(), 300 * 400 + 200 * 300
  prune.mask.global_unstructured(net:weights(), { sparsity = 0.9 })
  local optimizer = prune.optim.SGD(net, { lr = 0.1 })
  assert(full > 4 * entries)
  assert(size_of() < full / 10 + entries / 8 + 8000, size_of())
  assert(size_of { dense = true } > full)
  assert(size_of { optimizer = optimizer } > full)
  prune.mask.finalize(net)
  assert(size_of() < full / 10 + entries / 8 + 8000, size_of())
  local again = prune.load(T.scratch "small.h5")
  for name, p in net:named_parameters() do assert(again:parameter(name):equal(p), name) end
end)

T.test("shared, unused, frozen and double parameters", function()
  local Odd = nn.module("Odd", function(self)
    self.a = nn.Linear(4, 4)
    self.b = nn.Linear(4, 4)
    self.b.weight = self.a.weight
    self.unused = nn.Linear(2, 2)
    self:register_buffer("table", prune.tensor { 1, 2, 3, 4 })
  end)
  function Odd:forward(x) return self.b(self.a(x) * self.table) end
  local net = Odd():to "f64"
  net.a.bias.requires_grad = false
  local again = round_trip(net, "odd.h5", { shape = { { shape = { 4 }, dtype = "f64" } } })
  T.equal(names(again:named_parameters()), names(net:named_parameters()))
  same_state(net, again)
  T.equal({ again.a.bias.requires_grad, again.a.weight.requires_grad }, { false, true })
  local x = prune.randn({ 3, 4 }):to "f64"
  assert(again(x):equal(net(x)))
end)

T.test("load_state gives what load_state_dict takes", function()
  local net = trained()
  local _, path = round_trip(net)
  local fresh = Net()
  fresh:load_state_dict(prune.load_state(path))
  same_state(net, fresh)
  same_output(net, fresh)
  T.raises(function() prune.models.cnn():load_state_dict(prune.load_state(path)) end, "does not fit this model")
  T.raises(function() prune.load_state(T.scratch "absent.h5") end, "absent.h5")
end)

T.test("saving again over a trained optimiser leaves it untouched", function()
  local net = trained()
  local before = net.fc.weight:slots()[1][2]:clone()
  local again = round_trip(net)
  assert(net.fc.weight:slots()[1][2]:equal(before))
  T.equal(#again.fc.weight:slots(), 0)
end)

T.test("what cannot be saved is said", function()
  T.raises(function() prune.save("x.h5", {}) end, "must be a module")
  T.raises(function() prune.save(Net(), "x.h5") end, "the path comes first")
  T.raises(function() prune.save(T.scratch "x.h5", Net()) end, "give options.shape")
  T.raises(function() prune.save(T.scratch "x.h5", Net(), { shape = shape, progress = { f = print } }) end,
    "function cannot be stored: progress%[f%]")
  local other = prune.optim.SGD(Net(), { lr = 1 })
  T.raises(function() prune.save(T.scratch "x.h5", Net(), { shape = shape, optimizer = other }) end, "not one of the model")
  assert(not io.open(T.scratch "x.h5"))
end)

-- --- texts -------------------------------------------------------------------------------------------------------------------

T.test("plain values survive as text, to the last bit", function()
  local value = { 1, 2.5, -0.0, 1e300, 5e-324, 0.1, math.mininteger, math.maxinteger, 1 / 0, -1 / 0, "a\"b\\\n\0\255é", true, false, {},
    { x = { y = 3 }, [7] = "seven", [2.5] = 1, [true] = 2 }, [20] = "hole" }
  local back = literal.read(literal.write(value))
  T.equal(back, value)
  T.equal({ math.type(back[1]), math.type(back[3]), 1 / back[3] }, { "integer", "float", -1 / 0 })
  local nan = literal.read(literal.write(0 / 0))
  assert(nan ~= nan)
  local deep = {}
  deep.deep = deep
  T.raises(function() literal.write(deep) end, "nested more than")
  for _, text in ipairs { "", "{", "{1", "{1,", "{1,}x", "{[1}", "{[{}]=1,}", '"a', '"\\999"', "os.exit()", "0x", "1 2", ("{"):rep(1e5) } do
    T.raises(function() literal.read(text) end, "damaged")
  end
end)

-- --- files -------------------------------------------------------------------------------------------------------------------

local function small_file()
  prune.seed(4)
  local net = nn.Linear(2, 2)
  local _, path = round_trip(net, "small.h5", { shape = { 2 } })
  return read(path)
end

T.test("every single flipped bit of 300 is refused", function()
  local bytes, path = small_file(), T.scratch "flipped.h5"
  local state = 12345
  for i = 1, 300 do
    state = (state * 6364136223846793005 + 1442695040888963407) & 0x7fffffffffffffff
    local at = i <= 60 and (i * 8) or (state >> 20) % #bytes + 1 -- some in the header
    local damaged = bytes:sub(1, at - 1) .. string.char(bytes:byte(at) ~ (1 << (state >> 10) % 8)) .. bytes:sub(at + 1)
    write(path, damaged)
    T.raises(function() prune.load(path) end, "flipped.h5")
    T.raises(function() prune.load_state(path) end, "flipped.h5")
  end
end)

T.test("every truncation, and any tail, is refused", function()
  local bytes, path = small_file(), T.scratch "cut.h5"
  local step = #bytes > 20000 and 7 or 1
  for size = #bytes - 1, 0, -step do
    write(path, bytes:sub(1, size))
    T.raises(function() prune.load(path) end, "cut.h5")
  end
  write(path, bytes .. "\0")
  T.raises(function() prune.load(path) end, "cut.h5")
end)

T.test("files that are something else are refused", function()
  local path = T.scratch "foreign.h5"
  write(path, small_file():sub(513)) -- a whole HDF5 file, without the block in front
  T.raises(function() prune.load(path) end, "foreign.h5")
  T.raises(function() prune.load_state(path) end, "foreign.h5")
  write(path, "a text\n")
  T.raises(function() prune.load(path) end, "foreign.h5")
  T.raises(function() prune.load(T.scratch()) end, "not a file")
  T.raises(function() prune.load(T.scratch "absent.h5") end, "absent.h5")
  T.raises(function() prune.load(3) end, "path is a string")
end)

T.test("where the file cannot be written the old one stays, and nothing is left beside it", function()
  local folder = T.scratch "full"
  assert(os.execute("mkdir '" .. folder .. "'"))
  local path = folder .. "/model.h5"
  prune.save(path, trained(), { shape = shape })
  local before = read(path)
  local script = T.scratch "full.lua"
  write(script, [[
local prune = require "prune"
local net = prune.models.cnn { channels = 1, width = 32 }
local ok, message = pcall(prune.save, arg[1], net, { shape = { 1, 8, 8 } })
io.open(arg[2], "w"):write(tostring(ok), " ", tostring(message)):close()]])
  local answer = T.scratch "answer"
  assert(os.execute(("ulimit -f 16; '%s' '%s' '%s' '%s'"):format(program, script, path, answer)))
  assert(read(answer):find "^false .*model%.h5", read(answer))
  assert(read(path) == before)
  local list = assert(io.popen("ls -A '" .. folder .. "'"))
  T.equal(list:read "a", "model.h5\n")
  list:close()
end)

T.test("a path through a file, and a folder as path, are errors", function()
  local net = trained()
  local blocked = T.scratch "blocked"
  write(blocked, "")
  T.raises(function() prune.save(blocked .. "/model.h5", net, { shape = shape }) end, "blocked")
  local folder = T.scratch "folder"
  assert(os.execute("mkdir '" .. folder .. "'"))
  T.raises(function() prune.save(folder, net, { shape = shape }) end, "folder")
end)

T.test("saving and loading leaves no memory behind", function()
  local net = trained()
  local path = T.scratch "model.h5"
  local function live()
    collectgarbage()
    collectgarbage()
    prune.empty_cache()
    return prune.memory().live
  end
  local function once()
    prune.save(path, net, { shape = shape })
    prune.load(path)
    pcall(prune.load, T.scratch "absent.h5")
  end
  once()
  local before = live()
  for _ = 1, 3 do once() end
  T.equal(live(), before)
end)

-- --- other tools ---------------------------------------------------------------------------------------------------------------

local python = os.getenv "PRUNELUA_PYTHON"
if python and os.execute(("'%s' -c 'import h5py' 2>/dev/null"):format(python)) then
  T.test("h5py reads parameters, buffers, masks, optimiser state and texts", function()
    local net = trained()
    prune.mask.l1_unstructured(net.conv1.weight, { amount = 0.5 })
    local optimizer = prune.optim.SGD(net, { lr = 0.1, momentum = 0.9 })
    train(net, optimizer, 1)
    local path = T.scratch "python.h5"
    prune.save(path, net, { shape = shape, optimizer = optimizer, progress = { epoch = 3 } })
    local script = T.scratch "read.py"
    write(script, [[
import h5py, sys
f = h5py.File(sys.argv[1], "r")
print(sorted(k for k in f if k in ("parameters", "buffers", "masks", "optimizer", "graph", "progress")))
for k in ("parameters/conv1.weight", "parameters/block.0.weight", "buffers/bn1.running_mean", "masks/conv1.weight",
          "optimizer/conv1.weight/momentum_buffer"):
    d = f[k]
    print(k, d.shape, *("%.6g" % v for v in d[...].ravel()[:6]))
print(bytes(f["progress"][...]).decode())
]])
    local pipe = assert(io.popen(("'%s' '%s' '%s' 2>&1"):format(python, script, path)))
    local printed = pipe:read "a"
    pipe:close()
    local function line(name, t)
      local sizes, values, flat = t:size(), {}, t:reshape(t:numel()):to("f64"):totable()
      for i = 1, math.min(6, #flat) do values[i] = ("%.6g"):format(flat[i]) end
      return ("%s (%s%s) %s\n"):format(name, table.concat(sizes, ", "), #sizes == 1 and "," or "", table.concat(values, " "))
    end
    T.equal(printed, "['buffers', 'graph', 'masks', 'optimizer', 'parameters', 'progress']\n"
      .. line("parameters/conv1.weight", net.conv1.weight:dense()) .. line("parameters/block.0.weight", net:parameter "block.0.weight")
      .. line("buffers/bn1.running_mean", net.bn1.running_mean) .. line("masks/conv1.weight", net.conv1.weight.mask)
      .. line("optimizer/conv1.weight/momentum_buffer", net.conv1.weight:slots()[1][2]) .. '{["epoch"]=3,}\n')
  end)
  T.test("h5py and numpy put a compressed array together in three lines", function()
    local net = trained()
    prune.mask.l1_unstructured(net.conv1.weight, { amount = 0.7 })
    local path, script = T.scratch "packed.h5", T.scratch "unpack.py"
    prune.save(path, net, { shape = shape })
    write(script, [[
import h5py, numpy, sys
f = h5py.File(sys.argv[1], "r")
line = [l.split() for l in bytes(f["index"][...]).decode().splitlines() if l.startswith("parameter conv1.weight ")][0]
whole = numpy.zeros([int(n) for n in line[4].split(",")], f["parameters/conv1.weight"].dtype)
whole.ravel()[numpy.unpackbits(f["bits/parameters/conv1.weight"][...], bitorder="little", count=whole.size) == 1] = f["parameters/conv1.weight"]
print(*("%.9g" % v for v in whole.ravel()))
]])
    local pipe = assert(io.popen(("'%s' '%s' '%s' 2>&1"):format(python, script, path)))
    local values = {}
    for word in pipe:read("a"):gmatch "%S+" do values[#values + 1] = tonumber(word) end
    pipe:close()
    T.close(values, net.conv1.weight:value():reshape(-1):totable(), 1e-7)
  end)
else
  print "h5py is not tried: PRUNELUA_PYTHON names no Python that has it"
end

T.done()
