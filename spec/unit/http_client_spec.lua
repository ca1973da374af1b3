-- SPDX-License-Identifier: MIT
-- The blocking HTTP client of the command line, against the server under test and against others
-- that misbehave.
local C = require "spec.support.c"
local ffi = C.ffi
local servers = require "spec.support.http_server"
local uv = require "luv"

-- Calls and returns the answer as a table, or nil and the error.
local function call(options)
  local o, answer, e = C.new("segue__http_call_options[1]"), C.new("segue__http_answer[1]"),
    C.error()
  C.segue__http_call_options_init(o)
  for key, value in pairs(options) do
    if key ~= "headers" then o[0][key] = value end
  end
  local headers
  if options.headers then
    headers = C.new("const char *[?]", #options.headers + 1)
    for i, line in ipairs(options.headers) do headers[i - 1] = line end
    o[0].headers = headers
  end
  local code = C.segue__http_call(o, answer, e)
  if code ~= 0 then
    assert.is_true(answer[0].body == nil and answer[0].headers == nil)
    return nil, C.err(e), code
  end
  local result = { status = answer[0].status, body = C.str(answer[0].body, answer[0].len),
    headers = C.str(answer[0].headers), raw = answer }
  local buf = ffi.new("char[100]")
  result.type = C.segue__http_answer_header(answer, "content-TYPE", buf, 100) and ffi.string(buf)
  assert.is_false(C.segue__http_answer_header(answer, "Content-Typ", buf, 100))
  assert.is_false(C.segue__http_answer_header(answer, "Content-Type", buf, 5))
  C.segue__http_answer_deinit(answer)
  return result
end

describe("the HTTP client", function()
  local server, path

  before_each(function()
    path = os.tmpname()
    os.remove(path)
    server = servers.start { address = "unix:" .. path }
  end)

  after_each(function()
    server:stop()
    os.remove(path)
  end)

  it("gets over a unix socket", function()
    local r = call { socket_path = path, url = "/a/b?c=d", headers = { "X-Test: yes" } }
    assert.equal(200, r.status)
    assert.equal("text/plain", r.type)
    assert.matches("method=GET\npath=/a/b\nquery=c=d\nhost=localhost\n", r.body)
    assert.matches("x%-test=yes\n", r.body)
    assert.matches("peer=unix:pid=" .. uv.os_getpid() .. ",uid=%d+\nlocal=1\n", r.body)
    assert.matches("^HTTP/1.1 200 OK\r\n", r.headers)
  end)

  it("gets over TCP", function()
    local _, port = server:listen("127.0.0.1:0")
    local r = call { url = "http://127.0.0.1:" .. port .. "/x" }
    assert.matches("path=/x\n.*host=127.0.0.1:" .. port, r.body)
  end)

  it("sends bodies and methods", function()
    local body = ("b"):rep(1000000)
    local r = call { socket_path = path, url = "/echo", body = body, body_len = #body }
    assert.is_true(r.body == body)
    assert.equal("", call { socket_path = path, url = "/echo", method = "POST" }.body)
    assert.matches("method=PUT\n.*body=x\n",
      call { socket_path = path, url = "/", method = "PUT", body = "x", body_len = 1 }.body)
    assert.matches("method=DELETE\n",
      call { socket_path = path, url = "/", method = "DELETE" }.body)
    assert.equal("", call { socket_path = path, url = "/", method = "HEAD" }.body)
  end)

  it("returns any status as an answer and follows no redirect", function()
    for _, status in ipairs { 204, 302, 404, 500, 503 } do
      assert.equal(status, call { socket_path = path, url = "/status/" .. status }.status)
    end
    assert.equal(5, server:requests())
  end)

  it("waits for a late answer", function()
    assert.equal("late\n", call { socket_path = path, url = "/later/100" }.body)
  end)

  it("passes a stream on as it arrives, until it is stopped", function()
    local seen = {}
    local function on_data(_, bytes, len)
      seen[#seen + 1] = C.str(bytes, len)
      return #seen == 3 and 1 or 0
    end
    C.with("int (*)(void *, const char *, size_t)", on_data, function(cb)
      local r = call { socket_path = path, url = "/drip/100000/2", on_data = cb }
      assert.equal(200, r.status)
      assert.equal("", r.body)
      assert.equal(3, #seen)
      assert.equal("drop\n", seen[1])
      assert.equal("status\n", call { socket_path = path, url = "/status/500", on_data = cb }.body)
    end)
    server:until_true(function() return server:gone() == 1 end)
  end)

  it("fails after its time limit", function()
    local _, e, code = call { socket_path = path, url = "/hold", timeout_ms = 50 }
    assert.equal("SEGUE_ETIMEOUT", C.name(code))
    assert.matches(path .. " gave no complete answer within 50 ms", e.message, 1, true)
  end)

  it("refuses an answer that is too large", function()
    local _, e, code = call { socket_path = path, url = "/size/1000", answer_bytes = 999 }
    assert.equal("SEGUE_ELIMIT", C.name(code))
    assert.matches("larger than 999 bytes", e.message, 1, true)
    assert.equal(1000, #call { socket_path = path, url = "/size/1000", answer_bytes = 1000 }.body)
  end)

  it("reports that no daemon answers, and the remedy", function()
    local _, e, code = call { socket_path = path .. ".none", url = "/" }
    assert.equal("ECONNREFUSED", C.name(code))
    assert.equal("no daemon answers on " .. path .. ".none: start it with segue run", e.message)
    local listener, port = server:listen("127.0.0.1:0")
    server:unlisten(listener)
    _, e, code = call { url = "http://127.0.0.1:" .. port .. "/" }
    assert.equal("ECONNREFUSED", C.name(code))
    assert.matches("no daemon answers on http://127.0.0.1:" .. port, e.message, 1, true)
  end)

  it("reports that the server closed the connection too early", function()
    local process = require "spec.support.process"
    local rude = path .. ".rude" -- greets, then hangs up
    local p = process.start { "luajit", "-e", ("local path = %q;"):format(rude) .. [[
      local uv = require "luv"
      local pipe = uv.new_pipe(false)
      pipe:bind(path)
      pipe:listen(5, function()
        local c = uv.new_pipe(false)
        pipe:accept(c)
        c:read_start(function()
          c:write("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfive!", function() c:close() end)
        end)
      end)
      print("ready")
      io.flush()
      uv.run()
    ]] }
    p:wait_output("ready")
    local _, e, code = call { socket_path = rude, url = "/" }
    assert.equal("ECONNRESET", C.name(code))
    assert.matches("the connection to " .. rude .. " ended in the middle of the answer",
      e.message, 1, true)
    p:stop()
    os.remove(rude)
  end)

  it("refuses an invalid URL", function()
    for options, text in pairs {
      [{}] = "needs a URL or a socket", [{ url = "/x" }] = "needs a URL or a socket",
      [{ url = "ftp://127.0.0.1/" }] = "the URL must be like http://",
      [{ url = "http://" }] = "the URL must be like http://",
      [{ url = "/", socket_path = ("x"):rep(200) }] = "too long for a unix socket",
    } do
      local _, e, code = call(options)
      assert.equal("SEGUE_EUSAGE", C.name(code))
      assert.matches(text, e.message, 1, true)
    end
  end)

  it("reports that memory ran out, at every allocation", function()
    for n = 1, 2 do
      C.segue__mem_fail_at(n)
      local r, e = call { socket_path = path .. ".none", url = "/" }
      C.segue__mem_fail_at(0)
      assert.is_nil(r)
      assert.matches(n == 1 and "out of memory" or "no daemon", e.message)
    end
  end)
end)
