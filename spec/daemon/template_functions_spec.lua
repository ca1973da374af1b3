-- SPDX-License-Identifier: MIT
-- The functions of the dialects, as confd and consul-template have them.
local template = require "spec.support.template"

local function check(dialect, json, rows, more)
  for _, row in ipairs(rows) do row[2], row[3] = json, row[2] end
  local options = { dialect = dialect, env = { HOME = "/root", EMPTY = "" },
    files = { ["/etc/x"] = "text" }, now = "2024-02-29T12:34:56Z" }
  for key, v in pairs(more or {}) do options[key] = v end
  template.check(rows, options)
end

describe("the dialect confd", function()
  local json = [[{"app":{"port":8080,"host":"h","f":0.5,"big":1000000.0,"on":true,"no":null,
    "sub":{"a":1}},"l":["x","y"],"top":"t"}]]
  json = json:gsub("\n *", "")

  it("reads the data as a store", function()
    check("confd", json, {
      { '{{getv "/app/port"}} {{getv "/x" "d"}} {{getv "/app/f"}} '
        .. '{{getv "/app/big"}} {{getv "/l/1"}}',
        "8080 d 0.5 1000000 y" },
      { '{{getv "/x"}}', { "<getv \"/x\">: error calling getv: key does not exist: /x" } },
      { '{{getv "app/port"}}', { "key does not exist: app/port" } },
      { '{{exists "/app"}} {{exists "/app/port"}} {{exists "/app/no"}}', "false true false" },
      { '{{with get "/top"}}{{.Key}}={{.Value}}{{end}}', "/top=t" },
      { '{{range gets "/app/*"}}{{.Key}}={{.Value}} {{end}}',
        "/app/big=1000000 /app/f=0.5 /app/host=h /app/on=true /app/port=8080 " },
      { '{{getvs "/l/*"}} {{gets "/none/*"}} {{getvs "/app/[a-h]*"}}', "[x y] [] [0.5 1000000 h]" },
      { '{{gets "/app/[a-"}}', { "syntax error in pattern" } },
      { '{{ls "/app"}} {{ls "/app/"}} {{ls "/app/port"}} {{ls "/none"}} {{ls "/"}} {{lsdir "/"}}',
        "[big f host on port sub] [big f host on port sub] [port] [] [top] []" },
      { '{{lsdir "/app"}}', "[sub]" },
      { '{{add (getv "/app/port") 1}}', { "wrong type for value; expected int; got string" } },
    })
  end)

  it("has its functions with its order of arguments", function()
    check("confd", json, {
      { '{{split "a,b" ","}} {{len (split "" ",")}} {{join (split "a b" " ") "-"}}',
        "[a b] 1 a-b" },
      { '{{replace "aaa" "a" "b" 2}} {{trimSuffix "a.b" ".b"}} {{contains "abc" "b"}}',
        "bba a true" },
      { '{{toUpper "h\195\169"}} {{toLower "\195\137A"}}', "H\195\137 \195\169a" },
      { '{{base ""}} {{base "/"}} {{base "/a/b"}} {{dir "/a/b"}} {{dir "b"}}', ". / b /a ." },
      { '{{base64Encode "hi!?"}} {{base64Decode "aGkhPw=="}}', "aGkhPw== hi!?" },
      { '{{add 1 2}} {{sub 1 2}} {{mul 3 4}} {{div 7 2}} {{mod -7 3}}', "3 -1 12 3 -1" },
      { "{{div 1 0}}", { "error calling div: runtime error: integer divide by zero" } },
      { '{{seq 1 3}} {{seq 3 1}} {{atoi "42" | add 1}} {{parseBool "T"}}', "[1 2 3] [] 43 true" },
      { '{{atoi "x"}}', { 'strconv.Atoi: parsing "x": invalid syntax' } },
      { "{{parseBool \"\"}}", { 'strconv.ParseBool: parsing "": invalid syntax' } },
      { '{{(json "{\\"a\\":1500000}").a}} {{index (jsonArray "[8080]") 0}}', "1.5e+06 8080" },
      { '{{json "[]"}}',
        { "json: cannot unmarshal array into Go value of type map[string]interface {}" } },
      { '{{json "null"}} {{(json "null").a}} {{jsonArray "null"}} {{printf "%T" (json "null")}}',
        "map[] <no value> [] map[string]interface {}" },
      { '{{json ""}}', { "unexpected end of JSON input" } },
      { '{{map "a" 1 "b" 2}}', "map[a:1 b:2]" }, { '{{map "a"}}', { "invalid map call" } },
      { '{{map 1 2}}', { "map keys must be strings" } },
      { '{{getenv "HOME"}} {{getenv "EMPTY" "d"}} {{getenv "NONE"}}|', "/root d |" },
      { '{{reverse (split "a b" " ")}} {{sortByLength (split "bbb a cc" " ")}}',
        "[b a] [a cc bbb]" },
      { '{{fileExists "/etc/x"}} {{fileExists "/etc/y"}} {{lookupIP "x"}}', "true false []" },
      { '{{datetime.UTC.Format "Mon Jan 2 15:04:05 2006 Z07:00"}} {{datetime.Unix}}',
        "Thu Feb 29 12:34:56 2024 Z 1709210096" },
      { '{{add "2" 1}}', { 'expected integer; found "2"' } },
      { '{{contains 1 "x"}}', { "expected string; found 1" } },
      { '{{cgetv "/x"}}', { "(it is not supported: encrypted keys)" } },
      { '{{keyOrDefault "a" "b"}}', { "(it is a function of consul-template and segue)" } },
    })
  end)
end)

