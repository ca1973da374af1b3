-- SPDX-License-Identifier: MIT
-- The messages that the daemon sends to the service manager over $NOTIFY_SOCKET.
local http = require "spec.support.http"
local notify = require "spec.support.notify"
local process = require "spec.support.process"
local segue = require "spec.support.segue"
local tempdir = require "spec.support.tempdir"
local uv = require "luv"
local wait = require "spec.support.wait"

local policy = [[
local segue = require "segue"
return {
  name = "unit",
  sources = { segue.file "config.yaml" },
  triggers = { segue.signal "HUP", segue.watch(), segue.poll "100ms" },
}
]]
local files = { ["config.yaml"] = "a: 1\n" }

local function monotonic_usec()
  return uv.hrtime() / 1000
end

describe("the service manager", function()
  local manager, dir
  before_each(function()
    dir = tempdir.new()
    manager = notify.listen(dir:at "notify")
  end)
  after_each(function()
    local ok, err = pcall(segue.cleanup)
    notify.close_all()
    if not ok then error(err, 0) end
  end)

  local function start(options)
    options.policy, options.files = options.policy or policy, options.files or files
    options.env = options.env or {}
    options.env.NOTIFY_SOCKET = options.env.NOTIFY_SOCKET or manager.address
    return segue.start(options)
  end

  it("gets READY after the first load, with the live generation in words", function()
    start {}
    local _, message = manager:wait "^READY=1\n"
    assert.matches("STATUS=applied: generation 1 is live %(reload 1, ", message)
    assert.equal(0, manager:count "RELOADING")
  end)

  it("is notified at an abstract socket too", function()
    local abstract = notify.listen("@segue-spec-" .. uv.os_getpid())
    start { env = { NOTIFY_SOCKET = abstract.address } }
    abstract:wait "^READY=1\n"
  end)

  it("gets RELOADING with the monotonic clock, and READY at the end", function()
    local d = start {}
    local from = manager:wait "^READY=1"
    local before = monotonic_usec()
    d:signal "hup"
    local at, reloading = manager:wait("^RELOADING=1", from + 1)
    local usec = tonumber(reloading:match "\nMONOTONIC_USEC=(%d+)\n")
    assert.is_true(usec >= math.floor(before) and usec <= monotonic_usec(), reloading)
    local _, ready = manager:wait("^READY=1", at)
    assert.matches("STATUS=unchanged: generation 1 stays live", ready)
  end)

  it("gets the outcome of each reload, also of an automatic one", function()
    local d = start {}
    local from = manager:wait "^READY=1"
    d.dir:save("config.yaml", "a: 2\n")
    from = manager:wait("^RELOADING=1", from)
    from = manager:wait("^READY=1\nSTATUS=applied: generation 2 is live", from)
    d.dir:save("config.yaml", "a: [\n")
    local _, text = manager:wait("STATUS=rejected: generation 2 stays live", from)
    assert.matches("config%.yaml:%d+:%d+: ", text)
    assert.equal(1, select(2, text:gsub("STATUS=[^\n]*$", "")))
  end)

  it("gets no report of polls that find no change, nor of plans", function()
    local d = start {}
    manager:wait "^READY=1"
    assert.equal(0, d:cli("plan").code)
    local polls = function()
      return tonumber(d:control("/metrics").body:match 'segue_triggers_total{trigger="poll"} (%d+)')
    end
    local enough = polls() + 5
    wait.until_true(function() return polls() >= enough end)
    assert.equal(0, manager:count "RELOADING")
    assert.equal(1, manager:count "READY=1")
  end)

  it("gets STOPPING, and the error of a failed start", function()
    local d = start {}
    manager:wait "^READY=1"
    d:signal "term"
    assert.equal(0, (d:wait_exit()))
    manager:wait "^STOPPING=1\nSTATUS=stopping"

    local other = notify.listen(dir:at "other")
    d = start { files = { ["config.yaml"] = "a: {\n" }, ready = false,
      env = { NOTIFY_SOCKET = other.address } }
    assert.equal(3, (d:wait_exit()))
    other:wait "^STOPPING=1\nSTATUS=rejected: no generation is live.*config%.yaml:"
    assert.equal(0, other:count "READY=1")
  end)

  it("finds a start from the last good generation ready, and stale in its status", function()
    local d = start {}
    local from = manager:wait "^READY=1"
    wait.until_true(function() return #d.dir:list(".segue") >= 3 end)
    d:stop()
    d.dir:delete "config.yaml"
    d:spawn()
    local at = manager:wait("^READY=1\nSTATUS=stale since %d+%-%d+%-", from + 1)
    manager:wait("STATUS=stale since %S+; failed: generation 1 stays live.*config%.yaml", at + 1)
    d.dir:save("config.yaml", "a: 3\n")
    manager:wait("^READY=1\nSTATUS=applied: generation %d+ is live", at + 1)
  end)

  it("finds a policy that puts the first load off ready, and waiting in its status", function()
    start { ready = false, policy = [[
      local segue = require "segue"
      return { name = "later", sources = { segue.file "config.yaml" },
        reload = function(txn) txn:defer("1h", "not yet") end }
    ]] }
    local _, message = manager:wait "^READY=1"
    assert.matches("STATUS=waiting: ", message)
  end)

  it("gives more time while a reload takes long", function()
    local d = start { policy = [[
      local segue = require "segue"
      return { name = "slow", sources = { segue.file "config.yaml" },
        triggers = { segue.signal "HUP" },
        reload = function(txn)
          if txn.cause:find "SIGHUP" then
            while not segue.read "go" do segue.sleep "20ms" end
          end
          txn:prepare() txn:commit() txn:confirm()
        end }
    ]] }
    local from = manager:wait "^READY=1"
    d.dir:save("config.yaml", "a: 2\n")
    d:signal "hup"
    from = manager:wait("^RELOADING=1", from)
    from = manager:wait("^EXTEND_TIMEOUT_USEC=%d+$", from)
    d.dir:write("go", "on")
    manager:wait("^READY=1", from)
  end)

  it("gets watchdog messages from the loop: none while a script blocks it", function()
    local began = uv.hrtime()
    local d = start { ready = false, env = { WATCHDOG_USEC = "100000" },
      policy = "local n = 0 while true do n = n + 1 end" }
    assert.equal(3, (d:wait_exit(30000)))
    local periods = ((uv.hrtime() - began) / 1e6 - 1000) / 50 -- a second of it the loop stood still
    assert.is_true(manager:count "^WATCHDOG=1$" <= periods + 3,
      manager:count "^WATCHDOG=1$" .. " in " .. periods)
    d = start { env = { WATCHDOG_USEC = "100000" } }
    for _ = 1, 3 do
      manager:wait("^WATCHDOG=1$", #manager:read() + 1, function() return d:log() end)
    end
  end)

  it("gets no watchdog messages from a process that it does not watch", function()
    local d = start { env = { WATCHDOG_USEC = "20000", WATCHDOG_PID = "1" } }
    d:reload()
    d:stop()
    assert.equal(0, manager:count "WATCHDOG")
  end)

  it("gets no messages of the daemon's children", function()
    local d = start { env = { WATCHDOG_USEC = "60000000" }, policy = [[
      local segue = require "segue"
      return { name = "child", sources = { segue.file "config.yaml" },
        check = function()
          local r = assert(segue.run { "env" })
          for _, name in ipairs { "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID" } do
            if r.stdout:find(name, 1, true) then return nil, name .. " leaks" end
          end
          return r.stdout:find("PATH=", 1, true) ~= nil
        end }
    ]] }
    assert.equal(1, d:json("/api/v1/status").generation)
  end)

  it("loses no message when it reads slowly", function()
    local d = start {}
    local from = manager:wait "^READY=1"
    for _ = 1, 20 do assert.equal(200, (d:reload "?force=1")) end
    manager:wait("^READY=1\nSTATUS=applied: generation 21 ", from)
    assert.equal(20, manager:count "^RELOADING=1")
    assert.equal(21, manager:count "^READY=1")
    for _ = 1, 100 do assert.equal(200, (d:reload "?force=1")) end
    d:signal "term"
    manager:wait("^STOPPING=1", from)
    assert.equal(0, (d:wait_exit()))
  end)

  it("may be gone or be invalid: the daemon serves and logs that once", function()
    local d = start { env = { NOTIFY_SOCKET = dir:at "nobody" } }
    d:reload "?force=1"
    d:wait_log "generation 2 is live"
    local _, seen = d:log():gsub("cannot report to the service manager", "")
    assert.equal(1, seen)
    d:stop()
    d = start { env = { NOTIFY_SOCKET = "tcp:1" } }
    d:wait_log "NOTIFY_SOCKET is tcp:1: only a path"
    d:stop()
    start { env = { NOTIFY_SOCKET = "/" .. ("x"):rep(200) } }:wait_log "NOTIFY_SOCKET is longer"
  end)

  -- The commands that stand in the unit, with its folders below one of ours.
  local function unit_command(key, at)
    local file = assert(io.open "core/dist/segue.service")
    local line = file:read("*a"):match("\n" .. key .. "=([^\n]+)")
    file:close()
    local command = {}
    for word in line:gmatch "%S+" do
      word = word:gsub("^/usr/bin/segue$", function() return segue.binary end)
      command[#command + 1] = (word:gsub("^/etc/segue", function() return at.path end)
        :gsub("^/run/segue", function() return at:at "run" end))
    end
    return command
  end

  it("does not start the unit where its policy does not exist", function()
    local file = assert(io.open "core/dist/segue.service")
    local text = file:read "*a"
    file:close()
    local policy_of = text:match "\nExecStart=%S+ run %-c (%S+)"
    assert.equal(policy_of, text:match "\nConditionPathExists=(%S+)\n")
  end)

  it("is notified by the commands of the unit: start, confirm, reload, watchdog, stop", function()
    local at = tempdir.new()
    at:write("run/.keep", "")
    at:write("config.yaml", "a: 1\n")
    at:write("reload.lua", [[
      local segue = require "segue"
      return { name = "unit", sources = { segue.file "config.yaml" },
        triggers = { segue.signal "HUP" },
        confirm = { hold = "50ms", within = "10m",
          probe = function() return segue.stat "healthy" ~= nil end } }
    ]])
    local command = unit_command("ExecStart", at)
    command.env = { NOTIFY_SOCKET = manager.address, STATE_DIRECTORY = at:at "state",
      WATCHDOG_USEC = "200000" }
    command.cwd = "/"
    local daemon = process.start(command)
    local function log() return daemon:describe() end
    local function ask(path)
      local ok, r = pcall(http.request, { socket = at:at "run/control.sock", path = path })
      return ok and r or { status = 0, body = "" }
    end
    local function waits_for_probe()
      wait.until_true(function()
        return ask("/api/v1/status").body:find('"unconfirmed":{', 1, true)
      end, nil, log)
    end

    -- Not ready before the first generation is confirmed, but alive.
    waits_for_probe()
    local fed = #manager:read()
    for _ = 1, 3 do fed = manager:wait("^WATCHDOG=1$", fed + 1, log) end
    assert.equal(503, ask("/-/ready").status)
    assert.equal(0, manager:count "^READY=1")
    at:write("healthy", "")
    local from = manager:wait("^READY=1\nSTATUS=applied: generation 1 is live", nil, log)
    assert.equal(200, ask("/-/ready").status)

    -- Type=notify-reload: HUP, then RELOADING not earlier than that, and READY when it is over.
    at:delete "healthy"
    at:save("config.yaml", "a: 2\n")
    local before = monotonic_usec()
    daemon:kill "hup"
    local reloading, text = manager:wait("^RELOADING=1\nMONOTONIC_USEC=%d+\n", from + 1, log)
    assert.is_true(tonumber(text:match "USEC=(%d+)") >= math.floor(before))
    waits_for_probe()
    assert.equal(1, manager:count "^READY=1")
    at:write("healthy", "")
    from = manager:wait("^READY=1\nSTATUS=applied: generation 2 is live", reloading + 1, log)

    -- Type=notify: ExecReload returns the outcome, and the manager receives the same.
    local reload = unit_command("ExecReload", at)
    at:save("config.yaml", "a: [\n")
    assert.equal(3, process.run(reload).code)
    from = manager:wait("^READY=1\nSTATUS=rejected: generation 2 stays live", from + 1, log)
    at:save("config.yaml", "a: 3\n")
    assert.equal(0, process.run(reload).code)
    from = manager:wait("^READY=1\nSTATUS=applied: generation 3 is live", from + 1, log)
    assert.equal(3, manager:count "^RELOADING=1")

    daemon:kill "term"
    assert.equal(0, (daemon:wait_exit()))
    manager:wait("^STOPPING=1\nSTATUS=stopping", from + 1, log)
    for i, message in ipairs(manager:read()) do
      if i > from then assert.falsy(message:find "READY=1", message) end
    end
    assert.truthy(at:read "state/last-good.a")
  end)
end)
