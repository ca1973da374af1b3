-- SPDX-License-Identifier: MIT
-- A small HTTP/1.1 client that hides nothing: raw bytes where a spec wants them, many requests at
-- once, TCP and unix sockets. It checks our server, so it shares no code with it.
local ffi = require "ffi"
local input = require "spec.support.input"
local uv = require "luv"
local wait = require "spec.support.wait"

ffi.cdef "long recv(int fd, void *bytes, size_t size, int flags);"
local MSG_DONTWAIT, ECONNRESET = 64, 104

local M = {}
local Connection = input.class()
local connections = {}

--- Opens a connection: M.connect { port = 7377 } or { socket = "/path" }. Raises if refused.
--- M.connect(where, true) returns nil and the error's name instead.
function M.connect(where, soft)
  local self = input.new(Connection,
    { handle = where.socket and uv.new_pipe(false) or uv.new_tcp() })
  local connected
  local function on_connect(err)
    connected = true
    self.error = err
  end
  if where.socket then
    self.handle:connect(where.socket, on_connect)
  else
    self.handle:connect(where.address or "127.0.0.1", where.port, on_connect)
  end
  wait.until_true(function() return connected end, where.deadline_ms, "a connection")
  if self.error then
    self.handle:close()
    if soft then return nil, self.error end
    error(("cannot connect to %s: %s"):format(where.socket or where.port, self.error), 2)
  end
  connections[self] = true
  if not where.socket then self.handle:nodelay(true) end
  self:read_on()
  return self
end

