-- SPDX-License-Identifier: MIT
-- Structs: values that functions make, with declared fields. A misspelt field is an error with a
-- suggestion.
local value = require "segue.template.value"

local structs = {}

-- The number of letters that differ, by insertion, removal and replacement.
local function distance(a, b)
  local row = {}
  for j = 0, #b do row[j] = j end
  for i = 1, #a do
    local before = row[0]
    row[0] = i
    for j = 1, #b do
      local cost = a:byte(i) == b:byte(j) and 0 or 1
      before, row[j] = row[j], math.min(row[j] + 1, row[j - 1] + 1, before + cost)
    end
  end
  return row[#b]
end

local function nearest(name, fields)
  local best, least = nil, 3
  for _, field in ipairs(fields) do
    local d = #name < 64 and distance(name:lower(), field:lower()) or least
    if d < least then best, least = field, d end
  end
  return best
end

---@param name string Go's type
---@param fields string[] in their order
---@return segue.template.type
function structs.new(name, fields)
  local t = value.new_type("struct", name, { fields = fields, has = {} })
  for _, field in ipairs(fields) do t.has[field] = true end
  t.suggest = function(_, given)
    local meant = nearest(given, fields)
    return meant and (" (did you mean %s?)"):format(meant) or ""
  end
  return t
end

-- A type of lists of a struct.
---@param t segue.template.type
---@return segue.template.type
function structs.list_of(t)
  return value.new_type("list", "[]" .. t.type, { elem_type = t.type })
end

return structs
