-- SPDX-License-Identifier: MIT
-- The rules of `make lint` about the tree as a whole (spec/support/structure.lua) and about the
-- direction of includes (includes.lua), in trees that break them one by one.
local process = require "spec.support.process"
local tempdir = require "spec.support.tempdir"
local uv = require "luv"

local program = [[
local check = dofile(arg[1])
local function breach(where, format, ...) print(where .. ": " .. format:format(...)) end
for i = 2, #arg do check(arg[i], breach) end
check(nil, breach)
]]

local endpoints = [[
static const segue__endpoint endpoints[] = {
    {"GET", "/api/v1/status", READ, .parameters = {{"limit", 32}}, .handler = f},
};
]]

describe("the rules about the tree", function()
  local tree
  before_each(function()
    tree = tempdir.new()
    tree:write("core/os/README.md", "| `a`, `b`, `c`, `d` | |\n")
    tree:write("core/admin/README.md", "`endpoints.c`\n")
    tree:write("core/admin/endpoints.c", endpoints)
    tree:write("README.md", "\n| `GET /api/v1/status?limit=N` | JSON |\n")
    tree:write("core/dist/segue.1",
      "\n.Sh HTTP\n.It Li GET /api/v1/status\n.Cm limit .\n.El\n.Sh X\n")
  end)
  after_each(tempdir.remove_all)

  local function breaches(files)
    local command = { "luajit", tree:write("run.lua", program),
      uv.cwd() .. "/spec/support/structure.lua", cwd = tree.path }
    for path, text in pairs(files) do
      tree:write(path, text)
      command[#command + 1] = path
    end
    local p = process.run(command)
    assert.equal(0, p.code, p:describe())
    return p.stdout
  end

  it("accept a tree that obeys them", function()
    assert.equal("", breaches { ["core/os/a.c"] = '\n#include "b.h"\n', ["core/os/b.h"] = "" })
  end)

  it("reject a circle of more than three files", function()
    local files = {}
    for name, other in pairs { a = "b", b = "c", c = "d", d = "a" } do
      files["core/os/" .. name .. ".h"] = ('\n#include "%s.h"\n'):format(other)
    end
    assert.matches("4 files include one another", breaches(files), 1, true)
    files["core/os/d.h"] = ""
    assert.equal("", breaches(files))
  end)

  it("reject a file that no README names", function()
    assert.equal("core/os/e.c: its README does not name it\n", breaches { ["core/os/e.c"] = "" })
  end)

  it("reject names of functions that many files share", function()
    local text = "\nstatic int same(void) {\n}\n"
    assert.matches("2 of 2 functions share their name", breaches { ["core/os/a.c"] = text,
      ["core/os/b.c"] = text }, 1, true)
  end)

  it("reject names that differ by one underscore", function()
    assert.matches("segue__level and segue_level %(core/os/b.h%) differ by one underscore",
      breaches { ["core/os/a.h"] = "int segue__level;\n", ["core/os/b.h"] = "int segue_level;\n" })
  end)

  it("reject an endpoint or a parameter that the documents do not name", function()
    tree:write("README.md", "\n| `GET /api/v1/status`, `/gone` | JSON |\n")
    tree:write("core/dist/segue.1", "\n.Sh HTTP\n.Sh X\n")
    local found = breaches {}
    assert.matches("README.md: GET /api/v1/status: does not name the parameter limit", found, 1,
      true)
    assert.matches("README.md: GET /api/v1/gone is not in core/admin/endpoints.c", found, 1, true)
    assert.matches("segue.1: does not name the endpoint GET /api/v1/status", found, 1, true)
  end)

  it("reject a function that is too long, and a tree with few comments", function()
    local function text(lines) return "int f(void)\n{\n" .. ("  f();\n"):rep(lines) .. "}\n" end
    assert.equal("", breaches { ["core/os/a.c"] = text(57) })
    assert.equal("core/os/a.c:1: a function of 61 lines, at most 60 may be\n",
      breaches { ["core/os/a.c"] = text(58) })
    local few = ("/* f */\nint f;\n"):rep(99) .. ("int g;\n"):rep(802)
    assert.equal("core: 99 of 1000 lines are comments, at least one in ten has to be\n",
      breaches { ["core/os/a.h"] = few })
    assert.equal("", breaches { ["core/os/a.h"] = "/* f\n */\n" .. few })
  end)
end)

describe("the rule about includes", function()
  local check = dofile "spec/support/includes.lua"
  local function breach_of(path, include)
    local found = {}
    check(path, 7, "#include " .. include, function(where, format, ...)
      found[#found + 1] = where .. ": " .. format:format(...)
    end)
    return table.concat(found, "\n")
  end

  it("accepts the parts below, the public header and the own part", function()
    assert.equal("", breach_of("core/record/history.c", '"../os/mem.h"'))
    assert.equal("", breach_of("core/record/history.c", '"history_internal.h"'))
    assert.equal("", breach_of("core/record/history.h", '"../segue.h"'))
    assert.equal("", breach_of("core/bind/runtime/state.c", "<lua.h>"))
  end)

  it("rejects the parts above, between the folders of core/bind too", function()
    assert.equal("core/os/mem.c:7: core/os may not include core/record",
      breach_of("core/os/mem.c", '"../record/history.h"'))
    assert.equal("core/bind/runtime/state.c:7: core/bind/runtime may not include core/bind/policy",
      breach_of("core/bind/runtime/state.c", '"../policy/policy.h"'))
  end)

  it("rejects Lua outside of core/bind, and a file that does not exist", function()
    assert.equal("core/os/mem.c:7: lua.h: only core/bind and plugins may know Lua",
      breach_of("core/os/mem.c", "<lua.h>"))
    assert.equal('core/os/mem.c:7: "gone.h" does not exist; write the path relative to the file',
      breach_of("core/os/mem.c", '"gone.h"'))
  end)
end)
