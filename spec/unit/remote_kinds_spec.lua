-- SPDX-License-Identifier: MIT
-- Kinds of failures of asynchronous sources, and watches that prove that they live, under a
-- simulated clock.
local engine = require "spec.support.engine"
local C = require "spec.support.c"

local e
after_each(function()
  if e then e:close() end
  e = nil
end)

local function started(net, more)
  local spec = { net = net or {} }
  for key, value in pairs(more or {}) do spec[key] = value end
  if spec.net.pushes == nil then spec.net.pushes = true end
  e = engine.started_with_net(spec)
  e:advance(6000) -- the watch has proved itself
  e:journal()
  return e
end

local function status() return e:source_status("net") end
local function events() return e:journal() end

local function emit_alive(revision)
  local delivery = C.segue_delivery_new()
  C.segue_delivery_unchanged(delivery)
  C.segue_delivery_revision(delivery, revision)
  C.segue_watch_emit(e:source("net").emitter, delivery)
  e:step()
end

describe("a source whose credentials were replaced", function()
  it("is fetched again at once, for the request that waits, and is never reported", function()
    started { pushes = false }
    local source = e:source("net")
    source.fetch = engine.LATER
    local w = e:reload()
    e:step()
    e:deliver("net", "n: 2\n", "r2")
    source.fetch = engine.OK
    C.scripted_source_finish(source, C.SEGUE_EDENIED)
    e:step()
    assert.equal("applied", w:outcome())
    assert.equal("2", e:value("n"))
    assert.equal(2, engine.count(events(), "net.fetch r1"))
    assert.is_true(status().up)
    assert.same({ away = 0, busy = 0, denied = 0, invalid = 0 }, status().failed)
  end)

  it("is reported once, as denied, where the new ones are refused too", function()
    started({ pushes = false, retry_max_ms = 10000 })
    local source = e:source("net")
    source.fetch = engine.LATER
    e:reload()
    e:step()
    for _ = 1, 4 do
      C.scripted_source_finish(source, C.SEGUE_EDENIED)
      e:advance(11100)
    end
    assert.equal("denied", status().failure)
    assert.equal(3, status().failed.denied)
    assert.equal(1, engine.count(events(), "the source refuses the credentials"))
    source.fetch = engine.OK
  end)

  it("is watched again at once, and then after the longest pause", function()
    started { retry_min_ms = 100, retry_max_ms = 100000 }
    e:end_watch("net", C.SEGUE_EDENIED)
    e:advance(10)
    assert.equal(1, engine.count(events(), "net.watch"))
    assert.equal(0, status().watch_failures)
    e:end_watch("net", C.SEGUE_EDENIED)
    e:advance(80000)
    local log = events()
    assert.equal(0, engine.count(log, "net.watch"))
    assert.truthy(log:find("refuses the credentials of the watch", 1, true))
    assert.equal("denied", status().failure)
    assert.equal(1, status().failed.denied)
    e:advance(40000)
    assert.equal(1, engine.count(events(), "net.watch"))
    assert.equal("watching", status().activity)
  end)
end)

describe("a source that is busy", function()
  it("is not asked during the pause that it requests", function()
    started { pushes = false, interval_ms = 1000 }
    local source = e:source("net")
    source.retry_ms, source.fetch = 120000, engine.LATER
    e:advance(1100)
    C.scripted_source_finish(source, C.SEGUE_EBUSY)
    e:step()
    assert.equal("busy", status().failure)
    assert.is_true(status().next_ms >= 120000)
    assert.truthy(events():find("the source requests a pause", 1, true))
    e:trigger("poll")
    e:advance(110000)
    assert.equal(0, engine.count(events(), "net.fetch"))
    source.fetch = engine.OK
    e:deliver("net", "n: 2\n", "r2")
    e:advance(11000)
    assert.equal("2", e:value("n"))
    assert.is_true(status().up)
    assert.equal(1, status().failed.busy)
  end)

  it("is fetched by a requested reload nevertheless", function()
    started { pushes = false, interval_ms = 1000 }
    local source = e:source("net")
    source.retry_ms, source.fetch = 120000, engine.LATER
    e:advance(1100)
    C.scripted_source_finish(source, C.SEGUE_EBUSY)
    source.fetch = engine.OK
    e:step()
    e:deliver("net", "n: 2\n", "r2")
    assert.equal("applied", e:reload_now():outcome())
    assert.equal("2", e:value("n"))
  end)

  it("is neither watched nor polled before the pause has passed", function()
    started { retry_min_ms = 100 }
    e:source("net").retry_ms = 90000
    e:end_watch("net", C.SEGUE_EBUSY)
    e:advance(80000)
    assert.equal(0, engine.count(events(), "net."))
    assert.equal("busy", status().failure)
    e:advance(11000)
    assert.equal(1, engine.count(events(), "net.watch"))
  end)

  it("that requests a pause of weeks gets one of an hour", function()
    started { pushes = false, interval_ms = 1000 }
    local source = e:source("net")
    source.retry_ms, source.fetch = 2 ^ 31, engine.LATER
    e:advance(1100)
    C.scripted_source_finish(source, C.SEGUE_EBUSY)
    source.fetch = engine.OK
    e:step()
    assert.is_true(status().next_ms <= 3600000)
  end)
end)

