-- SPDX-License-Identifier: MIT
-- The rows about key spaces: how soon a change of one key that a source in Lua emits is live, by
-- the number of keys in its folder, and the CPU time of the whole daemon for it.
local client = require "spec.bench.client"
local process = require "spec.support.process"
local tempdir = require "spec.support.tempdir"
local uv = require "luv"

local M = {}
local build = os.getenv("SEGUE_BUILD") or "build"
local CHANGES, TICK_MS = 100, 10

local function policy(n)
  return ([[
local segue = require "segue"
local n, space = %d, segue.keys { prefix = "/" }
return {
  triggers = {}, debounce = { min = "0s", max = "1s" },
  sources = { segue.source { name = "kv", safety = "1h",
    fetch = function(self)
      if self.revision and space:ready() then return true end
      local all = space:replace()
      for from = 1, n, 1000 do
        for i = from, math.min(from + 999, n) do
          all:put(("/ads/k%%06d"):format(i), "value " .. i .. " of some length", "1")
        end
        segue.sleep "1ms"
      end
      assert(all:done("1"))
      return space, "1"
    end,
    watch = function(self, emit)
      segue.sleep "1s"
      for i = 1, %d do
        space:put(("/ads/k%%06d"):format(i * 7919 %% n + 1), "changed " .. i, i + 1)
        emit(space, i + 1)
        segue.sleep "50ms"
      end
      segue.log.info("bench: all changes were emitted")
      segue.sleep "1h"
    end } },
}
]]):format(n, CHANGES)
end

local function cpu_ms(pid)
  local file = assert(io.open(("/proc/%d/stat"):format(pid)))
  local user, system = file:read("*a"):match("%) %u" .. (" %S+"):rep(10) .. " (%d+) (%d+)")
  file:close()
  return (tonumber(user) + tonumber(system)) * TICK_MS
end

-- The times that the engine reports, from the request of the run to its end, and the CPU time.
local function run(n)
  local dir = tempdir.new()
  dir:write("reload.lua", policy(n))
  local d = process.start { uv.cwd() .. "/" .. build .. "/segue", "run", "-c",
    dir:at "reload.lua", cwd = dir.path }
  local ok, err = pcall(function()
    d:wait_output("generation 1 is live", 60000)
    client.pause(0.3)
    local before = cpu_ms(d.pid)
    d:wait_output("bench: all changes were emitted", 120000)
    client.pause(0.3)
    d.cpu_ms = (cpu_ms(d.pid) - before) / CHANGES
  end)
  d:stop()
  dir:remove()
  if not ok then error(err, 0) end
  local times = {}
  for ms in d.output:gmatch('cause="kv pushed"[^\n]- took=([%d.]+)ms') do
    times[#times + 1] = tonumber(ms)
  end
  table.sort(times)
  return times[math.max(1, math.ceil(#times / 2))], times[math.ceil(#times * 0.99)], d.cpu_ms
end

M.keys = { title = "one key changes in a source -> settled", run = function(report)
  for _, row in ipairs { { 1, 0.8 }, { 1000, 0.8 }, { 10000, 1 }, { 100000, 3 } } do
    local n, goal = row[1], row[2]
    local p50, p99, cpu = run(n)
    report { ours = p50, theirs = goal, peer = "goal", unit = ("ms, %d keys"):format(n),
      at_most = 1 }
    report { ours = p99, peer = "(p99)", unit = ("ms, %d keys"):format(n) }
    report { ours = cpu, theirs = 1, peer = "goal", unit = ("ms CPU, %d keys"):format(n),
      at_most = 1 }
  end
end }

return M
