-- SPDX-License-Identifier: MIT
-- Run by `segue test`.
local testing = require "segue.testing"

local noon, night = 1767225600 + 12 * 3600, 1767225600 + 3 * 3600

describe("the policy", function()
  local t

  local function start(now)
    t = testing.policy("reload.lua", { now = now })
    assert.equal("applied", t:start().outcome)
  end
  local function change(size, port, urgent)
    t:file("config.yaml", ("urgent: %s\nstore: { size: %d }\nfront: { port: %d }\n"):format(
      tostring(urgent or false), size, port))
    return t:signal "HUP"
  end

  it("puts a restart off by day, and makes it when the window opens", function()
    start(noon)
    assert.equal("deferred", change(200, 8080).outcome)
    t:advance "13h59m"
    assert.equal(100, t:config "store.size")
    t:advance "2m"
    assert.equal(200, t:config "store.size")
  end)

  it("restarts at once inside of the window", function()
    start(night)
    assert.equal("applied", change(200, 8080).outcome)
  end)

  it("does not hold up what restarts nothing", function()
    start(noon)
    assert.equal("applied", change(100, 9090).outcome)
    assert.equal(9090, t:config "front.port")
  end)

  it("gives way to what is urgent", function()
    start(noon)
    assert.equal("applied", change(200, 8080, true).outcome)
  end)
end)
