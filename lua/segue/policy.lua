-- SPDX-License-Identifier: MIT
-- Checks the table that a policy returns, key by key, and converts it for the core. Mistakes are
-- reported with file and line where these are known.
local core = require "segue.core"
local check = require "segue.check"
local constructors = require "segue.constructors"
local drains = require "segue.drain"
local duration = require "segue.duration"
local http = require "segue.http"
local suggest = require "segue.suggest"

-- Captured before the policy runs: a change that it makes to the globals must not reach this file.
local pairs, ipairs, type, tostring, next = pairs, ipairs, type, tostring, next
local sort, concat = table.sort, table.concat

-- txn:defer takes durations.
core.wrap_defer = function(defer)
  return function(txn, time, why)
    local ms, wrong = duration.parse(time)
    if not ms then error("txn:defer: the time " .. wrong, 2) end
    if type(why) ~= "string" then error("txn:defer: the reason must be a text", 2) end
    return defer(txn, ms, why)
  end
end

-- txn.module.x:drain { within = "2s" }; without a time: the module's own; without over: returns
-- nil, message, code to the hook, which decides.
core.wrap_drain = function(drain)
  return function(module, options)
    local o = options == nil and {} or options
    if type(o) ~= "table" then error('drain wants a table: drain { within = "2s" }', 2) end
    local how, wrong = drains.parse(o)
    if not how then error(wrong, 2) end
    return drain(module, how.ms or 0, how.over, how.again)
  end
end

local keys = {
  name = "text", sources = "table", triggers = "table", debounce = "table",
  min_interval = "duration", strategy = "function", check = "function", reload = "function",
  modules = "table", confirm = "table", timeouts = "table", schema = "text or table",
  plugins = "text or texts", threads = "count", history = "table", last_good = "table",
  ready = { "serving", "strict" }, secrets = "texts",
}
local debounce_keys = { min = "duration", max = "duration" }
local timeout_keys = { collect = "duration", check = "duration", reload = "duration" }
local schema_keys = { path = "text", formats = { "assert", "ignore" }, defaults = "boolean",
  with = "table" }
local confirm_keys = { hold = "duration", within = "duration", probe = "probe", failures = "count",
  by = { "probe", "operator" } }
local history_keys = { reloads = "count", generations = "count", age = "duration",
  max_bytes = "count" }
local last_good_keys = { max_age = "duration" }
local module_keys = {
  kind = "text", replace = { "swap", "handover", "restart" }, config = "text", needs = "texts",
  prepare = "duration", start = "duration", drain = "any", stop = "duration",
  buffer = "table", listen = "text or table", limits = "table", generation_header = "boolean",
  tls = "table", access_log = "true, text or table", on_failure = { "refuse", "wait" },
}
local access_keys = { file = "text", format = { "combined", "json" }, query = "boolean" }
local limit_keys = { head = "size", body = "size", connections = "count", head_time = "duration",
  body_time = "duration", idle = "duration", write = "duration" }
local buffer_keys = { items = "count", bytes = "count", age = "duration" }

local later = { process = true, files = true }

local function is_list(t)
  local count = 0
  for _ in pairs(t) do count = count + 1 end
  return count == #t
end

-- One judgement: the context, the problems so far, the result.
local Judge = {}
Judge.__index = Judge

