-- SPDX-License-Identifier: MIT
-- Compiling: what is refused by name, what is warned of, references, dialects, patterns, formats,
-- and schemas that mean harm.
local C = require "spec.support.c"
local document = require "spec.support.document"
local schema = require "spec.support.schema"
local ffi = C.ffi

local function refused(text, options)
  local compiled, reported = schema.compile(text, options)
  assert.is_nil(compiled, "accepted: " .. text)
  return table.concat(reported, "\n")
end

describe("a schema is refused", function()
  it("for a value that its keyword cannot have, by name, place and position", function()
    local cases = {
      { '{"type":"sting"}', 'schema:1:2: type: "sting" is none of array, boolean, integer, null, '
        .. "number, object and string (at #/type)" },
      { '{"type":["string",1]}', "schema:1:2: type: it must be one or a list of array, boolean, "
        .. "integer, null, number, object and string (at #/type)" },
      { '{"type":[]}', "it must be one or a list" },
      { '{"minLength":-1}', "minLength: it must be a whole number of 0 or more" },
      { '{"maxItems":1.5}', "maxItems: it must be a whole number" },
      { '{"maximum":"1"}', "maximum: it must be a number" },
      { '{"multipleOf":0}', "multipleOf: it must be greater than 0" },
      { '{"uniqueItems":1}', "uniqueItems: it must be true or false" },
      { '{"required":"a"}', "required: it must be a list of names" },
      { '{"dependentRequired":{"a":[1]}}', "dependentRequired: it must be a list of names" },
      { '{"required":["a","b","a"]}', 'schema:1:2: required: "a" is in the list twice' },
      { '{"dependentRequired":{"a":["b","b"]}}', 'Required: "b" is in the list twice' },
      { '{"type":["null","null"]}', 'type: "null" is in the list twice' },
      { '{"dependencies":[]}', "dependencies: it must be a map of lists and schemas" },
      { '{"dependencies":{"a":[1]}}', "dependencies: it must be a list of names" },
      { '{"dependencies":{"a":7}}', "schema:1:22: a schema must be a map of keywords" },
      { '{"enum":1}', "enum: it must be a list of values" },
      { '{"properties":[]}', "properties: it must be a map of schemas" },
      { '{"allOf":[]}', "allOf: it must be a list of at least one schema" },
      { '{"items":[true]}', "items: a list of schemas is written prefixItems since draft 2020-12" },
      { '{"pattern":1}', "pattern: it must be text" },
      { '{"$id":7}', "$id: it must be text" },
      { '{"$id":"a#b"}', '$id: "a#b" has a fragment: name places inside with $anchor' },
      { '{"$anchor":"1a"}', '$anchor: "1a" is not a name' },
      { '{"$vocabulary":{"a":1}}', "$vocabulary: it must be a map from URIs to true or false" },
      { '{"properties":{"a":{"not":7}}}', "schema:1:27: a schema must be a map of keywords, true "
        .. "or false, not an integer (at #/properties/a/not)" },
      { '"x"', "a schema must be a map of keywords, true or false, not a string" },
      { '{"$defs":{"a":{"$anchor":"x"},"b":{"$anchor":"x"}}}',
        'schema:1:36: $anchor: "x" is the name of another place in this schema too' },
      { '{"$defs":{"a":{"$id":"x"},"b":{"$id":"x"}}}', "is the $id of another schema too" },
    }
    for _, case in ipairs(cases) do
      local reported = refused(case[1])
      assert.is_truthy(reported:find(case[2], 1, true), case[1] .. " says: " .. reported)
    end
  end)
  it("with all its errors at once", function()
    local reported = refused('{"type":"x","minimum":"y","$defs":{"a":{"maxLength":null}}}')
    assert.equal(3, select(2, reported:gsub("schema:1:", "")))
  end)
  it("for another draft", function()
    assert.equal('schema:1:2: $schema: "http://json-schema.org/draft-07/schema#" is not supported: '
      .. "only draft 2020-12 is (https://json-schema.org/draft/2020-12/schema) (at #/$schema)",
      refused('{"$schema":"http://json-schema.org/draft-07/schema#"}'))
    assert.is_truthy(schema.compile(
      '{"$schema":"https://json-schema.org/draft/2020-12/schema"}'))
  end)
  it("for a reference to a place that is not in the documents", function()
    assert.equal('schema:1:2: $ref: "http://example.com/a.json" means http://example.com/a.json, '
      .. "which is not part of this schema: nothing is fetched, put it under $defs with its $id "
      .. "or give its file with it (at #/$ref)", refused('{"$ref":"http://example.com/a.json"}'))
    for _, ref in ipairs { "#/$defs/b", "#b", "#/allOf/7", "#/allOf/00", "#/%zz", "#/$defs/a~2" } do
      assert.matches("leads to no schema inside of",
        refused('{"$ref":"' .. ref .. '","allOf":[true],"$defs":{"a":true}}'))
    end
  end)
  it("for a circle of references that would never end", function()
    assert.equal("schema:1:2: $ref: this leads back to # for the same value: it would never end "
      .. "(at #/$ref)", refused('{"$ref":"#"}'))
    assert.matches("would never end", refused('{"$defs":{"a":{"allOf":[{"$ref":"#/$defs/b"}]},'
      .. '"b":{"if":{"$ref":"#/$defs/a"}}}}'))
    assert.is_truthy(schema.compile('{"properties":{"a":{"$ref":"#"}}}'))
  end)
end)

