-- SPDX-License-Identifier: MIT
-- Two files that are written in turn, with the decisions and with the last good generation.
local C = require "spec.support.c"
local Record = require "spec.support.record"
local tempdir = require "spec.support.tempdir"
local ffi = C.ffi

tempdir.on_disk()

local dir
Record.for_each_spec(function(folder) dir = folder end)

local function put(slots, state)
  local d = ffi.new("segue__decisions[1]")
  for key, value in pairs(state) do
    if type(value) == "string" then ffi.copy(d[0][key], value)
    else d[0][key] = value end
  end
  return C.segue__decisions_write(slots, d, nil)
end

local lines -- of the open intents, as get() has read them last
-- The decisions.
local function get(slots)
  local d, found, b = ffi.new("segue__decisions[1]"), ffi.new("segue__journal[1]"),
    ffi.new("segue__buf[1]")
  local rc = C.segue__decisions_read(slots, d, found)
  C.segue__buf_init(b)
  C.segue__journal_write(found, b)
  lines = C.buf(b[0])
  C.segue__buf_deinit(b)
  C.segue__journal_deinit(found)
  return rc == 0 and d[0] or nil, rc < 0 and C.name(rc) or nil
end

local function fresh() return Record.slots(dir.path, "state") end

describe("the decisions on disk", function()
  it("are empty at first", function()
    local d, code = get(fresh())
    assert.is_nil(d)
    assert.equal("ENOENT", code)
  end)

  it("are read back unchanged, with odd characters and large numbers", function()
    local why = 'line one\nline "two"\\n = % \195\164 \1'
    C.check(put(fresh(), { frozen = true, frozen_wall_ms = 1764000000123, frozen_by = "a=b\\",
      frozen_why = why, unconfirmed = true, unconfirmed_generation = -2ull,
      unconfirmed_raw = { lo = 1, hi = -1ull }, unconfirmed_until_wall_ms = -5,
      unconfirmed_reload = -4ull, unconfirmed_trigger = 4, unconfirmed_wall_ms = 1764000000124,
      unconfirmed_cause = "POST /-/reload\nby = \\ me",
      unconfirmed_restores = 12, unconfirmed_sources = { lo = 5, hi = 6 },
      reverted = true, reverted_generation = 8, reverted_reload = 11,
      reverted_raw = { lo = 7, hi = -9ull }, reverted_why = "it\nis sick",
      pinned = true, pinned_generation = 7, pinned_raw = { lo = -3ull, hi = 0 } }))
    local d = get(fresh())
    assert.is_true(d.frozen)
    assert.equal(1764000000123, tonumber(d.frozen_wall_ms))
    assert.equal("a=b\\", ffi.string(d.frozen_by))
    assert.equal(why, ffi.string(d.frozen_why))
    assert.is_true(d.unconfirmed_generation == -2ull)
    assert.is_true(d.unconfirmed_raw.lo == 1 and d.unconfirmed_raw.hi == -1ull)
    assert.equal(-5, tonumber(d.unconfirmed_until_wall_ms))
    assert.is_true(d.unconfirmed_reload == -4ull)
    assert.equal(4, d.unconfirmed_trigger)
    assert.equal(1764000000124, tonumber(d.unconfirmed_wall_ms))
    assert.equal("POST /-/reload\nby = \\ me", ffi.string(d.unconfirmed_cause))
    assert.equal(12, tonumber(d.unconfirmed_restores))
    assert.is_true(d.unconfirmed_sources.lo == 5 and d.unconfirmed_sources.hi == 6)
    assert.is_true(d.reverted)
    assert.equal(8, tonumber(d.reverted_generation))
    assert.equal(11, tonumber(d.reverted_reload))
    assert.is_true(d.reverted_raw.lo == 7 and d.reverted_raw.hi == -9ull)
    assert.equal("it\nis sick", ffi.string(d.reverted_why))
    assert.is_true(d.pinned)
    assert.equal(7, tonumber(d.pinned_generation))
    assert.is_true(d.pinned_raw.lo == -3ull and d.pinned_raw.hi == 0)
  end)

  local function write_text(text)
    local slots = fresh()
    local buf = ffi.new("segue__buf[1]")
    C.segue__buf_init(buf)
    C.segue__two_slot_file_begin(slots, buf)
    C.segue__buf_add(buf, text, #text)
    C.check(C.segue__two_slot_file_write(slots, buf))
    C.segue__buf_deinit(buf)
    return get(fresh())
  end

  it("are one write with the open intents, and each is read without the other", function()
    local text = "intent=files\nintent.module=nginx\nintent.does=a=b\\n\n"
    assert.equal(7, tonumber(write_text("pinned=7\n" .. text .. "later=x\n").pinned_generation))
    assert.equal(text, lines)
    assert.equal(7, tonumber(write_text "pinned=7\n".pinned_generation))
    assert.equal("", lines)
    local b, d = ffi.new("segue__buf[1]"), ffi.new("segue__decisions[1]")
    C.segue__buf_init(b)
    C.segue__buf_adds(b, text)
    d[0].pinned, d[0].pinned_generation = true, 8
    C.check(C.segue__decisions_write(fresh(), d, b))
    C.segue__buf_deinit(b)
    assert.equal(8, tonumber(get(fresh()).pinned_generation))
    assert.equal(text, lines)
  end)

  it("name triggers, and read the numbers that stood for them", function()
    local names = { [0] = "start", "signal", "watch", "http", "control", "poll", "push", "retry" }
    for number, name in pairs(names) do
      for _, text in ipairs { name, tostring(number) } do
        local d = write_text("unconfirmed=9\nunconfirmed_trigger=" .. text .. "\n")
        assert.equal(name, C.str(C.segue__trigger_name(d.unconfirmed_trigger)))
      end
    end
    for _, odd in ipairs { "8", "99999999999999999999", "", "nothing" } do
      assert.equal(0, write_text("unconfirmed=9\nunconfirmed_trigger=" .. odd .. "\n")
        .unconfirmed_trigger)
    end
    C.check(put(fresh(), { unconfirmed = true, unconfirmed_trigger = 4 }))
    assert.truthy(((dir:read "state.a" or "") .. (dir:read "state.b" or ""))
      :find("unconfirmed_trigger=control\n", 1, true))
  end)

  it("of an older version, which did not name the reload, are read unchanged", function()
    local d = write_text "unconfirmed=9\nunconfirmed_until=12\n"
    assert.equal(9, tonumber(d.unconfirmed_generation))
    assert.equal(12, tonumber(d.unconfirmed_until_wall_ms))
    assert.equal(0, tonumber(d.unconfirmed_reload))
    assert.equal("", ffi.string(d.unconfirmed_cause))
  end)

  it("are written in turn, for their owner only, the newest counts", function()
    local slots = fresh()
    for i = 1, 5 do
      C.check(put(slots, { pinned = true, pinned_generation = i }))
      assert.equal(i, tonumber(get(fresh()).pinned_generation))
    end
    for _, slot in ipairs { "state.a", "state.b" } do
      local pipe = io.popen("stat -c %a " .. dir:at(slot))
      assert.equal("600", pipe:read("*l"))
      pipe:close()
    end
    assert.equal("", Record.logged())
  end)

  it("are on the disk itself when the write has succeeded, and so are their names", function()
    local slots = fresh()
    local data, folders = C.spec_fdatasyncs(), C.spec_fsyncs_of_folders()
    for _ = 1, 4 do C.check(put(slots, { frozen = true })) end
    assert.equal(data + 4, C.spec_fdatasyncs())
    assert.equal(folders + 2, C.spec_fsyncs_of_folders()) -- both files were new once
  end)

  local function both()
    local slots = fresh()
    C.check(put(slots, { pinned = true, pinned_generation = 1 })) -- a
    C.check(put(slots, { pinned = true, pinned_generation = 2 })) -- b
  end

  it("of the other state file count when one is damaged anywhere, and that is logged", function()
    both()
    local good = dir:read "state.b"
    for at = 1, #good do
      dir:write("state.b", good:sub(1, at - 1) .. string.char(good:byte(at) == 255 and 0 or 255)
        .. good:sub(at + 1))
      assert.equal(1, tonumber(get(fresh()).pinned_generation))
      assert.matches("warn record: a state file is corrupt %(checksum%): using the other one "
        .. "file=.*state%.b", Record.logged())
    end
    for len = 1, #good - 1 do
      dir:write("state.b", good:sub(1, len))
      assert.equal(1, tonumber(get(fresh()).pinned_generation))
      assert.matches("a state file is corrupt", Record.logged())
    end
  end)

  it("are none when both state files are damaged, and each is logged", function()
    both()
    dir:write("state.a", "x")
    dir:write("state.b", ("y"):rep(100))
    assert.equal("ENOENT", select(2, get(fresh())))
    local _, count = Record.logged():gsub("a state file is corrupt", "")
    assert.equal(2, count)
  end)

  it("continue in the slot that was damaged", function()
    both()
    dir:write("state.b", "x")
    local slots = fresh()
    get(slots)
    C.check(put(slots, { pinned = true, pinned_generation = 3 }))
    assert.equal(3, tonumber(get(fresh()).pinned_generation))
    assert.equal("SEGUEST1", dir:read("state.a"):sub(1, 8))
  end)

  for _, point in ipairs { "state.open", "state.write", "state.sync" } do
    it("stay what they were when " .. point .. " fails", function()
      both()
      local slots = fresh()
      get(slots)
      C.segue__fault_arm(nil)
      C.check(C.segue__fault_arm(point .. "=fail:-28"))
      assert.equal("ENOSPC", C.name(put(slots, { pinned = true, pinned_generation = 3 })))
      assert.equal(1, C.segue__fault_reached(point))
      C.segue__fault_arm(nil)
      assert.equal(2, tonumber(get(fresh()).pinned_generation))
      C.check(put(slots, { pinned = true, pinned_generation = 4 }))
      assert.equal(4, tonumber(get(fresh()).pinned_generation))
    end)
  end

  it("are not written through a symbolic link", function()
    dir:write("victim", "mine")
    dir:link("victim", "state.a")
    assert.equal("ELOOP", C.name(put(fresh(), { frozen = true })))
    assert.equal("mine", dir:read "victim")
  end)
end)

describe("the last good generation on disk", function()
  local function slots() return Record.slots(dir.path, "last-good") end

  local function write(s, info, list)
    local i = ffi.new("segue__last_good[1]", { info })
    local files = Record.files(list)
    local rc = C.segue__last_good_write(s, i, files)
    C.segue__files_unref(files)
    return rc
  end

  local function read(s)
    local info, files = ffi.new("segue__last_good[1]"), ffi.new("segue__files *[1]")
    local rc = C.segue__last_good_read(s, info, files)
    if rc < 0 then
      assert.is_true(files[0] == nil)
      return nil, C.name(rc)
    end
    local numbers = { tonumber(info[0].generation), tonumber(info[0].reload),
      tonumber(info[0].wall_ms), ffi.string(info[0].hash) }
    C.segue__last_good_deinit(info)
    return Record.file_table(files[0]), numbers
  end

  it("is read back byte for byte", function()
    local list = { ["/etc/a.yaml"] = "a: 1\n", ["/b c/'\n\".bin"] = "x\0\255", ["/empty"] = "" }
    for i = 1, 200 do list["/many/" .. i] = ("x"):rep(i) end
    C.check(write(slots(), { generation = 7, reload = 9, wall_ms = 1764000000123,
      hash = ("ab"):rep(16) }, list))
    local found, numbers = read(slots())
    assert.same(list, found)
    assert.same({ 7, 9, 1764000000123, ("ab"):rep(16) }, numbers)
  end)

  it("does not exist at first, and may have no files", function()
    assert.same({ nil, "ENOENT" }, { read(slots()) })
    C.check(write(slots(), { generation = 1 }, {}))
    assert.same({}, (read(slots())))
  end)

  it("fails with ENOMEM wherever memory runs out, never with another error", function()
    C.check(write(slots(), { generation = 1 }, { ["/a"] = "1", ["/b"] = "2" }))
    local s = slots()
    collectgarbage()
    collectgarbage "stop"
    local n = 0
    repeat
      n = n + 1
      local before = tonumber(C.segue__mem_live())
      local info, files = ffi.new("segue__last_good[1]"), ffi.new("segue__files *[1]")
      C.segue__mem_fail_at(n)
      local rc = C.segue__last_good_read(s, info, files)
      C.segue__mem_fail_at(0)
      if rc == 0 then
        C.segue__last_good_deinit(info)
        C.segue__files_unref(files[0])
      else
        assert.equal("ENOMEM", C.name(rc), "allocation " .. n)
      end
      assert.equal(before, tonumber(C.segue__mem_live()), "allocation " .. n)
    until rc == 0
    collectgarbage "restart"
    assert.is_true(n > 5)
  end)
end)
