-- Errors from Lua: they name the line, the operator, both shapes, and speak 1-based; unknown names get the nearest spelling; nothing leaks.
local T = require "testing"
local prune = require "prune"
local F = prune.nn.functional

local x, w = prune.zeros(2, 3, 5, 5), prune.zeros(4, 2, 3, 3)

T.test("shape errors name the operator and both shapes", function()
  local message = T.raises(function() F.conv2d(x, w) end, "conv2d")
  T.equal(message:find("[2, 3, 5, 5]", 1, true) ~= nil, true)
  T.equal(message:find("[4, 2, 3, 3]", 1, true) ~= nil, true)
  T.raises(function() return prune.zeros(2, 3) + prune.zeros(2, 4) end, "%[2, 3%].*%[2, 4%]")
end)

T.test("errors name the line of the script", function()
  local line = debug.getinfo(1, "l").currentline + 1
  local ok, message = pcall(function() return x + prune.zeros(7) end)
  T.equal(ok, false)
  T.equal(message:find("test_binding_errors.lua:" .. line .. ":", 1, true) ~= nil, true)
end)

T.test("errors inside prunelua's own Lua code name the script's line", function()
  local line = debug.getinfo(1, "l").currentline + 1
  local ok, message = pcall(function() return prune.nn.Linear(3, 4)(prune.zeros(2, 5)) end)
  T.equal(ok, false)
  T.equal(message:find("test_binding_errors.lua:" .. line .. ":", 1, true) ~= nil, true)
end)

T.test("errors name the layer", function()
  local net = prune.nn.Sequential(prune.nn.Linear(5, 6), prune.nn.Linear(7, 8))
  T.raises(function() net(prune.zeros(2, 5)) end, ": 1: linear: ") -- children of a list count from 0, as in state dicts
  T.raises(function() return x + prune.zeros(7) end, "%d: add: ") -- and the path is gone after the error
end)

T.test("axes and positions in messages count from 1", function()
  T.raises(function() x:sum(5) end, "axis 5, but the tensor has 4 axes")
  T.raises(function() x:sum(0) end, "'dim' is 0, but axes count from 1")
  T.raises(function() x:select(1, 3) end, "3")
  T.raises(function() F.cross_entropy(prune.zeros(2, 3), prune.tensor({ 1, 4 }, { dtype = "i64" })) end,
    "4 is out of range: it must be 1 to 3")
  T.raises(function() F.cross_entropy(prune.zeros(2, 3), prune.tensor({ 0, 1 }, { dtype = "u8" })) end,
    "0 is out of range: it must be 1 to 3")
end)

T.test("unknown options get the nearest spelling", function()
  T.raises(function() F.conv2d(x, w, nil, { strid = 2 }) end, "conv2d: there is no option 'strid'; did you mean 'stride'")
  T.raises(function() x:sum { keepdims = true } end, "sum: there is no option 'keepdims'; did you mean 'keepdim'")
  T.raises(function() x:allclose(x, { tol = 1 }) end, "no option 'tol'")
  T.raises(function() return prune.zeors end, "prune.zeors does not exist; did you mean prune.zeros")
  for slip, meant in pairs {
    ["nn.Conv2D"] = "nn.Conv2d", ["nn.functional.rellu"] = "nn.functional.relu", ["nn.init.xavier_unifrom"] = "nn.init.xavier_uniform",
    ["criterion.taylr"] = "criterion.taylor", ["optim.SDG"] = "optim.SGD", ["mask.l1_unstructed"] = "mask.l1_unstructured",
  } do
    T.raises(function() return load("return require 'prune'." .. slip)() end, ("prune.%s does not exist; did you mean prune.%s?"):format(slip, meant))
  end
end)

T.test("values of the wrong kind are refused with what was expected", function()
  T.raises(function() F.conv2d(x, "w") end, "conv2d: input 'weight' must be a tensor, not string")
  T.raises(function() F.conv2d(x) end, "conv2d: input 'weight' is missing")
  T.raises(function() F.conv2d(x, w, nil, { stride = "2" }) end,
    "conv2d: option 'stride' must be a number or a list of numbers, not string")
  T.raises(function() F.conv2d(x, w, nil, { stride = 1.5 }) end, "conv2d: option 'stride' must be a whole number, not 1.5")
  T.raises(function() F.conv2d(x, w, nil, { stride = { 1, {} } }) end, "option 'stride' must be a whole number, not table")
  T.raises(function() x:sum({ 1 }, "yes") end, "sum: option 'keepdim' must be true or false, not string")
  T.raises(function() F.gelu(x, { approximate = "tan" }) end, "'approximate' cannot be 'tan'; did you mean 'tanh'")
  T.raises(function() F.cat(x) end, "cat: the input must be a table of tensors, not prune.Tensor")
  T.raises(function() F.cat { x, 3 } end, "element 2 of the list must be a tensor, not number")
  T.raises(function() F.relu(x, x) end, "relu: takes 1 tensor, got more")
  T.raises(function() F.relu(x, 3) end, "relu: too many arguments")
  T.raises(function() x:sum({ 1, keepdim = true }, 3) end, "the table of options must be the last argument")
  T.raises(function() x:sum(1, { dim = 2 }) end, "option 'dim' is given twice")
  T.raises(function() return x + "1" end, "add: input 'y' must be a tensor, not string")
  T.raises(function() return x + {} end, "add")
  T.raises(function() return nil + x end, "add: input 'x' is missing")
end)

T.test("failed calls leave no memory behind", function()
  prune.empty_cache()
  local before = prune.memory()
  for _ = 1, 50 do
    pcall(F.conv2d, x, w)
    pcall(F.cross_entropy, x, x)
    pcall(function() return x + 1.5 + prune.zeros(7) end)
    pcall(x.sum, x, { 9 })
    pcall(prune.tensor, { { 1, 2 }, { 3 } })
    pcall(function() x[{ 1, 2, 3, 4, 5 }] = 3 end)
  end
  collectgarbage()
  prune.empty_cache()
  local after = prune.memory()
  T.equal(after.tensors, before.tensors)
  T.equal(after.blocks, before.blocks)
end)

T.test("backward explains what it lacks", function()
  T.raises(function() x:sum():backward() end, "requires a gradient")
  local p = prune.ones { 2, requires_grad = true }
  T.raises(function() (p * 2):backward() end, "%[2%].*sum or mean")
  local loss = (p * p):sum()
  loss:backward()
  T.raises(function() loss:backward() end, "again")
end)

T.done()
