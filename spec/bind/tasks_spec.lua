-- SPDX-License-Identifier: MIT
-- Tasks of tasks: segue.spawn, all, any, race and timeout; files and names.
local async = require "spec.support.async"
local bind = require "spec.support.bind"
local fresh = require "spec.support.fresh"
local C = require "spec.support.c"

describe("tasks of tasks", function()
  local b
  local open = fresh(bind.open, function(opened) b = opened end)

  local prelude = [[
local function eq(want, got)
  if want ~= got then
    error(("wanted %s, got %s"):format(tostring(want), tostring(got)), 2)
  end
end
local function after(time, ...)
  local n, values = select("#", ...), { ... }
  return function() segue.sleep(time) return unpack(values, 1, n) end
end
local log = {}
local function fails(fn)
  local ok, why = pcall(fn)
  eq(false, ok)
  return why
end
local _ = after and log and fails
]]

  local function run(body)
    local answer = b:run(prelude .. body .. "\nreturn true")
    if not answer.ok then error(answer.text .. "\n" .. b:logged(), 2) end
    assert.equal(0, b:stats().tasks)
  end

  it("run side by side, and all waits for all", function()
    local call = b:start_check(assert(b:load([[local segue = require "segue"
      return { sources = { segue.value {} }, check = function()
        ]] .. prelude .. [[
        local r = segue.all { after(1, 5), after(2), name = after(3, "x", "y") }
        eq(5, r[1]) eq(true, r[2]) eq("x", r.name)
        eq(nil, next(segue.all {}))
        return true end }]])))
    b:advance(2999)
    assert.is_false(call:is_over())
    b:advance(1)
    assert.is_true(call:answer().ok, call:answer().text)
  end)

  it("cancel the others when one fails", function()
    run [[
      local r, why, code = segue.all { after(1, 1), after(2, nil, "no", "ECODE"),
        function() segue.sleep(3) log[1] = "ran" end }
      eq(nil, r) eq("no", why) eq("ECODE", code)
      segue.sleep(2)
      eq(nil, log[1])
    ]]
  end)

  it("raise an error of one in the waiting task, with its line, and log its traceback", function()
    run [[
      for _, name in ipairs { "all", "any", "race" } do
        local why = fails(function()
          segue[name] { after(5, 1), function() segue.sleep(1) error("bug") end }
        end)
        eq("bug", why:match("^reload.lua:%d+: (.*)$"))
      end
      eq("bug", fails(function() segue.timeout(9, function() error("bug") end) end):match("bug$"))
      local t = segue.spawn(function() error { message = "reported" } end)
      segue.sleep(1)
      eq("broken", t:status())
      eq("reported", fails(function() t:wait() end):match("reported$"))
    ]]
    assert.matches("traceback=stack traceback:.-reload.lua:%d+: in function", b:logged())
  end)

  it("any takes the first success", function()
    run [[
      local x, y = segue.any { after(3, "late"), after(2, "a", "b"), after(1, nil, "no") }
      eq("a", x) eq("b", y)
      local r, why, code = segue.any { after(1, nil, "no", "E1"), after(1, false, "nor", "E2") }
      eq(nil, r) eq("no; nor", why) eq("E2", code)
    ]]
  end)

  it("race takes the first end, good or bad", function()
    run [[
      eq("a", segue.race { after(2, "b"), after(1, "a") })
      local r, why = segue.race { after(2, "b"), after(1, nil, "no") }
      eq(nil, r) eq("no", why)
    ]]
  end)

  it("timeout bounds what it runs", function()
    run [[
      eq("x", segue.timeout("2s", after(1, "x")))
      local a, b = segue.timeout("2s", function(...) return ... end, nil, 7)
      eq(nil, a) eq(7, b)
      local r, why, code = segue.timeout("2s", after(3, "x"))
      eq(nil, r) eq("SEGUE_ETIMEOUT", code)
      eq("segue.timeout took longer than 2000 ms; it was waiting for segue.sleep", why)
      r, why = segue.timeout("1s", segue.all, { after(5), after(6) })
      eq(nil, r) eq("segue.timeout took longer than 1000 ms; it was waiting for other tasks", why)
    ]]
  end)

  it("spawn gives a task that can be waited for and cancelled", function()
    run [[
      local t = segue.spawn(after(2, 1, nil, 3))
      eq("running", t:status()) eq("task (running)", tostring(t))
      local a, b, c = t:wait()
      eq(1, a) eq(nil, b) eq(3, c) eq("done", t:status()) eq(1, (t:wait()))
      eq("x", segue.spawn(function(v) return v end, "x"):wait())
      t = segue.spawn(after(9))
      segue.sleep(1)
      t:cancel() t:cancel()
      local r, why, code = t:wait()
      eq(nil, r) eq("segue.spawn was cancelled", why) eq("SEGUE_ECANCELLED", code)
      t = segue.spawn(function() log[1] = "ran" end)
      t:cancel()
      segue.sleep(1)
      eq("cancelled", t:status()) eq(nil, log[1])
      local self
      self = segue.spawn(function() self:cancel() segue.sleep(1) log[1] = "ran" end)
      self:wait()
      eq("cancelled", self:status()) eq(nil, log[1])
    ]]
  end)

  it("can be waited for by many", function()
    run [[
      local t = segue.spawn(after(1, "x"))
      local r = segue.all { function() return t:wait() end, function() return t:wait() end }
      eq("x", r[1]) eq("x", r[2])
    ]]
  end)

  it("end with the task that spawned them", function()
    run [[
      local inner
      local t = segue.spawn(function()
        inner = segue.spawn(after(50))
        segue.spawn(function() segue.spawn(after(60)) segue.sleep(70) end)
        segue.sleep(1)
      end)
      t:wait()
      segue.sleep(1)
      eq("cancelled", inner:status())
      segue.spawn(after(100)) -- ends with this hook
    ]]
  end)

  it("do not nest on the stack, however deep", function()
    run [[
      local function deep(n)
        if n == 0 then return "bottom" end
        return segue.spawn(deep, n - 1):wait()
      end
      eq("bottom", deep(2000))
    ]]
  end)

  it("run by thousands", function()
    run [[
      local jobs = {}
      for i = 1, 5000 do jobs[i] = after(i % 4, i) end
      local r = segue.all(jobs)
      for i = 1, 5000 do eq(i, r[i]) end
      jobs[5001] = after(1)
      eq("segue.all takes at most 5000 functions",
        fails(function() segue.all(jobs) end):match("segue.all.*"))
    ]]
  end)

  local misuses = {
    { "segue.spawn(1)", "segue.spawn: its argument must be a function, not a number" },
    { "segue.all(1)", "segue.all needs a table of functions, not a number" },
    { "segue.all { 1 }", "segue.all: '1' is not a function but a number" },
    { "segue.any {}", "segue.any needs at least one function" },
    { "segue.race {}", "segue.race needs at least one function" },
    { "segue.timeout('x', print)", "segue.timeout: the time must be a duration such as 500ms," },
    { "segue.timeout(0, print)", "the time must be longer than 0" },
    { "segue.timeout(1)", "its second argument must be a function" },
    { "table.sort({ 2, 1 }, function() segue.spawn(print) end)", "cannot wait here" },
  }
  for _, case in ipairs(misuses) do
    it("throw at the caller's line: " .. case[1], function()
      local answer = b:run(case[1])
      assert.is_false(answer.ok)
      assert.is_truthy(answer.message:find(case[2], 1, true), answer.message)
      assert.equal("reload.lua", answer.file)
    end)
  end

  it("are refused while the policy is loaded", function()
    local err = b:refused [[local segue = require "segue"
      segue.spawn(function() end) return {}]]
    assert.matches("cannot wait while it is being loaded", err.message)
  end)

  it("are cancelled by the hook's time limit, all of them", function()
    local call = b:start_check(assert(b:load([[local segue = require "segue"
      return { sources = { segue.value {} }, timeouts = { check = "2s" }, check = function()
        segue.all { function() segue.sleep(50) end, function() segue.sleep(60) end } end }]])))
    b:step()
    assert.equal(3, b:stats().tasks)
    b:advance(2000)
    assert.matches("check took longer than", call:answer().message)
    assert.equal(0, b:stats().tasks)
  end)

  it("are contained: one that never returns ends the hook, and no other task", function()
    open { slice_ms = 50 }
    local answer = b:run [[segue.all { function() while true do end end,
      function() segue.sleep(1) end }]]
    assert.is_false(answer.ok)
    assert.is_true(b:run("return true").ok)
  end)

  it("work with a collector that stops the world", function()
    bind.stress = true
    open()
    bind.stress = false
    run [[
      local r = segue.all { after(1, "a"), function() return segue.timeout(1, after(5)) end }
      eq(nil, r)
      eq(2, segue.all({ after(1, 1), after(1, 2) })[2])
      segue.spawn(after(10)):cancel()
      segue.spawn(after(10))
    ]]
  end)
end)

