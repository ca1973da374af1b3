-- SPDX-License-Identifier: MIT
-- Files whose use by the server is verified, and what undoes an apply that went wrong.
local files_module = require "spec.support.files_module"
local nginx = require "spec.support.nginx"
local process = require "spec.support.process"
local segue = require "spec.support.segue"
local uv = require "luv"
local wait = require "spec.support.wait"
local web = require "spec.support.web"

local put, live, message_of = files_module.put, files_module.live, files_module.message_of
local reverts, fill = files_module.reverts, files_module.policy()

local function start(module)
  return segue.start { policy = fill(module), files = { ["a.yaml"] = "x: 1\n" } }
end

describe("verify of a files module", function()
  after_each(function()
    segue.cleanup()
    web.cleanup()
  end)

  it("is asked until the server uses the files", function()
    local d = start [[apply = "cp out/a asked", verify_within = "60s", verify = function()
      local asked = segue.read "asked"
      if asked == "1\n" or asked == segue.read "used" then return true end
      segue.write("polled", "polled")
      return nil, "not yet"
    end]]
    -- A server that takes what it was asked to use, but only once it was polled.
    d.dir:save("a.yaml", "x: 2\n")
    d:signal "hup"
    wait.until_true(function()
      if d.dir:read "polled" and d.dir:read "asked" == "2\n" then d.dir:save("used", "2\n") end
      return d:log():find "generation 2 is live"
    end)
    assert.equal("2", live(d))
  end)

  it("gets what it returned before the files were moved", function()
    local d = start [[apply = "true", verify = { tag = "probe", kind = "call",
      before = function() return { seen = segue.read "out/a" or "none" } end,
      call = function(state)
        segue.write("state", state.seen .. segue.read "out/a")
        return true
      end }]]
    assert.equal("none1\n", d.dir:read "state")
    assert.equal(200, (put(d, 2)))
    assert.equal("1\n2\n", d.dir:read "state")
  end)

  it("undoes the files where the answer stays no, or is an error", function()
    local d = start [[apply = "echo run >> runs", verify_within = "1s", verify = function()
      local x = tonumber((segue.read "out/a"))
      if x == 2 then return nil, "still the old ones" end
      if x == 3 then error "three" end
      if x == 4 then return nil end
      if x == 5 then while true do segue.sleep "10s" end end
      return true
    end]]
    assert.matches("module 'web': verify: the server does not use the new files after 1 s: "
      .. "still the old ones", (reverts(d, 2)))
    local message, problem = reverts(d, 3)
    assert.matches("module 'web': .*three", message)
    assert.matches("reload%.lua", problem.file)
    assert.matches("verify returned nil: return true", (reverts(d, 4)))
    assert.matches("verify: the server does not use the new files after 1 s", (reverts(d, 5)))
    assert.equal(200, (put(d, 6)))
    assert.equal(10, select(2, d.dir:read "runs":gsub("run\n", "")))
  end)

  it("may be a probe, also without apply", function()
    local w = web.serve(function(_, client) client:write(web.answer "ok") end)
    local d = start(([[verify_within = "2s", verify = segue.probe.http("%s/x")]]):format(w.url))
    w.handler = function(_, client) client:write(web.answer("", { status = "503 No" })) end
    assert.matches("must answer 200, not 503", (reverts(d, 2)))
  end)

  it("ends where the daemon stops", function()
    local d = start [[verify_within = "1000s", verify = function()
      if segue.read "out/a" == "1\n" then return true end
      segue.write("asked", "")
      return nil, "no"
    end]]
    d.dir:save("a.yaml", "x: 2\n")
    d:signal "hup"
    wait.until_true(function() return d.dir:read "asked" end)
    d:stop()
    assert.equal("1", live(d))
  end)
end)

describe("undo of a files module", function()
  after_each(segue.cleanup)

  local apply = [[apply = "cat out/a >> applied; ! grep -q 9 out/a", ]]

  it("runs in place of apply, once the previous files are back", function()
    local d = start(apply .. [[undo = "cat out/a >> undone"]])
    assert.matches("apply command cat .* exited with code 1", (reverts(d, 9)))
    assert.equal("1\n9\n", d.dir:read "applied")
    assert.equal("1\n", d.dir:read "undone")
  end)

  it("may be a function", function()
    local d = start(apply .. [[undo = function()
      segue.write("undone", segue.read "out/a")
      return true
    end]])
    reverts(d, 9)
    assert.equal("1\n9\n", d.dir:read "applied")
    assert.equal("1\n", d.dir:read "undone")
  end)

  it("does not run where apply has not begun", function()
    local d = start([[check = "! grep -q 9 out/a", ]] .. apply .. [[undo = "echo x > undone"]])
    local status = put(d, 9)
    assert.equal(422, status)
    assert.is_nil(d.dir:read "undone")
  end)

  it("keeps the module failed where it fails, and is tried again", function()
    local d = start(apply .. [[undo = "test -e mended && echo x >> undone"]])
    local status, answer = put(d, 9)
    assert.equal(500, status)
    assert.equal("undo_failed", answer.undo_failed and "undo_failed" or answer.outcome)
    assert.equal("1", live(d))
    assert.matches("its previous files are back, but they could not be applied", d:log(), 1, true)
    d.dir:write("mended", "")
    wait.until_true(function() return d.dir:read "undone" end, nil, function() return d:log() end)
    wait.until_true(function() return d:log():find "an interrupted change is undone" end)
    assert.equal(200, (put(d, 2)))
    assert.equal("2", live(d))
  end)
end)

