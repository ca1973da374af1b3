-- SPDX-License-Identifier: MIT
-- Sockets that a service manager passes (LISTEN_FDS), by a program of others,
-- systemd-socket-activate.
local http = require "spec.support.http"
local port = require "spec.support.port"
local process = require "spec.support.process"
local segue = require "spec.support.segue"
local tempdir = require "spec.support.tempdir"
local uv = require "luv"
local wait = require "spec.support.wait"

local front = 'return { handle = function() return 200, "hello" end }'

local function policy(modules, triggers)
  return ([[
local segue = require "segue"
return { sources = { segue.file "config.yaml" },
  triggers = { segue.signal "HUP", %s }, modules = { %s },
  check = function()
    local r = assert(segue.run { "env" })
    if r.stdout:find "LISTEN_" then return nil, "LISTEN_ leaks" end
    return r.stdout:find "PATH=" ~= nil
  end }
]]):format(triggers or "", modules or "")
end

local function module_at(at)
  return ('front = { kind = "lua", code = "front.lua", listen = "http://%s" }'):format(at)
end

-- systemd-socket-activate keeps no environment but what it is asked to. ...: further options, and a
-- command before the daemon.
local function activate(listens, ...)
  local command = { "systemd-socket-activate" }
  local function add(...)
    for _, word in ipairs { ... } do command[#command + 1] = word end
  end
  for _, at in ipairs(listens) do add("-l", at) end
  for name in pairs(uv.os_environ()) do
    if name:find "^SEGUE_" or name:find "SAN_OPTIONS$" then add("-E", name) end
  end
  add(...)
  return command
end

-- The sockets that a process has, past the standard descriptors: "socket:[inode]" -> how often.
local function sockets_of(pid)
  local found, folder = {}, ("/proc/%d/fd/"):format(pid)
  local list = uv.fs_scandir(folder)
  while list do
    local fd = uv.fs_scandir_next(list)
    if not fd then break end
    local link = uv.fs_readlink(folder .. fd) or ""
    if tonumber(fd) > 2 and link:find "^socket:" then found[link] = (found[link] or 0) + 1 end
  end
  return found
end

describe("sockets that are passed", function()
  after_each(segue.cleanup)

  local function start(listens, options, ...)
    options.under, options.ready = activate(listens, ...), false
    options.files = { ["config.yaml"] = "a: 1\n", ["front.lua"] = front }
    local d = segue.start(options)
    d:wait_log "Listening on"
    return d
  end

  -- A client whose connection starts the daemon: it waits in the queue of the socket until then.
  local function first_client(where)
    local client
    wait.until_true(function()
      client = http.connect(where, true)
      return client
    end)
    client:write "GET /-/healthy HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    return client
  end

  it("serve the admin API and modules, from the first client on", function()
    local api, at, dir = port.free(), port.free(), tempdir.new()
    local unix = dir:at "api.sock"
    local d = start({ "127.0.0.1:" .. api, "[::1]:" .. at, unix }, { policy = policy(
      module_at("[::1]:" .. at),
      ('segue.http "127.0.0.1:%d", segue.http "unix:%s"'):format(api, unix)) })
    assert(uv.fs_chmod(unix, tonumber("600", 8)))
    local client = first_client { port = api }
    assert.equal(200, client:read_response(60000).status)
    client:close()
    d:wait_ready()
    assert.equal("hello", http.request { address = "::1", port = at, path = "/" }.body)
    assert.equal(200, http.request { socket = unix, path = "/-/ready" }.status)
    local _, used = d:log():gsub("a listener uses a passed socket", "")
    assert.equal(3, used)
    d:stop()
    assert.equal("socket", uv.fs_stat(unix).type) -- the manager's file
    os.remove(unix)
  end)

  it("stay open over reloads that stop and begin to use them", function()
    local api, at = port.free(), port.free()
    local with = policy(module_at("127.0.0.1:" .. at), ('segue.http "127.0.0.1:%d"'):format(api))
    local d = start({ "127.0.0.1:" .. api, "127.0.0.1:" .. at }, { policy = with },
      "--fdname=api:front")
    first_client({ port = api }):close()
    d:wait_ready()
    local before = sockets_of(d.process.pid)
    d.dir:save("reload.lua", policy("", ('segue.http "127.0.0.1:%d"'):format(api)))
    assert.equal("applied", select(2, d:reload()).outcome)
    d:wait_log "no listener of the policy uses this passed socket.*front"
    -- The worker threads close their copies a moment after the reload: a client that they still
    -- accept is refused, because the module is gone.
    wait.until_true(function()
      local now = sockets_of(d.process.pid)
      for link, copies in pairs(before) do
        if copies > 1 and (now[link] or 0) < copies then return true end
      end
    end)
    local waiting = first_client { port = at }
    d.dir:save("reload.lua", with)
    assert.equal("applied", select(2, d:reload()).outcome)
    assert.equal("hello", waiting:read_response(60000).body)
    waiting:close()
    local after = sockets_of(d.process.pid)
    local same = 0
    for link in pairs(before) do same = same + (after[link] and 1 or 0) end
    assert.is_true(same >= 2)
  end)

  it("are reported where no listener of the policy uses them", function()
    local at, other = port.free(), port.free()
    local d = start({ "127.0.0.1:" .. at, "127.0.0.1:" .. other }, { policy = policy(
      module_at("127.0.0.1:" .. at)) }, "--fdname=web:forgotten")
    first_client({ port = at }):close()
    d:wait_ready()
    d:reload "?force=1"
    local text = d:log()
    local _, count = text:gsub("no listener of the policy uses this passed socket", "")
    assert.equal(1, count, text)
    assert.matches("127%.0%.0%.1:" .. other .. "[^\n]*forgotten", text)
  end)

  it("of a file that more users can open than the policy allows are refused", function()
    local dir = tempdir.new()
    local unix = dir:at "api.sock"
    local d = start({ unix }, { policy = policy("", ('segue.http "unix:%s"'):format(unix)) })
    first_client({ socket = unix }):close()
    assert.equal(4, (d:wait_exit()))
    assert.matches("has mode 0644, and the policy allows 0600: write SocketMode=0600 in the socket "
      .. "unit", d:log())
    os.remove(unix)
  end)

  it("of UDP are refused where the policy listens by TCP", function()
    local at = port.free()
    local d = start({ "127.0.0.1:" .. at }, { policy = policy(module_at("127.0.0.1:" .. at)) },
      "--datagram", "--fdname=web")
    local udp = uv.new_udp()
    udp:send("x", "127.0.0.1", at, function() udp:close() end)
    assert.equal(4, (d:wait_exit()))
    assert.matches("the passed descriptor 3 %(web%) is a UDP socket of this address", d:log())
  end)

  it("are used by the daemon below process 1 of a container", function()
    local at = port.free()
    local command = { "unshare", "--pid", "--fork", "--mount-proc", "--kill-child", "sh", "-c",
      'export LISTEN_PID=1; exec "$@"', "sh" }
    local d = start({ "127.0.0.1:" .. at }, { policy = policy(module_at("127.0.0.1:" .. at)) },
      unpack(command))
    local client = first_client { port = at }
    assert.equal("hello", client:read_response(60000).body)
    client:close()
    d:wait_ready()
    -- unshare, process 1 and the daemon: only the first and the last have the socket.
    local one = d.process:children()[1]
    local count = 0
    for _ in pairs(sockets_of(one)) do count = count + 1 end
    assert.equal(0, count)
    uv.kill(one, "sigterm")
    assert.equal(0, (d:wait_exit()))
  end)

  -- Descriptors that a shell passes. The shell executes the daemon, so both have one process id.
  local function refused(setup, environment)
    local d = segue.folder { policy = policy(), files = { ["config.yaml"] = "a: 1\n" } }
    d.options.under = { "sh", "-c", ('%s; %s exec "$@"'):format(setup, environment), "sh" }
    d:spawn()
    local code = d:wait_exit()
    assert.is_nil((uv.fs_stat(d.dir:at ".segue")), "the start went on")
    return code, d:log()
  end

  it("that do not fit end the start with code 2, a name and a remedy", function()
    local mine = "LISTEN_PID=$$ LISTEN_FDNAMES=web "
    for setup, wanted in pairs {
      ["exec 3</etc/passwd"] = { "LISTEN_FDS=1", "descriptor 3 %(web%) is a file: segue uses" },
      ["exec 3</ "] = { "LISTEN_FDS=1", "descriptor 3 %(web%) is a folder" },
      ["exec 3<&-"] = { "LISTEN_FDS=1", "descriptor 3 %(web%) is not open: LISTEN_FDS is larger" },
      ["exec 3<&- "] = { "LISTEN_FDS=many", 'LISTEN_FDS is "many", which is no count' },
      ["exec 3</dev/null"] = { "LISTEN_FDS=2", "descriptor 3 %(web%) is a character device" },
    } do
      local code, text = refused(setup, mine .. wanted[1])
      assert.matches("^segue: .*" .. wanted[2], text)
      assert.equal(2, code, text)
    end
  end)

  it("are not taken from another process", function()
    for _, environment in ipairs { "LISTEN_PID=1 LISTEN_FDS=1", "LISTEN_FDS=1",
        "LISTEN_PID=x LISTEN_FDS=1 LISTEN_FDNAMES=a:b" } do
      local d = segue.folder { policy = policy(), files = { ["config.yaml"] = "a: 1\n" } }
      local start_as = ('exec 3</etc/passwd; %s exec "$@"'):format(environment)
      d.options.under = { "sh", "-c", start_as, "sh" }
      d:spawn()
      d:wait_ready() -- its check fails if a command sees one of the variables
      d:stop()
    end
  end)

  it("need one name each, where they have names", function()
    local d = segue.folder { policy = policy(), files = { ["config.yaml"] = "a: 1\n" } }
    local at = port.free()
    d.options.under = activate({ "127.0.0.1:" .. at }, "sh", "-c",
      'LISTEN_FDNAMES=a:b exec "$@"', "sh")
    d:spawn()
    d:wait_log "Listening on"
    first_client({ port = at }):close()
    assert.equal(2, (d:wait_exit()))
    assert.matches("LISTEN_FDNAMES has more than 1 names, and LISTEN_FDS is 1", d:log())
  end)

  it("that are connections are refused: the unit has Accept=yes", function()
    local at = port.free()
    local d = segue.folder { policy = policy(), files = { ["config.yaml"] = "a: 1\n" } }
    local manager = process.start(activate({ "127.0.0.1:" .. at }, "--accept", segue.binary, "run",
      "-c", d.dir:at "reload.lua"))
    manager:wait_output "Listening on"
    local client = first_client { port = at }
    manager:wait_output("the passed descriptor 3 is a connection, and segue needs the socket that "
      .. "accepts them: remove Accept=yes from the socket unit")
    manager:wait_output "died with code 2"
    client:close()
    manager:stop()
  end)
end)
