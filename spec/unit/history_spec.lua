-- SPDX-License-Identifier: MIT
-- The history in SQLite: what is added is found again, and it stays within its bounds. Damage,
-- locks and missing memory: history_damage_spec.lua.
local C = require "spec.support.c"
local Record = require "spec.support.record"
local cjson = require "cjson"
local document = require "spec.support.document"
local ffi = C.ffi

local dir, path
Record.for_each_spec(function(folder) dir, path = folder, folder:at "history.db" end)

local function mode(name)
  local pipe = io.popen("stat -c %a " .. dir:at(name))
  local text = pipe:read("*l")
  pipe:close()
  return text
end

describe("the history", function()
  it("returns its entries, newest first, by page and by number", function()
    local h = assert(Record.history(path))
    assert.equal(0, h.generation)
    assert.equal(0, h.reload)
    assert.same({}, h:reloads())
    for i = 1, 5 do
      h:add { id = i, outcome = i % 2 == 0 and "rejected" or "applied" }
    end
    assert.same({ 5, 4, 3, 2, 1 }, h:ids())
    assert.same({ 5, 4 }, h:ids(2))
    assert.same({ 3, 2 }, h:ids(2, 4))
    assert.same({}, h:ids(2, 1))
    assert.same({}, h:ids(0))
    assert.same({ id = 3, detail = true }, h:one(3))
    assert.same({ nil, "ENOENT" }, { h:one(6) })
    assert.same({ nil, "ENOENT" }, { h:one(-1ull) })
    h:close()
  end)

  it("knows its highest numbers when it is opened again", function()
    Record.filled(path, 3):close()
    local h = assert(Record.history(path))
    assert.same({ 3, 3 }, { h.generation, h.reload })
    assert.equal('{"a":2}', h:snapshot(2))
    h:close()
  end)

  it("reads the numbers that stood for formats before they had names", function()
    local h = assert(Record.history(path))
    h:add { id = 1, generation = 1, yaml = "a: 0x10\n" }
    h:close()
    local db = Record.connection(path)
    db.run "DELETE FROM document WHERE format <> 'yaml'"
    db.run "UPDATE document SET format = 0"
    db.close()
    h = assert(Record.history(path))
    assert.equal('{"a":16}', h:snapshot(1))
    h:close()
    db = Record.connection(path)
    db.run "UPDATE document SET format = 'toml'"
    db.close()
    h = assert(Record.history(path))
    assert.same({ nil, "EINVAL" }, { h:snapshot(1) })
    h:close()
  end)

  it("is readable only by its owner", function()
    local h = Record.filled(path, 2)
    for _, name in ipairs { "history.db", "history.db-wal", "history.db-shm" } do
      assert.equal("600", mode(name))
    end
    h:close()
  end)

  it("returns files and configuration of a generation, also odd ones", function()
    local odd = { ["/a b/'quoted\".yaml"] = "x\0y\n", ["/empty"] = "", ["/\195\164"] = "\255\254" }
    local h = assert(Record.history(path))
    h:add { id = 1, generation = 1, yaml = "a: [1, {b: \"\\u00e4\"}]\nc: 12345678901234567890\n",
      files = odd }
    assert.same(odd, h:files(1))
    assert.equal('{"a":[1,{"b":"\195\164"}],"c":12345678901234567890}', h:snapshot(1))
    assert.same({ nil, "ENOENT" }, { h:files(2) })
    assert.same({ nil, "ENOENT" }, { h:snapshot(2) })
    h:close()
  end)

  it("stores the expanded values of a document with variables, not their names", function()
    local h = assert(Record.history(path))
    local entry = Record.entry { id = 1, generation = 1, yaml = "a: 1\n", files = {} }
    local config = document.merge((function()
      local doc = document.new("a: ${X}\n", { expand = true })
      assert(document.read(doc, { env = { X = "7" } }))
      return doc
    end)())
    local out = ffi.new("segue_snapshot *[1]")
    C.check(C.segue__snapshot_new(out, 1, config))
    entry.c[0].snapshot = out[0]
    C.check(C.segue__history_add(h.ptr, entry.c))
    C.segue_snapshot_unref(out[0])
    assert.equal('{"a":7}', h:snapshot(1))
    h:close()
  end)

  it("distinguishes a generation with unknown files from one that is not kept", function()
    local h = Record.filled(path, 2)
    h:add { id = 3, generation = 3, yaml = "a: 3\n" }
    assert.same({ nil, "ENOENT" }, { h:files(3) })
    assert.equal('{"a":3}', h:snapshot(3))
    assert.equal(2, h:before(-1ull))
    assert.equal(1, h:before(2))
    assert.same({ nil, "ENOENT" }, { h:before(1) })
    h:close()
  end)

  it("keeps each content once", function()
    local h = Record.filled(path, 20, { files = { ["/big"] = ("0123456789"):rep(100000) } })
    h:close()
    local pipe = io.popen("stat -c %s " .. path)
    assert.is_true(tonumber(pipe:read("*l")) < 3000000)
    pipe:close()
  end)
end)

