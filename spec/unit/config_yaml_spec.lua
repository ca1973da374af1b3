-- SPDX-License-Identifier: MIT
-- YAML: what a text means, where everything stands, and what is refused in which words.
local C = require "spec.support.c"
local document = require "spec.support.document"
local ffi = C.ffi
local means, refuses, value = document.means, document.refuses, document.value

describe("a YAML scalar", function()
  it("has its type by the 1.2 core schema", function()
    means {
      { "v: [~, null, Null, NULL, nULL, '~', \"null\"]",
        '{"v":[null,null,null,null,"nULL","~","null"]}' },
      { "v: [true, True, TRUE, false, False, FALSE, tRue]",
        '{"v":[true,true,true,false,false,false,"tRue"]}' },
      { "v: [yes, no, on, off, y, n, Yes]", '{"v":["yes","no","on","off","y","n","Yes"]}' },
      { "v: [0, -0, +12, -7, 007, 0o17, 0x1F, 0xff]", '{"v":[0,0,12,-7,7,15,31,255]}' },
      { "v: [0o18, 0xG, 0b1, 1_000, 0o, -0x1, 12e, 1.2.3, +, '-', ., 1-2]",
        '{"v":["0o18","0xG","0b1","1_000","0o","-0x1","12e","1.2.3","+","-",".","1-2"]}' },
      { "v: [1.5, -.5, 2., 1e3, 1E-2, +1.25e+1, -0.0]",
        '{"v":[1.5,-0.5,2.0,1000.0,0.01,12.5,-0.0]}' },
      { "v: [.inf, -.Inf, +.INF, .nan, .NaN, .iNf, -.nan]",
        '{"v":[".inf","-.inf",".inf",".nan",".nan",".iNf","-.nan"]}' },
      { "v: [2001-01-01, 12:30:45, v1, a::1]",
        '{"v":["2001-01-01","12:30:45","v1","a::1"]}' },
    }
    local doc = document.good("a: .inf\nb: .nan\nc: '.inf'\nd: 1.0\ne: 1")
    assert.equal(C.SEGUE_FLOAT, document.at(doc, "a").type)
    assert.equal(math.huge, document.at(doc, "a").v.f)
    local nan = document.at(doc, "b")
    assert.equal(C.SEGUE_FLOAT, nan.type)
    assert.is_true(nan.v.f ~= nan.v.f)
    assert.equal(C.SEGUE_STRING, document.at(doc, "c").type)
    assert.equal(C.SEGUE_FLOAT, document.at(doc, "d").type)
    assert.equal(C.SEGUE_INT, document.at(doc, "e").type)
  end)

  it("is null where it is empty", function()
    means { { "a:\nb: \nc:\n  - \n  - 1\n", '{"a":null,"b":null,"c":[null,1]}' } }
  end)

  it("keeps 64-bit integers exact, also above the signed ones", function()
    means {
      { "v: [9223372036854775807, -9223372036854775808, 9223372036854775808]",
        '{"v":[9223372036854775807,-9223372036854775808,9223372036854775808]}' },
      { "v: [18446744073709551615, 0xFFFFFFFFFFFFFFFF, 0o1777777777777777777777]",
        '{"v":[18446744073709551615,18446744073709551615,18446744073709551615]}' },
    }
    local doc = document.good("a: 9223372036854775808\nb: 9223372036854775807")
    assert.equal(C.SEGUE__NODE_UNSIGNED, document.at(doc, "a").flags)
    assert.equal(0, document.at(doc, "b").flags)
  end)

  it("is refused as a number beyond 64 bits", function()
    local remedy = " does not fit into 64 bits: quote it to keep it as text, or write it as a float"
    refuses {
      { "a:\n  b: 18446744073709551616", "SEGUE_ERANGE",
        "file:2:6: integer 18446744073709551616" .. remedy .. " (at a.b)" },
      { "a: -9223372036854775809", "SEGUE_ERANGE",
        "file:1:4: integer -9223372036854775809" .. remedy .. " (at a)" },
      { "a: 0x10000000000000000", "SEGUE_ERANGE",
        "file:1:4: integer 0x10000000000000000" .. remedy .. " (at a)" },
      { "a: [1, 1e999]", "SEGUE_ERANGE",
        "file:1:8: 1e999 is too large for a float: quote it to keep it as text (at a[1])" },
    }
  end)

  it("is the nearest float, whatever its length and the locale", function()
    local cases = { "0.1", "123456789012345678", "1e22", "1e23", "8.5e-300", "4.9e-324", "2.5e-324",
      "1.7976931348623157e308", "9007199254740993.0", "0.30000000000000004",
      "3.14159265358979323846264338327950288419716939937510582097494459230781640628620899" }
    local tried = false
    pcall(ffi.cdef, "char *setlocale(int category, const char *locale);")
    for _, locale in ipairs { "C", "de_DE.UTF-8", "de_DE" } do
      if ffi.C.setlocale(1, locale) ~= nil then
        tried = true
        for _, text in ipairs(cases) do
          local doc = document.good("v: !!float " .. text)
          ffi.C.setlocale(1, "C")
          assert.equal(tonumber(text), document.at(doc, "v").v.f, text)
          ffi.C.setlocale(1, locale)
        end
      end
    end
    ffi.C.setlocale(1, "C")
    assert.is_true(tried)
  end)

  it("with a tag must have the form of the tag", function()
    means {
      { "v: [!!str 1, !!str ~, ! 1, !!int '12', !!float 1, !!float '.inf', !!bool 'true']",
        '{"v":["1","~","1",12,1.0,".inf",true]}' },
      { "v: [!!null '', !!null ~, !!seq [1], !!map {a: 1}]", '{"v":[null,null,[1],{"a":1}]}' },
      { "v: !<tag:yaml.org,2002:int> '7'", '{"v":7}' },
    }
    refuses {
      { "a: !!int x", "SEGUE_ETYPE", "file:1:4: 'x' is not a valid integer (at a)" },
      { "a: !!int 1.5", "SEGUE_ETYPE", "file:1:4: '1.5' is not a valid integer (at a)" },
      { "a: !!bool yes", "SEGUE_ETYPE", "file:1:4: 'yes' is not a valid boolean (at a)" },
      { "a: !!null x", "SEGUE_ETYPE", "file:1:4: 'x' is not a valid null (at a)" },
      { "a: !!float x", "SEGUE_ETYPE", "file:1:4: 'x' is not a valid float (at a)" },
      { "a: !!seq {}", "SEGUE_ETYPE", "file:1:4: this is a map, its tag is that of a list (at a)" },
      { "a: !!map []", "SEGUE_ETYPE", "file:1:4: this is a list, its tag is that of a map (at a)" },
      { "a: !!seq x", "SEGUE_ETYPE", "file:1:4: 'x' is not a valid list (at a)" },
      { "a: !secret x", "SEGUE_ETYPE", "file:1:4: tag !secret is not known: only !!str, !!int, "
        .. "!!float, !!bool, !!null, !!seq and !!map are (at a)" },
      { "a: !!binary aGk=", "SEGUE_ETYPE", "file:1:4: tag tag:yaml.org,2002:binary is not known: "
        .. "only !!str, !!int, !!float, !!bool, !!null, !!seq and !!map are (at a)" },
    }
  end)

  it("in quotes or as a block is text", function()
    means {
      { "a: '1'\nb: \"\\u00e9\\x41\\n\"\nc: |\n  1\n  2\nd: >-\n  3\n  4\n",
        '{"a":"1","b":"éA\\n","c":"1\\n2\\n","d":"3 4"}' },
    }
  end)
end)

