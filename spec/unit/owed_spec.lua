-- SPDX-License-Identifier: MIT
-- Writes to the state folder that could not be done in time, and are therefore owed: they are
-- repeated by the tick, and a late write of an earlier one does not count for a newer one.
local C = require "spec.support.c"
local Record = require "spec.support.record"
local engine = require "spec.support.engine"
local tempdir = require "spec.support.tempdir"
local ffi = C.ffi

describe("a write to the state folder that is owed", function()
  local dir, e
  before_each(function() dir = tempdir.new() end)
  after_each(function()
    C.segue__fault_arm(nil)
    if e then e:close() end
    e = nil
    tempdir.remove_all()
  end)

  -- The messages of the loop; the record thread may be at work.
  local function loop_only()
    repeat until C.segue__loop_step(e.loop) == 0
  end

  local function tick(ms)
    C.segue__loop_advance(e.loop, ms)
    loop_only()
    C.segue__engine_tick(e.c)
  end

  local function decisions()
    local slots = Record.slots(dir.path, "state")
    local state, journal = ffi.new("segue__decisions[1]"), ffi.new("segue__journal[1]")
    C.check(C.segue__decisions_read(slots, state, journal))
    C.segue__journal_deinit(journal)
    C.segue__two_slot_file_deinit(ffi.gc(slots, nil))
    return state[0]
  end

  local function good_on_disk()
    local slots = Record.slots(dir.path, "last-good")
    local info, files = ffi.new("segue__last_good[1]"), ffi.new("segue__files *[1]")
    C.check(C.segue__last_good_read(slots, info, files))
    local generation = tonumber(info[0].generation)
    C.segue__last_good_deinit(info)
    C.segue__files_unref(files[0])
    C.segue__two_slot_file_deinit(ffi.gc(slots, nil))
    return generation
  end

  local function change(x, options)
    e:write("a.yaml", "x: " .. x .. "\n")
    return e:reload(options)
  end

  it("is repeated where it was requested while another one was under way", function()
    e = engine.started { state = dir.path, set = { last_good_age_ms = 8 * 3600000 } }
    tick(1000) -- writes the age; its answer has not been read
    C.segue__operator_write_now(e.c)
    e:step()
    C.segue__fault_arm(nil)
    tick(1000)
    e:step()
    assert.equal(1, C.segue__fault_reached "state.write")
    tick(1000)
    e:step()
    assert.equal(1, C.segue__fault_reached "state.write")
  end)

  it("is repeated where it failed at the end of a reload", function()
    e = engine.started { state = dir.path }
    e:set_policy { by_operator = true, set = { confirm_within_ms = 60000 } }
    local w = change(2)
    e:step()
    assert.equal("SEGUE_EUNCONFIRMED", w:status())
    assert.is_true(decisions().unconfirmed)
    C.segue__fault_arm "state.write=fail:-28"
    C.check(C.segue__engine_confirm(e.c, "spec", nil))
    e:step()
    C.segue__fault_arm(nil)
    assert.equal(2, e:generation())
    assert.is_true(decisions().unconfirmed)
    tick(1000)
    e:step()
    assert.is_false(decisions().unconfirmed)
  end)

  it("is repeated for the present generation where an earlier one is written late", function()
    e = engine.started { state = dir.path }
    C.segue__fault_arm "last_good.write=fail:-28"
    change(2)
    e:step()
    C.segue__fault_arm(nil)
    assert.equal(1, good_on_disk())
    C.segue__fault_arm "last_good.write=hang"
    tick(5000) -- writes generation 2, which hangs
    C.segue__fault_arm "record.task=fail:-12"
    local w = change(3)
    loop_only()
    assert.equal("applied", w:outcome())
    assert.equal(3, e:generation())
    assert.is_true(C.segue__fault_reached "record.task" > 0)
    C.segue__fault_arm(nil)
    e:step() -- generation 2 is on disk now
    assert.equal(2, good_on_disk())
    tick(5000)
    e:step()
    assert.equal(3, good_on_disk())
  end)
end)

describe("a start with a generation that waits to be confirmed", function()
  it("fails and is repeated where memory for the last good generation is missing", function()
    local dir = tempdir.new()
    local spec = { state = dir.path, files = { ["a.yaml"] = "x: 1\n" } }
    engine.started(spec):close()
    spec.files["a.yaml"], spec.by_operator = "x: 2\n", true
    spec.set = { confirm_within_ms = 60000 }
    local e = engine.new(spec)
    C.segue__fault_arm "start.replay=fail:-12"
    local w = e:reload { trigger = "start", cause = "start" }
    e:step()
    assert.equal(1, C.segue__fault_reached "start.replay")
    C.segue__fault_arm(nil)
    assert.equal("failed", w:outcome())
    assert.equal(0, e:generation())
    e:advance(1000) -- the retry
    assert.equal("2", e:value "x")
    C.check(C.segue__engine_rollback(e.c, 0, 3, "spec", nil))
    e:step()
    assert.equal("1", e:value "x")
    e:close()
    tempdir.remove_all()
  end)
end)
