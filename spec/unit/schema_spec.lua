-- SPDX-License-Identifier: MIT
-- The values that each keyword accepts, and the error for those that it rejects.
local schema = require "spec.support.schema"

-- Each: a schema, a value that fits, and one that does not with its error (without "file:" and the
-- path, which "a finding" below is about).
local function checks(text, good, bad, options)
  local compiled, why = schema.compile(text, options)
  assert.is_truthy(compiled, not compiled and table.concat(why, "; ") or nil)
  for _, value in ipairs(good) do
    assert.equal("", schema.reported(compiled, value), text .. " refuses " .. value)
  end
  for value, reported in pairs(bad) do
    local list = {}
    for line in (reported .. "\n"):gmatch("(.-)\n") do list[#list + 1] = "file:" .. line end
    local found = (schema.reported(compiled, value) .. "\n"):gsub(" %(at [^\n]*%)\n", "\n")
    assert.equal(table.concat(list, "\n") .. "\n", found, text .. " by " .. value)
  end
end

describe("a schema's type", function()
  it("accepts 1.0 as an integer, and every integer as a number", function()
    checks('{"type":"integer"}', { "1", "1.0", "-3e2", "1e300" }, {
      ["1.5"] = "1:1: the top level must be an integer, not a float",
      ['"1"'] = '1:1: the top level must be an integer, not a string',
      ["null"] = "1:1: the top level must be an integer, not null",
    })
    checks('{"type":"number"}', { "1", "1.5" }, { ["true"] =
      "1:1: the top level must be a number, not a boolean" })
  end)
  it("names all allowed types", function()
    checks('{"type":["null","array","object"]}', { "null", "[]", "{}" }, {
      ['"x"'] = '1:1: the top level must be null, a list or a map, not a string',
    })
    checks('{"type":["boolean","string"]}', { "false", '"x"' }, {
      ["[1,2]"] = "1:1: the top level must be a boolean or a string, not a list",
    })
  end)
  it("is the only error reported for a value", function()
    checks('{"type":"string","minLength":3,"minimum":7}', { '"abc"' }, {
      ["5"] = "1:1: the top level must be a string, not an integer" })
  end)
end)

describe("const and enum", function()
  it("compare by value: 1 is 1.0, maps have no order", function()
    checks('{"const":{"a":1,"b":[2.0]}}', { '{"b":[2],"a":1.0}' }, {
      ['{"a":1,"b":[true]}'] = "1:1: the top level must have the value that the schema gives" })
    checks('{"enum":["x",1,null,[1]]}', { '"x"', "1.0", "null", "[1.0]" }, {
      ["true"] = '1:1: the top level must be "x", 1, null or a list of 1, not true',
      ["[1,1]"] = '1:1: the top level must be "x", 1, null or a list of 1, not a list of 2',
    })
    checks('{"const":false}', { "false" }, {
      ["0"] = "1:1: the top level must be false, not 0" })
    checks('{"const":9223372036854775807}', { "9223372036854775807" }, {
      ["9223372036854775808"] =
        "1:1: the top level must be 9223372036854775807, not 9223372036854775808" })
    checks('{"const":0}', { "0", "0.0", "-0.0" }, {})
    checks('{"const":"a\\u0000b"}', { '"a\\u0000b"' }, {
      ['"a"'] = '1:1: the top level must be "a\\u0000b", not "a"' })
  end)
  it("shorten long lists in the message", function()
    local values = {}
    for i = 1, 100 do values[i] = '"value' .. i .. '"' end
    assert.matches('must be "value1", .*, %d+ more, not 1$',
      schema.reported('{"enum":[' .. table.concat(values, ",") .. "]}", "1"))
  end)
end)

describe("numbers", function()
  it("have limits that are exact over 64 bits", function()
    checks('{"maximum":100}', { "100", "1e2", "-5", '"x"' }, {
      ["101"] = "1:1: the top level must be at most 100, not 101" })
    checks('{"maximum":9007199254740992}', { "9007199254740992" }, {
      ["9007199254740993"] =
        "1:1: the top level must be at most 9007199254740992, not 9007199254740993" })
    checks('{"minimum":9223372036854775807.0}', { "9223372036854775808", "18446744073709551615" }, {
      ["9223372036854775807"] = "1:1: the top level must be at least " ..
        "9.223372036854776e18, not 9223372036854775807" })
    checks('{"exclusiveMinimum":0,"exclusiveMaximum":1.5}', { "0.1", "1" }, {
      ["0"] = "1:1: the top level must be more than 0, not 0",
      ["1.5"] = "1:1: the top level must be less than 1.5, not 1.5" })
    checks('{"minimum":-1}', { "-1", "0" }, {
      ["-9223372036854775808"] =
        "1:1: the top level must be at least -1, not -9223372036854775808" })
  end)
  it("that are .nan are within no limits", function()
    for _, rule in ipairs { "maximum", "minimum", "exclusiveMaximum", "exclusiveMinimum" } do
      assert.is_false(schema.fits('{"' .. rule .. '":1}', "yaml:.nan"))
    end
    assert.is_false(schema.fits('{"multipleOf":1}', "yaml:.inf"))
    assert.is_false(schema.fits('{"type":"integer"}', "yaml:.inf"))
    assert.is_true(schema.fits('{"minimum":1}', "yaml:.inf"))
  end)
  it("are multiples by the digits that were written", function()
    checks('{"multipleOf":0.01}', { "19.99", "0", "4.35", "1e300", "-0.07" }, {
      ["0.001"] = "1:1: the top level must be a multiple of 0.01, not 0.001" })
    checks('{"multipleOf":0.0001}', { "0.0075" }, {
      ["0.00751"] = "1:1: the top level must be a multiple of 0.0001, not 0.00751" })
    checks('{"multipleOf":3}', { "18446744073709551615", "3e300", "-9", "9.0" }, {
      ["18446744073709551614"] =
        "1:1: the top level must be a multiple of 3, not 18446744073709551614",
      ["1.5"] = "1:1: the top level must be a multiple of 3, not 1.5" })
    assert.is_true(schema.fits('{"multipleOf":0.5}', "1e308"))
    assert.is_false(schema.fits('{"multipleOf":0.123456789}', "1e308"))
    assert.is_true(schema.fits('{"multipleOf":1e-8}', "12391239123"))
    assert.is_true(schema.fits('{"multipleOf":5e-324}', "1e-300"))
  end)
end)

describe("texts", function()
  it("are counted in characters, not bytes", function()
    checks('{"maxLength":2,"minLength":1}', { '"ab"', '"€😀"', "7" }, {
      ['""'] = "1:1: the top level must have at least 1 character, not 0",
      ['"€€€"'] = "1:1: the top level must have at most 2 characters, not 3" })
  end)
  it("match a pattern anywhere unless it is anchored", function()
    checks('{"pattern":"b+"}', { '"abc"', "1" }, {
      ['"ac"'] = '1:1: the top level must match b+, not "ac"' })
    checks('{"pattern":"^a$"}', { '"a"' }, {
      ['"a\\n"'] = '1:1: the top level must match ^a$, not "a\\n"' })
  end)
  it("are shortened in messages", function()
    local reported = schema.reported('{"maxLength":1,"const":0}', '"' .. ("é"):rep(100) .. '"')
    assert.matches("^file:1:1: the top level must be 0, not \"[é]+%.%.%.\n", reported)
    assert.is_true(#reported < 250)
  end)
end)

describe("lists", function()
  it("are counted", function()
    checks('{"minItems":1,"maxItems":2}', { "[1]", "[1,2]", "{}" }, {
      ["[]"] = "1:1: the top level must have at least 1 item, not 0",
      ["[1,2,3]"] = "1:1: the top level must have at most 2 items, not 3" })
  end)
  it("have items by position, and the rest by `items`", function()
    checks('{"prefixItems":[{"type":"string"},true],"items":{"type":"integer"}}',
      { "[]", '["a"]', '["a",null,1,2]' }, {
        ['[1,2,"c"]'] = "1:2: item [0] must be a string, not an integer\n"
          .. '1:6: item [2] must be an integer, not a string' })
    checks('{"prefixItems":[true],"items":false}', { "[1]" }, {
      ["[1,2,3]"] = "1:4: item [1] is one item too many: 1 at most" })
  end)
  it("contain the required number of matching items", function()
    checks('{"contains":{"type":"string"}}', { '[1,"a"]', '["a","b"]' }, {
      ["[1]"] = "1:1: the top level must contain at least 1 item of the kind that the schema "
        .. "names, not 0" })
    checks('{"contains":{"type":"string"},"minContains":2,"maxContains":3}', { '["a","b",1]' }, {
      ['["a"]'] = "1:1: the top level must contain at least 2 items of the kind that the schema "
        .. "names, not 1",
      ['["a","b","c","d"]'] = "1:1: the top level must contain at most 3 items of the kind "
        .. "that the schema names" })
    checks('{"contains":{"const":1},"minContains":0}', { "[]", "[2]" }, {})
  end)
  it("are unique by value", function()
    checks('{"uniqueItems":true}', { "[]", '[1,true,"1",[1],{"a":1}]', "[0,false]" }, {
      ["[1,2,1.0]"] = "1:6: item [2] must differ from item 0 of the same list",
      ['[{"a":1,"b":[1.0]},{"b":[1],"a":1}]'] = "1:20: item [1] must differ from item 0 of "
        .. "the same list" })
    checks('{"uniqueItems":false}', { "[1,1]" }, {})
  end)
  it("are unique in time that grows with their length", function()
    local items = {}
    for i = 1, 200000 do items[i] = i .. (i % 2 == 0 and ".0" or "") end
    assert.is_true(schema.fits('{"uniqueItems":true}', "[" .. table.concat(items, ",") .. "]",
      { time_ms = 5000 }))
  end)
end)

describe("maps", function()
  it("have members that are named, matched or additional", function()
    checks('{"properties":{"a":{"type":"integer"}},"patternProperties":{"^x":{"type":"null"}},'
      .. '"additionalProperties":{"type":"string"}}', { '{"a":1,"x1":null,"z":"s"}', "[]" }, {
        ['{"a":"1","x":1,"z":2}'] = '1:6: a must be an integer, not a string\n'
          .. "1:14: x must be null, not an integer\n1:20: z must be a string, not an integer" })
  end)
  it("report unknown keys, their place, and the nearest known key", function()
    checks('{"properties":{"timeout":true,"host":true},"additionalProperties":false}',
      { '{"host":1}' }, {
        ['{"a":{},"timeuot":1}'] = "1:2: a is not a known key here\n"
          .. '1:9: timeuot is not a known key here: did you mean "timeout"?' })
  end)
  it("require keys, alone or beside others", function()
    checks('{"required":["a","b"]}', { '{"a":1,"b":null}', "1" }, {
      ['{"c":1}'] = '1:1: the top level must have the key "a"\n'
        .. '1:1: the top level must have the key "b"' })
    checks('{"dependentRequired":{"tls":["cert"]}}', { "{}", '{"tls":1,"cert":2}' }, {
      ['{"tls":1}'] = '1:1: the top level must have the key "cert" beside the key "tls"' })
  end)
  it("are counted, and their keys validated", function()
    checks('{"minProperties":1,"maxProperties":1}', { '{"a":1}' }, {
      ["{}"] = "1:1: the top level must have at least 1 member, not 0",
      ['{"a":1,"b":2}'] = "1:1: the top level must have at most 1 member, not 2" })
    checks('{"propertyNames":{"maxLength":2}}', { '{"ab":1}' }, {
      ['{"a":1,"abc":2}'] = "1:8: the key abc must have at most 2 characters, not 3" })
  end)
end)

describe("combinations", function()
  it("of allOf report each breach", function()
    checks('{"allOf":[{"minimum":1},{"multipleOf":2}]}', { "2" }, {
      ["-1"] = "1:1: the top level must be at least 1, not -1\n"
        .. "1:1: the top level must be a multiple of 2, not -1" })
  end)
  it("of anyOf report the forms by name, or the errors of the nearest", function()
    checks('{"anyOf":[{"type":"string"},{"title":"a port","maximum":9}]}', { '"a"', "3" }, {
      ["10"] = "1:1: the top level must be a string or a port, not 10" })
    checks('{"anyOf":[{"minimum":5},{"maximum":1}]}', { "5" }, {
      ["3"] = "1:1: the top level must fit one of the 2 forms that are allowed here, not 3" })
    checks('{"oneOf":[{"type":"null"},{"type":"object","properties":{"a":{"type":"null"}}}]}',
      { "null" }, {
      ['{"a":{"b":1}}'] = "1:6: a must be null, not a map" })
  end)
  it("distinguish forms by a constant", function()
    checks([[{"oneOf":[
      {"required":["kind"],"properties":{"kind":{"const":"tcp"},"port":{"type":"integer"}}},
      {"required":["kind"],"properties":{"kind":{"const":"unix"},"path":{"type":"string"}}}]}]],
      { '{"kind":"tcp","port":1}', '{"kind":"unix"}' }, {
        ['{"kind":"unix","path":1}'] = "1:23: path must be a string, not an integer",
        ['{"kind":"tcp","port":"x"}'] = '1:22: port must be an integer, not a string' })
  end)
  it("of oneOf report the forms that fit", function()
    checks('{"oneOf":[{"minimum":1},{"minimum":2},{"minimum":3}]}', { "1" }, {
      ["2"] = "1:1: the top level must fit exactly one of the 3 forms in oneOf, not forms 1 "
        .. "and 2 at once" })
    checks('{"oneOf":[{"title":"a port","type":"integer"},{"const":1}]}', { "2" }, {
      ["1"] = "1:1: the top level must be either a port or 1, not both" })
  end)
  it("negate, and follow conditions", function()
    checks('{"not":{"type":"integer"}}', { '"a"' }, {
      ["1"] = "1:1: the top level must not be an integer" })
    checks('{"not":{"minimum":1,"maximum":2}}', { "3" }, {
      ["1"] = '1:1: the top level must not fit the schema under "not"' })
    checks('{"if":{"required":["tls"]},"then":{"required":["cert"]},"else":{"required":["plain"]}}',
      { '{"tls":1,"cert":1}', '{"plain":1}' }, {
        ['{"tls":1}'] = '1:1: the top level must have the key "cert"',
        ["{}"] = '1:1: the top level must have the key "plain"' })
    checks('{"dependencies":{"a":["b"],"c":{"maxProperties":1},"d":false,"e":[]}}',
      { "{}", '{"a":1,"b":1}', '{"c":1}', '{"e":1}', "1" }, {
        ['{"a":1}'] = '1:1: the top level must have the key "b" beside the key "a"',
        ['{"c":1,"b":1}'] = "1:1: the top level must have at most 1 member, not 2",
        ['{"a":1,"c":1}'] = '1:1: the top level must have the key "b" beside the key "a"\n'
          .. "1:1: the top level must have at most 1 member, not 2",
        ['{"d":1}'] = "1:1: the top level is not allowed here" })
    checks('{"dependencies":{"a":{"properties":{"b":true}},"b":["a"]},'
      .. '"unevaluatedProperties":false}',
      { "{}" }, {
        ['{"a":1,"b":1}'] = "1:2: a is not a known key here" })
    checks('{"dependentSchemas":{"a":{"required":["b"]}}}', { "{}", '{"a":1,"b":1}' }, {
      ['{"a":1}'] = '1:1: the top level must have the key "b"' })
  end)
  it("are nothing where a schema is true, and everything where it is false", function()
    checks("true", { "1", "{}" }, {})
    checks("false", {}, { ["1"] = "1:1: the top level is not allowed here" })
    checks('{"properties":{"a":false}}', { "{}" }, { ['{"a":1}'] = "1:6: a is not allowed here" })
  end)
end)

describe("unevaluated members", function()
  it("are known through references, combinations and conditions", function()
    local text = [[{"$ref":"#/$defs/base","properties":{"a":true},
      "allOf":[{"patternProperties":{"^x":true}}],
      "anyOf":[{"required":["k"],"properties":{"k":true}},{"properties":{"never":false}}],
      "if":{"required":["i"],"properties":{"i":true}},"then":{"properties":{"t":true}},
      "dependentSchemas":{"a":{"properties":{"d":true}}},
      "unevaluatedProperties":false, "$defs":{"base":{"properties":{"b":true}}}}]]
    checks(text, { '{"a":1,"b":2,"x1":3,"k":4,"i":5,"t":6,"d":7}' }, {
      ['{"d":1}'] = "1:2: d is not a known key here",
      ['{"t":1,"b":2}'] = "1:2: t is not a known key here" })
  end)
  it("are evaluated only by branches that hold", function()
    checks('{"anyOf":[{"properties":{"a":{"const":1}},"required":["a"]},{"required":["b"]}],'
      .. '"unevaluatedProperties":false}', { '{"a":1}' }, {
        ['{"a":1,"b":2}'] = "1:8: b is not a known key here",
        ['{"a":2,"b":2}'] = "1:2: a is not a known key here\n1:8: b is not a known key here" })
    checks('{"not":{"properties":{"a":false}},"unevaluatedProperties":false}', {}, {
      ['{"a":1}'] = "1:2: a is not a known key here" })
  end)
  it("of a list are reported by item", function()
    checks('{"prefixItems":[true],"contains":{"const":7},"unevaluatedItems":false}', { "[1,7,7]" },
      { ["[1,7,8]"] = "1:6: item [2] is an item that nothing provides for" })
    checks('{"anyOf":[{"prefixItems":[true,{"const":1}]},true],'
      .. '"unevaluatedItems":{"type":"string"}}', { '[0,1,"a"]' }, {
        ["[0,2]"] = "1:2: item [0] must be a string, not an integer\n"
          .. "1:4: item [1] must be a string, not an integer" })
  end)
  it("are reported only when everything else is valid", function()
    checks('{"properties":{"a":{"type":"null"}},"unevaluatedProperties":false}', {}, {
      ['{"a":1,"b":2}'] = "1:6: a must be null, not an integer" })
  end)
end)

describe("a finding", function()
  it("has place, rule and position in the user's file and in the schema", function()
    local _, list = schema.validate([[yaml:
properties:
  upstreams:
    items: {$ref: "#/$defs/up~1stream"}
$defs:
  up/stream:
    properties:
      weight: {maximum: 100}
]], [[yaml:
listen: x
upstreams:
  - name: a
    weight: 500
]])
    assert.same({
      text = "file:4:13: weight must be at most 100, not 500 (at upstreams[0].weight)",
      keyword = "maximum", pointer = "/upstreams/0/weight",
      schema_path = "#/$defs/up~1stream/properties/weight/maximum", schema_file = "schema",
      schema_line = 7, schema_column = 16 }, list[1])
    assert.equal(1, list.total)
  end)
  it("escapes keys in paths and pointers", function()
    local _, list = schema.validate('{"additionalProperties":{"type":"null"}}', '{"a/b~c.d":1}')
    assert.equal("/a~1b~0c.d", list[1].pointer)
    assert.equal('file:1:12: a/b~c.d must be null, not an integer (at "a/b~c.d")', list[1].text)
  end)
  it("is kept a hundred times and counted always", function()
    local items = ("1,"):rep(249) .. "1"
    local code, list = schema.validate('{"items":{"type":"null"}}', "[" .. items .. "]")
    assert.equal("SEGUE_ESCHEMA", code)
    assert.equal(100, #list)
    assert.equal(250, list.total)
  end)
  it("carries the schema's own text about a rule, a description only beside a pattern", function()
    local words = [[{"properties":{"name":{"pattern":"^[a-z]+$","description":"lower case letters"},
      "port":{"type":"integer","minimum":1,"errorMessage":"ask the network team"},
      "size":{"maximum":9,"multipleOf":2,"description":"of a page",
        "errorMessage":{"multipleOf":"pages come in pairs"}}}}]]
    checks(words, { '{"name":"a","port":1,"size":2}' }, {
      ['{"name":"A"}'] = '1:9: name must match ^[a-z]+$, not "A": lower case letters',
      ['{"port":0}'] = "1:9: port must be at least 1, not 0: ask the network team",
      ['{"port":"x"}'] = "1:9: port must be an integer, not a string: ask the network team",
      ['{"size":11}'] = "1:9: size must be a multiple of 2, not 11: pages come in pairs\n"
        .. "1:9: size must be at most 9, not 11" })
    local long = schema.reported('{"minimum":1,"errorMessage":"' .. ("é"):rep(200) .. '"}', "0")
    assert.matches(": [é]+%.%.%.$", long)
    assert.is_true(#long < 260)
    -- cut between two words: the beginning of a secret is no word that a mask knows
    assert.matches(": see x+%.%.%.$", schema.reported('{"minimum":1,"errorMessage":"see '
      .. ("x"):rep(152) .. ' first-passw0rd"}', "0"))
    for _, strange in ipairs { "7", '{"minimum":7}', '""', "[]" } do
      assert.equal("file:1:1: the top level must be at least 1, not 0",
        schema.reported('{"minimum":1,"errorMessage":' .. strange .. "}", "0"))
    end
  end)
  it("does not show a secret", function()
    local text = [[{"properties":{"db":{"writeOnly":true,"properties":{"password":{"maxLength":3}},
      "patternProperties":{"^p":{"pattern":"^a"}}},"keys":{"items":{"$ref":"#/$defs/key"}}},
      "allOf":[{"properties":{"token":{"anyOf":[{"writeOnly":true}]}}}],
      "additionalProperties":{"type":"integer"},"$defs":{"key":{"writeOnly":true,"const":1}}}]]
    local reported = schema.reported(text,
      '{"db":{"password":"hunter2"},"keys":["hunter2"],"token":"hunter2"}')
    assert.is_nil(reported:find("hunter2"))
    assert.matches("keys%[0%] must have the value that the schema gives", reported)
  end)
  it("does not show the keys below a secret, nor the values that a secret may have", function()
    local secret = [[{"properties":{"s":{"writeOnly":true,%s}}}]]
    local cases = { -- rule, value, error; "hunter" is never shown
      { '"additionalProperties":{"type":"string"}', '{"hunter":{"x":7}}',
        "1:16: a part of s must be a string, not a map (at s)" },
      { '"properties":{"hunter2":true},"additionalProperties":false', '{"hunter3":1}',
        "1:7: a part of s is not a known key here (at s)" },
      { '"propertyNames":{"maxLength":3}', '{"hunter":1}',
        "1:7: a part of s must have at most 3 characters, not 6 (at s)" },
      { '"propertyNames":{"enum":["hunters"]}', '{"hunter":1}',
        "1:7: a part of s must be one of the values that the schema allows (at s)" },
      { '"dependentRequired":{"hunter":["x"]}', '{"hunter":1}',
        '1:6: s must have the key "x" (at s)' },
      { '"const":"hunter"', '"hunter2"',
        "1:6: s must have the value that the schema gives (at s)" },
      { '"minimum":8', "7", "1:6: s must be at least 8 (at s)" },
      { '"oneOf":[{"title":"hunter1"},{"title":"hunter2"}]', "7",
        "1:6: s must fit exactly one of the 2 forms in oneOf, not forms 1 and 2 at once (at s)" },
      { '"not":{"const":"hunter2"}', '"hunter2"',
        '1:6: s must not fit the schema under "not" (at s)' },
      { '"enum":["hunter"]', "[]", "1:6: s must be one of the values that the schema allows "
        .. "(at s)" },
      { '"anyOf":[{"const":"hunter"},{"type":"null"}]', "1",
        "1:6: s must fit one of the 2 forms that are allowed here (at s)" },
    }
    for _, case in ipairs(cases) do
      local reported = schema.reported(secret:format(case[1]), '{"s":' .. case[2] .. "}")
      assert.is_nil(reported:find("hunter"), reported)
      assert.equal("file:" .. case[3], reported)
      local _, list = schema.validate(secret:format(case[1]), '{"s":' .. case[2] .. "}")
      assert.equal("/s", list[1].pointer)
    end
  end)
end)
