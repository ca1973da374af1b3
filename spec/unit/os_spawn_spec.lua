-- SPDX-License-Identifier: MIT
-- Running commands: what they get, what comes back, and that nothing of them stays.
local C = require "spec.support.c"
local LoopCase = require "spec.support.loop_case"
local process = require "spec.support.process"
local uv = require "luv"
local ffi = C.ffi

pcall(ffi.cdef, "int kill(int pid, int signal);")

local function strings(list)
  local array = ffi.new("const char *[?]", #list + 1)
  for i, s in ipairs(list) do array[i - 1] = s end
  return array
end

local loop, dir, case
before_each(function()
  case = LoopCase.open()
  loop, dir = case.loop, case.dir
end)
after_each(function() case:close() end)

-- Starts a command; the returned table is filled when it ends.
local function start(argv, o)
  o = o or {}
  local self = { chunks = {} }
  local options, e = ffi.new("segue__spawn_options[1]"), C.error()
  local out = ffi.new("segue__spawn *[1]")
  local args, env = strings(argv), o.env and strings(o.env)
  options[0].size = ffi.sizeof("segue__spawn_options")
  options[0].argv, options[0].env, options[0].cwd = args, env, o.cwd
  options[0].input, options[0].input_len = o.input, o.input and #o.input or 0
  options[0].timeout_ms, options[0].kill_ms = o.timeout_ms or 0, o.kill_ms or 0
  options[0].stop_signal, options[0].linger_ms = o.stop_signal or 0, o.linger_ms or 0
  options[0].capture, options[0].join_output = o.capture or 0, o.join_output or false
  if o.on_output then
    options[0].on_output = loop:cb("void (*)(void *, segue__stream, const char *, size_t)",
      function(_, stream, bytes, len) o.on_output(tonumber(stream), ffi.string(bytes, len)) end)
  end
  options[0].on_exit = loop:cb("void (*)(void *, const segue__spawn_result *)", function(_, r)
    assert(not self.ended, "ended twice")
    self.ended = true
    self.status, self.code, self.signal = r.status, r.exit_code, r.term_signal
    self.timed_out, self.stopped, self.cut = r.timed_out, r.stopped, r.output_cut
    self.ms = tonumber(r.duration_ms)
    self.out, self.err = ffi.string(r.output[0].data, r.output[0].len),
      ffi.string(r.output[1].data, r.output[1].len)
    self.total = tonumber(r.output[0].total)
  end)
  local rc = C.segue__os_default().spawn(nil, loop.ptr, options, out, e)
  if rc < 0 then
    assert.is_true(out[0] == nil)
    return nil, C.err(e).name, C.err(e).message
  end
  assert.is_nil(self.ended)
  self.handle, self.pid = out[0], out[0].pid
  return self
end

local function run(argv, o)
  local child, code, message = start(argv, o)
  if not child then return nil, code, message end
  loop:run_until(function() return child.ended end)
  return child
end

local function sh(script, o) return run({ "sh", "-c", script }, o) end

describe("a command", function()
  it("runs, and reports its exit and its output", function()
    local child = sh("echo out; echo err >&2; exit 3")
    assert.same({ 0, 3, 0, "out\n", "err\n", false, false, false }, { child.status, child.code,
      child.signal, child.out, child.err, child.timed_out, child.stopped, child.cut })
    child = sh("kill -9 $$")
    assert.same({ -1, 9 }, { child.code, child.signal })
  end)

  it("gets its arguments, environment, folder and input as they were given", function()
    local script = 'printf "%s|" "$@" "$X" "$(pwd)" "$(cat)"'
    local child = run({ "/bin/sh", "-c", script, "sh", "a b", "" },
      { env = { "X=y z", "PATH=/bin:/usr/bin" }, cwd = dir.path, input = "in\nput" })
    assert.equal(("a b||y z|%s|in\nput|"):format(dir.path), child.out)
    assert.equal("0", sh("cat | wc -c").out:match("%d+"))
  end)

  it("takes input of any size, whether it is read or not", function()
    local input = ("x"):rep(5000000)
    assert.equal("5000000", run({ "wc", "-c" }, { input = input }).out:match("%d+"))
    assert.equal(0, run({ "true" }, { input = input }).code)
  end)

  it("puts both streams in order where they are joined", function()
    local child = sh("echo 1; echo 2 >&2; echo 3", { join_output = true })
    assert.same({ "1\n2\n3\n", "" }, { child.out, child.err })
  end)

  it("streams its output as it arrives and keeps the first part of it", function()
    local seen = {}
    local child = run({ "sh", "-c", "echo first; read x; echo second" }, { capture = 3,
      on_output = function(stream, bytes)
        assert.equal(0, stream)
        seen[#seen + 1] = bytes
      end })
    assert.equal("first\nsecond\n", table.concat(seen))
    assert.equal("fir", child.out)
    assert.equal(13, child.total)
  end)

  it("may write much output: all is read, the limit is kept", function()
    local streamed = 0
    local child = run({ "head", "-c", "50000000", "/dev/zero" },
      { on_output = function(_, bytes) streamed = streamed + #bytes end })
    assert.equal(0, child.code)
    assert.same({ 50000000, 50000000, 65536 }, { child.total, streamed, #child.out })
  end)

  it("has none of our descriptors but its three, default signals and an empty mask", function()
    local leak = assert(io.open(dir:write("leak", ""), "r")) -- without close-on-exec
    local names = run({ "ls", "/proc/self/fd" }).out
    leak:close()
    assert.equal("0\n1\n2\n3\n", names) -- 3 is the listing's own
    local status = run({ "grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status" }).out
    -- 32 and 33 are the C library's own; its posix_spawn leaves them ignored.
    assert.truthy(status:match("SigBlk:\t0+\nSigIgn:\t0000000[01]80000000\n")
      or status:match("SigBlk:\t0+\nSigIgn:\t0+\n"), status)
  end)

  it("has the limit of open files of its loop, and the other limits unchanged", function()
    C.segue__loop_set_child_files(loop.ptr, 77)
    local c = sh("ulimit -Sn; ls /proc/self/fd | wc -l; pwd; cat; echo err >&2; exit 3",
      { cwd = "/usr", input = "in\n" })
    assert.same({ 0, 3, "77\n4\n/usr\nin\n", "err\n" }, { c.status, c.code, c.out, c.err })
    local status = run({ "grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status" }).out
    assert.matches("^SigBlk:\t0+\nSigIgn:\t0000000[01][08]0+\n$", status) -- as above
    assert.equal("1\n2\n", sh("echo 1; echo 2 >&2", { join_output = true }).out)
    local script = dir:write("script", "#!/no/such/interpreter\n")
    uv.fs_chmod(script, 493)
    local _, code, message = run({ script })
    assert.equal("ENOENT", code)
    assert.truthy(message:find("the interpreter or loader that it names is missing", 1, true))
    C.segue__loop_set_child_files(loop.ptr, 1e15) -- not above the hard limit
    assert.equal("same\n", sh("test $(ulimit -Sn) = $(ulimit -Hn) && echo same").out)
    C.segue__loop_set_child_files(loop.ptr, 0)
  end)

  it("leads a session and a process group of its own", function()
    local child = sh("cut -d' ' -f1,5,6 /proc/$$/stat")
    local pid, group, session = child.out:match("(%d+)%s+(%d+)%s+(%d+)")
    assert.same({ pid, pid }, { group, session })
  end)
end)

describe("the time limit", function()
  it("ends a command that hangs", function()
    local child = run({ "sleep", "100" }, { timeout_ms = 50 })
    assert.same({ -1, 15, true, false },
      { child.code, child.signal, child.timed_out, child.stopped })
    assert.is_true(child.ms >= 49 and child.ms < 5000)
  end)

  it("kills a shell that ignores TERM, with all its descendants", function()
    local script = "trap '' TERM; (trap '' TERM; sleep 100 & echo $!; wait) & echo $!; "
      .. "while :; do sleep 100; done"
    local pids = {}
    local child = run({ "sh", "-c", script }, { timeout_ms = 150, kill_ms = 100,
      on_output = function(_, text)
        for pid in text:gmatch("%d+") do pids[#pids + 1] = pid end
      end })
    assert.same({ -1, 9, true }, { child.code, child.signal, child.timed_out })
    assert.equal(2, #pids)
    for _, pid in ipairs(pids) do
      loop:run_until(function() return not process.is_alive(pid) end)
    end
  end)

  it("lets a command end by itself, and kills what it leaves behind", function()
    local script = "trap 'echo bye; exit 7' TERM; (trap '' TERM; sleep 100) & echo $!; wait"
    local pid
    local child = run({ "sh", "-c", script }, { timeout_ms = 150,
      on_output = function(_, text) pid = pid or text:match("%d+") end })
    assert.same({ 7, 0, true }, { child.code, child.signal, child.timed_out })
    assert.truthy(child.out:find("bye", 1, true))
    loop:run_until(function() return not process.is_alive(pid) end)
  end)

  it("wakes a command that is stopped, so that it can end", function()
    local script = "trap 'exit 4' TERM; kill -STOP $$; exit 5"
    local child = start({ "sh", "-c", script }, { timeout_ms = 100 })
    loop:run_until(function() return child.ended end)
    assert.same({ 4, true }, { child.code, child.timed_out })
  end)

  it("can be shortened by another signal", function()
    local ready
    local child = start({ "sh", "-c", "trap 'exit 9' INT; echo; while :; do sleep 0.01; done" },
      { stop_signal = 2, on_output = function() ready = true end })
    loop:run_until(function() return ready end)
    C.segue__spawn_stop(child.handle)
    C.segue__spawn_stop(child.handle)
    loop:run_until(function() return child.ended end)
    assert.same({ 9, false, true }, { child.code, child.timed_out, child.stopped })
    C.segue__spawn_stop(nil)
  end)

  it("does not wait for other processes that hold the output open", function()
    local child = sh("sleep 100 & echo $!; exit 0", { linger_ms = 30 })
    assert.same({ 0, true }, { child.code, child.cut })
    local pid = tonumber(child.out)
    assert.is_true(process.is_alive(pid)) -- it exited by itself: what it started may continue
    ffi.C.kill(pid, 9)
  end)
end)

describe("a command that cannot start", function()
  it("is named, with the missing program or folder", function()
    local _, code, message = run({ "no-such-program" }, { env = { "PATH=/bin:/usr/bin" } })
    assert.equal("ENOENT", code)
    assert.equal("cannot run no-such-program: there is no such program in PATH (/bin:/usr/bin); "
      .. "install it or give its full path", message)
    _, code, message = run({ "/x/y" })
    assert.equal("ENOENT", code)
    assert.truthy(message:find("cannot run /x/y: folder /x is missing", 1, true))
    _, code, message = run({ "true" }, { cwd = dir:at("none") })
    assert.equal("ENOENT", code)
    assert.truthy(message:find("cannot run true in folder " .. dir:at("none"), 1, true))
    _, code = run({ "true" }, { cwd = dir:write("file", "") })
    assert.equal("ENOTDIR", code)
    _, code = run({ "" })
    assert.equal("EINVAL", code)
  end)

  it("is reported by cause: not executable, a folder, a missing interpreter, no program", function()
    local path = dir:write("script", "#!/no/such/shell\n")
    local _, code, message = run({ path })
    assert.equal("EACCES", code)
    assert.truthy(message:find("it is not executable (mode 0644); chmod +x it", 1, true))
    uv.fs_chmod(path, 493)
    _, code, message = run({ path })
    assert.equal("ENOENT", code)
    assert.truthy(message:find("interpreter", 1, true))
    _, code = run({ dir:mkdir("folder") })
    assert.equal("EISDIR", code)
    uv.fs_chmod(dir:write("text", "just text\n"), 493)
    _, _, message = run({ dir:at("text") })
    assert.truthy(message:find("neither a program nor a script", 1, true))
    _, code, message = run({ "true", ("x"):rep(3000000) })
    assert.equal("E2BIG", code)
    assert.truthy(message:find("too long", 1, true))
  end)

  it("is looked up in the child's PATH and folder, not in those of this process", function()
    uv.fs_chmod(dir:write("bin/hello", "#!/bin/sh\necho hello from $0\n"), 493)
    local env = { "PATH=" .. dir:at("bin") }
    assert.equal("hello from " .. dir:at("bin/hello") .. "\n", run({ "hello" }, { env = env }).out)
    assert.equal("hello from bin/hello\n", run({ "bin/hello" }, { cwd = dir.path }).out)
    assert.equal("hello from bin/hello\n",
      run({ "hello" }, { env = { "PATH=/none:bin" }, cwd = dir.path }).out)
    assert.is_nil((run({ "bin/hello" })))
  end)

  it("leaves no child behind where it cannot be watched", function()
    C.segue__fault_arm("child.clone=fail:-24")
    local _, code = run({ "sleep", "100" })
    assert.equal("EMFILE", code)
    assert.equal(1, C.segue__fault_reached("child.clone"))
  end)

  it("reports missing memory", function()
    local failed = 0
    for n = 1, 20 do
      C.segue__mem_fail_at(n)
      local child, code = start({ "sleep", "0" }, { timeout_ms = 10000 })
      C.segue__mem_fail_at(0)
      if child then
        loop:run_until(function() return child.ended end)
        assert.equal(0, child.code)
        break
      end
      assert.equal("ENOMEM", code)
      failed = failed + 1
    end
    assert.is_true(failed >= 2)
  end)
end)

describe("many commands", function()
  it("run at once, 200 of them, each with its own answer", function()
    local children = {}
    for i = 1, 200 do
      children[i] = assert(start({ "sh", "-c", "read x; echo $x; exit " .. i % 100 },
        { input = "number " .. i .. "\n" }))
    end
    loop:run_until(function()
      for i = 1, 200 do if not children[i].ended then return false end end
      return true
    end, 60000)
    for i = 1, 200 do
      assert.same({ i % 100, "number " .. i .. "\n" }, { children[i].code, children[i].out })
    end
  end)
end)

describe("output", function()
  -- A child that ended its output early gave up numbers of descriptors; they are the next child's.
  it("is not lost when another child ends that had closed its own", function()
    local function until_there(name)
      return "while [ ! -e " .. dir:at(name) .. " ]; do sleep 0.01; done"
    end
    local before = C.os_harness_open_fds()
    local first = assert(start { "sh", "-c", "exec >&- 2>&-; " .. until_there "end" })
    loop:run_until(function() return C.os_harness_open_fds() == before + 1 end) -- its pidfd
    local second = assert(start { "sh", "-c", until_there "go" .. "; echo mine; echo too >&2" })
    dir:write("end", "")
    loop:run_until(function() return first.ended end)
    dir:write("go", "")
    loop:run_until(function() return second.ended end)
    assert.same({ "mine\n", "too\n", false, 0 },
      { second.out, second.err, second.cut, second.code })
  end)

  it("that came while the loop was busy past the time for late output is read", function()
    local late = assert(start({ "sh", "-c", "(while kill -0 $$; do sleep 0.01; done; echo late; "
      .. "touch " .. dir:at "done" .. ") 2>&- & exit 0" }, { linger_ms = 20 }))
    loop:run_until(function() return not uv.fs_stat("/proc/" .. late.pid) end) -- reaped
    local deadline = uv.hrtime() + 10e9
    while not uv.fs_stat(dir:at "done") and uv.hrtime() < deadline do uv.sleep(1) end
    uv.sleep(50) -- the loop does not turn, and the time for late output passes
    loop:run_until(function() return late.ended end)
    assert.equal("late\n", late.out)
  end)
end)
