-- SPDX-License-Identifier: MIT
-- Plain data: copies of values of a policy, in which later changes of the value do not show.
local core = require "segue.core"

local pairs, ipairs, type = pairs, ipairs, type
local sort = table.sort

local M = {}

-- The second result is the type of a table. The keys of a map are taken in order, so that of two
-- mistakes always the same one is reported.
local function plain(value, path, depth)
  local kind = core.kind(value)
  if kind == "map" or kind == "list" then
    return nil, path, "is a config value: copy it with segue.copy"
  end
  local type_name = type(value)
  if kind or type_name == "string" or type_name == "number" or type_name == "boolean" then
    return value
  end
  if type_name ~= "table" then return nil, path, "is a " .. type_name .. ": plain data only" end
  if depth > 100 then return nil, path, "is nested too deeply, or contains itself" end
  local keys, count = {}, 0
  for key in pairs(value) do
    count = count + 1
    keys[count] = key
  end
  -- A document is a map: an empty table that is the whole value is one, also if it was marked as a
  -- list.
  if #value == count and (count > 0 or depth > 0 and core.is_list(value)) then
    local list = core.mark_list {}
    for i = 1, count do
      local item, at, why = plain(value[i], core.path(path, i - 1), depth + 1)
      if item == nil then return nil, at, why end
      list[i] = item
    end
    return list, "list"
  end
  for _, key in ipairs(keys) do
    if type(key) ~= "string" then
      return nil, path, "is neither a list (keys 1, 2, 3 ...) nor a map (keys that are texts)"
    end
  end
  sort(keys)
  local map = {}
  for _, key in ipairs(keys) do
    local item, at, why = plain(value[key], core.path(path, key), depth + 1)
    if item == nil then return nil, at, why end
    map[key] = item
  end
  return map, "map"
end

--- Returns a copy of a value, and "map" or "list" for a table. If it is not plain data: nil, a path
--- and an error message about the value there.
---@param value any
---@return any copy
---@return string? type or path
---@return string? message
function M.copy(value)
  return plain(value, "", 0)
end

return M
