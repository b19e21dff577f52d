-- Options of a script from its command line.
local core = require "prune.core"
local util = require "prune.util"

local function fail(message)
  io.stdout:flush()
  io.stderr:write(arg and arg[0] or "prunelua", ": ", message, "\n")
  os.exit(2, true)
end

local function flag(name) return "--" .. name:gsub("_", "-") end

local function usage(defaults)
  local lines = { ("usage: %s [options]"):format(arg and arg[0] or "script") }
  for name, value in util.sorted(defaults) do
    local text = ("  %s"):format(flag(name))
    if type(value) == "boolean" then
      text = ("  %s, --no-%s"):format(text:sub(3), flag(name):sub(3))
    else
      text = ("%s %s"):format(text, math.type(value) or "string")
    end
    local shown = type(value) == "string" and ("%q"):format(value) or tostring(value)
    lines[#lines + 1] = ("%-32s default %s"):format(text, shown)
  end
  return table.concat(lines, "\n") .. "\n"
end

-- `text` as a value of the default's type, or nil and what was expected.
local function convert(text, default)
  local kind = math.type(default) or type(default)
  if kind == "integer" then return math.tointeger(tonumber(text)), "an integer" end
  if kind == "float" then return tonumber(text), "a number" end
  if kind == "boolean" then
    local values = { ["true"] = true, yes = true, ["1"] = true, ["false"] = false, no = false, ["0"] = false }
    return values[text], "true or false"
  end
  return text
end

local function unknown(option, defaults)
  local flags = {}
  for name, value in util.sorted(defaults) do
    flags[#flags + 1] = flag(name)
    if type(value) == "boolean" then flags[#flags + 1] = flag("no_" .. name) end
  end
  local near = core.nearest(option, flags)
  fail(("unknown option %s%s"):format(option, near and "; did you mean " .. near .. "?" or " (see --help)"))
end

local function check(defaults)
  if type(defaults) ~= "table" then error("cli: a table of options with defaults is needed, got " .. type(defaults), 3) end
  for name, value in pairs(defaults) do
    local kind = type(value)
    if type(name) ~= "string" or not name:find "^%a[%w_]*$" then
      error(("cli: option names are words, got %s"):format(tostring(name)), 3)
    elseif kind ~= "string" and kind ~= "number" and kind ~= "boolean" then
      error(("cli: the default of %s is a %s; a string, number or boolean is needed"):format(name, kind), 3)
    end
  end
end

--- Read the script's options from `arg`: a table of names with defaults goes in, the table with the values given comes out.
--    local opt = prune.cli { data = "", epochs = 10, augment = false }
-- understands `--epochs 20`, `--epochs=20`, `--augment`, `--no-augment` and `--help`. The defaults' types say what is accepted
-- (10 asks for an integer, 0.1 for a number); an underscore may be written as a dash. A wrong option ends the script with
-- exit code 2. `words` (default: the global arg) is the list to read.
return function(defaults, words)
  check(defaults)
  words = words or arg or {}
  local result = {}
  for name, value in pairs(defaults) do result[name] = value end
  local i = 1
  while words[i] do
    local word = words[i]
    local option, text = word:match "^(%-%-[^=]+)=?(.*)$"
    local attached = word:find("=", 1, true) ~= nil
    if not option then fail(("unexpected argument '%s' (options begin with --)"):format(word)) end
    local name = option:sub(3):gsub("-", "_")
    local default, negated = defaults[name], name:match "^no_(.*)$"
    if name == "help" and default == nil then
      io.stdout:write(usage(defaults))
      os.exit(0, true)
    elseif default == nil and type(defaults[negated]) == "boolean" and not attached then
      result[negated] = false
    elseif default == nil then
      unknown(option, defaults)
    elseif type(default) == "boolean" and not attached then
      result[name] = true
    else
      if not attached then
        i = i + 1
        text = words[i]
        if not text then fail(option .. " needs a value") end
      end
      local value, expected = convert(text, default)
      if value == nil then fail(("%s needs %s, got '%s'"):format(option, expected, text)) end
      result[name] = value
    end
    i = i + 1
  end
  return result
end
