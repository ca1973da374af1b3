-- SPDX-License-Identifier: MIT
-- The limits of the HTTP server: sizes, times, numbers, memory.
local C = require "spec.support.c"
local servers = require "spec.support.http_server"
local http = require "spec.support.http"
local process = require "spec.support.process"
local wait = require "spec.support.wait"
local uv = require "luv"

local server
local start = servers.for_each_spec(function(started) server = started end)

local get = servers.get

-- Sends a byte of text every few milliseconds until the server has had enough.
local function drip(client, text, every_ms)
  local timer, at = uv.new_timer(), 0
  timer:start(0, every_ms, function()
    at = at % #text + 1
    if client.handle:is_writable() then client:write(text:sub(at, at)) end
  end)
  return timer
end

-- The limits of these specs are 200 ms and less; those that hold where none is given are 10 s and
-- more. On a busy machine the former take longer, but not that long.
local USUAL_MS = 10000

local function elapsed_ms(fn)
  local began = uv.hrtime()
  local result = fn()
  return (uv.hrtime() - began) / 1e6, result
end

describe("the HTTP server's limits", function()
  after_each(function()
    C.segue__mem_fail_at(0)
    C.http_harness_free_fds()
  end)

  it("refuse a head that is too large, complete or not", function()
    start { head_bytes = 1000 }
    assert.equal(431, server:ask(get("/", "X: " .. ("y"):rep(1000) .. "\r\n")).status)
    assert.equal(431, server:ask("GET /" .. ("y"):rep(2000)).status)
    assert.equal(431, server:ask("GET / HTTP/1.1\r\nX: " .. ("y"):rep(2000)).status)
    local head = get("/", "X: y\r\n")
    local most = get("/", "X: y" .. ("y"):rep(1000 - #head) .. "\r\n")
    assert.equal(200, server:ask(most).status)
    assert.equal(431, server:ask((most:gsub("X: ", "X: y"))).status)
  end)

  it("take a head up to the default size", function()
    start()
    assert.equal(200, server:ask(get("/", "X: " .. ("y"):rep(16000) .. "\r\n")).status)
    assert.equal(431, server:ask(get("/", "X: " .. ("y"):rep(17000) .. "\r\n")).status)
  end)

  it("refuse too many headers", function()
    start { header_count = 5 }
    assert.equal(200, server:ask(get("/", ("X: 1\r\n"):rep(4))).status)
    assert.equal(431, server:ask(get("/", ("X: 1\r\n"):rep(5))).status)
  end)

  it("refuse a large body before reading it, and let the client read why", function()
    start { body_bytes = 1000 }
    local client = server:connect()
    client:write("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 1001\r\n\r\n")
    local r = client:read_response()
    assert.equal(413, r.status)
    assert.equal("close", r.headers.connection)
    client = server:connect()
    client:write("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5000000\r\n\r\n"
      .. ("x"):rep(5000000))
    assert.equal(413, client:read_response().status)
    assert.equal("", client:read_all())
    assert.is_nil(client.error)
    assert.equal(0, server:requests())
  end)

  it("refuse a chunked body when it grows too large", function()
    start { body_bytes = 1000 }
    local head = "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert.equal(413, server:ask(head .. "fffffffffffffff\r\n" .. ("x"):rep(2000)).status)
    assert.equal(413, server:ask(head .. ("64\r\n" .. ("x"):rep(100) .. "\r\n"):rep(11)).status)
    assert.equal(200, server:ask(head .. ("64\r\n" .. ("x"):rep(100) .. "\r\n"):rep(10)
      .. "0\r\n\r\n").status)
  end)

  it("refuse bad requests of every kind with a clear sentence, and close", function()
    start()
    for request, status in pairs {
      ["GET / HTTP/1.1\r\n\r\n"] = 400,
      ["GET / HTTP/1.1\nHost: a\n\n"] = 400,
      ["GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n"] = 400,
      ["GET / HTTP/9.9\r\nHost: a\r\n\r\n"] = 505,
      ["CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n"] = 501,
      ["GET /%00 HTTP/1.1\r\nHost: a\r\n\r\n"] = 400,
      ["GET /../x HTTP/1.1\r\nHost: a\r\n\r\n"] = 400,
      ["POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n"]
        = 400,
      ["POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\n"] = 400,
      ["POST / HTTP/1.1\r\nHost: a\r\nContent-Length : 4\r\n\r\n"] = 400,
      ["POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n"] = 400,
      ["POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked,identity\r\n\r\n"] = 400,
      ["POST / HTTP/1.1\r\nHost: a\r\nExpect: tea\r\nContent-Length: 1\r\n\r\n"] = 417,
      ["GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n"] = 400,
      ["GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n"] = 400,
      ["\22\3\1\2\0\1\0\1\252\3\3"] = 400,
    } do
      local client = server:connect()
      client:write(request .. get("/echo"))
      local r = client:read_response()
      assert.equal(status, r.status, request)
      assert.equal("close", r.headers.connection)
      assert.matches("^%a[^\n]+%w\n$", r.body)
      assert.equal("", client:read_all())
      assert.is_nil(client.error)
    end
    assert.equal(0, server:requests())
  end)

  it("cut a head that comes byte by byte", function()
    start { head_ms = 200 }
    local client = server:connect()
    local timer = drip(client, "GET / HTTP/1.1\r\nHost: a\r\n" .. ("X: y\r\n"):rep(1000), 10)
    local ms, r = elapsed_ms(function() return client:read_response() end)
    timer:close()
    assert.equal(408, r.status)
    assert.is_true(ms >= 190 and ms < USUAL_MS, ms)
  end)

  it("cut a body that comes byte by byte", function()
    start { body_ms = 200, head_ms = 50 }
    for _, how in ipairs { "Content-Length: 100", "Content-Length: 100000",
      "Transfer-Encoding: chunked" } do
      local client = server:connect()
      client:write("POST /echo HTTP/1.1\r\nHost: a\r\n" .. how .. "\r\n\r\n")
      local timer = drip(client, "1\r\nx\r\n", 10)
      local ms, r = elapsed_ms(function() return client:read_response() end)
      timer:close()
      assert.equal(408, r.status)
      assert.is_true(ms >= 190 and ms < USUAL_MS, ms)
    end
  end)

  it("close a silent connection without an answer", function()
    start { idle_ms = 150 }
    local client = server:connect()
    local ms = elapsed_ms(function() assert.equal("", client:read_all()) end)
    assert.is_true(ms >= 140 and ms < USUAL_MS, ms)
    client = server:connect()
    for _ = 1, 3 do -- every request starts the time again
      client:write(get("/later/100"))
      assert.equal("late\n", client:read_response().body)
    end
    assert.equal("", client:read_all())
  end)

  it("give a handler all the time that it wants", function()
    start { idle_ms = 30, head_ms = 30, body_ms = 30, write_ms = 30 }
    assert.equal("late\n", server:ask(get("/later/200")).body)
  end)

  it("disconnect a client that does not read a large answer, and keep one that does", function()
    start { write_ms = 1000 }
    local stuck, slow = server:connect(), server:connect()
    stuck.handle:read_stop()
    slow.handle:read_stop()
    stuck:write(get("/size/50000000"))
    slow:write(get("/size/50000000"))
    server:until_true(function() return server:requests() == 2 end)
    slow.handle:recv_buffer_size(1048576) -- a window of several segments, or probes set the pace
    local got, burst, timer = 0, 0, uv.new_timer()
    local function read()
      burst = 0
      slow.handle:read_start(function(err, data)
        if not data then slow.ended, slow.error = true, err return end
        got, burst = got + #data, burst + #data
        if burst > 2000000 then
          slow.handle:read_stop()
          timer:start(50, 0, read) -- in all much longer than write_ms
        end
      end)
    end
    read()
    wait.until_true(function() return got > 50000000 or slow.ended end, 10000, function()
      return "the whole answer, got " .. got
    end)
    timer:close()
    assert.is_true(got > 50000000)
    server:until_true(function() return server:connections() == 1 end)
  end)

  it("reset a client that does not read a body that ends with the connection", function()
    start { write_ms = 300, write_bytes = 1e9 }
    for i, case in ipairs { { "/stream/1/3", true }, { "/stream/50/1000000", false } } do
      local client = server:connect()
      client.handle:read_stop()
      client:write("GET " .. case[1] .. " HTTP/1.0\r\n\r\n")
      server:until_true(function()
        return server:requests() == i and server:connections() == 0
      end)
      assert.equal(case[2], client:ends_well())
    end
  end)

  it("answer 503 past the number of connections, and take new ones when there is room", function()
    start { connections = 2 }
    local a, b = server:connect(), server:connect()
    a:write(get("/echo"))
    b:write(get("/echo"))
    a:read_response()
    b:read_response()
    for _ = 1, 3 do
      local c = server:connect()
      c:write(get("/echo"))
      local r = c:read_response()
      assert.equal(503, r.status)
      assert.equal("1", r.headers["retry-after"])
      assert.equal("", c:read_all())
      c:close()
    end
    a:close()
    server:until_true(function() return server:connections() == 1 end)
    assert.equal(200, server:ask(get("/echo")).status)
    assert.equal(3, server:requests())
  end)

  it("answer each client of a crowd far past the number of connections", function()
    process.run { "prlimit", "--pid", uv.os_getpid(), "--nofile=4096:" } -- both ends are ours
    local limit = 300
    start { connections = limit }
    local clients, statuses = {}, { [200] = 0, [503] = 0 }
    for i = 1, limit + 200 do
      clients[i] = server:connect()
      clients[i]:write(get("/hold"))
    end
    server:until_true(function() return server:held() == limit end, "the connections that fit")
    for i = limit + 1, limit + 200 do -- many more than may be refused at once
      local r = clients[i]:read_response(30000)
      assert.equal(503, r.status)
      assert.equal("1", r.headers["retry-after"])
      clients[i]:close()
    end
    server:release()
    for i = 1, limit do
      local status = clients[i]:read_response(30000).status
      statuses[status] = statuses[status] + 1
    end
    assert.same({ [200] = limit, [503] = 0 }, statuses)
  end)

  it("let clients wait that find no room, also for a refusal", function()
    start { connections = 3 } -- one may be refused at a time
    local held = {}
    for i = 1, 3 do
      held[i] = server:connect()
      held[i]:write(get("/hold"))
    end
    server:until_true(function() return server:held() == 3 end)
    local reported = server:connect()
    assert.equal(503, reported:read_response().status) -- and stays, as long as it may
    local waits = server:connect()
    waits:write(get("/echo"))
    server:until_true(function() return server:connections() == 4 end)
    server:release()
    for i = 1, 3 do
      assert.equal(200, held[i]:read_response().status)
      held[i]:close()
    end
    assert.equal(200, waits:read_response().status)
  end)

  it("let clients wait while there are no descriptors, without spinning", function()
    start()
    local before = server:connect()
    before:write(get("/echo"))
    before:read_response()
    local handles = {}
    for i = 1, 3 do -- descriptors of the clients are made first
      handles[i] = uv.new_tcp(2)
      handles[i]:nodelay(true)
    end
    C.http_harness_use_fds(500)
    local connected, answers = 0, {}
    for i, handle in ipairs(handles) do
      handle:connect("127.0.0.1", server.port, function(err)
        assert.is_nil(err)
        connected = connected + 1
        handle:read_start(function(_, data) answers[i] = (answers[i] or "") .. (data or "") end)
        handle:write(get("/status/201"))
      end)
    end
    wait.until_true(function() return connected == 3 end)
    local cpu = os.clock()
    before:write(get("/later/250"))
    before:read_response()
    assert.is_true(os.clock() - cpu < 0.15, "the server spins")
    assert.is_nil(answers[1])
    C.http_harness_free_fd() -- taken at once by one of them: still the same shortage
    wait.until_true(function() return answers[1] or answers[2] or answers[3] end)
    before:write(get("/later/250"))
    before:read_response()
    assert.equal(1, C.http_harness_shortages(server.h))
    C.http_harness_free_fds()
    wait.until_true(function()
      return answers[1] and answers[2] and answers[3]
    end)
    for i = 1, 3 do
      assert.matches("^HTTP/1.1 201 ", answers[i])
      handles[i]:close()
    end
  end)

  it("keep an idle connection below 6 KB", function()
    start { connections = 3000 }
    local function fill(count)
      for _ = 1, count do
        local client = server:connect()
        client:write(get("/echo"))
        client:read_response()
        client.handle:read_stop()
      end
    end
    fill(50) -- what is needed once
    collectgarbage()
    local live = tonumber(C.segue__mem_live())
    fill(1950)
    assert.equal(2000, server:connections())
    -- One block per connection, its struct, and no buffer.
    assert.equal(1950, tonumber(C.segue__mem_live()) - live)
    assert.is_true(C.http_harness_connection_size() < 1024)
  end)

  it("answer or close when memory runs out at any point, and continue afterwards", function()
    start()
    local body = ("x"):rep(9000)
    local chunked = "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2328\r\n"
      .. body .. "\r\n0\r\n\r\n"
    local whole = "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 9000\r\n\r\n" .. body
    local long = get("/echo", "X: " .. ("y"):rep(9000) .. "\r\n")
    local failed = 0
    for _, request in ipairs { chunked, whole, long, get("/stream/2/100"), get("/size/5000000") } do
      for n = 1, 8 do
        C.segue__mem_fail_at(n)
        local client = http.connect(server.where)
        client:write(request)
        client:shutdown()
        local bytes = client:read_all()
        C.segue__mem_fail_at(0)
        client:close()
        if not bytes:find("^HTTP/1.1 200 OK") then
          failed = failed + 1
          assert.is_true(bytes == "" or bytes:find("^HTTP/1.1 503 ") ~= nil, bytes)
        end
      end
      assert.equal(200, server:ask(request).status)
    end
    assert.is_true(failed > 5, "hardly any allocation failed: " .. failed)
  end)
end)
