-- The parts of the prompt that need no terminal: compiling what was typed, showing values, completion, help.
local T = require "testing"
local complete = require "prune.complete"
local docs = require "prune.docs"
local look = require "prune.look"
local pretty = require "prune.pretty"
local repl = require "prune.repl"

T.test("what was typed is an expression, a statement, incomplete or wrong", function()
  local function results(source)
    local chunk, silent = assert(repl.compile(source))
    return silent, table.pack(chunk())
  end
  local silent, values = results "1, nil, 3"
  T.equal(silent, false)
  T.equal(values.n, 3)
  T.equal(select(2, results "= 5")[1], 5)
  T.equal((results "5;"), true)
  T.equal((results "5 ; "), true)
  T.equal(select(2, results "return 7")[1], 7)
  T.equal(select(2, results "local x = 1").n, 0)
  T.equal(select(2, results "").n, 0)
  T.equal(select(2, results "-- nothing").n, 0)
  for _, source in ipairs { "for i = 1, 2 do", "{", "f(", "1 +", "x = ", "[[text", "function f()", "if x then\ny()" } do
    local chunk, _, more = repl.compile(source)
    T.equal(chunk, nil)
    T.equal(more, true, source)
  end
  for _, source in ipairs { "x y", "end", "'text", "1 = 2", "f(]" } do
    local chunk, message, more = repl.compile(source)
    T.equal(chunk, nil)
    T.equal(more, false, source)
    assert(message:find "^stdin:1:", message)
  end
end)

