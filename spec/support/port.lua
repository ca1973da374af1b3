-- SPDX-License-Identifier: MIT
-- Loopback ports that no process uses, and the process that listens on a port.
local uv = require "luv"
local M = {}

--- A TCP port that is free on 127.0.0.1 now. Never the same one twice in a process. The kernel's
--- own choice (port 0) would be free again as soon as this returns, and another spec's process may
--- get the same one before the server under test binds it. So each process has a block of its own,
--- below the range from which the kernel takes the ports of clients.
local FIRST, BLOCKS, BLOCK = 10240, 1024, 21
local next_port = uv.os_getpid() * 337 % BLOCKS * BLOCK
function M.free()
  for _ = 1, BLOCKS * BLOCK do
    local port = FIRST + next_port
    next_port = (next_port + 1) % (BLOCKS * BLOCK)
    local tcp = uv.new_tcp()
    local free = tcp:bind("127.0.0.1", port) and tcp:getsockname()
    tcp:close()
    uv.run("nowait")
    if free then return port end
  end
  error("no port is free")
end

--- Takes a port until the returned handle is closed: M.taken() -> port, handle.
function M.taken()
  local tcp = uv.new_tcp()
  assert(tcp:bind("127.0.0.1", 0))
  assert(tcp:listen(16, function() end))
  return tcp:getsockname().port, tcp
end

return M
