-- grouping.lua - which groups of a model take part in a selection, and which of them are ranked together.
local core = require "prune.core"
local Module = require "prune.nn.module"
local util = require "prune.util"

local grouping = {}

--- The kinds of units that there are, as group.kind tells them.
grouping.kinds = { "channel", "copy", "group", "head", "head_dim", "inner", "kv_head", "outer", "position" }

-- --- what users name ------------------------------------------------------------------------------------------------

local function names_of(traced)
  local names = {}
  for _, value in ipairs(traced:tensors()) do
    if value.kind ~= "constant" then names[#names + 1] = value.name end
  end
  return names
end

-- Names of parameters and of the modules that they are in.
local function with_paths(names)
  local all, seen = table.move(names, 1, #names, 1, {}), {}
  for _, name in ipairs(names) do
    local path = name:match "^(.*)%."
    if path and not seen[path] then all[#all + 1], seen[path] = path, true end
  end
  return all
end

local function by_pattern(where, pattern, names)
  local found = false
  for _, name in ipairs(names) do
    local ok, at = pcall(string.find, name, pattern)
    if not ok then error(("%s: '%s' is not a pattern: %s"):format(where, pattern, at), 0) end
    found = found or at ~= nil
  end
  if not found then
    local near = core.nearest(pattern:gsub("[%^%$%%]", ""), with_paths(names))
    error(("%s: '%s' fits no parameter of the model%s"):format(where, pattern, near and ("; did you mean '" .. near .. "'?") or ""), 0)
  end
  return function(part) return part.name:find(pattern) ~= nil end
end

local function by_module(where, net, module)
  local own, tensors = false, {}
  for _, one in net:named_modules() do own = own or one == module end
  if not own then error(("%s: a %s is named that is not part of the model"):format(where, module._type), 0) end
  for _, p in module:named_parameters() do tensors[p] = true end
  for _, b in module:named_buffers() do tensors[b] = true end
  if next(tensors) == nil then error(("%s: the %s that is named has no parameters"):format(where, module._type), 0) end
  return function(part) return tensors[part.parameter] == true end
end

local function by_parameter(where, traced, parameter)
  for _, value in ipairs(traced:tensors()) do
    if value.tensor == parameter then return function(part) return part.parameter == parameter end end
  end
  error(("%s: a parameter is named that the model does not have"):format(where), 0)
end

-- A pattern, parameter or module as a function(part) -> boolean.
local function matcher(where, net, traced, what)
  if type(what) == "string" then return by_pattern(where, what, names_of(traced)) end
  if Module.is_module(what) then return by_module(where, net, what) end
  if core.is_tensor(what) then return by_parameter(where, traced, what) end
  error(("%s: a name pattern, a parameter or a module is needed, got %s"):format(where, type(what)), 0)
end

-- --- ignored --------------------------------------------------------------------------------------------------------

local sides = { "in", "out", "both" }

local function read_side(where, entry)
  for key in pairs(entry) do
    if key ~= 1 and key ~= "side" then
      error(("%s: an entry is { pattern, side = }; there is no field '%s'"):format(where, tostring(key)), 0)
    end
  end
  local side = entry.side == nil and "out" or entry.side
  if side == "in" or side == "out" or side == "both" then return side end
  local near = core.nearest(tostring(side), sides)
  error(('%s: side is "in", "out" or "both", got %s%s'):format(where, tostring(side), near and ("; did you mean '" .. near .. "'?") or ""), 0)
end

-- A parameter's axis is an output side where it makes units or carries them along, an input side where it takes them in.
local function on_side(part, side)
  local out, into = part.producer or not part.consumer, part.consumer
  return side == "both" or (side == "out" and out) or (side == "in" and into)
end

local function read_ignored(where, net, traced, list)
  if list == nil then return {} end
  where = where .. ": ignore"
  if type(list) ~= "table" or Module.is_module(list) then
    error(("%s is a list of name patterns, parameters, modules or { one of these, side = }, got %s"):format(where, type(list)), 0)
  end
  for key in pairs(list) do
    if math.type(key) ~= "integer" then
      error(('%s is a list, got field \'%s\'; a side stands with its entry: { { "conv1", side = "in" } }'):format(where, tostring(key)), 0)
    end
  end
  local ignored = {}
  for i, entry in ipairs(list) do
    local plain = type(entry) == "table" and not Module.is_module(entry)
    ignored[i] = { fits = matcher(where, net, traced, plain and entry[1] or not plain and entry or nil),
      side = plain and read_side(where, entry) or "out" }
  end
  return ignored
end

local function is_ignored(entry, ignored)
  for _, part in ipairs(entry.parts) do
    for _, one in ipairs(ignored) do
      if on_side(part, one.side) and one.fits(part) then return true end
    end
  end
  return false
end

-- --- kinds ----------------------------------------------------------------------------------------------------------

local function check_kind(where, kind)
  for _, known in ipairs(grouping.kinds) do
    if kind == known then return end
  end
  local near = core.nearest(tostring(kind), grouping.kinds)
  error(("%s: there is no kind '%s' of units%s"):format(where, tostring(kind), near and ("; did you mean '" .. near .. "'?")
    or " (there are: " .. table.concat(grouping.kinds, ", ") .. ")"), 0)
end

local function check_kind_value(where, name, value)
  if type(value) == "boolean" or type(value) == "number" and value >= 0 and value <= 1 then return end
  error(("%s: %s is true, false or a ratio in 0..1, got %s"):format(where, name, tostring(value)), 0)
end

--- Read options kinds, heads and head_dims.
-- @param where the caller's name, for messages
-- @param o options
-- @return table kind -> true, false or ratio; only (boolean): no other kind takes part
function grouping.read_kinds(where, o)
  local kinds, only = {}, false
  if o.kinds ~= nil then
    if type(o.kinds) ~= "table" then error(("%s: kinds is a list of kinds of units or a table by kind, got %s"):format(where,
      type(o.kinds)), 0) end
    only = o.kinds[1] ~= nil
    for key, value in pairs(o.kinds) do
      local kind = only and value or key
      check_kind(where, kind)
      if not only then check_kind_value(where, "kinds." .. kind, value) end
      kinds[kind] = only or value
    end
  end
  for name, covered in util.sorted { heads = { "head", "kv_head" }, head_dims = { "head_dim" } } do
    if o[name] ~= nil then
      check_kind_value(where, name, o[name])
      for _, kind in ipairs(covered) do kinds[kind] = o[name] end
    end
  end
  return kinds, only
end

-- A kind that is asked for and that no group has is a slip.
local function check_found(where, kinds, found, o)
  for kind, value in util.sorted(kinds) do
    local named = kind == "kv_head" and o.heads ~= nil or kind == "head" and o.heads ~= nil and found.kv_head
    if value and not found[kind] and not named then
      error(("%s: the model has no units of kind '%s', only %s"):format(where, kind, table.concat(util.keys(found), ", ")), 0)
    end
  end
end

-- --- groups ---------------------------------------------------------------------------------------------------------

-- The part that names a group: the first that makes its units.
local function naming_part(parts)
  for _, part in ipairs(parts) do
    if part.producer then return part end
  end
  return parts[1]
end

local function describe(group)
  local parts = group:describe_parts()
  local first = naming_part(parts)
  return { group = group, parts = parts, name = first.name, dim = first.dim, shape = first.parameter:size(), kind = group:kind(),
    count = group:count() }
end

--- A name that stays the same over removals: parameter, axis and kind, and where groups are by members those.
-- @param entry from grouping.collect
-- @return string
function grouping.key(entry)
  local words = { ("%s/%d/%s"):format(entry.name, entry.dim, entry.kind) }
  for i, part in ipairs(entry.by_members and entry.parts or {}) do words[i + 1] = ("%s/%d"):format(part.name, part.dim) end
  return table.concat(words, " ")
end

--- The groups that take part, in the order of the model's parameters.
-- @param where the caller's name, for messages
-- @param net a module
-- @param traced its graph
-- @param o options ignore, kinds, heads, head_dims, group_by
-- @return list of { group =, parts =, name =, dim =, shape = (of the parameter), kind =, count =, ratio = (of its kind, or nil) }
function grouping.collect(where, net, traced, o)
  local ignored = read_ignored(where, net, traced, o.ignore)
  local kinds, only = grouping.read_kinds(where, o)
  local by_members = o.group_by == "members"
  local groups, primary = traced:scopes(by_members)
  local entries, found = {}, {}
  for i, group in ipairs(groups) do
    local kind = group:kind()
    local wanted = kinds[kind]
    found[kind] = true
    if wanted == nil then wanted = primary[i] and not only end
    if wanted then
      local entry = describe(group)
      entry.by_members = by_members
      entry.ratio = type(wanted) == "number" and wanted or nil
      if not is_ignored(entry, ignored) then entries[#entries + 1] = entry end
    end
  end
  check_found(where, kinds, found, o)
  if #entries == 0 then
    error(("%s: the model has no group whose units can go (graph:notes() tells what is pinned)"):format(where), 0)
  end
  return entries
end

-- --- pools ----------------------------------------------------------------------------------------------------------

-- What a group is made of: classes of layers, axes, and which side of each. Equal for groups of equal structure.
local function signature(entry, types)
  local words = {}
  for i, part in ipairs(entry.parts) do
    local path, field = part.name:match "^(.*)%.([^.]+)$"
    words[i] = ("%s.%s/%d%s%s"):format(types[path or ""] or "", field or part.name, part.dim, part.producer and "o" or "",
      part.consumer and "i" or "")
  end
  table.sort(words)
  return entry.kind .. " " .. table.concat(words, " ")
end

local function isomorphic(traced)
  local types = {}
  for _, module in ipairs(traced:modules()) do types[module[1]] = module[2] end
  return function(entry) return signature(entry, types) end
end

local function fits_any(entry, matchers)
  for _, part in ipairs(entry.parts) do
    for _, fits in ipairs(matchers) do
      if on_side(part, "out") and fits(part) then return true end
    end
  end
  return false
end

-- Scopes that the user names: { name = list of patterns, parameters or modules }.
local function named(where, net, traced, scopes, entries)
  local matchers, used = {}, {}
  for name, list in util.sorted(scopes) do
    if type(name) ~= "string" or type(list) ~= "table" or Module.is_module(list) or #list == 0 then
      error(("%s: scope %s must be a list of name patterns, parameters or modules"):format(where, tostring(name)), 0)
    end
    matchers[name] = {}
    for i, what in ipairs(list) do matchers[name][i] = matcher(where .. ": scope " .. name, net, traced, what) end
  end
  local of = {}
  for _, entry in ipairs(entries) do
    for name, list in util.sorted(matchers) do
      if fits_any(entry, list) then
        if of[entry] then error(("%s: the group of %s is in scopes %s and %s"):format(where, entry.name, of[entry], name), 0) end
        of[entry], used[name] = name, true
      end
    end
  end
  for name in util.sorted(matchers) do
    if not used[name] then error(("%s: scope %s has no group whose units can go"):format(where, name), 0) end
  end
  return function(entry) return of[entry] end
end

local function checked(where, scope)
  return function(entry)
    local name = scope(entry)
    if name == nil or type(name) == "string" then return name end
    error(("%s: scope must give a name or nil for the group of %s, got %s"):format(where, entry.name, type(name)), 0)
  end
end

local words = { "local", "global", "isomorphic" }

--- Set entry.pool: groups of the same number are ranked together.
-- @param where the caller's name, for messages
-- @param net a module
-- @param traced its graph
-- @param entries from grouping.collect
-- @param scope "local", "global", "isomorphic" (groups of equal structure: Fang et al., "Isomorphic Pruning for Vision Models", ECCV 2024), a
-- table of lists of patterns, parameters or modules by name, or a function(entry) -> name or nil. Groups without a name stand alone.
function grouping.set_pools(where, net, traced, entries, scope)
  local name_of
  if scope == "local" then name_of = function() end
  elseif scope == "global" then name_of = function() return "all" end
  elseif scope == "isomorphic" then name_of = isomorphic(traced)
  elseif type(scope) == "table" then name_of = named(where, net, traced, scope, entries)
  elseif type(scope) == "function" then name_of = checked(where, scope)
  else
    local near = core.nearest(tostring(scope), words)
    error(('%s: scope is "local", "global", "isomorphic", a table of lists by name or a function, got %s%s'):format(where,
      tostring(scope), near and ("; did you mean '" .. near .. "'?") or ""), 0)
  end
  local numbers, pools = {}, 0
  for _, entry in ipairs(entries) do
    local name = name_of(entry)
    if name == nil or not numbers[name] then pools = pools + 1 end
    if name ~= nil then numbers[name] = numbers[name] or pools end
    entry.pool = name ~= nil and numbers[name] or pools
  end
end

return grouping
