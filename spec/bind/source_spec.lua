-- SPDX-License-Identifier: MIT
-- Sources written in Lua: what fetch and watch may deliver, how they fail, what a reload of the
-- policy does to them; and every key of segue.source, segue.url and guards.
local C = require "spec.support.c"
local bind = require "spec.support.bind"
local fresh = require "spec.support.fresh"

local b
fresh(bind.open, function(opened) b = opened end)

local function value(path) return b:value(path) end
local function status(name) return b:source_status(name) end

local function policy(sources, more)
  return ([[local segue = require "segue"
    return { sources = { %s }, triggers = {}, %s }]]):format(sources, more or "")
end

-- A policy whose one source has this body of fetch.
local function fetching(body, more)
  return policy(([[segue.source { name = "net", fetch = function(self)
%s
end, %s }]]):format(body, more or ""))
end

local function start(text)
  b:write("reload.lua", text)
  b:engine()
  return b:reload()
end

describe("fetch of a source in Lua", function()
  local delivers = {
    { "a table with the values", "return { n = 1, list = { 1, 2 } }", "n", "1" },
    { "values with the keys of a document among others", 'return { text = "a", n = 1 }', "n", "1" },
    { "values that are called name", 'return { name = "a", n = 2 }', "n", "2" },
    { "an empty table, which is an empty map", "return {}", "n", nil },
    { "an empty list that was decoded, which is an empty map", 'return segue.json.decode "[]"', "n",
      nil },
    { "a list of texts", 'return { { text = "n: 1" }, { text = "n: 2" } }', "n", "2" },
    { "JSON", [[return { { text = '{"n": 3}', format = "json" } }]], "n", "3" },
    { "values among texts", 'return { { text = "n: 1" }, { value = { n = 4 } } }', "n", "4" },
    { "what it waited for", 'segue.sleep "10ms" return { n = 5 }', "n", "5" },
    { "its options", "return { n = self.options.x, m = self.name }", "n", "7",
      "options = { x = 7 }" },
    { "64-bit integers", 'return { n = segue.int "9007199254740993" }', "n", "9007199254740993" },
    { "no revision at first", "return { n = self.revision == nil }", "n", "true" },
  }
  for _, case in ipairs(delivers) do
    it("delivers " .. case[1], function()
      local r = start(fetching(case[2], case[5]))
      assert.equal("applied", r.outcome, r.errors[1] and r.errors[1].text)
      assert.equal(case[4], value(case[3]))
      assert.equal("source", status("net").kind)
    end)
  end

  local failures = {
    { "an error", 'error("no way")', "SEGUE_EPOLICY", "no way" },
    { "a reason", 'return nil, "not today"', "SEGUE_ESOURCE", "not today" },
    { "a reason and a code", 'return nil, "not today", "ECONNREFUSED"', "ECONNREFUSED",
      "not today" },
    { "a code of ours", 'return nil, "slow", "SEGUE_ETIMEOUT"', "SEGUE_ETIMEOUT", "slow" },
    { "a code that does not exist", 'return nil, "odd", "EODD"', "SEGUE_ESOURCE", "odd" },
    { "nothing", "", "SEGUE_EPOLICY", "fetch returned nil without a reason" },
    { "false", "return false", "SEGUE_EPOLICY", "fetch returned false without a reason" },
    { "a text", 'return "n: 1"', "SEGUE_EPOLICY", "delivered a string" },
    { "a number", "return 7", "SEGUE_EPOLICY", "delivered a number" },
    { "a document that is not in a list", 'return { text = "n: 1" }', "SEGUE_EPOLICY",
      "delivered one document: return a list of documents, { { text = ... } }" },
    { "a document with all its keys that is not in a list",
      'return { text = "n: 1", name = "x", format = "yaml" }', "SEGUE_EPOLICY",
      "return a list of documents" },
    { "a value that is not in a list", "return { value = { n = 1 } }", "SEGUE_EPOLICY",
      "return a list of documents" },
    { "a list of numbers", "return { 1, 2 }", "SEGUE_EPOLICY", "document 1 is a number" },
    { "a document without text", 'return { { name = "x" } }', "SEGUE_EPOLICY",
      "must have a text or a value" },
    { "a document with both", 'return { { text = "", value = {} } }', "SEGUE_EPOLICY",
      "must have a text or a value" },
    { "a document with a typing error", 'return { { txt = "n: 1" } }', "SEGUE_EPOLICY",
      "did you mean" },
    { "a document of unknown format", 'return { { text = "", format = "toml" } }', "SEGUE_EPOLICY",
      "source 'net': document 1: format must be \"yaml\", \"json\" or \"text\"" },
    { "a list with a key", 'return { { text = "n: 1" }, x = 1 }', "SEGUE_EPOLICY",
      "with the key 'x' in it" },
    { "a document that is a list", "return { { value = { 1, 2 } } }", "SEGUE_EPOLICY",
      "a document must be a map" },
    { "a function in the values", "return { n = print }", "SEGUE_EPOLICY", "is a function" },
    { "values that contain themselves", "local t = {} t.t = t return t", "SEGUE_EPOLICY",
      "contains itself" },
    { "a revision that is a table", "return { n = 1 }, {}", "SEGUE_EPOLICY",
      "revision must be a short text" },
    { "nothing new at first", "return true", "SEGUE_ESOURCE",
      "reported no change before its first delivery" },
    { "an endless loop", "while true do end", "SEGUE_ETIMEOUT", "CPU time" },
    { "a wait that is too long", 'segue.sleep "1h"', "SEGUE_ETIMEOUT",
      "fetch took longer than 2000 ms; it was waiting for segue.sleep", 'timeout = "2s"' },
  }
  for _, case in ipairs(failures) do
    it("fails with " .. case[1], function()
      local r = start(fetching(case[2], case[5]))
      assert.equal("failed", r.outcome)
      assert.equal(case[3], r.errors[1].name)
      assert.truthy(r.errors[1].message:find(case[4], 1, true), r.errors[1].text)
      assert.equal("net", r.errors[1].source)
    end)
  end

  it("gets the revision, and may report that it is unchanged", function()
    start(fetching([[
      local n = (segue.state.n or 0) + 1
      segue.state.n = n
      segue.log.info("asked", { revision = tostring(self.revision) })
      if n == 2 then return true end
      return { n = n }, "r" .. n]]))
    assert.equal("unchanged", b:reload().outcome)
    assert.equal("r1", status("net").revision)
    assert.equal("applied", b:reload().outcome)
    assert.equal("3", value("n"))
    local log = b:logged()
    assert.truthy(log:match("revision=nil.*revision=r1.*revision=r1"), log)
    assert.equal("r3", status("net").revision)
  end)

  it("keeps its last delivery while it fails, also after it has broken its state", function()
    start(fetching([[
      segue.state.n = (segue.state.n or 0) + 1
      if segue.state.n == 2 then while true do end end
      return { n = segue.state.n }]]))
    local r = b:reload()
    assert.equal("unchanged", r.outcome)
    assert.truthy(r.errors[1].message:find("is held", 1, true))
    assert.is_true(status("net").held)
    assert.equal("1", value("n"))
    assert.equal("applied", b:reload().outcome)
    assert.equal("3", value("n"))
  end)

  it("names the place of a mistake in a document", function()
    local r = start(fetching('return { { name = "key/a", text = "n: 1" }, '
      .. '{ name = "key/b", text = "x:\\n  - [" } }'))
    assert.equal("rejected", r.outcome)
    assert.equal("key/b", r.errors[1].file)
    assert.equal("net", r.errors[1].source)
  end)
end)

