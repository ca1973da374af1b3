-- SPDX-License-Identifier: MIT
-- Failures outside of the policy: each has one clear error that names the thing and the remedy, and
-- the right exit code, and nothing is lost.
local ffi = require "ffi"
ffi.cdef "unsigned geteuid(void);"
local segue = require "spec.support.segue"
local uv = require "luv"
local wait = require "spec.support.wait"

local policy = [[
local segue = require "segue"
return {
  name = "bad",
  sources = { segue.file "config.yaml" },
  triggers = { segue.signal "HUP" },
}
]]

local function deep(open, close, n)
  return "a: " .. open:rep(n) .. close:rep(n) .. "\n"
end

local function bomb()
  local lines = { "a0: &a0 [x, x, x, x, x, x, x, x, x, x]" }
  for i = 1, 12 do
    lines[#lines + 1] = ("a%d: &a%d [%s]"):format(i, i, ("*a%d, "):format(i - 1):rep(10):sub(1, -3))
  end
  return table.concat(lines, "\n") .. "\n"
end

-- name, how the file becomes it, what the sentence must contain, and whether a system error is the
-- cause (failed, tried again automatically) instead of the content (rejected until it changes)
local files = {
  { "a missing file", function(dir) dir:delete "config.yaml" end,
    "config%.yaml: it does not exist; create it or correct the path", true },
  { "a directory", function(dir)
    dir:delete "config.yaml"
    dir:mkdir "config.yaml"
  end, "config%.yaml: it is a directory; name a file", true },
  { "an empty file", function(dir) dir:write("config.yaml", "") end,
    "config%.yaml: the file is empty: was it cut short%? %({} in it, or empty = " },
  { "a binary", function(dir)
    dir:write("config.yaml", "\127ELF\2\1\1\0\0\0\255\254\200")
  end, "config%.yaml:1:8: .*NUL byte: .*is this a binary file%?" },
  { "100,000-deep nesting", function(dir)
    dir:write("config.yaml", deep("[", "]", 100000))
  end, "config%.yaml:1:131: .*more than 128 deep: flatten them.*a%[0%].*%[0%]…%[0%].*%[0%][^%[]" },
  { "an alias bomb", function(dir) dir:write("config.yaml", bomb()) end,
    "config%.yaml:7:20: .*aliases expanded: split it" },
  { "a loop of symbolic links", function(dir)
    dir:delete "config.yaml"
    dir:link("other.yaml", "config.yaml")
    dir:link("config.yaml", "other.yaml")
  end, "config%.yaml: its symbolic links go in a circle.*; lead them to a file", true },
  { "a pipe", function(dir)
    dir:delete "config.yaml"
    os.execute("mkfifo " .. dir:at "config.yaml")
  end, "config%.yaml: it is a named pipe, not a regular file; name a file", true },
  { "a syntax error", function(dir) dir:write("config.yaml", "a: [1,\nb: 2\n") end,
    "config%.yaml:3:1: .*is expected here: the list of line 1 is not closed" },
  { "a duplicate key", function(dir)
    dir:write("config.yaml", "host: x\nport: 1\n\nport2: 2\nport: 3\n")
  end, "config%.yaml:5:1: key 'port' is here twice, in line 2 and in line 5: remove one" },
  { "wrong indentation", function(dir)
    dir:write("config.yaml", "host: x\nport: 1\n\n port2: 2\n")
  end, "config%.yaml:4:7: .*: quote the value if the colon belongs to it, else check the" },
  { "two documents in one file", function(dir)
    dir:write("config.yaml", "a: 1\n---\nb: 2\n")
  end, "config%.yaml:2:1: a second document starts here: put it in a file of its own" },
  { "a list at the top", function(dir) dir:write("config.yaml", "- 1\n- 2\n") end,
    "config%.yaml:1:1: the top level is a list: it must be a map" },
  { "bytes that are not UTF-8", function(dir)
    dir:write("config.yaml", "a: \"\195\40\"\n")
  end, "config%.yaml:1:5: .*not valid UTF%-8: save the file as UTF%-8" },
}

describe("a configuration that becomes", function()
  after_each(segue.cleanup)

  for _, case in ipairs(files) do
    local name, spoil, sentence, world = case[1], case[2], case[3], case[4]

    it(name .. " is refused with one sentence, and the good one goes on", function()
      local d = segue.start { policy = policy, files = { ["config.yaml"] = "good: 1\n" } }
      spoil(d.dir)
      local r = d:control { method = "POST", path = "/-/reload", deadline_ms = 60000 }
      assert.equal(world and 500 or 422, r.status, r.body)
      assert.matches(sentence, r.body)
      assert.same({ good = 1 }, d:config())
      assert.equal(200, d:control("/-/ready").status)
      local cli = d:cli "reload"
      assert.equal(world and 4 or 3, cli.code, cli.output)
      d.dir:delete "config.yaml"
      d.dir:save("config.yaml", "good: 2\n")
      assert.equal(200, (d:reload()))
      assert.same({ good = 2 }, d:config())
    end)

    it(name .. " at the first start ends it with the sentence", function()
      local d = segue.folder { policy = policy, files = { ["config.yaml"] = "good: 1\n" } }
      spoil(d.dir)
      d:spawn()
      assert.equal(world and 4 or 3, (d:wait_exit(30000)), d:log())
      assert.matches(sentence, d:log())
      local check = d:cli "check"
      assert.equal(world and 4 or 3, check.code, check.output)
      assert.matches(sentence, check.output)
      assert.equal(check.code, d:cli("plan").code)
    end)
  end

  it("200 MB is rejected without reading it all into memory", function()
    local d = segue.start { policy = policy, files = { ["config.yaml"] = "good: 1\n" },
      measured = true }
    local fd = assert(uv.fs_open(d.dir:at "config.yaml", "r+", 0))
    assert(uv.fs_ftruncate(fd, 200 * 1024 * 1024)) -- sparse
    uv.fs_close(fd)
    local r = d:control { method = "POST", path = "/-/reload", deadline_ms = 30000 }
    assert.equal(422, r.status, r.body)
    assert.matches("config%.yaml is 209715200 bytes; the limit is 67108864: split the file", r.body)
    assert.is_true(d.process:rss_kib() < segue.roomy_kib(40 * 1024), d.process:rss_kib())
    assert.same({ good = 1 }, d:config())
  end)

  it("unreadable is rejected with the reason", function()
    -- Root may read everything: the daemon gives that up with setpriv.
    local d = segue.folder { policy = policy, files = { ["config.yaml"] = "good: 1\n" } }
    local path = d.dir:at "config.yaml"
    uv.fs_chmod(path, 0)
    local command = { segue.binary, "check", "-c", d.dir:at "reload.lua" }
    if ffi.C.geteuid() == 0 then
      uv.fs_chmod(d.dir.path, 493)
      -- Another user may not read the source tree, so the program and its scripts are copied.
      local process = require "spec.support.process"
      process.run { "cp", "-R", segue.tree .. "/lua", d.dir:at "lua" }
      process.run { "cp", segue.binary, d.dir:mkdir "bin" }
      process.run { "chmod", "-R", "a+rX", d.dir:at "lua", d.dir:at "bin" }
      command[1] = d.dir:at "bin/segue"
      command = { "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", unpack(command) }
    end
    local check = require("spec.support.process").run(command)
    assert.equal(4, check.code, check.output)
    assert.matches("config%.yaml.*permission", check.output)
  end)

  it("half-written again and again never goes live and never stops the daemon", function()
    local d = segue.start { policy = policy:gsub('segue.signal "HUP"', 'segue.watch()'),
      files = { ["config.yaml"] = "n: 1\nend: true\n" } }
    for n = 2, 40 do
      d.dir:write("config.yaml", ("n: %d\nend: [tr"):format(n))
      uv.run "nowait"
      d.dir:write("config.yaml", ("n: %d\nend: true\n"):format(n))
    end
    d:wait_config(function(config)
      assert.is_true(config["end"])
      return config.n == 40
    end)
  end)
end)

describe("a policy that", function()
  after_each(segue.cleanup)

  local cases = {
    { "has a syntax error", "return {\n  name = = 1,\n}\n", "reload%.lua:2: " },
    { "returns nothing", "local segue = require 'segue'\n",
      "reload%.lua: the policy returns nothing: end it with `return" },
    { "returns a number", "return 42\n",
      "reload%.lua: the policy returns a number instead of a table: end it with `return" },
    { "raises", "error 'on purpose'\n", "reload%.lua:1: on purpose" },
    { "raises a table", "error { 1, 2 }\n", "reload%.lua" },
    { "loops for ever", "while true do end\n", "reload%.lua" },
    { "has an unknown key", 'return { name = "x", soruces = {} }\n', "did you mean.*sources" },
    { "is empty", "", "reload%.lua" },
    { "is bytecode", string.dump(function() return {} end), "reload%.lua" },
    { "listens to the world", [[
local segue = require "segue"
return { name = "x", sources = { segue.value {} }, triggers = { segue.http "0.0.0.0:@PORT@" } }
]], "reload%.lua:2: .*other machines can reach this address" },
    { "listens to an address that is none", [[
local segue = require "segue"
return { name = "x", sources = { segue.value {} }, triggers = { segue.http "nowhere at all" } }
]], "nowhere at all" },
    { "has a check that raises a table", [[
local segue = require "segue"
return { name = "x", sources = { segue.value {} },
  check = function() error { code = 1 } end }
]], "reload%.lua:3: error%(%) was called with a table" },
    { "has a check that never ends", [[
local segue = require "segue"
return { name = "x", sources = { segue.value {} },
  check = function() while true do end end }
]], "check" },
    { "has a check that swallows its own end", [[
local segue = require "segue"
return { name = "x", sources = { segue.value {} }, triggers = {}, check = function()
  while true do pcall(function() while true do end end) end
end }
]], "check" },
    { "has a check that refuses", [[
local segue = require "segue"
return { name = "x", sources = { segue.value {} },
  check = function() return nil, "not on Fridays" end }
]], "not on Fridays" },
  }

  for _, case in ipairs(cases) do
    local name, text, sentence = case[1], case[2], case[3]

    it(name .. " ends the first start with code 3, and check says the same", function()
      local d = segue.folder { policy = text }
      d:spawn()
      assert.equal(3, (d:wait_exit(30000)), d:log())
      assert.matches(sentence, d:log())
      local check = d:cli "check"
      assert.equal(3, check.code, check.output)
      assert.matches(sentence, check.output)
      assert.equal(check.code, d:cli("plan").code)
    end)

    it(name .. " is rejected in a reload, and the old policy goes on", function()
      local d = segue.start { policy = policy, files = { ["config.yaml"] = "good: 1\n" } }
      d.dir:save("reload.lua", d:fill(text))
      local r = d:control { method = "POST", path = "/-/reload", deadline_ms = 30000 }
      assert.equal(422, r.status, r.body)
      assert.matches(sentence, r.body)
      assert.same({ good = 1 }, d:config())
      d.dir:save("reload.lua", policy)
      d.dir:save("config.yaml", "good: 2\n")
      assert.equal(200, (d:reload()))
      assert.same({ good = 2 }, d:config())
    end)
  end

  it("does not exist ends with code 4 and a message", function()
    local d = segue.folder {}
    d:spawn()
    assert.equal(4, (d:wait_exit()), d:log())
    assert.matches("reload%.lua: it does not exist", d:log())
  end)
end)

describe("a port in use", function()
  after_each(segue.cleanup)
  local port = require "spec.support.port"
  local http_policy = policy:gsub('segue.signal "HUP"', 'segue.http "127.0.0.1:@PORT@"')

  it("ends the first start with code 4 and names the address", function()
    local taken, handle = port.taken()
    local d = segue.folder { policy = http_policy, files = { ["config.yaml"] = "a: 1\n" } }
    d.dir:save("reload.lua", (http_policy:gsub("@PORT@", tostring(taken))))
    d:spawn()
    assert.equal(4, (d:wait_exit()), d:log())
    assert.matches("127%.0%.0%.1:" .. taken, d:log())
    handle:close()
  end)

  it("fails a reload and leaves the old listener and configuration", function()
    local taken, handle = port.taken()
    local d = segue.start { policy = http_policy, files = { ["config.yaml"] = "a: 1\n" } }
    d.dir:save("reload.lua", (http_policy:gsub("@PORT@", tostring(taken))))
    local status, answer = d:reload()
    assert.equal(500, status)
    assert.equal("failed", answer.outcome)
    assert.matches(tostring(taken), answer.errors[1].message)
    assert.equal(200, d:http("/-/ready").status)
    assert.same({ a = 1 }, d:config())
    handle:close()
    wait.pump()
  end)
end)
