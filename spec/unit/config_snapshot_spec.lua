-- SPDX-License-Identifier: MIT
-- Snapshots: counted references, read sections, and that no snapshot is freed while it is read.
local borrowed = require "spec.support.borrowed"
local C = require "spec.support.c"
local document = require "spec.support.document"
local wait = require "spec.support.wait"
local ffi = C.ffi

local function publication()
  local out = ffi.new("segue__publication *[1]")
  C.check(C.segue__publication_new(out))
  return out[0]
end

-- A snapshot with one reference, which the caller gives back.
local function snapshot(generation, text)
  local doc = document.good(text or ("n: %d"):format(generation))
  local config = document.merge(doc)
  document.free(doc)
  local out = ffi.new("segue_snapshot *[1]")
  C.check(C.segue__snapshot_new(out, generation, config))
  C.segue__config_unref(ffi.gc(config, nil))
  return out[0]
end

local function publish(p, generation)
  local s = snapshot(generation)
  C.check(C.segue__publish(p, s))
  C.segue_snapshot_unref(s)
end

-- The instance that public functions want: it begins with what is live.
local function instance(p)
  local live = ffi.new("struct segue__live *[1]", { C.segue__publication_live(p) })
  return ffi.cast("segue *", borrowed.keep(live))
end

local function generation_of(s)
  return s ~= nil and tonumber(C.segue_snapshot_generation(s)) or nil
end

describe("a snapshot", function()
  it("has a root, a generation and the hash of its config", function()
    local s = snapshot(7, "a: 1")
    assert.equal(7, generation_of(s))
    assert.equal('{"a":1}', document.json(C.segue_snapshot_root(s)))
    assert.equal(document.hash(document.good("a: 1").root), C.str(C.segue_snapshot_hash(s)))
    C.segue_snapshot_unref(s)
  end)

  it("that does not exist yet has no root, generation 0, no hash, and no references", function()
    assert.is_true(C.is_null(C.segue_snapshot_root(nil)))
    assert.equal(0, tonumber(C.segue_snapshot_generation(nil)))
    assert.equal("", C.str(C.segue_snapshot_hash(nil)))
    assert.is_true(C.is_null(C.segue_snapshot_ref(nil)))
    C.segue_snapshot_unref(nil)
    local s = snapshot(1, "a: 1")
    local root = C.segue_snapshot_root(s)
    assert.equal(C.SEGUE_EPATH, C.segue_node_origin(nil, root, nil, nil, nil, nil))
    local err = C.error()
    assert.equal(-1, C.segue_error_at(err, -1, nil, root, "%s", "wrong"))
    assert.equal("wrong", C.text(err))
    C.segue_snapshot_unref(s)
  end)

  it("knows the places of its values", function()
    local config = document.merge(document.good("a: 1", { name = "one.yaml", source = "one" }),
      document.good("b:\n  c: 2", { name = "two.yaml", source = "two" }))
    local out = ffi.new("segue_snapshot *[1]")
    C.check(C.segue__snapshot_new(out, 1, config))
    local source, file = ffi.new("const char *[1]"), ffi.new("const char *[1]")
    local line, column = ffi.new("uint32_t[1]"), ffi.new("uint32_t[1]")
    local node = C.segue_node_get(C.segue_snapshot_root(out[0]), "b.c")
    assert.equal(0, C.segue_node_origin(out[0], node, source, file, line, column))
    assert.same({ "two", "two.yaml", 2, 6 },
      { C.str(source[0]), C.str(file[0]), line[0], column[0] })
    assert.equal(0, C.segue_node_origin(out[0], node, nil, nil, nil, nil))
    assert.equal(C.SEGUE_EPATH, C.segue_node_origin(out[0], nil, source, file, line, column))
    C.segue_snapshot_unref(out[0])
  end)

  it("reports an invalid value with its place", function()
    local s = snapshot(1, 'a:\n  - {x: 1}\n  - "odd key": {b: true}\nc: {b: true}')
    local root, err = C.segue_snapshot_root(s), C.error()
    for path, place in pairs {
      [""] = "file:1:1: it is wrong", ["a[0].x"] = "file:2:9: it is wrong (at a[0].x)",
      ['a[1]."odd key".b'] = 'file:3:20: it is wrong (at a[1]."odd key".b)',
      ["c.b"] = "file:4:8: it is wrong (at c.b)",
    } do
      local node = C.segue_node_get(root, path)
      local code = C.segue_error_at(err, C.SEGUE_ERANGE, s, node, "it is %s", "wrong")
      assert.equal(C.SEGUE_ERANGE, code)
      assert.equal(place, C.err(err).text)
      assert.equal(C.SEGUE_ERANGE, C.err(err).code)
    end
    assert.equal(C.SEGUE_EMODULE, C.segue_error_at(err, C.SEGUE_EMODULE, nil, nil, "%s", "none"))
    assert.equal("none", C.err(err).text)
    assert.equal(C.SEGUE_ETYPE, C.segue_error_at(nil, C.SEGUE_ETYPE, s, root, "nobody listens"))
    C.segue_snapshot_unref(s)
  end)

  it("lives until its last reference is released", function()
    local base = document.live()
    local s = snapshot(1)
    C.segue_snapshot_ref(s)
    C.segue_snapshot_unref(s)
    assert.equal(1, generation_of(s))
    C.segue_snapshot_unref(s)
    C.segue_snapshot_unref(nil)
    assert.equal(base, document.live())
  end)
end)

