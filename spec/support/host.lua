-- SPDX-License-Identifier: MIT
-- An instance of the library in the process of the spec, as a host embeds it: on a loop of its own
-- (run), or on the loop of the host (start), where C modules may be registered.
--   after_each(Host.release)
local C = require "spec.support.c"
local assert = require "luassert"
local tempdir = require "spec.support.tempdir"
local uv = require "luv"
local ffi = C.ffi

local M = {}

local live = {} -- callbacks and strings that C uses, until the end of the spec

--- The options of an instance: strings, or functions for on_start, on_stopped and on_log.
function M.options(changes)
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

--- An instance of options, or of a table for M.options. Returns the code, the instance, the error.
function M.new(o)
  if type(o) == "table" then o = M.options(o) end
  local out, err = C.new("segue *[1]"), C.error()
  return C.segue_new(out, o, err), out[0], err
end

--- A report as a table.
function M.report(status, r)
  if r == nil then return { status = status } end
  local errors = {}
  for i = 0, tonumber(r.error_count) - 1 do errors[i + 1] = C.text(r.errors + i) end
  return { status = status, outcome = ffi.string(r.outcome), id = tonumber(r.id),
    generation = tonumber(r.generation), hash = ffi.string(r.hash), errors = errors }
end

--- Runs a config file to its end on the instance's own loop. on_started(s, reports) is called when
--- it has started, and has to stop it. Returns the reports.
function M.run(config, on_started)
  local reports, s = {}, nil
  local o = M.options { config = config, on_start = function(_, status, r)
    reports[#reports + 1] = M.report(status, r)
    if on_started then on_started(s, reports) else C.segue_stop(s) end
  end }
  local rc
  rc, s = M.new(o)
  assert.equal(0, rc)
  local err = C.error()
  C.check(C.segue_start(s, err), err)
  assert.equal(0, C.segue_run(s))
  C.segue_close(s)
  return reports
end

local Host = {}
Host.__index = Host

--- An instance on a host's loop: of a policy, or without one of config.yaml alone. modules: names
--- of C modules; the start of one fails while failing[name] is true.
function M.start(dir, policy, modules)
  local self = setmetatable({ dir = dir, loop = C.loop_new(), failing = {} }, Host)
  local rc
  rc, self.s = M.new { uv_loop = self.loop.uv,
    policy = policy and dir:write("reload.lua", policy),
    config = not policy and dir:at "config.yaml" or nil,
    state = dir:at "state", lua_dir = uv.cwd() .. "/lua",
    on_start = function(_, status, r) self.started = M.report(status, r) end,
    on_stopped = function() self.stopped = true end }
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

--- Reloads; returns the report.
function Host:reload()
  local answer
  local cb = ffi.cast("segue_report_cb", function(_, status, r) answer = M.report(status, r) end)
  assert.equal(0, C.segue_reload(self.s, false, cb, nil))
  C.run_until(self.loop, function() return answer end, 30000)
  cb:free()
  return answer
end

--- GET on the control socket, while the instance's loop turns: the status, and the body.
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

--- Closes the instance and its loop.
function Host:close()
  C.segue_close(self.s)
  C.run_until(self.loop, function() return self.stopped end, 30000)
  C.loop_close(self.loop)
end

--- Frees the callbacks, and removes the folders: for after_each.
function M.release()
  live = {}
  tempdir.remove_all()
end

return M
