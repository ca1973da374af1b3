-- SPDX-License-Identifier: MIT
-- A module whose operations last as long as the spec wants, in the daemon: its states are seen in
-- the API, in the metrics and in the events; and TERM in any of them ends well.
local cjson = require "cjson"
local http = require "spec.support.http"
local plugin = require "spec.support.plugin"
local segue = require "spec.support.segue"
local tempdir = require "spec.support.tempdir"
local wait = require "spec.support.wait"

local ffi = require "ffi"
ffi.cdef "int mkfifo(const char *path, unsigned mode);"

local policy = [[
local segue = require "segue"
return {
  name = "slow",
  sources = { segue.file "config.yaml" },
  triggers = { segue.http "127.0.0.1:@PORT@" },
  modules = { m = { kind = "c", plugin = "./slow.so", config = "m", replace = "%s",
    prepare = "%s", start = "%s", drain = "%s", stop = "%s" } },
}
]]

describe("a module whose operations take long", function()
  local d
  after_each(segue.cleanup)

  local function start(replace, time)
    local dir = tempdir.new()
    plugin.build_file(dir:at "slow.so", "spec/plugin/slow.c")
    time = time or "60s"
    d = segue.start { dir = dir, policy = policy:format(replace, time, time, time, time),
      files = { ["config.yaml"] = ("m: {folder: %q, n: 1}\n"):format(dir.path) } }
  end
  local function hold(verb) assert.equal(0, ffi.C.mkfifo(d.dir:at(verb), 384)) end
  local function go_on(verb)
    local pipe = assert(io.open(d.dir:at(verb), "w")) -- waits until the module has come there
    pipe:close()
    os.remove(d.dir:at(verb))
  end
  local function reported() return d.dir:read "reported" or "" end
  local function wait_told(text)
    wait.until_true(function() return reported():find(text, 1, true) end, nil,
      function() return text .. " in " .. reported() .. d:log() end)
  end
  -- Requests a reload whose answer is read later.
  local function ask(n)
    d.dir:save("config.yaml", ("m: {folder: %q, n: %d}\n"):format(d.dir.path, n))
    local c = http.connect { port = d.port }
    c:write(http.format { method = "POST", path = "/-/reload", port = d.port,
      headers = { Accept = "application/json" } })
    return c
  end

  local function module() return d:json "/api/v1/modules"[1] end
  local function instances()
    local words = {}
    for state, n in pairs(module().instances) do
      if n > 0 then words[#words + 1] = n .. " " .. state end
    end
    table.sort(words)
    return table.concat(words, ", ")
  end
  local function metric(name, state)
    local line = ('\n%s{module="m",state="%s"} (%%d+)\n'):format(name, state)
    return tonumber(("\n" .. d:http("/metrics").body):match((line:gsub("%-", "%%-"))))
  end

  it("shows each of its states in the API, in the metrics and in the events", function()
    start "restart"
    local events = http.connect { port = d.port }
    events:write(http.format { path = "/api/v1/events", port = d.port })
    events:read_until "retry: %d+\n\n"
    for _, verb in ipairs { "prepare", "drain", "stop", "start" } do hold(verb) end
    local c = ask(2)
    for _, step in ipairs {
      { "prepare", "serving", "1 building, 1 serving" },
      { "drain", "draining", "1 draining, 1 ready" },
      { "stop", "draining", "1 draining, 1 ready" },
      { "start", "stopped", "1 ready, 1 stopped" },
    } do
      wait_told(step[1] .. " " .. (step[1]:match "^dr" and 1 or step[1] == "stop" and 1 or 2))
      assert.equal(step[2], module().state, step[1])
      assert.equal(step[3], instances(), step[1])
      assert.equal(1, metric("segue_module_state", step[2]))
      for word in step[3]:gmatch "%d (%a+)" do
        assert.equal(1, metric("segue_module_instances", word), step[1] .. " " .. word)
      end
      go_on(step[1])
    end
    assert.equal("applied", cjson.decode(c:read_response().body).outcome)
    assert.equal("serving", module().state)
    assert.equal("1 serving", instances())
    local text = events:read_until 'event: settled\ndata: [^\n]*"generation":2[,}]'
    local seen = {}
    for data in text:gmatch "event: module\ndata: ([^\n]+)" do
      local event = cjson.decode(data)
      assert.equal("m", event.module)
      seen[#seen + 1] = event.generation .. " " .. event.state
    end
    assert.equal("2 building, 2 ready, 1 draining, 1 stopped, 2 serving",
      table.concat(seen, ", "))
    events:close()
    c:close()
  end)

  it("is failed, and not ready, on each of them when it cannot be restored", function()
    start("restart", "300ms")
    hold "start"
    local c = ask(2)
    local answer = cjson.decode(c:read_response().body)
    assert.equal("reverted", answer.outcome)
    assert.equal("failed", module().state)
    assert.equal("refusing", module().gate)
    assert.matches("start was not done", cjson.encode(module().error))
    assert.equal(1, metric("segue_module_state", "failed"))
    assert.equal(503, d:http("/-/ready").status)
    assert.equal(200, d:http("/-/healthy").status)
    os.rename(d.dir:at "start", d.dir:at "aside") -- from the next try on it does not wait
    wait.until_true(function() return d:http("/-/ready").status == 200 end, 20000,
      function() return d:log() end)
    assert.equal("serving", module().state)
    assert.equal(1, module().generation)
    c:close()
  end)

  it("is counted where its drain is cut", function()
    start("handover", "300ms")
    hold "drain"
    assert.equal(200, ask(2):read_response().status)
    wait.until_true(function() return module().drains_cut == 1 end, nil,
      function() return d:log() end)
    assert.equal(0, module().inside_cut)
    assert.matches('\nsegue_module_drains_cut_total{module="m"} 1\n', d:http("/metrics").body)
    assert.matches('\nsegue_module_inside_cut_total{module="m"} 0\n', d:http("/metrics").body)
    go_on "drain"
    wait_told "destroy 1" -- the late completion has ended the old instance before TERM comes
  end)

  for _, replace in ipairs { "restart", "handover", "swap" } do
    for _, verb in ipairs { "prepare", "start", "drain", "stop" } do
      it(("of %s that gets TERM at its %s answers, and ends with 0%s"):format(replace, verb,
        replace == "restart" and "" or " #long"), function()
        start(replace, "1s")
        hold(verb)
        local c = ask(2)
        wait_told(verb .. " " .. ((verb == "prepare" or verb == "start") and 2 or 1))
        d:signal "term"
        local response = c:read_response()
        local answer = cjson.decode(response.body)
        assert.truthy(({ applied = 1, reverted = 1, failed = 1 })[answer.outcome], response.body)
        assert.equal(answer.outcome == "applied" and 200 or 500, response.status)
        if verb == "prepare" or verb == "start" then
          assert.not_equal("applied", answer.outcome)
          assert.equal(1, answer.generation)
        end
        local code, signal = d:wait_exit(20000)
        assert.same({ 0, 0 }, { code, signal }, d:log())
        c:close()
        os.remove(d.dir:at(verb))
        d:spawn()
        d:wait_ready()
        assert.equal("serving", module().state)
        assert.equal("open", module().gate)
        assert.equal(2, d:config().m.n)
      end)
    end
  end
end)
