-- SPDX-License-Identifier: MIT
-- The life of modules in Lua behind a listener of the daemon: what does not go live, reloads of
-- code and configuration under load, limits, and their end.
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
