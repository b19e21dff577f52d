-- Knowledge distillation in the Trainer: the loss and its gradient are those of the formula, the teacher stays as it is, resuming gives the
-- same bits, and a teacher that does not fit is refused.
local prune = require "prune"
local nn, F = prune.nn, prune.nn.functional
local T = require "testing"

local function load_data() return prune.data.load("", { batch = 32, limit = 128, augment = { crop_padding = 1 }, threads = 1 }) end

local function student(width) return prune.models.cnn { channels = 1, width = width or 4 } end

-- The divergence of one sample in plain numbers.
local function divergence(student_scores, teacher_scores, temperature)
  local function softmax(scores)
    local total, out = 0, {}
    for i, s in ipairs(scores) do out[i] = math.exp(s / temperature); total = total + out[i] end
    for i = 1, #out do out[i] = out[i] / total end
    return out
  end
  local p, q, sum = softmax(teacher_scores), softmax(student_scores), 0
  for i = 1, #p do sum = sum + p[i] * (math.log(p[i]) - math.log(q[i])) end
  return sum, p, q
end

T.test("the loss is (1 - weight) loss + weight T^2 KL(teacher / T || student / T), the mean over samples", function()
  local distill = require "prune.distill"
  local fixed = prune.tensor { { 2, -1, 0.5 }, { 0, 3, 1 } }
  local Teacher = nn.module("Teacher", function() end)
  function Teacher:forward() return fixed end
  local scores = prune.tensor { { 1, 0, 0 }, { -1, 0.5, 2 } }
  scores.requires_grad = true
  local o = distill.check(student(), { teacher = Teacher(), temperature = 3, weight = 0.7 })
  local loss = F.cross_entropy(scores, prune.tensor({ 1, 2 }, { dtype = "i64" }))
  local both = distill.loss(o, fixed, scores, loss)
  local expected = 0
  for i = 1, 2 do expected = expected + divergence(scores:totable()[i], fixed:totable()[i], 3) / 2 end
  T.close(both:item(), 0.3 * loss:item() + 0.7 * 9 * expected, 1e-5)
  -- d/ds of T^2 KL is T (q - p)
  distill.loss(o, fixed, scores, loss * 0):backward()
  for i = 1, 2 do
    local _, p, q = divergence(scores:totable()[i], fixed:totable()[i], 3)
    for c = 1, 3 do T.close(scores.grad[i][c]:item(), 0.7 * 3 * (q[c] - p[c]) / 2, 1e-5) end
  end
  T.equal(fixed.grad, nil)
end)

T.test("scores with positions count every position as a sample", function()
  local distill = require "prune.distill"
  local wide = prune.randn { 2, 3, 4, 5 }
  local Teacher = nn.module("Teacher", function() end)
  function Teacher:forward() return wide end
  local scores = prune.randn { 2, 3, 4, 5 }
  local o = distill.check(student(), { teacher = Teacher(), weight = 1, temperature = 1 })
  local flat = distill.check(student(), { teacher = Teacher(), weight = 1, temperature = 1 })
  local got = distill.loss(o, wide, scores, prune.tensor(0.0)):item()
  local function rows(t) return t:permute { 1, 3, 4, 2 }:reshape(40, 3) end
  local by_rows = rows(scores)
  wide = rows(wide)
  T.close(got, distill.loss(flat, wide, by_rows, prune.tensor(0.0)):item(), 1e-5)
end)

T.test("a teacher is used in evaluation mode, gets no gradient and is not changed; weight 1 learns from it alone", function()
  prune.seed(2)
  local train = load_data()
  local teacher = student(8):train()
  local before = {}
  for name, t in pairs(teacher:state_dict()) do before[name] = t:totable() end
  local net = student()
  local function distance()
    local sum = 0
    net:eval()
    prune.no_grad(function()
      for x in train:batches() do sum = sum + F.mse_loss(net(x):softmax(2), teacher(x):softmax(2)):item() end
    end)
    return sum
  end
  teacher:eval()
  local first = distance()
  teacher:train()
  prune.Trainer(net, { optimizer = prune.optim.Adam(net, { lr = 0.01 }), quiet = true,
    distill = { teacher = teacher, weight = 1, temperature = 2 } }):fit(train, { epochs = 10 })
  T.equal(teacher.training, false)
  local last = distance()
  assert(last < 0.7 * first, ("the student comes nearer to the teacher: %g, then %g"):format(first, last))
  for name, t in pairs(teacher:state_dict()) do T.equal(t:totable(), before[name], name) end
  for _, p in teacher:named_parameters() do T.equal(p.grad, nil) end
end)

T.test("a distillation that is stopped and resumed ends with the same bits", function()
  local function run(folder, stop, resume, seed)
    prune.seed(1)
    local train, teacher = load_data(), student(8)
    prune.seed(seed)
    local net, count = student(), 0
    local function metric()
      count = count + 1
      if count == stop then assert(io.popen("kill -INT " .. assert(io.open "/proc/self/stat"):read "n")):close() end
      return 0
    end
    prune.Trainer(net, { optimizer = prune.optim.Adam(net), distill = { teacher = teacher }, out = folder, quiet = true,
      metrics = { count = metric } }):fit(train, { epochs = 2, resume = resume })
    local state = {}
    for name, t in pairs(net:state_dict()) do state[name] = t:totable() end
    return state
  end
  local expected = run(nil, nil, false, 3)
  for stop = 2, 6, 4 do
    local folder = T.scratch("run" .. stop)
    T.raises(function() run(folder, stop, false, 3) end, "interrupted")
    T.equal(run(folder, nil, true, 9), expected)
  end
end)

T.test("teachers and options that do not fit are refused", function()
  local net = student()
  local function trainer(given, more)
    local o = more or { optimizer = prune.optim.SGD(net), quiet = true }
    o.distill = given
    return prune.Trainer(net, o)
  end
  local other = student()
  T.raises(function() trainer(3) end, "options are a table, got number")
  T.raises(function() trainer {} end, "teacher must be a module")
  T.raises(function() trainer { teacher = other, temprature = 2 } end, "did you mean 'temperature'")
  T.raises(function() trainer { teacher = other, temperature = 0 } end, "temperature must be a number above 0, got 0")
  T.raises(function() trainer { teacher = other, weight = 1.5 } end, "weight must be a number in 0..1")
  T.raises(function() trainer { teacher = other, weight = "1" } end, "weight must be a number in 0..1")
  T.raises(function() trainer { teacher = net } end, "give a copy, net:clone()")
  T.raises(function() trainer({ teacher = other }, { step = function() end }) end, "'distill' would do nothing")
  local narrow = prune.models.cnn { channels = 1, width = 4, classes = 5 }
  local before = net.conv1.weight:totable()
  T.raises(function() trainer({ teacher = narrow }):fit((load_data())) end, "the model gives %[32, 10%], the teacher %[32, 5%]")
  T.equal(net.conv1.weight:totable(), before)
end)

T.done()
