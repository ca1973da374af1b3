-- SPDX-License-Identifier: MIT
-- Modules in Lua behind a listener of the daemon: the values that a handler receives and returns,
-- handlers that wait, and handlers that fail.
local front = require "spec.support.lua_module"
local http = require "spec.support.http"
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
end)
