-- SPDX-License-Identifier: MIT
-- The admin API of the real daemon against hostile and broken clients: framing that two readers
-- would understand differently, slow and silent clients by the thousand, clients that leave, too
-- few descriptors. Reloads continue in each case.
local cjson = require "cjson"
local faults = require "spec.support.faults"
local http = require "spec.support.http"
local process = require "spec.support.process"
local segue = require "spec.support.segue"
local uv = require "luv"
local wait = require "spec.support.wait"

local policy = [[
local segue = require "segue"
return {
  name = "fortress",
  sources = { segue.file "config.yaml" },
  triggers = { segue.http "127.0.0.1:@PORT@" },
  check = function(next)
    if next.slow then segue.sleep(next.slow) end
    return true
  end,
}
]]

local function start(options)
  options = options or {}
  options.policy, options.files = policy, options.files or { ["config.yaml"] = "n: 1\n" }
  if options.schema then
    options.files["schema.json"] = options.schema
    options.policy = policy:gsub("name =", 'schema = "schema.json",\n  %0')
  end
  return segue.start(options)
end

local function reloads(d)
  return d:json("/api/v1/reloads")
end

local function count(list) return #(list.reloads or list) end

local function good(d)
  assert.equal(200, d:http("/-/healthy").status)
  assert.equal(200, d:http { method = "POST", path = "/-/reload" }.status)
end

local RELOAD = "POST /-/reload?force=1 HTTP/1.1\r\nHost: localhost\r\n"

