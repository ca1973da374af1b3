-- SPDX-License-Identifier: MIT
-- The reload queue: the requests of a run, its waiters, the rate limit, retries, and the strategy.
-- After a generation was reverted: queue_reverted_spec.lua.
local C = require "spec.support.c"
local engine = require "spec.support.engine"
local tempdir = require "spec.support.tempdir"

describe("the reload queue", function()
  local e
  after_each(function()
    if e then e:close() end
    e = nil
    tempdir.remove_all()
  end)

  it("loads the first generation and answers the waiters", function()
    e = engine.new {}
    local w = e:reload { trigger = "start", cause = "start" }
    assert.is_false(w:answered())
    e:step()
    assert.equal("applied", w:outcome())
    assert.equal(1, w:generation())
    assert.equal("1", e:value("x"))
  end)

  it("never answers before the request returned, and answers once", function()
    e = engine.started {}
    local w = e:reload()
    assert.equal(0, w.c.calls)
    e:step()
    e:advance(100000)
    assert.equal(1, w.c.calls)
  end)

  it("answers unchanged when nothing changed, and runs all steps when forced", function()
    e = engine.started { modules = { { "m", "handover" } } }
    local a = e:reload()
    e:step()
    assert.equal("unchanged", a:outcome())
    local b = e:reload { force = true }
    e:step()
    assert.equal("applied", b:outcome())
    assert.equal("m=handover", b:plan())
    assert.equal("forced", b:why())
    assert.equal(2, b:generation())
  end)

  it("does not keep looks that found nothing among the last results", function()
    e = engine.started {}
    for _ = 1, 3 do
      e:trigger("poll", "poll")
      e:advance(100)
    end
    assert.equal(1, tonumber(C.segue__engine_result_count(e.c)))
    e:reload()
    e:step()
    assert.equal(2, tonumber(C.segue__engine_result_count(e.c)))
  end)

  describe("without memory for a run", function()
    local function lose(kind)
      C.segue__mem_fail_burst(1, 1)
      assert.equal("ENOMEM", C.name(e:trigger(kind, kind)))
    end

    it("starts it a second later, for all triggers meanwhile", function()
      e = engine.started {}
      e:write("a.yaml", "x: 2")
      lose "watch"
      lose "signal"
      lose "poll"
      e:advance(500)
      assert.equal("1", e:value("x"))
      e:journal()
      e:advance(2000)
      assert.equal("2", e:value("x"))
      assert.truthy(e:journal():find("settled applied", 1, true))
      e:write("a.yaml", "x: 3")
      e:advance(60000)
      assert.equal("2", e:value("x"))
    end)

    it("starts none for a client or a host, which got the error", function()
      e = engine.started {}
      e:write("a.yaml", "x: 2")
      lose "http"
      lose "control"
      e:advance(60000)
      assert.equal("1", e:value("x"))
    end)

    it("starts it with the next trigger", function()
      e = engine.started {}
      e:write("a.yaml", "x: 2")
      lose "signal"
      local w = e:reload()
      e:step()
      assert.equal("applied", w:outcome())
      assert.equal("http, signal", require("ffi").string(w:result().cause))
    end)

    it("starts it after a replay that came in between", function()
      e = engine.started { state = tempdir.new().path }
      e:write("a.yaml", "x: 2")
      lose "watch"
      e:replay_last_good()
      e:step()
      assert.equal("1", e:value("x"))
      e:advance(3000)
      assert.equal("2", e:value("x"))
    end)
  end)

  it("treats a changed comment as no change", function()
    e = engine.started {}
    e:write("a.yaml", "# a comment\nx: 1\n")
    local w = e:reload()
    e:step()
    assert.equal("unchanged", w:outcome())
  end)

  it("treats a change that a later file hides as a change, because a hook may pass files on",
    function()
      e = engine.started { files = { ["a.yaml"] = "x: [1]\ny: 1", ["b.yaml"] = "x: [2]" },
        sources = { "a.yaml", "b.yaml" } }
      e:write("a.yaml", "x: [3]\ny: 1")
      local w = e:reload()
      e:step()
      assert.equal("applied", w:outcome())
      assert.equal(2, w:generation())
      e:write("a.yaml", "# a comment\ny: 1\nx: [3]")
      w = e:reload()
      e:step()
      assert.equal("unchanged", w:outcome())
    end)

  it("waits for quiet after automatic triggers", function()
    e = engine.started { set = { debounce_min_ms = 50, debounce_max_ms = 1000 } }
    e:write("a.yaml", "x: 2")
    e:trigger("watch", "a.yaml changed")
    for _ = 1, 5 do
      e:advance(40)
      assert.equal("1", e:value("x"))
      e:trigger("watch", "a.yaml changed")
    end
    e:advance(49)
    assert.equal("1", e:value("x"))
    e:advance(1)
    assert.equal("2", e:value("x"))
  end)

  it("does not wait for quiet longer than the maximum", function()
    e = engine.started { set = { debounce_min_ms = 50, debounce_max_ms = 200 } }
    e:write("a.yaml", "x: 2")
    e:trigger("watch", "a.yaml changed")
    for _ = 1, 4 do
      e:advance(49)
      e:trigger("watch", "a.yaml changed")
    end
    assert.equal("1", e:value("x"))
    e:advance(4)
    assert.equal("2", e:value("x"))
  end)

  it("starts at once for a request and includes pending triggers", function()
    e = engine.started {}
    e:write("a.yaml", "x: 2")
    e:trigger("watch", "a.yaml changed")
    local w = e:reload { cause = "POST" }
    e:step()
    assert.equal("applied", w:outcome())
    assert.equal("a.yaml changed, POST", require("ffi").string(w:result().cause))
    e:journal()
    e:advance(5000)
    assert.equal("", e:journal())
  end)

  it("coalesces triggers during a run into exactly one more that starts after it", function()
    e = engine.started { modules = { { "m", "handover" } } }
    e:behave("m", "prepare", engine.LATER)
    e:write("a.yaml", "x: 2")
    local first = e:reload()
    e:step()
    e:write("a.yaml", "x: 3")
    local late = {}
    for i = 1, 10 do late[i] = e:reload { force = i == 5 } end
    e:trigger("watch", "a.yaml changed")
    e:step()
    assert.is_false(first:answered())
    e:behave("m", "prepare", engine.OK)
    e:finish("m", "prepare")
    e:step()
    assert.equal("applied", first:outcome())
    assert.equal(2, first:generation())
    for _, w in ipairs(late) do
      assert.equal("applied", w:outcome())
      assert.equal(3, w:generation())
      assert.equal(tonumber(late[1]:result().id), tonumber(w:result().id))
    end
    e:journal()
    e:advance(10000)
    assert.equal("", e:journal())
  end)

  it("postpones by the rate limit, reports that, and does not drop", function()
    e = engine.started { set = { min_interval_ms = 10000 } }
    e:write("a.yaml", "x: 2")
    local w = e:reload()
    e:step()
    assert.equal("SEGUE_EDEFERRED", w:outcome())
    assert.equal("1", e:value("x"))
    e:advance(9998)
    assert.equal("1", e:value("x"))
    e:advance(10)
    assert.equal("2", e:value("x"))
  end)

  it("answers a waiter whose If-Match failed, and runs for the others", function()
    e = engine.started {}
    e:write("a.yaml", "x: 2")
    local wrong, right = e:reload { if_match = "7" }, e:reload { if_match = '"1"' }
    e:step()
    assert.equal("SEGUE_ECONFLICT", wrong:outcome())
    assert.equal("applied", right:outcome())
    local alone = e:reload { if_match = "1" }
    e:write("a.yaml", "x: 3")
    e:step()
    assert.equal("SEGUE_ECONFLICT", alone:outcome())
    assert.equal("2", e:value("x"))
  end)

  it("accepts the hash of the live configuration as If-Match", function()
    e = engine.started {}
    local hash = require("ffi").string(e.waiters[1]:result().hash)
    e:write("a.yaml", "x: 2")
    local w = e:reload { if_match = '"' .. hash .. '"' }
    e:step()
    assert.equal("applied", w:outcome())
  end)

  it("forgets a waiter that left", function()
    e = engine.started {}
    e:write("a.yaml", "x: 2")
    local w = e:reload()
    e:forget(w)
    e:step()
    assert.is_false(w:answered())
    assert.equal("2", e:value("x"))
  end)

  it("answers a waiter that joins after the last one has left", function()
    e = engine.started {}
    local first, last = e:reload(), e:reload()
    e:forget(last)
    local joined = e:reload()
    e:step()
    assert.is_true(first:answered())
    assert.is_true(joined:answered())
    assert.is_false(last:answered())
  end)

  it("skips an automatic run of an input that was reverted, until it changes", function()
    e = engine.started {}
    e:set_policy { probe = engine.FAIL, set = { confirm_within_ms = 500 } }
    e:write("a.yaml", "x: 2")
    e:trigger("watch", "a.yaml changed")
    e:advance(1000)
    assert.truthy(e:journal():find("settled reverted\n", 1, true))
    assert.equal("1", e:value("x"))
    for _ = 1, 2 do
      e:trigger("watch", "a.yaml changed")
      e:advance(1000)
      local journal = e:journal()
      assert.truthy(journal:find("settled reverted skipped", 1, true), journal)
      assert.falsy(journal:find("probe\n", 1, true), journal)
      assert.equal("1", e:value("x"))
    end
    -- a request gets that outcome, and a forced one a run
    e.hooks.probe = engine.OK
    local reported = e:reload()
    e:advance(1000)
    assert.equal("reverted", reported:outcome())
    assert.falsy(e:journal():find("probe\n", 1, true))
    local w = e:reload { force = true }
    e:advance(1000)
    assert.equal("applied", w:outcome())
    assert.equal("2", e:value("x"))
    -- and a changed input another one
    e.hooks.probe = engine.FAIL
    e:write("a.yaml", "x: 3")
    e:trigger("watch", "a.yaml changed")
    e:advance(1000)
    assert.truthy(e:journal():find("settled reverted\n", 1, true))
  end)

  it("skips an automatic run of an input that was rejected, until it changes", function()
    e = engine.started { check = engine.OK }
    e.hooks.check = engine.FAIL
    e:write("a.yaml", "x: 2")
    e:trigger("watch", "a.yaml changed")
    e:advance(100)
    assert.truthy(e:journal():find("settled rejected\n", 1, true))
    e:trigger("poll", "poll")
    e:advance(100)
    local journal = e:journal()
    assert.truthy(journal:find("settled rejected skipped", 1, true))
    assert.falsy(journal:find("check 2", 1, true))
    -- who asks by name gets a real run
    local w = e:reload()
    e:step()
    assert.equal("rejected", w:outcome())
    assert.truthy(e:journal():find("check 2", 1, true))
    -- and so does a changed input
    e.hooks.check = engine.OK
    e:write("a.yaml", "x: 3")
    e:trigger("watch", "a.yaml changed")
    e:advance(100)
    assert.equal("3", e:value("x"))
  end)

  it("tries a failed one again with growing pauses until it succeeds", function()
    e = engine.started {}
    e:remove("a.yaml")
    local w = e:reload()
    e:step()
    assert.equal("failed", w:outcome())
    e:journal()
    e:advance(1000)
    assert.truthy(e:journal():find("settled failed", 1, true))
    e:advance(700)
    assert.equal("", e:journal())
    e:write("a.yaml", "x: 2")
    e:advance(2000)
    assert.equal("2", e:value("x"))
    e:journal()
    e:advance(300000)
    assert.equal("", e:journal())
  end)

  it("stops: answers the waiters, ends the run, then stops the modules in reverse order", function()
    e = engine.started { modules = { { "a" }, { "b", "handover", needs = { "a" } } } }
    e:behave("b", "prepare", engine.LATER)
    e:write("a.yaml", "x: 2")
    local running = e:reload()
    e:step()
    local waiting = e:reload()
    local ffi = require "ffi"
    local stopped = ffi.new("bool[1]")
    e:journal()
    C.scripted_engine_stop(e.c, stopped)
    assert.equal("SEGUE_ECLOSED", waiting:outcome())
    e:step()
    assert.is_false(stopped[0])
    e:finish("b", "prepare")
    e:step()
    assert.equal("failed", running:outcome())
    assert.is_true(stopped[0])
    local journal = e:journal()
    local b, a = journal:find("b.stop 1", 1, true), journal:find("a.stop 1", 1, true)
    assert.truthy(a and b and b < a, journal)
    assert.equal("SEGUE_ECLOSED", C.name(e:trigger("http", "late")))
  end)

  describe("calling the strategy", function()
    local function asked(journal)
      local list = {}
      for line in journal:gmatch("strategy [^\n]+") do list[#list + 1] = line end
      return list
    end

    it("happens when a source is new and whenever its health changes", function()
      e = engine.new { strategy = engine.OK, files = { ["a.yaml"] = "x: 1", ["b.yaml"] = "y: 1" },
                       sources = { "a.yaml", "b.yaml" } }
      e:reload { trigger = "start" }
      e:step()
      assert.same({ "strategy a.yaml 0", "strategy b.yaml 0" }, asked(e:journal()))
      e:reload { force = true }
      e:step()
      assert.same({}, asked(e:journal()))
      e:remove("b.yaml")
      e:reload()
      e:step()
      assert.same({ "strategy b.yaml 1" }, asked(e:journal()))
      e:write("b.yaml", "y: 2")
      e:reload()
      e:step()
      local journal = e:journal()
      assert.same({ "strategy b.yaml 0" }, asked(journal))
      assert.truthy(journal:find("cannot push: it is pulled", 1, true))
    end)

    it("happens again for a new policy", function()
      e = engine.started { strategy = engine.OK }
      e:set_policy { strategy = engine.OK }
      e:reload()
      e:step()
      assert.same({ "strategy a.yaml 0" }, asked(e:journal()))
    end)

    it("does not stop the engine when the hook fails or hangs", function()
      e = engine.started {}
      e:set_policy { strategy = engine.FAIL }
      e:reload()
      e:step()
      assert.truthy(e:journal():find("the strategy hook failed", 1, true))
      e:set_policy { strategy = engine.LATER }
      e:write("a.yaml", "x: 2")
      local w = e:reload()
      e:step()
      assert.equal("applied", w:outcome())
      e:advance(5000)
      assert.truthy(e:journal():find("the strategy hook failed", 1, true))
      require("spec.support.c").scripted_hooks_finish(e.hooks)
      e:step()
    end)
  end)

  it("lets the policy postpone a run, and runs it later", function()
    e = engine.started {}
    e:set_policy { reload = "defer", defer_ms = 300000 }
    local w = e:reload()
    e:step()
    assert.equal("SEGUE_EDEFERRED", w:outcome())
    assert.truthy(e:journal():find("settled unchanged deferred", 1, true))
    e:advance(299000)
    assert.equal("", e:journal())
    e:set_policy { reload = "prepare commit confirm" }
    e:advance(2000)
    assert.truthy(e:journal():find("settled applied", 1, true))
  end)
end)
