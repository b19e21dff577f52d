-- prunelua as a program: options, scripts, standard input and exit codes are those of lua 5.4; -m, --version and --help are its own.
local T = require "testing"

local program = os.getenv "PRUNELUA" or arg[-1]
local interpreter = "cd '" .. T.scratch() .. "' && env -u LUA_INIT -u PRUNELUA_PATH "

local function write(name, text)
  local file = assert(io.open(T.scratch(name), "wb"))
  file:write(text)
  file:close()
end

-- Run prunelua with this shell text behind it; returns stdout, stderr, exit code.
local function run(arguments, environment)
  local command = ("%s %s '%s' %s >out 2>err"):format(interpreter, environment or "", program, arguments)
  local _, _, code = os.execute(command)
  local function read(name)
    local file <close> = assert(io.open(T.scratch(name), "rb"))
    return file:read "a"
  end
  return read "out", read "err", code
end

local function gives(arguments, out, code, environment)
  local stdout, stderr, exit = run(arguments, environment)
  T.equal(exit, code or 0, "exit code of " .. arguments .. " (stderr: " .. stderr .. ")")
  T.equal(stdout, out, "output of " .. arguments)
  return stderr
end

local function has(text, part)
  if not text:find(part, 1, true) then error(("'%s' is not in: %s"):format(part, text), 2) end
end

write("args.lua", [[
print(select('#', ...), ...)
for i = -9, 9 do
  if arg[i] and i ~= 0 then io.write(i, '=', arg[i]:match '[^/]*$', ' ') end
end]])
write("fails.lua", "local function f() error 'on purpose' end\nf()")

T.test("a script gets its arguments, and arg counts around the script", function()
  gives("args.lua a 'b c'", "2\ta\tb c\n-1=prunelua 1=a 2=b c ")
  gives("-e '' args.lua x", "1\tx\n-3=prunelua -2=-e -1= 1=x ")
  gives("-- args.lua x", "1\tx\n-2=prunelua -1=-- 1=x ")
  gives("args.lua -e -i", "2\t-e\t-i\n-1=prunelua 1=-e 2=-i ")
end)

T.test("-m runs a module, not leaving it in package.loaded, with the rest as its arguments", function()
  gives("-m args x -v", "2\tx\t-v\n-2=prunelua -1=-m 1=x 2=-v ")
  gives("-margs x", "1\tx\n-1=prunelua 1=x ")
  write("once.lua", "print(arg[0], package.loaded.once)")
  gives("-m once", "./once.lua\tnil\n")
  has(gives("-m no.such.module", "", 1), "module 'no.such.module' not found")
  has(gives("-m fails", "", 1), "on purpose")
  has(gives("-m", "", 1), "'-m' needs argument")
end)

T.test("-e, -l and LUA_INIT act in order", function()
  gives("-e 'x = 1' -e 'print(x)'", "1\n")
  gives("-e'print(2)'", "2\n")
  gives("-l string -e 'print(string.rep(\"x\", 3))'", "xxx\n")
  gives("-l s=string -e 'print(s.rep(\"x\", 3))'", "xxx\n")
  gives("-e 'print(x)'", "from init\n", 0, "LUA_INIT='x = \"from init\"'")
  gives("-e 'print(x)'", "newer\n", 0, "LUA_INIT='x = 1' LUA_INIT_5_4='x = \"newer\"'")
  gives("-E -e 'print(x)'", "nil\n", 0, "LUA_INIT='x = 1'")
  write("init.lua", "x = 'from file'")
  gives("-e 'print(x)'", "from file\n", 0, "LUA_INIT=@init.lua")
end)

T.test("standard input is run as a file: no prompt, no banner", function()
  gives("</dev/null", "")
  write("input", "print('in', ...)\nlocal x <const> = 1\nprint(x)")
  gives("<input", "in\n1\n")
  gives("- a b <input", "in\ta\tb\n1\n")
  write("bad", "print 'first'\nerror 'in stdin'")
  has(gives("- <bad", "first\n", 1), "stdin:2: in stdin")
end)

