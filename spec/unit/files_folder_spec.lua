-- SPDX-License-Identifier: MIT
-- A set whose files are in a folder of generations: built beside, switched by one link, undone,
-- settled; what stands in the way; changes of other programs.
local C = require "spec.support.c"
local Tempdir = require "spec.support.tempdir"
local file_set = require "spec.support.file_set"
local process = require "spec.support.process"
local uv = require "luv"

local KEEP, REMOVE, ADOPT = 0, 1, 2 -- of removed; of drift
local dir, book, live, fds, sets
before_each(function()
  dir = Tempdir.new()
  live, fds = tonumber(C.segue__mem_live()), C.os_harness_open_fds()
  book, sets = file_set.book(), {}
end)
after_each(function()
  C.segue__fault_arm(nil)
  for _, set in ipairs(sets) do if set.c then set:free() end end
  C.segue__file_book_free(book)
  assert.equal(live, tonumber(C.segue__mem_live()))
  assert.equal(fds, C.os_harness_open_fds())
  Tempdir.remove_all()
end)

-- options.members: of the folder, or false.
local function new(files, options)
  options = options or {}
  local members = options.members
  if members == nil then members = { path = "d" } end
  local set = file_set.new({ book = options.book or book, folder = dir.path, drift = options.drift,
    module = options.module, removed = options.removed, root = options.root, plan = options.plan,
    members = members or nil }, files)
  sets[#sets + 1] = set
  return set
end

local function apply(files, options)
  local set = new(files, options)
  assert(set:stage())
  assert(set:commit())
  assert(set:settle())
  local changed = set:changed()
  set:free()
  return changed
end

-- "a=1 b=2" of the folder that the link leads to, or of another one.
local function content(folder)
  local list = {}
  for _, name in ipairs(dir:list(folder or "d")) do
    list[#list + 1] = name .. "=" .. dir:read((folder or "d") .. "/" .. name)
  end
  return table.concat(list, " ")
end

-- Folders of generations, and all other names but those of the link and the lock.
local function beside()
  local folders, rest = {}, {}
  for _, name in ipairs(dir:list()) do
    if name:find "^%.d%.gen%-%x+" then folders[#folders + 1] = name
    elseif name ~= "d" and name ~= ".segue.lock" then rest[#rest + 1] = name end
  end
  return folders, rest
end

local function target() return uv.fs_readlink(dir:at "d") end
local function mode_of(name) return assert(uv.fs_stat(dir:at(name))).mode % 4096 end

describe("a folder of generations", function()
  it("is built beside the link, switched, and the replaced one goes", function()
    assert.equal(3, apply { { "a", "1" }, { "b", "1" } })
    local first = target()
    assert.matches("^%.d%.gen%-" .. ("%x"):rep(16) .. "$", first)
    local set = new { { "a", "2" }, { "b", "2", mode = 384 } }
    assert(set:stage())
    assert.equal("a=1 b=1", content())
    assert.equal("a=2 b=2", content(set:get(1).source:match "[^/]+$"))
    assert.equal(dir:at "d/a", set:get(2).path)
    assert(set:commit())
    assert.equal("a=2 b=2", content())
    assert.equal("a=1 b=1", content(first))
    assert(set:settle())
    set:free()
    assert.same({ { target() }, {} }, { beside() })
    assert.equal(384, mode_of "d/b")
    assert.equal(420, mode_of "d/a")
    assert.equal(493, mode_of "d")
  end)

  it("is as before after an undo, and the new one goes", function()
    apply { { "a", "1" } }
    local set = new { { "a", "2" }, { "b", "2" } }
    assert(set:stage())
    assert(set:commit())
    assert(set:undo())
    set:free()
    assert.equal("a=1", content())
    assert.same({ { target() }, {} }, { beside() })
    set = new({ { "a", "1" } }, { members = { path = "e" } })
    assert(set:stage())
    assert(set:commit())
    assert(set:undo())
    set:free()
    assert.is_nil(uv.fs_lstat(dir:at "e"))
    assert.same({}, (select(2, beside())))
  end)

  it("is not written where it is equal in names, bytes, modes and owner", function()
    apply { { "a", "1" }, { "b", "1" } }
    local before = target()
    C.segue__fault_arm("files.folder.make=fail:-5")
    assert.equal(0, apply { { "b", "1" }, { "a", "1" } })
    local other = file_set.book()
    C.segue__file_book_free(book)
    book = other
    assert.equal(0, apply { { "a", "1" }, { "b", "1" } })
    assert.equal(before, target())
    for _, files in ipairs { { { "a", "1" } }, { { "a", "1" }, { "c", "1" } },
      { { "a", "1" }, { "b", "1", mode = 384 } }, { { "a", "1" }, { "b", "1", owner = "1:1" } },
      { { "a", "1" }, { "b", "1" }, mode = 448 }, { { "a", "1" }, { "b", "1" }, owner = "1:1" } } do
      C.segue__fault_arm(nil)
      C.segue__fault_arm("files.folder.make=fail:-5")
      local set = new(files, { members = { path = "d", mode = files.mode, owner = files.owner } })
      assert.is_nil((set:stage()))
      set:free()
    end
  end)

  it("has modes and owners of the policy", function()
    apply({ { "a", "1", mode = 416, owner = "2:3" } },
      { members = { path = "d", mode = 488, owner = "4:5" } })
    local folder, file = uv.fs_stat(dir:at "d"), uv.fs_stat(dir:at "d/a")
    assert.same({ 488, 4, 5 }, { folder.mode % 4096, folder.uid, folder.gid })
    assert.same({ 416, 2, 3 }, { file.mode % 4096, file.uid, file.gid })
  end)

  it("keeps as many replaced folders as are wanted, and uses one again", function()
    local options = { members = { path = "d", backups = 2 } }
    for i = 1, 4 do apply({ { "a", tostring(i) } }, options) end
    local folders, rest = beside()
    assert.equal(3, #folders)
    assert.same({ ".d.backup-1", ".d.backup-2" }, rest)
    assert.equal("a=3", content ".d.backup-1")
    assert.equal("a=2", content ".d.backup-2")
    C.segue__fault_arm("files.folder.make=fail:-5")
    apply({ { "a", "2" } }, options)
    C.segue__fault_arm(nil)
    assert.equal("a=2", content())
    assert.equal("a=4", content ".d.backup-1")
    apply({ { "a", "9" } }, { members = { path = "d" } })
    assert.same({ { target() }, {} }, { beside() })
  end)

  it("does not use one again that another program has changed since", function()
    local options = { members = { path = "d", backups = 1 } }
    for i = 1, 2 do apply({ { "a", tostring(i) } }, options) end
    dir:save(".d.backup-1/a", "9")
    apply({ { "a", "1" } }, options)
    assert.equal("a=1", content())
    apply({ { "a", "3" } }, options) -- no backup leads to it any more
    local _, rest = beside()
    assert.equal(2, #rest)
    assert.equal("a=9", content(rest[2]))
  end)

  it("changes together with files outside of it, and with files that leave it", function()
    apply({ { "a", "1" }, { "b", "1" }, { "alone", "1", alone = true } }, { removed = KEEP })
    local set = new { { "a", "2" }, { "alone", "2", alone = true } }
    assert(set:stage())
    assert.equal(4, set:changed())
    assert(set:commit())
    assert.equal("a=2", content())
    assert.equal("2", dir:read "alone")
    assert(set:undo())
    set:free()
    assert.equal("a=1 b=1", content())
    assert.equal("1", dir:read "alone")
    apply { { "a", "2" }, { "alone", "2", alone = true } }
    assert.equal("a=2", content())
    assert.equal(0, apply { { "a", "2" }, { "alone", "2", alone = true } })
  end)

  it("goes or stays with its module, as the policy has it", function()
    local all = { { "a", "1" }, { "b", "1" } }
    for _, removed in ipairs { KEEP, REMOVE } do
      apply(all, { removed = removed })
      local set = new({}, { removed = removed, members = false })
      assert(set:stage())
      assert.equal(removed == REMOVE and 3 or 0, set:changed())
      assert(set:commit())
      assert.equal(removed == KEEP, uv.fs_lstat(dir:at "d") ~= nil)
      assert(set:undo())
      set:free()
      assert.equal("a=1 b=1", content())
      apply({}, { removed = removed, members = false })
      assert.equal(removed == KEEP, uv.fs_lstat(dir:at "d") ~= nil)
      assert.equal(removed == KEEP and 1 or 0, #(beside()))
    end
  end)

  it("passes to another place in one change", function()
    apply({ { "a", "1" } }, { removed = REMOVE })
    apply({ { "a", "1" } }, { removed = REMOVE, members = { path = "e" } })
    assert.is_nil(uv.fs_lstat(dir:at "d"))
    assert.equal("a=1", content "e")
    assert.same({}, (beside()))
  end)

  it("is written for a plan without a lock, and without a name that a daemon could use", function()
    apply { { "a", "1" } }
    local set = file_set.new({ folder = dir.path, members = { path = "d" }, plan = true },
      { { "a", "2" } })
    sets[1] = set
    assert(set:stage())
    assert.equal("2", dir:read(set:get(2).source:sub(#dir.path + 2)))
    assert.equal(1, #(beside()))
    apply { { "a", "2" } }
    set:free()
    assert.equal("a=2", content())
    assert.same({ { target() }, {} }, { beside() })
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
    local set = new(files or { { "a", "2" } }, options)
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
      assert.equal(to, target())
      dir:delete "d"
    end
    dir:write("d", "a file")
    code, message = refused()
    assert.equal("EEXIST", code)
    assert.matches("it is a file.*move it away", message)
    dir:delete "d"
    assert.same({ {}, { "other" } }, { beside() })
  end)

  it("has one owner among modules and among processes", function()
    local set = new { { "a", "1" } }
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
    apply { { "a", "1" } }
    dir:link("d/a", "direct")
    for _, to in ipairs { "d/a", "d/x", "d/sub/x", "direct" } do
      local code, message = refused({ module = "other", members = false }, { { to, "x" } })
      assert.equal("EACCES", code)
      assert.truthy(message:find("changes as a whole", 1, true), message)
    end
    local code = refused({ module = "other", members = { path = "d/sub" } }, { { "x", "x" } })
    assert.equal("EACCES", code)
    assert.equal("a=1", content())
  end)

  it("must be inside of the root", function()
    dir:mkdir "in"
    local code = refused { root = "in" }
    assert.equal("EACCES", code)
    apply({ { "a", "1" } }, { root = "in", members = { path = "in/d" } })
    assert.equal("a=1", content "in/d")
  end)

  it("is as before where the disk is full or read-only at any step", function()
    apply { { "a", "1" }, { "b", "1" } }
    for _, point in ipairs { "files.folder.make", "files.stage.open#2", "files.stage.write#2",
      "files.stage.sync", "files.folder.sync", "files.folder.rename", "files.dirsync",
      "files.folder.link" } do
      for number, remedy in pairs { [28] = "make room", [30] = "read-only" } do
        C.segue__fault_arm(nil)
        C.segue__fault_arm(("%s=fail:-%d"):format(point, number))
        assert.matches(remedy, (select(2, refused(nil, { { "a", "2" }, { "b", "2" } }))), 1, true)
      end
    end
    assert.equal("a=1 b=1", content())
    assert.same({ { target() }, {} }, { beside() })
  end)

  it("is as before where its parent can only be read", function()
    apply { { "a", "1" } }
    local output = process.run { "unshare", "-m", "sh", "-c", ("mount --bind %s %s && mount -o "
      .. "remount,bind,ro %s && exec env ASAN_OPTIONS=detect_leaks=0 LD_PRELOAD=%s luajit -e "
      .. "\"local f = require 'spec.support.file_set'; local s = f.new({ folder = '%s', plan = "
      .. "true, members = { path = 'd' } }, { { 'a', '2' } }); print(s:stage())\""):format(dir.path,
      dir.path, dir.path, os.getenv("SEGUE_SPEC_PRELOAD") or "", dir.path) }
    assert.truthy(output.stdout:find("EROFS", 1, true), output:describe())
    assert.equal("a=1", content())
  end)
end)

describe("a folder of generations that another program changes", function()
  -- Stages, commits and settles { "a", "b" } with this text; returns the folders that were kept.
  local function change(text, options)
    apply({ { "a", text, mode = 420 }, { "b", text } }, options)
    local kept = {}
    for _, name in ipairs((select(2, beside()))) do
      if name:find "^%.d%.changed%-" then kept[#kept + 1] = name end
    end
    return kept
  end

  local hands = {
    ["by bytes"] = function() dir:save("d/a", "9") end,
    ["by a mode"] = function() uv.fs_chmod(dir:at "d/a", 384) end,
    ["by a new file"] = function() dir:write("d/c", "9") end,
    ["by a removed file"] = function() dir:delete "d/a" end,
    ["by a folder"] = function() dir:delete "d/a"; dir:mkdir "d/a" end,
    ["by its own mode"] = function() uv.fs_chmod(dir:at "d", 448) end,
  }
  for how, hand in pairs(hands) do
    it("is kept under a name of its own: " .. how, function()
      change "1"
      local first = target()
      hand()
      local kept = change "1" -- the same content: its folder has another name
      assert.equal(first .. "-2", target())
      assert.equal("a=1 b=1", content())
      assert.equal(1, #kept)
      assert.equal(first, uv.fs_readlink(dir:at(kept[1])))
      assert.equal(1, #change "2")
      assert.same({ first, target() }, (beside()))
    end)
  end

  it("is back after an undo, with the change", function()
    change "1"
    dir:save("d/a", "9")
    local set = new { { "a", "2" }, { "b", "2" } }
    assert(set:stage())
    assert(set:commit())
    assert(set:undo())
    set:free()
    assert.equal("a=9 b=1", content())
    assert.same({ { target() }, {} }, { beside() })
  end)

  it("is no backup", function()
    local options = { members = { path = "d", backups = 1 } }
    change("1", options)
    change("2", options)
    dir:save("d/a", "9")
    local changed = target()
    local kept = change("3", options)
    assert.equal(changed, uv.fs_readlink(dir:at(kept[1])))
    assert.equal("a=1 b=1", content ".d.backup-1")
  end)

  it("is not there again before the commit where it was removed", function()
    change "1"
    local first = target()
    for _, name in ipairs { "a", "b" } do dir:delete(first .. "/" .. name) end
    assert(uv.fs_rmdir(dir:at(first)))
    local set = new { { "a", "1" }, { "b", "1" } }
    assert(set:stage())
    assert.is_nil(uv.fs_stat(dir:at "d"))
    assert(set:commit())
    assert.equal("a=1 b=1", content())
    assert(set:settle())
    set:free()
    assert.same({ { target() }, {} }, { beside() })
  end)

  it("is no drift while segue switches it", function()
    local function scan()
      local drifts = C.ffi.new "segue__drifts[1]"
      C.check(C.segue__file_book_scan(book, drifts))
      local count = tonumber(drifts[0].count)
      C.segue__drifts_deinit(drifts)
      return count
    end
    local first = new { { "a", "1" }, { "b", "1" }, { "c", "1" } }
    assert(first:stage())
    assert(first:commit())
    assert(first:settle())
    for _, last in ipairs { "undo", "settle" } do
      local set = new { { "a", "2" }, { "b", "2" } }
      assert(set:stage())
      assert(set:commit())
      assert.equal(0, scan())
      assert(set[last](set))
      assert.equal(0, scan())
      dir:save("d/a", "9")
      assert.equal(1, scan())
      if last == "undo" then dir:save("d/a", "1") end
      set:free()
    end
  end)

  it("is kept where it was changed between staging and settling", function()
    change "1"
    local set, first = new { { "a", "2" }, { "b", "2" } }, target()
    assert(set:stage())
    dir:save("d/a", "9")
    assert(set:commit())
    assert(set:settle())
    assert.matches("%.d%.changed%-", set:get(1).kept)
    set:free()
    assert.equal(first, uv.fs_readlink(dir:at((select(2, beside()))[1])))
    assert.equal("a=9 b=1", content(first))
  end)

  it("stays where its link was replaced between staging and commit", function()
    change "1"
    dir:mkdir "theirs"
    for _, how in ipairs { "link", "folder", "removed" } do
      local set = new { { "a", "2" }, { "b", "2" } }
      assert(set:stage())
      local before = target()
      dir:delete "d"
      if how == "link" then dir:link("theirs", "d") end
      if how == "folder" then dir:mkdir "d/x" end
      local ok, code, message = set:commit()
      assert.is_nil(ok)
      assert.equal("SEGUE_EMODULE", code)
      assert.truthy(message:find("/d was changed by another program", 1, true), message)
      assert(set:undo())
      set:free()
      if how == "link" then assert.equal("theirs", target()) end
      if how == "folder" then
        assert.same({ "x" }, dir:list "d")
        uv.fs_rmdir(dir:at "d/x")
        uv.fs_rmdir(dir:at "d")
      elseif how == "link" then
        dir:delete "d"
      end
      dir:link(before, "d")
    end
    assert.equal("a=1 b=1", content())
  end)

  it("is switched where segue has had the link, and the link of another program is kept", function()
    change "1"
    dir:mkdir "theirs"
    dir:delete "d"
    dir:link("theirs", "d")
    local kept = change "2"
    assert.equal("a=2 b=2", content())
    assert.equal("theirs", uv.fs_readlink(dir:at(kept[1])))
    dir:delete "d"
    dir:link(".d.gen-0123456789abcdef", "d") -- to nothing
    change "2"
    assert.equal("a=2 b=2", content())
  end)

  it("stays as long as a link of another program leads to it, by its whole path too", function()
    change "1"
    local first = target()
    dir:link(dir:at(first), "theirs")
    change "2"
    change "3"
    assert.equal("a=1 b=1", content "theirs")
    dir:delete "theirs"
    change "4"
    assert.same({ target() }, (beside()))
  end)

  it("is left where the policy adopts it, and carried into the next one", function()
    local options = { drift = ADOPT }
    change("1", options)
    dir:save("d/a", "9")
    dir:write("d/c", "9")
    assert.equal(0, apply({ { "a", "1" }, { "b", "1" } }, options))
    assert.equal("a=9 b=1 c=9", content())
    apply({ { "a", "1" }, { "b", "2" } }, options)
    assert.equal("a=9 b=2", content())
    assert.equal(0, apply({ { "a", "1" }, { "b", "2" } }, options))
    apply({ { "a", "3" }, { "b", "2" } }, options)
    assert.equal("a=3 b=2", content())
  end)
end)
