-- SPDX-License-Identifier: MIT
-- A generation that an operator has to confirm, over every kind of end.
local cjson = require "cjson"
local back = require "spec.support.back"
local segue = require "spec.support.segue"
local wait = require "spec.support.wait"

local post, put, restart, rollback = back.post, back.put, back.restart, back.rollback
local start, status_of, text_of = back.start, back.status_of, back.text_of

describe("a generation that an operator has to confirm", function()
  after_each(segue.cleanup)

  local function confirmed(within)
    return ('confirm = { by = "operator", within = "%s" },'):format(within or "60s")
  end

  -- The start is confirmed too.
  local function started(within, triggers)
    local d = start { more = confirmed(within), triggers = triggers, ready = false }
    wait.until_true(function()
      local ok, status = pcall(post, d, "/api/v1/confirm") -- not there, or not listening yet
      return ok and status == 200
    end, nil, "the start to confirm")
    d:wait_ready()
    return d
  end

  local function unconfirmed(d, x)
    put(d, x)
    local status, answer = d:reload()
    assert.equal(200, status)
    assert.equal("unconfirmed", answer.outcome)
    assert.equal(x, d:config().x)
    return answer
  end

  -- No earlier generation exists.
  it("ends the daemon, like a failed first load, if it is the first and not confirmed", function()
    local d = start { more = confirmed "1s", ready = false }
    local code = d:wait_exit(20000)
    assert.equal(4, code)
    assert.matches("was not confirmed within 1000 ms", d:log())
    assert.matches("the first generation was not confirmed, and there is no other", d:log())
  end)

  it("is not reverted if it is the first", function()
    local d = start { more = confirmed(), ready = false }
    wait.until_true(function()
      local ok, status = pcall(status_of, d)
      return ok and status.unconfirmed ~= cjson.null
    end, nil, "the first generation")
    local status, _, text = rollback(d)
    assert.equal(404, status)
    assert.matches("no generation before the live one", text)
    assert.equal(1, d:config().x)
    assert.equal(200, (post(d, "/api/v1/confirm")))
    d:wait_ready()
  end)

  it("is reported as unconfirmed, and stays when it is confirmed", function()
    local d = started()
    local answer = unconfirmed(d, 2)
    assert.matches("^%d%d%d%d%-", answer["until"])
    local status = status_of(d)
    assert.equal("operator", status.unconfirmed.by)
    assert.equal(answer.generation, status.generation)
    assert.matches("segue_config_unconfirmed 1\n", d:control("/metrics").body)
    assert.matches("segue confirm makes it stay", d:cli("status").stdout)
    assert.equal(200, d:control("/-/ready").status)
    back.in_history(d, answer.id)
    local table_of = d:cli("history").stdout
    local column, row = table_of:find "GENERATION", table_of:match "\n(%d[^\n]+unconfirmed[^\n]+)"
    assert.matches("^ " .. answer.generation .. " ", row:sub(column - 1)) -- below its title
    local cli = d:cli("confirm")
    assert.equal(0, cli.code, cli:describe())
    assert.equal(cjson.null, status_of(d).unconfirmed)
    assert.matches("segue_config_unconfirmed 0\n", d:control("/metrics").body)
    restart(d, "kill")
    assert.equal(2, d:config().x)
    assert.equal(answer.generation, status_of(d).generation)
    assert.equal(cjson.null, status_of(d).unconfirmed)
  end)

  it("is reported in text with the next step", function()
    local d = started()
    put(d, 2)
    local cli = d:cli("reload")
    assert.equal(0, cli.code)
    assert.matches("unconfirmed: generation %d+ is live until", cli.stdout)
    assert.matches("segue confirm makes it stay, segue rollback reverts it", cli.stdout)
  end)

  it("reverts by itself without a confirmation", function()
    local d = started "1s"
    unconfirmed(d, 2)
    d:wait_config(function(c) return c.x == 1 end)
    wait.until_true(function()
      return d:json("/api/v1/reloads")[1].outcome == "reverted"
    end, nil, "the outcome")
    local last = d:json("/api/v1/reloads")[1]
    assert.matches("the new generation was not confirmed within 1000 ms", last.errors[1].message)
    assert.equal(cjson.null, status_of(d).unconfirmed)
    restart(d, "kill")
    assert.equal(1, d:config().x)
    local _, answer = d:reload()
    assert.equal("unchanged", answer.outcome)
    assert.matches("was rolled back", answer.errors[1].message)
    assert.equal("unconfirmed", select(2, d:reload "?force=1").outcome)
    assert.equal(200, (post(d, "/api/v1/confirm")))
    assert.equal(2, d:config().x)
  end)

  it("is undone at once by a rollback", function()
    local d = started()
    unconfirmed(d, 2)
    local status, answer = rollback(d)
    assert.equal(200, status)
    assert.equal("reverted", answer.outcome)
    assert.matches("undone by", answer.errors[1].message)
    assert.equal(1, d:config().x)
    assert.equal(409, (post(d, "/api/v1/confirm")))
  end)

  it("is undone at once also while reloads are frozen", function()
    local d = started()
    unconfirmed(d, 2)
    assert.equal(200, (post(d, "/api/v1/freeze?why=x")))
    assert.equal(423, (rollback(d, 99)))
    assert.equal(200, (rollback(d)))
    assert.equal(1, d:config().x)
  end)

  it("queues triggers meanwhile", function()
    local d = started("60s", "segue.watch()")
    unconfirmed(d, 2)
    put(d, 3)
    wait.until_true(function() return status_of(d).pending end, nil, "the trigger")
    assert.equal(2, d:config().x)
    assert.equal(200, (post(d, "/api/v1/confirm")))
    d:wait_config(function(c) return c.x == 3 end)
    assert.equal(200, (post(d, "/api/v1/confirm")))
  end)

  for _, how in ipairs { "stop", "kill" } do
    it("waits for the rest of its time after a restart by " .. how, function()
      local d = started "60s"
      local answer = unconfirmed(d, 2)
      local till = status_of(d).unconfirmed["until"]
      restart(d, how)
      assert.equal(2, d:config().x)
      local status = status_of(d)
      assert.equal(answer.generation, status.generation)
      assert.equal(till:sub(1, 16), status.unconfirmed["until"]:sub(1, 16))
      assert.equal(200, (post(d, "/api/v1/confirm")))
      restart(d, how)
      assert.equal(2, d:config().x)
      assert.equal(cjson.null, status_of(d).unconfirmed)
    end)

    it("is reverted when its time passed while no daemon ran, after " .. how, function()
      local d = started "1s"
      unconfirmed(d, 2)
      if how == "kill" then d:crash() else d:stop() end
      local over = os.time() + 2
      wait.until_true(function() return os.time() >= over end, nil, "the end of the window")
      d:spawn()
      d:wait_ready()
      assert.equal(1, d:config().x)
      local status, again = d:reload()
      assert.equal(200, status)
      assert.equal("unchanged", again.outcome)
      assert.equal(1, d:config().x)
      restart(d, how)
      assert.equal(1, d:config().x)
      unconfirmed(d, 3)
      assert.equal(200, (post(d, "/api/v1/confirm")))
    end)
  end

  -- Asks on and on until the generation before is live again: there is an answer all the time.
  local function watch_way_back(d)
    wait.until_true(function()
      local ready = d:control "/-/ready"
      assert.equal(200, ready.status, ready.body)
      local r = d:control "/api/v1/config"
      assert.equal(200, r.status, r.body)
      return cjson.decode(r.body).x == 1
    end, 20000, "the generation before")
    d:wait_settled()
  end

  it("reverts after a restart in the window too, and a generation is live all the time", function()
    local d = started "3s"
    unconfirmed(d, 2)
    local before = status_of(d).generation - 1
    restart(d, "kill")
    assert.equal(2, d:config().x)
    watch_way_back(d)
    local status = status_of(d)
    assert.equal(before, status.generation)
    assert.equal(before, status.rolled_back_to)
    assert.equal(cjson.null, status.stale_since)
    local outcomes = {}
    for _, reload in ipairs(d:json "/api/v1/reloads?limit=2") do
      outcomes[#outcomes + 1] = reload.outcome
    end
    assert.same({ "reverted", "applied" }, outcomes) -- the last good one was replayed first
    restart(d, "kill")
    assert.equal(1, d:config().x)
    assert.equal(before, status_of(d).generation)
  end)

  for _, frozen in ipairs { false, true } do
    it("is reverted after a restart in the window by a rollback that waits for it"
      .. (frozen and ", also while reloads are frozen" or ""), function()
      local d = started()
      unconfirmed(d, 2)
      restart(d, "kill")
      assert.equal(2, d:config().x)
      if frozen then assert.equal(200, (post(d, "/api/v1/freeze?why=x"))) end
      local status, answer = rollback(d)
      assert.equal(200, status, cjson.encode(answer))
      assert.equal("reverted", answer.outcome)
      assert.equal(1, d:config().x)
      assert.equal(answer.generation, status_of(d).generation)
      assert.equal(409, (post(d, "/api/v1/confirm")))
      if frozen then assert.equal(200, (post(d, "/api/v1/unfreeze"))) end
      d:wait_settled()
      assert.equal("unchanged", select(2, d:reload()).outcome) -- and not by itself
      assert.equal(1, d:config().x)
    end)
  end

  it("is undone after a restart although the files of the previous one are damaged", function()
    local d = started()
    unconfirmed(d, 2)
    restart(d, "kill")
    for _, slot in ipairs { ".segue/last-good.a", ".segue/last-good.b" } do
      if d.dir:read(slot) then d.dir:write(slot, "rubbish") end
    end
    local status, answer = rollback(d)
    assert.equal(200, status)
    assert.equal("reverted", answer.outcome)
    assert.equal(1, d:config().x)
    assert.equal(200, d:control("/-/ready").status)
  end)

  -- x = 1 is settled, x = 2 waits when the daemon is killed. Then the check refuses x = 1.
  it("is the first one after a restart if the one before cannot be brought back", function()
    local check = [[check = function(next)
      if next.x > 1 then return true end
      return segue.run { "test", "!", "-e", "sick" }.code == 0, "x is bad"
    end,]]
    local text = text_of(confirmed()):gsub("check = .*end,", function() return check end)
    local d = start { policy = text, ready = false }
    wait.until_true(function()
      local ok, status = pcall(post, d, "/api/v1/confirm")
      return ok and status == 200
    end, nil, "the start to confirm")
    unconfirmed(d, 2)
    d:crash()
    d.dir:write("sick", "")
    d:spawn()
    d:wait_log "the last good generation cannot be brought back"
    wait.until_true(function()
      local ok, now = pcall(status_of, d)
      return ok and now.unconfirmed ~= cjson.null
    end, nil, "the generation that waits")
    local ready = d:control "/-/ready"
    assert.equal(503, ready.status)
    assert.matches("the first generation is not confirmed yet", ready.body)
    assert.equal(404, (rollback(d)))
    assert.equal(200, (post(d, "/api/v1/confirm")))
    d:wait_ready()
    assert.equal(2, d:config().x)
  end)

  it("cannot be confirmed when there is none", function()
    local d = start()
    local status, _, text = post(d, "/api/v1/confirm")
    assert.equal(409, status)
    assert.matches("no generation waits to be confirmed", text)
    assert.equal(6, d:cli("confirm").code)
    assert.equal(405, d:control("/api/v1/confirm").status)
  end)

  it("does not go live if its deadline cannot be recorded", function()
    local d = started()
    d:stop()
    d.options.env = { SEGUE_FAULTS = "state.write=fail:-28" }
    d:spawn()
    d:wait_ready()
    put(d, 2)
    local status, answer = d:reload()
    assert.equal(500, status)
    assert.matches("state%.. cannot be written: no space left", answer.errors[1].message)
    assert.equal(1, d:config().x)
  end)

  it("is refused with both a person and a probe", function()
    local d = start()
    for text, why in pairs {
      ['confirm = { by = "operator", probe = function() end },'] = "confirm%.probe has no effect",
      ['confirm = { by = "operator", hold = "1s" },'] = "confirm%.hold has no effect",
      ['confirm = { by = "nobody" },'] = "by",
      ['confirm = { by = "operator", withn = "1s" },'] = "within",
    } do
      d.dir:save("reload.lua", text_of(text))
      local status, answer = d:reload()
      assert.equal(422, status, text)
      assert.matches(why, answer.errors[1].message)
    end
  end)
end)
