-- SPDX-License-Identifier: MIT
-- The way back: generations are brought back with everything that made them, freezes and windows
-- to confirm hold over every kind of end, and what was is found again.
local cjson = require "cjson"
local Record = require "spec.support.record"
local segue = require "spec.support.segue"
local uv = require "luv"
local wait = require "spec.support.wait"

local policy = [[
local segue = require "segue"
local limits = require "limits"
return {
  name = "back",
  sources = { segue.file "config.yaml", segue.dir("conf.d/*.yaml", { optional = true }) },
  triggers = { segue.signal "HUP", @TRIGGERS@ },
  debounce = { min = "5ms", max = "50ms" },
  @MORE@
  check = function(next)
    if next.x > limits.most then return nil, "x is too large" end
    return true
  end,
}]]

local function text_of(more, triggers)
  return (policy:gsub("@MORE@", more or ""):gsub("@TRIGGERS@", triggers or ""))
end

local function start(options)
  options = options or {}
  local files = { ["config.yaml"] = "x: 1\n", ["limits.lua"] = "return { most = 10 }\n" }
  for name, text in pairs(options.files or {}) do files[name] = text end
  return segue.start { policy = options.policy or text_of(options.more, options.triggers),
    files = files, env = options.env, ready = options.ready }
end

local function put(d, x) d.dir:save("config.yaml", ("x: %d\n"):format(x)) end

-- Makes x live; returns the generation.
local function apply(d, x)
  put(d, x)
  local status, answer = d:reload()
  assert.equal(200, status, cjson.encode(answer))
  assert.equal(x, d:config().x)
  return answer.generation
end

local function post(d, path, accept)
  local r = d:control { method = "POST", path = path, deadline_ms = 30000,
    headers = { Accept = accept or "application/json" } }
  local ok, answer = pcall(cjson.decode, r.body)
  return r.status, ok and answer or r.body, r.body
end

local function rollback(d, to)
  return post(d, "/api/v1/rollback" .. (to and "?to=" .. to or ""))
end

local function status_of(d) return d:json "/api/v1/status" end

local function restart(d, how)
  if how == "kill" then d:crash() else d:stop() end
  d:spawn()
  d:wait_ready()
end

-- The history is written after the answer.
local function in_history(d, id)
  wait.until_true(function()
    return d:control("/api/v1/reloads/" .. id).status == 200
      and d:json("/api/v1/reloads")[1].id >= id
  end, nil, "reload " .. id .. " in the history")
end

