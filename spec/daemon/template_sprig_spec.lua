-- SPDX-License-Identifier: MIT
-- The dialect sprig, and the sprig_NAME functions of the dialect consul-template. The expected
-- texts are those of sprig 3.2.
local template = require "spec.support.template"

local function check(rows, dialect)
  template.check(rows, { dialect = dialect or "sprig", now = 1700000000 })
end

local data = '{"l":["b","a",null,"b",1],"m":{"a":1,"b":{"c":2}},"z":0,"s":"hello","f":1.5}'

describe("the dialect sprig", function()
  it("has its functions for texts", function()
    check {
      { '{{trim "  x "}}{{upper "aé"}}{{lower "AÉ"}}{{title "ab cd"}}', nil, "xAÉaéAb Cd" },
      { '{{trimAll "$" "$5$"}} {{trimPrefix "a" "ab"}} {{trimSuffix "b" "ab"}}', nil, "5 b a" },
      { '{{hasPrefix "a" "ab"}} {{hasSuffix "a" "ab"}} {{contains "b" "abc"}}', nil,
        "true false true" },
      { '{{replace "a" "b" "aa"}} {{repeat 3 "ab"}} {{"x" | repeat 2}}', nil, "bb ababab xx" },
      { '{{trunc 3 "hello"}} {{trunc -3 "hello"}} {{trunc -9 "hello"}} {{trunc 9 "x"}}', nil,
        "hel llo hello x" },
      { '{{substr 1 3 "hello"}} {{substr -1 3 "hello"}} {{substr 1 -1 "hello"}}', nil,
        "el hel ello" },
      { '{{substr 4 2 "hello"}}', nil, { "slice bounds out of range" } },
      { '{{quote "a" 1 nil true}} {{squote "a" nil 1}} {{cat "a" 1 nil "b"}}', nil,
        '"a" "1" "true" \'a\' \'1\' a 1 b' },
      { '{{indent 2 "a\\n\\nb"}}|{{nindent 2 "a"}}', nil, "  a\n  \n  b|\n  a" },
      { '{{abbrev 5 "hello world"}} {{plural "one" "many" 2}} {{initials "a bc"}}', nil,
        "he... many ab" },
      { '{{nospace " a b "}} {{swapcase "aB"}} {{untitle "Ab Cd"}} {{toString 1.0}}', nil,
        "ab Ab ab cd 1" },
      { '{{base "a/b.c"}} {{dir "a/b"}} {{ext "b.tar.gz"}} {{clean "a/../b"}} {{isAbs "/a"}}', nil,
        "b.c a .gz b true" },
      { '{{b64enc "ab"}} {{b64dec "YWI="}} {{sha256sum "" | trunc 8}}', nil, "YWI= ab e3b0c442" },
    }
  end)

  it("has its defaults and kinds", function()
    check {
      { '{{default "d" .none}} {{default "d" .z}} {{default "d" .s}} {{.f | default 2}}', data,
        "d d hello 1.5" },
      { '{{empty .z}} {{empty .m}} {{coalesce .none 0 "" .s}} {{coalesce .none}}', data,
        "true false hello <no value>" },
      { '{{ternary "a" "b" true}}{{false | ternary "a" "b"}} {{all 1 "a"}} {{any 0 ""}}', nil,
        "ab true false" },
      { '{{kindOf .l}} {{kindOf .m}} {{kindOf .f}} {{kindOf .z}} {{kindOf .none}}', data,
        "slice map float64 int invalid" },
      { '{{typeOf .l}} {{typeIs "string" .s}} {{kindIs "map" .m}}', data,
        "[]interface {} true true" },
      { '{{fail "no port"}}', nil, { "error calling fail: no port" } },
    }
  end)

  it("has its lists", function()
    check {
      { '{{list 1 "a" nil}} {{first .l}} {{last .l}} {{rest .l}} {{initial .l}}', data,
        "[1 a <nil>] b 1 [a <nil> b 1] [b a <nil> b]" },
      { '{{append .l 2}} {{prepend .l 2}} {{concat .l (list 3)}}', data,
        "[b a <nil> b 1 2] [2 b a <nil> b 1] [b a <nil> b 1 3]" },
      { '{{uniq .l}} {{without .l "b" 1}} {{has "a" .l}} {{has 2 .l}} {{has 1 nil}}', data,
        "[b a <nil> 1] [a <nil>] true false false" },
      { '{{compact .l}} {{reverse .l}} {{sortAlpha .l}} {{slice .l 1 3}} {{slice .l 3}}', data,
        "[b a b 1] [1 b <nil> a b] [1 a b b] [a <nil>] [b 1]" },
      { '{{chunk 2 .l}} {{join "-" .l}} {{join "-" 5}} {{splitList "," "a,b"}}', data,
        "[[b a] [<nil> b] [1]] b-a-b-1 5 [a b]" },
      { '{{(split "," "a,b")._1}} {{splitn "," 2 "a,b,c"}} {{first (list)}}', nil,
        "b map[_0:a _1:b,c] <no value>" },
      { '{{first "x"}}', nil, { "error calling first: Cannot find first on type string" } },
      { '{{slice .l 2 9}}', data, { "slice index out of bounds" } },
      { '{{until 3}} {{until -2}} {{untilStep 0 7 3}} {{seq 3}} {{seq 2 -1}} {{seq 0 2 5}}', nil,
        "[0 1 2] [0 -1] [0 3 6] 1 2 3 2 1 0 -1 0 2 4" },
    }
  end)

  it("has its maps, and changes only those that functions have made", function()
    check {
      { '{{$d := dict "a" 1 "b"}}{{$d}} {{get $d "a"}} {{get $d "x"}}|{{hasKey $d "b"}}', nil,
        "map[a:1 b:] 1 |true" },
      { '{{$d := dict}}{{$_ := set $d "k" 1}}{{$_ = set $d "j" 2}}{{$d}}{{unset $d "k"}}', nil,
        "map[j:2 k:1]map[j:2]" },
      { '{{unset .none "k"}}', data, "map[]" },
      { '{{keys .m}} {{values .m}} {{pick .m "a" "x"}} {{omit .m "a"}} {{pluck "a" .m .m}}', data,
        "[a b] [1 map[c:2]] map[a:1] map[b:map[c:2]] [1 1]" },
      { '{{merge (dict "a" 0 "b" (dict "d" 4)) .m}} {{.m}}', data,
        "map[a:1 b:map[c:2 d:4]] map[a:1 b:map[c:2]]" },
      { '{{mergeOverwrite (dict "a" 7 "x" 1) .m (dict "a" 0)}}', data,
        "map[a:0 b:map[c:2] x:1]" },
      { '{{pick nil "a"}} {{omit nil "a"}} {{merge (dict) (dict "a" nil)}} {{slice (until 5) 1}}',
        nil, "map[] map[] map[] [1 2 3 4]" },
      { '{{toJson (rest (list))}} {{chunk -2 (list 1)}} {{sortAlpha nil}} {{title "don\'t €b"}}',
        nil, "null [[1]] [<nil>] Don'T €b" },
      { '{{b64dec "YWJjZ"}}', nil, "illegal base64 data at input byte 4" },
      { '{{dig "a" 1 (split "," "b")}}', nil,
        { "interface {} is map[string]string, not map[string]interface {}" } },
      { '{{mergeOverwrite .m (dict "a" 7) .m (dict "b" nil)}} {{.m}}', data,
        "map[a:7 b:<nil>] map[a:1 b:map[c:2]]" },
      -- The type of a map of split is narrower than those of other maps.
      { '{{mustMergeOverwrite (dict "a" (split "," "b")) (dict "a" (dict "_0" "c"))}}', nil,
        { "error calling mustMergeOverwrite: reflect.Value.SetMapIndex: value of type interface {} "
          .. "is not assignable to type string" } },
      { '{{merge (dict "a" (split "," "b")) (dict "a" (dict "x" (list 1)))}}', nil,
        { "error calling merge: reflect.Value.SetMapIndex: value of type []interface {} is not "
          .. "assignable to type string" } },
      { '{{merge (dict "a" (split "," "b")) (dict "a" (dict "_0" "c"))}} '
        .. '{{merge (dict "a" (dict "x" 1)) (dict "a" (split "," "b"))}}', nil,
        "map[a:map[_0:b]] map[a:map[_0:b x:1]]" },
      { '{{substr -1 9 "ab"}}', nil, { "slice bounds out of range [:9] with length 2" } },
      { '{{dig "b" "c" "none" .m}} {{dig "b" "x" "none" .m}} {{deepEqual .m (deepCopy .m)}}', data,
        "2 none true" },
      { '{{$c := deepCopy .m}}{{$_ := set $c "a" 9}}{{.m.a}}{{$c.a}}', data, "19" },
      { '{{set .m "a" 1}}', data, { "the data cannot be changed" } },
      { '{{toJson .m}} {{toRawJson "<"}} {{toJson "<"}} {{(fromJson "{\\"a\\":1}").a}}', data,
        '{"a":1,"b":{"c":2}} "<" "\\u003c" 1' },
      { '{{fromJson "{"}} {{toPrettyJson (dict "a" 1)}}', nil, '<no value> {\n  "a": 1\n}' },
    }
  end)

  it("has its numbers", function()
    check {
      { '{{add 1 "2" 3.9}} {{sub 1 3}} {{mul 2 3 4}} {{div 7 2}} {{mod -7 3}} {{add1 1}}', nil,
        "6 -2 24 3 -1 2" },
      { '{{add "x" 1}} {{int "0x1f"}} {{int "1.0"}} {{int64 1.7}} {{atoi "x"}} {{atoi "12"}}', nil,
        "1 31 1 1 0 12" },
      { '{{max 1 3 2}} {{min 3 "1"}} {{printf "%T" (add 1 2)}} {{printf "%T" (int 1)}}', nil,
        "3 1 int64 int" },
      { '{{addf 0.1 0.2}} {{subf 1 0.9}} {{mulf 1.5 2}} {{divf 1 4}} {{maxf 1 2.5}}', nil,
        "0.3 0.1 3 0.25 2.5" },
      { '{{floor 1.7}} {{ceil 1.2}} {{round 1.255 2}} {{round 1.5 0}} {{float64 "1.5"}}', nil,
        "1 2 1.25 2 1.5" },
      { '{{div 1 0}}', nil, { "integer divide by zero" } },
      { '{{toDecimal "777"}}', nil, "511" },
    }
  end)

  it("has its patterns and times", function()
    check {
      { '{{regexMatch "^a+$" "aa"}} {{regexFind "[0-9]+" "a12b3"}} {{regexFind "z" "a"}}|', nil,
        "true 12 |" },
      { '{{regexFindAll "[0-9]" "a1b2c3" 2}} {{regexFindAll "[0-9]" "a1b2" -1}}', nil,
        "[1 2] [1 2]" },
      { '{{regexReplaceAll "a(x*)b" "-ab-axxb-" "${1}W"}}', nil, "-W-xxW-" },
      { '{{regexReplaceAllLiteral "a(x*)b" "-ab-" "${1}"}} {{regexQuoteMeta "1.2"}}', nil,
        "-${1}- 1\\.2" },
      { '{{regexSplit "z+" "pizza" -1}} {{regexSplit "," "a,b,c" 2}} {{regexSplit "a" "" -1}}', nil,
        "[pi a] [a b,c] []" },
      -- The name of a group has letters of any script; a number has no 0 before it.
      { '{{regexReplaceAll "(a)(b)?" "ab" "$1|$café|${1}é|$01|$2x|$1²|$$1|${1|$-"}}', nil,
        "a||aé|||a²|$1|${1|$-" },
      { '{{regexFind "(?P<é>a)" "a"}}', nil, { "invalid named capture: `(?P<é>`" } },
      { '{{regexFind "(" "a"}}', nil, { "error calling regexFind: regexp: Compile(`(`)" } },
      { '{{mustRegexFind "(" "a"}}', nil, { "error calling mustRegexFind: error parsing regexp" } },
      { '{{dateInZone "2006-01-02 15:04" 0 "UTC"}} {{unixEpoch now}} {{duration "95"}}', nil,
        "1970-01-01 00:00 1700000000 1m35s" },
      { '{{ago (int64 1699996395)}}', nil, "1h0m5s" },
      { '{{duration "18446744074"}} {{duration (int64 -9223372036854)}} {{duration "x"}} '
        .. '{{duration "99999999999999999999"}}', nil, "290.448384ms 775.808ms 0s -1s" },
    }
  end)

  it("names the reason for a missing function", function()
    check {
      { '{{uuidv4}}', nil, { 'function "uuidv4" not defined (it is not supported: its result '
        .. "differs from run to run)" } },
      { '{{key "x"}}', nil, { "(it is a function of consul-template and segue)" } },
    }
  end)
end)