T.test("errors go to stderr, message first, then the traceback, exit code 1", function()
  local stderr = gives("fails.lua", "", 1)
  has(stderr, "fails.lua:1: on purpose\nstack traceback:\n")
  has(stderr, "fails.lua:2: in main chunk")
  has(gives("-e 'error(setmetatable({}, { __tostring = function() return \"as text\" end }))'", "", 1), "as text")
  has(gives("-e 'error {}'", "", 1), "(error object is a table value)")
  has(gives("-e '= = ='", "", 1), "(command line):1: unexpected symbol near '='")
  has(gives("missing.lua", "", 1), "cannot open missing.lua")
  has(gives("-e 'local t = { f = function(self) return self.x end } t.f()'", "", 1), "It takes a colon: object:method(...)")
  has(gives("-e 'os.exit(3)'", "", 3), "")
  gives("-e 'os.exit(true)'", "")
end)

T.test("wrong options show the usage", function()
  for _, options in ipairs { "-x", "--nothing", "-vx", "-e", "-l", "-ix" } do
    local stderr = gives(options, "", 1)
    has(stderr, "usage: ")
  end
  has(gives("-x", "", 1), "unrecognized option '-x'")
  has(run "--help", "-m module")
end)

T.test("bytecode is refused", function()
  write("code.luac", string.dump(function() print "ran" end))
  has(gives("code.luac", "", 1), "attempt to load a binary chunk")
  has(gives("- <code.luac", "", 1), "attempt to load a binary chunk")
end)

T.test("-W shows warnings, -v and --version the version", function()
  has(gives("-W -e 'warn \"careful\"'", ""), "careful")
  T.equal(gives("-e 'warn \"careful\"'", ""), "")
  local version = run "-v"
  assert(version:find "^prunelua %d+%.%d+%.%d+, Lua 5%.4", version)
  has(run "-v -e 'print(6 * 7)'", "42")
  local long = run "--version"
  has(long, "backends: ")
  for _, name in ipairs(require("prune").backends()) do has(long, name) end
end)

T.test("-i reads chunks from any input: prompts, results, and a block over several lines", function()
  write("lines", "6 * 7\nfor i = 1, 2 do\nprint('i', i)\nend\nx = {\n1, 2 }\nx;\n#x\nerror 'oops'\n'still here'\n")
  local stdout, stderr, code = run "-i <lines"
  T.equal(code, 0)
  has(stdout, "> 42\n> >> >> i\t1\ni\t2\n> >> > > 2\n> > still here\n")
  has(stderr, "stdin:1: oops\nstack traceback:")
  T.equal(stdout:find "\27", nil)
  -- what is typed is on the stack of a call that fails: the error names the prompt's line, not one of prunelua's own
  write("fails", "prune.criterion.magnitude { q = 1 }\n")
  has(select(2, run "-i <fails"), "stdin:1: prune.criterion.magnitude: there is no option 'q'")
end)

T.test("Ctrl-C at the prompt while a criterion measures leaves modes, gradients and buffers of the model as they were", function()
  write("stopped", [[
prune = require "prune"
pid = assert(io.open "/proc/self/stat"):read "n"
function press() assert(io.popen("kill -INT " .. pid)):close() end
function give(i, stop) if i == stop then press() end; if i < 4 then return x, y end end
function batches(stop) local i = 0 return { batches = function() return function() i = i + 1 return give(i, stop) end end } end
x, y = prune.randn { 4, 1, 8, 8 }, prune.randint(1, 3, { 4 })
net = prune.models.cnn { classes = 3, channels = 1, width = 4 }
mean = net.bn1.running_mean:clone()
function plan(stop, name) return prune.structured(net, { 1, 8, 8 }, { ratio = 0.5, criterion = prune.criterion[name](), data = batches(stop) }) end
plan(2, "taylor")
net.training, net.bn1.training, net.conv1.weight.grad, net.bn1.running_mean:equal(mean)
plan(3, "group_fisher")
net.training, net.bn1.training, net.conv1.weight.grad, net.bn1.running_mean:equal(mean)
#plan(9, "taylor").units
]])
  local stdout, stderr = run "-i <stopped"
  T.equal(select(2, stderr:gsub("interrupted!", "")), 2)
  T.equal(select(2, stdout:gsub("true\ttrue\tnil\ttrue\n", "")), 2, stdout)
  has(stdout, "14\n")
end)

