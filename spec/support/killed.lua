-- SPDX-License-Identifier: MIT
-- Daemons that are killed at a named fault point (test builds), and who asks them meanwhile:
--   killed.arm(d, "commit.flip#2=kill"); killed.ask(d, "/-/reload"); killed.wait(d, "commit.flip")
local cjson = require "cjson"
local ffi = require "ffi"

ffi.cdef "void (*signal(int signum, void (*handler)(int)))(int);"
local SIGPIPE, SIG_IGN = 13, ffi.cast("void (*)(int)", 1)
ffi.C.signal(SIGPIPE, SIG_IGN) -- a process may be killed while a client writes to it

local M = {}

--- Starts it with points armed; "#2" behind a name: it strikes the second time it is reached.
function M.arm(d, faults)
  local env = d.options.env
  d.options.env = { SEGUE_FAULTS = faults }
  for name, value in pairs(env or {}) do d.options.env[name] = value end
  d:spawn()
  d.options.env = env
end

--- Waits until the point has killed it.
function M.wait(d, point)
  local _, signal = d:wait_exit(20000)
  assert(signal == 9, (point or "the point") .. " was not reached: " .. d:log())
end

--- POSTs to a daemon that may be killed meanwhile: the status, or nil; and the body.
function M.ask(d, path)
  local ok, r = pcall(d.control, d, { method = "POST", path = path,
    headers = { Accept = "application/json" }, deadline_ms = 20000 })
  local read, answer = pcall(cjson.decode, ok and r.body)
  return ok and r.status or nil, read and type(answer) == "table" and answer or nil
end

--- The highest number of a reload that the history has.
function M.top(d)
  local top = 0
  for _, reload in ipairs(d:json "/api/v1/reloads?limit=1000") do top = math.max(top, reload.id) end
  return top
end

--- The end of a title in a sweep over fault points: nothing for the points of `short`, which
--- represent all the others in `make test`, and the tag for the others. The tag is "#long", as a
--- text in the spec file, because run.lua looks for it there.
function M.mark(tag, short)
  local keeps = {}
  for _, point in ipairs(short) do keeps[point] = true end
  return function(point) return keeps[point] and "" or " " .. tag end
end

return M
