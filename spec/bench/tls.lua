-- SPDX-License-Identifier: MIT
-- The row about TLS: what a handshake and a request cost, beside nginx with the same certificate.
local certificates = require "spec.support.certificates"
local port = require "spec.support.port"
local process = require "spec.support.process"
local tempdir = require "spec.support.tempdir"
local wait = require "spec.support.wait"

local M = {}
local build = os.getenv("SEGUE_BUILD") or "build"

local function median(values)
  table.sort(values)
  return values[math.floor(#values / 2) + 1]
end

local function cpu(pid)
  local file = assert(io.open(("/proc/%d/schedstat"):format(pid)))
  local ns = file:read "*n"
  file:close()
  return ns / 1e9
end

local nginx_conf = [[
worker_processes 1;
pid @DIR@/nginx.pid;
error_log @DIR@/error.log;
events { worker_connections 512; }
http {
  access_log off;
  client_body_temp_path @DIR@/body; proxy_temp_path @DIR@/proxy; fastcgi_temp_path @DIR@/fastcgi;
  uwsgi_temp_path @DIR@/uwsgi; scgi_temp_path @DIR@/scgi;
  server {
    listen 127.0.0.1:@PORT@ ssl;
    ssl_certificate @DIR@/server.pem; ssl_certificate_key @DIR@/server.key;
    ssl_protocols TLSv1.2 TLSv1.3; keepalive_requests 1000000;
    location / { return 200 "m0\n"; }
  }
}
]]

local function up(at)
  wait.until_true(function()
    return process.run { "openssl", "s_client", "-connect", "127.0.0.1:" .. at, stdin = "" }.code
      == 0
  end)
end

-- Starts a server: its port and the process that does the work.
local function start(name, dir)
  local at = port.free()
  local p
  if name == "nginx" then
    dir:save("nginx.conf", (nginx_conf:gsub("@DIR@", dir.path):gsub("@PORT@", at)))
    p = process.start { "/usr/sbin/nginx", "-p", dir.path, "-c", dir:at("nginx.conf"), "-g",
      "daemon off;", "-e", dir:at("error.log") }
  else
    p = process.start { build .. "/bench/http", "tls", tostring(at), dir:at("server.pem"),
      dir:at("server.key") }
  end
  up(at)
  return { port = at, pid = name == "nginx" and p:children()[1] or p.pid,
    stop = function() p:stop() end }
end

-- µs of CPU for each handshake, and how many there are in a second.
local function handshakes(server)
  local before = cpu(server.pid)
  local p = process.run { "openssl", "s_time", "-connect", "127.0.0.1:" .. server.port, "-new",
    "-time", "3" }
  local used = cpu(server.pid) - before
  local count, seconds = p.stdout:match("(%d+) connections in (%d+) real seconds")
  count, seconds = tonumber(count), tonumber(seconds)
  if not count or count == 0 then error(p:describe()) end
  return used / count * 1e6, count / seconds
end

local function requests(server)
  local before = cpu(server.pid)
  local p = process.run { "wrk", "-t1", "-c64", "-d3s", "https://127.0.0.1:" .. server.port .. "/" }
  local used = cpu(server.pid) - before
  local count = tonumber(p.stdout:match("(%d+) requests in"))
  if not count or p.stdout:find "Non%-2xx" then error(p:describe()) end
  return used / count * 1e6
end

M.tls = { title = "TLS: handshakes, requests on 64 connections", run = function(report)
  local dir = tempdir.new()
  certificates.authority(dir):issue { name = "server" }
  local shake, rate, request = {}, {}, {}
  for _ = 1, 3 do
    for _, name in ipairs { "segue", "nginx" } do
      local server = start(name, dir)
      shake[name], rate[name] = shake[name] or {}, rate[name] or {}
      request[name] = request[name] or {}
      local us, per_second = handshakes(server)
      table.insert(shake[name], us)
      table.insert(rate[name], per_second)
      table.insert(request[name], requests(server))
      server.stop()
    end
  end
  for _, list in ipairs { shake, rate, request } do
    for name, values in pairs(list) do list[name] = median(values) end
  end
  report { ours = shake.segue, theirs = shake.nginx, peer = "nginx", unit = "µs CPU/handshake",
    at_most = 1.1 }
  report { ours = rate.segue, theirs = rate.nginx, peer = "nginx", unit = "handshakes/s" }
  report { ours = request.segue, theirs = request.nginx, peer = "nginx", unit = "µs CPU/request",
    at_most = 1.1 }
end }

-- Resident memory that the process shares with no other, in bytes.
local function memory(pid)
  for line in io.lines(("/proc/%d/smaps_rollup"):format(pid)) do
    local kib = line:match("^Pss:%s*(%d+)")
    if kib then return kib * 1024 end
  end
end

-- Bytes for each of n connections that have shaken hands and asked once.
local function per_connection(name, dir, n)
  local server = start(name, dir)
  local before = memory(server.pid)
  local p = process.start { build .. "/bench/tls_idle", tostring(server.port), tostring(n) }
  p:wait_output("answered", 60000)
  local bytes = (memory(server.pid) - before) / n
  p:stop()
  server.stop()
  return bytes
end

M.tls_idle = { title = "memory of an idle connection through TLS", run = function(report)
  local dir, list = tempdir.new(), {}
  certificates.authority(dir):issue { name = "server" }
  for _ = 1, 3 do
    for _, name in ipairs { "segue", "nginx" } do
      list[name] = list[name] or {}
      table.insert(list[name], per_connection(name, dir, 450)) -- nginx has a limit of 512
    end
  end
  report { ours = median(list.segue), theirs = median(list.nginx), peer = "nginx", unit = "bytes",
    at_most = 1 }
end }

return M
