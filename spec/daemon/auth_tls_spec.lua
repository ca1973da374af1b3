-- SPDX-License-Identifier: MIT
-- Access control of a running daemon through TLS: certificates of clients and of the server, and
-- listeners that other machines reach. Without TLS: auth_spec.lua.
local auth = require "spec.support.auth"
local certificates = require "spec.support.certificates"
local cjson = require "cjson"
local http = require "spec.support.http"
local process = require "spec.support.process"
local segue = require "spec.support.segue"
local tempdir = require "spec.support.tempdir"
local tls = require "spec.support.tls"
local uv = require "luv"
local wait = require "spec.support.wait"

local OPS, RO, policy, tokens, start = auth.OPS, auth.RO, auth.policy, auth.tokens, auth.start
local bearer, put, refusal = auth.bearer, auth.put, auth.refusal

describe("access control", function()
  after_each(function()
    http.close_all()
    segue.cleanup()
  end)

  describe("through TLS", function()
    local ca, dir

    local function fresh()
      dir = tempdir.new()
      ca = certificates.authority(dir)
      return ca:issue { name = "server" }
    end

    local function with_tls(more)
      return "{ \"127.0.0.1:@PORT@\", tls = { cert = \"server.pem\", key = \"server.key\"" .. more
    end

    local function ask(d, request)
      request.port, request.ca = d.port, ca.cert
      return tls.request(request)
    end

    it("answers curl with a token, and refuses plain HTTP", function()
      fresh()
      local d = start(with_tls(" }, " .. tokens .. " }"), { dir = dir })
      local p = process.run { "curl", "-s", "--cacert", ca.cert, "-H", "Authorization: Bearer "
        .. OPS, "-X", "POST", ("https://localhost:%d/-/reload"):format(d.port) }
      assert.equal(0, p.code, p.output)
      assert.matches("^unchanged: generation 1 stays live", p.stdout)
      local r = d:http("/")
      assert.equal(400, r.status)
      assert.matches("https://", r.body)
      assert.equal(401, ask(d, { path = "/" }).status)
    end)

    it("gives roles by the names in certificates", function()
      fresh()
      local ops = ca:issue { name = "ops", cn = "ops" }
      local mon = ca:issue { name = "mon", cn = "mon", san = "DNS:a.mon.example" }
      local other = ca:issue { name = "other" }
      local d = start(with_tls([[, client_ca = "ca.pem", clients = {
        { name = "ops", role = "operate" }, { name = "*.mon.example", role = "read" } } } }]]),
        { dir = dir })
      local function status(who, method)
        return ask(d, { path = method and "/-/reload" or "/", method = method, cert = who.cert,
          key = who.key }).status
      end
      assert.equal(200, status(ops))
      assert.equal(200, status(ops, "POST"))
      assert.equal(200, status(mon))
      assert.equal(403, status(mon, "POST"))
      assert.equal(403, status(other))
      d:wait_log("audit.*refused.*403.*client dns:a.mon.example")
      d:wait_log("audit.*answered.*200.*client ops")
      assert.matches("by client ops from 127", d:json("/api/v1/reloads")[1].cause)
      local nobody = tls.new { port = d.port }
      if nobody:handshake() then
        nobody:write(http.format { path = "/" })
        assert.is_false((pcall(nobody.read_response, nobody)))
      end
      d:wait_log("audit.*a TLS handshake failed.*peer did not return a certificate")
      assert.matches("segue_tls_handshake_failures_total 1\n", d:control("/metrics").body)
    end)

    -- A CA that signs mail addresses for many users must not thereby give one of them the name of a
    -- host.
    it("compares the kind of a name too, and takes '*' for one label", function()
      fresh()
      local d = start(with_tls([[, client_ca = "ca.pem", clients = {
        { name = "*.mon.example", role = "read" }, { name = "ops", role = "operate" },
        { mail = "root@example", role = "operate" }, { dns = "d.example", role = "read" },
        { uri = "spiffe://prod/mon", role = "read" }, { cn = "only cn", role = "read" } } } }]]),
        { dir = dir })
      local n = 0
      local function status(cn, san, method)
        n = n + 1
        local who = ca:issue { name = "client" .. n, cn = cn, san = san }
        return ask(d, { path = method and "/-/reload" or "/", method = method, cert = who.cert,
          key = who.key }).status
      end
      assert.equal(200, status("x", "DNS:a.mon.example"))
      assert.equal(200, status("x", "DNS:A.Mon.Example"))
      assert.equal(200, status("a.mon.example", "DNS:x"))
      assert.equal(200, status("x", "URI:spiffe://prod/mon"))
      assert.equal(200, status("x", "DNS:d.example"))
      assert.equal(200, status("only cn", "DNS:x"))
      assert.equal(200, status("x", "email:root@example", "POST"))
      d:wait_log("client mail:root@example")
      for _, case in ipairs {
        { "x", "email:x@a.mon.example" }, { "x@a.mon.example", "DNS:x" },
        { "x", "DNS:a.b.mon.example" }, { "x", "DNS:mon.example" }, { "x", "DNS:.mon.example" },
        { "x", "DNS:*.mon.example" }, { "x", "URI:a.mon.example" }, { "x", "email:ops" },
        { "x", "URI:ops" }, { "root@example", "DNS:x" }, { "d.example", "DNS:x" },
        { "x", "DNS:only cn" }, { "x", "email:spiffe://prod/mon" }, { "ops.mon.example.evil" },
      } do
        assert.equal(403, status(case[1], case[2]), case[1] .. " " .. tostring(case[2]))
      end
    end)

    it("takes certificate or token where a certificate is optional", function()
      fresh()
      local ops = ca:issue { name = "ops" }
      local d = start(with_tls([[, client_ca = "ca.pem", client = "optional" }, ]] .. tokens
        .. " }"), { dir = dir })
      assert.equal(200, ask(d, { path = "/", cert = ops.cert, key = ops.key }).status)
      assert.equal(200, ask(d, { path = "/", headers = bearer(RO) }).status)
      assert.equal(401, ask(d, { path = "/" }).status)
      local both = ask(d, { path = "/", cert = ops.cert, key = ops.key, headers = bearer("wrong") })
      assert.equal(401, both.status)
    end)

    it("shows a renewed certificate to new connections, keeps the open ones, and refuses what "
      .. "will not do", function()
      fresh()
      local d = start(with_tls(" } }"), { dir = dir, more = ", segue.watch()" })
      local open = tls.connect { port = d.port, ca = ca.cert }
      open:write(http.format { path = "/" })
      assert.equal(200, open:read_response().status)
      local before = d:json("/api/v1/status").certificates[1]
      assert.matches("CN=server", before.subject, 1, true)
      assert.equal(cjson.null, before.warning)
      local old_ca = ca
      ca = certificates.authority(dir, "ca2")
      local from = #d:log()
      ca:issue { name = "server", cn = "renewed" }
      d:wait_log("applied", nil, from)
      wait.until_true(function()
        return d:json("/api/v1/status").certificates[1].subject:find("CN=renewed", 1, true)
      end, nil, "the renewed certificate")
      assert.equal(200, ask(d, { path = "/" }).status)
      assert.is_nil((tls.new { port = d.port, ca = old_ca.cert }:handshake()))
      open:write(http.format { path = "/" })
      assert.equal(200, open:read_response().status)
      put(dir, "server.pem", "garbage\n")
      refusal(d, "server%.pem cannot be used as a certificate")
      put(dir, "server.pem", ca:issue { name = "elsewhere" }.cert_text)
      refusal(d, "the key in .*server%.key does not belong to the certificate in .*server%.pem")
      assert.equal(200, ask(d, { path = "/" }).status)
      assert.equal(3, d:json("/api/v1/status").generation + 1)
    end)

    it("logs a certificate that will expire, and one that has expired, while it runs", function()
      dir = tempdir.new()
      ca = certificates.authority(dir)
      local ends = os.time() + 6
      ca:issue { name = "server", ends = ends }
      local d = start(with_tls(" } }"), { dir = dir })
      d:wait_log("the certificate expires in 0 hours: replace it in time")
      assert.matches("expires in", d:json("/api/v1/status").certificates[1].warning)
      assert.matches("segue_tls_certificate_expiry_timestamp_seconds{address=\"127.0.0.1:" .. d.port
        .. "\"} " .. ends .. "\n", d:control("/metrics").body)
      d:wait_log("the certificate has expired: replace it", 30000)
      assert.matches("has expired", d:json("/api/v1/status").certificates[1].warning)
      assert.matches("has expired", d:cli("status").stdout)
      local _, why = tls.new { port = d.port, ca = ca.cert }:handshake()
      assert.equal("certificate verify failed", why)
      ca:issue { name = "server" }
      assert.equal("applied", select(2, d:reload()).outcome)
      assert.equal(200, ask(d, { path = "/" }).status)
      assert.equal(cjson.null, d:json("/api/v1/status").certificates[1].warning)
    end)

    it("does not load with a key that every user can read, or that does not exist", function()
      fresh()
      uv.fs_chmod(dir:at("server.key"), tonumber("644", 8))
      local folder = segue.folder { dir = dir, policy = policy(with_tls(" } }")),
        files = { ["config.yaml"] = "a: 1\n" } }
      local p = folder:cli("check")
      assert.equal(3, p.code)
      assert.matches("every user of this machine can read %S*server%.key", p.stdout)
      os.remove(dir:at("server.key"))
      p = folder:cli("check")
      assert.equal(4, p.code)
      assert.matches("server%.key", p.stdout)
      p = segue.cli({ "run", "-c", dir:at("reload.lua") })
      assert.equal(4, p.code)
      assert.matches("server%.key", p.output)
    end)

    it("is used by the command line: by URL, with token or certificate", function()
      fresh()
      ca:issue { name = "server", san = "DNS:localhost" }
      ca:issue { name = "ops" }
      put(dir, "wrong.token", "nobody-knows-this-one\n")
      put(dir, "empty.token", "# nothing\n")
      local d = start(with_tls([[, client_ca = "ca.pem", client = "optional" }, ]] .. tokens
        .. " }"), { dir = dir })
      local url = "https://localhost:" .. d.port
      local function cli(...) return segue.cli({ ... }, { cwd = dir.path }) end
      local p = cli("reload", "--url", url .. "/", "--cacert", "ca.pem", "--token-file",
        "ops.token")
      assert.equal(0, p.code, p.output)
      assert.matches("^unchanged: generation 1", p.stdout)
      p = cli("status", "--url", url, "--cacert", "ca.pem", "--token-file", "ro.token")
      assert.matches("^auth +ready", p.stdout)
      p = cli("plan", "--url", url, "--cacert", "ca.pem", "--cert", "ops.pem", "--key", "ops.key")
      assert.equal(0, p.code, p.output)
      p = cli("reload", "--url", url, "--cacert", "ca.pem", "--token-file", "ro.token")
      assert.equal(6, p.code)
      assert.matches("token ro has the role read", p.stderr)
      p = cli("status", "--url", url, "--cacert", "ca.pem", "--token-file", "wrong.token")
      assert.equal(6, p.code)
      assert.matches("this token is not known here", p.stderr)
      local wrong = {
        { "the system does not trust it", 5, "not trusted", "--url", url },
        { "another name", 5, "not trusted", "--url", "https://127.0.0.1:" .. d.port, "--cacert",
          "ca.pem" },
        { "no token", 2, "empty.token must hold a token", "--url", url, "--token-file",
          "empty.token" },
        { "no file", 5, "none.token", "--url", url, "--token-file", "none.token" },
        { "no CA", 5, "none.pem", "--url", url, "--cacert", "none.pem" },
        { "no URL", 2, "must be the address", "--url", "localhost" },
        { "both", 2, "exclude each other", "--url", url, "--socket", "x" },
        { "no use", 2, "need %-%-url", "--token-file", "ops.token" },
        { "nobody", 5, "no daemon answers", "--url", "https://127.0.0.1:1" },
      }
      for _, case in ipairs(wrong) do
        p = cli("status", unpack(case, 4))
        assert.equal(case[2], p.code, case[1] .. ": " .. p.output)
        assert.matches(case[3], p.stderr)
        assert.is_nil(p.output:find(OPS, 1, true))
      end
    end)

    it("serves event streams, and ends them with close_notify", function()
      fresh()
      local d = start(with_tls(" } }"), { dir = dir })
      local c = tls.connect { port = d.port, ca = ca.cert }
      c:write(http.format { path = "/api/v1/events" })
      d:reload("?force=1")
      wait.until_true(function()
        pcall(c.read_response, c, 50)
        return c.input:find("event: settled", 1, true)
      end, nil, "the event")
      d:signal "term"
      assert.matches("\r\n0\r\n\r\n$", c:read_all()) -- the stream is complete
      assert.is_true(c.farewell) -- and TLS ended with close_notify
      assert.equal(0, (d:wait_exit()), d:log())
    end)

    it("keeps 300 clients through a renewal", function()
      fresh()
      local d = start(with_tls(" } }"), { dir = dir })
      local clients = {}
      for i = 1, 300 do clients[i] = tls.connect { port = d.port, ca = ca.cert } end
      ca:issue { name = "server", cn = "renewed" }
      assert.equal("applied", select(2, d:reload()).outcome)
      for _, c in ipairs(clients) do c:write(http.format { path = "/-/healthy" }) end
      for _, c in ipairs(clients) do assert.equal(200, c:read_response(30000).status) end
      for _, c in ipairs(clients) do c:close() end
    end)
  end)

  describe("of an address that others can reach", function()
    it("does not open without credentials: the error names place and remedy", function()
      local cases = {
        "\"0.0.0.0:@PORT@\"",
        "{ \"0.0.0.0:@PORT@\", public = { \"health\" }, hosts = { \"a.example\" } }",
        "{ \"[::]:@PORT@\" }",
        "{ \"0.0.0.0:@PORT@\", tls = { cert = \"server.pem\", key = \"server.key\" } }",
        "{ \"0.0.0.0:@PORT@\", tls = { cert = \"server.pem\", key = \"server.key\", "
          .. "client_ca = \"ca.pem\", client = \"optional\" } }",
      }
      for _, listener in ipairs(cases) do
        local folder = segue.folder { policy = policy(listener), files = { ["config.yaml"] = "" } }
        local p = folder:cli("check")
        assert.equal(3, p.code, listener)
        assert.matches("reload%.lua:5: .*machines can reach this address.*tokens = .*client_ca",
          p.stdout)
      end
    end)

    it("opens with tokens, warns of risks, and answers to its addresses", function()
      local d = start("{ \"0.0.0.0:@PORT@\", hosts = { \"segue.example\" }, " .. tokens .. " }")
      d:wait_log("tokens are sent unencrypted to this listener")
      for host, status in pairs { ["segue.example"] = 200, ["10.1.2.3:99"] = 200, ["[::1]"] = 200,
        ["evil.example"] = 403, ["localhost"] = 403 } do
        local headers = bearer(RO)
        headers.Host = host
        assert.equal(status, d:http { path = "/", headers = headers }.status, host)
      end
      local headers = bearer(RO)
      headers.Origin = "http://evil.example"
      assert.equal(403, d:http { path = "/", headers = headers }.status)
    end)
  end)
end)
