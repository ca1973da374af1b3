-- SPDX-License-Identifier: MIT
-- A host whose threads enter a gate while the module behind it is restarted again and again, see
-- gate.c; and the metrics and status of a gate in the admin API.
local cjson = require "cjson"
local http = require "spec.support.http"
local plugin = require "spec.support.plugin"
local port = require "spec.support.port"
local process = require "spec.support.process"
local tempdir = require "spec.support.tempdir"
local wait = require "spec.support.wait"

describe("a host with a gate", function()
  local dir, program
  setup(function()
    dir = tempdir.new()
    program = dir:at("host")
    plugin.static_host(program, "spec/embed/gate.c")
    dir:write("a.yaml", "a: 1\n")
  end)
  teardown(tempdir.remove_all)
  after_each(function()
    http.close_all()
    process.stop_all()
  end)

  local function policy(more, triggers)
    return dir:write("reload.lua", ([[
local segue = require "segue"
return {
  sources = { segue.file "a.yaml" },
  triggers = { %s },
  modules = { service = { kind = "c", plugin = "service", replace = "restart" %s } },
}
]]):format(triggers or "", more or ""))
  end

  it("loses and doubles no request over 200 restarts of a module that holds a lock", function()
    local host = process.run { program, policy(), dir:at("lock"), "200", deadline_ms = 300000 }
    assert(host.code == 0, host:describe())
    local reported = {}
    for name, value in host.stdout:gmatch("(%w+)=(%d+)") do reported[name] = tonumber(value) end
    assert.same({ 201, 0, 0, 0, 0, 0 },
      { reported.applied, reported.lost, reported.doubled, reported.older, reported.refused,
        reported.unlocked },
      host:describe())
    assert.truthy(reported.waited > 0 and reported.passed >= reported.waited, host:describe())
  end)

  describe("shows the gate:", function()
    local at
    local function get(path)
      local answer = http.request { port = at, path = path }
      assert.equal(200, answer.status)
      return answer.body
    end
    local function metric(text, name)
      local value = text:match("\n" .. name:gsub("%p", "%%%0") .. " (%S+)\n")
      return assert(tonumber(value), name .. " is not in " .. text)
    end
    before_each(function()
      at = port.free()
      process.start { program, policy(", buffer = { items = 1 }",
        ('segue.http "127.0.0.1:%d"'):format(at)), dir:at("lock"), "1000000000" }
      wait.until_true(function()
        local connection = http.connect({ port = at }, true)
        if connection then connection:close() end
        return connection
      end, 60000, "the host's listener")
    end)

    it("/metrics counts waiting and refused calls, the waiting time, and the reasons", function()
      local refused = 'segue_gate_refused_total{module="service",reason="%s"}'
      local text
      wait.until_true(function()
        text = get "/metrics"
        return text:find("segue_gate_open{", 1, true)
          and metric(text, refused:format "overflow") > 0
          and metric(text, 'segue_gate_wait_seconds_count{module="service"}') > 0
      end, 120000, function() return text end)
      for _, reason in ipairs { "age", "module", "closed" } do
        assert.equal(0, metric(text, refused:format(reason)))
      end
      local before = 0
      for _, le in ipairs { "0.001", "0.005", "0.01", "0.05", "0.1", "0.5", "1", "5", "30",
          "+Inf" } do
        local count = metric(text,
          ('segue_gate_wait_seconds_bucket{module="service",le="%s"}'):format(le))
        assert.is_true(count >= before, text)
        before = count
      end
      assert.equal(before, metric(text, 'segue_gate_wait_seconds_count{module="service"}'))
      assert.is_true(metric(text, 'segue_gate_wait_seconds_sum{module="service"}') >= 0)
      for name, most in pairs { open = 1, inside = 2, waiting = 1 } do
        local value = metric(text, ('segue_gate_%s{module="service"}'):format(name))
        assert.is_true(value >= 0 and value <= most, name .. "=" .. value)
      end
    end)

    it("/api/v1/modules shows the calls inside, waiting and refused", function()
      local module
      wait.until_true(function()
        module = cjson.decode(get "/api/v1/modules")[1]
        return module and module.refused.overflow > 0
      end, 120000, function() return cjson.encode(module) end)
      assert.is_true(module.inside >= 0 and module.inside <= 2)
      assert.is_true(module.waiting >= 0 and module.waiting <= 1)
      assert.same({ 0, 0, 0 },
        { module.refused.age, module.refused.module, module.refused.closed })
      assert.truthy(({ open = true, shut = true })[module.gate], module.gate)
    end)
  end)
end)
