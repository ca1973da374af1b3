-- SPDX-License-Identifier: MIT
-- The stop of an engine while transactions, drains and messages of its own are under way.
local C = require "spec.support.c"
local engine = require "spec.support.engine"
local ffi = C.ffi

describe("the stop of an engine", function()
  local e
  after_each(function()
    if e then e:close() end
    e = nil
  end)

  local function change(text)
    e:write("a.yaml", text)
    return e:reload_now()
  end

  it("stops no module while a transaction has its instance, also where an older one is gone",
    function()
      e = engine.started { files = { ["a.yaml"] = "k: 1\nm: 1\n" }, modules = {
        { "k", "handover", config = "k", drain_ms = 3600000 }, { "m", "restart", config = "m" } } }
      e:behave("k", "drain", engine.LATER)
      assert.equal("applied", change("k: 2\nm: 1\n"):outcome())
      e:behave("m", "drain", engine.LATER)
      local w = change "k: 2\nm: 2\n"
      assert.is_false(w:answered())
      e:journal()
      local stopped = e:stop()
      e:behave("k", "drain", engine.OK)
      e:finish("k", "drain") -- the first instance of k is gone
      e:step()
      assert.falsy(e:journal():find("k.drain 2", 1, true))
      assert.is_false(w:answered())
      e:behave("m", "drain", engine.OK)
      e:finish("m", "drain")
      e:step()
      assert.equal("reverted", w:outcome())
      assert.is_true(stopped[0])
    end)

  it("ends when none of its messages is on the way, because its owner may free it then", function()
    e = engine.started { modules = { { "m" } } }
    e:behave("m", "stop", engine.LATER)
    local kicked, calls = nil, 0
    local cb = ffi.cast("void (*)(void *)", function()
      calls, kicked = calls + 1, C.segue__queue_kicked(e.c)
    end)
    C.segue__engine_stop(e.c, cb, nil)
    e:step()
    assert.equal(0, calls)
    e:finish("m", "stop")
    C.segue__engine_schedule(e.c) -- behind the message of the last module, in the same batch
    e:step()
    assert.same({ 1, false }, { calls, kicked })
    e.stopped = ffi.new("bool[1]", true)
    e:close()
    e = nil
    cb:free()
  end)
end)

describe("a reload that is undone", function()
  it("leaves a module the way in which it is replaced", function()
    local e = engine.started { modules = { { "m", "restart", config = "x" } } }
    e:set_policy { modules = { { "n" }, { "m", "handover", config = "x" } } }
    e:behave("n", "start", engine.FAIL)
    e:write("a.yaml", "x: 2\n")
    assert.equal("reverted", e:reload_now():outcome())
    e:behave("m", "stop", engine.LATER)
    assert.is_true(e:die "m")
    e:journal()
    e:advance(5000)
    assert.falsy(e:journal():find("m.prepare", 1, true)) -- the old one has not stopped
    e:behave("m", "stop", engine.OK)
    e:finish("m", "stop")
    e:step()
    assert.truthy(e:journal():find("m.start 1", 1, true))
    e:close()
  end)
end)
