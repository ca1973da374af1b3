-- SPDX-License-Identifier: MIT
-- Sources on a network: segue.source, for which a policy or a plugin provides fetch and watch, and
-- segue.url, which uses it. Both functions run as tasks; retry, back-off, fallback from push to
-- pull, guards and cached deliveries are the engine's, the same for all sources.
local core = require "segue.core"
local keys = require "segue.keys"
local plain = require "segue.plain"
local url = require "segue.url"

local pairs, ipairs, type, tostring, next = pairs, ipairs, type, tostring, next

local M = {}

local formats = { yaml = true, json = true, text = true }
local document_keys = { format = true, name = true, text = true, value = true, removed = true }

---@class segue.Document
---@field name? string for messages; default: the source's
---@field text? string YAML or JSON
---@field format? "yaml"|"json"|"text" default: the source's, else YAML
---@field value? table instead of text: plain data
---@field removed? true instead of text, among changes: the document of this name is gone

---@class segue.SourceOutcome
---@field revision? string of the delivery that the reload used
---@field outcome "applied"|"unchanged"|"held"|"rejected"|"failed"|"reverted"
---@field generation integer that is live now; 0: none
---@field errors { message: string, code: string, path?: string, file?: string, line?: integer }[]

-- ---- What comes back --------------------------------------------------------------------------

local function wrong(source, format, ...)
  error(("source '%s': "):format(source.name) .. format:format(...), 0)
end

local function value_document(source, name, value)
  local copy, at, why = plain.copy(value)
  if copy == nil then
    wrong(source, "%s %s", at == "" and "the value" or at, why)
  elseif at ~= "map" then
    wrong(source, "a document must be a map, with texts as keys, not a list")
  end
  return { name = name, value = copy, file = name, line = 0 }
end

local function document(source, item, i)
  if type(item) ~= "table" then
    wrong(source, "document %d is a %s: it must be { text = ... } or { value = ... }", i,
      type(item))
  end
  for key in pairs(item) do
    if not document_keys[key] then
      wrong(source, "document %d: %s is not a known key here: %s", i, tostring(key),
        core.hint(tostring(key), { "format", "name", "removed", "text", "value" }))
    end
  end
  if item.format and not formats[item.format] then
    wrong(source, 'document %d: format must be "yaml", "json" or "text"', i)
  end
  local name = item.name or source.name
  if item.removed ~= nil then
    wrong(source, "document %d is removed: that is a change, which needs the revision that it "
      .. "changes: emit(documents, revision, base)", i)
  elseif (item.text == nil) == (item.value == nil) then
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

-- A list of changes: each document has a name, and replaces the one of that name or removes it.
local function changes(source, result)
  if type(result) ~= "table" or core.kind(result) then
    wrong(source, "delivered a %s: changes are a list of documents", type(result))
  end
  local list = {}
  for i, item in ipairs(result) do
    if type(item) ~= "table" or type(item.name) ~= "string" or item.name == "" then
      wrong(source, "change %d must be a document with a name", i)
    end
    if item.removed == true and item.text == nil and item.value == nil then
      list[i] = { name = item.name, removed = true }
    else
      list[i] = document(source, item, i)
    end
  end
  for key in pairs(result) do
    if type(key) ~= "number" or not list[key] then
      wrong(source, "delivered a list of changes with the key '%s' in it", tostring(key))
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

-- For the core: list or key space, revision, base (nil: the list is everything).
local function delivery(source, result, revision, base)
  revision, base = revision_of(source, revision), revision_of(source, base)
  local space = keys.core(result)
  if space then return space, revision end
  if base == nil then return documents(source, result), revision end
  if revision == nil then
    wrong(source, "delivered changes without their revision: it is what the next changes refer to")
  end
  return changes(source, result), revision, base
end

-- The pause that a failure requests.
local function pause_of(source, pause)
  if pause == nil or (type(pause) == "number" and pause >= 0) then return pause end
  if type(pause) == "string" and pause:find("^%d+%.?%d*%a+") then return pause end
  wrong(source, 'the pause of its failure must be a number of seconds or a text such as "30s"')
end

