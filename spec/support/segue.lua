-- SPDX-License-Identifier: MIT
-- The daemon under test: build/spec/segue, started as an operator would, in a folder of its own.
--   local segue = require "spec.support.segue"
--   local d = segue.start { policy = "return {...}", files = { ["config.yaml"] = "a: 1" } }
--   d:http { method = "POST", path = "/-/reload" }.status
--   after_each(segue.cleanup)
local cjson = require "cjson"
local http = require "spec.support.http"
local process = require "spec.support.process"
local port = require "spec.support.port"
local tempdir = require "spec.support.tempdir"
local uv = require "luv"
local wait = require "spec.support.wait"

local M = {}
local Daemon = {}
Daemon.__index = Daemon
local started = {}

local build = os.getenv("SEGUE_SPEC_BUILD") or "build/spec"
if build:sub(1, 1) ~= "/" then build = uv.cwd() .. "/" .. build end
M.binary = build .. "/segue"
-- A command that daemons are started under (valgrind), for `make valgrind`.
local under = {}
M.under = under
for word in (os.getenv("SEGUE_SPEC_UNDER") or ""):gmatch("%S+") do under[#under + 1] = word end
M.tree = uv.cwd()

-- ILL, ABRT, BUS, FPE, SEGV
local CRASHES = { [4] = true, [6] = true, [7] = true, [8] = true, [11] = true }

--- Runs the command line to its end: M.cli({ "check", "-c", path }, { cwd, env, stdin }). Returns
--- the process: code, stdout, stderr.
function M.cli(args, options)
  options = options or {}
  local command = { M.binary, cwd = options.cwd, env = options.env, stdin = options.stdin,
    deadline_ms = options.deadline_ms, name = "segue " .. (args[1] or "") }
  for _, arg in ipairs(args) do command[#command + 1] = arg end
  local result = process.run(command)
  -- The exit code of a command that crashes is 0 here.
  assert(not CRASHES[result.signal], result:describe())
  return result
end

--- A folder with a policy and files, not started: for the command line. "@PORT@" in any text
--- becomes a free port, the same one throughout.
function M.folder(options)
  local self = setmetatable({ dir = options.dir or tempdir.new(), port = port.free(),
    options = options }, Daemon)
  for name, text in pairs(options.files or {}) do self.dir:write(name, self:fill(text)) end
  if options.policy then self.dir:write("reload.lua", self:fill(options.policy)) end
  return self
end

--- Starts the daemon and waits until it is ready. options: policy (text of reload.lua), files (name
--- -> text), args (more arguments), env, dir (a tempdir to use again),
--- binary (another program that takes run -c), exec (a command: segue exec runs it as its child),
--- under (a command that starts it: { "prlimit", ... }),
--- measured (the spec checks its memory: a sanitizer then keeps less of what was freed),
--- ready = false (do not wait).
function M.start(options)
  local self = M.folder(options)
  self:spawn()
  if options.ready ~= false then self:wait_ready() end
  return self
end

--- Text with the daemon's port in place of "@PORT@".
function Daemon:fill(text)
  return (text:gsub("@PORT@", tostring(self.port)))
end

-- An address sanitizer keeps 256 MB of freed memory back, to find who still uses it: that is more
-- than any limit worth a name.
local function measured_env(env)
  local given = env and env.ASAN_OPTIONS or os.getenv "ASAN_OPTIONS"
  local changed = { ASAN_OPTIONS = (given and given .. ":" or "")
    .. "quarantine_size_mb=4:thread_local_quarantine_size_kb=64" }
  for name, value in pairs(env or {}) do
    if name ~= "ASAN_OPTIONS" then changed[name] = value end
  end
  return changed
end

--- The limit for a daemon's growth of n KiB: a sanitizer needs three times as much for the same,
--- and keeps a little back.
function M.roomy_kib(n)
  return M.binary:find("san/", 1, true) and 3 * n + 16 * 1024 or n
end

--- Starts the process (again, after it ended) without waiting.
function Daemon:spawn()
  local exec = self.options.exec
  local command = { self.options.binary or M.binary, exec and "exec" or "run", "-c",
    self.dir:at("reload.lua"), cwd = self.dir.path,
    env = self.options.measured and measured_env(self.options.env) or self.options.env,
    name = "segue run" }
  for _, arg in ipairs(self.options.args or {}) do command[#command + 1] = arg end
  if exec then command[#command + 1] = "--" end
  for _, word in ipairs(exec or {}) do command[#command + 1] = word end
  for i, word in ipairs(self.options.under or under) do table.insert(command, i, word) end
  self.process = process.start(command)
  self.baseline = nil
  started[self] = true
  return self.process
end

--- Path of the control socket.
function Daemon:socket()
  return self.dir:at(".segue/control.sock")
end

--- Waits until the control socket takes connections, which is later than that its file exists.
function Daemon:wait_control()
  wait.until_true(function()
    local connection = uv.fs_stat(self:socket()) and http.connect({ socket = self:socket() }, true)
    if connection then connection:close() end
    return connection
  end, nil, function() return "the control socket: " .. self.process:describe() end)
end

--- Waits until /-/ready answers 200 on the control socket.
function Daemon:wait_ready(deadline_ms)
  wait.until_true(function()
    if not self.process:running() then
      error("the daemon ended before it was ready: " .. self.process:describe(), 0)
    end
    if not uv.fs_stat(self:socket()) then return false end
    local connection = http.connect({ socket = self:socket() }, true)
    if not connection then return false end
    connection:write(http.format { path = "/-/ready" })
    local ok, response = pcall(connection.read_response, connection)
    connection:close()
    return ok and response.status == 200
  end, deadline_ms, function() return "ready: " .. self.process:describe() end)
  self:wait_settled(deadline_ms)
  self.baseline = self.baseline or
    { files = self.process:open_files(), threads = self.process:threads() }
end

local function shown(self, fn, ...)
  local ok, result = pcall(fn, ...)
  if not ok then error(tostring(result) .. "\n" .. self.process:describe(), 3) end
  return result
end

--- One request to the HTTP listener on self.port: d:http { method, path, headers, body }, or
--- d:http "/-/ready". The daemon's log is part of the error if no answer comes.
function Daemon:http(request)
  if type(request) == "string" then request = { path = request } end
  request.port = request.port or self.port
  return shown(self, http.request, request)
end

--- The same on the control socket.
function Daemon:control(request)
  if type(request) == "string" then request = { path = request } end
  request.socket = self:socket()
  return shown(self, http.request, request)
end

--- GET path on the control socket, decoded from JSON; raises unless the status is 200.
function Daemon:json(path)
  local response = self:control(path)
  if response.status ~= 200 then
    error(("GET %s: %d %s"):format(path, response.status, response.body), 2)
  end
  return cjson.decode(response.body)
end

--- POST /-/reload on the control socket; returns status and the decoded answer.
function Daemon:reload(query)
  local response = self:control { method = "POST", path = "/-/reload" .. (query or ""),
    headers = { Accept = "application/json" }, deadline_ms = 30000 }
  local ok, answer = pcall(cjson.decode, response.body)
  return response.status, ok and answer or response.body
end

--- The merged configuration that is live.
function Daemon:config()
  return self:json("/api/v1/config")
end

--- Waits until predicate(config) holds for the live configuration.
function Daemon:wait_config(predicate, deadline_ms)
  local found = wait.until_true(function() return predicate(self:config()) end, deadline_ms,
    function() return "the configuration: " .. self.process:describe() end)
  self:wait_settled(deadline_ms)
  return found
end

local LOOK_MS = 100

--- Waits until predicate() holds, and returns its value. It is asked when the daemon has published
--- an event, and now and then for what is no event (an entry in the history); not all the time,
--- because each question is work for the daemon.
function Daemon:wait_event(predicate, deadline_ms, what)
  local stream, asked
  local value = wait.until_true(function()
    if not stream or stream.ended then
      if stream then stream:close() end
      stream = uv.fs_stat(self:socket()) and http.connect({ socket = self:socket() }, true)
      if stream then stream:write(http.format { path = "/api/v1/events" }) end
    end
    local now = uv.hrtime()
    if asked and now - asked < LOOK_MS * 1e6 and (not stream or #stream.input == 0) then
      return false
    end
    if stream then stream.input = "" end
    asked = now
    return predicate()
  end, deadline_ms, what)
  if stream then stream:close() end
  return value
end

--- A generation is live before its record is on disk and its outcome is reported.
function Daemon:wait_settled(deadline_ms)
  local request = http.format { path = "/api/v1/status" }
  wait.until_true(function()
    local connection = http.connect({ socket = self:socket() }, true)
    if not connection then return false end
    connection:write(request)
    local ok, response = pcall(connection.read_response, connection)
    connection:close()
    if not ok then return false end
    local phase = response.body:match '"running":{[^}]*"phase":"(%a+)"'
    local passes_by = phase == "confirm" and response.body:find('"unconfirmed":null', 1, true)
    return phase ~= "commit" and phase ~= "settled" and not passes_by
  end, deadline_ms, function() return "settled: " .. self.process:describe() end)
end

--- Runs the command line against this daemon: d:cli("reload", "--json").
function Daemon:cli(command, ...)
  return M.cli({ command, "-c", self.dir:at("reload.lua"), ... }, { cwd = self.dir.path })
end

function Daemon:signal(name) self.process:kill(name) end
function Daemon:log() return self.process.output end

--- Waits for a Lua pattern in the log.
function Daemon:wait_log(pattern, deadline_ms, from)
  return self.process:wait_output(pattern, deadline_ms, from)
end

local function fd_links(pid)
  local links, folder = {}, ("/proc/%d/fd/"):format(pid)
  local dir = uv.fs_scandir(folder)
  while dir do
    local name = uv.fs_scandir_next(dir)
    if not name then break end
    if tonumber(name) > 2 then links[#links + 1] = uv.fs_readlink(folder .. name) end
  end
  return links
end

-- Descriptors of sockets that are no connections: they listen (each worker thread has a duplicate),
-- or are for datagrams (those to a service manager).
local function listening(pid)
  local n = 0
  for _, name in ipairs { "tcp", "tcp6", "unix" } do
    local mine = {}
    for _, fd in ipairs(fd_links(pid)) do
      local inode = fd:match("^socket:%[(%d+)%]$")
      if inode then mine[inode] = (mine[inode] or 0) + 1 end
    end
    for line in io.lines(("/proc/%d/net/%s"):format(pid, name)) do
      local state, inode
      if name == "unix" then
        local kind
        state, kind, inode = line:match("^%x+: %x+ %x+ (%x+) (%x+) %x+ +(%d+)")
        if state == "00010000" or kind == "0002" then n = n + (mine[inode] or 0) end
      else
        state, inode = line:match("^ *%d+: %S+ %S+ (%x%x) %S+ %S+ %S+ +%d+ +%d+ (%d+)")
        if state == "0A" then n = n + (mine[inode] or 0) end
      end
    end
  end
  return n
end

--- How many connections it has, with clients and by itself.
function Daemon:connections()
  return (self.process:open_files().socket or 0) - listening(self.process.pid)
end

-- How many inotify instances it has at most: for the inputs, and for rendered files.
local function watches(self)
  local policy = self.dir:read "reload.lua" or self.options.policy or ""
  return policy:find('"files"', 1, true) and 2 or 1
end

-- The differences to the time when the daemon was ready, or nil: connections, pipes, children,
-- files, and threads beyond the ones that any daemon may start later (worker, reclamation).
local function left_open(self)
  local now = self.process:open_files()
  local sockets = self:connections()
  local own = #under > 0 and 1 or 0 -- valgrind keeps a copy of standard error
  if sockets > own then return sockets - own .. " sockets" end
  for what, count in pairs(now) do
    local limit = self.baseline.files[what] or 0
    if what == "anon_inode:inotify" or what == "inotify" then limit = watches(self) end
    -- libuv opens one for each loop when its first connection comes.
    if what == "/dev/null" then limit = limit + self.baseline.threads end
    if what ~= "socket" and count > limit then
      return ("%d of %s (%d when it was ready)"):format(count, what, limit)
    end
  end
  local children = self.process:children()
  if #children > 0 then return #children .. " children" end
  local threads = self.process:threads()
  if threads > self.baseline.threads + 2 then
    return ("%d threads (%d when it was ready)"):format(threads, self.baseline.threads)
  end
end

local function is_idle(self)
  local c = uv.fs_stat(self:socket()) and http.connect({ socket = self:socket() }, true)
  if not c then return false end
  c:write(http.format { path = "/api/v1/status" })
  local ok, response = pcall(c.read_response, c, 3000)
  c:close()
  if not ok or response.status ~= 200 then return false end
  local status = cjson.decode(response.body)
  return status.running == cjson.null
end

--- Raises unless an idle daemon holds what it held when it was ready, and no more. The spec's own
--- connections are closed for that.
function Daemon:check_open(deadline_ms)
  if not self.baseline or not self.process:running() then return end
  http.close_all()
  if not is_idle(self) then return end
  local left
  wait.until_true(function()
    left = self.process:running() and left_open(self)
    return not left
  end, deadline_ms or 5000, function()
    return "the end of " .. tostring(left) .. ": " .. self.process:describe()
  end)
end

--- Stops it with TERM and checks how it went: exit code 0, not by KILL, no sanitizer report, no
--- child left. Raises with the log otherwise.
function Daemon:stop(deadline_ms)
  if not started[self] then return end
  started[self] = nil
  local children = self.process:running() and self.process:children() or {}
  local had_ended = not self.process:running()
  local code, signal = self.process:stop(deadline_ms)
  local why
  if self.process.was_killed then why = "did not stop on SIGTERM"
  elseif had_ended then why = "had ended before it was stopped"
  elseif code ~= 0 or signal ~= 0 then why = "did not stop cleanly"
  elseif self.process.output:find("Sanitizer", 1, true) then why = "was reported by a sanitizer" end
  for _, pid in ipairs(children) do
    if uv.fs_stat("/proc/" .. pid) then why = why or ("left its child %d behind"):format(pid) end
  end
  if why then error("the daemon " .. why .. ": " .. self.process:describe(), 2) end
end

--- Kills it as a power cut would; it can be spawned again.
function Daemon:crash()
  self.process:kill("kill")
  self.process:wait_exit()
  started[self] = nil
end

--- Forgets it after an end that the spec wanted; returns code and signal.
function Daemon:wait_exit(deadline_ms)
  local code, signal = self.process:wait_exit(deadline_ms)
  started[self] = nil
  return code, signal
end

--- For after_each: stops every daemon, checks it, removes the folders. Errors are raised after all
--- is cleaned up.
function M.cleanup()
  local list, problem = {}, nil
  for self in pairs(started) do list[#list + 1] = self end
  for _, self in ipairs(list) do
    local ok, err = pcall(self.check_open, self)
    if not ok then problem = problem or "the daemon still held something: " .. err end
    ok, err = pcall(self.stop, self)
    if not ok then problem = problem or err end
  end
  process.stop_all()
  http.close_all()
  tempdir.remove_all()
  if problem then error(problem, 0) end
end

return M
