-- SPDX-License-Identifier: MIT
-- Watching files where no event comes: rescans, and the limits of the kernel.
local C = require "spec.support.c"
local WatchCase = require "spec.support.watch_case"

local w, dir, loop
before_each(function()
  w = WatchCase.open()
  dir, loop = w.dir, w.loop
end)
after_each(function() w:close() end)

describe("more events than the kernel keeps", function()
  it("make the watch read everything, and it continues", function()
    dir:mkdir("d")
    dir:write("a", "1")
    w:set_fenced { "a", "d/*.yaml" }
    for i = 1, 1000 do dir:write("d/" .. i .. ".yaml", "x") end
    for _ = 1, 18 do
      for i = 1, 1000 do w:touch("d/" .. i .. ".yaml") end
    end
    dir:write("a", "2") -- its event is among those that are lost
    w:notified "ALL"
    assert.truthy(w.logged[1]:find("max_queued_events", 1, true))
    dir:write("a", "3")
    w:notified "a"
    dir:write("d/1.yaml", "4")
    w:notified "d/1.yaml"
  end)
end)

describe("the rescan", function()
  it("finds changes that make no event, and reports nothing where nothing has changed", function()
    dir:write("a", "1")
    dir:write("d/b.yaml", "1")
    C.segue__fault_arm("watch.add=fail:-13")
    assert.is_true(w:set({ dir:at("a"), dir:at("d/*.yaml") }, 30))
    C.segue__fault_arm(nil)
    dir:write("a", "22")
    w:notified "ALL"
  end)

  it("finds a change under a mount that covers the watched folder", function()
    dir:write("conf/a", "1")
    dir:write("other/a", "2")
    assert.is_true(w:set({ dir:at("conf/a") }, 20))
    local mount = ("mount --bind %s %s 2>/dev/null"):format(dir:at("other"), dir:at("conf"))
    if os.execute(mount) == 0 then
      local ok, err = pcall(w.notified, w, "ALL")
      if ok then
        dir:write("conf/a", "333")
        ok, err = pcall(w.notified, w, "conf/a")
      end
      assert.equal(0, os.execute("umount " .. dir:at("conf")))
      assert(ok, err)
    else
      -- Without the right to mount, a folder that is exchanged behind the kernel's queue stands in.
      C.segue__fault_arm("watch.add=fail:-13")
      assert.is_true(w:set({ dir:at("conf/a"), dir:at("other/a") }, 20))
      dir:save("other/a", "3333")
      w:notified "ALL"
    end
  end)

  it("does not report again what an event has reported", function()
    dir:write("a", "1")
    dir:write("d/b.yaml", "1")
    assert.is_true(w:set({ dir:at("a"), dir:at("d/*.yaml") }, 5))
    dir:write("a", "22")
    w:notified "a"
    dir:write("d/b.yaml", "22")
    w:notified "d/b.yaml"
    local rounds, timer = 0, nil
    timer = loop:timer(function()
      rounds = rounds + 1
      timer.start(5)
    end)
    timer.start(5)
    -- A rescan that ran when the file was written may report it once more, not more often.
    loop:run_until(function() return rounds >= 10 end)
    assert.is_true(#w.seen <= 1)
    w.seen = {}
    loop:run_until(function() return rounds >= 30 end)
    timer.stop()
    assert.same({}, w.seen)
  end)
end)

describe("the kernel's limits", function()
  it("are named, and rescans take over until they are raised", function()
    C.segue__fault_arm("watch.add=fail:-28")
    dir:write("a", "1")
    assert.is_true(w:set({ dir:at("a") }, 10))
    local problem = C.str(C.segue__watch_problem(w.watch))
    assert.truthy(problem:find("fs.inotify.max_user_watches", 1, true))
    assert.same({ problem }, w.logged)
    dir:write("a", "22")
    w:notified "ALL"
    C.segue__fault_arm(nil)
    loop:run_until(function() return C.segue__watch_problem(w.watch) == nil end)
    dir:write("a", "1")
    w:notified "a"
    assert.equal(1, #w.logged)
  end)

  it("on instances leave a watch that works by rescan alone", function()
    w:stop()
    C.segue__fault_arm("watch.open=fail:-24")
    w:start()
    C.segue__fault_arm(nil)
    assert.truthy(C.str(C.segue__watch_problem(w.watch)):find("max_user_instances", 1, true))
    dir:write("a", "1")
    assert.is_true(w:set({ dir:at("a") }, 10))
    dir:write("a", "22")
    w:notified "ALL"
  end)
end)
