-- SPDX-License-Identifier: MIT
-- Every hook of a policy does everything that hurts: each time the error names file and line, the
-- daemon continues to serve, the live configuration stays, and segue.state survives.
local acts = require "spec.support.hostile"
local segue = require "spec.support.segue"

-- The act of a hook is in a file, "HOOK ACT", so that the policy stays the same. One act a line.
local lines = { [[local segue = require "segue"; local acts = {}]] }
local line_of = {}
for _, act in ipairs(acts) do
  lines[#lines + 1] = ("function acts.%s() %s end"):format(act[1], act[2])
  line_of[act[1]] = #lines
end
lines[#lines + 1] = [[function acts.waits() segue.sleep "1h" end]]
local policy
local template = table.concat(lines, "\n") .. [[

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
  timeouts = { check = "@TIME@", reload = "@TIME@" },
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

-- spec/daemon/budget_spec.lua does all of it in one hook. Here each hook does the endless loop and
-- the plain error; in `make test-long` a quarter of the others, and a wait that is too long.
local function some(offset, long)
  local list = {}
  for i, act in ipairs(acts) do
    local always = i == 1 or act[1] == "an_error"
    if always ~= long and (always or i % 4 == offset) then list[#list + 1] = act end
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

-- The clock ends only a hook that waits (long); all others are ended by their CPU time before. A
-- probe is asked again until its window is over, so that is short.
local function start(long)
  policy = template:gsub("@TIME@", long and "5s" or "60s")
  local d = segue.start { policy = policy, files = { ["config.yaml"] = "n: 0\n", act = "none" } }
  return d, d:config().n
end

describe("a hook that hurts", function()
  after_each(segue.cleanup)

  -- True where the answer of the reload reports the error.
  local function is_an_outcome(hook, offset, long)
    local d, live = start(long)
    local before = checks(d)
    local ran = 0
    local function try(name, sentence, line)
      d.dir:save("act", hook .. " " .. name)
      config(d)
      local status, answer = d:reload()
      ran = ran + 1
      assert.is_true(status == 422 or status == 500, ("%s: %d"):format(name, status))
      local e = answer.errors[1]
      -- On a busy machine a few seconds of the clock may be over before the CPU time is.
      local cut_off = (long or hook == "probe") and e.message:find("not done after", 1, true)
      -- Code that uses memory also uses time: under a sanitizer the time may be over first.
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
    for _, act in ipairs(some(offset % 4, long)) do try(act[1], act[3], line_of[act[1]]) end
    if long then try("waits", "") end
    assert.equal(before + ran + 1, checks(d))
    config(d)
    assert.equal(200, (d:reload()))
  end
  for offset, hook in ipairs { "check", "on_output", "reload", "probe" } do
    it(hook .. ", is an outcome with its place", function() is_an_outcome(hook, offset, false) end)
    it(hook .. " in other ways, is an outcome with its place #long", function()
      is_an_outcome(hook, offset, true)
    end)
  end

  local function is_in_the_log(long)
    local d = start(long)
    local before = checks(d)
    config(d)
    assert.equal(200, (d:reload()))
    local live = d:config().n
    local list = some(2, long)
    if long then list[#list + 1] = { "waits" } end
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
  end
  it("strategy, is logged, and the source stays as it was", function()
    is_in_the_log(false)
  end)
  it("strategy in other ways, is logged, and the source stays as it was #long", function()
    is_in_the_log(true)
  end)

  local function begins_again(long)
    local d = start(long)
    local before = checks(d)
    local list = some(3, long)
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
  end
  it("a trigger, is logged, and begins again", function() begins_again(false) end)
  it("a trigger in other ways, is logged, and begins again #long", function()
    begins_again(true)
  end)

  local function keeps_the_policy(long)
    local d, live = start(long)
    local before = checks(d)
    for _, act in ipairs(some(1, long)) do
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
  end
  it("while the policy is loaded, keeps the live policy", function()
    keeps_the_policy(false)
  end)
  it("in other ways while the policy is loaded, keeps the live policy #long", function()
    keeps_the_policy(true)
  end)

  -- The engine waits one millisecond longer than the hook may take, and its message names no place.
  it("works before it waits: the message names the operation and the place", function()
    local d = segue.folder { policy = [[
local segue = require "segue"
return { sources = { segue.value { a = 1 } }, triggers = {}, timeouts = { check = "300ms" },
  check = function()
    for _ = 1, 2000000 do end
    segue.sleep "1h"
  end }
]] }
    local p = d:cli "check"
    assert.equal(3, p.code, p.output)
    assert.matches("reload.lua:5: check took longer than 299 ms; it was waiting for segue.sleep",
      p.stdout, 1, true)
  end)
end)
