-- SPDX-License-Identifier: MIT
-- segue.fetch: HTTP requests. The module is the function.
local core = require "segue.core"

local ipairs, type = ipairs, type
local default_bytes = 16 * 1024 * 1024

---@class segue.Answer
---@field status integer
---@field headers table<string, string> names in small letters
---@field body string empty with on_chunk
---@field seconds number

local function header_lines(headers)
  local lines = {}
  for i, header in ipairs(headers) do lines[i] = header[1] .. ": " .. header[2] end
  return lines
end

local function follow(io, on_chunk, first, ...)
  if type(first) == "string" then
    on_chunk(first)
    return follow(io, on_chunk, io())
  end
  if not first then return nil, ... end
  local status, headers, body, seconds = ...
  return { status = status, headers = headers, body = body, seconds = seconds }
end

--- Asks an HTTP server; nil, message, code if no complete answer came. Any status is an answer.
---@param request string|segue.CallFetch
---@return segue.Answer?
---@return string? message
---@return string? code
return function(request)
  local o = core.options("segue.fetch", "fetch", request)
  local tls = o.tls
  local most = o.max_bytes > 0 and o.max_bytes or not o.on_chunk and default_bytes or 0
  local io = core.fetch(o.url, o.method, header_lines(o.headers), o.body, o.timeout,
    o.connect_timeout, most, o.redirects, o.unix_socket, tls.ca, tls.cert, tls.key, not tls.verify,
    o.on_chunk ~= nil)
  local on_chunk = o.on_chunk
  -- A thousand tasks may wait below, each with these tables.
  o, tls = nil, nil -- luacheck: ignore 311
  return follow(io, on_chunk, io())
end
