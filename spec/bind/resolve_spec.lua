-- SPDX-License-Identifier: MIT
-- segue.resolve of SRV and TXT records, from dnsmasq, a name server that other people wrote; and
-- answers that no good server gives.
local async = require "spec.support.async"
local C = require "spec.support.c"
local free_port = require "spec.support.port"
local process = require "spec.support.process"
local uv = require "luv"
local ffi = C.ffi

local a, port

local function start()
  port = free_port.free()
  return process.start { "/usr/sbin/dnsmasq", "-k", "--port=" .. port,
    "--listen-address=127.0.0.1", "--bind-interfaces", "--no-resolv", "--no-hosts",
    "--conf-file=/dev/null", "--pid-file=", "--user=root", "--log-facility=-", "--log-queries",
    "--srv-host=_http._tcp.api.test,b.test,8080,2,10",
    "--srv-host=_http._tcp.api.test,c.test,80,1,5",
    "--srv-host=_http._tcp.api.test,a.test,80,1,10", "--cname=alias.test,text.test",
    "--srv-host=_none._tcp.api.test", "--txt-record=text.test,one,two", "--txt-record=text.test,x",
    "--local=/test/", "--local-ttl=30" }
end

local function run(text)
  a:run((([[
    local function ask(name, kind) return segue.resolve(name, { type = kind,
      server = "127.0.0.1:@", timeout = "60s" }) end
    local _ = ask
  ]]):gsub("@", port)) .. text)
end

