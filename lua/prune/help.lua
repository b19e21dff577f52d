-- help(x): what a function, a class or a module is for. The texts are the comments of the sources, and those of the operators.
local docs = require "prune.docs"
local embedded = require "prune.embedded"
local look = require "prune.look"
local util = require "prune.util"

local M = {}
local registered = setmetatable({}, { __mode = "k" })

--- Give a value a help text of its own.
function M.register(value, text)
  registered[value] = text
  return value
end

-- Public children of a table by name: its fields, what its metatable lists in __fields (modules loaded on first use), and for a
-- module its sub-modules.
local function children(value, path)
  local found = {}
  for name, child in next, value do
    if type(name) == "string" and name:find "^%a" then found[name] = child end
  end
  local function try(name)
    local ok, child = pcall(function() return value[name] end)
    if ok then found[name] = child end
  end
  local meta = getmetatable(value)
  for name in next, type(meta) == "table" and rawget(meta, "__fields") or {} do try(name) end
  for _, module in ipairs(embedded.names()) do
    local name = module:match("^" .. path:gsub("%p", "%%%0") .. "%.([%w_]+)$")
    if name then try(name) end
  end
  return found
end

local function core()
  local ok, module = pcall(require, "prune.core")
  return ok and module or {}
end

-- Objects that functions give: the word that stands for one in paths ("group.remove"), and the table of its methods.
local function kinds()
  local found = { { path = "tensor", value = core().methods } }
  for _, kind in ipairs {
    "data.Data",
    "optim.Optimizer",
    "graph.Graph",
    "graph.Group",
    "graph.Part",
    "plan.Plan",
    "plan.Entry",
    "pruner.Pruner",
    "depth.DepthPlan",
    "lottery.Ticket",
    "regularizer.Regularizer",
    "sensitivity.Sensitivity",
    "sparse.Sparse",
  } do
    local module, class = kind:match "^(.+)%.(.+)$"
    local ok, owner = pcall(require, "prune." .. module)
    found[#found + 1] = ok and { path = class:lower(), value = owner["_" .. class] } or nil
  end
  return found
end

--- What can be reached from `prune` and from the objects that it makes: a list of { path =, value =, parent = } of functions and tables, each
-- once, by its shortest path.
function M.walk()
  local ok, prune = pcall(require, "prune")
  if not ok then return {} end
  local queue, seen = { { path = "prune", value = prune } }, { [prune] = true }
  for _, kind in ipairs(kinds()) do
    queue[#queue + 1] = kind
    seen[kind.value] = true
  end
  for _, item in ipairs(queue) do
    local depth = select(2, item.path:gsub("%.", ""))
    if type(item.value) == "table" and depth < 4 then
      for name, child in util.sorted(children(item.value, item.path)) do
        if (type(child) == "function" or type(child) == "table") and not seen[child] then
          seen[child] = true
          queue[#queue + 1] = { path = item.path .. "." .. name, value = child, parent = item.value }
        end
      end
    end
  end
  return queue
end

-- Of the entries for a name, the one whose module and owner are nearest to the path, if it can describe this value: a function of Lua is
-- described where it stands, or where it is assigned.
local function by_name(value, path)
  local owner, name = path:match "^(.-)%.?([%w_]+)$"
  local chunk = type(value) == "function" and debug.getinfo(value, "S").source
  local best, most
  for _, entry in ipairs(docs.load().by_name[name] or {}) do
    local place, score = ("." .. entry.module .. "." .. entry.owner .. "."):lower():gsub(":", "."), 0
    for part in owner:gmatch "[%w_]+" do
      if place:find("." .. part:lower() .. ".", 1, true) then score = score + 1 end
    end
    local fits = entry.free or entry.assigned or type(value) == "table" or entry.chunk == chunk
    if fits and score > (most or 0) then best, most = entry, score end
  end
  return best
end

-- The comment at the head of the module that a table is, as lines; or nil.
local function head(value)
  for name, module in pairs(package.loaded) do
    local lines = rawequal(module, value) and docs.load().heads[name]
    if lines and #lines > 0 then return lines end
  end
end

-- A method that a class defines anew has the text of the method it stands for.
local function inherited(path, parent)
  local name = path:match "[%w_]+$"
  local meta = parent and getmetatable(parent)
  local base = type(meta) == "table" and rawget(meta, "__index")
  local method = type(base) == "table" and rawget(base, name)
  return method and M.text(method, path, base)
end

-- A criterion or regularizer of the core that Lua says nothing of: its descriptor's words.
local function described(path)
  local kind, name = path:match "^prune%.(%a+)%.([%w_]+)$"
  local list = kind == "criterion" and core().criteria or kind == "regularizer" and core().regularizers
  for _, item in ipairs(list and list() or {}) do
    if item.name == name then
      local lines = { path .. (#item.options > 0 and "(options)" or "()"), item.help }
      for _, option in ipairs(item.options) do
        lines[#lines + 1] = ("  %s (%s): %s"):format(option.name, option.choices or option.kind or "", option.help or "")
      end
      return table.concat(lines, "\n  ")
    end
  end
end

--- The help text of a value, or nil: a title line and the description. `path` is where it was found ("prune.nn.Conv2d"), `parent`
-- the table that it was found in.
function M.text(value, path, parent)
  if registered[value] then return registered[value] end
  local name = path and path:match "[%w_]+$"
  local ops = core().ops
  if name and ops and ops[name] == value then return core().op_help(name) end
  local entry
  local meta = debug.getmetatable(value)
  local code = type(value) == "table" and type(meta) == "table" and rawget(meta, "__call") or value
  if type(code) == "function" then
    local info = debug.getinfo(code, "S")
    entry = docs.load().by_line[info.source .. ":" .. info.linedefined]
  end
  local lines = path and head(value)
  -- A module that cannot be called is described at its head, not by a function of the same name elsewhere.
  if not (lines and type(code) == "table") then entry = entry or (path and by_name(value, path)) end
  if entry then
    if code ~= value and entry.arguments then -- __call gets the table itself first
      entry = setmetatable({ arguments = entry.arguments:gsub("^%([%w_]+,?%s*", "(") }, { __index = entry })
    end
    return docs.render(entry, path or (entry.owner ~= "" and entry.owner .. "." or "") .. entry.name)
  end
  if lines then return path .. "\n  " .. table.concat(lines, "\n  "):gsub("^[%w_.]+ %- ", "") end
  return path and (described(path) or inherited(path, parent))
end

-- What stands before the first full stop, or before the first line that is set off as code or has a tag; for an operator its first
-- line.
local function first_sentence(text)
  local operator = text:match "^[^\n]*\n(%S[^\n]*)"
  if operator then return operator end
  local flat = text:gsub("^[^\n]*\n%s*", "", 1):gsub("\n   .*", ""):gsub("%s*\n%s*", " "):gsub("^[%w_.]+ %- ", "")
  return (flat:match "^(.-)%.%s+%u" or flat):gsub("[.:]$", "")
end

--- Paths of the public functions and classes reachable from `prune` that have no help text.
function M.missing()
  local paths = {}
  for _, item in ipairs(M.walk()) do
    if look.callable(item.value) and not M.text(item.value, item.path, item.parent) then paths[#paths + 1] = item.path end
  end
  return paths
end

local function line(name, text)
  local summary = first_sentence(text)
  if #summary > 74 then summary = summary:sub(1, 72):gsub("[%s,:;(]+%S*$", "") .. " ..." end
  return ("  %-23s %s"):format(name, summary)
end

local function overview()
  local lines = { "prunelua: train, prune and deploy neural networks from Lua.", "" }
  lines[#lines + 1] = "help(x), ?x      what x is: a function, a class, a module, a value"
  lines[#lines + 1] = 'help "word"      search the texts, names first'
  lines[#lines + 1] = "Tab completes names, module names and files. Ctrl-C stops what runs, Ctrl-D leaves."
  lines[#lines + 1] = "A trailing ; hides a result; _ is the last one."
  lines[#lines + 1] = ""
  lines[#lines + 1] = "Modules:"
  local functions, objects = {}, {}
  local makers = require "prune.tensor"
  for _, item in ipairs(M.walk()) do
    local text, name = item.path ~= "prune" and head(item.value), item.path:match "^prune%.(%w[%w_]*)$"
    if text then
      lines[#lines + 1] = line(item.path, "\n  " .. table.concat(text, "\n  "))
    elseif name and not makers[name] then
      functions[#functions + 1] = line(item.path, M.text(item.value, item.path, item.parent) or "")
    elseif not item.parent and item.path ~= "prune" then
      objects[#objects + 1] = item.path
    end
  end
  lines[#lines + 1] = "\nFunctions (help(prune) also lists those that make tensors):"
  table.move(functions, 1, #functions, #lines + 1, lines)
  lines[#lines + 1] = '\nObjects that these make, for their methods (help "plan"):'
  lines[#lines + 1] = "  " .. table.concat(objects, " ")
  return table.concat(lines, "\n")
end

-- The public functions and modules in a table, one line for each.
local function contents(path, value)
  local lines = {}
  for name, child in util.sorted(children(value, path)) do
    local inner = path .. "." .. name
    if look.callable(child) or head(child) then lines[#lines + 1] = line(name, M.text(child, inner, value) or "") end
  end
  return table.concat(lines, "\n")
end

-- Where the methods are that a class has from another.
local function heritage(class)
  local meta = getmetatable(class)
  local base = type(meta) == "table" and rawget(meta, "__index")
  for _, item in ipairs(type(base) == "table" and M.walk() or {}) do
    if rawequal(item.value, base) then return "\n  and the methods of " .. item.path end
  end
  return ""
end

local function describe(value)
  if core().is_tensor and core().is_tensor(value) then return contents("tensor", core().methods) end
  local meta = debug.getmetatable(value)
  local class = type(meta) == "table" and (rawget(meta, "__methods") or rawget(meta, "__index"))
  for _, item in ipairs(M.walk()) do
    if rawequal(item.value, value) or rawequal(item.value, class) or rawequal(item.value, meta) then
      local text = M.text(item.value, item.path, item.parent)
      if type(item.value) ~= "table" then return text end
      return (text or item.path) .. "\n\n" .. contents(item.path, item.value) .. heritage(item.value)
    end
  end
  return M.text(value)
end

local function search(word)
  local exact, hits, names, object = {}, {}, {}, nil
  for _, item in ipairs(M.walk()) do
    names[#names + 1] = item.path:match "[%w_]+$"
    local text = M.text(item.value, item.path, item.parent)
    if item.path == word and not item.parent then
      object = item.path .. "\n" .. contents(item.path, item.value)
    elseif text then
      if item.path == word or item.path:match "[%w_]+$" == word then exact[#exact + 1] = text end
      if (item.path .. "\n" .. text):lower():find(word:lower(), 1, true) then hits[#hits + 1] = line(item.path, text) end
    end
  end
  exact[#exact + 1] = object
  if #exact > 0 then return table.concat(exact, "\n\n") end
  if #hits > 0 then return table.concat(hits, "\n") end
  local near = core().nearest(word, names)
  return ("nothing about '%s'; %shelp() gives an overview"):format(word, near and ("did you mean '%s'? "):format(near) or "")
end

--- Show help: on a value, on a word (a search), or with no argument an overview.
function M.show(...)
  local value = ...
  local text
  if select("#", ...) == 0 then
    text = overview()
  elseif type(value) == "string" then
    text = search(value)
  else
    text = describe(value) or ("no help on this %s"):format(type(value))
  end
  print(text)
end

--- Help on what was typed behind a question mark: a name that has a value, else words to search for.
function M.topic(text)
  if text == "" then return M.show() end
  local value = look.resolve(text)
  if value == nil then return M.show(text) end
  M.show(value)
end

return setmetatable(M, {
  __call = function(_, ...) return M.show(...) end,
  __tostring = function() return "type help() for help, help(x) for help about x" end,
})
