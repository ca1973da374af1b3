-- SPDX-License-Identifier: MIT
-- segue.verify: probes for `verify` of a module of the kind files: each checks that the server uses
-- the new files. A probe has a function `before`, which reads the state of the server before apply;
-- the check gets the result of `before` as its argument.
local core = require "segue.core"
local fetch = require "segue.fetch"
local files = require "segue.files"

local M = {}

local function probe(name, before, call)
  local made = core.made(name, "probe", "call")
  made.before, made.call = before, call
  return made
end

-- ---- nginx ----

local function master_of(pidfile)
  local text, why, code = files.read(pidfile)
  if not text then return nil, why, code end
  local pid = tonumber(text:match "^%s*(%d+)%s*$")
  if not pid then return nil, pidfile .. " does not hold the number of a process" end
  return pid
end

-- The title of a process: nginx names its master, its workers, and workers that end.
local function title_of(pid)
  local text = files.read(("/proc/%d/cmdline"):format(pid))
  return text and (text:gsub("%z", " ")) or ""
end

-- Workers that serve, by pid: those that finish their last requests are "shutting down".
local function workers_of(master)
  local text, why, code = files.read(("/proc/%d/task/%d/children"):format(master, master))
  if not text then return nil, why, code end
  local workers = {}
  for pid in text:gmatch "%d+" do
    local title = title_of(pid)
    if title:find("worker process", 1, true) and not title:find("shutting down", 1, true) then
      workers[pid] = true
    end
  end
  return workers
end

-- nginx reports nothing to the program that has sent the signal: a master that cannot use its new
-- configuration (an address in use, a file that is gone) logs that and keeps its workers. One that
-- can starts new workers, and then lets the old ones finish.
local function nginx_uses(pidfile, state)
  local master, why, code = master_of(pidfile)
  if not master then return nil, why, code end
  local workers
  workers, why, code = workers_of(master)
  if not workers then return nil, why, code end
  local old = state and state.master == master and state.workers or {}
  local new, kept = 0, 0
  for pid in pairs(workers) do
    if old[pid] then kept = kept + 1 else new = new + 1 end
  end
  if new == 0 then
    return nil, ("the master of nginx (process %d) has started no new worker: see its error log")
      :format(master)
  end
  if kept > 0 then
    return nil, ("%d workers of nginx still serve with the previous configuration"):format(kept)
  end
  return true
end

--- For verify: the master process of nginx serves by workers that it has started since. The
--- argument is its pid file.
---@param pidfile string
---@return segue.Probe
function M.nginx(pidfile)
  core.argument("segue.verify.nginx: its argument", pidfile, "text")
  return probe("segue.verify.nginx", function()
    local master = master_of(pidfile)
    local workers = master and workers_of(master)
    return workers and { master = master, workers = workers } or nil
  end, function(state) return nginx_uses(pidfile, state) end)
end

-- ---- Prometheus ----

-- options: prefix, of the metrics; tls, as of segue.fetch.
local function reloads_of(url, options)
  local prefix = options.prefix
  local answer, why, code = fetch { url = url, timeout = "5s", tls = options.tls }
  if not answer then return nil, why, code end
  if answer.status ~= 200 then
    return nil, ("%s must answer 200, not %d"):format(url, answer.status)
  end
  local found = {}
  for _, name in ipairs { "successful", "success_timestamp_seconds" } do
    local metric = prefix .. "_config_last_reload_" .. name
    found[name] = tonumber(answer.body:match("\n" .. metric .. " (%S+)")
      or answer.body:match("^" .. metric .. " (%S+)"))
    if not found[name] then return nil, ("%s has no metric %s"):format(url, metric) end
  end
  return found
end

-- The success of a reload is a metric of the last one: so the time of the last success must have
-- advanced too, or it is the success of an earlier reload.
local function prometheus_uses(url, options, before)
  local prefix = options.prefix
  local now, why, code = reloads_of(url, options)
  if not now then return nil, why, code end
  if now.successful ~= 1 then
    return nil, ("%s has rejected its configuration, as its metric "
      .. "%s_config_last_reload_successful shows: see its log"):format(prefix, prefix)
  end
  if before and now.success_timestamp_seconds <= before then
    return nil, prefix .. " has not reloaded its configuration since"
  end
  return true
end

--- For verify: Prometheus reports that it has loaded its configuration since. The argument is its
--- URL ("http://127.0.0.1:9090"). Alertmanager has the same metrics: prefix = "alertmanager".
---@param url string
--- A server with TLS: tls, as of segue.fetch.
---@param options? { prefix?: string, tls?: table }
---@return segue.Probe
function M.prometheus(url, options)
  core.argument("segue.verify.prometheus: its argument", url, "text")
  local given = { prefix = options and options.prefix or "prometheus",
    tls = options and options.tls }
  core.argument("segue.verify.prometheus: the option prefix", given.prefix, "text")
  core.argument("segue.verify.prometheus: the option tls", given.tls or {}, "table")
  if not url:find "^https?://." then
    error("segue.verify.prometheus needs a URL such as \"http://127.0.0.1:9090\"", 2)
  end
  local metrics = url:gsub("/+$", "") .. "/metrics"
  return probe("segue.verify.prometheus", function()
    local found = reloads_of(metrics, given)
    return found and found.success_timestamp_seconds or nil
  end, function(before) return prometheus_uses(metrics, given, before) end)
end

return setmetatable(M, {
  __index = function(_, name)
    error(("there is no segue.verify.%s in this version: known are nginx and prometheus")
      :format(tostring(name)), 2)
  end,
})
