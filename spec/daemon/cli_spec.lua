-- SPDX-License-Identifier: MIT
-- The command line: exit codes, help, usage errors, and every command with and without a daemon.
local cjson = require "cjson"
local cli = require "spec.support.cli"
local process = require "spec.support.process"
local segue = require "spec.support.segue"
local tempdir = require "spec.support.tempdir"
local uv = require "luv"

describe("segue", function()
  after_each(segue.cleanup)

  it("prints help and version", function()
    local help = segue.cli { "help" }
    assert.equal(0, help.code)
    for _, command in ipairs { "run", "check", "plan", "reload", "status", "diff", "init" } do
      assert.matches("\n  " .. command .. " ", help.stdout)
      local one = segue.cli { "help", command }
      assert.equal(0, one.code)
      assert.matches("segue " .. command, one.stdout)
      assert.equal(one.stdout, segue.cli({ command, "--help" }).stdout)
    end
    assert.equal(0, segue.cli({ "--help" }).code)
    local version = segue.cli { "version" }
    assert.matches("^segue %d+%.%d+%.%d+\n$", version.stdout)
    assert.equal(version.stdout, segue.cli({ "--version" }).stdout)
  end)

  it("ends with code 2 and a hint when it is used wrongly", function()
    local cases = {
      { {}, "" },
      { { "realod" }, "did you mean \"reload\"" },
      { { "frobnicate" }, "segue help" },
      { { "reload", "--froce" }, "did you mean %-%-force%?" },
      { { "reload", "--log-level", "info" }, "%-%-log%-level" },
      { { "reload", "extra" }, "extra" },
      { { "run", "-c" }, "needs a value" },
      { { "reload", "--force=1" }, "takes no value" },
      { { "--json", "status" }, "the command comes first" },
      { { "help", "stauts" }, "status" },
      { { "run", "--log-level", "loud" }, "loud" },
      { { "run", "--log-format", "xml" }, "xml" },
    }
    for _, case in ipairs(cases) do
      local p = segue.cli(case[1])
      assert.equal(2, p.code, table.concat(case[1], " ") .. ": " .. p.output)
      assert.matches(case[2], p.stderr)
    end
  end)

  describe("reload", function()
    it("ends with 0 for applied and unchanged", function()
      local d = cli.start()
      local p = d:cli "reload"
      assert.equal(0, p.code)
      assert.matches("^unchanged: generation 1 stays live", p.stdout)
      p = d:cli("reload", "--force")
      assert.equal(0, p.code)
      assert.matches("^applied: generation 2 is live", p.stdout)
    end)

    it("ends with 3 for rejected and prints the reason", function()
      local d = cli.start()
      d.dir:save("config.yaml", "bad: 1\n")
      local p = d:cli "reload"
      assert.equal(3, p.code)
      assert.matches("bad is set", p.stdout)
    end)

    it("ends with 4 for failed", function()
      local port, handle = require("spec.support.port").taken()
      local d = cli.start()
      d.dir:save("reload.lua", (cli.policy:gsub('segue.signal "HUP"',
        ('segue.http "127.0.0.1:%d"'):format(port))))
      local p = d:cli "reload"
      assert.equal(4, p.code, p.output)
      handle:close()
    end)

    it("ends with 5 where no daemon runs", function()
      local d = segue.folder { policy = cli.policy }
      for _, command in ipairs { "reload", "status", "diff" } do
        local p = d:cli(command)
        assert.equal(5, p.code, p.output)
        assert.matches("^segue: ", p.stderr)
        assert.equal("", p.stdout)
      end
    end)

    it("ends with 6 when the live generation is not the expected one", function()
      local d = cli.start()
      local p = d:cli("reload", "--if-match", "9")
      assert.equal(6, p.code, p.output)
      assert.matches("^segue: generation 1 %(%x+%) is live, not 9: nothing was reloaded", p.stderr)
      assert.equal(0, d:cli("reload", "--if-match", "1").code)
    end)

    it("does not wait with --wait 0", function()
      local d = cli.start()
      d.dir:save("config.yaml", "a: 2\n")
      assert.equal(0, d:cli("reload", "--wait", "0").code)
      d:wait_config(function(config) return config.a == 2 end)
    end)

    it("prints the whole answer as JSON", function()
      local d = cli.start()
      d.dir:save("config.yaml", "a: 2\n")
      local p = d:cli("reload", "--json")
      assert.equal(0, p.code)
      local answer = cjson.decode(p.stdout)
      assert.equal("applied", answer.outcome)
      assert.equal("a", answer.changes[1].path)
    end)
  end)

  describe("plan", function()
    it("prints the steps of a reload without executing them", function()
      local d = cli.start()
      d.dir:save("config.yaml", "a: 2\nb: 3\n")
      local p = d:cli "plan"
      assert.equal(0, p.code, p.output)
      assert.matches("~ a = 2", p.stdout)
      assert.matches("%+ b = 3", p.stdout)
      assert.equal(1, d:config().a)
      assert.equal(0, d:cli("reload").code)
      assert.matches("nothing has changed", d:cli("plan").stdout)
    end)

    -- The lines of a text that name changes and modules, sorted.
    local function lines(text)
      local list = {}
      for line in text:gmatch "[^\n]+" do
        if line:match "^  [-+~] " or line:match "^  and %d+ more" then list[#list + 1] = line end
      end
      return list
    end

    it("prints the same as the reload and its history afterwards", function()
      local d = cli.start 'a: 1\nold: x\nlist: [1, 2]\n"odd key": {b: 1}\nlong: y\n'
      local text = { 'a: 2\nlist: [1, 3, "\\u00e4"]\n"odd key": {b: "two\\nlines", c: null}\n',
        'long: "' }
      text[#text + 1] = ("\195\164"):rep(300) .. '"\nmany:\n'
      for i = 1, 150 do text[#text + 1] = ("  k%d: %d\n"):format(i, i) end
      for _, config in ipairs { table.concat(text), "a: 3\n", "b: {}\n" } do
        d.dir:save("config.yaml", config)
        local plan, reported = d:cli "plan", cjson.decode(d:cli("plan", "--json").stdout)
        assert.equal(0, plan.code, plan:describe())
        local done = cjson.decode(d:cli("reload", "--json").stdout)
        assert.equal("applied", done.outcome)
        assert.same(reported.changes, done.changes)
        assert.same(reported.steps, done.steps)
        assert.equal(reported.change_count, done.change_count)
        assert.equal(reported.outcome, done.outcome)
        local kept = cjson.decode(d:cli("history", tostring(done.id), "--json").stdout)
        assert.same(done.changes, kept.changes)
        assert.same(done.steps, kept.steps)
        local planned = lines(plan.stdout)
        assert.is_true(#planned > 0)
        assert.same(planned, lines(d:cli("history", tostring(done.id)).stdout))
        assert.matches("^plan: " .. reported.change_count .. " changes?, 0 modules\n", plan.stdout)
      end
    end)

    it("fails with the errors with which the reload fails", function()
      local d = cli.start()
      for _, config in ipairs { "bad: 2\n", "a: [\n", "a: 1\na: 2\n" } do
        d.dir:save("config.yaml", config)
        local plan, reported = d:cli "plan", cjson.decode(d:cli("plan", "--json").stdout)
        local reload, done = d:cli "reload", cjson.decode(d:cli("reload", "--json").stdout)
        assert.equal(plan.code, reload.code)
        assert.is_true(reload.code > 2)
        assert.same(reported.errors, done.errors)
        assert.equal(reported.outcome, done.outcome)
        assert.equal(plan.stdout:match "\n(.*)$", reload.stdout:match "\n(.*)$")
      end
    end)

    it("reports everything as new where no daemon runs", function()
      local d = segue.folder { policy = cli.policy, files = { ["config.yaml"] = "a: 1\n" } }
      local p = d:cli "plan"
      assert.equal(0, p.code, p.output)
      assert.matches("everything is new", p.stdout)
      assert.is_nil(uv.fs_stat(d.dir:at ".segue"))
    end)

    it("ends with 3 for a configuration that would be rejected", function()
      local d = cli.start()
      d.dir:save("config.yaml", "bad: 2\n")
      local p = d:cli "plan"
      assert.equal(3, p.code)
      assert.matches("^plan: the reload would be rejected\n", p.stdout)
      assert.matches("bad is set", p.stdout)
    end)
  end)

  it("status prints the state of the daemon, as a table and as JSON", function()
    local d = cli.start()
    local p = d:cli "status"
    assert.equal(0, p.code)
    assert.matches("^cli +ready\n", p.stdout)
    assert.matches("generation +1 %(%x+%)", p.stdout)
    assert.matches("pid " .. d.process.pid, p.stdout)
    assert.matches("config%.yaml +file", p.stdout)
    assert.is_nil(p.stdout:find("\27", 1, true)) -- not a terminal
    local json = d:cli("status", "--json")
    assert.equal(1, cjson.decode(json.stdout).generation)
    d.dir:save("config.yaml", "a: [\n")
    d:cli "reload"
    assert.matches("rejected", d:cli("status").stdout)
    assert.matches("config%.yaml:%d+:%d+: ", d:cli("status").stdout)
  end)

  it("diff prints the changes", function()
    local d = cli.start "a: 1\nb: 2\n"
    d.dir:save("config.yaml", "a: 5\nc: [1]\n")
    d:reload()
    local p = d:cli "diff"
    assert.equal(0, p.code, p.output)
    assert.matches("generation 1 %-> 2: 3 changes", p.stdout)
    assert.matches("\n~ a = 1 %-> 5\n", p.stdout)
    assert.matches("\n%- b = 2\n", p.stdout)
    assert.matches("\n%+ c = %[1%]\n", p.stdout)
    assert.equal(3, cjson.decode(d:cli("diff", "1", "2", "--json").stdout).change_count)
    d.dir:save("config.yaml", "a: 6\n")
    assert.matches("~ a = 6", d:cli("diff", "next").stdout)
    assert.equal(2, d:cli("diff", "tomorrow").code)
    local gone = d:cli("diff", "77")
    assert.equal(6, gone.code)
    assert.matches("^segue: generation 77 is not in the history", gone.stderr)
  end)

  it("ends with 4 where the policy cannot be read, with 5 where a daemon is required", function()
    local dir = tempdir.new()
    for code, commands in pairs { [4] = { "check", "plan", "run" },
      [5] = { "reload", "status", "diff" } } do
      for _, command in ipairs(commands) do
        local p = segue.cli({ command, "-c", "missing.lua" }, { cwd = dir.path })
        assert.equal(code, p.code, command .. ": " .. p.output)
        local name = code == 4 and "missing.lua: it does not exist" or "control.sock"
        assert.truthy(p.output:find(name, 1, true), p.output)
      end
    end
  end)

  describe("init", function()
    it("writes a policy that passes check, and never overwrites a file", function()
      local dir = tempdir.new()
      local p = segue.cli { "init", dir:at "new" }
      assert.equal(0, p.code, p.output)
      assert.same({ "config.yaml", "reload.lua" }, dir:list "new")
      local check = segue.cli { "check", "-c", dir:at "new/reload.lua" }
      assert.equal(0, check.code, check.output)
      dir:write("new/config.yaml", "mine: 1\n")
      local again = segue.cli { "init", dir:at "new" }
      assert.equal(4, again.code)
      assert.matches("never overwrites", again.stderr)
      assert.equal("mine: 1\n", dir:read "new/config.yaml")
    end)

    it("leaves no part of a file that the disk does not take whole", function()
      local dir = tempdir.new()
      local p = process.run { "prlimit", "--fsize=10", segue.binary, "init", dir.path }
      assert.equal(4, p.code, p:describe())
      assert.matches("cannot write .*/reload%.lua: [Ff]ile too large", p.stderr)
      assert.same({}, dir:list())
      assert.equal(0, segue.cli({ "init", dir.path }).code)
    end)

    it("writes no file if one of the two exists", function()
      local dir = tempdir.new()
      dir:write("config.yaml", "mine: 1\n")
      assert.equal(4, segue.cli({ "init" }, { cwd = dir.path }).code)
      assert.same({ "config.yaml" }, dir:list())
    end)
  end)
end)
