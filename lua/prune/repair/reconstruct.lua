-- reconstruct.lua - the layers that lose inputs are fitted anew, so that on calibration data they give what they gave in the whole model: least
-- squares (He, Zhang and Sun, "Channel pruning", ICCV 2017; ThiNet, Luo et al., ICCV 2017).
--
-- Layer by layer in the order in which they run, so that each is fitted to the inputs that it will get. The unknown is the change D of the weights:
-- with X the inputs as windows in rows (and a column of ones where there is a bias) and R what is missing in the output,
--     D = (X^T X + ridge d I)^-1 X^T R,   d the mean of X^T X's diagonal.
-- which for layers of very many inputs is computed as D = X^T (X X^T + ridge d I)^-1 R. The penalty is on the change, so that the error on the
-- calibration data cannot grow, whatever the ridge.
local calibration = require "prune.calibration"
local core = require "prune.core"
local fold = require "prune.repair.fold"
local options = require "prune.options"
local progress = require "prune.progress"
local surgery = require "prune.surgery"

local reconstruct = {}
local none = options.none
local where = "plan:apply: reconstruct"

--- Check the option.
-- @param given table
-- @return table
function reconstruct.read(given)
  if type(given) ~= "table" then error(("%s must be a table { data = ... }, got %s"):format(where, type(given)), 3) end
  local o = options.check(where, given, { data = none, batches = 4, ridge = 1e-4, positions = none })
  if o.data == nil then error(where .. ": data is needed: what to fit the layers on", 3) end
  if type(o.ridge) ~= "number" or o.ridge ~= o.ridge or o.ridge <= 0 then
    error(("%s: ridge must be a number above 0, got %s"):format(where, tostring(o.ridge)), 3)
  end
  if o.positions ~= nil then options.count(where, "positions", o.positions) end
  return o
end

local LARGEST = 1 << 22 -- numbers of a matrix of windows at a time
local MOST = 4096 -- rows of the matrix that is solved: of X^T X, else of X X^T

local function pair(value, default)
  if type(value) ~= "table" then value = { value or default } end
  return #value == 1 and { value[1], value[1] } or value
end

-- The input of a layer as [n, windows, columns] and its output as [n, windows, channels]: what is multiplied by the weights.
local function input_windows(node, weight, x)
  if node.op == "linear" then return x:reshape(x:size(1), -1, x:size(x:dim())) end
  local given, size = node.given, weight:size()
  local o = { kernel_size = { size[3], size[4] }, stride = pair(given.stride, 1), padding = pair(given.padding, 0),
    dilation = pair(given.dilation, 1) }
  if node.op == "conv1d" then -- a row of an image
    x = x:unsqueeze(3)
    o.kernel_size = { 1, size[3] }
    o.stride[1], o.padding[1], o.dilation[1] = 1, 0, 1
  end
  return x:unfold(o):transpose(2, 3)
end

local function output_windows(node, y)
  if node.op == "linear" then return y:reshape(y:size(1), -1, y:size(y:dim())) end
  return y:reshape(y:size(1), y:size(2), -1):transpose(2, 3)
end

-- [inputs, 1, what is missing in the output] of a group go into its Gram matrix; where that would be too large they are kept themselves.
local function add_rows(job, g, rows)
  if job.width <= MOST then
    job.grams[g] = job.grams[g] or core.zeros { rows:size(2), rows:size(2), dtype = "f64" }
    core.gram_add(job.grams[g], rows)
    return
  end
  if g == 1 then job.count = job.count + rows:size(1) end
  if job.count <= MOST then table.insert(job.kept[g], rows:to "f64") end
end

