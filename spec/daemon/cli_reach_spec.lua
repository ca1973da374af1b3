-- SPDX-License-Identifier: MIT
-- How a command finds its daemon, and the arguments that it checks before it sends a request.
local cjson = require "cjson"
local process = require "spec.support.process"
local segue = require "spec.support.segue"
local tempdir = require "spec.support.tempdir"

local policy = [[
local segue = require "segue"
return { name = "reach", sources = { segue.file "config.yaml" }, triggers = {} }
]]

-- Runs a command in a folder. env: SEGUE_SOCKET, and SEGUE_SPEC_ROOT (has etc/segue, run/segue).
local function cli(dir, env, ...)
  return segue.cli({ ... }, { cwd = dir.path, env = env })
end

describe("a command finds its daemon", function()
  local d, root
  after_each(segue.cleanup)

  -- A daemon as the installed unit runs it, below a root of its own; and a folder without a policy.
  local function unit(instance)
    root = tempdir.new()
    local etc = root:at("etc/segue" .. instance)
    root:write("etc/segue" .. instance .. "/reload.lua", policy)
    root:write("etc/segue" .. instance .. "/config.yaml", "a: 1\n")
    root:mkdir("run/segue" .. instance)
    local socket = root:at("run/segue" .. instance .. "/control.sock")
    local daemon = process.start { segue.binary, "run", "-c", etc, "--socket", socket,
      "--state", root:at "state" }
    daemon:wait_output "generation 1 is live"
    return tempdir.new(), { SEGUE_SPEC_ROOT = root.path }, etc, daemon
  end

  it("by SEGUE_SOCKET, before the state folder of the policy", function()
    d = segue.start { policy = policy, files = { ["config.yaml"] = "a: 1\n" } }
    local elsewhere = segue.folder { policy = policy, files = { ["config.yaml"] = "a: 1\n" } }
    local env = { SEGUE_SOCKET = d.dir:at ".segue/control.sock" }
    local p = cli(elsewhere.dir, env, "status", "--json")
    assert.equal(0, p.code, p.output)
    assert.equal(d.dir:at "reload.lua", cjson.decode(p.stdout).policy)
    env.SEGUE_SOCKET = d.dir:at "none.sock"
    p = cli(d.dir, env, "status")
    assert.equal(5, p.code)
    assert.equal("segue: no daemon answers on " .. d.dir:at "none.sock"
      .. " (SEGUE_SOCKET): the socket does not exist\n", p.stderr)
    assert.equal(5, cli(d.dir, env, "plan").code) -- not the plan of a first start
    assert.equal(0, cli(d.dir, env, "status", "--state", ".segue").code)
  end)

  it("in the runtime folder of the unit, for the policy of the unit only", function()
    local dir, env, etc, daemon = unit ""
    assert.equal(0, cli(dir, env, "status").code)
    assert.equal(0, cli(dir, env, "reload", "-c", etc).code)
    dir:write("reload.lua", policy)
    local p = cli(dir, env, "reload")
    assert.equal(5, p.code, p.output)
    assert.matches("^segue: no daemon answers: SEGUE_SOCKET is not set, %S+/.segue/control.sock "
      .. "does not exist, and /run/segue/control.sock belongs to another policy; ",
      (p.stderr:gsub(".segue/control.sock", "X/.segue/control.sock", 1)))
    daemon:stop()
    p = cli(dir, env, "status", "-c", etc)
    assert.equal(5, p.code)
    assert.truthy(p.stderr:find(root:at "run/segue/control.sock does not exist", 1, true), p.stderr)
  end)

  it("in the runtime folder of an instance of the template unit", function()
    local dir, env, etc, daemon = unit "/web"
    assert.equal(0, cli(dir, env, "status", "-c", etc).code)
    assert.equal(5, cli(dir, env, "status").code)
    daemon:stop()
  end)

  it("with -c FOLDER as with -c FOLDER/reload.lua", function()
    d = segue.start { policy = policy, files = { ["config.yaml"] = "a: 1\n" } }
    local dir = tempdir.new()
    for _, folder in ipairs { d.dir.path, d.dir.path .. "//" } do
      assert.equal(0, cli(dir, nil, "status", "-c", folder).code)
      assert.equal(0, cli(dir, nil, "check", "-c", folder).code)
    end
    local p = cli(dir, nil, "check", "-c", dir.path)
    assert.matches("%S+/reload.lua: it does not exist", p.output)
  end)

  it("and prints JSON under --json where no daemon runs", function()
    local dir = tempdir.new()
    for _, command in ipairs { "reload", "status", "diff", "history", "rollback", "confirm",
      "unfreeze" } do
      local p = cli(dir, nil, command, "--json")
      assert.equal(5, p.code)
      local answer = cjson.decode(p.stdout)
      assert.matches("^no daemon answers", answer.error)
      assert.equal(5, answer.exit_code)
      assert.equal("", p.stderr)
    end
    local p = cli(dir, nil, "reload", "--json", "--wait", "soon")
    assert.same({ error = '--wait TIME must be a time such as 5s or 200ms, not "soon"',
      exit_code = 2 }, cjson.decode(p.stdout))
  end)
end)

describe("a command checks its arguments", function()
  it("before it contacts a daemon, and names them as its help does", function()
    local dir = tempdir.new()
    for arguments, message in pairs {
      ["reload --wait soon"] = '--wait TIME must be a time such as 5s or 200ms, not "soon"',
      ["reload --if-match foo"] = "--if-match GENERATION must be the number or the hash of a "
        .. 'generation (segue status), not "foo"',
      ["rollback foo"] = 'GENERATION must be the number of a generation (segue history), not "foo"',
      ["rollback 0"] = 'GENERATION must be the number of a generation (segue history), not "0"',
      ["rollback --wait -1"] = '--wait TIME must be a time such as 5s or 200ms, not "-1"',
      ["history foo"] = 'ID must be the number of a reload (segue history), not "foo"',
      ["history --limit 0"] = '--limit N must be a number, at least 1, not "0"',
      ["history --limit 1e3"] = '--limit N must be a number, at least 1, not "1e3"',
      ["history 3 --audit"] = "segue history takes ID or --audit, not both",
      ["diff foo"] = "FROM must be the number of a generation, live, previous or next, "
        .. 'not "foo"',
      ["diff next live"] = 'FROM must be the number of a generation, live or previous, not "next"',
      ["diff 1 foo"] = 'TO must be the number of a generation, live, previous or next, not "foo"',
      ["diff 1 next"] = 'FROM must be live where TO is next, not "1"',
      ["record --for 0"] = '--for TIME must be a time such as 10m, not "0"',
      ["why"] = "segue why needs PATH, such as listen.port",
      ["freeze"] = 'segue freeze needs WHY, the reason that others will see, such as '
        .. '"release weekend"',
      ["status --url host:9443"] = "--url URL must be the address of a segue.http listener, such "
        .. 'as https://host:9443, not "host:9443"',
    } do
      local words = {}
      for word in arguments:gmatch "%S+" do words[#words + 1] = word end
      local p = cli(dir, nil, unpack(words))
      assert.equal(2, p.code, arguments .. ": " .. p.output)
      assert.equal("segue: " .. message .. "\n", p.stderr)
    end
  end)
end)
