-- SPDX-License-Identifier: MIT
-- check, plan and run take the same path up to and including prepare: an input that one of them
-- rejects is rejected by the others with the same message and exit code. check and plan name the
-- steps after prepare.
local cjson = require "cjson"
local segue = require "spec.support.segue"

local policy = [[
local segue = require "segue"
return {
  name = "agree",
  sources = { segue.file "config.yaml" },
  triggers = { segue.signal "HUP" },
  modules = {
    log = { kind = "c", plugin = "log", config = "log" },
    front = { kind = "lua", code = "front.lua", needs = { "log" } },
  },
  check = function(next) if next.bad then return nil, "bad is set" end return true end,
  @MORE@
}]]
local good_log, good_front = "log: {file: app.log, level: info}\n", "return { stop = print }\n"

local function files(case)
  return { policy = policy:gsub("@MORE@", function() return case.more or "" end),
    files = { ["config.yaml"] = case.config or good_log,
      ["front.lua"] = case.front or good_front } }
end

-- All lines but the one that names the kind of result.
local function reasons(text) return text:match "^[^\n]*\n(.*)$" end

describe("check, plan and run", function()
  after_each(segue.cleanup)

  local refused = {
    ["a plugin that refuses its configuration"] = { config = "log: {file: app.log, level: loud}\n",
      code = 3, why = "config%.yaml:1:29: level must be error, warn, info or debug" },
    ["a plugin that cannot be prepared"] = { config = "log: {file: no/such/folder/app.log}\n",
      code = 4, why = "no/such/folder/app%.log cannot be made" },
    ["a module whose code does not load"] = { front = "error 'x'\n", code = 3,
      why = "front%.lua:1: x" },
    ["a module without its part"] = { front = good_front, config = "x: 1\n", code = 3,
      why = "log" },
    ["a veto"] = { config = good_log .. "bad: 1\n", code = 3, why = "bad is set" },
    ["a veto with a system error"] = { more = "schema = 'no.json',", code = 4, why = "no%.json" },
    ["text that cannot be read"] = { config = "log: [\n", code = 3, why = "config%.yaml:1:6" },
  }
  for name, case in pairs(refused) do
    it("refuse " .. name .. " alike", function()
      local d = segue.folder(files(case))
      local check, plan, run = d:cli "check", d:cli "plan", d:cli "run"
      assert.same({ case.code, case.code, case.code }, { check.code, plan.code, run.code },
        check.output .. plan.output .. run.output)
      assert.matches(case.why, check.stdout)
      assert.equal(reasons(check.stdout), reasons(reasons(plan.stdout)))
      for line in reasons(check.stdout):gmatch "[^\n]+" do
        assert.truthy(run.output:find(line, 1, true), run.output)
      end
    end)
  end

  it("refuse beside a daemon what its reload refuses", function()
    local d = segue.start(files {})
    for name, case in pairs(refused) do
      if not case.more then
        d.dir:save("config.yaml", case.config or good_log)
        d.dir:save("front.lua", case.front or good_front)
        local plan, reload = d:cli "plan", d:cli "reload"
        assert.same({ case.code, case.code }, { plan.code, reload.code }, name .. plan.output)
        assert.equal(reasons(reload.stdout), reasons(plan.stdout), name)
        assert.equal(1, d:json "/api/v1/status".generation)
      end
    end
  end)

  it("name the steps that they do not try", function()
    local d = segue.folder(files { front = "return { start = function() error 'no' end }\n",
      more = 'confirm = { probe = function() return true end, within = "1s" },' })
    local check, plan = d:cli "check", d:cli "plan"
    assert.equal(0, check.code, check.output)
    assert.equal(0, plan.code, plan.output)
    local untried = "not tried: start log; start front; confirm by the probe\n"
    assert.matches("^good: [^\n]*reload%.lua and its configuration\nnot tried: [^\n]+\n$",
      check.stdout)
    assert.truthy(check.stdout:find(untried, 1, true), check.stdout)
    assert.truthy(plan.stdout:find("\n" .. untried, 1, true), plan.stdout)
    assert.same({ "start log", "start front", "confirm by the probe" },
      cjson.decode(d:cli("check", "--json").stdout).not_tried)
    assert.is_nil(d.dir:read "app.log") -- prepare makes nothing
    assert.equal(4, d:cli("run").code)
  end)

  it("name no step if none is left", function()
    local d = segue.folder { policy = [[local segue = require "segue"
      return { sources = { segue.file "config.yaml" } }]], files = { ["config.yaml"] = "a: 1\n" } }
    assert.matches("^good: [^\n]*reload%.lua and its configuration\n$", d:cli("check").stdout)
  end)

  it("do not run the policy's reload, and report that", function()
    local d = segue.start(files { more = [[reload = function(txn)
      if txn.next.tested then return nil, "nginx -t says no" end
      txn:prepare() return txn:commit()
    end,]] })
    d.dir:save("config.yaml", good_log .. "tested: 1\n")
    local plan = d:cli "plan"
    assert.equal(0, plan.code, plan.output)
    assert.matches("\nnot tried: run the policy's reload; start front\n", plan.stdout)
    local reload = d:cli "reload"
    assert.equal(3, reload.code)
    assert.matches("nginx %-t says no", reload.stdout)
  end)
end)
