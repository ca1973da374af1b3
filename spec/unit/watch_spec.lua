-- SPDX-License-Identifier: MIT
-- Watching files: every way in which they change is seen, nothing else is.
local C = require "spec.support.c"
local Loop = require "spec.support.loop"
local Tempdir = require "spec.support.tempdir"
local uv = require "luv"
local ffi = C.ffi

local loop, dir, seen, watch, log, logged, live, fds

local function names(paths)
  local n = ffi.new("segue__names[1]")
  for _, path in ipairs(paths) do C.check(C.segue__names_add(n, "", 0, path)) end
  return n
end

local function set(paths, rescan_ms)
  local n, e = names(paths), C.error()
  local rc = C.segue__watch_set(watch, n, rescan_ms or 0, e)
  C.segue__names_deinit(n)
  if rc < 0 then return nil, C.err(e).name end
  return true
end

local function open()
  log = ffi.new("segue__logger[1]")
  log[0].level = C.SEGUE_DEBUG
  log[0].sink = loop:cb("void (*)(void *, const segue_log_entry *)", function(_, entry)
    logged[#logged + 1] = C.str(entry.message)
  end)
  local out = ffi.new("segue__watcher *[1]")
  C.check(C.segue__watch_new(out, loop.ptr, log, loop:cb("segue__watch_cb", function(_, path)
    seen[#seen + 1] = path == nil and "ALL" or C.str(path)
  end), nil))
  watch = out[0]
end

local function close()
  if not watch then return end
  local closed = false
  C.segue__watch_close(watch, loop:cb("void (*)(void *)", function() closed = true end), nil)
  watch = nil
  loop:run_until(function() return closed end)
end

before_each(function()
  dir = Tempdir.new()
  live, fds = tonumber(C.segue__mem_live()), C.os_harness_open_fds()
  loop, seen, logged = Loop.uv(), {}, {}
  open()
end)
after_each(function()
  C.segue__fault_arm(nil)
  C.segue__mem_fail_at(0)
  close()
  loop:close()
  assert.equal(live, tonumber(C.segue__mem_live()))
  assert.equal(fds, C.os_harness_open_fds())
  Tempdir.remove_all()
end)

-- Waits until path (or any, or "ALL") was reported, and forgets earlier reports.
local function notified(path, deadline_ms)
  loop:run_until(function()
    for _, one in ipairs(seen) do
      if not path or one == path or one == dir:at(path) then return true end
    end
  end, deadline_ms)
  -- Further events of the same change are not for the next step.
  loop:turn()
  seen = {}
end

-- Events have an order, so a reported change proves that all earlier ones have been handled.
local function quiet()
  loop:turn()
  dir:write("fence", tostring(uv.hrtime()))
  loop:run_until(function()
    for _, one in ipairs(seen) do if one == dir:at("fence") then return true end end
  end)
  for _, one in ipairs(seen) do assert.equal(dir:at("fence"), one) end
  seen = {}
end

-- An event without a write: some file systems sync a file that is written over.
local function touch(name)
  assert(uv.fs_utime(dir:at(name), 1, 1))
end

local function set_fenced(paths)
  local list = { dir:at("fence") }
  for _, path in ipairs(paths) do list[#list + 1] = dir:at(path) end
  assert.is_true(set(list))
end

describe("a watched file", function()
  it("is reported when it is written, saved by rename, removed and created again", function()
    dir:write("a", "1")
    set_fenced { "a" }
    dir:write("a", "2")
    notified "a"
    for i = 1, 5 do
      dir:save("a", tostring(i))
      notified "a"
    end
    dir:delete("a")
    notified "a"
    dir:write("a", "3")
    notified "a"
    uv.fs_chmod(dir:at("a"), 256)
    notified "a"
  end)

  it("is reported once for each batch, however often it was written", function()
    set_fenced { "a" }
    for _ = 1, 500 do
      local file = io.open(dir:at("a"), "a")
      file:write("x")
      file:close()
    end
    loop:run_until(function() return #seen > 0 end)
    dir:write("fence", "1")
    loop:run_until(function() return seen[#seen] == dir:at("fence") end)
    assert.is_true(#seen <= 3 + 1, #seen .. " times, with the fence")
  end)

  it("is reported when it is linked or moved there complete", function()
    set_fenced { "a" }
    dir:write("else/b", "x")
    assert(uv.fs_link(dir:at("else/b"), dir:at("a")))
    notified "a"
    assert(os.rename(dir:at("a"), dir:at("c")))
    notified "a"
  end)

  it("is not reported when it is only read, or while it is still being written", function()
    dir:write("a", "1")
    set_fenced { "a" }
    assert.equal("1", dir:read("a"))
    local file = io.open(dir:at("a"), "a")
    file:write("2")
    file:flush()
    quiet()
    file:close()
    notified "a"
  end)

  it("is reported by the name in the policy, also relative to the current folder", function()
    local here = uv.cwd()
    assert(uv.chdir(dir.path))
    assert.is_true(set { "./a", "b" })
    assert(uv.chdir(here))
    dir:write("a", "1")
    loop:run_until(function() return seen[1] == "./a" end)
    dir:write("b", "1")
    loop:run_until(function() return seen[2] == "b" end)
  end)

  it("is not confused with others in its folder, nor with temporary files of editors", function()
    dir:write("app.yaml", "1")
    set_fenced { "app.yaml" }
    for _, name in ipairs { ".app.yaml.swp", "app.yaml~", "4913", "#app.yaml#", "app.yam", "x" } do
      dir:write(name, "x")
      dir:delete(name)
    end
    dir:mkdir("sub")
    quiet()
  end)
end)

describe("a path that is not there yet", function()
  it("is reported when it appears, one folder after the other", function()
    set_fenced { "x/y/z/a" }
    dir:mkdir("x")
    dir:mkdir("x/y")
    loop:turn()
    dir:mkdir("x/y/z")
    loop:turn()
    seen = {}
    dir:write("x/y/z/a", "1")
    notified "x/y/z/a"
    dir:write("x/y/z/a", "2")
    notified "x/y/z/a"
  end)

  it("is reported when all of its folders appear at once", function()
    for i = 1, 50 do
      local path = "t" .. i .. "/y/a"
      set_fenced { path }
      dir:write(path, "1") -- folders and file before the loop turns
      notified(path)
      dir:write(path, "2")
      notified(path)
    end
  end)

  it("is reported when its folder is moved into place", function()
    dir:write("next/a", "1")
    set_fenced { "conf/a" }
    assert(os.rename(dir:at("next"), dir:at("conf")))
    notified "conf/a"
    dir:write("conf/a", "2")
    notified "conf/a"
  end)
end)

describe("a folder", function()
  it("that is moved away and created again is followed by its name", function()
    dir:write("conf/a", "1")
    set_fenced { "conf/a" }
    assert(os.rename(dir:at("conf"), dir:at("old")))
    notified "conf/a"
    dir:write("old/a", "not ours any more")
    quiet()
    dir:write("conf/a", "2")
    notified "conf/a"
    dir:write("conf/a", "3")
    notified "conf/a"
  end)

  it("far above that is replaced is noticed", function()
    dir:write("v1/etc/app/a", "1")
    dir:write("v2/etc/app/a", "2")
    assert(os.rename(dir:at("v1"), dir:at("live")))
    set_fenced { "live/etc/app/a" }
    assert(os.rename(dir:at("live"), dir:at("v1")))
    assert(os.rename(dir:at("v2"), dir:at("live")))
    notified "live/etc/app/a"
    dir:write("live/etc/app/a", "3")
    notified "live/etc/app/a"
    dir:write("v1/etc/app/a", "old")
    quiet()
  end)

  it("that is removed with its content, and created again, is followed", function()
    dir:write("conf/d/a", "1")
    set_fenced { "conf/d/a" }
    for i = 1, 20 do
      dir:delete("conf")
      notified "conf/d/a"
      dir:write("conf/d/a", tostring(i))
      notified "conf/d/a"
    end
  end)

  it("on the way to the file that is busy causes no work", function()
    dir:write("busy/conf/a", "1")
    set_fenced { "busy/conf/a" }
    for i = 1, 100 do dir:write("busy/" .. i, "x") end
    quiet()
    dir:write("busy/conf/a", "2")
    notified "busy/conf/a"
  end)
end)

describe("symbolic links", function()
  it("are followed through the swaps of a ConfigMap, at full speed, to the last one", function()
    dir:configmap { ["app.yaml"] = "0" }
    assert.is_true(set { dir:at("app.yaml") })
    local last
    for i = 1, 1000 do
      dir:configmap { ["app.yaml"] = tostring(i) }
      if i % 7 == 0 then C.uv_run(loop.base.uv, 2) end
      if #seen > 0 then
        seen, last = {}, dir:read("app.yaml")
      end
    end
    loop:run_until(function()
      if #seen > 0 then
        seen, last = {}, dir:read("app.yaml")
      end
      return last == "1000"
    end)
    dir:write("..v1001/app.yaml", "in place") -- what it leads to now is watched
    loop:turn()
    seen = {}
    dir:write("..data/app.yaml", "in place")
    notified "app.yaml"
  end)

  it("are followed for every match of a pattern", function()
    dir:configmap { ["a.yaml"] = "1", ["b.yaml"] = "1" }
    assert.is_true(set { dir:at("*.yaml") })
    for i = 2, 20 do
      dir:configmap { ["a.yaml"] = tostring(i), ["b.yaml"] = "1" }
      notified "*.yaml"
    end
    dir:configmap { ["a.yaml"] = "x", ["c.yaml"] = "new" }
    notified()
    dir:configmap { ["a.yaml"] = "x", ["c.yaml"] = "newer" }
    notified "*.yaml"
  end)

  it("that are exchanged, on the way or at the end, are reported", function()
    dir:write("r1/a", "1")
    dir:write("r2/a", "2")
    dir:link("r1", "current")
    dir:link(dir:at("current/a"), "a")
    set_fenced { "a" }
    dir:link("r2", "current")
    notified "a"
    dir:write("r1/a", "nobody's")
    quiet()
    dir:write("r2/a", "3")
    notified "a"
    dir:link("r1/a", "a")
    notified "a"
    dir:write("r1/a", "ours again")
    notified "a"
  end)

  it("without a target, or in a circle, are watched until they have a target", function()
    dir:link("y", "x")
    dir:link("x", "y")
    dir:link("missing/a", "dead")
    set_fenced { "x", "dead" }
    dir:write("missing/a", "1")
    notified "dead"
    dir:write("z", "1")
    dir:link("z", "y")
    notified "x"
    dir:write("z", "2")
    notified "x"
  end)
end)

describe("a pattern", function()
  it("reports the file that matched", function()
    dir:mkdir("conf.d")
    set_fenced { "conf.d/*.yaml" }
    dir:write("conf.d/a.yaml", "1")
    notified "conf.d/a.yaml"
    dir:save("conf.d/a.yaml", "2")
    notified "conf.d/a.yaml"
    dir:delete("conf.d/a.yaml")
    notified "conf.d/a.yaml"
    dir:write("conf.d/.a.yaml.swp", "x")
    dir:write("conf.d/.b.yaml", "x")
    dir:write("conf.d/a.yaml.bak", "x")
    quiet()
  end)

  it("waits for its folder", function()
    set_fenced { "conf.d/*.yaml" }
    dir:write("conf.d/a.yaml", "1")
    notified()
    dir:write("conf.d/b.yaml", "1")
    notified "conf.d/b.yaml"
  end)

  it("is quick and silent about 20,000 events of files that do not match", function()
    dir:mkdir("big")
    set_fenced { "big/*.yaml", "big/one" }
    for i = 1, 2000 do dir:write("big/" .. i, "") end
    quiet()
    local before = tonumber(C.segue__mem_live())
    for _ = 1, 9 do
      for i = 1, 2000 do touch("big/" .. i) end
      quiet()
    end
    assert.equal(before, tonumber(C.segue__mem_live()))
  end)
end)

describe("a path that is changed in random ways", function()
  -- Another process changes the path in every way, as fast as it can; the last state must be
  -- reported, without the help of a rescan.
  local script = [[
    cd "$1" || exit 1
    n=0
    next() { n=$(( (n * 1103515245 + 12345) % 2147483648 )); op=$(( n / 65536 % 8 )); }
    n=$2
    i=0
    while [ $i -lt 150 ]; do
      i=$((i + 1))
      next
      case $op in
      0) mkdir -p r1/conf; echo $i > r1/conf/a ;;
      1) mkdir -p r2/conf; echo $i > r2/conf/a.new; mv r2/conf/a.new r2/conf/a ;;
      2) ln -sfn r1 t; mv -T t live ;;
      3) ln -sfn r2 t; mv -T t live ;;
      4) rm -rf r3; mv r1 r3 ;;
      5) rm -rf r2 ;;
      6) rm -rf old; mv r2 old; mkdir -p r2/conf; ln -sf "$1/real" r2/conf/a; echo $i > real ;;
      7) rm -f live ;;
      esac 2>/dev/null
    done
    mkdir -p r1/conf
    ln -sfn r1 t; mv -T t live
    echo last-$2 > r1/conf/a
  ]]

  local function is_followed(first, last_seed)
    dir:write("shake.sh", script)
    assert.is_true(set { dir:at("live/conf/a"), dir:at("live/conf/*"), dir:at("real") })
    for seed = first, last_seed do
      local handle, ended
      handle = uv.spawn("sh", { args = { dir:at("shake.sh"), dir.path, tostring(seed) } },
        function() ended = true handle:close() end)
      assert(handle)
      local last, file_told
      loop:run_until(function()
        uv.run("nowait")
        for _, one in ipairs(seen) do file_told = file_told or one == dir:at("live/conf/a") end
        if #seen > 0 then
          seen, last = {}, dir:read("live/conf/a")
        end
        return ended and last == "last-" .. seed .. "\n" and file_told
      end)
    end
  end
  it("is followed to its last state", function() is_followed(1, 1) end)
  it("is followed to its last state by other ways #long", function() is_followed(2, 8) end)
