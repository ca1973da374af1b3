-- SPDX-License-Identifier: MIT
-- Long-lived children (core/os/child.h) for specs: `local Child = require "spec.support.child"`.
--   local child = Child.start(loop, { Child.helper(), "send:READY=1", "pause" }, { notify = true })
--   loop:run_until(function() return child.notices[1] end)
local C = require "spec.support.c"
local plugin = require "spec.support.plugin"
local uv = require "luv"
local ffi = C.ffi
local M = {}

local built
--- The path of child_helper, a program that does what its arguments say (spec/unit/child_helper.c).
function M.helper()
  if not built then
    built = os.tmpname()
    plugin.program(built, "spec/unit/child_helper.c")
    uv.os_setenv("SEGUE_SPEC_PID", tostring(uv.os_getpid())) -- helpers end with this process
  end
  return built
end

--- Removes the helper; for the end of a file.
function M.remove_helper()
  if built then os.remove(built) end
  built = nil
end

local function strings(list)
  local array = ffi.new("const char *[?]", #list + 1)
  for i, s in ipairs(list) do array[i - 1] = s end
  return array
end

local function files_of(list)
  local files = ffi.new("segue__child_file[?]", #list)
  for i, file in ipairs(list) do files[i - 1].fd, files[i - 1].name = file[1], file[2] end
  return files
end

local function limits_of(list)
  local limits = ffi.new("segue__child_limit[?]", #list)
  for i, limit in ipairs(list) do
    limits[i - 1] = { C.segue__child_limit_find(limit[1]), limit[2], limit[3] }
  end
  return limits
end

local numbers = { "kill_ms", "linger_ms", "watchdog_ms", "stop_signal" }
local flags = { "join_output", "notify", "notify_main_only", "kill_rest" }

local function fill(options, argv, o, keep)
  local function hold(value)
    keep[#keep + 1] = value
    return value
  end
  options.size = ffi.sizeof "segue__child_options"
  options.argv = hold(strings(argv))
  if o.env then options.env = hold(strings(o.env)) end
  options.cwd = o.cwd
  options.input, options.input_len = o.input, o.input and #o.input or 0
  if o.stdio then options.stdio = hold(ffi.new("int[3]", o.stdio)) end
  if o.files then options.files, options.file_count = hold(files_of(o.files)), #o.files end
  if o.limits then options.limits, options.limit_count = hold(limits_of(o.limits)), #o.limits end
  if o.umask then options.umask = hold(ffi.new("unsigned[1]", o.umask)) end
  if o.nice then options.nice = hold(ffi.new("int[1]", o.nice)) end
  if o.oom then options.oom_score_adj = hold(ffi.new("int[1]", o.oom)) end
  if o.user then options.user = o.user end
  for _, name in ipairs(numbers) do if o[name] then options[name] = o[name] end end
  for _, name in ipairs(flags) do if o[name] then options[name] = true end end
end

local function on_notice(self, n)
  self.notices[#self.notices + 1] = { pid = n.pid, ready = n.ready, reloading = n.reloading,
    stopping = n.stopping, watchdog = n.watchdog, trigger = n.watchdog_trigger, error = n.error,
    monotonic_usec = tonumber(n.monotonic_usec), status = C.str(n.status),
    extend_usec = tonumber(n.extend_timeout_usec), watchdog_usec = tonumber(n.watchdog_usec) }
end

local function on_exit(self, r)
  assert(not self.exited, "exited twice")
  self.exited = true
  self.status, self.code, self.signal = r.status, r.exit_code, r.term_signal
  self.stopped = r.stopped
  if self.at_exit then self.at_exit(self) end
end

local function on_closed(self, cut)
  assert(self.exited and not self.closed, "closed before the exit, or twice")
  self.closed, self.cut = true, cut
end

local function on_output(self, stream, bytes, len)
  local text = ffi.string(bytes, len)
  if tonumber(stream) == 0 then self.out = self.out .. text else self.err = self.err .. text end
end

-- LuaJIT has few callbacks: all children of a loop share theirs, and `data` is the child's number.
local function callbacks_of(loop)
  if loop.children then return loop.children end
  local all = {}
  local function of(data) return all[tonumber(ffi.cast("intptr_t", data))] end
  loop.children = { all = all,
    on_output = loop:cb("void (*)(void *, segue__stream, const char *, size_t)",
      function(data, ...) on_output(of(data), ...) end),
    on_notice = loop:cb("void (*)(void *, const segue__notice *)",
      function(data, notice) on_notice(of(data), notice) end),
    on_refused = loop:cb("void (*)(void *, const char *)",
      function(data, why) table.insert(of(data).refused, ffi.string(why)) end),
    on_exit = loop:cb("void (*)(void *, const segue__child_exit *)",
      function(data, result) on_exit(of(data), result) end),
    on_closed = loop:cb("void (*)(void *, bool)",
      function(data, cut) on_closed(of(data), cut) end) }
  return loop.children
end

local function listen_to(self, loop, options)
  local shared = callbacks_of(loop)
  shared.all[#shared.all + 1] = self
  options.data = ffi.cast("void *", #shared.all)
  options.on_output, options.on_notice = shared.on_output, shared.on_notice
  options.on_refused, options.on_exit = shared.on_refused, shared.on_exit
  options.on_closed = shared.on_closed
end

--- Starts a child. The returned table collects out, err, notices and refused, and has exited,
--- code, signal, then closed and cut. o.at_exit(child) is called at the exit. On failure it returns
--- nil, the name of the code and the message.
function M.start(loop, argv, o)
  local self = { out = "", err = "", notices = {}, refused = {}, at_exit = o and o.at_exit }
  local options, keep = ffi.new "segue__child_options[1]", {}
  local out, e = ffi.new "segue__child *[1]", C.error()
  fill(options[0], argv, o or {}, keep)
  listen_to(self, loop, options[0])
  local rc = C.segue__os_default().start_child(nil, loop.ptr, options, out, e)
  if rc < 0 then
    assert(out[0] == nil)
    return nil, C.err(e).name, C.err(e).message
  end
  assert(not self.exited)
  self.handle, self.pid = out[0], out[0].pid
  return self
end

--- Runs it to its end.
function M.run(loop, argv, o)
  local child, code, message = M.start(loop, argv, o)
  if not child then return nil, code, message end
  loop:run_until(function() return child.closed end)
  return child
end


return M
