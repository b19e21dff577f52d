-- What the benchmarks share: running commands that print a number per line, and medians.
local timing = {}

function timing.quoted(text) return "'" .. text:gsub("'", "'\\''") .. "'" end

--- Appends the milliseconds that a command prints.
function timing.run(command, times)
  local pipe = assert(io.popen(command, "r"))
  local lines = {}
  for line in pipe:lines() do
    lines[#lines + 1] = line
    times[#times + 1] = tonumber(line)
  end
  if not pipe:close() then error(("failed: %s\n%s"):format(command, table.concat(lines, "\n")), 0) end
end

function timing.median(times)
  local sorted = table.move(times, 1, #times, 1, {})
  table.sort(sorted)
  local middle = #sorted // 2
  return #sorted % 2 == 1 and sorted[middle + 1] or (sorted[middle] + sorted[middle + 1]) / 2
end

return timing