describe("a schema warns", function()
  it("about keywords that look like spelling mistakes, and keywords of other drafts", function()
    local _, warnings = schema.compile('{"propertis":{},"Required":[],"additionalItems":{},'
      .. '"x-mine":1,"comment":"","format":"colour"}')
    assert.same({
      'schema:1:2: "propertis" is not a keyword and checks nothing: did you mean "properties"? '
        .. "(at #)",
      'schema:1:17: "Required" is not a keyword and checks nothing: did you mean "required"? '
        .. "(at #)",
      'schema:1:31: "additionalItems" is not a keyword of draft 2020-12 and checks nothing: use '
        .. "items beside prefixItems (at #)",
      'schema:1:63: "comment" is not a keyword and checks nothing: did you mean "$comment"? '
        .. "(at #)",
      'schema:1:76: format: "colour" is not a known format: it is not checked (at #/format)',
    }, warnings)
  end)
end)

describe("references", function()
  it("find pointers, anchors, resources, and places that no keyword leads to", function()
    local text = [[{"$id":"http://example.com/root.json","$defs":{
      "a~b/c%":{"type":"integer"},"named":{"$anchor":"here","type":"null"},
      "inner":{"$id":"sub/inner.json","$defs":{"x":{"type":"string"}},
        "properties":{"own":{"$ref":"#/$defs/x"}}}},
      "corner":{"deep":[{"type":"boolean"}]},
      "properties":{"a":{"$ref":"#/$defs/a~0b~1c%25"},"b":{"$ref":"#here"},
        "c":{"$ref":"sub/inner.json#/$defs/x"},"d":{"$ref":"/sub/../sub/./inner.json"},
        "e":{"$ref":"#/corner/deep/0"},"f":{"$ref":"http://example.com/root.json#here"}}}]]
    assert.is_true(schema.fits(text, '{"a":1,"b":null,"c":"x","d":{"own":"x"},"e":true,"f":null}'))
    for key, value in pairs { a = '"x"', b = "1", c = "1", d = '{"own":1}', e = "1", f = "1" } do
      assert.is_false(schema.fits(text, ('{"%s":%s}'):format(key, value)), key)
    end
  end)
  it("are valid beside other keywords", function()
    assert.is_false(schema.fits('{"$ref":"#/$defs/a","maximum":1,"$defs":{"a":true}}', "2"))
  end)
  it("find the listed documents, by $id or by name", function()
    local options = { bundle = { ["other.json"] = '{"type":"integer"}',
      ["x.json"] = '{"$id":"urn:example:x","$defs":{"y":{"type":"null"}}}' } }
    local text = '{"properties":{"a":{"$ref":"other.json"},"b":{"$ref":"urn:example:x#/$defs/y"}}}'
    assert.is_true(schema.fits(text, '{"a":1,"b":null}', options))
    assert.is_false(schema.fits(text, '{"a":"x"}', options))
    assert.is_false(schema.fits(text, '{"b":1}', options))
  end)
  it("find the metaschema of the draft", function()
    local text = '{"$ref":"https://json-schema.org/draft/2020-12/schema"}'
    assert.is_true(schema.fits(text, '{"properties":{"a":{"minLength":1}}}'))
    local _, list = schema.validate(text, '{"properties":{"a":{"minLength":-1}}}')
    assert.equal("/properties/a/minLength", list[1].pointer)
    assert.equal("https://json-schema.org/draft/2020-12/meta/validation"
      .. "#/properties/minLength/minimum", list[1].schema_path)
  end)
  it("that are dynamic find the outermost anchor of their name", function()
    local text = [[{"$id":"http://example.com/strict","$dynamicAnchor":"node","$ref":"tree",
      "unevaluatedProperties":false,"$defs":{"tree":{"$id":"tree","$dynamicAnchor":"node",
      "properties":{"data":true,"children":{"items":{"$dynamicRef":"#node"}}}}}}]]
    assert.is_true(schema.fits(text, '{"children":[{"data":1}]}'))
    assert.equal("file:1:15: daat is not a known key here (at children[0].daat)",
      schema.reported(text, '{"children":[{"daat":1}]}'))
  end)
  it("choose the dialect of a listed metaschema", function()
    local meta = '{"$id":"http://example.com/meta","$vocabulary":{'
      .. '"https://json-schema.org/draft/2020-12/vocab/core":true,'
      .. '"https://json-schema.org/draft/2020-12/vocab/applicator":true%s}}'
    local text = '{"$schema":"http://example.com/meta",'
      .. '"properties":{"a":{"type":"string"},"b":false}}'
    local options = { bundle = { meta = meta:format("") } }
    assert.is_true(schema.fits(text, '{"a":1}', options))
    assert.is_false(schema.fits(text, '{"b":1}', options))
    assert.matches("requires the vocabulary http://example.com/v, which is not supported",
      refused(text, { bundle = { meta = meta:format(',"http://example.com/v":true') } }))
  end)
end)

