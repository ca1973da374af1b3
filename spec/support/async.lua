-- SPDX-License-Identifier: MIT
-- Policies that wait for real things: a real loop, real files, real children and sockets.
--   local a = async.open(); local answer = a:run [[ eq(0, segue.run { "true" }.code) ]]; a:close()
-- close fails if a process, a file descriptor, a task or memory was left behind. Servers of the
-- spec run on luv's loop in the same process: a:pump turns both.
local C = require "spec.support.c"
local tempdir = require "spec.support.tempdir"
local uv = require "luv"
local wait = require "spec.support.wait"
local ffi = C.ffi

-- luv's loop opens a file of its own with its first stream, and keeps it.
uv.new_tcp():close()
uv.run("nowait")

local M = { stress = false }
local lua_dir = os.getenv "SEGUE_LUA_DIR" or "lua" -- that of a mutant
local Async = {}
Async.__index = Async

local prelude = [[local segue = require "segue"
local function eq(want, got)
  if want ~= got then
    error(("wanted %s, got %s"):format(tostring(want), tostring(got)), 2)
  end
end
local function like(pattern, text)
  if not tostring(text):find(pattern) then
    error(("wanted a text like %q, got %q"):format(pattern, tostring(text)), 2)
  end
end
local function is_true(value, why) if not value then error(tostring(why), 2) end return value end
local _ = eq and like and is_true
]]

-- The open files, by number.
local function open_files()
  local list, dir = {}, uv.fs_scandir("/proc/self/fd")
  for name in function() return uv.fs_scandir_next(dir) end do
    list[name] = uv.fs_readlink("/proc/self/fd/" .. name)
  end
  return list
end

