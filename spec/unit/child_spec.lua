-- SPDX-License-Identifier: MIT
-- Long-lived children: what they get, what comes from them, and their end.
local C = require "spec.support.c"
local Child = require "spec.support.child"
local LoopCase = require "spec.support.loop_case"
local process = require "spec.support.process"
local uv = require "luv"
local ffi = C.ffi

pcall(ffi.cdef, "int kill(int pid, int signal);")
ffi.cdef "int dup2(int from, int to); int dup(int fd);"

local loop, dir, case, helper
setup(function() helper = Child.helper() end)
teardown(Child.remove_helper)
before_each(function()
  case = LoopCase.open()
  loop, dir = case.loop, case.dir
end)
after_each(function() case:close() end)

local function start(argv, o) return assert(Child.start(loop, argv, o)) end
local function run(argv, o) return assert(Child.run(loop, argv, o)) end
local function failure(argv, o)
  local child, code, message = Child.start(loop, argv, o)
  assert.is_nil(child)
  return code, message
end
local function wait(predicate) loop:run_until(predicate) end
local function closed(child) return function() return child.closed end end
local function file(name, text) return assert(uv.fs_open(dir:write(name, text or ""), "r", 0)) end

-- Runs a Lua program that uses the library, in a process of its own.
local function run_lua(argv, program)
  for _, word in ipairs { "env", "LD_PRELOAD=" .. (os.getenv "SEGUE_SPEC_PRELOAD" or ""),
                          "ASAN_OPTIONS=detect_leaks=0", "luajit", program } do
    argv[#argv + 1] = word
  end
  return run(argv)
end

describe("the descriptors of a child", function()
  it("are 0, 1, 2 and the list, in its order, and no other one of this process", function()
    local one, two, leak = file "one", file "two", assert(io.open(dir:write("leak", ""), "r"))
    local child = run({ helper, "fds", "listen" }, { files = { { two, "web" }, { one, "api" } } })
    leak:close()
    uv.fs_close(one)
    uv.fs_close(two)
    assert.same({ "0 /dev/null", "1 pipe", "2 pipe", "3 " .. dir:at "two", "4 " .. dir:at "one" },
      (function(list)
        for line in child.out:gmatch("fd ([^\n]+)") do
          list[#list + 1] = line:gsub(":%[%d+%]$", "")
        end
        return list
      end)({}))
    assert.truthy(child.out:find("listen 2 web:api\n", 1, true), child.out)
  end)

  it("arrive also where their numbers here are the numbers there, in another order", function()
    -- 3 and 4 of this process are swapped; whatever they are here is put back afterwards.
    local one, two = file "one", file "two"
    local saved = { ffi.C.dup(3), ffi.C.dup(4) }
    ffi.C.dup2(one, 3)
    ffi.C.dup2(two, 4)
    local child, code, message = Child.start(loop, { helper, "fds" },
      { files = { { 4, "a" }, { 3, "b" }, { 4 } } })
    for i, fd in ipairs(saved) do
      if fd >= 0 then ffi.C.dup2(fd, i + 2) uv.fs_close(fd) else uv.fs_close(i + 2) end
    end
    assert(child, tostring(code) .. tostring(message))
    wait(closed(child))
    uv.fs_close(one)
    uv.fs_close(two)
    local function at(n, name) return ("fd %d %s\n"):format(n, dir:at(name)) end
    assert.truthy(child.out:find(at(3, "two") .. at(4, "one") .. at(5, "two"), 1, true), child.out)
  end)

  it("without a name are not announced, and come after those with one", function()
    local one = file "one"
    local child = run({ helper, "listen" }, { files = { { one, "web" }, { one } } })
    assert.equal("listen 1 web\n", child.out)
    child = run({ helper, "listen" }, { files = { { one } } })
    assert.equal("listen not mine\n", child.out)
    local code, message = failure({ helper }, { files = { { one }, { one, "web" } } })
    uv.fs_close(one)
    assert.same({ "EINVAL", "cannot run " .. helper .. ": descriptor web has to come before those "
      .. "without a name" }, { code, message })
  end)

  it("are refused by name", function()
    local code, message = failure({ helper }, { files = { { 9999, "web" } } })
    assert.same({ "EBADF", "cannot run " .. helper .. ": descriptor 9999 (web): bad file "
      .. "descriptor" }, { code, message })
    for _, name in ipairs { "", "a:b", "a b", "\n", ("x"):rep(256) } do
      code, message = failure({ helper }, { files = { { 0, name } } })
      assert.equal("EINVAL", code)
      assert.truthy(message:find("cannot be the name of a descriptor", 1, true))
    end
    local many = {}
    for i = 1, 251 do many[i] = { 0, "x" } end
    code, message = failure({ helper }, { files = many })
    assert.equal("EINVAL", code)
    assert.truthy(message:find("more than 250 descriptors", 1, true))
  end)

  it("arrive from a host that has closed its own 0, 1 and 2", function()
    local program = dir:write("closed.lua", ([[
      local C = require "spec.support.c"
      local Loop, Child = require "spec.support.loop", require "spec.support.child"
      local uv = require "luv"
      local loop = Loop.uv()
      local one, two = assert(io.open "%s"), assert(io.open "%s")
      C.ffi.cdef "int fileno(void *file); int close(int fd);"
      local files = { { C.ffi.C.fileno(one), "one" }, { C.ffi.C.fileno(two), "two" } }
      for fd = 0, 2 do C.ffi.C.close(fd) end
      local child = Child.run(loop, { "%s", "fds", "listen", "error:last" }, { files = files })
      local out = assert(io.open("%s", "w"))
      out:write(child.out, child.err)
      out:close()
      loop:close()]]):format(dir:write("one", ""), dir:write("two", ""), helper, dir:at "out"))
    run_lua({}, program)
    local text = dir:read "out":gsub(":%[%d+%]", "")
    assert.equal(("fd 0 /dev/null\nfd 1 pipe\nfd 2 pipe\nfd 3 %s\nfd 4 %s\nlisten 2 one:two\n"
      .. "last\n"):format(dir:at "one", dir:at "two"), text)
  end)

  it("0, 1 and 2 may be given too", function()
    local out = assert(uv.fs_open(dir:at "log", "w", 420))
    local child = run({ helper, "print:to the file", "error:to the stream", "fds" },
      { stdio = { -1, out, -1 } })
    uv.fs_close(out)
    assert.same({ "", "to the stream\n" }, { child.out, child.err })
    assert.matches("^to the file\n", dir:read "log")
  end)
end)

describe("the environment of a child", function()
  it("has no variable that is about this process, and has its own ones", function()
    for _, name in ipairs { "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "NOTIFY_SOCKET",
                            "WATCHDOG_PID", "WATCHDOG_USEC", "SEGUE_SPEC_STAYS" } do
      uv.os_setenv(name, "1")
    end
    local inherited = run({ "env" }).out
    local own = run({ "sh", "-c", 'echo "$LISTEN_FDS $LISTEN_FDNAMES $WATCHDOG_USEC"; '
      .. 'test "$LISTEN_PID" = $$ && test "$WATCHDOG_PID" = $$ && echo mine; env' },
      { files = { { 0, "web" } }, watchdog_ms = 1500, notify = true }).out
    for _, name in ipairs { "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "NOTIFY_SOCKET",
                            "WATCHDOG_PID", "WATCHDOG_USEC", "SEGUE_SPEC_STAYS" } do
      uv.os_unsetenv(name)
    end
    assert.is_nil(inherited:match "LISTEN_" or inherited:match "NOTIFY_" or inherited:match "WATCH")
    assert.truthy(inherited:find("SEGUE_SPEC_STAYS=1\n", 1, true))
    assert.matches("^1 web 1500000\nmine\n", own)
    assert.matches("NOTIFY_SOCKET=@%x+\n", own)
    assert.equal(1, select(2, own:gsub("\nLISTEN_FDS=", "")))
  end)

  it("that is given is taken as it is, but for what is set here", function()
    local out = run({ "/usr/bin/env" }, { env = { "A=1", "LISTEN_FDS=7", "LISTEN_PID=8",
      "WATCHDOG_USEC=9" }, files = { { 0, "web" } } }).out
    assert.matches("^A=1\nWATCHDOG_USEC=9\nLISTEN_FDS=1\nLISTEN_FDNAMES=web\nLISTEN_PID=%d+\n$",
      out)
  end)
end)

describe("a child", function()
  it("has the limits, file mode mask, nice value and folder that it was given", function()
    local child = run({ helper, "identity" }, { limits = { { "nofile", 50, 60 }, { "core", 0, 0 } },
      umask = 23, nice = 7, cwd = dir.path })
    assert.matches("nice 7 umask 027 nofile 50 core 0\nleader session group\n", child.out)
    child = run({ "sh", "-c", "pwd; cat /proc/self/oom_score_adj" }, { cwd = dir.path, oom = 500 })
    assert.equal(dir.path .. "\n500\n", child.out)
    C.segue__loop_set_child_files(loop.ptr, 77)
    assert.matches(" nofile 77 ", run({ helper, "identity" }).out)
    assert.matches(" nofile 50 ", run({ helper, "identity" },
      { limits = { { "nofile", 50, 60 } } }).out)
  end)

  it("that cannot have a limit, a nice value or a score is named with it", function()
    local code, message = failure({ "true" }, { limits = { { "core", 0, 0 }, { "nofile", 9, 8 } } })
    assert.same({ "EINVAL", "cannot run true with limit nofile = 9:8: invalid argument" },
      { code, message })
    code, message = failure({ "true" }, { oom = 5000 })
    assert.same({ "EINVAL", "cannot run true with oom_score_adj = 5000: invalid argument" },
      { code, message })
    assert.equal(-1, C.segue__child_limit_find "files")
    assert.equal("nofile", C.str(C.segue__child_limit_name(C.segue__child_limit_find "nofile")))
  end)

  it("runs as a user with exactly that user's groups, or fails with the name", function()
    local entry, e = ffi.new "segue__user_entry[1]", C.error()
    C.check(C.segue__user_find("nobody", nil, entry, e), e)
    local child = run({ "/usr/bin/id" }, { user = entry[0].user, cwd = "/" })
    assert.equal(run({ "id", "nobody" }).out:match "^uid=%d+", child.out:match "^uid=%d+")
    assert.equal("groups=65534(nogroup)", child.out:match "groups=%S+")
    local own = dir:mkdir "own"
    assert.equal(0, os.execute("chmod 0700 " .. own))
    local code, message = failure({ "/bin/true" }, { user = entry[0].user, cwd = own })
    assert.same({ "EACCES", ("cannot run /bin/true in folder %s as user nobody: permission "
      .. "denied"):format(own) }, { code, message })
    C.segue__user_entry_deinit(entry)
    C.check(C.segue__user_find("65534", "daemon", entry, e), e)
    assert.same({ "nobody", 1 }, { C.str(entry[0].login), entry[0].user.gid })
    C.segue__user_entry_deinit(entry)
    assert.equal("ENOENT", C.name(C.segue__user_find("no-such-user", nil, entry, e)))
    assert.equal("there is no such user: no-such-user", C.err(e).message)
    assert.equal("ENOENT", C.name(C.segue__user_find("nobody", "no-such-group", entry, e)))
    assert.equal("there is no such group: no-such-group", C.err(e).message)
  end)

  it("whose user may not be changed is named with the user", function()
    -- Another process, which has no capabilities, tries it.
    local program = dir:write("try.lua", [[
      local C = require "spec.support.c"
      local Loop, Child = require "spec.support.loop", require "spec.support.child"
      local user = C.new("segue__user[1]")
      user[0].name, user[0].uid, user[0].gid = "root", 0, 0
      local loop = Loop.uv()
      print(select(2, Child.start(loop, { "true" }, { user = user[0] })))
      print(select(2, Child.start(loop, { "true" }, { nice = -5 })))
      loop:close()]])
    local out = run_lua({ "setpriv", "--bounding-set=-all", "--inh-caps=-all" }, program).out
    assert.equal("EPERM\tcannot run true as user root: only root may do that; run the daemon as "
      .. "root, or leave the user out\nEACCES\tcannot run true with nice = -5: permission denied "
      .. "(only root may lower it)\n", out)
  end)

  it("that cannot be executed is named, and leaves nothing behind", function()
    local code, message = failure({ dir:at "none" }, { notify = true, files = { { 0, "a" } } })
    assert.equal("ENOENT", code)
    assert.truthy(message:find(dir:at "none", 1, true))
    code, message = failure({ "true", ("x"):rep(3000000) })
    assert.equal("E2BIG", code)
    assert.truthy(message:find("too long", 1, true))
    code, message = failure({ "true" }, { cwd = dir:at "none" })
    assert.same({ "ENOENT", "cannot run true in folder " .. dir:at "none"
      .. ": no such file or directory" }, { code, message })
  end)

  it("is started or nothing is, wherever memory, processes or the loop fail", function()
    local code, message
    for n = 1, 30 do
      C.segue__mem_fail_at(n)
      local child, why = Child.start(loop, { helper, "pause" },
        { notify = true, files = { { 0, "a" } }, watchdog_ms = 1000 })
      C.segue__mem_fail_at(0)
      if child then
        assert.is_true(n > 5)
        C.segue__child_stop(child.handle)
        wait(closed(child))
        break
      end
      assert.equal("ENOMEM", why)
    end
    C.segue__fault_arm("child.clone=fail:-11")
    code, message = failure({ helper }, { notify = true })
    assert.same({ "EAGAIN", "cannot run " .. helper .. ": no process for it: resource temporarily "
      .. "unavailable (the limit of processes is reached)" }, { code, message })
    C.segue__fault_arm(nil)
    C.segue__fault_arm("child.watch=fail:-28")
    code = failure({ helper, "pause" }, { notify = true })
    assert.equal("ENOSPC", code)
    assert.equal(1, C.segue__fault_reached "child.watch")
  end)
end)

describe("the output of a child", function()
  it("may end long before the child does", function()
    local child = start({ helper, "print:last", "close:1", "close:2", "until:" .. dir:at "go" })
    local open = C.os_harness_open_fds()
    wait(function() return C.os_harness_open_fds() == open - 2 end)
    assert.same({ "last\n", nil }, { child.out, child.exited })
    dir:write("go", "")
    wait(closed(child))
    assert.same({ 0, false }, { child.code, child.cut })
  end)

  it("floods one stream and is all read, while the other one is served", function()
    local child = run({ helper, "flood:5000000", "print:still here", "flood:5000000" })
    assert.same({ 10000000, "still here\n", 0 }, { #child.err, child.out, child.code })
  end)

  it("is not read while it is paused, and all of it afterwards, also past the exit", function()
    local child = start({ helper, "flood:10000", "exit:3" })
    C.segue__child_pause(child.handle, true)
    wait(function() return child.exited end)
    loop:turn()
    assert.same({ 0, nil }, { #child.err, child.closed })
    C.segue__child_pause(child.handle, false)
    wait(closed(child))
    assert.same({ 10000, 3, false }, { #child.err, child.code, child.cut })
  end)

  it("that a grandchild keeps open is cut, and the exit is reported before", function()
    local child = start({ helper, "leave", "print:grandchild", "pause" }, { linger_ms = 100 })
    wait(function() return child.exited end)
    wait(closed(child))
    assert.is_true(child.cut)
    assert.equal(0, child.code)
    local pids = dir:write("pids", "")
    os.execute("pgrep -f '^" .. helper .. " leave' > " .. pids)
    for pid in dir:read("pids"):gmatch "%d+" do ffi.C.kill(tonumber(pid), 9) end
  end)

  it("is cut into lines, and a line without end is limited", function()
    local lines, seen = ffi.new "segue__output_lines[1]", {}
    lines[0].max = 8
    lines[0].on_line = loop:cb("void (*)(void *, const char *, size_t, bool)",
      function(_, line, len, cut)
        seen[#seen + 1] = ffi.string(line, len) .. (cut and "..." or "")
      end)
    local text = "one\r\ntwo\n\n12345678\n123456789abc\nlast"
    for part in text:gmatch "..?.?" do C.segue__output_lines_add(lines, part, #part) end
    C.segue__output_lines_add(lines, "", 0)
    C.segue__output_lines_end(lines)
    assert.same({ "one", "two", "", "12345678", "12345678...", "last" }, seen)
    C.segue__output_lines_add(lines, "123456789", 9)
    C.segue__output_lines_end(lines)
    C.segue__mem_fail_at(1)
    C.segue__output_lines_add(lines, "abc\ndef\n", 8)
    C.segue__mem_fail_at(0)
    C.segue__output_lines_end(lines)
    assert.same({ "12345678...", "...", "def" }, { unpack(seen, 7) })
  end)
end)

describe("the end of a child", function()
  it("comes by TERM to its whole group, and by KILL where that is ignored", function()
    local child = start({ "sh", "-c", helper .. " ignore print:ready pause & echo $!; wait" },
      { kill_ms = 100 })
    wait(function() return child.out:find "ready" end)
    local pid = child.out:match "%d+"
    C.segue__child_stop(child.handle)
    C.segue__child_stop(child.handle)
    wait(closed(child))
    assert.same({ 15, true }, { child.signal, child.stopped })
    wait(function() return not process.is_alive(pid) end)
    child = start({ helper, "ignore", "print:ready", "pause", "pause" }, { kill_ms = 50 })
    wait(function() return child.out ~= "" end)
    C.segue__child_stop(child.handle)
    wait(closed(child))
    assert.equal(9, child.signal)
    C.segue__child_stop(nil)
  end)

  it("of these specs ends with the specs' process, so that a killed run leaves none", function()
    local script = ("SEGUE_SPEC_PID=$$ %s print:up pause & echo $!; %s until:%s"):format(helper,
      helper, dir:at "go")
    local child = start({ "sh", "-c", script }, { kill_rest = false, linger_ms = 20 })
    wait(function() return child.out:find "up" end)
    dir:write("go", "x\n")
    wait(closed(child))
    local pid = tonumber(child.out:match "%d+")
    wait(function() return not process.is_alive(pid) end)
  end)

  it("by itself ends its group on request, and leaves it alone otherwise", function()
    local script = ("%s print:up pause & echo $!; %s until:%s; exit 5"):format(helper, helper,
      dir:at "go")
    for _, kill_rest in ipairs { true, false } do
      os.remove(dir:at "go")
      local child = start({ "sh", "-c", script }, { kill_rest = kill_rest, linger_ms = 20 })
      wait(function() return child.out:find "up" end)
      dir:write("go", "x\n")
      wait(closed(child))
      assert.same({ 5, not kill_rest, false }, { child.code, child.cut, child.stopped })
      local pid = tonumber(child.out:match "%d+")
      if kill_rest then wait(function() return not process.is_alive(pid) end) end
      if not kill_rest then
        assert.is_true(process.is_alive(pid))
        ffi.C.kill(pid, 9)
      end
    end
  end)

  it("is reported with the signal, and no signal is sent afterwards", function()
    local late = {}
    local child = start({ helper, "pause" }, { at_exit = function(child)
      for i, group in ipairs { true, false } do
        late[i] = C.name(C.segue__child_signal(child.handle, 10, group))
      end
      C.segue__child_stop(child.handle)
    end })
    assert.equal(0, C.segue__child_signal(child.handle, 10, false))
    wait(closed(child))
    assert.same({ -1, 10, false }, { child.code, child.signal, child.stopped })
    assert.same({ "ESRCH", "ESRCH" }, late)
  end)

  it("is distinguished from that of others: 100 at once", function()
    local children = {}
    for i = 1, 100 do
      children[i] = start({ helper, "print:" .. i, "send:STATUS=" .. i, "exit:" .. i },
        { notify = true })
    end
    wait(function()
      for i = 1, 100 do if not children[i].closed then return false end end
      return true
    end)
    for i, child in ipairs(children) do
      assert.same({ i .. "\n", i, tostring(i), 1 },
        { child.out, child.code, child.notices[1].status, #child.notices })
    end
  end)
end)
