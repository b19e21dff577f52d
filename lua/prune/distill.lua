-- distill.lua - knowledge distillation (Hinton et al. 2015), what option `distill` of prune.Trainer does: a student learns from the scores of
-- a teacher beside the labels.
local core = require "prune.core"
local options = require "prune.options"
local Module = require "prune.nn.module"
local F = require "prune.nn.functional"

local distill = {}

local function check_number(name, value, fits, range)
  if type(value) == "number" and fits(value) then return end
  error(("prune.Trainer: distill.%s must be a number %s, got %s"):format(name, range, tostring(value)), 4)
end

--- Option `distill` of a Trainer, checked.
-- @param net the student
-- @param options { teacher = a module that is no part of the student, temperature = 4, weight = 0.5 }
-- @return the options with what is not given filled in
function distill.check(net, given)
  local o = options.check("prune.Trainer: distill", given, { teacher = options.none, temperature = 4, weight = 0.5 })
  if not Module.is_module(o.teacher) then
    error(("prune.Trainer: distill.teacher must be a module (such as net:clone() before pruning), got %s"):format(type(o.teacher)), 3)
  end
  check_number("temperature", o.temperature, function(t) return t > 0 and t < math.huge end, "above 0")
  check_number("weight", o.weight, function(w) return w >= 0 and w <= 1 end, "in 0..1")
  local own = {}
  for name, p in net:named_parameters() do own[p] = name end
  for name, p in o.teacher:named_parameters() do
    if own[p] then
      error(("prune.Trainer: the teacher's '%s' is the model's '%s'; a teacher must not change while the model learns: give a copy, " ..
        "net:clone()"):format(name, own[p]), 3)
    end
  end
  return o
end

local function shape_text(t) return core.is_tensor(t) and "[" .. table.concat(t:size(), ", ") .. "]" or type(t) end

--- The loss of a batch with what the teacher says of it: (1 - weight) loss + weight T^2 KL(softmax(teacher / T) || softmax(student / T)),
-- with the mean over samples. Classes are the second axis, as for F.cross_entropy. The teacher runs in evaluation mode, unrecorded.
-- @param options from distill.check
-- @param x the batch that the student saw
-- @param output the student's scores
-- @param loss tensor of one element
-- @return tensor of one element
function distill.loss(o, x, output, loss)
  o.teacher:eval()
  local wanted = core.no_grad(o.teacher, x)
  if not core.is_tensor(output) or not core.is_tensor(wanted) or shape_text(output) ~= shape_text(wanted) then
    error(("training: distillation needs one tensor of scores from both, of one shape; the model gives %s, the teacher %s"):format(
      shape_text(output), shape_text(wanted)), 0)
  end
  local dim = output:dim() > 1 and 2 or 1
  local divergence = F.kl_div(F.log_softmax(output / o.temperature, { dim = dim }),
    core.no_grad(F.softmax, wanted / o.temperature, { dim = dim }), { reduction = "sum" })
  local samples = output:numel() / output:size(dim)
  return loss * (1 - o.weight) + divergence * (o.weight * o.temperature ^ 2 / samples)
end

return distill
