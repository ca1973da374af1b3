-- SPDX-License-Identifier: MIT
-- Plain data: values of a policy in the form that the core reads.
local core = require "segue.core"

local pairs, ipairs, type = pairs, ipairs, type
local sort = table.sort

local M = {}

-- A table as { keys, values } in the order of the keys, a list as it is. Plain data only.
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
  if count > 0 and #value == count then
    local list = {}
    for i = 1, count do
      local item, at, why = plain(value[i], core.path(path, i - 1), depth + 1)
      if item == nil then return nil, at, why end
      list[i] = item
    end
    return list
  end
  for _, key in ipairs(keys) do
    if type(key) ~= "string" then
      return nil, path, "is neither a list (keys 1, 2, 3 ...) nor a map (keys that are texts)"
    end
  end
  sort(keys)
  local values = {}
  for i, key in ipairs(keys) do
    local item, at, why = plain(value[key], core.path(path, key), depth + 1)
    if item == nil then return nil, at, why end
    values[i] = item
  end
  return { keys = keys, values = values }
end

--- Returns a value in the form that the core reads: lists unchanged, maps as { keys, values } in
--- order. If it is not plain data: nil, a path and an error message about the value there.
---@param value any
---@return any converted
---@return string? path
---@return string? message
function M.convert(value)
  return plain(value, "", 0)
end

return M
