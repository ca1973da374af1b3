-- SPDX-License-Identifier: MIT
-- Memory that runs out at each single allocation of a set of files. A version that could not be
-- read or compared is not one of another program: no copy of it stays, and nothing is reported.
local C = require "spec.support.c"
local Tempdir = require "spec.support.tempdir"
local file_set = require "spec.support.file_set"
local ffi = C.ffi

local REMOVE, RESTORE = 1, 2 -- of removed
local dir, book, live
before_each(function()
  dir = Tempdir.new()
  live = tonumber(C.segue__mem_live())
  book = file_set.book(dir:at "record")
end)
after_each(function()
  C.segue__mem_fail_at(0)
  C.segue__fault_arm(nil)
  C.segue__file_book_free(book)
  assert.equal(live, tonumber(C.segue__mem_live()))
  Tempdir.remove_all()
end)

local first, made -- requests for memory when `arm` was called, and until `disarm`
local function arm(n)
  first = tonumber(C.segue__mem_calls())
  C.segue__mem_fail_at(n)
end
local function disarm()
  made = tonumber(C.segue__mem_calls()) - first
  C.segue__mem_fail_at(0)
end

-- Calls act(n), which arms n and disarms, for each allocation that it needs; returns their number.
local function each_allocation(act)
  local n = 0
  repeat
    n = n + 1
    act(n)
    assert.is_true(n < 1000, "there is no end of allocations")
  until made < n
  return n - 1
end

local function new(files, options)
  local members = options.members
  return file_set.new({ book = book, folder = dir.path, members = members and { path = members },
    removed = options.removed, module = options.module }, files)
end

local function apply(files, options)
  local set = new(files, options or {})
  assert(set:stage())
  assert(set:commit())
  assert(set:settle())
  set:free()
end

-- One try without the memory of allocation n: staged and committed, then undone or settled.
local function try(n, files, options)
  local set = new(files, options)
  arm(n)
  local staged = set:stage()
  local ok = staged and set:commit()
  if ok and not options.undo then
    set:settle()
  elseif staged then
    local undone = set:undo()
    if not undone then
      C.segue__mem_fail_at(0)
      assert(set:undo())
    end
  end
  set:free()
  disarm()
  return ok and not options.undo
end

local function text(name)
  local file = io.open(dir:at(name))
  if not file then return nil end
  local all = file:read "*a"
  file:close()
  return all
end

local function changed()
  for _, name in ipairs(dir:list()) do
    if name:find("changed", 1, true) then return name end
  end
end

