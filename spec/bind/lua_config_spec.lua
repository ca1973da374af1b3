-- SPDX-License-Identifier: MIT
-- segue.lua_file: configuration written in Lua, from the file to the tree.
local bind = require "spec.support.bind"
local fresh = require "spec.support.fresh"

local b
local open = fresh(bind.open, function(opened) b = opened end, { slice_ms = 60000 })

-- The first reload of a policy that reads this text, and runs the assertions of `check`.
local function start(text, check, options)
  b:write("conf.lua", text)
  b:write("reload.lua", ([[local segue = require "segue"
    return { sources = { segue.lua_file("conf.lua"%s) }, check = function(next)
      %s
      return true
    end }]]):format(options or "", check or ""))
  b:engine()
  return b:reload()
end
local function refused(text)
  local result = start(text)
  assert.equal("rejected", result.outcome)
  return result.errors[1]
end

describe("segue.lua_file", function()
  it("takes the table that the file returns", function()
    local result = start([[
      local base = 8000
      local hosts = {}
      for i = 1, 3 do hosts[i] = ("host-%02d"):format(i) end
      return { port = base + 80, ratio = 0.5, on = true, off = false, name = "a" .. "b",
        hosts = hosts, nested = { list = { 1, { x = {} } } }, big = 2^53, huge = 1e300,
        sorted = table.concat({ "b", "a" }, "+"), max = math.max(1, 7), band = bit.band(7, 5) }
    ]], [[
      assert(next.port == 8080 and next.ratio == 0.5 and next.on == true and next.off == false)
      assert(next.name == "ab" and #next.hosts == 3 and next.hosts[3] == "host-03")
      assert(next.nested.list[1] == 1 and type(next.nested.list[2].x) == "table")
      assert(next.big == 2^53 and next.huge == 1e300 and next.sorted == "b+a")
      assert(next.max == 7 and next.band == 5)]])
    assert.equal("applied", result.outcome)
  end)

  it("knows the line of a value that is assigned in one place", function()
    local result = start('-- port = 1\nlocal x = 1\nreturn {\n  port = 80,\n  ["the-key"] = 1,\n'
      .. '  server = {\n    host = "x",\n    [1 .. ""] = 2 },\n  x = 3,\n}\n', [[
      assert(segue.where(next, "port") == "conf.lua:4:0", segue.where(next, "port"))
      assert(segue.where(next, "the-key") == "conf.lua:5:0")
      assert(segue.where(next, "server.host") == "conf.lua:7:0")
      assert(segue.where(next.server, "1") == "conf.lua:6:0")
      assert(segue.where(next, "x") == "conf.lua:9:0")]])
    assert.equal("applied", result.outcome, result.errors[1] and result.errors[1].text)
  end)

  it("knows the line of equal keys in different tables, and of a key that one list item has",
    function()
      local result = start('local function service(port)\n  return {\n    port = port }\nend\n'
        .. 'return {\n  a = {\n    name = 1 },\n  b = {\n    name = 2 },\n  list = {\n'
        .. '    { name = 3,\n      only = 4 },\n    { name = 5 },\n  },\n'
        .. '  made = service(7),\n}\n', [[
        local function is_at(path, line)
          local where = segue.where(next, path)
          assert(where == "conf.lua:" .. line .. ":0", path .. " is at " .. tostring(where))
        end
        is_at("a.name", 7)
        is_at("b.name", 9)
        is_at("list[0].name", 10) -- of the list: two items have this key
        is_at("list[0].only", 12)
        is_at("made.port", 3)]])
      assert.equal("applied", result.outcome, result.errors[1] and result.errors[1].message)
    end)

  it("is read again only when its bytes have changed", function()
    start "return { a = 1 }"
    assert.equal("unchanged", b:reload().outcome)
    b:write("conf.lua", "return { a = 1 } --")
    assert.equal("unchanged", b:reload().outcome)
    b:write("conf.lua", "return { a = 2 }")
    assert.equal("applied", b:reload().outcome)
  end)

  it("may be absent where it is optional", function()
    b:write("reload.lua", [[local segue = require "segue"
      return { sources = { segue.lua_file("none.lua", { optional = true }) } }]])
    b:engine()
    assert.equal("applied", b:reload().outcome)
  end)

  it("is an error where it is required and does not exist", function()
    b:write("reload.lua", [[local segue = require "segue"
      return { sources = { segue.lua_file "none.lua" } }]])
    b:engine()
    local result = b:reload()
    assert.equal("failed", result.outcome)
    assert.equal("none.lua", result.errors[1].file)
  end)

  local faults = {
    { "a syntax error", "return {\n  a = = 1 }", "unexpected symbol near '='", 2 },
    { "an error of its own", "local x\nreturn { a = x.y }", "attempt to index local 'x'", 2 },
    { "error()", "\n\nerror('not today')", "not today", 3 },
    { "no table", "return 5", "returns number instead of a table", 0 },
    { "nothing", "", "returns nothing instead of a table", 0 },
    { "a list", "return { 1, 2 }", "the top level is a list", 1 },
    { "a function", "return {\n  a = { b = function() end } }", "a function is no configuration",
      2, "a.b" },
    { "a cycle", "local t = {}\nt.inner = { t }\nreturn { deep = t }",
      "the table contains itself", 2, "deep.inner[0]" },
    { "mixed keys", "return {\n a = { 1, x = 2 } }", "a table must be a list", 2, "a" },
    { "a list with a hole", "return { a = { [1] = 1, [3] = 3 } }", "a table must be a list", 1,
      "a" },
    { "a key that is a truth value", "return { a = { [true] = 1 } }", "a table must be a list", 1 },
    { "bytes that are no text", "return {\na = '\\255' }", "UTF-8", 2, "a" },
    { "bytecode", "\27LJ\2", "bytecode", 1 },
    { "tables in tables in tables", "local t = {} for i = 1, 500 do t = { t } end return { a = t }",
      "nested", 1 },
    { "tables that double", "local t = {} for i = 1, 40 do t = { t, t } end return { a = t }",
      "more than", 1 },
  }
  for _, case in ipairs(faults) do
    it("is refused for " .. case[1], function()
      local e = refused(case[2])
      assert.truthy(e.message:find(case[3], 1, true), e.text)
      assert.equal("conf.lua", e.file)
      assert.equal(case[4], e.line, e.text)
      if case[5] then assert.equal(case[5], e.path) end
    end)
  end

  it("is not quoted in messages where the policy names a secret", function()
    local cases = {
      { "return { db = { password = s3cr3t-word } }", "global '***'" },
      { "return { db = { password = 5s3cr3t } }", "near '***'" },
      { "return { db = { password = 's3cr3t\n' } }", "near '***'" },
      { "return { db = { password = 'a' s3cr3t } }", "near '***'" },
      { 'return { db = { password = "s3cr3t\\q" } }', "near '***'" },
      { "local t = {} return { db = { password = t.s3cr3t.x } }", "field '***'" },
    }
    assert.equal("applied", start("return { a = 1 }").outcome)
    for _, case in ipairs(cases) do
      b:write("conf.lua", case[1])
      local reported = b:reload().errors[1].text
      assert.truthy(reported:find("s3cr3t", 1, true), reported)
    end
    b:write("reload.lua", [[local segue = require "segue"
      return { secrets = { "db.password" }, sources = { segue.lua_file "conf.lua" } }]])
    for _, case in ipairs(cases) do
      b:write("conf.lua", case[1])
      local reported = b:reload().errors[1].text
      assert.is_nil(reported:find("s3cr3t", 1, true), reported)
      assert.truthy(reported:find(case[2], 1, true), reported)
      assert.matches("^conf.lua:1: ", reported)
    end
  end)

  it("shows of a message that the file throws only its own text where a value may be a secret",
    function()
      local cases = {
        { "error('s3cr3t-word')", "s3cr3t-word" }, -- a literal of the call itself
        { "local p = 's3cr3t' error('bad password: ' .. p)", "bad password: ***" },
        { [[local p = 's3cr3t' error(("bad %s, or so"):format(p))]], "bad ***" },
        { "local p = 's3cr3t' error(p)", "***" },
        { "local p = 's3cr3t' error(p, 0)", "***" },
        { [[local p = 's3cr3t' error('a\tb' .. p)]], "a***" },
        { "local p = 's3cr3t' if p == '' then error('no') end error(p)", "***" },
        { "local p = 's3cr3t' assert(false, p)", "***" },
        { "local p = 's3cr3t' assert(p == 'x', 'bad ' .. p)", "***" },
        { "assert(false)", "assertion failed!" },
        { "local p = 's3cr3t' error({ message = p, file = p, path = p })", "***" },
        { "local p = 's3cr3t' error(p .. ':1: x', 0)", "***" },
        { "local f = error local p = 's3cr3t' f(p)", "***" },
      }
      local function text_of(case)
        b:write("conf.lua", "local none\n" .. case[1] .. "\nreturn {}")
        return b:reload().errors[1]
      end
      assert.equal("applied", start("return { a = 1 }").outcome)
      assert.equal("bad password: s3cr3t", text_of(cases[2]).message)
      assert.equal("s3cr3t", text_of(cases[8]).message)
      b:write("reload.lua", [[local segue = require "segue"
        return { secrets = { "db.password" }, sources = { segue.lua_file "conf.lua" } }]])
      for _, case in ipairs(cases) do
        local e = text_of(case)
        assert.equal(case[2], e.message, case[1])
        assert.equal("conf.lua", e.file)
        assert.equal(2, e.line, e.text)
        assert.equal(case[2]:find("s3cr3t", 1, true) ~= nil, e.text:find("s3cr3t", 1, true) ~= nil)
      end
    end)

  for _, name in ipairs { "segue", "require", "os", "io", "load", "loadstring", "setmetatable",
    "getmetatable", "rawset", "rawget", "pcall", "coroutine", "_G", "print", "getfenv", "setfenv",
    "collectgarbage", "newproxy", "debug", "jit", "math.random", "math.randomseed",
    "string.dump" } do
    it("sees no " .. name, function()
      assert.equal("applied", start(("return { a = %s == nil }"):format(name),
        "assert(next.a == true)").outcome)
    end)
  end

  local limits = {
    { "an endless loop", "\nwhile true do end", "used more than 50 ms of CPU time", 2 },
    { "a pattern bomb", "\nlocal x = ('a'):rep(40):find(('a-'):rep(12) .. 'b')", "", 2 },
    { "a table that grows", "local t = {}\nfor i = 1, 1e9 do t[i] = { i } end",
      "needed more than 8 MiB of memory", 2 },
    { "a long text", "\nlocal x = ('x'):rep(1e9)", "string.rep: the result would be longer", 2 },
  }
  for _, case in ipairs(limits) do
    it("is held by the limits of a hook against " .. case[1], function()
      open { slice_ms = 50, memory = 8 * 1024 * 1024 }
      local e = refused(case[2])
      assert.truthy(e.message:find(case[3], 1, true), e.text)
      assert.equal("conf.lua", e.file)
      assert.equal(case[4], e.line, e.text)
    end)
  end
end)
