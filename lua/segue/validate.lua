-- SPDX-License-Identifier: MIT
-- Validation helpers for check hooks: collect all mistakes, each with its path and position in the
-- files, and return them by `return v:result()`.
--   local v = segue.validate(next)
--   v:required("listen")
--   v:integer("servers[*].port", { min = 1, max = 65535 })
--   return v:result()
-- A path may contain `[*]` (each item of a list) and `.*` (each member of a map). A value that does
-- not exist is not checked, except by `required`.
local core = require "segue.core"

---@class segue.Validator
---@field private root any
---@field private problems table[]
local Validator = {}
Validator.__index = Validator

local function place(root, path)
  local file, line, column = core.where(root, path ~= "" and path or nil)
  if file then return file, line, column end
  local parent = path:match("^(.*)[.%[]") or ""
  if parent == path then parent = "" end
  if path == "" then return nil end
  return place(root, parent)
end

-- Calls fn(path, value, kind) for each place that a path with wildcards means.
local function each(root, path, fn)
  local list, rest = path:match("^(.-)%[%*%](.*)$")
  local map, map_rest = path:match("^(.-)%.%*(.*)$")
  if map and (not list or #map < #list) then list, rest = nil, nil end
  if not list and path:match("^%*") then map, map_rest = "", path:sub(2) end
  if list then
    local value = core.get(root, list)
    if core.kind(value) ~= "list" then return end
    for i = 1, #value do each(root, ("%s[%d]%s"):format(list, i - 1, rest), fn) end
  elseif map then
    local value = core.get(root, map)
    if core.kind(value) ~= "map" then return end
    for key in pairs(value) do each(root, core.path(map, key) .. map_rest, fn) end
  else
    local value, kind = core.get(root, path)
    fn(path, value, kind)
  end
end

local function add(self, path, message)
  local file, line, column = place(self.root, path)
  local text = path == "" and message or ("%s %s"):format(path, message)
  self.problems[#self.problems + 1] =
    { path = path, message = text, file = file, line = line, column = column }
  return self
end

local articles = { integer = "an integer", ["number"] = "a number", boolean = "true or false",
  string = "a text", list = "a list", map = "a map" }
local names = { float = "a number with a fraction", integer = "an integer", string = "a text",
  boolean = "a boolean", list = "a list", map = "a map" }

local function show(value)
  local text = tostring(value)
  if #text > 60 then text = text:sub(1, 60) .. "..." end
  return type(value) == "string" and ("'%s'"):format(text) or text
end

-- Returns ", not 500", the end of a message that describes what a value must be; "" if the value is
-- a secret, or may be one.
local function but_is(self, at, value)
  return core.hidden(self.root, at) and "" or ", not " .. show(value)
end

-- Places that are there and not null, of the right type.
local function each_of(self, path, wanted, fn)
  each(self.root, path, function(at, value, kind)
    if kind == nil or kind == "null" then return end
    if kind == wanted or (wanted == "number" and (kind == "integer" or kind == "float")) then
      if fn then fn(at, value) end
    else
      add(self, at, ("must be %s, not %s"):format(articles[wanted], names[kind]))
    end
  end)
  return self
end

local function compare(value, limit)
  if core.kind(value) ~= nil or core.kind(limit) ~= nil then
    local a, b = core.int(value), core.int(limit)
    return a < b and -1 or a == b and 0 or 1
  end
  return value < limit and -1 or value == limit and 0 or 1
end

local function in_range(self, at, value, limits)
  local low = limits.min ~= nil and compare(value, limits.min) < 0
  local high = limits.max ~= nil and compare(value, limits.max) > 0
  if not low and not high then return end
  local range = limits.min ~= nil and limits.max ~= nil
    and ("between %s and %s"):format(tostring(limits.min), tostring(limits.max))
    or limits.min ~= nil and "at least " .. tostring(limits.min)
    or "at most " .. tostring(limits.max)
  add(self, at, ("must be %s%s"):format(range, but_is(self, at, value)))
end

local function measured(self, at, size, limits, unit)
  if limits.min and size < limits.min then
    add(self, at, ("must have at least %d %s, not %d"):format(limits.min, unit, size))
  elseif limits.max and size > limits.max then
    add(self, at, ("must have at most %d %s, not %d"):format(limits.max, unit, size))
  end
end

local function check_path(path)
  if type(path) ~= "string" then
    error(("the path must be a text such as \"servers[*].port\", not a %s"):format(type(path)), 3)
  end
end

--- There is a value at the path, and it is not null.
---@param path string
---@return segue.Validator
function Validator:required(path)
  check_path(path)
  each(self.root, path, function(at, _, kind)
    if kind == nil then add(self, at, "is required") end
    if kind == "null" then add(self, at, "is required, not null") end
  end)
  return self
end

--- An integer, within limits.
---@param path string
---@param limits? { min?: integer, max?: integer }
---@return segue.Validator
function Validator:integer(path, limits)
  check_path(path)
  return each_of(self, path, "integer", function(at, value)
    in_range(self, at, value, limits or {})
  end)
end

--- A number, with or without a fraction, within limits.
---@param path string
---@param limits? { min?: number, max?: number }
---@return segue.Validator
function Validator:number(path, limits)
  check_path(path)
  return each_of(self, path, "number", function(at, value)
    in_range(self, at, value, limits or {})
  end)
end

--- A text; min and max count its bytes.
---@param path string
---@param limits? { min?: integer, max?: integer }
---@return segue.Validator
function Validator:string(path, limits)
  check_path(path)
  return each_of(self, path, "string", function(at, value)
    measured(self, at, #value, limits or {}, "bytes")
  end)
end

---@param path string
---@return segue.Validator
function Validator:boolean(path)
  check_path(path)
  return each_of(self, path, "boolean")
end

--- A list; min and max count its items.
---@param path string
---@param limits? { min?: integer, max?: integer }
---@return segue.Validator
function Validator:list(path, limits)
  check_path(path)
  return each_of(self, path, "list", function(at, value)
    measured(self, at, #value, limits or {}, "items")
  end)
end

---@param path string
---@return segue.Validator
function Validator:map(path)
  check_path(path)
  return each_of(self, path, "map")
end

--- One of a few values.
---@param path string
---@param values any[]
---@return segue.Validator
function Validator:one_of(path, values)
  check_path(path)
  if type(values) ~= "table" then error("one_of needs a list of values", 2) end
  each(self.root, path, function(at, value, kind)
    if kind == nil or kind == "null" then return end
    local shown = {}
    for i, allowed in ipairs(values) do
      if value == allowed then return end
      shown[i] = show(allowed)
    end
    if core.hidden(self.root, at) then
      add(self, at, "must be one of the values that are allowed")
    else
      add(self, at, ("must be one of %s, not %s"):format(table.concat(shown, ", "), show(value)))
    end
  end)
  return self
end

--- Requires a text that matches a Lua pattern. hint describes it in messages: "a host name".
---@param path string
---@param pattern string
---@param hint? string
---@return segue.Validator
function Validator:pattern(path, pattern, hint)
  check_path(path)
  return each_of(self, path, "string", function(at, value)
    if value:find(pattern) then return end
    add(self, at, ("must be %s%s"):format(hint or "a text like " .. pattern,
      but_is(self, at, value)))
  end)
end

--- No two items of a list are equal; with a key: no two have the same member.
---@param path string
---@param key? string
---@return segue.Validator
function Validator:unique(path, key)
  check_path(path)
  return each_of(self, path, "list", function(at, list)
    local seen = {}
    for i, item in ipairs(list) do
      local value = item
      if key then value = core.kind(item) == "map" and item[key] or nil end
      local id = value ~= nil and type(value) .. ":" .. tostring(value)
      if core.kind(value) == "map" or core.kind(value) == "list" then
        for j = 1, i - 1 do
          if (key and core.kind(list[j]) == "map" and list[j][key] or list[j]) == value then
            id, seen[value] = value, seen[value] or j
          end
        end
      end
      if id and seen[id] then
        local where = ("%s[%d]"):format(at, i - 1)
        add(self, key and core.path(where, key) or where,
          ("is the same as in %s[%d]: it must be unique"):format(at, seen[id] - 1))
      elseif id then
        seen[id] = i
      end
    end
  end)
end

--- A custom condition: adds `message` at `path` unless `condition` holds. @param path string @param
--- condition any @param message string @return segue.Validator
function Validator:check(path, condition, message)
  check_path(path)
  if not condition then add(self, path, message) end
  return self
end

--- For `return v:result()`: true, or nil and the list of problems.
---@return boolean?
---@return table?
function Validator:result()
  if #self.problems == 0 then return true end
  return nil, self.problems
end

--- A validator for a config value.
---@param value any
---@return segue.Validator
return function(value)
  if core.kind(value) ~= "map" and core.kind(value) ~= "list" then
    error("segue.validate needs a config value, such as the `next` of check", 2)
  end
  return setmetatable({ root = value, problems = {} }, Validator)
end
