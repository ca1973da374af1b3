-- SPDX-License-Identifier: MIT
-- The rows of the table that need a server. Each returns results; the goals compare them as ratios
-- within this run.
local client = require "spec.bench.client"
local servers = require "spec.bench.servers"

local M = {}

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

local function reload_row(n, rounds, goals)
  return function(report)
    local times = reload_times(n, rounds)
    for _, peer in ipairs { "prometheus", "caddy", "nginx" } do
      report { ours = times.segue, theirs = times[peer], peer = peer, unit = "ms",
        at_most = goals[peer] }
    end
  end
end

M.reload_small = { title = "POST -> new config serves, 1 entry",
  run = reload_row(1, 20, { prometheus = 0.67, caddy = 0.34, nginx = 0.1 }) }

M.reload_5000 = { title = "POST -> new config serves, 5,000 entries",
  run = reload_row(5000, 5, { prometheus = 0.06, caddy = 0.13, nginx = 0.52 }) }

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
