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
      policy = policy(('path = "%s", outcomes = "%s"'):format(dir:at("data"), dir:at("told"))) }
    assert.equal(80, d:config().port)
    dir:write("data", "port 81\n")
    assert.equal(0, d:cli("reload").code)
    dir:write("data", "port [\n")
    assert.equal(3, d:cli("reload").code)
    assert.equal("2 lines: applied\n1 lines: applied\n1 lines: rejected\n", read(dir:at("told")))
  end)

  it("rejects the policy where it refuses its options", function()
    dir:write("reload.lua", policy("path = \"x\""))
    local result = segue.cli { "check", "-c", dir:at("reload.lua") }
    assert.equal(3, result.code)
    assert.truthy(result.output:find("kv needs the options path and outcomes", 1, true),
      result.output)
  end)
end)
