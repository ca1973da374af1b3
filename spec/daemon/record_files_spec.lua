-- SPDX-License-Identifier: MIT
-- `segue record` and `segue test --replay` of rendered files: a recording has the templates and the
-- outcomes of commands, signals and requests that check and apply files.
local cjson = require "cjson"
local process = require "spec.support.process"
local segue = require "spec.support.segue"
local wait = require "spec.support.wait"
local web = require "spec.support.web"

local policy = [[
local segue = require "segue"
return {
  name = "rendered",
  sources = { segue.file "config.yaml" },
  triggers = { segue.signal "HUP", segue.http "127.0.0.1:@PORT@" },
  modules = {
    web = { kind = "files", check = "sh check {staged:web.conf}",
      apply = { "cat", "live/web.conf" },
      timeout = "2s",
      files = { { template = "web.tmpl", to = "live/web.conf", mode = "0640" } } },
    hook = { kind = "files", apply = segue.post "@URL@/-/reload", undo = { "true" },
      files = { { to = "live/hook.conf", content = function(c) return "hook " .. c.port end } } },
    signal = { kind = "files", apply = segue.hup "server.pid", undo = { "true" },
      files = { { to = "live/signal.conf", content = function(c) return "pid " .. c.port end } } },
  },
}
]]
local check = "if grep -q 'port 99' \"$1\"; then sleep 600; fi\n"
  .. "if grep -q 'port 0' \"$1\"; then echo 'web: [emerg] no port' >&2; exit 1; fi\n"
local GONE = "4194303\n"    -- the number of no process

describe("the recording of rendered files", function()
  after_each(function()
    web.cleanup()
    segue.cleanup()
  end)

  -- Six reloads; the check of the fourth ends by its time limit. Returns the daemon, which has
  -- ended, and the web server that hooks asked.
  local function record()
    local status = 200
    local far = web.serve(function(_, client)
      client:write(web.answer("error: it loads", { status = status }))
    end)
    local server = process.start { "sh", "-c", "trap '' HUP; echo ready; exec sleep 600" }
    server:wait_output "ready"
    local pid = server.pid .. "\n"
    local d = segue.start { policy = (policy:gsub("@URL@", far.url)), files = { check = check,
      ["config.yaml"] = "port: 80\n", ["web.tmpl"] = "port {{.port}}\n", ["server.pid"] = pid } }
    wait.until_true(function() return d:cli("history").stdout:find "applied" end)
    local r = process.start { segue.binary, "record", d.dir:at "incident", "-c",
      d.dir:at "reload.lua", name = "segue record" }
    r:wait_output "recording into"
    local function reload(files, expected)
      for name, text in pairs(files) do d.dir:write(name, text) end
      assert.equal(expected, (d:reload()))
    end
    reload({ ["config.yaml"] = "port: 81\n" }, 200)
    reload({ ["config.yaml"] = "port: 0\n" }, 422)
    reload({ ["config.yaml"] = "port: 82\n", ["server.pid"] = GONE }, 500)
    reload({ ["config.yaml"] = "port: 99\n" }, 500)
    status = 503
    reload({ ["config.yaml"] = "port: 83\n", ["server.pid"] = pid }, 500)
    status = 200
    reload({ ["web.tmpl"] = "now port {{.port}}\n" }, 200)
    wait.until_true(function() return select(2, d.dir:read("incident"):gsub("\n", "")) >= 7 end)
    r:kill "int"
    r:wait_exit()
    d:stop()
    server:stop()
    d.dir:delete "web.tmpl" -- of then, not of today
    return d, far
  end

  local function replay(d, ...)
    local p = segue.cli({ "test", "--replay", d.dir:at "incident", "--json", ... },
      { cwd = d.dir.path })
    return cjson.decode(p.stdout), p
  end

  it("replays to itself, also a time limit, and differs where another policy does", function()
    local d, far = record()
    local asked = #far.requests
    local report, p = replay(d)
    assert.equal(0, p.code, p:describe())
    local outcomes = {}
    for i, step in ipairs(report.steps) do outcomes[i] = step.replayed end
    assert.same({ "applied", "rejected", "reverted", "failed", "reverted", "applied" },
      outcomes)
    assert.same({}, report.missing)
    assert.equal(0, report.commands + report.requests + report.signals + report.left_out)
    assert.equal(asked, #far.requests) -- nothing is asked again

    local text = d.dir:read "reload.lua"
    d.dir:write("other.lua", (text:gsub('"hook "', '"hooked "')))
    report, p = replay(d, "-c", d.dir:at "other.lua")
    assert.equal(3, p.code, p:describe())
    assert.equal("files", report.steps[1].differences[1].what)
    d.dir:write("other.lua", (text:gsub('"cat", ', '"cat", "-n", ')))
    report = replay(d, "-c", d.dir:at "other.lua")
    assert.equal("files.command apply cat -n live/web.conf", report.missing[1].what)
    assert.is_true(report.commands > 0)
  end)

  it("has a command that is stopped as stopped, and not as one that was too slow", function()
    local d = segue.start { policy = [[
      local segue = require "segue"
      return {
        sources = { segue.file "config.yaml" },
        triggers = { segue.signal "HUP" },
        modules = { web = { kind = "files", timeout = "600s", prepare = "300ms",
          check = { "test", "-e", "{staged:web.conf}", user = "root" },
          files = { { to = "web.conf", content = function(c) return "port " .. c.port end } } } },
      }]], files = { ["config.yaml"] = "port: 80\n" },
      env = { SEGUE_FAULTS = "files.user#2=hang" } }
    local r = process.start { segue.binary, "record", d.dir:at "incident", "-c",
      d.dir:at "reload.lua", name = "segue record" }
    r:wait_output "recording into"
    d.dir:write("config.yaml", "port: 81\n")
    assert.equal(500, (d:reload()))
    wait.until_true(function() return (d.dir:read "incident"):find "files.command" end)
    r:kill "int"
    r:wait_exit()
    local answer
    for line in d.dir:read("incident"):gmatch "[^\n]+" do
      for _, one in ipairs(cjson.decode(line).answers or {}) do
        if one.kind == "files.command" then answer = one end
      end
    end
    assert.is_true(answer.abandoned)
    assert.is_nil(cjson.encode(answer):find("took longer", 1, true))
    d:stop()
  end)
end)
