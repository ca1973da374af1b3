-- SPDX-License-Identifier: MIT
-- Messages of children by sd_notify(3): whose are believed, and what is refused.
local C = require "spec.support.c"
local Child = require "spec.support.child"
local LoopCase = require "spec.support.loop_case"
local ffi = C.ffi

local loop, dir, case, helper
setup(function() helper = Child.helper() end)
teardown(Child.remove_helper)
before_each(function()
  case = LoopCase.open()
  loop, dir = case.loop, case.dir
end)
after_each(function() case:close() end)

local function start(argv, o)
  o = o or {}
  o.notify = true
  return assert(Child.start(loop, argv, o))
end
local function run(...)
  local child = start({ helper, ... })
  loop:run_until(function() return child.closed end)
  assert.equal(0, child.code, child.err)
  return child
end

-- The value of NOTIFY_SOCKET of a running child. The start returns as soon as the child no longer
-- shares memory with this process, a moment before its new environment can be read.
local function address_of(child)
  local address
  loop:run_until(function()
    local file = assert(io.open("/proc/" .. child.pid .. "/environ"))
    address = file:read("*a"):match "NOTIFY_SOCKET=(@%x+)"
    file:close()
    return address
  end)
  return address
end

describe("a message of a child", function()
  it("is read assignment by assignment", function()
    local child = run("send:READY=1|STATUS=up and well|X_OWN=1", "send:RELOADING=1|"
      .. "MONOTONIC_USEC=123456789012", "send:STOPPING=1|ERRNO=5", "send:WATCHDOG=1",
      "send:WATCHDOG=trigger", "send:EXTEND_TIMEOUT_USEC=5000000|WATCHDOG_USEC=7|READY=0|no",
      "send:ERRNO=-1|MONOTONIC_USEC=1x")
    local n = child.notices
    assert.equal(7, #n)
    assert.same({}, child.refused)
    for _, notice in ipairs(n) do assert.equal(child.pid, notice.pid) end
    assert.same({ true, "up and well", false }, { n[1].ready, n[1].status, n[1].stopping })
    assert.same({ true, 123456789012, false }, { n[2].reloading, n[2].monotonic_usec, n[2].ready })
    assert.same({ true, 5 }, { n[3].stopping, n[3].error })
    assert.same({ true, false, false, true },
      { n[4].watchdog, n[4].trigger, n[5].watchdog, n[5].trigger })
    assert.same({ 5000000, 7, false }, { n[6].extend_usec, n[6].watchdog_usec, n[6].ready })
    assert.same({ 0, 0 }, { n[7].error, n[7].monotonic_usec })
  end)

  it("that it sent just before its end comes before its exit", function()
    local child = start({ helper, "send:STATUS=last words", "exit:3" })
    loop:run_until(function()
      if child.exited then assert.equal("last words", child.notices[1].status) end
      return child.closed
    end)
    assert.equal(3, child.code)
  end)

  it("may come from its own children, in its session or group, unless that is switched off",
    function()
      local child = run("fork", "send:READY=1", "barrier", "setpgid", "send:STATUS=2", "barrier")
      assert.same({ 2, true, "2" },
        { #child.notices, child.notices[1].ready, child.notices[2].status })
      assert.is_true(child.notices[1].pid ~= child.pid)
      child = start({ helper, "send:STATUS=mine", "fork", "send:READY=1" },
        { notify_main_only = true })
      loop:run_until(function() return child.closed end)
      assert.same({ "mine", 1, 1 }, { child.notices[1].status, #child.notices, #child.refused })
      assert.matches("^the sender %(process %d+%) is not the main process of the child",
        child.refused[1])
    end)

  it("is answered: systemd-notify returns when its messages were read", function()
    local child = start({ "sh", "-c", "systemd-notify --ready --status=up && echo done" })
    loop:run_until(function() return child.closed end)
    assert.same({ true, "up", "done\n" },
      { child.notices[1].ready, child.notices[1].status, child.out })
    assert.same({}, child.refused)
  end)
end)

describe("a message that is refused:", function()
  local function refused_of(...)
    local child = run(...)
    assert.same({}, child.notices)
    assert.is_true(#child.refused > 0)
    return child.refused[1], child
  end

  it("another process's, also one that this child's address was given to", function()
    local child = start({ helper, "until:" .. dir:at "go", "send:READY=1" })
    local stranger = assert(Child.start(loop, { helper, "send:READY=1", "until:" .. dir:at "go" },
      { env = { "NOTIFY_SOCKET=" .. address_of(child) } }))
    loop:run_until(function() return child.refused[1] end)
    assert.equal(("the sender (process %d) is not in the session of the child (process %d)")
      :format(stranger.pid, child.pid), child.refused[1])
    assert.same({}, child.notices)
    dir:write("go", "")
    loop:run_until(function() return child.closed and stranger.closed end)
    assert.is_true(child.notices[1].ready)
  end)

  it("one of a process that has left the session", function()
    local why = refused_of("fork", "setsid", "send:READY=1", "barrier")
    assert.matches("is not in the session of the child", why)
  end)

  it("MAINPID of another process, with the advice; its own is taken", function()
    local why, child = refused_of "send:MAINPID=1|READY=1"
    assert.equal(("MAINPID=1 is not the process that was started (%d): run the program in the "
      .. "foreground, it must not fork itself away"):format(child.pid), why)
    local own = start({ "sh", "-c", "exec " .. helper .. " \"send:MAINPID=$$|READY=1\"" })
    loop:run_until(function() return own.closed end)
    assert.is_true(own.notices[1].ready)
    refused_of "send:MAINPID=|READY=1"
  end)

  it("FDSTORE, whose descriptors are closed; descriptors without a use are closed too", function()
    assert.equal("FDSTORE=1: descriptors of children are not stored",
      refused_of "stored:FDSTORE=1|FDNAME=x")
    local child = run "stored:STATUS=with one"
    assert.equal("with one", child.notices[1].status)
  end)

  it("a barrier with company or without its descriptor; a zero byte; what is too long", function()
    local barrier = "BARRIER=1 must be a message of its own, with exactly one descriptor"
    assert.equal(barrier, refused_of "send:BARRIER=1")
    assert.equal(barrier, refused_of "stored:READY=1|BARRIER=1")
    assert.matches("^it is longer than 4096 bytes", refused_of("send:STATUS=" .. ("x"):rep(4090)))
    local child = run("send:STATUS=" .. ("x"):rep(4089))
    assert.equal(4089, #child.notices[1].status)
    child = run "send:STATUS=not a BARRIER=1"
    assert.equal("not a BARRIER=1", child.notices[1].status)
    local notice, why = ffi.new "segue__notice[1]", ffi.new "char[100]"
    local text = ffi.new("char[20]", "READY=1\0READY=1")
    assert.is_false(C.segue__notice_parse(text, 15, 7, notice, why, 100))
    assert.equal("there is a zero byte in it", ffi.string(why))
  end)

  it("a flood from a stranger does not keep the child's own from being read", function()
    local child = start({ helper, "until:" .. dir:at "go", "send:READY=1", "pause" })
    local script = ("while :; do %s send:READY=1; done"):format(helper)
    local stranger = assert(Child.start(loop, { "sh", "-c", script },
      { env = { "NOTIFY_SOCKET=" .. address_of(child), "PATH=/bin:/usr/bin" } }))
    loop:run_until(function() return #child.refused > 3 end)
    dir:write("go", "")
    loop:run_until(function() return child.notices[1] end)
    assert.equal(1, #child.notices)
    C.segue__child_stop(child.handle)
    C.segue__child_stop(stranger.handle)
    loop:run_until(function() return child.closed and stranger.closed end)
  end)
end)
