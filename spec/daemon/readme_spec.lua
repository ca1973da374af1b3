-- SPDX-License-Identifier: MIT
-- The README is true: its walk through the quickstart is run, command by command, and the output is
-- compared. Times differ from run to run, and the port is a free one.
local process = require "spec.support.process"
local segue = require "spec.support.segue"
local tempdir = require "spec.support.tempdir"
local wait = require "spec.support.wait"
local uv = require "luv"

local read = require("spec.support.file").read

-- Commands after "$ ", each with the lines that follow it.
local function walk(text)
  local steps = {}
  for line in text:match("\n```console\n(.-)\n```\n"):gmatch("[^\n]+") do
    local command = line:match("^%$ (.+)$")
    if command then
      steps[#steps + 1] = { command = command, output = "" }
    else
      steps[#steps].output = steps[#steps].output .. line .. "\n"
    end
  end
  return steps
end

local function plain(text)
  return (text:gsub("%(reload %d+, [%d.]+ %a+%)", "(reload)"))
end

describe("the README", function()
  local readme = read "README.md"
  after_each(segue.cleanup)

  local function quickstart()
    local tree = tempdir.new()
    local port = require("spec.support.port").free()
    local function fill(text) return (text:gsub("7377", tostring(port))) end
    for _, name in ipairs { "reload.lua", "config.yaml" } do
      tree:write("build/quickstart/" .. name, fill(read("examples/quickstart/" .. name)))
    end
    tree:link(segue.binary, "build/segue")
    local command = { tree:at "build/segue", "run", cwd = tree:at "build/quickstart" }
    for i, word in ipairs(segue.under) do table.insert(command, i, word) end
    local daemon = process.start(command)
    daemon:wait_output "generation 1 is live"
    return tree, fill, daemon
  end

  it("has a quickstart that works as described", function()
    local tree, fill, daemon = quickstart()
    local steps = walk(readme)
    assert.is_true(#steps > 8)
    for _, step in ipairs(steps) do
      local from = #daemon.output
      local run = process.run { "sh", "-c", fill(step.command), cwd = tree.path }
      assert.equal(0, run.code, step.command .. ": " .. run.output)
      assert.equal(plain(step.output), plain(run.stdout), step.command)
      if step.command:match("^kill %-HUP") then
        daemon:wait_output("cause=\"?[^\n]*SIGHUP", nil, from)
      end
    end
    local code = daemon:stop()
    assert.equal(0, code, daemon:describe())
  end)

  it("runs in the folder in which `make run` runs, a copy", function()
    local make = process.run { "make", "-n", "run", cwd = uv.cwd() }
    assert.matches("cp %-Rn examples/quickstart/%* build/quickstart && +cd build/quickstart && "
      .. "exec %S*build/segue run", (make.stdout:gsub("\\\n", "")))
  end)

  it("has a command for every example", function()
    local seen, makefile = 0, read "Makefile"
    for name in process.run({ "ls", "examples", cwd = uv.cwd() }).stdout:gmatch "[^\n]+" do
      if name ~= "README.md" then
        seen = seen + 1
        assert.truthy(read "examples/README.md":find("`" .. name .. "/`", 1, true), name)
        local files = process.run({ "ls", "examples/" .. name, cwd = uv.cwd() }).stdout
        local runs = makefile:find("\nRUN_" .. name .. " = ", 1, true) ~= nil
        assert.is_true(runs or files:find("_spec.lua", 1, true) ~= nil, name)
      end
    end
    assert.is_true(seen > 8)
  end)

  it("starts a new folder with segue init", function()
    local command = readme:match("`build/segue (init [%w-]+)`")
    local dir = tempdir.new()
    assert.equal("init my-folder", command)
    assert.equal(0, segue.cli({ "init", "my-folder" }, { cwd = dir.path }).code)
    assert.equal(0, segue.cli({ "check", "-c", "my-folder/reload.lua" }, { cwd = dir.path }).code)
  end)

  it("shows a valid policy", function()
    local d = segue.folder { policy = readme:match("\n```lua\n(.-)\n```\n"),
      files = { ["config.yaml"] = "listen: x\n" } }
    assert.equal(0, d:cli("check").code)
  end)

  it("names every command, endpoint and exit code that there is", function()
    local help = segue.cli({ "help" }).stdout
    for command in help:gmatch("\n  (%l+) ") do
      assert.is_truthy(readme:find(command, 1, true), command)
    end
    local d = segue.start { policy = "local segue = require 'segue'\nreturn { "
      .. "sources = { segue.value {} }, triggers = { segue.http '127.0.0.1:@PORT@' } }\n" }
    for path in d:http("/").body:gmatch("/%S+") do
      local short = path:gsub("^/api/v1", "")
      assert.is_truthy(readme:find(short, 1, true), path)
    end
    wait.pump()
  end)
end)
