-- SPDX-License-Identifier: MIT
-- Signals, polls, and the trigger set of a policy through a transaction.
local C = require "spec.support.c"
local Loop = require "spec.support.loop"
local Tempdir = require "spec.support.tempdir"
local uv = require "luv"
local ffi = C.ffi

pcall(ffi.cdef, "int kill(int pid, int signal);")
local HUP, USR1, USR2, WINCH = 1, 10, 12, 28
local live, fds

before_each(function()
  live, fds = tonumber(C.segue__mem_live()), C.os_harness_open_fds()
end)
after_each(function()
  C.segue__fault_arm(nil)
  C.segue__mem_fail_at(0)
  assert.equal(live, tonumber(C.segue__mem_live()))
  -- libuv keeps one pipe for all signals of the process, from the first one on.
  local now = C.os_harness_open_fds()
  assert.is_true(now == fds or now == fds + 2, ("%d files, %d before"):format(now, fds))
  Tempdir.remove_all()
end)

describe("the name of a signal", function()
  it("is read with and without SIG, in any case", function()
    local out = ffi.new("int[1]")
    for _, name in ipairs { "HUP", "SIGHUP", "hup", "SigHup" } do
      assert.equal(0, C.segue__signal_parse(name, out))
      assert.equal(HUP, out[0])
    end
    assert.equal("SIGUSR1", C.str(C.segue__signal_name(USR1)))
  end)

  it("is refused for an unknown signal, and for one without a handler", function()
    local out = ffi.new("int[1]", 77)
    for _, name in ipairs { "KILL", "SIGSTOP", "SEGV", "", "SIG", "HUPP" } do
      assert.equal("EINVAL", C.name(C.segue__signal_parse(name, out)))
    end
    assert.equal(77, out[0])
  end)
end)

