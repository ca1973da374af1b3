-- SPDX-License-Identifier: MIT
-- kill -9 at every step of a reload and of a start that writes files which outlive the process: the
-- next start serves the old generation or the new one, whole; numbers continue; earlier answers
-- stay correct.
local cjson = require "cjson"
local http = require "spec.support.http"
local kill = require "spec.support.killed"
local segue = require "spec.support.segue"
local tempdir = require "spec.support.tempdir"
local wait = require "spec.support.wait"

tempdir.on_disk()

local policy = [[
local segue = require "segue"
return {
  name = "record",
  sources = { segue.file "a.yaml", segue.file "b.yaml" },
  @MORE@
}]]

-- The highest number of a reload that an answer had.
local reported = 0
-- An event stream of the daemon, from its first event on: what clients have seen.
local stream

local function ready(d)
  d:wait_ready()
  stream = http.connect { socket = d:socket() }
  stream:write(http.format { path = "/api/v1/events", headers = { ["Last-Event-ID"] = "0" } })
  stream:read_until("retry: ")
end

-- The lowest and highest number of a reload, and the highest of a generation, among events.
local function numbers_in(text)
  local low, high, generation = math.huge, 0, 0
  for kind, data in text:gmatch "event: (%a+)\ndata: ([^\n]+)\n\n" do
    local event = cjson.decode(data)
    if kind ~= "module" then low, high = math.min(low, event.id), math.max(high, event.id) end
    generation = math.max(generation, event.generation or 0)
  end
  return low, high, generation
end

-- The highest numbers that were seen before the daemon was killed.
local function seen()
  if not stream then return 0, 0 end
  local _, reload, generation = numbers_in(stream:read_all())
  stream = nil
  return reload, generation
end

local function start(options)
  reported, stream = 0, nil
  return segue.start { policy = (policy:gsub("@MORE@",
    options and options.more or "")), files = { ["a.yaml"] = "x: 1\n", ["b.yaml"] = "y: 1\n",
    ["m.lua"] = options and options.code } }
end

local function put(d, n)
  d.dir:save("a.yaml", ("x: %d\n"):format(n))
  d.dir:save("b.yaml", ("y: %d\n"):format(n))
end

local armed, killed = kill.arm, kill.wait

local function ask(d, path)
  local status, answer = kill.ask(d, path)
  if answer and answer.id then reported = math.max(reported, answer.id) end
  return status
end

-- The live generation is one of the two as a whole, and the next reload has new numbers.
local function check(d, old, new)
  local reload, generation = seen()
  ready(d)
  local config = d:config()
  assert.equal(config.x, config.y)
  assert.truthy(config.x == old or config.x == new, cjson.encode(config))
  local before = d:json "/api/v1/status".generation
  local top = math.max(reported, kill.top(d))
  put(d, 50)
  local status, answer = d:reload "?force=1"
  assert.equal(200, status, cjson.encode(answer))
  reported = 0
  assert.is_true(answer.generation > before)
  assert.is_true(answer.id > top)
  assert.is_true(answer.generation > generation)
  -- no number that was seen before the kill is seen again
  assert.is_true(numbers_in(stream:read_until("event: settled\ndata: [^\n]*\"id\":"
    .. answer.id .. ",[^\n]*\n\n")) > reload)
  assert.same({ x = 50, y = 50 }, d:config())
  -- every number is in the history once, and every generation with its outcome
  wait.until_true(function() return d:json "/api/v1/reloads"[1].id >= answer.id end, nil, "history")
  local listed = {}
  for _, entry in ipairs(d:json "/api/v1/reloads?limit=1000") do
    assert.is_nil(listed[entry.id])
    listed[entry.id] = true
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
      ready(d)
      put(d, 2)
      local status = ask(d, "/-/reload")
      killed(d)
      local answered = status == 200
      d:spawn()
      local x = check(d, 1, 2)
      -- the files contain 2; an answered client finds exactly that
      if answered then assert.equal(2, x) end
    end)

    it("at " .. point .. " leaves old or new, also when the files are broken then" .. long(point),
    function()
      local d = start()
      d:stop()
      d.dir:delete ".segue/last-good.a"
      armed(d, point .. "=kill")
      ready(d)
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

-- A schema, which is compiled again when it changes, and a check of the policy.
local checks = [[schema = "schema.json",
  check = function(next) return next.x == next.y, "x is not y" end,]]

local function started_with_checks()
  reported, stream = 0, nil
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
      ready(d)
      d.dir:save("schema.json", '{"type": "object", "required": ["x"]}')
      put(d, 2)
      assert.is_nil(ask(d, "/-/reload"))
      killed(d)
      d:spawn()
      assert.equal(2, check(d, 1, 2))
    end)

    it("at " .. point .. " of a start leaves old or new", function()
      local d = started_with_checks()
      d:stop()
      put(d, 2)
      armed(d, point .. "=kill")
      killed(d)
      d:spawn()
      assert.equal(2, check(d, 1, 2))
    end)
  end
end)

describe("kill -9 while the last good generation is brought back", function()
  after_each(segue.cleanup)

  local long = kill.mark("#long", { "check.policy", "settle.record" })
  -- The sources are broken, so all phases after collect belong to the restored generation.
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
      check(d, 1, 1)
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
      ready(d)
      put(d, 2)
      assert.is_nil(ask(d, "/-/reload"))
      killed(d)
      d:spawn()
      wait.until_true(function()
        local ok, r = pcall(d.control, d, "/api/v1/config")
        return ok and r.status == 200 and cjson.decode(r.body).x == 1
      end, 20000, function() return "what was before: " .. d:log() end)
      assert.equal(1, check(d, 1, 1))
    end)
  end
