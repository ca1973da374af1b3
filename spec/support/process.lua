-- SPDX-License-Identifier: MIT
-- Programs that a spec starts: output captured, waits with a deadline, TERM then KILL, nothing left
-- behind. A process takes the environment of the spec, so that run.lua finds what escapes.
local uv = require "luv"
local wait = require "spec.support.wait"

local M = {}
-- A program may end before it has read its input; its exit code reports the reason.
local broken_pipe = uv.new_signal()
broken_pipe:start("sigpipe", function() end)
broken_pipe:unref()

local Process = {}
local alive = {}

-- The fields stdout, stderr and output (both) are kept as chunks and joined when a spec looks at
-- them: a daemon may log 100,000 lines, and to join them one by one takes longer than to log them.
local OUTPUTS = { stdout = true, stderr = true, output = true }

function Process:__index(key)
  if not OUTPUTS[key] then return Process[key] end
  local chunks = rawget(self, "chunks")[key]
  if #chunks > 1 then
    chunks = { table.concat(chunks) }
    self.chunks[key] = chunks
  end
  return chunks[1] or ""
end

local function environment(changes)
  local merged = uv.os_environ()
  for name, value in pairs(changes or {}) do merged[name] = value or nil end
  local list = {}
  for name, value in pairs(merged) do
    if not (changes and changes[name] == false) then list[#list + 1] = name .. "=" .. value end
  end
  return list
end

local function capture(self, pipe, name)
  self.open_pipes = self.open_pipes + 1
  pipe:read_start(function(_, data)
    if data then
      table.insert(self.chunks[name], data)
      table.insert(self.chunks.output, data)
    else
      pipe:close()
      self.open_pipes = self.open_pipes - 1
    end
  end)
end

--- Starts a program: M.start { "program", "arg", ..., env = { NAME = value, GONE = false },
--- cwd = dir, stdin = text, name = "for messages" }. Raises if it cannot be started.
function M.start(options)
  local args = {}
  for i = 2, #options do args[#args + 1] = tostring(options[i]) end
  local self = setmetatable({ chunks = { stdout = {}, stderr = {}, output = {} },
    open_pipes = 0, name = options.name or options[1] }, Process)
  local pipes = { uv.new_pipe(false), uv.new_pipe(false), uv.new_pipe(false) }
  self.handle, self.pid = uv.spawn(options[1], { args = args, stdio = pipes, cwd = options.cwd,
    env = environment(options.env) }, function(code, signal)
    self.code, self.signal = code, signal
    alive[self] = nil
    self.handle:close()
  end)
  if not self.handle then
    for _, pipe in ipairs(pipes) do pipe:close() end
    error(("%s cannot be started: %s"):format(options[1], self.pid), 2)
  end
  alive[self] = true
  capture(self, pipes[2], "stdout")
  capture(self, pipes[3], "stderr")
  if options.stdin then pipes[1]:write(options.stdin) end
  pipes[1]:shutdown(function() pipes[1]:close() end)
  return self
end

--- Runs a program to its end: a table with code, signal, stdout, stderr, output.
function M.run(options)
  local self = M.start(options)
  self:wait_exit(options.deadline_ms or 30000)
  return self
end

--- Runs a program that must succeed; returns its standard output.
function M.output(options)
  local self = M.run(options)
  assert(self.code == 0, self:describe())
  return self.stdout
end

--- The text for a wait that fails.
function Process:describe()
  local state = self.code and ("ended with code %d, signal %d"):format(self.code, self.signal)
    or "is running"
  return ("%s (pid %d) %s; its output:\n%s"):format(self.name, self.pid, state, self.output)
end

--- True while it runs.
function Process:running()
  return self.code == nil
end

--- Waits until its output (stdout and stderr) contains a Lua pattern after position `from` (1);
--- returns the position behind the match and what the pattern captured.
function Process:wait_output(pattern, deadline_ms, from)
  local found
  wait.until_true(function()
    found = { self.output:find(pattern, from or 1) }
    return found[1] or (self.code and self.open_pipes == 0)
  end, deadline_ms, function() return ("output %q of %s"):format(pattern, self:describe()) end)
  if not found[1] then
    error(("%q never came: %s"):format(pattern, self:describe()), 2)
  end
  return found[2] + 1, unpack(found, 3)
end

--- Waits for the end; returns code and signal. Output is complete then, unless a process that it
--- started holds the pipes.
function Process:wait_exit(deadline_ms)
  wait.until_true(function() return self.code end, deadline_ms,
    function() return "the end of " .. self:describe() end)
  local deadline = wait.deadline(1000)
  while self.open_pipes > 0 and uv.hrtime() < deadline do uv.run("nowait") end
  return self.code, self.signal
end

--- Sends a signal: "hup", "term", 9.
function Process:kill(signal)
  if self.code then error(self.name .. " has ended already: " .. self:describe(), 2) end
  assert(uv.kill(self.pid, type(signal) == "string" and "sig" .. signal or signal))
end

--- TERM, after deadline_ms (5000) KILL. Returns code and signal; harmless on one that has ended.
function Process:stop(deadline_ms)
  if not self.code then
    self:kill("term")
    if not pcall(self.wait_exit, self, deadline_ms or 5000) then
      self.was_killed = true
      self:kill("kill")
      self:wait_exit(5000)
    end
  end
  return self.code, self.signal
end

local function count(path)
  local n = 0
  local dir = uv.fs_scandir(path)
  while dir and uv.fs_scandir_next(dir) do n = n + 1 end
  return n
end

--- How many file descriptors it has open. The last good generation on its way to the disk does not
--- count: that file closes by itself.
function Process:fds()
  local n = 0
  for _, times in pairs(self:open_files(-1)) do n = n + times end
  return n
end

--- How many threads it has.
function Process:threads() return count(("/proc/%d/task"):format(self.pid)) end

--- Its resident memory in KiB.
function Process:rss_kib()
  local file = assert(io.open(("/proc/%d/status"):format(self.pid)))
  local text = file:read("*a")
  file:close()
  return tonumber(text:match("\nVmRSS:%s*(%d+)"))
end

--- Its file descriptors past the standard ones, by kind: "socket", "pipe", a path,
--- "anon_inode:[eventfd]" ... -> how many there are.
function Process:open_files(above)
  local kinds = {}
  local folder = ("/proc/%d/fd"):format(self.pid)
  local dir = uv.fs_scandir(folder)
  while dir do
    local name = uv.fs_scandir_next(dir)
    if not name then break end
    local what = tonumber(name) > (above or 2) and uv.fs_readlink(folder .. "/" .. name)
    if what and not what:find("last-good.", 1, true) then
      what = what:gsub("^(%l+):%[%d+%]$", "%1"):gsub("^/memfd:.*%.so %(deleted%)$", "plugin")
      kinds[what] = (kinds[what] or 0) + 1
    end
  end
  return kinds
end

--- Process ids of its children.
function Process:children()
  local list = {}
  local file = io.open(("/proc/%d/task/%d/children"):format(self.pid, self.pid))
  for pid in (file and file:read("*a") or ""):gmatch("%d+") do list[#list + 1] = tonumber(pid) end
  if file then file:close() end
  return list
end

--- The state of a process as the kernel names it ("R", "S", "T": stopped, "Z"); nil if there is
--- none.
function M.state(pid)
  local file = io.open("/proc/" .. pid .. "/stat")
  if not file then return nil end
  local state = file:read("*a"):match("%) (%a)")
  file:close()
  return state
end

--- Returns whether a process exists and is no zombie.
function M.is_alive(pid)
  local state = M.state(pid)
  return state ~= nil and state ~= "Z"
end

--- Stops everything that was started and still runs: for after_each. Returns how many there were.
function M.stop_all()
  local list = {}
  for self in pairs(alive) do list[#list + 1] = self end
  for _, self in ipairs(list) do self:stop() end
  return #list
end

return M
