-- SPDX-License-Identifier: MIT
-- sprig's functions for texts, defaults, encoders, patterns and time. Lists and maps:
-- sprig_data.lua; numbers: sprig_number.lua.
local calling = require("segue.template.runtime").calling
local def = require("segue.template.signature").def
local context = require "segue.template.context"
local digest = require "segue.template.digest"
local ffi = require "ffi"
local gotime = require "segue.template.gotime"
local integers = require "segue.template.integers"
local json = require "segue.template.json"
local quote = require "segue.template.quote"
local regex = require "segue.template.regex"
local strings = require "segue.template.strings"
local text = require "segue.template.format"
local value = require "segue.template.value"

local NULL, truth = value.NULL, value.truth

local sprig = {}

-- ---- Texts --------------------------------------------------------------------------------------

sprig.trim = def({ "string" }, function(_, s) return strings.trim_space(s) end)
sprig.upper = def({ "string" }, function(_, s) return strings.upper(s) end)
sprig.lower = def({ "string" }, function(_, s) return strings.lower(s) end)
sprig.title = def({ "string" }, function(_, s) return strings.title(s) end)
sprig.untitle = def({ "string" }, function(_, s)
  return (s:gsub("^%u", string.lower):gsub("(%s)(%u)", function(a, b) return a .. b:lower() end))
end)
sprig.swapcase = def({ "string" }, function(_, s)
  return (s:gsub("%a", function(c) return c:find "%l" and c:upper() or c:lower() end))
end)
sprig.nospace = def({ "string" }, function(_, s) return (s:gsub("%s", "")) end)
sprig.initials = def({ "string" }, function(_, s)
  local out = {}
  for word in s:gmatch "%S+" do out[#out + 1] = quote.truncate(word, 1) end
  return table.concat(out)
end)
sprig.trimAll = def({ "string", "string" }, function(_, set, s) return strings.trim(s, set) end)
sprig.trimall = sprig.trimAll
sprig.trimPrefix = def({ "string", "string" }, function(_, p, s)
  return strings.trim_prefix(p, s)
end)
sprig.trimSuffix = def({ "string", "string" }, function(_, p, s)
  return strings.trim_suffix(p, s)
end)
sprig.hasPrefix = def({ "string", "string" }, function(_, p, s) return strings.has_prefix(s, p) end)
sprig.hasSuffix = def({ "string", "string" }, function(_, p, s) return strings.has_suffix(s, p) end)
sprig.contains = def({ "string", "string" }, function(_, p, s) return strings.contains(s, p) end)
sprig.replace = def({ "string", "string", "string" }, function(_, old, new, s)
  return strings.replace(s, old, new, -1)
end)
sprig["repeat"] = def({ "int", "string" }, function(site, n, s)
  n = tonumber(n)
  if n < 0 then calling(site, "repeat", "strings: negative Repeat count") end
  if n * #s > 67108864 then calling(site, "repeat", "the result is larger than 67108864 bytes") end
  return s:rep(n)
end)
sprig.trunc = def({ "int", "string" }, function(_, n, s)
  n = tonumber(n)
  if n < 0 then return #s + n > 0 and s:sub(#s + n + 1) or s end
  return s:sub(1, math.min(n, #s)) -- string.sub takes 32 bits
end)
sprig.substr = def({ "int", "int", "string" }, function(site, from, to, s)
  from, to = tonumber(from), tonumber(to)
  local wrong
  if from < 0 then
    from = 0
    if to < 0 then wrong = ("[:%d]"):format(to) end
    if to > #s then wrong = ("[:%d] with length %d"):format(to, #s) end
  elseif to < 0 or to > #s then
    to = #s
  end
  if not wrong and from > to then wrong = ("[%d:%d]"):format(from, to) end
  if wrong then calling(site, "substr", "runtime error: slice bounds out of range " .. wrong) end
  return s:sub(from + 1, to)
end)
sprig.abbrev = def({ "int", "string" }, function(_, n, s)
  n = tonumber(n)
  if n < 4 or #s <= n then return s end
  return s:sub(1, n - 3) .. "..."
end)
sprig.plural = def({ "string", "string", "int" }, function(_, one, many, n)
  return n == 1 and one or many
end)

local function indent(site, name, n, s)
  n = tonumber(n)
  if n < 0 then calling(site, name, "strings: negative Repeat count") end
  local pad = (" "):rep(math.min(n, 10000))
  return pad .. s:gsub("\n", "\n" .. pad)
end
sprig.indent = def({ "int", "string" }, function(site, n, s)
  return indent(site, "indent", n, s)
end)
sprig.nindent = def({ "int", "string" }, function(site, n, s)
  return "\n" .. indent(site, "nindent", n, s)
end)

-- Joins what show makes of the arguments that are not null.
local function join_shown(show)
  return def({}, function(_, n, ...)
    local out, args = {}, { ... }
    for i = 1, n do
      if args[i] ~= nil and args[i] ~= NULL then out[#out + 1] = show(args[i]) end
    end
    return table.concat(out, " ")
  end, "any")
end
sprig.quote = join_shown(function(v) return quote.quote(text.value(v)) end)
sprig.squote = join_shown(function(v) return "'" .. text.value(v) .. "'" end)
sprig.cat = join_shown(text.value)
sprig.toString = def({ "any" }, function(_, v) return text.value(v) end)

sprig.env = def({ "string" }, function(_, name) return context.getenv(name) or "" end)
sprig.expandenv = def({ "string" }, function(_, s)
  s = s:gsub("%${([^}]*)}", function(name) return context.getenv(name) or "" end)
  return (s:gsub("%$([%a_][%w_]*)", function(name) return context.getenv(name) or "" end))
end)

sprig.base = def({ "string" }, function(_, s) return strings.base(s) end)
sprig.dir = def({ "string" }, function(_, s) return strings.dir(s) end)
sprig.clean = def({ "string" }, function(_, s) return strings.clean(s) end)
sprig.ext = def({ "string" }, function(_, s) return s:match "%.[^./]*$" or "" end)
sprig.isAbs = def({ "string" }, function(_, s) return s:byte() == 47 end)

-- ---- Defaults -----------------------------------------------------------------------------------

sprig.default = def({ "any" }, function(_, n, default, v)
  if n > 1 and truth(v) then return v end
  return default
end, "any")
sprig.empty = def({ "any" }, function(_, v) return not truth(v) end)
sprig.coalesce = def({}, function(_, n, ...)
  for i = 1, n do
    local v = select(i, ...)
    if truth(v) then return v end
  end
  return NULL
end, "any")
sprig.all = def({}, function(_, n, ...)
  for i = 1, n do
    if not truth((select(i, ...))) then return false end
  end
  return true
end, "any")
sprig.any = def({}, function(_, n, ...)
  for i = 1, n do
    if truth((select(i, ...))) then return true end
  end
  return false
end, "any")
sprig.ternary = def({ "any", "any", "bool" }, function(_, a, b, which)
  if which then return a end
  return b
end)
sprig.fail = def({ "string" }, function(site, message) calling(site, "fail", message) end)

-- ---- Kinds --------------------------------------------------------------------------------------

local kinds = { list = "slice", channel = "chan", null = "invalid" }
local function kind_of(v)
  local kind = value.kind(v)
  if kind == "struct" and getmetatable(v).type:sub(1, 1) == "*" then return "ptr" end
  return kind and (kinds[kind] or kind) or "invalid"
end
local function type_of(v) return v == NULL and "<nil>" or value.type_name(v) end

sprig.kindOf = def({ "any" }, function(_, v) return kind_of(v) end)
sprig.kindIs = def({ "string", "any" }, function(_, name, v) return kind_of(v) == name end)
sprig.typeOf = def({ "any" }, function(_, v) return type_of(v) end)
sprig.typeIs = def({ "string", "any" }, function(_, name, v) return type_of(v) == name end)
sprig.typeIsLike = def({ "string", "any" }, function(_, name, v)
  return type_of(v) == name or type_of(v) == "*" .. name
end)

-- ---- Encoders -----------------------------------------------------------------------------------

sprig.b64enc = def({ "string" }, function(_, s) return strings.base64(s) end)
sprig.b64dec = def({ "string" }, function(_, s)
  local out, message = strings.unbase64(s)
  return out or message
end)
sprig.sha256sum = def({ "string" }, function(_, s) return digest.hex(digest.sha256(s)) end)

for name, options in pairs { toJson = { html = true }, toPrettyJson = { html = true,
  indent = "  " }, toRawJson = {} } do
  local must = "must" .. name:sub(1, 1):upper() .. name:sub(2)
  sprig[name] = def({ "any" }, function(_, v) return json.encode(v, options) or "" end)
  sprig[must] = def({ "any" }, function(site, v)
    local out, message = json.encode(v, options)
    return out or calling(site, must, message)
  end)
end
sprig.fromJson = def({ "string" }, function(_, s)
  local v = json.decode(s)
  if v == nil then return NULL end
  return v
end)
sprig.mustFromJson = def({ "string" }, function(site, s)
  local v, message = json.decode(s)
  if message then calling(site, "mustFromJson", message) end
  return v
end)

-- ---- Patterns -----------------------------------------------------------------------------------

-- The function and its must form; Go panics in the first with this text around the error.
local function pattern_function(name, params, call)
  local must = "must" .. name:sub(1, 1):upper() .. name:sub(2)
  for _, own in ipairs { name, must } do
    sprig[own] = def(params, function(site, pattern, ...)
      local out, message = call(pattern, ...)
      if message and own == name then
        message = ("regexp: Compile(`%s`): %s"):format(pattern, message)
      end
      if message then calling(site, own, message) end
      return out
    end)
  end
end
local function literal(s) return (s:gsub("%$", "$$")) end

pattern_function("regexReplaceAll", { "string", "string", "string" }, function(p, s, replacement)
  return regex.replace_all(p, replacement, s)
end)
pattern_function("regexReplaceAllLiteral", { "string", "string", "string" },
  function(p, s, replacement) return regex.replace_all(p, literal(replacement), s) end)
pattern_function("regexFind", { "string", "string" }, function(p, s)
  local found, message = regex.find_all(p, s, 1)
  return found and (found[1] or ""), message
end)
pattern_function("regexFindAll", { "string", "string", "int" }, function(p, s, n)
  local found, message = regex.find_all(p, s, tonumber(n))
  return found and value.list(found, value.STRINGS), message
end)
pattern_function("regexSplit", { "string", "string", "int" }, function(p, s, n)
  local found, message = regex.split(p, s, tonumber(n))
  return found and value.list(found, value.STRINGS), message
end)
sprig.regexMatch = def({ "string", "string" }, function(_, p, s)
  return regex.match(p, s) or false
end)
sprig.mustRegexMatch = def({ "string", "string" }, function(site, p, s)
  local found, message = regex.match(p, s)
  if message then calling(site, "mustRegexMatch", message) end
  return found
end)
sprig.regexQuoteMeta = def({ "string" }, function(_, s)
  return (s:gsub("[\\.+*?()|%[%]{}^$]", "\\%0"))
end)

-- ---- Time ---------------------------------------------------------------------------------------

sprig.now = def({}, function() return gotime.now(context.now(), true) end)

-- A time, or seconds since 1970; any other value is the present.
local function seconds_of(v)
  local kind = value.kind(v)
  if kind == "struct" and v.seconds then return v.seconds end
  if kind == "int" or kind == "int64" then return tonumber(value.int64_of(v)) end
  return context.now()
end

local function in_zone(layout, v, zone)
  return gotime.format(gotime.now(seconds_of(v), zone == "Local"), layout)
end
sprig.date = def({ "string", "any" }, function(_, layout, v) return in_zone(layout, v, "Local") end)
sprig.dateInZone = def({ "string", "any", "string" }, function(site, layout, v, zone)
  if zone ~= "Local" and zone ~= "UTC" and zone ~= "" then
    calling(site, "dateInZone", "only the zones UTC and Local are supported")
  end
  return in_zone(layout, v, zone)
end)
sprig.date_in_zone = sprig.dateInZone
sprig.htmlDate = def({ "any" }, function(_, v) return in_zone("2006-01-02", v, "Local") end)
sprig.unixEpoch = def({ "any" }, function(_, v) return ("%d"):format(seconds_of(v)) end)

-- Seconds as Go prints a duration: "1h0m5s". Go counts nanoseconds in 64 bits, which wrap: then
-- there is a fraction.
local function duration(n)
  local ns = ffi.cast("int64_t", n) * 1000000000LL
  if ns == 0 then return "0s" end
  local sign = ns < 0 and "-" or ""
  local size = ffi.cast("uint64_t", ns < 0 and -ns or ns)
  local whole, rest = tonumber(size / 1000000000ULL), tonumber(size % 1000000000ULL)
  if whole == 0 then
    local name, unit = "ns", 1
    if rest >= 1000000 then name, unit = "ms", 1000000
    elseif rest >= 1000 then name, unit = "\194\181s", 1000 end
    return ("%s%s%s"):format(sign, ("%.6f"):format(rest / unit):gsub("%.?0+$", ""), name)
  end
  local h, m = math.floor(whole / 3600), math.floor(whole / 60) % 60
  local s = ("%d"):format(whole % 60) .. ((".%09d"):format(rest):gsub("%.?0+$", ""))
  if h > 0 then return ("%s%dh%dm%ss"):format(sign, h, m, s) end
  if m > 0 then return ("%s%dm%ss"):format(sign, m, s) end
  return ("%s%ss"):format(sign, s)
end
-- The number in a text; 0: there is none. One that is too large is the largest.
local function whole_number(s)
  local n, message = integers.parse(s, "")
  if n then return value.int64_of(n) end
  if not message:find "out of range$" then return 0 end
  return s:sub(1, 1) == "-" and -0x7fffffffffffffffLL - 1 or 0x7fffffffffffffffLL
end
sprig.duration = def({ "any" }, function(_, v)
  local kind = value.kind(v)
  if kind == "string" then return duration(whole_number(v)) end
  return duration(kind == "int64" and value.int64_of(v) or 0)
end)
sprig.ago = def({ "any" }, function(_, v)
  return duration(math.floor(context.now() - seconds_of(v) + 0.5))
end)

-- Their result is a value of any type, so that null is nothing for the next function.
for _, name in ipairs { "default", "coalesce", "ternary", "fromJson", "mustFromJson" } do
  sprig[name].result = "value"
end

return sprig
