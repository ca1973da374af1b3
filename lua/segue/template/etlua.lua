-- SPDX-License-Identifier: MIT
-- Templates in Lua: a text with Lua code between <% and %>, in the form of etlua. <%= expression %>
-- and <%- expression %> write a value as it is; -%> takes the end of its line with it. The result
-- is Lua code with the line of the template for each of its own lines.
local etlua = {}

---@class segue.template.chunk
---@field code string
---@field lines integer[] line of the code -> line of the template

local function add(out, lines, text, line)
  out[#out + 1] = text
  local _, count = text:gsub("\n", "")
  for i = 0, count do lines[#lines + 1] = line + i end
end

-- A text is one line of the code.
local function add_text(out, lines, text, line)
  if text == "" then return end
  local quoted = ("%q"):format(text):gsub("\\\n", "\\n"):gsub("\r", "\\r")
  add(out, lines, "write(" .. quoted .. ")", line)
end

-- The end of the code that begins at `from`. "%>" inside of a text of Lua ends it too, as in etlua.
local function close_of(text, from)
  local at = text:find("%>", from, true)
  if not at then return nil end
  local trims = text:sub(at - 1, at - 1) == "-" and at - 1 >= from
  local behind = at + 2
  if trims and text:sub(behind, behind) == "\r" then behind = behind + 1 end
  if trims and text:sub(behind, behind) == "\n" then behind = behind + 1 end
  return trims and at - 2 or at - 1, behind
end

---@param text string
---@return segue.template.chunk?
---@return string? message
---@return integer? line
function etlua.compile(text)
  local out, lines, at, line = {}, {}, 1, 1
  while true do
    local open = text:find("<%", at, true)
    local before = text:sub(at, (open or 0) - 1)
    add_text(out, lines, before, line)
    line = line + select(2, before:gsub("\n", ""))
    if not open then break end
    local kind = text:match("^[=-]", open + 2)
    local from = open + 2 + (kind and 1 or 0)
    local last, behind = close_of(text, from)
    if not last then return nil, "unclosed <%", line end
    local code = text:sub(from, last)
    if kind then
      -- The parenthesis is on a line of its own, because the code may end in a comment. LuaJIT
      -- counts the last operation of the expression to that line.
      add(out, lines, "write(" .. code, line)
      add(out, lines, ")", lines[#lines])
    else
      add(out, lines, code, line)
    end
    line = line + select(2, text:sub(open, behind - 1):gsub("\n", ""))
    at = behind
  end
  lines[#lines + 1] = line
  return { code = table.concat(out, "\n") .. "\n", lines = lines }
end

return etlua
