-- SPDX-License-Identifier: MIT
-- The rows about serving: our HTTP server beside nginx and a bare libuv loop, what an idle
-- connection costs, how soon a changed file is live, and two changes close to each other.
local client = require "spec.bench.client"
local port = require "spec.support.port"
local process = require "spec.support.process"
local servers = require "spec.bench.servers"
local tempdir = require "spec.support.tempdir"
local uv = require "luv"
local wait = require "spec.support.wait"

local M = {}
local build = os.getenv("SEGUE_BUILD") or "build"

local function median(values)
  table.sort(values)
  return values[math.floor(#values / 2) + 1]
end

local function percentile(values, p)
  table.sort(values)
  return values[math.ceil(#values * p)]
end

local function up(at)
  wait.until_true(function() return client.once(at, "GET", "/") end)
end

-- Starts a server: its port and the process that does the work.
local function start(name)
  if name == "nginx" then
    local server = servers.nginx():start(1)
    return { port = server.port, pid = server.process:children()[1],
      stop = function() server:stop() end }
  end
  local at = port.free()
  local p = name == "h2o" and process.start { build .. "/bench/h2o", tostring(at) }
    or process.start { build .. "/bench/http", name, tostring(at) }
  up(at)
  return { port = at, pid = p.pid, stop = function() p:stop() end }
end

-- CPU seconds of a process so far: of the scheduler's own account, which counts nanoseconds.
local function cpu(pid)
  local file = assert(io.open(("/proc/%d/schedstat"):format(pid)))
  local ns = file:read "*n"
  file:close()
  return ns / 1e9
end

-- µs of CPU for a request, and the rate, under wrk.
local function under_load(name)
  local server = start(name)
  local before = cpu(server.pid)
  local p = process.run { "wrk", "-t1", "-c64", "-d3s", "http://127.0.0.1:" .. server.port .. "/" }
  local used = cpu(server.pid) - before
  server.stop()
  local requests = tonumber(p.stdout:match("(%d+) requests in"))
  if not requests or p.stdout:find "Non%-2xx" then error(p:describe()) end
  return used / requests * 1e6, tonumber(p.stdout:match("Requests/sec: *([%d.]+)"))
end

M.http = { title = "HTTP, 64 connections", run = function(report)
  local us, rate = {}, {}
  local names = { "segue", "nginx", "h2o", "uv" }
  for _ = 1, 3 do -- in turns: what the machine does besides hits each
    for _, name in ipairs(names) do
      us[name], rate[name] = us[name] or {}, rate[name] or {}
      local u, r = under_load(name)
      table.insert(us[name], u)
      table.insert(rate[name], r)
    end
  end
  for _, name in ipairs(names) do us[name], rate[name] = median(us[name]), median(rate[name]) end
  report { ours = us.segue, theirs = us.nginx, peer = "nginx return 200", unit = "µs CPU/request",
    at_most = 1 }
  report { ours = us.segue, theirs = us.h2o, peer = "libh2o", unit = "µs CPU/request",
    at_most = 1 }
  report { ours = us.segue, theirs = us.uv, peer = "bare libuv", unit = "µs CPU/request" }
  report { ours = rate.segue, theirs = rate.nginx, peer = "nginx return 200", unit = "requests/s",
    at_least = 1 }
  report { ours = rate.segue, theirs = rate.h2o, peer = "libh2o", unit = "requests/s",
    at_least = 1 }
  report { ours = rate.segue, theirs = rate.uv, peer = "bare libuv", unit = "requests/s" }
end }

local function memory(pid)
  for line in io.lines(("/proc/%d/smaps_rollup"):format(pid)) do
    local kib = line:match("^Pss:%s*(%d+)")
    if kib then return kib * 1024 end
  end
end

-- Bytes for each of n connections that have asked once.
local function per_connection(name, n)
  local server = start(name)
  local before = memory(server.pid)
  local handles, answered = {}, 0
  for i = 1, n do
    handles[i] = uv.new_tcp()
    handles[i]:connect("127.0.0.1", server.port, function(err)
      assert(not err, err)
      handles[i]:read_start(function(_, data) answered = answered + (data and 1 or 0) end)
      handles[i]:write("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    end)
  end
  wait.until_true(function() return answered >= n end, 20000, "the answers")
  local bytes = (memory(server.pid) - before) / n
  for _, handle in ipairs(handles) do handle:close() end
  wait.pump()
  server.stop()
  return bytes
end

M.idle_connections = { title = "memory of an idle connection", run = function(report)
  local ours = per_connection("segue", 450) -- nginx has a limit of 512
  report { ours = ours, theirs = per_connection("nginx", 450), peer = "nginx", unit = "bytes",
    at_most = 1 }
  report { ours = ours, theirs = per_connection("h2o", 450), peer = "libh2o", unit = "bytes" }
  report { ours = ours, theirs = per_connection("uv", 450), peer = "bare libuv, 4 KB buffer",
    unit = "bytes" }
end }

local watched = [[
local segue = require "segue"
return {
  name = "bench",
  sources = { segue.file "config.yaml" },
  triggers = { segue.watch(), segue.http "127.0.0.1:%d" },
  debounce = { min = "%s", max = "1s" },
}
]]

-- fn(save, live): save(n) puts a version in place and returns when it began to rename it; live() is
-- the one that is served.
local function watching(debounce, fn)
  local dir, at = tempdir.new(), port.free()
  local function save(n)
    dir:write("next", ("n: %d\n"):format(n))
    local began = client.now()
    assert(os.rename(dir:at "next", dir:at "config.yaml"))
    return began
  end
  save(0)
  dir:write("reload.lua", watched:format(at, debounce))
  local p = process.start { uv.cwd() .. "/" .. build .. "/segue", "run", "-c", dir:at "reload.lua" }
  up(at)
  local c = client.new(at)
  local ok, err = pcall(fn, save, function()
    local _, body = c:request("GET", "/api/v1/config?path=n")
    return tonumber(body)
  end)
  c:close()
  p:stop()
  if not ok then error(err, 0) end
end

local function until_live(live, n, seconds)
  local deadline = client.now() + seconds
  while live() ~= n do
    if client.now() > deadline then return false end
  end
  return true
end

-- ms from the rename of a file to an answer that has it, for n changes with pauses of some
-- seconds between them.
local function change_times(n, pause)
  local times = {}
  watching("0s", function(save, live)
    for i = 1, n do
      wait.pump() -- takes the daemon's log
      if pause then client.pause(pause) end
      local began = save(i)
      if not until_live(live, i, 5) then error("version " .. i .. " never came") end
      times[i] = (client.now() - began) * 1000
    end
  end)
  return times
end

-- A change right behind another one waits for what is written about that one: see `durable`.
M.change = { title = "file saved -> new generation serves", run = function(report)
  local times = change_times(500, 0.01)
  report { ours = median(times), theirs = 0.4, peer = "goal", unit = "ms", at_most = 1 }
  report { ours = percentile(times, 0.99), theirs = 2, peer = "goal", unit = "ms p99",
    at_most = 1 }
  times = change_times(500)
  report { ours = median(times), peer = "(for the record)", unit = "ms, no pause" }
  report { ours = percentile(times, 0.99), peer = "(for the record)", unit = "ms p99, no pause" }
end }

local hooked = [[
local segue = require "segue"
return {
  name = "bench",
  sources = { segue.file "config.yaml" },
  triggers = { segue.watch() },
  debounce = { min = "0s", max = "1s" },
  reload = function(txn)
    txn:prepare()
    txn:commit()
    assert(segue.fetch { url = "http://127.0.0.1:%d/", method = "POST" })
  end,
}
]]

-- A server that counts requests and answers each with 200.
local function hook_server()
  local self = { port = port.free(), count = 0, listener = uv.new_tcp() }
  assert(self.listener:bind("127.0.0.1", self.port))
  assert(self.listener:listen(16, function()
    local tcp = uv.new_tcp()
    self.listener:accept(tcp)
    tcp:nodelay(true)
    tcp:read_start(function(_, data)
      if not data then return tcp:close() end
      self.count = self.count + 1
      tcp:write "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    end)
  end))
  return self
end

-- configmap-reload is not in Debian: its results are those that the binary of its makers has
-- reached, 0.42 ms and 3.4 ms at p99.
M.hook = { title = "file saved -> HTTP hook called", run = function(report)
  local dir, server, times = tempdir.new(), hook_server(), {}
  dir:save("config.yaml", "n: 0\n")
  dir:write("reload.lua", hooked:format(server.port))
  local p = process.start { uv.cwd() .. "/" .. build .. "/segue", "run", "-c", dir:at "reload.lua" }
  p:wait_output "generation 1 is live"
  for i = 1, 500 do
    local before = server.count
    local began = client.now()
    dir:save("config.yaml", ("n: %d\n"):format(i))
    repeat uv.run "once" until server.count > before
    times[i] = (client.now() - began) * 1000
    p:wait_output(("generation %d is live"):format(i + 1), 10000, math.max(1, #p.output - 4000))
  end
  p:stop()
  server.listener:close()
  report { ours = median(times), theirs = 0.42, peer = "configmap-reload", unit = "ms",
    at_most = 1 }
  report { ours = percentile(times, 0.99), theirs = 3.4, peer = "configmap-reload", unit = "ms p99",
    at_most = 1 }
end }

M.two_changes = { title = "two changes 5-80 ms apart", run = function(report)
  local lost, times = 0, {}
  watching("10ms", function(save, live)
    for i = 1, 100 do
      save(2 * i)
      local next_at = client.now() + (5 + 75 * (i - 1) / 99) / 1000
      repeat until client.now() >= next_at
      save(2 * i + 1)
      local began = client.now()
      if not until_live(live, 2 * i + 1, 5) then lost = lost + 1 end
      times[i] = (client.now() - began) * 1000 - 10
    end
  end)
  report { ours = lost, peer = "(of 100)", unit = "lost", theirs = 1, at_most = 0 }
  report { ours = median(times), theirs = 5, peer = "goal, after debounce", unit = "ms",
    at_most = 1 }
end }

return M
