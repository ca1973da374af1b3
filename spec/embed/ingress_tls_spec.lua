-- SPDX-License-Identifier: MIT
-- A module that is reached by https: certificates are part of the transaction, and connections
-- outlive them.
local certificates = require "spec.support.certificates"
local cjson = require "cjson"
local front = require "spec.support.front"
local http = require "spec.support.http"
local port = require "spec.support.port"
local process = require "spec.support.process"
local tempdir = require "spec.support.tempdir"
local tls = require "spec.support.tls"
local uv = require "luv"
local wait = require "spec.support.wait"

local WITHIN_MS = front.WITHIN_MS
local HTTPS = 'listen = "https://127.0.0.1:@AT@", '
  .. 'tls = { cert = "server.pem", key = "server.key" %s }'

describe("a module that listens by https", function()
  local dir, ca, f
  setup(front.build)
  teardown(front.remove)
  before_each(function()
    dir = tempdir.new()
    ca = certificates.authority(dir)
  end)
  after_each(front.cleanup)

  local function issue(options)
    options = options or {}
    options.name = options.name or "server"
    local issued = ca:issue(options)
    uv.fs_chmod(issued.key, tonumber("600", 8))
    return issued
  end
  local function start(more, options)
    issue()
    options = options or {}
    options.dir, options.module = dir, options.module or HTTPS:format(more or "")
    f = front.start(options)
  end
  local function connect(options)
    options = options or {}
    options.port, options.ca, options.deadline_ms = f.at, options.ca or ca.cert, WITHIN_MS
    return tls.connect(options)
  end
  local function request(client, path)
    client:write(http.format { path = path or "/", port = f.at })
    return client:read_response(WITHIN_MS)
  end

  it("answers curl, by keep-alive, with large bodies both ways and streams", function()
    start(nil, { top = "threads = 2," })
    local big = ("0123456789"):rep(50000)
    dir:write("big", big)
    local url = ("https://localhost:%d"):format(f.at)
    local curl = process.run { "curl", "-sS", "--cacert", ca.cert, "-o", "/dev/null", url,
      "--next", "-sS", "--cacert", ca.cert, "--data-binary", "@" .. dir:at("big"), "-o",
      dir:at("answer"), "-w", "%{num_connects} %{http_code}", url .. "/later",
      deadline_ms = WITHIN_MS }
    assert.equal(0, curl.code, curl:describe())
    assert.equal("0 200", curl.stdout)
    assert.equal(big, dir:read("answer"):match("^[^\n]*\n(.*)$"))
    local answer = request(connect(), "/stream/later?pieces=2000")
    assert.equal(6 + 2000 * 1000, #answer.body)
    assert.equal("tls", request(connect(), "/who").body)
  end)

  it("changes its certificate by a reload, and closes no connection for it", function()
    start(nil, { top = "threads = 2," })
    local old = {}
    for i = 1, 8 do old[i] = connect() end
    assert.matches("^value=1 generation=1 ", request(old[1]).body)
    local first = ca.cert
    ca = certificates.authority(dir, "second")
    issue()
    f:reload()
    for _ = 1, 8 do -- each on any of the worker threads
      assert.matches("^value=1 generation=2 ", request(connect()).body)
      assert.is_nil(tls.new({ port = f.at, ca = first }):handshake(WITHIN_MS))
    end
    for i = 1, 8 do assert.equal(200, request(old[i]).status) end
    local status = cjson.decode(f:ask("/api/v1/status"))
    assert.equal(("127.0.0.1:%d"):format(f.at), status.certificates[1].address)
    assert.equal("/CN=server", status.certificates[1].subject)
    assert.matches(('segue_tls_certificate_expiry_timestamp_seconds{address="127.0.0.1:%d"}')
      :format(f.at), f:ask("/metrics"), 1, true)
  end)

  it("keeps the old one where the new one is invalid, and names the reason", function()
    start()
    local stays = connect()
    local good = dir:read("server.pem")
    for _, case in ipairs {
      { "server.pem", "nothing\n", "server%.pem cannot be used as a certificate: " },
      { "server.pem", ca.cert_text, "the key in .*server%.key does not belong to the certificate" },
      { "server.key", "nothing\n", "server%.key cannot be used as a private key: " },
    } do
      local before = dir:read(case[1])
      dir:write(case[1], case[2])
      assert.matches(case[3], f:reload(422).body)
      assert.equal(200, request(stays).status)
      assert.equal(200, request(connect()).status)
      dir:write(case[1], before)
    end
    uv.fs_chmod(dir:at("server.key"), tonumber("644", 8))
    dir:write("server.pem", good .. "\n")
    assert.matches("every user of this machine can read ", f:reload(422).body)
    os.remove(dir:at("server.key"))
    assert.matches("server%.key: it does not exist", f:reload(500).body)
    assert.equal(200, request(connect()).status)
    issue()
    f:reload()
    assert.matches("generation=2 ", request(connect()).body)
    assert.matches("generation=2 ", request(stays).body)
  end)

  it("returns to the old one when the reload is undone", function()
    start()
    local first = ca.cert
    ca = certificates.authority(dir, "second")
    issue()
    f:policy { top = 'confirm = { within = "100ms", probe = function() return false, "no" end },' }
    f:reload(500)
    assert.equal(200, request(connect { ca = first }).status)
    assert.is_nil(tls.new({ port = f.at, ca = ca.cert }):handshake(WITHIN_MS))
  end)

  it("gives modules the name in the client's certificate, also after the client left", function()
    local client = issue { name = "client", cn = "ann", san = "DNS:ann.example,email:ann@example" }
    start(', client_ca = "ca.pem", client = "optional"')
    local known = connect { cert = client.cert, key = client.key }
    for _, path in ipairs { "/who", "/who/later" } do
      assert.equal("tls cn:ann dns:ann.example mail:ann@example", request(known, path).body)
    end
    assert.equal("tls", request(connect(), "/who").body)
    for _ = 1, 50 do
      local leaves = connect { cert = client.cert, key = client.key }
      leaves:write(http.format { path = "/who/later", port = f.at })
      leaves.raw:reset()
    end
    f:until_metric('segue_gate_inside{module="service"}', 0)
  end)

  it("rejects clients without a required certificate, also on open connections",
    function()
      local client = issue { name = "client" }
      start()
      local open, many = connect(), connect()
      assert.equal(200, request(open).status)
      assert.equal(200, request(many).status)
      f:policy { module = HTTPS:format(', client_ca = "ca.pem"') }
      f:reload()
      many:write(http.format({ path = "/", port = f.at }):rep(3))
      local answer = request(open)
      assert.equal(421, answer.status)
      assert.equal("close", answer.headers.connection)
      assert.equal("", open:read_all(WITHIN_MS))
      for i, connection in ipairs { "nil", "nil", "close" } do -- sent behind each other
        answer = many:read_response(WITHIN_MS)
        assert.equal(421, answer.status)
        assert.equal(connection, tostring(answer.headers.connection), "answer " .. i)
      end
      assert.equal("", many:read_all(WITHIN_MS))
      local refused = connect() -- TLS 1.3 reports it after the client's part
      refused:write(http.format { path = "/", port = f.at })
      assert.has_error(function() refused:read_response(WITHIN_MS) end)
      assert.equal(200, request(connect { cert = client.cert, key = client.key }).status)
      f:until_metric(f:port_metric("segue_ingress_handshakes_failed_total"), 1)
    end)

  it("changes from http to https and back on the same socket", function()
    issue()
    start(nil, { module = 'listen = "http://127.0.0.1:@AT@"' })
    local plain = http.connect { port = f.at }
    plain:write(http.format { port = f.at, path = "/who" })
    assert.equal("plain", plain:read_response(WITHIN_MS).body)
    f:policy { module = HTTPS:format("") }
    f:reload()
    local secret = connect()
    assert.equal("tls", request(secret, "/who").body)
    plain:write(http.format { port = f.at, path = "/who" })
    assert.equal("plain", plain:read_response(WITHIN_MS).body)
    local wrong = f:get("/")
    assert.equal(400, wrong.status)
    assert.matches("speaks TLS", wrong.body)
    f:policy { module = 'listen = "http://127.0.0.1:@AT@"' }
    f:reload()
    assert.equal(200, f:get("/").status)
    assert.equal("tls", request(secret, "/who").body)
  end)

  it("serves http and https side by side, and warns before a certificate expires", function()
    local second = port.free()
    issue { ends = os.time() + 3600 * 30 + 1800 }
    f = front.start { dir = dir, module = ('listen = { "http://127.0.0.1:@AT@", '
      .. '"https://127.0.0.1:%d" }, tls = { cert = "server.pem", key = "server.key" }'):format(
      second) }
    assert.equal("plain", f:get("/who").body)
    assert.equal("tls", tls.request({ port = second, ca = ca.cert, path = "/who" }).body)
    wait.until_true(function()
      return f.host.output:find("the certificate expires in 30 hours: replace it in time", 1, true)
    end, 5000, function() return f.host.output end)
  end)

  it("is not loaded with invalid TLS options", function()
    start()
    dir:write("empty.pem", "")
    for _, case in ipairs {
      { 'listen = "https://127.0.0.1:@AT@"', "needs a certificate: tls = {" },
      { 'listen = "http://127.0.0.1:@AT@", tls = { cert = "server.pem", key = "server.key" }',
        "tls of module 'service' has an effect only for listen = \"https://HOST:PORT\"" },
      { 'listen = "https://127.0.0.1:@AT@", tls = { cert = "server.pem" }',
        'modules.service.tls.key is missing: key = "server.key"' },
      { 'listen = "https://127.0.0.1:@AT@", tls = { crt = "server.pem" }',
        'modules.service.tls.crt is not a known key here: did you mean "cert"?' },
      { HTTPS:format(', client = "optional"'),
        "tls.client has an effect only with client_ca, the CA that signs clients" },
      { HTTPS:format(', client_ca = "empty.pem"'), "empty.pem is empty: it must hold the CA" },
    } do
      f:policy { module = case[1] }
      assert.matches(case[2], f:reload(422).body, 1, true)
    end
    assert.equal(200, request(connect()).status)
  end)
end)
