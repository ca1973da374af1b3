-- SPDX-License-Identifier: MIT
-- A folder of generations that another program changes: kept, adopted, never overwritten.
local C = require "spec.support.c"
local file_case = require "spec.support.file_case"
local uv = require "luv"

local ADOPT = 2 -- of removed; of drift
local case, dir
before_each(function()
  case = file_case.open { members = { path = "d" } }
  dir = case.dir
end)
after_each(function() case:close() end)

describe("a folder of generations that another program changes", function()
  -- Stages, commits and settles { "a", "b" } with this text; returns the folders that were kept.
  local function change(text, options)
    case:apply({ { "a", text, mode = 420 }, { "b", text } }, options)
    local kept = {}
    for _, name in ipairs((select(2, case:beside()))) do
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
      local first = case:target()
      hand()
      local kept = change "1" -- the same content: its folder has another name
      assert.equal(first .. "-2", case:target())
      assert.equal("a=1 b=1", case:content())
      assert.equal(1, #kept)
      assert.equal(first, uv.fs_readlink(dir:at(kept[1])))
      assert.equal(1, #change "2")
      assert.same({ first, case:target() }, (case:beside()))
    end)
  end

  it("is back after an undo, with the change", function()
    change "1"
    dir:save("d/a", "9")
    local set = case:new { { "a", "2" }, { "b", "2" } }
    assert(set:stage())
    assert(set:commit())
    assert(set:undo())
    set:free()
    assert.equal("a=9 b=1", case:content())
    assert.same({ { case:target() }, {} }, { case:beside() })
  end)

  it("is no backup", function()
    local options = { members = { path = "d", backups = 1 } }
    change("1", options)
    change("2", options)
    dir:save("d/a", "9")
    local changed = case:target()
    local kept = change("3", options)
    assert.equal(changed, uv.fs_readlink(dir:at(kept[1])))
    assert.equal("a=1 b=1", case:content ".d.backup-1")
  end)

  it("is not there again before the commit where it was removed", function()
    change "1"
    local first = case:target()
    for _, name in ipairs { "a", "b" } do dir:delete(first .. "/" .. name) end
    assert(uv.fs_rmdir(dir:at(first)))
    local set = case:new { { "a", "1" }, { "b", "1" } }
    assert(set:stage())
    assert.is_nil(uv.fs_stat(dir:at "d"))
    assert(set:commit())
    assert.equal("a=1 b=1", case:content())
    assert(set:settle())
    set:free()
    assert.same({ { case:target() }, {} }, { case:beside() })
  end)

  it("is no drift while segue switches it", function()
    local function scan()
      local drifts = C.ffi.new "segue__drifts[1]"
      C.check(C.segue__file_book_scan(case.book, drifts))
      local count = tonumber(drifts[0].count)
      C.segue__drifts_deinit(drifts)
      return count
    end
    local first = case:new { { "a", "1" }, { "b", "1" }, { "c", "1" } }
    assert(first:stage())
    assert(first:commit())
    assert(first:settle())
    for _, last in ipairs { "undo", "settle" } do
      local set = case:new { { "a", "2" }, { "b", "2" } }
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

  it("is drift where it is added, also under a folder that segue does not look at again", function()
    local function scan()
      local drifts, list = C.ffi.new "segue__drifts[1]", {}
      C.check(C.segue__file_book_scan(case.book, drifts))
      for k = 0, tonumber(drifts[0].count) - 1 do
        local item = drifts[0].items[k]
        list[#list + 1] = (item.fresh and "!" or "") .. C.ffi.string(item.how)
      end
      C.segue__drifts_deinit(drifts)
      return list
    end
    local set = case:new { { "a", "1" }, { "b", "1" } }
    assert(set:stage())
    assert(set:commit())
    assert(set:settle())
    assert.same({}, scan())
    dir:save("d/z", "9")
    assert.same({ "!z was added to it" }, scan())
    assert.same({ "z was added to it" }, scan())
    dir:save("d/c", "9")
    dir:save("d/.h", "9")
    assert.same({ "!.h and 2 more were added to it" }, scan())
    for _, name in ipairs { "z", "c", ".h" } do os.remove(dir:at("d/" .. name)) end
    assert.same({}, scan())
    assert(uv.fs_chmod(dir:at "d", 448))
    assert.same({ "!its mode was changed from 0755 to 0700" }, scan())
    assert(uv.fs_chmod(dir:at "d", 493))
    assert(uv.fs_chown(dir:at "d", 1, 2))
    assert.matches("^!its owner was changed from %d+:%d+ to 1:2$", scan()[1])
    set:free()
  end)

  it("is kept for ten changes, and not for ever", function()
    change "0"
    local options = { members = { path = "d", backups = 0 } }
    for i = 1, 13 do
      dir:save("d/pid", "pid " .. i)
      if i == 1 then assert(uv.fs_mkdir(dir:at "d/sub", 493)) end
      case:apply({ { "a", tostring(i) } }, options)
    end
    local count, kept = 0, {}
    for _, name in ipairs(dir:list()) do
      if name:find "%.changed%-" then
        count, kept[dir:read(name .. "/pid")] = count + 1, true
      end
    end
    assert.same({ 11, true, true, true },
      { count, kept["pid 1"], kept["pid 12"], kept["pid 13"] })
    assert.equal(12, #case:beside())
  end)

  it("is kept where it was changed between staging and settling", function()
    change "1"
    local set, first = case:new { { "a", "2" }, { "b", "2" } }, case:target()
    assert(set:stage())
    dir:save("d/a", "9")
    assert(set:commit())
    assert(set:settle())
    assert.matches("%.d%.changed%-", set:get(1).kept)
    set:free()
    assert.equal(first, uv.fs_readlink(dir:at((select(2, case:beside()))[1])))
    assert.equal("a=9 b=1", case:content(first))
  end)

  it("stays where its link was replaced between staging and commit", function()
    change "1"
    dir:mkdir "theirs"
    for _, how in ipairs { "link", "folder", "removed" } do
      local set = case:new { { "a", "2" }, { "b", "2" } }
      assert(set:stage())
      local before = case:target()
      dir:delete "d"
      if how == "link" then dir:link("theirs", "d") end
      if how == "folder" then dir:mkdir "d/x" end
      local ok, code, message = set:commit()
      assert.is_nil(ok)
      assert.equal("SEGUE_EMODULE", code)
      assert.truthy(message:find("/d was changed by another program", 1, true), message)
      assert(set:undo())
      set:free()
      if how == "link" then assert.equal("theirs", case:target()) end
      if how == "folder" then
        assert.same({ "x" }, dir:list "d")
        uv.fs_rmdir(dir:at "d/x")
        uv.fs_rmdir(dir:at "d")
      elseif how == "link" then
        dir:delete "d"
      end
      dir:link(before, "d")
    end
    assert.equal("a=1 b=1", case:content())
  end)

  it("is switched where segue has had the link, and the link of another program is kept", function()
    change "1"
    dir:mkdir "theirs"
    dir:delete "d"
    dir:link("theirs", "d")
    local kept = change "2"
    assert.equal("a=2 b=2", case:content())
    assert.equal("theirs", uv.fs_readlink(dir:at(kept[1])))
    dir:delete "d"
    dir:link(".d.gen-0123456789abcdef", "d") -- to nothing
    change "2"
    assert.equal("a=2 b=2", case:content())
  end)

  it("stays as long as a link of another program leads to it, by its whole path too", function()
    change "1"
    local first = case:target()
    dir:link(dir:at(first), "theirs")
    change "2"
    change "3"
    assert.equal("a=1 b=1", case:content "theirs")
    dir:delete "theirs"
    change "4"
    assert.same({ case:target() }, (case:beside()))
  end)

  it("is left where the policy adopts it, and carried into the next one", function()
    local options = { drift = ADOPT }
    change("1", options)
    dir:save("d/a", "9")
    dir:write("d/c", "9")
    assert.equal(0, case:apply({ { "a", "1" }, { "b", "1" } }, options))
    assert.equal("a=9 b=1 c=9", case:content())
    case:apply({ { "a", "1" }, { "b", "2" } }, options)
    assert.equal("a=9 b=2", case:content())
    assert.equal(0, case:apply({ { "a", "1" }, { "b", "2" } }, options))
    case:apply({ { "a", "3" }, { "b", "2" } }, options)
    assert.equal("a=3 b=2", case:content())
  end)
end)