describe("patterns", function()
  local function matches(pattern, text)
    return schema.fits('{"pattern":"' .. pattern:gsub("\\", "\\\\") .. '"}', text)
  end
  it("match as ECMA-262 defines", function()
    local cases = { -- pattern, what matches, what does not
      { "^\\d$", { '"5"' }, { '"\\u0665"' } },
      { "^\\w$", { '"a"' }, { '"é"' } },
      { "^\\s$", { '"\\u00a0"', '"\\ufeff"', '"\\u2029"' }, { '"\\u200b"' } },
      { "^\\S$", { '"é"' }, { '"\\u3000"' } },
      { "^[\\S]$", { '"é"' }, { '"\\u3000"' } },
      { "^[^\\s]$", { '"a"' }, { '" "' } },
      { "^.$", { '"😀"' }, { '"\\n"', '"\\u2028"', '"ab"' } },
      { "^\\cA\\x41\\u0041\\u{1F600}\\ud83d\\ude00\\0$", { '"\\u0001AA😀😀\\u0000"' }, { '"A"' } },
      { "^\\p{Lu}\\p{Script=Greek}\\p{Letter}\\P{digit}$", { '"Aβπx"' }, { '"aβπx"', '"Aβπ1"' } },
      { "^[]$|^[^]$", { '"\\n"' }, { '""', '"ab"' } },
      { "^(?:a|(b))\\1c$", { '"ac"', '"bbc"' }, { '"bc"' } },
      { "^(?<x>a)\\k<x>$", { '"aa"' }, { '"a"' } },
      { "^(?:(a)b\\1)+$", { '"aba"', '"abaaba"' }, { '"abaab"' } },
      { "^(?:(?<x>a|b)(?:c|\\k<x>)*d)*$", { '"acd"', '"aacadbbd"' }, { '"abd"' } },
      { "^(['`])?a\\1$", { '"a"', "\"'a'\"" }, { "\"'a`\"" } },
      { "^(?:\\1b|(a))$", { '"a"', '"b"' }, { '"ab"' } },
      { "^(?!(a))\\1b$", { '"b"' }, { '"ab"' } },
      { "^a{2,3}?(?=b)(?!c)b(?<=b)$", { '"aab"' }, { '"ab"' } },
      { "^[\\b]$", { '"\\b"' }, { '"b"' } },
      { "^[a\\-z]$", { '"-"' }, { '"b"' } },
      { "^[\\w-]+$", { '"a-b"' }, { '"a+b"' } },
      { "^[[:alpha:]+$", { '"[:"' }, { '"b"' } },
      { "^a$", { '"a"' }, { '"a\\n"', '"b\\na"' } },
      { "a\\/b\\.c", { '"a/b.c"' }, { '"a/bxc"' } },
    }
    for _, case in ipairs(cases) do
      for _, text in ipairs(case[2]) do
        assert.is_true(matches(case[1], text), case[1] .. " misses " .. text)
      end
      for _, text in ipairs(case[3]) do
        assert.is_false(matches(case[1], text), case[1] .. " takes " .. text)
      end
    end
  end)
  it("that ECMA-262 does not have are refused, with the place", function()
    local cases = {
      { "a++", "a quantifier cannot follow a quantifier (at character 3)" },
      { "*a", "there is nothing that could be repeated (at character 1)" },
      { "^*", "nothing that could be repeated" }, { "(?=a)*", "nothing that could be repeated" },
      { "a{", "must be written \\{" }, { "a}", "must be written with a backslash" },
      { "\\a", "this escape is not part of ECMA-262 (at character 1)" },
      { "x\\Z", "this escape is not part of ECMA-262 (at character 2)" },
      { "\\Qa\\E", "not part" }, { "\\K", "not part" }, { "\\h", "not part" },
      { "\\R", "not part" },
      { "(?i)a", "this kind of group is not part of ECMA-262" }, { "(?>a)", "kind of group" },
      { "(?P<n>a)", "kind of group" }, { "(?#x)", "kind of group" }, { "(*UTF)", "repeated" },
      { "(a", "a ( is not closed" }, { "a)", "there is no ( for this )" },
      { "[a", "the bracket is not closed" }, { "[z-a]", "the wrong way round" },
      { "\\1", "there is no group of the number" }, { "\\k<a>", "no group of the name" },
      { "(?<a>x)(?<a>y)", "two groups have the same name (at character 14)" },
      { "(?<a>x)|(?<a>y)", "two groups of one name are not supported" },
      { "(?<é>a)", "up to 32 letters" }, { "a{3,2}", "wrong way round (at character 2)" },
      { "\\u12", "four hex digits" },
      { "\\ud800", "a lone surrogate" }, { "\\x1", "two hex digits" }, { "\\c1", "wants a letter" },
      { "\\p{Greek}", "property of characters is not known" }, { "\\p", "in braces" },
      { "\\01", "octal" },
      { "(?<=a+)b", "PCRE2 cannot run it: lookbehind assertion is not fixed length" },
      { ("("):rep(101) .. (")"):rep(101), "nested too deep" },
    }
    for _, case in ipairs(cases) do
      local reported = refused('{"pattern":"' .. case[1]:gsub("\\", "\\\\") .. '"}')
      assert.is_truthy(reported:find(case[2], 1, true), case[1] .. " says: " .. reported)
    end
  end)
  it("with references that PCRE2 matches differently are refused", function()
    local repeated, own = "a reference to a repeated group", "a reference of a group to itself"
    local behind = "a reference inside of a lookbehind"
    local cases = {
      { "^(?:(a)|b)*\\1$", repeated, 12 }, { "^(a?)*?\\1$", repeated, 8 },
      { "^(?:(?=(a)))?\\1b$", repeated, 14 }, { "^(?:(x)?y)*\\1$", repeated, 12 },
      { "^(?:(a)|b\\1)+$", repeated, 10 }, { "^(?:\\1b(a))+$", repeated, 5 },
      { "^(\\w)(?:(\\w)|-)*\\2\\1$", repeated, 17 }, { "^(?:(a)?\\1)+$", repeated, 9 },
      { "^(?:(?<x>a)|b){2}\\k<x>$", repeated, 18 }, { "^(?:((a)|b)\\2)*$", repeated, 12 },
      { "^(a\\1)+$", own, 4 }, { "^(?<x>(?:a|\\k<x>b))$", own, 12 },
      { "(?<=(a)\\1)b", behind, 8 },
    }
    for _, case in ipairs(cases) do
      local reported = refused('{"pattern":"' .. case[1]:gsub("\\", "\\\\") .. '"}')
      assert.is_truthy(reported:find(case[2] .. " is ", 1, true), case[1] .. " says: " .. reported)
      assert.is_truthy(reported:find("(at character " .. case[3] .. ")", 1, true), reported)
    end
  end)
  it("that would run for ever end the validation, whatever keywords are around them", function()
    local text = '"' .. ("a"):rep(60) .. 'b"'
    for _, around in ipairs { "%s", '{"not":%s}', '{"anyOf":[%s,true]}', '{"if":%s}' } do
      local code, list = schema.validate(around:format('{"pattern":"^(a+)+$","minLength":1}'), text)
      if around ~= '{"if":%s}' then -- an `if` without then and else is not validated at all
        assert.equal("SEGUE_ELIMIT", code, around)
        assert.matches("takes too much work", list[1].text)
      end
    end
  end)
end)

