-- The `---` comments of prunelua's own Lua modules: help's texts, and where they belong.
--
-- A block begins with a line of three dashes and goes on over the comment lines below it. It describes the definition on the next line
-- (`function M.name(a, b)`, `M.name = ...`, `local Name = ...`). Where an empty line follows, it stands for itself, and its first
-- line is the signature: `--- tensor:size(dim) -> integer` describes a C function.
local embedded = require "prune.embedded"

local M = {}

local function definition(line)
  local name, arguments = line:match "^%s*local%s+function%s+([%w_]+)%s*(%b())"
  if not name then name, arguments = line:match "^%s*function%s+([%w_.:]+)%s*(%b())" end
  if not name then name, arguments = line:match "^%s*([%w_.]+)%s*=%s*function%s*(%b())" end
  if not name then arguments = line:match "^%s*return%s+function%s*(%b())" end
  if not name then name = line:match "^%s*local%s+([%w_]+)%s*=" end
  if not name then name = line:match "^%s*([%w_.]+)%s*=" end
  if not name then name = line:match "^%s*[%w_.]+%[\"([%w_]+)\"%]%s*=" end
  return name, arguments
end

local function lines_of(source)
  local lines = {}
  for line in (source .. "\n"):gmatch "(.-)\r?\n" do lines[#lines + 1] = line end
  return lines
end

-- Comment text from line i on: its lines without dashes, and the line after it.
local function comment(lines, i, pattern)
  local texts = {}
  while lines[i] and lines[i]:find(pattern) do
    texts[#texts + 1] = lines[i]:gsub("^%s*%-%-%-?%-? ?", ""):gsub("%s+$", "")
    i = i + 1
  end
  return texts, i
end

--- The documentation in one source text: its entries, and the comment at its head.
-- An entry has text (a list of lines), module, chunk, line, name (last part), owner (what stands before it) and arguments; `free` marks a
-- block that stands for itself.
function M.parse(source, module, chunk)
  local lines, found = lines_of(source), {}
  local head = comment(lines, 1, "^%-%-")
  local i = 1
  while lines[i] do
    if lines[i]:find "^%s*%-%-%-[^-]" or lines[i]:find "^%s*%-%-%-$" then
      local entry = { module = module, chunk = chunk }
      entry.text, i = comment(lines, i, "^%s*%-%-")
      local name, arguments = definition(lines[i] or "")
      if not name and not arguments then
        name, arguments = entry.text[1]:match "^([%w_.:]+)%s*(%b())"
        entry.free, entry.signature = true, table.remove(entry.text, 1)
      end
      entry.line, entry.arguments = i, arguments
      entry.owner, entry.name = (name or module):match "^(.-)[.:]?([%w_]+)$"
      found[#found + 1] = entry
    else
      i = i + 1
    end
  end
  return found, head
end

local function source_of(name)
  local text, chunk = embedded.source(name)
  if text or not chunk then return text, chunk end
  local file <close> = assert(io.open(chunk:sub(2)))
  return file:read "a", chunk
end

--- All entries: by_line["@prune/x.lua:12"], by_name.name (a list), and heads[module] (lines).
function M.load()
  if M.index then return M.index end
  local index = { by_line = {}, by_name = {}, heads = {} }
  for _, module in ipairs(embedded.names()) do
    local source, chunk = source_of(module)
    local found, head = M.parse(source, module, chunk)
    index.heads[module] = head
    for _, entry in ipairs(found) do
      index.by_line[chunk .. ":" .. entry.line] = entry
      local same = index.by_name[entry.name] or {}
      index.by_name[entry.name] = same
      same[#same + 1] = entry
    end
  end
  M.index = index
  return index
end

return M
