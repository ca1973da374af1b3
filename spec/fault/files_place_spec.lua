-- SPDX-License-Identifier: MIT
-- Rendered files at places that are unlike an ordinary folder: other file systems, files that
-- another program removes or edits during the commit.
local faults = require "spec.support.faults"
local files_module = require "spec.support.files_module"
local kill = require "spec.support.killed"
local process = require "spec.support.process"
local segue = require "spec.support.segue"
local tempdir = require "spec.support.tempdir"
local uv = require "luv"
local wait = require "spec.support.wait"

tempdir.on_disk()

faults.own_mounts()

local mounts = {}

local function mount(...)
  faults.run("mount", ...)
  mounts[#mounts + 1] = select(select("#", ...), ...)
end

local function cleanup()
  for i = #mounts, 1, -1 do pcall(faults.run, "umount", "-l", mounts[i]) end
  mounts = {}
  segue.cleanup()
end

local put, message_of = files_module.put, files_module.message_of

-- The files of the list; the command fails for the value 9, and for each undo if there is one.
local function policy(files, more)
  local list = {}
  for i, name in ipairs(files) do
    list[i] = ('{ to = "%s", content = function(config) return config.x .. "\\n" end }')
      :format(name)
  end
  return ([[
local segue = require "segue"
return {
  sources = { segue.file "a.yaml" },
  triggers = { segue.signal "HUP" },
  modules = { web = { kind = "files", files = { %s }, %s } },
}]]):format(table.concat(list, ", "), more or 'apply = "! grep -q 9 ' .. files[1] .. '"')
end

-- All files have this value.
local function have(d, files, x)
  for _, name in ipairs(files) do assert.equal(x .. "\n", d.dir:read(name), name) end
end

-- The names in a folder without those of segue.
local function names(d, folder)
  local list = {}
  for _, name in ipairs(d.dir:list(folder)) do
    if name ~= ".segue.lock" and name ~= "work" then list[#list + 1] = name end
  end
  return table.concat(list, " ")
end

describe("rendered files on several file systems", function()
  after_each(cleanup)

  local files = { "merged/a", "merged/new/b", "memory/c", "plain/d" }

  -- An overlay whose lower folder has the file a already, and a file system in memory.
  local function start()
    local d = segue.folder { policy = policy(files), files = { ["a.yaml"] = "x: 1\n" } }
    for _, name in ipairs { "layers", "merged", "memory", "plain" } do d.dir:mkdir(name) end
    mount("-t", "tmpfs", "tmpfs", d.dir:at "layers")
    mount("-t", "tmpfs", "tmpfs", d.dir:at "memory")
    for _, name in ipairs { "layers/lower", "layers/upper", "layers/work" } do d.dir:mkdir(name) end
    d.dir:write("layers/lower/a", "theirs\n")
    uv.fs_chmod(d.dir:at "layers/lower/a", 416)
    mount("-t", "overlay", "-o", ("lowerdir=%s,upperdir=%s,workdir=%s"):format(
      d.dir:at "layers/lower", d.dir:at "layers/upper", d.dir:at "layers/work"), "overlay",
      d.dir:at "merged")
    d:spawn()
    d:wait_ready()
    return d
  end

  it("change as one set, with an overlay among them, and are undone as one", function()
    local d = start()
    have(d, files, 1)
    assert.equal(416, uv.fs_stat(d.dir:at "merged/a").mode % 512)
    assert.equal("theirs\n", d.dir:read "layers/lower/a")
    assert.equal(500, (put(d, 9)))
    have(d, files, 1)
    assert.equal(200, (put(d, 2)))
    have(d, files, 2)
    d.dir:save("merged/a", "by hand\n")
    d:wait_log "another program has changed a file"
    assert.equal(200, (put(d, 3)))
    have(d, files, 3)
    wait.until_true(function() return select(2, names(d, "merged"):gsub("changed", "")) == 2 end)
    assert.equal("new", names(d, "merged"):match "new$")
    wait.until_true(function() return names(d, "memory") == "c" end)
    d:stop()
  end)

  it("are old as a whole where segue is killed between two of them", function()
    for n = 1, #files do
      local d = start()
      d:stop()
      kill.arm(d, ("files.dirsync#%d=kill"):format(n))
      d:wait_ready()
      d.dir:save("a.yaml", "x: 2\n")
      kill.ask(d, "/-/reload")
      kill.wait(d, "files.dirsync")
      d.dir:save("a.yaml", "x: 1\n")
      d:spawn()
      d:wait_ready()
      have(d, files, 1)
      d:stop()
      cleanup()
    end
  end)
end)

describe("a rendered file that another program touches during the commit", function()
  after_each(cleanup)

  local files = { "out/a", "out/b" }

  -- Runs change while the daemon is stopped at the move of the n-th file.
  local function during(n, change)
    local d = segue.start { policy = policy(files), files = { ["a.yaml"] = "x: 1\n" } }
    d:stop()
    kill.arm(d, ("files.exchange#%d=stop"):format(n))
    d:wait_ready()
    d.dir:save("a.yaml", "x: 2\n")
    local asked = process.start { segue.binary, "reload", "-c", d.dir:at "reload.lua",
      cwd = d.dir.path }
    wait.until_true(function() return process.state(d.process.pid) == "T" end)
    change(d)
    d.process:kill "cont"
    assert.equal(4, (asked:wait_exit()))
    return d, asked.output
  end

  it("keeps the edit, and the other file is as it was", function()
    for n, name in ipairs(files) do
      local other = files[3 - n]
      local d, output = during(n, function(d) d.dir:save(name, "edited\n") end)
      assert.matches("/" .. name .. " was changed by another program", output)
      assert.equal("edited\n", d.dir:read(name))
      assert.equal("1\n", d.dir:read(other))
      assert.equal(200, (put(d, 3)))
      have(d, files, 3)
      wait.until_true(function() return names(d, "out"):find "changed" end)
      d:stop()
    end
  end)

  it("stays removed, and the other file is as it was", function()
    for n, name in ipairs(files) do
      local other = files[3 - n]
      local d, output = during(n, function(d) d.dir:delete(name) end)
      assert.matches("/" .. name .. " .*by another program", output)
      assert.is_nil(d.dir:read(name))
      assert.equal("1\n", d.dir:read(other))
      assert.equal(200, (put(d, 3)))
      have(d, files, 3)
      d:stop()
    end
  end)

  it("stays a folder, a link or an immutable file", function()
    local ways = {
      { "folder", function(d) d.dir:delete "out/b" d.dir:mkdir "out/b" end,
        function(d) uv.fs_rmdir(d.dir:at "out/b") end },
      { "link", function(d) d.dir:delete "out/b" d.dir:link("a", "out/b") end,
        function(d) assert.equal("a", uv.fs_readlink(d.dir:at "out/b")) d.dir:delete "out/b" end },
      { "immutable", function(d) faults.run("chattr", "+i", d.dir:at "out/b") end,
        function(d) faults.run("chattr", "-i", d.dir:at "out/b") end },
    }
    for _, way in ipairs(ways) do
      local d, output = during(2, way[2])
      assert.matches("/out/b", output, way[1])
      assert.equal("1\n", d.dir:read "out/a", way[1])
      way[3](d)
      local status, answer = put(d, 3)
      assert.equal(200, status, way[1] .. message_of(answer))
      have(d, files, 3)
      d:stop()
    end
  end)
end)
