-- SPDX-License-Identifier: MIT
-- Values for the Lua code of a policy, and back, as bytes: core/bind/template/transfer.h has their
-- form. That code runs in another Lua state.
local buffer = require "string.buffer"
local ffi = require "ffi"
local maps = require "segue.template.maps"
local structs = require "segue.template.structs"
local value = require "segue.template.value"

local NULL = value.NULL
local getmetatable, type, select = getmetatable, type, select

local transfer = {}

local i64, u64, f64 = ffi.new "int64_t[1]", ffi.new "uint64_t[1]", ffi.new "double[1]"
local u32 = ffi.new "uint32_t[1]"

-- The structs that were sent, by the names of their types.
local types = {}

-- The tables that the code of the policy has as views, by their numbers and the other way round.
-- They are kept until more than KEPT_MAX bytes were sent beside the largest value: the state of
-- that code has little memory, and a loop may pass a million small tables.
local KEPT_MAX = 4 * 1024 * 1024
local sent, tables, count, described
local sum, largest, epoch = 0, 0, 0
local unfinished = false -- an error has cut a message: its numbers were never received

-- Begins a new epoch: no table is known there any more.
function transfer.forget()
  sent, tables, count, described = {}, {}, 0, {}
  sum, largest, unfinished = 0, 0, false
  epoch = (epoch + 1) % 4294967296
end
transfer.forget()

local function put_u32(out, n)
  u32[0] = n
  out:put(ffi.string(u32, 4))
end

local function put_text(out, s)
  out:put "s"
  put_u32(out, #s)
  out:put(s)
end

local put_value

local function put_list(out, list)
  out:put "l"
  put_u32(out, #list)
  for i = 1, #list do
    local item = list[i]
    if item == nil or item == NULL then out:put "z" else put_value(out, item) end
  end
end

-- A null member is as one that is not there: in Lua both are nil.
local function put_members(out, map)
  local members = 0
  for _, v in next, map do
    if v ~= NULL then members = members + 1 end
  end
  put_u32(out, members)
  for key, v in next, map do
    if v ~= NULL then
      put_value(out, key)
      put_value(out, v)
    end
  end
end

local function put_content(out, v)
  local t = getmetatable(v)
  if t.kind == "list" or t.kind == "channel" then
    put_list(out, v)
  elseif t.kind == "struct" then
    types[t.type] = t
    out:put "S"
    put_text(out, t.type)
    if described[t.type] then out:put "n" else put_list(out, t.fields) end
    described[t.type] = true
    put_members(out, v)
  else
    out:put "m"
    put_members(out, v)
  end
end

-- Whether tables become views, and whether the one that is being sent has a map in it that
-- functions of the template change: each call sends such a table again.
local as_views, may_change = false, false

local function put_table(out, v)
  if not as_views then return put_content(out, v) end
  local id, outside = sent[v], may_change
  if id then
    out:put "r"
    return put_u32(out, id)
  end
  out:put "R"
  may_change = maps.is_own(v)
  put_content(out, v)
  if may_change then
    id = 0
  else
    count = count + 1
    id, sent[v], tables[count] = count, count, v
  end
  put_u32(out, id)
  may_change = outside or may_change
end

local function put_number(out, v)
  local k = value.kind(v)
  if k == "float64" then
    f64[0] = v.v
    out:put("d", ffi.string(f64, 8))
  elseif k == "uint64" then
    u64[0] = v
    out:put("u", ffi.string(u64, 8))
  else
    i64[0] = value.int64_of(v)
    out:put("i", ffi.string(i64, 8))
  end
end

function put_value(out, v)
  local t = type(v)
  if v == nil or v == NULL then
    out:put "n"
  elseif t == "string" then
    put_text(out, v)
  elseif t == "boolean" then
    out:put(v and "t" or "f")
  elseif t == "table" then
    put_table(out, v)
  else
    put_number(out, v)
  end
end

local function encode(views, n, ...)
  if unfinished or sum - largest > KEPT_MAX then transfer.forget() end
  unfinished = true
  as_views, may_change = views, false
  local out = buffer.new()
  put_u32(out, epoch)
  for i = 1, n do put_value(out, (select(i, ...))) end
  unfinished = false
  if views then
    sum, largest = sum + #out, math.max(largest, #out)
  end
  return out:get()
end

-- Values as bytes, one after the other: tables that the code of the policy may change.
---@param n integer how many there are
---@return string
function transfer.encode(n, ...) return encode(false, n, ...) end

-- The same, with tables that it can only read. Each is sent once, so that a loop may pass all of
-- its data in each turn.
---@param n integer how many there are
---@return string
function transfer.encode_views(n, ...) return encode(true, n, ...) end

local take

local function take_u32(s, at)
  ffi.copy(u32, s + at, 4)
  return u32[0], at + 4
end

local function take_text(s, at)
  local len
  len, at = take_u32(s, at)
  return ffi.string(s + at, len), at + len
end

local function take_members(s, at, into)
  local members, key, v
  members, at = take_u32(s, at)
  for _ = 1, members do
    key, at = take(s, at)
    v, at = take(s, at)
    into[key] = v
  end
  return into, at
end

local function take_list(s, at)
  local items = {}
  local n, behind = take_u32(s, at)
  at = behind
  for i = 1, n do
    local v
    v, at = take(s, at)
    if v == nil then v = NULL end
    items[i] = v
  end
  return value.list(items), at
end

local function take_struct(s, at)
  local name, v
  name, at = take(s, at)
  v, at = take_members(s, at, {})
  return setmetatable(v, types[name] or structs.new(name, {})), at
end

local function take_number(s, at, kind)
  if kind == "d" then
    ffi.copy(f64, s + at, 8)
    return value.float(f64[0]), at + 8
  elseif kind == "u" then
    ffi.copy(u64, s + at, 8)
    return u64[0], at + 8
  end
  ffi.copy(i64, s + at, 8)
  return value.int(i64[0]), at + 8
end

local function take_known(s, at)
  local id
  id, at = take_u32(s, at)
  return tables[id], at
end

-- The value at an offset, and the offset behind it.
function take(s, at)
  local kind = string.char(s[at])
  at = at + 1
  if kind == "s" then return take_text(s, at) end
  if kind == "t" or kind == "f" then return kind == "t", at end
  if kind == "i" or kind == "u" or kind == "d" then return take_number(s, at, kind) end
  if kind == "l" then return take_list(s, at) end
  if kind == "z" then return NULL, at end
  if kind == "n" then return nil, at end
  if kind == "D" then return transfer.data(), at end
  if kind == "r" then return take_known(s, at) end
  if kind == "S" then return take_struct(s, at) end
  local members
  members, at = take_members(s, at, {})
  return value.map(members), at
end

-- The values in bytes, and how many there are.
---@param bytes string
---@return table values
---@return integer n
function transfer.decode(bytes)
  local s = ffi.cast("const uint8_t *", bytes)
  local out, n, at = {}, 0, 0
  while at < #bytes do
    n = n + 1
    out[n], at = take(s, at)
  end
  return out, n
end

return transfer
