-- SPDX-License-Identifier: MIT
-- Sources that are URLs, in the daemon: nginx as the server that does what it should, and servers
-- that drip, lie, never end, answer with a page for people, or leave.
local certificates = require "spec.support.certificates"
local segue = require "spec.support.segue"
local tempdir = require "spec.support.tempdir"
local wait = require "spec.support.wait"
local web = require "spec.support.web"

local function policy(sources, more)
  return ([[
    local segue = require "segue"
    return {
      sources = { segue.file "config.yaml", %s },
      triggers = { segue.watch(), segue.http "127.0.0.1:@PORT@" },
      %s
    }]]):format(sources, more or "")
end

-- A daemon whose second source is a URL with these options.
local function start(url, options, more)
  options = options or ""
  return segue.start {
    files = { ["config.yaml"] = "x: 1\n", token = "first\n" },
    policy = policy(('segue.url { "%s", retry = { min = "20ms", max = "100ms" }, %s }'):format(url,
      options), more),
  }
end

local function source(d)
  for _, s in ipairs(d:json("/api/v1/sources")) do
    if s.kind == "url" then return s end
  end
end

describe("a URL as a source", function()
  after_each(function()
    web.cleanup()
    segue.cleanup()
  end)

  it("is fetched from nginx, and with a condition from then on", function()
    local nginx = web.nginx()
    local d = start(nginx.url .. "/config.yaml")
    assert.same({ x = 1, n = 1 }, d:config())
    assert.equal(nginx.url .. "/config.yaml", source(d).name)
    assert.equal(200, (d:reload()))
    wait.until_true(function()
      return (nginx.dir:read("access.log") or ""):find('" 304 0 ', 1, true)
    end, nil, "a 304")
    nginx.dir:write("www/config.yaml", "n: 22\n")
    assert.equal("applied", select(2, d:reload()).outcome)
    assert.same({ x = 1, n = 22 }, d:config())
    d:stop()
  end)

  it("is polled by itself", function()
    local nginx = web.nginx()
    local d = start(nginx.url .. "/config.yaml", 'interval = "100ms"')
    nginx.dir:write("www/config.yaml", "n: 333\n")
    d:wait_config(function(c) return c.n == 333 end)
    d:stop()
  end)

  it("uses Last-Modified where there is no ETag", function()
    local stamp = "Sun, 22 Nov 2026 10:00:00 GMT"
    local w = web.serve(function(request, client)
      if request.headers["if-modified-since"] == stamp then
        client:write("HTTP/1.1 304 Not Modified\r\n\r\n")
      else
        client:write(web.answer("n: 1", { headers = "Last-Modified: " .. stamp .. "\r\n" }))
      end
    end)
    local d = start(w.url .. "/c.yaml")
    assert.equal(200, (d:reload()))
    assert.equal(stamp, w.requests[#w.requests].headers["if-modified-since"])
    assert.equal(stamp, source(d).revision)
    d:stop()
  end)

  it("is read as JSON by its type and by its name", function()
    local w = web.serve(function(request, client)
      client:write(web.answer('{"n": 5}', { type = request.path:find("api")
        and "application/json; charset=utf-8" or "text/plain" }))
    end)
    local d = start(w.url .. "/api")
    assert.equal(5, d:config().n)
    d:stop()
    d = start(w.url .. "/c.json?x=1")
    assert.equal(5, d:config().n)
    d:stop()
  end)

  it("sends headers and the token that the file contains now", function()
    local w = web.serve(function(request, client)
      local good = request.headers.authorization == "Bearer first" and request.headers["x-a"] == "b"
      client:write(good and web.answer("n: 1") or web.answer("no", { status = "401 Unauthorized" }))
    end)
    local d = start(w.url, 'token_file = "token", headers = { ["X-A"] = "b" }')
    assert.equal(1, d:config().n)
    d.dir:write("token", "second\n")
    w.handler = function(request, client)
      client:write(request.headers.authorization == "Bearer second" and web.answer("n: 2")
        or web.answer("no", { status = "401 Unauthorized" }))
    end
    assert.equal("applied", select(2, d:reload()).outcome)
    d.dir:write("token", "two words\n")
    local _, answer = d:reload()
    assert.truthy(answer.errors[1].message:find("must contain a token", 1, true))
    d:stop()
  end)

  it("never shows the secrets of a URL", function()
    local w = web.serve(function(_, client)
      client:write(web.answer("no", { status = "403 Forbidden" }))
    end)
    local d = start("http://user:hunter2@127.0.0.1:" .. w.port .. "/c?key=hunter3",
      "optional = true")
    local name = w.url .. "/c"
    assert.equal(name, source(d).name)
    assert.truthy(source(d).error.message:find(name .. " answered 403: may we read it?", 1, true))
    assert.truthy(w.requests[1].headers.authorization:find("^Basic "))
    assert.equal("/c?key=hunter3", w.requests[1].path)
    local shown = d:log() .. d:http("/metrics").body .. d:cli("status").stdout
      .. d:control("/api/v1/status").body
    assert.falsy(shown:find("hunter", 1, true))
    d:stop()
  end)

  it("does not follow redirects unless the policy allows them", function()
    local w = web.serve(function(request, client)
      if request.path == "/new" then return client:write(web.answer("n: 9")) end
      client:write(web.answer("", { status = "302 Found", headers = "Location: /new\r\n" }))
    end)
    local d = start(w.url .. "/old", "optional = true")
    assert.truthy(source(d).error.message:find("answered 302 and leads to /new: redirects = true",
      1, true))
    d:stop()
    d = start(w.url .. "/old", "redirects = true")
    assert.equal(9, d:config().n)
    d:stop()
  end)

  it("is decoded, and if its options allow it, taken as text or empty", function()
    local gzip = io.popen("printf 'server {\\n}\\n' | gzip -c")
    local coded = gzip:read "*a"
    gzip:close()
    local w = web.serve(function(request, client)
      client:write(request.path == "/off" and web.answer("# off\n")
        or web.answer(coded, { type = "text/plain", headers = "Content-Encoding: gzip\r\n" }))
    end)
    local d = segue.start {
      files = { ["config.yaml"] = "x: 1\n" },
      policy = policy(('segue.url { "%s/site.conf", format = "text" }, segue.url { "%s/off", '
        .. 'empty = "allow" }'):format(w.url, w.url)),
    }
    assert.same({ x = 1, ["site.conf"] = "server {\n}\n" }, d:config())
    d:stop()
  end)

  it("accepts a server by its certificate only", function()
    local dir = tempdir.new()
    local ca = certificates.authority(dir)
    local server = ca:issue { name = "server", cn = "localhost" }
    os.execute("chmod a+r " .. server.key)
    local nginx = web.nginx { scheme = "https", listen = "ssl", server = ("ssl_certificate %s; "
      .. "ssl_certificate_key %s;"):format(server.cert, server.key) }
    local d = start(nginx.url .. "/config.yaml", ('tls = { ca = "%s" }'):format(ca.cert))
    assert.equal(1, d:config().n)
    d:stop()
    d = start(nginx.url .. "/config.yaml", "optional = true")
    assert.truthy(source(d).error.message:find("no trusted connection to " .. nginx.url, 1, true))
    d:stop()
    d = start(nginx.url .. "/config.yaml", "tls = { insecure = true }")
    assert.equal(1, d:config().n)
    d:stop()
  end)

  -- The daemon sees a /etc/ssl/certs of its own, with one authority in it.
  it("trusts only tls.ca where it is given, not the authorities of the system beside it", function()
    local dir = tempdir.new()
    local public, ours = certificates.authority(dir, "public"), certificates.authority(dir, "ours")
    local server = public:issue { name = "server", cn = "localhost" }
    os.execute("chmod a+r " .. server.key)
    local nginx = web.nginx { scheme = "https", listen = "ssl", server = ("ssl_certificate %s; "
      .. "ssl_certificate_key %s;"):format(server.cert, server.key) }
    local system = dir:at("system")
    assert.equal(0, os.execute(("mkdir %s && cd %s && cp %s ca-certificates.crt && "
      .. "cp ca-certificates.crt $(openssl x509 -hash -noout -in ca-certificates.crt).0"):format(
      system, system, public.cert)))
    local d = segue.start {
      files = { ["config.yaml"] = "x: 1\n" },
      under = { "unshare", "-rm", "sh", "-c",
        ('mount --bind %s /etc/ssl/certs && exec "$@"'):format(system), "sh" },
      policy = policy((([[
        segue.url { "URL/config.yaml", name = "system" },
        segue.url { "URL/config.yaml", name = "ours", optional = true, tls = { ca = "CA" } } ]])
        :gsub("URL", nginx.url):gsub("CA", ours.cert))),
    }
    local errors = {}
    for _, s in ipairs(d:json("/api/v1/sources")) do
      errors[s.name] = type(s.error) == "table" and s.error.message or "none"
    end
    assert.equal("none", errors.system)
    assert.matches("no trusted connection to " .. nginx.url, errors.ours, 1, true)
    d:stop()
  end)

  it("notices that the file of tls.ca was replaced, also after it has verified a server", function()
    local dir = tempdir.new()
    local ca, other = certificates.authority(dir), certificates.authority(dir, "other")
    local server = ca:issue { name = "server", cn = "localhost" }
    os.execute("chmod a+r " .. server.key)
    local nginx = web.nginx { scheme = "https", listen = "ssl", server = ("ssl_certificate %s; "
      .. "ssl_certificate_key %s; keepalive_timeout 0; ssl_protocols TLSv1.2; "
      .. "ssl_session_cache shared:s:1m;"):format(server.cert, server.key) }
    local d = start(nginx.url .. "/config.yaml", ('tls = { ca = "%s" }'):format(ca.cert))
    assert.equal("applied", d:json("/api/v1/reloads")[1].outcome)
    dir:write("ca.pem", other.cert_text)
    d:reload()
    assert.matches("no trusted connection to " .. nginx.url, source(d).error.message, 1, true)
    d:stop()
  end)
end)

describe("a server that", function()
  after_each(function()
    web.cleanup()
    segue.cleanup()
  end)

  local big = "n: " .. ("x"):rep(5000) .. "\n"
  local html = "<!DOCTYPE html>\n<html><body>Please log in</body></html>"
  -- Each begins well and then goes wrong: what was there before is held, and the rest continues.
  local cases = {
    { "answers 200 with HTML", function(_, client)
      client:write(web.answer(html, { type = "text/html" }))
    end, "answered 200 with HTML (text/html) instead of YAML or JSON" },
    { "calls HTML plain text", function(_, client)
      client:write(web.answer(html, { type = "text/plain" }))
    end, "answered 200 with HTML (text/plain)" },
    { "answers with a picture", function(_, client)
      client:write(web.answer("\137PNG", { type = "image/png" }))
    end, "answered with image/png, which is neither YAML nor JSON" },
    { "answers with nothing", function(_, client)
      client:write(web.answer(" \n"))
    end, "answered 200 with nothing in it" },
    { "answers 500", function(_, client)
      client:write(web.answer("n: 2", { status = "500 Internal Server Error" }))
    end, "answered 500" },
    { "answers 304 to no condition", function(_, client)
      client:write("HTTP/1.1 304 Not Modified\r\n\r\n")
    end, "answered 304" },
    { "promises more than it sends", function(_, client)
      client:write(web.answer("n: 2\n", { length = 5000 }))
      client:shutdown(function() web.close(client) end)
    end, "broke off" },
    { "resets the connection", function(_, client) web.reset(client) end, "broke off" },
    { "resets it in the middle", function(_, client)
      client:write("HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\nn: 2\n", function()
        web.reset(client)
      end)
    end, "" },
    { "drips", function(_, client, server)
      client:write("HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n")
      server:every(50, client, function() client:write("#") end)
    end, "gave no complete answer within 300 ms" },
    { "never answers", function() end, "gave no complete answer within 300 ms" },
    { "never ends", function(_, client, server)
      client:write("HTTP/1.1 200 OK\r\n\r\n")
      server:every(1, client, function() client:write(big) end)
    end, "is larger than 65536 bytes: raise max_bytes" },
    { "says that it is too large", function(_, client)
      client:write("HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n")
    end, "is larger than 65536 bytes: raise max_bytes" },
    { "does not speak HTTP", function(_, client)
      client:write("SSH-2.0-OpenSSH_9.2\r\n")
      client:shutdown(function() web.close(client) end)
    end, "" },
    { "goes away", function(_, client, server)
      web.close(client)
      server:stop()
    end, "" },
  }
  for _, case in ipairs(cases) do
    it(case[1] .. " leaves what it gave before in place", function()
      local w = web.serve(function(_, client) client:write(web.answer("n: 1")) end)
      local d = start(w.url, 'timeout = "300ms", max_bytes = "64KiB"')
      w.handler = case[2]
      d.dir:write("config.yaml", "x: 2\n")
      local status, answer = d:reload()
      assert.equal(200, status)
      assert.equal(1, #answer.errors)
      local message = answer.errors[1].message
      assert.truthy(message:find(case[3], 1, true), message)
      assert.truthy(message:find("is held", 1, true), message)
      assert.same({ x = 2, n = 1 }, d:config())
      local s = source(d)
      assert.is_false(s.up)
      assert.is_true(s.held)
      assert.truthy(d:http("/-/ready").body:find(w.url .. " is away for", 1, true))
      assert.truthy(d:http("/metrics").body:find('segue_source_up{source="' .. w.url .. '"} 0\n', 1,
        true))
      assert.truthy(d:cli("status").stdout:find("held", 1, true))
      if w.handle:is_closing() then w:start_again() end
      w.handler = function(_, client) client:write(web.answer("n: 7")) end
      d:wait_config(function(c) return c.n == 7 end)
      wait.until_true(function() return source(d).up end, nil, "a source that is up")
      d:stop()
    end)
  end

  it("does not run at the first start makes it fail, and the message names the remedy", function()
    local w = web.serve(function() end)
    w:stop()
    local d = segue.start { ready = false, files = { ["config.yaml"] = "x: 1\n" },
      policy = policy(('segue.url "%s/c.yaml"'):format(w.url)) }
    assert.equal(4, (d:wait_exit()))
    assert.truthy(d:log():find("no server answers on " .. w.url .. "/c.yaml: is it running?",
      1, true))
  end)

  it("starts later is awaited where the source is optional", function()
    local w = web.serve(function(_, client) client:write(web.answer("n: 4")) end)
    w:stop()
    local d = start(w.url, "optional = true")
    assert.same({ x = 1 }, d:config())
    w:start_again()
    d:wait_config(function(c) return c.n == 4 end)
    d:stop()
  end)
end)

describe("a start without the server", function()
  after_each(function()
    web.cleanup()
    segue.cleanup()
  end)

  local function again(d)
    d:stop()
    d:spawn()
    d:wait_ready()
  end

  it("serves its delivery of the last good generation, reports that, and continues", function()
    local w = web.serve(function(_, client)
      client:write(web.answer("n: 1", { headers = 'ETag: "one"\r\n' }))
    end)
    local d = start(w.url .. "/c.yaml")
    w:stop()
    again(d)
    assert.same({ x = 1, n = 1 }, d:config())
    local s = source(d)
    assert.is_true(s.held)
    assert.equal('"one"', s.revision)
    d:wait_log "started from the last good generation on disk"
    assert.is_string(d:json("/api/v1/status").stale_since)
    -- the other sources continue, and the held document is still reported as held
    d.dir:write("config.yaml", "x: 2\n")
    d:wait_config(function(c) return c.x == 2 end)
    assert.equal(1, d:config().n)
    assert.is_string(d:json("/api/v1/status").stale_since)
    assert.truthy(d:http("/-/ready").body:find("stale since", 1, true))
    -- the same bytes, by their revision
    w.handler = function(request, client)
      client:write(request.headers["if-none-match"] == '"one"'
        and "HTTP/1.1 304 Not Modified\r\n\r\n" or web.answer("n: 3"))
    end
    w:start_again()
    d:wait_log("the live generation is not stale")
    assert.equal(1, d:config().n)
    assert.is_true(source(d).up)
    d:stop()
  end)

  it("fails where no delivery was stored", function()
    local w = web.serve(function(_, client) client:write(web.answer("n: 1")) end)
    local d = start(w.url .. "/c.yaml")
    w:stop()
    d:stop()
    assert(os.execute("rm -rf " .. d.dir:at(".segue")) == 0)
    d:spawn()
    assert.equal(4, (d:wait_exit()))
  end)

  it("serves values that a source in Lua built", function()
    local d = segue.start {
      files = { ["config.yaml"] = "x: 1\n", ["up"] = "yes" },
      policy = policy([[segue.source { name = "built", fetch = function()
        local up, why, code = segue.read "up"
        if not up then return nil, why, code end
        return { list = { 1, 2 }, deep = { n = 1.5, t = true, s = "a\"b" } }
      end }]]),
    }
    local before = d:json("/api/v1/status").hash
    d.dir:delete("up")
    again(d)
    assert.equal(before, d:json("/api/v1/status").hash)
    d:stop()
  end)

  it("brings back an earlier delivery by a rollback", function()
    local w = web.serve(function(_, client) client:write(web.answer("n: 1")) end)
    local d = start(w.url .. "/c.yaml")
    w.handler = function(_, client) client:write(web.answer("n: 2")) end
    assert.equal("applied", select(2, d:reload()).outcome)
    w.handler = function(_, client) web.reset(client) end
    local cli = d:cli("rollback")
    assert.equal(0, cli.code, cli.output)
    assert.equal(1, d:config().n)
    d:stop()
  end)
end)

describe("a look-up of a name that never ends", function()
  after_each(segue.cleanup)

  it("delays its source, and nothing else", function()
    local dir = tempdir.new()
    assert(os.execute("mkfifo " .. dir:at("hosts")) == 0)
    local d = segue.start {
      files = { ["config.yaml"] = "x: 1\n" },
      -- a reader of /etc/hosts blocks until another process writes to the pipe
      under = { "unshare", "-rm", "sh", "-c", ('mount --bind %s /etc/hosts && exec "$@"'):format(
        dir:at("hosts")), "sh" },
      policy = policy('segue.url { "http://far.example/c.yaml", timeout = "300ms", '
        .. 'optional = true, retry = { min = "1m", max = "1m" } }'),
    }
    assert.equal("SEGUE_ETIMEOUT", source(d).error.code)
    assert.truthy(source(d).error.message:find("no connection to http://far.example/c.yaml within",
      1, true), source(d).error.message)
    d.dir:write("config.yaml", "x: 2\n")
    d:wait_config(function(c) return c.x == 2 end)
    d:stop()
  end)
end)
