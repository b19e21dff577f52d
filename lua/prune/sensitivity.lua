-- sensitivity.lua - what each group of units is worth: the loss of the model without some of them, group by group, ratio by ratio.
local allocation = require "prune.allocation"
local calibration = require "prune.calibration"
local core = require "prune.core"
local graph = require "prune.graph"
local options = require "prune.options"
local picture = require "prune.picture"
local progress = require "prune.progress"
local structured = require "prune.structured"
local util = require "prune.util"

local none = options.none

local Sensitivity = {}
Sensitivity.__index = Sensitivity

local function read_ratios(ratios)
  local list = {}
  for i, ratio in ipairs(type(ratios) == "table" and ratios or { ratios }) do
    if type(ratio) ~= "number" or not (ratio > 0 and ratio < 1) then
      error(("prune.sensitivity: ratios are numbers between 0 and 1, number %d is %s"):format(i, tostring(ratio)), 3)
    end
    list[i] = ratio
  end
  if #list == 0 then error("prune.sensitivity: ratios is empty", 3) end
  table.sort(list)
  return list
end

-- Batches as they come, kept, so that every variant is measured on the same ones: list of { list of inputs, labels }.
local function collect(data, batches, where)
  local list = {}
  for x, y in calibration.batches(data, batches, where) do
    list[#list + 1] = { core.is_tensor(x) and { x } or x, y }
  end
  return list
end

local function correct(output, y) return output:argmax(2):eq(y):sum():item() end

-- Loss and metric of a graph, means over the samples: { loss =, metric = }.
local function measure(variant, batches, o, where)
  local samples, loss, metric = 0, 0, 0
  for _, batch in ipairs(batches) do
    local x, y = batch[1], batch[2]
    local n, output = x[1]:size(1), variant:run(x, false)
    samples, loss = samples + n, loss + calibration.loss(o.loss, output, y, where):item() * n
    if o.metric then
      local value = o.metric(output, y)
      if type(value) ~= "number" then error(where .. ": the metric must return a number, got " .. type(value), 0) end
      metric = metric + value
    end
  end
  return { loss = loss / samples, metric = o.metric and metric / samples or nil }
end

-- Units of a plan by group, and what the groups are called: the first parameter that makes the units, and all of them.
local function describe(plan)
  local list = {}
  for planned in plan:groups() do
    local entry = { name = planned.name, dim = planned.dim, count = planned.count, units = planned:units(), makers = {} }
    for _, part in ipairs(planned.parts) do
      if part.producer then entry.makers[#entry.makers + 1] = part.name end
    end
    list[#list + 1] = entry
  end
  return list
end

--- Measure how a model reacts when a share of each group's units is missing, one group at a time: the pruned model is run, which computes what
-- the ablated one does. Every variant is a copy, so the model is never touched, whatever happens.
-- @param net a module
-- @param shape input without the batch
-- @param options
--   data: has batches(), or a list of { inputs, labels } (required); batches: at most so many (all);
--   criterion: which units go first, as for prune.structured (magnitude); ratios: shares of a group's units ({ 0.1, 0.2, ..., 0.9 });
--   loss: function(output, labels) -> scalar tensor (cross entropy); metric: function(output, labels) -> number summed over the batch
--   (correct answers, where the loss is the cross entropy); ignore: as for prune.structured
-- @return a table to print, with save(path.csv), plot(path.svg), allocation(), base = { loss =, metric = } and groups = list of
-- { name =, dim =, count =, points = list of { ratio =, gone =, loss =, metric = } }
-- @usage print(prune.sensitivity(net, { 3, 32, 32 }, { data = test, batches = 10, ratios = { 0.25, 0.5, 0.75 } }))
local function sensitivity(net, shape, given)
  local where = "prune.sensitivity"
  local o = options.check(where, given, {
    data = none, batches = none, criterion = none, loss = none, metric = none, ignore = none,
    ratios = { 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9 },
  })
  calibration.check(where, o)
  options.callable(where, "metric", o.metric)
  if o.data == nil then error("prune.sensitivity: option data is needed: what to measure the loss on", 2) end
  if o.metric == nil and o.loss == nil then o.metric = correct end
  local ratios = read_ratios(o.ratios)
  local batches = collect(o.data, o.batches, where)
  local plans = {}
  for i, ratio in ipairs(ratios) do
    plans[i] = structured.structured(net, shape, { criterion = o.criterion, ratio = ratio, ignore = o.ignore, scope = "local",
      data = o.data, batches = o.batches, loss = o.loss })
  end
  local self = setmetatable({ ratios = ratios, groups = {}, has_metric = o.metric ~= nil, is_accuracy = o.metric == correct },
    Sensitivity)
  local guard <close> = core.no_grad() -- luacheck: ignore
  local bar = progress.bar { total = #plans[1].entries * #ratios, label = "sensitivity", leave = false }
  local over <close> = setmetatable({}, { __close = function() bar:done() end }) -- luacheck: ignore
  self.base = measure(plans[1].graph, batches, o, where)
  for i, plan in ipairs(plans) do
    for g, entry in ipairs(describe(plan)) do
      local group = self.groups[g] or { name = entry.name, dim = entry.dim, count = entry.count, makers = entry.makers, points = {} }
      self.groups[g] = group
      local result = self.base
      if #entry.units > 0 then
        local variant = plan.graph:copy()
        variant:remove_units(entry.units)
        result = measure(variant, batches, o, where)
        collectgarbage() -- the copy is large, and Lua does not see how large
      end
      group.points[i] = { ratio = ratios[i], gone = #entry.units, loss = result.loss, metric = result.metric }
      bar:step(1, entry.name)
    end
  end
  return self
end

-- --- what can be done with it -----------------------------------------------------------------------------------------

local function table_of(self, field, format)
  local lines, right = { { "group", "axis", "units" } }, { false, true, true }
  for i, ratio in ipairs(self.ratios) do lines[1][3 + i], right[3 + i] = ("%g%%"):format(100 * ratio), true end
  for _, group in ipairs(self.groups) do
    local line = { group.name, tostring(group.dim), tostring(group.count) }
    for i, point in ipairs(group.points) do line[3 + i] = format(point[field]) end
    lines[#lines + 1] = line
  end
  local out = graph.aligned(lines, right)
  table.insert(out, 2, ("-"):rep(#out[1]))
  return table.concat(out, "\n")
end

Sensitivity.__tostring = function(self)
  local function loss(x) return ("%.4f"):format(x) end
  local function metric(x) return self.is_accuracy and ("%.2f%%"):format(100 * x) or ("%.4g"):format(x) end
  local text = ("loss by share of the group's units that is missing (nothing missing: %s)\n%s"):format(loss(self.base.loss),
    table_of(self, "loss", loss))
  if not self.has_metric then return text end
  return text .. ("\n\n%s (nothing missing: %s)\n%s"):format(self.is_accuracy and "accuracy" or "metric", metric(self.base.metric),
    table_of(self, "metric", metric))
end

--- Write it as CSV: a line for each group and ratio, and one for the model as it is.
-- @param path file name
-- @return path
function Sensitivity:save(path)
  local function number(x) return x and ("%.10g"):format(x) or "" end
  local lines = { "group,axis,units,ratio,gone,loss,metric", (",,,0,0,%s,%s"):format(number(self.base.loss), number(self.base.metric)) }
  for _, group in ipairs(self.groups) do
    for _, point in ipairs(group.points) do
      lines[#lines + 1] = ("%s,%d,%d,%g,%d,%s,%s"):format(util.csv_cell(group.name), group.dim, group.count, point.ratio, point.gone,
        number(point.loss), number(point.metric))
    end
  end
  util.make_folder(path)
  util.write_file(path, table.concat(lines, "\n") .. "\n")
  return path
end

--- Draw a line for each group as SVG: loss (or metric) against the share of units that is missing.
-- @param path file name that ends in .svg
-- @param[opt] options { what = "loss" or "metric" (loss) }
-- @return path
function Sensitivity:plot(path, given)
  local o = options.check("sensitivity:plot", given, { what = "loss" })
  if o.what ~= "loss" and o.what ~= "metric" then
    error(('sensitivity:plot: what is "loss" or "metric", got %s'):format(tostring(o.what)), 2)
  end
  if not self.base[o.what] then error("sensitivity:plot: no metric was measured", 2) end
  local scale = o.what == "metric" and self.is_accuracy and 100 or 1
  local series = {}
  for i, group in ipairs(self.groups) do
    local points = { { 0, scale * self.base[o.what] } }
    for _, point in ipairs(group.points) do
      local y = scale * point[o.what]
      if y == y and math.abs(y) < math.huge then points[#points + 1] = { 100 * point.ratio, y } end
    end
    series[i] = { name = group.name, points = points }
  end
  return picture.draw(path, { x = "% of the group's units missing", y = scale == 100 and "accuracy in %" or o.what, series = series })
end

--- How much should go where: for option `allocation` of prune.structured and prune.mask. Where the total is met, all layers cost the same rise
-- of the loss; layers that were not measured (such as the classifier) lose the total's share.
-- @return function(layers, total) -> list of shares
-- @usage prune.structured(net, shape, { ratio = 0.5, allocation = sensitivity:allocation() })
function Sensitivity:allocation()
  local curves = {}
  for _, group in ipairs(self.groups) do
    local curve = {}
    for i, point in ipairs(group.points) do
      local rise = point.loss - self.base.loss
      curve[i] = { point.ratio, rise == rise and math.max(rise, 0) or math.huge }
    end
    for _, name in ipairs { group.name, table.unpack(group.makers) } do curves[name] = curves[name] or curve end
  end
  local by_curves = allocation.sensitivity(curves)
  return function(layers, total)
    local known, shares = {}, {}
    for _, layer in ipairs(layers) do
      if curves[layer.name] then known[#known + 1] = layer end
    end
    local found = #known > 0 and by_curves(known, total) or {}
    local k = 0
    for i, layer in ipairs(layers) do
      if curves[layer.name] then
        k = k + 1
        shares[i] = found[k]
      else
        shares[i] = math.min(total, layer.cap or 1)
      end
    end
    return shares
  end
end

return { sensitivity = sensitivity, collect = collect, measure = measure, _Sensitivity = Sensitivity }
