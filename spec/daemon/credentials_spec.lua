-- SPDX-License-Identifier: MIT
-- Tokens, keys and certificates are what they are now: they are not kept with a generation, and
-- bringing one back brings back none of them.
local segue = require "spec.support.segue"
local tempdir = require "spec.support.tempdir"
local tls = require "spec.support.tls"
local certificates = require "spec.support.certificates"
local uv = require "luv"
local wait = require "spec.support.wait"

local OLD, NEW = "old-token-0123456789", "new-token-9876543210"

local policy = [[
local segue = require "segue"
return {
  name = "credentials",
  sources = { segue.file "config.yaml" },
  triggers = { segue.http { "127.0.0.1:@PORT@", tokens = { { file = "ops.token",
    role = "operate" } } } },
}
]]

local function put_token(dir, token)
  uv.fs_chmod(dir:save("ops.token", token .. "\n"), tonumber("600", 8))
end

local function start()
  local dir = tempdir.new()
  put_token(dir, OLD)
  return segue.start { dir = dir, policy = policy, files = { ["config.yaml"] = "x: 1\n" } }
end

local function status_with(d, token)
  return d:http { path = "/api/v1/status", headers = { Authorization = "Bearer " .. token } }.status
end

local function change(d, x)
  d.dir:save("config.yaml", ("x: %d\n"):format(x))
  local status, answer = d:reload()
  assert.equal(200, status)
  return answer.generation
end

local function rollback(d, to)
  return d:control { method = "POST", path = "/api/v1/rollback" .. (to and "?to=" .. to or ""),
    headers = { Accept = "application/json" } }
end

local function revoke(d)
  put_token(d.dir, NEW)
  local status, answer = d:reload()
  assert.equal(200, status)
  assert.equal("applied", answer.outcome)
  assert.equal(401, status_with(d, OLD))
end

-- The whole content of the state folder.
local function kept(d)
  local text = {}
  for _, name in ipairs(d.dir:list ".segue") do
    if name ~= "control.sock" then text[#text + 1] = d.dir:read(".segue/" .. name) end
  end
  return table.concat(text)
end

describe("a credential", function()
  after_each(segue.cleanup)

  it("is not kept in the state folder, other files are", function()
    local d = start()
    change(d, 2)
    wait.until_true(function() return kept(d):find("x: 2", 1, true) end, nil, "the record")
    wait.until_true(function() return #d:json "/api/v1/reloads" == 2 end, nil, "the history")
    assert.truthy(kept(d):find("ops.token", 1, true)) -- the policy names it
    assert.is_nil(kept(d):find(OLD, 1, true))
    d:stop()
    assert.is_nil(kept(d):find(OLD, 1, true))
  end)

  it("that was revoked is not brought back by a rollback", function()
    local d = start()
    change(d, 2)
    revoke(d)
    assert.equal(200, rollback(d, 1).status)
    assert.equal(1, d:config().x)
    assert.equal(401, status_with(d, OLD))
    assert.equal(200, status_with(d, NEW))
  end)

  it("that was revoked is not brought back by a start from the last good generation", function()
    local d = start()
    d:stop()
    put_token(d.dir, NEW)
    d.dir:save("config.yaml", "x: [")
    d:spawn()
    d:wait_ready()
    assert.equal(1, d:config().x)
    assert.equal(401, status_with(d, OLD))
    assert.equal(200, status_with(d, NEW))
  end)

  it("that is replaced during a rollback counts, and the rollback stays", function()
    local d = start()
    change(d, 2)
    assert.equal(200, rollback(d).status)
    put_token(d.dir, NEW)
    local _, answer = d:reload()
    assert.equal("unchanged", answer.outcome)
    wait.until_true(function() return status_with(d, NEW) == 200 end, nil, "the new token")
    assert.equal(401, status_with(d, OLD))
    assert.equal(1, d:config().x)
    assert.equal(1, d:json "/api/v1/status".rolled_back_to)
    d:wait_settled()
    assert.equal("rollback to generation 1 by new credentials", d:json "/api/v1/reloads"[1].cause)
    -- and after a restart
    d:crash()
    d:spawn()
    d:wait_ready()
    assert.equal(1, d:config().x)
    assert.equal(200, status_with(d, NEW))
  end)

  it("that no longer exists makes the rollback fail by name, and nothing changes", function()
    local d = start()
    change(d, 2)
    d.dir:delete "ops.token"
    local r = rollback(d, 1)
    assert.equal(500, r.status) -- a system error is the cause, not the generation
    assert.matches("ops%.token", r.body)
    assert.matches("does not exist", r.body)
    assert.equal(2, d:config().x)
    assert.equal(200, status_with(d, OLD))
    put_token(d.dir, OLD)
    assert.equal(200, rollback(d, 1).status)
    assert.equal(1, d:config().x)
  end)

  it("that no longer exists makes the start from the last good generation fail", function()
    local d = start()
    d:stop()
    d.dir:delete "ops.token"
    d:spawn()
    assert.equal(4, (d:wait_exit()))
    assert.matches("ops%.token[^\n]*does not exist", d:log())
    assert.matches("the last good generation on disk cannot be restored either", d:log())
    put_token(d.dir, NEW)
    d:spawn()
    d:wait_ready()
    assert.equal(200, status_with(d, NEW))
  end)

  it("may be a key and its certificate: both are the present ones", function()
    local dir = tempdir.new()
    local ca = certificates.authority(dir)
    ca:issue { name = "server", cn = "first" }
    local d = segue.start { dir = dir, files = { ["config.yaml"] = "x: 1\n" }, policy = [[
local segue = require "segue"
return { name = "tls", sources = { segue.file "config.yaml" },
  triggers = { segue.http { "127.0.0.1:@PORT@", tls = { cert = "server.pem",
    key = "server.key" } } } }
]] }
    change(d, 2)
    ca:issue { name = "server", cn = "second" }
    assert.equal("applied", select(2, d:reload()).outcome)
    assert.equal(200, rollback(d, 1).status)
    assert.equal(1, d:config().x)
    local c = tls.connect { port = d.port, ca = ca.cert }
    c:close()
    assert.matches("CN=second", d:json "/api/v1/status".certificates[1].subject)
    assert.is_nil(kept(d):find("PRIVATE KEY", 1, true))
  end)
end)
