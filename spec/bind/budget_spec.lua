-- SPDX-License-Identifier: MIT
-- Hostile code in policies: each case ends with an outcome and its place, within its time and
-- memory, and the policy works again afterwards.
local bind = require "spec.support.bind"
local cpu = require "spec.support.cpu"
local fresh = require "spec.support.fresh"

local ends_in = cpu.ends_in

local b
local open = fresh(bind.open, function(opened) b = opened end)

describe("a pattern that would run for ever", function()
  local bombs = {
    { "in find", "local r = ('a'):rep(40):find(('a-'):rep(12) .. 'b')" },
    { "in match", "local r = ('a'):rep(40):match(('a*'):rep(12) .. 'b')" },
    { "in gsub", "local r = ('a'):rep(40):gsub(('a?'):rep(40) .. ('a'):rep(41), '')" },
    { "in gmatch", "for x in ('a'):rep(40):gmatch(('[ab]-'):rep(12) .. 'b') do print(x) end" },
    { "as a method", "local s = ('a'):rep(40) local r = s:find(('.-'):rep(12) .. 'b$')" },
    { "with a capture again", "local r = ('a'):rep(1e5):find('(a*)%1b')" },
    { "with captures", "local r = ('a'):rep(40):find(('(a*)'):rep(12) .. 'b')" },
  }
  for _, with in ipairs { { "a signal", true }, { "the count hook", false } } do
    for _, bomb in ipairs(bombs) do
      it(bomb[1] .. " is an error with its place, by its steps, under " .. with[1], function()
        open { signal = with[2], slice_ms = 60000 }
        local answer = ends_in(10000, function() return b:run("\n" .. bomb[2]) end)
        assert.equal("SEGUE_EPOLICY", answer.status, answer.text)
        assert.truthy(answer.message:find("pattern too complex", 1, true), answer.text)
        assert.equal("reload.lua", answer.file)
        assert.equal(4, answer.line)
        assert.truthy(b:logged():find("traceback=stack traceback:.*reload.lua:4"))
      end)
      it(bomb[1] .. " that is tried again and again runs into the time, under " .. with[1],
        function()
          open { signal = with[2], slice_ms = 30 }
          local answer = ends_in(2000, function()
            return b:run("while true do pcall(function()\n" .. bomb[2] .. " end) end")
          end)
          assert.equal("SEGUE_ETIMEOUT", answer.status, answer.text)
          assert.equal("reload.lua", answer.file)
          assert.is_true(answer.line == 3 or answer.line == 4, answer.text)
        end)
    end
  end

  it("has the line of its hook, where a tail call has left no other", function()
    local answer = b:run("return ('a'):rep(40):find(('a-'):rep(12) .. 'b')")
    assert.equal("reload.lua", answer.file)
    assert.equal(2, answer.line)
  end)

  local long = {
    { "tries every place", "local r = ('a'):rep(1e5):find('[a]-b')" },
    { "goes back from every place", "local r = ('a'):rep(1e5):find('a*b')" },
    { "balances from every place", "local r = ('('):rep(1e6):find('%b()')" },
    { "replaces by a function in C", "local r = ('x'):rep(4e6):gsub('.', string.upper)" },
    { "sorts a long list", "table.sort(_G.list)", 2e6 },
  }
  for _, case in ipairs(long) do
    it("because it " .. case[1] .. " of a long text is stopped by the time", function()
      open { slice_ms = 30, load_ms = 20000 }
      local p = assert(b:load(([[local segue = require "segue"
        list = {}
        for i = 1, %d do list[i] = (i * 7919) %% 1000003 end
        return { sources = { segue.value {} }, check = function()
        %s
        end }]]):format(case[3] or 0, case[2])))
      local answer = ends_in(2000, function() return b:check(p) end)
      assert.equal("SEGUE_ETIMEOUT", answer.status, answer.text)
      assert.equal("reload.lua", answer.file)
      assert.equal(5, answer.line)
    end)
  end
end)

