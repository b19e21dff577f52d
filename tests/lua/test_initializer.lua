-- Initialisers fill in place with the numbers of their distribution, the same ones for any number of threads.
local T = require "testing"
local prune = require "prune"
local init = prune.nn.init

local function moments(t)
  t = t:to("f64")
  local mean = t:mean():item()
  return mean, math.sqrt(((t - mean) * (t - mean)):mean():item()), t:amin():item(), t:amax():item()
end

T.test("numbers do not depend on the number of threads", function()
  local threads = prune.threads()
  for _, dtype in ipairs { "f32", "f64" } do
    for _, fill in ipairs { init.uniform, init.normal, init.truncated_normal } do
      local all = {}
      for n = 1, 3 do
        prune.threads(n)
        prune.seed(7)
        all[n] = fill(prune.empty({ 40003 }, { dtype = dtype }))
      end
      assert(all[1]:equal(all[2]) and all[1]:equal(all[3]), dtype)
    end
  end
  prune.threads(threads)
end)

T.test("uniform and normal numbers have the moments and bounds that were asked for", function()
  prune.seed(1)
  for _, dtype in ipairs { "f32", "f64", "bf16" } do
    local mean, std, low, high = moments(init.uniform(prune.empty({ 100001 }, { dtype = dtype }), -1, 3))
    assert(math.abs(mean - 1) < 0.02 and math.abs(std - 4 / math.sqrt(12)) < 0.02, dtype)
    assert(low >= -1 and low < -0.99 and high > 2.98 and (high < 3 or dtype == "bf16"), dtype)
    mean, std, low, high = moments(init.normal(prune.empty({ 100001 }, { dtype = dtype }), 2, 0.5))
    assert(math.abs(mean - 2) < 0.01 and math.abs(std - 0.5) < 0.01, dtype)
    assert(low > 2 - 3 and low < 2 - 1.7 and high < 2 + 3 and high > 2 + 1.7, dtype)
  end
end)

T.test("truncated normal numbers keep within two standard deviations and have the moments of what is left", function()
  prune.seed(4)
  local rest = math.sqrt(1 - 2 * 2 * math.exp(-2) / math.sqrt(2 * math.pi) / 0.9544997) -- standard deviation of the truncated normal
  for _, dtype in ipairs { "f32", "f64", "bf16" } do
    local mean, std, low, high = moments(init.truncated_normal(prune.empty({ 100001 }, { dtype = dtype }), 2, 0.5))
    assert(math.abs(mean - 2) < 0.01 and math.abs(std - 0.5 * rest) < 0.005, dtype)
    assert(low >= 1 and low < 1.01 and high <= 3 and high > 2.99, dtype)
  end
  T.equal(init.truncated_normal(prune.empty { 3 }, 7, 0):totable(), { 7, 7, 7 })
end)

T.test("neighbours are independent", function()
  prune.seed(2)
  for _, fill in ipairs { init.uniform, init.normal } do
    local t = fill(prune.empty { 80000 }):to("f64")
    local mean, std = moments(t)
    t = (t - mean) / std
    for lag = 1, 4 do
      local r = (t[{ { 1, 80000 - lag } }] * t[{ { 1 + lag, 80000 } }]):mean():item()
      assert(math.abs(r) < 0.015, ("lag %d: correlation %g"):format(lag, r))
    end
  end
end)

T.test("another call gives other numbers, the same seed the same", function()
  prune.seed(3)
  local a, b = init.normal(prune.empty { 8 }), init.normal(prune.empty { 8 })
  prune.seed(3)
  local c = init.normal(prune.empty { 8 })
  assert(a:equal(c) and not a:equal(b))
end)

T.test("any layout is filled, each element with its own number", function()
  prune.seed(4)
  local whole = prune.zeros { 6, 5 }
  init.uniform(whole:transpose(1, 2), 1, 2)
  prune.seed(4)
  assert(whole:transpose(1, 2):equal(init.uniform(prune.empty { 5, 6 }, 1, 2)))
end)

T.test("wrong arguments are refused", function()
  local t = prune.zeros { 3 }
  T.raises(function() init.uniform(t, 2, 1) end, "low <= high")
  T.raises(function() init.uniform(t, 0, math.huge) end, "finite")
  T.raises(function() init.normal(t, 0, -1) end, "standard deviation")
  T.raises(function() init.normal(prune.zeros({ 3 }, { dtype = "i64" })) end, "float")
  T.equal(t:totable(), { 0, 0, 0 })
  T.equal(init.uniform(t, 5, 5):totable(), { 5, 5, 5 })
end)

T.test("skip leaves the layers that a function makes unfilled, also after an error; reset fills them", function()
  local nn = prune.nn
  prune.seed(4)
  local expected = nn.Linear(3, 4).weight
  prune.seed(4)
  local layer, more = init.skip(function(...) return nn.Linear(3, 4), ... end, 5)
  T.equal(more, 5)
  layer:reset() -- took nothing from the generator until now
  T.equal(layer.weight:equal(expected), true)
  T.raises(function() init.skip(nn.Linear, "wide", 3) end, "must be a whole number")
  T.equal(init.skipped(), false)
  T.equal(init.skip(init.skipped), true)
  T.raises(function() init.skip(3) end, "test_initializer.lua:%d+: nn.init.skip: the first argument must be a function, got number")
end)

T.test("He's rules follow the fan and the gain", function()
  prune.seed(5)
  local w = prune.empty { 60, 20, 3, 3 }
  T.close(init.kaiming_normal(w):std():item(), math.sqrt(2 / 180), 2e-3)
  T.close(init.kaiming_normal(w, { mode = "fan_out", gain = 1 }):std():item(), math.sqrt(1 / 540), 2e-3)
  T.close(init.kaiming_uniform(w):amax():item(), math.sqrt(6 / 180), 1e-3)
  T.close(init.kaiming_uniform(w, { mode = "fan_out", gain = 1 }):amin():item(), -math.sqrt(3 / 540), 1e-3)
  T.raises(function() init.kaiming_normal(w, { mode = "fan" }) end, 'mode is "fan_in" or "fan_out", got fan')
  T.raises(function() init.kaiming_uniform(w, { gain = "relu" }) end, "gain is a number, got string")
end)

T.done()
