-- SPDX-License-Identifier: MIT
-- consul-template's helpers: strings (separator or pattern first, subject last), numbers (last
-- argument first), encoders. Functions that read data: consul_data.lua; that regroup it:
-- consul_group.lua.
local calling = require("segue.template.runtime").calling
local def = require("segue.template.signature").def
local digest = require "segue.template.digest"
local host = require "segue.template.host"
local integers = require "segue.template.integers"
local json = require "segue.template.json"
local number = require "segue.template.number"
local quote = require "segue.template.quote"
local regex = require "segue.template.regex"
local strings = require "segue.template.strings"
local toml = require "segue.template.toml"
local value = require "segue.template.value"
local yaml = require "segue.template.yaml"

local ct = {}

local function texts(list) return value.list(list, value.STRINGS) end

-- ---- Strings ------------------------------------------------------------------------------------

ct.split = def({ "string", "string" }, function(_, separator, s)
  s = strings.trim_space(s)
  return texts(s == "" and {} or strings.split(s, separator))
end)
ct.join = def({ "string", "strings" }, function(_, separator, items)
  return table.concat(items or {}, separator)
end)
ct.trim = def({ "string", "string" }, function(_, set, s) return strings.trim(s, set) end)
ct.trimPrefix = def({ "string", "string" }, function(_, p, s) return strings.trim_prefix(p, s) end)
ct.trimSuffix = def({ "string", "string" }, function(_, p, s) return strings.trim_suffix(p, s) end)
ct.trimSpace = def({ "string" }, function(_, s) return strings.trim_space(s) end)
ct.replaceAll = def({ "string", "string", "string" }, function(_, old, new, s)
  return strings.replace(s, old, new, -1)
end)
ct.toLower = def({ "string" }, function(_, s) return strings.lower(s) end)
ct.toUpper = def({ "string" }, function(_, s) return strings.upper(s) end)
ct.toTitle = def({ "string" }, function(_, s) return strings.title_words(s) end)
ct.indent = def({ "int", "string" }, function(site, n, s)
  n = tonumber(n)
  if n < 0 then calling(site, "indent", "indent value must be a positive integer") end
  local lines = strings.split(s, "\n")
  for i, line in ipairs(lines) do
    if line ~= "" then lines[i] = (" "):rep(math.min(n, 10000)) .. line end
  end
  return table.concat(lines, "\n")
end)
ct.splitToMap = def({ "string", "string", "string" }, function(_, items, pairs_by, s)
  local out = {}
  s = strings.trim_space(s)
  for _, item in ipairs(s == "" and {} or strings.split(s, items)) do
    local from, to = item:find(pairs_by, 1, true)
    if from then out[item:sub(1, from - 1)] = item:sub(to + 1) end
  end
  return value.map(out, value.STRING_MAP)
end)
ct.regexMatch = def({ "string", "string" }, function(site, pattern, s)
  local found, message = regex.match(pattern, s)
  if message then calling(site, "regexMatch", message) end
  return found
end)
ct.regexReplaceAll = def({ "string", "string", "string" }, function(site, pattern, replacement, s)
  local out, message = regex.replace_all(pattern, replacement, s)
  return out or calling(site, "regexReplaceAll", message)
end)

-- ---- Encoders -----------------------------------------------------------------------------------

for name, url in pairs { base64Encode = false, base64URLEncode = true } do
  ct[name] = def({ "string" }, function(_, s) return strings.base64(s, url) end)
end
for name, url in pairs { base64Decode = false, base64URLDecode = true } do
  ct[name] = def({ "string" }, function(site, s)
    local out, message = strings.unbase64(s, url)
    return out or calling(site, name, name .. ": " .. message)
  end)
end
ct.sha256Hex = def({ "string" }, function(_, s) return digest.hex(digest.sha256(s)) end)
ct.md5sum = def({ "string" }, function(_, s) return digest.hex(digest.md5(s)) end)
ct.hmacSHA256Hex = def({ "string", "string" }, function(_, message, key)
  return digest.hex(digest.hmac_sha256(key, message))
end)

for name, options in pairs { toJSON = { html = true }, toJSONPretty = { html = true,
  indent = "  " },
  toUnescapedJSON = {}, toUnescapedJSONPretty = { indent = "  " } } do
  ct[name] = def({ "any" }, function(site, v)
    local out, message = json.encode(v, options)
    return out or calling(site, name, name .. ": " .. message)
  end)
