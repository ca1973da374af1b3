-- SPDX-License-Identifier: MIT
-- The servers that are compared, each with its own folder and ports, each able to take a small
-- configuration or one of n entries. A server is a table:
--   start()          starts it and waits until it answers; sets self.ready_ms
--   write(n, mark)   prepares a configuration of n entries that carries `mark`; not measured
--   reload()         requests it and returns when the server reports that it is done
--   live()           the mark that a new connection gets
--   stop()
local client = require "spec.bench.client"
local port = require "spec.support.port"
local process = require "spec.support.process"
local tempdir = require "spec.support.tempdir"
local uv = require "luv"

local M = {}
local build = os.getenv("SEGUE_BUILD") or "build"

-- Polls five times in a millisecond: often enough for what is measured here, and a busy loop would
-- take a processor from the server.
local function poll(predicate, seconds, what)
  local deadline = client.now() + seconds
  repeat
    local value = predicate()
    if value then return value end
    client.pause(0.0002)
  until client.now() > deadline
  error(what .. " did not come within " .. seconds .. " s", 2)
end

local Server = {}
Server.__index = Server

local function new(name, fields)
  fields.name = name
  return setmetatable(fields, Server)
end

function Server:start(n)
  self.dir = tempdir.new()
  self.port, self.admin = port.free(), port.free()
  self:write(n or 1, "m0")
  local command = self:command()
  command.name = self.name
  local began = client.now()
  self.process = process.start(command)
  local ok, err = pcall(poll, function() return self:live() == "m0" end, 30, "the first answer")
  if not ok then
    uv.run("nowait")
    error(err .. ": " .. self.process:describe())
  end
  self.ready_ms = (client.now() - began) * 1000
  return self
end

function Server:stop()
  if self.client then self.client:close() end
  if self.process then self.process:stop() end
  if self.dir then self.dir:remove() end
  self.process, self.dir = nil, nil
end

--- Resident memory of the process and its children, in MB.
function Server:memory()
  local kib = self.process:rss_kib()
  for _, pid in ipairs(self.process:children()) do
    for line in io.lines(("/proc/%d/status"):format(pid)) do
      kib = kib + (tonumber(line:match("^VmRSS:%s*(%d+)")) or 0)
    end
  end
  return kib / 1024
end

--- Milliseconds from the request to the answer of the first new connection that gets the new
--- configuration; connections are opened one after the other.
function Server:measure(n, mark)
  uv.run("nowait") -- reads the server's log, so that its pipe never fills
  self:write(n, mark)
  local began = client.now()
  self:reload()
  poll(function() return self:live() == mark end, 30, self.name .. ": " .. mark)
  return (client.now() - began) * 1000
end

local function entries(n, format)
  local list = {}
  for i = 1, n do
    list[i] = (format:gsub("@i", tostring(i)):gsub("@p", tostring(10000 + i % 50000)))
  end
  return table.concat(list)
end

function M.segue()
  return new("segue", {
    command = function(self)
      self.dir:write("reload.lua", ([[
local segue = require "segue"
return {
  name = "bench",
  sources = { segue.file "config.yaml" },
  triggers = { segue.http "127.0.0.1:%d" },
}
]]):format(self.port))
      return { uv.cwd() .. "/" .. build .. "/segue", "run", "-c", self.dir:at("reload.lua"),
        cwd = self.dir.path }
    end,
    write = function(self, n, mark)
      self.dir:save("config.yaml", "mark: " .. mark .. "\nservices:\n"
        .. entries(n, "  s@i: { host: 127.0.0.1, port: @p, weight: 1, name: \"service @i\" }\n"))
    end,
    reload = function(self)
      self.client = self.client or client.new(self.port)
      local status, body = self.client:request("POST", "/-/reload")
      if status ~= 200 then error("segue: " .. tostring(status) .. " " .. tostring(body)) end
    end,
    live = function(self)
      local status, body = client.once(self.port, "GET", "/api/v1/config")
      return status == 200 and body:match('"mark": ?"([^"]+)"') or nil
    end,
  })
end

