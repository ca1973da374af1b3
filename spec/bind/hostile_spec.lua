-- SPDX-License-Identifier: MIT
-- Loops in places that once had no budget: descriptions of error objects, error handlers, C
-- functions, finalizers. Each case would take minutes; each ends within the time of its call.
local bind = require "spec.support.bind"
local fresh = require "spec.support.fresh"
local cpu = require "spec.support.cpu"

local b
local open = fresh(bind.open, function(opened) b = opened end, false)

-- Runs fn; it must take less than ten seconds of CPU time.
local function in_time(fn) return cpu.ends_in(10000, fn) end

local loop = "for _ = 1, 1e10 do end"
local object = ("setmetatable({}, { __tostring = function() %s return 'x' end })"):format(loop)

-- Code of a hook or of the top level of a policy, and the error that ends it.
local cases = {
  { "an error object whose __tostring loops", ("error(%s)"):format(object) },
  { "a handler of xpcall that loops when the time is over",
    ("xpcall(function() %s end, function() %s end)"):format(loop, loop) },
  { "a handler of xpcall inside of another one",
    ("xpcall(function() xpcall(function() %s end, function() %s end) end, function() %s end)")
      :format(loop, loop, loop) },
  { "a handler of xpcall in a coroutine",
    ("coroutine.wrap(function() xpcall(function() %s end, function() %s end) end)()")
      :format(loop, loop) },
  { "a handler that is given an error object whose __tostring loops",
    ("xpcall(function() error(%s) end, tostring)"):format(object) },
  { "an order in C of a long list",
    "local t = {} for i = 1, 2e6 do t[i] = i end while true do table.sort(t, rawequal) end" },
  { "long texts that are compared",
    "local a, c = ('x'):rep(16e6), ('x'):rep(16e6 - 1) .. 'y' while true do local _ = a < c end" },
  { "long texts that are read as numbers",
    "local a = ('1'):rep(16e6) while true do local _ = tonumber(a) end" },
  { "a text that load is given without an end", "local function read() return ' ' end "
    .. "while true do pcall(load, read) pcall(load, math.random) end" },
  { "a function that loops inside of load, and again behind it",
    ("load(function() %s end) %s"):format(loop, loop) },
}

for _, with in ipairs { { "a signal", true }, { "the count hook", false } } do
  describe("with the time kept by " .. with[1] .. ",", function()
    before_each(function() open { signal = with[2], slice_ms = 60, load_ms = 60 } end)
    for _, case in ipairs(cases) do
      it(case[1] .. " ends a hook in its time, with its place", function()
        local answer = in_time(function() return b:run("\n" .. case[2]) end)
        assert.equal("SEGUE_ETIMEOUT", answer.status, answer.text)
        assert.equal("reload.lua", answer.file)
        assert.equal(4, answer.line)
        assert.is_true(b:run("return true").ok)
      end)
      it(case[1] .. " ends the load of a policy in its time", function()
        local answer = in_time(function() return (b:refused("\n\n" .. case[2])) end)
        assert.equal("SEGUE_ETIMEOUT", answer.name, answer.text)
        assert.equal(3, answer.line)
      end)
    end

    it("an object whose __tostring loops ends the reload hook as well, and the task of a task",
      function()
        for _, body in ipairs { "error(%s)", "segue.spawn(function() error(%s) end):wait()",
          "print(%s)", "segue.log.info('x', { k = %s })" } do
          local answer = in_time(function() return b:run(body:format(object)) end)
          assert.is_false(answer.ok, body)
          assert.truthy(answer.text:find("more than 60 ms of CPU time", 1, true), answer.text)
        end
      end)
  end)
end