describe("segue.verify.nginx", function()
  after_each(nginx.cleanup)

  it("holds until new workers serve, and undoes what the master refuses", function()
    local d = nginx.behind([[
    files = { { to = "conf.d/site.conf", content = function(config)
      return ("server { listen 127.0.0.1:@PORT@; return 200 %s; }\n"):format(config.x)
        .. (config.extra or "")
    end } },
    apply = segue.hup("nginx.pid", { name = "nginx" }),
    verify = segue.verify.nginx "nginx.pid", verify_within = "100s",
]], { ["a.yaml"] = "x: one\n", ["conf.d/site.conf"] = nginx.site })
    local function serves(answer)
      local response = d:http "/"
      return response.body == answer
    end
    assert.is_true(serves "one") -- at once: the reload has waited for it
    assert.equal(200, (put(d, "two")))
    assert.is_true(serves "two")
    -- The master takes the signal, cannot listen on an address that is in use, and keeps its
    -- workers: neither the signal nor nginx -s reload would report that.
    local taken = uv.new_tcp()
    assert(taken:bind("127.0.0.1", 0))
    assert(taken:listen(1, function() end))
    d.dir:save("reload.lua", (d.dir:read("reload.lua"):gsub('"100s"', '"1s"')))
    d.dir:save("a.yaml", ("x: three\nextra: 'server { listen 127.0.0.1:%d; }'\n"):format(
      taken:getsockname().port))
    local status, answer = d:reload()
    taken:close()
    assert.equal(500, status, message_of(answer))
    assert.equal("reverted", answer.outcome)
    assert.matches("verify: the server does not use the new files after 1 s: the master of nginx "
      .. "%(process %d+%) has started no new worker", message_of(answer))
    nginx.serves(d, "/", "two")
  end)
end)

describe("segue.verify.prometheus", function()
  local server
  after_each(function()
    segue.cleanup()
    if server then server:stop() end
    server = nil
  end)

  it("holds until Prometheus has loaded its configuration, and undoes what it rejects", function()
    local port = require("spec.support.port").free()
    local d = segue.folder { policy = ([[
local segue = require "segue"
return {
  sources = { segue.file "a.yaml" },
  triggers = { segue.signal "HUP" },
  modules = { prometheus = { kind = "files",
    files = { { to = "prometheus.yml", content = function(config)
      return ("global: { scrape_interval: %%s }\n"):format(config.x)
    end } },
    apply = segue.send_signal { pidfile = "prometheus.pid", name = "prometheus" },
    verify = segue.verify.prometheus "http://127.0.0.1:%d", verify_within = "100s" } },
}]]):format(port), files = { ["a.yaml"] = "x: 11s\n",
      ["prometheus.yml"] = "global: { scrape_interval: 10s }\n" } }
    server = process.start { "prometheus", "--config.file=prometheus.yml",
      "--storage.tsdb.path=data", "--web.enable-lifecycle",
      "--web.listen-address=127.0.0.1:" .. port, cwd = d.dir.path, name = "prometheus" }
    d.dir:write("prometheus.pid", server.pid .. "\n")
    server:wait_output "Server is ready to receive web requests"
    d:spawn()
    d:wait_ready(30000)
    local http = require "spec.support.http"
    local function interval()
      local response = http.request { port = port, path = "/api/v1/status/config" }
      return response.body:match "scrape_interval: (%w+)"
    end
    assert.equal("11s", interval()) -- a signal is answered by nothing: verify has waited
    assert.equal(200, (put(d, "12s")))
    assert.equal("12s", interval())
    local text = d.dir:read "reload.lua"
    -- By HTTP Prometheus answers only when it has loaded its configuration.
    d.dir:save("reload.lua", (text:gsub('apply = segue.send_signal {.-},\n',
      ('apply = segue.post "http://127.0.0.1:%d/-/reload",\n'):format(port))))
    assert.equal(200, (put(d, "13s")))
    assert.equal("13s", interval())
    local status, answer = put(d, "nonsense")
    assert.equal(500, status, message_of(answer))
    assert.equal("reverted", answer.outcome)
    assert.matches("answered with status 500: .*nonsense", message_of(answer))
    assert.equal("13s", interval())
    -- The last success was that of an earlier reload.
    d.dir:save("reload.lua", (text:gsub('apply = segue.send_signal {.-},\n', 'apply = "true",\n')
      :gsub('"100s"', '"2s"')))
    status, answer = put(d, "14s")
    assert.equal(500, status, message_of(answer))
    assert.matches("prometheus has not reloaded its configuration since", message_of(answer))
    d.dir:save("reload.lua", (text:gsub('"100s"', '"2s"')))
    status, answer = put(d, "rubbish")
    assert.equal(500, status, message_of(answer))
    assert.matches("prometheus has rejected its configuration", message_of(answer))
    assert.equal("13s", interval())
  end)
end)
