-- SPDX-License-Identifier: MIT
-- The rows of the front that never stops: wrk on 64 connections, undisturbed and with a reload
-- every 200 ms that changes what is served, for each way to replace a module, beside what Debian
-- offers. Everything on one thread.
local client = require "spec.bench.client"
local process = require "spec.support.process"
local servers = require "spec.bench.servers"
local uv = require "luv"

local M = {}
local build = os.getenv("SEGUE_BUILD") or "build"
local ROUNDS, SECONDS, EVERY_MS = 3, 2, 200

local OURS = { "swap", "handover", "restart", "lua" }
local PEERS = { "nginx", "haproxy", "caddy", "nginx_lua" }
local NAMES = { nginx = "nginx, HUP", haproxy = "HAProxy, USR2", caddy = "Caddy, /load",
  nginx_lua = "nginx-lua, HUP" }

local function median(values)
  table.sort(values)
  return values[math.floor(#values / 2) + 1]
end

local function make(name)
  if servers["front_" .. name] then return servers["front_" .. name]() end
  return servers.module(name)
end

-- CPU seconds so far of all threads of a server and of its children.
local function cpu(server)
  local pids, ns = server.process:children(), 0
  table.insert(pids, server.process.pid)
  for _, pid in ipairs(pids) do
    local tasks = uv.fs_scandir(("/proc/%d/task"):format(pid))
    while tasks do
      local task = uv.fs_scandir_next(tasks)
      if not task then break end
      local file = io.open(("/proc/%d/task/%s/schedstat"):format(pid, task))
      ns = ns + (file and file:read "*n" or 0)
      if file then file:close() end
    end
  end
  return ns / 1e9
end

local UNITS = { us = 0.001, ms = 1, s = 1000 }
local function ms(text, pattern)
  local number, unit = text:match(pattern .. " *([%d.]+)(%a+)")
  return tonumber(number) * UNITS[unit]
end

-- The output of wrk: requests, rate, latencies in ms, and errors.
local function figures(p)
  local text, broken = p.stdout, 0
  if not text:find "requests in" then error(p:describe()) end
  for n in (text:match "Socket errors: ([^\n]*)" or ""):gmatch "(%d+)" do broken = broken + n end
  return {
    requests = tonumber(text:match "(%d+) requests in"),
    rate = tonumber(text:match "Requests/sec: *([%d.]+)"),
    p50 = ms(text, "50%%"), p99 = ms(text, "99%%"),
    max = ms(text, "Latency +%S+ +%S+"),
    broken = broken + tonumber(text:match "Non%-2xx or 3xx responses: (%d+)" or 0),
  }
end

-- One run of wrk; `every`, if there is one, is called every 200 ms meanwhile.
local function load(server, close, every)
  local before = cpu(server)
  local p = process.start { "wrk", "-t1", "-c64", "-d" .. SECONDS .. "s", "--latency", "-H",
    close and "Connection: close" or "Connection: keep-alive",
    "http://127.0.0.1:" .. server.port .. "/" }
  local timer = uv.new_timer()
  local failure
  timer:start(EVERY_MS, EVERY_MS, function()
    if not every or failure then return end
    local ok, err = pcall(every)
    if not ok then failure = err end
  end)
  while p:running() do uv.run "once" end
  p:wait_exit()
  timer:close()
  if failure then error(failure, 0) end
  local f = figures(p)
  f.us = (cpu(server) - before) / f.requests * 1e6
  return f
end

-- Upper bound, in ms, of what 99 % of those who waited at the gate waited at most.
local function gate_wait(server)
  local _, text = client.once(server.admin, "GET", "/metrics")
  local bounds, all = {}, 0
  for bound, n in text:gmatch 'segue_gate_wait_seconds_bucket{[^}]*le="([^"]+)"} (%d+)' do
    bounds[#bounds + 1] = { tonumber(bound) or math.huge, tonumber(n) }
    all = math.max(all, tonumber(n))
  end
  for _, bucket in ipairs(bounds) do
    if bucket[2] >= 0.99 * all then return bucket[1] * 1000 end
  end
end

local function remember(lists, figures_of_run)
  for key, value in pairs(figures_of_run) do
    lists[key] = lists[key] or {}
    table.insert(lists[key], value)
  end
end

-- Undisturbed and with reloads, in turns: lists of results.
local function measure(name, close, results)
  local server = make(name)
  local ok, err = pcall(function()
    server:start(1)
    local marks = 0
    local function reload()
      marks = marks + 1
      server:write(1, "m" .. marks)
      server:reload()
    end
    for _, side in ipairs { "quiet", "busy", "busy", "quiet" } do
      remember(results[side], load(server, close, side == "busy" and reload))
    end
    assert(marks >= 2 * SECONDS * 1000 / EVERY_MS / 2, "too few reloads: " .. marks)
    remember(results.busy, { memory = server:memory(),
      wait = name == "restart" and gate_wait(server) or nil })
  end)
  pcall(server.stop, server)
  if not ok then error(name .. ": " .. tostring(err), 0) end
end

local function sum(values)
  local n = 0
  for _, value in ipairs(values) do n = n + value end
  return n
end

local function measure_all(close)
  local all = {}
  for _ = 1, ROUNDS do -- in turns: what the machine does besides hits each
    for _, list in ipairs { OURS, PEERS } do
      for _, name in ipairs(list) do
        all[name] = all[name] or { quiet = {}, busy = {} }
        measure(name, close, all[name])
      end
    end
  end
  for _, results in pairs(all) do
    for _, side in pairs(results) do
      for key, values in pairs(side) do
        side[key] = key == "broken" and sum(values) or median(values)
      end
    end
  end
  return all
end

local function report_own(report, all)
  for _, name in ipairs(OURS) do
    local quiet, busy = all[name].quiet, all[name].busy
    report { ours = busy.rate, theirs = quiet.rate, peer = "itself undisturbed",
      unit = "req/s, " .. name, at_least = 0.95 }
    report { ours = busy.p99, theirs = quiet.p99, peer = "itself undisturbed",
      unit = "ms p99, " .. name, at_most = 1.5 }
    report { ours = quiet.broken + busy.broken, theirs = 1, peer = "(not one)",
      unit = "broken, " .. name, at_most = 0 }
    report { ours = busy.p50, peer = "(for the record)", unit = "ms p50, " .. name }
    report { ours = busy.max, peer = "(for the record)", unit = "ms max, " .. name }
    report { ours = busy.memory, peer = "(for the record)", unit = "MB after, " .. name }
  end
  report { ours = all.restart.busy.wait, theirs = 50, peer = "50 ms", unit = "ms p99 at the gate",
    at_most = 1 }
end

local function report_peers(report, all)
  local ours = all.handover
  for _, name in ipairs(PEERS) do
    local peer, theirs = NAMES[name], all[name]
    report { ours = ours.quiet.us, theirs = theirs.quiet.us, peer = peer, unit = "µs CPU/request",
      at_most = name == "nginx" and 1 or nil }
    report { ours = ours.quiet.rate, theirs = theirs.quiet.rate, peer = peer,
      unit = "req/s undisturbed" }
    report { ours = ours.busy.rate, theirs = theirs.busy.rate, peer = peer,
      unit = "req/s, reloads" }
    for _, key in ipairs { "p50", "p99", "max" } do
      report { ours = ours.busy[key], theirs = theirs.busy[key], peer = peer,
        unit = "ms " .. key .. ", reloads" }
    end
    report { ours = ours.busy.broken, theirs = theirs.busy.broken, peer = peer,
      unit = "broken, reloads" }
    report { ours = ours.busy.memory, theirs = theirs.busy.memory, peer = peer, unit = "MB after" }
  end
  report { ours = all.lua.quiet.us, theirs = all.nginx_lua.quiet.us, peer = NAMES.nginx_lua,
    unit = "µs CPU/request, lua", at_most = 1 }
  report { ours = all.lua.busy.rate, theirs = all.nginx_lua.busy.rate, peer = NAMES.nginx_lua,
    unit = "req/s, reloads, lua" }
end

local function row(title, close)
  return { title = title, run = function(report)
    local all = measure_all(close)
    report_own(report, all)
    report_peers(report, all)
  end }
end

-- Memory, descriptors and threads while numbered requests come; at the end none of them was lost.
M.front_flat = { title = "10,000 reloads under numbered requests", run = function(report)
  local server = servers.module("handover")
  server.numbered = true
  local ok, err = pcall(function()
    server:start(1)
    local p = process.start { build .. "/bench/numbered", server.port, server.admin,
      server.dir:at "config.yaml", "keepalive", 64, 12000, 0 }
    local function state(reloads)
      p:wait_output(reloads .. " reloads", 600000)
      return { memory = server:memory(), fds = server.process:fds(),
        threads = server.process:threads(), at = client.now() }
    end
    local before, after = state(1000), state(11000)
    p:wait_exit(120000)
    if not p.stdout:find " wrong=" then error(p:describe()) end
    local peer = "itself after 1,000"
    report { ours = after.memory, theirs = before.memory, peer = peer, unit = "MB", at_most = 1.05 }
    report { ours = after.fds, theirs = before.fds, peer = peer, unit = "fds", at_most = 1 }
    report { ours = after.threads, theirs = before.threads, peer = peer, unit = "threads",
      at_most = 1 }
    report { ours = tonumber(p.stdout:match " wrong=(%d+)"), theirs = 1, peer = "(not one)",
      unit = "lost, mixed, doubled", at_most = 0 }
    report { ours = tonumber(p.stdout:match "answered=(%d+)"), peer = "(for the record)",
      unit = "requests" }
    report { ours = (after.at - before.at) / 10, peer = "(for the record)", unit = "ms each" }
  end)
  pcall(server.stop, server)
  if not ok then error(err, 0) end
end }

-- CPU of all threads with an access log, and what of it is the log's.
M.front_log = { title = "the same, with an access log", run = function(report)
  local all, extra, with = {}, {}, {}
  for _, name in ipairs { "handover", "nginx" } do
    all[name] = { off = make(name), on = make(name) }
    all[name].on.logs = true
    all[name].off:start(1)
    all[name].on:start(1)
    extra[name], with[name] = {}, {}
  end
  for _ = 1, 9 do
    for name, server in pairs(all) do
      local off, on = load(server.off, false).us, load(server.on, false).us
      table.insert(extra[name], on - off)
      table.insert(with[name], on)
    end
  end
  for _, server in pairs(all) do
    server.on:stop()
    server.off:stop()
  end
  report { ours = median(with.handover), theirs = median(with.nginx), peer = "nginx, 64k buffer",
    unit = "µs CPU/request", at_most = 1 }
  report { ours = median(extra.handover), peer = "(for the record)", unit = "µs of it, the log" }
  report { ours = median(extra.nginx), peer = "(for the record)", unit = "µs of nginx's" }
end }

M.front = row("module over HTTP, reload each 200 ms", false)
M.front_close = row("the same, a connection per request", true)

return M
