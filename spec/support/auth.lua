-- SPDX-License-Identifier: MIT
-- Daemons with access control: a listener with tokens, and the requests that name them.
--   local d = auth.start("'127.0.0.1:@PORT@', " .. auth.tokens); auth.bearer(auth.OPS)
local cjson = require "cjson"
local segue = require "spec.support.segue"
local tempdir = require "spec.support.tempdir"
local uv = require "luv"
local assert = require "luassert"

local OPS, RO = "ops-token-0123456789", "ro-token-0123456789ab"

local function policy(listener, more)
  return ([[
local segue = require "segue"
return {
  name = "auth",
  sources = { segue.file "config.yaml" },
  triggers = { segue.http %s %s },
}
]]):format(listener, more or "")
end

local tokens = [[tokens = { { file = "ops.token", role = "operate" },
  { file = "ro.token", role = "read" } }]]

local function write_tokens(dir)
  for name, text in pairs { ["ops.token"] = OPS .. "\n", ["ro.token"] = RO .. "\n" } do
    uv.fs_chmod(dir:write(name, text), tonumber("600", 8))
  end
end

-- A folder that survives the set-up of certificates; files go in before the daemon starts.
local function start(listener, options)
  options = options or {}
  local dir = options.dir or tempdir.new()
  write_tokens(dir)
  return segue.start { dir = dir, policy = policy(listener, options.more),
    files = { ["config.yaml"] = "a: 1\n" }, ready = options.ready }
end

local function bearer(token) return { Authorization = "Bearer " .. token } end

local function put(dir, name, text, mode)
  local path = dir:write(name, text)
  uv.fs_chmod(path, tonumber(mode or "600", 8))
  return path
end

local function refusal(d, pattern)
  local status, answer = d:reload()
  assert.equal(422, status, cjson.encode(answer))
  assert.matches(pattern, answer.errors[1].message)
  return answer.errors[1]
end

return { OPS = OPS, RO = RO, policy = policy, tokens = tokens, start = start, bearer = bearer,
  write_tokens = write_tokens, put = put, refusal = refusal }
