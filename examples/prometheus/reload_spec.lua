-- SPDX-License-Identifier: MIT
-- Run by `segue test`. Prometheus is simulated: the spec answers its requests and commands.
local testing = require "segue.testing"

describe("the policy", function()
  local t, loaded, successful

  before_each(function()
    loaded, successful = 1000, 1
    t = testing.policy("reload.lua", { env = { CLUSTER = "blue" } })
    t:on_command("promtool check config live/prometheus.yml", true)
    t:on_fetch(function(request)
      if request.step == "apply" then
        loaded = loaded + successful
        return 200
      end
      return ("prometheus_config_last_reload_successful %d\n"):format(successful)
        .. ("prometheus_config_last_reload_success_timestamp_seconds %d\n"):format(loaded)
    end)
    assert.equal("applied", t:start().outcome)
  end)

  it("expands the environment, and gathers the rules", function()
    assert.matches("cluster: blue\n", (t:file "live/prometheus.yml"))
    assert.matches("groups:\n", (t:file "live/rules.yml"))
    assert.equal("http://127.0.0.1:9090/-/reload", t:requests()[2].url)
  end)

  it("tries again while Prometheus does not answer", function()
    local refused = 2
    t:on_fetch(function(request)
      if request.step ~= "apply" or refused == 0 then return nil end
      refused = refused - 1
      return { error = "ECONNREFUSED" }
    end)
    t:file("prometheus.yml", "global: {}\n")
    local result = t:signal "HUP"
    assert.equal("applied", result.outcome)
    assert.is_true(result.seconds >= 0.6) -- 200 ms, 400 ms
  end)

  it("returns to the previous files where Prometheus rejects them", function()
    local before = t:file "live/prometheus.yml"
    successful = 0
    t:file("prometheus.yml", "global: {}\n")
    local result = t:signal "HUP"
    assert.equal("reverted", result.outcome)
    assert.matches("has rejected its configuration", result.errors[1].message)
    assert.equal(before, (t:file "live/prometheus.yml"))
  end)

  it("rejects a configuration with a variable that is not set", function()
    t:file("prometheus.yml", "global: { external_labels: { a: $(NONE) } }\n")
    local result = t:signal "HUP"
    assert.equal("rejected", result.outcome)
    assert.matches("environment variable NONE is not set", result.errors[1].message)
  end)
end)
