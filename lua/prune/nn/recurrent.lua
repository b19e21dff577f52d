-- recurrent.lua - LSTM and GRU, several layers, one or two directions. Hidden sizes are read off the weights.
local core = require "prune.core"
local options = require "prune.options"
local Module = require "prune.nn.module"
local initializer = require "prune.nn.initializer"
local F = require "prune.nn.functional"

local recurrent = {}

local function names(layer, reverse)
  local suffix = ("_l%d%s"):format(layer - 1, reverse and "_reverse" or "")
  return "weight_ih" .. suffix, "weight_hh" .. suffix, "bias_ih" .. suffix, "bias_hh" .. suffix
end

local function class(name, gates, operator)
  local Class = Module.class(name, function(self, inputs, hidden, given)
    local o = options.check("nn." .. name, given, { layers = 1, bidirectional = false, bias = true, dropout = 0 })
    options.count("nn." .. name, "the input size", inputs)
    options.count("nn." .. name, "the hidden size", hidden)
    options.count("nn." .. name, "layers", o.layers)
    self._layers, self._bidirectional, self._dropout = o.layers, o.bidirectional, o.dropout
    for layer = 1, o.layers do
      local width = layer == 1 and inputs or hidden * (o.bidirectional and 2 or 1)
      for direction = 1, o.bidirectional and 2 or 1 do
        local w_ih, w_hh, b_ih, b_hh = names(layer, direction == 2)
        self[w_ih] = core.parameter(core.empty { gates * hidden, width })
        self[w_hh] = core.parameter(core.empty { gates * hidden, hidden })
        if o.bias then
          self[b_ih] = core.parameter(core.empty { gates * hidden })
          self[b_hh] = core.parameter(core.empty { gates * hidden })
        end
      end
    end
    initializer.begin(self)
  end)

  function Class:reset()
    local bound = 1 / math.sqrt(self.weight_hh_l0:size(2))
    for _, p in self:named_parameters() do initializer.uniform(p, -bound, bound) end
  end

  function Class:forward(x, state)
    if state ~= nil then core.fail(("nn.%s begins with a state of zeros; nn.functional.%s takes another"):format(name, name:lower())) end
    for layer = 1, self._layers do
      local outputs = {}
      for direction = 1, self._bidirectional and 2 or 1 do
        local w_ih, w_hh, b_ih, b_hh = names(layer, direction == 2)
        outputs[direction] = operator(x, self[w_ih], self[w_hh], self[b_ih], self[b_hh], nil, nil, { reverse = direction == 2 })
      end
      x = self._bidirectional and F.cat(outputs, 3) or outputs[1]
      if self._dropout > 0 and layer < self._layers then x = F.dropout(x, { p = self._dropout, training = self.training }) end
    end
    return x
  end

  function Class:describe()
    local w = self.weight_ih_l0
    return ("%d, %d%s%s"):format(w:size(2), w:size(1) // gates, self._layers > 1 and (", layers " .. self._layers) or "",
      self._bidirectional and ", bidirectional" or "")
  end
  return Class
end

--- Long short-term memory (Hochreiter and Schmidhuber 1997): x [batch, time, in] -> [batch, time, hidden (x 2)], zero initial state.
-- @param input_size, hidden_size
-- @param options { layers = 1, bidirectional = false, bias = true, dropout = 0 }
recurrent.LSTM = class("LSTM", 4, F.lstm)

--- Gated recurrent unit (Cho et al. 2014): x [batch, time, in] -> [batch, time, hidden (x 2)], zero initial state.
-- @param input_size, hidden_size
-- @param options { layers = 1, bidirectional = false, bias = true, dropout = 0 }
recurrent.GRU = class("GRU", 3, function(x, w_ih, w_hh, b_ih, b_hh, h, _, o) return F.gru(x, w_ih, w_hh, b_ih, b_hh, h, o) end)

return recurrent
