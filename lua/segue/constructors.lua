-- SPDX-License-Identifier: MIT
-- Constructors of sources, triggers and probes: plain tables with their type (`tag`, `kind`), the
-- place of the call (`made_at`), and the options as they were written. The tables of options in C
-- check them. Wrong arguments throw an error at the caller's line.
local core = require "segue.core"
local fetch = require "segue.fetch"
local plain = require "segue.plain"
local run = require "segue.run"

local M = {}

--- A source: one YAML or JSON file, relative to the policy's folder.
---@param path string|segue.SourceFile
---@param options? segue.SourceFile
---@return segue.Source
function M.file(path, options)
  return (core.made("segue.file", "source", "file", path, options))
end

--- A source: a file that is neither YAML nor JSON: a map of its name to its text.
---@param path string
---@param options? segue.SourceFile without format and by
---@return segue.Source
function M.text(path, options)
  local source = core.made("segue.text", "source", "file", path, options)
  if source.format or source.by then
    error("segue.text: the format is text, and there is one file: leave format and by out", 2)
  end
  source.format = "text"
  return source
end

--- A source: a file in Lua that returns a table. It is evaluated in an environment that holds
--- string, table, math, bit and the like, and nothing that reads, waits or differs from run to run.
---@param path string
---@param options? segue.SourceLua
---@return segue.Source
function M.lua_file(path, options)
  return (core.made("segue.lua_file", "source", "lua", path, options))
end

--- A source: the files that match a pattern such as "conf.d/*.{yaml,yml}", in the order of their
--- names. No match is an error unless optional. Their maps are merged, and a later list replaces an
--- earlier one; with by = "file" each file keeps its own, under its name.
---@param pattern string
---@param options? segue.SourceDir
---@return segue.Source
function M.dir(pattern, options)
  return (core.made("segue.dir", "source", "dir", pattern, options))
end

--- A source: environment variables that begin with a prefix. APP_LISTEN__PORT=80 under the prefix
--- "APP_" is listen.port, the integer 80. A value gets a type only where writing that type gives
--- the same text back (0042 and 1.10 are text); with values = "text" none does.
---@param options segue.SourceEnv
---@return segue.Source
function M.env(options)
  return (core.made("segue.env", "source", "env", nil, options))
end

--- A source: values written in the policy itself, as defaults for instance. An empty table is an
--- empty map.
---@param value table
---@return segue.Source
function M.value(value)
  core.argument("segue.value: its argument", value, "table")
  local copy, at, why = plain.copy(value)
  if copy == nil then
    error(("segue.value: %s %s"):format(at == "" and "the value" or at, why), 2)
  end
  if at ~= "map" then error("segue.value needs a map, with texts as keys", 2) end
  local source = core.made("segue.value", "source", "value")
  source.value = copy
  return source
end

--- A trigger: a signal to the daemon: HUP, USR1, USR2 or WINCH. With the action "reopen" the
--- modules open their files again (logs that were moved away), and nothing is reloaded.
---@param name string
---@param action? "reload"|"reopen"
---@return segue.Trigger
function M.signal(name, action)
  if type(name) == "string" then name = name:match("^SIG(.+)$") or name end
  return (core.made("segue.signal", "trigger", "signal", name, action and { action = action }))
end

--- A trigger: changes of the files that the policy names, and of the policy.
---@param options? segue.TriggerWatch
---@return segue.Trigger
function M.watch(options)
  return (core.made("segue.watch", "trigger", "watch", nil, options))
end

--- A trigger and the admin API: an HTTP listener on a loopback address or "unix:/path"; or a table
--- with any address, and the clients that it accepts: segue.http { "0.0.0.0:9443", tls = ...,
--- tokens = ... }.
---@param listener string|segue.TriggerHttp
---@return segue.Trigger
function M.http(listener)
  return (core.made("segue.http", "trigger", "http", listener))
end

--- A trigger: asks the sources again and again.
---@param interval segue.Duration
---@return segue.Trigger
function M.poll(interval)
  return (core.made("segue.poll", "trigger", "poll", interval))
end

--- A custom trigger: a task that runs as long as the policy is live and calls fire(cause) when a
--- reload is due. It may wait for anything; if it ends with an error it begins again, later each
--- time. @param fn fun(fire: fun(cause?: string)) @return segue.Trigger
function M.trigger(fn)
  core.argument("segue.trigger: its argument", fn, "function")
  return (core.made("segue.trigger", "trigger", "task", fn))
