-- SPDX-License-Identifier: MIT
-- The reload queue after a generation was reverted: inputs that run again, and inputs that do not.
local engine = require "spec.support.engine"
local tempdir = require "spec.support.tempdir"

describe("the reload queue", function()
  local e
  after_each(function()
    if e then e:close() end
    e = nil
    tempdir.remove_all()
  end)

  describe("when a generation is reverted", function()
    -- The watch makes x = 2 live, and its probe refuses it.
    local function on_trial(spec)
      spec = spec or {}
      e = engine.started { check = engine.OK }
      spec.probe, spec.set = engine.FAIL, { confirm_within_ms = 2000 }
      e:set_policy(spec)
      e:write("a.yaml", "x: 2")
      e:trigger("watch", "a.yaml changed")
      e:advance(500)
      assert.equal("2", e:value("x"))
    end

    local function probes() return select(2, e:journal():gsub("probe\n", "")) end

    it("answers waiters for the same input with that outcome, and tries it once", function()
      on_trial()
      local waited, plan = e:reload(), e:reload { plan = true }
      e:advance(1600)
      assert.equal("1", e:value("x"))
      probes()
      e:advance(5000)
      assert.equal("reverted", waited:outcome())
      assert.matches("^reload 2 made generation 2 of the present sources, and it was reverted: it "
        .. "goes live when they change, or by a reload with force$", waited:error(0).message)
      assert.matches("was not healthy within 2000 ms: probe says no", waited:error(1).message)
      assert.equal("reverted", plan:outcome())
      assert.equal(0, probes())
      assert.equal("1", e:value("x"))
    end)

    it("tries another input, and the same one again once that was applied", function()
      on_trial()
      e:write("a.yaml", "x: 3")
      local w = e:reload()
      e:advance(1500)
      e.hooks.probe = engine.OK
      e:advance(3000)
      assert.equal("applied", w:outcome())
      assert.equal("3", e:value("x"))
      e:write("a.yaml", "x: 2")
      w = e:reload()
      e:advance(1000)
      assert.equal("applied", w:outcome())
    end)

    it("tries it again when forced", function()
      on_trial()
      e:advance(2000)
      local w = e:reload { force = true }
      e:advance(500)
      assert.equal("2", e:value("x"))
      e:advance(2000)
      assert.equal("reverted", w:outcome())
    end)

    it("tries again an input that failed before it was live", function()
      e = engine.started { modules = { { "m" } } }
      e:behave("m", "start", engine.FAIL_ONCE)
      e:write("a.yaml", "x: 2")
      local first = e:reload()
      e:step()
      assert.equal("reverted", first:outcome())
      local second = e:reload()
      e:step()
      assert.equal("applied", second:outcome())
    end)

    it("tries the first one again, because there is no other", function()
      e = engine.new { probe = engine.FAIL, set = { confirm_within_ms = 500 } }
      local w = e:reload { trigger = "start" }
      e:advance(500)
      assert.equal("reverted", w:outcome())
      e.hooks.probe = engine.OK
      w = e:reload()
      e:advance(500)
      assert.equal("applied", w:outcome())
    end)
  end)
end)