describe("the dialect consul-template", function()
  it("has the functions of sprig that need their arguments only as sprig_NAME", function()
    check({
      { '{{sprig_join "," (sprig_list 1 2)}} {{sprig_default "d" ""}} {{join "," (split "," "a")}}',
        nil, "1,2 d a" },
      { '{{sprig_now}}', nil, { "(it is not supported: use timestamp)" } },
      { '{{sprig_genCA "a" 1}}', nil, { "(it is not supported: keys and passwords" } },
      { '{{writeToFile "x"}}', nil, { "(it is not supported: it writes files)" } },
    }, "consul-template")
  end)

  it("encodes TOML", function()
    check({
      { '{{toTOML .}}', '{"b":{"c":2,"d":{"x":"y"}},"a":1,"l":["p","q"],"t":[{"k":1.0},{"k":2.5}],'
        .. '"n":null,"s p":"q\\"\\n"}',
        'a = 1\nl = ["p", "q"]\n"s p" = "q\\"\\n"\n\n[b]\n  c = 2\n  [b.d]\n    x = "y"\n\n'
        .. '[[t]]\n  k = 1.0\n\n[[t]]\n  k = 2.5' },
      { '{{toTOML "x"}}', nil, { "top-level values must be Go maps or structs" } },
    }, "consul-template")
  end)
end)
