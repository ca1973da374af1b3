-- SPDX-License-Identifier: MIT
-- The plugin stats: what may be counted, how it is shown, and that it is kept.
local plugin = require "spec.support.plugin"
local process = require "spec.support.process"
local http = require "spec.support.http"
local segue = require "spec.support.segue"
local tempdir = require "spec.support.tempdir"

local policy = [[
local segue = require "segue"
return {
  sources = { segue.file "config.yaml" },
  triggers = { segue.watch() },
  modules = { stats = { kind = "c", config = "stats" } },
}
]]

local function lines(text)
  local list = {}
  for line in text:gmatch("[^\n]+") do list[#list + 1] = line end
  return list
end

describe("metrics", function()
  local dir, host, reported
  after_each(function()
    segue.cleanup()
    http.close_all()
    process.stop_all()
    tempdir.remove_all()
  end)

  -- Runs the commands; what came of each, and the page of metrics at the end.
  local function run(config, commands, middle)
    dir = tempdir.new()
    plugin.host(dir:at("host"), "spec/plugin/metrics.c")
    dir:write("reload.lua", policy)
    dir:write("config.yaml", config)
    host = process.start { dir:at("host"), dir:at("reload.lua"), dir:at("state"), dir:at("go"),
      stdin = table.concat(commands, "\n") .. "\n",
      env = { SEGUE_PLUGIN_DIR = plugin.folder, SEGUE_LUA_DIR = "lua" } }
    host:wait_output("ready\n", 60000)
    reported = lines(host.stdout)
    if middle then middle() end
    local connection = http.connect { socket = dir:at("state/control.sock") }
    connection:write(http.format { path = "/metrics" })
    local page = connection:read_response().body
    connection:close()
    dir:write("go", "")
    assert.equal(0, (host:wait_exit(60000)), host:describe())
    return page
  end

  it("are written in Prometheus' format, by name, with help and a prefix", function()
    local page = run(
      "stats: {prefix: app_, buckets: [1, 2.5], help: {requests: \"All of\\nthem.\"}}",
      { 'count requests{code="200"} 3', 'count requests{code="500"} 1',
        'count requests{code="200"} 2', "gauge depth 7.5", "gauge depth -2",
        "observe seconds 0.5", "observe seconds 2.5", "observe seconds 3" })
    assert.equal("applied ok ok ok ok ok ok ok ok ready", table.concat(reported, " "))
    assert.truthy(page:find([[
# TYPE app_depth gauge
app_depth -2
# HELP app_requests All of\nthem.
# TYPE app_requests counter
app_requests{code="200"} 5
app_requests{code="500"} 1
# TYPE app_seconds histogram
app_seconds_bucket{le="1"} 1
app_seconds_bucket{le="2.5"} 2
app_seconds_bucket{le="+Inf"} 3
app_seconds_sum 6
app_seconds_count 3
]], 1, true), page)
  end)

  it("keep a histogram's labels beside le", function()
    local page = run("stats: {buckets: [1]}", { 'observe s{a="x\\"y"} 1' })
    assert.truthy(page:find('s_bucket{a="x\\"y",le="1"} 1\ns_bucket{a="x\\"y",le="+Inf"} 1\n'
      .. 's_sum{a="x\\"y"} 1\ns_count{a="x\\"y"} 1\n', 1, true), page)
  end)

  it("refuse what is no series, and a name that means two kinds", function()
    run("stats: {}", { "count 1st 1", "count a{b} 1", 'count a{b="c} 1', 'count a{b="c"}x 1',
      'count a{b="\\x"} 1', 'observe a{le="1"} 1', "count segue_x 1", "count process_x 1",
      "count " .. ("n"):rep(1025) .. " 1", "count a 1", 'gauge a{b="c"} 1', "observe a 1",
      "gauge b nan", "log 0 nobody" })
    assert.equal("applied " .. ("SEGUE_EUSAGE "):rep(9) .. "ok SEGUE_EUSAGE SEGUE_EUSAGE "
      .. "SEGUE_EUSAGE ok ready", table.concat(reported, " "))
  end)

  it("refuse more series than allowed, and continue with the present ones", function()
    local page = run("stats: {max_series: 2}",
      { "count a 1", "count b 1", "count c 1", "count a 1" })
    assert.equal("applied ok ok SEGUE_ELIMIT ok ready", table.concat(reported, " "))
    assert.truthy(page:find("\na 2\n", 1, true) and not page:find("\nc ", 1, true), page)
  end)

  it("keep their values when their configuration changes, and begin again after a removal",
    function()
      local page = run("stats: {prefix: old_, buckets: [1]}", { "count a 41", "observe s 0.5" },
        function()
          dir:write("config.yaml", "stats: {prefix: new_, buckets: [5, 6]}\n")
          local done = segue.cli({ "reload", "--state", dir:at("state"), "-c",
            dir:at("reload.lua") }, {})
          assert.equal(0, done.code, done:describe())
        end)
      assert.truthy(page:find("\nnew_a 41\n", 1, true), page)
      assert.truthy(page:find('new_s_bucket{le="1"} 1\n', 1, true), page)
      assert.falsy(page:find("old_", 1, true))
    end)

  it("name the place of a mistake in their configuration", function()
    for text, wanted in pairs {
      ["{bucket: 1}"] = "config.yaml:1:17: bucket is not a key of the metrics: the keys are "
        .. "prefix, max_series, buckets and help",
      ["{prefix: segue_}"] = "prefix must be a text of letters",
      ["{prefix: 1a}"] = "prefix must be", ["{prefix: [a]}"] = "prefix must be",
      ["{max_series: 0}"] = "max_series must be a number from 1",
      ["{buckets: []}"] = "buckets must be a list of 1 to 64 numbers",
      ["{buckets: [2, 1]}"] = "buckets must be numbers, each above the one before",
      ["{buckets: [1, a]}"] = "buckets must be numbers, each above the one before (at "
        .. "stats.buckets[1])",
      ["{help: a}"] = "help must be a map of texts by name",
      ["{help: {a: 1}}"] = "help must be a map of texts by name (at stats.help.a)",
      ["[]"] = "the configuration must be a map",
    } do
      local daemon = segue.start { policy = policy, files = { ["config.yaml"] = "{}\n" } }
      daemon.dir:write("config.yaml", "stats: " .. text .. "\n")
      local done = segue.cli({ "reload" }, { cwd = daemon.dir.path })
      assert.equal(3, done.code, done:describe())
      assert.truthy(done.output:find(wanted, 1, true), done.output)
      daemon:stop()
    end
  end)
end)
