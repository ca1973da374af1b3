-- SPDX-License-Identifier: MIT
-- The operations of a policy's reload hook on single modules: in order, refused with an error
-- message, and undone as a whole if the hook does not commit.
local C = require "spec.support.c"
local engine = require "spec.support.engine"

describe("a manual step", function()
  local e
  after_each(function()
    if e then e:close() end
    e = nil
  end)

  local three = { { "a", "restart", config = "x" }, { "b", "handover", config = "x" },
    { "c", "swap", config = "y" } }

  local function start(script, modules)
    e = engine.started { reload = "prepare commit confirm", modules = modules or three,
      files = { ["a.yaml"] = "x: 1\ny: 1\n" } }
    C.ffi.copy(e.hooks.script, script)
  end

  local function change()
    e:write("a.yaml", "x: 2\ny: 1\n")
    local w = e:reload()
    e:step()
    return w
  end

  local function enter(name)
    local pass = C.new("segue_pass")
    return pass, C.segue_gate_enter(C.segue__module_find(e.c.modules, name).gate, pass)
  end

  setup(engine.pass_first_gates)

  it("restarts and replaces in the order of the hook, and commits the rest", function()
    start "prepare replace:b restart:a commit confirm"
    local w = change()
    assert.equal("applied", w:outcome())
    assert.equal("a=restart b=handover c=keep", w:plan())
    assert.truthy(e:operations():find("a.prepare 2, b.prepare 2, b.start 2, a.drain 1, a.stop 1, "
      .. "a.start 2,", 1, true))
    assert.equal("a=open b=open c=open", e:gates())
  end)

  it("opens a gate that the undo left shut, and logs that as an error", function()
    start "prepare shut:b"
    C.segue__fault_arm(nil)
    C.segue__fault_arm "undo.open=fail"
    assert.equal("rejected", change():outcome())
    assert.is_true(C.segue__fault_reached "undo.open" > 0)
    C.segue__fault_arm(nil)
    assert.equal("a=open b=open c=open", e:gates())
    local error_line = "! module: the end of a reload found a gate shut\n"
    assert.truthy(e:journal():find(error_line, 1, true))
    assert.equal("rejected", change():outcome()) -- the undo opens it: nothing is logged
    assert.is_nil(e:journal():find(error_line, 1, true))
    assert.equal("a=open b=open c=open", e:gates())
  end)

  it("restarts what the plan would keep", function()
    start("prepare restart:c commit confirm", { { "a", "handover", config = "x" },
      { "c", "handover", config = "y" } })
    local w = change()
    assert.equal("a=handover c=restart", w:plan())
    assert.truthy(e:operations():find("a.prepare 2, c.prepare 2, c.drain 1, c.stop 1, c.start 2, "
      .. "a.start 2,", 1, true))
    assert.equal(2, e:status("c").generation)
  end)

  it("does two steps at once", function()
    start("prepare restart:a+b commit confirm", { { "a", "restart", config = "x" },
      { "b", "restart", config = "x" } })
    e:behave("a", "drain", engine.LATER)
    local w = change()
    assert.equal("nothing yet", w:outcome())
    assert.truthy(e:operations():find("b.start 2", 1, true))
    e:behave("a", "drain", engine.OK)
    C.scripted_finish(e:module("a"), engine.verbs.drain, 0)
    e:step()
    assert.equal("applied", w:outcome())
    assert.equal("a=open b=open", e:gates())
  end)

  it("shuts and opens gates, each of which is open at the end", function()
    start "prepare shut:c shut:b open:b commit confirm"
    assert.equal("applied", change():outcome())
    assert.equal("a=open b=open c=open", e:gates())
  end)

  for _, script in ipairs { "shut:c", "shut:a shut:b shut:c", "prepare shut:a", "drain:c reject",
    "shut:c defer", "shut:b fail", "prepare replace:b", "prepare restart:a",
    "prepare restart:a fail",
    "prepare restart:a reject", "prepare replace:b restart:a fail",
    "prepare restart:a shut:b hang" } do
    it("undoes everything after " .. script, function()
      start(script)
      e.hooks.defer_ms = 3600000
      local w = change()
      if not w:answered() then
        e:advance(600000)
        C.scripted_hooks_finish(e.hooks)
        e:step()
      end
      assert.truthy(w:answered() and w:outcome() ~= "applied", w:outcome())
      assert.equal("a=open b=open c=open", e:gates())
      assert.equal("1", e:value("x"))
      for _, name in ipairs { "a", "b", "c" } do
        assert.equal("serving", e:status(name).state)
        assert.equal(1, e:status(name).generation)
      end
      C.ffi.copy(e.hooks.script, "prepare commit confirm")
    end)
  end

  it("has the outcome reverted where a stopped module was restored", function()
    start "prepare restart:a"
    local w = change()
    assert.equal("reverted", w:outcome())
    assert.truthy(w:error().message:find("returned without txn:commit()", 1, true))
    assert.truthy(e:operations():find("a.start 2, a.stop 2, ", 1, true))
  end)

  it("fails the transaction when the next instance does not start", function()
    start "prepare restart:a commit"
    e:behave("a", "start", engine.FAIL_ONCE)
    local w = change()
    assert.equal("reverted", w:outcome())
    assert.equal("a=open b=open c=open", e:gates())
    assert.equal(1, e:status("a").generation)
  end)

  it("waits in a drain until all calls inside have left, and admits none", function()
    start "drain:c prepare commit confirm"
    local pass = enter "c"
    local w = change()
    assert.equal("nothing yet", w:outcome())
    assert.equal("a=open b=open c=shut", e:gates())
    local _, rc = enter "c"
    assert.equal("EAGAIN", C.name(rc))
    C.segue_gate_leave(pass)
    e:step()
    assert.equal("applied", w:outcome())
    assert.equal("a=open b=open c=open", e:gates())
  end)

  it("ends a drain after its time, and opens the gate again", function()
    start "drain:c prepare commit"
    local pass = enter "c"
    local w = change()
    e:advance(10000)
    assert.truthy(w:answered() and w:outcome() ~= "applied", w:outcome())
    assert.equal("SEGUE_ETIMEOUT", w:error().name)
    assert.equal("module 'c': 1 is still inside", w:error().message)
    assert.equal("a=open b=open c=open", e:gates())
    C.segue_gate_leave(pass)
    e:step()
  end)

  it("cancels a drain when the hook ends", function()
    e = engine.started { reload = "prepare commit confirm", modules = three,
      set = { reload_ms = 100 }, files = { ["a.yaml"] = "x: 1\ny: 1\n" } }
    C.ffi.copy(e.hooks.script, "drain:c prepare commit")
    local pass = enter "c"
    local w = change()
    e:advance(100)
    assert.equal("SEGUE_ETIMEOUT", w:error().name)
    assert.equal("a=open b=open c=open", e:gates())
    C.scripted_hooks_finish(e.hooks)
    C.segue_gate_leave(pass)
    e:step()
  end)

  for script, why in pairs {
    ["restart:a"] = "module 'a' is not built yet: call txn:prepare() first",
    ["prepare restart:a restart:a"] = "module 'a' was replaced already",
    ["prepare restart:a open:a"] = "module 'a' was replaced: its gate opens with txn:commit()",
    ["shut:nobody"] = "module 'nobody' is not of this reload",
  } do
    it("is refused: " .. script, function()
      start(script)
      local w = change()
      assert.truthy(w:answered() and w:outcome() ~= "applied", w:outcome())
      assert.equal(why, w:error().message)
      assert.equal("a=open b=open c=open", e:gates())
    end)
  end

  it("is refused while another operation of the same module is under way", function()
    start("prepare restart:a+a commit", { { "a", "restart", config = "x" } })
    e:behave("a", "drain", engine.LATER)
    local w = change()
    e:behave("a", "drain", engine.OK)
    C.scripted_finish(e:module("a"), engine.verbs.drain, 0)
    e:step()
    assert.equal("module 'a' is still at another verb", w:error().message)
    assert.equal("a=open", e:gates())
    assert.equal("serving", e:status("a").state)
  end)

  it("is refused for a module that is added or removed", function()
    e = engine.started { reload = "prepare commit confirm", modules = { { "old" } } }
    e:set_policy { reload = "shut:new", modules = { { "new" } } }
    e:write("reload.lua", "2")
    assert.truthy(change():error().message:find("module 'new' is new", 1, true))
    e:set_policy { reload = "prepare restart:old", modules = { { "new" } } }
    e:write("reload.lua", "3")
    assert.truthy(change():error().message:find("module 'old' is removed by this reload", 1, true))
    assert.equal("old=open", e:gates())
  end)
end)
