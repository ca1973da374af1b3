-- SPDX-License-Identifier: MIT
-- kill -9 at every step of a reload and of a start that touches what outlives the process: the
-- next start serves the old generation or the new one, whole; numbers go on; what was answered for
-- holds.
local cjson = require "cjson"
local kill = require "spec.support.killed"
local segue = require "spec.support.segue"
local wait = require "spec.support.wait"

local policy = [[
local segue = require "segue"
return {
  name = "record",
  sources = { segue.file "a.yaml", segue.file "b.yaml" },
  @MORE@
}]]

-- The highest number of a reload that anybody was told.
local told = 0

local function start(options)
  told = 0
  return segue.start { policy = (policy:gsub("@MORE@",
    options and options.more or "")), files = { ["a.yaml"] = "x: 1\n", ["b.yaml"] = "y: 1\n" } }
end

local function put(d, n)
  d.dir:save("a.yaml", ("x: %d\n"):format(n))
  d.dir:save("b.yaml", ("y: %d\n"):format(n))
end

local armed, killed = kill.arm, kill.wait

local function ask(d, path)
  local status, answer = kill.ask(d, path)
  if answer and answer.id then told = math.max(told, answer.id) end
  return status
end

-- Whole, and numbered on: what is live is one of the two, and the next reload has numbers of its
-- own.
local function judge(d, old, new)
  d:wait_ready()
  local config = d:config()
  assert.equal(config.x, config.y)
  assert.truthy(config.x == old or config.x == new, cjson.encode(config))
  local before = d:json "/api/v1/status".generation
  local top = math.max(told, kill.top(d))
  put(d, 50)
  local status, answer = d:reload "?force=1"
  assert.equal(200, status, cjson.encode(answer))
  told = 0
  assert.is_true(answer.generation > before)
  assert.is_true(answer.id > top)
  assert.same({ x = 50, y = 50 }, d:config())
  -- every number in the history once, and every generation told with what it was
  wait.until_true(function() return d:json "/api/v1/reloads"[1].id >= answer.id end, nil, "history")
  local seen = {}
  for _, reload in ipairs(d:json "/api/v1/reloads?limit=1000") do
    assert.is_nil(seen[reload.id])
    seen[reload.id] = true
  end
  return config.x
end

describe("kill -9 in a reload", function()
  after_each(segue.cleanup)

  -- The first strike is the start's own; the second is the reload's.
  local long = kill.mark("#long", { "commit.flip#2", "last_good.sync#2", "history.commit#2" })
  for _, point in ipairs { "collect.fetch#2", "commit.flip#2", "settle.record#3", "settle.record#4",
    "last_good.open#2", "last_good.write#2", "last_good.sync#2", "history.add#2",
    "history.commit#2" } do
    it("at " .. point .. " leaves old or new" .. long(point), function()
      local d = start()
      d:stop()
      d.dir:delete ".segue/last-good.a" -- so that the start records too
      armed(d, point .. "=kill")
      d:wait_ready()
      put(d, 2)
      local status = ask(d, "/-/reload")
      killed(d)
      local answered = status == 200
      d:spawn()
      local x = judge(d, 1, 2)
      -- files say 2; whoever was answered finds just that
      if answered then assert.equal(2, x) end
    end)

    it("at " .. point .. " leaves old or new, also when the files are broken then" .. long(point),
    function()
      local d = start()
      d:stop()
      d.dir:delete ".segue/last-good.a"
      armed(d, point .. "=kill")
      d:wait_ready()
      put(d, 2)
      local status = ask(d, "/-/reload")
      killed(d)
      d.dir:save("a.yaml", "x: [")
      d:spawn()
      d:wait_ready()
      local config = d:config()
      assert.equal(config.x, config.y)
      assert.truthy(config.x == 1 or config.x == 2)
      if status == 200 then assert.equal(2, config.x) end
      assert.equal("string", type(d:json "/api/v1/status".stale_since))
    end)
  end
end)

-- A schema, which is compiled anew when it changes, and a check of the policy.
local checks = [[schema = "schema.json",
  check = function(next) return next.x == next.y, "x is not y" end,]]

local function started_with_checks()
  told = 0
  local d = segue.folder { policy = (policy:gsub("@MORE@", checks)), files = {
    ["a.yaml"] = "x: 1\n", ["b.yaml"] = "y: 1\n", ["schema.json"] = '{"type": "object"}' } }
  d:spawn()
  d:wait_ready()
  return d
end

