-- SPDX-License-Identifier: MIT
-- Listening sockets, and the error of one that cannot be opened.
local C = require "spec.support.c"
local port = require "spec.support.port"
local servers = require "spec.support.http_server"
local uv = require "luv"

describe("listening", function()
  local server, path
  before_each(function()
    server = servers.start()
    path = os.tmpname()
    os.remove(path)
  end)
  after_each(function()
    server:stop()
    os.remove(path)
  end)

  local function ask(where)
    local client = require("spec.support.http").connect(where)
    client:write("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    local r = client:read_response()
    client:close()
    return r
  end

  it("on port 0 returns the port", function()
    assert.is_true(server.port > 0)
    assert.equal(200, ask({ port = server.port }).status)
  end)

  it("on a port in use names the process that has it", function()
    local taken, handle = port.taken()
    local e = server:listen_error("127.0.0.1:" .. taken)
    handle:close()
    uv.run "nowait"
    assert.equal("EADDRINUSE", e.name)
    assert.matches("^127%.0%.0%.1:" .. taken .. " is in use by [%w%-_.:]+ %(pid "
      .. uv.os_getpid() .. "%): choose another port or stop it$", e.message)
  end)

  it("on an address of another machine reports that", function()
    local e = server:listen_error("192.0.2.1:1")
    assert.equal("EADDRNOTAVAIL", e.name)
    assert.matches("192.0.2.1:1 is not an address of this machine", e.message, 1, true)
  end)

  it("on IPv6 serves it", function()
    local _, chosen = server:listen("[::1]:0")
    local r = ask { address = "::1", port = chosen }
    assert.matches("peer=%[::1%]:%d+\n", r.body)
  end)

  it("on a unix socket sets its mode and knows the peer", function()
    local listener = server:listen("unix:" .. path, tonumber("640", 8))
    local st = assert(uv.fs_stat(path))
    assert.equal("socket", st.type)
    assert.equal(tonumber("640", 8), st.mode % 512)
    assert.matches("peer=unix:pid=" .. uv.os_getpid() .. ",uid=%d+\nlocal=1",
      ask { socket = path }.body)
    server:unlisten(listener)
    assert.is_nil((uv.fs_stat(path)))
    server:listen("unix:" .. path)
    assert.equal(tonumber("600", 8), uv.fs_stat(path).mode % 512)
  end)

  it("on a unix socket that is alive is refused", function()
    local other = servers.start { address = "unix:" .. path }
    local e = server:listen_error("unix:" .. path)
    assert.equal("EADDRINUSE", e.name)
    assert.equal("another process answers on " .. path .. ": stop it or choose another path",
      e.message)
    assert.equal(200, ask { socket = path }.status)
    other:stop()
  end)

  it("on a unix socket that was left behind replaces it", function()
    local process = require "spec.support.process"
    local run = process.run { "luajit", "-e", ([[
      local uv = require "luv"
      local p = uv.new_pipe(false)
      assert(p:bind(%q))
      p:listen(1, function() end)
      os.exit(0, false)
    ]]):format(path) }
    assert.equal(0, run.code, run.output)
    assert.equal("socket", assert(uv.fs_stat(path)).type)
    server:listen("unix:" .. path)
    assert.equal(200, ask { socket = path }.status)
  end)

  it("on a unix socket removes only its own file at the end", function()
    local listener = server:listen("unix:" .. path)
    os.remove(path)
    local other = server:listen("unix:" .. path)
    server:unlisten(listener)
    assert.equal(200, ask { socket = path }.status)
    server:unlisten(other)
    assert.is_nil((uv.fs_stat(path)))
  end)

  it("on a path that is no socket does not change it", function()
    local file = assert(io.open(path, "w"))
    file:write("precious")
    file:close()
    local e = server:listen_error("unix:" .. path)
    assert.equal("EEXIST", e.name)
    assert.equal(path .. " exists and is not a socket: remove it or choose another path", e.message)
    assert.equal("precious", io.open(path):read("*a"))
  end)

  it("in a folder that does not exist reports that", function()
    local e = server:listen_error("unix:" .. path .. "/none/x.sock")
    assert.equal("ENOENT", e.name)
    assert.matches("its folder does not exist", e.message, 1, true)
  end)

  it("without memory or descriptors fails cleanly", function()
    C.segue__mem_fail_at(1)
    local e = server:listen_error("127.0.0.1:0")
    C.segue__mem_fail_at(0)
    assert.equal("ENOMEM", e.name)
    C.http_harness_use_fds(300)
    local few = server:listen_error("127.0.0.1:0")
    C.http_harness_free_fds()
    assert.equal("EMFILE", few.name)
    assert.matches("too many open files", few.message, 1, true)
  end)
end)

describe("a server", function()
  it("that cannot be made for lack of memory leaves nothing behind", function()
    local live = tonumber(C.segue__mem_live())
    local out = C.new("http_harness *[1]")
    C.segue__mem_fail_at(1)
    local code = C.http_harness_new(out, nil)
    C.segue__mem_fail_at(0)
    assert.equal("ENOMEM", C.name(code))
    assert.equal(live, tonumber(C.segue__mem_live()))
  end)

  it("releases all its memory", function()
    local live = tonumber(C.segue__mem_live())
    local server = servers.start()
    for _ = 1, 20 do
      server:ask("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 20000\r\n\r\n"
        .. ("x"):rep(20000))
    end
    server:stop()
    assert.equal(live, tonumber(C.segue__mem_live()))
  end)
end)
