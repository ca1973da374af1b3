-- SPDX-License-Identifier: MIT
-- Sources in Lua that deliver changes, get the outcome of reloads, and the names that are used.
local C = require "spec.support.c"
local bind = require "spec.support.bind"

local b, seen
before_each(function() b, seen = bind.open(), 0 end)
after_each(function()
  local opened = b
  b = nil
  if opened then opened:close() end
end)

-- A policy whose source holds the documents of segue.state.all at the revision segue.state.r.
local function policy(watch, more)
  return ([[local segue = require "segue"
segue.state.r = segue.state.r or 1
segue.state.all = segue.state.all or { a = 1, b = 2 }
local function document(name, value) return { name = name, text = name .. ": " .. value } end
return { triggers = {}, sources = { segue.source { name = "net",
  fetch = function(self)
    segue.log.info("fetch", { from = self.revision or "nothing" })
    local list = {}
    for name, value in pairs(segue.state.all) do list[#list + 1] = document(name, value) end
    table.sort(list, function(x, y) return x.name < y.name end)
    return list, "r" .. segue.state.r
  end,
  watch = function(self, emit)
    %s
    segue.sleep "1h"
  end, %s } } }]]):format(watch, more or "")
end

local function start(watch, more)
  b:write("reload.lua", policy(watch, more))
  b:engine()
  local result = b:reload()
  assert.equal("applied", result.outcome, result.errors[1] and result.errors[1].text)
end

-- Lines of the log since the last call.
local function logged()
  local text = b:logged()
  local new = text:sub(seen + 1)
  seen = #text
  return new
end

local function count(text, what) return select(2, text:gsub(what:gsub("%p", "%%%0"), "")) end

describe("a watch in Lua that emits changes", function()
  it("puts documents by name, removes them, and loses none of one turn of the loop", function()
    start [[
      segue.sleep "1s"
      for i = 1, 20 do emit({ document("n" .. i, i) }, "r" .. i + 1, "r" .. i) end
      emit({ { name = "b", removed = true }, { name = "v", value = { v = "x" } } }, "r22", "r21")]]
    logged()
    b:advance(1100)
    for i = 1, 20 do assert.equal(tostring(i), b:value("n" .. i)) end
    assert.equal("1", b:value("a"))
    assert.is_nil(b:value("b"))
    assert.equal('"x"', b:value("v"))
    assert.equal("r22", b:source_status("net").revision)
    assert.equal(0, count(logged(), "from="))
  end)

  it("is fetched from nothing where changes are missing between", function()
    start [[
      segue.sleep "1s"
      segue.state.all, segue.state.r = { a = 5 }, 9
      emit({ document("z", 1) }, "r8", "r7")]]
    logged()
    b:advance(2000)
    assert.is_nil(b:value("z"))
    assert.is_nil(b:value("b"))
    assert.equal("5", b:value("a"))
    assert.equal("r9", b:source_status("net").revision)
    assert.equal(1, count(logged(), "from=nothing"))
  end)

  local mistakes = {
    { "a removed document without a base", 'emit({ { name = "a", removed = true } }, "r2")',
      "document 1 is removed: that is a change, which needs the revision that it changes" },
    { "no revision", 'emit({ document("a", 2) }, nil, "r1")',
      "delivered changes without their revision" },
    { "a document without a name", 'emit({ { text = "a: 2" } }, "r2", "r1")',
      "change 1 must be a document with a name" },
    { "a text", 'emit("a: 2", "r2", "r1")', "delivered a string: changes are a list of documents" },
    { "values in place of the list", 'emit({ a = 2 }, "r2", "r1")',
      "delivered a list of changes with the key 'a' in it" },
    { "a removed document with a text",
      'emit({ { name = "a", text = "a: 2", removed = true } }, "r2", "r1")',
      "document 1 is removed" },
    { "a base that is a table", 'emit({ document("a", 2) }, "r2", {})',
      "its revision must be a short text, not a table" },
  }
  for _, case in ipairs(mistakes) do
    it("fails with " .. case[1], function()
      start('segue.sleep "1s" ' .. case[2])
      b:advance(1010)
      local log = logged()
      assert.truthy(log:find(case[3], 1, true), log)
      assert.equal("1", b:value("a"))
    end)
  end
end)

describe("a fetch in Lua that returns changes", function()
  local function changing(base)
    b:write("reload.lua", ([[local segue = require "segue"
return { triggers = {}, sources = { segue.source { name = "net", fetch = function(self)
  segue.log.info("fetch", { from = self.revision or "nothing" })
  if not self.revision then
    segue.state.n = (segue.state.n or 0) + 1
    return { { name = "a", text = "a: " .. segue.state.n }, { name = "b", text = "b: 1" } }, "r1"
  end
  return { { name = "b", text = "b: 2" } }, "r2", %s
end } } }]]):format(base))
    b:engine()
    assert.equal("applied", b:reload().outcome)
    assert.equal("applied", b:reload().outcome)
  end

  it("changes what is held", function()
    changing "self.revision"
    assert.equal("1", b:value("a"))
    assert.equal("2", b:value("b"))
    assert.equal("r2", b:source_status("net").revision)
  end)

  it("is called again without a revision if its base is another", function()
    changing '"r0"'
    assert.equal("2", b:value("a"))
    assert.equal("1", b:value("b"))
    assert.equal("r1", b:source_status("net").revision)
  end)
end)

describe("the function outcome of a source in Lua", function()
  local LOGS = [[outcome = function(self, o)
    segue.log.info("outcome", { name = self.name, revision = o.revision, outcome = o.outcome,
      generation = o.generation, errors = #o.errors, why = o.errors[1] and o.errors[1].message })
  end]]

  it("is called after each reload that used a delivery, also of a rejected policy", function()
    start("", LOGS)
    b:advance(100)
    local log = logged()
    assert.truthy(log:find("errors=0 generation=1 name=net outcome=applied revision=r1", 1, true),
      log)
    b:write("reload.lua", policy("", LOGS .. ', guard = { min_items = 9 }'))
    assert.equal("held", b:reload().outcome)
    b:advance(100)
    log = logged()
    assert.truthy(log:find("errors=1 generation=1 name=net outcome=held revision=r1 why=", 1, true),
      log)
    b:write("reload.lua", policy("", LOGS .. ', optional = true'):gsub('"outcome"', '"newer"'))
    assert.equal("applied", b:reload().outcome)
    b:advance(100)
    log = logged()
    assert.truthy(log:find("newer errors=0 generation=2 name=net outcome=applied", 1, true), log)
  end)

  it("runs once at a time, and for several reloads that ended meanwhile with the last", function()
    start("", [[outcome = function(self, o)
      segue.log.info("outcome: begin " .. o.outcome)
      segue.sleep "5s"
      segue.log.info("outcome: end " .. o.outcome)
    end, timeout = "8s"]])
    for _ = 1, 3 do assert.equal("unchanged", b:reload().outcome) end
    b:advance(20000)
    local ends = {}
    for line in logged():gmatch("outcome: (%a+ %a+)") do ends[#ends + 1] = line end
    assert.same({ "begin applied", "end applied", "begin unchanged", "end unchanged" }, ends)
  end)

  it("that fails is logged, and harms nothing", function()
    start("", 'outcome = function() error("no way") end')
    b:advance(100)
    local log = logged()
    assert.truthy(log:find("a function of a source failed", 1, true), log)
    assert.truthy(log:find("no way", 1, true), log)
    assert.equal("unchanged", b:reload().outcome)
  end)

  it("that throws shows no words that it received", function()
    start("", 'outcome = function(self, o) error("stays " .. o.revision) end')
    b:advance(100)
    local log = logged()
    assert.truthy(log:find("stays ***", 1, true), log)
  end)

  it("that takes too long is ended", function()
    start("", 'outcome = function() segue.sleep "1h" end, timeout = "2s"')
    b:advance(3000)
    assert.truthy(logged():find("outcome took longer than 2000 ms", 1, true))
  end)

  it("ends with its policy", function()
    start("", 'outcome = function() segue.sleep "9s" end')
    b:advance(10)
    assert.is_true(b:stats().tasks >= 2)
    b:write("reload.lua", (policy(""):gsub('name = "net"', 'name = "other"')))
    assert.equal("applied", b:reload().outcome)
    b:advance(10)
    assert.equal(1, b:stats().states)
  end)
end)

describe("the function want of a source in Lua", function()
  local function want(...)
    local names = { ... }
    return C.segue__sources_want(b.engine_c.sources, "net",
      C.ffi.new("const char *[?]", #names, names), #names)
  end

  it("is called with the names, and a fetch follows", function()
    start("", [[want = function(self, names)
      segue.log.info("want", { names = table.concat(names, "+"), of = self.name })
    end]])
    b:advance(100)
    logged()
    assert.is_true(want("limits", "zones"))
    b:advance(100)
    local log = logged()
    assert.truthy(log:find("names=limits+zones of=net", 1, true), log)
    assert.equal(1, count(log, "from=r1"))
  end)

  it("is not there for a source that delivers everything", function()
    start ""
    b:advance(100)
    logged()
    assert.is_false(want "limits")
    b:advance(100)
    assert.equal(0, count(logged(), "from="))
  end)
end)
