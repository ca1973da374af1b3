-- SPDX-License-Identifier: MIT
-- The async library of modules in Lua, on their worker thread: commands, requests, files, pauses.
-- They work as in a policy, and none of them outlives the instance that began it.
local http = require "spec.support.http"
local port = require "spec.support.port"
local segue = require "spec.support.segue"
local uv = require "luv"
local wait = require "spec.support.wait"

local WITHIN_MS = 60000

describe("a module in Lua and other programs", function()
  local d, at
  before_each(function() at = port.free() end)
  after_each(function()
    http.close_all()
    segue.cleanup()
  end)

  -- body: of handle; keys: further ones of the module.
  local function start(body, keys, before)
    d = segue.start { files = { ["config.yaml"] = "front: 1\n", ["sub/text.txt"] = "a text\n",
      ["sub/front.lua"] = 'local segue = require "segue"\n' .. (before or "")
        .. "\nreturn { handle = function(request)\n" .. body .. "\nend }\n" }, policy = ([[
local segue = require "segue"
return {
  sources = { segue.file "config.yaml" }, triggers = {}, threads = 1,
  modules = { front = { kind = "lua", code = "sub/front.lua", config = "front",
    listen = "http://127.0.0.1:%d", %s } },
}
]]):format(at, keys or "") }
    d.baseline.files["/dev/null"] = (d.baseline.files["/dev/null"] or 0) + 1
  end
  local function ask(path)
    local connection = http.connect { port = at }
    connection:write(("GET %s HTTP/1.1\r\nHost: x\r\n\r\n"):format(path))
    return connection
  end
  local function get(path)
    local answer = ask(path):read_response(WITHIN_MS)
    return answer.body, answer.status
  end
  local function gone(pid) return not uv.fs_stat("/proc/" .. pid) end

  it("runs commands, reads and writes files beside its code, sends requests and sleeps", function()
    start [[
      local r = segue.run { "sh", "-c", "pwd; cat", stdin = "in" }
      local text = assert(segue.read "text.txt")
      assert(segue.write("new.txt", "written"))
      local stat = assert(segue.stat "new.txt")
      local names = {}
      for _, entry in ipairs(assert(segue.list "*")) do
        names[#names + 1] = entry:match "[^/]+$"
      end
      local none, why, code = segue.read "none.txt"
      local late, reason = segue.timeout("10ms", function() segue.sleep "1h" end)
      return 200, table.concat({ r.stdout, text, stat.size, table.concat(names, ","),
        tostring(none), why, code, tostring(late), reason }, "|")
    ]]
    local body, status = get "/"
    assert.equal(200, status, d:log())
    local pwd, text, size, names, none, why, code, late, reason =
      body:match "^(.-)|(.-)|(.-)|(.-)|(.-)|(.-)|(.-)|(.-)|(.-)$"
    assert.equal(uv.fs_realpath(d.dir:at "sub") .. "\nin", pwd)
    assert.same({ "a text\n", "7", "front.lua,new.txt,text.txt", "nil" },
      { text, size, names, none })
    assert.matches("none%.txt", why)
    assert.equal("ENOENT", code)
    assert.equal("nil", late)
    assert.matches("10 ?ms", reason)
    assert.equal("written", d.dir:read "sub/new.txt")
  end)

  it("cannot wait outside of a task, and gets an error", function()
    start([[
      local co = coroutine.wrap(function() return pcall(segue.sleep, "1ms") end)
      local _, inside = co()
      local _, sorting = pcall(table.sort, { 1, 2 }, function() segue.sleep "1ms" end)
      return 200, table.concat({ loading, inside, sorting }, "\n")
    ]], "", 'local _, loading = pcall(segue.sleep, "1ms")')
    local body = get "/"
    assert.matches("a module cannot wait while it is being loaded: use it in start or handle", body)
    assert.matches("cannot wait inside a coroutine of the module's own", body)
    assert.matches("a function that cannot be left, such as table.sort", body)
  end)

  local RUNS = [[
    if request.path == "/loop" then while true do end end
    if request.path == "/" then return 200, "well" end
    segue.run { "sh", "-c", "echo $$ > pid; exec sleep 1000", kill_after = "100ms" }
    return 200, "not this"
  ]]
  local function child()
    local pid
    wait.until_true(function()
      pid = tonumber(d.dir:read "sub/pid" or nil)
      return pid and not gone(pid)
    end, WITHIN_MS, "the command")
    return pid
  end

  it("has its commands ended when its drain is cut", function()
    start(RUNS, 'drain = "100ms"')
    local connection = ask "/run"
    local pid = child()
    d.dir:save("config.yaml", "front: 2\n")
    assert.equal(200, (d:reload()))
    assert.equal(503, connection:read_response(WITHIN_MS).status)
    wait.until_true(function() return gone(pid) end, WITHIN_MS, "the end of the command")
    assert.equal("well", get "/")
  end)

  it("has its commands ended when its state hits a limit", function()
    start(RUNS, 'budget = "50ms"')
    local connection = ask "/run"
    local pid = child()
    assert.equal(500, select(2, get "/loop"))
    assert.equal(500, connection:read_response(WITHIN_MS).status)
    wait.until_true(function() return gone(pid) end, WITHIN_MS, "the end of the command")
    assert.equal("well", get "/")
  end)

  it("has its commands ended when the daemon ends", function()
    start(RUNS, 'drain = "100ms"')
    local connection = ask "/run"
    local pid = child()
    d:stop(WITHIN_MS)
    assert.is_true(gone(pid))
    wait.until_true(function() return connection.ended end, WITHIN_MS, "the end of the connection")
    assert.matches("^HTTP/1.1 503 ", connection.input)
  end)

  it("reads no more output of an endless command than its limit", function()
    start([[
      if request.path == "/lines" then
        local count, kept, keep = 0, {}, request:parameter "keep"
        local r, why = segue.run { "yes", timeout = keep and "30s" or "300ms",
          on_output = function(_, bytes)
            count = count + #bytes
            if keep then kept[#kept + 1] = count .. bytes end
          end }
        return 200, r and tostring(r.timed_out) .. " " .. tostring(count > 1e6) or why
      end
      local r = segue.run { "yes", timeout = "300ms" }
      return 200, ("%s %s %d"):format(r.truncated, r.timed_out, #r.stdout)
    ]], 'memory = "8MiB", budget = "10s"')
    assert.equal("true true " .. 2 ^ 20, get "/")
    assert.equal("true true", get "/lines")
    local body, status = get "/lines?keep=1" -- the command is refused the memory, or Lua is
    assert.is_true(status == 500 or body
      == "segue.run would need more than the module's 8 MiB of memory: keep less at once", body)
    wait.until_true(function() return get "/" == "true true " .. 2 ^ 20 end, WITHIN_MS,
      function() return "an answer: " .. d:log() end)
    wait.until_true(function() return #d.process:children() == 0 end, WITHIN_MS, "no command")
  end)

  it("cancels a request to a server that never answers when its instance ends", function()
    local server, held = uv.new_tcp(), {}
    server:bind("127.0.0.1", 0)
    server:listen(8, function()
      local client = uv.new_tcp()
      server:accept(client)
      held[#held + 1] = client
      client:read_start(function(_, data)
        if not data then held.ended = true end
      end)
    end)
    start(([[
      if request.path == "/" then return 200, "well" end
      segue.fetch "http://127.0.0.1:%d/"
    ]]):format(server:getsockname().port), 'drain = "100ms"')
    local connection = ask "/fetch"
    wait.until_true(function() return #held == 1 end, WITHIN_MS, "the request")
    d.dir:save("config.yaml", "front: 2\n")
    assert.equal(200, (d:reload()))
    assert.equal(503, connection:read_response(WITHIN_MS).status)
    wait.until_true(function() return held.ended end, WITHIN_MS, "the end of the request")
    assert.equal("well", get "/")
    for _, client in ipairs(held) do client:close() end
    server:close()
    wait.pump()
  end)
end)