end

-- Constructors for `apply` and `undo` of a files module return a table of options; the options are
-- validated at the line of the call.
local function effect(name, key, first, options)
  local made = {}
  if options ~= nil and type(options) ~= "table" then
    error(("%s: options must be a table, not a %s"):format(name, type(options)), 3)
  end
  for _, from in ipairs { type(first) == "table" and first or {}, options or {} } do
    for option, value in pairs(from) do made[option] = value end
  end
  if type(first) ~= "table" then
    core.argument(name .. ": its argument", first, "text")
    made[key] = first
  elseif made[key] == nil then
    made[key], made[1] = made[1], nil
  end
  core.table(name, "files apply", made)
  return made
end

--- For `apply` of a files module: sends HUP to the process of a pid file, if that is the process
--- that is meant: it runs, and has the name if one is given.
---@param pidfile string|segue.FilesApply
---@param options? segue.FilesApply
---@return segue.FilesApply
function M.hup(pidfile, options)
  local made = effect("segue.hup", "pidfile", pidfile, options)
  if made.signal ~= nil and made.signal ~= "HUP" then
    error("segue.hup sends HUP: use segue.send_signal for another signal", 2)
  end
  return made
end

--- For `apply` of a files module: sends any signal: segue.send_signal { pidfile =
--- "/run/haproxy.pid", signal = "USR2", name = "haproxy" }.
---@param pidfile string|segue.FilesApply
---@param options? segue.FilesApply
---@return segue.FilesApply
function M.send_signal(pidfile, options)
  return effect("segue.send_signal", "pidfile", pidfile, options)
end

--- For `apply` of a files module: sends an HTTP request (POST unless method is given), which must
--- be answered with a status of 200 to 299.
---@param url string|segue.FilesApply
---@param options? segue.FilesApply
---@return segue.FilesApply
function M.post(url, options)
  return effect("segue.post", "url", url, options)
end

M.probe = {}

--- A probe for `confirm`: a function that returns true, or nil and the reason why not.
---@param fn fun(): boolean?, string?
---@return segue.Probe
function M.probe.call(fn)
  core.argument("segue.probe.call: its argument", fn, "function")
  local probe = core.made("segue.probe.call", "probe", "call")
  probe.call = fn
  return probe
end

--- A probe: a URL that must answer with a status.
---@param url string|segue.ProbeHttp
---@param options? segue.ProbeHttp
---@return segue.Probe
function M.probe.http(url, options)
  local probe = core.made("segue.probe.http", "probe", "http", url, options)
  url = probe.url or probe[1]
  local wanted = probe.status or 200
  probe.call = function()
    local answer, why, code = fetch { url = url, timeout = probe.timeout or "2s" }
    if not answer then return nil, why, code end
    if answer.status == wanted then return true end
    return nil, ("%s must answer %d, not %d"):format(url, wanted, answer.status)
  end
  return probe
end

--- A probe: something must accept connections on "127.0.0.1:80", "[::1]:80" or
--- "unix:/run/app.sock".
---@param address string|segue.ProbeTcp
---@param options? segue.ProbeTcp
---@return segue.Probe
function M.probe.tcp(address, options)
  local probe = core.made("segue.probe.tcp", "probe", "tcp", address, options)
  address = probe.address or probe[1]
  local path = address:match("^unix:(.+)$")
  local url = path and "http://localhost" or "http://" .. address
  local ms = core.duration(probe.timeout or "2s")
  probe.call = function()
    local ok, why, code = core.fetch(url, nil, nil, nil, ms, ms, 0, 0, path, nil, nil, nil, false,
      false, true)()
    if not ok then return nil, why, code end
    return true
  end
  return probe
end

--- A probe: a command that must exit with code 0. Arguments as those of segue.run.
---@param command string[]|segue.CallRun
---@return segue.Probe
function M.probe.command(command)
  local spec = run.spec("segue.probe.command", command)
  local probe = core.made("segue.probe.command", "probe", "command", command)
  probe.call = function()
    local result, why, code = run.start(spec)
    if not result then return nil, why, code end
    return result.ok, result.message
  end
  return probe
end

setmetatable(M.probe, {
  __index = function(_, name)
    error(("there is no segue.probe.%s in this version: known are call, command, http and tcp")
      :format(tostring(name)), 2)
  end,
})

return M
