-- SPDX-License-Identifier: MIT
-- Clients of a module that are slow, many, half gone or impolite, and what becomes of their
-- requests at shut gates, over reloads, and at the end of the host.
local ffi = require "ffi"
local front = require "spec.support.front"
local http = require "spec.support.http"
local uv = require "luv"
local wait = require "spec.support.wait"

ffi.cdef [[
struct front_rlimit { unsigned long soft, hard; };
int getrlimit(int what, struct front_rlimit *limit);
int setrlimit(int what, const struct front_rlimit *limit);
]]
local NOFILE = 7

local WITHIN_MS = front.WITHIN_MS
local SANITIZED = (os.getenv("SEGUE_SPEC_SAN") or "") ~= ""

describe("clients of a module", function()
  local f
  local many, limit = {}, ffi.new("struct front_rlimit")
  setup(front.build)
  teardown(front.remove)
  before_each(function() assert(ffi.C.getrlimit(NOFILE, limit) == 0) end)
  after_each(function()
    for _, client in ipairs(many) do client.handle:close() end
    many = {}
    assert(ffi.C.setrlimit(NOFILE, limit) == 0)
    front.cleanup()
  end)

  local function connect(text)
    local connection = http.connect { port = f.at, deadline_ms = WITHIN_MS }
    if text then connection:write(text) end
    return connection
  end
  local function ask(path, more)
    local request = { port = f.at, path = path or "/" }
    for key, value in pairs(more or {}) do request[key] = value end
    return http.format(request)
  end
  local function listen(limits)
    return ('listen = "http://127.0.0.1:@AT@", limits = { %s }'):format(limits)
  end

  describe("that reset", function()
    it("count as long as their requests are inside, so that the limit holds", function()
      f = front.start { module = listen "connections = 4" }
      for i = 1, 4 do
        local client = connect(ask "/hold")
        f:until_metric('segue_gate_inside{module="service"}', i)
        client:reset()
        f:until_metric(f:port_metric "segue_ingress_left_inside", i)
      end
      f:until_metric(f:port_metric "segue_ingress_connections", 0)
      assert.equal(503, f:get("/").status)
      f.host:kill("usr1")
      f:until_metric(f:port_metric "segue_ingress_left_inside", 0)
      assert.equal(200, f:get("/").status)
      f:until_metric('segue_gate_inside{module="service"}', 0)
    end)

    it("leave nothing behind where their port is closed before their requests end", function()
      f = front.start { module = listen "connections = 4" }
      local client = connect(ask "/hold")
      f:until_metric('segue_gate_inside{module="service"}', 1)
      client:reset()
      f:until_metric(f:port_metric "segue_ingress_left_inside", 1)
      f:policy { module = 'listen = "http://127.0.0.1:0"' }
      f:reload()
      f.host:kill("usr1")
      f:until_metric('segue_gate_inside{module="service"}', 0)
    end)
  end)

  describe("that are slow", function()
    it("to send a head or a body are answered in time, and others do not wait for them", function()
      f = front.start { module = listen 'head_time = "200ms", body_time = "300ms"' }
      local head = connect("GET / HTTP/1.1\r\nHost: x\r\n")
      local body = connect("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n")
      local drip = uv.new_timer() -- a byte now and then does not help
      drip:start(20, 20, function()
        if not head.ended then head:write("X") end
        if not body.ended then body:write("x") end
      end)
      assert.equal(200, f:get("/").status)
      for _, slow in ipairs { head, body } do
        local answer = slow:read_response(WITHIN_MS)
        assert.equal(408, answer.status)
        assert.equal("close", answer.headers.connection)
      end
      drip:close()
    end)

    it("to read lose their connection, and the module is notified", function()
      f = front.start { module = listen 'write = "200ms"' }
      local slow = connect()
      slow.handle:read_stop()
      slow:write(ask "/stream/later?pieces=100000")
      f:until_metric('segue_gate_inside{module="service"}', 1)
      f:until_metric('segue_gate_inside{module="service"}', 0)
      assert.equal(1, f:metric(f:port_metric("segue_ingress_answers_total", ',class="2xx"')))
      wait.until_true(function()
        return f:metric(f:port_metric("segue_ingress_connections")) == 0
      end, WITHIN_MS, "the connection to be closed")
      assert.equal(200, f:get("/later").status)
    end)
  end)

  it("that end their side still get the answer, whole or piece by piece", function()
    f = front.start {}
    for _, path in ipairs { "/", "/later" } do
      local half = connect(ask(path))
      half:shutdown()
      assert.equal(200, half:read_response(WITHIN_MS).status, path)
      assert.equal("", half:read_all(WITHIN_MS))
    end
    local stream = connect(ask "/stream/later?pieces=20000")
    stream:read_until("begin", WITHIN_MS)
    stream:shutdown()
    assert.matches("\r\n0\r\n\r\n$", stream:read_all(WITHIN_MS))
  end)

  describe("at a shut gate", function()
    it("that end their side, or announce a body, wait like the others", function()
      f = front.shut "items = 100"
      local half = connect(ask("/", { headers = { ["X-Number"] = "half" } }))
      half:shutdown()
      local expects = connect("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 8\r\n"
        .. "Expect: 100-continue\r\n\r\n")
      assert.equal(100, expects:read_response(WITHIN_MS).status)
      expects:write("the body")
      f:until_metric('segue_gate_waiting{module="service"}', 2)
      f:open()
      local answer = half:read_response(WITHIN_MS)
      assert.equal("half", answer.headers["x-number"])
      assert.matches("^value=2 generation=2 ", answer.body)
      assert.equal("", half:read_all(WITHIN_MS))
      assert.matches("^value=2 generation=2 POST / .*\nthe body$",
        (expects:read_response(WITHIN_MS).body:gsub("%?", " ")))
    end)

    it("that send several requests at once get the answers in order", function()
      f = front.shut "items = 100"
      local connections, all = {}, {}
      for i = 1, 5 do
        local requests = {}
        for k = 1, 40 do
          requests[k] = ask(k % 2 == 0 and "/later" or "/", { body = k % 5 == 0 and ("x"):rep(3000)
            or nil, method = k % 5 == 0 and "POST" or "GET", headers = { ["X-Number"] = k } })
        end
        connections[i], all[i] = connect(), table.concat(requests)
        connections[i]:write(all[i]:sub(1, 5000))
      end
      f:until_metric('segue_gate_waiting{module="service"}', 5)
      for i = 1, 5 do connections[i]:write(all[i]:sub(5001)) end
      f:open()
      for i = 1, 5 do
        for k = 1, 40 do
          local answer = connections[i]:read_response(WITHIN_MS)
          assert.equal(tostring(k), answer.headers["x-number"])
          assert.matches("^value=2 generation=2 ", answer.body)
        end
      end
    end)

    it("that send more than fits are answered 503 with Retry-After, and counted", function()
      f = front.shut "items = 100, bytes = 40000"
      local inside = {}
      for i = 1, 2 do
        inside[i] = connect(ask("/", { method = "POST", body = ("x"):rep(10000) }))
      end
      f:until_metric('segue_gate_waiting{module="service"}', 2)
      for refused = 1, 3 do
        local answer = f:get("/", { method = "POST", body = ("x"):rep(15000) })
        assert.equal(503, answer.status)
        assert.equal("1", answer.headers["retry-after"])
        assert.equal(refused,
          f:metric 'segue_gate_refused_total{module="service",reason="overflow"}')
      end
      f:open()
      for i = 1, 2 do assert.equal(200, inside[i]:read_response(WITHIN_MS).status) end
    end)

    it("that leave are forgotten, and free their place", function()
      f = front.shut "items = 50"
      local leave = {}
      for i = 1, 50 do leave[i] = connect(ask "/") end
      f:until_metric('segue_gate_waiting{module="service"}', 50)
      for i = 1, 50 do leave[i]:reset() end
      f:until_metric('segue_gate_waiting{module="service"}', 0)
      local stays = {}
      for i = 1, 50 do stays[i] = connect(ask "/") end
      f:until_metric('segue_gate_waiting{module="service"}', 50)
      f:open()
      for i = 1, 50 do assert.equal(200, stays[i]:read_response(WITHIN_MS).status) end
      f:until_metric('segue_gate_inside{module="service"}', 0)
      assert.equal(0, f:metric 'segue_gate_refused_total{module="service",reason="overflow"}')
    end)
  end)

  for _, replace in ipairs { "handover", "restart" } do
    it("that read a stream get it to its end over a reload by " .. replace, function()
      f = front.start { replace = replace, module = 'listen = "http://127.0.0.1:@AT@", '
        .. 'drain = "60s"' }
      local stream, pieces = connect(), 20000
      stream:write(ask("/stream/later?pieces=" .. pieces))
      stream:read_until("begin", WITHIN_MS)
      stream.handle:read_stop()
      f:config(2)
      local waiter = http.connect { port = f.admin }
      waiter:write(http.format { port = f.admin, method = "POST", path = "/-/reload" })
      if replace == "restart" then
        f:until_metric('segue_gate_open{module="service"}', 0)
      else
        assert.equal(200, waiter:read_response(WITHIN_MS).status)
        assert.matches("^value=2 generation=2 ", f:get("/").body)
      end
      stream:read_on()
      local text = stream:read_until("\r\n0\r\n\r\n", 2 * WITHIN_MS)
      local _, count = text:gsub("\r\n3e8\r\n", "")
      assert.is_true(count >= pieces - 1)
      assert.matches(("000%d\n"):format(pieces - 1), text, 1, true)
      if replace == "restart" then assert.equal(200, waiter:read_response(WITHIN_MS).status) end
      stream:write(ask "/")
      assert.matches("^value=2 generation=2 ", stream:read_response(WITHIN_MS).body)
    end)
  end

  it("past the number of connections are answered, and admitted when there is room", function()
    f = front.start { module = listen "connections = 20" }
    local inside = {}
    for i = 1, 20 do
      inside[i] = connect(ask "/")
      assert.equal(200, inside[i]:read_response(WITHIN_MS).status)
    end
    for _ = 1, 5 do
      local answer = f:get("/")
      assert.equal(503, answer.status)
      assert.equal("1", answer.headers["retry-after"])
    end
    assert.equal(5, f:metric(f:port_metric("segue_ingress_connections_refused_total")))
    for i = 1, 20 do
      inside[i]:write(ask "/")
      assert.equal(200, inside[i]:read_response(WITHIN_MS).status)
    end
    inside[1]:close()
    wait.until_true(function() return f:get("/").status == 200 end, WITHIN_MS, "room")
  end)

  it("that are connected are not cut off by limits that a reload lowers", function()
    f = front.start { module = listen "connections = 20, body = 100000" }
    local idle, bodies = {}, {}
    for i = 1, 10 do
      idle[i] = connect(ask "/")
      assert.equal(200, idle[i]:read_response(WITHIN_MS).status)
    end
    for i, framing in ipairs { "Content-Length: 50000", "Transfer-Encoding: chunked" } do
      bodies[i] = connect(("POST /body HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n%s\r\n\r\n")
        :format(framing))
      bodies[i]:read_until("HTTP/1.1 100 Continue\r\n\r\n", WITHIN_MS)
      bodies[i]:write(i == 1 and ("x"):rep(20000) or "1f4\r\n" .. ("x"):rep(500) .. "\r\n")
    end
    f:policy { module = listen "connections = 2, body = 1000, head = '1KiB', idle = '10s'" }
    f:reload()
    bodies[1]:write(("x"):rep(30000))
    bodies[2]:write("1f5\r\n" .. ("x"):rep(501) .. "\r\n0\r\n\r\n")
    local whole, refused = bodies[1]:read_response(WITHIN_MS), bodies[2]:read_response(WITHIN_MS)
    assert.same({ 200, 413 }, { whole.status, refused.status })
    assert.equal("close", refused.headers.connection)
    assert.equal("", bodies[2]:read_all(WITHIN_MS))
    for i = 1, 10 do
      idle[i]:write(ask "/")
      assert.equal(200, idle[i]:read_response(WITHIN_MS).status)
    end
    assert.equal(503, f:get("/").status)
  end)

  -- All of them on one loop here; a few hundred at a time, so that the kernel's queue suffices.
  local function each(count, at_once, fn)
    local begun, done = 0, 0
    while done < count do
      while begun < count and begun - done < at_once do
        begun = begun + 1
        fn(begun, function() done = done + 1 end)
      end
      local before = done
      wait.until_true(function() return done > before end, WITHIN_MS,
        function() return ("more than %d of %d"):format(done, count) end)
    end
  end

  it("may be 10,000, idle: a reload closes none of them, and all are answered after", function()
    local count, needed = 10000, 10500
    if limit.hard < needed then
      error(("this needs %d open files: raise the hard limit (ulimit -Hn) from %d"):format(needed,
        tonumber(limit.hard)))
    end
    if limit.soft < needed then
      local raised = ffi.new("struct front_rlimit", needed, limit.hard)
      assert(ffi.C.setrlimit(NOFILE, raised) == 0)
    end
    f = front.start { module = listen(("connections = %d, idle = '10m'"):format(count + 10)) }
    f:get("/")
    local rss, lost, clients = f.host:rss_kib(), 0, many
    local function turn(value)
      return function(i, done)
        local client = clients[i]
        client.input, client.done, client.value = "", done, value
        client.handle:write(ask "/")
      end
    end
    local wrong = {}
    local function on_data(client, data)
      client.input = client.input .. data
      local answer = http.parse(client.input)
      if not answer then return end
      if not answer.body:find("^value=" .. client.value .. " ") then
        wrong[#wrong + 1] = answer.head .. answer.body
      end
      client.done()
    end
    each(count, 200, function(i, done)
      local client = { handle = uv.new_tcp() }
      clients[i] = client
      client.handle:connect("127.0.0.1", f.at, function(err)
        assert(not err, err)
        client.handle:read_start(function(_, data)
          if data then on_data(client, data) else lost = lost + 1 end
        end)
        turn(1)(i, done)
      end)
    end)
    local each_kib = (f.host:rss_kib() - rss) / count
    assert.equal(count, f:metric(f:port_metric("segue_ingress_connections")))
    if not SANITIZED then
      assert.is_true(each_kib < 2, ("%.2f KiB for each connection"):format(each_kib))
    end
    f:config(2)
    f:reload()
    assert.equal(count, f:metric(f:port_metric("segue_ingress_connections")))
    each(count, 200, turn(2))
    assert.same({}, wrong)
    assert.equal(0, lost)
  end)

  describe("and the end of the host", function()
    for _, replace in ipairs { "handover", "restart" } do
      it("by SIGTERM during a reload by " .. replace .. " under load: all are answered", function()
        f = front.start { replace = replace, top = "threads = 2," }
        local load = f:load(16, function(answer)
          if answer.status ~= 200 and not (answer.status == 503 and answer.headers["retry-after"])
          then
            return "neither answered nor reported to come again"
          end
        end)
        for value = 2, 6 do
          local target = load.answered + 200
          wait.until_true(function() return load.answered >= target end, WITHIN_MS, "answers")
          f:config(value)
          local waiter = http.connect { port = f.admin }
          waiter:write(http.format { port = f.admin, method = "POST", path = "/-/reload" })
          if value == 6 then
            f.host:kill("term")
          else
            assert.equal(200, waiter:read_response(WITHIN_MS).status)
          end
        end
        assert.equal(0, (f.host:wait_exit(WITHIN_MS)), f.host:describe())
        wait.until_true(function() return load.ended == 16 end, WITHIN_MS, "all connections to end")
        assert.same({}, load.wrong)
        local handled = tonumber(f.host.output:match("closed handled=(%d+)"))
        assert.is_true(load.answered >= handled, ("%d were handled, %d answered, %d sent"):format(
          handled, load.answered, load.sent))
      end)
    end

    it("by SIGKILL: its listeners are open again after the next start", function()
      f = front.start {}
      local connection = connect(ask "/")
      assert.equal(200, connection:read_response(WITHIN_MS).status)
      connection:write(ask "/hold")
      f:until_metric('segue_gate_inside{module="service"}', 1)
      f.host:kill("kill")
      f.host:wait_exit(WITHIN_MS)
      connection:read_all(WITHIN_MS)
      f:boot()
      assert.equal(200, f:get("/").status)
    end)
  end)
end)