function M.nginx()
  return new("nginx", {
    command = function(self)
      return { "/usr/sbin/nginx", "-p", self.dir.path, "-c", self.dir:at("nginx.conf"),
        "-g", "daemon off;", "-e", self.dir:at("error.log") }
    end,
    write = function(self, n, mark)
      self.dir:save("nginx.conf", ([[
worker_processes 1;
pid %s/nginx.pid;
error_log %s/error.log;
events { worker_connections 512; }
http {
  access_log off;
  client_body_temp_path %s/body; proxy_temp_path %s/proxy; fastcgi_temp_path %s/fastcgi;
  uwsgi_temp_path %s/uwsgi; scgi_temp_path %s/scgi;
  upstream pool { %s }
  server { listen 127.0.0.1:%d; location / { return 200 "%s"; } }
}
]]):format(self.dir.path, self.dir.path, self.dir.path, self.dir.path, self.dir.path,
        self.dir.path, self.dir.path,
        entries(n, "server 127.0.0.1:@p weight=1;\n"), self.port, mark))
    end,
    reload = function(self)
      local command = self:command()
      process.run { command[1], "-p", self.dir.path, "-c", self.dir:at("nginx.conf"), "-e",
        self.dir:at("error.log"), "-s", "reload" }
    end,
    live = function(self)
      local status, body = client.once(self.port, "GET", "/", nil, "Connection: close\r\n")
      return status == 200 and body or nil
    end,
  })
end

function M.prometheus()
  return new("prometheus", {
    command = function(self)
      return { "prometheus", "--config.file=" .. self.dir:at("prometheus.yml"),
        "--web.listen-address=127.0.0.1:" .. self.port, "--web.enable-lifecycle",
        "--storage.tsdb.path=" .. self.dir:at("data"), "--log.level=error", cwd = self.dir.path }
    end,
    write = function(self, n, mark)
      self.dir:save("prometheus.yml",
        "global: { scrape_interval: 1h, external_labels: { mark: " .. mark .. " } }\n"
        .. "scrape_configs: [ { job_name: pool, static_configs: [\n"
        .. entries(n, "{ targets: [ '127.0.0.1:@p' ], labels: { service: s@i } },\n")
        .. "] } ]\n")
    end,
    reload = function(self)
      self.client = self.client or client.new(self.port)
      local status, body = self.client:request("POST", "/-/reload", "")
      if status ~= 200 then error("prometheus: " .. tostring(status) .. " " .. tostring(body)) end
    end,
    live = function(self)
      local status, body = client.once(self.port, "GET", "/api/v1/status/config")
      return status == 200 and body:match("mark: (m%d+)") or nil
    end,
  })
end

function M.caddy()
  return new("caddy", {
    command = function(self)
      self.dir:save("caddy.json", self.text)
      return { "caddy", "run", "--config", self.dir:at("caddy.json"), cwd = self.dir.path,
        env = { HOME = self.dir.path, XDG_DATA_HOME = self.dir.path,
          XDG_CONFIG_HOME = self.dir.path } }
    end,
    write = function(self, n, mark)
      self.text = ([[{"admin":{"listen":"127.0.0.1:%d"},
"logging":{"logs":{"default":{"level":"ERROR"}}},
"apps":{"http":{"servers":{"s":{"listen":["127.0.0.1:%d"],"automatic_https":{"disable":true},
"routes":[%s{"handle":[{"handler":"static_response","body":"%s"}]}]}}}}}]]):format(self.admin,
        self.port, entries(n, '{"match":[{"host":["s@i.example"]}],"handle":[{"handler":'
          .. '"reverse_proxy","upstreams":[{"dial":"127.0.0.1:@p"}]}]},'), mark)
    end,
    reload = function(self)
      self.client = self.client or client.new(self.admin)
      local status, body = self.client:request("POST", "/load", self.text,
        "Content-Type: application/json\r\n")
      if not status then -- it closes idle administrators' connections when it takes a new config
        status, body = self.client:request("POST", "/load", self.text,
          "Content-Type: application/json\r\n")
      end
      if status ~= 200 then error("caddy: " .. tostring(status) .. " " .. tostring(body)) end
    end,
    live = function(self)
      local status, body = client.once(self.port, "GET", "/", nil, "Connection: close\r\n")
      return status == 200 and body or nil
    end,
  })
end


-- The fronts: servers on one thread each whose answer comes from their configuration, so that each
-- reload really changes the answer.

local lua_module = [[
local text
return {
  start = function(config) text = "m" .. config.value .. "\n" end,
  handle = function() return 200, { ["content-type"] = "text/plain" }, text end,
}
]]

