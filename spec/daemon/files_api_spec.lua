-- SPDX-License-Identifier: MIT
-- GET /api/v1/files and `segue files`: the rendered files as they are now.
local segue = require "spec.support.segue"
local uv = require "luv"

local policy = [[
local segue = require "segue"
local function file(name)
  return { to = "out/" .. name, mode = "0640", content = function(config)
    return name .. " " .. (config[name] or "none") .. "\n"
  end }
end
return {
  sources = { segue.file "a.yaml" },
  triggers = { segue.signal "HUP" }, secrets = { "pw" },
  modules = { web = { kind = "files", files = { file "a", file "b" },
    check = "! grep -q bad {staged:out/a}", apply = "cat a.yaml | grep pw; @APPLY@" },
    other = { kind = "files", files = { file "c" }, config = "inner" } },
}]]

local function start(apply)
  return segue.start { policy = (policy:gsub("@APPLY@", (apply:gsub("%%", "%%%%")))),
    files = { ["a.yaml"] = "a: 1\nb: 1\npw: hunter2hunter\ninner: { c: 1 }\n" } }
end

local function files(d)
  local modules, list = {}, d:json "/api/v1/files"
  for _, module in ipairs(list) do
    local rows = {}
    for _, row in ipairs(module.files) do rows[row.path:match "[^/]*$"] = row end
    modules[module.module] = { module = module, rows = rows }
  end
  return modules
end

describe("the rendered files of a daemon", function()
  after_each(segue.cleanup)

  it("have metrics: files written and unchanged, commands, results and seconds", function()
    local d = start "! grep -q 2 out/a"
    d.dir:save("a.yaml", "a: 2\nb: 1\npw: hunter2hunter\ninner: { c: 1 }\n")
    assert.equal(500, (d:reload()))
    d.dir:save("a.yaml", "a: bad\nb: 1\npw: hunter2hunter\ninner: { c: 1 }\n")
    assert.equal(422, (d:reload()))
    d.dir:save("a.yaml", "a: 3\nb: 1\npw: hunter2hunter\ninner: { c: 1 }\n")
    assert.equal(200, (d:reload()))
    local text = d:control("/metrics").body
    for name, value in pairs {
      ["written_total{module=\"web\"}"] = 3, ["unchanged_total{module=\"web\"}"] = 1,
      ["written_total{module=\"other\"}"] = 1,
      ["commands_total{module=\"web\",step=\"check\",result=\"good\"}"] = 3,
      ["commands_total{module=\"web\",step=\"check\",result=\"failed\"}"] = 1,
      ["commands_total{module=\"web\",step=\"apply\",result=\"good\"}"] = 2,
      ["commands_total{module=\"web\",step=\"apply\",result=\"failed\"}"] = 1,
    } do
      assert.truthy(text:find(("\nsegue_files_%s %d\n"):format(name, value), 1, true),
        name .. text:match "segue_files.*")
    end
    assert.matches("segue_files_commands_total{module=\"web\",step=\"undo\",result=\"good\"} 1",
      text)
    assert.matches("segue_files_command_seconds_total{module=\"web\",step=\"check\"} %d", text)
  end)

  it("are listed with the generation that wrote each of them", function()
    local d = start "true"
    local first = files(d)
    assert.same({ 1, 1, 1 }, { first.web.rows.a.generation, first.web.rows.b.generation,
      first.other.rows.c.generation })
    d.dir:save("a.yaml", "a: 22\nb: 1\npw: hunter2hunter\ninner: { c: 1 }\n")
    assert.equal(200, (d:reload()))
    local now = files(d)
    assert.same({ 2, 1, 1 }, { now.web.rows.a.generation, now.web.rows.b.generation,
      now.other.rows.c.generation })
    local row = now.web.rows.a
    assert.same({ "in place", d.dir:at "out/a", 5, "0640" },
      { row.state, row.path, row.wanted.size, row.wanted.mode })
    assert.not_equal(first.web.rows.a.wanted.hash, row.wanted.hash)
    assert.equal(first.web.rows.b.since, now.web.rows.b.since)
    assert.equal(true, now.web.module.apply.good)
    assert.matches("^cat a.yaml", now.web.module.apply.by)
    local text = d:cli("files")
    assert.equal(0, text.code)
    assert.matches("\n  in place   [^\n]*/out/a  0640, 5 bytes, generation 2 since 20", text.stdout)
    assert.matches("\nfiles +3 rendered, of 2 modules %(segue files%)\n", d:cli("status").stdout)
    assert.equal(405, d:control({ method = "POST", path = "/api/v1/files" }).status)
  end)

  it("are shown as drifted where another program has changed or removed one", function()
    local d = start "true"
    files(d)
    d.dir:save("out/a", "edited\n")
    d.dir:delete "out/c"
    local now = files(d)
    assert.same({ "drifted", "in place", "drifted" },
      { now.web.rows.a.state, now.web.rows.b.state, now.other.rows.c.state })
    assert.equal(7, now.web.rows.a.found.size)
    assert.equal(4, now.web.rows.a.wanted.size)
    local cli = d:cli "files"
    assert.equal(4, cli.code)
    assert.matches("\n  drifted    [^\n]*/out/a  ", cli.stdout)
    d.dir:save("out/a", "a 1\n")
    assert.equal("drifted", files(d).web.rows.a.state)
    uv.fs_chmod(d.dir:at "out/a", tonumber("640", 8))
    assert.equal("in place", files(d).web.rows.a.state)
  end)

  it("name the reason why the last rendering is not in place, and no secret", function()
    local d = start "test ! -e fail"
    d.dir:save("a.yaml", "a: bad\nb: 1\npw: hunter2hunter\ninner: { c: 1 }\n")
    assert.equal(422, (d:reload()))
    local now = files(d).web.module
    assert.matches("check command .* exited with code 1", now.held)
    assert.equal(true, now.apply.good)
    d.dir:save("fail", "")
    d.dir:save("a.yaml", "a: 3\nb: 1\npw: hunter2hunter\ninner: { c: 1 }\n")
    d:reload()
    now = files(d).web.module
    assert.equal(false, now.apply.good)
    assert.matches("pw: %*%*%*", now.apply.message)
    assert.equal(nil, now.held ~= require("cjson").null and now.held or nil)
    local cli = d:cli "files"
    assert.equal(4, cli.code)
    assert.matches("not applied", cli.stdout)
    assert.not_matches("hunter", cli.stdout)
  end)

  it("leave with their module", function()
    local d = start "true"
    d.dir:save("reload.lua", [[
local segue = require "segue"
return { sources = { segue.file "a.yaml" }, triggers = { segue.signal "HUP" } }]])
    assert.equal(200, (d:reload()))
    assert.same({}, d:json "/api/v1/files")
    assert.equal("no module of the policy renders files\n", d:cli("files").stdout)
  end)
end)
