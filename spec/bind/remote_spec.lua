-- SPDX-License-Identifier: MIT
-- segue.remote: endpoints with fail-over and their pauses, credentials that are read when they are
-- used, and answers as kinds of failures.
local async = require "spec.support.async"
local fresh = require "spec.support.fresh"
local port = require "spec.support.port"

local a
fresh(async.open, function(opened) a = opened end)

-- A server that answers each request by a function of its text; server.asked counts them.
local function answering(answer)
  local server
  server = a:serve(function(client, data)
    server.asked = (server.asked or 0) + 1
    client:write(type(answer) == "function" and answer(data) or answer)
  end)
  return server
end

local ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
local away = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"

local function run(text, ...)
  if select("#", ...) > 0 then text = text:format(...) end
  a:run('local remote = require "segue.remote"\n' .. text)
end

describe("endpoints of segue.remote", function()
  it("stay with the one that works, and leave one that does not", function()
    local first, second = answering(ok), answering(ok)
    local gone = port.free()
    run([[
      local server = remote.endpoints { name = "etcd", "http://127.0.0.1:%d/",
        "http://127.0.0.1:%d", "http://127.0.0.1:%d" }
      for _ = 1, 3 do eq("ok", is_true(server:fetch { path = "/x" }).body) end
      eq("etcd at http://127.0.0.1:%d", server:who())]], gone, first.port, second.port, first.port)
    assert.equal(3, first.asked)
    assert.is_nil(second.asked)
  end)

  it("ask another one where a server is of no use, and give each its own pause", function()
    local bad = answering(away)
    local good = answering(function(data) return data:find "POST /path" and ok or away end)
    run([[
      local server = remote.endpoints { name = "etcd", "http://127.0.0.1:%d",
        "http://127.0.0.1:%d" }
      eq("ok", is_true(server:fetch { path = "/path", method = "POST" }).body)
      eq("ok", is_true(server:fetch { path = "/path", method = "POST" }).body)
      local answer, why, code = server:fetch { path = "/other" }
      eq(nil, answer) eq("SEGUE_ESOURCE", code)
      like("etcd at http://127.0.0.1:%d answered 503: it is not available", why)]],
      bad.port, good.port, good.port)
    assert.equal(1, bad.asked) -- its pause is not over
    assert.equal(3, good.asked)
  end)

  it("return every failure when none answers, and are asked again all the same", function()
    local one, two = port.free(), port.free()
    run([[
      local server = remote.endpoints { name = "etcd", "http://127.0.0.1:%d",
        "http://127.0.0.1:%d" }
      for _ = 1, 2 do
        local answer, why, code = server:fetch { path = "/" }
        eq(nil, answer) eq("ECONNREFUSED", code) like("is it running", why)
      end
      local _, why = server:fetch { path = "/" }
      is_true(why)]], one, two)
  end)

  it("keep the pause that the only server requests", function()
    local busy = answering("HTTP/1.1 503 No\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n")
    run([[
      local server = remote.endpoints { name = "etcd", "http://127.0.0.1:%d" }
      local answer, why, code, pause = server:fetch { path = "/" }
      eq(nil, answer) eq("SEGUE_EBUSY", code) eq(7, pause) like("answered 503", why)]], busy.port)
  end)

  it("leave a stream to the caller", function()
    local server = answering("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 4\r\n\r\n"
      .. "a\nb\n")
    run([[
      local server = remote.endpoints { name = "etcd", "http://127.0.0.1:%d" }
      local answer = is_true(server:fetch { path = "/", stream = true })
      local lines = {}
      for line in answer:lines() do lines[#lines + 1] = line end
      eq("a,b", table.concat(lines, ","))]], server.port)
  end)

  it("are URLs without a path", function()
    for _, case in ipairs { "{}", '"http://x"', '{ "ftp://x" }', '{ "http://x/path" }', "{ 1 }",
      '{ "http://user@x" }' } do
      local answer = a:attempt('require("segue.remote").check_endpoints("segue.x: endpoints", '
        .. case .. ")")
      assert.matches("^segue.x: endpoints", answer.message, case)
    end
  end)
end)

describe("answers in segue.remote", function()
  it("are kinds of failures, in words", function()
    run [[
      local function failure(status, headers, detail, code)
        local answer, why, kind, pause = remote.failure("etcd", { status = status,
          headers = headers or {} }, detail, code)
        eq(nil, answer)
        return ("%s|%s|%s"):format(why, kind, tostring(pause))
      end
      eq("etcd answered 401: it does not accept the credentials|SEGUE_EDENIED|nil", failure(401))
      eq("etcd answered 403: it does not allow that (no grant)|SEGUE_EDENIED|nil",
        failure(403, {}, "no\n\tgrant"))
      eq("etcd answered 410: that is gone|SEGUE_EGONE|nil", failure(410))
      eq("etcd answered 429: it limits its clients|SEGUE_EBUSY|nil", failure(429))
      eq("etcd answered 429: it limits its clients|SEGUE_EBUSY|3", failure(429,
        { ["retry-after"] = "3" }))
      eq("etcd answered 500: it has failed|SEGUE_ESOURCE|nil", failure(500))
      eq("etcd answered 503: it is not available|SEGUE_EBUSY|9", failure(503,
        { ["retry-after"] = "9" }))
      eq("etcd answered 418: it does not understand the request|SEGUE_ESOURCE|nil", failure(418))
      eq("etcd answered 302: that is no answer to it|SEGUE_ESOURCE|nil", failure(302))
      eq("etcd answered 400: it does not understand the request|SEGUE_EGONE|nil",
        failure(400, {}, nil, "SEGUE_EGONE"))
      local long = failure(400, {}, ("x"):rep(1000))
      eq(300, #long:match "x+")
    ]]
  end)

  it("may request a pause in seconds or until a date", function()
    run [[
      local function pause(text) return remote.retry_after { ["retry-after"] = text } end
      eq(120, pause "120") eq(86400, pause "999999999") eq(nil, pause "soon") eq(nil, pause())
      eq(0, pause "Wed, 21 Oct 2015 07:28:00 GMT")
      for _, seconds in ipairs { 3600, 86000 } do
        local at = os.date("!%a, %d %b %Y %H:%M:%S GMT", os.time() + seconds)
        local got = pause(at)
        is_true(got > seconds - 300 and got <= seconds, at .. " " .. tostring(got))
      end]]
  end)
end)

describe("a credential of segue.remote", function()
  it("is read when it is used", function()
    a.dir:write("secret", "first\n")
    run [[
      eq("plain", remote.credential("the password", "plain"))
      eq("first", remote.credential("the password", { file = "secret" }))
      segue.write("secret", "second")
      eq("second", remote.credential("the password", { file = "secret" }))
      is_true(remote.credential("the path", { env = "PATH" }))
      local text, why, code = remote.credential("the password", { file = "none" })
      eq(nil, text) eq("SEGUE_EDENIED", code) like("^the password is missing: .*none", why)
      text, why, code = remote.credential("the password", { env = "SEGUE_NO_SUCH" })
      eq(nil, text) eq("SEGUE_EDENIED", code)
      eq("the password is missing: $SEGUE_NO_SUCH is not set", why)
      for _, bad in ipairs { "", "\n", "a\nb" } do
        segue.write("secret", bad)
        text, why, code = remote.credential("the password", { file = "secret" })
        eq(nil, text) eq("SEGUE_EDENIED", code)
        eq("the password in secret must contain one line", why)
      end]]
  end)

  it("is a text, a file or a variable", function()
    for _, case in ipairs { "nil", '""', "{}", "{ file = 1 }", '{ file = "a", env = "b" }',
      '{ flie = "a" }', "7" } do
      local answer = a:attempt('require("segue.remote").check_credential("segue.x: password", '
        .. case .. ")")
      assert.matches('segue.x: password must be a text, { file = "path" } or { env = "NAME" }',
        answer.message, 1, true)
    end
  end)
end)
