-- SPDX-License-Identifier: MIT
-- Another program changes files that a module has rendered: reported, restored, or adopted, as the
-- policy wants, and never replaced without a copy.
local kill = require "spec.support.killed"
local http = require "spec.support.http"
local segue = require "spec.support.segue"
local uv = require "luv"
local wait = require "spec.support.wait"

local policy = [[
local segue = require "segue"
local function file(name, mode)
  return { to = "out/" .. name, mode = mode, content = function(config)
    return name .. "=" .. config.x .. "\n"
  end }
end
return {
  sources = { segue.file "a.yaml" },
  triggers = { segue.signal "HUP" },
  modules = { web = { kind = "files", drift = @DRIFT@, files = { file("a", "0644"), file "b" },
    apply = "cat out/a out/b > applied; echo run >> runs" } },
}]]

local function start(mode, env)
  return segue.start { policy = policy:gsub("@DRIFT@", mode and ('"%s"'):format(mode) or "nil"),
    files = { ["a.yaml"] = "x: 1\n" }, env = env }
end

local function web(d) return d:json("/api/v1/modules")[1] end

local function drifted(d, count)
  wait.until_true(function() return web(d).drifted == count end, nil, function() return d:log() end)
end

local function runs(d) return select(2, (d.dir:read "runs" or ""):gsub("run\n", "")) end

