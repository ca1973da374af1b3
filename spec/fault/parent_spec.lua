-- SPDX-License-Identifier: MIT
-- A child of core/process/process.h when the process that started it is killed. It is no spec of
-- `make tsan`: a shell with that library in it does not start.
local process = require "spec.support.process"
local tempdir = require "spec.support.tempdir"
local uv = require "luv"
local wait = require "spec.support.wait"

describe("the end of the process that started it", function()
  local dir
  before_each(function() dir = tempdir.new() end)
  after_each(function()
    process.stop_all()
    tempdir.remove_all()
  end)

  it("ends the child, however it comes", function()
    local program = dir:write("parent.lua", ([[
      local C = require "spec.support.c"
      local Loop, uv = require "spec.support.loop", require "luv"
      local ffi = C.ffi
      local loop = Loop.uv()
      local argv = ffi.new("const char *[4]", { "/bin/sh", "-c", "echo $$ > %s; exec sleep 20" })
      local o, out = ffi.new "segue__process_options[1]", ffi.new "segue__process *[1]"
      o[0].size, o[0].loop, o[0].os = ffi.sizeof(o[0]), loop.ptr, C.segue__os_default()
      o[0].argv = argv
      o[0].on_end = loop:cb("void (*)(void *, const segue__child_exit *)", function() end)
      assert(C.segue__process_new(out, o) == 0)
      local manner, e = ffi.new "segue__process_manner[1]", C.error()
      assert(C.segue__process_start(out[0], nil, manner, e) == 0, C.text(e))
      loop:run_until(function() return false end)]]):format(dir:at "pid"))
    local parent = process.start { "env", "LD_PRELOAD=" .. (os.getenv "SEGUE_SPEC_PRELOAD" or ""),
      "ASAN_OPTIONS=detect_leaks=0", "luajit", program, name = "a parent" }
    wait.until_true(function() return (dir:read "pid" or ""):find "%d\n" end, nil, "the child")
    local child = tonumber(dir:read "pid")
    assert.equal(0, uv.kill(child, 0))
    uv.kill(parent.pid, "sigkill")
    wait.until_true(function() return not process.is_alive(child) end, nil, "the end of the child")
    parent:wait_exit()
  end)
end)
