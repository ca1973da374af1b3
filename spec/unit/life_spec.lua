-- SPDX-License-Identifier: MIT
-- The life of modules through reloads: what is touched and what is not, in which order, what a
-- deadline means for who missed it, and that nothing old goes before the new one has settled.
local C = require "spec.support.c"
local engine = require "spec.support.engine"
local replaces = { "swap", "handover", "restart" }
local verbs = { "prepare", "start", "drain", "stop" }

describe("the life of modules", function()
  local e
  after_each(function()
    if e then e:finish_and_close() end
    e = nil
  end)

  local function reload(text)
    if text then e:write("a.yaml", text) end
    local w = e:reload()
    e:step()
    return w
  end

  describe("by slices", function()
    local text = "a: {x: 1, y: [1, 2], z: {k: v}}\nb: {x: 1}\nother: 1\n"
    before_each(function()
      e = engine.started { files = { ["a.yaml"] = text }, modules = { { "a", "handover",
        config = "a" }, { "b", "restart", config = "b" }, { "all", "swap" },
        { "deep", "handover", config = "a.z" } } }
    end)

    for what, case in pairs {
      ["nothing but its layout"] = { "# new\nb:\n  x: 1\na:\n  x: 1\n  y:\n  - 1\n  - 2\n"
        .. "  z:\n    k: v\nother: 1\n", nil },
      ["another part"] = { text:gsub("other: 1", "other: 2"), "all=swap" },
      ["one slice"] = { text:gsub("b: {x: 1}", "b: {x: 2}"), "b=restart all=swap" },
      ["a part of a slice that is a slice"] = { text:gsub("k: v", "k: w"),
        "a=handover all=swap deep=handover" },
      ["the order of a list"] = { text:gsub("1, 2", "2, 1"), "a=handover all=swap" },
      ["the type of a value"] = { text:gsub("b: {x: 1}", "b: {x: '1'}"), "b=restart all=swap" },
      ["a slice that goes away"] = { text:gsub("b: {x: 1}\n", ""), "b=restart all=swap" },
    } do
      it("replaces the modules with this slice, when " .. what .. " changes", function()
        local w = reload(case[1])
        local touched = {}
        if case[2] then
          for step in w:plan():gmatch "%S+" do
            if not step:find "=keep" then touched[#touched + 1] = step end
          end
        end
        assert.equal(case[2] or "", table.concat(touched, " "))
        assert.equal(case[2] and "applied" or "unchanged", w:outcome())
        local did = e:operations()
        for _, name in ipairs { "a", "b", "all", "deep" } do
          local is = (" " .. (case[2] or "")):find(" " .. name .. "=", 1, true) ~= nil
          assert.equal(is, did:find(name .. ".prepare", 1, true) ~= nil, name .. ": " .. did)
          assert.equal(is and 2 or 1, e:status(name).generation, name)
        end
      end)
    end

    it("is built without a configuration where its slice is missing, and with one when it appears",
    function()
      reload(text:gsub("b: {x: 1}\n", ""))
      assert.equal("open", e:status("b").gate)
      assert.equal("serving", e:status("b").state)
      local w = reload(text:gsub("b: {x: 1}", "b: {x: 7}"))
      assert.truthy(w:plan():find("b=restart", 1, true))
      assert.equal(3, e:status("b").generation)
    end)
  end)

  for _, replace in ipairs(replaces) do
    describe("that are replaced by " .. replace, function()
      local function chain(more)
        local spec = { files = { ["a.yaml"] = "x: 1\n" }, modules = { { "c", replace,
          needs = { "b" } }, { "a", replace }, { "b", replace, needs = { "a" } } } }
        for key, value in pairs(more or {}) do spec[key] = value end
        e = engine.started(spec)
      end

      it("start in the order of needs, and stop in the reverse of it in the end", function()
        chain()
        reload "x: 2"
        local did = e:operations()
        assert.truthy(did:find("a.start 2.*b.start 2.*c.start 2"), did)
        e:stop()
        e:step()
        did = e:operations()
        assert.truthy(did:find("c.stop 2.*b.stop 2.*a.stop 2"), did)
      end)

      for _, behaviour in ipairs { "FAIL_ONCE", "LATER" } do
        it("are undone backwards when a start in the middle fails by " .. behaviour, function()
          chain()
          e:behave("b", "start", engine[behaviour])
          local w = reload "x: 2"
          if behaviour == "LATER" then
            e:behave("b", "start", engine.OK)
            e:advance(30000)
          end
          assert.equal("reverted", w:outcome())
          local did = e:operations()
          assert.falsy(did:find("c.start 2", 1, true), did) -- it was not its turn
          assert.truthy(did:find("b.start 2.*a.stop 2"), did)
          assert.equal("a=open b=open c=open", e:gates())
          assert.equal("1", e:value("x"))
          for _, name in ipairs { "a", "b", "c" } do
            assert.equal(1, e:status(name).generation)
            assert.equal("serving", e:status(name).state)
          end
        end)
      end

      it("are all built before the first one starts or stops", function()
        chain()
        e:behave("c", "prepare", engine.LATER)
        local w = reload "x: 2"
        e:advance(29999)
        assert.equal("nothing yet", w:outcome())
        local did = e:operations()
        assert.truthy(did:find("a.prepare 2", 1, true) and did:find("b.prepare 2", 1, true), did)
        for _, verb in ipairs { "start", "drain", "stop" } do
          assert.falsy(did:find("%." .. verb), did)
        end
        assert.equal("a=open b=open c=open", e:gates())
        e:behave("c", "prepare", engine.OK)
        e:finish("c", "prepare")
        e:step()
        assert.equal("applied", w:outcome())
      end)

      if replace ~= "restart" then
        it("are kept alive until the new generation has settled", function()
          chain()
          e:set_policy { modules = { { "b", replace }, { "c", replace, needs = { "b" } } },
            probe = engine.FAIL, set = { confirm_within_ms = 5000 } } -- and a goes
          local w = reload "x: 2"
          e:advance(4000)
          assert.equal("nothing yet", w:outcome())
          assert.equal("2", e:value("x"))
          local did = e:operations()
          for _, verb in ipairs { "drain", "stop", "destroy" } do
            assert.falsy(did:find("%." .. verb .. " 1"), did)
          end
          e.hooks.probe = engine.OK
          e:advance(1000)
          assert.equal("applied", w:outcome())
          did = e:operations()
          for _, name in ipairs { "a", "b", "c" } do
            assert.truthy(did:find(name .. ".drain 1", 1, true), did)
            assert.truthy(did:find(name .. ".destroy 1", 1, true), did)
          end
        end)
      end

      for _, verb in ipairs(verbs) do
        it("are not destroyed before a " .. verb .. " that missed its time is done, nor is that "
          .. "heard of then", function()
          e = engine.started { files = { ["a.yaml"] = "x: 1\n" }, modules = { { "m", replace,
            prepare_ms = 100, start_ms = 200, drain_ms = 300, stop_ms = 400 } } }
          e:behave("m", verb, engine.LATER)
          local m = e:module("m")
          local ms = ({ prepare = 100, start = 200, drain = 300, stop = 400 })[verb]
          local w = reload "x: 2"
          assert.equal(1, m.kept_count[engine.verbs[verb]])
          local op = m.kept[engine.verbs[verb]][0]
          e:behave("m", verb, engine.OK)
          e:advance(ms - 1)
          assert.is_false(C.segue_op_cancelled(op))
          e:advance(1)
          assert.is_true(C.segue_op_cancelled(op))
          assert.is_true(w:answered())
          local outcome = w:outcome()
          local whose = (verb == "prepare" or verb == "start") and 2 or 1
          assert.falsy(e:operations():find("m.destroy " .. whose, 1, true))
          local state, live = e:status("m"), e:value("x")
          assert.equal("serving", state.state)
          e:finish("m", verb)
          e:step()
          assert.truthy(e:operations():find("m.destroy " .. whose, 1, true))
          assert.same(state, (e:status("m")))
          assert.equal(live, e:value("x"))
          assert.equal(outcome, w:outcome())
          assert.equal(1, tonumber(e.world.instances))
        end)
      end

      for _, verb in ipairs { "prepare", "start" } do
        it("are notified that no one needs their " .. verb .. " when the daemon stops", function()
          chain()
          e:behave("b", verb, engine.LATER)
          local w = reload "x: 2"
          local op = e:module("b").kept[engine.verbs[verb]][0]
          assert.is_false(C.segue_op_cancelled(op))
          e:behave("b", verb, engine.OK)
          e:stop()
          e:step()
          assert.is_true(C.segue_op_cancelled(op))
          assert.equal("nothing yet", w:outcome())
          e:finish("b", verb)
          e:step()
          assert.equal(verb == "prepare" and "failed" or "reverted", w:outcome())
          assert.equal("SEGUE_ECLOSED", w:error().name)
          assert.equal("1", e:value("x"))
        end)
      end

      it("are reloaded again when that was requested during a drain", function()
        e = engine.started { files = { ["a.yaml"] = "x: 1\n" }, modules = { { "m", replace } } }
        e:behave("m", "drain", engine.LATER)
        local first = reload "x: 2"
        local second = reload "x: 3"
        assert.equal(replace == "restart" and "nothing yet" or "applied", second:outcome())
        e:behave("m", "drain", engine.OK)
        e:finish("m", "drain")
        e:step()
        assert.equal("applied", first:outcome())
        assert.equal("applied", second:outcome())
        assert.equal("3", e:value("x"))
        assert.equal(3, e:status("m").generation)
        assert.equal(1, tonumber(e.world.instances))
      end)

      it("take no exclusive resource before the old one has given it back", function()
        e = engine.started { files = { ["a.yaml"] = "x: 1\n" }, modules = { { "m", replace,
          exclusive = true } } }
        local w = reload "x: 2"
        assert.equal(replace == "restart" and "applied" or "reverted", w:outcome())
        assert.equal("m", C.ffi.string(e.world.holder)) -- one of them has it, and serves
        assert.equal("serving", e:status("m").state)
        assert.equal("m=open", e:gates())
      end)
    end)
  end

  it("that cannot be restored are tried again, later each time, and are not ready", function()
    e = engine.started { files = { ["a.yaml"] = "x: 1\n" },
      modules = { { "m", "restart" }, { "n", "handover" } } }
    e:behave("m", "start", engine.FAIL)
    local w = reload "x: 2"
    assert.is_true(w:result().undo_failed)
    assert.equal("m=refusing n=open", e:gates())
    assert.same({ "failed", "serving" }, { e:status("m").state, e:status("n").state })
    assert.equal("m: start was told to fail", e:status("m").error)
    local tries = {}
    e:journal()
    for _ = 1, 40 do
      e:advance(1000)
      local _, n = e:journal():gsub("m.start 1", "")
      tries[#tries + 1] = n > 0 and "x" or "."
    end
    local text = table.concat(tries)
    local first, second, third = text:match "^(%.*)x(%.*)x(%.*)x"
    assert.truthy(third, text)
    assert.is_true(#second >= #first and #third > #first, text)
    e:behave("m", "start", engine.OK)
    e:advance(120000)
    assert.equal("m=open n=open", e:gates())
    assert.equal("serving", e:status("m").state)
    assert.is_nil(e:status("m").error)
  end)
end)