describe("memory that runs out at one allocation of a set of files", function()
  for title, options in pairs {
    ["in a folder of generations"] = { members = "d", at = "d/" },
    ["in a folder of generations that is undone"] = { members = "d", at = "d/", undo = true },
    ["of their own"] = { at = "" },
    ["of their own that are undone"] = { at = "", undo = true } } do
    it("leaves no copy of files " .. title, function()
      local now = "0"
      apply({ { "a", now }, { "b", now } }, options)
      local failed = each_allocation(function(n)
        local next = tostring(n)
        if try(n, { { "a", next }, { "b", next } }, options) then now = next end
        assert.equal(now, dir:read(options.at .. "a"))
        assert.equal(now, dir:read(options.at .. "b"))
        assert.is_nil(changed(), "allocation " .. n)
        apply({ { "a", now }, { "b", now } }, options) -- removes what the settle has left
      end)
      assert.is_true(failed > 30, failed)
      apply({ { "a", "end" }, { "b", "end" } }, options)
      assert.is_nil(changed())
      assert.equal("end", dir:read(options.at .. "b"))
    end)
  end

  it("leaves no copy of a folder that the process, or the disk, cannot read", function()
    local options = { members = "d" }
    apply({ { "a", "1" } }, options)
    for code, message in pairs { [5] = "i/o error", [24] = "too many open files" } do
      C.segue__fault_arm(("files.folder.read=fail:-%d"):format(code))
      local set = new({ { "a", "2" } }, options)
      local ok, _, reason = set:stage()
      assert.is_nil(ok)
      assert.truthy(reason:find("cannot read the folder of " .. dir:at "d", 1, true), reason)
      assert.truthy(reason:find(message, 1, true), reason)
      set:free()
      C.segue__fault_arm(nil)
    end
    apply({ { "a", "2" } }, options)
    assert.is_nil(changed())
  end)

  it("removes and restores dropped files, or leaves them to the next try", function()
    for _, removed in ipairs { REMOVE, RESTORE } do
      each_allocation(function(n)
        dir:save("own", "before")
        apply({ { "own", "segue" }, { "made", "segue" } }, { removed = removed })
        try(n, {}, { removed = removed })
        apply({}, { removed = removed })
        assert.equal(removed == RESTORE and "before" or nil, text "own", "allocation " .. n)
        assert.is_nil(text "made")
        if removed == RESTORE then assert.is_nil(changed(), "allocation " .. n) end
        for _, name in ipairs(dir:list()) do
          if name:find("own", 1, true) then os.remove(dir:at(name)) end
        end
      end)
    end
  end)

  it("fails to recover a set, and recovers it the next time", function()
    for _, finish in ipairs { true, false } do
      for _, members in ipairs { false, "d-" .. tostring(finish) } do
        local at = members and members .. "/" or ""
        local options = { members = members or nil, module = at .. tostring(finish) }
        local one, two = "a-" .. tostring(finish), "b-" .. tostring(finish)
        apply({ { one, "0" }, { two, "0" } }, options)
        each_allocation(function(n)
          local set = new({ { one, tostring(n) }, { two, "x" .. n } }, options)
          local before = dir:read(at .. one)
          assert(set:stage())
          local intent = set:intent()
          assert(set:commit())
          arm(n)
          local ok, report = file_set.recover(intent, finish)
          disarm()
          if not ok then ok, report = file_set.recover(intent, finish) end
          assert.is_true(ok)
          assert.equal("", report)
          assert.equal(finish and tostring(n) or before, dir:read(at .. one), "allocation " .. n)
          if finish then set:settle() end
          set:free()
          assert.is_nil(changed(), "allocation " .. n)
        end)
      end
    end
  end)

  it("brings back a file that another program has changed since, and keeps that version", function()
    apply { { "a", "0" } }
    each_allocation(function(n)
      local set = new({ { "a", tostring(n) } }, {})
      assert(set:stage())
      local intent = set:intent()
      assert(set:commit())
      dir:save("a", "third")
      arm(n)
      local ok = file_set.recover(intent, false)
      disarm()
      if not ok then assert(file_set.recover(intent, false)) end
      set:free()
      assert.equal("0", dir:read "a", "allocation " .. n)
      local name = changed()
      assert.equal("third", name and dir:read(name), "allocation " .. n)
      os.remove(dir:at(name))
    end)
  end)

  it("fails to read the record, and forgets no file of it", function()
    apply { { "a", "1" }, { "b", "1" } }
    local failed = each_allocation(function(n)
      local out = ffi.new("segue__file_book *[1]")
      arm(n)
      local rc = C.segue__file_book_new(out, dir:at "record")
      disarm()
      local other = rc == 0 and out[0] or nil
      if other then
        local version = ffi.new("segue__file_version[1]")
        for _, name in ipairs { "a", "b" } do
          assert.is_true(C.segue__file_book_known(other, dir:at(name), version), "allocation " .. n)
        end
        C.segue__file_book_free(other)
      else
        assert.equal(-12, rc)
      end
    end)
    assert.is_true(failed > 5, failed)
  end)

  it("reports no drift without one, and each drift once", function()
    apply { { "a", "1" }, { "b", "1" } }
    local function scan()
      local drifts, fresh = ffi.new("segue__drifts[1]"), 0
      local rc = C.segue__file_book_scan(book, drifts)
      for i = 0, tonumber(drifts[0].count) - 1 do
        fresh = fresh + (drifts[0].items[i].fresh and 1 or 0)
      end
      C.segue__drifts_deinit(drifts)
      return rc, fresh
    end
    local set = new({ { "a", "1" }, { "b", "1" } }, {})
    assert(set:stage())
    assert.same({ 0, 0 }, { scan() })
    each_allocation(function(n)
      arm(n)
      local rc, fresh = scan()
      disarm()
      if rc == 0 then assert.equal(0, fresh, "allocation " .. n) end
    end)
    each_allocation(function(n)
      dir:save("a", "drift " .. n)
      dir:save("b", "drift " .. n)
      arm(n)
      local rc, fresh = scan()
      disarm()
      if rc ~= 0 then rc, fresh = scan() end
      assert.same({ 0, 2 }, { rc, fresh }, "allocation " .. n)
    end)
    set:free()
  end)
end)
