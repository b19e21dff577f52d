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
  local defaults = { shape = described.acts_on ~= "weights" and options.none or nil }
  for _, option in ipairs(described.options) do defaults[option.name] = options.none end
  return function(given)
    local o = options.check(where, given, defaults)
    if o.shape ~= nil and type(o.shape) ~= "table" then
      error(("%s: shape is the input without the batch, such as { 3, 32, 32 }, got %s"):format(where, type(o.shape)), 2)
    end
    core.regularizer_check(described.name, o)
    return setmetatable({ name = described.name, options = o, acts_on = described.acts_on, steps = 0 }, Regularizer)
  end
end

--- strength * sum |gamma| over the scales of batch norms: channels whose scale goes to zero can be removed at little cost (network
-- slimming, Liu et al. 2017). Where the shape of the model's input is known, scales of channels that cannot go are left alone.
-- @param options { strength = 1e-4, shape = input without the batch (default: that of the latest training or graph, if any) }
-- @return regulariser: apply(net), report(), groups(); as text a table
-- @usage prune.Trainer(net, { optimizer = optimizer, regularizer = prune.regularizer.bn_scale { strength = 1e-4 } })
regularizer.bn_scale = make(known.bn_scale)

--- strength * sum over dependency units of the Euclidean norm of all their weights (Yuan and Lin 2006; Wen et al. 2016).
-- @param options { strength = 1e-4, shape = input without the batch (default: that of the latest training or graph), size_factor = false:
-- with true each unit's term is multiplied by the root of its number of weights }
-- @return regulariser: apply(net), report(), groups(); as text a table
-- @usage prune.regularizer.group_lasso { strength = 1e-4, shape = { 3, 32, 32 } }
regularizer.group_lasso = make(known.group_lasso)

--- strength / 2 * sum over dependency units of 2^(alpha x) ||w||^2, with x from 0 for the most important unit of a group (largest ||w||) to
-- 1 for the least: the sparse learning of DepGraph (Fang et al. 2023). Where all are equal, x is 0. The reported strength of a unit is
-- strength * 2^(alpha x).
-- @param options { strength = 1e-4, alpha = 4, shape = input without the batch (default: that of the latest training or graph) }
-- @return regulariser: apply(net), report(), groups(); as text a table
-- @usage prune.regularizer.group_norm { strength = 5e-4, alpha = 4 }
regularizer.group_norm = make(known.group_norm)

--- lambda / 2 * ||w||^2 of every dependency unit, with a lambda of its own that grows (Wang et al. 2021): it begins at `strength`, and every
-- `every` steps grows by delta (I_max - I) / (I_max - I_min), I = ||w|| among the units of the group, up to `ceiling`. Batch norms are
-- among a unit's weights. The lambdas are kept in the Trainer's checkpoints; after a removal they begin anew. The reported strength of a
-- unit is its lambda.
-- @param options { strength = 1e-4, delta = 1e-4, every = 10, ceiling = 1, shape = input without the batch (default: that of the latest
-- training or graph) }
-- @return regulariser: apply(net), report(), groups(), state(), load_state(state); as text a table
-- @usage prune.regularizer.growing_reg { delta = 1e-3, every = 5 }
regularizer.growing_reg = make(known.growing_reg)

--- strength / (variance + eps) of the norms of a group's dependency units: drives them apart (the variance form of Zmora et al. 2019).
-- @param options { strength = 1e-4, eps = 1e-2, shape = input without the batch (default: that of the latest training or graph) }
-- @return regulariser: apply(net), report(), groups(); as text a table
regularizer.group_variance = make(known.group_variance)

--- strength * (sum |w|)^2 / sum w^2 of the entries of each weight of two or more dimensions, Hoyer-square (Yang et al. 2020): few large
-- entries, whatever their scale. For masks; group_hoyer is for removal.
-- @param options { strength = 1e-4 }
-- @return regulariser: apply(net), report(), groups(); as text a table
regularizer.hoyer = make(known.hoyer)

--- strength * (sum ||w||)^2 / sum ||w||^2 over the dependency units of each group, Hoyer-square of structures (Yang et al. 2020): few units
-- with large norms, whatever their scale.
-- @param options { strength = 1e-4, shape = input without the batch (default: that of the latest training or graph) }
-- @return regulariser: apply(net), report(), groups(); as text a table
regularizer.group_hoyer = make(known.group_hoyer)

-- Regularisers of the core that this file does not name.
for name, described in pairs(known) do
  if not regularizer[name] then regularizer[name] = make(described) end
end

-- --- what they act on -------------------------------------------------------------------------------------------------

-- Names, sizes and parameters of a model: a graph from before a removal, or before a layer was replaced, is made anew.
local function parameters_of(net)
  local list = {}
  for name, p in net:named_parameters() do
    list[#list + 1] = name .. ":" .. table.concat(p:size(), "x")
    list[#list + 1] = p
  end
  return list
end

local function same(a, b)
  if not a or #a ~= #b then return false end
  for i, one in ipairs(a) do
    if not rawequal(one, b[i]) then return false end
  end
  return true
end

-- Of a model that was only run and never traced, the graph may not be had: for scales that is no error.
local function make_graph(self, net)
  local graph = require("prune.graph").graph
  if self.options.shape then return graph(net, self.options.shape) end
  if self.acts_on == "units" and not net._input then
    error(("prune.regularizer.%s: the shape of the model's input is needed to find its groups: option shape, the input without the batch")
      :format(self.name), 4)
  end
  if self.acts_on == "units" then return graph(net, net._input) end
  local ok, traced = pcall(graph, net, net._input)
  return ok and net._input and traced or nil
end

local function graph_of(self, net)
  if self.acts_on == "weights" then return nil end
  local parameters = parameters_of(net)
  local untraced = not self._graph and net._input ~= self._input -- the shape was not known, and now it is
  if self._net ~= net or untraced or not same(self._parameters, parameters) then
    self._graph = make_graph(self, net)
    self._net, self._parameters, self._input = net, parameters, net._input
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

local function weights_of(net)
  local weights, names = {}, {}
  for name, p in net:named_parameters() do
    if p:dim() > 1 then weights[#weights + 1], names[#names + 1] = p, name end
  end
  return weights, names
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

-- --- methods ----------------------------------------------------------------------------------------------------------

--- Add to the gradients of a model. Parameters that are frozen or without a gradient are left alone, as are masked entries and units that
-- cannot go.
-- @param net a module
function Regularizer:apply(net)
  if getmetatable(self) ~= Regularizer then
    error(("Regularizer:apply is called on a regularizer: regularizer:apply(net), got %s"):format(type(self)), 2)
  end
  options.module("prune.regularizer." .. self.name, "the model", net)
  local graph, tensors, names = graph_of(self, net), {}, nil
  if self.acts_on == "scales" then
    tensors, names = scales_of(net)
    if #tensors == 0 then error(("prune.regularizer.%s: the model has no batch norm"):format(self.name), 2) end
  elseif self.acts_on == "weights" then
    tensors, names = weights_of(net)
    if #tensors == 0 then error(("prune.regularizer.%s: the model has no weight"):format(self.name), 2) end
  end
  self._terms, self.steps, self._state = core.regularize(self.name, self.options, tensors, graph, self.steps, self._state)
  self._names = names
end

--- What was done at the latest apply, group by group (bn_scale, hoyer: parameter by parameter). The strength says by how much a unit is
-- pressed; its range is over the units of the group. Groups with nothing to train are left out.
-- @return list of { name =, units =, penalty = value of the term, least =, most = strength }
function Regularizer:groups()
  if not self._terms then error(("regularizer %s: it was not applied yet"):format(self.name), 2) end
  self._names = self._names or names_of(self._graph)
  local rows = {}
  for i, term in ipairs(self._terms) do
    if term.touched > 0 then
      rows[#rows + 1] = { name = self._names[i], units = term.touched, penalty = term.penalty, least = term.least, most = term.most }
    end
  end
  return rows
end

--- What the term was at the latest apply, group by group.
-- @return table name -> penalty, and their sum
function Regularizer:report()
  local report, total = {}, 0
  for _, row in ipairs(self:groups()) do
    report[row.name] = (report[row.name] or 0) + row.penalty
    total = total + row.penalty
  end
  return report, total
end

--- What goes on from step to step, for checkpoints: the Trainer saves it along.
-- @return table
function Regularizer:state() return { steps = self.steps, units = self._state } end

--- Take up a state from Regularizer:state().
-- @param state table
function Regularizer:load_state(state)
  if type(state) ~= "table" then error(("prune.regularizer.%s: a state must be a table, got %s"):format(self.name, type(state)), 2) end
  self.steps, self._state = state.steps, state.units
end

Regularizer.__tostring = function(self)
  local title = "regularizer " .. self.name
  if not self._terms then return title end
  local lines, total = { { "group", self.acts_on == "units" and "units" or "entries", "penalty", "least strength", "most" } }, 0
  for _, row in ipairs(self:groups()) do
    lines[#lines + 1] = { row.name, ("%d"):format(row.units), ("%.4g"):format(row.penalty), ("%.4g"):format(row.least),
      ("%.4g"):format(row.most) }
    total = total + row.penalty
  end
  lines[#lines + 1] = { "all", "", ("%.4g"):format(total), "", "" }
  local out = require("prune.graph").aligned(lines, { false, true, true, true, true })
  table.insert(out, 2, ("-"):rep(#out[1]))
  return title .. "\n" .. table.concat(out, "\n")
end

regularizer._Regularizer = Regularizer -- for help

return regularizer
