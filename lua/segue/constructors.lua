-- SPDX-License-Identifier: MIT
-- Constructors of sources, triggers and probes: plain tables with their type (`tag`, `kind`) and
-- the place of the call (`file`, `line`). Wrong arguments throw an error at the caller's line.
local core = require "segue.core"
local check = require "segue.check"
local duration = require "segue.duration"
local fetch = require "segue.fetch"
local http = require "segue.http"
local guard = require "segue.guard"
local plain = require "segue.plain"
local run = require "segue.run"

local M = {}

local function tagged(tag, kind, fields)
  fields.tag, fields.kind = tag, kind
  fields.file, fields.line = core.place()
  return fields
end

local function argument(name, value, kind)
  local wrong = check.value(value, kind)
  if wrong then error(("%s: its argument %s"):format(name, wrong), 3) end
  return value
end

local function expansion(name, expand)
  if expand ~= nil and expand ~= "env" then
    error(("%s: expand must be \"env\", which puts environment variables in for ${NAME}"):format(
      name), 3)
  end
  return expand == "env"
end

local text_keys = { optional = "boolean", expand = "string", guard = "table", empty = { "allow" },
  writing = { "allow" } }
local file_keys = { format = { "yaml", "json", "text" }, by = { "file" } }
for key, kind in pairs(text_keys) do file_keys[key] = kind end

---@class segue.FileOptions
---@field format? "yaml"|"json"|"text"
---@field by? "file" the name of the file is the key of its content
---@field optional? boolean absence is no error
---@field expand? "env"
---@field guard? segue.Guard
---@field empty? "allow" a file without content is an empty map
---@field writing? "allow" read the file even while a program has it open for writing

-- The fields of a source that reads files; the constructor has checked `o`.
local function file_source(name, kind, path, o)
  return tagged("source", kind,
    { path = path, format = o.format, optional = o.optional or false,
      expand = expansion(name, o.expand), guard = guard.parse(name, o.guard),
      by_file = o.by == "file", allow_empty = o.empty == "allow",
      allow_writing = o.writing == "allow" })
end

--- A source: one YAML or JSON file, relative to the policy's folder.
---@param path string
---@param options? segue.FileOptions
---@return segue.Source
function M.file(path, options)
  argument("segue.file", path, "text")
  return file_source("segue.file", "file", path, check.options("segue.file", options, file_keys))
end

--- A source: a file that is neither YAML nor JSON: a map of its name to its text.
---@param path string
---@param options? segue.FileOptions without format and by
---@return segue.Source
function M.text(path, options)
  argument("segue.text", path, "text")
  local o = check.options("segue.text", options, text_keys)
  local copy = { format = "text" }
  for key, value in pairs(o) do copy[key] = value end
  return file_source("segue.text", "file", path, copy)
end

--- A source: a file in Lua that returns a table. It is evaluated in an environment that holds
--- string, table, math, bit and the like, and nothing that reads, waits or differs from run to run.
---@param path string
---@param options? { optional?: boolean, guard?: segue.Guard, writing?: "allow" }
---@return segue.Source
function M.lua_file(path, options)
  argument("segue.lua_file", path, "text")
  local o = check.options("segue.lua_file", options,
    { optional = "boolean", guard = "table", writing = { "allow" } })
  return tagged("source", "lua", { path = path, optional = o.optional or false,
    guard = guard.parse("segue.lua_file", o.guard), allow_writing = o.writing == "allow" })
end

--- A source: the files that match a pattern such as "conf.d/*.{yaml,yml}", in the order of their
--- names. No match is an error unless optional. Their maps are merged, and a later list replaces an
--- earlier one; with by = "file" each file keeps its own, under its name.
---@param pattern string
---@param options? segue.FileOptions
---@return segue.Source
function M.dir(pattern, options)
  argument("segue.dir", pattern, "text")
  local o = check.options("segue.dir", options, file_keys)
  local last = pattern:match("([^/]*)$")
  if not last:find("[*?%[{]") then
    error(("segue.dir: '%s' has no pattern in its last part: write '%s/*.yaml'"):format(pattern,
      (pattern:gsub("/+$", ""))), 2)
  end
  local problem = core.glob_problem(last)
  if problem then error(("segue.dir: '%s': %s"):format(pattern, problem), 2) end
  return file_source("segue.dir", "dir", pattern, o)
end

--- A source: environment variables that begin with a prefix. APP_LISTEN__PORT=80 under the prefix
--- "APP_" is listen.port, the integer 80. A value gets a type only where writing that type gives
--- the same text back (0042 and 1.10 are text); with values = "text" none does.
---@param options { prefix: string, separator?: string, values?: "text" }
---@return segue.Source
function M.env(options)
  local o = check.options("segue.env", options,
    { prefix = "text", separator = "text", values = { "text" } })
  if not o.prefix then error("segue.env: prefix is missing: segue.env { prefix = \"APP_\" }", 2) end
  return tagged("source", "env",
    { prefix = o.prefix, separator = o.separator, as_text = o.values == "text" })
end

--- A source: values written in the policy itself, as defaults for instance. An empty table is an
--- empty map.
---@param value table
---@return segue.Source
function M.value(value)
  argument("segue.value", value, "table")
  local converted, at, why = plain.convert(value)
  if not converted then
    error(("segue.value: %s %s"):format(at == "" and "the value" or at, why), 2)
  end
  if not converted.keys then error("segue.value needs a map, with texts as keys", 2) end
  return tagged("source", "value", { value = converted })
