-- SPDX-License-Identifier: MIT
-- Regular expressions with RE2's meaning, on PCRE2: constructs that RE2 lacks are refused.
local host = require "segue.template.host"
local quote = require "segue.template.quote"
local unicode = require "segue.template.unicode"

local regex = {}

-- Escapes of PCRE2 that RE2 lacks, or that mean something else there.
local refused_escapes = {}
for c in ("ZGKRXhHNegklUuLoyYqicJjIOPTVWF123456789"):gmatch "." do refused_escapes[c] = true end
refused_escapes.P, refused_escapes.W = nil, nil

local function fail(what, text)
  return nil, ("error parsing regexp: %s: `%s`"):format(what, text)
end

local function check_group(pattern, at)
  local head = pattern:sub(at, at + 3)
  local capture, name = pattern:match("^(%(%?P?<([^>]*)>)", at)
  if capture and not name:find "^[%w_]+$" and not name:find "^[=!]" then
    return fail("invalid named capture", capture)
  end
  if head:find "^%(%?P<" or head:find "^%(%?<[%a_]" then return true end
  local flags = pattern:match("^%(%?[imsU]*%-?[imsU]*[:)]", at)
  if flags then return true end
  return fail("invalid or unsupported Perl syntax", pattern:match("^%(%?.?", at))
end

