-- SPDX-License-Identifier: MIT
-- A daemon whose one module is Lua code behind a listener:
--   local d
--   front.for_each_spec(function(daemon) d = daemon end)
--   front.start(front.handler 'return 200, "text"'); front.get("/").status; front.at
local busted = require "busted"
local http = require "spec.support.http"
local port = require "spec.support.port"
local segue = require "spec.support.segue"

local M = { WITHIN_MS = 60000 }
local d
local function on_start() end

--- Chooses the port of the module's listener.
function M.prepare() M.at = port.free() end

function M.cleanup()
  http.close_all()
  segue.cleanup()
end

--- Prepares each spec of the current describe and cleans up after it; calls started(d) with each
--- daemon that start has started.
function M.for_each_spec(started)
  busted.before_each(function()
    on_start = started
    M.prepare()
  end)
  busted.after_each(function()
    on_start = function() end
    M.cleanup()
  end)
end

--- code: of the module; more: further keys of it; options: files, top (of the policy), threads,
--- env, measured. Returns the daemon.
function M.start(code, more, options)
  options = options or {}
  local files = { ["front.lua"] = code, ["config.yaml"] = "front: { value: 1 }\n" }
  for name, text in pairs(options.files or {}) do files[name] = text end
  d = segue.start { measured = options.measured, env = options.env, files = files, policy = ([[
local segue = require "segue"
return {
  sources = { segue.file "config.yaml" },
  triggers = { segue.http "127.0.0.1:@PORT@" },
  threads = %d, %s
  modules = {
    front = { kind = "lua", code = "front.lua", config = "front",
      listen = "http://127.0.0.1:%d", %s },
  },
}
]]):format(options.threads or 1, options.top or "", M.at, more or "") }
  -- libuv opens one for each loop, with its first connection.
  if d.baseline then
    local held = d.baseline.files
    held["/dev/null"] = (held["/dev/null"] or 0) + (options.threads or 1)
  end
  on_start(d)
  return d
end

function M.get(path, more)
  local request = { port = M.at, path = path or "/", deadline_ms = M.WITHIN_MS }
  for key, value in pairs(more or {}) do request[key] = value end
  local ok, answer = pcall(http.request, request)
  if not ok then error(tostring(answer) .. "\n" .. d.process:describe(), 2) end
  return answer
end

--- A value of /metrics by its name and labels.
function M.metric(name)
  return tonumber((d:http("/metrics").body:match("\n" .. name:gsub("%p", "%%%0") .. " (%S+)\n")))
end

--- The code of a module whose handler has this body; before: code above the handler.
function M.handler(body, before)
  return (before or "") .. "\nreturn { handle = function(request)\n" .. body .. "\nend }\n"
end

return M
