-- SPDX-License-Identifier: MIT
-- The Lua state of templates and that of their Lua code, in the process of the spec.
local C = require "spec.support.c"

local t, live
before_each(function()
  collectgarbage()
  live = C.segue__mem_live()
  local out, err = C.new "segue__template *[1]", C.error()
  assert(C.segue__template_new(out, os.getenv "SEGUE_LUA_DIR" or "lua", err) == 0, C.text(err))
  t = out[0]
end)
after_each(function()
  C.segue__mem_fail_at(0)
  C.segue__template_free(t)
  assert.equal(live, C.segue__mem_live())
end)

-- A job has template, and may have data (JSON), helpers, language, and fail_at: this allocation of
-- the rendering fails. Returns the output, or nil and the message; the code; how many allocations.
local function render(job)
  local j = C.new "segue__template_job"
  local out, failure, err = C.new "segue__buf", C.new "segue__template_failure", C.error()
  local data_name, helpers_name, name = "d.json", "f.lua", "t"
  j.name, j.text, j.len, j.language = name, job.template, #job.template, job.language
  if job.data then j.data_name, j.data, j.data_len = data_name, job.data, #job.data end
  if job.helpers then
    j.helpers_name, j.helpers, j.helpers_len = helpers_name, job.helpers, #job.helpers
  end
  C.segue__buf_init(out)
  local before = C.segue__mem_calls()
  C.segue__mem_fail_at(job.fail_at or 0)
  local code = C.segue__template_render(t, j, out, failure, nil, err)
  C.segue__mem_fail_at(0)
  local calls = tonumber(C.segue__mem_calls() - before)
  local output = C.str(out.data, out.len)
  C.segue__buf_deinit(out)
  C.segue__template_failure_clear(failure)
  if code == 0 then return output or "", nil, code, calls end
  return nil, C.err(err).message, code, calls
end

-- The least of several counts: now and then a table grows, or the collector frees a text that is
-- made again.
local function least_calls(job)
  local least = math.huge
  for _ = 1, 4 do least = math.min(least, (select(4, render(job)))) end
  return least
end

describe("the state of templates", function()
  -- The code of the system is no error of the template: the next try may find memory.
  it("reports that memory ran out at any allocation, and renders again", function()
    local job = { template = "{{range .l}}{{range .}}{{.}}{{end}}{{end}}{{printf `%v` .}}",
      data = '{"l":[[1,2],[3]]}' }
    local all = select(4, render(job)) -- with those of a new state
    local expected = "123map[l:[[1 2] [3]]]"
    local function fails_at(n)
      job.fail_at = n
      local output, message, code = render(job)
      job.fail_at = nil
      if output then
        assert.equal(expected, output)
      else
        assert.same({ "ENOMEM", "templates: not enough memory" },
          { C.str(C.segue_error_name(code)), message }, "at " .. n)
      end
      return not output
    end
    local failed = 0
    for n = 1, 60 do -- of the rendering: the state is open
      assert.equal(expected, render(job))
      if fails_at(n) then failed = failed + 1 end
    end
    assert.is_true(failed > 10)
    for n = 1, 25 do -- of a new template: among them those of LuaJIT's parser
      job.template, expected = ("{{%d}}{{if .l}}{{%d.5}}{{end}}"):format(n, n), n .. n .. ".5"
      render { template = "" }
      fails_at(n * 16)
    end
    for n = 1, all, 199 do fails_at(n) end -- of a new state, with its libraries
    for n = 1, 500, 3 do fails_at(n) end
    assert.equal(expected, render(job))
  end)
end)

describe("Lua code of a template", function()
  it("takes work that grows with the calls, where each call passes all data", function()
    local function cost(n)
      local items = {}
      for i = 1, n do items[i] = ('{"a":%d,"b":["x"]}'):format(i) end
      local job = { template = "{{range .l}}{{f $.l .}}{{end}}",
        data = '{"l":[' .. table.concat(items, ",") .. "]}",
        helpers = "return { f = function(l, x) return #l + x.a end }" }
      assert(render(job))
      return least_calls(job)
    end
    local small, large = cost(150), cost(600)
    assert.is_true(large < small * 6, ("%d and %d allocations"):format(small, large))
  end)

  it("has no output that lacks a part, where memory ends at any of its allocations", function()
    local job = { language = "etlua", template = "<% local s = ('x'):rep(100000) for i = 1, 4 do "
      .. "pcall(write, s) end pcall(write, 'end') %>" }
    local expected = ("x"):rep(400000) .. "end"
    assert.equal(expected, render(job))
    local calls = select(4, render(job))
    local failed = 0
    for n = 1, calls + 5 do
      job.fail_at = n
      local output, message = render(job)
      if output then
        assert.is_true(output == expected, "an output of " .. #output .. " bytes")
      else
        failed = failed + 1
        assert.matches("memory", message, 1, true)
      end
      job.fail_at = nil
      render(job) -- the states are there again
    end
    assert.is_true(failed > 10)
  end)

  it("takes no memory for what it writes behind an output that is too large", function()
    local function most_kib() -- of resident memory since the start of the process
      for line in io.lines "/proc/self/status" do
        local kib = line:match "^VmHWM:%s*(%d+)"
        if kib then return tonumber(kib) end
      end
    end
    local function write(n)
      local _, message = render { language = "etlua", template = "<% local s = ('x'):rep(16777216)"
        .. " for i = 1, 4 do write(s) end pcall(write, 1) for i = 1, " .. n
        .. " do pcall(write, s) end %>" }
      assert.matches("the output is larger than", message, 1, true)
    end
    write(1)
    local before = most_kib()
    write(102) -- 1.6 GiB
    assert.is_true(most_kib() < before + 600 * 1024, most_kib() - before)
  end)
end)
