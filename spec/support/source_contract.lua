-- SPDX-License-Identifier: MIT
-- The contract of sources of key-value stores, with a real server: after each fault the tree is
-- that of a fresh read, and the number of reloads is bounded.
--   require("spec.support.source_contract") { name = "etcd", new = function(dir) ... end,
--     source = function(store, port) return 'segue.etcd { ... }' end }
-- A store has port, put, delete, all (a table of the keys below its prefix), start, stop, kill,
-- pause, continue, empty, save and restore. source returns the source of the policy: it connects
-- to the port of a relay before the store, and its pauses are short.
local busted = require "busted"
local segue = require "spec.support.segue"
local new_relay = require("spec.support.relay").new
local process = require "spec.support.process"
local tempdir = require "spec.support.tempdir"
local wait = require "spec.support.wait"

local describe, it, setup, teardown = busted.describe, busted.it, busted.setup, busted.teardown
local assert = require "luassert"
local limit_ms = 60000

return function(kind)
  describe("the source " .. kind.name .. ", with a real server,", function()
    local dir, store, relay, d

    local function generation() return d:json("/api/v1/status").generation end

    -- The live keys, without those that other cases have left.
    local function live()
      local ok, config = pcall(function() return d:config() end)
      return ok and type(config) == "table" and config or {}
    end

    local function same(a, b)
      for key, value in pairs(a) do if b[key] ~= value then return false end end
      for key in pairs(b) do if a[key] == nil then return false end end
      return true
    end

    local function shown(keys)
      local list = {}
      for key, value in pairs(keys) do list[#list + 1] = key .. "=" .. tostring(value) end
      table.sort(list)
      return table.concat(list, " ")
    end

    -- Waits until the tree is what a fresh read gives.
    local function settles()
      wait.until_true(function() return same(live(), store:all()) end, limit_ms, function()
        return ("live is %s, the store has %s\n%s"):format(shown(live()), shown(store:all()),
          d.process:describe())
      end)
    end

    -- Runs body; afterwards the tree is right, with at most so many reloads.
    local function holds(most, body)
      local before = generation()
      body()
      settles()
      local reloads = generation() - before
      assert.is_true(reloads <= most, ("%d reloads, not %d"):format(reloads, most))
    end

    setup(function()
      dir = tempdir.new()
      store = kind.new(dir)
      relay = new_relay(store.port)
      store:start()
      store:put("a", "one")
      d = segue.start { policy = ([[
local segue = require "segue"
return { sources = { %s }, triggers = { segue.http "127.0.0.1:0" }, debounce = { min = 0 } }
]]):format(kind.source(store, relay.port)) }
      settles()
    end)
    teardown(function()
      d:stop() -- with its watch open
      relay:close()
      segue.cleanup()
      process.stop_all()
      tempdir.remove_all()
    end)

    it("makes each change live", function()
      holds(4, function()
        store:put("b", "2")
        settles()
        store:put("b", "3")
        store:put("c", "x")
        settles()
        store:delete "c"
      end)
    end)

    it("takes up what changed while the server was killed", function()
      holds(2, function()
        store:put("k", "before")
        settles()
        store:kill()
        store:start()
        store:put("k", "after")
      end)
      holds(1, function() store:put("k", "watched") end)
    end)

    it("keeps the tree while the server is stopped, and continues after it", function()
      local before = live()
      store:pause()
      local from = #d:log()
      d:wait_log("the source is away", limit_ms, from)
      assert.is_true(same(before, live()))
      store:continue()
      holds(1, function() store:put("p", "continued") end)
    end)

    it("takes up what changed while its connections were cut", function()
      for i = 1, 3 do
        holds(2, function()
          relay:cut(true)
          store:put("cut", tostring(i))
          store:put("cut" .. i, "x")
          relay:open()
        end)
      end
      holds(2, function()
        relay:cut()
        store:put("cut", "again")
      end)
    end)

    it("notices connections that are silent although they are open", function()
      holds(2, function()
        relay:hold()
        store:put("held", "1")
        local from = #d:log()
        d:wait_log("the source is away", limit_ms, from)
        relay:cut()
        relay:open()
      end)
    end)

    it("empties nothing when the store was emptied, until it has keys again", function()
      local before = live()
      store:kill()
      store:empty()
      local from = #d:log()
      store:start()
      d:wait_log("requires min_items", limit_ms, from)
      assert.is_true(same(before, live()))
      store:put("new", "life")
      settles()
      holds(1, function() store:put("new", "again") end)
    end)

    it("follows a store that was restored to an older state", function()
      store:stop()
      store:save "older"
      store:start()
      for i = 1, 20 do store:put("later", tostring(i)) end
      settles()
      store:kill()
      store:restore "older"
      store:start()
      settles()
      assert.is_nil(live().later)
      holds(1, function() store:put("after", "restore") end)
    end)

    it("has the same tree after a restart of segue, and its first watch", function()
      local before = live()
      d:stop()
      d:spawn()
      d:wait_ready(limit_ms)
      assert.is_true(same(before, live()))
      store:put("r", "restarted")
      settles()
    end)
  end)
end
