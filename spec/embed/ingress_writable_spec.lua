-- SPDX-License-Identifier: MIT
-- segue_request_on_writable in a host (ingress.c): when its callback runs, with which result, and
-- that it runs once. The host logs "waits: RESULT" of the call, "writable: RESULT" of the callback.
local front = require "spec.support.front"
local http = require "spec.support.http"
local plugin = require "spec.support.plugin"
local tempdir = require "spec.support.tempdir"

local WITHIN_MS = front.WITHIN_MS

describe("a host that waits until a stream is writable", function()
  local f
  setup(function() front.build(plugin.spec_library) end) -- which `make mutants` changes
  teardown(front.remove)
  before_each(function() f = front.start {} end)
  after_each(front.cleanup)

  -- A client that reads nothing until read_on. The kernel must not enlarge its buffer.
  local function slow(path)
    local connection = http.connect { port = f.at, deadline_ms = WITHIN_MS }
    connection.handle:read_stop()
    connection.handle:recv_buffer_size(262144)
    connection:write(http.format { port = f.at, path = path })
    return connection
  end
  local function logs(text) f.host:wait_output(text, WITHIN_MS) end
  -- The results of all callbacks, when no request is left.
  local function results()
    f:until_metric('segue_gate_inside{module="service"}', 0)
    local all = {}
    for result in f.host.output:gmatch "writable: (%S+)" do all[#all + 1] = result end
    return table.concat(all, " ")
  end

  it("gets the callback at once if everything is sent", function()
    assert.equal("writable\n", f:get("/writable/now").body)
    assert.equal("OK", results())
  end)

  it("starts no second wait, and none without a callback; the first one stays", function()
    assert.equal("writable\n", f:get("/writable/misuse").body)
    logs "misuse: SEGUE_EUSAGE OK SEGUE_EUSAGE"
    assert.equal("OK", results())
  end)

  it("gets the callback when a slow client has read, and can write again", function()
    local client = slow "/writable/full"
    logs "waits: OK"
    assert.falsy(f.host.output:find("writable:", 1, true))
    client:read_on()
    assert.matches("x\r\n9\r\nwritable\n\r\n0\r\n\r\n$",
      client:read_until("\r\n0\r\n\r\n", WITHIN_MS))
    assert.equal("OK", results())
  end)

  it("learns that the client left while it waits", function()
    local client = slow "/writable/full"
    logs "waits: OK"
    client:reset()
    assert.equal("ECONNRESET", results())
  end)

  it("is refused if the client left before", function()
    local client = slow "/hold/writable"
    f:until_metric('segue_gate_inside{module="service"}', 1)
    client:reset()
    f:until_metric(f:port_metric "segue_ingress_left_inside", 1)
    f.host:kill("usr1")
    logs "waits: ECONNRESET"
    assert.equal("", results())
  end)

  it("gets a cancellation if it ends or answers the request before", function()
    assert.equal("", f:get("/writable/end").body)
    assert.equal("answered\n", f:get("/writable/answer").body)
    assert.equal("SEGUE_ECANCELLED SEGUE_ECANCELLED", results())
  end)

  it("gets a cancellation if it ends a stream that its client has not read yet", function()
    local client = slow "/writable/full/end"
    logs "waits: OK"
    client:read_on()
    assert.matches("x\r\n0\r\n\r\n$", client:read_until("\r\n0\r\n\r\n", WITHIN_MS))
    assert.equal("SEGUE_ECANCELLED", results())
  end)

  it("gets an end of its wait when the host stops", function()
    local client = slow "/writable/full"
    logs "waits: OK"
    f.host:kill("term")
    assert.equal(0, (f.host:wait_exit(WITHIN_MS)), f.host:describe())
    assert.matches("writable: ECONNRESET", f.host.output)
    client:reset()
  end)

  -- The fault point is between the last piece and the look at what the host has done meanwhile.
  it("ends a stream while the worker thread delivers its last piece", function()
    front.cleanup()
    local dir = tempdir.new()
    f = front.start { dir = dir, env = { SEGUE_FAULTS = "ingress.delivered=hang",
      SEGUE_FAULTS_END = dir:at "continue" } }
    local client = http.connect { port = f.at, deadline_ms = WITHIN_MS }
    client:write(http.format { port = f.at, path = "/stream/end/later" })
    client:read_until("begin\n", WITHIN_MS)
    f.host:kill("usr1")
    logs "stream is ended"
    dir:write("continue", "")
    assert.equal("\r\n0\r\n\r\n", client:read_until("0\r\n\r\n", WITHIN_MS))
    assert.equal("", results())
    assert.equal(200, f:get("/").status)
  end)

  for _, path in ipairs { "/stream", "/stream/later" } do
    it("sends the whole stream to a client that pauses: " .. path, function()
      local client = slow(path .. "?pieces=8000")
      f:until_metric('segue_gate_inside{module="service"}', 1)
      client:read_on()
      local text, next_piece = client:read_until("\r\n0\r\n\r\n", WITHIN_MS), 0
      for number in text:gmatch "0*(%d+)\n\r\n" do
        assert.equal(next_piece, tonumber(number))
        next_piece = next_piece + 1
      end
      assert.equal(8000, next_piece)
    end)
  end
end)
