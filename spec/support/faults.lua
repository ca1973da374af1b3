-- SPDX-License-Identifier: MIT
-- Ways to make the world fail around a daemon: memory that runs out at a chosen moment, mounts,
-- other users, few descriptors.
local ffi = require "ffi"
local process = require "spec.support.process"

ffi.cdef [[
typedef union { int number; void *pointer; } faults_sigval;
int sigqueue(int pid, int signum, faults_sigval value);
]]

local M = {}
local SIGRTMAX = 64

--- The environment that lets a daemon take M.memory.
M.memory_env = { SEGUE_MEM_FAIL_AT = "0" }

--- Makes the n-th allocation of a daemon from now on fail (0: none). It was started with
--- M.memory_env.
function M.memory(d, n)
  local value = ffi.new("faults_sigval")
  value.number = n
  assert(ffi.C.sigqueue(d.process.pid, SIGRTMAX, value) == 0)
end

--- How often an allocation was made to fail so far.
function M.memory_failures(d)
  return select(2, d:log():gsub("an allocation was made to fail\n", ""))
end

--- Runs a shell script as root in a mount namespace of its own, with its arguments: returns the
--- process. What is mounted in it is gone when it ends.
function M.in_namespace(script, ...)
  return process.start { "unshare", "-m", "--propagation", "private", "sh", "-ec", script, "sh",
    ... }
end

return M
