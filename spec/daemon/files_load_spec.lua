-- SPDX-License-Identifier: MIT
-- A load reports what a later change of rendered files would need and this system does not give.
local files_module = require "spec.support.files_module"
local other_user = require "spec.support.other_user"
local process = require "spec.support.process"
local segue = require "spec.support.segue"

local put, live, message_of = files_module.put, files_module.live, files_module.message_of
local fill = files_module.policy()
local WARNING = "does not let a check see new files in the place of the live ones"

-- A program in front of PATH that fails as unshare(1) does where the kernel forbids namespaces.
local function forbid(d)
  d.dir:mkdir "bin"
  d.dir:write("bin/unshare", "#!/bin/sh\n"
    .. "echo 'unshare: unshare failed: Operation not permitted' >&2\nexit 1\n")
  process.output { "chmod", "755", d.dir:at "bin/unshare" }
  d.options.env = { PATH = d.dir:at "bin" .. ":" .. os.getenv "PATH" }
  return d
end

local function start(module, prepare)
  local d = segue.folder { policy = fill(module), files = { ["a.yaml"] = "x: 1\n" } }
  if prepare then prepare(d) end
  d:spawn()
  d:wait_ready()
  return d
end

describe("a check where private mount namespaces are forbidden", function()
  after_each(segue.cleanup)

  it("is warned about with the remedy by the load that changes no file", function()
    local d = start("", forbid)
    d.dir:save("reload.lua", fill [[check = "true"]])
    assert.equal(200, (d:reload()))
    d:wait_log(WARNING .. ".*{staged:PATH} in check.*Operation not permitted")
    local status, answer = put(d, 2)
    assert.equal(500, status)
    assert.matches("unshare.*{staged:PATH} in check", message_of(answer))
    assert.equal("1", live(d))
    d:stop()
    d.dir:save("a.yaml", "x: 1\n")
    d:spawn()
    d:wait_ready()
    d:wait_log(WARNING)
    d.dir:save("reload.lua", fill [[check = "true {staged:out/a}"]])
    assert.equal(200, (put(d, 2)))
    assert.equal("2", live(d))
  end)

  it("is warned about by segue check too", function()
    local d = start("", forbid)
    d.dir:save("reload.lua", fill [[check = "true"]])
    local result = segue.cli({ "check", "-c", d.dir:at "reload.lua" },
      { cwd = d.dir.path, env = d.options.env })
    assert.equal(0, result.code, result:describe())
    assert.matches(WARNING, result.output)
  end)

  it("is tried with no file that differs, once, where they are allowed", function()
    local d = start [[apply = "true"]]
    d.dir:save("reload.lua", fill [[check = "touch ran"]])
    assert.equal(200, (d:reload()))
    assert.is_nil(d:log():find(WARNING, 1, true), d:log())
    assert.is_nil(d.dir:read "ran")
    assert.equal(200, (put(d, 2)))
    assert.equal("", d.dir:read "ran")
  end)
end)

describe("the option user without root", function()
  after_each(segue.cleanup)

  it("is refused by the load, in check, apply and undo", function()
    local d = other_user.own(segue.folder { policy = fill "", files = { ["a.yaml"] = "x: 1\n" } })
    d:spawn()
    d:wait_ready()
    for text, name in pairs {
      [ [[check = { "true", user = "games" }]] ] = "check",
      [ [[check = { "true", "{staged:out/a}", user = "games" }]] ] = "check",
      [ [[apply = { "true", user = "games" }]] ] = "apply",
      [ [[apply = "true", undo = { "true", user = "games" }]] ] = "undo",
    } do
      d.dir:save("reload.lua", fill(text))
      local status, answer = d:reload()
      assert.equal(422, status)
      assert.matches("reload.lua", answer.errors[1].file)
      assert.matches("'web': " .. name .. ": the option user needs a segue that runs as root",
        message_of(answer))
    end
    d.dir:save("reload.lua", fill [[check = "true", apply = "true"]])
    assert.equal(200, (put(d, 2)))
    assert.equal("2", live(d))
  end)

  it("is no concern of a rehearsal, which runs no command", function()
    local d = other_user.own(segue.folder { policy = fill [[check = { "true", user = "games" }]],
      files = { ["a.yaml"] = "x: 1\n", ["reload_spec.lua"] = [[
local testing = require "segue.testing"
describe("the policy", function()
  it("renders", function()
    local t = testing.policy "reload.lua"
    t:on_command("true", true)
    assert.equal("applied", t:start().outcome)
  end)
end)
]] } })
    local command = { d.options.binary or segue.binary, "test", "--lua-dir", segue.tree .. "/lua",
      "-c", d.dir:at "reload.lua", cwd = d.dir.path }
    if d.options.binary then command[4] = d.dir:at "lua" end
    for i, word in ipairs(d.options.under or {}) do table.insert(command, i, word) end
    local result = process.run(command)
    assert.equal(0, result.code, result:describe())
  end)
end)

describe("the JSON Schema of the options, for editors", function()
  after_each(segue.cleanup)

  it("has the list, the text and the table of a command, and names a mistake in each", function()
    local d = segue.folder { policy = fill "" }
    d.dir:write("schema.json", segue.cli({ "help", "options", "--json" }).stdout)
    local function check(module)
      d.dir:write("policy.json", ([[{ "sources": [{ "kind": "file", "path": "a" }], "modules": {
        "web": { "kind": "files", "files": [{ "to": "a", "template": "t" }], %s } } }]])
        :format(module))
      return segue.cli({ "check", "--schema", d.dir:at "schema.json", d.dir:at "policy.json" })
    end
    for _, good in ipairs { '"check": ["nginx", "-t"]', '"check": "nginx -t"',
      '"check": { "argv": ["nginx"], "user": "www", "env": { "A": "b", "C": false } }',
      '"apply": ["a", "b"], "undo": ["c"], "retry": { "times": 2 }', '"apply": "x", "retry": true',
      '"removed": "restore", "drift": "adopt"' } do
      local result = check(good)
      assert.equal(0, result.code, good .. result:describe())
    end
    for bad, place in pairs { ['"check": ["nginx", 1]'] = "check%[1%]",
      ['"check": [["nginx"]]'] = "check%[0%]", ['"chekc": ["a"]'] = 'did you mean "check"',
      ['"apply": { "argv": [] , "uesr": "x" }'] = "apply" } do
      local result = check(bad)
      assert.equal(3, result.code, bad .. result:describe())
      assert.matches(place, result.output, 1)
    end
  end)
end)
