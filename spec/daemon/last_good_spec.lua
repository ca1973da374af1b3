-- SPDX-License-Identifier: MIT
local segue = require "spec.support.segue"
local tempdir = require "spec.support.tempdir"
local wait = require "spec.support.wait"

tempdir.on_disk()

describe("a start without good sources", function()
  after_each(segue.cleanup)

  local policy = [[
    local segue = require "segue"
    local limits = require "limits"
    return {
      name = "last",
      sources = { segue.file "config.yaml", segue.dir("conf.d/*.yaml", { optional = true }) },
      triggers = { segue.watch(), segue.http "127.0.0.1:@PORT@" },
      check = function(next)
        if next.x > limits.most then return nil, "x is too large" end
        return true
      end,
    }]]

  -- An answer waits for the disk, being ready does not.
  local function on_disk(d, slot)
    wait.until_true(function() return d.dir:read(".segue/last-good." .. slot) end, 5000, slot)
  end

  local function start()
    local d = segue.start { policy = policy, files = {
      ["config.yaml"] = "x: 1\n", ["limits.lua"] = "return { most = 10 }\n",
      ["conf.d/a.yaml"] = "y: 2\n" } }
    on_disk(d, "a")
    return d
  end

  local function stop(d, crash)
    if crash then d:crash() else d:stop() end
  end

  local function again(d, args)
    d.options.args = args
    d:spawn()
    d:wait_ready()
  end

  local function stale(d)
    local since = d:json("/api/v1/status").stale_since
    return type(since) == "string"
  end

  for what, break_it in pairs {
    ["when a file is gone"] = function(d) d.dir:delete("config.yaml") end,
    ["when a file is broken"] = function(d) d.dir:write("config.yaml", "x: [") end,
    ["when a file is empty"] = function(d) d.dir:write("config.yaml", "") end,
    ["when the policy is broken"] = function(d) d.dir:write("reload.lua", "return {") end,
    ["when the policy is gone"] = function(d) d.dir:delete("reload.lua") end,
    ["when a module of the policy is gone"] = function(d) d.dir:delete("limits.lua") end,
    ["when the policy refuses what is there"] = function(d)
      d.dir:write("config.yaml", "x: 11\n")
    end,
  } do
    it("serves the last good generation " .. what .. ", and says so", function()
      local d = start()
      stop(d)
      break_it(d)
      again(d)
      assert.same({ x = 1, y = 2 }, d:config())
      assert.is_true(stale(d))
      assert.matches("stale since %d+%-%d+%-%d+T%S+Z\n", d:http { path = "/-/ready" }.body)
      local metrics = d:http { path = "/metrics" }.body
      assert.is_true(tonumber(metrics:match "\nsegue_config_stale_seconds ([%d.]+)\n") > 0)
      d:wait_log "started from the last good generation on disk"
      assert.truthy(d:cli("status").stdout:find("stale since", 1, true))
      if what:find "when a file" then -- a restored file has no effect on the source's status
        for _, source in ipairs((d:json "/api/v1/sources")) do
          assert.is_true(source.name ~= "config.yaml" or not source.up)
        end
      end
      d:stop()
    end)
  end

  it("is not ready under ready = \"strict\", but serves", function()
    local strict = policy:gsub('name = "last",', 'ready = "strict", %0')
    local d = segue.start { policy = strict, files = {
      ["config.yaml"] = "x: 1\n", ["limits.lua"] = "return { most = 10 }\n" } }
    stop(d)
    d.dir:delete("config.yaml")
    d:spawn()
    d:wait_log "started from the last good generation on disk"
    wait.until_true(function() return d:http({ path = "/-/ready" }).status == 503 end)
    assert.equal(1, d:config().x)
    assert.matches("stale", d:http({ path = "/-/ready" }).body)
    d.dir:write("config.yaml", "x: 5\n")
    d:wait_ready()
    assert.equal(5, d:config().x)
    d:stop()
  end)

  it("is not stale any more once the sources are back", function()
    local d = start()
    stop(d)
    d.dir:delete("config.yaml")
    again(d)
    assert.is_true(stale(d))
    d.dir:write("config.yaml", "x: 5\n")
    d:wait_config(function(c) return c.x == 5 end)
    d:wait_log("the live generation is not stale")
    assert.is_false(stale(d))
    -- what is good now is what the next start falls back to
    stop(d)
    d.dir:delete("config.yaml")
    again(d)
    assert.equal(5, d:config().x)
    d:stop()
  end)

  it("is not stale any more when the same bytes come back", function()
    local d = start()
    stop(d)
    os.rename(d.dir:at("config.yaml"), d.dir:at("away"))
    again(d)
    os.rename(d.dir:at("away"), d.dir:at("config.yaml"))
    d:wait_log("the live generation is not stale")
    assert.is_false(stale(d))
    d:stop()
  end)

  it("serves the stored files, not a mixture with the present ones", function()
    local d = start()
    stop(d)
    d.dir:write("config.yaml", "x: [")
    d.dir:write("conf.d/b.yaml", "z: 3\n")
    again(d)
    assert.same({ x = 1, y = 2 }, d:config())
    d:stop()
  end)

  it("never stores a rejected configuration", function()
    local d = start()
    d.dir:write("config.yaml", "x: 11\n")
    assert.equal(422, (d:reload()))
    stop(d)
    again(d)
    assert.equal(1, d:config().x)
    assert.is_true(stale(d))
    d:stop()
  end)

  it("survives kill -9 with the generation that was answered for", function()
    local d = start()
    for x = 2, 10 do
      d.dir:write("config.yaml", ("x: %d\n"):format(x))
      assert.equal(200, (d:reload()))
      stop(d, true)
      d.dir:delete("config.yaml")
      again(d)
      local c = d:config()
      assert.equal(2, c.y)
      assert.equal(x, c.x)
      d.dir:write("config.yaml", ("x: %d\n"):format(x))
      d:wait_config(function(now) return now.x == x end)
    end
    d:stop()
  end)

  for _, point in ipairs { "last_good.open", "last_good.write", "last_good.sync" } do
    it("survives kill -9 at " .. point, function()
      local d = start()
      stop(d)
      d.options.env = { SEGUE_FAULTS = point .. "=kill" }
      d.dir:write("config.yaml", "x: 7\n")
      d:spawn()
      d:wait_exit()
      d.options.env = nil
      d.dir:delete("config.yaml")
      again(d)
      assert.truthy(d:config().x == 1 or d:config().x == 7)
      d:stop()
    end)
  end

  it("uses the other slot when one is damaged, and logs that", function()
    local d = start()
    d.dir:write("config.yaml", "x: 2\n")
    assert.equal(200, (d:reload()))
    on_disk(d, "b")
    stop(d)
    local slot = d.dir:read(".segue/last-good.b")
    d.dir:write(".segue/last-good.b", slot:sub(1, -3) .. "zz")
    d.dir:delete("config.yaml")
    again(d)
    assert.equal(1, d:config().x)
    d:wait_log "last%-good%.b"
    d:stop()
  end)

  it("is refused when both slots are damaged, with the reason why the sources failed", function()
    local d = start()
    stop(d)
    d.dir:write(".segue/last-good.a", "rubbish")
    d.dir:delete("config.yaml")
    d:spawn()
    assert.equal(4, (d:wait_exit()))
    assert.truthy(d:log():find("config.yaml: it does not exist", 1, true))
  end)

  it("hides its files from other users", function()
    local d = start()
    stop(d)
    local handle = io.popen("stat -c %a " .. d.dir:at(".segue/last-good.a"))
    assert.equal("600\n", handle:read("*a"))
    handle:close()
  end)

  -- The same with an age that is allowed; what is live now will be older than a second.
  local function aged(age)
    return (policy:gsub('name = "last",', ('last_good = { max_age = "%s" }, %%0'):format(age)))
  end

  local function start_aged(age)
    local d = segue.start { policy = aged(age), files = { ["config.yaml"] = "x: 1\n",
      ["limits.lua"] = "return { most = 10 }\n" } }
    on_disk(d, "a")
    return d
  end

  local function grow_old()
    local over = os.time() + 3
    wait.until_true(function() return os.time() >= over end, nil, "the age")
  end

  it("is refused, with exit code 4, when it is older than last_good.max_age allows", function()
    local d = start_aged "1s"
    stop(d)
    d.dir:delete "config.yaml"
    grow_old()
    for _ = 1, 2 do
      d:spawn()
      assert.equal(4, (d:wait_exit()))
      assert.matches("the last good generation is %d+ s old, and "
        .. "last_good%.max_age allows 1 s, so it is not served: correct the sources, or "
        .. "allow more", d:log())
      assert.matches("config%.yaml: it does not exist", d:log())
    end
    -- the policy that stands there now decides
    d.dir:write("reload.lua", d:fill(aged "1h"))
    again(d)
    assert.equal(1, d:config().x)
    assert.is_true(stale(d))
    d:stop()
    -- and the one that is kept, where that cannot be read
    d.dir:write("reload.lua", "return {")
    d:spawn()
    assert.equal(4, (d:wait_exit()))
    assert.matches("last_good%.max_age allows 1 s", d:log())
    -- good sources need no age
    d.dir:write("reload.lua", d:fill(aged "1s"))
    d.dir:write("config.yaml", "x: 5\n")
    again(d)
    assert.equal(5, d:config().x)
    d:stop()
  end)

  it("does not age while the daemon knows that it equals the sources", function()
    local d = start_aged "8s"
    local function noted()
      local newest = 0
      for _, slot in ipairs { "a", "b" } do
        local text = d.dir:read(".segue/state." .. slot) or ""
        newest = math.max(newest, tonumber(text:match "good=(%d+)") or 0)
      end
      return newest
    end
    wait.until_true(function() return noted() > 0 end, nil, "the first note")
    local first = noted()
    wait.until_true(function() return noted() > first + 9000 end, 60000, "later ones")
    stop(d, true)
    d.dir:delete "config.yaml"
    again(d)
    assert.equal(1, d:config().x)
    -- while they give nothing good it does
    local last = noted()
    grow_old()
    assert.equal(last, noted())
    d:stop()
  end)

  it("is served at any age where an operator froze or rolled back the reloads", function()
    local d = start_aged "1s"
    d.dir:write("config.yaml", "x: 2\n")
    assert.equal(200, (d:reload()))
    assert.equal(200, d:control { method = "POST", path = "/api/v1/rollback" }.status)
    assert.equal(1, d:config().x)
    stop(d)
    grow_old()
    again(d)
    assert.equal(1, d:config().x)
    assert.is_false(stale(d))
    d:stop()
  end)

  it("has a maximum age that is validated like every option", function()
    local d = start()
    for text, why in pairs {
      ["last_good = 5,"] = "last_good", ['last_good = { max_age = "x" },'] = "max_age",
      ['last_good = { max_ag = "1d" },'] = 'did you mean "max_age"',
      ['last_good = { max_age = "0s" },'] = "longer than 0",
      ["last_goood = {},"] = 'did you mean "last_good"',
    } do
      d.dir:write("reload.lua", d:fill((policy:gsub('name = "last",', text .. " %0"))))
      local status, answer = d:reload()
      assert.equal(422, status, text)
      assert.matches(why, answer.errors[1].message)
    end
  end)

  it("logs that the disk is full, and continues", function()
    local d = segue.start { policy = policy, env = { SEGUE_FAULTS = "last_good.write=fail:-28" },
      files = { ["config.yaml"] = "x: 1\n", ["limits.lua"] = "return { most = 10 }\n" } }
    d:wait_log("cannot be kept for a start without its files")
    assert.equal(200, (d:reload()))
    wait.until_true(function() return d:config().x == 1 end, 1000, "config")
    d:stop()
  end)
end)
