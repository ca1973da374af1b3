-- SPDX-License-Identifier: MIT
-- The HTTP server under test, from Lua: `local server = require "spec.support.http_server"`;
-- `local s = server.start { head_ms = 100 }`; s.port; s:connect(); s:stop(). A spec file that has
-- one server at a time: `local start = server.for_each_spec(function(started) s = started end)`.
local C = require "spec.support.c"
local busted = require "busted"
local http = require "spec.support.http"
local wait = require "spec.support.wait"

local M = {}
local Server = {}
Server.__index = Server

--- Starts a server with the given limits on a free loopback port (or on limits.address).
function M.start(limits)
  limits = limits or {}
  local address = limits.address or "127.0.0.1:0"
  local l = C.new("segue__http_limits")
  for key, value in pairs(limits) do
    if key ~= "address" then l[key] = value end
  end
  local out = C.new("http_harness *[1]")
  C.check(C.http_harness_new(out, l))
  local self = setmetatable({ h = out[0], clients = {} }, Server)
  self.listener, self.port = self:listen(address)
  self.where = address:match("^unix:") and { socket = address:sub(6) } or { port = self.port }
  return self
end

--- Returns a function that starts a server, which set gets as well; it is stopped after the spec.
function M.for_each_spec(set)
  local server
  busted.after_each(function()
    if server then server:stop() end
    server = nil
    set(nil)
  end)
  return function(limits)
    server = M.start(limits)
    set(server)
    return server
  end
end

--- Adds a listener; returns it and its port.
function Server:listen(address, mode)
  local listener, e = C.new("segue__http_listener *[1]"), C.error()
  C.check(C.http_harness_listen(self.h, address, mode or 0, listener, e), e)
  return listener[0], C.http_harness_port(self.h, listener[0])
end

--- Adds a listener with TLS: certificate and key as of spec.support.certificates, ca a PEM text or
--- nil. Returns it and its port.
function Server:listen_tls(issued, ca)
  local listener, e = C.new("segue__http_listener *[1]"), C.error()
  C.check(C.http_harness_listen_tls(self.h, "127.0.0.1:0", issued.cert_text, issued.key_text, ca,
    listener, e), e)
  return listener[0], C.http_harness_port(self.h, listener[0])
end

--- Replaces the certificate of a listener; returns nil, or the error message.
function Server:change_tls(listener, cert, key, ca)
  local e = C.error()
  local code = C.http_harness_change_tls(self.h, listener, cert, key, ca, e)
  if code < 0 then return C.err(e) end
end

function Server:tls_failures() return C.http_harness_tls_failures(self.h) end

--- The error of a listen that must fail.
function Server:listen_error(address)
  local listener, e = C.new("segue__http_listener *[1]"), C.error()
  local code = C.http_harness_listen(self.h, address, 0, listener, e)
  assert(code < 0, "listening on " .. address .. " succeeded")
  assert(listener[0] == nil)
  return C.err(e)
end

function Server:connect()
  local client = http.connect(self.where)
  self.clients[#self.clients + 1] = client
  return client
end

--- Sends bytes on a connection of its own and returns the answer.
function Server:ask(bytes, deadline_ms)
  local client = self:connect()
  client:write(bytes)
  local response = client:read_response(deadline_ms)
  client:close()
  return response
end

function Server:requests() return C.http_harness_requests(self.h) end
function Server:held() return C.http_harness_held(self.h) end
function Server:gone() return C.http_harness_gone(self.h) end
function Server:refused() return C.http_harness_refused(self.h) end
function Server:connections() return tonumber(C.http_harness_connections(self.h)) end
function Server:release() C.http_harness_release(self.h) end
--- Blocks the server's thread; the returned function lets it continue.
function Server:stall()
  local before, client = self:requests(), self:connect()
  client:write "GET /stall HTTP/1.1\r\nHost: localhost\r\n\r\n"
  self:until_true(function() return self:requests() > before end)
  return function() C.http_harness_go(self.h) end
end
function Server:unlisten(listener) C.http_harness_unlisten(self.h, listener) end
function Server:close(grace_ms)
  C.http_harness_close(self.h, grace_ms or 0)
  self.closing = true
end

--- Waits until fn() is true.
function Server:until_true(fn, what) -- luacheck: no self
  wait.until_true(fn, 5000, what)
end

--- Ends the server; raises if that fails, or if memory or a handle is left.
function Server:stop()
  if not self.h then return end
  for _, client in ipairs(self.clients) do client:close() end
  if not self.closing then self:close(0) end
  local left = C.http_harness_free(self.h)
  self.h = nil
  assert(left == 0, "the server did not end cleanly: " .. left)
end

--- A GET request; lines: further headers.
function M.get(path, lines)
  return "GET " .. path .. " HTTP/1.1\r\nHost: localhost\r\n" .. (lines or "") .. "\r\n"
end

--- A POST request with this body.
function M.post(path, body, lines)
  return "POST " .. path .. " HTTP/1.1\r\nHost: localhost\r\nContent-Length: " .. #body .. "\r\n"
    .. (lines or "") .. "\r\n" .. body
end

return M