describe("a poll", function()
  local loop
  before_each(function() loop = Loop.manual() end)
  after_each(function() loop:close() end)

  local function run(interval, seed, rounds, on_tick)
    local poll, at = ffi.new("segue__poll[1]"), {}
    local cb = loop:cb("void (*)(void *)", function()
      at[#at + 1] = tonumber(C.segue__loop_now_ms(loop.ptr))
      if on_tick then on_tick(poll, #at) end
    end)
    local start = tonumber(C.segue__loop_now_ms(loop.ptr))
    assert.equal(0, C.segue__poll_start(poll, loop.ptr, interval, seed, cb, nil))
    C.segue__loop_advance(loop.ptr, interval * rounds)
    C.segue__poll_stop(poll)
    local gaps = {}
    for i, ms in ipairs(at) do gaps[i] = ms - (at[i - 1] or start) end
    return gaps
  end

  it("fires within ten percent of its interval, spread, and exact in the mean", function()
    local gaps = run(1000, 7, 2000)
    local sum, low, high = 0, 1e9, 0
    for _, gap in ipairs(gaps) do
      assert.is_true(gap >= 900 and gap <= 1100, "a gap of " .. gap)
      sum, low, high = sum + gap, math.min(low, gap), math.max(high, gap)
    end
    assert.is_true(low < 910 and high > 1090)
    assert.is_true(math.abs(sum / #gaps - 1000) < 5)
  end)

  it("has the same delays for the same seed and others for another", function()
    local first = run(1000, 5, 50)
    assert.same(first, run(1000, 5, 50))
    assert.not_same(first, run(1000, 6, 50))
    assert.not_same(run(1000, 0, 50), run(1000, 0, 50))
  end)

  it("works for the shortest and very long intervals", function()
    assert.equal(20, #run(1, 3, 20))
    local year = 365 * 86400000
    for _, gap in ipairs(run(year, 3, 10)) do
      assert.is_true(gap >= year * 0.9 and gap <= year * 1.1)
    end
  end)

  it("can be stopped in its own callback", function()
    local gaps = run(10, 3, 100, function(poll, n)
      if n == 3 then C.segue__poll_stop(poll) end
    end)
    assert.equal(3, #gaps)
  end)
end)

describe("the trigger set", function()
  local loop, dir, set, reported, since, holds
  local types = { signal = C.SEGUE__TRIGGER_SIGNAL, watch = C.SEGUE__TRIGGER_WATCH,
    poll = C.SEGUE__TRIGGER_POLL, http = C.SEGUE__TRIGGER_HTTP }

  local function open(signals)
    local options = ffi.new("segue__triggers_options[1]")
    local log = ffi.new("segue__logger[1]")
    holds[#holds + 1] = log
    options[0].size = ffi.sizeof("segue__triggers_options")
    options[0].loop, options[0].log, options[0].signals = loop.ptr, log, signals
    options[0].on_trigger = loop:cb("void (*)(void *, segue__trigger, const char *)",
      function(_, trigger, cause)
        reported[#reported + 1] = C.str(C.segue__trigger_name(trigger)) .. ": " .. C.str(cause)
      end)
    options[0].since_wall_ms = loop:cb("int64_t (*)(void *)", function() return since end)
    local out = ffi.new("segue__triggers *[1]")
    C.check(C.segue__triggers_new(out, options))
    return out[0]
  end

  local function close()
    local closed = false
    C.segue__triggers_close(set, loop:cb("void (*)(void *)", function() closed = true end), nil)
    loop:run_until(function() return closed end)
    set = nil
  end

  -- policy { signal = {..}, poll = {..}, watch = true, inputs = {..}, files = {..} }
  local function policy(p)
    local specs = {}
    for _, signum in ipairs(p.signal or {}) do specs[#specs + 1] = { "signal", signum } end
    for _, ms in ipairs(p.poll or {}) do specs[#specs + 1] = { "poll", ms } end
    if p.watch then specs[#specs + 1] = { "watch", 0 } end
    if p.http then specs[#specs + 1] = { "http", 0 } end
    local out = ffi.new("segue__policy[1]")
    local array = ffi.new("segue__trigger_spec[?]", #specs + 1)
    for i, spec in ipairs(specs) do
      array[i - 1].type = types[spec[1]]
      array[i - 1].signum = spec[1] == "signal" and spec[2] or 0
      array[i - 1].interval_ms = spec[1] ~= "signal" and spec[2] or 0
    end
    local inputs = ffi.new("segue__input[?]", #(p.inputs or {}) + 1)
    for i, path in ipairs(p.inputs or {}) do
      local text = ffi.new("char[?]", #path + 1, path)
      holds[#holds + 1] = text
      inputs[i - 1].path = text
    end
    local sources = ffi.new("segue__source[?]", #(p.files or {}) + 1)
    for i, path in ipairs(p.files or {}) do
      local text = ffi.new("char[?]", #path + 1, path)
      holds[#holds + 1] = text
      sources[i - 1].kind = C.segue__source_file
      sources[i - 1].path = text
      sources[i - 1].name = text
    end
    out[0].triggers, out[0].trigger_count = array, #specs
    out[0].inputs, out[0].input_count = inputs, #(p.inputs or {})
    out[0].sources, out[0].source_count = sources, #(p.files or {})
    for _, one in ipairs { array, inputs, sources, out } do holds[#holds + 1] = one end
    return out
  end

  local function stage(p)
    local errors = ffi.new("segue__errors[1]")
    local rc = C.segue__triggers_stage(set, policy(p), errors)
    local message = errors[0].count > 0 and C.text(errors[0].items) or nil
    C.segue__errors_deinit(errors)
    return rc, message
  end

  local function go_live(p)
    assert.equal(0, (stage(p)))
    C.segue__triggers_settle(set)
  end

  local function told_until(wanted)
    loop:run_until(function()
      for _, one in ipairs(reported) do if one == wanted then return true end end
    end)
    loop:turn()
    local all = reported
    reported = {}
    return all
  end

  -- Is the signal caught by this process?
  local function caught(signum)
    local mask
    for line in io.lines("/proc/self/status") do mask = mask or line:match("SigCgt:%s*(%x+)") end
    local low = tonumber(mask:sub(9), 16)
    return math.floor(low / 2 ^ (signum - 1)) % 2 == 1
  end

  before_each(function()
    dir, reported, holds = Tempdir.new(), {}, {}
    loop = Loop.uv()
    since = 9000000000000
    set = open(true)
  end)
  after_each(function()
    if set then close() end
    loop:close()
  end)

  it("reports signals, each by its name", function()
    go_live { signal = { HUP, USR1, HUP } }
    ffi.C.kill(uv.os_getpid(), HUP)
    assert.same({ "signal: SIGHUP" }, told_until "signal: SIGHUP")
    ffi.C.kill(uv.os_getpid(), USR1)
    assert.same({ "signal: SIGUSR1" }, told_until "signal: SIGUSR1")
    close()
    assert.is_false(caught(USR1))
  end)

  it("handles no signal where it is embedded", function()
    close()
    set = open(false)
    go_live { signal = { USR2 } }
    assert.is_false(caught(USR2))
  end)

  it("keeps the live signals while a next policy is staged, and changes with settle", function()
    go_live { signal = { USR1 } }
    assert.equal(0, (stage { signal = { USR2, WINCH } }))
    assert.same({ true, true }, { caught(USR1), caught(USR2) })
    ffi.C.kill(uv.os_getpid(), USR1)
    told_until "signal: SIGUSR1"
    C.segue__triggers_settle(set)
    assert.same({ false, true, true }, { caught(USR1), caught(USR2), caught(WINCH) })
    ffi.C.kill(uv.os_getpid(), USR2)
    told_until "signal: SIGUSR2"
  end)

  it("forgets a staged policy with discard", function()
    go_live { signal = { USR1 }, watch = true, inputs = { dir:at("a") } }
    assert.equal(0, (stage { signal = { USR1, USR2 }, watch = true, inputs = { dir:at("b") } }))
    C.segue__triggers_discard(set)
    assert.same({ true, false }, { caught(USR1), caught(USR2) })
    dir:write("b", "1")
    dir:write("a", "1")
    assert.same({ "watch: " .. dir:at("a") .. " changed" },
      told_until("watch: " .. dir:at("a") .. " changed"))
  end)

  it("refuses an impossible trigger and does not change the live set", function()
    go_live { signal = { USR1 } }
    local rc, message = stage { signal = { USR2, 9 } }
    assert.equal("EINVAL", C.name(rc))
    assert.truthy(message:find("cannot listen for", 1, true))
    assert.same({ true, false }, { caught(USR1), caught(USR2) })
    C.segue__triggers_settle(set) -- nothing is staged
    assert.is_true(caught(USR1))
  end)

  it("watches the files of all sources and inputs, of both policies during a change", function()
    go_live { watch = true, http = true, inputs = { dir:at("reload.lua") },
      files = { dir:at("a") } }
    dir:write("a", "1")
    told_until("watch: " .. dir:at("a") .. " changed")
    dir:write("reload.lua", "1")
    told_until("watch: " .. dir:at("reload.lua") .. " changed")
    assert.equal(0, (stage { watch = true, files = { dir:at("b") } }))
    dir:write("a", "2")
    told_until("watch: " .. dir:at("a") .. " changed")
    dir:write("b", "2")
    told_until("watch: " .. dir:at("b") .. " changed")
    C.segue__triggers_settle(set)
    dir:write("a", "3")
    dir:write("b", "3")
    assert.same({ "watch: " .. dir:at("b") .. " changed" },
      told_until("watch: " .. dir:at("b") .. " changed"))
    go_live {}
    dir:write("b", "4")
    loop:turn()
    assert.same({}, reported)
    assert.is_true(C.segue__triggers_problem(set) == nil)
  end)

  it("requests one more reload where a file was touched before its watch began", function()
    dir:write("a", "1")
    since = 0
    assert.equal(0, (stage { watch = true, inputs = { dir:at("a") } }))
    loop:turn()
    assert.same({}, reported)
    C.segue__triggers_settle(set)
    assert.same({ "watch: files changed while their watch began" },
      told_until "watch: files changed while their watch began")
    go_live { watch = true, inputs = { dir:at("a") } } -- nothing new is watched
    assert.equal(0, (stage { watch = true, inputs = { dir:at("b") } }))
    C.segue__triggers_discard(set)
    loop:turn()
    assert.same({}, reported)
  end)

  it("polls from settle on, and does not disturb a poll that stays", function()
    assert.equal(0, (stage { poll = { 20 } }))
    C.segue__triggers_discard(set)
    go_live { poll = { 20, 3600000 } }
    told_until "poll: poll every 20ms"
    loop:run_until(function()
      go_live { poll = { 20 } } -- were it started again each time it would never come
      return reported[1] == "poll: poll every 20ms"
    end)
    go_live {}
    reported = {}
    loop:turn()
    assert.same({}, reported)
  end)

  it("writes the interval of a poll in the largest whole unit", function()
    close()
    local manual = Loop.manual()
    local uv_loop = loop
    loop = manual
    set = open(false)
    go_live { poll = { 30000, 90000, 300000, 7200000 } }
    C.segue__loop_advance(manual.ptr, 7920000 + 1)
    local seen = {}
    for _, one in ipairs(reported) do seen[one] = true end
    assert.same({ ["poll: poll every 30s"] = true, ["poll: poll every 1m30s"] = true,
      ["poll: poll every 5m"] = true, ["poll: poll every 2h"] = true }, seen)
    local closed = false
    C.segue__triggers_close(set, manual:cb("void (*)(void *)", function() closed = true end), nil)
    assert.is_true(closed)
    set, loop = nil, uv_loop
    manual:close()
  end)

  it("fails a stage as a whole when memory is out", function()
    go_live { signal = { USR1 } }
    local failed = 0
    for n = 1, 200 do
      local p = policy { signal = { USR1, USR2 }, poll = { 1000 }, watch = true,
        inputs = { dir:at("a"), dir:at("x/b") } }
      local errors = ffi.new("segue__errors[1]")
      C.segue__mem_fail_at(n)
      local rc = C.segue__triggers_stage(set, p, errors)
      C.segue__mem_fail_at(0)
      C.segue__errors_deinit(errors)
      if rc == 0 then break end
      failed = failed + 1
      assert.equal("ENOMEM", C.name(rc))
      assert.same({ true, false }, { caught(USR1), caught(USR2) })
    end
    assert.is_true(failed > 10)
    C.segue__triggers_settle(set)
    dir:write("a", "1")
    told_until("watch: " .. dir:at("a") .. " changed")
  end)
end)