describe("the dialect consul-template", function()
  local json = [[{"app":{"port":8080,"sub":{"a":1,"b":2}},"apple":"x","@nodes":[
    {"Node":"n2","Address":"1.1.1.2"},{"Node":"n1","Address":"1.1.1.1","Datacenter":"dc1"}],
    "@services":{"api":[
      {"ID":"a2","Address":"10.0.0.2","Port":80,"Tags":["b","a"],"Node":"n1",
        "ServiceMeta":{"v":"7"}},
      {"ID":"a1","Port":81,"Node":"n1","NodeAddress":"1.1.1.1","Tags":["a"]},
      {"ID":"a3","Status":"critical"}],"web":[{"ID":"w"}]},
    "secrets":{"kv":{"db":{"password":"hush"}}},"nomadVars":{"app":{"a":"b"}}}]]
  json = json:gsub("\n *", "")

  it("reads keys, services and nodes", function()
    check("consul-template", json, {
      { '{{key "app/port"}} {{key "/app/port"}} {{key "x"}}| {{keyOrDefault "x" "d"}}',
        "8080 8080 | d" },
      { '{{keyExists "app"}} {{keyExists "app/port"}} {{.q}}', "false true <no value>" },
      { "{{.q.r}}", { "nil pointer evaluating interface {}.r" } },
      { '{{range ls "app"}}{{.Key}}={{.Value}} {{end}}', "port=8080 le=x " },
      { '{{range tree "app/"}}{{.Key}}={{.Value}} {{end}}', "port=8080 sub/a=1 sub/b=2 " },
      { '{{(tree "app" | explode).sub.b}}', "2" },
      { '{{range $k, $v := tree "app/" | byKey}}{{$k}}'
        .. "{{range $p, $x := $v}} {{$p}}={{$x.Value}}={{$x.Key}}{{end}}{{end}}",
        "sub a=1=a b=2=b" },
      { '{{key "a@b@c"}}', { 'kv.get: invalid format: "a@b@c"' } },
      { '{{range service "api"}}{{.ID}} {{.Address}}:{{.Port}} {{.Tags}} {{end}}',
        "a1 1.1.1.1:81 [a] a2 10.0.0.2:80 [a b] " },
      { '{{range service "b.api"}}{{.ID}}{{end}} {{range service "api|any"}}{{.ID}}{{end}} '
        .. '{{range service "api" "critical"}}{{.ID}}{{end}} {{len (service "none")}}',
        "a2 a3a1a2 a3 0" },
      { '{{service "api|bad"}}', { 'health.service: invalid filter: "bad" in "api|bad"' } },
      { '{{range service "api"}}{{.Adress}}{{end}}',
        { "can't evaluate field Adress in type *dependency.HealthService "
          .. "(did you mean Address?)" } },
      { '{{range service "api"}}{{.ServiceMeta.v}}{{.ServiceMeta.none}}|{{end}}', "|7|" },
      { "{{range services}}{{.Name}}{{.Tags}} {{end}}", "api[a b] web[] " },
      { '{{range nodes}}{{.Node}} {{end}}{{with node "n1"}}{{.Node.Address}}'
        .. "{{range .Services}} {{.ID}}{{end}}{{end}}{{with node \"x\"}}{{.Node}}{{end}} "
          .. "{{datacenters}}",
        "n1 n2 1.1.1.1 a1 a2<no value> [dc1]" },
      { '{{range $t, $l := service "api" | byTag}}{{$t}}{{len $l}} {{end}}'
        .. '{{range $p, $l := service "api" | byPort}}{{$p}} {{end}}'
        .. '{{range $m, $l := service "api" | byMeta "v|int"}}{{$m}} {{end}}',
        "a2 b1 80 81 00007 _no_v_ " },
    })
  end)

  it("has its helpers with the subject last", function()
    check("consul-template", json, {
      { '{{split "," " a,b "}} {{len (split "," "")}} {{join "-" (split "," "a,b")}}',
        "[a b] 0 a-b" },
      { '{{"a b" | replaceAll " " "_"}} {{trim "x" "xax"}} {{trimPrefix "a" "ab"}} '
        .. '{{trimSuffix "b" "ab"}}',
        "a_b a b a" },
      { [[{{toTitle "don't stop a.b x_y 3rd é foo-bar a..b ﬁx\n“word” …and"}}]],
        "Don't Stop A.b X_y 3Rd É Foo-Bar A..B Fix\n“Word” …And" },
      { '{{$a := parseJSON `{"k":1,"e":"","m":{"x":1}}`}}'
        .. '{{$b := parseJSON `{"k":2,"e":3,"m":{"x":2,"y":3},"n":null}`}}'
        .. "{{$b | mergeMap $a | toJSON}} {{$b | mergeMapWithOverride $a | toJSON}} {{$a.k}}",
        '{"e":3,"k":1,"m":{"x":1,"y":3}} {"e":3,"k":2,"m":{"x":2,"y":3},"n":null} 1' },
      { "{{maximum 1000000 2.0}} {{minimum 2 1.5}} {{maximum 3 3.0 | printf `%T`}} "
        .. '{{parseUint "18446744073709551615" | minimum 2}}',
        "1000000 1.5 int64 18446744073709551615" },
      { '{{parseFloat "inf"}} {{parseFloat "-Infinity"}} {{parseFloat "NaN"}}', "+Inf -Inf NaN" },
      { '{{toYAML "a\\nb"}} {{explodeMap (parseJSON "null")}}', "|-\n  a\n  b map[]" },
      { '{{toTitle "hello wOrld"}} {{indent 2 "a\\n\\nb"}}', "Hello WOrld   a\n\n  b" },
      { '{{regexMatch "^a+$" "aaa"}} {{regexReplaceAll "x*" "-" "abc"}} '
        .. '{{regexReplaceAll "(a)(b)" "${2}$1x$$" "ab"}}', "true -a-b-c- b$" },
      { '{{regexMatch "a$" "a\\n"}} {{regexMatch "(?m)a$" "a\\n"}}', "false true" },
      { '{{regexMatch "a(?=b)" "x"}}', { "invalid or unsupported Perl syntax: `(?=`" } },
      { '{{regexMatch "(a)\\\\1" "x"}}', { "invalid escape sequence: `\\1`" } },
      { '{{regexMatch "(a|aa)+$" "' .. ("a"):rep(50) .. 'b"}}', { "match limit" } },
      { '{{add 1 2}} {{subtract 1 3}} {{divide 2 7}} {{modulo 3 7}} {{add 1 1.5}} {{minimum 1 2}}',
        "3 2 3 1 2.5 1" },
      { '{{printf "%T" (add 1 2)}} {{parseInt "5" | add 1}} {{parseInt ""}} {{parseFloat "1.5"}}',
        "int64 6 0 1.5" },
      { '{{add "2" 1}}', { 'add: unknown type for "2" (string)' } },
      { '{{parseInt " 1"}}', { 'parseInt: strconv.ParseInt: parsing " 1": invalid syntax' } },
      { '{{in (split "," "a,b") "b"}} {{in "abc" "bc"}} {{split "," "a,b" | contains "c"}} '
        .. "{{in 1 1}}",
        "true true false false" },
      { '{{split "," "a,b" | containsAll (parseJSON "[\\"a\\"]")}}', "true" },
      { '{{splitToMap "," ":" "a:1,b,c:2"}}', "map[a:1 c:2]" },
      { '{{range loop 3}}{{.}}{{end}} {{range $i, $v := loop 5 "7"}}{{$i}}{{$v}}{{end}}',
        "012 0516" },
      { "{{loop 3}}", { "can't print {{loop 3}} of type <-chan int64" } },
      { '{{scratch.Set "k" 5}}{{scratch.Get "k"}} {{scratch.MapSet "m" "b" 1}}'
        .. '{{scratch.MapSetX "m" "a" 2}}{{scratch.MapValues "m"}} {{scratch.Key "q"}}',
          "5 [2 1] false" },
      { '{{scratch.Set "a" 1}}{{scratch.MapSet "a" "b" 1}}', { '"a" is not a map' } },
      -- The data stay as they are: other templates share them.
      { '{{$m := parseJSON "{\\"a\\":1}"}}{{scratch.Set "d" $m}}{{scratch.MapSet "d" "n" 2}}'
        .. '{{scratch.MapSetX "d" "o" 3}}{{scratch.MapValues "d"}} {{$m}}', "[1 2 3] map[a:1]" },
      { '{{define "p"}}<{{.}}>{{end}}{{executeTemplate "p" 5 | toUpper}}{{executeTemplate "p"}}',
        "<5><<no value>>" },
      { '{{env "HOME"}} {{envOrDefault "EMPTY" "d"}}| {{envOrDefault "NONE" "d"}} '
        .. '{{file " /etc/x "}}',
        "/root | d text" },
      { '{{mustEnv "NONE"}}', { "required environment variable NONE is empty" } },
      { '{{file "/etc/y"}}', { "open /etc/y: no such file or directory" } },
      { '{{timestamp}} {{timestamp "unix"}} {{timestamp "02.01.06 3:04PM"}}',
        "2024-02-29T12:34:56Z 1709210096 29.02.24 12:34PM" },
      { '{{with secret "kv/db"}}{{.Data.password}}{{.LeaseID}}{{end}} {{secrets "kv"}}',
        "hush [db]" },
      { '{{with secret "none"}}x{{else}}-{{end}}{{$s := secret "none"}}{{$s.Data.x}}',
        "-<no value>" },
      { '{{secret "none" "a=b"}}', { "writing is not supported" } },
      { '{{range $k, $v := nomadVar "app"}}{{$k}}={{$v}}{{end}}{{(nomadVar "none").x}}',
        "a=b<no value>" },
      { '{{sockaddr "x"}}', { "(it is not supported: the interfaces of the machine)" } },
    })
  end)

  it("encodes as Go does", function()
    check("consul-template", json, {
      { '{{sha256Hex "abc"}}',
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" },
      { '{{md5sum "abc"}} {{md5sum ""}}',
        "900150983cd24fb0d6963f7d28e17f72 d41d8cd98f00b204e9800998ecf8427e" },
      { '{{hmacSHA256Hex "what do ya want for nothing?" "Jefe"}}',
        "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843" },
      { '{{base64Encode "hi!?"}} {{base64URLEncode "\195\191\195\190"}} {{base64Decode "aGk="}}',
        "aGkhPw== w7_Dvg== hi" },
      { '{{with parseJSON `{"b":1500000,"a":8080,"c":[1,"<",null,1e-7]}`}}{{.a}} {{.b}} '
        .. "{{toJSON .}} {{toUnescapedJSON .c}}{{end}}",
        '8080 1.5e+06 {"a":8080,"b":1500000,"c":[1,"\\u003c",null,1e-7]} [1,"<",null,1e-7]' },
      { '{{toJSONPretty (parseJSON "{\\"a\\":[],\\"b\\":[1]}")}}',
        '{\n  "a": [],\n  "b": [\n    1\n  ]\n}' },
      { '{{toYAML (parseJSON `{"k10":"yes","k9":[1,{"a":"x: y"}],"e":{},"n":null}`)}}',
        "e: {}\nk9:\n- 1\n- a: 'x: y'\nk10: \"yes\"\n\"n\": null" },
      { '{{(parseYAML "a: 1000000").a}} {{parseYAML ""}}', "1000000 map[]" },
    })
  end)
end)

describe("the dialect segue", function()
  it("is the default, and has Go's missing keys", function()
    template.check { { '{{.q.r}} {{range service "a"}}{{.Port}}{{end}} {{"x" | toUpper}}',
      '{"services":{"a":[{"port":80}]}}', "<no value> 80 X" } }
  end)
end)
