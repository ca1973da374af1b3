-- SPDX-License-Identifier: MIT
-- The installed units under a real systemd: it opens the sockets, starts the daemon when a client
-- comes, and restarts it while clients wait.
local http = require "spec.support.http"
local port = require "spec.support.port"
local process = require "spec.support.process"
local segue = require "spec.support.segue"
local systemd = require "spec.support.systemd"
local tempdir = require "spec.support.tempdir"
local uv = require "luv"
local wait = require "spec.support.wait"

tempdir.on_disk() -- systemd gets a /dev/shm of its own

local function installed(name)
  local file = assert(io.open("core/dist/" .. name))
  local text = file:read "*a"
  file:close()
  return text
end

-- The files of the daemon are those of the spec, and no other user may read them: so without the
-- lines that sandbox it.
local function service(dir)
  local text = installed("segue.service"):gsub("\nDynamicUser=.*\n(%[Install%])", "\n%1")
  local env = ""
  for name, value in pairs(uv.os_environ()) do
    if name:find "^SEGUE_" or name:find "SAN_OPTIONS$" then
      env = env .. ('Environment="%s=%s"\n'):format(name, value)
    end
  end
  text = text:gsub("/usr/bin/segue", function() return segue.binary end)
    :gsub("/etc/segue", function() return dir.path end)
    :gsub("/run/segue", function() return dir.path end)
    :gsub("After=network.target\n", "StartLimitIntervalSec=0\n")
    :gsub("%[Service%]\n", function()
      return ("[Service]\nEnvironment=STATE_DIRECTORY=%s\nStandardError=append:%s\n%s"):format(
        dir:at "state", dir:at "log", env)
    end)
  return text
end

local policy = [[
local segue = require "segue"
return { sources = { segue.value { a = 1 } },
  triggers = { segue.http "127.0.0.1:%d" },
  modules = { front = { kind = "lua", code = "front.lua", listen = "http://127.0.0.1:%d" } } }
]]

describe("the units under systemd", function()
  local dir, manager, api, at, clients

  before_each(function()
    dir, api, at = tempdir.new(), port.free(), port.free()
    clients = { running = 0 }
    dir:write("front.lua", 'return { handle = function() return 200, "hello" end }')
    dir:write("reload.lua", policy:format(api, at))
    manager = systemd.start {
      ["segue.service"] = service(dir),
      ["segue.socket"] = installed("segue.socket")
        :gsub("/etc/segue", function() return dir.path end)
        :gsub("127.0.0.1:7377", "127.0.0.1:" .. api)
        :gsub("%[Install%]", ("ListenStream=127.0.0.1:%d\n%%0"):format(at)),
      ["pipe.socket"] = "[Socket]\nListenFIFO=" .. dir:at "pipe" .. "\n",
      ["pipe.service"] = service(dir),
    }
    manager:ctl("start", "segue.socket")
  end)
  after_each(function()
    systemd.stop_all()
    clients.over = true
    wait.until_true(function() return clients.running == 0 end)
    http.close_all()
    process.stop_all()
    tempdir.remove_all()
  end)

  local function log() return dir:read "log" or "" end

  -- A client that asks on a new connection each time until clients.over. counts: status or error ->
  -- how often.
  local function add_client(counts)
    clients.running = clients.running + 1
    local function ask()
      local tcp, input = uv.new_tcp(), ""
      local function ended(err)
        if tcp:is_closing() then return end
        tcp:close()
        local key = err or input:match "^HTTP/1.1 (%d+)" or "nothing"
        counts[key] = (counts[key] or 0) + 1
        if clients.over then clients.running = clients.running - 1 else ask() end
      end
      tcp:connect("127.0.0.1", at, function(refused)
        if refused then return ended(refused) end
        tcp:write "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
        tcp:read_start(function(err, data)
          if err or not data then ended(err) else input = input .. data end
        end)
      end)
    end
    ask()
  end
  local function end_clients()
    clients.over = true
    wait.until_true(function() return clients.running == 0 end, nil, log)
  end

  it("start the daemon when the first client comes, which waits and is answered", function()
    assert.equal("inactive", manager:show("segue.service", "ActiveState"))
    assert.equal("hello", http.request({ port = at, path = "/", deadline_ms = 60000 }).body)
    wait.until_true(function()
      return manager:show("segue.service", "ActiveState") == "active"
    end, nil, log)
    assert.equal(200, http.request({ port = api, path = "/-/ready" }).status)
    local _, used = log():gsub("a listener uses a passed socket", "")
    assert.equal(2, used, log())
  end)

  it("restart the daemon, also after a crash, without a refused client", function()
    manager:ctl("start", "segue.service")
    local counts = {}
    for _ = 1, 4 do add_client(counts) end
    local pids = {}
    for _ = 1, 5 do
      pids[manager:show("segue.service", "MainPID")] = true
      local before = counts["200"] or 0
      manager:ctl("restart", "segue.service")
      wait.until_true(function() return (counts["200"] or 0) > before + 8 end, nil, log)
    end
    end_clients()
    assert.same({ ["200"] = counts["200"] }, counts, log())
    local different = 0
    for _ in pairs(pids) do different = different + 1 end
    assert.equal(5, different)

    local pid = manager:show("segue.service", "MainPID")
    manager:ctl("kill", "--kill-whom=main", "-s", "KILL", "segue.service")
    assert.equal("hello", http.request({ port = at, path = "/", deadline_ms = 60000 }).body)
    wait.until_true(function()
      return manager:show("segue.service", "ActiveState") == "active"
    end, nil, log)
    assert.is_not.equal(pid, manager:show("segue.service", "MainPID"))
  end)

  it("keep a socket while a policy does not listen on it", function()
    manager:ctl("start", "segue.service")
    dir:save("reload.lua", (policy:format(api, at):gsub("modules = %b{}", "modules = {}")))
    manager:ctl("reload", "segue.service")
    local waiting = http.connect { port = at }
    waiting:write "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    assert.matches("no listener of the policy uses this passed socket", log())
    dir:save("reload.lua", policy:format(api, at))
    manager:ctl("reload", "segue.service")
    assert.equal("hello", waiting:read_response(60000).body)
  end)

  it("fail with 2 and the reason where a socket does not fit", function()
    manager:ctl("start", "pipe.socket")
    assert.is_not.equal(0, manager:run("systemctl", "start", "pipe.service").code)
    assert.equal("2", manager:show("pipe.service", "ExecMainStatus"))
    assert.matches("segue: the passed descriptor %d %(pipe%.socket%) is a pipe: segue uses only "
      .. "ListenStream= and ListenDatagram= of a socket unit", log())
  end)
end)