describe("table.insert", function()
  before_each(function() open { slice_ms = 5000 } end)
  local function run(body)
    local answer = in_time(function() return b:run(body .. "\nreturn true") end)
    assert.is_true(answer.ok, answer.text)
  end
  it("refuses a position that is not in the list", function()
    for _, at in ipairs { "-2^31", "0", "-1", "2^31", "0/0", "1/0" } do
      local answer = in_time(function() return b:run(("table.insert({}, %s, 1)"):format(at)) end)
      assert.equal("SEGUE_EPOLICY", answer.status)
      assert.truthy(answer.message:find("is not in the list", 1, true), answer.text)
    end
  end)
  it("works as it does in Lua", function()
    run [[
      local t = { "a", "c" }
      table.insert(t, 2, "b") table.insert(t, "d") table.insert(t, 1, "_") table.insert(t, 9, "z")
      assert(table.concat(t, "", 1, 5) == "_abcd" and t[9] == "z" and t[6] == nil)
      assert(not pcall(table.insert, t) and not pcall(table.insert, t, 1, 2, 3))
      local long = {}
      for i = 1, 150000 do long[i] = i end
      table.insert(long, 2, "x")
      assert(long[1] == 1 and long[2] == "x" and long[3] == 2 and long[150001] == 150000)
    ]]
  end)
  it("ends within its time for a table with few items and a large length", function()
    open { slice_ms = 60, memory = 2^30 }
    local answer = in_time(function()
      return b:run("local t = setmetatable({}, {}) for i = 1, 3e7 do t[i] = true end "
        .. "while true do table.insert(t, 1, 1) end")
    end)
    assert.equal("SEGUE_ETIMEOUT", answer.status, answer.text)
  end)
end)

describe("a function in C", function()
  before_each(function() open { slice_ms = 5000 } end)
  it("does not format a date without a limit", function()
    local answer = in_time(function() return b:run("local _ = os.date(('%c'):rep(1e6))") end)
    assert.truthy(answer.message:find("the format is longer than 4096 bytes", 1, true), answer.text)
    assert.is_true(b:run("return #os.date('%Y-%m-%d') == 10 and os.date('*t').year > 2000").ok)
  end)
  it("does not read more than 4 MiB for load", function()
    local answer = in_time(function()
      return b:run("return nil, select(2, load(function() return '      ' end))")
    end)
    assert.truthy(answer.message:find("the text is longer than 4 MiB", 1, true), answer.text)
    assert.is_true(b:run([[local parts, i = { "return ", "1", "2", nil }, 0
      return load(function() i = i + 1 return parts[i] end)() == 12]]).ok)
  end)
end)

describe("xpcall", function()
  before_each(function() open() end)
  it("works as it does in Lua, and may wait", function()
    local answer = b:run([[
      local function eq(want, got) if want ~= got then error(tostring(got), 2) end end
      eq(true, (xpcall(function() end, print)))
      local ok, a, c = xpcall(function(...) return ... end, print, 1, 2)
      eq(true, ok) eq(1, a) eq(2, c)
      ok, a = xpcall(function() error({ code = 7 }) end, function(e) return e.code end)
      eq(false, ok) eq(7, a)
      ok, a = xpcall(function() error("x", 0) end, function(e) error(e) end)
      eq(false, ok)
      local function deep() return 1 + deep() end
      ok, a = xpcall(deep, function(e) return "caught " .. e end)
      eq(false, ok) eq("caught ", a:sub(1, 7))
      ok, a = xpcall(function() segue.sleep(1) return "waited" end, print)
      eq("waited", a)
      ok, a = pcall(xpcall, print)
      eq(false, ok) eq("bad argument #2 to 'xpcall' (function expected, got nil)", a)
      return true]])
    assert.is_true(answer.ok, answer.text)
  end)
end)

describe("a finalizer", function()
  before_each(function() open() end)
  it("cannot be set by a policy", function()
    local answer = b:run([[
      local ran = 0
      for _ = 1, 100 do setmetatable({}, { __gc = function() ran = ran + 1 end }) end
      for i = 1, 50 do local _ = ("x"):rep(1e5) .. i end
      assert(ran == 0 and newproxy == nil and collectgarbage == nil)
      local list = { next, segue.null, segue.int(1), segue.spawn(print),
                     require("segue.core").run { "true" } }
      for _, v in pairs(list) do
        assert(not getmetatable(v) and not pcall(setmetatable, v, {}))
      end
      return true]], "a: 1")
    assert.is_true(answer.ok, answer.text)
  end)
end)
