-- SPDX-License-Identifier: MIT
-- Answers of a module in Lua: their forms, and streams at the pace of the client.
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

  describe("answers", function()
    it("with status, headers and body in every form", function()
      start(handler [[
        local p = request.path
        if p == "/status" then return 204 end
        if p == "/text" then return 200, "text" end
        if p == "/number" then return 200, 7 end
        if p == "/pieces" then return 200, nil, { "a", 1, "b" } end
        if p == "/headers" then
          return 201, { ["Content-Type"] = "application/json", ["Set-Cookie"] = { "a=1", "b=2" },
            ["X-Count"] = 12 }, "{}"
        end
      ]])
      assert.equal(204, get("/status").status)
      local text = get "/text"
      assert.equal("text", text.body)
      assert.equal("text/plain; charset=utf-8", text.headers["content-type"])
      assert.equal("7", get("/number").body)
      assert.equal("a1b", get("/pieces").body)
      local connection = http.connect { port = front.at }
      connection:write("GET /headers HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
      local raw = connection:read_all(WITHIN_MS)
      for _, line in ipairs { "HTTP/1.1 201 Created", "Content-Type: application/json",
        "Set-Cookie: a=1", "Set-Cookie: b=2", "X-Count: 12", "Content-Length: 2" } do
        assert.truthy(raw:find(line .. "\r\n", 1, true), raw)
      end
    end)

    local wrong = {
      { "nothing", "", "the status must be a number from 200 to 599, not a nil" },
      { "a wrong status", "return 99", "the status must be from 200 to 599, not 99" },
      { "half a status", "return 200.5", "not 200.5" },
      { "a text as status", "return '200'", "not a string" },
      { "headers that are none", "return 200, true", "the headers must be a table, not a boolean" },
      { "a header without a name", "return 200, { 'x' }, ''", "headers are a table of names" },
      { "a header that is a table of tables", "return 200, { a = { {} } }, ''",
        "must be a text, or a list of texts" },
      { "a header that splits the answer", "return 200, { a = 'x\\r\\nB: y' }",
        "a header that is malformed" },
      { "a header that is not the module's", "return 200, { ['Content-Length'] = '1' }, ''",
        "that a module must not set" },
      { "a body that is none", "return 200, {}, true",
        "a body must be a text, or a list of texts, not a boolean" },
      { "a piece that is none", "return 200, {}, { {} }",
        "piece 1 of the body must be a text or a number, not a table" },
      { "a table that nobody made a text of", "return 200, {}, { a = 1 }",
        "this table has a key that is 'a': make a text of it" },
      { "a list with a key of its own", "return 200, {}, { 'x', [true] = 1 }",
        "this table has a key that is a boolean" },
      { "a body that is longer than the memory",
        "local s, t = ('x'):rep(1e6), {} for i = 1, 100 do t[i] = s end return 200, {}, t",
        "the body is longer than the 64 MiB of memory that the module has" },
      { "headers that are too long", "return 200, { a = ('x'):rep(70000) }, ''",
        "the headers are longer than 64 KiB" },
      { "too many headers", "local h = {} for i = 1, 100 do h['x' .. i] = i end return 200, h",
        "at most 64 headers" },
    }
    it("500 for a result that is no answer, and logs that result", function()
      local code = {}
      for i, case in ipairs(wrong) do
        code[i] = ("if request.path == '/%d' then %s end"):format(i, case[2] == "" and "return"
          or "do " .. case[2] .. " end")
      end
      start(handler(table.concat(code, "\n")))
      for i, case in ipairs(wrong) do
        local answer = get("/" .. i)
        assert.equal(500, answer.status, case[1])
        assert.equal("the service failed to answer this request\n", answer.body)
        d:wait_log((case[3]:gsub("%p", "%%%0")), WITHIN_MS)
      end
      assert.equal(#wrong, metric 'segue_module_errors_total{module="front",kind="error"}')
    end)

    it("not as a whole where a stream fails in the middle", function()
      start(handler [[
        request:stream(200, { ["Content-Type"] = "x/y" })
        request:write "a beginning"
        if request.path == "/fails" then error "no more" end
      ]])
      assert.equal("a beginning", get("/").body)
      local connection = http.connect { port = front.at }
      connection:write("GET /fails HTTP/1.1\r\nHost: x\r\n\r\n")
      wait.until_true(function() return connection.ended end, WITHIN_MS)
      assert.matches("a beginning", connection.input)
      assert.is_nil(connection.input:find("\r\n0\r\n", 1, true))
      d:wait_log("front%.lua:%d+: no more", WITHIN_MS)
    end)

    it("with a reset if a stream fails that ends with its connection", function()
      start(handler [[
        request:stream(200, { ["Content-Type"] = "x/y" })
        request:write "a beginning"
        if request.path == "/fails" then error "no more" end
      ]])
      for path, well in pairs { ["/"] = true, ["/fails"] = false } do
        local connection = http.connect { port = front.at }
        connection.handle:read_stop()
        connection:write("GET " .. path .. " HTTP/1.0\r\n\r\n")
        assert.equal(well, connection:ends_well(WITHIN_MS))
      end
    end)

    it("piece by piece, at the pace of the client", function()
      start(handler [[
        request:stream(200, { ["Content-Type"] = "x/y" })
        for i = 1, 400 do
          local ok, why, code = request:write((("%07d\n"):format(i)):rep(2048))
          if not ok then return end
        end
      ]], 'memory = "16MiB"')
      local connection = http.connect { port = front.at }
      connection.handle:read_stop()
      connection:write("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
      assert.equal(200, get("/").status) -- while the first one does not read
      connection:read_on()
      local answer = connection:read_response(WITHIN_MS)
      assert.equal("x/y", answer.headers["content-type"])
      assert.equal(400 * 2048 * 8, #answer.body)
      assert.equal("0000400\n", answer.body:sub(-8))
    end)

    -- Opens a connection, sends a request, and reads nothing until `read_on` is called.
    local function unread(path)
      local connection = http.connect { port = front.at }
      connection.handle:read_stop()
      connection:write(("GET %s HTTP/1.1\r\nHost: x\r\n\r\n"):format(path))
      return connection
    end
    -- How often threads of the daemon were woken.
    local function wakeups()
      local sum, folder = 0, ("/proc/%d/task/"):format(d.process.pid)
      local dir = uv.fs_scandir(folder)
      for name in function() return uv.fs_scandir_next(dir) end do
        local file = assert(io.open(folder .. name .. "/status"))
        sum = sum + tonumber(file:read("*a"):match "\nvoluntary_ctxt_switches:%s*(%d+)")
        file:close()
      end
      return sum
    end
    local STREAM = [[
      if request.path == "/nap" then segue.sleep "600ms" return 200, reported end
      request:stream(200, { ["Content-Type"] = "x/y" })
      for i = 1, 4000 do
        reported = i
        if not request:write((("%07d\n"):format(i)):rep(2048)) then reported = "left" return end
      end
      reported = "all"
    ]]

    it("waits for a client that does not read without looking again and again, in little memory, "
      .. "and goes on when it reads", function()
      start(handler(STREAM, "local segue, reported = require 'segue', nil"), "",
        { measured = true })
      assert.equal(200, get("/nap").status)
      local before = d.process:rss_kib()
      local connection = unread "/"
      local last
      repeat -- until it has filled the buffers on the way
        local now = get("/nap").body
        local stands = now == last
        last = now
      until stands
      assert.is_true(tonumber(last) < 2000, last) -- of 64 MiB less than a half
      local from = wakeups()
      assert.equal(last, get("/nap").body)
      local woken = wakeups() - from
      assert.is_true(woken < 60, woken .. " wake-ups in 600 ms")
      local grown = d.process:rss_kib() - before
      assert.is_true(grown < segue.roomy_kib(8192), grown .. " KiB")
      local head, count, tail = nil, 0, ""
      connection.handle:read_start(function(_, data)
        if not data then connection.ended = true return end
        head = head or #data:match "^.-\r\n\r\n"
        count, tail = count + #data, (tail .. data):sub(-64)
      end)
      wait.until_true(function() return tail:sub(-7) == "\r\n0\r\n\r\n" end, WITHIN_MS,
        function() return "the end: " .. d.process:describe() end)
      assert.equal(head + 4000 * #("4000\r\n" .. ("x"):rep(2048 * 8) .. "\r\n") + 5, count)
      assert.equal("0004000\n\r\n0\r\n\r\n", tail:sub(-15))
      assert.equal("all", get("/nap").body)
    end)

    it("for as long as a client takes it, and others on its thread have their turns", function()
      start(handler([[
        if request.path == "/reported" then return 200, reported end
        request:stream(200, { ["Content-Type"] = "x/y" })
        for i = 1, 10000 do
          reported = i
          if not request:write(("x"):rep(16384)) then reported = "left" return end
        end
        reported = "all"
      ]], "local reported"), 'budget = "50ms"')
      local connection = unread "/"
      local count, asked, seen = 0, nil, {}
      connection.handle:read_start(function(_, data)
        if not data then connection.ended = true return end
        count = count + #data
      end)
      wait.until_true(function() -- of 156 MiB, which take more than 50 ms
        asked = get("/reported").body
        seen[#seen + 1] = asked
        return asked == "all" or tonumber(asked) > tonumber(seen[1])
      end, WITHIN_MS)
      assert.is_true(tonumber(seen[#seen]) > tonumber(seen[1]), table.concat(seen, " "))
      wait.until_true(function() return count > 10000 * 16384 or connection.ended end, WITHIN_MS,
        function() return count .. " bytes: " .. d.process:describe() end)
      assert.is_nil(connection.ended, d:log())
      assert.equal("all", get("/reported").body)
    end)

    it("stops waiting for a client that leaves instead of reading", function()
      start(handler(STREAM, "local segue, reported = require 'segue', nil"))
      local connection = unread "/"
      local last
      repeat
        local now = get("/nap").body
        local stands = now == last
        last = now
      until stands
      connection.handle:close_reset()
      wait.until_true(function() return get("/nap").body == "left" end, WITHIN_MS, "the end")
    end)

    it("piece by piece in the order in which its tasks write them", function()
      start(handler([[
        if request.path == "/reported" then return 200, tostring(reported) end
        request:stream(200, { ["Content-Type"] = "x/y" })
        local function pieces(name)
          for i = 1, 100 do assert(request:write((name .. ("%06d\n"):format(i)):rep(4096))) end
        end
        segue.all { function() pieces "a" end, function() pieces "b" end }
      ]], "local segue, reported = require 'segue', nil"), 'budget = "5s"')
      local connection = unread "/"
      get "/reported"
      connection:read_on()
      local body = connection:read_response(WITHIN_MS).body
      assert.equal(200 * 4096 * 8, #body)
      local at_number = { a = 0, b = 0 }
      for i = 0, 199 do
        local piece = body:sub(i * 32768 + 1, (i + 1) * 32768)
        local name, number = piece:match "^([ab])(%d+)\n"
        assert.equal(piece:sub(1, 8):rep(4096), piece)
        assert.equal(at_number[name] + 1, tonumber(number))
        at_number[name] = tonumber(number)
      end
    end)

    it("without text that a task writes after the end, and the task gets an error", function()
      start([[
        local segue, current, reported = require "segue", nil, nil
        return {
          start = function()
            segue.spawn(function()
              while not current do segue.sleep "1ms" end
              local request = current
              repeat
                local ok, message, code = request:write(("x"):rep(65536))
                if not ok then reported = message .. " " .. code end
              until not ok
            end)
          end,
          handle = function(request)
            if request.path == "/reported" then return 200, tostring(reported) end
            request:stream(200, { ["Content-Type"] = "x/y" })
            current = request
            segue.sleep "300ms"
          end,
        }]])
      local connection = unread "/"
      wait.until_true(function() return get("/reported").body ~= "nil" end, WITHIN_MS, "the end")
      assert.equal("the answer has ended SEGUE_ECLOSED", get("/reported").body)
      connection:read_on()
      assert.matches("^x*$", connection:read_response(WITHIN_MS).body)
    end)
  end)
end)
