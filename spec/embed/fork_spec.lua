-- SPDX-License-Identifier: MIT
-- A host that forks while an instance runs, see fork.c: children that live on hold neither the
-- state folder nor a listener, and none of their calls reaches the parent.
local plugin = require "spec.support.plugin"
local port = require "spec.support.port"
local process = require "spec.support.process"
local tempdir = require "spec.support.tempdir"

describe("a child that a host forks off", function()
  local dir
  before_each(function()
    dir = tempdir.new()
    local flags = process.run { "pkg-config", "--cflags", "--libs", "libuv", "luajit" }
    assert(flags.code == 0, flags:describe())
    plugin.host(dir:at("fork"), "spec/embed/fork.c",
      "-Wl,--no-as-needed " .. flags.stdout:gsub("\n", " "), plugin.spec_library)
    dir:write("config.yaml", "a: 1\n")
  end)
  after_each(function()
    process.stop_all()
    tempdir.remove_all()
  end)

  local closed = {}
  for _, name in ipairs { "start", "run", "reload", "register", "log", "count", "gauge", "observe",
      "enter", "submit" } do
    closed[#closed + 1] = "child: " .. name .. " SEGUE_ECLOSED"
  end
  local transcript = "start: applied\n" .. table.concat(closed, "\n") .. [[

child: cancel 0
child: enabled 0
child: gate none
child: snapshot none
child: reader none
child: closed, %d descriptors more
parent: socket there
reload: applied
start: applied
child 0: lived on
child 1: lived on
]]

  it("can use nothing of the instance, closes it, and does not disturb the parent", function()
    local p = process.run { dir:at("fork"), dir.path, "own", deadline_ms = 60000 }
    assert(p.code == 0, p:describe())
    assert.equal(transcript:format(0), p.stdout)
  end)

  it("does so on the loop of its host as well", function()
    local p = process.run { dir:at("fork"), dir.path, "host", deadline_ms = 60000 }
    assert(p.code == 0, p:describe())
    local more = tonumber(p.stdout:match("closed, (%-?%d+) descriptors more"))
    assert.equal(transcript:format(more), p.stdout)
    assert.is_true(more <= 1, p.stdout) -- the inotify of the watch, in the host's loop
  end)

  local function listening()
    local at = port.free()
    dir:write("reload.lua", ([[
local segue = require "segue"
return { sources = { segue.file "config.yaml" }, triggers = {}, threads = 2,
  modules = { module = { kind = "c", plugin = "module", listen = "http://127.0.0.1:%d" } } }
]]):format(at))
    return at
  end

  it("has no HTTP listeners of modules, so that their port is free after the parent's end",
    function()
      local at = listening()
      local p = process.run { dir:at("fork"), dir.path, tostring(at), deadline_ms = 60000 }
      assert(p.code == 0, p:describe())
      local expected = transcript:format(0):gsub("reload: applied\n",
        "reload: applied\nlistener: gone\n")
      assert.equal(expected, p.stdout)
    end)

  it("has nothing that a crash of its parent releases: folder, listeners, clients", function()
    local p = process.run { dir:at("fork"), dir.path, tostring(listening()), "crash",
      deadline_ms = 60000 }
    assert(p.code == 0, p:describe())
    assert.equal("start: applied\nclient: cut\nlistener: gone\nstart: applied\n", p.stdout)
  end)
end)
