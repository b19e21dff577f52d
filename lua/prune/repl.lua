-- The prompt: reads a chunk, runs it so that Ctrl-C stops it, shows what it returns.
local interrupt = require "prune.interrupt"
local terminal = require "prune.terminal"

local M = {}

-- Lua blames the end of the text when more is needed; for a quoted string too, which cannot go on over the line.
local function incomplete(message) return message:find "<eof>$" ~= nil and not message:find "unfinished string near" end

--- Compile what was typed: as an expression if it is one (a leading = is allowed, a trailing ; asks for silence), else as
-- statements. Returns the function and whether to be silent; or nil, the message, and whether more lines could complete it.
function M.compile(source)
  local text = source:gsub("^%s*=", "", 1)
  local body, silent = text:gsub(";%s*$", "")
  -- With a variable that is to be closed, the call is no tail call: it stays on the stack, and errors have the prompt's line. Its name must
  -- hide none of the user's.
  local expression, why = load("local __to_close <close> = nil return " .. body, "=stdin", "t")
  if expression then return expression, silent > 0 end
  local statement, message = load(source, "=stdin", "t")
  if statement then return statement, false end
  return nil, message, incomplete(why) or incomplete(message)
end

-- The traceback below the chunk is the prompt's own.
local function print_error(message)
  message = tostring(message):gsub("\n\t%[C%]: in function 'prune%.interrupt%.call'.*", "")
  io.stdout:flush()
  if message:find("interrupted", 1, true) and terminal.is_terminal "stderr" then
    io.stderr:write "\n" -- the cursor stands behind the echoed ^C or a progress bar
  end
  io.stderr:write(message, "\n")
  io.stderr:flush()
end

local function display(values)
  local pretty = require "prune.pretty"
  local texts, tall = {}, false
  for i = 1, values.n do
    local value = values[i]
    texts[i] = type(value) == "string" and value or pretty.format(value, { width = terminal.columns() - 1 })
    tall = tall or texts[i]:find("\n", 1, true)
  end
  io.stdout:write(table.concat(texts, tall and "\n" or "\t"), "\n")
end

local function run(chunk, silent)
  local results = table.pack(interrupt.call(chunk))
  if not results[1] then return print_error(results[2]) end
  if results.n == 1 then return end
  local values = table.pack(table.unpack(results, 2, results.n))
  _G._ = values[1]
  if silent then return end
  local ok, message = interrupt.call(display, values)
  if not ok then print_error(message) end
end

local function show_help(topic)
  local ok, message = interrupt.call(function() require("prune.help").topic(topic) end)
  if not ok then print_error(message) end
end

local function prompt(first)
  local text = _G[first and "_PROMPT" or "_PROMPT2"]
  if text == nil then return first and "> " or ">> " end
  local ok, shown = pcall(tostring, text)
  return ok and shown or "> "
end

-- Read lines until they are a whole chunk. Returns the text, and the compiled chunk or nil; or nil and why there is none.
local function read()
  local source, why = terminal.readline(prompt(true))
  if not source then return nil, why end
  if source:find "^%s*%?" then return source end
  while true do
    local chunk, message, more = M.compile(source)
    if chunk then return source, chunk, message end
    if not more then return source, nil, message end
    local line, stopped = terminal.readline(prompt(false))
    if stopped == "interrupt" then return nil, stopped end
    if not line then return source, nil, message end
    source = source .. "\n" .. line
  end
end

local function history_path()
  local path = os.getenv "PRUNELUA_HISTORY"
  if path then return path end
  local state, home = os.getenv "XDG_STATE_HOME", os.getenv "HOME"
  if state and state ~= "" then return state .. "/prunelua/history" end
  return home and home .. "/.local/state/prunelua/history" or ""
end

local function preload()
  local function define(name, value)
    if _G[name] == nil then _G[name] = value end
  end
  define("help", require "prune.help")
  local ok, prune = interrupt.call(require, "prune")
  if not ok then return print_error(prune) end
  define("prune", prune)
  local nn = prune.nn
  define("nn", nn)
  define("F", nn and nn.functional)
end

--- Read and run until the end of input. On a terminal with a history, lines are kept in the file that PRUNELUA_HISTORY names.
function M.run()
  local on_terminal = terminal.is_terminal "stdin"
  if on_terminal then
    terminal.history(history_path())
    terminal.completer(function(text) return require("prune.complete").complete(text) end)
    io.stdout:write "help() for help, Ctrl-D to leave\n"
  end
  preload()
  while true do
    local source, chunk, extra = read()
    if source then
      if on_terminal and source:find "%S" then terminal.remember(source) end
      local topic = source:match "^%s*%?%s*(.-)%s*$"
      if topic then
        show_help(topic)
      elseif chunk then
        run(chunk, extra)
      else
        print_error(extra)
      end
      io.stdout:flush()
    elseif chunk == "eof" then
      break
    end
  end
  io.stdout:write "\n"
end

return M
