-- criterion.lua - what makes units important. A criterion is a function of a group that gives one score per unit (a tensor); the lowest
-- go first. Those made here wrap the C core's (core/prune/criterion); any function with this shape serves as well.
local core = require "prune.core"
local options = require "prune.options"

local criterion = {}
local Criterion = {}
Criterion.__index = Criterion
Criterion.__call = function(self, group) return core.score(self.name, self.options, group) end
Criterion.__tostring = function(self) return "criterion " .. self.name end

local known = {}
for _, described in ipairs(core.criteria()) do known[described.name] = described end

local function make(described)
  local defaults = {}
  for _, option in ipairs(described.options) do defaults[option.name] = options.none end
  return function(given)
    local o = options.check("prune.criterion." .. described.name, given, defaults)
    local self = { name = described.name, options = o, needs_gradients = described.needs_gradients }
    return setmetatable(self, Criterion)
  end
end

--- Sum of |w|^p over a unit's weights, over all coupled layers (Li et al. 2017; Fang et al. 2023).
-- @param options { p = 2, reduction = "mean", normalizer = "mean" }
-- @return criterion
criterion.magnitude = make(known.magnitude)

--- Uniform random numbers.
-- @return criterion
criterion.random = make(known.random)

--- Sum of |w g| over a unit's weights, g the gradient of the loss (Molchanov et al. 2017). Needs option data of prune.structured, or gradients.
-- @param options { multivariable = false, norms = false, reduction = "mean", normalizer = "mean" }
-- @return criterion
criterion.taylor = make(known.taylor)

--- |gamma| of a unit's normalisation (Liu et al. 2017).
-- @param options { reduction = "mean", normalizer = "none" }
-- @return criterion
criterion.bn_scale = make(known.bn_scale)

-- Criteria of the core that this file does not name.
for name, described in pairs(known) do
  if not criterion[name] then criterion[name] = make(described) end
end

return criterion
