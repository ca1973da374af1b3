-- SPDX-License-Identifier: MIT
-- The end of an HTTP server: a client that asks while it closes is answered, and no answer is lost.
local C = require "spec.support.c"
local certificates = require "spec.support.certificates"
local http = require "spec.support.http"
local servers = require "spec.support.http_server"
local tempdir = require "spec.support.tempdir"
local tls = require "spec.support.tls"
local wait = require "spec.support.wait"
local uv = require "luv"

-- More than a handshake needs under valgrind.
local GRACE_MS = 30000
local WHILE_MS = 200 -- a little less than a server waits for the next request while it closes

local function get(path, lines)
  return "GET " .. path .. " HTTP/1.1\r\nHost: localhost\r\n" .. (lines or "") .. "\r\n"
end

local function now_ms() return uv.hrtime() / 1e6 end

describe("the end of an HTTP server", function()
  local server
  local function start(limits)
    server = servers.start(limits)
    return server
  end
  local function stop()
    server:stop()
    server = nil
  end
  after_each(function()
    if server then server:stop() end
    server = nil
    http.close_all()
  end)

  local function answered()
    local client = server:connect()
    client:write(get("/echo"))
    client:read_response()
    return client
  end

  -- The listener is gone, so the rest of the close has been done.
  local function wait_closing()
    server:until_true(function()
      local client = http.connect({ port = server.port }, true)
      if client then client:close() end
      return not client
    end, "nobody to listen")
  end

  -- An attempt that depends on the speed of the machine is repeated if it was too slow.
  local function in_time(attempt)
    for _ = 1, 20 do
      start()
      local took = attempt()
      stop()
      if took < WHILE_MS then return end
    end
    error("this machine is too slow")
  end

  it("answers a request that arrives just after its last answer, and closes", function()
    in_time(function()
      local client, began = answered(), now_ms()
      server:close(GRACE_MS)
      wait_closing()
      client:write(get("/status/201"))
      wait.pump()
      local took = now_ms() - began
      local response = client:read_all()
      if took < WHILE_MS then
        assert.matches("^HTTP/1.1 201 ", response)
        assert.matches("\r\nConnection: close\r\n", response)
      end
      return took
    end)
  end)

  it("gives a new client as long for its first request", function()
    in_time(function()
      local client, began = server:connect(), now_ms()
      server:close(GRACE_MS)
      wait_closing()
      client:write(get("/status/201"))
      wait.pump()
      local took, response = now_ms() - began, client:read_all()
      if took < WHILE_MS then assert.matches("^HTTP/1.1 201 ", response) end
      return took
    end)
  end)

  it("does not wait for silent clients", function()
    in_time(function()
      local silent, other = answered(), server:connect()
      other:write(get("/later/1200", "Connection: close\r\n"))
      other:read_all()
      local began = now_ms()
      server:close(GRACE_MS)
      assert.equal("", silent:read_all())
      return now_ms() - began
    end)
  end)

  it("waits for no client longer than a moment, and shuts its side first", function()
    start()
    local client, began = answered(), now_ms()
    server:close(GRACE_MS)
    assert.equal("", client:read_all())
    assert.is_nil(client.error)
    assert.is_true(now_ms() - began >= WHILE_MS)
    stop() -- within the time of a close that is not cut
    assert.is_true(now_ms() - began < GRACE_MS)
  end)

  it("answers requests behind the one under way; the last answer announces the close",
    function()
      start()
      local client = server:connect()
      client:write(get("/hold") .. get("/status/201") .. get("/later/20") .. get("/status/202"))
      server:until_true(function() return server:held() == 1 end)
      server:close(GRACE_MS)
      wait_closing()
      server:release()
      local reported = {}
      for i = 1, 4 do
        local answer = client:read_response()
        reported[i] = answer.status .. " " .. tostring(answer.headers.connection)
      end
      assert.same({ "200 nil", "201 nil", "200 nil", "202 close" }, reported)
      assert.equal("", client:read_all())
    end)

  it("ends also if a client continues to send requests", function()
    start()
    local client, sent, over = server:connect(), 0, false
    client:write(get("/hold"))
    server:until_true(function() return server:held() == 1 end)
    server:close(1000)
    local function more()
      if over then return end
      sent = sent + 1
      client.handle:write(get("/later/5"):rep(20), function(err)
        if not err then more() end
      end)
    end
    more()
    server:release()
    local reported = client:read_until("\r\nConnection: close\r\n")
    over = true
    assert.is_nil(reported:find("HTTP/1.1 503", 1, true))
    assert.is_true(sent > 0)
  end)

  it("answers clients that have sent half a request, or wait, when its time is over", function()
    start()
    local clients = {}
    for i, bytes in ipairs { "GET /echo HT", get("/hold"),
      "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\nhalf",
      "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf" } do
      clients[i] = server:connect()
      clients[i]:write(bytes)
    end
    server:until_true(function() return server:held() == 1 and server:connections() == 4 end)
    server:close(100)
    for i, client in ipairs(clients) do
      client:read_until("HTTP/1.1 503 ")
      client:write("more of it") -- closing with this unread would reset the connection
      local response = client:read_all()
      assert.matches("\r\nConnection: close\r\n", response, nil, false, "client " .. i)
      assert.matches("try again\n$", response)
      assert.is_nil(client.error)
    end
  end)

  describe("through TLS", function()
    local listener, ca
    setup(function() ca = certificates.authority(tempdir.new()) end)
    teardown(tempdir.remove_all)

    local function shakes_hands()
      local _, port = server:listen_tls(ca:issue { name = "server" })
      listener = port
      local client = tls.new { port = port }
      local hello = client:hello()
      return client, hello
    end

    it("completes the handshake of a client, and answers its request as the last", function()
      start()
      local idle = server:connect()
      local client, hello = shakes_hands()
      client.raw:write(hello:sub(1, 10))
      local other = tls.new { port = listener } -- of which no byte has come
      server:until_true(function() return server:connections() == 3 end)
      server:close(GRACE_MS)
      assert.equal("", idle:read_all()) -- the time for idle clients is over
      client.raw:write(hello:sub(11))
      for _, late in ipairs { client, other } do
        assert.is_true(late:handshake())
        late:write(get("/status/201"))
        local answer = late:read_response()
        assert.equal(201, answer.status)
        assert.equal("close", answer.headers.connection)
      end
    end)

    it("ends a handshake that stays half-open without a reset", function()
      in_time(function()
        local client, hello = shakes_hands()
        client.raw:write(hello:sub(1, 10))
        server:until_true(function() return server:connections() == 1 end)
        local began = now_ms()
        server:close(0)
        assert.equal("", client.raw:read_all())
        for from = 11, 13 do -- a closed descriptor resets, and the next write fails by that
          client.raw:write(hello:sub(from, from))
          wait.pump()
        end
        local took = now_ms() - began
        if took < WHILE_MS then assert.is_nil(client.raw.write_error) end
        return took
      end)
    end)
  end)

  it("accepts every client that connected while the loop was busy", function()
    start()
    local go, clients = server:stall(), {}
    for i = 1, 100 do
      clients[i] = server:connect()
      clients[i]:write(get("/status/201", i % 2 == 0 and "Connection: close\r\n" or ""))
    end
    go()
    server:close(GRACE_MS)
    for i = 1, 100 do assert.equal(201, clients[i]:read_response().status) end
  end)

  it("of the idle time does not disconnect a client that sends a request at that moment", function()
    start { idle_ms = 60 }
    local client, began = answered(), now_ms()
    local go = server:stall()
    client:write(get("/status/201"))
    server:until_true(function() return now_ms() - began > 100 end)
    go()
    assert.equal(201, client:read_response().status)
  end)
end)

