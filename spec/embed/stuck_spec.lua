-- SPDX-License-Identifier: MIT
-- A host whose module never returns from a request, see stuck.c: the instance stops and closes all
-- the same, and the host continues.
local http = require "spec.support.http"
local plugin = require "spec.support.plugin"
local port = require "spec.support.port"
local process = require "spec.support.process"
local tempdir = require "spec.support.tempdir"
local wait = require "spec.support.wait"

local WITHIN_MS = 30000

-- The instance reports such code after 2 s, and abandons the thread after 8 s.
local SOONER = { SEGUE_TEST_STALL_MS = "300", SEGUE_TEST_LOOK_MS = "100",
  SEGUE_TEST_PATIENCE_MS = "1000", SEGUE_TEST_GRACE_MS = "300",
  -- The memory that an abandoned thread may still use is never freed.
  ASAN_OPTIONS = (os.getenv "ASAN_OPTIONS" or "") .. ":detect_leaks=0" }

describe("a host whose module does not return", function()
  local dir, program, at
  setup(function()
    dir = tempdir.new()
    program = dir:at("stuck")
    local flags = process.run { "pkg-config", "--cflags", "--libs", "libuv", "luajit" }
    assert(flags.code == 0, flags:describe())
    plugin.host(program, "spec/embed/stuck.c",
      "-Wl,--no-as-needed " .. flags.stdout:gsub("\n", " "), plugin.spec_library)
    dir:write("config.yaml", "a: 1\n")
    dir:write("script.lua", [[
      return { handle = function(request)
        if request.path == "/loop" then while true do end end
        return 200, "well"
      end }]])
  end)
  teardown(tempdir.remove_all)
  after_each(function()
    http.close_all()
    process.stop_all()
  end)

  local function start(module, loop)
    at = port.free()
    local path = dir:write("reload.lua", ([[
local segue = require "segue"
return {
  sources = { segue.file "config.yaml" }, triggers = {}, threads = 1,
  modules = { %s, listen = "http://127.0.0.1:%d",
    drain = "300ms" } },
}
]]):format(module, at))
    local host = process.start { program, path, loop, env = SOONER }
    host:wait_output("start: applied\n", WITHIN_MS)
    return host
  end

  -- Lines of the host, in order.
  local function stopped_in_a_loop(host, module)
    local connection = http.connect { port = at }
    connection:write("GET /loop HTTP/1.1\r\nHost: x\r\n\r\n")
    host:wait_output("busy: " .. module .. "\n", WITHIN_MS)
    host:kill("term")
    assert.equal(0, (host:wait_exit(WITHIN_MS)), host:describe())
    wait.until_true(function() return connection.ended end, WITHIN_MS, "the end of the connection")
    assert.falsy(host.output:find("Sanitizer", 1, true), host.output)
    local lines = {}
    for line in host.output:gmatch("[^\n]+") do lines[#lines + 1] = line end
    return lines
  end

  it("in C is logged while it runs; it stops, names the module, and may start another instance",
    function()
      local host = start('front = { kind = "c", plugin = "stuck"', "own")
      assert.same({ "start: applied", "busy: front", "abandoned: front", "stopped: first",
        "run: OK", "close: returned", "log: after the close", "answer: OK", "start: applied",
        "stopped: second", "run: OK", "close: returned" }, stopped_in_a_loop(host, "front"))
    end)

  it("in compiled Lua stops and closes on the host's loop, and leaves nothing in that loop",
    function()
      local host = start('script = { kind = "lua", jit = true', "host")
      assert.same({ "start: applied", "busy: script", "abandoned: script", "stopped: first",
        "run: OK", "close: returned", "start: applied", "stopped: second", "run: OK",
        "close: returned", "loop: closed" }, stopped_in_a_loop(host, "script"))
    end)
end)
