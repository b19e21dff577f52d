-- lstm.lua - a classifier of sequences (Hochreiter and Schmidhuber 1997).
local nn = require "prune.nn"
local options = require "prune.options"
local F = nn.functional

local LSTMClassifier = nn.module("LSTMClassifier", function(self, o)
  if o.vocabulary then self.embedding = nn.Embedding(o.vocabulary, o.inputs) end
  self.lstm = nn.LSTM(o.inputs, o.hidden, { layers = o.layers, bidirectional = o.bidirectional, dropout = o.dropout })
  self.fc = nn.Linear(o.bidirectional and 2 * o.hidden or o.hidden, o.classes)
end)

function LSTMClassifier:forward(x)
  if self.embedding then x = self.embedding(x) end
  return self.fc(F.mean(self.lstm(x), { dim = 2 }))
end

return {
  --- LSTM classifier: layers of LSTM over the sequence, the mean over its steps, a linear layer. Takes features [batch, steps, inputs], or
  -- token ids [batch, steps] from 1 where a vocabulary is given. Hidden units and the width of the embedding can be removed, for every layer and
  -- direction apart.
  -- @param options { classes = 10, inputs = 64 (features per step, or the embedding's width), vocabulary = nil, hidden = 128, layers = 1,
  --   bidirectional = false, dropout = 0 (between layers) }
  -- @return module
  -- @usage local net = prune.models.lstm { inputs = 8, hidden = 32, classes = 10 }
  lstm = function(given)
    local where = "prune.models.lstm"
    local o = options.check(where, given, { classes = 10, inputs = 64, vocabulary = options.none, hidden = 128, layers = 1,
      bidirectional = false, dropout = 0.0 })
    for _, name in ipairs { "classes", "inputs", "hidden", "layers" } do options.count(where, name, o[name]) end
    if o.vocabulary ~= nil then options.count(where, "vocabulary", o.vocabulary) end
    options.choice(where, "bidirectional", o.bidirectional, { true, false })
    options.number(where, "dropout", o.dropout, 0, 1)
    return LSTMClassifier(o)
  end,
}