end)

describe("more events than the kernel keeps", function()
  it("make the watch read everything, and it continues", function()
    dir:mkdir("d")
    dir:write("a", "1")
    set_fenced { "a", "d/*.yaml" }
    for i = 1, 1000 do dir:write("d/" .. i .. ".yaml", "x") end
    for _ = 1, 18 do
      for i = 1, 1000 do touch("d/" .. i .. ".yaml") end
    end
    dir:write("a", "2") -- its event is among those that are lost
    notified "ALL"
    assert.truthy(logged[1]:find("max_queued_events", 1, true))
    dir:write("a", "3")
    notified "a"
    dir:write("d/1.yaml", "4")
    notified "d/1.yaml"
  end)
end)

describe("the rescan", function()
  it("finds changes that make no event, and reports nothing where nothing has changed", function()
    dir:write("a", "1")
    dir:write("d/b.yaml", "1")
    C.segue__fault_arm("watch.add=fail:-13")
    assert.is_true(set({ dir:at("a"), dir:at("d/*.yaml") }, 30))
    C.segue__fault_arm(nil)
    dir:write("a", "22")
    notified "ALL"
  end)

  it("finds a change under a mount that covers the watched folder", function()
    dir:write("conf/a", "1")
    dir:write("other/a", "2")
    assert.is_true(set({ dir:at("conf/a") }, 20))
    local mount = ("mount --bind %s %s 2>/dev/null"):format(dir:at("other"), dir:at("conf"))
    if os.execute(mount) == 0 then
      local ok, err = pcall(notified, "ALL")
      if ok then
        dir:write("conf/a", "333")
        ok, err = pcall(notified, "conf/a")
      end
      assert.equal(0, os.execute("umount " .. dir:at("conf")))
      assert(ok, err)
    else
      -- Without the right to mount, a folder that is exchanged behind the kernel's queue stands in.
      C.segue__fault_arm("watch.add=fail:-13")
      assert.is_true(set({ dir:at("conf/a"), dir:at("other/a") }, 20))
      dir:save("other/a", "3333")
      notified "ALL"
    end
  end)

  it("does not report again what an event has reported", function()
    dir:write("a", "1")
    dir:write("d/b.yaml", "1")
    assert.is_true(set({ dir:at("a"), dir:at("d/*.yaml") }, 5))
    dir:write("a", "22")
    notified "a"
    dir:write("d/b.yaml", "22")
    notified "d/b.yaml"
    local rounds, timer = 0, nil
    timer = loop:timer(function()
      rounds = rounds + 1
      timer.start(5)
    end)
    timer.start(5)
    -- A rescan that ran when the file was written may report it once more, not more often.
    loop:run_until(function() return rounds >= 10 end)
    assert.is_true(#seen <= 1)
    seen = {}
    loop:run_until(function() return rounds >= 30 end)
    timer.stop()
    assert.same({}, seen)
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
    set_fenced { "a" }
    write_elsewhere("else/b", "2")
    notified "a"
    dir:save("a", "3")
    notified "a"
    write_elsewhere("else/b", "4") -- not the watched file any more
    quiet()
    dir:delete("a")
    notified "a"
    assert(uv.fs_link(dir:at("else/b"), dir:at("a")))
    notified "a"
    write_elsewhere("else/b", "5")
    notified "a"
    uv.fs_chmod(dir:at("else/b"), 256)
    notified "a"
  end)

  it("is reported through symbolic links and patterns, by the name of the match", function()
    dir:write("else/b", "1")
    dir:mkdir("d")
    dir:write("d/plain.yaml", "1")
    assert(uv.fs_link(dir:at("else/b"), dir:at("d/x.yaml")))
    assert(uv.fs_symlink(dir:at("d/x.yaml"), dir:at("link")))
    set_fenced { "d/*.yaml" }
    write_elsewhere("else/b", "2")
    notified "d/x.yaml"
    assert(uv.fs_link(dir:at("d/plain.yaml"), dir:at("else/plain")))
    assert(uv.fs_link(dir:at("else/plain"), dir:at("d/new.yaml"))) -- both are known from now on
    notified "d/new.yaml"
    write_elsewhere("else/plain", "2")
    notified()
    set_fenced { "link" }
    write_elsewhere("else/b", "3")
    notified "link"
  end)

  it("is reported once for each write, whichever name it has", function()
    dir:write("else/b", "1")
    assert(uv.fs_link(dir:at("else/b"), dir:at("a")))
    set_fenced { "a" }
    for i = 1, 20 do
      write_elsewhere(i % 2 == 0 and "a" or "else/b", tostring(i))
      loop:run_until(function() return #seen > 0 end)
      dir:write("fence", tostring(i))
      loop:run_until(function() return seen[#seen] == dir:at("fence") end)
      assert.same({ dir:at("a"), dir:at("fence") }, seen)
      loop:turn()
      seen = {}
    end
  end)

  it("is not reported while it is written, nor for names that come and go elsewhere", function()
    dir:write("else/b", "1")
    assert(uv.fs_link(dir:at("else/b"), dir:at("a")))
    set_fenced { "a" }
    assert(uv.fs_link(dir:at("else/b"), dir:at("else/c")))
    assert(os.rename(dir:at("else/c"), dir:at("else/d")))
    dir:delete("else/d")
    quiet()
    local file = assert(io.open(dir:at("else/b"), "a"))
    file:write("2")
    file:flush()
    quiet()
    file:close()
    notified "a"
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
      set_fenced { "a", "d/*.yaml" }
      write_elsewhere("else/b", "2")
      loop:run_until(function() return #seen >= 2 end)
      table.sort(seen)
      assert.same({ dir:at("a"), dir:at("d/x.yaml") }, seen)
    end)
    set {}
    for _, target in ipairs(mounted) do assert.equal(0, os.execute("umount " .. dir:at(target))) end
    assert(ok, err)
  end)

  it("is left to the rescan, with one warning, where the limit of watches is reached", function()
    dir:write("else/b", "1")
    assert(uv.fs_link(dir:at("else/b"), dir:at("a")))
    C.segue__fault_arm("watch.file=fail:-28")
    assert.is_true(set({ dir:at("a") }, 10))
    assert.truthy(C.str(C.segue__watch_problem(watch)):find("max_user_watches", 1, true))
    write_elsewhere("else/b", "22")
    notified "ALL"
    dir:save("a", "333") -- the folder is still watched
    notified "a"
    assert.equal(1, #logged)
    C.segue__fault_arm(nil)
    loop:run_until(function() return C.segue__watch_problem(watch) == nil end)
  end)
end)

describe("the kernel's limits", function()
  it("are named, and rescans take over until they are raised", function()
    C.segue__fault_arm("watch.add=fail:-28")
    dir:write("a", "1")
    assert.is_true(set({ dir:at("a") }, 10))
    local problem = C.str(C.segue__watch_problem(watch))
    assert.truthy(problem:find("fs.inotify.max_user_watches", 1, true))
    assert.same({ problem }, logged)
    dir:write("a", "22")
    notified "ALL"
    C.segue__fault_arm(nil)
    loop:run_until(function() return C.segue__watch_problem(watch) == nil end)
    dir:write("a", "1")
    notified "a"
    assert.equal(1, #logged)
  end)

  it("on instances leave a watch that works by rescan alone", function()
    close()
    C.segue__fault_arm("watch.open=fail:-24")
    open()
    C.segue__fault_arm(nil)
    assert.truthy(C.str(C.segue__watch_problem(watch)):find("max_user_instances", 1, true))
    dir:write("a", "1")
    assert.is_true(set({ dir:at("a") }, 10))
    dir:write("a", "22")
    notified "ALL"
  end)
end)

describe("the set", function()
  it("can be replaced: removed paths are silent, kept ones are not touched", function()
    set_fenced { "a", "d/b" }
    set_fenced { "d/b", "c" }
    dir:write("a", "1")
    quiet()
    dir:write("d/b", "1")
    notified "d/b"
    dir:write("c", "1")
    notified "c"
    set_fenced {}
    dir:write("c", "1")
    quiet()
  end)

  it("accepts duplicates, and hundreds of files", function()
    local list = {}
    for i = 1, 500 do
      list[#list + 1] = "d" .. i % 10 .. "/" .. i
      list[#list + 1] = "d" .. i % 10 .. "/" .. i
    end
    set_fenced(list)
    dir:write("d7/17", "1")
    notified "d7/17"
    dir:write("d7/17", "2")
    notified "d7/17"
  end)

  it("stays as it was when memory is out", function()
    set_fenced { "a" }
    local list = names { dir:at("b"), dir:at("fence"), dir:at("x/y/c") }
    local failed = 0
    for k = 1, 100 do
      local e = C.error()
      C.segue__mem_fail_at(k)
      local rc = C.segue__watch_set(watch, list, 0, e)
      C.segue__mem_fail_at(0)
      if rc == 0 then break end
      failed = failed + 1
      assert.equal("ENOMEM", C.err(e).name)
      dir:write("a", tostring(k))
      notified "a"
    end
    C.segue__names_deinit(list)
    assert.is_true(failed > 5)
    dir:write("b", "1")
    notified "b"
  end)

  it("can be replaced, and the watch closed, in the callback", function()
    close()
    local out, calls, closed = ffi.new("segue__watcher *[1]"), 0, false
    local on_closed = loop:cb("void (*)(void *)", function() closed = true end)
    C.check(C.segue__watch_new(out, loop.ptr, log, loop:cb("segue__watch_cb", function()
      calls = calls + 1
      if calls == 1 then
        local list = names { dir:at("b") }
        C.check(C.segue__watch_set(out[0], list, 0, nil))
        C.segue__names_deinit(list)
      else
        C.segue__watch_close(out[0], on_closed, nil)
      end
    end), nil))
    local list = names { dir:at("a"), dir:at("b"), dir:at("c") }
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
    assert.is_true(set { dir:at("conf/a"), dir:at("m"), dir:at("none"), dir:at("conf/*.x") })
    assert.is_true(C.segue__watch_touched_since(watch, past))
    assert.is_false(C.segue__watch_touched_since(watch, future))
  end)

  it("needs a real loop", function()
    local manual, out = Loop.manual(), ffi.new("segue__watcher *[1]")
    assert.equal("ENOTSUP", C.name(C.segue__watch_new(out, manual.ptr, log, nil, nil)))
    manual:close()
  end)
end)