describe("a result that is too long", function()
  local cases = {
    { "of string.rep", "local r = ('x'):rep(1e9)", "string.rep: the result would be longer than" },
    { "of a separator", "local r = (''):rep(1e6, ('x'):rep(99))", "string.rep: the result" },
    { "of gsub", "local r = ('x'):rep(1e6):gsub('x', ('y'):rep(1000))", "string.gsub: the result" },
    { "of gsub with a function",
      "local y = ('y'):rep(1e6) local r = ('x'):rep(1e3):gsub('x', function() return y end)",
      "string.gsub: the result" },
    { "of table.concat", "local x, t = ('x'):rep(1e6), {} for i = 1, 100 do t[i] = x end "
      .. "local r = table.concat(t)", "table.concat: the result would be longer than" },
    { "of string.format", "local x = ('x'):rep(16e6) "
      .. "local r = ('%s%s%s%s%s'):format(x, x, x, x, x)", "string.format: the result" },
    { "of a width", "local r = ('%9999d'):format(1)", "invalid" },
    { "of a precision", "local r = ('%.9999f'):format(1)", "invalid" },
    { "of a pattern", "local r = ('x'):find(('.'):rep(1e6))", "the pattern is too long" },
    { "to be loaded", "local r = load(('x = 1 '):rep(1e6))", "longer than 4 MiB" },
    { "of a list that moves", "table.move(next.l, 1, 2^31 - 2, 1, {})",
      "too many elements" },
  }
  for _, case in ipairs(cases) do
    it(case[1] .. " is an error with its place", function()
      open { slice_ms = 10000 }
      local answer = b:run("\n" .. case[2] .. "\n", "l: [1]")
      assert.equal("SEGUE_EPOLICY", answer.status, answer.text)
      assert.truthy(answer.message:find(case[3], 1, true), answer.text)
      assert.equal("reload.lua", answer.file)
      assert.equal(4, answer.line)
    end)
  end

  it("of many formats reaches the time limit", function()
    open { slice_ms = 30 }
    local answer = b:run("local t = {}\nwhile true do t[1] = ('%99.99f'):format(1e300) end")
    assert.equal("SEGUE_ETIMEOUT", answer.status)
    assert.equal(4, answer.line)
  end)
end)

describe("memory that runs out", function()
  it("is reported with its place, and the traceback", function()
    open { memory = 8 * 1024 * 1024, slice_ms = 10000 }
    local answer = b:run("local t = {}\nlocal function eat()\n  for i = 1, 1e9 do t[i] = { i } end"
      .. "\n  return t\nend\nlocal r = eat()\nreturn r")
    assert.equal("SEGUE_ELIMIT", answer.status)
    assert.equal("reload.lua", answer.file)
    assert.equal(5, answer.line)
    assert.truthy(b:logged():find("stack traceback:.*reload.lua:5:.*reload.lua:8:"), b:logged())
  end)
  it("while the policy is loaded is reported with its place", function()
    open { memory = 8 * 1024 * 1024, load_ms = 10000 }
    local e = b:refused("local t = {}\nfor i = 1, 1e9 do\n  t[i] = { i }\nend")
    assert.truthy(e.message:find("needed more than 8 MiB", 1, true), e.text)
    assert.equal(3, e.line)
  end)
end)

