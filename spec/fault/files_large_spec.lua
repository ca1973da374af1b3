-- SPDX-License-Identifier: MIT
-- A set of files whose intent is larger than the journal has room for: applied whole, and after
-- kill -9 all of its files are old, or all are new.
local kill = require "spec.support.killed"
local segue = require "spec.support.segue"
local wait = require "spec.support.wait"

local COUNT = 250
local policy = [[
local segue = require "segue"
local files = {}
for i = 1, 250 do
  files[i] = { to = "out/" .. i, content = function(config) return i .. "=" .. config.x end }
end
return {
  sources = { segue.file "a.yaml" },
  triggers = { segue.signal "HUP" },
  modules = { web = { kind = "files", files = files, apply = "cat out/1 out/250 > applied" } },
}]]

local function whole(d, x)
  for i = 1, COUNT do assert.equal(i .. "=" .. x, d.dir:read("out/" .. i)) end
  assert.equal(("1=%d250=%d"):format(x, x), d.dir:read "applied")
end

local function put(d, x) d.dir:save("a.yaml", ("x: %s\n"):format(x)) end

local function sides(d)
  local list = {}
  for _, name in ipairs(d.dir:list ".segue") do
    if name:find("files.json.intent-", 1, true) then list[#list + 1] = name end
  end
  return list
end

describe("a large set of files", function()
  after_each(segue.cleanup)

  it("is applied as a whole, and leaves no intent", function()
    local d = segue.start { policy = policy, files = { ["a.yaml"] = "x: 1\n" } }
    whole(d, 1)
    put(d, 2)
    assert.equal(200, (d:reload()))
    whole(d, 2)
    wait.until_true(function() return #sides(d) == 0 and #d.dir:list "out" == COUNT + 1 end)
  end)

  for _, point in ipairs { "files.side", "files.commit#100", "files.apply", "commit.flip#2" } do
    it("is old as a whole where it is killed at " .. point, function()
      local d = segue.start { policy = policy, files = { ["a.yaml"] = "x: 1\n" } }
      d:stop()
      kill.arm(d, (point == "files.side" and "files.side#2" or point) .. "=kill")
      d:wait_ready()
      put(d, 2)
      kill.ask(d, "/-/reload")
      kill.wait(d, point)
      put(d, "[")
      d:spawn()
      d:wait_ready()
      whole(d, 1)
      put(d, 3)
      assert.equal(200, (d:reload()))
      whole(d, 3)
      wait.until_true(function() return #sides(d) == 0 end)
    end)
  end

  it("is new as a whole where it is killed before it settles", function()
    local d = segue.start { policy = policy, files = { ["a.yaml"] = "x: 1\n" } }
    d:stop()
    kill.arm(d, "files.settle#100=kill")
    d:wait_ready()
    put(d, 2)
    kill.ask(d, "/-/reload")
    kill.wait(d, "files.settle")
    d:spawn()
    d:wait_ready()
    whole(d, 2)
  end)

  it("stays as it is where the file of its intent is damaged", function()
    local d = segue.start { policy = policy, files = { ["a.yaml"] = "x: 1\n" } }
    d:stop()
    kill.arm(d, "files.apply=kill")
    d:wait_ready()
    put(d, 2)
    kill.ask(d, "/-/reload")
    kill.wait(d, "files.apply")
    local name = ".segue/" .. sides(d)[1]
    local text = d.dir:read(name)
    d.dir:write(name, (text:gsub('"size":%d', '"size":9', 1)))
    d:spawn()
    assert.equal(4, (d:wait_exit(20000)))
    assert.matches("an interrupted change cannot be undone.*is damaged", d:log())
    d.dir:write(name, text)
    put(d, "[")
    d:spawn()
    d:wait_ready()
    whole(d, 1)
  end)
end)
