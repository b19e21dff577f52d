-- Checkpoints taken up: training by hand that goes on with the same bits, loaded models inside others, saving under difficulties.
local T = require "testing"
local prune = require "prune"
local core = require "prune.core"
local checkpoint = require "prune.checkpoint"
local literal = require "prune.literal"
local util = require "prune.util"
local nn, F = prune.nn, prune.nn.functional

local function small(seed)
  prune.seed(seed or 1)
  return prune.models.cnn { classes = 10, channels = 1, width = 4 }
end

local function read_bytes(path)
  local file <close> = assert(io.open(path, "rb"))
  return file:read "a"
end

local function write_bytes(path, bytes)
  local file <close> = assert(io.open(path, "wb"))
  file:write(bytes)
end

-- Everything that training depends on, as one text: two models are equal bit for bit where these are.
local function fingerprint(net)
  local parts = {}
  local function add(name, t) parts[#parts + 1] = name .. literal.write(t:size()) .. literal.write(t:to("f64"):reshape(-1):totable()) end
  for name, p in net:named_parameters() do
    add(name, p:dense())
    if p.mask then add(name .. " mask", p.mask) end
    for _, slot in ipairs(p:slots()) do add(name .. " " .. slot[1], slot[2]) end
  end
  for name, b in net:named_buffers() do add(name, b) end
  return table.concat(parts, "\n")
end

local function state_equal(a, b)
  local x, y = a:state_dict(), b:state_dict()
  T.equal(util.keys(x), util.keys(y), "names")
  for name, t in pairs(x) do assert(t:equal(y[name]), name .. " differs") end
end

T.test("numbered children, shared parameters and several inputs and outputs come back", function()
  local Twin = nn.module("Twin", function(self)
    self.body = nn.Sequential(nn.Linear(6, 5), nn.ReLU())
    self.a, self.b = nn.Linear(5, 5), nn.Linear(5, 5)
    self.b.weight = self.a.weight
    self._shift = prune.tensor { 1, 2, 3, 4, 5 }
  end)
  function Twin:forward(x, y)
    local h = self.body(x) * self._shift
    return self.a(h) + y, self.b(h)
  end
  prune.seed(3)
  local net = Twin()
  prune.save(T.scratch "twin.h5", net, { shape = { { 6 }, { 5 } } })
  local again = prune.load(T.scratch "twin.h5")
  state_equal(net, again)
  assert(again.body[1].weight:equal(net.body[1].weight))
  local x, y = prune.randn { 3, 6 }, prune.randn { 3, 5 }
  local p, q = net(x, y)
  local r, s = again(x, y)
  assert(p:equal(r) and q:equal(s))
  local copy = again:clone()
  copy.a.weight:fill(0)
  local r2, s2 = copy(x, y)
  assert(s2:equal(copy.b.bias:value():reshape(1, 5) * prune.ones { 3, 1 }), "the shared parameter is shared in the copy")
  assert(not r2:equal(r) and again(x, y):equal(r), "and apart from the original")
end)

T.test("a loaded model converts to f64, clones, and is a part of other models", function()
  local net = small():eval()
  prune.save(T.scratch "part.h5", net, { shape = { 1, 8, 8 } })
  local again = prune.load(T.scratch "part.h5")
  local x = prune.randn { 2, 1, 8, 8 }
  local wide = again:clone():to "f64"
  T.equal(wide(x:to "f64").dtype, "f64")
  assert(wide(x:to "f64"):to("f32"):allclose(net(x), { rtol = 1e-4, atol = 1e-5 }))
  assert(again(x):equal(net(x)))
  prune.save(T.scratch "wide.h5", wide)
  T.equal(prune.load(T.scratch "wide.h5")(x:to "f64").dtype, "f64")
  local whole = nn.Sequential(again, nn.Linear(10, 3))
  prune.save(T.scratch "whole.h5", whole, { shape = { 1, 8, 8 } })
  local opened = prune.load(T.scratch "whole.h5")
  assert(opened(x):equal(whole:eval()(x)))
  T.equal(opened:parameter("0.conv1.weight"):size(), { 4, 1, 3, 3 })
  local copy = whole:clone()
  copy[1].conv1.weight:fill(0)
  assert(not copy(x):equal(whole(x)), "the graph inside a copied model runs on the copied parameters")
end)

T.test("graph:module() is a module over the same parameters", function()
  local net = small():eval()
  local twin = prune.graph(net, { 1, 8, 8 }):module():eval()
  local x = prune.randn { 2, 1, 8, 8 }
  assert(twin.conv1.weight == net.conv1.weight)
  net.conv1.weight:fill(0.5)
  assert(twin(x):equal(net(x)))
end)

local function attention_net()
  local Net = nn.module("AttentionNet", function(self)
    self.attention = nn.MultiheadAttention(12, 3)
    self.norm = nn.LayerNorm(12)
    self.conv = nn.Conv1d(12, 8, 1)
    self.group = nn.GroupNorm(2, 8)
    self.fc = nn.Linear(8, 2)
  end)
  function Net:forward(x)
    x = self.norm(x + self.attention(x))
    x = F.relu(self.group(self.conv(F.permute(x, { 1, 3, 2 }))))
    return self.fc(F.mean(x, { dim = 3 }))
  end
  return Net()
end

-- Removes one head of the attention and one channel of a group of the group norm.
local function prune_attention(net)
  local graph = prune.graph(net, { 5, 12 })
  graph:group("conv.weight", 1, { 2 }):remove()
  local heads = prune.graph(net, { 5, 12 })
  for _, group in ipairs(heads:groups { all = true }) do
    if group:count() == 3 then
      group:pick({ 2 }):remove()
      break
    end
  end
end

T.test("what shapes cannot tell (heads, bounds of groups) comes back, also into a model that was not pruned", function()
  prune.seed(5)
  local net = attention_net():eval()
  prune_attention(net)
  T.equal(net.attention._heads, 2)
  prune.save(T.scratch "attention.h5", net)
  local x = prune.randn { 2, 5, 12 }
  assert(prune.load(T.scratch "attention.h5")(x):equal(net(x)))
  prune.seed(6)
  local fresh = attention_net():eval()
  local handle = fresh.attention.in_proj_weight
  checkpoint.restore(T.scratch "attention.h5", fresh)
  T.equal(fresh.attention._heads, 2)
  assert(fresh.attention.in_proj_weight == handle)
  assert(fresh(x):equal(net(x)))
end)

-- --- resuming -----------------------------------------------------------------------------------------------------------

local steps, removal_at = 6, 3

local function start(case, seed)
  prune.seed(seed)
  local train = prune.data.load("", { batch = 24, limit = 24 * steps, augment = case.augment, threads = 1, seed = 11 })
  local net = prune.models.cnn { classes = 10, channels = 1, width = 4 }
  prune.mask.l1_unstructured(net.fc.weight, { amount = 0.25 })
  return train, net, prune.optim[case.optimizer](net, case.options)
end

-- Steps from + 1 to `last` of the run; after step `removal_at` channels are removed. F.dropout takes random numbers.
local function go_on(train, net, optimizer, from, last)
  local step = from
  for x, y in train:batches() do
    if step == last then break end
    step = step + 1
    optimizer:zero_grad()
    F.cross_entropy(F.dropout(net(x), { p = 0.1, training = true }), y):backward()
    optimizer:step()
    if step == removal_at then prune.structured(net, train.shape, { ratio = 0.5 }):apply() end
    if step == last then return train:state() end
  end
end

local cases = {
  { optimizer = "SGD", options = { lr = 0.05, momentum = 0.9, weight_decay = 1e-3 } },
  { optimizer = "Adam", options = { lr = 0.01 }, augment = { crop_padding = 1, flip = true } },
}

for _, case in ipairs(cases) do
  local name = case.optimizer .. (case.augment and ", augmented" or "")
  T.test(name .. ": a run that is resumed anywhere, also across a removal, equals the straight run bit for bit", function()
    local train, net, optimizer = start(case, 1)
    go_on(train, net, optimizer, 0, steps)
    local straight = fingerprint(net)
    T.equal(net.conv1.weight:size(1), 2)
    for k = 1, steps - 1 do
      train, net, optimizer = start(case, 1)
      local position = go_on(train, net, optimizer, 0, k)
      prune.save(T.scratch "run.h5", net, { optimizer = optimizer, shape = train.shape, progress = { step = k, data = position } })
      train, net, optimizer = start(case, 77) -- another start, another state of the random numbers
      local progress = checkpoint.restore(T.scratch "run.h5", net, optimizer)
      T.equal(progress.step, k)
      train:restore(progress.data)
      go_on(train, net, optimizer, k, steps)
      T.equal(optimizer.steps, steps)
      assert(fingerprint(net) == straight, ("resumed after step %d the run differs"):format(k))
    end
  end)
end

T.test("a checkpoint that does not fit is refused with all differences, and the model stays as it was", function()
  local net = small()
  local optimizer = prune.optim.SGD(net, { lr = 0.1, momentum = 0.9 })
  prune.save(T.scratch "fit.h5", net, { shape = { 1, 8, 8 }, optimizer = optimizer })
  local other = nn.Sequential(nn.Linear(4, 4))
  local before = fingerprint(other)
  local message = T.raises(function() checkpoint.restore(T.scratch "fit.h5", other) end, "does not fit the model")
  assert(message:find("missing in the file: 0.weight", 1, true) and message:find("missing in the model: bn1.bias", 1, true))
  T.equal(fingerprint(other), before)

  T.raises(function() checkpoint.restore(T.scratch "fit.h5", net, prune.optim.Adam(net)) end, "the optimiser is sgd")

  -- the same names, but not a pruned form of this model: found when it is traced with the stored shapes
  local Fixed = nn.module("Fixed", function(self, n)
    self.fc, self._n = nn.Linear(6, n), n
  end)
  function Fixed:forward(x) return F.reshape(self.fc(x), { shape = { -1, self._n, 1 } }) end
  local four, six = Fixed(4), Fixed(6)
  prune.save(T.scratch "four.h5", four, { shape = { 6 } })
  before = fingerprint(six)
  T.raises(function() checkpoint.restore(T.scratch "four.h5", six) end, "reshape")
  T.equal(fingerprint(six), before)
end)

-- --- files --------------------------------------------------------------------------------------------------------------

local function run(command)
  local pipe = assert(io.popen("{ " .. command .. "\n} 2>&1"))
  local text = pipe:read "a"
  local ok = pipe:close()
  return text, ok
end

local saver = T.scratch "saver.lua"
write_bytes(saver, [[
local prune = require "prune"
local net = prune.models.cnn { classes = 10, channels = 1, width = 16 }
prune.graph(net, { 1, 8, 8 })
print(prune.try(prune.save, arg[1], net))
io.stdout:flush()
while arg[2] do prune.save(arg[1], net) end
]])
local program = ("'%s' '%s'"):format(os.getenv "PRUNELUA", saver)

T.test("a process that is killed while it saves leaves a file that opens", function()
  local path = T.scratch "killed.h5"
  for i = 1, 5 do
    run(("%s '%s' loop >/dev/null & sleep %.2f; kill -9 $!"):format(program, path, 0.1 + 0.03 * i))
    local file = io.open(path)
    if file then
      file:close()
      prune.load(path)
    end
  end
end)

T.test("a save that finds no room leaves the old file, and says what was needed", function()
  local path = T.scratch "room.h5"
  prune.save(path, small(), { shape = { 1, 8, 8 } })
  local before = read_bytes(path)
  local text = run(("ulimit -f 8; %s '%s'"):format(program, path))
  assert(text:find "room.h5: cannot be written: the file may not grow so large: [%d.]+ kB are needed, [%d.]+ kB are allowed", text)
  assert(read_bytes(path) == before)
end)

core.empty_cache()
T.done()
