-- SPDX-License-Identifier: MIT
-- Sockets as descriptors, made by system calls, as another process would pass them on. close_all
-- closes those that are still open.
--   local raw = require "spec.support.raw_socket"
--   local fd = raw.tcp("127.0.0.1", 0)
local ffi = require "ffi"
local uv = require "luv"

pcall(ffi.cdef, [[
struct spec_raw_address { unsigned short family; char bytes[126]; };
int dup(int fd);
int pipe(int fds[2]);
int open(const char *path, int flags, ...);
int listen(int fd, int backlog);
int connect(int fd, const void *address, unsigned length);
int getsockopt(int fd, int level, int name, void *value, unsigned *length);
int fcntl(int fd, int command, ...);
long write(int fd, const void *bytes, size_t size);
]])
pcall(ffi.cdef, "int socket(int domain, int type, int protocol);")
pcall(ffi.cdef, "int close(int fd);")
pcall(ffi.cdef, "int setsockopt(int fd, int level, int name, const void *value, unsigned length);")
ffi.cdef "int spec_raw_bind(int fd, const void *address, unsigned length) __asm__(\"bind\");"

local C = ffi.C
local M = {}
local AF_UNIX, AF_INET, AF_INET6, AF_NETLINK = 1, 2, 10, 16
local STREAM, DGRAM, RAW, SEQPACKET = 1, 2, 3, 5
local SOL_SOCKET, SO_REUSEADDR, SO_REUSEPORT, IPPROTO_IPV6, IPV6_V6ONLY = 1, 2, 15, 41, 26
local open = {}

local function keep(fd)
  assert(fd >= 0, "no descriptor")
  open[fd] = true
  return fd
end

local function set(fd, level, name, value)
  assert(C.setsockopt(fd, level, name, ffi.new("int[1]", value), 4) == 0)
end

-- struct sockaddr_in or sockaddr_in6; luv knows how to write the host.
local function inet(host, port)
  local v6 = host:find(":", 1, true) ~= nil
  local address = ffi.new "struct spec_raw_address"
  address.family = v6 and AF_INET6 or AF_INET
  address.bytes[0], address.bytes[1] = math.floor(port / 256), port % 256
  if v6 then
    local full = host == "::" and ("0000"):rep(8)
      or host == "::1" and ("0000"):rep(7) .. "0001"
      or ("0000"):rep(5) .. "ffff"
        .. ("%02x"):rep(4):format(host:match "(%d+)%.(%d+)%.(%d+)%.(%d+)")
    for i = 0, 15 do address.bytes[6 + i] = tonumber(full:sub(2 * i + 1, 2 * i + 2), 16) end
    return address, 28, AF_INET6
  end
  local i = 2
  for byte in host:gmatch "%d+" do
    address.bytes[i], i = tonumber(byte), i + 1
  end
  return address, 16, AF_INET
end

local function bound(kind, host, port, options)
  local address, size, family = inet(host, port)
  local fd = keep(C.socket(family, kind, 0))
  options = options or {}
  if family == AF_INET6 then set(fd, IPPROTO_IPV6, IPV6_V6ONLY, options.v6only and 1 or 0) end
  if options.reuse_port then set(fd, SOL_SOCKET, SO_REUSEPORT, 1) end
  if kind == STREAM then set(fd, SOL_SOCKET, SO_REUSEADDR, 1) end
  assert(C.spec_raw_bind(fd, address, size) == 0, "cannot bind " .. host .. ":" .. port)
  return fd
end

--- A listening TCP socket. options: v6only, reuse_port, silent (it does not listen).
function M.tcp(host, port, options)
  local fd = bound(STREAM, host, port, options)
  if not (options and options.silent) then assert(C.listen(fd, 64) == 0) end
  return fd
end

function M.udp(host, port) return bound(DGRAM, host, port) end

--- A listening unix socket at a path, or at "@name" in the abstract name space.
function M.unix(path, kind)
  local address = ffi.new("struct spec_raw_address", AF_UNIX)
  ffi.copy(address.bytes, path, #path)
  local abstract = path:sub(1, 1) == "@"
  if abstract then address.bytes[0] = 0 end
  local fd = keep(C.socket(AF_UNIX, kind or STREAM, 0))
  assert(C.spec_raw_bind(fd, address, 2 + #path + (abstract and 0 or 1)) == 0, "bind " .. path)
  if kind ~= DGRAM then assert(C.listen(fd, 64) == 0) end
  return fd
end

function M.unix_datagrams(path) return M.unix(path, DGRAM) end
function M.unix_packets(path) return M.unix(path, SEQPACKET) end
function M.netlink() return keep(C.socket(AF_NETLINK, RAW, 0)) end
function M.file(path) return keep(C.open(path, 0)) end

function M.pipe()
  local fds = ffi.new "int[2]"
  assert(C.pipe(fds) == 0)
  return keep(fds[0]), keep(fds[1])
end

--- A TCP socket that has connected to a port.
function M.connection(host, port)
  local address, size, family = inet(host, port)
  local fd = keep(C.socket(family, STREAM, 0))
  assert(C.connect(fd, address, size) == 0, "cannot connect")
  return fd
end

--- The socket that a descriptor stands for, as a text: two duplicates have the same.
function M.identity(fd) return uv.fs_readlink("/proc/self/fd/" .. fd) end

--- The value of an integer option of SOL_SOCKET.
function M.option(fd, name)
  local value, size = ffi.new "int[1]", ffi.new("unsigned[1]", 4)
  assert(C.getsockopt(fd, SOL_SOCKET, name, value, size) == 0)
  return value[0]
end

function M.dup(fd) return keep(C.dup(fd)) end
--- The caller has handed the descriptor over.
function M.given(fd) open[fd] = nil; return fd end
function M.close(fd) open[fd] = nil; return C.close(fd) end

--- For after_each.
function M.close_all()
  for fd in pairs(open) do C.close(fd) end
  open = {}
end

return M
