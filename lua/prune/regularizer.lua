-- regularizer.lua - terms that make a model easy to prune. The Trainer applies them between backward and the optimiser's step; in a loop of
-- one's own: loss:backward(); regularizer:apply(net); optimizer:step(). The arithmetic is in C (core/prune/regularizer).
local core = require "prune.core"
local options = require "prune.options"

local regularizer = {}
local Regularizer = {}
Regularizer.__index = Regularizer

local known = {}
for _, described in ipairs(core.regularizers()) do known[described.name] = described end

local function make(described)
  local where = "prune.regularizer." .. described.name
  local defaults = { shape = described.needs_groups and options.none or nil }
  for _, option in ipairs(described.options) do defaults[option.name] = options.none end
  return function(given)
    local o = options.check(where, given, defaults)
    if o.strength ~= nil and not (type(o.strength) == "number" and o.strength >= 0) then
      error(("%s: strength must be a number of at least 0, got %s"):format(where, tostring(o.strength)), 2)
    end
    if described.needs_groups and not o.shape then error(where .. ": option 'shape' (the input without the batch) must be given", 2) end
    return setmetatable({ name = described.name, options = o, needs_groups = described.needs_groups }, Regularizer)
  end
end

--- strength * sum |gamma| over the scales of batch norms: channels whose scale goes to zero can be removed at little cost (network
-- slimming, Liu et al. 2017).
-- @param options { strength = 1e-4 }
-- @return regulariser: apply(net), report()
-- @usage prune.Trainer(net, { optimizer = optimizer, regularizer = prune.regularizer.bn_scale { strength = 1e-4 } })
regularizer.bn_scale = make(known.bn_scale)

--- strength * sum over dependency units of the Euclidean norm of all their weights (Yuan and Lin 2006; Wen et al. 2016).
-- @param options { strength = 1e-4, shape = input without the batch, size_factor = false: with true each unit's term is multiplied by the
-- root of its number of weights }
-- @return regulariser: apply(net), report()
-- @usage prune.regularizer.group_lasso { strength = 1e-4, shape = { 3, 32, 32 } }
regularizer.group_lasso = make(known.group_lasso)

-- Regularisers of the core that this file does not name.
for name, described in pairs(known) do
  if not regularizer[name] then regularizer[name] = make(described) end
end

-- Sizes of all parameters: a graph from before a removal is made anew.
local function sizes_of(net)
  local sizes = {}
  for name, p in net:named_parameters() do sizes[#sizes + 1] = name .. ":" .. table.concat(p:size(), "x") end
  return table.concat(sizes, " ")
end

local function graph_of(self, net)
  local sizes = sizes_of(net)
  if self._net ~= net or self._sizes ~= sizes then
    self._graph = require("prune.graph").graph(net, self.options.shape)
    self._net, self._sizes = net, sizes
  end
  return self._graph
end

local function scales_of(net)
  local scales, names = {}, {}
  for _, class in ipairs { "BatchNorm1d", "BatchNorm2d" } do
    for bn, name in net:each(class) do
      if bn.weight then
        scales[#scales + 1] = bn.weight
        names[#names + 1] = name .. ".weight"
      end
    end
  end
  return scales, names
end

-- Name of a scope: the first parameter that makes its units.
local function names_of(graph)
  local names = {}
  for i, group in ipairs((graph:scopes())) do
    for part in group:parts() do
      if not names[i] or part.producer then names[i] = part.name end
      if part.producer then break end
    end
  end
  return names
end

--- Add to the gradients of a model. Parameters without a gradient are left alone.
-- @param net a module
function Regularizer:apply(net)
  if self.needs_groups then
    self._graph = graph_of(self, net)
    self._penalties = core.regularize(self.name, self.options, {}, self._graph)
    self._names = nil
  else
    local scales, names = scales_of(net)
    if #scales == 0 then error(("prune.regularizer.%s: the model has no batch norm"):format(self.name), 2) end
    self._penalties, self._names = core.regularize(self.name, self.options, scales), names
  end
end

--- What the term was at the latest apply, group by group.
-- @return table name -> penalty, and their sum
function Regularizer:report()
  if not self._penalties then error("regularizer:report: it was not applied yet", 2) end
  local names = self._names or names_of(self._graph)
  local report, total = {}, 0
  for i, penalty in ipairs(self._penalties) do
    report[names[i]] = (report[names[i]] or 0) + penalty
    total = total + penalty
  end
  return report, total
end

Regularizer.__tostring = function(self) return ("regularizer %s"):format(self.name) end

regularizer._Regularizer = Regularizer -- for help

return regularizer
