-- report.lua - variants of a model side by side: a table, a CSV file, a picture.
local core = require "prune.core"
local graph = require "prune.graph"
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

-- Median milliseconds of a forward pass of one sample.
local function latency(net, shape)
  local inputs = graph.examples(graph.inputs(shape, "prune.report"), 1)
  local times = {}
  core.no_grad(function()
    for _ = 1, 3 do net(table.unpack(inputs)) end
    local stop = core.clock() + 0.5
    repeat
      local start = core.clock()
      net(table.unpack(inputs))
      times[#times + 1] = core.clock() - start
    until core.clock() > stop and #times >= 15 or #times >= 100
  end)
  table.sort(times)
  return 1000 * times[(#times + 1) // 2]
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
  local was_training = net.training
  net:eval()
  local profile = graph.profile(net, self.shape)
  local row = { name = name, params = profile.params, macs = profile.macs_ptflops, sparsity = profile.sparsity, extra = extra or {} }
  row.latency = latency(net, self.shape)
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

local function csv_cell(text)
  text = tostring(text)
  return text:find '[",\n]' and '"' .. text:gsub('"', '""') .. '"' or text
end

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

-- --- the picture ----------------------------------------------------------------------------------------------------

local function escape(text) return (text:gsub("[&<>\"]", { ["&"] = "&amp;", ["<"] = "&lt;", [">"] = "&gt;", ['"'] = "&quot;" })) end

-- Round numbers for an axis: about n steps of 1, 2 or 5 times a power of ten.
local function ticks(low, high, n)
  local raw = (high - low) / n
  local size = 10 ^ math.floor(math.log(raw, 10))
  local step = raw / size < 1.5 and size or raw / size < 3.5 and 2 * size or raw / size < 7.5 and 5 * size or 10 * size
  local list = {}
  for k = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) do list[#list + 1] = k * step end
  return list
end

local function range(values)
  local low, high = math.min(table.unpack(values)), math.max(table.unpack(values))
  local room = high > low and (high - low) * 0.12 or math.max(math.abs(high) * 0.1, 1e-3)
  return low - room, high + room
end

-- Labels of points that stand close to each other are moved down until none lies on another.
local function spread_labels(points)
  local order = table.move(points, 1, #points, 1, {})
  table.sort(order, function(p, q)
    if p.label ~= q.label then return p.label < q.label end
    return p.x < q.x
  end)
  for i, point in ipairs(order) do
    for k = 1, i - 1 do
      local other = order[k]
      if math.abs(other.x - point.x) < 220 and point.label - other.label < 14 then point.label = other.label + 14 end
    end
  end
end

--- Draw accuracy against MACs as SVG: one point per variant.
-- @param path file name that ends in .svg
-- @return path
function Report:plot(path)
  local points, xs, ys = {}, {}, {}
  for _, row in ipairs(self.rows) do
    if row.accuracy then
      points[#points + 1] = { row.macs / 1e6, 100 * row.accuracy, row.name }
      xs[#xs + 1], ys[#ys + 1] = row.macs / 1e6, 100 * row.accuracy
    end
  end
  if #points == 0 then error("report:plot: no variant has an accuracy; give the report test data", 2) end
  local width, height, left, bottom, top, right = 640, 420, 64, 52, 24, 24
  local x0, x1 = range(xs)
  local y0, y1 = range(ys)
  x0 = math.max(x0, 0)
  local function px(x) return left + (x - x0) / (x1 - x0) * (width - left - right) end
  local function py(y) return height - bottom - (y - y0) / (y1 - y0) * (height - bottom - top) end
  local head = '<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" ' ..
    'font-family="Helvetica, Arial, sans-serif" font-size="12">'
  local out = { head:format(width, height, width, height), '<rect width="100%" height="100%" fill="white"/>' }
  local function add(...) out[#out + 1] = string.format(...) end
  for _, x in ipairs(ticks(x0, x1, 6)) do
    add('<line x1="%.1f" y1="%d" x2="%.1f" y2="%d" stroke="#ddd"/>', px(x), top, px(x), height - bottom)
    add('<text x="%.1f" y="%d" text-anchor="middle">%g</text>', px(x), height - bottom + 18, x)
  end
  for _, y in ipairs(ticks(y0, y1, 6)) do
    add('<line x1="%d" y1="%.1f" x2="%d" y2="%.1f" stroke="#ddd"/>', left, py(y), width - right, py(y))
    add('<text x="%d" y="%.1f" text-anchor="end">%g</text>', left - 8, py(y) + 4, y)
  end
  add('<rect x="%d" y="%d" width="%d" height="%d" fill="none" stroke="#888"/>', left, top, width - left - right, height - top - bottom)
  add('<text x="%.1f" y="%d" text-anchor="middle">million MACs per sample</text>', (left + width - right) / 2, height - 12)
  add('<text x="16" y="%.1f" text-anchor="middle" transform="rotate(-90 16 %.1f)">accuracy in %%</text>', (top + height - bottom) / 2,
    (top + height - bottom) / 2)
  local colours = { "#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#e377c2", "#7f7f7f" }
  for i, point in ipairs(points) do
    point.x, point.y, point.colour = px(point[1]), py(point[2]), colours[(i - 1) % #colours + 1]
    point.label = point.y - 7
    add('<circle cx="%.1f" cy="%.1f" r="5" fill="%s"/>', point.x, point.y, point.colour)
  end
  spread_labels(points)
  for _, point in ipairs(points) do
    local flip = point.x > width * 0.6
    add('<text x="%.1f" y="%.1f" text-anchor="%s" fill="%s">%s</text>', flip and point.x - 9 or point.x + 9, point.label,
      flip and "end" or "start", point.colour, escape(point[3]))
  end
  out[#out + 1] = "</svg>"
  util.make_folder(path)
  util.write_file(path, table.concat(out, "\n") .. "\n")
  return path
end

return setmetatable(Report, { __call = new })
