-- SPDX-License-Identifier: MIT
-- Files that a program has open for writing: automatic runs keep the last complete version,
-- explicit runs wait for a limited time and then name the file.
local C = require "spec.support.c"
local engine = require "spec.support.engine"

local e

local function open(path) C.scripted_files_open(e.files, path, true) end
local function close(path) C.scripted_files_open(e.files, path, false) end

-- A writer truncates the file, writes a part and pauses.
local function write_half(path, text)
  e:write(path, text)
  open(path)
end

local function warned(w, text)
  for i = 0, tonumber(w.c.result.errors.count) - 1 do
    if w:error(i).message:find(text, 1, true) then return true end
  end
  return false
end

describe("while a file is being written", function()
  after_each(function()
    if e then e:close() end
    e = nil
  end)

  it("an automatic run keeps its last complete version, and takes the other files", function()
    e = engine.started { files = { ["a.yaml"] = "a: 1", ["b.yaml"] = "b: 1" },
      sources = { "a.yaml", "b.yaml" }, set = { debounce_min_ms = 0, debounce_max_ms = 0 } }
    write_half("a.yaml", "# managed by a tool")
    e:write("b.yaml", "b: 2")
    e:trigger("watch", "b.yaml changed")
    e:advance(0)
    assert.equal("1", e:value("a"))
    assert.equal("2", e:value("b"))
    local errors = C.segue__engine_result(e.c, 0).errors
    assert.equal(1, tonumber(errors.count))
    assert.equal("a.yaml is being written; its last complete version stays until it is closed",
      C.err(errors.items).message)
  end)

  it("an automatic run looks again by itself until the file is closed", function()
    e = engine.started {}
    write_half("a.yaml", "x: 2")
    e:trigger("poll", "poll")
    e:advance(200)
    assert.equal("1", e:value("x"))
    e:advance(60000)
    assert.equal("1", e:value("x"))
    close("a.yaml")
    e:advance(60000)
    assert.equal("2", e:value("x"))
    local runs = tonumber(C.segue__engine_stats_get(e.c).runs)
    e:advance(3600000)
    assert.equal(runs, tonumber(C.segue__engine_stats_get(e.c).runs))
  end)

  it("an explicit run waits until it is closed, and takes all of it", function()
    e = engine.started {}
    write_half("a.yaml", "x: 2")
    local w = e:reload()
    e:step()
    e:advance(4000)
    assert.is_false(w:answered())
    e:write("a.yaml", "x: 3")
    e:advance(100)
    assert.equal("applied", w:outcome())
    assert.equal("3", e:value("x"))
  end)

  it("an explicit run ends after five seconds, and names the file", function()
    e = engine.started {}
    write_half("a.yaml", "x: 2")
    for _, options in ipairs { {}, { plan = true }, { force = true } } do
      local w = e:reload(options)
      e:step()
      for _ = 1, 51 do e:advance(100) end
      assert.equal("failed", w:outcome())
      assert.equal("ETXTBSY", w:error().name)
      assert.equal("a.yaml is being written", w:error().message)
      assert.equal("1", e:value("x"))
    end
    close("a.yaml")
    e:advance(60000)
    assert.equal("2", e:value("x"))
  end)

  it("an explicit run does not wait longer than half of the limit of its phase", function()
    e = engine.started { set = { collect_ms = 1000 } }
    write_half("a.yaml", "x: 2")
    local w = e:reload()
    e:step()
    for _ = 1, 6 do e:advance(100) end
    assert.equal("ETXTBSY", w:error().name)
  end)

  it("an explicit run names the file also where its limit is short", function()
    for _, ms in ipairs { 50, 100, 150 } do
      e = engine.started { set = { collect_ms = ms } }
      write_half("a.yaml", "x: 2")
      local w = e:reload()
      e:step()
      for _ = 1, 20 do
        if not w:answered() then e:advance(10) end
      end
      assert.equal("failed", w:outcome())
      assert.matches("a.yaml is being written", w:error().message)
      assert.equal("ETXTBSY", w:error().name)
      e:close()
      e = nil
    end
  end)

  it("a look that hangs after one that found a writer names the file too", function()
    e = engine.started { set = { collect_ms = 1000 } }
    write_half("a.yaml", "x: 2")
    local w = e:reload()
    e:step()
    C.segue__loop_hold_jobs(e.loop, true)
    for _ = 1, 11 do e:advance(100) end
    assert.equal("SEGUE_ETIMEOUT", w:error().name)
    assert.matches("not read after 1000 ms: a.yaml is being written", w:error().message)
    C.segue__loop_hold_jobs(e.loop, false)
  end)

  it("a start waits for it, and a file that was never read has no version that could stay",
    function()
      e = engine.new { files = { ["a.yaml"] = "x: 1" } }
      open("a.yaml")
      local w = e:reload { trigger = "start", cause = "start" }
      e:step()
      e:advance(1000)
      assert.is_false(w:answered())
      for _ = 1, 50 do e:advance(100) end
      assert.equal("failed", w:outcome())
      close("a.yaml")
      e:advance(60000)
      assert.equal("1", e:value("x"))
    end)

  it("an optional file that is new does not exist yet for an automatic run", function()
    e = engine.new { files = { ["a.yaml"] = "x: 1" }, sources = { "a.yaml", "b.yaml" } }
    e.loader.next.sources[1].optional = true
    e:reload { trigger = "start", cause = "start" }
    e:step()
    write_half("b.yaml", "x: 2")
    e:trigger("poll", "poll")
    e:advance(100)
    assert.equal("1", e:value("x"))
    close("b.yaml")
    e:advance(60000)
    assert.equal("2", e:value("x"))
  end)

  it("a file of the policy keeps the policy, or fails the explicit run", function()
    e = engine.started {}
    e:set_policy { set = { min_interval_ms = 1 } }
    open("reload.lua")
    e:write("a.yaml", "x: 2")
    e:trigger("poll", "poll")
    e:advance(100)
    assert.equal("2", e:value("x"))
    assert.equal(0, tonumber(C.segue__engine_policy(e.c).min_interval_ms))
    local w = e:reload()
    e:step()
    for _ = 1, 51 do e:advance(100) end
    assert.equal("failed", w:outcome())
    assert.equal("reload.lua is being written", w:error().message)
    close("reload.lua")
    e:advance(60000)
    assert.equal(1, tonumber(C.segue__engine_policy(e.c).min_interval_ms))
  end)

  it("an explicit run waits for its schema", function()
    e = engine.started { files = { ["a.yaml"] = "x: 1", ["s.json"] = "{}" }, schema = "s.json" }
    write_half("s.json", '{"properties":{"x":{"type":"string"}}}')
    local w = e:reload()
    e:step()
    e:advance(1000)
    assert.is_false(w:answered())
    close("s.json")
    e:advance(100)
    assert.equal("rejected", w:outcome())
    assert.is_true(warned(w, "x"))
  end)

  it("a source that allows it is read as it is", function()
    e = engine.new { files = { ["a.yaml"] = "x: 1" } }
    e.loader.next.sources[0].allow_writing = true
    open("a.yaml")
    local w = e:reload { trigger = "start", cause = "start" }
    e:step()
    assert.equal("applied", w:outcome())
  end)

  it("a stop answers waiting requests at once", function()
    e = engine.started {}
    write_half("a.yaml", "x: 2")
    local w = e:reload()
    e:step()
    e:stop()
    e:step()
    e:advance(0)
    assert.is_true(w:answered())
    assert.equal("1", e:value("x"))
  end)
end)
