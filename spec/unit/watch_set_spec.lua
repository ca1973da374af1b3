-- SPDX-License-Identifier: MIT
-- The set of watched paths: replaced, large, without memory, in the callback.
local C = require "spec.support.c"
local Loop = require "spec.support.loop"
local WatchCase = require "spec.support.watch_case"
local uv = require "luv"
local ffi = C.ffi

local w, dir, loop
before_each(function()
  w = WatchCase.open()
  dir, loop = w.dir, w.loop
end)
after_each(function() w:close() end)

describe("the set", function()
  it("can be replaced: removed paths are silent, kept ones are not touched", function()
    w:set_fenced { "a", "d/b" }
    w:set_fenced { "d/b", "c" }
    dir:write("a", "1")
    w:quiet()
    dir:write("d/b", "1")
    w:notified "d/b"
    dir:write("c", "1")
    w:notified "c"
    w:set_fenced {}
    dir:write("c", "1")
    w:quiet()
  end)

  it("accepts duplicates, and hundreds of files", function()
    local list = {}
    for i = 1, 500 do
      list[#list + 1] = "d" .. i % 10 .. "/" .. i
      list[#list + 1] = "d" .. i % 10 .. "/" .. i
    end
    w:set_fenced(list)
    dir:write("d7/17", "1")
    w:notified "d7/17"
    dir:write("d7/17", "2")
    w:notified "d7/17"
  end)

  it("stays as it was when memory is out", function()
    w:set_fenced { "a" }
    local list = WatchCase.names { dir:at("b"), dir:at("fence"), dir:at("x/y/c") }
    local failed = 0
    for k = 1, 100 do
      local e = C.error()
      C.segue__mem_fail_at(k)
      local rc = C.segue__watch_set(w.watch, list, 0, e)
      C.segue__mem_fail_at(0)
      if rc == 0 then break end
      failed = failed + 1
      assert.equal("ENOMEM", C.err(e).name)
      dir:write("a", tostring(k))
      w:notified "a"
    end
    C.segue__names_deinit(list)
    assert.is_true(failed > 5)
    dir:write("b", "1")
    w:notified "b"
  end)

  it("can be replaced, and the watch closed, in the callback", function()
    w:stop()
    local out, calls, closed = ffi.new("segue__watcher *[1]"), 0, false
    local on_closed = loop:cb("void (*)(void *)", function() closed = true end)
    C.check(C.segue__watch_new(out, loop.ptr, w.log, loop:cb("segue__watch_cb", function()
      calls = calls + 1
      if calls == 1 then
        local list = WatchCase.names { dir:at("b") }
        C.check(C.segue__watch_set(out[0], list, 0, nil))
        C.segue__names_deinit(list)
      else
        C.segue__watch_close(out[0], on_closed, nil)
      end
    end), nil))
    local list = WatchCase.names { dir:at("a"), dir:at("b"), dir:at("c") }
    C.check(C.segue__watch_set(out[0], list, 0, nil))
    C.segue__names_deinit(list)
    dir:write("a", "1")
    dir:write("b", "1")
    dir:write("c", "1")
    loop:run_until(function() return closed end)
    assert.equal(2, calls)
  end)

  it("knows what was touched since a time", function()
    local past = (uv.gettimeofday() - 100) * 1000
    local now_s, now_us = uv.gettimeofday()
    local future = (now_s + 5) * 1000 + now_us / 1000
    dir:write("conf/a", "1")
    dir:configmap { m = "1" }
    assert.is_true(w:set { dir:at("conf/a"), dir:at("m"), dir:at("none"), dir:at("conf/*.x") })
    assert.is_true(C.segue__watch_touched_since(w.watch, past))
    assert.is_false(C.segue__watch_touched_since(w.watch, future))
  end)

  it("needs a real loop", function()
    local manual, out = Loop.manual(), ffi.new("segue__watcher *[1]")
    assert.equal("ENOTSUP", C.name(C.segue__watch_new(out, manual.ptr, w.log, nil, nil)))
    manual:close()
  end)
end)
