-- SPDX-License-Identifier: MIT
-- Templates that are large, deep or endless: LuaJIT's limits do not show, and each run ends.
local template = require "spec.support.template"

local function one(text, json)
  return template.render { { template = text, json = json or "{}" } }[1]
end

describe("a template", function()
  it("may have 100,000 lines", function()
    local lines, expected = {}, {}
    for i = 1, 100000 do
      lines[i] = i % 10 == 0 and "line {{.n}}" or "a line of text"
      expected[i] = i % 10 == 0 and "line 7" or "a line of text"
    end
    local answer = one(table.concat(lines, "\n"), '{"n":7}')
    assert.is_true(answer.ok, answer.error)
    assert.is_true(answer.output == table.concat(expected, "\n"))
  end)

  it("that differs from another in its texts only has the places of its own errors", function()
    local answers = template.render {
      { name = "t", template = "{{.a.b}} {{range .l}}x{{end}}",
        data = { a = { b = 1 }, l = { 1 } } },
      { name = "t", template = "a\nlong {{.a.b}} {{range .l}}yy{{end}}",
        data = { a = { b = 1 }, l = { 1, 2 } } },
      { name = "t", template = "a\nlong {{.a.b}} {{range .l}}zz{{end}}", data = { a = 1 } },
      { name = "u", template = "abc{{.a.b}}\n{{range .l}}yy{{end}}", data = { a = 1 } },
      { name = "u", template = '{{define "u"}} {{end}}own', data = {} },
      { name = "u", template = '{{define "u"}}x{{end}} ', data = {} },
      { name = "v", template = '{{define "w"}} {{end}}{{define "w"}}2{{end}}{{template "w"}}' },
      { name = "v", template = '{{define "w"}}1{{end}}{{define "w"}} {{end}}{{template "w"}}' },
    }
    local shown = {}
    for i, answer in ipairs(answers) do shown[i] = answer.output or answer.error end
    assert.same({ "1 x", "a\nlong 1 yyyy",
      'template: t:2:9: executing "t" at <.a.b>: can\'t evaluate field b in type interface {}',
      'template: u:1:7: executing "u" at <.a.b>: can\'t evaluate field b in type interface {}',
      "own", "x", "2", "1" }, shown)
  end)

  it("may nest blocks and parentheses deeply", function()
    for _, depth in ipairs { 12, 60, 300 } do
      local answer = one(("{{if .a}}"):rep(depth) .. "x" .. ("{{else}}y{{end}}"):rep(depth),
        '{"a":1}')
      assert.equal("x", answer.output or answer.error)
      answer = one(("{{range .l}}{{with $}}"):rep(depth / 2) .. "x{{.n}}" .. ("{{end}}"):rep(depth),
        '{"l":[1],"n":2}')
      assert.is_true(answer.ok and answer.output == "x2", answer.error)
      answer = one("{{" .. ("print .a ("):rep(depth) .. "1" .. (")"):rep(depth) .. "}}",
        '{"a":"-"}')
      assert.equal(("-"):rep(depth) .. "1", answer.output or answer.error)
      answer = one("{{" .. ("or .z ("):rep(depth) .. "1" .. (")"):rep(depth) .. "}}")
      assert.equal("1", answer.output or answer.error)
    end
    assert.matches("blocks are nested more than", one(("{{if .a}}"):rep(5000)).error)
    assert.matches("max expression depth exceeded", one("{{" .. ("("):rep(20000)).error)
  end)

  it("may have a chain of thousands of branches", function()
    local parts = { "{{if eq .n -1}}" }
    for i = 1, 5000 do parts[#parts + 1] = ("{{else if eq .n %d}}%d"):format(i, i) end
    local text = table.concat(parts) .. "{{else}}none{{end}}"
    for _, n in ipairs { 1, 19, 20, 21, 4999, 5000 } do
      assert.equal(tostring(n), one(text, ('{"n":%d}'):format(n)).output)
    end
    assert.equal("none", one(text, '{"n":5001}').output)
  end)

  it("may have thousands of variables, constants, arguments and templates", function()
    local parts = {}
    for i = 1, 3000 do parts[i] = ("{{$v%d := %d}}"):format(i, i) end
    parts[#parts + 1] = "{{$v1}} {{$v3000}}{{range .l}}{{$v2 = .}}{{end}} {{$v2}}"
    assert.equal("1 3000 5", one(table.concat(parts), '{"l":[5]}').output)
    assert.equal(("1 "):rep(999) .. "1", one("{{print" .. (" 1"):rep(1000) .. "}}").output)
    local defines = {}
    for i = 1, 3000 do defines[i] = ('{{define "t%d"}}%d {{end}}'):format(i, i) end
    assert.equal("1 3000 ", one(table.concat(defines)
      .. '{{template "t1"}}{{template "t3000"}}').output)
  end)

  it("leaves loops by break and continue wherever its code was cut", function()
    -- Blocks past the depth of one function, between the loop and the break.
    local head, tail = ("{{if true}}"):rep(25), ("{{end}}"):rep(25)
    local text = "{{range .l}}" .. head
      .. "{{if eq . 2}}{{continue}}{{end}}{{if eq . 4}}{{break}}{{end}}"
      .. tail .. "{{.}}{{end}}|"
    assert.equal("13|", one(text, '{"l":[1,2,3,4,5]}').output)
    -- In the else of a range, break ends the else, and continue the loop around it.
    text = "{{range .l}}{{range $.none}}{{else}}" .. head .. "{{if eq . 2}}{{continue}}{{end}}"
      .. "{{if eq . 4}}{{break}}{{end}}" .. tail .. "{{.}}{{end}}-{{end}}"
    assert.equal("1-3--5-", one(text, '{"l":[1,2,3,4,5]}').output)
  end)

  it("calls itself up to 100,000 deep", function()
    local text = '{{define "r"}}{{if .n}}{{template "r" .n}}{{else}}end{{end}}{{end}}'
      .. '{{template "r" .}}'
    assert.equal("end", one(text, '{"n":' .. ('{"n":'):rep(90) .. "0" .. ("}"):rep(91)).output)
    local answer = one '{{define "r"}}{{template "r"}}{{end}}{{template "r"}}'
    assert.matches('executing "r" at <{{template "r"}}>: exceeded maximum template depth '
      .. "%(100000%)", answer.error)
  end)

  it("names the place at which it had run or written too much", function()
    local answers = template.render({
      { name = "t", template = "a\n  {{range 9000000000000000}}{{end}}" },
      { name = "t", template = "{{if true}}\n{{range 9000000000}}" .. ("0123456789"):rep(1000)
        .. "{{end}}{{end}}" },
      { name = "t", template = '{{define "a"}}\n{{template "b"}}{{template "b"}}{{end}}'
        .. '{{define "b"}}{{template "c"}}{{template "c"}}{{end}}{{define "c"}}{{end}}'
        .. ' {{range 1000000000}}{{template "a"}}{{end}}' },
      { name = "t", dialect = "sprig",
        template = 'x\n{{repeat 60000000 "x"}}\n{{repeat 60000000 "x"}}' },
      { name = "t", dialect = "sprig", template = 'x\n{{repeat 100000000 "x" | len}}' },
      { name = "t", template = '{{define "r"}}{{template "r"}}{{end}}\n{{template "r"}}' },
    }, { SEGUE_TEST_RENDER_MS = "500" })
    local time, output = "used more than 0.5 s of CPU time$",
      "the output is larger than 67108864 bytes$"
    for i, expected in ipairs {
      '^template: t:2:10: executing "t" at <9000000000000000>: the template ' .. time,
      '^template: t:2:8: executing "t" at <9000000000>: ' .. output,
      '^template: t:%d:%d+: executing "[abt]" at <.->: the template ' .. time,
      '^template: t:3:2: executing "t" at <{{repeat 60000000 "x"}}>: ' .. output,
      '^template: t:2:2: executing "t" at <repeat 100000000 "x">: error calling repeat: the result '
        .. "is larger than",
      '^template: t:1:%d+: executing "r" at <{{template "r"}}>: exceeded maximum template depth',
    } do
      assert.matches(expected, answers[i].error)
    end
  end)

  it("names the place at which it had no memory left, or nested too deeply", function()
    local six = ' | printf "%s%[1]s%[1]s%[1]s%[1]s%[1]s%[1]s"'
    local answers = template.render {
      { name = "t", template = 'a\n x {{printf "%1000000d" 1' .. six:rep(4) .. " | len}}" },
      -- Its code is that of another template: the place is its own.
      { name = "t", template = 'a\n\n\n x {{printf "%1000000d" 1' .. six:rep(4) .. " | len}}" },
      { name = "t", dialect = "consul-template",
        template = '{{define "r"}}\n{{executeTemplate "r"}}{{end}}\n{{template "r" .}}' },
      { template = "{{.a}}", data = { a = "fine" } },
    }
    local memory = '<printf "%s%[1]s%[1]s%[1]s%[1]s%[1]s%[1]s">: the template needs more memory '
      .. "than it may use"
    assert.equal('template: t:2:116: executing "t" at ' .. memory, answers[1].error)
    assert.equal('template: t:4:116: executing "t" at ' .. memory, answers[2].error)
    assert.equal('template: t:2:2: executing "r" at <executeTemplate "r">: the template nests too '
      .. "deeply", answers[3].error)
    assert.equal("fine", answers[4].output)
  end)

  -- An error of memory in compiled code ended the process.
  it("names the place at which it had no memory left in compiled code", function()
    local cases, places = {}, {}
    local function add(text, place, more)
      cases[#cases + 1] = { name = "t", dialect = "sprig", template = text }
      for key, v in pairs(more or {}) do cases[#cases][key] = v end
      cases[#cases + 1] = { template = "{{.a}}", data = { a = "fine" } }
      places[#places + 1] = place
    end
    local loop = "{{$d := dict}}{{$l := list}}{{range $i := until 10000000}}%s{{end}}"
    add(loop:format '{{$_ := set $d (print $i) (splitList "," (repeat 1000 "a,"))}}',
      'executing "t" at <splitList "," (repeat 1000 "a,")>')
    -- Within a call of the code of a policy, which catches the error.
    add('a{{f}}', 'template: t:1:3: executing "t" at <f>', { helpers = "return { f = function() "
      .. "pcall(untilStep, 0, 9e6, 1) pcall(toJson, 1) return 'x' end }" })
    for i, answer in ipairs(template.render(cases)) do
      if i % 2 == 0 then
        assert.equal("fine", answer.output)
      else
        assert.matches(": the template needs more memory than it may use$", answer.error)
        assert.matches(places[(i + 1) / 2], answer.error, 1, true)
      end
    end
  end)

  it("ends when it has run or written too much, and the next one renders", function()
    local answers = template.render({
      { template = "{{range 9000000000000000}}{{end}}" },
      { template = "{{range 9000000000}}" .. ("0123456789"):rep(1000) .. "{{end}}" },
      { template = '{{define "a"}}{{template "b"}}{{template "b"}}{{end}}'
        .. '{{define "b"}}{{template "c"}}{{template "c"}}{{end}}'
        .. '{{define "c"}}{{range 100000000}}{{end}}{{end}}'
        .. '{{range 100}}{{template "a"}}{{end}}' },
      { template = '{{printf "%1000000d" 1'
        .. (' | printf "%s%[1]s%[1]s%[1]s%[1]s%[1]s%[1]s"'):rep(4) .. " | len}}" },
      { template = "{{.a}}", data = { a = "fine" } },
    }, { SEGUE_TEST_RENDER_MS = "500" })
    assert.matches("used more than 0.5 s of CPU time", answers[1].error)
    assert.matches("the output is larger than 67108864 bytes", answers[2].error)
    assert.matches("used more than 0.5 s of CPU time", answers[3].error)
    assert.matches("needs more memory than it may use", answers[4].error)
    assert.equal("fine", answers[5].output)
  end)
end)