-- For the core: what delivery returns; or true, revision where nothing changed; or nil, message,
-- code, pause.
local function fetcher(source, spec)
  return function(revision)
    spec.revision = revision
    local result, more, code, pause = spec.fetch(spec)
    if result == true then return true, revision_of(source, more) end
    if not result then
      if type(more) ~= "string" then
        wrong(source, "fetch returned %s without a reason: return nil and a text with the reason",
          tostring(result))
      end
      return nil, more, code, pause_of(source, pause)
    end
    return delivery(source, result, more, code)
  end
end

local function watcher(source, spec)
  if not spec.watch then return nil end
  return function(revision, push)
    spec.revision = revision
    local result, why, code, pause = spec.watch(spec, function(result, revised, base)
      if result == nil then return push() end
      if result == true then return push(true, revision_of(source, revised)) end
      push(delivery(source, result, revised, base))
    end)
    if result == nil and type(why) == "string" then
      return nil, why, code, pause_of(source, pause)
    end
  end
end

local function notified(spec, name)
  local fn = spec[name]
  return fn and function(what) fn(spec, what) end
end

-- ---- Constructors -----------------------------------------------------------------------------

-- The table that a plugin in Lua returns; nil: there is no such file, so the plugin is in C.
local function lua_plugin(plugin)
  if type(plugin) ~= "string" or plugin:find("/", 1, true) then return nil end
  local name = "segue.plugin." .. plugin
  if not core.has_library(name) then return nil end
  local loaded = require(name)
  if type(loaded) ~= "table" or type(loaded.fetch) ~= "function" then
    error(("segue.source: the plugin %s is no source: it has no function fetch"):format(plugin), 3)
  end
  return loaded
end

-- The options with the defaults that the plugin declares.
local function plugin_options(declared, given)
  if type(declared) ~= "table" or type(given) ~= "table" then return given end
  local options = {}
  for name, row in pairs(declared) do
    if type(row) == "table" then options[name] = row.default end
  end
  for name, value in pairs(given) do options[name] = value end
  return options
end

--- A custom source. fetch(self) returns what there is: a list of documents, or a table with the
--- values; then its revision, if it has one, which self.revision is the next time. `true`: that
--- revision still holds. nil and a message: it cannot be had. watch(self, emit) runs as long as it
--- can and calls emit(documents, revision) with all there is when it changes, emit(): ask, or
--- emit(true, revision): it lives, and this revision has the same content. A third result of fetch,
--- or argument of emit, is the revision that the documents are changes of.
--- Both may deliver a key space (segue.keys) instead of documents: it is always everything.
--- @param spec segue.SourceSource @return segue.Source
function M.source(spec)
  core.argument("segue.source: its argument", spec, "table")
  if spec.plugin ~= nil and (spec.fetch or spec.watch or spec.want or spec.outcome) then
    error("segue.source: a plugin has fetch and watch, want and outcome of its own: remove those "
      .. "here", 2)
  end
  local plugin = lua_plugin(spec.plugin)
  local kind = (plugin or spec.plugin == nil) and "source" or "plugin"
  local source = core.made("segue.source", "source", kind, nil, spec)
  if kind == "plugin" then return source end
  local self = {}
  for key, value in pairs(spec) do self[key] = value end
  if plugin then
    self.options = plugin_options(plugin.options or {}, spec.options or {})
    core.validate_options(("segue.source: plugin %s: options"):format(spec.plugin),
      plugin.options or {}, self.options)
    self.fetch, self.watch = plugin.fetch, plugin.watch
    self.want, self.outcome = plugin.want, plugin.outcome
    for _, name in ipairs { "debounce", "idle", "resumes", "safety" } do
      if source[name] == nil then source[name] = plugin[name] end
    end
  end
  source.fetch, source.watch = fetcher(source, self), watcher(source, self)
  source.want, source.outcome = notified(self, "want"), notified(self, "outcome")
  return source
end

--- A source: a document that an HTTP server gives. It is asked again every interval, with the
--- conditions that spare the server and us the same bytes.
---@param spec string|segue.SourceUrl
---@return segue.Source
function M.url(spec)
  local source = core.made("segue.url", "source", "url", spec)
  local self = url.prepare(source)
  source.name = self.name
  source.fetch = fetcher(source, self)
  return source
end

return M
