-- SPDX-License-Identifier: MIT
-- HTTP servers for sources that are URLs: nginx, and one in this process that does whatever a spec
-- wants, also what no server should.
--   local w = web.serve(function(request, client) client:write(web.answer("n: 1")) end)
--   w.url, w.requests[1].headers["if-none-match"]; web.cleanup() in after_each
local port = require "spec.support.port"
local process = require "spec.support.process"
local tempdir = require "spec.support.tempdir"
local uv = require "luv"
local wait = require "spec.support.wait"

local M = {}
local open = {}
local pipe -- a client that left must not end the specs

--- A complete answer as bytes. options: status, type, headers (lines), length (another one than the
--- truth).
function M.answer(body, options)
  options = options or {}
  return ("HTTP/1.1 %s\r\nContent-Type: %s\r\nContent-Length: %d\r\n%s\r\n%s"):format(
    options.status or "200 OK", options.type or "application/yaml", options.length or #body,
    options.headers or "", body)
end

local function parse(text)
  local request = { headers = {} }
  request.method, request.path = text:match("^(%S+) (%S+)")
  for name, value in text:gmatch("\r\n([^:\r\n]+): *([^\r\n]*)") do
    request.headers[name:lower()] = value
  end
  return request
end

local Server = {}
Server.__index = Server

--- Sends reset instead of an end.
function M.reset(client)
  if not client:is_closing() then client:close_reset() end
end

function M.close(client)
  if not client:is_closing() then client:close() end
end

--- A server: handler(request, client) for each request; it writes the answer. server.handler may
--- be replaced; server.requests are all that came.
function M.serve(handler)
  local self = setmetatable({ handler = handler, requests = {}, clients = {}, timers = {} }, Server)
  if not pipe then
    pipe = uv.new_signal()
    pipe:start("sigpipe", function() end)
    pipe:unref()
  end
  self.handle = uv.new_tcp()
  assert(self.handle:bind("127.0.0.1", 0))
  self.port = self.handle:getsockname().port
  self.url = "http://127.0.0.1:" .. self.port
  self:listen()
  open[#open + 1] = self
  return self
end

function Server:listen()
  assert(self.handle:listen(128, function()
    local client, input = uv.new_tcp(), ""
    self.handle:accept(client)
    self.clients[client] = true
    client:read_start(function(_, data)
      if not data then
        self.clients[client] = nil
        return M.close(client)
      end
      input = input .. data
      while input:find("\r\n\r\n", 1, true) do
        local head = input:match("^(.-\r\n)\r\n")
        input = input:sub(#head + 3)
        local request = parse(head)
        self.requests[#self.requests + 1] = request
        self.handler(request, client, self)
      end
    end)
  end))
end

--- Calls fn every ms until it returns false or the client is gone.
function Server:every(ms, client, fn)
  local timer = uv.new_timer()
  self.timers[#self.timers + 1] = timer
  timer:start(ms, ms, function()
    if client:is_closing() or fn() == false then timer:stop() end
  end)
end

--- Releases its port and all connections; listen_again binds the port again.
function Server:stop()
  for client in pairs(self.clients) do M.close(client) end
  self.clients = {}
  if not self.handle:is_closing() then self.handle:close() end
end

function Server:start_again()
  self.handle = uv.new_tcp()
  assert(self.handle:bind("127.0.0.1", self.port))
  self:listen()
end

function Server:wait_requests(n)
  wait.until_true(function() return #self.requests >= n end, nil, function()
    return ("%d requests instead of %d"):format(#self.requests, n)
  end)
end

--- nginx that serves a folder: nginx.dir, nginx.url. server: more lines for its server block;
--- scheme and listen for TLS.
function M.nginx(options)
  options = options or {}
  local dir, n = tempdir.new(), port.free()
  dir:write("www/config.yaml", options.text or "n: 1\n")
  for _, name in ipairs { "body", "proxy", "fastcgi", "uwsgi", "scgi" } do
    dir:write(name .. "/.keep", "")
  end
  dir:write("nginx.conf", (([[
worker_processes 1; daemon off; pid @D@/nginx.pid; error_log @D@/error.log;
events { worker_connections 64; }
http {
  access_log @D@/access.log; types { application/yaml yaml; application/json json; text/html html; }
  client_body_temp_path @D@/body; proxy_temp_path @D@/proxy; fastcgi_temp_path @D@/fastcgi;
  uwsgi_temp_path @D@/uwsgi; scgi_temp_path @D@/scgi;
  server { listen 127.0.0.1:@P@ @L@; root @D@/www; @S@ }
}
]]):gsub("@(%u)@", { D = dir.path, P = tostring(n), L = options.listen or "",
    S = options.server or "" })))
  os.execute("chmod -R a+rX " .. dir.path)
  local self = { dir = dir, port = n, url = (options.scheme or "http") .. "://127.0.0.1:" .. n }
  self.process = process.start { "/usr/sbin/nginx", "-p", dir.path, "-c", dir:at("nginx.conf"),
    "-e", dir:at("error.log"), name = "nginx" }
  wait.until_true(function()
    local tcp, connected = uv.new_tcp(), nil
    tcp:connect("127.0.0.1", n, function(err) connected = err or true end)
    wait.until_true(function() return connected end)
    tcp:close()
    return connected == true
  end, nil, function() return "nginx: " .. self.process:describe() end)
  return self
end

--- Ends the servers of this process (nginx ends with process.stop_all).
function M.cleanup()
  for _, server in ipairs(open) do
    server:stop()
    for _, timer in ipairs(server.timers) do timer:close() end
  end
  open = {}
  if pipe then pipe:close() end
  pipe = nil
  wait.pump()
end

return M
