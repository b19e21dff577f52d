-- Looking into values without calling anything of the user's: fields are read raw, through __index tables, and through __index
-- functions only where those are prunelua's own.
local embedded = require "prune.embedded"
local pretty = require "prune.pretty"

local M = {}

-- An __index function that is known to have no side effects: it comes with prunelua.
local function trusted(f, meta)
  local info = debug.getinfo(f, "S")
  if info.what == "C" then return tostring(rawget(meta, "__name")):find "^prune%." ~= nil end
  return info.source:find "^@prune/" ~= nil
end

local function index_of(value)
  local meta = debug.getmetatable(value)
  if type(meta) ~= "table" then return end
  local index = rawget(meta, "__index")
  if type(index) == "function" and not trusted(index, meta) then index = nil end
  return index, meta
end

--- value[key] without running user code.
function M.get(value, key)
  for _ = 1, 20 do
    if type(value) == "table" then
      local field = rawget(value, key)
      if field ~= nil then return field end
    end
    local index = index_of(value)
    if type(index) == "function" then
      local ok, field = pcall(index, value, key)
      return ok and field or nil
    end
    if index == nil then return end
    value = index
  end
end

--- Names of the fields of a value, as a set: its own, those of its __index tables, those its metatable lists as __fields, and
-- the sub-modules of a prunelua module that are not loaded yet.
function M.fields(value)
  local names = {}
  local function add(t)
    for name in next, t do
      if pretty.is_name(name) then names[name] = true end
    end
  end
  for name, module in pairs(package.loaded) do
    if module == value then
      for _, other in ipairs(embedded.names()) do
        local child = other:match("^" .. name:gsub("%p", "%%%0") .. "%.([%w_]+)$")
        if child and M.get(value, child) ~= nil then names[child] = true end
      end
    end
  end
  for _ = 1, 20 do
    if type(value) == "table" then add(value) end
    local index, meta = index_of(value)
    local listed = meta and rawget(meta, "__fields")
    if type(listed) == "table" then add(listed) end
    if type(index) ~= "table" then break end
    value = index
  end
  return names
end

-- Split off the last step of the expression that ends `text`: what stands before it, its key, and whether it is the first.
local function last_step(text)
  local rest, key = text:match "^(.-)%[%s*(%d+)%s*%]$"
  if rest then return rest, math.tointeger(tonumber(key)) end
  local quoted, _, name = text:match "^(.-)%[%s*([\"'])([^\"']*)%2%s*%]$"
  if quoted then return quoted, name end
  rest, key = text:match "^(.-)([%a_][%w_]*)$"
  if not rest then return end
  local before = rest:match "^(.-)%s*[.:]%s*$"
  if before and not rest:find "%.%.%s*$" then return before, key end
  return nil, key, true
end

--- The value of a chain like net.layers[1].weight, or nil.
function M.resolve(text)
  local keys = {}
  while text do
    local rest, key, first = last_step(text)
    if key == nil then return end
    table.insert(keys, 1, key)
    if first then
      local value = _G
      for _, name in ipairs(keys) do
        value = M.get(value, name)
        if value == nil then return end
      end
      return value
    end
    text = rest
  end
end

--- Can the value be called?
function M.callable(value)
  local meta = debug.getmetatable(value)
  return type(value) == "function" or (type(meta) == "table" and rawget(meta, "__call") ~= nil)
end

return M
