-- SPDX-License-Identifier: MIT
-- Modules of the kind "process": the child, what it gets, its readiness, and its end.
local module = require "spec.support.process_module"
local segue = require "spec.support.segue"
local uv = require "luv"
local wait = require "spec.support.wait"

local case
after_each(function()
  if case then case:stop() end
  case = nil
  segue.cleanup()
end)

local function start(line, options, more)
  local o = more or {}
  o.modules = module.module(line, options)
  case = module.start(o)
  return case
end
local function message(answer)
  return answer.errors and answer.errors[1] and answer.errors[1].message or ""
end
local function said(answer, text)
  assert.truthy(message(answer):find(text, 1, true), message(answer))
end

-- Sends a message to $NOTIFY_SOCKET, from the process itself.
local notify = [[
perl -MSocket -e '$a = $ENV{NOTIFY_SOCKET}; $a =~ s/^@/\0/; socket(S, AF_UNIX, SOCK_DGRAM, 0);
send(S, $ARGV[0], 0, pack_sockaddr_un($a)) or die $!; sleep 1000 if $ARGV[1]' ]]

describe("a module of the kind process", function()
  it("runs a program with its arguments, folder, environment and limits, and stops it", function()
    start([[echo "$PWD $A ${B-none} $(umask) $(nice) $(ulimit -Sn):$(ulimit -Hn) $NOTIFY" >> log
      trap 'echo term >> log; exit 0' TERM; while :; do sleep 0.02; done]],
      [[cwd = "sub", env = { A = "a b", B = false, NOTIFY = 7 }, umask = "0027", nice = 3,
        rlimits = { nofile = "77:99" }]], { files = { ["sub/log"] = "" } })
    local seen = wait.until_true(function()
      local text = case.d.dir:read "sub/log"
      return text and text:match "(.-)\n"
    end)
    assert.equal(case.d.dir:at "sub" .. " a b none 0027 3 77:99 7", seen)
    local pid = case:child()
    assert.equal(0, case:stop())
    assert.truthy(case.d.dir:read("sub/log"):find("term", 1, true))
    assert.is_false(module.alive(pid))
  end)

  it("gets its part of the configuration in a file, as standard input, in a variable", function()
    for _, way in ipairs { { "file", 'cat "$SEGUE_SLICE_FILE"; cat "$0"' }, { "stdin", "cat" },
      { "env", 'echo "$SEGUE_SLICE"' } } do
      case = module.start { modules = ([[web = { kind = "process", config = "web", slice = %q,
        argv = { "/bin/sh", "-c", %q, "{slice}", "{generation}" } },]]):format(way[1],
        "{ " .. way[2] .. "; } >> log; echo generation $1 >> log; exec sleep 1000") }
      case:has "generation 1\n"
      assert.equal(way[1] == "file" and 2 or 1, case:count '{"v":1}\n')
      local files = uv.fs_scandir(case.d.dir:at ".segue/process")
      assert.equal(way[1] == "file", files ~= nil)
      assert.equal(0, case:stop())
      assert.is_nil(files and uv.fs_scandir_next(uv.fs_scandir(case.d.dir:at ".segue/process")))
    end
  end)

  it("logs the lines of its output, cut and counted past the rate", function()
    start([[echo out; echo err >&2; printf '%080d\n' 0; until [ -e go ]; do sleep 0.01; done
      i=0; while [ $i -lt 300 ]; do echo flood; i=$((i + 1)); done; echo done >> log
      exec sleep 1000]], 'lines = "10/s", line_size = 20, ready = { line = "out" }')
    case.d:wait_log "process: out module=web pid=%d+ stream=stdout cut=0"
    case.d:wait_log "process: err .-stream=stderr"
    case.d:wait_log "process: 00000000000000000000 .-cut=1"
    case.d.dir:write("go", "")
    case:has "done"
    wait.until_true(function() return (case:metric "output_lost_total") > 200 end)
  end)

  it("is stopped with its group by KILL where it ignores its kill signal", function()
    start([[trap '' USR1; sleep 1000 & echo $! > grandchild; echo runs >> log
      while :; do sleep 0.02; done]], 'kill_signal = "USR1", kill_after = "50ms"')
    case:has "runs"
    local grandchild = tonumber(case.d.dir:read "grandchild")
    assert.equal(0, case:stop())
    wait.until_true(function() return not module.alive(grandchild) end)
  end)

  it("does not outlive a daemon that is killed", function()
    start "echo runs >> log; exec sleep 1000"
    case:has "runs"
    local pid = case:child()
    case.d.process:kill "kill"
    case.d:wait_exit()
    wait.until_true(function() return not module.alive(pid) end)
  end)

  it("is stopped when the policy drops it", function()
    start(module.loyal, 'slice = "file"')
    case:has "start"
    local pid = case:child()
    case:set ""
    assert.equal("applied", case:change("web: {v: 1}\n").outcome)
    wait.until_true(function() return not module.alive(pid) end)
    case:has "term"
  end)

  it("is refused with a program that is missing, before the running one is touched", function()
    start(module.loyal, 'slice = "file"')
    case:has "start"
    local pid = case:child()
    case:set 'web = { kind = "process", argv = { "./missing" } },'
    local answer = case:change "web: {v: 2}\n"
    assert.equal("rejected", answer.outcome)
    said(answer, "missing")
    assert.equal(pid, case:child())
    assert.equal(0, case:count "term")
  end)

  it("has options that are validated with their place", function()
    for _, bad in ipairs { { "listen = 'http://127.0.0.1:1'", "its own addresses" },
      { "start = '1s'", "use ready" }, { "replace = 'swap'", '"restart" or "handover"' },
      { "rlimits = { nofile = 'x' }", "SOFT:HARD" }, { "rlimits = { files = 1 }", "no resource" },
      { "ready = { line = 'x', port = '127.0.0.1:1' }", "must have one of" },
      { "ready = { port = 'x' }", "ready.port" }, { "reload = 'HUP', slice = 'env'", "restart" },
      { "reload = { notify = true }", "with a signal" }, { "ready = { http = 'x' }", "URL" },
      { "stdout = 'none', stderr = 'none', ready = { line = 'x' }", "stdout or stderr" },
      { "user_group = 'x'", "with user" }, { "env = { ['a=b'] = '1' }", "names of variables" } } do
      local folder = segue.folder { policy = ([[local segue = require "segue"
        return { name = "x", sources = { segue.value { a = 1 } },
          modules = { web = { kind = "process", argv = { "true" }, %s } } }]]):format(bad[1]) }
      local run = segue.cli { "check", "-c", folder.dir:at "reload.lua" }
      assert.is_true(run.code ~= 0 and run:describe():find(bad[2], 1, true) ~= nil,
        bad[1] .. ": " .. run:describe())
    end
  end)
end)

describe("the readiness of a child", function()
  it("is a message of the child itself, and not of its children", function()
    start("(" .. notify .. "READY=1); echo forged >> log; exec " .. notify .. "READY=1 wait",
      'ready = "notify"')
    case:has "forged"
    case.d:wait_log "a message of the child was refused"
    case.d:wait_log "the child is ready"
    assert.equal(1, case:metric "up")
    case:stop()
  end)

  it("is a message of its session where the policy allows that", function()
    start(notify .. "READY=1 wait & exec sleep 1000", 'ready = { by = "notify", from = "all" }')
    assert.equal(1, case:metric "up")
  end)

  it("is a line on a descriptor, a line of output, a command, a port", function()
    for _, ready in ipairs { { 'echo >&$0', '"fd"', '"{fd:ready}"' },
      { "echo one; echo two", '{ line = "tw" }' },
      { "touch file", '{ command = { "test", "-e", "file" } }' },
      { "exec perl -MIO::Socket::INET -e '" ..
        "$s = IO::Socket::INET->new(Listen => 5, LocalAddr => $ARGV[0]); sleep 1000' $0",
        '{ port = "@PORT@" }', '"@PORT@"' } } do
      local address = "127.0.0.1:" .. require("spec.support.port").free()
      case = module.start { modules = (([[web = { kind = "process", ready = %s,
        argv = { "/bin/sh", "-c", %q, %s } },]]):format(ready[2], ready[1] .. "; exec sleep 1000",
        ready[3] or ""):gsub("@PORT@", address)) }
      assert.equal(1, case:metric "up", ready[2])
      case:stop()
    end
  end)

  it("that never comes fails the reload with the last output; the old child runs on", function()
    start(module.loyal, 'slice = "file", replace = "handover", ready = { line = "listens" }')
    case:has "start"
    local pid = case:child()
    case:set(module.module("echo no such port; exec sleep 1000",
      'replace = "handover", ready = { line = "listens", within = "100ms" }'))
    local answer = case:change "web: {v: 2}\n"
    assert.equal("reverted", answer.outcome)
    said(answer, "was not ready after 0.1 s")
    said(answer, "no such port")
    assert.equal(pid, case:child())
    assert.equal(0, case:count "term")
  end)

  it("that never comes starts the old child again with the old slice after a restart", function()
    start(module.loyal, 'slice = "file", ready = { line = "listens" }')
    case:has 'start {"v":1}'
    case:set(module.module("exit 3", 'slice = "file", ready = { line = "listens" }'))
    local answer = case:change "web: {v: 2}\n"
    assert.equal("reverted", answer.outcome)
    said(answer, "exited with code 3")
    wait.until_true(function() return case:count 'start {"v":1}' == 2 end)
    assert.equal(0, case:count 'v":2')
  end)
end)

describe("a change", function()
  it("of other parts of the configuration does not touch the child", function()
    start(module.loyal, 'slice = "file", reload = "HUP"')
    case:has "start"
    local pid = case:child()
    assert.equal("applied", case:change("web: {v: 1}\nother: 1\n").outcome)
    assert.equal("applied", case:change("web: {v: 2}\nother: 1\n").outcome)
    case:has 'hup {"v":2}'
    assert.equal(1, case:count "hup")
    assert.equal(pid, case:child())
    case:set(module.module(module.loyal, 'slice = "file", reload = "HUP", stable = "2m"'))
    assert.equal("applied", case:change("web: {v: 2}\nother: 1\n").outcome)
    assert.equal(pid, case:child())
    -- The child handles a signal later than the answer comes.
    assert.equal(1, case:metric "reloads_total")
  end)

  it("of its slice that is undone delivers the slice of before", function()
    start(module.loyal, 'slice = "file", reload = "HUP"', { more = [[
      confirm = { within = "60s", failures = 1, probe = function()
        if segue.read("config.yaml"):find "v: 1" then return true end
        while not segue.read("log"):find('hup {"v":2}', 1, true) do segue.sleep "10ms" end
        return nil, "not this one" end },]] })
    case:has "start"
    local pid = case:child()
    assert.equal("reverted", case:change("web: {v: 2}\n").outcome)
    wait.until_true(function() return case:count 'hup {"v":1}' == 1 end)
    assert.equal(pid, case:child())
  end)

  it("restarts a child that has no reload", function()
    start(module.loyal, 'slice = "file"')
    case:has 'start {"v":1}'
    assert.equal("applied", case:change("web: {v: 2}\n").outcome)
    case:has 'start {"v":2}'
    assert.equal(1, case:count "term")
  end)

  it("is confirmed by RELOADING and READY, by a command, or fails", function()
    start([[exec perl -MSocket -e '$a = $ENV{NOTIFY_SOCKET}; $a =~ s/^@/\0/;
      socket(S, AF_UNIX, SOCK_DGRAM, 0); sub n { send(S, $_[0], 0, pack_sockaddr_un($a)) }
      $SIG{HUP} = sub { open(F, "<", $ENV{SEGUE_SLICE_FILE}); return if <F> !~ /2/;
        n("RELOADING=1"); n("READY=1") };
      n("READY=1"); sleep 1000 while 1']], [[slice = "file", ready = "notify",
      reload = { signal = "HUP", notify = true, within = "200ms" }]])
    assert.equal("applied", case:change("web: {v: 2}\n").outcome)
    case.d:wait_log "reload=confirmed"
    local answer = case:change "web: {v: 3}\n"
    assert.equal("reverted", answer.outcome)
    said(answer, "it sent no RELOADING=1")
  end)

  it("by a command whose failure fails the reload", function()
    start(module.loyal, [[slice = "file", reload = { command = { "/bin/sh", "-c",
      "cp .segue/process/*.json seen; grep -q 2 seen" } }]])
    case:has "start"
    assert.equal("applied", case:change("web: {v: 2}\n").outcome)
    assert.equal("reverted", case:change("web: {v: 3}\n").outcome)
    assert.equal('{"v":2}\n', case.d.dir:read "seen")
    assert.equal(0, case:count "term")
  end)
end)

-- Answers requests on its first argument: 503 to the first one, 500 where the file `broken` is
-- there, which it removes, else 200. The file `log` has the requests.
local http_child = [[exec perl -MIO::Socket::INET -e '
  $s = IO::Socket::INET->new(Listen => 5, LocalAddr => $ARGV[0], ReuseAddr => 1) or die;
  while ($c = $s->accept) {
    $request = <$c>;
    while (<$c>) { last if /^\r$/ }
    open(L, ">>", "log"); print L $request; close L;
    $code = !$asked++ ? 503 : unlink("broken") ? 500 : 200;
    print $c "HTTP/1.1 $code X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    close $c;
  }' $0]]

describe("a child that is asked over HTTP", function()
  it("is ready when it answers 200, and reloaded by a request, whose failure counts", function()
    local address = "127.0.0.1:" .. require("spec.support.port").free()
    case = module.start { modules = (([[web = { kind = "process", config = "web", slice = "file",
      argv = { "/bin/sh", "-c", %q, "@AT@" }, ready = { http = "http://@AT@/healthz" },
      reload = { http = "http://@AT@/-/reload" } },]]):format(http_child):gsub("\\\n", "\\n")
      :gsub("@AT@", address)) }
    assert.is_true(case:count "GET /healthz HTTP/1.1" >= 2) -- the first answer was 503
    assert.equal(1, case:metric "up")
    local pid = case:child()
    assert.equal("applied", case:change("web: {v: 2}\n").outcome)
    assert.equal(1, case:count "POST /%-/reload HTTP/1.1")
    case.d.dir:write("broken", "")
    local answer = case:change "web: {v: 3}\n"
    assert.equal("reverted", answer.outcome)
    said(answer, "500")
    wait.until_true(function() return case:count "POST /%-/reload HTTP/1.1" == 3 end) -- the undo
    assert.equal(pid, case:child())
  end)
end)

describe("a child with a user", function()
  it("runs as that user and group, and gets no file that it cannot read", function()
    local line = 'echo "$(id -un):$(id -gn) $SEGUE_SLICE"; exec sleep 1000'
    start(line, 'cwd = "/", slice = "env", user = "nobody", user_group = "games"')
    case.d:wait_log 'nobody:games {"v":1}'
    local pid = case:child()
    case:set(module.module(line,
      'cwd = "/", slice = "file", replace = "handover", user = "nobody"'))
    local answer = case:change "web: {v: 1}\n"
    assert.equal("reverted", answer.outcome)
    said(answer, "cannot enter the folder " .. case.d.dir:at ".segue")
    assert.equal(pid, case:child())
  end)
end)

describe("a child that ends by itself", function()
  it("is started again within its budget, then the module has failed", function()
    start("echo start >> log; until [ -e die ]; do sleep 0.02; done; exit 4",
      'budget = { restarts = 2, within = "10m" }, backoff = "1ms"')
    case:has "start"
    local pid = case:child()
    uv.kill(pid, "sigkill")
    wait.until_true(function() return case:metric "restarts_total" == 1 and case:child() ~= pid end)
    assert.equal(200, case.d:control("/-/ready").status)
    case.d.dir:write("die", "")
    case.d:wait_log "it was restarted 2 times in 600 s, no more"
    case.d.dir:delete "die"
    case.d:wait_log "module: recovered"
  end)

  it("stays away where its rule is never, or it is done and the rule is on-failure", function()
    start("exit 3", 'restart = "on-failure", success = { 3 }')
    case.d:wait_log "exited with code 3"
    assert.equal(0, case:metric "restarts_total")
    assert.equal(200, case.d:control("/-/ready").status)
    case:stop()
    start("echo start >> log; sleep 0.05; exit 3", 'restart = "never"')
    case.d:wait_log "an instance reported that it failed"
  end)

  it("while its change can be undone fails that reload", function()
    start(module.loyal, 'slice = "file", reload = "HUP"', { more = [[
      confirm = { within = "60s", probe = function()
        return segue.read("config.yaml"):find "v: 1" ~= nil, "not yet" end },]] })
    case:has "start"
    case.d.dir:save("config.yaml", "web: {v: 2}\n")
    case.d.process:kill "hup"
    case:has 'hup {"v":2}'
    uv.kill(case:child(), "sigkill")
    wait.until_true(function() return case:count 'start {"v":1}' == 2 end)
    case.d:wait_log "reverted"
  end)

  it("is killed and started again where it sends no message to its watchdog", function()
    start("echo start >> log; exec " .. notify .. "READY=1 wait",
      'ready = "notify", watchdog = "100ms"')
    case.d:wait_log "sent no WATCHDOG=1 for 0.1 s and was killed"
    wait.until_true(function() return case:count "start" > 1 end)
  end)
end)

describe("sockets of a child", function()
  -- Ends between two requests.
  local server = [[perl -MSocket -e 'open(L, "+<&=", $ARGV[0]); print "$ENV{LISTEN_FDS} " .
    "$ENV{LISTEN_FDNAMES} ", $ENV{LISTEN_PID} == $$ ? "mine" : "other", "\n"; $| = 1;
    $SIG{$_} = sub { $end = 1 } for qw(USR1 TERM);
    while (!$end && accept(C, L)) { sysread(C, $x, 99); syswrite(C, "$ARGV[1]\n"); close(C) }' ]]
  -- Connects and reads the answer; nil and the error where that fails.
  local function ask(port)
    local socket, done, text, problem = uv.new_tcp(), false, "", nil
    socket:connect("127.0.0.1", port, function(err)
      problem = err
      if err then done = true return end
      socket:write "x"
      socket:read_start(function(failed, data)
        problem, text, done = failed, text .. (data or ""), failed or not data
      end)
    end)
    wait.until_true(function() return done end, nil, "an answer")
    socket:close()
    return not problem and text, problem
  end

  it("outlive it: 100 restarts under connecting clients refuse none", function()
    local port = require("spec.support.port").free()
    case = module.start { modules = module.module("exec " .. server .. "{fd:web} {generation}",
      ('sockets = { web = "127.0.0.1:%d" }, budget = { restarts = 1000 }, backoff = "1ms",'
        .. 'backoff_max = "1ms"'):format(port)) }
    assert.equal("1\n", ask(port))
    case.d:wait_log "process: 1 web mine"
    for i = 1, 100 do
      local pid = case:child()
      uv.kill(pid, "sigusr1")
      assert.equal("1\n", ask(port), "restart " .. i)
      wait.until_true(function() return case:child() ~= pid end)
    end
    assert.equal(100, case:metric "restarts_total")
  end)

  it("are those of the next child, in a restart and in a handover", function()
    for _, way in ipairs { "restart", "handover" } do
      local port = require("spec.support.port").free()
      case = module.start { modules = module.module("exec " .. server .. "{fd:web} {generation}",
        ('sockets = { web = "127.0.0.1:%d" }, replace = %q'):format(port, way)) }
      assert.equal("1\n", ask(port))
      assert.equal("applied", case:change("web: {v: 2}\n").outcome)
      wait.until_true(function() return ask(port) == "2\n" end)
      case:child()
      case:stop()
      case = nil
    end
  end)

  it("of UDP are not handed over, and a wrong address is refused", function()
    for socket, text in pairs { ["udp://127.0.0.1:9"] = "the datagrams", x = "sockets.web" } do
      local folder = segue.folder { policy = ([[local segue = require "segue"
        return { name = "x", sources = { segue.value { a = 1 } }, modules = { web = {
          kind = "process", argv = { "true" }, replace = "handover",
          sockets = { web = %q } } } }]])
        :format(socket) }
      local run = segue.cli { "check", "-c", folder.dir:at "reload.lua" }
      assert.is_true(run.code ~= 0 and run:describe():find(text, 1, true) ~= nil, run:describe())
    end
  end)
end)
