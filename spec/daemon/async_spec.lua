-- SPDX-License-Identifier: MIT
-- The async library of policies, in the running daemon: triggers of its own, probes,
-- and commands that must not outlive it.
local http = require "spec.support.http_server"
local segue = require "spec.support.segue"
local uv = require "luv"
local wait = require "spec.support.wait"

local function policy(text)
  return "local segue = require 'segue'\n" .. text
end

describe("segue.trigger", function()
  after_each(segue.cleanup)

  local waiting = [[
    return { sources = { segue.file "config.yaml" }, triggers = {
      segue.trigger(function(fire)
        local seen = segue.read "go"
        print("trigger begins %s")
        while true do
          segue.sleep "10ms"
          local now = segue.read "go"
          if now ~= seen then
            seen = now
            fire("go changed")
          end
        end
      end) }, debounce = { min = "10ms" } }]]

  local function start(text)
    return segue.start { policy = policy(text or waiting:format("1")),
      files = { ["config.yaml"] = "a: 1\n", go = "0" } }
  end

  it("requests a reload with its cause", function()
    local d = start()
    d:wait_log("trigger begins 1")
    d.dir:write("config.yaml", "a: 2\n")
    d.dir:save("go", "1")
    d:wait_config(function(config) return config.a == 2 end)
    d:wait_log('cause="go changed')
    local metrics = d:control("/metrics").body
    assert.matches('segue_triggers_total{trigger="push"} 1\n', metrics)
  end)

  it("continues while its policy is live, and ends with it", function()
    local d = start()
    d:wait_log("trigger begins 1")
    for i = 2, 5 do
      d.dir:write("config.yaml", ("a: %d\n"):format(i))
      d.dir:save("go", tostring(i))
      d:wait_config(function(config) return config.a == i end)
    end
    local _, begins = d:log():gsub("trigger begins 1", "")
    assert.equal(1, begins)
    d.dir:save("reload.lua", policy(waiting:format("2")))
    assert.equal(200, (d:reload()))
    d:wait_log("trigger begins 2")
    -- A policy that is refused starts nothing.
    d.dir:save("reload.lua", policy('print("trigger begins 3") return { sources = {} }'))
    assert.equal(422, (d:reload()))
    d.dir:save("reload.lua", policy((waiting:format("4"):gsub("debounce",
      "check = function() return nil, 'no' end, debounce"))))
    assert.equal(422, (d:reload()))
    assert.is_nil(d:log():find("trigger begins 4", 1, true))
  end)

  it("begins again after an error, and after its state was built again", function()
    local d = start [[
      segue.state.runs = (segue.state.runs or 0)
      return { sources = { segue.value {} }, triggers = { segue.trigger(function()
        segue.state.runs = segue.state.runs + 1
        print("run " .. segue.state.runs)
        if segue.state.runs == 1 then error "lost it" end
        if segue.state.runs == 2 then while true do end end
        segue.sleep "1h"
      end) } }]]
    d:wait_log("run 1\n")
    d:wait_log('a trigger of the policy failed error="[^\n]*reload.lua:6: lost it" again_ms=1000')
    d:wait_log("run 2\n")
    d:wait_log("run 3\n", 20000)
    assert.equal(200, (d:reload("?force=1")))
  end)

  it("does not keep the daemon from stopping", function()
    local d = start [[return { sources = { segue.value {} }, triggers = {
      segue.trigger(function() segue.run { "sleep", "1000", timeout = 0 } end),
      segue.trigger(function() segue.resolve "no-such-host.invalid" segue.sleep "1h" end),
      segue.trigger(function(fire) fire() segue.sleep(0) fire("x") end) } }]]
    wait.until_true(function() return #d.process:children() == 1 end)
    local pid = d.process:children()[1]
    d:stop()
    assert.is_nil(uv.fs_stat("/proc/" .. pid))
  end)

  it("does not slow the loop down: a hundred of them wait in a daemon that answers", function()
    local d = start [[
      local list = {}
      for i = 1, 100 do
        list[i] = segue.trigger(function() while true do segue.sleep "10ms" end end)
      end
      return { sources = { segue.value {} }, triggers = list }]]
    for _ = 1, 20 do assert.equal(200, d:control("/-/healthy").status) end
  end)
end)

describe("a confirm probe", function()
  after_each(segue.cleanup)

  local function try(probe, files)
    local d = segue.start { policy = policy(([[
      return { sources = { segue.file "config.yaml" }, triggers = {},
        confirm = { within = "2s", probe = %s } }]]):format(probe)),
      files = { ["config.yaml"] = "a: 1\n", good = "" }, ready = true }
    for name, text in pairs(files or {}) do d.dir:write(name, text) end
    return d
  end

  local function outcome(d)
    d.dir:write("config.yaml", ("a: %d\n"):format(math.random(1e9)))
    local status, answer = d:reload()
    local message = answer.errors and answer.errors[1] and answer.errors[1].message
    return status, tostring(message)
  end

  it("by command undoes a reload when the command fails", function()
    local d = try '{ call = 0 } and segue.probe.command { "test", "-e", "good" }'
    assert.equal(200, (outcome(d)))
    d.dir:delete("good")
    local status, message = outcome(d)
    assert.equal(500, status)
    assert.matches("test %-e good exited with code 1", message)
  end)

  it("by HTTP needs a status, and by TCP a listener", function()
    local server = http.start()
    local d = try(('segue.probe.tcp "127.0.0.1:%d"'):format(server.port))
    assert.equal(200, (outcome(d)))
    local e = try(('segue.probe.http("http://127.0.0.1:%d/", { timeout = "200ms" })')
      :format(server.port))
    e:wait_log("generation 1 is live") -- it was ready while it was being confirmed
    server:stop()
    local status, message = outcome(d)
    assert.equal(500, status)
    assert.matches("no server answers on http://127.0.0.1:%d+", message)
  end)
end)
