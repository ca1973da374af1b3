-- SPDX-License-Identifier: MIT
-- Files that a signal or an HTTP request applies, as equals of a command: with their real outcome.
local files_module = require "spec.support.files_module"
local kill = require "spec.support.killed"
local process = require "spec.support.process"
local segue = require "spec.support.segue"
local uv = require "luv"
local wait = require "spec.support.wait"
local web = require "spec.support.web"

local put, live, message_of = files_module.put, files_module.live, files_module.message_of
local fill = files_module.policy 'secrets = { "token" },'

local function folder(module, files)
  local all = { ["a.yaml"] = "x: 1\n" }
  for name, text in pairs(files or {}) do all[name] = text end
  return segue.folder { policy = fill(module), files = all }
end

-- Reloads to x with another policy, which must fail and leave 1 live.
local function reverts(d, module, x)
  d.dir:save("reload.lua", fill(module))
  return (files_module.reverts(d, x))
end

describe("files that are applied by a signal", function()
  local servers = {}
  after_each(function()
    segue.cleanup()
    for _, server in ipairs(servers) do server:stop() end
    servers = {}
  end)

  -- A server that counts the signals it gets, and writes its pid file when it can take them.
  local function server(d)
    local s = process.start { "sh", "-c", [[trap 'echo hup >> hups' HUP
      trap 'echo usr >> usrs' USR1
      echo $$ > server.pid; while :; do sleep 0.02; done]], cwd = d.dir.path, name = "server" }
    servers[#servers + 1] = s
    wait.until_true(function() return (d.dir:read "server.pid" or ""):find "\n" end)
    return s
  end

  local function gets(d, name, count)
    wait.until_true(function()
      return select(2, (d.dir:read(name) or ""):gsub("\n", "")) == count
    end, nil, function() return name .. "\n" .. d:log() end)
  end

  it("sends it to the process of the pid file, whenever the files change", function()
    local d = folder [[apply = segue.hup "server.pid"]]
    server(d)
    d:spawn()
    d:wait_ready()
    gets(d, "hups", 1)
    assert.equal(200, (put(d, 2)))
    gets(d, "hups", 2)
    d.dir:save("reload.lua", fill
      [[apply = segue.send_signal { pidfile = "server.pid", signal = "USR1", name = "sh" }]])
    assert.equal(200, (put(d, 3)))
    gets(d, "usrs", 1)
    assert.matches("applied.*USR1 to the process of .*server%.pid", d:log())
  end)

  it("is undone where the process is not the one that is meant", function()
    local d = folder([[apply = segue.hup("server.pid", { name = "sh" })]])
    local s = server(d)
    d:spawn()
    d:wait_ready()
    gets(d, "hups", 1)
    local function fails(x, name)
      return reverts(d, ("apply = segue.hup(%q, { name = 'sh' }), undo = 'true'"):format(name), x)
    end
    assert.matches("there is no pid file .*/none%.pid: is the server running", fails(2, "none.pid"))
    for i, text in ipairs { "", "abc\n", "0\n", "-1\n", "12x\n", "99999999\n" } do
      d.dir:write("bad.pid", text)
      assert.matches("bad%.pid does not begin with the number of a process",
        fails(10 + i, "bad.pid"))
    end
    d.dir:write("other.pid", uv.os_getpid() .. "\n")
    assert.matches("other%.pid names process %d+, which is .* and not sh: the pid file is stale",
      fails(20, "other.pid"))
    d.dir:write("self.pid", d.process.pid .. "\n")
    assert.matches("self%.pid names segue itself", fails(21, "self.pid"))
    assert(uv.fs_mkdir(d.dir:at "folder.pid", 493))
    assert.matches("folder%.pid is no regular file", fails(22, "folder.pid"))
    s:stop()
    assert.matches("server%.pid names process %d+, which does not run: the pid file is stale",
      fails(23, "server.pid"))
    gets(d, "hups", 1)
  end)

  it("takes a process for another one that started after its pid file was written", function()
    local d = folder [[apply = "true"]]
    server(d)
    d:spawn()
    d:wait_ready()
    local pid = d.dir:read "server.pid"
    d.dir:write("postgres.pid", pid)
    d.dir:write("sh.pid", pid)
    local old = os.time() - 3600
    for _, name in ipairs { "postgres.pid", "sh.pid" } do
      assert(uv.fs_utime(d.dir:at(name), old, old))
    end
    assert.matches("postgres%.pid names process %d+ %(sh%), which started %d+ s after the pid file "
      .. "was written: the pid file is stale, or else write name = \"sh\"",
      reverts(d, [[apply = segue.hup "postgres.pid", undo = "true"]], 2))
    assert.is_nil(d.dir:read "hups")
    d.dir:save("reload.lua", fill [[apply = segue.hup "sh.pid"]]) -- the name of the file fits
    assert.equal(200, (put(d, 3)))
    gets(d, "hups", 1)
    d.dir:save("reload.lua", fill [[apply = segue.hup("postgres.pid", { name = "sh" })]])
    assert.equal(200, (put(d, 4)))
    gets(d, "hups", 2)
  end)

  it("has the time limit of the effect where a pid file or the user database hangs", function()
    local function quick(module)
      return (fill(module):gsub('timeout = "20s"', 'timeout = "300ms"'))
    end
    local d = folder [[apply = segue.hup "server.pid"]]
    server(d)
    d.dir:save("reload.lua", quick [[apply = segue.hup "server.pid"]])
    kill.arm(d, "files.signal#2=hang,files.user#1=hang")
    d:wait_ready()
    assert.matches("apply signal .*took longer than 0.3 s", (files_module.reverts(d, 2)))
    gets(d, "hups", 2)
    d.dir:save("reload.lua", quick [[apply = { "true", user = "root" }]])
    assert.matches("apply look%-up of the user of .*took longer than 0.3 s",
      (files_module.reverts(d, 3)))
    assert.equal(200, (put(d, 4)))
  end)

  it("is never sent after the time limit, when the pid file can be read again", function()
    for _, point in ipairs { "files.signal", "pid_file.opened" } do
      local d = folder [[apply = segue.hup "server.pid"]]
      local s = server(d)
      d.dir:save("reload.lua", (fill [[apply = segue.hup "server.pid"]]):gsub('timeout = "20s"',
        'timeout = "1s"'))
      d.options.env = { SEGUE_FAULTS_END = d.dir:at "end" }
      kill.arm(d, point .. "#2=hang")
      d:wait_ready()
      gets(d, "hups", 1)
      assert.matches("took longer than 1 s", (files_module.reverts(d, 2)))
      gets(d, "hups", 2) -- of the undo
      local function hanging()
        return tonumber(d:control("/metrics").body:match
          'segue_worker_queue_jobs{queue="files",state="hanging"} (%d+)')
      end
      assert.equal(1, hanging())
      d.dir:save("end", "")
      wait.until_true(function() return hanging() == 0 end)
      s:kill "usr1"
      gets(d, "usrs", 1)
      gets(d, "hups", 2)
      d:stop()
    end
  end)

  it("does not take a process that has exited for one that runs", function()
    local d = folder [[apply = "true"]]
    d:spawn()
    d:wait_ready()
    -- A child of a shell that became another program, which does not wait for it.
    servers[1] = process.start { "sh", "-c", "sh -c 'echo $$ > zombie.pid' & exec sleep 1000",
      cwd = d.dir.path, name = "parent" }
    wait.until_true(function()
      local pid = (d.dir:read "zombie.pid" or ""):match "^(%d+)\n"
      local file = pid and io.open("/proc/" .. pid .. "/stat")
      local stat = file and file:read "*a" or ""
      if file then file:close() end
      return stat:find "%) Z "
    end)
    assert.matches("zombie%.pid names process %d+ %(sh%), which has exited",
      reverts(d, [[apply = segue.hup "zombie.pid", undo = "true"]], 2))
  end)

  it("is tried again as often as retry allows", function()
    local d = folder [[apply = segue.hup("server.pid", { name = "sh" }),
      retry = { times = 100, pause = "10ms" }]]
    d:spawn()
    d.dir:write("server.pid", "")
    server(d)
    d:wait_ready()
    gets(d, "hups", 1)
  end)
end)

describe("files that are applied by a request", function()
  after_each(function()
    segue.cleanup()
    web.cleanup()
  end)

  it("requires a status of 2xx, and reports the lines that name the cause", function()
    local reply = web.answer "ok"
    local w = web.serve(function(_, client) client:write(reply) end)
    local d = folder(([[apply = segue.post "%s/-/reload", undo = "true"]]):format(w.url),
      { ["a.yaml"] = "x: 1\ntoken: hunter2secret\n" })
    d:spawn()
    d:wait_ready()
    assert.equal("POST", w.requests[1].method)
    assert.equal("/-/reload", w.requests[1].path)
    reply = web.answer("started\nerror: bad rule hunter2secret\nsee the log\n",
      { status = "500 Oops" })
    d.dir:save("a.yaml", "x: 2\ntoken: hunter2secret\n")
    local status, answer = d:reload()
    assert.equal(500, status)
    assert.equal("reverted", answer.outcome)
    assert.matches("apply request POST http://127.0.0.1:%d+/%-/reload was answered with status "
      .. "500: error: bad rule %*%*%*; started; see the log %(after ", message_of(answer))
    assert.equal("1", live(d))
    assert.equal(2, #w.requests)
    assert.is_nil(d:log():find("hunter2secret", 1, true))
    reply = web.answer("", { status = "302 Found", headers = "Location: /other\r\n" })
    status, answer = put(d, 3)
    assert.equal(500, status)
    assert.matches("answered with status 302 %(after", message_of(answer))
    assert.equal(3, #w.requests)
    reply = web.answer("", { status = "204 No Content" })
    assert.equal(200, (put(d, 4)))
    assert.equal("4", live(d))
  end)

  it("sends what the options say", function()
    local w = web.serve(function(_, client) client:write(web.answer "ok") end)
    local d = folder(([[apply = segue.post("%s/x?key=hidden", { method = "PUT", body = "full",
      headers = { Authorization = "Bearer abc", ["X-N"] = 1 } })]]):format(w.url))
    d:spawn()
    d:wait_ready()
    local request = w.requests[1]
    assert.equal("PUT", request.method)
    assert.equal("/x?key=hidden", request.path)
    assert.equal("Bearer abc", request.headers.authorization)
    assert.equal("1", request.headers["x-n"])
    assert.equal("4", request.headers["content-length"])
    assert.matches("applied.*PUT http://127.0.0.1:%d+/x\"", d:log())
    assert.is_nil(d:log():find("hidden", 1, true))
  end)

  it("is undone where no server answers, none in time, or one breaks off", function()
    local d = folder [[apply = "true"]]
    d:spawn()
    d:wait_ready()
    local w = web.serve(function() end)
    local post = [[apply = segue.post("%s/x", { timeout = "300ms" }), undo = "true"]]
    assert.matches("has failed: .* gave no complete answer within 300 ms",
      reverts(d, post:format(w.url), 2))
    w.handler = function(_, client) web.reset(client) end
    assert.matches("apply request POST .* has failed: ", reverts(d, post:format(w.url), 3))
    assert.matches("no server answers on http://127.0.0.1:1/x: is it running",
      reverts(d, post:format "http://127.0.0.1:1", 4))
  end)

  it("reaches a server at a unix socket", function()
    local d = folder [[apply = segue.post("http://localhost/reload", { unix_socket = "s.sock" })]]
    local listener, text = uv.new_pipe(false), ""
    assert(listener:bind(d.dir:at "s.sock"))
    assert(listener:listen(8, function()
      local client = uv.new_pipe(false)
      listener:accept(client)
      client:read_start(function(_, data)
        text = text .. (data or "")
        if data then
          client:write(web.answer "ok")
        else
          client:close()
        end
      end)
    end))
    d:spawn()
    d:wait_ready()
    d:stop()
    listener:close()
    assert.matches("^POST /reload HTTP/1.1\r\n", text)
  end)

  it("is stopped with the daemon, which waits for no server", function()
    local w = web.serve(function(_, client) client:write(web.answer "ok") end)
    local d = folder(([[apply = segue.post("%s/x", { timeout = "500s" }), undo = "true",
      retry = { times = 9, pause = "100s" }]]):format(w.url))
    d:spawn()
    d:wait_ready()
    w.handler = function(_, client) web.close(client) end
    d.dir:save("a.yaml", "x: 2\n")
    d:signal "hup"
    wait.until_true(function() return #w.requests == 2 end)
    d:stop()
    assert.equal("1", live(d))
  end)
end)

describe("options of apply", function()
  after_each(segue.cleanup)

  it("are validated by their rows, each mistake at its place", function()
    for module, pattern in pairs {
      [ [[apply = { pidfile = "a", url = "http://b/" }]] ] = "apply must be one of a command",
      [ [[apply = {}]] ] = "apply must be one of a command",
      [ [[apply = { "a", pidfile = "b" }]] ] = "apply must be one of a command",
      [ [[apply = { "a", shell = "b" }]] ] = "apply%.shell cannot stand beside argv",
      [ [[apply = { "a", signal = "HUP" }]] ] = "apply%.signal has no effect with a command",
      [ [[apply = { pidfile = "a", body = "b" }]] ] = "apply%.body has no effect with a signal",
      [ [[apply = { pidfile = "a", signal = "KIL" }]] ] = "apply%.signal must be",
      [ [[apply = { url = "ftp://a/" }]] ] = "apply%.url must be a URL",
      [ [[apply = { url = "http://a/", env = {} }]] ] = "apply%.env has no effect with a request",
      [ [[apply = { url = "http://a/", method = "get" }]] ] = "apply%.method must be a method",
      [ [[apply = { url = "http://a/", headers = { ["a b"] = "c" } }]] ] = "names of headers",
      [ [[apply = { url = "http://a/", headers = { ["a(b)"] = "c" } }]] ] = "not \"a%(b%)\"",
      [ [[apply = { url = "http://a/", headers = { a = "b\nc" } }]] ] = "texts of one line",
      [ [[apply = { url = "http://a/", tls = { cert = "x" } }]] ] = "must have cert and key",
      [ [[apply = { "a", group = "b" }]] ] = "apply%.group has an effect only with user",
      [ [[apply = { "a", env = { ["b=c"] = "d" } }]] ] = "names of variables as keys",
      [ [[apply = { "a\255b" }]] ] = "apply%.argv must be UTF%-8",
      [ [[apply = { "a\0b" }]] ] = "apply%.argv%[1%] must not contain a zero byte",
      [ [[apply = function() end]] ] = "apply must be",
      [ [[check = { pidfile = "a" }]] ] = "check%.pidfile is not a known key",
      [ [[check = {}]] ] = "check must have a command",
      [ [[undo = "a"]] ] = "undo has an effect only with apply",
      [ [[verify_within = "1s"]] ] = "verify_within has an effect only with verify",
      [ [[apply = segue.hup("a", { signal = "INT" })]] ] = "segue%.hup sends HUP",
      [ [[apply = segue.hup { "a", "b" }]] ] = "segue%.hup",
      [ [[apply = segue.post "x"]] ] = "segue%.post: url must be a URL",
    } do
      local result = folder(module):cli "check"
      assert.equal(3, result.code, module .. result.output)
      assert.matches(pattern, result.output)
    end
  end)
end)
