-- SPDX-License-Identifier: MIT
-- A host whose module is reached by HTTP, see ingress.c: what requests say and get, the order and
-- number of answers while reloads happen, listeners that come and go, clients that misbehave.
local http = require "spec.support.http"
local plugin = require "spec.support.plugin"
local port = require "spec.support.port"
local process = require "spec.support.process"
local tempdir = require "spec.support.tempdir"
local uv = require "luv"
local wait = require "spec.support.wait"

local WITHIN_MS = 60000 -- also under a sanitizer on a busy machine

describe("a module that listens", function()
  local dir, program, at, admin, host
  setup(function()
    dir = tempdir.new()
    program = dir:at("host")
    plugin.static_host(program, "spec/embed/ingress.c")
  end)
  teardown(tempdir.remove_all)
  after_each(function()
    http.close_all()
    if host and host:running() then
      host:kill("usr1") -- who never answers keeps what it has
      host:kill("term")
      assert.equal(0, (host:wait_exit(WITHIN_MS)), host:describe())
    end
    host = nil
    process.stop_all()
    os.execute("rm -rf " .. dir:at(".segue"))
  end)

  -- more: further keys of the module; top: of the policy; others: further modules.
  local function policy(replace, more, top, others)
    return dir:write("reload.lua", ([[
local segue = require "segue"
return {
  sources = { segue.file "a.yaml" },
  triggers = { segue.http "127.0.0.1:%d" }, %s
  modules = {
    service = { kind = "c", plugin = "service", replace = "%s", %s },
    %s
  },
}
]]):format(admin, top or "", replace, more or ('listen = "http://127.0.0.1:%d"'):format(at),
      others or ""))
  end
  local function config(value, exclusive)
    dir:write("a.yaml", ("a: %d\nexclusive: %s\n"):format(value, tostring(exclusive or false)))
  end
  local function start(...)
    at, admin = port.free(), port.free()
    config(1, (...) == "restart")
    local path = policy(...)
    host = process.start { program, path, dir:at("lock") }
    host:wait_output("started ok", WITHIN_MS)
  end
  local function reload(status)
    local answer = http.request { port = admin, method = "POST", path = "/-/reload",
      deadline_ms = WITHIN_MS }
    assert.equal(status or 200, answer.status, answer.body .. host.output)
    return answer
  end
  local function get(path, more)
    local request = { port = at, path = path, deadline_ms = WITHIN_MS }
    for key, value in pairs(more or {}) do request[key] = value end
    return http.request(request)
  end
  local function metrics() return http.request { port = admin, path = "/metrics" }.body end
  local function metric(name)
    return tonumber((metrics():match("\n" .. name:gsub("%p", "%%%0") .. " (%S+)\n")))
  end
  local function until_metric(name, value)
    wait.until_true(function() return metric(name) == value end, WITHIN_MS, name)
  end

  describe("answers", function()
    before_each(function() start("handover") end)

    it("with the parts of the request", function()
      local answer = get("/a%20b/../c?d=e", { method = "PUT", body = "the body",
        headers = { ["X-Number"] = "17" } })
      assert.equal(200, answer.status)
      assert.equal("text/plain", answer.headers["content-type"])
      assert.equal("17", answer.headers["x-number"])
      assert.matches("^value=1 generation=1 PUT /c%?d=e 127%.0%.0%.1:%d+\nthe body$", answer.body)
    end)

    it("curl, by keep-alive, with a large body after 100 Continue", function()
      local big = ("0123456789"):rep(50000)
      dir:write("big", big)
      local url = ("http://127.0.0.1:%d/"):format(at)
      local curl = process.run { "curl", "-sS", "-o", "/dev/null", url, "--next", "-sS", "-H",
        "Expect: 100-continue", "--data-binary", "@" .. dir:at("big"), "-w",
        "\n%{num_connects} %{http_code}", url, deadline_ms = WITHIN_MS }
      assert.equal(0, curl.code, curl:describe())
      assert.equal(big .. "\n0 200", curl.stdout:match("^[^\n]*\n(.*)$"))
    end)

    it("from another thread, also a body that came in chunks", function()
      local connection = http.connect { port = at }
      connection:write("POST /later HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        .. "3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")
      assert.matches("\nabcde$", connection:read_response(WITHIN_MS).body)
    end)

    it("in the order of the requests of a connection, however they are answered", function()
      local connection, all = http.connect { port = at }, {}
      for i = 1, 40 do
        all[i] = http.format { port = at, path = i % 2 == 0 and "/later" or "/now",
          headers = { ["X-Number"] = i } }
      end
      connection:write(table.concat(all))
      for i = 1, 40 do
        assert.equal(tostring(i), connection:read_response(WITHIN_MS).headers["x-number"])
      end
    end)

    it("HEAD without a body, and HTTP/1.0 with the end of the connection", function()
      local connection = http.connect { port = at }
      connection:write("HEAD /x HTTP/1.1\r\nHost: x\r\n\r\n")
      local answer = connection:read_response(WITHIN_MS, true)
      assert.equal(200, answer.status)
      assert.is_true(tonumber(answer.headers["content-length"]) > 0)
      connection = http.connect { port = at }
      connection:write("GET /stream HTTP/1.0\r\n\r\n")
      assert.equal(6 + 3000, #connection:read_all(WITHIN_MS):match("\r\n\r\n(.*)$"))
    end)

    it("piece by piece, on the worker thread and from another one", function()
      local connection = http.connect { port = at }
      for path, pieces in pairs { ["/stream"] = 100, ["/stream/later"] = 5000 } do
        connection:write(http.format { port = at, path = path .. "?pieces=" .. pieces })
        local answer = connection:read_response(WITHIN_MS)
        assert.equal("chunked", answer.headers["transfer-encoding"])
        assert.equal(6 + 1000 * pieces, #answer.body)
        local i = 0
        for number in answer.body:sub(7):gmatch("0*(%d+)\n") do
          assert.equal(i, tonumber(number))
          i = i + 1
        end
        assert.equal(pieces, i)
      end
    end)

    it("with no header that would make two answers of one", function()
      assert.equal("all refused\n", get("/misuse").body)
    end)

    it("500 where the module does not answer, 400 to a malformed request", function()
      assert.equal(500, get("/nothing").status)
      local connection = http.connect { port = at }
      connection:write("GET / HTTP/1.1\r\n\r\n")
      assert.equal(400, connection:read_response(WITHIN_MS).status)
    end)

    it("to no client if it left meanwhile, and continues", function()
      local connection = http.connect { port = at }
      connection:write(http.format { port = at, path = "/hold" })
      until_metric('segue_gate_inside{module="service"}', 1)
      connection:reset()
      until_metric(('segue_ingress_answers_total{address="127.0.0.1:%d",class="gone"}'):format(at),
        1)
      assert.equal(200, get("/release").status)
      until_metric('segue_gate_inside{module="service"}', 0)
      connection = http.connect { port = at }
      connection:write(http.format { port = at, path = "/stream/later?pieces=100000" })
      connection:read_until("begin", WITHIN_MS)
      connection:reset()
      until_metric('segue_gate_inside{module="service"}', 0)
      assert.equal(200, get("/later").status)
    end)
  end)

  it("within its limits", function()
    start("handover", ([[listen = "http://127.0.0.1:%d",
      limits = { head = "2KiB", body = 1000, connections = 2, idle = "100ms" } ]]):format(
      port.free()))
    at = tonumber(host.output:match("ingress listening address=127%.0%.0%.1:(%d+)"))
    -- One after the other: a connection that is closed counts until it is gone.
    local function alone(...)
      local answer = get(...)
      until_metric(('segue_ingress_connections{address="127.0.0.1:%d"}'):format(at), 0)
      return answer
    end
    assert.equal(413, alone("/", { body = ("x"):rep(1001) }).status)
    assert.equal(200, alone("/", { body = ("x"):rep(1000) }).status)
    assert.equal(431, alone("/" .. ("x"):rep(3000)).status)
    local idle = http.connect { port = at }
    assert.equal("", idle:read_all(WITHIN_MS))
    until_metric(('segue_ingress_connections{address="127.0.0.1:%d"}'):format(at), 0)
    local one, two = http.connect { port = at }, http.connect { port = at }
    one:write(http.format { port = at, path = "/hold" })
    two:write(http.format { port = at, path = "/hold" })
    until_metric('segue_gate_inside{module="service"}', 2)
    assert.equal(503, get("/").status)
  end)

  -- Clients that send one numbered request after the other on a connection that must not break.
  -- Each answer is validated when it comes.
  local function clients(count, check)
    local self = { sent = 0, answered = 0, wrong = {}, on = true }
    local function client(number)
      local connection, input = uv.new_tcp(), ""
      local sequence, least, path, body = 0, nil, nil, nil
      local function send()
        if not self.on then
          connection:close()
          return
        end
        sequence = sequence + 1
        least = self.least
        path = sequence % 3 == 0 and "/later" or "/now"
        body = sequence % 2 == 0 and ("body %d.%d"):format(number, sequence) or nil
        self.sent = self.sent + 1
        connection:write(http.format { port = at, method = body and "POST" or "GET", path = path,
          body = body, headers = { ["X-Number"] = number .. "." .. sequence } })
      end
      connection:connect("127.0.0.1", at, function(err)
        assert(not err, err)
        connection:read_start(function(failed, data)
          if not data then
            self.wrong[#self.wrong + 1] = "connection lost: " .. tostring(failed)
            self.lost = (self.lost or 0) + 1
            connection:close()
            return
          end
          input = input .. data
          local answer, rest = http.parse(input)
          if not answer then return end
          input = rest
          self.answered = self.answered + 1
          local wrong = check(answer, { number = number .. "." .. sequence, body = body,
            least = least, path = path })
          if rest ~= "" then wrong = "more than one answer: " .. rest end
          if wrong then self.wrong[#self.wrong + 1] = wrong end
          send()
        end)
        send()
      end)
    end
    for number = 1, count do client(number) end
    return self
  end

  local function check(answer, asked)
    local value, generation, path, body = answer.body:match(
      "^value=(%d+) generation=(%d+) %a+ ([^?]*)%? [%d.:]+\n(.*)$")
    if answer.status ~= 200 or answer.headers["x-number"] ~= asked.number
        or body ~= (asked.body or "") or path ~= asked.path
        or value ~= generation or answer.headers["segue-generation"] ~= generation
        or tonumber(generation) < (asked.least or 0) then
      return ("asked %s (at least %s), got %d: %s\n%s"):format(asked.number,
        tostring(asked.least), answer.status, answer.head, answer.body)
    end
  end

  for _, replace in ipairs { "swap", "handover", "restart" } do
    it("breaks, doubles and mixes up nothing while it is reloaded by " .. replace, function()
      start(replace, nil, "threads = 2,")
      policy(replace, ('listen = "http://127.0.0.1:%d", generation_header = true'):format(at),
        "threads = 2,")
      config(2, replace == "restart")
      reload()
      local load = clients(8, check)
      for value = 3, 42 do
        local target = load.answered + 20
        wait.until_true(function() return load.answered >= target or #load.wrong > 0 end,
          WITHIN_MS, "answers")
        config(value, replace == "restart")
        local answer = http.request { port = admin, method = "POST", path = "/-/reload",
          deadline_ms = WITHIN_MS }
        assert.equal(200, answer.status, answer.body .. host.output)
        load.least = value
      end
      load.on = false
      wait.until_true(function() return load.answered == load.sent or load.lost end, WITHIN_MS,
        "the last answers")
      assert.same({}, load.wrong)
      assert.equal(load.sent, load.answered)
      assert.falsy(host.output:find("two at once", 1, true))
    end)
  end

  describe("whose gate is shut", function()
    local holder, waiter
    local function shut(buffer)
      start("restart", ('listen = "http://127.0.0.1:%s", drain = "60s", buffer = { %s }'):format(
        "%d", buffer):format(port.free()))
      at = tonumber(host.output:match("ingress listening address=127%.0%.0%.1:(%d+)"))
      holder = http.connect { port = at }
      holder:write(http.format { port = at, path = "/hold" })
      until_metric('segue_gate_inside{module="service"}', 1)
      config(2, true)
      waiter = http.connect { port = admin }
      waiter:write(http.format { port = admin, method = "POST", path = "/-/reload" })
      until_metric('segue_gate_open{module="service"}', 0)
    end
    -- /release would wait as well: the client leaves, and the module holds no request any more.
    local function finish()
      host:kill("usr1")
      assert.equal(200, waiter:read_response(WITHIN_MS).status)
      assert.equal("released\n", holder:read_response(WITHIN_MS).body)
    end

    it("keeps requests until it opens, and then answers with the next generation", function()
      shut("items = 100")
      local connections = {}
      for i = 1, 20 do
        connections[i] = http.connect { port = at }
        connections[i]:write(http.format { port = at, body = ("x"):rep(5000),
          headers = { ["X-Number"] = i } })
      end
      until_metric('segue_gate_waiting{module="service"}', 20)
      finish()
      for i = 1, 20 do
        local answer = connections[i]:read_response(WITHIN_MS)
        assert.equal(tostring(i), answer.headers["x-number"])
        assert.matches("^value=2 generation=2 ", answer.body)
      end
    end)

    it("refuses calls that do not fit, forgets clients that leave", function()
      shut("items = 2")
      local one, two = http.connect { port = at }, http.connect { port = at }
      one:write(http.format { port = at })
      two:write(http.format { port = at })
      until_metric('segue_gate_waiting{module="service"}', 2)
      local answer = get("/")
      assert.equal(503, answer.status)
      assert.equal("1", answer.headers["retry-after"])
      assert.equal(1, metric('segue_gate_refused_total{module="service",reason="overflow"}'))
      one:reset()
      until_metric('segue_gate_waiting{module="service"}', 1)
      local three = http.connect { port = at }
      three:write(http.format { port = at })
      until_metric('segue_gate_waiting{module="service"}', 2)
      finish()
      assert.matches("^value=2 ", two:read_response(WITHIN_MS).body)
      assert.matches("^value=2 ", three:read_response(WITHIN_MS).body)
    end)

    it("refuses a request that has waited too long, on a connection that stays open", function()
      shut('age = "200ms"')
      local connection = http.connect { port = at }
      connection:write(http.format { port = at })
      local answer = connection:read_response(WITHIN_MS)
      assert.equal(503, answer.status)
      assert.equal("1", answer.headers["retry-after"])
      finish()
      connection:write(http.format { port = at })
      assert.matches("^value=2 ", connection:read_response(WITHIN_MS).body)
    end)

    it("answers every waiting request when the host is stopped", function()
      shut("items = 100")
      local connection = http.connect { port = at }
      connection:write(http.format { port = at })
      until_metric('segue_gate_waiting{module="service"}', 1)
      host:kill("term")
      wait.until_true(function() return not http.connect({ port = at }, true) end, WITHIN_MS,
        "the listener to close")
      host:kill("usr1")
      assert.equal("released\n", holder:read_response(WITHIN_MS).body)
      assert.matches("^value=2 ", connection:read_response(WITHIN_MS).body)
      assert.equal(0, (host:wait_exit(WITHIN_MS)), host:describe())
    end)
  end)

  describe("whose listeners change", function()
    local function urls(...)
      local list = {}
      for i, p in ipairs { ... } do list[i] = ('"http://127.0.0.1:%d"'):format(p) end
      return "listen = { " .. table.concat(list, ", ") .. " }"
    end
    local function request(connection, p)
      connection:write(http.format { port = p })
      return connection:read_response(WITHIN_MS).body
    end

    it("keeps the connections of those that stay, opens new ones, closes removed ones", function()
      start("handover")
      local first, second, third = at, port.free(), port.free()
      local stays = http.connect { port = first }
      assert.matches("^value=1 ", request(stays, first))
      policy("handover", urls(first, second))
      reload()
      local goes = http.connect { port = second }
      assert.matches("generation=2 ", request(goes, second))
      assert.matches("generation=2 ", request(stays, first))
      policy("handover", urls(third, first))
      reload()
      assert.equal("", goes:read_all(WITHIN_MS))
      -- Each worker thread closes its own; the last one closes the socket.
      wait.until_true(function() return not http.connect({ port = second }, true) end, WITHIN_MS,
        "the end of the listener")
      assert.matches("generation=3 ", request(stays, first))
      assert.matches("generation=3 ", request(http.connect { port = third }, third))
    end)

    it("fails as a whole if a port is in use, and names the process", function()
      start("handover")
      local first, second = at, port.free()
      local taken, socket = port.taken()
      policy("handover", urls(first, second, taken))
      local answer = reload(500)
      assert.matches(("127%%.0%%.0%%.1:%d is in use"):format(taken), answer.body)
      assert.falsy(http.connect({ port = second }, true))
      assert.matches("generation=1 ", get("/").body)
      socket:close()
      reload()
      assert.matches("generation=2 ", request(http.connect { port = taken }, taken))
    end)

    it("directs an address to another module from the reload's answer on", function()
      start("handover")
      local stays = http.connect { port = at }
      assert.matches("^value=1 generation=1 ", request(stays, at))
      local other = ('other = { kind = "c", plugin = "service", config = "b", '
        .. 'listen = "http://127.0.0.1:%d" }'):format(at)
      dir:write("a.yaml", "a: 1\nb: { a: 77 }\n")
      policy("handover", "drain = '1s'", nil, other)
      reload()
      assert.matches("^value=77 generation=2 ", request(stays, at))
    end)

    it("returns to its previous listeners when the reload is undone", function()
      start("handover")
      local stays, second = http.connect { port = at }, port.free()
      assert.matches("^value=1 ", request(stays, at))
      local other = ('other = { kind = "c", plugin = "service", config = "b", '
        .. 'listen = { "http://127.0.0.1:%d", "http://127.0.0.1:%d" } }'):format(at, second)
      dir:write("a.yaml", "a: 1\nb: { a: 77 }\n")
      policy("handover", "drain = '1s'",
        "confirm = { probe = function() return false, 'no' end, within = '50ms' },", other)
      reload(500)
      assert.matches("^value=1 generation=1 ", request(stays, at))
      wait.until_true(function() return not http.connect({ port = second }, true) end, WITHIN_MS,
        "the second listener to close")
    end)
  end)

  describe("is not loaded", function()
    local function refused(more, others)
      start("handover")
      policy("handover", more, nil, others)
      return reload(422).body
    end
    it("with an invalid address", function()
      assert.matches('"ftp://x" is not of the form "http://HOST:PORT" or "https://HOST:PORT"',
        refused('listen = "ftp://x"'))
      assert.equal(200, get("/").status)
    end)
    it("where another module has the same address, or its code serves no requests", function()
      local url = ('listen = "http://127.0.0.1:%d"'):format(port.free())
      local body = refused(url, 'deaf = { kind = "c", ' .. url .. " }")
      assert.matches("modules 'deaf' and 'service' both listen at 127.0.0.1:", body, 1, true)
      policy("handover", "drain = '1s'", nil, 'deaf = { kind = "c", ' .. url .. " }")
      assert.matches("module 'deaf' has listen, but its code serves no requests",
        reload(422).body)
    end)
  end)
end)
