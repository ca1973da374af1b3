-- SPDX-License-Identifier: MIT
-- Guards in the daemon: what an operator sees, what exit codes say, and how a shrink gets through.
local segue = require "spec.support.segue"
local wait = require "spec.support.wait"
local web = require "spec.support.web"

describe("a guard in the daemon", function()
  after_each(function()
    web.cleanup()
    segue.cleanup()
  end)

  it("holds, reports the numbers and the remedy, and can be accepted once", function()
    local d = segue.start {
      files = { ["conf.d/a.yaml"] = "a: 1\nb: 2\n", ["conf.d/b.yaml"] = "c: 3\nd: 4\n" },
      policy = [[
        local segue = require "segue"
        return {
          sources = { segue.dir("conf.d/*.yaml", { guard = { min_items = 1, max_shrink = 0.5 } }) },
          triggers = { segue.watch(), segue.http "127.0.0.1:@PORT@" },
        }]],
    }
    d.dir:write("conf.d/a.yaml", "a: 1\n")
    d.dir:delete("conf.d/b.yaml")
    local status, answer = d:reload()
    assert.equal(409, status)
    assert.equal("held", answer.outcome)
    assert.equal("SEGUE_EHELD", answer.errors[1].code)
    local cli = d:cli "reload"
    assert.equal(6, cli.code)
    assert.truthy(cli.stdout:find("went from 4 items to 1 (75 % less), and its guard allows "
      .. "max_shrink = 0.5: look at the source, or let it through once "
      .. "by a reload with accept-shrink", 1, true), cli.output)
    assert.equal(6, d:cli("plan").code)
    assert.equal(4, d:config().d)
    assert.equal(200, d:http("/-/ready").status)
    assert.truthy(d:http("/metrics").body:find('segue_reloads_total{outcome="held"} [1-9]'))
    assert.equal(0, d:cli("reload", "--accept-shrink").code)
    assert.same({ a = 1 }, d:config())
    d.dir:write("conf.d/a.yaml", "{}\n")
    assert.equal(409, (d:reload()))
    assert.equal(200, (d:reload "?accept-shrink=1"))
    assert.same({}, d:config())
    d:stop()
  end)

  it("holds at a start too: the last good generation serves, stale, until the source returns",
  function()
    local d = segue.start {
      files = { ["config.yaml"] = "a: 1\nb: 2\n" },
      policy = [[
        local segue = require "segue"
        return {
          sources = { segue.file("config.yaml", { guard = { min_items = 2 } }) },
          triggers = { segue.watch(), segue.http "127.0.0.1:@PORT@" },
        }]],
    }
    d:stop()
    d.dir:write("config.yaml", "a: 1\n")
    d:spawn()
    d:wait_ready()
    assert.equal(2, d:config().b)
    assert.equal("string", type(d:json("/api/v1/status").stale_since))
    d.dir:write("config.yaml", "a: 1\nb: 3\n")
    d:wait_config(function(c) return c.b == 3 end)
    wait.until_true(function() return type(d:json("/api/v1/status").stale_since) ~= "string" end)
  end)

  it("compares with the data from before the restart", function()
    local d = segue.start {
      files = { ["config.yaml"] = "a: 1\nb: 2\nc: 3\nd: 4\n" },
      policy = [[
        local segue = require "segue"
        return {
          sources = { segue.file("config.yaml", { guard = { max_shrink = 0.5 } }) },
          triggers = { segue.watch(), segue.http "127.0.0.1:@PORT@" },
        }]],
    }
    d:crash()
    d.dir:write("config.yaml", "a: 1\n")
    d:spawn()
    d:wait_ready()
    assert.equal(4, d:config().d)
    d:wait_log "went from 4 items to 1"
    assert.equal(0, d:cli("reload", "--accept-shrink").code)
    assert.same({ a = 1 }, d:config())
    d:stop()
    d:spawn()
    d:wait_ready()
    assert.same({ a = 1 }, d:config())
  end)

  it("cannot be accepted by other commands", function()
    local d = segue.folder { policy = "return {}" }
    local cli = d:cli("plan", "--accept-shrink")
    assert.equal(2, cli.code)
  end)

  it("is not ready on data that is too old, and is again when the source is back", function()
    local w = web.serve(function(_, client) client:write(web.answer("n: 1")) end)
    local d = segue.start {
      files = { ["config.yaml"] = "x: 1\n" },
      policy = ([[
        local segue = require "segue"
        return {
          sources = { segue.file "config.yaml", segue.url { "%s", guard = { max_age = "10ms" },
            retry = { min = "20ms", max = "50ms" } } },
          triggers = { segue.http "127.0.0.1:@PORT@" },
        }]]):format(w.url),
    }
    w.handler = function(_, client)
      client:write(web.answer("no", { status = "503 Service Unavailable" }))
    end
    d:reload()
    local ready
    wait.until_true(function()
      ready = d:http "/-/ready"
      return ready.status == 503
    end, nil, "503")
    d.dir:write("config.yaml", "x: 2\n")
    local status, answer = d:reload()
    assert.equal(409, status)
    assert.truthy(answer.errors[1].message:find("is older than max_age", 1, true))
    assert.truthy(ready.body:find("is older than its max_age allows", 1, true), ready.body)
    assert.equal(4, d:cli("status").code)
    w.handler = function(_, client) client:write(web.answer("n: 1")) end
    d:wait_config(function(c) return c.x == 2 end)
    d:wait_ready()
    d:stop()
  end)
end)