--- Segue with a C module that listens, replaced by `replace`; by restart it holds a lock. "lua":
--- with one in Lua, replaced by handover. The fields that change a front, here and below: `logs`,
--- it writes an access log.
function M.module(replace)
  local kind = replace == "lua" and 'kind = "lua", code = "front.lua"'
    or ('kind = "c", plugin = "%s/%s/bench/numbered.so", replace = "%s"'):format(uv.cwd(), build,
      replace)
  return new("segue", {
    command = function(self)
      self.dir:write("fixed.yaml", replace == "restart"
        and ("service: { lock: %q }\n"):format(self.dir:at "lock") or "service: {}\n")
      self.dir:write("reload.lua", ([[
local segue = require "segue"
return {
  sources = { segue.file "fixed.yaml", segue.file "config.yaml" },
  triggers = { segue.http "127.0.0.1:%d" },
  threads = 1,
  modules = { service = { %s, config = "service", listen = "http://127.0.0.1:%d",
                          generation_header = %s%s } },
}
]]):format(self.admin, kind, self.port, tostring(self.numbered or false),
        self.logs and ', access_log = "access.log"' or ""))
      self.dir:write("front.lua", lua_module)
      return { uv.cwd() .. "/" .. build .. "/segue", "run", "-c", self.dir:at("reload.lua"),
        cwd = self.dir.path }
    end,
    write = function(self, _, mark)
      local value = self.numbered and 1 or mark:match "%d+"
      self.dir:save("config.yaml", ("service: { value: %s, copies: [ %s1 ] }\n"):format(value,
        ("1, "):rep(31)))
    end,
    reload = function(self)
      self.client = self.client or client.new(self.admin)
      local status, body = self.client:request("POST", "/-/reload", nil,
        "Accept: application/json\r\n")
      if status ~= 200 or not body:find('"applied"', 1, true) then
        error("segue: " .. tostring(status) .. " " .. tostring(body))
      end
    end,
    live = function(self)
      local status, body = client.once(self.port, "GET", "/", nil, "Connection: close\r\n")
      return status == 200 and (self.numbered and "m0" or body:match "m%d+") or nil
    end,
  })
end

local function nginx_front(location, modules)
  return new("nginx", {
    command = function(self)
      return { "/usr/sbin/nginx", "-p", self.dir.path, "-c", self.dir:at("nginx.conf"),
        "-g", "daemon off;", "-e", self.dir:at("error.log") }
    end,
    write = function(self, _, mark)
      self.dir:save("nginx.conf", (([[
@MODULES@
worker_processes 1;
pid @DIR@/nginx.pid;
error_log @DIR@/error.log;
events { worker_connections 512; }
http {
  access_log @LOG@;
  keepalive_requests 100000000;
  client_body_temp_path @DIR@/body; proxy_temp_path @DIR@/proxy; fastcgi_temp_path @DIR@/fastcgi;
  uwsgi_temp_path @DIR@/uwsgi; scgi_temp_path @DIR@/scgi;
  server { listen 127.0.0.1:@PORT@; location / { default_type text/plain; @LOCATION@ } }
}
]]):gsub("@(%u+)@", { DIR = self.dir.path, PORT = tostring(self.port), MODULES = modules or "",
        LOG = self.logs and self.dir:at "access.log" .. " combined buffer=64k" or "off",
        LOCATION = location:format(mark) })))
    end,
    reload = function(self) self.process:kill("hup") end,
    live = function(self)
      local status, body = client.once(self.port, "GET", "/", nil, "Connection: close\r\n")
      return status == 200 and body:match "m%d+" or nil
    end,
  })
end

function M.front_nginx() return nginx_front('return 200 "%s\\n";') end

function M.front_nginx_lua()
  return nginx_front('content_by_lua_block { ngx.say("%s") }',
    "load_module /usr/lib/nginx/modules/ndk_http_module.so;\n"
    .. "load_module /usr/lib/nginx/modules/ngx_http_lua_module.so;")
end

-- The usual way: a master with workers, signalled by USR2; the next worker takes over the sockets.
function M.front_haproxy()
  return new("haproxy", {
    command = function(self)
      return { "/usr/sbin/haproxy", "-W", "-f", self.dir:at("haproxy.cfg"), cwd = self.dir.path }
    end,
    write = function(self, _, mark)
      self.dir:save("haproxy.cfg", ([[
global
  nbthread 1
  maxconn 4000
  stats socket %s mode 600 level admin expose-fd listeners
defaults
  mode http
  timeout client 30s
  timeout connect 5s
  timeout server 30s
frontend f
  bind 127.0.0.1:%d
  http-request return status 200 content-type text/plain string "%s"
]]):format(self.dir:at("stats.sock"), self.port, mark))
    end,
    reload = function(self) self.process:kill("usr2") end,
    live = function(self)
      local status, body = client.once(self.port, "GET", "/", nil, "Connection: close\r\n")
      return status == 200 and body:match "m%d+" or nil
    end,
  })
end

-- On one thread, as the others.
function M.front_caddy()
  local caddy = M.caddy()
  local command = caddy.command
  caddy.command = function(self)
    local list = command(self)
    list.env.GOMAXPROCS = "1"
    return list
  end
  return caddy
end

return M
