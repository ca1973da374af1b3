-- SPDX-License-Identifier: MIT
-- segue.fetch with stream = true: the headers before the body, the body in parts and in lines; and
-- servers that are silent, break off, or never end.
local async = require "spec.support.async"
local fresh = require "spec.support.fresh"
local process = require "spec.support.process"

local a
fresh(async.open, function(opened) a = opened end)

-- Answers "GET /stream" with the head, and each "GET /send" by sending the next of the parts on the
-- stream; after the last one the stream is closed.
local function streaming(parts, head)
  local stream, close_stream, n = nil, nil, 0
  return a:serve(function(client, data, close)
    if data:find "^GET /stream" then
      stream, close_stream = client, close
      client:write(head or "HTTP/1.1 200 OK\r\nX-A: 1\r\n\r\n")
      return
    end
    n = n + 1
    if parts[n] then stream:write(parts[n]) else close_stream() end
    client:write "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
  end)
end

local function run(server, text)
  return a:run(([[local url, send = "http://127.0.0.1:%d/stream", nil
    function send() is_true(segue.fetch("http://127.0.0.1:%d/send")) end
    local _ = send
    ]]):format(server.port, server.port) .. text)
end

describe("segue.fetch with stream", function()
  after_each(process.stop_all)

  it("returns when the headers are there, and each part as it comes", function()
    run(streaming { "one", "two\n", "3" }, [[
      local r = is_true(segue.fetch { url = url, stream = true })
      eq(200, r.status) eq("1", r.headers["x-a"]) eq(nil, r.body)
      for _, part in ipairs { "one", "two\n", "3" } do
        send()
        eq(part, r:read())
      end
      send()
      eq(nil, r:read()) eq(nil, r:read()) eq(nil, r.message)]])
  end)

  it("has lines, wherever the parts are cut", function()
    local text = "first\r\n\nthird line\n\r\n" .. ("x"):rep(9000) .. "\nlast"
    for _, size in ipairs { 1, 2, 7, 4096, 20000 } do
      local parts = {}
      for at = 1, #text, size do parts[#parts + 1] = text:sub(at, at + size - 1) end
      -- Parts of one byte at the ends of the lines only: 9,000 requests would take long.
      if size < 7 then
        parts = {}
        local short = text:gsub("x+", "x")
        for at = 1, #short, size do parts[#parts + 1] = short:sub(at, at + size - 1) end
      end
      run(streaming(parts), ([[
        local r = is_true(segue.fetch { url = url, stream = true })
        local sender = segue.spawn(function() for _ = 1, %d do send() end end)
        local lines = {}
        for line in r:lines() do lines[#lines + 1] = line end
        sender:wait()
        eq(nil, r.message) eq(6, #lines)
        eq("first||third line|", table.concat(lines, "|", 1, 4))
        is_true(lines[5]:find "^x+$", lines[5]) eq("last", lines[6])]]):format(#parts + 1))
    end
  end)

  it("has the head of the last answer only", function()
    local last
    local server = a:serve(function(client, data)
      if data:find "^GET /first" then
        client:write "HTTP/1.1 302 Found\r\nLocation: /last\r\nContent-Length: 4\r\n\r\nbody"
      elseif data:find "^GET /last" then
        last = client
        client:write "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
      else
        if last then last:write "HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno" end
        client:write(last and "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
          or "HTTP/1.1 503 Not Yet\r\nContent-Length: 0\r\n\r\n")
      end
    end)
    a:run(([[
      segue.spawn(function()
        repeat segue.sleep "50ms" until segue.fetch("http://127.0.0.1:%d/go").status == 200
      end)
      local r = is_true(segue.fetch { url = "http://127.0.0.1:%d/first", stream = true,
        redirects = 1 })
      eq(404, r.status) eq(nil, r.headers.link) eq("no", r:read()) eq(nil, r:read())
      r = is_true(segue.fetch { url = "http://127.0.0.1:%d/first", stream = true })
      eq(302, r.status) eq("/last", r.headers.location) eq("body", r:read())
    ]]):format(server.port, server.port, server.port))
  end)

  it("returns why the body broke off", function()
    run(streaming({ "half a line" }, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n"), [[
      local r = is_true(segue.fetch { url = url, stream = true })
      send() send()
      local n = 0
      for _ in r:lines() do n = n + 1 end
      eq(0, n) eq("ECONNRESET", r.code) like("broke off in the middle of its answer", r.message)
      local part, why, code = r:read()
      eq(nil, part) eq(r.message, why) eq("ECONNRESET", code)]])
  end)

  it("fails before the headers as any request", function()
    local server = a:serve(function(_, _, close) close() end)
    a:run(([[
      local r, why, code = segue.fetch { url = "http://127.0.0.1:%d/", stream = true }
      eq(nil, r) eq("ECONNRESET", code) like("without an answer", why)]]):format(server.port))
  end)

  it("ends after a silence of idle, before and behind the headers", function()
    local silent = a:serve(function() end)
    a:run(([[
      local r, why, code = segue.fetch { url = "http://127.0.0.1:%d/", stream = true,
        idle = "50ms" }
      eq(nil, r) eq("SEGUE_ETIMEOUT", code) like("sent nothing for 50 ms", why)
    ]]):format(silent.port))
    run(streaming { "part" }, [[
      local r = is_true(segue.fetch { url = url, stream = true, idle = "1s", timeout = "0s" })
      send()
      eq("part", r:read())
      local part, why, code = r:read()
      eq(nil, part) eq("SEGUE_ETIMEOUT", code) like("sent nothing for 1000 ms", why)]])
  end)

  it("counts no time of its own as the silence of the server", function()
    local head = "HTTP/1.1 200 OK\r\n\r\n"
    run(streaming({ "more" }, head .. ("x"):rep(300000)), [[
      local r = is_true(segue.fetch { url = url, stream = true, idle = "3s", timeout = "0s" })
      local n = 0
      while n < 300000 do
        n = n + #is_true(r:read())
        if n < 200000 then segue.sleep "1ms" end
      end
      segue.sleep "0s"
      send()
      eq("more", r:read())]])
    -- The task has a part that it has not read: the timer does not run, however long that takes.
    run(streaming({ "a", "b", "c" }, head), [[
      local r = is_true(segue.fetch { url = url, stream = true, idle = "2s", timeout = "0s" })
      send() send()
      segue.sleep "2100ms"
      local text = r:read()
      while #text < 2 do text = text .. is_true(r:read()) end
      eq("ab", text)
      send()
      eq("c", r:read())
      r:close()]])
  end)

  it("ends the request when it is closed, or no more used", function()
    local server = streaming { "part" }
    run(server, [[
      local r = is_true(segue.fetch { url = url, stream = true })
      send()
      eq("part", r:read())
      r:close() r:close()
      eq(nil, r:read())]])
    a:pump(function() return server.open <= 1 end, 5000, "the end of the stream")
    run(server, "is_true(segue.fetch { url = url, stream = true })")
    a:unload()
    a:pump(function() return server.open == 0 end, 5000, "the end of the connections")
  end)

  it("does not read faster than its caller", function()
    local sent = 0
    local server = a:serve(function(client)
      client:write "HTTP/1.1 200 OK\r\n\r\n"
      local function more()
        if client:is_closing() then return end
        sent = sent + 65536
        client:write(("x"):rep(65536), more)
      end
      more()
    end)
    a:run(([[
      local r = is_true(segue.fetch { url = "http://127.0.0.1:%d/", stream = true })
      segue.sleep "300ms"
      is_true(#r:read() > 0)
      r:close()]]):format(server.port))
    assert.is_true(sent < 20e6, sent)
  end)

  it("refuses on_chunk beside it", function()
    local answer = a:attempt [[
      segue.fetch { url = "http://127.0.0.1:1/", stream = true, on_chunk = function() end }]]
    assert.matches("on_chunk has no effect with stream", answer.message)
  end)
end)

describe("segue.fetch with tls.server_name", function()
  after_each(process.stop_all)

  it("verifies this name, and asks the host of the URL", function()
    local made = process.run { "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
      "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", "/CN=db.test", "-addext",
      "subjectAltName=DNS:db.test", "-keyout", a.dir:at "key.pem", "-out", a.dir:at "cert.pem" }
    assert.equal(0, made.code, made.output)
    local port = require("spec.support.port").free()
    local server = process.start({ "openssl", "s_server", "-accept", "127.0.0.1:" .. port, "-cert",
      a.dir:at "cert.pem", "-key", a.dir:at "key.pem", "-www", "-servername", "db.test",
      "-cert2", a.dir:at "cert.pem", "-key2", a.dir:at "key.pem", stdin = "" })
    server:wait_output "ACCEPT"
    a:run(([[
      local url = "https://127.0.0.1:%d/"
      local r, why, code = segue.fetch { url = url, tls = { ca = "cert.pem" } }
      eq(nil, r) eq("EPROTO", code) like("no trusted connection", why)
      r = is_true(segue.fetch { url = url, tls = { ca = "cert.pem", server_name = "db.test" } })
      eq(200, r.status)
      r, why, code = segue.fetch { url = url, tls = { ca = "cert.pem", server_name = "x.test" } }
      eq(nil, r) eq("EPROTO", code) like("no trusted connection", why)
    ]]):format(port))
    server:stop()
    local answer = a:attempt [[
      segue.fetch { url = "https://127.0.0.1:1/", tls = { server_name = "a b" } }]]
    assert.matches("server_name is not the name of a host", answer.message)
  end)

  it("keeps the host of the URL in the header Host", function()
    local seen
    local server = a:serve(function(client, data)
      seen = data
      client:write "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    end)
    a:run(([[is_true(segue.fetch { url = "http://127.0.0.1:%d/x?y", tls = {
      server_name = "db.test" } })]]):format(server.port))
    assert.matches("^GET /x%?y HTTP/1.1\r\n.*Host: 127.0.0.1:" .. server.port .. "\r\n", seen)
    assert.is_nil(seen:find "db.test")
  end)
end)
