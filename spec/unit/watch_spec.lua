-- SPDX-License-Identifier: MIT
-- Watching files: every way in which they change is seen, nothing else is.
local C = require "spec.support.c"
local WatchCase = require "spec.support.watch_case"
local uv = require "luv"

local w, dir, loop
before_each(function()
  w = WatchCase.open()
  dir, loop = w.dir, w.loop
end)
after_each(function() w:close() end)

describe("a watched file", function()
  it("is reported when it is written, saved by rename, removed and created again", function()
    dir:write("a", "1")
    w:set_fenced { "a" }
    dir:write("a", "2")
    w:notified "a"
    for i = 1, 5 do
      dir:save("a", tostring(i))
      w:notified "a"
    end
    dir:delete("a")
    w:notified "a"
    dir:write("a", "3")
    w:notified "a"
    uv.fs_chmod(dir:at("a"), 256)
    w:notified "a"
  end)

  it("is reported once for each batch, however often it was written", function()
    w:set_fenced { "a" }
    for _ = 1, 500 do
      local file = io.open(dir:at("a"), "a")
      file:write("x")
      file:close()
    end
    loop:run_until(function() return #w.seen > 0 end)
    dir:write("fence", "1")
    loop:run_until(function() return w.seen[#w.seen] == dir:at("fence") end)
    assert.is_true(#w.seen <= 3 + 1, #w.seen .. " times, with the fence")
  end)

  it("is reported when it is linked or moved there complete", function()
    w:set_fenced { "a" }
    dir:write("else/b", "x")
    assert(uv.fs_link(dir:at("else/b"), dir:at("a")))
    w:notified "a"
    assert(os.rename(dir:at("a"), dir:at("c")))
    w:notified "a"
  end)

  it("is not reported when it is only read, or while it is still being written", function()
    dir:write("a", "1")
    w:set_fenced { "a" }
    assert.equal("1", dir:read("a"))
    local file = io.open(dir:at("a"), "a")
    file:write("2")
    file:flush()
    w:quiet()
    file:close()
    w:notified "a"
  end)

  it("is reported by the name in the policy, also relative to the current folder", function()
    local here = uv.cwd()
    assert(uv.chdir(dir.path))
    assert.is_true(w:set { "./a", "b" })
    assert(uv.chdir(here))
    dir:write("a", "1")
    loop:run_until(function() return w.seen[1] == "./a" end)
    dir:write("b", "1")
    loop:run_until(function() return w.seen[2] == "b" end)
  end)

  it("is not confused with others in its folder, nor with temporary files of editors", function()
    dir:write("app.yaml", "1")
    w:set_fenced { "app.yaml" }
    for _, name in ipairs { ".app.yaml.swp", "app.yaml~", "4913", "#app.yaml#", "app.yam", "x" } do
      dir:write(name, "x")
      dir:delete(name)
    end
    dir:mkdir("sub")
    w:quiet()
  end)
end)

describe("a path that is not there yet", function()
  it("is reported when it appears, one folder after the other", function()
    w:set_fenced { "x/y/z/a" }
    dir:mkdir("x")
    dir:mkdir("x/y")
    loop:turn()
    dir:mkdir("x/y/z")
    loop:turn()
    w.seen = {}
    dir:write("x/y/z/a", "1")
    w:notified "x/y/z/a"
    dir:write("x/y/z/a", "2")
    w:notified "x/y/z/a"
  end)

  it("is reported when all of its folders appear at once", function()
    for i = 1, 50 do
      local path = "t" .. i .. "/y/a"
      w:set_fenced { path }
      dir:write(path, "1") -- folders and file before the loop turns
      w:notified(path)
      dir:write(path, "2")
      w:notified(path)
    end
  end)

  it("is reported when its folder is moved into place", function()
    dir:write("next/a", "1")
    w:set_fenced { "conf/a" }
    assert(os.rename(dir:at("next"), dir:at("conf")))
    w:notified "conf/a"
    dir:write("conf/a", "2")
    w:notified "conf/a"
  end)
end)

describe("a folder", function()
  it("that is moved away and created again is followed by its name", function()
    dir:write("conf/a", "1")
    w:set_fenced { "conf/a" }
    assert(os.rename(dir:at("conf"), dir:at("old")))
    w:notified "conf/a"
    dir:write("old/a", "not ours any more")
    w:quiet()
    dir:write("conf/a", "2")
    w:notified "conf/a"
    dir:write("conf/a", "3")
    w:notified "conf/a"
  end)

  it("far above that is replaced is noticed", function()
    dir:write("v1/etc/app/a", "1")
    dir:write("v2/etc/app/a", "2")
    assert(os.rename(dir:at("v1"), dir:at("live")))
    w:set_fenced { "live/etc/app/a" }
    assert(os.rename(dir:at("live"), dir:at("v1")))
    assert(os.rename(dir:at("v2"), dir:at("live")))
    w:notified "live/etc/app/a"
    dir:write("live/etc/app/a", "3")
    w:notified "live/etc/app/a"
    dir:write("v1/etc/app/a", "old")
    w:quiet()
  end)

  it("that is removed with its content, and created again, is followed", function()
    dir:write("conf/d/a", "1")
    w:set_fenced { "conf/d/a" }
    for i = 1, 20 do
      dir:delete("conf")
      w:notified "conf/d/a"
      dir:write("conf/d/a", tostring(i))
      w:notified "conf/d/a"
    end
  end)

  it("on the way to the file that is busy causes no work", function()
    dir:write("busy/conf/a", "1")
    w:set_fenced { "busy/conf/a" }
    for i = 1, 100 do dir:write("busy/" .. i, "x") end
    w:quiet()
    dir:write("busy/conf/a", "2")
    w:notified "busy/conf/a"
  end)
end)

describe("a pattern", function()
  it("reports the file that matched", function()
    dir:mkdir("conf.d")
    w:set_fenced { "conf.d/*.yaml" }
    dir:write("conf.d/a.yaml", "1")
    w:notified "conf.d/a.yaml"
    dir:save("conf.d/a.yaml", "2")
    w:notified "conf.d/a.yaml"
    dir:delete("conf.d/a.yaml")
    w:notified "conf.d/a.yaml"
    dir:write("conf.d/.a.yaml.swp", "x")
    dir:write("conf.d/.b.yaml", "x")
    dir:write("conf.d/a.yaml.bak", "x")
    w:quiet()
  end)

  it("waits for its folder", function()
    w:set_fenced { "conf.d/*.yaml" }
    dir:write("conf.d/a.yaml", "1")
    w:notified()
    dir:write("conf.d/b.yaml", "1")
    w:notified "conf.d/b.yaml"
  end)

  it("is quick and silent about 20,000 events of files that do not match", function()
    dir:mkdir("big")
    w:set_fenced { "big/*.yaml", "big/one" }
    for i = 1, 2000 do dir:write("big/" .. i, "") end
    w:quiet()
    local before = tonumber(C.segue__mem_live())
    for _ = 1, 9 do
      for i = 1, 2000 do w:touch("big/" .. i) end
      w:quiet()
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
    assert.is_true(w:set { dir:at("live/conf/a"), dir:at("live/conf/*"), dir:at("real") })
    for seed = first, last_seed do
      local handle, ended
      handle = uv.spawn("sh", { args = { dir:at("shake.sh"), dir.path, tostring(seed) } },
        function() ended = true handle:close() end)
      assert(handle)
      local last, file_told
      loop:run_until(function()
        uv.run("nowait")
        for _, one in ipairs(w.seen) do file_told = file_told or one == dir:at("live/conf/a") end
        if #w.seen > 0 then
          w.seen, last = {}, dir:read("live/conf/a")
        end
        return ended and last == "last-" .. seed .. "\n" and file_told
      end)
    end
  end
  it("is followed to its last state", function() is_followed(1, 1) end)
  it("is followed to its last state by other ways #long", function() is_followed(2, 8) end)
end)
