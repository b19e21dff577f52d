-- alexnet.lua - AlexNet as one tower (Krizhevsky 2014, "One weird trick for parallelizing convolutional neural networks").
local nn = require "prune.nn"
local block = require "prune.models.block"

local AlexNet = nn.module("AlexNet", function(self, o)
  self.features = nn.Sequential(
    nn.Conv2d(o.channels, 64, 11, { stride = 4, padding = 2 }), nn.ReLU(), nn.MaxPool2d(3, { stride = 2 }),
    nn.Conv2d(64, 192, 5, { padding = 2 }), nn.ReLU(), nn.MaxPool2d(3, { stride = 2 }),
    nn.Conv2d(192, 384, 3, { padding = 1 }), nn.ReLU(),
    nn.Conv2d(384, 256, 3, { padding = 1 }), nn.ReLU(),
    nn.Conv2d(256, 256, 3, { padding = 1 }), nn.ReLU(), nn.MaxPool2d(3, { stride = 2 }))
  self.avgpool = nn.AdaptiveAvgPool2d(6)
  self.classifier = nn.Sequential(nn.Dropout(o.dropout), nn.Linear(256 * 36, 4096), nn.ReLU(), nn.Dropout(o.dropout),
    nn.Linear(4096, 4096), nn.ReLU(), nn.Linear(4096, o.classes))
end)

function AlexNet:forward(x) return self.classifier(nn.functional.flatten(self.avgpool(self.features(x)), 2)) end

return {
  --- AlexNet: 5 convolutions and 3 linear layers (Krizhevsky 2014), for images of 63x63 and more.
  -- @param options { classes = 1000, channels = 3, dropout = 0.5 }
  -- @return module
  -- @usage local net = prune.models.alexnet { classes = 10 }
  alexnet = block.model("alexnet", AlexNet, {}, { dropout = 0.5 }),
}
