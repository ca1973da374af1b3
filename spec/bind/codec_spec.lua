-- SPDX-License-Identifier: MIT
-- segue.json, segue.yaml, segue.base64, segue.percent, segue.hash: both ways, exact, and within the
-- limits of the state whatever the text is.
local bind = require "spec.support.bind"
local fresh = require "spec.support.fresh"

local b
local open = fresh(bind.open, function(opened) b = opened end)

local prelude = [[
local json, yaml, base64 = segue.json, segue.yaml, segue.base64
local percent, hash = segue.percent, segue.hash
local function same(got, wanted)
  if got ~= wanted then
    error(("got %s, not %s"):format(tostring(got), tostring(wanted)), 2)
  end
end
local function bad(value, message, code, line, column)
  return ("%s|%s|%s|%s|%s"):format(tostring(value), tostring(message), tostring(code),
    tostring(line), tostring(column))
end
]]

local function run(body, next)
  return b:run(prelude .. body .. "\nreturn true", next or "{}")
end

local function holds(name, body, next)
  it(name, function()
    local answer = run(body, next)
    assert.is_true(answer.ok, answer.text)
  end)
end

local function throws(name, body, message, next)
  it(name, function()
    local answer = run(body, next)
    assert.equal("SEGUE_EPOLICY", answer.status)
    assert.truthy(answer.message:find(message, 1, true), answer.text)
  end)
end

