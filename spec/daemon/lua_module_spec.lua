-- SPDX-License-Identifier: MIT
-- Modules in Lua behind a listener of the daemon: the values that a handler receives and returns,
-- the effect of a handler that fails, and that a reload of code and configuration loses no request.
local front = require "spec.support.lua_module"
local http = require "spec.support.http"
local segue = require "spec.support.segue"
local uv = require "luv"
local wait = require "spec.support.wait"

local WITHIN_MS = front.WITHIN_MS
local get, metric, handler, start = front.get, front.metric, front.handler, front.start

describe("a module in Lua", function()
  local d
  front.for_each_spec(function(daemon) d = daemon end)

  describe("gets", function()
    it("every part of a request", function()
      start(handler [[
        local all = {}
        for name, value in pairs(request.headers) do all[#all + 1] = name .. "=" .. value end
        table.sort(all)
        return 200, { ["X-Parts"] = "yes" }, table.concat({ request.method, request.path,
          request.query, request.headers["x-number"], tostring(request.headers["x-none"]),
          request:parameter "d", tostring(request:parameter "no"), request.peer,
          tostring(request.generation), table.concat(all, ","), request.body,
          tostring(request.nothing), tostring(request.gone) }, "|")
      ]])
      local answer = get("/a%20b/../c?d=e%20f&g", { method = "PUT", body = "the body",
        headers = { ["X-Number"] = "17" } })
      assert.equal(200, answer.status, answer.body)
      assert.equal("yes", answer.headers["x-parts"])
      assert.matches("^PUT|/c|d=e%%20f&g|17|nil|e f|nil|127%.0%.0%.1:%d+|1|.*x%-number=17"
        .. ".*|the body|nil|false$", answer.body)
    end)

    it("a parameter of any length, and none for a name that is absent", function()
      start(handler 'return 200, #(request:parameter "a" or "")')
      assert.equal("9000", get("/?a=" .. ("x"):rep(9000)).body)
      assert.equal("0", get("/?b=" .. ("x"):rep(9000)).body)
    end)

    it("nothing of a request that is answered", function()
      start(handler([[
        if request.path == "/keep" then kept, headers = request, request.headers return 200 end
        local results = {}
        for i, try in ipairs {
          function() return kept.path end, function() return headers["host"] end,
          function() return kept:parameter "a" end, function() return kept:stream(200) end,
          function() kept.path = "x" end, function() return kept.path:len() end,
          function() return request.parameter({}, "a") end,
        } do
          local ok, why = pcall(try)
          results[i] = tostring(ok) .. " " .. tostring(why)
        end
        return 200, table.concat(results, "\n")
      ]], "local kept, headers"))
      get "/keep"
      local body = get("/").body
      local count = 0
      for line in body:gmatch("[^\n]+") do
        assert.matches("^false ", line, body)
        count = count + 1
      end
      assert.equal(7, count)
      assert.matches("this request is answered: keep what you need", body)
    end)

    it("that its client left, while it waits for something else", function()
      start(handler([[
        if request.path == "/reported" then return 200, table.concat(reported, ",") end
        segue.race { function() segue.sleep "1h" end, function()
          local function wait()
            local gone = tostring(request:wait_gone())
            reported[#reported + 1] = gone
          end
          if request.path == "/twice" then segue.all { wait, wait } else wait() end
          reported[#reported + 1] = tostring(request:wait_gone()) .. tostring(request.gone)
        end }
        return 200, "to nobody"
      ]], "local segue, reported = require 'segue', {}"))
      for i, path in ipairs { "/once", "/twice" } do
        local connection = http.connect { port = front.at }
        connection:write("GET " .. path .. " HTTP/1.1\r\nHost: x\r\n\r\n")
        wait.until_true(function() return metric 'segue_gate_inside{module="front"}' == 1 end,
          WITHIN_MS, "the request")
        connection:reset()
        wait.until_true(function() return metric 'segue_gate_inside{module="front"}' == 0 end,
          WITHIN_MS, "its end")
        assert.equal(i == 1 and "true,truetrue" or "true,truetrue,true,true,truetrue",
          get("/reported").body)
      end
    end)

    it("the log and the metrics of other modules", function()
      start([[
        local log, stats = require "segue.log", require "segue.stats"
        return { handle = function()
          return 200, tostring(log.info("seen", { a = 1 })) .. " " .. tostring(stats.count "hits")
        end }
      ]], "", { top = "" })
      assert.equal("nil nil", get("/").body) -- there are none
      d.dir:save("reload.lua", d.dir:read("reload.lua"):gsub("modules = {",
        'modules = { log = { kind = "c", config = "log" }, '
        .. 'stats = { kind = "c", config = "stats" },'))
      d.dir:save("config.yaml", "front: { value: 2 }\nlog: { file: " .. d.dir:at("app.log")
        .. " }\nstats: {}\n")
      local status, answer = d:reload()
      assert.equal(200, status, answer)
      assert.equal("true true", get("/").body)
      wait.until_true(function() return (d.dir:read("app.log") or ""):find("seen", 1, true) end,
        WITHIN_MS, "the line")
      assert.matches("\nhits 1\n", d:http("/metrics").body)
      d.baseline.files[d.dir:at("app.log")] = 1 -- open as long as it is the log
      d.baseline.files.plugin = 2
    end)
  end)

  describe("that waits", function()
    it("does not delay other requests, and is answered when it is done", function()
      start(handler([[
        if request.path == "/wait" then
          while not released do segue.sleep "5ms" end
          return 200, "released"
        end
        released = request.path == "/release"
        return 200, "others"
      ]], 'local segue, released = require "segue", false'))
      local connection = http.connect { port = front.at }
      connection:write("GET /wait HTTP/1.1\r\nHost: x\r\n\r\n")
      for _ = 1, 20 do assert.equal("others", get("/").body) end
      get "/release"
      assert.equal("released", connection:read_response(WITHIN_MS).body)
    end)

    it("for another server, by segue.fetch", function()
      start(handler([[
        if request.path == "/inner" then return 200, "from inside" end
        local answer, why = segue.fetch(("http://127.0.0.1:%d/inner"):format(request:parameter "p"))
        return answer and 200 or 502, answer and answer.body or why
      ]], 'local segue = require "segue"'))
      for _ = 1, 3 do
        local answer = get("/?p=" .. front.at)
        assert.equal("from inside", answer.body)
        assert.equal(200, answer.status)
      end
    end)

    it("over a reload is answered by its old instance", function()
      start([[
        local segue, value, released = require "segue"
        return {
          start = function(config) value = config.value end,
          handle = function(request)
            if request.path == "/wait" then segue.sleep "300ms" end
            return 200, value .. " " .. request.generation
          end,
        }]], 'drain = "30s"')
      local connection = http.connect { port = front.at }
      connection:write("GET /wait HTTP/1.1\r\nHost: x\r\n\r\n")
      wait.until_true(function() return metric 'segue_gate_inside{module="front"}' == 1 end,
        WITHIN_MS, "the request")
      d.dir:save("config.yaml", "front: { value: 2 }\n")
      assert.equal(200, (d:reload()))
      assert.equal("2 2", get("/").body)
      assert.equal("1 1", connection:read_response(WITHIN_MS).body)
    end)
  end)

  describe("that fails", function()
    local code = handler([[
      if request.path == "/error" then error "oops" end
      if request.path == "/table" then error { code = 7 } end
      if request.path == "/loop" then while true do pcall(function() while true do end end) end end
      if request.path == "/gluttony" then
        local t = {}
        while true do t[#t + 1] = ("x"):rep(1000) .. #t end
      end
      if request.path == "/yield" then coroutine.yield() end
      if request.path == "/sleep" then segue.sleep "1h" end
      count = count + 1
      return 200, count
    ]], 'local segue, count = require "segue", 0')

    it("with an error answers 500, shows it only in the log, and continues to serve", function()
      start(code)
      assert.equal("1", get("/").body)
      for _, path in ipairs { "/error", "/table", "/yield" } do
        local answer = get(path)
        assert.equal(500, answer.status)
        assert.equal("the service failed to answer this request\n", answer.body)
      end
      d:wait_log('in=handle error="[^"]*front.lua:3: oops" traceback="stack traceback', WITHIN_MS)
      assert.equal("2", get("/").body) -- the same state
      assert.equal(3, metric 'segue_module_errors_total{module="front",kind="error"}')
      assert.equal(0, metric 'segue_module_rebuilds_total{module="front"}')
    end)

    it("in an endless loop is ended and answered 500, and its state is built again", function()
      start(code, 'budget = "50ms"')
      local waiting = http.connect { port = front.at }
      waiting:write("GET /sleep HTTP/1.1\r\nHost: x\r\n\r\n")
      wait.until_true(function() return metric 'segue_gate_inside{module="front"}' == 1 end,
        WITHIN_MS, "the request")
      assert.equal("1", get("/").body)
      assert.equal(500, get("/loop").status)
      assert.equal(500, waiting:read_response(WITHIN_MS).status) -- it was in the same state
      for i = 1, 3 do assert.equal(tostring(i), get("/").body) end -- a new one
      assert.equal(1, metric 'segue_module_errors_total{module="front",kind="cpu"}')
      assert.equal(1, metric 'segue_module_rebuilds_total{module="front"}')
      d:wait_log("front.lua:5: handle used more than 50 ms of CPU time", WITHIN_MS)
    end)

    it("by too much memory is ended and answered 500, and its state is built again", function()
      start(code, 'memory = "8MiB", budget = "5s"')
      assert.equal("1", get("/").body)
      assert.equal(500, get("/gluttony").status)
      assert.equal("1", get("/").body)
      assert.equal("2", get("/").body)
      assert.equal(1, metric 'segue_module_errors_total{module="front",kind="memory"}')
      d:wait_log("front.lua:%d+: handle needed more than 8 MiB of memory", WITHIN_MS)
    end)

    it("is not what garbage leads to, however much lives", function()
      start([[
        local kept = {}
        local function text(mark) return ("x"):rep(65000) .. mark end
        return { handle = function(request)
          if request.path == "/drop" then kept = {} return 200, "dropped" end
          local keep, waste = request.path:match "^/(%d+)/(%d+)"
          for i = 1, keep do kept[#kept + 1] = text(#kept) end
          local last = {}
          for i = 1, waste do last[i % 4] = text(i .. tostring(last)) end
          return 200, "" .. #kept
        end }]], 'memory = "8MiB", budget = "10s"') -- a sanitizer is slow: memory is meant here
      for round = 1, 3 do
        assert.equal("80", get("/80/0").body)
        for _, waste in ipairs { 2, 30, 300, 30, 300, 2 } do
          assert.equal("80", get("/0/" .. waste).body, round .. " " .. waste)
        end
        assert.equal("dropped", get("/drop").body)
        assert.equal("0", get("/0/300").body, d:log())
      end
      assert.falsy(d:log():find("hit a limit", 1, true))
    end)

    it("again and again serves the requests in between", function()
      start(code, 'budget = "20ms"', { threads = 2 })
      for _ = 1, 5 do
        assert.equal(500, get("/loop").status)
        assert.equal(200, get("/").status)
      end
    end)
  end)

  describe("does not go live", function()
    local cases = {
      { "with a syntax error", "return {\n  handle = function( end }", "front%.lua:2: .*expected" },
      { "when it returns no table", "return 7", "front%.lua: the module returns a number" },
      { "when it returns nothing to do", "return {}", "returns an empty table" },
      { "with a key that is none", "return {\n  handle = function() end,\n  handel = 1 }",
        'front%.lua:3: handel is not a known key here: did you mean "handle"' },
      { "with a key of the wrong type", "return { handle = 7 }", "handle must be a function" },
      { "without a handler", "return { start = function() end }", "returns no handle" },
      { "when it throws", "error 'at once'", "front%.lua:1: at once" },
      { "when it loops", "while true do end", "front%.lua:1: loading the module used more",
        500 },
      { "when start throws",
        "return { handle = function() end,\n start = function() error 'no' end }",
        "front%.lua:2: no", 500 },
      { "when start loops", "return { handle = function() end,\n start = function() while true do "
        .. "end end }", "front%.lua:2: start used more than", 500 },
      { "when it is bytecode", string.dump(function() end), "this is Lua bytecode" },
      { "when it requires what is not there", "require 'gone'",
        "front%.lua:1: module 'gone' not found: there is no .*gone%.lua" },
    }
    it("and the live instance is not changed", function()
      start(handler 'return 200, "good"')
      for _, case in ipairs(cases) do
        d.dir:save("front.lua", case[2])
        local status, answer = d:reload()
        assert.equal(case[4] or 422, status, case[1])
        local error = answer.errors[1]
        local line = type(error.line) == "number" and error.line > 0 and ":" .. error.line or ""
        local text = ("%s%s: %s"):format(error.file, line, error.message)
        assert.matches(case[3], text, case[1])
        assert.equal("good", get("/").body, case[1])
      end
      d.dir:save("front.lua", handler 'return 200, "better"')
      assert.equal(200, (d:reload()))
      assert.equal("better", get("/").body)
    end)

    it("when check runs, if its text is not Lua", function()
      start(handler 'return 200, "good"')
      d.dir:save("front.lua", "return {\n  handle = function( end }")
      local checked = d:cli "check"
      assert.equal(3, checked.code, checked:describe())
      assert.matches("front%.lua:2: .*expected", checked.stderr .. checked.stdout)
    end)

    it("without its part of the configuration", function()
      start(handler 'return 200, "good"')
      d.dir:save("config.yaml", "other: 1\n")
      local status, answer = d:reload()
      assert.equal(422, status)
      assert.matches("the configuration has no 'front'", answer.errors[1].message)
      assert.equal("good", get("/").body)
    end)

    it("when its limits are invalid", function()
      d = segue.folder { files = { ["front.lua"] = "return { start = function() end }",
        ["config.yaml"] = "a: 1" } }
      for keys, message in pairs {
        ['budget = "soon"'] = "budget must be a duration such as 500ms",
        ['memory = "1KiB"'] = "memory must be at least 1MiB",
        ['jit = "yes"'] = "jit must be true or false",
        ["cod = 'front.lua'"] = 'cod is not a known key here: did you mean "code"',
        ['code = "none.lua"'] = "none.lua",
      } do
        d.dir:save("reload.lua", ([[local segue = require "segue"
          return { sources = { segue.file "config.yaml" },
            modules = { front = { kind = "lua", %s } } }]]):format(keys))
        local check = d:cli "check"
        assert.equal(message == "none.lua" and 4 or 3, check.code, check:describe())
        assert.truthy((check.stdout .. check.stderr):find(message, 1, true), check:describe())
      end
    end)
  end)

  -- Keep-alive connections that ask again as soon as they are answered.
  local function load_with(count)
    local load = { answers = {}, broken = 0, connections = {} }
    local function ask(handle)
      if not load.over then handle:write("GET / HTTP/1.1\r\nHost: x\r\n\r\n") end
    end
    for i = 1, count do
      local handle, input = uv.new_tcp(), ""
      load.connections[i] = handle
      handle:connect("127.0.0.1", front.at, function(err)
        assert(not err, err)
        ask(handle)
        handle:read_start(function(_, data)
          if not data then
            load.broken = load.broken + (load.over and 0 or 1)
            return
          end
          input = input .. data
          local head, rest = input:match("^(.-\r\n\r\n)(.*)$")
          local length = head and tonumber(head:match("Content%-Length: (%d+)"))
          if not length or #rest < length then return end
          input = ""
          load.answers[#load.answers + 1] = head:match("^HTTP/1.1 (%d+)") .. " " .. rest
          ask(handle)
        end)
      end)
    end
    function load:stop()
      self.over = true
      for _, handle in ipairs(self.connections) do handle:close() end
      wait.pump()
    end
    return load
  end

  for _, replace in ipairs { "swap", "handover", "restart" } do
    it("is replaced by " .. replace .. " under load: no request is lost, each answer is of one "
      .. "generation", function()
      local function code(version)
        return ([[
          local VERSION, helper, value = %d, require "helper", nil
          return {
            start = function(config) value = config.value end,
            handle = function(request)
              return 200, VERSION .. " " .. value .. " " .. helper .. " " .. request.generation
            end,
          }]]):format(version)
      end
      start(code(1), ('replace = "%s"'):format(replace),
        { threads = 2, files = { ["helper.lua"] = "return 1" } })
      local load, first = load_with(8), 1
      for version = 2, 25 do
        wait.until_true(function() return #load.answers > first + 20 end, WITHIN_MS, "answers")
        d.dir:save("config.yaml", ("front: { value: %d }\n"):format(version))
        d.dir:save("front.lua", code(version))
        d.dir:save("helper.lua", "return " .. version)
        local status, answer = d:reload()
        assert.equal(200, status, answer)
        assert.equal(("200 %d %d %d %d"):format(version, version, version, version),
          "200 " .. get("/").body)
        first = #load.answers
      end
      assert.equal(0, load.broken)
      load:stop()
      for _, answer in ipairs(load.answers) do
        local a, b, c, e = answer:match("^200 (%d+) (%d+) (%d+) (%d+)$")
        assert.is_true(a ~= nil and a == b and b == c and c == e, answer)
      end
    end)
  end

  it("has its operations called once each and in order, its stop also when it throws", function()
    local code = [[
      local segue, value = require "segue", nil
      local function tell(what)
        segue.log.warn("reported", { what = what .. value })
      end
      return {
        start = function(config) value = config.value segue.sleep(0.01) tell "start" end,
        handle = function() return 200, value end,
        drain = function() segue.sleep(0.01) tell "drain" end,
        stop = function() tell "stop" error "cannot stop" end,
      }]]
    start(code, 'replace = "restart"')
    d.dir:save("config.yaml", "front: { value: 2 }\n")
    local status, answer = d:reload()
    assert.equal(200, status, answer)
    assert.equal("2", get("/").body)
    d:wait_log("in=stop error=\"[^\"]*front.lua:%d+: cannot stop\"", WITHIN_MS)
    d:stop()
    local reported = {}
    for what in d:log():gmatch("reported what=(%w+)") do reported[#reported + 1] = what end
    assert.same({ "start1", "drain1", "stop1", "start2", "drain2", "stop2" }, reported)
  end)

  it("without a listener runs, with the tasks of its start, until it is stopped", function()
    d = segue.start { files = { ["worker.lua"] = [[
      local segue = require "segue"
      return { start = function(config)
        segue.spawn(function()
          for i = 1, math.huge do
            segue.log.warn("tick", { v = config.value, i = i })
            segue.sleep "10ms"
          end
        end)
      end }]], ["config.yaml"] = "value: 1" }, policy = [[
      local segue = require "segue"
      return { sources = { segue.file "config.yaml" }, triggers = {},
        modules = { worker = { kind = "lua" } } }]] }
    d:wait_log("tick i=3 v=1", WITHIN_MS)
    d.dir:save("config.yaml", "value: 2")
    assert.equal(200, (d:reload()))
    d:wait_log("tick i=3 v=2", WITHIN_MS)
    local from = #d:log()
    d:wait_log("tick i=30 v=2", WITHIN_MS)
    assert.falsy(d:log():find("v=1\n", from, true))
  end)

  it("has the files that it requires, in any form of the call, and no others", function()
    start([==[
      -- require "commented"
      --[[ require "commented too" ]]
      local text = "require 'quoted'" .. [[ require "long" ]] .. 'it\'s require "escaped"'
      local a = require "one"
      local b = require("two.three")
      local c = require 'four'
      local ok, why = pcall(require, "none")
      local t = { require = function(name) return name end }
      t.require "method"
      local late = "fi" .. "ve"
      local found, reason = pcall(require, late)
      return { handle = function()
        return 200, table.concat({ a, b, c, tostring(ok), tostring(found), reason }, " ")
      end }
    ]==], "", { files = { ["one.lua"] = "return require 'inner'", ["inner.lua"] = "return 1",
      ["two/three.lua"] = "return 3", ["four.lua"] = "return 4", ["five.lua"] = "return 5" } })
    assert.matches("^1 3 4 false false .*require 'five': its name must be written out",
      get("/").body)
    d.dir:save("five.lua", "return 6")
    local _, answer = d:reload()
    assert.equal("unchanged", answer.outcome)
    d.dir:save("inner.lua", "return 7")
    _, answer = d:reload()
    assert.equal("applied", answer.outcome)
    assert.matches("^7 3 4 ", get("/").body)
  end)

  it("is replaced when one of its files is saved", function()
    start([[local a = require "one" return { handle = function() return 200, a end }]], "",
      { top = "debounce = { min = '10ms' },", files = { ["one.lua"] = "return 'a'" } })
    d.dir:save("reload.lua", (d.dir:read("reload.lua"):gsub("triggers = {", "%0 segue.watch(),")))
    assert.equal(200, (d:reload()))
    d.dir:save("one.lua", "return 'b'")
    wait.until_true(function() return get("/").body == "b" end, WITHIN_MS, "the new file")
    d:wait_settled(WITHIN_MS)
  end)

  it("counts waiting requests against its memory, and rejects those past the limit", function()
    start(handler([[
      if request.path ~= "/wait" then return 200 end
      segue.race { function() segue.sleep "1h" end, function() request:wait_gone() end }
      return 200
    ]], "local segue = require 'segue'"), 'memory = "4MiB"')
    local waiting, refused = {}, nil
    while not refused do
      local connection = http.connect { port = front.at }
      connection:write(http.format { method = "POST", path = "/wait", body = ("x"):rep(500000) })
      waiting[#waiting + 1] = connection
      wait.until_true(function()
        refused = connection.input ~= ""
        return refused or metric 'segue_gate_inside{module="front"}' == #waiting
      end, WITHIN_MS, "a request inside")
    end
    local answer = waiting[#waiting]:read_response(WITHIN_MS)
    assert.equal(503, answer.status)
    assert.equal("1", answer.headers["retry-after"])
    assert.is_true(#waiting > 2 and #waiting < 10, #waiting)
    assert.equal(200, get("/").status)
    for _, connection in ipairs(waiting) do connection:reset() end
    wait.until_true(function() return metric 'segue_gate_inside{module="front"}' == 0 end,
      WITHIN_MS, "the end of those who left")
    for _ = 1, 3 do
      assert.equal(200, get("/", { method = "POST", body = ("x"):rep(500000) }).status)
    end
  end)

  it("that waits for ever is cancelled when its daemon ends, and answered", function()
    start(handler("segue.sleep '1h'", "local segue = require 'segue'"), 'drain = "100ms"')
    local connection = http.connect { port = front.at }
    connection:write("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    wait.until_true(function() return metric 'segue_gate_inside{module="front"}' == 1 end,
      WITHIN_MS, "the request")
    d:signal "term"
    local answer = connection:read_response(WITHIN_MS)
    assert.equal(503, answer.status)
    assert.equal("1", answer.headers["retry-after"])
    assert.equal("close", answer.headers.connection)
    assert.equal(0, (d:wait_exit(WITHIN_MS)), d:log())
  end)

  it("that waits for ever is answered 503 when its drain is over", function()
    start(handler("if request.path == '/wait' then segue.sleep '1h' end return 200, 'new'",
      "local segue = require 'segue'"), 'drain = "100ms"')
    local connection = http.connect { port = front.at }
    connection:write("GET /wait HTTP/1.1\r\nHost: x\r\n\r\n")
    wait.until_true(function() return metric 'segue_gate_inside{module="front"}' == 1 end,
      WITHIN_MS, "the request")
    d.dir:save("config.yaml", "front: { value: 2 }\n")
    assert.equal(200, (d:reload()))
    local answer = connection:read_response(WITHIN_MS)
    assert.equal(503, answer.status)
    assert.equal("1", answer.headers["retry-after"])
  end)

  it("runs compiled where its code is trusted, and a loop in it is reported", function()
    start(handler [[
      local sum = 0
      for i = 1, request.path == "/loop" and 6e8 or 1e6 do sum = sum + i % 7 end
      return 200, sum
    ]], "jit = true", { env = { SEGUE_TEST_STALL_MS = "200", SEGUE_TEST_LOOK_MS = "50" } })
    assert.equal(200, get("/").status)
    local connection = http.connect { port = front.at }
    connection:write("GET /loop HTTP/1.1\r\nHost: x\r\n\r\n")
    d:wait_log("a module keeps its worker thread busy.*module=front thread=0", WITHIN_MS)
    assert.equal(200, d:http("/-/healthy").status)
    connection:read_response(WITHIN_MS)
  end)

  it("leaves nothing behind after hundreds of reloads #long", function()
    start([[
      local segue, value, cache = require "segue", nil, {}
      return {
        start = function(config)
          value = config.value
          for i = 1, 2000 do cache[i] = ("x"):rep(100) .. i end
          segue.spawn(function() segue.sleep "1h" end)
        end,
        handle = function() return 200, value .. #cache end,
      }]], "", { measured = true, threads = 2 })
    local function reloads(from, to)
      for i = from, to do
        d.dir:save("config.yaml", ("front: { value: %d }\n"):format(i))
        local status, answer = d:reload()
        assert.equal(200, status, answer)
        assert.equal(i .. "2000", get("/").body)
      end
      wait.until_true(function() return metric 'segue_module_draining{module="front"}' == 0 end,
        WITHIN_MS, "drained")
    end
    reloads(2, 60)
    local files, threads, before = d.process:fds(), d.process:threads(), d.process:rss_kib()
    reloads(61, 360)
    wait.until_true(function() -- one more: the first connection of the other worker thread
      return d.process:fds() <= files + 1
    end, WITHIN_MS, function() return d.process:fds() .. " descriptors, not " .. files end)
    assert.equal(threads, d.process:threads())
    local grown = d.process:rss_kib() - before
    assert.is_true(grown < segue.roomy_kib(4096), grown .. " KiB")
  end)
end)
