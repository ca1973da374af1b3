-- SPDX-License-Identifier: MIT
-- YAML as yaml.v2 writes it: block style, lists not indented under their key, texts quoted where
-- they would be read as another type.
local json = require "segue.template.json"
local text = require "segue.template.format"
local value = require "segue.template.value"

local yaml = {}

local words = {}
for word in ("y Y yes Yes YES on On ON n N no No NO off Off OFF true True TRUE false False FALSE "
  .. "null Null NULL ~ .nan .NaN .NAN .inf .Inf .INF +.inf +.Inf +.INF -.inf -.Inf -.INF << ")
  :gmatch "%S+" do
  words[word] = true
end

local function reads_as_number(s)
  local plain = s:gsub("_", "")
  return s:find "^[-+.%d]" ~= nil and (plain:find "^[-+]?%d+$" or plain:find "^[-+]?0[xX]%x+$"
    or plain:find "^[-+]?0b[01]+$" or plain:find "^[-+]?0o[0-7]+$"
    or plain:find "^[-+]?%.?%d+%.?%d*[eE]?[-+]?%d*$" and plain:find "%d") ~= nil
end

local function reads_as_other(s)
  return s == "" or words[s] or reads_as_number(s) or s:find "^%d%d%d%d%-%d%d?%-%d%d?" ~= nil
end

local function needs_quotes(s)
  return s:find "^[-?:,%[%]{}#&*!|>'\"%%@`]" and not s:find "^[-?:][^ ]" or s:find ": "
    or s:find " #"
    or s:find ":$" or s:find "^ " or s:find " $"
end

-- Several lines: | with the marks for the line ends behind the last one.
local function literal(s, indent)
  local mark = "|"
  if s:find "^[ \n]" then mark = mark .. "2" end
  if not s:find "\n$" then mark = mark .. "-" elseif s:find "\n\n$" or s == "\n" then mark = mark
    .. "+" end
  local body = s:gsub("\n$", "")
  body = body:gsub("[^\n]+", function(line) return indent .. line end)
  return mark .. "\n" .. body
end

local function scalar(s, indent)
  if reads_as_other(s) then return json.string(s) end
  if s:find "[%z\1-\8\11-\31\127]" then return json.string(s) end
  if s:find "\n" then return literal(s, indent) end
  if s:find "\t" then return json.string(s) end
  if needs_quotes(s) then return "'" .. s:gsub("'", "''") .. "'" end
  return s
end

local function is_block(v)
  local kind = value.kind(v)
  return (kind == "list" and #v > 0) or (kind == "map" and next(v) ~= nil) or kind == "struct"
end

-- "k9" before "k10": digits by their number, letters before... as yaml.v2 sorts keys.
local function natural_less(a, b)
  local i, j = 1, 1
  while i <= #a and j <= #b do
    local da, db = a:match("^%d+", i), b:match("^%d+", j)
    if da and db and tonumber(da) ~= tonumber(db) then return tonumber(da) < tonumber(db) end
    local ca, cb = a:sub(i, i), b:sub(j, j)
    if ca ~= cb then
      local la, lb = ca:find "%a" ~= nil, cb:find "%a" ~= nil
      if la and lb then return ca < cb end
      if la ~= lb then return lb end
      return ca < cb
    end
    i, j = i + 1, j + 1
  end
  return #a - i < #b - j
end

local encode

local function member(out, prefix, key, item, indent)
  local head = prefix .. scalar(text.value(key), "") .. ":"
  if is_block(item) then
    out[#out + 1] = head
    local inner = value.kind(item) == "list" and indent or indent .. "  "
    encode(out, item, inner)
  else
    out[#out + 1] = head .. " " .. encode(nil, item, indent .. "  ")
  end
end

local function keys_of(v)
  if value.kind(v) == "struct" then return getmetatable(v).fields end
  local keys = { unpack(value.sorted_keys(v)) }
  table.sort(keys, function(a, b) return natural_less(text.value(a), text.value(b)) end)
  return keys
end

-- Adds lines of a list or map to out; the text of a scalar is the result.
function encode(out, v, indent)
  local kind = value.kind(v)
  if kind == "list" then
    if #v == 0 then return "[]" end
    for _, item in ipairs(v) do
      if is_block(item) then
        local lines = {}
        encode(lines, item, indent .. "  ")
        lines[1] = indent .. "- " .. lines[1]:sub(#indent + 3)
        for _, line in ipairs(lines) do out[#out + 1] = line end
      else
        out[#out + 1] = indent .. "- " .. encode(nil, item, indent .. "  ")
      end
    end
    return
  elseif kind == "map" or kind == "struct" then
    if kind == "map" and next(v) == nil then return "{}" end
    for _, key in ipairs(keys_of(v)) do
      local item = v[key]
      if item == nil then item = value.NULL end
      member(out, indent, kind == "struct" and key:lower() or key, item, indent)
    end
    return
  end
  if v == nil or kind == "null" then return "null" end
  if kind == "string" then return scalar(v, indent) end
  if kind == "float64" then
    if v.v ~= v.v then return ".nan" end
    if math.abs(v.v) == math.huge then return v.v > 0 and ".inf" or "-.inf" end
  end
  return text.value(v)
end

---@param v any
---@return string
function yaml.encode(v)
  local out = {}
  local is_text = value.kind(v) == "string"
  local one = encode(out, v, is_text and "  " or "")
  return one and one .. "\n" or table.concat(out, "\n") .. "\n"
end

return yaml
