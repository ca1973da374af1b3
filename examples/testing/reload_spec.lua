-- SPDX-License-Identifier: MIT
-- Run by `segue test`.
local testing = require "segue.testing"

describe("the policy", function()
  local t, verdict

  before_each(function()
    t = testing.policy "reload.lua"
    verdict = true
    t:on_run(function(argv)
      assert.same({ "my-server", "--check" }, argv)
      return verdict
    end)
    assert.equal("applied", t:start().outcome)
  end)

  it("lets workers change by at most half", function()
    t:file("config.yaml", "workers: 2\nrelease: false")
    local result = t:signal "HUP"
    assert.equal("rejected", result.outcome)
    assert.equal("workers would go from 8 to 2: at most half at once", result.errors[1].message)
    assert.equal(8, t:config "workers")

    t:file("config.yaml", "workers: 12\nrelease: false")
    result = t:signal "HUP"
    assert.equal("applied", result.outcome)
    assert.same({ { op = "change", path = "workers", to = "12" } }, result.changes)
  end)

  it("asks the server to check, and reports its message", function()
    verdict = { code = 1, stderr = "unknown option in line 3\n", seconds = 4 }
    t:file("config.yaml", "workers: 9\nrelease: false")
    local result = t:watch "config.yaml"
    assert.equal("rejected", result.outcome)
    assert.matches("unknown option in line 3", result.errors[1].message)
    assert.equal(4, result.seconds)
  end)

  it("rejects when the server does not answer in time", function()
    verdict = { seconds = 60 }
    t:file("config.yaml", "workers: 9\nrelease: false")
    local result = t:signal "HUP"
    assert.equal("rejected", result.outcome)
    assert.is_true(result.seconds <= 10)
  end)

  it("waits while a release is on, and catches up by itself", function()
    t:file("config.yaml", "workers: 8\nrelease: true")
    assert.equal("applied", t:signal("HUP").outcome)
    t:file("config.yaml", "workers: 9\nrelease: true")
    local result = t:signal "HUP"
    assert.equal("deferred", result.outcome)
    assert.equal("a release is on", result.errors[1].message)
    t:file("config.yaml", "workers: 9\nrelease: false")
    t:advance "5m"
    assert.equal(9, t:config "workers")
  end)

  it("finds a change at the next poll", function()
    t:file("config.yaml", "workers: 10\nrelease: false")
    local results = t:advance "61s"
    assert.equal(1, #results)
    assert.equal("poll", results[1].trigger)
    assert.equal("applied", results[1].outcome)
  end)
end)