describe("a publication", function()
  it("has no live snapshot at first, and can be emptied", function()
    local p = publication()
    local s = instance(p)
    assert.is_nil(generation_of(C.segue_read_begin(s)))
    C.segue_read_end(s)
    assert.is_nil(generation_of(C.segue_snapshot_acquire(s)))
    publish(p, 1)
    C.check(C.segue__publish(p, nil))
    assert.is_nil(generation_of(C.segue__publication_get(p)))
    C.segue__publication_free(p)
  end)

  it("shows the newest snapshot to every reader that begins", function()
    local p = publication()
    local s = instance(p)
    local reader = C.segue_reader_new(s)
    for generation = 1, 5 do
      publish(p, generation)
      assert.equal(generation, generation_of(C.segue__publication_get(p)))
      assert.equal(generation, generation_of(C.segue_reader_begin(reader)))
      C.segue_reader_end(reader)
      assert.equal(generation, generation_of(C.segue_read_begin(s)))
      C.segue_read_end(s)
      local own = C.segue_snapshot_acquire(s)
      assert.equal(generation, generation_of(own))
      C.segue_snapshot_unref(own)
    end
    C.segue_reader_free(reader)
    C.segue__publication_free(p)
  end)

  it("counts its snapshots, and shows for how long a section delays their freeing", function()
    local p = publication()
    local s = instance(p)
    assert.equal(0, tonumber(C.segue__publication_snapshots(p)))
    publish(p, 1)
    local kept = C.segue_snapshot_acquire(s)
    publish(p, 2)
    assert.equal(2, tonumber(C.segue__publication_snapshots(p)))
    C.segue_snapshot_unref(kept)
    wait.until_true(function() return C.segue__publication_snapshots(p) == 1 end)
    C.segue_read_begin(s)
    publish(p, 3)
    wait.until_true(function() return C.segue__publication_wait_ms(p) > 0 end)
    assert.equal(2, tonumber(C.segue__publication_snapshots(p)))
    C.segue_read_end(s)
    wait.until_true(function() return C.segue__publication_snapshots(p) == 1 end)
    local outlives = C.segue_snapshot_acquire(s)
    C.segue__publication_free(p)
    C.segue_snapshot_unref(outlives)
  end)

  it("returns memory to the system once, on the reclamation thread", function()
    local thread = ffi.new("int[1]")
    local function trims() return tonumber(C.segue__mem_trims(thread)) end
    local function large() return document.good("a: " .. ("x"):rep(1200000)) end
    local function publish_large(p, generation)
      local a, b = large(), large()
      local config = document.merge(a, b)
      document.free(a)
      document.free(b)
      local out = ffi.new("segue_snapshot *[1]")
      C.check(C.segue__snapshot_new(out, generation, config))
      C.segue__config_unref(ffi.gc(config, nil))
      C.check(C.segue__publish(p, out[0]))
      C.segue_snapshot_unref(out[0])
    end
    ffi.cdef "int gettid(void);"
    C.segue__mem_trim()
    local before = trims()
    document.free(large())
    assert.equal(before, trims())
    local p = publication()
    local s = instance(p)
    publish_large(p, 1)
    local kept = C.segue_snapshot_acquire(s)
    publish_large(p, 2)
    wait.until_true(function() return trims() == before + 1 end)
    publish(p, 3)
    wait.until_true(function() return trims() == before + 2 end)
    C.segue_snapshot_unref(kept)
    wait.until_true(function() return trims() == before + 3 end)
    assert.not_equal(ffi.C.gettid(), thread[0])
    C.segue__publication_free(p)
    assert.equal(before + 3, trims())
  end)

  it("makes the same snapshot live again and again", function()
    local p = publication()
    local a, b = snapshot(1), snapshot(2)
    for _ = 1, 10 do
      C.check(C.segue__publish(p, a))
      C.check(C.segue__publish(p, b))
    end
    C.check(C.segue__publish(p, a))
    C.segue__publication_free(p)
    assert.equal(1, generation_of(a))
    assert.equal(1, tonumber(a.refs))
    assert.equal(1, tonumber(b.refs))
    C.segue_snapshot_unref(a)
    C.segue_snapshot_unref(b)
  end)

  for _, way in ipairs { "registered", "any" } do
    for _, barrier in ipairs { "membarrier", "fences" } do
      it(("waits for the sections of %s threads with %s"):format(way, barrier), function()
        local p = publication()
        if barrier == "fences" then C.segue__publication_use_fences(p) end
        publish(p, 1)
        local old = snapshot(2)
        C.check(C.segue__publish(p, old))
        local section = C.segue__section_open(p, way == "registered")
        local count, marker = ffi.new("int[1]"), ffi.new("int[1]")
        publish(p, 3)
        C.check(C.segue__publication_defer(p, C.segue__count_call, count))
        -- The section began before: nothing that follows may run, and the old one is there.
        for generation = 4, 50 do publish(p, generation) end
        local later = C.segue__section_open(p, true)
        assert.equal(50, tonumber(C.segue__section_generation(later)))
        C.segue__section_close(later)
        assert.equal(0, C.segue__count_read(count))
        assert.equal(2, tonumber(old.refs))
        assert.equal(2, tonumber(C.segue__section_generation(section)))
        C.segue__section_close(section)
        C.check(C.segue__publication_defer(p, C.segue__count_call, marker))
        wait.until_true(function() return C.segue__count_read(marker) == 1 end)
        assert.equal(1, C.segue__count_read(count))
        assert.equal(1, tonumber(old.refs))
        C.segue_snapshot_unref(old)
        C.segue__publication_free(p)
      end)
    end
  end

  it("keeps the outer section open while inner ones end", function()
    local p = publication()
    local s = instance(p)
    publish(p, 1)
    local reader, count = C.segue_reader_new(s), ffi.new("int[1]")
    local outer = C.segue_reader_begin(reader)
    C.segue_reader_begin(reader)
    C.segue_reader_begin(reader)
    publish(p, 2)
    assert.equal(2, generation_of(C.segue_reader_begin(reader)))
    for _ = 1, 3 do C.segue_reader_end(reader) end
    C.check(C.segue__publication_defer(p, C.segue__count_call, count))
    -- Another thread's section ends in the meantime: the deferred call was due, were it not for us.
    C.segue__section_close(C.segue__section_open(p, false))
    assert.equal(1, generation_of(outer))
    assert.equal(0, C.segue__count_read(count))
    C.segue_reader_end(reader)
    wait.until_true(function() return C.segue__count_read(count) == 1 end)
    C.segue_reader_free(reader)
    C.segue__publication_free(p)
  end)

  it("is not mixed up with another one by the same thread", function()
    local a, b = publication(), publication()
    local sa, sb = instance(a), instance(b)
    publish(a, 1)
    publish(b, 100)
    assert.equal(1, generation_of(C.segue_read_begin(sa)))
    assert.equal(100, generation_of(C.segue_read_begin(sb)))
    assert.equal(1, generation_of(C.segue_read_begin(sa)))
    local count = ffi.new("int[2]")
    C.check(C.segue__publication_defer(a, C.segue__count_call, count))
    C.check(C.segue__publication_defer(b, C.segue__count_call, count + 1))
    C.segue_read_end(sa)
    C.segue_read_end(sb)
    wait.until_true(function() return C.segue__count_read(count + 1) == 1 end)
    assert.equal(0, C.segue__count_read(count))
    C.segue_read_end(sa)
    wait.until_true(function() return C.segue__count_read(count) == 1 end)
    C.segue__publication_free(a)
    C.segue__publication_free(b)
  end)

  it("may be freed before the slots of its threads, which serve the next one", function()
    -- The slot of this thread stays; it is made once.
    local function round()
      local p = publication()
      local s = instance(p)
      publish(p, 1)
      assert.equal(1, generation_of(C.segue_read_begin(s)))
      C.segue_read_end(s)
      local reader = C.segue_reader_new(s)
      C.segue__publication_free(p)
      C.segue_reader_free(reader)
    end
    round()
    local base = document.live()
    for _ = 1, 20 do round() end
    assert.equal(base, document.live())
  end)

  it("frees the slots of threads that exit", function()
    local p = publication()
    publish(p, 1)
    C.segue__section_close(C.segue__section_open(p, false))
    local base = document.live()
    for _ = 1, 20 do C.segue__section_close(C.segue__section_open(p, false)) end
    assert.equal(base, document.live())
    C.segue__publication_free(p)
  end)

  it("runs deferred functions when it is freed", function()
    local p, count = publication(), ffi.new("int[1]")
    for _ = 1, 100 do C.check(C.segue__publication_defer(p, C.segue__count_call, count)) end
    C.segue__publication_free(p)
    assert.equal(100, C.segue__count_read(count))
  end)

  it("opens sections also where there is no memory for a slot", function()
    local p = publication()
    publish(p, 1)
    C.segue__mem_fail_at(2) -- the section's thread: its own memory, then the slot
    local section = C.segue__section_open(p, false)
    C.segue__mem_fail_at(0)
    local count = ffi.new("int[1]")
    assert.equal(1, tonumber(C.segue__section_generation(section)))
    C.check(C.segue__publication_defer(p, C.segue__count_call, count))
    C.segue__section_close(C.segue__section_open(p, true))
    assert.equal(0, C.segue__count_read(count))
    C.segue__section_close(section)
    wait.until_true(function() return C.segue__count_read(count) == 1 end)
    C.segue__publication_free(p)
  end)

  it("fails before anything is changed where there is no memory", function()
    local p = publication()
    publish(p, 1)
    publish(p, 2)
    local next_one = snapshot(3)
    C.segue__mem_fail_at(1)
    assert.equal("ENOMEM", C.name(C.segue__publish(p, next_one)))
    C.segue__mem_fail_at(0)
    assert.equal(2, generation_of(C.segue__publication_get(p)))
    assert.equal(1, tonumber(next_one.refs))
    C.segue_snapshot_unref(next_one)
    C.segue__publication_free(p)
  end)

  it("cannot fail to publish a reserved snapshot", function()
    local p = publication()
    local a, b = snapshot(1), snapshot(2)
    C.check(C.segue__publish(p, a))
    C.check(C.segue__publication_reserve(p, 2))
    C.segue__mem_fail_at(1)
    assert.equal(0, C.segue__publish(p, b))
    assert.equal(0, C.segue__publish(p, a))
    assert.equal("ENOMEM", C.name(C.segue__publish(p, b)))
    assert.equal(1, generation_of(C.segue__publication_get(p)))
    C.segue_snapshot_unref(a)
    C.segue_snapshot_unref(b)
    C.segue__publication_free(p)
  end)

  for _, barrier in ipairs { "membarrier", "fences" } do
    it("never shows a torn, freed or older snapshot, with " .. barrier, function()
      local base
      for round = 1, 2 do
        local p, result = publication(), ffi.new("segue__readers_result[1]")
        if barrier == "fences" then C.segue__publication_use_fences(p) end
        C.check(C.segue__readers_run(p, 3000, result))
        C.segue__publication_free(p)
        assert.equal(0, tonumber(result[0].wrong))
        assert.is_true(result[0].sections > 0)
        assert.is_true(result[0].switches >= 40)
        if round == 1 then base = document.live() end
      end
      assert.equal(base, document.live())
    end)
  end
end)
