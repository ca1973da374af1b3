-- SPDX-License-Identifier: MIT
-- Trees: the builder and its rules, reading nodes, and hashes that say what is equal.
local C = require "spec.support.c"
local document = require "spec.support.document"
local ffi = C.ffi

-- A builder on a document of its own; fn(b, doc) fills it. The document, or nil and the error.
local function build(fn, limits)
  local doc = document.new(nil, { format = "built", name = "built" })
  local out, err = ffi.new("segue__builder *[1]"), C.error()
  C.check(C.segue__builder_new(out, doc, document.limits(limits)))
  fn(out[0], doc)
  local rc = C.segue__builder_finish(out[0], err)
  C.segue__builder_free(out[0])
  if rc == 0 then return doc end
  assert(C.err(err).code == rc)
  return nil, C.err(err)
end

local function key(b, name) return C.segue__builder_key(b, name, #name) end
local function str(b, s) return C.segue__builder_string(b, s, #s) end

describe("the builder", function()
  it("makes a tree of every kind of value", function()
    local doc = build(function(b)
      C.segue__builder_begin(b, C.SEGUE_MAP)
      key(b, "null") C.segue__builder_null(b)
      key(b, "bool") C.segue__builder_bool(b, true)
      key(b, "int") C.segue__builder_int(b, -5)
      key(b, "uint") C.segue__builder_uint(b, 18446744073709551615ULL)
      key(b, "small") C.segue__builder_uint(b, 7)
      key(b, "float") C.segue__builder_float(b, 0.5)
      key(b, "string") str(b, "x")
      key(b, "plain") C.segue__builder_untyped(b, "16", 2)
      key(b, "list")
      C.segue__builder_begin(b, C.SEGUE_LIST)
      C.segue__builder_int(b, 1)
      C.segue__builder_begin(b, C.SEGUE_MAP)
      C.segue__builder_end(b)
      C.segue__builder_end(b)
      C.segue__builder_end(b)
    end)
    assert.equal('{"null":null,"bool":true,"int":-5,"uint":18446744073709551615,"small":7,'
      .. '"float":0.5,"string":"x","plain":16,"list":[1,{}]}', document.json(doc.root))
    assert.equal(0, document.at(doc, "small").flags)
    assert.equal(document.hash(doc.root), document.hash(doc))
  end)

  it("keeps the last position that was set", function()
    local doc = build(function(b)
      C.segue__builder_begin(b, C.SEGUE_MAP)
      C.segue__builder_at(b, 3, 1) key(b, "a")
      C.segue__builder_at(b, 3, 4) C.segue__builder_int(b, 1)
      C.segue__builder_end(b)
    end)
    assert.equal(3, document.at(doc, "a").line)
    assert.equal(4, document.at(doc, "a").column)
    assert.equal(1, doc.root.v.members[0].column)
  end)

  it("keeps the last column that a node can hold for all columns behind it", function()
    local last = 2 ^ 24 - 1
    local doc = build(function(b)
      C.segue__builder_begin(b, C.SEGUE_MAP)
      C.segue__builder_at(b, 1, last - 1) key(b, "a") C.segue__builder_int(b, 1)
      C.segue__builder_at(b, 1, last) key(b, "b") C.segue__builder_int(b, 1)
      C.segue__builder_at(b, 1, last + 1) key(b, "c") C.segue__builder_int(b, 1)
      C.segue__builder_at(b, 1, 2 ^ 32 - 1) key(b, "d") C.segue__builder_begin(b, C.SEGUE_LIST)
      C.segue__builder_end(b)
      C.segue__builder_end(b)
    end)
    for i, column in ipairs { last - 1, last, last, last } do
      local member = doc.root.v.members[i - 1]
      assert.equal(column, member.column)
      assert.equal(column, member.value.column)
    end
  end)

  it("refuses wrong calls, and keeps to the first failure", function()
    local function refused(message, fn)
      local doc, err = build(fn)
      assert.is_nil(doc)
      assert.equal("SEGUE_EUSAGE", err.name)
      assert.equal(message, err.message)
    end
    refused("there is no value", function() end)
    refused("a list or map is still open", function(b) C.segue__builder_begin(b, C.SEGUE_MAP) end)
    refused("nothing is open that could end", function(b) C.segue__builder_end(b) end)
    refused("there is one value at the top level", function(b)
      C.segue__builder_null(b)
      assert.equal(C.SEGUE_EUSAGE, C.segue__builder_null(b))
    end)
    refused("only lists and maps begin", function(b) C.segue__builder_begin(b, C.SEGUE_INT) end)
    refused("a value in a map needs a key", function(b)
      C.segue__builder_begin(b, C.SEGUE_MAP)
      C.segue__builder_null(b)
      assert.equal(C.SEGUE_EUSAGE, C.segue__builder_end(b))
    end)
    refused("a key has no value", function(b)
      C.segue__builder_begin(b, C.SEGUE_MAP)
      key(b, "a")
      C.segue__builder_end(b)
    end)
    refused("a key belongs into a map, before its value", function(b)
      C.segue__builder_begin(b, C.SEGUE_MAP)
      key(b, "a")
      key(b, "b")
    end)
    refused("a key belongs into a map, before its value", function(b)
      C.segue__builder_begin(b, C.SEGUE_LIST)
      key(b, "a")
    end)
  end)

  it("refuses a top level that is not a map, text that is not UTF-8, and NUL", function()
    local function refused(name, text, fn)
      local _, err = build(fn)
      assert.equal(name, err and err.name)
      assert.equal(text, err.text)
    end
    refused("SEGUE_ETYPE", "built: the top level is a list: it must be a map of keys and values",
      function(b)
        C.segue__builder_begin(b, C.SEGUE_LIST)
        C.segue__builder_end(b)
      end)
    local function in_map(fn)
      return function(b)
        C.segue__builder_begin(b, C.SEGUE_MAP)
        fn(b)
        C.segue__builder_end(b)
      end
    end
    refused("SEGUE_EENCODING", "built: the string is not valid UTF-8 (at a)",
      in_map(function(b) key(b, "a") str(b, "\255") end))
    refused("SEGUE_EENCODING", "built: the string contains a NUL byte (at a)",
      in_map(function(b) key(b, "a") str(b, "x\0y") end))
    refused("SEGUE_EENCODING", "built: the key is not valid UTF-8",
      in_map(function(b) key(b, "\255") end))
    refused("SEGUE_EENCODING", "built: the value is not valid UTF-8 (at a)",
      in_map(function(b) key(b, "a") C.segue__builder_untyped(b, "\255", 1) end))
    refused("SEGUE_ESYNTAX", "built: key 'a' is here twice: remove one", in_map(function(b)
      key(b, "a") C.segue__builder_null(b)
      key(b, "a") C.segue__builder_null(b)
    end))
  end)

  it("keeps the limits that parsers keep", function()
    local _, err = build(function(b)
      for _ = 1, 5 do
        C.segue__builder_begin(b, C.SEGUE_MAP)
        key(b, "k")
      end
    end, { depth = 4 })
    assert.equal("SEGUE_ELIMIT", err.name)
    assert.equal("k.k.k.k", err.path)
  end)
end)

describe("a node", function()
  local doc
  setup(function()
    doc = document.good([[
"null": ~
bool: true
int: -5
big: 18446744073709551615
float: 1.5
string: text
list: [1, 2]
map: {a: 1}
more: 9
odd key: 10
]])
  end)

  it("has its type and the number of its members", function()
    local types = { null = "null", bool = "boolean", int = "integer", big = "integer",
      float = "float", string = "string", list = "list", map = "map" }
    for path, name in pairs(types) do
      assert.equal(name, C.str(C.segue_type_name(C.segue_node_type(document.at(doc, path)))))
    end
    assert.equal(4, tonumber(C.segue_node_count(document.at(doc, "string"))))
    assert.equal(2, tonumber(C.segue_node_count(document.at(doc, "list"))))
    assert.equal(10, tonumber(C.segue_node_count(doc.root)))
    assert.equal(0, tonumber(C.segue_node_count(document.at(doc, "int"))))
    assert.equal(0, tonumber(C.segue_node_count(nil)))
    assert.equal(C.SEGUE_NULL, C.segue_node_type(nil))
  end)

  it("is found by position and by key, in small and large maps", function()
    local name = ffi.new("const char *[1]")
    assert.equal("1.5", document.json(C.segue_node_at(doc.root, 4, name)))
    assert.equal("float", C.str(name[0]))
    assert.equal("2", document.json(C.segue_node_at(document.at(doc, "list"), 1, name)))
    assert.is_true(name[0] == nil)
    assert.is_true(C.segue_node_at(doc.root, 10, nil) == nil)
    assert.is_true(C.segue_node_at(document.at(doc, "int"), 0, nil) == nil)
    assert.equal("10", document.json(C.segue_node_member(doc.root, "odd key")))
    assert.equal("1", document.json(C.segue_node_member(document.at(doc, "map"), "a")))
    assert.is_true(C.segue_node_member(doc.root, "nothing") == nil)
    assert.is_true(C.segue_node_member(document.at(doc, "map"), "b") == nil)
    assert.is_true(C.segue_node_member(document.at(doc, "list"), "a") == nil)
    assert.is_true(C.segue_node_member(nil, "a") == nil)
  end)

  it("is found by key among 100,000", function()
    local lines = {}
    for i = 1, 100000 do lines[i] = ("k%d: %d"):format(i, i) end
    local large = document.good(table.concat(lines, "\n"))
    for i = 1, 100000, 997 do
      assert.equal(tostring(i), document.json(C.segue_node_member(large.root, "k" .. i)))
    end
    assert.is_true(C.segue_node_member(large.root, "k0") == nil)
  end)

  it("is read with its type, or not at all", function()
    local out = { bool = ffi.new("bool[1]"), int = ffi.new("int64_t[1]"),
      uint = ffi.new("uint64_t[1]"), double = ffi.new("double[1]") }
    local s, len = ffi.new("const char *[1]"), ffi.new("size_t[1]")
    assert.equal(0, C.segue_node_bool(document.at(doc, "bool"), out.bool))
    assert.is_true(out.bool[0])
    assert.equal(0, C.segue_node_int(document.at(doc, "int"), out.int))
    assert.equal(-5LL, out.int[0])
    assert.equal(0, C.segue_node_uint(document.at(doc, "big"), out.uint))
    assert.equal(18446744073709551615ULL, out.uint[0])
    assert.equal(0, C.segue_node_double(document.at(doc, "float"), out.double))
    assert.equal(1.5, out.double[0])
    assert.equal(0, C.segue_node_double(document.at(doc, "int"), out.double))
    assert.equal(-5, out.double[0])
    assert.equal(0, C.segue_node_double(document.at(doc, "big"), out.double))
    assert.equal(2 ^ 64, out.double[0])
    assert.equal(0, C.segue_node_string(document.at(doc, "string"), s, len))
    assert.equal("text", C.str(s[0], tonumber(len[0])))

    assert.equal(C.SEGUE_ERANGE, C.segue_node_int(document.at(doc, "big"), out.int))
    assert.equal(C.SEGUE_ERANGE, C.segue_node_uint(document.at(doc, "int"), out.uint))
    assert.equal(C.SEGUE_ETYPE, C.segue_node_int(document.at(doc, "float"), out.int))
    assert.equal(C.SEGUE_ETYPE, C.segue_node_bool(document.at(doc, "int"), out.bool))
    assert.equal(C.SEGUE_ETYPE, C.segue_node_double(document.at(doc, "string"), out.double))
    assert.equal(C.SEGUE_ETYPE, C.segue_node_string(document.at(doc, "int"), s, len))
    for name, fn in pairs { bool = C.segue_node_bool, int = C.segue_node_int,
      uint = C.segue_node_uint, double = C.segue_node_double } do
      assert.equal(C.SEGUE_EPATH, fn(nil, out[name]))
    end
    assert.equal(C.SEGUE_EPATH, C.segue_node_string(nil, s, len))
    -- A failed call left the values unchanged.
    assert.equal(-5LL, out.int[0])
    assert.equal(18446744073709551615ULL, out.uint[0])
    assert.equal("text", C.str(s[0]))
  end)
end)

describe("a hash", function()
  local function hash(text, format)
    return document.hash(document.good(text, { format = format }).root)
  end

  it("is the same for the same value, wherever and however it is written", function()
    assert.equal(hash "a: 1\nb: [x, {c: ~}]", hash "# c\nb:\n- 'x'\n- c: null\na: 0x1\n")
    assert.equal(hash "a: 1\nb: [x, {c: ~}]", hash('{"b":["x",{"c":null}],"a":1}', "json"))
    assert.equal(hash "a: &x {k: 1, l: 2}\nb: *x", hash "a: {l: 2, k: 1}\nb: {k: 1, l: 2}")
    assert.equal(hash "a: .nan", hash "a: .NaN")
  end)

  it("differs for different values", function()
    local seen = {}
    for _, text in ipairs { "a: 1", "a: 1.0", "a: '1'", "a: true", "a: [1]", "a: {1: 1}", "b: 1",
      "a: ~", "a: ''", "a: []", "a: {}", "a: [[]]", "a: [~]", "a: [1, 2]", "a: [2, 1]", "a: false",
      "a: 'true'", "a: -1", "a: 18446744073709551615", "a: {b: 1, c: 2}", "a: {b: 2, c: 1}",
      "a: {b: {}, c: 2}", "a: 0.0", "a: -0.0", "a: 0", "a: .inf", "a: -.inf", "a: .nan", "{}",
      "a: 'null'", "a: 1\nb: 1", "ab: ''", "a: b" } do
      local h = hash(text)
      assert.is_nil(seen[h], text .. " and " .. tostring(seen[h]))
      assert.equal(32, #h)
      seen[h] = text
    end
  end)

  it("of wide maps does not depend on the order, that of lists does", function()
    local up, down, list, other = {}, {}, {}, {}
    for i = 1, 1000 do
      up[i], down[i] = ("k%d: %d"):format(i, i), ("k%d: %d"):format(1001 - i, 1001 - i)
      list[i], other[i] = "- " .. i, "- " .. (i == 500 and 501 or i == 501 and 500 or i)
    end
    assert.equal(hash(table.concat(up, "\n")), hash(table.concat(down, "\n")))
    assert.not_equal(hash("l:\n" .. table.concat(list, "\n")),
      hash("l:\n" .. table.concat(other, "\n")))
  end)

  -- It is in histories on disk and in what an `if-match` names.
  it("equals that of earlier versions", function()
    local t = { "nil: ~\nyes: true\nno: false\none: 1\nminus: -1\nwide: 18446744073709551615\n"
      .. "half: 0.5\nnan: .nan\nzero: -0.0\ntext: one\nempty: ''\nlist: []\nmap: {}\n"
      .. "nested: [1, [2, {a: 1.0}]]\nitems: [" }
    for i = 1, 200 do t[#t + 1] = i .. ", " end
    t[#t + 1] = "0]\nmembers:\n"
    for i = 1, 200 do t[#t + 1] = ("  key%d: %d\n"):format(i, i) end
    assert.equal("6c2df25f2045ae028650e1a7f2fa2843", hash(table.concat(t)))
  end)

  it("is not stored in scalars", function()
    assert.equal(24, ffi.sizeof "segue_node")
    assert.equal(48, ffi.sizeof "segue__member")
  end)

  it("is equal where a comparison without hashes finds equality", function()
    local doc = document.good("[~, true, false, 1, 1, -1, 18446744073709551615, 1.0, 0.0, -0.0, "
      .. ".nan, -.nan, .inf, '', '', a, a, b, ab, '1', [], [], [1], [1], [1, 2], [1.0], {}, {}, "
      .. "{a: 1}, {a: 1}, {a: 2}, {b: 1}]", { foreign = true })
    local items = doc.root.v.items
    for i = 0, doc.root.count - 1 do
      for k = 0, doc.root.count - 1 do
        assert.equal(document.hash(items[i]) == document.hash(items[k]),
          C.segue__node_equal(items[i], items[k]), i .. " and " .. k)
      end
    end
  end)

  it("of bytes depends on the bytes and on the seed", function()
    local seed = C.new("segue__hash")
    local a = C.segue__hash_bytes("abc", 3, seed)
    assert.is_true(C.segue__hash_equal(a, C.segue__hash_bytes("abc", 3, seed)))
    assert.is_false(C.segue__hash_equal(a, C.segue__hash_bytes("abd", 3, seed)))
    assert.is_false(C.segue__hash_equal(a, C.segue__hash_bytes("abc", 3, a)))
  end)
end)

describe("a random tree", function()
  local words = { "a", "b", "key", "é", "odd key", "", "\"", "x.y", "日本", "\n" }

  local function fill(b, depth)
    local pick = math.random(depth > 4 and 6 or 9)
    if pick == 1 then C.segue__builder_null(b)
    elseif pick == 2 then C.segue__builder_bool(b, math.random(2) == 1)
    elseif pick == 3 then C.segue__builder_int(b, math.random(-2 ^ 31, 2 ^ 31))
    elseif pick == 4 then C.segue__builder_uint(b, 18446744073709551615ULL - math.random(0, 1000))
    elseif pick == 5 then
      C.segue__builder_float(b, (math.random() - 0.5) * 10 ^ math.random(-20, 20))
    elseif pick == 6 then str(b, words[math.random(#words)] .. words[math.random(#words)])
    elseif pick == 7 then
      C.segue__builder_begin(b, C.SEGUE_LIST)
      for _ = 1, math.random(0, depth == 1 and 200 or 5) do fill(b, depth + 1) end
      C.segue__builder_end(b)
    else
      C.segue__builder_begin(b, C.SEGUE_MAP)
      for i = 1, math.random(0, depth == 1 and 200 or 12) do
        key(b, words[math.random(#words)] .. i)
        fill(b, depth + 1)
      end
      C.segue__builder_end(b)
    end
  end

  it("is the same after it was written as JSON and read as JSON or YAML", function()
    for seed = 1, 200 do
      math.randomseed(seed)
      local doc = build(function(b)
        C.segue__builder_begin(b, C.SEGUE_MAP)
        for i = 1, math.random(3) do
          key(b, "root" .. i)
          fill(b, 1)
        end
        C.segue__builder_end(b)
      end)
      local text = document.json(doc.root, seed % 3)
      local json = document.good(text, { format = "json" })
      assert.equal(document.hash(doc.root), document.hash(json.root), "seed " .. seed)
      assert.equal(text, document.json(json.root, seed % 3))
      local yaml = document.good(text, { format = "yaml" })
      assert.equal(document.hash(doc.root), document.hash(yaml.root), "seed " .. seed)
    end
  end)
end)
