-- help: everything public has a text, and texts say what a reader needs: what it does, the options, what comes back.
local T = require "testing"
local prune = require "prune"
local help = require "prune.help"

local texts = {}
for _, item in ipairs(help.walk()) do texts[item.path] = help.text(item.value, item.path, item.parent) or nil end

local function has(path, part)
  if not texts[path] then error("no help on " .. path, 2) end
  if not texts[path]:find(part, 1, true) then error(("'%s' is not in:\n%s"):format(part, texts[path]), 2) end
end

local function shown(...)
  local lines, old = {}, print
  print = function(text) lines[#lines + 1] = text end -- luacheck: ignore
  local ok, message = pcall(help, ...)
  print = old -- luacheck: ignore
  assert(ok, message)
  return table.concat(lines, "\n")
end

T.test("everything that can be reached from prune and from its objects has a help text", function() T.equal(help.missing(), {}) end)

T.test("the walk reaches layers, operators, models, methods of tensors, graphs, groups and the others", function()
  for _, path in ipairs { "prune.nn.Conv2d", "tensor.conv2d", "prune.nn.Module.named_parameters", "prune.models.resnet18",
    "prune.models.vgg16_bn", "prune.optim.SGD", "prune.mask.ln_structured", "prune.criterion.taylor", "prune.regularizer.bn_scale",
    "prune.schedule.cubic", "tensor.size", "data.batches", "optimizer.step", "graph.groups", "group.remove", "part.rows", "plan.apply",
    "regularizer.apply", "prune.report.add", "prune.Trainer.fit" } do
    assert(texts[path], path .. " is not reached")
  end
end)

T.test("a text is more than a title, and no tag is left in it", function()
  for path, text in pairs(texts) do
    local title, rest = text:match "^([^\n]*)\n%s*(.*)$"
    assert(title and rest ~= "", path .. ": " .. text)
    assert(not text:find "@t?param" and not text:find "@t?return", path .. ": " .. text)
  end
end)

T.test("optional arguments are in brackets, options and results are told", function()
  has("prune.seed", "prune.seed([n])")
  has("prune.structured", "prune.structured(net, shape, options)")
  has("prune.structured", "ratio: share of units that go")
  has("prune.schedule.cosine", "returns function(epoch from 0) -> factor")
  has("graph.group", "graph:group(parameter, dim, indices)")
  has("prune.models.vgg11", "prune.models.vgg11 { classes = 10 }")
end)

T.test("help on an object shows its methods", function()
  local net = prune.nn.Sequential(prune.nn.Conv2d(1, 4, 3), prune.nn.ReLU(), prune.nn.Flatten(), prune.nn.Linear(16, 2))
  local graph = prune.graph(net, { 1, 4, 4 })
  for _, case in ipairs { { graph, "groups" }, { graph:groups()[1], "remove" }, { prune.optim.SGD(net), "zero_grad" },
    { prune.structured(net, { 1, 4, 4 }, { ratio = 0.5 }), "apply" }, { prune.data.load "", "batches" }, { prune.ones(2), "size" },
    { prune.regularizer.bn_scale(), "apply" }, { net, "and the methods of prune.nn.Module" } } do
    local text = shown(case[1])
    assert((text .. "\n"):find("\n%s*" .. case[2] .. "%s"), case[2] .. " is not in: " .. text)
  end
end)

T.test("a word is searched, names first", function()
  assert(shown("resnet18"):find("8 basic blocks", 1, true))
  assert(shown("geometric brownian"):find("nothing about 'geometric brownian'", 1, true))
  assert(shown("taylr"):find("did you mean 'taylor'?", 1, true))
end)

T.test("the overview names every module, what is loaded on demand, and every kind of object", function()
  local text = shown()
  for name in pairs(getmetatable(prune).__fields) do
    local there = pcall(function() return prune[name] end) -- some modules are announced before they are there
    assert(not there or text:find("\n  prune." .. name .. " ", 1, true), name .. " is not in: " .. text)
  end
  for _, name in ipairs { "prune.meta", "prune.structured", "prune.depth", "prune.sparse", "prune.recipe", "plan", "pruner", "ticket" } do
    assert(text:find("[%s]" .. name:gsub("%.", "%%.") .. "%s"), name .. " is not in: " .. text)
  end
end)

T.test("a module has the words at its head, also where a method bears its name", function()
  assert(shown(prune.allocation):find("^prune.allocation\n  How much goes where"), shown(prune.allocation))
  assert(shown(prune.repair):find("^prune.repair\n  what pruning did"), shown(prune.repair))
end)

T.test("the word for an object lists its methods", function()
  local text = shown "plan"
  for _, method in ipairs { "apply", "ask", "undo" } do assert(text:find("\n  " .. method .. " ", 1, true), method .. " is not in: " .. text) end
  assert(text:find("pruner.plan()", 1, true), text)
end)

T.done()
