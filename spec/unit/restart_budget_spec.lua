-- SPDX-License-Identifier: MIT
-- core/process/restart_budget.h: restarts in a time, and the pauses between them.
local C = require "spec.support.c"
local ffi = C.ffi

local budget, limits
before_each(function()
  budget = ffi.new "segue__restart_budget[1]"
  limits = ffi.new "segue__restart_limits[1]"
  limits[0] = { 3, 10000, 100, 1000, 60000 }
end)
after_each(function() C.segue__restart_budget_deinit(budget) end)

local function take(now, ran, random)
  return tonumber(C.segue__restart_budget_take(budget, limits, now, ran or 0, random or 0))
end

describe("the budget of restarts", function()
  it("has so many in a time, and refills with time alone", function()
    assert.equal(0, take(0))
    assert.equal(100, take(1000))
    assert.equal(200, take(2000))
    assert.equal(-1, take(9999))
    -- A child that ran for long loses its back-off, not the restarts that it had.
    assert.equal(-1, take(9999, 70000))
    assert.equal(0, take(10000, 70000))
    assert.equal(-1, take(10999))
    assert.is_true(take(11000) >= 0)
  end)

  it("has none at all with restarts = 0", function()
    limits[0].restarts = 0
    assert.equal(-1, take(0))
  end)

  it("doubles the pause up to a limit, until a child was stable", function()
    limits[0].restarts = 1000
    local pauses = {}
    for i = 1, 7 do pauses[i] = take(i) end
    assert.same({ 0, 100, 200, 400, 800, 1000, 1000 }, pauses)
    for i = 8, 60 do assert.equal(1000, take(i)) end
    assert.equal(1000, take(61, 59999))
    assert.equal(0, take(62, 60000))
  end)

  it("takes up to a quarter off the pause at random", function()
    limits[0].restarts = 1000
    for _ = 1, 6 do take(0) end
    local least, most = 1000, 0
    for random = 0, 600 do
      local pause = take(0, 0, random)
      least, most = math.min(least, pause), math.max(most, pause)
    end
    assert.same({ 750, 1000 }, { least, most })
  end)
end)
