-- models - well-known networks with torchvision's names and shapes, so that its state dicts load by name.
--
-- prune.models.resnet18 { classes = 10 } builds one, with random weights from the process's generator (prune.seed).
local core = require "prune.core"

-- name -> file of this folder
local files = {
  alexnet = "alexnet", cnn = "cnn", densenet121 = "densenet", efficientnet_b0 = "efficientnet", googlenet = "googlenet",
  inception_v3 = "inception", lenet = "cnn", mnasnet1_0 = "mnasnet", mobilenet_v2 = "mobilenet_v2", mobilenet_v3_large = "mobilenet_v3",
  mobilenet_v3_small = "mobilenet_v3", regnet_x_400mf = "regnet", shufflenet_v2_x1_0 = "shufflenet", squeezenet1_1 = "squeezenet",
  resnet18 = "resnet", resnet34 = "resnet", resnet50 = "resnet", resnet101 = "resnet", resnext50_32x4d = "resnet",
  wide_resnet50_2 = "resnet",
  convnext_tiny = "convnext", vit_b_16 = "vit", swin_t = "swin",
  resnet20 = "resnet_cifar", resnet56 = "resnet_cifar", vgg16_cifar = "vgg", vgg19_cifar = "vgg",
  gpt = "gpt", lstm = "lstm", unet = "unet",
  vgg11 = "vgg", vgg11_bn = "vgg", vgg13 = "vgg", vgg13_bn = "vgg", vgg16 = "vgg", vgg16_bn = "vgg", vgg19 = "vgg", vgg19_bn = "vgg",
}

local names = {}
for name in pairs(files) do names[#names + 1] = name end
table.sort(names)

local models = {}

--- Names of all models.
-- @return table, sorted
function models.names() return { table.unpack(names) } end

local fields = {}
for name in pairs(files) do fields[name] = true end

return setmetatable(models, {
  __fields = fields, -- for completion and help
  __index = function(self, name)
    if not files[name] then
      local near = type(name) == "string" and core.nearest(name, names)
      error(("prune.models has no '%s'%s"):format(tostring(name), near and ("; did you mean '" .. near .. "'?") or
        " (there are: " .. table.concat(names, ", ") .. ")"), 2)
    end
    for key, constructor in pairs(require("prune.models." .. files[name])) do rawset(self, key, constructor) end
    return rawget(self, name)
  end,
  __pairs = function(self)
    for _, name in ipairs(names) do local _ = self[name] end
    return next, self, nil
  end,
})
