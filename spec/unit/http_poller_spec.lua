-- SPDX-License-Identifier: MIT
-- The HTTP server with a poller (core/os/poller.h), as the worker threads of the ingress run it:
-- the specs of the server without one, once more.
local C = require "spec.support.c"

local function again(name)
  local chunk = assert(loadfile(("spec/unit/%s_spec.lua"):format(name)))
  setfenv(chunk, getfenv(2))()
end

describe("with a poller", function()
  setup(function() C.http_harness_use_poller(true) end)
  teardown(function() C.http_harness_use_poller(false) end)

  again "http_server"
  again "http_limits"
  again "http_end"
  again "http_listener"
  again "http_tls"
  again "http_warm"
end)
