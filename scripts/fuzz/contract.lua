-- contract.lua - every model of prune.models under pruning at full width; scripts/fuzz/contract says what it does and how it is called.
local core = require "prune.core"
local prune = require "prune"

local init = prune.nn.init
local contract = {}

local image = { 3, 32, 32 }
local function tokens(n, vocabulary) return { shape = { n }, dtype = "i64", max = vocabulary } end

-- Options and inputs where the default ones ({}, an image of 32 x 32) are not legal, or would leave something untried.
local special = {
  alexnet = { { {}, { 3, 63, 63 } } },
  cnn = { { {}, { 3, 8, 8 } } },
  lenet = { { {}, { 1, 28, 28 } } },
  inception_v3 = { { {}, { 3, 75, 75 } } },
  squeezenet1_1 = { { {}, { 3, 33, 33 } } },
  vit_b_16 = { { { image_size = 32 }, image } },
  unet = { { {}, { 3, 16, 16 } }, { { width = 16, depth = 2, norm = "group" }, { 3, 8, 8 } } },
  lstm = { { {}, { 5, 64 } }, { { layers = 2, bidirectional = true, vocabulary = 50 }, tokens(5, 50) } },
  gpt = {
    { {}, tokens(6, 256) },
    { { heads = 8, kv_heads = 2 }, tokens(6, 256) },
    { { positions = "learned", mlp = "plain", norm = "layer", bias = true, tied = false }, tokens(6, 256) },
  },
}

--- What is tried.
-- @return list of { name, options, input }, sorted by name
function contract.cases()
  local list = {}
  for _, name in ipairs(prune.models.names()) do
    for _, case in ipairs(special[name] or { { {}, image } }) do list[#list + 1] = { name, case[1], case[2] } end
  end
  return list
end

-- Values with which nothing is by chance zero, one or tiny: biases, scales and running statistics too.
local function fill(net)
  for name, p in net:named_parameters() do
    if p:dim() > 1 and p:numel() > p:size(1) then init.normal(p, 0, 1 / math.sqrt(p:numel() // p:size(1)))
    else init.normal(p, name:match "bias" and 0 or 1, 0.3) end
  end
  for name, b in net:named_buffers() do
    if name:match "running_var$" then init.uniform(b, 0.5, 1.5)
    elseif name:match "running_mean$" then init.normal(b, 0, 0.3) end
  end
end

-- Random units of a group: at least one, some 30 %, never all.
local function choose(group, share)
  local n, positions = group.size, {}
  local order = core.randperm(n):totable()
  for i = 1, math.max(1, math.min(n - 1, math.floor(share * n))) do positions[i] = order[i] end
  table.sort(positions)
  return group:pick(positions)
end

--- Remove random units of every group at once, in double precision, and compare output and gradients with those of the ablated model.
-- @param case element of contract.cases()
-- @param seed number
-- @return table: worst (relative difference), groups, units, removed
function contract.check(case, seed)
  local name, given, shape = table.unpack(case)
  prune.seed(seed)
  local net = init.skip(prune.models[name], given)
  fill(net)
  local traced = prune.graph(net, shape)
  local result, chosen = { groups = 0, units = 0, removed = 0, single = 0 }, {}
  for _, group in ipairs(traced:groups { all = true }) do
    if group.size > 1 then
      local some = choose(group, 0.3)
      chosen[#chosen + 1] = some
      result.groups, result.units, result.removed = result.groups + 1, result.units + group.size, result.removed + some.size
    else
      result.single = result.single + 1
    end
  end
  result.worst = prune.verify(net, chosen, { dtype = "f64", gradients = true, batch = 1 })
  return result
end

--- A case in words.
function contract.title(case)
  local words = {}
  for key, value in pairs(case[2]) do words[#words + 1] = key .. " = " .. tostring(value) end
  table.sort(words)
  return case[1] .. (#words > 0 and " { " .. table.concat(words, ", ") .. " }" or "")
end

-- --- the command ------------------------------------------------------------------------------------------------------------

local function run()
  local wanted, seed = {}, 1
  local i = 1
  while arg[i] do
    if arg[i] == "--seed" then
      seed = assert(math.tointeger(tonumber(arg[i + 1])), "--seed takes an integer")
      i = i + 1
    else
      wanted[#wanted + 1] = arg[i]
    end
    i = i + 1
  end
  local function is_wanted(name)
    for _, pattern in ipairs(wanted) do
      if name:match(pattern) then return true end
    end
    return #wanted == 0
  end
  local failed, total = 0, 0
  for _, case in ipairs(contract.cases()) do
    if is_wanted(case[1]) then
      local start = os.clock()
      local ok, result = pcall(contract.check, case, seed)
      local seconds = os.clock() - start
      total = total + seconds
      if ok then
        print(("%-70s %4d groups, %6d of %6d units go: %.1e  %6.2f s"):format(contract.title(case), result.groups, result.removed,
          result.units, result.worst, seconds))
      else
        failed = failed + 1
        print(("%-70s FAILED: %s"):format(contract.title(case), tostring(result)))
      end
      collectgarbage()
      collectgarbage()
    end
  end
  print(("%d failed; %.1f s of processor time"):format(failed, total))
  os.exit(failed == 0)
end

if arg and arg[0] and arg[0]:match "contract%.lua$" and not arg[0]:match "test_" then run() end

return contract
