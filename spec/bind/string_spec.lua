-- SPDX-License-Identifier: MIT
-- The string functions of policies are ours: what they answer is compared with Lua's own.
local C = require "spec.support.c"
local ffi = C.ffi

local file = assert(io.open("spec/support/string_cases.lua"))
local cases = file:read("*a")
file:close()

local function eval(text, cpu_ms)
  local out, e = ffi.new("segue__buf[1]"), C.error()
  local rc = C.bind_eval(text, #text, cpu_ms or 60000, out, e)
  local result = C.buf(out[0])
  C.segue__buf_deinit(out)
  if rc ~= 0 then return nil, C.err(e) end
  return result
end

local function lines(text)
  local list = {}
  for line in (text .. "\n"):gmatch("(.-)\n") do list[#list + 1] = line end
  return list
end

for _, what in ipairs { "find", "match", "gmatch", "gsub", "format" } do
  describe("string." .. what, function()
    local function answers_as_lua(first, last, count)
      for seed = first, last do
        local host = assert(loadstring(cases))(seed, count, what)
        local ours = assert(eval(("return (function(...) %s end)(%d, %d, %q)"):format(cases, seed,
          count, what)))
        local a, b = lines(host), lines(ours)
        assert.equal(count, #a)
        for i = 1, count do assert.equal(a[i], b[i]) end
      end
    end
    it("answers as Lua does", function() answers_as_lua(1, 1, 2500) end)
    it("answers as Lua does in 15,000 cases more #long", function() answers_as_lua(2, 4, 5000) end)
  end)
end
