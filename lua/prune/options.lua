-- options.lua - checking of options: unknown names are errors with the nearest spelling, values of another type or range say what they may be. An
-- error has the line of the innermost code outside of prunelua.
local core = require "prune.core"
local util = require "prune.util"

local function fail(where, text, ...) core.fail(where .. ": " .. text:format(...)) end

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
  if type(given) ~= "table" then fail(where, "options are a table, got %s", type(given)) end
  for name, value in pairs(given) do
    if defaults[name] == nil then
      local names = {}
      for known in pairs(defaults) do names[#names + 1] = known end
      table.sort(names)
      local near = core.nearest(tostring(name), names)
      fail(where, "there is no option '%s'%s", tostring(name),
        near and ("; did you mean '" .. near .. "'?") or " (there are: " .. table.concat(names, ", ") .. ")")
    end
    result[name] = value
  end
  return result
end

--- Raise unless an option is an integer within bounds.
-- @param where the caller's name, for the message
-- @param name the option
-- @param value its value
-- @param low the least that is allowed
-- @param[opt] high the most
local function integer(where, name, value, low, high)
  if math.type(value) == "integer" and value >= low and value <= (high or math.maxinteger) then return end
  fail(where, "%s must be an integer of at least %d%s, got %s", name, low, high and (" and at most %d"):format(high) or "", tostring(value))
end

--- Raise unless a size or count is an integer of at least 1.
-- @param where the caller's name, for the message
-- @param name what the number is
-- @param value the number
local function count(where, name, value) integer(where, name, value, 1) end

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
  fail(where, "%s must be a number in %g..%g, got %s", name, low, high, tostring(value))
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
  fail(where, "%s is one of '%s', got %s%s", name, table.concat(shown, "', '"), tostring(value),
    near and ("; did you mean '" .. near .. "'?") or "")
end

--- Raise unless a value is a pattern of Lua that is found in at least one name: one that fits nothing is a slip.
-- @param where the caller's name, for the message
-- @param value the value
-- @param names list of strings
-- @param what what the names are of, such as "parameter"
local function pattern(where, value, names, what)
  if type(value) ~= "string" then fail(where, "a name pattern is needed, got %s", type(value)) end
  for _, name in ipairs(names) do
    local ok, at = pcall(string.find, name, value)
    if not ok then fail(where, "'%s' is not a pattern: %s", value, at) end
    if at then return end
  end
  local near = core.nearest(value:gsub("[%^%$%%]", ""), names)
  fail(where, "'%s' fits no %s of the model%s", value, what, near and ("; did you mean '" .. near .. "'?") or "")
end

--- Raise unless an option that is given can be called.
-- @param where the caller's name, for the message
-- @param name the option
-- @param value its value, or nil
local function callable(where, name, value)
  if value ~= nil and not util.is_callable(value) then fail(where, "%s must be a function, got %s", name, type(value)) end
end

--- Raise unless a value is a module.
-- @param where the caller's name, for the message
-- @param name what the value is, such as "the first argument"
-- @param value the value
local function module(where, name, value)
  if require("prune.nn.module").is_module(value) then return end
  fail(where, "%s must be a module, got %s", name, type(value))
end

return { call = call, callable = callable, check = check, choice = choice, count = count, integer = integer, module = module, none = none,
  number = number, pattern = pattern }
