-- SPDX-License-Identifier: MIT
-- The servers that are compared, each with its own folder and ports, each able to take a small
-- configuration or one of n entries. A server is a table:
--   start()          starts it and waits until it answers; sets self.ready_ms
--   write(n, mark)   prepares a configuration of n entries that carries `mark`; not measured
--   reload()         asks for it and returns when the server says it is done
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
  uv.run("nowait") -- takes the server's log: nobody may wait for a full pipe
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

return M
