-- SPDX-License-Identifier: MIT
-- The HTTP server over real sockets: how it opens unix sockets, and clients that leave.
local C = require "spec.support.c"
local servers = require "spec.support.http_server"
local tempdir = require "spec.support.tempdir"
local uv = require "luv"
local ffi = C.ffi

ffi.cdef [[
struct spec_inotify { int watch; uint32_t mask, cookie, len; char name[]; };
int inotify_init1(int flags);
int inotify_add_watch(int fd, const char *path, uint32_t mask);
long inotify_read(int fd, void *out, unsigned long size) __asm__("read");
int inotify_close(int fd) __asm__("close");
]]

local server
local start = servers.for_each_spec(function(started) server = started end)

local get = servers.get
local post = servers.post

describe("the HTTP server", function()
  after_each(tempdir.remove_all)

  describe("opens", function()
    it("a unix socket that has its name when it listens, and not before", function()
      local dir = tempdir.new()
      for _, name in ipairs { "s", ("n"):rep(106 - #dir.path) } do -- the longest that can be
        local path = dir:at(name)
        local stale = C.new "segue__address"
        C.check(C.segue__address_parse("unix:" .. path, stale, C.error()))
        local events = ffi.C.inotify_init1(2048) -- does not block
        assert(ffi.C.inotify_add_watch(events, dir.path, 0x380) >= 0) -- made, moved, gone
        start { address = "unix:" .. path }
        assert.equal("late\n", server:ask(get("/later/1")).body)
        server:stop()
        start { address = "unix:" .. path }
        local buf, named = ffi.new "char[8192]", 0
        local n = tonumber(ffi.C.inotify_read(events, buf, 8192))
        assert.is_true(n > 0)
        local at = 0
        while at < n do
          local event = ffi.cast("struct spec_inotify *", buf + at)
          if ffi.string(event.name) == name then
            assert.is_true(event.mask == 0x80 or event.mask == 0x200, "made under its name")
            named = named + (event.mask == 0x80 and 1 or 0)
          end
          at = at + 16 + event.len
        end
        assert.equal(2, named)
        ffi.C.inotify_close(events)
        server:stop()
        assert.is_nil(uv.fs_scandir_next(uv.fs_scandir(dir.path)))
      end
      start()
    end)

    it("no unix socket that cannot get its name, and leaves no file", function()
      local dir = tempdir.new()
      start()
      local before = C.segue__fault_reached "socket.rename"
      C.segue__fault_arm "socket.rename=fail"
      local e = server:listen_error("unix:" .. dir:at "s")
      local reached = C.segue__fault_reached "socket.rename" - before
      C.segue__fault_arm(nil)
      assert.equal(1, reached)
      assert.matches("s cannot be opened: ", e.message, 1, true)
      assert.is_nil(uv.fs_scandir_next(uv.fs_scandir(dir.path)))
    end)

    -- There may be room once the stale socket is removed, which the new one replaces anyway.
    it("unix sockets on a full disk in place of stale ones, else with a clear error",
      function()
      local dir = tempdir.new()
      start()
      for _, step in ipairs { "bind", "rename" } do
        local path = dir:at(step)
        C.segue__fault_arm(("socket.%s=fail:-28"):format(step))
        local e = server:listen_error("unix:" .. path)
        assert.matches(step .. " cannot be made: its folder has no room for one more file",
          e.message, 1, true)
        local stale = uv.new_pipe(false)
        assert(stale:bind(path))
        local name = dir:at "stale"
        os.rename(path, name) -- the handle removes its own path
        stale:close()
        os.rename(name, path)
        server:listen("unix:" .. path)
        C.segue__fault_arm(nil)
        local at = { socket = path, path = "/echo" }
        assert.equal(200, require("spec.support.http").request(at).status)
      end
      server:stop()
      assert.is_nil(uv.fs_scandir_next(uv.fs_scandir(dir.path)))
      start()
    end)

    it("no unix socket with another file as its first name, which stays", function()
      local dir = tempdir.new()
      local name = ("s.%d"):format(uv.os_getpid())
      dir:write(name, "precious")
      start()
      assert.matches("/s cannot be made: the file .*/" .. name:gsub("%.", "%%.") .. " has the name",
        server:listen_error("unix:" .. dir:at "s").message)
      assert.equal("precious", dir:read(name))
    end)
  end)

  describe("sees a client leave", function()
    it("by a reset while the answer is due", function()
      start()
      local client = server:connect()
      client:write(get("/hold"))
      server:until_true(function() return server:held() == 1 end)
      client:reset()
      server:until_true(function() return server:gone() == 1 and server:connections() == 0 end)
      assert.equal(0, server:held())
    end)

    it("also with a full input buffer", function()
      start()
      local client = server:connect()
      client:write(get("/hold") .. get("/echo"):rep(500))
      server:until_true(function() return server:held() == 1 end)
      client:reset()
      server:until_true(function() return server:gone() == 1 and server:connections() == 0 end)
    end)

    it("also from a unix socket", function()
      local path = os.tmpname()
      os.remove(path)
      start { address = "unix:" .. path }
      local client = server:connect()
      client:write(get("/hold"))
      server:until_true(function() return server:held() == 1 end)
      client:close()
      server:until_true(function() return server:gone() == 1 and server:connections() == 0 end)
    end)

    it("and drops the answer of a handler without an on_gone callback", function()
      start()
      local client = server:connect()
      client:write(get("/silent"))
      server:until_true(function() return server:held() == 1 end)
      client:reset()
      server:until_true(function() return server:connections() == 0 end)
      assert.equal(0, server:gone())
      server:release()
      assert.equal(0, server:held())
    end)

    it("but answers a client that only shut its writing side", function()
      start()
      local client = server:connect()
      client:write(get("/hold") .. get("/status/201"))
      client:shutdown()
      server:until_true(function() return server:held() == 1 end)
      server:release()
      assert.equal("released\n", client:read_response().body)
      assert.equal(201, client:read_response().status)
      assert.equal("", client:read_all())
      assert.equal(0, server:gone())
    end)

    it("in the middle of a request, and reports that", function()
      start()
      for _, part in ipairs { "GET / HT", get("/"):sub(1, -2), post("/echo", "hello"):sub(1, -2),
        "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel" } do
        local client = server:connect()
        client:write(part)
        client:shutdown()
        local r = client:read_response()
        assert.equal(400, r.status)
        assert.equal("the request ends early\n", r.body)
      end
      assert.equal(0, server:requests())
    end)
  end)
end)
