-- SPDX-License-Identifier: MIT
-- examples/nginx-upstreams: backends come and go under load, and no request fails.
local example = require "spec.support.example"
local nginx = require "spec.support.nginx"
local port = require "spec.support.port"
local read = require("spec.support.file").read
local segue = require "spec.support.segue"
local tempdir = require "spec.support.tempdir"
local traffic = require "spec.support.traffic"
local uv = require "luv"
local wait = require "spec.support.wait"

local base = "examples/nginx-upstreams/"
local servers = {}

-- A backend on a port of its own.
local function backend(name)
  local number = port.free()
  servers[name] = nginx.serve(tempdir.new(), number,
    ("server { listen 127.0.0.1:%d; return 200 %s; }"):format(number, name))
  return { name = name, port = number }
end

local function services(backends)
  local lines = { "services:", "  api:" }
  for _, b in ipairs(backends) do
    lines[#lines + 1] = ("    - { ID: %s, Address: 127.0.0.1, Port: %s }"):format(b.name, b.port)
  end
  return table.concat(lines, "\n") .. "\n"
end

local function start()
  local front = port.free()
  local function text(name)
    return (read(base .. name):gsub("8080", tostring(front)):gsub("7377", "@PORT@"))
  end
  local d = segue.folder { policy = example.patient(text "reload.lua"), files = {
    ["nginx.conf"] = text "nginx.conf", ["upstreams.tmpl"] = text "upstreams.tmpl",
    ["reload-or-start"] = text "reload-or-start" } }
  assert(uv.fs_chmod(d.dir:at "reload-or-start", 493)) -- 0755
  d.front = front
  return d
end

local function change(d, backends)
  d.dir:save("services.yaml", services(backends))
  local status, answer = d:reload()
  return status, answer.errors and answer.errors[1] and answer.errors[1].message
end

local function stop(name)
  if servers[name] then servers[name]:stop() end
  servers[name] = nil
end

describe("examples/nginx-upstreams", function()
  local d
  after_each(function()
    -- The apply command started nginx as a daemon: it is no child of the spec.
    local pid = d and tonumber(d.dir:read "nginx.pid" or "")
    segue.cleanup()
    if pid then
      uv.kill(pid, "sigterm")
      wait.until_true(function() return uv.kill(pid, 0) ~= 0 end)
    end
    for name in pairs(servers) do stop(name) end
    d = nil
  end)

  it("loses no request while backends come and go, and keeps what nginx rejects away", function()
    d = start()
    local a, b = backend("a"), backend("b")
    d.dir:write("services.yaml", services { a, b })
    d:spawn()
    d:wait_ready()
    local load = traffic.start(d.front)
    local c = backend("c")
    assert.equal(200, (change(d, { a, b, c })))
    assert.equal(200, (change(d, { b, c })))
    stop "a"
    local status, message = change(d, { b, { name = "c", port = "x" } })
    assert.equal(422, status)
    assert.matches('invalid port in upstream "127.0.0.1:x"', message, 1, true)
    a = backend("a")
    assert.equal(200, (change(d, { a, c })))
    stop "b"
    assert.equal(200, (change(d, { a })))
    stop "c"
    traffic.check(load)
    assert.equal(1, select(2, d.dir:read("conf.d/upstreams.conf"):gsub("server ", "")))
    d:stop() -- with the connection of the probe, which is kept for 3 s
  end)

  it("stops the nginx of a first load that is undone", function()
    d = start()
    d.dir:save("reload.lua", (d.dir:read "reload.lua":gsub('within = "60s"', 'within = "1s"')))
    d.dir:write("services.yaml", services { { name = "nowhere", port = port.free() } })
    d:spawn()
    local code = d:wait_exit()
    assert.equal(4, code, d:log())
    assert.matches("127.0.0.1:" .. d.front, d:log(), 1, true)
    assert.is_nil(d.dir:read "conf.d/upstreams.conf")
    wait.until_true(function() return not d.dir:read "nginx.pid" end, nil, function()
      return d:log() .. (d.dir:read "error.log" or "")
    end)
  end)
end)
