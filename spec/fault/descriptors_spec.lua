-- SPDX-License-Identifier: MIT
-- No file descriptor is left: each part reports which file or socket it could not open, and works
-- again as soon as a descriptor is free.
local cjson = require "cjson"
local faults = require "spec.support.faults"
local http = require "spec.support.http"
local port = require "spec.support.port"
local segue = require "spec.support.segue"
local wait = require "spec.support.wait"

local TOO_MANY = "too many open files"

local exhaust, relieve = faults.exhaust, faults.relieve

-- A connection that is there before descriptors run out.
local function operator(d)
  local control = http.connect { socket = d:socket() }
  local function ask(method, path)
    control:write(http.format { method = method, path = path,
      headers = { Accept = "application/json" } })
    local r = control:read_response(30000)
    local ok, answer = pcall(cjson.decode, r.body)
    return r.status, ok and answer or r.body
  end
  assert.equal(200, (ask("GET", "/-/ready")))
  return ask, control
end

local function policy(text) return 'local segue = require "segue"\n' .. text end

describe("without a free descriptor", function()
  after_each(segue.cleanup)

  for _, source in ipairs {
    { "segue.file", 'segue.file "conf/a.yaml"', "conf/a.yaml" },
    { "segue.dir", 'segue.dir "conf/*.yaml"', "conf" },
    { "segue.lua_file", 'segue.lua_file "conf/c.lua"', "conf/c.lua" },
  } do
    it(source[1] .. " fails the reload with its name, and the next one works", function()
      local d = segue.start { policy = policy("return { sources = { " .. source[2] .. " } }"),
        files = { ["conf/a.yaml"] = "n: 1\n", ["conf/c.lua"] = "return { n = 1 }" } }
      local ask = operator(d)
      exhaust(d)
      for _ = 1, 3 do
        local status, answer = ask("POST", "/-/reload")
        assert.equal(500, status)
        assert.equal("failed", answer.outcome)
        assert.matches(TOO_MANY, answer.errors[1].message:lower())
      end
      assert.equal(1, select(2, ask("GET", "/api/v1/config")).n)
      relieve(d)
      d.dir:save("conf/a.yaml", "n: 2\n")
      d.dir:save("conf/c.lua", "return { n = 2 }")
      assert.equal(200, (ask("POST", "/-/reload")))
      assert.equal(2, select(2, ask("GET", "/api/v1/config")).n)
    end)
  end

  it("the sources that are named are those of the policy", function()
    local d = segue.start { policy = policy 'return { sources = { segue.value {}, '
      .. 'segue.file "config.yaml" } }', files = { ["config.yaml"] = "n: 1\n" } }
    local ask = operator(d)
    exhaust(d)
    local _, answer = ask("POST", "/-/reload")
    local e = answer.errors[1]
    assert.matches("reload%.lua", tostring(e.file) .. e.message)
    relieve(d)
  end)

  it("a change of a watched file is logged, and goes live when a descriptor is free", function()
    local d = segue.start { policy = policy [[return { sources = { segue.file "config.yaml" },
      triggers = { segue.watch { rescan = "500ms" } }, debounce = { min = "5ms" } }]],
      files = { ["config.yaml"] = "n: 1\n" } }
    local ask = operator(d)
    exhaust(d)
    d.dir:save("config.yaml", "n: 2\n")
    d:wait_log("[Tt]oo many open files")
    assert.equal(1, select(2, ask("GET", "/api/v1/config")).n)
    relieve(d)
    wait.until_true(function() return select(2, ask("GET", "/api/v1/config")).n == 2 end, 30000,
      "the change, without another one")
  end)

  it("a watch that cannot be opened is logged at the start, and the files are polled", function()
    local d = segue.start { policy = policy [[return { sources = { segue.file "config.yaml" },
      triggers = { segue.watch { rescan = "300ms" } }, debounce = { min = "5ms" } }]],
      files = { ["config.yaml"] = "n: 1\n" }, env = { SEGUE_FAULTS = "watch.open=fail:-24" },
      ready = false }
    d:wait_log("cannot watch files %(the limit of inotify instances or open files is reached")
    d:wait_ready()
    d.dir:save("config.yaml", "n: 2\n")
    d:wait_config(function(config) return config.n == 2 end, 30000)
  end)

  it("clients of the port and of the control socket wait in the kernel, and are served", function()
    local d = segue.start { policy = policy [[return { sources = { segue.file "config.yaml" },
      triggers = { segue.http "127.0.0.1:@PORT@" } }]], files = { ["config.yaml"] = "n: 1\n" } }
    local ask = operator(d)
    for _ = 1, 3 do
      exhaust(d)
      local waiting = {}
      for i, where in ipairs { { port = d.port }, { socket = d:socket() }, { port = d.port } } do
        waiting[i] = http.connect(where)
        waiting[i]:write(http.format { path = "/-/healthy" })
      end
      assert.equal(200, (ask("GET", "/-/healthy")))
      for _, c in ipairs(waiting) do assert.equal("", c.input) end
      relieve(d)
      for _, c in ipairs(waiting) do
        assert.equal(200, c:read_response().status)
        c:close()
      end
      wait.until_true(function() -- their numbers are free again
        return d:connections() == 1 -- the operator's
      end)
    end
  end)

  it("an operation of a policy fails with an answer that names what could not be opened", function()
    local d = segue.start { policy = policy [[
      return { sources = { segue.value { n = 1 } }, check = function(_, prev)
        if not prev then return true end
        if segue.stat "wait" then
          print "waiting for the last one"
          local _, why, code
          repeat
            segue.sleep "10ms"
            _, why, code = segue.read "reload.lua"
          until code
        end
        local output = {}
        local function try(name, ok, why, code)
          output[#output + 1] = name .. ": " .. (ok and "ok" or code .. " " .. why)
        end
        try("run", segue.run { "/bin/true" })
        try("fetch", segue.fetch { url = "http://127.0.0.1:@PORT@/-/healthy", timeout = "2s",
          headers = { Connection = "close" } })
        try("read", segue.read "reload.lua")
        try("list", segue.list ".")
        try("write", segue.write("new", "text"))
        return nil, table.concat(output, "; ")
      end, triggers = { segue.http "127.0.0.1:@PORT@" } }]] }
    local ask, control = operator(d)
    local function all_ok()
      local _, answer = ask("POST", "/-/reload?force=1")
      assert.equal("run: ok; fetch: ok; read: ok; list: ok; write: ok", answer.errors[1].message)
    end
    all_ok()
    d.dir:write("wait", "")
    for _ = 1, 3 do
      local from = #d:log()
      control:write "POST /-/reload?force=1 HTTP/1.1\r\nHost: localhost\r\n\r\n"
      d:wait_log("waiting for the last one", nil, from)
      exhaust(d)
      local r = control:read_response(30000)
      assert.equal(422, r.status, r.body)
      for _, sentence in ipairs { "run: EMFILE [^;]*/bin/true[^;]*too many open files",
        "fetch: EMFILE [^;]*127%.0%.0%.1[^;]*too many open files",
        "read: EMFILE [^;]*reload%.lua[^;]*too many open files",
        "list: EMFILE [^;]*too many open files", "write: EMFILE [^;]*new: " } do
        assert.matches(sentence, r.body:gsub("Too", "too"), nil)
      end
      relieve(d)
    end
    d.dir:delete "wait"
    all_ok()
  end)

  -- A check with wait: true waits for the file go, which the spec writes when no descriptor is
  -- free. stat(2) needs none; a check that opens a file again and again is never seen at rest.
  local waits = [[return { sources = { segue.file "config.yaml" }, %s
    check = function(next)
      if next.wait then
        print "waiting for the last one"
        repeat segue.sleep "10ms" until segue.stat "go"
      end
      return true
    end }]]

  it("a generation that cannot be recorded is live, and the answer reports that", function()
    local d = segue.start { policy = policy(waits:format ""),
      files = { ["config.yaml"] = "n: 1\n" } }
    local _, control = operator(d)
    d.dir:save("config.yaml", "n: 2\nwait: true\n")
    control:write "POST /-/reload HTTP/1.1\r\nHost: localhost\r\n\r\n"
    d:wait_log "waiting for the last one"
    exhaust(d)
    d.dir:write("go", "")
    assert.equal(200, control:read_response(30000).status)
    d:wait_log "cannot be kept for a start without its files[^\n]*[Tt]oo many open files"
    relieve(d)
    assert.equal(2, d:config().n)
  end)

  -- A policy with a listener for each of the ports.
  local function listeners(ports)
    local list = {}
    for i, number in ipairs(ports) do list[i] = ('segue.http "127.0.0.1:%d"'):format(number) end
    return policy(([[return { sources = { segue.file "config.yaml" }, triggers = { %s } }]])
      :format(table.concat(list, ", ")))
  end

  local function free_ports(n)
    local list = {}
    for i = 1, n do list[i] = port.free() end
    return list
  end

  local function healthy(number)
    return http.request({ port = number, path = "/-/healthy" }).status == 200
  end

  -- Reading the files finds free numbers, and returns them to the first listeners.
  it("a reload that adds listeners fails with the address, and open listeners continue",
    function()
      local ports = free_ports(13)
      local d = segue.start { policy = listeners { ports[1] },
        files = { ["config.yaml"] = "n: 1\n" } }
      local ask = operator(d)
      d.dir:save("reload.lua", listeners(ports))
      for _ = 1, 3 do
        exhaust(d, 8)
        local status, answer = ask("POST", "/-/reload")
        assert.equal(500, status)
        assert.equal("failed", answer.outcome)
        assert.matches("127%.0%.0%.1:%d+[^\n]*" .. TOO_MANY, answer.errors[1].message:lower())
        assert.equal(200, (ask("GET", "/-/healthy")))
        relieve(d)
        assert.is_true(healthy(ports[1]))
        for i = 2, #ports do
          assert.is_nil((http.connect({ port = ports[i] }, true)), "it stayed open")
        end
      end
      assert.equal(200, (ask("POST", "/-/reload")))
      for _, number in ipairs(ports) do assert.is_true(healthy(number)) end
    end)

  it("clients of a module leave some to the operator, however many they are", function()
    local front = port.free()
    local d = segue.start { under = { "prlimit", "--nofile=200" }, files = {
      ["config.yaml"] = "front: {}\nn: 1\n",
      ["front.lua"] = "return { handle = function() return 200, 'hello' end }" }, policy = [[
local segue = require "segue"
return {
  name = "crowd", threads = 2,
  sources = { segue.file "config.yaml" },
  triggers = { segue.http "127.0.0.1:@PORT@" },
  modules = { front = { kind = "lua", code = "front.lua", config = "front",
    listen = "http://127.0.0.1:]] .. front .. [[" } },
}
]] }
    local crowd = {}
    local function connect(where)
      crowd[#crowd + 1] = assert(http.connect(where, true))
    end
    for _ = 1, 250 do connect { port = front } end
    d:wait_log "too few file descriptors are left: new clients of this listener wait"
    for n = 2, 6 do
      d.dir:save("config.yaml", ("front: {}\nn: %d\n"):format(n))
      assert.equal("applied", select(2, d:reload()).outcome)
      assert.equal(200, d:http("/-/healthy").status)
      assert.equal(0, d:cli("status").code)
    end
    assert.matches("segue_ingress_descriptors_scarce_total{[^}]*} [1-9]", d:http("/metrics").body)
    for _ = 1, 100 do connect { port = d.port } end -- the ports of the admin API leave some too
    d:wait_log "few file descriptors[^\n]*clients wait until"
    d.dir:save("config.yaml", "front: {}\nn: 7\n")
    assert.equal("applied", select(2, d:reload()).outcome)
    assert.equal(0, d:cli("status").code)
    for _, client in ipairs(crowd) do client:close() end
    wait.until_true(function()
      return http.request({ port = front, path = "/" }).status == 200
        and d:http("/-/healthy").status == 200
    end, nil, "the place of those who left")
  end)

  it("a start names the listener that could not be opened", function()
    local ports = free_ports(60)
    local d = segue.start { policy = listeners(ports), files = { ["config.yaml"] = "n: 1\n" },
      under = { "prlimit", "--nofile=50" }, ready = false }
    d:wait_exit(30000)
    assert.matches("127%.0%.0%.1:%d+[^\n]*" .. TOO_MANY, d:log():lower())
    d.options.under = nil
    d:spawn()
    d:wait_ready()
    for _, number in ipairs(ports) do assert.is_true(healthy(number)) end
  end)

  it("a start reports that the control socket could not be opened", function()
    local d = segue.folder { policy = listeners {}, files = { ["config.yaml"] = "n: 1\n" } }
    local named
    for n = 6, 64 do
      d.options.under = { "prlimit", "--nofile=" .. n }
      d:spawn()
      local code, signal = d:wait_exit(30000)
      assert.equal(0, signal, d:log())
      assert.not_equal(0, code, d:log())
      assert.is_truthy(d:log():lower():find(TOO_MANY) or d:log():find "out of files", d:log())
      named = d:log():lower():match("control%.sock[^\n]*" .. TOO_MANY)
      if named then break end
    end
    assert.truthy(named)
    d.options.under = nil
    d:spawn()
    d:wait_ready()
    assert.equal(1, d:config().n)
  end)

  local function restarted(d)
    d:crash()
    d:spawn()
    d:wait_ready()
    return d:json "/api/v1/status"
  end

  it("a freeze and its end are refused, nothing is changed, and later they succeed", function()
    local d = segue.start { policy = policy(waits:format ""),
      files = { ["config.yaml"] = "n: 1\n" } }
    local ask = operator(d)
    local sentence = "nothing was changed: cannot record: [^\n]*state%.[ab] cannot be written: "
      .. TOO_MANY
    for _, step in ipairs { { "freeze?why=night", true }, { "unfreeze", false } } do
      exhaust(d)
      for _ = 1, 2 do
        local status, answer = ask("POST", "/api/v1/" .. step[1])
        assert.equal(500, status)
        assert.matches(sentence, answer.error)
        local frozen = select(2, ask("GET", "/api/v1/status")).frozen ~= cjson.null
        assert.equal(not step[2], frozen)
      end
      relieve(d)
      assert.equal(200, (ask("POST", "/api/v1/" .. step[1])))
    end
    assert.equal(cjson.null, restarted(d).frozen)
  end)

  it("a generation that waits to be confirmed does not go live: failed, cannot record", function()
    local d = segue.start { policy = policy(waits:format ""),
      files = { ["config.yaml"] = "n: 1\n" } }
    d.dir:save("reload.lua", policy(waits:format 'confirm = { by = "operator", within = "60s" },'))
    assert.equal("unconfirmed", select(2, d:reload()).outcome)
    local _, control = operator(d)
    assert.equal(200, d:control { method = "POST", path = "/api/v1/confirm" }.status)
    d.dir:save("config.yaml", "n: 2\nwait: true\n")
    local from = #d:log()
    control:write "POST /-/reload HTTP/1.1\r\nHost: localhost\r\n\r\n"
    d:wait_log("waiting for the last one", nil, from)
    exhaust(d)
    d.dir:write("go", "")
    local r = control:read_response(30000)
    assert.equal(500, r.status)
    assert.matches("^failed: generation %d+ stays live", r.body)
    assert.matches("cannot record: [^\n]*state%.[ab] cannot be written: " .. TOO_MANY, r.body)
    relieve(d)
    assert.equal(1, d:config().n)
    assert.equal(cjson.null, d:json "/api/v1/status".unconfirmed)
    d.dir:save("config.yaml", "n: 3\n")
    assert.equal("unconfirmed", select(2, d:reload()).outcome)
    assert.equal(200, d:control { method = "POST", path = "/api/v1/confirm" }.status)
    assert.equal(3, d:config().n)
  end)

  it("a confirmed generation stays live, is reported, and is recorded later", function()
    local d = segue.start { policy = policy(waits:format ""),
      files = { ["config.yaml"] = "n: 1\n" } }
    d.dir:save("reload.lua", policy(waits:format 'confirm = { by = "operator", within = "60s" },'))
    assert.equal("unconfirmed", select(2, d:reload()).outcome)
    local ask = operator(d)
    exhaust(d)
    local status, answer = ask("POST", "/api/v1/confirm")
    assert.equal(200, status)
    assert.equal("applied", answer.outcome)
    assert.matches("cannot record: [^\n]*state%.[ab] cannot be written: " .. TOO_MANY,
      answer.errors[1].message)
    relieve(d)
    wait.until_true(function() -- the newer one of the two counts
      local newest, text = -1, ""
      for _, slot in ipairs { "a", "b" } do
        local bytes = d.dir:read(".segue/state." .. slot) or ""
        local sequence = bytes:byte(9) or -1
        if sequence > newest then newest, text = sequence, bytes end
      end
      return not text:find("unconfirmed=", 1, true)
    end, nil, "the state on disk")
    wait.until_true(function() return d.dir:read ".segue/last-good.b" end, 30000,
      "the generation")
    local after = restarted(d)
    assert.equal(cjson.null, after.unconfirmed)
    assert.equal(answer.generation, after.generation)
  end)

  it("the history continues, or is opened again when there is one", function()
    local d = segue.start { policy = policy(waits:format ""),
      files = { ["config.yaml"] = "n: 1\n" }, env = { SEGUE_FAULTS = "history.open#1=fail:-24" } }
    d:wait_log "the history cannot be opened: reloads continue without it"
    d.dir:save("config.yaml", "n: 2\n")
    local status, answer = d:reload()
    assert.equal(200, status)
    wait.until_true(function()
      return d:control("/api/v1/reloads/" .. answer.id).status == 200
        and #d:json "/api/v1/reloads" > 0
    end, nil, "the history")
    d:wait_log "the history is open again"
    d.baseline = nil -- with the files of the history
    d:wait_ready()
    local ask = operator(d)
    exhaust(d)
    assert.equal(answer.id, select(2, ask("GET", "/api/v1/reloads"))[1].id)
    assert.equal(200, (ask("GET", "/api/v1/why?path=n")))
    assert.equal(500, (ask("POST", "/-/reload"))) -- the error that it reports
    wait.until_true(function()
      return select(2, ask("GET", "/api/v1/reloads"))[1].outcome == "failed"
    end, nil, "the failed one in the history")
    relieve(d)
    assert.equal(200, (ask("POST", "/-/reload")))
  end)
end)
