-- networks.lua - small networks that several tests use.
local prune = require "prune"
local nn, F = prune.nn, prune.nn.functional

local networks = {}

--- A transformer's block between linear layers, for inputs [batch, steps, 5]; with `norm`, a layer norm before the attention.
networks.Attention = nn.module("Attention", function(self, width, heads, norm)
  self.input = nn.Linear(5, width)
  if norm then self.norm = nn.LayerNorm(width) end
  self.attention = nn.MultiheadAttention(width, heads)
  self.fc1, self.fc2, self.head = nn.Linear(width, 12), nn.Linear(12, width), nn.Linear(width, 3)
end)
function networks.Attention:forward(x)
  x = self.input(x)
  x = x + self.attention(self.norm and self.norm(x) or x)
  x = x + self.fc2(F.gelu(self.fc1(x)))
  return self.head(x:mean { 2 })
end

return networks
