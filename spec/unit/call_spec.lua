-- SPDX-License-Identifier: MIT
-- Modules that call each other: a thread inside one module meets its own generation in the modules
-- that this one needs, whatever a transaction does meanwhile.
local C = require "spec.support.c"
local engine = require "spec.support.engine"
local ffi = C.ffi

describe("a module that calls another one", function()
  local e, passes
  before_each(function() passes = {} end)
  after_each(function()
    for _, pass in ipairs(passes) do C.segue_gate_leave(pass) end
    if e then
      e:step()
      e:close()
    end
    e = nil
  end)

  local function gate(name) return C.segue__module_find(e.c.modules, name).gate end
  local function took(rc, pass)
    if rc ~= 0 then return C.name(rc) end
    passes[#passes + 1] = pass
    return tonumber(C.gate_house_generation(pass)), pass
  end
  local function enter(name)
    local pass = ffi.new("segue_pass[1]")
    return took(C.segue_gate_enter(gate(name), pass), pass)
  end
  local function call(name, from)
    local pass = ffi.new("segue_pass[1]")
    return took(C.segue_gate_enter_from(gate(name), from, pass), pass)
  end
  local function leave(pass)
    C.segue_gate_leave(pass)
    e:step()
  end

  -- The first gate that a thread passes gives it memory that it keeps.
  setup(function()
    passes = {}
    e = engine.started { modules = { { "front" }, { "middle" }, { "store" } } }
    for _, name in ipairs { "front", "middle", "store" } do
      C.segue_gate_leave(select(2, enter(name)))
    end
    e:close(true)
    e, passes = nil, {}
  end)

  -- front calls middle, which calls store; other calls no module.
  local function modules(store)
    return {
      { "store", store or "handover", config = "x", drain_ms = 5000 },
      { "middle", "handover", needs = { "store" }, drain_ms = 5000 },
      { "front", "handover", needs = { "middle" }, drain_ms = 5000 },
      { "other", "handover", drain_ms = 5000 },
    }
  end
  local function start(store)
    e = engine.started { modules = modules(store) }
    e.x = 1
  end
  local function change()
    e.x = e.x + 1
    e:write("a.yaml", "x: " .. e.x .. "\n")
    local w = e:reload()
    e:step()
    return w
  end
  local function calls(verb)
    local n = 0
    for line in e:journal():gmatch "[^\n]+" do
      if line:find(verb, 1, true) == 1 then n = n + 1 end
    end
    return n
  end

  it("gets its own generation there, and later callers the next one", function()
    start()
    local _, front = enter "front"
    assert.equal("applied", change():outcome())
    local generation, pass = call("store", front)
    assert.equal(1, generation)
    assert.equal(front[0].snapshot, pass[0].snapshot)
    local live = C.segue__module_find(e.c.modules, "store").live
    assert.not_equal(C.segue__instance_object(live), pass[0].instance)
    local _, newer = enter "front"
    assert.equal(2, (call("store", newer)))
    assert.equal(2, (enter "store"))
  end)

  it("finds it there until it has left itself, also over another module and over more reloads",
    function()
      start()
      local _, front = enter "front"
      change()
      local _, middle = call("middle", front)
      assert.equal(1, (call("store", middle)))
      leave(passes[#passes])
      leave(middle)
      change()
      assert.equal(1, calls "store.stop") -- of the second generation, which no caller entered
      assert.equal(1, (call("store", front)))
      leave(passes[#passes])
      assert.equal(0, calls "store.stop")
      leave(front)
      assert.equal(1, calls "store.stop")
      assert.equal(3, (call("store", front)))
    end)

  it("keeps no module alive that it does not need", function()
    start()
    local _, other = enter "other"
    e:journal()
    change()
    assert.equal(1, calls "store.stop")
    assert.equal(2, (call("store", other)))
  end)

  it("gets the live one where its own generation has none any more", function()
    start()
    local _, front = enter "front"
    change()
    e:advance(5000) -- its drain runs over
    e:step()
    assert.equal(2, (call("store", front)))
    assert.equal(2, (call("store", nil)))
    assert.equal(2, (call("store", ffi.new("segue_pass[1]"))))
  end)

  it("gets the generation that was undone, if it entered by it", function()
    start()
    e:set_policy { modules = modules(), probe = engine.FAIL, set = { confirm_within_ms = 2000 } }
    local w = change()
    local generation, front = enter "front"
    assert.equal(2, generation)
    assert.equal(2, (call("store", front)))
    leave(passes[#passes])
    e:advance(2000)
    e:step()
    assert.equal(1, (enter "store"))
    assert.equal(2, (call("store", front)))
    leave(passes[#passes])
    assert.equal(0, calls "store.stop")
    leave(front)
    assert.equal(1, calls "store.stop")
    assert.equal("reverted", w:outcome())
  end)

  it("waits at the gate of a module that is restarted, and gets the next instance", function()
    start "restart"
    local _, front = enter "front"
    e:behave("store", "start", engine.LATER)
    local w = change()
    assert.equal("nothing yet", w:outcome())
    assert.equal("EAGAIN", (call("store", front)))
    e:behave("store", "start", engine.OK)
    e:finish("store", "start")
    e:step()
    assert.equal("applied", w:outcome())
    assert.equal(2, (call("store", front)))
  end)

  it("gets its own generation also where it had to wait at the gate", function()
    start()
    local _, front = enter "front"
    call("store", front)
    assert.equal("applied", change():outcome())
    local store, met = C.segue__module_find(e.c.modules, "store"), nil
    C.segue__gate_shut(store.gate)
    local r = ffi.new("segue_arrival[1]")
    local cb = ffi.cast("void (*)(segue_arrival *, int)", function(_, status)
      met = status == 0 and tonumber(C.gate_house_generation(r[0].pass)) or status
      C.segue_gate_leave(r[0].pass)
    end)
    r[0].cb, r[0].from = cb, front
    assert.equal(C.SEGUE_QUEUED, C.segue_gate_submit(store.gate, r))
    assert.equal(0, C.segue__gate_open(store.gate, store.live, e.c.live))
    e:step()
    cb:free()
    assert.equal(1, met)
  end)

  it("gets the live instance of a service, which is swapped", function()
    start "swap"
    local _, front = enter "front"
    assert.equal("applied", change():outcome())
    assert.equal(2, (call("store", front)))
  end)

  it("gets one that was removed", function()
    start()
    local _, front = enter "front"
    e:set_policy { modules = { { "other", "handover" } } }
    local w = e:reload()
    e:step()
    assert.equal("applied", w:outcome())
    assert.equal(1, (call("store", front)))
    assert.equal("SEGUE_EMODULE", (enter "store"))
  end)

  it("enters at once by its snapshot when it submits a request", function()
    start()
    local _, front = enter "front"
    change()
    local arrival = ffi.new("segue_arrival[1]")
    arrival[0].from = front
    assert.equal(C.SEGUE_RUN, C.segue_gate_submit(gate "store", arrival))
    assert.equal(1, tonumber(C.gate_house_generation(arrival[0].pass)))
    C.segue_gate_leave(arrival[0].pass)
  end)
end)
