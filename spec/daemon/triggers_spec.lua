-- SPDX-License-Identifier: MIT
-- Everything that asks a running daemon for a reload, end to end.
local http = require "spec.support.http"
local segue = require "spec.support.segue"
local tempdir = require "spec.support.tempdir"
local uv = require "luv"
local wait = require "spec.support.wait"

local function policy(triggers)
  return [[
local segue = require "segue"
return {
  name = "triggers",
  sources = { segue.file "config.yaml" },
  debounce = { min = "5ms", max = "100ms" },
]] .. (triggers and "  triggers = { " .. triggers .. " },\n" or "") .. "}\n"
end

local function start(triggers, dir)
  return segue.start { policy = policy(triggers), dir = dir,
    files = not dir and { ["config.yaml"] = "n: 1\n" } or nil }
end

local function becomes(d, n)
  d:wait_config(function(config) return config.n == n end)
end

describe("a reload is requested by", function()
  after_each(segue.cleanup)

  it("SIGHUP", function()
    local d = start 'segue.signal "HUP"'
    d.dir:write("config.yaml", "n: 2\n")
    d:signal "hup"
    becomes(d, 2)
    assert.equal("signal", d:json("/api/v1/reloads")[1].trigger)
  end)

  it("a file written in place", function()
    local d = start "segue.watch()"
    d.dir:write("config.yaml", "n: 2\n")
    becomes(d, 2)
    assert.equal("watch", d:json("/api/v1/reloads")[1].trigger)
  end)

  it("a file saved by rename, again and again", function()
    local d = start "segue.watch()"
    for n = 2, 6 do
      d.dir:save("config.yaml", ("n: %d\n"):format(n))
      becomes(d, n)
    end
  end)

  it("other bytes, also with the old times; not by other times alone", function()
    local d = start 'segue.watch(), segue.http "127.0.0.1:@PORT@"'
    local path = d.dir:at "config.yaml"
    local before = uv.fs_stat(path).mtime.sec
    uv.fs_utime(path, before - 1000, before - 1000)
    local status, answer = d:reload()
    assert.equal(200, status)
    assert.equal("unchanged", answer.outcome)
    assert.equal(1, d:json("/api/v1/status").generation)
    d.dir:write("config.yaml", "n: 2\n")
    uv.fs_utime(path, before - 1000, before - 1000)
    becomes(d, 2)
  end)

  it("a ConfigMap swap", function()
    local dir = tempdir.new()
    dir:configmap { ["config.yaml"] = "n: 1\n" }
    local d = start("segue.watch()", dir)
    for n = 2, 4 do
      dir:configmap { ["config.yaml"] = ("n: %d\n"):format(n) }
      becomes(d, n)
    end
  end)

  it("curl -X POST", function()
    local d = start 'segue.http "127.0.0.1:@PORT@"'
    d.dir:write("config.yaml", "n: 2\n")
    local curl = require("spec.support.process").run { "curl", "-sS", "-X", "POST",
      ("http://127.0.0.1:%d/-/reload"):format(d.port) }
    assert.equal(0, curl.code)
    assert.matches("^applied: generation 2 is live", curl.stdout)
    becomes(d, 2)
  end)

  it("PUT", function()
    local d = start 'segue.http "127.0.0.1:@PORT@"'
    d.dir:write("config.yaml", "n: 2\n")
    assert.equal(200, d:http { method = "PUT", path = "/-/reload" }.status)
    becomes(d, 2)
  end)

  it("a poll timer", function()
    local d = start 'segue.poll "100ms"'
    d.dir:write("config.yaml", "n: 2\n")
    becomes(d, 2)
    assert.equal("poll", d:json("/api/v1/reloads")[1].trigger)
  end)

  it("segue reload", function()
    local d = start 'segue.signal "HUP"'
    d.dir:write("config.yaml", "n: 2\n")
    local cli = d:cli "reload"
    assert.equal(0, cli.code, cli.output)
    assert.matches("^applied: generation 2 is live", cli.stdout)
    assert.equal(2, d:config().n)
  end)

  it("HUP and saved files where the policy names no triggers", function()
    local d = start(nil)
    d.dir:save("config.yaml", "n: 2\n")
    becomes(d, 2)
    d:signal "hup"
    d:wait_log "cause=SIGHUP"
  end)
end)

describe("SIGHUP for a policy that does not name it", function()
  after_each(segue.cleanup)

  it("is logged and has no effect, like the other signals that end a process", function()
    local d = start "segue.watch()"
    for _, name in ipairs { "hup", "usr1", "usr2", "alrm", "vtalrm", "prof", "io", "pwr" } do
      d:signal(name)
      d:wait_log(("SIG%s came, but the policy has no trigger segue.signal \"%s\": nothing is done")
        :format(name:upper(), name:upper()))
    end
    assert.equal(200, d:control("/-/ready").status)
  end)
end)

describe("a signal that comes before the policy is known", function()
  after_each(segue.cleanup)

  it("does not end the daemon; it is delivered or reported after the first load", function()
    local d = segue.start { ready = false, files = { ["config.yaml"] = "n: 1\n" }, policy = [[
local segue = require "segue"
return {
  name = "early",
  sources = { segue.file "config.yaml", segue.source { name = "slow", fetch = function()
    segue.run({ "sh", "-c", "touch began; until [ -e go ]; do sleep 0.01; done" },
      { timeout = "60s" })
    return { b = 1 }
  end } },
  triggers = { segue.signal "HUP", segue.signal("USR1", "reopen") },
}
]] }
    wait.until_true(function() return uv.fs_stat(d.dir:at "began") end, nil, "the first load")
    for _, name in ipairs { "hup", "usr1", "usr2", "usr1" } do d:signal(name) end
    d.dir:write("go", "")
    d:wait_ready()
    d:wait_log "cause=SIGHUP"
    d:wait_log "files are opened again.*cause=SIGUSR1"
    d:wait_log "SIGUSR2 came, but the policy has no trigger"
    assert.is_nil(d:log():find("SIGHUP came", 1, true), d:log())
    assert.is_nil(d:log():find("SIGUSR1 came", 1, true), d:log())
  end)
end)

describe("a bad file that is saved", function()
  after_each(segue.cleanup)

  it("never goes live and is reported with its place, and the next good one goes live", function()
    local d = start "segue.watch()"
    d.dir:save("config.yaml", "n: 2\nn: 3\n")
    d:wait_log "config%.yaml:2:1: "
    assert.equal(1, d:config().n)
    d.dir:save("config.yaml", "n: 4\n")
    becomes(d, 4)
  end)
end)

local crowds = {
  { "are all answered, each by a run that began after it was asked" },
  { "are so with a slow check and the usual limit of files", check = true,
    under = { "prlimit", "--nofile=1024:4096" } },
  { "are all answered, some with 503, where no more files are allowed", check = true, some = true,
    under = { "prlimit", "--nofile=1024:1024" } },
}

describe("1,000 concurrent POST /-/reload while the file changes", function()
  after_each(segue.cleanup)

  for _, crowd in ipairs(crowds) do it(crowd[1], function()
    local cjson = require "cjson"
    local text = policy 'segue.http "127.0.0.1:@PORT@"'
    if crowd.check then
      text = text:gsub("}\n$", "  check = function() segue.sleep(0.4) return true end,\n}\n")
    end
    local d = segue.start { policy = text, files = { ["config.yaml"] = "n: 1\n" },
      under = crowd.under }
    local waves, size = 20, 50
    local connections = {}
    for wave = 1, waves do
      -- The change of this wave is on disk before its requests are sent.
      d.dir:save("config.yaml", ("n: %d\n"):format(wave + 1))
      for _ = 1, size do
        local c = http.connect { port = d.port }
        c:write(http.format { method = "POST", path = "/-/reload", port = d.port,
          headers = { Accept = "application/json" } })
        c.wave = wave
        connections[#connections + 1] = c
      end
      uv.run "nowait"
    end
    local answers, busy = {}, 0
    for _, c in ipairs(connections) do
      local r = c:read_response(60000)
      if crowd.some and r.status == 503 then
        busy = busy + 1
      else
        assert.equal(200, r.status, r.body)
        answers[#answers + 1] = cjson.decode(r.body)
        answers[#answers].wave = c.wave
      end
      c:close()
    end
    assert.equal(waves * size, #answers + busy)
    assert.is_true(#answers >= 384, #answers) -- of connections there are at least as many
    -- Which hash stands for which n: every run that applied something was requested by one of them.
    local n_of, runs = {}, {}
    for _, answer in ipairs(answers) do
      runs[answer.id] = true
      for _, change in ipairs(answer.changes) do
        n_of[answer.hash] = assert(tonumber(change.to_text:match("%d+")))
      end
    end
    local last = 0
    for _, answer in ipairs(answers) do
      local n = n_of[answer.hash]
      assert.is_number(n, "an answer names a configuration that no reload brought")
      assert.is_true(n >= answer.wave + 1,
        ("asked for %d, answered with %d"):format(answer.wave + 1, n))
      last = math.max(last, n)
    end
    if not crowd.some then
      assert.equal(waves + 1, last)
      wait.until_true(function() return d:config().n == waves + 1 end)
    end
    local count = 0
    for _ in pairs(runs) do count = count + 1 end
    assert.is_true(count < #answers / 2, count .. " runs for 1,000 requests: nothing was coalesced")
  end) end
end)

describe("a command of the policy", function()
  after_each(segue.cleanup)

  it("gets the limit of open files that the daemon was started with", function()
    local d = segue.start { under = { "prlimit", "--nofile=512:4096" },
      files = { ["config.yaml"] = "n: 1\n" }, policy = [[
local segue = require "segue"
return { name = "limits", sources = { segue.file "config.yaml" }, check = function(config)
  if config.n == 1 then return true end
  return nil, segue.run({ "sh", "-c", "echo soft $(ulimit -Sn) hard $(ulimit -Hn)" }).stdout
end }
]] }
    local limits = io.open("/proc/" .. d.process.pid .. "/limits")
    local soft, hard = limits:read("*a"):match("Max open files%s+(%d+)%s+(%d+)")
    limits:close()
    assert.same({ "4096", "4096" }, { soft, hard })
    d.dir:save("config.yaml", "n: 2\n")
    local status, answer = d:reload()
    assert.equal(422, status)
    assert.matches("soft 512 hard 4096", answer.errors[1].message)
  end)
end)
