-- prune.cli reads a script's options, prune.progress draws a bar.
local T = require "testing"
local cli = require "prune.cli"
local progress = require "prune.progress"

local defaults = { data = "", epochs = 10, lr = 0.1, augment = false, flip = true, batch_size = 32 }

T.test("values take the type of their default", function()
  local opt = cli(defaults, { "--data", "x y", "--epochs=20", "--lr", "1", "--augment", "--no-flip", "--batch-size", "64" })
  T.equal(opt, { data = "x y", epochs = 20, lr = 1, augment = true, flip = false, batch_size = 64 })
  T.equal(math.type(opt.epochs), "integer")
  T.equal(cli(defaults, {}), defaults)
  T.equal(cli(defaults, { "--lr", "1e-3", "--data=a=b", "--augment=true", "--flip=no", "--epochs", "-1" }),
    { data = "a=b", epochs = -1, lr = 1e-3, augment = true, flip = false, batch_size = 32 })
  T.equal(cli(defaults, { "--data=" }).data, "")
  T.equal(defaults.epochs, 10)
end)

T.test("a default of another type is the script's mistake", function()
  T.raises(function() cli({ f = print }, {}) end, "the default of f is a function")
  T.raises(function() cli({ 1 }, {}) end, "names are words")
  T.raises(function() cli() end, "a table of options")
end)

local program = os.getenv "PRUNELUA" or arg[-1]
local script = T.scratch "script.lua"
local file = assert(io.open(script, "w"))
file:write [[
local opt = require "prune.cli" { data = "", epochs = 10, lr = 0.1, augment = false }
print(opt.epochs)
]]
file:close()

local function run(arguments)
  local pipe = io.popen(("'%s' '%s' %s 2>&1"):format(program, script, arguments))
  local text = pipe:read "a"
  local _, _, code = pipe:close()
  return code or 0, text
end

local function refuses(arguments, part)
  local code, text = run(arguments)
  T.equal(code, 2, "exit code of " .. arguments)
  assert(text:find(part, 1, true), text)
  assert(not text:find "traceback", text)
end

T.test("what is wrong ends the script with code 2, one line and no traceback", function()
  T.equal({ run "--epochs 3" }, { 0, "3\n" })
  refuses("--epohcs 3", "unknown option --epohcs; did you mean --epochs?")
  refuses("--no-augmant", "did you mean --no-augment?")
  refuses("--qqqqqqqqq", "unknown option --qqqqqqqqq")
  refuses("--epochs 1.5", "--epochs needs an integer, got '1.5'")
  refuses("--lr fast", "--lr needs a number, got 'fast'")
  refuses("--augment=perhaps", "--augment needs true or false")
  refuses("--epochs", "--epochs needs a value")
  refuses("stray", "unexpected argument 'stray'")
  refuses("--no-epochs", "unknown option --no-epochs")
end)

T.test("--help lists the options with their defaults", function()
  local code, text = run "--help"
  T.equal(code, 0)
  assert(text:find "%-%-epochs integer%s+default 10\n", text)
  assert(text:find "%-%-augment, %-%-no%-augment%s+default false\n", text)
  assert(text:find '%-%-data string%s+default ""\n', text)
end)

-- A stream that remembers, and a clock that is moved by hand.
local function recorder()
  local stream, time = { text = "", writes = 0 }, 0
  function stream:write(...)
    self.text, self.writes = self.text .. table.concat { ... }, self.writes + 1
    return self
  end
  function stream:flush() end
  return stream, function() return time end, function(seconds) time = time + seconds end
end

T.test("a bar shows share, count, time and note, at most ten times a second", function()
  local stream, clock, pass = recorder()
  local bar = progress.bar { total = 10, label = "epoch 1", stream = stream, clock = clock }
  for _ = 1, 5 do
    pass(0.01)
    bar:step()
  end
  T.equal(stream.writes, 0)
  pass(0.95)
  bar:step(1, "loss 0.12")
  T.equal(stream.writes, 1)
  assert(stream.text:find("epoch 1  60% |", 1, true), stream.text)
  assert(stream.text:find("6/10 [00:01<00:01, 6.0 it/s] loss 0.12", 1, true), stream.text)
  bar:done "loss 0.10"
  assert(stream.text:find("6/10 [00:01<00:01, 6.0 it/s] loss 0.10\27[K\n", 1, true), stream.text)
  local length = #stream.text
  bar:step()
  bar:done()
  T.equal(#stream.text, length)
end)

T.test("a bar that goes on from an earlier run counts its steps and not its time", function()
  local stream, clock, pass = recorder()
  local bar = progress.bar { total = 10, start = 6, stream = stream, clock = clock }
  pass(1)
  bar:step(2)
  assert(stream.text:find("80% |", 1, true) and stream.text:find("8/10 [00:01<00:01, 2.0 it/s]", 1, true), stream.text)
end)

T.test("a bar never is wider than its line, and one without a total counts", function()
  local bar = progress.bar { total = 1000, label = ("a long label "):rep(4), stream = recorder(), clock = function() return 0 end }
  for columns = 5, 120 do assert(utf8.len(bar:text(columns)) <= columns) end
  local counted = progress.bar { label = "files", stream = recorder(), clock = function() return 0 end }
  counted:step(3)
  assert(counted:text(79):find "^files 3 %[00:00", counted:text(79))
  assert(progress.bar({ total = 0, stream = recorder(), clock = os.clock }):text(79):find "100%%")
end)

T.test("without a terminal or a stream nothing is written", function()
  local bar = progress.bar { total = 2 }
  bar:step(2)
  bar:done()
  T.equal(bar.stream, require("prune.terminal").is_terminal "stderr" and io.stderr or nil)
end)

T.test("progress loops over loaders, counts, lists and iterators", function()
  local stream, clock = recorder()
  local options = { stream = stream, clock = clock }
  local closed = 0
  local loader = setmetatable({ batches = function()
    local guard = setmetatable({}, { __close = function() closed = closed + 1 end })
    return function(_, i)
      if i < 3 then return i + 1, 10 * (i + 1) end
    end, nil, 0, guard
  end }, { __len = function() return 3 end })
  local sum = 0
  for x, y in progress(loader, "train", options) do sum = sum + 100 * x + y end
  T.equal(sum, 660)
  T.equal(closed, 1)
  assert(stream.text:find "train 100%%" and stream.text:find("3/3", 1, true), stream.text)
  local seen = {}
  for i in progress(3) do seen[#seen + 1] = i end
  for i, v in progress { "a", "b" } do seen[#seen + 1] = i .. v end
  for word in progress(("x y"):gmatch "%a") do seen[#seen + 1] = word end
  T.equal(seen, { 1, 2, 3, "1a", "2b", "x", "y" })
  for x in progress(loader, "left early", options) do
    if x == 1 then break end
  end
  T.equal(closed, 2)
  T.equal(stream.text:sub(-1), "\n")
  T.raises(function() progress.bar { totl = 3 } end, "did you mean .total.")
  T.raises(function() progress.bar { total = "x" } end, "total is the number of steps")
  T.raises(function() progress(true) end, "progress: a loader, a count, a list or an iterator is needed, got boolean")
end)

T.done()