end

--- A trigger: a signal to the daemon: HUP, USR1, USR2 or WINCH.
---@param name string
--- With the action "reopen" the modules open their files anew (logs that were moved away), and
--- nothing is reloaded.
---@param action? "reload"|"reopen"
---@return segue.Trigger
function M.signal(name, action)
  argument("segue.signal", name, "text")
  local signum = core.signal(name)
  if not signum then
    error(("segue.signal: '%s' cannot be a trigger: use HUP, USR1, USR2 or WINCH"):format(name), 2)
  end
  if action ~= nil and action ~= "reload" and action ~= "reopen" then
    error(("segue.signal: unknown action '%s': this version knows \"reload\" and "
      .. "\"reopen\""):format(tostring(action)), 2)
  end
  return tagged("trigger", "signal",
    { signum = signum, signal = name, action = action or "reload" })
end

--- A trigger: changes of the files that the policy names, and of the policy.
---@param options? { rescan?: string|number }
---@return segue.Trigger
function M.watch(options)
  local o = check.options("segue.watch", options, { rescan = "duration" })
  return tagged("trigger", "watch", { interval_ms = o.rescan and duration.parse(o.rescan) or 0 })
end

--- A trigger and the admin API: an HTTP listener on a loopback address or "unix:/path"; or a table
--- with any address, and the clients that it accepts: segue.http { "0.0.0.0:9443", tls = ...,
--- tokens = ... }.
---@param listener string|segue.HttpOptions
---@return segue.Trigger
function M.http(listener)
  local spec, wrong = http.spec(listener)
  if not spec then error("segue.http: " .. wrong, 2) end
  return tagged("trigger", "http", spec)
end

--- A trigger: asks the sources again and again.
---@param interval string|number
---@return segue.Trigger
function M.poll(interval)
  local ms, wrong = duration.parse(interval)
  if not ms then error("segue.poll: the interval " .. wrong, 2) end
  if ms < 100 then error("segue.poll: the interval must be at least \"100ms\"", 2) end
  return tagged("trigger", "poll", { interval_ms = ms })
end

--- A trigger of one's own: a task that lives with the policy and calls fire(cause) when a reload is
--- due. It may wait for anything; if it ends with an error it begins again, later each time.
---@param fn fun(fire: fun(cause?: string))
---@return segue.Trigger
function M.trigger(fn)
  argument("segue.trigger", fn, "function")
  return tagged("trigger", "task", { call = fn })
end

M.probe = {}

--- A probe for `confirm`: a function that returns true, or nil and why not.
---@param fn fun(): boolean?, string?
---@return segue.Probe
function M.probe.call(fn)
  argument("segue.probe.call", fn, "function")
  return tagged("probe", "call", { call = fn })
end

--- A probe: a URL that must answer with a status.
---@param url string
---@param options? { status?: integer, timeout?: string|number }
---@return segue.Probe
function M.probe.http(url, options)
  argument("segue.probe.http", url, "text")
  if not url:find("^https?://.") then
    error(("segue.probe.http: '%s' is not a URL: write \"http://127.0.0.1:8080/healthz\""):format(
      url), 2)
  end
  local o = check.options("segue.probe.http", options, { status = "count", timeout = "duration" })
  local wanted = o.status or 200
  return tagged("probe", "http", { call = function()
    local answer, why, code = fetch { url = url, timeout = o.timeout or "2s" }
    if not answer then return nil, why, code end
    if answer.status == wanted then return true end
    return nil, ("%s must answer %d, not %d"):format(url, wanted, answer.status)
  end })
end

--- A probe: something must accept connections on "127.0.0.1:80", "[::1]:80" or
--- "unix:/run/app.sock".
---@param address string
---@param options? { timeout?: string|number }
---@return segue.Probe
function M.probe.tcp(address, options)
  argument("segue.probe.tcp", address, "text")
  local o = check.options("segue.probe.tcp", options, { timeout = "duration" })
  local path = address:match("^unix:(.+)$")
  if not path and not address:match("^[^/%s]+:%d+$") then
    error(("segue.probe.tcp: '%s' is not an address: write \"127.0.0.1:80\", \"[::1]:80\" or "
      .. "\"unix:/run/app.sock\""):format(address), 2)
  end
  local url = path and "http://localhost" or "http://" .. address
  local ms = duration.parse(o.timeout or "2s")
  return tagged("probe", "tcp", { call = function()
    local ok, why, code = core.fetch(url, nil, nil, nil, ms, ms, 0, 0, path, nil, nil, nil, false,
      false, true)()
    if not ok then return nil, why, code end
    return true
  end })
end

--- A probe: a command that must exit with code 0. Arguments as those of segue.run.
---@param command string[]|segue.Command
---@return segue.Probe
function M.probe.command(command)
  local spec = run.spec("segue.probe.command", command)
  return tagged("probe", "command", { call = function()
    local result, why, code = run.start(spec)
    if not result then return nil, why, code end
    return result.ok, result.message
  end })
end

setmetatable(M.probe, {
  __index = function(_, name)
    error(("there is no segue.probe.%s in this version: known are call, command, http and tcp")
      :format(tostring(name)), 2)
  end,
})

return M