describe("a watch that its server ends by a time limit", function()
  it("begins again at once, without a failure and without a line in the log", function()
    started { resumes = true }
    for _ = 1, 10 do
      e:advance(60000)
      e:end_watch("net", C.SEGUE_EENDED)
      e:advance(10)
      assert.equal("watching", status().activity)
    end
    local log = events()
    assert.equal(10, engine.count(log, "net.watch r1"))
    assert.equal(0, engine.count(log, "stopped pushing"))
    assert.equal(0, status().watch_failures)
    assert.is_nil(status().failure)
    -- The fetch that looks whether the watch has missed something is not put off by each of them.
    assert.is_true(engine.count(log, "net.fetch") >= 1)
    assert.is_true(engine.count(log, "net.fetch") <= 3)
  end)

  it("is never started in a loop where the server ends each at once", function()
    started { resumes = true, retry_min_ms = 1000, retry_max_ms = 60000 }
    local source, watches = e:source("net"), 0
    for _ = 1, 600 do
      if source.watch_op ~= nil then
        watches = watches + 1
        e:end_watch("net", C.SEGUE_EENDED)
      end
      e:advance(100)
    end
    assert.is_true(watches >= 4 and watches <= 20, tostring(watches))
  end)

  it("is fetched beside its successor unless that one resumes", function()
    started {}
    e:advance(60000)
    events()
    e:end_watch("net", C.SEGUE_EENDED)
    e:advance(10)
    assert.equal(1, engine.count(events(), "net.fetch r1"))
  end)
end)

describe("a watch that resumes", function()
  it("is started with the held revision, and nothing is fetched beside it", function()
    e = engine.new { sources = { { "net", pushes = true, resumes = true } } }
    e:deliver("net", "n: 1\n", "r1")
    e:reload_now()
    e:advance(10000)
    local log = events()
    assert.equal(1, engine.count(log, "net.watch r1"))
    assert.equal(1, engine.count(log, "net.fetch"))
  end)

  it("is fetched beside where nothing is held from which it could resume", function()
    started { resumes = true }
    e:end_watch("net", C.SEGUE_EGONE)
    e:advance(10)
    local log = events()
    assert.equal(1, engine.count(log, "net.watch -"))
    assert.equal(1, engine.count(log, "net.fetch -"))
    assert.equal(1, status().resyncs.gone)
  end)
end)

