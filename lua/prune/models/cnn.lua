-- cnn.lua - small networks for small images.
local nn = require "prune.nn"
local options = require "prune.options"
local F = nn.functional

local CNN = nn.module("CNN", function(self, o)
  local width = o.width
  self.conv1 = nn.Conv2d(o.channels, width, 3, { padding = 1, bias = false })
  self.bn1 = nn.BatchNorm2d(width)
  self.conv2 = nn.Conv2d(width, 2 * width, 3, { padding = 1, bias = false })
  self.bn2 = nn.BatchNorm2d(2 * width)
  self.conv3 = nn.Conv2d(2 * width, 4 * width, 3, { padding = 1, bias = false })
  self.bn3 = nn.BatchNorm2d(4 * width)
  self.fc = nn.Linear(4 * width, o.classes)
end)

function CNN:forward(x)
  x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), { kernel_size = 2, stride = 2 })
  x = F.max_pool2d(F.relu(self.bn2(self.conv2(x))), { kernel_size = 2, stride = 2 })
  x = F.relu(self.bn3(self.conv3(x)))
  return self.fc(F.flatten(F.adaptive_avg_pool2d(x, { output_size = 1 }), 2))
end

local LeNet = nn.module("LeNet", function(self, o)
  self.conv1 = nn.Conv2d(o.channels, 6, 5, { padding = 2 })
  self.conv2 = nn.Conv2d(6, 16, 5)
  self.fc1 = nn.Linear(400, 120)
  self.fc2 = nn.Linear(120, 84)
  self.fc3 = nn.Linear(84, o.classes)
end)

function LeNet:forward(x)
  x = F.max_pool2d(F.relu(self.conv1(x)), { kernel_size = 2, stride = 2 })
  x = F.max_pool2d(F.relu(self.conv2(x)), { kernel_size = 2, stride = 2 })
  x = F.relu(self.fc2(F.relu(self.fc1(F.flatten(x, 2)))))
  return self.fc3(x)
end

return {
  --- Three blocks of convolution 3x3, batch norm, ReLU with width, 2 width, 4 width channels, max-pool 2 after the first two, global
  -- average, linear.
  -- @param options { classes = 10, channels = 3, width = 16 }
  -- @return module
  -- @usage local net = prune.models.cnn { classes = 10, channels = 1, width = 32 }
  cnn = function(given) return CNN(options.check("prune.models.cnn", given, { classes = 10, channels = 3, width = 16 })) end,
  --- LeNet-5 (LeCun et al. 1998) with ReLU and max-pooling, for 28x28 images.
  -- @param options { classes = 10, channels = 1 }
  -- @return module
  -- @usage local net = prune.models.lenet()
  lenet = function(given) return LeNet(options.check("prune.models.lenet", given, { classes = 10, channels = 1 })) end,
}