describe("the daemon's HTTP", function()
  after_each(segue.cleanup)

  -- A reload hides in each: one reader sees it as a body, another one as a request.
  local inner = RELOAD .. "\r\n"
  local function post(lines, body)
    return "POST /-/healthy HTTP/1.1\r\nHost: localhost\r\n" .. lines .. "\r\n" .. (body or inner)
  end
  local function get(lines)
    return "GET /-/healthy HTTP/1.1\r\nHost: localhost\r\n" .. lines .. "\r\n" .. inner
  end
  local refused = {
    { "a length beside chunked", post("Content-Length: 4\r\nTransfer-Encoding: chunked\r\n",
      "0\r\n\r\n" .. inner), 400 },
    { "two lengths", post("Content-Length: 0\r\nContent-Length: 60\r\n"), 400 },
    { "a list of lengths", post("Content-Length: 0, 0\r\n"), 400 },
    { "a space before the colon", post("Content-Length : 60\r\n"), 400 },
    { "a length with a sign", post("Content-Length: +60\r\n"), 400 },
    { "a negative length", post("Content-Length: -1\r\n"), 400 },
    { "a length past 64 bits", post("Content-Length: 18446744073709551620\r\n"), 400 },
    { "a length in hexadecimal", post("Content-Length: 0x10\r\n"), 400 },
    { "xchunked", post("Transfer-Encoding: xchunked\r\n"), 400 },
    { "chunked, identity", post("Transfer-Encoding: chunked, identity\r\n"), 400 },
    { "a folded Transfer-Encoding", post("Transfer-Encoding:\r\n chunked\r\n"), 400 },
    { "a chunk size with a sign", post("Transfer-Encoding: chunked\r\n",
      "+0\r\n\r\n" .. inner), 400 },
    { "a chunk size that overflows", post("Transfer-Encoding: chunked\r\n",
      "fffffffffffffffff\r\n" .. inner), 400 },
    { "a chunk that ends in LF", post("Transfer-Encoding: chunked\r\n",
      "1\nx\n0\n\n" .. inner), 400 },
    { "chunk data that is longer than it says", post("Transfer-Encoding: chunked\r\n",
      "1\r\nxyz\r\n0\r\n\r\n" .. inner), 400 },
    { "a chunk extension without end", post("Transfer-Encoding: chunked\r\n",
      "1;" .. ("e"):rep(70000)), 400 },
    { "a bare CR in a chunk extension", post("Transfer-Encoding: chunked\r\n",
      "0;a\rb\r\n\r\n" .. inner), 400 },
    { "no Host", "GET / HTTP/1.1\r\n\r\n" .. inner, 400 },
    { "two Hosts", get "Host: localhost\r\n", 400 },
    { "HTTP/9.9", "GET / HTTP/9.9\r\nHost: localhost\r\n\r\n" .. inner, 505 },
    { "CONNECT", "CONNECT localhost:1 HTTP/1.1\r\nHost: localhost\r\n\r\n" .. inner, 501 },
    { "NUL in a header", get "X: a\0b\r\n", 400 },
    { "a folded header", get "X: a\r\n b\r\n", 400 },
    { "a line that ends in LF", "GET / HTTP/1.1\nHost: localhost\n\n" .. inner, 400 },
    { "a bare CR", get "X: a\rHost: b\r\n", 400 },
    { "an escaped NUL", "GET /-/%00 HTTP/1.1\r\nHost: localhost\r\n\r\n" .. inner, 400 },
    { "dots above the root",
      "POST /../-/reload HTTP/1.1\r\nHost: localhost\r\n\r\n" .. inner, 400 },
    { "17 KiB of head", get("X: " .. ("y"):rep(17000) .. "\r\n"), 431 },
    { "101 headers", get(("X: y\r\n"):rep(101)), 431 },
    { "2 MiB announced", post("Content-Length: 2097152\r\n"), 413 },
    { "another site's page", RELOAD .. "Origin: http://evil.example\r\n\r\n", 403 },
    { "a name that is not ours", "POST /-/reload HTTP/1.1\r\nHost: evil.example\r\n\r\n", 403 },
    { "an absolute target that is not ours",
      "POST http://evil.example/-/reload HTTP/1.1\r\nHost: localhost\r\n\r\n", 403 },
  }

  it("refuses each of these with a reason, closes, and starts no reload", function()
    local d = start()
    local before = count(reloads(d))
    for _, row in ipairs(refused) do
      for step = 1, 2 do -- in one piece, then cut in the middle of the head
        local c = http.connect { port = d.port }
        if step == 1 then
          c:write(row[2])
        else
          c:write(row[2]:sub(1, 20))
          wait.pump()
          c:write(row[2]:sub(21))
        end
        local r = c:read_response()
        assert.equal(row[3], r.status, row[1])
        assert.is_true(#r.body > 10, row[1])
        if row[3] ~= 403 then
          assert.equal("close", r.headers.connection, row[1])
          assert.equal("", c:read_all(), row[1])
        end
        c:close()
      end
    end
    assert.equal(before, count(reloads(d)))
    good(d)
  end)

  it("finds one request where an absolute target, dots and escapes spell it", function()
    local d = start()
    for _, target in ipairs { "http://localhost:1/-/reload", "/-/./reload", "/x/../-/reload",
      "/%2d/reload", "/-/reloa%64", "HTTP://LOCALHOST/-/reload" } do
      local c = http.connect { port = d.port }
      c:write("POST " .. target .. " HTTP/1.1\r\nHost: localhost\r\n\r\n")
      assert.equal(200, c:read_response().status, target)
      c:close()
    end
    -- An escaped slash is none.
    assert.equal(404, d:http { method = "POST", path = "/-%2freload" }.status)
  end)

  it("answers pipelined requests in order, the deferred ones too", function()
    local d = start()
    d.dir:save("config.yaml", "n: 2\nslow: 0.15\n")
    local c = http.connect { port = d.port }
    c:write(RELOAD .. "\r\n" .. "GET /api/v1/config HTTP/1.1\r\nHost: localhost\r\n\r\n"
      .. RELOAD .. "Content-Length: 5\r\n\r\nhello"
      .. "GET /nothing HTTP/1.1\r\nHost: a.localhost\r\n\r\n")
    local first = c:read_response()
    assert.equal(200, first.status)
    assert.matches("^applied", first.body)
    assert.equal(2, cjson.decode(c:read_response().body).n)
    assert.matches("^applied", c:read_response().body)
    assert.equal(404, c:read_response().status)
    c:close()
  end)

  it("answers 500 pipelined reloads, each by a run of its own, while others are served", function()
    local d = start()
    local c = http.connect { port = d.port }
    c:write((RELOAD .. "\r\n"):rep(500))
    for i = 1, 500 do
      local r = c:read_response()
      assert.equal(200, r.status)
      if i % 50 == 0 then assert.equal(200, d:http("/-/healthy").status) end
    end
    assert.equal(501, d:json("/api/v1/status").generation)
    c:close()
  end)

  it("serves a half-closed client, and notices at once a client that left a reload", function()
    local d = start { files = { ["config.yaml"] = "n: 1\nslow: 0.2\n" } }
    local half = http.connect { port = d.port }
    half:write(RELOAD .. "\r\n")
    half:shutdown()
    assert.equal(200, half:read_response().status)
    assert.equal("", half:read_all())
    half:close()
    d.dir:save("config.yaml", "n: 2\nslow: 3\n")
    local c = http.connect { port = d.port }
    c:write(RELOAD .. "\r\n")
    wait.until_true(function() return d:json("/api/v1/status").running ~= cjson.null end)
    wait.until_true(function() return d:connections() == 1 end)
    c:reset()
    wait.until_true(function() return d:connections() == 0 end, 1500, "the end of the connection")
    assert.truthy(d:json("/api/v1/status").running ~= cjson.null) -- and the reload continues
    d:wait_log("generation 3 is live", 10000)
  end)

  it("takes two or three system calls for a request on a warm connection", function()
    local d = start()
    local c = http.connect { port = d.port }
    local ask = "GET /-/healthy HTTP/1.1\r\nHost: localhost\r\n\r\n"
    c:write(ask)
    c:read_response()
    local trace = d.dir:at "trace"
    local p = process.start { "strace", "-f", "-c", "-o", trace, "-p", tostring(d.process.pid) }
    p:wait_output "attached"
    for _ = 1, 500 do
      c:write(ask)
      c:read_response()
    end
    p:kill "int"
    p:wait_exit()
    local calls = tonumber(d.dir:read("trace"):match("\n[%d. ]+ +[%d.]+ +%d+ +(%d+)[%d ]- total"))
    assert.is_true(calls / 500 <= 3.2, d.dir:read "trace")
  end)

  it("serves others while 1,000 clients are slow, and ends each slow one in time #long", function()
    local d = start { under = { "prlimit", "--nofile=4096" }, measured = true }
    local open, answered = 0, 0
    local handles = {}
    local began = uv.hrtime()
    for i = 1, 1000 do
      local handle = uv.new_tcp()
      handles[i] = handle
      handle:connect("127.0.0.1", d.port, function(err)
        assert(not err, err)
        open = open + 1
        handle:write("GET /-/healthy HTTP/1.1\r\nHost: localhost\r\nX: ")
        local text = ""
        handle:read_start(function(_, data)
          text = text .. (data or "")
          if data then return end
          if text:find("^HTTP/1.1 408 ") then answered = answered + 1 end
          handle:close()
        end)
      end)
    end
    wait.until_true(function() return open == 1000 end, 10000, "1,000 connections")
    local drip = uv.new_timer()
    drip:start(500, 500, function()
      for _, handle in ipairs(handles) do
        if not handle:is_closing() then handle:write("y") end
      end
    end)
    local rounds = 0
    wait.until_true(function()
      if answered < 1000 then
        rounds = rounds + 1
        d.dir:save("config.yaml", ("n: %d\n"):format(rounds))
        assert.equal(200, d:http { method = "POST", path = "/-/reload" }.status)
        assert.equal(200, (d:reload "?force=1"))
      end
      return answered == 1000
    end, 30000, function() return answered .. " of 1,000 answers 408" end)
    drip:close()
    local seconds = (uv.hrtime() - began) / 1e9
    assert.is_true(seconds > 9.5, seconds)
    assert.is_true(rounds > 20, rounds)
    assert.is_true(d.process:rss_kib() < segue.roomy_kib(30 * 1024), d.process:rss_kib())
    good(d)
  end)

  it("past its number of connections answers 503 at once, but never to the operator", function()
    local d = start { under = { "prlimit", "--nofile=64" } }
    local crowd = {}
    for i = 1, 24 do crowd[i] = http.connect { port = d.port } end
    for _ = 1, 10 do
      local r = d:http("/-/healthy")
      assert.equal(503, r.status)
      assert.is_truthy(r.headers["retry-after"])
    end
    local reported = d:control("/metrics").body:match(
      '\nsegue_http_refused_total{reason="connections"} (%d+)\n')
    assert.is_true(tonumber(reported) >= 10, reported)
    local lines
    wait.until_true(function() -- a thread writes the log
      lines = select(2, d:log():gsub("there are too many connections[^\n]*limit=24", ""))
      return lines > 0
    end)
    assert.is_true(lines < 10, d:log())
    for i = 1, 50 do
      d.dir:save("config.yaml", ("n: %d\n"):format(i))
      assert.equal(200, (d:reload()))
      assert.equal(i, d:config().n)
    end
    for _, c in ipairs(crowd) do c:close() end
    wait.until_true(function() -- the daemon has noticed that every client of the crowd is gone
      local open = d:control("/metrics").body:match("\nsegue_http_connections (%d+)\n")
      return tonumber(open) <= 1
    end)
    good(d)
  end)

  it("without a free descriptor fails reloads with a reason, until it has one", function()
    local d = start()
    local control = http.connect { socket = d:socket() }
    local function reload()
      control:write(http.format { method = "POST", path = "/-/reload",
        headers = { Accept = "application/json" } })
      local r = control:read_response()
      return r.status, cjson.decode(r.body)
    end
    assert.equal(200, (reload()))
    for round = 1, 5 do
      faults.exhaust(d)
      d.dir:save("config.yaml", ("n: %d\n"):format(round))
      local status, answer = reload()
      assert.equal(500, status)
      assert.equal("failed", answer.outcome)
      assert.matches("too many open files", answer.errors[1].message:lower())
      local waiting = http.connect { port = d.port } -- in the kernel's queue
      waiting:write("GET /-/healthy HTTP/1.1\r\nHost: localhost\r\n\r\n")
      assert.equal(500, (reload()))
      assert.equal("", waiting.input)
      faults.relieve(d)
      assert.equal(200, waiting:read_response().status)
      waiting:close()
      assert.equal(200, (reload()))
      assert.equal(round, d:config().n)
    end
    control:close()
  end)

  -- The kernel keeps 3 MiB for the client that does not read, and the daemon one more. A reload
  -- that is rejected for 100 errors makes a long event.
  it("disconnects a client that reads no events, and delays no others", function()
    local d = start { measured = true,
      schema = [[{ "additionalProperties": { "type": "integer" } }]] }
    local wrong = {}
    for k = 1, 100 do wrong[k] = ("%s%d: wrong\n"):format(("key"):rep(30), k) end
    d.dir:save("config.yaml", table.concat(wrong))
    local c = http.connect { port = d.port }
    local function reload()
      c:write(RELOAD .. "\r\n")
      assert.equal(422, c:read_response().status)
    end
    for _ = 1, 150 do reload() end -- the daemon keeps the last 100 of them
    local mute = uv.new_tcp()
    local ended
    mute:connect("127.0.0.1", d.port, function(err)
      assert(not err, err)
      mute:recv_buffer_size(4096)
      mute:write("GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
    end)
    local reader = http.connect { port = d.port }
    reader:write("GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
    reader:read_until "\r\n\r\n"
    wait.until_true(function() return d:connections() == 3 end)
    local before = d.process:rss_kib()
    for _ = 1, 2000 do
      reload()
      reader.input = reader.input:sub(-200)
      ended = d:connections() == 2
      if ended then break end
    end
    assert.is_true(ended, "it was not cut off")
    local more = d.process:rss_kib() - before
    assert.is_true(more < segue.roomy_kib(8 * 1024), more)
    mute:close()
    assert.is_nil(reader.ended)
    c:close()
    reader:close()
    d.dir:save("config.yaml", "n: 2\n")
    good(d)
  end)
end)
