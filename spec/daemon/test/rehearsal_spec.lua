-- SPDX-License-Identifier: MIT
-- segue.testing, run by `segue test` (spec/daemon/test_spec.lua).
local testing = require "segue.testing"

local function policy(body, options)
  options = options or {}
  options.text = 'local segue = require "segue"\nreturn {\n' .. body .. "\n}"
  return testing.policy("reload.lua", options)
end

local plain = [[
  sources = { segue.file "config.yaml" },
  triggers = { segue.signal "HUP", segue.watch(), segue.http "127.0.0.1:7377", segue.poll "30s" },
]]

-- The error that fn raises, as a text.
local function raised(fn, ...)
  local ok, message = pcall(fn, ...)
  assert.is_false(ok)
  return tostring(message)
end

describe("a rehearsal", function()
  it("loads, reloads, rejects and fails as the daemon does", function()
    local t = policy(plain .. "check = function(next) return next.a ~= 13, 'thirteen' end")
    t:file("config.yaml", "a: 1\nlist: [1, null, {b: true}]\n")
    local r = t:start()
    assert.equal("applied", r.outcome)
    assert.equal("start", r.trigger)
    assert.equal(1, t:generation())
    assert.same({ a = 1, list = { 1, testing.null, { b = true } } }, t:config())
    assert.is_true(t:config "list[2].b")
    assert.is_nil(t:config "nothing")

    t:file("config.yaml", "a: 13\n")
    r = t:reload()
    assert.equal("rejected", r.outcome)
    assert.equal("SEGUE_EVETO", r.errors[1].code)
    assert.equal("thirteen", r.errors[1].message)
    t:file("config.yaml", "a: [\n")
    r = t:signal "HUP"
    assert.equal("rejected", r.outcome)
    assert.equal("SEGUE_ESYNTAX", r.errors[1].code)
    assert.matches("config%.yaml", r.errors[1].file)
    assert.equal(1, t:config "a")

    t:file("config.yaml", nil)
    r = t:http()
    assert.equal("failed", r.outcome)
    t:fail("config.yaml", "EACCES", "locked away")
    r = t:http()
    assert.equal("failed", r.outcome)
    assert.matches("locked away", r.errors[1].message)
    t:file("config.yaml", "a: 2\n")
    assert.equal("applied", t:poll().outcome)
    assert.equal("unchanged", t:reload().outcome)
    assert.equal("applied", t:reload({ force = true }).outcome)
    assert.equal("refused", t:reload({ force = true, if_match = "77" }).outcome)
    assert.equal(2, t:config "a")
  end)

  it("polls by its clock, and names the interval as the daemon does", function()
    for interval, text in pairs { ["90s"] = "1m30s", ["5m"] = "5m" } do
      local body = plain:gsub('"30s"', ("%q"):format(interval))
      local t = policy(body):file("config.yaml", "a: 1")
      t:start()
      t:file("config.yaml", "a: 2")
      assert.equal("poll every " .. text, t:advance("6m")[1].cause)
    end
  end)

  it("knows the requester, and coalesces simultaneous triggers", function()
    local t = policy(plain):file("config.yaml", "a: 1")
    t:start()
    t:file("config.yaml", "a: 2")
    t:watch("config.yaml", { wait = false })
    t:watch("other.yaml", { wait = false })
    local results = t:advance "1s"
    assert.equal(1, #results)
    assert.equal("watch", results[1].trigger)
    assert.matches("config%.yaml changed, .*other%.yaml changed", results[1].cause)
    t:file("config.yaml", "a: 3")
    local r = t:signal "HUP"
    assert.equal("SIGHUP", r.cause)
    assert.equal(r.id, t:last().id)
  end)

  it("moves only its own clock, and retries by that clock", function()
    local t = policy(plain, { now = 1000 }):file("config.yaml", "a: 1")
    t:start()
    assert.equal(1000, t:now())
    t:fail "config.yaml"
    assert.equal("failed", t:signal("HUP").outcome)
    t:file("config.yaml", "a: 2")
    local results = t:advance "2s"
    assert.equal("retry", results[#results].trigger)
    assert.equal("applied", results[#results].outcome)
    t:advance "10d"
    assert.is_true(t:now() > 1000 + 10 * 86400)
  end)

  it("plans without applying", function()
    local t = policy(plain):file("config.yaml", "a: 1")
    t:start()
    t:file("config.yaml", "a: 2\nb: x")
    local r = t:plan()
    assert.is_true(r.plan_only)
    assert.equal(2, #r.changes)
    assert.equal(1, t:config "a")
  end)

  it("reports a run that was postponed by the policy or by its rate limit", function()
    local t = policy(plain .. [[
      min_interval = "10s",
      reload = function(txn)
        if txn.next.later and txn.trigger == "signal" then return txn:defer("1m", "later") end
        txn:prepare() txn:commit()
      end]]):file("config.yaml", "a: 1")
    t:start()
    t:file("config.yaml", "a: 2")
    local r = t:signal "HUP"
    assert.equal("deferred", r.outcome)
    t:advance "10s"
    assert.equal(2, t:config "a")
    t:advance "20s"
    t:file("config.yaml", "a: 3\nlater: true")
    r = t:signal "HUP"
    assert.equal("deferred", r.outcome)
    assert.equal("later", r.errors[1].message)
    assert.equal(2, t:config "a")
  end)

  it("answers commands with the spec's results, and refuses the others", function()
    local t = policy(plain .. [[check = function(next)
      local chunks = {}
      local r, why, code = segue.run { "tool", next.word, stdin = "in", env = { A = "b" },
        timeout = "2s", on_output = function(stream, chunk)
          chunks[#chunks + 1] = stream .. chunk
        end }
      if not r then return nil, code .. " " .. why end
      if not r.ok then return nil, r.message end
      return false, r.stdout .. table.concat(chunks)
    end]])
    local function shows(word)
      t:file("config.yaml", "word: " .. word)
      return t:reload({ force = true }).errors[1].message
    end
    local answer
    t:file("config.yaml", "word: first")
    t:on_run(function(_, command) if command.argv[2] ~= "unknown" then return answer end end)
    answer = "fine"
    t:start()
    assert.equal("finestdoutfine", shows "a")
    local c = t:commands()[#t:commands()]
    assert.same({ "tool", "a" }, c.argv)
    assert.same({ "A=b" }, c.env)
    assert.equal("in", c.stdin)
    answer = 7
    assert.matches("exited with code 7", shows "b")
    answer = { signal = "SEGV" }
    assert.matches("signal SEGV", shows "c")
    answer = { seconds = 30 }
    assert.matches("took longer than 2 s", shows "d")
    answer = { error = "ENOENT" }
    assert.matches("^ENOENT cannot run tool", shows "e")
    assert.matches('rehearsal_spec%.lua:%d+: the policy runs "tool unknown"',
      raised(shows, "unknown"))
    answer = { stdoutt = "x" }
    assert.matches("no field 'stdoutt'", raised(shows, "f"))
    t:on_run(function() error "my own" end)
    assert.matches("my own", raised(shows, "g"))
  end)

  it("answers requests, probes and look-ups with the spec's results", function()
    local t = policy(plain .. [[
      check = function(next)
        local a, why, code = segue.fetch { url = "http://x/" .. next.page, timeout = "3s" }
        if not a then return nil, code .. " " .. why end
        local addresses = segue.resolve "db"
        return nil, a.status .. a.body .. (a.headers["x-one"] or "") .. addresses[1]
      end]])
    local answer
    t:on_fetch(function() return answer end):on_resolve(function() return { "10.0.0.1" } end)
    local function shows(page)
      t:file("config.yaml", "page: " .. page)
      return (t.started and t:reload({ force = true }) or t:start()).errors[1].message
    end
    answer = { body = "text", headers = { ["X-One"] = "1" } }
    assert.equal("200text110.0.0.1", shows "a")
    answer = 404
    assert.equal("40410.0.0.1", shows "b")
    answer = { error = "ECONNREFUSED" }
    assert.matches("^ECONNREFUSED http://x/c", shows "c")
    answer = { seconds = 5 }
    assert.matches("^SEGUE_ETIMEOUT", shows "d")
    assert.equal("http://x/d", t:requests()[#t:requests()].url)

    t = policy(plain .. [[
      check = function()
        local seen = {}
        local a = segue.fetch { url = "http://x/", stream = true }
        seen[1] = a.status .. (a.headers["x-one"] or "")
        for line in a:lines() do seen[#seen + 1] = line end
        segue.fetch { url = "http://x/", on_chunk = function(c) seen[#seen + 1] = #c end }
        segue.fetch({ url = "http://x/", stream = true }):close()
        return nil, table.concat(seen, "|")
      end]])
    t:on_fetch(function() return { body = "one\ntwo", headers = { ["X-One"] = "1" } } end)
    t:file("config.yaml", "a: 1")
    assert.equal("2001|one|two|7", t:start().errors[1].message)

    t = policy(plain .. [[confirm = { within = "5s", probe = segue.probe.tcp "127.0.0.1:5432" }]])
    local up = true
    t:on_fetch(function() return up or { error = "ECONNREFUSED" } end)
    t:file("config.yaml", "a: 1")
    assert.equal("applied", t:start().outcome)
    up = false
    t:file("config.yaml", "a: 2")
    local r = t:reload()
    assert.equal("reverted", r.outcome)
    assert.equal(1, t:config "a")
    assert.matches("the policy asks http://127", raised(function()
      local other = policy(plain .. 'confirm = { probe = segue.probe.http "http://127.0.0.1/" }')
      other:file("config.yaml", "a: 1"):start()
    end))
  end)

  it("has modules that end as the spec decides, with the plan of the real engine", function()
    local t = policy(plain .. [[modules = {
      log = { kind = "c", config = "log", replace = "swap" },
      web = { kind = "c", config = "web", needs = { "log" }, replace = "restart" } }]])
    t:file("config.yaml", "log: {level: 1}\nweb: {port: 80}")
    local r = t:start()
    assert.same({ "log", "web" }, { r.plan[1].module, r.plan[2].module })
    assert.same({ port = 80 }, t:operations()[2].config)
    t:on_module(function(name, verb, config)
      if name == "web" and verb == "prepare" and config.port == 0 then return false, "no port" end
    end)
    t:file("config.yaml", "log: {level: 2}\nweb: {port: 0}")
    r = t:signal "HUP"
    assert.equal("failed", r.outcome)
    assert.matches("no port", r.errors[1].message)
    t:file("config.yaml", "log: {level: 1}\nweb: {port: 81}")
    r = t:signal "HUP"
    assert.equal("applied", r.outcome)
    assert.equal("restart", r.plan[2].action)
    assert.equal("keep", r.plan[1].action)
  end)

  it("does not share its files, folders and variables", function()
    local t = policy([[
      sources = { segue.dir "conf.d/*.yaml", segue.env { prefix = "APP_" } },
      triggers = { segue.signal "HUP" },
      check = function(next)
        assert(segue.write("out/state.txt", "seen " .. next.a))
        assert(segue.stat("out/state.txt").size > 0)
        local names = assert(segue.list "conf.d/*.yaml")
        return next.n == #names, os.getenv "HOME"
      end]], { env = { APP_N = "2" } })
    t:file("conf.d/b.yaml", "a: 1"):file("conf.d/a.yaml", "a: 0"):file("conf.d/c.txt", "a: 7")
    assert.equal("applied", t:start().outcome)
    assert.equal("seen 1", t:written "out/state.txt")
    assert.is_nil(io.open "out/state.txt")
    t:env("APP_N", "1"):file("conf.d/b.yaml", nil)
    assert.equal("applied", t:signal("HUP").outcome)
    assert.equal("seen 0", t:written "out/state.txt")
    t:env("APP_N")
    assert.equal("rejected", t:signal("HUP").outcome)
  end)

  it("runs the policy's own triggers and strategy, and reloads the policy itself", function()
    local t = policy(plain:gsub("segue.poll", [[segue.trigger(function(fire)
        while true do segue.sleep "1h" fire "hourly" end end), segue.poll]]) .. [[
      strategy = function(source)
        segue.log.info("asked", { failures = source.failures })
        return source.failures > 0 and "push" or "pull"
      end]])
    t:file("config.yaml", "a: 1")
    t:start()
    assert.equal("pull", t:sources()[1].strategy)
    local hourly = 0
    for _, r in ipairs(t:advance "3h") do
      if r.cause:find("hourly", 1, true) then hourly = hourly + 1 end
    end
    assert.is_true(hourly >= 2)
    t:fail "config.yaml"
    t:signal "HUP"
    t:advance "0s"
    assert.equal("pull", t:sources()[1].strategy) -- a file cannot push
    assert.equal(1, t:sources()[1].failures)
    assert.matches("policy: asked failures=0.*policy: asked failures=1", t:log())
    t:file("config.yaml", "a: 2")
    t:file("reload.lua", 'local segue = require "segue" return { sources = { segue.value {b = 1} },'
      .. ' triggers = { segue.http "127.0.0.1:1" } }')
    assert.equal("applied", t:reload().outcome)
    assert.same({ b = 1 }, t:config())
    assert.matches("no trigger segue.signal \"HUP\"", raised(t.signal, t, "HUP"))
  end)

  it("validates a policy as the daemon does", function()
    local t = policy 'sources = { segue.file "a" }, triggers = { segue.http "0.0.0.0:80" }'
    local r = t:start()
    assert.equal("rejected", r.outcome)
    assert.matches("other machines can reach this address", r.errors[1].message)
    r = policy("sourcess = {}"):start()
    assert.matches("did you mean", r.errors[1].message)
    r = policy("} while true do end return {"):start()
    assert.equal("rejected", r.outcome)
  end)

  it("reports a mistake in the spec at its line", function()
    local t = policy(plain):file("config.yaml", "a: 1")
    assert.matches("t:start%(%) comes first", raised(t.signal, t, "HUP"))
    t:start()
    for text, fn in pairs {
      ["this rehearsal has started"] = function() t:start() end,
      ["'KILL' cannot be a trigger"] = function() t:signal "KILL" end,
      ["no trigger segue.signal \"USR1\""] = function() t:signal "USR1" end,
      ['wiat is not a known option: did you mean "wait"'] = function() t:reload { wiat = 1 } end,
      ["t:on_run needs a function"] = function() t:on_run "x" end,
      ["t:file: the content of a is a text"] = function() t:file("a", 1) end,
      ["t:advance: the time"] = function() t:advance "soon" end,
      ["testing.policy needs a text"] = function() testing.policy "" end,
      ["texd is not a known option"] = function() testing.policy("x", { texd = "" }) end,
    } do
      local message = raised(fn)
      assert.truthy(message:find(text, 1, true), message)
    end
    local slow = policy(plain .. [[check = function() segue.sleep "4s" return true end]])
    slow:file("config.yaml", "a: 1")
    assert.matches("within 1s of simulated time: the reload is in its phase check",
      raised(function() slow.started = true slow:reload { wait = "1s" } end))
    t:close()
    assert.matches("closed", raised(t.reload, t))
  end)

  it("runs beside others", function()
    for i = 1, 60 do
      local t = policy(plain):file("config.yaml", "a: " .. i)
      assert.equal("applied", t:start().outcome)
    end
  end)
end)
