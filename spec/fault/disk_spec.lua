-- SPDX-License-Identifier: MIT
-- The state folder on a disk that is full, or that turned read-only: reloads are applied all the
-- same, the log tells what cannot be kept, and what was kept before serves after a restart.
local faults = require "spec.support.faults"
local segue = require "spec.support.segue"
local wait = require "spec.support.wait"

faults.own_mounts()

local policy = [[
local segue = require "segue"
return { name = "disk", sources = { segue.file "config.yaml" } }
]]

local function pad(n)
  return ("n: %d\npad: %s\n"):format(n, ("x"):rep(20000))
end

local mounted
local over -- a second mount, of the same folder, that is read-only
local function start(options)
  local d = segue.folder { policy = policy, files = { ["config.yaml"] = pad(1) } }
  mounted = d.dir:mkdir ".segue"
  faults.run("mount", "-t", "tmpfs", "-o", options, "tmpfs", mounted)
  d:spawn()
  d:wait_ready()
  wait.until_true(function() return d.dir:read ".segue/last-good.a" end, nil, "the first slot")
  return d
end

local function cleanup()
  local at, times = mounted, over and 2 or 1
  mounted, over = nil, nil
  for _ = 1, at and times or 0 do pcall(faults.run, "umount", "-l", at) end
  segue.cleanup()
end

local function fill(d)
  local file = assert(io.open(d.dir:at ".segue/full", "w"))
  file:setvbuf "no"
  while file:write(("x"):rep(4096)) do end
  file:close()
end

-- Reloads while nothing can be kept; returns the slot that is there.
local function reload_without(d, reason)
  local slot = d.dir:read ".segue/last-good.a"
  for n = 2, 6 do
    local from = #d:log()
    d.dir:save("config.yaml", pad(n))
    assert.equal(200, (d:reload()))
    assert.equal(n, d:config().n)
    if n == 2 then d:wait_log("cannot be kept for a start without its files[^\n]*" .. reason) end
    assert.is_true(from <= #d:log())
  end
  assert.equal(slot, d.dir:read ".segue/last-good.a")
  return slot
end

local function serves_old(d)
  d:crash()
  d.dir:delete "config.yaml"
  d:spawn()
  d:wait_ready()
  assert.equal(1, d:config().n)
  assert.equal("string", type(d:json("/api/v1/status").stale_since))
end

local function serves_new(d, n)
  d.dir:save("config.yaml", pad(n))
  assert.equal(200, (d:reload()))
  assert.equal(n, d:config().n)
  wait.until_true(function()
    for _, slot in ipairs { "a", "b" } do
      if (d.dir:read(".segue/last-good." .. slot) or ""):find("n: " .. n .. "\n", 1, true) then
        return true
      end
    end
  end, nil, "the new generation on disk")
end

describe("the last good generation", function()
  after_each(cleanup)

  it("stays what it was while the disk is full, is served from there, and goes on when there is "
    .. "room", function()
    local d = start "size=1m"
    fill(d)
    reload_without(d, "[Ss]pace")
    serves_old(d)
    d.dir:delete ".segue/full"
    serves_new(d, 7)
    d:crash()
    d.dir:delete "config.yaml"
    d:spawn()
    d:wait_ready()
    assert.equal(7, d:config().n)
  end)

  it("stays what it was while the disk has no room for another file", function()
    local d = start "size=1m,nr_inodes=16"
    for i = 1, 16 do
      local file = io.open(d.dir:at(".segue/inode" .. i), "w")
      if file then file:close() end
    end
    reload_without(d, "[Ss]pace")
    serves_old(d)
  end)

  it("stays what it was while the disk is read-only, and is served when it no longer is", function()
    local d = start "size=1m"
    -- The daemon holds its lock open for writing, so that the disk itself could not be turned.
    faults.run("mount", "--bind", mounted, mounted)
    over = true
    faults.run("mount", "-o", "remount,bind,ro", mounted)
    reload_without(d, "read%-only")
    d:crash()
    d.dir:delete "config.yaml"
    d:spawn()
    assert.equal(4, (d:wait_exit()))
    assert.matches("read%-only", d:log():lower())
    faults.run("umount", "-l", mounted)
    over = nil
    d:spawn()
    d:wait_ready()
    assert.equal(1, d:config().n)
    serves_new(d, 7)
  end)

  it("holds nobody up for long while the disk hangs, not even the end of the daemon", function()
    local d = segue.start { policy = (policy:gsub("}%s*$", [[,
      triggers = { segue.http "127.0.0.1:@PORT@" } }]])), files = { ["config.yaml"] = pad(1) },
      env = { SEGUE_FAULTS = "last_good.sync#2=hang" } }
    d.dir:save("config.yaml", pad(2))
    local status, answer = d:reload()
    assert.equal(200, status)
    assert.equal("applied", answer.outcome)
    assert.equal("SEGUE_ERECORD", answer.errors[1].code)
    assert.matches("was not written to after 5000 ms", answer.errors[1].message)
    assert.equal(2, d:config().n)
    assert.equal(200, d:http("/-/ready").status)
    d:signal "term"
    assert.equal(0, (d:wait_exit(20000)))
    assert.matches("the state folder hangs", d:log())
    d.options.env = nil
    d.dir:delete "config.yaml"
    d:spawn()
    d:wait_ready()
    assert.truthy(d:config().n == 1 or d:config().n == 2) -- written, and not known to be on disk
  end)
end)
