-- SPDX-License-Identifier: MIT
-- Maps that functions make, copies of maps, and merging as the package mergo does it. Functions of
-- Go change the maps that they are given; here only a map that a function has made can be changed,
-- because templates share their data.
local value = require "segue.template.value"

local maps = {}

local own = setmetatable({}, { __mode = "k" })

-- A map that functions may change.
---@param members table?
---@return table
function maps.new(members)
  local map = value.map(members or {})
  own[map] = true
  return map
end

---@param map any
---@return boolean
function maps.is_own(map) return own[map] == true end

-- A copy of a map or list, with all that is in it; any other value is returned as it is.
---@param v any
---@return any
function maps.copy(v)
  local kind = value.kind(v)
  if kind ~= "map" and kind ~= "list" then return v end
  local out = {}
  for key, item in next, v do out[key] = maps.copy(item) end
  setmetatable(out, getmetatable(v))
  if kind == "map" then own[out] = true end
  return out
end

-- The map itself if a function has made it, else a copy.
---@param map table
---@return table
function maps.changeable(map) return own[map] and map or maps.copy(map) end

-- Why a value of `from` cannot be a member of `into`, a map of a narrower type such as that of
-- split; nil: it can. In Go this is a panic of the package reflect.
local function misfit(into, old, from, v)
  local wanted = getmetatable(into).elem_type
  local given = getmetatable(from).elem_type or "interface {}"
  if not wanted or wanted == given then return nil end
  if value.kind(v) == "list" then
    if old ~= nil then
      return ("reflect: call of reflect.Value.IsNil on %s Value"):format(wanted)
    end
    given = value.type_name(v)
  end
  return ("reflect.Value.SetMapIndex: value of type %s is not assignable to type %s"):format(given,
    wanted)
end

-- Adds the members of `from`, and returns the result: `into`, or its copy where `into` is data.
-- Members that are there and not empty win; with overwrites those of `from`, also empty ones. A map
-- takes the place of no other value, and a null one is no member unless it overwrites.
---@param into table
---@param from table
---@param overwrites boolean
---@return table? merged
---@return string? message
function maps.merge(into, from, overwrites)
  into = maps.changeable(into)
  for key, v in next, from do
    local old, message = into[key], nil
    local is_map = value.kind(v) == "map"
    if v == value.NULL then
      if overwrites then
        message = misfit(into, old, from, v)
        into[key] = v
      end
    elseif is_map and value.kind(old) == "map" then
      into[key], message = maps.merge(old, v, overwrites)
    elseif not value.truth(old) or (overwrites and not is_map) then
      message = misfit(into, old, from, v)
      into[key] = maps.copy(v)
    elseif value.kind(v) == "list" then
      message = misfit(into, old, from, v)
    end
    if message then return nil, message end
  end
  value.forget_keys(into)
  return into
end

return maps