describe("formats", function()
  local cases = {
    ipv4 = { { "127.0.0.1", "255.255.255.255" }, { "256.1.1.1", "1.1.1", "01.1.1.1", "1.1.1.1 " } },
    ipv6 = { { "::", "::1", "2001:db8::ff", "::ffff:1.2.3.4", "1:2:3:4:5:6:7::" },
      { ":::", "1::2::3", "12345::", "1:2:3:4:5:6:7", "1:2:3:4:5:6:7:8:9", "::1%eth0", ":1",
        "1:" } },
    hostname = { { "a", "example.com", "xn--nxasmq6b" }, { "", "-a", "a-", "a..b", "a_b",
      ("a"):rep(64), "a." } },
    uri = { { "https://u@example.com:80/a?b#c", "urn:x:y", "http://[::1]/" },
      { "//a/b", "a", "http://a b", "http://[::1", "http:// ", "a:%zz", "http://a:b/" } },
    ["uri-reference"] = { { "", "a/b", "#x", "?y", "//h" }, { "\\a", "1:2", "a b" } },
    email = { { "a@b.c", '"a b"@c.d', "a@[127.0.0.1]" }, { "a", "@b", "a@", ".a@b", "a..b@c" } },
    ["date-time"] = { { "2030-12-31T23:59:59.5Z", "1998-12-31t15:59:60-08:00" },
      { "2030-02-29T00:00:00Z", "2030-01-01T24:00:00Z", "2030-01-01T00:00:00", "2030-01-01" } },
    date = { { "2024-02-29" }, { "2023-02-29", "2024-13-01", "2024-1-1", "24-01-01" } },
    time = { { "00:00:00Z", "23:59:60Z" }, { "12:00:60Z", "1:00:00Z", "00:00:00+24:00", "00:00" } },
    duration = { { "P1Y2M3DT4H5M6S", "PT1M", "P4W" },
      { "P", "PT", "P1YT", "1D", "P1D2H", "P1W1D" } },
    uuid = { { "2eb8aa08-AA98-11ea-b4aa-73b441d16380" }, { "2eb8aa08aa9811eab4aa73b441d16380" } },
    -- The second half of the first list cannot be run here, but is good.
    regex = { { "^a$", "(?<=a+)b", "^(?:(a)|b)*\\1$", "(?<x>a)|(?<x>b)", "(?<$>a)" },
      { "^(a", "\\Z", "a{2,1}", "\\k<x>", "(?<x>a)(?<x>b)", "(?<1>a)" } },
    ["json-pointer"] = { { "", "/a/~0~1" }, { "a", "/~", "/~2" } },
    ["segue-duration"] = { { "10s", "1h30m", "0.5s", "250ms", "2d" },
      { "", "10", "s", "10 s", "1w" } },
    ["segue-bytesize"] = { { "64MiB", "1.5GB", "10", "3kB" },
      { "", "MiB", "64 MiB", "1mb", "1Gib" } },
  }
  it("are assertions on request", function()
    for name, case in pairs(cases) do
      local text = '{"format":"' .. name .. '"}'
      for i, values in ipairs(case) do
        for _, value in ipairs(values) do
          local json = '"' .. value:gsub('[\\"]', "\\%0") .. '"'
          assert.equal(i == 1, schema.fits(text, json, { formats = true }), name .. " " .. json)
        end
      end
      assert.is_true(schema.fits(text, "12", { formats = true }))
    end
  end)
  it("are annotations otherwise, but for those of segue", function()
    assert.is_true(schema.fits('{"format":"ipv4"}', '"x"'))
    assert.equal('file:1:1: the top level must be a duration such as 500ms, 10s or 1h30m, not "x"',
      schema.reported('{"format":"segue-duration"}', '"x"'))
  end)
  it("that cannot be checked are refused where they would be assertions", function()
    assert.matches('format: "idn%-hostname" is not supported: use a pattern',
      refused('{"format":"idn-hostname"}', { formats = true }))
    assert.is_truthy(schema.compile('{"format":"idn-hostname"}'))
  end)
end)

