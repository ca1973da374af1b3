-- SPDX-License-Identifier: MIT
-- Hooks: what check may return, errors of every shape, limits, and what a policy cannot reach.
local C = require "spec.support.c"
local bind = require "spec.support.bind"
local fresh = require "spec.support.fresh"

local b
local open = fresh(bind.open, function(opened) b = opened end)

it("an error of a hook is answered with its place; its traceback is for debugging", function()
  local answer = b:run("error('broken')")
  assert.equal("reload.lua:3: broken", answer.text)
  local logged = b:logged()
  assert.truthy(logged:find("debug policy: an error in the policy", 1, true), logged)
  for line in logged:gmatch("[^\n]+") do
    assert.is_true(not line:find("traceback", 1, true) or line:find("^debug ") ~= nil, line)
  end
end)

describe("check", function()
  local cases = {
    { "accepts", "return true", "ok" },
    { "refuses with a reason", "return nil, 'no: ' .. next.port", "SEGUE_EVETO", "no: 80" },
    { "refuses by false as well", "return false, 'no'", "SEGUE_EVETO", "no" },
    { "has to give a reason", "return nil", "SEGUE_EPOLICY",
      "check returned nil without a reason" },
    { "has to give a reason for false", "return false", "SEGUE_EPOLICY",
      "check returned false without a reason" },
    { "has to return something", "local x = 1", "SEGUE_EPOLICY",
      "check returned nothing: return true, or nil and a text with the reason" },
    { "has to return true", "return 'yes'", "SEGUE_EPOLICY", "check returned a string: return" },
    { "has to give a text", "return nil, 7", "SEGUE_EPOLICY", "returned a number as its reason" },
    { "has to give a text or problems", "return nil, {}", "SEGUE_EPOLICY",
      "returned a table as its reason" },
    { "sees no previous one at first", "return prev == nil", "ok" },
  }
  for _, case in ipairs(cases) do
    it(case[1], function()
      local answer = b:run(case[2], "port: 80")
      assert.equal(case[3], answer.status)
      if case[4] then assert.truthy(answer.message:find(case[4], 1, true), answer.text) end
    end)
  end

  it("sees the previous configuration", function()
    local answer = b:run("return nil, prev.port .. ' to ' .. next.port", "port: 81", "port: 80")
    assert.equal("80 to 81", answer.message)
  end)

  local errors = {
    { "a text", "error('broken')", "broken", 4 },
    { "a text without a place", "error('broken', 0)", "broken", 4 },
    { "a table", "error({ code = 7 })", "error() was called with a table", 4 },
    { "a table with a message", "error({ message = 'as reported' })", "as reported", 4 },
    { "a table with __tostring",
      "error(setmetatable({}, { __tostring = function() return 'spoken' end }))", "spoken", 4 },
    { "a table whose __tostring fails",
      "error(setmetatable({}, { __tostring = function() error('x') end }))",
      "an error was thrown whose text cannot be made", 4 },
    { "nil", "error(nil)", "error() was called with nil", 4 },
    { "a function", "error(print)", "error() was called with a function", 4 },
    { "a missing field", "local x = next.a.b.c", "attempt to index", 4 },
    { "endless recursion", "local function f() return 1 + f() end f()", "stack overflow", 4 },
    { "recursion through gsub", "local function f() return (('x'):gsub('x', f)) end f()",
      "stack overflow", 4 },
    { "recursion through coroutines", "local function f() return coroutine.wrap(f)() end f()",
      "stack overflow", 4 },
    { "recursion through sort", "local function f() table.sort({ 1, 2, 3 }, f) end f()",
      "stack overflow", 4 },
    { "recursion through load", "local function f() assert(load(f)) end f()", "", 4 },
    { "recursion through tostring in format",
      "local t = {} setmetatable(t, { __tostring = function() return ('%s'):format(t) end }) "
      .. "print(t)", "stack overflow", 4 },
    { "recursion through print",
      "local t = {} setmetatable(t, { __tostring = function() print(t) return 'x' end }) print(t)",
      "stack overflow", 4 },
    { "recursion through the log",
      "local t = {} setmetatable(t, { __tostring = function() segue.log.info('x', { t = t }) "
      .. "return 'x' end }) print(t)", "stack overflow", 4 },
    { "recursion through tostring",
      "local t = {} setmetatable(t, { __tostring = function() return (tostring(t)) end }) print(t)",
      "stack overflow", 4 },
    { "recursion through foreach",
      "local function f() table.foreach({ 1 }, f) end f()", "stack overflow", 4 },
  }
  for _, case in ipairs(errors) do
    it("that throws " .. case[1] .. " is a bug of the policy, reported with its place", function()
      open { slice_ms = 10000 } -- a recursion up to the limit takes 200 ms on a busy machine
      local answer = b:run("\n" .. case[2] .. "\nreturn true", "a: {}")
      assert.equal("SEGUE_EPOLICY", answer.status)
      assert.truthy(answer.message:find(case[3], 1, true), answer.text)
      assert.equal("reload.lua", answer.file)
      assert.equal(case[4], answer.line)
    end)
  end

  it("leaves the traceback of its error in the log", function()
    b:run("local function inner() error('deep down') end\ninner()\nreturn true")
    assert.truthy(b:logged():find("traceback=stack traceback:.*reload.lua:3.*reload.lua:4"),
      b:logged())
  end)

  it("that failed is run again in the same state", function()
    local p = assert(b:load [[local segue = require "segue"
      local n = 0
      return { sources = { segue.value {} }, check = function()
        n = n + 1
        if n < 3 then error("not yet") end
        return true
      end }]])
    assert.is_false(b:check(p).ok)
    assert.is_false(b:check(p).ok)
    assert.is_true(b:check(p).ok)
  end)
end)

