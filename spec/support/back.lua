-- SPDX-License-Identifier: MIT
-- A daemon whose generations differ in one number, x: for specs of rollback and restart.
--   local back = require "spec.support.back"
--   local d = back.start()
--   back.apply(d, 2) back.rollback(d)
local cjson = require "cjson"
local segue = require "spec.support.segue"
local wait = require "spec.support.wait"

local M = {}

local policy = [[
local segue = require "segue"
local limits = require "limits"
return {
  name = "back",
  sources = { segue.file "config.yaml", segue.dir("conf.d/*.yaml", { optional = true }) },
  triggers = { segue.signal "HUP", @TRIGGERS@ },
  debounce = { min = "5ms", max = "50ms" },
  @MORE@
  check = function(next)
    if next.x > limits.most then return nil, "x is too large" end
    return true
  end,
}]]

--- The policy, with more keys and triggers.
function M.text_of(more, triggers)
  return (policy:gsub("@MORE@", more or ""):gsub("@TRIGGERS@", triggers or ""))
end

--- Starts it; options: more, triggers, policy (instead of those), files, env, ready.
function M.start(options)
  options = options or {}
  local files = { ["config.yaml"] = "x: 1\n", ["limits.lua"] = "return { most = 10 }\n" }
  for name, text in pairs(options.files or {}) do files[name] = text end
  return segue.start { policy = options.policy or M.text_of(options.more, options.triggers),
    files = files, env = options.env, ready = options.ready }
end

function M.put(d, x) d.dir:save("config.yaml", ("x: %d\n"):format(x)) end

--- Makes x live; returns the generation.
function M.apply(d, x)
  M.put(d, x)
  local status, answer = d:reload()
  assert(status == 200 and d:config().x == x, cjson.encode(answer))
  return answer.generation
end

--- POSTs; returns status, the decoded answer (or its text), and the text.
function M.post(d, path, accept)
  local r = d:control { method = "POST", path = path, deadline_ms = 30000,
    headers = { Accept = accept or "application/json" } }
  local ok, answer = pcall(cjson.decode, r.body)
  return r.status, ok and answer or r.body, r.body
end

function M.rollback(d, to)
  return M.post(d, "/api/v1/rollback" .. (to and "?to=" .. to or ""))
end

function M.status_of(d) return d:json "/api/v1/status" end

--- Ends it (how: "kill", or in good order) and starts it again.
function M.restart(d, how)
  if how == "kill" then d:crash() else d:stop() end
  d:spawn()
  d:wait_ready()
end

--- Waits until a reload is in the history, which is written after the answer.
function M.in_history(d, id)
  wait.until_true(function()
    return d:control("/api/v1/reloads/" .. id).status == 200
      and d:json("/api/v1/reloads")[1].id >= id
  end, nil, "reload " .. id .. " in the history")
end

return M