describe("a hostile schema", function()
  it("cannot cause work without end", function()
    local defs = { '"a0":true' }
    for i = 1, 60 do
      defs[#defs + 1] = ('"a%d":{"allOf":[{"$ref":"#/$defs/a%d"},{"$ref":"#/$defs/a%d"}]}'):format(
        i, i - 1, i - 1)
    end
    local text = '{"$ref":"#/$defs/a60","$defs":{' .. table.concat(defs, ",") .. "}}"
    local code, list = schema.validate(text, "1", { steps = 100000 })
    assert.equal("SEGUE_ELIMIT", code)
    assert.matches("takes too much work", list[1].text)
    assert.equal("SEGUE_ELIMIT", (schema.validate(text, "1", { time_ms = 20 })))
  end)
  it("cannot nest without end", function()
    local chain = { '"a0":true' }
    for i = 1, 1000 do chain[#chain + 1] = ('"a%d":{"$ref":"#/$defs/a%d"}'):format(i, i - 1) end
    assert.matches("chained more than 200 deep",
      refused('{"$ref":"#/$defs/a1000","$defs":{' .. table.concat(chain, ",") .. "}}"))
    local text = '{"$dynamicAnchor":"a","allOf":[{"$dynamicRef":"#a"}]}'
    assert.equal("SEGUE_ELIMIT", (schema.validate(text, "1")))
  end)
  it("cannot use up memory unnoticed: each allocation may fail", function()
    local text = [[{"$id":"http://a/","$dynamicAnchor":"n","properties":{
      "a":{"pattern":"^()\\1\\p{L}+$",
      "enum":["x",1]},"b":{"$dynamicRef":"#n"}},"anyOf":[{"required":["a"]},true],
      "uniqueItems":true,"dependencies":{"z":["y"]},"unevaluatedProperties":false,"writeOnly":true,
      "$defs":{"m":{"$ref":"https://json-schema.org/draft/2020-12/schema"}}}]]
    local doc = schema.document(text, "schema")
    local function try(data, n)
      local errors, out = ffi.new("segue__errors[1]"), ffi.new("segue__schema *[1]")
      local findings = ffi.new("segue__findings[1]")
      C.segue__mem_fail_at(n)
      local rc = C.segue__schema_new(out, doc, nil, errors)
      if rc == 0 then rc = C.segue__schema_validate(out[0], data.root, findings, nil) end
      C.segue__mem_fail_at(0)
      C.segue__errors_deinit(errors)
      C.segue__findings_deinit(findings)
      C.segue__schema_unref(out[0])
      return rc == 0 and "valid" or C.name(rc)
    end
    local good = schema.document('{"a":"x","b":{"a":1}}', "file")
    local bad = schema.document('{"a":"1","b":{"a":2},"c":[1,1]}', "file")
    local before, n = document.live(), 0
    repeat
      n = n + 1
      local code = try(good, n)
      assert.is_true(code == "valid" or code == "ENOMEM", code)
      local verdict = try(bad, n)
      assert.is_true(verdict == "SEGUE_ESCHEMA" or verdict == "ENOMEM", verdict)
    until code == "valid"
    assert.is_true(n > 100, "only " .. n)
    assert.equal(before, document.live())
  end)
end)

describe("further uses of a schema", function()
  it("mark secrets by path", function()
    local compiled = schema.compile([[{"properties":{"db":{"$ref":"#/$defs/db"},
      "list":{"prefixItems":[true,{"writeOnly":true}],"items":{"properties":{"k":{
      "anyOf":[{"type":"null"},{"writeOnly":true}]}}}}},"patternProperties":{"^s_":{
      "writeOnly":true}},"$defs":{"db":{"properties":{"password":{"writeOnly":true},
      "next":{"$ref":"#/$defs/db"},"user":{"writeOnly":false}}}}}]])
    local function secret(text)
      local path, err = ffi.new("segue__path[1]"), C.error()
      C.check(C.segue__path_parse(path, text, err), err)
      local is = C.segue__schema_secret(compiled, path)
      C.segue__path_deinit(path)
      return is
    end
    for _, path in ipairs { "db.password", "db.next.next.password", "db.password.deeper", "list[1]",
      "list[5].k", "s_x" } do
      assert.is_true(secret(path), path)
    end
    for _, path in ipairs { "", "db", "db.user", "list[0]", "list[5]", "x", "db[0]" } do
      assert.is_false(secret(path), path)
    end
  end)
  it("fill in defaults", function()
    local function filled(text, data)
      local compiled = assert(schema.compile(text))
      local doc = schema.document(data, "file")
      local out, err = ffi.new("segue__document *[1]"), C.error()
      local rc = C.segue__schema_defaults(compiled, doc.root, out, err)
      if rc ~= 0 then return C.text(err) end
      local json = document.json(out[0].root)
      C.segue__document_unref(out[0])
      return json
    end
    local text = [[{"properties":{"port":{"default":80},"host":{"$ref":"#/$defs/host"},
      "tls":{"default":{},"properties":{"on":{"default":false}}},"none":{"type":"null"}},
      "allOf":[{"properties":{"port":{"default":81},"more":{"default":[1]}}}],
      "$defs":{"host":{"default":"localhost"}}}]]
    assert.equal('{"port":80,"host":"localhost","tls":{"on":false},"more":[1]}', filled(text, "{}"))
    assert.equal('{"tls":{"x":1,"on":false},"port":1,"host":"h","more":null}',
      filled(text, '{"tls":{"x":1},"port":1,"host":"h","more":null}'))
    assert.equal('[{"a":1},{"a":2},3]', filled(
      '{"items":{"properties":{"a":{"default":1}}}}', '[{},{"a":2},3]'))
    assert.equal("3", filled(text, "3"))
    local users = '"additionalProperties":{"properties":{"role":{"default":"read"}}}'
    assert.equal('{"ann":{"role":"read"},"bob":{"role":"all"},"max":3}',
      filled("{" .. users .. "}", '{"ann":{},"bob":{"role":"all"},"max":3}'))
    -- A member that is declared, or matches a pattern, does not count as additional.
    assert.equal('{"x-a":{"n":1},"y":{},"z":{"role":"read"},"b":{"n":1}}', filled(
      '{"patternProperties":{"^x-|^b$":{"properties":{"n":{"default":1}}}},"properties":{"y":{},'
        .. '"b":{"default":{}}},' .. users .. "}", '{"x-a":{},"y":{},"z":{}}'))
    assert.equal('{"a":{"p":1,"q":2}}', filled('{"patternProperties":{"a":{"properties":{"p":'
      .. '{"default":1}}},"^a":{"properties":{"q":{"default":2}}}}}', '{"a":{}}'))
    assert.matches("does one contain itself",
      filled('{"properties":{"a":{"default":{},"$ref":"#"},"b":{"default":{},"$ref":"#"}}}', "{}"))
  end)
end)
