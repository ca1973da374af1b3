-- SPDX-License-Identifier: MIT
-- Code of modules that never returns on its worker thread: reloads are answered all the same, and
-- the daemon ends in good order except for that thread.
local http = require "spec.support.http"
local plugin = require "spec.support.plugin"
local port = require "spec.support.port"
local segue = require "spec.support.segue"
local wait = require "spec.support.wait"

local WITHIN_MS = 60000
local UNEXPECTED = 1

-- The daemon waits 2 s before it reports such code, 10 s before it fails reloads, 5 s at its end.
local SOONER = { SEGUE_TEST_STALL_MS = "300", SEGUE_TEST_HOPE_MS = "1500",
  SEGUE_TEST_LOOK_MS = "100", SEGUE_TEST_PATIENCE_MS = "2500" }

describe("a worker thread that does not return from a module", function()
  local d, at
  before_each(function() at = port.free() end)
  after_each(function()
    http.close_all()
    segue.cleanup()
  end)

  -- front: keys of the module that gets stuck; more: other modules; files.
  local function start(front, more, files, threads)
    files["config.yaml"] = files["config.yaml"] or "value: 1\n"
    d = segue.start { files = files, env = SOONER, policy = ([[
local segue = require "segue"
return {
  sources = { segue.file "config.yaml" }, triggers = {}, threads = %d,
  modules = {
    front = { %s, listen = "http://127.0.0.1:%d", drain = "300ms" },
    %s
  },
}
]]):format(threads or 1, front, at, more or "") }
    return d
  end
  local LOOP = [[
    return { handle = function(request)
      if request.path == "/loop" then while true do end end
      return 200, "well"
    end }]]

  local function ask(path)
    local connection = http.connect { port = at }
    connection:write(("GET %s HTTP/1.1\r\nHost: x\r\n\r\n"):format(path))
    return connection
  end
  local function ends_without_it(module)
    d:signal "term"
    local code, signal = d:wait_exit(WITHIN_MS)
    local log = d:log()
    assert.same({ UNEXPECTED, 0 }, { code, signal }, log)
    assert.matches("a worker thread is abandoned, because the code of a module does not return.*"
      .. "module=" .. module .. " thread=0 seconds=%d+\n", log)
    assert.matches("stopped, except for the abandoned worker threads\n$", log)
    assert.falsy(log:find("Sanitizer", 1, true), log)
  end
  local function stuck_in(module)
    d:wait_log("a module keeps its worker thread busy.*module=" .. module .. " thread=0", WITHIN_MS)
  end

  it("because of a compiled loop in a handler is left behind at the end, and all the rest ends "
    .. "in good order", function()
    start('kind = "lua", jit = true', [[
      log = { kind = "c", config = "log" },
      worker = { kind = "lua", needs = { "log" } },
    ]], { ["front.lua"] = LOOP, ["config.yaml"] = "log: { file: app.log }\n", ["worker.lua"] = [[
      local log = require "segue.log"
      return { start = function() end, stop = function()
        for i = 1, 1000 do log.info("line", { i = i }) end
      end }]] })
    d.baseline = nil
    local connection = ask "/loop"
    stuck_in "front"
    ends_without_it "front"
    wait.until_true(function() return connection.ended end, WITHIN_MS, "the end of its connection")
    assert.equal("", connection.input)
    local generation = d.dir:read ".segue/history.db"
    assert.truthy(generation and #generation > 0)
    d:spawn() -- what was recorded is whole, and the address is free
    d:wait_ready(WITHIN_MS)
    d.baseline = nil
    wait.until_true(function() return ask("/"):read_response(WITHIN_MS).body == "well" end,
      WITHIN_MS, "an answer")
  end)

  it("answers the requests of the other threads before the end", function()
    start('kind = "lua", jit = true', "", { ["front.lua"] = [[
      local segue = require "segue"
      return { handle = function(request)
        if request.path == "/loop" then while true do end end
        if request.path == "/wait" then segue.sleep "1s" end
        return 200, "well"
      end }]] }, 2)
    d.baseline = nil
    local stuck = ask "/loop"
    d:wait_log("a module keeps its worker thread busy", WITHIN_MS)
    local thread = d:log():match "module=front thread=(%d)"
    local waiting = {}
    for i = 1, 4 do waiting[i] = ask "/wait" end -- the other thread accepts them
    wait.until_true(function()
      return d:control("/metrics").body:find 'segue_gate_inside{module="front"} 5\n'
    end, WITHIN_MS, "the requests")
    d:signal "term"
    for i = 1, 4 do
      local answer = waiting[i]:read_response(WITHIN_MS)
      assert.same({ 200, "well" }, { answer.status, answer.body }, d:log())
    end
    assert.equal(UNEXPECTED, (d:wait_exit(WITHIN_MS)), d:log())
    assert.matches("is abandoned.* thread=" .. thread .. " ", d:log())
    assert.equal("", stuck.input)
  end)

  it("because of a handler in C that waits for ever is abandoned at the end", function()
    local path = require("spec.support.tempdir").new():at("stuck.so")
    plugin.build(path, [[
#include <segue.h>
#include <stdio.h>
#include <unistd.h>
static void prepare(void *userdata, segue_op *op, const segue_slice *next, const segue_slice *prev,
                    void **instance) {
  (void)userdata, (void)next, (void)prev;
  *instance = &instance;
  segue_op_done(op, 0, NULL);
}
static void handle(void *instance, segue_request *request) {
  (void)instance, (void)request;
  fputs("in the handler\n", stderr);
  for (;;) pause();
}
static const segue_module_ops ops = { .size = sizeof ops, .prepare = prepare, .handle = handle };
SEGUE_API const segue_module_descriptor segue_module = { .magic = SEGUE_MODULE_MAGIC,
  .abi = SEGUE_MODULE_ABI, .size = sizeof(segue_module_descriptor), .name = "stuck", .version = "1",
  .ops = &ops };
]])
    start(('kind = "c", plugin = "%s"'):format(path), "", {})
    d.baseline = nil
    local connection = ask "/"
    d:wait_log("in the handler", WITHIN_MS)
    ends_without_it "front"
    wait.until_true(function() return connection.ended end, WITHIN_MS, "the end of its connection")
  end)

  it("because of a loop in its stop is abandoned at the end", function()
    start('kind = "lua", jit = true', "", { ["front.lua"] = [[
      return { handle = function() return 200, "well" end,
        stop = function() while true do end end }]] })
    assert.equal(200, ask("/"):read_response(WITHIN_MS).status)
    ends_without_it "front"
  end)

  it("fails a reload that needs that thread, by name; others succeed", function()
    start('kind = "lua", jit = true, config = "value"', [[
      log = { kind = "c", config = "log" },
    ]], { ["front.lua"] = LOOP, ["config.yaml"] = "value: 1\nlog: { file: app.log }\n" })
    d.baseline = nil
    ask "/loop"
    stuck_in "front"
    d.dir:save("config.yaml", "value: 2\nlog: { file: app.log }\n")
    for _ = 1, 2 do
      local status, answer = d:reload()
      assert.equal(500, status, d:log())
      assert.matches("worker thread 0 has not returned from module 'front' for %d+ s, so nothing "
        .. "can be built there: is there an endless loop%? Only a restart ends it",
        answer.errors[1].message)
    end
    d.dir:save("config.yaml", "value: 1\nlog: { file: other.log }\n")
    local status, answer = d:reload()
    assert.equal(200, status, answer)
    assert.truthy(d.dir:read "other.log")
    ends_without_it "front"
  end)

  it("and returns after all continues to serve, with the changes of later reloads", function()
    start('kind = "lua", jit = true, budget = "60s", config = "value"', "", { ["front.lua"] = [[
      local value
      local function count(n)
        local sum = 0
        for i = 0.5, n do sum = sum + i % 7 end -- never whole numbers: one speed for all n
        return sum
      end
      return { start = function(config) value = config end, handle = function(request)
        local began, n = os.clock(), request:parameter "n"
        if n then count(tonumber(n)) end
        return 200, request:parameter "time" and os.clock() - began or value
      end }]] })
    d.baseline = nil
    local seconds = math.huge -- of the fastest of a few
    for _ = 1, 5 do
      local body = ask("/?time=1&n=20000000"):read_response(WITHIN_MS).body
      seconds = math.min(seconds, tonumber(body))
    end
    local connection = ask(("/?n=%d"):format(20000000 * 3 / seconds))
    stuck_in "front"
    d.dir:save("config.yaml", "value: 2\n")
    local status, answer = d:reload()
    assert.equal(500, status, d:log())
    assert.matches("has not returned from module 'front'", answer.errors[1].message)
    assert.equal("1", connection:read_response(WITHIN_MS).body)
    status, answer = d:reload()
    assert.equal(200, status, answer)
    assert.equal("2", ask("/"):read_response(WITHIN_MS).body)
    d:stop()
  end)
end)
