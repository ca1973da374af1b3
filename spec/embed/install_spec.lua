-- SPDX-License-Identifier: MIT
-- `make install` into a folder of its own, and what a stranger does with the result: run the
-- program, build a host against the library through pkg-config.
local process = require "spec.support.process"
local tempdir = require "spec.support.tempdir"
local uv = require "luv"

local dir, root

local function run(options)
  local p = process.run(options)
  assert(p.code == 0, p:describe())
  return p.stdout
end

local function make(target)
  return run { "make", "--no-print-directory", target, "DESTDIR=" .. dir.path,
    "BUILD=" .. os.getenv("SEGUE_SPEC_TOP"), "SAN=" .. os.getenv("SEGUE_SPEC_SAN"),
    deadline_ms = 120000 }
end

local function pkg_config(...)
  return run { env = { PKG_CONFIG_PATH = root .. "/lib/pkgconfig" }, "pkg-config",
    "--define-prefix", ... }
end

local function words(...)
  local list = {}
  for i = 1, select("#", ...) do
    for word in select(i, ...):gmatch("%S+") do list[#list + 1] = word end
  end
  return list
end

-- The transcript of the host program in host.c.
local transcript = [[
module: prepare port=8080
module: start port=8080
start: ok applied generation=1 port=8080
module: prepare port=9090 after another
module: start port=9090
change: ok applied generation=2 port=9090
damage: SEGUE_ESYNTAX rejected generation=2 port=9090
]]

local function check_host(program)
  local config = dir:write("config.yaml", "port: 8080\n")
  local p = process.run { program, config, env = { LD_LIBRARY_PATH = root .. "/lib" } }
  assert(p.code == 0, p:describe())
  local lines, module_stops = {}, {}
  for line in p.stdout:gmatch("[^\n]*\n") do
    if line:match("^module: stop") then module_stops[#module_stops + 1] = line
    elseif line:match("^  ") then assert.truthy(line:find("config.yaml:", 1, true))
    elseif line ~= "stopped\n" then lines[#lines + 1] = line end
  end
  assert.equal(transcript, table.concat(lines))
  table.sort(module_stops)
  assert.same({ "module: stop port=8080\n", "module: stop port=9090\n" }, module_stops)
  assert.equal("stopped\n", p.stdout:match("([^\n]*\n)$"))
end

describe("an installation", function()
  setup(function()
    dir = tempdir.new()
    root = dir:at("usr/local")
    make "install"
  end)
  teardown(function()
    process.stop_all()
    tempdir.remove_all()
  end)

  it("has a program that finds its Lua half", function()
    local work = tempdir.new()
    run { root .. "/bin/segue", "init", cwd = work.path }
    run { root .. "/bin/segue", "check", cwd = work.path }
  end)

  it("prints its version, everywhere the same", function()
    local version = pkg_config("--modversion", "segue"):match("%S+")
    assert.truthy(run({ root .. "/bin/segue", "version" }):find(version, 1, true))
    assert.truthy(uv.fs_stat(root .. "/lib/libsegue.so." .. version))
  end)

  it("exports nothing but the public names", function()
    local public = { ["segue__section_begin"] = true, ["segue__section_end"] = true,
      ["segue__thread_reader"] = true } -- what the header's inline functions call
    local symbols = run { "nm", "-D", "--defined-only", root .. "/lib/libsegue.so" }
    local count = 0
    for name in symbols:gmatch("%x+ %u ([%w_]+)\n") do
      count = count + 1
      assert(name:match("^segue_[^_]") or public[name], name .. " is exported")
    end
    assert.is_true(count > 20)
  end)

  it("builds a host with the shared library", function()
    local program = dir:at("host-shared")
    run(words("cc -std=c11 -Wall -Wextra -Werror", os.getenv("SEGUE_SPEC_CFLAGS"), "-o", program,
      "spec/embed/host.c", pkg_config("--cflags", "--libs", "segue"), "-pthread"))
    check_host(program)
  end)

  it("builds a host with the static library", function()
    local program = dir:at("host-static")
    local libs = pkg_config("--static", "--libs", "segue"):gsub("%-lsegue%f[%s]",
      root .. "/lib/libsegue.a")
    run(words("cc -std=c11 -Wall -Wextra -Werror", os.getenv("SEGUE_SPEC_CFLAGS"), "-o", program,
      "spec/embed/host.c", pkg_config("--cflags", "segue"), libs))
    check_host(program)
  end)

  it("is removed without a trace", function()
    make "uninstall"
    local left = run { "find", root, "-type", "f", "-o", "-type", "l" }
    assert.equal("", left)
  end)
end)
