-- SPDX-License-Identifier: MIT
-- The end of a transaction: generations that are confirmed or reverted, and policies whose hook
-- runs the transaction.
local C = require "spec.support.c"
local engine = require "spec.support.engine"
local replaces = { "swap", "handover", "restart" }

describe("a transaction", function()
  local e
  after_each(function()
    if e then e:close() end
    e = nil
  end)

  describe("confirm", function()
    it("requires health for as long as `hold` sets", function()
      e = engine.started {}
      e:set_policy { probe = engine.OK,
                     set = { confirm_hold_ms = 2000, confirm_within_ms = 10000 } }
      local w = e:change()
      e:advance(1500)
      assert.is_false(w:answered())
      e.hooks.probe = engine.FAIL_ONCE -- starts the hold again
      e:advance(600)
      assert.is_false(w:answered())
      e:advance(2400)
      assert.equal("applied", w:outcome())
    end)

    for _, within in ipairs { 300, 2000, 5 } do
      it("probes until the end of " .. within .. " ms, and no longer", function()
        e = engine.started {}
        e:set_policy { probe = engine.FAIL, set = { confirm_within_ms = within } }
        local w = e:change()
        e:advance(within - 1)
        assert.is_false(w:answered())
        e.hooks.probe = engine.OK -- 1 ms before the end
        e:advance(1)
        assert.equal("applied", w:outcome())
        e.hooks.probe = engine.FAIL
        w = e:change()
        e:advance(within - 1)
        assert.is_false(w:answered())
        e:advance(1)
        assert.equal("reverted", w:outcome())
      end)
    end

    it("reverts after the number of failures in a row that the policy sets", function()
      e = engine.started {}
      e:set_policy { probe = engine.FAIL, set = { confirm_within_ms = 60000,
        confirm_failures = 3 } }
      local w = e:change()
      e:advance(399)
      assert.is_false(w:answered())
      e:advance(1)
      assert.equal("reverted", w:outcome())
      assert.matches("was not healthy: its probe failed 3 times in a row: probe says no",
        w:error().message)
    end)

    it("counts failures from zero after a success", function()
      e = engine.started {}
      e:set_policy { probe = engine.FAIL, set = { confirm_within_ms = 60000,
        confirm_hold_ms = 1000, confirm_failures = 3 } }
      local w = e:change()
      e:advance(200)
      e.hooks.probe = engine.OK
      e:advance(200)
      e.hooks.probe = engine.FAIL
      e:advance(400)
      assert.is_false(w:answered())
      e.hooks.probe = engine.OK
      e:advance(1400)
      assert.equal("applied", w:outcome())
    end)

    it("waits for a last probe that takes a while", function()
      e = engine.started {}
      e:set_policy { probe = engine.FAIL, set = { confirm_within_ms = 300 } }
      local w = e:change()
      e:advance(250)
      e.hooks.probe = engine.LATER
      e:advance(40)
      assert.is_false(w:answered())
      C.scripted_hooks_finish(e.hooks)
      e:step()
      assert.equal("applied", w:outcome())
    end)

    it("ends a probe that hangs at the end of within", function()
      e = engine.started {}
      e:set_policy { probe = engine.LATER, set = { confirm_within_ms = 3000 } }
      local w = e:change()
      e:advance(3000)
      assert.equal("reverted", w:outcome())
      C.scripted_hooks_finish(e.hooks)
      e:step()
    end)

    it("queues triggers meanwhile", function()
      e = engine.started {}
      e:set_policy { probe = engine.FAIL, set = { confirm_within_ms = 2000 } }
      local first = e:change()
      local second = e:reload()
      e:advance(900)
      assert.is_false(second:answered())
      e.hooks.probe = engine.OK
      e:advance(400)
      assert.equal("applied", first:outcome())
      assert.equal("unchanged", second:outcome())
    end)
  end)

  describe("run by the policy's hook", function()
    local function with(script, spec)
      spec = spec or {}
      spec.modules = { { "m", spec.replace or "handover" } }
      e = engine.started { modules = spec.modules }
      spec.reload = script
      e:set_policy(spec)
      return e:change()
    end

    it("does the same as the default", function()
      assert.equal("applied", with("prepare commit confirm"):outcome())
      assert.equal(2, e:status("m").generation)
    end)

    it("is confirmed even if the hook does not call confirm", function()
      local w = with("prepare commit", { probe = engine.FAIL, set = { confirm_within_ms = 500 } })
      e:advance(500)
      assert.equal("reverted", w:outcome())
    end)

    for _, script in ipairs { "prepare", "", "prepare fail", "fail", "commit", "confirm",
                              "prepare prepare" } do
      it("undoes everything after '" .. script .. "'", function()
        for _, replace in ipairs(replaces) do
          local w = with(script, { replace = replace })
          e:step()
          assert.equal("rejected", w:outcome()) -- nothing was visible yet
          assert.equal("SEGUE_EPOLICY", w:error().name)
          assert.equal("m=open", e:gates())
          assert.equal("1", e:value("x"))
          assert.equal(1, tonumber(e.world.instances))
          e:close()
          e = nil
        end
      end)
    end

    it("undoes what was committed when the hook fails after it", function()
      for _, replace in ipairs(replaces) do
        local w = with("prepare commit fail", { replace = replace })
        e:step()
        assert.equal("reverted", w:outcome())
        assert.equal("1", e:value("x"))
        assert.equal("m=open", e:gates())
        assert.equal(1, tonumber(e.world.instances))
        e:close()
        e = nil
      end
    end)

    it("is rejected if the hook rejects", function()
      local w = with("prepare reject")
      assert.equal("rejected", w:outcome())
      assert.equal("not today", w:error().message)
      assert.equal(1, tonumber(e.world.instances))
    end)

    it("ends a hook that hangs, and undoes", function()
      local w = with("prepare commit hang", { set = { reload_ms = 60000 } })
      assert.is_false(w:answered())
      e:advance(60000)
      e:step()
      assert.equal("reverted", w:outcome())
      assert.equal("SEGUE_ETIMEOUT", w:error().name)
      assert.equal("1", e:value("x"))
      C.scripted_hooks_finish(e.hooks)
      e:step()
    end)
  end)
end)
