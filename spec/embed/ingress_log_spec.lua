-- SPDX-License-Identifier: MIT
-- Access logs of modules: the fields of a line, that a client cannot forge one, that none is lost
-- or torn over reloads and reopening, and that a log that cannot be written delays no request.
local certificates = require "spec.support.certificates"
local cjson = require "cjson"
local front = require "spec.support.front"
local http = require "spec.support.http"
local process = require "spec.support.process"
local tempdir = require "spec.support.tempdir"
local uv = require "luv"
local wait = require "spec.support.wait"

local WITHIN_MS = front.WITHIN_MS
local LISTEN = 'listen = "http://127.0.0.1:@AT@", access_log = %s'

describe("the access log of a module", function()
  local f
  setup(front.build)
  teardown(front.remove)
  after_each(front.cleanup)

  local function lines(name)
    local all = {}
    for line in (f.dir:read(name or "access.log") or ""):gmatch("([^\n]*)\n") do
      all[#all + 1] = line
    end
    return all
  end
  local function until_lines(count, name)
    wait.until_true(function() return #lines(name) >= count end, WITHIN_MS,
      function() return count .. " lines, not " .. #lines(name) end)
    return lines(name)
  end

  it("has the fields of nginx for each request, and the generation that answered it", function()
    f = front.start { module = LISTEN:format '"access.log"' }
    f:get("/a%20b?c=d", { headers = { ["User-Agent"] = "spec/1", Referer = "http://x/" } })
    f:get("/later", { method = "POST", body = "12345" })
    f:get("/nothing")
    local streams = http.connect { port = f.at }
    streams:write(http.format { port = f.at, path = "/stream/later?pieces=10" })
    streams:read_response(WITHIN_MS)
    local head = http.connect { port = f.at }
    head:write("HEAD /x HTTP/1.1\r\nHost: x\r\n\r\n")
    head:read_response(WITHIN_MS, true)
    local all = until_lines(5)
    local date = "%[%d%d/%a%a%a/20%d%d:%d%d:%d%d:%d%d %+0000%]"
    assert.matches("^127%.0%.0%.1 %- %- " .. date
      .. ' "GET /a\\x20b%?c=d HTTP/1%.1" 200 %d+ "http://x/" "spec/1" 0%.%d%d%d%d%d%d 1$', all[1])
    assert.matches('"POST /later HTTP/1%.1" 200 %d+ "%-" "%-" ', all[2])
    assert.matches('"GET /nothing HTTP/1%.1" 500 27 ', all[3])
    assert.matches('"GET /stream/later%?pieces=10 HTTP/1%.1" 200 10006 ', all[4])
    assert.matches('"HEAD /x HTTP/1%.1" 200 0 ', all[5])
    f:config(2)
    f:reload()
    f:get("/")
    assert.matches(" 2$", until_lines(6)[6])
    assert.equal(6, f:metric "segue_access_log_lines_total")
    assert.equal(0, f:metric "segue_access_log_dropped_total")
  end)

  it("cannot be forged by clients: no line ends early, and no field", function()
    f = front.start { module = LISTEN:format '"access.log"', others = 'json = { kind = "c", '
      .. 'plugin = "service", listen = "http://127.0.0.1:0", access_log = { file = "json.log", '
      .. 'format = "json" } }' }
    local json = tonumber(f:ask("/api/v1/modules"):match('"name":"json".-127%.0%.0%.1:(%d+)"'))
    local path = '/%0a127.0.0.1%20-%20-"%22%5c%7f%c3%a9%ff'
    local agent = 'a" 200 1 "\\\t\195\169\255'
    for _, p in ipairs { f.at, json } do
      local client = http.connect { port = p }
      client:write("GET " .. path .. "?q=\"%0a HTTP/1.1\r\nHost: x\r\nUser-Agent: "
        .. agent .. "\r\n\r\n")
      assert.equal(200, client:read_response(WITHIN_MS).status)
    end
    local all = until_lines(1)
    local line = all[#all]
    assert.matches('"GET /\\x0A127.0.0.1\\x20-\\x20-', line, 1, true)
    assert.matches('\\x5C\\x7F\\xC3\\xA9\\xFF?q=', line, 1, true)
    assert.matches('"a\\x22 200 1 \\x22\\x5C\\x09\\xC3\\xA9\\xFF" ', line, 1, true)
    all = until_lines(1, "json.log")
    local object = cjson.decode(all[#all])
    assert.equal('a" 200 1 "\\\t\195\169\239\191\189', object.agent)
    assert.matches('^/\n127%.0%.0%.1 %- %-', object.path)
    assert.equal("json", object.module)
    assert.matches("^127%.0%.0%.1:%d+$", object.peer)
    assert.equal(1, object.generation)
  end)

  it("has an entry for clients that left, waited in vain, or sent an invalid request", function()
    f = front.shut("items = 1", { module = 'access_log = "access.log"' })
    local leaves = http.connect { port = f.at }
    leaves:write(http.format { port = f.at, path = "/leaves" })
    f:until_metric('segue_gate_waiting{module="service"}', 1)
    assert.equal(503, f:get("/refused").status)
    leaves:reset()
    f:until_metric('segue_gate_waiting{module="service"}', 0)
    local nonsense = http.connect { port = f.at }
    nonsense:write("nonsense\r\n\r\n")
    assert.equal(400, nonsense:read_response(WITHIN_MS).status)
    f:open()
    local all = table.concat(until_lines(4), "\n")
    assert.matches('"GET /refused HTTP/1.1" 503 %d+ "%-" "%-" 0%.%d+ %-', all)
    assert.matches('"GET /leaves HTTP/1.1" 499 0 ', all)
    assert.matches('127%.0%.0%.1 %- %- %b[] "%-" 400 0 "%-" "%-" 0%.000000 %-', all)
    assert.matches('"GET /hold HTTP/1.1" 200 9 ', all)
  end)

  local function moved_by_rotation(name)
    assert(os.rename(f.dir:at "access.log", f.dir:at(name)))
  end

  it("goes to a new file after a reload, also one that changes nothing or is rejected", function()
    f = front.start { module = LISTEN:format '"access.log"' }
    local n = 0
    local function goes_to_new(name, status)
      moved_by_rotation(name)
      f:reload(status)
      wait.until_true(function() return uv.fs_stat(f.dir:at "access.log") end, WITHIN_MS, "a file")
      n = n + 1
      f:get("/" .. n)
      assert.matches("GET /" .. n .. " ", until_lines(1)[1], 1, true)
    end
    goes_to_new("moved.1", 200)
    f.dir:write("a.yaml", "a: [\n")
    goes_to_new("moved.2", 422)
    assert.equal(0, #lines "moved.1")
    assert.equal(1, #lines "moved.2")
  end)

  it("goes to a new file if the old one was deleted without a signal", function()
    f = front.start { module = LISTEN:format '"access.log"' }
    f:get("/first")
    until_lines(1)
    for i = 1, 5 do
      f.dir:delete "access.log"
      f:get("/" .. i)
      assert.matches("GET /" .. i .. " ", until_lines(1)[1], 1, true)
    end
    assert.equal(0, f:metric "segue_access_log_dropped_total")
  end)

  it("counts no bytes of answers that have no body", function()
    f = front.start { module = LISTEN:format '"access.log"' }
    for _, status in ipairs { 204, 205, 304, 200 } do f:get("/status/" .. status) end
    local all = until_lines(4)
    for i, said in ipairs { "204 0", "205 0", "304 0", "200 5" } do
      assert.matches(" HTTP/1.1\" " .. said .. " ", all[i], 1, true)
    end
  end)

  it("has the 503 that a client got at the end, and 499 only for one that left", function()
    f = front.start { module = LISTEN:format '"access.log"' }
    local waits = http.connect { port = f.at }
    waits:write(http.format { port = f.at, path = "/hold" })
    f:until_metric('segue_gate_inside{module="service"}', 1)
    f.host:kill("term")
    local answer = waits:read_response(WITHIN_MS)
    assert.equal(503, answer.status)
    f.host:kill("usr1")
    assert.equal(0, (f.host:wait_exit(WITHIN_MS)), f.host:describe())
    assert.matches('"GET /hold HTTP/1.1" 503 ' .. #answer.body .. " ", lines()[1], 1, true)
    assert.equal(1, #lines())
  end)

  it("leaves queries out on request, and names clients by their certificates",
    function()
      local dir = tempdir.new()
      local ca = certificates.authority(dir)
      local server = ca:issue { name = "server" }
      local client = ca:issue { name = "client", cn = 'ann "x"' }
      uv.fs_chmod(server.key, tonumber("600", 8))
      f = front.start { dir = dir, module = 'listen = "https://127.0.0.1:@AT@", tls = { '
        .. 'cert = "server.pem", key = "server.key", client_ca = "ca.pem" }, '
        .. 'access_log = { file = "access.log", query = false }' }
      local curl = process.run { "curl", "-sS", "--cacert", ca.cert, "--cert", client.cert, "--key",
        client.key, ("https://localhost:%d/x?token=secret"):format(f.at), deadline_ms = WITHIN_MS }
      assert.equal(0, curl.code, curl:describe())
      local line = until_lines(1)[1]
      assert.matches('^127%.0%.0%.1 %- ann\\x20\\x22x\\x22 %b[] "GET /x HTTP/1', line)
      assert.falsy(line:find("secret", 1, true))
    end)

  it("loses and tears nothing over reloads that change it and files that are moved", function()
    f = front.start { top = "threads = 2,", module = LISTEN:format '"access.0.log"' }
    local load = f:load(8, function(answer)
      if answer.status ~= 200 then return "not answered" end
    end)
    for round = 1, 20 do
      local target = load.answered + 100
      wait.until_true(function() return load.answered >= target end, WITHIN_MS, "answers")
      if round % 4 == 0 then
        assert(os.rename(f.dir:at("access.0.log"), f.dir:at("moved." .. round .. ".log")))
        f.host:kill("usr2")
      else
        f:policy { module = LISTEN:format(('"access.%d.log"'):format(round % 2 * round)) }
        f:reload()
      end
    end
    f.host:kill("term")
    assert.equal(0, (f.host:wait_exit(WITHIN_MS)), f.host:describe())
    local handled, found = tonumber(f.host.output:match("closed handled=(%d+)")), 0
    local folder = uv.fs_scandir(f.dir.path)
    for name in function() return (uv.fs_scandir_next(folder)) end do
      if name:find("%.log$") then
        for _, line in ipairs(lines(name)) do
          found = found + 1
          assert.matches('^127%.0%.0%.1 %- %- %b[] "GET /%a+ HTTP/1%.1" %d+ %d+ "%-" "%-" %d', line)
        end
      end
    end
    assert.equal(handled, found)
  end)

  it("fails the reload if its file cannot be opened, and delays no request if it is full",
    function()
      f = front.start { module = LISTEN:format '"/dev/full"' }
      for _ = 1, 50 do assert.equal(200, f:get("/").status) end
      f:until_metric("segue_access_log_dropped_total", 50)
      wait.until_true(function()
        return f.host.output:find("the access log cannot be written: lines are lost", 1, true)
      end, WITHIN_MS, "a word about it")
      f:policy { module = LISTEN:format '"none/access.log"' }
      assert.matches("the access log .*/none/access%.log cannot be opened: No such file",
        f:reload(500).body)
      assert.equal(200, f:get("/").status)
      f:policy { module = LISTEN:format "true" }
      assert.matches("access_log = true of module 'service' writes to the module that is the log, "
        .. "and there is none", f:reload(422).body)
      f:policy { module = LISTEN:format '{ file = "x", form = "json" }' }
      assert.matches("modules.service.access_log.form is not a known key", f:reload(422).body)
      f:policy { module = LISTEN:format '"access.log"' }
      f:reload()
      f:get("/good")
      assert.matches("/good", until_lines(1)[1], 1, true)
    end)

  it("goes to the log module if no file is named", function()
    local plugins = uv.fs_realpath(os.getenv("SEGUE_BUILD") .. "/plugins")
    f = front.start { top = ('plugins = "%s",'):format(plugins), module = LISTEN:format "true",
      others = 'log = { kind = "c", plugin = "log", config = "log" }',
      config = "log: { file: @DIR@/app.log }\n" }
    for i = 1, 10 do f:get("/" .. i) end
    local all = until_lines(10, "app.log")
    for i = 1, 10 do
      assert.matches(('access.*"GET /%d HTTP/1.1" 200'):format(i), all[i])
    end
  end)
end)
