-- SPDX-License-Identifier: MIT
-- A tree of data read as a store of texts: a path joins the keys by "/", items of lists have their
-- index from 0, leaves are texts. Null is no key; only leaves are keys.
local text = require "segue.template.format"
local value = require "segue.template.value"

local store = {}

---@class segue.template.store
---@field values table<string, string> by their path, without a leading "/"
---@field keys string[] the paths, sorted

-- strconv.FormatFloat(v, 'f', -1, 64)
local function plain_float(v)
  if v ~= v or v == math.huge or v == -math.huge then return text.float(v) end
  if v == 0 then return 1 / v < 0 and "-0" or "0" end
  return (v < 0 and "-" or "") .. text.plain_form(text.shortest(math.abs(v)))
end

-- The text of a leaf; nil for a list, a map, null and nothing.
---@param v any
---@return string?
function store.leaf(v)
  if v == nil or type(v) == "table" then return nil end
  if type(v) == "cdata" and value.kind(v) == "float64" then return plain_float(v.v) end
  return text.value(v)
end

local leaf = store.leaf

local function add(values, path, v, mocks)
  if v == nil or v == value.NULL then return end
  local prefix = path == "" and "" or path .. "/"
  local kind = type(v) == "table" and getmetatable(v).kind
  if kind == "list" then
    for i, item in ipairs(v) do add(values, prefix .. (i - 1), item) end
  elseif kind == "map" then
    for key, item in next, v do
      local name = text.value(key)
      if not mocks or name:byte() ~= 64 then add(values, prefix .. name, item) end
    end
  elseif path ~= "" then
    values[path] = leaf(v)
  end
end

local known = setmetatable({}, { __mode = "k" })
local empty = { values = {}, keys = {} }

-- The value at a path, as in segue__keys_find (core/config/touched.h).
---@param data any
---@param path string
---@return any? nil: there is none
function store.find(data, path)
  if path == "" then return data end
  local kind = type(data) == "table" and getmetatable(data).kind
  if kind ~= "map" and kind ~= "list" then return nil end
  local slash = 0
  repeat
    slash = path:find("/", slash + 1, true)
    local key = path:sub(1, (slash or #path + 1) - 1)
    local child
    if kind == "map" then
      child = data[key]
    elseif key:find "^%d+$" then
      child = data[tonumber(key) + 1]
    end
    if child ~= nil and slash then child = store.find(child, path:sub(slash + 1)) end
    if child ~= nil then return child end
  until not slash
end

-- The store of a map or list; an empty one for other data.
---@param data any
---@param mocks? boolean its members "@services" and "@nodes" are mocks
---@return segue.template.store
function store.of(data, mocks)
  if type(data) ~= "table" then return empty end
  local found = known[data]
  if found then return found end
  found = { values = {}, keys = {} }
  add(found.values, "", data, mocks)
  for path in next, found.values do found.keys[#found.keys + 1] = path end
  table.sort(found.keys)
  known[data] = found
  return found
end

-- The keys that begin with a text.
---@param self segue.template.store
---@param prefix string
---@return string[]
function store.below(self, prefix)
  local found = {}
  for _, key in ipairs(self.keys) do
    if key:sub(1, #prefix) == prefix then found[#found + 1] = key end
  end
  return found
end

-- ---- path.Match ---------------------------------------------------------------------------------

-- One item of [...]: its character, and the next byte; nil: the pattern is wrong.
local function class_char(pattern, at)
  local c = pattern:sub(at, at)
  if c == "" or c == "-" or c == "]" then return nil end
  if c == "\\" then
    at = at + 1
    c = pattern:sub(at, at)
    if c == "" then return nil end
  end
  return c, at + 1
end

-- [a-m], [^x]: whether c is in it, and the next byte.
local function match_class(pattern, at, c)
  at = at + 1
  local negated = pattern:sub(at, at) == "^"
  if negated then at = at + 1 end
  local found, items = false, 0
  while true do
    if pattern:sub(at, at) == "]" and items > 0 then return found ~= negated, at + 1 end
    local low, high
    low, at = class_char(pattern, at)
    if not low then return nil end
    high = low
    if pattern:sub(at, at) == "-" then
      high, at = class_char(pattern, at + 1)
      if not high then return nil end
    end
    if c and low <= c and c <= high then found = true end
    items = items + 1
  end
end

local match

local function match_star(pattern, at, name, from)
  for i = from, #name + 1 do
    local found = match(pattern, at + 1, name, i)
    if found or found == nil then return found end
    if name:sub(i, i) == "/" then return false end
  end
  return false
end

-- nil: the pattern is wrong.
function match(pattern, at, name, from)
  while at <= #pattern do
    local p, c = pattern:sub(at, at), name:sub(from, from)
    if p == "*" then
      return match_star(pattern, at, name, from)
    elseif p == "[" then
      local found, after = match_class(pattern, at, c ~= "" and c or nil)
      if found == nil then return nil end
      if not found or c == "" then return false end
      at = after - 1
    elseif p == "?" then
      if c == "" or c == "/" then return false end
    else
      if p == "\\" then
        at = at + 1
        p = pattern:sub(at, at)
        if p == "" then return nil end
      end
      if p ~= c then return false end
    end
    at, from = at + 1, from + 1
  end
  return from == #name + 1
end

local function is_good(pattern)
  local at = 1
  while at <= #pattern do
    local c = pattern:sub(at, at)
    if c == "[" then
      local found, after = match_class(pattern, at, nil)
      if found == nil then return false end
      at = after - 1
    elseif c == "\\" then
      if at == #pattern then return false end
      at = at + 1
    end
    at = at + 1
  end
  return true
end

-- Go's path.Match. A wrong pattern is an error also where the name differs before its mistake.
---@param pattern string
---@param name string
---@return boolean? matches nil: syntax error in pattern
function store.match(pattern, name)
  if not is_good(pattern) then return nil end
  return match(pattern, 1, name, 1)
end

return store
