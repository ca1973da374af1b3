-- SPDX-License-Identifier: MIT
-- Policies that hurt, in the daemon: each is an outcome that names file and line, in the answer and
-- with its traceback in the log, and the daemon continues to serve.
local acts = require "spec.support.hostile"
local cjson = require "cjson"
local http = require "spec.support.http"
local segue = require "spec.support.segue"

local head = [[
local segue = require "segue"
local acts, private = {}, 0
]]
local body = {}
for _, act in ipairs(acts) do
  body[#body + 1] = ("function acts.%s() %s end"):format(act[1], act[2])
end
local policy = head .. table.concat(body, "\n") .. [[

return {
  name = "budget",
  sources = { segue.file "config.yaml" },
  triggers = { segue.http "127.0.0.1:@PORT@" },
  timeouts = { check = "60s" }, -- of the clock; the CPU time is over first, also on a busy machine
  check = function(next)
    private = private + 1
    segue.state.checks = (segue.state.checks or 0) + 1
    if next.act == "count" then return nil, segue.state.checks .. " checks" end
    if next.act ~= "none" then acts[next.act]() end
    return true
  end,
}
]]

-- CPU time that a daemon has used, in ms: the load of other programs does not count.
local function cpu_ms(d)
  local file = assert(io.open(("/proc/%d/stat"):format(d.process.pid)))
  local utime, stime = file:read("*a"):match("%) %S+" .. (" %S+"):rep(10) .. " (%d+) (%d+)")
  file:close()
  return 10 * (utime + stime)
end

local function reload(d)
  local response = d:http { method = "POST", path = "/-/reload",
    headers = { Accept = "application/json" }, deadline_ms = 30000 }
  return response.status, cjson.decode(response.body)
end

describe("the daemon, with a policy whose check", function()
  after_each(segue.cleanup)

  it("does everything that hurts, continues to serve", function()
    local d = segue.start { policy = policy, args = { "--log-level", "debug" },
      files = { ["config.yaml"] = "act: none\nn: 0\n" } }
    local generation = d:json("/api/v1/status").generation
    for i, act in ipairs(acts) do
      local from = #d:log()
      d.dir:save("config.yaml", ("act: %s\nn: %d\n"):format(act[1], i))
      local status, answer = reload(d)
      assert.is_true(status == 422 or status == 500, act[1] .. ": " .. status)
      local e = answer.errors[1]
      assert.truthy(e.message:find(act[3], 1, true), act[1] .. ": " .. e.message)
      assert.truthy(e.file:find("reload.lua", 1, true), act[1])
      assert.equal(2 + i, e.line, act[1] .. ": " .. e.message)
      d:wait_log("traceback.*reload%.lua:" .. (2 + i), 5000, from)
      assert.equal(200, d:http "/-/healthy".status)
      assert.equal(generation, d:json("/api/v1/status").generation)
      assert.equal("none", d:config().act)
    end
    d.dir:save("config.yaml", "act: count\n")
    local _, answer = reload(d)
    assert.equal((#acts + 2) .. " checks", answer.errors[1].message)
    d.dir:save("config.yaml", "act: none\nn: 1000\n")
    assert.equal(200, (reload(d)))
    assert.equal(1000, d:config().n)
  end)

  it("spins, is blocked for no longer than the budget of a hook", function()
    local d = segue.start { policy = policy, files = { ["config.yaml"] = "act: none\n" } }
    d.dir:save("config.yaml", "act: spin\n")
    local spinning = http.connect { port = d.port }
    spinning:write(http.format { method = "POST", path = "/-/reload", port = d.port })
    local longest, over = 0, false
    while not over do
      local before = cpu_ms(d)
      assert.equal(200, d:http "/-/healthy".status)
      longest = math.max(longest, cpu_ms(d) - before)
      over = spinning.size > 0
    end
    assert.is_true(longest >= 100, "nothing was spinning")
    assert.is_true(longest < 1000, ("a request waited for %d ms of CPU time"):format(longest))
    assert.equal(422, spinning:read_response(10000).status)
    spinning:close()
  end)
end)

describe("the daemon, with a policy that", function()
  after_each(segue.cleanup)
  local good = [[local segue = require "segue"
return { sources = { segue.file "config.yaml" }, %s }]]
  local bad = {
    { "spins at its top level", "while true do end\n" .. good:format "", "CPU time", 1 },
    { "eats memory at its top level", "local t = {} while true do t[#t + 1] = { 1 } end", "", 1 },
    { "is bytecode", "\27LJ\2\0", "bytecode", 1 },
    { "spins in reload", good:format "reload = function() while true do end end",
      "CPU time", 2 },
    { "throws in reload", good:format "reload = function() error 'broken' end", "broken", 2 },
    { "spins in its probe",
      good:format "confirm = { within = '2s', probe = function() while true do end end }",
      "CPU time", 2 },
    { "throws in its probe",
      good:format "confirm = { within = '1s', probe = function() error 'broken' end }",
      "broken", 2 },
  }
  for _, case in ipairs(bad) do
    it(case[1] .. " keeps the policy that it has", function()
      local d = segue.start { policy = good:format "", files = { ["config.yaml"] = "n: 1\n" } }
      d.dir:save("config.yaml", "n: 2\n")
      d.dir:save("reload.lua", case[2])
      local status, answer = d:reload()
      assert.is_true(status == 422 or status == 500, tostring(status))
      local e = answer.errors[1]
      -- On a busy machine the window of a probe may be over before its CPU time is.
      if not e.message:find("not done after", 1, true) then
        assert.truthy(e.message:find(case[3], 1, true), e.message)
        assert.truthy(e.file:find("reload.lua", 1, true), e.message)
        assert.equal(case[4], e.line, e.message)
      end
      assert.equal(1, d:config().n)
      d.dir:save("reload.lua", good:format "" .. " --")
      assert.equal(200, (d:reload()))
      assert.equal(2, d:config().n)
    end)
  end

  for name, task in pairs { ["throws in a trigger"] = "error 'broken'",
    ["spins in a trigger"] = "while true do end" } do
    it(name .. " serves, and says so in its log", function()
      local d = segue.start { policy = good:format(
        "triggers = { segue.trigger(function()\n" .. task .. " end) }"),
        files = { ["config.yaml"] = "n: 1\n" } }
      d:wait_log("reload%.lua:3")
      d.dir:save("config.yaml", "n: 2\n")
      assert.equal(200, (d:reload()))
      assert.equal(2, d:config().n)
    end)
  end

  it("reads configuration in Lua accepts a good one, and rejects one that spins", function()
    local d = segue.start {
      policy = 'local segue = require "segue"\nreturn { sources = { segue.lua_file "conf.lua" } }',
      files = { ["conf.lua"] = "return { n = 1 + 1 }" } }
    assert.equal(2, d:config().n)
    d.dir:save("conf.lua", "\nwhile true do end")
    local status, answer = d:reload()
    assert.equal(422, status)
    assert.truthy(answer.errors[1].file:find("conf.lua", 1, true))
    assert.equal(2, answer.errors[1].line)
    -- An error has its place, and the lines that led to it.
    d.dir:save("conf.lua", "local function inner(t)\n  return t.x.y\nend\n"
      .. "local function outer(t)\n  local r = inner(t)\n  return r\nend\n"
      .. "local n = outer({})\nreturn { n = n }\n")
    status, answer = d:reload()
    assert.equal(422, status)
    assert.truthy(answer.errors[1].file:find("conf.lua", 1, true))
    assert.equal(2, answer.errors[1].line)
    assert.matches("attempt to index field 'x' %(a nil value%) %(called from line 5, 8%)",
      answer.errors[1].message)
    d:wait_log("conf%.lua:2[^\n]*called from line 5, 8")
    assert.equal(2, d:config().n)
    -- It is evaluated on the worker: the loop answers meanwhile, and the watch sees the repair.
    d.dir:save("conf.lua", "return { n = 3 }")
    d:wait_config(function(config) return config.n == 3 end)
  end)
end)
