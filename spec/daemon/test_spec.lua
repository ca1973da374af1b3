-- SPDX-License-Identifier: MIT
-- `segue test`: specs of policies run by the program itself. The specs in spec/daemon/test,
-- which are run here, check segue.testing.
local cjson = require "cjson"
local process = require "spec.support.process"
local segue = require "spec.support.segue"
local tempdir = require "spec.support.tempdir"
local uv = require "luv"

local function test(path, ...)
  return segue.cli({ "test", path, ... }, { deadline_ms = 120000 })
end

local passing = [[
local testing = require "segue.testing"
describe("a", function()
  it("is good", function()
    local t = testing.policy "reload.lua"
    assert.equal("applied", t:start().outcome)
  end)
end)
]]
local files = { ["config.yaml"] = "a: 1\n", ["a_spec.lua"] = passing }
local policy = [[
local segue = require "segue"
return { sources = { segue.file "config.yaml" } }
]]

describe("segue test", function()
  after_each(segue.cleanup)

  -- How many specs passed; fails with what was printed unless all did.
  local function all_pass(path)
    local p = test(path, "--json")
    assert.equal(0, p.code, p:describe())
    return #cjson.decode(p.stdout:match "{.*}").successes
  end

  it("keeps the promises of segue.testing", function()
    assert.equal(37, all_pass "spec/daemon/test")
  end)

  it("runs the examples", function()
    assert.equal(5, all_pass "examples/testing")
    assert.equal(4, all_pass "examples/orchestration")
    assert.equal(6, all_pass "examples/remote")
    assert.equal(4, all_pass "examples/maintenance")
    assert.equal(3, all_pass "examples/rollback")
    assert.equal(3, all_pass "examples/apply")
    assert.equal(3, all_pass "examples/front")
    assert.equal(5, all_pass "examples/nginx-upstreams")
    assert.equal(3, all_pass "examples/haproxy")
    assert.equal(4, all_pass "examples/prometheus")
  end)

  it("runs a folder, one file, and the current folder", function()
    local d = segue.folder { files = files, policy = policy }
    d.dir:write("deeper/b_spec.lua", (passing:gsub('"reload.lua"', '"../reload.lua"')))
    d.dir:write("not_one.lua", "error 'this is no spec'")
    assert.equal(2, all_pass(d.dir.path))
    assert.equal(1, all_pass(d.dir:at "a_spec.lua"))
    local p = segue.cli({ "test" }, { cwd = d.dir.path })
    assert.equal(0, p.code, p:describe())
    assert.matches("2 successes", p.stdout)
  end)

  it("rehearses the policy of -c if the spec names none", function()
    local d = segue.folder { files = files, policy = "return {}" }
    d.dir:write("other.lua", policy)
    d.dir:write("a_spec.lua", (passing:gsub('"reload.lua"', "()")))
    assert.equal(0, test(d.dir.path, "-c", d.dir:at "other.lua").code)
    assert.equal(3, test(d.dir.path, "-c", d.dir:at "reload.lua").code)
  end)

  it("exits with 3 and names the failed spec and its place", function()
    local d = segue.folder { files = files, policy = policy }
    d.dir:write("b_spec.lua", (passing:gsub('"applied"', '"rejected"')))
    local p = test(d.dir.path)
    assert.equal(3, p.code, p:describe())
    assert.matches("b_spec%.lua:5", p.stdout)
    assert.matches("1 success / 1 failure", p.stdout)
    d.dir:write("b_spec.lua", "this is no Lua")
    assert.equal(3, test(d.dir.path).code)
  end)

  it("leaves nothing behind and changes nothing", function()
    local d = segue.folder { files = files, policy = policy }
    local before = d.dir:list()
    assert.equal(0, test(d.dir.path).code)
    assert.same(before, d.dir:list())
  end)

  it("names the missing package without busted", function()
    local d = segue.folder { files = files, policy = policy }
    local p = process.run { "unshare", "-rm", "sh", "-c",
      'mount -t tmpfs none /usr/share/lua && exec "$0" test "$1"', segue.binary, d.dir.path }
    assert.equal(4, p.code, p:describe())
    assert.matches("segue: busted.*install the Debian package lua%-busted", p.stderr)
  end)

  it("reports a folder that does not exist", function()
    local p = test(tempdir.new():at "nothing")
    assert.equal(4, p.code)
    assert.matches("^segue: cannot read %S+/nothing: No such file or directory\n$", p.stderr)
  end)

  it("reports the use of segue.testing outside of a spec", function()
    local p = process.run { "luajit", "-e", 'require "segue.testing"',
      env = { LUA_PATH = uv.cwd() .. "/lua/?.lua;;" } }
    assert.matches("for specs that `segue test` runs", p.stderr)
  end)
end)
