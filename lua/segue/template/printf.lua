-- SPDX-License-Identifier: MIT
-- fmt.Sprintf. A format is parsed once: formats are constants nearly always. The parts of a parsed
-- format are texts and specifications; those with `*` or `[n]` are interpreted each time.
local quote = require "segue.template.quote"
local text = require "segue.template.format"
local value = require "segue.template.value"
local verbs = require "segue.template.verbs"

local byte, sub, find = string.byte, string.sub, string.find
local concat, type, select = table.concat, type, select

local NUMBER_MAX = 1000000
local no_flags = {}

local flag_names = {
  ["#"] = "sharp", ["0"] = "zero", ["+"] = "plus", ["-"] = "minus", [" "] = "space",
}

-- A number at a byte, nil where there is none, and the byte behind it. A number that is too large
-- makes the rest of the format unreadable, as in Go.
local function read_number(format, at)
  local digits = format:match("^%d+", at)
  if not digits then return nil, at end
  local n = tonumber(digits)
  if n > NUMBER_MAX then return nil, #format + 1 end
  return n, at + #digits
end

-- [n]: the index from 0; valid: it was one.
local function read_index(format, at)
  if byte(format, at) ~= 91 then return nil, at, false end
  local close = find(format, "]", at, true)
  if not close or #format - at + 1 < 3 then return nil, at + 1, true end
  local n, after = read_number(format, at + 1)
  if not n or after ~= close then return nil, close + 1, true end
  return n - 1, close + 1, true
end

local function read_flags(format, at, spec)
  while true do
    local name = flag_names[sub(format, at, at)]
    if not name then break end
    spec[name] = true
    at = at + 1
  end
  if spec.minus then spec.zero = false end
  return at
end

-- A width or precision: `*`, a number, or nothing; an index may stand before `*`.
local function read_size(format, at)
  local index, after, has_index = read_index(format, at)
  local size = { index = index, has_index = has_index, bad = has_index and not index }
  at = after
  if byte(format, at) == 42 then
    size.star = true
    return size, at + 1
  end
  size.number, at = read_number(format, at)
  return size, at
end

local function read_spec(format, at)
  local spec = {}
  at = read_flags(format, at, spec)
  spec.width_size, at = read_size(format, at)
  local after_index = spec.width_size.has_index and not spec.width_size.star
  if after_index and spec.width_size.number then spec.bad = true end
  if byte(format, at) == 46 and at < #format then -- Go takes a "." at the end for a verb
    if after_index then spec.bad = true end
    spec.precision_size, at = read_size(format, at + 1)
    after_index = spec.precision_size.has_index and not spec.precision_size.star
  end
  if not after_index then
    local has_index
    spec.index, at, has_index = read_index(format, at)
    if has_index then
      spec.reorders = true
      if not spec.index then spec.bad = true end
      spec.index_given = has_index
    end
  end
  spec.reorders = spec.reorders or spec.width_size.has_index
    or (spec.precision_size and spec.precision_size.has_index)
  if at > #format then return spec, at end
  local _, length = quote.decode(format, at)
  spec.verb = sub(format, at, at + length - 1)
  spec.simple = not spec.reorders and not spec.width_size.star
    and not (spec.precision_size and spec.precision_size.star)
  spec.width = spec.width_size.number
  if spec.precision_size then spec.precision = spec.precision_size.number or 0 end
  if spec.verb == "v" then
    spec.sharp_v, spec.plus_v = spec.sharp, spec.plus
    spec.sharp, spec.plus = nil, nil
  end
  spec.plain = spec.simple and not (spec.width or spec.precision or spec.sharp or spec.plus
    or spec.space or spec.sharp_v or spec.plus_v) and (spec.verb == "s" or spec.verb == "v"
    or spec.verb == "d") and spec.verb or nil
  return spec, at + length
end

