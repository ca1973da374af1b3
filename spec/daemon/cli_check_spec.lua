-- SPDX-License-Identifier: MIT
-- segue check: good and bad policies, exit codes, JSON; beside a daemon and without one.
local cjson = require "cjson"
local cli = require "spec.support.cli"
local process = require "spec.support.process"
local segue = require "spec.support.segue"

describe("segue check", function()
  after_each(segue.cleanup)

  it("ends with 0 for a good policy, and changes nothing", function()
    local d = segue.folder { policy = cli.policy, files = { ["config.yaml"] = "a: 1\n" } }
    local p = d:cli "check"
    assert.equal(0, p.code, p.output)
    assert.matches("^good: ", p.stdout)
    assert.same({ "config.yaml", "reload.lua" }, d.dir:list())
  end)

  it("ends with 3 and file:line:column for a bad one", function()
    local d = segue.folder { policy = cli.policy, files = { ["config.yaml"] = "a: 1\na: 2\n" } }
    local p = d:cli "check"
    assert.equal(3, p.code)
    assert.matches("config%.yaml:2:1: ", p.stdout)
    local json = d:cli("check", "--json")
    assert.equal(3, json.code)
    assert.equal(2, cjson.decode(json.stdout).errors[1].line)
  end)

  it("runs the policy's check", function()
    local d = segue.folder { policy = cli.policy, files = { ["config.yaml"] = "bad: 1\n" } }
    local p = d:cli "check"
    assert.equal(3, p.code)
    assert.matches("bad is set", p.stdout)
  end)

  it("finds ./reload.lua by itself", function()
    local d = segue.folder { policy = cli.policy, files = { ["config.yaml"] = "a: 1\n" } }
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
    local d = cli.start()
    assert.equal(0, d:cli("check").code)
    assert.equal(1, #d:json("/api/v1/reloads"))
  end)
end)
