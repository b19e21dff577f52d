-- function.lua - operators written in Lua: forward, backward, and how their axes are coupled.
local core = require "prune.core"
local options = require "prune.options"
local Module = require "prune.nn.module"

local none = options.none
local where = "nn.Function"

local Function = Module.class "Function"

local function is_tensor_list(first, count)
  for i = 1, count do
    if not core.is_tensor(first[i]) then return false end
  end
  return true
end

-- Values of all options in order, given ones first.
local function values_of(self, given)
  local values, known = {}, {}
  for i, spec in ipairs(self._specs) do
    known[spec[1]] = true
    local value = given and given[spec[1]]
    if value == nil then value = spec[2] end
    if type(value) ~= type(spec[2]) then
      error(("%s: option '%s' must be a %s, got %s"):format(self._operator_name, spec[1], type(spec[2]), type(value)), 4)
    end
    values[i] = value
  end
  for name in pairs(given or {}) do
    if not known[name] then
      local names = {}
      for i, spec in ipairs(self._specs) do names[i] = spec[1] end
      local near = core.nearest(tostring(name), names)
      error(("%s: there is no option '%s'%s"):format(self._operator_name, tostring(name),
        near and ("; did you mean '" .. near .. "'?") or ""), 4)
    end
  end
  return values
end

-- Tensors and, at the end, perhaps a table of options.
local function split(self, ...)
  local inputs = { ... }
  local count = select("#", ...)
  local given
  if count > 0 and type(inputs[count]) == "table" and not Module.is_module(inputs[count]) then
    given, inputs[count], count = inputs[count], nil, count - 1
  end
  if not is_tensor_list(inputs, count) then
    error(("%s: takes tensors, and a table of options at the end"):format(self._operator_name), 4)
  end
  return inputs, values_of(self, given)
end

--- Run the operator; `f(x)` calls it.
-- @param ... input tensors, then perhaps a table of options
-- @return the outputs
function Function:forward(...)
  local inputs, values = split(self, ...)
  return core.function_call(self._operator, inputs, values)
end

--- Compare what backward gives with central differences of forward, in f64.
-- @param ... input tensors, then perhaps a table of options
-- @return the largest difference relative to the largest gradient: 1e-6 or less where backward is right
-- @usage assert(swish:check(prune.randn { 3, 4 }) < 1e-6)
function Function:check(...)
  local inputs, values = split(self, ...)
  return core.function_check(self._operator, inputs, values, 1e-6)
end

function Function:describe() return self._operator_name end

local function need_function(name, value, required)
  if value == nil and not required or type(value) == "function" then return value or false end
  error(("%s: %s must be a function, got %s"):format(where, name, type(value)), 4)
end

local function read_specs(given)
  local names, specs = {}, {}
  for name, default in pairs(given or {}) do
    if type(name) ~= "string" or not name:match "^[%a_][%w_]*$" or #name > 32 then
      error(("%s: options are names with default values, '%s' is no name"):format(where, tostring(name)), 4)
    end
    if type(default) ~= "number" and type(default) ~= "boolean" then
      error(("%s: option '%s' must default to a number or a boolean, got %s"):format(where, name, type(default)), 4)
    end
    names[#names + 1] = name
  end
  if #names > 10 then error(("%s: at most 10 options, got %d"):format(where, #names), 4) end
  table.sort(names)
  for i, name in ipairs(names) do specs[i] = { name, given[name] } end
  return specs
end

--- An operator written in Lua. It runs, is differentiated, traced, pruned and saved like the built-in ones. The result is called with tensors,
-- and serves as a module too (in nn.Sequential).
--
-- Without a coupling rule every axis that it touches is pinned, which the plan says. A model that contains it can be opened from a
-- checkpoint once an operator of the same name is defined; before that, loading is refused.
-- @param definition
--   name: letters, digits and _ (required); not that of a built-in operator. Defining it again replaces it for what is traced or loaded then;
--   forward: function(ctx, x1, ...) -> outputs (required); ctx holds the options, and what is put into it is there again in backward. What it calls
--   is not recorded;
--   backward: function(ctx, grad1, ...) -> a gradient for each input, nil for one without influence; ctx.inputs are the inputs. Without it the operator
--   cannot be differentiated;
--   shape: function(shape1, ..., options) -> a table of sizes for each output, with a field dtype where it is not that of the first input (default: one
--   output like the first input);
--   couple: "elementwise" (entry i of the output depends on the entries i of the inputs, which may broadcast), or function(ties, options) that says what
--   goes together: ties:tie("x1", axis, "x2", axis); ties:pass("y1", "x1", keep) and ties:pass_axis("y1", axis, "x1", axis, keep) hand an axis on;
--   ties:pin("x1" [, axis [, reason]]); ties:need_zero("x1", axis) for an axis that is summed; ties:dead("x1", axis [, value]) is the value of removed
--   entries in the ablated model (nil: unknown), and keep says what becomes of it: "unknown", "zero" (0 stays 0), "value", "vanish";
--   ties:dim("x1"), ties:size("x1", axis). Axes of outputs that are not set are pinned;
--   options: { name = default }: numbers and booleans, given in a table at the end of a call; they are saved with the model
-- @return the operator: op(x), op:check(x)
-- @usage local swish = nn.Function {
--   name = "swish", couple = "elementwise",
--   forward = function(_, x) return x * x:sigmoid() end,
--   backward = function(ctx, grad)
--     local s = ctx.inputs[1]:sigmoid()
--     return grad * (s + ctx.inputs[1] * s * (s * -1 + 1))
--   end,
-- }
local function new(definition)
  local o = options.check(where, definition, {
    name = none, forward = none, backward = none, shape = none, couple = none, options = none,
  })
  if type(o.name) ~= "string" or not o.name:match "^[%a_][%w_]*$" or #o.name > 60 then
    error(("%s: name must be made of letters, digits and _, got %s"):format(where, tostring(o.name)), 2)
  end
  if o.couple ~= nil and o.couple ~= "elementwise" and type(o.couple) ~= "function" then
    error(('%s: couple is "elementwise" or a function, got %s'):format(where, tostring(o.couple)), 2)
  end
  if o.options ~= nil and type(o.options) ~= "table" then
    error(("%s: options must be a table of names with default values, got %s"):format(where, type(o.options)), 2)
  end
  local functions = { need_function("shape", o.shape), need_function("forward", o.forward, true), need_function("backward", o.backward),
    type(o.couple) == "function" and o.couple }
  local self = Function()
  self._specs, self._operator_name = read_specs(o.options), o.name
  self._operator = core.function_new(o.name, functions, o.couple == "elementwise", self._specs)
  return self
end

return { Function = new }
