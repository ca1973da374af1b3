-- SPDX-License-Identifier: MIT
-- kill -9 at every step of a set of files: staged, committed, undone, settled, recovered. After the
-- recovery all files are old, or all are new, and nothing else is in the folder.
local C = require "spec.support.c"
local Tempdir = require "spec.support.tempdir"
local file_set = require "spec.support.file_set"

Tempdir.on_disk()

local old = { a = "old a, which is longer than the new one", b = "old b" }
local next_ = { a = "new a", b = "new b", c = "new c" }
local files = { { "a", next_.a }, { "b", next_.b }, { "c", next_.c } }

describe("a set of files that is killed", function()
  local dir, intent
  before_each(function()
    dir = Tempdir.new()
    intent = dir:at "intent"
    dir:mkdir "live"
    for name, text in pairs(old) do dir:write("live/" .. name, text) end
  end)
  after_each(Tempdir.remove_all)

  local function kill(last, faults)
    local output = file_set.elsewhere(dir:at "live", intent, last, files, faults)
    assert.is_nil(output:find("survived", 1, true), faults .. " was not reached: " .. output)
    assert.is_nil(output:find("luajit:", 1, true), output)
  end

  local function content()
    local found = {}
    for _, name in ipairs(dir:list "live") do
      if name ~= ".segue.lock" then found[name] = dir:read("live/" .. name) end
    end
    return found
  end

  -- faults: as in the process that was killed, such as a file that can only be written in place.
  local function recover(finish, faults)
    if faults and faults ~= "" then C.segue__fault_arm(faults:sub(1, -2)) end
    local ok, _, message = file_set.recover(dir:read "intent", finish)
    C.segue__fault_arm(nil)
    assert(ok, message)
    local found, kept = content(), {}
    for name, text in pairs(found) do
      local of = name:match "^%.(%l)%.changed%-%d+T%d+Z$"
      if of then kept[of], found[name] = text, nil end
    end
    assert.same(finish and next_ or old, found)
    -- No record has the old files, so each may be of another program.
    assert.same(finish and old or {}, kept)
  end

  -- How the file system replaces a file: by exchange, by links, or only in place.
  local ways = { exchange = "", links = "files.exchange=fail:-22,",
    ["in place"] = "files.exchange=fail:-16," }
  local points = {
    exchange = { "files.exchange", "files.exchange#2" },
    links = { "files.exchange.linked", "files.exchange.renamed", "files.exchange.renamed#2" },
    ["in place"] = { "files.overwrite", "files.overwrite.cut", "files.overwrite.cut#2",
      "files.overwrite.sync#2", "files.dirsync#2", "files.dirsync#3" },
  }
  local common = { "files.commit", "files.commit#2", "files.commit#3", "files.move",
    "files.dirsync" }

  for way, faults in pairs(ways) do
    local all = {}
    for _, point in ipairs(common) do all[#all + 1] = point end
    for _, point in ipairs(points[way]) do all[#all + 1] = point end
    for _, point in ipairs(all) do
      it(("at %s, replaced by %s, is undone"):format(point, way), function()
        kill("settle", faults .. point .. "=kill")
        recover(false, faults)
        recover(false, faults)
      end)
    end
    it("in its undo, replaced by " .. way .. ", is undone", function()
      -- The commit syncs a folder once, and once more after each copy.
      local synced = way == "in place" and 3 or 1
      for _, point in ipairs { "files.restore", "files.restore#2", "files.restore#3",
        "files.dirsync#" .. synced + 1, "files.restore.clean", "files.restore.clean#2" } do
        kill("undo", faults .. point .. "=kill")
        recover(false, faults)
      end
    end)
  end

  it("after its commit is finished", function()
    kill("settle", "files.settle=kill")
    recover(true)
    recover(true)
  end)

  it("before it settles keeps the version of another program in the next set", function()
    kill("settle", "files.settle=kill")
    local output = file_set.elsewhere(dir:at "live", intent, "settle", { { "a", "newer" } }, "")
    assert.equal("survived\n", output)
    local kept = {}
    for _, text in pairs(content()) do kept[text] = true end
    assert.is_true(kept[old.a])
  end)

  it("while it is staged leaves names that the next set removes", function()
    for _, point in ipairs { "files.stage.open#2", "files.stage.write#2", "files.stage.sync#3" } do
      kill("settle", point .. "=kill")
      for name, text in pairs(old) do assert.equal(text, dir:read("live/" .. name)) end
    end
    local output = file_set.elsewhere(dir:at "live", intent, "undo", files, "")
    assert.equal("survived\n", output)
    assert.same(old, content())
  end)

  for _, finish in ipairs { false, true } do
    it("in its recovery is " .. (finish and "finished" or "undone"), function()
      for _, point in ipairs { "files.restore", "files.restore#2", "files.restore#3",
        "files.dirsync", "files.restore.clean", "files.restore.clean#3" } do
        for name, text in pairs(old) do dir:write("live/" .. name, text) end
        kill("settle", "files.settle=kill")
        local output = file_set.recover_elsewhere(intent, finish, point .. "=kill")
        assert.is_nil(output:find("true", 1, true), output)
        recover(finish)
        for name in pairs(content()) do dir:delete("live/" .. name) end
      end
    end)
  end
end)
