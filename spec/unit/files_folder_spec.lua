-- SPDX-License-Identifier: MIT
-- A set whose files are in a folder of generations: built beside, switched by one link, undone,
-- settled; its place.
local C = require "spec.support.c"
local file_case = require "spec.support.file_case"
local file_set = require "spec.support.file_set"
local process = require "spec.support.process"
local tempdir = require "spec.support.tempdir"
local uv = require "luv"

tempdir.on_disk()

local KEEP, REMOVE = 0, 1 -- of removed; of drift
local case, dir
before_each(function()
  case = file_case.open { members = { path = "d" } }
  dir = case.dir
end)
after_each(function() case:close() end)

describe("a folder of generations", function()
  it("is built beside the link, switched, and the replaced one goes", function()
    assert.equal(3, case:apply { { "a", "1" }, { "b", "1" } })
    local first = case:target()
    assert.matches("^%.d%.gen%-" .. ("%x"):rep(16) .. "$", first)
    local set = case:new { { "a", "2" }, { "b", "2", mode = 384 } }
    assert(set:stage())
    assert.equal("a=1 b=1", case:content())
    assert.equal("a=2 b=2", case:content(set:get(1).source:match "[^/]+$"))
    assert.equal(dir:at "d/a", set:get(2).path)
    assert(set:commit())
    assert.equal("a=2 b=2", case:content())
    assert.equal("a=1 b=1", case:content(first))
    assert(set:settle())
    set:free()
    assert.same({ { case:target() }, {} }, { case:beside() })
    assert.equal(384, case:mode_of "d/b")
    assert.equal(420, case:mode_of "d/a")
    assert.equal(493, case:mode_of "d")
  end)

  it("is as before after an undo, and the new one goes", function()
    case:apply { { "a", "1" } }
    local set = case:new { { "a", "2" }, { "b", "2" } }
    assert(set:stage())
    assert(set:commit())
    assert(set:undo())
    set:free()
    assert.equal("a=1", case:content())
    assert.same({ { case:target() }, {} }, { case:beside() })
    set = case:new({ { "a", "1" } }, { members = { path = "e" } })
    assert(set:stage())
    assert(set:commit())
    assert(set:undo())
    set:free()
    assert.is_nil(uv.fs_lstat(dir:at "e"))
    assert.same({}, (select(2, case:beside())))
  end)

  it("is not written where it is equal in names, bytes, modes and owner", function()
    case:apply { { "a", "1" }, { "b", "1" } }
    local before = case:target()
    C.segue__fault_arm("files.folder.make=fail:-5")
    assert.equal(0, case:apply { { "b", "1" }, { "a", "1" } })
    case:renew_book()
    assert.equal(0, case:apply { { "a", "1" }, { "b", "1" } })
    assert.equal(before, case:target())
    for _, files in ipairs { { { "a", "1" } }, { { "a", "1" }, { "c", "1" } },
      { { "a", "1" }, { "b", "1", mode = 384 } }, { { "a", "1" }, { "b", "1", owner = "1:1" } },
      { { "a", "1" }, { "b", "1" }, mode = 448 }, { { "a", "1" }, { "b", "1" }, owner = "1:1" } } do
      C.segue__fault_arm(nil)
      C.segue__fault_arm("files.folder.make=fail:-5")
      local set = case:new(files,
        { members = { path = "d", mode = files.mode, owner = files.owner } })
      assert.is_nil((set:stage()))
      set:free()
    end
  end)

  it("has modes and owners of the policy", function()
    case:apply({ { "a", "1", mode = 416, owner = "2:3" } },
      { members = { path = "d", mode = 488, owner = "4:5" } })
    local folder, file = uv.fs_stat(dir:at "d"), uv.fs_stat(dir:at "d/a")
    assert.same({ 488, 4, 5 }, { folder.mode % 4096, folder.uid, folder.gid })
    assert.same({ 416, 2, 3 }, { file.mode % 4096, file.uid, file.gid })
  end)

  it("keeps as many replaced folders as are wanted, and uses one again", function()
    local options = { members = { path = "d", backups = 2 } }
    for i = 1, 4 do case:apply({ { "a", tostring(i) } }, options) end
    local folders, rest = case:beside()
    assert.equal(3, #folders)
    assert.same({ ".d.backup-1", ".d.backup-2" }, rest)
    assert.equal("a=3", case:content ".d.backup-1")
    assert.equal("a=2", case:content ".d.backup-2")
    C.segue__fault_arm("files.folder.make=fail:-5")
    case:apply({ { "a", "2" } }, options)
    C.segue__fault_arm(nil)
    assert.equal("a=2", case:content())
    assert.equal("a=4", case:content ".d.backup-1")
    case:apply({ { "a", "9" } }, { members = { path = "d" } })
    assert.same({ { case:target() }, {} }, { case:beside() })
  end)

  it("does not use one again that another program has changed since", function()
    local options = { members = { path = "d", backups = 1 } }
    for i = 1, 2 do case:apply({ { "a", tostring(i) } }, options) end
    dir:save(".d.backup-1/a", "9")
    case:apply({ { "a", "1" } }, options)
    assert.equal("a=1", case:content())
    case:apply({ { "a", "3" } }, options) -- no backup leads to it any more
    local _, rest = case:beside()
    assert.equal(2, #rest)
    assert.equal("a=9", case:content(rest[2]))
  end)

  it("changes together with files outside of it, and with files that leave it", function()
    case:apply({ { "a", "1" }, { "b", "1" }, { "alone", "1", alone = true } }, { removed = KEEP })
    local set = case:new { { "a", "2" }, { "alone", "2", alone = true } }
    assert(set:stage())
    assert.equal(4, set:changed())
    assert(set:commit())
    assert.equal("a=2", case:content())
    assert.equal("2", dir:read "alone")
    assert(set:undo())
    set:free()
    assert.equal("a=1 b=1", case:content())
    assert.equal("1", dir:read "alone")
    case:apply { { "a", "2" }, { "alone", "2", alone = true } }
    assert.equal("a=2", case:content())
    assert.equal(0, case:apply { { "a", "2" }, { "alone", "2", alone = true } })
  end)

  it("goes or stays with its module, as the policy has it", function()
    local all = { { "a", "1" }, { "b", "1" } }
    for _, removed in ipairs { KEEP, REMOVE } do
      case:apply(all, { removed = removed })
      local set = case:new({}, { removed = removed, members = false })
      assert(set:stage())
      assert.equal(removed == REMOVE and 3 or 0, set:changed())
      assert(set:commit())
      assert.equal(removed == KEEP, uv.fs_lstat(dir:at "d") ~= nil)
      assert(set:undo())
      set:free()
      assert.equal("a=1 b=1", case:content())
      case:apply({}, { removed = removed, members = false })
      assert.equal(removed == KEEP, uv.fs_lstat(dir:at "d") ~= nil)
      assert.equal(removed == KEEP and 1 or 0, #(case:beside()))
    end
  end)

  it("passes to another place in one change", function()
    case:apply({ { "a", "1" } }, { removed = REMOVE })
    case:apply({ { "a", "1" } }, { removed = REMOVE, members = { path = "e" } })
    assert.is_nil(uv.fs_lstat(dir:at "d"))
    assert.equal("a=1", case:content "e")
    assert.same({}, (case:beside()))
  end)

  it("is undone or finished after a crash with the files outside of it that it replaces", function()
    for _, finish in ipairs { false, true } do
      case:apply({ { "a", "1" }, { "b", "1" } }, { removed = REMOVE, members = false })
      local set = case:new({ { "a", "2" } }, { removed = REMOVE })
      assert(set:stage())
      local intent = set:intent()
      assert(set:commit())
      assert.is_nil(uv.fs_lstat(dir:at "b"))
      assert.same({ true, "" }, { file_set.recover(intent, finish) })
      set:free()
      assert.equal(finish, uv.fs_lstat(dir:at "d") ~= nil)
      assert.equal(not finish, uv.fs_lstat(dir:at "b") ~= nil)
      if not finish then assert.equal("11", dir:read "a" .. dir:read "b") end
    end
    assert.equal("a=2", case:content())
  end)

  it("is written for a plan without a lock, and without a name that a daemon could use", function()
    case:apply { { "a", "1" } }
    local set = file_set.new({ folder = dir.path, members = { path = "d" }, plan = true },
      { { "a", "2" } })
    case:add(set)
    assert(set:stage())
    assert.equal("2", dir:read(set:get(2).source:sub(#dir.path + 2)))
    assert.equal(1, #(case:beside()))
    case:apply { { "a", "2" } }
    set:free()
    assert.equal("a=2", case:content())
    assert.same({ { case:target() }, {} }, { case:beside() })
  end)

  it("of 500 files is one switch, and at most two syncs of a file", function()
    local trace = dir:at "trace"
    dir:mkdir "tmp" -- in memory, where a sync costs nothing
    local output = process.run { "unshare", "-m", "sh", "-c", ("mount -t tmpfs none %s && "
      .. "strace -f -o %s -e trace=fsync,fdatasync,renameat2 "
      .. "env ASAN_OPTIONS=detect_leaks=0 LD_PRELOAD=%s luajit -e "
      .. "\"local f, b = require 'spec.support.file_set'; b = f.book(); for n = 1, 2 do "
      .. "local files = {} for i = 1, 500 do files[i] = { 'f' .. i, 'x' .. n } end "
      .. "local s = f.new({ book = b, folder = '%s', members = { path = 'd' } }, files); "
      .. "assert(s:stage()); assert(s:commit()); assert(s:settle()) s:free() end "
      .. "print 'survived'\" && ls %s/d | wc -l"):format(dir:at "tmp", trace,
      os.getenv("SEGUE_SPEC_PRELOAD") or "", dir:at "tmp", dir:at "tmp") }
    assert.truthy(output.stdout:find("survived\n500", 1, true), output:describe())
    local text = dir:read "trace"
    local _, syncs = text:gsub("sync%(", "")
    local _, switches = text:gsub("RENAME_", "")
    assert.equal(2, switches)
    assert.equal(2 * (500 + 3), syncs) -- the folder, its name, and the switch
  end)
end)

describe("the place of a folder of generations", function()
  local function refused(options, files)
    local set = case:new(files or { { "a", "2" } }, options)
    local ok, code, message = set:stage()
    assert.is_nil(ok)
    set:free()
    return code, message
  end

  it("is refused with the remedy where it is a folder, a file or a foreign link", function()
    dir:mkdir "d/in"
    dir:mkdir "other"
    local code, message = refused()
    assert.equal("EISDIR", code)
    assert.matches("it is a real folder.*move it away", message)
    uv.fs_rmdir(dir:at "d/in")
    uv.fs_rmdir(dir:at "d")
    for _, to in ipairs { "other", ".d.gen-1", ".e.gen-0123456789abcdef", ".d.gen-0123456789abcdeg",
      "nowhere" } do
      dir:link(to, "d")
      code, message = refused()
      assert.equal("EEXIST", code)
      assert.truthy(message:find("a symbolic link to " .. to .. ", which segue has not made", 1,
        true), message)
      assert.equal(to, case:target())
      dir:delete "d"
    end
    dir:write("d", "a file")
    code, message = refused()
    assert.equal("EEXIST", code)
    assert.matches("it is a file.*move it away", message)
    dir:delete "d"
    assert.same({ {}, { "other" } }, { case:beside() })
  end)

  it("has one owner among modules and among processes", function()
    local set = case:new { { "a", "1" } }
    assert(set:stage())
    local code, message = refused { module = "other" }
    assert.equal("EBUSY", code)
    assert.matches("/d is written by module 'web' too", message)
    local other = file_set.book()
    code, message = refused { book = other }
    assert.equal("EBUSY", code)
    assert.matches("another segue", message)
    C.segue__file_book_free(other)
  end)

  it("takes no file of another module, by its own path or by a link into it", function()
    case:apply { { "a", "1" } }
    dir:link("d/a", "direct")
    for _, to in ipairs { "d/a", "d/x", "d/sub/x", "direct" } do
      local code, message = refused({ module = "other", members = false }, { { to, "x" } })
      assert.equal("EACCES", code)
      assert.truthy(message:find("changes as a whole", 1, true), message)
      assert.truthy(message:find("remove the symbolic link", 1, true), message)
    end
    local code = refused({ module = "other", members = { path = "d/sub" } }, { { "x", "x" } })
    assert.equal("EACCES", code)
    assert.equal("a=1", case:content())
  end)

  it("must be inside of the root", function()
    dir:mkdir "in"
    local code = refused { root = "in" }
    assert.equal("EACCES", code)
    case:apply({ { "a", "1" } }, { root = "in", members = { path = "in/d" } })
    assert.equal("a=1", case:content "in/d")
  end)

  it("is as before where the disk is full or read-only at any step", function()
    case:apply { { "a", "1" }, { "b", "1" } }
    for _, point in ipairs { "files.folder.make", "files.stage.open#2", "files.stage.write#2",
      "files.stage.sync", "files.folder.sync", "files.folder.rename", "files.dirsync",
      "files.folder.link" } do
      for number, remedy in pairs { [28] = "make room", [30] = "read-only" } do
        C.segue__fault_arm(nil)
        C.segue__fault_arm(("%s=fail:-%d"):format(point, number))
        assert.matches(remedy, (select(2, refused(nil, { { "a", "2" }, { "b", "2" } }))), 1, true)
      end
    end
    assert.equal("a=1 b=1", case:content())
    assert.same({ { case:target() }, {} }, { case:beside() })
  end)

  it("is as before where its parent can only be read", function()
    case:apply { { "a", "1" } }
    local output = process.run { "unshare", "-m", "sh", "-c", ("mount --bind %s %s && mount -o "
      .. "remount,bind,ro %s && exec env ASAN_OPTIONS=detect_leaks=0 LD_PRELOAD=%s luajit -e "
      .. "\"local f = require 'spec.support.file_set'; local s = f.new({ folder = '%s', plan = "
      .. "true, members = { path = 'd' } }, { { 'a', '2' } }); print(s:stage())\""):format(dir.path,
      dir.path, dir.path, os.getenv("SEGUE_SPEC_PRELOAD") or "", dir.path) }
    assert.truthy(output.stdout:find("EROFS", 1, true), output:describe())
    assert.equal("a=1", case:content())
  end)
end)
