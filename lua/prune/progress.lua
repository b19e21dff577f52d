-- A progress bar on stderr, only where that is a terminal.
local options = require "prune.options"
local terminal = require "prune.terminal"

local Bar = {}
Bar.__index = Bar

local function utf8_terminal()
  for _, name in ipairs { "LC_ALL", "LC_CTYPE", "LANG" } do
    local value = os.getenv(name)
    if value and value ~= "" then return value:upper():find "UTF%-?8" ~= nil end
  end
  return false
end

local function duration(seconds)
  if seconds ~= seconds or seconds >= 360000 then return "--:--" end
  local s = math.floor(seconds + 0.5)
  if s < 3600 then return ("%02d:%02d"):format(s // 60, s % 60) end
  return ("%d:%02d:%02d"):format(s // 3600, s // 60 % 60, s % 60)
end

local function rate_text(rate)
  if rate == 0 then return "-- it/s" end
  if rate < 1 then return ("%.2f s/it"):format(1 / rate) end
  return ("%.1f it/s"):format(rate)
end

local function gauge(share, width, blocks)
  if not blocks then
    local full = math.floor(share * width)
    return ("#"):rep(full) .. ("."):rep(width - full)
  end
  local eighths = math.floor(share * width * 8)
  local full, part = eighths // 8, eighths % 8
  local text = ("█"):rep(full) .. (part > 0 and utf8.char(0x2590 - part) or "")
  return text .. (" "):rep(width - full - (part > 0 and 1 or 0))
end

-- The first `columns` characters of a text (bytes, where it is not UTF-8).
local function cut(text, columns)
  local length = utf8.len(text)
  if (length or #text) <= columns then return text end
  return text:sub(1, length and utf8.offset(text, columns + 1) - 1 or columns)
end

function Bar:text(columns)
  local elapsed = self.clock() - self.began
  local times = duration(elapsed)
  local head, count = self.label ~= "" and self.label .. " " or "", tostring(self.count)
  if self.total then
    local left = self.rate > 0 and (self.total - self.count) / self.rate or 0 / 0
    times = times .. "<" .. duration(left)
    count = count .. "/" .. self.total
  end
  local tail = ("%s [%s, %s]%s"):format(count, times, rate_text(self.rate), self.note and " " .. self.note or "")
  if not self.total then return cut(head .. tail, columns) end
  local share = self.total > 0 and math.min(self.count / self.total, 1) or 1
  head = head .. ("%3d%% "):format(math.floor(100 * share))
  local width = math.min(columns - #head - #tail - 3, 40)
  if width < 4 then return cut(head .. tail, columns) end
  return cut(head .. "|" .. gauge(share, width, self.blocks) .. "| " .. tail, columns)
end

function Bar:draw(now)
  local passed, steps = now - self.drawn, self.count - self.drawn_count
  if steps > 0 and passed > 0 then -- smoothed, so that the estimate follows a change and does not jump
    self.rate = self.rate == 0 and steps / passed or 0.7 * self.rate + 0.3 * steps / passed
  end
  self.drawn, self.drawn_count = now, self.count
  self.stream:write("\r", self:text(terminal.columns() - 1), "\27[K")
  self.stream:flush()
end

--- Go on by n steps (1); `note` is shown behind the bar. Draws at most ten times a second.
function Bar:step(n, note)
  self.count = self.count + (n or 1)
  self.note = note or self.note
  if not self.stream or self.over then return end
  local now = self.clock()
  if now - self.drawn >= 0.1 then self:draw(now) end
end

--- End the bar: its last state stays on the screen, or the line is wiped where the bar was made with leave = false.
function Bar:done(note)
  self.note = note or self.note
  if not self.stream or self.over then return end
  self.over = true
  if self.leave then
    self:draw(self.clock())
    self.stream:write "\n"
  else
    self.stream:write "\r\27[K"
  end
  self.stream:flush()
end

local M = {}

--- A progress bar moved by hand.
--    local bar = prune.progress.bar { total = 391, label = "epoch 1" }
--    bar:step(1, "loss 0.12"); bar:done()
-- Options: total (steps; none: only a count), label, start (steps done before, as after resuming), leave (true: the finished bar
-- stays), stream (a file that the bar is written to in any case; without it stderr, and nothing at all where that is not a
-- terminal).
function M.bar(given)
  local none = options.none
  local o = options.check("progress.bar", given, {
    total = none, label = "", start = 0, leave = true, stream = none, clock = terminal.clock,
  })
  if o.total ~= nil and math.type(o.total) ~= "integer" then
    error("progress.bar: total is the number of steps, got " .. tostring(o.total), 2)
  end
  local now = o.clock()
  return setmetatable({
    total = o.total, label = tostring(o.label), leave = o.leave, clock = o.clock,
    stream = o.stream or (terminal.is_terminal "stderr" and io.stderr) or nil, blocks = utf8_terminal(),
    count = o.start, drawn_count = o.start, rate = 0, began = now, drawn = now,
  }, Bar)
end

local function counter(n)
  return function(_, i)
    if i < n then return i + 1 end
  end, nil, 0
end

-- What to loop over, and how many steps that is.
local function loop(source)
  if math.type(source) == "integer" then return source, counter(source) end
  if type(source) == "function" then return nil, source end
  local ok, batches = pcall(function() return source.batches end)
  if ok and batches then return #source, source:batches() end
  if type(source) == "table" then return #source, ipairs(source) end
  error("progress: a loader, a count, a list or an iterator is needed, got " .. type(source), 3)
end

local function close(closing, err)
  local meta = closing ~= nil and debug.getmetatable(closing)
  if meta and meta.__close then meta.__close(closing, err) end
end

--- Loop with a progress bar (on a terminal; elsewhere just the loop).
--    for x, y in prune.progress(train, "epoch 1") do ... end
-- The source is a loader (anything with :batches() and a length), a count (gives 1 to n), a list (gives index, value) or an
-- iterator function. A third argument takes the options of progress.bar.
function M.each(source, label, given)
  local total, step, state, control, closing = loop(source)
  local settings = { total = total, label = label }
  for name, value in pairs(given or {}) do settings[name] = value end
  local bar = M.bar(settings)
  local function advance(first, ...)
    if first == nil then return end
    control = first
    return first, ...
  end
  local begun = false
  local guard = setmetatable({}, { __close = function(_, err)
    bar:done()
    close(closing, err)
  end })
  return function()
    if begun then bar:step() end
    begun = true
    return advance(step(state, control))
  end, nil, nil, guard
end

return setmetatable(M, { __call = function(_, ...) return M.each(...) end })
