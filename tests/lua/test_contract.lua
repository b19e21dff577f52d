-- The contract of pruning on the models of prune.models at full width: random units of every group go, and output and gradients are those of
-- the ablated model. scripts/fuzz/contract does the same with any seed, and with the VGGs that are left out here for their time.
local T = require "testing"
local prune = require "prune"
local source = os.getenv "PRUNELUA_SOURCE" or "."
package.path = source .. "/scripts/fuzz/?.lua;" .. package.path
local contract = require "contract"

-- Of the networks with 130 million parameters, four seconds each, only the smallest and the largest: the others have the same layers.
local left_out = { vgg11_bn = true, vgg13 = true, vgg13_bn = true, vgg16 = true, vgg16_bn = true, vgg19 = true }

for _, case in ipairs(contract.cases()) do
  if not left_out[case[1]] then
    T.test("contract: " .. contract.title(case), function()
      local result = contract.check(case, 1)
      assert(result.worst <= 1e-10)
      assert(result.groups > 0 and result.removed >= result.groups, "a group has lost nothing")
      T.equal(result.single, 0, "groups of one unit, which cannot go")
      collectgarbage()
    end)
  end
end

T.test("every model has a case", function()
  local tried = {}
  for _, case in ipairs(contract.cases()) do tried[case[1]] = true end
  for _, name in ipairs(prune.models.names()) do assert(tried[name], name) end
end)

T.test("a model that breaks the contract is noticed", function()
  local core = require "prune.core"
  local verify = core.verify
  local guard <close> = setmetatable({}, { __close = function() core.verify = verify end })
  core.verify = function() return 0, 2e-10 end -- gradients that differ
  T.raises(function() contract.check({ "cnn", {}, { 3, 8, 8 } }, 1) end, "differ by 2e%-10 %(tolerance 1e%-10%)")
end)

T.done()
