-- SPDX-License-Identifier: MIT
-- The admin API of a running daemon: every endpoint, every status, the guard.
local cjson = require "cjson"
local http = require "spec.support.http"
local segue = require "spec.support.segue"
local wait = require "spec.support.wait"

local policy = [[
local segue = require "segue"
return {
  name = "api",
  sources = { segue.file "config.yaml" },
  triggers = { segue.http "127.0.0.1:@PORT@" },
  check = function(next)
    if next.bad then return nil, "bad is set" end
    return true
  end,
}
]]

local function start(options)
  options = options or {}
  options.policy = options.policy or policy
  options.files = options.files or { ["config.yaml"] = "port: 1\nname: one\n" }
  return segue.start(options)
end

local function decode(response)
  return cjson.decode(response.body)
end

describe("the admin API", function()
  after_each(segue.cleanup)

  describe("POST /-/reload", function()
    it("applies a changed file and reports that in one line", function()
      local d = start()
      d.dir:write("config.yaml", "port: 2\nname: one\n")
      local r = d:http { method = "POST", path = "/-/reload" }
      assert.equal(200, r.status)
      assert.matches("^applied: generation 2 is live %(reload %d+, [%d.]+ %a+%)\n$", r.body)
      assert.equal(2, d:config().port)
    end)

    it("accepts PUT as well", function()
      local d = start()
      assert.equal(200, d:http { method = "PUT", path = "/-/reload" }.status)
    end)

    it("answers unchanged with 200, and applies again when forced", function()
      local d = start()
      local status, answer = d:reload()
      assert.equal(200, status)
      assert.equal("unchanged", answer.outcome)
      assert.equal(1, answer.generation)
      status, answer = d:reload "?force=1"
      assert.equal(200, status)
      assert.equal("applied", answer.outcome)
      assert.equal(2, answer.generation)
    end)

    it("answers 422 with file, line, column and message, and changes nothing", function()
      local d = start()
      d.dir:write("config.yaml", "port: 1\nname: one\nport: 2\n")
      local status, answer = d:reload()
      assert.equal(422, status)
      assert.equal("rejected", answer.outcome)
      assert.equal(1, answer.generation)
      local e = answer.errors[1]
      assert.matches("config%.yaml$", e.file)
      assert.equal(3, e.line)
      assert.equal(1, e.column)
      assert.matches("port", e.message)
      assert.equal("one", d:config().name)
      local r = d:http { method = "POST", path = "/-/reload" }
      assert.equal(422, r.status)
      assert.matches("^rejected: generation 1 stays live", r.body)
      assert.matches("config%.yaml:3:1: ", r.body)
    end)

    it("answers 422 with the policy's reason", function()
      local d = start()
      d.dir:write("config.yaml", "bad: true\n")
      local status, answer = d:reload()
      assert.equal(422, status)
      assert.matches("bad is set", answer.errors[1].message)
    end)

    it("answers 412 unless If-Match names the live generation, by number or hash", function()
      local d = start()
      local hash = d:json("/api/v1/status").hash
      for _, good in ipairs { "1", '"1"', hash, '"' .. hash .. '"', 'W/"1"', "*" } do
        local r = d:http { method = "POST", path = "/-/reload", headers = { ["If-Match"] = good } }
        assert.equal(200, r.status, good)
      end
      for _, query in ipairs { "", "?wait=0" } do
        local r = d:http { method = "POST", path = "/-/reload" .. query,
          headers = { ["If-Match"] = '"7"' } }
        assert.equal(412, r.status)
        assert.matches("generation 1", r.body)
      end
    end)

    it("answers 202 at once with wait=0, and reloads", function()
      local d = start()
      d.dir:write("config.yaml", "port: 3\n")
      assert.equal(202, d:http { method = "POST", path = "/-/reload?wait=0" }.status)
      d:wait_config(function(c) return c.port == 3 end)
    end)

    it("refuses a wait that is not a duration", function()
      local d = start()
      local r = d:http { method = "POST", path = "/-/reload?wait=soon" }
      assert.equal(400, r.status)
      assert.matches("soon", r.body)
    end)

    it("answers 504 when the wait is over, and the run continues", function()
      local d = start()
      local lines = {}
      for i = 1, 60000 do lines[i] = "k" .. i .. ": {a: 1, b: [1, 2, 3]}" end
      d.dir:write("config.yaml", "port: 4\n" .. table.concat(lines, "\n") .. "\n")
      local r = d:http { method = "POST", path = "/-/reload?wait=1ms" }
      assert.equal(504, r.status)
      wait.until_true(function() return d:json("/api/v1/status").generation == 2 end, 30000)
      assert.equal(4, decode(d:control("/api/v1/config?path=port")))
    end)

    it("answers 202 while a rate limit postpones it, and the run follows by itself", function()
      local d = start { policy = policy:gsub("sources", 'min_interval = "400ms", sources') }
      d.dir:write("config.yaml", "port: 2\n")
      local r = d:http { method = "POST", path = "/-/reload" }
      assert.equal(202, r.status, r.body)
      assert.matches("postponed", r.body)
      local cli = d:cli "reload"
      assert.equal(6, cli.code, cli.output)
      d:wait_config(function(c) return c.port == 2 end)
    end)

    it("names the requester as the cause", function()
      local d = start()
      local answer = decode(d:http { method = "POST", path = "/-/reload",
        headers = { Accept = "application/json" } })
      assert.equal("http", answer.trigger)
      assert.matches("^POST /%-/reload from 127%.0%.0%.1:%d+", answer.cause)
      local _, other = d:reload()
      assert.equal("control", other.trigger)
    end)
  end)

  describe("health", function()
    it("is 200 on /-/healthy and /-/ready", function()
      local d = start()
      assert.equal(200, d:http("/-/healthy").status)
      local r = d:http("/-/ready")
      assert.equal(200, r.status)
      assert.matches("generation 1", r.body)
    end)

    it("stays ready when a reload is rejected", function()
      local d = start()
      d.dir:write("config.yaml", ": : :\n")
      assert.equal(422, (d:reload()))
      assert.equal(200, d:http("/-/ready").status)
    end)
  end)

  describe("GET /api/v1/config", function()
    it("is the merged configuration, with its hash as ETag and its generation", function()
      local d = start()
      local r = d:http("/api/v1/config")
      local hash = d:json("/api/v1/status").hash
      assert.equal(200, r.status)
      assert.same({ port = 1, name = "one" }, decode(r))
      assert.equal('"' .. hash .. '"', r.headers.etag)
      assert.equal("1", r.headers["segue-generation"])
    end)

    it("answers 304 to the ETag of the live configuration", function()
      local d = start()
      local etag = d:http("/api/v1/config").headers.etag
      local r = d:http { path = "/api/v1/config", headers = { ["If-None-Match"] = etag } }
      assert.equal(304, r.status)
      d.dir:write("config.yaml", "port: 2\n")
      d:reload()
      r = d:http { path = "/api/v1/config", headers = { ["If-None-Match"] = etag } }
      assert.equal(200, r.status)
    end)

    it("returns the value at a path, and 404 where there is none", function()
      local d = start { files = { ["config.yaml"] = "a: [{b: deep}]\n" } }
      assert.equal("deep", decode(d:http("/api/v1/config?path=a%5B0%5D.b")))
      local r = d:http("/api/v1/config?path=a%5B1%5D")
      assert.equal(404, r.status)
      assert.matches("a%[1%]", decode(r).error)
    end)
  end)

  describe("GET /api/v1/diff", function()
    it("returns the changes of the last reload", function()
      local d = start()
      d.dir:write("config.yaml", "port: 2\nmore: [1]\n")
      d:reload()
      local diff = d:json("/api/v1/diff")
      assert.equal(1, diff.from.generation)
      assert.equal(2, diff.to.generation)
      local by = {}
      for _, change in ipairs(diff.changes) do by[change.path] = change end
      assert.same({ op = "change", path = "port", from = 1, to = 2 }, by.port)
      assert.equal("add", by.more.op)
      assert.same({ 1 }, by.more.to)
      assert.equal("remove", by.name.op)
      assert.equal("one", by.name.from)
      assert.equal(3, diff.change_count)
      assert.same(diff, d:json("/api/v1/diff?from=1&to=2"))
    end)

    it("answers 404 for generations that are not in the history", function()
      local d = start()
      local r = d:http("/api/v1/diff?from=7")
      assert.equal(404, r.status)
      assert.matches("generation 7 is not in the history", decode(r).error)
      assert.equal(404, d:http("/api/v1/diff").status) -- there is no previous one yet
      assert.equal(400, d:http("/api/v1/diff?from=yesterday").status)
    end)

    it("to=next returns the changes that a reload would make, without reloading", function()
      local d = start()
      d.dir:write("config.yaml", "port: 9\nname: one\n")
      local next = d:json("/api/v1/diff?to=next")
      assert.is_true(next.plan_only)
      assert.equal("port", next.changes[1].path)
      assert.equal(1, d:json("/api/v1/status").generation)
    end)
  end)

  describe("POST /api/v1/plan", function()
    it("returns the changes and applies none", function()
      local d = start()
      d.dir:write("config.yaml", "port: 5\nname: one\n")
      local r = d:http { method = "POST", path = "/api/v1/plan" }
      assert.equal(200, r.status)
      local plan = decode(r)
      assert.is_true(plan.plan_only)
      assert.equal("port", plan.changes[1].path)
      assert.equal("5", plan.changes[1].to_text)
      assert.equal(1, d:config().port)
    end)

    it("answers 422 for a configuration that a reload would reject", function()
      local d = start()
      d.dir:write("config.yaml", "bad: 1\n")
      assert.equal(422, d:http { method = "POST", path = "/api/v1/plan" }.status)
    end)
  end)

  describe("GET /api/v1/reloads", function()
    it("lists the newest first, as many as requested", function()
      local d = start()
      d:reload()
      d:reload "?force=1"
      local list = d:json("/api/v1/reloads")
      assert.equal(3, #list)
      assert.is_true(list[1].id > list[2].id)
      assert.equal("applied", list[1].outcome)
      assert.equal("unchanged", list[2].outcome)
      assert.equal("start", list[3].trigger)
      assert.equal(1, #d:json("/api/v1/reloads?limit=1"))
      assert.equal(400, d:http("/api/v1/reloads?limit=x").status)
    end)

    it("returns one in detail, and 404 for one that is not in the history", function()
      local d = start()
      d.dir:write("config.yaml", "port: 2\nname: one\n")
      local _, answer = d:reload()
      local one = d:json("/api/v1/reloads/" .. answer.id)
      assert.equal("port", one.changes[1].path)
      assert.is_number(one.phases_ms.collect)
      assert.equal(404, d:http("/api/v1/reloads/4711").status)
      assert.equal(404, d:http("/api/v1/reloads/last").status)
    end)
  end)

  it("GET /api/v1/status returns the state of the daemon", function()
    local d = start()
    local status = d:json("/api/v1/status")
    assert.equal("api", status.name)
    assert.is_true(status.ready)
    assert.equal(1, status.generation)
    assert.equal(d.process.pid, status.pid)
    assert.equal(d.dir:at("reload.lua"), status.policy)
    assert.equal(2, #status.listeners)
    assert.equal(cjson.null, status.running)
    assert.equal("applied", status.last.outcome)
  end)

  it("GET /api/v1/sources returns each source and its last failure", function()
    local d = start()
    local source = d:json("/api/v1/sources")[1]
    assert.equal("file", source.kind)
    assert.equal(1, source.documents)
    assert.equal(cjson.null, source.error)
    d.dir:delete("config.yaml")
    assert.equal(500, (d:reload()))
    source = d:json("/api/v1/sources")[1]
    assert.equal(1, source.failures)
    assert.matches("config%.yaml", source.error.message .. (source.error.file or ""))
  end)

  it("GET /api/v1/modules is a list", function()
    local d = start()
    assert.same({}, d:json("/api/v1/modules"))
  end)

  describe("GET /metrics", function()
    local function value(text, series)
      for line in text:gmatch("[^\n]+") do
        if line:sub(1, #series + 1) == series .. " " then return tonumber(line:sub(#series + 2)) end
      end
    end

    it("is the exposition format: every sample has HELP and TYPE, each family once", function()
      local d = start()
      local r = d:http("/metrics")
      assert.equal(200, r.status)
      assert.matches("^text/plain; version=0%.0%.4", r.headers["content-type"])
      local types = {}
      for line in r.body:gmatch("[^\n]+") do
        local name, type = line:match("^# TYPE (%S+) (%S+)$")
        if name then
          assert.is_nil(types[name], name .. " twice")
          types[name] = type
        elseif not line:match("^#") then
          local sample = line:match("^([%a_:][%w_:]*)")
          local family = sample:gsub("_bucket$", ""):gsub("_sum$", ""):gsub("_count$", "")
          assert.is_truthy(types[sample] or types[family], line)
          assert.matches(" [%d.e+-]+$", line)
        end
      end
    end)

    it("counts outcomes, triggers and phases", function()
      local d = start()
      d:reload()
      d.dir:write("config.yaml", "a: [\n")
      d:reload()
      local text = d:http("/metrics").body
      assert.equal(1, value(text, 'segue_reloads_total{outcome="applied"}'))
      assert.equal(1, value(text, 'segue_reloads_total{outcome="unchanged"}'))
      assert.equal(1, value(text, 'segue_reloads_total{outcome="rejected"}'))
      assert.equal(2, value(text, 'segue_triggers_total{trigger="control"}'))
      assert.equal(0, value(text, "segue_config_last_reload_successful"))
      assert.equal(1, value(text, "segue_config_generation"))
      assert.equal(1, value(text, "segue_ready"))
      assert.equal(3, value(text, 'segue_reload_duration_seconds_count{phase="total"}'))
      assert.is_true(value(text, "segue_config_last_reload_success_timestamp_seconds") > 1e9)
      assert.is_true(math.abs(value(text, "process_start_time_seconds") - os.time()) < 60)
      assert.is_true(value(text, "process_open_fds") > 3)
      assert.is_true(value(text, "process_resident_memory_bytes") > 1e6)
    end)
  end)

  describe("GET /api/v1/events", function()
    it("sends every phase of a reload as it happens", function()
      local d = start()
      local c = http.connect { port = d.port }
      c:write(http.format { path = "/api/v1/events", port = d.port })
      local head = c:read_until("\r\n\r\n")
      assert.matches("^HTTP/1.1 200 ", head)
      assert.matches("Content%-Type: text/event%-stream", head)
      c:read_until("retry: %d+\n\n")
      d.dir:write("config.yaml", "port: 2\n")
      d:reload()
      -- The start may settle as late as now.
      local text = c:read_until('event: settled\ndata: [^\n]*"generation":2[,}][^\n]*\n\n')
      assert.matches("event: collect\n", text)
      assert.matches("event: check\n", text)
      assert.matches("event: plan\n", text)
      local settled = cjson.decode(text:match(".*event: settled\ndata: ([^\n]+)"))
      assert.equal("applied", settled.outcome)
      assert.equal(2, settled.generation)
      c:close()
    end)

    it("sends the missed events to a client that connects again", function()
      local d = start()
      local c = http.connect { port = d.port }
      c:write(http.format { path = "/api/v1/events", port = d.port,
        headers = { ["Last-Event-ID"] = "0" } })
      local text = c:read_until('event: settled\ndata: [^\n]+\n\n')
      assert.matches("id: 1\n", text)
      assert.matches('"trigger":"start"', text)
      c:close()
    end)

    it("ends when the daemon stops", function()
      local d = start()
      local c = http.connect { port = d.port }
      c:write(http.format { path = "/api/v1/events", port = d.port })
      c:read_until("retry: ")
      d:stop()
      c:read_all()
      c:close()
    end)
  end)

  describe("routing", function()
    it("answers HEAD wherever GET is, without a body", function()
      local d = start()
      for _, path in ipairs { "/", "/-/healthy", "/-/ready", "/metrics", "/api/v1/status",
        "/api/v1/config", "/api/v1/reloads", "/api/v1/modules", "/api/v1/sources",
        "/api/v1/events" } do
        local r = d:http { method = "HEAD", path = path }
        assert.equal(200, r.status, path)
        assert.equal("", r.body)
      end
    end)

    it("answers other methods with 405 and Allow", function()
      local d = start()
      local r = d:http { method = "GET", path = "/-/reload" }
      assert.equal(405, r.status)
      assert.equal("POST, PUT", r.headers.allow)
      r = d:http { method = "DELETE", path = "/api/v1/config" }
      assert.equal(405, r.status)
      assert.equal("GET, HEAD", r.headers.allow)
      assert.equal("POST", d:http("/api/v1/plan").headers.allow)
      assert.equal(1, d:json("/api/v1/status").generation)
    end)

    it("answers unknown paths with 404 and a hint", function()
      local d = start()
      local r = d:http("/-/relaod")
      assert.equal(404, r.status)
      assert.matches("/%-/reload", r.body)
      assert.matches("/metrics", d:http("/metric").body)
      assert.equal(404, d:http("/nothing/like/it").status)
      -- A path that is only a folder is no route.
      r = d:http("/api/v1/reloads/")
      assert.equal(404, r.status)
      assert.matches("did you mean /api/v1/reloads\"", r.body)
    end)

    it("lists all endpoints on /", function()
      local d = start()
      assert.matches("/api/v1/status", d:http("/").body)
    end)
  end)

  describe("the check of Host and Origin", function()
    local function status(d, headers, host)
      return d:http { path = "/api/v1/config", headers = headers, host = host }.status
    end

    it("refuses names that are not loopback (DNS rebinding)", function()
      local d = start()
      assert.equal(403, status(d, nil, "attacker.example:" .. d.port))
      assert.equal(403, status(d, nil, "10.0.0.1"))
      assert.equal(403, status(d, nil, "localhost.attacker.example"))
      assert.equal(200, status(d, nil, "localhost:" .. d.port))
      assert.equal(200, status(d, nil, "[::1]:" .. d.port))
      assert.equal(200, status(d, nil, "127.0.0.1"))
    end)

    it("refuses requests that a browser makes for another site", function()
      local d = start()
      local host = "127.0.0.1:" .. d.port
      assert.equal(403, status(d, { Origin = "http://attacker.example" }))
      assert.equal(403, status(d, { Origin = "null" }))
      assert.equal(403, status(d, { Origin = "http://127.0.0.1:1" }))
      assert.equal(403, status(d, { ["Sec-Fetch-Site"] = "cross-site" }))
      assert.equal(403, status(d, { ["Sec-Fetch-Site"] = "same-site" }))
      assert.equal(200, status(d, { Origin = "http://" .. host }))
      assert.equal(200, status(d, { ["Sec-Fetch-Site"] = "same-origin" }))
      assert.equal(200, status(d, { ["Sec-Fetch-Site"] = "none" }))
      assert.equal(403, d:http { method = "POST", path = "/-/reload",
        headers = { Origin = "http://attacker.example" } }.status)
      assert.equal(1, #d:json("/api/v1/reloads"))
    end)

    it("trusts every client that may open the control socket", function()
      local d = start()
      assert.equal(200, d:control { path = "/api/v1/config", host = "whatever.example" }.status)
    end)
  end)
end)
