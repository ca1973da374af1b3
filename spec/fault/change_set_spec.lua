-- SPDX-License-Identifier: MIT
-- kill -9 at every step of a change set of two modules: between preparing them, between starting
-- them, at the flip, while the generation is confirmed, while it is recorded, while it is undone.
-- The next start serves the old generation or the new one: configuration, modules, record and what
-- the modules did outside belong to the same one.
local cjson = require "cjson"
local kill = require "spec.support.killed"
local plugin = require "spec.support.plugin"
local segue = require "spec.support.segue"
local tempdir = require "spec.support.tempdir"
local wait = require "spec.support.wait"

local policy = [[
local segue = require "segue"
return {
  name = "two",
  sources = { segue.file "a.yaml", segue.file "b.yaml" },
  triggers = {},
  modules = {
    ledger = { kind = "c", plugin = "ledger", config = "ledger", replace = "handover" },
    port = { kind = "c", plugin = "port", config = "port", replace = "restart",
      needs = { "ledger" } },
  },
  confirm = { hold = "20ms", within = "60s", probe = function() return true end },
}]]

describe("a change set of two modules", function()
  local host

  -- The host is linked with the library that has fault points.
  setup(function() host = plugin.fault_host("two_modules", "spec/fault/two_modules.c") end)
  after_each(segue.cleanup)

  local function save(d, n)
    d.dir:save("a.yaml", ("ledger: {n: %d}\n"):format(n))
    d.dir:save("b.yaml", ("port: {n: %d}\n"):format(n))
  end

  local function start()
    return segue.start { binary = host, policy = policy, dir = tempdir.new(),
      env = { TWO_MODULES_LUA = segue.tree .. "/lua" },
      files = { ["a.yaml"] = "ledger: {n: 1}\n", ["b.yaml"] = "port: {n: 1}\n" } }
  end

  local armed, killed = kill.arm, kill.wait
  local function ask(d, path) return (kill.ask(d, path)) end

  local function out(d, name) return tonumber(d.dir:read(name .. ".out")) end

  -- Checks that every place that stores a generation has the same one; returns its n.
  local function whole(d)
    d:wait_ready()
    local config, status = d:config(), d:json "/api/v1/status"
    local n = config.ledger.n
    assert.same({ ledger = { n = n }, port = { n = n } }, config)
    assert.equal(n, out(d, "ledger"))
    assert.equal(n, out(d, "port"))
    local modules = d:json "/api/v1/modules"
    assert.equal(2, #modules)
    for _, module in ipairs(modules) do
      assert.equal("serving", module.state)
      assert.equal("open", module.gate)
      assert.equal(status.generation, module.generation, cjson.encode(module))
    end
    return n
  end

  -- The next start uses new numbers, and every part can change again.
  local function goes_on(d)
    local before, top = d:json "/api/v1/status".generation, kill.top(d)
    save(d, 50)
    local status, answer = d:reload()
    assert.equal(200, status, cjson.encode(answer))
    assert.is_true(answer.generation > before and answer.id > top)
    assert.equal(50, whole(d))
    wait.until_true(function() return d:json "/api/v1/reloads"[1].id >= answer.id end, nil,
      "the history")
  end

  -- The start reaches each point once, and so does the reload; points of the record more often.
  local points = { "prepare.1", "prepare.2", "prepare.3", "commit.1", "commit.2", "commit.3",
    "commit.flip", "confirm.open", "confirm.done", "settle.record", "state.open", "state.sync",
    "last_good.open", "last_good.sync", "history.commit" }

  local long = kill.mark("#long", { "commit.2", "commit.flip", "history.commit", "commit.2#2",
    "commit.flip#2", "state.sync#2", "last_good.sync#1" })

  for _, point in ipairs(points) do
    it("that is killed at " .. point .. " of a start is old or new after the next"
      .. long(point), function()
      local d = start()
      d:stop()
      save(d, 2)
      armed(d, point .. "=kill")
      killed(d, point)
      d:spawn()
      assert.equal(2, whole(d)) -- which the sources still say
      goes_on(d)
    end)

    it("that is killed at " .. point .. " of a start is old or new where the sources are gone"
      .. long(point), function()
      local d = start()
      d:stop()
      save(d, 2)
      armed(d, point .. "=kill")
      killed(d, point)
      d.dir:save("a.yaml", "ledger: [")
      d:spawn()
      local n = whole(d)
      assert.is_true(n == 1 or n == 2)
      assert.equal("string", type(d:json "/api/v1/status".stale_since))
      goes_on(d)
    end)
  end

  -- The point in a reload that follows a start with the previous configuration: that start calls no
  -- probe and records nothing.
  local strikes = { ["settle.record"] = { 2, 3, 4 }, ["state.open"] = { 1, 2 },
    ["state.sync"] = { 1, 2 }, ["confirm.open"] = { 1 }, ["confirm.done"] = { 1 },
    ["last_good.open"] = { 1 }, ["last_good.sync"] = { 1 } }
  for _, point in ipairs(points) do
    for _, strike in ipairs(strikes[point] or { 2 }) do
      for _, gone in ipairs { false, true } do
        local name = point .. "#" .. strike
        it("that is killed at " .. name .. " of a reload is old or new after the next start"
          .. (gone and ", where the sources are gone" or "") .. long(name), function()
          local d = start()
          d:stop()
          armed(d, name .. "=kill")
          d:wait_ready()
          save(d, 2)
          local answered = ask(d, "/-/reload")
          killed(d, name)
          if gone then d.dir:save("a.yaml", "ledger: [") end
          d:spawn()
          local n = whole(d)
          assert.is_true(n == 1 or n == 2)
          if answered == 200 or not gone then assert.equal(2, n) end
          goes_on(d)
        end)
      end
    end
  end

  -- commit.3 fails after both have started: a fresh instance takes over the old port.
  for _, point in ipairs { "undo.fresh", "commit.3" } do
    it("that is killed at " .. point .. " of an undo is the old one where the new one is gone",
    function()
      local d = start()
      d:stop()
      armed(d, point == "undo.fresh" and "commit.3#2=fail,undo.fresh=kill" or "commit.3#2=kill")
      d:wait_ready()
      save(d, 2)
      assert.is_nil(ask(d, "/-/reload"))
      killed(d, point)
      assert.equal(2, out(d, "port")) -- it had gone so far
      save(d, 1)
      d:spawn()
      assert.equal(1, whole(d))
      goes_on(d)
    end)
  end
end)
