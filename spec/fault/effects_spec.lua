-- SPDX-License-Identifier: MIT
-- kill -9 at every point of an action with effects outside memory: two files and a command
-- (spec/support/effects.h), in a host of their own (spec/fault/effects.c). After the next start the
-- files are old or new, never a mixture, and what the command applied is what the files say.
local plugin = require "spec.support.plugin"
local process = require "spec.support.process"
local tempdir = require "spec.support.tempdir"

tempdir.on_disk()

local SIGKILL = 9

describe("an action with effects outside memory", function()
  local binary, dir

  setup(function()
    binary = plugin.fault_host("effects", "spec/fault/effects.c", "-DSEGUE_TEST")
  end)
  before_each(function() dir = tempdir.new() end)
  after_each(tempdir.remove_all)

  -- Runs the host with these steps; returns its output and the signal that ended it.
  local function host(...)
    local p = process.run { binary, dir.path, ... }
    if p.signal == 0 then assert.equal(0, p.code, p:describe()) end
    return p.stdout, p.signal, p
  end

  local function killed(point, ...)
    local _, signal, p = host(...)
    assert.equal(SIGKILL, signal, point .. " was not reached: " .. p:describe())
  end

  -- The one number that all three files have; nil if none of them is there.
  local function whole()
    local a, b, applied = dir:read "a", dir:read "b", dir:read "applied"
    assert.equal(a, b)
    assert.equal(a and a .. b, applied)
    return a and tonumber(a)
  end

  -- The intents in the state file that was written last.
  local function open_intents()
    local newest, best = "", ""
    for _, name in ipairs { "state/state.a", "state/state.b" } do
      local text = dir:read(name) or ""
      local number = text:sub(9, 16):reverse()
      if number > best then newest, best = text, number end
    end
    return select(2, newest:gsub("intent=pair\n", ""))
  end

  -- The next start finds sources that cannot be read, so that only recovery has an effect: the
  -- files belong to the last good generation. Then everything continues.
  local function recovers(point)
    local out = host("conf=n: [", "start")
    local good = assert(tonumber(out:match "last good (%d+)"))
    assert.equal(good > 0 and good or nil, whole(), point .. "\n" .. out)
    out = host("conf=n: 7", "start", "conf=n: 8", "reload")
    assert.truthy(out:find("applied", 1, true), out)
    assert.equal(8, whole())
    return good
  end

  local commit = { "effects.stage.a", "effects.stage.b", "state.open", "state.write", "state.sync",
    "effects.write.a", "effects.write.b", "effects.commit.command", "effects.commit.ran",
    "commit.2", "commit.flip", "effects.settle.now", "settle.record", "last_good.open",
    "last_good.write" }
  -- In these the generation is the last good one, and the intent is still open.
  local late = { "last_good.sync", "settle.record#2", "state.open#2", "state.write#2",
    "state.sync#2" }
  local undo = { "effects.back.a", "effects.back.b", "effects.back.run", "effects.back.ran",
    "state.open#2", "state.sync#2" }
  local recover = { "effects.recover.a", "effects.recover.b", "effects.recover.run",
    "effects.recover.ran" }

  it("is applied with its generation, and leaves no intent behind", function()
    local out = host("conf=n: 1", "start", "conf=n: 2", "reload", "conf=n: 2", "reload")
    assert.equal("last good 0\napplied 1\napplied 2\nunchanged 2\n", out)
    assert.equal(2, whole())
    out = host("start", "conf=n: 3", "reload")
    assert.equal("last good 2\nunchanged 2\napplied 3\n", (out:gsub("applied 2", "unchanged 2", 1)))
    assert.equal(3, whole())
    assert.equal(0, open_intents())
  end)

  for _, point in ipairs(commit) do
    it("is undone by the next start where the process is killed at " .. point, function()
      killed(point, "conf=n: 1", "start", "arm=" .. point .. "=kill", "conf=n: 2", "reload")
      assert.equal(1, recovers(point))
    end)
  end

  for _, point in ipairs(late) do
    it("is finished by the next start where the process is killed at " .. point, function()
      killed(point, "conf=n: 1", "start", "arm=" .. point .. "=kill", "conf=n: 2", "reload")
      assert.equal(2, recovers(point))
    end)
  end

  for _, point in ipairs { "effects.write.b", "effects.commit.ran" } do
    it("leaves nothing of a first generation that is killed at " .. point, function()
      killed(point, "conf=n: 1", "arm=" .. point .. "=kill", "start")
      assert.equal(0, recovers(point))
    end)
  end

  for _, point in ipairs(undo) do
    it("is undone where a later step fails, and the undo is killed at " .. point, function()
      killed(point, "conf=n: 1", "start", "arm=commit.2=fail," .. point .. "=kill", "conf=n: 2",
        "reload")
      assert.equal(1, recovers(point))
    end)

    it("is undone where the probe fails, and the undo is killed at " .. point, function()
      killed(point, "confirm", "conf=n: 1", "start", "sick", "arm=" .. point .. "=kill",
        "conf=n: 2", "reload")
      assert.equal(1, recovers(point))
    end)
  end

  for _, point in ipairs(recover) do
    it("is undone where the recovery is killed at " .. point, function()
      killed(point, "conf=n: 1", "start", "arm=commit.flip=kill", "conf=n: 2", "reload")
      killed(point, "arm=" .. point .. "=kill", "conf=n: [", "start")
      assert.equal(1, recovers(point))
    end)

    it("is finished where the recovery is killed at " .. point, function()
      killed(point, "conf=n: 1", "start", "arm=state.open#2=kill", "conf=n: 2", "reload")
      killed(point, "arm=" .. point .. "=kill", "conf=n: [", "start")
      assert.equal(2, recovers(point))
    end)
  end

  it("is undone by a start after a kill in a manual step", function()
    killed("by hand", "by-hand", "conf=n: 1", "start", "arm=effects.write.b=kill", "conf=n: 2",
      "reload")
    assert.equal(1, recovers "by hand")
  end)

  it("is undone before the outcome is reported", function()
    local out = host("confirm", "conf=n: 1", "start", "arm=commit.2=fail", "conf=n: 2", "reload")
    assert.equal("last good 0\napplied 1\nreverted 1 commit: i/o error\n", out)
    assert.equal(1, whole())
    assert.equal(0, open_intents())
    out = host("confirm", "start", "sick", "conf=n: 3", "reload")
    assert.truthy(out:find("\napplied 2\nreverted 2 the new generation was not healthy", 1, true),
      out)
    assert.equal(2, whole())
    assert.equal(2, recovers "undone")
  end)

  it("changes nothing where its intent cannot be written", function()
    for _, point in ipairs { "state.open", "state.write", "state.sync" } do
      local out = host("conf=n: 1", "start", "arm=" .. point .. "#1=fail", "conf=n: 2", "reload")
      assert.truthy(out:find("\n%a+ 1 cannot record: "), out)
      assert.equal(1, whole())
    end
  end)

  it("is undone by the next start where the undo fails", function()
    local out = host("conf=n: 1", "start", "arm=commit.2=fail,effects.back.b=fail", "conf=n: 2",
      "reload")
    assert.truthy(out:find("\nreverted 1", 1, true), out)
    assert.equal(1, open_intents())
    assert.equal(1, recovers "a failed undo")
  end)

  it("refuses a change of a module whose recovery fails, and tries that again", function()
    killed("effects.write.b", "conf=n: 1", "start", "arm=effects.write.b=kill", "conf=n: 2",
      "reload")
    local out = host("arm=effects.recover.a=fail", "conf=n: 3", "start")
    assert.truthy(out:find("failed 0 module 'pair': an earlier change is neither finished nor "
      .. "undone: writes a and b, and applies them", 1, true), out)
    assert.equal(1, recovers "a failed recovery")
  end)

  it("stays in the journal of a process that does not know it", function()
    killed("effects.write.b", "conf=n: 1", "start", "arm=effects.write.b=kill", "conf=n: 2",
      "reload")
    for _, name in ipairs { "a", "b" } do os.remove(dir:at("state/numbers." .. name)) end
    local out = host("unknown", "confirm", "conf=n: 3", "start")
    assert.equal("last good 1\napplied 2\n", out)
    assert.equal(1, open_intents())
    out = host("conf=n: [", "start") -- generation 2 of that time is not generation 2 of this
    assert.truthy(out:find("^last good 2\n"), out)
    assert.equal(1, whole())
    host("conf=n: 4", "start")
    assert.equal(4, whole())
    assert.equal(0, open_intents())
  end)
end)
