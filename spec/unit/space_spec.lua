-- SPDX-License-Identifier: MIT
-- Key spaces: what keys and values become, what is refused, and how a document follows changes.
-- Histories against a model: space_model_spec.lua.
local C = require "spec.support.c"
local document = require "spec.support.document"
local space = require "spec.support.space"

local s
local function opened(options)
  s = assert(space.open(options))
  return s
end

local function built(options, keys)
  opened(options)
  for i = 1, #keys, 2 do assert.equal(0, (s:put(keys[i], keys[i + 1], "7"))) end
  local doc, err = s:take()
  return doc and s:json(doc), err
end

describe("a key space", function()
  after_each(function()
    if s then s:close() end
    s = nil
  end)

  local trees = {
    { "is empty without keys", { prefix = "/ads/" }, {}, "{}" },
    { "has a path for each key", { prefix = "/ads/" }, { "/ads/a/b", "1", "/ads/c", "x" },
      '{"a":{"b":1},"c":"x"}' },
    { "orders its members by name", { prefix = "" }, { "b", "1", "a", "2", "B", "3" },
      '{"B":3,"a":2,"b":1}' },
    { "ignores keys outside of its prefix", { prefix = "app" },
      { "application/x", "1", "app/y", "2", "ap", "3" }, '{"y":2}' },
    { "drops empty parts", { prefix = "/" }, { "//a///b", "1" }, '{"a":{"b":1}}' },
    { "takes dots as text", { prefix = "/" }, { "/../a.b", "1" }, '{"..":{"a.b":1}}' },
    { "ignores folder marks", { prefix = "/" }, { "/a/", "", "/a/b", "1", "/c/", "" },
      '{"a":{"b":1}}' },
    { "has an empty text for an empty value", { prefix = "/" }, { "/a", "" }, '{"a":""}' },
    { "gives types where they lose no character", { prefix = "" },
      { "a", "42", "b", "1.10", "c", "true", "d", "null", "e", "0042", "f", "18446744073709551615",
        "g", "99999999999999999999", "h", "yes" },
      '{"a":42,"b":"1.10","c":true,"d":null,"e":"0042","f":18446744073709551615,'
        .. '"g":"99999999999999999999","h":"yes"}' },
    { "leaves all values as text", { prefix = "", values = "text" }, { "a", "42", "b", "true" },
      '{"a":"42","b":"true"}' },
    { "parses values as YAML", { prefix = "", values = "yaml" },
      { "a", "x: [1, 2]", "b", "3", "c", "null", "d", "- y" },
      '{"a":{"x":[1,2]},"b":3,"c":null,"d":["y"]}' },
    { "parses values as JSON", { prefix = "", values = "json" }, { "a", '{"x":[1]}', "b", '"t"' },
      '{"a":{"x":[1]},"b":"t"}' },
    { "parses values by the end of the key", { prefix = "", suffix = true },
      { "a.yaml", "x: 1", "b.json", "[2]", "c", "x: 1" },
      '{"a.yaml":{"x":1},"b.json":[2],"c":"x: 1"}' },
    { "splits at its separator", { prefix = "app.", separator = "." }, { "app.a.b", "1" },
      '{"a":{"b":1}}' },
    { "is mounted as a whole", { prefix = "/ads/", at = "db.main" }, { "/ads/x", "1" },
      '{"db":{"main":{"x":1}}}' },
    { "has a place for each prefix, the longest first",
      { prefixes = { ["/ads/"] = "ads", ["/ads/eu/"] = "europe.all", ["/x/"] = "" } },
      { "/ads/a", "1", "/ads/eu/a", "2", "/x/b", "3" },
      '{"ads":{"a":1},"b":3,"europe":{"all":{"a":2}}}' },
    { "takes one key as the document", { key = "/ads/config.yaml" },
      { "/ads/config.yaml", "a: {b: 1}", "/ads/other", "1" }, '{"a":{"b":1}}' },
    { "takes one key as a part", { key = "/c.json", at = "part" }, { "/c.json", '{"a":1}' },
      '{"part":{"a":1}}' },
    { "keeps the value of a folder under value_key", { prefix = "", value_key = "_" },
      { "a", "1", "a/b", "2", "c", "3" }, '{"a":{"_":1,"b":2},"c":3}' },
    { "makes lists where it is told to", { prefix = "", lists = true },
      { "a/1", "y", "a/0", "x", "b/0", "1", "b/2", "2", "c/00", "1" },
      '{"a":["x","y"],"b":{"0":1,"2":2},"c":{"00":1}}' },
    { "makes no lists by itself", { prefix = "" }, { "a/0", "x" }, '{"a":{"0":"x"}}' },
    { "keeps bytes as base64", { prefix = "", binary = "base64" },
      { "a", "\255\0\1", "b", "\0", "c", "ab\0" }, '{"a":"/wAB","b":"AA==","c":"YWIA"}' },
    { "includes by patterns", { prefix = "/", include = { "a/*", "b/**" } },
      { "/a/x", "1", "/a/x/y", "2", "/b/x/y", "3", "/c", "4" }, '{"a":{"x":1},"b":{"x":{"y":3}}}' },
    { "excludes by patterns", { prefix = "/", exclude = { "**/_?", "tmp**" } },
      { "/a/_1", "1", "/a/b", "2", "/tmp/x", "3", "/a/_10", "4" }, '{"a":{"_10":4,"b":2}}' },
    { "tells keys apart that differ in case", { prefix = "" }, { "A", "1", "a", "2" },
      '{"A":1,"a":2}' },
    { "keeps control characters in keys", { prefix = "" }, { "a\n", "1" }, '{"a\\n":1}' },
  }
  for _, case in ipairs(trees) do
    it(case[1], function()
      local json, err = built(case[2], case[3])
      assert.equal(case[4], json, err and err.text)
    end)
  end

  local refused = {
    { "a value that is not UTF-8", {}, { "a", "\255" },
      'a@7: the value is not UTF-8 text: binary = "base64" keeps it as text, and exclude leaves '
        .. "the key out" },
    { "a value with a NUL byte", {}, { "a", "x\0y" }, "a@7: the value is not UTF-8 text" },
    { "a key that is not UTF-8", {}, { "a\255", "1" },
      "a\\xff@7: the key is not UTF-8 text: leave it out with exclude" },
    { "a key with a NUL byte", {}, { "a\0b", "1" }, "the key is not UTF-8 text" },
    { "a key that is value and folder", {}, { "a", "1", "a/b", "2" },
      "a@7: the key has a value, and a/b@7 is below it: name a value_key" },
    { "a folder far above", {}, { "a/b/c/d", "1", "a", "2" },
      "a@7: the key has a value, and a/b/c/d@7 is below it" },
    { "two keys at one place", {}, { "a/b", "1", "a//b", "2" },
      "is at the same place of the tree: delete one of the two keys" },
    { "a key below value_key that has its name", { value_key = "_" },
      { "a", "1", "a/b", "2", "a/_", "3" }, "the value_key of the folder has the same name" },
    { "broken YAML, by its line", { values = "yaml" }, { "a", "x: 1\ny: [" }, "a@7:" },
    { "broken JSON", { values = "json" }, { "a", '{"' }, "a@7:1:" },
    { "an empty document", { values = "json" }, { "a", "" },
      "the value is empty, and no document" },
    { "a document that is no map as the whole", { prefix = false, key = "a" }, { "a", "- 1" },
      "the value of this key is the whole document: it must be a map" },
    { "the prefix as a key", { prefix = "/ads/" }, { "/ads/", "1" },
      "the key is the prefix itself" },
    { "a path of 121 parts", {}, { ("a/"):rep(120) .. "a", "1" }, "more than 120 parts" },
    { "a key of more than 64 KiB", {}, { ("a"):rep(65537), "1" }, "longer than 64 KiB" },
    { "more keys than max_keys", { max_keys = 2 }, { "a", "1", "b", "2", "c", "3" },
      "there are more than 2 keys" },
    { "more bytes than max_bytes", { max_bytes = 100 }, { "a", ("x"):rep(60), "b", ("x"):rep(60) },
      "or 100 bytes: raise max_keys or max_bytes" },
    { "a value above max_bytes", { max_bytes = 100 }, { "a", ("x"):rep(200) }, "max_bytes" },
  }
  for _, case in ipairs(refused) do
    it("refuses " .. case[1], function()
      if case[2].prefix == nil then case[2].prefix = "" end
      if case[2].prefix == false then case[2].prefix = nil end
      local json, err = built(case[2], case[3])
      assert.is_nil(json)
      assert.equal("etcd", err.source)
      assert.truthy(err.text:find(case[4], 1, true), err.text)
    end)
  end

  it("names the first keys that are refused, and counts the others", function()
    opened { prefix = "" }
    for _, key in ipairs { "f", "b", "d", "a", "e", "c" } do s:put(key, "\255", 1) end
    local _, err = s:take()
    assert.truthy(err.text:find("^a@1: the value is not UTF%-8"), err.text)
    assert.truthy(err.text:find("; refused as well: b@1, c@1, d@1 and 2 more", 1, true), err.text)
  end)

  it("shows no value in an error", function()
    for _, values in ipairs { "scalar", "yaml", "json" } do
      opened { prefix = "", values = values }
      s:put("password", "geheim: [hunter2\255", 1)
      local _, err = s:take()
      assert.falsy(err.text:find("hunter2", 1, true), err.text)
      assert.falsy(err.text:find("geheim", 1, true), err.text)
      s:close()
    end
  end)

  it("takes nothing while a key is refused, and all of it afterwards", function()
    opened { prefix = "" }
    s:put("a", "1", 1)
    local first = s:take()
    s:put("b", "2", 2)
    s:put("bad", "\255", 3)
    assert.is_nil((s:take()))
    assert.equal('{"a":1}', s:json(first))
    s:put("c", "3", 4)
    assert.is_nil((s:take()))
    s:delete("bad", 5)
    assert.equal('{"a":1,"b":2,"c":3}', s:json())
  end)

  it("heals a key that was value and folder, from both sides", function()
    opened { prefix = "" }
    s:put("a", "1")
    s:put("a/b", "2")
    assert.is_nil((s:take()))
    s:delete("a/b")
    assert.equal('{"a":1}', s:json())
    s:put("a/b", "2")
    assert.is_nil((s:take()))
    s:delete("a")
    assert.equal('{"a":{"b":2}}', s:json())
    s:delete("a/b")
    assert.equal("{}", s:json())
  end)

  it("moves the value of a key into its folder and out again", function()
    opened { prefix = "", value_key = "_" }
    s:put("a", "1")
    assert.equal('{"a":1}', s:json())
    s:put("a/b", "2")
    assert.equal('{"a":{"_":1,"b":2}}', s:json())
    s:put("a", "3")
    assert.equal('{"a":{"_":3,"b":2}}', s:json())
    s:delete("a")
    assert.equal('{"a":{"b":2}}', s:json())
    s:put("a/_", "4")
    assert.equal('{"a":{"_":4,"b":2}}', s:json())
    s:delete("a/_")
    s:put("a", "5")
    assert.equal('{"a":{"_":5,"b":2}}', s:json())
    s:delete("a")
    s:put("a/_", "6")
    assert.equal('{"a":{"_":6,"b":2}}', s:json())
    s:put("a", "7")
    s:delete("a/_")
    s:delete("a/b")
    assert.equal('{"a":7}', s:json())
  end)

  it("gives the very same document while nothing changes", function()
    opened { prefix = "" }
    s:fill({ a = "1", ["b/c"] = "x" }, 5)
    local first = s:take()
    assert.equal(first, s:take())
    s:fill({ a = "1", ["b/c"] = "x" }, 6)
    assert.equal(first, s:take())
    s:put("a", "1", 9)
    assert.equal(first, s:take())
    s:put("d", "1", 9)
    s:delete("d", 10)
    assert.equal(first, s:take())
    s:delete("a", 11)
    s:put("a", "1", 12)
    assert.equal(first, s:take())
    s:put("a", "2", 13)
    assert.not_equal(first, s:take())
  end)

  it("shares the subtrees that did not change", function()
    opened { prefix = "" }
    s:fill { ["a/x"] = "1", ["b/x"] = "1" }
    local first = s:take()
    s:put("a/x", "2")
    local second = s:take()
    local function child(doc, name) return C.segue_node_get(doc.root, name) end
    assert.equal(child(first, "b").v.members, child(second, "b").v.members)
    assert.not_equal(child(first, "a").v.members, child(second, "a").v.members)
    assert.equal('{"a":{"x":1},"b":{"x":1}}', s:json(first))
    assert.equal('{"a":{"x":2},"b":{"x":1}}', s:json(second))
  end)

  it("knows the key, the revision and the line of each value", function()
    opened { prefix = "/ads/", suffix = true }
    s:put("/ads/max_rps", "5", 4711)
    s:put("/ads/deep.yaml", "# x\na: &x\n  b: 1\nc: *x\n", "0x9")
    local doc = s:take()
    assert.same({ "/ads/deep.yaml@0x9", 3, 0 }, { space.place(doc, '"deep.yaml".c.b') })
    assert.same({ "/ads/max_rps@4711", 0, 0 }, { space.place(doc, "max_rps") })
    assert.same({ "/ads/deep.yaml@0x9", 3, 0 }, { space.place(doc, '"deep.yaml".a.b') })
    s:put("/ads/max_rps", "6", 4712)
    local next_doc = s:take()
    assert.equal("/ads/max_rps@4711", (space.place(doc, "max_rps")))
    assert.equal("/ads/max_rps@4712", (space.place(next_doc, "max_rps")))
  end)

  it("has the hash of a file with the same content", function()
    opened { prefix = "", lists = true, suffix = true }
    local yaml = {}
    for i = 1, 260, 2 do s:put(("m/k%03d"):format(i), "old") end -- patched by what follows
    s:take()
    for i = 201, 260 do s:delete(("m/k%03d"):format(i)) end
    for i = 1, 200 do
      s:put(("m/k%03d"):format(i), tostring(i))
      yaml[i] = ("  k%03d: %d"):format(i, i)
    end
    for i = 0, 99 do s:put("l/" .. i, "v" .. i) end
    s:put("y.yaml", "[1, {a: b}]")
    local text = "m:\n" .. table.concat(yaml, "\n") .. "\nl: ["
    for i = 0, 99 do text = text .. "v" .. i .. ", " end
    local doc = document.parse(text .. ']\ny.yaml: [1, {a: b}]\n')
    assert.equal(space.hash(doc), space.hash(s:take()))
  end)

  it("removes what is below a prefix of the store", function()
    opened { prefix = "/" }
    s:fill { ["/a/x"] = "1", ["/a/y/z"] = "2", ["/ab"] = "3", ["/b"] = "4" }
    s:take()
    s:delete_prefix("/a/")
    assert.equal('{"ab":3,"b":4}', s:json())
    s:delete_prefix("")
    assert.equal("{}", s:json())
    assert.equal(0, s:count())
  end)

  it("takes up what came when the key of commit changes", function()
    opened { prefix = "/", commit = "/_version" }
    s:put("/a", "1", 1)
    local _, err = s:take()
    assert.truthy(err.text:find("the key /_version does not exist", 1, true), err.text)
    s:put("/_version", "1", 2)
    local first = s:take()
    assert.equal('{"a":1}', s:json(first))
    s:put("/a", "2", 3)
    s:put("/b", "2", 4)
    assert.equal(first, s:take())
    s:fill({ ["/a"] = "2", ["/b"] = "3", ["/_version"] = "1" }, 2)
    assert.equal(first, s:take())
    s:put("/_version", "2", 5)
    assert.equal('{"a":2,"b":3}', s:json())
    s:delete("/_version", 6)
    s:put("/a", "9", 7)
    assert.equal('{"a":2,"b":3}', s:json())
  end)

  it("keeps the changes that came while everything was read", function()
    opened { prefix = "" }
    s:fill({ a = "1", b = "1", c = "1" }, 10)
    local read = s:replace()
    read:put("a", "1", 5)
    read:put("b", "1", 6)
    s:put("b", "2", 12)      -- newer than the read
    s:put("a", "old", 4)     -- older than what was read
    s:delete("c", 9)         -- part of the read
    s:put("d", "4", 13)
    s:put("e", "5", 9)       -- gone again when the read came to it
    assert.equal(0, read:done(11))
    assert.equal('{"a":1,"b":2,"d":4}', s:json())
    read = s:replace()
    read:put("a", "2", 20)
    s:put("a", "old", 19)    -- a read without a revision of its own: that of the key counts
    assert.equal(0, read:done())
    assert.equal('{"a":2}', s:json())
  end)

  it("forgets a full read that was not completed", function()
    opened { prefix = "" }
    s:fill({ a = "1" }, 10)
    local first = s:take()
    local read = s:replace()
    read:put("x", "1", 11)
    read:drop()
    assert.equal(first, s:take())
  end)

  it("counts its keys for guards", function()
    opened { prefix = "" }
    s:fill { ["a/b"] = "1", ["a/c"] = "2", ["a/"] = "", d = "3" }
    assert.equal(3, tonumber(s:take().keys.count))
    assert.equal(3, s:count())
  end)

  it("lives in its documents when it is closed", function()
    opened { prefix = "" }
    s:fill { ["a/b"] = "1", ["a/c"] = "2" }
    local first = s:take()
    s:put("a/b", "3")
    local second = s:take()
    C.segue__space_close(s.space)
    assert.equal('{"a":{"b":1,"c":2}}', s:json(first))
    s:drop(first)
    assert.equal('{"a":{"b":3,"c":2}}', s:json(second))
    assert.equal("a/c@", (space.place(second, "a.c") .. "@"))
    s:drop(second)
    s = nil
  end)

  it("limits the values of all documents together, aliases expanded", function()
    opened { prefix = "", values = "yaml" }
    local bomb = "a: &a [1,1,1,1,1,1,1,1,1,1]\n"
    local names = "abcdefg"
    for i = 2, 6 do
      local name, before = names:sub(i, i), names:sub(i - 1, i - 1)
      bomb = bomb .. ("%s: &%s [%s]\n"):format(name, name, ("*" .. before .. ","):rep(10))
    end
    s:put("one", bomb, 1)
    assert.is_table((s:take()) and {})
    s:put("two", bomb, 2)
    s:put("three", bomb, 3)
    s:put("four", bomb, 4)
    local _, err = s:take()
    assert.truthy(err.text:find("more than 4000000 values, aliases expanded", 1, true), err.text)
  end)

  local wrong = {
    { "without a prefix", {}, "a key space needs a prefix, or a key" },
    { "with a prefix twice", { prefix = "/a", prefixes = { ["/a"] = "x" } }, "is here twice" },
    { "with an empty separator", { prefix = "", separator = "" }, "separator must not be empty" },
    { "with a path that is none", { prefix = "", at = "a..b" }, "is no path" },
    { "with an empty pattern", { prefix = "", include = { "" } }, "a pattern must have" },
  }
  for _, case in ipairs(wrong) do
    it("is not opened " .. case[1], function()
      local none, err = space.open(case[2])
      assert.is_nil(none)
      assert.truthy(err.message:find(case[3], 1, true), err.message)
    end)
  end
end)
