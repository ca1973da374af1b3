-- SPDX-License-Identifier: MIT
-- Loopback ports that nobody has, and who listens on one.
local uv = require "luv"
local M = {}

--- A TCP port that is free on 127.0.0.1 now. Never the same one twice in a process.
local given = {}
function M.free()
  while true do
    local tcp = uv.new_tcp()
    assert(tcp:bind("127.0.0.1", 0))
    local port = tcp:getsockname().port
    tcp:close()
    uv.run("nowait")
    if not given[port] then
      given[port] = true
      return port
    end
  end
end

--- Takes a port until the returned handle is closed: M.taken() -> port, handle.
function M.taken()
  local tcp = uv.new_tcp()
  assert(tcp:bind("127.0.0.1", 0))
  assert(tcp:listen(16, function() end))
  return tcp:getsockname().port, tcp
end

return M
