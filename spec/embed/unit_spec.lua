-- SPDX-License-Identifier: MIT
-- The unit that is installed: systemd itself checks it, and what the daemon asks of the kernel,
-- with every feature in use, is compared with what the unit allows.
local process = require "spec.support.process"
local segue = require "spec.support.segue"
local tempdir = require "spec.support.tempdir"
local uv = require "luv"
local wait = require "spec.support.wait"

local function read(path)
  local file = assert(io.open(path))
  local text = file:read("*a")
  file:close()
  return text
end

local function run(...)
  local p = process.run { ... }
  assert(p.code == 0, p:describe())
  return p.output
end

-- Names of system calls that a set such as "@system-service" stands for.
local function expand(set, into)
  for line in run("systemd-analyze", "syscall-filter", "--no-pager", set):gmatch("[^\n]+") do
    local word = line:match("^%s+([@%w_-]+)$")
    if word and word:sub(1, 1) == "@" then expand(word, into) elseif word then into[word] = true end
  end
  return into
end

describe("the unit", function()
  local root, units = nil, {}
  setup(function()
    local dir = tempdir.new()
    run("make", "--no-print-directory", "install", "DESTDIR=" .. dir.path,
      "BUILD=" .. os.getenv("SEGUE_SPEC_TOP"),      "SAN=" .. os.getenv("SEGUE_SPEC_SAN"))
    root = dir:at("usr/local")
    for _, name in ipairs { "segue.service", "segue@.service", "segue.socket" } do
      units[name] = read(root .. "/lib/systemd/system/" .. name)
      -- The program lies in this installation; a template is validated as one of its instances.
      dir:write("units/" .. name:gsub("@", "@edge"), (units[name]:gsub("/usr/local/bin/",
        function() return root .. "/bin/" end)))
    end
    units.dir = dir:at("units/")
  end)
  teardown(segue.cleanup)
  after_each(process.stop_all)

  it("is accepted by systemd-analyze verify without a warning", function()
    for _, name in ipairs { "segue.service", "segue@edge.service", "segue.socket" } do
      local p = process.run { "systemd-analyze", "verify", "--man=no", units.dir .. name }
      assert.equal(0, p.code, p:describe())
      assert.equal("", p.output)
    end
  end)

  it("is rated as well protected by systemd", function()
    for _, name in ipairs { "segue.service", "segue@edge.service" } do
      run("systemd-analyze", "security", "--no-pager", "--offline=true", "--threshold=20",
        units.dir .. name)
    end
  end)

  it("gives each instance folders of its own", function()
    local unit = units["segue@.service"]
    for _, text in ipairs { "-c /etc/segue/%i/reload.lua --socket /run/segue/%i/control.sock\n",
        "\nStateDirectory=segue/%i\n", "\nRuntimeDirectory=segue/%i\n",
        "\nConfigurationDirectory=segue\n", "Segue %i: changes configuration" } do
      assert.truthy(unit:find(text, 1, true), text)
    end
    assert.falsy(units["segue.service"]:find("%i", 1, true))
  end)

  it("calls commands that the program has, with options that they know", function()
    local dir = tempdir.new()
    for line in units["segue.service"]:gmatch("\nExec%w+=/usr/local/bin/(segue [^\n]*)") do
      local words = {}
      for word in line:gmatch("%S+") do words[#words + 1] = word end
      words[1] = root .. "/bin/segue"
      words[#words + 1] = "--help"
      for i, word in ipairs(words) do words[i] = word:gsub("^/run/segue", dir.path) end
      run(unpack(words))
    end
  end)

  it("reports the outcome to systemd: its ExecReload ends with 3 for a rejected reload", function()
    local d = segue.start { files = { ["config.yaml"] = "a: 1\n" }, policy = [[
      local segue = require "segue"
      return { name = "unit", sources = { segue.file "config.yaml" }, triggers = {},
        check = function(next) return not next.bad, "bad is set" end }]] }
    local line = units["segue.service"]:match "\nExecReload=/usr/local/bin/segue ([^\n]*)"
    local words = { root .. "/bin/segue" }
    for word in line:gmatch "%S+" do words[#words + 1] = word end
    local replaced = 0
    for i, word in ipairs(words) do
      if word:find "control%.sock$" then words[i], replaced = d:socket(), replaced + 1 end
    end
    assert.equal(1, replaced, line)
    d.dir:save("config.yaml", "a: 2\n")
    assert.equal(0, process.run(words).code)
    assert.equal(2, d:config().a)
    d.dir:save("config.yaml", "bad: 1\n")
    local p = process.run(words)
    assert.equal(3, p.code, p:describe())
    assert.matches("bad is set", p.output)
    assert.equal(2, d:config().a)
    d:stop()
    p = process.run(words)
    assert.equal(5, p.code, p:describe())
  end)

  it("allows every system call of a daemon that uses everything", function()
    local d = segue.folder { files = { ["config.yaml"] = "a: 1\n", ["conf.d/b.yaml"] = "b: 1\n" },
      policy = [[
      local segue = require "segue"
      return {
        name = "everything",
        sources = { segue.file "config.yaml", segue.dir "conf.d/*.yaml",
          segue.env { prefix = "X_" }, segue.value { c = 1 } },
        triggers = { segue.signal "HUP", segue.watch(), segue.http "127.0.0.1:@PORT@",
          segue.poll "200ms", segue.trigger(function(fire) segue.sleep "100ms" fire "own" end) },
        check = function()
          segue.write("state.txt", "x", { mode = "0640" })
          segue.read "state.txt" segue.stat "state.txt" segue.list "conf.d/*"
          segue.resolve "localhost"
          local r = segue.run { "cat", stdin = ("x"):rep(200000), env = { A = "b" },
            cwd = "conf.d" }
          assert(r.ok, r.message)
          r = segue.run { shell = "sleep 10 & sleep 10", timeout = "100ms", kill_after = "100ms" }
          assert(r.timed_out)
          segue.all { function() segue.sleep "1ms" end,
            function() segue.fetch { url = "http://127.0.0.1:1/", timeout = "1s" } end,
            function() segue.fetch { url = "https://localhost:1/", timeout = "1s" } end }
          return true
        end,
        confirm = { probe = segue.probe.command { "true" } },
      }]] }
    d.options.under = { "strace", "-f", "-qq", "-o", d.dir:at("calls") }
    d.options.env = { ASAN_OPTIONS = (os.getenv("ASAN_OPTIONS") or "") .. ":detect_leaks=0" }
    d:spawn()
    d:wait_ready(60000)
    d.baseline = nil -- strace's threads and files are not the daemon's
    d.dir:save("config.yaml", "a: 2\n")
    d:wait_config(function(c) return c.a == 2 end, 60000)
    for _, child in ipairs(d.process:children()) do uv.kill(child, "sighup") end
    assert.equal(200, (d:reload "?force=1"))
    assert.equal(200, d:control("/metrics").status)
    assert.equal(0, d:cli("status").code)
    for _, child in ipairs(d.process:children()) do uv.kill(child, "sigterm") end
    wait.until_true(function() return not d.process:running() end, 60000)
    d:wait_exit()

    local allowed, seen, count = {}, {}, 0
    local sets = units["segue.service"]:match("\nSystemCallFilter=([^\n]+)")
    for set in sets:gmatch("%S+") do expand(set, allowed) end
    for line in io.lines(d.dir:at("calls")) do
      local name = line:match("^%d+ +([%w_]+)%(")
      if name and not seen[name] then
        seen[name], count = true, count + 1
        assert.truthy(allowed[name], "the unit does not allow " .. line)
      end
    end
    for _, name in ipairs { "membarrier", "inotify_add_watch", "timer_create",
        "waitid", "kill", "renameat", "fsync", "execve", "connect" } do
      assert.is_true(seen[name], name .. " was not called")
    end
    assert.is_true(count > 50)
  end)
end)