describe("recursion without end", function()
  local cases = {
    { "through pcall", "local function f() pcall(f) error('deep', 0) end f()" },
    { "through xpcall's handler", "local function h() error(h) end xpcall(error, h) error('x')" },
    { "through gsub", "local function f() return (('x'):gsub('x', f)) end f()" },
    { "through gsub and __index", "local t = {} setmetatable(t, { __index = function() "
      .. "return (('x'):gsub('x', t)) end }) return t.x" },
    { "through gmatch", "local function f() for x in ('x'):gmatch('x') do f() end end f()" },
    { "through __index functions", "local t = setmetatable({}, { __index = function(t, k) "
      .. "return t[k .. 'x'] end }) return t.a" },
    { "through __index tables", "local t = {} for i = 1, 1000 do "
      .. "t = setmetatable({}, { __index = t }) end error(tostring(t.x))" },
    { "through __call", "local t = {} setmetatable(t, { __call = function() return 1 + t() end }) "
      .. "return t()" },
    { "through __concat", "local t = {} setmetatable(t, { __concat = function(a, b) "
      .. "return a .. b end }) return t .. t" },
    { "through __lt in sort", "local m = {} m.__lt = function(a, b) table.sort({ a, b }) "
      .. "return true end local a, c = setmetatable({}, m), setmetatable({}, m) return a < c" },
    { "through the parser", "assert(load('return ' .. ('('):rep(1e5) .. ('a'):rep(1)))" },
    { "through foreach", "local function f() table.foreach({ 1 }, f) end f()" },
  }
  for _, case in ipairs(cases) do
    it(case[1] .. " is an error with its place", function()
      open { slice_ms = 5000 }
      local answer = b:run("\n" .. case[2], "a: 1")
      assert.is_false(answer.ok)
      assert.equal("SEGUE_EPOLICY", answer.status, answer.text)
      assert.equal("reload.lua", answer.file)
      assert.equal(4, answer.line, answer.text)
      assert.is_true(b:run("return true").ok)
    end)
  end
end)

describe("a callback of gsub", function()
  it("may raise an error, and the caller gets that error", function()
    assert.is_true(b:run([[
      local ok, e = pcall(string.gsub, "abc", "b", function() error({ code = 7 }) end)
      assert(not ok and e.code == 7)
      return true]]).ok)
  end)
  it("cannot wait", function()
    local answer = b:run("return ('x'):gsub('x', function() segue.sleep(1) end)")
    assert.truthy(answer.message:find("cannot wait here", 1, true), answer.text)
  end)
  it("cannot yield", function()
    local answer = b:run([[local co = coroutine.wrap(function()
      return ('x'):gsub('x', function() coroutine.yield() end) end)
      return co()]])
    assert.truthy(answer.message:find("attempt to yield across", 1, true), answer.text)
  end)
  it("may use patterns itself", function()
    assert.is_true(b:run([[
      local s = ("a=1,b=2"):gsub("(%w)=(%d)", function(k, v)
        return k:gsub("%w", "%0%0") .. v:rep(3) .. ("x"):match("x")
      end)
      return s == "aa111x,bb222x" or (nil), s]]).ok)
  end)
  it("may be a config value", function()
    assert.is_true(b:run("return ('$a-$b-$c'):gsub('%$(%w)', next) == '1-two-$c'",
      "{ a: 1, b: two }").ok)
  end)
end)

