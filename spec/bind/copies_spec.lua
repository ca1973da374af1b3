-- SPDX-License-Identifier: MIT
-- Data that is copied out of a Lua state is counted while it is copied: a table may refer to one
-- long text a thousand times, and a thousand tasks may each hold it. Each case would take
-- gigabytes.
local bind = require "spec.support.bind"
local uv = require "luv"

local b
before_each(function() b = bind.open { slice_ms = 60000, load_ms = 60000 } end)
after_each(function()
  local opened = b
  b = nil
  if opened then opened:close() end
end)

-- The highest memory use of this process so far, in MiB.
local function peak() return uv.getrusage().maxrss / 1024 end

-- Runs fn, and checks that the process does not grow much.
local function in_bounds(fn)
  local before = peak()
  local answer = fn()
  local more = peak() - before
  assert.is_true(more < 1500, ("%d MiB more"):format(more))
  return answer
end

local gluttony = "local s, t = ('x'):rep(16e6), {} for i = 1, 1000 do t[i] = s end "

local function policy(sources, more)
  return ([[local segue = require "segue"
    %s
    return { sources = { %s }, triggers = {} }]]):format(more or "", sources)
end

local function outcome(text)
  b:write("reload.lua", text)
  b:engine()
  return in_bounds(function() return b:reload() end)
end

describe("a long text that is named a thousand times is refused", function()
  it("in a file written in Lua, as a document that is too long", function()
    b:write("conf.lua", gluttony .. "return { a = t }")
    local result = outcome(policy 'segue.lua_file "conf.lua"')
    assert.equal("rejected", result.outcome)
    local e = result.errors[1]
    assert.equal("SEGUE_ELIMIT", e.name, e.text)
    assert.equal("conf.lua", e.file)
    assert.truthy(e.message:find("more than 128 MiB of text", 1, true), e.text)
  end)

  it("in segue.value, in one value and in several", function()
    local e = in_bounds(function()
      return (b:refused(policy("segue.value { a = t }", gluttony)))
    end)
    assert.equal("SEGUE_ELIMIT", e.name, e.text)
    local many = {}
    for i = 1, 50 do many[i] = ("segue.value { a%d = { s, s, s, s } }"):format(i) end
    e = in_bounds(function()
      return (b:refused(policy(table.concat(many, ", "), "local s = ('x'):rep(16e6)")))
    end)
    assert.equal("SEGUE_ELIMIT", e.name, e.text)
    assert.equal("reload.lua", e.file)
    assert.truthy(e.message:find("MiB", 1, true), e.text)
  end)

  for what, body in pairs {
    values = "return { a = t }",
    texts = "s = 'a: ' .. s for i = 1, 1000 do t[i] = { text = s } end return t",
  } do
    it("in the delivery of a source in Lua, as " .. what, function()
      local result = outcome(policy(([[segue.source { name = "net", fetch = function()
        %s %s end }]]):format(gluttony, body)))
      assert.is_true(#result.errors > 0 and result.outcome ~= "applied", result.outcome)
      assert.equal("SEGUE_ELIMIT", result.errors[1].name, result.errors[1].text)
    end)
  end

  it("in the keys of a policy", function()
    for _, key in ipairs { "plugins = t", "secrets = t" } do
      local errors = in_bounds(function()
        return select(2, b:refused(([[local segue = require "segue"
          %s
          return { sources = { segue.value {} }, %s }]]):format(gluttony, key)))
      end)
      assert.is_true(#errors > 0)
    end
  end)

  it("in segue.state, which keeps at most 16 MiB", function()
    local text = [[local segue = require "segue"
      return { sources = { segue.value {} }, check = function(next)
        if next.fill then
          ]] .. gluttony .. [[
          segue.state.keep, segue.state.small = t, "small"
          return true
        end
        return (segue.state.small == "small" or segue.state.keep ~= nil), "nothing was kept"
      end } --]]
    local first = assert(b:load(text))
    assert.is_true(b:check(first, "fill: true").ok)
    local second = in_bounds(function() return assert(b:load(text .. "2")) end)
    local answer = b:check(second)
    assert.is_true(answer.ok, answer.text)
    assert.truthy(b:logged():find("the rest of 16 MiB", 1, true), b:logged())
  end)
end)

describe("tasks that each hold a copy of a long text", function()
  -- Every operation that copies its arguments, as a function of a long text s.
  local holds = {
    write = "segue.write('/proc/none/x', s)",
    fetch = "segue.fetch { url = 'http://127.0.0.1:1/', method = 'POST', body = s }",
    run = "segue.run { 'true', stdin = s }",
    ["run with arguments"] = "require('segue.core').run({ 'true', s, s, s })",
    read = "segue.read(s)",
  }
  for name, call in pairs(holds) do
    it("are limited in sum by the memory of the policy: " .. name, function()
      local answer = in_bounds(function()
        return b:run(([[
          local core, s, kept, refused = require "segue.core", ("x"):rep(16e6), {}, nil
          local make = { write = function() return core.write("x", 0, s) end,
            fetch = function() return core.fetch("http://x", "POST", nil, s) end,
            run = function() return core.run({ "true" }, nil, nil, nil, s) end,
            ["run with arguments"] = function() return core.run({ "true", s, s, s }) end,
            read = function() return core.read(s) end }
          for i = 1, 1000 do
            local ok, why = pcall(make[%q])
            if not ok then refused = why break end
            kept[i] = why
          end
          assert(refused and #kept < 20, #kept)
          return nil, refused -- %s]]):format(name, call))
      end)
      assert.equal("SEGUE_EVETO", answer.status, answer.text)
      assert.truthy(answer.message:find("256 MiB of memory: keep less at once", 1, true),
        answer.text)
      assert.is_true(b:run("return true").ok)
    end)
  end

  it("and tasks themselves count, which need memory outside of the state", function()
    b:close()
    b = bind.open { slice_ms = 60000, load_ms = 60000, memory = 32 * 1024 * 1024 }
    local answer = in_bounds(function()
      return b:run "for _ = 1, 1e6 do segue.spawn(segue.sleep, 1) end"
    end)
    assert.is_false(answer.ok)
    assert.truthy(answer.message:find("32 MiB", 1, true), answer.text)
    assert.is_true(b:run("return true").ok)
  end)

  it("a list of texts is accepted if it has as many texts as its length", function()
    local answer = in_bounds(function()
      return b:run [[
        local t = {}
        for i = 0, 29 do t[2 ^ i] = "x" end
        for i = 1, 100 do assert(not pcall(require("segue.core").run, t)) end
        return true]]
    end)
    assert.is_true(answer.ok, answer.text)
  end)
end)

describe("a line of the log", function()
  it("is cut where it is longer than 64 KiB", function()
    local answer = b:run [[
      local s = ("x"):rep(16e6)
      print(s)
      segue.log.info(s, { k = s, [s] = 1 })
      return true]]
    assert.is_true(answer.ok, answer.text)
    local logged = b:logged()
    assert.is_true(#logged > 3 * 65536 and #logged < 4 * 65536, #logged)
    assert.truthy(logged:find("xxx...", 1, true))
  end)
end)
