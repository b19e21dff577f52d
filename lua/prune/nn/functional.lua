--- Operators as functions: `F.relu(x)`, `F.conv2d(x, weight, bias, { stride = 2 })`.
--
-- Inputs come first, in order (nil for an absent optional one), then the arguments in order or in one table with names. Axes, positions and
-- class labels count from 1; negative axes count from the end. `help "conv2d"` shows the inputs and arguments of an operator.
local core = require "prune.core"

local F = {}

for name, f in next, core.ops do
  if core.describe(name).inputs ~= "" then F[name] = f end
end

--- Share of rows of `scores` [N, classes] whose largest entry is at the label.
-- @tparam Tensor scores
-- @tparam Tensor labels whole numbers, 1 to classes
-- @treturn number 0 to 1
function F.accuracy(scores, labels)
  if not core.is_tensor(scores) or not core.is_tensor(labels) then
    error(("accuracy: scores and labels must be tensors, got %s and %s"):format(type(scores), type(labels)), 2)
  end
  return scores:argmax(2):eq(labels):sum():item() / labels:size(1)
end

return F
