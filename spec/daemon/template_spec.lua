-- SPDX-License-Identifier: MIT
-- The language of templates, row by row: text, output or error, as Go prints them.
local template = require "spec.support.template"

local data = [[{"i":1000000,"n":7,"f":1000000.0,"h":1.5,"s":"abc","e":"","t":true,
  "l":[1,2,null,"x"],"z":null,"m":{"b":{"c":"deep"},"a":1},"none":[],
  "svc":[{"Name":"a","Port":80},{"Name":"b","Port":81}],
  "big":18446744073709551615,"neg":-9223372036854775808,"html":"<a href='x'>&\"</a>"}]]

local function rows(list)
  for _, row in ipairs(list) do
    row[2], row[3] = (data:gsub("\n *", "")), row[2]
  end
  template.check(list)
end

describe("a template", function()
  it("is cut into texts and actions as Go cuts it", function()
    rows {
      { "", "" }, { "a}}b", "a}}b" }, { '{{"{{"}}', "{{" }, { "{{{.n}}}",
        { 'unexpected "{" in command' } },
      { "a \n {{- .n -}} \n b", "a7b" }, { "{{-3}}", "-3" }, { "a {{- 3}}", "a3" },
      { "a {{- -3 -}} b", "a-3b" },
      { "{{3 - }}", { 'illegal number syntax: "-"' } }, { "{{-}}",
        { 'illegal number syntax: "-"' } },
      { "{{/* {{c}}\n */}}x", "x" }, { "a {{- /* c */ -}} b", "ab" },
      { "{{ /* c */ }}", { 'unexpected "/" in command' } },
      { "{{/* c */ .n}}", { "comment ends before closing delimiter" } },
      { "{{/* c", { "unclosed comment" } },
      { '{{print"a"}}', { "bad character U+0022 '\"'" } },
      { "{{if(eq 1 1)}}y{{end}}", "y" }, { '{{"a"|print}}', "a" }, { "{{$x:=1}}{{$x}}", "1" },
      { "{{.a-b}}", { "bad character U+002D '-'" } },
      { '{{"\\x41\\u00e9\\101\\t"}}', "A\195\169A\t" }, { "{{`a\\n`}}", "a\\n" },
      { "{{'a'}} {{'\\n'}} {{'\\''}} {{'\195\169'}}", "97 10 39 233" },
      { "{{''}}", { "invalid syntax" } }, { "{{'ab'}}", { "malformed character constant: 'ab'" } },
      { "{{0x1F}} {{017}} {{0o17}} {{0b101}} {{1_000}}", "31 15 15 5 1000" },
      { "{{.5}} {{5.}} {{1e3}} {{0x1p4}}", "0.5 5 1000 16" },
      { "{{1__0}}", { 'illegal number syntax: "1__0"' } }, { "{{1a}}",
        { 'bad number syntax: "1a"' } },
      { "{{18446744073709551615}}", { "18446744073709551615 overflows int" } },
      { "{{18446744073709551616}}", { 'integer overflow: "18446744073709551616"' } },
      { "{{2i}}", { "complex numbers are not supported" } },
    }
  end)

  it("has the delimiters that are given", function()
    template.check({ { '<% "a%>b" %>{{.a}}', '{"a":1}', "a%>b{{.a}}" } },
      { left = "<%", right = "%>" })
    template.check({ { "{{.a}}", '{"a":1}', "1" } }, { left = "", right = "" })
  end)

  it("has the scopes of Go", function()
    rows {
      { "{{$x := 1}}{{if true}}{{$x := 2}}{{$x}}{{end}}{{$x}}", "21" },
      { "{{$x := 1}}{{range .l}}{{$x = .}}{{end}}{{$x}}", "x" },
      { "{{range $i, $v := .svc}}{{$i}}{{$v.Name}}{{$.n}} {{end}}", "0a7 1b7 " },
      { "{{range $k, $v := .m.b}}{{$k}}={{$v}}{{end}}", "c=deep" },
      { "{{range .svc}}{{if eq .Port 80}}{{continue}}{{end}}{{.Name}}{{break}}{{end}}", "b" },
      { "{{range .none}}x{{else}}empty{{end}}", "empty" },
      { "{{range .svc}}{{range .q}}{{else}}a{{break}}b{{end}}c{{end}}", "acac" },
      { "{{range .svc}}{{range .q}}{{else}}a{{continue}}b{{end}}c{{end}}", "aa" },
      { "{{range 3}}{{.}}{{end}}", "012" },
      { "{{range $i, $j := 3}}{{end}}", { "can't use 3 to iterate over more than one variable" } },
      { "{{range .s}}{{end}}", { "range can't iterate over abc" } },
      { "{{with .m.b}}{{.c}}{{$.n}}{{end}}", "deep7" }, { "{{with .z}}x{{else}}{{.n}}{{end}}",
        "7" },
      { "{{with .z}}x{{else with .m}}{{.a}}{{end}}", "1" },
      { "{{if .z}}1{{else if .n}}2{{else}}3{{end}}", "2" },
      { '{{define "x"}}<{{.}}>{{end}}{{template "x" .n}}{{template "x"}}', "<7><<no value>>" },
      { '{{block "b" .m.a}}[{{.}}]{{end}}', "[1]" },
      { '{{template "x"}}', { 'template "x" not defined' } },
      { '{{define "x"}}a{{end}}{{define "x"}}b{{end}}', { 'multiple definition of template "x"' } },
      { '{{define "x"}}a{{end}}{{define "x"}} {{end}}{{template "x"}}', "a" },
      { "{{$x}}", { 'undefined variable "$x"' } }, { "{{$x = 1}}", { "undefined variable: $x" } },
      { "{{break}}", { "{{break}} outside {{range}}" } },
      { "{{if true}}{{define \"x\"}}{{end}}{{end}}", { "unexpected <define> in command" } },
    }
  end)

  it("keeps kinds of numbers to the output", function()
    rows {
      { "{{.i}} {{.f}} {{.h}} {{.big}} {{.neg}}",
        "1000000 1e+06 1.5 18446744073709551615 -9223372036854775808" },
      { "{{eq 1 1.0}}", { "incompatible types for comparison: int and float64" } },
      { "{{eq .n 7}} {{eq .n 8 7}} {{lt 2 10}} {{lt \"2\" \"10\"}}", "true true true false" },
      { "{{eq .n \"7\"}}", { "incompatible types for comparison: int and string" } },
      { "{{eq .z nil}} {{ne .z 1}} {{eq .l nil}}", "true true false" },
      { "{{lt true false}}", { "invalid type for comparison" } },
      { "{{0.00001}} {{123456.0}} {{1e21}} {{-0.0}}", "1e-05 123456 1e+21 -0" },
    }
  end)

  it("distinguishes a missing key from null", function()
    rows {
      { "{{.q}} {{.z}} {{print .q}} {{.q.r.s}}", "<no value> <no value> <nil> <no value>" },
      { "{{.z.b}}", { "<.z.b>: nil pointer evaluating interface {}.b" } },
      { "{{.s.b}}", { "<.s.b>: can't evaluate field b in type interface {}" } },
      { "{{(print 1).b}}", { "can't evaluate field b in type string" } },
      { "{{.l}} {{.m}}", "[1 2 <nil> x] map[a:1 b:map[c:deep]]" },
    }
    template.check({ { "{{.q}}", "{}", "<no value>" },
      { "{{.q.r}}", "{}", { "nil pointer evaluating interface {}.r" } },
      { "{{$z := .e}}{{$z.x}}", "{}", "<no value>" } }, { missingkey = "zero" })
    template.check({ { "{{.q}}", "{}", { 'map has no entry for key "q"' } },
      { "{{.q}}", "null", { 'nil data; no entry for key "q"' } },
      { "{{index . \"q\"}}", "{}", "<no value>" } }, { missingkey = "error" })
  end)

  it("has Go's functions", function()
    rows {
      { "{{and .n 0}} {{or .z .e \"d\"}} {{or true (index .l 99)}} {{not .e}}", "0 d true true" },
      { "{{len .s}} {{len .l}} {{len .m}}", "3 4 2" }, { "{{len 3}}", { "len of type int" } },
      { "{{len .z}}", { "error calling len: len of nil pointer" } },
      { "{{index .l 0}} {{index .m \"b\" \"c\"}} {{index .m \"q\"}}", "1 deep <no value>" },
      { "{{index .l 5}}", { "index out of range: 5" } },
      { "{{index .l 4}}", { "reflect: slice index out of range" } },
      { "{{index .l \"a\"}}", { "cannot index slice/array with type string" } },
      { "{{slice .s 1 2}} {{slice .l 1}}", "b [2 <nil> x]" },
      { "{{slice .s 2 1}}", { "invalid slice index: 2 > 1" } },
      { "{{slice .l 0 5}}", { "index out of range: 5" } },
      { "{{html .html}}", "&lt;a href=&#39;x&#39;&gt;&amp;&#34;&lt;/a&gt;" },
      { "{{js .html}}", "\\u003Ca href\\u003D\\'x\\'\\u003E\\u0026\\\"\\u003C/a\\u003E" },
      { "{{urlquery \"a b/\195\169\"}}", "a+b%2F%C3%A9" },
      { "{{print 1 2}} {{print \"a\" 1 2 \"b\"}}{{println 1 \"a\"}}", "1 2 a1 2b1 a\n" },
      { "{{\"x\" | printf \"%s-%s\" \"y\"}}", "y-x" }, { "{{2 | lt 1}}", "true" },
      { "{{call .n}}", { "non-function of type int" } },
      { "{{printf 5}}", { "expected string; found 5" } },
      { "{{printf .n}}", { "wrong type for value; expected string; got int" } },
      { "{{printf nil}}", { "cannot assign nil to string" } },
      { "{{len 1 2}}", { "wrong number of args for len: want 1 got 2" } },
      { "{{nope}}", { 'function "nope" not defined' } },
    }
  end)

  it("formats by printf as Go does", function()
    rows {
      { '{{printf "%d|%5d|%-5d|%05d|%+d|%x|%#X" 42 42 42 42 42 42 42}}',
        "42|   42|42   |00042|+42|2a|0X2A" },
      { '{{printf "%o|%b|%c|%q|%U" 42 42 42 42 42}}', "52|101010|*|'*'|U+002A" },
      { '{{printf "%.3d|%6.3d|%.0d|%x" 7 7 0 -255}}', "007|   007||-ff" },
      { '{{printf "%s|%q|%x|%.2s|%5.1s|%05s|% x" .s .s .s .s .s .s .s}}',
        'abc|"abc"|616263|ab|    a|00abc|61 62 63' },
      { '{{printf "%f|%.2f|%.0f|%.0f|%e|%g" .h .h 2.5 3.5 .h .h}}',
        "1.500000|1.50|2|4|1.500000e+00|1.5" },
      { '{{printf "%8.3f|%-8.1f|%08.3f|%+f" .h .h .h .h}}',
        "   1.500|1.5     |0001.500|+1.500000" },
      { '{{printf "%t|%v|%v|%s" true .l .z .z}}', "true|[1 2 <nil> x]|<nil>|%!s(<nil>)" },
      { '{{printf "%d|%s|%d|%z" .s 5 .h 1}}',
        "%!d(string=abc)|%!s(int=5)|%!d(float64=1.5)|%!z(int=1)" },
      { '{{printf "%d"}}|{{printf "a" 2 "x"}}|{{printf "%"}}|{{printf "%[3]d" 1}}|'
        .. '{{printf "%." 1}}',
        "%!d(MISSING)|a%!(EXTRA int=2, string=x)|%!(NOVERB)|%!d(BADINDEX)|%!.(int=1)" },
      { '{{printf "%d %s %05d" .l .l .none}}',
        "[1 2 <nil> %!d(string=x)] [%!s(int=1) %!s(int=2) <nil> x] []" },
      { '{{printf "%T %T %T %T %T %T" .n .h .s .l .m .z}}',
        "int float64 string []interface {} map[string]interface {} <nil>" },
    }
  end)

  it("names the place of an error as Go does", function()
    rows {
      { "a\n {{ index .l 9 }}", { 't:2:4: executing "t" at <index .l 9>: error calling index' } },
      { "{{.m.b.c.d}}", { 't:1:4: executing "t" at <.m.b.c.d>: can\'t evaluate field d' } },
      { '{{define "x"}}{{len .}}{{end}}{{template "x" 1}}', { 'executing "x" at <len .>' } },
      { "{{if .x}}\n\n", { "t:3: unexpected EOF" } },
      { "{{\n\n1 ", { "t:3: unclosed action started at t:1" } },
      { "{{printf\n\n\"%d\"   5  .l.x }}",
        { "<.l.x>: can't evaluate field x in type interface {}" } },
      { "{{end}}", { "unexpected {{end}}" } },
      { "{{if 1}}{{else}}{{else}}{{end}}", { "expected end; found {{else}}" } },
    }
  end)

  it("prints nothing where it has an error", function()
    local answer = template.render { { template = "before {{.a.b}}", json = '{"a":null}' } }[1]
    assert.is_false(answer.ok)
    assert.is_nil(answer.output)
  end)
end)
