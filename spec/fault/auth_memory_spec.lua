-- SPDX-License-Identifier: MIT
-- Memory runs out while the access rules are replaced, or while a client is authenticated: the old
-- rules stay, or the new ones are complete; no client gets in without permission, and no secret is
-- shown.
local certificates = require "spec.support.certificates"
local faults = require "spec.support.faults"
local http = require "spec.support.http"
local segue = require "spec.support.segue"
local tempdir = require "spec.support.tempdir"
local tls = require "spec.support.tls"
local uv = require "luv"

local PASSWORD = "the-passw0rd-of-the-database"
local policy = [[
local segue = require "segue"
return {
  name = "auth",
  sources = { segue.file "config.yaml" },
  secrets = { "db.password", "**.token" },
  triggers = { segue.http { "127.0.0.1:@PORT@", public = { "health" }, hosts = { "localhost" },
    rate = "none",
    tls = { cert = "server.pem", key = "server.key", client_ca = "ca.pem", client = "optional",
      clients = { { name = "ops", role = "operate" } } },
    tokens = { { file = "ops.token", role = "operate" } } } },
}
]]

local function token(i) return ("token-of-reload-%06d"):format(i) end

local function start()
  local dir = tempdir.new()
  local ca = certificates.authority(dir)
  ca:issue { name = "server" }
  uv.fs_chmod(dir:write("ops.token", token(0) .. "\n"), tonumber("600", 8))
  local d = segue.start { dir = dir, policy = policy, env = faults.memory_env,
    files = { ["config.yaml"] = ("n: 0\ndb: { password: %s }\n"):format(PASSWORD) } }
  return d, ca
end

local function status_of(d, ca, i)
  return tls.request { port = d.port, ca = ca.cert, path = "/api/v1/status", headers = {
    Host = "localhost", Authorization = i and "Bearer " .. token(i) or nil } }.status
end

describe("memory that runs out", function()
  after_each(function()
    http.close_all()
    segue.cleanup()
  end)

  it("while a listener is opened leaves the old one; the next reload opens the new one", function()
    local d, ca = start()
    local good, i, n = 0, 0, 1
    while n < 4000 do
      i = i + 1
      uv.fs_chmod(d.dir:save("ops.token", token(i) .. "\n"), tonumber("600", 8))
      faults.memory(d, n)
      pcall(d.reload, d)
      faults.memory(d, 0)
      assert.is_true(d.process:running(), d.process:describe())
      local old, new = status_of(d, ca, good), status_of(d, ca, i)
      assert.is_true(old ~= new and (old == 200 or new == 200), ("%d: %d %d"):format(n, old, new))
      assert.equal(401, status_of(d, ca))
      assert.equal(200, (d:reload()), d:log():sub(-2000))
      assert.equal(200, status_of(d, ca, i))
      assert.equal(401, status_of(d, ca, good))
      good = i
      n = n + 1 + math.floor(n / 6)
    end
    assert.is_true(faults.memory_failures(d) > 20)
    assert.is_nil(d:log():find(PASSWORD, 1, true))
  end)

  it("while a client connects costs that connection at most, and admits no one", function()
    local d, ca = start()
    local n = 1
    while n < 200 do
      faults.memory(d, n)
      local ok, answer = pcall(tls.request, { port = d.port, ca = ca.cert, path = "/api/v1/config",
        headers = { Host = "localhost" }, deadline_ms = 5000 })
      if ok then assert.is_true(answer.status == 401 or answer.status >= 500, answer.status) end
      faults.memory(d, n)
      ok, answer = pcall(tls.request, { port = d.port, ca = ca.cert, path = "/api/v1/config",
        headers = { Host = "localhost", Authorization = "Bearer " .. token(0) },
        deadline_ms = 5000 })
      if ok then assert.is_nil(answer.body:find(PASSWORD, 1, true)) end
      faults.memory(d, 0)
      assert.equal(200, status_of(d, ca, 0))
      n = n + 1 + math.floor(n / 10)
    end
    assert.is_true(faults.memory_failures(d) > 5)
  end)
end)
