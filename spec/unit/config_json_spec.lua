-- SPDX-License-Identifier: MIT
-- JSON: RFC 8259 and nothing else, and the writer that goes with the reader.
local C = require "spec.support.c"
local document = require "spec.support.document"
local cjson = require "cjson"
local ffi = C.ffi

local function value(text, options)
  options = options or {}
  options.format = "json"
  return document.value(text, options)
end

-- Each entry: a text and the error's whole text; the code is SYNTAX unless a third value
-- names another.
local function refuses(cases)
  for _, case in ipairs(cases) do
    local text, err = value(case[1])
    assert.is_table(err, "accepted: " .. case[1])
    assert.equal(case[2], text)
    assert.equal("SEGUE_E" .. (case[3] or "SYNTAX"), err.name)
  end
end

describe("the JSON reader", function()
  it("reads every kind of value", function()
    local text = '{"n":null,"t":true,"f":false,"i":-12,"d":1.5,"s":"x","l":[1,[],{}],"m":{"":0}}'
    assert.equal(text, (value(text)))
    assert.equal('{"a":[1,{"b":2}]}', (value(' \t\r\n{ "a" :\n[ 1 , { "b" : 2 } ]\r\n} \n')))
  end)

  it("resolves escapes, surrogate pairs too", function()
    assert.equal('{"a":"\\"\\\\/\\b\\f\\n\\r\\té€😀\127"}',
      (value([[{"a":"\"\\\/\b\f\n\r\t\u00e9\u20AC\ud83d\uDE00\u007f"}]])))
    assert.equal('{"é":1}', (value([[{"\u00e9":1}]])))
  end)

  it("keeps 64-bit integers exact and rounds floats to the nearest", function()
    local text = '{"a":[0,9223372036854775807,-9223372036854775808,18446744073709551615]}'
    assert.equal(text, (value(text)))
    assert.equal('{"a":[0,-0.0,100000.0,0.1,1.0e22,5.0e-324,1.7976931348623157e308,0.0]}',
      (value('{"a":[-0,-0.0,1E+5,0.1,1e22,5e-324,17976931348623157e292,1e-999]}')))
    local doc = document.good('{"a":-0,"b":-0.0,"c":1.0}', { format = "json" })
    assert.equal(C.SEGUE_INT, document.at(doc, "a").type)
    assert.equal(C.SEGUE_FLOAT, document.at(doc, "b").type)
    assert.equal(-math.huge, 1 / document.at(doc, "b").v.f)
    assert.equal(C.SEGUE_FLOAT, document.at(doc, "c").type)
  end)

  it("refuses text that only looks like JSON", function()
    refuses {
      { '{"a":1,}', "file:1:7: JSON has no comma after the last item: remove it" },
      { '{"a":[1,\n]}', "file:1:8: JSON has no comma after the last item: remove it (at a[1])" },
      { '{"a":[,1]}', "file:1:7: expected a value, found ',' (at a[0])" },
      { '{"a":1 "b":2}', "file:1:8: expected ',' or '}', found '\"'" },
      { '{"a":[1 2]}', "file:1:9: expected ',' or ']', found '2' (at a[1])" },
      { '{"a" 1}', "file:1:6: expected ':' after the key, found '1' (at a)" },
      { '{a:1}', "file:1:2: expected a key in double quotes, found 'a'" },
      { "{'a':1}", "file:1:2: JSON strings are in double quotes" },
      { '{"a":1} // x', "file:1:9: JSON has no comments: remove this one" },
      { '{"a": /* x */ 1}', "file:1:7: JSON has no comments: remove this one (at a)" },
      { '# x\n{}', "file:1:1: JSON has no comments: remove this one" },
      { '{"a":1}\n{"b":2}', "file:2:1: expected the end of the text, found '{'" },
      { '{"a":1]', "file:1:7: expected ',' or '}', found ']'" },
      { '{"a":tru}', "file:1:6: expected a value, found 't' (at a)" },
      { '{"a":NaN}', "file:1:6: expected a value, found 'N' (at a)" },
      { '{"a":é}', "file:1:6: expected a value, found 'é' (at a)" },
      { '{"a":', "file:1:6: the text ends where a value is expected (at a)" },
      { '{"a":1', "file:1:7: the text ends where ',' or '}' is expected" },
      { '{', "file:1:2: the text ends where a key in double quotes is expected" },
    }
  end)

  it("refuses numbers that JSON does not have", function()
    for _, number in ipairs { "01", "-", "1.", "1e", "1e+", "-01", "1.e5" } do
      local text, err = value('{"a":' .. number .. "}")
      assert.equal("SEGUE_ESYNTAX", err and err.name, number)
      assert.equal(("file:1:6: '%s' is not a JSON number (at a)"):format(number), text)
    end
    for _, number in ipairs { "+1", ".5", "0x1F", "Infinity", "1_0", "-.5", "--1" } do
      assert.equal("SEGUE_ESYNTAX", select(2, value('{"a":' .. number .. "}")).name, number)
    end
    refuses {
      { '{"a":18446744073709551616}', "file:1:6: integer 18446744073709551616 does not fit into 64 "
        .. "bits: quote it to keep it as text, or write it as a float (at a)", "RANGE" },
      { '{"a":-9223372036854775809}', "file:1:6: integer -9223372036854775809 does not fit into 64 "
        .. "bits: quote it to keep it as text, or write it as a float (at a)", "RANGE" },
      { '{"a":[1e400]}',
        "file:1:7: 1e400 is too large for a float: quote it to keep it as text (at a[0])",
        "RANGE" },
    }
  end)

  it("refuses malformed strings", function()
    refuses {
      { [[{"a":"\ud800"}]], "file:1:7: a lone surrogate is no character: characters above U+FFFF "
        .. "take a pair (at a)" },
      { [[{"a":"x\udc00\ud800"}]], "file:1:8: a lone surrogate is no character: characters above "
        .. "U+FFFF take a pair (at a)" },
      { [[{"a":"\ud800\u0041"}]], "file:1:7: a lone surrogate is no character: characters above "
        .. "U+FFFF take a pair (at a)" },
      { [[{"a":"\u0000"}]], "file:1:7: \\u0000 is not allowed: strings end at NUL (at a)" },
      { [[{"a":"\u12g4"}]], "file:1:7: \\u wants four hex digits (at a)" },
      { [[{"a":"\x41"}]], "file:1:7: this escape is not known: JSON has \\\" \\\\ \\/ \\b \\f \\n "
        .. "\\r \\t and \\uXXXX (at a)" },
      { '{"a":"x\ty"}', "file:1:8: a control character must be written as \\uXXXX (at a)" },
      { '{"a":"x\ny"}',
        "file:1:8: a string cannot go over the end of a line: write \\n (at a)" },
      { '{"a":"x', "file:1:6: this string is not closed (at a)" },
      { '{"a":"x\\', "file:1:8: this escape is not known: JSON has \\\" \\\\ \\/ \\b \\f \\n "
        .. "\\r \\t and \\uXXXX (at a)" },
      { '{"a":"\255"}', "file:1:7: byte 0xff is not valid UTF-8: save the file as UTF-8",
        "ENCODING" },
    }
  end)

  it("refuses a key that is there twice, escaped or not, with both lines", function()
    refuses { { '{"b":{"a":1,\n"\\u0061":2}}',
      "file:2:1: key 'a' is here twice, in line 1 and in line 2: remove one (at b)" } }
  end)

  it("refuses a top level that is not a map, and an empty text", function()
    refuses {
      { "[1]", "file:1:1: the top level is a list: it must be a map of keys and values", "TYPE" },
      { '"x"', "file:1:1: the top level is a string: it must be a map of keys and values", "TYPE" },
      { " \n", "file: " .. document.empty_message, "EMPTY" },
      { "null", "file: " .. document.empty_message, "EMPTY" },
    }
  end)

  it("refuses 100,000 levels as fast as ten", function()
    for _, text in ipairs { '{"a":' .. ("["):rep(100000), ('{"a":'):rep(100000),
      '{"a":' .. ("["):rep(100000) .. ("]"):rep(100000) .. "}" } do
      local started = os.clock()
      local _, err = value(text)
      assert.equal("SEGUE_ELIMIT", err.name)
      assert.is_true(os.clock() - started < 1)
    end
    local function nested(depth)
      return '{"a":' .. ("["):rep(depth - 1) .. ("]"):rep(depth - 1) .. "}"
    end
    assert.is_nil(select(2, value(nested(128))))
    assert.equal("SEGUE_ELIMIT", select(2, value(nested(129))).name)
    assert.is_nil(select(2, value(nested(1000), { limits = { depth = 1000 } })))
  end)

  it("knows the line and byte of every value, behind escapes and long characters too", function()
    local doc = document.good('{"é": [1,\n  "\\u00e9ü", 2],\r\n"m":{"k":"v"}}',
      { format = "json" })
    local function where(path)
      local node = document.at(doc, path)
      return node.line .. ":" .. node.column
    end
    assert.equal("1:8", where("é"))
    assert.equal("2:3", where("é[1]"))
    assert.equal("2:15", where("é[2]"))
    assert.equal("3:5", where("m"))
    assert.equal("3:10", where("m.k"))
  end)

  it("skips a byte order mark", function()
    assert.equal('{"a":1}', (value('\239\187\191{"a":1}')))
  end)

  it("is chosen by the format of the source, not by the content", function()
    assert.equal('{"a":1}', (document.value('{"a": 1,}', { format = "yaml" })))
    assert.equal("SEGUE_ESYNTAX", select(2, value("a: 1")).name)
  end)
end)

