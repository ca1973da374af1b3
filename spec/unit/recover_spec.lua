-- SPDX-License-Identifier: MIT
-- Instances that report their own failure: what their gate does, when a fresh one is built, and
-- what it means for a reload that runs.
local C = require "spec.support.c"
local engine = require "spec.support.engine"

local e
after_each(function()
  if e then e:finish_and_close() end
  e = nil
end)

local function reload(text, options)
  if text then e:write("a.yaml", text) end
  local w = e:reload(options)
  e:step()
  return w
end

local function started(modules, o)
  o = o or {}
  o.modules = modules
  e = engine.started(o)
end

local function die(name, why, on_thread)
  assert.is_true(e:die(name, why, on_thread))
  e:step()
end

local function status(name) return e:status(name or "a") end

describe("an instance that fails by itself", function()
  it("is stopped, and its module refuses calls until a fresh one serves", function()
    started { { "a", "handover" }, { "b", "handover" } }
    e:behave("a", "prepare", engine.LATER)
    die("a", "exit code 7", true)
    assert.same({ state = "failed", gate = "refusing", generation = 0, draining = 0,
      error = "exit code 7" }, (status()))
    assert.equal("a.prepare 1, a.drain 1, a.stop 1, a.destroy 1", e:operations())
    assert.equal("serving", status("b").state)
    e:finish("a", "prepare")
    e:step()
    assert.same({ state = "serving", gate = "open", generation = 1, draining = 0 }, (status()))
    assert.equal("a.start 1", e:operations())
    assert.same({ 1, 0 }, { e:failures "a", e:failures "b" })
  end)

  it("that reports nothing more about it has a sentence all the same", function()
    started { { "a", "handover" } }
    e:behave("a", "start", engine.LATER)
    die("a", "")
    assert.equal("it reported a failure without a reason", status().error)
  end)

  it("has stopped before the next one starts where it is replaced by restart", function()
    started { { "a", "restart", exclusive = true } }
    e:behave("a", "stop", engine.LATER)
    die("a")
    e:advance(5000)
    assert.equal("a.drain 1, a.stop 1", e:operations())
    e:finish("a", "stop")
    e:step()
    assert.equal("a.destroy 1, a.prepare 1, a.start 1", e:operations())
    assert.equal("serving", status().state)
  end)

  it("lets calls wait if the policy wants that, also over a reload that is rejected", function()
    started({ { "a", "handover", on_failure = "wait" } }, { check = engine.OK })
    e:behave("a", "prepare", engine.FAIL)
    die("a")
    assert.same({ "failed", "shut" }, { status().state, status().gate })
    local w = reload("x: 2\n")
    assert.equal("failed", w:outcome())
    assert.equal("shut", status().gate)
    e:behave("a", "prepare", engine.OK)
    e:advance(10000)
    assert.same({ "serving", "open" }, { status().state, status().gate })
  end)

  it("is replaced at once, then with growing pauses, until one serves for a minute", function()
    started { { "a", "handover" } }
    local function attempts_within(ms, step)
      local seen = {}
      for at = 0, ms, step do
        if at > 0 then e:advance(step) end
        for _ in e:operations():gmatch "a%.start" do seen[#seen + 1] = at end
      end
      return seen
    end
    e:behave("a", "start", engine.DIE)
    die("a")
    local seen = attempts_within(40000, 100)
    assert.equal(0, seen[1])
    assert.is_true(#seen >= 5 and #seen <= 8, table.concat(seen, " "))
    for i = 3, #seen do
      assert.is_true(seen[i] - seen[i - 1] > seen[i - 1] - seen[i - 2], table.concat(seen, " "))
    end
    assert.equal("failed", status().state)
    e:behave("a", "start", engine.OK)
    e:advance(60000)
    assert.equal("serving", status().state)
    e:operations()
    die("a")
    assert.equal("", (e:operations():gsub("a%.%a+ 1,? ?", "", 3))) -- taken down, not yet built
    e:advance(120000)
    assert.equal("serving", status().state)
    e:operations()
    die("a")
    assert.truthy(e:operations():find("a.start", 1, true)) -- it served for long
  end)

  it("counts once, however often and however late it reports", function()
    started { { "a", "handover" } }
    e:behave("a", "drain", engine.LATER)
    die("a", "first", true)
    assert.equal(1, e:failures "a")
    local w = reload("x: 2\n")
    assert.equal("applied", w:outcome())
    assert.equal(1, e:failures "a")
  end)

  it("is not replaced while it drains after a reload", function()
    started { { "a", "handover" } }
    e:behave("a", "drain", engine.DIE_LATER)
    assert.equal("applied", reload("x: 2\n"):outcome())
    e:behave("a", "drain", engine.OK)
    e:finish("a", "drain")
    e:step()
    assert.same({ "serving", 0, 2 }, { status().state, e:failures "a", status().generation })
  end)

  it("does not keep the engine from stopping", function()
    started { { "a", "handover", on_failure = "wait" }, { "b", "handover" } }
    e:behave("a", "prepare", engine.FAIL)
    die("a")
    e:die "b"
    local stopped = e:stop()
    e:die "b"
    e:step()
    e:advance(60000)
    assert.is_true(stopped[0])
  end)

  it("is replaced also where memory is out at any moment", function()
    for n = 1, 12 do
      started { { "a", "handover" } }
      e:die "a"
      C.segue__mem_fail_at(n)
      e:step()
      C.segue__mem_fail_at(0)
      e:advance(5000)
      assert.equal("serving", status().state, "allocation " .. n)
      e:close()
      e = nil
    end
  end)
end)

describe("an instance that fails while a reload runs", function()
  it("and does not belong to the reload is replaced afterwards", function()
    started { { "a", "handover", config = "a" }, { "b", "handover", config = "b" } }
    e:behave("b", "prepare", engine.LATER)
    local w = reload("a: 1\nb: 2\n", {})
    local before = w:outcome()
    die("a")
    assert.same({ "nothing yet", "failed", "open" }, { before, status().state, status().gate })
    e:behave("b", "prepare", engine.OK)
    e:finish("b", "prepare")
    e:step()
    assert.equal("applied", w:outcome())
    assert.same({ "serving", "open" }, { status().state, status().gate })
    assert.equal(1, e:failures "a")
    assert.truthy(e:operations():find("a.stop", 1, true))
  end)

  it("and is replaced by it needs no further instance", function()
    started { { "a", "handover" }, { "b", "handover" } }
    e:behave("b", "prepare", engine.LATER)
    local w = reload("x: 2\n")
    die("a")
    e:behave("b", "prepare", engine.OK)
    e:finish("b", "prepare")
    e:step()
    assert.equal("applied", w:outcome())
    e:advance(10000)
    assert.equal(1, select(2, e:operations():gsub("a%.start", "")))
    assert.same({ "serving", 2 }, { status().state, status().generation })
  end)

  it("and is a new one makes the reload undo before it is live", function()
    started { { "a", "handover" }, { "b", "handover" } }
    e:behave("b", "start", engine.LATER)
    local w = reload("x: 2\n")
    die("a", "gone", true)
    e:finish("b", "start")
    e:step()
    assert.equal("reverted", w:outcome())
    assert.equal("module 'a' failed after its start: gone", w:error().message)
    assert.is_nil(e:journal():find("confirm", 1, true)) -- a phase after the flip
    assert.same({ 1, "serving", 1 }, { e:generation(), status().state, status().generation })
    assert.equal("a=open b=open", e:gates())
  end)

  it("and starts makes the start fail, without waiting for its time limit", function()
    started { { "a", "handover" } }
    for _, behaviour in ipairs { engine.DIE, engine.DIE_LATER } do
      e:behave("a", "start", behaviour)
      local w = reload("x: " .. behaviour .. "\n")
      assert.equal("reverted", w:outcome())
      assert.equal("it died", w:error().message)
      e:behave("a", "start", engine.OK)
      e:finish("a", "start")
      e:step()
      assert.same({ "serving", 1, 0 }, { status().state, status().generation, e:failures "a" })
    end
    e:behave("a", "prepare", engine.DIE)
    assert.equal("failed", reload("x: 9\n"):outcome())
    e:behave("a", "prepare", engine.OK)
  end)

  for name, how in pairs { operator = { by_operator = true }, probe = { probe = engine.LATER } } do
    for dead, what in pairs { a = "is a new one", b = "was kept" } do
      it(("and %s, while %s has to confirm: the generation is undone"):format(what, name),
        function()
          local modules = { { "a", "restart", config = "a" }, { "b", "handover", config = "b" } }
          started(modules)
          e:set_policy { modules = modules, by_operator = how.by_operator, probe = how.probe,
            set = { confirm_within_ms = 60000 } }
          local w = reload("a: 2\n")
          assert.same({ 2, 2, 1 },
            { e:generation(), status("a").generation, status("b").generation })
          die(dead, "gone")
          C.scripted_hooks_finish(e.hooks)
          e:step()
          assert.same({ 1, 1 }, { e:generation(), e:failures(dead) })
          assert.equal("reverted", how.probe and w:outcome() or "reverted")
          assert.equal(("module '%s' failed after its start: gone"):format(dead), w:error().message)
          e:advance(1000)
          assert.same({ "serving", "serving" }, { status("a").state, status("b").state })
          assert.equal("a=open b=open", e:gates())
        end)
    end
  end

  it("and is not confirmed yet makes the generation undo", function()
    started { { "a", "handover" } }
    e:set_policy { modules = { { "a", "handover" } }, reload = "prepare commit hang",
      set = { reload_ms = 60000 } }
    local w = reload("x: 2\n")
    assert.equal(2, e:generation())
    die("a", "gone")
    C.segue_op_done(e.hooks.reload_op, 0, nil)
    e:step()
    assert.equal("reverted", w:outcome())
    assert.same({ 1, "serving" }, { e:generation(), status().state })
  end)
end)
