-- SPDX-License-Identifier: MIT
-- segue.keys in Lua: options, changes, full reads and answers of servers, and what a source that
-- delivers a key space makes live.
local bind = require "spec.support.bind"
local fresh = require "spec.support.fresh"

local b
fresh(bind.open, function(opened) b = opened end)

local function value(path) return b:value(path) end

-- A source with a key space; more: the bodies of fetch and watch, in which `space` is one.
local function start(options, fetch, watch)
  b:write("reload.lua", ([[local segue = require "segue"
local space = segue.keys { %s }
return { triggers = {}, debounce = { min = 0 }, sources = { segue.source { name = "kv",
  fetch = function(self) %s end,
  watch = %s, retry = { min = "1s", max = "1s" } } } }]]):format(options, fetch,
    watch and ("function(self, emit) %s end"):format(watch) or "nil"))
  b:engine()
  return b:reload()
end

local fill = [[local all = space:replace()
  all:put("/a/x", "1", 5) all:put("/a/y", "2", 6) all:put("/b", "3", 7)
  assert(all:done(7))
  return space, 7]]

local function outcome_text(r) return r.errors[1] and r.errors[1].text end

describe("a source that delivers a key space", function()
  it("makes its keys live", function()
    local r = start('prefix = "/"', fill)
    assert.equal("applied", r.outcome, outcome_text(r))
    assert.equal("1", value "a.x")
    assert.equal("3", value "b")
    assert.equal("7", b:source_status("kv").revision)
  end)

  it("is unchanged when a full read finds the same", function()
    start('prefix = "/"', fill)
    assert.equal("unchanged", b:reload().outcome)
  end)

  it("pushes a change of one key", function()
    start('prefix = "/"', fill, [[segue.sleep "1s"
      space:put("/a/x", "9", 8) space:delete("/b", 9) emit(space, 9)
      segue.sleep "1h"]])
    b:advance(2000)
    assert.equal("9", value "a.x")
    assert.equal("2", value "a.y")
    assert.is_nil(value "b")
    assert.equal("9", b:source_status("kv").revision)
  end)

  it("is rejected, and names the key, while one is refused", function()
    local r = start('prefix = "/", values = "yaml"', [[local all = space:replace()
      all:put("/good", "1", 1) all:put("/bad", "x: [", 2) all:done() return space, 2]])
    assert.equal("rejected", r.outcome)
    local text = outcome_text(r)
    assert.truthy(text:find("/bad@2", 1, true), text)
    assert.falsy(text:find("x: [", 1, true), text)
  end)

  it("stays live while a push is refused, and continues afterwards", function()
    start('prefix = "/"', fill, [[segue.sleep "1s"
      space:put("/b", "\255", 8) emit(space, 8)
      segue.sleep "2s"
      space:put("/a/x", "4", 9) emit(space, 9)
      segue.sleep "2s"
      space:put("/b", "5", 10) emit(space, 10)
      segue.sleep "1h"]])
    b:advance(1500)
    assert.equal("3", value "b")
    b:advance(2000)
    assert.equal("1", value "a.x")
    b:advance(2000)
    assert.equal("5", value "b")
    assert.equal("4", value "a.x")
  end)

  it("names the key and its revision where a value breaks the schema", function()
    b:write("limits.json", '{"properties":{"a":{"properties":{"x":{"maximum":0}}}}}')
    b:write("reload.lua", ([[local segue = require "segue"
local space = segue.keys { prefix = "/" }
return { triggers = {}, schema = "limits.json", sources = { segue.source { name = "kv",
  fetch = function(self) %s end } } }]]):format(fill))
    b:engine()
    local r = b:reload()
    assert.equal("rejected", r.outcome)
    local text = outcome_text(r)
    assert.truthy(text:find("^/a/x@5: x must be at most 0, not 1"), text)
  end)

  it("must be read before it is delivered", function()
    local r = start('prefix = "/"', 'space:put("/a", "1") return space')
    assert.equal("failed", r.outcome)
    local text = outcome_text(r)
    assert.truthy(text:find("a key space of which nothing was read", 1, true), text)
  end)

  it("waits for the key of commit", function()
    start('prefix = "/", commit = "/_v"', [[local all = space:replace()
      all:put("/a", "1") all:put("/_v", "1") all:done() return space]], [[segue.sleep "1s"
      space:put("/a", "2") emit(space)
      segue.sleep "1s"
      space:put("/_v", "2") emit(space)
      segue.sleep "1h"]])
    b:advance(1500)
    assert.equal("1", value "a")
    b:advance(1000)
    assert.equal("2", value "a")
  end)

  it("reads many keys on a worker", function()
    local r = start('prefix = "/"', [[local all, parts = space:replace(), {}
      for i = 1, 2000 do
        parts[i] = ('{"key":"%s","value":"%s","mod_revision":"%d"}')
          :format(segue.base64.encode("/n/k" .. i), segue.base64.encode("v" .. i), i)
      end
      local got = assert(all:read('{"header":{"revision":"77"},"more":true,"count":"2000","kvs":['
        .. table.concat(parts, ",") .. "]}", { list = "kvs", key = "key", value = "value",
        revision = "mod_revision", base64 = { "key", "value" },
        get = { revision = "header.revision", more = "more" } }))
      if got.count ~= 2000 or got.last_key ~= "/n/k2000" or got.more ~= true
        or got.revision ~= "77" then error "the answer is wrong" end
      assert(all:done(got.revision))
      return space, got.revision]])
    assert.equal("applied", r.outcome, outcome_text(r))
    assert.equal('"v2000"', value "n.k2000")
    assert.equal("77", b:source_status("kv").revision)
  end)
end)

