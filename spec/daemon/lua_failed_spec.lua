-- SPDX-License-Identifier: MIT
-- A module in Lua that reports by itself that it has failed: self:failed(message).
local front = require "spec.support.lua_module"
local wait = require "spec.support.wait"

local d
before_each(front.prepare)
after_each(function()
  d = nil
  front.cleanup()
end)

local CODE = [[
local me
return {
  start = function(config, self)
    me = self
    %s
  end,
  handle = function(request)
    if request.path == "/die" then me:failed("the pump is gone") end
    if request.path == "/wrong" then
      local ok, why = pcall(me.failed, request.query == "self" and {} or me, request.query)
      return 200, tostring(why)
    end
    return 200, "alive"
  end,
  drain = function() me:failed("while it drains") end,
  stop = function() me:failed("while it stops") end,
}]]

local function start(in_start, more, options)
  d = front.start(CODE:format(in_start or ""), more, options)
end
local function failures() return front.metric 'segue_module_failures_total{module="front"}' end
local function ready() return d:http("/-/ready").status == 200 end
local function until_failed(n)
  wait.until_true(function() return failures() == n end, nil, function() return d:log() end)
end

describe("a module in Lua that reports its failure", function()
  it("is replaced by a fresh instance, each time that it fails", function()
    start(nil, nil, { threads = 2 })
    assert.equal(200, front.get("/die").status)
    until_failed(1)
    wait.until_true(ready, nil, function() return d:log() end)
    assert.equal("alive", front.get("/").body)
    front.get "/die"
    until_failed(2)
    d:wait_log "an instance reported that it failed.*the pump is gone"
    wait.until_true(ready, nil, function() return d:log() end)
    assert.equal("alive", front.get("/").body)
    assert.equal(2, failures())
  end)

  it("lets clients wait if the policy wants that", function()
    start(nil, 'on_failure = "wait"')
    front.get "/die"
    until_failed(1)
    wait.until_true(ready)
    front.get "/die"
    until_failed(2)
    for _ = 1, 3 do assert.equal("alive", front.get("/").body) end
  end)

  it("makes the reload fail that its new instance was for", function()
    start 'if config.value == 2 then self:failed("no such pump") end'
    d.dir:write("config.yaml", "front: { value: 2 }\n")
    local status, answer = d:reload()
    assert.same({ 500, "reverted" }, { status, answer.outcome })
    assert.matches("no such pump", answer.errors[1].message)
    assert.equal("alive", front.get("/").body)
  end)

  it("needs itself and a reason", function()
    start()
    assert.matches("the reason is missing", front.get("/wrong?").body)
    assert.matches("segue.module_self expected", front.get("/wrong?self").body)
    assert.equal(0, failures() or 0)
    assert.equal("alive", front.get("/").body)
  end)
end)
