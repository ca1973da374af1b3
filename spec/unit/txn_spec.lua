-- SPDX-License-Identifier: MIT
local C = require "spec.support.c"
local engine = require "spec.support.engine"
local replaces = { "swap", "handover", "restart" }

-- Arms one fault point; what was reached before does not count.
local function arm(point)
  C.segue__fault_arm(nil)
  C.segue__fault_arm(point .. "=fail")
end

describe("a transaction", function()
  local e
  after_each(function()
    if e then e:close() end
    e = nil
  end)

  local function change(options)
    e.version_x = (e.version_x or 1) + 1
    e:write("a.yaml", "x: " .. e.version_x)
    local w = e:reload(options)
    e:step()
    return w
  end

  it("runs its phases in order", function()
    e = engine.started { check = engine.OK, modules = { { "m" } } }
    change()
    assert.equal("#2 collect\n#2 check\ncheck 2 1\n#2 plan\n#2 prepare\nm.prepare 2\n"
      .. "#2 commit\nm.start 2\n#2 confirm\n#2 settled applied\nm.drain 1\nm.stop 1\nm.destroy 1\n",
      (e:journal():gsub("m%.drain 1\n#2 settled applied\n", "#2 settled applied\nm.drain 1\n")))
  end)

  describe("that is refused before anything happens", function()
    for name, case in pairs {
      ["broken syntax"] = { text = "x: [1", outcome = "rejected", code = "SEGUE_ESYNTAX" },
      ["an empty file"] = { text = "", outcome = "rejected", code = "SEGUE_EEMPTY" },
      ["a list at the top"] = { text = "- 1", outcome = "rejected", code = "SEGUE_ETYPE" },
    } do
      it("names " .. name .. " and its place", function()
        e = engine.started { modules = { { "m" } } }
        e:write("a.yaml", case.text)
        local w = e:reload()
        e:step()
        assert.equal(case.outcome, w:outcome())
        assert.equal(case.code, w:error().name)
        assert.equal("a.yaml", w:error().file)
        assert.equal("1", e:value("x"))
        assert.falsy(e:journal():find("m.prepare 2", 1, true))
        assert.equal(1, w:generation())
      end)
    end

    it("reports all broken documents, not only the first", function()
      e = engine.new { files = { ["a.yaml"] = "x: [", ["b.yaml"] = "y: [" },
                       sources = { "a.yaml", "b.yaml" } }
      local w = e:reload { trigger = "start" }
      e:step()
      assert.equal("rejected", w:outcome())
      assert.equal("a.yaml", w:error(0).file)
      assert.equal("b.yaml", w:error(1).file)
    end)

    it("treats a missing file as a failure from outside", function()
      e = engine.started {}
      e:remove("a.yaml")
      local w = e:reload()
      e:step()
      assert.equal("failed", w:outcome())
      assert.equal("ENOENT", w:error().name)
    end)

    it("retries a failure from outside, also if the first retry finds no memory", function()
      e = engine.started {}
      e:remove("a.yaml")
      local w = e:reload()
      e:step()
      assert.equal("failed", w:outcome())
      e:write("a.yaml", "x: 2")
      C.segue__mem_fail_burst(1, 1)
      e:advance(1100)
      assert.equal("1", e:value("x"))
      e:advance(2000)
      assert.equal("2", e:value("x"))
    end)

    it("is rejected by a veto", function()
      e = engine.started { check = engine.OK }
      e.hooks.check = engine.FAIL
      local w = change()
      assert.equal("rejected", w:outcome())
      assert.equal("SEGUE_EVETO", w:error().name)
      assert.equal("check says no", w:error().message)
    end)

    it("rejects when check has a bug or runs out of time", function()
      e = engine.started { check = engine.OK, check_code = C.SEGUE_EPOLICY }
      e.hooks.check = engine.FAIL
      assert.equal("rejected", change():outcome())
      e.hooks.check = engine.LATER
      local w = change()
      assert.is_false(w:answered())
      e:advance(5000)
      assert.equal("rejected", w:outcome())
      assert.equal("SEGUE_ETIMEOUT", w:error().name)
      C.scripted_hooks_finish(e.hooks) -- late: ignored, but the hook is freed
      e:step()
      e.hooks.check = engine.OK
      assert.equal("applied", change():outcome())
    end)

    it("reports a collect that hangs, and continues without it", function()
      e = engine.started { set = { collect_ms = 300 } }
      C.segue__loop_hold_jobs(e.loop, true) -- as if the worker hung
      for n = 1, 5 do
        local w = change()
        e:advance(299)
        if n == 1 then assert.is_false(w:answered()) end
        for _ = 1, 20 do
          if w:answered() then break end
          e:advance(100)
        end
        assert.equal("failed", w:outcome())
        assert.equal("SEGUE_ETIMEOUT", w:error().name)
        assert.matches("the sources were not read after 300 ms", w:error().message)
        assert.equal(1, e:generation())
        assert.equal("1", e:value("x"))
      end
      C.segue__loop_hold_jobs(e.loop, false)
      local w = change()
      e:advance(60000) -- whatever was to be tried again meanwhile
      assert.equal("applied", w:outcome())
      assert.equal(tostring(e.version_x), e:value("x"))
    end)
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
      local w = change()
      assert.equal("failed", w:outcome())
      assert.equal("127.0.0.1:1 is in use", w:error().message)
      assert.equal(0, e.triggers.discards)
      e.triggers.fail = false
      e:behave("m", "prepare", engine.FAIL)
      e:set_policy { modules = { { "m" } } }
      assert.equal("failed", change():outcome())
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

  for _, replace in ipairs(replaces) do
    describe("that replaces a module by " .. replace, function()
      before_each(function()
        e = engine.started {
          files = { ["a.yaml"] = "x: 1" },
          modules = { { "m", replace, exclusive = replace == "restart", drain_ms = 5000 } } }
      end)

      it("starts the new one and stops the old one", function()
        assert.equal("applied", change():outcome())
        e:step()
        assert.same({ state = "serving", gate = "open", generation = 2, draining = 0 },
          e:status("m"))
        assert.equal(1, tonumber(e.world.instances))
      end)

      it("keeps the old one when the new one refuses its configuration, without a retry", function()
        e:behave("m", "prepare", engine.REFUSE)
        local before = e:generation()
        local w = change()
        assert.equal("rejected", w:outcome())
        assert.equal("SEGUE_ECONFIG", w:error().name)
        assert.equal(before, e:generation())
        e:behave("m", "prepare", engine.OK)
        e:journal() -- up to here
        e:advance(600000)
        assert.equal("", e:journal())
        assert.equal("m=open", e:gates())
        assert.equal(1, tonumber(e.world.instances))
        assert.equal("applied", change():outcome())
      end)

      for _, verb in ipairs { "prepare", "start" } do
        for _, behaviour in ipairs { "FAIL", "LATER", "FAIL_AND_OK" } do
          it("keeps the old one when " .. verb .. " does " .. behaviour, function()
            e:behave("m", verb, engine[behaviour])
            local before = e:generation()
            local w = change()
            -- the replacement that undo needs after a restart must be able to start
            if verb == "start" then e:behave("m", verb, engine.OK) end
            if behaviour == "LATER" then
              assert.is_false(w:answered())
              e:advance(30000)
            end
            assert.equal(verb == "prepare" and "failed" or "reverted", w:outcome())
            assert.equal(behaviour == "LATER" and "SEGUE_ETIMEOUT"
              or "SEGUE_EMODULE", w:error().name)
            assert.equal(before, e:generation())
            assert.equal("1", e:value("x"))
            if behaviour == "LATER" then
              e:behave("m", "prepare", engine.OK)
              e:finish("m", verb)
              e:step()
            end
            e:behave("m", "prepare", engine.OK)
            e:advance(70000)
            assert.equal("m=open", e:gates(), e:journal())
            assert.equal("serving", e:status("m").state)
            assert.equal(1, tonumber(e.world.instances))
            if e:generation() == 1 then assert.equal("applied", change():outcome()) end
          end)
        end
      end

      for _, behaviour in ipairs { "TWICE", "THREAD" } do
        for _, verb in ipairs { "prepare", "start", "drain", "stop" } do
          it("counts one result when " .. verb .. " is done " .. behaviour, function()
            e:behave("m", verb, engine[behaviour])
            assert.equal("applied", change():outcome())
            e:step()
            assert.equal("serving", e:status("m").state)
            e:behave("m", verb, engine.OK)
          end)
        end
      end

      for _, verb in ipairs { "prepare", "start", "drain", "stop" } do
        it("cancels the " .. verb .. " of a module when its time limit has passed", function()
          e:behave("m", verb, engine.LATER)
          change()
          local m = e:module("m")
          local n = engine.verbs[verb]
          for _ = 1, 100 do -- a stop comes after the drain
            if m.kept_count[n] > 0 then break end
            e:advance(50)
          end
          assert.equal(1, m.kept_count[n])
          local op = m.kept[n][0]
          assert.is_false(C.segue_op_cancelled(op))
          assert.is_false(C.scripted_cancelled_on_thread(op))
          e:advance(60000)
          assert.is_true(C.segue_op_cancelled(op))
          assert.is_true(C.scripted_cancelled_on_thread(op))
          for _, each in ipairs { "prepare", "start", "drain", "stop" } do
            e:behave("m", each, engine.OK)
            e:finish("m", each)
          end
          e:advance(60000)
          assert.equal("serving", e:status("m").state)
        end)
      end

      it("cuts a drain that exceeds its time limit", function()
        e:behave("m", "drain", engine.LATER)
        local w = change()
        assert.equal(replace ~= "restart", w:answered())
        e:advance(5000)
        assert.equal("applied", w:outcome())
        e:step()
        assert.equal(2, tonumber(e.world.instances)) -- the op is outstanding: not destroyed yet
        e:finish("m", "drain")
        e:step()
        assert.equal(1, tonumber(e.world.instances))
        e:behave("m", "drain", engine.OK)
      end)

      -- a restart stops it before the flip: see below
      for _, behaviour in ipairs(replace == "restart" and {} or { "FAIL", "LATER" }) do
        it("does not revert when the old one's stop does " .. behaviour .. " after the flip",
            function()
          e:behave("m", "stop", engine[behaviour])
          assert.equal("applied", change():outcome())
          e:advance(10000)
          assert.equal(0, e:status("m").draining)
          assert.equal(2, e:status("m").generation)
          assert.truthy(e:journal():find("an old instance did not stop", 1, true))
          e:behave("m", "stop", engine.OK)
          e:finish("m", "stop")
          e:step()
          assert.equal(1, tonumber(e.world.instances))
        end)
      end

      it("is applied and cuts the drain if the drain fails", function()
        e:behave("m", "drain", engine.FAIL)
        assert.equal("applied", change():outcome())
        e:step()
        assert.truthy(e:journal():find("drain cut short", 1, true))
        assert.equal(1, tonumber(e.world.instances))
      end)

      it("is undone when it is not confirmed", function()
        e:set_policy { modules = { { "m", replace, exclusive = replace == "restart" } },
                       probe = engine.FAIL, set = { confirm_within_ms = 2000 } }
        local w = change()
        assert.is_false(w:answered())
        assert.equal("2", e:value("x")) -- it is live while it is on trial
        e:advance(2000)
        e:step()
        assert.equal("reverted", w:outcome())
        assert.equal("SEGUE_EPROBE", w:error().name)
        assert.equal("1", e:value("x"))
        assert.equal(1, w:generation())
        assert.equal("open", e:status("m").gate)
        assert.equal(1, tonumber(e.world.instances))
      end)

      it("is undone when it is not confirmed, at each failure of memory", function()
        e:set_policy { modules = { { "m", replace } }, probe = engine.OK,
                       set = { confirm_within_ms = 1000 } }
        assert.equal("applied", change():outcome())
        for n = 1, 150 do
          e.hooks.probe = engine.FAIL
          local live = e:value("x")
          e:write("a.yaml", "x: 1000" .. n)
          local w = e:reload { fail_at = n }
          e:step()
          e:advance(10000) -- one that failed is tried again, and then reverted
          C.segue__mem_fail_at(0)
          assert.is_true(w.rc ~= 0 or w:outcome() ~= "applied", "n = " .. n)
          assert.equal(live, e:value("x"), "n = " .. n)
          e.hooks.probe = engine.OK
          e:advance(120000)
          e:write("a.yaml", "x: " .. n)
          e:reload()
          e:step()
          e:advance(120000)
          assert.equal(tostring(n), e:value("x"), "n = " .. n)
          assert.equal("m=open", e:gates())
          e:journal()
        end
      end)

      it("survives every memory failure with the old or the new one whole", function()
        local done
        for n = 1, 400 do
          e:write("a.yaml", "x: " .. (n + 1))
          local before = e:generation()
          local w = e:reload { fail_at = n }
          if w.rc == 0 then
            e:step()
            C.segue__mem_fail_at(0)
            e:advance(60000)
            assert.is_true(w:answered(), "n = " .. n)
          end
          C.segue__mem_fail_at(0)
          local x = e:value("x")
          assert.truthy(x, "n = " .. n)
          assert.equal("m=open", e:gates(), "n = " .. n)
          if w.rc == 0 and w:outcome() == "applied" and e:generation() > before then
            done = (done or 0) + 1
            if done > 60 then break end
          end
          e:reload()
          e:step()
          e:advance(120000)
          assert.equal(tostring(n + 1), e:value("x"), "n = " .. n)
          e:journal()
        end
        e:step()
      end)
    end)
  end

  for _, behaviour in ipairs { "FAIL", "LATER" } do
    it("starts a fresh old one when a restart's stop does " .. behaviour, function()
      e = engine.started { modules = { { "m", "restart" } } }
      e:behave("m", "stop", engine[behaviour])
      local w = change()
      e:behave("m", "stop", engine.OK)
      e:advance(10000)
      assert.equal("reverted", w:outcome())
      assert.equal("1", e:value("x"))
      assert.same({ state = "serving", gate = "open", generation = 1, draining = 0 },
        e:status("m"))
      assert.truthy(e:journal():find("m.prepare 1", 1, true))
      e:finish("m", "stop")
      e:step()
      assert.equal(1, tonumber(e.world.instances))
    end)
  end

  it("holds the gate shut from the drain of a restart to the flip", function()
    e = engine.started { modules = { { "m", "restart" } } }
    for _, verb in ipairs { "drain", "stop", "start" } do e:behave("m", verb, engine.LATER) end
    local w = change()
    for _, verb in ipairs { "drain", "stop", "start" } do
      assert.equal("shut", e:status("m").gate)
      assert.equal("1", e:value("x"))
      e:behave("m", verb, engine.OK)
      assert.is_true(e:finish("m", verb), verb)
      e:step()
    end
    assert.equal("applied", w:outcome())
    assert.equal("open", e:status("m").gate)
    assert.equal("2", e:value("x"))
  end)

  describe("with several modules", function()
    local function three(replace)
      return { { "a", replace, exclusive = false }, { "b", replace, needs = { "a" } },
               { "c", replace, needs = { "b" } } }
    end

    for _, replace in ipairs(replaces) do
      it("undoes in reverse order when the last one fails to start (" .. replace .. ")", function()
        e = engine.started { modules = three(replace) }
        e:behave("c", "start", engine.FAIL_ONCE)
        local w = change()
        e:step()
        assert.equal("reverted", w:outcome())
        assert.equal("1", e:value("x"))
        assert.equal("a=open b=open c=open", e:gates())
        local journal = e:journal()
        local b, a = journal:find("b.stop 2", 1, true), journal:find("a.stop 2", 1, true)
        assert.truthy(a and b and b < a, journal)
        assert.equal(3, tonumber(e.world.instances))
        assert.equal("applied", change():outcome())
        e:step()
        assert.equal(3, tonumber(e.world.instances))
      end)

      for point = 1, 4 do
        it(("undoes at fault point commit.%d (%s)"):format(point, replace), function()
          e = engine.started { modules = three(replace) }
          arm("commit." .. point)
          local w = change()
          e:step()
          assert.equal(1, C.segue__fault_reached("commit." .. point))
          assert.equal("reverted", w:outcome())
          assert.equal("1", e:value("x"))
          assert.equal("a=open b=open c=open", e:gates())
          assert.equal(3, tonumber(e.world.instances))
        end)
      end

      it("undoes when publishing fails (" .. replace .. ")", function()
        e = engine.started { modules = three(replace) }
        arm "commit.flip"
        local w = change()
        e:step()
        assert.equal("reverted", w:outcome())
        assert.equal(1, C.segue__fault_reached("commit.flip"))
        assert.equal("a=open b=open c=open", e:gates())
      end)
    end

    it("publishes once, after the last start", function()
      e = engine.started { modules = three("handover") }
      e:behave("c", "start", engine.LATER)
      local w = change()
      assert.equal("1", e:value("x"))
      e:finish("c", "start")
      e:step()
      assert.equal("2", e:value("x"))
      assert.equal("applied", w:outcome())
    end)
  end)

  it("reports a failed undo, refuses at the gate, and restores the module later", function()
    e = engine.started { modules = { { "m", "restart", exclusive = true } } }
    e:behave("m", "start", engine.FAIL)
    local w = change()
    e:step()
    assert.equal("reverted", w:outcome())
    assert.is_true(w:result().undo_failed)
    assert.equal("failed", e:status("m").state)
    assert.equal("refusing", e:status("m").gate)
    e:behave("m", "start", engine.OK)
    e:advance(2000)
    assert.equal("serving", e:status("m").state)
    assert.equal(1, e:status("m").generation)
    assert.equal("open", e:status("m").gate)
  end)

  it("keeps at most two old instances and cuts the oldest", function()
    e = engine.started { modules = { { "m", "handover", drain_ms = 3600000 } } }
    e:behave("m", "drain", engine.LATER)
    for _ = 1, 4 do
      assert.equal("applied", change():outcome())
      e:step()
    end
    assert.truthy(e:status("m").draining <= 2)
    assert.truthy(e:journal():find("the oldest is cut", 1, true))
    e:behave("m", "drain", engine.OK)
    assert.is_true(e:finish("m", "drain"))
  end)

  describe("confirm", function()
    it("requires health for as long as `hold` sets", function()
      e = engine.started {}
      e:set_policy { probe = engine.OK,
                     set = { confirm_hold_ms = 2000, confirm_within_ms = 10000 } }
      local w = change()
      e:advance(1500)
      assert.is_false(w:answered())
      e.hooks.probe = engine.FAIL_ONCE -- starts the hold again
      e:advance(600)
      assert.is_false(w:answered())
      e:advance(2400)
      assert.equal("applied", w:outcome())
    end)

    for _, within in ipairs { 300, 2000, 5 } do
      it("probes until the end of " .. within .. " ms, and no longer", function()
        e = engine.started {}
        e:set_policy { probe = engine.FAIL, set = { confirm_within_ms = within } }
        local w = change()
        e:advance(within - 1)
        assert.is_false(w:answered())
        e.hooks.probe = engine.OK -- 1 ms before the end
        e:advance(1)
        assert.equal("applied", w:outcome())
        e.hooks.probe = engine.FAIL
        w = change()
        e:advance(within - 1)
        assert.is_false(w:answered())
        e:advance(1)
        assert.equal("reverted", w:outcome())
      end)
    end

    it("reverts after the number of failures in a row that the policy sets", function()
      e = engine.started {}
      e:set_policy { probe = engine.FAIL, set = { confirm_within_ms = 60000,
        confirm_failures = 3 } }
      local w = change()
      e:advance(399)
      assert.is_false(w:answered())
      e:advance(1)
      assert.equal("reverted", w:outcome())
      assert.matches("was not healthy: its probe failed 3 times in a row: probe says no",
        w:error().message)
    end)

    it("counts failures from zero after a success", function()
      e = engine.started {}
      e:set_policy { probe = engine.FAIL, set = { confirm_within_ms = 60000,
        confirm_hold_ms = 1000, confirm_failures = 3 } }
      local w = change()
      e:advance(200)
      e.hooks.probe = engine.OK
      e:advance(200)
      e.hooks.probe = engine.FAIL
      e:advance(400)
      assert.is_false(w:answered())
      e.hooks.probe = engine.OK
      e:advance(1400)
      assert.equal("applied", w:outcome())
    end)

    it("waits for a last probe that takes a while", function()
      e = engine.started {}
      e:set_policy { probe = engine.FAIL, set = { confirm_within_ms = 300 } }
      local w = change()
      e:advance(250)
      e.hooks.probe = engine.LATER
      e:advance(40)
      assert.is_false(w:answered())
      C.scripted_hooks_finish(e.hooks)
      e:step()
      assert.equal("applied", w:outcome())
    end)

    it("ends a probe that hangs at the end of within", function()
      e = engine.started {}
      e:set_policy { probe = engine.LATER, set = { confirm_within_ms = 3000 } }
      local w = change()
      e:advance(3000)
      assert.equal("reverted", w:outcome())
      C.scripted_hooks_finish(e.hooks)
      e:step()
    end)

    it("queues triggers meanwhile", function()
      e = engine.started {}
      e:set_policy { probe = engine.FAIL, set = { confirm_within_ms = 2000 } }
      local first = change()
      local second = e:reload()
      e:advance(900)
      assert.is_false(second:answered())
      e.hooks.probe = engine.OK
      e:advance(400)
      assert.equal("applied", first:outcome())
      assert.equal("unchanged", second:outcome())
    end)
  end)

  describe("run by the policy's hook", function()
    local function with(script, spec)
      spec = spec or {}
      spec.modules = { { "m", spec.replace or "handover" } }
      e = engine.started { modules = spec.modules }
      spec.reload = script
      e:set_policy(spec)
      return change()
    end

    it("does the same as the default", function()
      assert.equal("applied", with("prepare commit confirm"):outcome())
      assert.equal(2, e:status("m").generation)
    end)

    it("is confirmed even if the hook does not call confirm", function()
      local w = with("prepare commit", { probe = engine.FAIL, set = { confirm_within_ms = 500 } })
      e:advance(500)
      assert.equal("reverted", w:outcome())
    end)

    for _, script in ipairs { "prepare", "", "prepare fail", "fail", "commit", "confirm",
                              "prepare prepare" } do
      it("undoes everything after '" .. script .. "'", function()
        for _, replace in ipairs(replaces) do
          local w = with(script, { replace = replace })
          e:step()
          assert.equal("rejected", w:outcome()) -- nothing was visible yet
          assert.equal("SEGUE_EPOLICY", w:error().name)
          assert.equal("m=open", e:gates())
          assert.equal("1", e:value("x"))
          assert.equal(1, tonumber(e.world.instances))
          e:close()
          e = nil
        end
      end)
    end

    it("undoes what was committed when the hook fails after it", function()
      for _, replace in ipairs(replaces) do
        local w = with("prepare commit fail", { replace = replace })
        e:step()
        assert.equal("reverted", w:outcome())
        assert.equal("1", e:value("x"))
        assert.equal("m=open", e:gates())
        assert.equal(1, tonumber(e.world.instances))
        e:close()
        e = nil
      end
    end)

    it("is rejected if the hook rejects", function()
      local w = with("prepare reject")
      assert.equal("rejected", w:outcome())
      assert.equal("not today", w:error().message)
      assert.equal(1, tonumber(e.world.instances))
    end)

    it("ends a hook that hangs, and undoes", function()
      local w = with("prepare commit hang", { set = { reload_ms = 60000 } })
      assert.is_false(w:answered())
      e:advance(60000)
      e:step()
      assert.equal("reverted", w:outcome())
      assert.equal("SEGUE_ETIMEOUT", w:error().name)
      assert.equal("1", e:value("x"))
      C.scripted_hooks_finish(e.hooks)
      e:step()
    end)
  end)
end)
