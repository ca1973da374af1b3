-- SPDX-License-Identifier: MIT
-- A random walk: modules that fail, hang, finish late or from other threads, instances that fail by
-- themselves, policies that change, files that break, triggers at any time. After each walk, when
-- all runs have ended, the promises hold. A failing walk names its seed: SEGUE_SEED=n runs just
-- that one.
local C = require "spec.support.c"
local engine = require "spec.support.engine"

local names, replaces = { "a", "b", "c" }, { "swap", "handover", "restart" }
local verbs, behaviours = { "prepare", "start", "drain", "stop" },
  { "OK", "OK", "OK", "OK", "FAIL", "FAIL_ONCE", "LATER", "TWICE", "THREAD", "FAIL_AND_OK", "DIE",
    "DIE_LATER" }
local scripts = { "prepare commit confirm", "prepare commit", "prepare", "prepare fail", "hang",
                  "prepare commit fail", "reject", "defer" }

local function walk(seed)
  local state = seed * 2654435761 % 4294967296
  local function random(n)
    state = (state * 1103515245 + 12345) % 2147483648
    return math.floor(state / 65536) % n + 1
  end
  local function policy(good)
    local modules = {}
    for i, name in ipairs(names) do
      if random(5) > 1 then
        local needs = i > 1 and #modules > 0 and random(2) == 1 and { modules[#modules][1] } or nil
        modules[#modules + 1] = { name, replaces[random(3)], needs = needs, drain_ms = 3000,
          on_failure = random(2) == 1 and "wait" or nil }
      end
    end
    return {
      modules = modules,
      check = random(4) == 1 and (good and engine.OK or random(3) - 1) or nil,
      probe = random(4) == 1 and (good and engine.OK or random(3) - 1) or nil,
      reload = not good and random(3) == 1 and scripts[random(#scripts)] or nil,
      defer_ms = 20000,
      set = { confirm_within_ms = 2000, reload_ms = 30000,
        min_interval_ms = random(3) == 1 and 500 or 0 },
    }
  end

  local e = engine.started { modules = { { "a", "restart" }, { "b", "handover" },
    { "c", "swap" } } }
  local hooks = { e.hooks }
  local waiting = {}
  for x = 2, 40 do
    local what = random(9)
    if what <= 3 then
      e:write("a.yaml", random(6) == 1 and "x: [" or "x: " .. x)
    elseif what == 4 then
      hooks[#hooks + 1] = e:set_policy(policy(false))
    elseif what == 5 then
      e:behave(names[random(3)], verbs[random(4)], engine[behaviours[random(#behaviours)]])
    elseif what == 6 then
      e:trigger(random(2) == 1 and "watch" or "poll", "noise")
    elseif what == 7 then
      e:die(names[random(3)], "died", random(2) == 1)
    end
    waiting[#waiting + 1] = e:reload { force = random(4) == 1 }
    if random(3) == 1 then e:step() end
    e:advance(({ 1, 60, 700, 5000, 40000 })[random(5)])
    if random(3) == 1 then
      e:finish(names[random(3)], verbs[random(4)], random(2) == 1 and 0 or -5013)
    end
    -- what readers see is always a whole generation, and its x the one of that generation
    local seen = e:value("x")
    assert(seen, "readers see nothing")
  end

  -- Quiet: all modules and hooks succeed, hanging ones end, and a good input arrives.
  for _, name in ipairs(names) do
    for _, verb in ipairs(verbs) do e:behave(name, verb, engine.OK) end
  end
  hooks[#hooks + 1] = e:set_policy(policy(true))
  for _ = 1, 20 do
    for _, name in ipairs(names) do
      for _, verb in ipairs(verbs) do e:finish(name, verb, 0) end
    end
    e:advance(60000)
  end
  for _, hook in ipairs(hooks) do C.scripted_hooks_finish(hook) end
  e:advance(120000)
  e:write("a.yaml", "x: 1000")
  local last = e:reload()
  e:advance(120000)
  local story = ("seed %d: "):format(seed)
  assert(last:outcome() == "applied" or last:outcome() == "SEGUE_EDEFERRED",
    story .. "a good configuration is not applied: " .. last:outcome() .. " "
    .. (last:result() and last:error() and last:error().text or "") .. "\n" .. e:journal())
  assert(e:value("x") == "1000", story .. "the last configuration is not live: " .. e:value("x"))
  for i, w in ipairs(waiting) do
    assert(w.rc ~= 0 or w.c.calls == 1, story .. "waiter " .. i .. " was told "
      .. w.c.calls .. " times")
  end
  assert(not e:gates():find("shut"), story .. e:gates())
  assert(not e:gates():find("refusing"), story .. e:gates() .. "\n" .. e:journal())
  local live = 0
  for _ in e:gates():gmatch("open") do live = live + 1 end
  assert(tonumber(e.world.instances) == live,
    story .. tonumber(e.world.instances) .. " instances, " .. live .. " modules\n" .. e:journal())
  e:close()
end

describe("the engine on a random walk", function()
  local one = tonumber(os.getenv("SEGUE_SEED"))
  it("keeps every promise when all runs have ended", function()
    for seed = one or 1, one or 300 do
      local ok, err = pcall(walk, seed)
      assert(ok, ("seed %d: %s"):format(seed, err))
    end
  end)
end)
