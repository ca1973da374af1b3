-- SPDX-License-Identifier: MIT
-- A service manager as far as sd_notify(3) goes: a datagram socket that stores each message.
--   local manager = notify.listen(dir:at "notify")     -- or "@abstract"
--   manager:wait "^READY=1"
local ffi = require "ffi"
local wait = require "spec.support.wait"

ffi.cdef [[
struct spec_sockaddr_un { unsigned short family; char path[108]; };
int socket(int domain, int type, int protocol);
int bind(int fd, const struct spec_sockaddr_un *address, unsigned length);
int setsockopt(int fd, int level, int name, const void *value, unsigned length);
long recv(int fd, void *buffer, size_t length, int flags);
int close(int fd);
]]
local AF_UNIX, SOCK_DGRAM, SOCK_NONBLOCK, SOCK_CLOEXEC = 1, 2, 2048, 524288
local SOL_SOCKET, SO_PASSCRED = 1, 16

local M = {}
local Manager = {}
Manager.__index = Manager
local open = {}

--- Listens at a path, or at "@name" in the abstract name space.
function M.listen(address)
  local self = setmetatable({ address = address, messages = {} }, Manager)
  local un = ffi.new("struct spec_sockaddr_un", AF_UNIX)
  ffi.copy(un.path, address)
  if address:sub(1, 1) == "@" then un.path[0] = 0 end
  self.fd = ffi.C.socket(AF_UNIX, SOCK_DGRAM + SOCK_NONBLOCK + SOCK_CLOEXEC, 0)
  local extra = address:sub(1, 1) == "@" and 0 or 1
  assert(ffi.C.bind(self.fd, un, 2 + #address + extra) == 0, "cannot bind " .. address)
  ffi.C.setsockopt(self.fd, SOL_SOCKET, SO_PASSCRED, ffi.new("int[1]", 1), 4)
  open[self] = true
  return self
end

--- Takes what has come; returns all messages, oldest first.
function Manager:read()
  local buffer = ffi.new("char[4096]")
  while true do
    local n = ffi.C.recv(self.fd, buffer, 4096, 0)
    if n < 0 then return self.messages end
    self.messages[#self.messages + 1] = ffi.string(buffer, n)
  end
end

--- Waits for a message that matches a Lua pattern, at or after position `from` (1); returns its
--- position and text.
function Manager:wait(pattern, from, describe)
  local at
  wait.until_true(function()
    for i = from or 1, #self:read() do
      if self.messages[i]:find(pattern) then at = i; return true end
    end
  end, nil, function()
    return ("a message like %q; there were:\n%s\n%s"):format(pattern,
      table.concat(self.messages, "\n--\n"), describe and describe() or "")
  end)
  return at, self.messages[at]
end

--- How many messages match a pattern.
function Manager:count(pattern)
  local n = 0
  for _, message in ipairs(self:read()) do
    if message:find(pattern) then n = n + 1 end
  end
  return n
end

--- For after_each.
function M.close_all()
  for self in pairs(open) do ffi.C.close(self.fd) end
  open = {}
end

return M
