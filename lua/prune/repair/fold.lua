-- fold.lua - what a removed channel gave as a constant goes into the bias of the layers that read it: b += sum over k of W[:, k] c_k.
--
-- The constant c_k is what the channel holds once its weights are gone and its biases stay: act(b_k), and act(beta_k) where a batch norm
-- stands between. Where the channel's weights (or its batch norm's scale) are zero already, that is the channel itself, and the output of
-- the model does not change. Nothing here knows layers by name: the constants are read off a run of the graph in which the weights of
-- the removed units are zero, and a layer takes what its own operator gives for an input that holds only these constants.
local core = require "prune.core"
local surgery = require "prune.surgery"
local util = require "prune.util"

local fold = {}

-- The axis of the input that an operator sums over, for those that can hand a constant on.
local function summed_axis(node)
  if node.op == "linear" or node.op == "lstm" or node.op == "gru" then return #node.inputs[1].shape end
  return node.op:match "^conv" and 2 or nil
end

-- What is added to the product with the weight: the third input, of recurrent layers the fourth.
local function bias_of(node) return node.inputs[(node.op == "lstm" or node.op == "gru") and 4 or 3] end

-- 0 and 1 by position: what is not in the list is 0.
local function marks(list, size)
  local set = {}
  for i = 1, size do set[i] = 0 end
  for _, i in ipairs(list) do set[i] = 1 end
  return set
end

-- A vector along one axis of a tensor with `dim` axes.
local function along(vector, axis, dim)
  local shape = {}
  for d = 1, dim do shape[d] = d == axis and vector:numel() or 1 end
  return vector:reshape(shape)
end

-- Parts of the units by name and axis, of all scopes: does the axis make units, does it take in what others make?
local function flags_of(traced)
  local flags = {}
  for _, group in ipairs(traced:groups { all = true }) do
    for part in group:parts() do
      flags[part.name] = flags[part.name] or {}
      flags[part.name][part.dim] = { producer = part.producer, consumer = part.consumer }
    end
  end
  return flags
end

local function is_norm(node) return node.op:match "_norm$" ~= nil end

-- Parameters that are only added.
local function biases_of(s)
  local set = {}
  for _, node in ipairs(s.nodes) do
    local bias = (is_norm(node) or summed_axis(node)) and bias_of(node)
    if bias then set[bias] = true end
  end
  return set
end

