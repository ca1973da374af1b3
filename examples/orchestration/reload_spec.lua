-- SPDX-License-Identifier: MIT
-- Run by `segue test`.
local testing = require "segue.testing"

describe("the policy", function()
  local t, failing

  before_each(function()
    failing = nil
    t = testing.policy "reload.lua"
    t:on_module(function(name, verb)
      if failing == name .. " " .. verb then
        failing = nil
        return false, "no memory"
      end
    end)
    assert.equal("applied", t:start().outcome)
  end)

  -- The operations on modules since the last call, "store stop" and the like.
  local seen = 0
  local function done()
    local words, all = {}, t:operations()
    for i = seen + 1, #all do words[#words + 1] = all[i].name .. " " .. all[i].verb end
    seen = #all
    return table.concat(words, ", ")
  end

  local function change(store, night)
    seen = #t:operations()
    t:file("config.yaml", ("night: %s\nfront: { port: 8080 }\nstore: { size: %d }\n"
      .. "workers: { threads: 4 }\n"):format(tostring(night), store))
    return t:signal "HUP"
  end

  it("restarts the store, then both workers, which have not changed", function()
    assert.equal("applied", change(200, true).outcome)
    local order = done()
    assert.truthy(order:find("store drain, store stop, store start.*left start"), order)
    assert.truthy(order:find("store start.*right start"), order)
    assert.falsy(order:find("front", 1, true), order)
    assert.equal(200, t:config "store.size")
  end)

  it("takes everything back when a worker does not start", function()
    failing = "right start"
    local result = change(200, true)
    assert.equal("reverted", result.outcome)
    assert.matches("no memory", result.errors[1].message)
    assert.equal(100, t:config "store.size")
    local order = done()
    assert.truthy(order:find("store start.*store stop.*store start"), order)
  end)

  it("puts a change of the store off by day, and makes it at night", function()
    assert.equal("deferred", change(200, false).outcome)
    assert.equal("", done())
    t:file("config.yaml", "night: true\nfront: { port: 8080 }\nstore: { size: 200 }\n"
      .. "workers: { threads: 4 }\n")
    t:advance "10m"
    assert.equal(200, t:config "store.size")
  end)

  it("leaves everything to the plan where the store stays as it is", function()
    seen = #t:operations()
    t:file("config.yaml", "night: false\nfront: { port: 9090 }\nstore: { size: 100 }\n"
      .. "workers: { threads: 4 }\n")
    assert.equal("applied", t:signal("HUP").outcome)
    assert.falsy(done():find("store", 1, true))
  end)
end)
