-- SPDX-License-Identifier: MIT
-- Sources that are asked over a network, at the worst moments: kills and failures at each step of
-- their lives, and memory that runs out anywhere in them.
local faults = require "spec.support.faults"
local segue = require "spec.support.segue"
local wait = require "spec.support.wait"
local web = require "spec.support.web"

local function policy(url)
  return ([[
    local segue = require "segue"
    return {
      sources = {
        segue.file "config.yaml",
        segue.url { "%s", retry = { min = "10ms", max = "50ms" }, interval = "100ms" },
        segue.source { name = "push", retry = { min = "10ms", max = "50ms" },
          fetch = function() return { pushed = segue.state.pushed or 0 } end,
          watch = function(self, emit)
            while true do
              segue.sleep "20ms"
              local text = segue.read "pushed"
              local n = tonumber(text)
              if n and n ~= segue.state.pushed then
                segue.state.pushed = n
                emit { pushed = n }
              end
            end
          end },
      },
      triggers = { segue.watch(), segue.http "127.0.0.1:@PORT@" },
    }]]):format(url)
end

local function serve(n)
  local state = { n = n or 1 }
  state.server = web.serve(function(_, client) client:write(web.answer("n: " .. state.n)) end)
  return state
end

local function start(w, options)
  options = options or {}
  options.policy = policy(w.server.url)
  options.files = { ["config.yaml"] = "x: 1\n", pushed = "1\n" }
  return segue.start(options)
end

local function settled(d, n)
  d:wait_config(function(c) return c.n == n and c.pushed == n and c.x == n end, 20000)
end

local function change(d, w, n)
  w.n = n
  d.dir:save("config.yaml", "x: " .. n .. "\n")
  d.dir:save("pushed", n .. "\n")
end

describe("a source over a network", function()
  after_each(function()
    web.cleanup()
    segue.cleanup()
  end)

  -- a point, and the time that it is passed when it strikes
  local points = { { "remote.fetch", 2, 6 }, { "remote.take", 2, 6 }, { "remote.watch", 1, 1 },
    { "remote.keep", 2, 6 } }
  for _, case in ipairs(points) do
    local point = case[1]
    it("survives kill -9 at " .. point .. ", and begins with what was good", function()
      local w = serve()
      local d = start(w)
      settled(d, 1)
      d:stop()
      d.options.env = { SEGUE_FAULTS = ("%s#%d=kill"):format(point, case[2]) }
      d:spawn()
      change(d, w, 2)
      assert.equal(9, select(2, d:wait_exit(20000)), d:log())
      d.options.env = nil
      d:spawn()
      d:wait_ready()
      settled(d, 2)
      d:stop()
    end)

    it("that fails at " .. point .. " is tried again, and nothing is lost", function()
      local w = serve()
      local d = start(w, { env = { SEGUE_FAULTS = ("%s#%d=fail"):format(point, case[3]) } })
      for n = 2, 6 do
        change(d, w, n)
        settled(d, n)
      end
      d:stop()
    end)
  end

  local function stays_whole(step)
    local w = serve()
    local d = start(w, { env = faults.memory_env })
    for n = 2, 60, step do
      local before = faults.memory_failures(d)
      faults.memory(d, n * 3)
      change(d, w, n)
      -- the URL is asked ten times a second: it will be met
      wait.until_true(function() return faults.memory_failures(d) > before end, 20000, function()
        return "an allocation that fails: " .. d.process:describe()
      end)
      settled(d, n)
    end
    d:stop()
  end
  it("leaves the daemon whole when memory runs out", function() stays_whole(7) end)
  it("leaves the daemon whole when memory runs out anywhere #long", function() stays_whole(1) end)
end)