T.test("Ctrl-C at the prompt in the middle of what changes a model leaves it whole: fitted layers of a plan, masks", function()
  local lines = { [[
prune = require "prune"
pid = assert(io.open "/proc/self/stat"):read "n"
calls = 0
function stop(at) calls = calls + 1; if calls == at then io.popen("kill -INT " .. pid):close() end end
Watched = prune.nn.Function { name = "watched", couple = "elementwise", forward = function(_, x) stop(at) return x:clone() end }
x = prune.randn { 4, 1, 8, 8 }
function trial(n)
  at, calls, net = 0, 0, prune.nn.Sequential(Watched, prune.models.cnn { classes = 3, channels = 1, width = 4 })
  plan = prune.structured(net, { 1, 8, 8 }, { ratio = 0.5 })
  before, at, calls = net[2].conv2.weight:clone(), n, 0
  plan:apply { reconstruct = { data = { x, x }, batches = 2 } }
end
function whole() local w = net[2].conv2.weight return not plan.applied and #prune.history(net) == 0 and w:size(1) == 8 and w:equal(before) end
]] }
  for n = 1, 6 do lines[#lines + 1] = ("trial(%d)\ncalls >= at and ('whole ' .. tostring(whole())) or 'done'\n"):format(n) end
  lines[#lines + 1] = [[
calls = 0
prune.mask.unstructured(net, { criterion = function(p) stop(6) return p:value():abs() end, sparsity = 0.9, iterations = 5 })
calls, net[2].conv1.weight.mask, net[2].fc.weight.mask
]]
  write("halfway", table.concat(lines))
  local stdout, stderr = run "-i <halfway"
  local _, stopped = stdout:gsub("whole true", "")
  assert(stopped >= 3 and not stdout:find "whole false", stdout .. stderr)
  has(stdout, "6\tnil\tnil\n")
end)

T.test("a hook of the user's own outlives what restores a model", function()
  local code = "local prune = require 'prune' local n = 0 debug.sethook(function() n = n + 1 end, '', 1) " ..
    "prune.graph(prune.nn.Linear(2, 2), { 2 }) print(debug.gethook() ~= nil, n > 100)"
  has(run(("-e \"%s\""):format(code)), "true\ttrue\n")
end)

T.test("starting takes no time worth mentioning", function()
  local clock = require("prune.terminal").clock
  local best, tries = math.huge, 0
  while best > 0.05 and tries < 10 do
    local begin = clock()
    gives("-e ''", "")
    best, tries = math.min(best, clock() - begin), tries + 1
  end
  assert(best < 0.5, ("%.3f s"):format(best)) -- ten times the aim, for busy machines and sanitizers
end)

-- Spinning threads make small networks fifty times slower on a machine that has other work; OpenMP learns its policy from the environment only.
T.test("threads sleep while they wait, unless the user has asked for something else", function()
  local show = "-e 'print(os.getenv \"OMP_WAIT_POLICY\", os.getenv \"GOMP_SPINCOUNT\")'"
  local out = run(show, "-u OMP_WAIT_POLICY -u GOMP_SPINCOUNT")
  assert(out == "passive\tnil\n" or out == "nil\tnil\n", out) -- the second without OpenMP and with sanitizers, which do not start anew
  gives(show, "active\tnil\n", 0, "-u GOMP_SPINCOUNT OMP_WAIT_POLICY=active")
  gives(show, "nil\t9\n", 0, "-u OMP_WAIT_POLICY GOMP_SPINCOUNT=9")
  local stdout = run("args.lua a 'b c'", "-u OMP_WAIT_POLICY")
  has(stdout, "2\ta\tb c\n") -- arguments survive the second start
end)

T.test("PRUNELUA_PATH puts files before the modules inside the program", function()
  assert(os.execute("mkdir -p '" .. T.scratch "dev/prune" .. "'"))
  write("dev/prune/pretty.lua", "return { mine = 'from the folder' }")
  gives("-e 'print(require(\"prune.pretty\").mine)'", "from the folder\n", 0, "PRUNELUA_PATH=dev")
  gives("-E -e 'print(require(\"prune.pretty\").mine)'", "nil\n", 0, "PRUNELUA_PATH=dev")
end)

T.done()
