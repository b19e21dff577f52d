-- mnasnet.lua - MnasNet-B1, found by a search for accuracy at a phone's speed (Tan et al. 2019).
local nn = require "prune.nn"
local block = require "prune.models.block"

local norm = { momentum = 1 - 0.9997 }

-- Kernel, stride of the first block, expansion, blocks, channels.
local stacks = {
  { 3, 2, 3, 3, 24 }, { 5, 2, 3, 3, 40 }, { 5, 2, 6, 3, 80 }, { 3, 1, 6, 2, 96 }, { 5, 2, 6, 4, 192 }, { 3, 1, 6, 1, 320 },
}

-- Convolution, batch norm and perhaps ReLU, appended to what is there.
local function append(layers, inputs, outputs, kernel, given, linear)
  layers:append(nn.Conv2d(inputs, outputs, kernel,
    { stride = given.stride, padding = kernel // 2, groups = given.groups, bias = false }), nn.BatchNorm2d(outputs, norm))
  if not linear then layers:append(nn.ReLU()) end
end

local InvertedResidual = nn.module("InvertedResidual", function(self, inputs, outputs, kernel, stride, expansion)
  local wide = inputs * expansion
  self.layers = nn.Sequential()
  append(self.layers, inputs, wide, 1, {})
  append(self.layers, wide, wide, kernel, { stride = stride, groups = wide })
  append(self.layers, wide, outputs, 1, {}, true)
  self._residual = stride == 1 and inputs == outputs
end)

function InvertedResidual:forward(x)
  local y = self.layers(x)
  return self._residual and y + x or y
end

local MNASNet = nn.module("MNASNet", function(self, o)
  local inputs = 16
  self.layers = nn.Sequential()
  append(self.layers, o.channels, 32, 3, { stride = 2 })
  append(self.layers, 32, 32, 3, { groups = 32 })
  append(self.layers, 32, inputs, 1, {}, true)
  for _, stack in ipairs(stacks) do
    local kernel, stride, expansion, blocks, outputs = table.unpack(stack)
    local row = nn.Sequential()
    for i = 1, blocks do
      row:append(InvertedResidual(inputs, outputs, kernel, i == 1 and stride or 1, expansion))
      inputs = outputs
    end
    self.layers:append(row)
  end
  append(self.layers, inputs, 1280, 1, {})
  self.classifier = nn.Sequential(nn.Dropout(o.dropout), nn.Linear(1280, o.classes))
end)

function MNASNet:forward(x) return self.classifier(nn.functional.mean(self.layers(x), { 3, 4 })) end

local rules = {
  Conv2d = block.fan_out,
  Linear = block.fill(function(weight) nn.init.kaiming_uniform(weight, { mode = "fan_out", gain = 1 }) end),
}

return {
  --- MnasNet-B1 1.0x: 16 inverted residual blocks with kernels of 3 and 5 (Tan et al. 2019).
  -- @param options { classes = 1000, channels = 3, dropout = 0.2 }
  -- @return module
  -- @usage local net = prune.models.mnasnet1_0 { classes = 10 }
  mnasnet1_0 = block.model("mnasnet1_0", MNASNet, rules, { dropout = 0.2 }),
}
