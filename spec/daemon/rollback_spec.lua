-- SPDX-License-Identifier: MIT
-- A rollback brings back a generation with everything that made it, and stays.
local cjson = require "cjson"
local back = require "spec.support.back"
local segue = require "spec.support.segue"
local wait = require "spec.support.wait"

local apply, in_history, post, put = back.apply, back.in_history, back.post, back.put
local restart, rollback, start, status_of = back.restart, back.rollback, back.start, back.status_of

describe("a rollback", function()
  after_each(segue.cleanup)

  it("without a number brings back the previous generation, with a number that one", function()
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

  it("stays until the sources change", function()
    local d = start { triggers = "segue.watch()" }
    apply(d, 2)
    rollback(d)
    for _ = 1, 3 do
      put(d, 2) -- written, but not changed
      d:signal "hup"
      local status, answer = d:reload()
      assert.equal(200, status)
      assert.equal("unchanged", answer.outcome)
      assert.matches("was rolled back", answer.errors[1].message)
      assert.equal(1, d:config().x)
    end
    put(d, 3)
    d:wait_config(function(c) return c.x == 3 end)
    assert.equal(cjson.null, status_of(d).rolled_back_to)
    assert.matches("segue_config_rolled_back 0\n", d:control("/metrics").body)
  end)

  it("cannot be put off by the policy, so that later triggers read the sources", function()
    local d = start { more = [[reload = function(txn)
      if txn.cause:find "rollback" then txn:defer("1h", "not now") end
      txn:prepare()
      txn:commit()
    end,]] }
    apply(d, 2)
    local status, answer = rollback(d)
    assert.equal(422, status)
    assert.matches("cannot be put off", answer.errors[1].message)
    assert.equal(2, d:config().x)
    apply(d, 3)
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

  -- Nothing watches: 3 is on disk, and no reload has read it when 2 is rolled back.
  local function unread(options)
    local d = start(options)
    apply(d, 2)
    put(d, 3)
    return d
  end

  for _, how in ipairs { "stop", "kill" } do
    it("holds against the sources as they are at the request, over a restart by " .. how, function()
      local d = unread()
      assert.equal(200, (rollback(d)))
      assert.equal(1, d:config().x)
      assert.equal("unchanged", select(2, d:reload()).outcome)
      restart(d, how)
      assert.equal(1, d:config().x)
      apply(d, 4)
    end)
  end

  it("holds against sources of a policy that was saved since the last reload", function()
    local d = start()
    apply(d, 2)
    d.dir:save("reload.lua", back.text_of "min_interval = 0,")
    put(d, 3)
    assert.equal(200, (rollback(d)))
    restart(d, "kill")
    assert.equal(1, d:config().x)
    apply(d, 4)
  end)

  it("holds against the last sources that were read where the present ones cannot be", function()
    local d = start()
    apply(d, 2)
    d.dir:save("config.yaml", "x: [")
    assert.equal(200, (rollback(d)))
    put(d, 2)
    assert.equal("unchanged", select(2, d:reload()).outcome)
    assert.equal(1, d:config().x)
    apply(d, 4)
  end)

  it("of a generation that waits for an operator holds against the sources as they are too",
    function()
      local d = start { more = 'confirm = { by = "operator", within = "600s" },', ready = false }
      d:wait_control()
      wait.until_true(function() return post(d, "/api/v1/confirm") == 200 end, nil, "the window")
      d:wait_ready()
      put(d, 2)
      d:reload()
      assert.equal(2, d:config().x)
      put(d, 3)
      rollback(d)
      assert.equal(1, d:config().x)
      restart(d, "kill")
      assert.equal(1, d:config().x)
      put(d, 4)
      d:reload()
      assert.equal(4, d:config().x)
    end)

  it("of the rollback brings back the generation before it", function()
    local d = start()
    apply(d, 2)
    rollback(d)
    local status, answer = rollback(d)
    assert.equal(200, status)
    assert.equal("applied", answer.outcome)
    assert.equal(2, d:config().x)
    -- this equals the sources, so nothing is held
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
    -- the old limits count again only if they are what a reload reads: files are the world's
    put(d, 60)
    assert.equal(200, (d:reload()))
    d.dir:save("reload.lua", "return {")
    assert.equal(422, (d:reload()))
    assert.equal(200, (rollback(d, 1)))
    assert.equal(1, d:config().x)
  end)

  it("brings back deleted files and hides new ones", function()
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

  it("brings back the documents beside the schema too", function()
    local part = '{"maximum": %d}'
    local d = start { more = 'schema = { path = "schema.json", with = { "part.json" } },',
      files = { ["schema.json"] = '{"properties": {"x": {"$ref": "part.json"}}}',
        ["part.json"] = part:format(5) } }
    apply(d, 4)
    d.dir:save("part.json", part:format(2))
    assert.equal(422, (d:reload()))
    apply(d, 2)
    local status, answer = rollback(d)
    assert.equal(200, status, cjson.encode(answer))
    assert.equal(4, d:config().x)
  end)

  it("brings back the schema, so that the old configuration is valid again", function()
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

  it("to the live generation changes nothing", function()
    local d = start()
    local generation = apply(d, 2)
    local status, answer = rollback(d, generation)
    assert.equal(200, status)
    assert.equal("unchanged", answer.outcome)
    assert.equal(generation, status_of(d).generation)
  end)

  it("to a generation that is not in the history is refused", function()
    local d = start()
    apply(d, 2)
    for _, to in ipairs { "99", "18446744073709551615" } do
      local status, _, text = rollback(d, to)
      assert.equal(404, status)
      assert.truthy(text:find("generation " .. to .. " is not in the history", 1, true), text)
    end
    local cli = d:cli("rollback", "99")
    assert.equal(6, cli.code, cli:describe())
    assert.matches("generation 99 is not in the history", cli.stderr)
    assert.equal(2, d:config().x)
  end)

  it("is refused where there is no previous generation", function()
    local d = start()
    in_history(d, 1)
    assert.equal(404, (rollback(d)))
    assert.equal(6, d:cli("rollback").code)
    assert.equal(1, d:config().x)
  end)

  it("to a number that is no generation is refused", function()
    local d = start()
    for _, to in ipairs { "x", "-1", "0", "1.5", "99999999999999999999", "" } do
      local status = rollback(d, to)
      assert.equal(400, status, to)
    end
    assert.equal(2, d:cli("rollback", "x").code)
    assert.equal(2, d:cli("rollback", "1", "2").code)
  end)

  it("honours If-Match", function()
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
    -- a file that the policy reads has changed, not the generation
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

  it("with a module that does not start changes nothing", function()
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

  it("runs once at a time, after the run that is under way", function()
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

  it("without waiting reports that it was requested", function()
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
