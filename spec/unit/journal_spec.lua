-- SPDX-License-Identifier: MIT
-- The journal of effects: intents as named texts, as lines of the state file, and their bounds.
local C = require "spec.support.c"
local ffi = C.ffi

local live
before_each(function() live = tonumber(C.segue__mem_live()) end)
after_each(function()
  C.segue__mem_fail_at(0)
  assert.equal(live, tonumber(C.segue__mem_live()))
end)

-- An intent from { action = "files", path = "x", ... } in a fixed order of names.
local function intent_of(fields)
  local intent = ffi.new("segue__intent[1]")
  C.segue__intent_init(intent)
  local names = {}
  for name in pairs(fields) do names[#names + 1] = name end
  table.sort(names)
  for _, name in ipairs(names) do
    local text = fields[name]
    C.check(C.segue__intent_set_bytes(intent, name, text, #text))
  end
  return intent
end

local function journal_new()
  local journal = ffi.new("segue__journal[1]")
  C.segue__journal_init(journal)
  return journal
end

-- Adds it and frees it; returns the number, or nil and the name of the code.
local function add(journal, fields)
  local intent, id = intent_of(fields), ffi.new("uint64_t[1]")
  local rc = C.segue__journal_add(journal, intent, id)
  C.segue__intent_deinit(intent)
  if rc < 0 then return nil, C.name(rc) end
  return tonumber(id[0])
end

local function lines(journal)
  local b = ffi.new("segue__buf[1]")
  C.segue__buf_init(b)
  C.segue__journal_write(journal, b)
  local text = C.buf(b[0])
  C.segue__buf_deinit(b)
  return text
end

-- Reads lines as the reader of the state file does; returns the journal, and the names of lines
-- that are not the journal's.
local function read(text)
  local journal, others = journal_new(), {}
  for line in text:gmatch "([^\n]*)\n" do
    local name, value = line:match "^([^=]*)=(.*)$"
    if not C.segue__journal_read_line(journal, name, value) then others[#others + 1] = name end
  end
  return journal, others
end

local function fields(journal)
  local all = {}
  for i = 0, tonumber(journal[0].count) - 1 do
    local item, one = journal[0].items[i], {}
    for f = 0, tonumber(item.count) - 1 do
      local field = item.fields[f]
      one[ffi.string(field.name)] = ffi.string(field.value, field.len)
    end
    all[#all + 1] = one
  end
  return all
end

local function with(journal, fn)
  local ok, err = pcall(fn, journal)
  C.segue__journal_deinit(journal)
  if not ok then error(err, 0) end
end

describe("an intent", function()
  it("has named texts, and the last value of a name counts", function()
    local intent = intent_of { action = "files", path = "/etc/a" }
    C.check(C.segue__intent_set(intent, "path", "/etc/b"))
    C.check(C.segue__intent_set_number(intent, "generation", 18446744073709551615ULL))
    assert.equal("/etc/b", C.str(C.segue__intent_get(intent, "path")))
    assert.equal(18446744073709551615ULL, C.segue__intent_get_number(intent, "generation"))
    assert.is_nil(C.str(C.segue__intent_get(intent, "other")))
    assert.equal(0, tonumber(C.segue__intent_get_number(intent, "other")))
    C.segue__intent_deinit(intent)
  end)

  it("refuses names that would be lines of their own", function()
    local intent = intent_of {}
    for _, name in ipairs { "", "a=b", "a\nb", "a b", "a.b" } do
      assert.equal("EINVAL", C.name(C.segue__intent_set(intent, name, "x")))
    end
    assert.equal(0, tonumber(intent[0].count))
    C.segue__intent_deinit(intent)
  end)

  it("is bounded, and keeps the value that it had where a larger one is refused", function()
    local intent = intent_of { a = ("x"):rep(60000) }
    assert.equal("E2BIG", C.name(C.segue__intent_set(intent, "b", ("y"):rep(6000))))
    assert.equal("E2BIG", C.name(C.segue__intent_set(intent, "a", ("y"):rep(70000))))
    C.check(C.segue__intent_set(intent, "a", ("z"):rep(65535)))
    assert.equal(65536, tonumber(intent[0].bytes))
    C.segue__intent_deinit(intent)
  end)

  it("stays as it was where memory runs out", function()
    local intent = intent_of { a = "1" }
    for n = 1, 3 do
      C.segue__mem_fail_at(n)
      assert.equal("ENOMEM", C.name(C.segue__intent_set(intent, "b", "2")))
      assert.equal(1, tonumber(intent[0].count))
    end
    C.segue__mem_fail_at(1)
    assert.equal("ENOMEM", C.name(C.segue__intent_set(intent, "a", "2")))
    assert.equal("1", C.str(C.segue__intent_get(intent, "a")))
    C.segue__intent_deinit(intent)
  end)
end)

describe("the journal", function()
  it("has no lines where it has no intents", function()
    with(journal_new(), function(journal) assert.equal("", lines(journal)) end)
  end)

  it("adds copies, finds them, and removes them by number", function()
    with(journal_new(), function(journal)
      local a = add(journal, { action = "files", module = "nginx" })
      local b = add(journal, { action = "files", module = "haproxy" })
      assert.are_not.equal(a, b)
      local found = C.segue__journal_of_module(journal, "haproxy")
      assert.equal(b, tonumber(found.id))
      C.segue__journal_remove(journal, a)
      C.segue__journal_remove(journal, a)
      assert.is_true(C.is_null(C.segue__journal_find(journal, a)))
      assert.same({ { action = "files", module = "haproxy" } }, fields(journal))
      assert.is_true(add(journal, { action = "x" }) > b) -- a number is not used again
      assert.equal("intent=files\nintent.module=haproxy\nintent=x\n", lines(journal))
    end)
  end)

  it("requires the action", function()
    with(journal_new(), function(journal)
      assert.same({ nil, "EINVAL" }, { add(journal, { module = "nginx" }) })
      assert.same({ nil, "EINVAL" }, { add(journal, { action = "" }) })
    end)
  end)

  it("is bounded by the number and by the bytes of its intents", function()
    with(journal_new(), function(journal)
      for _ = 1, 16 do assert(add(journal, { action = "f", text = ("x"):rep(65000) })) end
      assert.same({ nil, "ENOSPC" }, { add(journal, { action = "f", text = ("x"):rep(65000) }) })
      C.segue__journal_remove(journal, 1)
      assert(add(journal, { action = "f", text = ("x"):rep(65000) }))
    end)
    with(journal_new(), function(journal)
      for _ = 1, 1024 do assert(add(journal, { action = "f" })) end
      assert.same({ nil, "ENOSPC" }, { add(journal, { action = "f" }) })
    end)
  end)

  it("reads its own lines, whatever bytes they have, and leaves the others", function()
    local odd = {}
    for i = 0, 255 do odd[#odd + 1] = string.char(i) end
    local all = {
      { action = "files", data = table.concat(odd), does = "writes \\n two\nlines=\\" },
      { action = "new\nkind\\", module = "" },
    }
    with(journal_new(), function(journal)
      for _, one in ipairs(all) do assert(add(journal, one)) end
      local again, others = read("frozen=1\n" .. lines(journal) .. "good=5\n")
      with(again, function()
        assert.same({ "frozen", "good" }, others)
        assert.same(all, fields(again))
        assert.equal(lines(journal), lines(again))
        assert.equal(tonumber(journal[0].bytes), tonumber(again[0].bytes))
        assert.is_false(again[0].incomplete)
      end)
    end)
  end)

  it("keeps actions and fields of a later version as they are", function()
    local text = "intent=lease\nintent.holder=a-b\nintent.not_yet=1\nintent=files\n"
    with(read(text), function(journal) assert.equal(text, lines(journal)) end)
  end)

  it("reports lines that it cannot use", function()
    for _, text in ipairs { "intent.a=1\n", "intent=f\nintent.=1\n",
      "intent=f\nintent.a=" .. ("x"):rep(70000) .. "\n" } do
      with(read(text), function(journal) assert.is_true(journal[0].incomplete) end)
    end
  end)

  it("reports missing memory at any allocation of a read", function()
    local n, incomplete = 0, true
    while incomplete do
      n = n + 1
      C.segue__mem_fail_at(n)
      with(read "intent=files\nintent.path=/a\nintent=files\n", function(journal)
        incomplete = journal[0].incomplete
      end)
    end
    assert.is_true(n > 6)
  end)

  it("stays as it was where memory runs out", function()
    with(journal_new(), function(journal)
      local n, id, code = 0
      local intent, number = intent_of { action = "files", path = "/a" }, ffi.new("uint64_t[1]")
      repeat
        n = n + 1
        assert.equal(0, tonumber(journal[0].count))
        C.segue__mem_fail_at(n)
        code = C.segue__journal_add(journal, intent, number)
        id = tonumber(number[0])
      until code == 0
      C.segue__intent_deinit(intent)
      assert.is_true(n > 5 and id == 1)
      assert.equal(1, tonumber(journal[0].count))
    end)
  end)
end)
