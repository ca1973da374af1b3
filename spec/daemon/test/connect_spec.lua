-- SPDX-License-Identifier: MIT
-- segue.connect and DNS records in a rehearsal, run by `segue test` (spec/daemon/test_spec.lua).
local testing = require "segue.testing"

-- A policy that keeps the last line which its server sent, and its failures, in its log.
local text = [[
local segue = require "segue"
local function listen(fire)
  local c, why, code = segue.connect { "redis:6379", tls = { ca = "ca.pem" }, timeout = "1m" }
  if not c then error(code .. " " .. why) end
  c:write "HELLO\r\n"
  while true do
    local line, why_not, kind = c:read_until "\r\n"
    if not line then error(kind .. " " .. why_not) end
    fire(line)
  end
end
return { sources = { segue.value { a = 1 } }, triggers = { segue.trigger(listen) },
  check = function()
    local records, ttl = segue.resolve { "_a._tcp.x", type = "SRV" }
    if records then segue.log.info(("%s:%d %d"):format(records[1].target, records[1].port, ttl)) end
    return true
  end }
]]

local function policy(accept)
  local t = testing.policy("reload.lua", { text = text })
  t:on_connect(accept)
  t:on_resolve(function(name, kind)
    assert.equal("_a._tcp.x SRV", name .. " " .. kind)
    return { { target = "h", port = 80, ttl = 1 } }
  end)
  return t
end

describe("segue.connect in a rehearsal", function()
  it("talks with the spec, which sends at any time", function()
    local peer, written = nil, {}
    local t = policy(function(p)
      peer = p
      p.received = function(_, bytes)
        written[#written + 1] = bytes
        p:send "first\r\nsec"
      end
      return { seconds = 2 }
    end)
    assert.equal("applied", t:start().outcome)
    assert.matches("h:80 5", t:log(), 1, true)
    t:advance "5s"
    assert.equal("redis:6379", peer.address)
    assert.is_true(peer.tls)
    assert.same({ "HELLO\r\n" }, written)
    assert.matches("first", t:last().cause)
    assert.is_true(peer:send "ond\r\n")
    t:advance "5s"
    assert.matches("second", t:last().cause)
    assert.is_false(peer.hung_up)
    peer:close()
    t:advance "100ms"
    assert.matches("EOF redis:6379 has closed the connection", t:log(), 1, true)
    assert.is_false(peer:send "x")
  end)

  it("gets failures, and the time limits of the policy", function()
    local answer = { error = "ECONNREFUSED" }
    local broken = false
    local t = policy(function(peer)
      if broken then peer:close("ECONNRESET", "cut") end
      return answer
    end)
    assert.equal("applied", t:start().outcome)
    t:advance "100ms"
    assert.matches("ECONNREFUSED no connection to redis:6379: ECONNREFUSED", t:log(), 1, true)
    answer = { seconds = 100 }
    t:advance "1m"
    assert.matches("SEGUE_ETIMEOUT no connection to redis:6379 within 5000 ms", t:log(), 1, true)
    answer = true
    t:advance "20m"
    assert.matches("SEGUE_ETIMEOUT redis:6379 sent nothing that completes the read within 60000 ms",
      t:log(), 1, true)
    broken = true
    t:advance "20m"
    assert.matches("ECONNRESET redis:6379: cut", t:log(), 1, true)
  end)

  it("is refused where the spec takes no connection", function()
    local t = testing.policy("reload.lua", { text = text })
    t:on_resolve(function() return { { target = "h" } } end)
    local ok, why = pcall(function()
      t:start()
      t:advance "1s"
    end)
    assert.is_false(ok)
    assert.matches("the policy connects to redis:6379, and the spec has no answer", why, 1, true)
  end)
end)
