-- SPDX-License-Identifier: MIT
-- A text with a position, and errors that name its line: shared by the readers of TOML and HCL.
--
-- Both readers return an object: { entries = { entry... }, line = n }. An entry is { name, value,
-- line, labels? }; a value is a string, a number, a boolean, a list { list = true, ... } or an
-- object.
local scanner = {}
scanner.__index = scanner

---@class segue.import.entry
---@field name string
---@field value any
---@field line integer
---@field labels? string[] of a block: template "a" { }

---@class segue.import.object
---@field entries segue.import.entry[]
---@field line integer

-- An error of reading; main.lua turns it into a message.
---@param file string
---@param line integer
---@param message string
function scanner.raise(file, line, message)
  error({ file = file, line = line, message = message }, 0)
end

---@param text string
---@param file string its name, for errors
function scanner.new(text, file)
  if text:sub(1, 3) == "\239\187\191" then text = text:sub(4) end -- a byte order mark
  return setmetatable({ text = text, at = 1, line = 1, file = file }, scanner)
end

function scanner:fail(message) scanner.raise(self.file, self.line, message) end

-- The next n characters; "" at the end.
function scanner:peek(n) return self.text:sub(self.at, self.at + (n or 1) - 1) end

-- Moves behind a text that was looked at.
function scanner:skip(n)
  local _, newlines = self.text:sub(self.at, self.at + n - 1):gsub("\n", "")
  self.line, self.at = self.line + newlines, self.at + n
end

-- Moves behind a match of the pattern here, and returns it; nil if there is none.
function scanner:take(pattern)
  local found = self.text:match("^" .. pattern, self.at)
  if found then self:skip(#found) end
  return found
end

-- The word at the position, for a message.
function scanner:here()
  local word = self.text:match("^[%w_%.%-]+", self.at) or self:peek()
  if word == "" then return "the end of the file" end
  if word == "\n" or word == "\r" then return "the end of the line" end
  return "'" .. word:sub(1, 40) .. "'"
end

-- A Unicode code point as UTF-8.
function scanner.utf8(code)
  local function tail(shift) return 0x80 + math.floor(code / 2 ^ shift) % 64 end
  if code < 0x80 then return string.char(code) end
  if code < 0x800 then return string.char(0xc0 + math.floor(code / 64), tail(0)) end
  if code < 0x10000 then
    return string.char(0xe0 + math.floor(code / 0x1000), tail(6), tail(0))
  end
  return string.char(0xf0 + math.floor(code / 0x40000), tail(12), tail(6), tail(0))
end

-- The escapes that both languages have; a reader may add others.
scanner.escapes = { b = "\b", t = "\t", n = "\n", f = "\f", r = "\r", ['"'] = '"', ["\\"] = "\\" }

-- The escape behind a backslash that was taken already.
---@param escapes table<string, string>
function scanner:escape(escapes)
  local c = self:peek()
  local digits = c == "u" and 4 or c == "U" and 8
  if digits then
    local hex = self.text:match("^%x+", self.at + 1) or ""
    local code = #hex >= digits and tonumber(hex:sub(1, digits), 16)
    if not code or code > 0x10ffff or (code >= 0xd800 and code < 0xe000) then
      self:fail("\\" .. c .. " needs " .. digits .. " hexadecimal digits of a character")
    end
    self:skip(1 + digits)
    return scanner.utf8(code)
  end
  local found = escapes[c]
  if not found then self:fail("\\" .. c .. " is no escape: write \\\\ for a backslash") end
  self:skip(1)
  return found
end

---@param object segue.import.object
---@param name string
---@return segue.import.entry?
function scanner.find(object, name)
  for _, entry in ipairs(object.entries) do
    if entry.name == name then return entry end
  end
end

-- A list in brackets, whose last comma may be followed by nothing.
---@param blank fun(s) skips blanks, ends of lines and comments
---@param value fun(s): any reads one item
function scanner:list(blank, value)
  local items = { list = true }
  self:skip(1)
  while true do
    blank(self)
    if self:take "%]" then return items end
    items[#items + 1] = value(self)
    blank(self)
    if not self:take "," and self:peek() ~= "]" then
      self:fail("expected , or ], found " .. self:here())
    end
  end
end

return scanner