describe("a key space that a worker fills", function()
  it("keeps the changes that come meanwhile", function()
    local r = start('prefix = "/"', [[local all = space:replace()
      for i = 1, 2000 do all:put("/n/k" .. i, tostring(i), i) end
      local late = segue.spawn(function()
        space:put("/late", "1", 3000) space:delete("/n/k2", 3001)
      end)
      assert(all:done(2000))
      late:wait()
      return space, 3001]])
    assert.equal("applied", r.outcome, outcome_text(r))
    assert.equal("1", value "late")
    assert.is_nil(value "n.k2")
    assert.equal("3", value "n.k3")
  end)

  it("is freed when its policy goes while it is filled", function()
    start('prefix = "/"', fill, [[segue.sleep "1s"
      local all = space:replace()
      for i = 1, 2000 do all:put("/n/k" .. i, tostring(i), i) end
      all:done(2000) emit(space, 8) segue.sleep "1h"]])
    b:advance(1000)
    b:write("reload.lua", [[local segue = require "segue"
      return { triggers = {}, sources = { segue.value { z = 1 } } }]])
    assert.equal("applied", b:reload().outcome)
    assert.is_nil(value "a.x")
  end)
end)

-- ---- The functions ------------------------------------------------------------------------------

local prelude = [[
local function same(got, wanted)
  if got ~= wanted then
    error(("got %s, not %s"):format(tostring(got), tostring(wanted)), 2)
  end
end
]]

local function holds(name, body)
  it(name, function()
    local answer = b:run(prelude .. body .. "\nreturn true", "{}")
    assert.is_true(answer.ok, answer.text)
  end)
end

local function throws(name, body, message)
  it(name, function()
    local answer = b:run(prelude .. body, "{}")
    assert.equal("SEGUE_EPOLICY", answer.status)
    assert.truthy(answer.message:find(message, 1, true), answer.text)
  end)
end

