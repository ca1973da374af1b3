-- SPDX-License-Identifier: MIT
-- No request is lost: the numbered client (spec/bench/numbered.c) asks the module
-- spec/plugin/numbered.c while the daemon reloads, and knows of each request what may come of it.
local plugin = require "spec.support.plugin"
local port = require "spec.support.port"
local process = require "spec.support.process"
local segue = require "spec.support.segue"
local tempdir = require "spec.support.tempdir"

local WITHIN_MS = 120000 -- also under a sanitizer on a busy machine

local policy = [[
local segue = require "segue"
return {
  sources = { segue.file "fixed.yaml", segue.file "value.yaml" },
  triggers = { segue.http "127.0.0.1:@PORT@" },
  threads = 2,
  modules = {
    service = { kind = "c", plugin = "%s", config = "service", replace = "%s",
                listen = "http://127.0.0.1:%d", generation_header = true },
  },
}
]]

describe("numbered requests", function()
  local built, module, client
  setup(function()
    built = os.tmpname()
    module, client = built .. ".so", built .. ".client"
    plugin.build_file(module, "spec/plugin/numbered.c")
    plugin.program(client, "spec/bench/numbered.c")
  end)
  teardown(function()
    for _, path in ipairs { built, module, client } do os.remove(path) end
  end)
  after_each(segue.cleanup)

  local d, at, dir
  local function start(replace)
    dir, at = tempdir.new(), port.free()
    d = segue.start { dir = dir, policy = policy:format(module, replace, at), measured = true,
      files = {
        ["fixed.yaml"] = replace == "restart" and ("service: { lock: %q }\n"):format(dir:at("lock"))
          or "service: {}\n",
        ["value.yaml"] = "service: { value: 1, copies: [" .. ("1, "):rep(31) .. "1] }\n" } }
  end

  local function load(mode, connections, reloads, every_ms)
    return process.start { client, tostring(at), tostring(d.port), dir:at("value.yaml"), mode,
      tostring(connections), tostring(reloads), tostring(every_ms) }
  end

  -- The counts of the client, once it found no error.
  local function counted(p)
    p:wait_exit(WITHIN_MS)
    assert(p.code == 0, p:describe() .. d.process:describe())
    local reported = {}
    for name, value in p.stdout:gmatch("(%w+)=(%d+)") do reported[name] = tonumber(value) end
    return reported
  end

  local in_short = { swap = "keepalive", handover = "pipelined", restart = "close" }
  for _, replace in ipairs { "swap", "handover", "restart" } do
    for _, mode in ipairs { "keepalive", "pipelined", "close" } do
      it(("are each answered once, in order and by one generation: %s, %s%s"):format(replace, mode,
        in_short[replace] == mode and "" or " #long"), function()
          start(replace)
          local reported = counted(load(mode, 16, 40, 10))
          assert.equal(40, reported.reloads)
          assert.equal(reported.requests, reported.arrived)
          assert.is_true(reported.requests > 16 * 3, tostring(reported.requests))
        end)
    end
  end

  -- Descriptors and threads are checked after each spec; a flat daemon keeps its memory as well.
  it("leave no memory behind over hundreds of reloads #long", function()
    start("handover")
    local p = load("keepalive", 16, 900, 0)
    d:wait_log("generation 300 is live", WITHIN_MS)
    local at_first = d.process:rss_kib()
    assert.equal(900, counted(p).reloads)
    local grown = d.process:rss_kib() - at_first
    assert.is_true(grown < segue.roomy_kib(1024), ("%d KiB more"):format(grown))
  end)
end)
