-- SPDX-License-Identifier: MIT
-- Transactions that plan, and transactions with a changed policy.
local C = require "spec.support.c"
local engine = require "spec.support.engine"

describe("a transaction", function()
  local e
  after_each(function()
    if e then e:close() end
    e = nil
  end)

  describe("with a changed policy", function()
    it("loads it and uses the new one for checks", function()
      e = engine.started { check = engine.OK }
      local old = e.hooks
      e:set_policy { check = engine.FAIL }
      local w = e:reload()
      e:step()
      assert.equal("rejected", w:outcome())
      assert.equal(0, old.freed)
      assert.equal(1, e.hooks.freed + 0 + (e.loader.next ~= nil and 1 or 0))
      e:set_policy { check = engine.OK }
      local good = e:reload()
      e:step()
      assert.equal("applied", good:outcome())
      assert.equal(1, old.freed)
      assert.equal(2, e.triggers.stages)
      assert.equal(2, e.triggers.settles)
    end)

    it("keeps the old one when the new cannot be loaded", function()
      e = engine.started {}
      e:write("reload.lua", "-- broken")
      require("ffi").copy(e.loader.message, "unexpected symbol near 'x'")
      local w = e:reload()
      e:step()
      assert.equal("rejected", w:outcome())
      assert.equal("reload.lua:1: unexpected symbol near 'x'", w:error().text)
      assert.equal(1, w:generation())
    end)

    it("fails when its triggers cannot be set up, and undoes", function()
      e = engine.started { modules = { { "m" } } }
      e:set_policy { modules = { { "m" } } }
      e.triggers.fail = true
      local w = e:change()
      assert.equal("failed", w:outcome())
      assert.equal("127.0.0.1:1 is in use", w:error().message)
      assert.equal(0, e.triggers.discards)
      e.triggers.fail = false
      e:behave("m", "prepare", engine.FAIL)
      e:set_policy { modules = { { "m" } } }
      assert.equal("failed", e:change():outcome())
      assert.equal(1, e.triggers.discards)
    end)

    it("refuses modules that need each other in a circle, or a missing module", function()
      e = engine.started {}
      e:set_policy { modules = { { "a", "swap", needs = { "b" } }, { "b", "swap", needs = { "a" } },
                                 { "c", "swap", needs = { "nobody" } } } }
      local w = e:reload()
      e:step()
      assert.equal("rejected", w:outcome())
      assert.truthy(w:error().message:find("module 'c' needs 'nobody'", 1, true))
      e:set_policy { modules = { { "a", "swap", needs = { "b" } },
        { "b", "swap", needs = { "a" } } } }
      local circle = e:reload()
      e:step()
      assert.truthy(circle:error().message:find("break the circle", 1, true))
    end)
  end)

  describe("planning", function()
    it("plans only modules with a changed slice, in the order of needs", function()
      e = engine.started {
        files = { ["a.yaml"] = "log: {level: info}\nbid: {timeout: 5}\n" },
        modules = { { "bid", "handover", config = "bid", needs = { "log" } },
                    { "log", "swap", config = "log" } } }
      e:write("a.yaml", "log: {level: info}\nbid: {timeout: 6}\n")
      local w = e:reload { plan = true }
      e:step()
      assert.equal("log=keep bid=handover", w:plan())
      assert.equal("bid.timeout changed", w:why(1))
      assert.equal("1", tostring(e:generation()))
      local done = e:reload()
      e:step()
      assert.equal(w:plan(), done:plan())
      assert.equal(2, done:generation())
    end)

    it("prepares the modules of its plan, and frees them again", function()
      e = engine.started { modules = { { "m" }, { "n", config = "n" } } }
      e:write("a.yaml", "x: 2")
      local w = e:reload { plan = true }
      e:step()
      assert.equal("applied", w:outcome())
      assert.equal("m=handover n=keep", w:plan())
      assert.equal("start m", w:untried())
      local behaviours = e:journal():gsub("#[^\n]+\n", "")
      assert.equal("m.prepare 2\nm.destroy 2\n", behaviours)
      assert.equal("1", e:value("x"))
      assert.equal(1, e:status("m").generation)
      assert.equal("m=open n=open", e:gates())
      assert.equal(2, tonumber(e.world.instances))
    end)

    it("prepares nothing for a client that may only read", function()
      e = engine.started { modules = { { "m" } } }
      e:write("a.yaml", "x: 2")
      local w = e:reload { plan = "look" }
      e:step()
      assert.equal("m=handover", w:plan())
      assert.falsy(e:journal():find("m.prepare", 1, true))
    end)

    it("ends as the reload does where a module does not prepare", function()
      for _, behaviour in ipairs { engine.FAIL, engine.REFUSE } do
        e = engine.started { modules = { { "a" }, { "m" } } }
        e:write("a.yaml", "x: 2")
        e:behave("m", "prepare", behaviour)
        local plan, reload = e:reload { plan = true }, e:reload()
        e:step()
        assert.equal(behaviour == engine.FAIL and "failed" or "rejected", plan:outcome())
        assert.equal(reload:outcome(), plan:outcome())
        assert.equal(reload:error().text, plan:error().text)
        assert.equal("", plan:untried())
        assert.equal(2, tonumber(e.world.instances))
        e:close()
        e = nil
      end
    end)

    it("lists every step that it leaves out", function()
      e = engine.started { modules = { { "a", config = "x" }, { "b", "restart" }, { "c" } } }
      e:set_policy { reload = "prepare commit confirm", probe = engine.OK,
        modules = { { "a", config = "x" }, { "b", "restart" }, { "d" } } }
      e:write("a.yaml", "x: 1\ny: 1\n")
      local w = e:reload { plan = true }
      e:step()
      assert.equal("run the policy's reload; restart b; start d; stop c; confirm by the probe",
        w:untried())
      assert.falsy(e:journal():find("script", 1, true))
      assert.equal(1, e.triggers.stages) -- by the start
    end)

    it("leaves the retry of a failed reload that falls due meanwhile", function()
      e = engine.started { check = engine.OK }
      e:remove("a.yaml")
      local failed = e:reload()
      e:step()
      assert.equal("failed", failed:outcome())
      e:write("a.yaml", "x: 2")
      e.hooks.check = engine.LATER
      local plan = e:reload { plan = "look" }
      e:advance(4000)
      assert.is_false(plan:answered())
      e.hooks.check = engine.OK
      C.scripted_hooks_finish(e.hooks)
      e:step()
      assert.is_true(plan:answered())
      assert.equal("1", e:value("x"))
      e:advance(2000)
      assert.equal("2", e:value("x"))
    end)

    it("ends while the engine stops", function()
      e = engine.started { modules = { { "m" } } }
      e:behave("m", "prepare", engine.LATER)
      e:write("a.yaml", "x: 2")
      local w = e:reload { plan = true }
      e:step()
      assert.equal("nothing yet", w:outcome())
      local stopped = e:stop()
      e:step()
      C.scripted_finish(e:module("m"), engine.verbs.prepare, 0)
      e:step()
      assert.is_true(w:answered())
      assert.is_true(stopped[0])
    end)

    it("adds and removes modules", function()
      e = engine.started { modules = { { "a" }, { "b" } } }
      e:set_policy { modules = { { "b" }, { "c" } } }
      local w = e:reload()
      e:step()
      assert.equal("applied", w:outcome())
      assert.equal("b=keep c=add a=remove", w:plan())
      e:step()
      assert.equal("b=open c=open", e:gates())
      local journal = e:journal()
      assert.truthy(journal:find("a%.drain 1.*a%.stop 1.*a%.destroy 1"), journal)
    end)
  end)
end)
