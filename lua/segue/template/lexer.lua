-- SPDX-License-Identifier: MIT
-- The lexer of templates: Go's text/template/parse/lex.go, byte for byte, but all tokens are made
-- at once and lines are counted only for errors. Patterns of Lua are not used: LuaJIT does not
-- compile them, and the lexer takes most of the time of a template that is rendered once.
local L = require "segue.template.scan"
local quote = require "segue.template.quote"

local byte, sub, find = string.byte, string.sub, string.find
local space, alnum, digit, signs = L.space, L.alnum, L.digit, L.signs

---@class segue.template.tokens
---@field kind string[] "text", "left", "space", "field", "if" ...; the last is "eof" or "error"
---@field value string[] the text of the token; the message of an error
---@field pos integer[] of the first byte, from 1
---@field count integer

local lexer = {}

local keywords = {
  ["block"] = true, ["break"] = true, ["continue"] = true, ["define"] = true, ["else"] = true,
  ["end"] = true, ["if"] = true, ["nil"] = true, ["range"] = true, ["template"] = true,
  ["with"] = true,
}
lexer.keywords = keywords

-- Each state returns the next one; nil ends.
local inside, text_state

local function comment(self)
  local from = self.at
  local close = find(self.text, "*/", from + 2, true)
  self.start = from
  if not close then return self:fail "unclosed comment" end
  self.at = close + 2
  local is_right, trims = self:at_right()
  if not is_right then return self:fail "comment ends before closing delimiter" end
  self.at = self.at + (trims and 2 or 0) + #self.right
  if trims then self.at = self:skip_space(self.at) end
  self.start = self.at
  return text_state
end

function text_state(self)
  local from = self.at
  local left = find(self.text, self.left, from, true)
  if not left then
    self.at = #self.text + 1
    if self.at > from then self:emit "text" end
    self:emit("eof", "")
    return
  end
  local after = left + #self.left
  local trims = self:is_left_trim(after)
  local last = left
  if trims then
    while last > from and space[byte(self.text, last - 1)] do last = last - 1 end
  end
  self.at = last
  if last > from then self:emit "text" end
  self.start, self.at = left, after
  local skipped = trims and after + 2 or after
  if sub(self.text, skipped, skipped + 1) == "/*" then
    self.at = skipped
    return comment
  end
  self:emit "left"
  self.at, self.start, self.depth = skipped, skipped, 0
  return inside
end

local function right_delimiter(self)
  local trims = space[byte(self.text, self.at)] and byte(self.text, self.at + 1) == 45
  if trims then
    self.at = self.at + 2
    self.start = self.at
  end
  self.at = self.at + #self.right
  self:emit "right"
  if trims then
    self.at = self:skip_space(self.at)
    self.start = self.at
  end
  return text_state
end

local function spaces(self)
  local from = self.at
  local at = self:skip_space(from)
  self.at = at
  if byte(self.text, at) == 45 and self:starts(at + 1, self.right) then
    self.at = at - 1 -- the last of them belongs to the trim marker
    if at - from == 1 then return right_delimiter end
  end
  self:emit "space"
  return inside
end

local function identifier(self)
  self:take_word()
  if not self:ends_word() then return self:fail_character() end
  local word = sub(self.text, self.start, self.at - 1)
  if keywords[word] then
    self:emit(word, word)
  elseif word == "true" or word == "false" then
    self:emit("bool", word)
  else
    self:emit("identifier", word)
  end
  return inside
end

local function field_or_variable(self, kind)
  if self:ends_word() then
    self:emit(kind == "variable" and kind or "dot")
    return inside
  end
  self:take_word()
  if not self:ends_word() then return self:fail_character() end
  self:emit(kind)
  return inside
end

-- Quoted text up to the closing byte; escapes are read by the parser.
local function quoted(self, close, kind, name)
  while true do
    local c = byte(self.text, self.at)
    self.at = self.at + 1
    if c == 92 then
      c = byte(self.text, self.at)
      self.at = self.at + 1
      if c == 10 then c = nil end
    elseif c == close then
      self:emit(kind)
      return inside
    end
    if not c or c == 10 then return self:fail("unterminated " .. name) end
  end
end

local function raw_string(self)
  local close = find(self.text, "`", self.at, true)
  if not close then return self:fail "unterminated raw quoted string" end
  self.at = close + 1
  self:emit "raw"
  return inside
end

local function number(self)
  local good = self:scan_number()
  local kind = "number"
  if good and signs[byte(self.text, self.at)] then
    good = self:scan_number() and byte(self.text, self.at - 1) == 105
    kind = "complex"
  end
  if not good then
    return self:fail("bad number syntax: " .. quote.quote(sub(self.text, self.start, self.at - 1)))
  end
  self:emit(kind)
  return inside
end

local single = { [61] = "assign", [124] = "pipe" }

function inside(self)
  if self:at_right() then
    if self.depth == 0 then return right_delimiter end
    return self:fail "unclosed left paren"
  end
  local c = byte(self.text, self.at)
  if not c then return self:fail "unclosed action" end
  if space[c] then return spaces end
  if (c >= 48 and c <= 57) or c == 43 or c == 45 then return number end
  if alnum[c] then return identifier end
  self.at = self.at + 1
  if c == 46 then
    local after = byte(self.text, self.at)
    if after and not digit[after] then return field_or_variable(self, "field") end
    self.at = self.at - 1
    return number
  end
  if c == 36 then return field_or_variable(self, "variable") end
  if c == 34 then return quoted(self, 34, "string", "quoted string") end
  if c == 39 then return quoted(self, 39, "character", "character constant") end
  if c == 96 then return raw_string end
  if single[c] then
    self:emit(single[c])
  elseif c == 58 then
    if byte(self.text, self.at) ~= 61 then return self:fail "expected :=" end
    self.at = self.at + 1
    self:emit "declare"
  elseif c == 40 then
    self:emit "("
    self.depth = self.depth + 1
  elseif c == 41 then
    self.depth = self.depth - 1
    if self.depth < 0 then return self:fail "unexpected right paren" end
    self:emit ")"
  elseif c > 32 and c < 127 then
    self:emit "char"
  else
    self.at = self.at - 1
    if self:is_word(self.at) then return identifier end
    local shown = quote.unicode(self:rune(self.at), true)
    return self:fail("unrecognized character in action: " .. shown)
  end
  return inside
end

---@param text string
---@param left? string delimiter; empty or nil: {{
---@param right? string
---@return segue.template.tokens
function lexer.run(text, left, right)
  local self = setmetatable({
    text = text, at = 1, start = 1, depth = 0,
    left = left and left ~= "" and left or "{{", right = right and right ~= "" and right or "}}",
    tokens = { kind = {}, value = {}, pos = {}, count = 0 },
  }, L)
  local state = text_state
  while state do state = state(self) end
  return self.tokens
end

-- A token as error messages show it.
---@param tokens segue.template.tokens
---@param index integer
---@return string
function lexer.describe(tokens, index)
  local kind, value = tokens.kind[index], tokens.value[index]
  if kind == "eof" then return "EOF" end
  if kind == "error" then return value end
  if keywords[kind] or kind == "dot" then return "<" .. value .. ">" end
  local short = quote.truncate(value, 10)
  -- Go counts bytes to decide and characters to cut.
  if #value > 10 then return quote.quote(short) .. "..." end
  return quote.quote(value)
end

return lexer
