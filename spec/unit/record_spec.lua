-- SPDX-License-Identifier: MIT
-- The data that outlive the process: the thread that writes them and the history. The files that it
-- writes in turn: decisions_spec.lua.
local C = require "spec.support.c"
local Loop = require "spec.support.loop"
local Record = require "spec.support.record"
local wait = require "spec.support.wait"
local ffi = C.ffi

local journal = ffi.new("segue__journal[1]") -- without intents
local dir
Record.for_each_spec(function(folder) dir = folder end)

describe("the record", function()
  local loop, record, render

  local function open(expected)
    local o = ffi.new("segue__record_options[1]")
    o[0].size, o[0].loop, o[0].log = ffi.sizeof "segue__record_options", loop.ptr,
      C.os_harness_log()
    o[0].folder, o[0].render = dir.path, render
    local out = ffi.new("segue__record *[1]")
    local rc = C.segue__record_new(out, o)
    if expected then return rc, out[0] end
    C.check(rc)
    record = out[0]
    return C.segue__record_found(record)[0]
  end

  local function close()
    C.segue__record_free(record)
    record = nil
    loop:turn()
  end

  before_each(function()
    loop = Loop.uv()
    render = loop:cb("void (*)(segue__buf *, const segue__result *, bool)", function(buf, r, detail)
      C.segue__buf_addf(buf, "{\"id\":%d,\"detail\":%d}", ffi.cast("int", r.id),
        ffi.cast("int", detail and 1 or 0))
    end)
  end)
  after_each(function()
    if record then close() end
    loop:close()
  end)

  -- A call that waits for its answer: its status, and the result of take(answer).
  local function ask(fn, take)
    local call, status, taken = ffi.new("segue__record_call[1]"), nil, nil
    call[0].cb = loop:cb("void (*)(segue__record_call *, segue__record_answer *)", function(_, a)
      status = a.status
      taken = take and take(a)
    end)
    C.check(fn(call))
    loop:run_until(function() return status end)
    return status, taken
  end

  -- The numbers up to which none is given again, as an engine writes them.
  local function reserve(reload, generation)
    local numbers = ffi.new("segue__numbers[1]", { { reload, generation } })
    return (ask(function(call) return C.segue__record_numbers(record, numbers, call) end))
  end

  local results = {}
  local function settle(id, generation, text)
    local run, result = ffi.new("segue__record_run[1]"), ffi.new("segue__result[1]")
    result[0].id, result[0].outcome = id, C.SEGUE__APPLIED
    result[0].ended_wall_ms = 1000 + id
    results[#results + 1] = result
    local snapshot = Record.snapshot(generation, text)
    local files = Record.files { ["/etc/a.yaml"] = text }
    run[0].result, run[0].snapshot, run[0].files = result, snapshot, files
    local status = ask(function(call) return C.segue__record_good(record, run, call) end)
    C.segue__record_settled(record, run)
    C.segue_snapshot_unref(snapshot)
    C.segue__files_unref(files)
    return status
  end

  local function freeze(why)
    local d = ffi.new("segue__decisions[1]")
    d[0].frozen = true
    ffi.copy(d[0].frozen_why, why)
    return ask(function(call)
      return C.segue__record_state(record, d, journal, call)
    end, function(a)
      return ffi.string(a.error.message)
    end)
  end

  it("finds its entries", function()
    local found = open()
    assert.is_false(found.state.frozen)
    assert.equal(0, tonumber(found.last_good.generation))
    assert.equal(0, settle(1, 1, "a: 1\n"))
    assert.equal(0, settle(2, 2, "a: 2\n"))
    assert.equal(0, (freeze "x"))
    assert.equal(0, reserve(2, 2))
    close()
    found = open()
    assert.is_true(found.state.frozen)
    assert.equal(2, tonumber(found.last_good.generation))
    assert.equal(2, tonumber(found.generation))
    assert.equal(2, tonumber(found.reload))
    local status, files = ask(function(call) return C.segue__record_last_good(record, call) end,
      function(a)
        local list = a.files
        a.files = nil
        return Record.file_table(list)
      end)
    assert.equal(0, status)
    assert.same({ ["/etc/a.yaml"] = "a: 2\n" }, files)
  end)

  local function forget(...)
    for _, name in ipairs { ... } do os.remove(dir:at(name)) end
  end
  local function forget_history() forget("history.db", "history.db-wal", "history.db-shm") end

  it("assigns no number of a reload twice where the history and the numbers are gone", function()
    open()
    settle(5, 3, "a: 1\n")
    close()
    forget_history()
    forget("numbers.a", "numbers.b")
    local found = open()
    assert.equal(3, tonumber(found.generation))
    assert.is_true(tonumber(found.reload) > 5)
  end)

  it("reserves a block of numbers when it is opened, which the next process skips", function()
    local function numbers(found)
      return { tonumber(found.reload), tonumber(found.generation),
        tonumber(found.reserved.reload), tonumber(found.reserved.generation) }
    end
    local reloads, generations = C.SEGUE__NUMBERS_RELOADS, C.SEGUE__NUMBERS_GENERATIONS
    assert.same({ 0, 0, reloads, generations }, numbers(open()))
    close() -- as if it was killed: no engine has written which numbers it gave
    assert.same({ reloads, generations, 2 * reloads, 2 * generations }, numbers(open()))
    assert.equal(0, reserve(reloads + 7, generations + 3))
    close()
    forget_history()
    local found = numbers(open())
    assert.same({ reloads + 7, generations + 3 }, { found[1], found[2] })
  end)

  it("reserves none where the disk refuses, and reports it", function()
    C.check(C.segue__fault_arm("numbers.write=fail:-28"))
    local found = open()
    assert.matches("no numbers of reloads can be reserved.*numbers%.[ab].*no space",
      Record.logged())
    assert.same({ 0, 0 },
      { tonumber(found.reserved.reload), tonumber(found.reserved.generation) })
    assert.equal("ENOSPC", C.name(reserve(8, 4)))
    C.segue__fault_arm(nil)
    assert.equal(0, reserve(8, 4))
    close()
    assert.equal(8, tonumber(open().reload))
    close()
    for _, file in ipairs { "numbers.a", "numbers.b" } do dir:write(file, "x") end
    assert.equal(0, tonumber(open().reload))
    assert.matches("numbers.a.*its checksum is wrong", Record.logged())
  end)

  it("reports a reload that crashed before its confirmation once, by its number", function()
    open()
    settle(1, 1, "a: 1\n")
    local d = ffi.new("segue__decisions[1]")
    d[0].unconfirmed, d[0].unconfirmed_generation, d[0].unconfirmed_reload = true, 2, 3
    ffi.copy(d[0].unconfirmed_cause, "somebody")
    assert.equal(0, (ask(function(call)
      return C.segue__record_state(record, d, journal, call)
    end)))
    for _ = 1, 2 do
      close()
      forget("numbers.a", "numbers.b")
      assert.equal(3, tonumber(open().reload))
      local status, text = ask(function(call)
        return C.segue__record_reloads(record, 10, 0, call)
      end, function(a) return ffi.string(a.text.data, a.text.len) end)
      assert.equal(0, status)
      assert.equal('[{"id":3,"detail":0},{"id":1,"detail":0}]', text)
    end
    -- and its number is not used again, although no history contains it
    close()
    forget_history()
    forget("numbers.a", "numbers.b")
    assert.is_true(tonumber(open().reload) >= 3)
  end)

  it("reports to waiters that nothing could be written, and the reason", function()
    open()
    C.check(C.segue__fault_arm("state.write=fail:-28,last_good.sync=fail"))
    local status, message = freeze "x"
    assert.equal("SEGUE_ERECORD", C.name(status))
    assert.matches("state%.a cannot be written: no space left", message)
    assert.equal("SEGUE_ERECORD", C.name(settle(1, 1, "a: 1\n")))
    C.segue__record_flush(record)
    assert.matches("cannot be kept for a start without its files", Record.logged())
  end)

  it("does not run the answer of a call that was forgotten", function()
    open()
    local call, ran = ffi.new("segue__record_call[1]"), false
    call[0].cb = loop:cb("void (*)(segue__record_call *, segue__record_answer *)", function()
      ran = true
    end)
    C.check(C.segue__record_last_good(record, call))
    C.segue__record_forget(call)
    C.segue__record_forget(call)
    C.segue__record_flush(record)
    loop:turn()
    assert.is_false(ran)
  end)

  it("writes nothing into another process's folder, and begins again in its own", function()
    open()
    settle(1, 1, "a: 1\n")
    C.segue__record_lose(record)
    local status, message = freeze "x"
    assert.equal("SEGUE_ERECORD", C.name(status))
    assert.matches("another process's", message)
    for _, name in ipairs(dir:list()) do dir:delete(name) end
    C.segue__record_begin_anew(record, ffi.new("segue__decisions[1]"),
      ffi.new("segue__journal[1]"))
    assert.equal(0, (freeze "y"))
    assert.equal(0, settle(2, 2, "a: 2\n"))
    C.segue__record_flush(record)
    assert.truthy(dir:read "history.db")
  end)

  it("opens a history that was locked when it is unlocked, and names the missing entry",
    function()
      local lock = Record.connection(dir:at "history.db")
      lock.run "PRAGMA journal_mode=DELETE; BEGIN EXCLUSIVE; CREATE TABLE t(x)"
      open()
      assert.matches("the history cannot be opened: reloads continue without it.*another process "
        .. "locks it", Record.logged())
      assert.equal(0, settle(1, 1, "a: 1\n")) -- no caller waits for the history
      lock.run "ROLLBACK"
      lock.close()
      local text = ""
      wait.until_true(function()
        loop:turn()
        text = text .. Record.logged()
        return text:find("the history is open again", 1, true)
      end, 20000, "the history")
      C.segue__record_flush(record)
      local status, list = ask(function(call)
        return C.segue__record_reloads(record, 10, 0, call)
      end, function(a) return C.buf(a.text) end)
      assert.equal(0, status)
      assert.equal('[{"id":1,"detail":0}]', list)
    end)

  it("fails a start without memory with ENOMEM, and leaves nothing behind", function()
    collectgarbage()
    collectgarbage "stop"
    local n = 0
    local rc
    repeat
      n = n + 1
      local before = tonumber(C.segue__mem_live())
      C.segue__mem_fail_at(n)
      rc, record = open(true)
      C.segue__mem_fail_at(0)
      if rc ~= 0 then
        record = nil
        assert.equal("ENOMEM", C.name(rc))
        assert.equal(before, tonumber(C.segue__mem_live()), "allocation " .. n)
      end
    until rc == 0 or n > 200
    collectgarbage "restart"
    assert.is_true(n > 5 and n <= 200)
  end)
end)
