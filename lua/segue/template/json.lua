-- SPDX-License-Identifier: MIT
-- JSON as Go has it: every number is a float64; keys are sorted, and < > & escaped unless that is
-- off.
local host = require "segue.template.host"
local quote = require "segue.template.quote"
local text = require "segue.template.format"
local value = require "segue.template.value"

local format = string.format

local json = {}

local escapes = { ['"'] = '\\"', ["\\"] = "\\\\", ["\b"] = "\\b", ["\f"] = "\\f", ["\n"] = "\\n",
  ["\r"] = "\\r", ["\t"] = "\\t" }
setmetatable(escapes, { __index = function(_, c) return format("\\u%04x", c:byte()) end })

local function repair(s)
  local out, at, n = {}, 1, 0
  while at <= #s do
    local code, length = quote.decode(s, at)
    n = n + 1
    if code == 0xFFFD and length == 1 then out[n] = "\\ufffd"
    elseif code == 0x2028 or code == 0x2029 then out[n] = format("\\u%04x", code)
    else out[n] = s:sub(at, at + length - 1) end
    at = at + length
  end
  return table.concat(out)
end

-- A literal with its quotes. Bytes that are no UTF-8 become U+FFFD.
---@param s string
---@param html? boolean escapes < > &
---@return string
function json.string(s, html)
  local body = s:gsub(html and '[%z\1-\31"\\<>&]' or '[%z\1-\31"\\]', escapes)
  if body:find "[\128-\255]" then body = repair(body) end
  return '"' .. body .. '"'
end

-- The shortest digits; the exponent form below 1e-6 and from 1e21 on.
local function float(v)
  if v == 0 then return 1 / v < 0 and "-0" or "0" end
  local digits, exponent = text.shortest(math.abs(v))
  local sign = v < 0 and "-" or ""
  if exponent - 1 < -6 or exponent - 1 >= 21 then
    return sign .. text.exponent_form(digits, exponent):gsub("e([+-])0(%d)$", "e%1%2")
  end
  return sign .. text.plain_form(digits, exponent)
end

local encode

local function newline(indent, depth)
  return indent and "\n" .. indent:rep(depth) or ""
end

local function encode_items(items, open, close, options, depth)
  if #items == 0 then return open .. close end
  local separator = "," .. newline(options.indent, depth + 1)
  return open .. newline(options.indent, depth + 1) .. table.concat(items, separator)
    .. newline(options.indent, depth) .. close
end

local function encode_members(keys, v, options, depth)
  local items, colon = {}, options.indent and ": " or ":"
  for i, key in ipairs(keys) do
    local item = v[key]
    if item == nil then item = value.NULL end
    items[i] = json.string(text.value(key), options.html) .. colon
      .. encode(item, options, depth + 1)
  end
  return encode_items(items, "{", "}", options, depth)
end

function encode(v, options, depth)
  local kind = value.kind(v)
  if v == nil or kind == "null" then return "null" end
  if kind == "string" then return json.string(v, options.html) end
  if kind == "bool" then return tostring(v) end
  if kind == "float64" then
    if v.v ~= v.v or v.v == math.huge or v.v == -math.huge then
      error({ encode = "json: unsupported value: " .. text.float(v.v) }, 0)
    end
    return (float(v.v))
  end
  if kind == "list" then
    if getmetatable(v).is_nil then return "null" end
    local items = {}
    for i = 1, #v do items[i] = encode(v[i], options, depth + 1) end
    return encode_items(items, "[", "]", options, depth)
  elseif kind == "map" then
    return encode_members(value.sorted_keys(v), v, options, depth)
  elseif kind == "struct" then
    return encode_members(getmetatable(v).fields, v, options, depth)
  end
  return text.integer(v)
end

-- A value as JSON; nil and a message where it has none.
---@param v any
---@param options { html?: boolean, indent?: string }
---@return string?, string?
function json.encode(v, options)
  local good, result = pcall(encode, v, options, 0)
  if good then return result end
  if type(result) == "table" and result.encode then return nil, result.encode end
  error(result, 0)
end

-- Ints of the reader as Go's encoding/json has them.
local function all_floats(v)
  local t = type(v)
  if t == "number" then return value.float(v) end
  if t == "cdata" and value.kind(v) ~= "float64" then return value.float(tonumber(v)) end
  if t == "table" and v ~= value.NULL then
    for key, item in next, v do v[key] = all_floats(item) end
  end
  return v
end

-- A value from JSON; nil and a message.
---@param s string
---@return any, string?
function json.decode(s)
  if not s:find "[^ \t\r\n]" then return nil, "unexpected end of JSON input" end
  local v, message = host.parse(s, "value.json")
  if message then return nil, message end
  return all_floats(v)
end

return json
