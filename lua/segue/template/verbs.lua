-- SPDX-License-Identifier: MIT
-- The verbs of printf, one value at a time: fmt's format.go and printValue.
local ffi = require "ffi"
local quote = require "segue.template.quote"
local text = require "segue.template.format"
local value = require "segue.template.value"

local format, rep, sub = string.format, string.rep, string.sub
local getmetatable, type, tonumber = getmetatable, type, tonumber
local concat = table.concat

---@class segue.template.flags
---@field sharp boolean
---@field plus boolean
---@field minus boolean
---@field zero boolean
---@field space boolean
---@field sharp_v boolean
---@field plus_v boolean
---@field width integer?
---@field precision integer?

local verbs = {}

local function padding(f, n, zero)
  return n > 0 and rep(zero and not f.minus and "0" or " ", n) or ""
end

local function pad(f, s, no_zero)
  if not f.width then return s end
  local missing = padding(f, f.width - quote.count(s), f.zero and not no_zero)
  return f.minus and s .. missing or missing .. s
end

local print_value

-- %!d(string=x)
local function bad_verb(f, v, verb)
  if v == nil or v == value.NULL then return "%!" .. verb .. "(<nil>)" end
  return "%!" .. verb .. "(" .. value.type_name(v) .. "=" .. print_value(f, v, "v") .. ")"
end

-- ---- Integers -----------------------------------------------------------------------------------

local bases = { d = 10, v = 10, b = 2, o = 8, O = 8, x = 16, X = 16 }
local letters = "0123456789abcdef"

local function digits_of(u, base)
  if base == 10 then return (tostring(u):gsub("ULL$", "")) end
  local out, n = {}, 0
  repeat
    n = n + 1
    local d = tonumber(u % base)
    out[n] = sub(letters, d + 1, d + 1)
    u = u / base
  until u == 0
  return concat(out):reverse()
end

local function sign_of(f, negative)
  return negative and "-" or f.plus and "+" or f.space and " " or ""
end

