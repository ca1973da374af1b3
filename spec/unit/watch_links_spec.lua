-- SPDX-License-Identifier: MIT
-- Watching files that have several names: symbolic links, swaps of a ConfigMap, hard links, mounts.
local C = require "spec.support.c"
local WatchCase = require "spec.support.watch_case"
local uv = require "luv"

local w, dir, loop
before_each(function()
  w = WatchCase.open()
  dir, loop = w.dir, w.loop
end)
after_each(function() w:close() end)

describe("symbolic links", function()
  it("are followed through the swaps of a ConfigMap, at full speed, to the last one", function()
    dir:configmap { ["app.yaml"] = "0" }
    assert.is_true(w:set { dir:at("app.yaml") })
    local last
    for i = 1, 1000 do
      dir:configmap { ["app.yaml"] = tostring(i) }
      if i % 7 == 0 then C.uv_run(loop.base.uv, 2) end
      if #w.seen > 0 then
        w.seen, last = {}, dir:read("app.yaml")
      end
    end
    loop:run_until(function()
      if #w.seen > 0 then
        w.seen, last = {}, dir:read("app.yaml")
      end
      return last == "1000"
    end)
    dir:write("..v1001/app.yaml", "in place") -- what it leads to now is watched
    loop:turn()
    w.seen = {}
    dir:write("..data/app.yaml", "in place")
    w:notified "app.yaml"
  end)

  it("are followed for every match of a pattern", function()
    dir:configmap { ["a.yaml"] = "1", ["b.yaml"] = "1" }
    assert.is_true(w:set { dir:at("*.yaml") })
    for i = 2, 20 do
      dir:configmap { ["a.yaml"] = tostring(i), ["b.yaml"] = "1" }
      w:notified "*.yaml"
    end
    dir:configmap { ["a.yaml"] = "x", ["c.yaml"] = "new" }
    w:notified()
    dir:configmap { ["a.yaml"] = "x", ["c.yaml"] = "newer" }
    w:notified "*.yaml"
  end)

  it("that are exchanged, on the way or at the end, are reported", function()
    dir:write("r1/a", "1")
    dir:write("r2/a", "2")
    dir:link("r1", "current")
    dir:link(dir:at("current/a"), "a")
    w:set_fenced { "a" }
    dir:link("r2", "current")
    w:notified "a"
    dir:write("r1/a", "nobody's")
    w:quiet()
    dir:write("r2/a", "3")
    w:notified "a"
    dir:link("r1/a", "a")
    w:notified "a"
    dir:write("r1/a", "ours again")
    w:notified "a"
  end)

  it("without a target, or in a circle, are watched until they have a target", function()
    dir:link("y", "x")
    dir:link("x", "y")
    dir:link("missing/a", "dead")
    w:set_fenced { "x", "dead" }
    dir:write("missing/a", "1")
    w:notified "dead"
    dir:write("z", "1")
    dir:link("z", "y")
    w:notified "x"
    dir:write("z", "2")
    w:notified "x"
  end)
end)

-- A write by a name that is not watched, in a folder that is not watched.
local function write_elsewhere(name, text)
  local file = assert(io.open(dir:at(name), "w"))
  file:write(text)
  file:close()
end