T.test("tables are shown with limits, sorted keys and cycles cut", function()
  T.equal(pretty.format { 1, "two", { 3 }, x = true }, '{ 1, "two", { 3 }, x = true }')
  T.equal(pretty.format {}, "{}")
  T.equal(pretty.format { b = 1, a = 2, [10] = 3, ["not a name"] = 4, ["end"] = 5 },
    '{ [10] = 3, a = 2, b = 1, ["end"] = 5, ["not a name"] = 4 }')
  T.equal(pretty.format { 1, nil, 3 }, "{ 1, nil, 3 }")
  T.equal(pretty.format { "a\nb\"\0" }, [[{ "a\nb\"\0" }]])
  local loop = { name = "loop" }
  loop.me = loop
  T.equal(pretty.format(loop), '{ me = <cycle>, name = "loop" }')
  local shared = {}
  T.equal(pretty.format { shared, shared }, "{ {}, {} }")
  T.equal(pretty.format { { { { { 1 } } } } }, "{ { { { {...} } } } }")
  assert(pretty.format({ table.unpack({}, 1, 100) }):find "more" == nil)
  local long = {}
  for i = 1, 100 do long[i] = i end
  assert(pretty.format(long):find "30,\n  %.%.%. 70 more\n}$", pretty.format(long))
  local wide = { ("x"):rep(50), ("y"):rep(50) }
  T.equal(select(2, pretty.format(wide):gsub("\n", "")), 3)
  local function huge(depth)
    local t = {}
    for i = 1, 30 do t[i] = depth > 1 and huge(depth - 1) or i end
    return t
  end
  assert(#pretty.format(huge(3)) < 20000)
end)

T.test("values with __tostring are shown by it, and nothing else of theirs is called", function()
  local function value(text) return setmetatable({}, { __tostring = function() return text end }) end
  T.equal(pretty.format(value "shown"), "shown")
  T.equal(pretty.format { value "shown" }, "{ shown }")
  T.equal(pretty.format { value "two\nlines" }, "{\n  two\n  lines\n}")
  local trap = setmetatable({ 1 }, { __index = function() error "called" end, __len = function() error "called" end,
    __pairs = function() error "called" end })
  T.equal(pretty.format(trap), "{ 1 }")
  local broken = setmetatable({}, { __tostring = function() error "x" end })
  T.equal(pretty.format { broken }, "{ <table: error in __tostring> }")
end)

local function candidates(text) return table.concat(complete.candidates(text), " ") end

T.test("completion of globals, fields, methods and keywords", function()
  _G.sample = { alpha = 1, beta = function() end, _hidden = 2, ["not a name"] = 3, list = { { deep = {} } }, ["a key"] = { inside = 1 } }
  T.equal(candidates "sampl", "sample")
  T.equal(candidates "print(sampl", "sample")
  T.equal(candidates "sample.", "alpha beta list")
  T.equal(candidates "sample._", "_hidden")
  T.equal(candidates "sample:", "beta")
  T.equal(candidates "x = 1 + sample.al", "alpha")
  T.equal(candidates "sample.list[1].", "deep")
  T.equal(candidates "sample['a key'].", "inside")
  T.equal(candidates "sample . al", "alpha")
  T.equal(candidates "'a' .. sampl", "sample")
  T.equal(candidates "nothing.here.", "")
  T.equal(candidates "f().", "")
  T.equal(candidates "whi", "while")
  T.equal(candidates "string.form", "format")
  T.equal(candidates "", "")
  _G.text = "abc"
  T.equal(candidates "text:upp", "upper")
end)

T.test("completion follows __index tables and runs no user code", function()
  local base = { inherited = function() end }
  local class = setmetatable({ own = function() end }, { __index = base })
  _G.object = setmetatable({ field = 1 }, { __index = class })
  T.equal(candidates "object.", "field inherited own")
  T.equal(candidates "object:", "inherited own")
  local calls = 0
  _G.trap = setmetatable({}, { __index = function() calls = calls + 1 end, __pairs = function() calls = calls + 1 end,
    __len = function() calls = calls + 1 end })
  T.equal(candidates "trap.some.", "")
  T.equal(candidates "trap.", "")
  T.equal(calls, 0)
  T.equal(look.resolve "object.own", class.own)
end)

T.test("completion of modules behind require and of files in other strings", function()
  T.equal(candidates 'require "prune.prog', "prune.progress")
  T.equal(candidates "require('tabl", "table")
  assert(os.execute("mkdir '" .. T.scratch "folder" .. "'"))
  io.open(T.scratch "module_in_scratch.lua", "w"):close()
  io.open(T.scratch ".hidden", "w"):close()
  local path = package.path
  package.path = T.scratch() .. "/?.lua;" .. path
  T.equal(candidates 'require "module_in_s', "module_in_scratch")
  package.path = path
  T.equal(candidates('f("' .. T.scratch() .. "/"), "folder/ module_in_scratch.lua")
  T.equal(candidates("f('" .. T.scratch() .. "/."), ".hidden")
  T.equal(complete.complete("f('" .. T.scratch() .. "/modu"), "le_in_scratch.lua'")
  T.equal(complete.complete("f('" .. T.scratch() .. "/fold"), "er/")
end)

T.test("one candidate is inserted, several as far as they agree, else they are listed", function()
  T.equal(complete.complete "sample.al", "pha")
  T.equal(complete.complete "string.r", "e")
  local insertion, listing = complete.complete "string.re"
  T.equal(insertion, nil)
  T.equal(listing, "rep      reverse")
  T.equal(complete.complete "no_such_name", nil)
  T.equal(complete.complete "  ", "  ")
end)

T.test("comments with three dashes are the help of what they stand above", function()
  local entries, head = docs.parse([[
-- The head.
-- Its second line.
local M = {}

--- Adds.
--    M.add(1, 2)
function M.add(a, b) return a + b end

--- A class.
M.Class = {}
--- A method.
function M.Class:run() end

--- tensor:size(dim) -> integer
-- Length of an axis.

return M
]], "prune.sample", "@prune/sample.lua")
  T.equal(head, { "The head.", "Its second line." })
  T.equal(#entries, 4)
  T.equal(entries[1].text, { "Adds.", "   M.add(1, 2)" })
  T.equal({ entries[1].owner, entries[1].name, entries[1].arguments, entries[1].line }, { "M", "add", "(a, b)", 7 })
  T.equal({ entries[2].owner, entries[2].name }, { "M", "Class" })
  T.equal({ entries[3].owner, entries[3].name }, { "M.Class", "run" })
  T.equal({ entries[4].name, entries[4].signature, entries[4].free }, { "size", "tensor:size(dim) -> integer", true })
end)

T.test("tags are shown as arguments, results and examples", function()
  local entry = docs.parse([[
local M = {}

--- Fills.
-- Twice. @tparam {integer,...} shape
-- @tparam[opt=0] number value what to fill with
-- @param a, b two more
-- @treturn Tensor
-- @usage M.full({ 2 }, 7)
M.full = core.full
]], "prune.sample", "@prune/sample.lua")[1]
  T.equal(docs.render(entry, "prune.sample.full"), [[
prune.sample.full(shape, [value], a, b)
  Fills.
  Twice.
    shape ({integer,...})
    value (number, 0 unless given): what to fill with
    a, b: two more
    returns Tensor
      M.full({ 2 }, 7)]])
end)

T.test("help knows the functions of the sources by value", function()
  local help = require "prune.help"
  local text = help.text(require("prune.util").sorted)
  assert(text:find "sorted%(t%)" and text:find "sorted keys", text)
  T.equal(help.text(function() end), nil)
  local own = help.register(function() end, "my text")
  T.equal(help.text(own), "my text")
end)

T.test("prune.util: sorted, try; the nearest of some names", function()
  local core = require "prune.core"
  local util = require "prune.util"
  local seen = {}
  for key, value in util.sorted { b = 1, a = 2, [3] = 3, [1.5] = 4, [true] = 5 } do seen[#seen + 1] = tostring(key) .. value end
  T.equal(table.concat(seen, " "), "1.54 33 a2 b1 true5")
  T.equal({ util.try(math.max, 1, 2) }, { 2 })
  T.equal({ util.try(error, "reason", 0) }, { [2] = "reason" })
  T.equal(core.nearest("epohcs", { "epochs", "batch" }), "epochs")
  T.equal(core.nearest("qqqqqq", { "epochs", "batch" }), nil)
end)

T.test("prune.util: folders and files are made whole, or the reason is told", function()
  local util = require "prune.util"
  local path = T.scratch "new/deeper/file.txt"
  util.make_folder(path)
  util.make_folder(path)
  util.write_file(path, "first")
  util.write_file(path, "second")
  T.equal(assert(io.open(path)):read "a", "second")
  T.equal(io.open(path .. ".new"), nil)
  T.raises(function() util.make_folder(path .. "/below") end, "cannot make folder .*file.txt: Not a directory")
  T.raises(function() util.write_file(T.scratch "nowhere/file.txt", "") end, "nowhere.*cannot be written")
  T.raises(function() util.make_folder() end, "a path is needed")
end)

T.done()
