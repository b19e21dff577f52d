-- graph:why says what goes with a position, or which operator of which layer pins it, followed back to its cause.
local T = require "testing"
local prune = require "prune"
local nn, F = prune.nn, prune.nn.functional

local function graph_of(construct, forward, shape)
  local class = nn.module("Model", construct)
  function class:forward(...) return forward(self, ...) end
  return prune.graph(class(), shape)
end

local function says(text, ...)
  for _, part in ipairs { ... } do assert(text:find(part, 1, true), ("'%s' is not in:\n%s"):format(part, text)) end
end

T.test("a plain channel: the members of its unit", function()
  local graph = prune.graph(prune.models.resnet18 { classes = 10 }, { 3, 32, 32 })
  local text = graph:why("layer1.0.conv1.weight", 1, 3)
  says(text, "goes together with\n", "layer1.0.bn1.running_var axis 1: 3", "layer1.0.conv2.weight axis 2: 3")
  assert(not text:find "pinned")
end)

T.test("a product of factors: each of its units, by kind", function()
  local graph = graph_of(function(self) self.a, self.m, self.o = nn.Linear(5, 8), nn.MultiheadAttention(8, 2), nn.Linear(8, 3) end,
    function(self, x) return self.o(self.m(self.a(x))) end, { 6, 5 })
  says(graph:why("m.in_proj_weight", 1, 3), "lives where all of these 2 live", "head, of 2:", "head_dim, of 4:",
    "m.in_proj_weight axis 1: 3 7 11 15 19 23", "m.out_proj.weight axis 2: 1 2 3 4")
end)

T.test("inputs and outputs of the model, kernels, axes of size 1", function()
  local graph = graph_of(function(self) self.a, self.one, self.b = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 1, 1), nn.Conv2d(4, 2, 1) end,
    function(self, x)
      local y = self.a(x)
      return self.b(y * self.one(y))
    end, { 3, 6, 6 })
  says(graph:why("a.weight", 2, 1), "pinned", "conv2d at 'a' (Conv2d) ties it to axis 2 of input1", "inputs of the model stay")
  says(graph:why("a.weight", 3, 1), "pinned", "conv2d at 'a' (Conv2d)", "kernel")
  says(graph:why("b.weight", 1, 2), "pinned", "outputs stay")
  says(graph:why("one.weight", 1, 1), "pinned", "size 1")
end)

T.test("the operator that pins, and what ties to it", function()
  local graph = graph_of(function(self) self.a, self.b, self.c = nn.Linear(5, 6), nn.Linear(5, 6), nn.Linear(6, 2) end, function(self, x)
    local y = self.a(x) + self.b(x)
    return self.c(y), F.softmax(y, { dim = 2 })
  end, { 5 })
  says(graph:why("a.weight", 1, 2), "pinned\n  by softmax at '' (Model): entries along the axis are mixed")
  says(graph:why("c.weight", 2, 2), "softmax")
end)

T.test("a value that would not be 0, and which one it is", function()
  local graph = graph_of(function(self) self.a, self.b = nn.Linear(5, 6), nn.Linear(6, 2) end, function(self, x)
    local y = F.sigmoid(self.a(x))
    return self.b(y), F.sum(y, { dim = 2 })
  end, { 5 })
  says(graph:why("a.weight", 1, 2), "by sum at '' (Model): sums over axis 2, where removed entries would not be 0 (but 0.5)")
end)

T.test("one position that is taken out; an operator without a rule; a parameter that nothing reads", function()
  local graph = graph_of(function(self) self.a, self.b, self.c, self.unused = nn.Linear(5, 6), nn.Linear(5, 6), nn.Linear(6, 2), nn.Linear(3, 3) end,
    function(self, x)
      local y, z = self.a(x), self.b(x)
      return self.c(y), F.select(y, { dim = 2, index = 4 }), F.mse_loss(z, z * 2)
    end, { 5 })
  says(graph:why("a.weight", 1, 4), "pinned", "by select at '' (Model): one position is taken out")
  says(graph:why("a.weight", 1, 3), "goes together with")
  says(graph:why("b.weight", 1, 3), "pinned", "by mse_loss at '' (Model): mse_loss has no coupling rule")
  says(graph:why("unused.weight", 1, 1), "no operator that the model runs")
  -- and the plan says so too
  local found
  for _, note in ipairs(graph:notes()) do found = found or note.text == "mse_loss has no coupling rule" end
  assert(found)
end)

T.done()