describe("segue.json.decode", function()
  holds("reads every type", [[
    local v = json.decode '{"a": [1, 2.5, "x", true, null], "m": {"k": {}}, "e": []}'
    same(v.a[1], 1) same(v.a[2], 2.5) same(v.a[3], "x") same(v.a[4], true)
    same(v.a[5], segue.null) same(#v.a, 5) same(type(v.m.k), "table") same(#v.e, 0)]])
  holds("reads any type at the top, also null", [[
    same(json.decode "7", 7) same(json.decode '"x"', "x") same(json.decode "null", segue.null)
    same(json.decode "[3]"[1], 3)]])
  holds("reads 64-bit integers exactly", [[
    local v = json.decode "[9223372036854775807, 18446744073709551615, -9223372036854775808]"
    same(tostring(v[1]), "9223372036854775807") same(tostring(v[2]), "18446744073709551615")
    same(tostring(v[3]), "-9223372036854775808")]])
  holds("reads escapes, pairs of surrogates and zero bytes", [[
    same(json.decode '"\\ud83d\\ude00\\u0000a\\n"', "\240\159\152\128\0a\n")]])
  holds("returns where a value is, if asked", [[
    local v, where = json.decode('{"a":\n  [1,\n {"b": 2}]}', { positions = true })
    local line, column = where "a[1].b"
    same(v.a[2].b, 2) same(line, 3) same(column, 8)
    same(where "a.x", nil) same(select("#", where "a[9]"), 0) same((where()), 1)]])
  holds("returns nil, a message with the place, a code, line and column for what is not JSON", [[
    same(bad(json.decode '{"a":\n  1,}'), "nil|JSON:2:4: JSON has no comma after the last item: "
      .. "remove it|SEGUE_ESYNTAX|2|4")
    same(bad(json.decode("[1", { name = "etcd /ads/x" })),
      "nil|etcd /ads/x:1:3: the text ends where ',' or ']' is expected|SEGUE_ESYNTAX|1|3")
    same(bad(json.decode ""), "nil|the text is empty|SEGUE_EEMPTY|nil|nil")
    same(select(3, json.decode '{"a": 1, "a": 2}'), "SEGUE_ESYNTAX")]])
  holds("refuses text that is not UTF-8, and shows no byte of it", [[
    local v, why, code = json.decode '["secret\255"]'
    same(v, nil) same(code, "SEGUE_EENCODING") same(why:find("secret", 1, true), nil)]])
  holds("refuses what is nested too deeply", [[
    same(select(3, json.decode(("["):rep(100000))), "SEGUE_ELIMIT")
    same(select(3, json.decode(('{"a":'):rep(200) .. "1" .. ("}"):rep(200))), "SEGUE_ELIMIT")]])
  throws("throws for an argument that is no text", "json.decode(5)",
    "segue.json.decode needs a text, not a number")
  throws("throws for an unknown option", "json.decode('1', { position = true })",
    "position is not a known key here")
end)

describe("segue.json.encode", function()
  holds("writes plain data, keys in the order of their bytes", [[
    same(json.encode { b = 1, a = { 1, "x", true, 2.5, segue.null }, B = {} },
      '{"B":{},"a":[1,"x",true,2.5,null],"b":1}')
    same(json.encode "a\0\"\n", '"a\\u0000\\"\\n"') same(json.encode(segue.null), "null")]])
  holds("indents if asked", [[same(json.encode({ a = { 1 } }, { indent = 2 }),
    '{\n  "a": [\n    1\n  ]\n}')]])
  holds("keeps empty lists that were decoded or marked", [[
    same(json.encode(json.decode '{"a": [], "b": {}}'), '{"a":[],"b":{}}')
    same(json.encode { segue.array(), segue.array { 1 }, {} }, "[[],[1],{}]")]])
  holds("writes integers exactly", [[
    same(json.encode { segue.int "18446744073709551615", segue.int "-9223372036854775808",
      9007199254740992, 1e300 },
      "[18446744073709551615,-9223372036854775808,9007199254740992,1.0e300]")]])
  holds("writes config values, alone and within tables", [[
    same(json.encode(next), '{"port":80,"list":[1,null],"empty":[],"big":18446744073709551615}')
    same(json.encode { x = next.list }, '{"x":[1,null]}')
    same(json.encode(segue.copy(next)),
      '{"big":18446744073709551615,"empty":[],"list":[1,null],"port":80}')]],
    "port: 80\nlist: [1, null]\nempty: []\nbig: 18446744073709551615")
  holds("does not run metamethods", [[
    same(json.encode(setmetatable({ a = 1 }, { __index = error, __pairs = error, __len = error })),
      '{"a":1}')]])
  throws("throws for a function, and names its path",
    "json.encode { a = { 1, { b = print } } }", "a[1].b is a function: plain data only")
  throws("throws for a table that contains itself", "local t = {} t.t = t json.encode(t)",
    "t contains itself")
  throws("throws for a table that is list and map", "json.encode { a = { 1, x = 2 } }",
    "a is neither a list")
  throws("throws for a list with a hole", "json.encode { a = { [1] = 1, [3] = 3 } }",
    "a is neither a list")
  throws("throws for NaN", "json.encode { 0 / 0 }", "[0] is not a number, which JSON")
  throws("throws for infinity", "json.encode { a = 1 / 0 }", "a is infinite, which JSON")
  throws("throws for text that is not UTF-8", 'json.encode { a = "\\255" }',
    "a the string is not valid UTF-8")
  throws("throws for nil", "json.encode(nil)", "segue.json.encode needs a value")
end)

describe("segue.yaml", function()
  holds("reads the core schema", [[
    local v = yaml.decode "a: [1, 0x10, ~, yes]\nb: &x {c: 1.5}\nd: *x\n"
    same(v.a[1], 1) same(v.a[2], 16) same(v.a[3], segue.null) same(v.a[4], "yes")
    same(v.b.c, 1.5) same(v.d.c, 1.5) same(yaml.decode "- 1\n- 2\n"[2], 2)]])
  holds("returns where a value is", [[
    local _, where = yaml.decode("a:\n  - b: 1\n", { positions = true })
    local line, column = where "a[0].b"
    same(line, 2) same(column, 8)]])
  holds("reports mistakes with their place", [[
    same(bad(yaml.decode "a: [1\nb: 2\n"):match("|(SEGUE_%u+|%d)"), "SEGUE_ESYNTAX|2")
    same(select(3, yaml.decode "# nothing\n"), "SEGUE_EEMPTY")
    same(select(3, yaml.decode "a: 1\n---\nb: 2\n"), "SEGUE_ESYNTAX")]])
  holds("writes block style that reads back equal", [[
    same(yaml.encode { b = { { x = 1, y = { 2 } }, segue.array(), {} }, a = "on", n = segue.null },
      'a: "on"\nb:\n  - x: 1\n    "y":\n      - 2\n  - []\n  - {}\n"n": null\n')
    same(yaml.encode "x", "x\n") same(yaml.encode(segue.array()), "[]\n")
    same(yaml.encode { { { 1 } } }, "- - - 1\n")]])
  holds("quotes every text that could be read otherwise", [[
    for _, text in ipairs { "", " ", "~", "null", "true", "No", "1", "1.0", "0x1", ".inf", "a: b",
      "a #b", "- a", "? a", "*a", "&a", "!a", "%a", "@a", "a\nb", "a\tb", "'", '"', "\\", "<<",
      "2001-01-01", "1_000", "1:30", "=", "\194\133", "\226\128\168", "\239\187\191x", "a\127",
      "\194\155", "\239\191\191", "\240\159\152\128", ("k"):rep(5000), "a:", ":a", "a,b", "[",
      "{", "a\0", "a\0b" } do
      same(yaml.decode(yaml.encode(text)), text)
      local map = yaml.decode(yaml.encode { [text] = { { [text] = text } } })
      same(map[text][1][text], text)
    end]])
  holds("writes numbers that keep their type", [[
    local v = yaml.decode(yaml.encode { 1, 1.5, 1e300, segue.int "18446744073709551615", 1 / 0 })
    same(v[1], 1) same(v[2], 1.5) same(v[3], 1e300) same(tostring(v[4]), "18446744073709551615")
    same(v[5], 1 / 0)]])
end)

describe("segue.base64", function()
  holds("encodes and decodes the vectors of RFC 4648", [[
    local texts = { "", "f", "fo", "foo", "foob", "fooba", "foobar" }
    local codes = { "", "Zg==", "Zm8=", "Zm9v", "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy" }
    for i, text in ipairs(texts) do
      same(base64.encode(text), codes[i]) same(base64.decode(codes[i]), text)
      same(base64.encode(text, "url"), (codes[i]:gsub("=", "")))
      same(base64.decode(codes[i]:gsub("=", ""), "url"), text)
    end]])
  holds("keeps all bytes, in both alphabets", [[
    local all = {}
    for i = 0, 255 do all[i + 1] = string.char(i) end
    all = table.concat(all)
    same(base64.decode(base64.encode(all)), all)
    same(base64.decode(base64.encode(all, "url"), "url"), all)
    same(base64.encode "\251\255", "+/8=") same(base64.encode("\251\255", "url"), "-_8")
    local long = all:rep(4000)
    same(base64.decode(base64.encode(long)), long)]])
  holds("refuses what is no base64, with the byte", [[
    same(bad(base64.decode "Zm9*"), "nil|no base64 at byte 4|SEGUE_ESYNTAX|nil|nil")
    for _, text in ipairs { "Z", "Zg", "Zg=", "Zg===", "Zh==", "Zm9=", "Zm9v\n", "=", "====",
      "Zg==Zg==", "-_8=", "Zm 9v" } do
      same(select(3, base64.decode(text)), "SEGUE_ESYNTAX")
    end
    same(select(3, base64.decode("+/8", "url")), "SEGUE_ESYNTAX")]])
  throws("throws for a variant that it does not know", 'base64.encode("a", true)', 'must be "url"')
end)

describe("segue.percent", function()
  holds("encodes and decodes", [[
    same(percent.encode "a b/\195\188~%", "a%20b%2F%C3%BC~%25")
    same(percent.encode("a/b c", "/"), "a/b%20c")
    same(percent.decode "a%20b%2f%C3%BC+%00", "a b/\195\188+\0")]])
  holds("refuses what is malformed", [[
    same(bad(percent.decode "ab%2"),
      "nil|no two hex digits after '%' at byte 3|SEGUE_ESYNTAX|nil|nil")
    same(select(3, percent.decode "%zz"), "SEGUE_ESYNTAX")
    same(select(3, percent.decode "%"), "SEGUE_ESYNTAX")]])
end)

describe("segue.hash", function()
  holds("makes the digests of the standards", [[
    same(hash.sha256 "abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
    same(hash.sha1 "abc", "a9993e364706816aba3e25717850c26c9cd0d89d")
    same(hash.md5 "", "d41d8cd98f00b204e9800998ecf8427e")
    same(hash.sha512("abc"):sub(1, 16), "ddaf35a193617aba")
    same(hash.crc32 "123456789", "cbf43926") same(#hash.xxh3 "a", 32)
    same(#hash.sha256("abc", "raw"), 32) same(hash.xxh3 "a" == hash.xxh3 "b", false)]])
  holds("makes HMAC (RFC 4231, 2202)", [[
    same(hash.hmac("sha256", "Jefe", "what do ya want for nothing?"),
      "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843")
    same(hash.hmac("sha256", ("\170"):rep(131),
      "Test Using Larger Than Block-Size Key - Hash Key First"),
      "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54")
    same(hash.hmac("sha1", "Jefe", "what do ya want for nothing?"),
      "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79")
    same(#hash.hmac("sha512", "", "", "raw"), 64)]])
  throws("throws for a digest that it does not know", 'hash.hmac("sha3", "a", "b")',
    "there is no digest 'sha3'")
end)

describe("a document that is too large", function()
  local bomb = [[
    local lines = { "a0: &a0 [x, x, x, x, x, x, x, x, x, x]" }
    for i = 1, 12 do
      lines[i + 1] = ("a%d: &a%d [%s]"):format(i, i, ("*a%d, "):format(i - 1):rep(10))
    end
    lines = table.concat(lines, "\n")]]

  local function with_memory(bytes)
    open { memory = bytes, slice_ms = 5000 }
  end

  it("of aliases of aliases is an error of the document, and the state stays usable", function()
    with_memory(32 * 2 ^ 20)
    local answer = run(bomb .. [[
      same(select(3, yaml.decode(lines)), "SEGUE_ELIMIT")
      same(yaml.decode "a: 1".a, 1)]])
    assert.is_true(answer.ok, answer.text)
    assert.equal(1, b:stats().states)
  end)

  it("of a million values is an error of the document", function()
    with_memory(32 * 2 ^ 20)
    local answer = run([[
      same(select(3, json.decode("[" .. ("1,"):rep(1000000) .. "1]")), "SEGUE_ELIMIT")
      same(select(3, json.decode("[" .. ("{},"):rep(300000) .. "{}]")), "SEGUE_ELIMIT")
      same(#json.decode("[" .. ("1,"):rep(50000) .. "1]"), 50001)]])
    assert.is_true(answer.ok, answer.text)
  end)

  it("counts as long as its positions are kept", function()
    with_memory(32 * 2 ^ 20)
    local answer = run([[
      local kept, code = {}, nil
      local text = '["' .. ("x"):rep(1000000) .. '"]'
      for i = 1, 100 do
        local v, where, c = json.decode(text, { positions = true })
        kept[i], code = where, c
        if not v then break end
      end
      same(code, "SEGUE_ELIMIT")]])
    assert.is_true(answer.ok, answer.text)
  end)

  it("is not encoded from one text that is named a thousand times", function()
    with_memory(32 * 2 ^ 20)
    local answer = run([[
      local text, list = ("x"):rep(1000000), {}
      for i = 1, 1000 do list[i] = text end
      local ok, why = pcall(json.encode, list)
      same(ok, false) same(why:find("MiB of text", 1, true) ~= nil, true)]])
    assert.is_true(answer.ok, answer.text)
  end)
end)

describe("a conversion without an end", function()
  local function with_time(ms)
    open { slice_ms = ms }
  end

  local endless = {
    ["json.decode"] = "json.decode(big)",
    ["json.encode"] = "json.encode(values)",
    ["yaml.decode"] = "yaml.decode(big)",
    ["base64"] = "base64.decode(base64.encode(long))",
    ["percent"] = "percent.decode(percent.encode(long))",
    ["sha512"] = "hash.sha512(long)",
    ["crc32"] = "hash.crc32(long)",
  }
  for name, call in pairs(endless) do
    it("of " .. name .. " is ended by the CPU budget", function()
      with_time(20)
      local policy, errs = b:load([[local segue = require "segue"
local json, yaml, base64 = segue.json, segue.yaml, segue.base64
local percent, hash = segue.percent, segue.hash
local big = "[" .. ("[1, 2, 3],"):rep(20000) .. "1]"
local long = "a: " .. ("word "):rep(1000000)
local values = json.decode(big)
return { sources = { segue.value {} }, check = function()
  for i = 1, 1000000 do pcall(function() ]] .. call .. [[ end) end
end }]])
      assert(policy, errs and errs[1].text)
      local answer = b:check(policy, "{}")
      assert.equal("SEGUE_ETIMEOUT", answer.status)
    end)
  end
end)
