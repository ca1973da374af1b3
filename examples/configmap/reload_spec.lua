-- SPDX-License-Identifier: MIT
-- Run by `segue test`. The webhook is simulated: the spec answers its requests.
local testing = require "segue.testing"

describe("the policy", function()
  local t, answer, calls

  before_each(function()
    answer, calls = 200, 0
    t = testing.policy "reload.lua"
    t:on_fetch(function(request)
      assert.equal("POST", request.method)
      assert.equal("http://127.0.0.1:8080/-/reload", request.url)
      calls = calls + 1
      return answer
    end)
    assert.equal("applied", t:start().outcome)
    assert.equal(0, calls)
  end)

  local function change(text)
    t:file("volume/app.conf", text)
    return t:watch "volume/app.conf"
  end

  it("calls the webhook once for a change of the volume, and not for none", function()
    assert.equal("applied", change("workers = 8\n").outcome)
    assert.equal(1, calls)
    assert.equal("unchanged", change("workers = 8\n").outcome)
    assert.equal(1, calls)
  end)

  it("calls it again until it answers 200", function()
    t:on_fetch(function()
      calls = calls + 1
      return calls < 3 and 503 or 200
    end)
    assert.equal("applied", change("workers = 8\n").outcome)
    assert.equal(3, calls)
  end)

  it("undoes the reload if it never does, and calls it again when it is forced", function()
    answer = { status = 500, body = "out of workers" }
    local result = change("workers = 9\n")
    assert.equal("reverted", result.outcome)
    assert.matches("answered 500: out of workers", result.errors[1].message)
    assert.equal(5, calls)
    assert.equal("workers = 4\n", t:config()["app.conf"])
    answer = 200
    assert.equal("applied", t:reload({ force = true }).outcome)
    assert.equal(6, calls)
    assert.equal("workers = 9\n", t:config()["app.conf"])
  end)

  it("reports a webhook that is not there", function()
    answer = { error = "ECONNREFUSED" }
    local result = change("workers = 9\n")
    assert.equal("reverted", result.outcome)
    assert.matches("127.0.0.1:8080", result.errors[1].message)
  end)
end)
