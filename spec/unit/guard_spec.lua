-- SPDX-License-Identifier: MIT
-- Guards: what is too little or too old is held, with the numbers, until it changes or an operator
-- lets it through, once.
local engine = require "spec.support.engine"
local C = require "spec.support.c"

local e
local function started(guard, spec)
  spec = spec or {}
  spec.sources = spec.sources or { "base.yaml", "a.yaml" }
  spec.guards = { [2] = guard }
  spec.files = spec.files or { ["base.yaml"] = "b: 1\n",
    ["a.yaml"] = "k1: 1\nk2: 2\nk3: 3\nk4: 4\n" }
  e = engine.started(spec)
end

local function reload(options) return e:reload_now(options) end

local function held(w, text)
  assert.equal("held", w:outcome())
  assert.equal("SEGUE_EHELD", w:error().name)
  assert.truthy(w:error().message:find(text, 1, true), w:error().message)
end

describe("a guard", function()
  after_each(function()
    if e then e:close() end
    e = nil
  end)

  it("holds fewer items than min_items", function()
    started({ min_items = 2 })
    e:write("a.yaml", "k1: 1\n")
    local w = reload()
    held(w, "a.yaml has 1 item, and its guard requires min_items = 2: look at the source, or let "
      .. "it through once by a reload with accept-shrink")
    assert.equal("a.yaml", w:error().source)
    assert.equal("4", e:value("k4"))
    e:write("a.yaml", "k1: 1\nk2: 5\n")
    assert.equal("applied", reload():outcome())
  end)

  it("holds data that shrank too much since it was last applied", function()
    started({ max_shrink = 0.5 })
    e:write("a.yaml", "k1: 1\n")
    held(reload(), "went from 4 items to 1 (75 % less), and its guard allows max_shrink = 0.5")
    e:write("a.yaml", "k1: 1\nk2: 2\n")
    assert.equal("applied", reload():outcome())
    e:write("a.yaml", "k1: 1\n")
    assert.equal("applied", reload():outcome())
  end)

  it("compares with the live data, not with the held data", function()
    started({ max_shrink = 0.5 })
    e:write("a.yaml", "k1: 1\n")
    held(reload(), "from 4 items to 1")
    held(reload(), "from 4 items to 1")
  end)

  it("allows no loss at all where max_shrink is 0, and growth always", function()
    started({ max_shrink = 0 })
    e:write("a.yaml", "k1: 1\nk2: 2\nk3: 3\n")
    held(reload(), "(25 % less)")
    e:write("a.yaml", "k1: 1\nk2: 2\nk3: 3\nk4: 4\nk5: 5\n")
    assert.equal("applied", reload():outcome())
  end)

  it("holds data that has lost a required path", function()
    started({ required = { "k1", "k2" } })
    e:write("a.yaml", "k1: 1\n")
    local w = reload()
    held(w, "a.yaml has nothing at k2, which its guard requires")
    assert.equal("k2", w:error().path)
  end)

  it("counts the documents of a source together, and no other source", function()
    started({ min_items = 4 })
    e:write("base.yaml", "b: 1\nc: 2\nd: 3\n")
    e:write("a.yaml", "k1: 1\nk2: 2\nk3: 3\n")
    held(reload(), "a.yaml has 3 items")
  end)

  it("reports every guard that holds", function()
    started({ min_items = 2, max_shrink = 0.1, required = { "k2" } })
    e:write("a.yaml", "k1: 1\n")
    assert.equal(3, tonumber(reload():result().errors.count))
  end)

  it("validates after the schema and before the policy", function()
    started({ min_items = 2 }, { check = engine.OK })
    e:journal()
    e:write("a.yaml", "k1: 1\n")
    held(reload(), "min_items")
    assert.falsy(e:journal():find("check 2", 1, true))
  end)

  it("does not run where nothing changed", function()
    started({ min_items = 1 })
    assert.equal("unchanged", reload():outcome())
  end)

  it("holds a plan as it holds the reload", function()
    started({ min_items = 2 })
    e:write("a.yaml", "k1: 1\n")
    assert.equal("held", reload({ plan = true }):outcome())
  end)

  it("holds the first start, too", function()
    e = engine.new { sources = { "a.yaml" }, guards = { { min_items = 2 } },
      files = { ["a.yaml"] = "k1: 1\n" } }
    held(reload(), "min_items = 2: look at the source, or change its guard")
  end)

  it("skips held data by itself, until the data changes", function()
    started({ min_items = 2 })
    e:write("a.yaml", "k1: 1\n")
    held(reload(), "min_items")
    e:journal()
    e:trigger("watch", "a.yaml changed")
    e:advance(100)
    assert.truthy(e:journal():find("settled held skipped", 1, true))
    e:write("a.yaml", "k1: 1\nk2: 3\n")
    e:trigger("watch", "a.yaml changed")
    e:advance(100)
    assert.equal("3", e:value("k2"))
  end)

  it("of a source that is asked over a network compares across its options", function()
    e = engine.new { sources = { { "net", spec = 1 } }, guards = { { max_shrink = 0.5 } } }
    e:deliver("net", "a: 1\nb: 1\nc: 1\n")
    assert.equal("applied", reload():outcome())
    e:set_policy { sources = { { "net", spec = 2 } }, guards = { { max_shrink = 0.5 } } }
    e:deliver("net", "a: 1\n")
    held(reload(), "from 3 items to 1")
  end)

  it("counts missing documents", function()
    e = engine.new { sources = { { "net" } }, guards = { { max_shrink = 0.5 } } }
    e:deliver("net", "a: 1\nb: 1\nc: 1\n")
    reload()
    e:deliver("net", "")
    held(reload(), "from 3 items to 0 (100 % less)")
  end)

  it("that runs out of memory fails, and accepts nothing", function()
    started({ min_items = 2 })
    e:write("a.yaml", "k1: 1\n")
    for at = 1, 100 do
      local w = e:reload { fail_at = at }
      e:step()
      C.segue__mem_fail_at(0)
      assert.is_not.equal("applied", w:outcome())
      assert.equal("4", e:value("k4"))
    end
  end)
end)

