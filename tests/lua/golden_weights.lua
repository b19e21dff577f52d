-- golden_weights.lua - the formula of the golden files: every model gets the same weights without a file, from the CRC-32 of their names.
local prune = require "prune"

local function crc32(text)
  local c = 0xFFFFFFFF
  for i = 1, #text do
    c = c ~ text:byte(i)
    for _ = 1, 8 do c = (c & 1 == 1) and (0xEDB88320 ~ (c >> 1)) or (c >> 1) end
  end
  return c ~ 0xFFFFFFFF
end

local M = {}

--- A tensor by its name.
function M.tensor(name, sizes)
  local n, seed, out, mask = 1, crc32(name), {}, 0xFFFFFFFF
  for _, s in ipairs(sizes) do n = n * s end
  local scale, shift, base = 1.0, 0.0, 0.5 -- value = scale (u - shift) + base
  if #sizes > 1 then
    scale, shift, base = 2 * math.sqrt(3 / (n // sizes[1])), 0.5, 0.0
  elseif name:match "running_mean$" or name:match "bias$" then
    scale, shift, base = 0.2, 0.5, 0.0
  end
  for i = 0, n - 1 do
    local h = (i * 2654435761 + seed) & mask
    h = h ~ (h >> 15)
    h = (h * 2246822519) & mask
    h = h ~ (h >> 13)
    h = (h * 3266489917) & mask
    h = h ~ (h >> 16)
    out[i + 1] = scale * ((h + 0.5) / 4294967296.0 - shift) + base
  end
  return prune.tensor(out):reshape(sizes)
end

--- Fill a model.
function M.fill(net)
  for name, p in net:named_parameters() do p:copy(M.tensor(name, p:size())) end
  for name, b in net:named_buffers() do b:copy(M.tensor(name, b:size())) end
  return net
end

return M
