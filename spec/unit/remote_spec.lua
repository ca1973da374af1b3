-- SPDX-License-Identifier: MIT
-- The life of asynchronous sources under a simulated clock: pulls and back-off, what is
-- held while they are away, and policies that come and go. Pushes: remote_push_spec.lua.
local engine = require "spec.support.engine"
local C = require "spec.support.c"

local e
local function started(spec)
  e = engine.started_with_net(spec)
  return e
end

describe("a source that is pulled", function()
  after_each(function()
    if e then e:close() end
    e = nil
  end)

  it("is fetched at the start and merged in its place", function()
    started()
    assert.equal("1", e:value("n"))
    assert.equal("1", e:value("x"))
    local s = e:source_status("net")
    assert.is_true(s.up)
    assert.equal("r1", s.revision)
    assert.equal("idle", s.activity)
    assert.equal(0, s.next_ms)
  end)

  it("is fetched for every request, and gets the revision that is held", function()
    started()
    e:deliver("net", "n: 2\n", "r2")
    local w = e:reload_now()
    assert.equal("applied", w:outcome())
    assert.equal("2", e:value("n"))
    assert.truthy(e:journal():find("net.fetch r1", 1, true))
    assert.equal("unchanged", e:reload_now():outcome())
    assert.truthy(e:journal():find("net.fetch r2", 1, true))
  end)

  it("is not fetched when a file changed", function()
    started()
    e:deliver("net", "n: 2\n", "r2")
    e:write("a.yaml", "x: 2\n")
    e:trigger("watch", "a.yaml changed")
    e:advance(1000)
    assert.equal("2", e:value("x"))
    assert.equal("1", e:value("n"))
    assert.falsy(e:journal():find("net.fetch", 1, true))
  end)

  it("that has not changed keeps its delivery", function()
    started()
    e:source("net").unchanged = true
    assert.equal("unchanged", e:reload_now():outcome())
    e:write("a.yaml", "x: 2\n")
    assert.equal("applied", e:reload_now():outcome())
    assert.equal("1", e:value("n"))
  end)

  it("that reports no change at first is a failure", function()
    e = engine.new { sources = { { "net" } } }
    e:source("net").unchanged = true
    local w = e:reload_now()
    assert.equal("failed", w:outcome())
    assert.truthy(w:error().message:find("reported no change before its first delivery", 1, true))
    assert.equal("net", w:error().source)
  end)

  it("is polled by its own clock, with jitter, and requests a reload when it changed", function()
    started { sources = { "a.yaml", { "net", interval_ms = 10000 } } }
    local next_ms = e:source_status("net").next_ms
    assert.is_true(next_ms >= 9000 and next_ms <= 11000, tostring(next_ms))
    e:advance(11000)
    local journal = e:journal()
    assert.equal(1, engine.count(journal, "net.fetch r1"))
    assert.falsy(journal:find("collect", 1, true))
    e:deliver("net", "n: 2\n", "r2")
    e:advance(12000)
    assert.equal("2", e:value("n"))
    local stats = C.segue__engine_stats_get(e.c)
    assert.equal(1, tonumber(stats.triggers[5]))
  end)

  it("is fetched once for many requests at a time", function()
    started()
    e:source("net").fetch = engine.LATER
    local a, b = e:reload(), e:reload()
    e:step()
    local late = e:reload()
    e:step()
    assert.is_false(a:answered())
    e:deliver("net", "n: 2\n")
    e:source("net").fetch = engine.OK
    C.scripted_source_finish(e:source("net"), 0)
    e:step()
    assert.equal("applied", a:outcome())
    assert.equal("applied", b:outcome())
    assert.equal("unchanged", late:outcome())
    assert.equal(2, engine.count(e:journal(), "net.fetch"))
  end)

  it("that is broken rejects, and the same bytes are not tried again by themselves", function()
    started { sources = { "a.yaml", { "net", interval_ms = 10000 } } }
    e:deliver("net", "n: [", "r2")
    local w = e:reload_now()
    assert.equal("rejected", w:outcome())
    assert.equal("net", w:error().source)
    local s = e:source_status("net")
    assert.is_false(s.up)
    assert.truthy(s.error)
    e:journal()
    e:advance(60000)
    assert.falsy(e:journal():find("check", 1, true))
    e:deliver("net", "n: 3\n", "r3")
    e:advance(12000)
    assert.equal("3", e:value("n"))
    assert.is_true(e:source_status("net").up)
  end)

  it("that emptied its list of documents is empty, and a guard can hold that", function()
    started()
    e:deliver("net", "")
    assert.equal("applied", e:reload_now():outcome())
    assert.is_nil(e:value("n"))
  end)
end)

