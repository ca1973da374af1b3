-- SPDX-License-Identifier: MIT
-- Sets of many files: what is done by several threads, once for each folder, or not at all.
local C = require "spec.support.c"
local file_case = require "spec.support.file_case"
local file_set = require "spec.support.file_set"

local COUNT = 60

describe("a set of many files", function()
  local case, dir
  before_each(function()
    case = file_case.open()
    dir = case.dir
  end)
  after_each(function() case:close() end)

  local function name(n) return ("%s/f%03d"):format(n % 2 == 0 and "even" or "odd", n) end

  local function new(text, changed)
    local files = {}
    for n = 1, COUNT do
      files[n] = { name(n), (not changed or changed[n]) and text .. n or "first" .. n }
    end
    return case:new(files)
  end

  local function has(text, changed)
    for n = 1, COUNT do
      local wanted = (not changed or changed[n]) and text .. n or "first" .. n
      assert.equal(wanted, dir:read(name(n)))
    end
  end

  local function apply(set)
    assert(set:stage())
    assert(set:commit())
    assert(set:settle())
    set:free()
  end

  local function reached(point) return C.segue__fault_reached(point) end

  -- The names in both folders that are no destinations.
  local function others()
    local list = {}
    for _, folder in ipairs { "even", "odd" } do
      for _, one in ipairs(dir:list(folder)) do
        if one ~= ".segue.lock" and not one:match "^f%d+$" then list[#list + 1] = one end
      end
    end
    return list
  end

  it("syncs each file that differs once, and each folder once", function()
    apply(new "first")
    has "first"
    C.segue__fault_arm(nil)
    apply(new("second", { [3] = true, [7] = true, [58] = true }))
    has("second", { [3] = true, [7] = true, [58] = true })
    assert.equal(3, reached "files.stage.sync")
    assert.equal(2, reached "files.dirsync")
    C.segue__fault_arm(nil)
    local set = new("second", { [3] = true, [7] = true, [58] = true })
    assert(set:stage())
    assert.equal(0, set:changed())
    set:free()
    assert.equal(0, reached "files.stage.open")
    assert.same({}, others())
  end)

  it("syncs each folder once in an undo too", function()
    apply(new "first")
    local set = new "second"
    assert(set:stage())
    assert(set:commit())
    has "second"
    C.segue__fault_arm(nil)
    assert(set:undo())
    set:free()
    has "first"
    assert.equal(2, reached "files.dirsync")
    assert.same({}, others())
  end)

  it("keeps both versions of each file until the folder is synced", function()
    apply(new "first")
    local set = new "second"
    assert(set:stage())
    assert(set:commit())
    C.segue__fault_arm("files.dirsync=fail")
    local ok, code = set:undo()
    assert.is_nil(ok)
    assert.equal("EIO", code)
    assert.equal(COUNT, #others())
    C.segue__fault_arm(nil)
    assert(set:undo())
    set:free()
    has "first"
    assert.same({}, others())
  end)

  it("is undone where a folder or a file fails, but for that one", function()
    apply(new "first")
    local set = new "second"
    assert(set:stage())
    assert(set:commit())
    C.segue__fault_arm("files.restore#7=fail")
    assert.is_nil((set:undo()))
    has("second", { [COUNT - 6] = true }) -- in the reverse order
    C.segue__fault_arm(nil)
    assert(set:undo())
    set:free()
    has "first"
  end)

  it("recovers with one sync for each folder", function()
    for _, finish in ipairs { false, true } do
      apply(new "first")
      local set = new "second"
      assert(set:stage())
      assert(set:commit())
      local intent = set:intent()
      C.segue__fault_arm(nil)
      assert(file_set.recover(intent, finish))
      assert.equal(2, reached "files.dirsync")
      has(finish and "second" or "first")
      assert.same({}, others())
      set:free()
    end
  end)

  it("names the first file that cannot be written, and leaves nothing", function()
    for _, point in ipairs { "files.stage.open", "files.stage.write", "files.stage.sync" } do
      for _ = 1, 5 do
        C.segue__fault_arm(point .. "=fail")
        local set = new "first"
        local ok, code, message = set:stage()
        assert.is_nil(ok)
        assert.equal("EIO", code)
        assert.truthy(message:find(name(1), 1, true), message)
        set:free()
        assert.same({}, dir:list())
      end
    end
  end)

  it("refuses a file that stands twice", function()
    local files = {}
    for n = 1, COUNT do files[n] = { name(n), "x" } end
    files[COUNT + 1] = { "odd/../even/f042", "y" }
    local set = case:new(files)
    local ok, code, message = set:stage()
    assert.is_nil(ok)
    assert.equal("SEGUE_EUSAGE", code)
    assert.truthy(message:find("f042", 1, true), message)
    set:free()
  end)

  it("removes the staged files that a killed process has left, and no other file", function()
    apply(new "first")
    local long = ("l"):rep(230)
    dir:write("even/.f002.segue-0123abcd-5", "left")
    dir:write("even/.f004.segue-0123abcd-17.old", "left")
    dir:write("even/." .. long:sub(1, 200) .. ".segue-0123abcd-1", "left")
    dir:write("even/.x.segue-1.segue-0123abcd-1", "left")
    local kept = { "even/.f002.segue-0123abcd", "even/.f003.segue-0123abcd-1",
      "even/.f002.segue-xyz", "odd/.f002.segue-0123abcd-1", "even/f002.segue-0123abcd-1" }
    for _, one in ipairs(kept) do dir:write(one, "not of segue") end
    local files = { { "even/f002", "first2" }, { "even/f004", "first4" }, { "even/" .. long, "x" },
      { "even/x.segue-1", "x" }, { "odd/f001", "first1" } }
    local set = case:new(files)
    assert(set:stage())
    set:free()
    for _, one in ipairs(kept) do
      assert.equal("not of segue", dir:read(one))
      dir:delete(one)
    end
    assert.same({}, others())
  end)
end)
