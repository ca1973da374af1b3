-- SPDX-License-Identifier: MIT
-- Plugins of several files, in C and in Lua: `make install` and `make deb` in a tree that has them,
-- and a daemon that is started from the installed tree and uses each.
local process = require "spec.support.process"
local segue = require "spec.support.segue"
local tempdir = require "spec.support.tempdir"
local uv = require "luv"

local dir, root, package

local run = process.output

-- A tree whose files are links to those of this one, with more plugins. Objects that are built
-- already are copied: only the plugins are compiled, and the programs linked.
local function tree_with(files)
  local top, out = os.getenv "SEGUE_SPEC_TOP", os.getenv "SEGUE_BUILD"
  local tree = dir:at "tree"
  local build = dir:at("tree/build" .. out:sub(#top + 1))
  run { "mkdir", "-p", build }
  for _, name in ipairs { "Makefile", "README.md", "CHANGELOG.md", "LICENSE", "core", "spec",
    "examples" } do
    assert(uv.fs_symlink(uv.cwd() .. "/" .. name, tree .. "/" .. name))
  end
  run { "cp", "-a", "plugins", "lua", tree }
  run { "cp", "-a", out .. "/obj", out .. "/plugins", out .. "/flags", out .. "/sources", build }
  for path, text in pairs(files) do
    run { "mkdir", "-p", tree .. "/plugins/" .. path:match "^[^/]+" }
    dir:write("tree/plugins/" .. path, text)
  end
  return tree
end

local function read(path)
  local file = assert(io.open(path))
  local text = file:read "*a"
  file:close()
  return text
end

describe("plugins of several files that are installed", function()
  setup(function()
    dir = tempdir.new()
    local tree = tree_with {
      ["kvc/kv.c"] = read "spec/plugin/kv_source.c",
      ["kvc/format.lua"] = "return { path = function(folder) return folder .. '/data' end }",
      ["zones/init.lua"] = [[
        local parse = require "segue.plugin.zones.parse"
        return { options = { zone = "text" },
          fetch = function(self) return parse(self.options.zone), "1" end }]],
      ["zones/parse.lua"] = "return function(zone) return { zone = zone } end",
      ["tools/init.lua"] = [[
        local more = require "segue.plugin.tools.more"
        return { twice = function(n) return more.times(n, 2) end }]],
      ["tools/more.lua"] = "return { times = function(a, b) return a * b end }",
    }
    local made = run { "make", "--no-print-directory", "deb", "BUILD=build",
      "SAN=" .. os.getenv "SEGUE_SPEC_SAN", cwd = tree, deadline_ms = 300000 }
    package = tree .. "/" .. assert(made:match "deb +(%S+%.deb)\n", made)
    root = package:match "^(.*)/[^/]+$" .. "/deb/root/usr"
  end)
  teardown(function()
    segue.cleanup()
    tempdir.remove_all()
  end)
  after_each(process.stop_all)

  it("are in the tree of make install and in the Debian package, each file of them", function()
    local listing = run { "dpkg-deb", "-c", package }
    for _, path in ipairs { "lib/segue/plugins/kvc.so", "lib/segue/plugins/log.so",
      "share/segue/plugins/kvc/format.lua", "share/segue/plugins/zones/init.lua",
      "share/segue/plugins/zones/parse.lua", "share/segue/plugins/tools/init.lua",
      "share/segue/plugins/tools/more.lua" } do
      assert.truthy(uv.fs_stat(root .. "/" .. path), path)
      assert.truthy(listing:find("./usr/" .. path .. "\n", 1, true), listing)
    end
    assert.falsy(uv.fs_stat(root .. "/lib/segue/plugins/zones.so"))
  end)

  it("are found by the installed daemon: a source in C, one in Lua, a module in Lua", function()
    local work = tempdir.new()
    work:write("data", "port 80\n")
    local d = segue.start { dir = work, binary = root .. "/bin/segue", policy = ([[
local segue = require "segue"
local tools = require "segue.plugin.tools"
local format = require "segue.plugin.kvc.format"
return { triggers = { segue.signal "HUP" }, sources = {
  segue.value { number = tools.twice(21) },
  segue.source { name = "zones", plugin = "zones", options = { zone = "b" } },
  segue.source { name = "kv", plugin = "kvc",
    options = { path = format.path "%s", outcomes = "%s" } } } }
]]):format(work.path, work:at "outcomes") }
    local config = d:config()
    assert.equal(42, config.number)
    assert.equal("b", config.zone)
    assert.equal(80, config.port)
    d:stop()
  end)
end)
