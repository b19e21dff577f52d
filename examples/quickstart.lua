-- A small network on the digits that come with prunelua, pruned in the three ways there are.
--
--   build/prunelua examples/quickstart.lua [--epochs 12] [--tune 6] [--ratio 0.5] [--width 32] [--seed 1]
--
-- As a test: --epochs 2 --tune 1 --width 8
local prune = require "prune"
local opt = prune.cli { epochs = 12, tune = 6, ratio = 0.5, width = 32, seed = 1 }

prune.seed(opt.seed)
local train, test = prune.data.load("", { batch = 64 }) -- "": the embedded digits, 8 x 8 pixels
local shape = train.shape                               -- { 1, 8, 8 }
local report = prune.report(shape, test)
local percent = ("%.0f %%"):format(100 * opt.ratio)

local function new() return prune.models.cnn { classes = train.classes, channels = shape[1], width = opt.width } end

local function fit(net, epochs, regularizer)
  local optimizer = prune.optim.SGD(net, { lr = 0.05, momentum = 0.9, weight_decay = 5e-4 })
  local schedule = prune.schedule.cosine { epochs = epochs }
  local trainer = prune.Trainer(net, { optimizer = optimizer, schedule = schedule, regularizer = regularizer, quiet = true })
  trainer:fit(train, { epochs = epochs })
  return net
end

local function accuracy(net) return 100 * prune.Trainer(net, { optimizer = prune.optim.SGD(net) }):evaluate(test).accuracy end

print(("A convolutional network learns digits: %d images of 8 x 8 pixels, %d epochs."):format(train.size, opt.epochs))
local dense = fit(new(), opt.epochs)
print(prune.summary(dense, shape))
report:add("dense", dense)

print(("\n1. Masking: %s of each convolution's filters are set to zero, those of lowest norm. Shapes stay."):format(percent))
local masked = dense:clone()
for conv in masked:each "Conv2d" do prune.mask.ln_structured(conv.weight, { amount = opt.ratio, n = 2, dim = 1 }) end
local before = accuracy(masked)
fit(masked, opt.tune) -- the mask holds while the rest learns on
print(("   Accuracy %.1f %%, and after %d epochs of tuning %.1f %%."):format(before, opt.tune, accuracy(masked)))
report:add("masked", masked)

print(("\n2. Removal: %s of the channels go, with all that is coupled to them: batch norms, the next layer's inputs."):format(percent))
local removed = dense:clone()
local plan = prune.structured(removed, shape, { criterion = prune.criterion.magnitude(), ratio = opt.ratio })
local difference = prune.verify(removed, plan) -- raises where removal would compute something else than zeroing does
print((tostring(plan):gsub("^", "   "):gsub("\n", "\n   ")))
plan:apply()
before = accuracy(removed)
fit(removed, opt.tune)
print(("   Removing and zeroing the channels compute the same: they differ by %.0e at most."):format(difference))
print(("   Accuracy %.1f %%, and after %d epochs of tuning %.1f %%."):format(before, opt.tune, accuracy(removed)))
report:add("removed", removed)

print "\n3. Sparsity-regularised training: an L1 term drives the scales of channels that are not needed towards zero."
local slim = fit(new(), opt.epochs, prune.regularizer.bn_scale { strength = 0.06 })
local trained = accuracy(slim)
prune.structured(slim, shape, { criterion = prune.criterion.bn_scale(), ratio = opt.ratio, scope = "global" }):apply()
before = accuracy(slim)
fit(slim, opt.tune)
print(("   Accuracy %.1f %%; without the %s of all channels that have the smallest scales %.1f %%, after tuning %.1f %%."):format(trained,
  percent, before, accuracy(slim)))
report:add("slim, removed", slim)

print "\nAll four, on images that none has seen (MACs: multiply-accumulates for one image; factors: in comparison with dense):\n"
print(report)
print "\nA mask makes a network sparse, but only removal makes it smaller. Next: examples/README.md, and `build/prunelua` for a prompt."
