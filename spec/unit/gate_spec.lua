-- SPDX-License-Identifier: MIT
-- Gates: which caller enters, which waits, in which order, and that no request is lost, answered
-- twice, or left with an instance that is gone, while a transaction changes the gate.
local C = require "spec.support.c"
local Loop = require "spec.support.loop"
local ffi = C.ffi

local UV_EAGAIN = -11
local OVERFLOW, AGE = C.SEGUE__REFUSED_OVERFLOW, C.SEGUE__REFUSED_AGE

describe("a gate", function()
  local loop, house, base
  before_each(function()
    base = C.segue__mem_live()
    loop = Loop.manual(1000)
    local out = ffi.new("gate_house *[1]")
    C.check(C.gate_house_new(out, loop.ptr))
    house = out[0]
  end)
  after_each(function()
    if house then C.gate_house_free(house) end
    house = nil
    loop:close()
  end)

  local function step() C.segue__loop_step(loop.ptr) end
  local function advance(ms) C.segue__loop_advance(loop.ptr, ms) end
  local function instance(generation)
    local i = C.gate_house_instance(house, generation)
    assert.truthy(i ~= nil)
    return i
  end
  local function open(generation)
    local i = instance(generation)
    assert.equal(0, C.gate_house_open(house, i))
    return i
  end
  -- Drains an instance as a transaction does; returns the status of the drain.
  local function drain(i, ms)
    local status = ffi.new("int[1]")
    C.gate_house_drain(i, ms or 1000, status)
    return setmetatable({}, { __index = function(_, key)
      step()
      if key == "over" then return status[0] ~= 1 end
      return status[0]
    end })
  end
  local function close(i)
    C.segue__gate_refuse(house.gate, C.SEGUE_EMODULE)
    assert.equal(0, drain(i).status)
    C.segue__instance_release(i)
  end
  local function enter()
    local pass = ffi.new("segue_pass[1]")
    return pass, C.segue_gate_enter(house.gate, pass)
  end
  local function generation(pass) return tonumber(C.gate_house_generation(pass)) end
  local function status()
    local out = ffi.new("segue__gate_status[1]")
    C.segue__gate_status_get(house.gate, out)
    return out[0]
  end
  local function alive() return tonumber(house.alive) end

  -- Requests that record their results.
  local answers
  local function request(name, key, bytes, on_answer)
    local r = ffi.new("segue_arrival[1]")
    r[0].key, r[0].bytes = key or 0, bytes or 0
    r[0].cb = loop:cb("void (*)(segue_arrival *, int)", function(answered, code)
      assert.equal(ffi.cast("void *", r), ffi.cast("void *", answered))
      answers[#answers + 1] = name .. (code == 0 and "=" .. generation(r[0].pass)
        or " " .. C.str(C.segue_error_name(code)))
      if on_answer then on_answer(code) end
      C.segue_gate_leave(r[0].pass)
    end)
    return r
  end
  local function submit(r) return C.segue_gate_submit(house.gate, r) end
  before_each(function() answers = {} end)

  it("refuses before there is a module behind it", function()
    local pass, rc = enter()
    assert.equal(C.SEGUE_EMODULE, rc)
    assert.equal(0, generation(pass))
    C.segue_gate_leave(pass)
    assert.equal(C.SEGUE_EMODULE, submit(request "a"))
    assert.equal(2, tonumber(status().refused[C.SEGUE__REFUSED_MODULE]))
  end)

  it("admits to an instance and its snapshot, and pins both until the pass is left", function()
    local one = open(1)
    local pass, rc = enter()
    assert.equal(0, rc)
    assert.equal(1, generation(pass))
    assert.equal(C.segue__instance_object(one), pass[0].instance)
    assert.equal(1, tonumber(status().inside))
    local two = open(2)
    local old = drain(one, 5000)
    assert.is_false(old.over)
    assert.equal(2, alive())
    local newer = enter()
    assert.equal(2, generation(newer))
    assert.equal(1, generation(pass))
    C.segue_gate_leave(newer)
    C.segue_gate_leave(pass)
    assert.equal(0, generation(pass))
    assert.is_true(old.over)
    assert.equal(0, old.status)
    C.segue__instance_release(one)
    assert.equal(1, alive())
    C.segue_gate_leave(pass) -- an empty one
    assert.equal(0, tonumber(status().inside))
    close(two)
    assert.equal(0, alive())
  end)

  it("is left on another thread than it was entered on, also by threads that are gone", function()
    local one = open(1)
    local mine, theirs = enter(), ffi.new("segue_pass[1]")
    assert.equal(0, C.gate_house_enter_elsewhere(house, theirs))
    assert.equal(2, tonumber(status().inside))
    local two = open(2)
    local old = drain(one)
    C.gate_house_leave_elsewhere(mine)
    assert.is_false(old.over)
    C.segue_gate_leave(theirs)
    assert.is_true(old.over)
    assert.equal(0, old.status)
    C.segue__instance_release(one)
    close(two)
  end)

  it("cuts a drain at its deadline, and keeps the instance for calls inside", function()
    local one = open(1)
    local pass = enter()
    C.segue__gate_shut(house.gate)
    local old = drain(one, 700)
    advance(699)
    assert.is_false(old.over)
    advance(1)
    assert.equal(C.SEGUE_ETIMEOUT, old.status)
    C.segue__instance_release(one)
    assert.equal(1, alive())
    assert.equal(1, generation(pass))
    C.segue_gate_leave(pass)
    step()
    assert.equal(0, alive())
  end)

  it("abandons a drain that is cancelled while a call is inside", function()
    local one = open(1)
    local pass = enter()
    C.segue__gate_shut(house.gate)
    local old = drain(one, 700)
    assert.is_false(old.over)
    C.segue__instance_cancel(one, C.SEGUE__DRAIN)
    assert.is_true(old.over)
    assert.truthy(old.status < 0)
    C.segue__instance_release(one)
    C.segue_gate_leave(pass)
    step()
  end)

  it("buffers while it is shut, and admits in the order of arrival", function()
    local one = open(1)
    C.segue__gate_shut(house.gate)
    local _, rc = enter()
    assert.equal(UV_EAGAIN, rc)
    local requests = {}
    for i = 1, 5 do
      requests[i] = request("r" .. i, i % 2)
      assert.equal(C.SEGUE_QUEUED, submit(requests[i]))
    end
    assert.equal(5, tonumber(status().waiting))
    step()
    assert.same({}, answers)
    assert.equal(0, drain(one).status)
    C.segue__instance_release(one)
    local two = open(2)
    assert.same({}, answers) -- not before the flip is over
    step()
    assert.same({ "r1=2", "r2=2", "r3=2", "r4=2", "r5=2" }, answers)
    assert.equal(0, tonumber(status().waiting))
    assert.equal(5, tonumber(status().waited[0]))
    close(two)
  end)

  it("admits no request before an earlier one of its key", function()
    local one = open(1)
    C.segue__gate_shut(house.gate)
    local late, other = request("late", 7), request("other", 8)
    local early = request("early", 7, 0, function()
      assert.equal(C.SEGUE_QUEUED, submit(late))
      assert.equal(C.SEGUE_RUN, submit(other))
      C.segue_gate_leave(other[0].pass)
    end)
    assert.equal(C.SEGUE_QUEUED, submit(early))
    C.segue__gate_unflip(house.gate)
    assert.equal(0, C.gate_house_open(house, one))
    assert.equal(C.SEGUE_RUN, submit(other)) -- open, and no request of that key waits
    C.segue_gate_leave(other[0].pass)
    step()
    assert.same({ "early=1", "late=1" }, answers)
    assert.equal(C.SEGUE_RUN, submit(late))
    C.segue_gate_leave(late[0].pass)
    close(one)
  end)

  it("refuses what does not fit into the buffer", function()
    local one = open(1)
    C.segue__gate_limit(house.gate, ffi.new("segue__gate_limits", { 2, 100, 0 }))
    C.segue__gate_shut(house.gate)
    local a, b, c = request("a", 0, 60), request("b", 0, 41), request("c", 0, 40)
    assert.equal(C.SEGUE_QUEUED, submit(a))
    assert.equal(C.SEGUE_ELIMIT, submit(b))
    assert.equal(C.SEGUE_QUEUED, submit(c))
    assert.equal(C.SEGUE_ELIMIT, submit(request "d"))
    assert.equal(2, tonumber(status().refused[OVERFLOW]))
    assert.is_true(C.segue_gate_cancel(house.gate, a))
    assert.equal(C.SEGUE_QUEUED, submit(b))
    assert.equal(0, C.gate_house_open(house, one))
    step()
    assert.same({ "c=1", "b=1" }, answers)
    close(one)
  end)

  it("refuses a call that has waited too long, and only this one", function()
    local one = open(1)
    C.segue__gate_limit(house.gate, ffi.new("segue__gate_limits", { 0, 0, 500 }))
    C.segue__gate_shut(house.gate)
    local a, b, c = request "a", request "b", request "c"
    submit(a)
    submit(b)
    step()
    advance(300)
    submit(c)
    step()
    assert.is_true(C.segue_gate_cancel(house.gate, a))
    advance(199)
    assert.same({}, answers)
    advance(1)
    assert.same({ "b SEGUE_ETIMEOUT" }, answers)
    assert.equal(1, tonumber(status().refused[AGE]))
    advance(100)
    assert.equal(0, C.gate_house_open(house, one))
    step()
    assert.same({ "b SEGUE_ETIMEOUT", "c=1" }, answers)
    assert.equal(300, tonumber(status().waited_ms))
    close(one)
  end)

  it("forgets a client that left while it waited, once", function()
    local one = open(1)
    C.segue__gate_shut(house.gate)
    local a, b = request("a", 1), request("b", 1)
    submit(a)
    submit(b)
    assert.is_true(C.segue_gate_cancel(house.gate, a))
    assert.is_false(C.segue_gate_cancel(house.gate, a))
    assert.equal(0, C.gate_house_open(house, one))
    step()
    assert.same({ "b=1" }, answers)
    assert.is_false(C.segue_gate_cancel(house.gate, b))
    assert.equal(C.SEGUE_RUN, submit(a)) -- the key does not wait any more
    assert.is_false(C.segue_gate_cancel(house.gate, a))
    C.segue_gate_leave(a[0].pass)
    close(one)
  end)

  it("refuses all waiting calls when the module fails, and when the instance ends", function()
    local one = open(1)
    C.segue__gate_shut(house.gate)
    submit(request "a")
    C.segue__gate_refuse(house.gate, C.SEGUE_EMODULE)
    step()
    assert.same({ "a SEGUE_EMODULE" }, answers)
    C.segue__gate_shut(house.gate)
    submit(request "b")
    assert.equal(0, drain(one).status)
    C.segue__instance_release(one)
    C.segue__gates_end(house.gates)
    assert.same({ "a SEGUE_EMODULE", "b SEGUE_ECLOSED" }, answers)
    assert.equal(C.SEGUE_ECLOSED, submit(request "c"))
    local _, rc = enter()
    assert.equal(C.SEGUE_ECLOSED, rc)
    assert.equal(C.SEGUE_ECLOSED,
      C.segue_gate_enter(C.segue__gates_get(house.gates, "new"), ffi.new("segue_pass[1]")))
    assert.equal(3, tonumber(status().refused[C.SEGUE__REFUSED_CLOSED]))
  end)

  it("restores the previous instance without a drain", function()
    local one, two = open(1), instance(2)
    local first = enter()
    assert.equal(0, C.gate_house_reserve(house, two))
    C.segue__gate_flip(house.gate)
    local second = enter()
    assert.equal(2, generation(second))
    C.segue__gate_unflip(house.gate)
    local third = enter()
    assert.equal(1, generation(third))
    local undone = drain(two)
    assert.is_false(undone.over)
    for _, pass in ipairs { first, second, third } do C.segue_gate_leave(pass) end
    assert.is_true(undone.over)
    C.segue__instance_release(two)
    assert.equal(1, alive())
    close(one)
  end)

  it("admits a call to the open instance if the gate flips while the call enters", function()
    local one, two = open(1), instance(2)
    assert.equal(0, C.gate_house_reserve(house, two))
    local pass = ffi.new("segue_pass[1]")
    assert.equal(0, C.gate_house_enter_in_a_flip(house, pass))
    assert.equal(2, generation(pass))
    C.segue__gate_settle(house.gate)
    assert.equal(0, drain(one).status) -- no pass is inside
    C.segue__instance_release(one)
    C.segue_gate_leave(pass)
    close(two)
  end)

  it("keeps nothing of a flip that does not happen", function()
    local one, two = open(1), instance(2)
    assert.equal(0, C.gate_house_reserve(house, two))
    C.segue__gate_unreserve(house.gate)
    C.segue__instance_release(two)
    assert.equal(1, alive())
    close(one)
  end)

  it("reports too many instances with calls inside, and keeps an old one", function()
    local passes, all = {}, {}
    for i = 1, 16 do
      all[i] = open(i)
      passes[i] = enter()
      assert.equal(i, generation(passes[i]))
    end
    local more = instance(17)
    assert.equal(C.SEGUE_ELIMIT, C.gate_house_open(house, more))
    -- The same instance with another snapshot has no need of a place.
    assert.equal(0, C.gate_house_open(house, all[16]))
    assert.equal(0, C.gate_house_reserve(house, all[16]))
    C.segue__gate_unreserve(house.gate)
    assert.equal(0, C.gate_house_reserve(house, all[16]))
    C.segue__gate_flip(house.gate)
    C.segue__gate_unflip(house.gate)
    assert.equal(16, generation(passes[16])) -- what it was given is still there
    C.segue_gate_leave(passes[3])
    assert.equal(0, C.gate_house_open(house, more))
    for i = 1, 16 do
      C.segue_gate_leave(passes[i])
      assert.equal(0, drain(all[i]).status)
      C.segue__instance_release(all[i])
    end
    assert.equal(1, alive())
    close(more)
  end)

  it("counts without memory for it, and fails whole where it needs some", function()
    local one = open(1)
    local pass = ffi.new("segue_pass[1]")
    C.segue__mem_fail_at(1)
    assert.equal(0, C.gate_house_enter_elsewhere(house, pass))
    C.segue__mem_fail_at(0)
    assert.equal(1, tonumber(status().inside))
    local two = open(2)
    local old = drain(one)
    assert.is_false(old.over)
    C.segue__mem_fail_at(1)
    C.gate_house_leave_elsewhere(pass)
    C.segue__mem_fail_at(0)
    assert.equal(0, old.status)
    C.segue__instance_release(one)
    for n = 1, 2 do
      C.segue__mem_fail_at(n)
      assert.is_true(C.segue__gates_get(house.gates, "other") == nil)
      C.segue__mem_fail_at(0)
    end
    close(two)
  end)

  it("is one per name, for as long as all", function()
    local other = C.segue__gates_get(house.gates, "other")
    assert.equal(house.gate, C.segue__gates_get(house.gates, "m"))
    assert.equal(other, C.segue__gates_get(house.gates, "other"))
    assert.not_equal(other, house.gate)
    assert.equal(C.SEGUE__GATE_REFUSING, C.segue__gate_state_get(other))
  end)

  it("loses, doubles and mixes up nothing under threads", function()
    for _, threads in ipairs { 2, 4 } do
      local storm = ffi.new("gate_storm[1]")
      storm[0].threads, storm[0].rounds = threads, 100
      C.check(C.gate_storm_run(house, storm))
      local s = storm[0]
      assert.same({ lost = 0, doubled = 0, disordered = 0, wrong = 0, older = 0, crowded = 0 },
        { lost = tonumber(s.lost), doubled = tonumber(s.doubled),
          disordered = tonumber(s.disordered), wrong = tonumber(s.wrong),
          older = tonumber(s.older), crowded = tonumber(s.crowded) })
      assert.truthy(s.passed >= 100 * 10 * threads, "too few passed")
      assert.truthy(s.waited > 0, "nobody waited")
      assert.equal(0, alive())
      local now = status()
      assert.same({ 0, 0 }, { tonumber(now.inside), tonumber(now.waiting) })
    end
  end)

  it("keeps calls in their own generation while both modules are replaced", function()
    local storm = ffi.new("call_storm[1]")
    storm[0].rounds = 300
    C.check(C.call_storm_run(house, storm))
    local s = storm[0]
    assert.same({ mixed = 0, gone = 0, refused = 0 },
      { mixed = tonumber(s.mixed), gone = tonumber(s.gone), refused = tonumber(s.refused) })
    assert.truthy(s.calls >= 299 * 20, "too few called")
  end)

  it("gives all memory back", function()
    local one = open(1)
    close(one)
    C.gate_house_free(house)
    house = nil
    -- This thread's own counter stays with the thread.
    assert.truthy(C.segue__mem_live() <= base + 2)
  end)
end)
