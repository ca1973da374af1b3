-- SPDX-License-Identifier: MIT
-- Files that can only be written in place, because they are mount points: real bind mounts, and
-- another program that writes such a file during the commit. None of its bytes is lost.
local C = require "spec.support.c"
local Tempdir = require "spec.support.tempdir"
local file_set = require "spec.support.file_set"

describe("a file that is written in place", function()
  local dir, intent
  before_each(function()
    dir = Tempdir.new()
    intent = dir:at "intent"
    dir:mkdir "live"
    dir:write("live/a", "old, which is longer")
    dir:write("live/b", "old b")
  end)
  after_each(Tempdir.remove_all)

  local function content()
    local found = {}
    for _, name in ipairs(dir:list "live") do
      if name ~= ".segue.lock" then
        found[name:gsub("%d+T%d+Z.*", "TIME")] = dir:read("live/" .. name)
      end
    end
    return found
  end

  -- Commits { a = "new" } in a process that stops at a point while a command runs in the folder.
  local function meanwhile(point, command, faults, last)
    return file_set.elsewhere(dir:at "live", intent, last or "undo", { { "a", "new" } },
      "files.exchange=fail:-16," .. (faults or "") .. point .. "=stop",
      file_set.while_stopped(("cd %s && %s"):format(dir:at "live", command)))
  end

  it("is not touched where it was changed after its previous version was copied", function()
    local output = meanwhile("files.overwrite#1", "echo theirs > a")
    assert.matches("/a was written by another program at the same time: reload again", output)
    assert.equal("theirs\n", dir:read "live/a")
  end)

  it("makes another program wait until it is written", function()
    local output = meanwhile("files.overwrite.cut#2",
      'echo theirs > a & until grep -q "LEASE.*BREAKING" /proc/locks; do :; done', "", "settle")
    assert.equal("survived\n", output)
    assert.equal("theirs\n", content().a)
  end)

  it("is kept as a copy where another program writes at the same time", function()
    for _, write in ipairs { "echo theirs > a", "printf theirs >> a", "printf T | dd of=a "
      .. "conv=notrunc 2> /dev/null" } do
      dir:write("live/a", "old, which is longer")
      local output = meanwhile("files.overwrite.sync#2", write, "files.overwrite.lease=fail,")
      assert.matches("/a was written by another program at the same time", output)
      local found = content()
      assert.equal("old, which is longer", found.a)
      assert.matches("[tT]", found[".a.changed-TIME"])
      for name in pairs(content()) do
        if name:find "changed" then os.execute("rm " .. dir:at "live" .. "/.a.changed-*") end
      end
    end
  end)

  -- In a mount namespace of its own, in which another file is mounted on a.
  local function mounted(last, faults, before)
    dir:write("source", "old, which is longer")
    return file_set.elsewhere(dir:at "live", intent, last, { { "a", "new" }, { "b", "new b" } },
      faults, ('unshare -m sh -c "mount --bind %s %s && %s && exec \\"\\$@\\"" sh "$@"'):format(
      dir:at "source", dir:at "live/a", before or "true"))
  end

  it("is written on a bind mount, and undone there", function()
    assert.equal("survived\n", mounted("settle", ""))
    assert.equal("new", dir:read "source")
    assert.equal("old, which is longer", dir:read "live/a")
    assert.equal("new b", dir:read "live/b")
    dir:write("live/b", "old b")
    assert.equal("survived\n", mounted("undo", ""))
    assert.equal("old, which is longer", dir:read "source")
    assert.equal("old b", dir:read "live/b")
  end)

  it("is refused on a read-only bind mount before anything is replaced", function()
    local output = mounted("settle", "", "mount -o remount,bind,ro " .. dir:at "live/a")
    assert.matches("/a: .*read%-only", output)
    assert.equal("old b", dir:read "live/b")
    assert.equal("old, which is longer", dir:read "source")
  end)

  it("is undone on a bind mount where it is killed while it is written", function()
    for _, point in ipairs { "files.overwrite", "files.overwrite.cut#2",
      "files.overwrite.sync#2" } do
      mounted("settle", point .. "=kill")
      local pipe = io.popen(("unshare -m sh -c 'mount --bind %s %s && LD_PRELOAD=%s "
        .. "ASAN_OPTIONS=detect_leaks=0 luajit -e \"%s\"' 2>&1"):format(dir:at "source",
        dir:at "live/a", os.getenv("SEGUE_SPEC_PRELOAD") or "", ("local f = require "
        .. "[[spec.support.file_set]]; local i = io.open([[%s]]):read([[*a]]); print(f.recover(i, "
        .. "false))"):format(intent)))
      local output = pipe:read("*a")
      pipe:close()
      assert.matches("^true", output)
      assert.equal("old, which is longer", dir:read "source")
      assert.equal("old b", dir:read "live/b")
    end
  end)
end)

describe("a version of another program", function()
  local dir
  before_each(function() dir = Tempdir.new() end)
  after_each(function()
    C.segue__fault_arm(nil)
    Tempdir.remove_all()
  end)

  local function names()
    local list = {}
    for _, name in ipairs(dir:list()) do
      if name ~= ".segue.lock" then list[#list + 1] = name:gsub("%d+T%d+Z.*", "TIME") end
    end
    return list
  end

  local function set_of(book, file)
    local set = file_set.new({ book = book, folder = dir.path }, { file })
    assert(set:stage())
    return set
  end

  it("has its lasting name when the commit ends where no link can be made", function()
    local book = file_set.book()
    dir:write("a", "theirs")
    dir:link("a", "l")
    C.segue__fault_arm "files.keep.link=fail:-1"
    for _, file in ipairs { { "a", "ours" }, { "l", "ours", replace_link = true } } do
      local set = set_of(book, file)
      assert(set:commit())
      assert.matches("%.changed%-TIME", table.concat(names(), " "))
      assert(set:undo())
      set:free()
      assert.same({ "a", "l" }, names())
    end
    local set = set_of(book, { "a", "ours" })
    assert(set:commit())
    assert(set:settle())
    set:free()
    assert.same({ ".a.changed-TIME", "a", "l" }, names())
    C.segue__file_book_free(book)
  end)

  it("stays where neither a link nor a copy of it can be made", function()
    local book = file_set.book()
    dir:write("a", "theirs")
    C.segue__fault_arm "files.keep.link=fail:-1,files.overwrite.sync=fail:-28"
    local set = set_of(book, { "a", "ours" })
    local ok, code, message = set:commit()
    assert.is_nil(ok)
    assert.equal("ENOSPC", code)
    assert.matches("keep the version of another program.*make room", message)
    C.segue__fault_arm(nil)
    assert(set:undo())
    set:free()
    assert.equal("theirs", dir:read "a")
    assert.same({ "a" }, names())
    C.segue__file_book_free(book)
  end)
end)
