-- SPDX-License-Identifier: MIT
-- An incident: recorded from a running daemon, replayed against the policy of then and another one.
local cjson = require "cjson"
local process = require "spec.support.process"
local segue = require "spec.support.segue"
local uv = require "luv"
local wait = require "spec.support.wait"
local web = require "spec.support.web"

local policy = [[
local segue = require "segue"
return {
  name = "recorded",
  sources = { segue.file "config.yaml", segue.file { "extra.yaml", optional = true } },
  triggers = { segue.signal "HUP", segue.http "127.0.0.1:@PORT@" },
  check = function(next) if next.workers == 0 then return nil, "no workers" end return true end,
}
]]
policy = policy:gsub('segue.file { "extra.yaml", optional = true }',
  'segue.file("extra.yaml", { optional = true }), segue.env { prefix = "REC_" }')
local changed = policy:gsub("== 0", "== 6"):gsub("no workers", "six workers")
local files = { ["config.yaml"] = "workers: 4\nsecret: 42\n" }

describe("segue record", function()
  after_each(function()
    web.cleanup()
    segue.cleanup()
  end)

  -- A recorder of daemon d that has begun.
  local function record(d, ...)
    local command = { segue.binary, "record", d.dir:at "incident", "-c", d.dir:at "reload.lua",
      ... }
    command.name = "segue record"
    local r = process.start(command)
    r:wait_output "recording into"
    return r
  end

  local function lines(d)
    local list = {}
    for line in (d.dir:read "incident"):gmatch("[^\n]+") do list[#list + 1] = cjson.decode(line) end
    return list
  end

  local function wait_lines(d, n)
    wait.until_true(function() return select(2, d.dir:read("incident"):gsub("\n", "")) >= n end,
      nil, function() return "line " .. n .. " of:\n" .. d.dir:read "incident" end)
  end

  -- Five reloads: rejected, applied, failed, applied, forced.
  local function incident(d)
    d.dir:write("config.yaml", "workers: 0\n")
    assert.equal(422, (d:reload()))
    d.dir:write("config.yaml", "workers: 5\n")
    assert.equal(200, (d:reload()))
    d.dir:delete "config.yaml"
    assert.equal(500, (d:reload()))
    d.dir:write("config.yaml", "workers: 6\n")
    d.dir:write("extra.yaml", "bytes: \"\\x01\"\n")
    assert.equal(200, (d:reload()))
    assert.equal(200, (d:reload "?force=1"))
  end

  local function replay(d, ...)
    return segue.cli({ "test", "--replay", d.dir:at "incident", "--json", ... },
      { cwd = d.dir.path })
  end

  it("writes the last good generation, then the input and the outcome of each reload", function()
    local d = segue.start { policy = policy, files = files, env = { REC_COLOUR = "red" } }
    wait.until_true(function() return d:cli("history").stdout:find "applied" end)
    local r = record(d)
    incident(d)
    wait_lines(d, 6)
    r:kill "int"
    assert.equal(0, (r:wait_exit()))
    assert.matches("5 reloads recorded", r.stderr)
    local list = lines(d)
    assert.equal(1, list[1].segue_recording)
    assert.equal(d.dir:at "reload.lua", list[1].policy)
    assert.equal(files["config.yaml"], list[1].inputs[d.dir:at "config.yaml"])
    assert.same({ REC_COLOUR = "red" }, list[1].env)
    assert.equal("rejected", list[2].outcome)
    assert.equal("workers: 0\n", list[2].inputs[d.dir:at "config.yaml"])
    assert.is_nil(list[2].inputs[d.dir:at "reload.lua"]) -- as before
    assert.equal("ENOENT", list[4].errors[1].code)
    assert.same({}, list[4].inputs)
    assert.is_true(list[6].forced)
    assert.equal(384, uv.fs_stat(d.dir:at "incident").mode % 512) -- 0600
  end)

  it("is replayed without a difference, and with one where the policy decides otherwise", function()
    local d = segue.start { policy = policy, files = files }
    wait.until_true(function() return d:cli("history").stdout:find "applied" end)
    local r = record(d)
    incident(d)
    wait_lines(d, 6)
    r:kill "term"
    assert.equal(0, (r:wait_exit()))
    d:stop()
    d.dir:write("config.yaml", "workers: 0\n") -- of today, and of no interest

    local p = replay(d)
    assert.equal(0, p.code, p:describe())
    local report = cjson.decode(p.stdout)
    assert.equal(0, report.differences)
    assert.equal(5, #report.steps)
    for i, outcome in ipairs { "rejected", "applied", "failed", "applied", "applied" } do
      assert.equal(outcome, report.steps[i].replayed)
    end

    d.dir:write("changed.lua", d:fill(changed))
    p = replay(d, "-c", d.dir:at "changed.lua")
    assert.equal(3, p.code, p:describe())
    report = cjson.decode(p.stdout)
    assert.equal("applied", report.steps[1].replayed)
    assert.equal("rejected", report.steps[4].replayed)
    assert.equal("six workers", report.steps[4].differences[2].replayed)
    p = segue.cli({ "test", "--replay", d.dir:at "incident", "-c", d.dir:at "changed.lua" })
    assert.matches("outcome: %- rejected\n +%+ applied", p.stdout)
    assert.matches("5 reloads, %d decided otherwise", p.stdout)

    d.dir:write("replay_spec.lua", [[
      local testing = require "segue.testing"
      it("replays", function()
        assert.equal(0, testing.replay("incident").differences)
        local report = testing.replay("incident", { policy = "changed.lua" })
        assert.equal("rejected", report.steps[4].replayed.outcome)
        assert.has_error(function() testing.replay "nothing" end)
      end)]])
    p = segue.cli({ "test", d.dir.path })
    assert.equal(0, p.code, p:describe())
  end)

  it("contains deliveries from a network", function()
    local text = "n: 1\n"
    local far = web.serve(function(_, client) client:write(web.answer(text)) end)
    local url = far.url .. "/config.yaml"
    local d = segue.start { policy = ([[
      local segue = require "segue"
      return { name = "far",
        sources = { segue.url { "%s", interval = "1h", retry = { min = "1h", max = "1h" } } },
        triggers = { segue.signal "HUP" },
        check = function(next) return next.n ~= 3, "three" end }
    ]]):format(url) }
    wait.until_true(function() return d:cli("history").stdout:find "applied" end)
    local r = record(d)
    text = "n: 2\n"
    assert.equal(200, (d:reload()))
    text = "n: 3\n"
    assert.equal(422, (d:reload()))
    wait_lines(d, 3)
    r:kill "int"
    r:wait_exit()
    local p = replay(d)
    assert.equal(0, p.code, p:describe())
    local report = cjson.decode(p.stdout)
    assert.same({ "applied", "rejected" }, { report.steps[1].replayed, report.steps[2].replayed })
    assert.equal(0, report.requests)
  end)

  -- The check asks the outside in each way, the probe runs a command; the answers change with time.
  local asking = [[
    local segue = require "segue"
    return {
      name = "asking",
      sources = { segue.file "config.yaml" },
      triggers = { segue.signal "HUP" },
      check = function(next)
        local verdict = segue.run { "cat", "verdict" }
        if verdict.stdout ~= "good\n" then return nil, "the verdict is " .. verdict.stdout end
        local answer, why = segue.fetch "@URL@/@SECRET@"
        if not answer or answer.body ~= os.getenv "WANTED_BODY" then
          return nil, why or "the body is " .. answer.body
        end
        return segue.read "note" == "\0\1note" and segue.stat("note").size == 6
          and #segue.list "*.yaml" == 1 and #segue.resolve "localhost" > 0, "something is missing"
      end,
      confirm = { within = "60s", hold = "1ms", failures = 1,
        probe = segue.probe.command { "test", "-e", "healthy" } },
    }
  ]]

  it("has the answers of commands, requests and probes, so that it replays to itself", function()
    local body = "yes"
    local far = web.serve(function(_, client) client:write(web.answer(body)) end)
    local text = asking:gsub("@URL@", far.url):gsub("@SECRET@", "q?token=hush")
    local d = segue.start { policy = text, env = { WANTED_BODY = "yes" },
      files = { ["config.yaml"] = "n: 1\n", verdict = "good\n", healthy = "", note = "\0\1note" } }
    wait.until_true(function() return d:cli("history").stdout:find "applied" end)
    local r = record(d)
    local function reload(n, status)
      d.dir:write("config.yaml", ("n: %d\n"):format(n))
      assert.equal(status, (d:reload()))
    end
    d.dir:write("verdict", "bad\n")
    reload(2, 422)
    d.dir:write("verdict", "good\n")
    body = "\0\1no"
    reload(3, 422)
    body = "yes"
    d.dir:delete "healthy"
    reload(4, 500)
    d.dir:write("healthy", "")
    reload(5, 200)
    wait_lines(d, 5)
    r:kill "int"
    r:wait_exit()
    d:stop()
    assert.is_nil(r.stderr:find "no room")
    d.dir:delete "healthy"
    d.dir:write("verdict", "of today\n")

    local p = replay(d)
    assert.equal(0, p.code, p:describe())
    local report = cjson.decode(p.stdout)
    local outcomes = {}
    for i, step in ipairs(report.steps) do outcomes[i] = step.replayed end
    assert.same({ "rejected", "rejected", "reverted", "applied" }, outcomes)
    assert.same({}, report.missing)
    assert.equal(0, report.commands + report.requests + report.left_out)

    local other = text:gsub('"cat", "verdict"', '"cat", "./verdict"'):gsub("/q%?", "/other?")
    d.dir:write("other.lua", other)
    p = replay(d, "-c", d.dir:at "other.lua")
    assert.equal(3, p.code, p:describe())
    report = cjson.decode(p.stdout)
    assert.equal('segue.run ["cat","./verdict"]', report.missing[1].what)
    assert.equal("has no answer in the recording", report.missing[1].why)
    p = segue.cli({ "test", "--replay", d.dir:at "incident", "-c", d.dir:at "other.lua" })
    assert.matches('segue.run %["cat","%./verdict"%] has no answer in the recording', p.stdout)
    assert.is_nil(p.stdout:find "hush")
  end)

  it("contains results in pieces and missing ones, and names those that were too large", function()
    local d = segue.start { files = { ["config.yaml"] = "command: 'true'\n" }, policy = [[
      local segue = require "segue"
      return {
        sources = { segue.file "config.yaml" },
        triggers = { segue.signal "HUP" },
        timeouts = { check = "2s" },
        check = function(next)
          local chunks = {}
          local result = segue.run { shell = next.command, max_output = 2 ^ 24, timeout = 0,
            on_output = function(_, chunk) chunks[#chunks + 1] = chunk end }
          local all = table.concat(chunks)
          if all ~= result.stdout then return nil, "the chunks are not the output" end
          return all == "", #all > 1000 and "large" or all
        end }
    ]] }
    wait.until_true(function() return d:cli("history").stdout:find "applied" end)
    local r = record(d)
    local function reload(command, status)
      d.dir:write("config.yaml", "command: '" .. command .. "'\n")
      assert.equal(status, (d:reload()))
    end
    reload("echo one; echo two", 422)
    reload("sleep 600", 422)
    reload("head -c 9000000 /dev/zero", 422)
    wait_lines(d, 4)
    r:kill "int"
    r:wait_exit()
    assert.matches("answers left out of the recording, .* 8 MiB .*: 1\n", r.stderr)
    local list = lines(d)
    assert.is_true(list[3].answers[1].abandoned)
    assert.is_true(list[4].answers[1].left_out)
    assert.is_nil(list[4].answers[1].events)
    local p = replay(d)
    local report = cjson.decode(p.stdout)
    assert.equal(3, p.code, p:describe())
    assert.same({}, report.steps[1].differences)
    assert.same({}, report.steps[2].differences, p:describe())
    assert.equal("applied", report.steps[3].replayed)
    assert.equal(1, report.left_out)
    assert.equal(2, #report.missing)
    assert.equal('segue.run ["/bin/sh","-c","true"]', report.missing[1].what) -- of the first load
    assert.equal('segue.run ["/bin/sh","-c","head -c 9000000 /dev/zero"]', report.missing[2].what)
    assert.equal("has an answer that found no room in the recording", report.missing[2].why)
  end)

  it("ends by itself after --for, and with the daemon", function()
    local d = segue.start { policy = policy, files = files }
    local r = record(d, "--for", "300ms")
    assert.equal(0, (r:wait_exit()))
    assert.matches("recording into %S+ for 300ms\n", r.stderr)
    assert.matches("0 reloads recorded", r.stderr)
    wait.until_true(function() -- a request that ended without an answer has no status
      return d:cli("history", "--audit").stdout:find "Z +%- +POST +/api/v1/recording"
    end, nil, "the request that the recording left")
    d.dir:delete "incident"
    r = record(d)
    d:stop()
    assert.equal(0, (r:wait_exit()))
    assert.matches("the daemon ended, and so did the recording", r.stderr)
  end)

  it("prints to standard output without a file, and overwrites no file", function()
    local d = segue.start { policy = policy, files = files }
    d.dir:write("incident", "mine")
    local p = d:cli("record", d.dir:at "incident")
    assert.equal(2, p.code)
    assert.matches("exists already", p.stderr)
    assert.equal("mine", d.dir:read "incident")
    p = d:cli("record", "--for", "200ms")
    assert.equal(0, p.code, p:describe())
    assert.equal(1, cjson.decode(p.stdout:match "[^\n]+").segue_recording)
    assert.equal(2, d:cli("record", "--for", "soon").code)
    assert.equal(4, d:cli("record", d.dir:at "no/such/folder").code)
  end)

  it("runs once at a time, only over the control socket, from entries that exist", function()
    local d = segue.start { policy = policy, files = files }
    local r = record(d)
    d:reload "?force=1"
    wait_lines(d, 2)
    local p = d:cli("record")
    assert.equal(6, p.code, p:describe())
    assert.matches("another client", p.stderr)
    local answer = d:http { method = "POST", path = "/api/v1/recording" }
    assert.equal(403, answer.status)
    assert.matches("only for the control socket", answer.body)
    r:kill "int"
    r:wait_exit()
    local function ask(query)
      return d:control { method = "POST", path = "/api/v1/recording" .. query }.status
    end
    assert.equal(400, ask "?after=x")
    -- The daemon notices a little later that the previous client has closed its connection.
    wait.until_true(function() return ask "?after=0" == 200 end)
    for _ = 1, 20 do d:reload "?force=1" end
    assert.equal(410, ask "?after=0")
    assert.equal(410, ask "?after=1000")
    assert.equal(405, d:control("/api/v1/recording").status)
  end)

  it("reports results that cannot be replayed", function()
    local d = segue.folder { policy = policy, files = files }
    local function reported(text)
      if text then d.dir:write("incident", text) else d.dir:delete "incident" end
      local p = segue.cli({ "test", "--replay", d.dir:at "incident", "-c", d.dir:at "reload.lua" })
      assert.equal(4, p.code, p:describe())
      return p.stderr
    end
    assert.matches("cannot read the recording: .*incident", reported(nil))
    assert.matches("is not a recording", reported "")
    assert.matches("is not a recording", reported '{"a":1}\n')
    assert.matches("incident:2: no line of a recording",
      reported '{"segue_recording":1}\nnonsense\n')
    d.dir:write("incident", '{"segue_recording":1,"policy":"/x/reload.lua","started_ms":1}\n')
    local p = segue.cli({ "test", "--replay", d.dir:at "incident", "-c", d.dir:at "gone.lua" })
    assert.equal(4, p.code)
    assert.matches("gone%.lua", p.stderr)
  end)
end)
