-- SPDX-License-Identifier: MIT
-- Accidents of the files of a running daemon: folders renamed, mounts that come and go,
-- ConfigMaps swapped at full speed, broken disks, full ones, read-only ones, permissions. The
-- running configuration stays until a better one is there.
local faults = require "spec.support.faults"
local http = require "spec.support.http"
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

local function unmount(path)
  faults.run("umount", "-l", path)
  for i = #mounts, 1, -1 do
    if mounts[i] == path then table.remove(mounts, i) break end
  end
end

local function cleanup()
  for i = #mounts, 1, -1 do pcall(faults.run, "umount", "-l", mounts[i]) end
  mounts = {}
  segue.cleanup()
end

local function policy(sources, more)
  return ([[
local segue = require "segue"
return {
  name = "fs",
  sources = { %s },
  triggers = { segue.watch { rescan = "200ms" } },
  debounce = { min = "5ms", max = "100ms" },
  %s
}
]]):format(sources, more or "")
end

local function start(files, sources, options)
  options = options or {}
  options.files = files
  options.policy = policy(sources or 'segue.file "config.yaml"', options.more)
  return segue.start(options)
end

local function live(d, n, deadline_ms)
  d:wait_config(function(config) return config.n == n end, deadline_ms)
end

-- The reload fails or is rejected with the sentence; the live configuration stays.
local function fails(d, sentence, n)
  local status, answer = d:reload()
  assert.equal(500, status, answer.outcome)
  assert.equal("failed", answer.outcome)
  local reported = answer.errors[1].message
  assert.matches(sentence, reported)
  assert.equal(n, d:config().n)
  assert.equal(200, d:control("/-/ready").status)
  return reported
end

describe("files that belong together", function()
  after_each(cleanup)

  -- With so many files, a swap during a read is likely to come between two of them.
  local COUNT = 24

  -- All values that the policy sees must be complete and of one version.
  local check = ([[check = function(next)
    for i = 1, %d do
      local file = next["f" .. i]
      if file.version ~= next.f1.version or #file.pad ~= 500 then
        return nil, "MIXED " .. next.f1.version .. " " .. file.version
      end
    end
    return true
  end,]]):format(COUNT)

  local function files(version)
    local texts = {}
    for i = 1, COUNT do
      texts[("f%02d.yaml"):format(i)] = ("f%d: { version: %d, pad: %s }\n"):format(i, version,
        ("x"):rep(500))
    end
    return texts
  end

  local each = {}
  for i = 1, COUNT do each[i] = ('segue.file "f%02d.yaml"'):format(i) end

  -- The next versions are swapped in while a reload runs. If the engine did not check the files a
  -- second time after reading them, dozens of reloads would see two versions.
  for _, sources in ipairs { table.concat(each, ", "), 'segue.dir "*.yaml"' } do
    it("are never live in two versions, with " .. sources:sub(1, 10), function()
      local d = segue.folder { policy = policy(sources, check) }
      d.dir:configmap(files(1))
      d:spawn()
      d:wait_ready()
      local control = http.connect { socket = d:socket() }
      local version, applied = 1, 0
      for _ = 1, 300 do
        control:write(http.format { method = "POST", path = "/-/reload" })
        for _ = 1, 3 do
          version = version + 1
          d.dir:configmap(files(version))
          wait.pump()
        end
        local r = control:read_response(30000)
        assert.is_true(r.status == 200 or r.status == 500, r.body)
        if r.status == 200 then applied = applied + 1 end
      end
      assert.is_true(applied > 0)
      d:wait_config(function(config) return config.f1.version == version end, 20000)
      assert.equal(version, d:config()["f" .. COUNT].version)
      assert.is_nil(d:log():match "MIXED[^\n]*")
    end)
  end
end)

