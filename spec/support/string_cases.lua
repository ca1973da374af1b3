-- SPDX-License-Identifier: MIT
-- Random uses of the string library, and what they answer, as text: the same chunk runs in Lua and
-- in a policy's state. Arguments: a seed, how many, and what to use. No globals but Lua's own.
local seed, count, what = ...

local function random(n) -- 0 to n - 1
  seed = (seed * 1103515245 + 12345) % 2147483648
  return math.floor(seed / 65536) % n
end
local function pick(list) return list[random(#list) + 1] end

local function repeated(n, make)
  local t = {}
  for i = 1, n do t[i] = make() end
  return table.concat(t)
end

local letters = { "a", "a", "b", "b", "c", "1", "2", " ", "-", ".", "x", "]", "(", ")", "[", "%",
  "^", "\0", "\n", "\200", "A", "_" }
-- A pattern has no zero byte: Lua ends it there, we do not.
local function subject()
  return repeated(random(16), function() return pick(letters) end)
end

local quantifiers = { "", "", "", "*", "+", "-", "?" }
local members = { "a", "b", "c", "1", " ", "a-c", "1-9", "%a", "%s", "%d", "%W", "%]", "]", "-",
  "^", "%", "%z", "z-a", "a-", "-b", "%-", "\1-\255", "[", ".", "$" }
local function set()
  return "[" .. pick { "", "", "^", "]", "^]" }
    .. repeated(random(4), function() return pick(members) end)
    .. pick { "]", "]", "]", "]", "]", "]", "]", "]", "" }
end
local function single()
  local kind = random(10)
  if kind < 4 then return (pick(letters):gsub("[][()%%^]", "%%%0"):gsub("%z", "%%z"))
  elseif kind < 5 then return "."
  elseif kind < 6 then return pick { "%a", "%d", "%s", "%w", "%p", "%x", "%l", "%u", "%c", "%g",
    "%z", "%S", "%D", "%A", "%W", "%Z", "%G" }
  elseif kind < 8 then return set()
  elseif kind < 9 then return pick { "$", "^", "*", "+", "?", "-", ")", "(", "]", "%" } end
  return pick { "a", "b", "%e", "%.", "%%", "%(" }
end
local function pattern(depth)
  return repeated(random(5), function()
    local kind = random(16)
    if kind < 11 or depth > 3 then return single() .. pick(quantifiers)
    elseif kind < 13 then return "(" .. pattern(depth + 1) .. ")"
    elseif kind == 13 then return pick { "()", "%1", "%2", "%b()", "%bab", "%b", "%b(", "%0" }
    elseif kind == 14 then return "%f" .. pick { set(), set(), set(), "", "a" } end
    return "(" .. single() .. pick(quantifiers) .. ")"
  end)
end
local function any_pattern()
  return pick { "", "", "", "", "^" } .. pattern(0) .. pick { "", "", "", "$" }
end

local function show(...)
  local t = {}
  for i = 1, select("#", ...) do
    local v = select(i, ...)
    if type(v) == "number" and v ~= v then v = "nan" end
    t[i] = type(v):sub(1, 1) .. tostring(v)
  end
  return table.concat(t, "|")
end
-- Only that there was an error: the words are ours.
local function answer(ok, ...)
  return ok and show(...) or "error"
end

local function index() return pick { nil, 1, 0, -1, 3, -3, 20, -20, 2.7, 1e6, -1e6, "2" } end
local replacements = { "", "x", "%0", "<%0>", "%1", "%2", "%%", "%a", "%", "x%", "\0", 5, 1.5, true,
  function(a, b) return b or a end, function() return nil end, function() return false end,
  function() return 12 end, function() return {} end, function() error("no") end,
  function() return true end,
  { a = "A", b = 1, ab = false, [1] = "one" },
  setmetatable({}, { __index = function(_, k) return tostring(k) .. "!" end }) }

local uses = {
  find = function()
    local s, p, init, plain = subject(), any_pattern(), index(), pick { nil, false, false, true }
    return { s, p, init, plain }, answer(pcall(string.find, s, p, init, plain))
  end,
  match = function()
    local s, p, init = subject(), any_pattern(), index()
    return { s, p, init }, answer(pcall(string.match, s, p, init))
  end,
  gmatch = function()
    local s, p, t = subject(), any_pattern(), {}
    local ok = pcall(function()
      for a, b, c in s:gmatch(p) do t[#t + 1] = show(a, b, c) end
    end)
    return { s, p }, ok and table.concat(t, ";") or "error"
  end,
  gsub = function()
    local s, p, r, n = subject(), any_pattern(), pick(replacements),
      pick { nil, nil, nil, 0, 1, 2, -1, 1.5, 100 }
    return { s, p, type(r), n }, answer(pcall(string.gsub, s, p, r, n))
  end,
  format = function()
    local spec = "%" .. repeated(random(3), function() return pick { "-", "+", " ", "#", "0" } end)
      .. pick { "", "", "5", "12", "1", "99", "100" } .. pick { "", "", "", ".0", ".3", ".", ".20",
      ".100" } .. pick { "d", "i", "u", "c", "x", "X", "o", "e", "E", "f", "g", "G", "a", "A", "q",
      "s", "s", "d", "%", "y", "" }
    local value = pick { 0, 1, -1, 3.7, -3.7, 65, 1e15, 1e100, -1e100, 2 ^ 53, 2 ^ 63, -2 ^ 63,
      2 ^ 64, 0.1, 1 / 3, 1 / 0, -1 / 0, 0 / 0, 123456789, 1e-10, 5e-324, "text", "12", "0x10",
      "a\0b", "q\"uo\\te\n\r\0001\200", ("long"):rep(60), true, false, { 1 },
      setmetatable({}, { __tostring = function() return "reported" end }),
      setmetatable({}, { __tostring = function() return 1 end }), print }
    if type(value) ~= "string" and type(value) ~= "number" and type(value) ~= "boolean"
      and not (type(value) == "table" and getmetatable(value)) then
      spec = spec:gsub("[sq]$", "d") -- an address is not the same twice
    end
    local before = pick { "", "x", "%%", "a\0" }
    return { before .. spec .. "|", tostring(tostring(value)):sub(1, 5) },
      answer(pcall(string.format, before .. spec .. "|", value))
  end,
}

local lines = {}
for i = 1, count do
  local input, output = uses[what]()
  for k = 1, 4 do input[k] = ("%q"):format(tostring(input[k])) end
  local line = what .. "(" .. table.concat(input, ", ") .. ") = " .. output
  lines[i] = line:gsub("\n", "\\n"):gsub("%z", "\\0")
end
return table.concat(lines, "\n")
