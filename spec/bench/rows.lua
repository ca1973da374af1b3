-- SPDX-License-Identifier: MIT
-- The rows of the table that need a server. Each returns results; the goals compare them as ratios
-- within this run.
local client = require "spec.bench.client"
local process = require "spec.support.process"
local servers = require "spec.bench.servers"
local tempdir = require "spec.support.tempdir"

local M = {}
local build = os.getenv("SEGUE_BUILD") or "build"

local function median(values)
  table.sort(values)
  return values[math.floor(#values / 2) + 1]
end

-- Runs fn(server) with a server that is stopped whatever happens.
local function with(name, n, fn)
  local server = servers[name]()
  local ok, result = pcall(function()
    server:start(n)
    return fn(server)
  end)
  pcall(server.stop, server)
  if not ok then error(name .. ": " .. tostring(result), 0) end
  return result
end

-- Median times until a new configuration of n entries is live, by server. The servers run one at a
-- time, because some work on for long after they answered; they take turns, so that another busy
-- process on the machine disturbs all alike. The first rounds of a turn warm up.
local TURNS = 3
local function reload_times(n, rounds)
  local times = { segue = {}, prometheus = {}, caddy = {}, nginx = {} }
  for _ = 1, TURNS do
    for name, list in pairs(times) do
      with(name, n, function(server)
        for i = 1, rounds + 2 do
          local ms = server:measure(n, "m" .. i)
          if i > 2 then list[#list + 1] = ms end
        end
      end)
    end
  end
  for name, list in pairs(times) do times[name] = median(list) end
  return times
end

local function until_event(name)
  return function(text) return text:find("event: " .. name .. "\n", 1, true) end
end

-- Median times until the generation of a POST is live, and until it is answered, which is after it
-- is on disk. The event of the phase behind the commit reports that it is live.
local function live_times(n, rounds)
  local live, answered = {}, {}
  with("segue", n, function(server)
    local events, poster = client.new(server.port), client.new(server.port)
    assert(events:send("GET", "/api/v1/events"))
    assert(events:read(function(text) return text:find("retry:", 1, true) end))
    for i = 1, rounds + 2 do
      server:write(n, "m" .. i)
      client.pause(0.02)
      local began = client.now()
      assert(poster:send("POST", "/-/reload"))
      local seen = assert(events:read(until_event "confirm"))
      local is_live = client.now()
      assert(poster:receive() == 200)
      local is_answered = client.now()
      if not until_event "settled" (seen) then assert(events:read(until_event "settled")) end
      if i > 2 then
        table.insert(live, (is_live - began) * 1000)
        table.insert(answered, (is_answered - began) * 1000)
      end
    end
    events:close()
    poster:close()
  end)
  return median(live), median(answered)
end

-- MB/s of the parser for the configuration of n entries.
local function parse_rate(n)
  local server = servers.segue()
  server.dir = tempdir.new()
  server:write(n, "m0")
  local p = process.run { build .. "/bench/parse", server.dir:at "config.yaml", "yaml" }
  return tonumber(p.stdout:match "segue ([%d.]+)") or error(p:describe())
end

local function reload_row(n, rounds, goals)
  return function(report)
    local times = reload_times(n, rounds)
    local live, answered = live_times(n, 2 * rounds)
    if goals.live_ms then
      local rate = parse_rate(n)
      report { ours = live, theirs = goals.live_ms * goals.at_rate / rate, at_most = 1,
        peer = ("%d ms at %d MB/s"):format(goals.live_ms, goals.at_rate), unit = "ms, live" }
      report { ours = rate, peer = "(for the record)", unit = "MB/s of YAML" }
    end
    report { ours = live, theirs = times.prometheus, peer = "prometheus", unit = "ms, live",
      at_most = goals.live }
    report { ours = answered, peer = "(for the record)", unit = "ms, on disk" }
    for _, peer in ipairs { "prometheus", "caddy", "nginx" } do
      report { ours = times.segue, theirs = times[peer], peer = peer, unit = "ms",
        at_most = goals[peer] }
    end
  end
end

M.reload_small = { title = "POST -> new config serves, 1 entry",
  run = reload_row(1, 20, { live = 0.67, caddy = 0.34, nginx = 0.1 }) }

M.reload_5000 = { title = "POST -> new config serves, 5,000 entries",
  run = reload_row(5000, 5, { live_ms = 10, at_rate = 40, prometheus = 0.06, caddy = 0.13,
    nginx = 0.52 }) }

M.idle = { title = "idle memory; start to ready", run = function(report)
  local memory, ready, filled = {}, {}, {}
  for round = 1, 9 do
    for _, name in ipairs { "segue", "nginx", "caddy", "prometheus" } do
      if round == 1 then memory[name], ready[name] = {}, {} end
      with(name, 1, function(server)
        table.insert(memory[name], server:memory())
        table.insert(ready[name], server.ready_ms)
      end)
    end
    with("segue", 1000, function(server) table.insert(filled, server:memory()) end)
  end
  local ours, ours_ready = median(memory.segue), median(ready.segue)
  report { ours = median(filled) - ours, theirs = 2, peer = "2 MB, what it may be",
    unit = "MB, 1,000", at_most = 1 }
  local goals = { nginx = { 0.57, 0.84 }, caddy = { 0.25, 0.25 }, prometheus = { 0.2, 0.16 } }
  for _, peer in ipairs { "nginx", "caddy", "prometheus" } do
    report { ours = ours, theirs = median(memory[peer]), peer = peer, unit = "MB",
      at_most = goals[peer][1] }
    report { ours = ours_ready, theirs = median(ready[peer]), peer = peer, unit = "ms to ready",
      at_most = goals[peer][2] }
  end
end }

M.flat = { title = "10,000 reloads, each of another config", run = function(report)
  with("segue", 100, function(server)
    local function state()
      client.pause(0.2) -- connections that are closed by now have been noticed
      return { rss = server:memory(), fds = server.process:fds(),
        threads = server.process:threads() }
    end
    local function reload(from, to)
      for i = from, to do
        server:measure(100, "m" .. i)
      end
    end
    reload(1, 1000)
    local before = state()
    local began = client.now()
    reload(1001, 11000)
    local seconds = client.now() - began
    local after = state()
    report { ours = after.rss, theirs = before.rss, peer = "itself after 1,000", unit = "MB",
      at_most = 1.05 }
    report { ours = after.fds, theirs = before.fds, peer = "itself after 1,000", unit = "fds",
      at_most = 1 }
    report { ours = after.threads, theirs = before.threads, peer = "itself after 1,000",
      unit = "threads", at_most = 1 }
    report { ours = seconds / 10000 * 1000, peer = "(for the record)", unit = "ms each" }
  end)
end }

return M
