-- Tab completion at the prompt: names, modules behind require, files in other strings.
local embedded = require "prune.embedded"
local terminal = require "prune.terminal"
local look = require "prune.look"

local M = {}

local keywords = {}
for word in ([[and break do else elseif end false for function goto if in local nil not or repeat return then true
  until while]]):gmatch "%a+" do
  keywords[#keywords + 1] = word
end

-- Candidates for the name at the end of `text`, and the part of it that is typed.
local function names_for(text)
  local rest, word = text:match "^(.-)([%a_]?[%w_]*)$"
  local chain, separator = rest:match "^(.-)%s*([.:])%s*$"
  local found = {}
  if chain and not chain:find "%.$" then
    local value = look.resolve(chain)
    if value == nil then return {}, word end
    for name in pairs(look.fields(value)) do
      local hidden = name:sub(1, 1) == "_" and word:sub(1, 1) ~= "_"
      if not hidden and (separator == "." or look.callable(look.get(value, name))) then found[#found + 1] = name end
    end
  elseif word ~= "" then
    for _, name in ipairs(keywords) do found[#found + 1] = name end
    for name in pairs(look.fields(_G)) do found[#found + 1] = name end
  end
  return found, word
end

local function files_for(text)
  local folder, word = text:match "^(.*/)([^/]*)$"
  if not folder then folder, word = "", text end
  local found = {}
  for _, name in ipairs(terminal.entries(folder == "" and "." or folder) or {}) do
    if name:sub(1, 1) ~= "." or word:sub(1, 1) == "." then found[#found + 1] = name end
  end
  return found, word
end

local function modules_for(word)
  local set = {}
  for _, name in ipairs(embedded.names()) do set[name] = true end
  for name in pairs(package.preload) do set[name] = true end
  for name in pairs(package.loaded) do set[name] = true end
  local head = word:match "^(.*%.)[^.]*$" or ""
  for prefix, suffix in package.path:gmatch "([^;?]*)%?([^;?]*)" do
    local folder = prefix .. head:gsub("%.", "/")
    for _, name in ipairs(terminal.entries(folder == "" and "." or folder) or {}) do
      if suffix == ".lua" and name:find "%.lua$" then set[head .. name:sub(1, -5)] = true end
      if suffix == "/init.lua" and name:find "/$" then
        local file = io.open(folder .. name .. "init.lua")
        if file then
          file:close()
          set[head .. name:sub(1, -2)] = true
        end
      end
    end
  end
  local found = {}
  for name in pairs(set) do found[#found + 1] = name end
  return found, word
end

-- The string that is open at the end of `text`: what stands before its quote, and what is typed of it.
local function open_string(text)
  local i, start, quote = 1, nil, nil
  while i <= #text do
    local c = text:sub(i, i)
    if quote then
      if c == "\\" then
        i = i + 1
      elseif c == quote then
        quote = nil
      end
    elseif c == '"' or c == "'" then
      quote, start = c, i
    end
    i = i + 1
  end
  if quote then return text:sub(1, start - 1), text:sub(start + 1), quote end
end

--- The names that could stand at the end of `text`, sorted, and the part of them that is typed already.
function M.candidates(text)
  local before, typed = open_string(text)
  local found, word
  if not before then
    found, word = names_for(text)
  elseif before:find "require%s*%(?%s*$" then
    found, word = modules_for(typed)
  else
    found, word = files_for(typed)
  end
  local result, seen = {}, {}
  for _, name in ipairs(found) do
    if name:sub(1, #word) == word and not seen[name] then
      seen[name] = true
      result[#result + 1] = name
    end
  end
  table.sort(result)
  return result, word
end

local function common_prefix(names)
  local prefix = names[1]
  for _, name in ipairs(names) do
    while name:sub(1, #prefix) ~= prefix do prefix = prefix:sub(1, -2) end
  end
  return prefix
end

local function listing(names)
  local most, wide = 120, 0
  for i = 1, math.min(#names, most) do wide = math.max(wide, #names[i] + 2) end
  local columns = math.max(1, (terminal.columns() - 1) // wide)
  local rows = -(-math.min(#names, most) // columns)
  local lines = {}
  for row = 1, rows do
    local cells = {}
    for i = row, math.min(#names, most), rows do cells[#cells + 1] = ("%-" .. wide .. "s"):format(names[i]) end
    lines[row] = table.concat(cells):gsub("%s+$", "")
  end
  if #names > most then lines[#lines + 1] = ("... %d more"):format(#names - most) end
  return table.concat(lines, "\n")
end

--- For the line editor: the text to insert, or the list to show. A tab at the start of a line indents.
function M.complete(text)
  if not text:find "%S" then return "  " end
  local names, word = M.candidates(text)
  if #names == 0 then return end
  local addition = common_prefix(names):sub(#word + 1)
  if #names == 1 then
    local _, _, quote = open_string(text)
    if quote and not names[1]:find "/$" then addition = addition .. quote end
  end
  if addition ~= "" then return addition end
  if #names > 1 then return nil, listing(names) end
end

return M