describe("why a value is what it is", function()
  local h
  local function changes(...)
    h = assert(Record.history(path))
    for i, paths in ipairs { ... } do
      h:add { id = 10 + i, generation = i, paths = paths, more = paths.more }
    end
  end
  after_each(function() h:close() end)

  local function why(of, till)
    local found, code = h:why(of, till)
    return found and { found.generation, found.path } or code
  end

  it("is the last change of it, of a member of it, or of a container of it", function()
    changes({ "a.b", "x" }, { "a.c" }, { "a" }, { "a.b.d[2].e" }, { "y" })
    assert.same({ 4, "a.b.d[2].e" }, why "a.b.d[2].e")
    assert.same({ 4, "a.b.d[2].e" }, why "a.b.d[2]")
    assert.same({ 4, "a.b.d[2].e" }, why "a.b")
    assert.same({ 4, "a.b.d[2].e" }, why "a")
    assert.same({ 3, "a" }, why "a.c") -- the map above it was replaced
    assert.same({ 3, "a" }, why "a.b.d[1]")
    assert.same({ 1, "x" }, why "x.y.z")
    assert.equal("ENOENT", why "z")
    assert.equal("ENOENT", why "")
  end)

  it("is as of a generation", function()
    changes({ "a.b" }, { "a.c" }, { "a" }, { "a.b" })
    assert.same({ 3, "a" }, why("a.b", 3))
    assert.same({ 2, "a.c" }, why("a", 2))
    assert.same({ 1, "a.b" }, why("a.b", 2))
    assert.equal("ENOENT", why("a.c", 1))
    assert.equal("ENOENT", why("a", 0))
  end)

  it("is not mistaken for names that only begin alike", function()
    changes({ "a.b" }, { "a.bc" }, { "a.b-c" }, { "ab" }, { "a.b0" })
    assert.same({ 1, "a.b" }, why "a.b")
    assert.same({ 5, "a.b0" }, why "a")
  end)

  it("distinguishes separators from those inside quotes", function()
    changes({ 'a."b.c[0]".d' }, { 'a."q\\".x".y' }, { 'a.b' })
    assert.same({ 1, 'a."b.c[0]".d' }, why 'a."b.c[0]"')
    assert.same({ 1, 'a."b.c[0]".d' }, why 'a."b.c[0]".d.e')
    assert.same({ 2, 'a."q\\".x".y' }, why 'a."q\\".x"')
    assert.same({ 3, "a.b" }, why "a.b.c")
    assert.equal("ENOENT", why 'a."b')
  end)

  it("treats wildcards in paths as plain characters", function()
    changes({ "a.b" })
    for _, wild in ipairs { "%", "a%", "a.b'; DROP TABLE change; --", ("x."):rep(400),
      "\255\254", "[", ".", "a..b", '"' } do
      assert.equal("ENOENT", why(wild))
    end
    assert.same({ 1, "a.b" }, why "a.b")
  end)

  it("returns whether a later change may have been omitted", function()
    changes({ "a" }, { "b", more = true }, { "c" })
    assert.is_false(h:why("a").exact)
    assert.is_true(h:why("b").exact)
    assert.is_true(h:why("c").exact)
    assert.is_true(h:why("a", 1).exact)
  end)

  it("names the reload, as long as its entry exists", function()
    changes({ "a" })
    assert.equal(11, h:why("a").reload.id)
    local db = Record.connection(path)
    db.run "DELETE FROM reload"
    db.close()
    assert.equal(require("cjson").null, h:why("a").reload)
  end)

  it("is found fast among a hundred thousand changes", function()
    changes({ "deep.old" })
    local db = Record.connection(path)
    db.run [[
      WITH RECURSIVE n(i) AS (SELECT 2 UNION ALL SELECT i + 1 FROM n WHERE i < 100000)
      INSERT INTO change SELECT 'deep', 1, i, 'deep.k' || i FROM n UNION ALL
      SELECT 'deep.k' || i, 0, i, NULL FROM n]]
    db.close()
    -- what counts is how it is looked for, not how long that takes on a loaded machine
    local pipe = assert(io.popen(("sqlite3 %s \"EXPLAIN QUERY PLAN SELECT generation, "
      .. "coalesce(what, path) FROM change WHERE path='deep' AND below=1 AND generation <= 5 "
      .. "ORDER BY generation DESC LIMIT 1\" 2>&1"):format(path)))
    local plan = pipe:read("*a")
    pipe:close()
    assert.matches("SEARCH change USING PRIMARY KEY %(path=%? AND below=%? AND generation<%?%)",
      plan)
    assert.is_nil(plan:find "TEMP B%-TREE")
    assert.same({ 100000, "deep.k100000" }, why "deep")
    assert.same({ 77, "deep.k77" }, why "deep.k77")
  end)
end)

