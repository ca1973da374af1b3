-- SPDX-License-Identifier: MIT
-- segue.keys: the keys of a store as one document. A source keeps one key space, fills it by a full
-- read, applies the changes that the store reports, and delivers it: `return space, revision` in
-- fetch, `emit(space, revision)` in watch. The space is in C (core/source/space.h).
local core = require "segue.core"

local getmetatable, ipairs, setmetatable, tostring, type =
  getmetatable, ipairs, setmetatable, tostring, type
local format = string.format

---@class segue.Keys the keys of a store
---@field private core userdata
local Keys = {}
Keys.__index = Keys

---@class segue.KeysRead a full read of a store; it changes nothing before done()
---@field private core userdata
local Read = {}
Read.__index = Read

-- ---- Arguments --------------------------------------------------------------------------------

local function text(what, value)
  if type(value) ~= "string" then
    error(("%s must be a text, not a %s"):format(what, type(value)), 3)
  end
  return value
end

-- Revisions are texts; a number of JSON is a whole number.
local function revision_of(what, value)
  if value == nil or type(value) == "string" then return value end
  if type(value) == "number" then return format("%.0f", value) end
  if core.kind(value) == "int" or type(value) == "userdata" then return tostring(value) end
  error(("%s: a revision must be a text or a number, not a %s"):format(what, type(value)), 3)
end

local function value_of(what, value)
  if value == nil or value == core.null then return nil end
  return text(what .. ": the value", value)
end

-- Waits for work on another thread; small work is done already.
local function result(first, ...)
  if type(first) == "userdata" then return first() end
  return first, ...
end

local formats = setmetatable({}, { __mode = "k" })

-- The format of an answer as the core reads it. A table is validated once.
local function format_of(what, given)
  if type(given) ~= "table" then error(what .. " needs the format of the answer", 3) end
  local known = formats[given]
  if known then return known end
  local o = core.options(what, "answer", nil, given)
  local f = { list = o.list, key = o.key, value = o.value, revision = o.revision,
    all_revision = o.all_revision, prefix = o.prefix, map = o.map, within = o.within,
    removed = o.removed, removed_is = o.removed_is, wanted = {},
    key_base64 = o.base64 % 2 == 1, value_base64 = o.base64 >= 2 }
  for i, pair in ipairs(o.get) do f.wanted[i] = { name = pair[1], path = pair[2] } end
  formats[given] = f
  return f
end

-- ---- Changes ----------------------------------------------------------------------------------

--- A key has this value now. nil: it is a folder mark, and has no value.
---@param key string
---@param value? string
---@param revision? string|number of this key
function Keys:put(key, value, revision)
  core.keys_put(self.core, text("put: the key", key), value_of("put", value),
    revision_of("put", revision))
end

--- A key is gone.
---@param key string
---@param revision? string|number of its removal
function Keys:delete(key, revision)
  core.keys_delete(self.core, text("delete: the key", key), revision_of("delete", revision))
end

--- All keys that begin with this text are gone.
---@param prefix string
function Keys:delete_prefix(prefix)
  core.keys_delete_prefix(self.core, text("delete_prefix: the prefix", prefix))
end

--- Changes from the bytes of an answer in JSON, by the description of such answers. May wait.
--- Returns the number of records, the key of the last one, and the values that the description
--- names in `get`; nil, message, code if the answer is no such answer.
---@param bytes string
---@param description segue.CallAnswer
---@return { count: integer, last_key?: string }?
---@return string? message
---@return string? code
function Keys:read(bytes, description)
  return result(core.keys_parse(self.core, text("read: the answer", bytes),
    format_of("segue.keys: read", description)))
end

--- Begins a full read. Its keys replace everything when it is done(); the changes that put and
--- delete report meanwhile are newer, and stay.
---@return segue.KeysRead
function Keys:replace()
  return setmetatable({ core = core.keys_begin(self.core) }, Read)
end

--- The number of keys, and the bytes of keys and values.
---@return integer keys
---@return integer bytes
function Keys:count()
  local keys, bytes = core.keys_counts(self.core)
  return keys, bytes
end

--- Whether everything was read once. A fetch that gets a revision while the space is not ready (the
--- policy was loaded again) must read everything.
---@return boolean
function Keys:ready()
  local _, _, ready = core.keys_counts(self.core)
  return ready
end

-- ---- Full reads -------------------------------------------------------------------------------

--- A key that the store has.
---@param key string
---@param value? string
---@param revision? string|number
function Read:put(key, value, revision)
  core.keys_read_put(self.core, text("put: the key", key), value_of("put", value),
    revision_of("put", revision))
end

--- Keys from the bytes of an answer in JSON; see segue.Keys.read.
---@param bytes string
---@param description segue.CallAnswer
---@return { count: integer, last_key?: string }?
---@return string? message
---@return string? code
function Read:read(bytes, description)
  return result(core.keys_parse(self.core, text("read: the answer", bytes),
    format_of("segue.keys: read", description)))
end

--- The read is complete: the key space has these keys, and no others. May wait. Changes whose
--- revision is a number that is not above `revision` are a part of the read.
---@param revision? string|number of the store, as of which all of it was read
---@return boolean?
---@return string? message
---@return string? code
function Read:done(revision)
  return result(core.keys_done(self.core, revision_of("done", revision)))
end

-- ---- The constructor --------------------------------------------------------------------------

local function mounts_of(o)
  local mounts = {}
  local function add(prefix, at, whole)
    mounts[#mounts + 1] = { prefix = prefix, at = at, whole = whole }
  end
  for _, prefix in ipairs(o.prefix) do add(prefix) end
  for _, pair in ipairs(o.prefixes) do add(pair[1], pair[2]) end
  for _, key in ipairs(o.key) do add(key, nil, true) end
  for _, pair in ipairs(o.keys) do add(pair[1], pair[2], true) end
  return mounts
end

---@class segue.keys
local M = {}

--- Returns the userdata of a key space; nil: the value is none.
---@param value any
---@return userdata?
function M.core(value)
  return type(value) == "table" and getmetatable(value) == Keys and value.core or nil
end

--- A key space: the keys of a store as one document, for a source to deliver.
---@param options segue.CallKeys
---@return segue.Keys
function M.keys(options)
  local o = core.options("segue.keys", "keys", nil, options)
  o.mounts = mounts_of(o)
  return setmetatable({ core = core.keys_open(o) }, Keys)
end

return M
