-- SPDX-License-Identifier: MIT
-- segue.h in different hosts: in hosts of other versions, whose structs are shorter or longer than
-- the library's, and in hosts with macros of their own. `make lint` compiles header.c as C++ too.
local plugin = require "spec.support.plugin"
local process = require "spec.support.process"
local tempdir = require "spec.support.tempdir"

describe("the public header", function()
  local dir
  before_each(function() dir = tempdir.new() end)
  after_each(function()
    process.stop_all()
    tempdir.remove_all()
  end)

  local steps = {
    "init: nothing written behind it", "prepare generation=1", "start: ok applied", "stop" }

  local function run(flags)
    local program = dir:at("host")
    plugin.host(program, "spec/embed/sizes.c", "-I" .. dir.path .. " " .. (flags or ""))
    local p = process.run { program, dir:write("config.yaml", "a: 1\n") }
    assert.equal(0, p.code, p:describe())
    return p.stdout
  end

  it("may be older than the library: its structs are shorter", function()
    plugin.header(dir:at("segue.h"), "shorter")
    assert.equal(table.concat(steps, "\n") .. "\n", run())
  end)

  it("may be newer: structs that are longer are used as far as the library knows them", function()
    plugin.header(dir:at("segue.h"), "longer")
    assert.equal(table.concat(steps, "\n") .. "\n", run())
  end)

  it("may be newer: an option that is set and not known is a warning in the log", function()
    plugin.header(dir:at("segue.h"), "longer")
    assert.equal("init: nothing written behind it\nthe host sets options that this version of "
      .. "libsegue does not have: they are ignored\n" .. table.concat(steps, "\n", 2) .. "\n",
      run("-DLATER"))
  end)

  it("has examples in its comments that compile without a warning", function()
    local program = { "#include <errno.h>", "#include <segue.h>", "#include <stdio.h>",
      "#include <stdlib.h>" }
    for line in io.lines("core/segue.h") do
      local code = line:match("^ %*     (.*)")
      if code then program[#program + 1] = code end
    end
    program = table.concat(program, "\n") .. "\n"
    for _, name in ipairs { "main", "read_workers", "check_port", "ask_cache", "on_handle",
      "send_more" } do
      assert.truthy(program:find(name .. "(", 1, true), "no example " .. name)
    end
    local cc = process.run { "cc", "-std=c11", "-O2", "-Wall", "-Wextra", "-Werror",
      "-Wno-unused-function", "-Icore", "-c", "-o", "/dev/null", dir:write("examples.c", program) }
    assert.equal(0, cc.code, cc:describe())
  end)

  for _, std in ipairs { "c99", "c11" } do
    it("compiles as " .. std .. " beside macros of its host", function()
      local cc = process.run { "cc", "-std=" .. std, "-pedantic", "-Wall", "-Wextra", "-Werror",
        "-Icore", "-fsyntax-only", "spec/embed/header.c" }
      assert.equal(0, cc.code, cc:describe())
    end)
  end
end)
