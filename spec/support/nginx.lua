-- SPDX-License-Identifier: MIT
-- A real nginx in the folder of a daemon: its nginx.conf includes conf.d/*.conf.
local http = require "spec.support.http"
local process = require "spec.support.process"
local segue = require "spec.support.segue"
local wait = require "spec.support.wait"

local M = {}

M.conf = [[
pid nginx.pid; daemon off; error_log stderr; events {}
http { access_log off; client_body_temp_path b; proxy_temp_path p; fastcgi_temp_path f;
  uwsgi_temp_path u; scgi_temp_path s; include conf.d/*.conf; }
]]

--- For conf.d: the answer to everything is `zero`.
M.site = "server { listen 127.0.0.1:@PORT@; return 200 zero; }\n"

--- Waits until nginx answers a path with this text.
function M.serves(d, path, text)
  wait.until_true(function()
    local ok, response = pcall(d.http, d, path)
    return ok and response.body == text
  end, nil, function() return path .. ": " .. text .. "\n" .. d:log() end)
end

--- Starts nginx in the folder of `d` (segue.folder); the caller stops it.
function M.start(d)
  local server = process.start { "nginx", "-p", d.dir.path, "-c", "nginx.conf",
    cwd = d.dir.path, name = "nginx" }
  M.serves(d, "/", "zero")
  return server
end

local behind -- the nginx of M.behind

--- Starts a daemon whose module "nginx" of the kind files has these options, and an nginx that uses
--- its files. files: of the folder, beside nginx.conf; those in conf.d as nginx starts with them.
--- Returns the daemon when it is ready; M.cleanup stops both.
function M.behind(options, files)
  files["nginx.conf"] = M.conf
  local d = segue.folder { files = files, policy = [[
local segue = require "segue"
return {
  sources = { segue.file "a.yaml" },
  triggers = { segue.signal "HUP" },
  modules = { nginx = { kind = "files",
]] .. options .. "}, },\n}" }
  behind = M.start(d)
  d:spawn()
  d:wait_ready()
  return d
end

--- After each spec that uses M.behind.
function M.cleanup()
  segue.cleanup()
  if behind then behind:stop() end
  behind = nil
end

--- Starts an nginx of its own in a folder: text is its http block without the paths. Returns when
--- the port accepts; the caller stops it.
function M.serve(dir, number, text)
  dir:write("nginx.conf", (M.conf:gsub("include .*$", function() return text .. " }\n" end)))
  local server = process.start { "nginx", "-p", dir.path, "-c", "nginx.conf", name = "nginx" }
  wait.until_true(function()
    local connection = http.connect({ port = number }, true)
    if connection then connection:close() end
    return connection ~= nil
  end, nil, function() return server:describe() end)
  return server
end

return M
