-- SPDX-License-Identifier: MIT
-- The command line: exit codes, help, usage errors, and every command with and without a daemon.
local cjson = require "cjson"
local process = require "spec.support.process"
local segue = require "spec.support.segue"
local tempdir = require "spec.support.tempdir"
local uv = require "luv"

local policy = [[
local segue = require "segue"
return {
  name = "cli",
  sources = { segue.file "config.yaml" },
  triggers = { segue.signal "HUP" },
  check = function(next)
    if next.bad then return nil, "bad is set" end
    return true
  end,
}
]]

local function start(config)
  return segue.start { policy = policy, files = { ["config.yaml"] = config or "a: 1\n" } }
end

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

  describe("check", function()
    it("ends with 0 for a good policy, and changes nothing", function()
      local d = segue.folder { policy = policy, files = { ["config.yaml"] = "a: 1\n" } }
      local p = d:cli "check"
      assert.equal(0, p.code, p.output)
      assert.matches("^good: ", p.stdout)
      assert.same({ "config.yaml", "reload.lua" }, d.dir:list())
    end)

    it("ends with 3 and file:line:column for a bad one", function()
      local d = segue.folder { policy = policy, files = { ["config.yaml"] = "a: 1\na: 2\n" } }
      local p = d:cli "check"
      assert.equal(3, p.code)
      assert.matches("config%.yaml:2:1: ", p.stdout)
      local json = d:cli("check", "--json")
      assert.equal(3, json.code)
      assert.equal(2, cjson.decode(json.stdout).errors[1].line)
    end)

    it("runs the policy's check", function()
      local d = segue.folder { policy = policy, files = { ["config.yaml"] = "bad: 1\n" } }
      local p = d:cli "check"
      assert.equal(3, p.code)
      assert.matches("bad is set", p.stdout)
    end)

    it("finds ./reload.lua by itself", function()
      local d = segue.folder { policy = policy, files = { ["config.yaml"] = "a: 1\n" } }
      assert.equal(0, segue.cli({ "check" }, { cwd = d.dir.path }).code)
    end)

    it("validates the configuration by the policy's schema", function()
      local d = segue.folder {
        policy = [[
local segue = require "segue"
return { sources = { segue.file "config.yaml" }, schema = "config.schema.yaml",
  check = function(next) error("not asked") end }
]],
        files = { ["config.yaml"] = "listen: x\nwieght: 1\n", ["config.schema.yaml"] =
          "properties: { weight: { type: integer }, listen: { type: string } }\n"
          .. "additionalProperties: false\n" } }
      local p = d:cli "check"
      assert.equal(3, p.code, p.output)
      assert.matches('config%.yaml:2:1: wieght is not a known key here: did you mean "weight"?',
        p.stdout)
      assert.is_nil(p.stdout:find("not asked", 1, true))
    end)

    describe("--schema", function()
      local files = {
        ["s.yaml"] = "properties:\n  weight: { maximum: 100 }\n  at: { format: ipv4 }\n",
        ["good.json"] = '{"weight":100,"at":"x"}', ["bad.yaml"] = "a: 1\nweight: 500\n",
        ["broken.yaml"] = "a: [", ["any.json"] = "[7]", ["wrong.json"] = '{"type":"objekt"}',
        ["false.json"] = "false",
      }
      local function check(...)
        local d = segue.folder { files = files }
        return segue.cli({ "check", "--schema", ... }, { cwd = d.dir.path })
      end
      it("prints that the file is valid, or the mistakes with their rules", function()
        local p = check("s.yaml", "good.json")
        assert.equal(0, p.code, p.output)
        assert.equal("good: good.json fits s.yaml\n", p.stdout)
        p = check("s.yaml", "bad.yaml")
        assert.equal(3, p.code)
        assert.equal("bad.yaml:2:9: weight must be at most 100, not 500 (at weight)\n"
          .. "    rule: s.yaml:2:13 #/properties/weight/maximum\n", p.stdout)
        assert.equal(0, check("s.yaml", "any.json").code)
        assert.equal(3, check("false.json", "any.json").code)
      end)
      it("asserts formats on request", function()
        local p = check("s.yaml", "good.json", "--formats")
        assert.equal(3, p.code)
        assert.matches("at must be an IPv4 address such as 192.0.2.1, not \"x\"", p.stdout)
      end)
      it("prints a verdict and the errors as JSON", function()
        local p = check("s.yaml", "bad.yaml", "--json")
        assert.equal(3, p.code)
        assert.same({ valid = false, error_count = 1, warnings = {}, errors = { {
          path = "weight", pointer = "/weight", file = "bad.yaml", line = 2, column = 9,
          keyword = "maximum", schema_path = "#/properties/weight/maximum",
          message = "weight must be at most 100, not 500" } } }, cjson.decode(p.stdout))
        p = check("s.yaml", "good.json", "--json")
        assert.same({ valid = true, error_count = 0, warnings = {}, errors = {} },
          cjson.decode(p.stdout))
      end)
      it("rejects a file without content, in any form, with one message", function()
        files["t.json"] = "true"
        for name, text in pairs { ["a.yaml"] = "# all is off\n", ["b.yaml"] = "---\n",
          ["c.yaml"] = "", ["d.json"] = "null", ["e.yaml"] = "~\n" } do
          files[name] = text
          local p = check("t.json", name)
          assert.equal(3, p.code, p.output)
          assert.matches(name .. ": the file is empty: was it cut short?", p.stdout, 1, true)
        end
      end)
      it("ends with 3 for a malformed file, with 4 for a file that cannot be validated", function()
        local p = check("s.yaml", "broken.yaml", "--json")
        assert.equal(3, p.code)
        assert.equal("broken.yaml", cjson.decode(p.stdout).errors[1].file)
        for _, case in ipairs { { "s.yaml", "none.yaml" }, { "none.json", "any.json" },
          { "wrong.json", "any.json" }, { "broken.yaml", "any.json" } } do
          p = check(case[1], case[2], "--json")
          assert.equal(4, p.code, p.output)
          local answer = cjson.decode(p.stdout)
          assert.equal(cjson.null, answer.valid)
          assert.equal(1, #answer.errors)
        end
      end)
      it("accepts the documents that the schema refers to, by URI or by path", function()
        files["refers.json"] = '{"properties":{"a":{"$ref":"other.yaml"},'
          .. '"b":{"$ref":"https://example.com/b?c=d#/$defs/b"}}}'
        files["other.yaml"] = "type: integer\n"
        files["b"] = '{"$id":"urn:example:b","$defs":{"b":{"const":"\\ud83d\\ude00"}}}'
        files["ab"] = '{"a":1,"b":"\\ud83d\\ude00"}'
        files["ba"] = '{"a":"x","b":1}'
        local b = "https://example.com/b?c=d=b"
        local p = check("refers.json", "ab", "--with", "other.yaml", "--with=" .. b)
        assert.equal("good: ab fits refers.json\n", p.output)
        p = check("refers.json", "ba", "--with", b, "--with", "other.yaml", "--json")
        assert.equal(3, p.code, p.output)
        local found = cjson.decode(p.stdout).errors
        assert.equal("other.yaml#/type", found[1].schema_path)
        assert.equal("b#/$defs/b/const", found[2].schema_path)
        p = check("refers.json", "ab", "--with", b)
        assert.equal(4, p.code)
        assert.matches("other.yaml\" means .- nothing is fetched", p.stdout)
        p = check("refers.json", "ab", "--with", "none.json")
        assert.equal(4, p.code)
        assert.matches("none.json", p.stdout)
        p = check("refers.json", "ab", "--with", "x=other.yaml", "--with", "x=b")
        assert.equal(4, p.code)
        assert.matches("two of the documents that belong to the schema are called x", p.stdout)
        assert.matches("needs %-%-schema SCHEMA", segue.cli({ "check", "--with", "b" }).stderr)
        local many = { "check", "--schema", "s.yaml", "good.json" }
        for _ = 1, 33 do many[#many + 1] = "--with=x" end
        assert.equal(2, segue.cli(many).code)
      end)
      it("reads standard input and pipes", function()
        local d = segue.folder { files = files }
        local function fed(...)
          return segue.cli({ "check", "--schema", ... }, { cwd = d.dir.path,
            stdin = '{"weight":101,"at":"\\ud83d\\ude00"}' })
        end
        local p = fed("s.yaml", "-")
        assert.equal(3, p.code)
        assert.matches("^standard input:1:11: weight must be at most 100, not 101", p.stdout)
        assert.equal(0, fed("-", "good.json").code)
        assert.equal(4, check("-", "-").code)
        p = process.run { "bash", "-c", '"$1" check --schema <(cat s.yaml) <(cat bad.yaml)', "bash",
          segue.binary, cwd = d.dir.path }
        assert.equal(3, p.code, p.output)
        assert.matches("weight must be at most 100, not 500", p.stdout)
      end)
      it("tries text that begins as JSON does as JSON, unless its name is that of YAML", function()
        files["flow"] = '{a: 1, weight: 7}' -- this is YAML
        files["json"] = '  {"at": "\\ud83d\\ude00"}'
        files["json.yaml"] = files["json"]
        files["neither"] = '{"at": "\\ud83d\\ude00",\n "weight": }'
        assert.equal(0, check("s.yaml", "flow").code)
        assert.equal(0, check("s.yaml", "json").code)
        assert.equal(3, check("s.yaml", "json.yaml").code)
        assert.matches("^neither:2:12: ", check("s.yaml", "neither").stdout)
      end)
      it("warns of integers that are read as floats", function()
        files["wide.json"] = '{"weight": 18446744073709551618, "b": -99999999999999999999}'
        files["wide.yaml"] = "properties:\n  a: { maximum: 36893488147419103232 }\n"
        local p = check("s.yaml", "wide.json", "--json")
        assert.equal(3, p.code)
        local warnings = cjson.decode(p.stdout).warnings
        assert.equal(1, #warnings)
        assert.equal("this integer has more than 64 bits: it is read as the nearest float, and so "
          .. "are 1 more", warnings[1].message)
        assert.equal(12, warnings[1].column)
        assert.matches("^warning: wide.yaml:2:17: this integer has more than 64 bits: it is read "
          .. "as the nearest float\ngood", check("wide.yaml", "good.json").stdout)
      end)
      it("requires a file, and a file requires it", function()
        assert.matches("needs FILE", check("s.yaml").stderr)
        assert.equal(2, check("s.yaml").code)
        assert.equal(2, segue.cli({ "check", "good.json" }).code)
        assert.equal(2, segue.cli({ "check", "--formats" }).code)
      end)
    end)

    it("validates the files that are named with the schema of a policy", function()
      local function with(text)
        local d = segue.folder { files = { ["config.yaml"] = "a: 1\n", ["part.json"] = "false",
          ["s.json"] = '{"properties":{"a":{"$ref":"https://example.com/part"}}}' },
          policy = 'return { sources = { require "segue".file "config.yaml" },\n'
            .. 'schema = { path = "s.json", with = ' .. text .. " } }" }
        return d:cli("check")
      end
      local p = with '{ ["https://example.com/part"] = "part.json" }'
      assert.equal(3, p.code)
      assert.matches("config.yaml:1:4: a is not allowed here", p.stdout)
      p = with '{ "part.json" }'
      assert.matches("nothing is fetched, put it under $defs with its $id or give its file with it",
        p.stdout, 1, true)
      assert.matches("reload.lua:2: schema.with[1] must be the path", with("{ 7 }").stdout, 1, true)
      assert.matches("schema.with must be a table of paths", with('"part.json"').stdout, 1, true)
    end)

    it("works beside a daemon that serves the same policy", function()
      local d = start()
      assert.equal(0, d:cli("check").code)
      assert.equal(1, #d:json("/api/v1/reloads"))
    end)
  end)

  describe("reload", function()
    it("ends with 0 for applied and unchanged", function()
      local d = start()
      local p = d:cli "reload"
      assert.equal(0, p.code)
      assert.matches("^unchanged: generation 1 stays live", p.stdout)
      p = d:cli("reload", "--force")
      assert.equal(0, p.code)
      assert.matches("^applied: generation 2 is live", p.stdout)
    end)

    it("ends with 3 for rejected and prints the reason", function()
      local d = start()
      d.dir:save("config.yaml", "bad: 1\n")
      local p = d:cli "reload"
      assert.equal(3, p.code)
      assert.matches("bad is set", p.stdout)
    end)

    it("ends with 4 for failed", function()
      local port, handle = require("spec.support.port").taken()
      local d = start()
      d.dir:save("reload.lua", (policy:gsub('segue.signal "HUP"',
        ('segue.http "127.0.0.1:%d"'):format(port))))
      local p = d:cli "reload"
      assert.equal(4, p.code, p.output)
      handle:close()
    end)

    it("ends with 5 where no daemon runs", function()
      local d = segue.folder { policy = policy }
      for _, command in ipairs { "reload", "status", "diff" } do
        local p = d:cli(command)
        assert.equal(5, p.code, p.output)
        assert.matches("^segue: ", p.stderr)
        assert.equal("", p.stdout)
      end
    end)

    it("ends with 6 when the live generation is not the expected one", function()
      local d = start()
      local p = d:cli("reload", "--if-match", "9")
      assert.equal(6, p.code, p.output)
      assert.matches("^segue: generation 1 %(%x+%) is live, not 9: nothing was reloaded", p.stderr)
      assert.equal(0, d:cli("reload", "--if-match", "1").code)
    end)

    it("does not wait with --wait 0", function()
      local d = start()
      d.dir:save("config.yaml", "a: 2\n")
      assert.equal(0, d:cli("reload", "--wait", "0").code)
      d:wait_config(function(config) return config.a == 2 end)
    end)

    it("prints the whole answer as JSON", function()
      local d = start()
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
      local d = start()
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
      local d = start 'a: 1\nold: x\nlist: [1, 2]\n"odd key": {b: 1}\nlong: y\n'
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
      local d = start()
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
      local d = segue.folder { policy = policy, files = { ["config.yaml"] = "a: 1\n" } }
      local p = d:cli "plan"
      assert.equal(0, p.code, p.output)
      assert.matches("everything is new", p.stdout)
      assert.is_nil(uv.fs_stat(d.dir:at ".segue"))
    end)

    it("ends with 3 for a configuration that would be rejected", function()
      local d = start()
      d.dir:save("config.yaml", "bad: 2\n")
      local p = d:cli "plan"
      assert.equal(3, p.code)
      assert.matches("^plan: the reload would be rejected\n", p.stdout)
      assert.matches("bad is set", p.stdout)
    end)
  end)

  it("status prints the state of the daemon, as a table and as JSON", function()
    local d = start()
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
    local d = start "a: 1\nb: 2\n"
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
