-- SPDX-License-Identifier: MIT
-- Options: a tree is validated by a table, all its mistakes are found, and a struct is filled.
local C = require "spec.support.c"
local document = require "spec.support.document"
local ffi = C.ffi

-- Fills the struct of all types from a text in YAML: the struct, or nil and the errors.
local function fill(yaml, first)
  local doc = yaml and document.good(yaml)
  local out, errors = ffi.new("options_all[1]"), ffi.new("segue__errors[1]")
  local rc = C.options_all_fill(doc and doc.root or nil, first or 0, out, errors)
  local list = {}
  for i = 0, tonumber(errors[0].count) - 1 do list[i + 1] = C.err(errors[0].items + i) end
  C.segue__errors_deinit(errors)
  assert.equal(#list == 0, rc == 0)
  if rc ~= 0 then return nil, list end
  return { struct = ffi.gc(out, C.options_all_clear), tree = doc }
end

local function good(yaml, first)
  local all, errors = fill(yaml, first)
  assert(all, errors and errors[1].text)
  return setmetatable(all, { __index = all.struct[0] })
end

local function refused(yaml, first)
  local all, errors = fill(yaml, first)
  assert(not all, yaml .. " is accepted")
  return errors
end

describe("a table of options", function()
  it("fills a struct from its defaults", function()
    local all = good(nil)
    assert.is_true(all.text == nil)
    assert.equal("etc/x.so", ffi.string(all.path))
    assert.equal(1000, tonumber(all.duration_ms))
    assert.equal(1048576, tonumber(all.size_bytes))
    assert.equal(3, tonumber(all.count))
    assert.equal(-7, tonumber(all.integer))
    assert.is_true(all.boolean)
    assert.equal(1, all.choice)
    assert.equal(10000, tonumber(all.drain.within_ms))
    assert.is_false(all.number_given)
    assert.is_false(all.on)
    assert.equal(50, all.rate)
  end)

  it("fills a struct with what is written", function()
    local all = good [[
text: hello
path: /abs
string: ""
duration: 1m30s
size: 64kB
count: 12
integer: -3
number: 0
boolean: false
choice: restart
on: always
pages: [metrics]
rate: 600/m
mode: "0640"
secret: 5
texts: [a, b]
times: [1s, 0.25]
pairs: {B: [x, 2], A: false}
drain: {within: 2s, over: wait}
drains: [{over: undo}, {}]
any: {deep: [1]}
]]
    assert.equal("hello", ffi.string(all.text))
    assert.equal("/abs", ffi.string(all.path))
    assert.is_true(all.string.data ~= nil and all.string.len == 0)
    assert.equal(90000, tonumber(all.duration_ms))
    assert.equal(64000, tonumber(all.size_bytes))
    assert.equal(12, tonumber(all.count))
    assert.equal(-3, tonumber(all.integer))
    assert.is_true(all.number_given)
    assert.equal(0, all.number)
    assert.is_false(all.boolean)
    assert.equal(2, all.choice)
    assert.is_true(all.on)
    assert.equal(2, all.pages)
    assert.equal(10, all.rate)
    assert.equal(416, all.mode)
    assert.equal("b", ffi.string(all.texts.items[1]))
    assert.equal(250, tonumber(all.times.items[1]))
    assert.equal(3, tonumber(all.pairs.count))
    assert.equal("2", ffi.string(all.pairs.items[1].value))
    assert.equal("A", ffi.string(all.pairs.items[2].key))
    assert.is_true(all.pairs.items[2].value == nil)
    assert.equal(2000, tonumber(all.drain.within_ms))
    assert.equal(1, all.drain.over)
    assert.equal(2, all.drains.items[0].over)
    assert.equal(10000, tonumber(all.drains.items[1].within_ms))
    assert.equal('{"deep":[1]}', document.json(all.any))
  end)

  it("takes shorthands: one item for a list, one value or true for a table", function()
    local all = good "texts: one\ndrain: 5s"
    assert.equal(1, tonumber(all.texts.count))
    assert.equal("one", ffi.string(all.texts.items[0]))
    assert.equal(5000, tonumber(all.drain.within_ms))
    assert.equal(10000, tonumber(good("drain: true").drain.within_ms))
  end)

  it("takes items without a name for its positional option", function()
    local all = good '"": [a, b]\ntext: x'
    assert.equal(2, tonumber(all.texts.count))
    local errors = refused '"": [a]\ntexts: [b]'
    assert.equal("[0] is texts, which is also given by its name",
      errors[1].message)
  end)

  it("fills a kind of a family with the rows of both", function()
    local all = good "pets: {tom: {kind: cat, legs: 3, home: sofa}, rex: {kind: dog}}"
    local tom, rex = all.pets.items[0], all.pets.items[1]
    assert.equal("tom", ffi.string(tom.name))
    assert.equal(3, tonumber(tom.legs))
    assert.equal("meow", ffi.string(ffi.cast("const char *", tom.kind.data)))
    local cat = ffi.cast("options_cat *", tom.kind.options)
    assert.equal(9, tonumber(cat.lives))
    assert.equal("etc/sofa", ffi.string(cat.home))
    assert.equal(4, tonumber(rex.legs))
    assert.is_true(rex.kind.options == nil)
  end)
end)

describe("a mistake in options", function()
  local cases = {
    ["txt: a"] = 'txt is not a known key here: did you mean "text"?',
    ["zzzzzz: a"] = "zzzzzz is not a known key here: known are any, boolean, call, choice, count,",
    ["drain: {witin: 1s}"] = 'drain.witin is not a known key here: did you mean "within"?',
    ["text: 5"] = "text must be a text, not 5",
    ['text: ""'] = "text must not be empty",
    ["path: [a]"] = "path must be the path of a file, not a list",
    ["duration: soon"] = 'duration must be a duration such as 500ms, 10s or 1h30m, not "soon"',
    ['duration: "10"'] = 'duration must be a duration such as 500ms, 10s or 1h30m, not "10"',
    ["duration: 50ms"] = 'duration must be between 100ms and 1h, not "50ms"',
    ["drain: {within: 0s}"] = 'drain.within must be longer than 0, not "0s"',
    ["times: [400d]"] = 'times[0] must be at most 366d, not "400d"',
    ["times: [1e300]"] = "times[0] must be at most 366d, not 1.0e300",
    ["times: [.nan]"] = 'times[0] must be a duration such as 500ms, 10s or 1h30m, not ".nan"',
    ["size: 0"] = "size must be at least 1B, not 0",
    ["size: much"] = 'size must be a size such as 16MiB, not "much"',
    ["count: 0"] = "count must be between 1 and 256, not 0",
    ["count: 1.5"] = "count must be a whole number, not 1.5",
    ["count: many"] = 'count must be a whole number, not "many"',
    ["number: 1.5"] = "number must be between 0 and 1, not 1.5",
    ["boolean: 1"] = "boolean must be true or false, not 1",
    ["choice: x"] = 'choice must be "swap", "handover" or "restart", not "x"',
    ["on: maybe"] = 'on must be "never" or "always", not "maybe"',
    ["pages: [health, metric]"] = 'pages[1] must be "health" or "metrics", not "metric"',
    ["pages: health"] = 'pages must be a list of "health" or "metrics", not "health"',
    ["rate: 5"] = 'rate must be a rate such as 10/s, 600/m or 1000/h, or "none", not 5',
    ["rate: 0/s"] = "rate must be a rate such as",
    ["mode: 640"] = 'mode must be permissions such as "0644", not 640',
    ["mode: '0849'"] = "mode must be permissions",
    ["texts: 1"] = "texts must be a text or a list of texts, not 1",
    ["texts: [a, 2]"] = "texts[1] must be a text, not 2",
    ["texts: [a, b, c, d]"] = "texts must have at most 3 items, not 4",
    ["times: 1s"] = 'times must be a list of durations, not "1s"',
    ["pairs: [a]"] = "pairs must be a table of texts, not a list",
    ["pairs: {a: true}"] = "pairs.a must be a text or false, not true",
    ["drain: soon"] =
      'drain must be true, a duration such as 500ms, 10s or 1h30m or a table, not "soon"',
    ["drain: {within: 2m, over: undo}"] = 'drain.within must be at most 1m where over is "undo"',
    ["drains: [1]"] = "drains[0] must be a table, not 1",
    ["pets: {tom: {legs: 3}}"] = 'pets.tom.kind is missing: it is "cat" or "dog"',
    ["pets: {tom: {kind: fish}}"] = 'pets.tom.kind must be "cat" or "dog", not "fish"',
    ["pets: {tom: {kind: cat}}"] = 'pets.tom.home is missing: home = "/sofa"',
    ["pets: {tom: {kind: dog, home: a}}"] = 'pets.tom.home is not a known key here: known are legs',
    ["pets: {tom: 1}"] = "pets.tom must be a table, not 1",
    ["call: 1"] = "call must be a function, not 1",
    ["secret: 0"] = "secret must be at least 1",
  }
  for yaml, message in pairs(cases) do
    it("is described: " .. yaml, function()
      local errors = refused(yaml)
      assert.equal(1, #errors)
      assert.equal(message, errors[1].message:sub(1, #message))
      assert.equal("reload.lua", errors[1].file)
      assert.equal(C.SEGUE_EPOLICY, errors[1].code)
      assert.equal(1, errors[1].line)
    end)
  end

  it("of a secret option does not show the value", function()
    assert.is_nil(refused("secret: 0.12345")[1].message:find("12345", 1, true))
  end)

  it("has the number of an item as the language counts", function()
    assert.equal("texts[2] must be a text, not 2", refused("texts: [a, 2]", 1)[1].message)
    assert.equal("texts[1] must be a text, not 2", refused("texts: [a, 2]", 0)[1].message)
  end)

  it("is found with all others, each at its line and path", function()
    local errors = refused "text: 1\ndrain:\n  within: x\n  over: y\npets:\n  tom: {kind: z}"
    local found = {}
    for i, e in ipairs(errors) do found[i] = e.line .. " " .. e.path end
    assert.same({ "1 ", "3 drain.within", "4 drain.over", "6 pets.tom.kind" }, found)
  end)

  it("keeps the check of its table from running on values that are wrong", function()
    assert.equal(1, #refused "drain: {within: 2m, over: undo}")
    local errors = refused "drain: {within: 2m, over: undo, wthin: 1s}"
    assert.equal(1, #errors)
    assert.equal('drain.wthin is not a known key here: did you mean "within"?', errors[1].message)
  end)
end)

describe("memory that runs out", function()
  it("is an error, and nothing is leaked or freed that was not allocated", function()
    local doc = document.good("text: a\ntexts: [a, b]\npairs: {a: b}\n"
      .. "pets: {tom: {kind: cat, home: h}}")
    collectgarbage()
    collectgarbage("stop") -- it would free what other specs made, and change the count
    finally(function() collectgarbage("restart") end)
    for n = 1, 100 do
      local live = C.segue__mem_live()
      local out, errors = ffi.new("options_all[1]"), ffi.new("segue__errors[1]")
      C.segue__mem_fail_at(n)
      local rc = C.options_all_fill(doc.root, 0, out, errors)
      C.segue__mem_fail_at(0)
      if rc == 0 then C.options_all_clear(out) end
      C.segue__errors_deinit(errors)
      assert.equal(live, C.segue__mem_live())
      if rc == 0 then return end
      assert.equal("ENOMEM", C.name(rc))
    end
    error("100 allocations are not enough")
  end)
end)

describe("a duration", function()
  local function read(text)
    local ms = ffi.new("double[1]")
    return C.segue__duration_read(text, #text, ms) and ms[0] or nil
  end

  it("is read by one grammar", function()
    for text, ms in pairs { ["50ms"] = 50, ["1.5s"] = 1500, ["1h30m"] = 5400000, ["2d"] = 172800000,
        ["0s"] = 0, ["1m1m"] = 120000 } do
      assert.equal(ms, read(text))
    end
    for _, text in ipairs { "", "10", "s", "1 s", "-1s", "1e3s", "0x1s", "1h 30m", "1S", "1.5.2s",
        ".5s", "inf", "1h30" } do
      assert.is_nil(read(text), text)
    end
  end)

  it("is written so that it reads back", function()
    local buf = ffi.new("char[48]")
    for _, text in ipairs { "50ms", "1s500ms", "1h30m", "2d", "0s", "366d" } do
      assert.equal(text, ffi.string(C.segue__duration_text(read(text), buf)))
    end
  end)

  it("of a parameter may be a number of seconds", function()
    local ms = ffi.new("uint64_t[1]")
    for text, value in pairs { ["0"] = 0, ["5"] = 5000, ["0.5"] = 500, ["200ms"] = 200 } do
      assert.is_true(C.segue__duration_of(text, ms))
      assert.equal(value, tonumber(ms[0]))
    end
    for _, text in ipairs { "", "x", "-1", "1e3", "367d", "99999999999" } do
      assert.is_false(C.segue__duration_of(text, ms), text)
    end
  end)
end)

describe("a size", function()
  it("is read and written", function()
    local bytes, buf = ffi.new("double[1]"), ffi.new("char[48]")
    for text, value in pairs { ["16MiB"] = 2 ^ 24, ["1kB"] = 1000, ["5"] = 5,
        ["1.5KiB"] = 1536 } do
      assert.is_true(C.segue__size_read(text, #text, bytes), text)
      assert.equal(value, bytes[0])
    end
    for _, text in ipairs { "", "MiB", "1 ", "1mib", "-1", "1  kB" } do
      assert.is_false(C.segue__size_read(text, #text, bytes), text)
    end
    assert.equal("16MiB", ffi.string(C.segue__size_text(2 ^ 24, buf)))
    assert.equal("1B", ffi.string(C.segue__size_text(1, buf)))
  end)
end)
