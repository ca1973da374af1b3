-- SPDX-License-Identifier: MIT
-- A client whose TCP handshake is under way when its listener ends: its first packet came before
-- the daemon stopped to listen, its last one comes after the daemon has emptied the queue. The
-- socket option TCP_DEFER_ACCEPT, set on the daemon's own socket, makes such a client: the
-- connection is in no queue until the client has sent bytes.
local ffi = require "ffi"
local front = require "spec.support.lua_module"
local http = require "spec.support.http"
local read = require("spec.support.file").read
local uv = require "luv"
local wait = require "spec.support.wait"

ffi.cdef [[
  int syscall(long number, ...);
  int setsockopt(int fd, int level, int name, const void *value, unsigned size);
  int close(int fd);
]]
local PIDFD_OPEN, PIDFD_GETFD, TCP, DEFER_ACCEPT = 434, 438, 6, 9

-- The inode of the socket that listens on a port of 127.0.0.1; nil: there is none.
local function listens(port)
  for line in read("/proc/net/tcp"):gmatch "[^\n]+" do
    local at, state, inode =
      line:match "^%s*%d+: 0100007F:(%x+) %S+ (%x+) %S+ %S+ %S+ +%d+ +%d+ (%d+)"
    if at and tonumber(at, 16) == port and state == "0A" then return inode end
  end
end

local function defer_accept(pid, port)
  local inode = assert(listens(port), "nobody listens")
  local folder = ("/proc/%d/fd/"):format(pid)
  for name in uv.fs_scandir_next, assert(uv.fs_scandir(folder)) do
    if uv.fs_readlink(folder .. name) == ("socket:[%s]"):format(inode) then
      local pidfd = ffi.C.syscall(PIDFD_OPEN, ffi.cast("int", pid), ffi.cast("int", 0))
      local fd = ffi.C.syscall(PIDFD_GETFD, ffi.cast("int", pidfd),
        ffi.cast("int", tonumber(name)), ffi.cast("int", 0))
      assert.is_true(fd >= 0)
      local seconds = ffi.new("int[1]", 60)
      assert.equal(0, ffi.C.setsockopt(fd, TCP, DEFER_ACCEPT, seconds, 4))
      ffi.C.close(fd)
      ffi.C.close(pidfd)
      return
    end
  end
  error "the daemon does not have the socket"
end

-- A new client does not get through any more. (Its first packet is dropped without an answer.)
local function is_deaf(port)
  local tcp, done, failed = uv.new_tcp(), false, nil
  tcp:connect("127.0.0.1", port, function(err) done, failed = true, err end)
  local timer = uv.new_timer()
  timer:start(100, 0, function() end)
  while not done and timer:is_active() do uv.run("once") end
  timer:close()
  tcp:close()
  uv.run("nowait")
  return not done or failed ~= nil
end

describe("a client whose handshake ends after the listener", function()
  local at
  before_each(function()
    front.prepare()
    at = front.at
  end)
  after_each(front.cleanup)

  local GET = "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
  local function start(linger_ms)
    return front.start('return { handle = function() return 200, "served" end }', nil,
      { env = { SEGUE_TEST_LINGER_MS = tostring(linger_ms) } })
  end

  it("is answered by the daemon that stops", function()
    local d = start(1000)
    local ports = { at, d.port }
    for _, port in ipairs(ports) do defer_accept(d.process.pid, port) end
    local clients = {}
    for i, port in ipairs(ports) do clients[i] = http.connect { port = port } end
    d:signal "term"
    for i, port in ipairs(ports) do
      wait.until_true(function() return is_deaf(port) end, nil, "a listener that ends")
      clients[i]:write(GET)
    end
    assert.matches("^HTTP/1.1 %d+ ", clients[1]:read_all())
    assert.matches("^HTTP/1.1 %d+ ", clients[2]:read_all())
    d:wait_exit()
    assert.is_nil(listens(at))
  end)

  it("is answered by the listener that a reload opens at the same address", function()
    local d = start(600000)
    local with = d.dir:read "reload.lua"
    defer_accept(d.process.pid, at)
    local client = http.connect { port = at }
    d.dir:write("reload.lua", (with:gsub('listen = "[^"]+",', "")))
    assert.equal(200, (d:reload()))
    wait.until_true(function() return is_deaf(at) end, nil, "a listener that ends")
    client:write(GET)
    d.dir:write("reload.lua", with)
    assert.equal(200, (d:reload()))
    assert.matches("served", client:read_all())
    d:crash() -- the old listener waits for ten minutes, so that it is the new one that accepted
  end)
end)
