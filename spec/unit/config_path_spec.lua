-- SPDX-License-Identifier: MIT
-- Paths: listen[0].port, a."odd key".b.
local C = require "spec.support.c"
local document = require "spec.support.document"

local doc

-- Both ways to look up must agree; nil if there is nothing, the error's text if it is malformed.
local function get(text)
  local path, err = C.new("segue__path[1]"), C.error()
  local direct = C.segue_node_get(doc.root, text)
  if C.segue__path_parse(path, text, err) < 0 then
    assert.is_true(direct == nil)
    assert.equal("SEGUE_EPATH", C.err(err).name)
    return nil, C.text(err)
  end
  local found = C.segue__path_find(path, doc.root)
  C.segue__path_deinit(path)
  assert.equal(found, direct)
  return found ~= nil and document.json(found) or nil
end

local function add(steps)
  local buf = C.new("segue__buf[1]")
  for _, step in ipairs(steps) do
    if type(step) == "number" then
      C.segue__path_add_index(buf, step)
    else
      C.segue__path_add_key(buf, step, #step)
    end
  end
  local text = C.buf(buf[0])
  C.segue__buf_deinit(buf)
  return text
end

describe("a path", function()
  setup(function()
    doc = document.good([==[
listen: [{port: 1}, [2, 3]]
"odd key": {b: 4, '"\': 5}
é: {日本: 6}
a/b:c-d_e9: 7
"": {"": 8}
"0": 9
]==])
  end)

  it("finds values by key and index", function()
    assert.equal("1", (get "listen[0].port"))
    assert.equal("3", (get "listen[1][1]"))
    assert.equal("4", (get '"odd key".b'))
    assert.equal("4", (get '"odd key"."b"'))
    assert.equal("5", (get [["odd key"."\"\\"]]))
    assert.equal("6", (get "é.日本"))
    assert.equal("7", (get "a/b:c-d_e9"))
    assert.equal("8", (get '"".""'))
    assert.equal("9", (get "0"))
    assert.equal(document.json(doc.root), (get ""))
  end)

  it("finds no value where none is", function()
    for _, text in ipairs { "nothing", "listen.port", "listen[2]", "listen[0].port.x", "[0]",
      "listen[0][0]", "listen[18446744073709551615]", '"odd key".x' } do
      local value, err = get(text)
      assert.is_nil(value)
      assert.is_nil(err)
    end
  end)

  it("is refused where it is malformed, with the byte", function()
    local quote = ": quote keys that have other characters"
    for text, message in pairs {
      ["a b"] = "byte 2: '.' or '[' is expected" .. quote,
      ["a..b"] = "byte 2: a key is expected" .. quote,
      [".a"] = "byte 1: a key is expected" .. quote,
      ["a."] = "byte 2: a key is expected" .. quote,
      ["a[x]"] = "byte 2: an index is written [0]",
      ["a[]"] = "byte 2: an index is written [0]",
      ["a[1"] = "byte 2: an index is written [0]",
      ["a[-1]"] = "byte 2: an index is written [0]",
      ["a[99999999999999999999]"] = "byte 2: the index is too large",
      ['a."b'] = "byte 2: the quoted key is not closed",
      ['"a\\'] = [[byte 1: only \" and \\ are escapes in a quoted key]],
      ['"a\\n"'] = [[byte 1: only \" and \\ are escapes in a quoted key]],
      ['"a"b'] = "byte 4: '.' or '[' is expected" .. quote,
      ["$.a"] = "byte 1: a key is expected" .. quote,
    } do
      local value, err = get(text)
      assert.is_nil(value)
      assert.equal(("path '%s' is wrong at %s"):format(text, message), err)
    end
  end)

  it("is malformed also behind a key that does not exist", function()
    assert.is_truthy(select(2, get("nothing[x]")))
  end)

  it("is written with quotes where they are needed", function()
    assert.equal("listen[0].port", add { "listen", 0, "port" })
    assert.equal([["odd key"."\"\\"]], add { "odd key", '"\\' })
    assert.equal('é.a/b:c-d_e9."a.b"', add { "é", "a/b:c-d_e9", "a.b" })
    assert.equal('""."".x', add { "", "", "x" })
    assert.equal("[3][4]", add { 3, 4 })
    assert.equal("", add {})
  end)
end)
