-- The `---` comments of prunelua's own Lua modules: help's texts, and where they belong.
--
-- A block begins with a line of three dashes and goes on over the comment lines below it. It describes the definition on the next line
-- (`function M.name(a, b)`, `M.name = ...`, `local Name = ...`). Where an empty line follows, it stands for itself, and its first
-- line is the signature: `--- tensor:size(dim) -> integer` describes a C function. Understood tags: @param, @tparam, @return, @treturn,
-- @usage.
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
  local head, i = comment(lines, 1, "^%-%-")
  while lines[i] do
    if lines[i]:find "^%s*%-%-%-[^-]" or lines[i]:find "^%s*%-%-%-$" then
      local entry = { module = module, chunk = chunk }
      entry.text, i = comment(lines, i, "^%s*%-%-")
      local name, arguments = definition(lines[i] or "")
      if not name and not arguments then
        name, arguments = entry.text[1]:match "^([%w_.:]+)%s*(%b())"
        entry.free, entry.signature = true, table.remove(entry.text, 1)
      end
      entry.line, entry.arguments, entry.assigned = i, arguments, name ~= nil and arguments == nil
      entry.owner, entry.name = (name or module):match "^(.-)[.:]?([%w_]+)$"
      found[#found + 1] = entry
    else
      i = i + 1
    end
  end
  return found, head
end

-- The text before the first tag, and the tags as a list of { name, text }.
local function split(lines)
  local text, tags = {}, {}
  -- a tag may follow on the same line
  local all = table.concat(lines, "\n"):gsub("%s(@t?param )", "\n%1"):gsub("%s(@t?return )", "\n%1") .. "\n"
  for line in all:gmatch "(.-)\n" do
    local tag, rest = line:match "^@(%S+)%s*(.*)$"
    if tag then
      tags[#tags + 1] = { tag, rest }
    elseif #tags > 0 then
      tags[#tags][2] = tags[#tags][2] .. "\n" .. line
    else
      text[#text + 1] = line
    end
  end
  return text, tags
end

-- A tag as a line to show, and the names of the parameters it describes.
local function show_tag(tag, text)
  local typed, option = tag:match "^(t?)param(.*)$"
  if typed then
    local kind, rest = nil, text
    if typed == "t" then kind, rest = text:match "^(%S+)%s*(.*)$" end
    local names, about = (rest or ""):match "^([%w_.]+)%s*(.*)$"
    while names and about:find "^,%s*[%w_.]+" do
      local more, tail = about:match "^,%s*([%w_.]+)%s*(.*)$"
      names, about = names .. ", " .. more, tail
    end
    local words = {}
    if kind then words[1] = kind end
    if option == "[opt]" then words[#words + 1] = "optional" end
    local default = option:match "^%[opt=(.*)%]$"
    if default then words[#words + 1] = default .. " unless given" end
    local head = "  " .. (names or text) .. (#words > 0 and " (" .. table.concat(words, ", ") .. ")" or "")
    return head .. (names and about ~= "" and ": " .. about or ""), names and (option ~= "" and "[" .. names .. "]" or names)
  end
  if tag:find "^t?return" then return "  returns " .. text end
  if tag == "usage" then return "    " .. text:gsub("\n", "\n    ") end
  return "  " .. tag .. " " .. text
end

-- The number of arguments in "(a, [b], ...)".
local function words(arguments) return select(2, arguments:gsub("[%w_.]+", "")) end

--- An entry as text for the user, with `title` (a path) before its arguments.
function M.render(entry, title)
  local text, tags = split(entry.text)
  local names = {}
  for _, tag in ipairs(tags) do
    local line, name = show_tag(tag[1], tag[2])
    text[#text + 1] = line
    names[#names + 1] = name
  end
  local described = #names > 0 and "(" .. table.concat(names, ", ") .. ")"
  local arguments = entry.arguments or described or ""
  if described and words(described) == words(arguments) then arguments = described end -- these say what is optional
  return (entry.signature or title .. arguments) .. "\n  " .. table.concat(text, "\n"):gsub("\n", "\n  ")
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
