-- SPDX-License-Identifier: MIT
-- Random templates over random data, for a comparison with Go. Most are good; some have an error
-- that only running finds, some had a byte changed. Left out is what Debian's Go 1.19 does
-- differently from newer ones.
local cases = {}

local random = math.random
local function pick(list) return list[random(#list)] end
local function chance(percent) return random(100) <= percent end

-- ---- Data ---------------------------------------------------------------------------------------

local keys = { "a", "b", "c", "d", "e", "Name", "x1" }
local strings = { '""', '"a"', '"abc"', '"x y"', '"<b>&\'\\""', '"caf\\u00e9"', '"10"', '"\\n\\t"',
  '"%d"',
  '"\\u2028\\u0001"', '"Zz9-_.~/?"' }
local floats = { "0.0", "1.0", "1.5", "-2.25", "1e6", "123456.0", "1234567.0", "1e21", "1e-5",
  "0.1",
  "-0.0", "3.141592653589793", "5e-324", "1.7976931348623157e308", "100000.0" }
-- Large ones are negative: newer Go counts up to an int that is ranged over.
local ints = { "0", "1", "2", "3", "-1", "7", "42", "-1000000", "255", "-9007199254740993",
  "-9223372036854775808", "-9223372036854775807", "65", "233" }

local data_value
local function data_list(depth)
  local out = {}
  for i = 1, random(0, 4) do out[i] = data_value(depth - 1) end
  return "[" .. table.concat(out, ",") .. "]"
end
local function data_map(depth)
  local out, seen = {}, {}
  for _ = 1, random(0, 5) do
    local key = pick(keys)
    if not seen[key] then out[#out + 1] = ('"%s":%s'):format(key, data_value(depth - 1)) end
    seen[key] = true
  end
  return "{" .. table.concat(out, ",") .. "}"
end
function data_value(depth)
  local n = random(100)
  if depth > 0 and n <= 25 then return data_map(depth) end
  if depth > 0 and n <= 45 then return data_list(depth) end
  if n <= 60 then return pick(strings) end
  if n <= 75 then return pick(ints) end
  if n <= 80 and chance(50) then return tostring(random(-1000000, 2000)) end
  if n <= 88 then return pick(floats) end
  if n <= 90 then return ("%.17g"):format((random() - 0.5) * 10 ^ random(-30, 30)):gsub("^(-?%d+)$",
    "%1.0") end
  if n <= 95 then return pick { "true", "false" } end
  return "null"
end

-- ---- Templates ----------------------------------------------------------------------------------

---@class segue.spec.template_scope
---@field vars string[]
---@field loops integer
---@field calls string[] templates that it may call

local expression

local function variable(scope)
  return pick(scope.vars)
end

local function chain()
  local out = {}
  for i = 1, pick { 1, 1, 1, 2, 2, 3 } do out[i] = "." .. pick(keys) end
  return table.concat(out)
end

local literals = { "1", "0", "-3", "2.5", "1e3", "0x1F", "017", "1_000", "'a'", "'\\n'", '"s"',
  '""', '"a\\tb"',
  "`raw`", "true", "false", "3", "1.0", '"abc"', "-9223372036854775807", '"\\u00e9\\x41"' }

local function operand(scope, depth)
  local n = random(100)
  if n <= 30 then return chain() end
  if n <= 40 then return "." end
  if n <= 55 then return variable(scope) .. (chance(40) and chain() or "") end
  if n <= 82 or depth <= 0 then return pick(literals) end
  if n <= 84 then return "nil" end
  return "(" .. expression(scope, depth - 1) .. ")" .. (chance(15) and chain() or "")
end

local formats = { '"%v"', '"%d"', '"%s"', '"%q"', '"%5d|%-5d"', '"%05d"', '"%+d % d"', '"%x %X"',
  '"%#x"',
  '"%o %#o"', '"%b"', '"%c"', '"%U %#U"', '"%t"', '"%6.2f"', '"%e"', '"%g"', '"%.3g"', '"%8.3v|"',
    '"%T"',
  '"%%"', '"%"', '"%z"', '"%[2]d %[1]v"', '"%*d"', '"%.*f"', '"%5s|%-5s|"', '"%.2s"', '"%5.1q"',
    '"% x"',
  '"%#q"', '"%+q"', '"%d %d %d"', '"no verb"', '"%[9]d"', '"%v %v"', '"%08.3f"', '"%+.2e"',
    '"%-8v|"', '"%+v"',
  '"%#v"', '"%.0f"', '"%3c|"', '"%.3d"', '"%6.3d"', '"%E %G"', '"%05s"', '"%x"', '"%G"', '"%+d"',
    '"%!"',
  '"%-05d|"', '"%.5x"', '"%O"', '"%[1]*d"', '"%[2]*[1]d"', '"%.[2]*[1]f"', '"%[1]v %[1]T"', '"%é"' }
local unary = { "len", "not", "html", "js", "urlquery", "print", "println" }
local binary = { "eq", "ne", "lt", "le", "gt", "ge", "and", "or", "index", "print", "slice" }

local function call(scope, depth)
  local n = random(100)
  local function arg() return operand(scope, depth) end
  if n <= 25 then return pick(unary) .. " " .. arg() end
  if n <= 60 then return pick(binary) .. " " .. arg() .. " " .. arg() end
  if n <= 66 then return ("%s %s %s %s"):format(pick { "eq", "and", "or", "index", "slice", "print",
    "println", "html" }, arg(), arg(), arg()) end
  if n <= 90 then
    -- The %#v of containers names Go's types in a way of its own.
    local format = pick(formats)
    if format:find "#v" then return "printf " .. format .. " " .. pick(literals) end
    local out = { "printf", format }
    for _ = 1, random(0, 3) do out[#out + 1] = arg() end
    return table.concat(out, " ")
  end
  if n <= 93 then return pick(unary) end -- the wrong number of arguments
  if n <= 95 then return arg() .. " " .. arg() end
  return "index " .. arg() .. " " .. pick { "0", "1", '"a"', '"b"', "-1", "99" }
end

function expression(scope, depth)
  local out = { chance(55) and call(scope, depth) or operand(scope, depth) }
  while chance(20) do
    out[#out + 1] = chance(50) and pick(unary) or (pick(binary) .. " " .. operand(scope, depth))
  end
  return table.concat(out, chance(80) and " | " or "|")
end

local texts = { "x", " ", "\n", "text ", "  \n  ", "}}", "{", "é", "a{b}c", "\t|\r\n", "" }

local function wrap(inside)
  return (chance(10) and "{{- " or chance(20) and "{{ " or "{{") .. inside
    .. (chance(10) and " -}}" or chance(20) and " }}" or "}}")
end

local list

local function inner(scope, loops)
  local vars = {}
  for i, name in ipairs(scope.vars) do vars[i] = name end
  return { vars = vars, loops = loops or scope.loops, calls = scope.calls }
end

local function declared(scope, head)
  if not chance(25) then return head end
  local name = pick { "$x", "$y", "$z" }
  scope.vars[#scope.vars + 1] = name
  return name .. " := " .. head
end

local function range(scope, depth)
  local own = inner(scope, scope.loops + 1)
  local head = chance(70) and (chance(60) and chain() or ".") or expression(scope, 1)
  if chance(20) then
    own.vars[#own.vars + 1] = "$k"
    own.vars[#own.vars + 1] = "$v"
    head = "$k, $v := " .. head
  else
    head = declared(own, head)
  end
  local otherwise = chance(25) and wrap "else" .. list(inner(own, scope.loops), depth - 1) or ""
  return wrap("range " .. head) .. list(own, depth - 1) .. otherwise .. wrap "end"
end

local function branch(scope, depth)
  local own = inner(scope)
  local out = { wrap("if " .. declared(own, expression(scope, 1))), list(own, depth - 1) }
  while chance(25) do
    out[#out + 1] = wrap("else if " .. expression(own, 1))
    out[#out + 1] = list(own, depth - 1)
  end
  if chance(40) then out[#out + 1] = wrap "else" .. list(own, depth - 1) end
  return table.concat(out) .. wrap "end"
end

local function with(scope, depth)
  local own = inner(scope)
  local otherwise = chance(30) and wrap "else" .. list(inner(own), depth - 1) or ""
  return wrap("with " .. declared(own, expression(scope, 1))) .. list(own, depth - 1) .. otherwise
    .. wrap "end"
end

local function statement(scope, depth)
  local n = random(100)
  if n <= 30 or depth <= 0 then return pick(texts) end
  if n <= 58 then return wrap(expression(scope, 2)) end
  if n <= 66 then return range(scope, depth) end
  if n <= 74 then return branch(scope, depth) end
  if n <= 80 then return with(scope, depth) end
  if n <= 86 then
    local name = pick { "$x", "$y", "$z" }
    local text = wrap(name .. (chance(70) and " := " or " = ") .. expression(scope, 1))
    scope.vars[#scope.vars + 1] = name
    return text
  end
  if n <= 90 then
    return wrap(('template "%s"%s'):format(pick(scope.calls),
      chance(70) and " " .. expression(scope, 1) or ""))
  end
  if n <= 93 and scope.loops > 0 then return wrap(pick { "break", "continue" }) end
  if n <= 96 then return pick { "{{/* c */}}", "{{- /* c */ -}}", "{{/* a\nb */}}" } end
  if n <= 98 then
    return wrap(('block "%s" %s'):format(pick { "b1", "b2" }, expression(scope, 1)))
      .. list({ vars = { "$" }, loops = 0, calls = { "none" } }, depth - 1) .. wrap "end"
  end
  return wrap(pick { "nil", ".", "$", "print", '"s"', "1" })
end

function list(scope, depth)
  local out = {}
  for i = 1, random(0, 4) do out[i] = statement(scope, depth) end
  return table.concat(out)
end

local mutations = { "{{", "}}", "(", ")", "|", '"', "'", "`", ".", "$", "-", " ", "end", "else",
  ":=", "=", ",",
  "{{end}}", "{{else}}", "\n", "/*", "*/", "1", "é", "\0", "\\", "if ", "{{- ", " -}}", "range " }

local function mutate(text)
  local at = random(0, #text)
  local n = random(3)
  if n == 1 then return text:sub(1, at) .. pick(mutations) .. text:sub(at + 1) end
  if n == 2 then return text:sub(1, at) .. text:sub(at + 1 + random(3)) end
  return text:sub(1, at) .. pick(mutations) .. text:sub(at + 2)
end

local function quote(text)
  return '"' .. text:gsub('[%z\1-\31"\\]', function(c) return ("\\u%04x"):format(c:byte()) end)
    .. '"'
end

-- Parts of a character are no JSON.
local function is_utf8(text)
  local rest = text:gsub("[\194-\223][\128-\191]", ""):gsub("\224[\160-\191][\128-\191]", "")
    :gsub("[\225-\239][\128-\191][\128-\191]", "")
  return not rest:find "[\128-\255]"
end

-- A case as a line of JSON, and its template.
---@param id integer
---@return string line
---@return string template
function cases.one(id)
  local text
  repeat
    local defines = ""
    -- No template calls itself: endless recursion is a spec of its own.
    for _, name in ipairs { "one", "two" } do
      if chance(60) then
        local scope = { vars = { "$" }, loops = 0, calls = { name == "one" and "two" or "none" } }
        defines = defines .. wrap(('define "%s"'):format(name)) .. list(scope, 2) .. wrap "end"
      end
    end
    local main = list({ vars = { "$" }, loops = 0, calls = { "one", "two", "none" } }, 3)
    text = chance(50) and defines .. main or main .. defines
    if chance(15) then text = mutate(text) end
  until is_utf8(text)
  local extra = ',"dialect":"go"'
  if chance(30) then
    extra = extra .. (',"missingkey":"%s"'):format(pick { "zero", "error", "default" })
  end
  if chance(3) then
    extra = extra .. ',"left":"<%","right":"%>"'
    text = text:gsub("{{", "<%%"):gsub("}}", "%%>")
  end
  local data = chance(92) and data_map(3) or data_value(2)
  return ('{"id":%d,"name":"t","template":%s,"data":%s%s}'):format(id, quote(text), data, extra),
    text
end

return cases