describe("a rollback", function()
  after_each(segue.cleanup)

  it("without a number brings back the one before, with one that one", function()
    local d = start()
    local g2, g3 = apply(d, 2), apply(d, 3)
    local status, answer = rollback(d)
    assert.equal(200, status)
    assert.equal("applied", answer.outcome)
    assert.equal(g3 + 1, answer.generation)
    assert.equal(2, d:config().x)
    assert.equal(g2, status_of(d).rolled_back_to)
    assert.matches("rolled back[^\n]*" .. g2, d:cli("status").stdout)
    assert.matches("segue_config_rolled_back 1\n", d:control("/metrics").body)
    local cli = d:cli("rollback", tostring(g2 - 1))
    assert.equal(0, cli.code, cli:describe())
    assert.equal(1, d:config().x)
  end)

  it("stays until what the sources say changes", function()
    local d = start { triggers = "segue.watch()" }
    apply(d, 2)
    rollback(d)
    for _ = 1, 3 do
      put(d, 2) -- written, but not changed
      d:signal "hup"
      local status, answer = d:reload()
      assert.equal(200, status)
      assert.equal("unchanged", answer.outcome)
      assert.matches("was taken back", answer.errors[1].message)
      assert.equal(1, d:config().x)
    end
    put(d, 3)
    d:wait_config(function(c) return c.x == 3 end)
    assert.equal(cjson.null, status_of(d).rolled_back_to)
    assert.matches("segue_config_rolled_back 0\n", d:control("/metrics").body)
  end)

  it("stays until a forced reload", function()
    local d = start()
    apply(d, 2)
    rollback(d)
    assert.equal(0, d:cli("reload", "--force").code)
    assert.equal(2, d:config().x)
    assert.equal(cjson.null, status_of(d).rolled_back_to)
  end)

  for _, how in ipairs { "stop", "kill" } do
    it("stays over a restart by " .. how .. ", again and again", function()
      local d = start()
      local generation = apply(d, 2)
      local _, answer = rollback(d)
      for _ = 1, 3 do
        restart(d, how)
        assert.equal(1, d:config().x)
        local status = status_of(d)
        assert.equal(generation - 1, status.rolled_back_to)
        assert.equal(answer.generation, status.generation)
        assert.equal(cjson.null, status.stale_since)
      end
      put(d, 5)
      assert.equal(200, (d:reload()))
      assert.equal(5, d:config().x)
      restart(d, how)
      assert.equal(5, d:config().x)
    end)
  end

  it("of the rollback brings back what it left", function()
    local d = start()
    apply(d, 2)
    rollback(d)
    local status, answer = rollback(d)
    assert.equal(200, status)
    assert.equal("applied", answer.outcome)
    assert.equal(2, d:config().x)
    -- that is what the sources say, so nothing is held back
    assert.equal(cjson.null, status_of(d).rolled_back_to)
    assert.equal("unchanged", select(2, d:reload()).outcome)
  end)

  it("brings back the policy and what it requires", function()
    local d = start()
    d.dir:save("limits.lua", "return { most = 100 }\n")
    apply(d, 50)
    rollback(d)
    assert.equal(1, d:config().x)
    local status, answer = post(d, "/api/v1/plan")
    assert.equal(200, status, cjson.encode(answer))
    -- the old limits judge again only if they are what a reload reads: files are the world's
    put(d, 60)
    assert.equal(200, (d:reload()))
    d.dir:save("reload.lua", "return {")
    assert.equal(422, (d:reload()))
    assert.equal(200, (rollback(d, 1)))
    assert.equal(1, d:config().x)
  end)

  it("brings back files that are gone and hides those that came", function()
    local d = start { files = { ["conf.d/a.yaml"] = "a: 1\n" } }
    d.dir:delete "conf.d/a.yaml"
    d.dir:save("conf.d/b.yaml", "b: 1\n")
    assert.equal(200, (d:reload()))
    assert.same({ x = 1, b = 1 }, d:config())
    rollback(d)
    assert.same({ x = 1, a = 1 }, d:config())
    restart(d, "kill")
    assert.same({ x = 1, a = 1 }, d:config())
  end)

  it("brings back the schema, so that what was good then is good again", function()
    local schema = function(most)
      return ('{"properties": {"x": {"maximum": %d}}}'):format(most)
    end
    local d = start { more = 'schema = "schema.json",', files = { ["schema.json"] = schema(5) } }
    apply(d, 4)
    d.dir:save("schema.json", schema(2))
    assert.equal(422, (d:reload()))
    apply(d, 2)
    local status, answer = rollback(d)
    assert.equal(200, status, cjson.encode(answer))
    assert.equal(4, d:config().x)
  end)

  it("to what is live changes nothing", function()
    local d = start()
    local generation = apply(d, 2)
    local status, answer = rollback(d, generation)
    assert.equal(200, status)
    assert.equal("unchanged", answer.outcome)
    assert.equal(generation, status_of(d).generation)
  end)

  it("to what is not kept is refused", function()
    local d = start()
    apply(d, 2)
    for _, to in ipairs { "99", "18446744073709551615" } do
      local status, _, text = rollback(d, to)
      assert.equal(404, status)
      assert.matches("that generation is not kept", text)
    end
    local cli = d:cli("rollback", "99")
    assert.equal(6, cli.code, cli:describe())
    assert.matches("not kept", cli.stderr)
    assert.equal(2, d:config().x)
  end)

  it("where there is nothing before is refused", function()
    local d = start()
    in_history(d, 1)
    assert.equal(404, (rollback(d)))
    assert.equal(6, d:cli("rollback").code)
    assert.equal(1, d:config().x)
  end)

  it("to what is no generation is refused", function()
    local d = start()
    for _, to in ipairs { "x", "-1", "0", "1.5", "99999999999999999999", "" } do
      local status = rollback(d, to)
      assert.equal(400, status, to)
    end
    assert.equal(2, d:cli("rollback", "x").code)
    assert.equal(2, d:cli("rollback", "1", "2").code)
  end)

  it("counts If-Match", function()
    local d = start()
    local generation = apply(d, 2)
    local function conditional(match)
      return d:control { method = "POST", path = "/api/v1/rollback",
        headers = { ["If-Match"] = match } }.status
    end
    assert.equal(412, conditional(('"%d"'):format(generation - 1)))
    assert.equal(2, d:config().x)
    assert.equal(200, conditional(('"%d"'):format(generation)))
    assert.equal(1, d:config().x)
  end)

  it("that the check of its own policy refuses changes nothing", function()
    -- the world that the policy looks at has changed, not the generation
    local d = start { policy = [[
local segue = require "segue"
return { name = "back", sources = { segue.file "config.yaml" },
  check = function(next)
    if next.x < 2 and segue.stat "@DIR@/forbidden" then return nil, "not any more" end
    return true
  end }]] }
    d.dir:save("reload.lua", (d.dir:read "reload.lua":gsub("@DIR@", d.dir.path)))
    assert.equal(200, (d:reload()))
    apply(d, 2)
    d.dir:write("forbidden", "")
    local status, answer = rollback(d)
    assert.equal(422, status)
    assert.equal("rejected", answer.outcome)
    assert.matches("not any more", answer.errors[1].message)
    assert.equal(2, d:config().x)
    assert.equal(cjson.null, status_of(d).rolled_back_to)
    assert.equal(3, d:cli("rollback").code)
  end)

  it("whose module does not start leaves the live one live", function()
    local d = start { more = [[
  reload = function(txn)
    txn:prepare()
    txn:commit()
    if txn.cause:find "rollback" then error "the module does not come up" end
    txn:confirm()
  end,]] }
    apply(d, 2)
    local status, answer = rollback(d)
    assert.equal(500, status)
    assert.equal("reverted", answer.outcome)
    assert.equal(2, d:config().x)
    assert.equal(cjson.null, status_of(d).rolled_back_to)
    restart(d, "kill")
    assert.equal(2, d:config().x)
  end)

  it("is one at a time, and comes after the run that is under way", function()
    local d = start { more = [[
  reload = function(txn)
    segue.sleep(0.5)
    txn:prepare()
    txn:commit()
    txn:confirm()
  end,]] }
    apply(d, 2)
    put(d, 3)
    d:signal "hup"
    wait.until_true(function() return status_of(d).running ~= cjson.null end, nil, "a run")
    local status, answer = rollback(d, 1)
    assert.equal(200, status)
    assert.equal("applied", answer.outcome)
    assert.equal(1, d:config().x)
    assert.equal(3, d:json("/api/v1/diff?from=1&to=3").changes[1].to)
  end)

  it("without waiting says that it was asked for", function()
    local d = start()
    apply(d, 2)
    local status = post(d, "/api/v1/rollback?wait=0")
    assert.equal(202, status)
    d:wait_config(function(c) return c.x == 1 end)
    assert.equal(400, (post(d, "/api/v1/rollback?wait=x")))
    for _, method in ipairs { "GET", "DELETE" } do
      local r = d:control { method = method, path = "/api/v1/rollback" }
      assert.equal(405, r.status)
      assert.truthy(r.headers.allow)
    end
  end)
end)

