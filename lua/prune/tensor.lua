--- Making tensors. What can be done with them are their methods: every operator, and those listed in `prune.tensor.methods`.
--
-- Shapes are numbers or a table. Options stand in that table or in one after it: `dtype` ("f32" unless said; f64, bf16, i64, i32, u8,
-- bool), `requires_grad`.
local core = require "prune.core"

local M = {}

--- A tensor with the numbers of a nested table, or of one number. Booleans give a bool tensor, all else f32 unless a dtype is given.
-- @param values a number or a nested table; all rows must have the same length
-- @tparam[opt] table options dtype, requires_grad
-- @treturn Tensor
-- @usage prune.tensor { { 1, 2 }, { 3, 4 } }
-- @usage prune.tensor({ 3, 1, 2 }, { dtype = "i64" })
M.tensor = core.tensor

--- A tensor of zeros.
-- @param ... the shape, then options
-- @treturn Tensor
-- @usage prune.zeros(2, 3)
-- @usage prune.zeros { 2, 3, dtype = "i64" }
M.zeros = core.zeros

--- A tensor of ones.
-- @param ... the shape, then options
-- @treturn Tensor
-- @usage prune.ones { 4 }
M.ones = core.ones

--- A tensor of one value.
-- @tparam {integer,...} shape
-- @tparam number value
-- @tparam[opt] table options
-- @treturn Tensor
-- @usage prune.full({ 2, 3 }, 7)
M.full = core.full

--- A tensor that is not filled: its values are whatever lies in memory.
-- @param ... the shape, then options
-- @treturn Tensor
M.empty = core.empty

--- Ones on the diagonal, zeros elsewhere.
-- @tparam integer rows
-- @tparam[opt=rows] integer columns
-- @treturn Tensor
-- @usage prune.eye(3)
M.eye = core.eye

--- The numbers from first to last, as a for loop counts them: the last one is included.
-- @tparam[opt=1] number first
-- @tparam number last
-- @tparam[opt=1] number step
-- @tparam[opt] table options
-- @treturn Tensor
-- @usage prune.arange(5)             -- 1 2 3 4 5
-- @usage prune.arange(0, 1, 0.25)    -- 0 0.25 0.5 0.75 1
M.arange = core.arange

--- n numbers at equal distances, first and last included.
-- @tparam number first
-- @tparam number last
-- @tparam integer n
-- @tparam[opt] table options
-- @treturn Tensor
-- @usage prune.linspace(0, 1, 11)
M.linspace = core.linspace

--- Random numbers, uniform in [0, 1).
-- @param ... the shape, then options
-- @treturn Tensor
-- @usage prune.rand(2, 3)
M.rand = core.rand

--- Random numbers of the standard normal distribution.
-- @param ... the shape, then options
-- @treturn Tensor
-- @usage prune.randn { 2, table.unpack(shape) }
M.randn = core.randn

--- Random whole numbers from low to high, both included (i64 unless said).
-- @tparam integer low
-- @tparam integer high
-- @param ... the shape, then options
-- @treturn Tensor
-- @usage prune.randint(1, 10, 32)    -- 32 class labels of 10 classes
M.randint = core.randint

--- The numbers 1 to n in random order (i64).
-- @tparam integer n
-- @treturn Tensor
M.randperm = core.randperm

--- Is the value a tensor?
-- @param value
-- @treturn boolean
M.is_tensor = core.is_tensor

return M