describe("a YAML key", function()
  it("is its text, whatever it would be as a value", function()
    means {
      { "1: a\ntrue: b\n1.50: c\n'null': d\n\"<<\": e\nyes: f\n!!str ~: g",
        '{"1":"a","true":"b","1.50":"c","null":"d","<<":"e","yes":"f","~":"g"}' },
      { "? a\n: 1\n? b\n", '{"a":1,"b":null}' },
    }
  end)

  it("may be the alias of a text, not of another value", function()
    means { { "a: &x text\n*x : 1", '{"a":"text","text":1}' },
      { "&k key: 1\nother: *k", '{"key":1,"other":"key"}' } }
    refuses { { "a: &x 5\n*x : 1", "SEGUE_ETYPE",
      "file:2:1: '*x' is a integer: a key must be text" } }
  end)

  it("is refused as null, list or map", function()
    refuses {
      { "~: 1", "SEGUE_ETYPE", "file:1:1: a key cannot be null: quote it if it is text" },
      { "a: {? : 1}", "SEGUE_ETYPE", "file:1:7: there is no key before the ':' (at a)" },
      { "a:\n  : 1", "SEGUE_ESYNTAX",
        "file:2:3: a key is expected here: put text with special characters in quotes (at a)" },
      { "? [1]\n: 2", "SEGUE_ETYPE",
        "file:1:3: a list cannot be a key: keys are text (quote what starts with '[')" },
      { "{{a: 1}: 2}", "SEGUE_ETYPE",
        "file:1:2: a map cannot be a key: keys are text (quote what starts with '{')" },
    }
  end)

  it("is refused twice in one map, in small and large maps, with both lines", function()
    refuses { { "a:\n  x: 1\n  y: 2\n  x: 3", "SEGUE_ESYNTAX",
      "file:4:3: key 'x' is here twice, in line 2 and in line 4: remove one (at a)" } }
    local lines = {}
    for i = 1, 100 do lines[i] = ("key%d: %d"):format(i, i) end
    lines[101] = "key37: 0"
    refuses { { table.concat(lines, "\n"), "SEGUE_ESYNTAX",
      "file:101:1: key 'key37' is here twice, in line 37 and in line 101: remove one" } }
  end)
end)

