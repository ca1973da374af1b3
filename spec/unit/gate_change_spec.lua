-- SPDX-License-Identifier: MIT
-- Gates while a transaction changes them: which caller waits, which generation answers it, and that
-- no request is lost, answered twice, or left with an instance that is gone.
local C = require "spec.support.c"
local engine = require "spec.support.engine"
local ffi = C.ffi

local SEGUE_QUEUED = C.SEGUE_QUEUED

describe("a transaction that moves gates", function()
  local e, waiting, passes
  setup(engine.pass_first_gates)
  before_each(function() waiting, passes = {}, {} end)
  after_each(function()
    for _, pass in ipairs(passes) do C.segue_gate_leave(pass) end
    e:step()
    e:close()
    for _, cb in ipairs(waiting) do cb:free() end
  end)

  local function gate(name) return C.segue__module_find(e.c.modules, name or "m").gate end
  local function enter(name)
    local pass = ffi.new("segue_pass[1]")
    local rc = C.segue_gate_enter(gate(name), pass)
    passes[#passes + 1] = pass
    return rc == 0 and tonumber(C.gate_house_generation(pass)) or rc, pass
  end
  local function submit(answers)
    local r = ffi.new("segue_arrival[1]")
    local cb = ffi.cast("void (*)(segue_arrival *, int)", function(_, status)
      answers[#answers + 1] = status == 0 and tonumber(C.gate_house_generation(r[0].pass)) or status
      C.segue_gate_leave(r[0].pass)
    end)
    waiting[#waiting + 1] = cb
    r[0].cb = cb
    answers[r] = true
    return C.segue_gate_submit(gate(), r)
  end

  it("restarts a module only when all calls inside have left, and buffers new ones", function()
    e = engine.started { modules = { { "m", "restart", exclusive = true } } }
    local generation, pass = enter()
    assert.equal(1, generation)
    local w, answers = e:change(), {}
    assert.equal("nothing yet", w:outcome())
    assert.equal(SEGUE_QUEUED, submit(answers))
    assert.falsy(e:journal():find("m.stop", 1, true))
    C.segue_gate_leave(pass)
    e:step()
    assert.equal("applied", w:outcome())
    assert.same({ 2 }, { answers[1] })
    assert.equal(2, (enter()))
  end)

  it("cuts calls that do not leave in time; they keep their instance", function()
    e = engine.started { modules = { { "m", "restart", drain_ms = 400 } } }
    local _, pass = enter()
    local w = e:change()
    e:advance(399)
    assert.equal("nothing yet", w:outcome())
    e:advance(1)
    assert.equal("applied", w:outcome())
    assert.falsy(e:journal():find("m.destroy 1", 1, true))
    assert.equal(1, tonumber(C.gate_house_generation(pass)))
    C.segue_gate_leave(pass)
    e:step()
    assert.truthy(e:journal():find("m.destroy 1", 1, true))
  end)

  for _, replace in ipairs { "handover", "swap" } do
    it("admits arrivals to the next instance of a " .. replace .. " at once", function()
      e = engine.started { modules = { { "m", replace } } }
      local _, pass = enter()
      assert.equal("applied", e:change():outcome())
      assert.equal(2, (enter()))
      assert.falsy(e:journal():find("m.stop 1", 1, true))
      C.segue_gate_leave(pass)
      for _ = 1, 3 do
        C.scripted_settle(e.publication)
        e:step()
      end
      assert.truthy(e:journal():find("m.stop 1", 1, true))
    end)
  end

  it("gives the next snapshot to calls that enter a module that stays, however often", function()
    e = engine.started { modules = { { "m", "handover", config = "other" } } }
    for generation = 2, 40 do
      assert.equal(generation - 1, (enter()))
      assert.equal("applied", e:change():outcome())
    end
    assert.equal(40, (enter()))
    for i, pass in ipairs(passes) do
      assert.equal(i, tonumber(C.gate_house_generation(pass)))
    end
    assert.falsy(e:journal():find("m.drain", 1, true))
  end)

  it("admits waiting calls to the old generation when it is undone", function()
    e = engine.started { modules = { { "m", "restart", exclusive = true } } }
    e:module("m").behaviour[engine.verbs.start] = engine.FAIL_ONCE
    local _, pass = enter()
    local w, answers = e:change(), {}
    submit(answers)
    C.segue_gate_leave(pass)
    e:step()
    assert.equal("reverted", w:outcome())
    assert.same({ 1 }, { answers[1] })
    assert.equal("m=open", e:gates())
    assert.equal(1, (enter()))
  end)

  it("refuses waiting calls when the module cannot be restored", function()
    e = engine.started { modules = { { "m", "restart" } } }
    e:module("m").behaviour[engine.verbs.start] = engine.FAIL
    local _, pass = enter()
    local _, answers = e:change(), {}
    submit(answers)
    C.segue_gate_leave(pass)
    e:step()
    assert.same({ C.SEGUE_EMODULE }, { answers[1] })
    assert.equal("m=refusing", e:gates())
    assert.equal(C.SEGUE_EMODULE, (enter()))
    e:module("m").behaviour[engine.verbs.start] = engine.OK
    e:advance(60000)
    assert.equal(1, (enter()))
  end)

  it("refuses at the gate of a removed module, and admits when it is back", function()
    e = engine.started { modules = { { "m" }, { "n" } } }
    local _, pass = enter("m")
    e:set_policy { modules = { { "n" } } }
    assert.equal("applied", e:change():outcome())
    assert.equal(C.SEGUE_EMODULE, (enter("m")))
    assert.equal(2, (enter("n")))
    C.segue_gate_leave(pass)
    e:step()
    e:set_policy { modules = { { "n" }, { "m" } } }
    assert.equal("applied", e:change():outcome())
    assert.equal(3, (enter("m")))
  end)

  it("takes the limits of the buffer from the policy", function()
    e = engine.started { modules = { { "m", "restart", buffer = { 1, 0, 200 } } } }
    local _, pass = enter()
    local w, answers = e:change(), {}
    assert.equal(SEGUE_QUEUED, submit(answers))
    assert.equal(C.SEGUE_ELIMIT, submit(answers))
    e:advance(200)
    assert.same({ C.SEGUE_ETIMEOUT }, { answers[1] })
    assert.equal("nothing yet", w:outcome())
    C.segue_gate_leave(pass)
    e:step()
    assert.equal("applied", w:outcome())
  end)

  it("applies a lower age to calls that wait already", function()
    e = engine.started { modules = { { "m", "restart", buffer = { 0, 0, 60000 } } } }
    local _, pass = enter()
    local w, answers = e:change(), {}
    assert.equal(SEGUE_QUEUED, submit(answers))
    e:advance(300)
    local limits = C.new("segue__gate_limits")
    limits.age_ms = 500
    C.segue__gate_limit(C.segue__module_find(e.c.modules, "m").gate, limits)
    e:advance(199)
    assert.is_nil(answers[1])
    e:advance(1)
    assert.same({ C.SEGUE_ETIMEOUT }, { answers[1] })
    C.segue_gate_leave(pass)
    e:step()
    assert.equal("applied", w:outcome())
  end)

  it("has its previous limits when a policy with others is undone", function()
    local before = { modules = { { "m", "restart" } } }
    e = engine.started(before)
    e:set_policy { modules = { { "m", "restart", buffer = { 1, 0, 0 } } }, probe = engine.FAIL,
                   set = { confirm_within_ms = 500 } }
    local reverted = e:change()
    e:advance(500)
    e:step()
    assert.equal("reverted", reverted:outcome())
    e:set_policy(before)
    local _, pass = enter()
    local w, answers = e:change(), {}
    assert.equal(SEGUE_QUEUED, submit(answers))
    assert.equal(SEGUE_QUEUED, submit(answers))
    C.segue_gate_leave(pass)
    e:step()
    assert.equal("applied", w:outcome())
  end)
end)
