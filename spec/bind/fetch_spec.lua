-- SPDX-License-Identifier: MIT
-- segue.fetch: requests from policies, against servers that answer well and servers that drip, lie,
-- never end, or leave.
local async = require "spec.support.async"
local fresh = require "spec.support.fresh"
local process = require "spec.support.process"

local a
local open = fresh(async.open, function(opened) a = opened end)

-- A server that answers the first bytes of each connection with a text, or by a function.
local function answering(answer, path)
  return a:serve(function(client, data, close)
    if type(answer) == "function" then return answer(client, data, close) end
    client:write(answer)
  end, path)
end

local function body(text, values)
  return (text:gsub("@(%w+)@", function(name) return tostring(values[name]) end))
end

local ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

describe("segue.fetch", function()
  after_each(process.stop_all)

  it("returns status, headers and body", function()
    local server = answering("HTTP/1.1 404 Not Found\r\nX-A: 1\r\nx-a:  two \r\nEmpty:\r\n"
      .. "Content-Length: 3\r\n\r\na\0b")
    a:run(body([[
      local r = is_true(segue.fetch "http://127.0.0.1:@port@/x?y=1")
      eq(404, r.status) eq("a\0b", r.body) eq("1, two", r.headers["x-a"]) eq("", r.headers.empty)
      eq("3", r.headers["content-length"]) eq("number", type(r.seconds))
    ]], server))
  end)

  it("sends method, headers and body as given", function()
    local seen = {}
    local server = answering(function(client, data)
      seen[#seen + 1] = data
      client:write(data:find("^HEAD") and "HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n" or ok)
    end)
    a:run(body([[
      local url = "http://127.0.0.1:@port@/p"
      segue.fetch { url = url, method = "PUT", body = "b\0dy",
        headers = { ["Content-Type"] = "text/x", ["X-Many"] = { "1", "2" }, ["X-None"] = "",
          ["X-Number"] = 7 } }
      segue.fetch { url = url, body = "post" }
      segue.fetch { url = url, method = "DELETE" }
      eq("", segue.fetch { url = url, method = "HEAD" }.body)
      segue.fetch { url = url, method = "POST" }
    ]], server))
    assert.matches("^PUT /p HTTP/1.1\r\nHost: 127.0.0.1:%d+\r\n", seen[1])
    assert.matches("\r\nContent%-Type: text/x\r\n", seen[1])
    assert.matches("\r\nX%-Many: 1\r\n.*X%-Many: 2\r\n", seen[1])
    assert.matches("\r\nX%-None:\r\n", seen[1])
    assert.matches("\r\nX%-Number: 7\r\n", seen[1])
    assert.matches("\r\nUser%-Agent: segue/", seen[1])
    assert.matches("\r\nContent%-Length: 4\r\n", seen[1])
    assert.matches("\r\n\r\nb%zdy$", seen[1])
    assert.is_nil(seen[1]:find("Expect"))
    assert.matches("^POST /p .*\r\n\r\npost$", seen[2])
    assert.is_nil(seen[2]:find("Content%-Type"))
    assert.matches("^DELETE /p ", seen[3])
    assert.matches("^HEAD /p ", seen[4])
    assert.matches("^POST /p .*Content%-Length: 0\r\n", seen[5])
  end)

  it("uses a connection again", function()
    local server = answering(ok)
    a:run(body([[for _ = 1, 20 do
      eq("ok", segue.fetch("http://127.0.0.1:@port@/").body)
    end]], server))
    assert.equal(1, server.count)
  end)

  it("speaks over a unix socket", function()
    answering(ok, a.dir:at("s.sock"))
    a:run [[eq("ok", segue.fetch({ url = "http://localhost/", unix_socket = "s.sock" }).body)
      local r, why = segue.fetch { url = "http://localhost/x", unix_socket = "none.sock" }
      eq(nil, r) like("cannot connect to http://localhost/x on .*/none.sock: no such file", why)]]
  end)

  it("follows as many redirects as allowed, by default none", function()
    local server = answering(function(client, data)
      local n = tonumber(data:match("^GET /(%d+)"))
      if n == 0 then client:write(ok) return end
      client:write(("HTTP/1.1 302 Found\r\nLocation: /%d\r\nContent-Length: 0\r\n\r\n")
        :format(n - 1))
    end)
    a:run(body([[
      local url = "http://127.0.0.1:@port@/2"
      eq(302, segue.fetch(url).status) eq("/1", segue.fetch(url).headers.location)
      eq("ok", segue.fetch({ url = url, redirects = 2 }).body)
      local r, why, code = segue.fetch { url = url, redirects = 1 }
      eq(nil, r) eq("SEGUE_ELIMIT", code) like("one redirect to the next", why)
    ]], server))
  end)

  describe("with a server that", function()
    local cases = {
      { "closes at once", function(_, _, close) close() end,
        "broke off without an answer", "ECONNRESET" },
      { "closes early", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc",
        "broke off in the middle of its answer: .*7 bytes remaining", "ECONNRESET", true },
      { "closes in the middle of a chunk",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\nabc",
        "broke off in the middle of its answer", "ECONNRESET", true },
      { "speaks something else", "220 smtp.example ESMTP\r\n",
        "does not answer in HTTP", "EPROTO" },
      { "promises more than it may send", "HTTP/1.1 200 OK\r\nContent-Length: 100001\r\n\r\n",
        "is larger than 100000 bytes: raise max_bytes", "SEGUE_ELIMIT" },
      { "never ends", function(client)
        client:write("HTTP/1.1 200 OK\r\n\r\n")
        local function more()
          if not client:is_closing() then client:write(("x"):rep(65536), more) end
        end
        more()
      end, "is larger than 100000 bytes: raise max_bytes", "SEGUE_ELIMIT" },
      { "never ends its headers", function(client)
        client:write("HTTP/1.1 200 OK\r\n")
        local function more()
          if not client:is_closing() then
            client:write("X-Long: " .. ("x"):rep(4000) .. "\r\n", more)
          end
        end
        more()
      end, "the headers of .* are larger than", "SEGUE_ELIMIT" },
      { "drips its answer", function(client)
        local text, i = "HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n" .. ("x"):rep(5000), 0
        local timer = require("luv").new_timer()
        timer:start(0, 5, function()
          i = i + 1
          if client:is_closing() then timer:close() return end
          client:write(text:sub(i, i))
        end)
      end, "gave no complete answer within 300 ms", "SEGUE_ETIMEOUT" },
      { "says nothing", function() end, "gave no complete answer within 300 ms",
        "SEGUE_ETIMEOUT" },
    }
    for _, case in ipairs(cases) do
      it(case[1] .. " tells so", function()
        local server = answering(case[5] and function(client, _, close)
          client:write(case[2], close)
        end or case[2])
        a:run(body([[
          local r, why, code = segue.fetch { url = "http://me:secret@127.0.0.1:@port@/x?token=1",
            max_bytes = 100000, timeout = "@timeout@" }
          eq(nil, r) like("@pattern@", why) eq("@code@", code)
          like("http://127.0.0.1:%d+/x", why) eq(nil, why:find("secret")) eq(nil, why:find("token"))
        ]], { port = server.port, pattern = case[3]:gsub("%%", "%%%%"), code = case[4],
          timeout = case[4] == "SEGUE_ETIMEOUT" and "300ms" or "10s" }))
        a:pump(function() return server.open == 0 end, 5000, "the end of the connection")
      end)
    end
    it("sends more bytes than it announced: the answer has the announced bytes", function()
      local server = answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 500 No\r\n")
      a:run(body([[for _ = 1, 3 do
        eq("ok", segue.fetch("http://127.0.0.1:@port@/").body)
      end]], server))
    end)
  end)

  local failures = {
    { "http://127.0.0.1:1/", "no server answers on http://127.0.0.1:1/: is it running?",
      "ECONNREFUSED" },
    { "http://no-such-host.invalid/", "the host of http://no%-such%-host.invalid/ is not known",
      "EAI_NONAME" },
    { "ftp://x/", '"ftp://x/" cannot be fetched: a URL begins with http:// or https://',
      "SEGUE_EUSAGE" },
    { "http://[::1/", "cannot be fetched", "SEGUE_EUSAGE" },
  }
  for _, case in ipairs(failures) do
    it("returns the reason why there is no answer: " .. case[1], function()
      a:run(([[local r, why, code = segue.fetch %q
        eq(nil, r) like(%q, why) eq(%q, code)]]):format(case[1], case[2], case[3]))
    end)
  end

  local misuses = {
    { "segue.fetch(7)", "segue%.fetch: url must be a text, not 7" },
    { "segue.fetch {}", "url is missing" },
    { "segue.fetch { url = 'http://x', metod = 'GET' }", "segue%.fetch: metod is not a known" },
    { "segue.fetch { url = 'http://x', method = 'get it' }",
      'segue%.fetch: method must be a method such as "POST", not "get it"' },
    { "segue.fetch { url = 'http://x', headers = { ['A B'] = 'x' } }",
      'segue%.fetch: headers must have names of headers as keys, not "A B"' },
    { "segue.fetch { url = 'http://x', headers = { A = 'x\\r\\nB: y' } }",
      "segue%.fetch: headers must have texts of one line, also A" },
    { "segue.fetch { url = 'http://x', tls = { verfy = false } }",
      'segue%.fetch: tls%.verfy is not a known key here: did you mean "verify"%?' },
    { "segue.fetch { url = 'http://x\\0y' }", "zero byte" },
  }
  for _, case in ipairs(misuses) do
    it("throws at the caller's line: " .. case[1], function()
      a:run(([[local ok, why = pcall(function() %s end)
        eq(false, ok) like("reload.lua:%%d+: ", why) like(%q, why)]]):format(case[1], case[2]))
    end)
  end

  describe("with on_chunk", function()
    it("passes the body on as it arrives, in the task, which may wait", function()
      local server = answering(function(client)
        local n = 0
        client:write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        local function more()
          n = n + 1
          if client:is_closing() then return end
          if n > 300 then client:write("0\r\n\r\n") return end
          client:write("8000\r\n" .. ("x"):rep(32768) .. "\r\n", more)
        end
        more()
      end)
      a:run(body([[
        local n, chunks = 0, 0
        local r = segue.fetch { url = "http://127.0.0.1:@port@/", on_chunk = function(chunk)
          n, chunks = n + #chunk, chunks + 1
          if chunks < 10 then segue.sleep "5ms" end
        end }
        eq(300 * 32768, n) eq("", r.body) eq(200, r.status)
      ]], server))
    end)
    it("blocks an endless server while the task does not read", function()
      local sent = 0
      local server = answering(function(client)
        client:write("HTTP/1.1 200 OK\r\n\r\n")
        local function more()
          if client:is_closing() then return end
          sent = sent + 65536
          client:write(("x"):rep(65536), more)
        end
        more()
      end)
      a:run(body([[
        local r, why = segue.timeout("500ms", segue.fetch, { url = "http://127.0.0.1:@port@/",
          on_chunk = function() segue.sleep "10s" end })
        eq(nil, r) like("segue.timeout took longer than 500 ms", why)
      ]], server))
      assert.is_true(sent < 20e6, sent)
    end)
    it("ends the request when it raises an error, or max_bytes are passed", function()
      local server = answering("HTTP/1.1 200 OK\r\n\r\n" .. ("x"):rep(200000))
      local url = body("http://127.0.0.1:@port@/", server)
      local answer = a:attempt(([[segue.fetch { url = %q, on_chunk = function()
        error "enough" end }]]):format(url))
      assert.equal("enough", answer.message)
      a:run(([[local n = 0
        local r, why, code = segue.fetch { url = %q, max_bytes = 100000,
          on_chunk = function(chunk) n = n + #chunk end }
        eq(nil, r) eq("SEGUE_ELIMIT", code) is_true(n <= 100000, n)]]):format(url))
      a:unload()
      a:pump(function() return server.open == 0 end, 5000, "the end of the connections")
    end)
  end)

  describe("of an answer with a Content-Encoding", function()
    local function run_through(command, text)
      a.dir:write("plain", text)
      assert.equal(0, os.execute(("%s < %s > %s"):format(command, a.dir:at("plain"),
        a.dir:at("coded"))))
      return a.dir:read("coded")
    end
    local function serve(coding, bytes)
      return answering(("HTTP/1.1 200 OK\r\nContent-Encoding: %s\r\nContent-Length: %d\r\n\r\n%s")
        :format(coding, #bytes, bytes))
    end
    -- "n: 42" in a stored block each, as raw bytes.
    local codings = {
      { "deflate", "\120\1\1\5\0\250\255n: 42\4\13\1\47" },
      { "br", "\11\2\128n: 42\3" },
      { "zstd", "\40\181\47\253\32\5\41\0\0n: 42" },
    }
    for _, case in ipairs(codings) do
      it("decodes " .. case[1], function()
        a:run(body([[
          local r = is_true(segue.fetch "http://127.0.0.1:@port@/")
          eq("n: 42", r.body)
        ]], serve(case[1], case[2])))
      end)
    end

    it("decodes gzip, and counts the decoded bytes against max_bytes", function()
      local server = serve("gzip", run_through("gzip -c", ("x"):rep(1000000)))
      a:run(body([[
        local url = "http://127.0.0.1:@port@/"
        eq(1000000, #is_true(segue.fetch(url)).body)
        local r, why, code = segue.fetch { url = url, max_bytes = 100000 }
        eq(nil, r) eq("SEGUE_ELIMIT", code) like("larger than 100000 bytes", why)
        local n = 0
        r, why, code = segue.fetch { url = url, max_bytes = 100000,
          on_chunk = function(chunk) n = n + #chunk end }
        is_true(not r, n .. ' bytes') eq("SEGUE_ELIMIT", code) is_true(n <= 100000)
      ]], server))
    end)

    it("names a coding that it cannot decode, and content that does not have its coding", function()
      a:run(body([[
        local r, why, code = segue.fetch "http://127.0.0.1:@port@/"
        eq(nil, r) eq("EPROTO", code) like("cannot be decoded .Content%-Encoding: lzma%)", why)
      ]], serve("lzma", "n: 42")))
      a:run(body([[
        local r, why, code = segue.fetch "http://127.0.0.1:@port@/"
        eq(nil, r) eq("EPROTO", code) like("cannot be decoded .Content%-Encoding: gzip%)", why)
      ]], serve("gzip", "n: 42")))
    end)
  end)

  describe("over TLS", function()
    local server
    local function start()
      local made = process.run { "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
        "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", "/CN=localhost",
        "-addext", "subjectAltName=DNS:localhost", "-keyout", a.dir:at("key.pem"), "-out",
        a.dir:at("cert.pem") }
      assert.equal(0, made.code, made.output)
      local port = require("spec.support.port").free()
      server = process.start { "openssl", "s_server", "-accept", "127.0.0.1:" .. port, "-www",
        "-cert", a.dir:at("cert.pem"), "-key", a.dir:at("key.pem"), stdin = "" }
      server:wait_output("ACCEPT")
      return { port = port }
    end
    it("rejects unknown certificates, and accepts those of the given authority", function()
      a:run(body([[
        local url = "https://localhost:@port@/"
        local r, why, code = segue.fetch(url)
        eq(nil, r) eq("EPROTO", code) like("no trusted connection to https://localhost", why)
        r = is_true(segue.fetch { url = url, tls = { ca = "cert.pem" } })
        eq(200, r.status) like("s_server", r.body)
        r, why, code = segue.fetch { url = "https://127.0.0.1:@port@/", tls = { ca = "cert.pem" } }
        eq(nil, r) eq("EPROTO", code)
        eq(200, segue.fetch({ url = url, tls = { verify = false } }).status)
        r, why = segue.fetch { url = url, tls = { ca = "none.pem" } }
        eq(nil, r) like("none.pem", why)
      ]], start()))
    end)
  end)

  describe("when its task is over", function()
    local silent = {
      { "before the answer", function() end },
      { "in the middle of the headers", "HTTP/1.1 200 OK\r\nContent-" },
      { "in the middle of the body", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc" },
    }
    for _, case in ipairs(silent) do
      it("closes the connection " .. case[1], function()
        local asked = 0
        local server = answering(function(client)
          asked = asked + 1
          if type(case[2]) == "string" then client:write(case[2]) end
        end)
        local call = a:start(assert(a:policy(body('segue.fetch "http://127.0.0.1:@port@/"',
          server))))
        a:pump(function() return asked == 1 end)
        a:turn()
        a:unload()
        a:pump(function() return server.open == 0 and call.over end, 5000, "the connection's end")
      end)
    end
    it("does not wait for a look-up of a name", function()
      local call = a:start(assert(a:policy [[segue.fetch "http://no-such-host.invalid/"]]))
      a:unload()
      a:pump(function() return call.over end)
    end)
  end)

  it("is an error before anything was sent in a place where Lua cannot wait", function()
    local server = answering(ok)
    local answer = a:attempt(body([[("x"):gsub("x", function()
      segue.fetch "http://127.0.0.1:@port@/" end)]], server))
    assert.matches("cannot wait here", answer.message)
    a:turn()
    assert.equal(0, server.count)
  end)

  it("keeps a thousand answers apart", function()
    local server = answering(function(client, data)
      local n = data:match("^GET /(%d+)")
      client:write(("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s"):format(#n, n))
    end)
    local uv = require "luv"
    local limit = io.popen("ulimit -n")
    local files = tonumber(limit:read("*a"))
    limit:close()
    assert(uv and files and files >= 4096, "the specs need ulimit -n of 4096 or more")
    a:run(body([[
      local jobs = {}
      for i = 1, 1000 do
        jobs[i] = function() return is_true(segue.fetch("http://127.0.0.1:@port@/" .. i)).body end
      end
      local r = is_true(segue.all(jobs))
      for i = 1, 1000 do eq(tostring(i), r[i]) end
    ]], server))
  end)

  it("counts the bytes that it holds against the policy's memory", function()
    open { memory = 8 * 1024 * 1024 }
    local server = answering("HTTP/1.1 200 OK\r\nContent-Length: 10000000\r\n\r\n"
      .. ("x"):rep(10000000))
    a:run(body([[
      local r, why, code = segue.fetch "http://127.0.0.1:@port@/"
      eq(nil, r) eq("SEGUE_ELIMIT", code) like("does not fit into the memory that is left", why)
    ]], server))
  end)

  it("works with a collector that stops the world", function()
    async.stress = true
    open()
    async.stress = false
    local server = answering(ok)
    a:run(body([[
      local url, n = "http://127.0.0.1:@port@/", 0
      eq("ok", segue.fetch(url).body)
      segue.fetch { url = url, on_chunk = function(c) n = n + #c end }
      eq(2, n)
    ]], server))
  end)
end)
