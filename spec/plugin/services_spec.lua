-- SPDX-License-Identifier: MIT
-- All threads of a host log and count at full rate while both modules are swapped 200 times, see
-- services.c.
local plugin = require "spec.support.plugin"
local process = require "spec.support.process"
local http = require "spec.support.http"
local tempdir = require "spec.support.tempdir"

local policy = [[
local segue = require "segue"
return {
  sources = { segue.file "config.yaml" },
  triggers = {},
  modules = { log = { kind = "c", plugin = "log", config = "log" },
              stats = { kind = "c", plugin = "stats", config = "stats" } },
}
]]

describe("the log and the metrics that all modules call", function()
  after_each(function()
    http.close_all()
    process.stop_all()
    tempdir.remove_all()
  end)

  it("lose, double, tear and misplace nothing over 200 swaps at full rate", function()
    local dir = tempdir.new()
    local program = dir:at("host")
    plugin.host(program, "spec/plugin/services.c")
    dir:write("reload.lua", policy)
    assert(os.execute("mkdir " .. dir:at("logs")) == 0)
    local host = process.start { program, dir:at("reload.lua"), dir:at("state"),
      dir:at("config.yaml"), dir:at("logs"), "200", dir:at("go"),
      env = { SEGUE_PLUGIN_DIR = plugin.folder, SEGUE_LUA_DIR = "lua" } }
    host:wait_output("ready\n", 300000)
    local connection = http.connect({ socket = dir:at("state/control.sock") })
    connection:write(http.format { path = "/metrics" })
    local metrics = connection:read_response().body
    connection:close()
    dir:write("go", "")
    host:wait_exit(120000)
    assert.equal(0, host.code, host:describe())
    local reported = {}
    for name, value in host.stdout:gmatch("(%w+)=(%d+)") do reported[name] = tonumber(value) end
    assert.same({ 200, 0, 0, 0, 0, 0, 0 }, { reported.applied, reported.lost, reported.doubled,
      reported.torn,
      reported.unknown, reported.elsewhere, reported.refused }, host:describe())
    assert.truthy(reported.accepted > 1000 and reported.off > 0, host:describe())
    local counted = 0
    for n in metrics:gmatch('\nlines_total{thread="%d"} (%d+)') do
      counted = counted + tonumber(n)
    end
    assert.equal(reported.accepted, counted)
    assert.equal(reported.accepted, tonumber(metrics:match("\nturn_count (%d+)")))
    assert.equal(0, tonumber(metrics:match("\nsegue_log_dropped_total (%d+)")))
  end)
end)
