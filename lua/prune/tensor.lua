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

-- --- methods that are no operators -------------------------------------------------------------------------------------

--- tensor:size(axis)
-- The size of an axis (1-based, negative from the end), or without an axis all sizes as a table. Also: tensor.shape, #tensor for the first.
-- @tparam[opt] integer axis
-- @return integer or table

--- tensor:stride(axis)
-- How many elements apart neighbours along an axis lie in memory, or without an axis all strides as a table.
-- @tparam[opt] integer axis
-- @return integer or table

--- tensor:dim()
-- The number of axes.
-- @treturn integer

--- tensor:numel()
-- The number of elements.
-- @treturn integer

--- tensor:is_contiguous()
-- Do the elements lie in memory in row-major order, without holes?
-- @treturn boolean

--- tensor:is_channels_last()
-- Does an image batch lie in memory in the order N H W C?
-- @treturn boolean

--- tensor:shares_storage(other)
-- Do both tensors look at the same memory?
-- @tparam Tensor other
-- @treturn boolean

--- tensor:item()
-- The value of a tensor with one element: a float, an integer or a boolean.
-- @return number or boolean

--- tensor:totable()
-- The values as a nested table; of a tensor without axes, the value.
-- @return table

--- tensor:fill(value)
-- Write one value into every element.
-- @tparam number value
-- @treturn Tensor the tensor itself

--- tensor:copy(other)
-- Write the values of another tensor, broadcast and converted, into this one.
-- @tparam Tensor other
-- @treturn Tensor the tensor itself

--- tensor:clone()
-- A copy with memory of its own. Gradients flow through it.
-- @treturn Tensor

--- tensor:detach()
-- The same values without history: shares memory, takes no part in backward.
-- @treturn Tensor

--- tensor:to(target)
-- The tensor in another dtype (a copy) or on another device; itself where nothing changes.
-- @param target "f32", "f64", "bf16", "i64", "i32", "u8", "bool", "cpu", or { dtype = ..., device = ... }
-- @treturn Tensor
-- @usage labels:to "f32"

--- tensor:contiguous()
-- The tensor in row-major order: itself, or a copy.
-- @treturn Tensor

--- tensor:equal(other)
-- Have both the same shape, dtype and values? (== asks whether they are the same tensor, tensor:eq compares element by element.)
-- @tparam Tensor other
-- @treturn boolean

--- tensor:allclose(other, options)
-- Is |a - b| <= atol + rtol |b| everywhere? Infinities must be equal, nan is close to nothing.
-- @tparam Tensor other of the same shape
-- @tparam[opt] table options rtol (1e-5), atol (1e-8)
-- @treturn boolean
-- @usage assert(y:allclose(expected, { rtol = 1e-3 }))

--- tensor:lowest(count)
-- Positions (i64, 1-based) of the lowest elements of a tensor with one axis, lowest first; equal ones in order of position, nan last.
-- @param count how many, or { count = n }, or { ratio = r }: floor(r * n + 1e-6) of them
-- @treturn Tensor
-- @usage weight:abs():sum { 2, 3, 4 }:lowest { ratio = 0.3 }

--- tensor:highest(count)
-- Positions (i64, 1-based) of the highest elements, highest first; otherwise as lowest.
-- @param count how many, or { count = n }, or { ratio = r }
-- @treturn Tensor

--- tensor:backward(grad)
-- Add the gradient of this tensor with respect to every leaf that requires one to its `grad`. Frees what was recorded.
-- @tparam[opt] Tensor grad the gradient of this tensor; not needed for one element
-- @usage loss:backward()

--- tensor:zero_grad()
-- Forget the gradient: tensor.grad is nil afterwards.
-- @treturn Tensor the tensor itself

--- tensor:register_hook(f)
-- Call f with the gradient of this tensor each time one is computed; a tensor that f returns takes its place.
-- @tparam function f
-- @treturn function removes the hook
-- @usage local remove = x:register_hook(function(grad) print(grad) end)

--- tensor:value()
-- What reading a parameter gives (its masked value), without history; shares memory where there is no mask.
-- @treturn Tensor

--- tensor:dense()
-- The values of a parameter beside its mask, without history; shares memory.
-- @treturn Tensor

--- tensor:clone_parameter()
-- A parameter or buffer with values and mask of its own; no gradient, no optimiser state.
-- @treturn Tensor

--- tensor:to_in_place(target)
-- Convert a parameter to another float dtype behind the same handle; drops gradient and optimiser state.
-- @tparam string target "f32", "f64", "bf16" or "cpu"
-- @treturn Tensor the tensor itself

--- tensor:set_mask(mask)
-- Give a parameter a mask of its shape (0: removed, 1: kept), or none (nil). The dense value stays beside it.
-- @tparam ?Tensor mask copied
-- @treturn Tensor the tensor itself

--- tensor:keep_dense_grad(keep)
-- Whether backward gathers, beside the gradient of a masked parameter (`grad`, 0 where it is masked), the one that it would have without
-- the mask: field `dense_grad`. zero_grad forgets both.
-- @tparam boolean keep
-- @treturn Tensor the tensor itself
-- @usage conv.weight:keep_dense_grad(true); loss:backward(); print(conv.weight.dense_grad)

--- tensor:finalize_mask()
-- Write the masked value into the parameter and drop the mask.
-- @treturn Tensor the tensor itself

--- tensor:slots()
-- The optimiser state of a parameter: a list of { name, tensor } in order of creation. The tensors are the state itself.
-- @treturn table

--- tensor:set_slot(name, state)
-- Set one tensor of the optimiser state.
-- @tparam string name "momentum_buffer", "exp_avg", ...
-- @tparam Tensor state

--- tensor:clear_slots()
-- Forget the optimiser state.

return M
