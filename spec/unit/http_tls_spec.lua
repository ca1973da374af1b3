-- SPDX-License-Identifier: MIT
-- The HTTP server through TLS: what is offered, who is let in, and clients that stop half-way.
local certificates = require "spec.support.certificates"
local http = require "spec.support.http"
local process = require "spec.support.process"
local servers = require "spec.support.http_server"
local tempdir = require "spec.support.tempdir"
local tls = require "spec.support.tls"
local uv = require "luv"
local wait = require "spec.support.wait"

local dir, ca, issued, server, listener, port

local function start(limits, client_ca)
  server = servers.start(limits)
  listener, port = server:listen_tls(issued, client_ca)
end

local function connect(options)
  options = options or {}
  options.port, options.ca = port, ca.cert
  return tls.connect(options)
end

local function get(path) return http.format { path = path } end

local function curl(...)
  return process.run { "curl", "--silent", "--show-error", "--cacert", ca.cert, ... }
end

describe("the HTTP server through TLS", function()
  setup(function()
    dir = tempdir.new()
    ca = certificates.authority(dir)
    issued = ca:issue { name = "server" }
  end)
  teardown(function() tempdir.remove_all() end)
  after_each(function()
    http.close_all()
    if server then server:stop() end
    server = nil
    process.stop_all()
  end)

  it("answers curl, which trusts the authority, by TLS 1.3 and 1.2", function()
    start()
    for _, version in ipairs { "1.3", "1.2" } do
      local p = curl("--tls-max", version, ("https://localhost:%d/x"):format(port))
      assert.equal(0, p.code, p.output)
      assert.matches("path=/x\n", p.stdout)
      assert.matches("client=%-\n", p.stdout)
    end
    assert.equal("TLSv1.3", connect():version())
    assert.equal("TLSv1.2", connect { version = "1.2" }:version())
  end)

  it("refuses TLS 1.1, and protocols other than HTTP/1.1", function()
    start()
    local client = tls.new { port = port, version = "1.1" }
    assert.is_nil((client:handshake()))
    local p = process.run { "openssl", "s_client", "-connect", "127.0.0.1:" .. port, "-alpn", "h2",
      stdin = "" }
    assert.matches("no application protocol", p.output)
    p = process.run { "openssl", "s_client", "-connect", "127.0.0.1:" .. port, "-alpn",
      "h2,http/1.1", stdin = "" }
    assert.matches("ALPN protocol: http/1.1", p.output)
    wait.until_true(function() return server:tls_failures() == 2 end, nil, "two failures")
  end)

  it("keeps a connection, takes requests in one piece and in single bytes", function()
    start()
    local client = connect()
    client:write(get("/one") .. get("/two") .. get("/size/3"))
    assert.matches("path=/one", client:read_response().body)
    assert.matches("path=/two", client:read_response().body)
    assert.equal("abc", client:read_response().body)
    for byte in get("/slowly"):gmatch(".") do client:write(byte) end
    assert.matches("path=/slowly", client:read_response().body)
  end)

  it("carries large bodies both ways, and more requests than it has room for", function()
    start { body_bytes = 8000000 }
    local client = connect()
    local body = ("0123456789"):rep(500000)
    client:write(http.format { method = "POST", path = "/echo", body = body })
    assert.is_true(client:read_response(60000).body == body)
    client:write(get("/size/5000000"))
    assert.equal(5000000, #client:read_response(60000).body)
    client:write(get("/later/50") .. get("/x"):rep(400))
    assert.equal("late\n", client:read_response().body)
    for _ = 1, 400 do assert.equal(200, client:read_response().status) end
    client:write(get("/stream/40/20000"))
    assert.equal(800000, #client:read_response(60000).body)
  end)

  it("answers a client that has ended its side, and sends close_notify itself", function()
    start()
    local client = connect()
    client:write(get("/later/50"))
    client:shutdown()
    assert.equal("late\n", client:read_response().body)
    client:read_all()
    assert.is_true(client.farewell)
  end)

  it("answers a client whose connection is half-closed without close_notify", function()
    start()
    local client = connect()
    client:write(get("/later/50"))
    client.raw:shutdown()
    assert.equal("late\n", client:read_response().body)
    client:read_all()
  end)

  it("answers plain HTTP with 400 and names TLS", function()
    start()
    local r = http.request { port = port, path = "/" }
    assert.equal(400, r.status)
    assert.equal("this port speaks TLS: ask by https://\n", r.body)
    assert.equal("close", r.headers.connection)
    local p = curl(("http://localhost:%d/"):format(port))
    assert.matches("https://", p.stdout)
  end)

  it("ends connections that speak neither", function()
    start()
    for _, bytes in ipairs { "\0\1\2\3\4\5", "\22\3\1\0\5hello", "\22\3\1\255\255" .. ("x"):rep(999)
    } do
      local client = http.connect { port = port }
      client:write(bytes)
      client:read_all()
    end
    assert.equal(0, server:requests())
  end)

  it("gives handshakes the time of a head: a hello that drips or stops is cut off", function()
    start { head_ms = 200 }
    local client = tls.new { port = port }
    local hello = client:hello()
    client.raw:write(hello:sub(1, 1))
    for i = 2, #hello - 1 do
      if client.raw.ended then break end
      client.raw:write(hello:sub(i, i))
      wait.pump()
    end
    client.raw:read_all()
    local stopped = tls.new { port = port }
    stopped.raw:write(stopped:hello())
    stopped.raw:read_all()
    assert.equal(0, server:requests())
    -- A whole handshake may need more than this time too, under valgrind or beside other work.
    wait.until_true(function()
      return pcall(function()
        local late = connect()
        late:write(get("/"))
        assert.equal(200, late:read_response().status)
      end)
    end)
  end)

  it("does not renegotiate, and continues", function()
    start()
    local client = connect { version = "1.2" }
    client:write(get("/one"))
    assert.equal(200, client:read_response().status)
    client:renegotiate()
    client:read_all() -- OpenSSL's client closes after a refusal
    assert.equal(1, server:requests())
    assert.equal(200, tls.request({ port = port, path = "/" }).status)
  end)

  it("admits clients with a certificate of its authority, by name, and no others", function()
    local other = certificates.authority(dir, "other")
    local ops = ca:issue { name = "ops", cn = "ops",
      san = "DNS:ops.example,email:ops@example.org,URI:spiffe://example/ops" }
    local stranger = other:issue { name = "stranger" }
    local expired = ca:issue { name = "old", ends = os.time() - 60, begins = os.time() - 7200 }
    start(nil, ca.cert_text)
    local client = connect(ops)
    client:write(get("/"))
    assert.matches("client=ops\n", client:read_response().body)
    for name, pair in pairs { stranger = stranger, expired = expired, nobody = {} } do
      for _, version in ipairs { "1.3", "1.2" } do
        local refused = tls.new { port = port, cert = pair.cert, key = pair.key,
          version = version }
        if refused:handshake() then
          refused:write(get("/"))
          local ok, why = pcall(refused.read_response, refused)
          assert.is_false(ok, name)
          assert.matches("alert", why, 1, true)
        end
      end
    end
    assert.equal(1, server:requests())
    wait.until_true(function() return server:tls_failures() == 6 end, nil, "six failures")
  end)

  it("shows a new certificate to new connections and keeps the open ones", function()
    start()
    local old = connect()
    old:write(get("/"))
    assert.equal(200, old:read_response().status)
    local again = certificates.authority(dir, "again")
    local pair = again:issue { name = "again-server" }
    assert.is_nil(server:change_tls(listener, pair.cert_text, pair.key_text))
    old:write(get("/"))
    assert.equal(200, old:read_response().status)
    local distrustful = tls.new { port = port, ca = ca.cert }
    assert.is_nil((distrustful:handshake()))
    assert.equal(200, tls.request({ port = port, ca = again.cert, path = "/" }).status)
  end)

  it("refuses invalid files, each with its reason, and continues with the old ones", function()
    start()
    local pair = ca:issue { name = "pair" }
    local function wrong(cert, key, authority)
      local e = assert(server:change_tls(listener, cert, key, authority))
      assert.equal("SEGUE_EPOLICY", e.name)
      return e
    end
    assert.matches("cert%.pem cannot be used as a certificate", wrong("", pair.key_text).message)
    assert.matches("cert%.pem cannot be used", wrong("hello", pair.key_text).message)
    assert.matches("cert%.pem cannot be used",
      wrong(pair.cert_text:sub(1, 300), pair.key_text).message)
    assert.matches("key%.pem cannot be used as a private key",
      wrong(pair.cert_text, "hello").message)
    assert.matches("the key in key%.pem does not belong to the certificate in cert%.pem",
      wrong(pair.cert_text, issued.key_text).message)
    assert.equal("key.pem", wrong(pair.cert_text, issued.key_text).file)
    assert.matches("ca%.pem cannot be used as the CA of clients",
      wrong(pair.cert_text, pair.key_text, "nothing").message)
    local sealed = process.run { "openssl", "pkey", "-in", pair.key, "-aes128", "-passout",
      "pass:secret" }
    assert.matches("key%.pem is encrypted", wrong(pair.cert_text, sealed.stdout).message)
    assert.equal(200, tls.request({ port = port, ca = ca.cert, path = "/" }).status)
  end)

  it("answers 503 past the limit of connections, and recovers", function()
    start { connections = 2 }
    local one, two = connect(), connect()
    for _ = 1, 3 do
      local third = connect()
      third:write(get("/"))
      local r = third:read_response()
      assert.equal(503, r.status)
      assert.equal("there are too many connections\n", r.body)
      third:close()
    end
    one:close()
    two:close()
    server:until_true(function() return server:connections() == 0 end, "the end of all")
    assert.equal(200, tls.request({ port = port, path = "/" }).status)
  end)

  local function serves_at_once(count)
    process.run { "prlimit", "--pid", uv.os_getpid(), "--nofile=4096:" } -- both ends are ours
    start { connections = 1100 }
    local clients = {}
    for i = 1, count do clients[i] = connect() end
    for i = 1, count do clients[i]:write(get("/size/" .. i)) end
    for i = 1, count do assert.equal(i, #clients[i]:read_response(60000).body) end
    for i = 1, count do clients[i]:close() end
  end
  it("serves 100 connections at once", function() serves_at_once(100) end)
  it("serves 1,000 connections at once #long", function() serves_at_once(1000) end)

  it("closes idle connections with close_notify, and answers clients that wait in vain", function()
    start()
    local idle, half = connect(), connect()
    idle:write(get "/echo")
    assert.equal(200, idle:read_response().status)
    half:write("GET /echo HT")
    server:until_true(function() return server:connections() == 2 end)
    server:close(500)
    assert.equal("", idle:read_all())
    assert.is_true(idle.farewell)
    local response = half:read_all()
    assert.matches("^HTTP/1.1 503 ", response)
    assert.is_true(half.farewell)
  end)

  it("sends pending data before it closes", function()
    start()
    local client = connect()
    client:write(get("/later/100"))
    server:until_true(function() return server:requests() == 1 end, "the request")
    server:close(5000)
    local response = client:read_response()
    assert.equal("late\n", response.body)
    assert.equal("close", response.headers.connection)
    client:read_all()
    assert.is_true(client.farewell)
  end)
end)
