-- Data sets: labelled images in batches.
local core = require "prune.core"
local interrupt = require "prune.interrupt"
local options = require "prune.options"

local M = {}

local Data = {}
Data.__index = Data
Data.__name = "prune.Data"

-- One number per channel: a list as it is, or one number for all.
local function per_channel(value, channels, name)
  if type(value) ~= "number" then
    if type(value) ~= "table" then
      error(("prune.data.load: normalize.%s must be a number or a list of numbers, not %s"):format(name, type(value)), 4)
    end
    return value
  end
  local list = {}
  for c = 1, channels do list[c] = value end
  return list
end

-- The means and deviations that `normalize` stands for.
local function normalization(normalize, dataset, limit, threads)
  if normalize == "auto" then return dataset:statistics(limit, math.max(threads, 1)) end
  if normalize == false then normalize = "none" end
  if type(normalize) == "string" then return dataset:constants(normalize) end
  if type(normalize) ~= "table" then
    error(("prune.data.load: normalize is \"auto\", a name, or { mean =, std = }, not %s"):format(type(normalize)), 3)
  end
  local given = options.check("prune.data.load: normalize", normalize, { mean = options.none, std = options.none })
  local channels = dataset:shape()[1]
  return per_channel(given.mean, channels, "mean"), per_channel(given.std, channels, "std")
end

local function new(dataset, settings)
  local self = setmetatable({ dataset = dataset, settings = settings, epoch = 1, batch = 1 }, Data)
  self.shape = dataset:shape()
  self.class_names = dataset:class_names()
  self.classes = #self.class_names
  self.normalization = { mean = settings.mean, std = settings.std }
  self.idle = core.loader_open(dataset, settings)
  self.size = self.idle:samples()
  self.count = self.idle:batches()
  return self
end

local loading = {
  batch = 64, test_batch = options.none, limit = 0, normalize = "auto", augment = options.none, shuffle = true, threads = 2,
  seed = options.none, resize = options.none, cache = options.none,
}

