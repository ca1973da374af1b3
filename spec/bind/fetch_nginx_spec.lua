-- SPDX-License-Identifier: MIT
-- segue.fetch against nginx, a server that other people wrote: methods, headers, bodies both ways,
-- redirects, TLS with a private authority, size caps, streams, time limits, connections that are
-- used again, unix sockets.
local async = require "spec.support.async"
local client = require "spec.support.http"
local port = require "spec.support.port"
local process = require "spec.support.process"
local wait = require "spec.support.wait"

local config = [[
worker_processes 1;
daemon off;
pid @dir@/nginx.pid;
error_log stderr warn;
events { worker_connections 64; }
http {
  access_log off;
  client_max_body_size 64m;
  client_body_temp_path @dir@/tmp/body; proxy_temp_path @dir@/tmp/proxy;
  fastcgi_temp_path @dir@/tmp/fastcgi; uwsgi_temp_path @dir@/tmp/uwsgi;
  scgi_temp_path @dir@/tmp/scgi;
  default_type text/plain;
  server {
    listen 127.0.0.1:@port@;
    listen unix:@dir@/nginx.sock;
    listen 127.0.0.1:@tls@ ssl;
    server_name localhost;
    ssl_certificate @dir@/server.pem;
    ssl_certificate_key @dir@/server.key;
    root @dir@/www;
    location = /seen { return 200 "$request_method|$http_x_one|$http_x_two|$args|$host|$scheme"; }
    location = /headers { add_header X-Many a; add_header X-Many b; return 200 ok; }
    location = /connection { return 200 "$connection $connection_requests"; }
    location = /moved { return 301 /moved2; }
    location = /moved2 { return 302 http://127.0.0.1:@port@/seen?after; }
    location = /circle { return 302 /circle; }
    location = /elsewhere { return 302 file:///etc/passwd; }
    location = /teapot { return 418 short; }
    location = /nothing { return 204; }
    location = /hangs { proxy_pass http://127.0.0.1:@silent@; proxy_read_timeout 600s; }
    location /kept/ { dav_methods PUT DELETE; create_full_put_path on; }
    location /slow/ { limit_rate 20k; alias @dir@/www/; }
  }
}
]]

local a, nginx, values, dir

local function openssl(...)
  local p = process.run { "openssl", ... }
  assert.equal(0, p.code, p.output)
end

-- An authority, and a certificate for localhost that it signed.
local function certificates()
  openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
    "-days", "2", "-subj", "/CN=an authority", "-keyout", dir:at "ca.key", "-out", dir:at "ca.pem")
  openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj",
    "/CN=localhost", "-keyout", dir:at "server.key", "-out", dir:at "server.csr")
  openssl("x509", "-req", "-in", dir:at "server.csr", "-CA", dir:at "ca.pem", "-CAkey",
    dir:at "ca.key", "-CAcreateserial", "-days", "2", "-extfile",
    dir:write("ext", "subjectAltName=DNS:localhost\n"), "-out", dir:at "server.pem")
end

local silent -- takes connections and never answers
local function start()
  a = async.open()
  dir = a.dir
  silent = a:serve(function() end)
  values = { dir = dir.path, port = port.free(), tls = port.free(), silent = silent.port }
  dir:mkdir "tmp"
  dir:write("www/ten.txt", ("0123456789"):rep(10))
  dir:write("www/large", ("x"):rep(1024 * 1024))
  dir:mkdir "www/kept"
  certificates()
  for _, name in ipairs { "www", "www/kept", "tmp", "" } do -- its worker is another user
    process.run { "chmod", "777", dir:at(name) }
  end
  dir:write("nginx.conf", (config:gsub("@(%w+)@", values)))
  nginx = process.start { "/usr/sbin/nginx", "-e", "stderr", "-p", dir.path, "-c",
    dir:at "nginx.conf" }
  for _, name in ipairs { "port", "tls" } do -- nginx opens its listeners one after the other
    wait.until_true(function()
      local c = client.connect({ port = values[name] }, true)
      if c then c:close() end
      return c or not nginx:running()
    end, nil, function() return nginx:describe() end)
  end
end

local function run(text)
  a:run((text:gsub("@(%w+)@", values)))
end

describe("segue.fetch, asking nginx", function()
  before_each(start)
  after_each(function()
    local open, server = a, nginx
    a, nginx = nil, nil
    if server then server:stop() end
    process.stop_all()
    if open then open:close() end
  end)

  it("sends methods, headers and queries, and reads statuses and headers", function()
    run [[
      local url = "http://localhost:@port@"
      for _, method in ipairs { "GET", "POST", "OPTIONS", "PATCH" } do
        local r = is_true(segue.fetch { url = url .. "/seen?a=1&b", method = method,
          headers = { ["X-One"] = "1", ["X-Two"] = "two words" } })
        eq(method .. "|1|two words|a=1&b|localhost|http", r.body)
      end
      local r = is_true(segue.fetch { url = url .. "/ten.txt", method = "HEAD" })
      eq("", r.body) eq("100", r.headers["content-length"])
      eq("a, b", segue.fetch(url .. "/headers").headers["x-many"])
      eq(418, segue.fetch(url .. "/teapot").status)
      eq(204, segue.fetch(url .. "/nothing").status)
      eq(404, segue.fetch(url .. "/none").status)
      eq("3456", segue.fetch({ url = url .. "/ten.txt",
        headers = { Range = "bytes=3-6" } }).body)]]
  end)

  it("sends bodies and gets them back, whatever bytes they have", function()
    run [[
      local url = "http://127.0.0.1:@port@/kept/a"
      for i, body in ipairs { "", "a", "\0\r\n\255", ("text "):rep(400000) } do
        local r = is_true(segue.fetch { url = url .. i, method = "PUT", body = body })
        eq(201, r.status)
        eq(body, is_true(segue.fetch(url .. i)).body)
        eq(204, segue.fetch({ url = url .. i, method = "DELETE" }).status)
        eq(404, segue.fetch(url .. i).status)
      end]]
  end)

  it("follows redirects on request, not in circles and not to files", function()
    run [[
      local url = "http://127.0.0.1:@port@"
      eq(301, segue.fetch(url .. "/moved").status)
      local r = is_true(segue.fetch { url = url .. "/moved", redirects = 5 })
      eq(200, r.status) like("^GET||||after", (r.body:gsub("|+", "||||", 1)))
      local why, code
      r, why, code = segue.fetch { url = url .. "/moved", redirects = 1 }
      eq(nil, r) like("redirect", why)
      r, why = segue.fetch { url = url .. "/circle", redirects = 10 }
      eq(nil, r) like("redirect", why)
      r, why = segue.fetch { url = url .. "/elsewhere", redirects = 10 }
      eq(nil, r) is_true(why)]]
  end)

  it("accepts TLS certificates of the authority, and no others", function()
    run [[
      local url = "https://localhost:@tls@/seen"
      local r, why, code = segue.fetch(url)
      eq(nil, r) eq("EPROTO", code) like("no trusted connection", why)
      r = is_true(segue.fetch { url = url, tls = { ca = "ca.pem" } })
      like("|https$", r.body)
      r, why, code = segue.fetch { url = "https://127.0.0.1:@tls@/seen", tls = { ca = "ca.pem" } }
      eq(nil, r) eq("EPROTO", code)
      r, why, code = segue.fetch { url = "https://localhost:@port@/", tls = { ca = "ca.pem" } }
      eq(nil, r) is_true(why)]]
  end)

  it("asks no server through a connection that a replaced file of TLS would not allow", function()
    local url = "https://localhost:@tls@/connection"
    openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
      "-days", "2", "-subj", "/CN=another", "-keyout", dir:at "other.key", "-out",
      dir:at "other.pem")
    run(([[
      local function ask(more)
        local tls = { ca = "live.pem" }
        for key, value in pairs(more or {}) do tls[key] = value end
        return segue.fetch { url = "%s", tls = tls }
      end
      segue.write("live.pem", segue.read "ca.pem")
      local first = is_true(ask()).body
      like("^%%d+ 1$", first)
      eq(first:match "^%%d+" .. " 2", is_true(ask()).body) -- the same connection
      segue.write("live.pem", segue.read "other.pem")
      local r, why, code = ask()
      eq(nil, r) eq("EPROTO", code) like("no trusted connection", why)
      segue.write("live.pem", segue.read "ca.pem")
      for _, name in ipairs { "server", "other" } do -- a certificate of ours, and another one
        segue.write("cert.pem", segue.read(name .. ".pem"))
        segue.write("key.pem", segue.read(name .. ".key"))
        like("^%%d+ 1$", is_true(ask { cert = "cert.pem", key = "key.pem" }).body)
        like("^%%d+ 2$", is_true(ask { cert = "cert.pem", key = "key.pem" }).body)
      end]]):format(url))
  end)

  it("reads no more than the limit, and streams the body", function()
    run [[
      local url = "http://127.0.0.1:@port@/large"
      local r, why, code = segue.fetch { url = url, max_bytes = 1000 }
      eq(nil, r) eq("SEGUE_ELIMIT", code) like("1000", why)
      eq(1048576, #is_true(segue.fetch { url = url, max_bytes = 1048576 }).body)
      local n, chunks = 0, 0
      r = is_true(segue.fetch { url = url, on_chunk = function(chunk)
        n, chunks = n + #chunk, chunks + 1
        segue.sleep(0)
      end })
      eq(1048576, n) eq("", r.body) is_true(chunks > 1)
      n = 0
      r, why, code = segue.fetch { url = url, max_bytes = 1000,
        on_chunk = function(chunk) n = n + #chunk end }
      eq(nil, r) eq("SEGUE_ELIMIT", code) is_true(n <= 1000)]]
  end)

  it("ends by its time limit, before the answer and in the middle of it", function()
    run [[
      local r, why, code = segue.fetch { url = "http://127.0.0.1:@port@/hangs",
        timeout = "300ms" }
      eq(nil, r) eq("SEGUE_ETIMEOUT", code) like("/hangs", why)
      r, why, code = segue.fetch { url = "http://127.0.0.1:@port@/slow/large",
        timeout = "300ms" }
      eq(nil, r) eq("SEGUE_ETIMEOUT", code)]]
  end)

  it("uses a connection again, for each host its own", function()
    run [[
      local function ask(url) return (is_true(segue.fetch(url)).body:match("^(%d+) (%d+)$")) end
      local first = ask "http://127.0.0.1:@port@/connection"
      for _ = 1, 5 do eq(first, ask "http://127.0.0.1:@port@/connection") end
      is_true(first ~= ask "http://localhost:@port@/connection")
      eq(first, ask "http://127.0.0.1:@port@/connection")]]
  end)

  it("speaks over a unix socket", function()
    run [[
      local r = is_true(segue.fetch { url = "http://localhost/seen",
        unix_socket = "@dir@/nginx.sock" })
      eq("GET||||localhost|http", r.body)]]
  end)
end)
