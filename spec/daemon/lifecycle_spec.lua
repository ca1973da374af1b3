-- SPDX-License-Identifier: MIT
-- The life of the daemon: start, state folder, control socket, a policy that changes itself, stop.
local cjson = require "cjson"
local http = require "spec.support.http"
local port = require "spec.support.port"
local process = require "spec.support.process"
local segue = require "spec.support.segue"
local tempdir = require "spec.support.tempdir"
local uv = require "luv"
local wait = require "spec.support.wait"

local policy = [[
local segue = require "segue"
return {
  name = "life",
  sources = { segue.file "config.yaml" },
  triggers = { segue.http "127.0.0.1:@PORT@" },
}
]]
local files = { ["config.yaml"] = "a: 1\n" }

local function large(n)
  local lines = {}
  for i = 1, n do lines[i] = "key" .. i .. ": {a: 1, b: [1, 2, 3], c: text}" end
  return table.concat(lines, "\n") .. "\n"
end

describe("segue run", function()
  after_each(segue.cleanup)

  it("prints its address, and that it is live", function()
    local d = segue.start { policy = policy, files = files }
    d:wait_log("listening address=127%.0%.0%.1:" .. d.port)
    d:wait_log "control socket open path=%S+/control%.sock"
    d:wait_log "applied: generation 1 is live"
  end)

  it("stops on TERM and on INT with code 0 and leaves no socket", function()
    for _, signal in ipairs { "term", "int" } do
      local d = segue.start { policy = policy, files = files }
      d:signal(signal)
      assert.equal(0, (d:wait_exit()))
      assert.is_nil(uv.fs_stat(d:socket()))
      assert.is_nil((http.connect({ port = d.port }, true)))
    end
  end)

  it("answers waiting clients when TERM arrives during a reload, and exits 0", function()
    local d = segue.start { policy = policy, files = files }
    d.dir:save("config.yaml", large(300000))
    local c = http.connect { port = d.port }
    c:write(http.format { method = "POST", path = "/-/reload", port = d.port })
    wait.until_true(function() return d:json("/api/v1/status").running ~= cjson.null end)
    d:signal "term"
    local r = c:read_response(30000)
    assert.is_true(r.status == 200 or r.status == 503 or r.status == 500, r.body)
    assert.is_true(#r.body > 0)
    c:close()
    assert.equal(0, (d:wait_exit(30000)), d:log())
  end)

  it("is not ready during the first load, with a reason, and stops in order even then", function()
    local d = segue.start { policy = policy, files = { ["config.yaml"] = large(400000) },
      ready = false }
    d:wait_log "control socket open"
    local r = d:control "/-/ready"
    assert.equal(503, r.status)
    assert.matches("no generation is live", r.body)
    assert.equal(200, d:control("/-/healthy").status)
    assert.equal(404, d:control("/api/v1/config").status)
    assert.equal(4, d:cli("status").code)
    d:signal "term"
    assert.equal(0, (d:wait_exit(30000)), d:log())
  end)

  it("ends at once on a second TERM", function()
    local d = segue.start { policy = policy, files = files }
    d.dir:save("config.yaml", large(300000))
    d:control { method = "POST", path = "/-/reload?wait=0" }
    wait.until_true(function() return d:json("/api/v1/status").running ~= cjson.null end)
    d:signal "term"
    d:wait_log "stopping"
    if d.process:running() then d:signal "term" end
    local code = d:wait_exit()
    assert.is_true(code == 143 or code == 0, code)
  end)

  local function holds_nothing_more(count)
    local d = segue.start { policy = policy, files = files, measured = true }
    local c = http.connect { port = d.port }
    local function reloads(n)
      for i = 1, n do
        local query = i % 3 == 0 and "?wait=10s" or "?force=1"
        c:write(http.format { method = "POST", path = "/-/reload" .. query, port = d.port })
        assert.equal(200, c:read_response().status)
      end
    end
    reloads(200)
    local fds, threads, rss = d.process:fds(), d.process:threads(), d.process:rss_kib()
    reloads(count)
    assert.equal(fds, d.process:fds())
    assert.equal(threads, d.process:threads())
    assert.is_true(d.process:rss_kib() - rss < segue.roomy_kib(2048),
      ("%d KiB became %d"):format(rss, d.process:rss_kib()))
    c:close()
  end
  it("holds no more after 400 reloads than after 200", function() holds_nothing_more(200) end)
  it("holds no more memory after 2,000 reloads than after 200 #long", function()
    holds_nothing_more(1800)
  end)

  it("keeps no generation because the policy's collector has little to do #long", function()
    local lines = {}
    for i = 1, 2000 do lines[i] = ("key%d: { a: %d, b: text, c: [1, 2, 3] }\n"):format(i, i) end
    local text = table.concat(lines)
    local d = segue.start { measured = true, files = { ["config.yaml"] = text }, policy = [[
local segue = require "segue"
return {
  sources = { segue.file "config.yaml" },
  check = function(next, prev) return next.key1.a == 1 and (not prev or prev.key2.a == 2) end,
}
]] }
    local function reloads(from, to)
      for i = from, to do
        d.dir:save("config.yaml", ("%slast: %d\n"):format(text, i))
        assert.equal(200, (d:reload()))
      end
    end
    reloads(1, 10)
    local before = d.process:rss_kib()
    reloads(11, 110) -- 1 MB each
    local more = d.process:rss_kib() - before
    assert.is_true(more < segue.roomy_kib(16 * 1024), more)
  end)

  it("folds a line that is repeated, and writes JSON on request", function()
    local d = segue.start { policy = policy, files = files, args = { "--log-format", "json" } }
    d:reload()
    d:stop()
    local seen = 0
    for line in d:log():gmatch("[^\n]+") do
      local entry = cjson.decode(line)
      assert.is_string(entry.time)
      assert.is_string(entry.level)
      assert.is_string(entry.message)
      if entry.message:match("^applied: generation 1") then seen = seen + 1 end
    end
    assert.equal(1, seen)
  end)

  it("never writes control characters of foreign text to the terminal", function()
    local d = segue.start { policy = policy, files = files }
    d:http { path = "/", host = "evil\27[2Jhost" }
    d:http { path = "/", host = "evil.example" }
    d:wait_log "evil%.example"
    assert.is_nil(d:log():find("\27", 1, true))
  end)

  it("survives when the reader of its standard error closes it", function()
    local d = segue.folder { policy = policy, files = files }
    local read = assert(uv.pipe({}, {}))
    local handle = assert(uv.spawn(segue.binary, { args = { "run", "-c", d.dir:at "reload.lua" },
      stdio = { nil, nil, read.write }, cwd = d.dir.path }, function(code)
      d.ended = code
    end))
    uv.fs_close(read.write)
    uv.fs_close(read.read)
    wait.until_true(function()
      local c = uv.fs_stat(d:socket()) and http.connect({ socket = d:socket() }, true)
      if not c then return false end
      c:close()
      return true
    end)
    for _ = 1, 3 do
      wait.until_true(function() return (d:control("/-/ready")).status == 200 end)
      d:reload "?force=1"
    end
    assert.is_nil(d.ended)
    handle:kill "sigterm"
    wait.until_true(function() return d.ended end)
    assert.equal(0, d.ended)
    handle:close()
  end)
end)

describe("the state folder", function()
  after_each(segue.cleanup)

  it("is .segue beside the policy, for its owner only", function()
    local d = segue.start { policy = policy, files = files }
    local stat = uv.fs_stat(d.dir:at ".segue")
    assert.equal("directory", stat.type)
    assert.equal(448, stat.mode % 512) -- 0700
    assert.equal(384, uv.fs_stat(d:socket()).mode % 512) -- 0600
  end)

  it("is $STATE_DIRECTORY where that is set, and --state before both", function()
    local other, third = tempdir.new(), tempdir.new()
    local d = segue.start { policy = policy, files = files, ready = false,
      env = { STATE_DIRECTORY = other.path } }
    d:wait_log "generation 1 is live"
    assert.is_truthy(uv.fs_stat(other:at "control.sock"))
    assert.is_nil(uv.fs_stat(d.dir:at ".segue"))
    d:stop()
    d.options.args = { "--state", third.path }
    d:spawn()
    d:wait_log "generation 1 is live"
    assert.is_truthy(uv.fs_stat(third:at "control.sock"))
    local status = segue.cli { "status", "--state", third.path }
    assert.equal(0, status.code, status.output)
  end)

  it("is used by one daemon: a second one ends with code 4 and names the first", function()
    local d = segue.start { policy = policy, files = files }
    local second = segue.cli({ "run", "-c", d.dir:at "reload.lua" }, { cwd = d.dir.path })
    assert.equal(4, second.code, second.output)
    assert.matches("another segue %(pid " .. d.process.pid .. "%) uses the state folder "
      .. d.dir:at ".segue":gsub("%W", "%%%0"), second.stderr)
    assert.matches("%-%-state", second.stderr)
    assert.equal(200, d:control("/-/ready").status)
  end)

  it("can be used again after kill -9: lock and socket are no obstacle", function()
    local d = segue.start { policy = policy, files = files }
    d:crash()
    assert.is_truthy(uv.fs_lstat(d:socket())) -- the stale one
    d:spawn()
    d:wait_ready()
    assert.equal(1, d:config().a)
  end)

  it("that cannot be created is reported with its name", function()
    local d = segue.folder { policy = policy, files = files }
    d.dir:write(".segue", "a file")
    d:spawn()
    assert.equal(4, (d:wait_exit()))
    assert.matches("state folder %S+%.segue", d:log())
    assert.matches("%-%-state", d:log())
  end)

  it("of a long path has its socket elsewhere, where the command line finds it", function()
    local base = tempdir.new()
    local folder = base:mkdir(("x"):rep(60) .. "/" .. ("y"):rep(60))
    local dir = setmetatable({ path = folder }, getmetatable(base))
    local runtime = tempdir.new()
    local d = segue.start { policy = policy, files = files, dir = dir, ready = false,
      env = { XDG_RUNTIME_DIR = runtime.path } }
    d:wait_log "generation 1 is live"
    assert.equal(1, #runtime:list "segue")
    local status = segue.cli({ "status", "-c", dir:at "reload.lua" },
      { env = { XDG_RUNTIME_DIR = runtime.path } })
    assert.equal(0, status.code, status.output)
    d:stop()
    assert.equal(0, #runtime:list "segue")
  end)
end)

describe("a policy that changes", function()
  after_each(segue.cleanup)

  it("reloads itself: a new listener opens, the old one closes, an unchanged one stays", function()
    local d = segue.start { policy = policy, files = files }
    local old, new = d.port, port.free()
    local kept = http.connect { port = old }
    d.dir:save("reload.lua", (policy:gsub("@PORT@", tostring(new))))
    local status = d:reload()
    assert.equal(200, status)
    assert.equal(200, http.request { port = new, path = "/-/ready" }.status)
    assert.is_nil((http.connect({ port = old }, true)))
    -- A connection that was open continues.
    kept:write(http.format { path = "/-/ready", port = old })
    assert.equal(200, kept:read_response().status)
    kept:close()
    -- Both at once, then the first again.
    d.dir:save("reload.lua", (policy:gsub('segue.http "127.0.0.1:@PORT@"',
      ('segue.http "127.0.0.1:%d", segue.http "127.0.0.1:%d"'):format(old, new))))
    assert.equal(200, (d:reload()))
    assert.equal(200, http.request { port = new, path = "/-/ready" }.status)
    assert.equal(200, http.request { port = old, path = "/-/ready" }.status)
  end)

  it("is watched like the configuration it names", function()
    local text = policy:gsub('segue.http "127.0.0.1:@PORT@"', "segue.watch()")
    local d = segue.start { policy = text, files = { ["config.yaml"] = "a: 1\n",
      ["other.yaml"] = "a: 2\n" } }
    d.dir:save("reload.lua", (text:gsub("config.yaml", "other.yaml")))
    d:wait_config(function(config) return config.a == 2 end)
    d.dir:save("other.yaml", "a: 3\n")
    d:wait_config(function(config) return config.a == 3 end)
  end)

  it("catches new signals and releases old ones", function()
    local text = policy:gsub('segue.http "127.0.0.1:@PORT@"', 'segue.signal "USR1"')
    local d = segue.start { policy = policy, files = files }
    d.dir:save("reload.lua", text)
    assert.equal(200, (d:reload()))
    d.dir:save("config.yaml", "a: 2\n")
    d:signal "usr1"
    d:wait_config(function(config) return config.a == 2 end)
  end)

  it("is ready once its first generation is confirmed, and stays so while others are", function()
    local d = segue.start { ready = false, files = { ["config.yaml"] = "n: 1\n" }, policy = [[
local segue = require "segue"
return {
  sources = { segue.file "config.yaml" }, triggers = {}, -- a saved file starts no run of its own
  confirm = { within = "1m", probe = function()
    local path = segue.state.n == 1 and "good" or "good too"
    return segue.stat(path) ~= nil, path .. " is not there"
  end },
  check = function(next) segue.state.n = next.n return true end,
}
]] }
    d:wait_control()
    local function phase() return d:json("/api/v1/status").running end
    local function confirming()
      local run = phase()
      return run ~= cjson.null and run.phase == "confirm"
    end
    wait.until_true(confirming)
    local r = d:control "/-/ready"
    assert.equal(503, r.status)
    assert.equal("not ready: the first generation is not confirmed yet\n", r.body)
    assert.equal(200, d:control("/-/healthy").status)
    assert.equal(4, d:cli("status").code)
    d.dir:write("good", "")
    d:wait_ready()
    d.dir:save("config.yaml", "n: 2\n")
    assert.equal(202, (d:reload "?wait=0"))
    wait.until_true(confirming)
    assert.equal(200, d:control("/-/ready").status)
    assert.equal(2, d:config().n)
    d.dir:write("good too", "")
    wait.until_true(function() return phase() == cjson.null end)
    assert.equal("applied", d:json("/api/v1/status").last.outcome)
  end)

  local function remove(path) assert(os.execute("rm -rf " .. path) == 0) end

  it("creates a deleted state folder or control socket again", function()
    local d = segue.start { policy = policy, files = files }
    for _, what in ipairs { ".segue", ".segue/control.sock", ".segue/lock" } do
      remove(d.dir:at(what))
      wait.until_true(function()
        return uv.fs_stat(d:socket()) and uv.fs_stat(d.dir:at ".segue/lock")
      end)
      wait.until_true(function() return d:cli("status").code == 0 end)
      assert.equal(tostring(d.process.pid), d.dir:read(".segue/lock"):match "%d+")
    end
    d:wait_log "the state folder was deleted: it was created again"
    remove(d.dir:at ".segue")
    d.dir:save("config.yaml", "n: 7\n")
    assert.equal(200, d:http({ method = "POST", path = "/-/reload" }).status)
    wait.until_true(function() return #d.dir:list ".segue" >= 3 end) -- kept at once
    local other = d:cli "run"
    assert.equal(4, other.code)
    assert.matches("another segue %(pid " .. d.process.pid .. "%)", other.output)
  end)

  it("leaves a state folder alone that another daemon uses, and uses it again later", function()
    local d = segue.start { policy = policy, files = files }
    local lock = d.dir:write("other/lock", "4711\n")
    local holder = process.start { "flock", "-F", lock, "sh", "-c", "echo held; exec sleep 1000" }
    holder:wait_output "held"
    assert(uv.fs_rename(d.dir:at ".segue", d.dir:at "gone"))
    assert(uv.fs_rename(d.dir:at "other", d.dir:at ".segue"))
    d:wait_log "the state folder is lost.*another segue %(pid 4711%)"
    d.dir:write(".segue/control.sock", "theirs")
    d.dir:save("config.yaml", "n: 8\n")
    assert.equal(200, d:http({ method = "POST", path = "/-/reload" }).status)
    assert.same({ "control.sock", "lock" }, d.dir:list ".segue")
    assert.equal("4711\n", d.dir:read ".segue/lock")
    d.dir:delete ".segue/control.sock"
    holder:stop()
    d:wait_log "the state folder is free again"
    wait.until_true(function() return d:cli("status").code == 0 end)
  end)
end)
