-- SPDX-License-Identifier: MIT
-- `segue exec`: the child, what it gets after a change, and its end. The child of these specs is a
-- shell that writes what it sees into the file `log` of the spec's folder.
local cjson = require "cjson"
local segue = require "spec.support.segue"
local process = require "spec.support.process"
local read = require("spec.support.file").read
local uv = require "luv"
local wait = require "spec.support.wait"

local policy = [[
local segue = require "segue"
local function file(name)
  return { kind = "files", config = "v", files = { { to = name,
    content = function(v) return "v=" .. v .. "\n" end } } }
end
return {
  name = "exec",
  sources = { segue.file "config.yaml" },
  triggers = { segue.signal "HUP" },
  modules = { one = file "out.conf", two = file "two.conf" },
  secrets = { "key" },
  EXEC
}]]

-- Prints its start, each HUP with the file as it is then, and USR1.
local loyal = [[
echo "start $(cat out.conf) key=$KEY $MODE" >> log
trap 'echo "hup $(cat out.conf)" >> log' HUP
trap 'echo usr1 >> log' USR1
trap 'echo quit >> log; exit 9' QUIT
trap 'echo term >> log; exit 5' TERM
while :; do sleep 0.02; done]]

local d
after_each(segue.cleanup)

--- Starts segue with a shell that runs this line. o: exec (the text of the option), args, under,
--- ready, config.
local function start(line, o)
  o = o or {}
  local text = policy:gsub("EXEC", function() return o.exec or "" end)
  d = segue.start { policy = o.policy or text, exec = o.command or { "/bin/sh", "-c", line },
    files = { ["config.yaml"] = o.config or "v: 1\nkey: k1\n", log = "" },
    args = o.args, under = o.under, ready = o.ready, env = o.env }
  return d
end

local function has(text)
  wait.until_true(function() return d.dir:read("log"):find(text, 1, true) end, nil,
    function() return text .. " in: " .. d.dir:read "log" .. d.process:describe() end)
end
local function count(text)
  return select(2, d.dir:read("log"):gsub(text, ""))
end
local function change(text)
  d.dir:save("config.yaml", text)
  local _, body = d:reload()
  return body
end
local function ends(code)
  assert.equal(code, (d:wait_exit()), d.process:describe())
end
local function term()
  d.process:kill "term"
end
--- Stops the faithful child, which exits with 5, and segue with it.
local function stop()
  term()
  ends(5)
end

describe("the child of segue exec", function()
  it("starts when its files are there, and its exit code is segue's; the files stay", function()
    start('cat out.conf two.conf > log; exit 7', { ready = false })
    ends(7)
    assert.equal("v=1\nv=1\n", d.dir:read "log")
    assert.equal("v=1\n", d.dir:read "out.conf")
  end)

  it("ends segue with 128 and the signal that ended it", function()
    start("kill -SEGV $$", { ready = false })
    ends(139)
    assert.truthy(d.process.stderr:find("was ended by signal 11", 1, true), d.process.stderr)
  end)

  it("is missing: 127, or not executable: 126, before a file is replaced", function()
    start(nil, { ready = false, command = { "no-such-program" } })
    ends(127)
    assert.truthy(d.process.stderr:find("there is no such program in PATH", 1, true))
    assert.is_nil(d.dir:read "out.conf")
    start(nil, { ready = false, command = { "./config.yaml" } })
    ends(126)
    assert.truthy(d.process.stderr:find("it is not executable", 1, true), d.process.stderr)
  end)

  it("gets standard input", function()
    local result = segue.folder { policy = (policy:gsub("EXEC", "")),
      files = { ["config.yaml"] = "v: 1\nkey: k\n" } }
    local run = segue.cli({ "exec", "-c", result.dir:at "reload.lua", "--", "sh", "-c",
      "read a; echo got $a" }, { stdin = "words\n", cwd = result.dir.path })
    assert.equal("got words\n", run.stdout)
    assert.equal(0, run.code)
    assert.truthy(run.stderr:find("has to be started in the foreground", 1, true), run.stderr)
  end)

  it("is needed, and options of it are checked", function()
    for _, case in ipairs { { {}, "segue exec needs a command" },
        { { "--reload-signal", "hup", "--", "true" }, '--reload-signal must be none, HUP' },
        { { "--kill-signal", "KILL", "--", "true" }, '--kill-signal must be HUP' },
        { { "--kill-timeout", "0s", "--", "true" }, "--kill-timeout must be a duration" },
        { { "--splay", "x", "--", "true" }, '--splay must be a duration such as 5s, not "x"' } } do
      local run = segue.cli { "exec", unpack(case[1]) }
      assert.equal(2, run.code)
      assert.truthy(run.stderr:find(case[2], 1, true), run.stderr)
    end
  end)
end)

