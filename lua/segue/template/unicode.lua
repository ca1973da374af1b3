-- SPDX-License-Identifier: MIT
-- Classes of characters, as Go's package unicode has them. Bytes below 128 never come here.
local host = require "segue.template.host"

local unicode = {}

local function class(pattern)
  local known, regex = {}, nil
  return function(text)
    local is = known[text]
    if is == nil then
      regex = regex or assert(host.regex_new(pattern))
      is = host.regex_match(regex, text, 1) ~= nil
      known[text] = is
    end
    return is
  end
end

-- Each takes one character.
---@type fun(character: string): boolean
unicode.is_letter = class "^[\\p{L}\\p{Nd}]"
---@type fun(character: string): boolean
unicode.is_printable = class "^[\\p{L}\\p{M}\\p{N}\\p{P}\\p{S}]"

-- Cased letters, and what continues a word of UAX #29 without being one of them.
---@type fun(character: string): boolean
unicode.is_cased = class "^[\\p{Lu}\\p{Ll}\\p{Lt}\u{2160}-\u{217f}\u{24b6}-\u{24e9}]"
---@type fun(character: string): boolean
unicode.is_part = class("^(?![\\p{Han}\\p{Hiragana}\\p{Katakana}\\p{Thai}\\p{Lao}\\p{Khmer}"
  .. "\\p{Myanmar}])[\\p{L}\\p{Nd}\\p{M}\\p{Pc}\\p{Cf}]")

-- Each takes and returns a code point.
unicode.to_upper, unicode.to_lower = host.to_upper, host.to_lower

return unicode
