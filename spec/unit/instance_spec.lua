-- SPDX-License-Identifier: MIT
-- One instance of the library as a host embeds it: with a configuration file instead of a policy,
-- and with memory that runs out anywhere.
local C = require "spec.support.c"
local Host = require "spec.support.host"
local tempdir = require "spec.support.tempdir"
local ffi = C.ffi

describe("an instance", function()
  after_each(Host.release)

  it("loads a configuration file and stops on request", function()
    local dir = tempdir.new()
    local reports = Host.run(dir:write("config.yaml", "a: 1\n"))
    assert.equal(1, #reports)
    assert.equal(0, reports[1].status)
    assert.equal("applied", reports[1].outcome)
    assert.equal(1, reports[1].generation)
    assert.equal(32, #reports[1].hash)
  end)

  it("reports the error of the first load, and continues", function()
    local dir = tempdir.new()
    local path = dir:write("config.yaml", "a: 1\na: 2\n")
    local again
    local reports = Host.run(path, function(s, reports)
      assert.equal("rejected", reports[1].outcome)
      dir:write("config.yaml", "a: 1\n")
      again = ffi.cast("segue_report_cb", function(_, status, r)
        reports[2] = Host.report(status, r)
        C.segue_stop(s)
      end)
      assert.equal(0, C.segue_reload(s, false, again, nil))
    end)
    assert.equal(C.SEGUE_ESYNTAX, reports[1].status)
    assert.matches("config.yaml:2:1: ", reports[1].errors[1])
    assert.equal(0, reports[1].generation)
    assert.equal(0, reports[2].status)
    assert.equal(1, reports[2].generation)
    again:free()
  end)

  it("gives readers on any thread the live snapshot", function()
    local dir = tempdir.new()
    local value
    Host.run(dir:write("config.yaml", "a: {b: 42}\n"), function(s)
      local snapshot = C.segue_snapshot_acquire(s)
      local n = C.new("int64_t[1]")
      C.check(C.segue_node_int(C.segue_node_get(C.segue_snapshot_root(snapshot), "a.b"), n))
      value = tonumber(n[0])
      C.segue_snapshot_unref(snapshot)
      C.segue_stop(s)
    end)
    assert.equal(42, value)
  end)

  it("starts the modules that the host registered, with the whole configuration", function()
    local dir = tempdir.new()
    local calls = {}
    local function done(name)
      return function(_, op)
        calls[#calls + 1] = name
        C.segue_op_done(op, 0, nil)
      end
    end
    local ops = C.new("segue_module_ops[1]")
    ops[0].size = ffi.sizeof "segue_module_ops"
    ops[0].prepare = function(_, op, next, _, instance)
      calls[#calls + 1] = "prepare"
      assert(next.config ~= nil)
      instance[0] = ffi.cast("void *", 1)
      C.segue_op_done(op, 0, nil)
    end
    ops[0].start, ops[0].drain, ops[0].stop = done "start", done "drain", done "stop"
    ops[0].destroy = function() calls[#calls + 1] = "destroy" end
    local s, rc
    rc, s = Host.new { config = dir:write("config.yaml", "a: 1\n"),
      on_start = function() C.segue_stop(s) end }
    assert.equal(0, rc)
    assert.equal(0, C.segue_module_register(s, "one", ops, nil))
    assert.equal(C.SEGUE_EUSAGE, C.segue_module_register(s, "one", ops, nil))
    assert.equal(C.SEGUE_EUSAGE, C.segue_module_register(s, "", ops, nil))
    C.check(C.segue_start(s, nil))
    C.segue_run(s)
    C.segue_close(s)
    assert.same({ "prepare", "start", "drain", "stop", "destroy" }, calls)
  end)

  it("runs on the loop of its host, which closes it at any time", function()
    local dir = tempdir.new()
    local loop = C.loop_new()
    local started, stopped = false, false
    local rc, s = Host.new { uv_loop = loop.uv, config = dir:write("config.yaml", "a: 1\n"),
      on_start = function() started = true end, on_stopped = function() stopped = true end }
    assert.equal(0, rc)
    C.check(C.segue_start(s, nil))
    assert.equal(C.SEGUE_EUSAGE, C.segue_run(s))
    C.run_until(loop, function() return started end)
    C.segue_close(s) -- stops first
    C.run_until(loop, function() return stopped end)
    C.loop_close(loop)
  end)

  it("is not killed by a client that left, on its own loop", function()
    ffi.cdef "int raise(int signum);"
    local dir = tempdir.new()
    local SIGPIPE = 13
    Host.run(dir:write("config.yaml", "a: 1\n"), function(s)
      assert.equal(0, ffi.C.raise(SIGPIPE))
      C.segue_stop(s)
    end)
  end)

  it("refuses a second start, and calls after its end", function()
    local dir = tempdir.new()
    Host.run(dir:write("config.yaml", "a: 1\n"), function(s)
      local err = C.error()
      assert.equal(C.SEGUE_EUSAGE, C.segue_start(s, err))
      assert.matches("started before", C.text(err))
      C.segue_stop(s)
      C.segue_stop(s)
    end)
    local rc, s = Host.new {}
    assert.equal(0, rc)
    assert.equal(C.SEGUE_ECLOSED, C.segue_reload(s, false, nil, nil))
    C.segue_close(s)
    C.segue_close(nil)
  end)

  it("rejects options with a size that no header defines", function()
    for _, size in ipairs { 0, 8, 100000 } do
      local o = Host.options {}
      o[0].size = size
      local rc, s, err = Host.new(o)
      assert.equal(C.SEGUE_EUSAGE, rc)
      assert.is_true(C.is_null(s))
      assert.matches("segue_options_init", C.text(err))
    end
  end)

  it("writes and reads only the fields that the size of shorter options covers", function()
    local size = ffi.offsetof("segue_options", "on_stopped")
    local bytes = C.new("unsigned char[?]", ffi.sizeof "segue_options")
    ffi.fill(bytes, ffi.sizeof "segue_options", 0xa5)
    local o = ffi.cast("segue_options *", bytes)
    C.segue_options_init_size(o, size)
    assert.equal(C.SEGUE_INFO, tonumber(o.log_level))
    for i = size, ffi.sizeof "segue_options" - 1 do assert.equal(0xa5, bytes[i]) end
    local dir, outcome = tempdir.new(), nil
    local config = dir:write("config.yaml", "a: 1\n")
    local rc, s
    local on_start = ffi.cast("segue_report_cb", function(_, _, r)
      outcome = ffi.string(r.outcome)
      C.segue_stop(s)
    end)
    o.config, o.on_start = config, on_start
    rc, s = Host.new(o)
    assert.equal(0, rc)
    C.check(C.segue_start(s, nil))
    assert.equal(0, C.segue_run(s)) -- on_stopped, filled with 0xa5, is not called
    C.segue_close(s)
    on_start:free()
    assert.equal("applied", outcome)
  end)

  it("rejects segue_run before the start, in a callback and after the end", function()
    local dir = tempdir.new()
    local rc, s = Host.new {}
    assert.equal(0, rc)
    assert.equal(C.SEGUE_EUSAGE, C.segue_run(s))
    C.segue_close(s)
    local inside
    rc, s = Host.new { config = dir:write("config.yaml", "a: 1\n"), on_start = function()
      C.segue_stop(s) -- first, so that a run that is let in comes to an end
      inside = C.segue_run(s)
    end }
    assert.equal(0, rc)
    C.check(C.segue_start(s, nil))
    assert.equal(0, C.segue_run(s))
    assert.equal(C.SEGUE_EUSAGE, inside)
    assert.equal(C.SEGUE_ECLOSED, C.segue_run(s))
    C.segue_close(s)
  end)

  it("that is closed in a callback is freed when segue_run returns, and not before", function()
    local dir = tempdir.new()
    local config = dir:write("config.yaml", "a: 1\n")
    for _, when in ipairs { "on_start", "on_stopped" } do
      local before, s, inside = C.segue__mem_live(), nil, nil
      local function close()
        C.segue_close(s)
        inside = C.segue__mem_live()
      end
      local rc
      rc, s = Host.new { config = config,
        on_start = function() if when == "on_start" then close() else C.segue_stop(s) end end,
        on_stopped = function() if when == "on_stopped" then close() end end }
      assert.equal(0, rc)
      C.check(C.segue_start(s, nil))
      assert.equal(0, C.segue_run(s))
      assert.is_true(inside > before, when)
      assert.equal(before, C.segue__mem_live(), when)
    end
  end)

  it("passes lines of segue_log to the host where no module is a log", function()
    local lines = {}
    local fields = C.new("segue_log_field[20]")
    for i = 0, 19 do fields[i].key, fields[i].number = "n", i end
    local function on_log(_, entry)
      if ffi.string(entry.group) ~= "host" then return end
      local count = tonumber(entry.field_count)
      local last = count > 0 and tonumber(entry.fields[count - 1].number)
      lines[#lines + 1] = tonumber(entry.level) .. " " .. ffi.string(entry.message) .. " "
        .. tostring(last)
    end
    local _, s = Host.new { on_log = on_log }
    assert.is_true(C.segue_log_enabled(s, C.SEGUE_INFO))
    assert.is_false(C.segue_log_enabled(s, C.SEGUE_DEBUG))
    assert.equal(1, C.segue_log(s, C.SEGUE_INFO, "host", "a line", nil, 0))
    assert.equal(0, C.segue_log(s, C.SEGUE_DEBUG, "host", "off", nil, 0))
    assert.equal(1, C.segue_log(s, C.SEGUE_WARN, "host", "many fields", fields, 20))
    C.segue_close(s)
    assert.same({ "2 a line false", "1 many fields 15" }, lines)

    _, s = Host.new {} -- without on_log no log receives the line
    assert.is_false(C.segue_log_enabled(s, C.SEGUE_ERROR))
    assert.equal(C.SEGUE_EMODULE, C.segue_log(s, C.SEGUE_ERROR, "host", "lost", nil, 0))
    C.segue_close(s)
  end)

  it("logs once that many snapshots are kept, and counts them in its metrics", function()
    local dir = tempdir.new()
    local path = dir:write("config.yaml", "n: 0\n")
    local s, kept, warnings, most = nil, {}, 0, 0
    local function on_log(_, entry)
      if ffi.string(entry.message):find("replaced generations stay in memory", 1, true) then
        warnings = warnings + 1
      end
    end
    local step
    local cb = ffi.cast("segue_report_cb", function() step() end)
    step = function()
      kept[#kept + 1] = C.segue_snapshot_acquire(s)
      local publication = ffi.cast("segue__publication **", s)[0] -- its first member
      most = math.max(most, tonumber(C.segue__publication_snapshots(publication)))
      if #kept == 18 then return C.segue_stop(s) end
      dir:write("config.yaml", ("n: %d\n"):format(#kept))
      assert.equal(0, C.segue_reload(s, false, cb, nil))
    end
    local rc
    rc, s = Host.new { config = path, on_log = on_log, on_start = function() step() end }
    assert.equal(0, rc)
    C.check(C.segue_start(s, nil))
    assert.equal(0, C.segue_run(s))
    for _, snapshot in ipairs(kept) do C.segue_snapshot_unref(snapshot) end
    C.segue_close(s)
    cb:free()
    assert.equal(18, most)
    assert.equal(1, warnings)
  end)

  -- A child that clone(2) made, without the handlers of fork (os/fork_fds.c), shares the lock. A
  -- second descriptor of the same open file stands for that of the child.
  it("releases its state folder also where a child of its host continues to run", function()
    ffi.cdef "int dup(int fd); int close(int fd);"
    local dir = tempdir.new()
    local function open()
      local state, err = C.new("segue__state[1]"), C.error()
      C.check(C.segue__state_open(state, dir:at "state", err), err)
      return state
    end
    local state = open()
    local of_child = ffi.C.dup(state[0].lock_fd)
    assert.is_true(of_child >= 0)
    C.segue__state_close(state)
    local again = open() -- EBUSY, as long as the child has the lock
    C.segue__state_close(again)
    ffi.C.close(of_child)
  end)

  it("does not share its state folder", function()
    local dir = tempdir.new()
    local config = dir:write("config.yaml", "a: 1\n")
    Host.run(config, function(first)
      local rc, second = Host.new { config = config, state = dir:at "state" }
      assert.equal(0, rc)
      assert.equal(0, C.segue_start(second, nil))
      local rc3, third = Host.new { config = config, state = dir:at "state" }
      assert.equal(0, rc3)
      local err = C.error()
      assert.is_true(C.segue_start(third, err) < 0)
      assert.matches("another segue %(pid %d+%) uses the state folder", C.text(err))
      assert.matches("choose another %(option state%)", C.text(err))
      C.segue_close(third)
      C.segue_close(second)
      local rc4, fourth = Host.new { config = config, state = dir:at "state" }
      assert.equal(0, rc4)
      C.check(C.segue_start(fourth, err), err)
      C.segue_close(fourth)
      C.segue_stop(first)
    end)
  end)

  it("survives memory that runs out anywhere, and holds nothing afterwards", function()
    local dir = tempdir.new()
    local config, state = dir:write("config.yaml", "a: 1\nb: [1, 2]\n"), dir:at "state"
    local function life()
      local s, rc
      local err = C.error()
      rc, s = Host.new { config = config, state = state, on_start = function()
        C.segue_stop(s)
      end }
      if rc < 0 then return false end
      rc = C.segue_start(s, err)
      if rc == 0 then
        C.segue_run(s)
      else
        assert.is_true(#C.text(err) > 0)
      end
      C.segue_close(s)
      return rc == 0
    end
    assert.is_true(life())
    local before = C.segue__mem_live()
    local failures, n = 0, 0
    repeat
      n = n + 1
      C.segue__mem_fail_at(n)
      local ok = life()
      local reached = not ok
      C.segue__mem_fail_at(0)
      if reached then failures = failures + 1 end
      assert.equal(before, C.segue__mem_live(), "allocation " .. n)
    until n >= 160
    assert.is_true(failures > 10)
  end)
end)
