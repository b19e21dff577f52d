-- Criteria against the golden scores of ResNet-18 at known weights (tests/golden/importance.lua).
local T = require "testing"
local prune = require "prune"
local formula = require "formula"

local here = arg[0]:match "^(.*)/lua/[^/]*$" or ".."
local gold = dofile(here .. "/golden/importance.lua")

local net = formula.fill(prune.models.resnet18 { classes = 10 })
local graph = prune.graph(net, { 3, 32, 32 })

-- "magnitude p=1 reduction=mean normalizer=none" -> name, options
local function read(text)
  local name, rest = text:match "^(%S+)%s*(.*)$"
  local o = {}
  for key, value in rest:gmatch "(%w+)=(%S+)" do o[key] = tonumber(value) or value end
  if rest == "multivariable" then o.multivariable = true end
  if name == "taylor" then o.normalizer = "none" end
  return name, o
end

local function group_of(root, size)
  local all = {}
  for i = 1, size do all[i] = i end
  return graph:group(root, 1, all)
end

-- To 1e-4 of each score; of the largest where a normaliser has taken the mean away, since the golden numbers are of f32.
local function compare(entry, scores, of_largest)
  local largest = 0
  for _, wanted in ipairs(entry.score) do largest = math.max(largest, math.abs(wanted)) end
  for i, wanted in ipairs(entry.score) do
    local off = math.abs(scores[i] - wanted)
    if off > 1e-4 * (of_largest and largest or math.abs(wanted)) then
      error(("%s, %s, unit %d: %.9g, expected %.9g"):format(entry.criterion, entry.root, i, scores[i], wanted))
    end
  end
end

local function check(kind)
  for _, entry in ipairs(gold) do
    local name, o = read(entry.criterion)
    if name == kind then
      local scores = prune.criterion[name](o)(group_of(entry.root, #entry.score)):totable()
      compare(entry, scores, o.normalizer == "gaussian" or o.normalizer == "minmax")
    end
  end
end

T.test("magnitude with every reduction and normaliser gives the golden scores", function() check "magnitude" end)
T.test("bn_scale gives the golden scores", function() check "bn_scale" end)

T.test("taylor, plain and multivariable, gives the golden scores from given data and leaves no gradient behind", function()
  net:to "f64":train()
  graph = prune.graph(net, { { shape = { 3, 32, 32 }, dtype = "f64" } })
  local x = formula.values("input", { 4, 3, 32, 32 }):to "f64"
  local data = { { x, prune.tensor({ 1, 2, 3, 4 }, { dtype = "i64" }) } }
  for _, entry in ipairs(gold) do
    local name, o = read(entry.criterion)
    if name == "taylor" then
      local measure = prune.criterion.prepare(prune.criterion.taylor(o), net, graph, { data = data })
      compare(entry, measure(group_of(entry.root, #entry.score)):totable())
    end
  end
  for name, p in net:named_parameters() do assert(p.grad == nil, name) end
  assert(net.training and net.layer1[1].bn1.training)
end)

T.done()
