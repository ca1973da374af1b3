-- SPDX-License-Identifier: MIT
-- Modules in Lua in this process: an instance of the library on a loop of the spec, whose module
-- answers on a worker thread. One instance serves many cases.
local C = require "spec.support.c"
local http = require "spec.support.http"
local port = require "spec.support.port"
local tempdir = require "spec.support.tempdir"
local uv = require "luv"
local ffi = C.ffi

local WITHIN_MS = 60000
local host

-- Starts an instance of a policy whose module `front` has this code and these further keys.
local function start(code, more)
  local h = { dir = tempdir.new(), loop = C.loop_new(), port = port.free() }
  h.dir:write("config.yaml", "front: { value: 7 }\n")
  h.dir:write("front.lua", code)
  h.dir:write("reload.lua", ([[local segue = require "segue"
    return { sources = { segue.file "config.yaml" }, triggers = {}, threads = 1, modules = {
      front = { kind = "lua", config = "front", listen = "http://127.0.0.1:%d", %s } } }
  ]]):format(h.port, more or ""))
  local o = C.new("segue_options[1]")
  C.segue_options_init_size(o, ffi.sizeof "segue_options")
  local texts = { h.dir:at "reload.lua", h.dir:at "state", uv.cwd() .. "/lua" }
  local on_start = ffi.cast("segue_report_cb", function(_, status, r)
    h.started = { status = status, text = status ~= 0 and r ~= nil and r.error_count > 0
      and C.text(r.errors) or nil }
  end)
  local on_stopped = ffi.cast("void (*)(void *)", function() h.stopped = true end)
  h.live = { texts, on_start, on_stopped } -- memory that C holds
  o[0].uv_loop, o[0].policy, o[0].state, o[0].lua_dir = h.loop.uv, texts[1], texts[2], texts[3]
  o[0].on_start, o[0].on_stopped = on_start, on_stopped
  local out, err = C.new("segue *[1]"), C.error()
  C.check(C.segue_new(out, o, err), err)
  h.s, host = out[0], h
  C.check(C.segue_start(h.s, err), err)
  C.run_until(h.loop, function() return h.started end, WITHIN_MS)
  return h.started
end

local function stop()
  local h = host
  host = nil
  http.close_all()
  if not h then return end
  C.segue_close(h.s)
  C.run_until(h.loop, function() return h.stopped end, WITHIN_MS)
  C.loop_close(h.loop)
  tempdir.remove_all()
end

local function get(path, more)
  local request = { port = host.port, path = path, deadline_ms = WITHIN_MS }
  for key, value in pairs(more or {}) do request[key] = value end
  return http.request(request)
end

-- The metrics of the instance, from its control socket, while its loop turns.
local function metrics()
  local pipe, input, ended = uv.new_pipe(false), "", false
  pipe:connect(host.dir:at "state/control.sock", function()
    pipe:read_start(function(_, data) input, ended = input .. (data or ""), not data end)
    pipe:write "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
  end)
  C.run_until(host.loop, function()
    uv.run "nowait"
    return ended
  end, WITHIN_MS)
  pipe:close()
  uv.run "nowait"
  return input
end

local function errors(kind)
  return tonumber(metrics():match('segue_module_errors_total{module="front",kind="' .. kind
    .. '"} (%d+)'))
end

local function inside()
  return tonumber(metrics():match('segue_gate_inside{module="front"} (%-?%d+)'))
end

