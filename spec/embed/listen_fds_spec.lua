-- SPDX-License-Identifier: MIT
-- A host that a service manager passes sockets to, see listen_fds.c.
local http = require "spec.support.http"
local plugin = require "spec.support.plugin"
local port = require "spec.support.port"
local process = require "spec.support.process"
local tempdir = require "spec.support.tempdir"
local uv = require "luv"

describe("a host with passed sockets", function()
  local dir, at
  setup(function()
    dir, at = tempdir.new(), port.free()
    plugin.host(dir:at "host", "spec/embed/listen_fds.c")
    dir:write("reload.lua", ([[
local segue = require "segue"
return { sources = { segue.value { a = 1 } }, triggers = { segue.http "127.0.0.1:%d" } }]]):format(
      at))
  end)
  teardown(tempdir.remove_all)
  after_each(function()
    http.close_all()
    process.stop_all()
  end)

  -- The output of the host, which the first client starts.
  local function run(take)
    local command = { "systemd-socket-activate", "-l", "127.0.0.1:" .. at }
    for name in pairs(uv.os_environ()) do
      if name:find "^SEGUE_" or name:find "SAN_OPTIONS$" or name:find "^LD_" then
        command[#command + 1], command[#command + 2] = "-E", name
      end
    end
    for _, word in ipairs { dir:at "host", dir:at "reload.lua", take } do
      command[#command + 1] = word
    end
    local p = process.start(command)
    p:wait_output "Listening on"
    http.connect { port = at }
    p:wait_exit()
    return p.output
  end

  it("uses them if its options request that", function()
    local text = run "take"
    assert.matches("variable: is gone\n", text)
    assert.matches("log: a listener uses a passed socket\nstart: ok applied\n", text)
  end)

  it("leaves them and the environment alone if it does not", function()
    local text = run()
    assert.matches("variable: is there\n", text)
    assert.falsy(text:find("log: ", 1, true), text)
    assert.matches("error: 127%.0%.0%.1:" .. at .. " is in use by ", text)
  end)

  it("is refused by segue_new if one does not fit", function()
    local p = process.run { "sh", "-c", 'exec 3</dev/null; LISTEN_PID=$$ LISTEN_FDS=1 exec "$@"',
      "sh", dir:at "host", dir:at "reload.lua", "take" }
    assert.equal(1, p.code)
    assert.equal("variable: is gone\nrefused: SEGUE_EUSAGE: the passed descriptor 3 is a character "
      .. "device: segue uses only ListenStream= and ListenDatagram= of a socket unit\n", p.output)
  end)
end)
