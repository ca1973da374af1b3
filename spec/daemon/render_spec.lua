-- SPDX-License-Identifier: MIT
-- segue render: one template, and batches.
local cjson = require "cjson"
local segue = require "spec.support.segue"
local tempdir = require "spec.support.tempdir"

local function render(files, args, stdin)
  local dir = tempdir.new()
  for name, text in pairs(files) do dir:write(name, text) end
  local line = { "render" }
  for _, arg in ipairs(args) do line[#line + 1] = arg end
  return segue.cli(line, { cwd = dir.path, stdin = stdin })
end

describe("segue render", function()
  it("prints a template with its data, byte for byte", function()
    local p = render({ ["a.tmpl"] = "{{range .l}}{{.}}\27[1m\0{{end}}",
      ["d.yaml"] = "l: [1, 2.5, a]\n" },
      { "--template", "a.tmpl", "--data", "d.yaml" })
    assert.equal(0, p.code)
    assert.equal("1\27[1m\0002.5\27[1m\0a\27[1m\0", p.stdout)
    assert.equal("", p.stderr)
    assert.equal("x", render({}, { "--template", "-" }, "x").stdout)
    assert.equal("<no value>", render({}, { "--template", "-" }, "{{.}}").stdout)
    assert.equal("7", render({ t = "{{.n}}" }, { "--template", "t", "--data", "-" },
      '{"n":7}').stdout)
  end)

  -- lua_newstate of LuaJIT crashes where an allocation fails.
  it("reports that memory ran out at any allocation of its Lua state", function()
    local dir = tempdir.new()
    dir:write("t", "{{.a}}")
    for n = 1, 24 do
      local p = segue.cli({ "render", "--template", "t" },
        { cwd = dir.path, env = { SEGUE_MEM_FAIL_AT = tostring(n) } })
      assert.equal(4, p.code, n .. ": " .. p:describe())
      assert.matches("memory", p.stderr)
    end
  end)

  it("ends with code 3 and prints nothing where the template has an error", function()
    local p = render({ ["up.tmpl"] = "text\n  {{.svc.web.port.x}}",
      ["d.json"] = '{"svc":{"web":{}}}' },
      { "--template", "up.tmpl", "--data", "d.json", "--missingkey", "error" })
    assert.equal(3, p.code)
    assert.equal("", p.stdout)
    assert.matches('^template: up.tmpl:2:8: executing "up.tmpl" at <.svc.web.port.x>: '
      .. 'map has no entry for key "port"\n', p.stderr)
    assert.matches("svc.web %(d.json:1:15%)", p.stderr)
    p = render({ t = "{{range .l}}{{.a.b}}{{end}}", ["d.yaml"] = "l:\n- a: { b: 1 }\n- a: 2\n" },
      { "--template", "t", "--data", "d.yaml" })
    assert.matches("interface {}\n  l%[1%]%.a %(d%.yaml:3:6%)\n$", p.stderr)
    p = render({ t = "{{.b.x}}", ["d.json"] = '{"a":null,"b":null}' },
      { "--template", "t", "--data", "d.json" })
    assert.matches("\n  the data %(d%.json:1:1%)\n$", p.stderr)
    p = render({ t = "{{if}}" }, { "--template", "t" })
    assert.equal(3, p.code)
    assert.equal("template: t:1: missing value for if\n", p.stderr)
    p = render({ t = "", ["d.json"] = "{" }, { "--template", "t", "--data", "d.json" })
    assert.equal(3, p.code)
    assert.matches("d.json:1:2", p.stderr)
  end)

  it("takes the missing-key mode and the delimiters", function()
    local files = { t = "[[.a.b]]{{.a}}", ["d.json"] = "{}" }
    local args = { "--template", "t", "--data", "d.json", "--left-delimiter", "[[",
      "--right-delimiter", "]]" }
    assert.equal("<no value>{{.a}}", render(files, args).stdout)
    args[#args + 1], args[#args + 2] = "--missingkey", "zero"
    assert.matches("nil pointer evaluating interface {}.b", render(files, args).stderr)
  end)

  it("ends with code 2 and a hint when it is used wrongly", function()
    for _, case in ipairs {
      { {}, "needs %-%-template FILE, or %-%-batch" },
      { { "--batch", "--template", "t" }, "leave out %-%-template" },
      { { "--template", "t", "--missingkey", "maybe" }, "there is no missing%-key mode maybe" },
      { { "--template", "t", "--functions", "jinja" }, "there is no dialect jinja" },
    } do
      local p = render({ t = "" }, case[1])
      assert.equal(2, p.code)
      assert.matches(case[2], p.stderr)
    end
    local p = render({}, { "--template", "none.tmpl" })
    assert.equal(4, p.code)
    assert.matches("none.tmpl", p.stderr)
  end)

  it("answers each case of a batch in its order", function()
    local lines = { '{"id":1,"template":"{{.a}}","data":{"a":"\\u00e9\\n"}}', "",
      '{"id":"two","template":"{{.a.b}}","data":{"a":null}}', "nonsense", "[]", '{"id":3}',
      '{"id":4,"template":"x","dialect":"jinja"}', '{"id":5,"template":7}',
      '{"id":6,"name":"n","template":"{{"}', '{"id":7,"template":"{{\\"\\\\xff\\"}}"}' }
    local p = render({}, { "--batch" }, table.concat(lines, "\n"))
    assert.equal(0, p.code)
    local answers = {}
    for line in p.stdout:gmatch "[^\n]+" do answers[#answers + 1] = cjson.decode(line) end
    assert.same({ id = 1, ok = true, output = "\195\169\n" }, answers[1])
    assert.same({ id = "two", ok = false, error = 'template: template:1:4: executing "template" at '
      .. "<.a.b>: nil pointer evaluating interface {}.b" }, answers[2])
    local rest = { "expected", "no JSON object", "no template", "no dialect jinja",
      "must be a string",
      "template: n:1: unclosed action" }
    for i, message in ipairs(rest) do
      assert.is_false(answers[i + 2].ok)
      assert.matches(message, answers[i + 2].error)
    end
    assert.equal("\239\191\189", answers[9].output)
  end)
end)
