-- Random networks of all operators keep the contract of pruning; scripts/fuzz/networks makes as many as one likes.
local T = require "testing"
local source = os.getenv "PRUNELUA_SOURCE" or "."
package.path = source .. "/scripts/fuzz/?.lua;" .. package.path
local networks = require "networks"

T.test("a hundred random networks: pruned equals ablated, outputs and gradients, and the module's code equals its graph", function()
  local tally = networks.tally()
  for number = 1, 100 do
    local wrong = networks.check(1, number, 14, tally)
    if wrong then error(wrong, 0) end
  end
  -- Not because nothing was removed.
  assert(tally.units > 1000 and tally.removals > 300, "too little was pruned")
  assert(tally.applied > 50 and tally.own > 25, "too little was applied")
  local shrank = 0
  for _ in pairs(tally.shrank) do shrank = shrank + 1 end
  assert(shrank > 50, "too few operators lost something: " .. shrank)
  local covered, known, missing, left_out = networks.coverage(tally)
  assert(covered > 0.85 * known and #left_out == 2, "missing: " .. table.concat(missing, " "))
end)

T.test("a seed and a number make the same network", function()
  local network = require "network"
  local a, b = networks.program(7, 3, 10), networks.program(7, 3, 10)
  T.equal(network.text(a), network.text(b))
  assert(network.text(a) ~= network.text((networks.program(7, 4, 10))))
end)

T.test("a network that breaks the contract is found, and cut down", function()
  local core, network = require "prune.core", require "network"
  local verify = core.verify
  local guard <close> = setmetatable({}, { __close = function() core.verify = verify end })
  -- As if prelu were wrong, which one kind of step has.
  core.verify = function(traced, ...)
    for _, node in ipairs(traced:nodes()) do
      if node.op == "prelu" then return 1, 0 end
    end
    return verify(traced, ...)
  end
  for number = 1, 60 do
    local wrong = networks.check(2, number, 14, networks.tally())
    if wrong then
      assert(wrong:find("network " .. number .. " of seed 2: pruned and ablated differ", 1, true), wrong)
      assert(wrong:find("= prelu", 1, true), wrong)
      local whole = select(2, network.text((networks.program(2, number, 14))):gsub("\n", ""))
      assert(select(2, wrong:gsub("\n", "")) <= whole, "it has not become smaller")
      return
    end
  end
  error "no network with prelu was found"
end)

T.done()