local function parse(format)
  local parts, at = {}, 1
  while at <= #format do
    local percent = find(format, "%", at, true)
    if percent ~= at then
      parts[#parts + 1] = sub(format, at, (percent or 0) - 1)
      if not percent then break end
    end
    parts[#parts + 1], at = read_spec(format, percent + 1)
  end
  return parts
end

local cache, cached = {}, 0
local function parsed(format)
  local parts = cache[format]
  if parts then return parts end
  if cached >= 1000 then cache, cached = {}, 0 end
  parts = parse(format)
  cache[format], cached = parts, cached + 1
  return parts
end

---@class segue.template.printing
---@field next integer index of the next argument, from 0
---@field count integer
---@field reordered boolean

-- Go's argNumber: moves to the argument that an index names; false where it names none.
local function move(state, index, has_index)
  if not has_index then return true end
  state.reordered = true
  if not index or index < 0 or index >= state.count then return false end
  state.next = index
  return true
end

-- The value of `*`; nil where it is no int of a sensible size.
local function size_argument(state, args)
  if state.next >= state.count then return nil end
  local v = args[state.next + 1]
  state.next = state.next + 1
  local k = value.basic_kind(v)
  if k ~= "int" and k ~= "uint" then return nil end
  local n = tonumber(value.int64_of(v))
  if n > NUMBER_MAX or n < -NUMBER_MAX then return nil end
  return n
end

-- A specification with `*` or `[n]`.
local function interpret(spec, state, args, out)
  local f = {}
  for _, name in pairs(flag_names) do f[name] = spec[name] end
  f.sharp_v, f.plus_v = spec.sharp_v, spec.plus_v
  local good = not spec.bad
  local width, precision = spec.width_size, spec.precision_size
  good = move(state, width.index, width.has_index) and good
  f.width = width.number
  if width.star then
    f.width = size_argument(state, args)
    if not f.width then out[#out + 1] = "%!(BADWIDTH)" end
    if f.width and f.width < 0 then f.width, f.minus, f.zero = -f.width, true, false end
  end
  if precision then
    good = move(state, precision.index, precision.has_index) and good
    f.precision = precision.number or 0
    if precision.star then
      f.precision = size_argument(state, args)
      if f.precision and f.precision < 0 then f.precision = nil end
      if not f.precision then out[#out + 1] = "%!(BADPREC)" end
    end
  end
  good = move(state, spec.index, spec.index_given) and good
  return f, good
end

local function print_spec(spec, state, args, out)
  local f, good = spec, not spec.bad
  if not spec.simple then f, good = interpret(spec, state, args, out) end
  local verb = spec.verb
  local n = #out + 1
  if not verb then
    out[n] = "%!(NOVERB)"
  elseif verb == "%" then
    out[n] = "%"
  elseif not good then
    out[n] = "%!" .. verb .. "(BADINDEX)"
  elseif state.next >= state.count then
    out[n] = "%!" .. verb .. "(MISSING)"
  else
    local v = args[state.next + 1]
    state.next = state.next + 1
    out[n] = verbs.print(f, v, verb)
  end
end

local function extra(state, args, out)
  local parts = {}
  for i = state.next + 1, state.count do
    local v = args[i]
    parts[#parts + 1] = (v == nil or v == value.NULL) and "<nil>"
      or value.type_name(v) .. "=" .. text.value(v)
  end
  out[#out + 1] = "%!(EXTRA " .. concat(parts, ", ") .. ")"
end

-- The usual formats: texts, and %s, %v or %d of a string or int. nil: it is another case.
local function plain(parts, count, ...)
  local out, used = {}, 0
  for i = 1, #parts do
    local part = parts[i]
    if type(part) == "table" then
      local verb = part.plain
      if not verb or used == count then return nil end
      used = used + 1
      local v = select(used, ...)
      if type(v) == "number" and verb ~= "s" then v = text.value(v)
      elseif type(v) ~= "string" or verb == "d" then return nil end
      part = v
    end
    out[i] = part
  end
  if used ~= count then return nil end
  return concat(out)
end

local printf = {}

-- The parts of a format that has only texts and `count` plain specifications (%s, %v, %d): a text,
-- or the verb in a table. nil: it is another one.
---@param format string
---@param count integer
---@return (string|table)[]?
function printf.plain_parts(format, count)
  local parts, used = parsed(format), 0
  for i = 1, #parts do
    if type(parts[i]) == "table" then
      if not parts[i].plain then return nil end
      used = used + 1
    end
  end
  return used == count and parts or nil
end

-- Writes a value by a plain specification into a buffer.
---@param out any
---@param v any
---@param verb string
function printf.put(out, v, verb)
  if type(v) == "string" and verb ~= "d" then
    out:put(v)
  elseif type(v) == "number" and verb ~= "s" and v < 1e14 and v > -1e14 then
    out:put(v)
  else
    out:put(verbs.print(no_flags, v, verb))
  end
end

---@param count integer the arguments behind the format
---@param format string
---@param ... any
---@return string
function printf.print(count, format, ...)
  local parts = parsed(format)
  local short = plain(parts, count, ...)
  if short then return short end
  local args, out = { ... }, {}
  local state = { next = 0, count = count, reordered = false }
  for i = 1, #parts do
    local part = parts[i]
    if type(part) == "string" then out[#out + 1] = part else print_spec(part, state, args, out) end
  end
  if not state.reordered and state.next < count then extra(state, args, out) end
  return concat(out)
end

return printf