-- Is a slice of a parameter zero, for every position of the axis? As a list of booleans.
local function zero_slices(t, axis)
  local other = {}
  for d = 1, t:dim() do
    if d ~= axis then other[#other + 1] = d end
  end
  local largest = t:value():abs()
  if #other > 0 then largest = largest:amax { dim = other } end
  return largest:eq(0):totable()
end

-- Does a norm with zero scale stand between the layer that reads this weight and everything else? By position, or nil.
local function silenced(s, weight)
  local uses = s:uses(weight)
  local next_uses = #uses == 1 and s:uses(uses[1][1].outputs[1])
  local norm = next_uses and #next_uses == 1 and next_uses[1][1]
  return norm and norm.op == "batch_norm" and norm.inputs[2] and norm.inputs[2].tensor and zero_slices(norm.inputs[2].tensor, 1) or nil
end

-- Units that are not constant in the model as it is: something that makes them has weights that are not zero.
local function varying_units(s, traced, units, kept, flags)
  local wanted, varying = {}, {}
  for _, u in ipairs(units) do wanted[u] = true end
  for _, value in ipairs(s.tensors) do
    for axis, list in pairs(kept[value.number] or {}) do
      local flag = (flags[value.name] or {})[axis]
      if flag and flag.producer then
        local stays, zero = marks(list, value.shape[axis]), zero_slices(value.tensor, axis)
        local quiet = silenced(s, value) or {}
        for i = 1, value.shape[axis] do
          if stays[i] == 0 and not zero[i] and not quiet[i] then
            local u = traced:group(value.name, axis, { i }):units()[1]
            if not wanted[u] then return units end -- a position of two factors: which of them went is not told, so nothing is called exact
            varying[u] = true
          end
        end
      end
    end
  end
  local list = {}
  for _, u in ipairs(units) do
    if varying[u] then list[#list + 1] = u end
  end
  return list
end

-- Zero what makes the varying units; the other tensors are the model's own.
local function silence(s, kept, flags)
  local bias = biases_of(s)
  for _, value in ipairs(s.tensors) do
    for axis, list in pairs(value.kind == "parameter" and not bias[value] and kept[value.number] or {}) do
      local flag = (flags[value.name] or {})[axis]
      if not (flag and flag.consumer) then
        local mask = core.tensor(marks(list, value.shape[axis])):to(value.tensor.dtype)
        value.tensor = value.tensor:value() * along(mask, axis, #value.shape)
      end
    end
  end
end

local MOST = 32 -- outputs of one run

-- What the inputs of these nodes hold in the graph with its changes, for random inputs: value -> tensor.
local function record(s, nodes, inputs)
  local wanted, seen, results = {}, {}, {}
  for _, node in ipairs(nodes) do
    local value = node.inputs[1]
    if not seen[value] then
      seen[value] = true
      wanted[#wanted + 1] = value
    end
  end
  local outputs = s.outputs
  for first = 1, #wanted, MOST do
    s.outputs = table.move(wanted, first, math.min(first + MOST - 1, #wanted), 1, {})
    local got = table.pack(s:close():run(inputs, false))
    for i, value in ipairs(s.outputs) do results[value] = got[i] end
  end
  s.outputs = outputs
  return results
end

-- The constants of an axis: per position the value where it is the same everywhere, else NaN.
local function constants(x, axis)
  local order = { axis }
  for d = 1, x:dim() do
    if d ~= axis then order[#order + 1] = d end
  end
  local rows = x:permute(order):reshape(x:size(axis), -1):to "f64"
  local low, high = rows:amin { dim = { 2 } }:totable(), rows:amax { dim = { 2 } }:totable()
  local tolerance = x.dtype == "f64" and 1e-12 or 1e-5
  for i, value in ipairs(low) do
    local same = high[i] - value <= tolerance * math.max(math.abs(value), 1e-30) -- false for a NaN
    low[i] = same and value or 0 / 0
  end
  return low
end

-- What a node adds to its output for an input that holds the constants: one number per output channel, and whether that is so everywhere;
-- nil where it depends on the place (padding brings zeros, or a transposed convolution's windows overlap). `interior`: then that of the middle.
local function contribution(node, x, axis, values, interior)
  local shape = x:size()
  shape[1] = axis == 1 and shape[1] or 1
  local input = along(core.tensor(values, { dtype = "f64" }), axis, #shape):expand(shape):contiguous()
  local conv = node.op:match "^conv" ~= nil
  local y = core.ops[conv and node.op or "linear"](input, node.inputs[2].tensor:value():to "f64", nil, conv and node.given or {})
  local out_axis = conv and 2 or y:dim()
  local order = { out_axis }
  for d = 1, y:dim() do
    if d ~= out_axis then order[#order + 1] = d end
  end
  y = y:permute(order):reshape(y:size(out_axis), -1)
  local low, high = y:amin { dim = { 2 } }, y:amax { dim = { 2 } }
  local scale = y:abs():amax():item()
  if (high - low):amax():item() <= 1e-12 * scale then return low, true end
  return interior and y:select(2, y:size(2) // 2 + 1) or nil, false
end

local function spoilt_by(node)
  return node.op:find "transpose" and "what it adds differs from place to place" or "its padding brings zeros"
end

-- Where the contribution goes: the layer's bias, or, subtracted, the running mean of the batch norm behind it.
local function target_of(s, node)
  local bias = bias_of(node)
  if bias then return bias.tensor and bias, 1, "bias" end
  if not node.op:match "^conv" and node.op ~= "linear" then return nil end
  local uses = s:uses(node.outputs[1])
  local norm = #uses == 1 and uses[1][1]
  for _, output in ipairs(s.outputs) do norm = output ~= node.outputs[1] and norm end
  if norm and norm.op == "batch_norm" and norm.inputs[4] then return norm.inputs[4], -1, "running mean" end
end

--- Layers that lose inputs.
-- @param s surgery of a graph
-- @param kept of the graph, for the units that go
-- @return list of nodes
function fold.consumers(s, kept)
  local list = {}
  for _, node in ipairs(s.nodes) do
    local axis = summed_axis(node)
    local gone = axis and node.inputs[1] and (kept[node.inputs[1].number] or {})[axis]
    -- a depthwise convolution passes its channels on: they are gone behind it too
    local depthwise = node.op:match "^conv" and node.inputs[2].shape[2] == 1 and node.op:find "transpose" == nil
    if gone and not (depthwise and (kept[node.outputs[1].number] or {})[2]) then list[#list + 1] = node end
  end
  return list
end

-- Do statistics run over what goes? Those of the rest then change with it, and nothing is exact.
local function changes_statistics(s, kept)
  for _, node in ipairs(s.nodes) do
    local gone = node.inputs[1] and kept[node.inputs[1].number]
    if gone and (node.op == "layer_norm" or node.op == "rms_norm" or node.op == "group_norm") then
      local last = #node.inputs[1].shape
      local first = node.op == "group_norm" and 2 or last - (tonumber(node.arguments.dims) or 1) + 1
      for axis = first, last do
        if gone[axis] then return true end
      end
    end
  end
  return false
end

-- Other operators that lose inputs of a weight (a matrix product): what they lose cannot be put anywhere, which is told where it is not 0.
local function others(s, kept, flags)
  local list = {}
  for _, node in ipairs(s.nodes) do
    local loses = false
    for _, value in ipairs(summed_axis(node) and {} or node.inputs) do
      for axis in pairs(value and value.name and kept[value.number] or {}) do
        local flag = (flags[value.name] or {})[axis]
        loses = loses or flag and flag.consumer and not flag.producer
      end
    end
    local x = node.inputs[1]
    if loses and x and x.node then list[#list + 1] = node end
  end
  return list
end

local function lost_constants(node, x, kept)
  local count = 0
  for axis, list in pairs(kept[node.inputs[1].number] or {}) do
    local stays = marks(list, x:size(axis))
    for i, value in ipairs(constants(x, axis)) do
      if stays[i] == 0 and value ~= 0 then count = count + 1 end
    end
  end
  return count
end

--- Work out what folding would change.
-- @param traced graph, before the removal
-- @param units list of numbers
-- @param options { interior = take the constant of the middle where padding brings zeros }
-- @return table: name of a tensor -> what is added to it (f64, full size)
-- @return list of { path =, channels =, exact =, into = } or { path =, channels =, reason = }
function fold.plan(traced, units, o)
  local s = surgery.open(traced)
  local kept, flags = traced:kept(units), flags_of(traced)
  local nodes = fold.consumers(s, kept)
  local varying = traced:kept(varying_units(s, traced, units, kept, flags))
  local targets = {}
  for _, node in ipairs(nodes) do targets[node] = table.pack(target_of(s, node)) end -- before anything is changed
  silence(s, varying, flags)
  local inputs = {}
  for i, input in ipairs(traced:inputs()) do
    local known = (traced:state().inputs or {})[i]
    inputs[i] = util.probe({ shape = input.shape, dtype = input.dtype, max = known and known.max }, 3)
  end
  local rest = others(s, kept, flags)
  local results = core.no_grad(record, s, table.move(rest, 1, #rest, #nodes + 1, table.move(nodes, 1, #nodes, 1, {})), inputs)
  local sums, order, report, steady = {}, {}, {}, not changes_statistics(s, kept)
  for _, node in ipairs(nodes) do
    local axis, x = summed_axis(node), results[node.inputs[1]]
    local stays = marks(kept[node.inputs[1].number][axis], node.inputs[1].shape[axis])
    local changing = (varying[node.inputs[1].number] or {})[axis]
    local exact_at = changing and marks(changing, #stays)
    local line = { path = node.path, channels = 0, exact = steady }
    local values, unknown = constants(x, axis), 0
    for i, value in ipairs(values) do
      if stays[i] == 1 or value == 0 then values[i] = 0
      elseif value ~= value then
        values[i], unknown = 0, unknown + 1
      else
        line.channels = line.channels + 1
        if exact_at and exact_at[i] == 0 then line.exact = false end
      end
    end
    if unknown > 0 then
      report[#report + 1] = { path = node.path, channels = unknown, reason = "what they give depends on the input even without their weights" }
    end
    local target, sign, into = table.unpack(targets[node], 1, 3)
    local change
    if line.channels > 0 and not node.inputs[2].tensor then line.reason = "its weight is computed"
    elseif line.channels > 0 and not target then
      line.reason = "it has neither a bias nor a batch norm with running statistics behind it; give it a bias"
    elseif line.channels > 0 and target.tensor.mask then line.reason = "its " .. into .. " is masked"
    elseif line.channels > 0 then
      local everywhere
      change, everywhere = core.no_grad(contribution, node, x, axis, values, o.interior)
      line.exact = line.exact and everywhere
      if not change then line.reason = spoilt_by(node) .. "; fold = \"interior\" takes the constant of the middle" end
    end
    if line.channels > 0 then report[#report + 1] = line end
    if target then
      if not sums[target.name] then order[#order + 1] = target end
      local sum = sums[target.name] or { node = node, changes = {}, lines = {} }
      sums[target.name] = sum
      sum.changes[#sum.changes + 1] = change and change * sign or core.zeros { target.shape[1], dtype = "f64" }
      sum.lines[#sum.lines + 1] = not line.reason and line.channels > 0 and line or nil
      line.into = not line.reason and into or nil
    end
  end
  for _, node in ipairs(rest) do
    local count = lost_constants(node, results[node.inputs[1]], kept)
    if count > 0 then report[#report + 1] = { path = node.path, channels = count, reason = node.op .. " has no bias to take it" } end
  end
  local deltas = {}
  for _, target in ipairs(order) do
    local sum = sums[target.name]
    local same = #sum.changes == #s:uses(target)
    for _, change in ipairs(sum.changes) do same = same and change:allclose(sum.changes[1], { rtol = 1e-9, atol = 1e-12 }) end
    if same then deltas[target.name] = sum.changes[1]
    else
      for _, line in ipairs(sum.lines) do line.reason, line.into = "it runs more than once, with other inputs each time", nil end
    end
  end
  return deltas, report
end

return fold
