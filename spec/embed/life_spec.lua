-- SPDX-License-Identifier: MIT
-- A host that starts, runs, reloads, stops and closes in callbacks, from other threads and in the
-- wrong order, see life.c; on the instance's own loop and on the host's.
local plugin = require "spec.support.plugin"
local process = require "spec.support.process"
local tempdir = require "spec.support.tempdir"

describe("the life of an instance", function()
  local dir, program
  setup(function()
    dir = tempdir.new()
    program = dir:at("life")
    local uv = process.run { "pkg-config", "--cflags", "--libs", "libuv" }
    assert(uv.code == 0, uv:describe())
    plugin.host(program, "spec/embed/life.c", "-Wl,--no-as-needed " .. uv.stdout:gsub("\n", " "))
    dir:write("config.yaml", "a: 1\n")
  end)
  teardown(tempdir.remove_all)
  after_each(process.stop_all)

  -- Steps of a case on a loop, in order.
  local function run(case, loop)
    local p = process.run { program, case, dir:at("config.yaml"), loop, deadline_ms = 60000 }
    assert(p.code == 0 and p.signal == 0, p:describe())
    local steps = {}
    for line in p.stdout:gmatch("[^\n]+") do steps[#steps + 1] = line end
    return steps
  end

  local after_end = { "reload: SEGUE_ECLOSED", "run: SEGUE_ECLOSED" }
  local after_end_of_host = { "reload: SEGUE_ECLOSED", "run: SEGUE_EUSAGE" }

  local function check(case, own, host)
    local function with(steps, ends) -- "END": what an instance answers when it has stopped
      local list = {}
      for _, step in ipairs(steps) do
        for _, one in ipairs(step == "END" and ends or { step }) do list[#list + 1] = one end
      end
      return list
    end
    assert.same(with(own, after_end), run(case, "own"))
    assert.same(with(host, after_end_of_host), run(case, "host"))
  end

  for _, case in ipairs { "close in on_start", "close in a thread", "close in on_stopped" } do
    it("frees the instance when its loop has ended: " .. case, function()
      check(case, { "start: applied", "stopped", "run: OK" },
        { "start: applied", "stopped", "loop: closed" })
    end)
  end

  it("ends where it was closed before it ran", function()
    check("close before run", { "start: SEGUE_ECLOSED", "stopped" },
      { "start: SEGUE_ECLOSED", "stopped", "loop: closed" })
  end)

  it("rejects segue_run before segue_start", function()
    check("run before start",
      { "run: SEGUE_EUSAGE", "start: applied", "stopped", "run: OK", "END" },
      { "run: SEGUE_EUSAGE", "start: applied", "stopped", "loop: closed", "END" })
  end)

  for _, case in ipairs { "run in on_start", "run in a thread" } do
    it("rejects a second segue_run: " .. case, function()
      check(case, { "start: applied", "run: SEGUE_EUSAGE", "stopped", "run: OK", "END" },
        { "start: applied", "run: SEGUE_EUSAGE", "stopped", "loop: closed", "END" })
    end)
  end

  it("stops once, however many threads ask while the loop ends", function()
    check("stop in threads", { "start: applied", "stopped", "run: OK", "END" },
      { "start: applied", "stopped", "loop: closed", "END" })
  end)

  it("warns of a read section that keeps replaced generations in memory", function()
    assert.same({ "start: applied", "reload: applied", "warned", "stopped", "run: OK",
      "reload: SEGUE_ECLOSED", "run: SEGUE_ECLOSED" }, run("open section", "own"))
  end)

  it("answers reloads of any thread, on the thread of the loop", function()
    local counted = { "reloads: each answered, 0 elsewhere", "applied or unchanged: 400" }
    check("reload in threads",
      { "start: applied", "stopped", "run: OK", counted[1], counted[2], "END" },
      { "start: applied", "stopped", "loop: closed", counted[1], counted[2], "END" })
  end)

  it("answers reloads of any thread while it stops", function()
    local counted = "reloads: each answered, 0 elsewhere"
    check("reload and stop in threads",
      { "start: applied", "stopped", "run: OK", counted, "END" },
      { "start: applied", "stopped", "loop: closed", counted, "END" })
  end)
end)
