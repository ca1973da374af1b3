-- SPDX-License-Identifier: MIT
-- Sources on a network: segue.source, for which a policy or a plugin provides fetch and watch, and
-- segue.url, which uses it. Both functions run as tasks; retry, back-off, fallback from push to
-- pull, guards and cached deliveries are the engine's, the same for all sources.
local core = require "segue.core"
local check = require "segue.check"
local duration = require "segue.duration"
local guard = require "segue.guard"
local plain = require "segue.plain"
local url = require "segue.url"

local pairs, ipairs, type, tostring, next = pairs, ipairs, type, tostring, next

local M = {}
local lua_plugin, c_source

local keys = {
  name = "text", fetch = "function", watch = "function", options = "table", empty = { "allow" },
  optional = "boolean", guard = "table", timeout = "duration", interval = "duration",
  safety = "duration", retry = "table", plugin = "text",
}
local retry_keys = { min = "duration", max = "duration" }
local document_keys = { name = "text", text = "string", format = { "yaml", "json", "text" },
  value = "table" }
keys.format = document_keys.format

---@class segue.Document
---@field name? string for messages; default: the source's
---@field text? string YAML or JSON
---@field format? "yaml"|"json"|"text" default: the source's, else YAML
---@field value? table instead of text: plain data

---@class segue.SourceSpec
---@field name string
---@field fetch? fun(self: table): (segue.Document[]|table|true)?, string?, string?
---@field plugin? string instead of fetch and watch: a plugin that brings them
---@field watch? fun(self: table, emit: fun(documents?: table, revision?: string))
---@field options? table plain data, for the two functions: self.options
---@field format? "yaml"|"json"|"text" of its documents
---@field empty? "allow" a document without content is an empty map
---@field optional? boolean without it a start needs it
---@field guard? segue.Guard
---@field timeout? segue.Duration of one fetch, default "10s"
---@field interval? segue.Duration between two fetches; without it only requests and polls fetch
---@field safety? segue.Duration between two fetches beside a watch, default "5m"
---@field retry? { min?: segue.Duration, max?: segue.Duration } after failures, "1s" to "60s"

-- ---- What comes back --------------------------------------------------------------------------

local function wrong(source, format, ...)
  error(("source '%s': "):format(source.name) .. format:format(...), 0)
end

local function value_document(source, name, value)
  local converted, at, why = plain.convert(value)
  if converted == nil then
    wrong(source, "%s %s", at == "" and "the value" or at, why)
  elseif not converted.keys then
    wrong(source, "a document must be a map, with texts as keys, not a list")
  end
  return { name = name, value = converted, file = name, line = 0 }
end

local function document(source, item, i)
  if type(item) ~= "table" then
    wrong(source, "document %d is a %s: it must be { text = ... } or { value = ... }", i,
      type(item))
  end
  check.table(item, document_keys, function(_, message)
    wrong(source, "document %d: %s", i, message)
  end)
  local name = item.name or source.name
  if (item.text == nil) == (item.value == nil) then
    wrong(source, "document %d must have a text or a value, and not both", i)
  elseif item.value then
    return value_document(source, name, item.value)
  end
  return { name = name, text = item.text, format = item.format or source.format or "yaml" }
end

-- A document in the place of the list would become configuration with the key `text`: that is
-- always a mistake, and a schema need not reject it. Among other keys, `text` is an ordinary
-- value.
local function is_document(result)
  if type(result.text) ~= "string" and type(result.value) ~= "table" then return false end
  for key in pairs(result) do
    if not document_keys[key] then return false end
  end
  return true
end

-- A list of documents, or the value of the only one: a map. An empty table is an empty map.
local function documents(source, result)
  if type(result) ~= "table" or core.kind(result) then
    wrong(source, "delivered a %s: it must be a list of documents, or a table with the values",
      type(result))
  end
  if is_document(result) then
    wrong(source, "delivered one document: return a list of documents, { { text = ... } }; or, if "
      .. "a key of the configuration is meant, { { value = ... } }")
  end
  if next(result) == nil or #result == 0 then
    return { value_document(source, source.name, result) }
  end
  local list = {}
  for i, item in ipairs(result) do list[i] = document(source, item, i) end
  for key in pairs(result) do
    if type(key) ~= "number" or not list[key] then
      wrong(source, "delivered a list of documents with the key '%s' in it", tostring(key))
    end
  end
  return list
end

local function revision_of(source, revision)
  if revision == nil then return nil end
  if type(revision) == "number" then revision = tostring(revision) end
  if type(revision) ~= "string" or #revision > 1000 or revision:find("[%z\r\n]") then
    wrong(source, "its revision must be a short text, not a %s", type(revision))
  end
  return revision
end

