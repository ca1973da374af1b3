-- SPDX-License-Identifier: MIT
-- core/process/process.h: a child that is started, signalled, stopped and started again.
local C = require "spec.support.c"
local LoopCase = require "spec.support.loop_case"
local plugin = require "spec.support.plugin"
local process = require "spec.support.process"
local uv = require "luv"
local ffi = C.ffi

local case, loop, dir, p
local ends -- of its children, in order
local watcher -- the descriptor that gets their process groups; nil: none

before_each(function()
  case = LoopCase.open()
  loop, dir, ends = case.loop, case.dir, {}
end)
after_each(function()
  if p then
    C.segue__process_kill(p.ptr)
    loop:run_until(function() return not C.segue__process_runs(p.ptr) end)
    C.segue__process_free(p.ptr)
  end
  p = nil
  C.segue__fault_arm(nil)
  case:close()
end)

local function strings(list)
  local array = ffi.new("const char *[?]", #list + 1)
  for i, s in ipairs(list) do array[i - 1] = s end
  return array
end

--- A process that is not started: its program is a line for a shell, in the folder of the spec.
local function new(...)
  local argv = { ... }
  p = { keep = { strings(argv), argv } }
  local options, out = ffi.new "segue__process_options[1]", ffi.new "segue__process *[1]"
  local o = options[0]
  o.size, o.loop, o.os, o.argv = ffi.sizeof(o), loop.ptr, C.segue__os_default(), p.keep[1]
  o.watcher = watcher or 0
  o.on_end = loop:cb("void (*)(void *, const segue__child_exit *)", function(_, e)
    ends[#ends + 1] = { code = e.exit_code, signal = e.term_signal, stopped = e.stopped }
    if p.at_end then p.at_end() end
  end)
  assert.equal(0, C.segue__process_new(out, options))
  p.ptr = out[0]
  return p
end

local function start(o)
  local manner, e = ffi.new "segue__process_manner[1]", C.error()
  o = o or {}
  manner[0] = { o.kill_signal or 0, o.kill_ms or 0, o.group or false, o.at_once or false }
  local env = { "PATH=" .. os.getenv "PATH", "D=" .. dir.path }
  local rc = C.segue__process_start(p.ptr, strings(env), manner, e)
  if rc < 0 then return nil, C.err(e).name, C.err(e).message end
  p.pid = C.segue__process_pid(p.ptr)
  return p.pid
end

local function sh(line, o)
  new("/bin/sh", "-c", line)
  return assert(start(o))
end
local function wait_file(name)
  loop:run_until(function() return uv.fs_stat(dir:at(name)) end)
end
local function wait_end(count)
  loop:run_until(function() return #ends >= (count or 1) end)
  return ends[count or 1]
end

--- Sends a reload signal; returns a table that gets the status and the message.
local function reload(signum)
  local answer, e = {}, C.error()
  assert.equal(0, C.segue__process_reload(p.ptr, signum,
    loop:cb("void (*)(void *, int, const segue_error *)", function(_, status, err)
      answer.status = status
      answer.message = err ~= nil and C.err(err).message or nil
    end), nil, e))
  assert.is_nil(answer.status)
  return answer
end

describe("a process", function()
  it("reports the exit code, and the signal that ended it, of each child it starts", function()
    sh 'test -e "$D/second" && kill -KILL $$; touch "$D/second"; exit 7'
    assert.same({ code = 7, signal = 0, stopped = false }, wait_end(1))
    assert.is_false(C.segue__process_runs(p.ptr))
    assert.equal(0, C.segue__process_pid(p.ptr))
    assert(start())
    assert.same({ code = -1, signal = 9, stopped = false }, wait_end(2))
  end)

  it("may start the next child when one has ended", function()
    sh 'n=$(cat "$D/n" 2>/dev/null || echo 0); echo $((n + 1)) > "$D/n"; exit $n'
    p.at_end = function() if #ends < 3 then assert(start()) end end
    wait_end(3)
    assert.same({ 0, 1, 2 }, { ends[1].code, ends[2].code, ends[3].code })
  end)

  it("names the program that cannot be run, and can be started again", function()
    new(dir:at "missing")
    local _, name, message = start()
    assert.equal("ENOENT", name)
    assert.truthy(message:find(dir:at "missing", 1, true), message)
    local path = dir:write("missing", "#!/bin/sh\nexit 3\n")
    assert.equal("EACCES", select(2, start()))
    assert(uv.fs_chmod(path, tonumber("755", 8)))
    assert(start())
    assert.equal(3, wait_end().code)
  end)

  it("reports a start that fails, leaves nothing behind, and can be started again", function()
    new("/bin/sh", "-c", "exit 3")
    for point, why in pairs { ["process.start"] = "resource temporarily unavailable",
      ["child.clone"] = "no process for it: ", ["child.watch"] = "it cannot be watched: " } do
      C.segue__fault_arm(point .. "=fail:-11")
      local _, _, message = start()
      C.segue__fault_arm(nil)
      assert.truthy(message:find("cannot run /bin/sh: " .. why, 1, true), message)
    end
    assert.is_false(C.segue__process_runs(p.ptr))
    assert.same({}, ends)
    assert(start())
    assert.equal(3, wait_end().code)
  end)

  it("reports each allocation of a start that fails, and runs no child then", function()
    new("/bin/sh", "-c", "exit 3")
    local failed, n, pid, name = 0, 1
    repeat
      C.segue__mem_fail_at(n)
      pid, name = start()
      C.segue__mem_fail_at(0)
      assert.equal(pid ~= nil, C.segue__process_runs(p.ptr))
      if not pid then
        assert.equal("ENOMEM", name)
        failed, n = failed + 1, n + 1
      end
    until pid
    assert.is_true(failed >= 2)
    assert.equal(3, wait_end().code)
  end)

  it("runs its child in a group of its own, in this session, with no descriptor but 0 to 2",
    function()
      local leak = assert(io.open(dir:write("leak", ""), "r"))
      local pid = sh([[ls -l /proc/$$/fd > "$D/fds"
        sed 's/.*) //' /proc/$$/stat > "$D/stat"; touch "$D/ready"; sleep 60]])
      wait_file "ready"
      leak:close()
      local group, session = dir:read("stat"):match("^%a %d+ (%d+) (%d+)")
      assert.equal(pid, tonumber(group))
      local ours = assert(io.open "/proc/self/stat")
      assert.equal(ours:read("*a"):match("%) %a %d+ %d+ (%d+)"), session)
      ours:close()
      assert.is_nil(dir:read("fds"):find("leak", 1, true))
    end)
end)

describe("a stop", function()
  it("sends the kill signal to the child only", function()
    sh([[sh -c 'trap "touch $D/hit; exit" TERM; touch "$D/inner"; while :; do sleep 0.01; done' &
      trap 'touch "$D/outer"; exit 5' TERM
      touch "$D/ready"; while :; do sleep 0.01; done]])
    wait_file "ready"
    wait_file "inner"
    C.segue__process_stop(p.ptr)
    assert.same({ code = 5, signal = 0, stopped = true }, wait_end())
    assert.is_nil(uv.fs_stat(dir:at "hit"))
  end)

  it("sends it to the whole group where that is the manner", function()
    sh([[sh -c 'trap "touch $D/hit; exit" USR1; touch "$D/inner"; while :; do sleep 0.01; done' &
      trap 'wait; exit 5' USR1
      touch "$D/ready"; while :; do sleep 0.01; done]], { kill_signal = 10, group = true })
    wait_file "ready"
    wait_file "inner"
    C.segue__process_stop(p.ptr)
    assert.equal(5, wait_end().code)
    assert(uv.fs_stat(dir:at "hit"))
  end)

  it("kills a child that ignores its signal, and its group, after the limit", function()
    sh([[trap '' TERM; sh -c 'trap "" TERM; echo $$ > "$D/inner"; while :; do sleep 0.01; done' &
      touch "$D/ready"; while :; do sleep 0.01; done]], { kill_ms = 50 })
    wait_file "ready"
    loop:run_until(function() return (dir:read "inner" or ""):find "%d\n" end)
    C.segue__process_stop(p.ptr)
    assert.same({ code = -1, signal = 9, stopped = true }, wait_end())
    local inner = tonumber(dir:read "inner")
    loop:run_until(function() return not process.is_alive(inner) end)
  end)

  it("uses a manner that was changed while the child runs", function()
    sh([[trap '' TERM; trap 'exit 6' INT; touch "$D/ready"; while :; do sleep 0.01; done]])
    wait_file "ready"
    C.segue__process_set_manner(p.ptr, ffi.new("segue__process_manner[1]", { { 2, 60000, false } }))
    C.segue__process_stop(p.ptr)
    assert.equal(6, wait_end().code)
  end)

  it("continues a child that job control has stopped", function()
    local pid = sh([[trap 'exit 4' TERM; touch "$D/ready"; while :; do sleep 0.01; done]])
    wait_file "ready"
    assert(uv.kill(pid, "sigstop"))
    loop:run_until(function() return C.segue__process_was_stopped(p.ptr) end)
    assert.is_false(C.segue__process_was_stopped(p.ptr))
    C.segue__process_stop(p.ptr)
    assert.equal(4, wait_end().code)
  end)
end)

describe("what a child leaves in its group", function()
  it("is killed when the child exits by itself", function()
    sh([[sleep 20 & echo $! > "$D/left"; exit 0]])
    assert.equal(0, wait_end().code)
    local left = tonumber(dir:read "left")
    loop:run_until(function() return not process.is_alive(left) end)
  end)
end)

describe("a reload signal", function()
  it("waits until the child has a handler for it", function()
    local pid = sh([[touch "$D/ready"; until [ -e "$D/go" ]; do sleep 0.01; done
      trap 'touch "$D/hup"' HUP; while :; do sleep 0.01; done]])
    local answer = reload(1)
    -- The child has no handler yet: the signal would end it.
    loop:run_until(function() return uv.fs_stat(dir:at "ready") end)
    assert.is_nil(answer.status)
    dir:write("go", "")
    wait_file "hup"
    assert.equal(0, answer.status)
    assert.same({}, ends)
    assert.equal(pid, C.segue__process_pid(p.ptr))
  end)

  it("does not wait for a child that blocks it, to read it by signalfd", function()
    plugin.program(dir:at "blocks", dir:write("blocks.c", [[
      #include <signal.h>
      #include <sys/signalfd.h>
      #include <unistd.h>
      int main(void) {
        struct signalfd_siginfo info;
        sigset_t set;
        sigemptyset(&set);
        sigaddset(&set, SIGHUP);
        sigprocmask(SIG_BLOCK, &set, NULL);
        int fd = signalfd(-1, &set, 0);
        return read(fd, &info, sizeof info) > 0 && info.ssi_signo == SIGHUP ? 7 : 8;
      }]]))
    sh("exec " .. dir:at "blocks")
    local answer = reload(1)
    assert.equal(7, wait_end().code)
    assert.equal(0, answer.status)
  end)

  it("goes at once to a child that reads it with sigwait(3), where that is the manner", function()
    plugin.program(dir:at "waits", dir:write("waits.c", [[
      #include <signal.h>
      #include <stdio.h>
      #include <stdlib.h>
      int main(void) {
        sigset_t set;
        int got;
        sigemptyset(&set);
        sigaddset(&set, SIGHUP);
        sigprocmask(SIG_BLOCK, &set, 0);
        char path[300];
        snprintf(path, sizeof path, "%s/ready", getenv("D"));
        fclose(fopen(path, "w"));
        return sigwait(&set, &got) ? 1 : 7;
      }]]))
    new(dir:at "waits")
    assert(start { at_once = true })
    wait_file "ready"
    local answer = reload(1)
    assert.equal(7, wait_end().code)
    assert.equal(0, answer.status)
  end)

  it("fails if the child installs no handler, and the child continues to run", function()
    uv.os_setenv("SEGUE_TEST_HANDLER_MS", "30")
    finally(function() uv.os_unsetenv "SEGUE_TEST_HANDLER_MS" end)
    sh([[touch "$D/ready"; while :; do sleep 0.01; done]])
    wait_file "ready"
    local answer = reload(10)
    loop:run_until(function() return answer.status end)
    assert.truthy(answer.message:find("has no handler for USR1 after 10 s", 1, true),
      answer.message)
    assert.truthy(answer.message:find("sigwait(3) needs reload_at_once = true", 1, true))
    assert.same({}, ends)
  end)

  it("fails where the child ends before it", function()
    sh([[sleep 0.05; exit 1]])
    local answer = reload(1)
    loop:run_until(function() return answer.status end)
    assert.truthy(answer.message:find("has ended before it got its signal", 1, true),
      answer.message)
  end)

  it("can be cancelled", function()
    sh([[touch "$D/ready"; while :; do sleep 0.01; done]])
    wait_file "ready"
    local answer = reload(1)
    C.segue__process_cancel(p.ptr)
    loop:run_until(function() return answer.status end)
    assert.equal("SEGUE_ECANCELLED", ffi.string(C.segue_error_name(answer.status)))
    assert.same({}, ends)
  end)
end)

describe("the watcher of a process", function()
  it("gets the process group of each child, and 0 after its end", function()
    local ends_of = assert(uv.pipe({}, {}))
    watcher = ends_of.write
    finally(function()
      watcher = nil
      uv.fs_close(ends_of.read)
      uv.fs_close(ends_of.write)
    end)
    local pids = { sh "exit 1" }
    wait_end(1)
    pids[2] = assert(start())
    wait_end(2)
    local got = ffi.new "int[8]"
    local bytes = assert(uv.fs_read(ends_of.read, 64))
    ffi.copy(got, bytes, #bytes)
    assert.same({ 16, pids[1], 0, pids[2], 0 }, { #bytes, got[0], got[1], got[2], got[3] })
  end)
end)
