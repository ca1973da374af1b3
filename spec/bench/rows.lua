-- SPDX-License-Identifier: MIT
-- The rows of the table that need a server. Each returns figures; the goals say how they must
-- compare, as ratios within this run.
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

-- Median time until a new configuration of n entries is live. The first rounds warm up.
local function reload_time(name, n, rounds)
  return with(name, n, function(server)
    local times = {}
    for i = 1, rounds + 3 do
      local ms = server:measure(n, "m" .. i)
      if i > 3 then times[#times + 1] = ms end
    end
    return median(times)
  end)
end

local function reload_row(n, rounds, goals)
  return function(report)
    local ours = reload_time("segue", n, rounds.segue)
    for _, peer in ipairs { "prometheus", "caddy", "nginx" } do
      report { ours = ours, theirs = reload_time(peer, n, rounds[peer]), peer = peer, unit = "ms",
        at_most = goals[peer] }
    end
  end
end

M.reload_small = { title = "POST -> new config serves, 1 entry",
  run = reload_row(1, { segue = 100, prometheus = 50, caddy = 30, nginx = 20 },
    { prometheus = 0.67, caddy = 0.34, nginx = 0.1 }) }

M.reload_5000 = { title = "POST -> new config serves, 5,000 entries",
  run = reload_row(5000, { segue = 20, prometheus = 5, caddy = 5, nginx = 5 },
    { prometheus = 0.06, caddy = 0.13, nginx = 0.52 }) }

M.idle = { title = "idle memory; start to ready", run = function(report)
  local function figures(name)
    local memory, ready = {}, {}
    for _ = 1, 5 do
      with(name, 1, function(server)
        memory[#memory + 1] = server:memory()
        ready[#ready + 1] = server.ready_ms
      end)
    end
    return median(memory), median(ready)
  end
  local memory, ready = figures("segue")
  local goals = { nginx = { 0.57, 0.84 }, caddy = { 0.25, 0.25 }, prometheus = { 0.2, 0.16 } }
  for _, peer in ipairs { "nginx", "caddy", "prometheus" } do
    local their_memory, their_ready = figures(peer)
    report { ours = memory, theirs = their_memory, peer = peer, unit = "MB",
      at_most = goals[peer][1] }
    report { ours = ready, theirs = their_ready, peer = peer, unit = "ms to ready",
      at_most = goals[peer][2] }
  end
end }

M.flat = { title = "10,000 reloads, each of another config", run = function(report)
  with("segue", 100, function(server)
    local function state()
      return { rss = server:memory(), fds = server.process:fds(),
        threads = server.process:threads() }
    end
    local function reload(from, to)
      for i = from, to do
        server:write(100, "m" .. i)
        server:reload()
      end
      if server:live() ~= "m" .. to then error("m" .. to .. " is not live") end
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
