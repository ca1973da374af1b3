-- SPDX-License-Identifier: MIT
-- A host whose threads pass a gate while the module behind it is restarted 200 times, see gate.c.
local process = require "spec.support.process"
local tempdir = require "spec.support.tempdir"

describe("a host with a gate", function()
  after_each(function()
    process.stop_all()
    tempdir.remove_all()
  end)

  it("loses and doubles no request over 200 restarts of a module that holds a lock", function()
    local dir, build = tempdir.new(), os.getenv("SEGUE_BUILD")
    local program = dir:at("host")
    local libraries = process.run { "pkg-config", "--libs", "libuv", "yaml-0.1", "libxxhash",
      "libpcre2-8", "sqlite3", "luajit" }
    assert(libraries.code == 0, libraries:describe())
    local cc = process.run { "sh", "-c", table.concat({ "cc -std=c11 -D_GNU_SOURCE -Wall -Wextra",
      "-Werror", os.getenv("SEGUE_SPEC_CFLAGS"), "-Icore -o", program, "spec/embed/gate.c",
      build .. "/libsegue.a", (libraries.stdout:gsub("\n", " ")), "-lm -ldl -pthread" }, " "),
      deadline_ms = 120000 }
    assert(cc.code == 0, cc:describe())
    dir:write("a.yaml", "a: 1\n")
    local policy = dir:write("reload.lua", [[
local segue = require "segue"
return {
  sources = { segue.file "a.yaml" },
  modules = { service = { kind = "c", plugin = "service", replace = "restart" } },
}
]])
    local host = process.run { program, policy, dir:at("lock"), "200", deadline_ms = 300000 }
    assert(host.code == 0, host:describe())
    local told = {}
    for name, value in host.stdout:gmatch("(%w+)=(%d+)") do told[name] = tonumber(value) end
    assert.same({ 201, 0, 0, 0, 0, 0 },
      { told.applied, told.lost, told.doubled, told.older, told.refused, told.unlocked },
      host:describe())
    assert.truthy(told.waited > 0 and told.passed >= told.waited, host:describe())
  end)
end)
