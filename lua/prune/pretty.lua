-- Values as readable text: what the prompt shows.
local util = require "prune.util"

local M = {}

local reserved = {}
for word in ([[and break do else elseif end false for function goto if in local nil not or repeat return
  then true until while]]):gmatch "%a+" do
  reserved[word] = true
end

--- Can this string stand behind a dot?
function M.is_name(s) return type(s) == "string" and s:find "^[%a_][%w_]*$" ~= nil and not reserved[s] end

local escapes = { ["\n"] = "\\n", ["\r"] = "\\r", ["\t"] = "\\t", ["\0"] = "\\0", ['"'] = '\\"', ["\\"] = "\\\\" }

local function quote(s, limit)
  local cut = #s > limit
  local text = (cut and s:sub(1, limit) or s):gsub('[%c"\\]', function(c)
    return escapes[c] or ("\\x%02x"):format(c:byte())
  end)
  return '"' .. text .. (cut and '"...' or '"')
end

local format

local function format_key(key, state)
  if M.is_name(key) then return key end
  return "[" .. format(key, state, state.depth) .. "]"
end

-- The entries of a table as texts: the list part without keys, the rest by sorted keys.
local function entries(t, state, level)
  local texts, length = {}, rawlen(t)
  local function add(text)
    state.budget = state.budget - 1
    texts[#texts + 1] = text
  end
  local function full() return #texts >= state.items or state.budget <= 0 end
  for i = 1, length do
    if full() then break end
    add(format(rawget(t, i), state, level + 1))
  end
  local others = 0
  for _, key in ipairs(util.keys(t)) do
    if not (math.type(key) == "integer" and key >= 1 and key <= length) then
      others = others + 1
      if not full() then
        add(format_key(key, state) .. " = " .. format(rawget(t, key), state, level + 1))
      end
    end
  end
  local left = length + others - #texts
  if left > 0 then texts[#texts + 1] = ("... %d more"):format(left) end
  return texts
end

local function format_table(t, state, level)
  if next(t) == nil then return "{}" end
  if state.path[t] then return "<cycle>" end
  if level >= state.depth then return "{...}" end
  state.path[t] = true
  local texts = entries(t, state, level)
  state.path[t] = nil
  local width, single = 2 * level + 4, true
  for _, text in ipairs(texts) do
    width = width + #text + 2
    single = single and not text:find("\n", 1, true)
  end
  if single and width <= state.width then return "{ " .. table.concat(texts, ", ") .. " }" end
  local indent = "\n" .. ("  "):rep(level + 1)
  return "{" .. indent .. table.concat(texts, "," .. indent) .. "\n" .. ("  "):rep(level) .. "}"
end

function format(value, state, level)
  if type(value) == "string" then return quote(value, state.string) end
  local meta = debug.getmetatable(value)
  if type(meta) == "table" and rawget(meta, "__tostring") then
    local ok, text = pcall(tostring, value)
    if not ok then return "<" .. type(value) .. ": error in __tostring>" end
    return level == 0 and text or (text:gsub("\n", "\n" .. ("  "):rep(level)))
  end
  if type(value) == "table" then return format_table(value, state, level) end
  return tostring(value)
end

--- A value as text. Tables are written out down to `depth` levels (4), `items` entries each (30), 1000 in all, within
-- `width` columns (80); a table inside itself is shown as <cycle>. What has __tostring is shown by it, and no other function of
-- the value is called.
function M.format(value, options)
  options = options or {}
  return format(value, {
    depth = options.depth or 4, items = options.items or 30, width = options.width or 80,
    string = options.string or 200, budget = 1000, path = {},
  }, 0)
end

return M
