-- SPDX-License-Identifier: MIT
-- Memory that runs out anywhere in a command, a request, a file job or a task of tasks: the hook
-- gets an answer, and nothing is left behind.
local async = require "spec.support.async"
local C = require "spec.support.c"

describe("the async library", function()
  local bodies = {
    command = [[segue.run { "cat", stdin = "x", env = { A = "b" }, on_output = function() end }]],
    file = [[segue.write("x", "1") segue.read "x" segue.stat "x" segue.list "*.lua"]],
    tasks = [[segue.all { function() segue.sleep "1ms" end, function() return 1 end }
      segue.timeout("1ms", function() segue.sleep(1) end)]],
    name = [[segue.resolve "127.0.0.1"]],
    request = [[segue.fetch { url = "http://127.0.0.1:@port@/", body = "b", headers = { A = "b" },
      on_chunk = function() end }]],
  }
  for name, text in pairs(bodies) do
    -- The first allocation is that of the call itself.
    local function survives(step)
      local failed, n = 0, 1
      repeat
        n = n + step
        local a = async.open()
        local server = a:serve(function(client)
          client:write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        end)
        local policy = assert(a:policy((text:gsub("@port@", tostring(server.port)))))
        local call = a:start(policy, 5000)
        C.segue__mem_fail_at(0)
        a:pump(function() return call.over end, 10000, name)
        a:unload()
        policy = assert(a:policy((text:gsub("@port@", tostring(server.port)))))
        C.segue__mem_fail_at(n)
        call = a:start(policy, 5000)
        a:pump(function() return call.over end, 10000, name .. " at " .. n)
        C.segue__mem_fail_at(0)
        if not a:answer(call).ok then failed = failed + 1 end
        a:close()
      until n >= 120
      assert.is_true(failed > 2, failed)
    end
    it("survives failing allocations of a " .. name, function() survives(5) end)
    it("survives each failing allocation of a " .. name .. " #long", function() survives(1) end)
  end
end)
