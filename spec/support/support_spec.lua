-- SPDX-License-Identifier: MIT
-- The specs' own tools, because a tool that cannot fail proves nothing.
local http = require "spec.support.http"
local port = require "spec.support.port"
local process = require "spec.support.process"
local tempdir = require "spec.support.tempdir"
local uv = require "luv"
local wait = require "spec.support.wait"

after_each(function()
  process.stop_all()
  tempdir.remove_all()
end)

describe("wait", function()
  it("returns what the predicate returned", function()
    local fired
    local timer = uv.new_timer()
    timer:start(1, 0, function() fired = "yes" end)
    assert.equal("yes", wait.until_true(function() return fired end))
    timer:close()
  end)

  it("raises at the deadline and names the missing event", function()
    assert.has_error(function()
      wait.until_true(function() return false end, 20, "the bus")
    end, ("nothing came within %d ms: the bus"):format(20 * wait.patience))
  end)
end)

describe("process", function()
  it("gives exit code and both outputs", function()
    local p = process.run { "sh", "-c", "echo out; echo err >&2; cat; exit 3", stdin = "in" }
    assert.equal(3, p.code)
    assert.equal("out\nin", p.stdout)
    assert.equal("err\n", p.stderr)
  end)

  it("passes environment and working directory", function()
    local p = process.run { "sh", "-c", "echo $COLOUR $GONE; pwd", cwd = "/",
      env = { COLOUR = "red", GONE = false } }
    assert.equal("red\n/\n", p.stdout)
  end)

  it("waits for output and returns what it captured", function()
    local p = process.start { "sh", "-c", "echo port=123; read x" , stdin = nil }
    local _, captured = p:wait_output("port=(%d+)")
    assert.equal("123", captured)
  end)

  it("reports when the output can never come, with the log", function()
    local p = process.start { "sh", "-c", "echo nothing else" }
    local ok, message = pcall(p.wait_output, p, "miracle")
    assert.is_false(ok)
    assert.truthy(message:find("miracle", 1, true))
    assert.truthy(message:find("nothing else", 1, true))
  end)

  it("kills what does not listen to TERM", function()
    local p = process.start { "sh", "-c", "trap '' TERM; echo armed; while :; do sleep 1; done" }
    p:wait_output("armed")
    local _, signal = p:stop(50)
    assert.equal(9, signal)
    assert.is_true(p.was_killed)
  end)

  it("stops everything that still runs", function()
    local p = process.start { "sleep", "100" }
    assert.equal(1, process.stop_all())
    assert.is_false(p:running())
    assert.equal(0, process.stop_all())
  end)

  it("raises when the program does not exist", function()
    assert.has_error(function() process.start { "/no/such/program" } end)
  end)
end)

describe("tempdir", function()
  it("saves by rename: the file has another inode and the new text", function()
    local dir = tempdir.new()
    dir:write("sub/a.yaml", "a: 1")
    local before = uv.fs_stat(dir:at("sub/a.yaml")).ino
    dir:save("sub/a.yaml", "a: 2")
    assert.equal("a: 2", dir:read("sub/a.yaml"))
    assert.not_equal(before, uv.fs_stat(dir:at("sub/a.yaml")).ino)
    assert.same({ "a.yaml" }, dir:list("sub"))
  end)

  it("swaps a ConfigMap as a whole", function()
    local dir = tempdir.new()
    dir:configmap { ["a.yaml"] = "a: 1", ["b.yaml"] = "b: 1" }
    dir:configmap { ["a.yaml"] = "a: 2", ["b.yaml"] = "b: 2" }
    assert.equal("a: 2", dir:read("a.yaml"))
    assert.equal("b: 2", dir:read("b.yaml"))
    assert.equal("..data/a.yaml", uv.fs_readlink(dir:at("a.yaml")))
    assert.same({ "..data", "..v2", "a.yaml", "b.yaml" }, dir:list())
  end)

  it("removes everything, also what is locked", function()
    local dir = tempdir.new()
    dir:write("locked/x", "")
    uv.fs_chmod(dir:at("locked"), 0)
    dir:remove()
    assert.is_nil(uv.fs_stat(dir.path))
  end)
end)