-- key: its path in the policy, such as "timeouts.check"; at: a value of a constructor, for its
-- place.
function Judge:problem(message, key, at)
  local file, line = self.path, nil
  if at and at.file then
    file, line = at.file, at.line
  elseif key then
    line = core.line_of(key)
  end
  self.problems[#self.problems + 1] = { message = message, file = file, line = line }
end

-- Reports mistakes in the keys of table t, whose path in the policy is `prefix`.
function Judge:keys(t, known, prefix)
  local before = #self.problems
  check.table(t, known, function(key, message)
    local where = prefix == "" and "" or prefix .. ": "
    local at = prefix == "" and key or prefix .. "." .. tostring(key)
    self:problem(where .. message, type(key) == "string" and at or prefix)
  end)
  return #self.problems == before
end

local function ms_of(t, key)
  return t and t[key] ~= nil and duration.parse(t[key]) or nil
end

function Judge:folder_path(path)
  if path:sub(1, 1) == "/" or self.folder == "" then return path end
  return (self.folder == "/" and "" or self.folder) .. "/" .. path
end

-- Items of sources or triggers: made by a constructor, or nothing.
function Judge:tagged(list, name, tag, example)
  local items = {}
  if not is_list(list) then
    self:problem(("%s must be a list: %s = { %s }"):format(name, name, example), name)
    return items
  end
  for i, item in ipairs(list) do
    if type(item) == "table" and item.tag == tag then
      items[#items + 1] = item
    else
      local got = type(item) == "table" and item.tag and "a " .. tostring(item.tag)
        or type(item) == "function" and "a function that was not called"
        or "a " .. type(item)
      self:problem(("%s[%d] must be a %s such as %s, not %s"):format(name, i, tag, example, got),
        name, type(item) == "table" and item or nil)
    end
  end
  return items
end

local source_fields = { "kind", "prefix", "separator", "format", "optional", "expand", "value",
  "file", "line", "guard", "by_file", "as_text", "allow_empty", "allow_writing", "fetch", "watch",
  "spec", "timeout_ms", "interval_ms", "safety_ms", "retry_min_ms", "retry_max_ms",
  "plugin", "options" }

function Judge:sources(list)
  local result, named = {}, {}
  for _, item in ipairs(self:tagged(list, "sources", "source", 'segue.file "config.yaml"')) do
    local source = {}
    for _, field in ipairs(source_fields) do source[field] = item[field] end
    source.path = item.path and self:folder_path(item.path)
    local name = item.name or item.path or item.kind == "env" and "env " .. item.prefix or item.kind
    named[name] = (named[name] or 0) + 1
    source.name = named[name] > 1 and item.kind == "value" and name .. " " .. named[name] or name
    if named[name] > 1 and item.kind ~= "value" then
      self:problem(("source '%s' is declared twice: remove one"):format(name), nil, item)
    end
    result[#result + 1] = source
  end
  if #result == 0 and #self.problems == 0 then
    self:problem('sources is empty: name at least one, such as segue.file "config.yaml"', "sources")
  end
  return result
end

-- How it is emptied; nil: something is wrong with that.
function Judge:drain(module, where)
  if module.drain == nil then return {} end
  local how, wrong, key = drains.parse(module.drain)
  local place = where .. ".drain"
  if not how then
    self:problem(where .. ": " .. wrong, key and place .. "." .. key or place)
  elseif how.over == "undo" and module.replace ~= "restart" then
    self:problem(where .. ': drain: over = "undo" is for replace = "restart": otherwise the old '
      .. "instance drains when the reload has succeeded, and nothing is undone any more",
      place .. ".over")
  else
    return how
  end
end

-- The keys that its kind has, as texts.
local function take_kind(kind, module, result)
  for key, wanted in pairs(kind) do
    local value = module[key]
    if value ~= nil then
      result[key] = wanted == "duration" and ("%d"):format(ms_of(module, key))
        or wanted == "size" and ("%d"):format(check.size(value))
        or wanted == "boolean" and (value and "true" or nil)
        or wanted == "text" and value or nil
    end
  end
end

function Judge:module(name, module)
  local where = "modules." .. tostring(name)
  if type(name) ~= "string" or not name:match("^[%w_-]+$") then
    self:problem(("modules: '%s' is not a name: use letters, digits, _ and -"):format(
      tostring(name)), "modules")
    return nil
  end
  if type(module) ~= "table" then
    self:problem(("%s must be a table, not a %s"):format(where, type(module)), where)
    return nil
  end
  local kind = self.kinds[module.kind]
  if not kind and later[module.kind] then
    self:problem(("%s.kind must be \"c\" or \"lua\": this version has no modules of the kind "
      .. "'%s'"):format(where, module.kind), where .. ".kind")
    return nil
  end
  if type(module.kind) ~= "string" or not kind then
    local kinds = suggest.keys(self.kinds)
    local known = #kinds > 0 and "available are: " .. concat(kinds, ", ")
      or "this program offers none"
    if module.kind == nil then
      self:problem(("%s.kind is missing; %s"):format(where, known), where)
    else
      self:problem(("%s.kind cannot be '%s'; %s"):format(where, tostring(module.kind), known),
        where .. ".kind")
    end
    return nil
  end
  local known = {}
  for key, wanted in pairs(module_keys) do known[key] = wanted end
  for key, wanted in pairs(kind) do known[key] = wanted end
  if not self:keys(module, known, where) then return nil end
  local drain = self:drain(module, where)
  local buffer = module.buffer or {}
  if not drain or not self:keys(buffer, buffer_keys, where .. ".buffer") then return nil end
  local result = { name = name, kind = module.kind, replace = module.replace,
    config = module.config, needs = module.needs, prepare_ms = ms_of(module, "prepare"),
    start_ms = ms_of(module, "start"), drain_ms = drain.ms, drain_over = drain.over,
    drain_again = drain.again, stop_ms = ms_of(module, "stop"), buffer_items = buffer.items,
    buffer_bytes = buffer.bytes, buffer_age_ms = ms_of(buffer, "age"),
    on_failure = module.on_failure, file = self.path,
    line = core.line_of(where) }
  take_kind(kind, module, result)
  return self:listen(module, result, where) and result or nil
end

-- true: through the current log; a file; or a table with more options.
function Judge:access_log(given, result, where)
  if given == nil then return true end
  local log = type(given) == "string" and { file = given } or given == true and {} or given
  if not self:keys(log, access_keys, where) then return false end
  result.access_on, result.access_json = true, log.format == "json"
  result.access_no_query = log.query == false
  result.access_path = log.file and self:folder_path(log.file)
  return true
end

-- The TLS options of its addresses with https://.
function Judge:tls(module, result, where)
  if module.tls == nil then return true end
  local tls, message = http.module_tls(module.tls, function(p) return self:folder_path(p) end)
  if not tls then self:problem(where .. ": " .. message, where .. ".tls") end
  result.tls = tls
  return tls ~= nil
end

-- The listeners of a module, and their limits.
function Judge:listen(module, result, where)
  local listen, limits = module.listen, module.limits or {}
  if listen == nil then
    for _, key in ipairs { "limits", "generation_header", "tls", "access_log" } do
      if module[key] ~= nil then
        self:problem(("%s: %s is for modules that listen: give it listen = \"http://HOST:PORT\"")
          :format(where, key), where)
        return false
      end
    end
    return true
  end
  if type(listen) == "string" then listen = { listen } end
  if check.value(listen, "texts") or #listen == 0 then
    self:problem(where .. ': listen must be "http://HOST:PORT", or a list of such', where)
    return false
  end
  if not self:keys(limits, limit_keys, where .. ".limits") then return false end
  if not self:tls(module, result, where) then return false end
  if not self:access_log(module.access_log, result, where .. ".access_log") then return false end
  result.listen, result.generation_header = listen, module.generation_header
  result.limit_head_bytes = limits.head and check.size(limits.head)
  result.limit_body_bytes = limits.body and check.size(limits.body)
  result.limit_connections = limits.connections
  result.limit_head_ms = ms_of(limits, "head_time")
  result.limit_body_ms = ms_of(limits, "body_time")
  result.limit_idle_ms, result.limit_write_ms = ms_of(limits, "idle"), ms_of(limits, "write")
  return true
end

function Judge:modules(modules)
  local names, result = {}, {}
  for name in pairs(modules) do names[#names + 1] = name end
  sort(names, function(a, b) return tostring(a) < tostring(b) end)
  for _, name in ipairs(names) do
    result[#result + 1] = self:module(name, modules[name])
  end
  return result
end

-- Folders where plugins are looked for, before the one that segue brings.
function Judge:plugins(plugins, result)
  result.plugins = {}
  for i, folder in ipairs(type(plugins) == "string" and { plugins } or plugins) do
    result.plugins[i] = self:folder_path(folder)
  end
end

function Judge:probe(probe)
  if probe == nil or type(probe) == "function" then return probe end
  if type(probe) == "table" and probe.tag == "probe" then return probe.call end
  self:problem(("confirm: probe must be a function, or made by segue.probe.http and its like, not "
      .. "a %s"):format(
    type(probe)), "confirm.probe")
end

function Judge:confirm(confirm, result)
  local plain = {}
  for key, value in pairs(confirm) do plain[key] = value end
  plain.probe = nil
  result.probe = self:probe(confirm.probe)
  if not self:keys(plain, confirm_keys, "confirm") then return end
  result.confirm = true
  result.confirm_hold_ms = ms_of(confirm, "hold") or 0
  result.confirm_failures = confirm.failures or 0
  local by_operator = confirm.by == "operator"
  result.confirm_by_operator = by_operator
  result.confirm_within_ms = ms_of(confirm, "within") or (by_operator and 600000 or 10000)
  if by_operator and confirm.probe ~= nil then
    self:problem('confirm: by = "operator" asks a person, so the probe would never be called: '
      .. "leave one of them out", "confirm.probe")
  elseif by_operator and confirm.hold ~= nil then
    self:problem('confirm: hold is for probes: leave it out where by = "operator"', "confirm.hold")
  elseif by_operator and confirm.failures ~= nil then
    self:problem('confirm: failures is for probes: leave it out where by = "operator"',
      "confirm.failures")
  elseif confirm.probe == nil and not by_operator then
    self:problem("confirm has no probe: give it a function that returns whether all is well, or "
      .. 'by = "operator"', "confirm")
  elseif result.confirm_hold_ms >= result.confirm_within_ms then
    self:problem("confirm: hold must be shorter than within", "confirm.hold")
  end
end

function Judge:history(history, result)
  if not self:keys(history, history_keys, "history") then return end
  result.history_reloads = history.reloads
  result.history_generations = history.generations
  result.history_age_ms = ms_of(history, "age")
  result.history_bytes = history.max_bytes
end

function Judge:last_good(last_good, result)
  if not self:keys(last_good, last_good_keys, "last_good") then return end
  result.last_good_age_ms = ms_of(last_good, "max_age")
  if result.last_good_age_ms == 0 then
    self:problem("last_good: max_age must be longer than 0: leave it out where any age will do",
      "last_good.max_age")
  end
end

function Judge:times(policy, result)
  local debounce, timeouts = policy.debounce, policy.timeouts
  if debounce and self:keys(debounce, debounce_keys, "debounce") then
    result.debounce_min_ms = ms_of(debounce, "min")
    result.debounce_max_ms = ms_of(debounce, "max")
    local low, high = result.debounce_min_ms or 50, result.debounce_max_ms or 1000
    if low > high then
      self:problem(("debounce: min (%d ms) is longer than max (%d ms)"):format(low, high),
        "debounce")
    end
  end
  if timeouts and self:keys(timeouts, timeout_keys, "timeouts") then
    for key in pairs(timeout_keys) do
      result[key .. "_ms"] = ms_of(timeouts, key)
      if result[key .. "_ms"] == 0 then
        self:problem(("timeouts: %s must be longer than 0"):format(key), "timeouts." .. key)
      end
    end
  end
  result.min_interval_ms = ms_of(policy, "min_interval")
end

-- The documents beside the schema: paths, and URI = path for references by URI. Sorted, because the
-- order of pairs() differs from run to run.
function Judge:schema_with(with)
  local result = {}
  for key, path in pairs(with) do
    if type(path) ~= "string" or (type(key) ~= "string" and type(key) ~= "number") then
      self:problem('schema: with is a table of files: { "a.json", ["https://host/b"] = "b.json" }',
        "schema.with")
      return
    end
    local uri = type(key) == "string" and key or nil
    result[#result + 1] = { path = self:folder_path(path), uri = uri }
  end
  if #result > 64 then
    self:problem(("schema: with: at most 64 files, not %d"):format(#result), "schema.with")
  end
  table.sort(result, function(a, b)
    return a.path .. "\0" .. (a.uri or "") < b.path .. "\0" .. (b.uri or "")
  end)
  return result
end

-- "config.schema.json", or { path = ..., formats = "ignore" } for schemas whose `format` is only an
-- annotation.
function Judge:schema(schema, result)
  if type(schema) == "string" then schema = { path = schema } end
  if not self:keys(schema, schema_keys, "schema") then return end
  if not schema.path then
    self:problem('schema names no file: schema = { path = "config.schema.json" }', "schema")
    return
  end
  result.schema = self:folder_path(schema.path)
  result.formats_ignored = schema.formats == "ignore"
  result.schema_defaults = schema.defaults
  if schema.with then result.schema_with = self:schema_with(schema.with) end
end

-- Paths with wildcards. The core checks their syntax.
function Judge:secrets(secrets, result)
  if #secrets > 64 then
    self:problem(("secrets: at most 64 patterns, not %d"):format(#secrets), "secrets")
    return
  end
  result.secrets, result.secrets_line = secrets, core.line_of("secrets")
end

function Judge:policy(policy)
  local result = { name = "segue" }
  -- Parts are judged where they have the right type at all.
  if not self:keys(policy, keys, "") then return end
  result.name = policy.name or "segue"
  self:times(policy, result)
  if policy.sources then
    result.sources = self:sources(policy.sources)
  else
    self:problem('sources is missing: name at least one, such as sources = { segue.file '
      .. '"config.yaml" }')
  end
  if policy.triggers then
    result.triggers = self:tagged(policy.triggers, "triggers", "trigger", 'segue.signal "HUP"')
    for i, trigger in ipairs(result.triggers) do
      if trigger.kind == "http" then
        result.triggers[i] = http.with_paths(trigger, function(p) return self:folder_path(p) end)
      end
    end
  else -- the defaults that users expect; triggers = {} means none
    result.triggers = { constructors.signal "HUP", constructors.watch() }
  end
  if policy.modules then result.modules = self:modules(policy.modules) end
  if policy.plugins then self:plugins(policy.plugins, result) end
  if policy.schema then self:schema(policy.schema, result) end
  if policy.secrets then self:secrets(policy.secrets, result) end
  if policy.confirm then self:confirm(policy.confirm, result) end
  result.threads = policy.threads
  if policy.threads and policy.threads > 256 then
    self:problem(("threads: at most 256, not %d"):format(policy.threads), "threads")
  end
  result.ready_strict = policy.ready == "strict"
  if policy.history then self:history(policy.history, result) end
  if policy.last_good then self:last_good(policy.last_good, result) end
  result.check, result.reload, result.strategy = policy.check, policy.reload, policy.strategy
  return result
end

local M = {}

--- Checks the values that a policy returned.
---@param policy any
---@param count integer how many values it returned
---@param context { path: string, folder: string, kinds: table<string, table> }
---@return table? checked
---@return table[]? problems
function M.judge(policy, count, context)
  local judge = setmetatable({ path = context.path, folder = context.folder,
    kinds = context.kinds, problems = {} }, Judge)
  if count == 0 or policy == nil then
    judge:problem("the policy returns nothing: end it with `return { sources = { ... } }`")
  elseif type(policy) ~= "table" or core.kind(policy) then
    judge:problem(("the policy returns a %s instead of a table: end it with "
      .. "`return { sources = { ... } }`"):format(type(policy)))
  elseif next(policy) == nil then
    judge:problem('the policy returns an empty table: name at least a source, such as sources = { '
      .. 'segue.file "config.yaml" }')
  end
  if #judge.problems > 0 then return nil, judge.problems end
  local result = judge:policy(policy)
  if #judge.problems > 0 then return nil, judge.problems end
  return result
end

return M
