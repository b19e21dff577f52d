-- A recipe: training, removal in two rounds, recalibration and tuning as a table. It is both a file for the recipe runner, which can be stopped
-- and started again at any time, and a script that hands the table to it:
--
--   build/prunelua -m prune.recipe examples/recipe.lua [--check] [--restart]
--   build/prunelua examples/recipe.lua
--
-- As a test: short
local short = ... == "short" -- the recipe runner gives no arguments
local sgd = { "SGD", lr = 0.05, momentum = 0.9, weight_decay = 5e-4 }

local recipe = {
  data = { "", batch = 64, limit = short and 256 or 0 },
  model = { "cnn", width = short and 4 or 16 },
  seed = 1,
  out = not short and "runs/recipe" or nil,
  stages = {
    { "train", epochs = short and 1 or 10, optimizer = sgd, schedule = { "cosine", epochs = 10 } },
    { "repeat", times = 2, stages = {
      { "prune", macs = 0.5, criterion = { "taylor" }, scope = "global" }, -- half of what is left
      { "batch_norm" },
      { "tune", epochs = short and 1 or 4, optimizer = sgd, schedule = { "cosine", epochs = 4 }, distill = { teacher = "train", weight = 0.5 } },
    } },
    { "tune", name = "sparse", epochs = short and 1 or 6, optimizer = sgd, schedule = { "cosine", epochs = 6 },
      sparsity = { "gradual_magnitude", schedule = { "cubic", to = 0.8, last = short and 3 or 90 } }, distill = { teacher = "train" } },
  },
}

if not require then return recipe end -- the recipe runner's files see no functions
require("prune").recipe(recipe)
