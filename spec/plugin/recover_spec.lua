-- SPDX-License-Identifier: MIT
-- A module that reports its own failure from a thread of its own (mortal.c), in the daemon: what
-- its clients, the API, the metrics and the events show, and reloads meanwhile.
local cjson = require "cjson"
local http = require "spec.support.http"
local plugin = require "spec.support.plugin"
local port = require "spec.support.port"
local segue = require "spec.support.segue"
local tempdir = require "spec.support.tempdir"
local wait = require "spec.support.wait"

local POLICY = [[
local segue = require "segue"
return {
  sources = { segue.file "config.yaml" },
  triggers = { segue.http "127.0.0.1:@PORT@" },
  modules = { m = { kind = "c", plugin = "./mortal.so", config = "m", replace = "%s",
    on_failure = "%s", listen = "http://127.0.0.1:%d" } },
}
]]

describe("a module that fails by itself", function()
  local d, at
  after_each(function()
    segue.cleanup()
    tempdir.remove_all()
  end)

  local function start(o)
    local dir = tempdir.new()
    at = port.free()
    plugin.build_file(dir:at "mortal.so", "spec/plugin/mortal.c")
    d = segue.start { dir = dir, env = o.env, files = { ["config.yaml"] = "m: ''\nn: 1\n" },
      policy = POLICY:format(o.replace or "restart", o.on_failure or "refuse", at) }
  end
  local function get(path) return http.request { port = at, path = path or "/" }.status end
  local function ready() return d:http("/-/ready").status end
  local function metric(line)
    return tonumber(("\n" .. d:http("/metrics").body):match("\n" .. line .. " (%d+)\n"))
  end
  local function failures() return metric 'segue_module_failures_total{module="m"}' end
  local function module() return d:json "/api/v1/modules"[1] end
  local function until_ready()
    wait.until_true(function() return ready() == 200 end, nil, function() return d:log() end)
  end
  -- Its instance fails so soon after the one before it that the next is built after a pause.
  local function die_twice()
    for n = 1, 2 do
      assert.equal(200, get "/die")
      wait.until_true(function() return failures() == n end)
      if n == 1 then until_ready() end
    end
  end

  it("refuses clients and is not ready until the next instance serves", function()
    start { env = { SEGUE_TEST_RETRY_FIRST_MS = "60000" } } -- a reload ends the pause, not the time
    local events = http.connect { port = d.port }
    events:write(http.format { path = "/api/v1/events", port = d.port })
    events:read_until "retry: %d+\n\n"
    die_twice()
    assert.equal(503, get())
    assert.equal(503, ready())
    assert.equal(200, d:http("/-/healthy").status)
    local m = module()
    assert.same({ "failed", "refusing", 2 }, { m.state, m.gate, m.failures })
    assert.matches("the child process exited with code 7", cjson.encode(m.error))
    assert.equal(1, metric 'segue_module_state{module="m",state="failed"}')
    d:wait_log 'an instance reported that it failed.*code 7'
    assert.equal(200, (d:reload "?force=1"))
    until_ready()
    assert.same({ 200, "serving" }, { get(), module().state })
    assert.equal(2, failures())
    local text = events:read_until '"state":"failed".*"state":"serving".*"state":"failed"'
    assert.matches('"module":"m"', text)
    events:close()
  end)

  it("lets clients wait if the policy wants that: each one is answered after a pause", function()
    start { on_failure = "wait" }
    die_twice()
    for _ = 1, 5 do assert.equal(200, get()) end
    assert.equal("serving", module().state)
  end)

  it("undoes a generation that waits to be confirmed", function()
    start {}
    d.dir:write("reload.lua", (d.dir:read "reload.lua":gsub("modules =",
      'confirm = { by = "operator", within = "60s" },\n  modules =')))
    d.dir:write("config.yaml", "m: started\nn: 2\n")
    d:reload()
    d:wait_log "module 'm' failed after its start: the child process exited with code 7"
    wait.until_true(function() return d:config().n == 1 and ready() == 200 end)
    assert.equal(200, get())
  end)

  it("makes the reload fail where its new instance fails in its start", function()
    start {}
    d.dir:write("config.yaml", "m: start\nn: 2\n")
    local status, answer = d:reload()
    assert.same({ 500, "reverted" }, { status, answer.outcome })
    assert.matches("died at once", cjson.encode(answer))
    assert.same({ 1, 200 }, { d:config().n, get() })
  end)

  it("does no harm in a storm of reports and reloads", function()
    start { replace = "handover" }
    for n = 2, 30 do
      d.dir:write("config.yaml", ("m: '%s'\nn: %d\n"):format(n % 3 == 0 and "drain" or "storm", n))
      d:reload()
      if n % 5 == 0 then get "/die" end
    end
    d.dir:write("config.yaml", "m: ''\nn: 100\n")
    wait.until_true(function()
      d:reload()
      return d:config().n == 100 and ready() == 200
    end, 1000, function() return d:log():sub(-3000) .. d:http("/-/ready").body end)
    assert.equal(200, get())
    assert.is_true(failures() > 0)
  end)
end)
