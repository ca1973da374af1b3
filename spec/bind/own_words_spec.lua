-- SPDX-License-Identifier: MIT
-- Errors of a segue.source where the policy names secrets: a secret in them was never live, so no
-- mask knows it. Messages of policies and of Segue stay readable.
local C = require "spec.support.c"
local bind = require "spec.support.bind"
local fresh = require "spec.support.fresh"

local b
fresh(bind.open, function(opened) b = opened end)

local function start(body, more, options)
  b:write("reload.lua", ([[
    local segue = require "segue"
    -- vault prod http://vault.example/v1 backup-tool
    local function read(name) return (assert(segue.read(name)):gsub("\n", "")) end
    return { sources = { segue.source { name = "net", fetch = function(self)
      %s
    end, %s } }, triggers = {}, %s }]]):format(body, options or "", more))
  b:engine()
  return b:reload()
end

local SECRETS = 'secrets = { "db.password" }'

describe("an error of a source in Lua", function()
  local quoted = {
    -- title, the file "in", the end of the function, the message
    { "that it returns", "hunter2secret", "return nil, 'vault answered ' .. s",
      "vault answered ***" },
    { "that it throws", "hunter2secret", "error('vault answered ' .. s)", "vault answered ***" },
    { "that it throws without a place", "hunter2secret", "error('vault answered ' .. s, 0)",
      "vault answered ***" },
    { "that assert throws", "hunter2secret", "assert(false, s)", "***" },
    { "that an object describes", "hunter2secret",
      "error(setmetatable({}, { __tostring = function() return 'vault ' .. s end }))",
      "vault ***" },
    { "that is a table", "hunter2secret",
      "error({ message = 'vault ' .. s, path = s, file = s, line = 7 })", "vault ***" },
    { "that looks like a place", "hunter2secret", "error(s .. ':12: vault', 0)", "vault" },
    { "that looks like a place in a returned message", "hunter2secret",
      "return nil, s .. ':12: vault'", "*** vault" },
    { "that was decoded", "aHVudGVyMnNlY3JldA==", "return nil, segue.base64.decode(s)", "***" },
    { "that was turned", "hunter2secret", "return nil, s:reverse()", "***" },
    { "that was cut", "hunter2secret", "return nil, 'vault ' .. s:sub(1, 3)", "vault ***" },
    { "that was cut to what stands in the policy", "prod-1", "return nil, s:sub(1, 5) .. '...'",
      "***" },
    { "that contains a word of the policy", "prodhunter", "return nil, s", "***" },
    { "that begins with a word of the policy", "prod-x7", "return nil, s", "***" },
    { "of several words", "horse battery 12", "return nil, 'vault ' .. s", "vault ***" },
    { "that is a number", "20240912", "return nil, 'vault ' .. s", "vault ***" },
    { "that is a number beside others", "4 8 15 16", "return nil, s", "***" },
    { "that is the beginning of a word of the policy", "vaul", "return nil, 'vault ' .. s",
      "vault ***" },
    { "that is the end of a word of the policy", "ault", "return nil, 'vault ' .. s", "vault ***" },
    { "of which the limit of a message leaves a word of the policy", "prodigious",
      "return nil, ('vault '):rep(84) .. 'to ' .. s", ("vault "):rep(84) .. "to ***" },
    { "behind the limit of a message", "hunter2secret", "return nil, ('vault '):rep(85) .. s",
      ("vault "):rep(84) .. "vault" },
    { "with other space between its words", "hunter\thunter", "return nil, 'vault\\n' .. s",
      "vault ***" },
  }
  for _, case in ipairs(quoted) do
    it("does not show a secret " .. case[1], function()
      b:write("in", case[2])
      local r = start("local s = read 'in'\n" .. case[3], SECRETS)
      assert.equal("failed", r.outcome)
      assert.equal(case[4], r.errors[1].message)
      assert.is_nil(r.errors[1].text:find("hunter2", 1, true), r.errors[1].text)
      assert.equal("", r.errors[1].path)
    end)
  end

  it("shows no value where the schema is not read yet, because it may name secrets", function()
    b:write("in", "hunter2secret")
    b:write("schema.json", '{"properties":{"db":{"writeOnly":true}}}')
    local r = start("return nil, 'vault ' .. read 'in'", 'schema = "schema.json"')
    assert.equal("vault ***", r.errors[1].message)
  end)

  it("is shown as it is where there are no secrets", function()
    b:write("in", "hunter2 secret")
    b:write("schema.json", '{"properties":{"db":{"type":"string"}}}')
    local r = start("if read 'in' == 'good' then return { n = 1 } end return nil, 'vault ' .. "
      .. "read 'in'", 'schema = "schema.json"')
    assert.equal("vault ***", r.errors[1].message) -- the schema was not compiled yet
    b:write("in", "good")
    assert.equal("applied", b:reload().outcome)
    b:write("in", "hunter2 secret")
    assert.matches("^vault hunter2 secret;", b:reload().errors[1].message)
  end)

  it("keeps its place in the policy", function()
    local r = start("error('vault')", SECRETS)
    assert.matches("reload.lua:5: vault$", r.errors[1].text)
  end)

  local readable = {
    { "error('no way')", "no way" },
    { "return nil, 'vault answered 503 for prod'", "vault answered 503 for prod" },
    { "return nil, ('vault answered %d in %g s'):format(503, 12)", "vault answered 503 in 12 s" },
    { "return nil, '\\nvault'", "vault" },
    { "local t = nil return t.x", "attempt to index local 't' (a nil value)" },
    { "return 1 + {}", "attempt to perform arithmetic on a table value" },
    { "local x = ('x'):rep({}) return x",
      "bad argument #1 to 'rep' (number expected, got table)" },
    { "", "source 'net': fetch returned nil without a reason: return nil and a text with the "
      .. "reason" },
    { "return 7", "source 'net': delivered a number: it must be a list of documents, or a table "
      .. "with the values" },
    { "return { 1 }", "source 'net': document 1 is a number: it must be { text = ... } or "
      .. "{ value = ... }" },
    { "return nil, select(2, segue.read 'missing.txt')",
      "missing.txt does not exist" },
    { "segue.sleep '1h'", "fetch took longer than 2000 ms; it was waiting for segue.sleep",
      "timeout = '2s'" },
  }
  for _, case in ipairs(readable) do
    it("stays readable: " .. case[2], function()
      local r = start(case[1], SECRETS, case[3])
      assert.equal("failed", r.outcome)
      assert.equal(case[2], r.errors[1].message)
    end)
  end

  -- Messages of Segue, the kernel and Lua, which reach the policy as its own data does.
  for message, shown in pairs {
    ["no server answers on http://vault.example/v1: is it running?"] = true,
    ["cannot connect to http://vault.example/v1: network is unreachable"] = true,
    ["the host of http://vault.example/v1 is not known: temporary failure in name resolution"] =
      true,
    ["http://vault.example/v1 gave no complete answer within 500 ms"] = true,
    ["cannot run backup-tool: no such file or directory"] = true,
    ["cannot read /srv/hunter2: permission denied to user hunter2"] =
      "cannot read *** permission denied to user ***",
    ["backup-tool exited with code 3: permission denied: hunter2 hunter3"] =
      "backup-tool exited with code 3: permission denied: ***",
    ["backup-tool took longer than 5 s and was stopped"] = true,
    ["http://vault.example/v1?token=hunter2 broke off in the middle of its answer"] =
      "*** broke off in the middle of its answer",
  } do
    it("stays readable where it passes on: " .. message, function()
      b:write("in", message)
      assert.equal(shown == true and message or shown,
        start("return nil, read 'in'", SECRETS).errors[1].message)
    end)
  end

  it("of a watch is treated in the same way", function()
    b:write("in", "hunter2secret")
    start("return { n = 1 }", SECRETS, "watch = function() error('vault ' .. read 'in') end")
    local out = C.new("segue__source_status")
    b:advance(100)
    C.segue__engine_source_status(b.engine_c, 0, out)
    assert.equal("vault ***", C.err(out.error).message)
  end)
end)
