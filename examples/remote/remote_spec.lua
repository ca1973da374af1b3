-- SPDX-License-Identifier: MIT
-- Run by `segue test`: the servers that the policy asks are made up here.
local testing = require "segue.testing"

describe("the policy", function()
  local t, page, values, index

  before_each(function()
    t = testing.policy "reload.lua"
    page = "listen: 127.0.0.1:8080\nupstream: a\nlimit: 5\n"
    values, index = "colour=green\n", 1
    t:on_fetch(function(request)
      if request.url:find("config.internal", 1, true) then return page end
      if not values then return { error = "ECONNREFUSED", message = "the store is away" } end
      local seconds = request.url:find("index=" .. index .. "$") and 50 or 0
      return { status = 200, body = values, headers = { ["x-index"] = tostring(index) },
        seconds = seconds }
    end)
    assert.equal("applied", t:start().outcome)
  end)

  it("puts one over the other", function()
    assert.equal("a", t:config "upstream")
    assert.equal(4, t:config "workers")
    assert.equal("green", t:config "colour")
  end)

  it("finds what changed at the URL within half a minute", function()
    page = page:gsub("limit: 5", "limit: 6")
    t:advance "40s"
    assert.equal(6, t:config "limit")
  end)

  it("gets the changes of the store", function()
    values, index = "colour=red\n", 2
    t:advance "1m"
    assert.equal("red", t:config "colour")
  end)

  it("uses the last delivery of a source that is away, and continues", function()
    values, page = nil, { error = "ECONNREFUSED" }
    t:file("defaults.yaml", "listen: 127.0.0.1:8080\nworkers: 8\n")
    local result = t:reload()
    assert.equal("applied", result.outcome)
    assert.equal(2, #result.errors) -- what is held, and since when
    assert.equal(8, t:config "workers")
    assert.equal("a", t:config "upstream")
    assert.equal("green", t:config "colour")
  end)

  it("holds data that shrinks too much, until an operator accepts it", function()
    page = "listen: 127.0.0.1:8080\n"
    local result = t:reload()
    assert.equal("held", result.outcome)
    assert.matches("went from 3 items to 1", result.errors[1].message)
    assert.equal("a", t:config "upstream")
    assert.equal("applied", t:reload({ accept_shrink = true }).outcome)
    assert.is_nil(t:config "upstream")
  end)

  it("takes no page for people for a configuration", function()
    page = "<!DOCTYPE html><html>Please log in</html>"
    assert.equal("unchanged", t:reload().outcome)
    assert.equal("a", t:config "upstream")
  end)
end)
