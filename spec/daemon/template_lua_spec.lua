-- SPDX-License-Identifier: MIT
-- Lua code of a policy in templates: functions of a file, and templates in Lua.
local cjson = require "cjson"
local segue = require "spec.support.segue"
local template = require "spec.support.template"
local tempdir = require "spec.support.tempdir"

local QUICK = { SEGUE_TEST_RENDER_MS = "500" }

-- One template with the members of a table of functions.
local function call(text, functions, more)
  local case = { name = "t", template = text, helpers = "return {" .. functions .. "\n}" }
  for key, v in pairs(more or {}) do case[key] = v end
  return case
end

-- rows: { template, functions, expected output, or { part of the error }, more }
local function check(rows, env)
  local cases = {}
  for i, row in ipairs(rows) do cases[i] = call(row[1], row[2], row[4]) end
  for i, answer in ipairs(template.render(cases, env)) do
    local expected, got = rows[i][3], answer.output or answer.error
    if type(expected) == "table" then
      assert(not answer.ok and got:find(expected[1], 1, true), ("%s\nexpected: %s\nis: %s"):format(
        rows[i][1], expected[1], got))
    else
      assert.equal(expected, got)
    end
  end
end

describe("functions of a file", function()
  it("get values as a policy has them, and numbers keep their kinds", function()
    local echo = "my = function(...) return ... end, "
    check {
      { '{{my "a"}}{{my true}}{{my 3}}', echo, "atrue3" },
      { "{{my .i}} {{my .f}} {{my .u}}", echo, "9007199254740993 0.1 18446744073709551615",
        { json = '{"i":9007199254740993,"f":0.1,"u":18446744073709551615}' } },
      { '{{my .l}} {{len (my .e)}} {{my .m}} {{(my .m).k}} {{printf "%T" (my .e)}}', echo,
        "[1 <nil> a] 0 map[k:v] v []interface {}",
        { json = '{"l":[1,null,"a"],"e":[],"m":{"k":"v"}}' } },
      { "{{my .z}} {{my nil}} {{my .none}} {{if my .z}}x{{end}}", echo,
        "<no value> <no value> <no value> ", { json = '{"z":null}' } },
      { "{{f .m}}", "f = function(m) return m.z == nil and m.l[2] ~= nil and #m.l end", "3",
        { json = '{"m":{"z":null,"l":[1,null,2]}}' } },
      -- One kind of numbers: float marks one that is no integer.
      { '{{half 5}} {{half 4}} {{printf "%.1f %T" (as 4) (as 4)}}',
        "half = function(n) return n / 2 end, as = function(n) return float(n) end",
        "2.5 2 4.0 float64" },
      { "{{add1 .big}}", "add1 = function(n) return n + 1 end", "9007199254740995",
        { json = '{"big":9007199254740994}' } },
      { '{{range split "a,b"}}<{{.}}>{{end}}', "split = function(s) local t = {} "
        .. "for x in s:gmatch '[^,]+' do t[#t + 1] = x end return t end", "<a><b>" },
      { "{{.a | two 1}}", "two = function(a, b) return a .. b end", "1x", { data = { a = "x" } } },
    }
  end)

  it("see declared fields of services, and what they change is not the data", function()
    local data = { services = { api = { { ID = "one", Port = 80, Address = "10.0.0.1" } } } }
    check {
      { '{{range service "api"}}{{name .}}{{end}}',
        "name = function(s) return s.ID .. ':' .. s.Port .. #s.Tags end", "one:800",
        { data = data } },
      { '{{range service "api"}}{{name .}}{{end}}', "name = function(s) return s.Adress end",
        { "error calling name: helpers.lua:1: there is no field Adress in type "
          .. "*dependency.HealthService (did you mean Address?)" }, { data = data } },
      { '{{range service "api"}}{{with same .}}{{.ID}}{{.Nam}}{{end}}{{end}}',
        "same = function(s) return s end", { "can't evaluate field Nam in type" },
        { data = data } },
      { '{{$d := dict "a" 1}}{{count $d}}{{$_ := set $d "b" 2}}{{count $d}}',
        "count = function(m) local n = 0 for _ in pairs(m) do n = n + 1 end return n end", "12",
        { dialect = "sprig" } },
      { '{{$l := list (dict "a" 1)}}{{f $l}}{{$_ := set (first $l) "a" 2}}{{f $l}}',
        "f = function(l) return l[1].a end", "12", { dialect = "sprig" } },
      { '{{$d := dict "l" .l}}{{f $d}}{{$_ := unset $d "l"}}{{f $d}}{{$_ := merge $d .}}{{f $d}}',
        "f = function(d) return d.l and #d.l or 0 end", "202", { json = '{"l":[1,2]}',
          dialect = "sprig" } },
      { '{{scratch.MapSet "m" "a" 1}}{{f (scratch.Get "m")}}{{scratch.MapSet "m" "a" 2}}'
        .. '{{f (scratch.Get "m")}}', "f = function(m) return m.a end", "12",
        { dialect = "consul-template" } },
      { "{{put .m}}{{put .m}} {{.m.n}}",
        "put = function(m) m = segue.copy(m) m.n = m.n + 1 return m.n end",
        "22 1", { json = '{"m":{"n":1}}' } },
      { "{{sorted .l}} {{.l}} {{(sorted .m.l)}}", "sorted = function(l) l = segue.copy(l) "
        .. "table.sort(l) return l end", "[a b c] [c a b] []",
        { json = '{"l":["c","a","b"],"m":{"l":[]}}' } },
      { '{{range service "api"}}{{f .}}{{end}}', "f = function(s) s = segue.copy(s) "
        .. "s.Port = s.Port + 1 return s.Port .. s.Adress end",
        { "there is no field Adress in type *dependency.HealthService" }, { data = data } },
    }
  end)

  it("return a value that they have kept, whatever the template has passed since", function()
    local items, expected = {}, {}
    for i = 1, 70 do
      items[i] = ('{"a":%d,"l":[%d],"t":"%s"}'):format(i, i, ("x"):rep(100000))
      expected[i] = i .. "1[1]" .. i
    end
    local answer = template.render({ { name = "t", template = "{{range .l}}{{.a}}{{with keep .}}"
      .. "{{.a}}{{.l}}{{end}}{{f . $.n}}{{end}}", json = '{"n":[7],"l":['
      .. table.concat(items, ",") .. "]}", helpers = "local first return { keep = function(v) "
      .. "first = first or v return first end, f = function(v, n) return v.l[1] end }" } })[1]
    assert.equal(table.concat(expected), answer.output or answer.error)
  end)

  it("cannot change what they get", function()
    for _, change in ipairs { "m.n = 1", "m.l[1] = 1", "table.sort(m.l)", "table.insert(m.l, 1)",
      "table.remove(m.l)", "rawset(m, 'n', 1)", "setmetatable(m, {})", "m.s.n = 1",
      "table.move({ 1 }, 1, 1, 1, m.l)", "table.move(m.l, 1, 1, 2)",
      "for _, x in pairs(m) do x[1] = 1 end", "for _, x in ipairs(m.all) do x.n = 1 end" } do
      check { { "{{f .}}", ("f = function(m) %s end"):format(change),
        { "error calling f: helpers.lua:1: config values cannot be changed: use segue.copy(v)" },
        { json = '{"n":2,"l":[3,1],"s":{"n":1},"all":[{"n":1}]}' } } }
    end
  end)

  it("read it with all functions of Lua", function()
    local data = { json = '{"l":["a","b","c"],"m":{"x":1,"b":2,"a10":3},"e":[],"n":[1,null]}' }
    local function reads(body, expected)
      check { { "{{f .}}", "f = function(d) local l, m = d.l, d.m " .. body .. " end", expected,
        data } }
    end
    reads("return #l .. type(l) .. type(m) .. #d.e", "3tabletable0")
    reads("return table.concat(l, ',') .. table.getn(l) .. table.maxn(l) .. unpack(l, 3)",
      "a,b,c33c")
    reads("return rawget(m, 'x') .. tostring(rawget(m, 'none')) .. tostring(getmetatable(m))",
      "1nilnil")
    reads("local s = '' for k, v in pairs(m) do s = s .. k .. v end return s", "a103b2x1")
    reads("local s = '' for k, v in next, m do s = s .. k .. v end return s", "a103b2x1")
    reads("local s = '' for i, v in ipairs(l) do s = s .. i .. v end return s", "1a2b3c")
    reads("local s = '' table.foreach(m, function(k) s = s .. k end) return s", "a10bx")
    reads("local s = '' table.foreachi(l, function(i, v) s = s .. i .. v end) return s", "1a2b3c")
    reads("return table.foreach(m, function(k, v) if v == 2 then return k end end)", "b")
    reads("return table.concat(table.move(l, 2, 3, 1, {}))", "bc")
    reads("return (('$x$b'):gsub('%$(%w)', m))", "12")
    reads("return tostring(m) .. ('%s'):format(l)", "tabletable")
    reads("return next(d.e) == nil and next(m) == 'a10' and d.n[2] == segue.null", "true")
    reads("return l == d.l and d.l == segue.copy(d).l", "false")
    reads("return join(',', l) .. toJSON(m)", 'a,b,c{"a10":3,"b":2,"x":1}')
    reads("return { m, l }", "[map[a10:3 b:2 x:1] [a b c]]")
    reads("return { segue.array {}, {} }", "[[] map[]]")
    reads("local t = {} table.insert(t, l) t[2] = m return t", "[[a b c] map[a10:3 b:2 x:1]]")
    reads("local a = {} a[1] = a return segue.copy(a)", { "segue.copy: the value is nested" })
  end)

  it("give the same in each process", function()
    local function gives(body, expected)
      check { { "{{f}}", "f = function() " .. body .. " end", expected } }
    end
    local letters = "{ d = 1, a = 1, [2] = 1, c = 1, [true] = 1, [1] = 1, b = 1, [0.5] = 1, "
      .. "[false] = 1 }"
    local order = "0.512abcdfalsetrue"
    gives("local s = '' for k in pairs(" .. letters .. ") do s = s .. tostring(k) end return s",
      order)
    gives("local s = '' for k in next, " .. letters .. " do s = s .. tostring(k) end return s",
      order)
    gives("local s = '' table.foreach(" .. letters .. ", function(k) s = s .. tostring(k) end) "
      .. "return s", order)
    -- next continues behind keys that the loop has removed, and a new traversal has new keys.
    gives("local t, s = " .. letters .. ", '' for k in next, t do t[k] = nil s = s .. tostring(k) "
      .. "end return s .. tostring(next(t))", order .. "nil")
    gives("local t, s = { b = 1, c = 1 }, '' for _ = 1, 2 do for k in next, t do s = s .. k end "
      .. "t.a = 1 end return s", "bcabc")
    gives("local t, s = { a = 1, b = 1, c = 1 }, '' for k in next, t do for j in next, t do "
      .. "s = s .. k .. j .. ' ' end end return s", "aa ab ac ba bb bc ca cb cc ")
    gives("local t, k, n = { a = 1, b = 2 }, next({ a = 1 }), 0 return next(t, 'aa')", "b")
    gives("return ('%s %5s %%%s'):format({}, next, type)", "table function %function")
    gives("return string.format('%p', {})", { "%p is an address, which differs in each process" })
    gives("return ('%d'):format({})", { "number expected, got table" })
    gives("return tostring({}) .. tostring(next)", "tablefunction")
    gives("for k in pairs { [{}] = 1, [{}] = 2 } do end", { "have no order that is the same in" })
    gives("return (next { [{}] = 1, [next] = 2 })", { "have no order that is the same in" })
    gives("for k in pairs { [{}] = 'x' } do return type(k) end", "table")
  end)

  it("call the functions of the dialect", function()
    check {
      { '{{my "a"}}', "my = function(s) return toUpper(s) .. join('-', { s, 'b' }) end", "Aa-b" },
      { "{{my}}", "my = function() return keyOrDefault('none', 'd') .. key('app/port') end",
        "d80", { data = { app = { port = 80 } } } },
      { '{{my "a,b"}}', "my = function(s) return split(s, ',')[2] end", "b",
        { dialect = "confd" } },
      { '{{my "a,b"}}', "my = function(s) return toUpper() end",
        { "error calling my: helpers.lua:1: wrong number of args for toUpper: want 1 got 0" } },
      { '{{my "a,b"}}', "my = function(s) return toUpper({}) end",
        { "helpers.lua:1: toUpper: wrong type for argument 1; expected string; got" } },
      { '{{my}}', "my = function() return parseInt 'x' end",
        { "error calling my: helpers.lua:1: error calling parseInt: " } },
      { "{{my}}", "my = function() return tostring(pcall(parseInt, 'x')) end", "false" },
      { "{{my}}", "my = function() return toUppper('x') end",
        { "error calling my: helpers.lua:1: attempt to call global 'toUppper' (a nil value)" } },
    }
  end)

  it("fail with the place in the template and in the file", function()
    check {
      { "a\n  b {{my .}}", "\nmy = function(t)\n  return t.x.y\nend",
        { 'template: t:2:6: executing "t" at <my .>: error calling my: helpers.lua:3: attempt to '
          .. "index local 't' (a nil value)" } },
      { "{{my}}", "my = function() return nil, 'the port is taken' end",
        { "error calling my: the port is taken" } },
      -- A function that calls itself through a template: the innermost failure, once.
      { '{{define "u"}}{{deep .}}{{end}}{{deep 3}}', "deep = function(n) if n > 0 then "
        .. "local s = executeTemplate('u', n - 1) return s end error 'no port' end",
        { 'executing "t" at <deep 3>: error calling deep: helpers.lua:1: no port' } },
      { "{{my}}", "my = function() error({ message = 'own' }) end",
        { "error calling my: helpers.lua:1: own" } },
      { "{{my}}", "my = function() return print end",
        { "error calling my: helpers.lua:1: templates have no values of this kind: function" } },
      { "{{my}}", "my = function() return { [1] = 1, a = 2 } end", { "neither a list nor a map" } },
      { "{{my}}", "my = function() return { [1.5] = 1 } end", { "neither a list nor a map" } },
      { "{{my}}", "my = function() local t = {} t.t = t return t end", { "contains itself" } },
      { "{{my}}", "my = ", { "template: t: helpers.lua:2: unexpected symbol near '}'" } },
      { "{{my}}", "other = function() end", { 'template: t:1: function "my" not defined' } },
      { "{{my}}", "my = 1", { "helpers.lua:1: the file must return functions by their names, and "
        .. "my is a number" } },
      { "{{my}}", "['my-f'] = function() end", { '"my-f" is no name of a function' } },
    }
    local answers = template.render { { name = "t", template = "x", helpers = "return 7" },
      { name = "t", template = "x", helpers = "\nerror 'no'" } }
    assert.matches("helpers.lua:1: the file must return a table of functions, not number",
      answers[1].error, 1, true)
    assert.matches("^template: t: helpers.lua:2: no$", answers[2].error)
  end)

  it("replace those of the dialect, but not those of the language", function()
    check {
      { '{{toUpper "a"}}', "toUpper = function() return 'own' end", "own" },
      { "{{len .}}", "len = function() end",
        { "template: t: helpers.lua: len is a function of the language: give yours another name" }
      },
      { "{{and 1 2}}", "['and'] = function() end", { "and is a function of the language" } },
    }
  end)

  it("are held by the limits of their template", function()
    check({
      { "x\n{{my}}", "my = function() while true do end end",
        { 'template: t:2:2: executing "t" at <my>: helpers.lua:1: the function my used more than '
          .. "500 ms of CPU time: is there an endless loop?" } },
      { "{{my}}", "my = function() while true do pcall(function() while true do end end) end end",
        { "the function my used more than 500 ms" } },
      { "{{my}}", "my = function() return ('a'):rep(30):find(('a-'):rep(30) .. 'b') end",
        { "pattern too complex" } },
      { "{{range 1000000000}}{{my}}{{end}}", "my = function() end", { "more than" } },
      { "{{my}}",
        "my = function() local t = {} for i = 1, 1e9 do t[i] = ('x'):rep(1000) .. i end end",
        { "the function my needed more than 64 MiB of memory" } },
      { "{{my}}", "my = function() local x = ('x'):rep(1e7) return { x, x, x, x, x, x, x, x } end",
        { "the value is larger than 64 MiB" } },
      { "{{my}}", "my = function() local function f() return 1 + f() end return f() end",
        { "stack overflow" } },
      { "{{my}}", "my = function() return executeTemplate 't' end",
        { "executeTemplate: calls nest too deeply" } },
      { "{{my}}", "my = function() return 'fine' end", "fine" },
    }, QUICK)
  end)

  it("keep nothing from one rendering to the next, and reach nothing outside", function()
    local count = "n = 0 math.mine = (math.mine or 0) + 1 string.mine = 1\n"
      .. "return { my = function() n = n + 1 return n + math.mine * 10 end }"
    local cases = {}
    for i = 1, 3 do cases[i] = { name = "t" .. i, template = "{{my}}{{my}}", helpers = count } end
    for _, answer in ipairs(template.render(cases)) do
      assert.equal("1112", answer.output or answer.error)
    end
    for _, name in ipairs { "os", "io", "debug", "package", "jit", "ffi", "coroutine", "_G", "load",
      "loadstring", "loadfile", "dofile", "setfenv", "getfenv", "math.random", "string.dump",
      "module", "collectgarbage", "newproxy", "write" } do
      local answer = template.render { call("{{my}}",
        ("my = function() return type(%s) end"):format(name)) }[1]
      assert.equal(name .. " nil", name .. " " .. (answer.output or answer.error))
    end
    check { { "{{my}}", "my = function() return require 'x' end", { "put it into one file" } },
      { "{{my}}", "my = function() ('x').upper = 1 end", { "attempt to" } } }
  end)

  it("come from a file beside segue render", function()
    local dir = tempdir.new()
    dir:write("t", "{{my .n}}{{my 1}}")
    dir:write("d.json", '{"n":20}')
    dir:write("f.lua", "return { my = function(n)\n  return n * 2\nend }")
    local args = { "render", "--template", "t", "--data", "d.json", "--helpers", "f.lua" }
    local p = segue.cli(args, { cwd = dir.path })
    assert.equal("402", p.stdout, p:describe())
    dir:write("d.json", '{"n":"x"}')
    p = segue.cli(args, { cwd = dir.path })
    assert.equal(3, p.code)
    assert.equal("", p.stdout)
    assert.matches("^template: t:1:2: executing \"t\" at <my %.n>: error calling my: f%.lua:2: "
      .. "attempt to perform arithmetic", p.stderr)
    args[#args] = "none.lua"
    p = segue.cli(args, { cwd = dir.path })
    assert.equal(4, p.code)
    assert.matches("none.lua", p.stderr, 1, true)
    p = segue.cli { "render", "--batch", "--helpers", "f.lua" }
    assert.equal(2, p.code)
    p = segue.cli({ "render", "--template", "t", "--language", "lisp" }, { cwd = dir.path })
    assert.equal(2, p.code)
    assert.matches("there is no language lisp: there are go, etlua", p.stderr, 1, true)
  end)
end)

local function lua(text, data, more)
  local case = { name = "t", template = text, language = "etlua", data = data or {} }
  for key, v in pairs(more or {}) do case[key] = v end
  local answer = template.render({ case }, QUICK)[1]
  return answer.output or answer.error
end

describe("a template in Lua", function()
  it("writes texts, and what its code writes", function()
    local data = { l = { "a", "b" }, m = { x = 1 }, n = 10000000, f = 0.1 }
    assert.equal("a\n  server a;\n  server b;\nend 10000000 0.1 1\n", lua([[
a
<% for _, s in ipairs(config.l) do -%>
  server <%= s %>;
<% end -%>
end <%= config.n %> <%- config.f -- a comment %> <%= config.m.x %>
]], data))
    assert.equal('"\\\1\r\n]] %d\27', lua '"\\\1\r\n]] %d\27')
    assert.equal("m=1 n=2 ", lua("<% for k in pairs(config) do write(k, '=', config[k], ' ') "
      .. "end %>", { n = 2, m = 1 }))
    local many, names = {}, {}
    for i = 1, 200 do many["k" .. i] = i names[i] = "k" .. i end
    table.sort(names)
    assert.equal(table.concat(names), lua("<% for k in pairs(config.m) do write(k) end %>",
      { m = many }))
    assert.equal("12ab table function", lua("<% for k in pairs { b = 1, 7, a = 1, 8 } do write(k) "
      .. "end %> <%= tostring {} %> <%= tostring(next) %>"))
    assert.equal("2", lua("<% local t, n = { a = 1, b = 2, c = 3 }, 0 for k in pairs(t) do "
      .. "t.b = nil n = n + 1 end write(n) %>"))
    assert.equal("7", lua("<%= config[1] %>", { 7 }))
    assert.equal("4 true 9223372036854775807", lua('<%= float(4) %> <%= true %> '
      .. '<%= parseInt "9223372036854775807" %>'))
    assert.equal('table m 2 {"l":[1,2],"m":{"x":1}} x', lua("<%= type(config) %> <%= (next(config, "
      .. "'l')) %> <%= #config.l %> <%= toJSON(config) %> <%= (next(config.m)) %>",
      { l = { 1, 2 }, m = { x = 1 } }))
    assert.equal("3 1 2", lua("<% local l = segue.copy(config.l) table.remove(l) %>"
      .. "<%= #config.l %> <%= #l + config.m.x - 2 %> <%= segue.copy(config).m.x + 1 %>",
      { l = { 1, 2, 3 }, m = { x = 1 } }))
    assert.equal("", lua "")
    assert.equal("function nil", lua "<%= type(next) %> <%= type(config.x) %>")
  end)

  it("calls the functions of the dialect, and those of a file", function()
    local data = { app = { port = "80" }, services = { api = { { ID = "one", Port = 1 } } } }
    assert.equal("80 one ONE mine", lua('<%= key "app/port" %><% for _, s in ipairs(service "api") '
      .. 'do %> <%= s.ID %> <%= toUpper(s.ID) %><% end %> <%= mine() %>', data,
      { helpers = "return { mine = function() return 'mine' end }" }))
    assert.equal("/app/port", lua('<%= get("/app/port").Key %>', data, { dialect = "confd" }))
  end)

  it("names the line of an error", function()
    for text, expected in pairs {
      ["a\n\n<%= config.none %>"] = "template: t:3: a value that is written is nil: it must be a "
        .. "text, a number or a boolean; the data are in config",
      ["a\n<%= config.a.b.c %>"] = "template: t:2: attempt to index field 'a' (a nil value)",
      ["a\nb\n<% if %>x"] = "template: t:3: 'then' expected near '<eof>'",
      ["a\nb\n<% if true then\n\n%>\nx"] = "template: t:6: 'end' expected (to close 'if' at line 3)"
        .. " near '<eof>'",
      ["a\n<% x"] = "template: t:2: unclosed <%",
      ["a\n<%= parseJSON('[null]')[1] %>"] = "template: t:2: a value that is written is null: it "
        .. "must be a text, a number or a boolean",
      ["a\n<% config.x = 1 %>"] = "template: t:2: config values cannot be changed: use "
        .. "segue.copy(v)",
      ["<% config.m.k = 1 %>"] = "template: t:1: config values cannot be changed: use "
        .. "segue.copy(v)",
      ["<% for _, m in pairs(config) do m.k = 1 end %>"] = "template: t:1: config values cannot be "
        .. "changed: use segue.copy(v)",
      ["a\n<%= (function() return nil, 'no port' end)() %>"] = "template: t:2: a value that is "
        .. "written is nil: no port",
      ["<% write(nil, 7, 8) %>"] = "template: t:1: a value that is written is nil: it must be a "
        .. "text, a number or a boolean; the data are in config",
      ["<%= config.m %>"] = "template: t:1: a value that is written is table: it must be a text, a "
        .. "number or a boolean",
      ["a\n<% write({}) %>"] = "template: t:2: a value that is written is table: it must be a "
        .. "text, a number or a boolean",
      ["a\n<% while true do end %>"] = "template: t:2: the template used more than 500 ms of CPU "
        .. "time: is there an endless loop?",
      ["\n<% while true do write(('x'):rep(1e6)) end %>"] = "template: t:2: the output is larger "
        .. "than 67108864 bytes",
      ["<% for i = 1, 9 do pcall(write, ('x'):rep(15e6)) end %>"] = "template: t: the output is "
        .. "larger than 67108864 bytes",
      ["<%= toUpper() %>"] = "template: t:1: wrong number of args for toUpper: want 1 got 0",
    } do
      assert.equal(expected, lua(text, { m = { k = 1 } }))
    end
    assert.equal("template: t: helpers.lua:2: attempt to index local 'x' (a nil value)",
      lua("a\n\n\n<%= my() %>", {}, { helpers = "return { my = function(x)\n return x.y end }" }))
  end)

  it("comes from a file beside segue render", function()
    local dir = tempdir.new()
    dir:write("t.conf", "x=<%= config.x %>\n")
    dir:write("d.yaml", "x: 1.5\n")
    local p = segue.cli({ "render", "--template", "t.conf", "--language", "etlua", "--data",
      "d.yaml" }, { cwd = dir.path })
    assert.equal("x=1.5\n", p.stdout, p:describe())
    dir:write("t.conf", "\n<%= config.y %>\n")
    p = segue.cli({ "render", "--template", "t.conf", "--language", "etlua", "--data", "d.yaml" },
      { cwd = dir.path })
    assert.equal(3, p.code)
    assert.matches("^template: t.conf:2: a value that is written is nil", p.stderr)
  end)
end)

describe("Lua code of templates", function()
  it("ends with an error where memory ends at any of its allocations", function()
    local dir = tempdir.new()
    dir:write("t", "{{my .}}")
    dir:write("f.lua", "return { my = function(n) return toUpper('x') end }")
    local failed, succeeded = 0, 0
    local function run(n)
      return segue.cli({ "render", "--template", "t", "--helpers", "f.lua" },
        { cwd = dir.path, env = { SEGUE_MEM_FAIL_AT = tostring(n) } })
    end
    -- The end of a run is the Lua code: it is found by halves.
    local low, high = 1, 200000
    while high - low > 1 do
      local middle = math.floor((low + high) / 2)
      if run(middle).code == 0 then high = middle else low = middle end
    end
    for n = math.max(1, low - 400), low, 10 do
      local p = run(n)
      assert.equal(0, p.signal, n .. ": " .. p:describe())
      if p.code == 0 then
        succeeded = succeeded + 1
        assert.equal("X", p.stdout)
      else
        failed = failed + 1
        assert.equal("", p.stdout)
        assert.matches("memory", p.stderr, 1, true)
      end
    end
    assert.is_true(failed > 20, cjson.encode { failed, succeeded })
  end)
end)
