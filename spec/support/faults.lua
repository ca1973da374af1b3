-- SPDX-License-Identifier: MIT
-- Failures of the system around a daemon: memory that runs out at a chosen moment, mounts, other
-- users, few descriptors.
local assert = require "luassert"
local ffi = require "ffi"
local http = require "spec.support.http"
local process = require "spec.support.process"
local uv = require "luv"
local wait = require "spec.support.wait"

ffi.cdef [[
typedef union { int number; void *pointer; } faults_sigval;
int sigqueue(int pid, int signum, faults_sigval value);
int unshare(int flags);
unsigned getuid(void);
unsigned getgid(void);
int socket(int domain, int type, int protocol);
int ioctl(int fd, unsigned long request, ...);
int close(int fd);
typedef struct { char name[16]; short flags; char rest[22]; } faults_ifreq;
]]

local M = {}
local SIGRTMAX = 64

--- The environment that lets a daemon take M.memory.
M.memory_env = { SEGUE_MEM_FAIL_AT = "0" }

-- See core/os/fault.h for the numbers.
local function choose_memory(d, number)
  local value = ffi.new("faults_sigval")
  value.number = number
  assert(ffi.C.sigqueue(d.process.pid, SIGRTMAX, value) == 0)
end

--- Makes the n-th allocation of a daemon from now on fail (0: none), and the length - 1 after it.
--- The daemon was started with M.memory_env.
function M.memory(d, n, length)
  choose_memory(d, n + 2 ^ 20 * ((length or 1) - 1))
end

--- From now on one allocation in one_in (at most 4095) begins a burst of 1 to 8 that fail; the same
--- seed (at most 2^19) gives the same bursts.
function M.random_memory(d, seed, one_in)
  choose_memory(d, -(one_in + 2 ^ 12 * seed))
end

--- How often an allocation was made to fail so far.
function M.memory_failures(d)
  return select(2, d:log():gsub("an allocation was made to fail\n", ""))
end

--- Runs act(n) while the n-th allocation of a daemon fails, for growing n, until n is beyond what
--- act needs: three times in a row nothing failed. At least `least` of them must have failed. Early
--- ones each, later ones in growing steps.
function M.each_allocation(d, least, act)
  local n, clean, failed = 1, 0, 0
  while clean < 3 and n < 20000 do
    local before = M.memory_failures(d)
    M.memory(d, n)
    act(n)
    M.memory(d, 0)
    wait.pump()
    if M.memory_failures(d) > before then
      failed, clean = failed + 1, 0
    else
      clean = clean + 1
    end
    assert.is_true(d.process:running(), d.process:describe())
    n = n + 1 + math.floor(n / 25)
  end
  assert.is_true(failed >= least, failed .. " allocations failed")
  assert.is_true(clean == 3, "there is no end of allocations")
end

--- A request that may be refused, cut off or not accepted at all, but is over soon.
function M.attempt(d, request)
  local c = http.connect({ port = d.port }, true)
  if not c then return nil end
  request.port = d.port
  c:write(http.format(request))
  local ok, response = pcall(c.read_response, c, 10000)
  c:close()
  return ok and response or nil
end

local function limit(d, n)
  local p = process.run { "prlimit", "--pid", tostring(d.process.pid), "--nofile=" .. n .. ":" }
  assert(p.code == 0, p.output)
end

-- The numbers that are taken, and the lowest that is free.
local function taken(d)
  local numbers, list = {}, {}
  local dir = uv.fs_scandir("/proc/" .. d.process.pid .. "/fd")
  for name in function() return uv.fs_scandir_next(dir) end do
    numbers[tonumber(name)] = true
    list[#list + 1] = name
  end
  table.sort(list)
  local free = 0
  while numbers[free] do free = free + 1 end
  return table.concat(list, " "), free
end

--- Leaves the daemon no further descriptor, or `more` at most. A descriptor that is open for a
--- moment (a file that is being read, the last good generation on its way to the disk) returns its
--- number: this function waits for that.
function M.exhaust(d, more)
  local last, same, free = "", 0, nil
  wait.until_true(function()
    local now
    now, free = taken(d)
    same = now == last and same + 1 or 0
    last = now
    return same == 20
  end, nil, "a daemon that is at rest")
  limit(d, free + (more or 0))
end

--- The usual limit again.
function M.relieve(d) limit(d, 1024) end

local CLONE_NEWNS, CLONE_NEWUSER, CLONE_NEWNET = 0x20000, 0x10000000, 0x40000000

--- Gives this process, and all that it starts from now on, a mount namespace of its own: no other
--- process sees its mounts, which are gone when it ends. Needs root or the right to make a user
--- namespace. Called once, before any thread is started.
function M.own_mounts(more)
  local uid, gid = ffi.C.getuid(), ffi.C.getgid()
  local flags = CLONE_NEWNS + (more or 0)
  assert(ffi.C.unshare(uid == 0 and flags or flags + CLONE_NEWUSER) == 0,
    "this process may not have mounts of its own")
  if uid ~= 0 then
    for name, text in pairs { setgroups = "deny", uid_map = "0 " .. uid .. " 1",
      gid_map = "0 " .. gid .. " 1" } do
      local file = assert(io.open("/proc/self/" .. name, "w"))
      assert(file:write(text))
      assert(file:close())
    end
  end
  M.run("mount", "--make-rprivate", "/")
end

--- The same with a network of its own: a loopback interface where every port is free, and nothing
--- else.
function M.own_network()
  M.own_mounts(CLONE_NEWNET)
  local AF_INET, SOCK_DGRAM, SIOCSIFFLAGS, IFF_UP = 2, 2, 0x8914, 1
  local request = ffi.new("faults_ifreq")
  request.name, request.flags = "lo", IFF_UP
  local fd = ffi.C.socket(AF_INET, SOCK_DGRAM, 0)
  assert(ffi.C.ioctl(fd, SIOCSIFFLAGS, request) == 0, "the loopback interface does not come up")
  ffi.C.close(fd)
end

--- Runs a program to its end; raises with its output unless it succeeds.
function M.run(...)
  local p = process.run { ... }
  if p.code ~= 0 then error(p:describe(), 2) end
  return p.stdout
end

return M
