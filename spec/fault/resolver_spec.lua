-- SPDX-License-Identifier: MIT
-- A name server that receives queries and never answers. The C library's look-up then takes minutes
-- and cannot be interrupted: a waiting client is answered in time all the same, and the daemon
-- continues and stops on request.
local faults = require "spec.support.faults"
local segue = require "spec.support.segue"
local tempdir = require "spec.support.tempdir"
local uv = require "luv"
local wait = require "spec.support.wait"

faults.own_network()

local asked
local server = uv.new_udp()
assert(server:bind("127.0.0.1", 53))
server:recv_start(function(_, data) if data then asked = asked + 1 end end)

local files = tempdir.new()
faults.run("mount", "--bind", files:write("resolv.conf",
  "nameserver 127.0.0.1\noptions timeout:30 attempts:5\n"), "/etc/resolv.conf")
faults.run("mount", "--bind", files:write("nsswitch.conf", "hosts: files dns\n"),
  "/etc/nsswitch.conf")

local function start(check)
  return segue.start { policy = [[
local segue = require "segue"
return {
  name = "resolver",
  sources = { segue.file "config.yaml" },
  triggers = { segue.http "127.0.0.1:@PORT@" },
  check = function(next)
    if next.n == 1 then return true end
]] .. check .. "\nend }", files = { ["config.yaml"] = "n: 1\n" } }
end

describe("with a name server that never answers", function()
  before_each(function() asked = 0 end)
  after_each(segue.cleanup)

  it("segue.resolve and segue.fetch end by their time limits, and the daemon continues", function()
    local d = start [[
      local r, why, code = segue.resolve("hangs.example", { timeout = "100ms" })
      local f, fwhy, fcode = segue.fetch { url = "http://hangs.example/", timeout = "100ms" }
      local c, cwhy, ccode = segue.fetch { url = "http://hangs.example/", timeout = "20s",
        connect_timeout = "100ms" }
      if r or f or c then return nil, "somebody answered" end
      return nil, code .. ": " .. why .. " | " .. fcode .. ": " .. fwhy .. " | " .. ccode .. ": "
        .. cwhy]]
    d.dir:save("config.yaml", "n: 2\n")
    local status, answer = d:reload()
    assert.equal(422, status)
    local message = answer.errors[1].message
    assert.matches("TIMEOUT: .*hangs%.example.*| SEGUE_ETIMEOUT: .*hangs%.example.*"
      .. "| SEGUE_ETIMEOUT: .*hangs%.example", message)
    assert.is_true(asked >= 1, "nobody asked the name server")
    d.dir:save("config.yaml", "n: 1\n")
    assert.equal(200, (d:reload "?force=1"))
    -- The look-ups are still under way: twenty more do not use up anything.
    for i = 2, 21 do
      d.dir:save("config.yaml", ("n: %d\n"):format(i))
      assert.equal(422, (d:reload()))
      assert.equal(200, d:http("/-/healthy").status)
    end
    d.baseline.threads = d.process:threads() -- those threads end with the process
    for path, count in pairs(d.process:open_files()) do d.baseline.files[path] = count + 100 end
    d.check_open = function() end -- look-ups that cannot be interrupted hold their sockets
    d:stop(4000)
  end)

  it("the daemon stops at once while a reload waits for one", function()
    local d = start [[
      segue.all {
        function() segue.resolve("hangs.example", { timeout = 0 }) end,
        function() segue.fetch { url = "http://hangs.example/", timeout = 0,
          connect_timeout = 0 } end,
      }
      return true]]
    d.dir:save("config.yaml", "n: 2\n")
    local control = require("spec.support.http").connect { socket = d:socket() }
    control:write "POST /-/reload HTTP/1.1\r\nHost: localhost\r\n\r\n"
    wait.until_true(function() return asked >= 1 end, nil, "a question to the name server")
    d.check_open = function() end
    d:stop(4000) -- raises if it needs longer
  end)
end)
