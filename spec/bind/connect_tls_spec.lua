-- SPDX-License-Identifier: MIT
-- segue.connect with TLS, against the server of OpenSSL: whom it trusts, the certificate that it
-- shows, files that are replaced, and servers that end a connection without TLS.
local async = require "spec.support.async"
local certificates = require "spec.support.certificates"
local free_port = require "spec.support.port"
local process = require "spec.support.process"
local uv = require "luv"

local a, ca, port

-- Sends each line back, its letters in reverse order.
local function start(...)
  port = free_port.free()
  local server = process.start { "openssl", "s_server", "-rev", "-accept", "127.0.0.1:" .. port,
    "-cert", a.dir:at "server.pem", "-key", a.dir:at "server.key", ... }
  server:wait_output "ACCEPT"
  return server
end

local function run(text)
  a:run((([[
    local function trip(c) -- the server has one connection at a time
      is_true(c:write "abc\n")
      local line, why, code = c:read_until "\n"
      c:close()
      return line, why, code
    end
    local function fails(pattern, options)
      options.connect_timeout = "60s"
      local c, why, code = segue.connect(options)
      -- A server that refuses our certificate reports that after the handshake of TLS 1.3.
      if c then
        local _
        _, why, code = trip(c)
      end
      eq("EPROTO", code) like(pattern, why)
    end
    local address, local_address, _ = "localhost:@", "127.0.0.1:@", fails and trip
  ]]):gsub("@", port)) .. text)
end

describe("segue.connect with tls", function()
  before_each(function()
    a = async.open()
    ca = certificates.authority(a.dir)
    ca:issue { name = "server", san = "DNS:localhost,DNS:db.test" }
  end)
  after_each(function()
    local open = a
    a = nil
    process.stop_all()
    if open then open:close() end
  end)

  it("trusts the given authority alone, for the name of the host", function()
    start()
    run [[
      local c = is_true(segue.connect { address, tls = { ca = "ca.pem" } })
      eq("cba", trip(c))
      c = is_true(segue.connect { local_address, tls = { ca = "ca.pem", server_name = "db.test" } })
      eq("cba", trip(c))
      fails("^no trusted connection to localhost:%d+: ", { address, tls = {} })
      fails("^no trusted connection to 127.0.0.1:%d+: ", { local_address, tls = { ca = "ca.pem" } })
      fails("no trusted connection",
        { local_address, tls = { ca = "ca.pem", server_name = "x.test" } })
      eq("cba", trip(is_true(segue.connect { local_address, tls = { verify = false } })))]]
  end)

  it("carries what is larger than its records, both ways", function()
    start()
    run [[
      local c = is_true(segue.connect { address, tls = { ca = "ca.pem" } })
      local line = ("x"):rep(8000) .. ("y"):rep(8000)
      for _ = 1, 50 do
        is_true(c:write(line .. "\n"))
        eq(16000, #is_true(c:read_until "\n"))
      end]]
  end)

  it("shows its certificate, and reads the files again when they are replaced", function()
    local other = certificates.authority(a.dir, "other")
    ca:issue { name = "good" }
    other:issue { name = "bad" }
    start("-Verify", "2", "-verify_return_error", "-CAfile", ca.cert)
    run [[
      local tls = { ca = "live.pem", cert = "cert.pem", key = "key.pem" }
      local function put(authority, cert, key)
        segue.write("live.pem", segue.read(authority .. ".pem"))
        segue.write("cert.pem", segue.read(cert .. ".pem"))
        segue.write("key.pem", segue.read(key .. ".key"))
      end
      put("ca", "good", "good")
      eq("cba", trip(is_true(segue.connect { address, tls = tls })))
      put("ca", "bad", "bad")
      fails("alert", { address, tls = tls })
      put("other", "good", "good")
      fails("no trusted connection", { address, tls = tls })
      put("ca", "good", "good")
      eq("cba", trip(is_true(segue.connect { address, tls = tls })))
      put("ca", "good", "bad")
      local c, why = segue.connect { address, tls = tls }
      eq(nil, c)
      like("no connection to .*: the key in .*key.pem does not belong to the certificate", why)]]
  end)

  it("rejects servers without TLS, and ends in time where they are silent", function()
    local plain = a:serve(function(client) client:write "hello" end)
    local silent = a:serve(function() end)
    local leaves = a:serve(function(_, _, close) close() end)
    port = plain.port
    run(([[
      fails("^no trusted connection to localhost:%%d+: ", { address, tls = {} })
      local c, why, code = segue.connect { "127.0.0.1:%d", tls = { verify = false },
        connect_timeout = "1s" }
      eq(nil, c) eq("SEGUE_ETIMEOUT", code)
      like("^no TLS connection to 127.0.0.1:%%d+ within %%d+ ms$", why)
      c, why, code = segue.connect { "127.0.0.1:%d", tls = {} }
      eq(nil, c) is_true(code == "EOF" or code == "ECONNRESET", code)
      like("no trusted connection", why)]]):format(silent.port, leaves.port))
  end)

  it("does not take a cut connection for the end of what the server sends", function()
    start()
    -- A proxy: it cuts the connection, without an end of TLS, when the line "cut" comes to another
    -- server.
    local behind, cut = uv.new_tcp(), nil
    local proxy = a:serve(function(client, data, close)
      if cut then return behind:write(data) end
      cut = close
      behind:connect("127.0.0.1", port, function()
        behind:read_start(function(_, bytes)
          if bytes and not client:is_closing() then client:write(bytes) end
        end)
        behind:write(data)
      end)
    end)
    local control = a:serve(function() cut() end)
    run(([[
      local c = is_true(segue.connect { "127.0.0.1:%d", tls = { ca = "ca.pem",
        server_name = "db.test" } })
      is_true(c:write "abc\n")
      eq("cba", c:read_until "\n")
      local other = is_true(segue.connect "127.0.0.1:%d")
      other:write "cut"
      local bytes, why, code = c:read(1)
      eq(nil, bytes) eq("ECONNRESET", code)
      like("broke off: it was closed without an end of TLS", why)]])
      :format(proxy.port, control.port))
    behind:close()
  end)
end)
