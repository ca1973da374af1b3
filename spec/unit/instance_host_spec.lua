-- SPDX-License-Identifier: MIT
-- One instance of the library on the loop of its host: the state of its modules, its HTTP answers,
-- and reads that hang.
local C = require "spec.support.c"
local cjson = require "cjson"
local Host = require "spec.support.host"
local tempdir = require "spec.support.tempdir"

local with_modules = [[
local segue = require "segue"
return { name = "host", sources = { segue.file "config.yaml" }, triggers = {},
  modules = { one = { kind = "c", replace = "restart" }, two = { kind = "c" } } }
]]

describe("an instance on the loop of its host", function()
  after_each(Host.release)

  it("reports the state of each module: a failed one makes it not ready", function()
    local dir = tempdir.new()
    dir:write("config.yaml", "a: 1\n")
    local h = Host.start(dir, with_modules, { "one", "two" })
    assert.equal("applied", h.started.outcome)
    local function module(name)
      local status, body = h:get "/api/v1/modules"
      assert.equal(200, status)
      local list = cjson.decode(body)
      list = list.modules or list
      assert.equal(2, #list)
      for _, m in ipairs(list) do if m.name == name then return m end end
    end
    local function metric(text)
      local _, body = h:get "/metrics"
      return tonumber(body:match("\n" .. text:gsub("%p", "%%%0") .. " ([%d.]+)\n"))
    end
    assert.equal("serving", module("one").state)
    assert.equal(1, module("one").generation)
    assert.same({ 1, 1, 0, 1, 1 }, { metric "segue_ready",
      metric 'segue_module_state{module="one",state="serving"}',
      metric 'segue_module_state{module="one",state="failed"}',
      metric 'segue_module_generation{module="two"}', metric 'segue_gate_open{module="one"}' })
    assert.equal(200, (h:get "/-/ready"))

    dir:write("config.yaml", "a: 2\n")
    h.failing.one = true -- neither the new one starts nor, in the undo, the old one
    local answer = h:reload()
    assert.equal("reverted", answer.outcome)
    local status, body = h:get "/-/ready"
    assert.equal(503, status)
    assert.matches("^not ready: .*one", body)
    local _, all = h:get "/api/v1/status"
    assert.is_false(cjson.decode(all).ready)
    assert.equal("failed", module("one").state)
    assert.matches("no port for it", cjson.encode(module "one"))
    assert.equal("serving", module("two").state)
    assert.same({ 0, 0, 1, 0, 1 }, { metric "segue_ready",
      metric 'segue_module_state{module="one",state="serving"}',
      metric 'segue_module_state{module="one",state="failed"}',
      metric 'segue_gate_open{module="one"}', metric 'segue_gate_open{module="two"}' })

    h.failing.one = false -- it is tried again by itself
    C.run_until(h.loop, function() return h:get "/-/ready" == 200 end, 60000)
    assert.equal("serving", module("one").state)
    assert.same({ 1, 1 }, { metric "segue_ready", metric 'segue_gate_open{module="one"}' })
    h:close()
  end)

  it("answers its status, metrics and files where the host has no policy", function()
    local dir = tempdir.new()
    dir:write("config.yaml", "a: 1\n")
    local h = Host.start(dir)
    local status, body = h:get "/api/v1/status"
    assert.equal(200, status)
    assert.equal(1, cjson.decode(body).generation)
    assert.equal(200, (h:get "/metrics"))
    status, body = h:get "/api/v1/files"
    assert.equal(200, status)
    assert.equal("[]\n", body)
    h:close()
  end)

  it("does not wait for reads that hang: it logs them, and continues when they return", function()
    local dir = tempdir.new()
    dir:write("config.yaml", "a: 1\n")
    local h = Host.start(dir, [[
local segue = require "segue"
return { name = "host", sources = { segue.file "config.yaml" }, triggers = {},
  timeouts = { collect = "100ms" } }
]])
    C.segue__fault_arm(nil)
    C.segue__fault_arm("read.changed=hang")
    dir:write("config.yaml", "a: 2\n")
    local hung = 0
    repeat
      local answer = h:reload()
      assert.equal("failed", answer.outcome)
      assert.equal(1, answer.generation)
      local many = answer.errors[1]:find("earlier reads of the sources still hang", 1, true)
      if not many then
        hung = hung + 1
        assert.matches("the sources were not read after 100 ms", answer.errors[1])
      end
    until many or hung > 10
    assert.is_true(hung >= 1 and hung <= C.SEGUE__WORKERS_MAX, hung)
    assert.equal(200, (h:get "/-/ready"))
    C.segue__fault_arm(nil) -- they come back
    C.run_until(h.loop, function() return h:reload().outcome ~= "failed" end, 30000)
    local _, config = h:get "/api/v1/config"
    assert.same({ a = 2 }, cjson.decode(config))
    h:close()
  end)
end)