describe("a change", function()
  it("sends the reload signal once, for all files, and none where no file changed", function()
    start(loyal, { args = { "--reload-signal", "HUP" } })
    has "start v=1"
    assert.equal("applied", change("v: 2\nkey: k1\n").outcome)
    has "hup v=2"
    assert.equal("applied", change("v: 2\nkey: k1\nother: 1\n").outcome)
    assert.equal("applied", change("v: 3\nkey: k1\nother: 1\n").outcome)
    has "hup v=3"
    assert.equal(2, count "hup")
    assert.equal(1, count "start")
    stop()
    has "term"
  end)

  it("restarts the child without a reload signal, with its kill signal and splay", function()
    start(loyal, { exec = 'exec = { kill_signal = "QUIT", splay = "20ms" },' })
    has "start v=1"
    assert.equal("applied", change("v: 2\nkey: k1\n").outcome)
    has "start v=2"
    assert.equal(1, count "quit")
    term()
    ends(9)
  end)

  it("does not touch it with the signal none", function()
    start(loyal, { exec = 'exec = { reload_signal = "none" },' })
    assert.equal("applied", change("v: 2\nkey: k1\n").outcome)
    stop()
    assert.equal("start v=1 key= \nterm\n", d.dir:read "log")
  end)

  it("concerns a part of the configuration where the policy names one", function()
    start(loyal, { exec = 'exec = { reload_signal = "HUP", config = "app" },' })
    has "start"
    assert.equal("applied", change("v: 1\nkey: k1\nother: 2\n").outcome)
    assert.equal("applied", change("v: 1\nkey: k1\napp: 2\n").outcome)
    has "hup"
    assert.equal(1, count "hup")
    stop()
  end)

  it("of a value in its environment restarts it, and no secret is in the log", function()
    start(loyal, { exec = [[exec = { reload_signal = "HUP", env = { MODE = "fast" },
      env_from = { KEY = "key" } },]], args = { "--log-level", "debug" } })
    has "start v=1 key=k1 fast"
    assert.equal("applied", change("v: 1\nkey: second-secret\n").outcome)
    has "key=second-secret fast"
    assert.equal(1, count "term")
    assert.equal("rejected", change("v: 1\n").outcome)
    local body = change("v: 1\nkey: { a: b }\n")
    assert.equal("rejected", body.outcome)
    assert.truthy(body.errors[1].message:find("must be one value", 1, true), body.errors[1].message)
    assert.is_nil(d.process.stderr:find("second-secret", 1, true))
    assert.equal(2, count "start")
    stop()
  end)

  it("that is undone reloads the child again, when its files are back", function()
    -- The probe fails when the child has read the next file: two signals at once would be one. The
    -- daemon stops itself before it restores the first file: a signal to the child would be there
    -- by then.
    start("echo $$ > pid\n" .. loyal, { env = { SEGUE_FAULTS = "files.restore#1=stop" },
      exec = [[exec = { reload_signal = "HUP" },
      confirm = { within = "60s", failures = 1, probe = function()
        if not segue.read("out.conf"):find "2" then return true end
        while not segue.read("log"):find("hup v=2", 1, true) do segue.sleep "10ms" end
        return nil, "bad"
      end },]] })
    has "start v=1"
    d.dir:save("config.yaml", "v: 2\nkey: k1\n")
    d.process:kill "hup"
    wait.until_true(function() return process.state(d.process.pid) == "T" end, nil, "the stop")
    local child = tonumber(d.dir:read "pid")
    for n = 1, 2 do
      uv.kill(child, "sigusr1")
      wait.until_true(function() return count "usr1" == n end, nil, "the child")
    end
    assert.equal(1, count "hup")
    assert.equal("v=2\n", d.dir:read "out.conf")
    uv.kill(d.process.pid, "sigcont")
    has "hup v=1"
    assert.equal("v=1\n", d.dir:read "out.conf")
    assert.equal(2, count "hup")
    d:wait_settled()
    assert.equal("reverted", d:json("/api/v1/reloads")[1].outcome)
    stop()
  end)

  it("that the child does not survive is undone, and the child runs again", function()
    start([[grep -q 2 out.conf && exit 3
      ]] .. loyal, { exec = [[confirm = { within = "60s",
      probe = function() return not segue.read("out.conf"):find "2", "not yet" end },]] })
    has "start v=1"
    local body = change("v: 2\nkey: k1\n")
    assert.equal("reverted", body.outcome)
    assert.truthy(body.errors[1].message:find("exited with code 3", 1, true),
      body.errors[1].message)
    wait.until_true(function() return count "start v=1" == 2 end, nil, "the child of generation 1")
    stop()
  end)

  it("whose restart fails is undone, and the child runs again with its files", function()
    start(loyal, { env = { SEGUE_FAULTS = "process.start#2=fail" } })
    has "start v=1"
    local body = change("v: 2\nkey: k1\n")
    assert.equal("reverted", body.outcome)
    assert.matches("module 'exec': cannot run /bin/sh: ", body.errors[1].message)
    wait.until_true(function() return count "start v=1" == 2 end, nil, "the child of generation 1")
    assert.equal("v=1\n", d.dir:read "out.conf")
    assert.equal("applied", change("v: 3\nkey: k1\n").outcome)
    has "start v=3"
    stop()
  end)

  it("whose child can neither be restarted nor brought back ends segue, with the first files",
    function()
      start(loyal, { env = { SEGUE_FAULTS = "process.start#2=fail,process.start#3=fail" } })
      has "start v=1"
      d.dir:save("config.yaml", "v: 2\nkey: k1\n")
      d.process:kill "hup"
      ends(126)
      assert.matches("the child cannot be brought back: cannot run /bin/sh", d.process.stderr)
      assert.equal("v=1\n", d.dir:read "out.conf")
    end)

  it("that drops a module reloads it when the files are gone, and again when they are back",
  function()
    local dropping = policy:gsub('two = file "two.conf"', 'MORE')
    local both = 'two = { kind = "files", removed = "remove", files = { { to = "two.conf", ' ..
      'content = function() return "two" end } } }'
    local function with(more, exec)
      return (dropping:gsub("MORE", more):gsub("EXEC", exec or ""))
    end
    local confirm = [[confirm = { within = "60s", failures = 1, probe = function()
      while not segue.read("log"):find("hup gone", 1, true) do segue.sleep "10ms" end
      return nil, "bad"
    end },]]
    start([[seen() { if [ -e two.conf ]; then echo "$1 $(cat two.conf)"; else echo "$1 gone"; fi; }
      seen start >> log; trap 'seen hup >> log' HUP; trap 'exit 5' TERM
      while :; do sleep 0.02; done]], { policy = with(both), args = { "--reload-signal", "HUP" } })
    has "start two"
    d.dir:save("reload.lua", with("", confirm))
    assert.equal("reverted", select(2, d:reload()).outcome)
    has "hup two"
    assert.equal("start two\nhup gone\nhup two\n", d.dir:read "log")
    d.dir:save("reload.lua", with("", "name = 'dropped',"))
    local plan = cjson.decode(d:cli("plan", "--json").stdout)
    local last = plan.steps[#plan.steps]
    assert.same({ "exec", "two is no longer declared" }, { last.module, last.why })
    assert.equal("applied", select(2, d:reload()).outcome)
    wait.until_true(function() return count "hup gone" == 2 end, nil, "the reload of the child")
    assert.equal(1, count "start")
    stop()
  end)

  it("waits until the child has a handler for its signal", function()
    start([[echo early >> log; until [ -e go ]; do sleep 0.01; done
      ]] .. loyal, { args = { "--reload-signal", "HUP" } })
    has "early"
    d.dir:save("config.yaml", "v: 2\nkey: k1\n")
    d.process:kill "hup"
    wait.until_true(function() return d.dir:read "out.conf" == "v=2\n" end, nil, "the file")
    d.dir:save("go", "")
    has "hup v=2"
    stop()
  end)
end)

describe("a signal to segue exec", function()
  it("is passed to the child, unless it is a trigger of the policy", function()
    start(loyal, { args = { "--reload-signal", "none" } })
    has "start"
    d.process:kill "usr1"
    has "usr1"
    d.process:kill "hup"
    d:wait_log "cause=SIGHUP"
    d.process:kill "quit"
    ends(9)
    assert.equal(0, count "hup")
  end)

  it("TERM ends a child that ignores it after the limit, with its group", function()
    start([[trap '' TERM; sleep 300 & echo $! > other; echo ready >> log
      while :; do sleep 0.02; done]], { args = { "--kill-timeout", "50ms" } })
    has "ready"
    term()
    ends(137)
    local other = tonumber(d.dir:read "other")
    wait.until_true(function() return not process.is_alive(other) end, nil, "the end of its group")
  end)

  it("KILL leaves no process behind", function()
    start([[sleep 300 & echo $! $$ > pids; echo ready >> log; wait]])
    has "ready"
    local other, child = d.dir:read("pids"):match "(%d+) (%d+)"
    uv.kill(d.process.pid, "sigkill")
    d:wait_exit()
    wait.until_true(function()
      return not process.is_alive(tonumber(other)) and not process.is_alive(tonumber(child))
    end, nil, "the end of the child and of what it has started")
  end)
end)

describe("a first load of segue exec that fails", function()
  it("ends it with the code of segue run, and the child never starts", function()
    start("touch log2", { ready = false, config = "v: [\n" })
    ends(3)
    assert.is_nil(d.dir:read "log2")
  end)

  it("is tried again for as long as --wait", function()
    start(loyal, { ready = false, config = "v: [\n", args = { "--wait", "60s" } })
    d:wait_log "rejected"
    d.dir:save("config.yaml", "v: 4\nkey: k1\n")
    has "start v=4"
    stop()
    start("true", { ready = false, config = "v: [\n", args = { "--wait", "1ms" } })
    ends(3)
  end)
end)

describe("segue exec as process 1", function()
  it("reaps strangers, and ends with the code of the child", function()
    start([[for i in 1 2 3 4 5; do setsid sh -c 'echo x >> log' & done
      while [ $(grep -c x log) -lt 5 ]; do sleep 0.01; done
      while ls -l /proc/[0-9]*/stat | grep -q . && grep -l '^[0-9]* ([a-z]*) Z' /proc/[0-9]*/stat
      do sleep 0.01; done; exit 11]], { ready = false,
      under = { "unshare", "--pid", "--fork", "--mount-proc", "--kill-child" } })
    ends(11)
  end)
end)

describe("examples/exec", function()
  it("starts the server, signals it, and starts it again for a new token", function()
    local files = {}
    for _, name in ipairs { "config.yaml", "server.sh" } do
      files[name] = read("examples/exec/" .. name)
    end
    d = segue.start { policy = read "examples/exec/reload.lua", files = files,
      exec = { "sh", "server.sh" } }
    d.process:wait_output "server: hello, a token of 5"
    d.dir:save("config.yaml", "greeting: good morning\ntoken: first\n")
    d.process:wait_output "server: good morning, a token of 5"
    d.dir:save("config.yaml", "greeting: good morning\ntoken: another\n")
    d.process:wait_output "server: stops"
    d.process:wait_output "server: good morning, a token of 7"
    term()
    ends(0)
  end)
end)
