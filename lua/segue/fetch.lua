-- SPDX-License-Identifier: MIT
-- segue.fetch: HTTP requests. The module is the function.
local core = require "segue.core"

local concat, ipairs, setmetatable, type = table.concat, ipairs, setmetatable, type
local find, sub = string.find, string.sub
local default_bytes = 16 * 1024 * 1024

---@class segue.Answer
---@field status integer
---@field headers table<string, string> names in small letters
---@field body string empty with on_chunk, nil with stream
---@field seconds number

---@class segue.Stream an answer of which the body is still to come
---@field status integer
---@field headers table<string, string> names in small letters
---@field message string? why the body broke off; nil while it is whole
---@field code string?
---@field private io any
---@field private rest string[] parts of a line that has not ended
local Stream = {}
Stream.__index = Stream

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

local function open(io, first, ...)
  if first == nil then return nil, ... end
  local status, headers = ...
  return setmetatable({ status = status, headers = headers, io = io, rest = {} }, Stream)
end

--- Returns the next part of the body: as soon as there is one, of any length. nil at its end; nil,
--- message, code where it broke off.
---@return string?
---@return string? message
---@return string? code
function Stream:read()
  if not self.io then return nil, self.message, self.code end
  local part, message, code = self.io()
  if type(part) == "string" then return part end
  self.io = nil
  if part == nil then self.message, self.code = message, code end
  return nil, self.message, self.code
end

--- The lines of the body, without their ends; each as soon as it is complete. The loop ends where
--- the body ends or breaks off: then the answer has a message.
---@return fun(): string?
function Stream:lines()
  local rest, part, at = self.rest, nil, 1
  return function()
    while true do
      local stop = part and find(part, "\n", at, true)
      if stop then
        rest[#rest + 1] = sub(part, at, stop - 1)
        local line = #rest == 1 and rest[1] or concat(rest)
        for i = #rest, 1, -1 do rest[i] = nil end
        at = stop + 1
        return sub(line, -1) == "\r" and sub(line, 1, -2) or line
      end
      if part then rest[#rest + 1] = sub(part, at) end
      part, at = self:read(), 1
      if not part then
        local line = concat(rest)
        for i = #rest, 1, -1 do rest[i] = nil end
        return not self.message and line ~= "" and line or nil
      end
    end
  end
end

--- Ends the request; the rest of the body is not read.
function Stream:close()
  if self.io then core.stop(self.io) end
  self.io = nil
end

--- Asks an HTTP server; nil, message, code if no complete answer came. Any status is an answer.
--- With stream = true it returns when the headers are there.
---@param request string|segue.CallFetch
---@return (segue.Answer|segue.Stream)?
---@return string? message
---@return string? code
return function(request)
  local o = core.options("segue.fetch", "fetch", request)
  local tls, stream, on_chunk = o.tls, o.stream, o.on_chunk
  local most = o.max_bytes > 0 and o.max_bytes or not (on_chunk or stream) and default_bytes or 0
  local io = core.fetch(o.url, o.method, header_lines(o.headers), o.body, o.timeout,
    o.connect_timeout, most, o.redirects, o.unix_socket, tls.ca, tls.cert, tls.key, not tls.verify,
    stream or on_chunk ~= nil, false, stream, o.idle, tls.server_name)
  -- A thousand tasks may wait below, each with these tables.
  o, tls = nil, nil -- luacheck: ignore 311
  if stream then return open(io, io()) end
  return follow(io, on_chunk, io())
end
