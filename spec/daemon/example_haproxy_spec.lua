-- SPDX-License-Identifier: MIT
-- examples/haproxy: servers come and go under load by the runtime API, and without a failed request
-- by a reload where the API cannot do it.
local example = require "spec.support.example"
local nginx = require "spec.support.nginx"
local port = require "spec.support.port"
local process = require "spec.support.process"
local read = require("spec.support.file").read
local segue = require "spec.support.segue"
local tempdir = require "spec.support.tempdir"
local traffic = require "spec.support.traffic"
local uv = require "luv"
local wait = require "spec.support.wait"

local base = "examples/haproxy/"
local names = { "haproxy.tmpl", "commands.tmpl", "apply" }

describe("examples/haproxy", function()
  local d
  after_each(function()
    -- The apply command started HAProxy as a daemon: it is no child of the spec.
    local pid = d and tonumber((d.dir:read "haproxy.pid" or ""):match "%d+")
    segue.cleanup()
    if pid then
      uv.kill(pid, "sigterm")
      wait.until_true(function() return uv.kill(pid, 0) ~= 0 end)
    end
    d = nil
  end)

  local function server(name)
    local number = port.free()
    nginx.serve(tempdir.new(), number,
      ("server { listen 127.0.0.1:%d; return 200 %s; }"):format(number, name))
    return ("  - { name: %s, address: 127.0.0.1, port: %d }\n"):format(name, number)
  end

  local function services(slots, ...)
    return ("listen: 127.0.0.1:%d\nslots: %d\nservers:\n"):format(d.front, slots)
      .. table.concat { ... }
  end

  local function change(...)
    d.dir:save("services.yaml", services(...))
    local status, answer = d:reload()
    return status, answer.errors and answer.errors[1] and answer.errors[1].message
  end

  -- Of the worker that serves now; a reload makes a new one.
  local function worker()
    local result = process.run { "socat", "stdio", "unix-connect:" .. d.dir:at "haproxy.sock",
      stdin = "show info\n" }
    return assert(result.stdout:match "\nPid: (%d+)", result:describe())
  end

  it("changes servers by the runtime API and the rest by a reload, and loses no request", function()
    local files = {}
    for _, name in ipairs(names) do files[name] = read(base .. name) end
    local policy = read(base .. "reload.lua"):gsub("7377", "@PORT@")
    d = segue.folder { policy = example.patient(policy), files = files }
    assert(uv.fs_chmod(d.dir:at "apply", 493)) -- 0755
    d.front = port.free()
    local a, b, c = server "a", server "b", server "c"
    d.dir:write("services.yaml", services(4, a, b))
    d:spawn()
    d:wait_ready()
    local first = worker()
    local load = traffic.start(d.front)
    assert.equal(200, (change(4, a, b, c)))
    assert.equal(200, (change(4, c)))
    assert.equal(first, worker())
    local status, message = change(1, a, b, c)
    assert.equal(422, status)
    assert.matches("3 servers need as many slots", message, 1, true)
    assert.equal(200, (change(6, a, c)))
    assert.not_equal(first, worker())
    assert.equal(200, (change(6, a, b, c)))
    traffic.check(load)
    local bad = a:gsub("address: 127.0.0.1", "address: no/such")
    status, message = change(6, bad)
    assert.equal(422, status)
    assert.matches("haproxy %-c", message)
    assert.equal(3, select(2, d.dir:read("live/haproxy.cfg"):gsub("server s%d 127%.0%.0%.1:%d%d%d",
      "")))
    d:stop()
  end)
end)
