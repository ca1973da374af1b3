-- SPDX-License-Identifier: MIT
-- Tasks: hooks that wait, under a simulated clock: sleep, limit, cancel, and where waiting is
-- refused.
local bind = require "spec.support.bind"
local fresh = require "spec.support.fresh"

local b
local open = fresh(bind.open, function(opened) b = opened end)

local function policy(body, more)
  return assert(b:load(([[local segue = require "segue"
return { sources = { segue.value {} }, %s check = function(next, prev)
%s
end }]]):format(more or "", body)))
end

describe("segue.sleep", function()
  it("waits as long as requested, and not longer", function()
    local call = b:start_check(policy 'segue.sleep "1s" segue.sleep(0.5) return true')
    b:advance(1499)
    assert.is_false(call:is_over())
    b:advance(1)
    assert.is_true(call:is_over() and call:answer().ok)
  end)
  it("waits within pcall, iterators and metamethods", function()
    local call = b:start_check(policy [[
      local ok = pcall(function() segue.sleep "1s" end)
      for _ in function(_, x) segue.sleep "1s" return not x or nil end do end
      local t = setmetatable({}, { __index = function() segue.sleep "1s" return 7 end })
      return ok and t.x == 7]])
    b:advance(4000)
    assert.is_true(call:answer().ok)
  end)
  it("lets several hooks wait side by side, each in its own time", function()
    local p = policy 'segue.sleep(next.s) return nil, "slept " .. next.s'
    local slow, fast = b:start_check(p, "s: 3"), b:start_check(p, "s: 1")
    assert.equal(2, b:stats().tasks)
    b:advance(1000)
    assert.is_false(slow:is_over())
    assert.equal("slept 1", fast:answer().message)
    b:advance(2000)
    assert.equal("slept 3", slow:answer().message)
    assert.equal(0, b:stats().tasks)
  end)
  it("reports an error after it with the line of the error", function()
    local call = b:start_check(policy 'segue.sleep "1s"\nerror "late"')
    b:advance(1000)
    assert.equal("reload.lua:4: late", call:answer().text)
  end)

  local refusals = {
    { "a wrong time", 'segue.sleep "soon"', "segue.sleep: the time must be a duration such as" },
    { "no time", "segue.sleep()", "segue.sleep: the time must be a duration" },
    { "waiting within sort", "table.sort({ 1, 2 }, function() segue.sleep(1) end)",
      "cannot wait here: it was called through a function that cannot be left" },
    { "waiting within gsub", "('x'):gsub('x', function() segue.sleep(1) end)", "cannot wait here" },
    { "waiting within a coroutine", "coroutine.wrap(function() segue.sleep(1) end)()",
      "cannot wait inside a coroutine of the policy's own" },
    { "a yield of the hook itself", "coroutine.yield(1)",
      "coroutine.yield outside of a coroutine" },
  }
  for _, case in ipairs(refusals) do
    it("refuses " .. case[1] .. " before anything has started", function()
      local answer = b:start_check(policy(case[2])):answer()
      assert.equal("SEGUE_EPOLICY", answer.status)
      assert.truthy(answer.message:find(case[3], 1, true), answer.text)
      assert.equal(3, answer.line)
      assert.equal(0, b:stats().tasks)
    end)
  end
end)

describe("a task", function()
  it("that waits too long is ended, and the message names the operation", function()
    local call = b:start_check(policy('\nsegue.sleep "1h"', 'timeouts = { check = "2s" },'))
    b:advance(2000)
    local answer = call:answer()
    assert.equal("SEGUE_ETIMEOUT", answer.status)
    assert.truthy(answer.message:find("check took longer than 1999 ms; it was waiting for "
      .. "segue.sleep", 1, true), answer.text)
    assert.equal(4, answer.line)
    assert.equal(0, b:stats().tasks)
    b:advance(10000000)
  end)
  it("that sleeps again and again reaches its limit as well", function()
    local call = b:start_check(policy 'while true do pcall(segue.sleep, 0.01) end')
    b:advance(5000)
    assert.equal("SEGUE_ETIMEOUT", call:answer().status)
  end)
  it("is cancelled when its caller's deadline passes", function()
    local p = policy 'segue.sleep "3s" segue.state.woke = true return true'
    local call = b:start_check(p, "{}", nil, 1000)
    b:advance(1000)
    assert.equal("SEGUE_ETIMEOUT", call:answer().status)
    assert.equal(0, b:stats().tasks)
    b:advance(5000)
    assert.is_true(b:check(policy "return segue.state.woke == nil").ok)
  end)
  it("cannot be resumed by the policy, neither waiting nor over", function()
    local p = policy [[
      if not segue.state.again then
        segue.state.again = true
        kept = coroutine.running()
        segue.sleep "1s"
        return true
      end
      local ok, why = coroutine.resume(kept)
      return nil, tostring(ok) .. " " .. tostring(why)]]
    local first = b:start_check(p)
    local second = b:start_check(p)
    assert.truthy(second:answer().message:find("false cannot resume a task's coroutine", 1, true))
    b:advance(1000)
    assert.is_true(first:answer().ok)
    assert.truthy(b:check(p).message:find("false cannot resume a dead coroutine", 1, true))
  end)
  it("may use coroutines of its own", function()
    local answer = b:run [[
      local co = coroutine.create(function(a, b)
        local c = coroutine.yield(a + b)
        assert(coroutine.running() and coroutine.isyieldable())
        error("done " .. c)
      end)
      local ok, sum = coroutine.resume(co, 1, 2)
      assert(ok and sum == 3 and coroutine.status(co) == "suspended")
      local failed, why = coroutine.resume(co, "x")
      assert(not failed and why:find("done x") and coroutine.status(co) == "dead")
      assert(not coroutine.resume(co))
      local each = coroutine.wrap(function() for i = 1, 3 do coroutine.yield(i) end end)
      return each() + each() + each() == 6]]
    assert.is_true(answer.ok, answer.text)
  end)
  it("leaves nothing behind when its policy's state is broken by another", function()
    open { slice_ms = 30 }
    local p = policy [[if next.wait then segue.sleep "4s" return true end
      if next.spin then while true do end end
      return true]]
    local waiting = b:start_check(p, "wait: true")
    assert.equal("SEGUE_ETIMEOUT", b:start_check(p, "spin: true"):answer().status)
    assert.is_true(b:start_check(p, "{}"):answer().ok)
    b:step()
    assert.is_true(waiting:is_over())
    assert.equal("SEGUE_ECANCELLED", waiting:answer().status)
    b:advance(10000)
  end)
end)
