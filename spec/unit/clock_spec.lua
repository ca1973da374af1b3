-- SPDX-License-Identifier: MIT
-- Clocks: which one counts for a deadline to confirm, while the wall clock is set forward or back,
-- the machine sleeps, and the daemon is started again inside the window (core/record/decisions.h).
local C = require "spec.support.c"
local engine = require "spec.support.engine"
local tempdir = require "spec.support.tempdir"

local MINUTE, HOUR, DAY = 60000, 3600000, 86400000
local WALL = 1700000000000

describe("the deadline to confirm", function()
  local dir, e, wall, now
  before_each(function()
    dir, wall, now = tempdir.new(), WALL, 1000000
  end)
  after_each(function()
    if e then e:close() end
    e = nil
    tempdir.remove_all()
  end)

  -- Advances both clocks, the monotonic and the wall clock; each second something looks at them.
  local function pass(ms)
    now, wall = now + ms, wall + ms
    while ms > 0 do
      local step = math.min(ms, 1000)
      e:advance(step)
      C.segue__engine_tick(e.c)
      e:step()
      ms = ms - step
    end
  end

  -- Sets the wall clock; for the process, a machine that was suspended looks the same.
  local function set_clock(by, unseen)
    wall = wall + by
    C.segue__loop_jump_wall(e.loop, by)
    if unseen then return end
    C.segue__engine_tick(e.c)
    e:step()
  end

  local function spec_of(x)
    return { files = { ["a.yaml"] = "x: " .. x .. "\n" }, state = dir.path, now_ms = now,
      wall_ms = wall, by_operator = true, modules = { { "log", "swap" },
      { "db", "restart", start_ms = HOUR } }, set = { confirm_within_ms = MINUTE } }
  end

  local function start(x)
    e = engine.new(spec_of(x))
    local w = e:reload { trigger = "start", cause = "start" }
    e:step()
    return w
  end

  local function hold()
    local out = C.new "segue__operator_status"
    C.segue__engine_operator_status(e.c, out)
    return out
  end

  -- 1 is live and confirmed, 2 is live and waits.
  local function open()
    start(1)
    C.check(C.segue__engine_confirm(e.c, "spec", nil))
    e:step()
    e:write("a.yaml", "x: 2\n")
    local w = e:reload()
    e:step()
    assert.equal("SEGUE_EUNCONFIRMED", w:status())
    assert.equal("2", e:value "x")
    return w
  end

  -- down_ms: how long no process is there; by: what is done to the wall clock meanwhile.
  local function restart(down_ms, by)
    local waits = hold().unconfirmed
    e:close()
    e = nil
    now, wall = 5, wall + down_ms + (by or 0) -- another boot, perhaps
    local w = start(2)
    return w, waits
  end

  local function waits() return hold().unconfirmed and e:value "x" == "2" end

  -- It is live for so long and no longer.
  local function ends_after(ms)
    pass(ms - 1500)
    assert.is_true(waits())
    pass(3000)
    assert.is_false(hold().unconfirmed)
    assert.equal("1", e:value "x")
    assert.is_true(hold().pinned)
  end

  it("is that of the policy if no clock is changed", function()
    open()
    ends_after(MINUTE)
  end)

  for name, by in pairs { ["forward by a day"] = DAY, ["back by a day"] = -DAY,
    ["forward by two seconds"] = 2000, ["back to 1970"] = -WALL + 1000 } do
    it("stays where it was when the wall clock is set " .. name, function()
      open()
      pass(20000)
      set_clock(by)
      ends_after(MINUTE - 20000)
    end)

    it("stays, and can be met, after a restart when the wall clock was set " .. name .. " before",
    function()
      open()
      pass(20000)
      set_clock(by)
      local w = restart(10000)
      assert.equal("SEGUE_EUNCONFIRMED", w:status())
      assert.is_true(waits())
      C.check(C.segue__engine_confirm(e.c, "spec", nil))
      e:step()
      assert.is_false(hold().unconfirmed)
      pass(HOUR)
      assert.equal("2", e:value "x")
      restart(0)
      assert.is_false(hold().unconfirmed)
      assert.equal("2", e:value "x")
    end)

    it("stays, and can pass, after a restart when the wall clock was set " .. name .. " before",
    function()
      open()
      pass(20000)
      set_clock(by)
      restart(10000)
      ends_after(MINUTE - 30000)
    end)
  end

  it("waits while the machine sleeps", function()
    open()
    pass(20000)
    set_clock(8 * HOUR)
    assert.is_true(waits())
    local until_ms = tonumber(hold().unconfirmed_until_wall_ms)
    assert.is_true(math.abs(until_ms - (wall + MINUTE - 20000)) <= 1000)
    ends_after(MINUTE - 20000)
  end)

  it("passes while no process runs, and the start reverts the unconfirmed generation", function()
    open()
    local w = restart(2 * MINUTE)
    assert.equal("held", w:outcome())
    assert.matches("was not confirmed in time", w:error().message)
    e:replay_last_good()
    e:step()
    assert.equal("1", e:value "x")
    assert.is_true(hold().pinned)
  end)

  it("stops while the last good generation is brought back before the one that waits", function()
    open()
    e:close()
    e = engine.new(spec_of(2))
    e:behave("db", "prepare", engine.LATER)
    local w = e:reload { trigger = "start", cause = "start" }
    e:step()
    assert.is_false(w:answered())
    assert.is_true(C.segue__engine_starting(e.c))
    e:stop()
    e:finish("db", "prepare")
    e:step()
    assert.is_true(w:answered())
    assert.equal("SEGUE_ECLOSED", w:outcome())
  end)

  it("of a rollback continues during a request whose files are looked up", function()
    open()
    C.check(C.segue__engine_confirm(e.c, "spec", nil))
    e:step()
    C.check(C.segue__engine_rollback(e.c, 1, C.SEGUE__BY_CONTROL, "spec", nil))
    e:step()
    assert.equal("1", e:value "x")
    assert.is_true(hold().unconfirmed)
    e:close()
    e = engine.new(spec_of(2))
    local first = { c = C.scripted_waiter_new() }
    table.insert(e.waiters, first)
    assert.equal(1, C.segue__engine_resume_rollback(e.c, first.c.waiter))
    local early = e:reload()
    e:step()
    assert.equal("1", e:value "x")
    assert.is_false(early:answered())
    assert.equal(1, first.c.calls)
  end)

  it("has passed for a start where the clock was set forward while no process ran", function()
    open()
    assert.equal("held", restart(1000, DAY):outcome())
    e:replay_last_good()
    e:step()
    assert.equal("1", e:value "x")
  end)

  it("is no later than the policy allows where the clock was set back meanwhile", function()
    open()
    pass(30000)
    restart(1000, -DAY)
    assert.is_true(waits())
    ends_after(MINUTE)
  end)

  it("has passed for a start after an unnoticed jump: the start reverts", function()
    open()
    set_clock(DAY, true)
    assert.equal("held", restart(0):outcome())
  end)

  it("survives restart after restart without growing", function()
    open()
    for _ = 1, 5 do
      pass(5000)
      restart(5000)
      assert.is_true(waits())
    end
    ends_after(MINUTE - 50000)
  end)

  it("begins when the generation is live, however long the reload took", function()
    start(1)
    C.check(C.segue__engine_confirm(e.c, "spec", nil))
    e:step()
    e:behave("db", "start", engine.LATER)
    e:write("a.yaml", "x: 2\n")
    e:reload()
    e:step()
    pass(3 * MINUTE)
    assert.equal("1", e:value "x")
    set_clock(DAY)
    e:behave("db", "start", engine.OK)
    e:finish("db", "start")
    e:step()
    assert.is_true(waits())
    pass(MINUTE / 2)
    restart(1000)
    assert.is_true(waits())
    ends_after(MINUTE / 2 - 1000)
  end)
end)

