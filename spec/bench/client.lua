-- SPDX-License-Identifier: MIT
-- A blocking HTTP client on plain sockets, so that what is measured is the server: about 20 µs for
-- each request of its own. One connection, kept alive.
local ffi = require "ffi"
local bit = require "bit"

ffi.cdef [[
int socket(int domain, int type, int protocol);
int connect(int fd, const void *address, unsigned length);
int setsockopt(int fd, int level, int name, const void *value, unsigned length);
long send(int fd, const void *data, size_t length, int flags);
long recv(int fd, void *data, size_t length, int flags);
int close(int fd);
typedef struct { uint16_t family, port; uint32_t address; char zero[8]; } bench_sockaddr_in;
typedef struct { long seconds, microseconds; } bench_timeval;
typedef struct { long seconds, nanoseconds; } bench_timespec;
int nanosleep(const bench_timespec *time, bench_timespec *rest);
int clock_gettime(int clock, bench_timespec *now);
]]

local M = {}
local Client = {}
Client.__index = Client
local SIZE = 262144
local buffer = ffi.new("char[?]", SIZE)
local timespec = ffi.new("bench_timespec")
local MSG_NOSIGNAL, EINTR = 0x4000, 4

--- Seconds on the monotonic clock.
function M.now()
  ffi.C.clock_gettime(1, timespec)
  return tonumber(timespec.seconds) + tonumber(timespec.nanoseconds) * 1e-9
end

--- Gives the processor away for some seconds.
function M.pause(seconds)
  timespec.seconds, timespec.nanoseconds = 0, seconds * 1e9
  ffi.C.nanosleep(timespec, nil)
end

local function open(port)
  local fd = ffi.C.socket(2, 0x80001, 0) -- close on exec: not for the servers
  if fd < 0 then return nil end
  local address = ffi.new("bench_sockaddr_in")
  address.family = 2
  address.port = bit.bor(bit.lshift(bit.band(port, 255), 8), bit.rshift(port, 8))
  address.address = 0x0100007f
  local one = ffi.new("int[1]", 1)
  local limit = ffi.new("bench_timeval", 30, 0)
  ffi.C.setsockopt(fd, 6, 1, one, 4)    -- TCP_NODELAY
  ffi.C.setsockopt(fd, 1, 20, limit, 16) -- SO_RCVTIMEO
  if ffi.C.connect(fd, address, 16) ~= 0 then
    ffi.C.close(fd)
    return nil
  end
  return fd
end

--- A client for 127.0.0.1:port; connects at the first request.
function M.new(port)
  return setmetatable({ port = port }, Client)
end

function Client:close()
  if self.fd then ffi.C.close(self.fd) end
  self.fd = nil
end

-- A child that ends interrupts a call.
local function again(call, ...)
  repeat
    local n = tonumber(call(...))
    if n >= 0 or ffi.errno() ~= EINTR then return n end
  until false
end

-- Length of the body that a head announces: a number, "chunked", or "end" (until the close).
local function framing(head)
  if head:lower():find("\r\ntransfer%-encoding: *chunked") then return "chunked" end
  return tonumber(head:lower():match("\r\ncontent%-length: *(%d+)")) or "end"
end

local function complete(text)
  local _, last = text:find("\r\n\r\n", 1, true)
  if not last then return false end
  local length = framing(text:sub(1, last))
  if length == "end" then return false end
  if length == "chunked" then return text:sub(-5) == "0\r\n\r\n" end
  return #text >= last + length
end

--- Sends one request: true, or nil if the server is not there.
function Client:send(method, path, body, headers)
  self.fd = self.fd or open(self.port)
  if not self.fd then return nil end
  local text = ("%s %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n%s%s\r\n%s"):format(method, path,
    self.port, headers or "", body and ("Content-Length: %d\r\n"):format(#body) or "", body or "")
  local sent = 0
  local bytes = ffi.cast("const char *", text)
  while sent < #text do
    local n = again(ffi.C.send, self.fd, bytes + sent, #text - sent, MSG_NOSIGNAL)
    if n <= 0 then self:close() return nil end
    sent = sent + n
  end
  return true
end

--- Reads until `is_complete` returns true for all that came since: that text, or nil if the server
--- closed before the first byte.
function Client:read(is_complete)
  local answer = ""
  repeat
    local n = again(ffi.C.recv, self.fd, buffer, SIZE, 0)
    if n <= 0 then
      self:close()
      if n < 0 or answer == "" then return nil end
      break
    end
    answer = answer .. ffi.string(buffer, n)
  until is_complete(answer)
  return answer
end

--- Reads the answer to a request that was sent: status and body, or nil.
function Client:receive()
  local answer = self:read(complete)
  if not answer then return nil end
  local status = tonumber(answer:match("^HTTP/1%.[01] (%d%d%d)"))
  local head, rest = answer:match("^(.-)\r\n\r\n(.*)$")
  if head and head:lower():find("\r\nconnection: *close") then self:close() end
  return status, rest
end

--- One request: status, body, or nil if the server is not there. Chunks are left in the body.
function Client:request(method, path, body, headers)
  if self:send(method, path, body, headers) then return self:receive() end
end

--- One request on a connection of its own.
function M.once(port, method, path, body, headers)
  local client = M.new(port)
  local status, text = client:request(method, path, body, headers)
  client:close()
  return status, text
end

return M
