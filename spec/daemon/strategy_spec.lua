-- SPDX-License-Identifier: MIT
local segue = require "spec.support.segue"

describe("a policy's strategy", function()
  after_each(segue.cleanup)

  it("is called with the source's health, may wait, and is shown in the status", function()
    local d = segue.start {
      files = { ["config.yaml"] = "x: 1" },
      policy = [[
        local segue = require "segue"
        return {
          sources = { segue.file "config.yaml" },
          triggers = { segue.watch(), segue.http "127.0.0.1:@PORT@" },
          strategy = function(source)
            segue.sleep "1ms"
            segue.log.info("asked", { name = source.name, kind = source.kind,
              failures = source.failures, healthy = source.healthy and "yes" or "no" })
            return source.failures > 0 and "push" or "pull"
          end,
        }]],
    }
    d:wait_log("asked.*failures=0")
    assert.equal("pull", d:json("/api/v1/sources")[1].strategy)
    d.dir:delete("config.yaml")
    d:wait_log("asked.*failures=1")
    d:wait_log("cannot push: it is pulled")
    assert.equal("pull", d:json("/api/v1/sources")[1].strategy)
    d:stop()
  end)

  it("that returns an invalid value is reported as a bug, and changes nothing", function()
    local d = segue.start {
      files = { ["config.yaml"] = "x: 1" },
      policy = [[
        local segue = require "segue"
        return {
          sources = { segue.file "config.yaml" },
          triggers = { segue.http "127.0.0.1:@PORT@" },
          strategy = function() return "shove" end,
        }]],
    }
    d:wait_log("strategy returned shove for source 'config.yaml': return")
    assert.equal(200, (d:reload()))
    d:stop()
  end)
end)