describe("a probe", function()
  local function probe(body)
    local p = assert(b:load(([[local segue = require "segue"
      return { sources = { segue.value {} }, confirm = { probe = segue.probe.call(function()
        %s
      end) } }]]):format(body)))
    return b:start_probe(p):answer()
  end
  it("is good when it returns true", function() assert.is_true(probe("return true").ok) end)
  it("is bad with a reason", function()
    local answer = probe("return nil, 'no answer'")
    assert.equal("SEGUE_EPROBE", answer.status)
    assert.equal("no answer", answer.message)
  end)
  it("that throws is a bug of the policy", function()
    assert.equal("SEGUE_EPOLICY", probe("error 'x'").status)
  end)
end)

local spins = {
  { "an endless loop", "while true do end" },
  { "a loop that swallows errors", "while true do pcall(function() while true do end end) end" },
  { "a spinning coroutine",
    "local co = coroutine.wrap(function() while true do coroutine.yield() end end) "
    .. "while true do co() end" },
  { "new coroutines without end",
    "while true do pcall(coroutine.wrap(function() error() end)) end" },
  { "an error handler that loops",
    "while true do xpcall(error, function() while true do end end) end" },
  { "a sort whose order loops", "table.sort({ 1, 2, 3 }, function() while true do end end)" },
  { "a replacement that loops", "('x'):gsub('.', function() while true do end end)" },
  { "a metamethod that loops",
    "local t = setmetatable({}, { __index = function(t, k) return t[k + 1] end }) "
    .. "while true do pcall(function() return t[1] end) end" },
  { "endless tail calls", "local function f() return f() end f()" },
}
for _, with in ipairs { { "a signal", true }, { "the count hook", false } } do
  describe("CPU time, kept by " .. with[1], function()
    for _, spin in ipairs(spins) do
      it("stops " .. spin[1], function()
        open { signal = with[2], slice_ms = 30 }
        local answer = b:run(spin[2] .. "\nreturn true")
        assert.equal("SEGUE_ETIMEOUT", answer.status)
        assert.truthy(answer.message:find("check used more than 30 ms of CPU time", 1, true))
        assert.equal("reload.lua", answer.file)
        assert.equal(3, answer.line)
      end)
    end

    it("stops a policy that does not end while it is loaded", function()
      open { signal = with[2], load_ms = 40 }
      local e = b:refused("\nwhile true do pcall(error) end")
      assert.truthy(e.message:find("more than 40 ms of CPU time", 1, true), e.text)
      assert.equal(2, e.line)
    end)

    it("does not stop code that stays within it", function()
      open { signal = with[2], slice_ms = 2000 }
      local answer = b:run("local n = 0 for i = 1, 300000 do n = n + i end return n > 0")
      assert.is_true(answer.ok, answer.text)
    end)
  end)
end

