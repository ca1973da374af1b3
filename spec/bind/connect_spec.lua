-- SPDX-License-Identifier: MIT
-- segue.connect over TCP and unix sockets: reads and writes with their limits, servers that drip,
-- flood, are silent or leave, and tasks that are cancelled.
local async = require "spec.support.async"
local process = require "spec.support.process"

local a

-- A server of lines: "SEND n" answers n bytes x, "DRIP text" answers byte by byte, "BYE" answers
-- "bye" and closes, "RESET" closes while bytes wait, "FLOOD" never ends, "SENT" answers how many
-- bytes of it were sent; other lines come back.
local function line_server(path)
  local rest = {}
  local server
  server = a:serve(function(client, data, close)
    rest[client] = (rest[client] or "") .. data
    while true do
      local line, after = rest[client]:match "^(.-)\r\n(.*)$"
      if not line then return end
      rest[client] = after
      local word, argument = line:match "^(%S+) ?(.*)$"
      if word == "SEND" then
        client:write(("x"):rep(tonumber(argument)))
      elseif word == "DRIP" then
        local at = 0
        local function next_byte()
          at = at + 1
          if at <= #argument and not client:is_closing() then
            client:write(argument:sub(at, at), next_byte)
          end
        end
        next_byte()
      elseif word == "RAW" then
        client:write(argument)
      elseif word == "BYE" then
        client:write("bye", close)
      elseif word == "SENT" then
        client:write(server.sent .. "\r\n")
      elseif word == "FLOOD" then
        server.sent = 0
        local function more()
          if client:is_closing() then return end
          server.sent = server.sent + 65536
          client:write(("x"):rep(65536), more)
        end
        more()
      elseif word ~= "QUIET" then
        client:write(line .. "\r\n")
      end
    end
  end, path)
  return server
end

local function run(server, text)
  a:run(("local address = %q\n"):format("127.0.0.1:" .. server.port) .. text)
end