local function print_integer(f, v, verb)
  local signed = value.basic_kind(v) == "int"
  local bits = signed and value.int64_of(v) or value.uint64_of(v)
  local negative = signed and bits < 0
  local u = ffi.cast("uint64_t", negative and -bits or bits)
  local base = bases[verb]
  local digits = digits_of(u, base)
  local least = 0
  if f.precision then
    least = f.precision
    if least == 0 and u == 0 then return padding(f, f.width or 0) end
  elseif f.zero and f.width and not f.minus then
    least = f.width - ((negative or f.plus or f.space) and 1 or 0)
  end
  digits = rep("0", least - #digits) .. digits
  if verb == "X" then digits = digits:upper() end
  local prefix = ""
  if f.sharp then
    if base == 2 then prefix = "0b" end
    if base == 8 and sub(digits, 1, 1) ~= "0" then prefix = "0" end
    if base == 16 then prefix = verb == "X" and "0X" or "0x" end
  end
  if verb == "O" then prefix = "0o" .. prefix end
  return pad(f, sign_of(f, negative) .. prefix .. digits, true)
end

local function code_of(v)
  local bits = value.int64_of(v)
  return bits >= 0 and bits <= 0x10FFFF and tonumber(bits) or 0xFFFD
end

local function print_unicode(f, v)
  local bits = ffi.cast("uint64_t", value.int64_of(v))
  local digits = digits_of(bits, 16):upper()
  local least = f.precision and f.precision > 4 and f.precision or 4
  local s = "U+" .. rep("0", least - #digits) .. digits
  if f.sharp and bits <= 0x10FFFF and quote.is_printable(tonumber(bits)) then
    s = s .. " '" .. quote.encode(tonumber(bits)) .. "'"
  end
  return pad(f, s, true)
end

local function integer(f, v, verb)
  if verb == "v" and f.sharp_v and value.basic_kind(v) == "uint" then
    return print_integer({ sharp = true, width = f.width, minus = f.minus }, v, "x")
  end
  if bases[verb] then return print_integer(f, v, verb) end
  if verb == "c" then return pad(f, quote.encode(code_of(v))) end
  if verb == "q" then return pad(f, quote.quote_rune(code_of(v), f.plus)) end
  if verb == "U" then return print_unicode(f, v) end
  return bad_verb(f, v, verb)
end

-- ---- Floats -------------------------------------------------------------------------------------

local default_precision = { f = 6, F = 6, e = 6, E = 6 }

local function general(v, precision, letter)
  if not precision then
    local s = text.float(v)
    return letter == "G" and s:upper() or s
  end
  return text.c_format("%.*" .. letter, precision, v)
end

local function hex_float(v, precision, letter)
  local s = format(precision and "%." .. precision .. "a" or "%a", v)
  -- The C library rounds up to 0x2.0p+1, Go to 0x1.0p+2.
  local sign, rest, power = s:match "^(-?)0x2(.*)p([+-]%d+)$"
  if sign then s = format("%s0x1%sp%+d", sign, rest, power + 1) end
  s = s:gsub("p([+-])(%d)$", "p%10%2")
  return letter == "X" and s:upper() or s
end

-- Mantissa and exponent of 2.
local function binary_float(v)
  if math.abs(v) < 2.2250738585072014e-308 then
    return format("%.0fp-1074", v * 2 ^ 537 * 2 ^ 537)
  end
  local mantissa, exponent = math.frexp(v)
  return format("%.0fp%+d", mantissa * 2 ^ 53, exponent - 53)
end

-- The # flag: a decimal point always, and %g keeps the zeros at its end.
local function force_point(s, verb, precision)
  local body, tail = s:match "^(.-)([eEpP][+-]%d+)$"
  body, tail = body or s, tail or ""
  local wanted = 0
  if verb == "g" or verb == "G" or verb == "v" then wanted = precision or 6 end
  local found = #body:gsub("%D", ""):gsub("^0+", "")
  if verb == "x" or verb == "X" then -- Go counts the x, too
    wanted, found = precision or 6, #body:gsub("[.]", "") - 1
  end
  if not body:find("%.") then body = body .. "." end
  if found == 0 and wanted > 0 then found = 1 end
  return body .. rep("0", wanted - found) .. tail
end

local function print_float(f, v, verb)
  local precision = f.precision or default_precision[verb]
  local s
  if v ~= v then s = "NaN"
  elseif v == math.huge then s = "Inf"
  elseif v == -math.huge then s = "-Inf"
  elseif verb == "v" then s = general(v, precision, "g")
  elseif verb == "g" or verb == "G" then s = general(v, precision, verb)
  elseif verb == "x" or verb == "X" then s = hex_float(v, precision, verb)
  elseif verb == "b" then s = binary_float(v)
  else s = text.c_format("%.*" .. (verb == "F" and "f" or verb), precision, v) end
  local sign, body = s:match "^([+-]?)(.*)$"
  if sign == "" then sign = "+" end
  if f.space and sign == "+" and not f.plus then sign = " " end
  if body == "Inf" or body == "NaN" then
    local shows = f.plus or sign ~= "+" or body == "Inf" and f.plus
    if body == "NaN" and not f.space and not f.plus then shows = false end
    if body == "Inf" then shows = true end
    return pad(f, (shows and sign or "") .. body, true)
  end
  if f.sharp and verb ~= "b" then body = force_point(body, verb, f.precision) end
  if not f.plus and sign == "+" then return pad(f, body) end
  if f.zero and not f.minus and f.width and f.width > #body + 1 then
    return sign .. rep("0", f.width - #body - 1) .. body
  end
  return pad(f, sign .. body)
end

local float_verbs = { v = 1, b = 1, g = 1, G = 1, x = 1, X = 1, f = 1, F = 1, e = 1, E = 1 }

-- ---- Strings ------------------------------------------------------------------------------------

local function hex_string(f, s, verb)
  local length = f.precision and f.precision < #s and f.precision or #s
  if length == 0 then return f.width and padding(f, f.width, f.zero) or "" end
  local each = verb == "x" and "%02x" or "%02X"
  local prefix = f.sharp and "0" .. verb or ""
  local out = {}
  for i = 1, length do
    local separator = i == 1 and prefix or f.space and " " .. prefix or ""
    out[i] = separator .. format(each, s:byte(i))
  end
  return pad(f, concat(out))
end

local function string_verb(f, v, verb)
  if verb == "v" and f.sharp_v then verb = "q" end
  if verb == "x" or verb == "X" then return hex_string(f, v, verb) end
  if verb ~= "s" and verb ~= "v" and verb ~= "q" then return bad_verb(f, v, verb) end
  if f.precision then v = quote.truncate(v, f.precision) end
  if verb == "q" then
    if f.sharp and quote.can_backquote(v) then
      v = "`" .. v .. "`"
    else
      v = quote.quote(v, f.plus)
    end
  end
  return pad(f, v)
end

-- ---- Lists, maps, structs -----------------------------------------------------------------------

local containers = {}

function containers.list(f, v, verb)
  local out = {}
  for i = 1, #v do out[i] = print_value(f, v[i], verb, true) end
  return "[" .. concat(out, " ") .. "]"
end

function containers.map(f, v, verb)
  local out = {}
  for i, key in ipairs(value.sorted_keys(v)) do
    out[i] = print_value(f, key, verb, true) .. ":" .. print_value(f, v[key], verb, true)
  end
  return "map[" .. concat(out, " ") .. "]"
end

function containers.struct(f, v, verb)
  local m = getmetatable(v)
  if m.print then return string_verb(f, m.print(v), verb) end
  local out = {}
  for i, name in ipairs(m.fields) do
    out[i] = (f.plus_v and name .. ":" or "") .. print_value(f, v[name], verb, true)
  end
  return "{" .. concat(out, " ") .. "}"
end

containers.channel = function(f, v, verb) return bad_verb(f, v, verb) end

-- inside: of a list, map or struct, where null is <nil> for every verb.
function print_value(f, v, verb, inside)
  local t = type(v)
  if v == nil or v == value.NULL then
    if inside then return "<nil>" end
    return verb == "v" and pad(f, "<nil>") or bad_verb(f, nil, verb)
  end
  if t == "string" then return string_verb(f, v, verb) end
  if t == "boolean" then
    if verb ~= "t" and verb ~= "v" then return bad_verb(f, v, verb) end
    return pad(f, tostring(v))
  end
  if t == "table" then return containers[getmetatable(v).kind](f, v, verb) end
  if value.kind(v) == "float64" then
    if not float_verbs[verb] then return bad_verb(f, v, verb) end
    return print_float(f, v.v, verb)
  end
  return integer(f, v, verb)
end

-- A value by a verb; %T is its type.
---@param f segue.template.flags
---@param v any
---@param verb string
---@return string
function verbs.print(f, v, verb)
  if verb == "T" then return string_verb(f, value.type_name(v), "s") end
  if verb == "p" then return bad_verb(f, v, verb) end
  return print_value(f, v, verb)
end

return verbs
