-- Tables, closures, method calls, string building and matching, and floating point in an interpreter.
-- usage: work.lua ROUNDS
local seed = 42

local function number(limit)
  seed = (seed * 1103515245 + 12345) % 2147483648
  return (seed >> 8) % limit
end

local Heap = {}
Heap.__index = Heap

function Heap.new(before) return setmetatable({before = before, n = 0}, Heap) end

function Heap:push(value)
  local i = self.n + 1
  self.n = i
  while i > 1 and self.before(value, self[i // 2]) do
    self[i] = self[i // 2]
    i = i // 2
  end
  self[i] = value
end

function Heap:pop()
  local top, last, i = self[1], self[self.n], 1
  self[self.n] = nil
  self.n = self.n - 1
  while self.n > 0 do
    local child = 2 * i
    if child > self.n then break end
    if child < self.n and self.before(self[child + 1], self[child]) then child = child + 1 end
    if not self.before(self[child], last) then break end
    self[i] = self[child]
    i = child
  end
  if self.n > 0 then self[i] = last end
  return top
end

local function words(count)
  local parts, seen = {}, {}
  for i = 1, count do parts[i] = string.format("%c%d", 97 + number(26), number(50)) end
  for letter, digits in table.concat(parts, " "):gmatch("(%a)(%d+)") do
    seen[letter] = (seen[letter] or 0) + tonumber(digits)
  end
  local best
  for letter, sum in pairs(seen) do
    if not best or sum > seen[best] or sum == seen[best] and letter < best then best = letter end
  end
  return best, seen[best]
end

local function escape(cr, ci)
  local zr, zi = 0.0, 0.0
  for i = 1, 100 do
    zr, zi = zr * zr - zi * zi + cr, 2 * zr * zi + ci
    if zr * zr + zi * zi > 4 then return i end
  end
  return 0
end

for turn = 1, tonumber(arg[1]) do
  local heap, sum = Heap.new(function(a, b) return a < b end), 0
  for _ = 1, 4000 do heap:push(number(1000000)) end
  for i = 1, 4000 do sum = (sum * 31 + heap:pop() * i) % 1000000007 end
  local inside = 0
  for y = 0, 39 do
    for x = 0, 39 do inside = inside + escape(x / 16 - 2, y / 16 - 1.25) end
  end
  print(turn, sum, inside, words(3000))
end