describe("segue.keys", function()
  holds("counts keys and bytes", [[
    local s = segue.keys { prefix = "/" }
    same(s:ready(), false)
    s:put("/a", "123") s:put("/b", "4")
    local keys, bytes = s:count()
    same(keys, 2) same(bytes, 8)
    s:delete "/a"
    same((s:count()), 1)
    s:delete_prefix "/"
    same((s:count()), 0)
    same(s:replace():done(), true)
    same(s:ready(), true)]])

  holds("takes revisions as texts and numbers", [[
    local s = segue.keys { prefix = "/" }
    s:put("/a", "1", 5) s:put("/a", "1", "0x5") s:put("/a", "1", segue.int "9007199254740993")]])

  holds("reads changes with removals, as etcd writes them", [[
    local s = segue.keys { prefix = "/" }
    s:put("/gone", "1")
    local got = assert(s:read(segue.json.encode { result = { events = {
      { kv = { key = segue.base64.encode "/a", value = segue.base64.encode "1",
        mod_revision = "7" } },
      { type = "DELETE", kv = { key = segue.base64.encode "/gone", mod_revision = "8" } },
      { kv = { key = segue.base64.encode "/empty", mod_revision = "8" } } } } },
      { list = "result.events", key = "kv.key", value = "kv.value", revision = "kv.mod_revision",
        base64 = { "key", "value" }, removed = "type", removed_is = "DELETE" }))
    same(got.count, 3) same(got.last_key, "/empty")
    same((s:count()), 2)]])

  holds("reads Consul's list", [[
    local s = segue.keys { prefix = "app/" }
    local got = assert(s:read('[{"Key":"app/a","Value":"MQ==","ModifyIndex":9},'
      .. '{"Key":"app/d/","Value":null,"ModifyIndex":10}]',
      { key = "Key", value = "Value", revision = "ModifyIndex", base64 = { "value" } }))
    same(got.count, 2) same((s:count()), 1)]])

  holds("reads the maps of Kubernetes, and forgets what one no longer has", [[
    local s = segue.keys { prefix = "" }
    local how = { list = "items", map = "data", within = "metadata.name",
      revision = "metadata.resourceVersion" }
    assert(s:read('{"items":[{"metadata":{"name":"one","resourceVersion":"5"},'
      .. '"data":{"a.yaml":"x: 1","b":"2"}},{"metadata":{"name":"two"},"data":{"c":"3"}}]}', how))
    same((s:count()), 3)
    how = { map = "data", within = "metadata.name" }
    assert(s:read('{"metadata":{"name":"one"},"data":{"b":"9"}}', how))
    same((s:count()), 2)]])

  holds("returns why an answer is none", [[
    local s = segue.keys { prefix = "" }
    local how = { list = "kvs", key = "key", value = "value", base64 = { "value" } }
    local none, message, code = s:read("<html>", how)
    same(none, nil) same(code, "SEGUE_ESYNTAX")
    local _, other = s:read('{"kvs":[{"value":""}]}', how)
    same(other, 'record 1 of the answer has no key at "key"')
    local _, third = s:read('{"kvs":[{"key":"a","value":"?"}]}', how)
    same(third, "value 1 of the answer is no base64")
    local _, fourth = s:read('{"kvs":3}', how)
    same(fourth, 'the answer has no list at "kvs"')]])

  holds("reads an answer without its list as empty", [[
    local s = segue.keys { prefix = "" }
    same(s:read('{"header":{}}', { list = "kvs", key = "key" }).count, 0)]])

  throws("needs to know which keys count", "segue.keys {}", "which keys count?")
  throws("knows its options", 'segue.keys { prefix = "", seperator = "." }', "separator")
  throws("needs a format", [[segue.keys { prefix = "" }:read("{}")]], "needs the format")
  throws("needs the place of the key", [[segue.keys { prefix = "" }:read("{}", {})]],
    "where is the key of a record?")
  throws("needs keys that are texts", [[segue.keys { prefix = "" }:put({}, "1")]],
    "the key must be a text, not a table")
  throws("needs values that are texts", [[segue.keys { prefix = "" }:put("a", 1)]],
    "the value must be a text, not a number")
  throws("refuses a path that is none", 'segue.keys { prefix = "", at = "a." }', "is no path")
  throws("ends a read once", [[local r = segue.keys { prefix = "" }:replace()
    r:done() r:done()]], "this read has ended")
end)
