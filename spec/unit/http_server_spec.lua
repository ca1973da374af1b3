-- SPDX-License-Identifier: MIT
-- The HTTP server over real sockets: answers, keep-alive, pipelining, streams, closing. Unix
-- sockets, and clients that leave: http_socket_spec.lua.
local C = require "spec.support.c"
local servers = require "spec.support.http_server"
local tempdir = require "spec.support.tempdir"
local wait = require "spec.support.wait"
local uv = require "luv"

local server
local start = servers.for_each_spec(function(started) server = started end)

local get = servers.get
local post = servers.post

describe("the HTTP server", function()
  after_each(tempdir.remove_all)

  describe("answers", function()
    it("with status, date, type, extra headers, length and body", function()
      start()
      local client = server:connect()
      client:write(get("/a%20b/../x?q=1", "X-Test:  hi \r\n"))
      local r = client:read_response()
      assert.equal(200, r.status)
      assert.equal("OK", r.reason)
      assert.equal("1.1", r.version)
      assert.matches("^%a%a%a, %d%d %a%a%a %d%d%d%d %d%d:%d%d:%d%d GMT$", r.headers.date)
      assert.equal("text/plain", r.headers["content-type"])
      assert.equal("yes", r.headers["x-extra"])
      assert.is_nil(r.headers.connection)
      assert.is_nil(r.headers.server)
      assert.matches("method=GET\npath=/x\nquery=q=1\nhost=localhost\nheaders=2\nx%-test=hi\n",
        r.body)
      assert.matches("peer=127%.0%.0%.1:%d+\nlocal=0\n", r.body)
    end)

    it("HEAD as GET without the body", function()
      start()
      local client = server:connect()
      client:write("HEAD /size/1000 HTTP/1.1\r\nHost: a\r\n\r\n" .. get("/echo"))
      local r = client:read_response(nil, true)
      assert.equal("1000", r.headers["content-length"])
      assert.equal(200, client:read_response().status)
      client:write("HEAD /stream/3/10 HTTP/1.1\r\nHost: a\r\n\r\n" .. get("/status/404"))
      assert.equal("chunked", client:read_response(nil, true).headers["transfer-encoding"])
      assert.equal(404, client:read_response().status)
    end)

    it("204 and 304 without body or length", function()
      start()
      local client = server:connect()
      client:write(get("/status/204") .. get("/status/304") .. get("/status/200"))
      for _, status in ipairs { 204, 304 } do
        local r = client:read_response()
        assert.equal(status, r.status)
        assert.is_nil(r.headers["content-length"])
      end
      assert.equal("status\n", client:read_response().body)
    end)

    it("205 with the length 0 and no body, whole or as a stream", function()
      start()
      local client = server:connect()
      client:write(get("/status/205") .. get("/stream205") .. get("/status/200"))
      for _ = 1, 2 do
        local r = client:read_response()
        assert.equal(205, r.status)
        assert.equal("Reset Content", r.reason)
        assert.equal("0", r.headers["content-length"])
        assert.is_nil(r.headers["transfer-encoding"])
      end
      assert.equal("status\n", client:read_response().body)
    end)

    it("a body in one piece, byte by byte, and larger than any buffer", function()
      start()
      local client = server:connect()
      client:write(post("/echo", "hello"))
      assert.equal("hello", client:read_response().body)
      for c in post("/echo", "drops"):gmatch(".") do client:write(c) end
      assert.equal("drops", client:read_response().body)
      for _, size in ipairs { 3900, 4096, 5000, 16384, 100000, 1048576 } do
        local body = ("0123456789"):rep(size / 10 + 1):sub(1, size)
        client:write(post("/echo", body))
        assert.is_true(client:read_response().body == body, size .. " bytes")
      end
    end)

    it("a chunked body, and the request behind it", function()
      start()
      local client = server:connect()
      local head = "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n"
      client:write(head .. "\r\n5\r\nhello\r\n1;x=y\r\n!\r\n0\r\nT: x\r\n\r\n"
        .. get("/status/201"))
      assert.equal("hello!", client:read_response().body)
      assert.equal(201, client:read_response().status)
      local body = ("x"):rep(70000)
      client:write(head .. "X: " .. ("y"):rep(3900) .. "\r\n\r\n")
      client:write(("%x\r\n%s\r\n%x\r\n%s\r\n0\r\n\r\n"):format(#body, body, #body, body))
      assert.is_true(client:read_response().body == body .. body)
      client:write(head .. "\r\n5\r\nhello6\r\n")
      assert.equal(400, client:read_response().status)
    end)

    it("100 Continue only when it wants the body and the client waits", function()
      start { body_bytes = 100 }
      local client = server:connect()
      local head = "POST /echo HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: "
      client:write(head .. "5\r\n\r\n")
      assert.equal(100, client:read_response().status)
      client:write("hello")
      assert.equal("hello", client:read_response().body)
      client:write(head .. "5\r\n\r\nhello")
      assert.equal(200, client:read_response().status)
      client:write(head .. "101\r\n\r\n")
      assert.equal(413, client:read_response().status)
      assert.equal("", client:read_all())
    end)
  end)

  describe("keeps or closes the connection", function()
    it("by the rules of HTTP/1.1", function()
      start()
      local client = server:connect()
      client:write(get("/echo"))
      assert.is_nil(client:read_response().headers.connection)
      client:write(get("/echo", "Connection: close\r\n") .. get("/echo"))
      assert.equal("close", client:read_response().headers.connection)
      assert.equal("", client:read_all())
    end)

    it("by the rules of HTTP/1.0", function()
      start()
      local client = server:connect()
      client:write("GET /echo HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
      assert.equal("keep-alive", client:read_response().headers.connection)
      client:write("GET /stream/2/3 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
      local r = client:read_response()
      assert.is_nil(r.headers["transfer-encoding"])
      assert.equal("close", r.headers.connection)
      assert.equal("ssssss", r.body)
      client = server:connect()
      client:write("GET /echo HTTP/1.0\r\n\r\n")
      assert.equal("close", client:read_response().headers.connection)
      assert.equal("", client:read_all())
    end)

    it("after as many requests as allowed", function()
      start { requests_per_connection = 2 }
      local client = server:connect()
      client:write(get("/echo"):rep(3))
      assert.is_nil(client:read_response().headers.connection)
      assert.equal("close", client:read_response().headers.connection)
      assert.equal("", client:read_all())
      assert.equal(2, server:requests())
    end)
  end)

  describe("takes pipelined requests", function()
    it("one at a time and answers them in order", function()
      start()
      local client = server:connect()
      client:write(get("/later/60") .. post("/echo", "one") .. get("/later/1")
        .. post("/echo", "two") .. get("/status/404"))
      assert.equal("late\n", client:read_response().body)
      assert.equal("one", client:read_response().body)
      assert.equal("late\n", client:read_response().body)
      assert.equal("two", client:read_response().body)
      assert.equal(404, client:read_response().status)
    end)

    it("by the thousand", function()
      start()
      local client = server:connect()
      for _ = 1, 50 do client:write((get("/later/0") .. post("/echo", "x")):rep(20)) end
      for _ = 1, 1000 do
        assert.equal("late\n", client:read_response().body)
        assert.equal("x", client:read_response().body)
      end
      assert.equal(2000, server:requests())
    end)

    it("without a buffer for all of them: those behind a delayed one stay in the kernel", function()
      start()
      local client = server:connect()
      client:write(get("/hold"))
      server:until_true(function() return server:held() == 1 end)
      local one = post("/echo", ("x"):rep(1000))
      local piece, count = one:rep(100), 200 -- 21 MB
      local blocks = tonumber(C.segue__mem_live())
      client.handle:send_buffer_size(65536)
      local left = count
      for _ = 1, count do
        client.handle:write(piece, function(err) left = left - (err and 0 or 1) end)
      end
      -- The kernel's buffer takes some megabytes, then the response waits.
      local taken, still = left, 0
      wait.until_true(function()
        still = left == taken and still + 1 or 0
        taken = left
        return still > 50
      end, 20000, "the kernel to be full")
      assert.is_true(left > count / 2, left)
      assert.equal(blocks, tonumber(C.segue__mem_live()))
      assert.equal(1, server:requests())
      server:release()
      assert.equal(200, client:read_response().status)
      for _ = 1, 300 do assert.equal(1000, #client:read_response(30000).body) end
      wait.until_true(function() return left < count / 2 end, 20000, "the rest to be taken")
    end)

    it("and continues when an answer waited for a slow client", function()
      start()
      local client = server:connect()
      client.handle:read_stop()
      client:write(get("/size/20000000") .. get("/status/201") .. get("/size/10"))
      server:until_true(function() return server:requests() == 1 end)
      client.handle:read_start(function(err, data)
        if data then client.parts[#client.parts + 1] = data
          client.bytes = client.bytes + #data
        else client.ended, client.error = true, err end
      end)
      client.parts, client.bytes = {}, 0
      wait.until_true(function() return client.bytes > 20000010 + 300 end, 10000, "two answers")
      server:until_true(function() return server:requests() == 3 end)
      client.input = table.concat(client.parts)
      assert.equal(20000000, #client:read_response().body)
    end)
  end)

  describe("streams", function()
    it("in chunks, and keeps the connection", function()
      start()
      local client = server:connect()
      client:write(get("/stream/3/5") .. get("/drip/3/5") .. get("/echo"))
      assert.equal("sssssssssssssss", client:read_response().body)
      local r = client:read_response()
      assert.equal("text/event-stream", r.headers["content-type"])
      assert.equal("drop\ndrop\ndrop\n", r.body)
      assert.equal(200, client:read_response().status)
    end)

    it("to a reader that keeps up, however much", function()
      start { write_bytes = 64 * 1024 * 1024 }
      local client = server:connect()
      client:write(get("/stream/30/100000"))
      assert.equal(3000000, #client:read_response().body)
      assert.equal(0, server:refused())
    end)

    it("until the client is too far behind, and disconnects it then", function()
      start { write_bytes = 100000 }
      local client = server:connect()
      client.handle:read_stop()
      client:write(get("/flood"))
      server:until_true(function() return server:gone() == 1 end)
      assert.equal("ENOBUFS", C.name(server:refused()))
      server:until_true(function() return server:connections() == 0 end)
    end)

    it("until the client ends its side, without waiting for the next write", function()
      start()
      local client = server:connect()
      client:write(get("/drip/2/60000"))
      client:read_until("\r\n\r\n")
      client:shutdown()
      server:until_true(function() return server:gone() == 1 and server:connections() == 0 end)
    end)

    it("until the client is gone", function()
      start()
      local client = server:connect()
      client:write(get("/drip/100000/5"))
      client:read_until("drop\n")
      client:close()
      server:until_true(function() return server:gone() == 1 and server:connections() == 0 end)
    end)
  end)

  describe("closes", function()
    it("after the answers that are due, and refuses no client that had connected", function()
      start()
      local waiting, idle, late = server:connect(), server:connect(), server:connect()
      local fresh, mute = server:connect(), server:connect()
      waiting:write(get("/later/50"))
      idle:write(get("/echo"))
      idle:read_response()
      server:until_true(function() return server:held() == 1 end)
      late:write(get("/status/201"))
      server:close(5000)
      fresh:write(get("/status/202"))
      assert.equal(202, fresh:read_response().status)
      assert.equal("", mute:read_all())
      assert.equal("close", waiting:read_response().headers.connection)
      assert.equal(201, late:read_response().status)
      assert.equal("", idle:read_all())
      assert.equal("", waiting:read_all())
      server:stop()
      server = nil
    end)

    it("at the end of its time, with a notice to handlers and waiting clients", function()
      start()
      local client = server:connect()
      client:write(get("/hold"))
      server:until_true(function() return server:held() == 1 end)
      local began = uv.hrtime()
      server:close(60)
      local response = client:read_all()
      assert.matches("^HTTP/1.1 503 ", response)
      assert.matches("\r\nConnection: close\r\n", response)
      assert.matches("\r\nRetry%-After: 1\r\n", response)
      assert.is_true((uv.hrtime() - began) / 1e6 >= 55)
      server:stop()
      server = nil
    end)

    it("one listener, while its connections continue", function()
      start()
      local extra, port = server:listen("127.0.0.1:0")
      local http = require "spec.support.http"
      local client = http.connect { port = port }
      client:write(get("/echo"))
      assert.equal(200, client:read_response().status)
      server:unlisten(extra)
      local refused, why = http.connect({ port = port }, true)
      assert.is_nil(refused)
      assert.equal("ECONNREFUSED", why)
      client:write(get("/status/201"))
      assert.equal(201, client:read_response().status)
      client:close()
    end)
  end)

  describe("finds requests that came before their connection was accepted", function()
    -- The bytes that each client is sent before the server looks.
    local function early(...)
      start()
      local go, clients = server:stall(), {}
      for i, bytes in ipairs { ... } do
        local client = server:connect()
        client.handle:write(bytes, function() client.sent = true end)
        server:until_true(function() return client.sent end)
        clients[i] = client
      end
      go()
      return unpack(clients)
    end
    local last = "Connection: close\r\n"

    it("and answers them, the last one of a connection too", function()
      local one, two, three, four = early(get("/status/201", last),
        get("/echo") .. get("/size/5", last), post("/echo", ("x"):rep(9000), last),
        get("/later/5") .. get("/echo"))
      assert.matches("^HTTP/1.1 201 .*\r\n\r\nstatus\n$", one:read_all())
      assert.matches("^HTTP/1.1 200 .*HTTP/1.1 200 .*\r\n\r\n.....$", two:read_all())
      assert.matches("\r\n\r\n" .. ("x"):rep(9000) .. "$", three:read_all())
      assert.equal("late\n", four:read_response().body)
      assert.equal(200, four:read_response().status)
    end)

    it("also where the answer has to wait for the client", function()
      local one, two = early(get("/size/5000000", last), get("/stream/50/20000"))
      assert.equal(5000000, #one:read_response().body)
      assert.equal(1000000, #two:read_response().body)
    end)

    it("and reads on where one is not whole, or more than there is room for", function()
      local rest = post("/echo", ("y"):rep(100))
      local one, two, three = early(rest:sub(1, 20), rest:sub(1, -10),
        get("/hold") .. get("/echo"):rep(400))
      one:write(rest:sub(21))
      two:write(rest:sub(-9))
      assert.equal(("y"):rep(100), one:read_response().body)
      assert.equal(("y"):rep(100), two:read_response().body)
      server:until_true(function() return server:held() == 1 end)
      server:release()
      for _ = 1, 401 do assert.equal(200, three:read_response().status) end
    end)

    it("and refuses an invalid one, and skips clients that have left", function()
      local one, two = early("nonsense\r\n\r\n", get("/status/202"))
      two.handle:close_reset()
      assert.matches("^HTTP/1.1 400 ", one:read_all())
      server:until_true(function() return server:connections() <= 2 end)
    end)

    it("also when the first of them closes the listener", function()
      local one, two = early(get("/unlisten"), get("/status/203", last))
      assert.equal("closed\n", one:read_response().body)
      assert.matches("^HTTP/1.1 203 ", two:read_all())
    end)
  end)

  it("carries many clients at once, each with its own answers", function()
    start()
    local clients = {}
    for i = 1, 200 do
      clients[i] = server:connect()
      clients[i]:write(post("/echo", "client " .. i) .. get("/later/" .. i % 7)
        .. post("/echo", "again " .. i))
    end
    for i, client in ipairs(clients) do
      assert.equal("client " .. i, client:read_response().body)
      assert.equal("late\n", client:read_response().body)
      assert.equal("again " .. i, client:read_response().body)
    end
    assert.equal(600, server:requests())
  end)
end)
