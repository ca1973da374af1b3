-- SPDX-License-Identifier: MIT
-- Key spaces for specs, through the C interface; and helpers that look at its documents.
local C = require "spec.support.c"
local ffi = C.ffi

local M = {}
local Space = {}
Space.__index = Space

local kinds = { scalar = C.SEGUE__SPACE_SCALAR, text = C.SEGUE__SPACE_TEXT,
  yaml = C.SEGUE__SPACE_YAML, json = C.SEGUE__SPACE_JSON }

--- Opens a key space. options: those of segue.keys, prefix a text, prefixes a map, key a text.
--- Returns nil and the error where an option is wrong.
function M.open(options)
  options = options or { prefix = "" }
  local anchors = {}
  local function text(s)
    if s == nil then return nil end
    anchors[#anchors + 1] = s
    return s
  end
  local mounts, n = ffi.new("segue__space_mount[8]"), 0
  local function mount(prefix, at, whole)
    mounts[n].prefix, mounts[n].at, mounts[n].whole = text(prefix), text(at), whole
    n = n + 1
  end
  if options.prefix then mount(options.prefix, nil, false) end
  for prefix, at in pairs(options.prefixes or {}) do mount(prefix, at, false) end
  if options.key then mount(options.key, nil, true) end
  local o = ffi.new("segue__space_options")
  o.size, o.document, o.mounts, o.mount_count = ffi.sizeof(o), 77, mounts, n
  o.source, o.name = text(options.source or "etcd"), nil
  for _, name in ipairs { "at", "separator", "value_key", "commit" } do
    o[name] = text(options[name])
  end
  o.values = kinds[options.values or "scalar"]
  o.by_suffix, o.lists = options.suffix or false, options.lists or false
  o.base64 = options.binary == "base64"
  local lists = {}
  for _, name in ipairs { "include", "exclude" } do
    local items = options[name] or {}
    local list = ffi.new("const char *[?]", #items + 1)
    for i, item in ipairs(items) do list[i - 1] = text(item) end
    lists[#lists + 1] = list
    o[name], o[name .. "_count"] = list, #items
  end
  o.max_keys, o.max_bytes = options.max_keys or 0, options.max_bytes or 0
  local out, err = ffi.new("segue__space *[1]"), C.error()
  local rc = C.segue__space_open(out, o, err)
  if rc ~= 0 then return nil, C.err(err), rc end
  assert(#anchors >= 0 and #lists == 2) -- the texts stayed alive until they were copied
  return setmetatable({ space = out[0], documents = {} }, Space)
end

local function write_of(key, value, revision, removed)
  local w = ffi.new("segue__space_write")
  w.key, w.key_len = key, #key
  if value then w.value, w.value_len = value, #value end
  if revision then
    revision = tostring(revision)
    w.revision, w.revision_len = revision, #revision
  end
  w.removed = removed or false
  return w, { key, value, revision }
end

function Space:put(key, value, revision)
  local w, anchor = write_of(key, value, revision)
  local rc = C.segue__space_put(self.space, w)
  return rc, anchor
end

function Space:delete(key, revision)
  local w, anchor = write_of(key, nil, revision, true)
  local rc = C.segue__space_put(self.space, w)
  return rc, anchor
end

function Space:delete_prefix(prefix)
  return C.segue__space_delete_prefix(self.space, prefix, #prefix)
end

local Read = {}
Read.__index = Read

function Space:replace()
  local out = ffi.new("segue__space_read *[1]")
  local rc = C.segue__space_begin(self.space, out)
  if rc ~= 0 then return nil, rc end
  return setmetatable({ space = self, read = out[0] }, Read)
end

function Read:put(key, value, revision)
  local w, anchor = write_of(key, value, revision)
  local rc = C.segue__space_read_put(self.read, w)
  return rc, anchor
end

function Read:done(revision)
  local rc = C.segue__space_apply(self.space.space, self.read, revision and tostring(revision))
  self:drop()
  return rc
end

function Read:drop()
  C.segue__space_read_free(self.read)
  self.read = nil
end

--- Replaces everything by this map.
function Space:fill(map, revision)
  local read = assert(self:replace())
  for key, value in pairs(map) do read:put(key, value, revision) end
  return read:done(revision)
end

--- Parses an answer in JSON. read: a full read, or nil for changes.
function Space:parse(answer, format, read)
  local doc = require("spec.support.document").parse(answer, { format = "json", foreign = true })
  local f, anchors = ffi.new("segue__space_format"), {}
  f.size = ffi.sizeof(f)
  for name, value in pairs(format) do
    anchors[#anchors + 1] = value
    f[name] = value
  end
  local count, err, last = ffi.new("size_t[1]"), C.error(), ffi.new("segue__buf[1]")
  local rc = C.segue__space_parse(self.space, read and read.read, f, doc.root, count, last, err)
  local key = last[0].len > 0 and ffi.string(last[0].data, last[0].len) or nil
  C.segue__buf_deinit(last)
  assert(#anchors > 0)
  return rc, tonumber(count[0]), key, C.err(err)
end

--- The next document, or nil and its error. close() frees it, or drop().
function Space:take()
  local out, err = ffi.new("segue__document *[1]"), C.error()
  local rc = C.segue__space_take(self.space, out, err)
  if rc ~= 0 then return nil, C.err(err), rc end
  self.documents[#self.documents + 1] = out[0]
  return out[0]
end

--- Frees a document of this space.
function Space:drop(doc)
  for i, d in ipairs(self.documents) do
    if d == doc then
      table.remove(self.documents, i)
      C.segue__document_unref(doc)
      return
    end
  end
  error("the document is none of this space")
end

function Space:json(doc)
  doc = doc or assert(self:take())
  local buf = ffi.new("segue__buf[1]")
  C.segue__json_write(buf, doc.root, 0)
  local text = ffi.string(buf[0].data, buf[0].len)
  C.segue__buf_deinit(buf)
  return text
end

--- "KEY@REVISION", line of a path in a document.
function M.place(doc, path)
  local node = C.segue_node_get(doc.root, path)
  if node == nil then return nil end
  local file, line, column = ffi.new("const char *[1]"), ffi.new("uint32_t[1]"),
    ffi.new("uint32_t[1]")
  C.segue__document_place(doc, node, file, line, column)
  return ffi.string(file[0]), line[0], column[0]
end

function M.hash(doc)
  local hex = ffi.new("char[33]")
  C.segue__hash_hex(C.segue__node_hash(doc.root), hex)
  return ffi.string(hex)
end

function Space:count() return tonumber(C.segue__space_count(self.space)) end

--- Frees the space, before (documents_first) or after its documents.
function Space:close(documents_first)
  if not self.space then return end
  if not documents_first then C.segue__space_close(self.space) end
  for _, doc in ipairs(self.documents) do C.segue__document_unref(doc) end
  if documents_first then C.segue__space_close(self.space) end
  self.space, self.documents = nil, {}
end

return M