--- Open a data set: its training and its test part.
-- The path is an HDF5 file (`images`: N x H x W or N x H x W x C bytes, `labels` from 0, and optionally `test_images`, `test_labels`;
-- else the last fifth is the test part), a folder with train/CLASS/*.jpg (or png) and test/CLASS/*.jpg, a folder with the binary
-- files of CIFAR-10 or those of MNIST (plain or .gz); "" stands for the digits that are part of the program (8 x 8, values 0 to 1).
--
-- A part has `shape` ({ channels, height, width }), `classes` (their number), `class_names`, `size` (images), `#part` (batches in an
-- epoch), `normalization` ({ mean =, std = }) and the methods batches, state, restore.
-- @tparam string path
-- @tparam[opt] table options
--   batch (64), test_batch (as batch): images in a batch; the last batch holds the rest, a single image joins the one before;
--   limit: use so many images for training, and the same share for testing; from image folders the classes take turns;
--   normalize: "auto" (mean and deviation of the training images per channel), "cifar10", "imagenet", "mnist", "none", or
--   { mean =, std = };
--   augment: { crop_padding = 4, flip = true }, for training images; shuffle (true); threads (2): how many prepare batches;
--   seed (that of prune.seed): of order and augmentation; resize: for image folders, the shorter side to so many pixels, then the
--   centre; cache (2 GiB): bytes of decoded images to keep
-- @return the training part and the test part
-- @usage local train, test = prune.data.load("", { batch = 64 })
-- @usage local train = prune.data.load("photos", { batch = 128, resize = 64, augment = { crop_padding = 4, flip = true } })
function M.load(path, given)
  if type(path) ~= "string" then error(("prune.data.load: the path is a string, not %s"):format(type(path)), 2) end
  local o = options.check("prune.data.load", given, loading)
  for _, name in ipairs { "limit", "threads" } do -- the others go to the core as they are
    if math.type(o[name]) ~= "integer" then error(("prune.data.load: the option %s must be a whole number"):format(name), 2) end
  end
  local augment = options.check("prune.data.load: augment", o.augment, { crop_padding = 0, flip = false })
  local source = { resize = o.resize, cache = o.cache }
  local train, test = core.dataset_open(path, "train", source), core.dataset_open(path, "test", source)
  local mean, std = normalization(o.normalize, train, o.limit, o.threads)
  local seed = o.seed or core.seed()
  local test_limit = 0
  if o.limit > 0 and o.limit < train:size() then
    test_limit = math.max(1, (o.limit * test:size() + train:size() // 2) // train:size())
  end
  return new(train, {
    batch = o.batch, shuffle = o.shuffle, crop_padding = augment.crop_padding, flip = augment.flip, threads = o.threads, seed = seed,
    limit = o.limit, mean = mean, std = std,
  }), new(test, {
    batch = o.test_batch or o.batch, shuffle = false, threads = o.threads, seed = seed, limit = test_limit, mean = mean, std = std,
  })
end

function Data:__len() return self.count end

function Data:__tostring()
  local c, h, w = table.unpack(self.shape)
  return ("data: %d images of %d x %d x %d, %d classes, %d batches of %d"):format(self.size, c, h, w, self.classes, self.count,
    self.settings.batch)
end

--- Loop over the batches of the next epoch: images [N, C, H, W] and labels [N], which count from 1.
--    for x, y in train:batches() do ... end
-- Every call begins an epoch of its own; after `restore` the first one goes on in the middle. Loops may be nested, or left early: then the
-- epoch is over.
-- @tparam[opt] table at which epoch (from 1; by default the next one) and after how many of its batches: { epoch = 3, from = 0 }
-- @return what a `for` loop needs
function Data:batches(at)
  local given = options.check("batches", at, { epoch = options.none, from = 0 })
  if self.begun then self.epoch, self.batch = self.epoch + 1, 1 end
  if at then
    if math.type(given.from) ~= "integer" or given.from < 0 or given.from > self.count then
      error(("batches: from must be 0 to %d, the batches of an epoch, not %s"):format(self.count, tostring(given.from)), 2)
    end
    self.epoch, self.batch = given.epoch or self.epoch, given.from + 1
  end
  self.begun, self.left = true, nil
  local loader = self.idle or core.loader_open(self.dataset, self.settings)
  self.idle = nil
  local settings, epoch = self.settings, self.epoch
  loader:start(epoch, self.batch)
  local pass = {}
  self.pass = pass -- state() follows the loop that began last
  local function finish()
    if loader and settings == self.settings then self.idle = loader end
    loader = nil
  end
  local function step()
    if not loader then return nil end
    local x, y = loader:next()
    if x then
      if self.pass == pass then self.batch = self.batch + 1 end
      return x, y
    end
    finish()
    if self.pass == pass then self.epoch, self.batch, self.begun = epoch + 1, 1, nil end
    return nil
  end
  local function leave()
    if loader and self.pass == pass then self.left = true end
    finish()
  end
  return step, nil, nil, interrupt.closing(leave)
end

--- Where the loop stands: a table of plain numbers, for `restore`. Inside a loop it is the middle of an epoch; behind one, also one that
-- was left early, the beginning of the next.
-- @treturn table
function Data:state()
  local epoch, batch = self.epoch, self.batch
  if self.left then epoch, batch = epoch + 1, 1 end
  return { epoch = epoch, batch = batch, seed = self.settings.seed, size = self.size, batch_size = self.settings.batch }
end

--- Go on where `state` was taken: the next loop yields what was left of its epoch, in the same order with the same augmentation.
-- @tparam table state
function Data:restore(state)
  if type(state) ~= "table" then error(("restore: the state is a table that state() gave, not %s"):format(type(state)), 2) end
  if state.size ~= self.size or state.batch_size ~= self.settings.batch then
    error(("the state is of %s images in batches of %s, the data are %d images in batches of %d"):format(state.size, state.batch_size,
      self.size, self.settings.batch), 2)
  end
  if state.seed ~= self.settings.seed then
    local settings = {}
    for name, value in pairs(self.settings) do settings[name] = value end
    settings.seed = state.seed
    self.settings, self.idle = settings, nil -- loops under way keep theirs
  end
  self.epoch, self.batch, self.begun, self.left, self.pass = state.epoch, state.batch, nil, nil, nil
end

--- Arrays of numbers from any HDF5 file, as tensors. A process apart does the reading, so a damaged file is an error and nothing worse.
-- @tparam string path
-- @param ... names inside the file ("images", "group/weight")
-- @return one tensor per name; f64, f32, u8, i32 or i64
-- @usage local weight = prune.data.read_hdf5("weights.h5", "conv1/weight")
function M.read_hdf5(path, ...)
  if select("#", ...) == 0 then error("prune.data.read_hdf5: the name of an array is missing", 2) end
  return core.hdf5_read(path, { ... })
end

M._Data = Data -- for help

return M
