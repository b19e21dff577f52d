-- normalization.lua - batch, layer, group, instance and RMS norm.
local core = require "prune.core"
local options = require "prune.options"
local Module = require "prune.nn.module"
local F = require "prune.nn.functional"

local normalization = {}

local function affine(self, shape, wanted, bias)
  if not wanted then return end
  self.weight = core.parameter(core.full(shape, 1))
  if bias ~= false then self.bias = core.parameter(core.zeros(shape)) end
end

local function batch_norm(name)
  local Class = Module.class(name, function(self, channels, given)
    local o = options.check("nn." .. name, given, { eps = 1e-5, momentum = 0.1, affine = true, track_running_stats = true })
    affine(self, { channels }, o.affine)
    if o.track_running_stats then
      self:register_buffer("running_mean", core.zeros { channels })
      self:register_buffer("running_var", core.full({ channels }, 1))
    end
    self._eps, self._momentum = o.eps, o.momentum
  end)
  function Class:forward(x)
    return F.batch_norm(x, self.weight, self.bias, self.running_mean, self.running_var,
      { training = self.training or not self.running_mean, eps = self._eps, momentum = self._momentum })
  end
  function Class:describe()
    local t = self.weight or self.running_mean
    return t and tostring(t:size(1)) or ""
  end
  return Class
end

--- Batch norm of x [batch, channels] or [batch, channels, length] (Ioffe and Szegedy 2015).
-- @param channels
-- @param options { eps = 1e-5, momentum = 0.1, affine = true, track_running_stats = true }
normalization.BatchNorm1d = batch_norm "BatchNorm1d"

--- Batch norm of x [batch, channels, height, width] (Ioffe and Szegedy 2015).
-- @param channels
-- @param options { eps = 1e-5, momentum = 0.1, affine = true, track_running_stats = true }
normalization.BatchNorm2d = batch_norm "BatchNorm2d"

--- Layer norm over the last axes (Ba, Kiros and Hinton 2016).
-- @param shape width, or a table of the last axes' sizes
-- @param options { eps = 1e-5, affine = true, bias = true }
normalization.LayerNorm = Module.class("LayerNorm", function(self, shape, given)
  local o = options.check("nn.LayerNorm", given, { eps = 1e-5, affine = true, bias = true })
  shape = type(shape) == "table" and shape or { shape }
  affine(self, shape, o.affine, o.bias)
  self._eps, self._dims = o.eps, #shape
end)

function normalization.LayerNorm:forward(x)
  return F.layer_norm(x, self.weight, self.bias, { eps = self._eps, dims = self._dims })
end

function normalization.LayerNorm:describe() return self.weight and table.concat(self.weight:size(), ", ") or "" end

--- RMS norm over the last axis (Zhang and Sennrich 2019).
-- @param width
-- @param options { eps = 1e-6 }
normalization.RMSNorm = Module.class("RMSNorm", function(self, width, given)
  local o = options.check("nn.RMSNorm", given, { eps = 1e-6 })
  affine(self, { width }, true, false)
  self._eps = o.eps
end)

function normalization.RMSNorm:forward(x) return F.rms_norm(x, self.weight, { eps = self._eps }) end
function normalization.RMSNorm:describe() return tostring(self.weight:size(1)) end

--- Group norm of x [batch, channels, ...] (Wu and He 2018). After pruning, groups may have unequal numbers of channels; the layer keeps their bounds.
-- @param groups, channels
-- @param options { eps = 1e-5, affine = true }
normalization.GroupNorm = Module.class("GroupNorm", function(self, groups, channels, given)
  local o = options.check("nn.GroupNorm", given, { eps = 1e-5, affine = true })
  options.count("nn.GroupNorm", "groups", groups)
  options.count("nn.GroupNorm", "channels", channels)
  if channels % groups ~= 0 then error(("nn.GroupNorm: %d channels are not a multiple of %d groups"):format(channels, groups), 3) end
  affine(self, { channels }, o.affine)
  self._options = { groups = groups, eps = o.eps }
end)

function normalization.GroupNorm:forward(x) return F.group_norm(x, self.weight, self.bias, self._options) end
function normalization.GroupNorm:rewritten(_, arguments)
  self._options = { groups = arguments.groups, bounds = arguments.bounds, eps = self._options.eps }
end
function normalization.GroupNorm:describe()
  return ("%d%s"):format(self._options.groups, self.weight and ", " .. self.weight:size(1) or "")
end

--- Instance norm of x [batch, channels, height, width] (Ulyanov et al. 2016).
-- @param channels
-- @param options { eps = 1e-5, momentum = 0.1, affine = false, track_running_stats = false }
normalization.InstanceNorm2d = Module.class("InstanceNorm2d", function(self, channels, given)
  local o = options.check("nn.InstanceNorm2d", given, { eps = 1e-5, momentum = 0.1, affine = false, track_running_stats = false })
  affine(self, { channels }, o.affine)
  if o.track_running_stats then
    self:register_buffer("running_mean", core.zeros { channels })
    self:register_buffer("running_var", core.full({ channels }, 1))
  end
  self._eps, self._momentum = o.eps, o.momentum
end)

function normalization.InstanceNorm2d:forward(x)
  return F.instance_norm(x, self.weight, self.bias, self.running_mean, self.running_var,
    { training = self.training or not self.running_mean, eps = self._eps, momentum = self._momentum })
end

return normalization
