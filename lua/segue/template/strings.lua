-- SPDX-License-Identifier: MIT
-- Go's package strings, base64 and strconv, as far as functions of templates need them.
local bit = require "bit"
local quote = require "segue.template.quote"
local unicode = require "segue.template.unicode"

local strings = {}

-- strings.Split: of an empty separator, the characters.
---@param s string
---@param separator string
---@return string[]
function strings.split(s, separator)
  local out, n, at = {}, 0, 1
  if separator == "" then
    while at <= #s do
      local _, length = quote.decode(s, at)
      n = n + 1
      out[n], at = s:sub(at, at + length - 1), at + length
    end
    return out
  end
  while true do
    local from, to = s:find(separator, at, true)
    n = n + 1
    if not from then
      out[n] = s:sub(at)
      return out
    end
    out[n], at = s:sub(at, from - 1), to + 1
  end
end

-- strings.Replace: n of them, all for -1.
---@param s string
---@param old string
---@param new string
---@param n integer
---@return string
function strings.replace(s, old, new, n)
  if n == 0 then return s end
  local parts
  if old == "" then
    parts = strings.split(s, "")
    table.insert(parts, 1, "")
    parts[#parts + 1] = ""
    if #parts == 2 then return new end
  else
    parts = strings.split(s, old)
  end
  local out = { parts[1] }
  for i = 2, #parts do
    local joined = (n < 0 or i - 1 <= n) and new or (old == "" and "" or old)
    out[i] = joined .. parts[i]
  end
  return table.concat(out)
end

local function map_characters(s, convert, ascii)
  if not s:find "[\128-\255]" then return ascii(s) end
  local out, n, at = {}, 0, 1
  while at <= #s do
    local code, length = quote.decode(s, at)
    n = n + 1
    out[n] = code < 128 and ascii(string.char(code)) or quote.encode(convert(code))
    at = at + length
  end
  return table.concat(out)
end

function strings.upper(s) return map_characters(s, unicode.to_upper, string.upper) end
function strings.lower(s) return map_characters(s, unicode.to_lower, string.lower) end

-- The characters outside of ASCII that separate words.
local spaces = {}
for _, code in ipairs { 0x85, 0xa0, 0x1680, 0x2028, 0x2029, 0x202f, 0x205f, 0x3000 } do
  spaces[quote.encode(code)] = true
end
for code = 0x2000, 0x200a do spaces[quote.encode(code)] = true end

-- Each word begins with a capital letter; the rest is left as it is. As Go has words: don't is two.
function strings.title(s)
  local out, n, at, inside = {}, 0, 1, false
  while at <= #s do
    local _, length = quote.decode(s, at)
    local c = s:sub(at, at + length - 1)
    local is_word
    -- A byte that is no character becomes one, and a part of the word.
    if length == 1 and c:byte() >= 128 then c = quote.encode(0xfffd) end
    if #c > 1 then is_word = not spaces[c] else is_word = c:find "^[%w_]" ~= nil end
    n = n + 1
    out[n] = is_word and not inside and strings.upper(c) or c
    inside, at = is_word, at + length
  end
  return table.concat(out)
end

-- Title case where it is not upper case.
local titles = { ["ß"] = "Ss", ["ﬀ"] = "Ff", ["ﬁ"] = "Fi", ["ﬂ"] = "Fl", ["ﬃ"] = "Ffi",
  ["ﬄ"] = "Ffl", ["ﬅ"] = "St", ["ﬆ"] = "St" }
for title, others in pairs { ["ǅ"] = "Ǆǅǆ", ["ǈ"] = "Ǉǈǉ", ["ǋ"] = "Ǌǋǌ", ["ǲ"] = "Ǳǲǳ" } do
  for other in others:gmatch "[\194-\244][\128-\191]*" do titles[other] = title end
end

-- Letters of Georgian have an upper case, but begin no word with it.
local function title_of(c)
  local code = quote.decode(c, 1)
  if code >= 0x10d0 and code <= 0x10ff then return c end
  return titles[c] or quote.encode(unicode.to_upper(code))
end

-- Characters between two letters of one word.
local mids = { ["."] = true, ["'"] = true, [":"] = true }
for _, code in ipairs { 0xb7, 0x387, 0x55f, 0x5f4, 0x2018, 0x2019, 0x2024, 0x2027, 0xfe13, 0xfe52,
  0xfe55, 0xff07, 0xff0e, 0xff1a } do
  mids[quote.encode(code)] = true
end

-- cases.Title(language.Und, cases.NoLower) of golang.org/x/text, which finds words by a part of the
-- rules of UAX #29. A digit and "_" neither begin a word nor end one.
---@param s string
---@return string
function strings.title_words(s)
  local out, n, at, inside, was_mid = {}, 0, 1, false, false
  while at <= #s do
    local _, length = quote.decode(s, at)
    local c = s:sub(at, at + length - 1)
    local is_mid = mids[c] ~= nil
    if is_mid and was_mid then inside = false end
    n, at, was_mid = n + 1, at + length, is_mid
    out[n] = c
    if unicode.is_cased(c) then
      if not inside then out[n] = title_of(c) end
      inside = true
    elseif not is_mid and not unicode.is_part(c) then
      inside = false
    end
  end
  return table.concat(out)
end

-- strings.Trim: the characters of a set, on both sides.
function strings.trim(s, set)
  local within = {}
  for _, c in ipairs(strings.split(set, "")) do within[c] = true end
  local characters = strings.split(s, "")
  local first, last = 1, #characters
  while first <= last and within[characters[first]] do first = first + 1 end
  while last >= first and within[characters[last]] do last = last - 1 end
  return table.concat(characters, "", first, last)
end

local space_set = " \t\n\v\f\r\194\133\194\160\225\154\128\226\128\168\226\128\169\226\128\175"
  .. "\226\129\159\227\128\128"
function strings.trim_space(s)
  if not s:find "[\128-\255]" then return s:match "^[ \t\n\v\f\r]*(.-)[ \t\n\v\f\r]*$" end
  return strings.trim(s, space_set)
end

function strings.has_prefix(s, prefix) return s:sub(1, #prefix) == prefix end
function strings.has_suffix(s, suffix) return suffix == "" or s:sub(-#suffix) == suffix end

function strings.trim_prefix(prefix, s)
  return strings.has_prefix(s, prefix) and s:sub(#prefix + 1) or s
end

function strings.trim_suffix(suffix, s)
  return strings.has_suffix(s, suffix) and s:sub(1, #s - #suffix) or s
end

function strings.contains(s, part) return s:find(part, 1, true) ~= nil end

-- path.Base, path.Dir
function strings.base(path)
  if path == "" then return "." end
  path = path:gsub("/+$", "")
  return path == "" and "/" or path:match "[^/]*$"
end

-- path.Clean: without empty parts, "." and "x/..".
---@param path string
---@return string
function strings.clean(path)
  local rooted, out = path:sub(1, 1) == "/", {}
  for part in path:gmatch "[^/]+" do
    if part == ".." and #out > 0 and out[#out] ~= ".." then
      out[#out] = nil
    elseif part ~= "." and not (part == ".." and rooted) then
      out[#out + 1] = part
    end
  end
  local cleaned = (rooted and "/" or "") .. table.concat(out, "/")
  return cleaned == "" and "." or cleaned
end

function strings.dir(path)
  return strings.clean(path:match "^(.*/)[^/]*$" or "")
end

-- ---- base64 -------------------------------------------------------------------------------------

local alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
local url_alphabet = alphabet:sub(1, 62) .. "-_"

function strings.base64(s, url)
  local letters, out, n = url and url_alphabet or alphabet, {}, 0
  for i = 1, #s, 3 do
    local a, b, c = s:byte(i, i + 2)
    local bits = a * 65536 + (b or 0) * 256 + (c or 0)
    for k = 0, 3 do
      n = n + 1
      local d = bit.band(bit.rshift(bits, 18 - 6 * k), 63) + 1
      out[n] = (k == 2 and not b or k == 3 and not c) and "=" or letters:sub(d, d)
    end
  end
  return table.concat(out)
end

local function digit_table(letters)
  local digits = {}
  for i = 1, 64 do digits[letters:byte(i)] = i - 1 end
  return digits
end
local digits_of, url_digits = digit_table(alphabet), digit_table(url_alphabet)

-- The digits without line breaks and padding; or nil and the index, from 0, that Go reports. Go
-- decodes four digits at a time: a text that ends too early is reported at the last four.
local function unbase64_body(s, digits)
  local breaks = s:gsub("[^\r\n]", " ")
  local function past_breaks(at) return breaks:find("[^\r\n]", at) or #s + 1 end
  local count, at, out = 0, past_breaks(1), {}
  while at <= #s do
    local c = s:byte(at)
    if c == 61 then -- "="
      if count < 2 then return nil, at - 1 end
      if count == 2 then
        local second = past_breaks(at + 1)
        if second > #s then return nil, #s end
        if s:byte(second) ~= 61 then return nil, second - 2 end
        at = second
      end
      local rest = past_breaks(at + 1)
      if rest <= #s then return nil, rest - 1 end
      return table.concat(out)
    end
    if not digits[c] then return nil, at - 1 end
    out[#out + 1] = string.char(c)
    count, at = (count + 1) % 4, past_breaks(at + 1)
  end
  if count > 0 then return nil, #s - count end
  return table.concat(out)
end

-- nil and Go's message where the text is none.
function strings.unbase64(s, url)
  local digits = url and url_digits or digits_of
  local body, wrong = unbase64_body(s, digits)
  if wrong then return nil, ("illegal base64 data at input byte %d"):format(wrong) end
  local out, bits, count = {}, 0, 0
  for i = 1, #body do
    local d = digits[body:byte(i)]
    bits, count = bits * 64 + d, count + 6
    if count >= 8 then
      count = count - 8
      local unit = 2 ^ count
      out[#out + 1] = string.char(math.floor(bits / unit))
      bits = bits % unit
    end
  end
  return table.concat(out)
end

-- ---- strconv ------------------------------------------------------------------------------------

local trues = { ["1"] = true, t = true, T = true, ["true"] = true, TRUE = true, True = true }
local falses = { ["0"] = true, f = true, F = true, ["false"] = true, FALSE = true, False = true }

-- true or false, or nil and the message.
function strings.parse_bool(s)
  if trues[s] then return true end
  if falses[s] then return false end
  return nil, ("strconv.ParseBool: parsing %s: invalid syntax"):format(quote.quote(s))
end

return strings
