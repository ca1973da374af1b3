-- SPDX-License-Identifier: MIT
-- Reads TOML 1.0 (https://toml.io/en/v1.0.0). Dates and times are strings, because no setting of
-- confd is one. The result: scanner.lua.
local scanner = require "segue.import.scanner"

local value

local function spaces(s) s:take "[ \t]*" end

-- Spaces, comments and ends of lines.
local function blank(s)
  repeat
    local before = s.at
    s:take "[ \t\r\n]+"
    s:take "#[^\n]*"
  until s.at == before
end

local function line_end(s)
  spaces(s)
  s:take "#[^\n]*"
  if not s:take "\r?\n" and s:peek() ~= "" then
    s:fail("expected the end of the line, found " .. s:here())
  end
end

-- '...' or '''...''': no escapes.
local function literal(s)
  if s:peek(3) == "'''" then
    s:skip(3)
    s:take "\r?\n"
    local found = s.text:find("'''", s.at, true)
    if not found then s:fail "the string has no end: ''' is missing" end
    while s.text:sub(found + 3, found + 3) == "'" do found = found + 1 end
    local text = s.text:sub(s.at, found - 1)
    s:skip(#text + 3)
    return text
  end
  s:skip(1)
  local text = s:take "[^'\n]*"
  if s:peek() ~= "'" then s:fail "the string has no end: ' is missing" end
  s:skip(1)
  return text
end

local function basic(s)
  local long = s:peek(3) == '"""'
  s:skip(long and 3 or 1)
  if long then s:take "\r?\n" end
  local parts = {}
  while true do
    parts[#parts + 1] = s:take(long and '[^"\\]+' or '[^"\\\n]+')
    local c = s:peek()
    if c == "\\" then
      s:skip(1)
      if not (long and s:take "[ \t]*\r?\n[ \t\r\n]*") then
        parts[#parts + 1] = s:escape(scanner.escapes)
      end
    elseif c == '"' and not long then
      s:skip(1)
      return table.concat(parts)
    elseif c == '"' then
      local quotes = s:take '"+'
      if #quotes > 5 then s:fail('at most two " may stand before the end of the string') end
      if #quotes >= 3 then
        parts[#parts + 1] = quotes:sub(4)
        return table.concat(parts)
      end
      parts[#parts + 1] = quotes
    else
      s:fail('the string has no end: ' .. (long and '"""' or '"') .. " is missing")
    end
  end
end

-- a, "a b" or a.b
---@return string[]
local function key(s)
  local path = {}
  repeat
    spaces(s)
    local c = s:peek()
    path[#path + 1] = c == '"' and basic(s) or c == "'" and literal(s) or s:take "[%w_%-]+"
      or s:fail("expected a key, found " .. s:here())
    spaces(s)
  until not s:take "%."
  return path
end

-- The object of a path below another one; makes what is missing. In place of a list its last item
-- is used. `dotted`: of a dotted key, whose tables no header may name again.
local function descend(s, object, path, last, dotted)
  for i = 1, last do
    local entry = scanner.find(object, path[i])
    if not entry then
      entry = { name = path[i], line = s.line,
        value = { entries = {}, line = s.line, defined = dotted } }
      object.entries[#object.entries + 1] = entry
    end
    object = entry.value
    if type(object) == "table" and object.list then object = object[#object] end
    if type(object) ~= "table" or not object.entries then
      s:fail("'" .. path[i] .. "' has a value already (line " .. entry.line .. ")")
    end
  end
  return object
end

local function put(s, object, path, line, v)
  object = descend(s, object, path, #path - 1, true)
  local name = path[#path]
  local found = scanner.find(object, name)
  if found then s:fail("'" .. name .. "' is set twice (line " .. found.line .. ")") end
  object.entries[#object.entries + 1] = { name = name, line = line, value = v }
end

local function pair(s, object)
  local line = s.line
  local path = key(s)
  if not s:take "=" then s:fail("expected = after the key, found " .. s:here()) end
  spaces(s)
  put(s, object, path, line, value(s))
end

local function inline_table(s)
  local object = { entries = {}, line = s.line }
  s:skip(1)
  spaces(s)
  if s:take "}" then return object end
  repeat
    spaces(s)
    pair(s, object)
    spaces(s)
  until not s:take ","
  if not s:take "}" then s:fail("expected , or }, found " .. s:here()) end
  return object
end

local function number(s, word)
  local digits = word:gsub("_", "")
  local base = ({ x = 16, o = 8, b = 2 })[digits:match "^0([xob])"]
  local n
  if base then
    n = tonumber(digits:sub(3), base)
  elseif digits:match "^[%+%-]?inf$" then
    n = digits:sub(1, 1) == "-" and -math.huge or math.huge
  elseif digits:match "^[%+%-]?nan$" then
    n = 0 / 0
  elseif not digits:match "^[%+%-]?0%d" and not digits:match "%.%D" and not digits:match "%.$"
    and digits:match "^[%+%-]?%d[%d%.eE%+%-]*$" then
    n = tonumber((digits:gsub("^%+", "")))
  end
  if not n or word:find "_[^%x]" or word:find "[^%x]_" or word:find "_$" then
    s:fail("'" .. word .. "' is no value: a text needs quotes")
  end
  return n
end

function value(s)
  local c = s:peek()
  if c == '"' then return basic(s) end
  if c == "'" then return literal(s) end
  if c == "[" then return s:list(blank, value) end
  if c == "{" then return inline_table(s) end
  local date = s:take "%d%d%d%d%-%d%d%-%d%d[Tt ]%d%d:%d%d:%d%d[%d%.Zz%+%-:]*"
    or s:take "%d%d%d%d%-%d%d%-%d%d" or s:take "%d%d:%d%d:%d%d[%d%.]*"
  if date then return date end
  local word = s:take "[%w_%.%+%-]+"
  if not word then s:fail("expected a value, found " .. s:here()) end
  if word == "true" or word == "false" then return word == "true" end
  return number(s, word)
end

-- [a.b] or [[a.b]]: the object that the following pairs belong to.
local function header(s, root)
  local line = s.line
  local many = s:peek(2) == "[["
  s:skip(many and 2 or 1)
  local path = key(s)
  if not s:take(many and "%]%]" or "%]") then
    s:fail("expected " .. (many and "]]" or "]") .. ", found " .. s:here())
  end
  if not many then
    local object = descend(s, root, path, #path)
    if object.defined then s:fail("the table is here twice (line " .. object.line .. ")") end
    object.defined, object.line = true, line
    return object
  end
  local parent = descend(s, root, path, #path - 1)
  local entry = scanner.find(parent, path[#path])
  if not entry then
    entry = { name = path[#path], line = line, value = { list = true } }
    parent.entries[#parent.entries + 1] = entry
  elseif type(entry.value) ~= "table" or not entry.value.list then
    s:fail("'" .. entry.name .. "' has a value already (line " .. entry.line .. ")")
  end
  local object = { entries = {}, line = line }
  table.insert(entry.value, object)
  return object
end

---@param text string
---@param file string
---@return segue.import.object
return function(text, file)
  local s = scanner.new(text, file)
  local bad = s.text:find "[%z\1-\8\11\12\14-\31\127]" or (s.text .. "\n"):find "\r[^\n]"
  if bad then
    s:skip(bad - 1)
    s:fail(("the control character 0x%02x must not be here"):format(s.text:byte(bad)))
  end
  local root = { entries = {}, line = 1 }
  local current = root
  while true do
    blank(s)
    if s:peek() == "" then return root end
    if s:peek() == "[" then
      current = header(s, root)
    else
      pair(s, current)
    end
    line_end(s)
  end
end