describe("an operator that accepts", function()
  after_each(function()
    if e then e:close() end
    e = nil
  end)

  it("accepts all data that is too small, once", function()
    started({ min_items = 2, max_shrink = 0.1, required = { "k2" } })
    e:write("a.yaml", "k1: 7\n")
    assert.equal("applied", reload({ accept_shrink = true }):outcome())
    assert.equal("7", e:value("k1"))
    e:write("a.yaml", "k1: 8\n")
    local w = reload()
    held(w, "min_items")
    assert.equal(2, tonumber(w:result().errors.count)) -- the shrink is the measure now
  end)

  it("accepts for a run that serves others as well", function()
    started({ min_items = 2 })
    e:write("a.yaml", "k1: 7\n")
    local other, accepts = e:reload(), e:reload { accept_shrink = true }
    e:step()
    assert.equal("applied", other:outcome())
    assert.equal("applied", accepts:outcome())
  end)

  it("and has left before the run began accepts nothing", function()
    started({ min_items = 2 })
    e:write("a.yaml", "k1: 7\n")
    local other, accepts = e:reload(), e:reload { accept_shrink = true }
    e:forget(accepts)
    e:step()
    held(other, "min_items")
  end)

  it("under a condition that does not hold accepts nothing", function()
    started({ min_items = 2 })
    e:write("a.yaml", "k1: 7\n")
    local other, accepts = e:reload(), e:reload { accept_shrink = true, if_match = "9" }
    e:step()
    assert.equal("SEGUE_ECONFLICT", accepts:outcome())
    held(other, "min_items")
  end)
end)

describe("max_age", function()
  after_each(function()
    if e then e:close() end
    e = nil
  end)

  it("holds a reload on data that is too old, and applies data that returns", function()
    e = engine.new { sources = { "a.yaml", { "net", retry_max_ms = 1000 } },
      guards = { [2] = { max_age_ms = 60000 } } }
    e:deliver("net", "n: 1\n")
    reload { trigger = "start" }
    e:source("net").fetch = engine.FAIL
    e:write("a.yaml", "x: 2\n")
    assert.equal("applied", reload():outcome())
    assert.is_false(e:source_status("net").too_old)
    e:advance(61000)
    e:write("a.yaml", "x: 3\n")
    local w = reload()
    held(w, "net is away, and what it delivered 61 s ago is older than max_age = 60 s allows")
    assert.is_true(e:source_status("net").too_old)
    -- an operator knows better, for that run; the next one is held again
    assert.truthy(w:error().message:find(
      "bring it back, or let it through once by a reload with accept-shrink (", 1, true))
    assert.equal("applied", reload({ accept_shrink = true }):outcome())
    assert.equal("3", e:value("x"))
    assert.is_true(e:source_status("net").too_old)
    e:write("a.yaml", "x: 4\n")
    held(reload(), "older than max_age")
    assert.equal("3", e:value("x"))
    -- the same bytes come back: no new fetch is needed
    e:source("net").fetch = engine.OK
    e:advance(3000)
    assert.equal("4", e:value("x"))
    assert.is_false(e:source_status("net").too_old)
  end)
end)