describe("segue.connect", function()
  before_each(function() a = async.open() end)
  after_each(function()
    local open = a
    a = nil
    process.stop_all()
    if open then open:close() end
  end)

  it("reads a count of bytes, up to a delimiter, or what there is", function()
    run(line_server(), [[
      local c = is_true(segue.connect(address))
      eq(true, c:write "one\r\ntwo\r\nSEND 5\r\n")
      eq("one", c:read_until "\r\n")
      eq("tw", c:read(2)) eq("o\r\n", c:read(3)) eq("xxxxx", c:read(5)) eq("", c:read(0))
      c:write "SEND 3\r\n"
      local text = c:read()
      while #text < 3 do text = text .. c:read() end
      eq("xxx", text)
      c:close() c:close()]])
  end)

  it("finds delimiters wherever the bytes are cut", function()
    run(line_server(), [[
      local c = is_true(segue.connect(address))
      c:write "DRIP a=bc==d=-==-end\r\n"
      eq("a", c:read_until "=") eq("bc", c:read_until "==") eq("d=-", c:read_until "==-")
      eq("end", c:read(3))
      -- The second half comes when the first one was looked at.
      local reader = segue.spawn(function() return c:read_until "==" end)
      c:write "RAW a=\r\n"
      segue.sleep "30ms"
      c:write "RAW =\r\n"
      eq("a", reader:wait())
      -- A long answer in many parts, and a delimiter behind it.
      c:write "SEND 3000000\r\nlast\r\n"
      eq(("x"):rep(3000000) .. "last", c:read_until "\r\n")
      c:write "SEND 1000000\r\n"
      eq(1000000, #c:read(1000000))]])
  end)

  it("connects to unix sockets, names and IPv6 addresses", function()
    line_server(a.dir:at "s.sock")
    local server = line_server()
    run(server, ([[
      for _, address in ipairs { "unix:%s", "localhost:%d", "tcp://127.0.0.1:%d" } do
        local c = is_true(segue.connect(address))
        c:write "hello\r\n"
        eq("hello", c:read_until "\r\n")
      end
      local c, why, code = segue.connect { "[::1]:1", connect_timeout = "1s" }
      eq(nil, c) eq("ECONNREFUSED", code)
      like("no server answers on %%[::1%%]:1: is it running%%?", why)
      c, why, code = segue.connect "unix:@no such name"
      eq(nil, c) eq("ECONNREFUSED", code) like("no server answers on unix:@no such name", why)
    ]]):format(a.dir:at "s.sock", server.port, server.port))
  end)

  it("names the address and the cause of a failure", function()
    a:run [[
      local function fails(code, pattern, options)
        local c, why, its_code = segue.connect(options)
        eq(nil, c) like(code, its_code) like(pattern, why)
      end
      fails("ECONNREFUSED", "^no server answers on 127.0.0.1:1: is it running%?$", "127.0.0.1:1")
      fails("ENOENT", "^no server answers on unix:/no/such: is it running%?$", "unix:/no/such")
      -- EAI_AGAIN: a machine without a name server.
      fails("^EAI_[NA]", "^no connection to no%-such%-host.invalid:80: the host no%-such%-host"
        .. ".invalid is not known", { "no-such-host.invalid:80", connect_timeout = "30s" })
      fails("ENOENT", "^no connection to 127.0.0.1:1: cannot read .*/none.pem",
        { "127.0.0.1:1", tls = { ca = "none.pem" } })]]
  end)

  it("refuses what is no address, and options that mean nothing", function()
    for _, case in ipairs {
      { '"localhost"', '"localhost" is no address' }, { '":80"', "is no address" },
      { '"a b:80"', "is no address" }, { '"host:0"', "is no address" },
      { '"host:65536"', "is no address" }, { '"host:8o"', "is no address" },
      { '"::1:80"', "is no address" }, { '"http://x/"', "is no address" },
      { '"unix:relative"', "is no address" },
      { '"unix:/' .. ("x"):rep(120) .. '"', "too long for the path of a unix socket" },
      { '{ "h:1", tmeout = 1 }', "did you mean \"timeout\"" },
      { '{ "h:1", tls = { cert = "x" } }', "cert and key together" },
      { '{ "h:1", tls = { server_name = "a b" } }', "is not the name of a host" },
      { '{ "h:1", max_bytes = 0 }', "max_bytes must be at least 1B" },
      { '{ "h:1", connect_timeout = 0 }', "connect_timeout must be longer than 0" },
    } do
      local answer = a:attempt("segue.connect " .. case[1])
      assert.matches(case[2], answer.message, 1, true)
    end
  end)

  it("keeps the bytes that came before the time limit of a read", function()
    run(line_server(), [[
      local c = is_true(segue.connect { address, timeout = "50ms" })
      c:write "SEND 3\r\n"
      local bytes, why, code = c:read(5)
      eq(nil, bytes) eq("SEGUE_ETIMEOUT", code)
      like("^127.0.0.1:%d+ sent nothing that completes the read within 50 ms$", why)
      bytes, why, code = c:read_until("\n", "20ms")
      eq(nil, bytes) eq("SEGUE_ETIMEOUT", code) like("within 20 ms", why)
      c:write "SEND 2\r\n"
      eq("xxxxx", c:read(5, "10s"))]])
  end)

  it("returns the last bytes, and then that the server has closed it", function()
    run(line_server(), [[
      local c = is_true(segue.connect(address))
      c:write "BYE\r\n"
      eq("by", c:read(2))
      local bytes, why, code = c:read(5)
      eq(nil, bytes) eq("EOF", code) like("^127.0.0.1:%d+ has closed the connection$", why)
      eq("e", c:read())
      bytes, why, code = c:write "more"
      eq(nil, bytes) eq("EOF", code) like("has closed the connection", why)]])
  end)

  it("ends a delimiter that never comes at max_bytes", function()
    run(line_server(), [[
      local c = is_true(segue.connect { address, max_bytes = 100000 })
      c:write "SEND 100000\r\nxx\r\n"
      local bytes, why, code = c:read_until "\r\n"
      eq(nil, bytes) eq("SEGUE_ELIMIT", code)
      like("sent more than 100000 bytes without the end that is waited for: raise max_bytes", why)
      c = is_true(segue.connect { address, max_bytes = 100000 })
      c:write "SEND 100000\r\n\r\n"
      eq(100000, #c:read_until "\r\n")
      local good, err = pcall(c.read, c, 100001)
      eq(false, good) like("more bytes than max_bytes, which is 100000", err)]])
  end)

  it("does not read faster than its caller", function()
    local server = line_server()
    run(server, [[
      local c, other = is_true(segue.connect(address)), is_true(segue.connect(address))
      c:write "FLOOD\r\n"
      local before, sent = -1, 0
      while sent ~= before and sent < 100e6 do -- until the buffers of the kernel are full
        segue.sleep "50ms"
        other:write "SENT\r\n"
        before, sent = sent, tonumber(other:read_until "\r\n")
      end
      is_true(sent == before, sent)
      eq(10, #c:read(10))
      c:close()]])
  end)

  it("waits with a write for the server, and ends at the time limit", function()
    local stuck = a:serve(function(client) client:read_stop() end)
    run(stuck, [[
      local c = is_true(segue.connect { address, timeout = "200ms" })
      local block, done, why, code = ("x"):rep(1000000), nil, nil, nil
      repeat done, why, code = c:write(block) until not done
      eq("SEGUE_ETIMEOUT", code) like("did not take 1000000 bytes within 200 ms", why)
      done, why, code = c:write "more"
      eq(nil, done) eq("SEGUE_ETIMEOUT", code) like("did not take 1000000 bytes", why)]])
  end)

  it("lets one task read while another one writes, and refuses two readers", function()
    run(line_server(), [[
      local c = is_true(segue.connect(address))
      local reader = segue.spawn(function() return c:read_until "\r\n" end)
      segue.sleep "1ms"
      local good, err = pcall(c.read, c, 1)
      eq(false, good) like("another task reads from this connection", err)
      c:write "hello\r\n"
      eq("hello", reader:wait())]])
  end)

  it("fails the reads and writes of other tasks when it is closed", function()
    run(line_server(), [[
      local c = is_true(segue.connect(address))
      local reader = segue.spawn(function() return c:read(1) end)
      segue.sleep "1ms"
      c:close()
      local bytes, why, code = reader:wait()
      eq(nil, bytes) eq("ECANCELED", code) like("was closed here", why)
      local good, err = pcall(c.read, c, 1)
      eq(false, good) like("read: the connection to 127.0.0.1:%d+ is closed", err)]])
  end)

  it("is of use after a read was cancelled, and not after a write was", function()
    local server = line_server()
    local stuck = a:serve(function(client) client:read_stop() end)
    run(server, ([[
      local c = is_true(segue.connect(address))
      local _, _, code = segue.timeout("20ms", function() return c:read(5) end)
      eq("SEGUE_ETIMEOUT", code)
      c:write "SEND 5\r\n"
      eq("xxxxx", c:read(5))
      c = is_true(segue.connect "127.0.0.1:%d")
      local block = ("x"):rep(1000000)
      _, _, code = segue.timeout("200ms", function() while c:write(block) do end end)
      eq("SEGUE_ETIMEOUT", code)
      local done, why
      done, why, code = c:write "more"
      eq(nil, done) eq("ECANCELED", code) like("a write to .* was cancelled", why)]])
      :format(stuck.port))
  end)

  it("ends when its policy is dropped, at whatever step it is", function()
    local server = line_server()
    run(server, [[
      local c = is_true(segue.connect(address))
      segue.state.c = nil
      segue.spawn(function() c:read(1) end)
      segue.spawn(function() segue.connect { "localhost:1", connect_timeout = "5s" } end)
      segue.sleep "1ms"]])
    a:unload()
    a:pump(function() return server.open == 0 end, 5000, "the end of the connection")
  end)

  it("connects to a limited number of servers at once", function()
    local server = line_server()
    run(server, [[
      local list, c, why, code = {}, nil, nil, nil
      repeat
        c, why, code = segue.connect(address)
        list[#list + 1] = c
      until not c
      eq("SEGUE_ELIMIT", code) like("are open, which is the limit", why)
      is_true(#list >= 64 and #list <= 256, #list)
      list[1]:close()
      is_true(segue.connect(address))]])
  end)

  it("counts what it keeps against the memory of the policy", function()
    a:close()
    a = async.open { memory = 4 * 1048576 }
    local server = line_server()
    run(server, [[
      local c = is_true(segue.connect(address))
      c:write "SEND 6000000\r\n"
      local bytes, why, code = c:read(6000000)
      eq(nil, bytes) eq("SEGUE_ELIMIT", code) like("MiB of memory", why)]])
  end)
end)