describe("a watch with an idle limit", function()
  it("is started again after its silence, which is counted and logged", function()
    started { idle_ms = 30000, resumes = true }
    e:advance(23000)
    assert.equal(0, status().restarts)
    e:advance(2000)
    local log = events()
    assert.equal(1, status().restarts)
    assert.equal(1, engine.count(log, "the watch is silent for longer than its idle limit"))
    assert.equal(1, engine.count(log, "net.cancel"))
    assert.equal(1, engine.count(log, "net.watch r1"))
    assert.equal("watching", status().activity)
    assert.equal(1, e:source("net").watching_most)
  end)

  it("lives as long as it emits anything, also that nothing has changed", function()
    started { idle_ms = 30000, resumes = true }
    for i = 1, 20 do
      e:advance(20000)
      emit_alive("r" .. i)
    end
    assert.equal(0, status().restarts)
    assert.equal("r20", status().revision)
    assert.equal(0, engine.count(events(), "net.watch"))
  end)

  it("shows that it lives before anything was delivered, and is not away then", function()
    e = engine.new { sources = { "a.yaml", { "net", pushes = true, optional = true } },
      files = { ["a.yaml"] = "x: 1\n" } }
    e:source("net").fetch = engine.FAIL
    e:reload_now()
    local failures = status().failures
    emit_alive("r1")
    assert.equal(failures, status().failures)
    assert.equal("net is not to be reached", status().error)
  end)

  it("that does not end when it is cancelled leaves the source polled", function()
    started { idle_ms = 30000, resumes = true }
    e:source("net").deaf = true
    e:advance(26000)
    assert.equal(1, status().restarts)
    e:deliver("net", "n: 2\n", "r2")
    e:advance(40000)
    assert.equal("2", e:value("n"))
    assert.equal(1, status().restarts)
    e:end_watch("net", -125)
    e:step()
    assert.equal("watching", status().activity)
    e:source("net").deaf = false
  end)
end)

describe("a fetch that finds what the watch did not push", function()
  it("starts the watch again, counts it and logs it", function()
    started { safety_ms = 60000, resumes = true }
    e:deliver("net", "n: 2\n", "r2")
    e:advance(66000)
    assert.equal("2", e:value("n"))
    e:advance(5100)
    assert.equal(1, status().restarts)
    local log = events()
    assert.equal(1, engine.count(log, "found a change that the watch did not push"))
    assert.equal(1, engine.count(log, "net.watch r2"))
  end)

  it("is no sign where the push of the change comes a moment later", function()
    started { safety_ms = 60000, resumes = true }
    e:deliver("net", "n: 2\n", "r2")
    assert.equal("applied", e:reload_now():outcome())
    e:advance(2000)
    e:emit("net")
    e:advance(60000)
    assert.equal(0, status().restarts)
    assert.equal(0, engine.count(events(), "net.watch"))
  end)

  it("is no sign where the watch had requested the fetch", function()
    started { safety_ms = 60000, resumes = true }
    e:deliver("net", "n: 2\n", "r2")
    e:emit("net", true)
    e:advance(10000)
    assert.equal("2", e:value("n"))
    assert.equal(0, status().restarts)
  end)
end)

describe("the status of a source", function()
  it("counts pushes and keys, and knows how long the last delivery took to be live", function()
    started { resumes = true }
    assert.equal(0, status().events)
    assert.equal(1, status().keys)
    e:deliver("net", "n: 2\nm: 3\n", "r2")
    e:emit("net")
    emit_alive("r2")
    e:advance(50)
    assert.equal(1, status().events)
    assert.equal(2, status().keys)
    assert.equal(50000, status().lag_us)
  end)
end)

describe("the debounce of a source", function()
  it("of 0 begins the reload in the turn of the push", function()
    started { debounce_given = true, debounce_ms = 0 }
    e:deliver("net", "n: 2\n", "r2")
    e:emit("net")
    e:step()
    assert.equal("2", e:value("n"))
  end)

  it("is the pause of that source only", function()
    started { debounce_given = true, debounce_ms = 300 }
    e:deliver("net", "n: 2\n", "r2")
    e:emit("net")
    e:advance(250)
    assert.equal("1", e:value("n"))
    e:advance(60)
    assert.equal("2", e:value("n"))
    e:write("a.yaml", "x: 2\n")
    e:trigger("watch", "a.yaml changed")
    e:advance(60)
    assert.equal("2", e:value("x"))
  end)

  it("of 0 does not cut short the pause of files that are being saved", function()
    started { debounce_given = true, debounce_ms = 0 }
    e:write("a.yaml", "x: 2\n")
    e:trigger("watch", "a.yaml changed")
    e:deliver("net", "n: 2\n", "r2")
    e:emit("net")
    e:advance(40)
    assert.equal("1", e:value("n"))
    e:advance(20)
    assert.equal("2", e:value("n"))
    assert.equal("2", e:value("x"))
  end)
end)