--- Closes every connection that is still open: for after_each.
function M.close_all()
  local list = {}
  for self in pairs(connections) do list[#list + 1] = self end
  for _, self in ipairs(list) do self:close() end
  wait.pump()
end

--- Sends bytes as they are.
function Connection:write(bytes)
  self.handle:write(bytes, function(err) self.write_error = self.write_error or err end)
end

--- Reads what comes. After connect only for a connection whose handle has stopped reading.
function Connection:read_on()
  self.handle:read_start(function(err, data)
    if data then
      self:add(data)
    else
      self.ended, self.error = true, err
    end
  end)
end

--- Ends our direction; the other one stays open.
function Connection:shutdown()
  self.handle:shutdown()
end

function Connection:close()
  connections[self] = nil
  if not self.handle:is_closing() then self.handle:close() end
end

--- Reads past libuv, which takes a reset that comes with data for an end, until there is no more:
--- true where that is an end, false where it is a reset. After handle:read_stop().
function Connection:ends_well(deadline_ms)
  local fd, bytes, n = self.handle:fileno(), ffi.new("char[65536]"), nil
  wait.until_true(function()
    repeat n = tonumber(ffi.C.recv(fd, bytes, 65536, MSG_DONTWAIT)) until n <= 0
    return n == 0 or ffi.errno() == ECONNRESET
  end, deadline_ms, "the end of the connection")
  return n == 0
end

--- Closes with a reset instead of a farewell (TCP only).
function Connection:reset()
  if self.handle.close_reset then self.handle:close_reset() else self:close() end
end

--- Waits until the other side ends the connection; returns all unread bytes.
function Connection:read_all(deadline_ms)
  wait.until_true(function() return self.ended end, deadline_ms,
    function() return ("the end of the connection; so far %q"):format(self.input) end)
  local bytes = self.input
  self.input = ""
  return bytes
end

--- Waits for a Lua pattern; returns the bytes up to and including it and keeps the rest.
function Connection:read_until(pattern, deadline_ms)
  local last
  wait.until_true(function()
    last = self:is_worth_a_look() and select(2, self.input:find(pattern))
    return last or self.ended
  end, deadline_ms, function() return ("%q; so far %q"):format(pattern, self.input) end)
  if not last then
    error(("the connection ended before %q came; so far %q"):format(pattern, self.input), 2)
  end
  local bytes = self.input:sub(1, last)
  self.input = self.input:sub(last + 1)
  return bytes
end

-- Takes chunks off the front of text: body, rest; nil while incomplete.
local function unchunk(text)
  local parts, at = {}, 1
  while true do
    local first, last, size = text:find("^(%x+)[^\r\n]*\r\n", at)
    if not first then return nil end
    size = tonumber(size, 16)
    if size == 0 then
      local _, stop = text:find("^\r\n", last + 1)
      if not stop then _, stop = text:find("\r\n\r\n", last + 1, true) end
      if not stop then return nil end
      return table.concat(parts), text:sub(stop + 1)
    end
    if #text < last + size + 2 then return nil end
    parts[#parts + 1] = text:sub(last + 1, last + size)
    at = last + size + 3
  end
end

-- One answer off the front of text: response, rest; nil while incomplete.
local function parse(text, ended, head_only)
  local head, rest = text:match("^(.-\r\n)\r\n(.*)$")
  if not head then return nil end
  local version, status, reason = head:match("^HTTP/(%d%.%d) (%d%d%d) ?([^\r\n]*)\r\n")
  if not status then error(("this is not an HTTP answer: %q"):format(text:sub(1, 200)), 0) end
  local response = { version = version, status = tonumber(status), reason = reason, headers = {},
    head = head }
  for name, value in head:gmatch("\r\n([^:\r\n]+):%s*([^\r\n]*)") do
    name = name:lower()
    local old = response.headers[name]
    response.headers[name] = old and (old .. ", " .. value) or value
  end
  local length = tonumber(response.headers["content-length"])
  if head_only or response.status < 200 or response.status == 204 or response.status == 304 then
    response.body = ""
    return response, rest
  elseif (response.headers["transfer-encoding"] or ""):lower() == "chunked" then
    response.body, rest = unchunk(rest)
    if not response.body then return nil end
    return response, rest
  elseif length then
    if #rest < length then return nil end
    response.body = rest:sub(1, length)
    return response, rest:sub(length + 1)
  elseif ended then
    response.body = rest
    return response, ""
  end
end

M.parse = parse

--- Waits for one whole answer: status, reason, headers (lower-case names), body. head_only: the
--- answer to HEAD. Interim answers (100) are returned as answers of their own.
function Connection:read_response(deadline_ms, head_only)
  local response, rest
  wait.until_true(function()
    if self:is_worth_a_look() then response, rest = parse(self.input, self.ended, head_only) end
    return response or self.ended
  end, deadline_ms, function() return ("an answer; so far %q"):format(self.input) end)
  if not response then
    error(("the connection ended before the answer was complete (%s); so far %q"):format(
      self.error or "end of stream", self.input), 2)
  end
  self.input = rest
  return response
end

--- The bytes of a request: { method, path, host, headers = { Name = value }, body }.
function M.format(request)
  local lines = {}
  local given = {}
  for name, value in pairs(request.headers or {}) do
    given[name:lower()] = true
    lines[#lines + 1] = name .. ": " .. value
  end
  table.sort(lines)
  if not given.host then
    local host = request.port and "127.0.0.1:" .. request.port or "localhost"
    table.insert(lines, 1, "Host: " .. (request.host or host))
  end
  table.insert(lines, 1, ("%s %s HTTP/1.1"):format(request.method or "GET", request.path or "/"))
  if request.body and not given["content-length"] and not given["transfer-encoding"] then
    lines[#lines + 1] = "Content-Length: " .. #request.body
  end
  return table.concat(lines, "\r\n") .. "\r\n\r\n" .. (request.body or "")
end

--- One request on a connection of its own: { port (and address) or socket, method, path, host,
--- headers, body, deadline_ms }. Raises if no whole answer comes.
function M.request(request)
  local connection = M.connect(request)
  connection:write(M.format(request))
  local ok, response = pcall(connection.read_response, connection, request.deadline_ms,
    request.method == "HEAD")
  connection:close()
  if not ok then error(response, 2) end
  return response
end

--- Sends many requests at once, each on a connection of its own, and waits for all answers; returns
--- them in order. An entry that got none is { error = name }.
function M.all(requests, deadline_ms)
  local answers, open = {}, #requests
  for i, request in ipairs(requests) do
    local handle = request.socket and uv.new_pipe(false) or uv.new_tcp()
    local text = ""
    local function finish(answer)
      if answers[i] then return end
      answers[i] = answer
      open = open - 1
      handle:close()
    end
    local function on_read(err, data)
      if err then return finish { error = err, input = text } end
      text = text .. (data or "")
      local ok, response = pcall(parse, text, data == nil, request.method == "HEAD")
      if not ok then return finish { error = response } end
      if response then return finish(response) end
      if not data then finish { error = "EOF", input = text } end
    end
    local function on_connect(err)
      if err then return finish { error = err } end
      handle:write(M.format(request))
      handle:read_start(on_read)
    end
    if request.socket then
      handle:connect(request.socket, on_connect)
    else
      handle:connect(request.address or "127.0.0.1", request.port, on_connect)
    end
  end
  wait.until_true(function() return open == 0 end, deadline_ms or 30000,
    function() return ("%d of %d answers"):format(open, #requests) end)
  return answers
end

return M
