-- SPDX-License-Identifier: MIT
-- Sources that push changes, kinds of failure, and the outcomes that are passed back to a source.
local engine = require "spec.support.engine"
local C = require "spec.support.c"
local tempdir = require "spec.support.tempdir"

local e
after_each(function()
  if e then e:close() end
  e = nil
  tempdir.remove_all()
end)

local function started(options, state)
  local net = { pushes = true }
  for key, value in pairs(options or {}) do net[key] = value end
  e = engine.started_with_net { net = net, state = state }
  e:advance(100)
  e:journal()
end

local function reload(options) return e:reload_now(options) end

local function delta(base, revision, name, text)
  C.scripted_source_emit_delta(e:source("net"), base, revision, name, text)
  e:advance(1000)
end

local function push_unchanged(revision)
  local delivery = C.segue_delivery_new()
  C.segue_delivery_unchanged(delivery)
  C.segue_delivery_revision(delivery, revision)
  C.segue_watch_emit(e:source("net").emitter, delivery)
  e:advance(1000)
end

-- Everything: documents in this order; v is the name of the last one.
local function push_all(revision, ...)
  local delivery = C.segue_delivery_new()
  for _, name in ipairs { ... } do
    local text = "v: " .. name .. "\n"
    C.segue_delivery_add(delivery, name, "yaml", text, #text)
  end
  C.segue_delivery_revision(delivery, revision)
  C.segue_watch_emit(e:source("net").emitter, delivery)
  e:advance(1000)
end


describe("a delivery of everything", function()
  it("keeps the documents that it has again, whatever the order of their names", function()
    started()
    local names = {}
    for i = 1, 500 do names[i] = ("z%03d"):format((i * 373) % 500) end
    push_all("r2", unpack(names))
    assert.truthy(e:value("v"))
    e:journal()
    push_all("r3", unpack(names))
    assert.equal("r3", e:source_status("net").revision)
    assert.equal(0, engine.count(e:journal(), "collect"))
  end)
end)

describe("a delta", function()
  it("puts a document, replaces it and removes it, without a fetch", function()
    started()
    delta("r1", "r2", "zone", "z: 1\n")
    assert.equal("1", e:value("z"))
    assert.equal("1", e:value("n"))
    delta("r2", "r3", "zone", "z: 2\n")
    assert.equal("2", e:value("z"))
    delta("r3", "r4", "zone", nil)
    assert.is_nil(e:value("z"))
    assert.equal("1", e:value("n"))
    assert.equal("r4", e:source_status("net").revision)
    assert.equal(0, engine.count(e:journal(), "net.fetch"))
  end)

  it("orders documents by their names, whatever the order of the pushes", function()
    started()
    delta("r1", "r2", "zb", "v: b\n")
    delta("r2", "r3", "za", "v: a\n")
    assert.equal('"b"', e:value("v"))
    delta("r3", "r4", "zc", "v: c\n")
    assert.equal('"c"', e:value("v"))
  end)

  it("is never lost among others of one turn of the loop", function()
    started()
    local source = e:source("net")
    for i = 1, 50 do
      C.scripted_source_emit_delta(source, "r" .. i, "r" .. i + 1, "z" .. i,
        ("z%d: %d\n"):format(i, i))
    end
    e:advance(1000)
    for i = 1, 50 do assert.equal(tostring(i), e:value("z" .. i)) end
    assert.equal("r51", e:source_status("net").revision)
    assert.equal(0, engine.count(e:journal(), "net.fetch"))
  end)

  it("among more than wait for the control thread is replaced by one fetch", function()
    started()
    e:deliver("net", "n: 2\n", "r1500")
    for i = 1, 1400 do
      C.scripted_source_emit_delta(e:source("net"), "r" .. i, "r" .. i + 1, "zone",
        "z: " .. i .. "\n")
    end
    assert.is_true(e:source("net").emitter.count <= 1000)
    e:advance(1000)
    assert.equal("2", e:value("n"))
    assert.is_nil(e:value("z"))
    assert.equal("r1500", e:source_status("net").revision)
    assert.equal(1, e:source_status("net").resyncs.overflow)
    assert.equal(1, engine.count(e:journal(), "net.fetch -"))
  end)

  it("that was dropped from a full queue is not hidden by a push that reports no change", function()
    started()
    e:deliver("net", "n: 2\n", "r1002")
    for i = 1, 1001 do
      C.scripted_source_emit_delta(e:source("net"), "r" .. i, "r" .. i + 1, "zone",
        "z: " .. i .. "\n")
    end
    push_unchanged("r1002")
    e:advance(1000)
    assert.equal("2", e:value("n"))
    assert.equal("r1002", e:source_status("net").revision)
    assert.equal(1, engine.count(e:journal(), "net.fetch -"))
  end)

  it("of a random history leaves what a plain map holds, also where it names a document twice",
    function()
      started()
      local random, model = 12345, { net = "n: 1\n" }
      local function pick(n)
        random = (random * 1103515245 + 12345) % 2147483648
        return math.floor(random / 65536) % n
      end
      for i = 1, 300 do
        local delivery = C.segue_delivery_new()
        for _ = 1, 1 + pick(4) do
          local name = "d" .. pick(30)
          local text = ("%s: %d\n"):format(name, pick(5))
          C.segue_delivery_add(delivery, name, "yaml", text, #text)
          model[name] = text
        end
        C.segue_delivery_base(delivery, "r" .. i)
        C.segue_delivery_revision(delivery, "r" .. i + 1)
        C.segue_watch_emit(e:source("net").emitter, delivery)
        local gone = "d" .. pick(30)
        delta("r" .. i + 1, "r" .. i + 1, gone, nil)
        model[gone] = nil
      end
      for i = 0, 29 do
        local want = model["d" .. i] and model["d" .. i]:match(": (%d+)")
        assert.equal(want, e:value("d" .. i))
      end
      assert.equal(0, engine.count(e:journal(), "net.fetch"))
    end)

  it("that does not continue the held revision is discarded, and everything is fetched", function()
    started()
    e:deliver("net", "n: 5\n", "r7")
    delta("r5", "r6", "zone", "z: 1\n")
    assert.is_nil(e:value("z"))
    assert.equal("5", e:value("n"))
    assert.equal("r7", e:source_status("net").revision)
    assert.truthy(e:journal():find("net.fetch -", 1, true))
  end)

  it("waits for everything after a gap, whatever the pushes between report", function()
    started()
    local source = e:source("net")
    source.fetch = engine.LATER
    delta("r5", "r6", "zone", "z: 1\n")
    push_unchanged("r6")
    delta("r6", "r7", "zone", "z: 2\n")
    delta("r1", "r2", "zone", "z: 3\n")
    assert.is_nil(e:value("z"))
    assert.equal("r1", e:source_status("net").revision)
    e:deliver("net", "n: 5\n", "r7")
    source.fetch = engine.OK
    C.scripted_source_finish(source, 0)
    e:advance(1000)
    assert.equal("5", e:value("n"))
    assert.equal("r7", e:source_status("net").revision)
  end)

  it("that changes documents which are not in the order of their names is discarded", function()
    started()
    push_all("r2", "zb", "za")
    assert.equal('"za"', e:value("v"))
    push_all("r3", "za", "zb")
    e:journal()
    delta("r3", "r4", "zc", "v: zc\n")
    assert.equal('"zc"', e:value("v"))
    assert.equal(0, engine.count(e:journal(), "net.fetch"))
    push_all("r5", "zb", "za")
    e:deliver("net", "v: all\n", "r6")
    delta("r5", "r6", "zc", "v: zc\n")
    assert.equal('"all"', e:value("v"))
    assert.equal(1, engine.count(e:journal(), "net.fetch -"))
  end)

  it("of a fetch is taken if it continues what is held", function()
    started { pushes = false }
    local source = e:source("net")
    e:deliver("net", "n: 2\n", "r2")
    C.ffi.copy(source.base, "r1")
    assert.equal("applied", reload():outcome())
    assert.equal("2", e:value("n"))
    assert.equal("r2", e:source_status("net").revision)
    assert.equal(1, engine.count(e:journal(), "net.fetch"))
  end)

  it("of a fetch that does not continue what is held leads to a fetch of everything", function()
    started { pushes = false }
    local source = e:source("net")
    source.fetch = engine.LATER
    e:deliver("net", "n: 2\n", "r6")
    C.ffi.copy(source.base, "r5")
    local w = reload()
    C.scripted_source_finish(source, 0)
    e:step()
    assert.is_false(w:answered())
    C.ffi.copy(source.base, "")
    e:deliver("net", "n: 7\n", "r7")
    source.fetch = engine.OK
    C.scripted_source_finish(source, 0)
    e:step()
    assert.equal("applied", w:outcome())
    assert.equal("7", e:value("n"))
    assert.truthy(e:journal():find("net.fetch r1\nnet.fetch -", 1, true))
  end)

  it("in answer to a fetch of everything is a failure, and causes no loop", function()
    started { pushes = false }
    e:deliver("net", "n: 2\n", "r6")
    C.ffi.copy(e:source("net").base, "r5")
    assert.equal("unchanged", reload():outcome())
    local status = e:source_status("net")
    assert.is_false(status.up)
    assert.truthy(status.error:find("delivered changes only", 1, true), status.error)
    assert.equal("1", e:value("n"))
    assert.equal(2, engine.count(e:journal(), "net.fetch"))
  end)

  it("that arrives when the policy has stopped the watch is refused", function()
    started()
    local source = e:source("net")
    local emitter = source.emitter
    source.deaf = true
    C.segue__emitter_close(emitter)
    assert.equal(C.SEGUE_ECANCELLED, C.segue_watch_emit(emitter, C.segue_delivery_new()))
    source.deaf = false
  end)
end)

describe("a push that nothing has changed", function()
  it("does not replace a fetch that is under way", function()
    started()
    local source = e:source("net")
    source.fetch = engine.LATER
    e:emit("net", true)
    e:advance(1)
    push_unchanged("r1")
    e:deliver("net", "n: 2\n", "r2")
    source.fetch = engine.OK
    C.scripted_source_finish(source, 0)
    e:advance(1000)
    assert.equal("2", e:value("n"))
  end)
end)

describe("a source whose revision is gone", function()
  it("is fetched whole at once, for the run that waits too, and is no failure", function()
    started { pushes = false }
    e:deliver("net", "n: 2\n", "r9")
    e:source("net").fetch = engine.LATER
    local w = e:reload()
    e:step()
    assert.is_false(w:answered())
    e:source("net").fetch = engine.OK
    C.scripted_source_finish(e:source("net"), C.SEGUE_EGONE)
    e:step()
    assert.equal("applied", w:outcome())
    assert.equal("2", e:value("n"))
    assert.equal("net.fetch r1\nnet.fetch -", e:journal():match("net.fetch r1\nnet.fetch %-"))
    assert.is_true(e:source_status("net").up)
  end)

  it("twice in a row is away, and is not fetched in a loop", function()
    started { pushes = false }
    local source = e:source("net")
    source.fetch = engine.LATER
    e:reload()
    e:step()
    C.scripted_source_finish(source, C.SEGUE_EGONE)
    e:step()
    C.scripted_source_finish(source, C.SEGUE_EGONE)
    e:step()
    assert.is_false(e:source_status("net").up)
    assert.equal(2, engine.count(e:journal(), "net.fetch"))
    assert.equal("1", e:value("n"))
    source.fetch = engine.OK
  end)
end)

describe("a source that refuses the credentials", function()
  it("is fetched once more at once, and then after the longest pause only", function()
    started { pushes = false, retry_min_ms = 100, retry_max_ms = 100000 }
    local source = e:source("net")
    source.fetch = engine.LATER
    e:reload()
    e:step()
    C.scripted_source_finish(source, C.SEGUE_EDENIED)
    e:step()
    C.scripted_source_finish(source, C.SEGUE_EDENIED)
    e:step()
    assert.is_true(e:source_status("net").next_ms >= 90000)
    assert.is_true(e:source_status("net").held)
    e:advance(80000)
    assert.equal(2, engine.count(e:journal(), "net.fetch"))
    e:advance(40000)
    assert.equal(1, engine.count(e:journal(), "net.fetch"))
    source.fetch = engine.OK
    C.scripted_source_finish(source, 0)
    e:step()
    assert.is_true(e:source_status("net").up)
  end)
end)

describe("a source whose content is invalid", function()
  it("rejects the reload that requests it, and keeps the last delivery for others", function()
    started { pushes = false }
    local source = e:source("net")
    source.fetch = engine.LATER
    local w = e:reload()
    e:step()
    C.scripted_source_finish(source, C.SEGUE_ECONFIG)
    e:step()
    assert.equal("rejected", w:outcome(), w:error().text)
    assert.equal("SEGUE_ECONFIG", w:error().name)
    e:write("a.yaml", "x: 2\n")
    e:trigger("watch", "a.yaml changed")
    e:advance(2000)
    assert.equal("2", e:value("x"))
    assert.equal("1", e:value("n"))
    source.fetch = engine.OK
  end)
end)

describe("a source", function()
  it("gets the outcome of each reload that used a delivery, and its revision", function()
    started()
    e:deliver("net", "n: 2\n", "r2")
    assert.equal("applied", reload():outcome())
    assert.truthy(e:journal():find("net.outcome r2 applied 2", 1, true))
    e:deliver("net", "n: [\n", "r3")
    assert.equal("rejected", reload():outcome())
    assert.truthy(e:journal():find("net.outcome r3 rejected 2: ", 1, true))
    e:deliver("net", "n: 2\n", "r4")
    assert.equal("unchanged", reload():outcome())
    assert.truthy(e:journal():find("net.outcome r4 unchanged 2", 1, true))
  end)

  it("learns nothing of a plan, nor of a run that used none of its deliveries", function()
    started(nil, tempdir.new().path)
    e:deliver("net", "n: 2\n", "r2")
    reload { plan = true }
    assert.equal(1, engine.count(e:journal(), "net.fetch r1"))
    e:replay_last_good()
    e:step()
    assert.equal("1", e:value("n"))
    assert.falsy(e:journal():find("net.outcome", 1, true))
  end)

  it("gets the list of used documents, and is fetched then", function()
    started()
    local names = C.ffi.new("const char *[2]", { "limits", "zones" })
    assert.is_true(C.segue__sources_want(e.c.sources, "net", names, 2))
    e:advance(10)
    local journal = e:journal()
    assert.truthy(journal:find("net.want limits,zones", 1, true))
    assert.truthy(journal:find("net.fetch", 1, true))
    assert.is_false(C.segue__sources_want(e.c.sources, "other", names, 2))
  end)
end)
