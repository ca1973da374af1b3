-- SPDX-License-Identifier: MIT
-- Run by `segue test`. The module is simulated: its code does not run, its operations do.
local testing = require "segue.testing"

describe("the policy", function()
  local t, failing

  before_each(function()
    failing = nil
    t = testing.policy "reload.lua"
    t:on_module(function(_, verb)
      if verb == failing then return false, "front.greeting is missing" end
    end)
    assert.equal("applied", t:start().outcome)
  end)

  it("hands over to a new front when its configuration changes", function()
    t:file("config.yaml", "front: { greeting: Good morning }\n")
    local result = t:watch "config.yaml"
    assert.equal("applied", result.outcome)
    assert.equal("front", result.plan[1].module)
    assert.equal("handover", result.plan[1].action)
    assert.equal("Good morning", t:config "front.greeting")
  end)

  it("does nothing where only the text of the file changes", function()
    t:file("config.yaml", "front: { greeting: Good morning }\n")
    assert.equal("applied", t:watch("config.yaml").outcome)
    t:file("config.yaml", "# a comment\nfront:\n  greeting: Good morning\n")
    assert.equal("unchanged", t:watch("config.yaml").outcome)
  end)

  it("keeps the live front if the next one does not start", function()
    failing = "start"
    t:file("config.yaml", "front: {}\n")
    local result = t:watch "config.yaml"
    assert.is_true(result.outcome == "failed" or result.outcome == "reverted", result.outcome)
    assert.matches("front.greeting is missing", result.errors[1].message)
    assert.equal("Hello", t:config "front.greeting")
  end)
end)
