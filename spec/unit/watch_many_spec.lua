-- SPDX-License-Identifier: MIT
-- Watching many files of one folder: all changes are reported, and in parts, so that the control
-- thread serves other handles in between.
local C = require "spec.support.c"
local LoopCase = require "spec.support.loop_case"
local uv = require "luv"
local ffi = C.ffi

local COUNT, TURN = 600, 64

describe("a watch of many files in one folder", function()
  local case, loop, dir, watch, seen
  before_each(function()
    case = LoopCase.open()
    loop, dir, seen = case.loop, case.dir, {}
    local out = ffi.new("segue__watcher *[1]")
    local log = ffi.new("segue__logger[1]")
    C.check(C.segue__watch_new(out, loop.ptr, log, loop:cb("segue__watch_cb", function(_, path)
      seen[#seen + 1] = path == nil and "ALL" or C.str(path):match "[^/]+$"
    end), nil))
    watch, case.log = out[0], log
  end)
  after_each(function()
    local closed = false
    C.segue__watch_close(watch, loop:cb("void (*)(void *)", function() closed = true end), nil)
    loop:run_until(function() return closed end)
    case:close()
  end)

  local function set(paths)
    local names = ffi.new("segue__names[1]")
    for _, path in ipairs(paths) do C.check(C.segue__names_add(names, "", 0, path)) end
    C.check(C.segue__watch_set(watch, names, 0, nil))
    C.segue__names_deinit(names)
  end

  local function name(n) return ("f%03d"):format(n) end

  local function watch_all(more)
    local paths = { more }
    for n = 1, COUNT do
      dir:write(name(n), "first")
      paths[#paths + 1] = dir:at(name(n))
    end
    set(paths)
  end

  local function calls() return C.segue__fault_reached "watch.add" end

  -- Waits until each file was reported; returns the most calls of inotify_add_watch(2) between two
  -- looks: a run of the loop may make one part behind a timer and one behind events, and on a slow
  -- machine there is more than one run between two looks.
  local function all_reported()
    local found, missing, most, from, before = {}, COUNT, 0, 0, calls()
    loop:run_until(function()
      most, before = math.max(most, calls() - before), calls()
      for i = from + 1, #seen do
        if seen[i]:match "^f%d+$" and not found[seen[i]] then
          found[seen[i]] = true
          missing = missing - 1
        end
      end
      from = #seen
      return missing == 0
    end, 30000)
    seen = {}
    return most
  end

  local function reported(wanted)
    loop:run_until(function()
      for _, one in ipairs(seen) do if one == wanted then return true end end
    end, 30000)
    seen = {}
  end

  it("reports replaced files in parts, and watches the new ones", function()
    watch_all()
    loop:turn()
    seen = {}
    C.segue__fault_arm(nil)
    dir:save(name(1), "second")
    reported(name(1))
    local each = calls()
    assert.is_true(each > 0)
    for _ = 1, 2 do
      for n = 1, COUNT do dir:save(name(n), "third, longer") end
      local most = all_reported()
      assert.is_true(most <= 5 * TURN * each, ("%d calls, %d for a file"):format(most, each))
    end
    assert(uv.fs_link(dir:at(name(COUNT)), dir:at "other"))
    dir:write("other", "third, by another name")
    reported(name(COUNT))
  end)

  it("reports a change among many others, and a pattern beside them", function()
    watch_all(dir:at "*.x")
    for _, n in ipairs { 1, 150, COUNT } do
      dir:write(name(n), "second")
      reported(name(n))
    end
    dir:write("a.x", "1")
    reported "a.x"
    dir:write("not watched", "1")
    dir:write(name(7), "fence")
    reported(name(7))
  end)

  it("is replaced by another set while it is at work", function()
    watch_all()
    for n = 1, COUNT do dir:save(name(n), "second") end
    loop:run_until(function() return #seen > 0 end, 30000)
    set { dir:at(name(1)), dir:at(name(2)) }
    seen = {}
    dir:save(name(2), "third")
    reported(name(2))
    dir:save(name(1), "third")
    reported(name(1))
  end)
end)
