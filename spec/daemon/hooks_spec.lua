-- SPDX-License-Identifier: MIT
-- Every hook of a policy does everything that hurts: each time it is told with file and line, the
-- daemon goes on serving, the live configuration stays, and segue.state survives.
local acts = require "spec.support.hostile"
local segue = require "spec.support.segue"

-- What a hook does is in a file, "HOOK ACT", so that the policy stays the same. One act a line.
local lines = { [[local segue = require "segue"; local acts = {}]] }
local line_of = {}
for _, act in ipairs(acts) do
  lines[#lines + 1] = ("function acts.%s() %s end"):format(act[1], act[2])
  line_of[act[1]] = #lines
end
lines[#lines + 1] = [[function acts.waits() segue.sleep "1h" end]]
local policy = table.concat(lines, "\n") .. [[

local function act(hook)
  local name = (segue.read "act" or ""):match("^" .. hook .. " (%S+)")
  if name then acts[name]() end
end
return {
  name = "hooks",
  sources = { segue.file "config.yaml" },
  triggers = {
    segue.http "127.0.0.1:@PORT@",
    segue.trigger(function() while true do act "trigger" segue.sleep "10ms" end end),
  },
  timeouts = { check = "5s", reload = "8s" },
  strategy = function() act "strategy" return "pull" end,
  check = function(next)
    segue.state.checks = (segue.state.checks or 0) + 1
    if next.count then return nil, segue.state.checks .. " checks" end
    act "check"
    segue.run { "echo", "x", on_output = function() act "on_output" end }
    return true
  end,
  reload = function(txn)
    act "reload"
    txn:prepare()
    txn:commit()
    txn:confirm()
  end,
  confirm = { within = "1s", probe = function() act "probe" return true end },
}
]]

-- spec/daemon/budget_spec.lua does all of it in one hook; here each hook gets a part, the endless
-- loop and the plain error in any case.
local function some(offset)
  local list = {}
  for i, act in ipairs(acts) do
    if i == 1 or act[1] == "an_error" or i % 4 == offset then list[#list + 1] = act end
  end
  return list
end

local number = 0
local function config(d, text)
  number = number + 1
  d.dir:save("config.yaml", text or ("n: %d\n"):format(number))
end

-- How many times check ran, as segue.state has it.
local function checks(d)
  d.dir:save("act", "none")
  config(d, "count: true\nn: " .. number .. "\n")
  local _, answer = d:reload "?force=1"
  return tonumber(answer.errors[1].message:match "^(%d+) checks$")
end

local function start()
  local d = segue.start { policy = policy, files = { ["config.yaml"] = "n: 0\n", act = "none" } }
  return d, d:config().n
end

describe("a hook that hurts", function()
  after_each(segue.cleanup)

  -- Where the reload's answer tells what happened.
  for offset, hook in ipairs { "check", "on_output", "reload", "probe" } do
    it(hook .. ", is an outcome with its place", function()
      local d, live = start()
      local before = checks(d)
      local ran = 0
      local function try(name, sentence, line)
        d.dir:save("act", hook .. " " .. name)
        config(d)
        local status, answer = d:reload()
        ran = ran + 1
        assert.is_true(status == 422 or status == 500, ("%s: %d"):format(name, status))
        local e = answer.errors[1]
        -- A probe may use up its second on the clock before its CPU time, on a busy machine.
        local cut_off = hook == "probe" and e.message:find("not done after", 1, true)
        -- What takes memory takes time as well: under a sanitizer the time may be over first.
        assert.truthy(cut_off or e.message:find(sentence, 1, true)
          or sentence:find "memory" and e.message:find("CPU time", 1, true),
          name .. ": " .. e.message)
        if line and not cut_off then
          assert.matches("reload%.lua$", e.file, name)
          assert.equal(line, e.line, name .. ": " .. e.message)
        end
        assert.equal(200, d:http("/-/healthy").status)
        assert.equal(live, d:config().n)
      end
      for _, act in ipairs(some(offset % 4)) do try(act[1], act[3], line_of[act[1]]) end
      try("waits", "")
      assert.equal(before + ran + 1, checks(d))
      config(d)
      assert.equal(200, (d:reload()))
    end)
  end

  it("strategy, is told in the log, and the source stays as it was", function()
    local d = start()
    local before = checks(d)
    config(d)
    assert.equal(200, (d:reload()))
    local live = d:config().n
    local list = some(2)
    list[#list + 1] = { "waits" }
    for _, act in ipairs(list) do
      local from = #d:log()
      d.dir:delete "config.yaml"
      d.dir:save("act", "strategy " .. act[1])
      assert.equal(500, (d:reload())) -- its health has changed: strategy is asked
      d:wait_log("the strategy hook failed[^\n]*config%.yaml[^\n]*"
        .. (act[3] and "reload%.lua:" .. line_of[act[1]] .. "[^\n]*" .. act[3]:gsub("%p", "%%%0")
          or "strategy took longer than"), 20000, from)
      assert.equal(200, d:http("/-/healthy").status)
      assert.equal(live, d:config().n)
      assert.equal("pull", d:json("/api/v1/sources")[1].strategy)
      d.dir:save("act", "none")
      config(d)
      assert.equal(200, (d:reload()))
      live = d:config().n
    end
    assert.is_true(checks(d) > before + #list)
  end)

  it("a trigger, is told in the log, and begins again", function()
    local d = start()
    local before = checks(d)
    local list = some(3)
    for i, act in ipairs(list) do
      local from = #d:log()
      d.dir:save("act", "trigger " .. act[1])
      d.dir:save("reload.lua", d:fill(policy) .. ("-- %d\n"):format(i)) -- begins at once
      config(d)
      assert.equal(200, (d:reload()))
      local live = d:config().n
      d:wait_log("a trigger of the policy failed[^\n]*" .. act[3]:gsub("%p", "%%%0"), 20000, from)
      assert.equal(200, d:http("/-/healthy").status)
      assert.equal(live, d:config().n)
    end
    assert.equal(before + #list + 1, checks(d))
  end)

  it("while the policy is loaded, keeps the policy that there is", function()
    local d, live = start()
    local before = checks(d)
    for _, act in ipairs(some(1)) do
      if act[1] ~= "waits_in_gsub" and act[1] ~= "ffi" then
        d.dir:save("part.lua", "local segue = require 'segue'\n" .. act[2])
        d.dir:save("reload.lua", "require 'part'\n" .. d:fill(policy))
        local status, answer = d:reload()
        assert.equal(422, status, act[1])
        local e = answer.errors[1]
        assert.truthy(e.message:find(act[3], 1, true) or e.message:find("CPU time", 1, true)
          or e.message:find("memory", 1, true), act[1] .. ": " .. e.message)
        assert.matches("part%.lua$", e.file, act[1])
        assert.equal(2, e.line, act[1] .. ": " .. e.message)
        assert.equal(200, d:http("/-/healthy").status)
        assert.equal(live, d:config().n)
      end
    end
    d.dir:save("reload.lua", d:fill(policy))
    assert.equal(before + 1, checks(d))
  end)
end)
