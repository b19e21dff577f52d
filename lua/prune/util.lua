-- Small things that scripts and modules share.
local interrupt = require "prune.interrupt"

local M = {}

local rank = { number = 1, string = 2, boolean = 3 }

local function before(a, b)
  local ra, rb = rank[type(a)] or 4, rank[type(b)] or 4
  if ra ~= rb then return ra < rb end
  if ra <= 2 then return a < b end
  return tostring(a) < tostring(b)
end

--- The keys of a table in order: numbers, then strings, then the rest.
function M.keys(t)
  local keys = {}
  for key in next, t do keys[#keys + 1] = key end
  table.sort(keys, before)
  return keys
end

--- Iterate over a table by sorted keys, so that the order does not change from run to run.
--    for name, value in prune.sorted(t) do print(name, value) end
function M.sorted(t)
  local keys, i = M.keys(t), 0
  return function()
    i = i + 1
    if keys[i] ~= nil then return keys[i], t[keys[i]] end
  end
end

local function results(ok, ...)
  if ok then return ... end
  return nil, tostring((...))
end

--- Call f(...) and return its results; where it raises an error, return nil and the message.
--    local net, why = prune.try(prune.load, "model.h5")
function M.try(f, ...) return results(pcall(f, ...)) end

--- Make the folders that lead to a file.
--    util.make_folder "runs/a/report.csv"    -- makes runs and runs/a
function M.make_folder(path)
  if type(path) ~= "string" then error("make_folder: a path is needed, got " .. type(path), 2) end
  require("prune.terminal").make_folders(path)
end

--- Write a text file so that nobody ever sees half of it: to a temporary name beside it, synced to the disk, then renamed.
function M.write_file(path, text)
  require("prune.core").write_file(path, text)
end

--- What a parameter keeps under a name (see slots), or nil.
function M.slot(parameter, name)
  for _, slot in ipairs(parameter:slots()) do
    if slot[1] == name then return slot[2] end
  end
end

--- Run f and return its results; where it raises or Ctrl-C ends it, back() runs undisturbed before the error goes on.
-- @param f function()
-- @param back function() that puts back what f has changed; it must not raise
-- @return what f returns
function M.or_back(f, back)
  local done = false
  local _ <close> = interrupt.closing(function()
    if not done then back() end
  end)
  local got = table.pack(f())
  done = true
  return table.unpack(got, 1, got.n)
end

--- Run f as a whole: Ctrl-C waits until it is done. For steps that take no time.
-- @param f function()
function M.undisturbed(f)
  local _ <close> = interrupt.closing(f)
end

--- Can a value be called: is it a function, or has it a metamethod for that?
function M.is_callable(value)
  local meta = getmetatable(value)
  return type(value) == "function" or type(meta) == "table" and meta.__call ~= nil
end

--- A value as a cell of a CSV file.
function M.csv_cell(value)
  local text = tostring(value)
  return text:find '[",\n]' and '"' .. text:gsub('"', '""') .. '"' or text
end

--- An input to try a model with, { shape = (with a batch), dtype =, max = }: numbers in -2..2, or integers from 1 to max (2). They do not come
-- from the process's generator, so that no later random number changes: they are the fraction of a large sine.
function M.probe(input, batch)
  local core = require "prune.core"
  local shape = table.move(input.shape, 2, #input.shape, 2, { batch })
  local n = 1
  for _, size in ipairs(shape) do n = n * size end
  local x = ((core.arange(1, n, 1, { dtype = "f64" }) * 12.9898):sin() * 43758.5453)
  x = (x - x:floor()):reshape(shape)
  local is_float = input.dtype == "f32" or input.dtype == "f64" or input.dtype == "bf16"
  return is_float and (x * 4 - 2):to(input.dtype) or ((x * (input.max or 2)):floor() + 1):to(input.dtype)
end

--- Where data stand, for their `restore`.
-- @param data has batches()
-- @return what its state() gives, or nil where it cannot go on in the middle
function M.position_of(data) return data.state and data.restore and data:state() or nil end

return M
