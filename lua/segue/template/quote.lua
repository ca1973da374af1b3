-- SPDX-License-Identifier: MIT
-- UTF-8 and Go's string literals: strconv.Quote, strconv.Unquote, %U.
local unicode = require "segue.template.unicode"

local byte, char, sub, format = string.byte, string.char, string.sub, string.format
local concat = table.concat

local quote = {}

local RUNE_ERROR = 0xFFFD

local function continues(text, at)
  local c = byte(text, at)
  return c and c >= 0x80 and c < 0xC0 and c - 0x80
end

-- Decodes the character at a byte.
---@param text string
---@param at integer
---@return integer code U+FFFD where the bytes are no UTF-8
---@return integer length in bytes
function quote.decode(text, at)
  local c = byte(text, at)
  if c < 0x80 then return c, 1 end
  if c < 0xC2 or c > 0xF4 then return RUNE_ERROR, 1 end
  local b = continues(text, at + 1)
  if not b then return RUNE_ERROR, 1 end
  if c < 0xE0 then return (c - 0xC0) * 64 + b, 2 end
  local d = continues(text, at + 2)
  if not d then return RUNE_ERROR, 1 end
  if c < 0xF0 then
    local code = (c - 0xE0) * 4096 + b * 64 + d
    if code < 0x800 or (code >= 0xD800 and code < 0xE000) then return RUNE_ERROR, 1 end
    return code, 3
  end
  local e = continues(text, at + 3)
  local code = e and (c - 0xF0) * 262144 + b * 4096 + d * 64 + e
  if not code or code < 0x10000 or code > 0x10FFFF then return RUNE_ERROR, 1 end
  return code, 4
end

---@param code integer
---@return string
function quote.encode(code)
  if code < 0 or code > 0x10FFFF or (code >= 0xD800 and code < 0xE000) then code = RUNE_ERROR end
  local floor = math.floor
  if code < 0x80 then return char(code) end
  if code < 0x800 then return char(0xC0 + floor(code / 64), 0x80 + code % 64) end
  if code < 0x10000 then
    return char(0xE0 + floor(code / 4096), 0x80 + floor(code / 64) % 64, 0x80 + code % 64)
  end
  return char(0xF0 + floor(code / 262144), 0x80 + floor(code / 4096) % 64,
    0x80 + floor(code / 64) % 64, 0x80 + code % 64)
end

-- The number of characters; each byte that is no UTF-8 counts as one.
---@param text string
---@return integer
function quote.count(text)
  local n, at, len = 0, 1, #text
  while at <= len do
    local c = byte(text, at)
    local length = 1
    if c >= 0x80 then length = select(2, quote.decode(text, at)) end
    at, n = at + length, n + 1
  end
  return n
end

-- The first n characters.
---@param text string
---@param n integer
---@return string
function quote.truncate(text, n)
  local at, len = 1, #text
  while at <= len and n > 0 do
    local _, length = quote.decode(text, at)
    at, n = at + length, n - 1
  end
  return sub(text, 1, at - 1)
end

---@param code integer
---@return boolean
function quote.is_printable(code)
  if code < 0x80 then return code >= 0x20 and code < 0x7F end
  return unicode.is_printable(quote.encode(code))
end

local escapes = {
  [7] = "\\a", [8] = "\\b", [12] = "\\f", [10] = "\\n", [13] = "\\r", [9] = "\\t", [11] = "\\v",
}

local function escape_code(code, ascii)
  if escapes[code] then return escapes[code] end
  if code < 0x20 or code == 0x7F then return format("\\x%02x", code) end
  if not ascii and quote.is_printable(code) then return quote.encode(code) end
  if code < 0x80 then return char(code) end
  if code < 0x10000 then return format("\\u%04x", code) end
  return format("\\U%08x", code)
end

local function quote_with(text, mark, ascii)
  local out, n, at, len = { mark }, 1, 1, #text
  local mark_byte = byte(mark)
  while at <= len do
    local code, length = quote.decode(text, at)
    n = n + 1
    if code == RUNE_ERROR and length == 1 then
      out[n] = format("\\x%02x", byte(text, at))
    elseif code == mark_byte or code == 92 then
      out[n] = "\\" .. char(code)
    else
      out[n] = escape_code(code, ascii)
    end
    at = at + length
  end
  out[n + 1] = mark
  return concat(out)
end

-- strconv.Quote, or QuoteToASCII.
---@param text string
---@param ascii? boolean
---@return string
function quote.quote(text, ascii)
  return quote_with(text, '"', ascii)
end

-- strconv.QuoteRune, or QuoteRuneToASCII.
---@param code integer
---@param ascii? boolean
---@return string
function quote.quote_rune(code, ascii)
  return quote_with(quote.encode(code), "'", ascii)
end

-- strconv.CanBackquote
---@param text string
---@return boolean
function quote.can_backquote(text)
  local at, len = 1, #text
  while at <= len do
    local code, length = quote.decode(text, at)
    if code == RUNE_ERROR and length == 1 or code == 0xFEFF then return false end
    if (code < 0x20 and code ~= 9) or code == 96 or code == 0x7F then return false end
    at = at + length
  end
  return true
end

-- fmt's %U, with the character: %#U.
---@param code integer
---@param with_character? boolean
---@return string
function quote.unicode(code, with_character)
  local text = format("U+%04X", code)
  if with_character and quote.is_printable(code) then
    text = text .. " '" .. quote.encode(code) .. "'"
  end
  return text
end

local simple = {
  a = "\a", b = "\b", f = "\f", n = "\n", r = "\r", t = "\t", v = "\v", ["\\"] = "\\",
}
local hex_digits = { x = 2, u = 4, U = 8 }

-- One character of a literal in quotes. Returns its bytes, the next byte and the code point, or nil
-- where the syntax is wrong.
---@param text string
---@param at integer
---@param mark integer the quote's byte
---@return string?, integer?, integer?
function quote.unquote_char(text, at, mark)
  local c = byte(text, at)
  if not c or c == mark or c == 10 then return nil end
  if c ~= 92 then
    local code, length = quote.decode(text, at)
    return sub(text, at, at + length - 1), at + length, code
  end
  local letter = sub(text, at + 1, at + 1)
  if letter == "" then return nil end
  if simple[letter] then return simple[letter], at + 2, byte(simple[letter]) end
  if (letter == '"' or letter == "'") and byte(letter) == mark then
    return letter, at + 2, mark
  end
  local digits = hex_digits[letter]
  if digits then
    local hex = sub(text, at + 2, at + 1 + digits)
    if #hex < digits or hex:find "%X" then return nil end
    local code = tonumber(hex, 16)
    if letter == "x" then return char(code), at + 4, code end
    if code > 0x10FFFF or (code >= 0xD800 and code < 0xE000) then return nil end
    return quote.encode(code), at + 2 + digits, code
  end
  local octal = sub(text, at + 1, at + 3):match "^[0-7][0-7][0-7]$"
  local code = octal and tonumber(octal, 8)
  if not code or code > 255 then return nil end
  return char(code), at + 4, code
end

-- strconv.Unquote of a string literal; nil where its syntax is wrong.
---@param literal string with its quotes
---@return string?
function quote.unquote(literal)
  local mark = byte(literal)
  local inner = sub(literal, 2, -2)
  if mark == 96 then return (inner:gsub("\r", "")) end
  if not inner:find("[\\\n\"]") then return inner end
  local out, at, n = {}, 1, 0
  while at <= #inner do
    local text, after = quote.unquote_char(inner, at, mark)
    if not text then return nil end
    n = n + 1
    out[n], at = text, after
  end
  return concat(out)
end

return quote
