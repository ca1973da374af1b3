-- SPDX-License-Identifier: MIT
-- A daemon that is stopped under load answers all clients, and so does a listener that a reload
-- removes: the client spec/bench/ends.c asks as fast as it can until no process listens any more,
-- and counts the calls that were not answered.
local plugin = require "spec.support.plugin"
local port = require "spec.support.port"
local process = require "spec.support.process"
local segue = require "spec.support.segue"

local WITHIN_MS = 120000 -- also under a sanitizer on a busy machine
local STOPS = 4

local policy = [[
local segue = require "segue"
return {
  sources = { segue.file "value.yaml" },
  triggers = { segue.http "127.0.0.1:@PORT@" },
  threads = 2,
  modules = { service = { %s, config = "service", listen = { %s } } },
}
]]
local function listens(...)
  local all = { ... }
  for i, at in ipairs(all) do all[i] = ('"http://127.0.0.1:%d"'):format(at) end
  return table.concat(all, ", ")
end

local in_lua = [[
return {
  handle = function(request) return 200, "number=" .. request.path:match "%d+$" .. " \n" end,
}
]]

describe("the end of a listener under load", function()
  local built, module, client
  setup(function()
    built = os.tmpname()
    module, client = built .. ".so", built .. ".client"
    plugin.build_file(module, "spec/plugin/numbered.c")
    plugin.program(client, "spec/bench/ends.c")
  end)
  teardown(function()
    for _, path in ipairs { built, module, client } do os.remove(path) end
  end)
  after_each(segue.cleanup)

  local function start(code)
    local at = port.free()
    return segue.start { policy = policy:format(code, listens(at)),
      files = { ["service.lua"] = in_lua,
        ["value.yaml"] = "service: { value: 1, copies: [" .. ("1, "):rep(31) .. "1] }\n" } }, at
  end

  -- The outcome of the calls to a port, which ended when all clients had this many answers.
  local function under_load(d, at, mode, answers, stop)
    local p = process.start { client, tostring(at), mode, "24", tostring(answers) }
    p:wait_output("under load", WITHIN_MS)
    stop()
    p:wait_exit(WITHIN_MS)
    assert.equal(0, p.code, p:describe())
    local reported = {}
    for name, value in p.stdout:gmatch "(%w+)=(%d+)" do reported[name] = tonumber(value) end
    return reported, p:describe() .. d.process:describe()
  end

  local function assert_nothing_lost(reported, why)
    assert.is_true(reported.answered > 24, why)
    for _, lost in ipairs { "odd", "behind", "torn", "fresh", "closed", "reset" } do
      assert.equal(0, reported[lost], why)
    end
  end

  for kind, code in pairs { C = "C", Lua = 'kind = "lua", code = "service.lua"' } do
    for _, mode in ipairs { "keepalive", "pipelined", "close" } do
      it(("loses no call when the daemon stops: a module in %s, %s"):format(kind, mode), function()
        if kind == "C" then code = ("kind = 'c', plugin = %q"):format(module) end
        for round = 1, STOPS do
          local d, at = start(code)
          assert_nothing_lost(under_load(d, at, mode, round * round * 3, function() d:stop() end))
        end
      end)
    end
  end

  for _, mode in ipairs { "keepalive", "pipelined", "close" } do
    it("loses no call when a reload moves it, and another one the next: " .. mode, function()
      local code = ("kind = 'c', plugin = %q"):format(module)
      local d, at = start(code)
      for round = 1, STOPS do
        local next_at = port.free()
        local reported, why = under_load(d, at, mode, round * round * 3, function()
          d.dir:write("reload.lua", d:fill(policy:format(code, listens(next_at))))
          assert.equal(200, (d:reload()))
        end)
        assert_nothing_lost(reported, why)
        assert.equal(0, reported.refused, why) -- its module continues
        at = next_at
      end
    end)

    it("refuses each call with a reason when a reload removes its module too: " .. mode, function()
      local code = ("kind = 'c', plugin = %q"):format(module)
      for round = 1, STOPS do
        local d, at = start(code)
        assert_nothing_lost(under_load(d, at, mode, round * round * 3, function()
          d.dir:write("reload.lua", d:fill((policy:format(code, ""):gsub("modules = %b{}",
            "modules = {}"))))
          assert.equal(200, (d:reload()))
        end))
        d:stop()
      end
    end)
  end
end)
