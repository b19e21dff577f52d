-- picture.lua - points and lines as SVG.
local core = require "prune.core"
local util = require "prune.util"

local picture = {}

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

local colours = { "#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#e377c2", "#7f7f7f", "#bcbd22", "#17becf" }
local width, height, left, bottom, top, right = 640, 420, 64, 52, 24, 24

-- Grid, frame and names of the axes.
local function draw_axes(add, o, x0, x1, y0, y1, px, py)
  for _, x in ipairs(ticks(x0, x1, 6)) do
    add('<line x1="%.1f" y1="%d" x2="%.1f" y2="%d" stroke="#ddd"/>', px(x), top, px(x), height - bottom)
    add('<text x="%.1f" y="%d" text-anchor="middle">%g</text>', px(x), height - bottom + 18, x)
  end
  for _, y in ipairs(ticks(y0, y1, 6)) do
    add('<line x1="%d" y1="%.1f" x2="%d" y2="%.1f" stroke="#ddd"/>', left, py(y), width - right, py(y))
    add('<text x="%d" y="%.1f" text-anchor="end">%g</text>', left - 8, py(y) + 4, y)
  end
  add('<rect x="%d" y="%d" width="%d" height="%d" fill="none" stroke="#888"/>', left, top, width - left - right, height - top - bottom)
  add('<text x="%.1f" y="%d" text-anchor="middle">%s</text>', (left + width - right) / 2, height - 12, escape(o.x))
  add('<text x="16" y="%.1f" text-anchor="middle" transform="rotate(-90 16 %.1f)">%s</text>', (top + height - bottom) / 2,
    (top + height - bottom) / 2, escape(o.y))
end

-- A series of one point is a dot, of more a line; its name stands at its last point.
local function draw_series(add, series, colour, px, py)
  local corners = {}
  for k, point in ipairs(series.points) do corners[k] = ("%.1f,%.1f"):format(px(point[1]), py(point[2])) end
  if #corners > 1 then add('<polyline points="%s" fill="none" stroke="%s" stroke-width="1.5"/>', table.concat(corners, " "), colour) end
  for _, point in ipairs(series.points) do
    add('<circle cx="%.1f" cy="%.1f" r="%d" fill="%s"/>', px(point[1]), py(point[2]), #corners > 1 and 2 or 5, colour)
  end
  local last = series.points[#series.points]
  return { x = px(last[1]), y = py(last[2]), label = py(last[2]) - 7, colour = colour, name = series.name }
end

--- Draw series of points into an SVG file.
-- @param path file name that ends in .svg
-- @param options { x = name of the axis, y =, series = list of { name =, points = list of { x, y } } }
-- @return path
function picture.draw(path, o)
  if type(path) ~= "string" or not path:lower():find "%.svg$" then
    core.fail(("a picture is written as SVG: its file name must end in .svg, got %s"):format(tostring(path)))
  end
  local xs, ys = {}, {}
  for _, series in ipairs(o.series) do
    for _, point in ipairs(series.points) do xs[#xs + 1], ys[#ys + 1] = point[1], point[2] end
  end
  local x0, x1 = range(xs)
  local y0, y1 = range(ys)
  x0 = math.max(x0, 0)
  local function px(x) return left + (x - x0) / (x1 - x0) * (width - left - right) end
  local function py(y) return height - bottom - (y - y0) / (y1 - y0) * (height - bottom - top) end
  local head = '<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" ' ..
    'font-family="Helvetica, Arial, sans-serif" font-size="12">'
  local out = { head:format(width, height, width, height), '<rect width="100%" height="100%" fill="white"/>' }
  local function add(...) out[#out + 1] = string.format(...) end
  draw_axes(add, o, x0, x1, y0, y1, px, py)
  local names = {}
  for i, series in ipairs(o.series) do names[i] = draw_series(add, series, colours[(i - 1) % #colours + 1], px, py) end
  spread_labels(names)
  for _, name in ipairs(names) do
    local flip = name.x > width * 0.6
    add('<text x="%.1f" y="%.1f" text-anchor="%s" fill="%s">%s</text>', flip and name.x - 9 or name.x + 9, name.label,
      flip and "end" or "start", name.colour, escape(name.name))
  end
  out[#out + 1] = "</svg>"
  util.make_folder(path)
  util.write_file(path, table.concat(out, "\n") .. "\n")
  return path
end

return picture
