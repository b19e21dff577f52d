-- What the README shows is true: its Lua scripts run as they stand, the errors are those that it prints, the files that it names exist.
local T = require "testing"

local source, program = os.getenv "PRUNELUA_SOURCE", os.getenv "PRUNELUA" or arg[-1]
if not source then T.skip "PRUNELUA_SOURCE is not set" end

local function read(path)
  local file <close> = assert(io.open(path, "rb"))
  return file:read "a"
end

local readme = read(source .. "/README.md")

local scripts = {}
for script in readme:gmatch "```lua\n(.-)```" do scripts[#scripts + 1] = script end
local prelude = scripts[2] -- "each script below runs as it stands behind these lines"

-- Run a script; what it prints.
local function run(number, script)
  local path = T.scratch(("block%d.lua"):format(number))
  local file = assert(io.open(path, "wb"))
  file:write(number > 2 and prelude or "", script)
  file:close()
  local ok = os.execute(("cd '%s' && '%s' '%s' >'%s.out' 2>&1 </dev/null"):format(T.scratch(), program, path, path))
  local out = read(path .. ".out")
  assert(ok, "this script of the README fails:\n" .. script .. "\n" .. out)
  return out
end

local outputs = {}

T.test("every Lua script of the README runs", function()
  T.equal(#scripts, 15)
  for i, script in ipairs(scripts) do outputs[i] = run(i, script) end
end)

T.test("the first one prunes to a quarter, as shown", function()
  assert(outputs[1]:find "\nepoch 4/4", outputs[1])
  local macs = tonumber((outputs[1]:match "\npruned +[%d,]+ +%S+ +([%d,]+)":gsub(",", "")))
  assert(macs > 0.2 * 631050 and macs < 0.27 * 631050, outputs[1])
end)

T.test("errors read as shown", function()
  for line in outputs[#outputs]:gmatch "[^\n]+" do
    line = line:gsub("^%S+:%d+: ", "") -- the place may move
    assert(readme:find(line, 1, true), line .. "\nis not in the README")
  end
end)

T.test("files and folders that are named exist", function()
  for path in readme:gmatch "`([%a_]+/[%w_/.]+)`" do
    if not path:find "^build" and not path:find "squareplus" then
      local found = os.execute(("test -e '%s/%s'"):format(source, path))
      assert(found, path .. " does not exist")
    end
  end
end)

T.done()
