-- SPDX-License-Identifier: MIT
-- segue.fetch: HTTP requests. The module is the function.
local core = require "segue.core"
local check = require "segue.check"
local duration = require "segue.duration"

local pairs, ipairs, type, tostring, error = pairs, ipairs, type, tostring, error
local default_bytes = 16 * 1024 * 1024

local keys = {
  url = "text", method = "text", headers = "table", body = "string", timeout = "duration",
  connect_timeout = "duration", max_bytes = "count", redirects = "count", unix_socket = "text",
  tls = "table", on_chunk = "function",
}
local tls_keys = { ca = "text", cert = "text", key = "text", verify = "boolean" }

---@class segue.Request
---@field url string http:// or https://
---@field method? string default "GET", or "POST" with a body
---@field headers? table<string, string|string[]>
---@field body? string
---@field timeout? string|number of all of it, default "30s"; 0 for none
---@field connect_timeout? string|number default "5s"
---@field max_bytes? integer of the body, default 16 MiB; with on_chunk none
---@field redirects? integer followed at most; by default none is
---@field unix_socket? string connect to this instead of the URL's host
---@field tls? { ca?: string, cert?: string, key?: string, verify?: boolean } PEM files
---@field on_chunk? fun(chunk: string) gets the body as it comes

---@class segue.Answer
---@field status integer
---@field headers table<string, string> names in small letters
---@field body string empty with on_chunk
---@field seconds number

local function header_line(name, value)
  if type(name) ~= "string" or not name:find("^[%w!#$%%&'*+.^_`|~-]+$") then
    error(("segue.fetch: headers: '%s' is not a name"):format(tostring(name)), 0)
  end
  if type(value) == "number" then value = tostring(value) end
  if type(value) ~= "string" or value:find("[\r\n%z]") then
    error(("segue.fetch: headers: %s must be a text of one line"):format(name), 0)
  end
  return name .. ": " .. value
end

local function header_lines(headers)
  local lines = {}
  for name, value in pairs(headers) do
    if type(value) == "table" then
      for _, item in ipairs(value) do lines[#lines + 1] = header_line(name, item) end
    else
      lines[#lines + 1] = header_line(name, value)
    end
  end
  return lines
end

local function judge(request)
  if type(request) == "string" then request = { url = request } end
  if type(request) ~= "table" then
    error(("segue.fetch needs a URL or a table with one, not a %s"):format(type(request)), 0)
  end
  local function report(_, message) error("segue.fetch: " .. message, 0) end
  check.table(request, keys, report)
  check.table(request.tls or {}, tls_keys, report)
  if not request.url then error("segue.fetch: url is missing", 0) end
  if request.method and not request.method:find("^%u+$") then
    error(("segue.fetch: '%s' is not a method: write \"POST\""):format(request.method), 0)
  end
  local headers = request.headers and header_lines(request.headers)
  local tls = request.tls or {}
  return core.fetch(request.url, request.method, headers, request.body,
    duration.parse(request.timeout or "30s"), duration.parse(request.connect_timeout or "5s"),
    request.max_bytes or not request.on_chunk and default_bytes or 0, request.redirects or 0,
    request.unix_socket, tls.ca, tls.cert, tls.key, tls.verify == false,
    request.on_chunk ~= nil), request.on_chunk
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
---@param request string|segue.Request
---@return segue.Answer?
---@return string? message
---@return string? code
return function(request)
  local ok, io, on_chunk = pcall(judge, request)
  if not ok then error(io, 2) end
  return follow(io, on_chunk, io())
end
