-- regnet.lua - RegNetX: residual bottlenecks with grouped convolutions whose widths grow linearly (Radosavovic et al. 2020).
local nn = require "prune.nn"
local block = require "prune.models.block"

local ResBottleneckBlock = nn.module("ResBottleneckBlock", function(self, inputs, outputs, stride, group)
  if inputs ~= outputs or stride ~= 1 then self.proj = block.convolution(inputs, outputs, 1, { stride = stride }) end
  self.f = block.Chain {
    { "a", block.convolution(inputs, outputs, 1, { activation = nn.ReLU }) },
    { "b", block.convolution(outputs, outputs, 3, { stride = stride, groups = outputs // group, activation = nn.ReLU }) },
    { "c", block.convolution(outputs, outputs, 1, {}) },
  }
end)

function ResBottleneckBlock:forward(x)
  local shortcut = self.proj and self.proj(x) or x
  return nn.functional.relu(shortcut + self.f(x))
end

local RegNet = nn.module("RegNet", function(self, o, stages, group)
  local inputs = 32
  self.stem = block.convolution(o.channels, inputs, 3, { stride = 2, activation = nn.ReLU })
  self.trunk_output = block.Chain()
  for s, stage in ipairs(stages) do
    local width, blocks = table.unpack(stage)
    local row = block.Chain()
    for i = 1, blocks do
      row[("block%d-%d"):format(s, i - 1)] = ResBottleneckBlock(inputs, width, i == 1 and 2 or 1, group)
      inputs = width
    end
    self.trunk_output["block" .. s] = row
  end
  self.fc = nn.Linear(inputs, o.classes)
end)

function RegNet:forward(x) return self.fc(block.global_average(self.trunk_output(self.stem(x)))) end

return {
  --- RegNetX-400MF: 22 residual bottlenecks with groups of 16 channels in stages of 32, 64, 160 and 400 channels (Radosavovic et al. 2020).
  -- @param options { classes = 1000, channels = 3 }
  -- @return module
  -- @usage local net = prune.models.regnet_x_400mf { classes = 10 }
  regnet_x_400mf = block.model("regnet_x_400mf", RegNet, { Conv2d = block.fan_out, Linear = block.normal }, {},
    { { 32, 1 }, { 64, 2 }, { 160, 7 }, { 400, 12 } }, 16),
}
