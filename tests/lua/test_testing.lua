-- The helper of the tests is tested: what fails must be seen to fail.
local T = require "testing"

local program = assert(arg[-1], "the interpreter's path is in arg[-1]")

-- Run a test file with this text; its exit code and its output.
local function run(text, argument)
  local path = T.scratch "inner.lua"
  local file <close> = assert(io.open(path, "w"))
  file:write('local T = require "testing"\n', text)
  file:flush()
  local pipe = assert(io.popen(("'%s' '%s' %s 2>&1"):format(program, path, argument or "")))
  local output = pipe:read "a"
  local _, _, code = pipe:close()
  return code, output
end

local function expect(code, pattern, text, argument)
  local got, output = run(text, argument)
  T.equal(got, code, "exit code of: " .. text)
  if not output:find(pattern) then error(("'%s' is not in: %s"):format(pattern, output), 2) end
end

T.test("all well: exit code 0 and the count", function()
  expect(0, "2 passed, 0 failed", "T.test('a', function() end) T.test('b', function() T.equal({ 1 }, { 1 }) end) T.done()")
end)

T.test("a failing test fails the file, and the others still run", function()
  expect(1, "FAIL a.*1 passed, 1 failed", "T.test('a', function() error 'no' end) T.test('b', function() end) T.done()")
end)

T.test("no test, a forgotten T.done and an error outside of tests fail", function()
  expect(1, "has no test", "T.done()")
  expect(1, "without T.done", "T.test('a', function() end)")
  expect(1, "outside", "T.test('a', function() end) error 'outside'")
end)

T.test("a missing golden file skips, but does not hide a failure", function()
  expect(77, "skipped: .*/no_such_file", "T.shared 'no_such_file'")
  expect(1, "skipped", "T.test('a', error) T.shared 'no_such_file'")
end)

T.test("an argument chooses tests by name", function()
  expect(0, "1 passed", "T.test('one', function() end) T.test('two', error) T.done()", "one")
  expect(1, "no test has", "T.test('one', function() end) T.done()", "three")
end)

T.test("comparisons see every difference and name its place", function()
  T.raises(function() T.equal({ 1, { 2 } }, { 1, { 3 } }) end, "value%[2%]%[1%] is 2, expected 3")
  T.raises(function() T.equal({ 1 }, { 1, 2 }) end, "value%[2%] is missing")
  T.raises(function() T.equal({ 1, 2 }, { 1 }) end, "value%[2%] is 2, expected nil")
  T.raises(function() T.equal(1, "1") end)
  T.raises(function() T.close(1, 1.1, 0.01) end, "tolerance 0.01")
  T.raises(function() T.close(0 / 0, 1) end)
  T.close({ 1, 0 / 0 }, { 1 + 1e-9, 0 / 0 }, 1e-6)
  T.close(1000, 1001, 1e-2)
end)

T.test("T.raises wants an error and its words", function()
  T.raises(function() T.raises(function() end) end, "none was raised")
  T.raises(function() T.raises(function() error "this" end, "that") end, "expected an error like 'that'")
  assert(T.raises(function() error "this" end):find "this")
end)

T.done()
