-- What LuaJIT compiles: loops with side exits that become hot, calls through its FFI in both directions, strings, and
-- tables that change their shape.
local ffi = require("ffi")
ffi.cdef [[
typedef int (*compare)(const int *, const int *);
void qsort(int *base, size_t count, size_t size, compare order);
int snprintf(char *to, size_t size, const char *format, ...);
]]

local function collatz(limit)
  local longest, at = 0, 0
  for start = 1, limit do
    local n, steps = start, 0
    while n ~= 1 do
      if n % 2 == 0 then n = n / 2 else n = 3 * n + 1 end
      steps = steps + 1
    end
    if steps > longest then longest, at = steps, start end
  end
  return longest, at
end

local function sieve(limit)
  local composite, count = ffi.new("uint8_t[?]", limit + 1), 0
  for n = 2, limit do
    if composite[n] == 0 then
      count = count + 1
      for m = n * n, limit, n do composite[m] = 1 end
    end
  end
  return count
end

local function sorted(count)
  local numbers, calls = ffi.new("int[?]", count), 0
  for i = 0, count - 1 do numbers[i] = (i * 7919) % 1009 end
  local order = ffi.cast("compare", function(a, b)
    calls = calls + 1
    return a[0] - b[0]
  end)
  ffi.C.qsort(numbers, count, 4, order)
  order:free()
  local sum = 0
  for i = 0, count - 1 do sum = (sum * 31 + numbers[i]) % 1000003 end
  return sum, calls > count
end

local function words(count)
  local seen, text = {}, {}
  for i = 1, count do
    local word = string.rep(string.char(97 + i % 26), 1 + i % 5)
    seen[word] = (seen[word] or 0) + 1
    text[#text + 1] = word:upper():reverse()
  end
  local kinds = 0
  for _ in pairs(seen) do kinds = kinds + 1 end
  return kinds, #table.concat(text, ",")
end

print("collatz", collatz(3000))
print("sieve", sieve(30000))
print("sorted", sorted(500))
print("words", words(5000))
local buffer, sum = ffi.new("char[64]"), 0.0
for i = 1, 2000 do
  ffi.C.snprintf(buffer, 64, "%.3f", ffi.new("double", i / 7))
  sum = sum + tonumber(ffi.string(buffer))
end
print("printed", string.format("%.3f", sum))
print("errors", pcall(function() for i = 1, 200 do if i == 150 then error({ at = i }) end end end) == false)
print("compiled", (jit.status()))
