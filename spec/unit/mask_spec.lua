-- SPDX-License-Identifier: MIT
-- Masks: which values are secrets, by patterns and by schema; writing the rest; secrets in texts.
local C = require "spec.support.c"
local ffi = C.ffi
local document = require "spec.support.document"
local schemas = require "spec.support.schema"

local function mask_of(patterns)
  local list = ffi.new("const char *[?]", #patterns + 1)
  for i, text in ipairs(patterns) do list[i - 1] = text end
  local out, e = C.new("segue__mask *[1]"), C.error()
  local code = C.segue__mask_new(out, list, #patterns, e)
  if code < 0 then return nil, C.err(e) end
  return ffi.gc(out[0], C.segue__mask_unref)
end

local function written(mask, root, path, limit)
  local node = path and C.segue_node_get(root, path) or root
  local buf = C.new("segue__buf")
  C.segue__mask_write(buf, mask, node, path or "", 0, limit or 0)
  local text = C.buf(buf)
  C.segue__buf_deinit(buf)
  return text
end

local text = [[{"db":{"host":"h","password":"hunter2pass","port":5432},
  "users":[{"name":"a","api_key":"key-aaaa"},{"name":"b","api_key":"key-bbbb"}],
  "deep":{"er":{"token":"tttttttt"}},"token":["one-token","two-token"],"odd.key":"x","pin":123456}]]

describe("a mask", function()
  local doc, root
  before_each(function()
    doc = document.good(text, { format = "json" })
    root = document.at(doc, "")
  end)

  local cases = {
    { { "db.password" }, { "db.password" }, { "db", "db.host", "password", "users[0].name" } },
    { { "db" }, { "db", "db.host", "db.password" }, { "users", "dbx" } },
    { { "**.token" }, { "token", "token[0]", "deep.er.token" }, { "deep.er", "tokens" } },
    { { "users[*].*_key" }, { "users[0].api_key", "users[9].x_key" },
      { "users[0].name", "users.a.api_key", "users[0].key" } },
    { { "users[1].api_key" }, { "users[1].api_key" }, { "users[0].api_key" } },
    { { "*.password" }, { "db.password", "x.password" },
      { "password", "a.b.password", "users[0].password" } },
    { { "**" }, { "", "db", "anything[3].at.all" }, {} },
    { { "deep.**.token" }, { "deep.token", "deep.er.token", "deep.a.b.c.token.x" }, { "token" } },
    { { '"odd.key"' }, { '"odd.key"' }, { "odd", "odd.key" } },
    { { '"a*"' }, { '"a*"' }, { "ab" } },
    { { "a", "b.c" }, { "a", "a.x", "b.c" }, { "b", "c" } },
  }
  for _, case in ipairs(cases) do
    it("of " .. table.concat(case[1], " and ") .. " hides what it says, and all below", function()
      local mask = assert(mask_of(case[1]))
      for _, path in ipairs(case[2]) do
        assert.is_true(C.segue__mask_hides(mask, path), path)
      end
      for _, path in ipairs(case[3]) do
        assert.is_false(C.segue__mask_hides(mask, path), path)
      end
    end)
  end

  it("hides malformed paths; without a mask nothing is hidden", function()
    local mask = assert(mask_of { "a" })
    assert.is_true(C.segue__mask_hides(mask, "a..b"))
    assert.is_true(C.segue__mask_hides(mask, "["))
    assert.is_false(C.segue__mask_hides(nil, "a"))
  end)

  it("cuts paths at the topmost secret", function()
    local mask = assert(mask_of { "db", "users[*].keys", '"a b".c' })
    local function cut(path)
      local buf = C.new("segue__buf")
      local secret = C.segue__mask_cut(mask, path, buf)
      local reported = C.buf(buf)
      C.segue__buf_deinit(buf)
      return { reported, secret }
    end
    assert.same({ "db", 1 }, cut "db")
    assert.same({ "db", 1 }, cut "db.x[2].y")
    assert.same({ "users[3].keys", 1 }, cut "users[3].keys.x")
    assert.same({ '"a b".c', 1 }, cut '"a b".c[0]')
    assert.same({ "users[3].key", 0 }, cut "users[3].key")
    assert.same({ "", 0 }, cut "")
    local err = C.error()
    C.segue__errorf(err, C.SEGUE_ESCHEMA, "%s", ffi.cast("const char *",
      'users[3].keys.pin must be 1, and users[3].keys.pin is not'))
    C.segue__error_path(err, "users[3].keys.pin")
    C.segue__mask_error(mask, err)
    assert.equal("users[3].keys must be 1, and users[3].keys is not", C.err(err).message)
    assert.equal("users[3].keys", C.err(err).path)
  end)

  it("reports all changes below one secret in one row", function()
    local mask = assert(mask_of { "db", "new", "gone" })
    local before = document.good('{"db":{"a":1,"b":2,"c":3},"x":1,"gone":{"k":1}}',
      { format = "json" })
    local after = document.good('{"db":{"a":2,"c":4,"d":5},"x":2,"new":{"k":1}}',
      { format = "json" })
    local list = C.new("segue__changes")
    C.check(C.segue__diff(document.at(before, ""), document.at(after, ""), list))
    assert.equal(7, tonumber(list.total))
    C.check(C.segue__mask_changes(mask, list))
    local reported = {}
    for i = 0, tonumber(list.count) - 1 do
      local change = list.items[i]
      reported[#reported + 1] = tonumber(change.op) .. C.str(change.path)
      assert.is_true(change.to ~= nil or change.op == C.SEGUE__REMOVE)
    end
    assert.same({ C.SEGUE__CHANGE .. "db", C.SEGUE__CHANGE .. "x", C.SEGUE__REMOVE .. "gone",
      C.SEGUE__ADD .. "new" }, reported)
    assert.equal(4, tonumber(list.total))
    C.segue__changes_deinit(list)
  end)

  it("shows neither a path nor a value of a secret where memory runs out", function()
    local mask = assert(mask_of { "db", "**.token" })
    local before = document.good('{"db":{"a":"secret-1","b":2},"x":{"token":"secret-2"},"gone":1}',
      { format = "json" })
    local after = document.good('{"db":{"a":"secret-3","c":4},"x":{"token":"secret-4"}}',
      { format = "json" })
    local list = C.new("segue__changes")
    local failed = 0
    local marked = C.new("segue__change")
    local empty = ffi.new("char[1]")
    marked.secret, marked.path = true, empty -- the root's path, which is no secret
    local written_change = C.new("segue__buf")
    C.segue__mask_write_change(written_change, mask, marked, document.at(before, "db"), 0)
    assert.equal('"***"', C.buf(written_change))
    C.segue__buf_deinit(written_change)
    local function side(change, node)
      if node == nil then return "" end
      local buf = C.new("segue__buf")
      C.segue__mask_write_change(buf, mask, change, node, 100)
      local reported = C.buf(buf)
      C.segue__buf_deinit(buf)
      return reported
    end
    for n = 1, 60 do
      C.check(C.segue__diff(document.at(before, ""), document.at(after, ""), list))
      C.segue__mem_fail_at(n)
      local rc = C.segue__mask_changes(mask, list)
      C.segue__mem_fail_at(0)
      for i = 0, tonumber(list.count) - 1 do
        local change = list.items[i]
        local reported = C.str(change.path) .. side(change, change.from) .. side(change, change.to)
        assert.is_nil(reported:find("secret", 1, true), reported)
        assert.is_nil(reported:find("db.", 1, true), reported)
      end
      if rc ~= 0 then assert.equal(0, tonumber(list.count)) end
      C.segue__changes_deinit(list)
      if rc ~= 0 then failed = failed + 1 end
    end
    assert.is_true(failed > 5 and failed < 60, failed .. " failures")
  end)

  it("that fails to look is no depth: a path is not cut to the root", function()
    local mask = assert(mask_of { "db.password" })
    for n = 1, 12 do
      local err, buf = C.error(), C.new("segue__buf")
      C.segue__errorf(err, C.SEGUE_ESCHEMA, "%s", ffi.cast("const char *",
        'db.password."key-of-it" is wrong'))
      C.segue__error_path(err, 'db.password."key-of-it"')
      C.segue__mem_fail_at(n)
      local rc = C.segue__mask_cut(mask, 'db.password."key-of-it"', buf)
      C.segue__mem_fail_at(n)
      C.segue__mask_error(mask, err)
      C.segue__mem_fail_at(0)
      assert.is_true(rc == 1 and C.buf(buf) == "db.password" or rc < 0)
      C.segue__buf_deinit(buf)
      local reported = C.err(err)
      assert.is_nil((reported.path .. reported.message):find("key-of-it", 1, true),
        reported.message)
    end
  end)

  it("writes the other values unchanged", function()
    local mask = assert(mask_of { "db.password", "**.token", "users[*].api_key" })
    assert.equal('{"db":{"host":"h","password":"***","port":5432},"users":[{"name":"a",'
      .. '"api_key":"***"},{"name":"b","api_key":"***"}],"deep":{"er":{"token":"***"}},'
      .. '"token":"***","odd.key":"x","pin":123456}', written(mask, root))
    assert.equal('"***"', written(mask, root, "db.password"))
    assert.equal('"h"', written(mask, root, "db.host"))
    assert.equal('"***"', written(mask, root, "token[1]"))
    assert.equal('{"name":"a","api_key":"***"}', written(mask, root, "users[0]"))
    assert.equal('{"er":{"token":"***"}}', written(mask, root, "deep"))
    assert.equal('"***"', written(assert(mask_of { "**" }), root))
    assert.equal(written(nil, root), written(assert(mask_of { "nowhere.at.all" }), root))
    assert.equal('{"name":"a"', written(mask, root, "users[0]", 5):sub(1, 11))
  end)

  it("joins two masks: it hides the values that either hides", function()
    local out = C.new("segue__mask *[1]")
    local a, b = assert(mask_of { "a" }), assert(mask_of { "b" })
    C.check(C.segue__mask_join(out, a, b, nil))
    for _, path in ipairs { "a", "b" } do
      assert.is_true(C.segue__mask_hides(out[0], path))
    end
    assert.is_false(C.segue__mask_hides(out[0], "c"))
    local more = out[0]
    for i = 1, 8 do -- more than it has room for: then it hides everything
      local next = C.new("segue__mask *[1]")
      C.check(C.segue__mask_join(next, more, assert(mask_of { "x" .. i }), nil))
      C.segue__mask_unref(more)
      more = next[0]
      assert.is_true(C.segue__mask_hides(more, "a"))
      assert.is_true(C.segue__mask_hides(more, "x" .. i))
    end
    assert.is_true(C.segue__mask_hides(more, "c"))
    C.segue__mask_unref(more)
    C.check(C.segue__mask_join(out, nil, nil, nil))
    assert.is_true(out[0] == nil)
  end)

  it("includes values that a schema marks writeOnly, also through references", function()
    local schema = assert(schemas.compile([[{
      "$defs": { "secret": { "type": "string", "writeOnly": true } },
      "properties": {
        "db": { "properties": { "password": { "$ref": "#/$defs/secret" } } },
        "users": { "items": { "anyOf": [ { "properties": {
          "api_key": { "$ref": "#/$defs/secret" } } }, { "type": "null" } ] } },
        "deep": { "additionalProperties": { "writeOnly": true } } } }]]))
    local out = C.new("segue__mask *[1]")
    C.check(C.segue__mask_join(out, assert(mask_of { "pin" }), nil, schema))
    local mask = ffi.gc(out[0], C.segue__mask_unref)
    assert.equal('{"db":{"host":"h","password":"***","port":5432},"users":[{"name":"a",'
      .. '"api_key":"***"},{"name":"b","api_key":"***"}],"deep":{"er":"***"},'
      .. '"token":["one-token","two-token"],"odd.key":"x","pin":"***"}', written(mask, root))
    assert.equal('"key-bbbb"', written(nil, root, "users[1].api_key"))
    assert.equal('"***"', written(mask, root, "users[1].api_key"))
    assert.equal('"***"', written(mask, root, "deep.er.token"))
    assert.is_true(C.segue__mask_hides(mask, "deep.er.token"))
    assert.is_false(C.segue__mask_hides(mask, "users[1].name"))
  end)

  it("reports the mistake in a pattern", function()
    for _, bad in ipairs { "", ".", "a.", ".a", "a..b", "a[", "a[x]", "a[*", "a b", '"a', "[0]b",
      ("a."):rep(60) .. "a", "a[9999999999]" } do
      local mask, e = mask_of { "good", bad }
      assert.is_nil(mask, bad)
      assert.equal("SEGUE_EPOLICY", e.name)
      assert.matches("is no pattern", e.message)
    end
    local many = {}
    for i = 1, 65 do many[i] = "a" .. i end
    assert.matches("at most 64", select(2, mask_of(many)).message)
  end)

  it("can be searched after memory ran out while it learned the values", function()
    local one = document.good('{"db":["a-secret-of-many-bytes"]}', { format = "json" })
    local failed = 0
    for n = 1, 12 do
      local mask = assert(mask_of { "db" })
      C.segue__mem_fail_at(n)
      local rc = C.segue__mask_learn(mask, document.at(one, ""))
      C.segue__mem_fail_at(0)
      if rc < 0 then failed = failed + 1 end
      for i = 0, tonumber(mask.words.count) - 1 do
        local word = mask.words.items[i]
        assert.is_true(word.at + word.len <= mask.words.text.len, "n = " .. n)
      end
      local line = "it is a-secret-of-many-bytes"
      local buf = ffi.new("char[?]", #line + 1, line)
      assert.equal(rc == 0 or tonumber(mask.words.count) > 0, C.segue__mask_scrub(mask, buf, false))
    end
    assert.is_true(failed > 1)
  end)

  describe("that has learned the values", function()
    local mask
    before_each(function()
      mask = assert(mask_of { "db", "**.token", "pin" })
      C.check(C.segue__mask_learn(mask, root))
    end)

    local function scrub(s)
      local buf = ffi.new("char[?]", #s + 1, s)
      local found = C.segue__mask_scrub(mask, buf, false)
      return ffi.string(buf), found
    end

    it("removes them from sentences, wherever and however often they occur", function()
      assert.same({ "no *** here, '***'***", true },
        { scrub "no hunter2pass here, 'hunter2pass'hunter2pass" })
      assert.same({ "pin *** and port ***", true }, { scrub "pin 123456 and port 5432" })
      assert.same({ "***/***/***", true }, { scrub "one-token/two-token/tttttttt" })
      assert.same({ "***", true }, { scrub "hunter2pass" })
      assert.same({ "nothing at all, no hunters either", false },
        { scrub "nothing at all, no hunters either" })
      assert.same({ "", false }, { scrub "" })
    end)

    it("knows the same as another one that learned the same values", function()
      local other = assert(mask_of { "db", "**.token", "pin" })
      assert.is_false(C.segue__mask_knows_same(mask, other))
      C.check(C.segue__mask_learn(other, root))
      assert.is_true(C.segue__mask_knows_same(mask, other))
      local less = assert(mask_of { "db", "pin" })
      C.check(C.segue__mask_learn(less, root))
      assert.is_false(C.segue__mask_knows_same(mask, less))
      assert.is_false(C.segue__mask_knows_same(mask, nil))
    end)

    it("takes out the beginning of a long one that was cut", function()
      assert.same({ "got '***...'", true }, { scrub "got 'hunter2p...'" })
      assert.same({ "got '***...'", true }, { scrub "got 'hunter2...'" })
      assert.same({ "got 'hun...'", false }, { scrub "got 'hun...'" })
    end)

    it("removes the beginning of one at the end of a full message, however short it is",
      function()
        for rest = 0, 11 do
          local err = C.error()
          local long = ("."):rep(511 - rest) .. "hunter2pass"
          C.segue__errorf(err, C.SEGUE_ESCHEMA, "%s", ffi.cast("const char *", long))
          C.segue__mask_error(mask, err)
          local reported = C.err(err).message
          assert.equal(("."):rep(511 - rest) .. (rest > 3 and "***" or ""), reported)
        end
      end)

    it("finds one as JSON or %q writes it, and each line of a long one", function()
      local doc2 = document.good("db:\n  password: 'pa\"ss\\word'\n"
        .. "  key: |\n    -----BEGIN\n    MIIEvQIBADAN\n")
      mask = assert(mask_of { "db" })
      C.check(C.segue__mask_learn(mask, document.at(doc2, "")))
      assert.same({ "no ***", true }, { scrub('no pa"ss\\word') })
      assert.same({ 'no "***"', true }, { scrub(("no %q"):format('pa"ss\\word')) })
      assert.same({ "line 2: ***!", true }, { scrub "line 2: MIIEvQIBADAN!" })
    end)

    it("finds each of very many", function()
      local members = {}
      for i = 1, 20000 do members[i] = ('"k%d":"sk-live-%06d"'):format(i, i * 37) end
      local many = document.good('{"db":{' .. table.concat(members, ",") .. "}}",
        { format = "json" })
      mask = assert(mask_of { "db" })
      C.check(C.segue__mask_learn(mask, document.at(many, "")))
      for i = 1, 20000, 777 do
        assert.same({ "no *** here", true }, { scrub(("no sk-live-%06d here"):format(i * 37)) })
      end
    end)

    it("keeps short ones, which would be found everywhere", function()
      assert.same({ "the host is h", false }, { scrub "the host is h" })
    end)
  end)

  it("survives each allocation that fails: it hides, or reports that", function()
    local mask = assert(mask_of { "db.password", "**.token" })
    for n = 1, 20 do
      C.segue__mem_fail_at(n)
      local hidden = C.segue__mask_hides(mask, "db.password")
      C.segue__mem_fail_at(0)
      assert.is_true(hidden)
      C.segue__mem_fail_at(n)
      local buf = C.new("segue__buf")
      C.segue__mask_write(buf, mask, root, "", 0, 0)
      C.segue__mem_fail_at(0)
      for _, secret in ipairs { "hunter2", "tttt", "one-token" } do
        assert.is_nil(C.buf(buf):find(secret, 1, true))
      end
      C.segue__buf_deinit(buf)
      C.segue__mem_fail_at(n)
      local other, e = mask_of { "a.b", '"c"' }
      C.segue__mem_fail_at(0)
      assert.is_true(other ~= nil or e ~= nil)
    end
  end)
end)
