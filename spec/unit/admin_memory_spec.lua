-- SPDX-License-Identifier: MIT
-- The admin API while memory runs out: every request gets an answer or a closed connection, the
-- next one is answered as if nothing had been, and nothing is held in the end.
local C = require "spec.support.c"
local http = require "spec.support.http"
local tempdir = require "spec.support.tempdir"
local uv = require "luv"
local wait = require "spec.support.wait"
local ffi = C.ffi

-- As segue_options.uv_loop wants it of a host.
ffi.cdef "void (*signal(int signum, void (*handler)(int)))(int);"
local SIGPIPE, SIG_IGN = 13, ffi.cast("void (*)(int)", 1)
ffi.C.signal(SIGPIPE, SIG_IGN)

-- An instance on a libuv loop that luv's loop drives, so that client and server share the process.
local function start(dir)
  local self = { loop = C.loop_new(), socket = dir:at "control.sock" }
  local options = C.new("segue_options[1]")
  C.segue_options_init_size(options, ffi.sizeof "segue_options")
  dir:write("config.yaml", "a: {b: [1, 2, 3]}\nname: x\nvault: {pin: s3cr3t-one}\n")
  local policy = dir:write("reload.lua",
    [[return { secrets = { "vault.pin" }, sources = { require("segue").file "config.yaml" },
      check = function(next) return next.vault.pin ~= "s3cr3t-bad", "no " .. next.vault.pin end }]])
  options[0].uv_loop, options[0].policy = self.loop.uv, policy
  options[0].state, options[0].socket = dir.path, self.socket
  local stopped
  self.on_stopped = ffi.cast("void (*)(void *)", function() stopped = true end)
  options[0].on_stopped = self.on_stopped
  local out = C.new("segue *[1]")
  C.check(C.segue_new(out, options, nil))
  C.check(C.segue_start(out[0], nil))
  self.pump = uv.new_timer()
  self.pump:start(1, 1, function() C.uv_run(self.loop.uv, 2) end)
  function self.close()
    C.segue_close(out[0])
    wait.until_true(function() return stopped end)
    self.pump:close()
    C.loop_close(self.loop)
    self.on_stopped:free()
  end
  return self
end

-- The answer, or nil where the connection was closed instead.
local function ask(server, request)
  request.socket = server.socket
  local connection = http.connect(request, true)
  if not connection then return nil end
  connection:write(http.format(request))
  wait.until_true(function()
    return connection.ended or connection.input:find("\r\n\r\n", 1, true)
  end, 5000, function() return request.path .. " was never answered" end)
  connection:close()
  assert.is_nil(connection.input:find("s3cr3t", 1, true), connection.input)
  return tonumber(connection.input:match("^HTTP/1.1 (%d+)"))
end

local requests = {
  { path = "/api/v1/diff?from=1&to=live", want = 200 },
  { path = "/api/v1/reloads/1", want = 200 },
  { path = "/api/v1/why?path=a.b%5B1%5D", want = 200 },
  { method = "POST", path = "/api/v1/freeze?why=x", want = 200, or_ = 409 }, -- once
  { method = "POST", path = "/api/v1/unfreeze", want = 409, or_ = 200 }, -- once
  { method = "POST", path = "/api/v1/confirm", want = 409 },
  { method = "POST", path = "/api/v1/rollback?to=1", want = 200, or_ = 409 },
  { path = "/api/v1/status", want = 200 },
  { path = "/api/v1/config", want = 200 },
  { path = "/api/v1/reloads", want = 200 },
  { path = "/metrics", want = 200 },
  { path = "/api/v1/events", want = 200 },
  { method = "POST", path = "/-/reload?force=1", want = 200 },
  { method = "POST", path = "/-/reload?wait=5s", want = 200 },
  { method = "POST", path = "/api/v1/plan", want = 200 },
  { path = "/api/v1/diff", want = 200 },
  { path = "/-/relaod", want = 404 },
}

describe("the admin API", function()
  after_each(tempdir.remove_all)

  it("survives memory that runs out anywhere in a request, and shows no secret then", function()
    local before = C.segue__mem_live()
    local dir = tempdir.new()
    local server = start(dir)
    wait.until_true(function() return ask(server, { path = "/-/ready" }) == 200 end)
    -- So that there is a previous one, and a change of a secret.
    dir:write("config.yaml", "a: {b: [1, 2, 4]}\nname: y\nvault: {pin: s3cr3t-two, new: 1}\n")
    assert.equal(200, ask(server, { method = "POST", path = "/-/reload" }))
    local failed = 0
    for _, request in ipairs(requests) do
      for n = 1, 25 do
        C.segue__mem_fail_at(n)
        local status = ask(server, request)
        C.segue__mem_fail_at(0)
        if status ~= request.want then failed = failed + 1 end
        assert.is_true(status == nil or status == request.want or status == request.or_
          or status >= 500,
          ("%s: %s"):format(request.path, status))
      end
      local last = ask(server, request)
      assert.is_true(last == request.want or last == request.or_, request.path)
    end
    assert.is_true(failed > 10)
    server.close()
    wait.until_true(function() return C.segue__mem_live() == before end, 5000, function()
      return ("%d allocations are held, %d before"):format(tonumber(C.segue__mem_live()),
        tonumber(before))
    end)
  end)
end)
