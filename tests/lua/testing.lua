-- testing.lua - the few words that the Lua tests share.
--
--   local T = require "testing"
--   T.test("a view shares its storage", function() T.equal(view:item(), 3) end)
--   T.done()
--
-- A failing test prints its name, reason and place, and the next one goes on. T.done prints `N passed, N failed` and ends the
-- program with the verdict; a file without a test, or one that never reaches T.done, fails. With an argument, only the tests whose name
-- contains it run: prunelua tests/lua/test_tensor.lua view
local T = {}

local passed, failed, left_out = 0, 0, 0
local filter = arg and arg[1]
local scratch_folder
local finished = false

local function show(value)
  if type(value) == "string" then return ("%q"):format(value) end
  if math.type(value) == "float" then return ("%.17g"):format(value) end
  return tostring(value)
end

-- Tensors are compared by what totable gives; everything else as it is.
local function plain(value)
  if type(value) == "userdata" and getmetatable(value) and value.totable then return value:totable() end
  return value
end

-- Walk both values; nil when they agree, else where and how they differ. `same` compares two leaves.
local function difference(a, b, same, path)
  a, b = plain(a), plain(b)
  if type(a) == "table" and type(b) == "table" then
    for key, value in pairs(a) do
      local found = difference(value, b[key], same, path .. "[" .. show(key) .. "]")
      if found then return found end
    end
    for key in pairs(b) do
      if a[key] == nil then return ("%s[%s] is missing, expected %s"):format(path, show(key), show(b[key])) end
    end
    return nil
  end
  if same(a, b) then return nil end
  return ("%s is %s, expected %s"):format(path, show(a), show(b))
end

-- Remove the scratch folder and end the program.
local function leave(code)
  finished = true
  if scratch_folder then os.execute("rm -rf '" .. scratch_folder .. "'") end
  io.stdout:flush()
  os.exit(code, true)
end

function T.test(name, f)
  if filter and not name:find(filter, 1, true) then
    left_out = left_out + 1
    return
  end
  local ok, reason = xpcall(f, debug.traceback)
  if ok then
    passed = passed + 1
  else
    failed = failed + 1
    io.stderr:write("FAIL ", name, "\n  ", (tostring(reason):gsub("\n", "\n  ")), "\n")
  end
end

-- `what` is what to call the first value in the message.
function T.equal(actual, expected, what)
  local found = difference(actual, expected, rawequal, what or "value")
  if found then error(found, 2) end
end

-- Numbers, nested tables of numbers or tensors: every |actual - expected| <= tolerance * max(1, |expected|). nan equals nan only.
function T.close(actual, expected, tolerance, what)
  tolerance = tolerance or 1e-6
  local found = difference(actual, expected, function(a, b)
    if type(a) ~= "number" or type(b) ~= "number" then return rawequal(a, b) end
    if a == b or (a ~= a and b ~= b) then return true end
    return math.abs(a - b) <= tolerance * math.max(1, math.abs(b))
  end, what or "value")
  if found then error(found .. (" (tolerance %g)"):format(tolerance), 2) end
end

-- f must raise; its message must match the Lua pattern. The message is returned.
function T.raises(f, pattern)
  local ok, message = pcall(f)
  if ok then error("expected an error" .. (pattern and " like '" .. pattern .. "'" or "") .. ", but none was raised", 2) end
  message = tostring(message)
  if pattern and not message:find(pattern) then
    error(("expected an error like '%s', got: %s"):format(pattern, message), 2)
  end
  return message
end

-- True where the golden file or folder exists.
function T.has_shared(path)
  local root = os.getenv "PRUNELUA_SHARED"
  local file = root and io.open(root .. "/" .. path)
  if file then file:close() end
  return file ~= nil
end

-- The path of a golden file. Where it is absent the whole test file is skipped, saying so.
function T.shared(path)
  local full = (os.getenv "PRUNELUA_SHARED" or "$PRUNELUA_SHARED") .. "/" .. path
  if not T.has_shared(path) then
    print("skipped: " .. full .. " is not there")
    leave(failed > 0 and 1 or 77)
  end
  return full
end

-- End the file here as skipped: what it tests is not in this build.
function T.skip(reason)
  print("skipped: " .. reason)
  leave(failed > 0 and 1 or 77)
end

-- A folder for files of this test, gone after T.done. With a name: the path of a file in it.
function T.scratch(name)
  if not scratch_folder then
    scratch_folder = os.tmpname()
    os.remove(scratch_folder)
    assert(os.execute("mkdir '" .. scratch_folder .. "'"))
  end
  return name and scratch_folder .. "/" .. name or scratch_folder
end

function T.done()
  if passed + failed == 0 then
    io.stderr:write(left_out > 0 and "no test has '" .. filter .. "' in its name\n" or "this file has no test\n")
    leave(1)
  end
  print(("%d passed, %d failed"):format(passed, failed))
  leave(failed > 0 and 1 or 0)
end

-- Runs when the program ends: a file that stops before T.done must not look like a success.
T.guard = setmetatable({}, { __gc = function()
  if not finished then
    io.stderr:write("the test file ended without T.done()\n")
    os.exit(1)
  end
end })

return T
