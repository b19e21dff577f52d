-- options.lua - checking of option tables: unknown names are errors with the nearest spelling.
local core = require "prune.core"

--- Fill in defaults and refuse what is not known.
-- @param where the caller's name, for the message
-- @param given the user's table or nil
-- @param defaults name -> default; use options.none for "no default"
-- @return table
local none = setmetatable({}, { __tostring = function() return "none" end })

local function check(where, given, defaults)
  local result = {}
  for name, value in pairs(defaults) do
    if value ~= none then result[name] = value end
  end
  if given == nil then return result end
  if type(given) ~= "table" then error(("%s: options are a table, got %s"):format(where, type(given)), 3) end
  for name, value in pairs(given) do
    if defaults[name] == nil then
      local names = {}
      for known in pairs(defaults) do names[#names + 1] = known end
      table.sort(names)
      local near = core.nearest(tostring(name), names)
      error(("%s: there is no option '%s'%s"):format(where, tostring(name),
        near and ("; did you mean '" .. near .. "'?") or " (there are: " .. table.concat(names, ", ") .. ")"), 3)
    end
    result[name] = value
  end
  return result
end

--- Raise unless a size or count is an integer of at least 1.
-- @param where the caller's name, for the message
-- @param name what the number is
-- @param value the number
local function count(where, name, value)
  if math.type(value) == "integer" and value >= 1 then return end
  error(("%s: %s must be an integer of at least 1, got %s"):format(where, name, tostring(value)), 4)
end

--- Call f(...) and return its results. An error of the library that names no place gets that of the line that called the function which calls
-- this one (not as a tail call).
-- @param f a function
-- @param ... its arguments
-- @return its results
local function call(f, ...)
  local results = table.pack(pcall(f, ...))
  if results[1] then return table.unpack(results, 2, results.n) end
  local message = results[2]
  error(message, type(message) == "string" and message:find "^prune%.%a" and 3 or 0)
end

--- Raise unless an option is a number within bounds.
-- @param where the caller's name, for the message
-- @param name the option
-- @param value its value
-- @param low, high the bounds, both allowed
local function number(where, name, value, low, high)
  if type(value) == "number" and value >= low and value <= high then return end
  error(("%s: %s must be a number in %g..%g, got %s"):format(where, name, low, high, tostring(value)), 4)
end

--- Raise unless an option is one of some values.
-- @param where the caller's name, for the message
-- @param name the option
-- @param value its value
-- @param words list of strings or booleans
local function choice(where, name, value, words)
  for _, word in ipairs(words) do
    if value == word then return end
  end
  local shown = {}
  for i, word in ipairs(words) do shown[i] = tostring(word) end
  local near = type(value) == "string" and core.nearest(value, shown)
  error(("%s: %s is one of '%s', got %s%s"):format(where, name, table.concat(shown, "', '"), tostring(value),
    near and ("; did you mean '" .. near .. "'?") or ""), 4)
end

return { call = call, check = check, choice = choice, count = count, none = none, number = number }
