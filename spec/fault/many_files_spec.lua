-- SPDX-License-Identifier: MIT
-- A hundred thousand files in a watched folder, and more events than the kernel keeps.
local faults = require "spec.support.faults"
local segue = require "spec.support.segue"
local tempdir = require "spec.support.tempdir"
local wait = require "spec.support.wait"

local policy = [[
local segue = require "segue"
return {
  name = "many",
  sources = { segue.dir "conf.d/*.yaml" },
  triggers = { segue.watch() },
  debounce = { min = "5ms", max = "100ms" },
}
]]

describe("many files in a watched folder", function()
  after_each(segue.cleanup)

  local function are_one_configuration(many)
    local d = segue.folder { policy = policy, dir = tempdir.new "/dev/shm" }
    d.dir:mkdir "conf.d"
    faults.run("sh", "-c", "cd " .. d.dir:at "conf.d" .. [[ &&
      seq 1 ]] .. many .. [[ | awk '{ f = "f" $1 ".yaml"; print "k" $1 ": 1" > f; close(f) }']])
    d:spawn()
    d:wait_ready(120000)
    local function value(key)
      local r = d:control("/api/v1/config?path=" .. key)
      return r.status == 200 and r.body:match("%d+") or nil
    end
    assert.equal("1", value "k20001")
    d.dir:write("conf.d/f15000.yaml", "k15000: 2\n")
    wait.until_true(function() return value "k15000" == "2" end, 120000)
    -- More events than the kernel's queue holds, while the daemon does not read it.
    d:signal "stop"
    faults.run("sh", "-c", "cd " .. d.dir:at "conf.d" .. [[ &&
      seq 1 20000 | awk '{ f = "f" $1 ".yaml"; print "k" $1 ": 3" > f; close(f) }']])
    d.dir:save("conf.d/f20001.yaml", "k20001: 3\n")
    d:signal "cont"
    wait.until_true(function() return value "k20001" == "3" and value "k1" == "3" end, 120000)
    d:wait_log "max_queued_events"
    d.dir:delete "conf.d/f20001.yaml"
    wait.until_true(function() return value "k20001" == nil end, 120000)
  end

  -- The smaller number is still more than there are events in the kernel's queue.
  it("are one configuration; a change is found among them, and so is a flood of changes",
    function() are_one_configuration(21000) end)
  it("may be 100,000 #long", function() are_one_configuration(100000) end)
end)
