-- SPDX-License-Identifier: MIT
-- CPU time of tasks: a hook has its slice together with everything that it starts, and others have
-- a turn of the loop between tasks that take long.
local async = require "spec.support.async"
local bind = require "spec.support.bind"
local uv = require "luv"

local function cpu_ms()
  local usage = uv.getrusage()
  return (usage.utime.sec + usage.stime.sec) * 1000 + (usage.utime.usec + usage.stime.usec) / 1000
end

local burn = [[
local function burn(ms)
  local till = os.clock() + ms / 1000
  while os.clock() < till do end
end
local _ = burn
]]

describe("a hook and the tasks that it starts", function()
  local b
  before_each(function() b = bind.open { slice_ms = 60 } end)
  after_each(function()
    local opened = b
    b = nil
    if opened then opened:close() end
  end)

  -- Each would take four seconds or more.
  local cases = {
    { "tasks that it does not wait for",
      "for _ = 1, 200 do segue.spawn(burn, 20) end segue.sleep(1) return true" },
    { "one after the other", "for _ = 1, 200 do segue.spawn(burn, 20):wait() end return true" },
    { "all of a list", "local t = {} for i = 1, 200 do t[i] = function() burn(20) end end "
      .. "segue.all(t) return true" },
    { "tasks under a time limit", "for _ = 1, 200 do segue.timeout(9, burn, 20) end return true" },
    { "tasks of tasks", "local function f(n) burn(20) if n > 0 then segue.spawn(f, n - 1):wait() "
      .. "end end f(200) return true" },
    { "tasks beside one that waits again and again",
      "segue.spawn(function() while true do segue.sleep(0.001) end end) "
      .. "for _ = 1, 200 do segue.spawn(burn, 20) end segue.sleep(3600) return true" },
    { "tasks that are shorter than a look at the clock",
      "local function f() for _ = 1, 100 do end end "
      .. "while true do segue.spawn(f):wait() end" },
  }
  for _, case in ipairs(cases) do
    it("have one slice of CPU time together: " .. case[1], function()
      local began = cpu_ms()
      local answer = b:run(burn .. case[2])
      local took = cpu_ms() - began
      assert.is_true(took < 2500, ("it took %d ms of CPU time"):format(took))
      assert.is_false(answer.ok)
      assert.truthy(answer.message:find("check used more than 60 ms of CPU time", 1, true),
        answer.text)
      assert.equal("reload.lua", answer.file, answer.text)
      assert.is_true(answer.line > 1, answer.text)
      assert.is_true(b:run("return true").ok)
    end)
  end

  it("get a new slice after a wait for an outside event", function()
    local answer = b:run(burn .. [[
      for _ = 1, 10 do burn(20) segue.sleep "1ms" end
      local t = {}
      for i = 1, 10 do
        t[i] = function() segue.sleep(i / 1000) burn(20) segue.sleep "1ms" burn(20) end
      end
      segue.all(t)
      for _ = 1, 10 do segue.spawn(function() segue.sleep "1ms" burn(20) end):wait() end
      return true]])
    assert.is_true(answer.ok, answer.text)
  end)

  it("get a new slice even if a task was cancelled before its first turn", function()
    local answer = b:run(burn .. [[
      for _ = 1, 10 do
        local parent = segue.spawn(function() segue.spawn(burn, 1000) end)
        segue.spawn(burn, 1000):cancel()
        parent:wait()
        burn(20)
        segue.sleep "1ms"
      end
      return true]])
    assert.is_true(answer.ok, answer.text)
  end)
end)

describe("tasks that take long", function()
  local a
  before_each(function() a = async.open { slice_ms = 5000 } end)
  after_each(function()
    local opened = a
    a = nil
    if opened then opened:close() end
  end)

  for what, wait in pairs { ["that were just started"] = "",
    ["that waited"] = 'segue.sleep "10ms"' } do
    it(what .. " go on one in each turn of the loop", function()
      local turns = 0
      local pump = a.pump
      a.pump = function(self, predicate, ...)
        return pump(self, function()
          turns = turns + 1
          return predicate()
        end, ...)
      end
      a:run(burn .. ([[
        local t = {}
        for i = 1, 20 do t[i] = function() %s burn(15) return i end end
        local r = segue.all(t)
        for i = 1, 20 do eq(i, r[i]) end]]):format(wait))
      assert.is_true(turns >= 20, turns .. " turns")
    end)
  end

  it("may be cancelled, and end by their limit, while they wait for their turn", function()
    a:run(burn .. [[
      local ran, t = 0, {}
      for i = 1, 20 do
        t[i] = segue.spawn(function()
          segue.sleep "10ms"
          burn(15)
          ran = ran + 1
          for k = 2, 20 do if k ~= i then t[k]:cancel() end end
        end)
      end
      segue.sleep "100ms"
      eq(true, ran < 20)
      for i = 1, 20 do eq(true, t[i]:status() == "done" or t[i]:status() == "cancelled") end
      local late = 0
      local list = {}
      for i = 1, 20 do
        list[i] = function()
          local _, _, code = segue.timeout("50ms", function() segue.sleep "10ms" burn(15) end)
          if code == "SEGUE_ETIMEOUT" then late = late + 1 end
          return true
        end
      end
      segue.all(list)
      eq(true, late > 0)]])
  end)
end)