describe("a freeze", function()
  after_each(segue.cleanup)

  local function freeze(d, why)
    local cli = d:cli("freeze", why or "the release weekend")
    assert.equal(0, cli.code, cli:describe())
  end

  it("refuses who asks, with the reason, and remembers triggers", function()
    local d = start { triggers = "segue.watch()" }
    freeze(d)
    put(d, 2)
    wait.until_true(function() return status_of(d).frozen.missed > 0 end, nil, "the trigger")
    assert.equal(1, d:config().x)
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

  it("lets plans through", function()
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
      put(d, 3)
      restart(d, how)
      assert.equal(2, d:config().x)
      local status = status_of(d)
      assert.equal(generation, status.generation)
      assert.equal('odd "reason"; a=b\\n 100% \195\164', status.frozen.why)
      assert.equal(cjson.null, status.stale_since)
      assert.equal(423, (post(d, "/-/reload")))
      -- nobody knows any more what was triggered, so the end of the freeze looks
      assert.equal(0, d:cli("unfreeze").code)
      d:wait_config(function(c) return c.x == 3 end)
      restart(d, how)
      assert.equal(cjson.null, status_of(d).frozen)
    end)
  end

  it("may get another reason, and ends once", function()
    local d = start()
    freeze(d, "one")
    freeze(d, "two")
    assert.equal("two", status_of(d).frozen.why)
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

  it("with a reason of any length is told with its beginning", function()
    local d = start()
    assert.equal(200, (post(d, "/api/v1/freeze?why=" .. ("w"):rep(2000))))
    assert.matches("^w+$", status_of(d).frozen.why)
    restart(d, "kill")
    assert.matches("^w+$", status_of(d).frozen.why)
  end)

  it("that cannot be recorded is refused, and nothing is changed", function()
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

  it("that did not reach the disk is not there after a restart, although it was written", function()
    local d = start { env = { SEGUE_FAULTS = "state.sync=fail" } }
    assert.equal(500, (post(d, "/api/v1/freeze?why=x")))
    d.options.env = nil
    restart(d, "kill")
    assert.equal(cjson.null, status_of(d).frozen)
  end)
end)

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

  it("is told of as unconfirmed, and stays when it is confirmed", function()
    local d = started()
    local answer = unconfirmed(d, 2)
    assert.matches("^%d%d%d%d%-", answer["until"])
    local status = status_of(d)
    assert.equal("operator", status.unconfirmed.by)
    assert.equal(answer.generation, status.generation)
    assert.matches("segue_config_unconfirmed 1\n", d:control("/metrics").body)
    assert.matches("segue confirm makes it stay", d:cli("status").stdout)
    assert.equal(200, d:control("/-/ready").status)
    local cli = d:cli("confirm")
    assert.equal(0, cli.code, cli:describe())
    assert.equal(cjson.null, status_of(d).unconfirmed)
    assert.matches("segue_config_unconfirmed 0\n", d:control("/metrics").body)
    restart(d, "kill")
    assert.equal(2, d:config().x)
    assert.equal(answer.generation, status_of(d).generation)
    assert.equal(cjson.null, status_of(d).unconfirmed)
  end)

  it("is told of in text with what to do", function()
    local d = started()
    put(d, 2)
    local cli = d:cli("reload")
    assert.equal(0, cli.code)
    assert.matches("unconfirmed: generation %d+ is live until", cli.stdout)
    assert.matches("segue confirm makes it stay, segue rollback takes it back", cli.stdout)
  end)

  it("reverts by itself when nobody does", function()
    local d = started "1s"
    unconfirmed(d, 2)
    d:wait_config(function(c) return c.x == 1 end)
    wait.until_true(function()
      return d:json("/api/v1/reloads")[1].outcome == "reverted"
    end, nil, "the outcome")
    local last = d:json("/api/v1/reloads")[1]
    assert.matches("nobody confirmed the new generation within 1000 ms", last.errors[1].message)
    assert.equal(cjson.null, status_of(d).unconfirmed)
    restart(d, "kill")
    assert.equal(1, d:config().x)
    local _, answer = d:reload()
    assert.equal("unchanged", answer.outcome)
    assert.matches("was taken back", answer.errors[1].message)
    assert.equal("unconfirmed", select(2, d:reload "?force=1").outcome)
    assert.equal(200, (post(d, "/api/v1/confirm")))
    assert.equal(2, d:config().x)
  end)

  it("goes back at once by a rollback", function()
    local d = started()
    unconfirmed(d, 2)
    local status, answer = rollback(d)
    assert.equal(200, status)
    assert.equal("reverted", answer.outcome)
    assert.matches("taken back by", answer.errors[1].message)
    assert.equal(1, d:config().x)
    assert.equal(409, (post(d, "/api/v1/confirm")))
  end)

  it("goes back at once also while reloads are frozen", function()
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

    it("is taken back when its time passed while nothing ran, after " .. how, function()
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

  it("reverts after a restart in the window too, when nobody confirms", function()
    local d = started "3s"
    unconfirmed(d, 2)
    restart(d, "kill")
    wait.until_true(function() -- nothing is live between the one and the other
      local r = d:control "/api/v1/config"
      return r.status == 200 and cjson.decode(r.body).x == 1
    end, 20000, "the generation before")
    d:wait_settled()
    assert.equal(200, d:control("/-/ready").status)
  end)

  it("is nothing to confirm when there is none", function()
    local d = start()
    local status, _, text = post(d, "/api/v1/confirm")
    assert.equal(409, status)
    assert.matches("no generation waits to be confirmed", text)
    assert.equal(6, d:cli("confirm").code)
    assert.equal(405, d:control("/api/v1/confirm").status)
  end)

  it("does not go live where that cannot be recorded", function()
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

  it("is refused as a mixture of person and probe", function()
    local d = start()
    for text, why in pairs {
      ['confirm = { by = "operator", probe = function() end },'] = "never be called",
      ['confirm = { by = "operator", hold = "1s" },'] = "hold is for probes",
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

describe("what was", function()
  after_each(segue.cleanup)

  it("goes on over restarts: numbers of reloads and generations, and what is the same", function()
    local d = start()
    local seen = {}
    for x = 2, 4 do
      local generation = apply(d, x)
      restart(d, x % 2 == 0 and "kill" or "stop")
      local status = status_of(d)
      assert.equal(generation, status.generation) -- the same input, the same number
      local list = d:json "/api/v1/reloads?limit=1000"
      for i, reload in ipairs(list) do
        if i > 1 then assert.is_true(reload.id < list[i - 1].id) end
      end
      seen[#seen + 1] = generation
    end
    assert.is_true(seen[1] < seen[2] and seen[2] < seen[3])
    local cli = d:cli("history")
    assert.equal(0, cli.code)
    assert.matches("RELOAD +ENDED +OUTCOME +GENERATION +CHANGES +CAUSE\n", cli.stdout)
    assert.matches("applied", cli.stdout)
    assert.equal(5, select(2, d:cli("history", "--limit", "4").stdout:gsub("\n", "")))
  end)

  it("is compared, any two of it, also after a restart", function()
    local d = start()
    apply(d, 2)
    apply(d, 3)
    restart(d)
    apply(d, 4)
    local diff = d:json "/api/v1/diff?from=1&to=3"
    assert.equal(1, diff.change_count)
    assert.same({ op = "change", path = "x", from = 1, to = 3 }, diff.changes[1])
    assert.equal(0, d:json("/api/v1/diff?from=2&to=2").change_count)
    local back = d:json("/api/v1/diff?from=live&to=1").changes[1]
    assert.same({ 4, 1 }, { back.from, back.to })
    local cli = d:cli("diff", "1", "3")
    assert.equal(0, cli.code)
    assert.matches("x", cli.stdout)
    assert.equal(1, cjson.decode(d:cli("diff", "1", "3", "--json").stdout).change_count)
    for query, expected in pairs { ["from=1&to=99"] = 404, ["from=99&to=1"] = 404,
      ["from=x"] = 400, ["to=-1"] = 400, ["from=99999999999999999999"] = 400,
      ["from=1&to=next"] = 400 } do
      assert.equal(expected, d:control("/api/v1/diff?" .. query).status, query)
    end
    assert.equal(6, d:cli("diff", "1", "99").code)
  end)

  it("is told of one by one", function()
    local d = start()
    put(d, 99)
    local status, answer = d:reload()
    assert.equal(422, status)
    in_history(d, answer.id)
    restart(d, "kill")
    local one = d:json("/api/v1/reloads/" .. answer.id)
    assert.equal("rejected", one.outcome)
    assert.matches("x is too large", one.errors[1].message)
    assert.truthy(one.phases_ms)
    local cli = d:cli("history", tostring(answer.id))
    assert.equal(0, cli.code)
    assert.matches("rejected", cli.stdout)
    assert.equal(answer.id, cjson.decode(d:cli("history", tostring(answer.id), "--json").stdout).id)
    assert.equal(404, d:control("/api/v1/reloads/99").status)
    assert.equal(404, d:control("/api/v1/reloads/x").status)
    local gone = d:cli("history", "99")
    assert.equal(6, gone.code)
    assert.matches("reload 99 is not kept", gone.stderr)
    local slip = d:cli("history", "latest")
    assert.equal(2, slip.code)
    assert.matches("'latest' is no number of a reload: segue history lists them", slip.stderr)
    assert.equal(400, d:control("/api/v1/reloads?limit=x").status)
    assert.equal(400, d:control("/api/v1/reloads?before=-1").status)
    assert.same({}, d:json "/api/v1/reloads?limit=0")
    assert.equal(2, d:cli("history", "--limit", "x").code)
  end)

  it("stays within what the policy says, also from one process to the next", function()
    local d = start { more = "history = { reloads = 16, generations = 2 }," }
    for x = 2, 9 do apply(d, x) end
    for _ = 1, 3 do
      for x = 2, 9 do apply(d, x) end
    end
    local last = status_of(d).generation
    wait.until_true(function()
      return #d:json "/api/v1/reloads?limit=1000" <= 17
    end, nil, "the cut")
    assert.equal(404, d:control("/api/v1/diff?from=1&to=live").status)
    assert.equal(404, (rollback(d, 1)))
    restart(d)
    assert.equal(last, status_of(d).generation)
    assert.equal(200, (rollback(d)))
    for text, why in pairs {
      ["history = { reloads = -1 },"] = "reloads", ["history = { reload = 5 },"] = "reloads",
      ["history = 5,"] = "history", ['history = { age = "x" },'] = "age",
      ['history = { bytes = "lots" },'] = "bytes",
    } do
      d.dir:save("reload.lua", text_of(text))
      local status, answer = d:reload()
      assert.equal(422, status, text)
      assert.matches(why, answer.errors[1].message)
    end
  end)

  it("is nobody else's to read", function()
    local d = start()
    apply(d, 2)
    assert.equal(200, (post(d, "/api/v1/freeze?why=x")))
    local folder = d.dir:at ".segue"
    local pipe = io.popen(("stat -c '%%a %%n' %s %s/*"):format(folder, folder))
    local count = 0
    for line in pipe:lines() do
      local mode, name = line:match "^(%d+) .*/([^/]+)$"
      if name == ".segue" then assert.equal("700", mode) else assert.equal("600", mode, name) end
      count = count + 1
    end
    pipe:close()
    assert.is_true(count >= 6)
  end)

  it("is begun anew when it is damaged, without a word less to whoever reloads", function()
    local d = start()
    apply(d, 2)
    d:stop()
    d.dir:write(".segue/history.db", ("garbage "):rep(5000))
    d:spawn()
    d:wait_ready()
    d:wait_log("the history is damaged: it is set aside and begun anew")
    local generation = apply(d, 3)
    assert.is_true(generation > 2)
    assert.equal(3, d:config().x)
    in_history(d, d:json("/api/v1/reloads")[1].id)
  end)

  it("is added to when another process had locked it for a while", function()
    local d = start()
    in_history(d, 1)
    local lock = Record.connection(d.dir:at ".segue/history.db")
    lock.run "BEGIN IMMEDIATE"
    apply(d, 2)
    apply(d, 3)
    -- Questions do not wait for what is held up; if they did, it would be given up meanwhile.
    assert.equal(1, #d:json "/api/v1/reloads")
    lock.run "COMMIT"
    lock.close()
    in_history(d, 3)
    assert.equal(3, #d:json "/api/v1/reloads")
  end)
end)

describe("why", function()
  after_each(segue.cleanup)

  local function why(d, path) return d:json("/api/v1/why?path=" .. path) end

  it("names file, line, generation and trigger of a value", function()
    local d = start { triggers = "segue.watch()" }
    d.dir:save("config.yaml", "x: 1\nlist:\n  - {a: 1}\n  - {a: 2}\n")
    d:wait_config(function(c) return c.list end)
    local found = why(d, "list[1].a")
    assert.equal(2, found.value)
    assert.matches("config%.yaml$", found.origin.file)
    assert.equal(4, found.origin.line)
    assert.equal(2, found.change.generation)
    assert.equal("list", found.change.path)
    assert.matches("config%.yaml", found.change.reload.cause)
    assert.equal(1, why(d, "x").change.generation)
    assert.equal(2, why(d, "list").change.generation)
    local cli = d:cli("why", "list[1].a")
    assert.equal(0, cli.code)
    assert.matches("list%[1%]%.a = 2 %(generation 2%)\nwritten in +.*config%.yaml:4:", cli.stdout)
    assert.matches("since +generation 2", cli.stdout)
    assert.equal(2, cjson.decode(d:cli("why", "list[1].a", "--json").stdout).value)
  end)

  it("names the layer that won, the environment and values of the policy", function()
    local d = segue.start { env = { APP_PORT = "99" }, files = { ["a.yaml"] = "x: 1\ny: 1\n",
      ["b.yaml"] = "y: 2\n" }, policy = [[
local segue = require "segue"
return { name = "why", sources = { segue.file "a.yaml", segue.file "b.yaml",
  segue.env { prefix = "APP_" },
  segue.value { built = { deep = true } } } }]] }
    assert.matches("a%.yaml$", why(d, "x").origin.file)
    assert.matches("b%.yaml$", why(d, "y").origin.file)
    local port = why(d, "port")
    assert.equal(99, tonumber(port.value))
    assert.matches("env", port.origin.source)
    local built = why(d, "built.deep")
    assert.equal(true, built.value)
    assert.truthy(built.origin)
    d.dir:save("b.yaml", "{}\n")
    assert.equal(200, (d:reload()))
    assert.matches("a%.yaml$", why(d, "y").origin.file)
    assert.equal(2, why(d, "y").change.generation)
  end)

  it("tells of a value that was taken away, and of none that never was", function()
    local d = start()
    d.dir:save("config.yaml", "x: 1\ngone: 5\n")
    assert.equal(200, (d:reload()))
    d.dir:save("config.yaml", "x: 1\n")
    assert.equal(200, (d:reload()))
    local found = why(d, "gone")
    assert.equal(cjson.null, found.value)
    assert.equal(cjson.null, found.origin)
    assert.equal(3, found.change.generation)
    assert.matches("nowhere: it is not there any more", d:cli("why", "gone").stdout)
    assert.equal(404, d:control("/api/v1/why?path=never").status)
    assert.equal(2, d:cli("why", "never").code)
    assert.equal(400, d:control("/api/v1/why").status)
    assert.equal(400, d:control("/api/v1/why?path=").status)
    assert.equal(2, d:cli("why").code)
    for _, wild in ipairs { "a%27b", "%ff%fe", "[", "a..b", ("z."):rep(200) .. "y" } do
      assert.equal(404, d:control("/api/v1/why?path=" .. wild).status, wild)
    end
    assert.equal(405, d:control { method = "POST", path = "/api/v1/why?path=x" }.status)
  end)

  it("still knows after a restart, and after a rollback", function()
    local d = start()
    apply(d, 2)
    apply(d, 3)
    restart(d, "kill")
    assert.equal(3, why(d, "x").change.generation)
    rollback(d, 1)
    local found = why(d, "x")
    assert.equal(1, found.value)
    assert.equal(4, found.change.generation)
    assert.matches("rollback to generation 1", found.change.reload.cause)
  end)
end)