describe("a file with a second name", function()
  it("is reported when it is written by the other one, also after it was saved", function()
    dir:write("else/b", "1")
    assert(uv.fs_link(dir:at("else/b"), dir:at("a")))
    w:set_fenced { "a" }
    write_elsewhere("else/b", "2")
    w:notified "a"
    dir:save("a", "3")
    w:notified "a"
    write_elsewhere("else/b", "4") -- not the watched file any more
    w:quiet()
    dir:delete("a")
    w:notified "a"
    assert(uv.fs_link(dir:at("else/b"), dir:at("a")))
    w:notified "a"
    write_elsewhere("else/b", "5")
    w:notified "a"
    uv.fs_chmod(dir:at("else/b"), 256)
    w:notified "a"
  end)

  it("is reported through symbolic links and patterns, by the name of the match", function()
    dir:write("else/b", "1")
    dir:mkdir("d")
    dir:write("d/plain.yaml", "1")
    assert(uv.fs_link(dir:at("else/b"), dir:at("d/x.yaml")))
    assert(uv.fs_symlink(dir:at("d/x.yaml"), dir:at("link")))
    w:set_fenced { "d/*.yaml" }
    write_elsewhere("else/b", "2")
    w:notified "d/x.yaml"
    assert(uv.fs_link(dir:at("d/plain.yaml"), dir:at("else/plain")))
    assert(uv.fs_link(dir:at("else/plain"), dir:at("d/new.yaml"))) -- both are known from now on
    w:notified "d/new.yaml"
    write_elsewhere("else/plain", "2")
    w:notified()
    w:set_fenced { "link" }
    write_elsewhere("else/b", "3")
    w:notified "link"
  end)

  it("is reported once for each write, whichever name it has", function()
    dir:write("else/b", "1")
    assert(uv.fs_link(dir:at("else/b"), dir:at("a")))
    w:set_fenced { "a" }
    for i = 1, 20 do
      write_elsewhere(i % 2 == 0 and "a" or "else/b", tostring(i))
      loop:run_until(function() return #w.seen > 0 end)
      dir:write("fence", tostring(i))
      loop:run_until(function() return w.seen[#w.seen] == dir:at("fence") end)
      assert.same({ dir:at("a"), dir:at("fence") }, w.seen)
      loop:turn()
      w.seen = {}
    end
  end)

  it("is not reported while it is written, nor for names that come and go elsewhere", function()
    dir:write("else/b", "1")
    assert(uv.fs_link(dir:at("else/b"), dir:at("a")))
    w:set_fenced { "a" }
    assert(uv.fs_link(dir:at("else/b"), dir:at("else/c")))
    assert(os.rename(dir:at("else/c"), dir:at("else/d")))
    dir:delete("else/d")
    w:quiet()
    local file = assert(io.open(dir:at("else/b"), "a"))
    file:write("2")
    file:flush()
    w:quiet()
    file:close()
    w:notified "a"
  end)

  it("is reported when it is mounted alone, and written outside of the mount", function()
    dir:write("else/b", "1")
    dir:write("a", "")
    dir:write("d/x.yaml", "")
    local mounted, targets = {}, { "a", "d/x.yaml" }
    for _, target in ipairs(targets) do
      local mount = ("mount --bind %s %s 2>/dev/null"):format(dir:at("else/b"), dir:at(target))
      if os.execute(mount) == 0 then mounted[#mounted + 1] = target end
    end
    -- Without the right to mount, hard links stand in: their events are the same.
    for i = #mounted + 1, #targets do
      dir:delete(targets[i])
      assert(uv.fs_link(dir:at("else/b"), dir:at(targets[i])))
    end
    local ok, err = pcall(function()
      w:set_fenced { "a", "d/*.yaml" }
      write_elsewhere("else/b", "2")
      loop:run_until(function() return #w.seen >= 2 end)
      table.sort(w.seen)
      assert.same({ dir:at("a"), dir:at("d/x.yaml") }, w.seen)
    end)
    w:set {}
    for _, target in ipairs(mounted) do assert.equal(0, os.execute("umount " .. dir:at(target))) end
    assert(ok, err)
  end)

  it("is left to the rescan, with one warning, where the limit of watches is reached", function()
    dir:write("else/b", "1")
    assert(uv.fs_link(dir:at("else/b"), dir:at("a")))
    C.segue__fault_arm("watch.file=fail:-28")
    assert.is_true(w:set({ dir:at("a") }, 10))
    assert.truthy(C.str(C.segue__watch_problem(w.watch)):find("max_user_watches", 1, true))
    write_elsewhere("else/b", "22")
    w:notified "ALL"
    dir:save("a", "333") -- the folder is still watched
    w:notified "a"
    assert.equal(1, #w.logged)
    C.segue__fault_arm(nil)
    loop:run_until(function() return C.segue__watch_problem(w.watch) == nil end)
  end)
end)
