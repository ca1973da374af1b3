-- SPDX-License-Identifier: MIT
-- Addresses to listen on: what is understood, and what equals what.
local C = require "spec.support.c"
local ffi = C.ffi

local function parse(text)
  local address, e = C.new("segue__address[1]"), C.error()
  local code = C.segue__address_parse(text, address, e)
  if code ~= 0 then return nil, C.err(e) end
  return { text = ffi.string(address[0].text), port = address[0].port,
    loopback = address[0].loopback }
end

describe("an address", function()
  it("is normalised, so that equal texts mean equal sockets", function()
    for text, normal in pairs {
      ["127.0.0.1:7377"] = "127.0.0.1:7377", ["localhost:7377"] = "127.0.0.1:7377",
      ["LocalHost:0"] = "127.0.0.1:0", ["0.0.0.0:80"] = "0.0.0.0:80", ["[::1]:7377"] = "[::1]:7377",
      ["[0:0::1]:7377"] = "[::1]:7377", ["[2001:DB8::00a]:1"] = "[2001:db8::a]:1",
      ["127.9.9.9:65535"] = "127.9.9.9:65535", ["unix:/run/x.sock"] = "unix:/run/x.sock",
      ["unix://run/./a//x.sock"] = "unix:/run/a/x.sock", ["unix:@game"] = "unix:@game",
      ["tcp://localhost:1"] = "127.0.0.1:1", ["udp://[::]:1"] = "udp://[::]:1",
    } do
      assert.equal(normal, parse(text).text, text)
      assert.equal(normal, parse(normal).text)
    end
  end)

  it("knows whether it belongs to this machine only", function()
    for text, loopback in pairs {
      ["127.0.0.1:1"] = true, ["127.1.2.3:1"] = true, ["[::1]:1"] = true,
      ["localhost:1"] = true, ["unix:/x"] = true, ["0.0.0.0:1"] = false, ["[::]:1"] = false,
      ["10.0.0.1:1"] = false, ["128.0.0.1:1"] = false } do
      assert.equal(loopback, parse(text).loopback, text)
    end
  end)

  it("is refused with a sentence that explains the correct form", function()
    for text, pattern in pairs {
      [""] = "is not an address: write 127", ["7377"] = "is not an address",
      ["udp://7377"] = "is not an address",
      [":7377"] = "is not an address", ["::1:7377"] = "is not an address",
      ["[::1]"] = "is not an address", ["[]:1"] = "is not an address",
      ["127.0.0.1"] = "is not an address", ["127.0.0.1:"] = "the port of",
      ["127.0.0.1:99999"] = "the port of", ["127.0.0.1:+1"] = "the port of",
      ["127.0.0.1:080"] = "the port of", ["127.0.0.1:http"] = "the port of",
      ["example.com:80"] = "names are not looked up", ["127.1:80"] = "names are not looked up",
      ["[127.0.0.1]:80"] = "names are not looked up", ["[::ffff:1.2.3.4]:80"] = "not looked up",
      ["[localhost]:80"] = "names are not looked up", ["unix:x.sock"] = "is not an absolute path",
      ["unix:@"] = "is not an absolute path", ["unix:"] = "is not an absolute path",
      ["unix:/"] = "does not name a socket", ["unix:/a/"] = "does not name a socket",
      ["unix:/a/../b"] = "does not name a socket",
      ["unix:/" .. ("x"):rep(107)] = "too long for a unix socket",
      ["unix:@" .. ("x"):rep(107)] = "too long for a unix socket",
      [("x"):rep(300) .. ":1"] = "is not an address",
    } do
      local address, e = parse(text)
      assert.is_nil(address, text)
      assert.equal("SEGUE_EUSAGE", e.name)
      assert.matches(pattern, e.message, 1, true)
    end
  end)
end)
