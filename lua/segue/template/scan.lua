-- SPDX-License-Identifier: MIT
-- The tokens that the lexer recognizes inside of an action: white space, words, numbers,
-- delimiters.
local unicode = require "segue.template.unicode"
local quote = require "segue.template.quote"

local byte, sub = string.byte, string.sub

-- Classes of ASCII bytes. Strings are immutable, so that these tables are all that is shared.
local space, alnum, digit = {}, {}, {}
for _, c in ipairs { 32, 9, 13, 10 } do space[c] = true end
for c = 0, 127 do
  local s = string.char(c)
  if s:find "[%w_]" then alnum[c] = true end
  if s:find "%d" then digit[c] = true end
end
-- . , | : ( )
local ends_word = { [46] = true, [44] = true, [124] = true, [58] = true, [40] = true, [41] = true }
local function set_of(text)
  local set = {}
  for i = 1, #text do set[byte(text, i)] = true end
  return set
end
local decimal, hexadecimal = set_of "0123456789_", set_of "0123456789abcdefABCDEF_"
local octal, binary = set_of "01234567_", set_of "01_"

---@class segue.template.lexer
---@field text string
---@field left string
---@field right string
---@field at integer next byte
---@field start integer first byte of the token
---@field depth integer open parentheses
local L = {}
L.__index = L

function L:emit(kind, value)
  local t = self.tokens
  local n = t.count + 1
  t.count = n
  t.kind[n] = kind
  t.value[n] = value or sub(self.text, self.start, self.at - 1)
  t.pos[n] = self.start
  self.start = self.at
end

function L:fail(message)
  self:emit("error", message)
end

-- The code point at a byte and its length; U+FFFD and 1 where the text is not UTF-8.
function L:rune(at)
  local c = byte(self.text, at)
  if not c then return nil, 0 end
  if c < 128 then return c, 1 end
  return quote.decode(self.text, at)
end

function L:is_word(at)
  local c = byte(self.text, at)
  if not c then return false, 0 end
  if c < 128 then return alnum[c] or false, 1 end
  local code, length = quote.decode(self.text, at)
  if code == 0xFFFD and length == 1 then return false, 1 end
  return unicode.is_letter(sub(self.text, at, at + length - 1)), length
end

function L:starts(at, what)
  return byte(self.text, at) == byte(what) and sub(self.text, at, at + #what - 1) == what
end

-- Whether the right delimiter is next, and whether it has a trim marker.
function L:at_right()
  local c = byte(self.text, self.at)
  if space[c] and byte(self.text, self.at + 1) == 45 and self:starts(self.at + 2, self.right) then
    return true, true
  end
  return self:starts(self.at, self.right), false
end

function L:skip_space(at)
  while space[byte(self.text, at)] do at = at + 1 end
  return at
end

function L:is_left_trim(at)
  return byte(self.text, at) == 45 and space[byte(self.text, at + 1)] or false
end

function L:ends_word()
  local c = byte(self.text, self.at)
  return not c or space[c] or ends_word[c] or self:starts(self.at, self.right)
end

function L:fail_character()
  local code = self:rune(self.at)
  return self:fail("bad character " .. quote.unicode(code, true))
end

function L:take_word()
  while true do
    local is_word, length = self:is_word(self.at)
    if not is_word then return end
    self.at = self.at + length
  end
end

function L:accept(set)
  if set[byte(self.text, self.at)] then
    self.at = self.at + 1
    return true
  end
  return false
end

function L:accept_run(set)
  while set[byte(self.text, self.at)] do self.at = self.at + 1 end
end

local signs, zero, dot, imaginary = set_of "+-", set_of "0", set_of ".", set_of "i"
local x, o, b, e, p = set_of "xX", set_of "oO", set_of "bB", set_of "eE", set_of "pP"

function L:scan_number()
  local digits = decimal
  self:accept(signs)
  if self:accept(zero) then
    if self:accept(x) then digits = hexadecimal
    elseif self:accept(o) then digits = octal
    elseif self:accept(b) then digits = binary end
  end
  self:accept_run(digits)
  if self:accept(dot) then self:accept_run(digits) end
  if (digits == decimal and self:accept(e)) or (digits == hexadecimal and self:accept(p)) then
    self:accept(signs)
    self:accept_run(decimal)
  end
  self:accept(imaginary)
  local is_word, length = self:is_word(self.at)
  if is_word then self.at = self.at + length end
  return not is_word
end

L.space, L.alnum, L.digit, L.signs = space, alnum, digit, signs

return L
