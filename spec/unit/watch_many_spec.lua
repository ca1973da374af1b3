-- SPDX-License-Identifier: MIT
-- Watching many files of one folder: all changes are reported, and in parts, so that the control
-- thread serves other handles in between.
local C = require "spec.support.c"
local WatchCase = require "spec.support.watch_case"
local uv = require "luv"

local COUNT, TURN = 600, 64

describe("a watch of many files in one folder", function()
  local w, loop, dir
  before_each(function()
    w = WatchCase.open()
    loop, dir = w.loop, w.dir
  end)
  after_each(function() w:close() end)

  local function name(n) return ("f%03d"):format(n) end

  local function watch_all(more)
    local paths = { more }
    for n = 1, COUNT do
      dir:write(name(n), "first")
      paths[#paths + 1] = dir:at(name(n))
    end
    assert.is_true(w:set(paths))
  end

  local function calls() return C.segue__fault_reached "watch.add" end

  -- Waits until each file was reported; returns the most calls of inotify_add_watch(2) between two
  -- looks: a run of the loop may make one part behind a timer and one behind events, and on a slow
  -- machine there is more than one run between two looks.
  local function all_reported()
    local found, missing, most, from, before = {}, COUNT, 0, 0, calls()
    loop:run_until(function()
      most, before = math.max(most, calls() - before), calls()
      for i = from + 1, #w.seen do
        local file = w.seen[i]:match "/(f%d+)$"
        if file and not found[file] then
          found[file] = true
          missing = missing - 1
        end
      end
      from = #w.seen
      return missing == 0
    end, 30000)
    w.seen = {}
    return most
  end

  local function reported(wanted) w:notified(wanted, 30000) end

  it("reports replaced files in parts, and watches the new ones", function()
    watch_all()
    loop:turn()
    w.seen = {}
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
    loop:run_until(function() return #w.seen > 0 end, 30000)
    w:set { dir:at(name(1)), dir:at(name(2)) }
    w.seen = {}
    dir:save(name(2), "third")
    reported(name(2))
    dir:save(name(1), "third")
    reported(name(1))
  end)
end)
