-- SPDX-License-Identifier: MIT
-- Run by `segue test`. nginx is simulated: the spec answers its commands, and its processes are
-- files that segue.verify.nginx reads.
local testing = require "segue.testing"

local upstreams = "conf.d/upstreams.conf"

describe("the policy", function()
  local t, worker

  -- The processes of nginx: a master, and one worker.
  local function serve_by(pid)
    worker = pid
    t:file("nginx.pid", "1\n"):file("/proc/1/task/1/children", pid .. "\n")
    t:file(("/proc/%d/cmdline"):format(pid), "nginx: worker process\0")
  end

  local function services(text)
    t:file("services.yaml", "services: { api: [" .. text .. "] }\n")
    return t:signal "HUP"
  end

  before_each(function()
    t = testing.policy "reload.lua"
    t:file("nginx.pid", nil)
    t:on_command("nginx -t", true)
    t:on_command("./reload-or-start", function() serve_by((worker or 100) + 1) return true end)
    t:on_command("./reload-or-start undo", true)
    t:on_fetch(function() return 200 end)
    worker = nil
    assert.equal("applied", t:start().outcome)
  end)

  it("writes an upstream for each service", function()
    local text, attributes = t:file(upstreams)
    assert.matches("upstream api {\n  server 127.0.0.1:9001 max_fails=0; # api%-1\n", text)
    assert.equal("0644", attributes.mode)
  end)

  it("reloads nginx once for a change, and never without one", function()
    assert.equal("applied", services("{ ID: a, Address: 127.0.0.1, Port: 9009 }").outcome)
    assert.matches("server 127.0.0.1:9009 max_fails=0; # a\n", (t:file(upstreams)))
    assert.equal(102, worker)
    local before = #t:commands()
    assert.equal("unchanged", t:signal("HUP").outcome)
    assert.equal(before, #t:commands())
  end)

  it("changes nothing where nginx rejects the new files", function()
    local before, rejected = t:file(upstreams), nil
    t:on_command("nginx -t", function()
      rejected = t:file(upstreams) -- as nginx sees it
      return { code = 1, stderr = "nginx: [emerg] invalid port in upstream\n" }
    end)
    local result = services("{ ID: a, Address: 127.0.0.1, Port: x }")
    assert.equal("rejected", result.outcome)
    assert.matches("invalid port in upstream", result.errors[1].message)
    assert.matches("127.0.0.1:x", rejected)
    assert.equal(before, (t:file(upstreams)))
  end)

  it("returns to the previous backends where nginx keeps its old worker", function()
    local before = t:file(upstreams)
    t:on_command("./reload-or-start", true) -- it starts no new worker
    local result = services("{ ID: a, Address: 127.0.0.1, Port: 9009 }")
    assert.equal("reverted", result.outcome)
    assert.matches("has started no new worker", result.errors[1].message)
    assert.equal(before, (t:file(upstreams)))
  end)

  it("returns to them where nginx does not answer afterwards", function()
    local before = t:file(upstreams)
    t:on_fetch(function() return 502 end)
    assert.equal("reverted", services("{ ID: a, Address: 127.0.0.1, Port: 9009 }").outcome)
    assert.equal(before, (t:file(upstreams)))
  end)
end)
