-- SPDX-License-Identifier: MIT
-- Listeners of modules that come, go and come again: addresses that a worker thread still holds,
-- ports that the kernel chooses, and the addresses that status reports.
local cjson = require "cjson"
local front = require "spec.support.front"
local http = require "spec.support.http"
local port = require "spec.support.port"
local wait = require "spec.support.wait"

local WITHIN_MS = front.WITHIN_MS

describe("listeners of modules", function()
  local f
  setup(front.build)
  teardown(front.remove)
  after_each(front.cleanup)

  local function request(connection, path)
    connection:write(http.format { port = f.at, path = path or "/" })
    return connection:read_response(WITHIN_MS).body
  end
  local function addresses()
    local all = {}
    for _, module in ipairs(cjson.decode(f:ask("/api/v1/modules"))) do
      all[module.name] = module.listen
    end
    return all
  end

  -- The worker thread handles no message while it is blocked; the reloads do not wait for it.
  it("open again at an address that a busy worker thread has not left yet", function()
    f = front.start {}
    local second = port.free()
    local one = 'listen = "http://127.0.0.1:@AT@"'
    f:policy { module = ('listen = { "http://127.0.0.1:@AT@", "http://127.0.0.1:%d" }'):format(
      second) }
    f:reload()
    local goes = http.connect { port = second }
    assert.matches("^value=1 ", request(goes))
    local holder = http.connect { port = f.at }
    holder:write(http.format { port = f.at, path = "/block" })
    f:until_metric('segue_gate_inside{module="service"}', 1)
    local early = http.connect { port = second }
    early:write(http.format { port = second })
    f:config(1, "b: { a: 77 }\n")
    for round = 1, 3 do
      f:policy { module = one, others = "" }
      f:reload()
      f:policy { others = ('other = { kind = "c", plugin = "service", config = "b", drain = "%ds", '
        .. 'listen = "http://127.0.0.1:%d" }'):format(round, second) }
      f:reload()
    end
    assert.same({ ("http://127.0.0.1:%d"):format(second) }, addresses().other)
    local late = {}
    for i = 1, 20 do
      late[i] = http.connect { port = second }
      late[i]:write(http.format { port = second })
    end
    f.host:kill("usr1")
    assert.equal("unblocked\n", holder:read_response(WITHIN_MS).body)
    assert.equal(200, early:read_response(WITHIN_MS).status)
    assert.equal("", goes:read_all(WITHIN_MS))
    for i = 1, 20 do
      assert.matches("^value=77 generation=8 ", late[i]:read_response(WITHIN_MS).body)
    end
    local stays = http.connect { port = second }
    for _ = 1, 3 do assert.matches("^value=77 generation=8 ", request(stays)) end
    f:policy { others = "" }
    f:reload()
    assert.equal("", stays:read_all(WITHIN_MS))
    wait.until_true(function() return not http.connect({ port = second }, true) end, WITHIN_MS,
      "nobody to listen")
  end)

  it("open again after a reload that was undone", function()
    f = front.start {}
    local second = port.free()
    local both = ('listen = { "http://127.0.0.1:@AT@", "http://127.0.0.1:%d" }'):format(second)
    local no = 'confirm = { within = "20ms", probe = function() return false, "no" end },'
    local holder = http.connect { port = f.at }
    holder:write(http.format { port = f.at, path = "/block" })
    f:until_metric('segue_gate_inside{module="service"}', 1)
    for round = 1, 3 do
      f:policy { module = both, top = no .. ("min_interval = '%dms',"):format(round) }
      f:reload(500)
    end
    f:policy { top = "" }
    f:reload()
    f.host:kill("usr1")
    assert.equal("unblocked\n", holder:read_response(WITHIN_MS).body)
    assert.matches("^value=1 generation=%d+ ", request(http.connect { port = second }))
  end)

  it("report their addresses, also if the kernel chose the port, and keep them", function()
    f = front.start { module = 'listen = { "http://127.0.0.1:0", "http://127.0.0.1:0" }',
      others = 'b = { kind = "c", plugin = "service", listen = "http://[::1]:0" }' }
    local first = addresses()
    assert.equal(2, #first.service)
    assert.are_not.equal(first.service[1], first.service[2])
    assert.matches("^http://%[::1%]:[1-9]%d*$", first.b[1])
    local stays = {}
    for i = 1, 2 do
      stays[i] = http.connect { port = tonumber(first.service[i]:match(":(%d+)$")) }
      assert.matches("^value=1 generation=1 ", request(stays[i]))
    end
    f:policy { others = 'a = { kind = "c", plugin = "service", listen = "http://127.0.0.1:0" },'
      .. f.options.others }
    f:config(2)
    f:reload()
    local second = addresses()
    table.sort(first.service)
    table.sort(second.service)
    assert.same(first.service, second.service)
    assert.same(first.b, second.b)
    assert.equal(1, #second.a)
    for i = 1, 2 do assert.matches("^value=2 generation=2 ", request(stays[i])) end
    -- Written out, it is the same socket.
    f:policy { module = ('listen = { "%s", "%s" }'):format(unpack(first.service)) }
    f:reload()
    for i = 1, 2 do assert.matches("^value=2 generation=3 ", request(stays[i])) end
  end)

  it("are refused where two modules name one address, in any notation", function()
    f = front.start {}
    f:policy { others = 'b = { kind = "c", plugin = "service", listen = '
      .. '"http://localhost:@AT@/" }' }
    assert.matches(("modules 'b' and 'service' both listen at 127.0.0.1:%d: each address leads to "
      .. "one module"):format(f.at), f:reload(422).body, 1, true)
  end)
end)
