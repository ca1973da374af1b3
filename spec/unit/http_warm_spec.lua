-- SPDX-License-Identifier: MIT
-- The warm path of the HTTP server: a connection that has been asked before needs no memory for the
-- next request. How many system calls one takes is in spec/fault/http_spec.lua.
local C = require "spec.support.c"
local servers = require "spec.support.http_server"

local N = 300

local function post(lines, body)
  return "POST /echo HTTP/1.1\r\nHost: a\r\n" .. lines .. "\r\n" .. body
end

-- The request, its status, and its number of answers.
local cases = {
  { "GET", "GET /status/200 HTTP/1.1\r\nHost: a\r\n\r\n", 200 },
  { "GET with a query and headers", "GET /status/200?a=%20b HTTP/1.1\r\nHost: a:1\r\n"
    .. ("X-Header: value\r\n"):rep(20) .. "\r\n", 200 },
  { "a status without body", "GET /status/204 HTTP/1.1\r\nHost: a\r\n\r\n", 204 },
  { "POST with a body", post("Content-Length: 1000\r\n", ("x"):rep(1000)), 200 },
  { "POST in chunks", post("Transfer-Encoding: chunked\r\n", "3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n"),
    200 },
  { "ten requests at once", ("GET /status/200 HTTP/1.1\r\nHost: a\r\n\r\n"):rep(10), 200, 10 },
}

describe("a warm HTTP connection", function()
  local server
  before_each(function() server = servers.start() end)
  after_each(function()
    local s = server
    server = nil
    if s then s:stop() end
  end)

  for _, case in ipairs(cases) do
    it("needs no memory for " .. case[1], function()
      local client = server:connect()
      local function ask(times)
        for _ = 1, times do
          client:write(case[2])
          for _ = 1, case[4] or 1 do assert.equal(case[3], client:read_response().status) end
        end
      end
      ask(3)
      local before = server:requests()
      local calls = C.segue__mem_calls()
      ask(N)
      assert.equal(0, tonumber(C.segue__mem_calls() - calls))
      assert.equal(N * (case[4] or 1), server:requests() - before)
    end)
  end

  it("counts what a request does need: the count sees a buffer that grows", function()
    local client = server:connect()
    local calls = C.segue__mem_calls()
    client:write(post("Content-Length: 60000\r\n", ("x"):rep(60000)))
    assert.equal(60000, #client:read_response().body)
    assert.is_true(C.segue__mem_calls() > calls)
  end)
end)
