-- SPDX-License-Identifier: MIT
-- Run by `segue test`. HAProxy is simulated: the spec answers its commands.
local testing = require "segue.testing"

describe("the policy", function()
  local t

  before_each(function()
    t = testing.policy "reload.lua"
    t:on_command("haproxy -c", true):on_command("./apply", true)
    assert.equal("applied", t:start().outcome)
  end)

  it("writes the configuration and the commands of the runtime API as one set", function()
    assert.matches("server s0 127.0.0.1:9001 # api%-1\n.*server s7 127.0.0.1:1 disabled",
      (t:file "live/haproxy.cfg"))
    assert.matches("set server api/s0 addr 127.0.0.1 port 9001\n", (t:file "live/commands"))
    t:file("services.yaml", "listen: 127.0.0.1:8080\nslots: 2\nservers:\n"
      .. "  - { name: a, address: 127.0.0.2, port: 9009 }\n")
    local result = t:signal "HUP"
    assert.equal(2, #result.files)
    assert.matches("set server api/s1 state maint\n$", (t:file "live/commands"))
  end)

  it("rejects more servers than slots before anything is rendered", function()
    local before = #t:commands()
    t:file("services.yaml", "listen: 127.0.0.1:8080\nslots: 0\nservers:\n"
      .. "  - { name: a, address: 127.0.0.2, port: 9009 }\n")
    local result = t:signal "HUP"
    assert.equal("rejected", result.outcome)
    assert.equal("1 servers need as many slots: raise slots", result.errors[1].message)
    assert.equal(before, #t:commands())
  end)

  it("brings both files back, and applies them, where HAProxy cannot be brought to them", function()
    local before = t:file "live/haproxy.cfg"
    local tries = 0
    t:on_command("./apply", function()
      tries = tries + 1
      return tries == 1 and { code = 1, stderr = "haproxy: worker 7 still serves" } or true
    end)
    t:file("services.yaml", "listen: 127.0.0.1:8081\nslots: 2\nservers: []\n")
    assert.equal("reverted", t:signal("HUP").outcome)
    assert.equal(2, tries)
    assert.equal(before, (t:file "live/haproxy.cfg"))
  end)
end)
