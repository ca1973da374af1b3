-- SPDX-License-Identifier: MIT
-- Files that a policy drops: one of a module, or all with their module; in this process or while no
-- process runs. They stay, are removed, or are as before, together with the rest of the change set.
local cjson = require "cjson"
local files_module = require "spec.support.files_module"
local kill = require "spec.support.killed"
local segue = require "spec.support.segue"
local uv = require "luv"
local wait = require "spec.support.wait"

-- A module with these files. apply fails where out/a has a 9.
local function module(names, removed, more)
  local files = {}
  for name in names:gmatch "%S+" do files[#files + 1] = ('file "%s"'):format(name) end
  return ([[{ kind = "files", removed = %s, files = { %s }, %s
    apply = "ls out > listed; ! grep -q 9 out/a" }]]):format(
    removed and ('"%s"'):format(removed) or "nil", table.concat(files, ", "), more or "")
end

local function modules(list) return files_module.named("{ " .. list .. " }") end

-- Another module, so that a policy without "web" has one.
local other = [[rest = { kind = "files", files = { file "rest" } }]]
local function policy(names, removed, more)
  return modules(other .. (names and ", web = " .. module(names, removed, more) or ""))
end

local function start(text, before, env)
  local files = { ["a.yaml"] = "x: 1\n" }
  for name, content in pairs(before or {}) do files["out/" .. name] = content end
  return segue.start { policy = text, files = files, env = env }
end

local function reload(d, text)
  d.dir:save("reload.lua", text)
  return d:reload()
end

-- The files of the folder without hidden ones, and the contents of the copies that were kept.
local function listed(d)
  local names, kept = {}, {}
  for _, name in ipairs(d.dir:list "out") do
    if name:find "%.changed%-" then kept[#kept + 1] = d.dir:read("out/" .. name)
    elseif name ~= ".segue.lock" and not name:find "%.segue%-" then names[#names + 1] = name end
  end
  return table.concat(names, " "), table.concat(kept, "|")
end

local function module_files(d, name)
  for _, one in ipairs(d:json "/api/v1/files") do
    if one.module == name then return #one.files end
  end
  return 0
end

describe("a file that a policy drops", function()
  after_each(segue.cleanup)

  it("stays where the policy does not say more, and is forgotten", function()
    local d = start(policy "a b")
    assert.equal(200, (reload(d, policy "a")))
    d:wait_log 'a file is no longer of a module.*out/b.*it stays as it is'
    assert.equal("a b rest", (listed(d)))
    assert.equal(1, module_files(d, "web"))
    wait.until_true(function() return not d.dir:read(".segue/files.json"):find "out/b" end)
    d.dir:save("out/b", "by hand\n")
    assert.equal(200, (reload(d, policy "a b")))
    assert.equal("b1\n", d.dir:read "out/b")
    wait.until_true(function() return select(2, listed(d)) == "by hand\n" end)
  end)

  it("is removed with the set, and shown by plan, history and answers", function()
    local d = start(policy("a b", "remove"))
    d.dir:save("reload.lua", policy("a", "remove"))
    local plan = cjson.decode(d:cli("plan", "--json").stdout)
    assert.equal("b1\n", d.dir:read "out/b")
    assert.equal(1, #plan.files)
    assert.matches("/out/b$", plan.files[1].path)
    assert.matches("%-b1\n", plan.files[1].diff)
    local _, answer = d:reload()
    assert.equal("applied", answer.outcome)
    assert.equal("a rest", (listed(d)))
    assert.equal("a\nrest\n", d.dir:read "listed")
    assert.matches("/out/b$", d:json("/api/v1/reloads/" .. answer.id).files[1].path)
    assert.equal(1, module_files(d, "web"))
    d:wait_log 'out/b.*it is removed'
    wait.until_true(function() return not d.dir:read(".segue/files.json"):find "out/b" end)
    assert.equal("", select(2, listed(d)))
  end)

  it("is back after an undo, with its mode", function()
    local d = start(policy("a b", "remove"))
    uv.fs_chmod(d.dir:at "out/b", 384)
    d.dir:save("a.yaml", "x: 9\n")
    assert.equal(500, (reload(d, policy("a", "remove"))))
    assert.equal("a b rest", (listed(d)))
    assert.same({ "a1\n", "b1\n" }, { d.dir:read "out/a", d.dir:read "out/b" })
    assert.equal(384, uv.fs_stat(d.dir:at "out/b").mode % 512)
    assert.matches("b\n", d.dir:read "listed")
  end)

  it("is kept as a copy where another program has changed it", function()
    local d = start(policy("a b", "remove"))
    d.dir:save("out/b", "by hand\n")
    assert.equal(200, (reload(d, policy("a", "remove"))))
    wait.until_true(function() return listed(d) == "a rest" end)
    assert.equal("by hand\n", select(2, listed(d)))
  end)

  it("is as it was before the first write, or gone if it was not there", function()
    local d = start(policy("a b c", "restore"), { b = "before\n" })
    d.dir:save("a.yaml", "x: 2\n")
    assert.equal(200, (d:reload()))
    wait.until_true(function() return select(2, listed(d)) == "before\n" end)
    d:stop()
    d:spawn()
    d:wait_ready()
    assert.equal(200, (reload(d, policy("a", "restore"))))
    assert.equal("a b rest", (listed(d)))
    assert.equal("before\n", d.dir:read "out/b")
    wait.until_true(function() return select(2, listed(d)) == "" end)
  end)

  it("stays where its earlier version is lost, with a warning", function()
    local d = start(policy("a b", "restore"), { b = "before\n" })
    wait.until_true(function() return select(2, listed(d)) == "before\n" end)
    for _, name in ipairs(d.dir:list "out") do
      if name:find "%.changed%-" then d.dir:delete("out/" .. name) end
    end
    assert.equal(200, (reload(d, policy("a", "restore"))))
    assert.equal("b1\n", d.dir:read "out/b")
    d:wait_log 'out/b.*it stays as it is.*the copy of the version from before is gone'
  end)

  it("stays where its earlier version finds no room, and is as before when it does", function()
    local d = start(policy("a b", "restore"), { b = "before\n" })
    wait.until_true(function() return select(2, listed(d)) == "before\n" end)
    d:stop()
    d.dir:save("reload.lua", policy())
    d.options.env = { SEGUE_FAULTS = "files.stage.before=fail:-28" }
    d:spawn()
    d:wait_ready()
    d:wait_log "out/b.*it stays as it is.*the disk is full.*the next reload tries again"
    local failing = modules(other .. [[, bad = { kind = "files", apply = "false",
      files = { file "c" } }]])
    assert.equal(500, (reload(d, failing)))
    for _, one in ipairs(d:json "/api/v1/files") do assert.not_equal("web", one.module) end
    d:stop()
    d.options.env = nil
    d.dir:save("reload.lua", policy())
    d:spawn()
    d:wait_ready()
    wait.until_true(function() return (listed(d)) == "b rest" end)
    assert.equal("before\n", d.dir:read "out/b")
  end)

  it("is not there for the check", function()
    local d = start(policy("a b", "remove"))
    d.dir:save("a.yaml", "x: 2\n")
    assert.equal(422, (reload(d, policy("a b", "remove", 'check = "test ! -e out/b",'))))
    assert.equal(200, (reload(d, policy("a", "remove", 'check = "test ! -e out/b",'))))
    assert.equal("a rest", (listed(d)))
  end)
end)

describe("a module that a policy drops", function()
  after_each(segue.cleanup)

  it("removes its files, and applies that", function()
    local d = start(policy("a b", "remove"))
    d.dir:save("reload.lua", policy())
    local plan = cjson.decode(d:cli("plan", "--json").stdout)
    assert.equal(2, #plan.files)
    local _, answer = d:reload()
    assert.equal("applied", answer.outcome)
    assert.equal("rest", (listed(d)))
    assert.equal("rest\n", d.dir:read "listed")
    assert.equal(1, #d:json "/api/v1/modules")
    assert.equal(0, module_files(d, "web"))
    assert.equal(200, (reload(d, policy("a b", "remove"))))
    assert.equal("a b rest", (listed(d)))
  end)

  it("has its files again where the reload is undone", function()
    local needs = policy("a b", "remove"):gsub("! grep %-q 9 out/a", "test -e out/a")
    local d = start(needs)
    assert.equal(500, (reload(d, policy())))
    assert.equal("a b rest", (listed(d)))
    assert.equal("a\nb\nrest\n", d.dir:read "listed")
    assert.equal(2, module_files(d, "web"))
    d.dir:save("a.yaml", "x: 2\n")
    assert.equal(200, (reload(d, policy("a b", "remove"))))
    assert.equal("b2\n", d.dir:read "out/b")
  end)

  it("gives its files to a module of another name", function()
    local d = start(policy("a b", "remove"))
    d.dir:save("a.yaml", "x: 2\n")
    local fails = modules(other .. ", site = " .. module("a b", "remove", 'check = "false",'))
    assert.equal(422, (reload(d, fails)))
    local _, answer = reload(d, modules(other .. ", site = " .. module("a b", "remove")))
    assert.equal("applied", answer.outcome)
    assert.equal("a b rest", (listed(d)))
    assert.equal("b2\n", d.dir:read "out/b")
    assert.equal("", select(2, listed(d)))
    _, answer = reload(d, modules(other .. ", site = " .. module("a", "remove")))
    assert.equal("applied", answer.outcome)
    assert.equal("a rest", (listed(d)))
  end)

  it("while no process runs is dropped by the next start", function()
    for mode, left in pairs { remove = "rest", restore = "b rest", keep = "a b rest" } do
      local d = start(policy("a b", mode), { b = "before\n" })
      wait.until_true(function() return select(2, listed(d)) == "before\n" end)
      d:stop()
      d.dir:save("reload.lua", policy())
      d:spawn()
      d:wait_ready()
      assert.equal(left, (listed(d)))
      if mode == "restore" then assert.equal("before\n", d.dir:read "out/b") end
      d:wait_log "a file is no longer of a module"
      d:stop()
    end
  end)
end)

describe("a dropped file of a daemon that is killed", function()
  after_each(segue.cleanup)

  it("leaves nothing beside it where its module is dropped too", function()
    local d = start(policy("a b", "remove"))
    d:stop()
    kill.arm(d, "files.settle=kill")
    d:wait_ready()
    d.dir:save("reload.lua", policy())
    kill.ask(d, "/-/reload")
    kill.wait(d, "files.settle")
    assert.truthy(table.concat(d.dir:list "out", " "):find("%.segue%-%x+%-"))
    d:spawn()
    d:wait_ready()
    wait.until_true(function() return #d.dir:list "out" == 2 end, nil, -- rest and the lock
      function() return table.concat(d.dir:list "out", " ") end)
    wait.until_true(function() return not d.dir:read(".segue/files.json"):find "out/[ab]" end)
  end)

  for _, point in ipairs { "files.commit", "files.move", "files.commit#2", "files.dirsync",
    "files.apply", "files.applied", "commit.flip#2", "last_good.write", "files.settle" } do
    it("is as in the last good generation where it is killed at " .. point, function()
      local d = start(policy("a b", "remove"))
      d:stop()
      kill.arm(d, point .. "=kill")
      d:wait_ready()
      d.dir:save("a.yaml", "x: 2\n")
      d.dir:save("reload.lua", policy("a", "remove"))
      kill.ask(d, "/-/reload")
      kill.wait(d, point)
      d.dir:save("a.yaml", "[")
      d.dir:save("reload.lua", policy("a b", "remove"))
      d:spawn()
      d:wait_ready()
      local x = d:config().x
      assert.equal(("a%d\n"):format(x), d.dir:read "out/a")
      if point == "files.settle" then
        assert.equal(2, x)
      else
        assert.same({ 1, "b1\n" }, { x, d.dir:read "out/b" })
      end
      d.dir:save("a.yaml", "x: 3\n")
      assert.equal(200, (reload(d, policy("a", "remove"))))
      wait.until_true(function() return listed(d) == "a rest" end, nil,
        function() return listed(d) .. d:log() end)
    end)
  end
end)