-- Add one batch. `index`: windows that count, of every sample; nil: all.
local function add_batch(job, x, missing, index)
  local n, columns, channels = x:size(1), job.columns, missing:size(3)
  local step = math.max(1, LARGEST // (missing:size(2) * columns * job.groups))
  for first = 1, n, step do
    local count = math.min(step, n - first + 1)
    local a, r = input_windows(job.node, job.weight, x:narrow(1, first, count)), missing:narrow(1, first, count)
    if index then a, r = a:index_select(index, { dim = 2 }), r:index_select(index, { dim = 2 }) end
    a, r = a:reshape(-1, columns * job.groups), r:reshape(-1, channels)
    local ones = job.bias and core.ones({ a:size(1), 1 }):to(a.dtype)
    local width = channels // job.groups
    for g = 1, job.groups do
      local parts = { a:narrow(2, (g - 1) * columns + 1, columns), r:narrow(2, (g - 1) * width + 1, width) }
      if ones then table.insert(parts, 2, ones) end
      add_rows(job, g, core.ops.cat(parts, 2))
    end
  end
end

-- Run both models over the batches: the whole one up to the layer's output, the small one up to its input and output.
local function gather(job, batches, positions)
  local axis = job.node.op == "linear" and #job.node.outputs[1].shape or 2
  for _, inputs in ipairs(batches) do
    local want = job.whole:run(inputs, false)
    if job.rows then want = want:index_select(job.rows, { dim = axis }) end
    local x, y = job.small:run(inputs, false)
    local missing = output_windows(job.node, want - y)
    local index
    if positions and positions < missing:size(2) then index = select(2, core.rand({ missing:size(2) }):topk(positions)) end
    local counted = output_windows(job.node, want)
    if index then counted = counted:index_select(index, { dim = 2 }) end
    job.wanted = job.wanted + counted:to("f64"):square():sum():item()
    add_batch(job, x, missing, index)
  end
end

local function trace(a) return (a * core.eye(a:size(1)):to "f64"):sum():item() end

-- a + ridge times the mean of the diagonal of X^T X, whose trace is a's too.
local function damped(a, ridge, d)
  local diagonal = trace(a) / d
  return a + core.eye(a:size(1)):to "f64" * (ridge * (diagonal > 0 and diagonal or 1))
end

-- The change for one group, and its squared error before and after.
local function solve_gram(gram, d, ridge)
  local m = gram:size(1) - d
  local xx, xr = gram:narrow(1, 1, d):narrow(2, 1, d):contiguous(), gram:narrow(1, 1, d):narrow(2, d + 1, m):contiguous()
  local change = core.solve(damped(xx, ridge, d), xr)
  local before = trace(gram:narrow(1, d + 1, m):narrow(2, d + 1, m))
  return change, before, before - 2 * (change * xr):sum():item() + (change * xx:matmul(change)):sum():item()
end

local function solve_rows(rows, d, ridge)
  local m = rows:size(2) - d
  local x, r = rows:narrow(2, 1, d):contiguous(), rows:narrow(2, d + 1, m):contiguous()
  local kernel = x:matmul(x:transpose(1, 2)):contiguous()
  local share = core.solve(damped(kernel, ridge, d), r)
  return x:transpose(1, 2):matmul(share), r:square():sum():item(), (r - kernel:matmul(share)):square():sum():item()
end

local function check_finite(job)
  local sum = job.wanted
  for g = 1, job.groups do
    sum = sum + (job.grams[g] and job.grams[g]:sum():item() or 0)
    for _, rows in ipairs(job.kept[g]) do sum = sum + rows:sum():item() end
  end
  if sum ~= sum or math.abs(sum) == math.huge then
    error(("%s: what '%s' reads or gives on the data is NaN or infinite"):format(where, job.node.path), 0)
  end
end

-- Solve for the change of the weights; the squared error before and after. The weights are changed.
local function solve(job, ridge)
  local before, after, weights, biases = 0, 0, {}, {}
  for g = 1, job.groups do
    local change, was, is
    if job.width <= MOST then change, was, is = solve_gram(job.grams[g], job.width, ridge)
    else change, was, is = solve_rows(core.ops.cat(job.kept[g], 1), job.width, ridge) end
    before, after = before + was, after + is
    weights[g] = change:narrow(1, 1, job.columns):transpose(1, 2)
    if job.bias then biases[g] = change:narrow(1, job.width, 1):reshape(change:size(2)) end
  end
  if after == after and after < before then
    job.weight:copy(job.weight:to "f64" + core.ops.cat(weights, 1):reshape(job.weight:size()))
    if job.bias then job.bias:copy(job.bias:to "f64" + core.ops.cat(biases, 1)) end
    return before, after
  end
  return before, before
end

-- Why a layer cannot be fitted, or nil.
local function obstacle(s, node, masked)
  local weight, bias = node.inputs[2], node.inputs[3]
  if node.op ~= "linear" and node.op ~= "conv1d" and node.op ~= "conv2d" then return node.op .. " is not fitted" end
  if weight.kind ~= "parameter" or bias and bias.kind ~= "parameter" then return "its weight is computed" end
  if masked[weight.name] or bias and masked[bias.name] then return "its weight is masked" end
  if #s:uses(weight) > 1 or bias and #s:uses(bias) > 1 then return "it runs more than once" end
end

-- A graph up to the given values.
local function tap(s, ...)
  local kept = s.outputs
  s.outputs = { ... }
  local graph = s:close()
  s.outputs = kept
  return graph
end

--- Fit the layers of a smaller copy that lost inputs to what they give in the whole model.
-- @param whole graph before the removal
-- @param small a copy of it after the removal; its tensors are changed
-- @param kept whole:kept(units)
-- @param o options, from reconstruct.read
-- @return list of names of the tensors that were changed
-- @return list of { path =, before =, after = (squared errors relative to the output) } or { path =, reason = }
function reconstruct.fit(whole, small, kept, o)
  local a, b, masked, names, report = surgery.open(whole), surgery.open(small), {}, {}, {}
  for _, value in ipairs(whole:tensors()) do masked[value.name] = value.kind ~= "constant" and value.tensor.mask ~= nil end
  if #a.nodes ~= #b.nodes then error(where .. ": the removal changed the operators of the model; it cannot be fitted", 0) end
  local batches = {}
  for x in calibration.batches(o.data, o.batches, where) do batches[#batches + 1] = core.is_tensor(x) and { x } or x end
  local twins, jobs = {}, {}
  for i, node in ipairs(a.nodes) do twins[node] = b.nodes[i] end
  for _, node in ipairs(fold.consumers(a, kept)) do jobs[#jobs + 1] = node end
  local bar = progress.bar { total = #jobs, label = "reconstruct", leave = false }
  local over <close> = setmetatable({}, { __close = function() bar:done() end }) -- luacheck: ignore
  for _, from in ipairs(jobs) do
    local node = twins[from]
    local line = { path = node.path, reason = obstacle(a, from, masked) }
    if not line.reason then
      local weight, bias = node.inputs[2], node.inputs[3]
      local job = { node = node, weight = weight.tensor, bias = bias and bias.tensor, groups = node.given.groups or 1, grams = {}, wanted = 0,
        columns = weight.tensor:numel() // weight.tensor:size(1), rows = (kept[from.inputs[2].number] or {})[1] }
      job.width = job.columns + (job.bias and 1 or 0)
      job.kept, job.count = {}, 0
      for g = 1, job.groups do job.kept[g] = {} end
      job.rows = job.rows and core.tensor(job.rows, { dtype = "i64" })
      job.whole, job.small = tap(a, from.outputs[1]), tap(b, node.inputs[1], node.outputs[1])
      gather(job, batches, o.positions)
      if job.count > MOST then
        line.reason = ("it has %d inputs, and more than %d rows of data; give fewer batches or positions"):format(job.columns, MOST)
      else
        check_finite(job)
        local before, after = solve(job, o.ridge)
        line.before, line.after = before / math.max(job.wanted, 1e-300), after / math.max(job.wanted, 1e-300)
        names[#names + 1] = weight.name
        if bias then names[#names + 1] = bias.name end
      end
      collectgarbage()
    end
    report[#report + 1] = line
    bar:step(1, node.path)
  end
  return names, report
end

return reconstruct