-- Between the last accept and the close of a socket a client may connect, which the kernel resets.
describe("a socket that will close soon", function()
  local function bind()
    local address, e = C.new("segue__address"), C.error()
    C.check(C.segue__address_parse("127.0.0.1:0", address, e), e)
    return C.check(C.segue__socket_bind(address, 0, e), e), address.port
  end
  local function connect(port)
    local handle, client = uv.new_tcp(), {}
    handle:connect("127.0.0.1", port, function(err) client.done, client.error = true, err end)
    client.handle = handle
    return client
  end
  local function connected(client) return function() return client.done end end

  it("accepts no new client, and all again after it resumes", function()
    local deaf, deaf_port = bind()
    local other, other_port = bind()
    local early = connect(deaf_port)
    wait.until_true(connected(early))
    C.segue__socket_set_deaf(deaf, true)
    local late = connect(deaf_port)
    local third = connect(other_port)
    wait.until_true(connected(third))
    assert.is_nil(late.done)
    early.handle:write("who was there before is heard")
    C.segue__socket_set_deaf(deaf, false)
    wait.until_true(connected(late)) -- when its kernel tries again
    assert.is_nil(late.error)
    assert.is_nil(early.error)
    for _, client in ipairs { early, late, third } do client.handle:close() end
    uv.fs_close(deaf)
    uv.fs_close(other)
  end)
end)