describe("files and names", function()
  local a
  fresh(async.open, function(opened) a = opened end)

  it("are relative to the policy's folder", function()
    a.dir:mkdir("d")
    a:run [[
      eq(true, segue.write("d/x.txt", "a\0b"))
      eq("a\0b", segue.read "d/x.txt")
      local list = segue.list "d/*.txt"
      eq(1, #list) like("/d/x.txt$", list[1]) eq("/", list[1]:sub(1, 1))
      eq("a\0b", segue.read(list[1]))
      eq(0, #segue.list "d/*.none")
      local s = segue.stat "d/x.txt"
      eq("file", s.type) eq(3, s.size) eq("0600", s.mode) eq("number", type(s.mtime))
      eq("folder", segue.stat("d").type) eq("device", segue.stat("/dev/null").type)
    ]]
  end)

  it("are written as a whole, with their mode", function()
    a:run [[
      eq(true, segue.write("x", "1", { mode = "0640" })) eq("0640", segue.stat("x").mode)
      eq(true, segue.write("x", "22")) eq("0640", segue.stat("x").mode) eq("22", segue.read "x")
      local r, why, code = segue.write("none/x", "1")
      eq(nil, r) eq("ENOENT", code) like("cannot write .*/none/x", why)
    ]]
    assert.equal(2, #a.dir:list())
  end)

  it("report their errors", function()
    a:run [[
      local r, why, code = segue.read "none"
      eq(nil, r) eq("ENOENT", code) like("cannot read .*/none: it does not exist", why)
      r, why, code = segue.read("reload.lua", { max = 10 })
      eq(nil, r) eq("SEGUE_ELIMIT", code)
      like("reload.lua is larger than 10 bytes: raise max", why)
      r, why, code = segue.read "."
      eq(nil, r) eq("EISDIR", code)
      r, why, code = segue.stat "none"
      eq(nil, r) eq("ENOENT", code) like("cannot look at .*/none: it does not exist", why)
      r, why, code = segue.list "none/*"
      eq(nil, r) eq("ENOENT", code) like("cannot list", why)
    ]]
  end)

  it("that hang are abandoned, and the loop continues", function()
    local b = bind.open()
    C.segue__loop_hold_jobs(b.c.loop, true)
    local call = b:start_check(assert(b:load([[local segue = require "segue"
      return { sources = { segue.value {} }, check = function()
        local reported = segue.all {
          function() return { segue.read("x", { timeout = "1s" }) } end,
          function() return { segue.write("y", "", { timeout = "2s" }) } end }
        return nil, reported[1][2] .. "; " .. reported[2][2] .. "; " .. reported[1][3] end }]])))
    b:advance(1999)
    assert.is_false(call:is_over())
    b:advance(1)
    assert.equal("cannot read x: not done after 1000 ms; cannot write y: not done after 2000 ms; "
      .. "SEGUE_ETIMEOUT", call:answer().message)
    b:close()
  end)

  it("that hang replace no file after their time limit, unless they were about to", function()
    local status = C.ffi.new "segue__queue_status"
    local function ended()
      C.segue__queue_status_get(a.c.loop, C.SEGUE__QUEUE_POLICY, status)
      return status.hanging == 0
    end
    a.dir:write("y", "old")
    C.segue__fault_arm "write.sync=hang"
    a:run [[ local done, why, code = segue.write("y", "new", { timeout = "300ms" })
      eq(nil, done) eq("SEGUE_ETIMEOUT", code) like("/y: not done after 300 ms$", why) ]]
    C.segue__fault_arm "write.rename=hang"
    a:run [[ local writes = segue.spawn(function() return segue.write("y", "new") end)
      segue.sleep "100ms"
      writes:cancel() ]]
    C.segue__fault_arm(nil)
    a:pump(ended)
    assert.equal("old", a.dir:read "y")
    C.segue__fault_arm "write.dirsync=hang"
    a:run [[ local done, why = segue.write("y", "new", { timeout = "1s" })
      eq(nil, done) like("the new file may be in place, and may not be on disk yet$", why) ]]
    C.segue__fault_arm(nil)
    a:pump(ended)
    assert.equal("new", a.dir:read "y")
  end)

  local misuses = {
    { "segue.read()", 'segue%.read: path is missing: "config%.yaml"' },
    { "segue.read('')", "must not be empty" },
    { "segue.read('x', { mx = 1 })", "segue%.read: mx is not a known key here: did you mean" },
    { "segue.write('x')", "segue%.write: text is missing: a text" },
    { "segue.write('x', 'y', { mode = 'rw' })", "segue%.write: mode must be permissions such as" },
    { "segue.stat(1)", "segue%.stat: path must be a text, not 1" },
    { "segue.list('x', 1)", "options must be a table" },
    { "segue.resolve()", 'segue%.resolve: host is missing: "localhost"' },
  }
  for _, case in ipairs(misuses) do
    it("throw at the caller's line: " .. case[1], function()
      a:run(([[local ok, why = pcall(function() %s end)
        eq(false, ok) like("reload.lua:%%d+: ", why) like(%q, why)]]):format(case[1], case[2]))
    end)
  end

  it("are resolved", function()
    a:run [[
      eq("127.0.0.1", segue.resolve("127.0.0.1")[1])
      is_true(#is_true(segue.resolve "localhost") >= 1)
      local r, why, code = segue.resolve "no-such-host.invalid"
      eq(nil, r) eq("EAI_NONAME", code) like("the host no%-such%-host.invalid is not known", why)
    ]]
  end)

  it("are released with their policy", function()
    local call = a:start(assert(a:policy [[segue.all {
      function() segue.resolve "no-such-host.invalid" end,
      function() segue.read "reload.lua" end, function() segue.write("x", "y") end }]]))
    a:unload()
    a:pump(function() return call.over end)
  end)
end)
