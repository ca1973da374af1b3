-- SPDX-License-Identifier: MIT
-- kill -9 at every step of a folder of generations: built, named, switched, applied, settled,
-- undone, recovered. The link shows the old files or the new ones, never some of both; after the
-- next start the command has applied just these, and the next change leaves nothing behind.
local C = require "spec.support.c"
local Tempdir = require "spec.support.tempdir"
local file_set = require "spec.support.file_set"
local folder_module = require "spec.support.folder_module"
local kill = require "spec.support.killed"
local segue = require "spec.support.segue"
local uv = require "luv"
local wait = require "spec.support.wait"

describe("a folder of generations of a daemon that is killed", function()
  local d
  before_each(function()
    d = folder_module.start { module = [[apply = "cat out/d/* > applied.new "
      .. "&& mv applied.new applied && ! grep -q 9 applied"]] }
    d:stop()
  end)
  after_each(segue.cleanup)

  local function whole(x, applied)
    assert.equal(("a%d b%d"):format(x, x), folder_module.content(d))
    if applied then assert.equal(("a%d\nb%d\n"):format(x, x), d.dir:read "applied") end
  end

  -- Starts with faults, requests a reload to x, and waits until a fault point kills the daemon.
  local function killed(x, faults)
    kill.arm(d, faults)
    d:wait_ready()
    folder_module.put(d, x)
    kill.ask(d, "/-/reload")
    kill.wait(d, faults)
    local text = folder_module.content(d)
    assert.truthy(text == "a1 b1" or text == ("a%d b%d"):format(x, x), text)
  end

  -- The next start finds sources that cannot be read, so that only the recovery has an effect.
  local function recovers()
    folder_module.put(d, "[")
    d:spawn()
    d:wait_ready()
    local good = d:config().x
    whole(good, true)
    folder_module.put(d, 3)
    assert.equal(200, (d:reload()))
    whole(3, true)
    wait.until_true(function() return #folder_module.left(d) == 0 end, nil,
      function() return table.concat(folder_module.left(d), " ") end)
    return good
  end

  for _, point in ipairs { "files.folder.make", "files.stage.open#2", "files.stage.write#2",
    "files.stage.sync#2", "files.folder.sync", "files.folder.rename", "files.dirsync",
    "files.folder.link", "files.commit", "files.exchange", "files.dirsync#2", "files.apply",
    "files.applied", "commit.flip#2", "last_good.write" } do
    it("is undone where it is killed at " .. point, function()
      killed(2, point .. "=kill")
      assert.equal(1, recovers())
    end)
  end

  for _, point in ipairs { "files.settle", "files.folder.remove", "files.folder.removed",
    "files.folder.unlink#2" } do
    it("is finished where it is killed at " .. point, function()
      killed(2, point .. "=kill")
      assert.equal(2, recovers())
    end)
  end

  for _, point in ipairs { "files.restore", "files.dirsync#3", "files.apply#2",
    "files.folder.remove" } do
    it("is undone where it is killed in the undo at " .. point, function()
      killed(9, point .. "=kill")
      assert.equal(1, recovers())
    end)
  end

  for _, point in ipairs { "files.restore", "files.exchange", "files.dirsync" } do
    it("is undone where the recovery is killed at " .. point, function()
      killed(2, "commit.flip#2=kill")
      folder_module.put(d, "[")
      kill.arm(d, point .. "=kill")
      kill.wait(d, point)
      assert.equal(1, recovers())
    end)
  end

  it("has neither link nor folder where the first change is undone", function()
    d = folder_module.start { ready = false, env = { SEGUE_FAULTS = "files.applied=kill" },
      module = 'apply = "true"' }
    kill.wait(d, "files.applied")
    d.options.env = nil
    folder_module.put(d, "[")
    d:spawn()
    assert.is_true(d:wait_exit(20000) ~= 0)
    assert.is_nil(uv.fs_lstat(d.dir:at "out/d"))
    folder_module.put(d, 3)
    d:spawn()
    d:wait_ready()
    whole(3)
    wait.until_true(function() return #folder_module.left(d) == 0 end)
  end)

  for _, point in ipairs { "files.move", "files.dirsync", "files.applied", "last_good.write",
    "files.settle", "files.folder.removed" } do
    it("goes with its module or is whole where that is killed at " .. point, function()
      local other = [[rest = { kind = "files", files = { { to = "out/rest",
        content = function() return "rest" end } } },]]
      d = folder_module.start { other = other,
        module = 'removed = "remove", apply = "ls out > now"' }
      d:stop()
      local with = d.dir:read "reload.lua"
      kill.arm(d, point .. "=kill")
      d:wait_ready()
      d.dir:save("reload.lua", (with:gsub("web = .-%} %},\n", "},\n")))
      kill.ask(d, "/-/reload")
      kill.wait(d, point)
      folder_module.put(d, "[")
      d:spawn()
      d:wait_ready()
      local gone = point == "files.settle" or point == "files.folder.removed"
      assert.equal(gone and "" or "a1 b1", d.dir:list "out/d" and folder_module.content(d) or "")
      folder_module.put(d, 1)
      assert.equal(200, (d:reload()))
      wait.until_true(function() return #d.dir:list "out" == 2 end, nil, -- rest and the lock
        function() return table.concat(d.dir:list "out", " ") .. d:log() end)
    end)
  end
end)

-- File systems without an exchange: the link gets a second name, and the new one replaces it.
describe("a link that cannot be exchanged, and is killed", function()
  local dir
  before_each(function() dir = Tempdir.new() end)
  after_each(Tempdir.remove_all)

  local slowly = "files.exchange=fail:-22,"
  local function run(last, x, faults)
    return file_set.elsewhere(dir.path, dir:at "intent", last, { { "a", x }, { "b", x } }, faults,
      nil, "d")
  end

  for _, finish in ipairs { false, true } do
    for _, point in ipairs { "files.exchange.linked", "files.exchange.renamed",
      "files.settle" } do
      it((finish and "is finished after " or "is undone after ") .. point, function()
        assert.equal("survived\n", run("settle", "1", ""))
        local output = run("settle", "2", slowly .. point .. "=kill")
        assert.is_nil(output:find("survived", 1, true))
        local shown = dir:read "d/a"
        assert.equal(shown, dir:read "d/b")
        C.segue__fault_arm(slowly:sub(1, -2))
        local ok, _, message = file_set.recover(dir:read "intent", finish)
        C.segue__fault_arm(nil)
        assert(ok, message)
        local want = finish and "2" or "1"
        assert.same({ want, want }, { dir:read "d/a", dir:read "d/b" })
        assert.equal("survived\n", run("settle", want, ""))
        local names = {}
        for _, name in ipairs(dir:list()) do
          if not name:find "intent" then names[#names + 1] = name end
        end
        assert.equal(3, #names, table.concat(names, " ")) -- the link, its folder, the lock
      end)
    end
  end
end)