end)

describe("kill -9 after a number was seen", function()
  after_each(segue.cleanup)

  -- A policy whose module holds a reload open while it starts.
  local module = [[modules = { m = { kind = "lua", code = "m.lua", config = "x" } },]]
  local code = [[local segue = require "segue"
    return { start = function(config) if config > 1 then segue.sleep("600s") end end }]]

  -- Starts a daemon without a watch, which would take numbers, runs act, kills the daemon, and
  -- starts it again with other sources: the numbers that were seen before the kill and after it.
  local function numbers(act, faults, triggers)
    local d = start { more = ("triggers = { %s },"):format(triggers or 'segue.signal "HUP"') }
    d:stop()
    armed(d, faults or "")
    ready(d)
    act(d)
    d:crash()
    local reload, generation = seen()
    put(d, 3)
    d:spawn()
    ready(d)
    d:wait_config(function(config) return config.x == 3 end)
    local text = stream:read_until 'event: settled\ndata: [^\n]*"trigger":"start"[^\n]*\n\n'
    local next, _, next_generation = numbers_in(text)
    return { reload, generation }, { next, next_generation }
  end

  local function greater(before, after)
    assert.is_true(after[1] > math.max(before[1], reported),
      cjson.encode { before, after, reported })
    assert.is_true(after[2] > before[2], cjson.encode { before, after })
  end

  it("assigns it to no other reload where the history has no entry yet", function()
    -- The record thread stops before the entry; the first entry is that of the start.
    greater(numbers(function(d)
      d.dir:save("a.yaml", "x: [")
      assert.equal(422, ask(d, "/-/reload"))
    end, "history.add#2=hang"))
  end)

  it("assigns it to no other reload where it was a plan, which has no entry", function()
    greater(numbers(function(d)
      put(d, 2)
      assert.equal(200, ask(d, "/api/v1/plan"))
    end))
  end)

  it("assigns it to no other reload where it was a look that found nothing", function()
    greater(numbers(function()
      wait.until_true(function()
        return stream.input:find('"trigger":"poll".*"trigger":"poll"')
      end, nil, "two looks")
    end, nil, 'segue.poll "100ms"'))
  end)

  it("assigns it to no other reload where the disk refused the first write of numbers", function()
    greater(numbers(function(d)
      d:wait_log "no numbers of reloads can be reserved"
      put(d, 2)
      assert.equal(200, ask(d, "/-/reload"))
    end, "numbers.write#1=fail:-28,history.add=hang"))
  end)

  it("assigns that of a generation to no other one where its module was starting", function()
    local d = start { more = module, code = code }
    ready(d)
    put(d, 2)
    d:control { method = "POST", path = "/-/reload?wait=0" }
    wait.until_true(function()
      return stream.input:find '"module":"m","generation":2,'
    end, nil, function() return "its events: " .. stream.input .. d:log() end)
    d:crash()
    local _, generation = seen()
    assert.equal(2, generation)
    d.dir:write("m.lua", "return { start = function() end }")
    put(d, 3)
    d:spawn()
    d:wait_ready()
    assert.equal(3, d:config().x)
    assert.is_true(d:json "/api/v1/status".generation > generation)
  end)

  it("costs one write for a block of numbers, and a stop leaves no gap", function()
    local d = start()
    local function written()
      return { d.dir:read ".segue/numbers.a", d.dir:read ".segue/numbers.b" }
    end
    assert.equal(200, (d:reload "?force=1"))
    local before = written()
    for _ = 1, 5 do assert.equal(200, (d:reload "?force=1")) end
    assert.same(before, written())
    for _ = 1, 4 do assert.equal(200, (d:reload "?force=1")) end
    assert.not_same(before, written())
    local last = d:json "/api/v1/reloads"[1]
    d:stop()
    put(d, 2)
    d:spawn()
    d:wait_ready()
    wait.until_true(function() return kill.top(d) == last.id + 1 end, nil, "the start's entry")
    assert.equal(last.generation + 1, d:json "/api/v1/status".generation)
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
      check(d, 2, 3)
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
      ready(d)
      assert.is_nil(ask(d, "/api/v1/freeze?why=x"))
      killed(d)
      d:spawn()
      d:wait_ready()
      if frozen(d) then assert.equal(200, ask(d, "/api/v1/unfreeze")) end
      check(d, 1, 1)
    end)

    it("to unfreeze at " .. point .. " does not lose the freeze that was answered for", function()
      local d = start()
      assert.equal(200, ask(d, "/api/v1/freeze?why=x"))
      d:stop()
      armed(d, point .. "=kill")
      ready(d)
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
    it("to roll back at " .. point .. " is complete or has no effect" .. long(point), function()
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
      ready(d)
      assert.is_nil(ask(d, "/api/v1/rollback"))
      killed(d)
      d:spawn()
      d:wait_ready()
      local config, to = d:config(), d:json "/api/v1/status".rolled_back_to
      assert.equal(config.x, config.y)
      -- reverted and reported, or the sources' value and no report
      assert.equal(config.x == 1, to ~= cjson.null)
      assert.truthy(config.x == 1 or config.x == 2)
      check(d, 1, 2)
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
      ready(d)
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
      -- an unconfirmed generation still waits for its confirmation
      if not confirmed and config.x == 2 then
        assert.not_equal(cjson.null, status.unconfirmed)
        assert.equal(200, ask(d, "/api/v1/confirm"))
      end
      segue.cleanup()
    end
  end)
end)
