-- SPDX-License-Identifier: MIT
-- YAML documents as a whole: their limits, and what is refused by a message of its own.
local document = require "spec.support.document"
local means, refuses, value = document.means, document.refuses, document.value

describe("a YAML document", function()
  it("without content is refused by one message, whatever form that has, or allowed", function()
    for _, text in ipairs { "", " \n\t\r\n ", "\239\187\191", "# nothing\n", "---\n",
      "---\n# x\n...\n", "~", "null # x", "!!null ''", "%YAML 1.2\n---\n" } do
      local reported, err = value(text)
      assert.is_table(err, text)
      assert.equal("SEGUE_EEMPTY", err.name)
      assert.equal("file: " .. document.empty_message, reported)
      assert.equal("{}", (value(text, { empty = "allow" })), text)
    end
    means { { "{}", "{}" } }
    assert.equal("SEGUE_ETYPE", select(2, value("''")).name)
  end)

  it("that may be any value is null if it contains null, and rejected if it is empty", function()
    assert.equal("null", (value("~", { foreign = true })))
    for _, text in ipairs { "", "# nothing\n", "---\n" } do
      assert.equal("SEGUE_EEMPTY", select(2, value(text, { foreign = true })).name)
    end
  end)

  it("may be the value of its file's name, of any type", function()
    local by_file = { by_file = true, name = "rules/a.yml" }
    assert.equal('{"a.yml":{"x":1}}', (value("x: 1", by_file)))
    assert.equal('{"a.yml":[1,{"b":"c"}]}', (value("- 1\n- &x {b: c}", by_file)))
    assert.equal('{"a.yml":"text"}', (value("text", by_file)))
    assert.equal("rules/a.yml: " .. document.empty_message .. ' (at "a.yml")',
      (value("# x", by_file)))
    assert.equal('{"a.yml":{}}',
      (value("# x", { by_file = true, name = "a.yml", empty = "allow" })))
    assert.equal('rules/a.yml:2:1: key \'b\' is here twice, in line 1 and in line 2: remove one '
      .. '(at "a.yml")', (value("b: 1\nb: 2", by_file)))
  end)

  it("remembers a directive %YAML 1.1, which has no effect", function()
    assert.equal(1, document.good("%YAML 1.1\n---\na: yes").old_yaml_line)
    assert.equal(0, document.good("%YAML 1.2\n---\na: yes").old_yaml_line)
    assert.equal(0, document.good("a: yes").old_yaml_line)
  end)

  it("is refused by name where libyaml would read it otherwise than YAML 1.2", function()
    local question = "a plain value in [ ] or { } cannot start with '?' here: put it in quotes"
    local line = "here is U+%04X, an invisible line break: remove it, or write it as \\u%04X in "
      .. "double quotes"
    refuses {
      { "a: [?page=1]", "SEGUE_ESYNTAX", "file:1:6: " .. question .. " (at a[0])" },
      { "a: [x, ?y]", "SEGUE_ESYNTAX", "file:1:9: " .. question .. " (at a[1])" },
      { "a: {?b: 1}", "SEGUE_ESYNTAX", "file:1:6: " .. question .. " (at a)" },
      { "? \n: 1", "SEGUE_ETYPE", "file:1:2: there is no key before the ':'" },
      { "a: [?[1]]", "SEGUE_ESYNTAX", "file:1:6: " .. question .. " (at a[0])" },
      { 'a: "x\194\133y"', "SEGUE_ESYNTAX", "file:1:6: " .. line:format(0x85, 0x85) },
      { "a: 1 # x\226\128\168b: 2", "SEGUE_ESYNTAX", "file:1:9: " .. line:format(0x2028, 0x2028) },
      { "a: |\n  x\226\128\169y", "SEGUE_ESYNTAX", "file:2:4: " .. line:format(0x2029, 0x2029) },
    }
    means {
      { "a: [\"?page=1\", x?y, http://x/?q=1, {? b : 1}]",
        '{"a":["?page=1","x?y","http://x/?q=1",{"b":1}]}' },
      { "? a\n: ?b", '{"a":"?b"}' },
      { "?x: 1\n? \"y\"\n: 2", '{"?x":1,"y":2}' },
      { 'a: "\\N\\L\\P"', '{"a":"\\u0085\\u2028\\u2029"}' },
      { "a: \226\128\167\226\128\170", '{"a":"\226\128\167\\u202a"}' },
    }
  end)

  it("is refused where libyaml ends the name of an anchor or alias too early", function()
    local function name(mark, char)
      return ("the name after '%s' contains '%s': use letters, digits, '-' and '_', or put a space "
        .. "behind the name"):format(mark, char)
    end
    refuses {
      { "a: &x:y z", "SEGUE_ESYNTAX", "file:1:4: " .. name("&", ":") .. " (at a)" },
      { "a: !!str &x:y z", "SEGUE_ESYNTAX", "file:1:4: " .. name("&", ":") .. " (at a)" },
      { "a: &x v\nb: [*x:y]", "SEGUE_ESYNTAX", "file:2:5: " .. name("*", ":") .. " (at b[0])" },
      { "a:\n- &x:\n  b: 1", "SEGUE_ESYNTAX", "file:2:3: " .. name("&", ":") .. " (at a[0])" },
    }
    means {
      { "a: &x v\n*x: 1\nb: {*x : 2}\nc: [*x, *x]", '{"a":"v","v":1,"b":{"v":2},"c":["v","v"]}' },
      { "a: &x-1_y [1]\nb: !!seq &z [2]\nc: &e\nd: *x-1_y",
        '{"a":[1],"b":[2],"c":null,"d":[1]}' },
    }
  end)

  it("that ends inside of [ ] or { } is refused at the place where that starts", function()
    local reported =
      "the file ends before the %s that starts here is closed: is a '%s' missing, or "
      .. "was the file cut short?"
    refuses {
      { "x: [", "SEGUE_ESYNTAX", "file:1:4: " .. reported:format("list", "]") .. " (at x[0])" },
      { "a: 1\nx: [[1,\n 2], [", "SEGUE_ESYNTAX",
        "file:3:6: " .. reported:format("list", "]") .. " (at x[1][0])" },
      { "x: {a: [1,\n", "SEGUE_ESYNTAX",
        "file:1:8: " .. reported:format("list", "]") .. " (at x.a[1])" },
    }
  end)

  it("with a byte order mark is read as if it had none", function()
    local doc = document.good("\239\187\191a: 1")
    assert.equal("1", document.json(document.at(doc, "a")))
    assert.equal(4, document.at(doc, "a").column)
  end)

  it("is refused if there are several", function()
    refuses { { "a: 1\n---\nb: 2", "SEGUE_ESYNTAX",
      "file:2:1: a second document starts here: put it in a file of its own" } }
  end)

  it("is refused if the top level is not a map", function()
    refuses {
      { "- 1", "SEGUE_ETYPE",
        "file:1:1: the top level is a list: it must be a map of keys and values" },
      { "# c\ntext", "SEGUE_ETYPE",
        "file:2:1: the top level is a string: it must be a map of keys and values" },
    }
  end)

  it("is refused if it is not UTF-8 text", function()
    refuses {
      { "a: b\nc: \"\195\169 \255\"", "SEGUE_EENCODING",
        "file:2:8: byte 0xff is not valid UTF-8: save the file as UTF-8" },
      { "a: \237\160\128", "SEGUE_EENCODING",
        "file:1:4: byte 0xed is not valid UTF-8: save the file as UTF-8" },
      { "a: \192\175", "SEGUE_EENCODING",
        "file:1:4: byte 0xc0 is not valid UTF-8: save the file as UTF-8" },
      { "a: \244\144\128\128", "SEGUE_EENCODING",
        "file:1:4: byte 0xf4 is not valid UTF-8: save the file as UTF-8" },
      { "a: \226\130", "SEGUE_EENCODING",
        "file:1:4: byte 0xe2 is not valid UTF-8: save the file as UTF-8" },
      { "\255\254a\0", "SEGUE_EENCODING", "file:1:1: the file is UTF-16: save it as UTF-8" },
      { "\254\255\0a", "SEGUE_EENCODING", "file:1:1: the file is UTF-16: save it as UTF-8" },
      { "a: 1\n\127ELF\0\1\255", "SEGUE_EENCODING",
        "file:2:5: here is a NUL byte: configuration is text, is this a binary file?" },
      { 'a: "x\\0y"', "SEGUE_EENCODING",
        "file:1:4: \\0 is not allowed: strings end at NUL (at a)" },
    }
  end)

  it("is refused with a sentence where libyaml fails without one", function()
    refuses {
      { "a:\n\t- b", "SEGUE_ESYNTAX", "file:2:1: a tab cannot indent: use spaces (at a)" },
      { "a: b: c", "SEGUE_ESYNTAX", "file:1:5: a ':' is not expected here: quote the value if the "
        .. "colon belongs to it, else check the indentation" },
      { "a: \"x\nb: 2\n", "SEGUE_ESYNTAX",
        "file:3:1: the quoted string that starts in line 1 is not closed (at a)" },
      { "a: [1, 2\nb: 2", "SEGUE_ESYNTAX",
        "file:2:2: ',' or ']' is expected here: the list of line 1 is not closed (at a[2])" },
      { "a: {b: 1\nc: 2", "SEGUE_ESYNTAX",
        "file:2:2: ',' or '}' is expected here: the map of line 1 is not closed (at a)" },
      { "a: @x", "SEGUE_ESYNTAX",
        "file:1:4: a plain value cannot start with '@': put it in quotes (at a)" },
      { "a: `x`", "SEGUE_ESYNTAX",
        "file:1:4: a plain value cannot start with '`': put it in quotes (at a)" },
      { "a:\n  - 1\n  b: 2", "SEGUE_ESYNTAX", "file:3:3: a '-' is expected here: check the "
        .. "indentation against line 2, where this list begins (at a[1])" },
      { "a: [b, ::1]", "SEGUE_ESYNTAX", "file:1:8: a value is expected here: put text with "
        .. "special characters in quotes (at a[1])" },
      { "a: 1\n b: 2", "SEGUE_ESYNTAX", "file:2:3: a ':' is not expected here: quote the value if "
        .. "the colon belongs to it, else check the indentation" },
      { "a:\n  b: 1\n c: 2", "SEGUE_ESYNTAX", "file:3:2: a key is expected here: check the "
        .. "indentation against line 1, where this map begins" },
      { "a: 1\nb\n", "SEGUE_ESYNTAX", "file:3:1: the key of line 2 is not followed by ':': a line "
        .. "is missing one, or a value is not indented" },
      { 'a: "\\q"', "SEGUE_ESYNTAX",
        "file:1:5: this escape is not known: write \\\\ for a backslash, or use single quotes "
        .. "(at a)" },
      { "a: !x!y z", "SEGUE_ESYNTAX", "file:1:4: this tag is not known: remove it (at a)" },
      { "a: \1", "SEGUE_ESYNTAX", "file:1:4: a control character is not allowed here: write it as "
        .. "an escape in double quotes" },
    }
  end)

  it("is refused where it is nested too deep, however deep that is", function()
    for _, text in ipairs {
      "a: " .. ("["):rep(100000), "a: " .. ("{x: "):rep(100000), ("- "):rep(100000),
      "a: " .. ("["):rep(100000) .. ("]"):rep(100000),
    } do
      local started = os.clock()
      local _, err = value(text)
      assert.equal("SEGUE_ELIMIT", err.name)
      assert.equal("lists and maps are nested more than 128 deep: flatten them", err.message)
      assert.is_true(os.clock() - started < 1)
    end
  end)

  it("keeps its limits", function()
    local function nested(depth) return "a: " .. ("["):rep(depth) .. ("]"):rep(depth) end
    assert.is_nil(select(2, value(nested(127))))
    assert.equal("SEGUE_ELIMIT", select(2, value(nested(128))).name)
    assert.is_nil(select(2, value(nested(9), { limits = { depth = 10 } })))
    assert.equal("SEGUE_ELIMIT", select(2, value(nested(10), { limits = { depth = 10 } })).name)
    -- At most 1000, for every requested limit: code that walks a tree may recurse.
    assert.equal("SEGUE_ELIMIT", select(2, value(nested(1000), { limits = { depth = 5000 } })).name)
    assert.is_nil(select(2, value("a: [1, 2]", { limits = { nodes = 4 } })))
    refuses({ { "a: [1, 2]", "SEGUE_ELIMIT",
      "file:1:8: the document has more than 3 values, aliases expanded: split it (at a[1])" } },
      { limits = { nodes = 3 } })
    refuses({ { "a: [1, 2]", "SEGUE_ELIMIT",
      "file: the document has 9 bytes, more than the limit of 8: split it" } },
      { limits = { bytes = 8 } })
  end)
end)
