-- SPDX-License-Identifier: MIT
-- segue.run: commands from policies, with real children: what they print, how they end, whom they
-- run as, and that nothing of them outlives the task that wanted them.
local async = require "spec.support.async"
local fresh = require "spec.support.fresh"

describe("segue.run", function()
  local a
  local open, close = fresh(async.open, function(opened) a = opened end)

  it("returns the exit and the output of a command", function()
    a:run [[
      local r = segue.run { "sh", "-c", "echo out; echo err >&2; exit 3" }
      eq("out\n", r.stdout) eq("err\n", r.stderr) eq(3, r.code) eq(nil, r.signal)
      eq(false, r.ok) eq(false, r.truncated) eq(false, r.timed_out) eq("number", type(r.seconds))
      like("exited with code 3: err$", r.message)
      r = segue.run { argv = { "true" } }
      eq(true, r.ok) eq(nil, r.message) eq(0, r.code) eq("", r.stdout)
      r = segue.run { "sh", "-c", "kill -USR1 $$" }
      eq("USR1", r.signal) eq(nil, r.code) like("was ended by signal USR1$", r.message)
    ]]
  end)

  it("reports the last ten lines of the output of a failed command, errors first", function()
    a:run [[
      local function message(script)
        return segue.run({ "sh", "-c", script .. "; exit 1" }).message:match("code 1:? ?(.*)$")
      end
      eq("nginx: [emerg] unknown directive in nginx.conf:3; nginx: test failed", message [=[
        echo "nginx: [emerg] unknown directive in nginx.conf:3" >&2
        echo "nginx: test failed" >&2]=])
      eq("Fatal: c; ERROR d; a; b; e",
        message "printf 'a\\n\\nb\\n  \\nFatal: c\\nERROR d\\ne\\n' >&2")
      eq("11; 12; 13; 14; 15; 16; 17; 18; 19; 20", message "seq 20 >&2")
      eq("out", message "echo out")
      eq("", message "true")
      local long = message "echo error first >&2; printf '%0400d\\n' 1 2 3 >&2"
      like("^error first; 000", long) like("%.%.%.$", long) eq(403, #long)
    ]]
  end)

  it("uses no shell unless it is asked to", function()
    a:run [[
      eq("$HOME;`id` *\n", segue.run { "echo", "$HOME;`id` *" }.stdout)
      eq("2\n", segue.run { shell = "echo $((1 + 1))" }.stdout)
      eq("7 1000000000000000\n", segue.run { "echo", 7, 1e15 }.stdout)
    ]]
  end)

  it("takes standard input, folder and environment", function()
    a.dir:mkdir("sub")
    a:run [[
      eq("a\0b", segue.run { "cat", stdin = "a\0b" }.stdout)
      eq("", segue.run { "cat" }.stdout)
      local here = segue.run({ "pwd" }).stdout
      eq(here:gsub("\n", "/sub\n"), segue.run({ "pwd", cwd = "sub" }).stdout)
      eq("/\n", segue.run({ "pwd", cwd = "/" }).stdout)
      local r = segue.run { shell = 'echo "$A-$B-$HOME-$NOTIFY_SOCKET-${PATH:+path}"',
        env = { A = "x", B = 2, HOME = false } }
      eq("x-2---path\n", r.stdout)
    ]]
  end)

  it("hides the variables of the service manager from commands", function()
    require("spec.support.c").setenv("NOTIFY_SOCKET", "/run/notify", 1)
    require("spec.support.c").setenv("LISTEN_FDS", "3", 1)
    a:run [[ eq(nil, segue.run { "env" }.stdout:match("NOTIFY_SOCKET") or nil)
      eq(nil, segue.run { "env" }.stdout:match("LISTEN_FDS"))
      eq("mine\n", segue.run { shell = "echo $LISTEN_FDS", env = { LISTEN_FDS = "mine" } }.stdout)]]
  end)

  it("runs as another user, with that user's groups and home", function()
    a:run [[
      local r = segue.run { "sh", "-c", "id -u; id -g; id -G; echo $USER $LOGNAME $HOME; pwd",
        user = "nobody", cwd = "/" }
      eq("65534\n65534\n65534\nnobody nobody /nonexistent\n/\n", r.stdout)
      eq("x\n", segue.run({ shell = "echo $HOME", user = "65534", env = { HOME = "x" },
        cwd = "/" }).stdout)
      local none, why, code = segue.run { "id", user = "no-such-user" }
      eq(nil, none) eq("ENOENT", code)
      eq("cannot run id as user no-such-user: there is no such user", why)
      local _, denied = segue.run { "/bin/true", user = "nobody", cwd = "/root" }
      eq("cannot run /bin/true in folder /root as user nobody: permission denied", denied)
    ]]
  end)

  it("has default actions for signals that the daemon ignores", function()
    a:run [[ for _, user in ipairs { "root", "nobody" } do
      local r = segue.run { "grep", "-E", "^Sig(Ign|Blk)", "/proc/self/status", user = user,
        cwd = "/" }
      local blocked, ignored = r.stdout:match("SigBlk:\t(%x+)\nSigIgn:\t(%x+)")
      eq("0000000000000000", blocked)
      -- 32 and 33 are the C library's own: no program can set or send them
      eq(0, tonumber(ignored:sub(-8), 16) % 2 ^ 31)
    end ]]
  end)

  local failures = {
    { 'segue.run { "no-such-program" }', "no such program in PATH", "ENOENT" },
    { 'segue.run { "./reload.lua" }', "is not executable", "EACCES" },
    { 'segue.run { "true", cwd = "none" }', "in folder .*/none: ", "ENOENT" },
    { 'segue.run { "/" }', "it is a folder", "EISDIR" },
  }
  for _, case in ipairs(failures) do
    it("returns why a command cannot be started: " .. case[1], function()
      a:run(([[local r, why, code = %s
        eq(nil, r) like(%q, why) eq(%q, code)]]):format(case[1], case[2], case[3]))
    end)
  end

  local misuses = {
    { 'segue.run "ls -l"', 'segue.run: a text is not run: write segue.run { "program"' },
    { "segue.run {}", 'segue%.run must have one of a list, argv and shell, such as { "nginx",' },
    { 'segue.run { "a", shell = "b" }', "segue%.run must have one of a list, argv and shell," },
    { 'segue.run { "a", argv = { "b" } }', "is argv, which is also given by its name" },
    { "segue.run { argv = {} }", "segue%.run: argv must begin with the name of a program" },
    { 'segue.run { "" }', "segue%.run: argv must begin with the name of a program" },
    { 'segue.run { "a", {} }', "argv%[2%] must be a text, not a table" },
    { 'segue.run { "a\\0b" }', "segue%.run: argv must not contain a zero byte" },
    { 'segue.run { "a", tiemout = 1 }', "segue%.run: tiemout is not a known key here: did you" },
    { 'segue.run { "a", timeout = "soon" }', "segue%.run: timeout must be a duration such as" },
    { 'segue.run { "a", max_output = 0 }', "segue%.run: max_output must be at least 1B, not 0" },
    { 'segue.run { "a", env = { ["A=B"] = "x" } }', "segue%.run: env must have names of" },
    { 'segue.run { "a", env = { A = true } }', "segue%.run: env%.A must be a text or false, not" },
    { "segue.run(7)", "segue%.run: argv must be a list of texts, not 7" },
  }
  for _, case in ipairs(misuses) do
    it("throws at the caller's line: " .. case[1], function()
      a:run(([[local ok, why = pcall(function()
        %s end)
        eq(false, ok) like("reload.lua:%%d+: ", why) like(%q, why)]]):format(case[1], case[2]))
    end)
  end

  describe("at its time limit", function()
    it("ends the command", function()
      a:run [[
        local r = segue.run { "sleep", "60", timeout = "100ms" }
        eq(true, r.timed_out) eq("TERM", r.signal) eq(false, r.ok)
        eq("sleep 60 took longer than 0.1 s and was stopped", r.message)
      ]]
    end)
    it("kills a process that ignores TERM, with all of its grandchildren", function()
      a:run [[
        local r = segue.run { shell = "trap '' TERM; "
          .. "sh -c \"trap '' TERM; echo \\$\\$; sleep 61\" & echo $$; sleep 62; wait",
          timeout = "300ms", kill_after = "100ms" }
        eq("KILL", r.signal) eq(true, r.timed_out)
        local n = 0
        for pid in r.stdout:gmatch("%d+") do
          n = n + 1
          print("pid", pid)
        end
        eq(2, n)
      ]]
      for pid in a:logged():gmatch("pid (%d+)") do
        a:pump(function()
          local file = io.open("/proc/" .. pid .. "/stat") -- gone, or a zombie of init's
          local state = file and file:read("*a"):match("%) (%u)")
          if file then file:close() end
          return not state or state == "Z"
        end, 5000, "the end of " .. pid)
      end
    end)
  end)

  describe("with much output", function()
    it("keeps the allowed part of 100 MB, and reports the rest as truncated", function()
      a:run [[
        local r = segue.run { shell = "head -c 100000000 /dev/zero; echo end >&2",
          max_output = 100000 }
        eq(100000, #r.stdout) eq(true, r.truncated) eq("end\n", r.stderr) eq(0, r.code)
      ]]
    end)
    it("does not exceed the policy's memory limit by memory outside of Lua", function()
      open { memory = 16 * 1024 * 1024 }
      a:run [[
        local r, why, code = segue.run { shell = "head -c 100000000 /dev/zero",
          max_output = 1000000000 }
        eq(nil, r) eq("SEGUE_ELIMIT", code) like("more than the policy's 16 MiB of memory", why)
        eq(true, segue.run({ "true" }).ok)
      ]]
    end)
    it("passes the output on as it arrives, in the task, which may wait", function()
      a:run [[
        local n, chunks = 0, 0
        local r = segue.run { shell = "seq 1 200000; sleep 0.05; echo last >&2",
          on_output = function(stream, chunk)
            if stream == "stderr" then eq("last\n", chunk) end
            n, chunks = n + #chunk, chunks + 1
            if chunks < 5 then segue.sleep("20ms") end
          end }
        eq(1288895 + 5, n) eq(1048576, #r.stdout) eq(true, r.truncated)
      ]]
    end)
    it("blocks a command while the task does not read its output", function()
      a:run [[
        local most, seen = 0, 0
        segue.run { shell = "i=0; while [ $i -lt 400 ]; do head -c 65536 /dev/zero; i=$((i+1)); "
          .. "echo $i > progress; done", on_output = function(_, chunk)
            seen = seen + #chunk
            if seen > 200000 and most == 0 then
              segue.sleep("200ms")
              most = tonumber((segue.read("progress")))
            end
          end }
        eq(400 * 65536, seen)
        is_true(most < 100, most)
      ]]
    end)
    it("stops the command when on_output raises an error", function()
      local answer = a:attempt [[
        segue.run { shell = "echo $$ > pid; echo x; exec sleep 60",
          on_output = function() error("enough") end }]]
      assert.equal("enough", answer.message)
      a:unload()
      a:pump(function() return #async.children() == 0 end, 5000, "the end of the command")
    end)
  end)

  describe("when its task is over", function()
    local function started()
      return a:pump(function() return a.dir:read("pid") and tonumber(a.dir:read("pid")) end)
    end
    it("is ended by the hook's time limit", function()
      local call = a:start(assert(a:policy [[
        segue.run { shell = "echo $$ > pid; exec sleep 60" }]]), 300)
      local pid = started()
      a:pump(function() return call.over end)
      assert.equal("SEGUE_ETIMEOUT", a:answer(call).status)
      a:pump(function() return not async.alive(pid) end)
    end)
    it("is ended with its policy", function()
      local call = a:start(assert(a:policy [[
        segue.run { shell = "echo $$ > pid; exec sleep 60" }]]))
      local pid = started()
      a:unload()
      a:pump(function() return call.over end)
      a:pump(function() return not async.alive(pid) end)
    end)
    it("is killed before the loop can close, even if it ignores TERM", function()
      local call = a:start(assert(a:policy [[
        segue.run { shell = "trap '' TERM; echo $$ > pid; while :; do sleep 1; done",
          kill_after = "200ms" }]]))
      local pid = started()
      close()
      assert.is_true(call ~= nil)
      assert.is_false(async.alive(pid))
    end)
    it("is ended by cancel, and the task with it", function()
      a:run [[
        local t = segue.spawn(function() segue.run { shell = "echo $$ > pid; exec sleep 60" } end)
        while (segue.read("pid") or "") == "" do segue.sleep "5ms" end
        t:cancel()
        local r, why, code = t:wait()
        eq(nil, r) eq("segue.spawn was cancelled", why) eq("SEGUE_ECANCELLED", code)
        eq("cancelled", t:status())
      ]]
      local pid = tonumber(a.dir:read("pid"))
      a:pump(function() return not async.alive(pid) end)
    end)
  end)

  describe("where nothing can wait", function()
    local bodies = {
      { "in a coroutine of the policy's own",
        "local _ = coroutine.wrap(function() segue.run { 'touch', 'mark' } end)()",
        "cannot wait inside a coroutine of the policy's own" },
      { "below gsub", "('x'):gsub('x', function() segue.run { 'touch', 'mark' } end)",
        "cannot wait here" },
      { "below sort", "table.sort({ 2, 1 }, function() segue.run { 'touch', 'mark' } end)",
        "cannot wait here" },
    }
    for _, case in ipairs(bodies) do
      it("is an error before anything was started: " .. case[1], function()
        local answer = a:attempt(case[2])
        assert.matches(case[3], answer.message)
        a:turn()
        assert.is_nil(a.dir:read("mark"))
        assert.equal(0, #async.children())
      end)
    end
    it("is an error while the policy is loaded", function()
      local policy, why = a:policy("", "name = segue.run { 'touch', 'mark' } and 'x',")
      assert.is_nil(policy)
      assert.matches("cannot wait while it is being loaded", why)
      a:turn()
      assert.is_nil(a.dir:read("mark"))
    end)
  end)

  it("runs a hundred commands at a time, and refuses more than its limit", function()
    a:run [[
      local jobs = {}
      for i = 1, 100 do jobs[i] = function() return segue.run({ "echo", i }).stdout end end
      local r = segue.all(jobs)
      for i = 1, 100 do eq(i .. "\n", r[i]) end
      for i = 1, 300 do
        jobs[i] = function() return segue.run { "sleep", "30", timeout = "20s" } end
      end
      local none, why, code = segue.all(jobs)
      eq(nil, none) eq("EAGAIN", code) like("256 commands are running already", why)
    ]]
    a:pump(function() return #async.children() == 0 end, 10000, "the end of all")
  end)

  it("does not start a command again after its exit was read", function()
    a:run [[
      local core = require "segue.core"
      local io = core.run({ "true" }, nil, nil, nil, nil, 1000, 100, 100, false)
      eq(true, (io()))
      local ok, why = pcall(io)
      eq(false, ok) like("this operation has ended", why)
      ok, why = pcall(core.run, {}, nil)
      eq(false, ok) like("name of a program is missing", why)
      ok = pcall(core.run, { {} })
      eq(false, ok)
    ]]
  end)
end)

describe("segue.run with a collector that stops the world", function()
  it("runs commands, reads their output and ends them", function()
    async.stress = true
    local a = async.open()
    async.stress = false
    a:run [[
      eq("x", segue.run { "cat", stdin = "x" }.stdout)
      local n = 0
      segue.run { shell = "seq 1 2000", on_output = function(_, c) n = n + #c end }
      eq(8893, n)
      local r = segue.all { function() return segue.run { "echo", "a" } end,
        function() return segue.read("reload.lua") end }
      eq("a\n", r[1].stdout)
      eq(nil, (segue.timeout("50ms", segue.run, { "sleep", "60" })))
    ]]
    a:close()
  end)
end)