-- A server that answers every connection with fixed bytes as soon as it has read something.
local function serve(bytes, keep_open)
  local server = uv.new_tcp()
  server:bind("127.0.0.1", 0)
  local clients = {}
  server:listen(128, function()
    local client = uv.new_tcp()
    server:accept(client)
    clients[#clients + 1] = client
    client:read_start(function(_, data)
      if data then
        server_read = (server_read or "") .. data -- luacheck: ignore
        client:write(bytes)
        if not keep_open then client:shutdown(function() client:close() end) end
      elseif not client:is_closing() then
        client:close()
      end
    end)
  end)
  return server:getsockname().port, function()
    server:close()
    for _, client in ipairs(clients) do if not client:is_closing() then client:close() end end
    uv.run("nowait")
  end
end

describe("http", function()
  local close
  local function answer(bytes, keep_open)
    local where
    where, close = serve(bytes, keep_open)
    return where
  end
  after_each(function() if close then close() end close = nil end)

  it("reads a body by its length and leaves the connection to the server", function()
    local where = answer("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-A: b\r\n\r\nhello", true)
    local response = http.request { port = where }
    assert.equal(200, response.status)
    assert.equal("OK", response.reason)
    assert.equal("b", response.headers["x-a"])
    assert.equal("hello", response.body)
  end)

  it("reads chunks with extensions and trailers", function()
    local where = answer("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
      .. "5;x=y\r\nhello\r\n1\r\n!\r\n0\r\nT: v\r\n\r\n", true)
    assert.equal("hello!", http.request { port = where }.body)
  end)

  it("reads up to the end where no length is given", function()
    local where = answer("HTTP/1.1 200 OK\r\n\r\nall of it")
    assert.equal("all of it", http.request { port = where }.body)
  end)

  it("distinguishes answers on one connection", function()
    local one = "HTTP/1.1 204 No Content\r\n\r\n"
    local two = "HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno"
    local connection = http.connect { port = answer(one .. two, true) }
    connection:write("x")
    assert.equal(204, connection:read_response().status)
    assert.equal("no", connection:read_response().body)
    connection:close()
  end)

  it("raises when the answer is cut short", function()
    local where = answer("HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhello")
    local ok, message = pcall(http.request, { port = where })
    assert.is_false(ok)
    assert.truthy(message:find("before the answer was complete", 1, true))
  end)

  it("raises an error without a listener", function()
    assert.has_error(function() http.request { port = port.free() } end)
    assert.same({ nil, "ECONNREFUSED" }, { http.connect({ port = port.free() }, true) })
  end)

  it("asks many at once and keeps their order", function()
    local where = answer("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", true)
    local requests = {}
    for i = 1, 200 do requests[i] = { port = where, path = "/" .. i } end
    requests[100] = { port = port.free() }
    local answers = http.all(requests)
    assert.equal(200, #answers)
    for i = 1, 200 do
      if i == 100 then assert.equal("ECONNREFUSED", answers[i].error)
      else assert.equal("ok", answers[i].body) end
    end
  end)

  it("formats a request with what was given and what is needed", function()
    assert.equal("POST /x HTTP/1.1\r\nHost: h\r\nAccept: */*\r\nContent-Length: 2\r\n\r\nhi",
      http.format { method = "POST", path = "/x", host = "h", headers = { Accept = "*/*" },
        body = "hi" })
  end)
end)

describe("a value that C borrows", function()
  local borrowed = require "spec.support.borrowed"
  local values = setmetatable({}, { __mode = "v" })
  local function collect() for _ = 1, 2 do collectgarbage() end end
  values.of_file = borrowed.keep {}

  it("lives until its spec ends", function()
    values.of_spec, values.not_kept = borrowed.keep {}, {}
    collect()
    assert.is_nil(values.not_kept)
    assert.is_truthy(values.of_spec)
  end)

  it("lives as long as the file if no spec made it", function()
    collect()
    assert.is_nil(values.of_spec)
    assert.is_truthy(values.of_file)
  end)

  it("is freed before its spec ends where the spec releases its values", function()
    values.of_spec = borrowed.keep {}
    borrowed.release()
    collect()
    assert.is_nil(values.of_spec)
    assert.is_truthy(values.of_file)
  end)

  it("is freed at a use of C where the collector runs at each one", function()
    local dir = tempdir.new()
    dir:write("x_spec.lua", [[local C = require "spec.support.c"
      local ffi, freed = C.ffi, {}
      local function new(name)
        return ffi.gc(ffi.new("int[1]"), function() freed[name] = true end)
      end
      it("frees it", function()
        new "lost"
        local held = new "held"
        local _ = C.segue__mem_live
        assert.same({ lost = true }, freed)
        assert.is_truthy(held)
      end)]])
    local p = process.run { "luajit", "spec/support/run.lua", dir.path,
      env = { SEGUE_SPEC_COLLECT = "all" } }
    assert.equal(0, p.code, p:describe())
  end)
end)

describe("the runner", function()
  local function run(text, env)
    local dir = tempdir.new()
    dir:write("x_spec.lua", text)
    env = env or {}
    env.SEGUE_SPEC_TIMES, env.SEGUE_SPEC_LONG = dir:at("times"), env.SEGUE_SPEC_LONG or ""
    return process.run { "luajit", "spec/support/run.lua", dir.path, env = env }, dir
  end

  it("counts and ends with the one line", function()
    local p = run [[describe("x", function()
      it("passes", function() end)
      it("fails", function() assert.equal(1, 2) end)
      it("raises", function() error("boom") end)
      pending("waits")
    end)]]
    assert.equal("1 passed, 3 failed", p.stdout:match("([^\n]*)\n$"))
    assert.equal(1, p.code)
    assert.truthy(p.stdout:find("boom", 1, true))
  end)

  it("is content when everything passes", function()
    local p = run [[it("passes", function() end)]]
    assert.equal("1 passed, 0 failed", p.stdout:match("([^\n]*)\n$"))
    assert.equal(0, p.code)
  end)

  it("counts a crash, a syntax error and a hang as failures", function()
    for _, text in ipairs { [[it("x", function() os.exit(0) end)]], "this is no Lua",
      [[require("luv").kill(require("luv").os_getpid(), "sigsegv")]],
      [[it("hangs", function() while true do end end)]] } do
      local p = run(text, { SEGUE_SPEC_TIMEOUT = "1" })
      assert.equal("0 passed, 1 failed", p.stdout:match("([^\n]*)\n$"))
      assert.equal(1, p.code)
    end
  end)

  it("runs specs that are marked as long only on request", function()
    local text = [[describe("x", function()
        it("is short", function() end)
        it("takes minutes #long", function() end)
      end)
      describe("y #long", function()
        it("takes hours", function() end)
        it("fails after hours", function() error("late") end)
      end)]]
    local p = run(text)
    assert.equal("1 passed, 0 failed", p.stdout:match("([^\n]*)\n$"), p.stdout)
    p = run(text, { SEGUE_SPEC_LONG = "1" })
    assert.equal("2 passed, 1 failed", p.stdout:match("([^\n]*)\n$"), p.stdout)
    assert.matches("late", p.stdout)
  end)

  it("does not start a file without long specs when only long ones are requested", function()
    local p = run("os.exit(0)", { SEGUE_SPEC_LONG = "1" })
    assert.matches("No spec was found", p.stdout)
  end)

  it("starts the file first that took longest last time, and keeps how long each took", function()
    local dir = tempdir.new()
    for _, name in ipairs { "a", "b", "c" } do
      dir:write(name .. "_spec.lua", [[it("passes", function() end)]])
    end
    dir:write("times", ("1 %s\n2 %s\n3 %s\n"):format(dir:at("a_spec.lua"), dir:at("c_spec.lua"),
      dir:at("b_spec.lua")))
    local p = process.run { "luajit", "spec/support/run.lua", dir.path,
      env = { SEGUE_SPEC_TIMES = dir:at("times"), SEGUE_SPEC_JOBS = "1", SEGUE_SPEC_LONG = "" } }
    local order = ""
    for name in p.stdout:gmatch("/(%w)_spec%.lua +1 passed") do order = order .. name end
    assert.equal("bca", order, p.stdout)
    local _, lines = dir:read("times"):gsub("[%d.]+ [^\n]+_spec%.lua\n", "")
    assert.equal(3, lines)
    assert.matches("slowest files:\n +[%d.]+ s %(CPU +[%d.]+ s%)  ", p.stdout)
  end)

  it("makes folders in TMPDIR, and on a disk for a file that requests it", function()
    local dir = tempdir.new()
    local p = run([[local tempdir = require "spec.support.tempdir"
      after_each(tempdir.remove_all)
      it("has both", function()
        assert.matches("/memory/segue%-%w+$", tempdir.new().path)
        tempdir.on_disk()
        assert.matches("/disk/segue%-%w+$", tempdir.new().path)
      end)]], { TMPDIR = dir:mkdir "memory", SEGUE_SPEC_DISK = dir:mkdir "disk" })
    assert.equal("1 passed, 0 failed", p.stdout:match("([^\n]*)\n$"), p.stdout)
  end)

  it("fails when there was nothing to run", function()
    local p = run ""
    assert.equal("0 passed, 1 failed", p.stdout:match("([^\n]*)\n$"))
    assert.equal(1, p.code)
  end)

  it("finds and kills a process that a spec left behind", function()
    local p = run [[it("x", function() os.execute("setsid sleep 77 >/dev/null 2>&1 &") end)]]
    assert.equal("1 passed, 1 failed", p.stdout:match("([^\n]*)\n$"))
    local pid = p.stdout:match("left processes behind:\n%s+(%d+)")
    assert.truthy(pid)
    wait.until_true(function() return not uv.fs_stat("/proc/" .. pid .. "/exe") end)
  end)

  -- Each leak of a spec, and its name in the report.
  local leaks = {
    file = { [[kept = io.open("/etc/passwd")]], "descriptor %d+ %-> /etc/passwd" },
    socket = { [[kept = uv.new_udp() kept:bind("127.0.0.1", 0)]],
      "descriptor %d+ %-> socket:%[%d+%]" },
    handle = { [[kept = uv.new_timer()]], "handle uv_timer_t" },
    thread = { [[kept = uv.new_thread(function() require("luv").sleep(6000) end)]],
      "thread %d+ %(%S+%)" },
    child = { [[kept = uv.spawn("sleep", { args = { "77" } })]], "child %d+ %(sleep 77%)" },
  }

  for name, leak in pairs(leaks) do
    it("fails a spec that leaves a " .. name .. " behind, by its name, and not the next", function()
      local p = run(([[local uv = require "luv"
        require("spec.support.held").deadline_ms = 30
        describe("x", function()
          it("is clean", function() io.open("/etc/passwd"):close() end)
          it("leaks", function() %s end) -- luacheck: ignore
          it("is not to blame", function() end)
        end)]]):format(leak[1]))
      assert.equal(1, p.code)
      local _, times = p.stdout:gsub("the spec \"[^\"]*\" left behind", "")
      assert.equal(1, times, p.stdout)
      assert.matches('the spec "x leaks" left behind: [^\n]*' .. leak[2], p.stdout)
    end)
  end

  it("counts outside of the hooks, and waits for what ends by itself", function()
    -- luv frees the arguments of a thread that is collected, be it running or not: so it is kept
    local p = run [[local uv = require "luv"
      local file, thread
      before_each(function() file = io.open("/etc/passwd") end)
      after_each(function() file:close() end)
      it("has hooks", function() end)
      it("has a thread that ends", function()
        thread = uv.new_thread(function() require("luv").sleep(300) end)
      end)
      it("has a handle that closes", function() uv.new_timer():close() end)
      it("has a file that the collector closes", function() io.open("/etc/passwd") end)
      it("has a child that ends", function()
        local child
        child = uv.spawn("sleep", { args = { "0.3" } }, function() child:close() end)
      end)]]
    assert.equal("5 passed, 0 failed", p.stdout:match("([^\n]*)\n$"), p.stdout)
  end)

  it("fails a file if its setup leaves something behind", function()
    local p = run [[local held = require "spec.support.held"
      held.deadline_ms = 30
      describe("x", function()
        setup(function() held.kept = io.open("/etc/passwd") end)
        it("uses it", function() end)
      end)]]
    assert.equal("1 passed, 1 failed", p.stdout:match("([^\n]*)\n$"), p.stdout)
    assert.matches("at its end the file still holds: descriptor %d+ %-> /etc/passwd", p.stdout)
  end)
end)

describe("the rule for comments", function()
  it("reports a sentence that begins without a noun, in a block, behind code and after a stop",
    function()
      local dir, check, found = tempdir.new(), dofile "spec/support/words.lua", {}
      check(dir:write("a.c", "/* Whose file it is. */\nint a; /* What it counts. */\n"
        .. "/* A text. Those of others\n * are not. The end.\n *\n * Who reads it waits. */\n"
        .. 'char *s = "/* What"; /* the part of\n * What is its name. Others: What. */\n'))
      check(dir:write("b.lua", "--- Returns it. Whoever asks\n-- What is a name. Good.\n-- Who?\n"
        .. 'local s = ". What" -- What it is\n'))
      check(dir:write("c.lua", "-- SPDX-License-Identifier: MIT\n-- What the file is about.\n"))
      check(nil, function(where, _, message)
        local word = message:match("begins with (%a+): name its subject")
        if word then found[#found + 1] = where:match("[^/]+$") .. " " .. word end
      end)
      assert.same({ "a.c:1 Whose", "a.c:2 What", "a.c:3 Those", "a.c:6 Who", "b.lua:1 Whoever",
        "b.lua:3 Who", "b.lua:4 What", "c.lua:2 What" }, found)
    end)
  it("reports a private word with its replacement, also across the end of a line", function()
    local dir, check, found = tempdir.new(), dofile "spec/support/words.lua", {}
    check(dir:write("a.c", "/* The caller is\n * told by hand. */\n/* A \"told\" name. */\n"))
    check(nil, function(where, _, message)
      found[#found + 1] = where:match("[^/]+$") .. " " .. message:match("^'(.-)': write ")
    end)
    table.sort(found)
    assert.same({ "a.c:2 by hand", "a.c:2 told" }, found)
  end)
  it("reports a private word in the title of a spec, and not in its code", function()
    local dir, check, found = tempdir.new(), dofile "spec/support/words.lua", {}
    check(dir:write("a_spec.lua", 'describe("it", function()\n  it("is told", f)\nend)\n'
      .. 'local s = "told"\n'))
    check(dir:write("b.lua", 'it("is told", f)\n'))
    check(nil, function(where, _, message)
      found[#found + 1] = where:match("[^/]+$") .. " " .. message:match("^'(.-)': write ")
    end)
    assert.same({ "a_spec.lua:2 told" }, found)
  end)
  it("reports a private word in a message of the program, and in none of a spec", function()
    local dir, check, found = tempdir.new(), dofile "spec/support/words.lua", {}
    check(dir:write("core/a.c", 'log("the thread is \\"x\\" told");\nlog("good", "it goes on");\n'))
    check(dir:write("b.c", 'log("the thread is told");\n'))
    check(nil, function(where, _, message)
      found[#found + 1] = where:match("[^/]+$") .. " " .. message:match("^'(.-)': write ")
    end)
    assert.same({ "a.c:1 told", "a.c:2 goes on" }, found)
  end)
end)
