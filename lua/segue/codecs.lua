-- SPDX-License-Identifier: MIT
-- Formats and encodings: segue.json, segue.yaml, segue.base64, segue.percent, segue.hash and
-- segue.array. The work is done in C, within the limits of the state. Wrong arguments are thrown at
-- the caller; text that cannot be decoded is an answer: nil, message, code.
local core = require "segue.core"

local type, error, tostring, pairs = type, error, tostring, pairs

local M = {}

local function text_argument(name, value)
  if type(value) ~= "string" then
    error(("%s needs a text, not a %s"):format(name, type(value)), 3)
  end
end

local function decoder(format, name)
  local title = format:upper()
  return function(text, options)
    text_argument(name, text)
    local o = core.options(name, "decode", nil, options)
    return core.decode(format, text, o.name or title, o.positions)
  end
end

local function encoder(format, name)
  return function(value, options)
    if value == nil then error(name .. " needs a value: nil is none, segue.null is null", 2) end
    local o = core.options(name, "encode " .. format, nil, options)
    local text, path, why = core.encode(format, value, o.indent or 0)
    if text then return text end
    error(("%s: %s %s"):format(name, path == "" and "the value" or path, why), 2)
  end
end

M.json, M.yaml = {}, {}

--- A value from JSON (RFC 8259): maps and lists as tables, null as segue.null, integers exactly
--- (beyond 2^53 as segue.int; beyond 64 bits as the nearest number). A key that comes twice is an
--- error. With positions the second result is a function: where("a.b[0]") returns line and column.
---@param text string
---@param options? segue.CallDecode
---@return any value nil: it is not JSON, or is too large
---@return (string|fun(path?: string): integer?, integer?)? message or where
---@return string? code "SEGUE_ESYNTAX", "SEGUE_EENCODING", "SEGUE_ELIMIT" ...
---@return integer? line
---@return integer? column
M.json.decode = decoder("json", "segue.json.decode")

--- JSON of plain data or of a config value. The keys of a table come in the order of their bytes,
--- so equal values give equal texts. An empty table is {} unless it was decoded from a list, or
--- marked by segue.array. Throws for functions, NaN, text that is not UTF-8 and tables that contain
--- themselves.
---@param value any
---@param options? segue.CallEncodeJson
---@return string
M.json.encode = encoder("json", "segue.json.encode")

--- A value from one document of YAML 1.2 (core schema), as from JSON.
---@param text string
---@param options? segue.CallDecode
---@return any value nil: it is not YAML, or is too large
---@return (string|fun(path?: string): integer?, integer?)? message or where
---@return string? code
---@return integer? line
---@return integer? column
M.yaml.decode = decoder("yaml", "segue.yaml.decode")

--- YAML in block style, as segue.json.encode; readers of YAML 1.1 read the same values.
---@param value any
---@return string
M.yaml.encode = encoder("yaml", "segue.yaml.encode")

--- Marks a table as a list, so that it is one also while it is empty. Returns the table.
---@generic T: table
---@param items? T default: a new table
---@return T
function M.array(items)
  if items == nil then items = {} end
  if type(items) ~= "table" or core.kind(items) then
    error(("segue.array needs a table, not a %s"):format(core.kind(items) and "config value"
      or type(items)), 2)
  end
  return core.mark_list(items)
end

M.base64 = {}

local function variant(name, url)
  if url ~= nil and url ~= "url" then
    error(('%s: the variant must be "url", not %s'):format(name, tostring(url)), 3)
  end
  return url == "url"
end

--- Base64 of bytes (RFC 4648), with padding; "url": with - and _, without padding.
---@param bytes string
---@param alphabet? "url"
---@return string
function M.base64.encode(bytes, alphabet)
  text_argument("segue.base64.encode", bytes)
  return core.base64_encode(bytes, variant("segue.base64.encode", alphabet))
end

--- The bytes of a base64 text; nil, message, code if it is none. White space is not skipped.
---@param text string
---@param alphabet? "url" padding may be missing
---@return string?
---@return string? message
---@return string? code
function M.base64.decode(text, alphabet)
  text_argument("segue.base64.decode", text)
  return core.base64_decode(text, variant("segue.base64.decode", alphabet))
end

M.percent = {}

--- Percent-encoding (RFC 3986): everything but letters, digits, "-", ".", "_", "~" and the
--- characters of `keep` becomes %XX.
---@param text string
---@param keep? string "/" for a path
---@return string
function M.percent.encode(text, keep)
  text_argument("segue.percent.encode", text)
  if keep ~= nil then text_argument("segue.percent.encode", keep) end
  return core.percent_encode(text, keep)
end

--- The bytes of a percent-encoded text; "+" stays "+". nil, message, code if it is malformed.
---@param text string
---@return string?
---@return string? message
---@return string? code
function M.percent.decode(text)
  text_argument("segue.percent.decode", text)
  return core.percent_decode(text)
end

M.hash = {}

local function form(name, raw)
  if raw ~= nil and raw ~= "raw" then
    error(('%s: the form must be "raw", not %s'):format(name, tostring(raw)), 3)
  end
  return raw == "raw"
end

local digests = { md5 = true, sha1 = true, sha256 = true, sha512 = true }
for digest in pairs(digests) do
  local name = "segue.hash." .. digest
  M.hash[digest] = function(bytes, raw)
    text_argument(name, bytes)
    return core.digest(digest, bytes, form(name, raw))
  end
end

--- HMAC of bytes with "md5", "sha1", "sha256" or "sha512": hex digits, or with "raw" the bytes.
--- segue.hash.md5, sha1, sha256 and sha512 are called as hash.sha256(bytes [, "raw"]).
---@param digest "md5"|"sha1"|"sha256"|"sha512"
---@param key string
---@param bytes string
---@param raw? "raw"
---@return string? nil: OpenSSL is not installed, or does not make it
---@return string? message
---@return string? code
function M.hash.hmac(digest, key, bytes, raw)
  if not digests[digest] then
    error(("segue.hash.hmac: there is no digest '%s': use md5, sha1, sha256 or sha512"):format(
      tostring(digest)), 2)
  end
  text_argument("segue.hash.hmac", key)
  text_argument("segue.hash.hmac", bytes)
  return core.digest(digest, bytes, form("segue.hash.hmac", raw), key)
end

--- CRC-32 of bytes, as zlib computes it: 8 hex digits.
---@param bytes string
---@return string
function M.hash.crc32(bytes)
  text_argument("segue.hash.crc32", bytes)
  return core.crc32(bytes)
end

--- XXH3 of bytes, 128 bits: 32 hex digits. For finding changes fast; no defence against forgery.
---@param bytes string
---@return string
function M.hash.xxh3(bytes)
  text_argument("segue.hash.xxh3", bytes)
  return core.xxh3(bytes)
end

return M
