-- SPDX-License-Identifier: MIT
-- Texts as JSON strings. Bytes that are no UTF-8 become U+FFFD, as Go's encoder writes them.
local quote = require "segue.template.quote"

local format = string.format

local json = {}

local escapes = { ['"'] = '\\"', ["\\"] = "\\\\", ["\b"] = "\\b", ["\f"] = "\\f", ["\n"] = "\\n",
  ["\r"] = "\\r", ["\t"] = "\\t" }
setmetatable(escapes, { __index = function(_, c) return format("\\u%04x", c:byte()) end })

local function repair(text)
  local out, at, n = {}, 1, 0
  while at <= #text do
    local code, length = quote.decode(text, at)
    n = n + 1
    out[n] = (code == 0xFFFD and length == 1) and "\\ufffd" or text:sub(at, at + length - 1)
    at = at + length
  end
  return table.concat(out)
end

---@param text string
---@return string literal with its quotes
function json.string(text)
  local body = text:gsub('[%z\1-\31"\\]', escapes)
  if body:find "[\128-\255]" then body = repair(body) end
  return '"' .. body .. '"'
end

return json
