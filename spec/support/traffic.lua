-- SPDX-License-Identifier: MIT
-- HTTP load from wrk, and its verdict: no request may fail.
local process = require "spec.support.process"

local M = {}

--- Load on a port until M.check. A connection for each request: a proxy that reloads closes idle
--- connections, and a request that is under way on one of them fails.
function M.start(port)
  return process.start { "wrk", "-t1", "-c8", "-d600s", "--timeout", "60s", "-H",
    "Connection: close", ("http://127.0.0.1:%d/"):format(port), name = "wrk" }
end

--- Ends the load; raises unless there were many requests, and each was answered by 2xx or 3xx.
function M.check(load)
  load:kill "int"
  assert(load:wait_exit(20000) == 0, load:describe())
  assert(not load.stdout:find("Socket errors", 1, true), load.stdout)
  assert(not load.stdout:find("Non-2xx", 1, true), load.stdout)
  assert(tonumber(load.stdout:match "(%d+) requests in") > 100, load.stdout)
end

return M
