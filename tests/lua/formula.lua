-- formula.lua - numbers that golden files were made at: every tensor's values follow from its name, so no file of weights is needed.
local prune = require "prune"

local formula = {}

--- CRC-32 of a text, zlib's.
function formula.crc32(text)
  local c = 0xFFFFFFFF
  for i = 1, #text do
    c = c ~ text:byte(i)
    for _ = 1, 8 do c = (c & 1 == 1) and (0xEDB88320 ~ (c >> 1)) or (c >> 1) end
  end
  return c ~ 0xFFFFFFFF
end

-- n numbers a u + b, u uniform in (0, 1): a hash of the position and the name.
local function numbers(name, n, a, b)
  local seed, out, mask = formula.crc32(name), {}, 0xFFFFFFFF
  for i = 0, n - 1 do
    local h = (i * 2654435761 + seed) & mask
    h = h ~ (h >> 15)
    h = (h * 2246822519) & mask
    h = h ~ (h >> 13)
    h = (h * 3266489917) & mask
    out[i + 1] = a * (((h ~ (h >> 16)) + 0.5) / 4294967296.0) + b
  end
  return out
end

local function count(sizes)
  local n = 1
  for _, size in ipairs(sizes) do n = n * size end
  return n
end

-- The factor and offset of u for a tensor of weights.
local function range(name, sizes)
  if #sizes > 1 then
    local bound = math.sqrt(3 / (count(sizes) // sizes[1]))
    return 2 * bound, -bound
  end
  if name:match "running_mean$" or name:match "bias$" then return 0.2, -0.1 end
  return 1, 0.5
end

--- Weights, running statistics: the mean square of an output is that of an input.
function formula.values(name, sizes) return prune.tensor(numbers(name, count(sizes), range(name, sizes))):reshape(sizes) end

--- Images of mean 0 and variance 1.
function formula.images(sizes) return prune.tensor(numbers("input", count(sizes), 2 * math.sqrt(3), -math.sqrt(3))):reshape(sizes) end

--- Fill a model.
function formula.fill(net)
  for name, p in net:named_parameters() do p:copy(formula.values(name, p:size())) end
  for name, b in net:named_buffers() do
    if name:match "running" then b:copy(formula.values(name, b:size())) end
  end
  return net
end

return formula
