-- SPDX-License-Identifier: MIT
-- Slow work of one purpose delays no other: a rescan that hangs, and reloads meanwhile.
local segue = require "spec.support.segue"
local tempdir = require "spec.support.tempdir"
local wait = require "spec.support.wait"

local POLICY = [[
local segue = require "segue"
return {
  sources = { segue.file "config.yaml" },
  triggers = { segue.watch { rescan = "100ms" }, segue.http "127.0.0.1:@PORT@" },
}
]]

describe("a rescan that hangs", function()
  after_each(function()
    segue.cleanup()
    tempdir.remove_all()
  end)

  it("delays no reload, and is seen in the metrics", function()
    local d = segue.start { policy = POLICY, files = { ["config.yaml"] = "n: 1\n" },
      env = { SEGUE_FAULTS = "watch.scan=hang", SEGUE_TEST_SCAN_LIMIT_MS = "600000" } }
    local running = 'segue_worker_queue_jobs{queue="watch",state="running"} 1\n'
    wait.until_true(function() return d:http("/metrics").body:find(running, 1, true) end)
    for n = 2, 4 do
      d.dir:write("config.yaml", "n: " .. n .. "\n")
      local status, answer = d:reload()
      assert.same({ 200, n }, { status, d:config().n }, answer)
    end
    local metrics = d:http("/metrics").body
    assert.truthy(metrics:find(running, 1, true))
    local count = 'segue_worker_queue_wait_seconds_count{queue="%s"} '
    assert.truthy(tonumber(metrics:match(count:format "collect" .. "(%d+)")) >= 4)
    assert.equal("1", metrics:match(count:format "watch" .. "(%d+)"))
    assert.matches('segue_worker_queue_wait_seconds_bucket{queue="watch",le="%+Inf"} 1\n', metrics)
    d:crash() -- a thread that hangs is not joined
  end)
end)