describe("watch of a source in Lua", function()
  local function watching(body, more)
    return policy(([[segue.source { name = "net",
      fetch = function(self)
        if segue.state.still and self.revision then return true end
        return { n = segue.state.n or 0 }
      end,
      watch = function(self, emit)
%s
      end, %s }]]):format(body, more or ""))
  end

  it("emits values and revisions", function()
    start(watching([[ segue.sleep "1s" emit({ n = 1 }, "r1") segue.sleep "1h" ]]))
    assert.equal("0", value("n"))
    assert.equal("watching", status("net").activity)
    b:advance(1100)
    assert.equal("1", value("n"))
    assert.equal("r1", status("net").revision)
  end)

  it("emits many at once, and the last counts", function()
    start(watching([[ for i = 1, 100 do emit { n = i } end segue.sleep "1h" ]]))
    b:advance(1000)
    assert.equal("100", value("n"))
  end)

  it("emits nothing but a notice of a change, and fetch is called", function()
    start(watching([[ segue.sleep "1s" segue.state.n = 9 emit() segue.sleep "1h" ]]))
    b:advance(1100)
    assert.equal("9", value("n"))
  end)

  it("that emits and ends has delivered", function()
    start(watching([[ if self.revision ~= "last" then emit({ n = 3 }, "last") end ]]))
    b:advance(100)
    assert.equal("3", value("n"))
  end)

  it("that emits an invalid value fails at its line, and is tried again", function()
    start(watching([[ segue.sleep "10ms" emit(7) ]]))
    b:advance(20)
    local err = status("net").error
    assert.truthy(err.message:find("delivered a number", 1, true), err.message)
    b:advance(5000)
    assert.truthy(select(2, b:logged():gsub("has stopped pushing", "")) >= 2)
  end)

  it("that returns nil and a reason has that reason", function()
    start(watching([[ segue.sleep "10ms" return nil, "session lost", "ECONNRESET" ]]))
    b:advance(20)
    assert.equal("session lost", status("net").error.message)
    assert.equal("ECONNRESET", status("net").error.name)
  end)

  it("that loops for ever is ended, and its state is built again", function()
    start(watching([[ if segue.state.looped then segue.sleep "1h" end
      segue.state.looped = true
      while true do end ]]))
    b:advance(5000)
    assert.equal("watching", status("net").activity)
    assert.equal("unchanged", b:reload().outcome)
  end)

  it("moves to the new state when the policy changes, and never runs twice", function()
    local text = watching([[
      segue.state.still = true
      segue.log.info("watching", { version = "@V@", revision = tostring(self.revision) })
      emit({ n = 1 }, "rev-@V@")
      segue.sleep "1h"]])
    start((text:gsub("@V@", "one")))
    b:advance(1000)
    assert.equal(1, b:stats().tasks)
    b:write("reload.lua", (text:gsub("@V@", "two")))
    assert.equal("applied", b:reload().outcome)
    b:advance(1000)
    assert.equal(1, b:stats().tasks)
    assert.equal(1, b:stats().states)
    local log = b:logged()
    assert.truthy(log:find("revision=nil version=one", 1, true), log)
    assert.truthy(log:find("revision=rev-one version=two", 1, true), log)
    assert.equal("rev-two", status("net").revision)
  end)

  it("ignores a call of emit that comes too late", function()
    start(watching([[ segue.state.kept = nil kept = emit error("gone") ]]))
    b:advance(100)
    assert.equal("unchanged", b:reload().outcome)
  end)
end)

