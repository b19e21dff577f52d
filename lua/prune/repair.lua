-- repair.lua - what pruning did to a model and data can mend without training. Two more repairs belong to the removal and are options of
-- plan:apply: `fold` puts the constants of removed channels into the next layers, `reconstruct` fits the next layers by least squares.
local calibration = require "prune.calibration"
local core = require "prune.core"
local graph = require "prune.graph"
local options = require "prune.options"
local progress = require "prune.progress"
local surgery = require "prune.surgery"

local repair = {}

-- The graph of a model for the inputs of a batch; what it was traced with before, which prune.save goes by, stays.
local function traced_for(net, inputs)
  local known = type(net) == "table" and rawget(net, "_input")
  local traced = graph.graph(net, inputs)
  if known then rawset(net, "_input", known) end
  return traced
end

-- --- batch norm -------------------------------------------------------------------------------------------------------

-- A variant of the graph in which every norm that keeps running statistics writes those of the latest batch into buffers of its own, and
-- nothing is dropped. `norms`: the real buffers, the own ones, and how many values of a sample make an entry.
local function measuring(traced)
  local s, norms = surgery.open(traced), {}
  for _, node in ipairs(s.nodes) do
    if node.op == "dropout" then s:argument(node, "p", "0") end
    if (node.op == "batch_norm" or node.op == "instance_norm") and node.inputs[4] then
      local x, instance = node.inputs[1], node.op == "instance_norm"
      local norm = { path = node.path, mean = node.inputs[4].tensor, var = node.inputs[5].tensor, size = 1, instance = instance }
      for d = 3, instance and 0 or #x.shape do norm.size = norm.size * x.shape[d] end
      norm.own_mean, norm.own_var = core.zeros(norm.mean:size()):to(norm.mean.dtype), core.zeros(norm.var:size()):to(norm.var.dtype)
      node.inputs[4], node.inputs[5] = s:constant(norm.own_mean), s:constant(norm.own_var)
      s:argument(node, "momentum", "1")
      norms[#norms + 1] = norm
    end
  end
  return s:close(), norms
end

-- Statistics of a batch of n values into those of all before (Chan, Golub and LeVeque 1983). The kernel stores the unbiased variance; an
-- instance norm's is that of each image, averaged over the images.
local function accumulate(total, n, mean, var, instance)
  if not total.n then
    total.n, total.mean, total.square = n, mean, instance and var * n or var * (n - 1)
    return
  end
  local delta, sum = mean - total.mean, total.n + n
  total.mean = total.mean + delta * (n / sum)
  total.square = total.square + (instance and var * n or var * (n - 1) + delta * delta * (total.n * n / sum))
  total.n = sum
end

--- Measure the running statistics of a model's norms anew: exact mean and variance over all values of the calibration batches, each layer fed
-- as in training (by batch statistics), nothing dropped (Wu and Johnson 2021, "precise BN"). To do after weights have been removed or masked,
-- since statistics of before no longer fit. Nothing but the running statistics changes, and these not when anything fails.
-- @param net a module that has batch (or instance) norm with running statistics
-- @param data has batches(); or a list of inputs or of { inputs, labels }; or one tensor of inputs
-- @param options { batches = how many batches (nil: all) }
-- @return the module
-- @usage prune.repair.batch_norm(net, train, { batches = 20 })
function repair.batch_norm(net, data, given)
  local where = "prune.repair.batch_norm"
  local o = options.check(where, given, { batches = options.none })
  if o.batches ~= nil then options.count(where, "batches", o.batches) end
  local run, norms, totals = nil, nil, {}
  local bar = progress.bar { total = o.batches, label = "batch norm", leave = false }
  local over <close> = setmetatable({}, { __close = function() bar:done() end }) -- luacheck: ignore
  local guard <close> = core.no_grad() -- luacheck: ignore
  for x in calibration.batches(data, o.batches, where) do
    local inputs = core.is_tensor(x) and { x } or x
    if not run then
      run, norms = measuring(traced_for(net, inputs))
      if #norms == 0 then error(where .. ": the model has no batch norm with running statistics", 2) end
    end
    run:run(inputs, true)
    for _, norm in ipairs(norms) do
      local total = totals[norm.mean] or { norm = norm }
      totals[norm.mean] = total -- uses of a layer that runs more than once count together
      accumulate(total, inputs[1]:size(1) * norm.size, norm.own_mean:to("f64"):clone(), norm.own_var:to "f64", norm.instance)
    end
    bar:step()
  end
  for _, total in pairs(totals) do
    total.var = total.square / (total.norm.instance and total.n or math.max(total.n - 1, 1))
    if not (total.mean:isfinite():all():item() and total.var:isfinite():all():item()) then
      error(("%s: the statistics of '%s' are not finite"):format(where, total.norm.path), 2)
    end
  end
  for _, total in pairs(totals) do
    total.norm.mean:copy(total.mean)
    total.norm.var:copy(total.var)
  end
  return net
end

return repair
