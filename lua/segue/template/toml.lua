-- SPDX-License-Identifier: MIT
-- TOML as the library BurntSushi/toml writes it: keys sorted, simple values before tables, tables
-- indented by their depth. Null is left out.
local store = require "segue.template.store"
local text = require "segue.template.format"
local value = require "segue.template.value"

local toml = {}

local escapes = { ['"'] = '\\"', ["\\"] = "\\\\", ["\b"] = "\\b", ["\t"] = "\\t", ["\n"] = "\\n",
  ["\f"] = "\\f", ["\r"] = "\\r" }

local function quoted(s)
  return '"' .. s:gsub('[%z\1-\31"\\\127]', function(c)
    return escapes[c] or ("\\u%04x"):format(c:byte())
  end) .. '"'
end

local function key_text(key)
  local s = text.value(key)
  return s:find "^[%w_-]+$" and s or quoted(s)
end

local function is_table(v)
  local kind = value.kind(v)
  return kind == "map" or kind == "struct"
end

local function is_list_of_tables(v)
  return value.kind(v) == "list" and #v > 0 and is_table(v[1])
end

local function simple(v)
  local kind = value.kind(v)
  if kind == "string" then return quoted(v) end
  if kind == "float64" then
    local s = store.leaf(v)
    return s:find "^-?%d+$" and s .. ".0" or s:lower()
  end
  if kind ~= "list" then return text.value(v) end
  local out = {}
  for i, item in ipairs(v) do
    local what = item == value.NULL and "nil element" or is_table(item) and "mixed element types"
    if what then error({ encode = "toml: cannot encode array with " .. what }, 0) end
    out[i] = simple(item)
  end
  return "[" .. table.concat(out, ", ") .. "]"
end

local function members(v)
  if value.kind(v) == "struct" then return getmetatable(v).fields end
  return value.sorted_keys(v)
end

local add_table

local function add_head(out, path, open, close)
  out[#out + 1] = ("  "):rep(#path - 1) .. open .. table.concat(path, ".") .. close
end

local function add_member(out, path, key, v)
  local below = { unpack(path) }
  below[#below + 1] = key_text(key)
  if is_table(v) then
    if #below == 1 and #out > 0 then out[#out + 1] = "" end
    add_head(out, below, "[", "]")
    add_table(out, below, v)
    return
  end
  for _, item in ipairs(v) do
    if #out > 0 then out[#out + 1] = "" end
    add_head(out, below, "[[", "]]")
    add_table(out, below, item)
  end
end

function add_table(out, path, v)
  local later = {}
  for _, key in ipairs(members(v)) do
    local item = v[key]
    if is_table(item) or is_list_of_tables(item) then
      later[#later + 1] = key
    elseif item ~= nil and item ~= value.NULL then
      out[#out + 1] = ("  "):rep(#path) .. key_text(key) .. " = " .. simple(item)
    end
  end
  for _, key in ipairs(later) do add_member(out, path, key, v[key]) end
end

-- A map as TOML; nil and a message where it is none.
---@param v any
---@return string?, string?
function toml.encode(v)
  if not is_table(v) then return nil, "toml: top-level values must be Go maps or structs" end
  local out = {}
  local good, problem = pcall(add_table, out, {}, v)
  if good then return table.concat(out, "\n") end
  if type(problem) == "table" and problem.encode then return nil, problem.encode end
  error(problem, 0)
end

return toml
