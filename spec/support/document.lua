-- SPDX-License-Identifier: MIT
-- Documents and trees for specs: parse a text, look at the tree as JSON or node by node.
local borrowed = require "spec.support.borrowed"
local C = require "spec.support.c"
local assert = require "luassert"
local ffi = C.ffi

local M = {}
local next_id = 0

--- The message of a document without content.
M.empty_message = "the file is empty: was it cut short? ({} in it, or empty = \"allow\" at its "
  .. "source, means that this is wanted)"

local formats = { yaml = C.SEGUE__YAML, json = C.SEGUE__JSON, built = C.SEGUE__BUILT,
  text = C.SEGUE__TEXT }

--- A document that is not parsed yet. options: format ("yaml", "json", "built", "text"), name,
--- source, expand, by_file, empty, foreign. The collector gives its reference back.
function M.new(text, options)
  options = options or {}
  next_id = next_id + 1
  local out = ffi.new("segue__document *[1]")
  local data, len = nil, 0
  if text then data, len = C.bytes(text) end
  C.check(C.segue__document_new(out, next_id, options.source or "source", options.name or "file",
    formats[options.format or "yaml"], data, len))
  out[0].expand = options.expand or false
  out[0].by_file = options.by_file or false
  out[0].allow_empty = options.empty == "allow"
  out[0].foreign = options.foreign or false
  return borrowed.keep(ffi.gc(out[0], C.segue__document_unref))
end

--- A mask of patterns. Without any it knows that there are no secrets. The collector unrefs it.
function M.mask(patterns)
  patterns = patterns or {}
  local list = ffi.new("const char *[?]", #patterns + 1)
  for i, text in ipairs(patterns) do list[i - 1] = text end
  local out, err = ffi.new("segue__mask *[1]"), C.error()
  C.check(C.segue__mask_new(out, list, #patterns, err), err)
  return borrowed.keep(ffi.gc(out[0], C.segue__mask_unref))
end

local nothing_secret = M.mask()

-- The mask of each struct of limits: C holds only a pointer, and the collector frees a mask that no
-- Lua value refers to.
local masks = setmetatable({}, { __mode = "k" })

--- Limits for the readers. options: depth, nodes, bytes; mask: values that errors must not show (a
--- mask; false: not known). Without a mask errors show all values. The limits keep the mask alive.
function M.limits(options)
  options = options or {}
  local limits = ffi.new("segue__limits[1]")
  for name, value in pairs(options) do
    if name ~= "mask" then limits[0][name] = value end
  end
  if options.mask ~= false then
    masks[limits] = options.mask or nothing_secret
    limits[0].mask = C.segue__mask_given
    limits[0].mask_data = masks[limits]
  end
  return limits
end

--- Parses a document: true, or nil and the error as a table. options: limits, env (a table).
function M.read(doc, options)
  options = options or {}
  local err = C.error()
  local rc
  local limits = M.limits(options.limits or { mask = options.mask })
  if options.env then
    local values = {} -- strings that C borrows
    C.with("segue__getenv", function(_, name)
      local value = options.env[ffi.string(name)]
      if not value then return nil end
      values[#values + 1] = ffi.new("char[?]", #value + 1, value)
      return values[#values]
    end, function(getenv)
      rc = C.segue__document_parse(doc, limits, getenv, nil, err)
    end)
  else
    rc = C.segue__document_parse(doc, limits, nil, nil, err)
  end
  if rc == 0 then return true end
  local reported = C.err(err)
  assert(reported.code == rc, "the error's code is what the call answered")
  return nil, reported
end

--- Parses a text: the document, or nil and the error.
function M.parse(text, options)
  local doc = M.new(text, options)
  local ok, err = M.read(doc, options)
  if not ok then
    M.free(doc)
    return nil, err
  end
  return doc
end

--- Parses a text that must be good.
function M.good(text, options)
  local doc, err = M.parse(text, options)
  if not doc then error(err.text, 2) end
  return doc
end

--- Gives a document's reference back now.
function M.free(doc)
  C.segue__document_unref(ffi.gc(doc, nil))
end

--- A tree as JSON.
function M.json(node, indent)
  local buf = ffi.new("segue__buf[1]")
  C.segue__json_write(buf, node, indent or 0)
  local text = C.buf(buf[0])
  C.segue__buf_deinit(buf)
  return text
end

--- The value of a text, as JSON; or the error's text and table.
function M.value(text, options)
  local doc, err = M.parse(text, options)
  if not doc then return err.text, err end
  local json = M.json(doc.root)
  M.free(doc)
  return json
end

--- Checks texts: each entry is a text, and its value as JSON.
function M.means(cases)
  for _, case in ipairs(cases) do
    assert.equal(case[2], (M.value(case[1])), case[1])
  end
end

--- Checks texts that are refused: each entry is a text, the error's name, and its whole text.
function M.refuses(cases, options)
  for _, case in ipairs(cases) do
    local text, err = M.value(case[1], options)
    assert.is_table(err, "accepted: " .. case[1])
    assert.equal(case[3], text)
    assert.equal(case[2], err.name)
  end
end

--- The hash of a node or of a document, in hex.
function M.hash(of)
  local hex = ffi.new("char[33]")
  local is_document = ffi.istype("segue__document", of) or ffi.istype("segue__document *", of)
  C.segue__hash_hex(is_document and of.hash or C.segue__node_hash(of), hex)
  return ffi.string(hex)
end

--- The node at a path; raises if there is none.
function M.at(doc, path)
  local node = C.segue_node_get(doc.root, path)
  if node == nil then error("nothing at " .. path, 2) end
  return node
end

--- Allocations that are live when what the collector can free is freed.
function M.live()
  borrowed.release()
  collectgarbage()
  collectgarbage()
  return tonumber(C.segue__mem_live())
end

--- A config merged from documents; the collector gives its reference back.
function M.merge(...)
  local docs = { ... }
  local list = ffi.new("segue__document *[?]", #docs + 1, docs)
  local out, err = ffi.new("segue__config *[1]"), C.error()
  C.check(C.segue__config_merge(out, list, #docs, err), err)
  return borrowed.keep(ffi.gc(out[0], C.segue__config_unref))
end

--- The differences of two nodes as lines "+ path value", "- path value", "~ path old -> new", and
--- how many there are.
function M.diff(from, to)
  local changes = ffi.new("segue__changes[1]")
  C.check(C.segue__diff(from, to, changes))
  local lines = {}
  for i = 0, tonumber(changes[0].count) - 1 do
    local c = changes[0].items[i]
    local path = ffi.string(c.path)
    if c.op == C.SEGUE__ADD then
      lines[#lines + 1] = ("+ %s %s"):format(path, M.json(c.to))
    elseif c.op == C.SEGUE__REMOVE then
      lines[#lines + 1] = ("- %s %s"):format(path, M.json(c.from))
    else
      lines[#lines + 1] = ("~ %s %s -> %s"):format(path, M.json(c.from), M.json(c.to))
    end
  end
  local total = tonumber(changes[0].total)
  C.segue__changes_deinit(changes)
  return lines, total
end

return M