describe("kill -9 in a check", function()
  after_each(segue.cleanup)

  for _, point in ipairs { "check.schema", "check.policy" } do
    it("at " .. point .. " of a reload leaves old or new", function()
      local d = started_with_checks()
      d:stop()
      armed(d, point .. "#2=kill")
      d:wait_ready()
      d.dir:save("schema.json", '{"type": "object", "required": ["x"]}')
      put(d, 2)
      assert.is_nil(ask(d, "/-/reload"))
      killed(d)
      d:spawn()
      assert.equal(2, judge(d, 1, 2))
    end)

    it("at " .. point .. " of a start leaves old or new", function()
      local d = started_with_checks()
      d:stop()
      put(d, 2)
      armed(d, point .. "=kill")
      killed(d)
      d:spawn()
      assert.equal(2, judge(d, 1, 2))
    end)
  end
end)

describe("kill -9 while the last good generation is brought back", function()
  after_each(segue.cleanup)

  local long = kill.mark("#long", { "check.policy", "settle.record" })
  -- The sources are broken, so all that comes after collecting is of what is brought back.
  for _, point in ipairs { "collect.fetch#2", "check.schema", "check.policy", "commit.flip",
    "settle.record", "history.add#2", "history.commit#2" } do
    it("at " .. point .. " of a start leaves it to the next start" .. long(point), function()
      local d = started_with_checks()
      d:stop()
      d.dir:save("a.yaml", "x: [")
      armed(d, point .. "=kill")
      killed(d)
      d:spawn()
      d:wait_ready()
      assert.same({ x = 1, y = 1 }, d:config())
      assert.equal("string", type(d:json "/api/v1/status".stale_since))
      judge(d, 1, 1)
    end)
  end
end)

describe("kill -9 on the way back from a probe that fails", function()
  after_each(segue.cleanup)

  local probe = [[check = function(next) segue.state.x = next.x return true end,
  confirm = { within = "500ms", probe = function() return segue.state.x ~= 2, "x is 2" end },]]

  local long = kill.mark("#long", { "undo.flip", "state.sync#4" })
  -- The state is written before and after each window: of the start, then of the reload.
  for _, point in ipairs { "undo.flip", "state.open#4", "state.write#4", "state.sync#4" } do
    it("at " .. point .. " leaves the old one, once the probe has been asked again" .. long(point),
    function()
      local d = start { more = probe }
      wait.until_true(function()
        return d:json "/api/v1/reloads"[1].outcome == "applied"
      end, nil, "the first generation")
      d:stop()
      for _, name in ipairs { "last-good.a", "last-good.b", "state.a", "state.b" } do
        d.dir:delete(".segue/" .. name) -- so that the start asks the probe too
      end
      armed(d, point .. "=kill")
      d:wait_ready()
      put(d, 2)
      assert.is_nil(ask(d, "/-/reload"))
      killed(d)
      d:spawn()
      wait.until_true(function()
        local ok, r = pcall(d.control, d, "/api/v1/config")
        return ok and r.status == 200 and cjson.decode(r.body).x == 1
      end, 20000, function() return "what was before: " .. d:log() end)
      assert.equal(1, judge(d, 1, 1))
    end)
  end
end)

describe("kill -9 between the answer to a reload and its entry in the history", function()
  after_each(segue.cleanup)

  -- Asks, kills the daemon after the answer, and returns the number that was answered and that of
  -- the next start.
  local function numbers(path, faults, prepare, status)
    local d = start { more = 'triggers = { segue.signal "HUP" },' } -- a watch would take numbers
    d:stop()
    armed(d, faults)
    d:wait_ready()
    prepare(d)
    assert.equal(status, ask(d, path))
    local answered = told
    d:crash()
    put(d, 3)
    d:spawn()
    d:wait_ready()
    wait.until_true(function() return d:json "/api/v1/reloads"[1].generation == 2 end, nil, "start")
    return answered, kill.top(d)
  end

  it("leaves its number to a reload that was rejected", function()
    -- The record thread stops before the entry; the first entry is that of the start.
    local answered, next = numbers("/-/reload", "history.add#2=hang", function(d)
      d.dir:save("a.yaml", "x: [")
    end, 422)
    assert.equal(3, answered)
    assert.equal(answered + 1, next)
  end)

  it("leaves its number to a plan, which has no entry", function()
    local answered, next = numbers("/api/v1/plan", "", function(d) put(d, 2) end, 200)
    assert.equal(3, answered)
    assert.equal(answered + 1, next)
  end)
end)