end
ct.toTOML = def({ "any" }, function(site, v)
  local out, message = toml.encode(v)
  return out and strings.trim_space(out) or calling(site, "toTOML", "toTOML: " .. message)
end)
ct.toYAML = def({ "any" }, function(_, v) return strings.trim_space(yaml.encode(v)) end)

ct.parseJSON = def({ "string" }, function(site, s)
  if s == "" then return value.map {} end
  local v, message = json.decode(s)
  if message then calling(site, "parseJSON", message) end
  return v
end, nil, "value")
ct.parseYAML = def({ "string" }, function(site, s)
  if s == "" then return value.map {} end
  local v, message = host.parse(s, "value.yaml")
  if message then calling(site, "parseYAML", message) end
  return v
end, nil, "value")

-- ---- Numbers ------------------------------------------------------------------------------------

ct.parseBool = def({ "string" }, function(site, s)
  if s == "" then return false end
  local v, message = strings.parse_bool(s)
  if message then calling(site, "parseBool", "parseBool: " .. message) end
  return v
end)
ct.parseInt = def({ "string" }, function(site, s)
  if s == "" then return value.int64(0) end
  local v, message = integers.parse(s, "strconv.ParseInt")
  if message then calling(site, "parseInt", "parseInt: " .. message) end
  return value.int64(value.int64_of(v))
end)
local function unreadable(site, name, who, s)
  calling(site, name, ("%s: strconv.%s: parsing %s: invalid syntax"):format(name, who,
    quote.quote(s)))
end
ct.parseUint = def({ "string" }, function(site, s)
  if s == "" then return value.uint64(0) end
  local v = s:find "^%d+$" and number.parse_uint((s:gsub("^0+(%d)", "%1")))
  return v or unreadable(site, "parseUint", "ParseUint", s)
end)
ct.parseFloat = def({ "string" }, function(site, s)
  if s == "" then return value.float(0) end
  local v = number.parse_float(s)
  return v and value.float(v) or unreadable(site, "parseFloat", "ParseFloat", s)
end)

local float_operations = {
  add = function(a, b) return a + b end, sub = function(a, b) return a - b end,
  mul = function(a, b) return a * b end, div = function(a, b) return a / b end,
}

local function as_float(v, kind)
  if kind == "float" then return v.v end
  return tonumber(kind == "int" and value.int64_of(v) or value.uint64_of(v))
end

-- Raises an error unless v is a number.
local function need_number(site, name, v, kind, no_floats)
  if kind == "int" or kind == "uint" or (kind == "float" and not no_floats) then return end
  local shown = type(v) == "string" and quote.quote(v) or '"' .. tostring(v) .. '"'
  calling(site, name, ("%s: unknown type for %s (%s)"):format(name, shown, value.type_name(v)))
end

-- b comes first: {{subtract 1 3}} is 2.
local function calculate(name, operation)
  return def({ "any", "any" }, function(site, b, a)
    local ka, kb = value.basic_kind(a), value.basic_kind(b)
    need_number(site, name, a, ka, operation == "mod")
    need_number(site, name, b, kb, operation == "mod")
    if ka == "float" or kb == "float" then
      return value.float(float_operations[operation](as_float(a, ka), as_float(b, kb)))
    end
    local unsigned = ka == "uint" and kb == "uint"
    local convert = unsigned and value.uint64_of or value.int64_of
    local bits, message = integers.bits(operation, convert(a), convert(b))
    if message then calling(site, name, message) end
    return unsigned and bits or value.int64(bits)
  end)
end
for name, operation in pairs { add = "add", subtract = "sub", multiply = "mul", divide = "div",
  modulo = "mod" } do
  ct[name] = calculate(name, operation)
end

-- An int is compared with a uint as int64, and with a float as a float; the result is one of both
-- numbers, with its type.
local function choose(name, is_better)
  return def({ "any", "any" }, function(site, b, a)
    local ka, kb = value.basic_kind(a), value.basic_kind(b)
    need_number(site, name, a, ka)
    need_number(site, name, b, kb)
    local convert = ka == "uint" and kb == "uint" and value.uint64_of or value.int64_of
    if ka == "float" or kb == "float" then
      if is_better(as_float(a, ka), as_float(b, kb)) then b, kb = a, ka end
    elseif is_better(convert(a), convert(b)) then
      b, kb = a, ka
    end
    if kb == "float" then return value.float(b.v) end
    return kb == "uint" and value.uint64_of(b) or value.int64(value.int64_of(b))
  end)
end
ct.minimum = choose("minimum", function(a, b) return a < b end)
ct.maximum = choose("maximum", function(a, b) return a > b end)

return ct
