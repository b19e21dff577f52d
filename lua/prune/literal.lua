-- literal.lua - plain Lua values as text and back: how checkpoints keep progress and settings.
--
-- The text looks like a Lua table, but it is parsed here and never executed: numbers, strings, booleans and tables of these, nested at
-- most 64 deep. Numbers come back as the same bits.
local util = require "prune.util"

local literal = {}

local DEEPEST = 64

-- --- writing ----------------------------------------------------------------------------------------------------------

local function number_text(x)
  if math.type(x) == "integer" then return ("%d"):format(x) end
  if x ~= x then return "nan" end
  if x == math.huge then return "inf" end
  if x == -math.huge then return "-inf" end
  for digits = 15, 17 do -- the shortest that gives the same bits
    local text = ("%." .. digits .. "g"):format(x)
    if tonumber(text) == x then return text:find "[.e]" and text or text .. ".0" end
  end
end

local function string_text(s)
  return '"' .. s:gsub('[%c"\\\127]', function(c) return ("\\%03d"):format(c:byte()) end) .. '"'
end

local write_table

local function write(value, out, where, depth)
  local kind = type(value)
  if kind == "number" then out[#out + 1] = number_text(value)
  elseif kind == "string" then out[#out + 1] = string_text(value)
  elseif kind == "boolean" then out[#out + 1] = tostring(value)
  elseif kind == "table" then write_table(value, out, where, depth)
  else error(("a %s cannot be stored: %s"):format(kind, where), 0) end
end

function write_table(t, out, where, depth)
  if depth > DEEPEST then
    error(("tables nested more than %d deep cannot be stored (does one hold itself?): %s"):format(DEEPEST, where), 0)
  end
  out[#out + 1] = "{"
  local n = 0
  while t[n + 1] ~= nil do
    n = n + 1
    write(t[n], out, ("%s[%d]"):format(where, n), depth + 1)
    out[#out + 1] = ","
  end
  for _, key in ipairs(util.keys(t)) do
    if not (math.type(key) == "integer" and key >= 1 and key <= n) then
      local inner = ("%s[%s]"):format(where, tostring(key))
      if type(key) == "table" then error("a table cannot be a key: " .. inner, 0) end
      out[#out + 1] = "["
      write(key, out, inner, depth)
      out[#out + 1] = "]="
      write(t[key], out, inner, depth + 1)
      out[#out + 1] = ","
    end
  end
  out[#out + 1] = "}"
end

--- A value as text. Equal values give equal texts.
-- @param value number, string, boolean or table of these
-- @param what its name, for messages
-- @treturn string
function literal.write(value, what)
  local out = {}
  write(value, out, what or "value", 1)
  return table.concat(out)
end

-- --- reading ----------------------------------------------------------------------------------------------------------

local function damaged(at, expected) error(("damaged at byte %d: %s is expected"):format(at, expected), 0) end

local words = { ["true"] = true, ["false"] = false, nan = 0 / 0, inf = math.huge }

local function read_string(text, at)
  local last = at + 1
  while true do
    local stop = text:find('["\\]', last)
    if not stop then damaged(at, "a string that ends") end
    if text:byte(stop) == 34 then
      local body = text:sub(at + 1, stop - 1)
      return body:gsub("\\(%d%d%d)", function(code)
        if tonumber(code) > 255 then damaged(at, "a byte") end
        return string.char(tonumber(code))
      end), stop + 1
    end
    if not text:find("^%d%d%d", stop + 1) then damaged(stop, "an escaped byte") end
    last = stop + 4
  end
end

local read_table

-- A value that begins at `at`, and the position behind it.
local function read(text, at, depth)
  local c = text:sub(at, at)
  if c == "{" then return read_table(text, at, depth + 1) end
  if c == '"' then
    local s, next_at = read_string(text, at)
    return s, next_at
  end
  local word = text:match("^%a+", at)
  if word and words[word] ~= nil then return words[word], at + #word end
  if text:find("^%-inf", at) then return -math.huge, at + 4 end
  local digits = text:match("^%-?%d[%d.e+-]*", at)
  local number = digits and tonumber(digits)
  if not number then damaged(at, "a value") end
  return number, at + #digits
end

function read_table(text, at, depth)
  if depth > DEEPEST then damaged(at, ("a table nested at most %d deep"):format(DEEPEST)) end
  local t, n = {}, 0
  at = at + 1
  while text:sub(at, at) ~= "}" do
    local key
    if text:sub(at, at) == "[" then
      key, at = read(text, at + 1, depth)
      if key ~= key or type(key) == "table" then damaged(at, "a key") end
      if text:sub(at, at + 1) ~= "]=" then damaged(at, "']='") end
      at = at + 2
    else
      n = n + 1
      key = n
    end
    t[key], at = read(text, at, depth)
    if text:sub(at, at) ~= "," then damaged(at, "a comma") end
    at = at + 1
  end
  return t, at + 1
end

--- The value that a text from literal.write stands for; raises where it is damaged.
-- @tparam string text
-- @return value
function literal.read(text)
  local value, at = read(text, 1, 0)
  if at ~= #text + 1 then damaged(at, "the end") end
  return value
end

return literal
