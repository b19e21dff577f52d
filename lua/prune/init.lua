--- prunelua: tensors, neural networks and their pruning.
--
-- `local prune = require "prune"`. Sub-modules (prune.nn, prune.optim, prune.data, ...) are loaded when they are first used.
local core = require "prune.core"

local prune = { version = core.version }

-- Names that stand for a field of a module ("module:field"; the field has the same name unless said) or for the module itself: looked up on
-- first use.
local exports = {
  Trainer = "prune.trainer",
  benchmark = "prune.engine",
  cli = "prune.cli",
  compile = "prune.engine",
  depth = "prune.depth",
  draw = "prune.graph",
  graph = "prune.graph",
  history = "prune.history",
  load = "prune.checkpoint",
  load_state = "prune.checkpoint",
  profile = "prune.graph",
  progress = "prune.progress",
  replay = "prune.history",
  report = "prune.report",
  save = "prune.checkpoint",
  sensitivity = "prune.sensitivity",
  sorted = "prune.util",
  sparsity = "prune.graph",
  structured = "prune.structured",
  summary = "prune.graph",
  try = "prune.util",
  verify = "prune.structured",
}

-- Sub-modules: prune.NAME is require "prune.NAME".
local modules = {}
for name in ([[
  nn optim data models allocation lottery mask calibration criterion recipe regularizer repair schedule
  sparse onnx safetensors util]]):gmatch "%a+" do
  modules[name] = "prune." .. name
end

local function names()
  local all = {}
  for name in next, prune do all[#all + 1] = name end
  for name in next, exports do all[#all + 1] = name end
  for name in next, modules do all[#all + 1] = name end
  return all
end

local function no_such(path, name, known)
  local nearest = type(name) == "string" and core.nearest(name, known)
  error(("%s.%s does not exist%s"):format(path, tostring(name), nearest and ("; did you mean %s.%s?"):format(path, nearest) or ""), 3)
end

-- What a part of the API does not have is a slip, told with the nearest name in place of Lua's "attempt to call a nil value". Parts that answer
-- for their fields themselves stay as they are.
local function guard(path, part)
  if type(part) ~= "table" or getmetatable(part) then return part end
  return setmetatable(part, { __index = function(_, name)
    if type(name) ~= "string" or name:find "^_" then return nil end
    local known = {}
    for key in next, part do known[#known + 1] = type(key) == "string" and key or nil end
    no_such(path, name, known)
  end })
end

-- For completion and help: what the table will hold once it is asked.
local fields = {}
for name in next, exports do fields[name] = true end
for name in next, modules do fields[name] = true end

setmetatable(prune, {
  __fields = fields,
  __index = function(_, name)
    local value
    if exports[name] then
      local path, field = exports[name]:match "^([^:]+):?(.*)$"
      local module = require(path)
      value = type(module) == "table" and module[field ~= "" and field or name] or module
    elseif modules[name] then
      value = guard("prune." .. name, require(modules[name]))
      if name == "nn" then guard("prune.nn.functional", value.functional) guard("prune.nn.init", value.init) end
    else
      no_such("prune", name, names())
    end
    rawset(prune, name, value)
    return value
  end,
})

local tensors = require "prune.tensor"
for name, value in next, tensors do prune[name] = value end

--- Run f without recording for backward and return its results. Without f: a value that switches recording off until it is closed.
-- @tparam[opt] function f
-- @param ... arguments of f
-- @return the results of f
-- @usage local y = prune.no_grad(net, x)
-- @usage local guard <close> = prune.no_grad()
prune.no_grad = core.no_grad

--- Run f with recording for backward, also inside prune.no_grad, and return its results.
-- @tparam[opt] function f
-- @param ... arguments of f
-- @return the results of f
prune.enable_grad = core.enable_grad

--- Run f and return its results; tensors of a given shape that it makes (zeros, ones, full, empty, rand, randn, randint: so all parameters of
-- layers) have a shape and no values. A model made so takes no memory: its summary, graph, groups and plans (by prune.criterion.random() or a
-- function of shapes) are those of the real one, and running it gives shapes. Reading a value raises; initialisers do nothing.
-- @tparam function f
-- @param ... arguments of f
-- @return the results of f
-- @usage local net = prune.meta(function() return prune.models.resnet50() end)
-- print(prune.summary(net, { 3, 224, 224 }))
prune.meta = core.meta

--- Are operators recorded for backward now?
-- @treturn boolean
prune.grad_enabled = core.grad_enabled

--- Seed the random numbers of the process; without an argument, ask for the seed.
-- @tparam[opt] integer n
-- @treturn integer the seed
-- @usage prune.seed(0)
prune.seed = core.seed

--- Use n threads for arithmetic; without an argument, ask how many there are.
-- @tparam[opt] integer n
-- @treturn integer the number of threads
prune.threads = core.threads

--- Use a backend and those that come after it; without an argument, ask which is used. "reference" computes everything in the plainest way.
-- @tparam[opt] string name
-- @treturn string the backend
prune.backend = core.backend

--- The backends of this build, in the order in which they are asked.
-- @treturn {string,...}
prune.backends = core.backends

--- Memory of the core: bytes in use (`live`) and at most in use (`peak`), of these in tensors (`tensors`), blocks in use (`blocks`) and
-- allocations so far (`calls`). Blocks that are kept for later use count as live.
-- @treturn table
prune.memory = core.memory

--- Start measuring the peak of prune.memory anew.
prune.reset_peak_memory = core.reset_peak_memory

--- Collect garbage and give cached blocks of memory back to the system.
prune.empty_cache = core.empty_cache

--- Seconds of a clock that only goes forward.
-- @treturn number
prune.clock = core.clock

return prune
