-- depth.lua - depth pruning: whole residual branches go, y = x + f(x) becomes y = x.
--
-- A branch can go where the traced graph has an addition of which one side, f, is computed from the other, x, and from nothing else but
-- parameters, and is read by nothing else. That is found on the graph, not by the names of layers. Shortcuts with a layer in them
-- (downsampling) are not of this kind. The smaller model computes what the whole one does with f(x) = 0.
local calibration = require "prune.calibration"
local core = require "prune.core"
local graph = require "prune.graph"
local history = require "prune.history"
local interrupt = require "prune.interrupt"
local measuring = require "prune.sensitivity"
local options = require "prune.options"
local progress = require "prune.progress"
local surgery = require "prune.surgery"
local util = require "prune.util"

local none = options.none
local where = "prune.depth"

local Plan = {}
Plan.__index = Plan

-- --- finding branches ---------------------------------------------------------------------------------------------------

local function same_shape(a, b) return table.concat(a.shape, ",") == table.concat(b.shape, ",") end

local function uses_of(s)
  local uses = {}
  for _, node in ipairs(s.nodes) do
    for _, value in ipairs(node.inputs) do
      if value then
        uses[value] = uses[value] or {}
        table.insert(uses[value], node)
      end
    end
  end
  for _, value in ipairs(s.outputs) do
    uses[value] = uses[value] or {}
    table.insert(uses[value], s) -- the model's own output: a reader that is no node
  end
  return uses
end