describe("a state that hit a limit", function()
  local text = [[local segue = require "segue"
    local part = require "part"
    local private = 0
    return { sources = { segue.value {} }, check = function(next)
      private = private + 1
      segue.state.count = (segue.state.count or 0) + 1
      segue.state.list = { 1, { x = "y" }, segue.int("9223372036854775807"), segue.null }
      if next.spin then while true do end end
      if next.eat then local t = {} while true do t[#t + 1] = ("x"):rep(1000) .. #t end end
      return nil, ("%d %d %s %s"):format(segue.state.count, private, part.name,
        tostring(segue.state.list[3]))
    end }]]
  for _, case in ipairs { { "spin", "SEGUE_ETIMEOUT" }, { "eat", "SEGUE_ELIMIT" } } do
    it("by " .. case[1] .. " is built anew from the same bytes; segue.state survives", function()
      open { slice_ms = 500, memory = 8 * 1024 * 1024 }
      b:write("part.lua", "return { name = 'old' }")
      local p = assert(b:load(text))
      assert.equal("1 1 old 9223372036854775807", b:check(p, "{}").message)
      local answer = b:check(p, case[1] .. ": true")
      assert.equal(case[2], answer.status, answer.text)
      b:write("part.lua", "return { name = 'new' }")
      assert.equal("3 1 old 9223372036854775807", b:check(p, "{}").message)
      assert.truthy(b:logged():find("the policy's state was built again", 1, true))
      assert.equal(1, b:stats().states)
    end)
  end

  local gluttons = {
    { "a text that doubles", "local s = 'xxxxxxxx' while true do s = s .. s end" },
    { "a table that grows", "local t = {} for i = 1, 1e9 do t[i] = i end" },
    { "errors that are swallowed",
      "local t = {} while true do pcall(function() t[#t + 1] = ('x'):rep(1e6) .. #t end) end" },
    { "coroutines", "local t = {} while true do t[#t + 1] = coroutine.create(print) end" },
  }
  for _, case in ipairs(gluttons) do
    it("is freed with all its memory: " .. case[1] .. " leads to", function()
      open { memory = 8 * 1024 * 1024, slice_ms = 3000 }
      local answer = b:run(case[2] .. "\nreturn true")
      assert.truthy(answer.status == "SEGUE_ELIMIT", answer.text)
      assert.truthy(answer.message:find("needed more than 8 MiB of memory", 1, true), answer.text)
    end)
  end

  it("is not needed for a long text: string.rep refuses it", function()
    local answer = b:run("return #('x'):rep(1e9) > 0")
    assert.truthy(answer.message:find("would be longer than 16 MiB", 1, true), answer.text)
    assert.is_true(b:run("return ('ab'):rep(3, '-') == 'ab-ab-ab' and ('x'):rep(0) == ''").ok)
  end)
end)

describe("memory that runs out in a hook", function()
  it("is an answer, and the next call is served", function()
    local p = assert(b:load [[local segue = require "segue"
      return { sources = { segue.value {} }, check = function(next)
        segue.state.n = (segue.state.n or 0) + 1
        segue.sleep "1s"
        local v = segue.validate(next)
        v:integer("list[*].port", { max = 5 }):unique("list", "name")
        if #segue.copy(next).list ~= 2 then error "lost" end
        return v:result()
      end }]])
    local failed = 0
    for n = 1, 400 do
      local next = b:snapshot "list: [{ name: a, port: 1 }, { name: a, port: 9 }]"
      C.segue__mem_fail_at(n)
      local c = C.bind_check(b.c, p, next, nil, 60000)
      if c ~= nil then
        b.calls[#b.calls + 1] = c
        b:step()
        for _ = 1, 20 do b:advance(100) end
        C.segue__mem_fail_at(0)
        assert.is_true(c.over, "n = " .. n)
        assert.is_true(c.status < 0, "n = " .. n)
        if c.status ~= C.SEGUE_EVETO then failed = failed + 1 end
      end
      C.segue__mem_fail_at(0)
      b:drop_snapshots()
    end
    assert.is_true(failed > 50)
    assert.equal("SEGUE_EVETO", b:check(p,
      "list: [{ name: a, port: 1 }, { name: a, port: 9 }]").status)
    assert.equal(2, #b:explain(p))
  end)
end)

describe("segue.state", function()
  local text = [[local segue = require "segue"
    return { sources = { segue.value {} }, check = function(next)
      segue.state.n = (segue.state.n or 0) + 1
      if next.bad then segue.state.f = print end
      return nil, tostring(segue.state.n) .. type(segue.state.f)
    end }]]
  it("goes from a policy to its successor", function()
    local first = assert(b:load(text))
    b:check(first)
    assert.equal("2nil", b:check(first).message)
    local second = assert(b:load(text .. "--"))
    assert.equal("3nil", b:check(second).message)
    b:unload(first)
    assert.equal("4nil", b:check(second).message)
  end)
  it("leaves out values that are not plain data, and logs that", function()
    local first = assert(b:load(text))
    assert.equal("1function", b:check(first, "bad: true").message)
    local second = assert(b:load(text))
    assert.equal("2nil", b:check(second).message)
    assert.truthy(b:logged():find("segue.state holds what cannot be kept type=function", 1, true))
  end)
end)

describe("the sandbox", function()
  local absent = { "io", "package", "debug", "jit", "ffi", "collectgarbage", "dofile", "loadfile",
    "newproxy", "getfenv", "setfenv", "module", "gcinfo", "os.execute", "os.exit", "os.remove",
    "os.rename", "os.tmpname", "os.setlocale", "string.dump" }
  for _, name in ipairs(absent) do
    it("has no " .. name, function()
      local answer = b:run(("return %s == nil"):format(name))
      assert.is_true(answer.ok, answer.text)
    end)
  end

  local attempts = {
    { "require 'ffi'", "require 'ffi' comes too late" },
    { "require 'jit.opt'", "require 'jit.opt' comes too late" },
    { "os.execute 'true'", "attempt to call field 'execute'" },
    { "string.dump(print)", "attempt to call field 'dump'" },
    { "('x'):dump()", "attempt to call method 'dump'" },
    { "assert(load('\\27LJ'))", "attempt to load chunk with wrong mode" },
    { "assert(loadstring('\\27LJ', 'x', 'b'))", "attempt to load chunk with wrong mode" },
    { "setmetatable('', {})", "table expected" },
  }
  for _, case in ipairs(attempts) do
    it("refuses " .. case[1], function()
      local answer = b:run(case[1])
      assert.equal("SEGUE_EPOLICY", answer.status)
      assert.truthy(answer.message:find(case[2], 1, true), answer.text)
    end)
  end

  it("keeps what a policy does to `string` away from methods of strings", function()
    assert.is_true(b:run([[string.upper = function() return "hacked" end
      assert(getmetatable("") == "string")
      return ("x"):upper() == "X"]]).ok)
  end)
  it("loads text, with an environment", function()
    assert.is_true(b:run([[local f = assert(load("return x", "name", "t", { x = 5 }))
      assert(load("return 1 +") == nil and loadstring("return 2")() == 2)
      return f() == 5]]).ok)
  end)
  it("has the harmless parts of os", function()
    assert.is_true(b:run([[return type(os.time()) == "number" and type(os.clock()) == "number"
      and #os.date("%Y") == 4 and os.difftime(2, 1) == 1 and os.getenv("NO_SUCH") == nil]]).ok)
  end)
  it("prints into the log", function()
    b:run("print('a', nil, 1.5, { } ~= nil) segue.log.warn('look', { port = 80 }) return true")
    assert.truthy(b:logged():find("info policy: a nil 1.5 true", 1, true), b:logged())
    assert.truthy(b:logged():find("warn policy: look port=80", 1, true), b:logged())
  end)
  it("logs fields in the order of their keys, of many the first eight", function()
    b:run([[local few, many = {}, {}
      for c in ("qwertz"):gmatch(".") do few[c] = c end
      for c in ("qwertyuiopasdfghjklzxcvbnm"):gmatch(".") do many[c] = c end
      few[7], few[true] = "seven", "not reported"
      segue.log.warn("few", few)
      segue.log.warn("many", many)
      return true]])
    assert.truthy(b:logged():find("few 7=seven e=e q=q r=r t=t w=w z=z\n", 1, true), b:logged())
    assert.truthy(b:logged():find("many a=a b=b c=c d=d e=e f=f g=g h=h\n", 1, true), b:logged())
  end)
  it("gives no way out of config values and transactions", function()
    assert.is_true(b:run([[assert(getmetatable(segue.null) == false)
      assert(getmetatable(segue.int(5)) == false)
      assert(not pcall(setmetatable, segue.null, {}))
      return true]]).ok)
  end)
end)
