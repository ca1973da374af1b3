-- SPDX-License-Identifier: MIT
-- Sets of files: staged, committed, undone, settled; what stands in the way; other programs.
local C = require "spec.support.c"
local file_case = require "spec.support.file_case"
local file_set = require "spec.support.file_set"
local process = require "spec.support.process"
local tempdir = require "spec.support.tempdir"
local uv = require "luv"

tempdir.on_disk()

local case, dir
before_each(function()
  case = file_case.open()
  dir = case.dir
end)
after_each(function() case:close() end)

-- The names in the folder without the lock file.
local function names(folder)
  local list = {}
  for _, name in ipairs(dir:list(folder)) do
    if name ~= ".segue.lock" then list[#list + 1] = name end
  end
  return list
end

describe("a set of files", function()
  it("is staged beside the live files, committed and settled", function()
    case:apply { { "a", "old a" } }
    local set = case:new { { "a", "new a", mode = 384 }, { dir:at "b", "new b" } }
    assert(set:stage())
    assert.equal(2, set:changed())
    assert.equal("old a", dir:read "a")
    assert.is_nil(dir:read "b")
    local staged = set:get(1).source
    assert.equal(dir.path, staged:match "^(.*)/%.a%.segue%-%x+%-0$")
    assert(set:commit())
    assert.equal("new a", dir:read "a")
    assert.equal("new b", dir:read "b")
    assert.equal(384, case:mode_of "a")
    assert.equal(420, case:mode_of "b")
    assert(set:settle())
    set:free()
    assert.same({ "a", "b" }, names())
  end)

  it("touches nothing that is equal in bytes, mode and owner", function()
    case:apply { { "a", "same", mode = 416 } }
    local before = uv.fs_stat(dir:at "a")
    assert.equal(0, case:apply { { "a", "same" } })
    assert.equal(0, case:apply { { "a", "same", mode = 416, owner = tostring(before.uid) } })
    assert.equal(before.ino, uv.fs_stat(dir:at "a").ino)
    assert.same(before.ctime, uv.fs_stat(dir:at "a").ctime)
    assert.equal(1, case:apply { { "a", "same", mode = 384 } })
    assert.equal(384, case:mode_of "a")
  end)

  it("removes staged files and folders that it made if it is not committed", function()
    local set = case:new { { "x/y/a", "text" }, { "b", "text" } }
    assert(set:stage())
    assert.equal("x", names()[2])
    set:free()
    assert.same({}, names())
  end)

  it("brings back bytes, modes and owners", function()
    dir:write("a", "old")
    uv.fs_chmod(dir:at "a", 416)
    uv.fs_chown(dir:at "a", 65534, 65534)
    local ino = uv.fs_stat(dir:at "a").ino
    local set = case:new { { "a", "new", mode = 420, owner = "root:root" }, { "b", "new" } }
    assert(set:stage())
    assert(set:commit())
    assert.equal(0, uv.fs_stat(dir:at "a").uid)
    assert(set:undo())
    set:free()
    assert.equal("old", dir:read "a")
    local stat = uv.fs_stat(dir:at "a")
    assert.same({ 416, 65534, 65534, ino }, { case:mode_of "a", stat.uid, stat.gid, stat.ino })
    assert.same({ "a" }, names())
  end)

  it("brings back the first files where a later one cannot be moved", function()
    for _, point in ipairs { "files.commit#2", "files.exchange#2", "files.dirsync#1" } do
      dir:write("a", "old a")
      dir:write("b", "old b")
      C.segue__fault_arm(point .. "=fail")
      local set = case:new { { "a", "new" }, { "b", "new" } }
      assert(set:stage())
      local ok, code, message = set:commit()
      assert.is_nil(ok)
      assert.equal("EIO", code)
      assert.truthy(message:find(dir.path, 1, true), message)
      C.segue__fault_arm(nil)
      assert(set:undo())
      set:free()
      assert.same({ "a", "b" }, names())
      assert.equal("old a", dir:read "a")
      assert.equal("old b", dir:read "b")
    end
  end)

  it("is exchanged by links where the file system cannot exchange", function()
    dir:write("a", "old")
    for _, last in ipairs { "undo", "settle" } do
      C.segue__fault_arm("files.exchange=fail:-22")
      local set = case:new { { "a", "new" } }
      assert(set:stage())
      assert(set:commit())
      assert.equal("new", dir:read "a")
      assert(set[last](set))
      set:free()
      assert.equal(last == "undo" and "old" or "new", dir:read "a")
    end
    assert.equal(3, C.segue__fault_reached "files.exchange.renamed") -- two commits, one undo
  end)

  it("keeps a dropped file whose earlier version finds no room, and restores it later", function()
    local RESTORE = 2
    for _, name in ipairs { "a", "b", "c" } do dir:save(name, "before " .. name) end
    local options = { removed = RESTORE }
    case:apply({ { "a", "1" }, { "b", "1" }, { "c", "1" }, { "d", "1" } }, options)
    for _, finish in ipairs { false, true } do
      C.segue__fault_arm "files.stage.before#1=fail:-28"
      local set = case:new({ { "d", "2" } }, options)
      assert(set:stage())
      assert.equal(3, set:changed())
      local intent = set:intent()
      assert(set:commit())
      assert.same({ "1", "before b", "before c", "2" },
        { dir:read "a", dir:read "b", dir:read "c", dir:read "d" })
      C.segue__fault_arm(nil)
      if finish then assert(set:settle()) else assert(file_set.recover(intent, false)) end
      set:free()
      if not finish then
        assert.equal("1111", dir:read "a" .. dir:read "b" .. dir:read "c" .. dir:read "d")
      end
    end
    case:apply({ { "d", "2" } }, options)
    assert.equal("before a", dir:read "a")
    assert.same({ "a", "b", "c", "d" }, names())
  end)

  it("writes a file in place where it is a mount point", function()
    dir:write("a", "old and longer")
    uv.fs_chmod(dir:at "a", 416)
    dir:write("source", "")
    for _, last in ipairs { "undo", "settle" } do
      C.segue__fault_arm("files.exchange=fail:-16")
      local ino = uv.fs_stat(dir:at "a").ino
      local set = case:new { { "a", "new", mode = 384 } }
      assert(set:stage())
      assert(set:commit())
      assert.same({ "new", ino }, { dir:read "a", uv.fs_stat(dir:at "a").ino })
      assert(set[last](set))
      set:free()
      assert.equal(last == "undo" and "old and longer" or "new", dir:read "a")
      assert.equal(last == "undo" and 416 or 384, case:mode_of "a")
    end
  end)

  it("keeps as many backups as are wanted, the newest first", function()
    for n = 1, 5 do case:apply { { "a", "version " .. n, backups = 3 } } end
    assert.same({ ".a.backup-1", ".a.backup-2", ".a.backup-3", "a" }, names())
    assert.equal("version 4", dir:read ".a.backup-1")
    assert.equal("version 2", dir:read ".a.backup-3")
    case:apply { { "a", "version 6", backups = 1 } }
    assert.same({ ".a.backup-1", "a" }, names())
    assert.equal("version 5", dir:read ".a.backup-1")
  end)

  it("keeps the replaced version where its backup cannot be made", function()
    case:apply { { "a", "one" } }
    dir:mkdir ".a.backup-1/full"
    local set = case:new { { "a", "two", backups = 1 } }
    assert(set:stage())
    local staged = set:get(1).source:match "[^/]+$"
    assert(set:commit())
    assert.is_nil((set:settle()))
    set:free()
    assert.same({ "two", "one" }, { dir:read "a", dir:read(staged) })
  end)

  it("has no mode wider than that of its new version while it is written in place", function()
    dir:write("a", "old")
    C.segue__fault_arm("files.exchange=fail:-16,files.overwrite.cut#2=fail")
    local set = case:new { { "a", "secret", mode = 384 } }
    assert(set:stage())
    assert.is_nil((set:commit()))
    assert.same({ "secret", 384 }, { dir:read "a", case:mode_of "a" })
    C.segue__fault_arm(nil)
    C.segue__fault_arm("files.exchange=fail:-16")
    assert(set:undo())
    set:free()
    assert.same({ "old", 420 }, { dir:read "a", case:mode_of "a" })
  end)

  it("follows a symbolic link, or replaces it", function()
    dir:mkdir "real"
    dir:write("real/a", "old")
    dir:link("real/a", "a")
    case:apply { { "a", "followed" } }
    assert.equal("real/a", uv.fs_readlink(dir:at "a"))
    assert.equal("followed", dir:read "real/a")
    local set = case:new { { "a", "replaced", replace_link = true } }
    assert(set:stage())
    assert(set:commit())
    assert.equal("file", uv.fs_lstat(dir:at "a").type)
    assert.equal("replaced", dir:read "a")
    assert(set:undo())
    set:free()
    assert.equal("real/a", uv.fs_readlink(dir:at "a"))
  end)

  it("syncs each file once, and each folder once after all of it", function()
    dir:write("a", "old")
    local trace = dir:at "trace"
    -- A sanitizer's library must come first in that process.
    local output = process.run { "sh", "-c", ("strace -f -o %s -e trace=fsync,fdatasync env "
      .. "ASAN_OPTIONS=detect_leaks=0 LD_PRELOAD=%s luajit -e "
      .. "\"local f = require 'spec.support.file_set'; local s = f.new({ book = f.book(), "
      .. "folder = '%s' }, { { 'a', 'x' }, { 'b', 'x' }, { 'c', 'x' } }); assert(s:stage()); "
      .. "assert(s:commit()); assert(s:settle()); print 'survived'\""):format(trace,
      os.getenv("SEGUE_SPEC_PRELOAD") or "", dir.path) }
    assert.truthy(output.stdout:find("survived", 1, true), output:describe())
    local _, count = dir:read("trace"):gsub("sync%(", "")
    assert.equal(4, count)
  end)
end)

describe("a destination", function()
  local function refused(file, options)
    local set = case:new({ file }, options)
    local ok, code, message = set:stage()
    assert.is_nil(ok)
    set:free()
    return code, message
  end

  it("must be inside of the root", function()
    dir:mkdir "root/in"
    dir:mkdir "out"
    dir:link("../out", "root/link")
    dir:write("out/file", "kept")
    dir:link("../out/file", "root/direct")
    local options = { root = "root", folder = dir.path }
    assert.equal(1, case:apply({ { "root/in/a", "x" } }, options))
    for _, to in ipairs { "out/a", "root/../out/a", "root/link/a", "root/link/b/c", "root/direct",
      "rooted/a", "/root-of-nothing/a" } do
      local code, message = refused({ to, "x" }, options)
      assert.equal("EACCES", code, to)
      assert.truthy(message:find(to, 1, true) and message:find "root", message)
    end
    assert.same({ "file" }, names "out")
    assert.same({ "out", "root" }, names())
  end)

  it("is refused with the reason where a step to it is no folder, inside of a root too", function()
    dir:mkdir "root"
    dir:write("root/file", "x")
    dir:link("loop", "root/loop")
    local options = { root = "root", folder = dir.path }
    assert.equal("ENOTDIR", (refused({ "root/file/a/b", "x" }, options)))
    assert.equal("ELOOP", (refused({ "root/loop/a/b", "x" }, options)))
  end)

  it("is refused with the reason and the remedy", function()
    dir:mkdir "folder"
    assert.equal(0, process.run({ "mkfifo", dir:at "pipe" }).code)
    dir:link("nowhere", "dangling")
    dir:mkdir "folder/\255"
    dir:link("folder/\255", "strange")
    dir:write("file", "x")
    local cases = {
      { "folder", "EISDIR", "is a folder, not a file: move it away" },
      { "folder/", "EISDIR", "name a file in it" },
      { "pipe", "EFTYPE", "pipe" }, { "/dev/null", "EFTYPE", "device" },
      { "dangling", "ENOENT", "symbolic link" }, { "file/a", "ENOTDIR" },
      { "strange/a", "SEGUE_EUSAGE", "has the character" },
      { "", "SEGUE_EUSAGE" }, { "a\nb", "SEGUE_EUSAGE", "control characters" },
      { ("n"):rep(300), "ENAMETOOLONG", "shorter" },
    }
    for _, row in ipairs(cases) do
      local code, message = refused { row[1], "x" }
      assert.equal(row[2], code, message)
      if row[3] then assert.truthy(message:find(row[3], 1, true), message) end
    end
    assert.equal("SEGUE_EUSAGE", (function()
      local set = case:new { { "a", "x" }, { "./a", "y" } }
      local _, code = set:stage()
      return code
    end)())
    local code, message = refused { "a", "x", owner = "no-such-user" }
    assert.equal("ENOENT", code)
    assert.truthy(message:find("no-such-user", 1, true), message)
    assert.same({ "dangling", "file", "folder", "pipe", "strange" }, names())
  end)

  it("is refused where it is immutable, on a full disk or read-only", function()
    dir:write("a", "x")
    assert.equal(0, process.run({ "chattr", "+i", dir:at "a" }).code)
    local code, message = refused { "a", "y" }
    assert.equal(0, process.run({ "chattr", "-i", dir:at "a" }).code)
    assert.equal("EPERM", code)
    assert.matches("immutable.*chattr %-i", message)
    for number, remedy in pairs { [28] = "make room", [30] = "read-only", [122] = "quota" } do
      C.segue__fault_arm(nil)
      C.segue__fault_arm("files.stage.write=fail:-" .. number)
      assert.matches(remedy, (select(2, refused { "a", "y" })), 1, true)
    end
    assert.same({ "a" }, names())
  end)

  it("has one owner among modules and among processes", function()
    local set = case:new({ { "a", "x" }, { "b", "x" } })
    assert(set:stage())
    local code, message = refused({ "a", "y" }, { module = "other" })
    assert.equal("EBUSY", code)
    assert.truthy(message:find("module 'web'", 1, true), message)
    local other = file_set.book() -- a lock belongs to an open file: it is as another process
    code, message = refused({ "b", "y" }, { book = other })
    assert.equal("EBUSY", code)
    assert.truthy(message:find("another segue", 1, true), message)
    local third = case:new({ { "c", "y" } }, { book = other })
    assert(third:stage())
    third:free()
    local again = case:new({ { "a", "z" } }) -- the next instance of the same module
    assert(again:stage())
    set:free()
    assert.equal("EBUSY", (refused({ "a", "y" }, { book = other })))
    again:free()
    assert.equal(1, case:apply({ { "a", "y" } }, { book = other }))
    C.segue__file_book_free(other)
  end)
end)

describe("a file that another program changed", function()
  it("is kept as a copy when it is replaced, and only then", function()
    dir:write("a", "by hand")
    case:apply { { "a", "one" } }
    local list = names()
    assert.equal(2, #list)
    assert.truthy(list[1]:find "^%.a%.changed%-%d+T%d+Z$", list[1])
    assert.equal("by hand", dir:read(list[1]))
    case:apply { { "a", "two" } }
    assert.equal(2, #names())
    dir:write("a", "by hand again")
    case:apply { { "a", "three" } }
    assert.equal(3, #names())
    assert.equal("three", dir:read "a")
  end)

  it("is noticed after a restart too", function()
    local record = dir:at "record.json"
    local first = file_set.book(record)
    case:apply({ { "x/a", "one" }, { "x/b", "one" } }, { book = first })
    C.segue__file_book_free(first)
    dir:write("x/b", "by hand")
    local second = file_set.book(record)
    case:apply({ { "x/a", "two" }, { "x/b", "two" } }, { book = second })
    C.segue__file_book_free(second)
    local list = names "x"
    assert.equal(3, #list)
    assert.truthy(list[1]:find "^%.b%.changed", list[1])
  end)

  it("stays where it was changed between staging and commit", function()
    case:apply { { "a", "one" }, { "b", "one" } }
    local set = case:new { { "a", "two" }, { "b", "two" } }
    assert(set:stage())
    dir:write("b", "by hand")
    local ok, code, message = set:commit()
    assert.is_nil(ok)
    assert.equal("SEGUE_EMODULE", code)
    assert.truthy(message:find("/b was changed by another program", 1, true), message)
    assert(set:undo())
    set:free()
    assert.equal("by hand", dir:read "b")
    assert.equal("one", dir:read "a")
    assert.same({ "a", "b" }, names())
  end)

  it("stays where it was replaced by a folder between staging and commit", function()
    case:apply { { "a", "one" }, { "b", "one" } }
    local set = case:new { { "a", "two" }, { "b", "two" } }
    assert(set:stage())
    dir:delete "b"
    dir:mkdir "b/in"
    local ok, code, message = set:commit()
    assert.is_nil(ok)
    assert.equal("SEGUE_EMODULE", code)
    assert.truthy(message:find("/b was changed by another program", 1, true), message)
    assert(set:undo())
    set:free()
    assert.equal("one", dir:read "a")
    assert.same({ "in" }, dir:list "b")
    assert.same({ "a", "b" }, names())
  end)

  it("stays where it can only be written in place", function()
    case:apply { { "a", "one" } }
    C.segue__fault_arm("files.exchange=fail:-16")
    local set = case:new { { "a", "two" } }
    assert(set:stage())
    dir:write("a", "by hand")
    local ok, code, message = set:commit()
    assert.is_nil(ok)
    assert.equal("SEGUE_EMODULE", code)
    assert.truthy(message:find("/a was changed by another program", 1, true), message)
    assert.equal("by hand", dir:read "a")
    assert(set:undo())
    set:free()
    assert.equal("by hand", dir:read "a")
    assert.same({ "a" }, names())
  end)

  it("stays where it was made or removed between staging and commit", function()
    dir:write("b", "old")
    for _, change in ipairs { "make", "remove" } do
      local set = case:new { change == "make" and { "a", "two" } or { "b", "two" } }
      assert(set:stage())
      if change == "make" then dir:write("a", "by hand") else dir:delete "b" end
      local ok, _, message = set:commit()
      assert.is_nil(ok)
      assert.truthy(message:find("by another program", 1, true), message)
      assert(set:undo())
      set:free()
    end
    assert.same({ "a" }, names())
    assert.equal("by hand", dir:read "a")
  end)

  it("is kept where it was changed between commit and undo", function()
    case:apply { { "a", "one" } }
    local set = case:new { { "a", "two" } }
    assert(set:stage())
    assert(set:commit())
    dir:save("a", "by hand")
    assert(set:undo())
    assert.equal("one", dir:read "a")
    assert.equal("by hand", dir:read(set:get(1).kept:match "[^/]+$"))
    set:free()
  end)
end)