describe("the JSON writer", function()
  local function string_of(s)
    local buf = C.new("segue__buf[1]")
    C.segue__json_string(buf, s, #s)
    local text = C.buf(buf[0])
    C.segue__buf_deinit(buf)
    return text
  end

  it("escapes what must be escaped and nothing else", function()
    assert.equal([["\"\\\b\f\n\r\t\u0001\u001f/é😀]] .. "\127\"",
      string_of("\"\\\b\f\n\r\t\1\31/é😀\127"))
    assert.equal('"a\\u0000b"', string_of("a\0b"))
  end)

  it("writes JSON also where the bytes are not UTF-8", function()
    assert.equal('"x\239\191\189y"', string_of("x\255y"))
    assert.equal('"\239\191\189\239\191\189\239\191\189"', string_of("\237\160\128"))
  end)

  it("indents where it is asked to", function()
    local doc = document.good('{"a":[1,{"b":2}],"c":[],"d":{}}', { format = "json" })
    assert.equal('{\n  "a": [\n    1,\n    {\n      "b": 2\n    }\n  ],\n  "c": [],\n  "d": {}\n}',
      document.json(doc.root, 2))
  end)

  it("writes floats with the fewest digits that read back equal", function()
    local cases = { { 0.1, "0.1" }, { 1 / 3, "0.3333333333333333" }, { 1, "1.0" }, { -2.5, "-2.5" },
      { 1e15, "1000000000000000.0" }, { 1e16, "10000000000000000.0" }, { 1e17, "1.0e17" },
      { 123456.789, "123456.789" }, { 1e-5, "0.00001" }, { 1e-6, "1.0e-6" }, { 5e-324, "5.0e-324" },
      { 0.30000000000000004, "0.30000000000000004" }, { 1.7976931348623157e308,
        "1.7976931348623157e308" } }
    for _, case in ipairs(cases) do
      local node = ffi.new("segue_node", { type = C.SEGUE_FLOAT })
      node.v.f = case[1]
      local text = document.json(node)
      assert.equal(case[1], tonumber(text))
      assert.equal(case[2], text)
    end
    math.randomseed(7)
    for _ = 1, 3000 do
      local bits = ffi.new("union { uint64_t u; double d; }")
      bits.u = ffi.cast("uint64_t", math.random(0, 2 ^ 31)) * 2 ^ 33 + math.random(0, 2 ^ 31)
      local d = bits.d
      if d == d and d ~= math.huge and d ~= -math.huge then
        local node = ffi.new("segue_node", { type = C.SEGUE_FLOAT })
        node.v.f = d
        assert.equal(d, tonumber(document.json(node)))
      end
    end
  end)

  it("begins a long value without writing the rest of it", function()
    local text = '{"a":[1,2,{"b":"' .. ("x"):rep(5000) .. '"}],"c":[' .. ("[7],"):rep(5000) .. '8]}'
    local doc = document.good(text, { format = "json" })
    for _, limit in ipairs { 0, 1, 7, 20, 300, 6000, 10000 } do
      local buf = C.new("segue__buf[1]")
      C.segue__json_write_start(buf, doc.root, limit)
      local start = C.buf(buf[0])
      C.segue__buf_deinit(buf)
      assert.equal(text:sub(1, limit), start:sub(1, limit))
      assert.is_true(#start <= limit * 2 + 100, #start)
    end
  end)

  it("is read by others", function()
    local text = '{"a":[1,2.5,"x\\ny",true],"b":{"c":"é"}}'
    local doc = document.good(text, { format = "json" })
    assert.same(cjson.decode(text), cjson.decode(document.json(doc.root, 1)))
  end)
end)
