-- SPDX-License-Identifier: MIT
-- Reads HCL 1 (https://github.com/hashicorp/hcl/tree/hcl1), which consul-template's configuration
-- is written in, and the JSON that it takes in the place of it. The result: scanner.lua.
local scanner = require "segue.import.scanner"

local value, object

local escapes = setmetatable({ a = "\a", v = "\v" }, { __index = scanner.escapes })

-- Spaces and comments.
local function blank(s)
  repeat
    local before = s.at
    s:take "%s+"
    if not s:take "#[^\n]*" then s:take "//[^\n]*" end
    if s:peek(2) == "/*" then
      local _, last = s.text:find("*/", s.at + 2, true)
      if not last then s:fail "the comment has no end: */ is missing" end
      s:skip(last - s.at + 1)
    end
  until s.at == before
end

-- "..."; within ${...} quotes and newlines are characters.
local function quoted(s)
  s:skip(1)
  local parts, depth = {}, 0
  while true do
    local c = s:peek()
    if s:peek(2) == "${" then
      depth, parts[#parts + 1] = depth + 1, "${"
      s:skip(2)
    elseif depth > 0 and c ~= "" then
      if c == "}" then depth = depth - 1 end
      if c == "{" then depth = depth + 1 end
      parts[#parts + 1] = c
      s:skip(1)
    elseif c == '"' then
      s:skip(1)
      return table.concat(parts)
    elseif c == "\\" then
      s:skip(1)
      parts[#parts + 1] = s:escape(escapes)
    elseif c == "" or c == "\n" then
      s:fail 'the string has no end: " is missing'
    else
      parts[#parts + 1] = s:take '[^"\\\n$]+' or s:take "%$"
    end
  end
end

-- <<NAME, lines, NAME. With <<-NAME the indentation of the last line is cut off, if all lines have
-- it; with <<NAME it is text.
local function heredoc(s)
  local dash = s:take "<<%-" ~= nil
  if not dash then s:skip(2) end
  local name = s:take "[%w_]+"
  if not name or not s:take "\r?\n" then s:fail "<< needs a name and the end of the line" end
  local lines, indent = {}
  repeat
    local line = s:take "[^\n]*"
    indent = line:match("^(%s*)" .. name .. "$")
    if not indent then
      if not s:take "\n" then s:fail("the text has no end: a line " .. name .. " is missing") end
      lines[#lines + 1] = line .. "\n"
    end
  until indent
  if not dash then return table.concat(lines) .. indent end
  local cut = true
  for _, line in ipairs(lines) do cut = cut and line:sub(1, #indent) == indent end
  for i, line in ipairs(lines) do lines[i] = cut and line:sub(#indent + 1) or line end
  return table.concat(lines)
end

function value(s)
  local c = s:peek()
  if c == '"' then return quoted(s) end
  if s:peek(2) == "<<" then return heredoc(s) end
  if c == "[" then return s:list(blank, value) end
  if c == "{" then
    s:skip(1)
    return object(s, "}")
  end
  local word = s:take "[%w_%.%+%-]+"
  if word == "true" or word == "false" then return word == "true" end
  local n = word and (word:match "^%-?0x%x+$" or not word:match "x") and tonumber(word)
  if n and word:match "^%-?0%d+$" then n = tonumber(word, 8) end -- perms = 0644
  if not n then
    s:fail(word and "'" .. word .. "' is no value: a text needs quotes"
      or "expected a value, found " .. s:here())
  end
  return n
end

-- name = value, or name "label" { ... }
local function entry(s)
  local line = s.line
  local function word() return s:peek() == '"' and quoted(s) or s:take "[%a_][%w_%.%-]*" end
  local name = word()
  if not name then s:fail("expected a setting, found " .. s:here()) end
  local labels = {}
  while true do
    blank(s)
    if s:take "[=:]" then
      if #labels > 0 then s:fail("a block with a label needs { instead of =") end
      blank(s)
      return { name = name, line = line, value = value(s) }
    elseif s:peek() == "{" then
      return { name = name, line = line, value = value(s), labels = labels }
    end
    local label = word()
    if not label then s:fail("expected = or { after '" .. name .. "', found " .. s:here()) end
    labels[#labels + 1] = label
  end
end

-- The entries up to a character; "" is the end of the file.
function object(s, last)
  local result = { entries = {}, line = s.line }
  while true do
    blank(s)
    if s:peek() == last then
      s:skip(#last)
      return result
    end
    if s:peek() == "" then s:fail("} is missing: the block began in line " .. result.line) end
    result.entries[#result.entries + 1] = entry(s)
    blank(s)
    s:take ","
  end
end

---@param text string
---@param file string
---@return segue.import.object
return function(text, file)
  local s = scanner.new(text, file)
  blank(s)
  if s:peek() ~= "{" then return object(s, "") end
  s:skip(1)
  local root = object(s, "}")
  blank(s)
  if s:peek() ~= "" then s:fail("expected the end of the file, found " .. s:here()) end
  return root
end
