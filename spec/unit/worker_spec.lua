-- SPDX-License-Identifier: MIT
-- The queues of jobs: each purpose has its own, so that a slow job delays only its own kind.
local C = require "spec.support.c"
local Loop = require "spec.support.loop"
local uv = require "luv"
local ffi = C.ffi

local QUEUES = { "COLLECT", "SCHEMA", "WATCH", "PAGE", "POLICY" }
local function number(name) return ffi.cast("int", C["SEGUE__QUEUE_" .. name]) end
local function threads(name) return C.os_harness_threads("segue-" .. name:lower()) end

local buf = ffi.new("char[65536]")
local function journal() return ffi.string(C.os_harness_journal(buf, 65536)) end
local function journal_until(loop, text)
  local all = ""
  loop:run_until(function()
    all = all .. "; " .. journal()
    return all:find(text, 1, true)
  end)
  return all
end

local function submit(loop, name, id, hang)
  local job = C.os_harness_job_new(id, hang or false)
  assert.equal(0, C.os_harness_job_submit_to(loop.ptr, number(name), job))
  return job
end

local function status(loop, name)
  local s = ffi.new "segue__queue_status[1]"
  C.segue__queue_status_get(loop.ptr, number(name), s)
  local waits, count = {}, 0
  for i = 0, C.SEGUE__JOB_WAIT_BUCKETS - 1 do
    waits[i + 1] = tonumber(s[0].waits[i])
    count = count + waits[i + 1]
  end
  return { waiting = tonumber(s[0].waiting), hanging = tonumber(s[0].hanging), waits = waits,
    count = count, waited_us = tonumber(s[0].waited_us) }
end

local loop
before_each(journal)
after_each(function()
  loop:close()
  uv.os_unsetenv "SEGUE_TEST_WORKER_IDLE_MS"
end)

describe("jobs of one purpose", function()
  it("wait for one that hangs; those of no other purpose do", function()
    loop = Loop.uv()
    for i, name in ipairs(QUEUES) do
      local hung = submit(loop, name, 100 + i, true)
      submit(loop, name, 200 + i)
      loop:run_until(function() return C.os_harness_hanging() == 1 end)
      for j, other in ipairs(QUEUES) do
        if j ~= i then
          submit(loop, other, 300 + j)
          journal_until(loop, "done " .. 300 + j)
        end
      end
      assert.same({ 1, 0 }, { status(loop, name).waiting, status(loop, name).hanging })
      C.os_harness_job_abandon(loop.ptr, hung)
      journal_until(loop, "done " .. 200 + i)
      assert.same({ 0, 1 }, { status(loop, name).waiting, status(loop, name).hanging })
      C.os_harness_release()
      journal_until(loop, "abandoned " .. 100 + i)
      assert.equal(0, status(loop, name).hanging)
    end
  end)

  it("may hang four at once, and the other purposes continue", function()
    loop = Loop.uv()
    local hung = {}
    for i = 1, C.SEGUE__WORKERS_MAX do
      hung[i] = submit(loop, "WATCH", i, true)
      loop:run_until(function() return C.os_harness_hanging() == i end)
      C.os_harness_job_abandon(loop.ptr, hung[i])
    end
    local refused = C.os_harness_job_submit_to(loop.ptr, number "WATCH",
      C.os_harness_job_new(9, false))
    assert.equal("EAGAIN", C.name(refused))
    submit(loop, "COLLECT", 10)
    journal_until(loop, "done 10")
    C.os_harness_release()
    loop:run_until(function() return status(loop, "WATCH").hanging == 0 end)
  end)

  it("have a thread from the first job on, which ends when it is idle", function()
    uv.os_setenv("SEGUE_TEST_WORKER_IDLE_MS", "20")
    loop = Loop.uv()
    for _, name in ipairs(QUEUES) do assert.equal(0, threads(name)) end
    local held = submit(loop, "PAGE", 1, true)
    loop:run_until(function() return C.os_harness_hanging() == 1 end)
    assert.same({ 1, 0 }, { threads "PAGE", threads "COLLECT" })
    C.os_harness_release()
    journal_until(loop, "done 1")
    assert.is_true(held ~= nil)
    loop:run_until(function() return threads "PAGE" == 0 end)
    for i = 2, 40 do -- also where the next job comes just as the thread ends
      submit(loop, "PAGE", i)
      journal_until(loop, "done " .. i)
      local until_ns = uv.hrtime() + i * 1e6
      loop:run_until(function() return uv.hrtime() > until_ns end)
    end
  end)

  it("are counted by how long they waited", function()
    loop = Loop.manual()
    C.segue__loop_hold_jobs(loop.ptr, true)
    submit(loop, "SCHEMA", 1)
    C.segue__loop_advance(loop.ptr, 2000)
    submit(loop, "SCHEMA", 2)
    submit(loop, "POLICY", 3)
    C.segue__loop_advance(loop.ptr, 5)
    assert.same({ 2, 0, 0 }, { status(loop, "SCHEMA").waiting, status(loop, "SCHEMA").count,
      status(loop, "SCHEMA").waited_us })
    C.segue__loop_hold_jobs(loop.ptr, false)
    C.segue__loop_step(loop.ptr)
    assert.equal("run 1; run 2; run 3; done 1; done 2; done 3", journal())
    local s = status(loop, "SCHEMA")
    assert.same({ 0, 2, 2010000 }, { s.waiting, s.count, s.waited_us })
    assert.same({ 0, 0, 1, 0, 0, 1, 0 }, s.waits)
    assert.equal(5000, status(loop, "POLICY").waited_us)
    assert.equal(0, status(loop, "COLLECT").count)
    assert.equal("policy", C.str(C.segue__queue_name(number "POLICY")))
  end)
end)
