-- SPDX-License-Identifier: MIT
-- Drains that exceed their limit: requests inside are cut and counted, waited for longer, or the
-- reload is undone, as the policy declares, by every strategy and manually, also for modules that
-- never drain.
local C = require "spec.support.c"
local engine = require "spec.support.engine"

describe("a drain that exceeds its time limit", function()
  local e, passes
  before_each(function() passes = {} end)
  after_each(function()
    for _, pass in ipairs(passes) do C.segue_gate_leave(pass) end
    if e then
      C.scripted_hooks_finish(e.hooks)
      for _, verb in ipairs { "prepare", "start", "drain", "stop" } do
        e:behave("m", verb, engine.OK)
        e:finish("m", verb)
      end
      e:step()
      e:close()
    end
    e = nil
  end)

  local function enter(name)
    local pass = C.new("segue_pass")
    local rc = C.segue_gate_enter(C.segue__module_find(e.c.modules, name or "m").gate, pass)
    if rc == 0 then passes[#passes + 1] = pass end
    return rc == 0 and tonumber(C.gate_house_generation(pass)) or C.name(rc), pass
  end
  local function leave()
    C.segue_gate_leave(table.remove(passes))
    e:step()
  end

  -- The first gate that a thread passes gives it memory that it keeps.
  setup(function()
    passes = {}
    e = engine.started { modules = { { "m" }, { "a" } } }
    C.segue_gate_leave(select(2, enter "m"))
    C.segue_gate_leave(select(2, enter "a"))
    e:close(true)
    e, passes = nil, {}
  end)

  local function start(replace, drain, more)
    local m = { "m", replace, config = "x", drain_ms = 500 }
    for key, value in pairs(drain or {}) do m[key] = value end
    e = engine.started { modules = { m, more }, reload = "prepare commit confirm" }
    e.x = 1
  end
  local function script(text, over, within, again)
    C.ffi.copy(e.hooks.script, text)
    e.hooks.drain.over = engine.overs[over or "ask"]
    e.hooks.drain.within_ms, e.hooks.drain.again = within or 0, again or 0
  end
  local function change()
    e.x = e.x + 1
    e:write("a.yaml", "x: " .. e.x .. "\n")
    local w = e:reload()
    e:step()
    return w
  end
  local function cut() return select(2, e:status("m")) end
  local function warnings()
    local _, n = e:journal():gsub("the drain exceeded its time limit: waiting once more", "")
    return n
  end

  describe("in a restart", function()
    it("is cut at its end, and calls inside are counted and keep their instance", function()
      start("restart", { over = "cut" })
      enter() enter()
      local w = change()
      e:advance(499)
      assert.equal("nothing yet", w:outcome())
      assert.same({ drains = 0, inside = 0 }, cut())
      e:advance(1)
      assert.equal("applied", w:outcome())
      assert.same({ drains = 1, inside = 2 }, cut())
      assert.equal(1, tonumber(C.gate_house_generation(passes[1])))
      assert.equal(2, (enter()))
      assert.equal(2, tonumber(e.world.instances))
    end)

    it("waits again as often as its policy allows, warns each time, and is then cut", function()
      start("restart", { over = "wait", again = 2 })
      enter()
      local w = change()
      e:journal()
      for lap = 1, 2 do
        e:advance(499)
        assert.equal(0, warnings(), "lap " .. lap)
        e:advance(1)
        assert.equal(1, warnings(), "lap " .. lap)
        assert.equal("nothing yet", w:outcome())
      end
      e:advance(499)
      assert.equal("nothing yet", w:outcome())
      e:advance(1)
      assert.equal(0, warnings())
      assert.equal("applied", w:outcome())
      assert.same({ drains = 1, inside = 1 }, cut())
    end)

    it("that waits ends when the last one leaves, without a further warning", function()
      start("restart", { over = "wait" })
      enter()
      local w = change()
      e:advance(600)
      assert.equal(1, warnings())
      leave()
      assert.equal("applied", w:outcome())
      e:advance(10000)
      assert.equal(0, warnings())
      assert.same({ drains = 0, inside = 0 }, cut())
    end)

    it("that waits does not cancel the operation of the module", function()
      start("restart", { over = "wait", again = 1 })
      e:behave("m", "drain", engine.LATER)
      local w = change()
      local op = e:module("m").kept[engine.verbs.drain][0]
      e:advance(999)
      assert.is_false(C.segue_op_cancelled(op))
      assert.equal("nothing yet", w:outcome())
      e:advance(1)
      assert.is_true(C.segue_op_cancelled(op))
      assert.equal("applied", w:outcome())
      assert.same({ drains = 1, inside = 0 }, cut())
    end)

    it("has the reload undone before the old instance was asked to drain", function()
      start("restart", { over = "undo" })
      enter()
      e:journal()
      local w = change()
      assert.equal("m=shut", e:gates())
      assert.equal("EAGAIN", (enter()))
      e:advance(499)
      assert.equal("nothing yet", w:outcome())
      e:advance(1)
      assert.equal("reverted", w:outcome())
      assert.equal("SEGUE_ETIMEOUT", w:error().name)
      assert.equal("module 'm': 1 is still inside", w:error().message)
      assert.equal("m=open", e:gates())
      assert.equal(1, (enter()))
      assert.equal("1", e:value("x"))
      local journal = e:journal()
      for _, behaviour in ipairs { "m.drain 1", "m.stop 1", "m.start", "m.destroy 1" } do
        assert.falsy(journal:find(behaviour, 1, true), journal)
      end
      assert.same({ drains = 0, inside = 0 }, cut())
      assert.equal(1, tonumber(e.world.instances))
    end)

    it("that may be undone succeeds when all calls leave in time", function()
      start("restart", { over = "undo" })
      enter()
      local w = change()
      e:advance(499)
      leave()
      assert.equal("applied", w:outcome())
      assert.equal(2, (enter()))
    end)

    for _, behaviour in ipairs { "LATER", "FAIL" } do
      it("brings a fresh old one back when the module's own drain does " .. behaviour, function()
        start("restart", { over = "undo" })
        e:behave("m", "drain", engine[behaviour])
        e:journal()
        local w = change()
        e:advance(500)
        assert.equal("reverted", w:outcome())
        assert.equal("m=open", e:gates())
        assert.same({ state = "serving", gate = "open", generation = 1, draining = 0 },
          e:status("m"))
        assert.truthy(e:journal():find("m.drain 1.*m.stop 1.*m.prepare 1.*m.start 1"))
        assert.equal(1, (enter()))
      end)
    end

    it("has the modules before it undone as well", function()
      start("restart", { over = "undo", needs = { "a" } }, { "a", "handover", config = "x" })
      enter()
      enter("a")
      local w = change()
      e:advance(500)
      assert.equal("reverted", w:outcome())
      assert.equal("a=open m=open", e:gates())
      assert.equal(1, (enter("a")))
      assert.equal(1, e:status("a").generation)
    end)

    it("ends at once when the daemon stops", function()
      e = engine.started { modules = { { "m", "restart", over = "undo", drain_ms = 3600000 } } }
      e.x = 1
      enter()
      local w = change()
      e:stop()
      e:step()
      assert.equal("reverted", w:outcome())
      assert.equal("SEGUE_ECLOSED", w:error().name)
      leave()
    end)
  end)

  for _, replace in ipairs { "handover", "swap" } do
    describe("in the background of a " .. replace, function()
      it("is cut at its end, and counted", function()
        start(replace, { over = "cut" })
        enter()
        assert.equal("applied", change():outcome())
        e:advance(499)
        assert.equal(1, e:status("m").draining)
        e:advance(1)
        assert.equal(0, e:status("m").draining)
        assert.same({ drains = 1, inside = 1 }, cut())
        assert.equal(2, tonumber(e.world.instances)) -- a pass that is inside keeps its instance
      end)

      it("waits again as often as its policy allows, and warns each time", function()
        start(replace, { over = "wait", again = 2 })
        enter()
        assert.equal("applied", change():outcome())
        e:journal()
        e:advance(500)
        assert.equal(1, warnings())
        e:advance(999)
        assert.equal(1, e:status("m").draining)
        e:advance(1)
        assert.equal(0, e:status("m").draining)
        assert.same({ drains = 1, inside = 1 }, cut())
      end)

      it("is cut as the oldest of three, if its policy wants that", function()
        start(replace, { over = "cut", drain_ms = 3600000 })
        for _ = 1, 3 do
          enter()
          assert.equal("applied", change():outcome())
        end
        assert.equal(2, e:status("m").draining)
        assert.same({ drains = 1, inside = 1 }, cut())
      end)

      it("delays the next commit as the oldest of three, where its policy waits", function()
        start(replace, { over = "wait", drain_ms = 10000, again = 5 })
        for _ = 1, 2 do
          enter()
          assert.equal("applied", change():outcome())
        end
        local w = change()
        assert.equal("nothing yet", w:outcome())
        assert.equal("m=open", e:gates()) -- only the reload is delayed
        assert.equal(3, (enter()))
        assert.equal("3", e:value("x"))
        assert.equal(2, e:status("m").draining)
        C.segue_gate_leave(table.remove(passes, 1))
        e:step()
        assert.equal("applied", w:outcome())
        assert.equal(4, (enter()))
        assert.same({ drains = 0, inside = 0 }, cut())
        assert.is_true(e:status("m").draining <= 2)
      end)

      it("that delays a commit ends when the daemon stops", function()
        start(replace, { over = "wait", drain_ms = 10000, again = 5 })
        for _ = 1, 2 do
          enter()
          change()
        end
        local w = change()
        assert.equal("nothing yet", w:outcome())
        e:stop()
        e:step()
        assert.equal("reverted", w:outcome())
        assert.equal("SEGUE_ECLOSED", w:error().name)
      end)
    end)
  end

  for _, replace in ipairs { "swap", "handover", "restart" } do
    describe("as a manual step, of a module that is replaced by " .. replace, function()
      it("is reported to the hook, which may continue", function()
        start(replace)
        script("drain:m", "ask", 200)
        enter()
        local w = change()
        e:advance(199)
        assert.equal("nothing yet", w:outcome())
        e:advance(1)
        assert.equal("SEGUE_ETIMEOUT", w:error().name)
        assert.equal("m=open", e:gates())
        assert.same({ drains = 0, inside = 0 }, cut())
      end)

      it("counts calls inside as gone, and does not wait for them again", function()
        start(replace, { drain_ms = 3600000 })
        script("drain:m prepare restart:m commit confirm", "cut", 200)
        enter() enter()
        local w = change()
        e:advance(200)
        assert.equal("applied", w:outcome())
        assert.same({ drains = 1, inside = 2 }, cut())
        assert.equal(2, (enter()))
      end)

      it("waits longer with warnings, then counts as gone", function()
        start(replace)
        script("drain:m prepare restart:m commit confirm", "wait", 200, 2)
        enter()
        e:journal()
        local w = change()
        e:advance(400)
        assert.equal(2, warnings())
        assert.equal("nothing yet", w:outcome())
        e:advance(200)
        assert.equal("applied", w:outcome())
        assert.same({ drains = 1, inside = 1 }, cut())
      end)

      it("has the reload undone", function()
        start(replace)
        script("prepare drain:m commit confirm", "undo")
        enter()
        local w = change()
        e:advance(500)
        assert.equal("failed", w:outcome())
        assert.equal("module 'm': 1 is still inside", w:error().message)
        assert.equal("m=open", e:gates())
        assert.equal(1, (enter()))
        assert.equal("1", e:value("x"))
        script "prepare commit confirm" -- it is tried again by itself
        leave()
        leave()
        e:advance(60000)
        assert.equal("2", e:value("x"))
      end)

      it("has the reload undone even if the hook does not mind", function()
        start(replace)
        script("prepare try:m commit confirm", "undo")
        enter()
        local w = change()
        e:advance(500)
        assert.equal("failed", w:outcome())
        assert.equal("1", e:value("x"))
        assert.equal("m=open", e:gates())
        script("prepare try:m commit confirm", "ask")
        w = change()
        e:advance(500)
        assert.equal(replace == "restart" and "nothing yet" or "applied", w:outcome())
      end)

      it("of a manual restart obeys the policy", function()
        start(replace, { over = replace == "restart" and "undo" or "cut" })
        script "prepare restart:m commit confirm"
        enter()
        local w = change()
        e:advance(500)
        assert.equal(replace == "restart" and "reverted" or "applied", w:outcome())
        assert.equal("m=open", e:gates())
      end)

      it("of a manual restart is not waited for when the hook is over", function()
        e = engine.started { modules = { { "m", replace, drain_ms = 3600000, over = "undo" } },
          reload = "prepare commit confirm", set = { reload_ms = 300 } }
        e.x = 1
        script "prepare restart:m commit confirm"
        enter()
        local w = change()
        e:advance(300)
        assert.equal("SEGUE_ETIMEOUT", w:error().name)
        assert.equal("m=open", e:gates())
        assert.equal(1, (enter()))
        C.scripted_hooks_finish(e.hooks)
      end)
    end)
  end

  it("survives every memory failure with the old or the new one whole", function()
    for _, over in ipairs { "cut", "wait", "undo" } do
      start("restart", { over = over, again = 1 })
      for n = 1, 120 do
        local before = e:generation()
        e.x = e.x + 1
        e:write("a.yaml", "x: " .. e.x .. "\n")
        local _, pass = enter()
        local w = e:reload { fail_at = n }
        e:step()
        e:advance(500)
        e:advance(500)
        C.segue__mem_fail_at(0)
        e:advance(60000)
        assert.equal("m=open", e:gates(), over .. " n = " .. n)
        assert.is_true(w.rc ~= 0 or w:answered(), over .. " n = " .. n)
        assert.is_true(e:generation() >= before)
        C.segue_gate_leave(pass)
        passes = {}
        e:step()
        e:advance(120000)
        e:reload()
        e:step()
        assert.equal(tostring(e.x), e:value("x"), over .. " n = " .. n)
        e:journal()
      end
      e:close()
      e = nil
    end
  end)
end)