-- The nodes between `entry` and `branch`, or nil where the branch reads something else that depends on the input.
local function region_of(entry, branch)
  local region, count, met = {}, 0, false
  local open = { branch }
  while #open > 0 do
    local value = table.remove(open)
    if value == entry then met = true
    elseif value.kind == "input" then return nil
    elseif value.node and not region[value.node] then
      region[value.node], count = true, count + 1
      for _, input in ipairs(value.node.inputs) do
        if input then open[#open + 1] = input end
      end
    end
  end
  return met and count > 0 and region or nil
end

local function leaks(region, add, branch, uses)
  if #uses[branch] > 1 then return true end
  for node in pairs(region) do
    for _, value in ipairs(node.outputs) do
      for _, reader in ipairs(uses[value] or {}) do
        if not region[reader] and not (reader == add and value == branch) then return true end
      end
    end
  end
  return false
end

-- The module that adds ("layer1.0"), and what of it is in the branch ("conv1 bn1 relu conv2 bn2").
local function describe(s, block)
  local path, parts, seen = block.add.path, {}, {}
  local prefix = path == "" and "" or path .. "."
  for _, node in ipairs(s.nodes) do
    local inside = node.path:sub(1, #prefix) == prefix
    local word = inside and node.path:sub(#prefix + 1):match "^[^.]*" or node.path
    if block.region[node] and word ~= "" and node.path ~= path and not seen[word] then
      seen[word] = true
      parts[#parts + 1] = word
    end
  end
  block.path, block.parts = path, table.concat(parts, " ")
end

-- Every branch that could go, in the order in which they run, and the additions that are not of this kind.
local function find(s)
  local uses, blocks, others = uses_of(s), {}, {}
  for _, node in ipairs(s.nodes) do
    local a, b = node.inputs[1], node.inputs[2]
    if (node.op == "add" or node.op == "sub") and a.kind ~= "parameter" and b.kind ~= "parameter" and same_shape(a, b) then
      local found
      for side, entry in ipairs { a, node.op == "add" and b or nil } do
        local branch = side == 1 and b or a
        local region = entry ~= branch and region_of(entry, branch)
        if region and not leaks(region, node, branch, uses) then
          found = { add = node, side = side, entry = entry, branch = branch, region = region }
        end
      end
      if found then
        describe(s, found)
        blocks[#blocks + 1] = found
      else
        others[#others + 1] = node
      end
    end
  end
  return blocks, others
end

-- What goes as a whole: each branch, or all branches whose sums one module makes (attention and the layers behind it, of a transformer's block).
local function gather(branches, by)
  local blocks, at = {}, {}
  for i, branch in ipairs(branches) do
    local block = by == "module" and at[branch.path]
    if block then
      block.branches[#block.branches + 1] = i
      block.parts, block.last = block.parts .. " " .. branch.parts, branch.add
    else
      block = { path = branch.path, parts = branch.parts, branches = { i }, entry = branch.entry, last = branch.add, tensors = {} }
      blocks[#blocks + 1], at[branch.path] = block, block
    end
  end
  return blocks
end

-- Numbers of the branches of some blocks, ascending.
local function branches_of(blocks, numbers)
  local list = {}
  for _, number in ipairs(numbers) do
    for _, branch in ipairs(blocks[number].branches) do list[#list + 1] = branch end
  end
  table.sort(list)
  return list
end

-- --- the model without some of them ---------------------------------------------------------------------------------------

-- A fresh graph without these branches (numbers), over the same tensors.
local function without(traced, numbers)
  local s = surgery.open(traced)
  local blocks = find(s)
  for _, number in ipairs(numbers) do
    local add = blocks[number].add
    s:replace(add.outputs[1], add.inputs[blocks[number].side])
  end
  return s:close()
end

local function cost_of(traced)
  local macs, _, params = traced:cost()
  return { macs = macs, params = params }
end

-- --- scores -------------------------------------------------------------------------------------------------------------

-- 1 - cosine of what enters and what leaves each block, mean over the samples: a block that changes little can go. Where the sum goes
-- through an activation only, what leaves is that.
local function change_scores(blocks, s, batches)
  local scores, uses = {}, uses_of(s)
  for i, block in ipairs(blocks) do
    local out = block.last.outputs[1]
    local readers = uses[out] or {}
    if #readers == 1 and readers[1].op == "relu" then out = readers[1].outputs[1] end
    local outputs = s.outputs
    s.outputs = { block.entry, out }
    local run, sum, samples = s:close(), 0, 0
    s.outputs = outputs
    for _, batch in ipairs(batches) do
      local x, y = run:run(batch[1], false)
      x, y = x:reshape(x:size(1), -1):to "f64", y:reshape(y:size(1), -1):to "f64"
      local norm = (x * x):sum { 2 }:sqrt() * (y * y):sum { 2 }:sqrt()
      sum = sum + ((x * y):sum { 2 } / norm:clamp { min = 1e-300 }):sum():item()
      samples = samples + x:size(1)
    end
    scores[i] = 1 - sum / samples
  end
  return scores
end

local function loss_scores(traced, blocks, batches, o)
  local base = measuring.measure(traced, batches, o, where).loss
  local bar = progress.bar { total = #blocks, label = "blocks", leave = false }
  local over <close> = setmetatable({}, { __close = function() bar:done() end }) -- luacheck: ignore
  local scores = {}
  for i, block in ipairs(blocks) do
    scores[i] = measuring.measure(without(traced, block.branches), batches, o, where).loss - base
    bar:step()
  end
  return scores
end

local function sum_scores(blocks, term)
  local scores = {}
  for i, block in ipairs(blocks) do
    scores[i] = 0
    for _, t in pairs(block.tensors) do
      if t:dim() > 1 then scores[i] = scores[i] + term(t):to("f64"):sum():item() end
    end
  end
  return scores
end

local function score(traced, blocks, s, net, o)
  local criterion = o.criterion or (o.data and "similarity" or "magnitude")
  if type(criterion) ~= "function" and criterion ~= "magnitude" then
    if o.data == nil then core.fail(('%s: criterion "%s" needs option data'):format(where, criterion)) end
  end
  local function batches() return measuring.collect(o.data, o.batches, where) end
  if criterion == "similarity" then return change_scores(blocks, s, batches()) end
  if criterion == "loss" then return loss_scores(traced, blocks, batches(), o) end
  if criterion == "magnitude" then return sum_scores(blocks, function(t) return t:value() * t:value() end) end
  if criterion == "taylor" then
    local gradients = calibration.gradients(net, o.data, o.batches, o.loss)
    return sum_scores(blocks, function(t) return (t:value() * gradients[t]):abs() end)
  end
  local scores = {}
  for i, block in ipairs(blocks) do
    scores[i] = criterion { path = block.path, index = i, parameters = block.tensors, macs = block.macs, params = block.params }
    if type(scores[i]) ~= "number" or scores[i] ~= scores[i] then
      core.fail(("%s: the criterion must return a number for each block, got %s for '%s'"):format(where, tostring(scores[i]), block.path))
    end
  end
  return scores
end

-- --- choosing -------------------------------------------------------------------------------------------------------------

-- blocks, ratio, macs or params: exactly one.
local function read_target(o, count, before)
  local given
  for _, name in ipairs { "blocks", "ratio", "macs", "params" } do
    if o[name] ~= nil and given then core.fail(("%s: give one of blocks, ratio, macs and params, not both %s and %s"):format(where, given, name)) end
    if o[name] ~= nil then given = name end
  end
  if not given then core.fail(where .. ": say how much: blocks (how many go), ratio (share of them), macs or params (what is left)") end
  local value = o[given]
  if type(value) ~= "number" or value ~= value or value < 0 then
    core.fail(("%s: %s must be a number of at least 0, got %s"):format(where, given, tostring(value)))
  end
  if given == "blocks" then
    if math.type(value) ~= "integer" then core.fail(("%s: blocks must be an integer, got %s (ratio takes a share)"):format(where, value)) end
    if value > count then core.fail(("%s: %d blocks cannot go: there are %d that can"):format(where, value, count)) end
    return value
  elseif given == "ratio" then
    if value > 1 then core.fail(("%s: ratio must be in 0..1, got %g"):format(where, value)) end
    return math.floor(value * count + 1e-6)
  end
  return nil, given, value <= 1 and value * before[given] or value
end

-- Numbers of the blocks that go, and what is left then.
local function choose(traced, blocks, order, o, before)
  local count, target, most = read_target(o, #order, before)
  local function first(n)
    local list = table.move(order, 1, n, 1, {})
    return list, n == 0 and before or cost_of(without(traced, branches_of(blocks, list)))
  end
  if count then return first(count) end
  local list, after = {}, before
  for n = 1, #order do
    if after[target] <= most then break end
    list, after = first(n)
  end
  if after[target] > most then
    core.fail(("%s: %s %s is out of reach: with all %d blocks gone %s are left"):format(where, target, graph.thousands(math.floor(most)), #order,
      graph.thousands(after[target])))
  end
  return list, after
end

local function is_ignored(block, patterns)
  for _, pattern in ipairs(patterns) do
    if block.path:find(pattern) then return true end
  end
  return false
end

-- Patterns of paths; one that fits no module is a slip.
local function read_ignored(net, patterns)
  if patterns == nil then return {} end
  if type(patterns) ~= "table" then core.fail(("%s: ignore is a list of name patterns, got %s"):format(where, type(patterns))) end
  local paths = {}
  for path in net:named_modules() do paths[#paths + 1] = path end
  for _, pattern in ipairs(patterns) do
    options.pattern(where .. ": ignore", pattern, paths, "module")
  end
  return patterns
end

-- What each block holds and costs.
local function weigh(traced, blocks, branches, before)
  for _, block in ipairs(blocks) do
    for _, number in ipairs(block.branches) do
      for node in pairs(branches[number].region) do
        for _, value in ipairs(node.inputs) do
          if value and value.kind == "parameter" then block.tensors[value.name] = value.tensor end
        end
      end
    end
    local after = cost_of(without(traced, block.branches))
    block.macs, block.params = before.macs - after.macs, before.params - after.params
  end
end

--- Plan which residual branches go: y = x + f(x) becomes y = x. They are found on the traced graph: one side of an addition is computed from the
-- other side alone. Nothing is changed before plan:apply().
-- @param net a module
-- @param shape input without the batch
-- @param options
--   blocks: how many go; or ratio: their share, floor(ratio n + 1e-6) of n; or macs, params: what is left, a share up to 1 or absolute;
--   criterion: the lowest go first: "similarity" (1 - cosine of what enters and leaves the block on the data: the default with data;
--   Men et al. 2024), "loss" (rise of the loss without it), "taylor" (sum of |w g| of its weights), "magnitude" (sum of w^2: the default
--   without data), or function(block) -> number, block = { path, index, parameters = by name, macs, params };
--   data, batches, loss: what the first three are measured on, as for prune.sensitivity; ignore: list of patterns of paths that stay;
--   by: "branch" (each for itself) or "module" (all branches whose sums one module makes go together: a transformer's blocks as a whole)
-- @return plan: print it, plan:apply(), plan.blocks = list of { path =, parts =, macs =, params =, score =, goes = }, plan.macs, plan.params
-- @usage print(prune.depth(net, { 3, 32, 32 }, { blocks = 2, data = train, batches = 4 }))
local function depth(net, shape, given)
  local o = options.check(where, given, {
    blocks = none, ratio = none, macs = none, params = none, criterion = none, data = none, batches = 4, loss = none, ignore = none,
    by = "branch",
  })
  calibration.check(where, o)
  if o.by ~= "branch" and o.by ~= "module" then core.fail(('%s: by is "branch" or "module", got %s'):format(where, tostring(o.by))) end
  local words = { "similarity", "loss", "taylor", "magnitude" }
  if type(o.criterion) ~= "function" and o.criterion ~= nil then
    local known = false
    for _, word in ipairs(words) do known = known or word == o.criterion end
    if not known then
      local near = type(o.criterion) == "string" and core.nearest(o.criterion, words)
      core.fail(("%s: criterion is %s or a function of a block, got %s%s"):format(where, table.concat(words, ", "),
        type(o.criterion) == "string" and o.criterion or type(o.criterion), near and ("; did you mean " .. near .. "?") or ""))
    end
  end
  local traced = graph.graph(net, shape)
  local ignored = read_ignored(net, o.ignore)
  local s = surgery.open(traced)
  local branches, others = find(s)
  local blocks = gather(branches, o.by)
  if #blocks == 0 then
    core.fail(("%s: the model has no residual branch that can go: none of its %d additions adds f(x) to x itself"):format(where, #others))
  end
  local before = cost_of(traced)
  weigh(traced, blocks, branches, before)
  local scores = core.no_grad(score, traced, blocks, s, net, o)
  local order = {}
  for i, block in ipairs(blocks) do
    block.score = scores[i]
    if not is_ignored(block, ignored) then order[#order + 1] = i end
  end
  table.sort(order, function(a, b) return scores[a] < scores[b] or scores[a] == scores[b] and a < b end)
  local list, after = choose(traced, blocks, order, o, before)
  for _, i in ipairs(list) do blocks[i].goes = true end
  return setmetatable({ graph = traced, net = net, blocks = blocks, others = others, numbers = branches_of(blocks, list), before = before,
    macs = after.macs, params = after.params, applied = false, criterion = type(o.criterion) == "string" and o.criterion or o.criterion and "function"
    or (o.data and "similarity" or "magnitude"), asked = ("%d of %d blocks"):format(#list, #blocks) }, Plan)
end

Plan.__tostring = function(self)
  local lines = { { "block", "layers of the branch", "params", "MACs", "score", "" } }
  for i, block in ipairs(self.blocks) do
    lines[i + 1] = { block.path == "" and "(model)" or block.path, block.parts, graph.thousands(block.params), graph.thousands(block.macs),
      ("%.4g"):format(block.score), block.goes and "goes" or "stays" }
  end
  local out = graph.aligned(lines, { false, false, true, true, true, false })
  table.insert(out, 2, ("-"):rep(#out[1] + 5))
  local count = 0
  for _, block in ipairs(self.blocks) do count = count + (block.goes and 1 or 0) end
  out[#out + 1] = ("%d of %d blocks go: params %s -> %s, MACs %s -> %s"):format(count, #self.blocks,
    graph.thousands(self.before.params), graph.thousands(self.params), graph.thousands(self.before.macs), graph.thousands(self.macs))
  for _, node in ipairs(self.others) do
    out[#out + 1] = ("must stay: the addition at '%s': neither side is computed from the other alone"):format(node.path)
  end
  return table.concat(out, "\n")
end

-- --- applying -------------------------------------------------------------------------------------------------------------

-- Is a value never negative? As far as that shows: it comes from a ReLU, also through pooling, dropout, and sums of such.
local function is_nonnegative(value)
  local node = value.node
  if not node then return false end
  if node.op == "relu" or node.op == "sigmoid" then return true end
  if node.op:match "pool" or node.op == "dropout" then return is_nonnegative(node.inputs[1]) end
  return node.op == "add" and is_nonnegative(node.inputs[1]) and is_nonnegative(node.inputs[2])
end

-- A module that is nothing but branches that go: its path and children are what runs between one value and another, so that it can become
-- nn.Identity and the model keeps its own code. A ReLU behind the last sum may go with it where it does nothing.
local function whole_module(s, block, gone)
  local path, inside, last = block.add.path, {}, nil
  if path == "" then return nil end
  for _, node in ipairs(s.nodes) do
    if (node.path .. "."):sub(1, #path + 1) == path .. "." then inside[#inside + 1] = node end
  end
  for _, node in ipairs(inside) do
    if gone[node] == "add" then last = node
    elseif not gone[node] then
      local is_last = last and node.op == "relu" and node.inputs[1] == last.outputs[1] and node == inside[#inside]
      if not (is_last and is_nonnegative(block.entry)) then return nil end
    end
  end
  return path
end

local function probe(traced)
  local inputs = {}
  for i, input in ipairs(traced:inputs()) do
    local known = (traced:state().inputs or {})[i]
    inputs[i] = util.probe({ shape = input.shape, dtype = input.dtype, max = known and known.max }, 2)
  end
  return inputs
end

local function same_outputs(a, b)
  if #a ~= #b then return false end
  for i, t in ipairs(a) do
    if not (core.is_tensor(t) and core.is_tensor(b[i]) and t:equal(b[i])) then return false end
  end
  return true
end

-- Put nn.Identity in place of modules, if the model's own code then computes what `variant` does: a function that puts them back. Else nil.
local function replace_modules(net, paths, variant, inputs)
  local Identity = require("prune.nn.activation").Identity
  local modules, undo = {}, {}
  for path, module in net:named_modules() do modules[path] = module end
  for _, path in ipairs(paths) do
    local parent, word = path:match "^(.*)%.([^.]*)$"
    local owner = modules[parent or ""]
    local key = word or path
    if owner and rawget(owner, key) ~= modules[path] then key = tonumber(key) and tonumber(key) + 1 end
    if owner and key and modules[path] and rawget(owner, key) == modules[path] then
      local identity = Identity()
      rawset(identity, "_name", modules[path]._name)
      rawset(identity, "training", modules[path].training)
      undo[#undo + 1] = { owner, key, modules[path] }
      rawset(owner, key, identity)
    end
  end
  local function put_back()
    for _, entry in ipairs(undo) do rawset(table.unpack(entry, 1, 3)) end
  end
  local fits = false
  local _ <close> = interrupt.closing(function()
    if not fits then put_back() end
  end)
  local ok, same = pcall(function()
    local evaluating <close> = calibration.evaluating(net) -- luacheck: ignore
    return core.no_grad(function() return same_outputs({ net(table.unpack(inputs)) }, { variant:run(inputs, false) }) end)
  end)
  fits = ok and same and #undo == #paths
  return fits and put_back or nil
end

-- Modules that can become nn.Identity so that all branches of the plan are gone, or nil.
local function replaceable(plan)
  local s = surgery.open(plan.graph)
  local blocks, gone, paths, seen = find(s), {}, {}, {}
  for _, number in ipairs(plan.numbers) do
    for node in pairs(blocks[number].region) do gone[node] = gone[node] or "branch" end
    gone[blocks[number].add] = "add"
  end
  for _, number in ipairs(plan.numbers) do
    local path = whole_module(s, blocks[number], gone)
    if not path then return nil end
    if not seen[path] then
      seen[path] = true
      paths[#paths + 1] = path
    end
  end
  return paths
end

local function check_fresh(self, method)
  for _, value in ipairs(self.graph:tensors()) do
    if table.concat(value.shape, ",") ~= table.concat(value.tensor:size(), ",") then
      error(("plan:%s: '%s' has another shape than when the plan was made%s"):format(method, value.name,
        method == "apply" and "; make a new plan" or ": the model was pruned since"), 3)
    end
  end
end

-- The change of the model itself.
local function take_out(self)
  local variant, kept = without(self.graph, self.numbers), {}
  for _, value in ipairs(variant:tensors()) do kept[value.tensor] = true end
  self.gone = {}
  for _, value in ipairs(self.graph:tensors()) do
    if not kept[value.tensor] then self.gone[#self.gone + 1] = value.tensor end
  end
  local paths = not self.net.inner_graph and replaceable(self)
  self.put_back = paths and replace_modules(self.net, paths, variant, probe(self.graph))
  if self.put_back then
    self.form = "code"
  else
    self.put_back, self.form = require("prune.graph_module").convert(self.net, self.graph, variant), "graph"
  end
end

--- Take the branches out, all or nothing. Where they make up whole modules, these become nn.Identity and the model goes on running its own code;
-- else the model runs its graph from now on (as one that was loaded from a checkpoint), for inputs of this shape. Parameters that stay
-- are the same objects; the others leave the tree. The step is noted in prune.history(net).
-- @param[opt] options { optimizer = an optimiser that is to forget the parameters that go }
-- @return the plan; plan.form is "code" or "graph"
function Plan:apply(given)
  local o = options.check("plan:apply", given, { optimizer = none })
  if self.applied then error("plan:apply: this plan was applied already; make a new one", 2) end
  check_fresh(self, "apply")
  if #self.numbers > 0 then
    take_out(self)
    self.step = { groups = {}, blocks = self.numbers, paths = {}, criterion = self.criterion, asked = self.asked }
    local branches = find(surgery.open(self.graph))
    for i, number in ipairs(self.numbers) do self.step.paths[i] = branches[number].path end
    history.note(self.net, self.step)
    if o.optimizer then
      self.remember = o.optimizer:forget(self.gone)
    end
  end
  self.applied = true
  return self
end

--- Put the branches back as they were: the same modules and Parameters, also into the optimiser that was to forget them. Refused, with nothing
-- changed, where the model was pruned again since.
-- @return the plan
function Plan:undo()
  if not self.applied then error("plan:undo: this plan was not applied", 2) end
  local steps = history.steps(self.net)
  if self.step and steps[#steps] ~= self.step then error("plan:undo: the model was pruned again since", 2) end
  check_fresh(self, "undo")
  if self.put_back then self.put_back() end
  if self.remember then self.remember() end
  history.forget(self.net, self.step)
  self.applied, self.put_back, self.remember, self.step, self.form = false, nil, nil, nil, nil
  return self
end

--- Let go of what plan:undo() would need.
function Plan:release() self.put_back, self.remember = nil, nil end

--- Take out what a step of a history took out of another model. prune.replay comes here.
-- @param net a module
-- @param shape input without the batch
-- @param step { blocks = numbers, paths = of the modules }
-- @return the applied plan
-- @return the step
local function again(net, shape, step)
  local traced = graph.graph(net, shape)
  local branches = find(surgery.open(traced))
  for i, number in ipairs(step.blocks) do
    if not branches[number] or branches[number].path ~= step.paths[i] then
      error(("there is no residual branch %d at '%s'"):format(number, tostring(step.paths[i])), 0)
    end
  end
  local plan = setmetatable({ graph = traced, net = net, numbers = step.blocks, applied = false, criterion = step.criterion,
    asked = step.asked }, Plan):apply()
  return plan, plan.step
end

return { depth = depth, again = again, needs_data = { similarity = true, loss = true, taylor = true }, _DepthPlan = Plan }