-- For the core: list, revision; or true, revision where nothing changed; or nil, message, code.
local function fetcher(source, spec)
  return function(revision)
    spec.revision = revision
    local result, more, code = spec.fetch(spec)
    if result == true then return true, revision_of(source, more) end
    if not result then
      if type(more) ~= "string" then
        wrong(source, "fetch returned %s without a reason: return nil and a text with the reason",
          tostring(result))
      end
      return nil, more, code
    end
    return documents(source, result), revision_of(source, more)
  end
end

local function watcher(source, spec)
  if not spec.watch then return nil end
  return function(revision, push)
    spec.revision = revision
    local result, why, code = spec.watch(spec, function(result, revised)
      if result == nil then return push() end
      push(documents(source, result), revision_of(source, revised))
    end)
    if result == nil and type(why) == "string" then return nil, why, code end
  end
end

-- ---- Constructors -----------------------------------------------------------------------------

local function ms(value)
  return value and duration.parse(value) or nil
end

local function retry_of(name, retry)
  check.table(retry or {}, retry_keys, function(_, message)
    error(("%s: retry: %s"):format(name, message), 5)
  end)
  local low, high = ms(retry and retry.min), ms(retry and retry.max)
  if low == 0 or high == 0 or (low or 1000) > (high or 60000) then
    error(("%s: retry: min must be longer than 0 and not longer than max"):format(name), 4)
  end
  return low, high
end

-- Adds the fields that all sources have; `own` identifies this source among others.
local function finish(name, kind, source, spec, own)
  if spec.timeout ~= nil and ms(spec.timeout) == 0 then
    error(name .. ": timeout must be longer than 0", 3)
  end
  if spec.interval ~= nil and ms(spec.interval) < 100 then
    error(name .. ": interval must be at least \"100ms\"", 3)
  end
  source.tag, source.kind = "source", kind
  source.file, source.line = core.place()
  source.optional = spec.optional or false
  source.allow_empty = spec.empty == "allow"
  source.guard = guard.parse(name, spec.guard)
  source.timeout_ms = ms(spec.timeout) or 10000
  source.interval_ms, source.safety_ms = ms(spec.interval), ms(spec.safety)
  source.retry_min_ms, source.retry_max_ms = retry_of(name, spec.retry)
  source.spec = plain.identity { kind, source.name, source.format or "", own }
  return source
end

-- The table that a plugin in Lua returns; nil: there is no such file, so the plugin is in C.
function lua_plugin(spec)
  local name = "segue.plugin." .. spec.plugin
  if spec.plugin:find("/", 1, true) or not core.has_library(name) then return nil end
  local plugin = require(name)
  if type(plugin) ~= "table" or type(plugin.fetch) ~= "function" then
    error(("segue.source: the plugin %s is no source: it has no function fetch"):format(
      spec.plugin), 3)
  end
  check.table(spec.options or {}, plugin.options or {}, function(_, message)
    error(("segue.source: plugin %s: options: %s"):format(spec.plugin, message), 5)
  end)
  return plugin
end

function c_source(spec)
  local source = { name = spec.name, plugin = spec.plugin, options = spec.options or {} }
  return finish("segue.source", "plugin", source, spec, { spec.plugin, spec.options or {} })
end

--- A source of one's own. fetch(self) returns what there is: a list of documents, or a table with
--- the values; then its revision, if it has one, which self.revision is the next time. `true`:
--- that revision still holds. nil and a message: it cannot be had. watch(self, emit) runs as long
--- as it can and calls emit(documents, revision) with all there is when it changes, or emit(): ask.
---@param spec segue.SourceSpec
---@return segue.Source
function M.source(spec)
  if type(spec) ~= "table" then
    error(("segue.source needs a table, not a %s"):format(type(spec)), 2)
  end
  check.options("segue.source", spec, keys)
  if not spec.name then error("segue.source: name is missing", 2) end
  if spec.plugin and (spec.fetch or spec.watch) then
    error("segue.source: a plugin has fetch and watch of its own: remove those here", 2)
  end
  local plugin = spec.plugin and lua_plugin(spec)
  if spec.plugin and not plugin then return c_source(spec) end
  if not plugin and not spec.fetch then
    error("segue.source: fetch is missing: fetch = function(self) ... end", 2)
  end
  local source = { name = spec.name, format = spec.format }
  local self = {}
  for key, value in pairs(spec) do self[key] = value end
  if plugin then self.fetch, self.watch = plugin.fetch, plugin.watch end
  source.fetch, source.watch = fetcher(source, self), watcher(source, self)
  return finish("segue.source", "source", source, spec,
    spec.plugin and { spec.plugin, spec.options or {} } or spec.options or {})
end

--- A source: a document that an HTTP server gives. It is asked again every interval, with the
--- conditions that spare the server and us the same bytes.
---@param spec string|segue.UrlSpec
---@return segue.Source
function M.url(spec)
  local self = url.judge(spec)
  local source = { name = self.name, format = self.format }
  source.fetch = fetcher(source, self)
  finish("segue.url", "url", source, self.spec, self.own)
  source.timeout_ms = source.timeout_ms + 10000 -- for the file with the token
  return source
end

return M