describe("a probe's hold", function()
  it("is measured by the monotonic clock", function()
    local dir = tempdir.new()
    local e = engine.started { state = dir.path }
    for _, by in ipairs { DAY, -DAY } do
      e:set_policy { probe = engine.OK, set = { confirm_hold_ms = 2000,
        confirm_within_ms = MINUTE } }
      e:write("a.yaml", "x: " .. by .. "\n")
      local w = e:reload()
      e:step()
      C.segue__loop_jump_wall(e.loop, by)
      e:advance(1500)
      assert.is_false(w:answered())
      e:advance(1000)
      assert.equal("applied", w:outcome())
    end
    e:close()
    tempdir.remove_all()
  end)
end)

describe("the age of the last good generation", function()
  local MAX = 8 * HOUR
  local dir, e
  before_each(function() dir = tempdir.new() end)
  after_each(function()
    e:close()
    tempdir.remove_all()
  end)

  local function good() return tonumber(C.segue__engine_good_wall_ms(e.c)) end

  local function tick(ms)
    e:advance(ms)
    C.segue__engine_tick(e.c)
    e:step()
  end

  local function started(options)
    options.files, options.state = { ["a.yaml"] = "x: 1\n" }, dir.path
    e = engine.started(options)
    e:close() -- what is on disk is known from the next start on
    options.wall_ms = WALL + HOUR
    e = engine.started(options)
    assert.equal(WALL, good())
  end

  it("is stored from time to time while it is known to equal the sources", function()
    started { set = { last_good_age_ms = MAX } }
    tick(1000)
    assert.equal(WALL + HOUR + 1000, good())
    tick(1000)
    assert.equal(WALL + HOUR + 1000, good()) -- not every second
    tick(600000)
    assert.equal(WALL + HOUR + 602000, good())
  end)

  it("is not stored where the policy does not limit it, while it is stale, or not kept", function()
    started {}
    tick(HOUR)
    assert.equal(WALL, good())
    e:set_policy { set = { last_good_age_ms = MAX } }
    e:reload()
    e:step()
    C.segue__engine_set_stale(e.c, WALL)
    tick(HOUR)
    assert.equal(WALL, good())
    C.segue__engine_set_stale(e.c, 0)
    C.segue__fault_arm "last_good.write=fail:-28"
    e:write("a.yaml", "x: 2\n")
    e:reload()
    e:step()
    tick(HOUR)
    C.segue__fault_arm(nil)
    assert.equal(WALL, good())
    e:write("a.yaml", "x: 3\n")
    e:reload()
    e:step()
    tick(HOUR)
    assert.is_true(good() > WALL)
  end)

  it("does not decrease with the wall clock, and is stored again after a failure", function()
    started { set = { last_good_age_ms = MAX } }
    C.segue__loop_jump_wall(e.loop, -DAY)
    tick(HOUR)
    assert.equal(WALL, good())
    C.segue__loop_jump_wall(e.loop, DAY)
    C.segue__fault_arm "state.write=fail:-28"
    tick(HOUR)
    C.segue__fault_arm(nil)
    e:journal()
    tick(1000)
    e:close()
    e = engine.new { files = { ["a.yaml"] = "x: 1\n" }, state = dir.path }
    assert.equal(WALL + HOUR + 2 * HOUR, good())
  end)
end)
