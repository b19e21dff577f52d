-- pooling.lua - pooling layers.
local options = require "prune.options"
local Module = require "prune.nn.module"
local F = require "prune.nn.functional"

local pooling = {}

local function text(v) return type(v) == "table" and "{" .. table.concat(v, ", ") .. "}" or tostring(v) end

local function window(name, operator, defaults)
  local Class = Module.class(name, function(self, kernel, given)
    if kernel == nil then error(("nn.%s: the kernel size is missing"):format(name), 3) end
    local o = options.check("nn." .. name, given, defaults)
    o.kernel_size = kernel
    o.stride = o.stride or kernel
    self._options = o
  end)
  function Class:forward(x) return operator(x, self._options) end
  function Class:describe() return text(self._options.kernel_size) .. ", stride " .. text(self._options.stride) end
  return Class
end

local function adaptive(name, operator)
  local Class = Module.class(name, function(self, size)
    if size == nil then error(("nn.%s: the output size is missing"):format(name), 3) end
    self._options = { output_size = size }
  end)
  function Class:forward(x) return operator(x, self._options) end
  function Class:describe() return text(self._options.output_size) end
  return Class
end

local none = options.none

--- Largest value of each window.
-- @param kernel_size a number or { height, width }
-- @param options { stride = kernel_size, padding = 0, dilation = 1, ceil_mode = false }
pooling.MaxPool2d = window("MaxPool2d", F.max_pool2d, { stride = none, padding = 0, dilation = 1, ceil_mode = false })

--- Mean of each window.
-- @param kernel_size a number or { height, width }
-- @param options { stride = kernel_size, padding = 0, ceil_mode = false, count_include_pad = true }
pooling.AvgPool2d = window("AvgPool2d", F.avg_pool2d, { stride = none, padding = 0, ceil_mode = false, count_include_pad = true })

--- Mean over windows such that the output has a given size.
-- @param output_size a number or { height, width }
pooling.AdaptiveAvgPool2d = adaptive("AdaptiveAvgPool2d", F.adaptive_avg_pool2d)

--- Largest value over windows such that the output has a given size.
-- @param output_size a number or { height, width }
pooling.AdaptiveMaxPool2d = adaptive("AdaptiveMaxPool2d", F.adaptive_max_pool2d)

return pooling
