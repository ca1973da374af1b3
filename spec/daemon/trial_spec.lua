-- SPDX-License-Identifier: MIT
-- Generations on trial, and what becomes of the trial when the daemon ends in the middle of it:
-- probes, operators, rollbacks that have to be confirmed like anything else.
local cjson = require "cjson"
local segue = require "spec.support.segue"
local wait = require "spec.support.wait"

local policy = [[
local segue = require "segue"
return {
  name = "trial",
  sources = { segue.file "config.yaml" },
  triggers = { segue.signal "HUP", @TRIGGERS@ },
  debounce = { min = "5ms", max = "50ms" },
  check = function(next) segue.state.x = next.x return true end,
  confirm = { @CONFIRM@ },
}]]

-- A value other than x = 1 is bad, and so is every value while there is a file "sick".
local probe = [[within = "@WITHIN@", probe = function()
  if segue.state.x > @MOST@ then return nil, "x is bad" end
  local well, why = segue.run { "test", "!", "-e", "sick" }
  return well and well.code == 0, why or "sick"
end]]

local function text_of(confirm, triggers)
  return (policy:gsub("@CONFIRM@", function() return confirm end)
    :gsub("@TRIGGERS@", triggers or ""))
end

local function probed(within, most, triggers)
  return text_of(probe:gsub("@WITHIN@", within):gsub("@MOST@", tostring(most)), triggers)
end

local function start(text, ready)
  return segue.start { policy = text, files = { ["config.yaml"] = "x: 1\n" }, ready = ready }
end

local function put(d, x) d.dir:save("config.yaml", ("x: %d\n"):format(x)) end

local function post(d, path)
  local r = d:control { method = "POST", path = path, deadline_ms = 30000,
    headers = { Accept = "application/json" } }
  local ok, answer = pcall(cjson.decode, r.body)
  return r.status, ok and answer or r.body
end

-- The live value now; nil: no generation, or no answer.
local function live(d)
  local ok, r = pcall(d.control, d, "/api/v1/config")
  return ok and r.status == 200 and cjson.decode(r.body).x or nil
end

local function wait_live(d, x)
  d:wait_event(function() return live(d) == x end, 20000, function()
    return ("x = %d: %s"):format(x, d:log())
  end)
end

-- The reload with x has settled as outcome.
local function wait_outcome(d, outcome)
  return d:wait_event(function()
    local ok, list = pcall(d.json, d, "/api/v1/reloads")
    for _, reload in ipairs(ok and list or {}) do
      if reload.outcome == outcome then return reload end
    end
  end, 20000, function() return outcome .. ": " .. d:log() end)
end