local function new_files(before)
  local new = {}
  for name, leads_to in pairs(open_files()) do
    if not before[name] then new[#new + 1] = name .. " -> " .. leads_to end
  end
  return table.concat(new, ", ")
end

local function children()
  local list = {}
  local file = assert(io.open(("/proc/self/task/%d/children"):format(uv.os_getpid())))
  for pid in file:read("*a"):gmatch("%d+") do list[#list + 1] = tonumber(pid) end
  file:close()
  return list
end
M.children = children

--- options: memory (bytes), slice_ms, signal (false: by count hook)
function M.open(options)
  options = options or {}
  collectgarbage()
  local self = setmetatable({ calls = {}, policies = {}, dir = tempdir.new(), servers = {} }, Async)
  self.files, self.live = open_files(), C.segue__mem_live()
  self.base = C.loop_new()
  local o = ffi.new("bind_options")
  o.lua_dir, o.uv = lua_dir, self.base.uv
  o.use_signal, o.stress = options.signal ~= false, M.stress
  o.memory_bytes, o.slice_cpu_ms = options.memory or 0, options.slice_ms or 0
  local out = ffi.new("bind_harness *[1]")
  C.check(C.bind_open(out, o))
  self.c = out[0]
  return self
end

--- Turns both loops until predicate() holds.
function Async:pump(predicate, deadline_ms, what)
  local deadline = wait.deadline(deadline_ms)
  while true do
    C.uv_run(self.base.uv, 2)
    uv.run("nowait")
    local value = predicate()
    if value then return value end
    if uv.hrtime() > deadline then
      error(("nothing came: %s\n%s"):format(what or "the condition", self:logged()), 2)
    end
    uv.sleep(1)
  end
end

--- Turns both loops a number of times: for what must not happen.
function Async:turn(n)
  for _ = 1, n or 50 do
    C.uv_run(self.base.uv, 2)
    uv.run("nowait")
  end
end

--- A server on luv's loop: handler(client, bytes) for each read; returns its port. With a path, a
--- unix socket. server.count: connections accepted; server.open: those that are open.
function Async:serve(handler, path)
  local server = { count = 0, open = 0, clients = {} }
  server.handle = path and uv.new_pipe(false) or uv.new_tcp()
  if path then assert(server.handle:bind(path)) else assert(server.handle:bind("127.0.0.1", 0)) end
  assert(server.handle:listen(2048, function()
    local client = path and uv.new_pipe(false) or uv.new_tcp()
    server.handle:accept(client)
    server.count, server.open = server.count + 1, server.open + 1
    server.clients[client] = true
    local function close()
      if client:is_closing() then return end
      server.open = server.open - 1
      server.clients[client] = nil
      client:close()
    end
    client:read_start(function(_, data)
      if data then handler(client, data, close) else close() end
    end)
  end))
  server.port = not path and server.handle:getsockname().port
  self.servers[#self.servers + 1] = server
  return server
end

--- Loads a policy; body is that of its check.
function Async:policy(body, more)
  local path = self.dir:write("reload.lua", prelude .. ([[
return { sources = { segue.value {} }, triggers = {}, timeouts = { check = "60s" }, %s
check = function(next, prev)
%s
return true end }]]):format(more or "", body))
  local errors, out = ffi.new("segue__errors[1]"), ffi.new("segue__policy *[1]")
  local rc = C.bind_load(self.c, path, out, errors)
  local message = rc ~= 0 and C.text(errors[0].items)
  C.segue__errors_deinit(errors)
  if rc ~= 0 then return nil, message end
  self.policies[#self.policies + 1] = out[0]
  return out[0]
end

--- Calls its check; returns the call.
function Async:start(policy, deadline_ms)
  if not self.snapshot then
    local out, e = ffi.new("segue_snapshot *[1]"), C.error()
    C.check(C.bind_snapshot("c", "{}", 1, out, e), e)
    self.snapshot = out[0]
  end
  local call = C.bind_check(self.c, policy, self.snapshot, nil, deadline_ms or 60000)
  self.calls[#self.calls + 1] = call
  return call
end

function Async.answer(_, call)
  assert(call.over, "the hook has not answered")
  local e = C.err(call.error)
  e.ok, e.status = call.status == 0, call.status ~= 0 and C.name(call.status) or "ok"
  return e
end

--- Runs a body to its end and returns the answer.
function Async:attempt(body, deadline_ms)
  local call = self:start(assert(self:policy(body)), deadline_ms)
  self:pump(function() return call.over end, 60000, "the end of the hook")
  return self:answer(call)
end

--- The same; raises unless all is well.
function Async:run(body)
  local answer = self:attempt(body)
  if not answer.ok then error(answer.text .. "\n" .. self:logged(), 2) end
end

function Async:logged() return C.buf(self.c.logged) end

function Async:stats()
  local stats = ffi.new("segue__lua_stats")
  C.segue__lua_loader_stats(self.c.loader, stats)
  return { states = tonumber(stats.states), tasks = tonumber(stats.tasks),
    bytes = tonumber(stats.bytes) }
end

--- Drops every policy, with its state.
function Async:unload()
  for _, policy in ipairs(self.policies) do C.segue__policy_unref(policy) end
  self.policies = {}
end

local function alive(pid)
  local stat = uv.fs_stat("/proc/" .. pid)
  return stat ~= nil
end
M.alive = alive

function Async:close()
  self:unload()
  local stats = self:stats()
  if self.snapshot then C.segue_snapshot_unref(self.snapshot) end
  local over = ffi.new("bool[1]")
  C.bind_close_uv(self.c, over)
  local deadline = wait.deadline()
  while not over[0] and uv.hrtime() < deadline do
    C.uv_run(self.base.uv, 2)
    uv.run("nowait")
    uv.sleep(1)
  end
  assert(over[0], "the loader or the loop did not close")
  for _, call in ipairs(self.calls) do
    assert(call.over, "a hook was never answered")
    C.bind_call_free(call)
  end
  C.loop_close(self.base)
  for _, server in ipairs(self.servers) do
    for client in pairs(server.clients) do client:close() end
    server.handle:close()
  end
  uv.run("nowait")
  tempdir.remove_all()
  assert(stats.states == 0 and stats.tasks == 0, "a state or a task was left behind")
  assert(#children() == 0, "a child was left behind")
  -- A thread that looks up a name cannot be interrupted: it frees its part when it returns.
  local function left() return tonumber(C.segue__mem_live() - self.live) end
  deadline = wait.deadline(2000)
  while left() ~= 0 and uv.hrtime() < deadline do uv.sleep(1) end
  assert(left() == 0, ("%d allocations were left behind"):format(left()))
  local files = new_files(self.files)
  assert(files == "", "file descriptors were left behind: " .. files)
end

return M
