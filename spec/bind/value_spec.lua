-- SPDX-License-Identifier: MIT
-- Config values in Lua: they behave as plain tables that cannot be written.
local bind = require "spec.support.bind"
local fresh = require "spec.support.fresh"

local b
fresh(bind.open, function(opened) b = opened end)

local yaml = [[
port: 80
name: web
ratio: 0.5
on: true
none: null
list: [10, 20, null, forty]
map: { b: 1, a: 2, nothing: null }
nested: [{ host: x }, { host: y }]
big: 9223372036854775807
huge: 18446744073709551615
small: -9223372036854775808
exact: 9007199254740992
"odd key": 1
]]

-- Runs statements that assert; a failure is a policy error.
local function holds(name, body, prev)
  it(name, function()
    local answer = b:run(body .. "\nreturn true", yaml, prev)
    assert.is_true(answer.ok, answer.text)
  end)
end

local function fails(name, body, message)
  it(name, function()
    local answer = b:run(body .. "\nreturn true", yaml)
    assert.equal("SEGUE_EPOLICY", answer.status)
    assert.truthy(answer.message:find(message, 1, true), answer.text)
    assert.equal(3, answer.line)
  end)
end

describe("a config value", function()
  holds("reads scalars as plain Lua values", [[
    assert(next.port == 80 and next.name == "web" and next.ratio == 0.5 and next.on == true)
    assert(next["odd key"] == 1 and next.absent == nil and next[1] == nil)]])
  holds("says that it is a table", [[
    assert(type(next) == "table" and type(next.list) == "table")
    assert(type(next.port) == "number" and type(nil) == "nil" and type(type) == "function")]])
  holds("counts lists from 1", [[
    assert(#next.list == 4 and next.list[1] == 10 and next.list[4] == "forty")
    assert(next.list[0] == nil and next.list[5] == nil and next.list[1.5] == nil)
    assert(next.list["1"] == nil and next.list.x == nil and #next.map == 0)]])
  holds("is walked by pairs, in the order of the document, without nulls", [[
    local seen = {}
    for key, value in pairs(next.map) do seen[#seen + 1] = key .. value end
    assert(table.concat(seen, " ") == "b1 a2")
    seen = {}
    for i, value in pairs(next.list) do seen[i] = tostring(value) end
    assert(table.concat(seen, " ") == "10 20 null forty")]])
  holds("is walked by ipairs, over a null as well", [[
    local n = 0
    for i, value in ipairs(next.list) do
      n = n + 1
      assert(i == n and value == (n == 3 and segue.null or next.list[n]))
    end
    assert(n == 4)
    for _ in ipairs(next.map) do error("a map has no items") end]])
  holds("works with next, select, unpack and rawget", [[
    local key, value = _G.next(next.map)
    assert(key == "b" and value == 1 and _G.next(next.map, "a") == nil)
    assert(select("#", unpack(next.list)) == 4 and (unpack(next.list, 2)) == 20)
    assert(select("#", unpack(next.list, 3, 2)) == 0)
    assert(rawget(next, "port") == 80 and rawget(next.list, 2) == 20)
    assert(rawequal(next.map, next.map))]])
  holds("works with table.concat, getn, maxn, foreach and move", [[
    assert(table.concat(next.list, "-", 1, 2) == "10-20")
    assert(table.getn(next.list) == 4 and table.maxn(next.list) == 4)
    local seen = {}
    table.foreach(next.map, function(k, v) seen[k] = v end)
    assert(seen.a == 2 and seen.b == 1)
    assert(table.foreachi(next.list, function(i) if i == 2 then return "two" end end) == "two")
    local to = table.move(next.list, 1, 2, 3, { 1, 2 })
    assert(#to == 4 and to[3] == 10 and to[4] == 20)]])
  holds("has no metatable to be seen", "assert(getmetatable(next) == nil)")
  holds("is itself each time it is read", [[
    assert(next.map == next.map and rawequal(next.nested[1], next.nested[1]))
    local t = {}
    t[next.map] = 1
    assert(t[next.map] == 1)]])
  holds("is equal by value", [[
    assert(next.map == prev.map and not rawequal(next.map, prev.map))
    assert(next ~= prev and next.list ~= prev.list and next.map ~= next.list)]],
    "map: { a: 2, nothing: null, b: 1 }\nlist: []")
  holds("is compared with tables by segue.equal", [[
    assert(segue.equal(next.map, { a = 2, b = 1 }) and segue.equal({ b = 1, a = 2 }, next.map))
    assert(not segue.equal(next.map, { a = 2 }) and not segue.equal(next.map, { a = 2, b = 2 }))
    assert(segue.equal(next.nested, { { host = "x" }, { host = "y" } }))]])
  holds("tells where it was written", [[
    assert(segue.where(next, "port") == "config.yaml:1:7")
    assert(segue.where(next.nested[2]) == "config.yaml:8:23")
    assert(segue.where(next, "nested[1].host") == "config.yaml:8:31")
    assert(segue.where(next, "none") == "config.yaml:5:7")
    assert(segue.where(next, "absent") == nil)
    assert(segue.where(next.list, 2) == "config.yaml:6:12")]])
  holds("prints as what it is", [[
    assert(tostring(next.map) == "config map of 3 (config.yaml:7:6)")]])
  holds("is copied into an ordinary table, all the way down", [[
    local copy = segue.copy(next)
    copy.port, copy.nested[1].host, copy.list[5] = 81, "z", true
    assert(next.port == 80 and next.nested[1].host == "x" and #next.list == 4)
    table.sort(copy.nested, function(x, y) return x.host < y.host end)
    table.insert(copy.nested, 1)
    assert(copy.none == nil and copy.list[3] == segue.null and copy.big == next.big)
    assert(getmetatable(copy) == nil and #copy.nested == 3)]])
  holds("reads null as nil in a map and as segue.null in a list", [[
    assert(next.none == nil and next.map.nothing == nil and next.list[3] == segue.null)
    assert(tostring(segue.null) == "null")]])

  fails("cannot be written", "next.port = 81", "config values cannot be changed: use segue.copy(v)")
  fails("cannot be written by rawset", "rawset(next, 'port', 81)", "cannot be changed")
  fails("cannot be sorted", "table.sort(next.list)", "cannot be changed")
  fails("cannot be inserted into", "table.insert(next.list, 1)", "cannot be changed")
  fails("cannot lose items", "table.remove(next.list)", "cannot be changed")
  fails("cannot be moved into", "table.move({ 1 }, 1, 1, 1, next.list)", "cannot be changed")
  fails("cannot get a metatable", "setmetatable(next, {})", "cannot be changed")
  fails("is not walked past its end", "_G.next(next.map, 'zzz')", "invalid key to 'next'")
  fails("does not concatenate what is no text", "table.concat(next.nested)",
    "invalid value (userdata) at index 1")

  it("stays valid after its snapshot has been replaced and released", function()
    local p = assert(b:load [[local segue = require "segue"
      local kept
      return { sources = { segue.value {} }, check = function(next)
        if kept then assert(kept.host == "old" and kept.list[2] == 2) else kept = next.deep end
        return true
      end }]])
    assert.is_true(b:check(p, "deep: { host: old, list: [1, 2] }").ok)
    b:drop_snapshots()
    local answer = b:check(p, "deep: { host: new }")
    assert.is_true(answer.ok, answer.text)
  end)

  it("releases its snapshot, whether the collector or the end of the state comes first", function()
    local p = assert(b:load [[local segue = require "segue"
      return { sources = { segue.value {} }, check = function(next)
        segue.state.n = (segue.state.n or 0) + 1
        for i = 1, 2000 do local x = { next.deep, next.deep.list } end
        return true
      end }]])
    for _ = 1, 5 do assert.is_true(b:check(p, "deep: { list: [1, 2] }").ok) end
    b:unload(p) -- close counts what is left
  end)
end)

describe("an integer beyond 2^53", function()
  holds("is exact", [[
    assert(tostring(next.big) == "9223372036854775807")
    assert(tostring(next.huge) == "18446744073709551615")
    assert(tostring(next.small) == "-9223372036854775808")
    assert(next.exact == 9007199254740992 and type(next.exact) == "number")]])
  holds("calculates exactly, and is a number again where that is exact", [[
    assert(tostring(next.big - 1) == "9223372036854775806" and next.big - next.big == 0)
    assert(tostring(next.big + next.big) == "18446744073709551614")
    assert(type(next.big % 1000) == "number" and next.big % 1000 == 807)
    assert(next.small % 10 == 2 and -next.big == next.small + 1)
    assert(tostring(next.exact * segue.int(3)) == "27021597764222976")
    assert(next.big / 2 == 2^62 and next.big + 0.5 == 2^63 and next.big * 0.5 == 2^62)]])
  holds("is compared with another of the same type", [[
    assert(next.big < next.huge and next.small < next.big and next.big <= next.big)
    assert(next.big > segue.int(5) and segue.int("9223372036854775807") == next.big)
    assert(next.big ~= 5)]])
  holds("becomes text", [[
    assert("n=" .. next.big == "n=9223372036854775807")
    assert(table.concat({ tostring(next.big) }, "") == "9223372036854775807")]])
  fails("refuses what does not fit", "local x = next.huge + 1", "does not fit into 64 bits")
  fails("refuses a product that does not fit", "local x = next.huge * next.huge",
    "does not fit into 64 bits")
  fails("refuses division by zero", "local x = next.big % 0", "'n%%0'")
  fails("is made of whole numbers only", "segue.int(1.5)", "whole number")
  fails("is not made of any text", "segue.int('12x')", "whole number")

  it("is exact in a concatenated list", function()
    local answer = b:run([[assert(table.concat(next.l, ",") == "9223372036854775807,1")
      return true]], "l: [9223372036854775807, 1]")
    assert.is_true(answer.ok, answer.text)
  end)
end)

describe("segue.validate", function()
  local config = [[
listen: 127.0.0.1
port: 99999
mode: fats
servers:
  - { name: a, port: 1 }
  - { name: b, port: x }
  - { name: a }
empty: null
weights: { x: 1.5, y: -1 }
id: 18446744073709551615
]]
  local function found(body)
    local answer = b:run(("local v = segue.validate(next)\n%s\nreturn v:result()"):format(body),
      config)
    assert.equal("SEGUE_EVETO", answer.status, answer.text)
    return b:explain(b.policies[#b.policies])
  end

  it("collects every problem with path and position", function()
    local errs = found [[
      v:required("listen"):required("absent"):required("empty")
      v:integer("port", { min = 1, max = 65535 })
      v:one_of("mode", { "fast", "safe" })
      v:integer("servers[*].port", { min = 1 }):required("servers[*].port")
      v:unique("servers", "name")
      v:number("weights.*", { min = 0 })
      v:pattern("listen", "^%d+%.%d+$", "a host and a port")]]
    local texts = {}
    for i, e in ipairs(errs) do
      texts[i] = ("%s:%d:%d: %s"):format(e.file, e.line, e.column, e.message)
      assert.equal(1, (e.message:find(e.path, 1, true)))
    end
    assert.same({
      "config.yaml:1:1: absent is required",
      "config.yaml:8:8: empty is required, not null",
      "config.yaml:2:7: port must be between 1 and 65535, not 99999",
      "config.yaml:3:7: mode must be one of 'fast', 'safe', not 'fats'",
      "config.yaml:6:22: servers[1].port must be an integer, not a text",
      "config.yaml:7:5: servers[2].port is required",
      "config.yaml:7:13: servers[2].name is the same as in servers[0]: it must be unique",
      "config.yaml:9:23: weights.y must be at least 0, not -1",
      "config.yaml:1:9: listen must be a host and a port, not '127.0.0.1'",
    }, texts)
  end)

  it("accepts a valid value, and does not check keys that are absent", function()
    local answer = b:run([[
      return segue.validate(next):string("listen", { min = 1, max = 20 })
        :list("servers", { min = 3 }):map("weights"):boolean("absent")
        :integer("id", { min = 5 }):unique("servers")
        :check("port", true, "no"):result()]], config)
    assert.is_true(answer.ok, answer.text)
  end)

  it("knows sizes, types and 64-bit limits", function()
    local errs = found [[
      v:string("listen", { max = 3 }):list("servers", { max = 2 }):map("servers"):boolean("port")
      v:integer("id", { max = 5 }):check("port", false, "is no port of ours"):string("port")]]
    local messages = {}
    for i, e in ipairs(errs) do messages[i] = e.message end
    assert.same({ "listen must have at most 3 bytes, not 9",
      "servers must have at most 2 items, not 3", "servers must be a map, not a list",
      "port must be true or false, not an integer",
      "id must be at most 5, not 18446744073709551615", "port is no port of ours",
      "port must be a text, not an integer" }, messages)
  end)

  it("finds equal items that are maps", function()
    local answer = b:run("return segue.validate(next):unique('l'):result()",
      "l: [{ a: 1, b: 2 }, { b: 2, a: 1 }]")
    assert.equal("l[1] is the same as in l[0]: it must be unique", answer.message)
  end)

  it("rejects a wrong use at the line of its caller", function()
    local answer = b:run("segue.validate({})", "{}")
    assert.truthy(answer.message:find("needs a config value", 1, true), answer.text)
    assert.equal(3, answer.line)
  end)
end)

