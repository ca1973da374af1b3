-- SPDX-License-Identifier: MIT
-- Memory runs out, at any allocation, while a module of the kind files renders, stages, commits and
-- settles: its files change together or stay, and the next reload applies.
local faults = require "spec.support.faults"
local segue = require "spec.support.segue"

local policy = [[
local segue = require "segue"
return {
  sources = { segue.file "a.yaml" },
  triggers = { segue.http "127.0.0.1:@PORT@" },
  modules = { web = { kind = "files", files = {
    { to = "out/a.conf", template = "a.tmpl" },
    { to = "out/b.conf", content = function(config) return "x=" .. config.x .. "\n" end },
  }, apply = "cat out/a.conf out/b.conf > applied" } },
}]]

describe("memory that runs out in a files module", function()
  after_each(segue.cleanup)

  it("leaves both files as they were, or changes both, and the next reload applies", function()
    local d = segue.start { policy = policy, env = faults.memory_env,
      files = { ["a.yaml"] = "x: 0\n", ["a.tmpl"] = "x={{.x}}\n" } }
    local x, applied = 0, "x=0\n"
    faults.each_allocation(d, 40, function(n)
      x = x + 1
      d.dir:save("a.yaml", ("x: %d\n"):format(x))
      local answer = faults.attempt(d, { method = "POST", path = "/-/reload" })
      local status = answer and answer.status
      faults.memory(d, 0)
      local wanted = ("x=%d\n"):format(x)
      local a, b = d.dir:read "out/a.conf", d.dir:read "out/b.conf"
      if status then
        local what = ("allocation %d: %d %s"):format(n, status, answer.body)
        assert.is_true(status == 200 or status == 500 or status == 503, what)
        assert.equal(a, b, what)
        if status == 200 then
          assert.equal(wanted, a, what)
        elseif not answer.body:find("while answering", 1, true) then -- else no outcome is known
          assert.equal(applied, a, what)
        end
      end
      assert.equal(200, (d:reload()), d:log():sub(-2000))
      assert.equal(wanted, d.dir:read "out/a.conf")
      assert.equal(wanted, d.dir:read "out/b.conf")
      assert.equal(wanted .. wanted, d.dir:read "applied")
      applied = wanted
    end)
  end)

  it("switches a folder of generations, or leaves it, and the next reload applies", function()
    local d = segue.start { policy = [[
local segue = require "segue"
local function text(config) return "x=" .. config.x .. "\n" end
return {
  sources = { segue.file "a.yaml" },
  triggers = { segue.http "127.0.0.1:@PORT@" },
  modules = { web = { kind = "files", folder = { "out/d", backups = 0 },
    files = { { name = "a", content = text }, { name = "b", content = text } },
    apply = "cat out/d/a out/d/b > applied" } },
}]], env = faults.memory_env, files = { ["a.yaml"] = "x: 0\n" } }
    local x, applied = 0, "x=0\n"
    faults.each_allocation(d, 40, function(n)
      x = x + 1
      d.dir:save("a.yaml", ("x: %d\n"):format(x))
      local answer = faults.attempt(d, { method = "POST", path = "/-/reload" })
      faults.memory(d, 0)
      local wanted = ("x=%d\n"):format(x)
      local a, b = d.dir:read "out/d/a", d.dir:read "out/d/b"
      assert.equal(a, b)
      if answer and answer.status == 200 then
        assert.equal(wanted, a)
      elseif answer and not answer.body:find("while answering", 1, true) then
        assert.equal(applied, a, ("allocation %d: %d %s"):format(n, answer.status, answer.body))
      end
      assert.equal(200, (d:reload()), d:log():sub(-2000))
      assert.equal(wanted, d.dir:read "out/d/a")
      assert.equal(wanted .. wanted, d.dir:read "applied")
      applied = wanted
    end)
    for _, name in ipairs(d.dir:list "out") do assert.is_nil(name:find("changed", 1, true)) end
  end)

  it("changes all or nothing where a request applies and a function verifies", function()
    local d = segue.start { policy = [[
local segue = require "segue"
return {
  sources = { segue.file "a.yaml" },
  triggers = { segue.http "127.0.0.1:@PORT@" },
  modules = { web = { kind = "files",
    files = { { to = "out/a", content = function(config) return config.x .. "\n" end } },
    apply = segue.post("http://127.0.0.1:@PORT@/-/healthy", { method = "GET",
      headers = { ["X-A"] = "b" } }),
    verify = { tag = "probe", kind = "call", before = function() return { 1 } end,
      call = function(state) return state[1] == 1 or nil, "no state" end },
    undo = { "sh", "-c", "test $A = b", env = { A = "b", B = false } } } },
}]], env = faults.memory_env, files = { ["a.yaml"] = "x: 0\n" } }
    local x, live = 0, "0\n"
    faults.each_allocation(d, 40, function(n)
      x = x + 1
      d.dir:save("a.yaml", ("x: %d\n"):format(x))
      local answer = faults.attempt(d, { method = "POST", path = "/-/reload" })
      faults.memory(d, 0)
      local wanted, text = ("%d\n"):format(x), d.dir:read "out/a"
      if answer and answer.status == 200 then
        assert.equal(wanted, text)
      elseif answer and not answer.body:find("while answering", 1, true) then
        assert.equal(live, text, ("allocation %d: %d %s"):format(n, answer.status, answer.body))
      end
      assert.equal(200, (d:reload()), d:log():sub(-2000))
      assert.equal(wanted, d.dir:read "out/a")
      live = wanted
    end)
  end)
end)
