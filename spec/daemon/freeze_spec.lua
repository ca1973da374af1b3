-- SPDX-License-Identifier: MIT
-- A freeze holds over every kind of end, and refuses who asks.
local cjson = require "cjson"
local back = require "spec.support.back"
local segue = require "spec.support.segue"
local wait = require "spec.support.wait"

local apply, post, put, restart = back.apply, back.post, back.put, back.restart
local rollback, start, status_of = back.rollback, back.start, back.status_of

describe("a freeze", function()
  after_each(segue.cleanup)

  local function freeze(d, why)
    local cli = d:cli("freeze", why or "the release weekend")
    assert.equal(0, cli.code, cli:describe())
  end

  describe("while a generation waits to be confirmed", function()
    local function waiting()
      local d = start { more = 'confirm = { by = "operator", within = "60s" },', ready = false }
      wait.until_true(function()
        local ok, status = pcall(post, d, "/api/v1/confirm")
        return ok and status == 200
      end, nil, "the start to confirm")
      d:wait_ready()
      put(d, 2)
      local generation = select(2, d:reload()).generation
      freeze(d)
      return d, generation
    end

    it("does not end that when the daemon is killed", function()
      local d, generation = waiting()
      restart(d, "kill")
      assert.equal(2, d:config().x)
      local status = status_of(d)
      assert.equal(generation, status.generation)
      assert.equal("operator", status.unconfirmed.by)
      assert.equal("the release weekend", status.frozen.why)
      assert.equal(200, (post(d, "/api/v1/confirm")))
      restart(d, "kill")
      assert.equal(2, d:config().x)
    end)

    it("serves the previous one if the sources have changed meanwhile", function()
      local d = waiting()
      d:crash()
      put(d, 3)
      d:spawn()
      d:wait_ready()
      assert.equal(1, d:config().x)
      assert.equal(cjson.null, status_of(d).unconfirmed)
      assert.equal("the release weekend", status_of(d).frozen.why)
    end)
  end)

  it("rejects explicit requests with the reason, and postpones triggers", function()
    local d = start { triggers = "segue.watch()" }
    freeze(d)
    put(d, 2)
    wait.until_true(function() return status_of(d).frozen.missed > 0 end, nil, "the trigger")
    d:signal "hup" -- due at once, and before any plan
    wait.until_true(function()
      return d:control("/metrics").body:find('segue_triggers_total{trigger="signal"} 1', 1, true)
    end, nil, "the signal")
    assert.equal(200, (post(d, "/api/v1/plan")))
    assert.equal(1, d:config().x)
    assert.is_true(status_of(d).frozen.missed > 0)
    assert.equal(423, (post(d, "/-/reload?wait=0")))
    local status, _, text = post(d, "/-/reload")
    assert.equal(423, status)
    assert.matches("the release weekend %(segue unfreeze ends that%)", text)
    local cli = d:cli("reload")
    assert.equal(6, cli.code)
    assert.matches("the release weekend", cli.stderr)
    assert.equal(423, (rollback(d)))
    assert.equal(6, d:cli("rollback").code)
    assert.matches("segue_frozen 1\n", d:control("/metrics").body)
    local hold = status_of(d).frozen
    assert.equal("the release weekend", hold.why)
    assert.truthy(hold.by ~= "")
    assert.matches("^%d%d%d%d%-", hold.since)
    assert.matches("frozen[^\n]*the release weekend", d:cli("status").stdout)
    assert.equal(200, d:control("/-/ready").status)
    assert.equal(0, d:cli("unfreeze").code)
    d:wait_config(function(c) return c.x == 2 end)
    assert.matches("segue_frozen 0\n", d:control("/metrics").body)
    assert.equal(cjson.null, status_of(d).frozen)
  end)

  it("allows plans", function()
    local d = start()
    freeze(d)
    put(d, 2)
    local status, answer = post(d, "/api/v1/plan")
    assert.equal(200, status)
    assert.equal(1, answer.change_count)
    assert.equal(0, d:cli("plan").code)
    assert.equal(1, d:config().x)
  end)

  for _, how in ipairs { "stop", "kill" } do
    it("holds over a restart by " .. how .. ": what was live is, whatever the files say", function()
      local d = start()
      local generation = apply(d, 2)
      freeze(d, 'odd "reason"; a=b\\n 100% \195\164')
      assert.matches("config.yaml +file +up ", d:cli("status").stdout)
      put(d, 3)
      restart(d, how)
      assert.equal(2, d:config().x)
      assert.matches("config.yaml +file +unread ", d:cli("status").stdout)
      local metrics = d:control("/metrics").body
      assert.matches('segue_source_fetches_total{source="config.yaml"} 0\n', metrics)
      assert.not_matches("segue_source_up{", metrics)
      local status = status_of(d)
      assert.equal(cjson.null, status.sources[1].up)
      assert.equal(generation, status.generation)
      assert.equal('odd "reason"; a=b\\n 100% \195\164', status.frozen.why)
      assert.equal(cjson.null, status.stale_since)
      assert.equal(423, (post(d, "/-/reload")))
      -- the daemon has lost the postponed triggers, so it reads the sources when the freeze ends
      assert.equal(0, d:cli("unfreeze").code)
      d:wait_config(function(c) return c.x == 3 end)
      assert.matches('segue_source_up{source="config.yaml"} 1\n', d:control("/metrics").body)
      assert.is_true(status_of(d).sources[1].up)
      restart(d, how)
      assert.equal(cjson.null, status_of(d).frozen)
    end)
  end

  it("keeps its reason when another operator freezes, and ends once", function()
    local d = start()
    freeze(d, "one")
    local status, _, text = post(d, "/api/v1/freeze?why=two")
    assert.equal(409, status)
    assert.matches("reloads are frozen already, by .*: one %(segue unfreeze ends that%)", text)
    assert.equal(6, d:cli("freeze", "two").code)
    assert.equal("one", status_of(d).frozen.why)
    assert.equal(0, d:cli("unfreeze").code)
    local cli = d:cli("unfreeze")
    assert.equal(6, cli.code)
    assert.matches("reloads are not frozen", cli.stderr)
    assert.equal(409, (post(d, "/api/v1/unfreeze")))
  end)

  it("needs a reason", function()
    local d = start()
    assert.equal(400, (post(d, "/api/v1/freeze")))
    assert.equal(400, (post(d, "/api/v1/freeze?why=")))
    assert.equal(2, d:cli("freeze").code)
    assert.equal(405, d:control("/api/v1/freeze").status)
    assert.equal(cjson.null, status_of(d).frozen)
  end)

  it("with a reason of any length is shown with its beginning", function()
    local d = start()
    assert.equal(200, (post(d, "/api/v1/freeze?why=" .. ("w"):rep(2000))))
    assert.matches("^w+$", status_of(d).frozen.why)
    restart(d, "kill")
    assert.matches("^w+$", status_of(d).frozen.why)
  end)

  it("that cannot be recorded is refused, and changes nothing", function()
    local d = start { env = { SEGUE_FAULTS = "state.write=fail:-28" } }
    local status, _, text = post(d, "/api/v1/freeze?why=x")
    assert.equal(500, status)
    assert.matches("nothing was changed: .*state%.a cannot be written: no space left", text)
    assert.equal(cjson.null, status_of(d).frozen)
    assert.equal(4, d:cli("freeze", "x").code)
    apply(d, 2)
    restart(d, "kill")
    assert.equal(cjson.null, status_of(d).frozen)
  end)

  it("that did not reach the disk is absent after a restart, although it was written", function()
    local d = start { env = { SEGUE_FAULTS = "state.sync=fail" } }
    assert.equal(500, (post(d, "/api/v1/freeze?why=x")))
    d.options.env = nil
    restart(d, "kill")
    assert.equal(cjson.null, status_of(d).frozen)
  end)
end)