describe("a plugin", function()
  it("is found by its name and is written against the same functions", function()
    b:write("lua/../plugins/kv/init.lua", [[
      local segue = require "segue"
      return function(options)
        return segue.source { name = "kv " .. options.key, options = options,
          fetch = function(self) return { [self.options.key] = "v" } end }
      end]])
    local r = start([[
      local segue = require "segue"
      local kv = require "segue.plugin.kv"
      return { sources = { kv { key = "a" }, kv { key = "b" } } }]])
    assert.equal("applied", r.outcome, r.errors[1] and r.errors[1].text)
    assert.equal('"v"', value("b"))
    assert.is_true(status("kv a").up)
  end)

  it("that does not exist is reported by its path", function()
    local e = b:refused([[require "segue.plugin.nowhere"]])
    assert.truthy(e.message:find("plugins/nowhere/init.lua", 1, true), e.message)
  end)
end)

describe("what is wrong with", function()
  local F = "fetch = function() end"
  local cases = {
    { "segue.source without a table", 'segue.source "x"', "segue.source: its argument must be a" },
    { "segue.source without a name", "segue.source { " .. F .. " }", "name is missing" },
    { "segue.source without fetch", 'segue.source { name = "x" }', "fetch is missing" },
    { "an empty name", 'segue.source { name = "", ' .. F .. " }", "name must not be empty" },
    { "a fetch that is a text", 'segue.source { name = "x", fetch = "y" }',
      "fetch must be a function" },
    { "a watch that is a table", 'segue.source { name = "x", watch = {}, ' .. F .. " }",
      "watch must be a function" },
    { "an unknown key", 'segue.source { name = "x", guards = {}, ' .. F .. " }",
      'segue.source: guards is not a known key here: did you mean "guard"?' },
    { "a timeout of nothing", 'segue.source { name = "x", timeout = 0, ' .. F .. " }",
      "timeout must be longer than 0" },
    { "an interval that is too short", 'segue.source { name = "x", interval = "5ms", ' .. F .. "}",
      'segue.source: interval must be at least 100ms, not "5ms"' },
    { "a safety that is no duration", 'segue.source { name = "x", safety = "often", ' .. F .. "}",
      'segue.source: safety must be a duration such as 500ms, 10s or 1h30m, not "often"' },
    { "an optional that is a text", 'segue.source { name = "x", optional = "yes", ' .. F .. "}",
      'segue.source: optional must be true or false, not "yes"' },
    { "options that are a text", 'segue.source { name = "x", options = "y", ' .. F .. "}",
      "options must be a table" },
    { "a format that is unknown", 'segue.source { name = "x", format = "toml", ' .. F .. "}",
      'segue.source: format must be "yaml", "json" or "text", not "toml"' },
    { "a retry with its ends swapped",
      'segue.source { name = "x", retry = { min = "2m", max = "1s" }, ' .. F .. "}",
      "segue.source: retry.min must not be longer than max" },
    { "a retry with an unknown key", 'segue.source { name = "x", retry = { mix = "1s" }, ' .. F
      .. "}", 'segue.source: retry.mix is not a known key here: did you mean "min"?' },
    { "two sources of one name", 'segue.source { name = "x", ' .. F .. "}, "
      .. 'segue.source { name = "x", ' .. F .. "}", "source 'x' is declared twice" },
    { "segue.url of a number", "segue.url(7)", "segue.url: url must be a text" },
    { "segue.url without a URL", "segue.url {}", "segue.url: url is missing:" },
    { "a URL that is none", 'segue.url "ftp://x/y"', "is not a URL" },
    { "a URL without a host", 'segue.url "http:///y"', "is not a URL" },
    { "headers that are texts", 'segue.url { "http://h/", headers = "X: 1" }',
      "headers must be a table" },
    { "a header of two lines", 'segue.url { "http://h/", headers = { X = "1\\r\\nY: 2" } }',
      "segue.url: headers.X must be a text of one line" },
    { "a size that is none", 'segue.url { "http://h/", max_bytes = "lots" }',
      "max_bytes must be a size such as" },
    { "a size of nothing", 'segue.url { "http://h/", max_bytes = 0 }',
      "segue.url: max_bytes must be at least 1B, not 0" },
    { "redirects that are counted", 'segue.url { "http://h/", redirects = 3 }',
      "segue.url: redirects must be true or false, not 3" },
    { "tls with an unknown key", 'segue.url { "http://h/", tls = { verify = false } }',
      "segue.url: tls.verify is not a known key here: known are ca, cert, insecure, key" },
    { "a certificate without a key", 'segue.url { "http://h/", tls = { cert = "c.pem" } }',
      "segue.url: tls must have cert and key together" },
    { "a token beside an Authorization header",
      'segue.url { "http://h/", token_file = "t", headers = { Authorization = "x" } }',
      "exclude each other" },
    { "a typing error", 'segue.url { "http://h/", interva = "1s" }',
      'segue.url: interva is not a known key here: did you mean "interval"?' },
    { "a guard with an unknown key", 'segue.file("a", { guard = { min_item = 1 } })',
      'segue.file: guard.min_item is not a known key here: did you mean "min_items"?' },
    { "a guard that is a number", 'segue.url { "http://h/", guard = 7 }', "guard must be a table" },
    { "min_items that is a part", 'segue.file("a", { guard = { min_items = 0.5 } })',
      "min_items must be a whole number" },
    { "max_shrink in percent", 'segue.dir("a/*", { guard = { max_shrink = 50 } })',
      "segue.dir: guard.max_shrink must be between 0 and 1, not 50" },
    { "max_shrink that is a text", 'segue.dir("a/*", { guard = { max_shrink = "50%" } })',
      "max_shrink must be a number" },
    { "required that is a text", 'segue.lua_file("a", { guard = { required = "a.b" } })',
      "required must be a list of texts" },
    { "required with an empty path", 'segue.file("a", { guard = { required = { "" } } })',
      "segue.file: guard.required[1] must not be empty" },
    { "max_age that is no duration", 'segue.url { "http://h/", guard = { max_age = "old" } }',
      'segue.url: guard.max_age must be a duration such as 500ms, 10s or 1h30m, not "old"' },
  }
  for _, case in ipairs(cases) do
    it(case[1] .. " is reported at its line", function()
      local e = b:refused('local segue = require "segue"\n\nreturn { sources = { ' .. case[2]
        .. " } }")
      assert.truthy(e.message:find(case[3], 1, true), e.text)
      assert.equal("reload.lua", e.file)
      assert.equal(3, e.line)
    end)
  end

  it("nothing: every option is accepted", function()
    local p = assert(b:load(policy([[
      segue.url { "https://user:secret@host:8443/c.json?token=secret#x", headers = { X = "1" },
        timeout = "1s", max_bytes = "1KiB", redirects = true, tls = { ca = "a", cert = "b",
        key = "c", insecure = true }, format = "json", interval = "2s", optional = true,
        retry = { min = "1s", max = "2s" },
        guard = { min_items = 2, max_shrink = 0.25, required = { "a.b" }, max_age = "1h" } },
      segue.source { name = "n", fetch = function() end, watch = function() end, safety = "1m",
        interval = "3s", timeout = "4s", options = {}, format = "yaml", optional = false,
        retry = {} }]])))
    local url, script = p.sources[0], p.sources[1]
    assert.equal("https://host:8443/c.json", C.str(url.name))
    assert.equal(2000, tonumber(url.interval_ms))
    assert.equal(2, tonumber(url.guard.min_items))
    assert.equal(0.25, url.guard.max_shrink)
    assert.equal("a.b", C.str(url.guard.required[0]))
    assert.equal(3600000, tonumber(url.guard.max_age_ms))
    assert.is_false(url.pushes)
    assert.is_true(script.pushes)
    assert.equal(60000, tonumber(script.safety_ms))
  end)
end)
