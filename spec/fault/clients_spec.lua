-- SPDX-License-Identifier: MIT
-- Clients of the running daemon that drip, and clients that leave, in every phase of a request: a
-- drip has one deadline for the whole, and who has left leaves nothing behind.
local http = require "spec.support.http"
local segue = require "spec.support.segue"
local uv = require "luv"
local wait = require "spec.support.wait"

local policy = [[
local segue = require "segue"
return {
  name = "clients",
  sources = { segue.file "config.yaml" },
  triggers = { segue.http "127.0.0.1:@PORT@" },
  check = function(next)
    if next.slow then segue.sleep(next.slow) end
    return true
  end,
}
]]

local HEAD = "POST /-/reload HTTP/1.1\r\nHost: localhost\r\n"

local function start(config)
  return segue.start { policy = policy, files = { ["config.yaml"] = config or "n: 1\n" } }
end

describe("the daemon, from a client that drips", function()
  after_each(segue.cleanup)

  -- The bytes that come at once, the bytes that then drip for ever, and the deadline in seconds.
  local drips = {
    { "the request line", "", "GET /" .. ("x"):rep(9000), 10 },
    { "the headers", HEAD, ("X: y\r\n"):rep(99), 10 },
    { "a body", HEAD .. "Content-Length: 100000\r\n\r\n", "x", 30 },
    { "chunks", HEAD .. "Transfer-Encoding: chunked\r\n\r\n", "1\r\nx\r\n", 30 },
    { "the data of a chunk", HEAD .. "Transfer-Encoding: chunked\r\n\r\nffff\r\n", "x", 30 },
    { "trailers", HEAD .. "Transfer-Encoding: chunked\r\n\r\n0\r\n", "X: y\r\n", 30 },
  }

  it("takes a head for 10 s and a body for 30, however often a byte comes #long", function()
    local d = start()
    local open = {}
    for _, where in ipairs { { port = d.port }, { socket = d:socket() } } do
      for _, drip in ipairs(drips) do
        local c = http.connect(where)
        c:write(drip[2])
        open[#open + 1] = { c = c, drip = drip, at = 0, began = uv.hrtime() }
      end
    end
    local tick = uv.new_timer()
    tick:start(300, 300, function()
      for _, one in ipairs(open) do
        one.at = one.at % #one.drip[3] + 1
        if not one.ms and not one.c.handle:is_closing() then
          one.c:write(one.drip[3]:sub(one.at, one.at))
        end
      end
    end)
    wait.until_true(function()
      local left = 0
      for _, one in ipairs(open) do
        if not one.ms and one.c.ended then one.ms = (uv.hrtime() - one.began) / 1e6 end
        if not one.ms then left = left + 1 end
      end
      return left == 0
    end, 120000, "the end of every connection")
    tick:close()
    for _, one in ipairs(open) do
      local what, seconds = one.drip[1], one.drip[4]
      assert.matches("^HTTP/1.1 408 ", one.c.input, what)
      assert.is_true(one.ms > seconds * 950, ("%s: %d ms"):format(what, one.ms))
      one.c:close()
    end
    assert.equal(1, d:json("/api/v1/status").generation)
    assert.equal(200, d:http { method = "POST", path = "/-/reload?force=1" }.status)
  end)
end)

describe("the daemon, when a client leaves", function()
  after_each(segue.cleanup)

  local phases = {
    { "before a word", "" },
    { "in the request line", "POST /-/re" },
    { "in the headers", HEAD .. "X-A: b" },
    { "before the body", HEAD .. "Content-Length: 5\r\n\r\n" },
    { "in the body", HEAD .. "Content-Length: 5\r\n\r\nab" },
    { "when it may send the body", HEAD .. "Content-Length: 5\r\nExpect: 100-continue\r\n\r\n",
      "^HTTP/1.1 100 " },
    { "in a chunk size", HEAD .. "Transfer-Encoding: chunked\r\n\r\n1" },
    { "in a chunk", HEAD .. "Transfer-Encoding: chunked\r\n\r\n5\r\nab" },
    { "in the trailers", HEAD .. "Transfer-Encoding: chunked\r\n\r\n0\r\nX: y" },
    { "with an answer unread", "GET /api/v1/config HTTP/1.1\r\nHost: localhost\r\n\r\n" },
    { "between two answers", ("GET /api/v1/config HTTP/1.1\r\nHost: localhost\r\n\r\n"):rep(50),
      "^HTTP/1.1 200 " },
    { "in the middle of the events", "GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n",
      "^HTTP/1.1 200 " },
  }

  local function nobody(d, what)
    wait.until_true(function() return d:connections() == 0 end, nil, function()
      return ("the end of the connection that was left %s: %s"):format(what, d.process:describe())
    end)
  end

  it("in any phase, with or without a farewell, holds nothing of it and continues", function()
    local lines = {}
    for i = 1, 3000 do lines[i] = ("key%d: %s\n"):format(i, ("x"):rep(60)) end
    local d = start(table.concat(lines) .. "n: 1\n")
    nobody(d, "at the start")
    for _, phase in ipairs(phases) do
      for _, how in ipairs { "close", "reset" } do
        for _, where in ipairs { { port = d.port }, { socket = d:socket() } } do
          local c = http.connect(where)
          c:write(phase[2])
          if phase[3] then
            c:read_until(phase[3])
          else
            wait.until_true(function() return d:connections() > 0 end)
          end
          if where.port then c[how](c) else c:close() end
          nobody(d, phase[1])
        end
      end
      assert.equal(200, d:http("/-/healthy").status)
    end
    assert.equal(1, d:json("/api/v1/status").generation) -- half a request is none
  end)

  it("while its reload waits, does not stop the reload", function()
    local d = start()
    nobody(d, "at the start")
    d.dir:save("config.yaml", "n: 2\nslow: 0.5\n")
    for i, how in ipairs { "close", "reset" } do
      local c = http.connect { port = d.port }
      c:write(HEAD .. "\r\n")
      wait.until_true(function()
        local counted = 'segue_triggers_total{trigger="http"} ' .. i
        return d:control("/metrics").body:find(counted, 1, true)
      end, nil, "the request")
      c[how](c)
    end
    d:wait_config(function(config) return config.n == 2 end)
    nobody(d, "with its reload")
  end)
end)
