-- SPDX-License-Identifier: MIT
-- Nodes as text, in the normal form that error messages show, and their positions.
local quote = require "segue.template.quote"

local concat = table.concat

local node = {}

-- The line of a byte, from 1.
---@param text string
---@param pos integer from 1
---@return integer line
---@return integer column of the byte in its line, from 0
function node.line(text, pos)
  local line, from = 1, 1
  while true do
    local newline = text:find("\n", from, true)
    if not newline or newline >= pos then return line, pos - from end
    line, from = line + 1, newline + 1
  end
end

local texts = {}

---@param n segue.template.node
---@return string
function node.text(n)
  return texts[n.k](n)
end

local function fields(n)
  return "." .. concat(n.fields, ".")
end

texts["end"] = function() return "{{end}}" end
texts["else"] = function() return "{{else}}" end
texts["break"] = function() return "{{break}}" end
texts["continue"] = function() return "{{continue}}" end
texts["nil"] = function() return "nil" end
texts.text = function(n) return n.text end
texts.dot = function() return "." end
texts.bool = function(n) return tostring(n.value) end
texts.number = function(n) return n.literal end
texts.string = function(n) return n.literal end
texts.identifier = function(n) return n.name end
texts.field = fields
texts.variable = function(n) return n.name .. (#n.fields > 0 and fields(n) or "") end
texts.action = function(n) return "{{" .. node.text(n.pipe) .. "}}" end

local function operand(n)
  if n.k == "pipe" then return "(" .. node.text(n) .. ")" end
  return node.text(n)
end

texts.chain = function(n) return operand(n.node) .. fields(n) end

texts.command = function(n)
  local out = {}
  for i, arg in ipairs(n) do out[i] = operand(arg) end
  return concat(out, " ")
end

texts.pipe = function(n)
  local out, names = {}, {}
  for i, command in ipairs(n) do out[i] = node.text(command) end
  for i, variable in ipairs(n.vars) do names[i] = variable.name end
  local head = #names > 0 and concat(names, ", ") .. (n.assigns and " = " or " := ") or ""
  return head .. concat(out, " | ")
end

texts.template = function(n)
  return "{{template " .. quote.quote(n.name) .. (n.pipe and " " .. node.text(n.pipe) or "") .. "}}"
end

return node