-- The contents of the copies that were kept, sorted.
local function kept(d)
  local list = {}
  for _, name in ipairs(d.dir:list "out") do
    if name:find "%.changed%-" then list[#list + 1] = d.dir:read("out/" .. name) end
  end
  table.sort(list)
  return list
end

-- Reports come within a tenth of a second after a start has settled its set.
local function ready(d)
  wait.until_true(function() return d.dir:read(".segue/files.json") end)
  return d
end

describe("a file that another program changes", function()
  after_each(segue.cleanup)

  it("is reported in log, status, metrics and events, and stays", function()
    local d = ready(start())
    d.dir:save("out/a", "by hand\n")
    d:wait_log 'another program has changed a file.*out/a.*its content was changed'
    drifted(d, 1)
    assert.matches("/out/a: its content was changed$", web(d).drift)
    local metrics = d:control("/metrics").body
    assert.matches('segue_module_drifted_files{module="web"} 1\n', metrics)
    assert.matches('segue_module_drifts_total{module="web"} 1\n', metrics)
    local stream = http.connect { socket = d:socket() }
    stream:write(http.format { path = "/api/v1/events", headers = { ["Last-Event-ID"] = "0" } })
    stream:read_until 'event: drift\ndata: {"module":"web","files":1,"what":"[^"]*out/a: its'
    stream:close()
    local status, answer = d:reload()
    assert.same({ 200, "unchanged" }, { status, answer.outcome })
    assert.same({ "by hand\n", 1 }, { d.dir:read "out/a", runs(d) })
    d.dir:save("out/a", "a=1\n")
    drifted(d, 0)
    d.dir:save("out/a", "by hand\n")
    drifted(d, 1)
    d.dir:save("a.yaml", "x: 2\n")
    assert.equal(200, (d:reload()))
    drifted(d, 0)
    assert.equal("a=2\n", d.dir:read "out/a")
    assert.same({ "by hand\n" }, kept(d))
  end)

  it("is reported for each way to change it", function()
    local d = ready(start())
    local path = d.dir:at "out/a"
    local ways = {
      { "its content was changed", function() d.dir:write("out/a", "x=1\n") end },
      { "its mode was changed from 0644 to 0600", function() uv.fs_chmod(path, 384) end },
      { "its owner was changed from 0:0 to 1:1", function() uv.fs_chown(path, 1, 1) end },
      { "it was removed", function() os.remove(path) end },
      { "it was replaced by a symbolic link", function()
        os.remove(path)
        uv.fs_symlink("b", path)
      end },
      { "it was replaced by a folder.*is rejected: move it away", function()
        os.remove(path)
        uv.fs_mkdir(path, 493)
      end },
    }
    for _, way in ipairs(ways) do
      local from = #d:log()
      way[2]()
      d:wait_log("another program has changed a file.*out/a.*" .. way[1], nil, from)
      if way[1]:find "folder" then uv.fs_rmdir(path) end
      os.remove(path)
      d.dir:save("out/a", "a=1\n")
      uv.fs_chmod(path, 420)
      drifted(d, 0)
    end
    assert.equal(1, runs(d))
    assert.same({}, kept(d))
  end)

  it("is noticed by a plain reload where the watch reports nothing", function()
    local d = ready(start(nil, { SEGUE_FAULTS = "watch.open=fail,watch.scan=hang",
      SEGUE_TEST_SCAN_LIMIT_MS = "600000" }))
    -- The scan that follows the start may find the first change; only a reload finds the second.
    for count, name in ipairs { "out/a", "out/b" } do
      d.dir:write(name, "by hand\n")
      local _, answer = d:reload()
      assert.equal("unchanged", answer.outcome)
      drifted(d, count)
      assert.equal("by hand\n", d.dir:read(name))
    end
  end)

  it("is restored at once, with a copy of the other version, and applied", function()
    local d = ready(start "restore")
    uv.fs_chmod(d.dir:at "out/b", 384)
    wait.until_true(function() return runs(d) == 2 end, nil, function() return d:log() end)
    assert.equal(420, assert(uv.fs_stat(d.dir:at "out/b")).mode % 4096)
    d.dir:save("out/a", "by hand\n")
    wait.until_true(function() return runs(d) == 3 end, nil, function() return d:log() end)
    assert.equal("a=1\n", d.dir:read "out/a")
    assert.equal("a=1\nb=1\n", d.dir:read "applied")
    drifted(d, 0)
    wait.until_true(function() return #kept(d) == 2 end)
    assert.same({ "b=1\n", "by hand\n" }, kept(d))
    -- The history has the reload a moment after the files are in place.
    local last
    wait.until_true(function()
      last = d:json("/api/v1/reloads?limit=1")[1]
      return last.cause:find("out/a was changed by another program", 1, true)
    end, nil, function() return last.cause .. "\n" .. d:log() end)
    assert.same({ "applied", "watch" }, { last.outcome, last.trigger })
  end)

  it("is restored by a start, and planned before", function()
    local d = ready(start "restore")
    d:stop()
    d.dir:save("out/a", "by hand\n")
    d:spawn()
    d:wait_ready()
    assert.same({ "a=1\n", 2 }, { d.dir:read "out/a", runs(d) })
    wait.until_true(function() return #kept(d) == 1 end)
  end)

  it("is adopted until its rendered content changes, over restarts too", function()
    local d = ready(start "adopt")
    d.dir:save("out/a", "by hand\n")
    d:wait_log "another program has changed a file"
    drifted(d, 0)
    d:stop()
    d:spawn()
    d:wait_ready()
    assert.equal(200, (d:reload "?force=1"))
    assert.same({ "by hand\n", "b=1\n", 1 }, { d.dir:read "out/a", d.dir:read "out/b", runs(d) })
    assert.equal(0, web(d).drifted)
    assert.is_nil(d:log():find("another program", 1, true))
    local rows = d:json "/api/v1/files"[1].files
    assert.same({ "adopted", 8, "in place" }, { rows[1].state, rows[1].found.size, rows[2].state })
    d.dir:save("a.yaml", "x: 2\n")
    assert.equal(200, (d:reload()))
    assert.same({ "a=2\n", 2 }, { d.dir:read "out/a", runs(d) })
    wait.until_true(function() return #kept(d) == 1 end)
    assert.same({ "by hand\n" }, kept(d))
  end)

  -- Each step of the reload that restores: files, command, record, settle. The start reaches some
  -- of them too: the second time is that reload.
  local of_start = { ["files.scan"] = true, ["prepare.1"] = true, ["commit.1"] = true,
    ["settle.record"] = true }
  local mark = kill.mark("#long", { "files.exchange", "files.apply", "files.settle" })
  for _, point in ipairs { "files.scan", "files.stage.open", "files.stage.write",
    "files.stage.sync", "files.commit", "files.keep.link", "files.exchange", "files.dirsync",
    "files.apply", "files.applied", "prepare.1", "commit.1", "last_good.write", "settle.record",
    "files.settle" } do
    it("is restored, and kept as a copy, where segue is killed at " .. point .. mark(point),
      function()
        local d = segue.start { policy = policy:gsub("@DRIFT@", '"restore"'),
          files = { ["a.yaml"] = "x: 1\n" } }
        d:stop()
        kill.arm(d, point .. (of_start[point] and "#2=kill" or "#1=kill"))
        d:wait_ready()
        d.dir:save("out/a", "by hand\n")
        kill.wait(d, point)
        d:spawn()
        d:wait_ready()
        wait.until_true(function()
          return #kept(d) >= 1 and d.dir:read "out/a" == "a=1\n"
            and d.dir:read "applied" == "a=1\nb=1\n"
        end, nil, function() return d:log() end)
        assert.equal("by hand\n", kept(d)[1])
        drifted(d, 0)
      end)
  end

  it("is no drift where segue itself changes it", function()
    local d = ready(start "restore")
    for x = 2, 8 do
      d.dir:save("a.yaml", ("x: %d\n"):format(x))
      assert.equal(200, (d:reload()))
    end
    drifted(d, 0)
    assert.equal(8, runs(d))
    assert.is_nil(d:log():find("another program", 1, true))
    assert.same({}, kept(d))
  end)
end)
