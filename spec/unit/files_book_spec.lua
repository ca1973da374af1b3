-- SPDX-License-Identifier: MIT
-- The scan of the book of destinations: which files another program has changed.
local C = require "spec.support.c"
local Tempdir = require "spec.support.tempdir"
local file_set = require "spec.support.file_set"
local ffi = C.ffi

describe("a scan of rendered files", function()
  local dir, book
  before_each(function()
    dir = Tempdir.new()
    book = file_set.book(dir:at "record.json")
  end)
  after_each(function()
    C.segue__file_book_free(book)
    Tempdir.remove_all()
  end)

  -- "NAME: HOW" of each file, with "!" where it is fresh.
  local function scan()
    local drifts, list = ffi.new("segue__drifts[1]"), {}
    C.check(C.segue__file_book_scan(book, drifts))
    for i = 0, tonumber(drifts[0].count) - 1 do
      local item = drifts[0].items[i]
      list[#list + 1] = ("%s%s: %s"):format(item.fresh and "!" or "",
        C.str(item.path):match "[^/]+$", ffi.string(item.how))
    end
    C.segue__drifts_deinit(drifts)
    return list
  end

  local function staged(files)
    local set = file_set.new({ book = book, folder = dir.path }, files)
    assert(set:stage())
    return set
  end

  it("finds nothing while a set writes them, and compares them when it is settled", function()
    local first = staged { { "a", "one" }, { "b", "one" } }
    assert(first:commit())
    assert(first:settle())
    local set = staged { { "a", "two" }, { "b", "two" } }
    assert.same({}, scan())
    assert(set:commit())
    assert.same({}, scan())
    assert(set:undo())
    assert.same({}, scan())
    set:free()
    set = staged { { "a", "three" }, { "b", "three" } }
    assert(set:commit())
    assert(set:settle())
    assert.same({}, scan())
    dir:write("b", "theirs")
    assert.same({ "!b: its content was changed" }, scan())
    assert.equal(1, #scan())
    assert.is_nil(scan()[1]:find("!", 1, true))
    dir:write("b", "three")
    assert.same({}, scan())
    set:free()
    first:free()
  end)

  it("finds a change of the same size in the same step of the clock", function()
    local set = staged { { "a", "one" } }
    assert(set:commit())
    assert(set:settle())
    for i = 1, 200 do
      dir:write("a", ("%03d"):format(i))
      assert.same("a: its content was changed", scan()[1]:gsub("!", ""), i)
      dir:write("a", "one")
      assert.same({}, scan(), i)
    end
    set:free()
  end)

  it("finds nothing in files that no set has any more", function()
    local set = staged { { "a", "one" } }
    assert(set:commit())
    assert(set:settle())
    set:free()
    dir:write("a", "theirs")
    assert.same({}, scan())
  end)
end)
