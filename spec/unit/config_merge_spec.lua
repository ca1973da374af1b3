-- SPDX-License-Identifier: MIT
-- Merging documents: who wins, where a value then comes from, and what is shared.
local C = require "spec.support.c"
local document = require "spec.support.document"
local ffi = C.ffi

local function merge(...)
  local docs = {}
  for i, text in ipairs { ... } do
    docs[i] = document.good(text, { name = "file" .. i, source = "source" .. i })
  end
  return document.merge(unpack(docs)), docs
end

local function merged(...)
  local config = merge(...)
  return document.json(config.root)
end

describe("merging documents", function()
  it("joins maps; the later document wins; everything else is replaced", function()
    assert.equal('{"a":{"x":1,"y":3,"z":4},"l":[9],"b":1,"c":2}',
      merged("a: {x: 1, y: 2}\nl: [1, 2]\nb: 1", "a: {y: 3, z: 4}\nl: [9]\nc: 2"))
    assert.equal('{"a":1}', merged("a: {x: 1}", "a: 1"))
    assert.equal('{"a":{"x":1}}', merged("a: 1", "a: {x: 1}"))
    assert.equal('{"a":null}', merged("a: {x: 1}", "a: ~"))
    assert.equal('{"a":{"z":3}}', merged("a: {x: 1}", "a: ~", "a: {z: 3}"))
    assert.equal('{"a":{"y":2,"z":3}}', merged("a: {x: 1}", "a: 5", "a: {y: 2}", "a: {z: 3}"))
    assert.equal('{"a":{"b":{"c":{"d":2,"e":1}}}}',
      merged("a: {b: {c: {d: 1, e: 1}}}", "a: {b: {c: {d: 2}}}"))
  end)

  it("of none or of empty ones is an empty map", function()
    assert.equal("{}", merged())
    assert.equal("{}", merged("{}", "{}"))
    assert.equal('{"a":{}}', merged("a: {}", "a: {}"))
    assert.equal('{"a":{"x":1}}', merged("a: {}", "a: {x: 1}", "a: {}"))
  end)

  it("warns of a list that another document of the same source replaces", function()
    local function warnings(...)
      local list, docs = ffi.new("segue__document *[4]"), {}
      for i, doc in ipairs { ... } do
        docs[i] = document.good(doc[2], { name = "rules/" .. i .. ".yml", source = doc[1] })
        list[i - 1] = docs[i]
      end
      local out, hidden, err = ffi.new("segue__config *[1]"), ffi.new("segue__errors[1]"), C.error()
      C.check(C.segue__config_merge_warned(out, list, #docs, hidden, err), err)
      C.segue__config_unref(out[0])
      local found = {}
      for i = 0, tonumber(hidden[0].count) - 1 do found[i + 1] = C.err(hidden[0].items + i).text end
      C.segue__errors_deinit(hidden)
      return found
    end
    assert.same({ "rules/2.yml:2:12: this list replaces the one of rules/1.yml:1: lists of several "
      .. 'files are not joined (by = "file" keeps each file\'s own) (at a."b c")' },
      warnings({ "d", 'a: {"b c": [1]}\nx: [1]\nl: [9]' },
        { "d", '\na: {"b c": [2], d: 1}\nl: [9]' },
        { "other", "x: [2]" }, { "d", "x: {}" }))
    assert.same({}, warnings({ "d", "a: [1]" }, { "d", "a: 1" }, { "d", "a: [2]" }))
    assert.equal(2, #warnings({ "d", "a: [1]" }, { "d", "a: [2]" }, { "d", "a: [3]" }))
  end)

  it("gives the same hash as the same value from one document", function()
    local config = merge("a: {x: 1, y: 2}\nb: [1]", "a: {y: 3}\nc: ~")
    local one = document.good("c: ~\nb: [1]\na: {y: 3, x: 1}")
    assert.equal(document.hash(one.root), document.hash(config.root))
  end)

  it("points into the documents where only one of them has a value", function()
    local config, docs = merge("a: {x: [1, 2]}\nb: {y: 1}", "b: {z: 2}")
    assert.equal(C.segue_node_get(docs[1].root, "a.x[0]"), C.segue_node_get(config.root, "a.x[0]"))
    local single = document.merge(docs[1])
    assert.equal(docs[1].root.v.members, single.root.v.members)
    assert.equal(0, tonumber(single.arena.used))
  end)

  it("knows the document of every node", function()
    local config = merge("a: 1\nm: {x: 1}", "b:\n  2", "m: {y: 3}")
    local function from(path)
      local doc = C.segue__config_document(config, C.segue_node_get(config.root, path))
      return C.str(doc.name)
    end
    assert.equal("file1", from("a"))
    assert.equal("file2", from("b"))
    assert.equal("file1", from("m.x"))
    assert.equal("file3", from("m.y"))
    assert.equal("file3", from("m"))
    local stranger = document.good("z: 1")
    assert.is_true(C.segue__config_document(config, document.at(stranger, "z")) == nil)
  end)

  it("finds the document also where ids are not in declared order", function()
    local newer = document.good("a: 1", { name = "newer" })
    local list = {}
    for i = 1, 20 do list[i] = document.good("k" .. i .. ": 1", { name = "n" .. i }) end
    local shuffled = { list[20], newer }
    for i = 19, 1, -1 do shuffled[#shuffled + 1] = list[i] end
    local config = document.merge(unpack(shuffled))
    for i = 1, 20 do
      local node = C.segue_node_get(config.root, "k" .. i)
      assert.equal("n" .. i, C.str(C.segue__config_document(config, node).name))
    end
  end)

  it("keeps its documents as long as it lives", function()
    local base = document.live()
    local a, b = document.good("a: {x: one}"), document.good("a: {y: two}")
    local config = document.merge(a, b)
    document.free(a)
    document.free(b)
    assert.equal('{"a":{"x":"one","y":"two"}}', document.json(config.root))
    local again = C.segue__config_ref(config)
    C.segue__config_unref(ffi.gc(config, nil))
    assert.equal('"two"', document.json(C.segue_node_get(again.root, "a.y")))
    C.segue__config_unref(again)
    assert.equal(base, document.live())
  end)

  it("of a thousand documents takes as long as reading them", function()
    local docs = {}
    for i = 1, 1000 do
      local lines = { "services:" }
      for k = 1, 20 do lines[#lines + 1] = ("  s%d_%d: {port: %d}"):format(i, k, k) end
      docs[i] = document.good(table.concat(lines, "\n"))
    end
    local config = document.merge(unpack(docs))
    assert.equal(20000, C.segue_node_get(config.root, "services").count)
    assert.equal("7", document.json(C.segue_node_get(config.root, "services.s999_7.port")))
    -- One member each and the index: nothing is copied once per document.
    assert.is_true(tonumber(config.arena.used) < 20000 * 100)
  end)
end)
