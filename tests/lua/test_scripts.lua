-- The scripts in $PRUNELUA_SHARED/scripts are the yardstick of the Lua API: they run as they stand and print what they promise. Each runs in a
-- folder of its own, with few epochs.
local T = require "testing"

local program = os.getenv "PRUNELUA" or arg[-1]
T.shared "scripts/README.md" -- skips the file where it is absent

local function read(path)
  local file <close> = assert(io.open(path, "rb"))
  return file:read "a"
end

-- Run a script; its standard output, and that it ended well.
local function run(name, options)
  local folder = T.scratch(name)
  local command = "mkdir -p '%s' && cd '%s' && '%s' '%s' %s >out 2>err </dev/null"
  local ok, _, code = os.execute(command:format(folder, folder, program, T.shared("scripts/" .. name .. ".lua"), options))
  if not ok then error(("%s ended with %s:\n%s"):format(name, tostring(code), read(folder .. "/err"))) end
  return read(folder .. "/out"), folder
end

local function has(text, pattern)
  if not text:find(pattern) then error(("'%s' is not in:\n%s"):format(pattern, text), 2) end
end

-- Options that cut the run down; where digits stand in for CIFAR-10, the counts do not depend on the training.
T.test("three_ways.lua: masks keep the size, removal cuts parameters to what it must", function()
  local out, folder = run("three_ways", "--epochs 1 --tune 1 --limit 150")
  has(out, "\nbaseline +11,175,370 +1.00x +11,682,570 +1.00x")
  has(out, "\nmasked +11,175,370 +1.00x +11,682,570 +1.00x +30.0%%")
  has(out, "\nremoved +2,702,300 +4.14x +2,839,165 +4.11x")
  has(out, "\nslim, removed +2,702,300 +4.14x +2,839,165 +4.11x")
  has(read(folder .. "/runs/three_ways/report.csv"), "\nremoved,2702300,2839165,")
  has(read(folder .. "/runs/three_ways/report.svg"), "<svg.*slim, removed.*</svg>")
  has(read(folder .. "/runs/three_ways/baseline/metrics.csv"), "test_accuracy")
end)

T.test("loop.lua: the sparsity grows to what was asked for, and the network learns nevertheless", function()
  local out = run("loop", "--epochs 4 --sparsity 0.8")
  local sparsities, last = {}, nil
  for sparsity, accuracy in out:gmatch "sparsity ([%d.]+)%%  accuracy ([%d.]+)%%" do
    sparsities[#sparsities + 1], last = tonumber(sparsity), tonumber(accuracy)
  end
  T.equal(#sparsities, 4)
  for i = 2, 4 do assert(sparsities[i] >= sparsities[i - 1], out) end
  T.close(sparsities[4], 80, 1e-3)
  assert(last > 30, "chance is 10 %: " .. out)
end)

T.test("checkpoint.lua: a second start goes on from what the first has written, and ends the same", function()
  local first, folder = run("checkpoint", "--epochs 2")
  has(first, "\nconv1 .* 8 x 8 x 8 ")
  has(first, "\n6,274 parameters ")
  local saved = read(folder .. "/runs/checkpoint/pruned.h5")
  local second = run("checkpoint", "--epochs 2")
  T.equal(second:match "6,274 parameters[^\n]*", first:match "6,274 parameters[^\n]*")
  T.equal(read(folder .. "/runs/checkpoint/pruned.h5") == saved, true, "the same file, byte for byte")
  assert(not second:find("train epoch 1/2  train loss", 1, true), second)
end)

T.test("criterion.lua: every criterion meets the target", function()
  local out = run("criterion", "--epochs 1 --tune 1")
  local plans = 0
  for share in out:gmatch "MACs 157,322 %-> [%d,]+ %(([%d.]+)%%%)" do
    plans = plans + 1
    assert(tonumber(share) <= 50 and tonumber(share) > 40, share)
  end
  T.equal(plans, 4)
  for _, name in ipairs { "magnitude", "random", "reach", "taylor" } do has(out, "\n" .. name .. " +[%d,]+ ") end
end)

T.done()
