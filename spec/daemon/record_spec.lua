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

  -- Rejected, applied, failed, applied, forced: four files' worth of trouble.
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

  it("writes what was good before, and then what each reload read and what came of it", function()
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
    assert.equal(files["config.yaml"], list[1].files[d.dir:at "config.yaml"])
    assert.same({ REC_COLOUR = "red" }, list[1].env)
    assert.equal("rejected", list[2].outcome)
    assert.equal("workers: 0\n", list[2].files[d.dir:at "config.yaml"])
    assert.is_nil(list[2].files[d.dir:at "reload.lua"]) -- as before
    assert.equal("ENOENT", list[4].errors[1].code)
    assert.same({}, list[4].files)
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

  it("has what was delivered over a network", function()
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

  it("prints where no file is named, and overwrites none", function()
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

  it("is one at a time, only over the control socket, and of what is still kept", function()
    local d = segue.start { policy = policy, files = files }
    local r = record(d)
    d:reload "?force=1"
    wait_lines(d, 2)
    local p = d:cli("record")
    assert.equal(6, p.code, p:describe())
    assert.matches("somebody else", p.stderr)
    local answer = d:http { method = "POST", path = "/api/v1/recording" }
    assert.equal(403, answer.status)
    assert.matches("only for the control socket", answer.body)
    r:kill "int"
    r:wait_exit()
    local function ask(query)
      return d:control { method = "POST", path = "/api/v1/recording" .. query }.status
    end
    assert.equal(400, ask "?after=x")
    -- The daemon learns a little later that the one before is gone.
    wait.until_true(function() return ask "?after=0" == 200 end)
    for _ = 1, 20 do d:reload "?force=1" end
    assert.equal(410, ask "?after=0")
    assert.equal(410, ask "?after=1000")
    assert.equal(405, d:control("/api/v1/recording").status)
  end)

  it("says what cannot be replayed", function()
    local d = segue.folder { policy = policy, files = files }
    local function told(text)
      if text then d.dir:write("incident", text) else d.dir:delete "incident" end
      local p = segue.cli({ "test", "--replay", d.dir:at "incident", "-c", d.dir:at "reload.lua" })
      assert.equal(4, p.code, p:describe())
      return p.stderr
    end
    assert.matches("cannot read the recording: .*incident", told(nil))
    assert.matches("is not a recording", told "")
    assert.matches("is not a recording", told '{"a":1}\n')
    assert.matches("incident:2: no line of a recording", told '{"segue_recording":1}\nnonsense\n')
    d.dir:write("incident", '{"segue_recording":1,"policy":"/x/reload.lua","started_ms":1}\n')
    local p = segue.cli({ "test", "--replay", d.dir:at "incident", "-c", d.dir:at "gone.lua" })
    assert.equal(4, p.code)
    assert.matches("gone%.lua", p.stderr)
  end)
end)
