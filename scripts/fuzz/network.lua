-- network.lua - random networks as lists of steps, and the contract of pruning on them.
--
-- A step takes earlier values and gives new ones: { name =, text =, from = (numbers of values), own = (its parameters, buffers and modules),
-- f = function(own, inputs...) }. A program is { steps =, inputs =, outputs = }; a module runs it and has what the steps own.
local core = require "prune.core"
local prune = require "prune"
local nn = prune.nn
local graph = require "prune.graph"

local network = {}

-- --- programs as modules ------------------------------------------------------------------------------------------

-- The steps that some output needs, in order.
local function needed(program)
  local wanted, used = {}, {}
  for _, v in ipairs(program.outputs) do wanted[v] = true end
  for k = #program.steps, 1, -1 do
    local step = program.steps[k]
    for _, v in ipairs(step.gives) do used[k] = used[k] or wanted[v] end
    for _, v in ipairs(used[k] and step.from or {}) do wanted[v] = true end
  end
  local list = {}
  for k, step in ipairs(program.steps) do
    if used[k] then list[#list + 1] = step end
  end
  return list
end
network.needed = needed

local Network = nn.module("Network", function(self, program)
  self._steps, self._inputs, self._outputs = needed(program), #program.inputs, program.outputs
  local names = {}
  self._names = {}
  for _, step in ipairs(self._steps) do
    for _, thing in ipairs(step.own) do
      if not names[thing] then
        names[thing] = ("%s%d"):format(step.name:gsub("[^%w_]", "_"), step.gives[1])
        while self[names[thing]] do names[thing] = names[thing] .. "x" end
        self[names[thing]] = thing
      end
    end
    local own = {}
    for i, thing in ipairs(step.own) do own[i] = names[thing] end
    self._names[step] = own
  end
end)

function Network:forward(...)
  local values, inputs = {}, { ... }
  for i = 1, self._inputs do values[i] = inputs[i] end
  for _, step in ipairs(self._steps) do
    local own, given = {}, {}
    for i, name in ipairs(self._names[step]) do own[i] = self[name] end
    for i, v in ipairs(step.from) do given[i] = values[v] end
    local results = { step.f(own, table.unpack(given, 1, #step.from)) }
    for i, v in ipairs(step.gives) do values[v] = results[i] end
  end
  local outputs = {}
  for i, v in ipairs(self._outputs) do outputs[i] = values[v] end
  return table.unpack(outputs)
end

function network.module(program) return Network(program) end

--- The program as lines of text.
function network.text(program)
  local lines, numbers, count = {}, {}, 0
  for i, input in ipairs(program.inputs) do
    lines[#lines + 1] = ("v%d = input [B, %s] %s"):format(i, table.concat(input.shape, ", "), input.dtype)
  end
  for _, step in ipairs(needed(program)) do
    local from, gives, own = {}, {}, {}
    for i, v in ipairs(step.from) do from[i] = "v" .. v end
    for i, v in ipairs(step.gives) do
      gives[i] = ("v%d [%s]"):format(v, table.concat(program.shapes[v], ", "))
    end
    for i, thing in ipairs(step.own) do
      if not numbers[thing] then count = count + 1 end
      numbers[thing] = numbers[thing] or count
      own[i] = ("p%d %s"):format(numbers[thing], core.is_tensor(thing) and "[" .. table.concat(thing:size(), ", ") .. "]" or thing._type)
    end
    lines[#lines + 1] = ("%s = %s(%s)%s"):format(table.concat(gives, ", "), step.text, table.concat(from, ", "),
      #own > 0 and " with " .. table.concat(own, ", ") or "")
  end
  local outputs = {}
  for i, v in ipairs(program.outputs) do outputs[i] = "v" .. v end
  lines[#lines + 1] = "return " .. table.concat(outputs, ", ")
  return table.concat(lines, "\n")
end

-- --- random units ---------------------------------------------------------------------------------------------------

-- Each unit of the group with this chance, at least one, never all.
local function some_units(group, share, random)
  local all, chosen = group:units(), {}
  for _, u in ipairs(all) do
    if random() < share then chosen[#chosen + 1] = u end
  end
  if #chosen == 0 then chosen[1] = all[random(#all)] end
  if #chosen == #all then table.remove(chosen, random(#chosen)) end
  return chosen
end

local function sets(groups, random)
  local list = {}
  for _, share in ipairs { 0.25, 0.6 } do
    local chosen = {}
    for _, group in ipairs(groups) do table.move(some_units(group, share, random), 1, #group, #chosen + 1, chosen) end
    if #chosen > 0 then list[#list + 1] = chosen end
  end
  for _ = 1, math.min(#groups, 4) do
    local chosen = some_units(groups[random(#groups)], 0.5, random)
    if #chosen > 0 then list[#list + 1] = chosen end
  end
  return list
end

-- f(units); a set that would empty some axis is thinned out.
local function thinned(units, random, f)
  while #units > 0 do
    local results = table.pack(pcall(f, units))
    if results[1] or not tostring(results[2]):find("nothing would be left", 1, true) then
      if not results[1] then error(results[2], 0) end
      return units, table.unpack(results, 2, results.n)
    end
    local fewer = {}
    for _, u in ipairs(units) do
      if random() < 0.6 then fewer[#fewer + 1] = u end
    end
    units = #fewer < #units and fewer or table.move(units, 2, #units, 1, {})
  end
end

-- --- the contract -----------------------------------------------------------------------------------------------------

local function within(difference) return difference <= 1e-10 end -- not so a NaN

local function verified(traced, inputs, units, random)
  local kept, output, gradient = thinned(units, random, function(u) return core.verify(traced, u, inputs, "f64", true) end)
  if not kept then return end
  if not (within(output) and within(gradient)) then
    error(("pruned and ablated differ: outputs by %.3g, gradients by %.3g; units %s"):format(output, gradient,
      table.concat(kept, " ")), 0)
  end
  return kept
end

-- A second removal from what is left, of the graph as a checkpoint would give it back.
local function again(traced, inputs_spec, inputs, random)
  traced = graph.graph(traced:module(), inputs_spec)
  local units = {}
  for _, group in ipairs(traced:groups { all = true }) do
    if #group > 1 then table.move(some_units(group, 0.4, random), 1, #group, #units + 1, units) end
  end
  verified(traced, inputs, units, random)
end

-- Zero what the units touch, in a copy of the module: the ablated network where no statistics run over live entries.
local function ablated(net, traced, units)
  local names, copy, wanted = {}, net:clone(), {}
  for name, p in net:named_parameters() do names[p] = name end
  for name, p in net:named_buffers() do names[p] = name end
  for _, u in ipairs(units) do wanted[u] = true end
  for _, group in ipairs(traced:groups { all = true }) do
    local positions = {}
    for i, u in ipairs(group:units()) do
      if wanted[u] then positions[#positions + 1] = i end
    end
    for part in (#positions > 0 and group:pick(positions):parts() or function() end) do
      local name = names[part.parameter]
      if name then
        local p = copy:parameter(name)
        local live = core.ones { p:size(part.dim) }:to "f64"
        for _, i in ipairs(part.indices) do live[i] = 0 end
        local shape = {}
        for d = 1, p:dim() do shape[d] = d == part.dim and p:size(d) or 1 end
        prune.no_grad(function() p:copy(p * live:reshape(shape)) end)
      end
    end
  end
  return copy
end

local live_statistics = { layer_norm = true, rms_norm = true, group_norm = true, mean = true, var = true, std = true }

-- Zeros in parameters do not stand for removal where statistics run over live entries, nor where v / |v| would be 0 / 0.
local function zeros_stand_for_removal(net, traced)
  for _, node in ipairs(traced:nodes()) do
    if live_statistics[node.op] then return false end
  end
  for _, step in ipairs(net._steps) do
    if step.text:find "^weight norm" then return false end
  end
  return true
end

local function largest_difference(a, b)
  local off, largest = 0, 1
  for i = 1, #a do
    if table.concat(a[i]:size(), ",") ~= table.concat(b[i]:size(), ",") then return math.huge end
    local x, y = a[i]:to "f64", b[i]:to "f64"
    off = math.max(off, (x - y):abs():amax():item())
    largest = math.max(largest, x:abs():amax():item())
  end
  return off / largest
end

-- Remove for good; by the module's code where that allows it, else by the graph. Returns which.
local function applied(net, inputs_spec, inputs, units, random)
  local traced = graph.graph(net, inputs_spec)
  local exact = zeros_stand_for_removal(net, traced)
  local reference = exact and ablated(net, traced, units)
  local ok, message = pcall(function()
    return (thinned(units, random, function(u)
      if exact and #u < #units then reference = ablated(net, traced, u) end
      traced:remove_units(u, traced:state().replay)
    end))
  end)
  local own = ok
  if not ok then
    if not (message:find("model's code", 1, true) or message:find("cannot be run after", 1, true)) then error(message, 0) end
    ok, message = pcall(function()
      return (thinned(units, random, function(u)
        if exact and #u < #units then reference = ablated(net, traced, u) end
        traced:remove_units(u)
      end))
    end)
    if not ok then error(message, 0) end
  end
  local got = prune.no_grad(function() return { traced:run(inputs, false) } end)
  if reference then
    local off = largest_difference(prune.no_grad(function() return { reference(table.unpack(inputs)) } end), got)
    if not within(off) then error(("the pruned graph and zeroed parameters differ by %.3g"):format(off), 0) end
  end
  if own then
    local off = largest_difference(prune.no_grad(function() return { net(table.unpack(inputs)) } end), got)
    if not within(off) then error(("the pruned module and its graph differ by %.3g"):format(off), 0) end
  end
  again(traced, inputs_spec, inputs, random)
  return own, traced
end

local function same_shape(a, b) return table.concat(a, ",") == table.concat(b, ",") end

-- Which operators ran, and which of them had a tensor that became smaller.
local function count(before, after, tally)
  local nodes = after:nodes()
  for i, node in ipairs(before) do
    tally.ran[node.op] = (tally.ran[node.op] or 0) + 1
    for _, side in ipairs { "inputs", "outputs" } do
      for k, value in ipairs(node[side]) do
        if not same_shape(value.shape, nodes[i][side][k].shape) then
          tally.shrank[node.op] = (tally.shrank[node.op] or 0) + 1
          goto next_node
        end
      end
    end
    ::next_node::
  end
end

--- Check a program; raises what is wrong. `tally` counts: networks, units, removals, own (removals through the module's code), ran, shrank.
function network.check(program, random, tally)
  local net = network.module(program):clone() -- what the steps own stays as it is
  local traced = graph.graph(net, program.inputs)
  local inputs = graph.examples(program.inputs, 3)
  local groups = {}
  for _, group in ipairs(traced:groups { all = true }) do
    tally.units = tally.units + #group
    tally.groups = tally.groups + 1
    if #group > 1 then groups[#groups + 1] = group end
  end
  tally.networks = tally.networks + 1
  local before, last = traced:nodes(), nil
  for _, units in ipairs(sets(groups, random)) do
    local kept = verified(traced, inputs, units, random)
    if kept then tally.removals, last = tally.removals + 1, last or kept end
  end
  if not last then
    for _, node in ipairs(before) do tally.ran[node.op] = (tally.ran[node.op] or 0) + 1 end
    return
  end
  local own, pruned = applied(net, program.inputs, inputs, last, random)
  tally.own = tally.own + (own and 1 or 0)
  tally.applied = tally.applied + 1
  count(before, pruned, tally)
end

-- --- cutting a failure down -----------------------------------------------------------------------------------------------

local function fails(program, check)
  local ok, message = pcall(check, program)
  return not ok and tostring(message) or nil
end

-- Without step k: its result is its first input, where shapes agree.
local function without(program, k)
  local step = program.steps[k]
  if #step.gives ~= 1 or #step.from == 0 or not same_shape(program.shapes[step.gives[1]], program.shapes[step.from[1]]) then return nil end
  local from, to = step.gives[1], step.from[1]
  local function renamed(list)
    local new = {}
    for i, v in ipairs(list) do new[i] = v == from and to or v end
    return new
  end
  local steps = {}
  for i, old in ipairs(program.steps) do
    if i ~= k then
      local copy = {}
      for key, value in pairs(old) do copy[key] = value end
      copy.from = renamed(old.from)
      steps[#steps + 1] = copy
    end
  end
  return { steps = steps, inputs = program.inputs, outputs = renamed(program.outputs), shapes = program.shapes }
end

-- A program whose outputs are those of `list` that are results of steps.
local function with_outputs(program, list)
  return { steps = program.steps, inputs = program.inputs, outputs = list, shapes = program.shapes }
end

--- The smallest program found that still fails, and its message: outputs are left out, and steps that keep the shape.
function network.minimise(program, message, check)
  local best, smaller_found = program, true
  while smaller_found do
    smaller_found = false
    if #best.outputs > 1 then
      for i = 1, #best.outputs do
        local fewer = table.move(best.outputs, 1, #best.outputs, 1, {})
        table.remove(fewer, i)
        local smaller = with_outputs(best, fewer)
        local why = fails(smaller, check)
        if why then best, message, smaller_found = smaller, why, true break end
      end
    end
    for k = #best.steps, 1, -1 do
      local smaller = best.steps[k] and without(best, k)
      local why = smaller and fails(smaller, check)
      if why then best, message, smaller_found = smaller, why, true end
    end
  end
  return best, message
end

return network
