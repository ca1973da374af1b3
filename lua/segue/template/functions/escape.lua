-- SPDX-License-Identifier: MIT
-- html, js and urlquery. Several arguments are joined as by print; nothing is "<no value>".
local quote = require "segue.template.quote"
local text = require "segue.template.format"
local value = require "segue.template.value"

local byte, format, sub = string.byte, string.format, string.sub

local function join(n, ...)
  if n == 1 and type((...)) == "string" then return (...) end
  local args = { ... }
  for i = 1, n do
    if args[i] == nil or args[i] == value.NULL then args[i] = "<no value>" end
  end
  return text.print(n, unpack(args, 1, n))
end

local entities = { ["\0"] = "\239\191\189", ['"'] = "&#34;", ["'"] = "&#39;", ["&"] = "&amp;",
  ["<"] = "&lt;", [">"] = "&gt;" }

local js_escapes = { ["\\"] = "\\\\", ["'"] = "\\'", ['"'] = '\\"', ["<"] = "\\u003C",
  [">"] = "\\u003E", ["&"] = "\\u0026", ["="] = "\\u003D" }

local function js(s)
  if not s:find "[%c\\'\"<>&=\128-\255]" then return s end
  local out, at, n = {}, 1, 0
  while at <= #s do
    local code, length = quote.decode(s, at)
    local c = sub(s, at, at + length - 1)
    n = n + 1
    if js_escapes[c] then
      out[n] = js_escapes[c]
    elseif code < 0x20 then
      out[n] = format("\\u00%02X", code)
    elseif code >= 0x80 and not quote.is_printable(code) then
      out[n] = format("\\u%04X", code)
    else
      -- bytes that are no UTF-8 become U+FFFD only where they are printed as such
      out[n] = c
    end
    at = at + length
  end
  return table.concat(out)
end

local function url_byte(c)
  return format("%%%02X", byte(c))
end

local function escaper(escape)
  local function call(_, n, ...) return escape(join(n, ...)) end
  return { params = {}, variadic = "any", call = call }
end

return {
  html = escaper(function(s) return (s:gsub("[%z\"'&<>]", entities)) end),
  js = escaper(js),
  urlquery = escaper(function(s)
    return (s:gsub("[^%w%-_.~ ]", url_byte):gsub(" ", "+"))
  end),
}
