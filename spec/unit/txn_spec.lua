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

  it("runs its phases in order", function()
    e = engine.started { check = engine.OK, modules = { { "m" } } }
    e:change()
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
      local w = e:change()
      assert.equal("rejected", w:outcome())
      assert.equal("SEGUE_EVETO", w:error().name)
      assert.equal("check says no", w:error().message)
    end)

    it("rejects when check has a bug or runs out of time", function()
      e = engine.started { check = engine.OK, check_code = C.SEGUE_EPOLICY }
      e.hooks.check = engine.FAIL
      assert.equal("rejected", e:change():outcome())
      e.hooks.check = engine.LATER
      local w = e:change()
      assert.is_false(w:answered())
      e:advance(5000)
      assert.equal("rejected", w:outcome())
      assert.equal("SEGUE_ETIMEOUT", w:error().name)
      C.scripted_hooks_finish(e.hooks) -- late: ignored, but the hook is freed
      e:step()
      e.hooks.check = engine.OK
      assert.equal("applied", e:change():outcome())
    end)

    it("reports a collect that hangs, and continues without it", function()
      e = engine.started { set = { collect_ms = 300 } }
      C.segue__loop_hold_jobs(e.loop, true) -- as if the worker hung
      for n = 1, 5 do
        local w = e:change()
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
      local w = e:change()
      e:advance(60000) -- whatever was to be tried again meanwhile
      assert.equal("applied", w:outcome())
      assert.equal(tostring(e.version_x), e:value("x"))
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
        assert.equal("applied", e:change():outcome())
        e:step()
        assert.same({ state = "serving", gate = "open", generation = 2, draining = 0 },
          e:status("m"))
        assert.equal(1, tonumber(e.world.instances))
      end)

      it("keeps the old one when the new one refuses its configuration, without a retry", function()
        e:behave("m", "prepare", engine.REFUSE)
        local before = e:generation()
        local w = e:change()
        assert.equal("rejected", w:outcome())
        assert.equal("SEGUE_ECONFIG", w:error().name)
        assert.equal(before, e:generation())
        e:behave("m", "prepare", engine.OK)
        e:journal() -- up to here
        e:advance(600000)
        assert.equal("", e:journal())
        assert.equal("m=open", e:gates())
        assert.equal(1, tonumber(e.world.instances))
        assert.equal("applied", e:change():outcome())
      end)

      for _, verb in ipairs { "prepare", "start" } do
        for _, behaviour in ipairs { "FAIL", "LATER", "FAIL_AND_OK" } do
          it("keeps the old one when " .. verb .. " does " .. behaviour, function()
            e:behave("m", verb, engine[behaviour])
            local before = e:generation()
            local w = e:change()
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
            if e:generation() == 1 then assert.equal("applied", e:change():outcome()) end
          end)
        end
      end

      for _, behaviour in ipairs { "TWICE", "THREAD" } do
        for _, verb in ipairs { "prepare", "start", "drain", "stop" } do
          it("counts one result when " .. verb .. " is done " .. behaviour, function()
            e:behave("m", verb, engine[behaviour])
            assert.equal("applied", e:change():outcome())
            e:step()
            assert.equal("serving", e:status("m").state)
            e:behave("m", verb, engine.OK)
          end)
        end
      end

      for _, verb in ipairs { "prepare", "start", "drain", "stop" } do
        it("cancels the " .. verb .. " of a module when its time limit has passed", function()
          e:behave("m", verb, engine.LATER)
          e:change()
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
        local w = e:change()
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
          assert.equal("applied", e:change():outcome())
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
        assert.equal("applied", e:change():outcome())
        e:step()
        assert.truthy(e:journal():find("drain cut short", 1, true))
        assert.equal(1, tonumber(e.world.instances))
      end)

      it("is undone when it is not confirmed", function()
        e:set_policy { modules = { { "m", replace, exclusive = replace == "restart" } },
                       probe = engine.FAIL, set = { confirm_within_ms = 2000 } }
        local w = e:change()
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
        assert.equal("applied", e:change():outcome())
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
      local w = e:change()
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
    local w = e:change()
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
        local w = e:change()
        e:step()
        assert.equal("reverted", w:outcome())
        assert.equal("1", e:value("x"))
        assert.equal("a=open b=open c=open", e:gates())
        local journal = e:journal()
        local b, a = journal:find("b.stop 2", 1, true), journal:find("a.stop 2", 1, true)
        assert.truthy(a and b and b < a, journal)
        assert.equal(3, tonumber(e.world.instances))
        assert.equal("applied", e:change():outcome())
        e:step()
        assert.equal(3, tonumber(e.world.instances))
      end)

      for point = 1, 4 do
        it(("undoes at fault point commit.%d (%s)"):format(point, replace), function()
          e = engine.started { modules = three(replace) }
          arm("commit." .. point)
          local w = e:change()
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
        local w = e:change()
        e:step()
        assert.equal("reverted", w:outcome())
        assert.equal(1, C.segue__fault_reached("commit.flip"))
        assert.equal("a=open b=open c=open", e:gates())
      end)
    end

    it("publishes once, after the last start", function()
      e = engine.started { modules = three("handover") }
      e:behave("c", "start", engine.LATER)
      local w = e:change()
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
    local w = e:change()
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
      assert.equal("applied", e:change():outcome())
      e:step()
    end
    assert.truthy(e:status("m").draining <= 2)
    assert.truthy(e:journal():find("the oldest is cut", 1, true))
    e:behave("m", "drain", engine.OK)
    assert.is_true(e:finish("m", "drain"))
  end)
end)
