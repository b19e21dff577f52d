-- report.lua - variants of a model side by side: a table, a CSV file, a picture.
local core = require "prune.core"
local graph = require "prune.graph"
local latency = require "prune.latency"
local options = require "prune.options"
local picture = require "prune.picture"
local util = require "prune.util"

local Report = {}
Report.__index = Report

--- A report over variants of a model.
-- @param shape input without the batch
-- @param test data to measure accuracy on (nil: no accuracy)
-- @return report: add(name, net), save(path.csv), plot(path.svg); tostring gives the table
-- @usage local report = prune.report(train.shape, test); report:add("dense", net); print(report)
local function new(_, shape, test)
  graph.inputs(shape, "prune.report")
  return setmetatable({ shape = shape, test = test, rows = {} }, Report)
end

local function accuracy(net, test)
  local right, seen = 0, 0
  core.no_grad(function()
    for x, y in test:batches() do
      right, seen = right + net(x):argmax(2):eq(y):sum():item(), seen + y:size(1)
    end
  end)
  return seen > 0 and right / seen or nil
end

--- Measure a variant and add it.
-- @param name shown in the first column
-- @param net a module; its mode is left as it was
-- @param extra optional table of further columns: name -> number
-- @return the row
function Report:add(name, net, extra)
  if type(name) ~= "string" then error("report:add: the name must be a string, got " .. type(name), 2) end
  options.module("report:add", "the second argument", net)
  local was_training = net.training
  net:eval()
  local profile = graph.profile(net, self.shape)
  local row = { name = name, params = profile.params, macs = profile.macs_ptflops, sparsity = profile.sparsity, extra = extra or {} }
  local inputs = graph.examples(net._input or graph.inputs(self.shape, "prune.report"), 1)
  row.latency = latency.time(function(given) net(table.unpack(given)) end, inputs, { enough = 300 })
  row.accuracy = self.test and accuracy(net, self.test) or nil
  net:train(was_training)
  self.rows[#self.rows + 1] = row
  return row
end

local function ratio(first, value) return value > 0 and ("%.2fx"):format(first / value) or "-" end

local function extra_columns(rows)
  local names = {}
  for _, row in ipairs(rows) do
    for name in pairs(row.extra) do names[name] = true end
  end
  return util.keys(names)
end

Report.__tostring = function(self)
  if #self.rows == 0 then return "report: nothing added yet" end
  local extra = extra_columns(self.rows)
  local lines = { { "variant", "params", "", "MACs", "", "sparsity", "accuracy", "latency", "" } }
  local right = { false, true, true, true, true, true, true, true, true }
  for i, name in ipairs(extra) do lines[1][9 + i], right[9 + i] = name, true end
  local first = self.rows[1]
  for _, row in ipairs(self.rows) do
    local line = { row.name, graph.thousands(row.params), ratio(first.params, row.params), graph.thousands(row.macs),
      ratio(first.macs, row.macs), ("%.1f%%"):format(100 * row.sparsity),
      row.accuracy and ("%.2f%%"):format(100 * row.accuracy) or "-", ("%.2f ms"):format(row.latency),
      ratio(first.latency, row.latency) }
    for i, name in ipairs(extra) do line[9 + i] = row.extra[name] and ("%.4g"):format(row.extra[name]) or "" end
    lines[#lines + 1] = line
  end
  local out = graph.aligned(lines, right)
  table.insert(out, 2, ("-"):rep(#out[2]))
  return table.concat(out, "\n")
end

local csv_cell = util.csv_cell

--- Write the table as CSV.
-- @param path file name
-- @return path
function Report:save(path)
  local extra = extra_columns(self.rows)
  local head = { "variant", "params", "macs_ptflops", "sparsity", "accuracy", "latency_ms" }
  for _, name in ipairs(extra) do head[#head + 1] = csv_cell(name) end
  local lines = { table.concat(head, ",") }
  for _, row in ipairs(self.rows) do
    local cells = { csv_cell(row.name), ("%d"):format(row.params), ("%d"):format(row.macs), ("%.6f"):format(row.sparsity),
      row.accuracy and ("%.6f"):format(row.accuracy) or "", ("%.4f"):format(row.latency) }
    for _, name in ipairs(extra) do cells[#cells + 1] = row.extra[name] and ("%.10g"):format(row.extra[name]) or "" end
    lines[#lines + 1] = table.concat(cells, ",")
  end
  util.make_folder(path)
  util.write_file(path, table.concat(lines, "\n") .. "\n")
  return path
end

--- Draw accuracy against MACs as SVG: one point per variant.
-- @param path file name that ends in .svg
-- @return path
function Report:plot(path)
  local series = {}
  for _, row in ipairs(self.rows) do
    if row.accuracy then series[#series + 1] = { name = row.name, points = { { row.macs / 1e6, 100 * row.accuracy } } } end
  end
  if #series == 0 then error("report:plot: no variant has an accuracy; give the report test data", 2) end
  return picture.draw(path, { x = "million MACs per sample", y = "accuracy in %", series = series })
end

return setmetatable(Report, { __call = new })
