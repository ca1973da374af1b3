-- SPDX-License-Identifier: MIT
-- Random templates of calls of sprig's functions over random data, for a comparison with sprig
-- itself. Each prints the type and the value of one call, whose arguments may be calls too; some
-- arguments have a type that does not fit.
local cases = {}

local random = math.random
local function pick(list) return list[random(#list)] end
local function chance(percent) return random(100) <= percent end

-- ---- Data ---------------------------------------------------------------------------------------

local texts = { "", "a", "abc", "x y", "Hello World", "a,b,,c", "café", "10", "-7", "1.5", "0x1f",
  "a\\nb\\n",
  "$5.00$", "YWJj", "a/b/c.tar.gz", "../x", "{\\\"a\\\":1}", "[1,2]", "true", "é€", "don't" }
local ints = { "0", "1", "2", "3", "-1", "-4", "7", "42", "100", "1000000", "9007199254740993" }
local floats = { "0.0", "1.5", "-2.25", "0.1", "2.5", "3.0", "1000000.5", "1e6", "1e21" }
local function text() return '"' .. pick(texts) .. '"' end

local function one_value(depth)
  local n = random(100)
  if n <= 35 then return text() end
  if n <= 60 then return pick(ints) end
  if n <= 72 then return pick(floats) end
  if n <= 80 then return pick { "true", "false" } end
  if n <= 86 or depth == 0 then return "null" end
  local out = {}
  if n <= 93 then
    for i = 1, random(0, 3) do out[i] = one_value(depth - 1) end
    return "[" .. table.concat(out, ",") .. "]"
  end
  for i, key in ipairs { "a", "b", "c" } do
    if i <= random(0, 3) then out[#out + 1] = ('"%s":%s'):format(key, one_value(depth - 1)) end
  end
  return "{" .. table.concat(out, ",") .. "}"
end

local function list_of(make, most)
  local out = {}
  for i = 1, random(0, most) do out[i] = make(1) end
  return "[" .. table.concat(out, ",") .. "]"
end

local function data()
  local members = {}
  for i, key in ipairs { "a", "b", "c", "d" } do
    if chance(60) then members[i] = ('"%s":%s'):format(key, one_value(1)) end
  end
  local list = {}
  for _, member in pairs(members) do list[#list + 1] = member end
  table.sort(list)
  return ('{"s":%s,"t":%s,"i":%s,"n":%s,"f":%s,"b":%s,"z":null,"l":%s,"ls":%s,"m":{%s}}'):format(
    text(), text(), pick(ints), pick(ints), pick(floats), pick { "true", "false" },
    list_of(one_value, 5), list_of(text, 4), table.concat(list, ","))
end

-- ---- Functions ----------------------------------------------------------------------------------

-- Arguments: s text, c small integer constant, i integer, n anything that is a number or looks like
-- one, l list, m map, o map that a function has made, b boolean, a anything, p pattern, k key; "*"
-- repeats the last one up to three times. Left out is what differs by design (rows.lua) or has an
-- order or a time of chance.
local functions = {
  trim = "s", upper = "s", lower = "s", title = "s", nospace = "s", initials = "s",
  trimAll = "ss", trimPrefix = "ss", trimSuffix = "ss", hasPrefix = "ss", hasSuffix = "ss",
  contains = "ss", replace = "sss", ["repeat"] = "cs", trunc = "cs", substr = "ccs", abbrev = "cs",
  plural = "ssi", indent = "cs", nindent = "cs", quote = "a*", squote = "a*", cat = "a*",
  toString = "a", base = "s", dir = "s", clean = "s", ext = "s", isAbs = "s",
  default = "aa", empty = "a", coalesce = "a*", all = "a*", any = "a*", ternary = "aab", fail = "s",
  kindOf = "a", kindIs = "sa", typeOf = "a", typeIs = "sa", typeIsLike = "sa",
  b64enc = "s", b64dec = "s", sha256sum = "s", toJson = "a", toPrettyJson = "a", toRawJson = "a",
  mustToJson = "a", mustToPrettyJson = "a", mustToRawJson = "a", fromJson = "s", mustFromJson = "s",
  regexMatch = "ps", regexFind = "ps", regexFindAll = "psc", regexReplaceAll = "pss",
  regexReplaceAllLiteral = "pss", regexSplit = "psc", regexQuoteMeta = "s", mustRegexMatch = "ps",
  mustRegexFind = "ps", mustRegexFindAll = "psc", mustRegexSplit = "psc",
  mustRegexReplaceAll = "pss",
  int = "n", int64 = "n", float64 = "n", atoi = "s", toDecimal = "n", add = "n*", mul = "n*",
  max = "n*", min = "n*", biggest = "n*", sub = "nn", div = "nn", mod = "nn", add1 = "n",
  floor = "n", ceil = "n", round = "nc", ["until"] = "c", untilStep = "ccc", seq = "c*",
  list = "a*", tuple = "a*", first = "l", last = "l", rest = "l", initial = "l", append = "la",
  push = "la", prepend = "la", reverse = "l", compact = "l", uniq = "l", without = "la*",
  slice = "lc*", has = "al", chunk = "cl", concat = "l*", toStrings = "l", join = "sl",
  sortAlpha = "l", splitList = "ss", split = "ss", splitn = "scs", mustFirst = "l", mustLast = "l",
  mustRest = "l", mustInitial = "l", mustAppend = "la", mustPush = "la", mustPrepend = "la",
  mustReverse = "l", mustCompact = "l", mustUniq = "l", mustWithout = "la*", mustSlice = "lc*",
  mustHas = "al", mustChunk = "cl",
  dict = "ka*", get = "mk", hasKey = "mk", set = "oka", unset = "ok", pluck = "km*", pick = "mk*",
  omit = "mk*", deepCopy = "a", mustDeepCopy = "a", merge = "om*", mergeOverwrite = "om*",
  mustMerge = "om*", mustMergeOverwrite = "om*", dig = "kam", deepEqual = "aa", duration = "n",
}
local names = {}
for name in pairs(functions) do names[#names + 1] = name end
table.sort(names)
cases.functions = functions

-- Functions by the type of their result, for arguments.
local results = {
  s = { "upper", "trim", "title", "trunc", "substr", "join", "quote", "toString", "b64enc", "cat" },
  n = { "add", "sub", "mul", "int", "int64", "float64", "max", "floor", "div" },
  l = { "list", "rest", "initial", "append", "splitList", "uniq", "until", "concat", "sortAlpha",
    "compact" },
  m = { "dict", "pick", "omit", "split" }, o = { "dict", "pick", "omit" },
  b = { "hasPrefix", "empty", "has", "hasKey", "kindIs" },
}
local plain = {
  s = function() return pick { ".s", ".t", text() } end,
  c = function() return pick { "0", "1", "2", "3", "5", "-1", "-2", "8" } end,
  i = function() return pick { ".i", ".n", pick(ints) } end,
  n = function() return pick { ".i", ".n", ".f", pick(ints), pick(floats), ".s", '"12"' } end,
  l = function() return pick { ".l", ".ls", "(list)", '(list 1 "a" 1)' } end,
  m = function() return pick { ".m", '(dict "a" 1)' } end,
  o = function() return pick { "(dict)", '(dict "a" 1 "b" "x")', '(pick .m "a")' } end,
  b = function() return pick { ".b", "true", "false" } end,
  p = function()
    return pick { '"a"', '"[a-z]+"', '"(\\\\w)(\\\\d)?"', '"x*"', '"^."', '"[0-9]+$"', '"("', '"é"',
      '"a|ab"' }
  end,
  k = function() return pick { '"a"', '"b"', '"c"', '"none"' } end,
}
function plain.a()
  return pick { ".s", ".i", ".f", ".b", ".z", ".l", ".m", ".none", "1", "1.5", '"x"', "nil",
    ".m.a" }
end

local call

local function argument(kind, depth)
  -- A wrong type; a large count would take all memory of the original.
  if kind ~= "c" and chance(3) then kind = pick { "s", "n", "l", "m", "b", "a" } end
  local from = results[kind == "a" and pick { "s", "n", "l", "m", "b" } or kind]
  if depth > 0 and from and chance(35) then return "(" .. call(pick(from), depth - 1) .. ")" end
  return plain[kind]()
end

function call(name, depth)
  local words, kinds = { name }, functions[name]
  for kind in kinds:gsub("%*", ""):gmatch "." do words[#words + 1] = argument(kind, depth) end
  if kinds:find("*", 1, true) then
    local last = kinds:sub(-2, -2)
    for _ = 1, random(0, 3) do words[#words + 1] = argument(last, depth) end
    if chance(5) then words[2] = nil words[3] = nil words[4] = nil words[5] = nil words[6] = nil end
  end
  return table.concat(words, " ")
end

-- A case as a line of JSON, and its template.
---@param id integer
---@return string line
---@return string template
function cases.one(id)
  local template = ('{{$x := %s}}{{printf "%%T" $x}} {{$x}}'):format(call(pick(names), 2))
  local escaped = template:gsub('[\\"]', "\\%0")
  return ('{"id":%d,"name":"t","template":"%s","data":%s,"dialect":"sprig"}'):format(id, escaped,
    data()), template
end

return cases