describe("a module in Lua", function()
  after_each(stop)

  it("has its part of the configuration, requests and answers of each kind", function()
    start [[
      local value
      return {
        start = function(config) value = config.value end,
        handle = function(r)
          if r.path == "/value" then return 200, tostring(value) end
          if r.path == "/echo" then return 201, { ["X-Seen"] = r.headers["x-in"] }, r.body end
          if r.path == "/list" then return 200, {}, { "a", 1, "b" } end
          if r.path == "/query" then return 200, r:parameter "q" end
          if r.path == "/kept" then
            local old = kept
            kept = r
            if not old then return 200, "first" end
            local ok, why = pcall(function() return old.path end)
            return 200, tostring(ok) .. why
          end
          return 404, "no " .. r.method .. " " .. r.path
        end,
      }]]
    assert.equal("7", get("/value").body)
    local echo = get("/echo", { method = "POST", body = "text", headers = { ["X-In"] = "in" } })
    assert.equal(201, echo.status)
    assert.equal("text", echo.body)
    assert.equal("in", echo.headers["x-seen"])
    assert.equal("a1b", get("/list").body)
    assert.equal("x y", get("/query?q=x%20y").body)
    assert.equal(404, get("/none").status)
    assert.equal("first", get("/kept").body)
    assert.matches("^false.*this request is answered", get("/kept").body)
  end)

  it("fails to load within its time if its code fails in any way", function()
    for _, code in ipairs {
      "error('broken')", "return 1", "return {}", "x =", "while true do end",
      "error(setmetatable({}, { __tostring = function() for _ = 1, 1e10 do end end }))",
    } do
      local started = start(code)
      assert.is_true(started.status ~= 0, code)
      assert.truthy(started.text:find("front.lua", 1, true), started.text)
      stop()
    end
  end)

  it("answers 500 for an error object whose __tostring loops, and continues to serve", function()
    start([[return { handle = function(r)
      if r.path == "/" then return 200, "ok" end
      local loop = function() for _ = 1, 1e10 do end return "x" end
      if r.path == "/xpcall" then xpcall(loop, loop) end
      error(setmetatable({}, { __tostring = loop }))
    end }]], 'budget = "60ms"')
    for _, path in ipairs { "/object", "/xpcall", "/object" } do
      assert.equal(500, get(path).status)
      assert.equal("ok", get("/").body)
    end
    assert.equal(3, errors "cpu")
  end)

  it("shares the CPU time of a request with all its tasks", function()
    start([[local segue = require "segue"
      return { handle = function(r)
        if r.path == "/" then return 200, "ok" end
        for _ = 1, 300 do
          segue.spawn(function()
            local till = os.clock() + 0.06
            while os.clock() < till do end
          end)
        end
        segue.sleep "1h"
      end }]], 'budget = "100ms"')
    local slow = http.connect { port = host.port }
    slow:write "GET /slow HTTP/1.1\r\nHost: x\r\n\r\n"
    assert.equal(500, slow:read_response(WITHIN_MS).status)
    assert.equal("ok", get("/").body)
    assert.equal(1, errors "cpu")
  end)

  it("answers 504 if a handler passes its limit, and cancels the operation that it waits for",
    function()
      start([[local segue = require "segue"
        local ended = 0
        return { handle = function(r)
          if r.path == "/ended" then return 200, tostring(ended) end
          if r.path == "/stream" then
            r:stream(200)
            segue.sleep "400ms"
            r:write "late"
            return
          end
          segue.spawn(function() segue.sleep "400ms" ended = ended + 1 end)
          segue.sleep "1h"
        end }]], 'timeout = "200ms"')
      local answer = get "/slow"
      assert.equal(504, answer.status)
      assert.equal("the service did not answer in time\n", answer.body)
      assert.equal(1, errors "timeout")
      assert.equal("late", get("/stream").body) -- its answer began in time
      assert.equal("0", get("/ended").body)
      assert.equal(1, errors "timeout")
    end)

  it("handles a request during the answer to the previous one, and leaves its gate once",
    function()
      start [[local segue = require "segue"
        return { handle = function(r)
          if r.path == "/later" then segue.sleep "20ms" end
          return 200, r.path
        end }]]
      -- Requests that were sent at once are handled one inside of the answer to the other: also
      -- where the first waits, and where one in the middle does.
      for _, paths in ipairs {
        { "/later", "/2", "/3" }, { "/1", "/later", "/3", "/later", "/5" }, { "/1", "/2", "/3" },
      } do
        local connection, text = http.connect { port = host.port }, {}
        for i, path in ipairs(paths) do
          text[i] = "GET " .. path .. " HTTP/1.1\r\nHost: x\r\n\r\n"
        end
        connection:write(table.concat(text))
        for _, path in ipairs(paths) do
          assert.equal(path, connection:read_response(WITHIN_MS).body)
        end
        connection:close()
        assert.equal(0, inside())
      end
    end)

  it("rejects an invalid limit", function()
    local started = start("return { handle = function() end }", 'timeout = "soon"')
    assert.truthy(started.text:find("timeout", 1, true), started.text)
  end)

  it("limits the memory of answers that clients do not read", function()
    start([[local segue = require "segue"
      return { handle = function(r)
        local s, refused, tasks = ("x"):rep(4e6), nil, {}
        if r.path == "/" then return 200, "ok" end
        r:stream(200)
        for i = 1, 100 do
          tasks[i] = segue.spawn(function()
            local ok, why, code = r:write(s)
            if not ok and code == "SEGUE_ELIMIT" then refused = why end
          end)
        end
        segue.sleep "1ms"
        for i = 1, 100 do tasks[i]:cancel() end
        r:write(refused and "refused" or "taken")
      end }]])
    local answer = get "/"
    assert.equal("ok", answer.body)
    answer = get "/stream"
    assert.equal("refused", answer.body:match("[^x]+$"))
    assert.equal("ok", get("/").body)
  end)
end)