describe("a parent folder", function()
  after_each(cleanup)

  it("that is renamed away and replaced is followed, however far above", function()
    local d = segue.folder { policy = policy 'segue.file "one/two/three/config.yaml"' }
    d.dir:write("one/two/three/config.yaml", "n: 1\n")
    d:spawn()
    d:wait_ready()
    for i, folder in ipairs { "one", "one/two", "one/two/three", "one" } do
      assert(os.rename(d.dir:at(folder), d.dir:at("gone" .. i)))
      d.dir:write("next" .. i .. "/" .. ("one/two/three/config.yaml"):sub(#folder + 2),
        ("n: %d\n"):format(i + 1))
      assert(os.rename(d.dir:at("next" .. i), d.dir:at(folder)))
      live(d, i + 1)
    end
  end)
end)

describe("a mount", function()
  after_each(cleanup)

  it("over the file is noticed, also a write through it, and its end", function()
    local d = start { ["config.yaml"] = "n: 1\n", ["other/real.yaml"] = "n: 2\n" }
    mount("--bind", d.dir:at "other/real.yaml", d.dir:at "config.yaml")
    live(d, 2)
    d.dir:write("other/real.yaml", "n: 3\n") -- in place: the same file below both names
    live(d, 3)
    unmount(d.dir:at "config.yaml")
    live(d, 1)
  end)

  it("over the folder is noticed, also saves by rename in it, and its end", function()
    local d = start({ ["conf/config.yaml"] = "n: 1\n", ["other/config.yaml"] = "n: 2\n" },
      'segue.file "conf/config.yaml"')
    mount("--bind", d.dir:at "other", d.dir:at "conf")
    live(d, 2)
    d.dir:save("other/config.yaml", "n: 3\n")
    live(d, 3)
    unmount(d.dir:at "conf")
    live(d, 1)
  end)

  it("that disappears leaves the last good configuration, until it is back", function()
    local d = segue.folder { policy = policy 'segue.file "conf/config.yaml"' }
    d.dir:mkdir "conf"
    mount("-t", "tmpfs", "tmpfs", d.dir:at "conf")
    d.dir:write("conf/config.yaml", "n: 1\n")
    d:spawn()
    d:wait_ready()
    unmount(d.dir:at "conf")
    d:wait_log "config.yaml: it does not exist"
    fails(d, "it does not exist", 1)
    mount("-t", "tmpfs", "tmpfs", d.dir:at "conf")
    d.dir:write("conf/config.yaml", "n: 2\n")
    live(d, 2)
  end)
end)

describe("a disk that", function()
  after_each(cleanup)

  it("fails to read is reported with the file and the reason", function()
    local d = start { ["config.yaml"] = "n: 1\n" }
    d.dir:link("/proc/self/mem", "config.yaml") -- its first page cannot be read: EIO
    assert.matches("config%.yaml", fails(d, "[Ii]/?[Oo]", 1))
    d.dir:save("config.yaml", "n: 2\n")
    live(d, 2)
  end)

  it("is full does not stop reloads; a state folder that cannot be created is reported", function()
    local d = segue.folder { policy = policy 'segue.file "config.yaml"' }
    mount("-t", "tmpfs", "-o", "size=1m,nr_inodes=24", "tmpfs", d.dir.path)
    d.dir:write("reload.lua", d.options.policy)
    d.dir:write("config.yaml", "n: 1\n")
    d:spawn()
    d:wait_ready()
    local full = assert(io.open(d.dir:at "full", "w"))
    full:setvbuf "no"
    while full:write(("x"):rep(4096)) do end
    full:close()
    for i = 1, 20 do
      -- In the block that the file has: one that is cut to nothing first may not get it again.
      local file = assert(io.open(d.dir:at "config.yaml", "r+"))
      assert(file:write(("n: %d\n"):format(i % 10)))
      assert(file:close())
      assert.equal(200, (d:reload()))
      assert.equal(i % 10, d:config().n)
    end
    d:stop()
    d.dir:delete ".segue"
    for i = 1, 24 do
      local file = io.open(d.dir:at("inode" .. i), "w")
      if file then file:close() end
    end
    d:spawn()
    assert.equal(4, (d:wait_exit()))
    assert.matches("state folder %S+%.segue.*[Ss]pace", d:log())
  end)

  it("turns read-only does not stop reloads; a start there names the remedy", function()
    local d = segue.folder { policy = policy 'segue.file "conf/config.yaml"' }
    d.dir:mkdir "conf"
    mount("-t", "tmpfs", "tmpfs", d.dir:at "conf")
    d.dir:write("conf/config.yaml", "n: 1\n")
    d:spawn()
    d:wait_ready()
    faults.run("mount", "-o", "remount,ro", d.dir:at "conf")
    assert.equal(200, (d:reload "?force=1"))
    faults.run("mount", "-o", "remount,rw", d.dir:at "conf")
    d.dir:save("conf/config.yaml", "n: 2\n")
    live(d, 2)
    d:stop()
    d.dir:delete ".segue"
    mount("--bind", d.dir.path, d.dir.path)
    faults.run("mount", "-o", "remount,bind,ro", d.dir.path)
    d:spawn()
    assert.equal(4, (d:wait_exit()))
    assert.matches("read%-only", d:log():lower())
    assert.matches("%-%-state", d:log())
  end)
end)

describe("permission", function()
  after_each(cleanup)

  it("that is removed and created again is logged and watched", function()
    local d = segue.folder { policy = policy 'segue.file "conf/config.yaml"' }
    d.dir:write("conf/config.yaml", "n: 1\n")
    if uv.getuid() == 0 then -- root may read everything: another user runs it
      faults.run("cp", "-r", "lua", d.dir:at "lua") -- which may lie in root's own folder
      d.options.args = { "--lua-dir", d.dir:at "lua" }
      faults.run("chown", "-R", "65534:65534", d.dir.path)
      d.options.under = { "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups" }
    end
    d:spawn()
    d:wait_ready()
    uv.fs_chmod(d.dir:at "conf/config.yaml", 0)
    assert.matches("config%.yaml", fails(d, "[Pp]ermission", 1))
    uv.fs_chmod(d.dir:at "conf", 0)
    fails(d, "[Pp]ermission", 1)
    uv.fs_chmod(d.dir:at "conf", 493)
    d.dir:save("conf/config.yaml", "n: 2\n")
    uv.fs_chmod(d.dir:at "conf/config.yaml", 420)
    live(d, 2)
  end)
end)

describe("a link", function()
  after_each(cleanup)

  it("that is circular or dangling is logged, and watched once it has a target", function()
    local d = start { ["config.yaml"] = "n: 1\n" }
    d.dir:link("circle", "config.yaml")
    d.dir:link("config.yaml", "circle")
    fails(d, "circle", 1)
    d.dir:link("nowhere", "config.yaml")
    fails(d, "not exist", 1)
    d.dir:write("nowhere", "n: 2\n")
    live(d, 2)
  end)
end)
