-- SPDX-License-Identifier: MIT
-- The grammar of requests, as pure functions: heads, paths, queries, hosts, chunked bodies.
local C = require "spec.support.c"
local ffi = C.ffi

local OK, MORE, DATA, BAD = 0, 1, 2, 3

-- A buffer of exactly the text's size, so that a sanitizer sees every read past its end.
local function exactly(text)
  local p = ffi.cast("char *", C.malloc(math.max(#text, 1)))
  ffi.copy(p, text, #text)
  return ffi.gc(p, C.free)
end

local function parse(text, header_max)
  local head = C.new("segue__http_head")
  local headers = C.new("segue__http_header[?]", 100)
  head.headers, head.header_max = headers, header_max or 100
  local buf = exactly(text)
  local r = C.segue__http_parse_head(buf, #text, head)
  return r, head, { buf, headers }
end

local function str(text)
  return text.s == nil and "" or ffi.string(text.s, text.len)
end

local function get(lines, first)
  return (first or "GET / HTTP/1.1") .. "\r\n" .. (lines or "Host: a\r\n") .. "\r\n"
end

describe("a request head", function()
  it("is read into method, path, query, host and headers", function()
    local text = "POST /a/b?c=d&e HTTP/1.1\r\nHost: x:80\r\nA:1\r\nEmpty:\r\nB: \t two words \t\r\n"
      .. "Content-Length: 5\r\n\r\n"
    local r, head, keep = parse(text .. "hello")
    assert.equal(OK, r)
    assert.equal("POST", str(head.method))
    assert.equal("/a/b", str(head.path))
    assert.equal("c=d&e", str(head.query))
    assert.equal("x:80", str(head.host))
    assert.equal(#text, tonumber(head.length))
    assert.equal(5, tonumber(head.header_count))
    assert.equal("two words", str(head.headers[3].value))
    assert.equal("", str(head.headers[2].value))
    assert.equal(5, tonumber(head.content_length))
    assert.is_true(head.has_length and head.keep_alive and not head.chunked)
    assert.is_table(keep)
  end)

  it("is never complete before its last byte, and never refused before it is wrong", function()
    local text = "\r\nPUT http://h:1/x?y HTTP/1.0\r\nHost: h\r\nConnection: Keep-Alive\r\n\r\n"
    for n = 0, #text - 1 do
      assert.equal(MORE, (parse(text:sub(1, n))), "after " .. n .. " bytes")
    end
    assert.equal(OK, (parse(text)))
  end)

  -- Heads that are accepted: text -> a check of the result.
  local good = {
    { "one empty line before it", "\r\n" .. get() },
    { "an unknown method", get(nil, "BREW / HTTP/1.1"), function(h)
      return str(h.method) == "BREW"
    end },
    { "an absolute target, whose authority wins", get("Host: other\r\n",
      "GET http://h:8/p?q HTTP/1.1"), function(h)
      return str(h.host) == "h:8" and str(h.path) == "/p" and str(h.query) == "q"
    end },
    { "an empty Host", get("Host:\r\n"), function(h) return h.host.len == 0 end },
    { "an absolute target without a path", get(nil, "GET HTTPS://h HTTP/1.1"), function(h)
      return str(h.path) == "" and str(h.host) == "h"
    end },
    { "an absolute target with only a query", get(nil, "GET http://h?q HTTP/1.1"), function(h)
      return str(h.path) == "" and str(h.query) == "q"
    end },
    { "OPTIONS *", get(nil, "OPTIONS * HTTP/1.1"), function(h) return str(h.path) == "*" end },
    { "HTTP/1.0 without Host", get("", "GET / HTTP/1.0"), function(h)
      return h.minor == 0 and not h.keep_alive
    end },
    { "HTTP/1.0 with keep-alive", get("Connection: foo, Keep-Alive\r\n", "GET / HTTP/1.0"),
      function(h) return h.keep_alive end },
    { "Connection: close among others", get("Host: a\r\nConnection: x,close , y\r\n"),
      function(h) return not h.keep_alive end },
    { "close over keep-alive", get("Host: a\r\nConnection: close\r\nConnection: keep-alive\r\n"),
      function(h) return not h.keep_alive end },
    { "chunked in any case", get("Host: a\r\nTransfer-Encoding: Chunked\r\n"),
      function(h) return h.chunked end },
    { "Expect: 100-continue", get("Host: a\r\nExpect: 100-Continue\r\n"),
      function(h) return h.expect_continue end },
    { "Expect from HTTP/1.0, which means nothing", get("Expect: 100-continue\r\n",
      "GET / HTTP/1.0"), function(h) return not h.expect_continue end },
    { "the largest length", get("Host: a\r\nContent-Length: 18446744073709551615\r\n"),
      function(h) return h.content_length == 18446744073709551615ULL end },
    { "a length with leading zeros", get("Host: a\r\nContent-Length: 007\r\n"),
      function(h) return h.content_length == 7 end },
    { "bytes above 127 in a value", get("Host: a\r\nX: \200\255\r\n"),
      function(h) return str(h.headers[1].value) == "\200\255" end },
    { "a head that ends where a body begins", get() .. "GET", function(h)
      return tonumber(h.length) == #get()
    end },
  }
  for _, row in ipairs(good) do
    it("may hold " .. row[1], function()
      local r, head, keep = parse(row[2])
      assert.equal(OK, r, C.str(head.reason))
      if row[3] then assert.is_true(row[3](head)) end
      assert.is_table(keep)
    end)
  end

  -- Heads that are refused: text, status.
  local bad = {
    { "no Host", get(""), 400 },
    { "two Hosts", get("Host: a\r\nHost: a\r\n"), 400 },
    { "a Host with a path", get("Host: a/b\r\n"), 400 },
    { "a Host with user information", get("Host: u@a\r\n"), 400 },
    { "a Host with two ports", get("Host: a:1:2\r\n"), 400 },
    { "a Host list", get("Host: a, b\r\n", "GET / HTTP/1.0"), nil },
    { "a version of the future", get(nil, "GET / HTTP/9.9"), 505 },
    { "HTTP/2's preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505 },
    { "HTTP/1.2", get(nil, "GET / HTTP/1.2"), 505 },
    { "HTTP/0.9", "GET /\r\n", 400 },
    { "a version in lower case", get(nil, "GET / http/1.1"), 400 },
    { "a version of three digits", get(nil, "GET / HTTP/1.10"), 400 },
    { "white space after the version", get(nil, "GET / HTTP/1.1 "), 400 },
    { "CONNECT", get(nil, "CONNECT a:1 HTTP/1.1"), 501 },
    { "a method that is no token", get(nil, "G(T / HTTP/1.1"), 400 },
    { "a method without end", ("A"):rep(40), 501 },
    { "no method", " / HTTP/1.1\r\n", 400 },
    { "two spaces", get(nil, "GET  / HTTP/1.1"), 400 },
    { "a tab for a space", get(nil, "GET\t/ HTTP/1.1"), 400 },
    { "a target without slash", get(nil, "GET a HTTP/1.1"), 400 },
    { "the target * with GET", get(nil, "GET * HTTP/1.1"), 400 },
    { "a target of another scheme", get(nil, "GET ftp://h/ HTTP/1.1"), 400 },
    { "a target with an empty authority", get(nil, "GET http:///x HTTP/1.1"), 400 },
    { "a target with user information", get(nil, "GET http://u@h/ HTTP/1.1"), 400 },
    { "a fragment", get(nil, "GET /a#b HTTP/1.1"), 400 },
    { "a byte above 127 in the target", get(nil, "GET /\195\164 HTTP/1.1"), 400 },
    { "NUL in the target", get(nil, "GET /a\0b HTTP/1.1"), 400 },
    { "a request line ended by LF", "GET / HTTP/1.1\nHost: a\r\n\r\n", 400 },
    { "a request line ended by CR", "GET / HTTP/1.1\rHost: a\r\n\r\n", 400 },
    { "two empty lines before it", "\r\n\r\n" .. get(), 400 },
    { "a header ended by LF", get("Host: a\nX: 1\r\n"), 400 },
    { "an end that is a bare LF", "GET / HTTP/1.1\r\nHost: a\r\n\n", 400 },
    { "a CR inside a value", get("Host: a\r\nX: a\rb\r\n"), 400 },
    { "NUL in a value", get("Host: a\r\nX: a\0b\r\n"), 400 },
    { "a control character in a value", get("Host: a\r\nX: a\1b\r\n"), 400 },
    { "DEL in a value", get("Host: a\r\nX: a\127b\r\n"), 400 },
    { "a folded line", get("Host: a\r\nX: a\r\n b\r\n"), 400 },
    { "a folded first line", get(" Host: a\r\n"), 400 },
    { "a space before the colon", get("Host : a\r\n"), 400 },
    { "a tab before the colon", get("Host: a\r\nContent-Length\t: 4\r\n"), 400 },
    { "a header without a name", get("Host: a\r\n: x\r\n"), 400 },
    { "a header without a colon", get("Host: a\r\nX\r\n"), 400 },
    { "a header name that is no token", get("Host: a\r\nX@Y: x\r\n"), 400 },
    { "a length beside chunked", get("Host: a\r\nContent-Length: 4\r\n"
      .. "Transfer-Encoding: chunked\r\n"), 400 },
    { "chunked beside a length", get("Host: a\r\nTransfer-Encoding: chunked\r\n"
      .. "Content-Length: 4\r\n"), 400 },
    { "two lengths that differ", get("Host: a\r\nContent-Length: 4\r\n"
      .. "Content-Length: 5\r\n"), 400 },
    { "two lengths that agree", get("Host: a\r\nContent-Length: 4\r\nContent-Length: 4\r\n"), 400 },
    { "a list of lengths", get("Host: a\r\nContent-Length: 4, 4\r\n"), 400 },
    { "a length with a sign", get("Host: a\r\nContent-Length: +4\r\n"), 400 },
    { "a negative length", get("Host: a\r\nContent-Length: -4\r\n"), 400 },
    { "a hexadecimal length", get("Host: a\r\nContent-Length: 0x4\r\n"), 400 },
    { "an empty length", get("Host: a\r\nContent-Length:\r\n"), 400 },
    { "a length past 64 bits", get("Host: a\r\nContent-Length: 18446744073709551616\r\n"), 400 },
    { "a length of thirty digits", get("Host: a\r\nContent-Length: " .. ("9"):rep(30) .. "\r\n"),
      400 },
    { "an unknown coding", get("Host: a\r\nTransfer-Encoding: xchunked\r\n"), 400 },
    { "chunked before identity", get("Host: a\r\nTransfer-Encoding: chunked, identity\r\n"), 400 },
    { "chunked twice", get("Host: a\r\nTransfer-Encoding: chunked, chunked\r\n"), 400 },
    { "two Transfer-Encodings", get("Host: a\r\nTransfer-Encoding: chunked\r\n"
      .. "Transfer-Encoding: chunked\r\n"), 400 },
    { "an empty Transfer-Encoding", get("Host: a\r\nTransfer-Encoding:\r\n"), 400 },
    { "gzip before chunked", get("Host: a\r\nTransfer-Encoding: gzip, chunked\r\n"), 501 },
    { "a parameter of chunked", get("Host: a\r\nTransfer-Encoding: chunked;q=1\r\n"), 400 },
    { "a vertical tab around chunked", get("Host: a\r\nTransfer-Encoding: \vchunked\r\n"), 400 },
    { "chunked in HTTP/1.0", get("Transfer-Encoding: chunked\r\n", "POST / HTTP/1.0"), 400 },
    { "another expectation", get("Host: a\r\nExpect: 200-ok\r\n"), 417 },
    { "a TLS greeting", "\22\3\1\2\0\1\0\1", 400 },
  }
  for _, row in ipairs(bad) do
    it("is refused for " .. row[1], function()
      local r, head = parse(row[2])
      assert.equal(BAD, r)
      assert.equal(row[3] or 400, head.status)
      assert.is_true(#C.str(head.reason) > 10)
    end)
  end

  it("is refused for more headers than allowed", function()
    local r, head = parse(get("Host: a\r\nX: 1\r\nY: 2\r\n"), 2)
    assert.equal(BAD, r)
    assert.equal(431, head.status)
    assert.equal(OK, (parse(get("Host: a\r\nX: 1\r\n"), 2)))
  end)

  it("is looked for without reading any byte twice", function()
    local text = get("Host: a\r\nX: 1\r\n")
    local scanned = C.new("size_t[1]")
    for n = 1, #text do
      local buf = exactly(text:sub(1, n))
      assert.equal(n == #text, C.segue__http_head_ready(buf, n, scanned))
      assert.equal(n, tonumber(scanned[0]))
    end
    scanned[0] = 0
    assert.is_true(C.segue__http_head_ready("GET / HTTP/1.1\nHost", 19, scanned))
    scanned[0] = 0
    assert.is_true(C.segue__http_head_ready("\22\3\1", 3, scanned))
  end)
end)

describe("a host", function()
  local function valid(text)
    return C.segue__http_host_valid(C.new("segue__http_text", text, #text))
  end

  it("is a name, an address or an address in brackets, with an optional port", function()
    for _, text in ipairs { "a", "a.b-c_d", "a:", "a:0", "a:65535", "127.0.0.1:7377", "[::1]",
      "[::1]:80", "[2001:db8::1]:", "%41b", "a~!$&'()*+,;=" } do
      assert.is_true(valid(text), text)
    end
  end)

  it("is in no other form", function()
    for _, text in ipairs { "", ":80", "a:65536", "a:123456", "a:-1", "a:x", "[::1", "::1", "[]",
      "[1.2.3.4]", "[::1]x", "[::1%lo]", "a b", "a/b", "a?b", "a@b", "%4", "%zz", "a\0b",
      "[" .. ("1"):rep(60) .. "]", "[::1\0]" } do
      assert.is_false(valid(text), text)
    end
  end)
end)

describe("a path", function()
  local function decode(raw)
    local buf = ffi.new("char[?]", #raw + 1)
    ffi.copy(buf, raw, #raw)
    local n = C.segue__http_path_decode(buf, #raw, buf)
    if n < 0 then return nil, n end
    assert.equal(n, #ffi.string(buf))
    return ffi.string(buf)
  end

  it("is decoded and loses its dot segments", function()
    for raw, path in pairs {
      ["/"] = "/", ["/a/b"] = "/a/b", ["/%41%62"] = "/Ab", ["/a%20b+c"] = "/a b+c",
      ["/a/./b"] = "/a/b", ["/a/../b"] = "/b", ["/a/b/../../c"] = "/c", ["/a/."] = "/a/",
      ["/a/.."] = "/", ["/a/b/.."] = "/a/", ["/./a"] = "/a", ["/%2e/a"] = "/a",
      ["/a/%2E%2e/b"] = "/b", ["/a/.%2e"] = "/", ["/..."] = "/...", ["/.a"] = "/.a",
      ["/a../b"] = "/a../b", ["//a"] = "/a", ["/a//b"] = "/a/b", ["/a//../b"] = "/b", ["//"] = "/",
      ["/a///"] = "/a/", ["/a/b///../.."] = "/", ["/a//.//b"] = "/a/b",
      ["/%c3%a4"] = "/\195\164", ["/a/"] = "/a/",
    } do
      assert.equal(path, decode(raw), raw)
    end
  end)

  it("keeps escaped slashes and percent signs apart from real ones", function()
    assert.equal("/a%2Fb", decode("/a%2fb"))
    assert.equal("/a%252Fb", decode("/a%252Fb"))
    assert.equal("/a..%2Fa", decode("/a..%2fa"))
    assert.equal("/%2500", decode("/%2500"))
  end)

  it("is refused above the root, with NUL or with half an escape", function()
    for _, raw in ipairs { "/..", "//..", "/../a", "/a/..%2f", "/..%2fa", "/x%2f..%2f..",
      "/a/../..", "/a/../../b", "/%2e%2e/", "/%00", "/a%00b",
      "/%", "/%4", "/%4g", "/%g4", "/a%", "a", "", "*" } do
      local path, code = decode(raw)
      assert.is_nil(path, raw)
      assert.equal("SEGUE_ESYNTAX", C.name(code))
    end
  end)
end)

describe("a query", function()
  local function find(query, name, size)
    local buf = ffi.new("char[64]")
    local text = C.new("segue__http_text", query, #query)
    if C.segue__http_query_find(text, name, buf, size or 64) then return ffi.string(buf) end
  end

  it("gives the first value of a name, decoded", function()
    assert.equal("1", find("a=1&b=2&a=3", "a"))
    assert.equal("2", find("a=1&b=2", "b"))
    assert.equal("x y/z", find("q=x+y%2fz", "q"))
    assert.equal("", find("a&b", "a"))
    assert.equal("", find("a=&b", "a"))
    assert.equal("=", find("a==", "a"))
    assert.equal("v", find("a%20b=v", "a b"))
  end)

  it("has no value where it is absent, malformed or too long", function()
    assert.is_nil(find("ab=1", "a"))
    assert.is_nil(find("", "a"))
    assert.is_false(C.segue__http_query_find(C.new("segue__http_text"), "a", nil, 0))
    assert.is_nil(find("a=%4", "a"))
    assert.is_nil(find("a=%00", "a"))
    assert.is_nil(find("a=1234", "a", 4))
    assert.equal("123", find("a=123", "a", 4))
    assert.equal("2", find(("n"):rep(100) .. "=1&a=2", "a"))
  end)
end)

describe("a chunked body", function()
  -- Feeds pieces of at most step bytes: result, body, rest.
  local function decode(text, step)
    local decoder = C.new("segue__http_chunked[1]")
    local consumed, data, len = C.new("size_t[1]"), C.new("const char *[1]"), C.new("size_t[1]")
    local body, at = {}, 0
    while true do
      local n = math.min(step or #text, #text - at)
      local piece = exactly(text:sub(at + 1, at + n))
      local r = C.segue__http_chunked_next(decoder, piece, n, consumed, data, len)
      if r == DATA then body[#body + 1] = ffi.string(data[0], len[0]) end
      at = at + tonumber(consumed[0])
      if r == OK or r == BAD then return r, table.concat(body), text:sub(at + 1) end
      if at == #text then return r, table.concat(body), "" end
    end
  end

  it("is the same however it is cut", function()
    local text = "5\r\nhello\r\n00b;x=\"y\"\r\n, big world\r\n0\r\nTrailer: x\r\n\r\nGET"
    for step = 1, #text do
      local r, body, rest = decode(text, step)
      assert.equal(OK, r, "in steps of " .. step)
      assert.equal("hello, big world", body)
      assert.equal("GET", rest:sub(-3))
    end
    assert.equal("GET", select(3, decode(text)))
  end)

  it("is refused when its framing is not exact", function()
    for _, text in ipairs { "g\r\n", "\r\n", ";x\r\n", "-1\r\n", "+1\r\n", "0x1\r\n", " 1\r\n",
      "1 \r\n", "1\nA\r\n", "1\rA", "1\r\nA\n", "1\r\nAB\r\n", "1\r\nA\rB", "1;\nA", "1;a\rb",
      "1;a\0b", "0\r\n\n", "0\r\nA\r\n", "0\r\n: x\r\n", "0\r\n x: y\r\n", "0\r\nA : b\r\n",
      "0\r\nA: b\nC: d\r\n\r\n", "0\r\nA: \1\r\n", "10000000000000000\r\n",
      ("0"):rep(17) .. "\r\n", "1;" .. ("x"):rep(300), } do
      assert.equal(BAD, (decode(text)), text)
      assert.equal(BAD, (decode(text, 1)), text)
    end
  end)

  it("may announce 64 bits, and no more", function()
    local r = decode("ffffffffffffffff\r\nx")
    assert.equal(MORE, decode("ffffffffffffffff\r\n"))
    assert.equal(DATA, r)
  end)

  it("is refused when trailers or extensions outgrow it", function()
    assert.equal(BAD, (decode("0\r\n" .. ("A: " .. ("b"):rep(1000) .. "\r\n"):rep(9))))
    assert.equal(BAD, (decode(("1;" .. ("x"):rep(200) .. "\r\nA\r\n"):rep(100))))
    assert.equal(OK, (decode(("1\r\nA\r\n"):rep(20000) .. "0\r\n\r\n")))
  end)
end)
