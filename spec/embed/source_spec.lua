-- SPDX-License-Identifier: MIT
-- A host that registers a source in C, see source.c: descriptors that are wrong, pushes from
-- threads of the host, a watch that continues after its end, a history that is gone.
local plugin = require "spec.support.plugin"
local process = require "spec.support.process"
local tempdir = require "spec.support.tempdir"

describe("a source of a host", function()
  local dir, program
  setup(function()
    dir = tempdir.new()
    program = dir:at("source")
    local flags = process.run { "pkg-config", "--cflags", "--libs", "libuv", "luajit" }
    assert(flags.code == 0, flags:describe())
    plugin.host(program, "spec/embed/source.c",
      "-Wl,--no-as-needed " .. flags.stdout:gsub("\n", " "), plugin.spec_library)
  end)
  teardown(tempdir.remove_all)
  after_each(process.stop_all)

  local function policy(sources)
    return ([[
local segue = require "segue"
return { sources = { %s }, triggers = {} }
]]):format(sources)
  end

  local function run(case, env)
    local path = dir:write("reload.lua", policy 'segue.source { name = "s", plugin = "store" }')
    local next_path = dir:write("next.lua", policy 'segue.value { a = 1 }')
    local p = process.run { program, case, path, next_path, env = env, deadline_ms = 60000 }
    assert(p.code == 0 and p.signal == 0, p:describe())
    return p.stdout
  end

  it("is rejected with a reason where its descriptor is wrong, taken or late", function()
    local version = "was built for version 2 of the source interface, this is version 1: build it "
      .. "again with the segue.h of segue "
    local out = run "register"
    local function refused(title, name, reason)
      local text = ("name: %s\nerror: %s"):format(name, reason)
      local at = out:find("\n" .. title .. ": SEGUE_EUSAGE\n", 1, true)
      assert(at, title .. ": " .. out)
      local before = out:sub(1, at)
      assert(before:find(text, 1, true), title .. ": " .. before)
      out = out:sub(at + 1):gsub("^[^\n]*\n", "", 1)
    end
    refused("no descriptor", "", "there is no descriptor\n")
    refused("magic", "", "has a segue_source_descriptor that does not begin with "
      .. "SEGUE_SOURCE_MAGIC: it is something else, or was not initialised\n")
    refused("abi", "", version)
    refused("small", "", "has a descriptor of 8 bytes, which no version of segue.h defines: set "
      .. "its size to sizeof(segue_source_descriptor), and build it again\n")
    refused("large", "", "has a descriptor of 1099511627776 bytes, which no version")
    refused("no name", "", "has no name in the descriptor of its source: set it\n")
    refused("slash", "a/b", "its name has a slash: that is the path of a plugin's file\n")
    refused("empty name", "", "has no name in the descriptor of its source: set it\n")
    refused("no ops", "", "has no ops in the descriptor of its source: set them\n")
    refused("small ops", "", "has a source with ops of a size that no version of segue.h defines: "
      .. "set it to sizeof(segue_source_ops), and build it again\n")
    refused("no fetch", "", "has a source without the operation fetch: set it\n")
    assert.truthy(out:find("good: OK\n", 1, true), out)
    refused("taken", "store", "another source has this name\n")
    refused("late", "store", "segue_start was called before\n")
  end)

  it("pushes changes from four threads, of which none is lost or fetched", function()
    assert.equal(table.concat({ "good: OK", "start: applied", "outcome: applied",
      "values: those of the store", "fetches: few", "close: OK", "stopped: OK", "run: OK", "" },
      "\n"), run "push")
  end)

  it("whose history is gone is watched and fetched again, from nothing", function()
    local out = run "gone"
    assert.matches("^good: OK\nfetch: everything\n", out)
    assert.matches("\nwatch: a revision\n", out)
    local after = out:match("\ngone: the history was compacted\n(.*)")
    assert(after, out)
    local watched = after:find("watch: everything\n", 1, true)
    local fetched = after:find("fetch: everything\n", 1, true)
    assert.is_true(watched ~= nil and fetched ~= nil and watched < fetched, out)
    assert.truthy(after:find("values: those of the store\n", 1, true), out)
    assert.truthy(after:find("close: OK\nstopped: OK\nrun: OK\n", 1, true), out)
  end)

  it("that no policy names any more has its pushes refused, and is closed when it ended", function()
    assert.equal(table.concat({ "good: OK", "start: applied", "late: 100 pushes were refused",
      "close: OK", "stopped: OK", "run: OK", "" }, "\n"), run "late")
  end)

  it("that does not end is abandoned when the instance stops, and may report later", function()
    -- The memory that an abandoned operation may still use is never freed.
    assert.equal(table.concat({ "good: OK", "start: applied", "stopped: OK", "run: OK",
      "emit: SEGUE_ECANCELLED", "" }, "\n"), run("deaf", { SEGUE_TEST_SOURCES_MS = "200",
      ASAN_OPTIONS = (os.getenv "ASAN_OPTIONS" or "") .. ":detect_leaks=0" }))
  end)
end)
