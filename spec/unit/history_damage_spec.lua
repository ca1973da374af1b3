-- SPDX-License-Identifier: MIT
-- The history in SQLite where its file is damaged, locked or full, or memory is out: at most
-- entries are lost.
local C = require "spec.support.c"
local Record = require "spec.support.record"
local ffi = C.ffi

local dir, path
Record.for_each_spec(function(folder) dir, path = folder, folder:at "history.db" end)

describe("a history that is damaged", function()
  -- After each kind of damage the file can be opened or is created again, and accepts entries.
  local function survives(reported)
    local h, code = Record.history(path)
    assert.truthy(h, code)
    for i = 101, 103 do
      if h:try_add { id = i, generation = i, paths = { "a" }, files = { ["/f"] = "x" } } ~= 0 then
        -- found only now: the next one begins again
        assert.equal(0, h:try_add { id = i, generation = i, files = { ["/f"] = "x" } })
      end
      h:files(1)
      h:why "a"
    end
    assert.equal(103, h:ids()[1])
    assert.same({ ["/f"] = "x" }, h:files(103))
    h:close()
    if reported then
      assert.matches("the history is damaged: it is renamed and started again", Record.logged())
      assert.truthy(dir:read "history.db.damaged")
    end
  end

  local function bytes(change)
    Record.filled(path, 50):close()
    local text = dir:read "history.db"
    dir:write("history.db", change(text))
  end

  it("is created again when it is no database", function()
    dir:write("history.db", ("no database "):rep(1000))
    survives(true)
  end)

  it("is created again when its header is garbage", function()
    bytes(function(text) return ("\255"):rep(100) .. text:sub(101) end)
    survives(true)
  end)

  it("is created again when it was emptied", function()
    bytes(function() return "" end)
    survives(false)
  end)

  for _, part in ipairs { 0.02, 0.3, 0.5, 0.9 } do
    it(("survives being cut off at %d %%"):format(part * 100), function()
      bytes(function(text) return text:sub(1, math.floor(#text * part)) end)
      survives(false)
    end)
  end

  it("survives garbage anywhere in the middle", function()
    Record.filled(path, 50):close()
    local good = dir:read "history.db"
    for at = 4096, #good - 4096, 4096 do
      os.remove(path .. "-wal")
      os.remove(path .. "-shm")
      dir:write("history.db", good:sub(1, at) .. ("\171\205"):rep(2048) .. good:sub(at + 4097))
      survives(false)
    end
  end)

  it("reports the damage that it finds, and answers the next question", function()
    local h = Record.filled(path, 50)
    local db = Record.connection(path)
    db.run "PRAGMA wal_checkpoint(TRUNCATE)"
    db.close()
    h:close()
    local text = dir:read "history.db"
    dir:write("history.db", text:sub(1, 4096) .. ("\255"):rep(#text - 4096))
    h = assert(Record.history(path))
    h:add { id = 60 }
    assert.same({ 60 }, h:ids())
    assert.matches("it is renamed", Record.logged())
    h:close()
  end)

  it("is not changed when a newer version has written it", function()
    Record.filled(path, 1):close()
    local db = Record.connection(path)
    db.run "PRAGMA user_version=99"
    db.close()
    assert.same({ nil, "ENOTSUP" }, { Record.history(path) })
    assert.is_nil(dir:read "history.db.damaged")
  end)
end)

describe("a history on a disk that fails for a moment", function()
  it("keeps its entries where a page could not be read, and the file is whole", function()
    Record.filled(path, 50):close()
    local h = assert(Record.history(path))
    Record.swap_open_file(path, "/dev/zero")
    assert.not_equal(0, (h:try_add { id = 51 }))
    h:add { id = 52 }
    assert.equal(52, h:ids()[1])
    assert.equal(51, #h:ids())
    assert.matches("could not be read for a moment: it was opened again and is whole",
      Record.logged())
    assert.is_nil(dir:read "history.db.damaged")
    h:close()
  end)

  it("is opened again after an error that does not go away by itself", function()
    local h = Record.filled(path, 3)
    Record.swap_open_file(path .. "-wal", "/dev/null")
    assert.equal("EIO", C.name(h:try_add { id = 4 }))
    h:add { id = 5 }
    assert.same({ 5, 3, 2, 1 }, h:ids())
    h:close()
  end)

  it("is opened again where no descriptor was free to open it", function()
    local h = Record.filled(path, 3)
    Record.swap_open_file(path .. "-wal", "/dev/null")
    assert.equal("EIO", C.name(h:try_add { id = 4 }))
    C.check(C.segue__fault_arm("history.open=fail:-24"))
    assert.equal("EMFILE", C.name(h:try_add { id = 5 }))
    C.segue__fault_arm(nil)
    h:add { id = 6 }
    assert.same({ 6, 3, 2, 1 }, h:ids())
    h:close()
  end)

  it("ends a transaction whose end failed before it begins the next one", function()
    local h = Record.filled(path, 1)
    C.check(C.segue__fault_arm("history.commit=fail:-28,history.rollback=fail:-12"))
    assert.equal("ENOSPC", C.name(h:try_add { id = 2 }))
    C.segue__fault_arm(nil)
    h:add { id = 3 }
    assert.same({ 3, 1 }, h:ids())
    h:close()
  end)
end)

describe("a history that cannot be written", function()
  it("is busy while another process locks it, and not afterwards", function()
    local h = Record.filled(path, 1)
    local db = Record.connection(path)
    db.run "PRAGMA locking_mode=NORMAL; BEGIN IMMEDIATE"
    assert.equal("EBUSY", C.name(h:try_add { id = 2 }))
    assert.same({ 1 }, h:ids()) -- it can be read all the while
    db.run "COMMIT"
    h:add { id = 2 }
    assert.same({ 2, 1 }, h:ids())
    db.close()
    h:close()
  end)

  it("waits within its limit for another process that has it locked when it is opened", function()
    Record.filled(path, 1):close()
    local db = Record.connection(path)
    db.run "PRAGMA journal_mode=DELETE; BEGIN EXCLUSIVE"
    assert.same({ nil, "EBUSY" }, { Record.history(path, 10) })
    db.run "COMMIT"
    db.close()
    assert(Record.history(path)):close()
  end)

  it("reports that its folder is missing", function()
    assert.same({ nil, "ENOENT" }, { Record.history(dir:at "none/history.db") })
  end)

  it("does not follow a symbolic link in its place", function()
    dir:write("victim", "")
    dir:link("victim", "history.db")
    assert.is_nil((Record.history(path)))
    assert.equal("", dir:read "victim")
  end)

  it("is rolled back when its end fails", function()
    local h = Record.filled(path, 1)
    for _, point in ipairs { "history.add", "history.commit" } do
      C.segue__fault_arm(nil) -- forgets what was reached before
      C.check(C.segue__fault_arm(point .. "=fail"))
      assert.equal("EIO", C.name(h:try_add { id = 2, generation = 2, files = { ["/f"] = "2" } }))
      assert.equal(1, C.segue__fault_reached(point))
      C.segue__fault_arm(nil)
      assert.same({ 1 }, h:ids())
      assert.is_nil((h:files(2)))
    end
    h:add { id = 2, generation = 2, files = { ["/f"] = "2" } }
    assert.same({ ["/f"] = "2" }, h:files(2))
    h:close()
  end)
end)

describe("a history without memory", function()
  -- Each allocation of fn fails once; fn answers a code and leaves nothing behind.
  local function starve(fn)
    local n = 0
    collectgarbage()
    collectgarbage "stop"
    repeat
      n = n + 1
      local before = tonumber(C.segue__mem_live())
      C.segue__mem_fail_at(n)
      local rc = fn()
      C.segue__mem_fail_at(0)
      assert.equal(before, tonumber(C.segue__mem_live()), "allocation " .. n .. " left something")
      if rc ~= 0 then assert.equal("ENOMEM", C.name(rc), "allocation " .. n) end
    until rc == 0 or n > 1000
    collectgarbage "restart"
    assert.is_true(n <= 1000)
    return n
  end

  it("answers ENOMEM wherever it runs out", function()
    Record.filled(path, 3):close()
    local numbers = ffi.new("uint64_t[2]")
    local out = ffi.new("segue__history *[1]")
    assert.is_true(starve(function()
      local rc = C.segue__history_open(out, nil, path, 0, numbers, numbers + 1)
      if rc == 0 then C.segue__history_close(out[0]) end
      return rc
    end) > 1)
    local h = assert(Record.history(path))
    local entry = Record.entry { id = 4, generation = 4, format = "json", yaml = '{"a":4}',
      paths = { "a.b" }, files = { ["/f"] = "4" } }
    starve(function() return C.segue__history_add(h.ptr, entry.c) end)
    local files, snapshot = ffi.new("segue__files *[1]"), ffi.new("segue_snapshot *[1]")
    local err = C.error()
    assert.is_true(starve(function()
      local rc = C.segue__history_files(h.ptr, 2, files)
      if rc == 0 then C.segue__files_unref(files[0]) end
      return rc
    end) > 3)
    assert.is_true(starve(function()
      local rc = C.segue__history_snapshot(h.ptr, 2, snapshot, err)
      if rc == 0 then C.segue_snapshot_unref(snapshot[0]) end
      return rc
    end) > 3)
    for _, ask in ipairs {
      function(buf) return C.segue__history_reloads(h.ptr, 10, 0, buf) end,
      function(buf) return C.segue__history_reload(h.ptr, 2, buf) end,
      function(buf) return C.segue__history_why(h.ptr, "a", 0, -1ull, buf) end,
    } do
      starve(function()
        local buf = ffi.new("segue__buf[1]")
        local rc = ask(buf)
        C.segue__buf_deinit(buf)
        return rc
      end)
    end
    h:close()
  end)
end)
