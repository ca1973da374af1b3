-- SPDX-License-Identifier: MIT
-- Run by `segue test`.
local testing = require "segue.testing"

describe("the policy", function()
  local t, slow

  before_each(function()
    slow = {}
    t = testing.policy "reload.lua"
    t:on_module(function(name, verb)
      if slow[name .. " " .. verb] then return { seconds = slow[name .. " " .. verb] } end
    end)
    assert.equal("applied", t:start().outcome)
  end)

  local function change(size, port)
    t:file("config.yaml", ("store: { size: %d }\nfront: { port: %d }\n"):format(size, port))
    return t:signal "HUP"
  end

  it("waits for a store that drains in time", function()
    slow["store drain"] = 4
    local result = change(200, 8080)
    assert.equal("applied", result.outcome)
    assert.is_true(result.seconds >= 4)
    assert.equal(200, t:config "store.size")
  end)

  it("takes the change back when the store does not drain", function()
    slow["store drain"] = 3600
    local result = change(200, 8080)
    assert.equal("reverted", result.outcome)
    assert.matches("store", result.errors[1].message)
    assert.equal(100, t:config "store.size")
    local words = {}
    for _, done in ipairs(t:operations()) do words[#words + 1] = done.name .. " " .. done.verb end
    assert.matches("store drain.*store stop.*store prepare.*store start$", table.concat(words, " "))
    slow = {}
    assert.equal("applied", change(300, 8080).outcome) -- the next one is not held up by it
  end)

  it("waits longer for an old front, and cuts it in the end", function()
    slow["front drain"] = 3600
    assert.equal("applied", change(100, 9090).outcome)
    t:advance "29s"
    assert.falsy(t:log():find("drain cut short", 1, true))
    local _, warnings = t:log():gsub("exceeded its time limit: waiting once more", "")
    assert.equal(2, warnings)
    t:advance "2s"
    assert.truthy(t:log():find("drain cut short", 1, true))
  end)
end)
