-- SPDX-License-Identifier: MIT
-- Access control of a running daemon: tokens, roles, host names, rates, users of a socket, and the
-- audit of requests. Through TLS: auth_tls_spec.lua.
local auth = require "spec.support.auth"
local cjson = require "cjson"
local http = require "spec.support.http"
local process = require "spec.support.process"
local segue = require "spec.support.segue"
local tempdir = require "spec.support.tempdir"
local uv = require "luv"
local wait = require "spec.support.wait"

local OPS, RO, policy, tokens, start = auth.OPS, auth.RO, auth.policy, auth.tokens, auth.start
local bearer, put, refusal = auth.bearer, auth.put, auth.refusal

describe("access control", function()
  after_each(function()
    http.close_all()
    segue.cleanup()
  end)

  describe("of a listener with tokens", function()
    local listener = "{ \"127.0.0.1:@PORT@\", " .. tokens .. " }"

    it("rejects clients without one, and explains how to authenticate", function()
      local d = start(listener)
      for _, path in ipairs { "/api/v1/status", "/metrics", "/-/ready", "/nothing", "/" } do
        local r = d:http(path)
        assert.equal(401, r.status, path)
        assert.equal('Bearer realm="segue"', r.headers["www-authenticate"])
        assert.matches("Authorization: Bearer TOKEN", r.body, 1, true)
      end
      for _, wrong in ipairs { "x", OPS:sub(1, -2), OPS .. "x", ("y"):rep(4000) } do
        local r = d:http { path = "/api/v1/status", headers = bearer(wrong) }
        assert.equal(401, r.status)
        assert.matches('error="invalid_token"', r.headers["www-authenticate"])
      end
      local basic = d:http { path = "/", headers = { Authorization = "Basic " .. OPS } }
      assert.equal(401, basic.status)
    end)

    it("separates clients that may read from clients that may change", function()
      local d = start(listener)
      assert.equal(200, d:http { path = "/api/v1/status", headers = bearer(RO) }.status)
      assert.equal(200, d:http { path = "/api/v1/status", headers = bearer(OPS) }.status)
      assert.equal(404, d:http { path = "/nothing", headers = bearer(RO) }.status)
      for _, path in ipairs { "/-/reload", "/api/v1/plan" } do
        local r = d:http { method = "POST", path = path, headers = bearer(RO) }
        assert.equal(403, r.status)
        assert.matches("token ro has the role read: this takes the role operate", r.body)
        assert.equal(200, d:http { method = "POST", path = path, headers = bearer(OPS) }.status)
      end
    end)

    it("names the requester in the cause of the reload and in the log", function()
      local d = start(listener)
      d:http { method = "POST", path = "/-/reload?force=1", headers = bearer(OPS) }
      local last = d:json("/api/v1/reloads")[1]
      assert.matches("^POST /%-/reload by token ops from 127%.0%.0%.1:%d+$", last.cause)
      d:wait_log("audit.*answered.*POST.*/%-/reload.*200.*token ops.*127%.0%.0%.1")
      d:http { method = "POST", path = "/-/reload", headers = bearer(RO) }
      d:wait_log("audit.*refused.*POST.*403.*token ro")
      d:http("/metrics")
      d:wait_log("audit.*refused.*GET.*/metrics.*401")
      assert.is_nil(d:log():find(OPS, 1, true))
      assert.is_nil(d:log():find(RO, 1, true))
      local metrics = d:control("/metrics").body
      assert.matches('segue_http_refused_total{reason="unauthorized"} 1\n', metrics)
      assert.matches('segue_http_refused_total{reason="forbidden"} 1\n', metrics)
    end)

    it("accepts two tokens while one replaces the other, each on a line of its own", function()
      local d = start(listener)
      local new = "new-token-0123456789"
      put(d.dir, "ops.token", "# old\n" .. OPS .. "\n# new\n" .. new .. "\n")
      assert.equal("applied", select(2, d:reload()).outcome)
      for _, token in ipairs { OPS, new } do
        assert.equal(200, d:http { method = "POST", path = "/-/reload", headers = bearer(token) }
          .status)
      end
      d:wait_log("token ops:4")
      put(d.dir, "ops.token", new .. "\n")
      assert.equal("applied", select(2, d:reload()).outcome)
      assert.equal(401, d:http { path = "/", headers = bearer(OPS) }.status)
      assert.equal(200, d:http { path = "/", headers = bearer(new) }.status)
    end)

    it("checks each request again on connections that are open", function()
      local d = start(listener)
      local c = http.connect { port = d.port }
      c:write(http.format { path = "/", headers = bearer(OPS) })
      assert.equal(200, c:read_response().status)
      put(d.dir, "ops.token", "another-token-0123456\n")
      assert.equal("applied", select(2, d:reload()).outcome)
      c:write(http.format { path = "/", headers = bearer(OPS) })
      assert.equal(401, c:read_response().status)
    end)

    it("watches the files, and keeps the live tokens when the new file is invalid", function()
      local d = start(listener, { more = ", segue.watch()" })
      local file = d.dir:at("ops.token")
      local from = #d:log()
      put(d.dir, "ops.token", "# none\n")
      d:wait_log("ops%.token cannot be used: the file must contain a token", nil, from)
      assert.equal(200, d:http { path = "/", headers = bearer(OPS) }.status)
      put(d.dir, "ops.token", "short\n")
      assert.equal(file, refusal(d, "16 to 256 characters").file)
      put(d.dir, "ops.token", "open-token-0123456789\n", "644")
      refusal(d, "every user of this machine can read %S*ops%.token %(mode 0644%).*chmod o=")
      os.remove(file)
      local status, answer = d:reload()
      assert.equal(500, status)
      assert.matches("ops.token", answer.errors[1].message, 1, true)
      assert.equal(200, d:http { path = "/", headers = bearer(OPS) }.status)
      put(d.dir, "ops.token", "tomorrows-token-012345\n")
      wait.until_true(function()
        return d:http { path = "/", headers = bearer("tomorrows-token-012345") }.status == 200
      end, nil, "the new token")
    end)

    it("checks the mode of each file that it reads, and keeps the live tokens", function()
      local d = start(listener)
      local file = d.dir:at "ops.token"
      assert.equal("unchanged", select(2, d:reload()).outcome)
      for _, mode in ipairs { "644", "604", "602", "601" } do -- the same bytes
        uv.fs_chmod(file, tonumber(mode, 8))
        for _ = 1, 2 do
          refusal(d, "every user of this machine can read %S*ops%.token %(mode 0" .. mode .. "%)")
          assert.equal(200, d:http { path = "/", headers = bearer(OPS) }.status)
        end
      end
      uv.fs_chmod(file, tonumber("640", 8)) -- a group is somebody's decision
      assert.equal("unchanged", select(2, d:reload()).outcome)
      -- a rotation by rename that forgets the mode
      put(d.dir, "ops.token", "new-token-0123456789\n", "644")
      refusal(d, "mode 0644")
      assert.equal(200, d:http { path = "/", headers = bearer(OPS) }.status)
      assert.equal(401, d:http { path = "/", headers = bearer "new-token-0123456789" }.status)
      uv.fs_chmod(file, tonumber("600", 8))
      assert.equal("applied", select(2, d:reload()).outcome)
      assert.equal(401, d:http { path = "/", headers = bearer(OPS) }.status)
      assert.equal(200, d:http { path = "/", headers = bearer "new-token-0123456789" }.status)
    end)

    it("opens the endpoints that the policy calls public, and no others", function()
      local d = start("{ \"127.0.0.1:@PORT@\", public = { \"health\", \"metrics\" }, " .. tokens
        .. " }")
      for _, path in ipairs { "/-/healthy", "/-/ready", "/metrics" } do
        assert.equal(200, d:http(path).status)
        assert.equal(200, d:http { path = path, method = "HEAD" }.status)
        assert.equal(401, d:http { path = path, method = "POST" }.status)
      end
      for _, path in ipairs { "/", "/api/v1/status", "/metrics/", "/-/reload", "/api/v1/config" } do
        assert.equal(401, d:http(path).status, path)
      end
    end)

    it("answers a flood of wrong tokens with 429, and accepts the right one", function()
      local d = start("{ \"127.0.0.1:@PORT@\", rate = \"50/s\", burst = 20, " .. tokens .. " }")
      local requests = {}
      for i = 1, 200 do
        requests[i] = { port = d.port, path = "/", headers = bearer("wrong-token-" .. 10000 + i) }
      end
      local counts = {}
      for _, r in ipairs(http.all(requests)) do
        counts[r.status] = (counts[r.status] or 0) + 1
        if r.status == 429 then assert.matches("^%d+$", r.headers["retry-after"]) end
      end
      assert.equal(200, counts[401] + counts[429])
      assert.is_true(counts[401] >= 20)
      assert.is_true(counts[429] > 0)
      wait.until_true(function()
        return d:http { path = "/", headers = bearer(OPS) }.status == 200
      end, nil, "a token that is right")
      assert.matches('segue_http_refused_total{reason="rate"} [1-9]', d:control("/metrics").body)
      d:wait_log("audit.*sends too many requests")
    end)
  end)

  describe("and its audit of requests", function()
    local listener = "{ \"127.0.0.1:@PORT@\", " .. tokens .. " }"

    -- The rows that there are, newest first, once there are so many.
    local function rows(d, n)
      return wait.until_true(function()
        local list = d:json "/api/v1/audit"
        return #list >= n and list
      end, nil, n .. " rows: " .. d:log())
    end

    it("has the answer, the reload and rejected clients, also after a restart", function()
      local d = start(listener)
      assert.equal(200, d:http { method = "POST", path = "/-/reload?force=1",
        headers = bearer(OPS) }.status)
      d:http { method = "POST", path = "/-/reload", headers = bearer(RO) }
      d:http "/metrics"
      d:http { path = "/api/v1/status", headers = bearer(RO) } -- a read-only role does not see it
      assert.equal(200, d:control { method = "POST", path = "/api/v1/freeze?why=x+y" }.status)
      assert.equal(423, d:control { method = "POST", path = "/-/reload" }.status)
      assert.equal(200, d:control { method = "POST", path = "/api/v1/unfreeze" }.status)
      local list = rows(d, 6)
      local reported = {}
      for i = #list, 1, -1 do
        local row = list[i]
        assert.matches("^%d%d%d%d%-%d%d%-%d%dT", row.at)
        assert.equal(row.status == 401 or row.status == 403, row.refused)
        reported[#reported + 1] = ("%s %s %d %s %s"):format(row.method, row.path, row.status,
          row.who == cjson.null and "-" or row.who, row.reload == cjson.null and "-" or row.reload)
      end
      assert.same({ "POST /-/reload?force=1 200 token ops 2", "POST /-/reload 403 token ro -",
        "GET /metrics 401 - -", "POST /api/v1/freeze?why=x+y 200 - -", "POST /-/reload 423 - -",
        "POST /api/v1/unfreeze 200 - -" }, reported)
      assert.matches("^127%.0%.0%.1:%d+$", list[6].peer)
      assert.matches("^unix:pid=%d+,uid=%d+$", list[1].peer)
      d:crash()
      d:spawn()
      d:wait_ready()
      assert.same(list, d:json "/api/v1/audit")
      assert.same({ list[1], list[2] }, d:json "/api/v1/audit?limit=2")
      assert.equal(400, d:control("/api/v1/audit?limit=x").status)
      local cli = d:cli("history", "--audit", "--limit", "5")
      assert.equal(0, cli.code, cli:describe())
      assert.matches("^AT +STATUS +METHOD +PATH +WHO +FROM\n", cli.stdout)
      assert.matches("403 +POST +/%-/reload +token ro +127%.0%.0%.1", cli.stdout)
      assert.equal(6, select(2, cli.stdout:gsub("\n", "")))
      assert.same(list, cjson.decode(d:cli("history", "--audit", "--json").stdout))
      assert.equal(2, d:cli("history", "--audit", "7").code)
      for _, text in ipairs { OPS, RO } do
        assert.is_nil(d:control("/api/v1/audit").body:find(text, 1, true))
      end
    end)

    it("reports a missing history, and delays no client for it", function()
      local d = start(listener)
      d:stop()
      d.options.env = { SEGUE_FAULTS = "history.open=fail,history.audit=fail" }
      d:spawn()
      d:wait_ready()
      local reload = { method = "POST", path = "/-/reload", headers = bearer(OPS) }
      assert.equal(200, d:http(reload).status)
      local r = d:control "/api/v1/audit"
      assert.equal(404, r.status)
      assert.matches("there is no audit list", r.body)
      assert.equal(6, d:cli("history", "--audit").code)
    end)

    it("counts refusals where there are many, and keeps the entries of other clients", function()
      local d = start(listener)
      local reload = { method = "POST", path = "/-/reload", headers = bearer(OPS) }
      assert.equal(200, d:http(reload).status)
      local requests = {}
      for i = 1, 300 do
        requests[i] = { port = d.port, path = "/", headers = bearer("wrong-token-" .. 10000 + i) }
      end
      for _, r in ipairs(http.all(requests)) do
        assert.truthy(r.status == 401 or r.status == 429, r.status)
      end
      wait.until_true(function()
        return d:http(reload).status == 200
      end, nil, "a token that is right")
      local list = wait.until_true(function()
        local found = d:json "/api/v1/audit"
        return found[1] and found[1].who == "token ops" and found[1].status == 200
          and #found > 2 and found
      end, nil, "the last one")
      assert.is_true(#list < 50, tostring(#list)) -- five at once, then one in ten seconds
      assert.equal("token ops", list[#list].who)
      assert.is_true(list[2].refused)
    end)
  end)

  describe("of a plain loopback listener", function()
    it("needs no authentication, has no rate limit, and does not load OpenSSL", function()
      local d = start("\"127.0.0.1:@PORT@\"")
      for line in io.lines(("/proc/%d/maps"):format(d.process.pid)) do
        assert.is_nil(line:find("libssl", 1, true), line)
      end
      for _ = 1, 300 do assert.equal(200, d:http("/-/healthy").status) end
      local r = d:http { method = "POST", path = "/-/reload", headers = bearer("x") }
      assert.equal(200, r.status)
      d:wait_log("audit.*answered.*/%-/reload.*200")
    end)

    it("limits each client if the policy sets a rate", function()
      local d = start("{ \"127.0.0.1:@PORT@\", rate = \"1/h\", burst = 3 }")
      for _ = 1, 3 do assert.equal(200, d:http("/-/healthy").status) end
      local r = d:http("/-/healthy")
      assert.equal(429, r.status)
      assert.is_true(tonumber(r.headers["retry-after"]) > 3000)
      assert.equal(200, d:control("/-/healthy").status)
    end)

    it("answers to loopback names and to the listed ones", function()
      local d = start("{ \"127.0.0.1:@PORT@\", hosts = { \"segue.example\" } }")
      for host, status in pairs { ["segue.example"] = 200, ["SEGUE.example:80"] = 200,
        ["localhost"] = 200, ["127.0.0.1"] = 200, ["evil.example"] = 403, ["10.0.0.1"] = 403 } do
        assert.equal(status, d:http { path = "/", headers = { Host = host } }.status, host)
      end
      assert.matches("no name of this listener",
        d:http { path = "/", headers = { Host = "evil.example" } }.body)
    end)
  end)

  describe("of a unix socket", function()
    local function ask_as(uid, d, method, path)
      local p = process.run { "setpriv", "--reuid", tostring(uid), "--regid",
        tostring(uid), "--clear-groups", "curl", "-s",
        "-X", method, "--unix-socket", d.dir:at("app.sock"), "-w", "%{http_code}",
        "http://localhost" .. path }
      return p.stdout:match("(%d%d%d)$"), p.stdout
    end

    it("lets its own user and root make changes, and admitted users read", function()
      local dir = tempdir.new()
      local address = ("%q"):format("unix:" .. dir:at("app.sock"))
      local d = start("{ " .. address .. ", mode = \"0666\" }", { dir = dir })
      uv.fs_chmod(dir.path, tonumber("755", 8))
      assert.equal("200", (ask_as(0, d, "POST", "/-/reload")))
      assert.equal("200", (ask_as(65534, d, "GET", "/api/v1/status")))
      local status, text = ask_as(65534, d, "POST", "/-/reload")
      assert.equal("403", status)
      assert.matches("this user has the role read", text)
      d:wait_log("audit.*refused.*403.*unix:pid=%d+,uid=65534")
      d.dir:write("reload.lua", d:fill(policy(
        "{ " .. address .. ", mode = \"0660\", others = \"operate\" }")))
      assert.equal("applied", select(2, d:reload()).outcome)
      assert.equal("000", (ask_as(65534, d, "GET", "/")))
      d.dir:write("reload.lua", d:fill(policy(
        "{ " .. address .. ", mode = \"0666\", others = \"operate\" }")))
      assert.equal("applied", select(2, d:reload()).outcome)
      assert.equal("200", (ask_as(65534, d, "POST", "/-/reload")))
      assert.matches("from unix:pid=%d+,uid=65534$", d:json("/api/v1/reloads")[1].cause)
    end)
  end)
end)