describe("kill -9 in a start", function()
  after_each(segue.cleanup)

  local long = kill.mark("#long", { "collect.fetch", "last_good.write", "history.add" })
  for _, point in ipairs { "history.open", "collect.fetch", "commit.flip", "settle.record",
    "last_good.open", "last_good.write", "last_good.sync", "history.add", "history.commit" } do
    it("at " .. point .. " leaves old or new" .. long(point), function()
      local d = start()
      put(d, 2)
      assert.equal(200, (d:reload()))
      d:stop()
      put(d, 3)
      armed(d, point .. "=kill")
      killed(d)
      d:spawn()
      judge(d, 2, 3)
    end)
  end
end)

describe("kill -9 in a decision", function()
  after_each(segue.cleanup)

  local function frozen(d) return d:json "/api/v1/status".frozen ~= cjson.null end

  for _, point in ipairs { "state.open", "state.write", "state.sync" } do
    it("to freeze at " .. point .. " freezes or does not, and it was not answered for", function()
      local d = start()
      d:stop()
      armed(d, point .. "=kill")
      d:wait_ready()
      assert.is_nil(ask(d, "/api/v1/freeze?why=x"))
      killed(d)
      d:spawn()
      d:wait_ready()
      if frozen(d) then assert.equal(200, ask(d, "/api/v1/unfreeze")) end
      judge(d, 1, 1)
    end)

    it("to unfreeze at " .. point .. " does not lose the freeze that was answered for", function()
      local d = start()
      assert.equal(200, ask(d, "/api/v1/freeze?why=x"))
      d:stop()
      armed(d, point .. "=kill")
      d:wait_ready()
      assert.is_true(frozen(d))
      assert.is_nil(ask(d, "/api/v1/unfreeze"))
      killed(d)
      d:spawn()
      d:wait_ready()
      if point ~= "state.sync" then assert.is_true(frozen(d)) end
    end)
  end

  local long = kill.mark("#long", { "last_good.sync", "settle.record#2", "commit.flip" })
  for _, point in ipairs { "last_good.open", "last_good.sync", "state.open", "state.sync",
    "settle.record", "settle.record#2", "commit.flip" } do
    it("to roll back at " .. point .. " is done or not, never half" .. long(point), function()
      local d = start()
      put(d, 2)
      assert.equal(200, (d:reload()))
      d:stop()
      armed(d, point:match "^[^#]+" .. "=kill")
      if point == "commit.flip" or point:find "settle" then
        -- the start itself passes these
        killed(d)
        armed(d, point:match "^[^#]+" .. "#" .. (point:find "#" and 3 or 2) .. "=kill")
      end
      d:wait_ready()
      assert.is_nil(ask(d, "/api/v1/rollback"))
      killed(d)
      d:spawn()
      d:wait_ready()
      local config, to = d:config(), d:json "/api/v1/status".rolled_back_to
      assert.equal(config.x, config.y)
      -- brought back and said so, or what the sources say and nothing said
      assert.equal(config.x == 1, to ~= cjson.null)
      assert.truthy(config.x == 1 or config.x == 2)
      judge(d, 1, 2)
    end)
  end

  it("to confirm at any write keeps what was answered for", function()
    local more = 'confirm = { by = "operator", within = "600s" },'
    for strike = 1, 3 do
      local d = start()
      d.dir:save("reload.lua", (policy:gsub("@MORE@", more)))
      assert.equal(200, (d:reload()))
      assert.equal(200, ask(d, "/api/v1/confirm"))
      d:stop()
      armed(d, ("state.sync#%d=kill"):format(strike))
      d:wait_ready()
      put(d, 2)
      local live, confirmed = ask(d, "/-/reload"), nil
      if live then confirmed = ask(d, "/api/v1/confirm") end
      if strike <= 2 then
        killed(d)
        assert.is_nil(confirmed)
      else
        assert.equal(200, confirmed)
        d:crash()
      end
      d:spawn()
      d:wait_ready()
      local config, status = d:config(), d:json "/api/v1/status"
      assert.equal(config.x, config.y)
      if confirmed then assert.equal(cjson.null, status.unconfirmed) end
      if live then assert.equal(2, config.x) end
      -- what nobody has confirmed still asks
      if not confirmed and config.x == 2 then
        assert.not_equal(cjson.null, status.unconfirmed)
        assert.equal(200, ask(d, "/api/v1/confirm"))
      end
      segue.cleanup()
    end
  end)
end)
