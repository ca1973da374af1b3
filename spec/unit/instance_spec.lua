-- SPDX-License-Identifier: MIT
-- One instance of the library as a host embeds it: on a loop of its own and on the host's, with a
-- configuration file instead of a policy, and with memory that runs out anywhere.
local C = require "spec.support.c"
local cjson = require "cjson"
local tempdir = require "spec.support.tempdir"
local uv = require "luv"
local ffi = C.ffi

local live = {} -- callbacks and strings that C holds

local function options(changes)
  local o = C.new("segue_options[1]")
  C.segue_options_init_size(o, ffi.sizeof "segue_options")
  for name, value in pairs(changes) do
    if type(value) == "function" then
      local types = { on_start = "segue_report_cb", on_stopped = "void (*)(void *)",
        on_log = "void (*)(void *, const segue_log_entry *)" }
      value = ffi.cast(types[name], value)
    end
    live[#live + 1] = value
    o[0][name] = value
  end
  return o
end

local function new(o)
  local out, err = C.new("segue *[1]"), C.error()
  return C.segue_new(out, o, err), out[0], err
end

local function report(status, r)
  if r == nil then return { status = status } end
  local errors = {}
  for i = 0, tonumber(r.error_count) - 1 do errors[i + 1] = C.text(r.errors + i) end
  return { status = status, outcome = ffi.string(r.outcome), id = tonumber(r.id),
    generation = tonumber(r.generation), hash = ffi.string(r.hash), errors = errors }
end

-- Runs a config file to its end on the instance's own loop; then(s) is called once it has started.
local function run(config, on_started)
  local reports, s = {}, nil
  local o = options { config = config, on_start = function(_, status, r)
    reports[#reports + 1] = report(status, r)
    if on_started then on_started(s, reports) else C.segue_stop(s) end
  end }
  local rc
  rc, s = new(o)
  assert.equal(0, rc)
  local err = C.error()
  C.check(C.segue_start(s, err), err)
  assert.equal(0, C.segue_run(s))
  C.segue_close(s)
  return reports
end

-- An instance on a host's loop, of a policy, or without one of config.yaml alone. Its modules are
-- of C, and their start fails while the spec requests it.
local Host = {}
Host.__index = Host

local function host(dir, policy, modules)
  local self = setmetatable({ dir = dir, loop = C.loop_new(), failing = {} }, Host)
  local rc
  rc, self.s = new(options { uv_loop = self.loop.uv,
    policy = policy and dir:write("reload.lua", policy),
    config = not policy and dir:at "config.yaml" or nil,
    state = dir:at "state", lua_dir = uv.cwd() .. "/lua",
    on_start = function(_, status, r) self.started = report(status, r) end,
    on_stopped = function() self.stopped = true end })
  assert.equal(0, rc)
  for _, name in ipairs(modules or {}) do
    local ops = C.new("segue_module_ops[1]")
    ops[0].size = ffi.sizeof "segue_module_ops"
    local function done(_, op) C.segue_op_done(op, 0, nil) end
    ops[0].prepare = function(_, op, _, _, instance)
      instance[0] = ffi.cast("void *", 1)
      C.segue_op_done(op, 0, nil)
    end
    ops[0].start = function(_, op)
      local err = C.error()
      C.segue__errorf(err, C.SEGUE_EMODULE, "%s", "no port for it")
      if self.failing[name] then C.segue_op_done(op, C.SEGUE_EMODULE, err) else done(_, op) end
    end
    ops[0].drain, ops[0].stop, ops[0].destroy = done, done, function() end
    live[#live + 1] = ops
    assert.equal(0, C.segue_module_register(self.s, name, ops, nil))
  end
  local err = C.error()
  C.check(C.segue_start(self.s, err), err)
  C.run_until(self.loop, function() return self.started end, 30000)
  return self
end

function Host:reload()
  local answer
  local cb = ffi.cast("segue_report_cb", function(_, status, r) answer = report(status, r) end)
  assert.equal(0, C.segue_reload(self.s, false, cb, nil))
  C.run_until(self.loop, function() return answer end, 30000)
  cb:free()
  return answer
end

-- GET on the control socket, while the instance's loop turns: the status, and the body.
function Host:get(path)
  local pipe, input, ended = uv.new_pipe(false), "", false
  pipe:connect(self.dir:at "state/control.sock", function(err)
    assert.is_nil(err)
    pipe:read_start(function(_, data) input, ended = input .. (data or ""), not data end)
    pipe:write("GET " .. path .. " HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
  end)
  C.run_until(self.loop, function()
    uv.run "nowait"
    return ended
  end, 30000)
  pipe:close()
  uv.run "nowait"
  return tonumber(input:match "^HTTP/1.1 (%d+)"), input:match "\r\n\r\n(.*)$"
end

function Host:close()
  C.segue_close(self.s)
  C.run_until(self.loop, function() return self.stopped end, 30000)
  C.loop_close(self.loop)
end

local with_modules = [[
local segue = require "segue"
return { name = "host", sources = { segue.file "config.yaml" }, triggers = {},
  modules = { one = { kind = "c", replace = "restart" }, two = { kind = "c" } } }
]]

describe("an instance", function()
  after_each(function()
    live = {}
    tempdir.remove_all()
  end)

  it("loads a configuration file and stops on request", function()
    local dir = tempdir.new()
    local reports = run(dir:write("config.yaml", "a: 1\n"))
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
    local reports = run(path, function(s, reports)
      assert.equal("rejected", reports[1].outcome)
      dir:write("config.yaml", "a: 1\n")
      again = ffi.cast("segue_report_cb", function(_, status, r)
        reports[2] = report(status, r)
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
    run(dir:write("config.yaml", "a: {b: 42}\n"), function(s)
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
    rc, s = new(options { config = dir:write("config.yaml", "a: 1\n"),
      on_start = function() C.segue_stop(s) end })
    assert.equal(0, rc)
    assert.equal(0, C.segue_module_register(s, "one", ops, nil))
    assert.equal(C.SEGUE_EUSAGE, C.segue_module_register(s, "one", ops, nil))
    assert.equal(C.SEGUE_EUSAGE, C.segue_module_register(s, "", ops, nil))
    C.check(C.segue_start(s, nil))
    C.segue_run(s)
    C.segue_close(s)
    assert.same({ "prepare", "start", "drain", "stop", "destroy" }, calls)
  end)

  it("reports the state of each module: a failed one makes it not ready", function()
    local dir = tempdir.new()
    dir:write("config.yaml", "a: 1\n")
    local h = host(dir, with_modules, { "one", "two" })
    assert.equal("applied", h.started.outcome)
    local function module(name)
      local status, body = h:get "/api/v1/modules"
      assert.equal(200, status)
      local list = cjson.decode(body)
      list = list.modules or list
      assert.equal(2, #list)
      for _, m in ipairs(list) do if m.name == name then return m end end
    end
    local function metric(text)
      local _, body = h:get "/metrics"
      return tonumber(body:match("\n" .. text:gsub("%p", "%%%0") .. " ([%d.]+)\n"))
    end
    assert.equal("serving", module("one").state)
    assert.equal(1, module("one").generation)
    assert.same({ 1, 1, 0, 1, 1 }, { metric "segue_ready",
      metric 'segue_module_state{module="one",state="serving"}',
      metric 'segue_module_state{module="one",state="failed"}',
      metric 'segue_module_generation{module="two"}', metric 'segue_gate_open{module="one"}' })
    assert.equal(200, (h:get "/-/ready"))

    dir:write("config.yaml", "a: 2\n")
    h.failing.one = true -- neither the new one starts nor, in the undo, the old one
    local answer = h:reload()
    assert.equal("reverted", answer.outcome)
    local status, body = h:get "/-/ready"
    assert.equal(503, status)
    assert.matches("^not ready: .*one", body)
    local _, all = h:get "/api/v1/status"
    assert.is_false(cjson.decode(all).ready)
    assert.equal("failed", module("one").state)
    assert.matches("no port for it", cjson.encode(module "one"))
    assert.equal("serving", module("two").state)
    assert.same({ 0, 0, 1, 0, 1 }, { metric "segue_ready",
      metric 'segue_module_state{module="one",state="serving"}',
      metric 'segue_module_state{module="one",state="failed"}',
      metric 'segue_gate_open{module="one"}', metric 'segue_gate_open{module="two"}' })

    h.failing.one = false -- it is tried again by itself
    C.run_until(h.loop, function() return h:get "/-/ready" == 200 end, 60000)
    assert.equal("serving", module("one").state)
    assert.same({ 1, 1 }, { metric "segue_ready", metric 'segue_gate_open{module="one"}' })
    h:close()
  end)

  it("answers its status, metrics and files where the host has no policy", function()
    local dir = tempdir.new()
    dir:write("config.yaml", "a: 1\n")
    local h = host(dir)
    local status, body = h:get "/api/v1/status"
    assert.equal(200, status)
    assert.equal(1, cjson.decode(body).generation)
    assert.equal(200, (h:get "/metrics"))
    status, body = h:get "/api/v1/files"
    assert.equal(200, status)
    assert.equal("[]\n", body)
    h:close()
  end)

  it("does not wait for reads that hang: it logs them, and continues when they return", function()
    local dir = tempdir.new()
    dir:write("config.yaml", "a: 1\n")
    local h = host(dir, [[
local segue = require "segue"
return { name = "host", sources = { segue.file "config.yaml" }, triggers = {},
  timeouts = { collect = "100ms" } }
]])
    C.segue__fault_arm(nil)
    C.segue__fault_arm("read.changed=hang")
    dir:write("config.yaml", "a: 2\n")
    local hung = 0
    repeat
      local answer = h:reload()
      assert.equal("failed", answer.outcome)
      assert.equal(1, answer.generation)
      local many = answer.errors[1]:find("earlier reads of the sources still hang", 1, true)
      if not many then
        hung = hung + 1
        assert.matches("the sources were not read after 100 ms", answer.errors[1])
      end
    until many or hung > 10
    assert.is_true(hung >= 1 and hung <= C.SEGUE__WORKERS_MAX, hung)
    assert.equal(200, (h:get "/-/ready"))
    C.segue__fault_arm(nil) -- they come back
    C.run_until(h.loop, function() return h:reload().outcome ~= "failed" end, 30000)
    local _, config = h:get "/api/v1/config"
    assert.same({ a = 2 }, cjson.decode(config))
    h:close()
  end)

  it("runs on the loop of its host, which closes it at any time", function()
    local dir = tempdir.new()
    local loop = C.loop_new()
    local started, stopped = false, false
    local rc, s = new(options { uv_loop = loop.uv, config = dir:write("config.yaml", "a: 1\n"),
      on_start = function() started = true end, on_stopped = function() stopped = true end })
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
    run(dir:write("config.yaml", "a: 1\n"), function(s)
      assert.equal(0, ffi.C.raise(SIGPIPE))
      C.segue_stop(s)
    end)
  end)

  it("refuses a second start, and calls after its end", function()
    local dir = tempdir.new()
    run(dir:write("config.yaml", "a: 1\n"), function(s)
      local err = C.error()
      assert.equal(C.SEGUE_EUSAGE, C.segue_start(s, err))
      assert.matches("started before", C.text(err))
      C.segue_stop(s)
      C.segue_stop(s)
    end)
    local rc, s = new(options {})
    assert.equal(0, rc)
    assert.equal(C.SEGUE_ECLOSED, C.segue_reload(s, false, nil, nil))
    C.segue_close(s)
    C.segue_close(nil)
  end)

  it("rejects options with a size that no header defines", function()
    for _, size in ipairs { 0, 8, 100000 } do
      local o = options {}
      o[0].size = size
      local rc, s, err = new(o)
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
    rc, s = new(o)
    assert.equal(0, rc)
    C.check(C.segue_start(s, nil))
    assert.equal(0, C.segue_run(s)) -- on_stopped, filled with 0xa5, is not called
    C.segue_close(s)
    on_start:free()
    assert.equal("applied", outcome)
  end)

  it("rejects segue_run before the start, in a callback and after the end", function()
    local dir = tempdir.new()
    local rc, s = new(options {})
    assert.equal(0, rc)
    assert.equal(C.SEGUE_EUSAGE, C.segue_run(s))
    C.segue_close(s)
    local inside
    rc, s = new(options { config = dir:write("config.yaml", "a: 1\n"), on_start = function()
      C.segue_stop(s) -- first, so that a run that is let in comes to an end
      inside = C.segue_run(s)
    end })
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
      rc, s = new(options { config = config,
        on_start = function() if when == "on_start" then close() else C.segue_stop(s) end end,
        on_stopped = function() if when == "on_stopped" then close() end end })
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
    local _, s = new(options { on_log = on_log })
    assert.is_true(C.segue_log_enabled(s, C.SEGUE_INFO))
    assert.is_false(C.segue_log_enabled(s, C.SEGUE_DEBUG))
    assert.equal(1, C.segue_log(s, C.SEGUE_INFO, "host", "a line", nil, 0))
    assert.equal(0, C.segue_log(s, C.SEGUE_DEBUG, "host", "off", nil, 0))
    assert.equal(1, C.segue_log(s, C.SEGUE_WARN, "host", "many fields", fields, 20))
    C.segue_close(s)
    assert.same({ "2 a line false", "1 many fields 15" }, lines)

    _, s = new(options {}) -- without on_log no log receives the line
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
    rc, s = new(options { config = path, on_log = on_log, on_start = function() step() end })
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
    run(config, function(first)
      local rc, second = new(options { config = config, state = dir:at "state" })
      assert.equal(0, rc)
      assert.equal(0, C.segue_start(second, nil))
      local rc3, third = new(options { config = config, state = dir:at "state" })
      assert.equal(0, rc3)
      local err = C.error()
      assert.is_true(C.segue_start(third, err) < 0)
      assert.matches("another segue %(pid %d+%) uses the state folder", C.text(err))
      assert.matches("choose another %(option state%)", C.text(err))
      C.segue_close(third)
      C.segue_close(second)
      local rc4, fourth = new(options { config = config, state = dir:at "state" })
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
      rc, s = new(options { config = config, state = state, on_start = function()
        C.segue_stop(s)
      end })
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