describe("segue.resolve of records", function()
  before_each(function() a = async.open() end)
  after_each(function()
    local open = a
    a = nil
    process.stop_all()
    if open then open:close() end
  end)

  it("returns them in one order, with the time that they hold", function()
    local server = start()
    server:wait_output "started"
    run [[
      for _ = 1, 10 do -- the server turns its list with each answer
        local records, ttl = ask("_http._tcp.api.test", "SRV")
        local list = {}
        for i, r in ipairs(is_true(records, ttl)) do
          list[i] = ("%s:%d/%d/%d/%d"):format(r.target, r.port, r.priority, r.weight, r.ttl)
        end
        eq("a.test:80/1/10/30 c.test:80/1/5/30 b.test:8080/2/10/30", table.concat(list, " "))
        eq(30, ttl)
      end
      for _, name in ipairs { "text.test", "alias.test" } do
        local records = is_true(ask(name, "TXT"))
        eq(2, #records) eq("onetwo", records[1].text) eq("x", records[2].text)
      end]]
    server:stop()
  end)

  it("has different codes for no such name, no such record, and silence", function()
    local server = start()
    server:wait_output "started"
    run [[
      local records, why, code = ask("nobody.test", "SRV")
      eq(nil, records) eq("EAI_NONAME", code) eq("the name nobody.test does not exist", why)
      records, why, code = ask("text.test", "SRV")
      eq(nil, records) eq("EAI_NODATA", code)
      eq("the name text.test has no record of the type SRV", why)
      records, why, code = ask("other.example", "TXT") -- dnsmasq knows no server for it: REFUSED
      eq(nil, records) eq("EAI_AGAIN", code)
      eq("no name server has an answer for other.example now", why)]]
    server:stop()
    run [[
      local records, why, code = segue.resolve("text.test", { type = "TXT",
        server = "127.0.0.1:1", timeout = "50ms" })
      eq(nil, records) is_true(code == "SEGUE_ETIMEOUT" or code == "EAI_AGAIN", code) is_true(why)
    ]]
    for _, case in ipairs {
      { '{ "x", server = "127.0.0.1:53" }', "has an effect with the types SRV and TXT only" },
      { '{ "x", type = "SRV", server = "dns:53" }', "must be an IPv4 address and a port" },
      { '{ "x", type = "MX" }', 'type must be "address", "SRV" or "TXT"' },
    } do
      assert.matches(case[2], a:attempt("segue.resolve " .. case[1]).message, 1, true)
    end
  end)

  it("waits at least 5 seconds, also where the time of the server is 0", function()
    local sent = "\132\0\0\1\0\1\0\0\0\0\4text\4test\0\0\16\0\1"
      .. "\192\12\0\16\0\1\0\0\0\0\0\3\2hi"
    local udp = uv.new_udp()
    udp:bind("127.0.0.1", 0)
    port = udp:getsockname().port
    udp:recv_start(function(_, data, from)
      if data then udp:try_send(data:sub(1, 2) .. sent, from.ip, from.port) end
    end)
    run [[
      local records, ttl = ask("text.test", "TXT")
      eq("hi", is_true(records, ttl)[1].text) eq(0, records[1].ttl) eq(5, ttl)]]
    udp:close()
  end)
end)

-- An answer with one question and the given records.
local function answer(...)
  local records = { ... }
  return "\0\1\132\0\0\1" .. string.char(0, #records) .. "\0\0\0\0\1a\0\0\33\0\1"
    .. table.concat(records)
end

local function record(kind, data)
  return "\192\12" .. string.char(0, kind) .. "\0\1\0\0\0\60" .. string.char(0, #data) .. data
end

local function parse(bytes, kind)
  local out = ffi.new("segue__dns_records[1]")
  local copy = ffi.new("unsigned char[?]", #bytes) -- its end is the end of the memory
  ffi.copy(copy, bytes, #bytes)
  local rc = C.segue__dns_parse(copy, #bytes, kind, out)
  local list = {}
  for i = 0, tonumber(out[0].count) - 1 do
    local r = out[0].items[i]
    list[#list + 1] = ("%s %d %d %d"):format(ffi.string(r.text, r.len), r.priority, r.weight,
      r.port)
  end
  C.segue__dns_records_deinit(out)
  return rc == 0 and table.concat(list, ",") or C.name(rc)
end

describe("a DNS answer", function()
  local srv = record(33, "\0\1\0\2\0\3\1b\192\12")

  it("is read up to its end, and no further", function()
    assert.equal("b.a 1 2 3", parse(answer(srv), 33))
    assert.equal("b.a 1 2 3", parse(answer(srv, record(16, "\1x"), srv), 33))
    assert.equal("xy 0 0 0", parse(answer(srv, record(16, "\1x\1y")), 16))
    assert.equal(" 0 0 0", parse(answer(record(16, "")), 16))
    local whole = answer(srv, srv)
    for len = 0, #whole - 1 do assert.equal("EPROTO", parse(whole:sub(1, len), 33), len) end
  end)

  it("is damaged where a length or a pointer leads outside", function()
    assert.equal("EPROTO", parse(answer(record(16, "\9x")), 16))
    assert.equal("EPROTO", parse(answer(record(33, "\0\1\0\2\0\3\192\250")), 33))
    assert.equal("EPROTO", parse(answer(record(33, "\0\1\0\2\0\3\192\39")), 33)) -- to itself
    assert.equal("EPROTO", parse(answer(record(33, "\0\1\0\2")), 33))
    local many = {}
    for i = 1, 1025 do many[i] = record(16, "\2" .. string.char(i % 256, math.floor(i / 256))) end
    local bytes = answer(unpack(many, 1, 200))
    assert.is_truthy(parse(bytes, 16):find ",")
    bytes = "\0\1\132\0\0\1\4\1\0\0\0\0\1a\0\0\33\0\1" .. table.concat(many)
    assert.equal("SEGUE_ELIMIT", parse(bytes, 16))
  end)

  it("has no record that crashes the reader, however it is damaged", function()
    local whole = answer(srv, record(16, "\1x\1y"), srv)
    for at = 1, #whole do
      for _, byte in ipairs { 0, 1, 63, 64, 127, 192, 255 } do
        local bytes = whole:sub(1, at - 1) .. string.char(byte) .. whole:sub(at + 1)
        assert.is_string(parse(bytes, 33))
        assert.is_string(parse(bytes, 16))
      end
    end
  end)
end)
