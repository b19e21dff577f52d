-- Sensitivity: every group at several ratios, measured on the pruned model, while the model itself is never touched.
local T = require "testing"
local prune = require "prune"
local nn, F = prune.nn, prune.nn.functional

local train = prune.data.load("", { batch = 64, threads = 0, limit = 256, shuffle = false })

local function network()
  prune.seed(3)
  return prune.models.cnn { classes = 10, channels = 1, width = 4 }
end

local function snapshot(net)
  local state = {}
  for name, t in pairs(net:state_dict()) do state[name] = t:clone() end
  return function()
    for name, t in pairs(net:state_dict()) do assert(t:equal(state[name]), name .. " changed") end
  end
end

T.test("each point is the loss and accuracy of the model without that share of that group alone", function()
  local net = network()
  local same = snapshot(net)
  net:train()
  local s = prune.sensitivity(net, train.shape, { data = train, batches = 2, ratios = { 0.5, 0.25 } })
  same()
  T.equal(net.training, true)
  T.equal({ #s.groups, s.groups[2].name, s.groups[2].points[1].gone, s.groups[2].points[2].gone }, { 3, "conv2.weight", 2, 4 })
  local pruned = net:clone():eval()
  prune.structured(pruned, train.shape, { ratio = 0.5, ignore = { "conv1", "conv3" } }):apply()
  local x, y = {}, {}
  for a, b in train:batches { epoch = 1 } do
    x[#x + 1], y[#y + 1] = a, b
    if #x == 2 then break end
  end
  x, y = F.cat(x, 1), F.cat(y, 1)
  T.close(s.groups[2].points[2].loss, F.cross_entropy(pruned(x), y):item(), 1e-5)
  T.close(s.groups[2].points[2].metric, F.accuracy(pruned(x), y), 1e-9)
  T.close(s.base.loss, F.cross_entropy(net:clone():eval()(x), y):item(), 1e-5)
end)

T.test("a loss and metric of one's own, a criterion, a model loaded as a graph, inputs that are a list of tensors", function()
  local net = network()
  local data = { { prune.randn { 6, 1, 8, 8 }, prune.randn { 6, 10 } } }
  local s = prune.sensitivity(prune.graph(net, { 1, 8, 8 }):module(), { 1, 8, 8 }, { data = data, ratios = { 0.5 }, loss = F.mse_loss,
    metric = function(output, target) return (output - target):abs():sum():item() end, criterion = prune.criterion.random() })
  assert(s.base.loss > 0 and s.groups[1].points[1].metric > 0)
  assert(tostring(s):find "metric %(nothing missing")
  local Two = nn.module("Two", function(self) self.a, self.b = nn.Linear(3, 4), nn.Linear(4, 2) end)
  function Two:forward(p, q) return self.b(F.relu(self.a(p + q))) end
  s = prune.sensitivity(Two(), { { 3 }, { 3 } }, { data = { { { prune.randn { 5, 3 }, prune.randn { 5, 3 } }, prune.randint(1, 2, { 5 }) } },
    ratios = { 0.5 } })
  T.equal(#s.groups, 1)
end)

T.test("table, CSV and picture hold all groups and ratios", function()
  local s = prune.sensitivity(network(), train.shape, { data = train, batches = 1, ratios = { 0.25, 0.75 } })
  local text = tostring(s)
  for _, part in ipairs { "conv1.weight", "conv3.weight", "25%", "75%", "accuracy (nothing missing" } do
    assert(text:find(part, 1, true), part .. " is not in " .. text)
  end
  local rows = {}
  for line in io.lines(s:save(T.scratch "s.csv")) do rows[#rows + 1] = line end
  T.equal({ #rows, rows[1] }, { 8, "group,axis,units,ratio,gone,loss,metric" })
  assert(rows[3]:find "^conv1.weight,1,4,0.25,1,%d+%.%d+,0%.%d+$", rows[3])
  for _, what in ipairs { "loss", "metric" } do
    local file = assert(io.open(s:plot(T.scratch(what .. ".svg"), { what = what })))
    local svg = file:read "a"
    file:close()
    local _, lines = svg:gsub("<polyline", "")
    T.equal(lines, 3)
    assert(svg:find("conv2.weight", 1, true))
  end
  T.raises(function() s:plot(T.scratch "x.svg", { what = "speed" }) end, 'what is "loss" or "metric"')
end)

T.test("as an allocation: insensitive layers lose more, the total is met, layers that were not measured lose the total's share", function()
  local net = network()
  prune.no_grad(function() net.fc.weight:copy(net.fc.weight * 0) end) -- conv3 feeds the classifier only: nothing depends on it
  prune.no_grad(function() net.fc.weight[{ {}, 1 }] = 1 end)
  local s = prune.sensitivity(net, train.shape, { data = train, batches = 1, loss = function(output) return (output * output):mean() * -1 end,
    criterion = function(group) return prune.arange(group:count(), 1, -1) end, ratios = { 0.25, 0.5, 0.75 } })
  local layers = { { name = "conv1.weight", shape = { 4, 1, 3, 3 }, count = 4 }, { name = "conv3.weight", shape = { 16, 8, 3, 3 }, count = 16 },
    { name = "fc.weight", shape = { 10, 16 }, count = 10 } }
  local shares = s:allocation()(layers, 0.5)
  T.close(shares[1] * 4 + shares[2] * 16, 0.5 * 20, 1e-6)
  T.equal(shares[3], 0.5)
  assert(shares[2] > shares[1], ("conv3 %g, conv1 %g"):format(shares[2], shares[1]))
  assert(s.groups[3].points[3].loss - s.base.loss < 1e-6)
end)

T.test("bad options are refused by name; a loss that raises leaves the model as it was", function()
  local net = network()
  local same = snapshot(net)
  local function refuses(o, pattern) T.raises(function() prune.sensitivity(net, train.shape, o) end, pattern) end
  refuses(nil, "option data is needed")
  refuses({ data = train, ratio = 0.5 }, "did you mean 'ratios'")
  refuses({ data = train, ratios = { 0.5, 1 } }, "number 2 is 1")
  refuses({ data = train, ratios = {} }, "ratios is empty")
  refuses({ data = {} }, "an empty table")
  refuses({ data = train, batches = 0 }, "batches must be an integer")
  T.raises(function() prune.sensitivity(net, train.shape, { data = train, batches = 1, ratios = { 0.5 } }):plot(T.scratch "picture.png") end,
    "must end in .svg")
  local calls = 0
  refuses({ data = train, batches = 1, loss = function(output, y)
    calls = calls + 1
    if calls == 3 then error "the loss is lost" end
    return F.cross_entropy(output, y)
  end }, "the loss is lost")
  refuses({ data = train, batches = 1, loss = function(output) return output end }, "tensor with one element")
  same()
end)

T.done()
