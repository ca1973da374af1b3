-- SPDX-License-Identifier: MIT
-- kill -9 at every step of a files module in the daemon: moved, applied, undone, recovered. After
-- the next start the files are those of the last good generation, all of them, and the command has
-- applied just these.
local files_module = require "spec.support.files_module"
local kill = require "spec.support.killed"
local segue = require "spec.support.segue"

local policy = files_module.two [[apply = "cat out/a out/b > applied.new "
  .. "&& mv applied.new applied && ! grep -q 9 applied"]]

describe("a files module of a daemon that is killed", function()
  local d
  before_each(function()
    d = segue.start { policy = policy, files = { ["a.yaml"] = "x: 1\n" } }
    d:stop()
  end)
  after_each(segue.cleanup)

  local function put(x) d.dir:save("a.yaml", ("x: %s\n"):format(x)) end

  local function whole(x)
    assert.equal(("a%d\n"):format(x), d.dir:read "out/a")
    assert.equal(("b%d\n"):format(x), d.dir:read "out/b")
    assert.equal(("a%d\nb%d\n"):format(x, x), d.dir:read "applied")
  end

  -- Starts with faults, requests a reload to x, and waits until a fault point kills the daemon.
  local function killed(x, faults)
    kill.arm(d, faults)
    d:wait_ready()
    put(x)
    kill.ask(d, "/-/reload")
    kill.wait(d, faults)
  end

  -- The next start finds sources that cannot be read, so that only the recovery has an effect.
  local function recovers()
    put "["
    d:spawn()
    d:wait_ready()
    local good = d:config().x
    whole(good)
    put(3)
    assert.equal(200, (d:reload()))
    whole(3)
    return good
  end

  for _, point in ipairs { "files.stage.sync#2", "files.commit", "files.commit#2",
    "files.exchange#2", "files.dirsync", "files.apply", "files.applied", "commit.flip#2",
    "last_good.write" } do
    it("is undone where it is killed at " .. point, function()
      killed(2, point .. "=kill")
      assert.equal(1, recovers())
    end)
  end

  it("is applied by the previous command where the killed reload has another one", function()
    kill.arm(d, "files.applied=kill")
    d:wait_ready()
    d.dir:save("reload.lua", (policy:gsub("cat out/a out/b ", "echo other ")))
    put(2)
    kill.ask(d, "/-/reload")
    kill.wait(d, "files.applied")
    assert.equal("other\n", d.dir:read "applied")
    d.dir:save("reload.lua", policy)
    assert.equal(1, recovers())
  end)

  it("is finished where it is killed after its generation was recorded", function()
    killed(2, "files.settle=kill")
    assert.equal(2, recovers())
  end)

  for _, point in ipairs { "files.restore", "files.restore#2", "files.dirsync#2",
    "files.apply#2" } do
    it("is undone where it is killed in the undo at " .. point, function()
      killed(9, point .. "=kill")
      assert.equal(1, recovers())
    end)
  end

  for _, point in ipairs { "files.restore", "files.restore#2", "files.dirsync" } do
    it("is undone where the recovery is killed at " .. point, function()
      killed(2, "commit.flip#2=kill")
      put "["
      kill.arm(d, point .. "=kill")
      kill.wait(d, point)
      assert.equal(1, recovers())
    end)
  end

  it("is undone by a later start where the recovery cannot restore a file", function()
    killed(2, "files.applied=kill")
    put "["
    kill.arm(d, "files.restore#1=fail")
    assert.equal(4, (d:wait_exit(20000)))
    assert.matches("an interrupted change cannot be undone.*i/o error", d:log())
    assert.equal(1, recovers())
  end)
end)
