-- SPDX-License-Identifier: MIT
-- Memory runs out in the running daemon, at any allocation: whatever was under way is answered with
-- an error or done, and what comes after it works.
local faults = require "spec.support.faults"
local segue = require "spec.support.segue"
local wait = require "spec.support.wait"

local policy = [[
local segue = require "segue"
return {
  name = "memory",
  sources = { segue.file "config.yaml", segue.env { prefix = "MEMORY_" } },
  triggers = { segue.signal "HUP", segue.watch(), segue.http "127.0.0.1:@PORT@" },
  check = function(next, prev)
    if prev and next.n < 0 then return nil, "n is negative" end
    return true
  end,
}
]]

local function start(n)
  return segue.folder { policy = policy, files = { ["config.yaml"] = "n: 0\nlist: [1, 2]\n" },
    env = { SEGUE_MEM_FAIL_AT = tostring(n) } }
end

describe("memory that runs out", function()
  after_each(segue.cleanup)

  it("while the daemon starts ends it with a code and a sentence, or has no effect", function()
    local n, clean, ended = 1, 0, 0
    while clean < 2 and n < 20000 do
      local d = start(n)
      d:spawn()
      wait.until_true(function()
        return not d.process:running() or d:log():find("generation 1 is live", 1, true)
      end, 20000, function() return "n = " .. n .. ": " .. d.process:describe() end)
      if d.process:running() then
        d:signal "term"
        assert.equal(0, (d:wait_exit()), "n = " .. n .. ": " .. d:log())
      else
        local code, signal = d:wait_exit()
        assert.equal(0, signal, "n = " .. n .. ": " .. d:log())
        assert.is_true(code == 4 or code == 3, "n = " .. n .. ": " .. d:log())
        assert.is_true(#d:log() > 40, "n = " .. n .. " ends without a word")
        ended = ended + 1
      end
      local reached = d:log():find("made to fail", 1, true)
      assert.is_truthy(reached or d:log():find("generation 1 is live", 1, true), d:log())
      clean = reached and 0 or clean + 1
      d.dir:remove()
      n = n + 1 + math.floor(n / 12)
    end
    assert.is_true(ended > 10)
    assert.equal(2, clean)
  end)

  it("also where the kernel has none left for a watch: nothing ends, the call is repeated",
    function()
    local points = {}
    for i = 1, 60 do
      points[i] = ("epoll_ctl#%d=fail:%d"):format(i + math.floor(i / 3), i % 2 == 0 and -12 or -28)
    end
    local d = segue.start { policy = policy, files = { ["config.yaml"] = "n: 0\n" },
      env = { SEGUE_FAULTS = table.concat(points, ",") } }
    assert.matches("epoll_ctl: the kernel has no memory: trying again", d:log())
    for i = 1, 20 do
      d.dir:save("config.yaml", ("n: %d\n"):format(i))
      assert.equal(200, d:http { method = "POST", path = "/-/reload" }.status)
    end
    assert.equal(20, d:config().n)
  end)

  it("during a reload is its outcome, and the next reload applies", function()
    local d = start(0)
    d:spawn()
    d:wait_ready()
    local value = 0
    faults.each_allocation(d, 20, function(n)
      value = value + 1
      d.dir:save("config.yaml", ("n: %d\nlist: [1, 2, %d]\nmap: {a: {b: x}}\n"):format(value, n))
      local r = faults.attempt(d, { method = "POST", path = "/-/reload" })
      if r then
        assert.is_true(r.status == 200 or r.status == 500 or r.status == 422 or r.status == 503,
          r.status .. " " .. r.body)
      end
      faults.memory(d, 0)
      assert.equal(200, (d:reload()), d:log():sub(-2000))
      assert.equal(value, d:config().n)
    end)
  end)

  it("during a request costs that request at most", function()
    local d = start(0)
    d:spawn()
    d:wait_ready()
    for _, path in ipairs { "/metrics", "/api/v1/status", "/api/v1/config", "/api/v1/reloads",
      "/api/v1/diff?to=next", "/nothing" } do
      faults.each_allocation(d, 1, function()
        local r = faults.attempt(d, { path = path, method = "GET" })
        if r then assert.is_true(r.status >= 200 and r.status < 600) end
      end)
      assert.equal(200, d:http("/-/healthy").status)
    end
  end)

  it("while a changed policy is loaded keeps the old one, and the next reload takes it", function()
    local d = start(0)
    d:spawn()
    d:wait_ready()
    local version, n = 0, 1
    while n < 3000 do
      version = version + 1
      d.dir:save("reload.lua", d:fill(policy):gsub('name = "memory"', '%0, min_interval = 0')
        .. ("-- %d\n"):format(version))
      faults.memory(d, n)
      local r = faults.attempt(d, { method = "POST", path = "/-/reload" })
      if r then assert.is_true(r.status >= 200 and r.status < 600) end
      faults.memory(d, 0)
      assert.equal(200, (d:reload()), d:log():sub(-2000))
      n = n + 1 + math.floor(n / 8)
    end
  end)
end)
