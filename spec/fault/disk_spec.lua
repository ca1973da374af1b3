-- SPDX-License-Identifier: MIT
-- The state folder on a disk that is full, or that turned read-only: reloads are applied all the
-- same, the log names the data that cannot be written, and the older state serves after a restart.
local cjson = require "cjson"
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
local function mount(options, text)
  local d = segue.folder { policy = text or policy, files = { ["config.yaml"] = pad(1) } }
  mounted = d.dir:mkdir ".segue"
  faults.run("mount", "-t", "tmpfs", "-o", options .. ",mode=700", "tmpfs", mounted)
  d:spawn()
  return d
end

local function start(options)
  local d = mount(options)
  d:wait_ready()
  wait.until_true(function() return d.dir:read ".segue/last-good.a" end, nil, "the first slot")
  return d
end

-- The daemon holds its lock open for writing, so that the disk itself could not be turned.
local function read_only()
  faults.run("mount", "--bind", mounted, mounted)
  over = true
  faults.run("mount", "-o", "remount,bind,ro", mounted)
end

local function writable()
  faults.run("umount", "-l", mounted)
  over = nil
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

-- An answer of 200 with an error among its errors means that a write took longer than its limit: it
-- comes later.
local function wait_on_disk(d, n)
  wait.until_true(function()
    for _, slot in ipairs { "a", "b" } do
      if (d.dir:read(".segue/last-good." .. slot) or ""):find("n: " .. n .. "\n", 1, true) then
        return true
      end
    end
  end, nil, function() return "generation " .. n .. " on disk: " .. d:log() end)
end

local function serves_new(d, n)
  d.dir:save("config.yaml", pad(n))
  assert.equal(200, (d:reload()))
  assert.equal(n, d:config().n)
  wait_on_disk(d, n)
end

describe("the last good generation", function()
  after_each(cleanup)

  it("stays the same while the disk is full, and is written again when there is room", function()
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

  it("stays what it was while files may not be so large, which does not end the daemon", function()
    local d = start "size=1m"
    faults.run("prlimit", "--pid", tostring(d.process.pid), "--fsize=8192:")
    d.dir:write("config.yaml", pad(2))
    local from = #d:log()
    assert.equal("applied", select(2, d:reload()).outcome)
    d:wait_log("cannot be kept for a start without its files.*file too large", nil, from)
    assert.is_true(d.process:running(), d.process:describe())
    faults.run("prlimit", "--pid", tostring(d.process.pid), "--fsize=unlimited:")
    serves_new(d, 3)
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

  it("stays the same while the disk is read-only, and is served when it is writable", function()
    local d = start "size=1m"
    read_only()
    reload_without(d, "read%-only")
    d:crash()
    d.dir:delete "config.yaml"
    d:spawn()
    assert.equal(4, (d:wait_exit()))
    assert.matches("read%-only", d:log():lower())
    writable()
    d:spawn()
    d:wait_ready()
    assert.equal(1, d:config().n)
    serves_new(d, 7)
  end)

  it("delays no caller for long while the disk hangs, nor the end of the daemon", function()
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

describe("an operator's decision", function()
  after_each(cleanup)

  local function post(d, path)
    local r = d:control { method = "POST", path = path, deadline_ms = 30000,
      headers = { Accept = "application/json" } }
    local ok, answer = pcall(cjson.decode, r.body)
    return r.status, ok and answer or r.body, r.body
  end

  local function status(d) return d:json "/api/v1/status" end

  local by_operator = policy:gsub("}%s*$", [[,
    confirm = { by = "operator", within = "600s" } }]])

  -- Both slots of the state are there; n = 2 is live and waits.
  local function waiting(options)
    local d = mount(options, by_operator)
    wait.until_true(function()
      local ok, code = pcall(post, d, "/api/v1/confirm")
      return ok and code == 200
    end, 20000, function() return "the start to confirm: " .. d:log() end)
    d:wait_ready()
    d.dir:save("config.yaml", pad(2))
    assert.equal("unconfirmed", select(2, d:reload()).outcome)
    return d
  end

  for what, disk in pairs {
    ["full"] = { spoil = fill, mend = function(d) d.dir:delete ".segue/full" end,
      why = "no space left" },
    ["read-only"] = { spoil = read_only, mend = writable, why = "read%-only" },
  } do
    it("to freeze is none while the disk is " .. what .. ", and one afterwards", function()
      local d = start "size=1m"
      disk.spoil(d)
      local code, _, text = post(d, "/api/v1/freeze?why=x")
      assert.equal(500, code)
      assert.matches("nothing was changed", text)
      assert.matches(disk.why, text)
      assert.equal(cjson.null, status(d).frozen)
      d.dir:save("config.yaml", pad(2))
      assert.equal(200, (d:reload()))
      assert.equal(2, d:config().n)
      disk.mend(d)
      assert.equal(200, (post(d, "/api/v1/freeze?why=x")))
      d:crash()
      d:spawn()
      d:wait_ready()
      assert.equal("x", status(d).frozen.why)
    end)

    it("to confirm reports what cannot be stored while the disk is " .. what
      .. ", and what was not kept is asked for again", function()
      local d = waiting "size=1m"
      disk.spoil(d)
      local code, answer = post(d, "/api/v1/confirm")
      assert.equal(200, code)
      assert.equal("applied", answer.outcome)
      assert.is_true(#answer.errors > 0)
      for _, e in ipairs(answer.errors) do
        assert.equal("SEGUE_ERECORD", e.code)
        assert.matches(disk.why, e.message)
      end
      assert.equal(2, d:config().n)
      assert.equal(cjson.null, status(d).unconfirmed)
      d:crash()
      disk.mend(d)
      d:spawn()
      d:wait_ready()
      assert.equal(2, d:config().n)
      assert.equal("operator", status(d).unconfirmed.by)
      assert.equal(200, (post(d, "/api/v1/confirm")))
      wait_on_disk(d, 2)
      d:crash()
      d.dir:delete "config.yaml"
      d:spawn()
      d:wait_ready()
      assert.equal(2, d:config().n)
      assert.equal(cjson.null, status(d).unconfirmed)
    end)
  end

  it("cannot be requested where it cannot be stored: nothing goes live", function()
    local d = waiting "size=1m"
    assert.equal(200, (post(d, "/api/v1/confirm")))
    read_only()
    d.dir:save("config.yaml", pad(3))
    local code, answer = d:reload()
    assert.equal(500, code)
    assert.matches("cannot be written: read%-only", answer.errors[1].message)
    assert.equal(2, d:config().n)
    writable()
    assert.equal("unconfirmed", select(2, d:reload "?force=1").outcome)
    assert.equal(3, d:config().n)
  end)
end)