describe("a probe, and a restart inside of its window", function()
  after_each(segue.cleanup)

  local triggers = 'segue.poll "100ms", segue.watch()'

  -- x = 1 is settled, x = 2 is live and not confirmed, and the daemon is killed.
  local function killed_in_window()
    local d = start(probed("6s", 1, triggers))
    wait_outcome(d, "applied")
    put(d, 2)
    wait_live(d, 2)
    d:crash()
    return d
  end

  it("reverts the bad generation once, and never applies it again automatically", function()
    local d = killed_in_window()
    d:spawn()
    local reverted = wait_outcome(d, "reverted")
    assert.matches("x is bad", reverted.errors[1].message)
    wait_live(d, 1)
    d:wait_ready()
    d:wait_log "started from the last good generation on disk"
    -- the sources are looked at again, by the clock and by polls, and nothing comes of it
    local function looked()
      return tonumber(d:control("/metrics").body:match "\nsegue_reloads_skipped_total (%d+)\n")
    end
    local runs, from = #d:json "/api/v1/reloads", looked()
    d:wait_event(function()
      assert.equal(1, live(d))
      return looked() >= from + 10
    end, 20000, function() return "looks at the sources: " .. d:log() end)
    assert.equal(runs, #d:json "/api/v1/reloads")
    assert.equal(200, d:control("/-/ready").status)
    -- what is good goes live
    put(d, 0)
    wait_live(d, 0)
    d:wait_event(function()
      local newest = d:json "/api/v1/reloads"[1]
      return newest.outcome == "applied" and newest.confirmed_by == "probe"
    end, nil, "the probe as the one who confirmed it")
  end)

  it("serves the last good generation although the probe is bad for that one too", function()
    local d = killed_in_window()
    d.dir:write("sick", "")
    d:spawn()
    wait_outcome(d, "reverted")
    wait_live(d, 1)
    d:wait_ready()
    assert.is_true(d.process:running())
    -- a restart once more: it is not live yet, and is not requested either
    put(d, 1)
    d:crash()
    d:spawn()
    d:wait_ready()
    assert.equal(1, live(d))
  end)

  it("is not tried again for a generation that it refused, over any number of restarts", function()
    local d = start(probed("1s", 1))
    wait_outcome(d, "applied")
    put(d, 2)
    local status, answer = d:reload()
    assert.equal(500, status)
    for _ = 1, 2 do
      d:crash()
      d:spawn()
      d:wait_ready()
      assert.equal(1, live(d))
      local again = select(2, d:reload())
      assert.equal("reverted", again.outcome)
      assert.equal("confirm", answer.phase)
      assert.equal("collect", again.phase)
      assert.matches("reload " .. answer.id .. " made generation 2 of", again.errors[1].message)
      assert.matches("x is bad", again.errors[2].message)
      assert.equal(4, d:cli("plan").code)
    end
    put(d, 0)
    assert.equal(200, (d:reload()))
  end)

  it("starts with the settled generation, whatever the probe returns then", function()
    local d = start(probed("3s", 9))
    wait_outcome(d, "applied")
    d.dir:write("sick", "")
    d:stop()
    d:spawn()
    d:wait_ready()
    assert.equal(1, live(d))
    put(d, 2) -- while what is new still has to please it
    assert.equal(500, (d:reload()))
    assert.equal(1, live(d))
  end)
end)

describe("a rollback that has to be confirmed", function()
  after_each(segue.cleanup)

  -- x = 1, then x = 2 are live and confirmed.
  local function by_operator(within)
    local d = start(text_of(('by = "operator", within = "%s"'):format(within)), false)
    d:wait_event(function()
      local ok, status = pcall(post, d, "/api/v1/confirm") -- not there, or not listening yet
      return ok and status == 200
    end, 20000, function() return "the start to confirm: " .. d:log() end)
    d:wait_ready()
    put(d, 2)
    assert.equal("unconfirmed", select(2, d:reload()).outcome)
    assert.equal(200, (post(d, "/api/v1/confirm")))
    return d
  end

  local function rollback(d)
    local status, answer = post(d, "/api/v1/rollback")
    assert.equal(200, status, cjson.encode(answer))
    assert.equal("unconfirmed", answer.outcome)
    assert.equal(1, live(d))
    assert.equal("operator", d:json "/api/v1/status".unconfirmed.by)
    return answer
  end

  it("is unconfirmed, then confirmed, and stays", function()
    local d = by_operator "60s"
    local answer = rollback(d)
    local status, reported = post(d, "/api/v1/confirm")
    assert.equal(200, status)
    assert.equal("applied", reported.outcome)
    assert.equal(answer.id, reported.id)
    assert.matches("^unix:pid=%d+,uid=%d+$", reported.confirmed_by)
    for _ = 1, 2 do
      assert.equal(1, live(d))
      local now = d:json "/api/v1/status"
      assert.equal(cjson.null, now.unconfirmed)
      assert.equal(answer.generation, now.generation)
      assert.equal(1, now.rolled_back_to)
      d:crash()
      d:spawn()
      d:wait_ready()
    end
  end)

  it("reverts to the previous generation without a confirmation", function()
    local d = by_operator "5s"
    local before = d:json "/api/v1/status".generation
    local id = rollback(d).id
    local reverted = wait_outcome(d, "reverted")
    assert.equal(id, reverted.id)
    assert.equal(1, reverted.restores)
    assert.matches("was not confirmed", reverted.errors[1].message)
    for _ = 1, 2 do
      assert.equal(2, live(d))
      local now = d:json "/api/v1/status"
      assert.equal(before, now.generation)
      assert.equal(cjson.null, now.rolled_back_to)
      assert.equal(cjson.null, now.unconfirmed)
      d:crash()
      d:spawn()
      d:wait_ready()
    end
    -- the sources still go live as before
    assert.equal("unchanged", select(2, d:reload()).outcome)
    put(d, 3)
    assert.equal("unconfirmed", select(2, d:reload()).outcome)
    assert.equal(200, (post(d, "/api/v1/confirm")))
  end)

  for _, how in ipairs { "crash", "stop" } do
    it("waits for the rest of its time after a " .. how .. ", and then stays", function()
      local d = by_operator "60s"
      local answer = rollback(d)
      local till = d:json "/api/v1/status".unconfirmed["until"]
      d[how](d)
      d:spawn()
      d:wait_ready()
      assert.equal(1, live(d))
      local now = d:json "/api/v1/status"
      assert.equal(answer.generation, now.generation)
      assert.equal(till:sub(1, 16), now.unconfirmed["until"]:sub(1, 16))
      assert.equal(200, (post(d, "/api/v1/confirm")))
      d[how](d)
      d:spawn()
      d:wait_ready()
      assert.equal(1, live(d))
      assert.equal(1, d:json "/api/v1/status".rolled_back_to)
      assert.equal("unchanged", select(2, d:reload()).outcome) -- the sources have not changed
      put(d, 3)
      assert.equal("unconfirmed", select(2, d:reload()).outcome)
    end)
  end

  it("is reverted after a restart in its time, by a rollback or by the end of that time", function()
    for _, within in ipairs { "60s", "4s" } do
      local d = by_operator(within)
      local before = d:json "/api/v1/status".generation
      rollback(d)
      d:crash()
      d:spawn()
      wait_live(d, 1)
      if within == "60s" then assert.equal(200, (post(d, "/api/v1/rollback"))) end
      wait_live(d, 2)
      d:wait_settled()
      assert.equal(before, d:json "/api/v1/status".generation)
      assert.equal("unchanged", select(2, d:reload()).outcome)
      d:stop()
    end
  end)

  it("is undone when its probe fails", function()
    local d = start(probed("3s", 9))
    wait_outcome(d, "applied")
    put(d, 2)
    assert.equal(200, (d:reload()))
    local before = d:json "/api/v1/status".generation
    d.dir:write("sick", "")
    local status, answer = post(d, "/api/v1/rollback")
    assert.equal(500, status)
    assert.equal("reverted", answer.outcome)
    assert.equal(1, answer.restores)
    for _ = 1, 2 do
      assert.equal(2, live(d))
      assert.equal(before, d:json "/api/v1/status".generation)
      assert.equal(cjson.null, d:json "/api/v1/status".rolled_back_to)
      d:crash()
      d:spawn()
      d:wait_ready()
    end
    d.dir:delete "sick" -- and is one like any other when it holds
    status, answer = post(d, "/api/v1/rollback")
    assert.equal(200, status)
    assert.equal("applied", answer.outcome)
    assert.equal(1, live(d))
  end)
end)

describe("a reload that waits for an operator when the daemon is killed", function()
  after_each(segue.cleanup)

  local function confirm(d)
    d:wait_event(function()
      local ok, status = pcall(post, d, "/api/v1/confirm")
      return ok and status == 200
    end, 20000, function() return "something to confirm: " .. d:log() end)
    d:wait_ready()
  end

  -- The history of a reload, as soon as there is any.
  local function reported(d, id)
    return d:wait_event(function()
      local r = d:control("/api/v1/reloads/" .. id)
      return r.status == 200 and cjson.decode(r.body)
    end, nil, "reload " .. id)
  end

  it("is in the history as soon as it is live, with its requester", function()
    local d = start(text_of 'by = "operator", within = "60s"', false)
    confirm(d)
    put(d, 2)
    local _, answer = d:reload()
    local waiting = reported(d, answer.id)
    assert.equal("unconfirmed", waiting.outcome)
    assert.equal(answer.generation, waiting.generation)
    assert.equal(answer.hash, waiting.hash)
    assert.equal(cjson.null, waiting.ended)
    assert.is_nil(waiting.confirmed_by)
    assert.matches("^POST /%-/reload from unix:pid=%d+,uid=%d+$", waiting.cause)
    assert.same({ { op = "change", path = "x", to_text = "2" } }, waiting.changes)
    assert.matches("\n" .. answer.id .. " +%- +unconfirmed ", d:cli("history").stdout)
    confirm(d)
    wait.until_true(function() return reported(d, answer.id).outcome == "applied" end, nil,
      "the end")
    assert.equal(2, #d:json "/api/v1/reloads")
    -- who confirmed it is in the record: of the reload, and of requests, also after a restart
    d:crash()
    d:spawn()
    d:wait_ready()
    assert.matches("^unix:pid=%d+,uid=%d+$", reported(d, answer.id).confirmed_by)
    assert.matches("\nconfirmed by unix:pid=%d+", d:cli("history", tostring(answer.id)).stdout)
    local confirms = {}
    for _, row in ipairs(d:json "/api/v1/audit") do
      if row.path == "/api/v1/confirm" and row.status == 200 then
        confirms[#confirms + 1] = row.reload
      end
    end
    assert.same({ answer.id, 1 }, confirms)
  end)

  -- The first entry is that of the start, the second records that the reload waits.
  for _, strike in ipairs { "none", "history.add#2=kill", "history.commit#2=kill" } do
    it("keeps its number and its requester (" .. strike .. ")", function()
      local d = start(text_of 'by = "operator", within = "60s"', false)
      confirm(d)
      d:stop()
      d.options.env = { SEGUE_FAULTS = strike ~= "none" and strike or nil }
      d:spawn()
      d:wait_ready()
      d.options.env = nil
      put(d, 2)
      local ok, _, answer = pcall(d.reload, d)
      local id = ok and type(answer) == "table" and answer.id or 3
      assert.equal(3, id)
      if strike == "none" then d:crash() else assert.equal(9, (select(2, d:wait_exit(20000)))) end
      d:spawn()
      wait_live(d, 2)
      assert.matches("^POST /%-/reload from unix", reported(d, id).cause)
      assert.equal("unconfirmed", reported(d, id).outcome)
      assert.equal("control", reported(d, id).trigger)
      confirm(d)
      local top = d:json "/api/v1/reloads"[1]
      assert.is_true(top.id > id) -- numbers continue behind the block that the killed one reserved
      assert.equal("start", top.trigger)
      assert.equal("applied", d:json "/api/v1/reloads"[2].outcome) -- the last good one, before it
      assert.equal("unconfirmed", d:json "/api/v1/reloads"[3].outcome)
      assert.equal(top.id + 1, select(2, d:reload "?force=1").id)
    end)
  end
end)
