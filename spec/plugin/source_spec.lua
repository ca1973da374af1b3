-- SPDX-License-Identifier: MIT
-- Sources in C: a plugin that exports segue_source, named by a policy.
local plugin = require "spec.support.plugin"
local process = require "spec.support.process"
local segue = require "spec.support.segue"
local tempdir = require "spec.support.tempdir"

local dir
before_each(function()
  dir = tempdir.new()
  plugin.build_file(dir:at("kv.so"), "spec/plugin/kv_source.c")
end)
after_each(function()
  segue.cleanup()
  process.stop_all()
  tempdir.remove_all()
end)

local function policy(options, more)
  return ([[
local segue = require "segue"
return { sources = { segue.source { name = "kv", plugin = "./kv.so", options = { %s } %s } },
  triggers = { segue.signal "HUP" } }
]]):format(options, more or "")
end

local function read(path)
  local file = assert(io.open(path))
  local text = file:read("*a")
  file:close()
  return text
end

describe("a source in C", function()
  it("delivers from a thread of its own, and gets the outcome of each reload", function()
    local d = segue.start { dir = dir, files = { data = "port 80\nhost web\n" },
      policy = policy(('path = "%s", outcomes = "%s"'):format(dir:at("data"), dir:at("reported"))) }
    assert.equal(80, d:config().port)
    dir:write("data", "port 81\n")
    assert.equal(0, d:cli("reload").code)
    dir:write("data", "port [\n")
    assert.equal(3, d:cli("reload").code)
    assert.equal("2 lines: applied\n1 lines: applied\n1 lines: rejected\n",
      read(dir:at("reported")))
  end)

  local function check(options, more)
    dir:write("reload.lua", policy(options, more))
    local result = segue.cli { "check", "-c", dir:at("reload.lua") }
    assert.equal(3, result.code, result:describe())
    return result.output
  end

  local function finds(text, wanted)
    assert.truthy(text:find(wanted, 1, true), wanted .. " in " .. text)
  end

  it("rejects the policy where it refuses its options", function()
    finds(check('path = "/dev/null"'), "kv reads no devices")
  end)

  it("has its options validated by its table: all mistakes, with line and path", function()
    local output = check('pth = "x",\n    hang = "yes"')
    finds(output, 'reload.lua:2: sources[1].options.pth is not a known key here: '
      .. 'did you mean "path"?')
    finds(output, 'sources[1].options.path is missing: path = "data"')
    finds(output, 'sources[1].options.hang must be true or false, not "yes"')
  end)

  it("gets plain data only", function()
    finds(check('path = "x", extra = { f = function() end }'),
      "sources[1].options.extra.f must be plain data, not a function")
    finds(check('path = "x", extra = { 1, a = 2 }'),
      "sources[1].options.extra must be a list, or a table with texts as keys, not both")
  end)

  it("may read a value of any form as long as it lives", function()
    local d = segue.start { dir = dir, files = { data = "port 80\n" },
      policy = policy('path = "data", extra = { extra = 7 }') }
    assert.equal(7, d:config().extra)
    assert.equal(0, d:cli("reload", "--force").code)
    assert.equal(7, d:config().extra)
  end)

  it("has a fetch cancelled that exceeds its timeout", function()
    local d = segue.start { dir = dir, files = { data = "port 80\n" },
      policy = policy('path = "data"') }
    dir:write("reload.lua", policy('path = "data", hang = true', ', timeout = "200ms"'))
    finds(d:cli("reload").output, "kv was not fetched within 200 ms")
  end)
end)
