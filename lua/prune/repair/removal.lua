-- removal.lua - repairs that go with a removal: worked out on a smaller copy before, put into the model after, so that a failure changes
-- nothing.
local core = require "prune.core"
local fold = require "prune.repair.fold"
local reconstruct = require "prune.repair.reconstruct"

local removal = {}

local function fold_text(line)
  local count = line.channels == 1 and "1 channel" or line.channels .. " channels"
  if line.reason then return ("not folded: %s of '%s': %s"):format(count, line.path, line.reason) end
  return ("folded: %s of '%s' into its %s%s"):format(count, line.path, line.into, line.exact and ", exactly" or "")
end

local function reconstruct_text(line)
  if line.reason then return ("not reconstructed: '%s': %s"):format(line.path, line.reason) end
  return ("reconstructed: '%s': error of its output %.3g%% -> %.3g%%"):format(line.path, 100 * math.sqrt(line.before),
    100 * math.sqrt(math.max(line.after, 0)))
end

--- Work out repairs.
-- @param traced graph, before the removal
-- @param units list of numbers: what is to go
-- @param options { fold = false, true or "interior"; reconstruct = nil, or from reconstruct.read }
-- @return function to call after the removal, with a function(tensor, value) that writes so that it can be taken back, or nil: it writes the new
-- values and returns a list of what was done, each with a text
function removal.prepare(traced, units, o)
  local small, report, changed = traced:copy(), {}, {}
  local tensors = {}
  for _, value in ipairs(small:tensors()) do tensors[value.name] = value.tensor end
  if o.fold then
    local deltas, lines = fold.plan(traced, units, { interior = o.fold == "interior" })
    for name, delta in pairs(deltas) do
      tensors[name]:copy(tensors[name]:to "f64" + delta)
      changed[name] = true
    end
    for _, line in ipairs(lines) do
      line.text = fold_text(line)
      report[#report + 1] = line
    end
  end
  local kept = o.reconstruct and traced:kept(units)
  small:remove_units(units)
  if kept then
    local names, lines = core.no_grad(reconstruct.fit, traced, small, kept, o.reconstruct)
    for _, name in ipairs(names) do changed[name] = true end
    for _, line in ipairs(lines) do
      line.text = reconstruct_text(line)
      report[#report + 1] = line
    end
  end
  return function(write)
    write = write or function(tensor, value) tensor:copy(value) end
    for _, value in ipairs(traced:tensors()) do
      if changed[value.name] then write(value.tensor, tensors[value.name]) end
    end
    return report
  end
end

return removal
