-- SPDX-License-Identifier: MIT
-- segue.source { plugin = ... }: sources that plugins bring, in Lua, of several files.
local C = require "spec.support.c"
local bind = require "spec.support.bind"
local fresh = require "spec.support.fresh"

local b
fresh(bind.open, function(opened) b = opened end)

local function plugin(text, more)
  b:write("lua/../plugins/kv/init.lua", text)
  if more then b:write("lua/../plugins/kv/more.lua", more) end
end

local function policy(source)
  return ([[local segue = require "segue"
return { sources = { segue.source { %s } }, triggers = {} }]]):format(source)
end

local function start(source)
  b:write("reload.lua", policy(source))
  b:engine()
  return b:reload()
end

local function value(path)
  local live = C.segue__publication_get(b.publication)
  local out = C.ffi.new("int64_t[1]")
  C.check(C.segue_node_int(C.segue_node_get(C.segue_snapshot_root(live), path), out))
  return tonumber(out[0])
end

describe("a source of a plugin in Lua", function()
  it("is the module segue.plugin.NAME, which may require its other files", function()
    plugin([[
      local more = require "segue.plugin.kv.more"
      return { options = { prefix = "text" }, fetch = function(self)
        return more.values(self.options.prefix), "r1"
      end }]], [[return { values = function(prefix) return { [prefix] = 7 } end }]])
    local source = 'name = "kv", plugin = "kv", options = { prefix = "app" }'
    assert.equal("applied", start(source).outcome)
    assert.equal(7, value("app"))
  end)

  it("is segue.NAME from its first use on, with its options beside those of the source", function()
    plugin([[
      local more = require "segue.plugin.kv.more"
      return { options = { prefix = "text" }, fetch = function(self)
        return more.values(self.options.prefix), "r1"
      end }]], [[return { values = function(prefix) return { [prefix] = 7 } end }]])
    b:write("reload.lua", [[local segue = require "segue"
      assert(segue.kv == segue.kv)
      return { sources = { segue.kv { prefix = "app", retry = { min = "2s" } } },
        triggers = {} }]])
    b:engine()
    assert.equal("applied", b:reload().outcome)
    assert.equal(7, value("app"))
    local e = b:refused [[local segue = require "segue"
return { sources = { segue.kv { prefx = "a" } } }]]
    assert.truthy(e.message:find("prefx is not a known key", 1, true), e.text)
    e = b:refused 'require("segue").kv "a"'
    assert.truthy(e.message:find("segue.kv: its argument must be a table", 1, true), e.text)
  end)

  it("may be any value as segue.NAME, and a name that no plugin has stays a mistake", function()
    plugin "return function(n) return 2 * n end"
    b:write("reload.lua", [[local segue = require "segue"
      return { sources = { segue.value { n = segue.kv(21) } }, triggers = {} }]])
    b:engine()
    assert.equal("applied", b:reload().outcome)
    assert.equal(42, value("n"))
    local e = b:refused 'require("segue").fech "http://x"'
    assert.truthy(e.message:find('there is no segue.fech in this version: did you mean "fetch"?',
      1, true), e.text)
    e = b:refused 'local _ = require("segue")["../kv"]'
    assert.truthy(e.message:find("there is no segue.../kv", 1, true), e.text)
  end)

  it("runs within the limits of the policy", function()
    plugin "return { fetch = function() while true do end end }"
    local result = start 'name = "kv", plugin = "kv"'
    assert.equal("failed", result.outcome)
    assert.truthy(result.errors[1].message:find("is there an endless loop", 1, true),
      result.errors[1].text)
  end)

  it("has its options checked, by name", function()
    plugin 'return { options = { prefix = "text" }, fetch = function() return {} end }'
    local e = b:refused(policy 'name = "kv", plugin = "kv", options = { prefx = "a" }')
    assert.truthy(e.message:find("plugin kv: options: prefx is not a known key here", 1, true),
      e.text)
    assert.equal("reload.lua", e.file)
  end)

  it("names the type of each option, or the texts that are allowed", function()
    plugin [[return { fetch = function() return {} end, options = { mode = { "all", "some" },
      every = "duration" } }]]
    local e = b:refused(policy 'name = "kv", plugin = "kv", options = { mode = "none" }')
    assert.truthy(e.message:find('options: mode must be "all" or "some", not "none"', 1, true),
      e.text)
    e = b:refused(policy 'name = "kv", plugin = "kv", options = { every = "soon" }')
    assert.truthy(e.message:find("options: every must be a duration", 1, true), e.text)
    plugin 'return { fetch = function() end, options = { mode = "word" } }'
    e = b:refused(policy 'name = "kv", plugin = "kv"')
    assert.truthy(e.message:find("the option mode has the unknown type 'word'", 1, true), e.text)
  end)

  it("declares an option as a row: type, default, limits, and whether it is required", function()
    plugin [[return { fetch = function(self) return { ms = self.options.wait } end, options = {
      wait = { type = "count", default = 30, min = 5, max = 60, doc = "time to wait" },
      side = { type = { "left", "right" }, required = true } } }]]
    local result = start 'name = "kv", plugin = "kv", options = { side = "left" }'
    assert.equal("applied", result.outcome)
    assert.equal(30, value("ms"))
    for options, message in pairs {
      ["wait = 6"] = "options: side is missing",
      ['side = "left", wait = 61'] = "options: wait must be between 5 and 60, not 61",
      ['side = "up"'] = 'options: side must be "left" or "right", not "up"',
    } do
      local e = b:refused(policy('name = "kv", plugin = "kv", options = { ' .. options .. " }"))
      assert.truthy(e.message:find(message, 1, true), e.text)
    end
  end)

  for row, message in pairs {
    ["{ default = 1 }"] = "the option a has no type",
    ['{ type = "count", max = "9" }'] = "the option a must not have the field 'max' of type string",
    ['{ type = "count", default = {} }'] = "the default of the option a must be a text, a number",
  } do
    it("with the row " .. row .. " is rejected by name", function()
      plugin(("return { fetch = function() end, options = { a = %s } }"):format(row))
      local e = b:refused(policy 'name = "kv", plugin = "kv"')
      assert.truthy(e.message:find(message, 1, true), e.text)
    end)
  end

  it("must have a function fetch", function()
    plugin "return {}"
    local e = b:refused(policy 'name = "kv", plugin = "kv"')
    assert.truthy(e.message:find("the plugin kv is no source", 1, true), e.text)
  end)

  it("excludes functions of the policy", function()
    local e = b:refused(policy 'name = "kv", plugin = "kv", fetch = function() end')
    assert.truthy(e.message:find("a plugin has fetch and watch, want and outcome", 1, true), e.text)
  end)

  it("that does not exist is looked for in C, and reported", function()
    local e = b:refused(policy 'name = "kv", plugin = "nothing"')
    assert.truthy(e.message:find("there is no source 'nothing'", 1, true), e.text)
    assert.equal("reload.lua", e.file)
  end)
end)
