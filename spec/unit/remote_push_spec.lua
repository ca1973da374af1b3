-- SPDX-License-Identifier: MIT
-- Asynchronous sources that push, under a simulated clock: watches, fallback to pulls and back, and
-- the strategy of the policy.
local engine = require "spec.support.engine"
local C = require "spec.support.c"

local e
local function started(spec)
  e = engine.started_with_net(spec)
  return e
end

describe("a source that pushes", function()
  after_each(function()
    if e then e:close() end
    e = nil
  end)

  local function pushing(spec)
    spec = spec or {}
    spec.net = { pushes = true }
    started(spec)
    e:step()
    return e
  end

  it("is watched from the first generation on, and fetched once more then", function()
    e = engine.new { sources = { { "net", pushes = true } } }
    e:deliver("net", "n: 1\n", "r1")
    e:reload_now()
    local journal = e:journal()
    assert.truthy(journal:find("net.watch r1\nnet.fetch r1", 1, true) or
      journal:find("net.watch r1.*net.fetch r1"), journal)
    assert.equal("watching", e:source_status("net").activity)
    assert.is_true(e:source_status("net").push)
  end)

  it("requests a reload with the data that it emits, without a fetch", function()
    pushing()
    e:deliver("net", "n: 2\n", "r2")
    e:emit("net")
    e:advance(50)
    assert.equal("2", e:value("n"))
    assert.falsy(e:journal():find("net.fetch", 1, true))
    assert.equal("r2", e:source_status("net").revision)
  end)

  it("requests nothing when it emits the same", function()
    pushing()
    e:emit("net")
    e:advance(1000)
    assert.falsy(e:journal():find("collect", 1, true))
  end)

  it("may report only that something changed, and is fetched", function()
    pushing()
    e:deliver("net", "n: 2\n", "r2")
    e:emit("net", true)
    e:advance(100)
    assert.equal("2", e:value("n"))
    assert.truthy(e:journal():find("net.fetch r1", 1, true))
  end)

  it("is fetched again where a fetch was under way when it reported a change", function()
    pushing()
    e:source("net").fetch = engine.LATER
    e:emit("net", true)
    e:step()
    e:emit("net", true)
    e:source("net").fetch = engine.OK
    C.scripted_source_finish(e:source("net"), 0)
    e:deliver("net", "n: 2\n", "r2")
    e:advance(100)
    assert.equal("2", e:value("n"))
  end)

  it("debounces a burst into one run, and the last delivery counts", function()
    pushing()
    for i = 2, 30 do
      e:deliver("net", "n: " .. i .. "\n")
      e:emit("net")
    end
    e:advance(60)
    assert.equal("30", e:value("n"))
    assert.equal(1, engine.count(e:journal(), "settled applied"))
  end)

  it("overtakes a fetch that began before", function()
    pushing()
    e:source("net").fetch = engine.LATER
    local w = e:reload_now()
    e:deliver("net", "n: 9\n", "r9")
    e:emit("net")
    e:deliver("net", "n: 3\n", "r3") -- what the slow fetch saw
    C.scripted_source_finish(e:source("net"), 0)
    e:source("net").fetch = engine.OK
    e:deliver("net", "n: 9\n", "r9")
    e:advance(100)
    assert.equal("applied", w:outcome())
    assert.equal("9", e:value("n"))
    assert.equal("r9", e:source_status("net").revision)
  end)

  it("is pulled beside a healthy push every five minutes, give or take", function()
    pushing()
    e:advance(6000)
    e:journal()
    local pause = e:source_status("net").next_ms
    assert.is_true(pause >= 260000 and pause <= 330000, tostring(pause))
    e:deliver("net", "n: 2\n", "r2") -- and the push has not reported that
    e:advance(331000)
    assert.equal("2", e:value("n"))
  end)

  it("is pulled when the watch fails, and pushes again later", function()
    pushing()
    e:advance(6000)
    local s = e:source("net")
    s.watch = engine.FAIL
    e:journal()
    e:end_watch("net", -104)
    e:step()
    local status = e:source_status("net")
    assert.equal(1, status.watch_failures)
    assert.is_true(status.up)
    assert.truthy(status.error)
    e:deliver("net", "n: 2\n", "r2")
    e:advance(2000)
    assert.equal("2", e:value("n"))
    e:advance(300000)
    local tries = engine.count(e:journal(), "net.watch")
    assert.is_true(tries >= 5 and tries < 40, tostring(tries))
    s.watch = engine.LATER
    e:advance(70000)
    assert.equal("watching", e:source_status("net").activity)
    assert.equal(0, e:source_status("net").watch_failures)
    assert.truthy(e:journal():find("the source pushes again", 1, true))
    assert.equal(1, s.watching_most)
  end)

  it("treats a watch that ends by itself as a failure", function()
    pushing()
    e:end_watch("net", 0)
    e:step()
    assert.equal("the watch ended by itself", e:source_status("net").error)
    e:advance(1100)
    assert.equal("watching", e:source_status("net").activity)
  end)

  it("is fetched for changes of the time without a watch", function()
    pushing()
    e:end_watch("net", 0)
    e:deliver("net", "n: 2\n", "r2")
    e:advance(2100)
    assert.equal("2", e:value("n"))
  end)

  it("is never watched twice, also when it ignores a cancel", function()
    pushing()
    local s = e:source("net")
    s.deaf = true
    e:set_policy { sources = { "a.yaml", { "net", pushes = true } } }
    assert.equal("applied", e:reload_now():outcome())
    e:advance(20000)
    assert.equal(1, s.watching)
    e:end_watch("net", -125)
    e:step()
    assert.equal(1, s.watching)
    assert.equal(1, s.watching_most)
    assert.equal("watching", e:source_status("net").activity)
    s.deaf = false
  end)
end)

describe("the strategy of a source that can push", function()
  after_each(function()
    if e then e:close() end
    e = nil
  end)

  it("is called when the watch fails and when it is back", function()
    started { net = { pushes = true }, strategy = engine.OK }
    e:advance(6000)
    assert.equal("watching", e:source_status("net").activity)
    e:journal()
    e:end_watch("net", -104)
    e:advance(20000)
    local journal = e:journal()
    assert.truthy(journal:find("strategy net 1", 1, true), journal)
    assert.truthy(journal:match("strategy net 1.*strategy net 0"), journal)
    assert.equal("watching", e:source_status("net").activity)
  end)
end)