describe("a pattern", function()
  it("may have zero bytes", function()
    assert.is_true(b:run([[assert(("a\0b"):find("\0b") == 2 and ("a\0b"):match("a%zb"))
      assert(("x\0y"):gsub("[\0]", "-") == "x-y")
      return true]]).ok)
  end)
  it("that is long does not overflow the C stack", function()
    assert.is_true(b:run([[local p = ("[ab]"):rep(1000)
      return #("ab"):rep(500):match(p) == 1000 and ("ab"):rep(500):gsub(p, "x") == "x"]]).ok)
  end)
  it("that is kept for long does not change", function()
    assert.is_true(b:run([[local it = ("a1b2c3"):rep(30):gmatch(("(%a)") .. "(%d)")
      local n = 0
      for k, v in it do n = n + #k + #v; local _ = ("x"):rep(2e3):gsub("x", "yy") end
      return n == 180]]).ok)
  end)
end)

describe("a change that a policy makes to Lua itself", function()
  local harmless = {
    { "to the metatable of texts", "assert(getmetatable('') == 'string' and not pcall(function() "
      .. "getmetatable('').find = nil end)) assert(not pcall(setmetatable, 'x', {}))" },
    { "to `string`", "for k in pairs(string) do string[k] = error end "
      .. "assert(('x'):rep(2) == 'xx' and ('x'):find('x') == 1)" },
    { "to all globals", "for k in pairs(_G) do if k ~= '_G' then _G[k] = nil end end" },
    { "to the metatable of globals", "setmetatable(_G, { __index = function() error('no') end, "
      .. "__newindex = function() error('no') end })" },
    { "to segue", "for k in _G.next, segue do segue[k] = nil end" },
  }
  for _, case in ipairs(harmless) do
    it(case[1] .. " stays within it", function()
      local answer = b:run(case[2] .. " return true")
      assert.is_true(answer.ok, answer.text)
      assert.is_true(b:run("return ('ok'):upper() == 'OK' and segue.copy({ 1 })[1] == 1").ok)
    end)
  end
  it("cannot reach other functions' environments", function()
    assert.is_true(b:run("return getfenv == nil and setfenv == nil and debug == nil").ok)
  end)
end)

describe("what a hook does", function()
  -- Each hook of a policy, as a text that does it there.
  local hooks = {
    ["the top level"] = function(body)
      return body .. "\nreturn { sources = { segue.value {} } }"
    end,
    ["a module"] = function(body)
      b:write("part.lua", body)
      return 'require "part"\nreturn { sources = { segue.value {} } }'
    end,
    check = function(body)
      return "return { sources = { segue.value {} }, check = function()\n" .. body
        .. "\nreturn true end }"
    end,
    reload = function(body)
      return "return { sources = { segue.value {} }, reload = function(txn)\n" .. body
        .. "\ntxn:prepare() txn:commit() end }"
    end,
    ["a probe"] = function(body)
      return "return { sources = { segue.value {} }, confirm = { probe = function()\n" .. body
        .. "\nreturn true end } }"
    end,
  }
  local acts = {
    { "an error", "error('broken')", "broken" },
    { "an endless loop", "while true do end", "ms of CPU time" },
    { "a loop that swallows errors", "while true do pcall(error) end", "ms of CPU time" },
    { "a pattern bomb", "local r = ('a'):rep(40):find(('a-'):rep(12) .. 'b')", "" },
    { "a glutton", "local t = {} while true do t[#t + 1] = { 1 } end", "MiB of memory" },
  }
  for hook, write in pairs(hooks) do
    for _, act in ipairs(acts) do
      it(("wrong in %s: %s, is an outcome with its place"):format(hook, act[1]), function()
        open { slice_ms = 60, load_ms = 200, memory = 4 * 1024 * 1024 }
        b:write("reload.lua", 'local segue = require "segue"\n' .. write(act[2]))
        b:engine()
        local result = b:reload()
        assert.is_true(#result.errors > 0 and result.outcome ~= "applied")
        local e = result.errors[1]
        assert.truthy(e.message:find(act[3], 1, true), e.text)
        assert.equal(hook == "a module" and "part.lua" or "reload.lua", e.file, e.text)
        assert.is_true(e.line > 0 and e.line <= 3, e.text)
        b:write("reload.lua", 'local segue = require "segue"\n' .. write("local x"))
        assert.equal("applied", b:reload().outcome)
      end)
    end
  end
end)

describe("segue.state", function()
  it("carries no function, coroutine, metatable or config value to the next policy", function()
    local text = [[local segue = require "segue"
      return { sources = { segue.value {} }, check = function(next)
        local s = segue.state
        if next.fill then
          s.plain = { list = { 1, 2 }, deep = { text = "x" } }
          s.f, s.deep = print, { f = print, keep = 1 }
          s.co = coroutine.create(print)
          s.meta = setmetatable({ a = 1 }, { __index = function() return "smuggled" end })
          s[print], s.config = 1, next.list
          s.cycle = { s = s }
          return true
        end
        assert(s.plain.list[2] == 2 and s.plain.deep.text == "x" and s.deep.keep == 1)
        assert(s.f == nil and s.deep.f == nil and s.co == nil and s[print] == nil)
        assert(s.meta.a == 1 and s.meta.b == nil and getmetatable(s.meta) == nil)
        assert(type(s.config) ~= "userdata")
        return true
      end } --]]
    local first = assert(b:load(text))
    assert.is_true(b:check(first, "fill: true\nlist: [1]").ok)
    local second = assert(b:load(text .. "2"))
    local answer = b:check(second)
    assert.is_true(answer.ok, answer.text)
  end)
end)
