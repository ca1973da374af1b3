-- SPDX-License-Identifier: MIT
-- Run by `segue test`. The server is simulated: the spec answers its commands.
local testing = require "segue.testing"

describe("the policy", function()
  local t, answers, live

  before_each(function()
    answers = { check = true, apply = true }
    t = testing.policy "reload.lua"
    t:on_run(function(argv, command)
      assert.equal("./server", argv[1])
      local answer = answers[argv[2]]
      if argv[2] == "apply" and answer == true then live = command.stdin end
      return answer
    end)
    assert.equal("applied", t:start().outcome)
    assert.equal("port 8080\nworkers 4\n", live)
  end)

  local function change(port)
    t:file("config.yaml", ("port: %d\nworkers: 4\n"):format(port))
    return t:watch "config.yaml"
  end

  it("applies what the server accepts", function()
    assert.equal("applied", change(8081).outcome)
    assert.equal("port 8081\nworkers 4\n", live)
  end)

  it("rejects what the check of the server refuses, and applies nothing", function()
    answers.check = { code = 1, stderr = "port is reserved\n" }
    local result = change(80)
    assert.equal("rejected", result.outcome)
    assert.matches("port is reserved", result.errors[1].message)
    assert.equal("port 8080\nworkers 4\n", live)
    assert.equal(8080, t:config "port")
  end)

  it("gives the server its previous configuration back if it cannot apply the next one", function()
    local count = #t:commands()
    answers.apply = { code = 1, stderr = "cannot bind port 6666\n" }
    local result = change(6666)
    assert.equal("reverted", result.outcome)
    assert.matches("cannot bind port 6666", result.errors[1].message)
    local commands = t:commands()
    assert.same({ "check", "apply", "apply" }, { commands[count + 1].argv[2],
      commands[count + 2].argv[2], commands[count + 3].argv[2] })
    assert.equal("port 8080\nworkers 4\n", commands[count + 3].stdin)
    assert.equal(8080, t:config "port")
  end)
end)
