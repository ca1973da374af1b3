-- SPDX-License-Identifier: MIT
-- The output of a restart of segue about files that changed, and the values that it shows to the
-- policy's reload.
local segue = require "spec.support.segue"

local policy = [[
local segue = require "segue"
return {
  name = "restart",
  sources = { segue.file "config.yaml" },
  triggers = { segue.signal "HUP" },
  @MORE@
}]]

-- Writes a line for each call: how it was triggered, what prev is, and what changed.
local hook = [[reload = function(txn)
    local old = segue.stat "calls" and segue.read "calls" or ""
    segue.write("calls", old .. ("%s prev=%s changed=%s\n"):format(txn.trigger,
      txn.prev and txn.prev.x or "nil", table.concat(txn:changed(), ",")))
    txn:prepare()
    return txn:commit()
  end,]]

local function start(more)
  return segue.start { policy = (policy:gsub("@MORE@", function() return more or "" end)),
    files = { ["config.yaml"] = "x: 1\n" } }
end

local function put(d, x) d.dir:save("config.yaml", ("x: %d\n"):format(x)) end

local function restart(d)
  d:crash()
  d:spawn()
  d:wait_ready()
end

describe("a restart", function()
  after_each(segue.cleanup)

  it("that applied changed files is named by a reload without changes", function()
    local d = start()
    put(d, 2)
    restart(d)
    local cli = d:cli "reload"
    assert.equal(0, cli.code)
    local generation = cli.stdout:match "^unchanged: generation (%d+) stays live "
    assert.is_true(tonumber(generation) > 1, cli.stdout)
    assert.matches("\nthe start of the daemon has applied the changed files: generation "
      .. generation .. " was made of them\n$", cli.stdout)
    assert.is_true(select(2, d:reload()).taken_at_start)
    put(d, 3)
    assert.equal("applied", select(2, d:reload()).outcome)
    assert.is_nil(select(2, d:reload()).taken_at_start)
    restart(d) -- with nothing changed
    assert.is_nil(select(2, d:reload()).taken_at_start)
  end)

  it("shows the last good generation to the policy's reload, as prev", function()
    -- The content of prev comes from the history, which is written after the daemon is ready: an
    -- orderly stop waits for that write, kill -9 does not.
    local function stop_and_start(d)
      d:stop()
      d:spawn()
      d:wait_ready()
    end
    local d = start(hook)
    stop_and_start(d)
    put(d, 2)
    stop_and_start(d)
    put(d, 3)
    assert.equal("applied", select(2, d:reload()).outcome)
    assert.equal("start prev=nil changed=x\n" .. "start prev=1 changed=\n"
      .. "start prev=1 changed=x\n" .. "control prev=2 changed=x\n", d.dir:read "calls")
  end)

  it("shows unchanged values only if the history is lost", function()
    local d = start(hook)
    d:stop()
    d.dir:write(".segue/history.db", "rubbish")
    d:spawn()
    d:wait_ready()
    d:stop()
    d.dir:write(".segue/history.db", "rubbish")
    put(d, 2)
    d:spawn()
    d:wait_ready()
    assert.equal("start prev=nil changed=x\n" .. "start prev=1 changed=\n"
      .. "start prev=nil changed=x\n", d.dir:read "calls")
  end)

  it("gives check no prev, so that it may change what a reload may not", function()
    local d = start [[check = function(next, prev)
      if prev and prev.x ~= next.x then return nil, "x cannot change at run time" end
      return true
    end,]]
    put(d, 2)
    assert.equal(422, (d:reload()))
    restart(d)
    assert.equal(2, d:config().x)
    -- nor where the last good generation serves first, because the next one has to be confirmed
    d:stop()
    local text = d.dir:read "reload.lua"
    local probe = "confirm = { within = '30s', probe = function() return true end },"
    d.dir:write("reload.lua", (text:gsub("check = ", function() return probe .. " check = " end)))
    put(d, 3)
    d:spawn()
    d:wait_ready()
    assert.equal(3, d:config().x)
    d:wait_log "the last good generation, before the one that waits to be confirmed"
  end)
end)
