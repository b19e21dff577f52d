-- ConvNeXt, ViT and Swin compute what torchvision's do (names and counts: test_models).
local T = require "testing"
local prune = require "prune"

-- Numbers without a file: entry i of tensor k. They repeat after 997 * 983.
local PERIOD = 997 * 983
local angles

local function formula(n, k)
  if not angles then
    local i = prune.arange(0, PERIOD - 1, { dtype = "f64" })
    angles = (i % 997) * (i % 983) * 0.01
  end
  local once = (angles[{ { 1, math.min(n, PERIOD) } }] + k):sin()
  if n <= PERIOD then return once end
  return once:tile { (n - 1) // PERIOD + 1 }[{ { 1, n } }]
end

local function fill(net)
  local k = 0
  for name, p in net:named_parameters() do
    k = k + 1
    local sizes = p:size()
    local n = p:numel()
    local v = formula(n, k)
    if #sizes > 1 then v = v * math.sqrt(3 * sizes[1] / n)
    elseif name:match "bias$" then v = v * 0.1
    else v = v * 0.5 + 1 end
    p:copy(v:reshape(sizes))
  end
end

-- With torchvision 0.29: 10 classes, weights by the formula in the order of the state dict, two images by the formula with k = 0.5, in f64.
local golden = {
  { arch = "convnext_tiny", size = { 32, 32 }, logits = {
    -1.450069, -0.685272, 0.713349, -1.285142, 2.837542, -1.168685, -0.886841, -0.665959, -0.591507, -2.138989,
    -0.411717, -0.179087, 0.465106, 0.263184, 3.697375, -0.553804, -0.336827, -1.900168, -2.576458, -1.428804 } },
  { arch = "swin_t", size = { 64, 48 }, logits = {
    -2.434010, -0.671189, 0.720002, 0.182020, 1.269815, -0.801855, -1.391983, 0.159277, -0.657390, -0.926216,
    -1.926526, 1.197423, 0.271130, 0.167607, 0.858653, -0.616993, -1.476412, 0.460752, -0.943287, -0.475806 } },
  { arch = "vit_b_16", size = { 32, 32 }, logits = {
    2.462723, 0.578363, -0.393024, -1.665118, -1.738523, -0.584050, 0.569666, 0.381071, -0.186536, 3.524937,
    0.868248, -1.584529, 0.074620, -0.494960, -0.711580, 0.170580, 0.018844, -0.326878, 0.690388, 0.715595 } },
}

for _, gold in ipairs(golden) do
  T.test(gold.arch .. " computes what torchvision's does", function()
    local height, width = table.unpack(gold.size)
    local net = prune.models[gold.arch] { classes = 10, image_size = gold.arch == "vit_b_16" and 32 or nil }:eval()
    fill(net)
    local x = formula(2 * 3 * height * width, 0.5):reshape { 2, 3, height, width }:to "f32"
    T.close(net(x):flatten():totable(), gold.logits, 2e-4)
  end)
end

T.test("options are checked", function()
  T.raises(function() prune.models.vit_b_16 { image_size = 30 } end, "image_size must be a multiple of 16, got 30")
  T.raises(function() prune.models.vit_b_16 { image_sise = 32 } end, "did you mean 'image_size'")
  T.raises(function() prune.models.swin_t { stochastic_depth = 2 } end, "stochastic_depth must be a number in 0..1, got 2")
  T.raises(function() prune.models.convnext_tiny { classes = 0 } end, "classes must be an integer of at least 1, got 0")
end)

T.done()