-- The pattern for PCRE2, or nil and Go's message.
local function translate(pattern)
  local at, in_class = 1, false
  while at <= #pattern do
    local c = pattern:sub(at, at)
    if c == "\\" then
      local letter = pattern:sub(at + 1, at + 1)
      if letter == "" then return fail("trailing backslash at end of expression", "") end
      if letter == "Q" then
        at = (pattern:find("\\E", at + 2, true) or #pattern)
      elseif refused_escapes[letter] then
        return fail("invalid escape sequence", "\\" .. letter)
      end
      at = at + 1
    elseif in_class then
      if c == "[" and pattern:find("^%[:%^?%a+:%]", at) then
        at = pattern:find(":]", at + 2, true) + 1
      elseif c == "]" then
        in_class = false
      end
    elseif c == "[" then
      in_class = true
      if pattern:sub(at + 1, at + 1) == "^" then at = at + 1 end
      if pattern:sub(at + 1, at + 1) == "]" then at = at + 1 end
    elseif c == "(" then
      local follows = pattern:sub(at + 1, at + 1)
      if follows == "*" then return fail("missing argument to repetition operator", "*") end
      if follows == "?" then
        local good, message = check_group(pattern, at)
        if not good then return nil, message end
      end
    elseif c:find "[*+?}]" and pattern:sub(at + 1, at + 1):find "[*+]" then
      return fail("invalid nested repetition operator", pattern:sub(at, at + 1))
    elseif c == "{" then
      local low, high = pattern:match("^{(%d+),?(%d*)}", at)
      if low and (tonumber(low) > 1000 or (tonumber(high) or 0) > 1000) then
        return fail("invalid repeat count", pattern:match("^{[%d,]*}", at))
      end
    end
    at = at + 1
  end
  return pattern
end

local cache, cached = {}, 0

local function compile(pattern)
  local known = cache[pattern]
  if known then return known end
  local translated, message = translate(pattern)
  if not translated then return nil, message end
  local compiled, why, offset = host.regex_new(translated)
  if not compiled then
    if why == "missing closing parenthesis" then return fail("missing closing )", pattern) end
    return fail(why, pattern:sub(math.max(1, (offset or 0) - 10), (offset or 0) + 10))
  end
  if cached >= 500 then cache, cached = {}, 0 end
  known = { regex = compiled, groups = host.regex_groups(compiled) }
  cache[pattern], cached = known, cached + 1
  return known
end

-- The last text: PCRE2 matches UTF-8 only, and for RE2 a byte that is no character is U+FFFD.
---@class segue.template.subject
---@field text string with U+FFFD for such a byte
---@field to? table<integer, integer> where each character is in it; nil: at the same place
---@field back? table<integer, integer>
---@type table<string, segue.template.subject>
local subjects = {}

local function subject_of(s)
  local known = subjects[s]
  if known then return known end
  known = { text = s }
  local out, to, back, at, now = {}, {}, {}, 1, 1
  local is_utf8 = not s:find "[\128-\255]"
  if not is_utf8 then
    is_utf8 = true
    while at <= #s do
      local code, length = quote.decode(s, at)
      local c = s:sub(at, at + length - 1)
      if length == 1 and code >= 128 then c, is_utf8 = quote.encode(code), false end
      out[#out + 1], to[at], back[now] = c, now, at
      at, now = at + length, now + #c
    end
    to[at], back[now] = now, at
  end
  if not is_utf8 then known = { text = table.concat(out), to = to, back = back } end
  subjects = { [s] = known }
  return known
end

-- host.regex_match, for any text.
local function match_at(re, s, at)
  local subject = subject_of(s)
  local to, back = subject.to, subject.back
  local positions = { host.regex_match(re.regex, subject.text, to and to[at] or at) }
  if not back or not positions[1] then return positions end
  for i = 1, #positions, 2 do
    local first, last = positions[i], positions[i + 1]
    if first > 0 then positions[i], positions[i + 1] = back[first], back[last + 1] - 1 end
  end
  return positions
end

---@param pattern string
---@param s string
---@return boolean? found
---@return string? message
function regex.match(pattern, s)
  local re, message = compile(pattern)
  if not re then return nil, message end
  local positions = match_at(re, s, 1)
  if positions[1] == false then return nil, positions[2] end
  return positions[1] ~= nil
end

-- The first byte behind a name that begins at `at`: letters and digits of any script, and "_".
local function behind_name(s, at)
  while at <= #s do
    local code, length = quote.decode(s, at)
    local is_part
    if code < 128 then
      is_part = s:find("^[%w_]", at) ~= nil
    else
      is_part = length > 1 and unicode.is_letter(s:sub(at, at + length - 1))
    end
    if not is_part then break end
    at = at + length
  end
  return at
end

-- The text of a group, by its number or name; one that does not exist is empty.
local function group_text(re, s, positions, name)
  local group = re.groups[name]
  if name:find "^%d+$" and not name:find "^0%d" then group = tonumber(name) end
  local first = group and positions[2 * group + 1]
  return first and first > 0 and s:sub(first, positions[2 * group + 2]) or ""
end

-- $1, ${1}, $name, ${name}, $$. $1x is the group "1x"; a "$" before no name is itself.
local function expand(replacement, re, s, positions)
  local out, at = {}, 1
  for dollar in replacement:gmatch "()%$" do
    if dollar >= at then
      out[#out + 1] = replacement:sub(at, dollar - 1)
      at = dollar + 1
      local kind = replacement:sub(at, at)
      local from = kind == "{" and at + 1 or at
      local behind = behind_name(replacement, from)
      local closes = kind ~= "{" or replacement:sub(behind, behind) == "}"
      if kind == "$" then
        out[#out + 1], at = "$", at + 1
      elseif behind == from or not closes then
        out[#out + 1] = "$"
      else
        out[#out + 1] = group_text(re, s, positions, replacement:sub(from, behind - 1))
        at = kind == "{" and behind + 1 or behind
      end
    end
  end
  return table.concat(out) .. replacement:sub(at)
end

-- Calls each(positions) for each match, at most n times (-1: all); nil and a message on failure.
local function each_match(re, s, n, each)
  local at, last_end, count = 1, 0, 0
  while at <= #s + 1 and count ~= n do
    local positions = match_at(re, s, at)
    if positions[1] == false then return nil, positions[2] end
    local first, last = positions[1], positions[2]
    if not first then break end
    -- An empty match right behind another match does not count.
    if last >= first or first - 1 ~= last_end or last_end == 0 and first == 1 then
      each(first, last, positions)
      count, last_end = count + 1, last
    end
    at = last + 1
    if last < first then
      local _, length = 1, 1
      if first <= #s then _, length = quote.decode(s, first) end
      at = first + length
    end
  end
  return true
end

-- The texts that match, at most n (-1: all).
---@param pattern string
---@param s string
---@param n integer
---@return string[]? found
---@return string? message
function regex.find_all(pattern, s, n)
  local re, message = compile(pattern)
  if not re then return nil, message end
  local out = {}
  local good, why = each_match(re, s, n, function(first, last)
    out[#out + 1] = s:sub(first, last)
  end)
  if not good then return nil, why end
  return out
end

-- The texts between matches, at most n (-1: all; 0: none), as Go's Regexp.Split has them.
---@param pattern string
---@param s string
---@param n integer
---@return string[]? parts
---@return string? message
function regex.split(pattern, s, n)
  local re, message = compile(pattern)
  if not re then return nil, message end
  if n == 0 then return {} end
  if pattern ~= "" and s == "" then return { "" } end
  local out, from, ended = {}, 1, 0
  local good, why = each_match(re, s, n, function(first, last)
    if n > 0 and #out == n - 1 then return end
    ended = first - 1
    if last ~= 0 then out[#out + 1] = s:sub(from, ended) end
    from = last + 1
  end)
  if not good then return nil, why end
  if ended ~= #s then out[#out + 1] = s:sub(from) end
  return out
end

---@param pattern string
---@param replacement string
---@param s string
---@return string? out
---@return string? message
function regex.replace_all(pattern, replacement, s)
  local re, message = compile(pattern)
  if not re then return nil, message end
  local out, copied = {}, 1
  local good, why = each_match(re, s, -1, function(first, last, positions)
    out[#out + 1] = s:sub(copied, first - 1)
    out[#out + 1] = expand(replacement, re, s, positions)
    copied = last + 1
  end)
  if not good then return nil, why end
  out[#out + 1] = s:sub(copied)
  return table.concat(out)
end

return regex
