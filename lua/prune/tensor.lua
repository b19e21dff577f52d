--- Making tensors. What can be done with them are their methods: every operator, and those described at the end of this file.
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

-- --- methods that are no operators ------------------------------------------------------------------------------------

--- tensor:size([axis]) -> list or integer
-- Sizes of the axes, or of one axis; negative axes count from the end. `#tensor` is the size of the first, `tensor.shape` the list.
-- @usage prune.zeros(2, 3):size(-1)    -- 3

--- tensor:stride([axis]) -> list or integer
-- Steps in memory, in elements, from one index of an axis to the next.

--- tensor:dim() -> integer
-- The number of axes.

--- tensor:numel() -> integer
-- The number of elements.

--- tensor:is_contiguous() -> boolean
-- Do the elements lie in memory in order, without gaps?

--- tensor:is_channels_last() -> boolean
-- Is this a 4-D tensor whose channels lie next to each other in memory?

--- tensor:shares_storage(other) -> boolean
-- Are both views of one piece of memory, so that writing to one may change the other?

--- tensor:item() -> number or boolean
-- The value of a tensor with one element. Raises while a model is traced.

--- tensor:totable() -> nested table
-- The values as tables of tables; a number or boolean for a tensor without axes.

--- tensor:equal(other) -> boolean
-- Have both the same shape, dtype and values? nan equals nothing.

--- tensor:allclose(other, options) -> boolean
-- Is |a - b| <= atol + rtol |b| everywhere? Both must have one shape; nan is close to nothing.
-- @tparam[opt] table options rtol (1e-5), atol (1e-8)

--- tensor:fill(value) -> tensor
-- Set every element, in place. Raises for a tensor that was recorded for backward.

--- tensor:copy(other) -> tensor
-- Take over the values of a tensor that broadcasts to this shape, in place, converting the dtype.

--- tensor:clone() -> tensor
-- A copy with memory of its own. Gradients flow through it while recording.

--- tensor:detach() -> tensor
-- The same memory without history: no gradient flows back from it.

--- tensor:to(dtype or device) -> tensor
-- Converted; itself where nothing changes.
-- @usage x:to "f64"
-- @usage x:to { dtype = "bf16", device = "cpu" }

--- tensor:contiguous() -> tensor
-- Itself if its elements lie in order, else a copy whose do.

--- tensor:lowest(count) -> tensor
-- Positions (i64, from 1) of the lowest elements of a tensor with one axis, lowest first. Of equal values the lower position goes
-- first; nan comes last.
-- @param count an integer, { count = n }, or { ratio = r } for floor(r n + 1e-6) of n
-- @usage norms:lowest { ratio = 0.3 }

--- tensor:highest(count) -> tensor
-- Positions (i64, from 1) of the highest elements of a tensor with one axis, highest first; else as lowest.
-- @param count an integer, { count = n }, or { ratio = r }

--- tensor:backward([gradient])
-- Add the gradient of this tensor to `grad` of every leaf that it was computed from and that requires one, and free what was
-- recorded. A tensor with more than one element needs the gradient to start with, of its own shape.

--- tensor:zero_grad() -> tensor
-- Drop the gradient: `tensor.grad` is nil afterwards.

--- tensor:register_hook(f) -> function
-- f(gradient) runs when the gradient of this tensor is complete; a tensor that it returns takes the gradient's place. Calling the
-- result removes the hook.

--- tensor:value() -> tensor
-- What a parameter reads as: under a mask the masked value.

--- tensor:dense() -> tensor
-- The value of a parameter beside its mask, which the optimiser moves; a view without history.

--- tensor:clone_parameter() -> tensor
-- A parameter or buffer of its own with the same value and mask, without gradient and optimiser state.

--- tensor:to_in_place(dtype or device) -> tensor
-- Convert a parameter and keep its identity: modules and optimisers go on holding it. Gradient and optimiser state are dropped,
-- a mask stays.

--- tensor:set_mask(mask) -> tensor
-- Put a mask (of the parameter's shape; 0 hides) beside a parameter's value, or take it away with nil. prune.mask has the ways to
-- make one.

--- tensor:finalize_mask() -> tensor
-- Make the masked value the parameter's value and drop the mask.

--- tensor:slots() -> list
-- The optimiser's state of a parameter: { name, tensor } pairs, such as "momentum_buffer".

--- tensor:set_slot(name, state)
-- Set one piece of the optimiser's state of a parameter.

--- tensor:clear_slots()
-- Forget the optimiser's state of a parameter.

return M
