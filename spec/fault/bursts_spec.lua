-- SPDX-License-Identifier: MIT
-- Memory fails in bursts, at each place and at random places: a single failure is often followed by
-- the failure of the code that reports it. An invalid configuration never goes live, and the next
-- reload works.
local bind = require "spec.support.bind"
local C = require "spec.support.c"
local engine = require "spec.support.engine"
local seeds = require "spec.support.seeds"

local each_seed = seeds.each

describe("a reload while bursts of allocations fail", function()
  local e
  after_each(function()
    C.segue__mem_fail_at(0)
    if e then e:close() end
    e = nil
  end)

  local function started(files, more)
    local options = { files = files, check = engine.OK, modules = { { "m", "restart" } } }
    for name, value in pairs(more or {}) do options[name] = value end
    e = engine.started(options)
  end

  -- Runs a reload while memory fails, until it is answered; a failed reload is tried again later.
  local function reload(options)
    local w = e:reload(options)
    e:step()
    C.segue__mem_fail_at(0)
    e:advance(60000)
    if w.rc == 0 then assert.is_true(w:answered()) end
    return w
  end

  local function assert_stays_old(broken)
    for _, length in ipairs { 1, 2, 3, 4, 8, 40 } do
      for n = 1, 160 do
        e:write("a.yaml", broken)
        local w = reload { fail_at = n, fail_for = length }
        local where = ("allocation %d and %d more"):format(n, length - 1)
        assert.is_true(w.rc ~= 0 or w:outcome() ~= "applied", where)
        assert.equal("1", e:value("x"), where)
        assert.equal("m=open", e:gates(), where)
        e:journal()
      end
    end
    e:write("a.yaml", "x: 2\n")
    assert.equal("applied", reload():outcome())
  end

  it("keeps the old generation where a source cannot be read", function()
    started { ["a.yaml"] = "x: 1\n" }
    assert_stays_old "x: [\n"
  end)

  it("keeps the old generation where a value breaks the schema", function()
    started({ ["a.yaml"] = "x: 1\n", ["s.json"] = '{"properties":{"x":{"maximum":9}}}' },
      { schema = "s.json" })
    assert_stays_old "x: 11\n"
  end)

  it("keeps the old generation where the schema cannot be read", function()
    started({ ["a.yaml"] = "x: 1\n", ["s.json"] = '{"properties":{"x":{"maximum":9}}}' },
      { schema = "s.json" })
    e:write("s.json", '{"properties":')
    for _, length in ipairs { 1, 2, 3, 8 } do
      for n = 1, 160 do
        e:write("a.yaml", "x: 2\n")
        local w = reload { fail_at = n, fail_for = length }
        assert.is_true(w.rc ~= 0 or w:outcome() ~= "applied", n .. " " .. length)
        assert.equal("1", e:value("x"))
      end
    end
  end)

  local function random_walk(count)
    started { ["a.yaml"] = "x: 1\n" }
    local live = 1
    each_seed(count, function(n)
      local wanted = n % 3 == 0 and "[" or tostring(n)
      e:write("a.yaml", ("x: %s\n"):format(wanted))
      local w = e:reload { fail_seed = n, fail_one_in = 20 + n % 200 }
      e:step()
      C.segue__mem_fail_at(0)
      e:advance(60000)
      assert.is_true(w.rc ~= 0 or w:answered())
      local x = e:value("x")
      assert.is_true(x == tostring(live) or x == wanted, ("%s is live"):format(x))
      assert.equal("m=open", e:gates())
      live = n
      e:write("a.yaml", ("x: %d\n"):format(n))
      e:reload()
      e:step()
      e:advance(120000)
      assert.equal(tostring(n), e:value("x"))
      e:journal()
    end)
  end

  it("leaves the old or the new one whole at random", function() random_walk(60) end)
  it("leaves the old or the new one whole at thousands of random places #long", function()
    random_walk(4000)
  end)
end)

describe("loading a policy while bursts of allocations fail", function()
  local b
  before_each(function() b = bind.open() end)
  after_each(function()
    C.segue__mem_fail_at(0)
    b:close()
  end)

  local text = [[local segue = require "segue"
    return { sources = { segue.file "a.yaml", segue.value { a = { 1, 2 } } },
      triggers = { segue.signal "HUP", segue.http "127.0.0.1:1" },
      check = function(next) return true end }]]

  local function attempt()
    local policy = b:load(nil)
    C.segue__mem_fail_at(0)
    if policy then b:unload(policy) end
    return policy ~= nil
  end

  it("fails or loads it, wherever the burst begins and however long it is", function()
    b:write("reload.lua", text)
    local failed = 0
    for _, length in ipairs { 2, 5, 30, 200 } do
      for n = 1, 120 do
        C.segue__mem_fail_burst(n, length)
        if not attempt() then failed = failed + 1 end
      end
    end
    assert.is_true(failed > 400, failed)
    assert.is_true(attempt())
  end)

  local function at_random(count)
    b:write("reload.lua", text)
    each_seed(count, function(n)
      C.segue__mem_fail_random(n, 50 + n % 3000)
      attempt()
    end)
    assert.is_true(attempt())
  end

  it("fails or loads it at random", function() at_random(60) end)
  it("fails or loads it at thousands of random places #long", function() at_random(5000) end)
end)