describe("a YAML anchor", function()
  it("shares the value that it names", function()
    means { { "a: &x {k: [1, 2]}\nb: *x\nc: [*x, &y 5, *y]",
      '{"a":{"k":[1,2]},"b":{"k":[1,2]},"c":[{"k":[1,2]},5,5]}' } }
    local doc = document.good("a: &x {k: [1, 2]}\nb: *x")
    assert.equal(document.at(doc, "a.k[1]"), document.at(doc, "b.k[1]"))
  end)

  it("means the later one where a name is given again", function()
    means { { "a: &x 1\nb: *x\nc: &x 2\nd: *x", '{"a":1,"b":1,"c":2,"d":2}' } }
  end)

  it("is found among thousands", function()
    local lines = {}
    for i = 1, 3000 do lines[i] = ("k%d: &a%d %d"):format(i, i, i) end
    lines[3001] = "z: [*a1, *a1500, *a3000]"
    local doc = document.good(table.concat(lines, "\n"))
    assert.equal("[1,1500,3000]", document.json(document.at(doc, "z")))
  end)

  it("is refused where it is missing, or inside of itself", function()
    refuses {
      { "a: *x", "SEGUE_ESYNTAX",
        "file:1:4: there is no anchor &x before this alias: check the name, or "
        .. "quote the value if it is text (at a)" },
      { "a: &x\n  b: [1, *x]", "SEGUE_ESYNTAX", "file:2:10: alias *x is inside of its own "
        .. "anchor: a value cannot contain itself (at a.b[1])" },
    }
  end)

  it("cannot be a bomb: the expanded nodes are counted", function()
    local lines = { "a0: &a0 [x, x, x, x, x, x, x, x, x, x]" }
    for i = 1, 30 do
      lines[#lines + 1] = ("a%d: &a%d [%s]"):format(i, i, ("*a%d, "):format(i - 1):rep(10))
    end
    local text, err = value(table.concat(lines, "\n"))
    assert.equal("SEGUE_ELIMIT", err.name)
    assert.equal("file:7:20: the document has more than 4000000 values, aliases expanded: split it "
      .. "(at a6[2])", text)
  end)

  it("cannot be a bomb of text: the size of its output is counted", function()
    local lines = { "a: &a " .. ("x"):rep(2^20), "k: &k { key: [*a, *a] }", "list:" }
    for i = 1, 100 do lines[i + 3] = i % 2 == 0 and "- *a" or "- *k" end
    local text, err = value(table.concat(lines, "\n"))
    assert.equal("SEGUE_ELIMIT", err.name)
    assert.equal("file:86:3: the document has more than 128 MiB of text, counted again for each "
      .. "alias and each use of a value: split it (at list[82])", text)
    assert.is_nil(select(2, value("a: &a abc\nb: *a\nc: { abc: *a }",
      { limits = { text = 15 } })))
    refuses({ { "a: &a abc\nb: *a\nc: { abc: *a }", "SEGUE_ELIMIT", "file:3:11: the document has "
      .. "more than 0 MiB of text, counted again for each alias and each use of a value: split it "
      .. "(at c.abc)" } }, { limits = { text = 14 } })
    refuses({ { "&a abc: 1\nb: [*a, *a]", "SEGUE_ELIMIT", "file:2:9: the document has "
      .. "more than 0 MiB of text, counted again for each alias and each use of a value: split it "
      .. "(at b[1])" } }, { limits = { text = 8 } })
  end)

  it("cannot nest deeper than the limit through aliases", function()
    local lines = { "a0: &a0 [x]" }
    for i = 1, 200 do lines[i + 1] = ("a%d: &a%d [*a%d]"):format(i, i, i - 1) end
    local text, err = value(table.concat(lines, "\n"))
    assert.equal("SEGUE_ELIMIT", err.name)
    assert.equal("file:128:14: lists and maps are nested more than 128 deep, aliases expanded: "
      .. "flatten them (at a127[0])", text)
  end)
end)

describe("a YAML merge key", function()
  it("adds absent members; explicit keys win, then earlier maps", function()
    means {
      { "x: &x {a: 1, b: 2}\ny: {<<: *x, b: 3, c: 4}",
        '{"x":{"a":1,"b":2},"y":{"b":3,"c":4,"a":1}}' },
      { "y: {b: 3, <<: [{a: 1, b: 1}, {a: 2, c: 2}]}", '{"y":{"b":3,"a":1,"c":2}}' },
      { "y: {<<: {}}\nz: {<<: []}", '{"y":{},"z":{}}' },
    }
  end)

  it("works through merged maps, and for many members", function()
    local members = {}
    for i = 1, 50 do members[i] = ("  k%d: %d"):format(i, i) end
    local doc = document.good("x: &x\n" .. table.concat(members, "\n")
      .. "\ny: &y\n  <<: *x\n  k7: seven\nz:\n  <<: *y\n  k9: nine")
    local z = document.at(doc, "z")
    assert.equal(50, z.count)
    assert.equal('"seven"', document.json(document.at(doc, "z.k7")))
    assert.equal('"nine"', document.json(document.at(doc, "z.k9")))
    assert.equal("50", document.json(document.at(doc, "z.k50")))
    assert.equal(51, document.at(doc, "z.k50").line)
  end)

  it("is refused with any other value, and twice", function()
    refuses {
      { "a:\n  <<: 1", "SEGUE_ETYPE",
        "file:2:7: '<<' takes a map or a list of maps: give it those (at a)" },
      { "a: {<<: [{b: 1}, 2]}", "SEGUE_ETYPE",
        "file:1:9: '<<' takes a map or a list of maps: give it those (at a)" },
      { "a:\n  <<: {}\n  <<: {}", "SEGUE_ESYNTAX",
        "file:3:3: '<<' is here twice, first in line 2: give it a list of maps (at a.\"<<\")" },
      { "a: {b: 1, <<: {c: 1}, b: 2}", "SEGUE_ESYNTAX",
        "file:1:23: key 'b' is here twice, in line 1 and in line 1: remove one (at a)" },
    }
  end)
end)

describe("a position", function()
  it("is the line and the byte of key and value", function()
    local doc = document.good("first: 1\nmap:\n  inner: [10,  20]\n  \"q\": |\n    text\n")
    local function where(path)
      local node = document.at(doc, path)
      return node.line .. ":" .. node.column
    end
    assert.equal("1:8", where("first"))
    assert.equal("3:3", where("map"))
    assert.equal("3:10", where("map.inner"))
    assert.equal("3:16", where("map.inner[1]"))
    assert.equal("4:8", where("map.q"))
    local member = C.segue__node_find(doc.root, "map", 3)
    assert.equal("2:1", member.line .. ":" .. member.column)
  end)

  it("counts bytes behind characters that have several", function()
    local doc = document.good("é: [ä, \"日本\", x]\nüü: {ß: 𝒳, y: z}\n")
    local function column(path) return document.at(doc, path).column end
    assert.equal(5, column("é"))
    assert.equal(6, column("é[0]"))
    assert.equal(10, column("é[1]"))
    assert.equal(20, column("é[2]"))
    assert.equal(7, column("üü"))
    assert.equal(12, column("üü.ß"))
    assert.equal(21, column("üü.y"))
  end)

  it("of an alias is that of the anchored value, of a merged member too", function()
    local doc = document.good("a: &x\n  k: 1\nb: *x\nc:\n  <<: *x\n")
    assert.equal(document.at(doc, "a").line, document.at(doc, "b").line)
    assert.equal(2, document.at(doc, "b.k").line)
    assert.equal(2, document.at(doc, "c.k").line)
  end)
end)

describe("parsing", function()
  -- How often the parser asks whether it may continue; limit: the answer is no from then on.
  local function asked(text, format, limit)
    local count, err = 0, C.error()
    local doc = document.new(text, { format = format })
    local rc
    C.with("bool (*)(void *)", function()
      count = count + 1
      return not limit or count < limit
    end, function(may_go_on)
      local limits = document.limits()
      limits[0].may_go_on = may_go_on
      rc = C.segue__document_parse(doc, limits, nil, nil, err)
    end)
    document.free(doc)
    return count, rc ~= 0 and C.err(err).name or nil
  end

  it("looks at the clock within one long text of YAML, and ends when the time is over", function()
    local text = "a: " .. ("word "):rep(200000)
    local count, err = asked(text, "yaml")
    assert.is_nil(err)
    assert.is_true(count > 50, count .. " times")
    count, err = asked(text, "yaml", 20)
    assert.equal("SEGUE_ETIMEOUT", err)
    assert.equal(20, count)
  end)

  it("looks at the clock among many values of JSON", function()
    local text = '{"a":[' .. ("1,"):rep(100000) .. "1]}"
    assert.is_true(asked(text, "json") > 20)
    local count, err = asked(text, "json", 5)
    assert.equal("SEGUE_ETIMEOUT", err)
    assert.equal(5, count)
  end)
end)

describe("a tree written as YAML", function()
  it("is equal when it is read again", function()
    local texts = {
      "a: 1\nb: [1, [2, [3, {c: d}]], {}, []]\nc: {d: {e: [{f: g, h: i}]}}\n",
      "'': ''\n' ': ' '\n? 'a: b'\n: 'c: d'\n'yes': 'no'\n~x: ~\n'null': 'null'\n",
      "i: [9223372036854775808, -1, 1.0, 1e300, .inf, 0.1]\n",
    }
    for _, text in ipairs(texts) do
      local doc = document.good(text)
      local buf = C.new("segue__buf")
      C.segue__yaml_write(buf, doc.root, 0)
      local again = document.good(C.buf(buf))
      C.segue__buf_deinit(buf)
      assert.is_true(C.segue__node_equal(doc.root, again.root), text)
    end
  end)
end)
