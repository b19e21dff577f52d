-- What must be removed together, and the sizes after uniform pruning, in eight networks: equal to Torch-Pruning's. Three of the golden files
-- are always here, the others in ../shared.
local T = require "testing"
local prune = require "prune"

local own = os.getenv "PRUNELUA_SOURCE" .. "/tests/golden/groups/"
local networks = { resnet18 = own, vgg16_bn = own, squeezenet1_1 = own, densenet121 = false, efficientnet_b0 = false, googlenet = false,
  mobilenet_v2 = false, resnet50 = false }

local function join(list) return table.concat(list, ",") end

-- Members of the group of one position: "name/axis" -> positions.
local function members(graph, root)
  local found = {}
  for part in graph:group(root[1], root[2], { root[3] }):parts() do
    local indices = table.move(part.indices, 1, #part.indices, 1, {})
    table.sort(indices)
    found[part.name .. "/" .. part.dim] = join(indices)
  end
  return found
end

-- Every member as listed; the reference lists no biases and running statistics.
local function check_group(graph, group)
  local got, wanted = members(graph, group.root), {}
  for _, m in ipairs(group.members) do
    wanted[m[1] .. "/" .. m[2]] = true
    T.equal(got[m[1] .. "/" .. m[2]], join(m[3]), group.root[1] .. " takes " .. m[1])
  end
  for key in pairs(got) do assert(wanted[key] or not key:match "%.weight/", group.root[1] .. " takes too much: " .. key) end
end

-- Counts do not depend on the scores.
local function check_uniform(net, shape, uniform)
  local plan = prune.structured(net, shape, { criterion = prune.criterion.random(), ratio = uniform.ratio, round_to = uniform.round_to })
  local what = ("at %g, round_to %s"):format(uniform.ratio, uniform.round_to)
  T.equal(plan.params, uniform.params, "parameters " .. what)
  plan:apply()
  for name, p in net:named_parameters() do
    if uniform.shapes[name] then T.equal(join(p:size()), join(uniform.shapes[name]), name .. " " .. what) end
  end
end

for arch, folder in prune.sorted(networks) do
  local shared = "golden/groups/" .. arch .. ".lua"
  local path = folder and folder .. arch .. ".lua" or T.has_shared(shared) and T.shared(shared)
  if path then
    T.test("groups and uniform sizes of " .. arch .. " are Torch-Pruning's", function()
      local gold, shape = dofile(path), { 3, 224, 224 }
      local function make() return prune.nn.init.skip(prune.models[arch]) end
      local graph = prune.graph(make(), shape)
      assert(#gold.groups > 0 and #gold.uniform > 0)
      for _, group in ipairs(gold.groups) do check_group(graph, group) end
      for _, uniform in ipairs(gold.uniform) do check_uniform(make(), shape, uniform) end
    end)
  else
    print("left out: " .. shared .. " is not there")
  end
end

T.done()