describe("the audit of requests", function()
  it("is returned, newest first, unchanged, also with odd names", function()
    local h = assert(Record.history(path))
    assert.same({}, h:audits())
    h:audit { path = "/-/reload?force=1", method = "POST", who = "token ops", reload = 7,
      peer = "10.0.0.7:1", wall_ms = 1764000000123 }
    h:audit { path = '/"\195\164\255', status = 401, refused = true, folded = 3,
      wall_ms = 86400999 }
    local list = h:audits()
    assert.same({ id = 1, at = "2025-11-24T16:00:00.123Z", who = "token ops", peer = "10.0.0.7:1",
      method = "POST", path = "/-/reload?force=1", status = 200, refused = false, reload = 7,
      folded = 0 }, list[2])
    assert.equal("1970-01-02T00:00:00.999Z", list[1].at)
    assert.equal(cjson.null, list[1].who)
    assert.equal(cjson.null, list[1].reload)
    assert.same({ 401, true, 3 }, { list[1].status, list[1].refused, list[1].folded })
    assert.equal('/"\195\164', list[1].path:sub(1, 4))
    assert.same({ list[1] }, h:audits(1))
    assert.same({}, h:audits(0))
    h:close()
    h = assert(Record.history(path))
    assert.same(list, h:audits())
    h:close()
  end)

  it("stays within its bounds, and refusals displace no other entries", function()
    local h = assert(Record.history(path))
    h:limit { reloads = 50 }
    for i = 1, 200 do h:audit { path = "/" .. i } end
    local kept = #h:audits()
    assert.is_true(kept >= 50 and kept < 50 + 64, tostring(kept))
    for i = 1, 700 do h:audit { path = "/" .. i, status = 429, refused = true } end
    local asked, refused = 0, 0
    for _, row in ipairs(h:audits()) do
      if row.refused then refused = refused + 1 else asked = asked + 1 end
    end
    assert.is_true(asked >= 50, tostring(asked))
    assert.is_true(refused >= 100 and refused < 100 + 64, tostring(refused))
    assert.equal("/700", h:audits(1)[1].path)
    h:limit { age_ms = 1000 }
    for _ = 1, 64 do h:audit { wall_ms = 2000000 } end
    for _, row in ipairs(h:audits()) do assert.matches("^1970%-01%-01T00:33:20", row.at) end
    h:limit { bytes = 1 } -- a tenth goes at a time, the newest row stays
    for _ = 1, 640 do h:audit { wall_ms = 2000000, path = "/last" } end
    assert.is_true(#h:audits() < 640)
    assert.equal("/last", h:audits(1)[1].path)
    h:close()
  end)

  it("is stored from now on where an older version has written the history", function()
    Record.filled(path, 3):close()
    local db = Record.connection(path)
    db.run "DROP TABLE audit; PRAGMA user_version=1"
    db.close()
    for i = 1, 2 do
      local h = assert(Record.history(path))
      assert.same({ 3, 2, 1 }, h:ids())
      assert.equal(i - 1, #h:audits())
      h:audit { path = "/" .. i }
      h:close()
    end
    assert.is_nil(dir:read "history.db.damaged")
  end)

  it("is busy while another process locks it, and reports that it cannot be written", function()
    local h = Record.filled(path, 1)
    local db = Record.connection(path)
    db.run "PRAGMA locking_mode=NORMAL; BEGIN IMMEDIATE"
    assert.equal("EBUSY", C.name(h:try_audit {}))
    db.run "ROLLBACK"
    db.close()
    C.check(C.segue__fault_arm("history.audit=fail:-28"))
    assert.equal("ENOSPC", C.name(h:try_audit {}))
    assert.equal(2, C.segue__fault_reached("history.audit"))
    C.segue__fault_arm(nil)
    h:audit {}
    assert.equal(1, #h:audits())
    h:close()
  end)
end)

describe("a large content of the history", function()
  local function large(changed)
    local words = {}
    for k = 1, 10000 do words[k] = ('"key%05d":%d,'):format(k, k == changed and -1 or k * 7919) end
    return table.concat(words)
  end

  local function pages()
    local db = Record.connection(path)
    db.run "PRAGMA wal_checkpoint(TRUNCATE)"
    db.close()
    local file = assert(io.open(path, "rb"))
    local size = file:seek "end"
    file:close()
    return size
  end

  it("that changes a little adds little, and is read back byte for byte", function()
    local h = assert(Record.history(path))
    h:add { id = 1, generation = 1, files = { ["/f"] = large() } }
    h:close()
    local before = pages()
    assert.is_true(before > 180000, tostring(before))
    h = assert(Record.history(path))
    for i = 2, 21 do
      h:add { id = i, generation = i, files = { ["/f"] = large(i * 401) } }
    end
    for i = 2, 21 do assert.equal(large(i * 401), h:files(i)["/f"]) end
    assert.equal(large(), h:files(1)["/f"])
    h:close()
    assert.is_true(pages() - before < 20 * 20000, tostring(pages() - before))
  end)

  it("loses its parts with the last generation that has it, and no other one", function()
    local h = assert(Record.history(path))
    h:limit { generations = 1 }
    for i = 1, 5 do h:add { id = i, generation = i, files = { ["/f"] = large(i * 401) } } end
    for i = 1, 4 do assert.is_nil(h:files(i)) end
    assert.equal(large(5 * 401), h:files(5)["/f"])
    h:close()
    local db = Record.connection(path) -- a unique index fails if parts of two contents are left
    db.run "CREATE TABLE seen(one INTEGER UNIQUE)"
    db.run "INSERT INTO seen SELECT 1 FROM (SELECT DISTINCT blob FROM part)"
    db.run "CREATE TABLE lost(n INTEGER CHECK(n = 0))"
    db.run "INSERT INTO lost SELECT count(*) FROM part WHERE chunk NOT IN (SELECT id FROM blob)"
    db.close()
  end)
end)

describe("a history with bounds", function()
  it("keeps so many reloads and generations, the newest ones", function()
    local h = assert(Record.history(path))
    h:limit { reloads = 16, generations = 4 }
    for i = 1, 40 do
      h:add { id = i, generation = i, yaml = ("a: %d\n"):format(i), paths = { "a" },
        files = { ["/f"] = tostring(i) } }
    end
    assert.equal(16, #h:ids())
    assert.equal(40, h:ids()[1])
    assert.same({ nil, "ENOENT" }, { h:one(24) })
    assert.same({ nil, "ENOENT" }, { h:files(36) })
    assert.same({ ["/f"] = "37" }, h:files(37))
    assert.same({ nil, "ENOENT" }, { h:snapshot(36) })
    assert.same({ 40, nil }, { h:why("a").generation, (h:why("a", 36)) })
    h:close()
    local pipe = io.popen("sqlite3 " .. path .. " 'SELECT count(*) FROM blob'")
    assert.equal("8", pipe:read("*l")) -- a file and a document each, and nothing else
    pipe:close()
  end)

  it("keeps young entries", function()
    local h = assert(Record.history(path))
    h:limit { age_ms = 1000, reloads = 16 }
    for i = 1, 20 do
      h:add { id = i, generation = i, wall_ms = 100000 + 200 * i, files = { ["/f"] = tostring(i) } }
    end
    assert.same({ 20, 19, 18, 17, 16, 15 }, h:ids())
    assert.truthy(h:files(15))
    assert.same({ nil, "ENOENT" }, { h:files(14) })
    h:close()
  end)

  it("does not lose young entries because a clock was wrong once", function()
    local h = assert(Record.history(path))
    h:limit { age_ms = 1000, reloads = 16 }
    for i = 1, 5 do h:add { id = i, wall_ms = 100000 + i } end
    h:add { id = 6, wall_ms = 5 } -- a machine that begins in 1970
    h:add { id = 7, wall_ms = 100010 }
    assert.same({ 7, 6, 5, 4, 3, 2, 1 }, h:ids())
    h:close()
  end)

  it("keeps the newest reload and generation, whatever their age and size", function()
    local h = assert(Record.history(path))
    h:limit { age_ms = 1, bytes = 1, reloads = 1, generations = 1 }
    for i = 1, 3 do
      h:add { id = i, generation = i, wall_ms = 1000 * i,
        files = { ["/f"] = ("x"):rep(100000) .. i } }
    end
    assert.same({ 3 }, h:ids())
    assert.equal(100001, #h:files(3)["/f"])
    h:add { id = 4, outcome = "rejected", wall_ms = 4000 }
    assert.same({ 4 }, h:ids())
    assert.equal(100001, #h:files(3)["/f"])
    h:close()
  end)

  it("stays near its size", function()
    local h = assert(Record.history(path))
    h:limit { bytes = 2000000, generations = 64 }
    local function content(i) -- 50 kB that no other one shares
      local words = {}
      for k = 1, 5000 do words[k] = ("%09x "):format((i * 5000 + k) * 7919 % 2 ^ 31) end
      return table.concat(words)
    end
    for i = 1, 150 do
      h:add { id = i, generation = i, files = { ["/f"] = content(i) } }
    end
    local kept = 0
    for i = 1, 150 do if h:files(i) then kept = kept + 1 end end
    assert.is_true(kept >= 10 and kept <= 60, kept .. " are kept")
    assert.truthy(h:files(150))
    h:close()
  end)
end)
