--- Operators as functions: `F.relu(x)`, `F.conv2d(x, weight, bias, { stride = 2 })`.
--
-- Inputs come first, in order (nil for an absent optional one), then the arguments in order or in one table with names. Axes, positions and
-- class labels count from 1; negative axes count from the end. `help "conv2d"` shows the inputs and arguments of an operator.
local core = require "prune.core"

local F = {}

for name, f in next, core.ops do
  if core.describe(name).inputs ~= "" then F[name] = f end
end

--- Mean squared error between two tensors of one shape.
-- @tparam Tensor x
-- @tparam Tensor y
-- @treturn Tensor without axes
if not F.mse_loss then
  function F.mse_loss(x, y)
    local difference = x - y
    return (difference * difference):mean()
  end
end

--- One-hot rows: labels [N] (1 to classes) give [N, classes].
-- @tparam Tensor labels whole numbers
-- @tparam integer classes
-- @treturn Tensor f32
-- @usage F.one_hot(prune.tensor({ 2, 1 }, { dtype = "i64" }), 3)
if not F.one_hot then
  function F.one_hot(labels, classes)
    return core.eye(classes)[labels]
  end
end

--- Share of rows of `scores` [N, classes] whose largest entry is at the label.
-- @tparam Tensor scores
-- @tparam Tensor labels whole numbers, 1 to classes
-- @treturn number 0 to 1
function F.accuracy(scores, labels)
  return scores:argmax(2):eq(labels):sum():item() / labels:size(1)
end

return F
