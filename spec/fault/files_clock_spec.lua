-- SPDX-License-Identifier: MIT
-- The clock of the system is set back, or stands still, while segue renders files: nothing is lost,
-- missed or done twice by that.
local process = require "spec.support.process"
local plugin = require "spec.support.plugin"
local segue = require "spec.support.segue"
local tempdir = require "spec.support.tempdir"
local wait = require "spec.support.wait"

local policy = [[
local segue = require "segue"
return {
  sources = { segue.file "a.yaml" },
  triggers = { segue.watch() }, debounce = { min = "5ms", max = "50ms" },
  modules = { web = { kind = "files", drift = @DRIFT@, files = {
      { to = "out/a", backups = 2, content = function(config) return config.x .. "\n" end } },
    apply = "cat out/a >> applied" } },
}]]

local DAY = 86400

describe("files of a daemon whose clock is set", function()
  after_each(segue.cleanup)

  local function start(drift, time)
    local dir = tempdir.new()
    plugin.library(dir:at "clock.so", "spec/fault/clock.c", "")
    dir:write("clock", tostring(time))
    return segue.start { dir = dir, policy = policy:gsub("@DRIFT@", drift and ('"%s"'):format(drift)
      or "nil"), files = { ["a.yaml"] = "x: 1\n" }, env = { LD_PRELOAD = dir:at "clock.so",
        SPEC_CLOCK = dir:at "clock",
        ASAN_OPTIONS = (os.getenv "ASAN_OPTIONS" or "") .. ":verify_asan_link_order=0" } }
  end

  local function set_clock(d, time) d.dir:save("clock", tostring(time)) end

  local function now(d) return d:json "/api/v1/reloads?limit=1"[1] end

  -- The contents of the copies, sorted by name.
  local function copies(d, word)
    local list = {}
    for _, name in ipairs(d.dir:list "out") do
      local found = name:find("." .. word .. "-", 1, true)
      if found then list[#list + 1] = d.dir:read("out/" .. name) end
    end
    return list
  end

  local function live(d, x)
    wait.until_true(function() return d.dir:read "out/a" == x .. "\n" end, nil,
      function() return d:log() end)
    d:wait_settled()
  end

  it("back go live by each change, in the order of the changes", function()
    local d = start(nil, os.time() + 10 * DAY)
    for x = 2, 5 do
      set_clock(d, os.time() + (10 - x) * DAY)
      d.dir:save("a.yaml", ("x: %d\n"):format(x))
      live(d, x)
    end
    assert.equal("1\n2\n3\n4\n5\n", d.dir:read "applied")
    wait.until_true(function() return table.concat(copies(d, "backup")) == "4\n3\n" end)
    local ids = {}
    wait.until_true(function() return now(d).generation == 5 end)
    for i, reload in ipairs(d:json "/api/v1/reloads?limit=5") do ids[i] = reload.generation end
    assert.same({ 5, 4, 3, 2, 1 }, ids)
    d:stop()
    set_clock(d, os.time() - 1000 * DAY)
    d:spawn()
    d:wait_ready()
    assert.equal("1\n2\n3\n4\n5\n", d.dir:read "applied")
    local answer = d:control { method = "POST", path = "/api/v1/rollback?to=2" }
    assert.equal(200, answer.status, answer.body)
    assert.equal("2\n", d.dir:read "out/a")
  end)

  it("to one second keep each version of another program under a name of its own", function()
    local d = start(nil, 1000000000)
    for x = 2, 5 do
      d.dir:save("out/a", ("by hand %d\n"):format(x))
      d.dir:save("a.yaml", ("x: %d\n"):format(x))
      live(d, x)
      wait.until_true(function() return #copies(d, "changed") == x - 1 end)
    end
    assert.equal("by hand 2\nby hand 3\nby hand 4\nby hand 5\n",
      table.concat(copies(d, "changed")))
    -- The thread that writes the history has its time to end.
    d:stop()
    assert.is_nil(d:log():find "what was not written yet is lost", d:log())
  end)

  it("back are looked at for changes of the same size, and restored", function()
    local d = start("restore", os.time() + 10 * DAY)
    for x = 1, 4 do
      set_clock(d, os.time() + (10 - 5 * x) * DAY)
      wait.until_true(function() return d.dir:read(".segue/files.json") end)
      d.dir:write("out/a", "9\n")
      wait.until_true(function()
        return d.dir:read "out/a" == "1\n" and #copies(d, "changed") == x
      end, nil, function() return d:log() end)
      if x == 2 then
        -- The pause between two restores of a file that another program insists on.
        d:stop()
        d:spawn()
        d:wait_ready()
      end
    end
    assert.is_true(process.is_alive(d.process.pid))
  end)
end)
