-- Dependency groups, removal and plans: the pruned model is the smaller one of the ablated, all or nothing.
local T = require "testing"
local prune = require "prune"
local formula = require "formula"
local networks = require "networks"
local nn, F = prune.nn, prune.nn.functional

-- --- helpers --------------------------------------------------------------------------------------------------------

local function join(list) return table.concat(list, ",") end

-- Values of everything that hangs on the parameters, and the shapes.
local function snapshot(net)
  local all = {}
  for name, p in net:named_parameters() do
    all[name] = { p:size(), p:dense():clone(), p.grad and p.grad:clone(), p.mask and p.mask:clone() }
  end
  for name, b in net:named_buffers() do all[name] = { b:size(), b:clone() } end
  return all
end

local function same_state(net, before)
  local now = snapshot(net)
  for name, was in pairs(before) do
    T.equal(now[name][1], was[1], name)
    for i = 2, 4 do
      assert((now[name][i] == nil) == (was[i] == nil), name)
      assert(was[i] == nil or now[name][i]:equal(was[i]), name .. " has changed")
    end
  end
end

local function units_of(groups)
  local total = 0
  for _, group in ipairs(groups) do total = total + group.size end
  return total
end

-- The contract in f64 with gradients, for plans of several ratios by random choice, and for every scope's first unit, twins too.
local function verify(build, shape)
  for seed = 1, 2 do
    prune.seed(seed)
    local net = build()
    for _, norm in ipairs { "BatchNorm2d", "GroupNorm", "LayerNorm" } do
      for m in net:each(norm) do
        if m.weight then nn.init.normal(m.weight) nn.init.normal(m.bias) end
        if m.running_var then nn.init.uniform(m.running_var, 0.5, 1.5) nn.init.normal(m.running_mean) end
      end
    end
    local function f64(spec)
      if type(spec[1]) == "number" then return { shape = spec, dtype = "f64" } end
      return spec.shape and spec or { f64(spec[1]), spec[2] and f64(spec[2]) }
    end
    net:to "f64"
    local inputs = f64(shape)
    local options = { dtype = "f64", gradients = true, tolerance = 1e-9 }
    for _, ratio in ipairs { 0.3, 0.6 } do
      local plan = prune.structured(net, inputs, { ratio = ratio, criterion = prune.criterion.random() })
      assert(#plan.units > 0, "nothing goes")
      prune.verify(net, plan, options)
    end
    for _, group in ipairs(prune.graph(net, inputs):groups { all = true }) do
      if group.size > 1 then prune.verify(net, group:pick { 1 }, options) end
    end
  end
end

-- --- the contract ---------------------------------------------------------------------------------------------------

T.test("contract: a plain CNN", function()
  verify(function() return prune.models.cnn { classes = 5, channels = 2, width = 4 } end, { 2, 8, 8 })
end)

T.test("contract: a LeNet, linear layers after flatten", function()
  verify(function() return prune.models.lenet { classes = 5, channels = 1 } end, { 1, 28, 28 })
end)

T.test("contract: ResNet-18 with its shortcuts", function()
  prune.seed(1)
  local net = prune.models.resnet18 { classes = 10 }
  for norm in net:each "BatchNorm2d" do nn.init.normal(norm.running_mean) end
  net:to "f64"
  local plan = prune.structured(net, { { shape = { 3, 32, 32 }, dtype = "f64" } }, { ratio = 0.8, criterion = prune.criterion.random() })
  prune.verify(net, plan, { dtype = "f64", gradients = true, batch = 1, tolerance = 1e-9 })
end)

local Mixed = nn.module("Mixed", function(self)
  self.a, self.b = nn.Conv2d(3, 8, 3, { padding = 1 }), nn.Conv2d(3, 4, 1)
  self.bn = nn.BatchNorm2d(12)
  self.grouped = nn.Conv2d(12, 8, 3, { padding = 1, groups = 4 })
  self.depthwise = nn.Conv2d(4, 4, 3, { padding = 1, groups = 4 })
  self.up = nn.Conv2d(8, 12, 1)
  self.fc1, self.fc2 = nn.Linear(3 * 12 * 12, 10), nn.Linear(10, 3)
end)
function Mixed:forward(x)
  local y = F.relu(self.bn(F.cat({ self.a(x), self.b(x) }, 2)))
  local left, right = F.chunk(self.grouped(y), { chunks = 2, dim = 2 })
  y = F.cat({ self.depthwise(left), F.relu(right) }, 2)
  y = F.pixel_shuffle(self.up(y), { upscale_factor = 2 })
  return self.fc2(F.relu(self.fc1(F.flatten(y, 2))))
end

T.test("contract: concat, chunk, grouped and depthwise convolution, pixel shuffle, linear after flatten", function()
  verify(function() return Mixed() end, { 3, 6, 6 })
end)

local function Attention() return networks.Attention(8, 4, true) end

T.test("contract: attention loses heads and head widths", function()
  verify(Attention, { 6, 5 })
  local net = Attention()
  local graph = prune.graph(net, { 6, 5 })
  local offered, all = graph:groups(), graph:groups { all = true }
  assert(#all > #offered, "heads or head widths have no twin")
  prune.structured(net, { 6, 5 }, { ratio = 0.5 }):apply()
  T.equal(net(prune.randn { 2, 6, 5 }):size(), { 2, 3 })
end)

for _, kind in ipairs { "LSTM", "GRU" } do
  local Recurrent = nn.module(kind .. "Net", function(self)
    self.rnn = nn[kind](3, 6, { layers = 2, bidirectional = kind == "LSTM" })
    self.fc = nn.Linear(kind == "LSTM" and 12 or 6, 2)
  end)
  function Recurrent:forward(x) return self.fc(self.rnn(x):mean { 2 }) end
  T.test("contract: " .. kind, function() verify(function() return Recurrent() end, { 4, 3 }) end)
end

local Normed = nn.module("Normed", function(self)
  self.conv1, self.group = nn.Conv2d(2, 8, 3, { padding = 1 }), nn.GroupNorm(2, 8)
  self.conv2, self.layer = nn.Conv2d(8, 6, 3), nn.LayerNorm(6)
  self.fc = nn.Linear(6, 3)
end)
function Normed:forward(x)
  x = self.conv2(F.relu(self.group(self.conv1(x))))
  return self.fc(self.layer(x:mean { 3, 4 }))
end

T.test("contract: group norm and layer norm run over what is left", function()
  verify(function() return Normed() end, { 2, 6, 6 })
end)

local Tied = nn.module("Tied", function(self)
  self.embedding = nn.Embedding(9, 6)
  self.fc = nn.Linear(6, 6)
end)
function Tied:forward(tokens) return F.linear(F.relu(self.fc(self.embedding(tokens))), self.embedding.weight) end

T.test("contract: an embedding whose weight is the output's too", function()
  prune.seed(3)
  local net = Tied():to "f64"
  local shape = { { shape = { 4 }, dtype = "i64", max = 9 } }
  local plan = prune.structured(net, shape, { ratio = 0.5 })
  prune.verify(net, plan, { dtype = "f64", gradients = true })
  plan:apply()
  T.equal(net.embedding.weight:size(), { 9, 3 })
  T.equal(net(prune.randint(1, 9, { 2, 4 })):size(), { 2, 4, 9 })
end)

local Several = nn.module("Several", function(self)
  self.a, self.b, self.c = nn.Linear(4, 6), nn.Linear(3, 6), nn.Linear(6, 5)
  self.head1, self.head2 = nn.Linear(5, 2), nn.Linear(6, 2)
end)
function Several:forward(x, y)
  local z = F.relu(self.a(x) + self.b(y))
  return self.head1(F.relu(self.c(z))), self.head2(z)
end

T.test("contract: several inputs and outputs", function()
  verify(function() return Several() end, { { 4 }, { 3 } })
end)

-- --- removal --------------------------------------------------------------------------------------------------------

T.test("a literal that no longer fits rolls everything back, naming operator and layer", function()
  local Inner = nn.module("Inner", function(self) self.conv = nn.Conv2d(2, 6, 3, { padding = 1 }) end)
  function Inner:forward(x) return F.unflatten(self.conv(x), { dim = 2, sizes = { 2, 3 } }) end
  local Outer = nn.module("Outer", function(self) self.inner, self.fc = Inner(), nn.Linear(6, 3) end)
  function Outer:forward(x)
    local y = self.inner(x)
    return self.fc(F.flatten(y:mean { 4, 5 }, 2))
  end
  local net = Outer()
  net(prune.randn { 2, 2, 4, 4 }):sum():backward()
  prune.mask.l1_unstructured(net.fc.weight, { amount = 0.5 })
  local before = snapshot(net)
  local graph = prune.graph(net, { 2, 4, 4 })
  local x = prune.randn { 2, 2, 4, 4 }
  local y = net(x)
  T.raises(function() graph:group(net.inner.conv.weight, 1, { 1, 4 }):remove() end, "inner: unflatten")
  same_state(net, before)
  assert(net(x):equal(y))
end)

T.test("a size written into forward is found by the replay and nothing has changed", function()
  local Literal = nn.module("Literal", function(self)
    self.first, self.second = nn.Linear(4, 6), nn.Linear(6, 3)
  end)
  function Literal:forward(x)
    local y = self.first(x)
    if y:size(2) ~= 6 then error "six features are needed" end
    return self.second(F.relu(y))
  end
  local net = Literal()
  net(prune.randn { 2, 4 }):sum():backward()
  local before = snapshot(net)
  local graph = prune.graph(net, { 4 })
  local group = graph:group(net.first.weight, 1, { 2 })
  T.raises(function() group:remove() end, "six features are needed")
  same_state(net, before)
  T.equal(net(prune.randn { 2, 4 }):size(), { 2, 3 })
  assert(group.size == 1 and graph:group(net.first.weight, 1, { 3 }).size == 1, "the graph still serves")
end)

T.test("a table that the code makes for the size it finds is found by the replay, unless what is left of it is the same", function()
  local core = require "prune.core"
  local Scaled = nn.module("Scaled", function(self, table_of)
    self.a, self.b, self._table_of = nn.Linear(5, 6), nn.Linear(6, 2), table_of
  end)
  function Scaled:forward(x)
    local y = self.a(x)
    return self.b(y * self._table_of(y:size(2)))
  end
  local net = Scaled(function(n) return core.ops.linspace { start = -1, stop = 1, steps = n } end)
  local before = snapshot(net)
  T.raises(function() prune.structured(net, { 5 }, { ratio = 0.5 }):apply() end, "mul at '' %(Scaled%): its table of shape %[3%]")
  same_state(net, before)
  local even = Scaled(function(n) return 0.5 * prune.ones { n } end)
  prune.structured(even, { 5 }, { ratio = 0.5 }):apply()
  T.equal(even.a.weight:size(1), 3)
end)

T.test("a number that the code works out of a size is found by the replay: attention's scale after a head lost entries", function()
  local Scaled = nn.module("Scaled", function(self) self.q, self.k, self.v, self.o = nn.Linear(5, 6), nn.Linear(5, 6), nn.Linear(5, 6), nn.Linear(6, 2) end)
  function Scaled:forward(x)
    local q, k, v = self.q(x), self.k(x), self.v(x)
    return self.o(F.matmul(F.softmax(F.matmul(q, F.transpose(k)) / math.sqrt(self._width or q:size(3)), { dim = 3 }), v))
  end
  local net = Scaled()
  local before = snapshot(net)
  T.raises(function() prune.graph(net, { 4, 5 }):group("q.weight", 1, { 2, 3 }):remove() end,
    "div at '' %(Scaled%): a number should stay 2.44949 after the removal, but the model's code gives 2; keep it as a number")
  same_state(net, before)
  prune.graph(net, { 4, 5 }):group("v.weight", 1, { 2, 3 }):remove()
  net._width = 6
  prune.graph(net, { 4, 5 }):group("q.weight", 1, { 2, 3 }):remove()
  T.equal({ net.q.weight:size(1), net.k.weight:size(1), net.v.weight:size(1) }, { 4, 4, 4 })
end)

T.test("gradients, masks and optimiser state follow a removal, bit for bit", function()
  prune.seed(1)
  local net = prune.models.cnn { classes = 3, channels = 2, width = 4 }
  prune.mask.l1_unstructured(net.conv2.weight, { amount = 0.5 })
  local optimizer = prune.optim.Adam(net, { lr = 1e-2 })
  for _ = 1, 2 do
    optimizer:zero_grad()
    net(prune.randn { 2, 2, 8, 8 }):sum():backward()
    optimizer:step()
  end
  local w = net.conv2.weight
  local before = { w:dense():clone(), w.grad:clone(), w.mask:clone() }
  local slots = w:slots()
  for _, slot in ipairs(slots) do before[#before + 1] = slot[2]:clone() end
  assert(#slots >= 2)
  local graph = prune.graph(net, { 2, 8, 8 })
  graph:group(w, 1, { 2, 5, 8 }):remove()
  graph:group(net.conv1.weight, 1, { 1 }):remove()
  local rows, columns = prune.tensor({ 1, 3, 4, 6, 7 }, { dtype = "i64" }), prune.tensor({ 2, 3, 4 }, { dtype = "i64" })
  local function slice(t) return t:dim() < 2 and t or t:index_select(rows, { dim = 1 }):index_select(columns, { dim = 2 }) end
  local after = { w:dense(), w.grad, w.mask }
  for _, slot in ipairs(w:slots()) do after[#after + 1] = slot[2] end
  T.equal(#after, #before)
  for i, t in ipairs(after) do assert(t:equal(slice(before[i])), "attachment " .. i) end
  optimizer:zero_grad()
  net(prune.randn { 2, 2, 8, 8 }):sum():backward()
  optimizer:step()
end)

T.test("nothing left of an axis is refused", function()
  local net = prune.models.cnn { classes = 3, channels = 1, width = 2 }
  local before = snapshot(net)
  T.raises(function() prune.graph(net, { 1, 8, 8 }):group(net.conv1.weight, 1, { 1, 2 }):remove() end, "nothing would be left")
  same_state(net, before)
end)

T.test("a check of units that would leave nothing says so, and not what an operator makes of no channels", function()
  local Tail = nn.module("Tail", function(self)
    self.conv, self.norm, self.fc = nn.Conv2d(2, 4, 3), nn.GroupNorm(2, 2), nn.Linear(2, 3)
  end)
  function Tail:forward(x)
    local _, tail = F.split(self.conv(x), { sizes = { 2, 2 }, dim = 2 })
    return self.fc(self.norm(tail):mean { 3, 4 })
  end
  local net = Tail()
  local graph = prune.graph(net, { 2, 5, 4 })
  local units = graph:group(net.conv.weight, 1, { 3, 4 }):units()
  T.raises(function() require("prune.core").verify(graph, units, { prune.randn { 3, 2, 5, 4 } }, "f64", true) end,
    "nothing would be left of axis")
end)

T.test("inputs and outputs of the model are pinned, and the reason is told", function()
  local net = prune.models.cnn { classes = 3, channels = 2, width = 2 }
  local graph = prune.graph(net, { 2, 8, 8 })
  T.raises(function() graph:group(net.fc.weight, 1, { 1 }) end, "fc.weight")
  T.raises(function() graph:group(net.conv1.weight, 2, { 1 }) end, "conv1.weight")
  assert(graph:why(net.fc.weight, 1, 1):find "pinned" and not graph:why(net.conv1.weight, 1, 1):find "pinned")
end)

T.test("a variance of one entry is refused where it divides by 0, and nothing changes", function()
  local Spread = nn.module("Spread", function(self, unbiased) self.a, self.b, self._unbiased = nn.Linear(4, 5), nn.Linear(5, 2), unbiased end)
  function Spread:forward(x)
    local y = self.a(x)
    return self.b(y / (F.std(y, { dim = 2, keepdim = true, unbiased = self._unbiased }) + 0.1))
  end
  local net = Spread(true)
  local before = snapshot(net)
  local plan = prune.structured(net, { 4 }, { ratio = 0.9 })
  T.raises(function() plan:apply() end, "std at '' %(Spread%): nothing would be left to take a variance of but one entry")
  T.raises(function() prune.verify(net, plan) end, "keep at least two %(min_units = 2%)")
  same_state(net, before)
  prune.structured(net, { 4 }, { ratio = 0.6, min_units = 2 }):apply()
  T.equal(net.a.weight:size(1), 2)
  local biased = Spread(false)
  prune.structured(biased, { 4 }, { ratio = 0.9 }):apply()
  T.equal(biased.a.weight:size(1), 1)
end)

T.test("verify checks its options, and that a group is of the module's graph", function()
  local net = nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 2))
  local group = prune.graph(net, { 4 }):groups()[1]:pick { 1 }
  T.raises(function() prune.verify(net, group, { dtype = "bf16" }) end, "prune.verify: dtype is one of 'f32', 'f64', got bf16")
  T.raises(function() prune.verify(net, group, { batch = 0 }) end, "prune.verify: batch must be an integer of at least 1, got 0")
  T.raises(function() prune.verify(net, group, { tolerance = "1e-4x" }) end, "prune.verify: tolerance must be a number")
  T.raises(function() prune.verify(net, group, { gradients = 1 }) end, "prune.verify: gradients is true or false, got 1")
  T.raises(function() prune.verify(nn.Linear(4, 2), group) end, "prune.verify: the group is of another module's graph")
  T.raises(function() prune.verify(nn.Linear(4, 2), { group }) end, "prune.verify: the group is of another module's graph")
  assert(prune.verify(net, group, { batch = 1, gradients = true, tolerance = 1e-5 }) <= 1e-5)
  local module = prune.graph(net, { 4 }):module()
  assert(prune.verify(module, prune.graph(module, { 4 }):groups()[1]:pick { 1 }) <= 1e-5)
  assert(prune.verify(net, group) <= 1e-5, "the graph of the module is another")
end)

T.test("groups of another state or model, wrong indices and parameters outside the graph are refused", function()
  local net, other = prune.models.cnn { classes = 3, width = 4 }, prune.models.cnn { classes = 3, width = 4 }
  local graph = prune.graph(net, { 3, 8, 8 })
  local stale = graph:group(net.conv1.weight, 1, { 2 })
  graph:group(net.conv1.weight, 1, { 1 }):remove()
  T.raises(function() stale:remove() end, "pruned after this group was made")
  T.raises(function() prune.verify(net, stale) end, "pruned after this group was made")
  local first, second = prune.graph(net, { 3, 8, 8 }), prune.graph(net, { 3, 8, 8 })
  local late = second:group(net.conv2.weight, 1, { 1 })
  first:group(net.conv2.weight, 1, { 2 }):remove()
  T.raises(function() late:remove() end, "has changed its shape")
  T.raises(function() graph:group(other.conv1.weight, 1, { 1 }) end, "not")
  T.raises(function() graph:group("conv1.wieght", 1, { 1 }) end, "conv1.weight")
  T.raises(function() graph:group(net.conv1.weight, 1, { 4 }) end, "outside 1..3")
  T.raises(function() graph:group(net.conv1.weight, 1, { math.mininteger }) end, "index %-9223372036854775808 is outside 1..3")
  T.raises(function() graph:group(net.conv1.weight, 5, { 1 }) end)
  T.equal(net.conv1.weight:size(1), 3)
end)

-- --- plans ----------------------------------------------------------------------------------------------------------

local shape = { 1, 8, 8 }
local function small() return prune.models.cnn { classes = 3, channels = 1, width = 16 } end

T.test("a ratio takes floor(ratio n) of every group, or of all together", function()
  local net = small()
  local plan = prune.structured(net, shape, { ratio = 0.3 })
  T.equal(#plan.units, 4 + 9 + 19) -- of 16, 32, 64
  local wide = prune.structured(net, shape, { ratio = 0.3, scope = "global" })
  T.equal(#wide.units, 33) -- of 112
  wide:apply()
  T.equal(net.conv1.weight:size(1) + net.conv2.weight:size(1) + net.conv3.weight:size(1), 112 - 33)
end)

T.test("targets of MACs and params are met, and the plan foretells what the model becomes", function()
  for _, target in ipairs { "macs", "params" } do
    for _, scope in ipairs { "local", "global" } do
      local net = small()
      local before = prune.profile(net, shape)
      local plan = prune.structured(net, shape, { [target] = 0.4, scope = scope })
      assert(plan[target] <= 0.4 * before[target], target .. " " .. scope)
      assert(plan[target] > 0.2 * before[target], "far too much goes: " .. target .. " " .. scope)
      plan:apply()
      local after = prune.profile(net, shape)
      T.equal({ after.macs, after.params }, { plan.macs, plan.params }, target .. " " .. scope)
    end
  end
end)

T.test("round_to keeps multiples, ignore keeps layers whole", function()
  local net = small()
  prune.structured(net, shape, { ratio = 0.3, round_to = 8, ignore = { "^conv3" } }):apply()
  T.equal({ net.conv1.weight:size(1) % 8, net.conv2.weight:size(1) % 8, net.conv3.weight:size(1) }, { 0, 0, 64 })
  assert(net.conv2.weight:size(1) < 32)
  local kept = small()
  prune.structured(kept, shape, { ratio = 0.5, ignore = { kept.conv1.weight } }):apply()
  T.equal({ kept.conv1.weight:size(1), kept.conv2.weight:size(1) }, { 16, 16 })
end)

T.test("a criterion that raises, gives NaN or the wrong number of scores leaves the model as it was", function()
  local net = small()
  local before = snapshot(net)
  local function plan(criterion) return function() prune.structured(net, shape, { criterion = criterion, ratio = 0.5 }):apply() end end
  T.raises(plan(function() error "no idea" end), "no idea")
  T.raises(plan(function(group) return prune.full({ group.size }, 0 / 0) end), "NaN")
  T.raises(plan(function(group) return prune.zeros { group.size + 1 } end), "one score per unit")
  T.raises(plan(function() return 3 end), "tensor of scores")
  same_state(net, before)
end)

T.test("a criterion of one's own decides: the lowest scores go, of equal ones the first", function()
  local net = small()
  local w = net.conv1.weight:value():clone()
  prune.structured(net, shape, { criterion = function(group) return prune.zeros { group.size } end, ratio = 0.25 }):apply()
  assert(net.conv1.weight:value():equal(w[{ { 5, 16 } }]))
end)

T.test("wrong options of a plan are refused", function()
  local net = small()
  T.raises(function() prune.structured(net, shape) end, "say how much")
  T.raises(function() prune.structured(net, shape, { ratio = 0.5, macs = 0.5 }) end, "not both")
  T.raises(function() prune.structured(net, shape, { ratio = 1.5 }) end, "0..1")
  T.raises(function() prune.structured(net, shape, { ratio = 0.5, scope = "all" }) end, "scope")
  T.raises(function() prune.structured(net, shape, { macs = 1 }):apply():apply() end, "applied already")
  T.raises(function() prune.structured(net, shape, { macs = 10 }) end, "cannot be met")
  assert(units_of(prune.graph(net, shape):groups()) == 112)
end)

-- --- golden files, last: where they are absent the file ends here -------------------------------------------------

T.test("ResNet-18 at known weights loses the known channels and gives the known logits", function()
  local gold = dofile(T.shared "golden/resnet18_seed.lua")
  local net = prune.models.resnet18 { classes = 10 }
  formula.fill(net):eval()
  local graph, k = prune.graph(net, { 3, 32, 32 }), 0
  for conv in net:each "Conv2d" do
    k = k + 1
    local norms = conv.weight:abs():sum { 2, 3, 4 }
    local lowest = norms:lowest { ratio = 0.3 }
    local got = lowest:totable()
    table.sort(got)
    T.equal(join(got), join(gold[2].steps[k].removed), gold[2].steps[k].conv)
    graph:group(conv.weight, 1, lowest):remove()
  end
  local after = prune.profile(net, { 3, 32, 32 })
  T.equal({ after.params, after.macs }, { gold[2].params, gold[2].macs_conv_linear })
  for name, p in net:named_parameters() do T.equal(join(p:size()), join(gold[2].shapes[name]), name) end
  T.close(prune.no_grad(net, formula.values("input", { 4, 3, 32, 32 })), gold[2].logits, 2e-4)
end)

T.test("layers with groups are told how many are left, and run", function()
  local net = nn.Sequential(nn.Conv2d(3, 8, 1), nn.ConvTranspose2d(8, 8, 3, { groups = 4 }), nn.Conv2d(8, 8, 3, { groups = 8 }),
    nn.Conv2d(8, 4, 1))
  local plan = prune.structured(net, { 3, 6, 6 }, { ratio = 0.5 })
  prune.verify(net, plan)
  plan:apply()
  T.equal(tostring(net[2]), "ConvTranspose2d(4, 4, 3, groups 2)")
  T.equal(tostring(net[3]), "Conv2d(4, 4, 3, groups 4)")
  T.equal(net(prune.randn(2, 3, 6, 6)):size(), { 2, 4, 6, 6 })
end)

T.done()
