-- SPDX-License-Identifier: MIT
-- Timers, messages and jobs, under the real and the simulated clock.
local C = require "spec.support.c"
local Loop = require "spec.support.loop"
local process = require "spec.support.process"
local uv = require "luv"
local ffi = C.ffi

local function journal()
  return C.str(C.os_harness_journal(ffi.new("char[65536]"), 65536))
end

local function journal_until(loop, wanted)
  local text = ""
  loop:run_until(function()
    local more = journal()
    if #more > 0 then text = #text > 0 and text .. "; " .. more or more end
    return text:find(wanted, 1, true)
  end)
  return text
end

describe("the simulated clock", function()
  local loop
  before_each(function() loop = Loop.manual(1000, 5000) end)
  after_each(function() loop:close() end)

  it("fires timers in order of their instants, each at its own", function()
    local seen = {}
    local timers = {}
    for i, delay in ipairs { 30, 10, 20, 10, 0 } do
      timers[i] = loop:timer(function()
        seen[#seen + 1] = ("%d@%d"):format(i, tonumber(C.segue__loop_now_ms(loop.ptr)))
      end)
      assert.equal(0, timers[i].start(delay))
    end
    C.segue__loop_advance(loop.ptr, 30)
    assert.same({ "5@1000", "2@1010", "4@1010", "3@1020", "1@1030" }, seen)
    assert.is_false(timers[1].active())
  end)

  it("moves the wall clock along, and alone on request", function()
    C.segue__loop_advance(loop.ptr, 250)
    assert.equal(5250, tonumber(C.segue__loop_wall_ms(loop.ptr)))
    C.segue__loop_jump_wall(loop.ptr, -10000)
    assert.equal(-4750, tonumber(C.segue__loop_wall_ms(loop.ptr)))
    assert.equal(1250, tonumber(C.segue__loop_now_ms(loop.ptr)))
  end)

  it("does not fire a timer before its time", function()
    local fired = false
    local timer = loop:timer(function() fired = true end)
    timer.start(10)
    C.segue__loop_advance(loop.ptr, 9)
    assert.is_false(fired)
    C.segue__loop_advance(loop.ptr, 1)
    assert.is_true(fired)
  end)

  it("arms a running timer for its new time when it is started again", function()
    local count = 0
    local timer = loop:timer(function() count = count + 1 end)
    timer.start(10)
    C.segue__loop_advance(loop.ptr, 8)
    timer.start(10)
    C.segue__loop_advance(loop.ptr, 8)
    assert.equal(0, count)
    C.segue__loop_advance(loop.ptr, 50)
    assert.equal(1, count)
  end)

  it("lets a callback stop, start and re-arm timers", function()
    local seen = {}
    local a, b, c
    b = loop:timer(function() seen[#seen + 1] = "b" end)
    c = loop:timer(function() seen[#seen + 1] = "c" end)
    a = loop:timer(function()
      seen[#seen + 1] = "a"
      b.stop()
      c.start(0)
      if #seen < 5 then a.start(5) end
    end)
    a.start(10)
    b.start(10)
    C.segue__loop_advance(loop.ptr, 100)
    assert.same({ "a", "c", "a", "c", "a", "c" }, seen)
  end)

  it("keeps a large heap in order while timers come and go", function()
    math.randomseed(42)
    local last, fired, wrong = 0, 0, 0
    local timers = {}
    for i = 1, 2000 do timers[i] = ffi.new("segue__timer[1]") end
    local cb = loop:cb("void (*)(segue__timer *)", function()
      local now = tonumber(C.segue__loop_now_ms(loop.ptr))
      if now < last then wrong = wrong + 1 end
      last, fired = now, fired + 1
    end)
    for i = 1, 2000 do C.segue__timer_start(loop.ptr, timers[i], math.random(0, 500), cb) end
    for i = 1, 2000, 3 do C.segue__timer_stop(loop.ptr, timers[i]) end
    for i = 2, 2000, 3 do C.segue__timer_start(loop.ptr, timers[i], math.random(0, 500), cb) end
    C.segue__loop_advance(loop.ptr, 500)
    assert.equal(0, wrong)
    assert.equal(2000 - 667, fired)
  end)

  it("runs jobs in order inside step, and not while they are held", function()
    C.segue__loop_hold_jobs(loop.ptr, true)
    assert.equal(0, C.os_harness_job_submit(loop.ptr, C.os_harness_job_new(1, false)))
    local second = C.os_harness_job_new(2, false)
    assert.equal(0, C.os_harness_job_submit(loop.ptr, second))
    assert.equal(0, tonumber(C.segue__loop_step(loop.ptr)))
    C.os_harness_job_abandon(loop.ptr, second)
    C.segue__loop_step(loop.ptr)
    assert.equal("abandoned 2", journal())
    C.segue__loop_hold_jobs(loop.ptr, false)
    C.segue__loop_step(loop.ptr)
    assert.equal("run 1; done 1", journal())
  end)

  it("reports missing memory instead of losing a timer", function()
    C.segue__mem_fail_at(1)
    local timer = loop:timer(function() end)
    assert.equal("ENOMEM", C.name(timer.start(1)))
    assert.is_false(timer.active())
  end)

  it("can be closed from one of its own timers", function()
    local other, closed = Loop.manual(), false
    local on_closed = loop:cb("void (*)(void *)", function() closed = true end)
    local timer = other:timer(function()
      C.segue__loop_close(other.ptr, on_closed, nil)
      assert(not closed, "closed below its own caller")
    end)
    timer.start(5)
    C.segue__loop_advance(other.ptr, 10)
    assert.is_true(closed)
    assert.is_nil(other.failure)
    for _, cb in ipairs(other.callbacks) do cb:free() end
  end)
end)

describe("the loop on libuv", function()
  local loop, live
  before_each(function()
    live = tonumber(C.segue__mem_live())
    loop = Loop.uv()
  end)
  after_each(function()
    loop:close()
    assert.equal(live, tonumber(C.segue__mem_live()))
    assert.equal(0, C.os_harness_threads("segue-collect"))
  end)

  it("fires timers in order and not early, however old its clock is", function()
    local seen, started, waited = {}, nil, nil
    local late = loop:timer(function() waited = (uv.hrtime() - started) / 1e6 end)
    local first = loop:timer(function()
      seen[#seen + 1] = "first"
      uv.sleep(30) -- work that makes libuv's idea of the time old
      started = uv.hrtime()
      late.start(20)
    end)
    local second = loop:timer(function() seen[#seen + 1] = "second" end)
    second.start(20)
    first.start(1)
    loop:run_until(function() return waited end)
    assert.same({ "first", "second" }, seen)
    assert.is_true(waited >= 19, "fired after " .. waited .. " ms instead of 20")
  end)

  it("delivers every message of four threads, those of each thread in order", function()
    assert.equal(0, C.os_harness_storm_start(loop.ptr, 4, 5000, 3))
    loop:run_until(function() return C.os_harness_storm_delivered() == 4 * 5000 * 4 end)
    C.os_harness_storm_end()
    assert.equal(0, C.os_harness_storm_disorder())
  end)

  it("runs jobs one after the other on a thread of its own that takes no signals", function()
    for i = 1, 5 do C.os_harness_job_submit(loop.ptr, C.os_harness_job_new(i, false)) end
    local text = journal_until(loop, "done 5")
    for i = 1, 5 do
      assert.is_true(text:find("run " .. i, 1, true) < text:find("done " .. i, 1, true))
      if i > 1 then
        assert.is_true(text:find("run " .. i - 1, 1, true) < text:find("run " .. i, 1, true))
        assert.is_true(text:find("done " .. i - 1, 1, true) < text:find("done " .. i, 1, true))
      end
    end
    assert.is_true(C.os_harness_signals_blocked())
    assert.equal(1, C.os_harness_threads("segue-collect"))
  end)

  it("starts no thread before the first job", function()
    loop:turn()
    assert.equal(0, C.os_harness_threads("segue-collect"))
  end)

  it("abandons a job that hangs and continues with the next", function()
    local hung = C.os_harness_job_new(1, true)
    C.os_harness_job_submit(loop.ptr, hung)
    C.os_harness_job_submit(loop.ptr, C.os_harness_job_new(2, false))
    loop:run_until(function() return C.os_harness_hanging() == 1 end)
    C.os_harness_job_abandon(loop.ptr, hung)
    assert.equal("run 1; run 2; done 2", journal_until(loop, "done 2"))
    C.os_harness_release()
    assert.equal("abandoned 1", journal_until(loop, "abandoned 1"))
  end)

  it("never runs a job that is abandoned in the queue", function()
    local hung, queued = C.os_harness_job_new(1, true), C.os_harness_job_new(2, false)
    C.os_harness_job_submit(loop.ptr, hung)
    C.os_harness_job_submit(loop.ptr, queued)
    loop:run_until(function() return C.os_harness_hanging() == 1 end)
    C.os_harness_job_abandon(loop.ptr, queued)
    assert.equal("run 1; abandoned 2", journal_until(loop, "abandoned 2"))
    C.os_harness_release()
    assert.equal("done 1", journal_until(loop, "done 1"))
  end)

  it("lets four jobs hang, refuses the next, and recovers when one returns", function()
    for i = 1, C.SEGUE__WORKERS_MAX do
      local job = C.os_harness_job_new(i, true)
      assert.equal(0, C.os_harness_job_submit(loop.ptr, job))
      loop:run_until(function() return C.os_harness_hanging() == i end)
      C.os_harness_job_abandon(loop.ptr, job)
    end
    local refused = C.os_harness_job_submit(loop.ptr, C.os_harness_job_new(5, false))
    assert.equal("EAGAIN", C.name(refused))
    assert.equal(4, C.os_harness_threads("segue-collect"))
    C.os_harness_release()
    local text = journal()
    loop:run_until(function()
      text = text .. "; " .. journal()
      return select(2, text:gsub("abandoned", "")) == 4
    end)
    C.os_harness_job_submit(loop.ptr, C.os_harness_job_new(6, false))
    assert.equal("run 6; done 6", journal_until(loop, "done 6"))
  end)

  it("finishes the current job and abandons the queued ones when it is closed", function()
    local other = Loop.uv()
    C.os_harness_job_submit(other.ptr, C.os_harness_job_new(1, true))
    C.os_harness_job_submit(other.ptr, C.os_harness_job_new(2, false))
    other:run_until(function() return C.os_harness_hanging() == 1 end)
    local closed = false
    C.segue__loop_close(other.ptr, other:cb("void (*)(void *)", function() closed = true end), nil)
    assert.equal("ECANCELED", C.name(C.os_harness_job_submit(other.ptr,
      C.os_harness_job_new(3, false))))
    other:turn()
    assert.is_false(closed)
    C.os_harness_release()
    other:run_until(function() return closed end)
    local text = journal()
    assert.truthy(text:find("abandoned 2", 1, true))
    assert.truthy(text:find("done 1", 1, true))
    assert.falsy(text:find("run 2", 1, true))
    C.loop_close(other.base)
    for _, cb in ipairs(other.callbacks) do cb:free() end
  end)

  it("closes although a job still hangs, whose thread ends by itself later", function()
    local before = tonumber(C.segue__mem_live())
    local other = Loop.uv()
    local hung = C.os_harness_job_new(1, true)
    C.os_harness_job_submit(other.ptr, hung)
    other:run_until(function() return C.os_harness_hanging() == 1 end)
    C.os_harness_job_abandon(other.ptr, hung)
    other:close()
    assert.equal("run 1", journal())
    C.os_harness_release()
    loop:run_until(function() return C.os_harness_threads("segue-collect") == 0 end)
    -- No loop is left to receive the job: its own memory, and only that, is lost.
    loop:run_until(function() return tonumber(C.segue__mem_live()) == before + 1 end)
    C.os_harness_job_lose(hung)
    live = live + 1
  end)

  it("opens nothing when memory is out", function()
    local base, out = C.loop_new(), ffi.new("segue__loop *[1]")
    C.segue__mem_fail_at(1)
    assert.equal("ENOMEM", C.name(C.segue__loop_open_uv(out, base.uv)))
    assert.is_true(out[0] == nil)
    C.loop_close(base)
  end)
end)

describe("the log", function()
  local entries, log, sink
  before_each(function()
    entries = {}
    sink = ffi.cast("void (*)(void *, const segue_log_entry *)", function(_, entry)
      local fields = {}
      for i = 0, tonumber(entry.field_count) - 1 do
        local f = entry.fields[i]
        fields[#fields + 1] = C.str(f.key) .. "=" .. (C.str(f.text) or tostring(tonumber(f.number)))
      end
      entries[#entries + 1] = ("%s %s %s %s"):format(C.str(C.segue__level_name(entry.level)),
        C.str(entry.group), C.str(entry.message), table.concat(fields, ","))
    end)
    log = ffi.new("segue__logger[1]")
    log[0].level = C.SEGUE_INFO
    log[0].sink = sink
    log[0].fold = C.segue__log_fold_new()
  end)
  after_each(function()
    C.segue__log_fold_free(log[0].fold)
    sink:free()
  end)
  local function write(level, message, ...)
    local fields = { ... }
    local pairs_ = ffi.new("segue_log_field[?]", #fields, fields)
    C.segue__log_write(log, level, "spec", message, pairs_, #fields)
  end

  it("passes level, group, message and fields to the sink", function()
    write(C.SEGUE_WARN, "full", { "path", "/x", 0 }, { key = "left", number = -3 })
    assert.same({ "warn spec full path=/x,left=-3" }, entries)
  end)

  it("drops fields past the limit", function()
    local many = {}
    for i = 1, 20 do many[i] = { "n", "x", 0 } end
    write(C.SEGUE_WARN, "many", unpack(many))
    assert.same({ "warn spec many " .. ("n=x,"):rep(15) .. "n=x" }, entries)
  end)

  it("takes the kind of a field from the type of its value", function()
    assert.equal(2, C.os_harness_log_types(log, C.SEGUE_WARN))
    assert.same({ "warn spec types literal=l,writable=w,absent=-,int=-3,int64=" .. tostring(-2 ^ 63)
      .. ",bool=1,unsigned=3,uint64=" .. tostring(2 ^ 63) .. ",size=8,call=c" }, entries)
  end)

  it("evaluates no argument while the level is off", function()
    assert.equal(0, C.os_harness_log_types(log, C.SEGUE_DEBUG))
    assert.same({}, entries)
  end)

  it("does not compile with a field that is neither a text nor a whole number", function()
    local function compiles(value)
      local source = '#include "core/os/log.h"\n'
        .. "void f(const segue__logger *log, void *p, double d);\n"
        .. "void f(const segue__logger *log, void *p, double d) {\n(void)p, (void)d;\n"
        .. 'SEGUE__LOG(log, SEGUE_INFO, "g", "m", SEGUE__FIELD("k", ' .. value .. "));\n}\n"
      local cc = process.run { "cc", "-std=c11", "-Wall", "-Wextra", "-Werror", "-I.", "-x", "c",
        "-fsyntax-only", "-", stdin = source }
      return cc.code == 0
    end
    assert.is_true(compiles('"text"'))
    assert.is_true(compiles("7"))
    for _, value in ipairs { "p", "d", "*log", "log" } do
      assert.is_false(compiles(value), value)
    end
  end)

  it("leaves out what is above its level", function()
    write(C.SEGUE_DEBUG, "detail")
    assert.same({}, entries)
  end)

  it("folds repeats and logs their count when another message follows", function()
    for _ = 1, 5 do write(C.SEGUE_INFO, "again") end
    write(C.SEGUE_INFO, "other")
    assert.same({ "info spec again ", "info spec repeated: again times=4", "info spec other " },
      entries)
  end)

  it("does not fold what differs in a field", function()
    for i = 1, 3 do write(C.SEGUE_INFO, "n", { key = "i", number = i }) end
    assert.equal(3, #entries)
  end)

  it("logs the count of an unfinished repetition when it is flushed", function()
    for _ = 1, 3 do write(C.SEGUE_INFO, "again") end
    C.segue__log_flush(log)
    C.segue__log_flush(log)
    assert.same({ "info spec again ", "info spec repeated: again times=2" }, entries)
  end)

  it("parses the names of levels and refuses others", function()
    local out = ffi.new("segue_level[1]")
    assert.equal(0, C.segue__level_parse("DEBUG", out))
    assert.equal(tonumber(C.SEGUE_DEBUG), tonumber(out[0]))
    assert.equal("EINVAL", C.name(C.segue__level_parse("loud", out)))
  end)
end)

describe("fault points", function()
  after_each(function() C.segue__fault_arm(nil) end)

  it("fail as armed, count how often they were reached, and forget", function()
    assert.equal(0, C.segue__fault("a.b"))
    assert.equal(0, C.segue__fault_arm("a.b=fail,c#2=fail:-28"))
    assert.equal("EIO", C.name(C.segue__fault("a.b")))
    assert.equal("EIO", C.name(C.segue__fault("a.b")))
    assert.equal(0, C.segue__fault("c"))
    assert.equal("ENOSPC", C.name(C.segue__fault("c")))
    assert.equal(0, C.segue__fault("c"))
    assert.equal(3, C.segue__fault_reached("a.b"))
    assert.equal(3, C.segue__fault_reached("c"))
    C.segue__fault_arm(nil)
    assert.equal(0, C.segue__fault_reached("c"))
    assert.equal(0, C.segue__fault("a.b"))
  end)

  it("refuse a list as a whole if they do not understand a part", function()
    for _, spec in ipairs { "x", "x=", "x=explode", "x=fail:3", "x#0=fail", "good=fail,bad" } do
      assert.equal("EINVAL", C.name(C.segue__fault_arm(spec)))
    end
    assert.equal(0, C.segue__fault("good"))
  end)
end)

describe("an operation", function()
  it("that has ended in time is not late where a busy loop finds both times passed", function()
    local loop = Loop.uv()
    local op, status, ended = C.new "segue_op[1]", nil, false
    C.segue__op_begin(op, loop.ptr, 20,
      loop:cb("void (*)(segue_op *, int, const segue_error *)", function(_, code)
        status = code
      end), loop:cb("void (*)(segue_op *)", function() ended = true end), nil)
    local callee = loop:timer(function() C.segue_op_done(op, 0, nil) end)
    callee.start(19)
    local busy_until = uv.hrtime() + 30e6
    while uv.hrtime() < busy_until do end
    loop:run_until(function() return status end)
    assert.equal(0, status)
    loop:turn()
    assert.is_false(ended) -- that is for an answer that came before the end
    assert.is_false(C.segue__op_outstanding(op))
    loop:close()
  end)
end)
