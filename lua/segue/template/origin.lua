-- SPDX-License-Identifier: MIT
-- Where the value stands that did not fit: its path in the data, and its line in the file.
local host = require "segue.template.host"
local value = require "segue.template.value"

local origin = {}

-- The keys that lead from a value to a container, or nil.
local function search(from, container, path, depth)
  if rawequal(from, container) then return true end
  if type(from) ~= "table" or depth > 200 then return false end
  local kind = getmetatable(from).kind
  if kind ~= "list" and kind ~= "map" then return false end
  for key, item in next, from do
    if type(item) == "table" then
      path[depth] = key
      if search(item, container, path, depth + 1) then return true end
      path[depth] = nil
    end
  end
  return false
end

local function show(path)
  local out = {}
  for i, key in ipairs(path) do
    if type(key) == "number" then
      out[i] = ("[%d]"):format(key - 1)
    elseif key:find "^[%w_-]+$" then
      out[i] = (i > 1 and "." or "") .. key
    else
      out[i] = (i > 1 and "." or "") .. ("%q"):format(key)
    end
  end
  return table.concat(out)
end

-- Path and place of the value, nil where they are not known.
---@param problem segue.template.problem
---@param data any what the template rendered
---@param file? string its name
---@return string? path
---@return string? place "config.yaml:9:13"
function origin.find(problem, data, file)
  local container = problem.container
  if container == nil or container == value.NULL then return nil end
  local path = {}
  if not search(data, container, path, 1) then return nil end
  local line, column, document = host.where(unpack(path))
  if problem.key and container[problem.key] ~= nil then
    path[#path + 1] = problem.key
    line, column, document = host.where(unpack(path))
  end
  if not line then return show(path) end
  return show(path), ("%s:%d:%d"):format(document or file, line, column)
end

return origin