describe("a source that is away", function()
  after_each(function()
    if e then e:close() end
    e = nil
  end)

  it("fails the first start if it has no stored delivery, and is retried", function()
    e = engine.new { sources = { "a.yaml", { "net" } } }
    e:source("net").fetch = engine.FAIL
    local w = e:reload_now { trigger = "start" }
    assert.equal("failed", w:outcome())
    assert.equal("net is not to be reached", w:error().message)
    assert.equal("net", w:error().source)
    e:source("net").fetch = engine.OK
    e:deliver("net", "n: 1\n")
    e:advance(2000)
    assert.equal("1", e:value("n"))
  end)

  it("is absent at the first start where it is optional, and is added later", function()
    e = engine.new { sources = { "a.yaml", { "net", optional = true } } }
    e:source("net").fetch = engine.FAIL
    local w = e:reload_now { trigger = "start" }
    assert.equal("applied", w:outcome())
    assert.truthy(w:error().message:find("is optional, and goes without", 1, true))
    assert.equal("1", e:value("x"))
    e:source("net").fetch = engine.OK
    e:deliver("net", "n: 1\n")
    e:advance(70000)
    assert.equal("1", e:value("n"))
  end)

  it("keeps its delivery while the others continue", function()
    started()
    e:source("net").fetch = engine.FAIL
    e:advance(3000)
    e:write("a.yaml", "x: 2\n")
    local w = e:reload_now()
    assert.equal("applied", w:outcome())
    assert.equal("2", e:value("x"))
    assert.equal("1", e:value("n"))
    assert.equal(1, tonumber(w:result().away))
    assert.equal("net is not to be reached; what net delivered 3 s ago is held",
      w:error().message)
    local s = e:source_status("net")
    assert.is_false(s.up)
    assert.is_true(s.held)
    assert.equal(3000, s.stale_ms)
    assert.equal("backing off", s.activity)
    assert.is_true(s.next_ms > 0)
  end)

  it("is fetched again with back-off up to a minute, and logs when it is back", function()
    started()
    e:source("net").fetch = engine.FAIL
    e:reload_now()
    e:journal()
    local pauses = {}
    for _ = 1, 40 do
      local before, pause = e:source_status("net").fetches, e:source_status("net").next_ms
      assert.is_true(pause > 0 and pause <= 60000, tostring(pause))
      pauses[#pauses + 1] = pause
      e:advance(pause)
      assert.equal(before + 1, e:source_status("net").fetches)
    end
    -- each is a random part of a bound that doubles up to a minute
    local short, long = 0, 0
    for i, pause in ipairs(pauses) do
      local bound = math.min(60000, 1000 * 2 ^ (i - 1))
      assert.is_true(pause <= bound, ("pause %d is %d ms"):format(i, pause))
      if bound == 60000 and pause < 15000 then short = short + 1 end
      if bound == 60000 and pause > 36000 then long = long + 1 end
    end
    assert.is_true(short > 0 and long > 0, table.concat(pauses, " "))
    e:source("net").fetch = engine.OK
    e:advance(60000)
    assert.is_true(e:source_status("net").up)
    local journal = e:journal()
    assert.equal(1, engine.count(journal, "the source is back"))
    -- a run reports to all sources that no document is held any more
    assert.truthy(journal:find("settled unchanged", 1, true))
  end)

  it("has pauses of its own if the policy sets them", function()
    started { sources = { "a.yaml", { "net", retry_min_ms = 100, retry_max_ms = 200 } } }
    e:source("net").fetch = engine.FAIL
    e:reload_now()
    for _ = 1, 10 do
      local pause = e:source_status("net").next_ms
      assert.is_true(pause > 0 and pause <= 200)
      e:advance(pause)
    end
  end)

  it("that never answers uses a part of the time for collecting, not all of it", function()
    started { set = { collect_ms = 4000 } }
    e:source("net").fetch = engine.LATER
    e:write("a.yaml", "x: 2\n")
    local w = e:reload_now()
    e:advance(2999)
    assert.is_false(w:answered())
    e:advance(1)
    assert.equal("applied", w:outcome())
    assert.equal("net was not fetched within 3000 ms; what net delivered 3 s ago is held",
      w:error().message)
    assert.truthy(e:journal():find("net.fetch_cancel", 1, true))
  end)

  it("and unresponsive is abandoned, and refused once too many calls are stuck", function()
    started { set = { collect_ms = 400 } }
    local s = e:source("net")
    s.fetch, s.deaf = engine.LATER, true
    for _ = 1, 4 do
      local w = e:reload_now()
      e:advance(300)
      assert.equal("unchanged", w:outcome())
    end
    local w = e:reload_now()
    assert.truthy(w:error().message:find("4 earlier fetches have not come back", 1, true))
    C.scripted_source_finish(s, 0)
    s.fetch = engine.OK
    e:step()
    assert.equal("unchanged", e:reload_now():outcome())
    assert.is_true(e:source_status("net").up)
  end)

  it("does no harm if it answers twice", function()
    started()
    e:source("net").fetch = engine.TWICE
    e:deliver("net", "n: 2\n")
    assert.equal("applied", e:reload_now():outcome())
    assert.is_true(e:source_status("net").up)
  end)
end)

describe("a policy that changes", function()
  after_each(function()
    if e then e:close() end
    e = nil
  end)

  it("moves a watch, keeps the delivery, and leaves no gap", function()
    started { net = { pushes = true } }
    local s = e:source("net")
    e:set_policy { sources = { "a.yaml", { "net", pushes = true } } }
    assert.equal("applied", e:reload_now():outcome())
    e:step()
    assert.equal(1, s.watching)
    assert.equal(1, s.watching_most)
    local journal = e:journal()
    assert.truthy(journal:find("net.cancel\nnet.watch r1", 1, true), journal)
    assert.truthy(journal:match("net.watch r1.*net.fetch r1"), journal)
    e:deliver("net", "n: 5\n")
    e:emit("net")
    e:advance(100)
    assert.equal("5", e:value("n"))
  end)

  it("that is refused does not change the watch and the delivery", function()
    started { net = { pushes = true } }
    e:advance(6000)
    e:journal()
    e:set_policy { sources = { "a.yaml", { "net", pushes = true, spec = 2 } },
      check = engine.FAIL }
    assert.equal("rejected", e:reload_now():outcome())
    assert.falsy(e:journal():find("net.cancel", 1, true))
    assert.equal(2, tonumber(C.segue__engine_source_count(e.c)))
    assert.equal("watching", e:source_status("net").activity)
  end)

  it("that is refused leaves none of its deliveries, with the same sources", function()
    started()
    e:deliver("net", "n: 2\n", "r2")
    e:set_policy { sources = { "a.yaml", { "net" } }, check = engine.FAIL }
    assert.equal("rejected", e:reload_now():outcome())
    assert.equal("r1", e:source_status("net").revision)
    e:set_policy { sources = { "a.yaml", { "net" } } }
    e:trigger("watch", "reload.lua changed")
    e:advance(100)
    assert.truthy(e:journal():find("settled applied", 1, true))
    assert.equal("1", e:value("n"))
    assert.equal("r1", e:source_status("net").revision)
    assert.equal("applied", e:reload_now():outcome())
    assert.equal("2", e:value("n"))
  end)

  it("never uses the delivery of one source for another", function()
    started()
    e:source("net").fetch = engine.FAIL
    e:set_policy { sources = { "a.yaml", { "net", spec = 2 } } }
    assert.equal("failed", e:reload_now():outcome())
    assert.equal("1", e:value("n"))
    e:set_policy { sources = { "a.yaml", { "net", spec = 1, interval_ms = 5000 } } }
    assert.equal("applied", e:reload_now():outcome())
    assert.is_true(e:source_status("net").held)
  end)

  it("removes a source with its clock and its watch", function()
    started { net = { pushes = true } }
    e:set_policy { sources = { "a.yaml" } }
    assert.equal("applied", e:reload_now():outcome())
    assert.is_nil(e:source_status("net"))
    assert.equal(0, e:source("net").watching)
    e:journal()
    e:advance(600000)
    assert.falsy(e:journal():find("net", 1, true))
  end)

  it("is validated before one of its sources is fetched", function()
    started()
    e:journal()
    e:set_policy { sources = { "a.yaml", { "net", spec = 2 } } }
    e:reload_now()
    assert.equal(1, engine.count(e:journal(), "net.fetch"))
  end)
end)

describe("stopping", function()
  it("waits for a source that ends its operations a moment after the cancel", function()
    e = engine.new { sources = { { "net", pushes = true } } }
    e:deliver("net", "n: 1\n")
    e:reload_now()
    e:source("net").deaf = true
    local stopped = e:stop()
    e:step()
    e:advance(1500)
    assert.is_false(stopped[0])
    C.scripted_source_end_watch(e:source("net"), C.SEGUE_ECANCELLED)
    e:step()
    assert.is_true(stopped[0])
    e:close()
    e = nil
  end)

  it("abandons a source that does not end", function()
    e = engine.new { sources = { { "net", pushes = true } } }
    e:deliver("net", "n: 1\n")
    e:reload_now()
    e:source("net").deaf = true
    local stopped = e:stop()
    e:step()
    assert.is_false(stopped[0])
    e:advance(2100)
    assert.is_true(stopped[0])
    e:close(true)
    e = nil
  end)

  it("ends watches and fetches, also those that ignore a cancel", function()
    e = engine.new { sources = { { "net", pushes = true } } }
    e:deliver("net", "n: 1\n")
    e:reload_now()
    e:source("net").fetch = engine.LATER
    e:reload_now()
    e:close()
    e = nil
  end)

  it("in the middle of the first fetch answers the waiters", function()
    e = engine.new { sources = { { "net" } } }
    e:source("net").fetch = engine.LATER
    local w = e:reload_now()
    local stopped = C.new("bool[1]")
    C.scripted_engine_stop(e.c, stopped)
    e:step()
    assert.equal("failed", w:outcome())
    e:close()
    e = nil
  end)
end)

describe("memory that runs out", function()
  it("anywhere in the life of a source is an error and leaves nothing behind", function()
    for at = 1, 120 do
      e = engine.new { sources = { "a.yaml", { "net", pushes = true } } }
      e:deliver("net", "n: 1\n", "r1")
      e:reload_now { trigger = "start" }
      e:deliver("net", "n: 2\n", "r2")
      C.segue__mem_fail_at(at)
      e:emit("net")
      e:trigger("poll", "poll")
      e:advance(100)
      e:end_watch("net", 0)
      e:advance(5000)
      C.segue__mem_fail_at(0)
      e:advance(700000)
      assert.equal("2", e:value("n"), "allocation " .. at .. ": " .. e:journal())
      assert.equal("watching", e:source_status("net").activity)
      e:close()
      e = nil
    end
  end)
end)
